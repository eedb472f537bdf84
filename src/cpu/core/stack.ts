// The stack: single pushes and pops, frames of several values, and the stack of an inner privilege level from the TSS.

import { R_ATTR, R_BASE, R_LIMIT, R_RSP, R_SEL, SEG_SS, SEG_TR } from './layout';
import {
  ATTR_DB, ATTR_UNUSABLE, SS, TS, codeMode, cpl, failed, flatRead, flatWrite, longMode, raiseError, reg, reg32, setReg, stackMask,
} from './state';
import { ldStack, ldSys, stStack, stStackAt } from './mmu';
import { attrOf, baseOf, checkStackSegment, descHigh, descLow, inLimit, isNull, limitOf, linear, raiseSelector } from './segment';

/** RSP with a new stack pointer of the current width: bits above a 16-bit stack pointer stay. */
// @ts-ignore: decorator
@inline function merged(sp: u64): u64 {
  return stackMask == 0xffff ? (reg(R_RSP) & ~0xffff) | sp : sp;
}

/** Pushes 1 << sizeLog2 bytes at the current privilege; RSP moves only if the store succeeded. Check failed(). */
export function push(value: u64, sizeLog2: i32): void {
  const size: u64 = (<u64>1) << sizeLog2;
  if (codeMode == 2) {
    const top = reg(R_RSP) - size;
    stStack(top, sizeLog2, value);
    if (!failed()) setReg(R_RSP, top);
    return;
  }
  const sp = (reg(R_RSP) - size) & stackMask;
  const at = (flatWrite >> SEG_SS) & 1 ? sp : linear(SEG_SS, sp, 1 << sizeLog2, true);
  if (failed()) return;
  stStack(at, sizeLog2, value);
  if (!failed()) setReg(R_RSP, merged(sp));
}

/** Reads 1 << sizeLog2 bytes, zero-extended, `offset` bytes above the top of the stack. Check failed(). */
export function peek(offset: u64, sizeLog2: i32): u64 {
  if (codeMode == 2) return ldStack(reg(R_RSP) + offset, sizeLog2);
  const sp = (reg(R_RSP) + offset) & stackMask;
  const at = (flatRead >> SEG_SS) & 1 ? sp : linear(SEG_SS, sp, 1 << sizeLog2, false);
  if (failed()) return 0;
  return ldStack(at, sizeLog2);
}

/** The value on top of the stack. RSP moves with popDone(). Check failed(). */
// @ts-ignore: decorator
@inline export function pop(sizeLog2: i32): u64 {
  return peek(0, sizeLog2);
}

/** RSP := value within the width of the stack segment. */
export function setStackPointer(value: u64): void {
  setReg(R_RSP, merged(value & stackMask));
}
/** Releases `bytes` from the stack. */
export function release(bytes: u64): void {
  setStackPointer(reg(R_RSP) + bytes);
}
/** Completes pop(). */
// @ts-ignore: decorator
@inline export function popDone(sizeLog2: i32): void {
  release((<u64>1) << sizeLog2);
}

// ---- frames: several pushes that change RSP together, on the current stack or on one about to be loaded ----

let frameSp: u64 = 0;
/** Bits above the stack pointer's width, kept for the new RSP. */
let frameHigh: u64 = 0;
let frameMask: u64 = 0;
let frameBase: u64 = 0;
let frameLimit: u32 = 0;
let frameAttr: u32 = 0;
let frame64: bool = false;
let frameLevel: i32 = 0;
/** Error code of #SS if the frame does not fit. */
let frameError: u32 = 0;

/** A frame on the current stack. */
export function frameHere(): void {
  frame64 = codeMode == 2;
  frameMask = stackMask;
  frameSp = reg(R_RSP) & frameMask;
  frameHigh = frameMask == 0xffff ? reg(R_RSP) & ~0xffff : 0;
  frameBase = reg(R_BASE + SEG_SS);
  frameLimit = reg32(R_LIMIT + SEG_SS);
  frameAttr = reg32(R_ATTR + SEG_SS);
  frameLevel = cpl;
  frameError = 0;
}

/** A frame in 64-bit mode from this RSP down, stored with the rights of `level`. */
export function frameAt64(rsp: u64, level: i32): void {
  frame64 = true;
  frameMask = 0xffffffffffffffff;
  frameSp = rsp;
  frameHigh = 0;
  frameLevel = level;
  frameError = 0;
}

/** A frame on the stack found by innerStack(). */
export function frameInner(level: i32): void {
  frame64 = false;
  frameAttr = attrOf(innerHigh);
  frameMask = (frameAttr & ATTR_DB) != 0 ? 0xffffffff : 0xffff;
  frameSp = innerSp & frameMask;
  frameHigh = frameMask == 0xffff ? innerSp & 0xffff0000 : 0;
  frameBase = baseOf(innerLow, innerHigh);
  frameLimit = limitOf(innerLow, innerHigh);
  frameLevel = level;
  frameError = innerSs & 0xfffc;
}

/** Pushes onto the frame; does nothing once something has failed. */
export function framePush(value: u64, sizeLog2: i32): void {
  if (failed()) return;
  const size = 1 << sizeLog2;
  const sp = (frameSp - <u64>size) & frameMask;
  let at = sp;
  if (!frame64) {
    if ((frameAttr & ATTR_UNUSABLE) != 0 || !inLimit(frameAttr, frameLimit, sp, size)) {
      raiseError(SS, frameError);
      return;
    }
    at = (frameBase + sp) & 0xffffffff;
  }
  if (frameLevel == cpl) stStack(at, sizeLog2, value);
  else stStackAt(at, size, value, frameLevel);
  if (!failed()) frameSp = sp;
}

/** The RSP to load once nothing can fail any more. */
export function frameRsp(): u64 {
  return frameHigh | frameSp;
}

// ---- the TSS (SDM vol. 3, 7.2.1 and 7.7) ----

/** Stack pointer, selector and descriptor found by innerStack(). */
let innerSp: u64 = 0;
export let innerSs: u32 = 0;
export let innerLow: u32 = 0;
export let innerHigh: u32 = 0;

function tssField(offset: u64, size: i32): u64 {
  const at = reg(R_BASE + SEG_TR) + offset;
  return ldSys(longMode ? at : at & 0xffffffff, size);
}

/** Legacy mode: SS:ESP for `level` from the 16- or 32-bit TSS, all checks made. #TS or #SS pending if false. */
export function innerStack(level: i32): bool {
  const wide = (reg32(R_ATTR + SEG_TR) & 8) != 0;
  const offset: u64 = wide ? <u64>level * 8 + 4 : <u64>level * 4 + 2;
  const bytes: u64 = wide ? 6 : 4;
  if (offset + bytes - 1 > reg(R_LIMIT + SEG_TR)) return raiseSelector(TS, reg32(R_SEL + SEG_TR));
  innerSp = tssField(offset, wide ? 4 : 2);
  if (failed()) return false;
  innerSs = <u32>tssField(offset + (wide ? 4 : 2), 2);
  if (failed()) return false;
  if (isNull(innerSs)) {
    raiseError(TS, 0);
    return false;
  }
  if (!checkStackSegment(innerSs, level, TS)) return false;
  innerLow = descLow;
  innerHigh = descHigh;
  return true;
}

/** IA-32e mode: a stack pointer of the 64-bit TSS: RSP0 … RSP2 (`ist` 0) or IST1 … IST7. Check failed(). */
export function tssRsp(level: i32, ist: i32): u64 {
  const offset: u64 = ist != 0 ? 0x1c + <u64>ist * 8 : <u64>level * 8 + 4;
  if (offset + 7 > reg(R_LIMIT + SEG_TR)) {
    raiseSelector(TS, reg32(R_SEL + SEG_TR));
    return 0;
  }
  return tssField(offset, 8);
}
