// Images of x87 and SSE state in memory: FXSAVE, FXRSTOR and the XSAVE family (SDM vol. 1, 10.5 and chapter 13), LDMXCSR, STMXCSR, XGETBV,
// XSETBV; and the other instructions of opcodes/state.ts.
//
// The processor knows the state components x87 (bit 0 of XCR0), SSE (bit 1) and PKRU (bit 9), no supervisor state, and tracks no
// modifications: XSAVEOPT and XSAVES leave out only what is in its initial configuration. PKRU is right behind the header in both formats.

import * as H from './tables.generated';
import {
  EXIT_MONITOR, EXIT_MWAIT, EXIT_RDPMC, EXIT_XSETBV, FCW_INIT, MXCSR_RESET, R_BASE, R_CR0, R_CR4, R_FCS, R_FCW, R_FDP, R_FDS, R_FIP, R_FOP, R_FPR, R_FSW,
  R_FTW, R_MXCSR, R_PKRU, R_RAX, R_RCX, R_RDX, R_XCR0, R_XMM,
} from './layout';
import {
  CR0_EM, CR0_TS, CR4_FSGSBASE, CR4_OSFXSR, CR4_OSXSAVE, CR4_PCE, GP, NM, UD, codeMode, cpl, failed, flushTlb, isAmd, isCanonicalBase, leave, raise,
  raiseError, reg, reg32, setReg, st,
} from './state';
import { ld32, ld64, ld8, probeWrite, st32, st64 } from './mmu';
import { MORE_SSE, REC_E, REC_HANDLER, REC_SEG, REC_SUB } from './record';
import { address, addressMask, getAt, operandAddress, putAt, putSlot, sizeOf } from './operand';
import { alignedAddress, simdReady } from './simd';
import { requireCpl0 } from './system';

/** The bits that MXCSR has; AMD's include MM, misaligned exceptions masked. */
export function mxcsrMask(): u32 {
  return isAmd() ? 0x2ffff : 0xffff;
}

const X87: u64 = 1;
const SSE: u64 = 2;
const PKRU: u64 = 1 << 9;
const COMPACTED: u64 = 1 << 63;
const LEGACY_BYTES: i32 = 512;
const XSAVE_BYTES: i32 = 576;
const PKRU_BYTES: i32 = 8;

// Offsets in an image (SDM vol. 1, table 10-2 and 13.4).
const AT_FIP: u64 = 8;
const AT_FDP: u64 = 16;
const AT_MXCSR: u64 = 24;
const AT_ST: u64 = 32;
const AT_XMM: u64 = 160;
const AT_XSTATE_BV: u64 = 512;
const AT_XCOMP_BV: u64 = 520;
const AT_PKRU: u64 = 576;

/** XMM registers of the current mode. */
// @ts-ignore: decorator
@inline function xmmCount(): i32 {
  return codeMode == 2 ? 16 : 8;
}

// ---- components ----

/** Stores the x87 component; `wide`: 64-bit pointers instead of 32-bit ones with selectors. Nothing here can fault. */
function saveX87(at: u64, wide: bool): void {
  const fsw = reg(R_FSW) & 0xffff;
  // Intel keeps the pointers always; AMD stores zeros while no exception is pending.
  const keep: u64 = !isAmd() || (fsw & 0x80) != 0 ? ~(<u64>0) : 0;
  st64(at, (reg(R_FCW) & 0xffff) | (fsw << 16) | ((reg(R_FTW) & 0xff) << 32) | (((reg(R_FOP) & keep) & 0x7ff) << 48));
  st64(at + AT_FIP, keep & (wide ? reg(R_FIP) : (reg(R_FIP) & 0xffffffff) | ((reg(R_FCS) & 0xffff) << 32)));
  st64(at + AT_FDP, keep & (wide ? reg(R_FDP) : (reg(R_FDP) & 0xffffffff) | ((reg(R_FDS) & 0xffff) << 32)));
  const top = <i32>(fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const slot = R_FPR + ((top + i) & 7) * 2;
    const to = at + AT_ST + (<u64>i << 4);
    st64(to, reg(slot));
    st64(to + 8, reg(slot + 1) & 0xffff);
  }
}
/** Linear addresses of 57 bits, sign-extended. */
function pointer(value: u64): u64 {
  return <u64>(<i64>(value << 7) >> 7);
}
function restoreX87(at: u64, wide: bool): void {
  const word = ld64(at);
  const fcw = (word & 0x1f3f) | 0x40;
  // ES and B follow from the flags and their masks.
  const fsw = (word >> 16) & 0x7f7f;
  const pending = (fsw & ~fcw & 0x3f) != 0;
  setReg(R_FCW, fcw);
  setReg(R_FSW, fsw | (pending ? 0x8080 : 0));
  setReg(R_FTW, (word >> 32) & 0xff);
  setReg(R_FOP, (word >> 48) & 0x7ff);
  const fip = ld64(at + AT_FIP);
  const fdp = ld64(at + AT_FDP);
  setReg(R_FIP, wide ? pointer(fip) : fip & 0xffffffff);
  setReg(R_FCS, wide ? 0 : (fip >> 32) & 0xffff);
  setReg(R_FDP, wide ? pointer(fdp) : fdp & 0xffffffff);
  setReg(R_FDS, wide ? 0 : (fdp >> 32) & 0xffff);
  const top = <i32>(fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const slot = R_FPR + ((top + i) & 7) * 2;
    const from = at + AT_ST + (<u64>i << 4);
    setReg(slot, ld64(from));
    setReg(slot + 1, ld64(from + 8) & 0xffff);
  }
}
function initX87(): void {
  setReg(R_FCW, FCW_INIT);
  for (let slot = R_FSW; slot <= R_FDS; slot++) setReg(slot, 0);
  memory.fill(st + (R_FPR << 3), 0, 128);
}
function x87InUse(): bool {
  if (reg(R_FCW) != FCW_INIT) return true;
  let bits: u64 = 0;
  for (let slot = R_FSW; slot <= R_FDS; slot++) bits |= reg(slot);
  for (let slot = R_FPR; slot < R_FPR + 16; slot++) bits |= reg(slot);
  return bits != 0;
}

function saveXmm(at: u64): void {
  for (let i = 0; i < xmmCount() * 2; i++) st64(at + AT_XMM + (<u64>i << 3), reg(R_XMM + i));
}
function restoreXmm(at: u64): void {
  for (let i = 0; i < xmmCount() * 2; i++) setReg(R_XMM + i, ld64(at + AT_XMM + (<u64>i << 3)));
}
function xmmInUse(): bool {
  let bits: u64 = 0;
  for (let i = 0; i < xmmCount() * 2; i++) bits |= reg(R_XMM + i);
  return bits != 0;
}
function saveMxcsr(at: u64): void {
  st64(at + AT_MXCSR, <u64>reg32(R_MXCSR) | (<u64>mxcsrMask() << 32));
}

/** XINUSE (SDM vol. 1, 13.6): what differs from its initial configuration. MXCSR counts only where it is part of the SSE component. */
function inUse(withMxcsr: bool): u64 {
  return (
    (x87InUse() ? X87 : 0) | (xmmInUse() || (withMxcsr && reg32(R_MXCSR) != MXCSR_RESET) ? SSE : 0) | (reg32(R_PKRU) != 0 ? PKRU : 0)
  );
}

// ---- access ----

/** Linear address of an image to write; check failed(). Stores to it cannot fault afterwards. Processors look at the last byte first. */
function imageToWrite(rec: usize, bytes: i32, alignment: u64): u64 {
  const at = alignedAddress(rec, bytes, alignment, true);
  if (!failed() && probeWrite(at + bytes - 1, 1)) probeWrite(at, bytes);
  return at;
}
/** Linear address of an image to read; check failed(). Loads from it cannot fault afterwards. */
function imageToRead(rec: usize, bytes: i32, alignment: u64): u64 {
  const at = alignedAddress(rec, bytes, alignment, false);
  if (failed()) return 0;
  ld8(at + bytes - 1);
  if (!failed()) ld8(at);
  return at;
}

/** #NM for FXSAVE and FXRSTOR (SDM vol. 3, table 2-2). */
function fxReady(): bool {
  if ((reg(R_CR0) & (CR0_EM | CR0_TS)) == 0) return true;
  raise(NM);
  return false;
}
/** #UD without CR4.OSXSAVE, #NM with CR0.TS. */
function xsaveReady(): bool {
  if ((reg(R_CR4) & CR4_OSXSAVE) == 0) raise(UD);
  else if (reg(R_CR0) & CR0_TS) raise(NM);
  else return true;
  return false;
}
/** Bytes of an image of these components. */
function areaBytes(components: u64): i32 {
  return components & PKRU ? XSAVE_BYTES + PKRU_BYTES : XSAVE_BYTES;
}
/** XCR0 masked by EDX:EAX. */
function requested(): u64 {
  return reg(R_XCR0) & ((reg(R_RDX) << 32) | (reg(R_RAX) & 0xffffffff));
}

// ---- instructions ----

function fxsave(rec: usize): void {
  if (!fxReady()) return;
  const at = imageToWrite(rec, LEGACY_BYTES, 16);
  if (failed()) return;
  saveX87(at, sizeOf(rec) == 3);
  if ((reg(R_CR4) & CR4_OSFXSR) == 0) return;
  saveMxcsr(at);
  saveXmm(at);
}
function fxrstor(rec: usize): void {
  if (!fxReady()) return;
  const at = imageToRead(rec, LEGACY_BYTES, 16);
  if (failed()) return;
  const sse = (reg(R_CR4) & CR4_OSFXSR) != 0;
  const mxcsr = <u32>ld32(at + AT_MXCSR);
  if (sse && (mxcsr & ~mxcsrMask()) != 0) {
    raiseError(GP, 0);
    return;
  }
  restoreX87(at, sizeOf(rec) == 3);
  if (!sse) return;
  setReg(R_MXCSR, mxcsr);
  restoreXmm(at);
}

// The sub-operations of H_XSAVE.
const OPTIMISED: i32 = 1;
const COMPACT: i32 = 2;
const SUPERVISOR: i32 = 3;

function xsave(rec: usize): void {
  const kind = <i32>load<u8>(rec, REC_SUB);
  if (!xsaveReady() || (kind == SUPERVISOR && !requireCpl0())) return;
  const wanted = requested();
  const at = imageToWrite(rec, areaBytes(wanted), 64);
  if (failed()) return;
  const used = inUse(kind >= COMPACT);
  const saved = kind == 0 ? wanted : wanted & used;
  if (saved & X87) saveX87(at, sizeOf(rec) == 3);
  if (saved & SSE) saveXmm(at);
  if (saved & PKRU) st64(at + AT_PKRU, reg32(R_PKRU));
  // The standard format has MXCSR whenever SSE is asked for, the compacted one when it is saved.
  if ((kind >= COMPACT ? saved : wanted) & SSE) saveMxcsr(at);
  if (kind >= COMPACT) {
    st64(at + AT_XSTATE_BV, saved);
    st64(at + AT_XCOMP_BV, wanted | COMPACTED);
  } else st64(at + AT_XSTATE_BV, (ld64(at + AT_XSTATE_BV) & ~wanted) | (wanted & used));
}

function xrstor(rec: usize): void {
  const supervisor = load<u8>(rec, REC_SUB) != 0;
  if (!xsaveReady() || (supervisor && !requireCpl0())) return;
  const wanted = requested();
  const at = imageToRead(rec, areaBytes(wanted), 64);
  if (failed()) return;
  const present = ld64(at + AT_XSTATE_BV);
  const format = ld64(at + AT_XCOMP_BV);
  const compacted = (format & COMPACTED) != 0;
  const mxcsr = <u32>ld32(at + AT_MXCSR);
  // Which part of the header must be zero (SDM vol. 1, 13.8.1 and 13.8.2).
  let bad = ld64(at + 528);
  if (compacted) {
    for (let offset: u64 = 536; offset < 576; offset += 8) bad |= ld64(at + offset);
    bad |= (format & ~COMPACTED & ~reg(R_XCR0)) | (present & ~format);
    bad |= present & COMPACTED;
  } else bad |= format | (present & ~reg(R_XCR0)) | (supervisor ? 1 : 0);
  const loadsMxcsr: bool = (wanted & SSE) != 0 && (!compacted || (present & SSE) != 0);
  if (loadsMxcsr) bad |= mxcsr & ~mxcsrMask();
  if (bad) {
    raiseError(GP, 0);
    return;
  }
  if (wanted & X87) {
    if (present & X87) restoreX87(at, sizeOf(rec) == 3);
    else initX87();
  }
  if (wanted & SSE) {
    if (present & SSE) restoreXmm(at);
    else memory.fill(st + (R_XMM << 3), 0, xmmCount() * 16);
    setReg(R_MXCSR, loadsMxcsr ? mxcsr : MXCSR_RESET);
  }
  if (wanted & PKRU) {
    setReg(R_PKRU, present & PKRU ? ld32(at + AT_PKRU) : 0);
    flushTlb();
  }
}

function xgetbv(): void {
  if ((reg(R_CR4) & CR4_OSXSAVE) == 0) {
    raise(UD);
    return;
  }
  const index = <u32>reg(R_RCX);
  if (index > 1) {
    raiseError(GP, 0);
    return;
  }
  const value = index == 0 ? reg(R_XCR0) : reg(R_XCR0) & inUse(true);
  putSlot(R_RAX, 2, value);
  putSlot(R_RDX, 2, value >> 32);
}

/** The host checks the value. On AMD the intercept comes before the check of the CPL. */
function xsetbv(): void {
  if ((reg(R_CR4) & CR4_OSXSAVE) == 0) raise(UD);
  else if (isAmd() || requireCpl0()) leave(EXIT_XSETBV, 0, 0, 0);
}

function readBase(rec: usize): void {
  if ((reg(R_CR4) & CR4_FSGSBASE) == 0) raise(UD);
  else putAt(load<u8>(rec, REC_E), sizeOf(rec), reg(R_BASE + <i32>load<u8>(rec, REC_SUB)));
}
function writeBase(rec: usize): void {
  if ((reg(R_CR4) & CR4_FSGSBASE) == 0) {
    raise(UD);
    return;
  }
  const base = getAt(load<u8>(rec, REC_E), sizeOf(rec));
  if (isCanonicalBase(base)) setReg(R_BASE + <i32>load<u8>(rec, REC_SUB), base);
  else raiseError(GP, 0);
}

/** CLZERO (APM vol. 3): stores zeros into the cache line that rAX points into. */
function clzero(rec: usize): void {
  if (!isAmd()) {
    raise(UD);
    return;
  }
  const line = ~(<u64>63);
  const at = address(<i32>load<u8>(rec, REC_SEG), reg(R_RAX) & addressMask(rec), 1, true) & line;
  if (failed()) return;
  for (let offset: u64 = 0; offset < 64 && !failed(); offset += 8) st64(at + offset, 0);
}

/** MONITOR and MWAIT leave before anything but the CPL is checked. */
function wait(code: i32): void {
  if (cpl != 0) raise(UD);
  else leave(code, 0, 0, 0);
}

/** Executes the instructions of this file; exec.ts knows their handlers. */
export function stateInstruction(rec: usize): void {
  switch (<i32>load<u16>(rec, REC_HANDLER)) {
    case H.H_FXSAVE: fxsave(rec); break;
    case H.H_FXRSTOR: fxrstor(rec); break;
    case H.H_LDMXCSR: {
      if (!simdReady(MORE_SSE)) return;
      const at = operandAddress(rec, 4, false);
      if (failed()) return;
      const value = <u32>ld32(at);
      if (failed()) return;
      if (value & ~mxcsrMask()) raiseError(GP, 0);
      else setReg(R_MXCSR, value);
      break;
    }
    case H.H_STMXCSR: {
      if (!simdReady(MORE_SSE)) return;
      const at = operandAddress(rec, 4, true);
      if (!failed()) st32(at, reg(R_MXCSR));
      break;
    }
    case H.H_XSAVE: xsave(rec); break;
    case H.H_XRSTOR: xrstor(rec); break;
    case H.H_XGETBV: xgetbv(); break;
    case H.H_XSETBV: xsetbv(); break;
    case H.H_RDBASE: readBase(rec); break;
    case H.H_WRBASE: writeBase(rec); break;
    case H.H_CLZERO: clzero(rec); break;
    case H.H_SERIALIZE: if (isAmd()) raise(UD); break;
    case H.H_MONITOR: wait(EXIT_MONITOR); break;
    case H.H_MWAIT: wait(EXIT_MWAIT); break;
    default: // RDPMC
      if (cpl != 0 && (reg(R_CR4) & CR4_PCE) == 0) raiseError(GP, 0);
      else leave(EXIT_RDPMC, 0, 0, 0);
      break;
  }
}
