/**
 * The 8254 timer in the kernel (arch/x86/kvm/i8254.c; Intel 8254 data sheet): three counters at 1,193,182 Hz at ports 0x40 to
 * 0x43, and the speaker's port 0x61. Counter 0 raises line 0 as a timer of the VM's clock; counter 2 can be read back through
 * port 0x61.
 */
import type { HostTimer, VirtualClock } from './clock.ts';

/** Counts in a second. */
export const PIT_HZ = 1_193_182;
const NANOSECONDS = 1e9;

const RW_LSB = 1;
const RW_MSB = 2;
const RW_WORD = 3;

class Channel {
  /** Reload value, 65536 for 0. */
  count = 0x10000;
  mode = 0;
  bcd = false;
  /** RW_*. */
  access = RW_WORD;
  /** The next byte of a word is the high one. */
  writeHigh = false;
  readHigh = false;
  /** Low byte of a word that is being written. */
  low = 0;
  gate = true;
  /** Time at which `count` was loaded. */
  loadedAt = 0;
  latched = -1;
  /** A status byte latched by the read-back command, -1 if there is none. */
  status = -1;

  /** Becomes what another one is. */
  assign(from: Channel): void {
    this.count = from.count;
    this.mode = from.mode;
    this.bcd = from.bcd;
    this.access = from.access;
    this.writeHigh = from.writeHigh;
    this.readHigh = from.readHigh;
    this.low = from.low;
    this.gate = from.gate;
    this.loadedAt = from.loadedAt;
    this.latched = from.latched;
    this.status = from.status;
  }
}

/** As a timer: counter 0's interrupt (struct kvm_kpit_state.timer). */
export class Pit implements HostTimer {
  readonly index = -1;
  deadline: number = Number.POSITIVE_INFINITY;
  readonly #clock: VirtualClock;
  readonly #pulse: () => void;
  readonly #channels: readonly [Channel, Channel, Channel] = [new Channel(), new Channel(), new Channel()];
  #speaker = false;

  /** `pulse`: line 0 goes up and down. */
  constructor(clock: VirtualClock, pulse: () => void) {
    this.#clock = clock;
    this.#pulse = pulse;
    // Mode 3 with the longest period is what firmware leaves; until something writes a count nothing is armed.
    for (const [i, channel] of this.#channels.entries()) {
      channel.mode = 0xff;
      channel.gate = i !== 2;
    }
  }

  /** Becomes what another one is; its clock is to follow (`VirtualClock.assign`). */
  assign(from: Pit): void {
    this.deadline = from.deadline;
    this.#channels[0].assign(from.#channels[0]);
    this.#channels[1].assign(from.#channels[1]);
    this.#channels[2].assign(from.#channels[2]);
    this.#speaker = from.#speaker;
  }

  static handles(port: number): boolean {
    return (port >= 0x40 && port <= 0x43) || port === 0x61;
  }

  /** Counter 0 counts `count` (1 … 65536) again and again, as firmware programs it. */
  initialize(count: number): void {
    this.write(0x43, 0x34);
    this.write(0x40, count & 0xff);
    this.write(0x40, (count >> 8) & 0xff);
  }

  /** Counter 0 has expired: it is armed for its next period, or done. */
  expire(): void {
    const channel = this.#channels[0];
    if (channel.mode === 2 || channel.mode === 3) {
      // Periods that passed meanwhile coalesce.
      const period = this.#period(channel);
      const late = Math.max(0, Math.floor((this.#clock.now - this.deadline) / period));
      this.#clock.arm(this, this.deadline + (late + 1) * period);
    } else {
      this.#clock.disarm(this);
    }
    this.#pulse();
  }

  #period(channel: Channel): number {
    return Math.max(1, Math.floor((channel.count * NANOSECONDS) / PIT_HZ));
  }

  /** Counts since the counter was loaded. */
  #elapsed(channel: Channel): number {
    return Math.floor(((this.#clock.now - channel.loadedAt) * PIT_HZ) / NANOSECONDS);
  }

  /** pit_get_count. */
  #counter(channel: Channel): number {
    const elapsed = this.#elapsed(channel);
    switch (channel.mode) {
      case 0:
      case 1:
      case 4:
      case 5:
        return (channel.count - elapsed) & 0xffff;
      case 3:
        return (channel.count - ((2 * elapsed) % channel.count)) & 0xffff;
      default:
        return (channel.count - (elapsed % channel.count)) & 0xffff;
    }
  }

  /** pit_get_out. */
  #output(channel: Channel): boolean {
    const elapsed = this.#elapsed(channel);
    switch (channel.mode) {
      case 0:
        return elapsed >= channel.count;
      case 1:
        return elapsed < channel.count;
      case 2:
        return elapsed % channel.count === 0 && elapsed !== 0;
      case 3:
        return elapsed % channel.count < (channel.count + 1) >> 1;
      default:
        return elapsed === channel.count;
    }
  }

  #load(n: number, value: number): void {
    const channel = this.#channels[n];
    channel.count = value === 0 ? 0x10000 : value;
    channel.loadedAt = this.#clock.now;
    if (n !== 0) return;
    const runs = channel.mode <= 4;
    if (runs) this.#clock.arm(this, this.#clock.now + this.#period(channel));
    else this.#clock.disarm(this);
  }

  write(port: number, value: number): void {
    if (port === 0x61) {
      this.#speaker = (value & 2) !== 0;
      const channel = this.#channels[2];
      const gate = (value & 1) !== 0;
      // A rising gate starts modes 1, 2, 3 and 5 anew.
      if (gate && !channel.gate && [1, 2, 3, 5].includes(channel.mode)) channel.loadedAt = this.#clock.now;
      channel.gate = gate;
      return;
    }
    if (port === 0x43) {
      this.#control(value);
      return;
    }
    const n = port & 3;
    const channel = this.#channels[n];
    switch (channel.access) {
      case RW_LSB:
        this.#load(n, value);
        return;
      case RW_MSB:
        this.#load(n, value << 8);
        return;
      default:
        if (channel.writeHigh) this.#load(n, channel.low | (value << 8));
        else channel.low = value;
        channel.writeHigh = !channel.writeHigh;
    }
  }

  #control(value: number): void {
    const select = value >> 6;
    if (select === 3) {
      for (const [i, channel] of this.#channels.entries()) {
        if ((value & (2 << i)) === 0) continue;
        if ((value & 0x20) === 0) this.#latch(channel);
        if ((value & 0x10) === 0 && channel.status < 0) {
          channel.status =
            (this.#output(channel) ? 0x80 : 0) |
            (channel.access << 4) |
            ((channel.mode & 7) << 1) |
            (channel.bcd ? 1 : 0);
        }
      }
      return;
    }
    const channel = this.#channels[select];
    const access = (value >> 4) & 3;
    if (access === 0) {
      this.#latch(channel);
      return;
    }
    channel.access = access;
    channel.writeHigh = false;
    channel.readHigh = false;
    const mode = (value >> 1) & 7;
    channel.mode = mode > 5 ? mode & 3 : mode;
    channel.bcd = (value & 1) !== 0;
  }

  #latch(channel: Channel): void {
    if (channel.latched < 0) channel.latched = this.#counter(channel);
  }

  read(port: number): number {
    if (port === 0x61) {
      const channel = this.#channels[2];
      const refresh = Math.floor(this.#clock.now / 15_000) & 1;
      return (
        (this.#speaker ? 2 : 0) | (channel.gate ? 1 : 0) | (this.#output(channel) ? 0x20 : 0) | (refresh ? 0x10 : 0)
      );
    }
    if (port === 0x43) return 0;
    const channel = this.#channels[port & 3];
    if (channel.status >= 0) {
      const { status } = channel;
      channel.status = -1;
      return status;
    }
    const value = channel.latched >= 0 ? channel.latched : this.#counter(channel);
    if (channel.access === RW_LSB || channel.access === RW_MSB) {
      channel.latched = -1;
      return channel.access === RW_LSB ? value & 0xff : value >> 8;
    }
    const high = channel.readHigh;
    channel.readHigh = !high;
    if (high) channel.latched = -1;
    return high ? value >> 8 : value & 0xff;
  }
}
