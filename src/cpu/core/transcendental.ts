// The transcendental functions of x87 (SDM vol. 1, 8.3.6 to 8.3.10): Z of softfloat.ts from its operands A and B. Series in 128-bit fixed point, with more than 100 good
// bits before the one rounding, so that a result differs from any processor's by at most the processor's own error, 1 ulp.
//
// Operands are not NaN; x87.ts has taken care of these. A fixed-point number is two u64 in units of 2^-127, 0 … 2; the low half of a result
// is in `low`. A float is a significand of 128 bits with its top bit set and the exponent of that bit.

import {
  FINITE, FP_D, FP_P, FP_U, FP_Z, INFINITE, TOP, ZERO, aDenormal, aExp, aKind, aSig, aSign, bDenormal, bExp, bKind, bSig, bSign, defaultNan,
  denormals, raiseFlags, setZ, special, zExp,
} from './softfloat';
import { shiftRightSticky, wideDiv, wideLow, wideMul, wideRemainder } from './wide';

let low: u64 = 0;
/** Exponent of a float result. */
let exponent: i32 = 0;

const LN2_HIGH: u64 = 0xb17217f7d1cf79ab;
const LN2_LOW: u64 = 0xc9e3b39803f2f6af;
/** 1 / ln 2; its exponent is 0. */
const LOG2E_HIGH: u64 = 0xb8aa3b295c17f0bb;
const LOG2E_LOW: u64 = 0xbe87fed0691d3e88;
/** pi / 2 in fixed point. */
const HALF_PI_HIGH: u64 = 0xc90fdaa22168c234;
const HALF_PI_LOW: u64 = 0xc4c6628b80dc1cd1;
/** atan(k / 8) for k = 0 … 8. */
const ARCTANGENTS: usize = memory.data<u64>([
  0, 0, 0x0feadd4d5617b6e3, 0x2c897989f3e888ef, 0x1f5b75f92c80dd62, 0xadb8f3debef442fc, 0x2dec3283c9bde11c, 0xe2a8c848b73f9120,
  0x3b58ce0ac3769ed1, 0x5bf9117b2f0ea340, 0x47802eaf7bfacfcd, 0xae41af0b32e21ba3, 0x525e3e8c9a7b8492, 0x0cd43f9522bed64f,
  0x5c029f15e118cf39, 0xe596d2a90852221e, 0x6487ed5110b4611a, 0x62633145c06e0e68,
]);

// ---- 128-bit arithmetic ----

/** High 128 bits of a product, less at most 3 units. */
function mulHigh(ah: u64, al: u64, bh: u64, bl: u64): u64 {
  const cross1 = wideMul(ah, bl);
  const cross2 = wideMul(al, bh);
  let h = wideMul(ah, bh);
  let l = wideLow + cross1;
  if (l < cross1) h++;
  l += cross2;
  if (l < cross2) h++;
  low = l;
  return h;
}
/** Product of fixed-point numbers below 2. */
function mulFixed(ah: u64, al: u64, bh: u64, bl: u64): u64 {
  const h = mulHigh(ah, al, bh, bl);
  const carry = low >> 63;
  low <<= 1;
  return (h << 1) | carry;
}
function divSmall(h: u64, l: u64, divisor: u64): u64 {
  const q = h / divisor;
  let r = h % divisor;
  const middle = (r << 32) | (l >> 32);
  r = middle % divisor;
  const last = (r << 32) | (l & 0xffffffff);
  low = ((middle / divisor) << 32) | (last / divisor);
  return q;
}
/** Product of two floats. */
function mulFloat(ah: u64, al: u64, aE: i32, bh: u64, bl: u64, bE: i32): u64 {
  let h = mulHigh(ah, al, bh, bl);
  exponent = aE + bE + 1;
  if (h >> 63 == 0) {
    h = (h << 1) | (low >> 63);
    low <<= 1;
    exponent--;
  }
  return h;
}
/** Quotient of two floats. */
function divFloat(ah: u64, al: u64, aE: i32, bh: u64, bl: u64, bE: i32): u64 {
  let h: u64 = 0;
  let l: u64 = 0;
  exponent = aE - bE;
  let over = false;
  if (ah < bh || (ah == bh && al < bl)) {
    over = ah >> 63 != 0;
    ah = (ah << 1) | (al >> 63);
    al <<= 1;
    exponent--;
  }
  for (let i = 0; i < 128; i++) {
    h = (h << 1) | (l >> 63);
    l <<= 1;
    if (over || ah > bh || (ah == bh && al >= bl)) {
      ah -= bh + <u64>(al < bl);
      al -= bl;
      l |= 1;
    }
    over = ah >> 63 != 0;
    ah = (ah << 1) | (al >> 63);
    al <<= 1;
  }
  low = l;
  return h;
}
/** A float below 2 in fixed point. */
function toFixed(h: u64, l: u64, e: i32): u64 {
  const r = shiftRightSticky(h, l, min(-e, 200));
  low = wideLow;
  return r;
}
/** Fixed point to a float, which is not 0. */
function fromFixed(h: u64, l: u64): u64 {
  exponent = 0;
  if (h == 0) {
    h = l;
    l = 0;
    exponent = -64;
  }
  const shift = <i32>clz<u64>(h);
  exponent -= shift;
  low = l << shift;
  return shift == 0 ? h : (h << shift) | (l >> (64 - shift));
}

/** Z = a float that is the beginning of an irrational number. */
function inexact(sign: bool, e: i32, h: u64, l: u64): void {
  setZ(sign, e, h, l | 1);
}

// ---- sine, cosine, tangent ----

/** A = quadrant * pi/2 + the remainder, -pi/4 … pi/4, a float; 0 has a significand of 0. */
let quadrant: u32 = 0;
let angleSign: bool = false;
let angleHigh: u64 = 0;
let angleLow: u64 = 0;
let angleExp: i32 = 0;

/**
 * Reduces A by multiples of pi/2, with pi to 66 bits as processors have it (SDM vol. 1, 8.3.8). False if A is out of range, 2^63 and above.
 */
export function reduceAngle(): bool {
  quadrant = 0;
  angleSign = aSign;
  angleHigh = aSig;
  angleLow = 0;
  angleExp = aExp;
  if (aKind == ZERO) {
    angleHigh = 0;
    return true;
  }
  if (aExp >= 63) return false;
  if (aExp < -2) return true;
  // In units of 2^-65, in which pi/2 is an integer of 66 bits: A is aSig << (aExp + 2).
  const ph: u64 = 3;
  const pl: u64 = 0x243f6a8885a308d3;
  let rh: u64 = 0;
  let rl: u64 = aSig;
  for (let i = aExp + 2; ; i--) {
    quadrant <<= 1;
    if (rh > ph || (rh == ph && rl >= pl)) {
      rh -= ph + <u64>(rl < pl);
      rl -= pl;
      quadrant |= 1;
    }
    if (i == 0) break;
    rh = (rh << 1) | (rl >> 63);
    rl <<= 1;
  }
  // The nearer multiple: against half of pi/2, an odd number of units.
  if (rh > 1 || (rh == 1 && rl > 0x921fb54442d18469)) {
    rh = ph - rh - <u64>(pl < rl);
    rl = pl - rl;
    quadrant++;
    angleSign = !angleSign;
  }
  if (aSign) quadrant = 0 - quadrant;
  if ((rh | rl) == 0) {
    angleHigh = 0;
    return true;
  }
  angleExp = 127 - 65;
  if (rh == 0) {
    rh = rl;
    rl = 0;
    angleExp -= 64;
  }
  const shift = <i32>clz<u64>(rh);
  angleHigh = shift == 0 ? rh : (rh << shift) | (rl >> (64 - shift));
  angleLow = rl << shift;
  angleExp -= shift;
  return true;
}

/** 1 - x2/(first(first+1)) * (1 - x2/((first+2)(first+3)) * …): cosine for first = 1, sine divided by x for first = 2. */
function alternating(x2h: u64, x2l: u64, first: i32): u64 {
  let h: u64 = TOP;
  let l: u64 = 0;
  for (let n = first + 28; n >= first; n -= 2) {
    h = mulFixed(x2h, x2l, h, l);
    h = divSmall(h, low, <u64>(n * (n + 1)));
    l = low;
    h = TOP - h - <u64>(l != 0);
    l = -l;
  }
  low = l;
  return h;
}
function angleSquared(): u64 {
  const h = toFixed(angleHigh, angleLow, angleExp);
  return mulFixed(h, low, h, low);
}
/** Sine of the reduced angle as a float; not of 0. */
function sineFloat(): u64 {
  const x2 = angleSquared();
  const h = alternating(x2, low, 2);
  const s = fromFixed(h, low);
  return mulFloat(angleHigh, angleLow, angleExp, s, low, exponent);
}
function cosineFloat(): u64 {
  const x2 = angleSquared();
  const h = alternating(x2, low, 1);
  return fromFixed(h, low);
}

/**
 * Z = sin(A), or the cosine, after reduceAngle(). Slightly less than the series if that is 1: the smallest angles round as they should.
 */
export function sine(cosine: bool): void {
  if (aDenormal) raiseFlags(FP_D);
  const turned = quadrant + <u32>cosine;
  const negative = (turned & 2) != 0;
  if (turned & 1) {
    if (angleHigh == 0) {
      setZ(negative, 0, TOP, 0);
      return;
    }
    const h = cosineFloat();
    below(negative, exponent, h, low);
    return;
  }
  const sign = angleSign != negative;
  if (angleHigh == 0) {
    special(ZERO, sign);
    return;
  }
  const h = sineFloat();
  below(sign, exponent, h, low);
}
/** Z = a float that is cut off or exact only because its error is beyond 128 bits. */
function below(sign: bool, e: i32, h: u64, l: u64): void {
  if (l == 0) {
    h--;
    l = 0xffffffffffffffff;
    if (h >> 63 == 0) {
      h = 0xffffffffffffffff;
      e--;
    }
  }
  inexact(sign, e, h, l);
}

/** Z = tan(A), after reduceAngle(). */
export function tangent(): void {
  if (aDenormal) raiseFlags(FP_D);
  if (angleHigh == 0) {
    special(quadrant & 1 ? INFINITE : ZERO, angleSign);
    return;
  }
  const s = sineFloat();
  const sl = low;
  const sE = exponent;
  const c = cosineFloat();
  const cl = low;
  const cE = exponent;
  if (quadrant & 1) {
    const q = divFloat(c, cl, cE, s, sl, sE);
    inexact(!angleSign, exponent, q, low);
  } else {
    const q = divFloat(s, sl, sE, c, cl, cE);
    inexact(angleSign, exponent, q, low);
  }
}

// ---- arctangent ----

/** Z = the angle of the point (A, B): atan2(B, A) (SDM vol. 2, FPATAN). */
export function arctangent(): void {
  denormals();
  const sign = bSign;
  if (bKind == ZERO || (aKind == INFINITE && bKind == FINITE)) {
    if (aSign) inexact(sign, 1, HALF_PI_HIGH, HALF_PI_LOW);
    else special(ZERO, sign);
    return;
  }
  if (aKind == ZERO || (bKind == INFINITE && aKind == FINITE)) {
    inexact(sign, 0, HALF_PI_HIGH, HALF_PI_LOW);
    return;
  }
  if (aKind == INFINITE) {
    // pi/4, or 3 pi/4
    if (!aSign) inexact(sign, -1, HALF_PI_HIGH, HALF_PI_LOW);
    else {
      const quarter = (HALF_PI_LOW >> 2) | (HALF_PI_HIGH << 62);
      inexact(sign, 1, HALF_PI_HIGH - (HALF_PI_HIGH >> 2) - <u64>(HALF_PI_LOW < quarter), HALF_PI_LOW - quarter);
    }
    return;
  }
  // The smaller magnitude over the larger one.
  const steep = bExp != aExp ? bExp > aExp : bSig > aSig;
  const n = steep ? aSig : bSig;
  const d = steep ? bSig : aSig;
  let tE = steep ? aExp - bExp : bExp - aExp;
  let th: u64;
  let tl: u64 = 0;
  if (n == d) th = TOP;
  else {
    th = n < d ? wideDiv(n, 0, d) : wideDiv(n >> 1, n << 63, d);
    tl = wideDiv(wideRemainder, 0, d);
    if (n < d) tE--;
  }
  const exact = n == d && tE == 0;
  // atan(t) = atan(k/8) + atan(u), u = (t - k/8) / (1 + t k/8)
  let k: u64 = 0;
  let uNegative = false;
  let uh = th;
  let ul = tl;
  let uE = tE;
  if (tE >= -4) {
    const fh = toFixed(th, tl, tE);
    const fl = low;
    k = ((fh >> 59) + 1) >> 1;
    if (exact) {
      uh = 0;
      ul = 0;
    } else if (k) {
      const c = k << 60;
      uNegative = fh < c;
      const dh = uNegative ? c - fh - <u64>(fl != 0) : fh - c;
      const dl = uNegative ? -fl : fl;
      if ((dh | dl) == 0) {
        uh = 0;
        ul = 0;
      } else {
        let nh = mulFixed(fh, fl, c, 0);
        let nl = low;
        // 1 + t k/8, at most 2: halved.
        nl = (nl >> 1) | (nh << 63);
        nh = (nh >> 1) + (TOP >> 1);
        nh = fromFixed(nh, nl);
        nl = low;
        const nE = exponent + 1;
        uh = fromFixed(dh, dl);
        uh = divFloat(uh, low, exponent, nh, nl, nE);
        ul = low;
        uE = exponent;
      }
    }
  }
  let h: u64 = 0;
  let l: u64 = 0;
  let e: i32 = 0;
  if (uh) {
    const vh = toFixed(uh, ul, uE);
    const x2h = mulFixed(vh, low, vh, low);
    const x2l = low;
    let sh: u64 = 0;
    let sl: u64 = 0;
    for (let i = 29; i >= 1; i -= 2) {
      sh = mulFixed(x2h, x2l, sh, sl);
      sl = low;
      const ch = divSmall(TOP, 0, i);
      const borrow = <u64>(low < sl);
      sl = low - sl;
      sh = ch - sh - borrow;
    }
    sh = fromFixed(sh, sl);
    h = mulFloat(uh, ul, uE, sh, low, exponent);
    l = low;
    e = exponent;
  }
  if (k == 0 && !steep && !aSign) {
    below(sign, e, h, l);
    return;
  }
  // In fixed point from here on.
  if (uh) {
    h = toFixed(h, l, e);
    l = low;
  }
  const ah = load<u64>(ARCTANGENTS + <usize>(k << 4));
  const al = load<u64>(ARCTANGENTS + <usize>(k << 4), 8);
  if (uNegative) {
    h = ah - h - <u64>(al < l);
    l = al - l;
  } else {
    l += al;
    h += ah + <u64>(l < al);
  }
  if (steep) {
    // Towards the other axis: below pi/2 on the right, above it on the left.
    if (aSign) {
      l += HALF_PI_LOW;
      h += HALF_PI_HIGH + <u64>(l < HALF_PI_LOW);
      if (h < HALF_PI_HIGH) {
        inexact(sign, 1, TOP | (h >> 1), (l >> 1) | (h << 63));
        return;
      }
    } else {
      h = HALF_PI_HIGH - h - <u64>(HALF_PI_LOW < l);
      l = HALF_PI_LOW - l;
    }
    inexact(sign, 0, h, l);
    return;
  }
  if (aSign) {
    // pi less the angle, in halves.
    l = (l >> 1) | (h << 63);
    h >>= 1;
    h = HALF_PI_HIGH - h - <u64>(HALF_PI_LOW < l);
    l = HALF_PI_LOW - l;
    inexact(sign, 1, h, l);
    return;
  }
  inexact(sign, 0, h, l);
}

// ---- powers of two and logarithms ----

/** Z = 2^A - 1 for -1 <= A <= 1; A outside, as processors leave it (SDM vol. 2, F2XM1). */
export function exponential(): void {
  if (aKind == ZERO) {
    special(ZERO, aSign);
    return;
  }
  if (aKind == INFINITE) {
    if (aSign) setZ(true, 0, TOP, 0);
    else special(INFINITE, false);
    return;
  }
  if (aDenormal) raiseFlags(FP_D);
  if (aExp >= 0) {
    raiseFlags(FP_P);
    setZ(aSign, aSign && aSig == TOP && aExp == 0 ? -1 : aExp, aSig, 0);
    return;
  }
  const yh = mulFloat(aSig, 0, aExp, LN2_HIGH, LN2_LOW, -1);
  const yl = low;
  const yE = exponent;
  const fh = toFixed(yh, yl, yE);
  const fl = low;
  let h: u64 = TOP;
  let l: u64 = 0;
  for (let n = 30; n >= 2; n--) {
    h = mulFixed(fh, fl, h, l);
    h = divSmall(h, low, n);
    l = low;
    if (aSign) {
      h = TOP - h - <u64>(l != 0);
      l = -l;
    } else h += TOP;
  }
  h = fromFixed(h, l);
  h = mulFloat(yh, yl, yE, h, low, exponent);
  inexact(aSign, exponent, h, low);
}

/** Z = B * log2(h:l * 2^e), of a significand of 128 bits. */
function logarithmTimes(h: u64, l: u64, e: i32): void {
  // Between the roots of 1/2 and 2.
  let whole = e;
  let me = 0;
  if (h >= 0xb504f333f9de6484) {
    whole++;
    me = -1;
  }
  if (h == TOP && l == 0) {
    // An integer.
    if (whole == 0) {
      special(ZERO, bSign);
      return;
    }
    const magnitude = <u64>(whole < 0 ? -whole : whole);
    const shift = <i32>clz<u64>(magnitude);
    const p = wideMul(magnitude << shift, bSig);
    setZ(bSign != whole < 0, 63 - shift + bExp + 1, p, wideLow);
    // Exact, but nobody looks.
    raiseFlags(zExp < -16382 ? FP_P | FP_U : FP_P);
    return;
  }
  // m - 1 and m + 1 in units of 2^-127 (m below 1: of 2^-128).
  const below1 = me < 0;
  let dh = below1 ? 0 - h - <u64>(l != 0) : h - TOP;
  let dl = below1 ? -l : l;
  dh = fromFixed(dh, dl);
  dl = low;
  const dE = exponent - <i32>below1;
  // m + 1, or half of it
  const sh = (below1 ? TOP : TOP >> 1) + (h >> 1);
  const sl = (l >> 1) | (h << 63);
  quotientLog(below1, dh, dl, dE, sh, sl, below1 ? 0 : 1, whole);
}

/** Z = B * (whole ± 2 log2(e) atanh(d / s)), d and s floats but for s's normalisation. */
function quotientLog(negative: bool, dh: u64, dl: u64, dE: i32, sh: u64, sl: u64, sE: i32, whole: i32): void {
  const shift = <i32>clz<u64>(sh);
  if (shift) {
    sh = (sh << shift) | (sl >> (64 - shift));
    sl <<= shift;
  }
  const qh = divFloat(dh, dl, dE, sh, sl, sE - shift);
  const ql = low;
  const qE = exponent;
  const fh = toFixed(qh, ql, qE);
  const x2h = mulFixed(fh, low, fh, low);
  const x2l = low;
  let h: u64 = 0;
  let l: u64 = 0;
  for (let i = 49; i >= 1; i -= 2) {
    h = mulFixed(x2h, x2l, h, l);
    l = low;
    const ch = divSmall(TOP, 0, i);
    l += low;
    h += ch + <u64>(l < low);
  }
  h = fromFixed(h, l);
  h = mulFloat(qh, ql, qE, h, low, exponent);
  h = mulFloat(h, low, exponent, LOG2E_HIGH, LOG2E_LOW, 1);
  l = low;
  let e = exponent;
  let sign = negative;
  if (whole) {
    // |fraction| <= 1/2 at 2^-112, below a whole number of up to 15 bits.
    const fraction = shiftRightSticky(h, l, 15 - e);
    const fractionLow = wideLow;
    sign = whole < 0;
    const magnitude = <u64>(sign ? -whole : whole) << 48;
    if (sign == negative) {
      h = magnitude + fraction;
      l = fractionLow;
    } else {
      h = magnitude - fraction - <u64>(fractionLow != 0);
      l = -fractionLow;
    }
    h = fromFixed(h, l);
    l = low;
    e = 15 + exponent;
  }
  h = mulFloat(h, l, e, bSig, 0, bExp);
  inexact(sign != bSign, exponent, h, low);
}

/** Z = B * log2(A) (SDM vol. 2, FYL2X). */
export function logarithm(): void {
  if (aKind == ZERO) {
    if (bKind == ZERO) defaultNan();
    else {
      if (bKind == FINITE) raiseFlags(FP_Z);
      special(INFINITE, !bSign);
    }
    return;
  }
  if (aSign) {
    defaultNan();
    return;
  }
  const one = aKind == FINITE && aExp == 0 && aSig == TOP;
  if ((aKind == INFINITE && bKind == ZERO) || (one && bKind == INFINITE)) {
    defaultNan();
    return;
  }
  denormals();
  const sign = bSign != (aKind == FINITE && aExp < 0);
  if (aKind == INFINITE || bKind == INFINITE) special(INFINITE, sign);
  else if (bKind == ZERO) special(ZERO, sign);
  else logarithmTimes(aSig, 0, aExp);
}

/** Z = B * log2(A + 1) (SDM vol. 2, FYL2XP1). */
export function logarithmPlusOne(): void {
  const sign = bSign != aSign;
  if (aKind == ZERO) {
    if (bKind == INFINITE) defaultNan();
    else {
      denormals();
      special(ZERO, sign);
    }
    return;
  }
  if (aKind == INFINITE) {
    if (aSign || bKind == ZERO) defaultNan();
    else {
      denormals();
      special(INFINITE, sign);
    }
    return;
  }
  denormals();
  if (bKind == INFINITE) special(INFINITE, sign);
  else if (bKind == ZERO) special(ZERO, sign);
  else if (aSign && aExp >= 0) {
    // Out of range: A <= -1.
    raiseFlags(FP_P);
    setZ(aSign, aExp, aSig, 0);
  } else if (aExp < -2) {
    // log2(1 + x) = 2 log2(e) atanh(x / (2 + x)); 2 + x in units of 2^-126.
    const x = shiftRightSticky(aSig, 0, min(1 - aExp, 200));
    const l = wideLow;
    if (aSign) quotientLog(true, aSig, 0, aExp, TOP - x - <u64>(l != 0), -l, 1, 0);
    else quotientLog(false, aSig, 0, aExp, TOP + x, l, 1, 0);
  } else if (aExp >= 0) {
    // 1 + x with x the larger.
    const one = shiftRightSticky(TOP, 0, aExp);
    const l = wideLow;
    const h = aSig + one;
    if (h < aSig) logarithmTimes(TOP | (h >> 1), (l >> 1) | (h << 63) | (l & 1), aExp + 1);
    else logarithmTimes(h, l, aExp);
  } else {
    // 1/4 <= |x| < 1
    const x = aSig >> -aExp;
    const l = aSig << (64 + aExp);
    if (aSign) {
      const h = fromFixed(TOP - x - <u64>(l != 0), -l);
      logarithmTimes(h, low, exponent);
    } else logarithmTimes(TOP + x, l, 0);
  }
}
