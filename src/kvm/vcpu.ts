/** `struct kvm_vcpu`: what KVM keeps for one virtual processor besides the CPU registers, and its statistics. */

import * as layout from '../cpu/core/layout.ts';
import type { CpuState } from '../cpu/cpu.ts';
import { VirtualClock } from './clock.ts';
import type { Era } from './eras.ts';
import { EXIT_KINDS, type VendorExit } from './exits.ts';
import type { PicPair } from './i8259.ts';
import { Lapic } from './lapic.ts';
import { PvState } from './pv-state.ts';
import type { MpState, VcpuCounters, VcpuRunResult } from './types.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const { BLOCKED_BY_NMI, R_RFLAGS, R_TSC_OFFSET, SHADOW_MOV_SS, SHADOW_STI } = layout;

// MP states as the run loop sees them.
export const MP_RUNNABLE = 0;
export const MP_UNINITIALIZED = 1;
export const MP_INIT_RECEIVED = 2;
export const MP_HALTED = 3;
/** RUNNABLE to user space, but asleep until a page has been fetched (apf.halted). */
export const MP_APF_HALTED = 4;
/** By number, which up to 3 is also the KVM_SET_MP_STATE encoding. */
/** As KVM numbers them. */
export const MP_NUMBER: Readonly<Record<MpState, number>> = {
  runnable: MP_RUNNABLE,
  uninitialized: MP_UNINITIALIZED,
  'init-received': MP_INIT_RECEIVED,
  halted: MP_HALTED,
};
const MP_NAMES: readonly MpState[] = ['runnable', 'uninitialized', 'init-received', 'halted', 'runnable'];

// Where the vCPU's thread is (vcpu->mode).
export const OUTSIDE_GUEST = 0;
export const IN_GUEST = 1;
/** In the guest, with a host IPI on its way that will make it leave. */
export const EXITING_GUEST = 2;

// Whether the LAPIC timer ends the stay in the guest.
export const TIMER_EXIT_NONE = 0;
export const TIMER_EXIT = 1;
/** It has expired before, and that interrupt is still held back. */
export const TIMER_EXIT_AGAIN = 2;

// What user space still has to finish before the vCPU can go on.
export const COMPLETE_NOTHING = 0;
export const COMPLETE_IO = 1;
export const COMPLETE_MMIO = 2;
export const COMPLETE_HYPERCALL = 3;

const RFLAGS_IF = 0x200;

/**
 * KVM's statistics of one vCPU (`struct kvm_vcpu_stat`), and fastpath hits. Plain numbers in one hidden class: every exit counts here, and
 * an accessor among the properties would make an engine keep them in a hash table.
 */
export class VcpuStat implements Omit<VcpuCounters, 'byReason'> {
  exits = 0;
  irq_exits = 0;
  irq_window_exits = 0;
  nmi_window_exits = 0;
  halt_exits = 0;
  halt_wakeup = 0;
  hypercalls = 0;
  irq_injections = 0;
  nmi_injections = 0;
  req_event = 0;
  request_irq_exits = 0;
  signal_exits = 0;
  directed_yield_attempted = 0;
  directed_yield_successful = 0;
  fastpath = 0;

  /** Becomes what others are. */
  assign(from: VcpuStat): void {
    this.exits = from.exits;
    this.irq_exits = from.irq_exits;
    this.irq_window_exits = from.irq_window_exits;
    this.nmi_window_exits = from.nmi_window_exits;
    this.halt_exits = from.halt_exits;
    this.halt_wakeup = from.halt_wakeup;
    this.hypercalls = from.hypercalls;
    this.irq_injections = from.irq_injections;
    this.nmi_injections = from.nmi_injections;
    this.req_event = from.req_event;
    this.request_irq_exits = from.request_irq_exits;
    this.signal_exits = from.signal_exits;
    this.directed_yield_attempted = from.directed_yield_attempted;
    this.directed_yield_successful = from.directed_yield_successful;
    this.fastpath = from.fastpath;
  }
}

/** The statistics and the exits by name as one object whose properties follow the vCPU; copies of it carry them all. */
function liveCounters(stat: VcpuStat, exitCounts: Float64Array, names: readonly VendorExit[]): VcpuCounters {
  const counters: Partial<VcpuCounters> = {};
  for (const name of Object.keys(stat) as (keyof VcpuStat & keyof VcpuCounters)[]) {
    Object.defineProperty(counters, name, { enumerable: true, get: () => stat[name] });
  }
  const byReason = (): Record<string, number> => {
    const sums: Record<string, number> = {};
    for (const [kind, { name }] of names.entries()) {
      if (exitCounts[kind] > 0) sums[name] = (sums[name] ?? 0) + exitCounts[kind];
    }
    return sums;
  };
  return Object.defineProperty(counters, 'byReason', { enumerable: true, get: byReason }) as VcpuCounters;
}

type IoExitResult = Extract<VcpuRunResult, { kind: 'io' }>;
type IoResult = { -readonly [K in keyof IoExitResult]: IoExitResult[K] };

export interface VcpuSetup {
  readonly index: number;
  readonly vcpuId: number;
  readonly state: CpuState;
  readonly era: Era;
  readonly clock: VirtualClock;
  readonly exitTable: readonly VendorExit[];
  readonly lint0Reenabled: boolean;
  /** The guest's CPUID shows the x2APIC, and the TSC-deadline timer. */
  readonly showsX2apic: boolean;
  readonly showsDeadline: boolean;
  /** KVM keeps the x2APIC ICR as one register of 64 bits. */
  readonly wideIcr: boolean;
}

export class KvmVcpu {
  readonly index: number;
  /** vcpu_id = x2APIC id. */
  readonly apicId: number;
  readonly state: CpuState;
  readonly lapic: Lapic;
  /** Exits by kind (`exits.ts`). */
  readonly exitCounts: Float64Array = new Float64Array(EXIT_KINDS);
  readonly stat: VcpuStat = new VcpuStat();
  /** vCPU id 0 is the bootstrap processor. */
  readonly bsp: boolean;
  /** The guest's CPUID shows the x2APIC. */
  readonly showsX2apic: boolean;

  /** MP_*. */
  mp: number;
  /** OUTSIDE_GUEST, IN_GUEST or EXITING_GUEST. */
  mode: number = OUTSIDE_GUEST;
  /** The thread sleeps in kvm_vcpu_block. */
  blocked = false;
  /** The `io` result, reused. */
  readonly io: IoResult = { kind: 'io', direction: 'in', port: 0, size: 1, value: 0 };
  /** The I/O being completed is a string instruction's. */
  ioString = false;
  /** COMPLETE_*. */
  completion: number = COMPLETE_NOTHING;
  /**
   * RIP still points at an instruction whose memory or string-I/O access was completed: it must run to its end before
   * any event.
   */
  finishing = false;
  /** vcpu->arch.nmi_pending: NMIs evaluated and not yet injected. */
  nmiLatched = 0;
  /** Exception that the next entry injects, -1 if none; with its error code, -1 if it has none. */
  exceptionVector = -1;
  exceptionError = -1;
  /** Error code of the event last injected. */
  injectedError = 0;
  /** TPR class below which Intel takes a TPR_BELOW_THRESHOLD exit; 0: never. */
  tprThreshold = 0;
  /** Values of the MSRs that are only stored, by number. Replaced when one changes, so that snapshots may share it. */
  msrs: ReadonlyMap<number, bigint> = new Map();
  /** The PICs in the kernel, if there are any. */
  pics: PicPair | null = null;
  /** Paravirtual interfaces. */
  readonly pv: PvState = new PvState();
  /** run->hypercall.ret: what user space last answered. */
  hypercallRet = 0n;

  /**
   * TIMER_EXIT_*: whether the LAPIC timer expired in the guest, so that the vCPU leaves before its next instruction.
   */
  timerExit: number = TIMER_EXIT_NONE;

  readonly #setup: VcpuSetup;
  readonly #clock: VirtualClock;
  /** Time that this vCPU did not run, as far as the TSC offset has it. */
  #apart: number;
  #counters: VcpuCounters | undefined;

  constructor(setup: VcpuSetup) {
    this.#setup = setup;
    this.index = setup.index;
    this.apicId = setup.vcpuId;
    this.state = setup.state;
    this.bsp = setup.vcpuId === 0;
    this.showsX2apic = setup.showsX2apic;
    this.lapic = new Lapic(setup.index, setup.vcpuId, setup.era, this.bsp, setup.lint0Reenabled, setup.clock);
    this.lapic.showsDeadline = setup.showsDeadline;
    this.lapic.wideIcr = setup.wideIcr;
    this.#clock = setup.clock;
    this.#apart = setup.clock.now - setup.state.steps;
    this.mp = this.bsp ? MP_RUNNABLE : MP_UNINITIALIZED;
    this.blocked = !this.bsp;
  }

  /** `stat` and `exitCounts` with the names that KVM and a vendor give them. */
  get counters(): Readonly<VcpuCounters> {
    this.#counters ??= liveCounters(this.stat, this.exitCounts, this.#setup.exitTable);
    return this.#counters;
  }

  /** Reading leaves pending INIT and SIPI alone (KVM_GET_MP_STATE does not); writing is KVM_SET_MP_STATE. */
  get mpState(): MpState {
    return MP_NAMES[this.mp] as MpState;
  }

  set mpState(state: MpState) {
    this.setMp(MP_NAMES.indexOf(state));
    this.blocked = this.mp !== MP_RUNNABLE;
    this.pv.readySince = this.blocked ? -1 : this.#clock.now;
    this.lapic.requestEvent = true;
  }

  /** KVM_SET_VCPU_EVENTS with nothing pending, injected or masked. */
  clearEvents(): void {
    const { lapic, state } = this;
    this.exceptionVector = -1;
    this.nmiLatched = 0;
    lapic.nmiQueued = 0;
    lapic.smiPending = false;
    lapic.initPending = false;
    lapic.sipiPending = false;
    lapic.pvUnhalted = false;
    state.inject(0, 0, 0);
    state.interruptibility = 0;
    state.window = 0;
  }

  storeMsr(msr: number, value: bigint): void {
    this.msrs = new Map(this.msrs).set(msr, value);
  }

  /** Another one in the same state, on a clock of its own that stands still. */
  copy(): KvmVcpu {
    const copy = new KvmVcpu({ ...this.#setup, clock: new VirtualClock() });
    copy.assign(this);
    return copy;
  }

  /** Becomes what a copy of this vCPU is. CPU registers are the engine's (`Cpu.restore`). */
  assign(from: KvmVcpu): void {
    this.lapic.assign(from.lapic);
    this.exitCounts.set(from.exitCounts);
    this.stat.assign(from.stat);
    this.mp = from.mp;
    this.mode = from.mode;
    this.blocked = from.blocked;
    this.io.direction = from.io.direction;
    this.io.port = from.io.port;
    this.io.size = from.io.size;
    this.io.value = from.io.value;
    this.ioString = from.ioString;
    this.completion = from.completion;
    this.finishing = from.finishing;
    this.nmiLatched = from.nmiLatched;
    this.exceptionVector = from.exceptionVector;
    this.exceptionError = from.exceptionError;
    this.injectedError = from.injectedError;
    this.tprThreshold = from.tprThreshold;
    this.msrs = from.msrs;
    this.pv.assign(from.pv);
    this.hypercallRet = from.hypercallRet;
    this.timerExit = from.timerExit;
    this.#apart = from.#apart;
  }

  /** Changes the MP state; becoming RUNNABLE uses up a PV kick. */
  setMp(mp: number): void {
    this.mp = mp;
    if (mp === MP_RUNNABLE) this.lapic.pvUnhalted = false;
  }

  /** Lets the TSC catch up with time in which other vCPUs ran or all slept: the TSC never stops. */
  syncTsc(): void {
    const { state } = this;
    const apart = this.#clock.now - state.steps;
    if (apart === this.#apart) return;
    this.#moveTsc(apart - this.#apart);
    this.#apart = apart;
  }

  /** Adds a whole number to the TSC offset, modulo 2^64. */
  #moveTsc(cycles: number): void {
    const { state } = this;
    const lo = state.lo(R_TSC_OFFSET) + (cycles >>> 0);
    const hi = state.hi(R_TSC_OFFSET) + Math.floor(cycles / 0x100000000) + (lo > 0xffffffff ? 1 : 0);
    state.set(R_TSC_OFFSET, lo >>> 0, hi >>> 0);
  }

  /** What RDTSC would read, 64 bits. Writing moves the offset; an armed TSC deadline keeps its time. */
  get tsc(): bigint {
    this.syncTsc();
    return BigInt.asUintN(64, BigInt(this.state.steps) + this.state.get(R_TSC_OFFSET));
  }

  set tsc(value: bigint) {
    this.syncTsc();
    this.state.put(R_TSC_OFFSET, BigInt.asUintN(64, value - BigInt(this.state.steps)));
  }

  /** NMIs as KVM_GET_VCPU_EVENTS reports them: 0, 1 or 2. */
  get nmiPending(): number {
    return Math.min(this.nmiLatched + this.lapic.nmiQueued, this.nmiLimit);
  }

  /** One NMI stays latched behind one that is in service, two otherwise. */
  get nmiLimit(): number {
    return (this.state.interruptibility & BLOCKED_BY_NMI) !== 0 ? 1 : 2;
  }

  /** NMIs received and not yet evaluated. */
  get nmiQueued(): number {
    return this.lapic.nmiQueued;
  }

  get smiPending(): boolean {
    return this.lapic.smiPending;
  }

  get initPending(): boolean {
    return this.lapic.initPending;
  }

  get sipiPending(): boolean {
    return this.lapic.sipiPending;
  }

  /** Vector of the last SIPI, 0 … 255. */
  get sipiVector(): number {
    return this.lapic.sipiVector;
  }

  get pvUnhalted(): boolean {
    return this.lapic.pvUnhalted;
  }

  /** RFLAGS.IF set and no STI or MOV-SS shadow. */
  get interruptAllowed(): boolean {
    return (
      (this.state.lo(R_RFLAGS) & RFLAGS_IF) !== 0 && (this.state.interruptibility & (SHADOW_STI | SHADOW_MOV_SS)) === 0
    );
  }

  get nmiAllowed(): boolean {
    return (this.state.interruptibility & (BLOCKED_BY_NMI | SHADOW_STI | SHADOW_MOV_SS)) === 0;
  }

  /** The PICs request an interrupt of this vCPU. */
  get picInterrupt(): boolean {
    return this.pics?.output === true && this.lapic.acceptsPicInterrupt;
  }

  /** Whether something would end a HLT (kvm_vcpu_has_events). */
  get hasEvents(): boolean {
    const { lapic } = this;
    return (
      lapic.initPending === true ||
      lapic.sipiPending === true ||
      lapic.pvUnhalted === true ||
      lapic.smiPending === true ||
      lapic.nmiQueued > 0 ||
      this.exceptionVector >= 0 ||
      (this.nmiLatched > 0 && this.nmiAllowed) ||
      (this.interruptAllowed && (this.picInterrupt || lapic.deliverable() >= 0))
    );
  }

  /** Whether KVM_RUN would get anywhere. */
  get runnable(): boolean {
    if (this.mp === MP_RUNNABLE) return true;
    if (this.mp === MP_HALTED || this.mp === MP_APF_HALTED) return this.hasEvents;
    return this.lapic.initPending || this.lapic.sipiPending;
  }
}
