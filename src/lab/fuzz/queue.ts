/**
 * A campaign on many machines: its blocks are jobs of a BullMQ queue on a Redis or Valkey server. Any number of workers take them; one
 * process, the collector, fills the queue, and writes the campaign directory as results come in.
 *
 * - A job is named by campaign and block, so it is in the queue once. BullMQ gives it to another worker when its worker is silent for the
 *   time of a lock.
 * - A worker appends its result to the campaign's stream before it reports the job as done. The collector takes an entry out of the stream
 *   after the directory has it on disk. So a result is in the stream or in the directory, or its job is in the queue; a block that was
 *   computed twice counts once, as everywhere.
 * - A collector that comes back lists the queue before it reads the stream, and adds what is in neither; the same is done when nothing has
 *   come for a while, in case the server has lost its memory.
 */
import { randomUUID } from 'node:crypto';
import { availableParallelism, hostname } from 'node:os';
import type * as bullmq from 'bullmq';
import type { Redis } from 'ioredis';
import { KvmscopeError } from '../../errors.ts';
import {
  type CampaignReport,
  checkOptions,
  openBlocks,
  progressOf,
  type RunCampaignOptions,
  reportOf,
} from './campaign.ts';
import { campaignId, canonical, canonicalText } from './canonical.ts';
import { CampaignDirectory } from './directory.ts';
import { connectServer, type Server } from './server.ts';
import { caseCount } from './tally.ts';
import type { BlockResult, Campaign } from './types.ts';
import { type PoolOptions, WorkerPool } from './workers.ts';

const QUEUE = 'kvmscope-fuzz';
const campaignKey = (id: string): string => `${QUEUE}:campaign:${id}`;
const resultsKey = (id: string): string => `${QUEUE}:results:${id}`;
const collectorKey = (id: string): string => `${QUEUE}:collector:${id}`;

interface JobData {
  readonly campaign: string;
  readonly block: number;
}

/** Jobs of one campaign that are in the queue at a time. */
const WINDOW = 4096;
/** Jobs that are added or removed by one round trip. */
const BATCH = 256;
/** The queue is compared with what should be in it when nothing came for this part of the time of a lock. */
const QUIET = 1 / 3;
/** How often a block may lose its worker before it counts as failed. */
const MAX_LOSSES = 5;
/** Entries of the stream that are read at once. */
const READ = 64;
const READ_MS = 500;

export interface QueueOptions {
  /** redis://host:6379/0, rediss://user:password@host, unix:/path/of/socket. */
  readonly url: string;
  /** Seconds after which a silent worker or collector counts as dead; the same for all. Default 30. */
  readonly lock?: number;
  /** Seconds without server after which to give up; default 60. */
  readonly patience?: number;
}

function lockOf({ lock = 30 }: QueueOptions): number {
  if (!(lock >= 0.1 && lock <= 86_400)) throw new KvmscopeError('usage', 'lock must be 0.1 to 86400 seconds');
  return lock * 1000;
}

const connect = ({ url, patience = 60 }: QueueOptions): Promise<Server> => connectServer(url, patience * 1000);

// ---- workers ----

export interface QueueWorkerOptions extends QueueOptions, PoolOptions {
  /** Worker threads; default one per core. */
  readonly jobs?: number;
  /** Aborted: no further block is taken, those in progress are finished. */
  readonly signal?: AbortSignal;
  /** Aborted: blocks in progress go back into the queue, too. */
  readonly abort?: AbortSignal;
  /** Ends when the queue is empty; otherwise it waits for more. */
  readonly untilEmpty?: boolean;
  readonly onBlock?: (result: BlockResult) => void;
}

export interface QueueWorkerReport {
  readonly blocks: number;
  readonly cases: number;
  readonly seconds: number;
}

const EMPTY_MS = 200;

/**
 * Takes blocks of any campaigns from a queue and computes them. Throws KvmscopeError if the server cannot be used, or if this machine
 * cannot do a campaign that is asked for (its blocks go back into the queue).
 */
export async function workQueue(options: QueueWorkerOptions): Promise<QueueWorkerReport> {
  const { jobs = availableParallelism() } = options;
  checkOptions({ jobs });
  const lock = lockOf(options);
  const server = await connect(options);
  const { bullmq, redis } = server;
  const start = performance.now();
  const campaigns = new Map<string, Campaign>();
  let blocks = 0;
  let cases = 0;

  const campaignOf = async (id: string): Promise<Campaign | undefined> => {
    const known = campaigns.get(id);
    if (known) return known;
    const text = await redis.get(campaignKey(id));
    if (text === null) return undefined;
    const campaign = JSON.parse(text) as Campaign;
    campaigns.set(id, campaign);
    return campaign;
  };

  const pool = new WorkerPool(jobs, options);
  let ended = (): void => {};
  let fail = (_error: Error): void => {};
  const stopped = new Promise<void>((resolve, reject) => {
    ended = resolve;
    fail = reject;
  });
  const worker = new bullmq.Worker<JobData>(
    QUEUE,
    async (job, token) => {
      const { campaign: id, block } = job.data;
      const campaign = await campaignOf(id);
      // Its collector has finished: nobody waits for this block.
      if (campaign === undefined) return;
      const giveBack = async (): Promise<never> => {
        await job.moveToWait(token);
        throw new bullmq.WaitingError();
      };
      let result: BlockResult | undefined;
      try {
        result = await pool.run(campaign, block);
      } catch (error) {
        if (!(error instanceof KvmscopeError)) throw error;
        fail(error);
        return await giveBack();
      }
      if (result === undefined) return await giveBack();
      // Before the job is done, so that there is no moment in which neither tells of the block; not if the campaign is over.
      await redis.xadd(resultsKey(id), 'NOMKSTREAM', '*', 'result', JSON.stringify(result));
      blocks++;
      cases += result.cases;
      options.onBlock?.(result);
    },
    {
      connection: redis,
      name: `${hostname()}-${process.pid}`,
      concurrency: jobs,
      lockDuration: lock,
      stalledInterval: lock / 2,
      maxStalledCount: MAX_LOSSES,
      drainDelay: 1,
    },
  );
  // Connections are watched by the server object; the rest concerns one job and shows in its state.
  worker.on('error', () => {});

  const abort = (): void => {
    void pool.close();
    ended();
  };
  for (const [signal, action] of [
    [options.signal, ended],
    [options.abort, abort],
  ] as const) {
    if (signal?.aborted) action();
    signal?.addEventListener('abort', action);
  }
  const queue = new bullmq.Queue<JobData>(QUEUE, { connection: redis });
  queue.on('error', () => {});
  let checking = false;
  const timer =
    options.untilEmpty &&
    setInterval(async () => {
      if (checking) return;
      checking = true;
      try {
        if ((await queue.getJobCountByTypes('waiting', 'active')) === 0) ended();
      } catch {
        // The server object tells.
      } finally {
        checking = false;
      }
    }, EMPTY_MS);
  try {
    try {
      await server.unlessLost(stopped);
    } catch (error) {
      // Blocks in progress go back into the queue.
      await pool.close();
      throw error;
    } finally {
      await server.unlessLost(worker.close());
      await server.unlessLost(queue.close());
    }
  } finally {
    clearInterval(timer || undefined);
    options.signal?.removeEventListener('abort', ended);
    options.abort?.removeEventListener('abort', abort);
    server.close();
    await pool.close();
  }
  return { blocks, cases, seconds: (performance.now() - start) / 1000 };
}

// ---- the collector ----

export interface QueueCampaignOptions
  extends QueueOptions,
    Pick<RunCampaignOptions, 'blocks' | 'shard' | 'time' | 'signal' | 'abort' | 'onProgress' | 'onFind'> {
  /** The campaign directory. */
  readonly dir: string;
  /** Told when another collector has the campaign: it may be dead, which shows when its lock is over. */
  readonly onWait?: (holder: string) => void;
}

export interface QueueCampaignReport extends CampaignReport {
  /** Blocks that no worker could compute, and why. They are tried again when the campaign is. */
  readonly failed: readonly { readonly block: number; readonly reason: string }[];
}

/**
 * Has a campaign computed by the workers of a queue, and writes its directory. May be killed and called again at any time. After `time`, or
 * when `signal` is aborted, blocks that no worker has begun are withdrawn; `abort` leaves them in the queue for another call.
 * Throws KvmscopeError if the server or the directory cannot be used, or another process collects this campaign.
 */
export async function queueCampaign(campaign: Campaign, options: QueueCampaignOptions): Promise<QueueCampaignReport> {
  checkOptions(options);
  const lock = lockOf(options);
  const plain = canonical(campaign) as Campaign;
  const server = await connect(options);
  try {
    const directory = CampaignDirectory.open(options.dir, plain);
    try {
      return await server.unlessLost(collect(server, directory, lock, options));
    } finally {
      directory.close();
    }
  } finally {
    server.close();
  }
}

async function collect(
  server: Server,
  directory: CampaignDirectory,
  lock: number,
  options: QueueCampaignOptions,
): Promise<QueueCampaignReport> {
  const lease = await takeLease(server, campaignId(directory.campaign), lock, options);
  const queue = new server.bullmq.Queue<JobData>(QUEUE, { connection: server.redis });
  queue.on('error', () => {});
  try {
    return await new Collector(server, queue, directory, lease, options).run();
  } finally {
    await lease.release().catch(() => {});
    await queue.close().catch(() => {});
  }
}

interface Lease {
  /** Milliseconds. */
  readonly duration: number;
  /** Throws if another collector has taken over. */
  check(): void;
  release(): Promise<unknown>;
}

/** Lua scripts of the server. The lease is taken anew if the server has forgotten it. */
const RENEW = `
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;
const RELEASE = `
if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end
return 1`;

/** One collector per campaign; one that has died is waited for until its lease is over. */
async function takeLease(
  { redis }: Server,
  id: string,
  lock: number,
  { signal, onWait }: QueueCampaignOptions,
): Promise<Lease> {
  const key = collectorKey(id);
  const token = `${hostname()} process ${process.pid} ${randomUUID()}`;
  const until = performance.now() + lock * 1.5;
  for (let waited = false; (await redis.set(key, token, 'PX', Math.ceil(lock), 'NX')) === null; waited = true) {
    const holder = (await redis.get(key))?.replace(/ \S+$/, '') ?? 'another process';
    if (!waited) onWait?.(holder);
    if (performance.now() > until || signal?.aborted)
      throw new KvmscopeError('campaign', `this campaign is being collected by ${holder} already`);
    await new Promise((resolve) => setTimeout(resolve, Math.min(lock / 10, 500)));
  }
  let lost = false;
  const timer = setInterval(
    () =>
      void redis.eval(RENEW, 1, key, token, Math.ceil(lock)).then(
        (held) => {
          lost ||= held === 0;
        },
        () => {}, // The server object tells.
      ),
    lock / 3,
  );
  return {
    duration: lock,
    check() {
      if (lost) throw new KvmscopeError('campaign', 'another process collects this campaign now');
    },
    release() {
      clearInterval(timer);
      return redis.eval(RELEASE, 1, key, token);
    },
  };
}

class Collector {
  readonly #server: Server;
  readonly #queue: bullmq.Queue<JobData>;
  readonly #directory: CampaignDirectory;
  readonly #lease: Lease;
  readonly #options: QueueCampaignOptions;
  readonly #id: string;
  readonly #start = performance.now();
  /** Blocks to come, ascending. */
  readonly #todo: Iterator<number>;
  /** Blocks that are in the queue, or whose results are in the stream. */
  readonly #outstanding = new Set<number>();
  readonly #failed = new Map<number, string>();
  #exhausted = false;
  /** The last entry of the stream that was read. */
  #last = '0';
  #cases: number;
  readonly #before: number;

  constructor(
    server: Server,
    queue: bullmq.Queue<JobData>,
    directory: CampaignDirectory,
    lease: Lease,
    options: QueueCampaignOptions,
  ) {
    this.#server = server;
    this.#queue = queue;
    this.#directory = directory;
    this.#lease = lease;
    this.#options = options;
    this.#id = campaignId(directory.campaign);
    this.#before = caseCount(directory.tally);
    this.#cases = this.#before;
    const { blocks = Number.POSITIVE_INFINITY, shard } = options;
    this.#todo = openBlocks(blocks, directory.tally.blocks, shard);
  }

  get #seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  async run(): Promise<QueueCampaignReport> {
    const { signal, abort, time = Number.POSITIVE_INFINITY } = this.#options;
    const reader = this.#server.another();
    await this.#takeFailed();
    this.#failed.clear();
    await this.#reconcile();
    let end: CampaignReport['end'] = 'done';
    let heard = performance.now();
    while (!abort?.aborted) {
      this.#lease.check();
      if (end === 'done' && (signal?.aborted || this.#seconds >= time)) {
        end = signal?.aborted ? 'stopped' : 'time';
        await this.#withdraw(this.#outstanding);
      }
      if (end === 'done') await this.#fill();
      if (this.#outstanding.size === 0) break;
      if (await this.#read(reader, READ_MS)) heard = performance.now();
      else {
        this.#tell();
        await this.#takeFailed();
        if (performance.now() - heard < QUIET * this.#lease.duration) continue;
        await this.#reconcile();
        heard = performance.now();
      }
    }
    if (this.#outstanding.size > 0) end = 'stopped';
    // Nothing is to come: what a worker still does that seemed dead is not waited for.
    else await this.#server.redis.del(campaignKey(this.#id), resultsKey(this.#id));
    const failed = [...this.#failed].map(([block, reason]) => ({ block, reason })).sort((a, b) => a.block - b.block);
    return { ...reportOf(this.#directory, this.#cases - this.#before, this.#seconds, end), failed };
  }

  #job(block: number): string {
    return `${this.#id}-${block}`;
  }

  /** Puts blocks into the queue until enough are there. */
  async #fill(): Promise<void> {
    const blocks: number[] = [];
    while (!this.#exhausted && this.#outstanding.size < WINDOW) {
      const { done, value } = this.#todo.next();
      if (done) this.#exhausted = true;
      else if (!this.#outstanding.has(value) && !this.#directory.tally.blocks.has(value)) {
        this.#outstanding.add(value);
        blocks.push(value);
      }
    }
    await this.#add(blocks);
  }

  async #add(blocks: readonly number[]): Promise<void> {
    for (const part of batches(blocks)) {
      await this.#queue.addBulk(
        part.map((block) => ({
          name: 'block',
          data: { campaign: this.#id, block },
          opts: { jobId: this.#job(block), removeOnComplete: true, removeOnFail: false },
        })),
      );
    }
  }

  /**
   * Brings this object and the server together: the server knows the campaign; blocks in the queue are outstanding; outstanding blocks that
   * are in neither the queue nor the stream nor the directory are put into the queue again. The queue is listed before the stream is read.
   */
  async #reconcile(): Promise<void> {
    const { redis } = this.#server;
    await redis.set(campaignKey(this.#id), canonicalText(this.#directory.campaign));
    // A stream comes into being by its first entry.
    const entry = await redis.xadd(resultsKey(this.#id), '*', 'result', '');
    await redis.xdel(resultsKey(this.#id), entry as string);
    const listed = await this.#listed();
    while (await this.#read(redis));
    const { blocks = Number.POSITIVE_INFINITY, shard = { index: 0, count: 1 } } = this.#options;
    const foreign = new Set<number>();
    for (const block of listed) {
      if (this.#directory.tally.blocks.has(block)) continue;
      if (block < blocks && block % shard.count === shard.index) this.#outstanding.add(block);
      else foreign.add(block);
    }
    await this.#withdraw(foreign);
    await this.#add([...this.#outstanding].filter((block) => !listed.has(block)));
  }

  /** Blocks of this campaign that wait for a worker or have one. */
  async #listed(): Promise<Set<number>> {
    const blocks = new Set<number>();
    // Active ones last: a job that moves on between the two is seen.
    for (const state of ['waiting', 'active'] as const) {
      for (let at = 0; ; at += WINDOW) {
        const jobs = await this.#queue.getJobs([state], at, at + WINDOW - 1, true);
        for (const job of jobs) if (job?.data.campaign === this.#id) blocks.add(job.data.block);
        if (jobs.length < WINDOW) break;
      }
    }
    return blocks;
  }

  /** Reads entries of the stream, at most `wait` milliseconds; true if there were any. */
  async #read(client: Redis, wait?: number): Promise<boolean> {
    const key = resultsKey(this.#id);
    const reply =
      wait === undefined
        ? await client.xread('COUNT', READ, 'STREAMS', key, this.#last)
        : await client.xread('COUNT', READ, 'BLOCK', wait, 'STREAMS', key, this.#last);
    const entries = reply?.[0]?.[1] ?? [];
    if (entries.length === 0) return false;
    for (const [, [, text]] of entries) this.#take(JSON.parse(text));
    this.#last = entries[entries.length - 1][0];
    // The directory has them on disk.
    await this.#server.redis.xdel(key, ...entries.map(([id]) => id));
    return true;
  }

  #tell(): void {
    this.#options.onProgress?.(progressOf(this.#directory.tally, this.#before, this.#cases, this.#seconds));
  }

  #take(result: BlockResult): void {
    const { added, finds } = this.#directory.add(result);
    this.#outstanding.delete(result.block);
    this.#failed.delete(result.block);
    if (added) this.#cases += result.cases;
    for (const find of finds) this.#options.onFind?.(find);
    this.#tell();
  }

  /** Takes failed jobs of this campaign out of the queue. */
  async #takeFailed(): Promise<void> {
    for (const job of await this.#queue.getFailed(0, WINDOW - 1)) {
      if (job?.data.campaign !== this.#id) continue;
      this.#failed.set(job.data.block, job.failedReason);
      this.#outstanding.delete(job.data.block);
      await this.#queue.remove(job.id!);
    }
  }

  /** Takes jobs out of the queue that no living worker has begun. */
  async #withdraw(blocks: ReadonlySet<number>): Promise<void> {
    for (const part of batches([...blocks])) {
      const removed = await Promise.all(part.map((block) => this.#queue.remove(this.#job(block))));
      part.forEach((block, i) => {
        if (removed[i] === 1) this.#outstanding.delete(block);
      });
    }
    // One that was done meanwhile is in the stream.
    while (await this.#read(this.#server.redis));
  }
}

function* batches<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += BATCH) yield items.slice(at, at + BATCH);
}
