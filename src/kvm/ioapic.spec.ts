import { beforeEach, describe, expect, it } from 'vitest';
import { IOAPIC_PINS, IoApic } from './ioapic.ts';

const LEVEL = 1 << 15;
const MASKED = 1 << 16;
const REMOTE_IRR = 1 << 14;
const ASSERT = 1 << 14;

let sent: { icrLow: number; dest: number }[];
/** How many local APICs take the next messages. */
let takers: number;
let ioapic: IoApic;

const read = (register: number): number => {
  ioapic.write(0x00, 4, register);
  return ioapic.read(0x10, 4);
};
const write = (register: number, value: number): void => {
  ioapic.write(0x00, 4, register);
  ioapic.write(0x10, 4, value);
};
/** Programs a pin. */
const redirect = (pin: number, low: number, dest = 0): void => {
  write(0x11 + 2 * pin, (dest << 24) >>> 0);
  write(0x10 + 2 * pin, low);
};

beforeEach(() => {
  sent = [];
  takers = 1;
  ioapic = new IoApic({
    send: (icrLow, dest) => {
      sent.push({ icrLow, dest });
      return takers;
    },
  });
});

describe('registers', () => {
  it('version 0x11 with 24 pins, read-only', () => {
    expect(read(1)).toBe(0x00170011);
    write(1, 0xffffffff);
    expect(read(1)).toBe(0x00170011);
  });
  it('the id has four writable bits, and the arbitration register shows it', () => {
    write(0, 0xffffffff);
    expect([read(0), read(2)]).toEqual([0x0f000000, 0x0f000000]);
    write(2, 0);
    expect(read(2)).toBe(0x0f000000);
  });
  it('every pin is masked after reset', () => {
    for (let pin = 0; pin < IOAPIC_PINS; pin++)
      expect([read(0x10 + 2 * pin), read(0x11 + 2 * pin)]).toEqual([MASKED, 0]);
  });
  it('delivery status and remote IRR of an entry cannot be written', () => {
    redirect(3, 0xffffffff, 0xa5);
    expect([read(0x16), read(0x17)]).toEqual([0x1afff, 0xa5000000]);
  });
  it('registers beyond the last pin read 0', () => {
    write(0x10 + 2 * IOAPIC_PINS, 0x31);
    expect(read(0x10 + 2 * IOAPIC_PINS)).toBe(0);
  });
  it('narrow accesses take the low bits', () => {
    ioapic.write(0x00, 1, 0x101);
    expect(ioapic.read(0x00, 4)).toBe(1);
    expect(ioapic.read(0x10, 1)).toBe(0x11);
    expect(ioapic.read(0x10, 2)).toBe(0x0011);
  });
});

describe('an edge-triggered pin', () => {
  it('sends vector, delivery mode and destination mode of its entry at the rising edge, in ICR format', () => {
    redirect(4, 0x931, 7);
    expect(ioapic.setIrq(4, true)).toBe(1);
    expect(sent).toEqual([{ icrLow: 0x931 | ASSERT, dest: 7 }]);
  });
  it('sends once for an edge, and again after the line was down', () => {
    redirect(4, 0x31);
    ioapic.setIrq(4, true);
    expect(ioapic.setIrq(4, true)).toBe(0);
    ioapic.setIrq(4, false);
    ioapic.setIrq(4, true);
    expect(sent.length).toBe(2);
  });
  it('sends nothing while it is masked, and nothing late', () => {
    redirect(4, 0x31 | MASKED);
    expect(ioapic.setIrq(4, true)).toBe(-1);
    redirect(4, 0x31);
    expect(sent).toEqual([]);
  });
});

describe('a level-triggered pin', () => {
  it('sets remote IRR when somebody takes the interrupt, and waits for the EOI', () => {
    redirect(5, 0x42 | LEVEL);
    ioapic.setIrq(5, true);
    expect(read(0x1a)).toBe(0x42 | LEVEL | REMOTE_IRR);
    ioapic.setIrq(5, true);
    expect(sent).toEqual([{ icrLow: 0x42 | LEVEL | ASSERT, dest: 0 }]);
    ioapic.setIrq(5, false);
    ioapic.eoi(0x42, true);
    expect(read(0x1a)).toBe(0x42 | LEVEL);
    expect(sent.length).toBe(1);
  });
  it('sends again at the EOI while its line is up', () => {
    redirect(5, 0x42 | LEVEL);
    ioapic.setIrq(5, true);
    ioapic.eoi(0x42, true);
    expect(sent.length).toBe(2);
    expect(read(0x1a)).toBe(0x42 | LEVEL | REMOTE_IRR);
  });
  it('does not wait if nobody took the interrupt', () => {
    takers = 0;
    redirect(5, 0x42 | LEVEL);
    ioapic.setIrq(5, true);
    expect(read(0x1a)).toBe(0x42 | LEVEL);
  });
  it('sends when it is unmasked with its line up', () => {
    redirect(5, 0x42 | LEVEL | MASKED);
    ioapic.setIrq(5, true);
    redirect(5, 0x42 | LEVEL);
    expect(sent.length).toBe(1);
  });
  it('becoming edge-triggered clears remote IRR', () => {
    redirect(5, 0x42 | LEVEL);
    ioapic.setIrq(5, true);
    redirect(5, 0x42 | MASKED);
    expect(read(0x1a)).toBe(0x42 | MASKED);
  });
  it('an EOI of an edge-triggered interrupt of the same vector does not concern it', () => {
    redirect(5, 0x42 | LEVEL);
    ioapic.setIrq(5, true);
    ioapic.eoi(0x42, false);
    expect(read(0x1a)).toBe(0x42 | LEVEL | REMOTE_IRR);
  });
});

it('knows the vectors that its entries name', () => {
  redirect(9, 0x77);
  expect([ioapic.handles(0x77), ioapic.handles(0x78)]).toEqual([true, false]);
});
