/** What runs cases and interleavings, loaded with the first call: most users of the library have neither. */
import type { openCampaign as Open } from './block.ts';
import type { queueCampaign as Queue, workQueue as Work } from './queue.ts';
import type { exploreRaces as Explore } from './race/race.ts';

export const openCampaign: typeof Open = async (...given) => (await import('./block.ts')).openCampaign(...given);

export const exploreRaces: typeof Explore = async (...given) => (await import('./race/race.ts')).exploreRaces(...given);

export const queueCampaign: typeof Queue = async (...given) => (await import('./queue.ts')).queueCampaign(...given);

export const workQueue: typeof Work = async (...given) => (await import('./queue.ts')).workQueue(...given);
