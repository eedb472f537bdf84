// AES rounds (FIPS 197) and carry-less multiplication, on 16-byte vectors.

/** S-box and its inverse, made at the first use. */
const boxes: usize = memory.data(512, 16);
const state: usize = memory.data(16, 16);
let ready: bool = false;

function prepare(): void {
  // p runs through all non-zero elements by powers of 3, q through their inverses.
  let p: u32 = 1;
  let q: u32 = 1;
  do {
    p = (p ^ (p << 1) ^ (p & 0x80 ? 0x11b : 0)) & 0xff;
    q ^= q << 1;
    q ^= q << 2;
    q ^= q << 4;
    q &= 0xff;
    if (q & 0x80) q ^= 0x09;
    setBox(p, q);
  } while (p != 1);
  setBox(0, 0);
  ready = true;
}
/** Enters the S-box value of an element by its inverse. */
function setBox(element: u32, inverse: u32): void {
  const twice = inverse | (inverse << 8);
  const value = (inverse ^ (twice >> 7) ^ (twice >> 6) ^ (twice >> 5) ^ (twice >> 4) ^ 0x63) & 0xff;
  store<u8>(boxes + <usize>element, <u8>value);
  store<u8>(boxes + 256 + <usize>value, <u8>element);
}

function substitute(a: v128, box: usize): v128 {
  if (!ready) prepare();
  v128.store(state, a);
  for (let i: usize = 0; i < 16; i++) store<u8>(state + i, load<u8>(box + <usize>load<u8>(state + i)));
  return v128.load(state);
}

/** Every byte times 2 in GF(2^8). */
// @ts-ignore: decorator
@inline function twice(a: v128): v128 {
  return v128.xor(i8x16.shl(a, 1), v128.and(i8x16.shr_s(a, 7), i8x16.splat(0x1b)));
}
/** Columns (dwords) rotated down by one and by two bytes. */
// @ts-ignore: decorator
@inline function rotated1(a: v128): v128 {
  return i8x16.shuffle(a, a, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
}
// @ts-ignore: decorator
@inline function rotated2(a: v128): v128 {
  return i8x16.shuffle(a, a, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}
function mixColumns(a: v128): v128 {
  const next = rotated1(a);
  const sum = v128.xor(a, next);
  return v128.xor(v128.xor(twice(sum), next), rotated2(sum));
}

export function aesInvMixColumns(a: v128): v128 {
  return mixColumns(v128.xor(a, twice(twice(v128.xor(a, rotated2(a))))));
}
export function aesEncrypt(a: v128, key: v128, last: bool): v128 {
  const s = substitute(i8x16.shuffle(a, a, 0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11), boxes);
  return v128.xor(last ? s : mixColumns(s), key);
}
export function aesDecrypt(a: v128, key: v128, last: bool): v128 {
  const s = substitute(i8x16.shuffle(a, a, 0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3), boxes + 256);
  return v128.xor(last ? s : aesInvMixColumns(s), key);
}
export function aesKeygenAssist(a: v128, constant: i32): v128 {
  const s = substitute(a, boxes);
  const words = i8x16.shuffle(s, s, 4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12);
  return v128.xor(words, i32x4(0, constant, 0, constant));
}

export function multiplyCarryless(a: i64, b: i64): v128 {
  let low: u64 = 0;
  let high: u64 = 0;
  for (let i: u64 = 0; i < 64; i++) {
    if ((<u64>b >> i) & 1) {
      low ^= <u64>a << i;
      if (i) high ^= <u64>a >> (64 - i);
    }
  }
  return i64x2.replace_lane(i64x2.splat(<i64>low), 1, <i64>high);
}
