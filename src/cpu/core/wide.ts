// 128-bit integers as two u64, for the significands of floating-point intermediates. Second results are in globals.

/** Low half of the last wideMul, shiftRightSticky or wideSqrt. */
export let wideLow: u64 = 0;
/** Remainder of the last wideDiv. */
export let wideRemainder: u64 = 0;

/** a * b: high half returned, low half in wideLow. */
export function wideMul(a: u64, b: u64): u64 {
  const al = a & 0xffffffff;
  const ah = a >> 32;
  const bl = b & 0xffffffff;
  const bh = b >> 32;
  const low = al * bl;
  const mid = ah * bl + (low >> 32);
  const mid2 = al * bh + (mid & 0xffffffff);
  wideLow = a * b;
  return ah * bh + (mid >> 32) + (mid2 >> 32);
}

/** (high:low) / divisor for high < divisor and a divisor with its top bit set; remainder in wideRemainder (Knuth, algorithm D). */
export function wideDiv(high: u64, low: u64, divisor: u64): u64 {
  const dh = divisor >> 32;
  const dl = divisor & 0xffffffff;
  let q1 = high / dh;
  let r = high - q1 * dh;
  while (q1 >> 32 || q1 * dl > ((r << 32) | (low >> 32))) {
    q1--;
    r += dh;
    if (r >> 32) break;
  }
  const mid = ((high << 32) | (low >> 32)) - q1 * divisor;
  let q0 = mid / dh;
  r = mid - q0 * dh;
  while (q0 >> 32 || q0 * dl > ((r << 32) | (low & 0xffffffff))) {
    q0--;
    r += dh;
    if (r >> 32) break;
  }
  wideRemainder = ((mid << 32) | (low & 0xffffffff)) - q0 * divisor;
  return (q1 << 32) | q0;
}

/** (high:low) >> count; bits shifted out are ORed into bit 0 of the low half (wideLow). Returns the high half. */
export function shiftRightSticky(high: u64, low: u64, count: i32): u64 {
  if (count == 0) {
    wideLow = low;
    return high;
  }
  if (count < 64) {
    const lost = low << (64 - count);
    wideLow = (low >> count) | (high << (64 - count)) | <u64>(lost != 0);
    return high >> count;
  }
  if (count < 128) {
    const by = count - 64;
    const lost = (by == 0 ? 0 : high << (64 - by)) | low;
    wideLow = (high >> by) | <u64>(lost != 0);
    return 0;
  }
  wideLow = <u64>((high | low) != 0);
  return 0;
}

/**
 * Integer square root s of (high:low) for high >= 1 << 62, hence s >= 1 << 63. wideLow: the fraction behind s, its top bit the
 * half and the rest sticky.
 */
export function wideSqrt(high: u64, low: u64): u64 {
  const estimate = Math.sqrt(<f64>high) * 4294967296.0;
  let s: u64 = estimate >= 18446744073709551615.0 ? 0xffffffffffffffff : <u64>estimate;
  if (s <= high) s = high == 0xffffffffffffffff ? high : high + 1;
  // One Newton step: the error of 2^11 becomes less than 1.
  if (s > high) {
    const q = wideDiv(high, low, s);
    s = (s >> 1) + (q >> 1) + (s & q & 1);
  }
  let ph = wideMul(s, s);
  while (ph > high || (ph == high && wideLow > low)) {
    s--;
    ph = wideMul(s, s);
  }
  let rl = low - wideLow;
  let rh = high - ph - <u64>(wideLow > low);
  // The remainder of the true root is at most 2s, and bit 63 of s is set.
  while (rh > 1 || (rh == 1 && rl > s << 1)) {
    const take = (s << 1) | 1;
    rh -= 1 + <u64>(rl < take);
    rl -= take;
    s++;
  }
  wideLow = (rh != 0 || rl > s ? (<u64>1) << 63 : 0) | <u64>((rh | rl) != 0);
  return s;
}
