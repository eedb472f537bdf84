/** Behaviour as columns over all versions of KVM: what a guest program shows, from which version on. */
import { expect, test } from 'vitest';
import {
  createVm,
  KvmscopeError,
  type KvmTraceEvent,
  type MachineOptions,
  type RunResult,
  resolveEra,
  SWITCHES,
  type Vendor,
  type Vm,
} from '../../src/index.ts';

const minors = (major: number, first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, i) => `${major}.${first + i}`);

/** Every release, and the release candidates between which something changed. */
const RELEASES: readonly string[] = [
  '4.19-rc1',
  '4.19-rc2',
  '4.19-rc3',
  ...minors(4, 19, 20),
  ...minors(5, 0, 5),
  '5.6-rc1',
  '5.6-rc7',
  ...minors(5, 6, 19),
  ...minors(6, 0, 19),
  ...minors(7, 0, 1),
];

const switchesOf = (version: string): string => SWITCHES.map(({ name }) => resolveEra(version)[name]).join();

/** Of neighbours with the same switches the first and the last: on either side of every change. */
export const VERSIONS: readonly string[] = RELEASES.filter((version, i) => {
  const neighbours = [RELEASES[i - 1], RELEASES[i + 1]];
  return neighbours.some((other) => other === undefined || switchesOf(other) !== switchesOf(version));
});

/** From each version on, this. A release counts from its first release candidate. */
export type Since<T> = readonly (readonly [version: string, value: T])[];

const startOf = (version: string): number => resolveEra(version.includes('rc') ? version : `${version}-rc1`).order;

/** Value in force in `version`; the first column must cover the oldest one asked for. */
export function valueIn<T>(columns: Since<T>, version: string): T {
  const found = columns.findLast(([since]) => startOf(since) <= resolveEra(version).order);
  if (found === undefined) throw new Error(`no column for ${version}`);
  return found[1];
}

export interface Scenario extends Omit<MachineOptions, 'kvm' | 'vendor'> {
  /** Guest code of vCPU 0; `HC` stands for the vendor's own hypercall instruction. */
  readonly source: string;
  /** Registers of vCPU 0. */
  readonly registers?: Readonly<Record<string, bigint>>;
  /** What the host does before the run. */
  readonly prepare?: (vm: Vm) => void;
}

/** Runs a scenario in a VM of its own; `observe` sees the result before the VM is gone. */
export async function observed<T>(
  kvm: string,
  vendor: Vendor,
  { source, registers, prepare, ...options }: Scenario,
  observe: (run: RunResult, vm: Vm) => T,
): Promise<T> {
  const vm = await createVm({ memory: 0x20_0000, aps: 'wait-for-sipi', budget: 20_000, ...options, kvm, vendor });
  try {
    vm.load(source.replaceAll('HC', vendor === 'intel' ? 'vmcall' : 'vmmcall'));
    if (registers !== undefined) vm.setRegisters(0, registers);
    prepare?.(vm);
    return observe(vm.run(), vm);
  } finally {
    vm.dispose();
  }
}

type ByVendor<T> = Since<T> | { readonly intel: Since<T>; readonly amd: Since<T> };

const isByVendor = <T>(columns: ByVendor<T>): columns is { readonly intel: Since<T>; readonly amd: Since<T> } =>
  'intel' in columns;

/**
 * One row of a switchboard: on both vendors and in every version from the first column's on, `observe` gives what the columns say.
 * All versions are compared at once, so that a failure shows where the behaviour really changes.
 */
export function row<T>(
  name: string,
  scenario: Scenario,
  observe: (run: RunResult, vm: Vm) => T,
  columns: ByVendor<T>,
): void {
  for (const vendor of ['intel', 'amd'] as const) {
    const mine = isByVendor(columns) ? columns[vendor] : columns;
    const first = startOf(mine[0][0]);
    test(`${name}, on ${vendor}`, async () => {
      const seen: Record<string, unknown> = {};
      const wanted: Record<string, unknown> = {};
      for (const version of VERSIONS.filter((item) => resolveEra(item).order >= first)) {
        wanted[version] = valueIn(mine, version);
        try {
          seen[version] = await observed(version, vendor, scenario, observe);
        } catch (error) {
          if (!(error instanceof KvmscopeError)) throw error;
          seen[version] = error.code;
        }
      }
      expect(seen).toEqual(wanted);
    });
  }
}

// ---- what rows look at ----

/** RAX of vCPU 0 as a signed number, or how the run ended if it did not end well. */
export function result(run: RunResult): number | string {
  const { end } = run;
  if (end.kind === 'host-bug') return end.cve ?? end.bug;
  if (end.kind !== 'halted') return end.kind;
  return Number(BigInt.asIntN(64, run.vcpus[0].registers.rax));
}

/** Indices of the vCPUs with `vector` in the IRR; '#GP' if the run ended by a triple fault. */
export const reached =
  (vector: number) =>
  (run: RunResult): number[] | string =>
    run.end.kind === 'shutdown'
      ? '#GP'
      : run.vcpus.filter((vcpu) => vcpu.lapic.irr.includes(vector)).map((vcpu) => vcpu.index);

/** What the fastpath did with the last write it was asked about: the completion code, or why it refused; '' if it was not asked. */
export function fastpath(run: RunResult): string {
  const asked = run.exits.findLast((exit) => exit.fastpath !== undefined)?.fastpath;
  return asked === undefined ? '' : (asked.completion ?? asked.reason);
}

const SHORT: Readonly<Partial<Record<KvmTraceEvent['event'], string>>> = {
  kvm_entry: 'entry',
  kvm_exit: 'exit',
  kvm_apic_ipi: 'ipi',
  kvm_apic_accept_irq: 'accept',
  kvm_msr: 'msr',
  kvm_hypercall: 'hypercall',
  kvm_inj_virq: 'inject',
};

/** Trace of the first exit, from after the first entry to the next one: 'exit ipi accept ICR=… msr entry'. */
export function order(run: RunResult): string {
  const names = run.trace.map((event) => {
    if (event.event !== 'kvm_apic') return SHORT[event.event] ?? event.event;
    const register = { 768: 'ICR', 784: 'ICR2', 1008: 'SELF' }[event.reg] ?? event.reg.toString(16);
    return `${event.write ? '' : 'read '}${register}=${event.value.toString(16)}`;
  });
  const entry = names.indexOf('entry');
  return names.slice(entry + 1, names.indexOf('entry', entry + 1) + 1).join(' ');
}

/** Source that writes an MSR. */
export const wrmsr = (msr: number, low: number, high = 0): string =>
  `mov ecx, ${msr}\nmov eax, ${low >>> 0}\nmov edx, ${high >>> 0}\nwrmsr\n`;
/** Source that writes the x2APIC's ICR, and then halts. */
export const icr = (low: number, destination = 0): string => `${wrmsr(0x830, low, destination)}hlt\n`;
/** Source that makes a hypercall, and then halts. */
export const hypercall = (nr: number, a0 = 0, a1 = 0, a2 = 0, a3 = 0): string =>
  `mov eax, ${nr}\nmov rbx, ${a0}\nmov rcx, ${a1}\nmov edx, ${a2}\nmov esi, ${a3}\nHC\nhlt\n`;
/** Source of KVM_HC_SEND_IPI. */
export const sendIpi = (low: number, high: number, min: number, command: number): string =>
  hypercall(10, low, high, min, command);
