/**
 * The process that runs cases for main.ts. Its arguments are numbers: the seed, the first case, how many there are, and after how many it
 * reports to its parent.
 */
import { Campaign } from './campaign.ts';
import type { Report } from './main.ts';

const [seed, first, cases, batch] = process.argv.slice(2).map(Number) as [number, number, number, number];
const send = (report: Report): void => {
  process.send?.(report);
};
const campaign = new Campaign(seed);
for (let at = first; at < first + cases; at += batch) {
  send({ next: at });
  campaign.run(at, Math.min(batch, first + cases - at));
}
send({ summary: campaign.summary });
