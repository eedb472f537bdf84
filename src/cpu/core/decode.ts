// Instruction bytes to records (SDM vol. 2, chapter 2). Knows encodings, not meanings.

import {
  F_BYTE, F_D64, F_END, F_E_BYTE, F_E_OPCODE, F_F64, F_GROUP, F_I64, F_LOCK, F_MEM_ONLY, F_MMX, F_MODRM, F_O64, F_PREFIX,
  F_REG_ONLY, F_SIZE_Y, F_SIZE_Z, F_SSE, F_UNALIGNED, F_VVVV, F_WHOLE, F_X87, GROUPS, H_ALU_EI, H_ALU_EG, H_ALU_GE, H_CALL_J, H_DEC_E, H_INC_E, H_JCC,
  H_IMUL_GE, H_IMUL_GEI, H_JMP_J, H_LEA, H_MOV_EG, H_MOV_EI, H_MOV_GE, H_MOVZX, H_NOP, H_ARPL_MOVSXD, H_POP_E, H_PUSH_E, H_RET, H_SHIFT_EI,
  H_TEST_EG, H_TEST_EI, H_UD, H_XCHG_ZA, IMM_IB, IMM_IBS, IMM_IIV, IMM_IW, IMM_IWB, IMM_IZ, IMM_JBS, IMM_JZ, IMM_O, IMM_ONE, IMM_P,
  MAP_0F, MAP_0F38, MAP_0F3A, MAP_PRIMARY, MAP_VEX_0F38, MAP_VEX_0F3A, PREFIXES, WHOLES,
} from './tables.generated';
import { R_RIP, R_ZERO, SEG_CS, SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_SS } from './layout';
import { codeMode, isAmd } from './state';
import {
  MORE_MMX, MORE_SAME_PAGE, MORE_SSE, MORE_UNALIGNED, MORE_X87, OP_ALU_RI32, OP_ALU_RI64, OP_ALU_RM32, OP_ALU_RM64, OP_ALU_RR32, OP_ALU_RR64, OP_CALL64, OP_CROSS,
  OP_DEC32, OP_DEC64, OP_GENERIC, OP_HOOK, OP_IMUL_RI32, OP_IMUL_RR32, OP_INC32, OP_INC64, OP_JCC, OP_JMP, OP_LD32, OP_LD64, OP_LD8, OP_LDZX16, OP_LDZX8,
  OP_LEA32, OP_LEA64, OP_MOVSXD, OP_MOVZX8, OP_MOV_RI, OP_MOV_RR32, OP_MOV_RR64, OP_NEXT, OP_NOP, OP_POP64, OP_PUSH64,
  OP_RET64, OP_SHL_RI32, OP_SHL_RI64, OP_SHR_RI32, OP_SHR_RI64, OP_ST32, OP_ST64, OP_ST8, OP_TEST_RI32, OP_TEST_RR32,
  OP_TEST_RR64, REC_ASIZE_SHIFT, REC_BASE, REC_DISP, REC_E, REC_END, REC_FLAGS, REC_G, REC_HANDLER, REC_IMM, REC_INDEX,
  REC_LEN, REC_LINK, REC_LOCK, REC_MEM, REC_MORE, REC_OP, REC_REG, REC_REP, REC_REPNE, REC_SCALE, REC_SEG, REC_SIMPLE, REC_SIZE,
  REC_SUB, REC_V,
} from './record';
import { hookedOffset } from './hooks';
import { decodedPage, enterRecord, keepRecord, nextRecord, recordAt, reserveRecords } from './code-cache';

/** Longest instruction the architecture allows; a longer one is #GP(0). */
export const MAX_LENGTH: i32 = 15;
/** Instructions decoded ahead at most. */
const BLOCK_LENGTH: i32 = 32;

let cursor: usize = 0;
let end: usize = 0;
/** The bytes at hand ended inside the instruction. */
let short: bool = false;

function u8At(): u32 {
  if (cursor >= end) {
    short = true;
    return 0;
  }
  return load<u8>(cursor++);
}
function u16At(): u32 {
  const low = u8At();
  return low | (u8At() << 8);
}
function u32At(): u32 {
  const low = u16At();
  return low | (u16At() << 16);
}
function u64At(): u64 {
  const low = <u64>u32At();
  return low | (<u64>u32At() << 32);
}

/** Byte offset of register `number` in the state block; without REX, byte registers 4 … 7 are AH, CH, DH, BH. */
// @ts-ignore: decorator
@inline function offsetOf(number: u32, byte: bool, rex: bool): u8 {
  return byte && !rex && number >= 4 ? <u8>((number - 4) * 8 + 1) : <u8>(number * 8);
}

/**
 * Decodes one instruction at host address `at` with `available` bytes at hand into `record`, for the current code size.
 * Returns its length, 0 if more bytes are needed, or -1 if it is longer than 15 bytes.
 */
export function decode(record: usize, at: usize, available: i32): i32 {
  const long = codeMode == 2;
  cursor = at;
  end = at + <usize>min(available, MAX_LENGTH);
  short = false;

  let operand16 = codeMode == 0;
  let sizePrefix = false;
  let addressSize = codeMode;
  let rex: u32 = 0;
  let recFlags: u32 = 0;
  let segment: i32 = -1;
  let opcode: u32;
  for (;;) {
    opcode = u8At();
    if (short) break;
    if (opcode == 0x66) {
      operand16 = codeMode != 0;
      sizePrefix = true;
    } else if (opcode == 0x67) addressSize = codeMode == 1 ? 0 : 1;
    else if (opcode == 0xf0) recFlags |= REC_LOCK;
    else if (opcode == 0xf2) recFlags = (recFlags & ~REC_REP) | REC_REPNE;
    else if (opcode == 0xf3) recFlags = (recFlags & ~REC_REPNE) | REC_REP;
    else if (opcode == 0x2e || opcode == 0x36 || opcode == 0x3e || opcode == 0x26) {
      if (!long) segment = opcode == 0x2e ? SEG_CS : opcode == 0x36 ? SEG_SS : opcode == 0x3e ? SEG_DS : SEG_ES;
    } else if (opcode == 0x64) segment = SEG_FS;
    else if (opcode == 0x65) segment = SEG_GS;
    else if (long && (opcode & 0xf0) == 0x40) {
      rex = opcode;
      continue;
    } else break;
    rex = 0; // a REX prefix counts only directly before the opcode
  }

  let map: usize = MAP_PRIMARY;
  // Which entry of a node by prefix: none, 66, F3, F2.
  let column = recFlags & REC_REPNE ? 3 : recFlags & REC_REP ? 2 : sizePrefix ? 1 : 0;
  let invalid = false;
  let vvvv: u32 = 0;
  if (opcode == 0x0f) {
    opcode = u8At();
    map = MAP_0F;
    if (opcode == 0x38 || opcode == 0x3a) {
      map = opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
      opcode = u8At();
    }
  } else if ((opcode & 0xfe) == 0xc4 && (long || (cursor < end && load<u8>(cursor) >= 0xc0))) {
    // VEX prefix (SDM vol. 2, 2.3.5): three bytes after C4, two after C5. Outside 64-bit mode C4 and C5 with a memory operand are LES and LDS.
    invalid = column != 0 || rex != 0 || (recFlags & REC_LOCK) != 0;
    const first = u8At();
    const last = opcode == 0xc4 ? u8At() : first;
    map = opcode == 0xc5 ? 0 : (first & 31) == 2 ? MAP_VEX_0F38 : (first & 31) == 3 ? MAP_VEX_0F3A : 0;
    if (long) rex = 0x40 | (opcode == 0xc4 ? (((first >> 5) & 7) ^ 7) | ((last >> 4) & 8) : ((first >> 5) & 4) ^ 4);
    vvvv = ((last >> 3) & 15) ^ 15;
    column = <i32>(last & 3);
    // Nothing here has vectors of 256 bits.
    if (map == 0 || (last & 4) != 0) invalid = true;
    if (map == 0) map = MAP_VEX_0F38;
    opcode = u8At();
  }

  let entry = map + (<usize>opcode << 3);
  let flags = load<u32>(entry, 4);
  if (flags & F_PREFIX) {
    entry = PREFIXES + (<usize>(<i32>load<u16>(entry) * 4 + column) << 3);
    flags = load<u32>(entry, 4);
  }
  let modrm: u32 = 0;
  if (flags & F_MODRM) modrm = u8At();
  if (flags & (F_GROUP | F_WHOLE)) {
    const index = <usize>load<u16>(entry);
    const reg = (modrm >> 3) & 7;
    if (flags & F_GROUP) entry = GROUPS + ((index * 16 + (modrm >= 0xc0 ? 8 : 0) + reg) << 3);
    else entry = WHOLES + ((index * 72 + (modrm >= 0xc0 ? modrm - 0xc0 + 8 : reg)) << 3);
    flags = load<u32>(entry, 4);
  }
  let handler = <i32>load<u16>(entry);
  if (invalid) handler = H_UD;
  // A VEX.vvvv that names no operand must be 1111b; of one that does, bit 3 counts in 64-bit mode only.
  if (vvvv != 0 && (flags & F_VVVV) == 0) handler = H_UD;
  if (!long) vvvv &= 7;
  if (flags & (long ? F_I64 : F_O64)) handler = H_UD;

  let size: i32;
  if (flags & F_BYTE) size = 0;
  else if (long && (rex & 8) != 0) size = 3;
  else if (long && (flags & F_F64) != 0) size = 3;
  else if (long && (flags & F_D64) != 0) size = operand16 ? 1 : 3;
  else size = operand16 ? 1 : 2;
  if (flags & F_SIZE_Z && size == 3) size = 2;
  if (flags & F_SIZE_Y && size == 1) size = 2;
  if (flags & F_F64 && !long && (flags & (F_MODRM | F_REG_ONLY)) == (F_MODRM | F_REG_ONLY)) size = 2; // MOV CR/DR are always 32-bit

  const byteE = (flags & (F_BYTE | F_E_BYTE)) != 0;
  const byteG = (flags & F_BYTE) != 0;
  const hasRex = rex != 0;
  let eOffset: u8 = 0;
  let gOffset: u8 = 0;
  let regNumber: u32 = 0;
  let base: u8 = <u8>R_ZERO;
  let index: u8 = <u8>R_ZERO;
  let scale: u8 = 0;
  let displacement: i32 = 0;
  let defaultSegment: i32 = SEG_DS;
  let memory = false;
  let ripRelative = false;

  if (flags & F_MODRM) {
    regNumber = ((modrm >> 3) & 7) | ((rex & 4) << 1);
    gOffset = offsetOf(regNumber, byteG, hasRex);
    const mod = modrm >> 6;
    const rm = modrm & 7;
    if (mod == 3) {
      eOffset = offsetOf(rm | ((rex & 1) << 3), byteE, hasRex);
      if (flags & F_MEM_ONLY) handler = H_UD;
    } else if (flags & F_REG_ONLY) {
      // MOV to and from control and debug registers ignore the mod field (SDM vol. 2, MOV-Move to/from Control Registers).
      eOffset = offsetOf(rm | ((rex & 1) << 3), false, true);
    } else {
      memory = true;
      if (addressSize == 0) {
        if (mod == 0 && rm == 6) displacement = <i32>u16At();
        else {
          switch (rm) {
            case 0: base = 3; index = 6; break;
            case 1: base = 3; index = 7; break;
            case 2: base = 5; index = 6; defaultSegment = SEG_SS; break;
            case 3: base = 5; index = 7; defaultSegment = SEG_SS; break;
            case 4: base = 6; break;
            case 5: base = 7; break;
            case 6: base = 5; defaultSegment = SEG_SS; break;
            default: base = 3; break;
          }
          if (mod == 1) displacement = <i32><i8>u8At();
          else if (mod == 2) displacement = <i32><i16>u16At();
        }
      } else {
        let baseNumber = rm;
        if (rm == 4) {
          const sib = u8At();
          baseNumber = sib & 7;
          const indexNumber = ((sib >> 3) & 7) | ((rex & 2) << 2);
          if (indexNumber != 4) {
            index = <u8>indexNumber;
            scale = <u8>(sib >> 6);
          }
        }
        if (mod == 0 && baseNumber == 5) {
          displacement = <i32>u32At();
          if (rm == 5 && long) ripRelative = true;
        } else {
          base = <u8>(baseNumber | ((rex & 1) << 3));
          if (base == 4 || base == 5) defaultSegment = SEG_SS;
          if (mod == 1) displacement = <i32><i8>u8At();
          else if (mod == 2) displacement = <i32>u32At();
        }
        if (ripRelative) base = <u8>R_RIP;
      }
    }
  }
  if (flags & F_E_OPCODE) eOffset = offsetOf((opcode & 7) | ((rex & 1) << 3), byteE, hasRex);
  // F3 90 is PAUSE whatever REX.B on Intel (measured on a Xeon, Cascade Lake), with REX.B it is XCHG with R8 on AMD.
  if (handler == H_XCHG_ZA && opcode == 0x90 && (recFlags & REC_REP) != 0 && !isAmd()) eOffset = 0;
  // E_ACC: rAX is offset 0, which eOffset already is. G_ACC likewise.

  let immediate: i64 = 0;
  switch (<i32>load<u8>(entry, 3)) {
    case IMM_IB: immediate = <i64>u8At(); break;
    case IMM_IBS: case IMM_JBS: immediate = <i64><i8>u8At(); break;
    case IMM_IZ: immediate = size == 1 ? <i64><i16>u16At() : <i64><i32>u32At(); break;
    case IMM_JZ: immediate = operand16 && !long ? <i64><i16>u16At() : <i64><i32>u32At(); break;
    case IMM_IIV: immediate = size == 1 ? <i64>u16At() : size == 2 ? <i64>u32At() : <i64>u64At(); break;
    case IMM_IW: immediate = <i64>u16At(); break;
    case IMM_IWB: immediate = <i64>u16At(); immediate |= <i64>u8At() << 16; break;
    case IMM_P: {
      immediate = size == 1 ? <i64>u16At() : <i64>u32At();
      immediate |= <i64>u16At() << 32;
      break;
    }
    case IMM_O: {
      memory = true;
      immediate = addressSize == 0 ? <i64>u16At() : addressSize == 1 ? <i64>u32At() : <i64>u64At();
      break;
    }
    case IMM_ONE: immediate = 1; break;
  }

  // The opcode as FOP has it.
  if (flags & F_X87) immediate = <i64>(((opcode & 7) << 8) | modrm);

  if (short) return available >= MAX_LENGTH ? -1 : 0;

  if (recFlags & REC_LOCK && ((flags & F_LOCK) == 0 || !memory)) handler = H_UD;
  if (segment < 0) segment = defaultSegment;
  if (memory) {
    recFlags |= REC_MEM;
    if (addressSize == 2 && segment < SEG_FS && !ripRelative) recFlags |= REC_SIMPLE;
  }
  if (flags & F_END || handler == H_UD) recFlags |= REC_END;
  recFlags |= addressSize << REC_ASIZE_SHIFT;
  if (long && segment < SEG_FS) segment = defaultSegment;

  const length = <i32>(cursor - at);
  store<u8>(record, <u8>length, REC_LEN);
  store<u8>(record, <u8>size, REC_SIZE);
  store<u8>(record, gOffset, REC_G);
  store<u8>(record, eOffset, REC_E);
  store<u8>(record, base, REC_BASE);
  store<u8>(record, index, REC_INDEX);
  store<u8>(record, scale, REC_SCALE);
  store<u8>(record, <u8>segment, REC_SEG);
  store<u8>(record, <u8>recFlags, REC_FLAGS);
  store<u8>(record, load<u8>(entry, 2), REC_SUB);
  store<i32>(record, displacement, REC_DISP);
  store<i64>(record, immediate, REC_IMM);
  store<u32>(record, 0, REC_LINK);
  store<u8>(record, <u8>(vvvv * 8), REC_V);
  store<u16>(record, <u16>handler, REC_HANDLER);
  store<u8>(record, <u8>regNumber, REC_REG);
  let more: u32 = 0;
  if (flags & F_X87) more |= MORE_X87;
  if (flags & F_MMX) more |= MORE_MMX;
  if (flags & F_SSE) more |= MORE_SSE;
  if (flags & F_UNALIGNED) more |= MORE_UNALIGNED;
  store<u8>(record, <u8>more, REC_MORE);
  store<u16>(record, <u16>fastForm(record, handler, size, recFlags), REC_OP);
  return length;
}

/** The dispatch number: a fast form if there is one, else OP_GENERIC. May normalise the immediate. */
function fastForm(record: usize, handler: i32, size: i32, flags: u32): i32 {
  const memory = (flags & REC_MEM) != 0;
  const simple = (flags & REC_SIMPLE) != 0;
  const sub = <i32>load<u8>(record, REC_SUB);
  const wide = size == 3;
  if (flags & REC_LOCK) return OP_GENERIC;
  switch (handler) {
    case H_NOP: return memory ? OP_GENERIC : OP_NOP;
    case H_JCC: return codeMode == 0 || size == 1 ? OP_GENERIC : OP_JCC + sub;
    case H_JMP_J: return codeMode == 0 || size == 1 ? OP_GENERIC : OP_JMP;
    case H_CALL_J: return codeMode == 2 ? OP_CALL64 : OP_GENERIC;
    case H_RET: return codeMode == 2 ? OP_RET64 : OP_GENERIC;
    case H_PUSH_E: return wide && !memory && codeMode == 2 ? OP_PUSH64 : OP_GENERIC;
    case H_POP_E: return wide && !memory && codeMode == 2 ? OP_POP64 : OP_GENERIC;
  }
  if (handler == H_MOVZX) {
    if (size == 1) return OP_GENERIC;
    if (memory) return simple ? (sub == 0 ? OP_LDZX8 : OP_LDZX16) : OP_GENERIC;
    return sub == 0 ? OP_MOVZX8 : OP_GENERIC;
  }
  if (size == 0) {
    if (!simple) return OP_GENERIC;
    if (handler == H_MOV_EG) return OP_ST8;
    if (handler == H_MOV_GE) return OP_LD8;
    return OP_GENERIC;
  }
  if (size < 2) return OP_GENERIC;
  switch (handler) {
    case H_MOV_EG: return memory ? (simple ? (wide ? OP_ST64 : OP_ST32) : OP_GENERIC) : wide ? OP_MOV_RR64 : OP_MOV_RR32;
    case H_MOV_GE:
      if (memory) return simple ? (wide ? OP_LD64 : OP_LD32) : OP_GENERIC;
      swapOperands(record, H_MOV_EG);
      return wide ? OP_MOV_RR64 : OP_MOV_RR32;
    case H_MOV_EI:
      if (memory) return OP_GENERIC;
      if (!wide) store<i64>(record, load<i64>(record, REC_IMM) & 0xffffffff, REC_IMM);
      return OP_MOV_RI;
    case H_ARPL_MOVSXD: return codeMode == 2 && wide && !memory ? OP_MOVSXD : OP_GENERIC;
    case H_LEA: return simple ? (wide ? OP_LEA64 : OP_LEA32) : OP_GENERIC;
    case H_TEST_EG: return memory ? OP_GENERIC : wide ? OP_TEST_RR64 : OP_TEST_RR32;
    case H_TEST_EI: return memory || wide ? OP_GENERIC : OP_TEST_RI32;
    case H_INC_E: return memory ? OP_GENERIC : wide ? OP_INC64 : OP_INC32;
    case H_IMUL_GE: return memory || wide ? OP_GENERIC : OP_IMUL_RR32;
    case H_IMUL_GEI: return memory || wide ? OP_GENERIC : OP_IMUL_RI32;
    case H_DEC_E: return memory ? OP_GENERIC : wide ? OP_DEC64 : OP_DEC32;
    case H_SHIFT_EI: {
      const count = load<i64>(record, REC_IMM) & (wide ? 63 : 31);
      if (memory || count == 0) return OP_GENERIC;
      if (sub == 4 || sub == 6) {
        store<i64>(record, count, REC_IMM);
        return wide ? OP_SHL_RI64 : OP_SHL_RI32;
      }
      if (sub == 5) {
        store<i64>(record, count, REC_IMM);
        return wide ? OP_SHR_RI64 : OP_SHR_RI32;
      }
      return OP_GENERIC;
    }
  }
  if (sub == 2 || sub == 3) return OP_GENERIC; // ADC, SBB
  switch (handler) {
    case H_ALU_EG: return memory ? OP_GENERIC : (wide ? OP_ALU_RR64 : OP_ALU_RR32) + sub;
    case H_ALU_GE:
      if (memory) return simple ? (wide ? OP_ALU_RM64 : OP_ALU_RM32) + sub : OP_GENERIC;
      swapOperands(record, H_ALU_EG);
      return (wide ? OP_ALU_RR64 : OP_ALU_RR32) + sub;
    case H_ALU_EI: return memory ? OP_GENERIC : (wide ? OP_ALU_RI64 : OP_ALU_RI32) + sub;
  }
  return OP_GENERIC;
}

/** Register forms E,G and G,E become one: E,G with this handler. */
function swapOperands(record: usize, handler: i32): void {
  store<u16>(record, <u16>handler, REC_HANDLER);
  const e = load<u8>(record, REC_E);
  store<u8>(record, load<u8>(record, REC_G), REC_E);
  store<u8>(record, e, REC_G);
}

export function pseudo(record: usize, op: i32): void {
  store<u64>(record, 0, 0);
  store<u64>(record, 0, 8);
  store<u64>(record, 0, 16);
  store<u64>(record, 0, 24);
  store<u16>(record, <u16>op, REC_OP);
}

/**
 * Decodes the run of instructions that starts at `offset` of a RAM page (host address `host` of its first byte) and
 * returns the record of the first.
 */
export function decodeRun(frame: u32, mode: i32, host: usize, offset: i32): usize {
  reserveRecords(2 * BLOCK_LENGTH + 2);
  const page = decodedPage(frame, mode);
  const first = nextRecord();
  let at = offset;
  for (let n = 0; n < BLOCK_LENGTH; n++) {
    let entry: usize = 0;
    if (hookedOffset(at)) {
      entry = nextRecord();
      pseudo(entry, OP_HOOK);
      keepRecord();
    }
    const record = nextRecord();
    if (!entry) entry = record;
    const length = at < 4096 ? decode(record, host + <usize>at, 4096 - at) : 0;
    keepRecord();
    if (length <= 0) {
      pseudo(record, at < 4096 ? OP_CROSS : OP_NEXT);
      if (at < 4096) enterRecord(page, at, 4096 - at, entry);
      return first;
    }
    enterRecord(page, at, length, entry);
    const handler = <i32>load<u16>(record, REC_HANDLER);
    if (handler == H_JCC || handler == H_JMP_J || handler == H_CALL_J) {
      const target = <i64>at + length + load<i64>(record, REC_IMM);
      if (target >= 0 && target < 4096) store<u8>(record, MORE_SAME_PAGE, REC_MORE);
    }
    at += length;
    if (load<u8>(record, REC_FLAGS) & REC_END) return first;
    const known = at < 4096 ? recordAt(page, at) : 0;
    if (known) break;
  }
  pseudo(nextRecord(), OP_NEXT);
  keepRecord();
  return first;
}
