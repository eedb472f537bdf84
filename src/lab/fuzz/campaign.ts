/** Runs a campaign, or a shard of it, on the cores of this machine. */
import { availableParallelism } from 'node:os';
import { KvmscopeError } from '../../errors.ts';
import { canonical } from './canonical.ts';
import { CampaignDirectory } from './directory.ts';
import { type Addition, addBlock, caseCount, emptyTally, numberedFinds, plainResult, type Tally } from './tally.ts';
import type { BlockResult, Campaign, Find } from './types.ts';
import { type PoolOptions, WorkerPool } from './workers.ts';

/** The blocks whose number leaves the rest `index` when divided by `count`. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Reads `i/n`, 0 <= i < n. */
export function parseShard(text: string): Shard {
  const [, index, count] = /^(\d{1,9})\/(\d{1,9})$/.exec(text)?.map(Number) ?? [];
  if (index === undefined || index >= count)
    throw new KvmscopeError('usage', `--shard: '${text}' is not i/n with i from 0 to n-1, e.g. 0/8`);
  return { index, count };
}

/** Numbers of the first `blocks` blocks that belong to the shard and are not in `done`, ascending. */
export function* openBlocks(blocks: number, done: ReadonlyMap<number, unknown>, shard?: Shard): Generator<number> {
  const { index, count } = shard ?? { index: 0, count: 1 };
  for (let block = index; block < blocks; block += count) if (!done.has(block)) yield block;
}

export interface CampaignProgress {
  /** Finished blocks and their cases, and the cases of blocks in progress, over all runs of this campaign. */
  readonly blocks: number;
  readonly cases: number;
  /** Cases since this run began: divide them by `seconds` for a rate. */
  readonly casesNow: number;
  readonly seconds: number;
  /** Decision points that were reached. */
  readonly coverage: number;
  readonly finds: number;
}

export interface RunCampaignOptions extends PoolOptions {
  /** How many blocks the campaign has; default: no end. */
  readonly blocks?: number;
  readonly shard?: Shard;
  /** Seconds after which no further block is begun; default: no limit. */
  readonly time?: number;
  /** Where results are kept; without it only in memory. What is there already is not computed again. */
  readonly dir?: string;
  /** Worker threads; default one per core. */
  readonly jobs?: number;
  /** Aborted: no further block is begun, those in progress are finished. */
  readonly signal?: AbortSignal;
  /** Aborted: blocks in progress are dropped, too. */
  readonly abort?: AbortSignal;
  /** Called when a block is finished and every `progressMs` milliseconds (default 250). */
  readonly onProgress?: (progress: CampaignProgress) => void;
  readonly progressMs?: number;
  /** Called for each find with a new signature or a shorter program. */
  readonly onFind?: (find: Find) => void;
}

export interface CampaignReport {
  readonly campaign: Campaign;
  /** Everything that is known of the campaign now, earlier runs in the same directory included. */
  readonly tally: Tally;
  readonly finds: readonly Find[];
  readonly cases: number;
  /** Cases and seconds of this run alone. */
  readonly casesNow: number;
  readonly seconds: number;
  /** Why it ended. */
  readonly end: 'done' | 'time' | 'stopped';
}

/** Where the results of a run go: a directory, or memory. */
interface Sink {
  readonly tally: Tally;
  add(result: BlockResult): Addition;
  close(): void;
}

function memory(): Sink {
  const tally = emptyTally();
  return { tally, add: (result) => addBlock(tally, plainResult(result)), close: () => {} };
}

/** Threads beyond this are a slip of the keyboard. */
const MAX_JOBS = 1024;

/** Throws KvmscopeError('usage') for numbers that make no sense. */
export function checkOptions({
  blocks = 0,
  time = 0,
  jobs = 1,
}: Pick<RunCampaignOptions, 'blocks' | 'time' | 'jobs'>): void {
  const wrong = (message: string): never => {
    throw new KvmscopeError('usage', message);
  };
  if (!(blocks >= 0)) wrong('blocks must be 0 or more');
  if (!(time >= 0)) wrong('time must be 0 or more');
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > MAX_JOBS) wrong(`jobs must be 1 to ${MAX_JOBS}`);
}

/**
 * Computes the blocks of a campaign that are not finished yet, on worker threads. Throws KvmscopeError for a campaign or directory that
 * makes no sense; an error of a block ends the run, and blocks finished before it are kept.
 */
export async function runCampaign(campaign: Campaign, options: RunCampaignOptions = {}): Promise<CampaignReport> {
  const { blocks = Number.POSITIVE_INFINITY, shard, time, jobs = availableParallelism() } = options;
  checkOptions(options);
  if (blocks === Number.POSITIVE_INFINITY && time === undefined && options.signal === undefined)
    throw new KvmscopeError('usage', 'a campaign needs a number of blocks, a time, or a signal that ends it');
  const plain = canonical(campaign) as Campaign;
  const sink: Sink = options.dir === undefined ? memory() : CampaignDirectory.open(options.dir, plain);
  try {
    return await compute(plain, sink, openBlocks(blocks, sink.tally.blocks, shard), jobs, options);
  } finally {
    sink.close();
  }
}

async function compute(
  campaign: Campaign,
  sink: Sink,
  todo: Iterator<number>,
  jobs: number,
  options: RunCampaignOptions,
): Promise<CampaignReport> {
  const { tally } = sink;
  const start = performance.now();
  const before = caseCount(tally);
  let cases = before;
  let end: CampaignReport['end'] = 'done';
  let failure: { readonly error: unknown } | undefined;
  const seconds = (): number => (performance.now() - start) / 1000;

  /** The next block, if there is one and another may be begun. */
  const take = (): number | undefined => {
    if (failure !== undefined) return undefined;
    if (options.signal?.aborted || options.abort?.aborted) end = 'stopped';
    else if (options.time !== undefined && seconds() >= options.time) end = 'time';
    else {
      const { done, value } = todo.next();
      if (!done) return value;
    }
    return undefined;
  };
  const pool = new WorkerPool(jobs, options);
  const abort = (): void => void pool.close();
  options.abort?.addEventListener('abort', abort);
  const progress = (): void => options.onProgress?.(progressOf(tally, before, cases + pool.casesInProgress, seconds()));
  const timer = options.onProgress && setInterval(progress, options.progressMs ?? 250);

  const worker = async (): Promise<void> => {
    for (let block = take(); block !== undefined; block = take()) {
      const result = await pool.run(campaign, block);
      if (result === undefined) {
        end = 'stopped';
        return;
      }
      const { added, finds } = sink.add(result);
      if (added) cases += result.cases;
      for (const find of finds) options.onFind?.(find);
      progress();
    }
  };
  const fail = (error: unknown): void => {
    failure ??= { error };
  };
  try {
    await Promise.all(Array.from({ length: jobs }, () => worker().catch(fail)));
  } finally {
    clearInterval(timer);
    options.abort?.removeEventListener('abort', abort);
    await pool.close();
  }
  if (failure !== undefined) throw failure.error;
  return reportOf({ campaign, tally }, cases - before, seconds(), end);
}

/** @param before cases before this run, @param cases and now */
export const progressOf = (tally: Tally, before: number, cases: number, seconds: number): CampaignProgress => ({
  blocks: tally.blocks.size,
  cases,
  casesNow: cases - before,
  seconds,
  coverage: tally.coverage.size,
  finds: tally.finds.size,
});

export const reportOf = (
  { campaign, tally }: { readonly campaign: Campaign; readonly tally: Tally },
  casesNow: number,
  seconds: number,
  end: CampaignReport['end'],
): CampaignReport => ({
  campaign,
  tally,
  finds: numberedFinds(tally),
  cases: caseCount(tally),
  casesNow,
  seconds,
  end,
});
