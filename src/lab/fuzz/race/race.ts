/** `fuzz race` of one program: explore its interleavings, judge where they lead, shrink the schedules that fail. */
import { setImmediate } from 'node:timers/promises';
import { KvmscopeError } from '../../../errors.ts';
import { resolveEra } from '../../../kvm/eras.ts';
import { formatSchedule } from '../../../machine/schedule.ts';
import type { MachineOptions } from '../../../machine/types.ts';
import { readInputText } from '../../../program/files.ts';
import type { SubjectKind } from '../../../program/header.ts';
import { isSource } from '../../../program/load.ts';
import { type OpenedProgram, type OpenOptions, openProgram } from '../../open.ts';
import { checkLimit } from './campaign.ts';
import { Explorer, type ExploreStats, type LeafKind, type Reduction } from './explore.ts';
import { findProgram } from './find-program.ts';
import { type Failure, type FailureKind, Judge } from './judge.ts';
import { shrinkSchedule, stepsOf } from './shrink.ts';
import { type Observed, World } from './world.ts';

/** How far a search goes. */
export interface RaceLimits {
  /** Most preemptions of a systematic schedule. Default: any number, fewest first. */
  readonly bound?: number;
  /** Executions at most. Default 20,000; half of them are left to random schedules unless the systematic ones cover everything. */
  readonly runs?: number;
  /** Seed of random schedules. Default 1. */
  readonly seed?: number;
  /** Steps of one execution at most. Default twice as many as a run without a schedule makes, from 2,000 to 20,000. */
  readonly maxSteps?: number;
  /** Which executions are left out because they cannot show anything new. Default `full`. */
  readonly reduction?: Reduction;
  /** Different failures after which the search ends. Default 8. */
  readonly finds?: number;
  /** Asked now and then; true ends the search with what was found. */
  readonly stop?: () => boolean;
  /** Told now and then how far the search is. */
  readonly onProgress?: (progress: RaceProgress) => void;
}

/** How far a search is, and how many different failures it has found. */
export type RaceProgress = Readonly<ExploreStats> & { readonly finds: number };

export interface RaceOptions extends RaceLimits, OpenOptions {
  /** Another KVM version that must come to the same places under the same schedules. */
  readonly against?: string;
}

/** One failure, with the smallest schedule that shows it. */
export interface RaceFind {
  readonly kind: FailureKind;
  /** Equal for equal failures. */
  readonly signature: string;
  /** What is wrong, a line each. */
  readonly details: readonly string[];
  /** `0*3,1,0,2*5`; behind its end the seeded scheduler goes on. */
  readonly schedule: string;
  /** Turns and steps of it. */
  readonly turns: number;
  readonly steps: number;
  readonly found: 'systematic' | 'random';
  /** Execution in which it was seen first, counted from 1. */
  readonly execution: number;
  /** One paragraph. */
  readonly words: string;
  /** Source of the program with the schedule in its header; undefined if the program has no source. */
  readonly program: string | undefined;
}

export interface RaceReport {
  readonly path: string;
  readonly title: string;
  readonly kvm: string;
  readonly against: string | undefined;
  readonly vendor: string;
  readonly vcpus: number;
  readonly seed: number;
  readonly stats: Readonly<ExploreStats>;
  readonly finds: readonly RaceFind[];
}

const DEFAULT_RUNS = 20_000;
const [MIN_STEPS, MOST_STEPS] = [2_000, 20_000];
/** Of the run that is to show how long others may be. */
const FIRST_BUDGET = 5_000_000;
const DEFAULT_FINDS = 8;
/** Of the budget, what one step may cost on average: an exit and some messages. */
const STEP_COST = 100;
const MIN_BUDGET = 20_000;

/** Expectations that look at more than a state: at how it was reached. */
const COUNTING: readonly SubjectKind[] = [
  'exits',
  'counters',
  'fastpath',
  'fastpath.reason',
  'fastpath.completion',
  'events',
  'accepted',
];
const TIMED: readonly SubjectKind[] = ['steps'];

const observed = ({ header: { expectations } }: OpenedProgram): Observed => ({
  counters: expectations.some(({ subject }) => COUNTING.includes(subject.kind)),
  time: expectations.some(({ subject }) => TIMED.includes(subject.kind)),
});

function resolveLimits(options: RaceLimits): Required<Omit<RaceLimits, 'stop' | 'onProgress'>> {
  const limits = {
    bound: options.bound ?? Number.POSITIVE_INFINITY,
    runs: options.runs ?? DEFAULT_RUNS,
    seed: options.seed ?? 1,
    maxSteps: options.maxSteps ?? MIN_STEPS,
    reduction: options.reduction ?? 'full',
    finds: options.finds ?? DEFAULT_FINDS,
  };
  for (const name of ['runs', 'seed', 'maxSteps', 'finds'] as const) checkLimit(name, limits[name]);
  if (limits.bound !== Number.POSITIVE_INFINITY) checkLimit('bound', limits.bound);
  return limits;
}

/** A failure where it was seen first. */
interface Seen {
  readonly failure: Failure;
  readonly order: readonly number[];
  readonly by: 'systematic' | 'random';
  readonly execution: number;
}

/** A program on one or two KVM versions, to be searched. Keeps its VMs, so that the next program of the same shape costs less. */
export class RaceLab {
  readonly #sides: readonly MachineOptions[];
  readonly #limits: ReturnType<typeof resolveLimits>;
  readonly #stop: RaceLimits['stop'];
  readonly #onProgress: RaceLimits['onProgress'];
  readonly #against: string | undefined;
  readonly #world: World;
  readonly #judge: Judge;
  #opened: OpenedProgram;
  #source: string | undefined;
  #prefix: readonly number[] = [];
  #seen = 0;

  private constructor(
    opened: OpenedProgram,
    source: string | undefined,
    options: RaceOptions,
    sides: readonly MachineOptions[],
    vms: readonly [World, Judge],
  ) {
    this.#opened = opened;
    this.#source = source;
    this.#limits = resolveLimits(options);
    this.#stop = options.stop;
    this.#onProgress = options.onProgress;
    this.#against = options.against;
    this.#sides = sides;
    [this.#world, this.#judge] = vms;
  }

  /** Opens a program as `openProgram` does. */
  static async open(path: string, options: RaceOptions = {}): Promise<RaceLab> {
    const {
      against,
      bound: _b,
      runs: _r,
      maxSteps: _m,
      reduction: _d,
      finds: _f,
      stop: _s,
      onProgress: _p,
      seed: _seed,
      ...rest
    } = options;
    const limits = resolveLimits(options);
    const opened = openProgram(path, rest);
    const source = options.source ?? (isSource(path) ? readInputText(path) : undefined);
    // Nothing runs so long that it would pay to translate it.
    const base: MachineOptions = { tier2: false, ...opened.options, schedule: [] };
    const sides = [base, ...(against === undefined ? [] : [{ ...base, kvm: resolveEra(against).name }])];
    if (sides[1]?.kvm === base.kvm) {
      throw new KvmscopeError('usage', `against: KVM ${base.kvm} is the version that is fuzzed; name another one`);
    }
    const budget = Math.max(MIN_BUDGET, STEP_COST * limits.maxSteps);
    const world = await World.open(opened.program, sides, observed(opened));
    const judge = await Judge.open(opened, sides, budget);
    const steps = judge.measure(Math.min(opened.options.budget ?? FIRST_BUDGET, FIRST_BUDGET));
    const maxSteps = options.maxSteps ?? Math.max(MIN_STEPS, Math.min(2 * steps, MOST_STEPS));
    return new RaceLab(opened, source, { ...options, maxSteps }, sides, [world, judge]);
  }

  /** Takes another program, for the same machine; the search begins behind the steps of `prefix`. */
  load(path: string, source: string, prefix: readonly number[] = []): void {
    this.#opened = openProgram(path, { source });
    this.#source = source;
    this.#prefix = prefix;
    this.#world.load(this.#opened.program, observed(this.#opened), prefix);
    this.#judge.load(this.#opened);
  }

  /** Whether a search finds this failure; it ends as soon as it does. */
  async shows(signature: string): Promise<boolean> {
    let shown = false;
    await this.#search(this.#limits.seed, (order) => {
      shown ||= this.#judge.failures(order).some((failure) => failure.signature === signature);
      return shown;
    });
    return shown;
  }

  async explore(limits: Pick<RaceLimits, 'seed'> = {}): Promise<RaceReport> {
    const seed = limits.seed ?? this.#limits.seed;
    const found = new Map<string, Seen>();
    const stats = await this.#search(seed, (order, by, execution) => {
      for (const failure of this.#judge.failures(order)) {
        if (!found.has(failure.signature)) found.set(failure.signature, { failure, order, by, execution });
      }
      this.#seen = found.size;
      return found.size >= this.#limits.finds;
    });
    const { header, path } = this.#opened;
    const { options } = this.#judge;
    return {
      path,
      title: header.title,
      kvm: options.kvm,
      against: this.#against === undefined ? undefined : this.#sides[1].kvm,
      vendor: options.vendor,
      vcpus: options.vcpus,
      seed,
      stats,
      finds: [...found.values()].map(({ failure, order, by, execution }) => this.#find(failure, order, by, execution)),
    };
  }

  async #search(
    seed: number,
    visit: (order: readonly number[], by: Seen['by'], execution: number) => boolean,
  ): Promise<ExploreStats> {
    const { reduction, bound, runs, maxSteps } = this.#limits;
    const stop = this.#stop === undefined ? {} : { stop: this.#stop };
    const options = { reduction, bound, runs, randomRuns: Math.floor(runs / 2), maxSteps, seed, ...stop };
    const explorer = new Explorer(this.#world, options, (_kind: LeafKind, order, by) =>
      visit([...this.#prefix, ...order], by, explorer.stats.executions),
    );
    const before = this.#world.steps;
    this.#seen = 0;
    const slices = explorer.slices();
    for (;;) {
      const slice = slices.next();
      if (slice.done === true) return slice.value;
      this.#onProgress?.({ ...explorer.stats, steps: this.#world.steps - before, finds: this.#seen });
      // Others get a turn, Ctrl-C among them.
      await setImmediate();
    }
  }

  #find(failure: Failure, order: readonly number[], by: 'systematic' | 'random', execution: number): RaceFind {
    const { signature, kind } = failure;
    let last = failure;
    const fails = (steps: number[]): boolean => {
      const same = this.#judge.failures(steps).find((other) => other.signature === signature);
      if (same !== undefined) last = same;
      return same !== undefined;
    };
    const schedule = shrinkSchedule(order, fails);
    const text = formatSchedule(schedule);
    const steps = stepsOf(schedule).length;
    const { details, differences } = last;
    const turns = `${schedule.length} turn${schedule.length === 1 ? '' : 's'}, ${steps} step${steps === 1 ? '' : 's'}`;
    const how = text === '' ? 'Without any schedule' : `Under the schedule ${text} (${turns})`;
    const where = details[0].startsWith('KVM ') ? '' : ` on KVM ${this.#judge.options.kvm}`;
    const words = `${how}, ${this.#opened.path} fails${where}: ${details.join('; ')}.`;
    return {
      ...{ kind, signature, details, schedule: text, turns: schedule.length, steps, found: by, execution, words },
      program: this.#program(text, kind, differences),
    };
  }

  #program(schedule: string, kind: FailureKind, differences: Failure['differences']): string | undefined {
    if (this.#source === undefined) return undefined;
    const { kvm, vendor, vcpus, seed } = this.#judge.options;
    const { settings } = this.#opened.header;
    return findProgram(this.#source, {
      settings: {
        // A difference is one between versions: the program is to run on both.
        ...(kind === 'difference' ? {} : { kvm }),
        vendor,
        ...(settings.vcpus === vcpus ? {} : { vcpus: `${vcpus}` }),
        budget: `${this.#judge.budget}`,
        ...(seed === 1 ? {} : { seed: `${seed}` }),
        ...(schedule === '' ? {} : { schedule }),
      },
      dropped: kind === 'difference' ? ['kvm', 'schedule'] : ['schedule'],
      differences,
    });
  }

  dispose(): void {
    this.#world.dispose();
    this.#judge.dispose();
  }
}

/** Explores the interleavings of one program. Errors are those of `openProgram`. */
export async function exploreRaces(path: string, options: RaceOptions = {}): Promise<RaceReport> {
  const lab = await RaceLab.open(path, options);
  try {
    return await lab.explore();
  } finally {
    lab.dispose();
  }
}
