/** Inside a worker thread: computes the blocks it is asked for, one after the other. The other end is workers.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import type { CampaignRunner, openCampaign } from './block.ts';
import { campaignId } from './canonical.ts';
import { plainResult } from './tally.ts';
import { type BlockAnswer, type BlockOrder, DONE, type ThreadData } from './workers.ts';

const { module, shared } = workerData as ThreadData;
const opener: Promise<{ openCampaign: typeof openCampaign }> = import(module);
// Told with the first block, not as the thread's death.
opener.catch(() => {});
let open: { readonly id: string; readonly runner: CampaignRunner } | undefined;

/** The runner of a campaign; the last one is kept, since its VMs are set up. */
async function runnerOf({ campaign }: BlockOrder): Promise<CampaignRunner> {
  const id = campaignId(campaign);
  if (open?.id !== id) {
    open?.runner.dispose();
    open = undefined;
    open = { id, runner: await (await opener).openCampaign(campaign) };
  }
  return open.runner;
}

async function answer(order: BlockOrder): Promise<BlockAnswer> {
  try {
    const runner = await runnerOf(order);
    const result = await runner.runBlock(order.block, {
      onProgress: (cases) => void Atomics.store(shared, DONE, cases),
    });
    return { result: result && plainResult(result) };
  } catch (error) {
    const { name, message, code, stack } = error as Error & { code?: string };
    return { error: { name, message, code, stack } };
  }
}

parentPort?.on('message', async (order: BlockOrder) => {
  parentPort?.postMessage(await answer(order));
});
