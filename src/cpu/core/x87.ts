// x87 (SDM vol. 1, chapter 8; rows in opcodes/x87.ts). Arithmetic is softfloat.ts's, transcendental functions are transcendental.ts's.
//
// A handler works on copies of the control, status and tag words, which are kept unless the instruction failed; registers are written last,
// after everything that can fault. An exception is reported by the next waiting instruction as #MF if CR0.NE is set. With CR0.NE clear the
// processor would assert FERR# and an interrupt controller raise IRQ 13; no such line is wired here, and execution goes on as with IGNNE#.
// Instruction and data pointers and the opcode follow every instruction but the control ones, as on processors that do not restrict
// them to exceptions (CPUID.7:EBX bits 6 and 13 clear).

import * as H from './tables.generated';
import {
  FCW_INIT, R_CR0, R_FCS, R_FCW, R_FDP, R_FDS, R_FIP, R_FOP, R_FPR, R_FSW, R_FTW, R_RAX, R_SEL, SEG_CS,
} from './layout';
import {
  CR0_EM, CR0_MP, CR0_NE, CR0_TS, FLAG_CF, FLAG_PF, FLAG_ZF, MF, NM, alignmentChecked, curRip, failed, isAmd, protectedMode, raise, reg, reg32,
  setReg, st,
} from './state';
import { condition, setArithFlags } from './flags';
import { ld16, ld32, ld64, probeRead, probeWrite, st16, st32, st64 } from './mmu';
import { REC_E, REC_HANDLER, REC_IMM, REC_SEG, REC_SIZE, REC_SUB } from './record';
import { address, effectiveAddress, inMemory, operandAddress } from './operand';
import {
  FINITE, FP_D, FP_I, FP_P, FP_Z, INFINITE, QNAN, RC_CURRENT, RC_UP, RC_ZERO, REL_EQUAL, REL_GREATER, REL_LESS, REL_UNORDERED, SNAN, TOP,
  ZERO, aDenormal, aExp, aKind, aSig, aSign, add, beginX87, compare, copyA, divide, finish32, finish64, finish80, masks, moveToA,
  multiply, nan1, noResult, partial, precision, quotient, raiseFlags, raised, remainder, resultSe, resultSig, roundInt, roundedUp,
  roundingMode, scale, setB32, setB64, setB80, setBInt, setRaised, setRoundedUp, squareRoot, swapOperands, toInt, zKind, defaultNan, nan2,
} from './softfloat';
import { arctangent, exponential, logarithm, logarithmPlusOne, reduceAngle, sine, tangent } from './transcendental';

// FSW
const SW_SF: u32 = 0x40;
const SW_ES: u32 = 0x80;
const SW_C0: u32 = 0x100;
const SW_C1: u32 = 0x200;
const SW_C2: u32 = 0x400;
const SW_TOP: u32 = 0x3800;
const SW_C3: u32 = 0x4000;
const SW_B: u32 = 0x8000;
const SW_CC: u32 = 0x4700;

/** The QNaN floating-point indefinite. */
const INDEFINITE: u64 = 0xc000000000000000;
/** What an integer or BCD store gives for a value that has none: the packed BCD indefinite's upper bytes. */
const BCD_INDEFINITE: u64 = 0xc000000000000000;

let fcw: u32 = 0;
let fsw: u32 = 0;
/** Bit i: physical register Ri is not empty. */
let ftw: u32 = 0;

// ---- the register stack ----

function physical(i: i32): u32 {
  return ((fsw >> 11) + <u32>i) & 7;
}
/** Address of ST(i). */
function at(i: i32): usize {
  return st + (<usize>R_FPR << 3) + (<usize>physical(i) << 4);
}
function empty(i: i32): bool {
  return ((ftw >> physical(i)) & 1) == 0;
}
function put(i: i32, se: u32, sig: u64): void {
  const to = at(i);
  store<u64>(to, sig);
  store<u64>(to, se, 8);
  ftw |= 1 << physical(i);
}
function turn(by: u32): void {
  fsw = (fsw & ~SW_TOP) | ((((fsw >> 11) + by) & 7) << 11);
}
function pop(): void {
  ftw &= ~(1 << physical(0));
  turn(1);
}
function setB(i: i32): void {
  const from = at(i);
  setB80(<u32>load<u64>(from, 8), load<u64>(from));
}
function setA(i: i32): void {
  setB(i);
  moveToA();
}
function putResult(i: i32): void {
  put(i, resultSe, resultSig);
}

// ---- exceptions ----

/** No unmasked exception that is found before the operation (SDM vol. 1, 8.5): there is a result. */
function valid(): bool {
  return (raised & ~masks & (FP_I | FP_D | FP_Z)) == 0;
}
/** Adds the flags of the operation to FSW; C1 tells whether the result was rounded up. */
function settle(): void {
  fsw = (fsw & ~SW_C1) | (raised & 0x3f) | (roundedUp ? SW_C1 : 0);
}
/** A register that must hold a value is empty. True if the masked response applies. */
function underflow(): bool {
  raiseFlags(FP_I);
  fsw |= SW_SF;
  setRoundedUp(false);
  settle();
  return valid();
}
/** Makes room for a push. False if the stack overflows and the exception is unmasked; masked, the indefinite is pushed by pushed(). */
let overflowed: bool = false;
function room(): bool {
  overflowed = !empty(7);
  return !overflowed;
}
/** Pushes a value, after room(). */
function push(se: u32, sig: u64): void {
  turn(7);
  put(0, se, sig);
}
/** The response to a push with no room: I, SF, C1. */
function overflow(): void {
  raiseFlags(FP_I);
  fsw |= SW_SF;
  setRoundedUp(true);
  settle();
  if (valid()) push(0xffff, INDEFINITE);
}
function putIndefinite(i: i32): void {
  put(i, 0xffff, INDEFINITE);
}

// ---- arithmetic ----

const ADD: i32 = 0;
const MUL: i32 = 1;
const COM: i32 = 2;
const COMP: i32 = 3;
const SUB: i32 = 4;
const SUBR: i32 = 5;
const DIV: i32 = 6;

/** ST(i) = A op B, rounded by precision control. True if there is a result. */
function operate(op: i32, i: i32): bool {
  switch (op) {
    case ADD: add(false); break;
    case MUL: multiply(); break;
    case SUB: add(true); break;
    case SUBR:
      swapOperands();
      add(true);
      break;
    case DIV: divide(); break;
    default:
      swapOperands();
      divide();
      break;
  }
  return deliver(i, precision);
}
/** ST(i) = Z. */
function deliver(i: i32, bits: i32): bool {
  if (valid()) {
    finish80(bits);
    settle();
    putResult(i);
    return true;
  }
  setRaised(raised & (FP_I | FP_D | FP_Z));
  setRoundedUp(false);
  settle();
  return false;
}

function setConditions(relation: i32): void {
  fsw &= ~SW_CC;
  if (relation == REL_EQUAL) fsw |= SW_C3;
  else if (relation == REL_LESS) fsw |= SW_C0;
  else if (relation != REL_GREATER) fsw |= SW_C3 | SW_C2 | SW_C0;
}
/** Compares A with B into C3, C2 and C0, which an unmasked exception does not keep back, then pops `pops` registers. */
function compareInto(signalling: bool, pops: i32): void {
  const relation = compare(signalling);
  settle();
  setConditions(relation);
  if (valid()) for (let i = 0; i < pops; i++) pop();
}
function compareEmpty(pops: i32): void {
  underflow();
  setConditions(REL_UNORDERED);
  if (valid()) for (let i = 0; i < pops; i++) pop();
}

function arithmetic(op: i32, i: i32): void {
  if (op == COM || op == COMP) {
    if (empty(0) || empty(i)) {
      compareEmpty(op - COM);
      return;
    }
    setA(0);
    setB(i);
    compareInto(true, op - COM);
    return;
  }
  if (empty(0) || empty(i)) {
    if (underflow()) putIndefinite(0);
    return;
  }
  setA(0);
  setB(i);
  operate(op, 0);
}
function arithmeticTo(op: i32, i: i32, thenPop: bool): void {
  if (empty(0) || empty(i)) {
    if (underflow()) {
      putIndefinite(i);
      if (thenPop) pop();
    }
    return;
  }
  setA(i);
  setB(0);
  if (operate(op, i) && thenPop) pop();
}
function arithmeticMemory(op: i32, format: i32, value: u64): void {
  if (empty(0)) {
    if (op == COM || op == COMP) compareEmpty(op - COM);
    else if (underflow()) putIndefinite(0);
    return;
  }
  setA(0);
  setMemoryB(format, value);
  if (op == COM || op == COMP) compareInto(true, op - COM);
  else operate(op, 0);
}
/** Formats of memory operands, as in opcodes/x87.ts. */
const M32: i32 = 0;
const M64: i32 = 1;
const I16: i32 = 2;
const I32: i32 = 3;
const I64: i32 = 4;
const BCD: i32 = 5;

function setMemoryB(format: i32, value: u64): void {
  switch (format) {
    case M32: setB32(<u32>value); break;
    case M64: setB64(value); break;
    case I16: setBInt(<i64><i16>value); break;
    case I32: setBInt(<i64><i32>value); break;
    default: setBInt(<i64>value); break;
  }
}
function bytesOf(format: i32): i32 {
  switch (format) {
    case M32: case I32: return 4;
    case I16: return 2;
    case M64: case I64: return 8;
    default: return 10;
  }
}
/** Loads up to 8 bytes; check failed(). */
function loadBytes(linear: u64, bytes: i32): u64 {
  return bytes == 2 ? ld16(linear) : bytes == 4 ? ld32(linear) : ld64(linear);
}

// ---- loads and stores ----

function loadMemory(format: i32, low: u64, high: u32): void {
  if (!room()) {
    overflow();
    return;
  }
  if (format > BCD) {
    settle();
    push(high, low);
    return;
  }
  if (format == BCD) {
    let value: i64 = 0;
    for (let i = 8; i >= 0; i--) {
      const byte = i == 8 ? high & 0xff : <u32>(low >> (<u64>i << 3)) & 0xff;
      value = value * 100 + <i64>((byte >> 4) * 10 + (byte & 15));
    }
    setBInt(value);
    moveToA();
    copyA();
    finish80(64);
    settle();
    push((resultSe & 0x7fff) | (high & 0x8000), resultSig);
    return;
  }
  setMemoryB(format, low);
  moveToA();
  copyA();
  const loaded = valid();
  // Reported, but even unmasked it does not prevent the load.
  if (aDenormal) raiseFlags(FP_D);
  if (loaded) finish80(64);
  settle();
  if (loaded) push(resultSe, resultSig);
}

/** Binary to 18 packed decimal digits. */
function toBcd(magnitude: u64): u64 {
  let digits: u64 = 0;
  for (let i = 0; i < 64; i += 4) {
    digits |= (magnitude % 10) << i;
    magnitude /= 10;
  }
  bcdHigh = <u32>(magnitude % 10) | (<u32>(magnitude / 10) << 4);
  return digits;
}
let bcdHigh: u32 = 0;
const BCD_LIMIT: i64 = 1000000000000000000;

/**
 * An unmasked exception keeps a store back: AMD processors report a fault of its operand all the same, Intel ones do not look at it (measured
 * on an Intel Xeon, Cascade Lake).
 */
function keptBack(rec: usize, bytes: i32): void {
  if (!isAmd()) return;
  const to = operandAddress(rec, bytes, true);
  if (!failed()) probeWrite(to, bytes);
}

function storeMemory(rec: usize, format: i32, thenPop: bool, mode: i32): void {
  let low: u64 = INDEFINITE;
  let high: u32 = 0xffff;
  if (empty(0)) {
    if (!underflow()) {
      keptBack(rec, bytesOf(format));
      return;
    }
    switch (format) {
      case M32: low = 0xffc00000; break;
      case M64: low = 0xfff8000000000000; break;
      case I16: low = 0x8000; break;
      case I32: low = 0x80000000; break;
      case I64: low = TOP; break;
      case BCD: low = BCD_INDEFINITE; break;
    }
  } else {
    setA(0);
    switch (format) {
      case M32:
        copyA();
        if (valid()) low = finish32();
        break;
      case M64:
        copyA();
        if (valid()) low = finish64();
        break;
      case I16: low = <u64>toInt(16, mode); break;
      case I32: low = <u64>toInt(32, mode); break;
      case I64: low = <u64>toInt(64, mode); break;
      case BCD: {
        const before = raised;
        const value = toInt(64, mode);
        if (raised & FP_I || value >= BCD_LIMIT || value <= -BCD_LIMIT) {
          setRoundedUp(false);
          setRaised(before | FP_I);
          low = BCD_INDEFINITE;
        } else {
          low = toBcd(<u64>abs(value));
          high = bcdHigh | (aSign ? 0x8000 : 0);
        }
        break;
      }
      default:
        low = load<u64>(at(0));
        high = load<u16>(at(0), 8);
        break;
    }
    if (mode == RC_ZERO) setRoundedUp(false);
    if (noResult) {
      // Nothing is stored, so nothing was rounded.
      setRoundedUp(false);
      setRaised(raised & ~FP_P);
    }
    settle();
    if (!valid() || noResult) {
      keptBack(rec, bytesOf(format));
      return;
    }
  }
  const bytes = bytesOf(format);
  // Of ten bytes, Intel processors have stored the first eight if the others fault (SDM vol. 3, 8.1.1); AMD ones check all of them before.
  const to = operandAddress(rec, bytes > 8 && !isAmd() ? 8 : bytes, true);
  if (failed()) return;
  switch (bytes) {
    case 2: st16(to, low); break;
    case 4: st32(to, low); break;
    case 8: st64(to, low); break;
    default: {
      if (isAmd() && !probeWrite(to, 10)) return;
      st64(to, low);
      if (failed()) return;
      const rest = address(<i32>load<u8>(rec, REC_SEG), effectiveAddress(rec) + 8, 2, true);
      if (!failed()) st16(rest, high);
      break;
    }
  }
  if (!failed() && thenPop) pop();
}

// ---- environment and state images (SDM vol. 1, figures 8-9 to 8-12) ----

/** The full tag word: 0 valid, 1 zero, 2 special, 3 empty. */
function fullTags(): u32 {
  let tags: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) {
    let tag: u32 = 3;
    if ((ftw >> i) & 1) {
      const from = st + (<usize>R_FPR << 3) + (<usize>i << 4);
      const exp = <u32>load<u64>(from, 8) & 0x7fff;
      const sig = load<u64>(from);
      tag = exp == 0 ? (sig == 0 ? 1 : 2) : exp == 0x7fff || (sig & TOP) == 0 ? 2 : 0;
    }
    tags |= tag << (i << 1);
  }
  return tags;
}
function wideImage(rec: usize): bool {
  return load<u8>(rec, REC_SIZE) >= 2;
}

// An image in memory is read and written whole, before anything of it is kept.
const IMAGE: usize = memory.data(112);

/** Puts the environment into IMAGE. */
function storeEnvironment(wide: bool): void {
  const fip = reg(R_FIP);
  const fdp = reg(R_FDP);
  const fop = reg(R_FOP);
  // Real and virtual-8086 mode: linear addresses.
  const ip = <u64><u32>(fip + (reg(R_FCS) << 4));
  const dp = <u64><u32>(fdp + (reg(R_FDS) << 4));
  const tags = fullTags();
  if (wide) {
    store<u32>(IMAGE, <u32>(fcw | 0xffff0000));
    store<u32>(IMAGE, <u32>(fsw | 0xffff0000), 4);
    store<u32>(IMAGE, <u32>(tags | 0xffff0000), 8);
    if (protectedMode) {
      store<u32>(IMAGE, <u32>(fip & 0xffffffff), 12);
      store<u32>(IMAGE, <u32>(reg(R_FCS) | (fop << 16)), 16);
      store<u32>(IMAGE, <u32>(fdp & 0xffffffff), 20);
      store<u32>(IMAGE, <u32>(reg(R_FDS) | 0xffff0000), 24);
    } else {
      store<u32>(IMAGE, <u32>((ip & 0xffff) | 0xffff0000), 12);
      store<u32>(IMAGE, <u32>(fop | ((ip >> 16) << 12)), 16);
      store<u32>(IMAGE, <u32>((dp & 0xffff) | 0xffff0000), 20);
      store<u32>(IMAGE, <u32>((dp >> 16) << 12), 24);
    }
    return;
  }
  store<u16>(IMAGE, <u16>(fcw));
  store<u16>(IMAGE, <u16>(fsw), 2);
  store<u16>(IMAGE, <u16>(tags), 4);
  if (protectedMode) {
    store<u16>(IMAGE, <u16>(fip & 0xffff), 6);
    store<u16>(IMAGE, <u16>(reg(R_FCS)), 8);
    store<u16>(IMAGE, <u16>(fdp & 0xffff), 10);
    store<u16>(IMAGE, <u16>(reg(R_FDS)), 12);
  } else {
    store<u16>(IMAGE, <u16>(ip & 0xffff), 6);
    store<u16>(IMAGE, <u16>(fop | ((ip >> 4) & 0xf000)), 8);
    store<u16>(IMAGE, <u16>(dp & 0xffff), 10);
    store<u16>(IMAGE, <u16>((dp >> 4) & 0xf000), 12);
  }
}

/** Accesses of an image: their size is its alignment where that is checked (SDM vol. 3, table 6-7), else few and large. */
function chunkOf(i: i32, bytes: i32, wide: bool): i32 {
  const most = alignmentChecked ? (wide ? 4 : 2) : 8;
  const rest = bytes - i;
  return rest >= most ? most : rest >= 4 ? 4 : 2;
}
/** Checks the pages of an image before it is stored: a fault reports its first doubleword or word, or its last byte, as AMD's do. */
function writable(to: u64, bytes: i32, wide: bool): bool {
  return probeWrite(to, wide ? 4 : 2) && probeWrite(to + (bytes - 1), 1);
}
/** Copies IMAGE to memory, after writable(). */
function writeImage(to: u64, bytes: i32, wide: bool): void {
  let n = 0;
  for (let i = 0; i < bytes && !failed(); i += n) {
    n = chunkOf(i, bytes, wide);
    if (n == 8) st64(to + i, load<u64>(IMAGE + i));
    else if (n == 4) st32(to + i, load<u32>(IMAGE + i));
    else st16(to + i, load<u16>(IMAGE + i));
  }
}
/** Copies an image of `bytes` bytes from memory to IMAGE; false with a fault or exit pending. */
function readImage(from: u64, bytes: i32, wide: bool): bool {
  if (!probeRead(from, wide ? 4 : 2) || !probeRead(from + (bytes - 1), 1)) return false;
  let n = 0;
  for (let i = 0; i < bytes && !failed(); i += n) {
    n = chunkOf(i, bytes, wide);
    if (n == 8) store<u64>(IMAGE + i, ld64(from + i));
    else if (n == 4) store<u32>(IMAGE + i, <u32>ld32(from + i));
    else store<u16>(IMAGE + i, <u16>ld16(from + i));
  }
  return !failed();
}
function loadEnvironment(wide: bool): void {
  let tags: u32;
  let fip: u64;
  let fcs: u64;
  let fdp: u64;
  let fds: u64;
  let fop: u64 = 0;
  fcw = load<u16>(IMAGE);
  if (wide) {
    fsw = load<u16>(IMAGE, 4);
    tags = load<u16>(IMAGE, 8);
    fip = load<u32>(IMAGE, 12);
    fcs = load<u16>(IMAGE, 16);
    fop = load<u16>(IMAGE + (protectedMode ? 18 : 16)) & 0x7ff;
    fdp = load<u32>(IMAGE, 20);
    fds = load<u16>(IMAGE, 24);
    if (!protectedMode) {
      fip = (fip & 0xffff) | (<u64>((load<u32>(IMAGE, 16) >> 12) & 0xffff) << 16);
      fdp = (fdp & 0xffff) | (<u64>((load<u32>(IMAGE, 24) >> 12) & 0xffff) << 16);
      fcs = 0;
      fds = 0;
    }
  } else {
    fsw = load<u16>(IMAGE, 2);
    tags = load<u16>(IMAGE, 4);
    fip = load<u16>(IMAGE, 6);
    fcs = load<u16>(IMAGE, 8);
    fdp = load<u16>(IMAGE, 10);
    fds = load<u16>(IMAGE, 12);
    if (!protectedMode) {
      fop = fcs & 0x7ff;
      fip |= (fcs & 0xf000) << 4;
      fdp |= (fds & 0xf000) << 4;
      fcs = 0;
      fds = 0;
    }
  }
  ftw = 0;
  for (let i = 0; i < 8; i++) if (((tags >> (i << 1)) & 3) != 3) ftw |= 1 << i;
  setReg(R_FIP, fip);
  setReg(R_FCS, fcs);
  setReg(R_FDP, fdp);
  setReg(R_FDS, fds);
  setReg(R_FOP, fop);
  setControl(fcw);
}
/** Bit 6 of FCW reads as 1, bits 7 and 15:13 as 0. */
function setControl(value: u32): void {
  fcw = (value & 0x1f3f) | 0x40;
}
function initialise(): void {
  fcw = FCW_INIT;
  fsw = 0;
  ftw = 0;
  setReg(R_FIP, 0);
  setReg(R_FCS, 0);
  setReg(R_FDP, 0);
  setReg(R_FDS, 0);
  setReg(R_FOP, 0);
}

function fnstenv(rec: usize): void {
  const wide = wideImage(rec);
  const bytes = wide ? 28 : 14;
  const to = operandAddress(rec, bytes, true);
  if (failed() || !writable(to, bytes, wide)) return;
  storeEnvironment(wide);
  writeImage(to, bytes, wide);
  if (!failed()) fcw |= 0x3f;
}
function fldenv(rec: usize): void {
  const wide = wideImage(rec);
  const bytes = wide ? 28 : 14;
  const from = operandAddress(rec, bytes, false);
  if (!failed() && readImage(from, bytes, wide)) loadEnvironment(wide);
}
function fnsave(rec: usize): void {
  const wide = wideImage(rec);
  const start = wide ? 28 : 14;
  const to = operandAddress(rec, start + 80, true);
  if (failed() || !writable(to, start + 80, wide)) return;
  storeEnvironment(wide);
  for (let i = 0; i < 8; i++) {
    const value = IMAGE + start + i * 10;
    store<u64>(value, load<u64>(at(i)));
    store<u16>(value, load<u16>(at(i), 8), 8);
  }
  writeImage(to, start + 80, wide);
  if (!failed()) initialise();
}
function frstor(rec: usize): void {
  const wide = wideImage(rec);
  const start = wide ? 28 : 14;
  const from = operandAddress(rec, start + 80, false);
  if (failed() || !readImage(from, start + 80, wide)) return;
  loadEnvironment(wide);
  const tags = ftw;
  for (let i = 0; i < 8; i++) {
    const value = IMAGE + start + i * 10;
    put(i, load<u16>(value, 8), load<u64>(value));
  }
  ftw = tags;
}

// ---- the other instructions ----

/** Loads of constants: significand cut off, exponent, and whether nearest is one more (SDM vol. 2, FLD1 …). */
function loadConstant(which: i32): void {
  if (!room()) {
    overflow();
    return;
  }
  let sig: u64 = TOP;
  let exp: u32 = 0x3fff;
  let nearestUp = false;
  switch (which) {
    case 1: sig = 0xd49a784bcd1b8afe; exp = 0x4000; break;
    case 2: sig = 0xb8aa3b295c17f0bb; nearestUp = true; break;
    case 3: sig = 0xc90fdaa22168c234; exp = 0x4000; nearestUp = true; break;
    case 4: sig = 0x9a209a84fbcff798; exp = 0x3ffd; nearestUp = true; break;
    case 5: sig = 0xb17217f7d1cf79ab; exp = 0x3ffe; nearestUp = true; break;
    case 6: sig = 0; exp = 0; break;
  }
  if (which >= 1 && which <= 5 && (roundingMode == RC_UP || (roundingMode == 0 && nearestUp))) sig++;
  settle();
  push(exp, sig);
}

function examine(): void {
  fsw &= ~SW_CC;
  const from = at(0);
  if (load<u64>(from, 8) & 0x8000) fsw |= SW_C1;
  if (empty(0)) {
    fsw |= SW_C3 | SW_C0;
    return;
  }
  setA(0);
  switch (aKind) {
    case ZERO: fsw |= SW_C3; break;
    case FINITE: fsw |= aDenormal ? SW_C3 | SW_C2 : SW_C2; break;
    case INFINITE: fsw |= SW_C2 | SW_C0; break;
    case QNAN: case SNAN: fsw |= SW_C0; break;
  }
}

/** FCOMI and its kin: bit 0 pops, bit 1 is for quiet comparison. RFLAGS change even if an unmasked exception keeps the pop back. */
function compareToFlags(i: i32, how: i32): void {
  const signalling = (how & 2) == 0;
  let relation = REL_UNORDERED;
  if (empty(0) || empty(i)) underflow();
  else {
    setA(0);
    setB(i);
    relation = compare(signalling);
    // Left alone by AMD processors and, whatever SDM vol. 2, FCOMI says, by Intel ones (measured on an Intel Xeon, Cascade Lake).
    setRoundedUp((fsw & SW_C1) != 0);
    settle();
  }
  setArithFlags(
    relation == REL_EQUAL ? FLAG_ZF : relation == REL_LESS ? FLAG_CF : relation == REL_GREATER ? 0 : FLAG_ZF | FLAG_PF | FLAG_CF,
  );
  if ((how & 1) != 0 && valid()) pop();
}

/** FCMOVcc: B, E, BE, U as conditions of Jcc. */
function moveIf(which: i32, i: i32): void {
  if (empty(0) || empty(i)) {
    if (underflow()) putIndefinite(0);
    return;
  }
  const code = (which & 3) == 0 ? 2 : (which & 3) == 1 ? 4 : (which & 3) == 2 ? 6 : 10;
  if (condition(code | (which >> 2))) {
    const from = at(i);
    put(0, <u32>load<u64>(from, 8), load<u64>(from));
  }
}

function exchange(i: i32): void {
  if (empty(0) || empty(i)) {
    if (!underflow()) return;
    if (empty(0)) putIndefinite(0);
    if (empty(i)) putIndefinite(i);
  } else settle();
  const a = at(0);
  const b = at(i);
  const se = <u32>load<u64>(a, 8);
  const sig = load<u64>(a);
  put(0, <u32>load<u64>(b, 8), load<u64>(b));
  put(i, se, sig);
}

/** A function of ST(0) alone: true if it may go on, with A loaded. */
function one(): bool {
  if (empty(0)) {
    if (underflow()) putIndefinite(0);
    return false;
  }
  setA(0);
  return true;
}
/** The same of ST(0) and ST(1); the result of a masked underflow goes to ST(`to`), popping if that is ST(1). A = ST(0), B = ST(1). */
function two(to: i32): bool {
  if (empty(0) || empty(1)) {
    if (underflow()) {
      putIndefinite(to);
      if (to == 1) pop();
    }
    return false;
  }
  setA(0);
  setB(1);
  return true;
}

/** Of an instruction with one operand that pushes a second result: masked, both are the indefinite. */
function stackFault(): bool {
  if (empty(0)) {
    if (underflow()) {
      putIndefinite(0);
      push(0xffff, INDEFINITE);
    }
    return true;
  }
  if (room()) return false;
  overflow();
  if (valid()) putIndefinite(1);
  return true;
}

function extract(): void {
  if (stackFault()) return;
  setA(0);
  if (aKind >= QNAN) {
    copyA();
    if (!deliver(0, 64)) return;
    push(resultSe, resultSig);
    return;
  }
  if (aKind == ZERO) {
    raiseFlags(FP_Z);
    settle();
    if (!valid()) return;
    put(0, 0xffff, TOP);
    push(aSign ? 0x8000 : 0, 0);
    return;
  }
  if (aKind == INFINITE) {
    settle();
    put(0, 0x7fff, TOP);
    push(aSign ? 0xffff : 0x7fff, TOP);
    return;
  }
  if (aDenormal) raiseFlags(FP_D);
  settle();
  if (!valid()) return;
  const sign: u32 = aSign ? 0x8000 : 0;
  const sig = aSig;
  setBInt(<i64>aExp);
  moveToA();
  copyA();
  finish80(64);
  putResult(0);
  push(sign | 0x3fff, sig);
}

function partialRemainder(nearest: bool): void {
  fsw &= ~SW_C2;
  if (!two(0)) return;
  remainder(nearest);
  if (!deliver(0, 64) || zKind >= QNAN) return;
  const q = quotient;
  fsw &= ~SW_CC;
  if (partial) fsw |= SW_C2;
  else fsw |= (q & 1 ? SW_C1 : 0) | (q & 2 ? SW_C3 : 0) | (q & 4 ? SW_C0 : 0);
}

function stepByIndex(rec: usize): i32 {
  return <i32>(load<u8>(rec, REC_E) >> 3) & 7;
}

// ---- dispatch ----

/** Instructions that neither wait for a pending exception nor move the pointers. */
function nonWaiting(handler: i32): bool {
  switch (handler) {
    case H.H_FNSTENV: case H.H_FNSTCW: case H.H_FNSAVE: case H.H_FNSTSW: case H.H_FNCLEX: case H.H_FNINIT: case H.H_FNNOP:
      return true;
    default:
      return false;
  }
}
function control(handler: i32): bool {
  return handler == H.H_FLDENV || handler == H.H_FLDCW || handler == H.H_FRSTOR || handler == H.H_FWAIT;
}

/** An unmasked exception is pending and is to be reported. */
export function errorPending(): bool {
  return (reg32(R_FSW) & SW_ES) != 0 && (reg(R_CR0) & CR0_NE) != 0;
}

/** Executes an instruction of a row with the attribute x87. */
export function x87(rec: usize): void {
  const handler = <i32>load<u16>(rec, REC_HANDLER);
  const cr0 = reg(R_CR0);
  if (handler == H.H_FWAIT ? (cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS) : (cr0 & (CR0_EM | CR0_TS)) != 0) {
    raise(NM);
    return;
  }
  fcw = reg32(R_FCW);
  fsw = reg32(R_FSW);
  ftw = reg32(R_FTW);
  const waits = !nonWaiting(handler);
  if (waits && errorPending()) {
    raise(MF);
    return;
  }
  beginX87(fcw);
  if (!waits || control(handler)) controlInstruction(rec, handler);
  else {
    // Operands are read, and stores made, before the pointers move: an access that faults leaves them.
    instruction(rec, handler);
    if (failed()) return;
    setReg(R_FIP, curRip);
    setReg(R_FCS, reg(R_SEL + SEG_CS) & 0xffff);
    setReg(R_FOP, load<u64>(rec, REC_IMM));
    if (inMemory(rec)) {
      setReg(R_FDP, effectiveAddress(rec));
      setReg(R_FDS, reg(R_SEL + <i32>load<u8>(rec, REC_SEG)) & 0xffff);
    }
  }
  if (failed()) return;
  if (fsw & ~fcw & 0x3f) fsw |= SW_ES | SW_B;
  else fsw &= ~(SW_ES | SW_B);
  setReg(R_FCW, fcw);
  setReg(R_FSW, fsw);
  setReg(R_FTW, ftw);
}

function controlInstruction(rec: usize, handler: i32): void {
  switch (handler) {
    case H.H_FLDENV: fldenv(rec); break;
    case H.H_FNSTENV: fnstenv(rec); break;
    case H.H_FRSTOR: frstor(rec); break;
    case H.H_FNSAVE: fnsave(rec); break;
    case H.H_FLDCW: {
      const from = operandAddress(rec, 2, false);
      if (failed()) return;
      const value = <u32>ld16(from);
      if (!failed()) setControl(value);
      break;
    }
    case H.H_FNSTCW: {
      const to = operandAddress(rec, 2, true);
      if (!failed()) st16(to, fcw);
      break;
    }
    case H.H_FNSTSW: {
      if (load<u8>(rec, REC_SUB)) {
        store<u16>(st + (R_RAX << 3), <u16>fsw);
        break;
      }
      const to = operandAddress(rec, 2, true);
      if (!failed()) st16(to, fsw);
      break;
    }
    case H.H_FNCLEX: fsw &= ~(SW_B | SW_ES | SW_SF | 0x3f); break;
    case H.H_FNINIT: initialise(); break;
  }
}

function instruction(rec: usize, handler: i32): void {
  const sub = <i32>load<u8>(rec, REC_SUB);
  const i = stepByIndex(rec);
  switch (handler) {
    case H.H_FARITH_M: {
      const format = sub >> 3;
      const bytes = bytesOf(format);
      const from = operandAddress(rec, bytes, false);
      if (failed()) return;
      const value = loadBytes(from, bytes);
      if (!failed()) arithmeticMemory(sub & 7, format, value);
      break;
    }
    case H.H_FARITH: arithmetic(sub, i); break;
    case H.H_FARITH_TO: arithmeticTo(sub & 7, i, sub >= 8); break;
    case H.H_FCOMPP: case H.H_FUCOM: {
      const other = handler == H.H_FCOMPP ? 1 : i;
      const pops = handler == H.H_FCOMPP ? 2 : sub;
      if (empty(0) || empty(other)) {
        compareEmpty(pops);
        return;
      }
      setA(0);
      setB(other);
      compareInto(handler == H.H_FCOMPP && sub == 0, pops);
      break;
    }
    case H.H_FCOMI: compareToFlags(i, sub); break;
    case H.H_FTST:
      if (empty(0)) {
        compareEmpty(0);
        return;
      }
      setA(0);
      setBInt(0);
      compareInto(true, 0);
      break;
    case H.H_FLD_M: {
      const bytes = bytesOf(sub);
      const from = operandAddress(rec, bytes, false);
      if (failed()) return;
      const low = loadBytes(from, bytes);
      if (failed()) return;
      const high = bytes == 10 ? <u32>ld16(from + 8) : 0;
      if (!failed()) loadMemory(sub, low, high);
      break;
    }
    case H.H_FST_M: storeMemory(rec, sub & 7, (sub & 8) != 0, sub & 16 ? RC_ZERO : RC_CURRENT); break;
    case H.H_FLD:
      if (empty(i)) {
        if (underflow()) push(0xffff, INDEFINITE);
        return;
      }
      if (!room()) {
        overflow();
        return;
      }
      settle();
      push(<u32>load<u64>(at(i), 8), load<u64>(at(i)));
      break;
    case H.H_FST:
      if (sub == 2) {
        // No check of the stack: an empty register is popped and not stored.
        if (!empty(0)) put(i, <u32>load<u64>(at(0), 8), load<u64>(at(0)));
        fsw &= ~SW_C1;
        pop();
        return;
      }
      if (empty(0)) {
        if (!underflow()) return;
        putIndefinite(i);
      } else {
        settle();
        put(i, <u32>load<u64>(at(0), 8), load<u64>(at(0)));
      }
      if (sub) pop();
      break;
    case H.H_FXCH: exchange(i); break;
    case H.H_FFREE:
      ftw &= ~(1 << physical(i));
      fsw &= ~SW_C1;
      if (sub) pop();
      break;
    case H.H_FCMOV: moveIf(sub, i); break;
    case H.H_FSIGN: {
      if (empty(0)) {
        if (underflow()) putIndefinite(0);
        return;
      }
      settle();
      const se = <u32>load<u64>(at(0), 8) & 0xffff;
      put(0, sub ? se & 0x7fff : se ^ 0x8000, load<u64>(at(0)));
      break;
    }
    case H.H_FXAM: examine(); break;
    case H.H_FLD_CONST: loadConstant(sub); break;
    case H.H_FSTEP:
      turn(<u32>sub);
      fsw &= ~SW_C1;
      break;
    case H.H_FXTRACT: extract(); break;
    case H.H_FPREM: partialRemainder(sub != 0); break;
    case H.H_FSQRT:
      if (!one()) return;
      squareRoot();
      deliver(0, precision);
      break;
    case H.H_FRNDINT: {
      if (!one()) return;
      if (aDenormal) raiseFlags(FP_D);
      roundInt(RC_CURRENT, false);
      const up = roundedUp;
      // The second rounding, of an integral value, was none.
      if (deliver(0, 64) && up) fsw |= SW_C1;
      break;
    }
    case H.H_FSCALE:
      if (!two(0)) return;
      scale();
      deliver(0, 64);
      break;
    case H.H_F2XM1:
      if (!one()) return;
      if (!nan1()) exponential();
      deliver(0, 64);
      break;
    case H.H_FYL2X: case H.H_FYL2XP1: case H.H_FPATAN:
      if (!two(1)) return;
      if (!nan2()) {
        if (handler == H.H_FYL2X) logarithm();
        else if (handler == H.H_FYL2XP1) logarithmPlusOne();
        else arctangent();
      }
      if (deliver(1, 64)) pop();
      break;
    case H.H_FSIN:
      fsw &= ~SW_C2;
      if (!one()) return;
      if (!angle()) return;
      if (aKind <= FINITE) sine(sub != 0);
      deliver(0, 64);
      break;
    case H.H_FPTAN: case H.H_FSINCOS: sineAndMore(handler == H.H_FPTAN); break;
  }
}

/** Reduces A, or leaves the result for one that has no sine in Z. False with C2 set if A is out of range (SDM vol. 1, 8.3.8). */
function angle(): bool {
  fsw &= ~SW_C1;
  if (nan1()) return true;
  if (aKind == INFINITE) {
    defaultNan();
    return true;
  }
  if (reduceAngle()) return true;
  fsw |= SW_C2;
  return false;
}
/** FPTAN and FSINCOS: the second result is pushed. */
function sineAndMore(tan: bool): void {
  fsw &= ~SW_C2;
  if (stackFault()) return;
  setA(0);
  if (!angle()) return;
  if (aKind > FINITE) {
    if (deliver(0, 64)) push(resultSe, resultSig);
    return;
  }
  if (tan) tangent();
  else sine(false);
  if (!deliver(0, 64)) return;
  if (tan) {
    push(0x3fff, TOP);
    return;
  }
  sine(true);
  finish80(64);
  settle();
  push(resultSe, resultSig);
}
