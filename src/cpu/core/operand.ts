// The operands of a decoded instruction: registers, immediates, and memory through the segments.

import { R_BASE, R_RIP, SEG_FS } from './layout';
import { codeMode, failed, flatRead, flatWrite, nextRip, reg, st } from './state';
import { ldSized, probeWrite, stSized } from './mmu';
import {
  REC_ASIZE_SHIFT, REC_BASE, REC_DISP, REC_E, REC_FLAGS, REC_G, REC_IMM, REC_INDEX, REC_MEM, REC_SCALE, REC_SEG, REC_SIZE, REC_V,
} from './record';
import { linear } from './segment';

/** REC_REP, REC_REPNE and the others of REC_FLAGS. */
// @ts-ignore: decorator
@inline export function flagsOf(rec: usize): u8 {
  return load<u8>(rec, REC_FLAGS);
}
// @ts-ignore: decorator
@inline export function sizeOf(rec: usize): i32 {
  return <i32>load<u8>(rec, REC_SIZE);
}
// @ts-ignore: decorator
@inline export function inMemory(rec: usize): bool {
  return (load<u8>(rec, REC_FLAGS) & REC_MEM) != 0;
}
// @ts-ignore: decorator
@inline export function immediate(rec: usize): u64 {
  return <u64>load<i64>(rec, REC_IMM);
}
// @ts-ignore: decorator
@inline export function addressSize(rec: usize): i32 {
  return (<i32>load<u8>(rec, REC_FLAGS) >> REC_ASIZE_SHIFT) & 3;
}
export function addressMask(rec: usize): u64 {
  const size = addressSize(rec);
  return size == 2 ? 0xffffffffffffffff : size == 1 ? 0xffffffff : 0xffff;
}
export function mask(size: i32): u64 {
  return size == 3 ? 0xffffffffffffffff : (((<u64>1) << (8 << size)) - 1);
}
// @ts-ignore: decorator
@inline export function signBit(size: i32): u64 {
  return (<u64>1) << ((8 << size) - 1);
}
export function signExtend(value: u64, size: i32): i64 {
  const shift: u64 = 64 - (8 << size);
  return (<i64>(value << shift)) >> shift;
}

/** Register at a byte offset of the state block, zero-extended. */
export function getAt(offset: u8, size: i32): u64 {
  const at = st + <usize>offset;
  switch (size) {
    case 0: return load<u8>(at);
    case 1: return load<u16>(at);
    case 2: return load<u32>(at);
    default: return load<u64>(at);
  }
}
/** Writes a register; 32-bit writes clear the upper half. */
export function putAt(offset: u8, size: i32, value: u64): void {
  const at = st + <usize>offset;
  switch (size) {
    case 0: store<u8>(at, <u8>value); break;
    case 1: store<u16>(at, <u16>value); break;
    case 2: store<u64>(at, value & 0xffffffff); break;
    default: store<u64>(at, value); break;
  }
}
// @ts-ignore: decorator
@inline export function getG(rec: usize, size: i32): u64 {
  return getAt(load<u8>(rec, REC_G), size);
}
// @ts-ignore: decorator
@inline export function putG(rec: usize, size: i32, value: u64): void {
  putAt(load<u8>(rec, REC_G), size, value);
}
/** The VEX.vvvv register. */
// @ts-ignore: decorator
@inline export function getV(rec: usize, size: i32): u64 {
  return getAt(load<u8>(rec, REC_V), size);
}
// @ts-ignore: decorator
@inline export function putV(rec: usize, size: i32, value: u64): void {
  putAt(load<u8>(rec, REC_V), size, value);
}
/** The accumulator and friends: slot by number. */
export function getSlot(slot: i32, size: i32): u64 {
  return getAt(<u8>(slot << 3), size);
}
export function putSlot(slot: i32, size: i32, value: u64): void {
  putAt(<u8>(slot << 3), size, value);
}

/** Effective address (offset in the segment) of the memory operand. */
export function effectiveAddress(rec: usize): u64 {
  const base = <i32>load<u8>(rec, REC_BASE);
  const a =
    (base == R_RIP ? nextRip : reg(base)) + (reg(<i32>load<u8>(rec, REC_INDEX)) << <u64>load<u8>(rec, REC_SCALE)) + <u64><i64>load<i32>(rec, REC_DISP);
  return a & addressMask(rec);
}

/** Linear address of `offset` in a segment; check failed(). */
export function address(segment: i32, offset: u64, bytes: i32, write: bool): u64 {
  if (codeMode == 2) return segment >= SEG_FS ? reg(R_BASE + segment) + offset : offset;
  if ((write ? flatWrite : flatRead) & (1 << segment)) return offset & 0xffffffff;
  return linear(segment, offset, bytes, write);
}
export function operandAddress(rec: usize, bytes: i32, write: bool): u64 {
  return address(<i32>load<u8>(rec, REC_SEG), effectiveAddress(rec), bytes, write);
}

/** Linear address of the E operand of the current instruction, set by readE and readEForWrite. */
let eLinear: u64 = 0;

/** The same for an instruction that finds its operand itself, before writeBack. */
export function setOperandAddress(at: u64): void {
  eLinear = at;
}

export function readE(rec: usize, size: i32): u64 {
  if (!inMemory(rec)) return getAt(load<u8>(rec, REC_E), size);
  eLinear = operandAddress(rec, 1 << size, false);
  if (failed()) return 0;
  return ldSized(eLinear, size);
}
/** Reads E for a read-modify-write: the page must be writable, and a fault reports a write. */
export function readEForWrite(rec: usize, size: i32): u64 {
  if (!inMemory(rec)) return getAt(load<u8>(rec, REC_E), size);
  eLinear = operandAddress(rec, 1 << size, true);
  if (failed()) return 0;
  if (!probeWrite(eLinear, 1 << size)) return 0;
  return ldSized(eLinear, size);
}
/** Writes E after readE or readEForWrite. */
export function writeBack(rec: usize, size: i32, value: u64): void {
  if (inMemory(rec)) stSized(eLinear, size, value);
  else putAt(load<u8>(rec, REC_E), size, value);
}
/** Writes E without having read it. */
export function writeE(rec: usize, size: i32, value: u64): void {
  if (!inMemory(rec)) {
    putAt(load<u8>(rec, REC_E), size, value);
    return;
  }
  const at = operandAddress(rec, 1 << size, true);
  if (!failed()) stSized(at, size, value);
}
