/**
 * A search through the interleavings of the vCPUs of one program, instruction by instruction.
 *
 * Systematic first: schedules with no preemption, then with one, two … (a preemption takes the turn from a vCPU that could have gone on;
 * most races need few: Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded programs", 2007).
 * States that were seen before are not searched again, and a step that nobody else can tell the time of is made at once
 * (`independence.ts`). Then at random: vCPUs have priorities, which change at a few random steps (Burckhardt and others, "A randomized
 * scheduler with probabilistic guarantees of finding bugs", 2010), or every step is drawn.
 *
 * From every state that was searched some end must be in reach; if the search is complete and from some state there is none, the vCPUs
 * wait for each other for ever.
 */
import { Random } from '../../../machine/scheduler.ts';
import type { World } from './world.ts';

/** `none`: every schedule by itself. `states`: each state once. `full`: and independent steps in one order only. */
export type Reduction = 'none' | 'states' | 'full';

export interface ExploreOptions {
  readonly reduction: Reduction;
  /** Most preemptions of a systematic schedule; Infinity: all schedules. */
  readonly bound: number;
  /** Executions at most, systematic and random ones together. */
  readonly runs: number;
  /** Of these, how many at least are left to random schedules if the systematic ones do not cover everything; 0: none is random. */
  readonly randomRuns: number;
  /** Steps of one execution at most. */
  readonly maxSteps: number;
  readonly seed: number;
  /** Asked now and then. */
  readonly stop?: () => boolean;
}

/** Where an execution came to. `livelock`: to a state from which no end can be reached. */
export type LeafKind = 'ended' | 'cut' | 'livelock';

/** Told of every execution that ends in a way that was not seen before; the answer true ends the search. */
export type LeafVisitor = (kind: LeafKind, order: readonly number[], found: 'systematic' | 'random') => boolean;

export interface ExploreStats {
  /** Executions from the start to an end, to a state seen before, or to the limit of steps. */
  executions: number;
  /** Those of them with random schedules. */
  random: number;
  /** Complete schedules among the systematic ones. */
  schedules: number;
  /** Different states at which there was a choice. */
  states: number;
  /** Different states at ends. */
  ends: number;
  /** Steps executed, those included that lead back to a state. */
  steps: number;
  /** Executions that were cut at the limit of steps. */
  cut: number;
  /** Longest execution in steps. */
  longest: number;
  /** Most preemptions of the systematic schedules that were all executed, -1: not even those without any. */
  preemptions: number;
  /** Every interleaving is covered. */
  complete: boolean;
}

/** Steps of one vCPU up to a branch. */
interface Segment {
  readonly before: Segment | null;
  readonly vcpu: number;
  readonly steps: number;
}

/** A state to go on from with a certain step. */
interface Branch {
  readonly path: Segment | null;
  readonly vcpu: number;
  /** Number of the state among those with a choice, 0: the start. */
  readonly from: number;
}

/** Independent steps in a row after which the others get a turn all the same: the vCPU may never come out of them. */
const INDEPENDENT_LIMIT = 1000;
/** States and branches that are kept at most: the search is not systematic beyond them. */
const MAX_STATES = 500_000;
const MAX_BRANCHES = 1_000_000;
/** Executions cut at the limit of steps that are told: to look at one takes long, and they are all alike. */
const CUT_VISITS = 2;
/** Executions between two times that `stop` is asked. */
const STOP_INTERVAL = 64;
/** Number of the end in the graph of states; of the start; and the first of the others. */
const END = 0;
const START = 1;

export class Explorer {
  readonly stats: ExploreStats = {
    ...{ executions: 0, random: 0, schedules: 0, states: 0, ends: 0, steps: 0, cut: 0, longest: 0 },
    ...{ preemptions: -1, complete: false },
  };
  readonly #world: World;
  readonly #options: ExploreOptions;
  readonly #visit: LeafVisitor;
  /** Numbers of states with a choice, by fingerprint and, if preemptions are bounded, the vCPU whose turn it is. */
  #states = new Map<number | string, number>();
  #ends = new Set<number | string>();
  /** Edges of the graph of states, from and to in turn, and how to get to each state. */
  #edges: number[] = [];
  #paths: (Segment | null)[] = [];
  /** Branches to take, by the number of preemptions so far. */
  #levels: Branch[][] = [];
  #branches = 0;
  #stopped = false;
  /** Something was left out. */
  #abandoned = false;
  /** Path of the execution under way: up to the last branch, and from there. */
  #path: Segment | null = null;
  #vcpu = -1;
  #count = 0;
  #length = 0;

  constructor(world: World, options: ExploreOptions, visit: LeafVisitor) {
    this.#world = world;
    this.#options = options;
    this.#visit = visit;
  }

  run(): ExploreStats {
    const slices = this.slices();
    for (let slice = slices.next(); ; slice = slices.next()) if (slice.done === true) return slice.value;
  }

  /** The same, with a pause every now and then. */
  *slices(): Generator<void, ExploreStats> {
    const before = this.#world.steps;
    const { runs, randomRuns } = this.#options;
    const all = yield* this.#systematic(Math.max(1, runs - randomRuns));
    if (!all && !this.#stopped && randomRuns > 0) yield* this.#random(runs);
    this.stats.steps = this.#world.steps - before;
    return this.stats;
  }

  // ---- systematic ----

  /** Returns whether everything has been covered. */
  *#systematic(runs: number): Generator<void, boolean> {
    const { stats } = this;
    const { independence } = this.#world;
    for (;;) {
      const { generation } = independence;
      stats.preemptions = -1;
      stats.schedules = 0;
      stats.cut = 0;
      this.#states = new Map();
      this.#edges = [];
      this.#paths = [null, null];
      this.#levels = [[{ path: null, vcpu: -1, from: START }]];
      this.#branches = 1;
      this.#abandoned = false;
      const learned = yield* this.#levelsUpTo(runs, () => independence.generation !== generation);
      if (!learned) break;
      if (stats.executions >= runs || this.#stopped) break;
    }
    stats.states = this.#states.size;
    const left = this.#levels.some((level) => level.length > 0);
    stats.complete = !left && !this.#abandoned && !this.#stopped;
    if (stats.complete && this.#options.reduction !== 'none') this.#findLivelock();
    return stats.complete;
  }

  /** Takes branches in the order of preemptions until none is left or something was learned; returns whether that was so. */
  *#levelsUpTo(runs: number, learned: () => boolean): Generator<void, boolean> {
    const { stats } = this;
    const { bound } = this.#options;
    const reduced = this.#options.reduction === 'full';
    for (let level = 0; level < this.#levels.length && level <= bound; level++) {
      const branches = this.#levels[level];
      for (let branch = branches.pop(); branch !== undefined; branch = branches.pop()) {
        if (stats.executions >= runs || this.#paths.length >= MAX_STATES || this.#asked()) {
          branches.push(branch);
          return false;
        }
        this.#branches--;
        this.#execute(branch, level);
        if (stats.executions % STOP_INTERVAL === 0) yield;
        if (this.#stopped) return false;
        if (reduced && learned()) return true;
      }
      if (!this.#abandoned) stats.preemptions = level;
    }
    return false;
  }

  #execute(branch: Branch, level: number): void {
    const world = this.#world;
    const { stats } = this;
    stats.executions++;
    this.#replay(branch.path);
    let { from } = branch;
    let last = branch.vcpu;
    if (branch.vcpu >= 0) this.#step(branch.vcpu);
    let independent = 0;
    for (;;) {
      if (world.ended) {
        this.#edge(from, END);
        this.#end('systematic');
        stats.schedules++;
        return;
      }
      if (this.#length >= this.#options.maxSteps) {
        this.#edge(from, END);
        this.#cut('systematic');
        return;
      }
      const ready = this.#ready();
      const free = independent < INDEPENDENT_LIMIT ? this.#independent(ready, last) : -1;
      if (free >= 0) {
        // Whoever makes it: nobody can tell, so it is no preemption.
        this.#step(free);
        // One that waits for others is no good at going first.
        independent = world.yielded ? INDEPENDENT_LIMIT : independent + 1;
        continue;
      }
      const goesOn = last >= 0 && !world.yielded && ready.includes(last);
      if (ready.length > 1 || this.#length % STOP_INTERVAL === 0) {
        const to = this.#enter(goesOn ? last : -1, from);
        if (to < 0) return;
        from = to;
      }
      independent = 0;
      const next = goesOn ? last : this.#after(ready, last);
      // The last one pushed is the first one taken: the next vCPU in turn.
      for (let i = ready.length - 1; i >= 0; i--) {
        const other = ready[i];
        if (other !== next) this.#later({ path: this.#freeze(), vcpu: other, from }, goesOn ? level + 1 : level);
      }
      last = next;
      this.#step(next);
    }
  }

  /** The vCPU that can make a step now without anybody being able to tell, -1: none. The one whose turn it is comes first. */
  #independent(ready: readonly number[], last: number): number {
    if (this.#options.reduction !== 'full') return -1;
    let found = -1;
    // All of them are looked at: each look may teach something.
    for (const index of ready) {
      if (this.#world.independent(index) && (found < 0 || index === last)) found = index;
    }
    return found;
  }

  /** A state with a choice: its number if it is new, -1 if everything from there on is known. */
  #enter(last: number, from: number): number {
    const number = this.#paths.length;
    if (this.#options.reduction !== 'none') {
      const { fingerprint } = this.#world;
      const key = this.#options.bound === Number.POSITIVE_INFINITY ? fingerprint : `${fingerprint} ${last}`;
      const known = this.#states.get(key);
      if (known !== undefined) {
        this.#edge(from, known);
        return -1;
      }
      this.#states.set(key, number);
      this.#paths.push(this.#freeze());
      this.#edge(from, number);
    }
    return number;
  }

  #later(branch: Branch, level: number): void {
    if (this.#branches >= MAX_BRANCHES) {
      this.#abandoned = true;
      return;
    }
    this.#branches++;
    while (this.#levels.length <= level) this.#levels.push([]);
    this.#levels[level].push(branch);
  }

  #edge(from: number, to: number): void {
    if (this.#options.reduction !== 'none') this.#edges.push(from, to);
  }

  /** Goes from the end against the edges; a state that is not reached never ends. */
  #findLivelock(): void {
    const count = this.#paths.length;
    const sources: number[][] = Array.from({ length: count }, () => []);
    for (let i = 0; i < this.#edges.length; i += 2) sources[this.#edges[i + 1]].push(this.#edges[i]);
    const ends = new Uint8Array(count);
    const open = [END];
    ends[END] = 1;
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      for (const source of sources[state]) {
        if (ends[source] !== 0) continue;
        ends[source] = 1;
        open.push(source);
      }
    }
    for (let state = START + 1; state < count; state++) {
      if (ends[state] !== 0) continue;
      if (this.#visit('livelock', flatten(this.#paths[state]), 'systematic')) this.#stopped = true;
      return;
    }
  }

  // ---- random ----

  *#random(runs: number): Generator<void> {
    const { stats } = this;
    const { seed } = this.#options;
    let span = Math.max(stats.longest, 8);
    for (let run = 0; stats.executions < runs && !this.#asked(); run++) {
      const random = new Random((seed ^ Math.imul(run + 1, 0x9e3779b1)) >>> 0);
      stats.executions++;
      stats.random++;
      this.#replay(null);
      if (run % 4 === 3) this.#walk(random);
      else this.#prioritized(random, span, 1 + (run % 4));
      span = Math.max(8, Math.min(stats.longest, 4 * span));
      if (stats.executions % STOP_INTERVAL === 0) yield;
      if (this.#stopped) return;
    }
  }

  /** Every step is anybody's. */
  #walk(random: Random): void {
    while (!this.#over()) {
      const ready = this.#ready();
      this.#step(ready[random.next() % ready.length]);
    }
  }

  /** The vCPU of the highest priority runs; at `changes` steps, and whenever it asks to let others run, it gets the lowest. */
  #prioritized(random: Random, span: number, changes: number): void {
    const { vcpus } = this.#world;
    const priorities = Array.from({ length: vcpus }, (_, index) => index + 1);
    for (let i = vcpus - 1; i > 0; i--) {
      const j = random.next() % (i + 1);
      [priorities[i], priorities[j]] = [priorities[j], priorities[i]];
    }
    const points = new Set(Array.from({ length: changes }, () => random.next() % span));
    let lowest = 0;
    while (!this.#over()) {
      const next = this.#ready().reduce((best, index) => (priorities[index] > priorities[best] ? index : best));
      const change = points.has(this.#length);
      this.#step(next);
      if (change || this.#world.yielded) priorities[next] = lowest--;
    }
  }

  #over(): boolean {
    if (this.#world.ended) {
      this.#end('random');
      return true;
    }
    if (this.#length < this.#options.maxSteps) return false;
    this.#cut('random');
    return true;
  }

  // ---- both ----

  #ready(): number[] {
    const ready: number[] = [];
    for (let index = 0; index < this.#world.vcpus; index++) if (this.#world.runnable(index)) ready.push(index);
    return ready;
  }

  /** The next in turn behind `last`. */
  #after(ready: readonly number[], last: number): number {
    return ready.find((index) => index > last) ?? ready[0];
  }

  #replay(path: Segment | null): void {
    const world = this.#world;
    world.restart();
    this.#path = path;
    this.#count = 0;
    this.#vcpu = -1;
    this.#length = 0;
    for (const { vcpu, steps } of segments(path)) {
      for (let step = 0; step < steps; step++) world.turn(vcpu);
      this.#length += steps;
    }
  }

  #step(vcpu: number): void {
    if (vcpu !== this.#vcpu) {
      this.#freeze();
      this.#vcpu = vcpu;
    }
    this.#count++;
    this.#length++;
    this.#world.turn(vcpu);
  }

  /** The path up to now, to come back to. */
  #freeze(): Segment | null {
    if (this.#count > 0) this.#path = { before: this.#path, vcpu: this.#vcpu, steps: this.#count };
    this.#count = 0;
    return this.#path;
  }

  #end(found: 'systematic' | 'random'): void {
    const { stats } = this;
    if (this.#length > stats.longest) stats.longest = this.#length;
    const { fingerprint } = this.#world;
    if (this.#ends.has(fingerprint)) return;
    this.#ends.add(fingerprint);
    stats.ends++;
    if (this.#visit('ended', flatten(this.#freeze()), found)) this.#stopped = true;
  }

  #cut(found: 'systematic' | 'random'): void {
    this.stats.cut++;
    this.#abandoned ||= found === 'systematic';
    this.stats.longest = this.#options.maxSteps;
    if (this.stats.cut > CUT_VISITS) return;
    if (this.#visit('cut', flatten(this.#freeze()), found)) this.#stopped = true;
  }

  #asked(): boolean {
    if (this.stats.executions % STOP_INTERVAL === 0 && this.#options.stop?.() === true) this.#stopped = true;
    return this.#stopped;
  }
}

function segments(path: Segment | null): Segment[] {
  const found: Segment[] = [];
  for (let at = path; at !== null; at = at.before) found.push(at);
  return found.reverse();
}

/** vCPU by vCPU, step by step. */
const flatten = (path: Segment | null): number[] =>
  segments(path).flatMap(({ vcpu, steps }) => new Array<number>(steps).fill(vcpu));
