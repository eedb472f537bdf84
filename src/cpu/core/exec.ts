// What instructions do: one function per handler of the opcode table, for every size and operand form. The fast forms of the most
// frequent ones are in index.ts. Order inside a handler: read, check, write memory, then registers and flags, so that a fault
// or an exit leaves the instruction restartable.

import * as H from './tables.generated';
import {
  EVENT_TYPE_PRIV_SOFT_EXCEPTION, EVENT_TYPE_SOFT_EXCEPTION, EVENT_TYPE_SOFT_INT, EXIT_CPUID, EXIT_CR8, EXIT_HLT,
  EXIT_HYPERCALL, EXIT_INVD, EXIT_IO, EXIT_PAUSE, EXIT_RDMSR, EXIT_RDTSC, EXIT_SYSCALL, EXIT_WBINVD, EXIT_WRMSR, INTERCEPT_MSR, INTERCEPT_PAUSE,
  INTERCEPT_RDTSC, INTERCEPT_SYSCALL, R_BASE, R_CR4, R_RAX, R_RBP, R_RBX, R_RCX, R_RDI, R_RDX, R_RSI, R_RSP, R_SEL, R_TSC_AUX,
  R_TSC_OFFSET, SEG_CS, SEG_ES, SEG_FS, SEG_SS, SHADOW_MOV_SS, S_INTERCEPT, S_INTERRUPTIBILITY, S_STEPS, R_LIMIT,
  R_RFLAGS, S_PENDING_DEBUG, HIDDEN_INVPCID, S_HIDDEN,
} from './layout';
import {
  BP, BR, BRK_FAULT, BRK_LOOKUP, CR4_TSD, DB, DE, FLAGS_ARITH, FLAG_AF, FLAG_CF, FLAG_DF,
  FLAG_OF, FLAG_PF, FLAG_RF, FLAG_SF, FLAG_TF, FLAG_ZF, GP, NONCANONICAL, OF, SS, UD, brk, codeMode, cpl, curRip, exVector, failed,
  flatRead, flatWrite, isAmd, isCanonical, leave, nextRip, raise, raiseError, reg, reg32, setBrk, setNextRip, setReg,
  st, stackMask, tlb, TLB_READ, TLB_WRITE, tlbVersion,
} from './state';
import {
  CC_ADD, CC_DEC, CC_INC, CC_LOGIC, CC_SUB, carry, condition, flags, resultFlags, setArithFlags, setCc, setFlags,
} from './flags';
import { compareElements, copyElements, element, fillElements, scanElements } from './elements';
import { entryOf, host, ioqDone, ld16, ld8, ldSized, portAccess, probeWrite, stSized } from './mmu';
import { MORE_X87, REC_E, REC_HANDLER, REC_MORE, REC_REG, REC_REP, REC_REPNE, REC_SEEN, REC_SEG, REC_SUB } from './record';
import {
  address, addressMask, addressSize, effectiveAddress, flagsOf, getAt, getG, getSlot, immediate, inMemory, mask,
  operandAddress, putAt, putG, putSlot, readE, readEForWrite, setOperandAddress, signBit, signExtend, sizeOf, writeBack,
  writeE,
} from './operand';
import { lar, loadSegment, lsl, verr, verw } from './segment';
import { bswap64, integerExtension, mulHigh } from './bits';
import { stateInstruction } from './xsave';
import { pop, popDone, push, release, setStackPointer } from './stack';
import { iret, softInt } from './event';
import { DR6_BS, hitPort } from './debug';
import { noSwitch } from './task';
import { x87 } from './x87';
import { farCall, farJump, farReturn, swapgs, syscall, sysenter, sysexit, sysret } from './far';
import { simd } from './simd';
import {
  cli, clts, controlRegister, invlpg, invpcid, pkru, setAc, tablesVisible, ioAllowed, lgdt, lidt, lldt, lmsw, ltr, movFromCr, movFromDr, movToCr, movToDr, ownRdmsr, ownWrmsr, popFlags, pushFlags,
  requireCpl0, requireProtected, sgdt, sidt, sldt, smsw, sti, str, msrValue,
} from './system';

/** Steps left in this run; REP iterations after the first take from it. */
export let stepsLeft: i32 = 0;
export function setStepsLeft(value: i32): void {
  stepsLeft = value;
}

/** The instruction entered a handler: a single-step trap that was due is gone with RFLAGS.TF (SDM vol. 3, 17.3.1.4). */
export let trapTaken: bool = false;
/** A string instruction stopped between two iterations. */
export let repeating: bool = false;
export function beginStep(): void {
  trapTaken = false;
  repeating = false;
  noSwitch();
}

// ---- arithmetic ----

const ADD: i32 = 0;
const OR: i32 = 1;
const ADC: i32 = 2;
const SBB: i32 = 3;
const AND: i32 = 4;
const SUB: i32 = 5;
const XOR: i32 = 6;
const CMP: i32 = 7;

function aluResult(op: i32, a: u64, b: u64): u64 {
  switch (op) {
    case ADD: return a + b;
    case OR: return a | b;
    case ADC: return a + b + carry();
    case SBB: return a - b - carry();
    case AND: return a & b;
    case XOR: return a ^ b;
    default: return a - b;
  }
}
function aluFlags(op: i32, a: u64, b: u64, result: u64, size: i32): void {
  switch (op) {
    case ADD: setCc(CC_ADD, size, result, b); break;
    case SUB: case CMP: setCc(CC_SUB, size, result, b); break;
    case ADC: case SBB: {
      const m = mask(size);
      const c = carry();
      const x = a & m;
      const y = b & m;
      const r = result & m;
      let value = resultFlags(r, size);
      if (op == ADC ? r < x || (c != 0 && r == x) : x < y || (c != 0 && x == y)) value |= FLAG_CF;
      const overflow = op == ADC ? (x ^ r) & (y ^ r) : (x ^ y) & (x ^ r);
      if (overflow & signBit(size)) value |= FLAG_OF;
      if ((x ^ y ^ r) & 0x10) value |= FLAG_AF;
      setArithFlags(value);
      break;
    }
    default: setCc(CC_LOGIC, size, result, 0); break;
  }
}

function aluMemory(rec: usize, op: i32, b: u64): void {
  const size = sizeOf(rec);
  const a = op == CMP ? readE(rec, size) : readEForWrite(rec, size);
  if (failed()) return;
  const result = aluResult(op, a, b);
  if (op != CMP) {
    writeBack(rec, size, result);
    if (failed()) return;
  }
  aluFlags(op, a, b, result, size);
}

function imulHigh(a: i64, b: i64): i64 {
  return <i64>mulHigh(<u64>a, <u64>b) - (a < 0 ? b : 0) - (b < 0 ? a : 0);
}

function multiplyFlags(low: u64, size: i32, overflow: bool): void {
  setArithFlags((resultFlags(low, size) & ~FLAG_ZF) | (overflow ? FLAG_CF | FLAG_OF : 0) | (flags() & (FLAG_ZF | FLAG_AF)));
}

function mul(rec: usize): void {
  const size = sizeOf(rec);
  const b = readE(rec, size);
  if (failed()) return;
  const a = getSlot(R_RAX, size);
  let low: u64;
  let high: u64;
  if (size == 3) {
    low = a * b;
    high = mulHigh(a, b);
  } else {
    const product = a * b;
    low = product & mask(size);
    high = product >> (8 << size);
  }
  multiplyFlags(low, size, high != 0);
  if (size == 0) putSlot(R_RAX, 1, low | (high << 8));
  else {
    putSlot(R_RAX, size, low);
    putSlot(R_RDX, size, high);
  }
}
function imul(rec: usize): void {
  const size = sizeOf(rec);
  const b = signExtend(readE(rec, size), size);
  if (failed()) return;
  const a = signExtend(getSlot(R_RAX, size), size);
  const low = <u64>(a * b);
  const high = size == 3 ? <u64>imulHigh(a, b) : (low >> (8 << size)) & mask(size);
  const overflow = size == 3 ? <i64>high != <i64>low >> 63 : signExtend(low, size) != <i64>low;
  multiplyFlags(low & mask(size), size, overflow);
  if (size == 0) putSlot(R_RAX, 1, low);
  else {
    putSlot(R_RAX, size, low);
    putSlot(R_RDX, size, high);
  }
}
/** Flags of IMUL with a destination register, for sign-extended operands. */
export function productFlags(x: i64, y: i64, size: i32): void {
  const low = <u64>(x * y);
  const overflow = size == 3 ? imulHigh(x, y) != <i64>low >> 63 : signExtend(low, size) != <i64>low;
  multiplyFlags(low & mask(size), size, overflow);
}
function imul2(rec: usize, b: u64): void {
  const size = sizeOf(rec);
  const x = signExtend(readE(rec, size), size);
  if (failed()) return;
  const y = signExtend(b, size);
  productFlags(x, y, size);
  putG(rec, size, <u64>(x * y));
}

/** 128 / 64 division; high < divisor. Quotient returned, remainder in divRemainder. */
let divRemainder: u64 = 0;
function divide128(high: u64, low: u64, divisor: u64): u64 {
  if (high == 0) {
    divRemainder = low % divisor;
    return low / divisor;
  }
  let remainder = high;
  let quotient: u64 = 0;
  for (let i = 63; i >= 0; i--) {
    const top = remainder >> 63;
    remainder = (remainder << 1) | ((low >> <u64>i) & 1);
    quotient <<= 1;
    if (top || remainder >= divisor) {
      remainder -= divisor;
      quotient |= 1;
    }
  }
  divRemainder = remainder;
  return quotient;
}
function div(rec: usize): void {
  const size = sizeOf(rec);
  const divisor = readE(rec, size);
  if (failed()) return;
  if (divisor == 0) {
    raise(DE);
    return;
  }
  if (size == 3) {
    const high = reg(R_RDX);
    if (high >= divisor) {
      raise(DE);
      return;
    }
    const quotient = divide128(high, reg(R_RAX), divisor);
    setReg(R_RAX, quotient);
    setReg(R_RDX, divRemainder);
    return;
  }
  const dividend = size == 0 ? getSlot(R_RAX, 1) : (getSlot(R_RDX, size) << (8 << size)) | getSlot(R_RAX, size);
  const quotient = dividend / divisor;
  if (quotient > mask(size)) {
    raise(DE);
    return;
  }
  const remainder = dividend % divisor;
  if (size == 0) putSlot(R_RAX, 1, quotient | (remainder << 8));
  else {
    putSlot(R_RAX, size, quotient);
    putSlot(R_RDX, size, remainder);
  }
}
function idiv(rec: usize): void {
  const size = sizeOf(rec);
  const raw = readE(rec, size);
  if (failed()) return;
  const divisor = signExtend(raw, size);
  if (divisor == 0) {
    raise(DE);
    return;
  }
  if (size == 3) {
    let high = reg(R_RDX);
    let low = reg(R_RAX);
    const negative = <i64>high < 0;
    if (negative) {
      low = ~low + 1;
      high = ~high + (low == 0 ? 1 : 0);
    }
    const magnitude: u64 = divisor < 0 ? <u64>0 - <u64>divisor : <u64>divisor;
    if (high >= magnitude) {
      raise(DE);
      return;
    }
    const quotient = divide128(high, low, magnitude);
    const remainder = divRemainder;
    const negativeQuotient = negative != (divisor < 0);
    if (quotient > (negativeQuotient ? 0x8000000000000000 : 0x7fffffffffffffff)) {
      raise(DE);
      return;
    }
    setReg(R_RAX, negativeQuotient ? <u64>0 - quotient : quotient);
    setReg(R_RDX, negative ? <u64>0 - remainder : remainder);
    return;
  }
  const dividend =
    size == 0 ? signExtend(getSlot(R_RAX, 1), 1) : signExtend((getSlot(R_RDX, size) << (8 << size)) | getSlot(R_RAX, size), size + 1);
  if (dividend == i64.MIN_VALUE && divisor == -1) {
    raise(DE);
    return;
  }
  const quotient = dividend / divisor;
  if (signExtend(<u64>quotient, size) != quotient) {
    raise(DE);
    return;
  }
  const remainder = <u64>(dividend % divisor);
  if (size == 0) putSlot(R_RAX, 1, (<u64>quotient & 0xff) | (remainder << 8));
  else {
    putSlot(R_RAX, size, <u64>quotient);
    putSlot(R_RDX, size, remainder);
  }
}

// ---- shifts and rotates (SDM vol. 2, RCL/RCR/ROL/ROR and SAL/SAR/SHL/SHR) ----

function shift(rec: usize, rawCount: u64): void {
  const size = sizeOf(rec);
  const a = readEForWrite(rec, size);
  if (failed()) return;
  const bits: u64 = 8 << size;
  const m = mask(size);
  const count = rawCount & (size == 3 ? 63 : 31);
  const op = <i32>load<u8>(rec, REC_SUB);
  if (count == 0) {
    // A 32-bit register destination is still zero-extended.
    writeBack(rec, size, a);
    return;
  }
  let result: u64;
  let cf: bool;
  let ovf: bool;
  switch (op) {
    case 0: { // ROL
      const c = count & (bits - 1);
      result = c ? ((a << c) | (a >> (bits - c))) & m : a;
      cf = (result & 1) != 0;
      ovf = ((result & signBit(size)) != 0) != cf;
      break;
    }
    case 1: { // ROR
      const c = count & (bits - 1);
      result = c ? ((a >> c) | (a << (bits - c))) & m : a;
      cf = (result & signBit(size)) != 0;
      ovf = cf != ((result & (signBit(size) >> 1)) != 0);
      break;
    }
    case 2: { // RCL
      let c = count % (bits + 1);
      result = a;
      let carryBit = carry();
      for (; c > 0; c--) {
        const out = (result & signBit(size)) != 0;
        result = ((result << 1) | carryBit) & m;
        carryBit = out ? 1 : 0;
      }
      cf = carryBit != 0;
      ovf = ((result & signBit(size)) != 0) != cf;
      break;
    }
    case 3: { // RCR
      let c = count % (bits + 1);
      result = a;
      let carryBit = carry();
      for (; c > 0; c--) {
        const out = result & 1;
        result = (result >> 1) | (carryBit << (bits - 1));
        carryBit = out;
      }
      cf = carryBit != 0;
      ovf = ((result & signBit(size)) != 0) != ((result & (signBit(size) >> 1)) != 0);
      break;
    }
    case 4: case 6: { // SHL
      result = (count >= bits ? 0 : a << count) & m;
      cf = count <= bits && ((a >> (bits - count)) & 1) != 0;
      ovf = ((result & signBit(size)) != 0) != cf;
      break;
    }
    case 5: { // SHR
      result = count >= bits ? 0 : a >> count;
      cf = count <= bits && ((a >> (count - 1)) & 1) != 0;
      ovf = count == 1 ? (a & signBit(size)) != 0 : ((result ^ (result << 1)) & signBit(size)) != 0;
      break;
    }
    default: { // SAR
      const wide = signExtend(a, size);
      const c = min<u64>(count, 63);
      result = <u64>(wide >> <i64>c) & m;
      cf = ((wide >> <i64>(c - 1)) & 1) != 0;
      if (count > c) cf = wide < 0;
      ovf = false;
      break;
    }
  }
  writeBack(rec, size, result);
  if (failed()) return;
  const changed = (cf ? FLAG_CF : 0) | (ovf ? FLAG_OF : 0);
  if (op < 4) setArithFlags((flags() & (FLAGS_ARITH & ~(FLAG_CF | FLAG_OF))) | changed);
  else setArithFlags(resultFlags(result, size) | changed);
}

/** SHLD (left) and SHRD. */
function doubleShift(rec: usize, rawCount: u64, left: bool): void {
  const size = sizeOf(rec);
  const a = readEForWrite(rec, size);
  if (failed()) return;
  const bits: u64 = 8 << size;
  const count = rawCount & (size == 3 ? 63 : 31);
  if (count == 0) {
    writeBack(rec, size, a);
    return;
  }
  const b = getG(rec, size);
  let result: u64;
  let cf: bool;
  if (size == 1) {
    // Counts above 16 are undefined in the SDM; processors rotate through dest:src:dest.
    const wide = (a << 32) | (b << 16) | a;
    result = left ? (wide << count) >> 32 : wide >> count;
    cf = left ? ((wide >> (48 - count)) & 1) != 0 : ((wide >> (count - 1)) & 1) != 0;
    result &= 0xffff;
  } else if (left) {
    result = ((a << count) | (b >> (bits - count))) & mask(size);
    cf = ((a >> (bits - count)) & 1) != 0;
  } else {
    result = ((a >> count) | (b << (bits - count))) & mask(size);
    cf = ((a >> (count - 1)) & 1) != 0;
  }
  writeBack(rec, size, result);
  if (failed()) return;
  const ovf = ((a ^ result) & signBit(size)) != 0;
  setArithFlags(resultFlags(result, size) | (cf ? FLAG_CF : 0) | (ovf ? FLAG_OF : 0));
}

// ---- bits ----

/** BT, BTS, BTR, BTC. With a register index a memory operand extends beyond its size (SDM vol. 2, 3.1.1.9). */
function bitTest(rec: usize, index: u64, far: bool): void {
  const size = sizeOf(rec);
  const op = <i32>load<u8>(rec, REC_SUB);
  const bits: u64 = 8 << size;
  let a: u64;
  if (inMemory(rec)) {
    let offset = effectiveAddress(rec);
    if (far) {
      offset += <u64>((signExtend(index, size) >> <i64>(3 + size)) << <i64>size);
      offset &= addressMask(rec);
    }
    const at = address(<i32>load<u8>(rec, REC_SEG), offset, 1 << size, op != 0);
    if (failed()) return;
    if (op != 0 && !probeWrite(at, 1 << size)) return;
    setOperandAddress(at);
    a = ldSized(at, size);
    if (failed()) return;
  } else a = getAt(load<u8>(rec, REC_E), size);
  const bit = (<u64>1) << (index & (bits - 1));
  const was = (a & bit) != 0;
  if (op) {
    writeBack(rec, size, op == 1 ? a | bit : op == 2 ? a & ~bit : a ^ bit);
    if (failed()) return;
  }
  setArithFlags((flags() & (FLAGS_ARITH & ~FLAG_CF)) | (was ? FLAG_CF : 0));
}

function bitScan(rec: usize, reverse: bool): void {
  const size = sizeOf(rec);
  const a = readE(rec, size);
  if (failed()) return;
  if (a == 0) {
    setArithFlags((flags() & FLAGS_ARITH) | FLAG_ZF);
    return;
  }
  putG(rec, size, reverse ? 63 - clz<u64>(a) : ctz<u64>(a));
  setArithFlags(flags() & (FLAGS_ARITH & ~FLAG_ZF));
}

// ---- near control flow ----

/** Sets RIP for a near transfer of the given operand size; #GP(0) outside the code segment or the canonical range. */
function jumpTo(target: u64, size: i32): void {
  if (codeMode == 2) {
    if (!isCanonical(target)) {
      raiseError(GP, 0);
      return;
    }
  } else {
    target &= size == 1 ? 0xffff : 0xffffffff;
    if (target > <u64>reg32(R_LIMIT + SEG_CS)) {
      raiseError(GP, 0);
      return;
    }
  }
  setNextRip(target);
}
function relative(rec: usize): u64 {
  return nextRip + immediate(rec);
}
function nearCall(target: u64, size: i32): void {
  const back = nextRip;
  if (isAmd()) {
    jumpTo(target, size);
    if (!failed()) push(back, size);
    return;
  }
  // The return address stays below the stack pointer if the target is none: measured on an Intel Xeon (Cascade Lake).
  const sp = reg(R_RSP);
  push(back, size);
  if (failed()) return;
  jumpTo(target, size);
  if (failed()) setReg(R_RSP, sp);
}
function nearReturn(size: i32, bytes: u64): void {
  const target = pop(size);
  if (failed()) return;
  jumpTo(target, size);
  if (failed()) return;
  popDone(size);
  if (bytes) release(bytes);
}
function countRegister(rec: usize): u64 {
  return reg(R_RCX) & addressMask(rec);
}
/** Writes a register in address size: 16-bit keeps the rest, 32-bit zero-extends. */
function putAddress(slot: i32, rec: usize, value: u64): void {
  putSlot(slot, addressSize(rec) + 1, value);
}
function loop(rec: usize): void {
  const kind = <i32>load<u8>(rec, REC_SUB);
  const size = sizeOf(rec);
  if (kind == 3) {
    if (countRegister(rec) == 0) jumpTo(relative(rec), size);
    return;
  }
  const count = (reg(R_RCX) - 1) & addressMask(rec);
  const zero = kind == 2 ? false : (flags() & FLAG_ZF) != 0;
  if (count != 0 && (kind == 2 || zero == (kind == 1))) jumpTo(relative(rec), size);
  if (!failed()) putAddress(R_RCX, rec, count);
}

// ---- stack frames ----

function pusha(size: i32): void {
  const sp = reg(R_RSP);
  for (let i = R_RAX; i <= R_RDI; i++) {
    push(i == R_RSP ? sp : reg(i), size);
    if (failed()) {
      setReg(R_RSP, sp);
      return;
    }
  }
}
/** What POPA has read, by register. */
const popped: usize = memory.data(8 * 8);
function popa(size: i32): void {
  const sp = reg(R_RSP);
  // Reads everything once before any register changes: the stack may be a device's.
  for (let i = R_RDI; i >= R_RAX; i--) {
    store<u64>(popped + ((<usize>i) << 3), pop(size));
    if (failed()) {
      setReg(R_RSP, sp);
      return;
    }
    popDone(size);
  }
  for (let i = R_RDI; i >= R_RAX; i--) {
    if (i != R_RSP) putSlot(i, size, load<u64>(popped + ((<usize>i) << 3)));
  }
}
function enter(rec: usize): void {
  const size = sizeOf(rec);
  const bytes = immediate(rec) & 0xffff;
  const level = <i32>((immediate(rec) >> 16) & 31);
  const sp = reg(R_RSP);
  const bp = reg(R_RBP);
  push(bp, size);
  const frame = reg(R_RSP);
  for (let i = 1; i < level && !failed(); i++) {
    const at = (bp - <u64>(i << size)) & stackMask;
    const link = ldSized(address(SEG_SS, at, 1 << size, false), size);
    if (!failed()) push(link, size);
  }
  if (level > 0 && !failed()) push(frame, size);
  if (!failed()) {
    const top = (reg(R_RSP) - bytes) & stackMask;
    // The new top of stack must be writable (SDM vol. 2, ENTER).
    probeWrite(address(SEG_SS, top, 1, true), 1);
    if (!failed()) {
      setStackPointer(top);
      putSlot(R_RBP, size, frame);
      return;
    }
  }
  setReg(R_RSP, sp);
  // Everything here is on the stack, whatever the instruction's own segment.
  if (brk & BRK_FAULT && exVector == NONCANONICAL) raiseError(SS, 0);
}
function leaveFrame(size: i32): void {
  const sp = reg(R_RSP);
  setStackPointer(reg(R_RBP));
  const value = pop(size);
  if (failed()) {
    setReg(R_RSP, sp);
    return;
  }
  popDone(size);
  putSlot(R_RBP, size, value);
}
function popE(rec: usize): void {
  const size = sizeOf(rec);
  const sp = reg(R_RSP);
  const value = pop(size);
  if (failed()) return;
  popDone(size);
  // A memory operand addressed by RSP uses the incremented value.
  writeE(rec, size, value);
  if (failed()) setReg(R_RSP, sp);
}

// ---- strings ----

/** The instruction is not finished: stay on it so that interrupts and budgets are seen between iterations. */
function repeatLater(): void {
  setNextRip(curRip);
  repeating = true;
  // The iterations that follow are no new instruction to a code breakpoint (SDM vol. 3, 18.3.1.1).
  setReg(R_RFLAGS, reg(R_RFLAGS) | FLAG_RF);
  setBrk(BRK_LOOKUP);
}

/**
 * Elements of a repeated instruction, from `offset` in a segment and linear address `at` on, that need no look at each: to the end of a page that
 * the TLB table has, without wrapping. Below 2: go one by one.
 */
function freely(segment: i32, offset: u64, at: u64, size: i32, am: u64, table: usize, down: bool): u64 {
  if (load<u64>(entryOf(tlb, table, at)) != ((at & ~(<u64>0xfff)) | tlbVersion)) return 0;
  if (codeMode != 2 && ((table == TLB_WRITE ? flatWrite : flatRead) & (1 << segment)) == 0) return 0;
  const place = at & 0xfff;
  const after = (0x1000 - place) >> size;
  if (!down) return min<u64>(after, (am - offset) >> size);
  return after == 0 ? 0 : min<u64>((place >> size) + 1, offset >> size);
}

/**
 * A repeated instruction with 32-bit addresses begins by clearing the upper halves of RCX and, if it is MOVS or STOS, of its pointers, even if
 * the count is 0 or the first iteration faults (KVM's string_registers_quirk; measured on an Intel Xeon, Cascade Lake). AMD's leave them. Called in
 * 64-bit code, which alone sees the halves.
 */
function truncate(handler: i32): void {
  if (isAmd()) return;
  setReg(R_RCX, reg32(R_RCX));
  if (handler == H.H_MOVS) setReg(R_RSI, reg32(R_RSI));
  if (handler == H.H_MOVS || handler == H.H_STOS) setReg(R_RDI, reg32(R_RDI));
}

/** MOVS, STOS, LODS, CMPS, SCAS, INS and OUTS; as execute(). */
export function stringOp(rec: usize): void {
  const handler = <i32>load<u16>(rec, REC_HANDLER);
  const size = sizeOf(rec);
  const bytes = 1 << size;
  const am = addressMask(rec);
  const segment = <i32>load<u8>(rec, REC_SEG);
  const repeated = (flagsOf(rec) & (REC_REP | REC_REPNE)) != 0;
  const whileEqual = (flagsOf(rec) & REC_REP) != 0;
  const down = (reg(R_RFLAGS) & FLAG_DF) != 0;
  const step = down ? <u64>0 - (<u64>1 << size) : <u64>1 << size;
  const compares = handler == H.H_CMPS || handler == H.H_SCAS;
  let left: u64 = 0;
  let right: u64 = 0;
  if (handler == H.H_INS || handler == H.H_OUTS) {
    // The permission is checked even if the count is 0.
    if (!ioAllowed(<u32>reg(R_RDX) & 0xffff, bytes)) return;
  }
  if (repeated && am == 0xffffffff && codeMode == 2) truncate(handler);
  for (;;) {
    if (repeated && countRegister(rec) == 0) return;
    const si = reg(R_RSI) & am;
    const di = reg(R_RDI) & am;
    // The count and the budget allow so many at once.
    const most = repeated ? min<u64>(countRegister(rec), <u64>stepsLeft + 1) : 1;
    let advanced: u64 = 1;
    switch (handler) {
      case H.H_MOVS: {
        const from = address(segment, si, bytes, false);
        if (failed()) return;
        const to = address(SEG_ES, di, bytes, true);
        if (failed()) return;
        if (most > 1) {
          const n = min<u64>(min<u64>(freely(segment, si, from, size, am, TLB_READ, down), freely(SEG_ES, di, to, size, am, TLB_WRITE, down)), most);
          if (n > 1) {
            copyElements(host(entryOf(tlb, TLB_WRITE, to), to), host(entryOf(tlb, TLB_READ, from), from), size, <usize>n, down);
            advanced = n;
            break;
          }
        }
        const value = ldSized(from, size);
        if (failed()) return;
        stSized(to, size, value);
        break;
      }
      case H.H_STOS: {
        const to = address(SEG_ES, di, bytes, true);
        if (failed()) return;
        const value = getSlot(R_RAX, size);
        if (most > 1) {
          const n = min<u64>(freely(SEG_ES, di, to, size, am, TLB_WRITE, down), most);
          if (n > 1) {
            const first = down ? to - ((n - 1) << size) : to;
            fillElements(host(entryOf(tlb, TLB_WRITE, first), first), value, size, <usize>n);
            advanced = n;
            break;
          }
        }
        stSized(to, size, value);
        break;
      }
      case H.H_LODS: {
        let from = address(segment, si, bytes, false);
        if (failed()) return;
        if (most > 1) {
          // The last one is what stays.
          const n = min<u64>(freely(segment, si, from, size, am, TLB_READ, down), most);
          if (n > 1) {
            from += step * (n - 1);
            advanced = n;
          }
        }
        const value = ldSized(from, size);
        if (!failed()) putSlot(R_RAX, size, value);
        break;
      }
      case H.H_CMPS: {
        const from = address(segment, si, bytes, false);
        if (failed()) return;
        const a = ldSized(from, size);
        if (failed()) return;
        const to = address(SEG_ES, di, bytes, false);
        if (failed()) return;
        if (most > 1) {
          const n = min<u64>(min<u64>(freely(segment, si, from, size, am, TLB_READ, down), freely(SEG_ES, di, to, size, am, TLB_READ, down)), most);
          if (n > 1) {
            const source = host(entryOf(tlb, TLB_READ, from), from);
            const target = host(entryOf(tlb, TLB_READ, to), to);
            const i = compareElements(source, target, size, <usize>n - 1, whileEqual, down);
            left = element(source, i, size, down);
            right = element(target, i, size, down);
            advanced = <u64>i + 1;
            break;
          }
        }
        left = a;
        right = ldSized(to, size);
        break;
      }
      case H.H_SCAS: {
        const to = address(SEG_ES, di, bytes, false);
        if (failed()) return;
        left = getSlot(R_RAX, size);
        if (most > 1) {
          const n = min<u64>(freely(SEG_ES, di, to, size, am, TLB_READ, down), most);
          if (n > 1) {
            const target = host(entryOf(tlb, TLB_READ, to), to);
            const i = scanElements(target, left, size, <usize>n - 1, whileEqual, down);
            right = element(target, i, size, down);
            advanced = <u64>i + 1;
            break;
          }
        }
        right = ldSized(to, size);
        break;
      }
      case H.H_INS: {
        const to = address(SEG_ES, di, bytes, true);
        if (failed()) return;
        if (!probeWrite(to, bytes)) return;
        const value = portAccess(<u32>reg(R_RDX) & 0xffff, bytes, true, repeated, 0);
        if (!failed()) stSized(to, size, value);
        break;
      }
      default: { // OUTS
        const from = address(segment, si, bytes, false);
        if (failed()) return;
        const value = ldSized(from, size);
        if (failed()) return;
        portAccess(<u32>reg(R_RDX) & 0xffff, bytes, false, repeated, value);
        break;
      }
    }
    if (failed()) return;
    if (handler != H.H_STOS && handler != H.H_SCAS && handler != H.H_INS) putAddress(R_RSI, rec, (si + step * advanced) & am);
    if (handler != H.H_LODS && handler != H.H_OUTS) putAddress(R_RDI, rec, (di + step * advanced) & am);
    let done = !repeated;
    if (repeated) {
      const count = (countRegister(rec) - advanced) & am;
      putAddress(R_RCX, rec, count);
      stepsLeft -= <i32>(advanced - 1);
      done = count == 0 || (compares && (left == right) != whileEqual);
    }
    // Until it is done, by whatever it is stopped, RFLAGS are those before the instruction on Intel (SDM vol. 2, REP; of interrupts and
    // single-step traps measured on an Intel Xeon (Cascade Lake)), those of the last iteration on an EPYC.
    if (compares && (done || isAmd())) aluFlags(CMP, left, right, left - right, size);
    if (done) return;
    if (stepsLeft <= 0 || brk != 0) {
      repeatLater();
      return;
    }
    stepsLeft--;
  }
}

// ---- decimal adjustment (SDM vol. 2; 16- and 32-bit modes only) ----

function decimalAdjust(subtract: bool): void {
  const before = flags();
  const old = getSlot(R_RAX, 0);
  let al = old;
  let value: u64 = 0;
  if ((al & 0xf) > 9 || (before & FLAG_AF) != 0) {
    value |= FLAG_AF;
    if (before & FLAG_CF || (subtract ? old < 6 : old > 0xf9)) value |= FLAG_CF;
    al = subtract ? al - 6 : al + 6;
  }
  if (old > 0x99 || (before & FLAG_CF) != 0) {
    al = subtract ? al - 0x60 : al + 0x60;
    value |= FLAG_CF;
  } else if (!subtract) value &= ~FLAG_CF;
  putSlot(R_RAX, 0, al);
  setArithFlags(value | resultFlags(al & 0xff, 0));
}
function asciiAdjust(subtract: bool): void {
  const before = flags();
  const ax = getSlot(R_RAX, 1);
  const adjust = (ax & 0xf) > 9 || (before & FLAG_AF) != 0;
  let result = ax;
  if (adjust) result = subtract ? ax - 6 - 0x100 : ax + 0x106;
  putSlot(R_RAX, 1, (result & 0xff00) | (result & 0xf));
  setArithFlags((adjust ? FLAG_AF | FLAG_CF : 0) | resultFlags(result & 0xf, 0));
}

// ---- compare and exchange ----

function cmpxchg(rec: usize): void {
  const size = sizeOf(rec);
  const a = readEForWrite(rec, size);
  if (failed()) return;
  const accumulator = getSlot(R_RAX, size);
  const equal = a == accumulator;
  // Memory is written in either case (SDM vol. 2, CMPXCHG); a register that differs is left alone, its upper half too.
  if (equal || inMemory(rec)) writeBack(rec, size, equal ? getG(rec, size) : a);
  if (failed()) return;
  if (!equal) putSlot(R_RAX, size, a);
  aluFlags(CMP, accumulator, a, accumulator - a, size);
}
/** CMPXCHG8B, with REX.W CMPXCHG16B (which wants 16-byte alignment). */
function cmpxchgWide(rec: usize): void {
  const wide = sizeOf(rec) == 3;
  const size = wide ? 3 : 2;
  const at = operandAddress(rec, 2 << size, true);
  if (failed()) return;
  if (wide && (at & 15) != 0) {
    raiseError(GP, 0);
    return;
  }
  if (!probeWrite(at, 2 << size)) return;
  const low = ldSized(at, size);
  if (failed()) return;
  const high = ldSized(at + (1 << size), size);
  if (failed()) return;
  const equal = low == getSlot(R_RAX, size) && high == getSlot(R_RDX, size);
  stSized(at, size, equal ? getSlot(R_RBX, size) : low);
  if (failed()) return;
  stSized(at + (1 << size), size, equal ? getSlot(R_RCX, size) : high);
  if (failed()) return;
  if (!equal) {
    putSlot(R_RAX, size, low);
    putSlot(R_RDX, size, high);
  }
  setArithFlags((flags() & (FLAGS_ARITH & ~FLAG_ZF)) | (equal ? FLAG_ZF : 0));
}
function xadd(rec: usize): void {
  const size = sizeOf(rec);
  const a = readEForWrite(rec, size);
  if (failed()) return;
  const b = getG(rec, size);
  const result = a + b;
  if (inMemory(rec)) {
    writeBack(rec, size, result);
    if (failed()) return;
    putG(rec, size, a);
  } else {
    putG(rec, size, a);
    writeBack(rec, size, result);
  }
  setCc(CC_ADD, size, result, b);
}
function xchg(rec: usize): void {
  const size = sizeOf(rec);
  const a = readEForWrite(rec, size);
  if (failed()) return;
  writeBack(rec, size, getG(rec, size));
  if (!failed()) putG(rec, size, a);
}

// ---- system ----

function loadFar(rec: usize): void {
  const size = sizeOf(rec);
  const offset = effectiveAddress(rec);
  const segment = <i32>load<u8>(rec, REC_SEG);
  const value = ldSized(address(segment, offset, 1 << size, false), size);
  if (failed()) return;
  const selector = ld16(address(segment, (offset + (1 << size)) & addressMask(rec), 2, false));
  if (failed()) return;
  if (loadSegment(<i32>load<u8>(rec, REC_SUB), <u32>selector)) putG(rec, size, value);
}
function farPointer(rec: usize, call: bool): void {
  const size = sizeOf(rec);
  const offset = effectiveAddress(rec);
  const segment = <i32>load<u8>(rec, REC_SEG);
  const target = ldSized(address(segment, offset, 1 << size, false), size);
  if (failed()) return;
  const selector = ld16(address(segment, (offset + (1 << size)) & addressMask(rec), 2, false));
  if (failed()) return;
  if (call) farCall(<u32>selector, target, size);
  else farJump(<u32>selector, target, size);
}
function movSegment(rec: usize): void {
  const segment = <i32>load<u8>(rec, REC_REG) & 7;
  if (segment == SEG_CS || segment > 5) {
    raise(UD);
    return;
  }
  const selector = readE(rec, 1);
  if (failed()) return;
  loadSegment(segment, <u32>selector);
  if (!failed() && segment == SEG_SS) shadow(SHADOW_MOV_SS);
}
function popSegment(rec: usize): void {
  const segment = <i32>load<u8>(rec, REC_SUB);
  const size = sizeOf(rec);
  const value = pop(size);
  if (failed()) return;
  const sp = reg(R_RSP);
  const oldMask = stackMask;
  loadSegment(segment, <u32>value & 0xffff);
  if (failed()) return;
  const top = sp + (1 << size);
  if (oldMask == 0xffff) store<u16>(st + (R_RSP << 3), <u16>top);
  else setReg(R_RSP, top & oldMask);
  if (segment == SEG_SS) shadow(SHADOW_MOV_SS);
}
/** Interrupts are held off for one instruction. */
function shadow(bit: u64): void {
  setReg(S_INTERRUPTIBILITY, reg(S_INTERRUPTIBILITY) | bit);
  setBrk(BRK_LOOKUP);
}
function pushSegment(rec: usize): void {
  const size = sizeOf(rec);
  const selector = reg(R_SEL + <i32>load<u8>(rec, REC_SUB)) & 0xffff;
  push(selector, size);
}
function interrupt(vector: i32, type: i32): void {
  softInt(vector, type);
  trapTaken = !failed();
}
/** SYSCALL and SYSRET: the single-step trap is due if TF is set afterwards, so that it sees no handler that masks TF. */
function trapByNewFlags(): void {
  trapTaken = true;
  if (!failed() && (flags() & FLAG_TF) != 0) setReg(S_PENDING_DEBUG, reg(S_PENDING_DEBUG) | DR6_BS);
}
function rdtsc(aux: bool): void {
  if ((reg(R_CR4) & CR4_TSD) != 0 && cpl != 0) {
    raiseError(GP, 0);
    return;
  }
  if (reg(S_INTERCEPT) & INTERCEPT_RDTSC) {
    leave(EXIT_RDTSC, aux ? 1 : 0, 0, 0);
    return;
  }
  const tsc = reg(R_TSC_OFFSET) + reg(S_STEPS) - <u64>stepsLeft;
  putSlot(R_RAX, 2, tsc);
  putSlot(R_RDX, 2, tsc >> 32);
  if (aux) putSlot(R_RCX, 2, reg(R_TSC_AUX));
}
function rdmsr(): void {
  if (!requireCpl0()) return;
  const msr = <u32>reg(R_RCX);
  if ((reg(S_INTERCEPT) & INTERCEPT_MSR) == 0 && ownRdmsr(msr)) {
    putSlot(R_RAX, 2, msrValue());
    putSlot(R_RDX, 2, msrValue() >> 32);
  } else if (!failed()) leave(EXIT_RDMSR, msr, 0, 0);
}
function wrmsr(): void {
  if (!requireCpl0()) return;
  const msr = <u32>reg(R_RCX);
  const value = (reg(R_RDX) << 32) | (reg(R_RAX) & 0xffffffff);
  if ((reg(S_INTERCEPT) & INTERCEPT_MSR) != 0 || (!ownWrmsr(msr, value) && !failed())) leave(EXIT_WRMSR, msr, 0, value);
}
function portIn(rec: usize, port: u32): void {
  const bytes = 1 << sizeOf(rec);
  if (!ioAllowed(port, bytes)) return;
  // The host completes the instruction; what the I/O permission map needed is done.
  ioqDone();
  leave(EXIT_IO, port, <u64>(bytes | 0x10) | (hitPort(port, bytes) << 8), 0);
}
function portOut(rec: usize, port: u32): void {
  const size = sizeOf(rec);
  const bytes = 1 << size;
  if (!ioAllowed(port, bytes)) return;
  ioqDone();
  leave(EXIT_IO, port, <u64>bytes | (hitPort(port, bytes) << 8), getSlot(R_RAX, size));
}
function bound(rec: usize): void {
  const size = sizeOf(rec);
  const offset = effectiveAddress(rec);
  const segment = <i32>load<u8>(rec, REC_SEG);
  const low = ldSized(address(segment, offset, 1 << size, false), size);
  if (failed()) return;
  const index = signExtend(getG(rec, size), size);
  const below = index < signExtend(low, size);
  // Measured on an Intel Xeon (Cascade Lake): an index below the lower bound is #BR whatever the upper one's place would raise.
  if (below && !isAmd()) {
    raise(BR);
    return;
  }
  const high = ldSized(address(segment, (offset + (1 << size)) & addressMask(rec), 1 << size, false), size);
  if (failed()) return;
  if (below || index > signExtend(high, size)) raise(BR);
}
/** Reads first; writes, and so needs a writable page, only if the RPL is raised (SDM vol. 2, ARPL). */
function arpl(rec: usize): void {
  if (!requireProtected()) return;
  const a = readE(rec, 1);
  if (failed()) return;
  const b = getG(rec, 1);
  const lower = (a & 3) < (b & 3);
  if (lower) {
    writeE(rec, 1, (a & ~(<u64>3)) | (b & 3));
    if (failed()) return;
  }
  setArithFlags((flags() & (FLAGS_ARITH & ~FLAG_ZF)) | (lower ? FLAG_ZF : 0));
}
/** LAR and LSL: ZF and, if valid, the destination. */
function descriptorQuery(rec: usize, limit: bool): void {
  if (!requireProtected()) return;
  const selector = readE(rec, 1);
  if (failed()) return;
  const value = limit ? lsl(<u32>selector) : lar(<u32>selector);
  if (failed()) return;
  setArithFlags((flags() & (FLAGS_ARITH & ~FLAG_ZF)) | (value >= 0 ? FLAG_ZF : 0));
  if (value >= 0) putG(rec, sizeOf(rec), <u64>value);
}
function verify(rec: usize, write: bool): void {
  if (!requireProtected()) return;
  const selector = readE(rec, 1);
  if (failed()) return;
  const ok = write ? verw(<u32>selector) : verr(<u32>selector);
  if (failed()) return;
  setArithFlags((flags() & (FLAGS_ARITH & ~FLAG_ZF)) | (ok ? FLAG_ZF : 0));
}
function tableAddress(rec: usize, write: bool): u64 {
  return operandAddress(rec, codeMode == 2 ? 10 : 6, write);
}

/** Notes for the second tier where an indirect transfer leads. */
function see(rec: usize, target: u64): void {
  const way = <i32>(target - curRip);
  const last = load<i32>(rec, REC_SEEN);
  if (way == last || curRip + <i64>way != target) return;
  const before = load<i32>(rec, REC_SEEN + 4);
  if (before != way) store<i32>(rec, before, REC_SEEN + 8);
  store<i32>(rec, last, REC_SEEN + 4);
  store<i32>(rec, way, REC_SEEN);
}

/** Executes the instruction of a record by its handler. curRip, nextRip and stepsLeft are set; look at brk afterwards. */
export function execute(rec: usize): void {
  switch (<i32>load<u16>(rec, REC_HANDLER)) {
    case H.H_ALU_EG: aluMemory(rec, <i32>load<u8>(rec, REC_SUB), getG(rec, sizeOf(rec))); break;
    case H.H_ALU_EI: aluMemory(rec, <i32>load<u8>(rec, REC_SUB), immediate(rec)); break;
    case H.H_ALU_GE: {
      const size = sizeOf(rec);
      const op = <i32>load<u8>(rec, REC_SUB);
      const b = readE(rec, size);
      if (failed()) return;
      const a = getG(rec, size);
      const result = aluResult(op, a, b);
      aluFlags(op, a, b, result, size);
      if (op != CMP) putG(rec, size, result);
      break;
    }
    case H.H_TEST_EG: case H.H_TEST_EI: {
      const size = sizeOf(rec);
      const a = readE(rec, size);
      if (failed()) return;
      const b = <i32>load<u16>(rec, REC_HANDLER) == H.H_TEST_EG ? getG(rec, size) : immediate(rec);
      setCc(CC_LOGIC, size, a & b, 0);
      break;
    }
    case H.H_MOV_EG: writeE(rec, sizeOf(rec), getG(rec, sizeOf(rec))); break;
    case H.H_MOV_GE: {
      const value = readE(rec, sizeOf(rec));
      if (!failed()) putG(rec, sizeOf(rec), value);
      break;
    }
    case H.H_MOV_EI: writeE(rec, sizeOf(rec), immediate(rec)); break;
    case H.H_MOV_AO: {
      const at = address(<i32>load<u8>(rec, REC_SEG), immediate(rec), 1 << sizeOf(rec), false);
      if (failed()) return;
      const value = ldSized(at, sizeOf(rec));
      if (!failed()) putSlot(R_RAX, sizeOf(rec), value);
      break;
    }
    case H.H_MOV_OA: {
      const at = address(<i32>load<u8>(rec, REC_SEG), immediate(rec), 1 << sizeOf(rec), true);
      if (!failed()) stSized(at, sizeOf(rec), getSlot(R_RAX, sizeOf(rec)));
      break;
    }
    case H.H_LEA: putG(rec, sizeOf(rec), effectiveAddress(rec)); break;
    case H.H_XCHG_EG: xchg(rec); break;
    case H.H_XCHG_ZA:
      if (load<u8>(rec, REC_E) == 0) {
        // 90: NOP, F3 90: PAUSE.
        if (flagsOf(rec) & REC_REP && reg(S_INTERCEPT) & INTERCEPT_PAUSE) leave(EXIT_PAUSE, 0, 0, 0);
      } else xchg(rec);
      break;
    case H.H_INC_E: case H.H_DEC_E: {
      const size = sizeOf(rec);
      const up = <i32>load<u16>(rec, REC_HANDLER) == H.H_INC_E;
      const a = readEForWrite(rec, size);
      if (failed()) return;
      const result = (up ? a + 1 : a - 1) & mask(size);
      writeBack(rec, size, result);
      if (!failed()) setCc(up ? CC_INC : CC_DEC, size, result, carry());
      break;
    }
    case H.H_NOT_E: {
      const a = readEForWrite(rec, sizeOf(rec));
      if (!failed()) writeBack(rec, sizeOf(rec), ~a);
      break;
    }
    case H.H_NEG_E: {
      const size = sizeOf(rec);
      const a = readEForWrite(rec, size);
      if (failed()) return;
      writeBack(rec, size, <u64>0 - a);
      if (!failed()) aluFlags(SUB, 0, a, <u64>0 - a, size);
      break;
    }
    case H.H_MUL_E: mul(rec); break;
    case H.H_IMUL_E: imul(rec); break;
    case H.H_IMUL_GE: imul2(rec, getG(rec, sizeOf(rec))); break;
    case H.H_IMUL_GEI: imul2(rec, immediate(rec)); break;
    case H.H_DIV_E: div(rec); break;
    case H.H_IDIV_E: idiv(rec); break;
    case H.H_SHIFT_EI: shift(rec, immediate(rec)); break;
    case H.H_SHIFT_ECL: shift(rec, reg(R_RCX) & 0xff); break;
    case H.H_SHLD_I: doubleShift(rec, immediate(rec), true); break;
    case H.H_SHLD_CL: doubleShift(rec, reg(R_RCX) & 0xff, true); break;
    case H.H_SHRD_I: doubleShift(rec, immediate(rec), false); break;
    case H.H_SHRD_CL: doubleShift(rec, reg(R_RCX) & 0xff, false); break;
    case H.H_PUSH_E: {
      const value = readE(rec, sizeOf(rec));
      if (!failed()) push(value, sizeOf(rec));
      break;
    }
    case H.H_PUSH_I: push(immediate(rec), sizeOf(rec)); break;
    case H.H_POP_E: popE(rec); break;
    case H.H_PUSH_SEG: pushSegment(rec); break;
    case H.H_POP_SEG: popSegment(rec); break;
    case H.H_PUSHA: pusha(sizeOf(rec)); break;
    case H.H_POPA: popa(sizeOf(rec)); break;
    case H.H_PUSHF: pushFlags(sizeOf(rec)); break;
    case H.H_POPF: {
      const value = pop(sizeOf(rec));
      if (failed()) return;
      popFlags(value, sizeOf(rec));
      if (!failed()) popDone(sizeOf(rec));
      break;
    }
    case H.H_SAHF: {
      const kept = FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF;
      setArithFlags((flags() & FLAG_OF) | ((reg(R_RAX) >> 8) & kept));
      break;
    }
    case H.H_LAHF: store<u8>(st + 1, <u8>flags()); break;
    case H.H_CBW: {
      const size = sizeOf(rec);
      putSlot(R_RAX, size, <u64>signExtend(getSlot(R_RAX, size - 1), size - 1));
      break;
    }
    case H.H_CWD: {
      const size = sizeOf(rec);
      putSlot(R_RDX, size, getSlot(R_RAX, size) & signBit(size) ? 0xffffffffffffffff : 0);
      break;
    }
    case H.H_MOVZX: {
      const value = readE(rec, <i32>load<u8>(rec, REC_SUB));
      if (!failed()) putG(rec, sizeOf(rec), value);
      break;
    }
    case H.H_MOVSX: {
      const from = <i32>load<u8>(rec, REC_SUB);
      const value = readE(rec, from);
      if (!failed()) putG(rec, sizeOf(rec), <u64>signExtend(value, from));
      break;
    }
    case H.H_ARPL_MOVSXD: {
      if (codeMode != 2) {
        arpl(rec);
        break;
      }
      const from = sizeOf(rec) == 1 ? 1 : 2;
      const value = readE(rec, from);
      if (!failed()) putG(rec, sizeOf(rec), <u64>signExtend(value, from));
      break;
    }
    case H.H_JCC:
      if (condition(<i32>load<u8>(rec, REC_SUB))) {
        jumpTo(relative(rec), sizeOf(rec));
        setBrk(BRK_LOOKUP);
      }
      break;
    case H.H_SETCC: writeE(rec, 0, condition(<i32>load<u8>(rec, REC_SUB)) ? 1 : 0); break;
    case H.H_CMOVCC: {
      const size = sizeOf(rec);
      const value = readE(rec, size);
      if (failed()) return;
      // A 32-bit destination is zero-extended even when the condition is false.
      putG(rec, size, condition(<i32>load<u8>(rec, REC_SUB)) ? value : getG(rec, size));
      break;
    }
    case H.H_JMP_J: jumpTo(relative(rec), sizeOf(rec)); break;
    case H.H_CALL_J: nearCall(relative(rec), sizeOf(rec)); break;
    case H.H_JMP_E: {
      const target = readE(rec, sizeOf(rec));
      if (failed()) break;
      see(rec, target);
      jumpTo(target, sizeOf(rec));
      break;
    }
    case H.H_CALL_E: {
      const target = readE(rec, sizeOf(rec));
      if (failed()) break;
      see(rec, target);
      nearCall(target, sizeOf(rec));
      break;
    }
    case H.H_RET: nearReturn(sizeOf(rec), 0); break;
    case H.H_RET_I: nearReturn(sizeOf(rec), immediate(rec)); break;
    case H.H_LOOP:
      loop(rec);
      break;
    case H.H_JMP_FAR_P: farJump(<u32>(immediate(rec) >> 32), immediate(rec) & 0xffffffff, sizeOf(rec)); break;
    case H.H_CALL_FAR_P: farCall(<u32>(immediate(rec) >> 32), immediate(rec) & 0xffffffff, sizeOf(rec)); break;
    case H.H_JMP_FAR_M: farPointer(rec, false); break;
    case H.H_CALL_FAR_M: farPointer(rec, true); break;
    case H.H_RETF: farReturn(sizeOf(rec), <u32>immediate(rec)); break;
    case H.H_IRET: iret(sizeOf(rec)); break;
    case H.H_INT3: interrupt(BP, EVENT_TYPE_SOFT_EXCEPTION); break;
    case H.H_INT: interrupt(<i32>immediate(rec), EVENT_TYPE_SOFT_INT); break;
    case H.H_INTO: if (flags() & FLAG_OF) interrupt(OF, EVENT_TYPE_SOFT_EXCEPTION); break;
    case H.H_INT1: interrupt(DB, EVENT_TYPE_PRIV_SOFT_EXCEPTION); break;
    case H.H_MOVS: case H.H_CMPS: case H.H_STOS: case H.H_LODS: case H.H_SCAS: case H.H_INS: case H.H_OUTS: stringOp(rec); break;
    case H.H_SALC: putSlot(R_RAX, 0, carry() ? 0xff : 0); break; // AL := CF ? FF : 00, in no manual
    case H.H_XLAT: {
      const at = address(<i32>load<u8>(rec, REC_SEG), (reg(R_RBX) + (reg(R_RAX) & 0xff)) & addressMask(rec), 1, false);
      if (failed()) return;
      const value = ld8(at);
      if (!failed()) putSlot(R_RAX, 0, value);
      break;
    }
    case H.H_IN_I: portIn(rec, <u32>immediate(rec)); break;
    case H.H_IN_DX: portIn(rec, <u32>reg(R_RDX) & 0xffff); break;
    case H.H_OUT_I: portOut(rec, <u32>immediate(rec)); break;
    case H.H_OUT_DX: portOut(rec, <u32>reg(R_RDX) & 0xffff); break;
    case H.H_BT_EG: bitTest(rec, getG(rec, sizeOf(rec)), true); break;
    case H.H_BT_EI: bitTest(rec, immediate(rec), false); break;
    case H.H_BSF: bitScan(rec, false); break;
    case H.H_BSR: bitScan(rec, true); break;
    case H.H_BSWAP: {
      const size = sizeOf(rec);
      const at = load<u8>(rec, REC_E);
      const value = bswap64(getAt(at, 3));
      // A 16-bit BSWAP is undefined; processors store zero.
      putAt(at, size, size == 3 ? value : size == 2 ? value >> 32 : 0);
      break;
    }
    case H.H_XADD: xadd(rec); break;
    case H.H_CMPXCHG: cmpxchg(rec); break;
    case H.H_CMPXCHG8B: cmpxchgWide(rec); break;
    case H.H_ENTER: enter(rec); break;
    case H.H_LEAVE: leaveFrame(sizeOf(rec)); break;
    case H.H_BOUND: bound(rec); break;
    case H.H_LOAD_FAR: loadFar(rec); break;
    case H.H_DAA: decimalAdjust(false); break;
    case H.H_DAS: decimalAdjust(true); break;
    case H.H_AAA: asciiAdjust(false); break;
    case H.H_AAS: asciiAdjust(true); break;
    case H.H_AAM: {
      const base = immediate(rec) & 0xff;
      if (base == 0) {
        raise(DE);
        return;
      }
      const al = getSlot(R_RAX, 0);
      putSlot(R_RAX, 1, ((al / base) << 8) | (al % base));
      setArithFlags(resultFlags(al % base, 0));
      break;
    }
    case H.H_AAD: {
      const ax = getSlot(R_RAX, 1);
      const al = ((ax & 0xff) + (ax >> 8) * (immediate(rec) & 0xff)) & 0xff;
      putSlot(R_RAX, 1, al);
      setArithFlags(resultFlags(al, 0));
      break;
    }
    case H.H_CLC: setArithFlags(flags() & (FLAGS_ARITH & ~FLAG_CF)); break;
    case H.H_STC: setArithFlags((flags() & FLAGS_ARITH) | FLAG_CF); break;
    case H.H_CMC: setArithFlags((flags() & FLAGS_ARITH) ^ FLAG_CF); break;
    case H.H_CLD: setFlags(flags() & ~FLAG_DF); break;
    case H.H_STD: setFlags(flags() | FLAG_DF); break;
    case H.H_CLI: cli(); break;
    case H.H_STI: sti(); break;
    case H.H_NOP: break;
    case H.H_CLFLUSH: {
      const at = operandAddress(rec, 1, false);
      if (!failed()) ld8(at);
      break;
    }
    case H.H_MOV_ES: {
      const segment = <i32>load<u8>(rec, REC_REG) & 7;
      if (segment > 5) {
        raise(UD);
        return;
      }
      const selector = reg(R_SEL + segment) & 0xffff;
      if (inMemory(rec)) writeE(rec, 1, selector);
      else putAt(load<u8>(rec, REC_E), sizeOf(rec), selector);
      break;
    }
    case H.H_MOV_SE: movSegment(rec); break;
    // A register that does not exist is #UD at any CPL.
    case H.H_MOV_RC: {
      const cr = <i32>load<u8>(rec, REC_REG);
      if (!controlRegister(cr) || !requireCpl0()) return;
      if (cr == 8) {
        leave(EXIT_CR8, 1, <u64>(load<u8>(rec, REC_E) >> 3), 0);
        return;
      }
      const value = movFromCr(cr);
      if (!failed()) putAt(load<u8>(rec, REC_E), sizeOf(rec), value);
      break;
    }
    case H.H_MOV_CR: {
      const cr = <i32>load<u8>(rec, REC_REG);
      if (!controlRegister(cr) || !requireCpl0()) return;
      const value = getAt(load<u8>(rec, REC_E), sizeOf(rec));
      if (cr == 8) {
        if (value > 15) raiseError(GP, 0);
        else leave(EXIT_CR8, 0, <u64>(load<u8>(rec, REC_E) >> 3), value);
        return;
      }
      movToCr(cr, value);
      break;
    }
    case H.H_MOV_RD: {
      const value = movFromDr(<i32>load<u8>(rec, REC_REG));
      if (!failed()) putAt(load<u8>(rec, REC_E), sizeOf(rec), value);
      break;
    }
    case H.H_MOV_DR: movToDr(<i32>load<u8>(rec, REC_REG), getAt(load<u8>(rec, REC_E), sizeOf(rec))); break;
    case H.H_SLDT: case H.H_STR: {
      if (!requireProtected() || !tablesVisible()) return;
      const value = <i32>load<u16>(rec, REC_HANDLER) == H.H_SLDT ? sldt() : str();
      if (inMemory(rec)) writeE(rec, 1, value);
      else putAt(load<u8>(rec, REC_E), sizeOf(rec), value);
      break;
    }
    case H.H_LLDT: case H.H_LTR: {
      if (!requireProtected() || !requireCpl0()) return;
      const selector = <u32>readE(rec, 1);
      if (failed()) return;
      if (<i32>load<u16>(rec, REC_HANDLER) == H.H_LLDT) lldt(selector);
      else ltr(selector);
      break;
    }
    case H.H_VERR: verify(rec, false); break;
    case H.H_VERW: verify(rec, true); break;
    case H.H_LAR: descriptorQuery(rec, false); break;
    case H.H_LSL: descriptorQuery(rec, true); break;
    case H.H_SGDT: {
      if (!tablesVisible()) return;
      const at = tableAddress(rec, true);
      if (!failed()) sgdt(at);
      break;
    }
    case H.H_SIDT: {
      if (!tablesVisible()) return;
      const at = tableAddress(rec, true);
      if (!failed()) sidt(at);
      break;
    }
    case H.H_LGDT: case H.H_LIDT: {
      if (!requireCpl0()) return;
      const at = tableAddress(rec, false);
      if (failed()) return;
      if (<i32>load<u16>(rec, REC_HANDLER) == H.H_LGDT) lgdt(at, sizeOf(rec));
      else lidt(at, sizeOf(rec));
      break;
    }
    case H.H_SMSW: {
      if (!tablesVisible()) return;
      const value = smsw();
      if (inMemory(rec)) writeE(rec, 1, value);
      else putAt(load<u8>(rec, REC_E), sizeOf(rec), value);
      break;
    }
    case H.H_LMSW: {
      if (!requireCpl0()) return;
      const value = readE(rec, 1);
      if (!failed()) lmsw(<u32>value);
      break;
    }
    case H.H_CLTS: clts(); break;
    case H.H_INVLPG: {
      const segment = <i32>load<u8>(rec, REC_SEG);
      const offset = effectiveAddress(rec);
      invlpg(codeMode == 2 && segment < SEG_FS ? offset : reg(R_BASE + segment) + offset);
      break;
    }
    case H.H_INVPCID: {
      if (load<u32>(st + (S_HIDDEN << 3), 4) & HIDDEN_INVPCID) {
        raise(UD);
        return;
      }
      if (!requireCpl0()) return;
      const at = operandAddress(rec, 16, false);
      if (!failed()) invpcid(getG(rec, codeMode == 2 ? 3 : 2), at);
      break;
    }
    case H.H_SET_AC: setAc(load<u8>(rec, REC_SUB) != 0); break;
    case H.H_PKRU: pkru(load<u8>(rec, REC_SUB) != 0); break;
    case H.H_INVD: if (requireCpl0()) leave(EXIT_INVD, 0, 0, 0); break;
    case H.H_WBINVD: if (requireCpl0()) leave(EXIT_WBINVD, 0, 0, 0); break;
    // VMCALL and VMMCALL leave at any CPL: the exit comes before the privilege check, which is KVM's.
    case H.H_VMCALL: if (isAmd()) raise(UD); else leave(EXIT_HYPERCALL, 0, 0, 0); break;
    case H.H_VMMCALL: if (isAmd()) leave(EXIT_HYPERCALL, 0, 0, 0); else raise(UD); break;
    case H.H_SYSCALL: if (reg(S_INTERCEPT) & INTERCEPT_SYSCALL) leave(EXIT_SYSCALL, 0, 0, 0); else { syscall(); trapByNewFlags(); } break;
    case H.H_SYSRET: sysret(sizeOf(rec) == 3); trapByNewFlags(); break;
    case H.H_SYSENTER: if (reg(S_INTERCEPT) & INTERCEPT_SYSCALL) leave(EXIT_SYSCALL, 1, 0, 0); else sysenter(); break;
    case H.H_SYSEXIT: sysexit(sizeOf(rec) == 3); break;
    case H.H_SWAPGS: swapgs(); break;
    case H.H_RDTSC: rdtsc(false); break;
    case H.H_RDTSCP: rdtsc(true); break;
    case H.H_RDMSR: rdmsr(); break;
    case H.H_WRMSR: wrmsr(); break;
    case H.H_CPUID: leave(EXIT_CPUID, 0, 0, 0); break;
    case H.H_HLT: if (requireCpl0()) leave(EXIT_HLT, 0, 0, 0); break;
    case H.H_MOVBE_GM: case H.H_MOVBE_MG: case H.H_CRC32: case H.H_POPCNT: case H.H_TZCNT: case H.H_LZCNT: case H.H_ADX:
    case H.H_ANDN: case H.H_BLS: case H.H_BEXTR: case H.H_BZHI: case H.H_PEXT: case H.H_PDEP: case H.H_MULX: case H.H_SHIFT_V:
    case H.H_RORX: case H.H_RDRAND: case H.H_RDPID: integerExtension(rec); break;
    case H.H_FXSAVE: case H.H_FXRSTOR: case H.H_LDMXCSR: case H.H_STMXCSR: case H.H_XSAVE: case H.H_XRSTOR: case H.H_XGETBV:
    case H.H_XSETBV: case H.H_RDBASE: case H.H_WRBASE: case H.H_CLZERO: case H.H_SERIALIZE: case H.H_MONITOR: case H.H_MWAIT:
    case H.H_RDPMC: stateInstruction(rec); break;
    case H.H_UD: raise(UD); break;
    case H.H_UD: raise(UD); break;
    default:
      if (load<u8>(rec, REC_MORE) & MORE_X87) x87(rec);
      else simd(rec);
      break;
  }
}
