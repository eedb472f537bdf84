// IEEE 754 binary arithmetic in software, with the flags of x86 (SDM vol. 1, 4.8, 4.9 and chapter 8 and 11): binary32, binary64,
// and the 80-bit double extended format with the precision control of x87. One implementation for all: operands A and B are unpacked
// to kind, sign, exponent and a 64-bit significand; an operation leaves the exact result (128 bits with a sticky bit) in Z; one function
// rounds. Tininess is detected after rounding. Values of binary32 and binary64 are raw bits.
//
// An instruction begins with beginSse(MXCSR) or beginX87(FCW), which say how to round, what is masked and which NaN wins; flags collect
// in `raised`. If an unmasked exception is among them the values returned are not to be used, except the biased results of x87.

import { wideDiv, wideMul, shiftRightSticky, wideSqrt, wideLow, wideRemainder } from './wide';

/** Exception flags, at their places in MXCSR, FCW and FSW. */
export const FP_I: u32 = 1;
export const FP_D: u32 = 2;
export const FP_Z: u32 = 4;
export const FP_O: u32 = 8;
export const FP_U: u32 = 16;
export const FP_P: u32 = 32;

/** Rounding control, as in MXCSR and FCW. */
export const RC_NEAREST: i32 = 0;
export const RC_DOWN: i32 = 1;
export const RC_UP: i32 = 2;
export const RC_ZERO: i32 = 3;
/** For roundInt: as the control register says. */
export const RC_CURRENT: i32 = 4;

export const REL_LESS: i32 = -1;
export const REL_EQUAL: i32 = 0;
export const REL_GREATER: i32 = 1;
export const REL_UNORDERED: i32 = 2;

/** Kinds of unpacked operands. UNSUPPORTED: unnormals, pseudo-infinities and pseudo-NaNs (SDM vol. 1, 8.2.2). */
export const ZERO: i32 = 0;
export const FINITE: i32 = 1;
export const INFINITE: i32 = 2;
export const QNAN: i32 = 3;
export const SNAN: i32 = 4;
export const UNSUPPORTED: i32 = 5;

/** The integer bit, and the bit that makes a NaN quiet. */
export const TOP: u64 = 0x8000000000000000;
export const QUIET: u64 = 0x4000000000000000;

// ---- control ----
export let raised: u32 = 0;
/** Mask bits 5:0. */
export let masks: u32 = 0;
export let roundingMode: i32 = 0;
/** The last rounding increased the magnitude (C1 of x87). */
export let roundedUp: bool = false;
/** x87: an unmasked overflow or underflow on the way to memory; there is no result to store. */
export let noResult: bool = false;
let daz: bool = false;
let ftz: bool = false;
/** Rules of x87: which NaN wins, biased results. */
let x87: bool = false;
/** Bits of the significand that x87 arithmetic rounds to: 24, 53 or 64. */
export let precision: i32 = 64;
/** P is of no interest any more and rounding is to nearest: the host's arithmetic gives the same bits. */
let hostExact: bool = false;
let hostRounds: bool = false;

// ---- operands and result ----
export let aKind: i32 = 0;
export let aSign: bool = false;
export let aExp: i32 = 0;
export let aSig: u64 = 0;
export let aDenormal: bool = false;
export let bKind: i32 = 0;
export let bSign: bool = false;
export let bExp: i32 = 0;
export let bSig: u64 = 0;
export let bDenormal: bool = false;

/** The value is zSig:zLow * 2^(zExp - 63); a finite one has TOP set until it is rounded. */
export let zKind: i32 = 0;
export let zSign: bool = false;
export let zExp: i32 = 0;
export let zSig: u64 = 0;
let zLow: u64 = 0;
/** The 80-bit result of finish80: sign and exponent, significand. */
export let resultSe: u32 = 0;
export let resultSig: u64 = 0;

export function beginSse(mxcsr: u32): void {
  raised = 0;
  masks = (mxcsr >> 7) & 0x3f;
  roundingMode = <i32>((mxcsr >> 13) & 3);
  daz = (mxcsr & 0x40) != 0;
  ftz = (mxcsr & 0x8000) != 0;
  x87 = false;
  hostExact = roundingMode == RC_NEAREST;
  hostRounds = hostExact && (mxcsr & FP_P) != 0 && (masks & FP_P) != 0;
}
export function beginX87(fcw: u32): void {
  raised = 0;
  masks = fcw & 0x3f;
  roundingMode = <i32>((fcw >> 10) & 3);
  const pc = (fcw >> 8) & 3;
  // 01 is reserved; processors take it for 64 bits.
  precision = pc == 0 ? 24 : pc == 2 ? 53 : 64;
  daz = false;
  ftz = false;
  x87 = true;
  roundedUp = false;
  noResult = false;
}
export function raiseFlags(bits: u32): void {
  raised |= bits;
}
export function setRaised(bits: u32): void {
  raised = bits;
}
export function setRoundedUp(up: bool): void {
  roundedUp = up;
}

/** Flags for MXCSR; an unmasked pre-computation exception hides the others (SDM vol. 1, 11.5.3). */
export function sseFlags(): u32 {
  const before = raised & (FP_I | FP_D | FP_Z);
  return before & ~masks ? before : raised;
}
export function sseUnmasked(): bool {
  return (sseFlags() & ~masks) != 0;
}

// ---- unpacking: into B, or into A by moving B there ----

function set(kind: i32, sign: bool, exp: i32, sig: u64, denormal: bool): void {
  bKind = kind;
  bSign = sign;
  bExp = exp;
  bSig = sig;
  bDenormal = denormal;
}
export function moveToA(): void {
  aKind = bKind;
  aSign = bSign;
  aExp = bExp;
  aSig = bSig;
  aDenormal = bDenormal;
}
export function swapOperands(): void {
  const kind = aKind;
  const sign = aSign;
  const exp = aExp;
  const sig = aSig;
  const denormal = aDenormal;
  moveToA();
  set(kind, sign, exp, sig, denormal);
}

/** A format with an implicit integer bit; `sig` is left-aligned below the place of the integer bit. */
function unpackImplicit(sign: bool, exp: i32, sig: u64, bias: i32): void {
  if (exp == 0) {
    if (sig == 0 || daz) set(ZERO, sign, 0, 0, false);
    else {
      const shift = <i32>clz<u64>(sig);
      set(FINITE, sign, 1 - bias - shift, sig << shift, true);
    }
  } else if (exp == bias * 2 + 1) {
    set(sig == 0 ? INFINITE : sig & QUIET ? QNAN : SNAN, sign, 0, sig | TOP, false);
  } else set(FINITE, sign, exp - bias, sig | TOP, false);
}
export function setB32(bits: u32): void {
  unpackImplicit(bits >> 31 != 0, <i32>((bits >> 23) & 0xff), <u64>(bits & 0x7fffff) << 40, 127);
}
export function setB64(bits: u64): void {
  unpackImplicit(bits >> 63 != 0, <i32>((bits >> 52) & 0x7ff), (bits & 0xfffffffffffff) << 11, 1023);
}
export function setB80(se: u32, sig: u64): void {
  const sign = (se & 0x8000) != 0;
  const exp = <i32>(se & 0x7fff);
  if (exp == 0) {
    if (sig == 0) set(ZERO, sign, 0, 0, false);
    else {
      const shift = <i32>clz<u64>(sig);
      set(FINITE, sign, -16382 - shift, sig << shift, true);
    }
  } else if ((sig & TOP) == 0) set(UNSUPPORTED, sign, 0, sig, false);
  else if (exp == 0x7fff) set(sig << 1 == 0 ? INFINITE : sig & QUIET ? QNAN : SNAN, sign, 0, sig, false);
  else set(FINITE, sign, exp - 16383, sig, false);
}
export function setBInt(value: i64): void {
  if (value == 0) {
    set(ZERO, false, 0, 0, false);
    return;
  }
  const magnitude = <u64>(value < 0 ? -value : value);
  const shift = <i32>clz<u64>(magnitude);
  set(FINITE, value < 0, 63 - shift, magnitude << shift, false);
}

// ---- results that are not rounded ----

export function special(kind: i32, sign: bool): void {
  zKind = kind;
  zSign = sign;
  zLow = 0;
  zSig = kind == ZERO ? 0 : TOP;
}
/** The QNaN floating-point indefinite. */
export function defaultNan(): void {
  raised |= FP_I;
  zKind = QNAN;
  zSign = true;
  zSig = TOP | QUIET;
}
function resultNan(sign: bool, sig: u64): void {
  zKind = QNAN;
  zSign = sign;
  zSig = sig | QUIET;
}
/** Z = a given finite value, not necessarily normalised. */
export function setZ(sign: bool, exp: i32, sig: u64, low: u64): void {
  zKind = FINITE;
  zSign = sign;
  if (sig == 0) {
    sig = low;
    low = 0;
    exp -= 64;
    if (sig == 0) {
      special(ZERO, sign);
      return;
    }
  }
  const shift = <i32>clz<u64>(sig);
  if (shift) {
    sig = (sig << shift) | (low >> (64 - shift));
    low <<= shift;
  }
  zExp = exp - shift;
  zSig = sig;
  zLow = low;
}
/** Z = A or a negated A as it is; a signalling NaN becomes quiet. */
export function copyA(): void {
  if (aKind == UNSUPPORTED) {
    defaultNan();
    return;
  }
  if (aKind == SNAN) raised |= FP_I;
  if (aKind >= QNAN) {
    resultNan(aSign, aSig);
    return;
  }
  zKind = aKind;
  zSign = aSign;
  zExp = aExp;
  zSig = aSig;
  zLow = 0;
}

/** Takes care of NaNs and unsupported operands: true if Z is the result. Otherwise notes denormal operands. */
export function nan2(): bool {
  if (aKind < QNAN && bKind < QNAN) return false;
  if (aKind == UNSUPPORTED || bKind == UNSUPPORTED) {
    defaultNan();
    return true;
  }
  if (aKind == SNAN || bKind == SNAN) raised |= FP_I;
  let takeA = aKind >= QNAN;
  if (x87 && takeA && bKind >= QNAN) {
    // Two NaNs: the larger significand wins, a quiet one before a signalling one, of two equal ones the positive (SDM vol. 1, table 4-7).
    takeA = aSig != bSig ? aSig > bSig : !aSign;
  }
  if (takeA) resultNan(aSign, aSig);
  else resultNan(bSign, bSig);
  return true;
}
export function nan1(): bool {
  if (aKind < QNAN) return false;
  copyA();
  return true;
}
export function denormals(): void {
  if (aDenormal || bDenormal) raised |= FP_D;
}

// ---- arithmetic: Z = A op B, exact ----

export function add(subtract: bool): void {
  if (nan2()) return;
  const bs = bSign != subtract;
  if (aKind == INFINITE || bKind == INFINITE) {
    if (aKind == bKind && aSign != bs) {
      defaultNan();
      return;
    }
    denormals();
    special(INFINITE, aKind == INFINITE ? aSign : bs);
    return;
  }
  denormals();
  if (aKind == ZERO || bKind == ZERO) {
    if (aKind == bKind) special(ZERO, aSign == bs ? aSign : roundingMode == RC_DOWN);
    else if (aKind == ZERO) setZ(bs, bExp, bSig, 0);
    else setZ(aSign, aExp, aSig, 0);
    return;
  }
  const aLarger = aExp != bExp ? aExp > bExp : aSig >= bSig;
  const largeSign = aLarger ? aSign : bs;
  const exp = aLarger ? aExp : bExp;
  const large = aLarger ? aSig : bSig;
  const high = shiftRightSticky(aLarger ? bSig : aSig, 0, aLarger ? aExp - bExp : bExp - aExp);
  const low = wideLow;
  if (aSign == bs) {
    const sum = large + high;
    if (sum < large) setZ(largeSign, exp + 1, TOP | (sum >> 1), (sum << 63) | (low >> 1) | (low & 1));
    else setZ(largeSign, exp, sum, low);
    return;
  }
  const difference = large - high - <u64>(low != 0);
  if ((difference | low) == 0) special(ZERO, roundingMode == RC_DOWN);
  else setZ(largeSign, exp, difference, -low);
}

export function multiply(): void {
  if (nan2()) return;
  const sign = aSign != bSign;
  if (aKind == INFINITE || bKind == INFINITE) {
    if (aKind == ZERO || bKind == ZERO) {
      defaultNan();
      return;
    }
    denormals();
    special(INFINITE, sign);
    return;
  }
  denormals();
  if (aKind == ZERO || bKind == ZERO) {
    special(ZERO, sign);
    return;
  }
  const high = wideMul(aSig, bSig);
  setZ(sign, aExp + bExp + 1, high, wideLow);
}

export function divide(): void {
  if (nan2()) return;
  const sign = aSign != bSign;
  if (aKind == bKind && aKind != FINITE) {
    defaultNan(); // 0 / 0 and infinity / infinity
    return;
  }
  if (bKind == ZERO && aKind == FINITE) {
    raised |= FP_Z;
    special(INFINITE, sign);
    return;
  }
  denormals();
  if (aKind == INFINITE || bKind == ZERO) special(INFINITE, sign);
  else if (aKind == ZERO || bKind == INFINITE) special(ZERO, sign);
  else {
    const fits = aSig < bSig;
    const q = fits ? wideDiv(aSig, 0, bSig) : wideDiv(aSig >> 1, aSig << 63, bSig);
    const r = wideRemainder;
    const twice = r << 1;
    // 2r against the divisor: where the quotient's next bit is, and whether anything follows.
    const half = r >= bSig - r;
    setZ(sign, aExp - bExp - <i32>fits, q, (half ? TOP : 0) | <u64>(half ? twice != bSig : r != 0));
  }
}

export function squareRoot(): void {
  if (nan1()) return;
  if (aKind == ZERO) {
    special(ZERO, aSign);
    return;
  }
  if (aSign) {
    defaultNan();
    return;
  }
  if (aDenormal) raised |= FP_D;
  if (aKind == INFINITE) {
    special(INFINITE, false);
    return;
  }
  // sig * 2^(exp - 63), exponent made odd or even so that the root's is whole.
  const odd = (aExp & 1) != 0;
  const s = odd ? wideSqrt(aSig, 0) : wideSqrt(aSig >> 1, aSig << 63);
  setZ(false, aExp >> 1, s, wideLow);
}

/** A against B: REL_*. `signalling`: a quiet NaN is invalid too. */
export function compare(signalling: bool): i32 {
  if (aKind >= QNAN || bKind >= QNAN) {
    if (signalling || aKind >= SNAN || bKind >= SNAN) raised |= FP_I;
    return REL_UNORDERED;
  }
  denormals();
  if (aKind == ZERO && bKind == ZERO) return REL_EQUAL;
  if (aKind == ZERO) return bSign ? REL_GREATER : REL_LESS;
  if (bKind == ZERO || aSign != bSign) return aSign ? REL_LESS : REL_GREATER;
  const larger = aSign ? REL_LESS : REL_GREATER;
  if (aKind != bKind) return aKind == INFINITE ? larger : -larger;
  if (aKind == INFINITE) return REL_EQUAL;
  if (aExp != bExp) return aExp > bExp ? larger : -larger;
  return aSig == bSig ? REL_EQUAL : aSig > bSig ? larger : -larger;
}

/** The low bits of remainder's quotient, and whether the reduction is only partial (C2). */
export let quotient: u64 = 0;
export let partial: bool = false;

/**
 * Z = A - quotient * B, exact; the quotient truncated (FPREM) or rounded to nearest (FPREM1). If the exponents differ by 64 or more, the
 * difference is reduced by 32 … 63 only, as processors do it.
 */
export function remainder(nearest: bool): void {
  quotient = 0;
  partial = false;
  if (nan2()) return;
  if (aKind == INFINITE || bKind == ZERO) {
    defaultNan();
    return;
  }
  denormals();
  if (aKind == ZERO) {
    special(ZERO, aSign);
    return;
  }
  const difference = aExp - bExp;
  if (bKind == INFINITE || difference < -1 || (difference < 0 && !nearest)) {
    setZ(aSign, aExp, aSig, 0);
    return;
  }
  if (difference < 0) {
    // A is less than B; nearer to B than to zero if it is above half of it.
    if (aSig > bSig) {
      quotient = 1;
      setZ(!aSign, aExp, bSig - aSig + bSig, 0);
    } else setZ(aSign, aExp, aSig, 0);
    return;
  }
  partial = difference >= 64;
  const steps = partial ? (difference & 31) | 32 : difference;
  let r = aSig;
  let over = false;
  for (let i = steps; ; i--) {
    quotient <<= 1;
    if (over || r >= bSig) {
      r -= bSig;
      quotient |= 1;
    }
    if (i == 0) break;
    over = r >> 63 != 0;
    r <<= 1;
  }
  let sign = aSign;
  if (!partial && nearest && (r > bSig - r || (r == bSig - r && (quotient & 1) != 0))) {
    r = bSig - r;
    quotient++;
    sign = !sign;
  }
  setZ(r == 0 ? aSign : sign, partial ? bExp + difference - steps : bExp, r, 0);
}

/** Z = A * 2^trunc(B) (FSCALE). */
export function scale(): void {
  if (nan2()) return;
  if ((aKind == INFINITE && bKind == INFINITE && bSign) || (aKind == ZERO && bKind == INFINITE && !bSign)) {
    defaultNan();
    return;
  }
  denormals();
  if (bKind == INFINITE && aKind == FINITE) special(bSign ? ZERO : INFINITE, aSign);
  else if (aKind != FINITE) special(aKind, aSign);
  else {
    // Beyond 2^16 the result is out of range whatever A is.
    const by = bKind == ZERO || bExp < 0 ? 0 : bExp > 16 ? 0x20000 : <i32>(bSig >> (63 - bExp));
    setZ(aSign, aExp + (bSign ? -by : by), aSig, 0);
  }
}

/** Whether a magnitude with the last kept bit `odd` and the rest `lost` (top bit = half) goes up. */
function goesUp(sign: bool, odd: bool, lost: u64, mode: i32): bool {
  if (lost == 0) return false;
  switch (mode) {
    case RC_NEAREST: return lost > TOP || (lost == TOP && odd);
    case RC_DOWN: return sign;
    case RC_UP: return !sign;
    default: return false;
  }
}

/** Z = A rounded to an integral value. */
export function roundInt(mode: i32, quiet: bool): void {
  if (nan1()) return;
  copyA();
  if (aKind != FINITE || aExp >= 63) return;
  if (mode == RC_CURRENT) mode = roundingMode;
  const whole = aExp < 0 ? 0 : aSig >> (63 - aExp);
  const lost = aExp < -1 ? 1 : aExp == -1 ? (aSig == TOP ? TOP : TOP | 1) : aSig << (aExp + 1);
  if (lost == 0) return;
  const up = goesUp(aSign, (whole & 1) != 0, lost, mode);
  if (!quiet) {
    raised |= FP_P;
    roundedUp = up;
  }
  setZ(aSign, 63, whole + <u64>up, 0);
}

/** A as a signed integer of `bits` bits (16, 32, 64); the integer indefinite and I if it does not fit. No flag for denormals. */
export function toInt(bits: i32, mode: i32): i64 {
  const indefinite = <i64>(<u64>-1 << (bits - 1));
  if (aKind == ZERO) return 0;
  if (aKind != FINITE || aExp >= 64) {
    raised |= FP_I;
    return indefinite;
  }
  if (mode == RC_CURRENT) mode = roundingMode;
  const whole = aExp < 0 ? 0 : aSig >> (63 - aExp);
  const lost = aExp < -1 ? 1 : aExp == -1 ? (aSig == TOP ? TOP : TOP | 1) : aExp == 63 ? 0 : aSig << (aExp + 1);
  const up = goesUp(aSign, (whole & 1) != 0, lost, mode);
  const magnitude = whole + <u64>up;
  const limit = (<u64>1 << (bits - 1)) - <u64>!aSign;
  if (magnitude > limit || (up && magnitude == 0)) {
    raised |= FP_I;
    return indefinite;
  }
  if (lost) {
    raised |= FP_P;
    roundedUp = up;
  }
  return aSign ? -(<i64>magnitude) : <i64>magnitude;
}

// ---- rounding ----

/** Rounds zSig:zLow to `bits` bits, counted from the place of TOP. */
function roundAt(bits: i32): void {
  const drop = 64 - bits;
  const lost = drop == 0 ? zLow : (zSig << bits) | <u64>(zLow != 0);
  zLow = 0;
  roundedUp = false;
  if (lost == 0) return;
  raised |= FP_P;
  const unit = <u64>1 << drop;
  const up = goesUp(zSign, (zSig & unit) != 0, lost, roundingMode);
  zSig &= -unit;
  if (!up) return;
  roundedUp = true;
  zSig += unit;
  if (zSig == 0) {
    zSig = TOP;
    zExp++;
  }
}

/** True if zSig:zLow, just below the smallest normal number, rounds up to it at full precision. */
function roundsToNormal(bits: i32): bool {
  const drop = 64 - bits;
  if (zSig >> drop != <u64>-1 >> drop) return false;
  return goesUp(zSign, true, drop == 0 ? zLow : (zSig << bits) | <u64>(zLow != 0), roundingMode);
}

/**
 * Rounds a finite Z to `bits` bits with exponents min … max (SDM vol. 1, 4.9.1.4 and 4.9.1.5). `adjust`: what x87 adds to or subtracts from
 * the exponent of an unmasked underflow or overflow, 0 if there is no such result. What is out of range even then (FSCALE) is zero or infinite.
 */
function round(bits: i32, min: i32, max: i32, adjust: i32): void {
  if (zExp < min) {
    const tiny = zExp < min - 1 || !roundsToNormal(bits);
    if (tiny && (masks & FP_U) == 0) {
      raised |= FP_U;
      if (adjust && zExp + adjust < min) {
        raised |= FP_P;
        roundedUp = false;
        special(ZERO, zSign);
        return;
      }
      noResult = adjust == 0;
      zExp += adjust;
      roundAt(bits);
      return;
    }
    if (tiny && ftz) {
      raised |= FP_U | FP_P;
      special(ZERO, zSign);
      return;
    }
    zSig = shiftRightSticky(zSig, zLow, min - zExp);
    zLow = wideLow;
    zExp = min;
    const before = raised;
    raised &= ~FP_P;
    roundAt(bits);
    if (tiny && raised & FP_P) raised |= FP_U;
    raised |= before;
    if (zSig == 0) zKind = ZERO;
    return;
  }
  roundAt(bits);
  if (zExp <= max) return;
  raised |= FP_O;
  if ((masks & FP_O) == 0) {
    if (adjust && zExp - adjust > max) {
      raised |= FP_P;
      roundedUp = true;
      special(INFINITE, zSign);
      return;
    }
    noResult = adjust == 0;
    zExp -= adjust;
    return;
  }
  raised |= FP_P;
  roundedUp = goesUp(zSign, true, TOP | 1, roundingMode);
  if (roundedUp) special(INFINITE, zSign);
  else {
    zExp = max;
    zSig = <u64>-1 << (64 - bits);
  }
}

/** Z as binary32. */
export function finish32(): u32 {
  if (zKind == FINITE) round(24, -126, 127, 0);
  const sign = <u32>zSign << 31;
  switch (zKind) {
    case ZERO: return sign;
    case FINITE: return sign | ((<u32>(zExp + 127) - <u32>(zSig >> 63 == 0)) << 23) | (<u32>(zSig >> 40) & 0x7fffff);
    default: return sign | 0x7f800000 | (<u32>(zSig >> 40) & 0x7fffff);
  }
}
/** Z as binary64. */
export function finish64(): u64 {
  if (zKind == FINITE) round(53, -1022, 1023, 0);
  const sign = <u64>zSign << 63;
  switch (zKind) {
    case ZERO: return sign;
    case FINITE: return sign | (<u64>(zExp + 1023 - <i32>(zSig >> 63 == 0)) << 52) | ((zSig >> 11) & 0xfffffffffffff);
    default: return sign | 0x7ff0000000000000 | ((zSig >> 11) & 0xfffffffffffff);
  }
}
/** Z in the double extended format, rounded to `bits` bits: resultSe, resultSig. */
export function finish80(bits: i32): void {
  if (zKind == FINITE) round(bits, -16382, 16383, 24576);
  const sign = <u32>zSign << 15;
  resultSig = zSig;
  switch (zKind) {
    case ZERO:
      resultSe = sign;
      resultSig = 0;
      break;
    case FINITE:
      resultSe = sign | ((<u32>(zExp + 16383) - <u32>(zSig >> 63 == 0)) & 0x7fff);
      break;
    default:
      resultSe = sign | 0x7fff;
  }
}

// ---- binary32 and binary64 for SSE ----

function pair32(a: u32, b: u32): void {
  setB32(a);
  moveToA();
  setB32(b);
}
function pair64(a: u64, b: u64): void {
  setB64(a);
  moveToA();
  setB64(b);
}
function single32(a: u32): void {
  setB32(a);
  moveToA();
}
function single64(a: u64): void {
  setB64(a);
  moveToA();
}

// Where rounding is to nearest, operands are normal or zero and the result is safely normal, the host computes the same bits; P is known
// if it is set already, or if the operation proves exact.

// @ts-ignore: decorator
@inline function plain32(bits: u32): bool {
  return ((bits >> 23) & 0xff) - 1 < 0xfe || bits << 1 == 0;
}
// @ts-ignore: decorator
@inline function plain64(bits: u64): bool {
  return ((bits >> 52) & 0x7ff) - 1 < 0x7fe || bits << 1 == 0;
}
/** A result that was neither tiny nor too large. */
// @ts-ignore: decorator
@inline function safe32(value: f32): bool {
  const magnitude = reinterpret<u32>(value) & 0x7fffffff;
  return magnitude > 0x00800000 && magnitude < 0x7f800000;
}
// @ts-ignore: decorator
@inline function safe64(value: f64): bool {
  const magnitude = reinterpret<u64>(value) & 0x7fffffffffffffff;
  return magnitude > 0x0010000000000000 && magnitude < 0x7ff0000000000000;
}
// @ts-ignore: decorator
@inline function inexactKnown(): bool {
  return hostRounds || (masks & raised & FP_P) != 0;
}
/** The product of two binary64 is exact: their significands have few enough bits. */
// @ts-ignore: decorator
@inline function shortProduct(x: f64, y: f64): bool {
  return ctz<u64>(reinterpret<u64>(x) | 0x10000000000000) + ctz<u64>(reinterpret<u64>(y) | 0x10000000000000) >= 53;
}

function hostAdd32(x: f32, y: f32, sum: f32): bool {
  if (!safe32(sum)) return false;
  if (inexactKnown()) return true;
  const v = sum - x;
  return (x - (sum - v)) + (y - v) == 0;
}
function hostAdd64(x: f64, y: f64, sum: f64): bool {
  if (!safe64(sum)) return false;
  if (inexactKnown()) return true;
  const v = sum - x;
  return (x - (sum - v)) + (y - v) == 0;
}

export function add32(a: u32, b: u32): u32 {
  if (hostExact && plain32(a) && plain32(b)) {
    const x = reinterpret<f32>(a);
    const y = reinterpret<f32>(b);
    const r = x + y;
    if (hostAdd32(x, y, r)) return reinterpret<u32>(r);
  }
  pair32(a, b);
  add(false);
  return finish32();
}
export function sub32(a: u32, b: u32): u32 {
  if (hostExact && plain32(a) && plain32(b)) {
    const x = reinterpret<f32>(a);
    const y = -reinterpret<f32>(b);
    const r = x + y;
    if (hostAdd32(x, y, r)) return reinterpret<u32>(r);
  }
  pair32(a, b);
  add(true);
  return finish32();
}
export function mul32(a: u32, b: u32): u32 {
  if (hostExact && plain32(a) && plain32(b)) {
    const x = reinterpret<f32>(a);
    const y = reinterpret<f32>(b);
    const r = x * y;
    if (safe32(r) && (inexactKnown() || <f64>r == <f64>x * <f64>y)) return reinterpret<u32>(r);
  }
  pair32(a, b);
  multiply();
  return finish32();
}
export function div32(a: u32, b: u32): u32 {
  if (hostExact && plain32(a) && plain32(b)) {
    const x = reinterpret<f32>(a);
    const y = reinterpret<f32>(b);
    const r = x / y;
    if (safe32(r) && (inexactKnown() || <f64>r * <f64>y == <f64>x)) return reinterpret<u32>(r);
  }
  pair32(a, b);
  divide();
  return finish32();
}
export function sqrt32(a: u32): u32 {
  if (hostExact && plain32(a) && a >> 31 == 0) {
    const x = reinterpret<f32>(a);
    const r = sqrt<f32>(x);
    if (safe32(r) && (inexactKnown() || <f64>r * <f64>r == <f64>x)) return reinterpret<u32>(r);
  }
  single32(a);
  squareRoot();
  return finish32();
}

export function add64(a: u64, b: u64): u64 {
  if (hostExact && plain64(a) && plain64(b)) {
    const x = reinterpret<f64>(a);
    const y = reinterpret<f64>(b);
    const r = x + y;
    if (hostAdd64(x, y, r)) return reinterpret<u64>(r);
  }
  pair64(a, b);
  add(false);
  return finish64();
}
export function sub64(a: u64, b: u64): u64 {
  if (hostExact && plain64(a) && plain64(b)) {
    const x = reinterpret<f64>(a);
    const y = -reinterpret<f64>(b);
    const r = x + y;
    if (hostAdd64(x, y, r)) return reinterpret<u64>(r);
  }
  pair64(a, b);
  add(true);
  return finish64();
}
export function mul64(a: u64, b: u64): u64 {
  if (hostExact && plain64(a) && plain64(b)) {
    const x = reinterpret<f64>(a);
    const y = reinterpret<f64>(b);
    const r = x * y;
    if (safe64(r) && (inexactKnown() || shortProduct(x, y))) return reinterpret<u64>(r);
  }
  pair64(a, b);
  multiply();
  return finish64();
}
export function div64(a: u64, b: u64): u64 {
  if (hostExact && plain64(a) && plain64(b)) {
    const x = reinterpret<f64>(a);
    const y = reinterpret<f64>(b);
    const r = x / y;
    if (safe64(r) && (inexactKnown() || (shortProduct(r, y) && r * y == x))) return reinterpret<u64>(r);
  }
  pair64(a, b);
  divide();
  return finish64();
}
export function sqrt64(a: u64): u64 {
  if (hostExact && plain64(a) && a >> 63 == 0) {
    const x = reinterpret<f64>(a);
    const r = sqrt<f64>(x);
    if (safe64(r) && (inexactKnown() || (shortProduct(r, r) && r * r == x))) return reinterpret<u64>(r);
  }
  single64(a);
  squareRoot();
  return finish64();
}

// @ts-ignore: decorator
@inline function relation(x: f64, y: f64): i32 {
  return x < y ? REL_LESS : x > y ? REL_GREATER : REL_EQUAL;
}
export function compare32(a: u32, b: u32, signalling: bool): i32 {
  if (plain32(a) && plain32(b)) return relation(<f64>reinterpret<f32>(a), <f64>reinterpret<f32>(b));
  pair32(a, b);
  return compare(signalling);
}
export function compare64(a: u64, b: u64, signalling: bool): i32 {
  if (plain64(a) && plain64(b)) return relation(reinterpret<f64>(a), reinterpret<f64>(b));
  pair64(a, b);
  return compare(signalling);
}

/** A denormal as zero if MXCSR.DAZ says so. */
function flush32(a: u32): u32 {
  return daz && (a & 0x7f800000) == 0 ? a & 0x80000000 : a;
}
function flush64(a: u64): u64 {
  return daz && (a & 0x7ff0000000000000) == 0 ? a & 0x8000000000000000 : a;
}
// The second operand is returned for NaNs and for two zeros (SDM vol. 2, MINPS and MAXPS).
export function min32(a: u32, b: u32): u32 {
  return compare32(a, b, true) == REL_LESS ? flush32(a) : flush32(b);
}
export function max32(a: u32, b: u32): u32 {
  return compare32(a, b, true) == REL_GREATER ? flush32(a) : flush32(b);
}
export function min64(a: u64, b: u64): u64 {
  return compare64(a, b, true) == REL_LESS ? flush64(a) : flush64(b);
}
export function max64(a: u64, b: u64): u64 {
  return compare64(a, b, true) == REL_GREATER ? flush64(a) : flush64(b);
}

export function widen(a: u32): u64 {
  if (plain32(a)) return reinterpret<u64>(<f64>reinterpret<f32>(a));
  single32(a);
  copyA();
  if (aDenormal) raised |= FP_D;
  return finish64();
}
export function narrow(a: u64): u32 {
  if (hostExact && plain64(a)) {
    const x = reinterpret<f64>(a);
    const r = <f32>x;
    if (safe32(r) && (inexactKnown() || <f64>r == x)) return reinterpret<u32>(r);
  }
  single64(a);
  copyA();
  if (aDenormal) raised |= FP_D;
  return finish32();
}

/** A normal number rounded to an integer, where the host rounds so. */
// @ts-ignore: decorator
@inline function whole(x: f64, truncate: bool): f64 {
  const r = truncate ? trunc<f64>(x) : nearest<f64>(x);
  if (r != x) raised |= FP_P;
  return r;
}
// @ts-ignore: decorator
@inline function fits(x: f64, limit: f64): bool {
  return abs<f64>(x) < limit;
}
export function f32ToI32(a: u32, truncate: bool): u32 {
  const x = <f64>reinterpret<f32>(a);
  if ((truncate || hostExact) && plain32(a) && fits(x, 2147483647)) return <u32><i32>whole(x, truncate);
  single32(a);
  return <u32>toInt(32, truncate ? RC_ZERO : RC_CURRENT);
}
export function f32ToI64(a: u32, truncate: bool): u64 {
  const x = <f64>reinterpret<f32>(a);
  if ((truncate || hostExact) && plain32(a) && fits(x, 9223372036854775808)) return <u64><i64>whole(x, truncate);
  single32(a);
  return toInt(64, truncate ? RC_ZERO : RC_CURRENT);
}
export function f64ToI32(a: u64, truncate: bool): u32 {
  const x = reinterpret<f64>(a);
  if ((truncate || hostExact) && plain64(a) && fits(x, 2147483647)) return <u32><i32>whole(x, truncate);
  single64(a);
  return <u32>toInt(32, truncate ? RC_ZERO : RC_CURRENT);
}
export function f64ToI64(a: u64, truncate: bool): u64 {
  const x = reinterpret<f64>(a);
  if ((truncate || hostExact) && plain64(a) && fits(x, 9223372036854775808)) return <u64><i64>whole(x, truncate);
  single64(a);
  return toInt(64, truncate ? RC_ZERO : RC_CURRENT);
}
export function i32ToF32(a: i32): u32 {
  return i64ToF32(<i64>a);
}
export function i64ToF32(a: i64): u32 {
  if (abs<i64>(a) <= 0x1000000) return reinterpret<u32>(<f32>a);
  setBInt(a);
  moveToA();
  copyA();
  return finish32();
}
export function i32ToF64(a: i32): u64 {
  return reinterpret<u64>(<f64>a);
}
export function i64ToF64(a: i64): u64 {
  if (abs<i64>(a) <= 0x20000000000000) return reinterpret<u64>(<f64>a);
  setBInt(a);
  moveToA();
  copyA();
  return finish64();
}

export function roundInt32(a: u32, mode: i32, quiet: bool): u32 {
  single32(a);
  roundInt(mode, quiet);
  return finish32();
}
export function roundInt64(a: u64, mode: i32, quiet: bool): u64 {
  single64(a);
  roundInt(mode, quiet);
  return finish64();
}
