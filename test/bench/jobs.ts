/** A process that fuzzes with one worker thread, then with two, and prints how many times as many cases that makes, by the clock on the wall. */
import { type CampaignProgress, runCampaign } from '../../src/index.ts';
import { icrCampaign } from './alone.ts';

/** Blocks of each thread, and how many of them warm it up. */
const BLOCKS = 40;
const WARM = 8;

/** Cases a second of warm threads. */
async function rate(jobs: number): Promise<number> {
  const seen: CampaignProgress[] = [];
  await runCampaign(icrCampaign(true), { jobs, blocks: jobs * BLOCKS, onProgress: (progress) => seen.push(progress) });
  const warm = seen.filter(({ blocks }) => blocks >= jobs * WARM);
  const [first, last] = [warm[0], warm[warm.length - 1]];
  return (last.casesNow - first.casesNow) / (last.seconds - first.seconds);
}

const one = await rate(1);
console.log(JSON.stringify((await rate(2)) / one));
process.exit();
