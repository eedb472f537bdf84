/** Keeps what KVM tells while vCPUs run, up to a limit, so that a storm of exits cannot eat the host's memory. */
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { ExitRecord, KvmObserver } from '../kvm/types.ts';

/** Exits and events that are kept per run. */
export const EXIT_LIMIT = 50_000;
export const EVENT_LIMIT = 250_000;

/** What has been recorded, and whether something was dropped. */
export interface RecorderState {
  readonly exits: readonly ExitRecord[];
  readonly trace: readonly KvmTraceEvent[];
  readonly times: readonly number[];
  readonly full: boolean;
}

export class Recorder implements KvmObserver {
  readonly #clock: () => number;
  exits: ExitRecord[] = [];
  trace: KvmTraceEvent[] = [];
  /**
   * When each event of `trace` happened: nanoseconds of the VM's virtual clock, plus one for every event recorded before it, so that
   * time and order agree where the clock stands still.
   */
  times: number[] = [];
  /** Something was dropped. */
  full = false;

  /** @param clock virtual time in nanoseconds, never going back */
  constructor(clock: () => number = () => 0) {
    this.#clock = clock;
  }

  event(event: KvmTraceEvent): void {
    if (this.trace.length < EVENT_LIMIT) this.times.push(this.#clock() + this.trace.push(event));
    else this.full = true;
  }

  /** An exit holds its events, too: exits end where the trace does. */
  exit(record: ExitRecord): void {
    if (this.exits.length < EXIT_LIMIT && !this.full) this.exits.push(record);
    else this.full = true;
  }

  save(): RecorderState {
    return { exits: [...this.exits], trace: [...this.trace], times: [...this.times], full: this.full };
  }

  restore(state: RecorderState): void {
    this.exits = [...state.exits];
    this.trace = [...state.trace];
    this.times = [...state.times];
    this.full = state.full;
  }

  /** Hands over what was recorded and starts anew. */
  take(): RecorderState {
    const taken = { exits: this.exits, trace: this.trace, times: this.times, full: this.full };
    this.exits = [];
    this.trace = [];
    this.times = [];
    this.full = false;
    return taken;
  }
}
