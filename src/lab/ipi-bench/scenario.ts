/** One configuration of the IPI micro-benchmark: what the guest does, on which virtual machine. */
import type { Vendor } from '../../cpu/cpu.ts';
import { KvmscopeError } from '../../errors.ts';
import { NEWEST_ERA, resolveEra } from '../../kvm/eras.ts';
import type { ApicvMode } from '../../kvm/types.ts';

/**
 * One round: nothing; a function call to the own CPU; to CPU 1; to CPUs 1 … targets; the same with a function that takes one lock; or
 * (`bare`) one IPI to CPU 1 without a call, from RDTSC to RDTSC.
 */
export const IPI_MODES = ['dry-run', 'self', 'normal', 'broadcast', 'broadcast-lock', 'bare'] as const;
export type IpiMode = (typeof IPI_MODES)[number];

/** x2APIC with logical or physical destinations, or xAPIC with physical ones. */
export const IPI_APICS = ['cluster', 'physical', 'xapic'] as const;
export type IpiApic = (typeof IPI_APICS)[number];

/** How several CPUs are sent to: by the driver; by a shorthand, as Linux does since v5.4 if all others are meant; by the hypercall. */
export const IPI_SENDS = ['vanilla', 'shorthand', 'pv'] as const;
export type IpiSend = (typeof IPI_SENDS)[number];

export interface IpiScenario {
  readonly mode: IpiMode;
  readonly apic: IpiApic;
  readonly send: IpiSend;
  /** 2 … 255. */
  readonly vcpus: number;
  /** How many CPUs a broadcast calls: 1 … vcpus - 1. The others sleep. */
  readonly targets: number;
  /** What targets do between calls: spin in the guest, or HLT. */
  readonly idle: 'poll' | 'halt';
  /** How handlers end an interrupt: by PV EOI where KVM has armed it, as Linux does, or always by the register. */
  readonly eoi: 'pv' | 'register';
  /** The APIC ID of CPU n is n * idStride. */
  readonly idStride: number;
  readonly kvm: string;
  readonly vendor: Vendor;
  readonly apicv: ApicvMode;
  readonly avic: boolean;
  /** Of the scheduler. Counts do not depend on it. */
  readonly seed: number;
}

export const MIN_BENCH_VCPUS = 2;
export const MAX_BENCH_VCPUS = 255;
/** The last ID of an xAPIC; 255 means all. */
export const MAX_XAPIC_ID = 254;
/** What the seed's host had. */
export const BENCH_VCPUS = 80;

const wrong = (message: string): KvmscopeError => new KvmscopeError('usage', message);

function oneOf<T extends string>(name: string, value: T, words: readonly T[]): T {
  if (!words.includes(value)) throw wrong(`${name} must be one of ${words.join(', ')}, not ${String(value)}`);
  return value;
}

/** `value` if it is a whole number in the range. Throws KvmscopeError('usage') otherwise. */
export function whole(name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw wrong(`${name} must be a whole number from ${min} to ${max}, not ${String(value)}`);
}

/** Fills in defaults (80 vCPUs, broadcast to all others, x2APIC physical, vanilla) and throws KvmscopeError('usage') for nonsense. */
export function resolveScenario(given: Partial<IpiScenario> = {}): IpiScenario {
  const mode = oneOf('mode', given.mode ?? 'broadcast', IPI_MODES);
  const vcpus = whole('vcpus', given.vcpus ?? (mode === 'bare' ? 2 : BENCH_VCPUS), MIN_BENCH_VCPUS, MAX_BENCH_VCPUS);
  const targets = whole('targets', given.targets ?? vcpus - 1, 1, vcpus - 1);
  const apic = oneOf('apic', given.apic ?? 'physical', IPI_APICS);
  const send = oneOf('send', given.send ?? 'vanilla', IPI_SENDS);
  const idStride = whole('sparse-ids', given.idStride ?? 1, 1, 4096);
  const vendor = oneOf('vendor', given.vendor ?? 'intel', ['intel', 'amd']);
  const era = resolveEra(given.kvm ?? NEWEST_ERA.name);
  const highest = (vcpus - 1) * idStride;
  if (apic === 'xapic' && highest > MAX_XAPIC_ID)
    throw wrong(`xAPIC IDs end at ${MAX_XAPIC_ID}; the last of these vCPUs would have ${highest}`);
  if (send === 'shorthand' && targets !== vcpus - 1)
    throw wrong('a shorthand reaches all other CPUs, not some of them');
  return {
    ...{ mode, apic, send, vcpus, targets, idStride, vendor },
    idle: oneOf('idle', given.idle ?? 'poll', ['poll', 'halt']),
    eoi: oneOf('eoi', given.eoi ?? 'pv', ['pv', 'register']),
    kvm: era.name,
    apicv: oneOf('apicv', given.apicv ?? 'off', ['off', 'on', 'ipiv']),
    avic: given.avic ?? false,
    seed: whole('seed', given.seed ?? 1, 0, 0xffffffff),
  };
}

const MODE_NAMES: Readonly<Record<IpiMode, string>> = {
  'dry-run': 'DRY_RUN',
  self: 'SELF_IPI',
  normal: 'NORMAL_IPI',
  broadcast: 'BROADCAST',
  'broadcast-lock': 'BROADCAST_LOCK',
  bare: 'BARE_IPI',
};
const APIC_NAMES: Readonly<Record<IpiApic, string>> = {
  cluster: 'X2APIC_CLUSTER',
  physical: 'X2APIC_PHYSICAL',
  xapic: 'XAPIC_PHYSICAL',
};
const SEND_NAMES: Readonly<Record<IpiSend, string>> = { vanilla: 'VANILLA', shorthand: 'SHORTHAND', pv: 'PV_IPI' };

/** The guest program: the settings of guest/include/ipi-bench.inc, then guest/include/call-function.inc. */
export function scenarioSource(scenario: IpiScenario): string {
  const settings: readonly (readonly [string, string | number])[] = [
    ['MODE', MODE_NAMES[scenario.mode]],
    ['APIC', APIC_NAMES[scenario.apic]],
    ['SEND', SEND_NAMES[scenario.send]],
    ['CPUS', scenario.vcpus],
    ['TARGETS', scenario.targets],
    ['IDLE', scenario.idle === 'halt' ? 'HALT' : 'POLL'],
    ['EOI', scenario.eoi === 'pv' ? 'PV_EOI' : 'EOI_REGISTER'],
    ['ID_STRIDE', scenario.idStride],
    ['MARKS', 1],
    ...(scenario.vendor === 'amd' ? [['AMD', 1] as const] : []),
  ];
  const lines = settings.map(([name, value]) => `    .equ ${name}, ${value}`);
  return ['.include "ipi-bench.inc"', ...lines, '.include "call-function.inc"', ''].join('\n');
}
