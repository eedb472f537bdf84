/**
 * The real-time clock (MC146818 of the PIIX) at ports 0x70 and 0x71: time and date from the VM's clock, the alarm, and 128 bytes of
 * battery-backed memory. Its interrupt is line 8. Not modelled: the periodic interrupt, setting the time, bit 7 of port 0x70 (NMI mask).
 */
import type { HostTimer, VirtualClock } from '../../kvm/clock.ts';
import type { PortDevice } from './bus.ts';

const SECONDS = 0;
const SECONDS_ALARM = 1;
const MINUTES = 2;
const MINUTES_ALARM = 3;
const HOURS = 4;
const HOURS_ALARM = 5;
const DAY_OF_WEEK = 6;
const DAY = 7;
const MONTH = 8;
const YEAR = 9;
const REG_A = 10;
const REG_B = 11;
const REG_C = 12;
const REG_D = 13;
const CENTURY = 0x32;

const A_UPDATE_IN_PROGRESS = 0x80;
const B_BINARY = 0x04;
const B_24_HOURS = 0x02;
const B_ALARM_INTERRUPT = 0x20;
const C_ALARM = 0x20;
const C_INTERRUPT = 0x80;
/** Battery good. */
const D_VALID = 0x80;
/** An alarm byte of 11xxxxxx matches everything. */
const DONT_CARE = 0xc0;

const SECOND_NS = 1e9;
// Seconds.
const MINUTE = 60;
const HOUR = 3600;
/** The time registers are being updated in the last part of each second. */
const UPDATE_NS = 244_000;
const RTC_LINE = 8;

export interface RtcHost {
  readonly clock: VirtualClock;
  /** Unix time in seconds at virtual time 0. */
  readonly wallClock: number;
  setIrq(line: number, level: boolean): void;
  /** An alarm went off with its interrupt enabled. */
  readonly alarm: () => void;
}

const bcd = (value: number): number => ((Math.floor(value / 10) % 10) << 4) | (value % 10);

export class Rtc implements PortDevice, HostTimer {
  readonly name = 'RTC';
  readonly ports: readonly (readonly [number, number])[] = [[0x70, 0x71]];
  readonly index = -1;
  deadline: number = Number.POSITIVE_INFINITY;
  readonly #host: RtcHost;
  readonly #memory = new Uint8Array(128);
  #select = 0;

  constructor(host: RtcHost) {
    this.#host = host;
    this.#memory[REG_A] = 0x26;
    this.#memory[REG_B] = B_24_HOURS;
    this.#memory[REG_D] = D_VALID;
  }

  /** Becomes what another one is; its clock is to follow (`VirtualClock.assign`). */
  assign(from: Rtc): void {
    this.deadline = from.deadline;
    this.#memory.set(from.#memory);
    this.#select = from.#select;
  }

  #date(second: number): Date {
    return new Date((this.#host.wallClock + second) * 1000);
  }

  #encode(value: number): number {
    return (this.#memory[REG_B] & B_BINARY) === 0 ? bcd(value) : value;
  }

  #time(register: number, date: Date): number {
    switch (register) {
      case SECONDS:
        return this.#encode(date.getUTCSeconds());
      case MINUTES:
        return this.#encode(date.getUTCMinutes());
      case HOURS: {
        const hour = date.getUTCHours();
        if ((this.#memory[REG_B] & B_24_HOURS) !== 0) return this.#encode(hour);
        return this.#encode(hour % 12 === 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80 : 0);
      }
      case DAY_OF_WEEK:
        return this.#encode(date.getUTCDay() + 1);
      case DAY:
        return this.#encode(date.getUTCDate());
      case MONTH:
        return this.#encode(date.getUTCMonth() + 1);
      case YEAR:
        return this.#encode(date.getUTCFullYear() % 100);
      default:
        return this.#encode(Math.floor(date.getUTCFullYear() / 100));
    }
  }

  read(port: number): number {
    if (port === 0x70) return 0xff;
    const { now } = this.#host.clock;
    const register = this.#select;
    switch (register) {
      case SECONDS:
      case MINUTES:
      case HOURS:
      case DAY_OF_WEEK:
      case DAY:
      case MONTH:
      case YEAR:
      case CENTURY:
        return this.#time(register, this.#date(Math.floor(now / SECOND_NS)));
      case REG_A: {
        const updating = now % SECOND_NS >= SECOND_NS - UPDATE_NS;
        return (this.#memory[REG_A] & ~A_UPDATE_IN_PROGRESS) | (updating ? A_UPDATE_IN_PROGRESS : 0);
      }
      case REG_C: {
        const flags = this.#memory[REG_C];
        this.#memory[REG_C] = 0;
        this.#host.setIrq(RTC_LINE, false);
        return flags;
      }
      default:
        return this.#memory[register];
    }
  }

  write(port: number, _size: number, value: number): void {
    if (port === 0x70) {
      this.#select = value & 0x7f;
      return;
    }
    if (this.#select === REG_C || this.#select === REG_D) return;
    this.#memory[this.#select] = value;
    if ([SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM, REG_B].includes(this.#select)) this.#arm();
  }

  /** For each value of a time register whether its alarm byte matches it; undefined: it matches none. */
  #matches(alarm: number, register: number, values: number, unit: number): boolean[] | undefined {
    const wanted = this.#memory[alarm];
    const anything = (wanted & DONT_CARE) === DONT_CARE;
    const found = Array.from(
      { length: values },
      (_, value) => anything || this.#time(register, new Date(value * unit * 1000)) === wanted,
    );
    return found.includes(true) ? found : undefined;
  }

  /** Finds the next second of the alarm. Registers are compared on their own: a guest may write alarms that never match, again and again. */
  #arm(): void {
    const { clock, wallClock } = this.#host;
    clock.disarm(this);
    if ((this.#memory[REG_B] & B_ALARM_INTERRUPT) === 0) return;
    const seconds = this.#matches(SECONDS_ALARM, SECONDS, 60, 1);
    const minutes = this.#matches(MINUTES_ALARM, MINUTES, 60, MINUTE);
    const hours = this.#matches(HOURS_ALARM, HOURS, 24, HOUR);
    if (seconds === undefined || minutes === undefined || hours === undefined) return;
    let time = wallClock + Math.floor(clock.now / SECOND_NS) + 1;
    const to = (unit: number): void => {
      time = (Math.floor(time / unit) + 1) * unit;
    };
    for (;;) {
      if (!hours[Math.floor(time / HOUR) % 24]) to(HOUR);
      else if (!minutes[Math.floor(time / MINUTE) % 60]) to(MINUTE);
      else if (!seconds[time % 60]) to(1);
      else break;
    }
    clock.arm(this, (time - wallClock) * SECOND_NS);
  }

  expire(): void {
    this.#memory[REG_C] |= C_ALARM | C_INTERRUPT;
    this.#host.setIrq(RTC_LINE, true);
    this.#arm();
    this.#host.alarm();
  }
}
