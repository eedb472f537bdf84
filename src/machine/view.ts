/** Copies of vCPU state as plain values, for results. */
import type { CpuState } from '../cpu/cpu.ts';
import { REGISTERS } from '../cpu/registers.ts';
import type { Lapic } from '../kvm/lapic.ts';
import type { VcpuCounters } from '../kvm/types.ts';
import type { Kvm } from '../kvm/x86.ts';
import type { LapicView, VcpuView } from './types.ts';

/** Every register of the register table by name. */
export function readRegisters(state: CpuState): Record<string, bigint> {
  const registers: Record<string, bigint> = {};
  for (const { name, id } of REGISTERS) registers[name] = state.get(id);
  return registers;
}

function viewLapic(lapic: Lapic): LapicView {
  return {
    id: lapic.id,
    mode: lapic.mode,
    enabled: lapic.mode !== 'disabled' && lapic.swEnabled,
    irr: lapic.irr(),
    isr: lapic.isr(),
    tmr: lapic.tmr(),
    tpr: lapic.tpr,
    ppr: lapic.ppr,
    icr: lapic.icr,
    svr: lapic.svr,
    ldr: lapic.ldr,
    apicBase: lapic.apicBase,
  };
}

const copyCounters = (counters: VcpuCounters): VcpuCounters => ({ ...counters, byReason: { ...counters.byReason } });

/** The state of one vCPU now; `steps` is what it has executed since the VM was reset. */
export function viewVcpu(kvm: Kvm, index: number, steps: number): VcpuView {
  const vcpu = kvm.vcpus[index];
  return {
    index,
    apicId: vcpu.apicId,
    mpState: vcpu.mpState,
    registers: readRegisters(kvm.cpu.vcpu(index)),
    lapic: viewLapic(vcpu.lapic),
    nmiPending: vcpu.nmiPending,
    smiPending: vcpu.smiPending,
    initPending: vcpu.initPending,
    sipiPending: vcpu.sipiPending ? vcpu.sipiVector : null,
    counters: copyCounters(vcpu.counters),
    steps,
  };
}

/** Field-wise sum, exits by name included. */
export function sumCounters(all: readonly Readonly<VcpuCounters>[]): VcpuCounters {
  const sum: VcpuCounters = {
    exits: 0,
    irq_exits: 0,
    irq_window_exits: 0,
    nmi_window_exits: 0,
    halt_exits: 0,
    halt_wakeup: 0,
    hypercalls: 0,
    irq_injections: 0,
    nmi_injections: 0,
    req_event: 0,
    request_irq_exits: 0,
    signal_exits: 0,
    directed_yield_attempted: 0,
    directed_yield_successful: 0,
    byReason: {},
    fastpath: 0,
  };
  for (const counters of all) {
    for (const [name, value] of Object.entries(counters)) {
      if (name !== 'byReason') sum[name as Exclude<keyof VcpuCounters, 'byReason'>] += value as number;
    }
    for (const [name, count] of Object.entries(counters.byReason)) {
      sum.byReason[name] = (sum.byReason[name] ?? 0) + count;
    }
  }
  return sum;
}
