import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { CampaignDirectory } from './directory.ts';
import { mergeCampaigns } from './merge.ts';
import { fakeBlock, fakeCampaign } from './runner.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'kvmscope-merge-'));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;
const fresh = (): string => join(root, String(count++));

const campaign = fakeCampaign();
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const contents = (dir: string): [string, string][] =>
  readdirSync(dir)
    .sort()
    .map((name) => [name, readFileSync(join(dir, name), 'utf8')]);

function written(blocks: Iterable<number>, what = campaign): string {
  const dir = fresh();
  const directory = CampaignDirectory.open(dir, what);
  for (const block of blocks) directory.add(fakeBlock(what, block));
  directory.close();
  return dir;
}

describe('merging', () => {
  it('gives the directory that one run would have given, whatever the order and repetition', () => {
    const parts = [0, 1, 2].map((index) => written(upTo(18).filter((block) => block % 3 === index)));
    parts.push(written([0, 4, 8]), written([]));
    const whole = contents(written(upTo(18)));
    fc.assert(
      fc.property(fc.shuffledSubarray([...parts, ...parts], { minLength: 8 }), (order) => {
        const missing = parts.slice(0, 3).filter((part) => !order.includes(part));
        const out = fresh();
        mergeCampaigns([...order, ...missing], out);
        expect(contents(out)).toEqual(whole);
        mergeCampaigns([out, ...order], out);
        expect(contents(out)).toEqual(whole);
      }),
      { seed: 1, numRuns: 12 },
    );
  });

  it('keeps what the output directory has already, if the campaign is the same', () => {
    const out = written([9]);
    mergeCampaigns([written([1]), written([2])], out);
    expect(contents(out)).toEqual(contents(written([1, 2, 9])));
  });

  it('takes a directory that is being written as it is', () => {
    const dir = fresh();
    const directory = CampaignDirectory.open(dir, campaign);
    directory.add(fakeBlock(campaign, 3));
    const out = fresh();
    expect([...mergeCampaigns([dir], out).tally.blocks.keys()]).toEqual([3]);
    directory.close();
  });

  it('refuses different campaigns and writes nothing then', () => {
    const [a, b, other] = [written([0]), written([1]), written([2], fakeCampaign(2))];
    const out = fresh();
    expect(() => mergeCampaigns([a, b, other], out)).toThrow(`${a} and ${other} belong to different campaigns`);
    expect(() => readdirSync(out)).toThrow('ENOENT');
    expect(() => mergeCampaigns([a], other)).toThrow(`${other} belongs to another campaign: seed 2 instead of 1`);
    expect(() => mergeCampaigns([a, fresh()], out)).toThrow('is no campaign directory (no campaign.json)');
    expect(() => mergeCampaigns([], out)).toThrow('nothing to merge');
  });
});
