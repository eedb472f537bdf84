/** The published IPI tables again: every row with its exact counts, its modelled time, the published figure and what separates them. */

import type { Vendor } from '../../cpu/cpu.ts';
import { KvmscopeError } from '../../errors.ts';
import { COSTS, type CostName, type Costs, DEFAULT_COSTS } from '../../kvm/cost-model.ts';
import { eraMatches, resolveEra } from '../../kvm/eras.ts';
import type { ApicvMode } from '../../kvm/types.ts';
import { FAST_ERA, FITTED_ROWS, SLOW_ERA, TABLE_ERA } from './fit.ts';
import { GHZ, PUBLISHED_HALTED, publishedCycles } from './published.ts';
import { IpiBench, type IpiRound, type RoundCounts } from './round.ts';
import {
  BENCH_VCPUS,
  IPI_APICS,
  IPI_MODES,
  IPI_SENDS,
  type IpiMode,
  type IpiScenario,
  MAX_XAPIC_ID,
  resolveScenario,
} from './scenario.ts';
import { roundTime } from './time.ts';

/** What may be chosen for a whole table; absent: what the published tables were made with. */
export interface IpiTableOptions {
  readonly vcpus?: number;
  /** Rounds that are played and compared; default 3. Their counts must be alike. */
  readonly rounds?: number;
  readonly kvm?: string;
  readonly vendor?: Vendor;
  readonly apicv?: ApicvMode;
  readonly avic?: boolean;
  readonly idle?: IpiScenario['idle'];
  readonly eoi?: IpiScenario['eoi'];
  readonly idStride?: number;
  /** Broadcasts use the shorthand where the row says `vanilla` or `pv`: a guest of v5.4 or later. */
  readonly shorthand?: boolean;
  readonly modes?: readonly IpiMode[];
  /** Names of rows with `*` for any characters, e.g. `physical * broadcast`; default all. */
  readonly rows?: readonly string[];
  readonly costs?: Partial<Costs>;
  readonly seed?: number;
}

/** How a published figure and the model are related. */
export type IpiRowRole = 'fitted' | 'predicted' | 'unpublished';

/** A modelled number of cycles beside the published one. */
export interface IpiFigure {
  readonly cycles: number;
  readonly ns: number;
  readonly publishedNs: number | null;
  /** (modelled - published) / published. */
  readonly residual: number | null;
  readonly role: IpiRowRole;
  /** The cost that this figure has fixed. */
  readonly fits: CostName | null;
}

export interface IpiRow {
  /** `cluster pv broadcast`; rows of the fastpath: `halted 5.5 latency`. */
  readonly name: string;
  readonly scenario: IpiScenario;
  /** Of one round. */
  readonly counts: RoundCounts;
  readonly round: IpiRound;
  /** One round, at the sender. Null in the fastpath's rows, which are about latency. */
  readonly wall: IpiFigure | null;
  /** From the send to the handler. */
  readonly latency: IpiFigure | null;
}

export interface IpiTable {
  readonly vcpus: number;
  readonly rounds: number;
  readonly costs: Costs;
  readonly rows: readonly IpiRow[];
}

interface Plan {
  readonly name: string;
  readonly scenario: Partial<IpiScenario>;
}

const MULTICAST: ReadonlySet<IpiMode> = new Set(['broadcast', 'broadcast-lock']);

/** Where a row is called otherwise than its mode. */
const ROW_NAMES: Readonly<Partial<Record<IpiMode, string>>> = { 'broadcast-lock': 'lock' };

/** All rows there are: the published tables, the same in xAPIC mode and with shorthands, and the fastpath's. */
function plans(options: IpiTableOptions): Plan[] {
  const { kvm, vendor = 'intel', apicv, avic, eoi, idStride, shorthand = false, seed, idle } = options;
  const vcpus = options.vcpus ?? BENCH_VCPUS;
  const common = { vcpus, vendor, ...defined({ apicv, avic, eoi, idStride, seed, idle }) };
  const list: Plan[] = [];
  for (const apic of IPI_APICS) {
    for (const send of IPI_SENDS) {
      for (const mode of IPI_MODES) {
        // A shorthand is for many; what is no IPI does not know xAPIC from x2APIC.
        if (mode === 'bare' || (send === 'shorthand' && !MULTICAST.has(mode))) continue;
        if (apic === 'xapic' && (mode === 'dry-run' || mode === 'self')) continue;
        const used = shorthand && MULTICAST.has(mode) ? 'shorthand' : send;
        const scenario = { ...common, mode, apic, send: used, kvm: kvm ?? TABLE_ERA };
        list.push({ name: `${apic} ${send} ${ROW_NAMES[mode] ?? mode}`, scenario });
      }
    }
  }
  for (const target of idle === undefined ? (['poll', 'halt'] as const) : [idle]) {
    for (const era of kvm === undefined ? [SLOW_ERA, FAST_ERA] : [resolveEra(kvm).name]) {
      const scenario = { ...common, vcpus: 2, mode: 'bare', apic: 'physical', idle: target, kvm: era } as const;
      list.push({ name: `${target === 'poll' ? 'running' : 'halted'} ${era} latency`, scenario });
    }
  }
  return list;
}

const defined = <T extends object>(fields: T): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;

const asPattern = (glob: string): RegExp =>
  new RegExp(`^${glob.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*')}$`);

/** Rows asked for, those left out that the configuration cannot have. `maybeNone`: there may be none. */
function choose(options: IpiTableOptions, maybeNone: boolean): Plan[] {
  const unknown = options.modes?.find((mode) => !IPI_MODES.includes(mode));
  if (unknown !== undefined) {
    throw new KvmscopeError('usage', `there is no mode "${unknown}"; there are: ${IPI_MODES.join(', ')}`);
  }
  const patterns = options.rows?.map(asPattern);
  const chosen = plans(options).filter(({ name, scenario }) => {
    if (options.modes !== undefined && !options.modes.includes(scenario.mode as IpiMode)) return false;
    if (patterns !== undefined && !patterns.some((pattern) => pattern.test(name))) return false;
    // Sparse IDs and 255 vCPUs may be more than xAPIC has IDs for: such rows are not there unless they alone are asked for.
    const last = ((scenario.vcpus ?? BENCH_VCPUS) - 1) * (scenario.idStride ?? 1);
    return scenario.apic !== 'xapic' || last <= MAX_XAPIC_ID || options.rows?.every((text) => text.startsWith('xapic'));
  });
  if (chosen.length > 0 || maybeNone) return chosen;
  throw new KvmscopeError(
    'usage',
    "there is no such row; rows are called 'cluster vanilla broadcast', 'physical pv normal', 'xapic shorthand lock' and the like, and " +
      "'halted 5.5 latency'; * stands for any characters",
  );
}

/** Costs with some of them changed. Throws KvmscopeError('usage') for a name or a value that makes no sense. */
export function resolveCosts(changes: Partial<Costs> = {}): Costs {
  for (const [name, cycles] of Object.entries(changes)) {
    if (!Object.hasOwn(COSTS, name))
      throw new KvmscopeError('usage', `there is no cost "${name}"; there are: ${Object.keys(COSTS).join(', ')}`);
    if (!Number.isFinite(cycles) || cycles < 0 || cycles > 1e9) {
      throw new KvmscopeError('usage', `${name} must be a number of cycles from 0 to 1e9, not ${String(cycles)}`);
    }
  }
  return { ...DEFAULT_COSTS, ...changes };
}

/** Published figures are for this machine only. */
const isPublished = ({ vcpus, vendor, apicv, idStride, eoi, idle, kvm, mode }: IpiScenario): boolean => {
  const machine = vendor === 'intel' && apicv === 'off' && idStride === 1 && eoi === 'pv';
  if (mode === 'bare') return machine;
  return machine && vcpus === BENCH_VCPUS && idle === 'poll' && eraMatches('<5.6-rc1', resolveEra(kvm));
};

function publishedOf(scenario: IpiScenario, fastpath: boolean): { wall: number | null; latency: number | null } {
  const nothing = { wall: null, latency: null };
  if (!isPublished(scenario)) return nothing;
  const { mode, apic, send, idle } = scenario;
  if (mode !== 'bare') return publishedCycles(apic, send, mode) ?? nothing;
  return idle === 'halt' ? { wall: null, latency: PUBLISHED_HALTED[fastpath ? 'fast' : 'slow'] } : nothing;
}

function fittedBy(scenario: IpiScenario, fastpath: boolean): CostName | null {
  const { mode, apic, send, idle } = scenario;
  if (mode === 'bare' && fastpath) return idle === 'halt' ? 'icr.slow' : null;
  const same = FITTED_ROWS.find(
    ({ row }) => row.mode === mode && row.apic === apic && row.send === send && row.idle === idle,
  );
  return same?.cost ?? null;
}

function figure(cycles: number, published: number | null, fits: CostName | null): IpiFigure {
  if (published === null)
    return { cycles, ns: cycles / GHZ, publishedNs: null, residual: null, role: 'unpublished', fits: null };
  const role = fits === null ? 'predicted' : 'fitted';
  return { cycles, ns: cycles / GHZ, publishedNs: published / GHZ, residual: cycles / published - 1, role, fits };
}

function makeRow({ name, scenario, round }: IpiPlayed, costs: Costs): IpiRow {
  const time = roundTime(scenario, round, costs);
  const bare = scenario.mode === 'bare';
  const fast = round.counts.fastpath > 0;
  const published = publishedOf(scenario, fast);
  const fits = fittedBy(scenario, fast);
  return {
    ...{ name, scenario, round, counts: round.counts },
    wall: bare ? null : figure(time.wall, published.wall, fits),
    latency: time.latency === null ? null : figure(time.latency, published.latency, bare ? fits : null),
  };
}

/** A row that has been played and not yet timed. */
export interface IpiPlayed {
  readonly name: string;
  readonly scenario: IpiScenario;
  readonly round: IpiRound;
}

/** How a scenario is played. */
export type IpiPlayer = (scenario: Partial<IpiScenario>, rounds: number) => Promise<Omit<IpiPlayed, 'name'>>;

/** Plays some rounds of one scenario and returns what each of them was. */
export async function playScenario(given: Partial<IpiScenario>, rounds = 3): Promise<Omit<IpiPlayed, 'name'>> {
  const bench = await IpiBench.open(given, { record: true });
  const first = bench.round();
  for (let i = 1; i < rounds; i++) {
    const next = bench.round();
    if (JSON.stringify(next) !== JSON.stringify(first)) {
      bench.dispose();
      throw new KvmscopeError('usage', `round ${i + 1} differs from the first: ${JSON.stringify(next.counts)}`);
    }
  }
  const { scenario } = bench;
  bench.dispose();
  return { scenario, round: first };
}

/** Plays the rows that are asked for. Throws KvmscopeError('usage') if there is none. */
export const ipiTable = (options: IpiTableOptions = {}, play: IpiPlayer = playScenario): Promise<IpiTable> =>
  tableOf(options, play, false);

/** The same, of no rows too if there `maybeNone`. */
export async function tableOf(options: IpiTableOptions, play: IpiPlayer, maybeNone: boolean): Promise<IpiTable> {
  const { rounds = 3 } = options;
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new KvmscopeError('usage', `rounds must be a whole number from 1 to 1000, not ${String(rounds)}`);
  }
  const costs = resolveCosts(options.costs);
  const chosen = choose(options, maybeNone).map(({ name, scenario }) => ({
    name,
    scenario: resolveScenario(scenario),
  }));
  const rows: IpiRow[] = [];
  for (const { name, scenario } of chosen) {
    rows.push(makeRow({ name, ...(await play(scenario, rounds)) }, costs));
  }
  return { vcpus: options.vcpus ?? BENCH_VCPUS, rounds, costs, rows };
}

/** How many published figures a table has, and how they come out. */
export interface IpiFit {
  readonly figures: number;
  /** Figures that have fixed a cost. */
  readonly fitted: number;
  readonly predicted: number;
  /** Of the predicted figures: the mean of their sizes, and the largest with the row's name. */
  readonly meanResidual: number;
  readonly worst: { readonly name: string; readonly residual: number } | null;
}

export function ipiFit({ rows }: Pick<IpiTable, 'rows'>): IpiFit {
  const figures = rows.flatMap(({ name, wall, latency }) =>
    [wall, latency].flatMap((f) =>
      f === null || f.residual === null ? [] : [{ name, role: f.role, residual: f.residual }],
    ),
  );
  const predicted = figures.filter(({ role }) => role === 'predicted');
  const worst = [...predicted].sort((a, b) => Math.abs(b.residual) - Math.abs(a.residual))[0];
  const sum = predicted.reduce((all, { residual }) => all + Math.abs(residual), 0);
  return {
    figures: figures.length,
    fitted: figures.length - predicted.length,
    predicted: predicted.length,
    meanResidual: predicted.length === 0 ? 0 : sum / predicted.length,
    worst: worst === undefined ? null : { name: worst.name, residual: worst.residual },
  };
}

/** How much faster PV IPI is than the driver: (vanilla - pv) / pv, modelled and published, for rows where the table has both. */
export interface IpiBoost {
  readonly apic: string;
  readonly mode: IpiMode;
  readonly modelled: number;
  readonly published: number | null;
}

export function ipiBoosts({ rows }: Pick<IpiTable, 'rows'>): IpiBoost[] {
  const boosts: IpiBoost[] = [];
  for (const row of rows) {
    const [apic, send, name] = row.name.split(' ');
    const { mode } = row.scenario;
    if (send !== 'vanilla' || row.wall === null || !MULTICAST.has(mode)) continue;
    const pv = rows.find((other) => other.name === `${apic} pv ${name}`);
    if (pv?.wall == null) continue;
    const published =
      row.wall.publishedNs === null || pv.wall.publishedNs === null
        ? null
        : row.wall.publishedNs / pv.wall.publishedNs - 1;
    boosts.push({ apic, mode, modelled: row.wall.ns / pv.wall.ns - 1, published });
  }
  return boosts;
}
