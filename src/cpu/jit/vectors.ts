/**
 * SSE instructions without floating-point arithmetic, on XMM registers: moves, logic, integer arithmetic and shuffles (rows in
 * ../opcodes/simd.ts, meanings in core/simd.ts).
 *
 * XMM registers stay in the state block: most code is between a load and a store, and entering and leaving a function is not to cost more.
 */
import * as H from '../core/handlers.generated.ts';
import * as L from '../core/layout.ts';
import { Arithmetic } from './arithmetic.ts';
import { CR0_EM, CR0_TS, CR4_OSFXSR, STATE, slot, T0 } from './frame.ts';
import type { Insn } from './region.ts';
import { V, W } from './wasm.ts';

/** Of a and b. */
const BINARY: Readonly<Record<number, number>> = {
  [H.H_PAND]: V.and,
  [H.H_POR]: V.or,
  [H.H_PXOR]: V.xor,
  [H.H_PADDB]: V.i8x16_add,
  [H.H_PADDW]: V.i16x8_add,
  [H.H_PADDD]: V.i32x4_add,
  [H.H_PADDQ]: V.i64x2_add,
  [H.H_PSUBB]: V.i8x16_sub,
  [H.H_PSUBW]: V.i16x8_sub,
  [H.H_PSUBD]: V.i32x4_sub,
  [H.H_PSUBQ]: V.i64x2_sub,
  [H.H_PADDSB]: V.i8x16_add_sat_s,
  [H.H_PADDSW]: V.i16x8_add_sat_s,
  [H.H_PADDUSB]: V.i8x16_add_sat_u,
  [H.H_PADDUSW]: V.i16x8_add_sat_u,
  [H.H_PSUBSB]: V.i8x16_sub_sat_s,
  [H.H_PSUBSW]: V.i16x8_sub_sat_s,
  [H.H_PSUBUSB]: V.i8x16_sub_sat_u,
  [H.H_PSUBUSW]: V.i16x8_sub_sat_u,
  [H.H_PAVGB]: V.i8x16_avgr_u,
  [H.H_PAVGW]: V.i16x8_avgr_u,
  [H.H_PMINSB]: V.i8x16_min_s,
  [H.H_PMINSW]: V.i16x8_min_s,
  [H.H_PMINSD]: V.i32x4_min_s,
  [H.H_PMINUB]: V.i8x16_min_u,
  [H.H_PMINUW]: V.i16x8_min_u,
  [H.H_PMINUD]: V.i32x4_min_u,
  [H.H_PMAXSB]: V.i8x16_max_s,
  [H.H_PMAXSW]: V.i16x8_max_s,
  [H.H_PMAXSD]: V.i32x4_max_s,
  [H.H_PMAXUB]: V.i8x16_max_u,
  [H.H_PMAXUW]: V.i16x8_max_u,
  [H.H_PMAXUD]: V.i32x4_max_u,
  [H.H_PCMPEQB]: V.i8x16_eq,
  [H.H_PCMPEQW]: V.i16x8_eq,
  [H.H_PCMPEQD]: V.i32x4_eq,
  [H.H_PCMPEQQ]: V.i64x2_eq,
  [H.H_PCMPGTB]: V.i8x16_gt_s,
  [H.H_PCMPGTW]: V.i16x8_gt_s,
  [H.H_PCMPGTD]: V.i32x4_gt_s,
  [H.H_PCMPGTQ]: V.i64x2_gt_s,
  [H.H_PMULLW]: V.i16x8_mul,
  [H.H_PMULLD]: V.i32x4_mul,
  [H.H_PMADDWD]: V.i32x4_dot_i16x8_s,
  [H.H_PACKSSWB]: V.i8x16_narrow_i16x8_s,
  [H.H_PACKUSWB]: V.i8x16_narrow_i16x8_u,
  [H.H_PACKSSDW]: V.i16x8_narrow_i32x4_s,
  [H.H_PACKUSDW]: V.i16x8_narrow_i32x4_u,
};

/** Of b alone, one after the other. */
const UNARY: Readonly<Record<number, readonly number[]>> = {
  [H.H_MOV_VW]: [],
  [H.H_MOVQ]: [],
  [H.H_PABSB]: [V.i8x16_abs],
  [H.H_PABSW]: [V.i16x8_abs],
  [H.H_PABSD]: [V.i32x4_abs],
  [H.H_PMOVSXBW]: [V.i16x8_extend_low_i8x16_s],
  [H.H_PMOVSXBD]: [V.i16x8_extend_low_i8x16_s, V.i32x4_extend_low_i16x8_s],
  [H.H_PMOVSXWD]: [V.i32x4_extend_low_i16x8_s],
  [H.H_PMOVSXWQ]: [V.i32x4_extend_low_i16x8_s, V.i64x2_extend_low_i32x4_s],
  [H.H_PMOVSXDQ]: [V.i64x2_extend_low_i32x4_s],
  [H.H_PMOVZXBW]: [V.i16x8_extend_low_i8x16_u],
  [H.H_PMOVZXBD]: [V.i16x8_extend_low_i8x16_u, V.i32x4_extend_low_i16x8_u],
  [H.H_PMOVZXWD]: [V.i32x4_extend_low_i16x8_u],
  [H.H_PMOVZXWQ]: [V.i32x4_extend_low_i16x8_u, V.i64x2_extend_low_i32x4_u],
  [H.H_PMOVZXDQ]: [V.i64x2_extend_low_i32x4_u],
};

/** Where the bytes of the result come from: 0 to 15 from a, 16 to 31 from b. */
type Lanes = readonly number[];
/** Elements of so many bytes, by number: those of b follow those of a. */
function elements(bytes: number, ...which: number[]): Lanes {
  return which.flatMap((element) => Array.from({ length: bytes }, (_, i) => element * bytes + i));
}
/** Elements of a and b in turn, from one on. */
function interleaved(bytes: number, from: number): Lanes {
  const count = 16 / bytes;
  return elements(bytes, ...Array.from({ length: count }, (_, i) => from + (i >> 1) + (i & 1) * count));
}
/** Field n of an immediate, two bits wide. */
const field = (imm: number, n: number): number => (imm >> (2 * n)) & 3;

/** Shuffles by their immediate. */
const SHUFFLES: Readonly<Record<number, (imm: number) => Lanes>> = {
  [H.H_MOVSS]: () => elements(4, 4, 1, 2, 3),
  [H.H_MOVSD]: () => elements(8, 2, 1),
  [H.H_MOVHLPS]: () => elements(8, 3, 1),
  [H.H_MOVLHPS]: () => elements(8, 0, 2),
  [H.H_MOVSLDUP]: () => elements(4, 4, 4, 6, 6),
  [H.H_MOVSHDUP]: () => elements(4, 5, 5, 7, 7),
  [H.H_MOVDDUP]: () => elements(8, 2, 2),
  [H.H_PUNPCKLBW]: () => interleaved(1, 0),
  [H.H_PUNPCKHBW]: () => interleaved(1, 8),
  [H.H_PUNPCKLWD]: () => interleaved(2, 0),
  [H.H_PUNPCKHWD]: () => interleaved(2, 4),
  [H.H_PUNPCKLDQ]: () => interleaved(4, 0),
  [H.H_PUNPCKHDQ]: () => interleaved(4, 2),
  [H.H_PUNPCKLQDQ]: () => interleaved(8, 0),
  [H.H_PUNPCKHQDQ]: () => interleaved(8, 1),
  [H.H_PSHUFD]: (imm) => elements(4, ...[0, 1, 2, 3].map((n) => 4 + field(imm, n))),
  [H.H_PSHUFLW]: (imm) => elements(2, ...[0, 1, 2, 3].map((n) => 8 + field(imm, n)), 12, 13, 14, 15),
  [H.H_PSHUFHW]: (imm) => elements(2, 8, 9, 10, 11, ...[0, 1, 2, 3].map((n) => 12 + field(imm, n))),
  [H.H_SHUFPS]: (imm) => elements(4, field(imm, 0), field(imm, 1), 4 + field(imm, 2), 4 + field(imm, 3)),
  [H.H_SHUFPD]: (imm) => elements(8, imm & 1, 2 + ((imm >> 1) & 1)),
  // For up to 16 bytes; beyond them nothing of b is left.
  [H.H_PALIGNR]: (imm) => Array.from({ length: 16 }, (_, i) => (i + imm < 16 ? 16 + i + imm : i + imm - 16)),
};

/** Shifts of elements: operation, bits of an element. */
const SHIFTS: Readonly<Record<number, readonly [number, number]>> = {
  [H.H_PSLLW]: [V.i16x8_shl, 16],
  [H.H_PSLLD]: [V.i32x4_shl, 32],
  [H.H_PSLLQ]: [V.i64x2_shl, 64],
  [H.H_PSRLW]: [V.i16x8_shr_u, 16],
  [H.H_PSRLD]: [V.i32x4_shr_u, 32],
  [H.H_PSRLQ]: [V.i64x2_shr_u, 64],
  [H.H_PSRAW]: [V.i16x8_shr_s, 16],
  [H.H_PSRAD]: [V.i32x4_shr_s, 32],
};

/** Signs of elements, by sub. */
const SIGNS: readonly (number | undefined)[] = [V.i32x4_bitmask, V.i64x2_bitmask, undefined, V.i8x16_bitmask];

const isArithmetic = (handler: number): boolean => handler === H.H_PSRAW || handler === H.H_PSRAD;

/** Elements that PINSR and PEXTR take, by sub: log2 of their bytes, 'size' for the operand's. */
const INSERTED: readonly (number | 'size' | undefined)[] = [undefined, 1, 0, 'size'];
const EXTRACTED: readonly (number | 'size' | undefined)[] = [undefined, 1, 0, 1, 'size', 2];
/** By log2 of the bytes. */
const REPLACES: readonly number[] = [
  V.i8x16_replace_lane,
  V.i16x8_replace_lane,
  V.i32x4_replace_lane,
  V.i64x2_replace_lane,
];

/** By sub of a handler in operate() of core/simd.ts: log2 of the bytes in memory. */
const READS: readonly (number | undefined)[] = [undefined, 4, undefined, undefined, undefined, 3, 2];
/** By log2 of the bytes. */
const LOADS: readonly number[] = [0, 0, V.load32_zero, V.load64_zero, V.load];
/** By sub of MOV_WV: log2 of the bytes in memory, and where they are in the register. */
const WRITES: readonly (readonly [number, number] | undefined)[] = [undefined, [4, 0], [3, 0], [2, 0], [3, 0], [3, 8]];
/** By sub of MOV_WV to a register: what that is for a load. */
const REGISTER_MOVES: readonly number[] = [0, H.H_MOV_VW, H.H_MOVQ, H.H_MOVSS, H.H_MOVSD];

const OTHERS: ReadonlySet<number> = new Set([H.H_PANDN, H.H_PMULUDQ, H.H_PSHUFB]);
const isRegular = (handler: number): boolean =>
  handler in BINARY || handler in UNARY || handler in SHUFFLES || handler in SHIFTS || OTHERS.has(handler);

/** The instruction is emitted, if its memory operand needs no check of the segment. Forms on MMX registers are not. */
export function isVector({ handler, sub }: Insn): boolean {
  switch (handler) {
    case H.H_MOV_WV:
      return WRITES[sub] !== undefined;
    case H.H_MOVD_VE:
    case H.H_MOVD_EV:
      return true;
    case H.H_MOVMSK:
      return SIGNS[sub] !== undefined;
    case H.H_PINSR:
      return INSERTED[sub] !== undefined;
    case H.H_PEXTR:
      return EXTRACTED[sub] !== undefined;
    case H.H_PSLLDQ:
    case H.H_PSRLDQ:
      return sub === 4;
    default:
      if (sub === 4) return handler in SHIFTS;
      return READS[sub] !== undefined && isRegular(handler);
  }
}
export const isVectorStore = ({ handler }: Insn): boolean =>
  handler === H.H_MOV_WV || handler === H.H_MOVD_EV || handler === H.H_PEXTR;

/** General registers that the instruction writes. */
export function writtenByVector({ handler, sub, memory, e, g }: Insn): readonly number[] {
  if (handler === H.H_MOVMSK || (handler === H.H_PEXTR && sub === 1)) return [g >> 3];
  return (handler === H.H_MOVD_EV || handler === H.H_PEXTR) && !memory ? [e >> 3] : [];
}

const xmm = (n: number): number => slot(L.R_XMM + 2 * n);

export class Vectors extends Arithmetic {
  /** Pushes whether something forbids SSE instructions (SDM vol. 3, table 13-1). */
  protected noSse(): void {
    const b = this.body;
    b.get(STATE);
    b.memory(W.i32_load, slot(L.R_CR0));
    b.i32(CR0_EM | CR0_TS);
    b.op(W.i32_and);
    b.get(STATE);
    b.memory(W.i32_load, slot(L.R_CR4));
    b.i32(CR4_OSFXSR);
    b.op(W.i32_and);
    b.i32(CR4_OSFXSR);
    b.op(W.i32_xor, W.i32_or);
  }

  /** Unless they can be used, the interpreter raises #UD or #NM. */
  #ready(): void {
    this.sseUsed = true;
    if (this.sseReady) return;
    this.body.get(this.sseForbidden);
    this.retryIf();
    this.sseReady = true;
  }

  #get(n: number, op: number = V.load): void {
    this.body.get(STATE);
    this.body.memory128(op, xmm(n));
  }
  #set(n: number, value: () => void): void {
    this.body.get(STATE);
    value();
    this.body.memory128(V.store, xmm(n));
  }

  #find(insn: Insn, log2: number, write: boolean): void {
    this.address(insn, 1 << log2, write, log2 < 4 ? 'likely' : insn.unaligned ? 'open' : 'needed');
  }

  protected vector(insn: Insn): void {
    const b = this.body;
    const { handler, sub, memory, size, reg } = insn;
    const rm = insn.e >> 3;
    this.#ready();
    switch (handler) {
      case H.H_MOV_WV: {
        if (!memory) {
          this.#set(rm, () => this.#operate(REGISTER_MOVES[sub], 0, rm, () => this.#get(reg, LOADS[WRITES[sub]![0]])));
          return;
        }
        const [log2, from] = WRITES[sub]!;
        this.#find(insn, log2, true);
        this.host(this.writeCache);
        b.get(STATE);
        if (log2 === 4) {
          b.memory128(V.load, xmm(reg));
          b.memory128(V.store, 0);
        } else {
          this.loadOp(log2, xmm(reg) + from);
          this.storeOp(log2);
        }
        return;
      }
      case H.H_MOVD_VE:
        if (memory) this.#find(insn, size, false);
        this.#set(reg, () => {
          if (memory) {
            this.loadVector(LOADS[size]);
            return;
          }
          b.splat128(0);
          this.value(insn.e, size);
          b.vector(size === 3 ? V.i64x2_replace_lane : V.i32x4_replace_lane, 0);
        });
        return;
      case H.H_MOVD_EV:
        this.#extract(insn, size, reg, 0, insn.e);
        return;
      case H.H_PEXTR: {
        const element = EXTRACTED[sub]!;
        const log2 = element === 'size' ? size : element;
        if (sub === 1) this.#extract(insn, log2, rm, insn.immLo, insn.g);
        else this.#extract(insn, log2, reg, insn.immLo, insn.e);
        return;
      }
      case H.H_PINSR: {
        const element = INSERTED[sub]!;
        const log2 = element === 'size' ? size : element;
        if (memory) this.#find(insn, log2, false);
        this.#set(reg, () => {
          this.#get(reg);
          if (memory) this.load(insn, log2);
          else this.value(insn.e, Math.max(log2, 2));
          b.vector(REPLACES[log2], insn.immLo & ((16 >> log2) - 1));
        });
        return;
      }
      case H.H_MOVMSK:
        this.#get(rm);
        b.vector(SIGNS[sub]!);
        this.assign(insn.g, 2);
        return;
    }
    if (sub === 4) {
      this.#set(rm, () => this.#shift(handler, insn.immLo & 0xff, rm));
      return;
    }
    const log2 = READS[sub]!;
    if (memory) this.#find(insn, log2, false);
    if (handler in SHIFTS) {
      this.#shiftBy(handler, reg, () => {
        if (memory) this.load(insn, 3);
        else {
          b.get(STATE);
          this.loadOp(3, xmm(rm));
        }
      });
      return;
    }
    // Of a register nothing is used beyond what would be read from memory.
    this.#set(reg, () =>
      this.#operate(handler, insn.immLo, reg, () =>
        memory ? this.loadVector(LOADS[log2]) : this.#get(rm, LOADS[log2]),
      ),
    );
  }

  /** Pushes what a handler makes of the register `a` and of what `b` pushes. */
  #operate(handler: number, imm: number, a: number, second: () => void): void {
    const b = this.body;
    const unary = UNARY[handler];
    if (unary !== undefined) {
      second();
      for (const op of unary) b.vector(op);
    } else if (handler in BINARY) {
      this.#get(a);
      second();
      b.vector(BINARY[handler]);
    } else if (handler === H.H_PANDN) {
      second();
      this.#get(a);
      b.vector(V.andnot);
    } else if (handler === H.H_PMULUDQ) {
      this.#evenDwords(() => this.#get(a));
      this.#evenDwords(second);
      b.vector(V.i64x2_extmul_low_i32x4_u);
    } else if (handler === H.H_PSHUFB) {
      // Only bit 7 of a selector clears its byte; wasm clears it for every selector above 15.
      this.#get(a);
      second();
      b.splat128(0x8f);
      b.vector(V.and);
      b.vector(V.swizzle);
    } else if (handler === H.H_PALIGNR && imm > 16) this.#moveBytes(a, imm - 16);
    else {
      const lanes = SHUFFLES[handler](imm);
      if (lanes.some((lane) => lane < 16)) this.#get(a);
      else b.splat128(0);
      second();
      b.vector(V.shuffle, ...lanes);
    }
  }

  #evenDwords(value: () => void): void {
    value();
    this.body.splat128(0);
    this.body.vector(V.shuffle, ...elements(4, 0, 2, 4, 4));
  }

  /** An element goes to memory or, zero-extended to 64 bits, to the general register at an offset of the state block. */
  #extract(insn: Insn, log2: number, from: number, imm: number, to: number): void {
    const b = this.body;
    if (insn.memory) {
      this.#find(insn, log2, true);
      this.host(this.writeCache);
    }
    b.get(STATE);
    this.loadOp(log2, xmm(from) + ((imm & ((16 >> log2) - 1)) << log2));
    if (insn.memory) this.storeOp(log2);
    else this.assign(to, Math.max(log2, 2));
  }

  /** Pushes a register whose bytes have moved down by so many places, or up. */
  #moveBytes(n: number, by: number): void {
    this.#get(n);
    this.body.splat128(0);
    this.body.vector(V.shuffle, ...Array.from({ length: 16 }, (_, i) => (i + by >= 0 && i + by < 16 ? i + by : 16)));
  }

  /** Pushes a register shifted by an immediate. */
  #shift(handler: number, count: number, n: number): void {
    const b = this.body;
    if (handler === H.H_PSLLDQ || handler === H.H_PSRLDQ) {
      this.#moveBytes(n, handler === H.H_PSRLDQ ? count : -count);
      return;
    }
    const [op, bits] = SHIFTS[handler];
    if (count >= bits && !isArithmetic(handler)) {
      b.splat128(0);
      return;
    }
    this.#get(n);
    b.i32(Math.min(count, bits - 1));
    b.vector(op);
  }

  /** Shifts a register by what is pushed as i64. */
  #shiftBy(handler: number, n: number, count: () => void): void {
    const b = this.body;
    const [op, bits] = SHIFTS[handler];
    count();
    b.set(T0);
    this.#set(n, () => {
      this.#get(n);
      b.get(T0);
      if (isArithmetic(handler)) {
        b.i64(bits - 1);
        b.get(T0);
        b.i64(bits);
        b.op(W.i64_lt_u, W.select);
      }
      b.op(W.i32_wrap_i64);
      b.vector(op);
      if (isArithmetic(handler)) return;
      // wasm takes counts modulo the width.
      b.i32(-1);
      b.i32(0);
      b.get(T0);
      b.i64(bits);
      b.op(W.i64_lt_u, W.select);
      b.vector(V.i32x4_splat);
      b.vector(V.and);
    });
  }
}
