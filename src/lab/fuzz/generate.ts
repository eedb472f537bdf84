/**
 * Makes cases: structured fields rather than noise, boundaries of what the topology has, single-bit flips of valid values, and mutations of
 * cases that reached something new. Everything follows from the generator's state; nothing is known about any bug.
 */
import { ICR_LOGICAL, ICR_SHORTHAND_SHIFT } from '../../kvm/icr.ts';
import { Random } from '../../machine/scheduler.ts';
import {
  type CampaignKind,
  Case,
  MAX_STEPS,
  OP,
  STEP_ARGS,
  STEP_OP,
  STEP_VCPU,
  STEP_WORDS,
  type Topology,
} from './types.ts';

const MSR_ICR = 0x830;
const MSR_SELF_IPI = 0x83f;
const MSR_APIC_BASE = 0x1b;
const APIC_BASE = 0xfee00000;
const NR_KICK_CPU = 5;
const NR_CLOCK_PAIRING = 9;
const NR_SEND_IPI = 10;
const NR_SCHED_YIELD = 11;
const NR_MAP_GPA_RANGE = 12;

/** Edges of the priority classes, of the legal range, and of the words of IRR. */
const VECTORS = [
  0, 1, 15, 16, 31, 32, 33, 0x3f, 0x40, 0x41, 0x5f, 0x60, 0x7f, 0x80, 0xa0, 0xdf, 0xe0, 0xef, 0xf0, 0xfe, 0xff,
];
/** Edges of 32-bit numbers: signs, wraps, what is just below them. */
const EDGES_32 = [
  0, 1, 2, 0xff, 0x100, 0xfff, 0x1000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0x80000001, 0xffffff7f, 0xffffff80,
  0xffffffbf, 0xffffffc0, 0xffffffdf, 0xffffffe0, 0xfffffffe, 0xffffffff,
];
/** Offsets of registers of the APIC page, and of holes beside them. */
const REGISTERS = [
  0x000, 0x010, 0x020, 0x030, 0x040, 0x080, 0x090, 0x0a0, 0x0b0, 0x0c0, 0x0d0, 0x0e0, 0x0f0, 0x100, 0x170, 0x180, 0x200,
  0x270, 0x280, 0x290, 0x2f0, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3a0, 0x3d0, 0x3e0,
  0x3f0, 0x400, 0xff0,
];
/** MSRs besides the x2APIC's: APIC base, TSC deadline, KVM's paravirtual ones and their neighbours. */
const OTHER_MSRS = [
  0x10, 0x11, 0x12, 0x1b, 0x6e0, 0x7ff, 0x8ff, 0x900, 0xbff, 0xc00, 0x4b564cff, 0x4b564d00, 0x4b564d01, 0x4b564d02,
  0x4b564d03, 0x4b564d04, 0x4b564d05, 0x4b564d06, 0x4b564d07, 0x4b564d08, 0x4b564d09, 0xc0000080,
];
/** Guest-physical addresses of records that KVM writes: good, unaligned, across pages, outside memory. */
const ADDRESSES = [0x6000, 0x6001, 0x6002, 0x6004, 0x6010, 0x6020, 0x6fc0, 0x6fc1, 0x6ff0, 0xfee00000, 0xfffff000];

const WEIGHTED_SHORTHANDS = [0, 0, 0, 0, 0, 0, 1, 2, 3];
const MOST_SEQUENCE_STEPS = 10;
const KEPT = 256;

/** Distinct unsigned 32-bit numbers. */
const pool = (numbers: readonly number[]): Uint32Array => Uint32Array.from(new Set(numbers.map((n) => n >>> 0)));

export class Generator {
  readonly #random: Random;
  readonly #kind: CampaignKind;
  readonly #topology: Topology;
  readonly #ids: readonly number[];
  readonly #destinations: Uint32Array;
  readonly #minimums: Uint32Array;
  readonly #corpus: Case[] = [];

  constructor(kind: CampaignKind, topology: Topology, seed: number) {
    this.#random = new Random(seed);
    this.#kind = kind;
    this.#topology = topology;
    this.#ids = topology.ids ?? Array.from({ length: topology.vcpus }, (_, index) => index);
    this.#destinations = pool(destinations(this.#ids));
    this.#minimums = pool(minimums(this.#ids));
  }

  /** Cases that reached something new; `next` mutates them now and then. */
  keep(test: Case): void {
    const kept = new Case();
    kept.assign(test);
    if (this.#corpus.length < KEPT) this.#corpus.push(kept);
    else this.#corpus[this.#below(KEPT)] = kept;
  }

  next(test: Case): void {
    this.#make(test);
    // Code of 16 and 32 bits cannot load the upper halves.
    if (this.#topology.mode !== 'long64') clearUpperHalves(test);
  }

  #make(test: Case): void {
    const corpus = this.#corpus;
    if (corpus.length > 0 && this.#chance(4)) {
      test.assign(corpus[this.#below(corpus.length)]);
      this.#mutate(test);
      return;
    }
    test.length = 0;
    switch (this.#kind) {
      case 'hypercall':
        this.#hypercall(test, this.#performer());
        break;
      case 'msr':
        this.#msr(test);
        break;
      case 'sequence':
        this.#sequence(test);
        break;
      default:
        this.#icr(test, this.#performer());
        break;
    }
    if (this.#chance(8)) this.#flip(test);
  }

  // ---- numbers ----

  #below(n: number): number {
    return this.#random.next() % n;
  }

  /** One in n. */
  #chance(n: number): boolean {
    return this.#random.next() % n === 0;
  }

  #of(numbers: ArrayLike<number>): number {
    return numbers[this.#below(numbers.length)];
  }

  /** Mostly vCPU 0, now and then another one. */
  #performer(): number {
    const { vcpus } = this.#topology;
    return vcpus === 1 || !this.#chance(8) ? 0 : this.#below(vcpus);
  }

  #vector(): number {
    return this.#chance(4) ? this.#random.next() & 0xff : this.#of(VECTORS);
  }

  /** Vector, delivery mode, destination mode, level, trigger, shorthand: every combination is likely. */
  #icrLow(): number {
    const r = this.#random.next();
    // Every other one Fixed.
    const mode = (r & 8) === 0 ? 0 : r & 7;
    const fields = (mode << 8) | (((r >>> 4) & 1) << 11) | (((r >>> 5) & 3) << 14);
    return (
      (this.#vector() |
        fields |
        (WEIGHTED_SHORTHANDS[(r >>> 8) % WEIGHTED_SHORTHANDS.length] << ICR_SHORTHAND_SHIFT)) >>>
      0
    );
  }

  #destination(low: number): number {
    const r = this.#below(16);
    if (r === 0) return this.#random.next();
    if (r === 1) return (this.#of(this.#destinations) ^ (1 << this.#below(32))) >>> 0;
    if ((low & ICR_LOGICAL) !== 0 && r < 12) {
      // A cluster that exists, or the next one, and any set of members; or a flat or cluster-model xAPIC mask.
      if (this.#topology.apic === 'xapic' || r < 4) return this.#below(256);
      const cluster = (this.#of(this.#ids) >>> 4) + (this.#chance(8) ? 1 : 0);
      return ((cluster << 16) | (this.#chance(2) ? 1 << this.#below(16) : this.#below(0x10000))) >>> 0;
    }
    return this.#of(this.#destinations);
  }

  #number64(test: Case, step: number, which: number): void {
    const { words } = test;
    const at = step * STEP_WORDS + STEP_ARGS + which * 2;
    words[at] = this.#chance(2) ? this.#of(EDGES_32) : this.#random.next();
    words[at + 1] = this.#chance(3) ? (this.#chance(2) ? this.#of(EDGES_32) : this.#random.next()) : 0;
  }

  // ---- steps ----

  #step(test: Case, op: number, vcpu: number): number {
    const at = test.length * STEP_WORDS;
    for (let word = 0; word < STEP_WORDS; word++) test.words[at + word] = 0;
    test.words[at + STEP_OP] = op;
    test.words[at + STEP_VCPU] = vcpu;
    test.length++;
    return at + STEP_ARGS;
  }

  /** Whether vCPU `vcpu` starts in x2APIC mode. */
  #isX2apic(vcpu: number): boolean {
    const { apic } = this.#topology;
    return apic === 'x2apic' || (apic === 'mixed' && vcpu % 2 === 1);
  }

  #icr(test: Case, vcpu: number): void {
    const low = this.#icrLow();
    const dest = this.#destination(low);
    const { words } = test;
    if (this.#topology.mode !== 'real16' && !this.#isX2apic(vcpu) && !this.#chance(16)) {
      const at = this.#step(test, OP.icrStores, vcpu);
      words[at + 2] = low;
      // ICR2 has the destination in bits 31:24.
      words[at + 3] = this.#chance(16) ? dest : (dest << 24) >>> 0;
      return;
    }
    const at = this.#step(test, OP.wrmsr, vcpu);
    if (this.#chance(16)) {
      words[at] = MSR_SELF_IPI;
      words[at + 2] = this.#vector();
      return;
    }
    words[at] = MSR_ICR;
    words[at + 2] = low;
    words[at + 3] = dest;
  }

  #hypercall(test: Case, vcpu: number): void {
    const { words } = test;
    const at = this.#step(test, OP.call, vcpu);
    const step = test.length - 1;
    const r = this.#below(16);
    if (r < 9) {
      words[at] = NR_SEND_IPI;
      this.#sendIpi(words, at);
      return;
    }
    // Any other number, mostly one that exists somewhere.
    words[at] = this.#below(r < 15 ? 16 : 0xffffffff);
    for (let which = 1; which < 5; which++) this.#number64(test, step, which);
    switch (words[at]) {
      case NR_KICK_CPU:
        words[at + 4] = this.#of(this.#destinations);
        break;
      case NR_SCHED_YIELD:
        words[at + 2] = this.#of(this.#destinations);
        break;
      case NR_CLOCK_PAIRING:
        words[at + 2] = this.#of(ADDRESSES);
        if (!this.#chance(4)) words[at + 3] = 0;
        if (!this.#chance(4)) words.fill(0, at + 4, at + 6);
        break;
      case NR_MAP_GPA_RANGE:
        words[at + 2] = this.#of(ADDRESSES);
        if (!this.#chance(4)) words[at + 4] = this.#below(16);
        break;
      default:
        break;
    }
    if (this.#chance(16)) words[at + 1] = this.#of(EDGES_32);
  }

  /** Bitmaps, `min` and the ICR word. */
  #sendIpi(words: Uint32Array, at: number): void {
    const min = this.#chance(16) ? this.#random.next() : this.#of(this.#minimums);
    for (const word of [2, 4]) {
      for (let half = 0; half < 2; half++) words[at + word + half] = this.#bitmap(min + (word - 2) * 32 + half * 32);
    }
    words[at + 6] = min;
    if (this.#chance(8)) words[at + 7] = this.#of(EDGES_32);
    const low = this.#icrLow();
    // Logical and shorthand are errors before anything happens: not too many of them.
    words[at + 8] = this.#chance(8) ? low : low & ~(ICR_LOGICAL | (3 << ICR_SHORTHAND_SHIFT));
    if (this.#chance(16)) words[at + 9] = this.#random.next();
  }

  /** 32 bits of a bitmap whose bit 0 is APIC id `base`. */
  #bitmap(base: number): number {
    switch (this.#below(8)) {
      case 0:
        return (1 << this.#below(32)) >>> 0;
      case 1:
        return this.#chance(2) ? 0xffffffff : 0x80000001;
      case 2:
        return this.#random.next();
      case 3:
      case 4: {
        // Who is there, and sometimes a neighbour.
        let bits = 0;
        for (const id of this.#ids) {
          const bit = (id - base) >>> 0;
          if (bit < 32 && !this.#chance(3)) bits |= 1 << bit;
        }
        return (this.#chance(4) ? bits | (1 << this.#below(32)) : bits) >>> 0;
      }
      default:
        return 0;
    }
  }

  #msrNumber(): number {
    switch (this.#below(8)) {
      case 0:
        return 0x800 + this.#below(0x100);
      case 1:
      case 2:
        return this.#of(OTHER_MSRS);
      default:
        return 0x800 + (this.#of(REGISTERS) >>> 4);
    }
  }

  /** A value that an MSR or APIC register may or may not like. */
  #msrValue(test: Case, step: number): void {
    const { words } = test;
    const at = step * STEP_WORDS + STEP_ARGS;
    const msr = words[at];
    words[at + 3] = this.#chance(8) ? this.#of(EDGES_32) : 0;
    if (msr === MSR_ICR) {
      words[at + 2] = this.#icrLow();
      words[at + 3] = this.#destination(words[at + 2]);
    } else if (msr === MSR_APIC_BASE) {
      words[at + 2] =
        (APIC_BASE |
          (this.#below(4) << 10) |
          (this.#chance(2) ? 0x100 : 0) |
          (this.#chance(8) ? this.#random.next() : 0)) >>>
        0;
    } else if (msr >= 0x4b564d00 || msr < 0x100) {
      words[at + 2] = this.#of(ADDRESSES) | this.#below(4);
      if (this.#chance(4)) words[at + 2] = this.#of(EDGES_32);
    } else {
      const r = this.#below(6);
      if (r === 0) words[at + 2] = 0;
      else if (r < 3) words[at + 2] = this.#vector();
      else if (r === 3) words[at + 2] = this.#vector() | (this.#below(0x10) << 8) | (this.#below(8) << 16);
      else words[at + 2] = r === 4 ? this.#of(EDGES_32) : this.#random.next();
    }
  }

  #wrmsr(test: Case, vcpu: number, msr: number): void {
    const at = this.#step(test, OP.wrmsr, vcpu);
    test.words[at] = msr;
    this.#msrValue(test, test.length - 1);
  }

  #rdmsr(test: Case, vcpu: number, msr: number): void {
    const at = this.#step(test, OP.rdmsr, vcpu);
    test.words[at] = msr;
  }

  #msr(test: Case): void {
    const vcpu = this.#performer();
    const msr = this.#msrNumber();
    if (!this.#chance(3)) this.#wrmsr(test, vcpu, msr);
    if (test.length === 0 || !this.#chance(3)) this.#rdmsr(test, vcpu, msr);
  }

  /** Up to ten steps of several vCPUs; state in between: TPR, EOI, SVR, modes, ids, taken interrupts, sleep. */
  #sequence(test: Case): void {
    const { vcpus, mode } = this.#topology;
    const length = 2 + this.#below(MOST_SEQUENCE_STEPS - 1);
    const other = this.#below(vcpus);
    if (this.#chance(4)) {
      this.#burst(test, length);
      return;
    }
    while (test.length < length) {
      const vcpu = this.#chance(3) ? other : 0;
      switch (this.#below(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
          this.#icr(test, vcpu);
          break;
        case 4:
        case 5:
          this.#hypercall(test, vcpu);
          break;
        case 6:
        case 7:
          if (mode !== 'real16') this.#step(test, OP.take, vcpu);
          break;
        case 8:
          if (mode !== 'real16') this.#step(test, OP.hlt, vcpu);
          break;
        case 9:
          if (mode === 'long64') test.words[this.#step(test, OP.cr8, vcpu) + 2] = this.#below(16);
          break;
        case 10:
        case 11:
          this.#register(test, vcpu, this.#chance(2) ? 0x0b0 : 0x080);
          break;
        case 12:
          this.#wrmsr(test, vcpu, MSR_APIC_BASE);
          break;
        case 13:
          this.#rdmsr(test, vcpu, this.#msrNumber());
          break;
        default:
          this.#register(test, vcpu, this.#of(REGISTERS));
          break;
      }
    }
  }

  /** Several messages of two kinds to one destination. */
  #burst(test: Case, length: number): void {
    const vcpu = this.#performer();
    const destination = this.#destination(0);
    const modes = [this.#below(8), this.#below(8)];
    while (test.length < length) {
      this.#icr(test, vcpu);
      const at = (test.length - 1) * STEP_WORDS + STEP_ARGS;
      const { words } = test;
      words[at + 2] = ((words[at + 2] & ~0xc0f00) | (this.#of(modes) << 8)) >>> 0;
      words[at + 3] = words[at - STEP_ARGS + STEP_OP] === OP.icrStores ? (destination << 24) >>> 0 : destination;
    }
  }

  /** A write to an APIC register, the way the vCPU's mode has it. */
  #register(test: Case, vcpu: number, offset: number): void {
    if (this.#isX2apic(vcpu) || this.#topology.mode === 'real16') {
      const at = this.#step(test, OP.wrmsr, vcpu);
      test.words[at] = 0x800 + (offset >>> 4);
      this.#msrValue(test, test.length - 1);
      if (offset === 0x0b0) test.words.fill(0, at + 2, at + 4);
      if (offset === 0x0f0 && this.#chance(2)) test.words[at + 2] |= 0x100;
      return;
    }
    const load = this.#chance(4);
    const at = this.#step(test, load ? OP.load : OP.store, vcpu);
    test.words[at] = offset;
    if (load) return;
    test.words[at] = 0x800 + (offset >>> 4);
    this.#msrValue(test, test.length - 1);
    test.words[at] = offset;
    test.words[at + 3] = 0;
    // Ids and logical ids are in the upper byte.
    if ((offset === 0x020 || offset === 0x0d0) && this.#chance(2))
      test.words[at + 2] = (this.#of(this.#destinations) << 24) >>> 0;
    if (offset === 0x0e0) test.words[at + 2] = this.#chance(2) ? 0x0fffffff : 0xffffffff;
  }

  // ---- mutation ----

  /** Flips one bit of one argument of one step. */
  #flip(test: Case): void {
    const step = this.#below(test.length);
    const used = ARGUMENTS[test.words[step * STEP_WORDS + STEP_OP]];
    if (used.length === 0) return;
    const at = step * STEP_WORDS + STEP_ARGS + this.#of(used);
    test.words[at] ^= 1 << this.#below(32);
  }

  #mutate(test: Case): void {
    const rounds = 1 + this.#below(3);
    for (let round = 0; round < rounds; round++) {
      const step = this.#below(test.length);
      const at = step * STEP_WORDS;
      switch (this.#below(this.#kind === 'sequence' ? 7 : 4)) {
        case 0:
        case 1:
          this.#flip(test);
          break;
        case 2: {
          const used = ARGUMENTS[test.words[at + STEP_OP]];
          if (used.length > 0)
            test.words[at + STEP_ARGS + this.#of(used)] = this.#chance(2)
              ? this.#of(EDGES_32)
              : this.#of(this.#destinations);
          break;
        }
        case 3:
          test.words[at + STEP_VCPU] = this.#below(this.#topology.vcpus);
          break;
        case 4:
          if (test.length > 1) removeStep(test, step);
          break;
        case 5:
          if (test.length < MAX_STEPS) {
            // The same once more.
            test.words.copyWithin(at + STEP_WORDS, at, test.length * STEP_WORDS);
            test.length++;
          }
          break;
        default: {
          // The tail of another one.
          const from = this.#corpus[this.#below(this.#corpus.length)];
          const tail = from.words.subarray(0, Math.min(from.length, MAX_STEPS - step) * STEP_WORDS);
          test.words.set(tail, at);
          test.length = step + tail.length / STEP_WORDS;
          break;
        }
      }
    }
  }
}

/** Words of the arguments that an operation reads, counted from STEP_ARGS. MSR numbers are not flipped: that is another case. */
const ARGUMENTS: readonly (readonly number[])[] = Object.keys(OP).map((name) => {
  switch (name) {
    case 'wrmsr':
    case 'icrStores':
      return [2, 3];
    case 'call':
      return [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    case 'store':
      return [2];
    case 'cr8':
      return [2, 3];
    default:
      return [];
  }
});

function clearUpperHalves(test: Case): void {
  for (let step = 0; step < test.length; step++) {
    const at = step * STEP_WORDS;
    if (test.words[at + STEP_OP] !== OP.call) continue;
    for (let word = STEP_ARGS + 1; word < STEP_WORDS; word += 2) test.words[at + word] = 0;
  }
}

export function removeStep(test: Case, step: number): void {
  test.words.copyWithin(step * STEP_WORDS, (step + 1) * STEP_WORDS, test.length * STEP_WORDS);
  test.length--;
}

/** Who exists, their neighbours, who is just beyond, broadcasts, clusters, and logical ids. */
function destinations(ids: readonly number[]): number[] {
  const max = Math.max(...ids);
  return [
    ...ids.flatMap((id) => [id, id + 1, id === 0 ? 0xffffffff : id - 1]),
    ...[max + 2, 0xfe, 0xff, 0x100, 0x1ff, 0xffff, 0x10000, 0xffff0000, 0xfffffffe, 0xffffffff, 0x80000000],
    ...ids.map((id) => ((id >>> 4) << 16) | (1 << (id & 15))),
    ...ids.map((id) => ((id >>> 4) << 16) | 0xffff),
    ...[1, 2, 4, 8, 0x0f, 0x10, 0x11, 0x1f, 0xf0, 0xf1],
  ];
}

/** Lowest ids of a bitmap: at, before and behind whoever exists, at the edges of words, at the map's end, at the wrap of 2^32. */
function minimums(ids: readonly number[]): number[] {
  const ends = [...ids, Math.max(...ids), 255];
  return [
    ...ends.flatMap((id) => [id, id + 1, id - 1, id - 31, id - 32, id - 63, id - 64, id - 127, id - 128]),
    ...EDGES_32,
  ];
}
