/** Worker threads that compute blocks. Blocks of several campaigns may be mixed; each thread keeps the VMs of the last one. */
import { Worker } from 'node:worker_threads';
import { KvmscopeError, type KvmscopeErrorCode } from '../../errors.ts';
import type { BlockResult, Campaign } from './types.ts';

/** The word of memory that a thread and its pool share: cases of the block in progress that are done. */
export const DONE = 0;

export interface ThreadData {
  /** URL of the module with openCampaign(). */
  readonly module: string;
  readonly shared: Int32Array;
  /** Whether the thread, too, runs JavaScript that these sources were compiled to. */
  readonly compiled: boolean;
}

export interface BlockOrder {
  readonly campaign: Campaign;
  readonly block: number;
}

export type BlockAnswer =
  | { readonly result: BlockResult | undefined }
  | {
      readonly error: {
        readonly name: string;
        readonly message: string;
        readonly code: string | undefined;
        readonly stack: string | undefined;
      };
    };

interface Job {
  resolve(result: BlockResult | undefined): void;
  reject(error: Error): void;
}

interface Thread {
  /** Undefined: not started yet, or dead; it is started when there is work. */
  worker: Worker | undefined;
  readonly shared: Int32Array;
  job: Job | undefined;
}

const THREAD = new URL('../../../scripts/fuzz-worker.js', import.meta.url);
const COMPILED = import.meta.url.endsWith('.js');
const RUNNER = new URL(COMPILED ? './block.js' : './block.ts', import.meta.url).href;

function errorOf(answer: Extract<BlockAnswer, { error: unknown }>): Error {
  const { name, message, code, stack } = answer.error;
  if (name === 'KvmscopeError') return new KvmscopeError(code as KvmscopeErrorCode, message);
  return Object.assign(new Error(message), { name, stack });
}

export interface PoolOptions {
  /** URL of a module with openCampaign(), instead of block.ts: a test's. */
  readonly module?: string;
}

export class WorkerPool {
  readonly #module: string;
  readonly #threads: Thread[];
  /** Blocks that wait for a thread. */
  readonly #waiting: { readonly order: BlockOrder; readonly job: Job }[] = [];
  #closed = false;

  constructor(jobs: number, { module = RUNNER }: PoolOptions = {}) {
    this.#module = module;
    this.#threads = Array.from({ length: jobs }, () => ({
      worker: undefined,
      shared: new Int32Array(new SharedArrayBuffer(4)),
      job: undefined,
    }));
  }

  #start(thread: Thread): Worker {
    const workerData: ThreadData = { module: this.#module, shared: thread.shared, compiled: COMPILED };
    // None of this process's flags: the thread registers its loader itself.
    const worker = new Worker(THREAD, { workerData, execArgv: [] });
    thread.worker = worker;
    const ended = (settle: (job: Job) => void): void => {
      const { job } = thread;
      thread.job = undefined;
      if (job) settle(job);
    };
    const died = (error: Error): void => {
      thread.worker = undefined;
      ended((job) => job.reject(error));
      this.#next(thread);
    };
    worker.on('message', (answer: BlockAnswer) => {
      ended((job) => ('error' in answer ? job.reject(errorOf(answer)) : job.resolve(answer.result)));
      this.#next(thread);
    });
    worker.on('error', died);
    worker.on('exit', (code) => {
      if (thread.worker === worker && !this.#closed) died(new Error(`a worker thread ended with code ${code}`));
    });
    return worker;
  }

  /** Gives a free thread the next block that waits. */
  #next(thread: Thread): void {
    if (thread.job !== undefined) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    thread.job = next.job;
    Atomics.store(thread.shared, DONE, 0);
    (thread.worker ?? this.#start(thread)).postMessage(next.order);
  }

  /** Cases that are done of the blocks in progress. */
  get casesInProgress(): number {
    return this.#threads.reduce((sum, { shared, job }) => sum + (job ? Atomics.load(shared, DONE) : 0), 0);
  }

  /**
   * Computes a block on the next free thread. Undefined: the pool was closed. Rejects with what the runner threw, or if the thread died;
   * the pool goes on with another one.
   */
  run(campaign: Campaign, block: number): Promise<BlockResult | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return resolve(undefined);
      this.#waiting.push({ order: { campaign, block }, job: { resolve, reject } });
      const free = this.#threads.find(({ job }) => job === undefined);
      if (free) this.#next(free);
    });
  }

  /** Ends the threads, whatever they are doing; blocks in progress yield undefined, and none is begun any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { job } of this.#waiting.splice(0)) job.resolve(undefined);
    await Promise.all(this.#threads.map(({ worker }) => worker?.terminate()));
    for (const { job } of this.#threads) job?.resolve(undefined);
  }
}
