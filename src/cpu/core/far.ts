// Far control transfers: far JMP, CALL and RET with call gates, and the fast system calls (SDM vol. 2; AMD APM vol. 3 where AMD differs).
// Targets that are tasks are in task.ts.

import {
  R_ATTR, R_BASE, R_CSTAR, R_EFER, R_FMASK, R_KERNEL_GS_BASE, R_LIMIT, R_LSTAR, R_R11, R_RCX, R_RDX, R_RSP, R_SEL, R_STAR,
  R_SYSENTER_CS, R_SYSENTER_EIP, R_SYSENTER_ESP, R_CR0, SEG_CS, SEG_GS, SEG_SS, S_CPL,
} from './layout';
import {
  ATTR_DB, ATTR_L, ATTR_P, ATTR_S, ATTR_TYPE, CR0_PE, EFER_SCE, FLAG_IF, FLAG_RF, FLAG_VM, GP, NP, UD, codeMode, computeMode, cpl,
  failed, isAmd, isCanonical, longMode, nextRip, protectedMode, raise, raiseError, reg, reg32, setNextRip, setReg,
} from './state';
import { flags, setFlags } from './flags';
import { farTask } from './task';
import {
  TYPE_CALL16, TYPE_CALL32, TYPE_TASK, TYPE_TSS16, TYPE_TSS32, attrOf, checkCodeBits, checkStackSegment, checkTarget, descHigh, descLow, descUpper, dplOf, is64, isCode,
  isConforming, isNull, markAccessed, nullInnerSegments, raiseSelector, readDescriptor, readUpper, setCs, setFromDescriptor, setNull,
  setRealSegment, setSegment, setVm86Segment,
} from './segment';
import {
  frameAt64, frameHere, frameInner, framePush, frameRsp, innerHigh, innerLow, innerSs, innerStack, peek, release, tssRsp,
} from './stack';

/** Keeps the low 1 << sizeLog2 bytes. */
function sized(value: u64, sizeLog2: i32): u64 {
  return sizeLog2 == 3 ? value : sizeLog2 == 2 ? value & 0xffffffff : value & 0xffff;
}

/** Real and virtual-8086 mode: #GP(0) if the offset is beyond the limit of CS. */
export function checkRealTarget(offset: u64): bool {
  if (offset <= reg(R_LIMIT + SEG_CS)) return true;
  raiseError(GP, 0);
  return false;
}

/** Real and virtual-8086 mode: loads CS. The caller calls computeMode(). */
export function setRealCs(selector: u32): void {
  if (reg(R_CR0) & CR0_PE) setVm86Segment(SEG_CS, selector);
  else setRealSegment(SEG_CS, selector);
}

/** Reads the descriptor a far JMP or CALL names; #GP(0) for a null selector. */
function readTarget(selector: u32): bool {
  if (isNull(selector)) {
    raiseError(GP, 0);
    return false;
  }
  return readDescriptor(selector);
}

/** Checks the code segment in descLow/descHigh as the direct target of a far JMP or CALL. */
function checkDirect(selector: u32): bool {
  if (!isCode(descHigh)) return raiseSelector(GP, selector);
  if (!checkCodeBits(selector, descHigh)) return false;
  const dpl = dplOf(descHigh);
  if (isConforming(descHigh) ? dpl > cpl : <i32>(selector & 3) > cpl || dpl != cpl) return raiseSelector(GP, selector);
  if ((attrOf(descHigh) & ATTR_P) == 0) return raiseSelector(NP, selector);
  return true;
}

// ---- call gates ----

let gateSelector: u32 = 0;
let gateOffset: u64 = 0;
/** Log2 of the gate's operand size: 1, 2 or 3. */
let gateSize: i32 = 0;
let gateCount: i32 = 0;

/** Checks the call gate in descLow/descHigh, then reads and checks the code segment it names (leaving that in descLow/descHigh). */
function openGate(selector: u32): bool {
  const attr = attrOf(descHigh);
  const kind = attr & ATTR_TYPE;
  if (kind == TYPE_CALL32) gateSize = longMode ? 3 : 2;
  else if (kind == TYPE_CALL16 && !longMode) gateSize = 1;
  else return raiseSelector(GP, selector);
  if (longMode && !readUpper(selector)) return false;
  const gateDpl = dplOf(descHigh);
  if (gateDpl < cpl || gateDpl < <i32>(selector & 3)) return raiseSelector(GP, selector);
  if ((attr & ATTR_P) == 0) return raiseSelector(NP, selector);
  gateSelector = descLow >> 16;
  gateOffset = <u64>(descLow & 0xffff);
  if (gateSize >= 2) gateOffset |= <u64>(descHigh & 0xffff0000);
  if (gateSize == 3) gateOffset |= <u64>descUpper << 32;
  gateCount = <i32>(descHigh & 0x1f);
  if (!readTarget(gateSelector)) return false;
  if (!isCode(descHigh) || dplOf(descHigh) > cpl) return raiseSelector(GP, gateSelector);
  if (longMode && (attrOf(descHigh) & (ATTR_L | ATTR_DB)) != ATTR_L) return raiseSelector(GP, gateSelector);
  if ((attrOf(descHigh) & ATTR_P) == 0) return raiseSelector(NP, gateSelector);
  return checkTarget(descLow, descHigh, gateOffset);
}

function jumpGate(selector: u32): void {
  if (!openGate(selector)) return;
  if (!isConforming(descHigh) && dplOf(descHigh) != cpl) {
    raiseSelector(GP, gateSelector);
    return;
  }
  if (!markAccessed(gateSelector, descHigh)) return;
  setCs(gateSelector, descLow, descHigh, cpl);
  setNextRip(gateOffset);
}

function callGate(selector: u32): void {
  if (!openGate(selector)) return;
  const low = descLow;
  const high = descHigh;
  const level = dplOf(high);
  if (!markAccessed(gateSelector, high)) return;
  if (!isConforming(high) && level < cpl) {
    if (longMode) {
      const rsp = tssRsp(level, 0);
      if (failed()) return;
      frameAt64(rsp, level);
      framePush(reg(R_SEL + SEG_SS), 3);
      framePush(reg(R_RSP), 3);
    } else {
      if (!innerStack(level)) return;
      if (!markAccessed(innerSs, innerHigh)) return;
      frameInner(level);
      framePush(reg(R_SEL + SEG_SS), gateSize);
      framePush(sized(reg(R_RSP), gateSize), gateSize);
      for (let i = gateCount - 1; i >= 0; i--) {
        const value = peek(<u64>i << <u64>gateSize, gateSize);
        if (failed()) return;
        framePush(value, gateSize);
      }
    }
    framePush(reg(R_SEL + SEG_CS), gateSize);
    framePush(sized(nextRip, gateSize), gateSize);
    if (failed()) return;
    if (longMode) setNull(SEG_SS, <u32>level, level);
    else setFromDescriptor(SEG_SS, innerSs, innerLow, innerHigh);
    setReg(R_RSP, frameRsp());
    setCs(gateSelector, low, high, level);
  } else {
    if (longMode) frameAt64(reg(R_RSP), cpl);
    else frameHere();
    framePush(reg(R_SEL + SEG_CS), gateSize);
    framePush(sized(nextRip, gateSize), gateSize);
    if (failed()) return;
    setReg(R_RSP, frameRsp());
    setCs(gateSelector, low, high, cpl);
  }
  setNextRip(gateOffset);
}

// ---- far JMP, CALL, RET ----

function isTaskGate(high: u32): bool {
  return (attrOf(high) & ATTR_TYPE) == TYPE_TASK;
}
/** A system descriptor of a task gate or an available TSS, outside IA-32e mode. */
function isTask(high: u32): bool {
  const kind = attrOf(high) & ATTR_TYPE;
  return !longMode && (kind == TYPE_TASK || kind == TYPE_TSS16 || kind == TYPE_TSS32);
}

/** Far JMP to selector:offset with operand size 1 << sizeLog2. */
export function farJump(selector: u32, offset: u64, sizeLog2: i32): void {
  selector &= 0xffff;
  const target = sized(offset, sizeLog2);
  if (!protectedMode) {
    if (!checkRealTarget(target)) return;
    setRealCs(selector);
    computeMode();
    setNextRip(target);
    return;
  }
  if (!readTarget(selector)) return;
  if ((attrOf(descHigh) & ATTR_S) == 0) {
    if (isTask(descHigh)) farTask(selector, isTaskGate(descHigh), false, nextRip);
    else jumpGate(selector);
    return;
  }
  if (!checkDirect(selector) || !checkTarget(descLow, descHigh, target)) return;
  if (!markAccessed(selector, descHigh)) return;
  setCs(selector, descLow, descHigh, cpl);
  setNextRip(target);
}

/** Far CALL to selector:offset with operand size 1 << sizeLog2; nextRip is the return address. */
export function farCall(selector: u32, offset: u64, sizeLog2: i32): void {
  selector &= 0xffff;
  const target = sized(offset, sizeLog2);
  let low: u32 = 0;
  let high: u32 = 0;
  if (protectedMode) {
    if (!readTarget(selector)) return;
    if ((attrOf(descHigh) & ATTR_S) == 0) {
      if (isTask(descHigh)) farTask(selector, isTaskGate(descHigh), true, nextRip);
      else callGate(selector);
      return;
    }
    if (!checkDirect(selector) || !checkTarget(descLow, descHigh, target)) return;
    low = descLow;
    high = descHigh;
    if (!markAccessed(selector, high)) return;
  } else if (!checkRealTarget(target)) return;
  frameHere();
  framePush(reg(R_SEL + SEG_CS), sizeLog2);
  framePush(sized(nextRip, sizeLog2), sizeLog2);
  if (failed()) return;
  setReg(R_RSP, frameRsp());
  if (protectedMode) setCs(selector, low, high, cpl);
  else {
    setRealCs(selector);
    computeMode();
  }
  setNextRip(target);
}

/**
 * The protected-mode part of far RET and IRET: checks CS:RIP, takes SS:RSP from `at` bytes above the top of the stack if the
 * privilege changes or `withStack` is set, releases `bytes` more from both stacks, and commits. False with a fault pending.
 */
export function returnTo(selector: u32, offset: u64, sizeLog2: i32, at: u64, bytes: u64, withStack: bool): bool {
  if (isNull(selector)) {
    raiseError(GP, 0);
    return false;
  }
  if (!readDescriptor(selector)) return false;
  const low = descLow;
  const high = descHigh;
  const level = <i32>(selector & 3);
  const dpl = dplOf(high);
  if (!isCode(high) || !checkCodeBits(selector, high)) return raiseSelector(GP, selector);
  if (level < cpl || (isConforming(high) ? dpl > level : dpl != level)) return raiseSelector(GP, selector);
  if ((attrOf(high) & ATTR_P) == 0) return raiseSelector(NP, selector);
  const outer = level > cpl;
  if (!outer && !withStack) {
    if (!checkTarget(low, high, offset) || !markAccessed(selector, high)) return false;
    release(at + bytes);
    setCs(selector, low, high, level);
    setNextRip(offset);
    return true;
  }
  const sp = peek(at, sizeLog2);
  if (failed()) return false;
  const ss = <u32>peek(at + ((<u64>1) << sizeLog2), sizeLog2) & 0xffff;
  if (failed()) return false;
  const nullStack = isNull(ss);
  if (nullStack) {
    if (!is64(high) || level == 3 || <i32>(ss & 3) != level) {
      raiseError(GP, 0);
      return false;
    }
  } else if (!checkStackSegment(ss, level, GP)) return false;
  const ssLow = descLow;
  const ssHigh = descHigh;
  if (!checkTarget(low, high, offset)) return false;
  if (!nullStack && !markAccessed(ss, ssHigh)) return false;
  if (!markAccessed(selector, high)) return false;

  const top = sp + bytes;
  if (nullStack) setNull(SEG_SS, ss, level);
  else setFromDescriptor(SEG_SS, ss, ssLow, ssHigh);
  if (is64(high)) setReg(R_RSP, top);
  else if (attrOf(ssHigh) & ATTR_DB) setReg(R_RSP, top & 0xffffffff);
  else setReg(R_RSP, (reg(R_RSP) & 0xffff0000) | (top & 0xffff));
  if (outer) nullInnerSegments(level);
  setCs(selector, low, high, level);
  setNextRip(offset);
  return true;
}

/** Far RET with operand size 1 << sizeLog2 that also releases `bytes` of parameters. */
export function farReturn(sizeLog2: i32, bytes: u64): void {
  const size = (<u64>1) << sizeLog2;
  const offset = peek(0, sizeLog2);
  if (failed()) return;
  const selector = <u32>peek(size, sizeLog2) & 0xffff;
  if (failed()) return;
  if (protectedMode) {
    // Between the return address and the outer SS:RSP lie the parameters; they are released from both stacks.
    returnToOuterOf(selector, offset, sizeLog2, size * 2, bytes);
    return;
  }
  if (!checkRealTarget(offset)) return;
  release(size * 2 + bytes);
  setRealCs(selector);
  computeMode();
  setNextRip(offset);
}

function returnToOuterOf(selector: u32, offset: u64, sizeLog2: i32, at: u64, bytes: u64): void {
  if (<i32>(selector & 3) > cpl) returnTo(selector, offset, sizeLog2, at + bytes, bytes, false);
  else returnTo(selector, offset, sizeLog2, at, bytes, false);
}

// ---- SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS ----

// Access rights that these instructions load without reading a descriptor; DPL is added.
const CODE64: u32 = 0xa09b;
const CODE32: u32 = 0xc09b;
const STACK32: u32 = 0xc093;

/** Flat CS and SS from fixed values (SDM vol. 2, SYSCALL). */
function setFlat(csSelector: u32, csAttr: u32, ssSelector: u32, level: i32): void {
  const dpl = <u32>level << 5;
  setSegment(SEG_CS, csSelector, 0, 0xffffffff, csAttr | dpl);
  setSegment(SEG_SS, ssSelector, 0, 0xffffffff, STACK32 | dpl);
  setReg(S_CPL, <u64>level);
  computeMode();
}

/** SYSCALL. #UD without EFER.SCE, outside protected mode, and on Intel outside 64-bit mode. SS is STAR[47:32] + 8 with its RPL bits, CS without. */
export function syscall(): void {
  if ((reg(R_EFER) & EFER_SCE) == 0 || !protectedMode || (codeMode != 2 && !isAmd())) {
    raise(UD);
    return;
  }
  const star = reg(R_STAR);
  const cs = <u32>(star >> 32) & 0xfffc;
  const ss = <u32>(star >> 32) + 8;
  const old = flags();
  setReg(R_RCX, nextRip);
  if (longMode) {
    const target = codeMode == 2 ? reg(R_LSTAR) : reg(R_CSTAR);
    setReg(R_R11, isAmd() ? old & ~FLAG_RF : old);
    setFlags(old & ~(reg(R_FMASK) | FLAG_RF | FLAG_VM));
    setFlat(cs, CODE64, ss, 0);
    setNextRip(target);
  } else {
    // AMD legacy mode: EIP from STAR[31:0], RFLAGS not saved.
    setFlags(old & ~(FLAG_VM | FLAG_IF | FLAG_RF));
    setFlat(cs, CODE32, ss, 0);
    setNextRip(star & 0xffffffff);
  }
}

/** SYSRET; `wide` (REX.W) returns to 64-bit mode. A non-canonical RCX faults here at CPL 0 on Intel, at the target in CPL 3 on AMD. */
export function sysret(wide: bool): void {
  if ((reg(R_EFER) & EFER_SCE) == 0 || !protectedMode || (codeMode != 2 && !isAmd())) {
    raise(UD);
    return;
  }
  const target = wide ? reg(R_RCX) : reg(R_RCX) & 0xffffffff;
  if (cpl != 0 || (wide && !isAmd() && !isCanonical(target))) {
    raiseError(GP, 0);
    return;
  }
  const selector = <u32>(reg(R_STAR) >> 48) & 0xffff;
  if (longMode) setFlags(reg(R_R11) & 0x3c7fd7);
  else setFlags(flags() | FLAG_IF);
  const csSelector = (wide ? selector + 16 : selector) | 3;
  const csAttr = wide ? CODE64 : CODE32;
  const ssSelector = (selector + 8) | 3;
  if (isAmd()) {
    // AMD loads the SS selector but leaves the hidden part alone (APM vol. 3, SYSRET); only the privilege follows the CPL.
    const limit = reg32(R_LIMIT + SEG_SS);
    const attr = reg32(R_ATTR + SEG_SS) | 0x60;
    const base = reg(R_BASE + SEG_SS);
    setFlat(csSelector, csAttr, ssSelector, 3);
    setSegment(SEG_SS, ssSelector, base, limit, attr);
    computeMode();
  } else setFlat(csSelector, csAttr, ssSelector, 3);
  setNextRip(target);
}

/** SYSENTER. #GP(0) in real mode or with a null SYSENTER_CS; on AMD #UD in long mode. */
export function sysenter(): void {
  if (isAmd() && longMode) {
    raise(UD);
    return;
  }
  const selector = <u32>reg(R_SYSENTER_CS) & 0xfffc;
  if ((reg(R_CR0) & CR0_PE) == 0 || selector == 0) {
    raiseError(GP, 0);
    return;
  }
  const esp = reg(R_SYSENTER_ESP);
  const eip = reg(R_SYSENTER_EIP);
  setFlags(flags() & ~(FLAG_VM | FLAG_IF | FLAG_RF));
  setFlat(selector, longMode ? CODE64 : CODE32, selector + 8, 0);
  setReg(R_RSP, longMode ? esp : esp & 0xffffffff);
  setNextRip(longMode ? eip : eip & 0xffffffff);
}

/**
 * SYSEXIT; `wide` (REX.W) returns to 64-bit mode. #GP(0) unless at CPL 0 of protected mode with a SYSENTER_CS; on AMD #UD in long mode, but
 * the privilege is checked first: an EPYC raises #GP(0) at CPL 3 of 64-bit and compatibility mode, and #UD there for SYSENTER.
 */
export function sysexit(wide: bool): void {
  if (isAmd() && longMode && cpl == 0) {
    raise(UD);
    return;
  }
  const base = <u32>reg(R_SYSENTER_CS) & 0xffff;
  const rip = wide ? reg(R_RDX) : reg(R_RDX) & 0xffffffff;
  const rsp = wide ? reg(R_RCX) : reg(R_RCX) & 0xffffffff;
  if (!protectedMode || cpl != 0 || isNull(base) || !isCanonical(rip) || !isCanonical(rsp)) {
    raiseError(GP, 0);
    return;
  }
  const selector = ((base & 0xfffc) + (wide ? 32 : 16)) | 3;
  setFlat(selector, wide ? CODE64 : CODE32, (selector + 8) | 3, 3);
  setReg(R_RSP, rsp);
  setNextRip(rip);
}

/** SWAPGS. #UD outside 64-bit mode, #GP(0) above CPL 0. */
export function swapgs(): void {
  if (codeMode != 2) {
    raise(UD);
    return;
  }
  if (cpl != 0) {
    raiseError(GP, 0);
    return;
  }
  const base = reg(R_BASE + SEG_GS);
  setReg(R_BASE + SEG_GS, reg(R_KERNEL_GS_BASE));
  setReg(R_KERNEL_GS_BASE, base);
}
