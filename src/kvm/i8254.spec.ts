import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from './clock.ts';
import { PIT_HZ, Pit } from './i8254.ts';

let clock: VirtualClock;
let pit: Pit;
let pulses: number;

/** Lets time pass; the timer expires on the way. */
const pass = (ns: number): void => {
  const end = clock.now + ns;
  while (clock.next <= end) {
    clock.advance(clock.next - clock.now);
    clock.due()?.expire();
  }
  clock.advance(end - clock.now);
};
const load = (control: number, port: number, count: number): void => {
  pit.write(0x43, control);
  pit.write(port, count & 0xff);
  pit.write(port, count >> 8);
};
const ns = (counts: number): number => Math.floor((counts * 1e9) / PIT_HZ);

beforeEach(() => {
  clock = new VirtualClock();
  pulses = 0;
  pit = new Pit(clock, () => {
    pulses++;
  });
});

describe('counter 0', () => {
  it('is silent until a count is written', () => {
    pass(1e9);
    expect(pulses).toBe(0);
  });
  it('raises its line again and again in modes 2 and 3', () => {
    load(0x34, 0x40, 1000);
    pass(ns(1000) * 5);
    expect(pulses).toBe(5);
    load(0x36, 0x40, 2000);
    pass(ns(2000) * 3);
    expect(pulses).toBe(8);
  });
  it('raises its line once in mode 0', () => {
    load(0x30, 0x40, 1000);
    pass(1e8);
    expect(pulses).toBe(1);
  });
  it('a count of 0 is 65536', () => {
    load(0x34, 0x40, 0);
    pass(ns(65536) - 1);
    expect(pulses).toBe(0);
    pass(1);
    expect(pulses).toBe(1);
  });
});

describe('reading', () => {
  it('a latched count stays until it is read, low byte first', () => {
    load(0x34, 0x40, 0x1234);
    pass(ns(0x34));
    pit.write(0x43, 0x00);
    pass(ns(0x100));
    const latched = 0x1234 - 0x33;
    expect([pit.read(0x40), pit.read(0x40)]).toEqual([latched & 0xff, latched >> 8]);
  });
  it('read-back latches status and count', () => {
    load(0x34, 0x40, 0x1000);
    pit.write(0x43, 0xc2);
    expect(pit.read(0x40)).toBe(0x34);
    expect([pit.read(0x40), pit.read(0x40)]).toEqual([0x00, 0x10]);
  });
});

describe('port 0x61', () => {
  it('shows the gate, the speaker and the output of counter 2', () => {
    pit.write(0x61, 0x03);
    load(0xb0, 0x42, 100);
    expect(pit.read(0x61) & 0x2f).toBe(0x03);
    pass(ns(101));
    expect(pit.read(0x61) & 0x2f).toBe(0x23);
  });
});
