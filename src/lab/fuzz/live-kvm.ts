/**
 * The KVM of this machine as a target of the fuzzer: the model's cases, performed by the machine's kernel. Steps are guest instructions, stepped
 * over one by one, or, with `direct`, MSR accesses of the host (KVM_SET_MSRS, KVM_GET_MSRS), which have the same effects.
 */
import { type KvmVcpu, KvmVm, type KvmVmOptions, kvmRegisterNames, MP } from '../../cpu/engines/kvm-device.ts';
import { type KvmReport, liveKvm } from '../../cpu/engines/kvm-probe.ts';
import { REGISTERS } from '../../cpu/registers.ts';
import { KvmscopeError } from '../../errors.ts';
import { NEWEST_ERA, resolveEra } from '../../kvm/eras.ts';
import { BOOT_LAYOUT, bootMemory } from '../../machine/boot-state.ts';
import { createVm } from '../../machine/machine.ts';
import {
  SLOT_ICR,
  SLOT_ID,
  SLOT_LDR,
  SLOT_LVR,
  SLOT_PPR,
  SLOT_TMCCT,
  SLOT_TMICT,
  SLOT_TPR,
  SLOTS,
} from '../lapic-slots.ts';
import { type CallerMode, handlerAt, idtLimit, STUB, STUB_IDT, type Stimulus, stub } from '../stub.ts';
import type { Target } from './target.ts';
import type { Campaign } from './types.ts';
import * as T from './types.ts';

const { OP } = T;

const NR_CLOCK_PAIRING = 9;
const MSR_APIC_BASE = 0x1b;
const MSR_X2APIC_FIRST = 0x800;
const MSR_X2APIC_LAST = 0x8ff;
const BASE_EXTD = 0x400;
const BASE_EN = 0x800;
const APIC_PAGE = 0xfee00000;

/** Registers that KVM computes when they are read, and the number of LVT entries, which the host's processor decides. */
const UNOBSERVED: readonly number[] = [SLOT_LVR, SLOT_PPR, SLOT_TMCCT, T.WORD_SIPI, T.WORD_KICK];

/** Registers that a load from the APIC page reads. */
const READABLE: ReadonlySet<number> = new Set([
  ...[SLOT_ID, SLOT_LVR, SLOT_TPR, 0x9, SLOT_PPR, SLOT_LDR, 0xe, 0xf, 0x28, SLOT_ICR, 0x31, SLOT_TMICT, 0x3e],
  ...Array.from({ length: 24 }, (_, n) => 0x10 + n),
  ...Array.from({ length: 6 }, (_, n) => 0x32 + n),
]);

const DELIVERY_LOWEST = 1;
const DELIVERY_SMI = 2;
const DELIVERY_NMI = 4;
/** Wakes a halted vCPU; at others the wake-up stays pending unseen. */
const DELIVERY_REMOTE_READ = 3;
const DELIVERY_SIPI = 6;

const VECTOR_NMI = 2;
const FIRST_INTERRUPT = 32;
const GENERAL_PROTECTION = 13;

/** Milliseconds that one KVM_RUN may take: as long as it takes to see that a vCPU sleeps. */
const LIMIT = 2;
/** Milliseconds for one step. A guest that needs longer does not come to an end. */
const STEP_LIMIT = 250;
/** So many KVM_RUNs a step may take in any case: this process may have been the one that did not run. */
const FEWEST_RUNS = 64;

// Offsets in struct kvm_regs, in 32-bit elements.
const RAX = 0;
const RBX = 2;
const RCX = 4;
const RDX = 6;
const RSI = 8;
const RDI = 10;
const RSP = 12;
const RIP = 32;
const CALL_REGISTERS = [RAX, RBX, RCX, RDX, RSI] as const;
/** Number of the general register at each 64-bit place of struct kvm_regs. */
const GENERAL = [0, 3, 1, 2, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15] as const;
const BIT_RAX = 1;
const BIT_RDX = 4;

/** By operation; both names are the same. */
const STIMULI = Object.keys(OP) as Stimulus[];

/** The VM under a target; replaced in tests. */
export type LiveVcpu = Pick<
  KvmVcpu,
  | 'id'
  | 'regs'
  | 'sregs'
  | 'lapic'
  | 'get'
  | 'put'
  | 'getRegs'
  | 'setRegs'
  | 'getSregs'
  | 'setSregs'
  | 'getLapic'
  | 'setLapic'
  | 'getMsr'
  | 'setMsr'
  | 'getMpState'
  | 'setMpState'
  | 'pending'
  | 'clearEvents'
  | 'singleStep'
  | 'run'
  | 'answerMmio'
>;
export interface LiveVmDevice {
  readonly memory: Uint8Array;
  readonly vcpus: readonly LiveVcpu[];
  close(): void;
}

export interface LiveTargetOptions {
  /** WRMSR and RDMSR of 0x800 … 0x8FF as KVM_SET_MSRS and KVM_GET_MSRS. */
  readonly direct?: boolean;
  /** What is known of the KVM. Default: this machine's, found out once. */
  readonly report?: KvmReport;
  /** Makes the VM. Default: a VM of /dev/kvm. */
  readonly device?: (options: KvmVmOptions) => LiveVmDevice | Promise<LiveVmDevice>;
}

/** What a vCPU is restored to. */
interface Start {
  readonly lapic: Uint8Array;
  readonly lapicWords: Uint32Array;
  readonly sregs: Uint8Array;
  readonly regs: Uint32Array;
  readonly mp: number;
  readonly cs: number;
  readonly base: number;
}

/** What a vCPU has done in the current case. */
const NOTHING = 0;
const PERFORMS = 1;
const SLEEPS = 2;
const CANNOT = 3;

class LiveTarget implements Target {
  readonly name: string;
  readonly topology: T.Topology;
  readonly observes: Uint8Array = new Uint8Array(T.VCPU_WORDS).fill(1);
  readonly showsFastpath: boolean = false;
  readonly lacks: ReadonlySet<number>;
  readonly start: Uint32Array;
  readonly #vm: LiveVmDevice;
  readonly #report: KvmReport;
  readonly #vcpus: readonly LiveVcpu[];
  readonly #regs: readonly Uint32Array[];
  readonly #sregs: readonly Uint8Array[];
  readonly #starts: readonly Start[];
  readonly #direct: boolean;
  readonly #performed: Uint8Array;
  /** Something of vCPU n is not, or may not be, as at the start. */
  readonly #changed: Uint8Array;
  /** Its segment, control or base registers may not be as at the start. */
  readonly #sregsChanged: Uint8Array;
  /** It stands in the handler of an exception. */
  readonly #faulted: Uint8Array;
  readonly #before = new Uint32Array(GENERAL.length * 2);
  /** Effects that cannot be read may be pending anywhere. */
  #hidden = false;

  constructor(vm: LiveVmDevice, topology: T.Topology, start: Uint32Array, direct: boolean, report: KvmReport) {
    this.name = `/dev/kvm (${report.kernel})`;
    this.topology = topology;
    this.start = start;
    this.#vm = vm;
    this.#report = report;
    this.#vcpus = vm.vcpus;
    this.#regs = vm.vcpus.map(({ regs }) => new Uint32Array(regs.buffer));
    this.#sregs = vm.vcpus.map(({ sregs }) => new Uint8Array(sregs.buffer));
    this.#direct = direct;
    for (const word of UNOBSERVED) this.observes[word] = 0;
    if (!report.smm) this.observes[T.WORD_SMI] = 0;
    this.lacks = new Set([
      ...(report.noHypercalls === undefined ? [] : [OP.call]),
      // Such a KVM does not mark interrupts as in service, and does not sleep when it steps over HLT.
      ...(report.software ? [OP.take, OP.hlt] : []),
    ]);
    // What the host's access does not reach is the handler of a fault, whose CS can be another one.
    if (direct && (topology.mode === 'compat32' || topology.cpl === 3)) this.observes[T.WORD_CS] = 0;
    this.#performed = new Uint8Array(vm.vcpus.length);
    this.#changed = new Uint8Array(vm.vcpus.length);
    this.#sregsChanged = new Uint8Array(vm.vcpus.length);
    this.#faulted = new Uint8Array(vm.vcpus.length);
    this.#starts = vm.vcpus.map((vcpu, index) => this.#bring(vcpu, start.subarray(index * T.VCPU_WORDS)));
  }

  dispose(): void {
    this.#vm.close();
  }

  // ---- the start state ----

  /** Brings a new vCPU to the start of cases. */
  #bring(vcpu: LiveVcpu, want: Uint32Array): Start {
    const base = want[T.WORD_BASE];
    // A disabled APIC keeps the LDR of the mode it was in before.
    const wasX2apic = (base & BASE_EN) === 0 && (want[SLOT_LDR] & 0xffffff) !== 0;
    const modes = (base & BASE_EN) !== 0 ? [base] : [base | BASE_EN | (wasX2apic ? BASE_EXTD : 0), base];
    for (const mode of modes) {
      if (!vcpu.setMsr(MSR_APIC_BASE, BigInt(mode >>> 0))) throw refused(vcpu, `0x1b <- 0x${mode.toString(16)}`);
    }
    vcpu.getLapic();
    for (let slot = 0; slot < SLOTS; slot++) {
      // KVM keeps the ID of an x2APIC to itself, and shows it in one of two formats.
      if (this.observes[slot] !== 0 && (slot !== SLOT_ID || (base & BASE_EXTD) === 0))
        vcpu.lapic[slot * 4] = want[slot];
    }
    vcpu.setLapic();
    vcpu.setMpState(MP.runnable);
    vcpu.setMpState(want[T.WORD_MP]);
    vcpu.getLapic();
    vcpu.getRegs();
    vcpu.getSregs();
    const start = {
      lapic: new Uint8Array(vcpu.lapic.slice().buffer),
      lapicWords: vcpu.lapic.slice(),
      sregs: new Uint8Array(vcpu.sregs.buffer.slice(0)),
      regs: new Uint32Array(vcpu.regs.buffer.slice(0)),
      mp: want[T.WORD_MP],
      cs: want[T.WORD_CS],
      base: want[T.WORD_BASE],
    };
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.observes[slot] === 0) continue;
      const found = this.#slot(vcpu, slot, base);
      if (found === want[slot]) continue;
      throw refused(
        vcpu,
        `register 0x${(slot * 16).toString(16)} is 0x${found.toString(16)}, not 0x${want[slot].toString(16)}`,
      );
    }
    return start;
  }

  /** A register of `vcpu.lapic` as the model shows it. */
  #slot(vcpu: LiveVcpu, slot: number, base: number): number {
    if (slot === SLOT_ID && (base & BASE_EXTD) !== 0) return vcpu.id;
    return vcpu.lapic[slot * 4];
  }

  #restore(): void {
    for (let index = 0; index < this.#vcpus.length; index++) {
      if (this.#changed[index] === 0 && !this.#hidden) continue;
      const vcpu = this.#vcpus[index];
      const start = this.#starts[index];
      if (this.#sregsChanged[index] !== 0) {
        this.#sregs[index].set(start.sregs);
        vcpu.setSregs();
        this.#sregsChanged[index] = 0;
      }
      vcpu.clearEvents(this.#report.smm);
      vcpu.setLapic(start.lapic);
      // Becoming runnable is what makes KVM forget a pending wake-up.
      vcpu.setMpState(MP.runnable);
      if (start.mp !== MP.runnable) vcpu.setMpState(start.mp);
      this.#changed[index] = 0;
    }
    this.#hidden = false;
    this.#performed.fill(NOTHING);
    this.#faulted.fill(0);
  }

  // ---- cases ----

  skips(test: T.Case): boolean {
    const { words, length } = test;
    const { software, vectorHashing } = this.#report;
    let nmis = 0;
    let modes = 0;
    for (let at = 0; at < length * T.STEP_WORDS; at += T.STEP_WORDS) {
      const op = words[at + T.STEP_OP];
      const register = registerOf(op, words[at + T.STEP_ARGS]);
      if (this.lacks.has(op)) return true;
      if ((op === OP.wrmsr || op === OP.rdmsr) && register < 0 && words[at + T.STEP_ARGS] !== MSR_APIC_BASE)
        return true;
      // What is not readable is not written by KVM either, and leaves whatever was there.
      if (op === OP.load && !READABLE.has(register)) return true;
      // Time goes on differently.
      if (op === OP.call && words[at + T.STEP_ARGS] === NR_CLOCK_PAIRING) return true;
      if (register === SLOT_TMCCT || (register === SLOT_TMICT && length > 1)) return true;
      if (register !== SLOT_ICR || op === OP.rdmsr || op === OP.load) continue;
      const delivery = (words[at + T.STEP_ARGS + 2] >> 8) & 7;
      modes |= 1 << delivery;
      // Without vector hashing it is about who got the fewest so far, and that is not restored.
      if (delivery === DELIVERY_LOWEST && !vectorHashing) return true;
      // Such a KVM goes on behind the first of two NMIs before it takes the second, and takes none without paging.
      if (delivery === DELIVERY_NMI && software && length > 1 && (++nmis > 1 || this.topology.mode === 'prot32'))
        return true;
      // Code of system management mode is nobody's here.
      if (delivery === DELIVERY_SMI && length > 1) return true;
    }
    // Who looks for a pending SIPI loses a pending wake-up.
    const both = (1 << DELIVERY_REMOTE_READ) | (1 << DELIVERY_SIPI);
    return (modes & both) === both;
  }

  run(test: T.Case, outcome: T.Outcome): void {
    this.#restore();
    outcome.end = '';
    outcome.steps = 0;
    for (let step = 0; step < test.length; step++) {
      outcome.steps = step + 1;
      const result = step * T.RESULT_WORDS;
      outcome.results.fill(0, result, result + T.RESULT_WORDS);
      const status = this.#step(test, step, outcome.results);
      outcome.results[result + T.RESULT_STATUS] = status;
      if (status === T.STATUS_NOT_RUN) break;
    }
    for (let index = 0; index < this.#vcpus.length; index++) {
      if (this.#performed[index] === SLEEPS) this.#settle(index);
    }
    for (let index = 0; index < this.#vcpus.length; index++) this.#read(index, outcome);
  }

  #step(test: T.Case, step: number, results: Uint32Array): number {
    const { words } = test;
    const at = step * T.STEP_WORDS;
    const op = words[at + T.STEP_OP];
    const index = words[at + T.STEP_VCPU];
    const args = at + T.STEP_ARGS;
    const vcpu = this.#vcpus[index];
    this.#changed[index] = 1;
    if (!this.#awake(index, step)) return T.STATUS_NOT_RUN;
    const register = registerOf(op, words[args]);
    if (
      op === OP.call ||
      op === OP.hlt ||
      (register === SLOT_ICR && ((words[args + 2] >> 8) & 7) === DELIVERY_REMOTE_READ)
    )
      this.#hidden = true;
    const result = step * T.RESULT_WORDS;
    if (this.#direct && register >= 0 && op <= OP.rdmsr) {
      if (op === OP.wrmsr) return vcpu.setMsr(words[args], test.arg(step, 1)) ? T.STATUS_NEXT : REFUSED;
      const value = vcpu.getMsr(words[args]);
      if (value === undefined) return REFUSED;
      results[result + T.RESULT_LO] = Number(value & 0xffffffffn);
      results[result + T.RESULT_HI] = Number(value >> 32n);
      return T.STATUS_NEXT;
    }
    this.#load(index, op, words, args);
    const status = this.#execute(index, STIMULI[op]);
    if (op === OP.wrmsr && words[args] === MSR_APIC_BASE) this.#sregsChanged[index] = 1;
    if (status === T.STATUS_ASLEEP) this.#performed[index] = SLEEPS;
    if (status === T.STATUS_STUCK) this.#performed[index] = CANNOT;
    if (status === T.STATUS_NEXT) {
      const regs = this.#regs[index];
      if (op === OP.rdmsr || op === OP.call || op === OP.load) results[result + T.RESULT_LO] = regs[RAX];
      if (op === OP.call || op === OP.load) results[result + T.RESULT_HI] = regs[RAX + 1];
      if (op === OP.rdmsr) results[result + T.RESULT_HI] = regs[RDX];
      const free = op === OP.rdmsr ? BIT_RAX | BIT_RDX : op === OP.call || op === OP.load ? BIT_RAX : 0;
      results[result + T.RESULT_SPOILED] = this.#spoiled(regs) & ~free;
    }
    return status;
  }

  /** Whether a vCPU can execute a step now. One that performs its first was not asleep at the start. */
  #awake(index: number, step: number): boolean {
    const vcpu = this.#vcpus[index];
    if (this.#performed[index] === NOTHING) {
      this.#performed[index] = PERFORMS;
      // Whoever was reset executes no step; nor does who is about to.
      if (step > 0 && (vcpu.pending().init !== 0 || this.#takeSipi(index))) return false;
      if (this.#starts[index].mp === MP.runnable) return true;
      vcpu.setMpState(MP.runnable);
      return true;
    }
    if (this.#performed[index] === SLEEPS) this.#settle(index);
    return this.#performed[index] === PERFORMS && vcpu.pending().init === 0;
  }

  /**
   * Whether a SIPI is pending, which is so to no purpose unless the vCPU waits for one. A pending SIPI shows in no structure: a vCPU that waits
   * is started by it when its MP state is read, and put back into its state here.
   */
  #takeSipi(index: number): boolean {
    const vcpu = this.#vcpus[index];
    const waits = MP['init-received'];
    const mp = this.#performed[index] === SLEEPS ? MP.halted : this.#starts[index].mp;
    if (mp === waits) return vcpu.getMpState() !== waits;
    vcpu.getSregs();
    vcpu.getRegs();
    vcpu.setMpState(waits);
    const pending = vcpu.getMpState() !== waits;
    if (pending) {
      vcpu.setSregs();
      vcpu.setRegs();
    }
    vcpu.setMpState(mp);
    return pending;
  }

  /** Lets a vCPU that sleeps in a step end it if something woke it. */
  #settle(index: number): void {
    const vcpu = this.#vcpus[index];
    if (vcpu.pending().init !== 0) return;
    if (this.#takeSipi(index)) {
      this.#performed[index] = CANNOT;
      return;
    }
    const status = this.#finish(index, STUB.hlt.at + STUB.hlt.length);
    if (status !== T.STATUS_ASLEEP) this.#performed[index] = status === T.STATUS_NEXT ? PERFORMS : CANNOT;
  }

  /** Puts a step's arguments into registers. */
  #load(index: number, op: number, words: Uint32Array, args: number): void {
    const regs = this.#regs[index];
    regs.set(this.#starts[index].regs);
    const put = (register: number, lo: number, hi = 0): void => {
      regs[register] = lo;
      regs[register + 1] = hi;
    };
    switch (op) {
      case OP.wrmsr:
      case OP.rdmsr:
        put(RCX, words[args]);
        if (op === OP.rdmsr) break;
        put(RAX, words[args + 2]);
        put(RDX, words[args + 3]);
        break;
      case OP.call:
        for (const [n, register] of CALL_REGISTERS.entries())
          put(register, words[args + n * 2], words[args + n * 2 + 1]);
        break;
      case OP.store:
      case OP.load:
        put(RDI, (APIC_PAGE + words[args]) >>> 0);
        if (op === OP.store) put(RAX, words[args + 2]);
        break;
      case OP.icrStores:
        put(RDI, APIC_PAGE);
        put(RAX, words[args + 2]);
        put(RDX, words[args + 3]);
        break;
      case OP.cr8:
        put(RAX, words[args + 2], words[args + 3]);
        break;
      default:
        break;
    }
    this.#before.set(regs.subarray(0, this.#before.length));
  }

  #spoiled(after: Uint32Array): number {
    const before = this.#before;
    let mask = 0;
    for (let n = 0; n < GENERAL.length; n++) {
      if (before[n * 2] !== after[n * 2] || before[n * 2 + 1] !== after[n * 2 + 1]) mask |= 1 << GENERAL[n];
    }
    return mask;
  }

  #execute(index: number, what: Stimulus): number {
    const { at, length } = STUB[what];
    const regs = this.#regs[index];
    if (this.#faulted[index] !== 0) this.#restoreSegments(index);
    regs[RIP] = at;
    regs[RIP + 1] = 0;
    this.#vcpus[index].setRegs();
    return this.#finish(index, at + length);
  }

  /** Runs a vCPU to a landing place, instruction by instruction: a KVM that interprets code takes interrupts between two KVM_RUNs only. */
  #finish(index: number, landing: number): number {
    const vcpu = this.#vcpus[index];
    const regs = this.#regs[index];
    const deadline = performance.now() + STEP_LIMIT;
    for (let runs = 0; runs < FEWEST_RUNS || performance.now() < deadline; runs++) {
      vcpu.singleStep();
      const exit = vcpu.run();
      if (exit === 'mmio') vcpu.answerMmio();
      else if (exit === 'debug' || exit === 'limit') {
        vcpu.getRegs();
        const rip = regs[RIP];
        if (rip === landing) return T.STATUS_NEXT;
        const vector = handlerAt(rip);
        if (vector >= 0 && vector !== VECTOR_NMI) {
          this.#faulted[index] = 1;
          this.#sregsChanged[index] = 1;
          return T.STATUS_FAULT | vector;
        }
        if (exit === 'limit' && vcpu.getMpState() === MP.halted) return T.STATUS_ASLEEP;
      } else if (exit !== 'intr') break;
    }
    this.#sregsChanged[index] = 1;
    return T.STATUS_STUCK;
  }

  /** Segments and control registers of the start, with the APIC base and TPR of now. */
  #restoreSegments(index: number): void {
    const vcpu = this.#vcpus[index];
    vcpu.getSregs();
    vcpu.getLapic();
    const base = vcpu.get('apic_base');
    const cr8 = vcpu.get('cr8');
    this.#sregs[index].set(this.#starts[index].sregs);
    vcpu.put('apic_base', base);
    vcpu.put('cr8', cr8);
    vcpu.setSregs();
    this.#faulted[index] = 0;
    // CR8 is the upper half of TPR and clears the lower one. In x2APIC mode KVM_SET_LAPIC would change ICR2 of the xAPIC.
    const tpr = vcpu.lapic[SLOT_TPR * 4];
    if ((tpr & 15) === 0) return;
    if (Number(base) & BASE_EXTD) vcpu.setMsr(MSR_X2APIC_FIRST + SLOT_TPR, BigInt(tpr));
    else vcpu.setLapic();
  }

  // ---- what came of it ----

  /** State words of a vCPU: LAPIC, events, MP state (which carries out INIT and SIPI), CS. */
  #read(index: number, outcome: T.Outcome): void {
    const vcpu = this.#vcpus[index];
    const start = this.#starts[index];
    vcpu.getLapic();
    const { lapic } = vcpu;
    const events = vcpu.pending();
    const mp = vcpu.getMpState();
    if (events.init !== 0 || mp !== start.mp) this.#sregsChanged[index] = 1;
    let { cs, base } = start;
    if (this.#sregsChanged[index] !== 0) {
      vcpu.getSregs();
      cs = Number(vcpu.get('cs'));
      base = Number(vcpu.get('apic_base') & 0xffffffffn);
    }
    let same =
      mp === start.mp &&
      events.init === 0 &&
      events.nmi === 0 &&
      events.smi === 0 &&
      cs === start.cs &&
      base === start.base;
    for (let slot = 0; slot < SLOTS && same; slot++) {
      same = lapic[slot * 4] === start.lapicWords[slot * 4] || this.observes[slot] === 0;
    }
    outcome.touched[index] = same ? 0 : 1;
    if (same) return;
    this.#changed[index] = 1;
    const at = index * T.VCPU_WORDS;
    const { state } = outcome;
    for (let slot = 0; slot < SLOTS; slot++) state[at + slot] = this.#slot(vcpu, slot, base);
    state[at + T.WORD_NMI] = events.nmi;
    state[at + T.WORD_SMI] = events.smi;
    state[at + T.WORD_INIT] = events.init;
    state[at + T.WORD_MP] = mp;
    state[at + T.WORD_CS] = cs;
    state[at + T.WORD_BASE] = base;
    state[at + T.WORD_SIPI] = 0;
    state[at + T.WORD_KICK] = 0;
  }
}

const REFUSED = T.STATUS_FAULT | GENERAL_PROTECTION;

/** Slot of the APIC register that an operation is about, -1: none. */
function registerOf(op: number, first: number): number {
  if (op === OP.wrmsr || op === OP.rdmsr)
    return first >= MSR_X2APIC_FIRST && first <= MSR_X2APIC_LAST ? first - MSR_X2APIC_FIRST : -1;
  if (op === OP.store || op === OP.load) return first >>> 4;
  return op === OP.icrStores ? SLOT_ICR : -1;
}

const refused = (vcpu: LiveVcpu, what: string): KvmscopeError =>
  new KvmscopeError('engine', `/dev/kvm does not take the start state of vCPU ${vcpu.id}: ${what}`);

/** The era of a kernel release such as `6.18.5-amd64`; the newest for a newer kernel. Throws KvmscopeError('engine'). */
export function eraOfKernel(release: string): string {
  const version = /^(\d+)\.(\d+)/.exec(release);
  if (version === null) throw new KvmscopeError('engine', `a kernel named ${release} belongs to no version of KVM`);
  const [major, minor] = NEWEST_ERA.name.split('.').map(Number);
  const newer = Number(version[1]) > major || (Number(version[1]) === major && Number(version[2]) > minor);
  return newer ? NEWEST_ERA.name : resolveEra(version[0]).name;
}

/** What is left open about a campaign against the machine's KVM. */
export type LiveCampaign = Omit<Campaign, 'kvm'> & { readonly kvm?: string | undefined };

/**
 * A campaign against /dev/kvm as this machine's KVM allows it: the era of its kernel unless one is named, its vendor, its lowest-priority rule,
 * without the topologies that it cannot have. Throws KvmscopeError('engine') with one line if there is no KVM, or none that makes hypercalls
 * for a campaign about them.
 */
export function liveCampaign(campaign: LiveCampaign, report: KvmReport = liveKvm()): Campaign {
  const { unavailable, kernel, vendor, vectorHashing, noHypercalls } = report;
  if (unavailable !== undefined) throw new KvmscopeError('engine', `no live KVM to compare with: ${unavailable}`);
  if (campaign.kind === 'hypercall' && noHypercalls !== undefined) throw new KvmscopeError('engine', noHypercalls);
  const topologies = campaign.topologies
    .filter(({ apic, exitHypercalls = 0 }) => apic !== 'none' && exitHypercalls === 0)
    .map((topology) => ({ ...topology, vendor, vectorHashing }));
  if (topologies.length === 0)
    throw new KvmscopeError('usage', 'only VMs with local APICs in KVM are compared with the KVM of this machine');
  // A SIPI shows at vCPUs that wait for one, a wake-up at those that sleep: several topologies come with both.
  const bases: readonly (readonly T.Topology[])[] =
    topologies.length > 1 && campaign.kind === 'icr'
      ? topologies.filter(({ aps }) => aps === 'halted').map((one) => [one, { ...one, aps: 'init-received' }])
      : topologies.map((one) => [one]);
  return { ...campaign, kvm: campaign.kvm ?? eraOfKernel(kernel), topologies: bases.flat() };
}

const REGISTER_NAMES = REGISTERS.map(({ name }) => name).filter(
  (name) => kvmRegisterNames().includes(name) && name !== 'cr8',
);

/**
 * A target that performs cases on /dev/kvm from the same start state as the model: `start` is that of the model's target. Throws
 * KvmscopeError('engine') with one line if there is no KVM to use, or if it cannot be brought to that state.
 */
export async function openLiveTarget(
  topology: T.Topology,
  start: Uint32Array,
  options: LiveTargetOptions = {},
): Promise<Target> {
  const report = options.report ?? liveKvm();
  if (report.unavailable !== undefined)
    throw new KvmscopeError('engine', `no live KVM to compare with: ${report.unavailable}`);
  const { vcpus, mode, cpl, vendor, x2apicApi, enforcePvFeatures, pvFeatures } = topology;
  const ids = topology.ids ?? Array.from({ length: vcpus }, (_, index) => index);
  const memory = bootMemory(vcpus);
  // The model knows what RAM and registers look like where code of this mode starts.
  const model = await createVm({ vcpus, memory, mode, cpl, vendor, apicIds: ids, aps: 'run', record: false });
  let live: LiveVmDevice | undefined;
  try {
    const hiddenPvFeatures = pvFeatures === undefined ? 0 : ~pvFeatures >>> 0;
    const make = options.device ?? ((of) => new KvmVm(of));
    live = await make({ ids, memory, x2apicApi, enforcePvFeatures, hiddenPvFeatures, limit: LIMIT });
    const caller = (cpl === 3 ? `${mode}-user` : mode) as CallerMode;
    live.memory.set(model.memory);
    live.memory.set(
      stub(caller, vendor, (vector) => vector === VECTOR_NMI || vector >= FIRST_INTERRUPT),
      BOOT_LAYOUT.origin,
    );
    for (const [index, vcpu] of live.vcpus.entries()) {
      vcpu.getRegs();
      vcpu.getSregs();
      const { registers } = model.vcpu(index);
      for (const name of REGISTER_NAMES) vcpu.put(name, registers[name]);
      vcpu.put('idtr_base', BigInt(STUB_IDT));
      vcpu.put('idtr_limit', BigInt(idtLimit(caller)));
      vcpu.setSregs();
      const regs = new Uint32Array(vcpu.regs.buffer);
      // Nothing is zero, so that a register which should have stayed shows.
      for (let n = 0; n < GENERAL.length; n++) {
        if (n * 2 !== RSP) regs.set([0x11111111 * (n + 1), mode === 'long64' ? 0x01010101 + n : 0], n * 2);
      }
      vcpu.setRegs();
    }
    return new LiveTarget(live, topology, start, options.direct ?? false, report);
  } catch (error) {
    live?.close();
    throw error;
  } finally {
    model.dispose();
  }
}
