/** Hand-made runs for the specs of this room: two vCPUs, one SEND_IPI by vmcall, one ICR write by wrmsr. */
import { GENERAL_REGISTERS, REGISTERS } from '../cpu/registers.ts';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { ExitRecord, VcpuCounters } from '../kvm/types.ts';
import type { LapicView, RunResult, VcpuView } from '../machine/types.ts';

/** Values of the general registers in the order of exit records; what is not named is 0, RFLAGS 2. */
export function generalValues(named: Readonly<Record<string, bigint>>): bigint[] {
  return GENERAL_REGISTERS.map(({ name }) => named[name] ?? (name === 'rflags' ? 2n : 0n));
}

export function counters(fields: Partial<VcpuCounters> = {}): VcpuCounters {
  return {
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
    ...fields,
  };
}

export function lapic(id: number, fields: Partial<LapicView> = {}): LapicView {
  return {
    id,
    mode: 'x2apic',
    enabled: true,
    irr: [],
    isr: [],
    tmr: [],
    tpr: 0,
    ppr: 0,
    icr: 0n,
    svr: 0x1ff,
    ldr: 1 << id,
    apicBase: 0xfee00c00n,
    ...fields,
  };
}

export function vcpu(index: number, fields: Partial<VcpuView> = {}): VcpuView {
  const long64 = {
    rflags: 2n,
    cr0: 0x80000011n,
    cr4: 0x20n,
    cr3: 0x70000n,
    efer: 0x500n,
    cs: 8n,
    ss: 16n,
    cs_attr: 0xa09bn,
  };
  const registers = Object.fromEntries(REGISTERS.map(({ name }) => [name, 0n]));
  return {
    index,
    apicId: index,
    mpState: 'halted',
    registers: { ...registers, ...long64, rsp: 0x80000n - BigInt(index) * 0x1000n },
    lapic: lapic(index),
    nmiPending: 0,
    smiPending: false,
    initPending: false,
    sipiPending: null,
    counters: counters(),
    steps: 0,
    ...fields,
  };
}

const IPI_BEFORE = { rax: 10n, rbx: 0b1110n, rsi: 0xd1n, rip: 0x1021n, rsp: 0x80000n };
const ICR_BEFORE = { rax: 0xd1n, rcx: 0x830n, rdx: 3n, rip: 0x1030n, rsp: 0x80000n };

const acceptance = (apicid: number): KvmTraceEvent => ({
  vcpu: 0,
  event: 'kvm_apic_accept_irq',
  apicid,
  deliveryMode: 0,
  triggerMode: 0,
  vector: 0xd1,
});

export const VMCALL_EXIT: ExitRecord = {
  vcpu: 0,
  name: 'vmcall',
  reason: 18,
  rip: 0x1021n,
  linear: 0x1021n,
  bits: 64,
  before: generalValues(IPI_BEFORE),
  after: generalValues({ ...IPI_BEFORE, rax: 3n, rip: 0x1024n }),
  events: [
    { vcpu: 0, event: 'kvm_exit', reason: 18, rip: 0x1021n, info1: 0n, info2: 0n, intrInfo: 0, errorCode: 0 },
    { vcpu: 0, event: 'kvm_hypercall', nr: 10n, a0: 14n, a1: 0n, a2: 0n, a3: 0xd1n },
    acceptance(1),
    acceptance(2),
    acceptance(3),
  ],
};

export const WRMSR_EXIT: ExitRecord = {
  vcpu: 0,
  name: 'msr_write',
  reason: 32,
  rip: 0x1030n,
  linear: 0x1030n,
  bits: 64,
  before: generalValues(ICR_BEFORE),
  after: generalValues({ ...ICR_BEFORE, rip: 0x1032n }),
  fastpath: { taken: true, reason: 'taken', completion: 'REENTER_GUEST' },
  events: [
    { vcpu: 0, event: 'kvm_exit', reason: 32, rip: 0x1030n, info1: 0n, info2: 0n, intrInfo: 0, errorCode: 0 },
    acceptance(3),
    { vcpu: 0, event: 'kvm_apic_ipi', icrLow: 0xd1, destId: 3 },
    { vcpu: 0, event: 'kvm_apic', write: true, reg: 0x300, value: 0x3000000d1n },
    { vcpu: 0, event: 'kvm_msr', write: true, msr: 0x830, data: 0x3000000d1n, fault: false },
  ],
};

/** Four vCPUs on KVM 6.18 for Intel after both exits. */
export function makeRun(fields: Partial<RunResult> = {}): RunResult {
  const exits = [VMCALL_EXIT, WRMSR_EXIT];
  const vcpus = [0, 1, 2, 3].map((i) =>
    vcpu(i, i === 0 ? { lapic: lapic(0, { icr: 0x3000000d1n }) } : { lapic: lapic(i, { irr: [0xd1] }) }),
  );
  const trace = exits.flatMap((record) => record.events);
  return {
    end: { kind: 'halted' },
    era: '6.18',
    vendor: 'intel',
    seed: 1,
    vcpus,
    start: vcpus.map((v) => v.registers),
    exits,
    trace,
    times: trace.map((_, i) => (i + 1) * 1000),
    counters: counters({ exits: 2, hypercalls: 1, fastpath: 1, byReason: { vmcall: 1, msr_write: 1 } }),
    console: '',
    reports: [],
    steps: 14,
    notes: [],
    memory: new Uint8Array(0),
    ...fields,
  };
}
