/** Checks machine options and fills in defaults: every mistake is one KvmscopeError with one line. */
import { defaultTier2, ENGINES, MAX_MEMORY, MAX_VCPUS, type Tier2 } from '../cpu/cpu.ts';
import { FEATURES, findFeatures } from '../cpu/features.ts';
import { KvmscopeError } from '../errors.ts';
import { resolveEra } from '../kvm/eras.ts';
import { hardwareKind } from '../kvm/hardware-apic.ts';
import { DEFAULT_WALL_CLOCK } from '../kvm/pvclock.ts';
import { didYouMean } from '../program/suggest.ts';
import { bootMemory, needsBootTables } from './boot-state.ts';
import { checkSchedule, parseSchedule, type Schedule } from './schedule.ts';
import type { ApicStart, ApStart, BoardKind, MachineOptions, StartMode } from './types.ts';
import type { ResolvedMachineOptions } from './vm.ts';

export const MIN_MEMORY = 0x100000;
const DEFAULT_MEMORY: Readonly<Record<BoardKind, number>> = { bare: 0x1000000, pc: 0x8000000 };
const DEFAULT_BUDGET = 50_000_000;
const EXIT_MAP_GPA_RANGE = 1 << 12;

const BOARDS: readonly BoardKind[] = ['bare', 'pc'];
const MODES: readonly StartMode[] = ['reset', 'real16', 'prot32', 'long64', 'compat32'];
const APICS: readonly ApicStart[] = ['x2apic', 'xapic', 'reset', 'disabled', 'none'];
const APS: readonly ApStart[] = ['halted', 'wait-for-sipi', 'run'];
const VENDORS = ['intel', 'amd'] as const;
const APICV = ['off', 'on', 'ipiv'] as const;

const wrong = (message: string): KvmscopeError => new KvmscopeError('usage', message);

function integer(name: string, value: number, min: number, max: number, unit = ''): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw wrong(`${name} must be a whole number from ${min} to ${max}${unit}, not ${String(value)}`);
  }
  return value;
}

function word<T extends string>(name: string, value: T, words: readonly T[]): T {
  if (!words.includes(value)) throw wrong(`${name} must be one of ${words.join(', ')}, not ${String(value)}`);
  return value;
}

export const resolveSeed = (seed: number): number => integer('seed', seed, 0, 0xffffffff);
export const resolveBudget = (budget: number): number =>
  integer('budget', budget, 1, Number.MAX_SAFE_INTEGER, ' steps');
export const resolveSchedule = (schedule: string | Schedule, vcpus: number): Schedule =>
  checkSchedule(typeof schedule === 'string' ? parseSchedule(schedule) : schedule, vcpus);
export const resolveSteps = (steps: number): number => integer('steps', steps, 1, Number.MAX_SAFE_INTEGER);

/** Not a property of the machine: nothing in a run depends on it. */
export function resolveTier2(tier2: Tier2 = defaultTier2()): Tier2 {
  if (typeof tier2 === 'boolean' || tier2 === 'force') return tier2;
  throw wrong(`tier2 must be true, false or 'force', not ${JSON.stringify(tier2)}`);
}

/** Options with every default filled in; KvmscopeError('usage' or 'memory') for what makes no sense. */
export function resolveOptions(options: MachineOptions): ResolvedMachineOptions {
  const vcpus = integer('vcpus', options.vcpus ?? 1, 1, MAX_VCPUS);
  const board = word('board', options.board ?? 'bare', BOARDS);
  const mode = word('mode', options.mode ?? (board === 'pc' ? 'reset' : 'long64'), MODES);
  const memory = resolveMemory(options.memory, vcpus, mode, DEFAULT_MEMORY[board]);
  const cpl = options.cpl ?? 0;
  if (cpl !== 0 && cpl !== 3) throw wrong(`cpl must be 0 or 3, not ${String(cpl)}`);
  if (cpl === 3 && !needsBootTables(mode)) throw wrong(`mode ${mode} has no CPL 3; use prot32, long64 or compat32`);
  const { apicIds, pvFeatures } = options;
  if (apicIds !== undefined && apicIds.length !== vcpus) {
    throw wrong(`${apicIds.length} APIC ids are given for ${vcpus} vCPU${vcpus === 1 ? '' : 's'}`);
  }
  for (const id of apicIds ?? []) integer('an APIC id', id, 0, 0xfffffffe);
  if (pvFeatures !== undefined) integer('pvFeatures', pvFeatures, 0, 0xffffffff);
  const era = resolveEra(options.kvm);
  const vendor = word('vendor', options.vendor ?? 'intel', VENDORS);
  const apicv = word('apicv', options.apicv ?? 'off', APICV);
  const avic = options.avic ?? false;
  hardwareKind(era, vendor, apicv, avic);
  return {
    vcpus,
    board,
    pit: options.pit ?? true,
    hiddenFeatures: resolveFeatures(options.hiddenFeatures ?? []),
    mode,
    memory,
    cpl,
    kvm: era.name,
    vendor,
    engine: word('engine', options.engine ?? 'core', ENGINES),
    apicv,
    avic,
    seed: resolveSeed(options.seed ?? 1),
    schedule: resolveSchedule(options.schedule ?? [], vcpus),
    apic: word('apic', options.apic ?? (mode === 'reset' ? 'reset' : 'x2apic'), APICS),
    aps: word('aps', options.aps ?? (mode === 'reset' ? 'wait-for-sipi' : 'halted'), APS),
    x2apicApi: integer('x2apicApi', options.x2apicApi ?? 0, 0, 3),
    enforcePvFeatures: options.enforcePvFeatures ?? false,
    disabledQuirks: integer('disabledQuirks', options.disabledQuirks ?? 0, 0, 0xffffffff),
    vectorHashing: options.vectorHashing ?? true,
    exitHypercalls: resolveExitHypercalls(options.exitHypercalls ?? 0),
    hypercallReturns: resolveReturns(options.hypercallReturns ?? [0]),
    wallClock: integer('wallClock', options.wallClock ?? DEFAULT_WALL_CLOCK, 0, 0xffffffff, ' seconds'),
    budget: resolveBudget(options.budget ?? DEFAULT_BUDGET),
    record: options.record ?? true,
    ...(apicIds === undefined ? {} : { apicIds: [...apicIds] }),
    ...(pvFeatures === undefined ? {} : { pvFeatures }),
    ...(options.onConsole === undefined ? {} : { onConsole: options.onConsole }),
  };
}

function resolveFeatures(names: readonly string[]): readonly string[] {
  if (!Array.isArray(names)) throw wrong('hiddenFeatures must list names of processor features');
  const found = findFeatures(names);
  if (typeof found !== 'string') return found.map(({ name }) => name);
  const known = FEATURES.map(({ name }) => name);
  throw wrong(`there is no processor feature ${JSON.stringify(found)}${didYouMean(found, known)}`);
}

/** KVM_CAP_EXIT_HYPERCALL takes no other hypercall than MAP_GPA_RANGE. */
function resolveExitHypercalls(mask: number): number {
  if (mask === 0 || mask === EXIT_MAP_GPA_RANGE) return mask;
  throw wrong(`exitHypercalls must be 0 or 0x1000 (bit 12, MAP_GPA_RANGE), not ${String(mask)}`);
}

function resolveReturns(returns: readonly (number | 'untouched')[]): readonly (number | 'untouched')[] {
  if (!Array.isArray(returns) || returns.length === 0) throw wrong("hypercallReturns must list numbers or 'untouched'");
  for (const value of returns) {
    if (value === 'untouched') continue;
    integer('a value of hypercallReturns', value, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  }
  return [...returns];
}

function resolveMemory(given: number | undefined, vcpus: number, mode: StartMode, usual: number): number {
  const needed = needsBootTables(mode) ? bootMemory(vcpus) : MIN_MEMORY;
  if (given === undefined) return Math.max(usual, Math.ceil(needed / MIN_MEMORY) * MIN_MEMORY);
  const memory = integer('memory', given, MIN_MEMORY, MAX_MEMORY, ' bytes');
  if (memory % 4096 !== 0) throw wrong(`memory must be a multiple of 4096 bytes, not ${memory}`);
  if (memory < needed) {
    throw new KvmscopeError('memory', `${memory} bytes of RAM hold no stacks for ${vcpus} vCPUs; ${needed} are needed`);
  }
  return memory;
}
