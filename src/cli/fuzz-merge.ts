/** `kvmscope fuzz merge`: campaign directories into one. */
import { DECISIONS, mergeCampaigns } from '../index.ts';
import { document } from '../trace/json.ts';
import { plural } from '../trace/text.ts';
import { campaignJson } from './fuzz-campaign.ts';
import { EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface MergeFlags {
  readonly out: string;
  readonly json?: boolean;
}

export async function mergeCommand(dirs: readonly string[], flags: MergeFlags, output: Output): Promise<number> {
  const merged = mergeCampaigns(dirs, flags.out);
  const { cases, tally } = merged;
  if (flags.json) output.out(document('fuzz merge', true, { ...campaignJson(merged), dir: flags.out }));
  else {
    writeLines(output, [
      `${flags.out}: ${cases.toLocaleString('en-US')} cases in ${tally.blocks.size} blocks, ${tally.coverage.size} of ${DECISIONS.length} decision points, ${plural(tally.finds.size, 'find')}`,
    ]);
  }
  return EXIT_OK;
}
