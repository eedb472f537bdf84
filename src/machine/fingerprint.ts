/**
 * A number for the state of a VM. States with the same number behave alike from there on: what a guest and its virtual hardware can see
 * of them is the same. What only statistics see (steps, exits, counters) and, unless asked for, time stay out of it.
 */
import * as L from '../cpu/core/layout.ts';
import type { Cpu } from '../cpu/cpu.ts';
import type { KvmVcpu } from '../kvm/vcpu.ts';
import type { Kvm } from '../kvm/x86.ts';

/** What else is to count. */
export interface FingerprintOptions {
  /** Steps of all vCPUs, virtual time and TSCs: for guests that look at clocks. */
  readonly time?: boolean;
  /** Exits by kind and KVM's statistics. */
  readonly counters?: boolean;
}

/** Two 32-bit lanes of multiplications and rotations: 53 bits come out. */
export class Hash {
  #a = 0x243f6a88;
  #b = 0x85a308d3;

  reset(): void {
    this.#a = 0x243f6a88;
    this.#b = 0x85a308d3;
  }

  /** Takes an integer of up to 32 bits, signed or unsigned. */
  word(value: number): void {
    const a = Math.imul(this.#a ^ value, 0x9e3779b1);
    this.#a = (a << 13) | (a >>> 19);
    const b = Math.imul(this.#b + value, 0x85ebca6b);
    this.#b = (b << 17) | (b >>> 15);
  }

  /** Takes any number. */
  number(value: number): void {
    this.word(value | 0);
    this.word(Math.floor(value / 2 ** 32) | 0);
  }

  long(value: bigint): void {
    this.word(Number(value & 0xffffffffn) | 0);
    this.word(Number((value >> 32n) & 0xffffffffn) | 0);
  }

  text(value: string): void {
    this.word(value.length);
    for (let i = 0; i < value.length; i++) this.word(value.charCodeAt(i));
  }

  flags(...values: readonly boolean[]): void {
    let word = 0;
    for (const value of values) word = word * 2 + (value ? 1 : 0);
    this.word(word);
  }

  /** Takes the words from `first` to before `end`. */
  words(values: Uint32Array, first = 0, end = values.length): void {
    let a = this.#a;
    let b = this.#b;
    for (let i = first; i < end; i++) {
      const value = values[i];
      if (value === 0) continue;
      a = Math.imul(a ^ value ^ Math.imul(i, 0x27d4eb2f), 0x9e3779b1);
      a = (a << 13) | (a >>> 19);
      b = Math.imul(b + value + Math.imul(i, 0x165667b1), 0x85ebca6b);
      b = (b << 17) | (b >>> 15);
    }
    this.#a = a;
    this.#b = b;
  }

  /** A whole number from 0 to 2^53 - 1. */
  get value(): number {
    let a = Math.imul(this.#a ^ (this.#b >>> 15), 0x2c1b3c6d);
    a ^= a >>> 13;
    let b = Math.imul(this.#b ^ (a >>> 11), 0x297a2d39);
    b ^= b >>> 16;
    return (a & 0x1fffff) * 2 ** 32 + (b >>> 0);
  }
}

/** Slots of a vCPU's state block that make up its state, in ranges. Not there: steps, exit information, lazy flags, TLB versions. */
const SLOTS: readonly (readonly [number, number])[] = [
  [L.R_RAX, L.R_TSC_OFFSET],
  [L.R_GDTR_BASE, L.S_FIRST],
  [L.S_INTERRUPTIBILITY, L.S_EXIT_CODE],
  [L.S_CPL, L.S_CPL + 1],
  [L.S_PDPTE, L.S_PENDING_DEBUG + 1],
  [L.S_RANDOM, L.R_SIMD_END],
];

const NONE = new Uint32Array(0);

function hashRegisters(hash: Hash, words: Uint32Array): void {
  for (const [first, end] of SLOTS) hash.words(words, first * 2, end * 2);
  const completed = words[L.S_IOQ_COUNT * 2];
  hash.word(completed);
  hash.words(words, L.S_IOQ * 2, (L.S_IOQ + completed) * 2);
}

function hashVcpu(hash: Hash, vcpu: KvmVcpu): void {
  const { lapic } = vcpu;
  hash.word(vcpu.mp | (vcpu.mode << 4) | (vcpu.completion << 8) | (vcpu.nmiLatched << 12) | (vcpu.timerExit << 16));
  hash.word(vcpu.exceptionVector);
  hash.word(vcpu.exceptionError);
  hash.word(vcpu.tprThreshold);
  hash.long(vcpu.hypercallRet);
  for (const [msr, value] of vcpu.msrs) {
    hash.word(msr);
    hash.long(value);
  }
  hash.words(lapic.registers);
  hash.word(lapic.baseLo);
  hash.word(lapic.baseHi);
  hash.word(lapic.arbitration);
  hash.word(lapic.nmiQueued);
  hash.word(lapic.sipiPending ? lapic.sipiVector : -1);
  hash.word(lapic.highestIsrCache);
  hash.word(lapic.processorIcrHigh);
  hash.flags(vcpu.blocked, vcpu.finishing, vcpu.ioString, lapic.hwEnabled, lapic.swEnabled, lapic.x2apic);
  hash.flags(lapic.requestEvent, lapic.irrPending, lapic.smiPending, lapic.initPending, lapic.pvUnhalted);
  hash.flags(lapic.timer.pending, vcpu.pv.eoiPending, vcpu.pv.pageReadyPending);
  hash.number(vcpu.pv.requests);
}

/** Whether something in the VM goes by the clock: then states at different times are different. */
const goesByTime = ({ clock, vcpus }: Kvm): boolean =>
  clock.armed.size > 0 || vcpus.some(({ pv }) => pv.stealAddress >= 0 || pv.timeAddress >= 0 || pv.apfAddress >= 0);

/** Computes fingerprints of one VM. */
export class Fingerprint {
  readonly #cpu: Cpu;
  readonly #hash = new Hash();
  readonly #memory = new Int32Array(2);

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  /** The caller adds to the hash what it has besides CPU and KVM, and takes its value. */
  of(kvm: Kvm, { time = false, counters = false }: FingerprintOptions): Hash {
    const hash = this.#hash;
    hash.reset();
    for (const vcpu of kvm.vcpus) {
      hashRegisters(hash, this.#cpu.stateWords?.(vcpu.index) ?? NONE);
      hashVcpu(hash, vcpu);
    }
    if (time || goesByTime(kvm)) {
      hash.number(kvm.clock.now);
      for (const { state, pv, lapic } of kvm.vcpus) {
        hash.number(state.steps);
        hash.long(state.get(L.R_TSC_OFFSET));
        hash.number(pv.runDelay);
        hash.number(pv.readySince);
        hash.number(lapic.timer.deadline === Number.POSITIVE_INFINITY ? -1 : lapic.timer.deadline);
      }
    }
    if (counters) {
      for (const vcpu of kvm.vcpus) {
        for (const count of vcpu.exitCounts) hash.number(count);
        for (const count of Object.values(vcpu.counters)) if (typeof count === 'number') hash.number(count);
      }
    }
    this.#cpu.memoryHash?.(this.#memory);
    hash.word(this.#memory[0]);
    hash.word(this.#memory[1]);
    return hash;
  }
}
