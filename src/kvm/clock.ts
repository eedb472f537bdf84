/**
 * Virtual time: the host clock (ktime_get) and host timers (hrtimer) of one VM.
 *
 * One step of a vCPU is one cycle of a 1-GHz TSC, one nanosecond and one cycle of the APIC bus. vCPUs take turns on one
 * host CPU, so the time of the VM is the sum of the steps of all vCPUs, plus the stretches that `advance` adds while
 * all of them sleep and, with a cost model, for exits. It is one clock for all, never goes back, and depends on nothing but what the guest executed.
 */
import type { CpuState } from '../cpu/cpu.ts';

/** Frequency of every guest's TSC in kHz: 1 step = 1 cycle = 1 ns. */
export const TSC_KHZ = 1_000_000;
/** APIC_BUS_CYCLE_NS: what the LAPIC timer counts before the divider. */
export const APIC_BUS_NS = 1;
/** Times beyond this are never reached: 2^52 ns, 52 days. */
const TIME_LIMIT = 2 ** 52;

/** Something that happens at a time. Owned by the clock it is armed on. */
export interface HostTimer {
  /** Of the vCPU it belongs to, -1 for a device's; of several due at the same time the lowest goes first. */
  readonly index: number;
  /** Time at which it expires, Infinity while it is not armed. Only the clock writes it. */
  deadline: number;
  /** The deadline has been reached. Arms the timer anew, or disarms it. */
  expire(): void;
}

export class VirtualClock {
  /** Earliest deadline of all armed timers, Infinity if there is none. */
  next: number = Number.POSITIVE_INFINITY;
  readonly #armed: Set<HostTimer> = new Set();
  /** Time that does not stem from the steps of `#running`. */
  #rest = 0;
  #running: CpuState | null = null;

  /** Nanoseconds since the VM was made, a whole number. */
  get now(): number {
    const running = this.#running;
    return running === null ? this.#rest : this.#rest + running.steps;
  }

  /** From now on time passes with the steps of this vCPU. */
  enter(state: CpuState): void {
    this.#rest -= state.steps;
    this.#running = state;
  }

  /** No vCPU runs any more: time stands still. */
  leave(): void {
    if (this.#running !== null) this.#rest += this.#running.steps;
    this.#running = null;
  }

  /** Lets `ns` pass without anybody running. */
  advance(ns: number): void {
    this.#rest += ns;
  }

  get armed(): ReadonlySet<HostTimer> {
    return this.#armed;
  }

  /** Arms, or arms anew, a timer for `deadline` (an absolute time; one in the past is due at once). */
  arm(timer: HostTimer, deadline: number): void {
    const before = timer.deadline;
    this.#armed.delete(timer);
    timer.deadline = deadline < TIME_LIMIT ? deadline : Number.POSITIVE_INFINITY;
    if (timer.deadline !== Number.POSITIVE_INFINITY) this.#armed.add(timer);
    if (timer.deadline <= this.next) this.next = timer.deadline;
    else if (before <= this.next) this.#update();
  }

  disarm(timer: HostTimer): void {
    const before = timer.deadline;
    timer.deadline = Number.POSITIVE_INFINITY;
    if (this.#armed.delete(timer) && before <= this.next) this.#update();
  }

  /** The timer that expired first and has not been armed anew or disarmed since; null if none is due. */
  due(): HostTimer | null {
    if (this.next > this.now) return null;
    let first: HostTimer | null = null;
    for (const timer of this.#armed) {
      if (timer.deadline !== this.next) continue;
      if (first === null || timer.index < first.index) first = timer;
    }
    return first;
  }

  /** Becomes what another clock is; the timers of both are the same, and their deadlines are theirs to take over. */
  assign(from: VirtualClock): void {
    this.next = from.next;
    this.#rest = from.#rest;
    this.#running = from.#running;
    if (this.#armed.size + from.#armed.size === 0) return;
    this.#armed.clear();
    for (const timer of from.#armed) this.#armed.add(timer);
  }

  #update(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const timer of this.#armed) if (timer.deadline < next) next = timer.deadline;
    this.next = next;
  }
}
