// Floating-point arithmetic of SSE to SSE4.1 (SDM vol. 1, 10.4, 11.4 and 11.5; rows in opcodes/sse-float.ts), over softfloat.
//
// Operands and results pass through memory, where elements have numbers. All elements are computed and their flags collected before
// anything is written: an unmasked exception leaves only flags in MXCSR.

import * as H from './tables.generated';
import { R_CR4, R_MXCSR } from './layout';
import { CR4_OSXMMEXCPT, FLAG_CF, FLAG_PF, FLAG_ZF, UD, XM, failed, isAmd, raise, reg, reg32, setReg } from './state';
import { setArithFlags } from './flags';
import { inMemory, putG, readE, sizeOf } from './operand';
import { enterMmx, numberP, numberV, readPartOfW, readQ, readW, setMmx, setXmm, xmm } from './simd';
import {
  RC_CURRENT, REL_EQUAL, REL_GREATER, REL_LESS, REL_UNORDERED, add32, add64, beginSse, compare32, compare64, div32, div64, f32ToI32, f32ToI64,
  f64ToI32, f64ToI64, i32ToF32, i32ToF64, i64ToF32, i64ToF64, max32, max64, min32, min64, mul32, mul64, narrow, roundInt32, roundInt64,
  sqrt32, sqrt64, sseFlags, sseUnmasked, sub32, sub64, widen,
} from './softfloat';

// Formats: `sub` of most handlers. The last two are scalars: their element 0, the rest of the destination stays.
const PS: i32 = 0;
const PD: i32 = 1;
const SS: i32 = 2;

/** Destination, source and result of the current instruction. */
const left: usize = memory.data(16, 16);
const right: usize = memory.data(16, 16);
const result: usize = memory.data(16, 16);

/** Puts the collected flags into MXCSR. False with #XM pending, or #UD if the system does not want that. */
function settle(): bool {
  setReg(R_MXCSR, reg(R_MXCSR) | sseFlags());
  if (!sseUnmasked()) return true;
  raise(reg(R_CR4) & CR4_OSXMMEXCPT ? XM : UD);
  return false;
}

/** W as a vector of this format or a scalar of it. Check failed(). */
function readFormat(rec: usize, format: i32): v128 {
  return format < SS ? readW(rec) : readPartOfW(rec, format == SS ? 2 : 3);
}

// @ts-ignore: decorator
@inline function a32(i: usize): u32 {
  return load<u32>(left + (i << 2));
}
// @ts-ignore: decorator
@inline function b32(i: usize): u32 {
  return load<u32>(right + (i << 2));
}
// @ts-ignore: decorator
@inline function put32(i: usize, value: u32): void {
  store<u32>(result + (i << 2), value);
}
// @ts-ignore: decorator
@inline function a64(i: usize): u64 {
  return load<u64>(left + (i << 3));
}
// @ts-ignore: decorator
@inline function b64(i: usize): u64 {
  return load<u64>(right + (i << 3));
}
// @ts-ignore: decorator
@inline function put64(i: usize, value: u64): void {
  store<u64>(result + (i << 3), value);
}

/** CMPPS: predicates 1, 2, 5 and 6 signal quiet NaNs too; 4 to 7 are the opposites of 0 to 3. */
// @ts-ignore: decorator
@inline function signals(predicate: i32): bool {
  return (predicate & 3) == 1 || (predicate & 3) == 2;
}
function holds(predicate: i32, relation: i32): bool {
  let yes: bool;
  switch (predicate & 3) {
    case 0: yes = relation == REL_EQUAL; break;
    case 1: yes = relation == REL_LESS; break;
    case 2: yes = relation == REL_LESS || relation == REL_EQUAL; break;
    default: yes = relation == REL_UNORDERED; break;
  }
  return yes != ((predicate & 4) != 0);
}

function element32(handler: i32, a: u32, b: u32, imm: i32): u32 {
  switch (handler) {
    case H.H_ADDF: return add32(a, b);
    case H.H_SUBF: return sub32(a, b);
    case H.H_MULF: return mul32(a, b);
    case H.H_DIVF: return div32(a, b);
    case H.H_MINF: return min32(a, b);
    case H.H_MAXF: return max32(a, b);
    case H.H_SQRTF: return sqrt32(b);
    case H.H_CMPF: return holds(imm, compare32(a, b, signals(imm))) ? 0xffffffff : 0;
    case H.H_ROUNDF: return roundInt32(b, imm & 4 ? RC_CURRENT : imm & 3, (imm & 8) != 0);
    case H.H_RCPF: return reciprocal(b);
    default: return reciprocalRoot(b);
  }
}
function element64(handler: i32, a: u64, b: u64, imm: i32): u64 {
  switch (handler) {
    case H.H_ADDF: return add64(a, b);
    case H.H_SUBF: return sub64(a, b);
    case H.H_MULF: return mul64(a, b);
    case H.H_DIVF: return div64(a, b);
    case H.H_MINF: return min64(a, b);
    case H.H_MAXF: return max64(a, b);
    case H.H_SQRTF: return sqrt64(b);
    case H.H_CMPF: return holds(imm, compare64(a, b, signals(imm))) ? 0xffffffffffffffff : 0;
    default: return roundInt64(b, imm & 4 ? RC_CURRENT : imm & 3, (imm & 8) != 0);
  }
}

// ---- approximations: no flags, no rounding control; denormals count as zero (SDM vol. 2, RCPPS and RSQRTPS) ----

/** Rounds the significand to 12 bits behind the point: half the error that is allowed, 1.5 * 2^-12. Processors differ in these bits. */
function rounded12(value: f64): u32 {
  const bits = (reinterpret<u32>(<f32>value) + 0x400) & 0xfffff800;
  return (bits & 0x7f800000) == 0 ? bits & 0x80000000 : bits;
}
function reciprocal(a: u32): u32 {
  const magnitude = a & 0x7fffffff;
  if (magnitude > 0x7f800000) return a | 0x00400000;
  if (magnitude < 0x00800000) return (a & 0x80000000) | 0x7f800000;
  return rounded12(1.0 / <f64>reinterpret<f32>(a));
}
function reciprocalRoot(a: u32): u32 {
  const magnitude = a & 0x7fffffff;
  if (magnitude > 0x7f800000) return a | 0x00400000;
  if (magnitude < 0x00800000) return (a & 0x80000000) | 0x7f800000;
  if (a >> 31) return 0xffc00000;
  return rounded12(1.0 / sqrt<f64>(<f64>reinterpret<f32>(a)));
}

// ---- all elements at once ----

/** Every single of the vector is normal or zero; and every double. */
// @ts-ignore: decorator
@inline function plainSingles(v: v128): bool {
  const magnitude = v128.and(v, i32x4.splat(0x7fffffff));
  return i32x4.all_true(v128.or(i32x4.lt_u(i32x4.sub(magnitude, i32x4.splat(0x00800000)), i32x4.splat(0x7f000000)), zeroSingles(v)));
}
// @ts-ignore: decorator
@inline function plainDoubles(v: v128): bool {
  const magnitude = v128.and(v, i64x2.splat(0x7fffffffffffffff));
  const normal = v128.and(i64x2.gt_s(magnitude, i64x2.splat(0x000fffffffffffff)), i64x2.lt_s(magnitude, i64x2.splat(0x7ff0000000000000)));
  return i64x2.all_true(v128.or(normal, zeroDoubles(v)));
}
// @ts-ignore: decorator
@inline function zeroSingles(v: v128): v128 {
  return f32x4.eq(v, i64x2.splat(0));
}
// @ts-ignore: decorator
@inline function zeroDoubles(v: v128): v128 {
  return f64x2.eq(v, i64x2.splat(0));
}
/** Every result is safely normal, or a zero where `zero` allows one. */
// @ts-ignore: decorator
@inline function safeSingles(v: v128, zero: v128): bool {
  const magnitude = v128.and(v, i32x4.splat(0x7fffffff));
  const normal = v128.and(i32x4.gt_s(magnitude, i32x4.splat(0x00800000)), i32x4.lt_s(magnitude, i32x4.splat(0x7f800000)));
  return i32x4.all_true(v128.or(normal, v128.and(zero, zeroSingles(v))));
}
// @ts-ignore: decorator
@inline function safeDoubles(v: v128, zero: v128): bool {
  const magnitude = v128.and(v, i64x2.splat(0x7fffffffffffffff));
  const normal = v128.and(i64x2.gt_s(magnitude, i64x2.splat(0x0010000000000000)), i64x2.lt_s(magnitude, i64x2.splat(0x7ff0000000000000)));
  return i64x2.all_true(v128.or(normal, v128.and(zero, zeroDoubles(v))));
}

/**
 * Packed arithmetic by the host, for operands that are normal or zero. Comparisons and extremes of those flag nothing; the rest needs
 * rounding to nearest, P masked and set already, and results that are normal or exact zeros, so that MXCSR stays. Leaves the result in
 * `result`; false if one of that does not hold.
 */
function packed(handler: i32, format: i32, imm: i32, a: v128, b: v128): bool {
  const singles = format == PS;
  if (singles ? !plainSingles(a) || !plainSingles(b) : !plainDoubles(a) || !plainDoubles(b)) return false;
  let r: v128;
  switch (handler) {
    case H.H_MINF: r = singles ? f32x4.pmin(b, a) : f64x2.pmin(b, a); break;
    case H.H_MAXF: r = singles ? f32x4.pmax(b, a) : f64x2.pmax(b, a); break;
    case H.H_CMPF:
      switch (imm & 3) {
        case 0: r = singles ? f32x4.eq(a, b) : f64x2.eq(a, b); break;
        case 1: r = singles ? f32x4.lt(a, b) : f64x2.lt(a, b); break;
        case 2: r = singles ? f32x4.le(a, b) : f64x2.le(a, b); break;
        default: r = i64x2.splat(0); break;
      }
      if (imm & 4) r = v128.not(r);
      break;
    default: {
      if ((reg32(R_MXCSR) & 0x7020) != 0x1020) return false;
      // A sum is zero only if it is exact; a product or a quotient if an operand is.
      let zero = i32x4.splat(-1);
      switch (handler) {
        case H.H_ADDF: r = singles ? f32x4.add(a, b) : f64x2.add(a, b); break;
        case H.H_SUBF: r = singles ? f32x4.sub(a, b) : f64x2.sub(a, b); break;
        case H.H_MULF:
          r = singles ? f32x4.mul(a, b) : f64x2.mul(a, b);
          zero = singles ? v128.or(zeroSingles(a), zeroSingles(b)) : v128.or(zeroDoubles(a), zeroDoubles(b));
          break;
        case H.H_DIVF:
          r = singles ? f32x4.div(a, b) : f64x2.div(a, b);
          zero = singles ? zeroSingles(a) : zeroDoubles(a);
          break;
        default: return false;
      }
      if (singles ? !safeSingles(r, zero) : !safeDoubles(r, zero)) return false;
    }
  }
  v128.store(result, r);
  return true;
}

/** Two operands of one format to a result of it, element by element. */
function elementwise(rec: usize, handler: i32, format: i32, imm: i32): void {
  const b = readFormat(rec, format);
  if (failed()) return;
  const to = numberV(rec);
  const a = xmm(to);
  if (format < SS && packed(handler, format, imm, a, b)) {
    setXmm(to, v128.load(result));
    return;
  }
  beginSse(reg32(R_MXCSR));
  v128.store(result, a);
  if (format == SS) put32(0, element32(handler, i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0), imm));
  else if (format > SS) put64(0, element64(handler, i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0), imm));
  else {
    v128.store(left, a);
    v128.store(right, b);
    if (format == PS) for (let i: usize = 0; i < 4; i++) put32(i, element32(handler, a32(i), b32(i), imm));
    else for (let i: usize = 0; i < 2; i++) put64(i, element64(handler, a64(i), b64(i), imm));
  }
  if (settle()) setXmm(to, v128.load(result));
}

/** HADDPS, HSUBPS, ADDSUBPS and their PD forms. */
function horizontal(rec: usize, handler: i32, format: i32): void {
  const b = readW(rec);
  if (failed()) return;
  v128.store(left, xmm(numberV(rec)));
  v128.store(right, b);
  beginSse(reg32(R_MXCSR));
  if (handler == H.H_ADDSUBF) {
    if (format == PS) for (let i: usize = 0; i < 4; i++) put32(i, i & 1 ? add32(a32(i), b32(i)) : sub32(a32(i), b32(i)));
    else for (let i: usize = 0; i < 2; i++) put64(i, i & 1 ? add64(a64(i), b64(i)) : sub64(a64(i), b64(i)));
  } else {
    const subtract = handler == H.H_HSUBF;
    if (format == PS) {
      for (let i: usize = 0; i < 4; i++) {
        const at = (i < 2 ? left : right) + ((i & 1) << 3);
        const x = load<u32>(at);
        const y = load<u32>(at, 4);
        put32(i, subtract ? sub32(x, y) : add32(x, y));
      }
    } else {
      for (let i: usize = 0; i < 2; i++) {
        const at = i == 0 ? left : right;
        put64(i, subtract ? sub64(load<u64>(at), load<u64>(at, 8)) : add64(load<u64>(at), load<u64>(at, 8)));
      }
    }
  }
  if (settle()) setXmm(numberV(rec), v128.load(result));
}

/**
 * DPPS and DPPD: products, then one or two sums. Each step is an instruction of its own as to exceptions. Of two NaNs the first operand of a
 * sum wins: AMD processors add once for all elements, Intel ones for each (measured on an Intel Xeon, Cascade Lake).
 */
function dotProduct(rec: usize, format: i32, imm: i32): void {
  const b = readW(rec);
  if (failed()) return;
  v128.store(left, xmm(numberV(rec)));
  v128.store(right, b);
  const amd = isAmd();
  beginSse(reg32(R_MXCSR));
  if (format == PS) {
    for (let i: usize = 0; i < 4; i++) put32(i, imm & (16 << <i32>i) ? mul32(a32(i), b32(i)) : 0);
    if (!settle()) return;
    beginSse(reg32(R_MXCSR));
    v128.store(left, v128.load(result));
    for (let i: usize = 0; i < 4; i++) put32(i, amd ? add32(a32(i & 2), a32(i | 1)) : add32(a32(i ^ 1), a32(i)));
    if (!settle()) return;
    beginSse(reg32(R_MXCSR));
    v128.store(left, v128.load(result));
    for (let i: usize = 0; i < 4; i++) {
      const sum = amd ? add32(a32(0), a32(2)) : add32(a32(i), a32(i ^ 2));
      put32(i, imm & (1 << <i32>i) ? sum : 0);
    }
  } else {
    for (let i: usize = 0; i < 2; i++) put64(i, imm & (16 << <i32>i) ? mul64(a64(i), b64(i)) : 0);
    if (!settle()) return;
    beginSse(reg32(R_MXCSR));
    v128.store(left, v128.load(result));
    for (let i: usize = 0; i < 2; i++) {
      const sum = amd ? add64(a64(0), a64(1)) : add64(a64(i), a64(i ^ 1));
      put64(i, imm & (1 << <i32>i) ? sum : 0);
    }
  }
  if (settle()) setXmm(numberV(rec), v128.load(result));
}

/** COMISS (`sub` 2), COMISD (3) and, quiet, UCOMISS (0), UCOMISD (1). */
function compareScalars(rec: usize, sub: i32): void {
  const b = readPartOfW(rec, sub & 1 ? 3 : 2);
  if (failed()) return;
  const a = xmm(numberV(rec));
  beginSse(reg32(R_MXCSR));
  const relation = sub & 1
    ? compare64(i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0), sub > 1)
    : compare32(i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0), sub > 1);
  if (!settle()) return;
  switch (relation) {
    case REL_GREATER: setArithFlags(0); break;
    case REL_LESS: setArithFlags(FLAG_CF); break;
    case REL_EQUAL: setArithFlags(FLAG_ZF); break;
    default: setArithFlags(FLAG_CF | FLAG_PF | FLAG_ZF); break;
  }
}

// ---- conversions ----

/** Forms of CVT_VW, between XMM registers, by sub. */
const PS_PD: i32 = 0;
const PD_PS: i32 = 1;
const SS_SD: i32 = 2;
const SD_SS: i32 = 3;
const DQ_PS: i32 = 4;
const PS_DQ: i32 = 5;
const PS_DQ_TRUNCATED: i32 = 6;
const DQ_PD: i32 = 7;
const PD_DQ: i32 = 8;

function convert(rec: usize, sub: i32): void {
  const b = sub == PS_PD || sub == SD_SS || sub == DQ_PD ? readPartOfW(rec, 3) : sub == SS_SD ? readPartOfW(rec, 2) : readW(rec);
  if (failed()) return;
  const to = numberV(rec);
  v128.store(right, b);
  v128.store(result, sub == SS_SD || sub == SD_SS ? xmm(to) : i64x2.splat(0));
  beginSse(reg32(R_MXCSR));
  switch (sub) {
    case PS_PD:
      put64(0, widen(b32(0)));
      put64(1, widen(b32(1)));
      break;
    case PD_PS:
      put32(0, narrow(b64(0)));
      put32(1, narrow(b64(1)));
      break;
    case SS_SD: put64(0, widen(b32(0))); break;
    case SD_SS: put32(0, narrow(b64(0))); break;
    case DQ_PS: for (let i: usize = 0; i < 4; i++) put32(i, i32ToF32(b32(i))); break;
    case PS_DQ: case PS_DQ_TRUNCATED: for (let i: usize = 0; i < 4; i++) put32(i, f32ToI32(b32(i), sub == PS_DQ_TRUNCATED)); break;
    case DQ_PD:
      put64(0, i32ToF64(b32(0)));
      put64(1, i32ToF64(b32(1)));
      break;
    default:
      put32(0, f64ToI32(b64(0), sub != PD_DQ));
      put32(1, f64ToI32(b64(1), sub != PD_DQ));
      break;
  }
  if (settle()) setXmm(to, v128.load(result));
}

/** CVTSI2SS (`sub` 0) and CVTSI2SD (1). */
function convertFromGeneral(rec: usize, sub: i32): void {
  const value = readE(rec, sizeOf(rec));
  if (failed()) return;
  const wide = sizeOf(rec) == 3;
  const to = numberV(rec);
  beginSse(reg32(R_MXCSR));
  v128.store(result, xmm(to));
  if (sub == 0) put32(0, wide ? i64ToF32(<i64>value) : i32ToF32(<i32>value));
  else put64(0, wide ? i64ToF64(<i64>value) : i32ToF64(<i32>value));
  if (settle()) setXmm(to, v128.load(result));
}
/** CVTSS2SI, CVTSD2SI; `sub` bit 0: double, bit 1: truncating. */
function convertToGeneral(rec: usize, sub: i32): void {
  const double = (sub & 1) != 0;
  const truncate = (sub & 2) != 0;
  const b = readPartOfW(rec, double ? 3 : 2);
  if (failed()) return;
  const wide = sizeOf(rec) == 3;
  const x = <u64>i64x2.extract_lane(b, 0);
  beginSse(reg32(R_MXCSR));
  let value: u64;
  if (double) value = wide ? f64ToI64(x, truncate) : <u64>f64ToI32(x, truncate);
  else value = wide ? f32ToI64(<u32>x, truncate) : <u64>f32ToI32(<u32>x, truncate);
  if (settle()) putG(rec, sizeOf(rec), value);
}

/**
 * False for CVTPI2PD and CVTPI2PS with a memory operand: x87 and MMX state play no part then. Of CVTPI2PS the SDM says otherwise (vol. 2),
 * but Intel processors do as AMD's (measured on an Intel Xeon, Cascade Lake).
 */
export function usesMmx(rec: usize, handler: i32): bool {
  return handler != H.H_CVT_VQ || !inMemory(rec);
}
/** CVTPI2PS (`sub` 0) and CVTPI2PD (1). */
function convertFromMmx(rec: usize, sub: i32): void {
  const b = readQ(rec, 3);
  if (failed()) return;
  const to = numberV(rec);
  v128.store(right, b);
  v128.store(result, xmm(to));
  beginSse(reg32(R_MXCSR));
  if (sub == 0) {
    put32(0, i32ToF32(b32(0)));
    put32(1, i32ToF32(b32(1)));
  } else {
    put64(0, i32ToF64(b32(0)));
    put64(1, i32ToF64(b32(1)));
  }
  if (usesMmx(rec, H.H_CVT_VQ)) enterMmx();
  if (settle()) setXmm(to, v128.load(result));
}
/** CVTPS2PI, CVTPD2PI; `sub` bit 0: double, bit 1: truncating. */
function convertToMmx(rec: usize, sub: i32): void {
  const b = sub & 1 ? readW(rec) : readPartOfW(rec, 3);
  if (failed()) return;
  v128.store(right, b);
  const truncate = (sub & 2) != 0;
  beginSse(reg32(R_MXCSR));
  for (let i: usize = 0; i < 2; i++) put32(i, sub & 1 ? f64ToI32(b64(i), truncate) : f32ToI32(b32(i), truncate));
  // MMX state comes before the outcome (measured on AMD and Intel processors; SDM and APM are silent).
  enterMmx();
  if (settle()) setMmx(numberP(rec), load<u64>(result));
}

/** Executes an instruction of opcodes/sse-float.ts; its state has been found usable. */
export function sseFloat(rec: usize, handler: i32, sub: i32, imm: i32): void {
  switch (handler) {
    case H.H_HADDF: case H.H_HSUBF: case H.H_ADDSUBF: horizontal(rec, handler, sub); break;
    case H.H_DPF: dotProduct(rec, sub, imm); break;
    case H.H_COMISF: compareScalars(rec, sub); break;
    case H.H_CVT_VW: convert(rec, sub); break;
    case H.H_CVT_VE: convertFromGeneral(rec, sub); break;
    case H.H_CVT_GW: convertToGeneral(rec, sub); break;
    case H.H_CVT_VQ: convertFromMmx(rec, sub); break;
    case H.H_CVT_PW: convertToMmx(rec, sub); break;
    default: elementwise(rec, handler, sub, imm); break;
  }
}
