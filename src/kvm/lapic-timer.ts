/**
 * The timer of one local APIC (`struct kvm_timer` in arch/x86/kvm/lapic.c; SDM vol. 3, 11.5.4): one-shot and periodic
 * counting of TMICT, and TSC-deadline mode, as timers on the VM's clock. It keeps no APIC register: LVTT, TMICT and
 * TDCR are handed in.
 *
 * An expired timer is `pending` until KVM puts its vector into IRR before the next entry. While LVTT is masked or the
 * APIC is disabled it stays pending, and arrives when LVTT is unmasked, unless the timer is armed anew or the APIC is
 * software-disabled before (apic_has_pending_timer).
 */
import { APIC_BUS_NS, type HostTimer, type VirtualClock } from './clock.ts';
import type { Era } from './eras.ts';

// LVTT bits 18:17.
const MODE_ONE_SHOT = 0;
const MODE_PERIODIC = 1;
const MODE_TSC_DEADLINE = 2;
const MODE_SHIFT = 17;

/** Shortest period (module parameter min_timer_period_us). */
export const MIN_PERIOD_NS = 200_000;

/** Bus cycles per count: TDCR bits 3, 1 and 0 are 0 for 2, 1 for 4, … 6 for 128, 7 for 1. */
export const divider = (tdcr: number): number => 1 << (((((tdcr & 8) >> 1) | (tdcr & 3)) + 1) & 7);

export class LapicTimer implements HostTimer {
  readonly index: number;
  deadline: number = Number.POSITIVE_INFINITY;
  /** Expired, and its interrupt has not been delivered yet. */
  pending = false;
  /** IA32_TSC_DEADLINE as it was written, 0 when it is not armed. */
  tscDeadline = 0n;

  readonly #clock: VirtualClock;
  readonly #era: Era;
  #mode: number = MODE_ONE_SHOT;
  #divider: number = divider(0);
  /** TMICT in ns, 0: stopped. In periodic mode no less than MIN_PERIOD_NS. */
  #period = 0;
  /** Time at which the count reaches 0. */
  #target = 0;

  constructor(index: number, clock: VirtualClock, era: Era) {
    this.index = index;
    this.#clock = clock;
    this.#era = era;
  }

  get periodic(): boolean {
    return this.#mode === MODE_PERIODIC;
  }

  get tscDeadlineMode(): boolean {
    return this.#mode === MODE_TSC_DEADLINE;
  }

  /** Becomes what another timer is; its clock is to follow (`VirtualClock.assign`). */
  assign(from: LapicTimer): void {
    this.deadline = from.deadline;
    this.pending = from.pending;
    this.tscDeadline = from.tscDeadline;
    this.#mode = from.#mode;
    this.#divider = from.#divider;
    this.#period = from.#period;
    this.#target = from.#target;
  }

  /** RESET and INIT. */
  reset(): void {
    this.#clock.disarm(this);
    this.pending = false;
    this.tscDeadline = 0n;
    this.#mode = MODE_ONE_SHOT;
    this.#divider = divider(0);
    this.#period = 0;
    this.#target = 0;
  }

  /**
   * LVTT was written (apic_update_lvtt). Returns true if TMICT becomes 0: entering or leaving TSC-deadline mode stops
   * the timer. From one-shot to periodic it goes on with the count it has.
   */
  setMode(lvtt: number): boolean {
    const mode = (lvtt >>> MODE_SHIFT) & 3;
    if (mode === this.#mode) return false;
    const stops = (this.#mode === MODE_TSC_DEADLINE) !== (mode === MODE_TSC_DEADLINE);
    this.#mode = mode;
    if (stops) {
      this.#clock.disarm(this);
      this.#period = 0;
      this.tscDeadline = 0n;
    }
    this.#limitPeriod();
    return stops;
  }

  /** TMICT was written, in any mode but TSC-deadline: starts counting, or stops for 0. */
  setCount(tmict: number): void {
    this.#clock.disarm(this);
    this.pending = false;
    // Mode 3 is reserved: the count is kept and nothing runs.
    if (this.#mode > MODE_PERIODIC) return;
    this.#period = this.#span(tmict);
    this.#limitPeriod();
    if (this.#period === 0) {
      this.tscDeadline = 0n;
      return;
    }
    this.#target = this.#clock.now + this.#period;
    this.#clock.arm(this, this.#target);
  }

  /**
   * TDCR was written: a running count goes on from where it is, at the new speed (update_target_expiration). KVM does not
   * look whether a one-shot timer has expired already: with a new divider it expires again, at once.
   */
  setDivider(tdcr: number, tmict: number): void {
    const before = this.#divider;
    this.#divider = divider(tdcr);
    if (this.#divider === before || this.#period === 0) return;
    const { now } = this.#clock;
    const remaining = Math.max(0, this.#target - now);
    this.#period = this.#span(tmict);
    this.#limitPeriod();
    this.#target = now + Math.floor((remaining * this.#divider) / before);
    // An expired one-shot timer whose interrupt is still on its way is not started again.
    if (this.periodic || !this.pending) this.#clock.arm(this, this.#target);
  }

  /** KVM_SET_LAPIC: takes over the registers and goes on from the count TMCCT. */
  load(lvtt: number, tmict: number, tdcr: number, tmcct: number): void {
    this.reset();
    this.#mode = (lvtt >>> MODE_SHIFT) & 3;
    this.#divider = divider(tdcr);
    if (this.#mode > MODE_PERIODIC) return;
    this.setCount(tmict);
    if (this.#period === 0) return;
    const remaining = this.#span(tmcct);
    if (remaining === 0) this.#target = this.#clock.now + (this.periodic ? this.#period : 0);
    else this.#target = this.#clock.now + Math.min(remaining, this.#period);
    this.#clock.arm(this, this.#target);
  }

  /** TMCCT: counts left, 0 when stopped or in TSC-deadline mode. */
  count(tmict: number): number {
    if (this.tscDeadlineMode || tmict === 0 || this.#period === 0) return 0;
    const remaining = Math.max(0, this.#target - this.#clock.now) % this.#period;
    return Math.floor(remaining / (APIC_BUS_NS * this.#divider));
  }

  /** RDMSR of IA32_TSC_DEADLINE. `hwEnabled`: APIC_BASE bit 11. */
  readDeadline(hwEnabled: boolean): bigint {
    return this.#takesDeadline(hwEnabled) ? this.tscDeadline : 0n;
  }

  /**
   * WRMSR of IA32_TSC_DEADLINE: arms the timer for when the guest's TSC (`tsc` now) reaches `value`, or disarms it for
   * 0. Ignored outside TSC-deadline mode. A deadline that lies behind `tsc` is pending at once. Returns whether it is.
   */
  writeDeadline(value: bigint, tsc: bigint, hwEnabled: boolean): boolean {
    if (!this.#takesDeadline(hwEnabled)) return false;
    this.#clock.disarm(this);
    this.pending = false;
    this.tscDeadline = value;
    if (value === 0n) return false;
    if (value <= tsc) {
      this.pending = true;
      return true;
    }
    this.#clock.arm(this, this.#clock.now + Number(value - tsc));
    return false;
  }

  /** The deadline has been reached: a periodic timer is armed for its next period, the others are done. */
  expire(): void {
    this.pending = true;
    if (!this.periodic || this.#period === 0) {
      this.#clock.disarm(this);
      return;
    }
    // Periods that passed meanwhile coalesce.
    const late = Math.max(0, Math.floor((this.#clock.now - this.#target) / this.#period));
    this.#target += (late + 1) * this.#period;
    this.#clock.arm(this, this.#target);
  }

  /** The interrupt of an expired timer has been delivered. */
  delivered(): void {
    this.pending = false;
    if (this.#mode === MODE_TSC_DEADLINE || this.#mode === MODE_ONE_SHOT) this.tscDeadline = 0n;
    if (this.#mode === MODE_ONE_SHOT) this.#target = 0;
  }

  #takesDeadline(hwEnabled: boolean): boolean {
    if (this.#era.deadlineNeedsApic && !hwEnabled) return false;
    return this.#era.deadlineModeOnly ? this.tscDeadlineMode : this.#mode > MODE_PERIODIC;
  }

  /** Bus cycles of `count` counts, in ns. */
  #span(count: number): number {
    return (count >>> 0) * APIC_BUS_NS * this.#divider;
  }

  #limitPeriod(): void {
    if (this.periodic && this.#period !== 0) this.#period = Math.max(this.#period, MIN_PERIOD_NS);
  }
}
