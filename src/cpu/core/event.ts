// Delivery of interrupts and exceptions, and the return from them (SDM vol. 3, chapter 6; vol. 2, INT n and IRET).
//
// An exit in the middle of a delivery (a fault of the exception bitmap, or an internal error because the frame or a table lies outside
// RAM) reports the event that was being delivered in S_VECTORING.
//
// A fault during a delivery leaves the registers as they were before it and is pending like any other; deliverException() knows what
// was being delivered and makes a double or triple fault of it (SDM table 6-5).

import {
  BLOCKED_BY_NMI, EVENT_TYPE_EXCEPTION, EVENT_TYPE_NMI, EVENT_TYPE_PRIV_SOFT_EXCEPTION, EVENT_TYPE_SOFT_EXCEPTION,
  EVENT_TYPE_SOFT_INT, EXIT_EXCEPTION, EXIT_MMIO, EXIT_SHUTDOWN, EXIT_SOFT_INT, INTERCEPT_SOFT_INT, INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, R_BASE, R_CR0, R_CR2, R_CR4, R_LIMIT, R_DR6, R_DR7,
  R_IDTR_BASE, R_IDTR_LIMIT, R_RFLAGS, R_RIP, R_RSP, R_SEL, SEG_CS, SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_SS, SEG_TR, SHADOW_MOV_SS, SHADOW_STI, S_CPL, S_EXCEPTION_BITMAP,
  S_EXIT_CODE, S_EXIT_Q0, S_INTERCEPT, S_INTERRUPTIBILITY, S_PENDING_DEBUG, S_VECTORING, S_VECTORING_ERROR, EVENT_HAS_ERROR, EVENT_VALID,
  S_INJECT, S_INJECT_ERROR, S_INJECT_LEN,
} from './layout';
import {
  ATTR_DB, ATTR_L, ATTR_P, ATTR_S, ATTR_TYPE, CR4_VME, BRK_FAULT, BRK_LOOKUP, CR0_PE, DB, DE, DF, FLAG_AC, FLAG_IF, FLAG_IOPL,
  FLAG_NT, FLAG_RF, FLAG_TF, FLAG_VIF, FLAG_VIP, FLAG_VM, GP, NONCANONICAL, NP, PF, TS, brk, clearBrk, computeMode, cpl,
  curRip, isAmd, exAddress, exError, exHasError, exVector, failed, leave, leaveInternal, longMode, nextRip, protectedMode,
  raiseError, reg, setBrk, setNextRip, setReg, codeMode, updateChecks,
} from './state';
import { flags, setFlags } from './flags';
import { ldSys } from './mmu';
import {
  TYPE_INT16, TYPE_INT32, TYPE_TASK, TYPE_TRAP16, TYPE_TRAP32, attrOf, checkTarget, descHigh, descLow, dplOf, isCode, isConforming, isNull,
  markAccessed, raiseSelector, readDescriptor, setCs, setFromDescriptor, setNull, setVm86Segment,
} from './segment';
import {
  frameAt64, frameHere, frameInner, framePush, frameRsp, innerHigh, innerLow, innerSs, innerStack, peek, release, tssRsp,
} from './stack';
import { setVirtualFlags, virtualFlags, virtualFlagsAllowed } from './system';
import { BY_EVENT, findTask, returnToTask, switchTask } from './task';
import { checkRealTarget, returnTo, setRealCs } from './far';
import { DR6_BD, DR7_GD } from './debug';
import { setStepsLeft, stepsLeft } from './exec';

/** RFLAGS bits that software can write at all. */
const FLAGS_WRITABLE: u64 = 0x257fd5;

// ---- what is being delivered ----

const NOTHING: i32 = -1;
/** An interrupt or a software interrupt: a fault during its delivery is handled like any first fault. */
const BENIGN: i32 = -2;
/** Vector of the exception whose delivery has failed, BENIGN or NOTHING. */
let inFlight: i32 = NOTHING;
/** The event in flight as S_VECTORING and S_VECTORING_ERROR report it. */
let flightInfo: u32 = 0;
let flightError: u32 = 0;
function reportFlight(): void {
  setReg(S_VECTORING, <u64>flightInfo);
  setReg(S_VECTORING_ERROR, <u64>flightError);
}

/**
 * Delivers one event through the IVT or IDT; `type` is one of EVENT_TYPE_*, `returnRip` the RIP to push. On success RIP and nextRip
 * are the handler's first instruction and the interrupt shadows are gone. On a fault nothing has changed but memory below the new
 * stack pointer; the fault is pending for deliverException().
 */
export function deliver(vector: i32, type: i32, hasError: bool, error: u32, returnRip: u64, rf: u64 = 0): void {
  attempt(vector, type, hasError, error, returnRip, flags() | rf);
}

function attempt(vector: i32, type: i32, hasError: bool, error: u32, returnRip: u64, image: u64): void {
  const software = type == EVENT_TYPE_SOFT_INT || type == EVENT_TYPE_SOFT_EXCEPTION;
  inFlight = type == EVENT_TYPE_EXCEPTION ? vector : BENIGN;
  flightInfo = <u32>EVENT_VALID | (hasError ? EVENT_HAS_ERROR : 0) | (<u32>type << 8) | <u32>vector;
  flightError = hasError ? error : 0;
  if ((reg(R_CR0) & CR0_PE) == 0) deliverReal(vector, returnRip, image);
  else if (longMode) deliverLong(vector, software, hasError, error, returnRip, image);
  else deliverProtected(vector, software, hasError, error, returnRip, image);
  if (failed()) {
    if ((brk & BRK_FAULT) == 0) {
      inFlight = NOTHING;
      reportFlight();
      // No device is asked in the middle of a delivery.
      if (reg(S_EXIT_CODE) == EXIT_MMIO) leaveInternal(INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, reg(S_EXIT_Q0));
    } else if (exVector == NONCANONICAL) raiseError(GP, software ? 0 : 1);
    else if (!software && exHasError && exVector != PF) raiseError(exVector, exError | 1);
    return;
  }
  inFlight = NOTHING;
  let shadow = reg(S_INTERRUPTIBILITY) & ~(<u64>(SHADOW_STI | SHADOW_MOV_SS));
  if (type == EVENT_TYPE_NMI) shadow |= BLOCKED_BY_NMI;
  setReg(S_INTERRUPTIBILITY, shadow);
}

/** Enters the handler. */
function enter(rip: u64): void {
  setReg(R_RIP, rip);
  setNextRip(rip);
}

function deliverReal(vector: i32, returnRip: u64, image: u64): void {
  const at = <u64>vector << 2;
  if (at + 3 > reg(R_IDTR_LIMIT)) {
    raiseError(GP, 0);
    return;
  }
  const entry = ldSys(reg(R_IDTR_BASE) + at, 4);
  if (failed()) return;
  frameHere();
  framePush(image, 1);
  framePush(reg(R_SEL + SEG_CS), 1);
  framePush(returnRip, 1);
  if (failed()) return;
  setReg(R_RSP, frameRsp());
  setRealCs(<u32>(entry >> 16));
  setFlags(flags() & ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
  computeMode();
  enter(entry & 0xffff);
}

/** Reads and checks the code segment of a gate, leaving it in descLow/descHigh. */
function readHandler(selector: u32): bool {
  if (isNull(selector)) {
    raiseError(GP, 0);
    return false;
  }
  if (!readDescriptor(selector)) return false;
  if (!isCode(descHigh) || dplOf(descHigh) > cpl) return raiseSelector(GP, selector);
  if (longMode && (attrOf(descHigh) & (ATTR_L | ATTR_DB)) != ATTR_L) return raiseSelector(GP, selector);
  if ((attrOf(descHigh) & ATTR_P) == 0) return raiseSelector(NP, selector);
  return true;
}

/** RFLAGS in the handler; an interrupt gate clears IF, a trap gate does not. */
function handlerFlags(trap: bool): void {
  setFlags(flags() & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (trap ? 0 : FLAG_IF)));
}

function deliverProtected(vector: i32, software: bool, hasError: bool, error: u32, returnRip: u64, image: u64): void {
  const idtError = (<u32>vector << 3) | 2;
  if ((<u64>vector << 3) + 7 > reg(R_IDTR_LIMIT)) {
    raiseError(GP, idtError);
    return;
  }
  const gate = ldSys(reg(R_IDTR_BASE) + (<u64>vector << 3), 8);
  if (failed()) return;
  const gateLow = <u32>gate;
  const gateHigh = <u32>(gate >> 32);
  const gateAttr = attrOf(gateHigh);
  const kind = gateAttr & (ATTR_TYPE | ATTR_S);
  const wide = kind == TYPE_INT32 || kind == TYPE_TRAP32;
  if ((!wide && kind != TYPE_INT16 && kind != TYPE_TRAP16 && kind != TYPE_TASK) || (software && dplOf(gateHigh) < cpl)) {
    raiseError(GP, idtError);
    return;
  }
  if ((gateAttr & ATTR_P) == 0) {
    raiseError(NP, idtError);
    return;
  }
  const size = wide ? 2 : 1;
  const selector = gateLow >> 16;
  if (kind == TYPE_TASK) {
    if (findTask(selector, GP, false)) switchTask(selector, BY_EVENT, returnRip, image, hasError, error);
    return;
  }
  const target = <u64>((gateLow & 0xffff) | (wide ? gateHigh & 0xffff0000 : 0));
  if (!readHandler(selector)) return;
  const low = descLow;
  const high = descHigh;
  const vm86 = !protectedMode;
  const inner = !isConforming(high) && dplOf(high) < cpl;
  const level = inner ? dplOf(high) : cpl;
  if (vm86 && level != 0) {
    raiseSelector(GP, selector);
    return;
  }
  if (inner) {
    if (!innerStack(level)) return;
    if (!markAccessed(innerSs, innerHigh)) return;
    frameInner(level);
    if (vm86) {
      framePush(reg(R_SEL + SEG_GS), size);
      framePush(reg(R_SEL + SEG_FS), size);
      framePush(reg(R_SEL + SEG_DS), size);
      framePush(reg(R_SEL + SEG_ES), size);
    }
    framePush(reg(R_SEL + SEG_SS), size);
    framePush(reg(R_RSP), size);
  } else frameHere();
  framePush(image, size);
  framePush(reg(R_SEL + SEG_CS), size);
  framePush(returnRip, size);
  if (hasError) framePush(<u64>error, size);
  if (failed()) return;
  if (!checkTarget(low, high, target) || !markAccessed(selector, high)) return;

  handlerFlags(kind == TYPE_TRAP16 || kind == TYPE_TRAP32);
  if (inner) setFromDescriptor(SEG_SS, innerSs, innerLow, innerHigh);
  if (vm86) {
    setNull(SEG_GS, 0, 0);
    setNull(SEG_FS, 0, 0);
    setNull(SEG_DS, 0, 0);
    setNull(SEG_ES, 0, 0);
  }
  setReg(R_RSP, frameRsp());
  setCs(selector, low, high, level);
  enter(target);
}

function deliverLong(vector: i32, software: bool, hasError: bool, error: u32, returnRip: u64, image: u64): void {
  const idtError = (<u32>vector << 3) | 2;
  if ((<u64>vector << 4) + 15 > reg(R_IDTR_LIMIT)) {
    raiseError(GP, idtError);
    return;
  }
  const at = reg(R_IDTR_BASE) + (<u64>vector << 4);
  const gate = ldSys(at, 8);
  if (failed()) return;
  const upper = ldSys(at + 8, 8);
  if (failed()) return;
  const gateHigh = <u32>(gate >> 32);
  const gateAttr = attrOf(gateHigh);
  const kind = gateAttr & (ATTR_TYPE | ATTR_S);
  if ((kind != TYPE_INT32 && kind != TYPE_TRAP32) || (software && dplOf(gateHigh) < cpl)) {
    raiseError(GP, idtError);
    return;
  }
  if ((gateAttr & ATTR_P) == 0) {
    raiseError(NP, idtError);
    return;
  }
  const selector = <u32>(gate >> 16) & 0xffff;
  const target = (gate & 0xffff) | (<u64>(gateHigh & 0xffff0000)) | (upper << 32);
  if (!readHandler(selector)) return;
  const low = descLow;
  const high = descHigh;
  const inner = !isConforming(high) && dplOf(high) < cpl;
  const level = inner ? dplOf(high) : cpl;
  const ist = <i32>(gateHigh & 7);
  let rsp = reg(R_RSP);
  if (ist != 0 || inner) {
    rsp = tssRsp(level, ist);
    if (failed()) return;
  }
  frameAt64(rsp & ~15, level);
  framePush(reg(R_SEL + SEG_SS), 3);
  framePush(reg(R_RSP), 3);
  framePush(image, 3);
  framePush(reg(R_SEL + SEG_CS), 3);
  framePush(returnRip, 3);
  if (hasError) framePush(<u64>error, 3);
  if (failed()) return;
  if (!checkTarget(low, high, target) || !markAccessed(selector, high)) return;

  handlerFlags(kind == TYPE_TRAP32);
  // A change of privilege loads a null SS; with an IST alone SS stays (SDM 6.14.4).
  if (inner) setNull(SEG_SS, <u32>level, level);
  setReg(R_RSP, frameRsp());
  setCs(selector, low, high, level);
  enter(target);
}

// ---- exceptions ----

/** Contributory exceptions of SDM table 6-4. */
function contributory(vector: i32): bool {
  return vector == DE || (vector >= TS && vector <= GP);
}

/** True if `second`, raised while `first` was being delivered, makes a double fault (SDM table 6-5). */
function isDoubleFault(first: i32, second: i32): bool {
  if (contributory(first)) return contributory(second);
  return first == PF && (second == PF || contributory(second));
}

/** True if the value pushed for RF is 1: fault-class exceptions other than instruction breakpoints (SDM vol. 3, 17.3.1.1). */
function pushesRf(vector: i32, debugBits: u64): bool {
  if (vector == DB) return (debugBits & DR6_BD) != 0;
  return vector != DF && vector != 2 && vector != 3 && vector != 4 && vector != 18;
}

/**
 * Takes the pending fault: an exit if the exception bitmap asks for it, else delivery at the current instruction. Faults during the
 * delivery are taken in turn; they end in a handler, in an exit, or in EXIT_SHUTDOWN. Sets CR2 for #PF. For #DB the bits that
 * S_PENDING_DEBUG holds go to DR6 (or to the exit's DATA).
 */
export function deliverException(): void {
  let first = inFlight;
  let again = first != NOTHING;
  inFlight = NOTHING;
  for (;;) {
    let vector = exVector;
    let error = exError;
    let hasError = exHasError;
    const address = exAddress;
    if (vector == NONCANONICAL) {
      vector = GP;
      error = 0;
      hasError = true;
    }
    clearBrk();
    setBrk(BRK_LOOKUP);
    if (first == DF && (vector == PF || contributory(vector))) {
      inFlight = NOTHING;
      leave(EXIT_SHUTDOWN, 0, 0, 0);
      return;
    }
    if (isDoubleFault(first, vector)) {
      vector = DF;
      error = 0;
      hasError = true;
    }
    // In real mode no exception has an error code.
    if ((reg(R_CR0) & CR0_PE) == 0) hasError = false;
    const debugBits = vector == DB ? reg(S_PENDING_DEBUG) : 0;
    if (vector == DB) setReg(S_PENDING_DEBUG, 0);
    if ((reg(S_EXCEPTION_BITMAP) >> <u64>vector) & 1) {
      inFlight = NOTHING;
      if (first != NOTHING) reportFlight();
      leave(EXIT_EXCEPTION, <u64>(vector | (hasError ? 0x800 : 0)), hasError ? <u64>error : 0, vector == PF ? address : debugBits);
      return;
    }
    if (vector == PF) setReg(R_CR2, address);
    if (vector == DB) {
      setReg(R_DR6, (reg(R_DR6) & ~15) | debugBits);
      setReg(R_DR7, reg(R_DR7) & ~DR7_GD);
    }
    let image = pushesRf(vector, debugBits) ? flags() | FLAG_RF : flags();
    // A trap between two iterations: RF 1 on Intel (SDM vol. 3, 18.3.1.1), 0 on an EPYC.
    if (vector == DB && isAmd() && (debugBits & DR6_BD) == 0) image &= ~FLAG_RF;
    if (again && stepsLeft <= 0) {
      // Some deliveries never get anywhere, such as that of #AC to a stack that is not aligned: the next run tries again.
      setReg(S_INJECT, EVENT_VALID | (EVENT_TYPE_EXCEPTION << 8) | (hasError ? EVENT_HAS_ERROR : 0) | vector);
      setReg(S_INJECT_ERROR, error);
      setReg(S_INJECT_LEN, image & FLAG_RF);
      inFlight = NOTHING;
      return;
    }
    attempt(vector, EVENT_TYPE_EXCEPTION, hasError, error, curRip, image);
    if ((brk & BRK_FAULT) == 0) return;
    first = vector;
    again = true;
    setStepsLeft(stepsLeft - 1);
  }
}

/** True if the bit of INT n in the interrupt redirection bitmap, the 32 bytes below the I/O permission map, is 0. #GP(0) if it is not in the TSS. */
function redirects(vector: i32): bool {
  const limit = reg(R_LIMIT + SEG_TR);
  if (limit >= 103) {
    const base = reg(R_BASE + SEG_TR);
    const at = ldSys(base + 102, 2) - 32 + <u64>(vector >> 3);
    if (failed()) return false;
    if (at <= limit) return ((ldSys(base + at, 1) >> <u64>(vector & 7)) & 1) == 0;
  }
  raiseError(GP, 0);
  return false;
}

/** INT n of a virtual-8086 program that goes to the program's own handler, through the IVT at linear address 0 (SDM vol. 3, 21.3.3.4). */
function deliverVirtual(vector: i32, returnRip: u64): void {
  const entry = ldSys(<u64>vector << 2, 4);
  if (failed()) return;
  const virtual = (reg(R_RFLAGS) & FLAG_IOPL) != FLAG_IOPL;
  frameHere();
  framePush(virtual ? virtualFlags() : flags(), 1);
  framePush(reg(R_SEL + SEG_CS), 1);
  framePush(returnRip, 1);
  if (failed()) return;
  setReg(R_RSP, frameRsp());
  setVm86Segment(SEG_CS, <u32>(entry >> 16));
  setFlags(flags() & ~(FLAG_TF | FLAG_RF | (virtual ? FLAG_VIF : FLAG_IF)));
  setReg(S_INTERRUPTIBILITY, reg(S_INTERRUPTIBILITY) & ~(<u64>(SHADOW_STI | SHADOW_MOV_SS)));
  computeMode();
  enter(entry & 0xffff);
}

/**
 * INT n (EVENT_TYPE_SOFT_INT), INT3 and INTO (EVENT_TYPE_SOFT_EXCEPTION), INT1 (EVENT_TYPE_PRIV_SOFT_EXCEPTION). The return address is
 * nextRip. INT3, INTO and INT1 are exits if the exception bitmap holds their vector.
 */
export function softInt(vector: i32, type: i32): void {
  if (type == EVENT_TYPE_SOFT_INT) {
    if (reg(S_INTERCEPT) & INTERCEPT_SOFT_INT) {
      leave(EXIT_SOFT_INT, <u64>vector, 0, 0);
      return;
    }
    if (!protectedMode && (reg(R_CR0) & CR0_PE) != 0) {
      if (reg(R_CR4) & CR4_VME) {
        const redirected = redirects(vector);
        if (failed()) return;
        if (redirected) {
          deliverVirtual(vector, nextRip);
          return;
        }
      }
      if ((reg(R_RFLAGS) & FLAG_IOPL) != FLAG_IOPL) {
        raiseError(GP, 0);
        return;
      }
    }
  } else if ((reg(S_EXCEPTION_BITMAP) >> <u64>vector) & 1) {
    leave(EXIT_EXCEPTION, <u64>vector, 0, 0);
    return;
  }
  if (type == EVENT_TYPE_PRIV_SOFT_EXCEPTION) {
    // Traps that MOV SS has held back come with this one.
    const held = reg(S_PENDING_DEBUG);
    if (held) setReg(R_DR6, (reg(R_DR6) & ~15) | held);
    setReg(S_PENDING_DEBUG, 0);
    setReg(R_DR7, reg(R_DR7) & ~DR7_GD);
  }
  deliver(vector, type, false, 0, nextRip);
}

// ---- IRET ----

/** RFLAGS after a return: `mask` names the bits taken from the popped image. */
function setMasked(image: u64, mask: u64, sizeLog2: i32): void {
  if (sizeLog2 == 1) mask &= 0xffff;
  setFlags((flags() & ~mask) | (image & mask));
  updateChecks();
}

/** IRET, IRETD, IRETQ by operand size 1 << sizeLog2. Ends the blocking of NMIs even if it then faults (SDM vol. 3, 6.7.1). */
export function iret(sizeLog2: i32): void {
  setReg(S_INTERRUPTIBILITY, reg(S_INTERRUPTIBILITY) & ~(<u64>BLOCKED_BY_NMI));
  const size = (<u64>1) << sizeLog2;
  const vm86 = !protectedMode && (reg(R_CR0) & CR0_PE) != 0;
  const virtual = vm86 && (reg(R_RFLAGS) & FLAG_IOPL) != FLAG_IOPL;
  if (virtual && !virtualFlagsAllowed(0, sizeLog2)) return;
  if (protectedMode && (reg(R_RFLAGS) & FLAG_NT) != 0) {
    if (longMode) raiseError(GP, 0);
    else returnToTask(nextRip);
    return;
  }
  const offset = peek(0, sizeLog2);
  if (failed()) return;
  const selector = <u32>peek(size, sizeLog2) & 0xffff;
  if (failed()) return;
  const image = peek(size * 2, sizeLog2);
  if (failed()) return;
  if (!protectedMode) {
    if (!checkRealTarget(offset) || (virtual && !virtualFlagsAllowed(image, sizeLog2))) return;
    release(size * 3);
    setRealCs(selector);
    if (virtual) setVirtualFlags(image);
    else setMasked(image, vm86 ? FLAGS_WRITABLE & ~FLAG_IOPL : FLAGS_WRITABLE, sizeLog2);
    computeMode();
    setNextRip(offset);
    return;
  }
  if (!longMode && sizeLog2 == 2 && cpl == 0 && (image & FLAG_VM) != 0) {
    returnToVm86(selector, offset, image);
    return;
  }
  let mask = FLAGS_WRITABLE & ~(FLAG_IF | FLAG_IOPL);
  if (<u64>cpl <= (reg(R_RFLAGS) & FLAG_IOPL) >> 12) mask |= FLAG_IF;
  if (cpl == 0) mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
  // In 64-bit mode SS:RSP is always popped.
  if (!returnTo(selector, offset, sizeLog2, size * 3, 0, codeMode == 2)) return;
  setMasked(image, mask, sizeLog2);
}

function returnToVm86(selector: u32, offset: u64, image: u64): void {
  const esp = peek(12, 2);
  if (failed()) return;
  const ss = peek(16, 2);
  if (failed()) return;
  const es = peek(20, 2);
  if (failed()) return;
  const ds = peek(24, 2);
  if (failed()) return;
  const fs = peek(28, 2);
  if (failed()) return;
  const gs = peek(32, 2);
  if (failed()) return;
  if (offset > 0xffff) {
    raiseError(GP, 0);
    return;
  }
  setFlags(image & (FLAGS_WRITABLE | FLAG_VM | FLAG_VIF | FLAG_VIP));
  setVm86Segment(SEG_CS, selector);
  setVm86Segment(SEG_SS, <u32>ss);
  setVm86Segment(SEG_ES, <u32>es);
  setVm86Segment(SEG_DS, <u32>ds);
  setVm86Segment(SEG_FS, <u32>fs);
  setVm86Segment(SEG_GS, <u32>gs);
  setReg(R_RSP, esp);
  setReg(S_CPL, 3);
  computeMode();
  setNextRip(offset);
}
