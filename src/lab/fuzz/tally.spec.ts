import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { campaignId, canonicalText } from './canonical.ts';
import { fakeBlock, fakeCampaign } from './runner.fixture.ts';
import {
  addBlock,
  betterFind,
  caseCount,
  corpusOf,
  decodeTally,
  emptyTally,
  encodeTally,
  join,
  numberedFinds,
  type Tally,
} from './tally.ts';
import type { BlockResult, Find } from './types.ts';

const campaign = fakeCampaign();
const id = campaignId(campaign);
const text = (tally: Tally): string => encodeTally(tally, id);

function tallyOf(blocks: Iterable<number>): Tally {
  const tally = emptyTally();
  for (const block of blocks) addBlock(tally, fakeBlock(campaign, block));
  return tally;
}

const result = (block: number, more: Partial<BlockResult> = {}): BlockResult => ({
  block,
  cases: 10,
  coverage: [],
  corpus: [],
  finds: [],
  ...more,
});
const find = (block: number, at: number, program: string, signature = 's'): Find => ({
  signature,
  block,
  case: at,
  input: null,
  outcomes: null,
  program,
  words: '',
});

describe('a campaign has one name', () => {
  it('whatever the order of its fields', () => {
    const { kind, kvm, ...rest } = campaign;
    expect(campaignId({ ...rest, kvm, kind })).toBe(id);
    expect(campaignId({ ...campaign, golden: undefined } as never)).toBe(id);
    expect(id).toMatch(/^[0-9a-f]{16}$/);
  });

  it('and another one when any field differs', () => {
    expect(campaignId({ ...campaign, seed: 2 })).not.toBe(id);
    expect(campaignId({ ...campaign, topologies: [] })).not.toBe(id);
  });

  it('and what JSON cannot say is refused', () => {
    expect(canonicalText({ b: [1, null, 'x'], a: true })).toBe('{"a":true,"b":[1,null,"x"]}');
    expect(() => canonicalText({ a: 1n })).toThrow('no JSON for bigint 1');
    expect(() => canonicalText([Number.NaN])).toThrow('no JSON for number NaN');
  });
});

describe('a tally', () => {
  it('counts a block once', () => {
    const tally = emptyTally();
    expect(addBlock(tally, result(4)).added).toBe(true);
    expect(addBlock(tally, result(4, { cases: 99, coverage: [1] })).added).toBe(false);
    expect(caseCount(tally)).toBe(10);
    expect(tally.coverage.size).toBe(0);
  });

  it('keeps the corpora of the blocks that are first somewhere, and no others', () => {
    const tally = emptyTally();
    addBlock(tally, result(5, { coverage: [1, 2], corpus: ['e'] }));
    addBlock(tally, result(6, { coverage: [1, 2], corpus: ['f'] }));
    expect(corpusOf(tally)).toEqual(['e']);
    addBlock(tally, result(3, { coverage: [2], corpus: ['b', 'a', 'b'] }));
    expect(corpusOf(tally)).toEqual(['a', 'b', 'e']);
    addBlock(tally, result(1, { coverage: [1, 2], corpus: ['z'] }));
    expect(corpusOf(tally)).toEqual(['z']);
  });

  it('lets the shorter program stand for a signature, then the earlier case; comments do not count', () => {
    const short = find(9, 90, '# long\n# comment\n\n hlt\n');
    const long = find(1, 10, ' nop\n hlt\n');
    expect(betterFind(short, long)).toBe(short);
    expect(betterFind(long, short)).toBe(short);
    const earlier = find(2, 20, ' hlt\n');
    expect(betterFind(short, earlier)).toBe(earlier);
    const tally = emptyTally();
    expect(addBlock(tally, result(1, { finds: [long] })).finds).toEqual([long]);
    expect(addBlock(tally, result(9, { finds: [short] })).finds).toEqual([short]);
    expect(addBlock(tally, result(10, { finds: [find(10, 100, ' hlt')] })).finds).toEqual([]);
    expect(tally.finds.get('s')).toBe(short);
  });

  it('numbers finds by the case that stands for them', () => {
    const tally = emptyTally();
    addBlock(tally, result(2, { finds: [find(2, 25, 'x', 'c'), find(2, 21, 'x', 'z'), find(2, 21, 'x', 'y')] }));
    addBlock(tally, result(1, { finds: [find(1, 19, 'x', 'b')] }));
    expect(numberedFinds(tally).map(({ signature }) => signature)).toEqual(['b', 'y', 'z', 'c']);
  });

  it('is written as runs of blocks, and read back', () => {
    const tally = tallyOf([7, 0, 1, 2, 9, 8, 4]);
    addBlock(tally, result(10, { cases: 3 }));
    expect(JSON.parse(text(tally)).blocks).toEqual([
      [0, 2, 100],
      [4, 4, 100],
      [7, 9, 100],
      [10, 10, 3],
    ]);
    expect(JSON.parse(text(tally)).cases).toBe(703);
    expect(text(decodeTally(text(tally), id, 'x'))).toBe(text(tally));
    expect(text(decodeTally(text(emptyTally()), id, 'x'))).toBe(text(emptyTally()));
  });

  it.each([
    ['', 'results.json: not the results of a campaign (no JSON)'],
    ['null', 'results.json: not the results of a campaign'],
    ['{"blocks": []}', 'results.json: not the results of a campaign'],
    [encodeTally(emptyTally(), 'other'), 'results.json: the results of another campaign'],
  ])('is not read from %j', (wrong, message) => {
    expect(() => decodeTally(wrong, id, 'results.json')).toThrow(message);
  });

  it('is the same however its blocks are ordered, repeated and spread over tallies that are joined', () => {
    const blocks = fc.array(fc.nat(60), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(blocks, { minLength: 1, maxLength: 5 }), (parts) => {
        const whole = emptyTally();
        for (const part of parts) join(whole, tallyOf(part));
        const backwards = emptyTally();
        for (const part of [...parts, ...parts].reverse()) join(backwards, tallyOf(part.reverse()));
        const ascending = tallyOf([...new Set(parts.flat())].sort((a, b) => a - b));
        expect(text(whole)).toBe(text(ascending));
        expect(text(backwards)).toBe(text(ascending));
        expect(caseCount(whole)).toBe(100 * new Set(parts.flat()).size);
      }),
      { seed: 1, numRuns: 150 },
    );
  });
});
