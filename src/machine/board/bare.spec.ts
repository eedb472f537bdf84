import { expect, it } from 'vitest';
import { BareBoard } from './bare.ts';
import { allOnes } from './bus.ts';

let printed = '';
const makeBoard = (): BareBoard => {
  printed = '';
  return new BareBoard((byte) => {
    printed += String.fromCharCode(byte);
  });
};

it('prints what goes to the debug console and to COM1', () => {
  const board = makeBoard();
  board.write(0, 0xe9, 1, 0x48);
  board.write(1, 0xe9, 4, 0x216c6c65);
  board.write(0, 0x3f8, 1, 0x0a);
  expect(printed).toBe('Hell!\n');
  expect(board.read(0x3fd, 1)).toBe(0x60);
  expect(board.notes).toEqual([]);
});

it('does not print the divisor latch of COM1', () => {
  const board = makeBoard();
  board.write(0, 0x3fb, 1, 0x80);
  board.write(0, 0x3f8, 1, 0x01);
  board.write(0, 0x3fb, 1, 0x03);
  board.write(0, 0x3f8, 1, 0x41);
  expect(printed).toBe('A');
  expect(board.read(0x3fb, 1)).toBe(0x03);
});

it('collects reports with their vCPU', () => {
  const board = makeBoard();
  board.write(2, 0xe8, 4, 0xffffffea);
  board.write(0, 0xe8, 1, 7);
  expect(board.reports).toEqual([
    { vcpu: 2, value: 0xffffffea },
    { vcpu: 0, value: 7 },
  ]);
});

it('takes the exit status as written', () => {
  const board = makeBoard();
  expect(board.exitStatus).toBe(-1);
  board.write(0, 0xf4, 4, 0x12345678);
  expect(board.exitStatus).toBe(0x12345678);
});

it('answers for absent devices with all-ones and one note per port and direction', () => {
  const board = makeBoard();
  expect([1, 2, 4].map((size) => board.read(0x60, size))).toEqual([0xff, 0xffff, 0xffffffff]);
  board.write(0, 0x60, 1, 1);
  board.write(0, 0x60, 1, 2);
  expect(board.notes).toEqual([
    'port 0x60: nobody there, reads give all-ones',
    'port 0x60: nobody there, writes are dropped',
  ]);
  expect(allOnes(8)).toBe(0xffffffff);
});
