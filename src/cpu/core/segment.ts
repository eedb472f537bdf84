// Segmentation (SDM vol. 3, chapters 3 and 5): addresses of data accesses, descriptors, loading of segment registers.
//
// Everything that can fault raises through state.ts and returns false (or 0) before any register has changed. Error codes of
// selector faults are selector & 0xfffc; the EXT bit of faults during event delivery is added by event.ts.

import {
  R_ATTR, R_BASE, R_CR0, R_GDTR_BASE, R_GDTR_LIMIT, R_LIMIT, R_SEL, SEG_CS, SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_LDTR, SEG_SS,
  SEG_TR, S_CPL,
} from './layout';
import {
  ATTR_ACCESSED, ATTR_CE, ATTR_CODE, ATTR_DB, ATTR_L, ATTR_P, ATTR_RW, ATTR_S, ATTR_TYPE, ATTR_UNUSABLE, CR0_PE, GP, NP, SS,
  codeMode, computeMode, cpl, failed, flatRead, flatWrite, isCanonical, isCanonicalBase, longMode, protectedMode, raiseError, reg, reg32, setReg,
} from './state';
import { ldSys, stSys } from './mmu';

// ---- addresses ----

/** #SS(0) for the stack segment, #GP(0) for the others. */
function raiseSegment(seg: i32): void {
  raiseError(seg == SEG_SS ? SS : GP, 0);
}

/** True if `size` bytes at `offset` lie in a segment with this limit; expand-down data segments grow from the top (SDM 5.3). */
export function inLimit(attr: u32, limit: u32, offset: u64, size: i32): bool {
  const last = offset + <u64>(size - 1);
  if ((attr & (ATTR_S | ATTR_CODE | ATTR_CE)) == (ATTR_S | ATTR_CE)) {
    const top: u64 = (attr & ATTR_DB) != 0 ? 0xffffffff : 0xffff;
    return offset > <u64>limit && last <= top;
  }
  return last <= <u64>limit;
}

/**
 * Linear address of a data access of `size` bytes at `offset` in segment `seg`. `offset` is already masked to the address size.
 * Checks null and unusable segments, type and limit: #SS(0) for SS, #GP(0) otherwise. In 64-bit mode only FS and GS add a base and
 * nothing is checked; a non-canonical result is found by the access itself. Check failed().
 */
export function linear(seg: i32, offset: u64, size: i32, write: bool): u64 {
  if (codeMode == 2) return seg >= SEG_FS ? reg(R_BASE + seg) + offset : offset;
  if (((write ? flatWrite : flatRead) >> seg) & 1) return offset & 0xffffffff;
  const attr = reg32(R_ATTR + seg);
  let good = (attr & ATTR_UNUSABLE) == 0;
  if (protectedMode) {
    if (attr & ATTR_CODE) good = good && !write && (attr & ATTR_RW) != 0;
    else if (write) good = good && (attr & ATTR_RW) != 0;
  }
  if (!good || !inLimit(attr, reg32(R_LIMIT + seg), offset, size)) {
    raiseSegment(seg);
    return 0;
  }
  return (reg(R_BASE + seg) + offset) & 0xffffffff;
}

// ---- descriptors ----

/** The descriptor read last: its two doublewords, and bits 63:32 of a 16-byte descriptor's base or offset. */
export let descLow: u32 = 0;
export let descHigh: u32 = 0;
export let descUpper: u32 = 0;
let descAddress: u64 = 0;

// System descriptor types (SDM table 3-2).
export const TYPE_TSS16: u32 = 1;
export const TYPE_LDT: u32 = 2;
export const TYPE_CALL16: u32 = 4;
export const TYPE_TASK: u32 = 5;
export const TYPE_INT16: u32 = 6;
export const TYPE_TRAP16: u32 = 7;
export const TYPE_TSS32: u32 = 9;
export const TYPE_CALL32: u32 = 0xc;
export const TYPE_INT32: u32 = 0xe;
export const TYPE_TRAP32: u32 = 0xf;
/** Set in the type of a TSS that is in use. */
export const TSS_BUSY: u32 = 2;

// @ts-ignore: decorator
@inline export function isNull(selector: u32): bool {
  return (selector & 0xfffc) == 0;
}
/** Access rights in VMX format. */
// @ts-ignore: decorator
@inline export function attrOf(high: u32): u32 {
  return (high >> 8) & 0xf0ff;
}
// @ts-ignore: decorator
@inline export function dplOf(high: u32): i32 {
  return <i32>((high >> 13) & 3);
}
/** Limit in bytes, with the granularity bit applied. */
export function limitOf(low: u32, high: u32): u32 {
  const raw = (low & 0xffff) | (high & 0xf0000);
  return (high & 0x800000) != 0 ? (raw << 12) | 0xfff : raw;
}
export function baseOf(low: u32, high: u32): u64 {
  return <u64>((low >> 16) | ((high & 0xff) << 16) | (high & 0xff000000));
}

/** A fault with the selector (index and table bits) as error code. Always returns false. */
export function raiseSelector(vector: i32, selector: u32): bool {
  raiseError(vector, selector & 0xfffc);
  return false;
}

/** Finds `bytes` bytes of descriptor in the GDT or LDT. False if out of limits or without an LDT; nothing is raised. */
function locate(selector: u32, bytes: u64): bool {
  const index = <u64>(selector & 0xfff8);
  let base: u64 = 0;
  let limit: u64 = 0;
  if (selector & 4) {
    if (reg32(R_ATTR + SEG_LDTR) & ATTR_UNUSABLE) return false;
    base = reg(R_BASE + SEG_LDTR);
    limit = <u64>reg32(R_LIMIT + SEG_LDTR);
  } else {
    base = reg(R_GDTR_BASE);
    limit = reg(R_GDTR_LIMIT) & 0xffff;
  }
  if (index + bytes - 1 > limit) return false;
  descAddress = base + index;
  return true;
}

function fetch(): bool {
  const raw = ldSys(descAddress, 8);
  if (failed()) return false;
  descLow = <u32>raw;
  descHigh = <u32>(raw >> 32);
  return true;
}

/** Reads the descriptor of a non-null selector into descLow/descHigh. Out of limits: `vector`(selector). */
export function readDescriptorOr(selector: u32, vector: i32): bool {
  if (!locate(selector, 8)) return raiseSelector(vector, selector);
  return fetch();
}
/** Same with #GP(selector). */
export function readDescriptor(selector: u32): bool {
  return readDescriptorOr(selector, GP);
}

/** In IA-32e mode: the second half of the system descriptor read last; #GP(selector) if it is cut off or its type field is not 0. */
export function readUpper(selector: u32): bool {
  const low = descLow;
  const high = descHigh;
  if (!locate(selector, 16)) return raiseSelector(GP, selector);
  const raw = ldSys(descAddress + 8, 8);
  if (failed()) return false;
  if ((raw >> 32) & 0x1f00) return raiseSelector(GP, selector);
  descLow = low;
  descHigh = high;
  descUpper = <u32>raw;
  return true;
}

/** Sets the accessed bit in the descriptor of a selector that readDescriptor has accepted. Not written if already set. */
export function markAccessed(selector: u32, high: u32): bool {
  if (high & 0x100) return true;
  if (!locate(selector, 8)) return false;
  stSys(descAddress + 5, 1, <u64>(((high >> 8) & 0xff) | ATTR_ACCESSED));
  return !failed();
}

function markBusy(selector: u32, high: u32): bool {
  if (!locate(selector, 8)) return false;
  stSys(descAddress + 5, 1, <u64>(((high >> 8) & 0xff) | TSS_BUSY));
  return !failed();
}

// ---- segment registers ----

/** Writes all four parts of a segment register. The caller calls computeMode(). */
export function setSegment(seg: i32, selector: u32, base: u64, limit: u32, attr: u32): void {
  setReg(R_SEL + seg, <u64>(selector & 0xffff));
  setReg(R_BASE + seg, base);
  setReg(R_LIMIT + seg, <u64>limit);
  setReg(R_ATTR + seg, <u64>attr);
}

/** From a descriptor of a code or data segment, with the accessed bit. */
export function setFromDescriptor(seg: i32, selector: u32, low: u32, high: u32): void {
  setSegment(seg, selector, baseOf(low, high), limitOf(low, high), attrOf(high) | ATTR_ACCESSED);
}

/** A null selector: unusable, no base. `dpl` matters for SS only. */
export function setNull(seg: i32, selector: u32, dpl: i32): void {
  setSegment(seg, selector, 0, 0, ATTR_UNUSABLE | (<u32>dpl << 5));
}

/** CS, the CPL and the mode that follows. The accessed bit in memory is already set. */
export function setCs(selector: u32, low: u32, high: u32, newCpl: i32): void {
  setFromDescriptor(SEG_CS, (selector & 0xfffc) | <u32>newCpl, low, high);
  setReg(S_CPL, <u64>newCpl);
  computeMode();
}

/** Real mode: selector and base change; limit and attributes stay as they are (SDM vol. 3, 9.9.2). */
export function setRealSegment(seg: i32, selector: u32): void {
  setReg(R_SEL + seg, <u64>(selector & 0xffff));
  setReg(R_BASE + seg, <u64>((selector & 0xffff) << 4));
  if (reg32(R_ATTR + seg) & ATTR_UNUSABLE) {
    setReg(R_LIMIT + seg, 0xffff);
    setReg(R_ATTR + seg, <u64>(seg == SEG_CS ? 0x9b : 0x93));
  }
}

/** Virtual-8086 mode: 64 KiB read/write segment of DPL 3 at selector * 16. */
export function setVm86Segment(seg: i32, selector: u32): void {
  setSegment(seg, selector, <u64>((selector & 0xffff) << 4), 0xffff, 0xf3);
}

/**
 * Checks a non-null SS selector against the privilege level it must have; its descriptor is then in descLow/descHigh.
 * Wrong selector: `vector`(selector); not present: #SS(selector).
 */
export function checkStackSegment(selector: u32, level: i32, vector: i32): bool {
  if (!readDescriptorOr(selector, vector)) return false;
  const attr = attrOf(descHigh);
  if (<i32>(selector & 3) != level || dplOf(descHigh) != level) return raiseSelector(vector, selector);
  if ((attr & (ATTR_S | ATTR_CODE | ATTR_RW)) != (ATTR_S | ATTR_RW)) return raiseSelector(vector, selector);
  if ((attr & ATTR_P) == 0) return raiseSelector(SS, selector);
  return true;
}

function loadProtected(seg: i32, selector: u32): bool {
  if (isNull(selector)) {
    if (seg == SEG_SS && (codeMode != 2 || cpl == 3 || <i32>(selector & 3) != cpl)) {
      raiseError(GP, 0);
      return false;
    }
    setNull(seg, selector, seg == SEG_SS ? cpl : 0);
    return true;
  }
  if (seg == SEG_SS) {
    if (!checkStackSegment(selector, cpl, GP)) return false;
  } else {
    if (!readDescriptor(selector)) return false;
    const attr = attrOf(descHigh);
    if ((attr & ATTR_S) == 0) return raiseSelector(GP, selector);
    if ((attr & (ATTR_CODE | ATTR_RW)) == ATTR_CODE) return raiseSelector(GP, selector);
    if ((attr & (ATTR_CODE | ATTR_CE)) != (ATTR_CODE | ATTR_CE)) {
      const dpl = dplOf(descHigh);
      if (<i32>(selector & 3) > dpl || cpl > dpl) return raiseSelector(GP, selector);
    }
    if ((attr & ATTR_P) == 0) return raiseSelector(NP, selector);
  }
  if (!markAccessed(selector, descHigh)) return false;
  setFromDescriptor(seg, selector, descLow, descHigh);
  return true;
}

/**
 * Loads ES, SS, DS, FS or GS as MOV, POP and LDS … do (SDM vol. 2, MOV). The MOV-SS shadow is the instruction's business.
 * False with a fault pending.
 */
export function loadSegment(seg: i32, selector: u32): bool {
  selector &= 0xffff;
  if (protectedMode) {
    if (!loadProtected(seg, selector)) return false;
  } else if (reg(R_CR0) & CR0_PE) setVm86Segment(seg, selector);
  else setRealSegment(seg, selector);
  computeMode();
  return true;
}

/** After a return to an outer level: data segments the new CPL may not use become null (SDM vol. 2, IRET). */
export function nullInnerSegments(newCpl: i32): void {
  nullInner(SEG_ES, newCpl);
  nullInner(SEG_DS, newCpl);
  nullInner(SEG_FS, newCpl);
  nullInner(SEG_GS, newCpl);
}
function nullInner(seg: i32, newCpl: i32): void {
  const attr = reg32(R_ATTR + seg);
  if (attr & ATTR_UNUSABLE) return;
  if ((attr & (ATTR_CODE | ATTR_CE)) == (ATTR_CODE | ATTR_CE)) return;
  // The hidden base stays, and in 64-bit mode those of FS and GS stay in use.
  if (<i32>((attr >> 5) & 3) < newCpl) setSegment(seg, 0, reg(R_BASE + seg), reg32(R_LIMIT + seg), ATTR_UNUSABLE);
}

// ---- code segments as targets ----

/** #GP(selector) if IA-32e mode is active and the descriptor has both L and D. */
export function checkCodeBits(selector: u32, high: u32): bool {
  if (longMode && (attrOf(high) & (ATTR_L | ATTR_DB)) == (ATTR_L | ATTR_DB)) return raiseSelector(GP, selector);
  return true;
}

/** True if the descriptor is a code segment. */
// @ts-ignore: decorator
@inline export function isCode(high: u32): bool {
  return (attrOf(high) & (ATTR_S | ATTR_CODE)) == (ATTR_S | ATTR_CODE);
}
// @ts-ignore: decorator
@inline export function isConforming(high: u32): bool {
  return (attrOf(high) & ATTR_CE) != 0;
}
/** True if code there runs in 64-bit mode. */
// @ts-ignore: decorator
@inline export function is64(high: u32): bool {
  return longMode && (attrOf(high) & ATTR_L) != 0;
}

/** #GP(0) unless a target offset is canonical (64-bit code) or within the limit (other code). */
export function checkTarget(low: u32, high: u32, offset: u64): bool {
  if (is64(high) ? isCanonical(offset) : offset <= <u64>limitOf(low, high)) return true;
  raiseError(GP, 0);
  return false;
}

// ---- LDTR and TR ----

/** LLDT: a null selector makes the LDT unusable. #GP(selector), #NP(selector). */
export function loadLdtr(selector: u32): bool {
  selector &= 0xffff;
  if (isNull(selector)) {
    setNull(SEG_LDTR, selector, 0);
    return true;
  }
  if (selector & 4) return raiseSelector(GP, selector);
  if (!readDescriptor(selector)) return false;
  if ((attrOf(descHigh) & (ATTR_S | ATTR_TYPE)) != TYPE_LDT) return raiseSelector(GP, selector);
  if ((descHigh & 0x8000) == 0) return raiseSelector(NP, selector);
  const base = systemBase(selector);
  if (failed()) return false;
  setSegment(SEG_LDTR, selector, base, limitOf(descLow, descHigh), attrOf(descHigh));
  return true;
}

/** LTR: marks the TSS busy. #GP(0) for null, #GP(selector), #NP(selector). */
export function loadTr(selector: u32): bool {
  selector &= 0xffff;
  if (isNull(selector)) {
    raiseError(GP, 0);
    return false;
  }
  if (selector & 4) return raiseSelector(GP, selector);
  if (!readDescriptor(selector)) return false;
  const kind = attrOf(descHigh) & (ATTR_S | ATTR_TYPE);
  if (kind != TYPE_TSS32 && (longMode || kind != TYPE_TSS16)) return raiseSelector(GP, selector);
  if ((descHigh & 0x8000) == 0) return raiseSelector(NP, selector);
  const base = systemBase(selector);
  if (failed()) return false;
  if (!markBusy(selector, descHigh)) return false;
  setSegment(SEG_TR, selector, base, limitOf(descLow, descHigh), attrOf(descHigh) | TSS_BUSY);
  return true;
}

/** Base of the LDT or TSS descriptor read last: 64 bits and canonical in IA-32e mode. */
function systemBase(selector: u32): u64 {
  const base = baseOf(descLow, descHigh);
  if (!longMode) return base;
  if (!readUpper(selector)) return 0;
  const full = base | (<u64>descUpper << 32);
  if (!isCanonicalBase(full)) raiseSelector(GP, selector);
  return full;
}

// ---- VERR, VERW, LAR, LSL: an unsuitable selector is an answer, not a fault; only the read of the descriptor can fault ----

/** Reads a descriptor without faults of its own; false if there is none. */
function peekDescriptor(selector: u32): bool {
  if (isNull(selector) || !locate(selector, 8)) return false;
  return fetch();
}

/** The descriptor's DPL allows its use at the current CPL and the selector's RPL; conforming code always does. */
function privilegeAllows(selector: u32): bool {
  if (isCode(descHigh) && isConforming(descHigh)) return true;
  const dpl = dplOf(descHigh);
  return cpl <= dpl && <i32>(selector & 3) <= dpl;
}

function verify(selector: u32, write: bool): bool {
  if (!peekDescriptor(selector & 0xffff)) return false;
  const attr = attrOf(descHigh);
  if ((attr & ATTR_S) == 0 || !privilegeAllows(selector)) return false;
  if (attr & ATTR_CODE) return !write && (attr & ATTR_RW) != 0;
  return !write || (attr & ATTR_RW) != 0;
}
/** VERR: may the segment be read at this privilege? Check failed(). */
export function verr(selector: u32): bool {
  return verify(selector, false);
}
/** VERW: may the segment be written at this privilege? Check failed(). */
export function verw(selector: u32): bool {
  return verify(selector, true);
}

/** True if LAR or LSL accepts the descriptor; bit n of `systemTypes` set: system type n is accepted (SDM vol. 2, LAR and LSL). */
function queryable(selector: u32, systemTypes: u32): bool {
  if (!peekDescriptor(selector & 0xffff)) return false;
  const attr = attrOf(descHigh);
  if ((attr & ATTR_S) == 0 && ((systemTypes >> (attr & ATTR_TYPE)) & 1) == 0) return false;
  return privilegeAllows(selector);
}
/** LAR: the access rights masked by 0x00f0ff00, or -1. Check failed(). */
export function lar(selector: u32): i64 {
  return queryable(selector, longMode ? 0x1a04 : 0x1a3e) ? <i64>(descHigh & 0x00f0ff00) : -1;
}
/** LSL: the limit in bytes, or -1. Check failed(). */
export function lsl(selector: u32): i64 {
  return queryable(selector, longMode ? 0x0a04 : 0x0a0e) ? <i64>limitOf(descLow, descHigh) : -1;
}
