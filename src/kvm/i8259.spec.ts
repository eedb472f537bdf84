import { beforeEach, describe, expect, it } from 'vitest';
import { PicPair } from './i8259.ts';

let pics: PicPair;

beforeEach(() => {
  pics = new PicPair();
  pics.initialize([0x20, 0x28], [0, 0]);
});

const pulse = (line: number): void => {
  pics.setIrq(line, true);
  pics.setIrq(line, false);
};

describe('a request', () => {
  it('raises the output and is acknowledged with base + pin', () => {
    pulse(5);
    expect(pics.output).toBe(true);
    expect(pics.acknowledge()).toBe(0x25);
    expect(pics.output).toBe(false);
  });
  it('of the second controller comes through pin 2', () => {
    pulse(11);
    expect(pics.acknowledge()).toBe(0x2b);
    pics.write(0x20, 0x0b);
    pics.write(0xa0, 0x0b);
    expect([pics.read(0x20), pics.read(0xa0)]).toEqual([0x04, 0x08]);
  });
  it('waits behind a mask', () => {
    pics.write(0x21, 0x20);
    pulse(5);
    expect(pics.output).toBe(false);
    pics.write(0x21, 0);
    expect(pics.acknowledge()).toBe(0x25);
  });
  it('of lower priority waits for the end of interrupt', () => {
    pulse(3);
    pics.acknowledge();
    pulse(6);
    expect(pics.output).toBe(false);
    pulse(1);
    expect(pics.acknowledge()).toBe(0x21);
    pics.write(0x20, 0x20);
    expect(pics.output).toBe(false);
    pics.write(0x20, 0x20);
    expect(pics.acknowledge()).toBe(0x26);
  });
  it('that is masked before it is acknowledged leaves the spurious vector, pin 7', () => {
    pulse(5);
    pics.write(0x21, 0xff);
    expect(pics.acknowledge()).toBe(0x27);
  });
});

describe('triggers', () => {
  it('an edge is taken once, however long the line stays up', () => {
    pics.setIrq(4, true);
    pics.acknowledge();
    pics.write(0x20, 0x20);
    expect(pics.output).toBe(false);
    expect(pics.setIrq(4, true)).toBe(true);
    expect(pics.output).toBe(false);
  });
  it('a level-triggered line requests again after the end of interrupt until it goes down', () => {
    pics.write(0x4d0, 0xff);
    expect(pics.read(0x4d0)).toBe(0xf8);
    pics.setIrq(5, true);
    pics.acknowledge();
    pics.write(0x20, 0x20);
    expect(pics.output).toBe(true);
    pics.setIrq(5, false);
    expect(pics.output).toBe(false);
  });
  it('the ELCR of the second controller keeps lines 8 and 13 edge-triggered', () => {
    pics.write(0x4d1, 0xff);
    expect(pics.read(0x4d1)).toBe(0xde);
  });
});

describe('commands', () => {
  it('OCW3 chooses what the command port reads', () => {
    pulse(3);
    pulse(4);
    expect(pics.read(0x20)).toBe(0x18);
    pics.acknowledge();
    pics.write(0x20, 0x0b);
    expect(pics.read(0x20)).toBe(0x08);
    pics.write(0x20, 0x0a);
    expect(pics.read(0x20)).toBe(0x10);
  });
  it('a rotating end of interrupt makes the line the lowest', () => {
    pulse(3);
    pics.acknowledge();
    pics.write(0x20, 0xa0);
    pulse(3);
    pulse(4);
    expect(pics.acknowledge()).toBe(0x24);
  });
  it('a specific end of interrupt ends the line it names', () => {
    pulse(1);
    pics.acknowledge();
    pulse(0);
    pics.acknowledge();
    pics.write(0x20, 0x61);
    pics.write(0x20, 0x0b);
    expect(pics.read(0x20)).toBe(0x01);
  });
  it('automatic end of interrupt', () => {
    pics.write(0x20, 0x11);
    for (const word of [0x20, 0x04, 0x03]) pics.write(0x21, word);
    pulse(2);
    pics.write(0x20, 0x0b);
    pics.acknowledge();
    expect(pics.read(0x20)).toBe(0);
  });
  it('a poll acknowledges what is pending', () => {
    pulse(6);
    pics.write(0x20, 0x0c);
    expect(pics.read(0x20)).toBe(0x86);
    expect(pics.output).toBe(false);
  });
  it('ICW1 masks nothing and forgets edges', () => {
    pics.write(0x21, 0xff);
    pulse(6);
    pics.write(0x20, 0x11);
    for (const word of [0x30, 0x04, 0x01]) pics.write(0x21, word);
    expect([pics.read(0x21), pics.output]).toEqual([0, false]);
    pulse(6);
    expect(pics.acknowledge()).toBe(0x36);
  });
});
