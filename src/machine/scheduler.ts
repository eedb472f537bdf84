/**
 * Which vCPU runs next, and for how long: a function of the seed alone. vCPUs take turns; now and then the turn jumps to
 * another runnable one, and slices vary over three orders of magnitude, so that different seeds show different interleavings.
 *
 * An explicit schedule comes first, step by step; behind its end the seed decides.
 */
import type { Schedule } from './schedule.ts';

/** A 32-bit generator (Weyl sequence and a finalizer of xor-shifts and multiplications). Same seed, same numbers. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** Goes on as another generator would. */
  assign(from: Random): void {
    this.#state = from.#state;
  }

  /** The next 32 bits as a signed number: half of the unsigned ones are too large for V8 to keep outside of its heap. */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return x ^ (x >>> 15);
  }

  /** The next unsigned 32-bit number. */
  next(): number {
    return this.bits() >>> 0;
  }
}

/** Shortest and longest slice in steps. */
export const MIN_SLICE = 16;
export const MAX_SLICE = 16384;

export class Scheduler {
  readonly #random: Random;
  readonly #count: number;
  #last: number;
  /** Bit n: vCPU n was not found asleep the last time anybody looked, or may have woken up since. */
  readonly #maybe: Uint32Array;
  #schedule: Schedule;
  /** The turn of the schedule that is under way, and how many of its steps have been made or skipped. */
  #turn = 0;
  #made = 0;
  #skipped = 0;

  constructor(seed: number, vcpus: number, schedule: Schedule = []) {
    this.#random = new Random(seed);
    this.#count = vcpus;
    this.#last = vcpus - 1;
    this.#maybe = new Uint32Array((vcpus + 31) >> 5);
    this.#schedule = schedule;
  }

  /** Another one that goes on as this one would. */
  copy(): Scheduler {
    const copy = new Scheduler(0, this.#count);
    copy.assign(this);
    return copy;
  }

  /** Becomes what a copy is. */
  assign(from: Scheduler): void {
    this.#random.assign(from.#random);
    this.#last = from.#last;
    this.#maybe.set(from.#maybe);
    this.#schedule = from.#schedule;
    this.#turn = from.#turn;
    this.#made = from.#made;
    this.#skipped = from.#skipped;
  }

  /** Steps of the schedule that were skipped because their vCPU slept. */
  get skipped(): number {
    return this.#skipped;
  }

  /** Steps of the schedule that are still to come. */
  get remaining(): number {
    return this.#schedule.slice(this.#turn).reduce((sum, { steps }) => sum + steps, 0) - this.#made;
  }

  /**
   * The vCPU whose turn it is to make one step of the schedule; -1: the schedule is at its end. A vCPU that sleeps misses the rest of its
   * turn, unless all of them sleep: then the schedule waits.
   */
  scheduled(isRunnable: (index: number) => boolean): number {
    while (this.#turn < this.#schedule.length) {
      const { vcpu, steps } = this.#schedule[this.#turn];
      if (isRunnable(vcpu)) {
        this.#last = vcpu;
        if (++this.#made === steps) this.#next();
        return vcpu;
      }
      if (!this.#anybody(isRunnable)) return -1;
      this.#skipped += steps - this.#made;
      this.#next();
    }
    return -1;
  }

  #next(): void {
    this.#turn++;
    this.#made = 0;
  }

  #anybody(isRunnable: (index: number) => boolean): boolean {
    for (let index = 0; index < this.#count; index++) if (isRunnable(index)) return true;
    return false;
  }

  /** Whoever slept may be awake now, whatever `stirred` says at the next `pick`. */
  lookAround(): void {
    this.#maybe.fill(0xffffffff);
  }

  /**
   * The vCPU that runs next, or -1 if none is runnable. A vCPU that was found asleep is not looked at again, however many there are, until
   * its bit in `stirred` says that something happened to it; the bits are cleared. Without `stirred` everybody is looked at.
   */
  pick(isRunnable: (index: number) => boolean, stirred?: Uint32Array): number {
    const r = this.#random.bits();
    // One turn in four starts its search anywhere, the others behind the vCPU that ran last.
    const first = (r & 3) === 0 ? (r >>> 2) % this.#count : (this.#last + 1) % this.#count;
    if (stirred === undefined) this.lookAround();
    else {
      for (let word = 0; word < stirred.length; word++) {
        this.#maybe[word] |= stirred[word];
        stirred[word] = 0;
      }
    }
    let index = this.#search(first, this.#count, isRunnable);
    if (index < 0) index = this.#search(0, first, isRunnable);
    if (index >= 0) this.#last = index;
    return index;
  }

  /** The first runnable vCPU from `from` to before `end`, or -1. */
  #search(from: number, end: number, isRunnable: (index: number) => boolean): number {
    for (let base = from & ~31, mask = -1 << (from & 31); base < end; base += 32, mask = -1) {
      for (let rest = this.#maybe[base >> 5] & mask; rest !== 0; rest &= rest - 1) {
        const index = base + 31 - Math.clz32(rest & -rest);
        if (index >= end) return -1;
        if (isRunnable(index)) return index;
        this.#maybe[base >> 5] &= ~(1 << (index & 31));
      }
    }
    return -1;
  }

  /** Length of the next slice in steps: evenly spread over the powers of two from MIN_SLICE to MAX_SLICE. */
  slice(): number {
    const r = this.#random.bits();
    const base = MIN_SLICE << ((r >>> 0) % 10);
    return base + ((r >>> 8) % base);
  }
}
