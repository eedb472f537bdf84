// MMX and SSE registers, moves, logic and integer arithmetic (SDM vol. 1, chapters 9 to 12; rows in opcodes/simd.ts).
//
// An MMX operand is the low half of a vector; most operations on elements need not know. wasm's vector instructions are used where they
// mean the same as the x86 instruction, and wherever they do not the difference is spelled out.

import * as H from './tables.generated';
import { R_BASE, R_CR0, R_CR4, R_FPR, R_FSW, R_FTW, R_MXCSR, R_RDI, R_XMM, SEG_FS } from './layout';
import {
  CR0_EM, CR0_TS, CR4_OSFXSR, FLAG_CF, FLAG_ZF, GP, MF, NM, UD, codeMode, failed, isAmd, raise, raiseError, reg, reg32, setReg, st,
} from './state';
import { setArithFlags } from './flags';
import { errorPending } from './x87';
import { ld128, ld16, ld32, ld64, probeWrite, st128, st32, st64, st8 } from './mmu';
import { MORE_MMX, MORE_SSE, MORE_UNALIGNED, REC_E, REC_G, REC_HANDLER, REC_IMM, REC_MORE, REC_REG, REC_SEG, REC_SIZE, REC_SUB } from './record';
import { address, addressMask, effectiveAddress, inMemory, operandAddress, putAt, readE, writeE } from './operand';
import { sseFloat, usesMmx } from './sse-float';
import { compareStrings } from './sse-strings';
import { sha1Message1, sha1Message2, sha1NextE, sha1Rounds4, sha256Message1, sha256Message2, sha256Rounds2 } from './sha';
import { aesDecrypt, aesEncrypt, aesInvMixColumns, aesKeygenAssist, multiplyCarryless } from './aes';

// ---- registers ----

/** XMM register by number. */
// @ts-ignore: decorator
@inline export function xmm(n: i32): v128 {
  return v128.load(st + (R_XMM << 3) + (<usize>n << 4));
}
// @ts-ignore: decorator
@inline export function setXmm(n: i32, value: v128): void {
  v128.store(st + (R_XMM << 3) + (<usize>n << 4), value);
}
/** MMX register by number, in the low half of a vector. */
// @ts-ignore: decorator
@inline export function mmx(n: i32): v128 {
  return v128.load64_zero(st + (R_FPR << 3) + (<usize>n << 4));
}
/** A write of an MMX register fills the sign and exponent of the x87 register with ones (SDM vol. 1, 9.5.1). */
// @ts-ignore: decorator
@inline export function setMmx(n: i32, value: u64): void {
  const at = st + (R_FPR << 3) + (<usize>n << 4);
  store<u64>(at, value);
  store<u64>(at, 0xffff, 8);
}
/** ModRM.reg as an XMM and as an MMX register number; REX.R has no meaning for the latter. */
// @ts-ignore: decorator
@inline export function numberV(rec: usize): i32 {
  return <i32>load<u8>(rec, REC_REG);
}
// @ts-ignore: decorator
@inline export function numberP(rec: usize): i32 {
  return <i32>load<u8>(rec, REC_REG) & 7;
}
/** ModRM.rm, register form. */
// @ts-ignore: decorator
@inline export function numberW(rec: usize): i32 {
  return <i32>load<u8>(rec, REC_E) >> 3;
}
// @ts-ignore: decorator
@inline export function numberQ(rec: usize): i32 {
  return (<i32>load<u8>(rec, REC_E) >> 3) & 7;
}

/**
 * Checks what a row with the attributes mmx and sse needs: #UD, then #NM, then for MMX a pending x87 exception (SDM vol. 3, tables 13-1
 * and 12-1). False with a fault pending.
 */
export function simdReady(more: u32): bool {
  const cr0 = reg(R_CR0);
  if ((cr0 & CR0_EM) != 0 || ((more & MORE_SSE) != 0 && (reg(R_CR4) & CR4_OSFXSR) == 0)) raise(UD);
  else if (cr0 & CR0_TS) raise(NM);
  else if ((more & MORE_MMX) != 0 && errorPending()) raise(MF);
  else return true;
  return false;
}
/** An MMX instruction other than EMMS has been executed: TOP = 0, all registers valid (SDM vol. 3, 12.2). */
export function enterMmx(): void {
  topToZero();
  setReg(R_FTW, 0xff);
}
function topToZero(): void {
  setReg(R_FSW, reg(R_FSW) & ~(<u64>0x3800));
}

// ---- memory operands ----

/** MXCSR.MM, which only AMD has: operands need not be aligned, but those of aligned moves (APM vol. 1, 4.2.2). */
const MXCSR_MM: u32 = 1 << 17;

/**
 * Linear address of a memory operand of so many bytes that must be aligned; that is checked before limits and canonicality, and is #GP(0)
 * in the stack segment too. Check failed().
 */
export function alignedAddress(rec: usize, bytes: i32, alignment: u64, write: bool): u64 {
  const segment = <i32>load<u8>(rec, REC_SEG);
  const offset = effectiveAddress(rec);
  const base = codeMode == 2 && segment < SEG_FS ? 0 : reg(R_BASE + segment);
  if ((base + offset) & (alignment - 1)) {
    raiseError(GP, 0);
    return 0;
  }
  return address(segment, offset, bytes, write);
}
/** Linear address of a memory operand of 16 bytes, aligned unless its row or MXCSR.MM says otherwise. Check failed(). */
export function vectorAddress(rec: usize, write: bool): u64 {
  const handler = <i32>load<u16>(rec, REC_HANDLER);
  const masked: bool = (reg32(R_MXCSR) & MXCSR_MM) != 0 && handler != H.H_MOV_VW && handler != H.H_MOV_WV;
  const free = (load<u8>(rec, REC_MORE) & MORE_UNALIGNED) != 0 || masked;
  return alignedAddress(rec, 16, free ? 1 : 16, write);
}
/** W operand with 16 bytes in memory. Check failed(). */
export function readW(rec: usize): v128 {
  if (!inMemory(rec)) return xmm(numberW(rec));
  const at = vectorAddress(rec, false);
  return failed() ? i64x2.splat(0) : ld128(at);
}
/** The same for SHA, whose operands AMD processors take at any address. */
function readWForSha(rec: usize): v128 {
  if (!inMemory(rec) || !isAmd()) return readW(rec);
  const at = operandAddress(rec, 16, false);
  return failed() ? i64x2.splat(0) : ld128(at);
}
/** W operand with 1 << sizeLog2 bytes in memory, zero-extended; all of a register. Check failed(). */
export function readPartOfW(rec: usize, sizeLog2: i32): v128 {
  if (!inMemory(rec)) return xmm(numberW(rec));
  return memoryPart(rec, sizeLog2);
}
/** Q operand with 1 << sizeLog2 bytes in memory, zero-extended; all of a register. Check failed(). */
export function readQ(rec: usize, sizeLog2: i32): v128 {
  if (!inMemory(rec)) return mmx(numberQ(rec));
  return memoryPart(rec, sizeLog2);
}
function memoryPart(rec: usize, sizeLog2: i32): v128 {
  const at = operandAddress(rec, 1 << sizeLog2, false);
  if (failed()) return i64x2.splat(0);
  const value = sizeLog2 == 3 ? ld64(at) : sizeLog2 == 2 ? ld32(at) : ld16(at);
  return i64x2.replace_lane(i64x2.splat(0), 0, value);
}
/** Number of the byte that a shuffle takes to place i if nothing moves. */
// @ts-ignore: decorator
@inline function places(): v128 {
  return i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
// @ts-ignore: decorator
@inline function low64(a: v128): v128 {
  return i64x2.replace_lane(a, 1, 0);
}
/** The bytes of `a` moved down by `count` places. */
function bytesDown(a: v128, count: i32): v128 {
  return i8x16.swizzle(a, i8x16.add_sat_u(places(), i8x16.splat(<i8>min(count, 16))));
}
function bytesUp(a: v128, count: i32): v128 {
  return i8x16.swizzle(a, i8x16.sub(places(), i8x16.splat(<i8>min(count, 16))));
}

/** Shift count of all elements: the low 64 bits of `b`, or `limit` if it is greater. */
function shiftCount(b: v128, limit: i32): i32 {
  const count = <u64>i64x2.extract_lane(b, 0);
  return count > <u64>limit ? limit : <i32>count;
}

/** Elements of `a` negated, zeroed or kept by the sign of those of `b`: `negative` and `zero` are masks. */
// @ts-ignore: decorator
@inline function signed(a: v128, negated: v128, negative: v128, zero: v128): v128 {
  return v128.andnot(v128.bitselect(negated, a, negative), zero);
}

/** The operation of a handler on two vectors; `a` is the destination. */
function operate(handler: i32, a: v128, b: v128, imm: i32): v128 {
  switch (handler) {
    case H.H_MOV_VW: return b;
    case H.H_MOVQ: return low64(b);
    case H.H_MOVSS: return i8x16.shuffle(a, b, 16, 17, 18, 19, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    case H.H_MOVSD: return i8x16.shuffle(a, b, 16, 17, 18, 19, 20, 21, 22, 23, 8, 9, 10, 11, 12, 13, 14, 15);
    case H.H_MOVHLPS: return i8x16.shuffle(a, b, 24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12, 13, 14, 15);
    case H.H_MOVLHPS: return i8x16.shuffle(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    case H.H_MOVSLDUP: return i8x16.shuffle(b, b, 0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11);
    case H.H_MOVSHDUP: return i8x16.shuffle(b, b, 4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15);
    case H.H_MOVDDUP: return i8x16.shuffle(b, b, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);

    case H.H_PAND: return v128.and(a, b);
    case H.H_PANDN: return v128.andnot(b, a);
    case H.H_POR: return v128.or(a, b);
    case H.H_PXOR: return v128.xor(a, b);

    case H.H_PADDB: return i8x16.add(a, b);
    case H.H_PADDW: return i16x8.add(a, b);
    case H.H_PADDD: return i32x4.add(a, b);
    case H.H_PADDQ: return i64x2.add(a, b);
    case H.H_PSUBB: return i8x16.sub(a, b);
    case H.H_PSUBW: return i16x8.sub(a, b);
    case H.H_PSUBD: return i32x4.sub(a, b);
    case H.H_PSUBQ: return i64x2.sub(a, b);
    case H.H_PADDSB: return i8x16.add_sat_s(a, b);
    case H.H_PADDSW: return i16x8.add_sat_s(a, b);
    case H.H_PADDUSB: return i8x16.add_sat_u(a, b);
    case H.H_PADDUSW: return i16x8.add_sat_u(a, b);
    case H.H_PSUBSB: return i8x16.sub_sat_s(a, b);
    case H.H_PSUBSW: return i16x8.sub_sat_s(a, b);
    case H.H_PSUBUSB: return i8x16.sub_sat_u(a, b);
    case H.H_PSUBUSW: return i16x8.sub_sat_u(a, b);
    case H.H_PAVGB: return i8x16.avgr_u(a, b);
    case H.H_PAVGW: return i16x8.avgr_u(a, b);

    case H.H_PMINSB: return i8x16.min_s(a, b);
    case H.H_PMINSW: return i16x8.min_s(a, b);
    case H.H_PMINSD: return i32x4.min_s(a, b);
    case H.H_PMINUB: return i8x16.min_u(a, b);
    case H.H_PMINUW: return i16x8.min_u(a, b);
    case H.H_PMINUD: return i32x4.min_u(a, b);
    case H.H_PMAXSB: return i8x16.max_s(a, b);
    case H.H_PMAXSW: return i16x8.max_s(a, b);
    case H.H_PMAXSD: return i32x4.max_s(a, b);
    case H.H_PMAXUB: return i8x16.max_u(a, b);
    case H.H_PMAXUW: return i16x8.max_u(a, b);
    case H.H_PMAXUD: return i32x4.max_u(a, b);

    case H.H_PCMPEQB: return i8x16.eq(a, b);
    case H.H_PCMPEQW: return i16x8.eq(a, b);
    case H.H_PCMPEQD: return i32x4.eq(a, b);
    case H.H_PCMPEQQ: return i64x2.eq(a, b);
    case H.H_PCMPGTB: return i8x16.gt_s(a, b);
    case H.H_PCMPGTW: return i16x8.gt_s(a, b);
    case H.H_PCMPGTD: return i32x4.gt_s(a, b);
    case H.H_PCMPGTQ: return i64x2.gt_s(a, b);

    case H.H_PMULLW: return i16x8.mul(a, b);
    case H.H_PMULLD: return i32x4.mul(a, b);
    case H.H_PMULHW: return highHalves(i32x4.extmul_low_i16x8_s(a, b), i32x4.extmul_high_i16x8_s(a, b));
    case H.H_PMULHUW: return highHalves(i32x4.extmul_low_i16x8_u(a, b), i32x4.extmul_high_i16x8_u(a, b));
    case H.H_PMULHRSW:
      // Not q15mulr_sat: -1 times -1 wraps.
      return highHalves(
        i32x4.shl(i32x4.add(i32x4.shr_s(i32x4.extmul_low_i16x8_s(a, b), 14), i32x4.splat(1)), 15),
        i32x4.shl(i32x4.add(i32x4.shr_s(i32x4.extmul_high_i16x8_s(a, b), 14), i32x4.splat(1)), 15),
      );
    case H.H_PMULUDQ: return i64x2.mul(v128.and(a, i64x2.splat(0xffffffff)), v128.and(b, i64x2.splat(0xffffffff)));
    case H.H_PMULDQ: return i64x2.mul(signExtendLow32(a), signExtendLow32(b));
    case H.H_PMADDWD: return i32x4.dot_i16x8_s(a, b);
    case H.H_PMADDUBSW: {
      const even = i16x8.mul(v128.and(a, i16x8.splat(0xff)), i16x8.shr_s(i16x8.shl(b, 8), 8));
      return i16x8.add_sat_s(even, i16x8.mul(i16x8.shr_u(a, 8), i16x8.shr_s(b, 8)));
    }
    case H.H_PSADBW: {
      const pairs = i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(v128.or(i8x16.sub_sat_u(a, b), i8x16.sub_sat_u(b, a))));
      return v128.and(i64x2.add(pairs, i64x2.shr_u(pairs, 32)), i64x2.splat(0xffff));
    }
    case H.H_MPSADBW: return blockDifferences(a, b, imm);
    case H.H_PHMINPOSUW: return smallestWord(b);

    case H.H_PSLLW: { const n = shiftCount(b, 16); return n > 15 ? i64x2.splat(0) : i16x8.shl(a, n); }
    case H.H_PSLLD: { const n = shiftCount(b, 32); return n > 31 ? i64x2.splat(0) : i32x4.shl(a, n); }
    case H.H_PSLLQ: { const n = shiftCount(b, 64); return n > 63 ? i64x2.splat(0) : i64x2.shl(a, n); }
    case H.H_PSRLW: { const n = shiftCount(b, 16); return n > 15 ? i64x2.splat(0) : i16x8.shr_u(a, n); }
    case H.H_PSRLD: { const n = shiftCount(b, 32); return n > 31 ? i64x2.splat(0) : i32x4.shr_u(a, n); }
    case H.H_PSRLQ: { const n = shiftCount(b, 64); return n > 63 ? i64x2.splat(0) : i64x2.shr_u(a, n); }
    case H.H_PSRAW: return i16x8.shr_s(a, shiftCount(b, 15));
    case H.H_PSRAD: return i32x4.shr_s(a, shiftCount(b, 31));
    case H.H_PSLLDQ: return bytesUp(a, shiftCount(b, 16));
    case H.H_PSRLDQ: return bytesDown(a, shiftCount(b, 16));

    case H.H_PACKSSWB: return i8x16.narrow_i16x8_s(a, b);
    case H.H_PACKUSWB: return i8x16.narrow_i16x8_u(a, b);
    case H.H_PACKSSDW: return i16x8.narrow_i32x4_s(a, b);
    case H.H_PACKUSDW: return i16x8.narrow_i32x4_u(a, b);
    case H.H_PUNPCKLBW: return i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    case H.H_PUNPCKHBW: return i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    case H.H_PUNPCKLWD: return i8x16.shuffle(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
    case H.H_PUNPCKHWD: return i8x16.shuffle(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
    case H.H_PUNPCKLDQ: return i8x16.shuffle(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    case H.H_PUNPCKHDQ: return i8x16.shuffle(a, b, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    case H.H_PUNPCKLQDQ: return i8x16.shuffle(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    case H.H_PUNPCKHQDQ: return i8x16.shuffle(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);

    // Only bit 7 of a selector clears its byte; wasm clears it for every selector above 15.
    case H.H_PSHUFB: return i8x16.swizzle(a, v128.and(b, i8x16.splat(<i8>0x8f)));
    case H.H_PSHUFD: return i8x16.swizzle(b, dwordSelector(imm));
    case H.H_PSHUFLW: return i8x16.shuffle(i8x16.swizzle(b, wordSelector(imm)), b, 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31);
    case H.H_PSHUFHW: {
      const high = i8x16.swizzle(b, i8x16.add(wordSelector(imm), i8x16.splat(8)));
      return i8x16.shuffle(b, high, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    }
    case H.H_SHUFPS: {
      const selector = dwordSelector(imm);
      return i8x16.shuffle(i8x16.swizzle(a, selector), i8x16.swizzle(b, selector), 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    case H.H_SHUFPD: {
      const low = imm & 1 ? i64x2.extract_lane(a, 1) : i64x2.extract_lane(a, 0);
      const high = imm & 2 ? i64x2.extract_lane(b, 1) : i64x2.extract_lane(b, 0);
      return i64x2.replace_lane(i64x2.splat(low), 1, high);
    }
    case H.H_PALIGNR: return imm > 31 ? i64x2.splat(0) : v128.or(bytesDown(b, imm), imm < 16 ? bytesUp(a, 16 - imm) : bytesDown(a, imm - 16));
    case H.H_INSERTPS: return insertSingle(a, b, imm);
    case H.H_PBLENDW: return v128.bitselect(b, a, i16x8.ne(v128.and(i16x8.splat(<i16>imm), i16x8(1, 2, 4, 8, 16, 32, 64, 128)), i64x2.splat(0)));
    case H.H_BLENDPS: return v128.bitselect(b, a, i32x4.ne(v128.and(i32x4.splat(imm), i32x4(1, 2, 4, 8)), i64x2.splat(0)));
    case H.H_BLENDPD: return v128.bitselect(b, a, i64x2.ne(v128.and(i64x2.splat(imm), i64x2(1, 2)), i64x2.splat(0)));
    case H.H_PBLENDVB: return v128.bitselect(b, a, i8x16.shr_s(xmm(0), 7));
    case H.H_BLENDVPS: return v128.bitselect(b, a, i32x4.shr_s(xmm(0), 31));
    case H.H_BLENDVPD: return v128.bitselect(b, a, i64x2.shr_s(xmm(0), 63));

    case H.H_PHADDW: return i16x8.add(evenWords(a, b), oddWords(a, b));
    case H.H_PHADDD: return i32x4.add(evenDwords(a, b), oddDwords(a, b));
    case H.H_PHADDSW: return i16x8.add_sat_s(evenWords(a, b), oddWords(a, b));
    case H.H_PHSUBW: return i16x8.sub(evenWords(a, b), oddWords(a, b));
    case H.H_PHSUBD: return i32x4.sub(evenDwords(a, b), oddDwords(a, b));
    case H.H_PHSUBSW: return i16x8.sub_sat_s(evenWords(a, b), oddWords(a, b));
    case H.H_PSIGNB: return signed(a, i8x16.neg(a), i8x16.lt_s(b, i64x2.splat(0)), i8x16.eq(b, i64x2.splat(0)));
    case H.H_PSIGNW: return signed(a, i16x8.neg(a), i16x8.lt_s(b, i64x2.splat(0)), i16x8.eq(b, i64x2.splat(0)));
    case H.H_PSIGND: return signed(a, i32x4.neg(a), i32x4.lt_s(b, i64x2.splat(0)), i32x4.eq(b, i64x2.splat(0)));
    case H.H_PABSB: return i8x16.abs(b);
    case H.H_PABSW: return i16x8.abs(b);
    case H.H_PABSD: return i32x4.abs(b);

    case H.H_PMOVSXBW: return i16x8.extend_low_i8x16_s(b);
    case H.H_PMOVSXBD: return i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(b));
    case H.H_PMOVSXBQ: return i64x2.extend_low_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(b)));
    case H.H_PMOVSXWD: return i32x4.extend_low_i16x8_s(b);
    case H.H_PMOVSXWQ: return i64x2.extend_low_i32x4_s(i32x4.extend_low_i16x8_s(b));
    case H.H_PMOVSXDQ: return i64x2.extend_low_i32x4_s(b);
    case H.H_PMOVZXBW: return i16x8.extend_low_i8x16_u(b);
    case H.H_PMOVZXBD: return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(b));
    case H.H_PMOVZXBQ: return i64x2.extend_low_i32x4_u(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(b)));
    case H.H_PMOVZXWD: return i32x4.extend_low_i16x8_u(b);
    case H.H_PMOVZXWQ: return i64x2.extend_low_i32x4_u(i32x4.extend_low_i16x8_u(b));
    case H.H_PMOVZXDQ: return i64x2.extend_low_i32x4_u(b);

    case H.H_PCLMULQDQ: {
      const x = imm & 1 ? i64x2.extract_lane(a, 1) : i64x2.extract_lane(a, 0);
      return multiplyCarryless(x, imm & 16 ? i64x2.extract_lane(b, 1) : i64x2.extract_lane(b, 0));
    }
    case H.H_SHA1NEXTE: return sha1NextE(a, b);
    case H.H_SHA1MSG1: return sha1Message1(a, b);
    case H.H_SHA1MSG2: return sha1Message2(a, b);
    case H.H_SHA1RNDS4: return sha1Rounds4(a, b, imm);
    case H.H_SHA256RNDS2: return sha256Rounds2(a, b, xmm(0));
    case H.H_SHA256MSG1: return sha256Message1(a, b);
    case H.H_SHA256MSG2: return sha256Message2(a, b);
    case H.H_AESIMC: return aesInvMixColumns(b);
    case H.H_AESENC: return aesEncrypt(a, b, false);
    case H.H_AESENCLAST: return aesEncrypt(a, b, true);
    case H.H_AESDEC: return aesDecrypt(a, b, false);
    case H.H_AESDECLAST: return aesDecrypt(a, b, true);
    case H.H_AESKEYGENASSIST: return aesKeygenAssist(b, imm);
    default:
      raise(UD);
      return a;
  }
}

/** The same for MMX operands: operations that do not work on each element alone take both operands from one vector. */
function operateMmx(handler: i32, a: v128, b: v128, imm: i32): u64 {
  let result: v128;
  switch (handler) {
    case H.H_PUNPCKHBW: return <u64>i64x2.extract_lane(operate(H.H_PUNPCKLBW, a, b, 0), 1);
    case H.H_PUNPCKHWD: return <u64>i64x2.extract_lane(operate(H.H_PUNPCKLWD, a, b, 0), 1);
    case H.H_PUNPCKHDQ: return <u64>i64x2.extract_lane(operate(H.H_PUNPCKLDQ, a, b, 0), 1);
    case H.H_PACKSSWB: case H.H_PACKUSWB: case H.H_PACKSSDW:
    case H.H_PHADDW: case H.H_PHADDD: case H.H_PHADDSW: case H.H_PHSUBW: case H.H_PHSUBD: case H.H_PHSUBSW: {
      const both = operate(H.H_PUNPCKLQDQ, a, b, 0);
      result = operate(handler, both, both, 0);
      break;
    }
    case H.H_PALIGNR: result = bytesDown(operate(H.H_PUNPCKLQDQ, b, a, 0), imm); break;
    case H.H_PSHUFB: result = operate(handler, a, v128.and(b, i8x16.splat(<i8>0x87)), 0); break;
    default: result = operate(handler, a, b, imm); break;
  }
  return <u64>i64x2.extract_lane(result, 0);
}

function highHalves(low: v128, high: v128): v128 {
  return i8x16.shuffle(low, high, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}
function signExtendLow32(a: v128): v128 {
  return i64x2.shr_s(i64x2.shl(a, 32), 32);
}
function evenWords(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
}
function oddWords(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}
function evenDwords(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
function oddDwords(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
/** Byte selectors for four dwords, two bits of `imm` each. */
function dwordSelector(imm: i32): v128 {
  const first = (imm & 3) | ((imm & 12) << 6) | ((imm & 48) << 12) | ((imm & 192) << 18);
  const each = i8x16.swizzle(i32x4.splat(first << 2), i8x16(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3));
  return i8x16.add(each, i8x16(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
}
/** Byte selectors for four words of the low half, two bits of `imm` each. */
function wordSelector(imm: i32): v128 {
  const first = (imm & 3) | ((imm & 12) << 6) | ((imm & 48) << 12) | ((imm & 192) << 18);
  const each = i8x16.swizzle(i32x4.splat(first << 1), i8x16(0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 3, 3));
  return i8x16.add(each, i8x16(0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1));
}

/** Two vectors in memory, for operations that pick elements by number. */
const pair: usize = memory.data(32, 16);

function insertSingle(a: v128, b: v128, imm: i32): v128 {
  v128.store(pair, a);
  v128.store(pair, b, 16);
  store<u32>(pair + (<usize>((imm >> 4) & 3) << 2), load<u32>(pair + (<usize>((imm >> 6) & 3) << 2), 16));
  for (let i = 0; i < 4; i++) if (imm & (1 << i)) store<u32>(pair + (<usize>i << 2), 0);
  return v128.load(pair);
}
function blockDifferences(a: v128, b: v128, imm: i32): v128 {
  const block = i8x16.swizzle(b, i8x16.add(i8x16(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3), i8x16.splat(<i8>((imm & 3) << 2))));
  const low = windowDifferences(a, block, imm & 4);
  return i16x8.narrow_i32x4_u(low, windowDifferences(a, block, (imm & 4) + 4));
}
/** Sums of absolute differences between a block and four windows of four bytes that start one byte apart from byte `from` of `a`. */
function windowDifferences(a: v128, block: v128, from: i32): v128 {
  const windows = i8x16.swizzle(a, i8x16.add(i8x16(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6), i8x16.splat(<i8>from)));
  const difference = v128.or(i8x16.sub_sat_u(windows, block), i8x16.sub_sat_u(block, windows));
  return i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(difference));
}
function smallestWord(b: v128): v128 {
  v128.store(pair, b);
  let least: u32 = 0xffff;
  let at: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) {
    const word = <u32>load<u16>(pair + (<usize>i << 1));
    if (word < least) {
      least = word;
      at = i;
    }
  }
  return i64x2.replace_lane(i64x2.splat(0), 0, <i64>(least | (at << 16)));
}

// ---- handlers ----

/** Stores of V (or P): forms by sub, see opcodes/simd.ts. */
function storeFrom(rec: usize, sub: i32): void {
  if (!inMemory(rec)) {
    const to = numberW(rec);
    switch (sub) {
      case 0: setMmx(numberQ(rec), <u64>i64x2.extract_lane(mmx(numberP(rec)), 0)); break;
      case 1: setXmm(to, xmm(numberV(rec))); break;
      case 2: setXmm(to, low64(xmm(numberV(rec)))); break;
      case 3: setXmm(to, operate(H.H_MOVSS, xmm(to), xmm(numberV(rec)), 0)); break;
      default: setXmm(to, operate(H.H_MOVSD, xmm(to), xmm(numberV(rec)), 0)); break;
    }
    return;
  }
  if (sub == 1) {
    const at = vectorAddress(rec, true);
    if (!failed()) st128(at, xmm(numberV(rec)));
    return;
  }
  const at = operandAddress(rec, sub == 3 ? 4 : 8, true);
  if (failed()) return;
  switch (sub) {
    case 0: st64(at, <u64>i64x2.extract_lane(mmx(numberP(rec)), 0)); break;
    case 3: st32(at, <u64>i32x4.extract_lane(xmm(numberV(rec)), 0) & 0xffffffff); break;
    case 5: st64(at, <u64>i64x2.extract_lane(xmm(numberV(rec)), 1)); break;
    default: st64(at, <u64>i64x2.extract_lane(xmm(numberV(rec)), 0)); break;
  }
}

function signBits(rec: usize, sub: i32): i32 {
  switch (sub) {
    case 0: return i32x4.bitmask(xmm(numberW(rec)));
    case 1: return i64x2.bitmask(xmm(numberW(rec)));
    case 2: return i8x16.bitmask(mmx(numberQ(rec)));
    default: return i8x16.bitmask(xmm(numberW(rec)));
  }
}

/**
 * Stores the bytes of the first operand whose byte in the second has bit 7 set, at DS:rDI. All bytes must be writable, whatever the
 * mask, and the MMX form is in MMX state even if they are not: SDM and APM leave both open, AMD and Intel processors do it.
 */
function maskedStore(rec: usize, sub: i32): void {
  v128.store(pair, sub == 0 ? mmx(numberP(rec)) : xmm(numberV(rec)));
  const mask = sub == 0 ? i8x16.bitmask(mmx(numberQ(rec))) : i8x16.bitmask(xmm(numberW(rec)));
  const offset = reg(R_RDI) & addressMask(rec);
  const segment = <i32>load<u8>(rec, REC_SEG);
  const bytes = sub == 0 ? 8 : 16;
  if (sub == 0) enterMmx();
  const at = address(segment, offset, bytes, true);
  if (failed()) return;
  // Of two halves the upper one faults first: measured on an Intel Xeon (Cascade Lake).
  if (sub != 0 && !isAmd() && !probeWrite(at + 8, 1)) return;
  if (!probeWrite(at, bytes)) return;
  for (let i = 0; i < 16; i++) {
    if ((mask >> i) & 1) st8(at + i, load<u8>(pair + <usize>i));
    if (failed()) return;
  }
}

function insertElement(rec: usize, sub: i32, imm: i32): void {
  // Sizes of an element: word for MMX and SSE2, then byte, then dword or qword.
  const size = sub < 2 ? 1 : sub == 2 ? 0 : <i32>load<u8>(rec, REC_SIZE);
  const value = readE(rec, size);
  if (failed()) return;
  const at = sub == 0 ? st + (R_FPR << 3) + (<usize>numberP(rec) << 4) : st + (R_XMM << 3) + (<usize>numberV(rec) << 4);
  const place = at + (<usize>(imm & (((sub == 0 ? 8 : 16) >> size) - 1)) << size);
  switch (size) {
    case 0: store<u8>(place, <u8>value); break;
    case 1: store<u16>(place, <u16>value); break;
    case 2: store<u32>(place, <u32>value); break;
    default: store<u64>(place, value); break;
  }
  if (sub == 0) store<u64>(at, 0xffff, 8);
}

function extractElement(rec: usize, sub: i32, imm: i32): void {
  if (sub < 2) {
    const from = sub == 0 ? st + (R_FPR << 3) + (<usize>numberQ(rec) << 4) : st + (R_XMM << 3) + (<usize>numberW(rec) << 4);
    putAt(load<u8>(rec, REC_G), 2, <u64>load<u16>(from + (<usize>(imm & (sub == 0 ? 3 : 7)) << 1)));
    return;
  }
  const from = st + (R_XMM << 3) + (<usize>numberV(rec) << 4);
  const size = sub == 2 ? 0 : sub == 3 ? 1 : sub == 5 ? 2 : <i32>load<u8>(rec, REC_SIZE);
  const value = getFrom(from + (<usize>(imm & ((16 >> size) - 1)) << size), size);
  // A register gets all 32 or 64 bits.
  if (inMemory(rec)) writeE(rec, size, value);
  else putAt(load<u8>(rec, REC_E), 3, value);
}
function getFrom(at: usize, size: i32): u64 {
  switch (size) {
    case 0: return load<u8>(at);
    case 1: return load<u16>(at);
    case 2: return load<u32>(at);
    default: return load<u64>(at);
  }
}

/** Executes the instruction of a record whose row has the attribute mmx or sse. */
export function simd(rec: usize): void {
  const handler = <i32>load<u16>(rec, REC_HANDLER);
  const sub = <i32>load<u8>(rec, REC_SUB);
  let more: u32 = load<u8>(rec, REC_MORE);
  if (more & MORE_MMX && !usesMmx(rec, handler)) more &= ~MORE_MMX;
  if (!simdReady(more)) return;
  const imm = <i32>load<i64>(rec, REC_IMM);
  switch (handler) {
    case H.H_MOV_WV: storeFrom(rec, sub); break;
    case H.H_MOVD_PE: {
      const value = readE(rec, <i32>load<u8>(rec, REC_SIZE));
      if (!failed()) setMmx(numberP(rec), value);
      break;
    }
    case H.H_MOVD_VE: {
      const value = readE(rec, <i32>load<u8>(rec, REC_SIZE));
      if (!failed()) setXmm(numberV(rec), i64x2.replace_lane(i64x2.splat(0), 0, value));
      break;
    }
    case H.H_MOVD_EP: writeE(rec, <i32>load<u8>(rec, REC_SIZE), <u64>i64x2.extract_lane(mmx(numberP(rec)), 0)); break;
    case H.H_MOVD_EV: writeE(rec, <i32>load<u8>(rec, REC_SIZE), <u64>i64x2.extract_lane(xmm(numberV(rec)), 0)); break;
    case H.H_MOVQ2DQ: setXmm(numberV(rec), mmx(numberQ(rec))); break;
    case H.H_MOVDQ2Q: setMmx(numberP(rec), <u64>i64x2.extract_lane(xmm(numberW(rec)), 0)); break;
    case H.H_MOVMSK: putAt(load<u8>(rec, REC_G), 2, <u64>signBits(rec, sub)); break;
    case H.H_MASKMOV: maskedStore(rec, sub); break;
    case H.H_PINSR: insertElement(rec, sub, imm); break;
    case H.H_PEXTR: extractElement(rec, sub, imm); break;
    case H.H_PTEST: {
      const b = readW(rec);
      if (failed()) return;
      const a = xmm(numberV(rec));
      setArithFlags((v128.any_true(v128.and(a, b)) ? 0 : FLAG_ZF) | (v128.any_true(v128.andnot(b, a)) ? 0 : FLAG_CF));
      break;
    }
    case H.H_PCMPSTR: {
      const b = readW(rec);
      if (!failed()) compareStrings(xmm(numberV(rec)), b, imm, sub, <i32>load<u8>(rec, REC_SIZE) == 3);
      break;
    }
    case H.H_EMMS:
      enterMmx();
      setReg(R_FTW, 0);
      return;
    case H.H_ADDF: case H.H_SUBF: case H.H_MULF: case H.H_DIVF: case H.H_MINF: case H.H_MAXF: case H.H_SQRTF: case H.H_CMPF:
    case H.H_ROUNDF: case H.H_RCPF: case H.H_RSQRTF: case H.H_HADDF: case H.H_HSUBF: case H.H_ADDSUBF: case H.H_DPF: case H.H_COMISF:
    case H.H_CVT_VW: case H.H_CVT_VE: case H.H_CVT_GW: case H.H_CVT_VQ: case H.H_CVT_PW:
      sseFloat(rec, handler, sub, imm);
      return;
    default: regular(rec, handler, sub, imm); break;
  }
  if ((more & MORE_MMX) == 0) return;
  if (!failed()) enterMmx();
  // Of a store that faults, Intel processors have set TOP, but not the tags (measured on an Intel Xeon, Cascade Lake).
  else if (!isAmd() && (handler == H.H_MOV_WV || handler == H.H_MOVD_EP)) topToZero();
}

/** Instructions on vectors alone: operands by sub, see opcodes/simd.ts. */
function regular(rec: usize, handler: i32, sub: i32, imm: i32): void {
  switch (sub) {
    case 1: case 8: {
      const b = sub == 1 ? readW(rec) : readWForSha(rec);
      if (!failed()) setXmm(numberV(rec), operate(handler, xmm(numberV(rec)), b, imm));
      break;
    }
    case 0: case 2: {
      const b = readQ(rec, sub == 0 ? 3 : 2);
      if (!failed()) setMmx(numberP(rec), operateMmx(handler, mmx(numberP(rec)), b, imm));
      break;
    }
    case 3: setMmx(numberQ(rec), operateMmx(handler, mmx(numberQ(rec)), i64x2.splat(imm), imm)); break;
    case 4: setXmm(numberW(rec), operate(handler, xmm(numberW(rec)), i64x2.splat(imm), imm)); break;
    default: {
      const b = readPartOfW(rec, 8 - sub);
      // In memory there is only one single to insert.
      if (!failed()) setXmm(numberV(rec), operate(handler, xmm(numberV(rec)), b, handler == H.H_INSERTPS ? imm & 63 : imm));
      break;
    }
  }
}
