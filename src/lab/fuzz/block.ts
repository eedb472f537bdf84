/**
 * A campaign as numbered blocks. The result of a block is a function of the campaign and the block's number and of nothing else, so that
 * threads, machines, shards, resumption and merging only decide who computes which block.
 */
import { KvmscopeError } from '../../errors.ts';
import type { BlockResult, Campaign } from './types.ts';

export interface RunBlockOptions {
  /** Asked now and then; an aborted block yields nothing. An AbortSignal, or anything a worker thread can look at. */
  readonly signal?: { readonly aborted: boolean };
  /** Called now and then with the number of cases of this block that are done. */
  readonly onProgress?: (cases: number) => void;
}

/** A campaign whose VMs are set up. */
export interface CampaignRunner {
  readonly campaign: Campaign;
  /** Undefined: aborted, and nothing of it counts. One block at a time. */
  runBlock(block: number, options?: RunBlockOptions): Promise<BlockResult | undefined>;
  dispose(): void;
}

/** Sets up what a campaign needs. Throws KvmscopeError('usage') for one that makes no sense. */
export async function openCampaign(campaign: Campaign): Promise<CampaignRunner> {
  throw new KvmscopeError('usage', `no fuzzing of kind ${campaign.kind} yet`);
}
