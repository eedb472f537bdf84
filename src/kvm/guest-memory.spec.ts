import { describe, expect, it } from 'vitest';
import {
  ramAddress,
  readGuest32,
  readGuest64,
  writeGuest,
  writeGuest8,
  writeGuest32,
  writeGuest64,
} from './guest-memory.ts';
import { FakeCpu } from './spec-helper.ts';

const SIZE = 0x10000;

describe('ramAddress', () => {
  it.each<[gpa: bigint, length: number, address: number]>([
    [0n, 1, 0],
    [0xffffn, 1, SIZE - 1],
    [0xffffn, 2, -1],
    [0x10000n, 1, -1],
    [(1n << 64n) - 1n, 4, -1],
  ])('%x, %i bytes: %i', (gpa, length, address) => {
    expect(ramAddress(new FakeCpu(1), gpa, length)).toBe(address);
  });
});

it('values are little-endian, and the engine hears of every write', () => {
  const cpu = new FakeCpu(1);
  writeGuest64(cpu, 8, 0x8877_6655_4433_2211n);
  expect([...cpu.memory.subarray(8, 16)]).toEqual([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
  expect([readGuest32(cpu, 12), readGuest64(cpu, 8)]).toEqual([0x88776655, 0x8877665544332211n]);
  writeGuest32(cpu, 8, 0xffffffff);
  writeGuest8(cpu, 15, 0);
  expect(readGuest64(cpu, 8)).toBe(0x0077_6655_ffff_ffffn);
  expect(cpu.written).toEqual([8, 12, 8, 15]);
});

it.each<[gpa: bigint, complete: boolean, written: number]>([
  [0xfffcn, true, 4],
  [0xfffen, false, 2],
  [0x10000n, false, 0],
  [1n << 63n, false, 0],
])('writeGuest at %x: complete %s, %i bytes', (gpa, complete, written) => {
  const cpu = new FakeCpu(1);
  expect(writeGuest(cpu, gpa, new Uint8Array(4).fill(7))).toBe(complete);
  expect(cpu.memory.filter((byte) => byte === 7)).toHaveLength(written);
});
