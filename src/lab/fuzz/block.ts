/**
 * A campaign as numbered blocks. The result of a block is a function of the campaign and the block's number and of nothing else, so that
 * threads, machines, shards, resumption and merging only decide who computes which block.
 */
import { KvmscopeError } from '../../errors.ts';
import { resolveEra, type SwitchName } from '../../kvm/eras.ts';
import { Comparison, caseToJson, type Difference, encodeCase, signatureOf, stepName } from './compare.ts';
import { differingSwitches, eraWith, findProgram, referenceEra, type Sides, storyOf } from './find.ts';
import { Generator } from './generate.ts';
import { Invariants } from './invariants.ts';
import { ModelTarget } from './model-target.ts';
import { shrink } from './shrink.ts';
import type { Target } from './target.ts';
import {
  type BlockResult,
  type Campaign,
  Case,
  type Find,
  Outcome,
  RESULT_FASTPATH,
  RESULT_STATUS,
  type Topology,
} from './types.ts';

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

/** Where the sides of a campaign come from. */
export interface OpenOptions {
  /** Opens the model of one side; default: the one of these modules. */
  readonly open?: (side: 'kvm' | 'against', topology: Topology, era: string, direct: boolean) => Promise<ModelTarget>;
}

const KINDS: readonly string[] = ['icr', 'hypercall', 'msr', 'sequence'];
/** Cases between two looks at the signal. */
const CHUNK = 1024;
/** One case in so many is executed twice, and after it nobody may have changed whom no case touched. */
const TWICE = 64;
/** One case in so many that took the fastpath is executed on the slow path, too. */
const SLOWLY = 8;
const MOST_CORPUS = 256;
const NOVELTIES = 1 << 16;
/** An era without a fastpath. */
const SLOW_ERA = '5.5';

/** Sets up what a campaign needs. Throws KvmscopeError('usage') for one that makes no sense. */
export async function openCampaign(campaign: Campaign, options: OpenOptions = {}): Promise<CampaignRunner> {
  if (!KINDS.includes(campaign.kind)) throw new KvmscopeError('usage', `no fuzzing of kind ${campaign.kind}`);
  if (campaign.topologies.length === 0) throw new KvmscopeError('usage', 'a campaign needs a topology');
  const open = options.open ?? ((_side, topology, era, direct) => ModelTarget.open(topology, { era, direct }));
  resolveEra(campaign.kvm);
  const rooms: Room[] = [];
  try {
    for (const topology of campaign.topologies) rooms.push(await openRoom(campaign, topology, open));
  } catch (error) {
    for (const room of rooms) room.dispose();
    throw error;
  }
  return new Runner(campaign, rooms, open);
}

type Open = NonNullable<OpenOptions['open']>;

async function openRoom(campaign: Campaign, topology: Topology, open: Open): Promise<Room> {
  const { kvm, against, direct } = campaign;
  const model = await open('kvm', topology, kvm, direct);
  const other = against === undefined ? undefined : await open('against', topology, against, direct);
  const slow = resolveEra(kvm).fastpath
    ? await open('kvm', topology, `${kvm}+fastpath@${SLOW_ERA}`, direct)
    : undefined;
  return new Room(topology, model, other, slow);
}

type Kind = 'difference' | 'host bug' | 'invariant';

/** Why a case is a find. */
interface Verdict {
  readonly kind: Kind;
  readonly signature: string;
  readonly what: string;
  readonly differences: readonly Difference[];
}

/** One topology with its targets. */
class Room {
  readonly topology: Topology;
  readonly model: ModelTarget;
  readonly other: Target | undefined;
  readonly slow: ModelTarget | undefined;
  readonly comparison: Comparison | undefined;
  readonly invariants: Invariants;
  readonly outcome: Outcome;
  readonly otherOutcome: Outcome;
  readonly #again: Comparison;
  readonly #slowly: Comparison | undefined;

  constructor(topology: Topology, model: ModelTarget, other: Target | undefined, slow: ModelTarget | undefined) {
    this.topology = topology;
    this.model = model;
    this.other = other;
    this.slow = slow;
    this.comparison = other === undefined ? undefined : new Comparison(model, other);
    this.invariants = new Invariants(model);
    this.outcome = new Outcome(topology.vcpus);
    this.otherOutcome = new Outcome(topology.vcpus);
    this.#again = new Comparison(model, model);
    this.#slowly = slow === undefined ? undefined : new Comparison(model, slow);
  }

  dispose(): void {
    for (const target of [this.model, this.other, this.slow]) target?.dispose();
  }

  /** Executes a case on the model alone; whether its outcome breaks something. */
  runModel(test: Case): string {
    this.model.run(test, this.outcome);
    return this.outcome.end !== '' ? this.outcome.end : this.invariants.broken(test, this.outcome);
  }

  /** Executes it on the other side; whether both agree. Call `runModel` first. */
  agrees(test: Case): boolean {
    if (this.other === undefined || this.comparison === undefined) return true;
    this.other.run(test, this.otherOutcome);
    return this.comparison.equal(this.outcome, this.otherOutcome);
  }

  /** Whether the same case has the same outcome once more. Call `runModel` first. */
  repeats(test: Case): boolean {
    this.model.run(test, this.otherOutcome);
    return this.#again.equal(this.outcome, this.otherOutcome);
  }

  /** Whether the slow path has the effect that the fastpath had. Call `runModel` first. */
  sameSlowly(test: Case): boolean {
    if (this.slow === undefined || this.#slowly === undefined || this.outcome.results[RESULT_FASTPATH] !== 1)
      return true;
    this.slow.run(test, this.otherOutcome);
    const { results } = this.otherOutcome;
    // Which of the two it was is the one thing that differs.
    results[RESULT_FASTPATH] = 1;
    return this.#slowly.equal(this.outcome, this.otherOutcome);
  }

  /** The first reason why a case is a find, with everything that is compared. */
  judge(test: Case): Verdict | undefined {
    const broken = this.runModel(test);
    if (this.outcome.end === '' && broken !== '') return rule(broken, test);
    if (!this.agrees(test)) {
      const differences = (this.comparison as Comparison).differences(test, this.outcome, this.otherOutcome);
      if (this.outcome.end.startsWith('host bug')) return hostBug(this.outcome.end, differences);
      return { kind: 'difference', signature: signatureOf(differences), what: '', differences };
    }
    if (this.outcome.end.startsWith('host bug')) return hostBug(this.outcome.end, []);
    if (this.outcome.end !== '') return rule(`a case ends with '${this.outcome.end}'`, test);
    if (!this.sameSlowly(test)) return rule('the slow path has another effect than the fastpath', test);
    if (this.model.checkUntouched() >= 0) return rule('a vCPU changes that no message reached', test);
    this.runModel(test);
    if (!this.repeats(test)) return rule('the same case has another outcome the second time', test);
    return undefined;
  }
}

const rule = (what: string, test: Case): Verdict => ({
  kind: 'invariant',
  signature: `${stepName(test, 0)}: ${what}`,
  what,
  differences: [],
});

const hostBug = (end: string, differences: readonly Difference[]): Verdict => ({
  kind: 'host bug',
  signature: end,
  what: end.replace(/^host bug /, ''),
  differences,
});

/** A raw find: the first case of its signature in this block. */
interface Raw {
  readonly number: number;
  readonly test: Case;
  readonly verdict: Verdict;
}

/** What a find is but for the case in which it was seen. */
type Essence = Omit<Find, 'block' | 'case'>;

class Runner implements CampaignRunner {
  readonly campaign: Campaign;
  readonly #rooms: readonly Room[];
  readonly #open: Open;
  /** Targets for explanations: by topology and era. */
  readonly #extra = new Map<string, ModelTarget>();
  /** By topology, signature and smallest case: equal inputs, equal results. */
  readonly #known = new Map<string, Essence>();

  constructor(campaign: Campaign, rooms: readonly Room[], open: Open) {
    this.campaign = campaign;
    this.#rooms = rooms;
    this.#open = open;
  }

  dispose(): void {
    for (const room of this.#rooms) room.dispose();
    for (const target of this.#extra.values()) target.dispose();
  }

  async runBlock(block: number, { signal, onProgress }: RunBlockOptions = {}): Promise<BlockResult | undefined> {
    const { kind, seed, blockSize } = this.campaign;
    const place = block % this.#rooms.length;
    const room = this.#rooms[place];
    const generator = new Generator(kind, room.topology, mix(seed, block));
    const hunt = new Hunt(room, generator, block * blockSize);
    for (let done = 0; done < blockSize; done += CHUNK) {
      if (signal?.aborted) return undefined;
      hunt.run(Math.min(CHUNK, blockSize - done));
      onProgress?.(Math.min(done + CHUNK, blockSize));
      await breath();
    }
    const finds = new Map<string, Find>();
    for (const { number, test, verdict } of hunt.raw.values()) {
      if (signal?.aborted) return undefined;
      const essence = await this.#essence(place, test, verdict);
      const known = finds.get(essence.signature);
      // Several raw signatures may turn out to be one.
      if (known !== undefined && known.program.length <= essence.program.length) continue;
      finds.set(essence.signature, { block, case: number, ...essence });
    }
    return { block, cases: blockSize, coverage: hunt.coverage(), corpus: hunt.corpus, finds: [...finds.values()] };
  }

  /** Shrinks a raw find and tells it. */
  async #essence(place: number, raw: Case, verdict: Verdict): Promise<Essence> {
    const room = this.#rooms[place];
    const { test, path } = shrink(raw, (candidate) => room.judge(candidate)?.signature === verdict.signature);
    const key = `${place} ${verdict.signature} ${encodeCase(test)}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const final = room.judge(test) ?? verdict;
    const sides = this.#sides(verdict.kind);
    const switches = await this.#explain(place, test, sides);
    const names: [string, string | undefined] = [
      room.model.name,
      room.other?.name ?? (sides.against === undefined ? undefined : `KVM ${sides.against}`),
    ];
    const story = { ...final, names, switches, test, topology: room.topology };
    const words = storyOf(story);
    const program = await findProgram(test, room.topology, sides, words);
    const essence: Essence = {
      signature:
        switches.length > 0
          ? `${verdict.kind === 'host bug' ? `${verdict.signature}, ` : ''}switch ${switches.join(' or ')}`
          : verdict.signature,
      input: { topology: room.topology, steps: caseToJson(test), encoded: encodeCase(test), path },
      outcomes: {
        names: names.filter((name) => name !== undefined),
        differences: final.differences.map(({ field, sides: [a, b] }) => ({ field, a, b })),
        end: room.outcome.end,
      },
      program: program.source,
      words: program.distinguishes ? words : `${words} The program below does not show it by itself.`,
    };
    this.#known.set(key, essence);
    return essence;
  }

  /** The eras between which a find is told. */
  #sides(kind: Kind): Sides {
    const { kvm, against } = this.campaign;
    const other =
      kind === 'invariant'
        ? undefined
        : against === undefined
          ? referenceEra(kvm)
          : isEra(against)
            ? against
            : undefined;
    return other === undefined ? { kvm } : { kvm, against: other };
  }

  /** Switches of which each alone makes the first side come out as the second. */
  async #explain(place: number, test: Case, { kvm, against }: Sides): Promise<SwitchName[]> {
    if (against === undefined || kvm === against) return [];
    const room = this.#rooms[place];
    const there = await this.#target(place, against);
    const wanted = new Outcome(room.topology.vcpus);
    const outcome = new Outcome(room.topology.vcpus);
    there.run(test, wanted);
    const found: SwitchName[] = [];
    for (const name of differingSwitches(resolveEra(kvm), resolveEra(against))) {
      const target = await this.#target(place, eraWith(kvm, name, against));
      target.run(test, outcome);
      if (new Comparison(target, there).equal(outcome, wanted)) found.push(name);
    }
    return found;
  }

  async #target(place: number, era: string): Promise<ModelTarget> {
    const key = `${place} ${era}`;
    const known = this.#extra.get(key);
    if (known !== undefined) return known;
    const target = await this.#open('kvm', this.#rooms[place].topology, era, this.campaign.direct);
    this.#extra.set(key, target);
    return target;
  }
}

/** The cases of one block as they are executed. */
class Hunt {
  readonly corpus: string[] = [];
  /** By signature. */
  readonly raw = new Map<string, Raw>();
  readonly #room: Room;
  readonly #generator: Generator;
  readonly #test = new Case();
  readonly #reached = new Int32Array(4);
  /** By a hash of the decision points of a case and how it ended. */
  readonly #seen = new Uint8Array(NOVELTIES);
  #number: number;
  #fast = 0;

  constructor(room: Room, generator: Generator, first: number) {
    this.#room = room;
    this.#generator = generator;
    this.#number = first;
  }

  run(count: number): void {
    const room = this.#room;
    const test = this.#test;
    const { decisions } = room.model;
    for (let i = 0; i < count; i++) {
      const number = this.#number++;
      this.#generator.next(test);
      decisions.fill(0);
      const broken = room.runModel(test);
      const novel = this.#look(decisions);
      if (novel) {
        this.#generator.keep(test);
        if (this.corpus.length < MOST_CORPUS) this.corpus.push(encodeCase(test));
      }
      let suspect = broken !== '' || !room.agrees(test);
      if (room.outcome.results[RESULT_FASTPATH] === 1 && (novel || ++this.#fast % SLOWLY === 0))
        suspect ||= !room.sameSlowly(test);
      if (number % TWICE === 0) suspect ||= room.judge(test) !== undefined;
      if (suspect) this.#suspect(test, number);
    }
  }

  /** Remembers what a case reached; whether that combination is new. */
  #look(decisions: Int32Array): boolean {
    const { results, end } = this.#room.outcome;
    let hash = results[RESULT_STATUS] + end.length * 7 + results[RESULT_FASTPATH] * 31;
    for (let word = 0; word < decisions.length; word++) {
      this.#reached[word] |= decisions[word];
      hash = Math.imul(hash ^ decisions[word], 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    const at = hash & (NOVELTIES - 1);
    if (this.#seen[at] === 1) return false;
    this.#seen[at] = 1;
    return true;
  }

  #suspect(test: Case, number: number): void {
    const verdict = this.#room.judge(test);
    if (verdict === undefined || this.raw.has(verdict.signature)) return;
    const kept = new Case();
    kept.assign(test);
    this.raw.set(verdict.signature, { number, test: kept, verdict });
  }

  coverage(): number[] {
    const points: number[] = [];
    for (let word = 0; word < this.#reached.length; word++) {
      for (let bit = 0; bit < 32; bit++) if ((this.#reached[word] >>> bit) & 1) points.push(word * 32 + bit);
    }
    return points;
  }
}

const isEra = (name: string): boolean => name !== 'golden' && !name.startsWith('/');

/** A seed for each block. */
function mix(seed: number, block: number): number {
  let x = Math.imul(seed ^ 0x5bf03635, 0x9e3779b1) ^ Math.imul(block + 1, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

/** Lets whoever waits for the event loop have a look. */
const breath = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
