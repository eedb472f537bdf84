/**
 * The VM that a recording describes: set up once, brought back to its start before every case, and read as the recorder read it.
 *
 * Guest stimuli are the pieces of a stub that is written once.
 */
import { R_IDTR_BASE, R_IDTR_LIMIT, R_RAX, R_RFLAGS, R_RIP, R_SEL, S_FIRST, SEG_CS } from '../cpu/core/layout.ts';
import { defaultPvFeatures } from '../kvm/cpuid.ts';
import type { Era } from '../kvm/eras.ts';
import type { MpState } from '../kvm/types.ts';
import { type KvmVcpu, MP_NUMBER } from '../kvm/vcpu.ts';
import type { Kvm } from '../kvm/x86.ts';
import { BOOT_LAYOUT, bootMemory } from '../machine/boot-state.ts';
import { createVm } from '../machine/machine.ts';
import type { StartMode } from '../machine/types.ts';
import type { Vm } from '../machine/vm.ts';
import {
  SLOT_DFR,
  SLOT_ICR,
  SLOT_ICR2,
  SLOT_ID,
  SLOT_IRR,
  SLOT_ISR,
  SLOT_LDR,
  SLOT_PPR,
  SLOT_SVR,
  SLOT_TMCCT,
  SLOT_TMR,
  SLOT_TPR,
  SLOTS,
} from './lapic-slots.ts';
import type { RecordedApic, RecordedVm, Via } from './recording.ts';
import { type CallerMode, EXCEPTIONS, handlerAt, idtLimit, STUB, STUB_IDT, type Stimulus, stub } from './stub.ts';

export type { CallerMode };

/** Effects on one vCPU since the start, in a recording's words; empty: none. */
export type Change = Record<string, number | number[]>;

const PV_SEND_IPI = 1 << 11;
const MSR_APIC_BASE = 0x1b;
const EXTD = 0x400n;
const EN = 0x800n;

/** Sets of vectors, by the key of their additions. */
const SETS = [
  ['irr', SLOT_IRR],
  ['isr', SLOT_ISR],
  ['tmr', SLOT_TMR],
] as const;
/** What the APIC map is built from. */
const MAPPED = [SLOT_ID, SLOT_LDR, SLOT_DFR, SLOT_SVR] as const;
/** 1 for registers whose value a recording does not hold: recomputed when read, or kept as vector sets. */
const UNRECORDED = new Uint8Array(SLOTS);
UNRECORDED[SLOT_PPR] = 1;
UNRECORDED[SLOT_TMCCT] = 1;
UNRECORDED.fill(1, SLOT_ISR, SLOT_IRR + 8);

/** CS selector after RESET and INIT. */
const RESET_CS = 0xf000;

/** KVM_RUN budgets: one exit; two MMIO exits and the instructions that caused them. */
const ONE_EXIT = 1;
const TWO_STORES = 4;

/** Vectors set in `now` and clear in `then`, in the 256-bit set at `slot`. */
function added(now: Uint32Array, then: Uint32Array, slot: number): number[] {
  const vectors: number[] = [];
  for (let word = 0; word < 8; word++) {
    let bits = (now[slot + word] & ~then[slot + word]) >>> 0;
    while (bits !== 0) {
      const bit = 31 - Math.clz32(bits & -bits);
      vectors.push(word * 32 + bit);
      bits = (bits & (bits - 1)) >>> 0;
    }
  }
  return vectors;
}

/** What one vCPU is restored to. */
interface Start {
  readonly lapic: Uint32Array;
  /** Low and high halves of the architectural registers. */
  readonly registers: Uint32Array;
}

export class RecordedMachine {
  readonly kvm: Kvm;
  /** The host of this VM is gone: make another one. */
  crashed = false;
  private readonly vm: Vm;
  private readonly start: readonly Start[];
  /** The registers of vCPU n are not those of its start state. */
  private readonly stale: boolean[];
  /** Something of vCPU n besides CPU registers may not be as at the start. */
  private readonly touched: boolean[];
  private readonly mpBefore: MpState[];

  private constructor(vm: Vm, recorded: RecordedVm, mode: CallerMode) {
    this.vm = vm;
    this.kvm = vm.kvm;
    vm.write(BOOT_LAYOUT.origin, stub(mode, recorded.vendor));
    for (const [index, apic] of recorded.apics.entries()) this.setApic(index, apic);
    this.start = this.kvm.vcpus.map(({ state, lapic }) => {
      state.set(R_IDTR_BASE, STUB_IDT, 0);
      state.set(R_IDTR_LIMIT, idtLimit(mode, EXCEPTIONS), 0);
      const registers = new Uint32Array(S_FIRST * 2);
      for (let id = 0; id < S_FIRST; id++) {
        registers[id * 2] = state.lo(id);
        registers[id * 2 + 1] = state.hi(id);
      }
      return { lapic: lapic.registers.slice(0, SLOTS), registers };
    });
    this.stale = this.start.map(() => true);
    this.touched = this.start.map(() => true);
    this.mpBefore = this.start.map(() => 'uninitialized');
  }

  static async create(recorded: RecordedVm, era: Era, mode: CallerMode): Promise<RecordedMachine> {
    const user = mode.endsWith('-user');
    const vcpus = recorded.ids.length;
    const features = defaultPvFeatures(era);
    const vm = await createVm({
      vcpus,
      memory: bootMemory(vcpus),
      kvm: era.name,
      vendor: recorded.vendor,
      mode: (user ? mode.slice(0, -'-user'.length) : mode) as StartMode,
      cpl: user ? 3 : 0,
      apic: 'reset',
      aps: 'run',
      apicIds: recorded.ids,
      x2apicApi: recorded.x2apicApi,
      vectorHashing: recorded.vectorHashing,
      enforcePvFeatures: recorded.enforcePvFeatures,
      pvFeatures: (recorded.sendIpiFeature ? features | PV_SEND_IPI : features & ~PV_SEND_IPI) >>> 0,
      record: false,
    });
    return new RecordedMachine(vm, recorded, mode);
  }

  dispose(): void {
    this.vm.dispose();
  }

  /** KVM_SET_MSRS of IA32_APIC_BASE and KVM_SET_LAPIC. */
  private setApic(index: number, apic: RecordedApic): void {
    const { kvm } = this;
    const { lapic } = this.vcpu(index);
    const x2apic = (apic.base & EXTD) !== 0n;
    // A disabled APIC keeps ID and LDR of the mode it was in before.
    const wasX2apic = (apic.base & EN) === 0n && apic.ldr !== 0 && (apic.ldr & 0xffffff) !== 0;
    if (wasX2apic || (apic.base & EN) === 0n)
      kvm.setMsr(index, MSR_APIC_BASE, apic.base | EN | (wasX2apic ? EXTD : 0n));
    kvm.setMsr(index, MSR_APIC_BASE, apic.base);
    const registers = lapic.registers.slice();
    registers[SLOT_SVR] = apic.svr;
    registers[SLOT_TPR] = apic.tpr;
    if (!x2apic) {
      registers[SLOT_LDR] = apic.ldr;
      registers[SLOT_DFR] = apic.dfr;
      if (apic.id !== undefined) registers[SLOT_ID] = apic.id;
    }
    for (const [name, slot] of SETS) {
      for (const vector of apic[name]) registers[slot + (vector >> 5)] |= 1 << (vector & 31);
    }
    kvm.setLapic(index, registers);
  }

  private vcpu(index: number): KvmVcpu {
    return this.kvm.vcpus[index] as KvmVcpu;
  }

  /** Restores what the last case changed. `running`: index of the vCPU that executes guest code, -1: none. */
  reset(base: MpState, running: number): void {
    for (const vcpu of this.kvm.vcpus) {
      const { index } = vcpu;
      const mp = index === running ? 'runnable' : base;
      if (this.touched[index]) {
        this.touched[index] = false;
        this.restoreLapic(vcpu, (this.start[index] as Start).lapic);
        vcpu.clearEvents();
        if (index !== running) {
          vcpu.state.set(R_SEL + SEG_CS, RESET_CS, 0);
          this.stale[index] = true;
        }
        vcpu.mpState = mp;
      } else if (vcpu.mpState !== mp) {
        vcpu.mpState = mp;
      }
      this.mpBefore[index] = mp;
    }
    if (running >= 0) {
      // Whoever executes is restored next time, too.
      this.touched[running] = true;
      if (this.stale[running]) this.restoreRegisters(running);
    }
  }

  /** KVM_SET_LAPIC, without a rebuild of the APIC map where nothing that it holds has changed. */
  private restoreLapic({ index, lapic }: KvmVcpu, start: Uint32Array): void {
    const now = lapic.registers;
    if (MAPPED.every((slot) => now[slot] === start[slot])) lapic.load(start);
    else this.kvm.setLapic(index, start);
  }

  private restoreRegisters(index: number): void {
    const { state } = this.vcpu(index);
    const { registers } = this.start[index] as Start;
    for (let id = 0; id < S_FIRST; id++) state.set(id, registers[id * 2] as number, registers[id * 2 + 1] as number);
    this.stale[index] = false;
  }

  // ---- stimuli ----

  /** KVM_SET_MSRS; whether it was refused. */
  setMsr(index: number, msr: number, value: bigint): boolean {
    this.touched[index] = true;
    return !this.kvm.setMsr(index, msr, value);
  }

  /** KVM_GET_MSRS; undefined: refused. */
  getMsr(index: number, msr: number): bigint | undefined {
    return this.kvm.getMsr(index, msr);
  }

  /** WRMSR by guest code; how it ended: 'next', 'vec N', or why the run stopped. */
  guestWrmsr(index: number, msr: number, value: bigint): string {
    const { state } = this.vcpu(index);
    state.set(R_RAX + 1, msr, 0);
    state.set(R_RAX + 2, Number(value >> 32n), 0);
    state.set(R_RAX, Number(value & 0xffffffffn), 0);
    return this.execute(index, 'wrmsr', ONE_EXIT);
  }

  /** A write to ICR by guest code in the middle of a sequence: whatever woke the sender is for its next entry. */
  guestWrite(via: Via, index: number, msr: number, value: bigint): void {
    this.touched[index] = true;
    this.vcpu(index).mpState = 'runnable';
    if (this.stale[index]) this.restoreRegisters(index);
    if (via === 'guest-mmio') this.guestMmio(index, value);
    else this.guestWrmsr(index, msr, value);
  }

  /** Two stores by guest code to ICR2 and ICR of the APIC page. */
  guestMmio(index: number, value: bigint): string {
    const { state, lapic } = this.vcpu(index);
    state.set(R_RAX + 2, Number(value >> 32n), 0);
    state.set(R_RAX, Number(value & 0xffffffffn), 0);
    state.set(R_RAX + 7, (lapic.baseLo & ~0xfff) >>> 0, lapic.baseHi);
    return this.execute(index, 'icrStores', TWO_STORES);
  }

  /** VMCALL or VMMCALL with RAX, RBX, RCX, RDX, RSI; the signed result is in RAX afterwards. */
  guestCall(index: number, registers: readonly [bigint, bigint, bigint, bigint, bigint]): string {
    const { state } = this.vcpu(index);
    for (const [at, id] of CALL_REGISTERS.entries()) state.put(id, registers[at] as bigint);
    return this.execute(index, 'call', ONE_EXIT);
  }

  /** Names of the call's registers, RAX excepted, that do not hold what they held before it. */
  spoiled(index: number, registers: readonly bigint[]): string[] {
    const { state } = this.vcpu(index);
    const names = ['rbx', 'rcx', 'rdx', 'rsi'];
    return names.filter((_, at) => state.get(CALL_REGISTERS[at + 1] as number) !== registers[at + 1]);
  }

  rax(index: number): bigint {
    return this.vcpu(index).state.get(R_RAX);
  }

  private execute(index: number, what: Stimulus, budget: number): string {
    const { kvm } = this;
    const { at, length } = STUB[what];
    const { state } = this.vcpu(index);
    state.set(R_RIP, at, 0);
    state.set(R_RFLAGS, (this.start[index] as Start).registers[R_RFLAGS * 2] as number, 0);
    const end = kvm.run(index, budget);
    if (end.kind === 'host-bug' || end.kind === 'internal-error') {
      this.crashed = true;
      return end.kind === 'host-bug' ? `host bug ${end.bug}` : `internal error: ${end.detail}`;
    }
    if (state.lo(R_RIP) === at + length) return 'next';
    this.stale[index] = true;
    return this.ending(index, end.kind);
  }

  /** Lets an exception reach its handler. */
  private ending(index: number, kind: string): string {
    if (this.handlerReached(index) < 0) this.kvm.run(index, ONE_EXIT);
    const vector = this.handlerReached(index);
    return vector >= 0 ? `vec ${vector}` : `${kind} at 0x${this.vcpu(index).state.get(R_RIP).toString(16)}`;
  }

  /** Vector of the exception in whose handler vCPU `index` stands, -1: in none. */
  private handlerReached(index: number): number {
    return handlerAt(this.vcpu(index).state.lo(R_RIP));
  }

  // ---- what the recorder reads ----

  /** ICR as read back: MSR 0x830, or ICR2 << 32 | ICR. */
  readIcr(index: number): bigint {
    const { lapic } = this.vcpu(index);
    if (lapic.x2apic) return this.kvm.getMsr(index, 0x830) ?? 0n;
    return (BigInt(lapic.registers[SLOT_ICR2]) << 32n) | BigInt(lapic.registers[SLOT_ICR]);
  }

  /** Changes of vCPU `index` since `reset`: LAPIC, events, MP state (which carries out INIT and SIPI), CS; null if there is none. */
  change(index: number, sender: boolean): Change | null {
    const vcpu = this.vcpu(index);
    const { lapic, state } = vcpu;
    const start = this.start[index] as Start;
    let change: Change | null = null;
    if (!same(lapic.registers, start.lapic)) {
      this.touched[index] = true;
      change = registerChanges(lapic.registers, start.lapic, sender);
    }
    if (vcpu.nmiPending > 0) change = { ...change, nmi: vcpu.nmiPending };
    if (vcpu.smiPending) change = { ...change, smi: 1 };
    if (vcpu.initPending) {
      change = { ...change, init: 1 };
      this.stale[index] = true;
    }
    if (vcpu.sipiPending || vcpu.pvUnhalted) this.touched[index] = true;
    const mp = this.kvm.getMpState(index);
    const before = this.mpBefore[index] as MpState;
    if (mp !== before) {
      change = { ...change, mp: MP_NUMBER[mp] };
      const selector = state.lo(R_SEL + SEG_CS);
      if (before === 'init-received' && selector !== RESET_CS) change.sipi = selector >> 8;
    }
    if (change !== null) this.touched[index] = true;
    return change;
  }

  /** Whole state of vCPU `index`, as the lines of a sequence hold it. */
  state(index: number): Record<string, number | number[] | string> {
    const vcpu = this.vcpu(index);
    const { lapic } = vcpu;
    const state: Record<string, number | number[] | string> = {};
    for (const [name, slot] of SETS) {
      const vectors = added(lapic.registers, EMPTY, slot);
      if (vectors.length > 0) state[name] = vectors;
    }
    state.nmi = vcpu.nmiPending;
    state.smi = vcpu.smiPending ? 1 : 0;
    state.init = vcpu.initPending ? 1 : 0;
    state.mp = MP_NUMBER[this.kvm.getMpState(index)];
    state.cs = `0x${vcpu.state.lo(R_SEL + SEG_CS).toString(16)}`;
    this.touched[index] = true;
    this.stale[index] = true;
    return state;
  }
}

/** Differences between two images of the LAPIC registers; null if there is none that a recording holds. */
function registerChanges(now: Uint32Array, then: Uint32Array, sender: boolean): Change | null {
  let change: Change | null = null;
  for (let slot = 0; slot < SLOTS; slot++) {
    if (now[slot] === then[slot]) continue;
    // The sender's ICR is what was written, and read back on its own.
    if (sender && (slot === SLOT_ICR || slot === SLOT_ICR2)) continue;
    change ??= {};
    if (UNRECORDED[slot] === 0) change[`r${(slot * 16).toString(16).padStart(3, '0')}`] = now[slot] as number;
  }
  if (change === null) return null;
  for (const [name, slot] of SETS) {
    const set = added(now, then, slot);
    const cleared = added(then, now, slot);
    if (set.length > 0) change[name] = set;
    if (cleared.length > 0) change[`${name}_clr`] = cleared;
  }
  return Object.keys(change).length > 0 ? change : null;
}

const EMPTY = new Uint32Array(SLOTS);
/** RAX, RBX, RCX, RDX, RSI by register id. */
const CALL_REGISTERS = [R_RAX, R_RAX + 3, R_RAX + 1, R_RAX + 2, R_RAX + 6];

function same(a: Uint32Array, b: Uint32Array): boolean {
  for (let slot = 0; slot < SLOTS; slot++) if (a[slot] !== b[slot]) return false;
  return true;
}
