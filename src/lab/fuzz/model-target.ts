/**
 * The model as a target: cases as guest instructions of a whole VM, which is restored before each, or without instructions (`direct`): KVM's
 * handlers are called with the exits that the instructions would have caused.
 *
 * A direct case that consists of one ICR write or one plain hypercall is undone without restoring the VM: only the sender and the APICs
 * that took a message can have changed. `checkUntouched` verifies that.
 */
import { R_IDTR_BASE, R_IDTR_LIMIT, R_RAX, R_RFLAGS, R_RIP, R_SEL, S_FIRST, SEG_CS } from '../../cpu/core/layout.ts';
import type { CpuState } from '../../cpu/cpu.ts';
import type { HypercallExit, RdmsrExit, WrmsrExit } from '../../cpu/exit.ts';
import { defaultPvFeatures } from '../../kvm/cpuid.ts';
import { reachedDecisions } from '../../kvm/decisions.ts';
import { resolveEra } from '../../kvm/eras.ts';
import type { VcpuRunResult } from '../../kvm/types.ts';
import { COMPLETE_NOTHING, type KvmVcpu, MP_NUMBER, MP_RUNNABLE } from '../../kvm/vcpu.ts';
import type { Kvm } from '../../kvm/x86.ts';
import { BOOT_LAYOUT, bootMemory } from '../../machine/boot-state.ts';
import { createVm } from '../../machine/machine.ts';
import type { Snapshot, Vm } from '../../machine/vm.ts';
import * as SLOTS from '../lapic-slots.ts';
import { type CallerMode, handlerAt, idtLimit, STUB, STUB_IDT, type Stimulus, stub } from '../stub.ts';
import type { Target } from './target.ts';
import {
  type Case,
  OP,
  type Outcome,
  RESULT_FASTPATH,
  RESULT_HI,
  RESULT_LO,
  RESULT_SPOILED,
  RESULT_STATUS,
  RESULT_WORDS,
  STATUS_ASLEEP,
  STATUS_FAULT,
  STATUS_NEXT,
  STATUS_NOT_RUN,
  STATUS_STUCK,
  STEP_ARGS,
  STEP_OP,
  STEP_VCPU,
  STEP_WORDS,
  type Topology,
  VCPU_WORDS,
  WORD_BASE,
  WORD_CS,
  WORD_INIT,
  WORD_KICK,
  WORD_MP,
  WORD_NMI,
  WORD_SIPI,
  WORD_SMI,
} from './types.ts';

export interface ModelOptions {
  /** Name of an era. */
  readonly era: string;
  readonly direct: boolean;
}

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const { SLOT_ICR, SLOT_ICR2, SLOT_SVR } = SLOTS;
const MSR_APIC_BASE = 0x1b;
const MSR_ICR = 0x830;
const MSR_SELF_IPI = 0x83f;
const BASE_EXTD = 0x400n;
const BASE_EN = 0x800n;
const APIC_PAGE = 0xfee00000;
const SVR_DISABLED = 0xff;
const NR_CLOCK_PAIRING = 9;
const NR_MAP_GPA_RANGE = 12;
const VECTOR_NMI = 2;
const FIRST_INTERRUPT = 32;
const GPRS = 16;
const FEW = 16;
/** TMR and IRR. */
const LIGHT_FIRST = 0x18;
const LIGHT_END = 0x28;

const R_RCX = R_RAX + 1;
const R_RDX = R_RAX + 2;
const R_RBX = R_RAX + 3;
const R_RSP = R_RAX + 4;
const R_RSI = R_RAX + 6;
const R_RDI = R_RAX + 7;
/** What VMCALL leaves alone: all but RAX. RDMSR writes RAX and RDX, a load RAX; nothing counts RSP after a fault. */
const BIT_RAX = 1;
const BIT_RDX = 1 << 2;
const BIT_RSP = 1 << 4;

/** Entries that a step may need: its exits, and the delivery of every vector there is. */
const MOST_ENTRIES = 600;

const callerMode = ({ mode, cpl }: Topology): CallerMode => (cpl === 3 ? `${mode}-user` : mode) as CallerMode;

/** Bytes of RAM of a VM that executes cases: no more than it needs. */
export const memoryOf = ({ mode, vcpus }: Topology): number => (mode === 'real16' ? 0x100000 : bootMemory(vcpus));

/** By operation; both names are the same. */
const STIMULI: readonly Stimulus[] = Object.keys(OP) as Stimulus[];

export class ModelTarget implements Target {
  readonly name: string;
  readonly topology: Topology;
  readonly observes: Uint8Array = new Uint8Array(VCPU_WORDS).fill(1);
  readonly showsFastpath: boolean = true;
  readonly start: Uint32Array;
  readonly kvm: Kvm;
  /** The model's decision points of this target's own modules. */
  readonly decisions: Int32Array = reachedDecisions;
  /** Decision points that setting up has reached: how the APIC map looks. */
  readonly opened: Int32Array;
  readonly direct: boolean;

  readonly #vm: Vm;
  readonly #snapshot: Snapshot;
  readonly #mode: CallerMode;
  /** Architectural registers of every vCPU at the start of a step. */
  readonly #registers: readonly Uint32Array[];
  readonly #startBlocked: readonly boolean[];
  readonly #startMp: readonly number[];
  /** Of the vCPU of the current step: low and high halves of the general registers it must have afterwards. */
  readonly #expected: Uint32Array = new Uint32Array(GPRS * 2);
  /** 1: performed a step; 2: sleeps in one; 3: cannot execute steps any more. */
  readonly #performed: Uint8Array;
  /** Everything may have changed: restore the VM. */
  #dirty = true;
  readonly #wrmsr: WrmsrExit = { reason: 'wrmsr', length: 2, msr: 0, dataLo: 0, dataHi: 0 };
  readonly #rdmsr: RdmsrExit = { reason: 'rdmsr', length: 2, msr: 0 };
  readonly #hypercall: HypercallExit = { reason: 'hypercall', length: 3 };

  private constructor(vm: Vm, topology: Topology, { era, direct }: ModelOptions) {
    this.name = `KVM ${era}`;
    this.topology = topology;
    this.direct = direct;
    this.#vm = vm;
    this.kvm = vm.kvm;
    this.#mode = callerMode(topology);
    vm.write(
      BOOT_LAYOUT.origin,
      stub(this.#mode, topology.vendor, (vector) => vector === VECTOR_NMI || vector >= FIRST_INTERRUPT),
    );
    this.#setUp();
    this.#registers = this.kvm.vcpus.map(({ state }) => savedRegisters(state));
    this.#performed = new Uint8Array(topology.vcpus);
    for (const vcpu of this.kvm.vcpus) {
      if (vcpu.index > 0) vcpu.mpState = topology.aps === 'wait-for-sipi' ? 'uninitialized' : topology.aps;
      vcpu.lapic.requestEvent = false;
    }
    this.#startBlocked = this.kvm.vcpus.map(({ blocked }) => blocked);
    this.#startMp = this.kvm.vcpus.map(({ mp }) => mp);
    // The APIC map is built now and not in every case.
    reachedDecisions.fill(0);
    this.kvm.apicMap();
    this.opened = reachedDecisions.slice();
    this.#snapshot = vm.snapshot();
    this.start = new Uint32Array(topology.vcpus * VCPU_WORDS);
    if (direct) {
      // Pending INIT and SIPI are not carried out.
      this.observes[WORD_MP] = 0;
      this.observes[WORD_CS] = 0;
    }
    for (const vcpu of this.kvm.vcpus) this.#read(vcpu, this.start);
  }

  static async open(topology: Topology, options: ModelOptions): Promise<ModelTarget> {
    const { vcpus, vendor, mode, cpl, ids, apic, x2apicApi, vectorHashing, enforcePvFeatures, pvFeatures } = topology;
    const vm = await createVm({
      ...{ vcpus, vendor, mode, cpl, x2apicApi, vectorHashing, enforcePvFeatures },
      memory: memoryOf(topology),
      kvm: options.era,
      apic: apic === 'mixed' ? 'xapic' : apic,
      aps: 'run',
      ...(ids === undefined ? {} : { apicIds: ids }),
      pvFeatures: pvFeatures ?? defaultPvFeatures(resolveEra(options.era)),
      exitHypercalls: topology.exitHypercalls ?? 0,
      record: false,
    });
    return new ModelTarget(vm, topology, options);
  }

  dispose(): void {
    this.#vm.dispose();
  }

  /** What makes one APIC unlike the others, set as a VMM does. */
  #setUp(): void {
    const { kvm, topology } = this;
    for (const { state } of kvm.vcpus) {
      state.set(R_IDTR_BASE, STUB_IDT, 0);
      state.set(R_IDTR_LIMIT, idtLimit(this.#mode), 0);
      // Nothing is zero, so that a register which should have stayed shows.
      for (let id = 0; id < GPRS; id++) {
        if (R_RAX + id !== R_RSP) state.set(R_RAX + id, 0x01010101 * (id + 1), this.#wide ? 0x10101010 + id : 0);
      }
    }
    if (topology.apic === 'mixed') {
      for (let index = 1; index < topology.vcpus; index += 2) {
        kvm.setMsr(index, MSR_APIC_BASE, (kvm.getMsr(index, MSR_APIC_BASE) ?? 0n) | BASE_EXTD);
      }
    }
    for (const index of topology.softwareDisabled ?? []) {
      const registers = kvm.vcpus[index].lapic.registers.slice();
      registers[SLOT_SVR] = SVR_DISABLED;
      kvm.setLapic(index, registers);
    }
    for (const index of topology.hardwareDisabled ?? []) {
      kvm.setMsr(index, MSR_APIC_BASE, (kvm.getMsr(index, MSR_APIC_BASE) ?? 0n) & ~(BASE_EN | BASE_EXTD));
    }
  }

  get #wide(): boolean {
    return this.topology.mode === 'long64';
  }

  // ---- one case ----

  run(test: Case, outcome: Outcome): void {
    if (this.#dirty) this.#vm.restore(this.#snapshot);
    this.#dirty = true;
    clear(this.#performed);
    outcome.end = '';
    outcome.steps = 0;
    outcome.light = false;
    clear(outcome.touched);
    for (let step = 0; step < test.length; step++) {
      outcome.steps = step + 1;
      if (!this.#step(test, step, outcome)) break;
    }
    if (this.direct && outcome.end === '' && test.length === 1 && isLight(test.words)) this.#finishLight(outcome);
    else this.#finish(outcome);
  }

  #step(test: Case, step: number, outcome: Outcome): boolean {
    const { words } = test;
    const { results } = outcome;
    const at = step * STEP_WORDS;
    const result = step * RESULT_WORDS;
    const index = words[at + STEP_VCPU];
    const vcpu = this.kvm.vcpus[index];
    results[result + RESULT_LO] = 0;
    results[result + RESULT_HI] = 0;
    results[result + RESULT_SPOILED] = 0;
    results[result + RESULT_FASTPATH] = 0;
    if (!this.#awake(vcpu, outcome)) {
      results[result + RESULT_STATUS] = STATUS_NOT_RUN;
      return false;
    }
    const op = words[at + STEP_OP];
    const { state } = vcpu;
    const bare = this.direct && op === OP.wrmsr;
    if (!bare) this.#load(vcpu, words, at);
    const fastpath = vcpu.stat.fastpath;
    let status: number;
    if (this.direct && op <= OP.call) status = this.#handle(vcpu, op, words, at, outcome);
    else status = this.#execute(vcpu, STIMULI[op], outcome);
    results[result + RESULT_STATUS] = status;
    if (outcome.end !== '') return false;
    if (op === OP.wrmsr) results[result + RESULT_FASTPATH] = vcpu.stat.fastpath > fastpath ? 1 : 2;
    let free = 0;
    if (status === STATUS_NEXT) {
      if (op === OP.call || op === OP.load) {
        free = BIT_RAX;
        results[result + RESULT_LO] = state.lo(R_RAX);
        results[result + RESULT_HI] = state.hi(R_RAX);
      } else if (op === OP.rdmsr) {
        free = BIT_RAX | BIT_RDX;
        results[result + RESULT_LO] = state.lo(R_RAX);
        results[result + RESULT_HI] = state.lo(R_RDX);
      }
    } else if (status >= STATUS_FAULT) {
      free = BIT_RSP;
    }
    // KVM takes a WRMSR from the exit: whether a register changed is seen when `checkUntouched` looks.
    if (!bare) results[result + RESULT_SPOILED] = this.#spoiled(state, free);
    if (status >= STATUS_FAULT && status < STATUS_ASLEEP && step + 1 < test.length) {
      restoreRegisters(state, this.#registers[index]);
    }
    if (status === STATUS_ASLEEP) this.#performed[index] = 2;
    // A reset is carried out at the next entry, or with the reading of the MP state.
    if (vcpu.lapic.initPending || status === STATUS_STUCK) this.#performed[index] = 3;
    return true;
  }

  /** Whether vCPU can execute a step now. One that performs its first was not asleep at the start. */
  #awake(vcpu: KvmVcpu, outcome: Outcome): boolean {
    const { index } = vcpu;
    if (this.#performed[index] === 0) {
      this.#performed[index] = 1;
      // Whoever was reset executes no step; nor does who is about to.
      if (vcpu.lapic.initPending || vcpu.lapic.sipiPending) return false;
      if (index === 0) return vcpu.mp === MP_RUNNABLE;
      vcpu.mpState = 'runnable';
      return true;
    }
    if (this.#performed[index] === 2) this.#settle(vcpu, outcome);
    return this.#performed[index] === 1 && !vcpu.lapic.initPending && vcpu.mp === MP_RUNNABLE;
  }

  /** Lets a vCPU that sleeps in a step end it if something woke it. */
  #settle(vcpu: KvmVcpu, outcome: Outcome): void {
    const { index } = vcpu;
    if (vcpu.lapic.initPending || vcpu.lapic.sipiPending || !this.kvm.isRunnable(index)) return;
    const status = this.#run(vcpu, STUB.hlt.at + STUB.hlt.length, outcome);
    if (status !== STATUS_ASLEEP) this.#performed[index] = status === STATUS_NEXT ? 1 : 3;
  }

  /** Puts a step's arguments into registers. */
  #load({ index, state }: KvmVcpu, words: Uint32Array, at: number): void {
    const expected = this.#expected;
    const start = this.#registers[index];
    for (let i = 0; i < GPRS * 2; i++) expected[i] = start[i];
    const args = at + STEP_ARGS;
    switch (words[at + STEP_OP]) {
      case OP.wrmsr:
        this.#want(R_RCX, words[args], 0);
        this.#want(R_RAX, words[args + 2], 0);
        this.#want(R_RDX, words[args + 3], 0);
        break;
      case OP.rdmsr:
        this.#want(R_RCX, words[args], 0);
        break;
      case OP.call:
        this.#want(R_RAX, words[args], words[args + 1]);
        this.#want(R_RBX, words[args + 2], words[args + 3]);
        this.#want(R_RCX, words[args + 4], words[args + 5]);
        this.#want(R_RDX, words[args + 6], words[args + 7]);
        this.#want(R_RSI, words[args + 8], words[args + 9]);
        break;
      case OP.store:
        this.#want(R_RDI, (APIC_PAGE + words[args]) >>> 0, 0);
        this.#want(R_RAX, words[args + 2], 0);
        break;
      case OP.load:
        this.#want(R_RDI, (APIC_PAGE + words[args]) >>> 0, 0);
        break;
      case OP.icrStores:
        this.#want(R_RDI, APIC_PAGE, 0);
        this.#want(R_RAX, words[args + 2], 0);
        this.#want(R_RDX, words[args + 3], 0);
        break;
      case OP.cr8:
        this.#want(R_RAX, words[args + 2], words[args + 3]);
        break;
      default:
        break;
    }
    for (let id = 0; id < GPRS; id++) state.set(R_RAX + id, expected[id * 2], expected[id * 2 + 1]);
    state.set(R_RFLAGS, start[R_RFLAGS * 2], 0);
  }

  #want(id: number, lo: number, hi: number): void {
    this.#expected[(id - R_RAX) * 2] = lo;
    this.#expected[(id - R_RAX) * 2 + 1] = hi;
  }

  #spoiled(state: CpuState, free: number): number {
    const expected = this.#expected;
    let mask = 0;
    for (let id = 0; id < GPRS; id++) {
      if (state.lo(R_RAX + id) !== expected[id * 2] || state.hi(R_RAX + id) !== expected[id * 2 + 1]) mask |= 1 << id;
    }
    return mask & ~free;
  }

  /** KVM's part of the exit alone. */
  #handle(vcpu: KvmVcpu, op: number, words: Uint32Array, at: number, outcome: Outcome): number {
    const { kvm } = this;
    const args = at + STEP_ARGS;
    if (op === OP.wrmsr) {
      const exit = this.#wrmsr;
      exit.msr = words[args];
      exit.dataLo = words[args + 2];
      exit.dataHi = words[args + 3];
      kvm.handle(vcpu.index, exit);
    } else if (op === OP.rdmsr) {
      this.#rdmsr.msr = words[args];
      kvm.handle(vcpu.index, this.#rdmsr);
    } else {
      kvm.handle(vcpu.index, this.#hypercall);
      const { crash } = kvm;
      if (crash !== null) return this.#gone(outcome, crash);
      if (vcpu.completion !== COMPLETE_NOTHING) kvm.completeHypercall(vcpu.index, 0n);
    }
    if (vcpu.exceptionVector < 0) return STATUS_NEXT;
    const status = STATUS_FAULT | vcpu.exceptionVector;
    vcpu.exceptionVector = -1;
    return status;
  }

  #execute(vcpu: KvmVcpu, what: Stimulus, outcome: Outcome): number {
    const { at, length } = STUB[what];
    vcpu.state.set(R_RIP, at, 0);
    return this.#run(vcpu, at + length, outcome);
  }

  /** Runs one vCPU to a landing place. */
  #run(vcpu: KvmVcpu, landing: number, outcome: Outcome): number {
    const { kvm } = this;
    const { index, state } = vcpu;
    for (let entries = 0; entries < MOST_ENTRIES; entries++) {
      const end = kvm.run(index, 1);
      switch (end.kind) {
        case 'budget':
        case 'yield':
          break;
        case 'blocked':
          return STATUS_ASLEEP;
        case 'io':
          kvm.completeIo(index, 0);
          break;
        case 'mmio':
          kvm.completeMmio(index, 0n);
          break;
        case 'hypercall':
          kvm.completeHypercall(index, 0n);
          break;
        default:
          return this.#gone(outcome, end);
      }
      if (vcpu.exceptionVector >= 0) continue;
      const rip = state.lo(R_RIP);
      if (rip === landing) return STATUS_NEXT;
      const vector = handlerAt(rip);
      if (vector >= 0 && vector !== VECTOR_NMI) return STATUS_FAULT | vector;
      // A vCPU that was reset starts anew.
      if (vcpu.mp !== MP_RUNNABLE && entries > 0) return STATUS_STUCK;
    }
    return STATUS_STUCK;
  }

  #gone(outcome: Outcome, end: VcpuRunResult): number {
    if (end.kind === 'host-bug') outcome.end = `host bug ${end.bug}`;
    else if (end.kind === 'internal-error') outcome.end = `internal error: ${end.detail}`;
    else outcome.end = end.kind;
    return STATUS_STUCK;
  }

  // ---- what came of it ----

  #finish(outcome: Outcome): void {
    if (outcome.end === '') {
      for (const vcpu of this.kvm.vcpus) if (this.#performed[vcpu.index] === 2) this.#settle(vcpu, outcome);
    }
    if (outcome.end !== '') return;
    outcome.base = null;
    for (const vcpu of this.kvm.vcpus) {
      if (this.#performed[vcpu.index] === 0 && !vcpu.lapic.requestEvent) continue;
      outcome.touched[vcpu.index] = 1;
      this.#read(vcpu, outcome.state);
    }
  }

  /** Reads and undoes what a light case may have changed. */
  #finishLight(outcome: Outcome): void {
    outcome.light = true;
    if (outcome.base !== this.start) {
      outcome.base = this.start;
      outcome.state.set(this.start);
    }
    const { vcpus } = this.kvm;
    for (let index = 0; index < vcpus.length; index++) {
      const vcpu = vcpus[index];
      if (this.#performed[index] === 0 && !vcpu.lapic.requestEvent) continue;
      outcome.touched[index] = 1;
      this.#readLight(vcpu, outcome.state);
    }
    this.#dirty = false;
  }

  #readLight(vcpu: KvmVcpu, into: Uint32Array): void {
    const { index, lapic } = vcpu;
    const { start } = this;
    const { registers } = lapic;
    const at = index * VCPU_WORDS;
    for (let slot = LIGHT_FIRST; slot < LIGHT_END; slot++) {
      const now = registers[slot];
      const then = start[at + slot];
      into[at + slot] = now;
      if (now !== then) registers[slot] = then;
    }
    into[at + SLOT_ICR] = registers[SLOT_ICR];
    registers[SLOT_ICR] = start[at + SLOT_ICR];
    into[at + SLOT_ICR2] = registers[SLOT_ICR2];
    registers[SLOT_ICR2] = start[at + SLOT_ICR2];
    into[at + WORD_NMI] = lapic.nmiQueued === 0 ? 0 : vcpu.nmiPending;
    into[at + WORD_SMI] = lapic.smiPending ? 1 : 0;
    into[at + WORD_INIT] = lapic.initPending ? 1 : 0;
    into[at + WORD_SIPI] = lapic.sipiPending ? lapic.sipiVector + 1 : 0;
    into[at + WORD_KICK] = lapic.pvUnhalted ? 1 : 0;
    lapic.requestEvent = false;
    lapic.irrPending = false;
    lapic.arbitration = 0;
    lapic.nmiQueued = 0;
    lapic.smiPending = false;
    lapic.initPending = false;
    lapic.sipiPending = false;
    lapic.pvUnhalted = false;
    vcpu.mp = this.#startMp[index];
    vcpu.blocked = this.#startBlocked[index];
    vcpu.pv.readySince = -1;
  }

  /** In the order of the recorder: registers, events, MP state, CS. */
  #read(vcpu: KvmVcpu, into: Uint32Array): void {
    const { index, lapic } = vcpu;
    const at = index * VCPU_WORDS;
    const { registers } = lapic;
    for (let slot = 0; slot < registers.length; slot++) into[at + slot] = registers[slot];
    into[at + WORD_NMI] = vcpu.nmiPending;
    into[at + WORD_SMI] = lapic.smiPending ? 1 : 0;
    into[at + WORD_INIT] = lapic.initPending ? 1 : 0;
    into[at + WORD_SIPI] = lapic.sipiPending ? lapic.sipiVector + 1 : 0;
    into[at + WORD_KICK] = lapic.pvUnhalted ? 1 : 0;
    into[at + WORD_BASE] = lapic.baseLo;
    if (this.direct) {
      into[at + WORD_MP] = 0;
      into[at + WORD_CS] = 0;
      return;
    }
    into[at + WORD_MP] = MP_NUMBER[this.kvm.getMpState(index)];
    into[at + WORD_CS] = vcpu.state.lo(R_SEL + SEG_CS);
  }

  /** Index of a vCPU that is not as at the start although no case touched it, or whose registers a case changed; -1: none. Restores the VM. */
  checkUntouched(): number {
    if (this.#dirty) return -1;
    this.#dirty = true;
    const now = new Uint32Array(this.start.length);
    for (const vcpu of this.kvm.vcpus) this.#read(vcpu, now);
    const at = now.findIndex((word, i) => word !== this.start[i]);
    return at < 0 ? -1 : Math.floor(at / VCPU_WORDS);
  }
}

/** Zeroes a byte per vCPU; a call of `fill` costs more than a few stores. */
function clear(bytes: Uint8Array): void {
  if (bytes.length > FEW) bytes.fill(0);
  else for (let i = 0; i < bytes.length; i++) bytes[i] = 0;
}

/** An ICR write, SELF_IPI, or a hypercall that changes neither memory nor what waits for user space. */
function isLight(words: Uint32Array): boolean {
  const op = words[STEP_OP];
  const first = words[STEP_ARGS];
  if (op === OP.wrmsr) return first === MSR_ICR || first === MSR_SELF_IPI;
  return op === OP.call && first !== NR_CLOCK_PAIRING && first !== NR_MAP_GPA_RANGE;
}

function savedRegisters(state: CpuState): Uint32Array {
  const registers = new Uint32Array(S_FIRST * 2);
  for (let id = 0; id < S_FIRST; id++) {
    registers[id * 2] = state.lo(id);
    registers[id * 2 + 1] = state.hi(id);
  }
  return registers;
}

function restoreRegisters(state: CpuState, registers: Uint32Array): void {
  for (let id = 0; id < S_FIRST; id++) state.set(id, registers[id * 2], registers[id * 2 + 1]);
}
