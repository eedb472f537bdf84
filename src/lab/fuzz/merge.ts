/** Campaign directories into one. */
import { KvmscopeError } from '../../errors.ts';
import { campaignId } from './canonical.ts';
import { type CampaignContents, CampaignDirectory, readCampaignDirectory } from './directory.ts';
import { caseCount, emptyTally, join } from './tally.ts';

/**
 * Joins what campaign directories hold into the directory `out`, which may exist and is joined, too. The order of `dirs` and repetitions
 * do not matter. Throws KvmscopeError if they belong to different campaigns; nothing is written then.
 */
export function mergeCampaigns(dirs: readonly string[], out: string): CampaignContents & { readonly cases: number } {
  if (dirs.length === 0) throw new KvmscopeError('usage', 'nothing to merge');
  const contents = dirs.map((dir) => ({ dir, ...readCampaignDirectory(dir) }));
  const [first, ...others] = contents;
  const id = campaignId(first.campaign);
  const foreign = others.find(({ campaign }) => campaignId(campaign) !== id);
  if (foreign) throw new KvmscopeError('campaign', `${first.dir} and ${foreign.dir} belong to different campaigns`);
  const tally = emptyTally();
  for (const content of contents) join(tally, content.tally);
  const directory = CampaignDirectory.open(out, first.campaign);
  try {
    directory.join(tally);
    return { campaign: directory.campaign, tally: directory.tally, cases: caseCount(directory.tally) };
  } finally {
    directory.close();
  }
}
