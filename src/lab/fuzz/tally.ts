/**
 * What is known of a campaign: the union of the results of its blocks. Joining tallies is commutative, associative and idempotent,
 * and the text form is canonical; so it does not matter who computed which block when, in what order and how often.
 */
import { KvmscopeError } from '../../errors.ts';
import { canonical, canonicalText } from './canonical.ts';
import type { BlockResult, Find } from './types.ts';

export interface Tally {
  /** Finished blocks, and how many cases each had. */
  readonly blocks: Map<number, number>;
  /** Decision points that were reached, and the lowest block that did. */
  readonly coverage: Map<number, number>;
  /** The corpora of those blocks that are first at some decision point: other blocks reach nothing more. */
  readonly corpus: Map<number, readonly string[]>;
  /** By signature, the shortest program. */
  readonly finds: Map<string, Find>;
}

export const emptyTally = (): Tally => ({
  blocks: new Map(),
  coverage: new Map(),
  corpus: new Map(),
  finds: new Map(),
});

/** Lines of a program that are neither empty nor a comment. */
const codeLines = (program: string): number => program.split('\n').filter((line) => !/^\s*(#.*)?$/.test(line)).length;

/** Which of two finds of one signature stands for it: the shorter program, then the earlier case. */
export function betterFind(a: Find, b: Find): Find {
  const order = codeLines(a.program) - codeLines(b.program) || a.block - b.block || a.case - b.case;
  return order <= 0 ? a : b;
}

/** What changed, so that a caller knows whether to tell anyone. */
export interface Addition {
  /** False: the block was there already, and nothing changed. */
  readonly added: boolean;
  /** Finds whose signature is new, or that have a shorter program now. */
  readonly finds: readonly Find[];
}

export const NOTHING: Addition = { added: false, finds: [] };

/** Adds the result of one block; a block that is there already changes nothing. */
export function addBlock(tally: Tally, result: BlockResult): Addition {
  if (tally.blocks.has(result.block)) return NOTHING;
  const finds = join(tally, {
    blocks: new Map([[result.block, result.cases]]),
    coverage: new Map(result.coverage.map((point) => [point, result.block])),
    corpus: new Map([[result.block, sortedUnique(result.corpus)]]),
    finds: bySignature(result.finds),
  });
  return { added: true, finds };
}

function bySignature(finds: readonly Find[]): Map<string, Find> {
  const map = new Map<string, Find>();
  for (const find of finds) {
    const known = map.get(find.signature);
    map.set(find.signature, known ? betterFind(known, find) : find);
  }
  return map;
}

const sortedUnique = (texts: readonly string[]): readonly string[] => [...new Set(texts)].sort();

/** Joins `other` into `tally`; returns the finds that are new or have a shorter program now. */
export function join(tally: Tally, other: Tally): readonly Find[] {
  for (const [block, cases] of other.blocks) tally.blocks.set(block, cases);
  for (const [point, block] of other.coverage) {
    const first = tally.coverage.get(point);
    if (first === undefined || block < first) tally.coverage.set(point, block);
  }
  for (const [block, cases] of other.corpus) tally.corpus.set(block, cases);
  const firsts = new Set(tally.coverage.values());
  for (const block of tally.corpus.keys()) if (!firsts.has(block)) tally.corpus.delete(block);
  const changed: Find[] = [];
  for (const [signature, find] of other.finds) {
    const known = tally.finds.get(signature);
    const better = known ? betterFind(known, find) : find;
    if (better === known) continue;
    if (better.program !== known?.program) changed.push(better);
    tally.finds.set(signature, better);
  }
  return changed;
}

export const caseCount = (tally: Tally): number => [...tally.blocks.values()].reduce((sum, cases) => sum + cases, 0);

/** The finds in the order of their numbers: by the case that stands for each. */
export const numberedFinds = (tally: Tally): Find[] =>
  [...tally.finds.values()].sort(
    (a, b) => a.block - b.block || a.case - b.case || (a.signature < b.signature ? -1 : 1),
  );

/** The corpus as one sorted list. */
export const corpusOf = (tally: Tally): readonly string[] => sortedUnique([...tally.corpus.values()].flat());

/** Blocks as runs [first, last, cases of each]. */
function runsOf(blocks: ReadonlyMap<number, number>): [number, number, number][] {
  const runs: [number, number, number][] = [];
  for (const [block, cases] of ascending(blocks)) {
    const run = runs.at(-1);
    if (run && run[1] === block - 1 && run[2] === cases) run[1] = block;
    else runs.push([block, block, cases]);
  }
  return runs;
}

const ascending = <T>(map: ReadonlyMap<number, T>): [number, T][] => [...map].sort(([a], [b]) => a - b);

/** A tally as text: one JSON object, one line for each entry of its lists, so that two of them can be compared by eye. */
export function encodeTally(tally: Tally, campaign: string): string {
  const list = (name: string, entries: readonly unknown[]): string =>
    `${JSON.stringify(name)}: [${entries.map((entry) => `\n  ${JSON.stringify(entry)}`).join(',')}${entries.length > 0 ? '\n' : ''}]`;
  const fields = [
    `"kvmscope": 1`,
    `"campaign": ${JSON.stringify(campaign)}`,
    `"cases": ${caseCount(tally)}`,
    list('blocks', runsOf(tally.blocks)),
    list('coverage', ascending(tally.coverage)),
    list('corpus', ascending(tally.corpus)),
    list('finds', numberedFinds(tally).map(canonical)),
  ];
  return `{\n${fields.join(',\n')}\n}\n`;
}

/** Reads what encodeTally wrote. */
export function decodeTally(text: string, campaign: string, path: string): Tally {
  const wrong = (what: string): never => {
    throw new KvmscopeError('campaign', `${path}: ${what}`);
  };
  let data: { campaign: string; blocks: number[][]; coverage: number[][]; corpus: [number, string[]][]; finds: Find[] };
  try {
    data = JSON.parse(text);
  } catch {
    return wrong('not the results of a campaign (no JSON)');
  }
  const lists = [data?.blocks, data?.coverage, data?.corpus, data?.finds];
  if (!lists.every(Array.isArray)) return wrong('not the results of a campaign');
  if (data.campaign !== campaign) return wrong('the results of another campaign');
  const tally = emptyTally();
  for (const [first, last, cases] of data.blocks) {
    for (let block = first; block <= last; block++) tally.blocks.set(block, cases);
  }
  for (const [point, block] of data.coverage) tally.coverage.set(point, block);
  for (const [block, cases] of data.corpus) tally.corpus.set(block, cases);
  for (const find of data.finds) tally.finds.set(find.signature, find);
  return tally;
}

/** The result of a block with nothing in it but what JSON keeps, as every way to a tally carries it. */
export const plainResult = (result: BlockResult): BlockResult => JSON.parse(canonicalText(result)) as BlockResult;
