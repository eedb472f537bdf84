/** The IPI tables under other conditions, and where PV IPI stops paying. */
import { KvmscopeError } from '../../errors.ts';
import { COSTS, type Costs } from '../../kvm/cost-model.ts';
import { eraMatches, resolveEra } from '../../kvm/eras.ts';
import { didYouMean } from '../../program/suggest.ts';
import { TABLE_ERA } from './fit.ts';
import {
  BENCH_VCPUS,
  type IpiApic,
  type IpiScenario,
  MAX_BENCH_VCPUS,
  MAX_XAPIC_ID,
  MIN_BENCH_VCPUS,
  resolveScenario,
  whole,
} from './scenario.ts';
import {
  type IpiPlayer,
  type IpiTable,
  type IpiTableOptions,
  ipiTable,
  playScenario,
  resolveCosts,
  tableOf,
} from './table.ts';
import { roundTime } from './time.ts';

/** What a change does to the options of a table. */
interface Change {
  readonly options: IpiTableOptions;
  /** The first KVM that has it, if not all have. */
  readonly since?: string;
  /** The vendor it exists on. */
  readonly vendor?: 'intel' | 'amd';
}

const wrong = (message: string): KvmscopeError => new KvmscopeError('usage', message);

function number(name: string, text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw wrong(`${name} wants a number, not "${text}"`);
  return value;
}

const onOff = (name: string, text: string): boolean => {
  if (text === 'on' || text === '') return true;
  if (text === 'off') return false;
  throw wrong(`${name} is on or off, not "${text}"`);
};

function unknownChange(name: string): KvmscopeError {
  const names = [...Object.keys(WHAT_IFS), ...Object.keys(COSTS)];
  return wrong(`there is no "${name}" to change${didYouMean(name, names) || `; there are: ${names.join(', ')}`}`);
}

/** Everything that can be asked, besides costs by name: a row each. */
export const WHAT_IFS: Readonly<Record<string, { readonly help: string; readonly change: (value: string) => Change }>> =
  {
    apicv: {
      help: 'on or off: the processor delivers interrupts and performs EOIs without an exit (Intel)',
      change: (value) => ({ options: { apicv: onOff('apicv', value) ? 'on' : 'off' }, vendor: 'intel' }),
    },
    ipiv: {
      help: 'on: the processor sends IPIs to physical destinations, too (Intel, KVM 6.0 and later)',
      change: (value) => ({ options: { apicv: onOff('ipiv', value) ? 'ipiv' : 'off' }, vendor: 'intel', since: '6.0' }),
    },
    avic: {
      help: 'on: AVIC and x2AVIC (AMD, KVM 6.0 and later)',
      change: (value) => ({ options: { avic: onOff('avic', value) }, vendor: 'amd', since: '6.0' }),
    },
    shorthand: {
      help: 'broadcasts use "all but self": a guest of v5.4 and later',
      change: (value) => ({ options: { shorthand: onOff('shorthand', value) } }),
    },
    'sparse-ids': {
      help: 'K: the APIC ID of vCPU n is n * K',
      change: (value) => ({ options: { idStride: number('sparse-ids', value) } }),
    },
    vcpus: {
      help: `N: ${MIN_BENCH_VCPUS} to ${MAX_BENCH_VCPUS}`,
      change: (value) => ({
        options: { vcpus: whole('what-if vcpus', number('vcpus', value), MIN_BENCH_VCPUS, MAX_BENCH_VCPUS) },
      }),
    },
    'pv-eoi': {
      help: 'off: every EOI is a write to the register',
      change: (value) => ({ options: { eoi: onOff('pv-eoi', value) ? 'pv' : 'register' } }),
    },
    idle: {
      help: 'halt: targets sleep between calls',
      change: (value) => {
        if (value !== 'halt' && value !== 'poll') throw wrong(`idle is halt or poll, not "${value}"`);
        return { options: { idle: value } };
      },
    },
    kvm: { help: 'a version, e.g. 6.18', change: (value) => ({ options: { kvm: resolveEra(value).name } }) },
  };

/** Two tables, and where PV IPI pays in either. */
export interface IpiWhatIf {
  readonly changes: readonly string[];
  /** Why the base is not that of the published tables, one line each. */
  readonly notes: readonly string[];
  readonly base: IpiTable;
  readonly changed: IpiTable;
  readonly crossovers: readonly IpiCrossover[];
}

/** Rows of a comparison unless some are asked for: those with IPIs. */
const COMPARED = ['* vanilla normal', '* vanilla broadcast', '* vanilla lock', '* pv broadcast', '* pv lock'];

/**
 * Plays a table as `options` say and once more with `changes` (`apicv=on`, `shorthand`, `vcpus=40`, `exit.vmcall=900` …; `WHAT_IFS` and
 * `COSTS` are the names). What only newer KVMs or another vendor have moves the base there, too, so that nothing else differs.
 */
export async function ipiWhatIf(changes: readonly string[], options: IpiTableOptions = {}): Promise<IpiWhatIf> {
  const notes: string[] = [];
  let base: IpiTableOptions =
    options.rows === undefined && options.modes === undefined ? { ...options, rows: COMPARED } : options;
  let changed: IpiTableOptions = {};
  const costs: Record<string, number> = {};
  if (changes.length === 0) throw wrong('what-if wants a change, such as apicv=on');
  /** Which change has set an option or a cost. */
  const setBy = new Map<string, string>();
  const claim = (what: string, text: string): void => {
    const other = setBy.get(what);
    if (other !== undefined) throw wrong(`what-if: "${other}" and "${text}" change the same; give one of them`);
    setBy.set(what, text);
  };
  for (const text of changes) {
    const [name, value = ''] = text.split(/=(.*)/s);
    if (!Object.hasOwn(WHAT_IFS, name)) {
      if (!Object.hasOwn(COSTS, name)) throw unknownChange(name);
      claim(name, text);
      costs[name] = number(name, value);
      continue;
    }
    const { options: change, since, vendor } = WHAT_IFS[name].change(value);
    for (const option of Object.keys(change)) claim(option, text);
    changed = { ...changed, ...change };
    if (since !== undefined && eraMatches(`<${since}`, resolveEra(base.kvm ?? TABLE_ERA))) {
      base = { ...base, kvm: since };
      notes.push(`${name} wants KVM ${since} or later: both sides are KVM ${since}`);
    }
    if (vendor !== undefined && vendor !== (base.vendor ?? 'intel')) {
      base = { ...base, vendor };
      notes.push(`${name} is ${vendor === 'amd' ? 'AMD' : 'Intel'}'s: both sides are`);
    }
  }
  const play = memorized();
  const after: IpiTableOptions = { ...base, ...changed, costs: { ...base.costs, ...(costs as Partial<Costs>) } };
  return {
    changes,
    notes,
    base: await ipiTable(base, play),
    // Rows that were asked for may not be there under the changes.
    changed: await tableOf(after, play, true),
    crossovers: await crossovers(base, after, play),
  };
}

/** Plays each scenario once, as the first caller wants it. */
function memorized(): IpiPlayer {
  const played = new Map<string, ReturnType<IpiPlayer>>();
  return (scenario, rounds) => {
    const key = JSON.stringify(resolveScenario(scenario));
    const known = played.get(key) ?? playScenario(scenario, rounds);
    played.set(key, known);
    return known;
  };
}

// ---- where PV IPI pays ----

/** Less than this is nothing: the published tables differ by as much where they repeat a measurement. */
export const WORTH = 0.03;

/** For which numbers of targets PV IPI saves at least WORTH of a broadcast's time, against another way to send. */
export interface IpiCrossover {
  readonly apic: IpiApic;
  /** What PV IPI is compared with. */
  readonly against: 'vanilla' | 'shorthand';
  readonly base: PvRange;
  readonly changed: PvRange;
}

/**
 * PV IPI pays from `from` targets to `to` targets; null: never. `most`: targets tried, 1 to this. `saving`: at `most` targets, as a
 * fraction of the time without it; negative where it costs.
 */
export interface PvRange {
  readonly from: number | null;
  readonly to: number | null;
  readonly most: number;
  readonly saving: number;
}

async function crossovers(base: IpiTableOptions, changed: IpiTableOptions, play: IpiPlayer): Promise<IpiCrossover[]> {
  const list: IpiCrossover[] = [];
  for (const apic of ['cluster', 'physical', 'xapic'] as const) {
    if (
      apic === 'xapic' &&
      [base, changed].some((o) => ((o.vcpus ?? BENCH_VCPUS) - 1) * (o.idStride ?? 1) > MAX_XAPIC_ID)
    )
      continue;
    const against = changed.shorthand ? 'shorthand' : 'vanilla';
    list.push({
      ...{ apic, against },
      base: await pvRange(apic, 'vanilla', base, play),
      changed: await pvRange(apic, against, changed, play),
    });
  }
  return list;
}

/**
 * Searches the targets of one call for those where PV IPI pays. What it saves grows or shrinks with their number, but for the jump at
 * each further hypercall or cluster, so the borders are found by halving between the ends.
 */
export async function pvRange(
  apic: IpiApic,
  against: 'vanilla' | 'shorthand',
  options: IpiTableOptions,
  play: IpiPlayer = playScenario,
): Promise<PvRange> {
  const { kvm = TABLE_ERA, vendor = 'intel', apicv = 'off', avic = false, idle = 'poll', eoi = 'pv' } = options;
  const { vcpus = BENCH_VCPUS, idStride = 1, seed = 1 } = options;
  const costs = resolveCosts(options.costs);
  const known = new Map<number, Promise<number>>();
  const common = { mode: 'broadcast', apic, kvm, vendor, apicv, avic, idle, eoi, idStride, seed } as const;
  const wall = async (send: IpiScenario['send'], targets: number): Promise<number> => {
    const { scenario, round } = await play({ ...common, send, vcpus: targets + 1 }, 1);
    return roundTime(scenario, round, costs).wall;
  };
  const saving = (targets: number): Promise<number> => {
    let found = known.get(targets);
    if (found === undefined) {
      found = wall('pv', targets).then(async (pv) => 1 - pv / (await wall(against, targets)));
      known.set(targets, found);
    }
    return found;
  };
  const pays = async (targets: number): Promise<boolean> => (await saving(targets)) >= WORTH;
  const most = vcpus - 1;
  const atOne = await pays(1);
  const atMost = await pays(most);
  const last = await saving(most);
  if (atOne && atMost) return { from: 1, to: most, most, saving: last };
  if (!atOne && !atMost) return { from: null, to: null, most, saving: last };
  let low = 1;
  let high = most;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((await pays(middle)) === atOne) low = middle;
    else high = middle;
  }
  return atOne ? { from: 1, to: low, most, saving: last } : { from: high, to: most, most, saving: last };
}
