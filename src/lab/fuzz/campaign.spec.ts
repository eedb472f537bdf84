import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openBlocks, parseShard, type RunCampaignOptions, runCampaign } from './campaign.ts';
import { campaignId } from './canonical.ts';
import { readCampaignDirectory } from './directory.ts';
import { FAKE_RUNNER, fakeBlock, fakeCampaign } from './runner.fixture.ts';
import { addBlock, emptyTally, encodeTally, type Tally } from './tally.ts';
import type { Campaign, Find } from './types.ts';

const root = mkdtempSync(join(tmpdir(), 'kvmscope-campaign-'));
afterAll(() => rmSync(root, { recursive: true }));

const campaign = fakeCampaign();
const run = (options: RunCampaignOptions, what: Campaign = campaign) =>
  runCampaign(what, { module: FAKE_RUNNER, jobs: 2, ...options });
const text = (tally: Tally, what: Campaign = campaign): string => encodeTally(tally, campaignId(what));
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** What the blocks give without threads. */
function expected(blocks: Iterable<number>, what: Campaign = campaign): string {
  const tally = emptyTally();
  for (const block of blocks) addBlock(tally, fakeBlock(what, block));
  return text(tally, what);
}

describe('a shard', () => {
  it('is i/n', () => {
    expect(parseShard('0/8')).toEqual({ index: 0, count: 8 });
    expect(parseShard('7/8')).toEqual({ index: 7, count: 8 });
  });

  it.each(['8/8', '1/0', '-1/2', '1', '/2', '1/', '0x1/4', '', ' 1/2', '1.5/2'])('is not %j', (wrong) => {
    expect(() => parseShard(wrong)).toThrow(`--shard: '${wrong}' is not i/n with i from 0 to n-1, e.g. 0/8`);
  });

  it('has its own blocks, and together they are all', () => {
    const shards = [0, 1, 2].map((index) => [...openBlocks(11, new Map(), { index, count: 3 })]);
    expect(shards).toEqual([
      [0, 3, 6, 9],
      [1, 4, 7, 10],
      [2, 5, 8],
    ]);
    expect([
      ...openBlocks(
        5,
        new Map([
          [1, 0],
          [3, 0],
        ]),
      ),
    ]).toEqual([0, 2, 4]);
  });
});

describe('a campaign on worker threads', () => {
  it('gives what its blocks give, whatever the number of threads, and says how it goes', async () => {
    const progress: number[] = [];
    const finds: Find[] = [];
    const report = await run({
      blocks: 12,
      onProgress: ({ cases }) => progress.push(cases),
      onFind: (find) => finds.push(find),
    });
    expect(text(report.tally)).toBe(expected(upTo(12)));
    expect(report).toMatchObject({ end: 'done', cases: 1200, casesNow: 1200 });
    expect(new Set(finds.map(({ signature }) => signature))).toEqual(
      new Set(report.finds.map(({ signature }) => signature)),
    );
    expect(progress.at(-1)).toBe(1200);
    expect(text((await run({ blocks: 12, jobs: 1 })).tally)).toBe(text(report.tally));
  });

  it('computes in a directory only what is missing', async () => {
    const dir = join(root, 'a');
    await run({ dir, blocks: 5 });
    const report = await run({ dir, blocks: 9 });
    expect(report).toMatchObject({ cases: 900, casesNow: 400 });
    expect(await run({ dir, blocks: 9 })).toMatchObject({ cases: 900, casesNow: 0, end: 'done' });
    expect(readFileSync(join(dir, 'results.json'), 'utf8')).toBe(expected(upTo(9)));
    expect(readdirSync(dir).filter((name) => /lock|journal|tmp/.test(name))).toEqual([]);
  });

  it('may be a shard', async () => {
    const report = await run({ blocks: 7, shard: { index: 1, count: 3 } });
    expect([...report.tally.blocks.keys()].sort()).toEqual([1, 4]);
  });

  it('ends when it is told to: blocks in progress are finished', async () => {
    const stop = new AbortController();
    const report = await run({
      signal: stop.signal,
      onProgress: ({ blocks }) => {
        if (blocks >= 3) stop.abort();
      },
    });
    expect(report.end).toBe('stopped');
    expect(text(report.tally)).toBe(expected(report.tally.blocks.keys()));
    expect(report.tally.blocks.size).toBeGreaterThanOrEqual(3);
    expect(report.tally.blocks.size).toBeLessThanOrEqual(4);
  });

  it('ends at once when it is told to drop blocks in progress: they do not count', async () => {
    const hanging = fakeCampaign(1, { hang: 1 });
    const abort = new AbortController();
    const seen: number[] = [];
    const dir = join(root, 'abort');
    const report = await run(
      {
        dir,
        blocks: 3,
        abort: abort.signal,
        progressMs: 5,
        onProgress: ({ blocks, cases }) => {
          seen.push(cases);
          if (blocks === 2 && cases === 201) abort.abort();
        },
      },
      hanging,
    );
    expect(report.end).toBe('stopped');
    expect(report.cases).toBe(200);
    expect(seen).toContain(201);
    expect([...readCampaignDirectory(dir).tally.blocks.keys()].sort()).toEqual([0, 2]);
    expect(readFileSync(join(dir, 'results.json'), 'utf8')).toBe(expected([0, 2], hanging));
  });

  it('begins nothing when its time is over', async () => {
    expect(await run({ time: 0 })).toMatchObject({ end: 'time', cases: 0 });
  });

  it('with a block that fails keeps the others and says what went wrong', async () => {
    const dir = join(root, 'fail');
    const failing = fakeCampaign(1, { fail: 2 });
    await expect(run({ dir, blocks: 9, jobs: 1 }, failing)).rejects.toThrow('block 2 went wrong');
    expect([...readCampaignDirectory(dir).tally.blocks.keys()]).toEqual([0, 1]);
    await expect(run({ blocks: 3, jobs: 1 }, fakeCampaign(1, { die: 2 }))).rejects.toThrow(
      'a worker thread ended with code 3',
    );
  });

  it.each<[RunCampaignOptions, Campaign, string]>([
    [{ blocks: 1 }, fakeCampaign(666), 'seed 666 makes no sense'],
    [{}, campaign, 'a campaign needs a number of blocks, a time, or a signal that ends it'],
    [{ blocks: 1, jobs: 0 }, campaign, 'jobs must be 1 to 1024'],
    [{ blocks: 1, jobs: 1.5 }, campaign, 'jobs must be 1 to 1024'],
    [{ blocks: -1 }, campaign, 'blocks must be 0 or more'],
    [{ time: Number.NaN }, campaign, 'time must be 0 or more'],
    [{ blocks: 1, module: 'file:///nowhere.ts' }, campaign, "Cannot find module '/nowhere.ts'"],
  ])('with %j makes no sense', async (options, what, message) => {
    await expect(run(options, what)).rejects.toThrow(message);
  });
});
