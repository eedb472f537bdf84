/**
 * A campaign as numbered blocks. The result of a block is a function of the campaign and the block's number and of nothing else, so that
 * threads, machines, shards, resumption and merging only decide who computes which block.
 */
import { KvmscopeError } from '../../errors.ts';
import { ERAS, NEWEST_ERA, resolveEra, type SwitchName } from '../../kvm/eras.ts';
import { Comparison, caseToJson, type Difference, encodeCase, performers, signatureOf, stepName } from './compare.ts';
import { differingSwitches, eraWith, findProgram, type Sides, storyOf } from './find.ts';
import { Generator, removeStep } from './generate.ts';
import { type GoldenOptions, openGolden } from './golden.ts';
import { Invariants } from './invariants.ts';
import { openLiveTarget } from './live-kvm.ts';
import { ModelTarget } from './model-target.ts';
import { openRaceCampaign } from './race/runner.ts';
import { shrink, sizeOf } from './shrink.ts';
import type { Target } from './target.ts';
import {
  type BlockResult,
  type Campaign,
  Case,
  type Find,
  Outcome,
  RESULT_FASTPATH,
  RESULT_STATUS,
  RESULT_WORDS,
  STEP_OP,
  STEP_WORDS,
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
export interface OpenOptions extends GoldenOptions {
  /** Opens the model of one side; default: the one of these modules. */
  readonly open?: (side: 'kvm' | 'against', topology: Topology, era: string, direct: boolean) => Promise<ModelTarget>;
}

const KINDS: readonly string[] = ['icr', 'hypercall', 'msr', 'sequence'];
/** Cases between two looks at the signal. */
const CHUNK = 1024;
/** One case in so many is executed twice, and after it nobody may have changed whom no case touched. */
const TWICE = 256;
/** One case in so many that took the fastpath is executed on the slow path, too. */
const SLOWLY = 16;
const MOST_CORPUS = 256;
const NOVELTIES = 1 << 16;
/** The other side is what was recorded. */
export const GOLDEN = 'golden';
/** The other side is the machine's KVM. */
export const LIVE = '/dev/kvm';
/** An era without a fastpath. */
const SLOW_ERA = '5.5';

/** Sets up what a campaign needs. Throws KvmscopeError('usage') for one that makes no sense. */
export async function openCampaign(campaign: Campaign, options: OpenOptions = {}): Promise<CampaignRunner> {
  if (campaign.kind === 'race') return openRaceCampaign(campaign);
  if (!KINDS.includes(campaign.kind)) throw new KvmscopeError('usage', `no fuzzing of kind ${campaign.kind}`);
  if (campaign.against === GOLDEN) return openGolden(campaign, options);
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
  const { kvm, against } = campaign;
  const live = against === LIVE;
  // Handlers alone do not show what the machine's KVM does: MP states. There `direct` is about the machine's side.
  const direct = campaign.direct && !live;
  const model = await open('kvm', topology, kvm, direct);
  let other: Target | undefined;
  try {
    if (live) other = await openLiveTarget(topology, model.start, { direct: campaign.direct });
    else if (against !== undefined) other = await open('against', topology, against, direct);
    const slow = resolveEra(kvm).fastpath
      ? await open('kvm', topology, `${kvm}+fastpath@${SLOW_ERA}`, direct)
      : undefined;
    return new Room(topology, model, other, slow);
  } catch (error) {
    model.dispose();
    other?.dispose();
    throw error;
  }
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
    if (this.other === undefined || this.comparison === undefined || this.other.skips?.(test)) return true;
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
    // Which of the two it was is the one thing that differs.
    for (let at = RESULT_FASTPATH; at < this.outcome.steps * RESULT_WORDS; at += RESULT_WORDS) {
      this.otherOutcome.results[at] = this.outcome.results[at];
    }
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
  /** By topology, signature and smallest case: equal inputs, equal results. */
  readonly #known = new Map<string, Essence>();

  constructor(campaign: Campaign, rooms: readonly Room[], open: Open) {
    this.campaign = campaign;
    this.#rooms = rooms;
    this.#open = open;
  }

  dispose(): void {
    for (const room of this.#rooms) room.dispose();
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
    const finds = await this.#tell(place, [...hunt.raw.values()], signal);
    if (finds === undefined) return undefined;
    return {
      block,
      cases: blockSize,
      coverage: hunt.coverage(),
      corpus: hunt.corpus,
      finds: finds.map((find) => ({ block, ...find })),
    };
  }

  /** Shrinks raw finds, explains them, and tells the smallest of each signature. Undefined: aborted. */
  async #tell(
    place: number,
    raws: readonly Raw[],
    signal: RunBlockOptions['signal'],
  ): Promise<Omit<Find, 'block'>[] | undefined> {
    const room = this.#rooms[place];
    const small: Small[] = [];
    for (const { number, test: raw, verdict } of raws) {
      if (signal?.aborted) return undefined;
      const { test, path: shrinkPath } = shrink(
        raw,
        (candidate) => room.judge(candidate)?.signature === verdict.signature,
      );
      small.push({
        number,
        test,
        shrinkPath,
        verdict: room.judge(test) ?? verdict,
        sides: { kvm: this.campaign.kvm },
        switches: [],
      });
    }
    const chosen = new Map<string, Small>();
    for (const one of await this.#explainAll(place, small)) {
      const { switches, verdict } = one;
      const signature =
        switches.length > 0 && verdict.kind === 'difference' ? `switch ${switches.join(' or ')}` : verdict.signature;
      const known = chosen.get(signature);
      if (known === undefined || sizeOf(one.test) < sizeOf(known.test)) chosen.set(signature, one);
    }
    const finds: Omit<Find, 'block'>[] = [];
    for (const [signature, one] of chosen) {
      if (signal?.aborted) return undefined;
      const key = `${place} ${signature} ${encodeCase(one.test)}`;
      const essence = this.#known.get(key) ?? (await this.#essence(signature, ...(await this.#plainest(place, one))));
      this.#known.set(key, essence);
      finds.push({ case: one.number, ...essence });
    }
    return finds;
  }

  /**
   * The first VM of the campaign on which a case shows the same, for the same reason, and what it shows there: what needs no disabled
   * APICs or sparse ids is not told with them. Only VMs whose code and APICs are in the same mode can execute the same case.
   */
  async #plainest(place: number, one: Small): Promise<[Room, Small]> {
    const { topology } = this.#rooms[place];
    const vcpus = Math.max(...performers(one.test)) + 1;
    for (const [other, room] of this.#rooms.slice(0, place).entries()) {
      const { apic, mode, cpl } = room.topology;
      if (apic !== topology.apic || mode !== topology.mode || cpl !== topology.cpl || vcpus > room.topology.vcpus)
        continue;
      const verdict = room.judge(one.test);
      if (verdict?.signature !== one.verdict.signature) continue;
      const [there] = await this.#explainAll(other, [
        { ...one, verdict, sides: { kvm: this.campaign.kvm }, switches: [] },
      ]);
      if (there.test === one.test && String(there.switches) === String(one.switches)) return [room, there];
    }
    return [this.#rooms[place], one];
  }

  async #essence(
    signature: string,
    room: Room,
    { test, shrinkPath, verdict, sides, switches }: Small,
  ): Promise<Essence> {
    room.judge(test);
    const names: [string, string | undefined] = [
      room.model.name,
      room.other?.name ?? (sides.against === undefined ? undefined : `KVM ${sides.against}`),
    ];
    const words = storyOf({ ...verdict, names, switches, test, topology: room.topology });
    const program = await findProgram(test, room.topology, sides, words, verdict.differences);
    return {
      signature,
      input: { topology: room.topology, steps: caseToJson(test), encoded: encodeCase(test), path: shrinkPath },
      outcomes: {
        names: names.filter((name) => name !== undefined),
        differences: verdict.differences.map(({ field, sides: [a, b] }) => ({ field, a, b })),
        end: room.outcome.end,
      },
      program: program.source,
      words: program.distinguishes ? words : `${words} The program does not show it by itself.`,
    };
  }

  /**
   * Finds the switches of which each alone makes the first side come out as the second. Looks for the first version between the two
   * that comes out so, and among the switches of that version. A host bug is told beside the oldest later version without it.
   */
  async #explainAll(place: number, small: readonly Small[]): Promise<Small[]> {
    const room = this.#rooms[place];
    const eras = new Eras((era) => this.#open('kvm', room.topology, era, this.campaign.direct));
    const told: Small[] = [];
    for (const one of small) {
      const first = one.verdict.kind === 'invariant' ? one : await this.#explain(eras, one);
      if (first.verdict.kind !== 'difference' || first.switches.length > 0 || one.test.length === 1) {
        told.push(first);
        continue;
      }
      // Several causes at once: what is left is a case of one of them.
      const { test, path: further } = shrink(one.test, (candidate) => room.judge(candidate)?.kind === 'difference');
      const shrinkPath = `${one.shrinkPath} ${further}`;
      told.push(await this.#explain(eras, { ...one, test, shrinkPath, verdict: room.judge(test) ?? one.verdict }));
    }
    eras.dispose();
    return told;
  }

  async #explain(eras: Eras, one: Small): Promise<Small> {
    const { kvm } = this.campaign;
    // Where both sides go down alike there is nothing to tell between them: the version without the bug is a later one.
    const alike = one.verdict.kind === 'host bug' && one.verdict.differences.length === 0;
    const against = alike ? undefined : this.campaign.against;
    const second = against !== undefined && isEra(against) ? against : undefined;
    const last = against ?? NEWEST_ERA.name;
    const versions = isEra(last) ? path(kvm, last) : [kvm];
    const change = await eras.firstChange(one, versions, against !== undefined);
    if (change === undefined) return second === undefined ? one : { ...one, sides: { kvm, against: second } };
    const [before, after] = change;
    let switches = await eras.switches(one.test, kvm, before, after);
    // A later version may undo what an earlier one did.
    if (switches.length === 0 && second !== undefined) switches = await eras.switches(one.test, kvm, kvm, second);
    return { ...one, switches, sides: { kvm, against: second ?? after } };
  }
}

/** A raw find after shrinking. */
interface Small {
  readonly number: number;
  readonly test: Case;
  readonly shrinkPath: string;
  readonly verdict: Verdict;
  readonly sides: Sides;
  readonly switches: readonly SwitchName[];
}

/** Models of many versions on one topology, each opened when first needed. */
class Eras {
  readonly #open: (era: string) => Promise<ModelTarget>;
  readonly #targets = new Map<string, ModelTarget>();

  constructor(open: (era: string) => Promise<ModelTarget>) {
    this.#open = open;
  }

  dispose(): void {
    for (const target of this.#targets.values()) target.dispose();
  }

  async #target(era: string): Promise<ModelTarget> {
    const known = this.#targets.get(era);
    if (known !== undefined) return known;
    const target = await this.#open(era);
    this.#targets.set(era, target);
    return target;
  }

  async sameOutcome(test: Case, a: string, b: string): Promise<boolean> {
    const [targetA, targetB] = [await this.#target(a), await this.#target(b)];
    const { vcpus } = targetA.topology;
    const [outcomeA, outcomeB] = [new Outcome(vcpus), new Outcome(vcpus)];
    targetA.run(test, outcomeA);
    targetB.run(test, outcomeB);
    return new Comparison(targetA, targetB).equal(outcomeA, outcomeB);
  }

  /** Switches between two versions of which each alone makes `kvm` come out as the second. */
  async switches(test: Case, kvm: string, before: string, after: string): Promise<SwitchName[]> {
    const found: SwitchName[] = [];
    for (const name of differingSwitches(resolveEra(before), resolveEra(after))) {
      if (await this.sameOutcome(test, eraWith(kvm, name, after), after)) found.push(name);
    }
    return found;
  }

  /** The first of `versions` that comes out as the last does; or, without a second side, that does not crash. */
  async firstChange(
    one: Small,
    versions: readonly string[],
    compared: boolean,
  ): Promise<readonly [before: string, after: string] | undefined> {
    const last = versions[versions.length - 1];
    for (let i = 1; i < versions.length; i++) {
      const ends = compared
        ? await this.sameOutcome(one.test, versions[i], last)
        : await this.#survives(one.test, versions[i]);
      if (ends) return [versions[i - 1], versions[i]];
    }
    return undefined;
  }

  async #survives(test: Case, era: string): Promise<boolean> {
    const target = await this.#target(era);
    const outcome = new Outcome(target.topology.vcpus);
    target.run(test, outcome);
    return outcome.end === '';
  }
}

/** Named versions from one era to another, both ends included, in this direction. */
function path(from: string, to: string): string[] {
  const [a, b] = [resolveEra(from).order, resolveEra(to).order];
  const between = ERAS.filter(({ order }) => order > Math.min(a, b) && order < Math.max(a, b)).map(({ name }) => name);
  return [from, ...(a < b ? between : between.reverse()), to];
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
    this.#reached.set(room.model.opened);
  }

  run(count: number): void {
    const room = this.#room;
    const test = this.#test;
    const { decisions } = room.model;
    for (let i = 0; i < count; i++) {
      const number = this.#number++;
      this.#generator.next(test);
      if (room.other?.lacks !== undefined) leaveOut(test, room.other.lacks);
      for (let word = 0; word < decisions.length; word++) decisions[word] = 0;
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
    // Without a second side a host bug has its name for signature.
    if (this.raw.has(this.#room.outcome.end)) return;
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

/** Takes steps out of a case, unless nothing is left of it. */
function leaveOut(test: Case, operations: ReadonlySet<number>): void {
  for (let step = test.length - 1; step >= 0 && test.length > 1; step--) {
    if (operations.has(test.words[step * STEP_WORDS + STEP_OP])) removeStep(test, step);
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
