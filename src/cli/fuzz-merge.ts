/** `kvmscope fuzz merge`: campaign directories into one. */
import { DECISIONS, mergeCampaigns, numberedFinds } from '../index.ts';
import { document } from '../trace/json.ts';
import { EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface MergeFlags {
  readonly out: string;
  readonly json?: boolean;
}

export async function mergeCommand(dirs: readonly string[], flags: MergeFlags, output: Output): Promise<number> {
  const { campaign, tally, cases } = mergeCampaigns(dirs, flags.out);
  const finds = numberedFinds(tally);
  if (flags.json)
    output.out(document('fuzz merge', true, { campaign, cases, blocks: tally.blocks.size, finds, dir: flags.out }));
  else {
    writeLines(output, [
      `${flags.out}: ${cases.toLocaleString('en-US')} cases in ${tally.blocks.size} blocks, ${tally.coverage.size} of ${DECISIONS.length} decision points, ${finds.length} finds`,
    ]);
  }
  return EXIT_OK;
}
