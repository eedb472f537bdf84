import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CampaignDirectory, readCampaignDirectory } from './directory.ts';
import { type QueueCampaignOptions, type QueueWorkerOptions, queueCampaign, workQueue } from './queue.ts';
import { RedisServer, redisProgram } from './redis.fixture.ts';
import { FAKE_RUNNER, fakeBlock, fakeCampaign } from './runner.fixture.ts';
import { connectServer } from './server.ts';
import type { Campaign } from './types.ts';

const root = mkdtempSync(join(tmpdir(), 'kvmscope-queue-'));
const program = redisProgram();
const redis = new RedisServer();
beforeAll(async () => {
  if (program) await redis.start(program);
  else console.warn('SKIPPED: no redis-server or valkey-server: the queue of fuzz campaigns is not tested');
});
afterAll(async () => {
  await redis.remove();
  rmSync(root, { recursive: true });
});
let count = 0;
const fresh = (): string => join(root, String(count++));

const campaign = fakeCampaign();
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const contents = (dir: string): [string, string][] =>
  readdirSync(dir)
    .sort()
    .map((name) => [name, readFileSync(join(dir, name), 'utf8')]);

/** The directory that a run without a queue gives. */
function written(blocks: Iterable<number>, what: Campaign = campaign): [string, string][] {
  const dir = fresh();
  const directory = CampaignDirectory.open(dir, what);
  for (const block of blocks) directory.add(fakeBlock(what, block));
  directory.close();
  return contents(dir);
}

/** Longer than this machine may be busy with something else: only who waits for a lock to end has a short one. */
const LOCK = 20;
const collect = (dir: string, options: Partial<QueueCampaignOptions> = {}, what: Campaign = campaign) =>
  queueCampaign(what, { url: redis.url, dir, lock: LOCK, patience: 0.3, ...options });

const running: (() => Promise<unknown>)[] = [];
/** Workers in this process: ended by end(), which says how many blocks they computed. */
function work(options: Partial<QueueWorkerOptions> = {}) {
  const stop = new AbortController();
  const drop = new AbortController();
  const report = workQueue({
    url: redis.url,
    module: FAKE_RUNNER,
    jobs: 1,
    lock: LOCK,
    patience: 0.3,
    signal: stop.signal,
    abort: drop.signal,
    ...options,
  });
  report.catch(() => {});
  running.push(() => {
    drop.abort();
    return report.catch(() => {});
  });
  return {
    report,
    end: async (): Promise<number> => {
      stop.abort();
      return (await report).blocks;
    },
  };
}

/** Everything the server holds. */
async function keys(): Promise<string[]> {
  const server = await connectServer(redis.url, 1000);
  try {
    return (await server.redis.keys('*')).sort();
  } finally {
    server.close();
  }
}

async function flush(): Promise<void> {
  const server = await connectServer(redis.url, 1000);
  await server.redis.flushall();
  server.close();
}

const children: ChildProcess[] = [];
/** A worker process with the fake runner. */
function spawnWorker(): ChildProcess {
  const code = `
    import { workQueue } from ${JSON.stringify(new URL('./queue.ts', import.meta.url).href)};
    await workQueue(${JSON.stringify({ url: redis.url, module: FAKE_RUNNER, jobs: 2, lock: 1 })});`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', code];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  children.push(child);
  return child;
}

beforeEach(async () => {
  delete process.env.NO_HANG;
  if (program) await flush();
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((drop) => drop()));
  for (const child of children.splice(0)) child.kill('SIGKILL');
  delete process.env.NO_HANG;
});

describe.skipIf(program === undefined)('a campaign on a queue', () => {
  it('gives the directory of a run without queue, and leaves nothing of itself on the server', async () => {
    const dir = fresh();
    const workers = [work(), work({ jobs: 2 })];
    const seen: number[] = [];
    const report = await collect(dir, { blocks: 30, onProgress: ({ blocks }) => seen.push(blocks) });
    expect(report).toMatchObject({ end: 'done', cases: 3000, casesNow: 3000, failed: [] });
    expect([...new Set(seen)].filter((n) => n > 0)).toEqual(upTo(30).map((n) => n + 1));
    expect(contents(dir)).toEqual(written(upTo(30)));
    const computed = await Promise.all(workers.map(({ end }) => end()));
    expect(computed.reduce((a, b) => a + b)).toBe(30);
    expect((await keys()).filter((key) => !/^bull:kvmscope-fuzz:(meta|events|id|stalled-check)$/.test(key))).toEqual(
      [],
    );
  });

  it('survives a worker that is killed in the middle of a block', async () => {
    const hanging = fakeCampaign(1, { hang: 3 });
    const dir = fresh();
    const child = spawnWorker();
    const exited = once(child, 'exit');
    let rescue: ReturnType<typeof work> | undefined;
    const report = await collect(
      dir,
      {
        blocks: 12,
        lock: 1,
        onProgress: ({ blocks }) => {
          if (blocks < 11 || rescue) return;
          child.kill('SIGKILL');
          process.env.NO_HANG = '1';
          rescue = work({ lock: 1 });
        },
      },
      hanging,
    );
    expect(report).toMatchObject({ end: 'done', cases: 1200, failed: [] });
    expect(contents(dir)).toEqual(written(upTo(12), hanging));
    expect(await exited).toEqual([null, 'SIGKILL']);
    expect(await rescue?.end()).toBe(1);
  });

  it('goes on where its collector was killed, and computes nothing twice', async () => {
    const dir = fresh();
    const kill = new AbortController();
    const first = collect(dir, {
      blocks: 40,
      abort: kill.signal,
      onProgress: ({ blocks }) => blocks === 10 && kill.abort(),
    });
    const workers = [work(), work()];
    expect(await first).toMatchObject({ end: 'stopped' });
    expect(readCampaignDirectory(dir).tally.blocks.size).toBeLessThan(40);
    const report = await collect(dir, { blocks: 45 });
    expect(report).toMatchObject({ end: 'done', cases: 4500 });
    expect(report.casesNow).toBeLessThanOrEqual(3500);
    expect(contents(dir)).toEqual(written(upTo(45)));
    const computed = await Promise.all(workers.map(({ end }) => end()));
    expect(computed.reduce((a, b) => a + b)).toBe(45);
  });

  it('goes on when the server has lost its memory', async () => {
    const dir = fresh();
    const collected = collect(dir, { blocks: 8, lock: 1 });
    await expect.poll(keys).toContain('bull:kvmscope-fuzz:wait');
    await flush();
    const worker = work();
    expect(await collected).toMatchObject({ end: 'done', cases: 800 });
    expect(contents(dir)).toEqual(written(upTo(8)));
    await worker.end();
  });

  it('withdraws blocks that nobody has begun when it is stopped or its time is over', async () => {
    const stop = new AbortController();
    stop.abort();
    expect(await collect(fresh(), { signal: stop.signal })).toMatchObject({ end: 'stopped', cases: 0 });
    expect(await collect(fresh(), { time: 0 })).toMatchObject({ end: 'time', cases: 0 });
    const dir = fresh();
    const collected = collect(dir, { time: 0.2 });
    expect(await collected).toMatchObject({ end: 'time', cases: 0 });
    expect(await keys()).not.toContain('bull:kvmscope-fuzz:wait');
    const worker = work({ untilEmpty: true });
    expect(await worker.report).toMatchObject({ blocks: 0, cases: 0 });
  });

  it('takes back a block whose worker is told to drop it', async () => {
    const hanging = fakeCampaign(1, { hang: 0 });
    const abort = new AbortController();
    const dir = fresh();
    const first = work({ abort: abort.signal });
    const collected = collect(dir, { blocks: 2 }, hanging);
    await expect.poll(keys).toContain('bull:kvmscope-fuzz:active');
    abort.abort();
    expect(await first.report).toMatchObject({ blocks: 0 });
    process.env.NO_HANG = '1';
    const second = work();
    expect(await collected).toMatchObject({ end: 'done', cases: 200 });
    expect(contents(dir)).toEqual(written(upTo(2), hanging));
    expect(await second.end()).toBe(2);
  });

  it('says which blocks failed, and tries them again next time', async () => {
    const failing = fakeCampaign(1, { fail: 1 });
    const dir = fresh();
    const worker = work();
    for (let i = 0; i < 2; i++) {
      expect(await collect(dir, { blocks: 3 }, failing)).toMatchObject({
        end: 'done',
        cases: 200,
        failed: [{ block: 1, reason: 'block 1 went wrong' }],
      });
    }
    expect(contents(dir)).toEqual(written([0, 2], failing));
    await worker.end();
  });

  it('is given back by a machine that cannot do it', async () => {
    const dir = fresh();
    const worker = work();
    const stop = new AbortController();
    const collected = collect(dir, { blocks: 1, signal: stop.signal }, fakeCampaign(666));
    await expect(worker.report).rejects.toThrow('seed 666 makes no sense');
    expect(await keys()).toContain('bull:kvmscope-fuzz:wait');
    expect(await keys()).not.toContain('bull:kvmscope-fuzz:active');
    stop.abort();
    expect(await collected).toMatchObject({ end: 'stopped', cases: 0, failed: [] });
  });

  it('has one collector', async () => {
    const stop = new AbortController();
    const first = collect(fresh(), { blocks: 1, signal: stop.signal });
    await expect.poll(keys).toContain('bull:kvmscope-fuzz:wait');
    const waits: string[] = [];
    const onWait = (holder: string) => waits.push(holder);
    await expect(collect(fresh(), { blocks: 1, lock: 0.2, onWait })).rejects.toThrow(
      new RegExp(`^this campaign is being collected by \\S+ process ${process.pid} already$`),
    );
    expect(waits).toEqual([expect.stringMatching(new RegExp(` process ${process.pid}$`))]);
    stop.abort();
    await first;
  });
});

describe('a queue is refused in one line', () => {
  it.each([
    ['localhost:6379', "'localhost:6379' is no server: write redis://host:6379, rediss://… or unix:/path/of/socket"],
    ['http://user:secret@host', "'http://***@host' is no server"],
    ['unix:', "'unix:' is no server"],
    ['redis://:secret@127.0.0.1:1/', 'no Redis or Valkey server at redis://:***@127.0.0.1:1/: connect ECONNREFUSED'],
    ['unix:/nowhere/socket', 'no Redis or Valkey server at unix:/nowhere/socket: connect ENOENT'],
  ])('at %s', async (url, message) => {
    await expect(workQueue({ url })).rejects.toThrow(message);
    await expect(queueCampaign(campaign, { url, dir: fresh() })).rejects.toThrow(message);
  });

  it('with numbers that make no sense', async () => {
    await expect(workQueue({ url: redis.url, lock: 0 })).rejects.toThrow('lock must be 0.1 to 86400 seconds');
    await expect(workQueue({ url: redis.url, jobs: 0 })).rejects.toThrow('jobs must be 1 to 1024');
  });

  it.skipIf(program === undefined)('when the server goes away and stays away', async () => {
    const lost = new RedisServer();
    await lost.start(program!);
    try {
      const dir = fresh();
      const worker = work({ url: lost.url });
      const collected = collect(dir, { url: lost.url, onProgress: ({ blocks }) => void (blocks === 3 && lost.stop()) });
      const message = `the server ${lost.url} went away: `;
      await expect(collected).rejects.toThrow(message);
      await expect(worker.report).rejects.toThrow(message);
      const { blocks } = readCampaignDirectory(dir).tally;
      expect(blocks.size).toBeGreaterThanOrEqual(3);
    } finally {
      await lost.remove();
    }
  });
});
