/** One run of the benchmark: every measurement that is wanted, as data. */
import { availableParallelism, cpus } from 'node:os';
import { ALONE, type AloneRow, openAlone } from './alone.ts';
import { ENGINE_NAMES, type Engine, type EngineName, type Machine } from './engines/engine.ts';
import { ENGINES } from './engines/index.ts';
import { lapSteps } from './engines/kvmscope.ts';
import { convert, type Effort, measure, ratio, type Sample, summarize } from './measure.ts';
import { type BenchOptions, checkWords, wanted } from './options.ts';
import { type Probe, probes, type StartRow } from './start.ts';
import { assembleWorkload, WORKLOADS, type Workload } from './workloads.ts';

/** One engine and workload. */
export interface Cell {
  /** `compute`: guest instructions a second (a REP iteration counts as one). `trip`: seconds of a round trip. */
  readonly value: Sample;
  /** How many times as fast as the other engines, from the same rounds. */
  readonly to: Readonly<Partial<Record<EngineName, Sample>>>;
}

export interface SideRow {
  readonly name: string;
  readonly title: string;
  readonly kind: Workload['kind'];
  /** Guest instructions of a lap, as the core counts steps. */
  readonly steps: number;
  /** What every engine had in EAX at the end of a lap. */
  readonly result: number;
  readonly cells: Readonly<Partial<Record<EngineName, Cell>>>;
}

export interface AloneResult {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  /** Seconds of one unit. */
  readonly value: Sample;
}

export interface StartResult extends StartRow {
  readonly value: Sample;
}

export interface Report {
  readonly machine: {
    readonly processor: string;
    readonly cores: number;
    readonly platform: string;
    readonly node: string;
  };
  readonly rounds: number;
  /** Nothing was left out on request. */
  readonly complete: boolean;
  readonly engines: readonly Omit<Engine, 'bits' | 'open'>[];
  readonly side: readonly SideRow[];
  readonly alone: readonly AloneResult[];
  readonly start: readonly StartResult[];
  readonly failures: readonly string[];
}

/** CPU seconds of a round, and of the warm-up before the first. */
const SIDE = { round: 0.06, warmUp: 0.3 };
const BY_ITSELF = { round: 0.1, warmUp: 0.3 };
/** At most so many processes of each kind. */
const PROCESSES = 5;

/** Measures what is wanted. Throws KvmscopeError('usage') if a word asks for nothing. A workload that fails is named in `failures`, and the others go on. */
export async function run(options: BenchOptions, progress: (line: string) => void): Promise<Report> {
  const engines: Engine[] = [];
  for (const name of ENGINE_NAMES) if (options.engines.includes(name)) engines.push(await ENGINES[name]());
  const here = engines.filter(({ missing }) => missing === undefined);
  const able = ({ name }: Workload): Engine[] => here.filter(({ lacks }) => !(name in lacks));
  const workloads = WORKLOADS.filter((workload) => able(workload).length > 0);
  const allProcesses = probes(here, options.against);
  checkWords(options, [...workloads, ...ALONE, ...allProcesses.flatMap(({ rows }) => rows)]);
  const failures: string[] = [];
  /** The result of a measurement in a list, or nothing. */
  const attempt = async <T>(title: string, take: () => Promise<T>): Promise<T[]> => {
    progress(title);
    try {
      return [await take()];
    } catch (error) {
      failures.push(`${title}: ${(error as Error).message}`);
      return [];
    }
  };

  const side: SideRow[] = [];
  for (const workload of workloads) {
    const { name, title } = workload;
    if (!wanted(options, name, title)) continue;
    const effort = { ...SIDE, rounds: options.rounds };
    side.push(...(await attempt(title, () => sideBySide(workload, able(workload), effort))));
  }
  const alone: AloneResult[] = [];
  for (const row of ALONE) {
    if (!wanted(options, row.name, row.title)) continue;
    alone.push(...(await attempt(row.title, () => byItself(row, { ...BY_ITSELF, rounds: options.rounds }))));
  }
  const processes = allProcesses.filter(({ rows }) => rows.some(({ name, title }) => wanted(options, name, title)));
  const start: StartResult[] = [];
  if (processes.length > 0) {
    const rounds = Math.min(PROCESSES, options.rounds);
    start.push(...(await attempt('fresh processes', async () => inTurns(processes, rounds))).flat());
  }
  return {
    machine: {
      processor: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      platform: `${process.platform} ${process.arch}`,
      node: process.version,
    },
    rounds: options.rounds,
    complete: options.only.length === 0 && engines.length === ENGINE_NAMES.length,
    engines: engines.map(({ bits: _, open: __, ...rest }) => rest),
    side,
    alone,
    start,
    failures,
  };
}

async function sideBySide(workload: Workload, engines: readonly Engine[], effort: Effort): Promise<SideRow> {
  const machines: Machine[] = [];
  try {
    for (const engine of engines) machines.push(await engine.open(assembleWorkload(workload, engine.bits)));
    const rounds = await measure(machines, effort);
    const [result, ...others] = machines.map((machine) => machine.result());
    others.forEach((other, n) => {
      if (other === result) return;
      const [a, b] = [result, other].map((value) => `0x${value.toString(16)}`);
      throw new Error(`the result is ${a} on ${engines[0].title} and ${b} on ${engines[n + 1].title}`);
    });
    const steps = await lapSteps(assembleWorkload(workload, 64));
    const { name, title, kind, trips = 1 } = workload;
    const unit = (seconds: number): number => (kind === 'trip' ? seconds / trips : steps / seconds);
    const cells: Partial<Record<EngineName, Cell>> = {};
    engines.forEach((engine, n) => {
      const to: Partial<Record<EngineName, Sample>> = {};
      engines.forEach((other, m) => {
        if (m !== n) to[other.name] = ratio(rounds[n], rounds[m]);
      });
      cells[engine.name] = { value: convert(summarize(rounds[n]), unit), to };
    });
    return { name, title, kind, steps, result, cells };
  } finally {
    for (const machine of machines) await machine.close();
  }
}

async function byItself(row: AloneRow, effort: Effort): Promise<AloneResult> {
  const { name, title, unit, count } = row;
  const runner = await openAlone(row);
  try {
    const [seconds] = await measure([runner], effort);
    return { name, title, unit, value: convert(summarize(seconds), (value) => value / count) };
  } finally {
    runner.close();
  }
}

/** Processes take turns, as everything here does; the first turn fills caches and does not count. */
function inTurns(processes: readonly Probe[], rounds: number): StartResult[] {
  const taken: number[][][] = processes.map(() => []);
  for (let round = -1; round < rounds; round++) {
    processes.forEach((probe, n) => {
      if (probe.most !== undefined && (round < 0 || round >= probe.most)) return;
      const values = probe.take();
      if (round >= 0) taken[n].push([...values]);
    });
  }
  return processes.flatMap(({ rows }, n) =>
    rows.map((row, i) => ({ ...row, value: summarize(taken[n].map((values) => values[i])) })),
  );
}
