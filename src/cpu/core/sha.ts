// Steps of SHA-1 and SHA-256 (FIPS 180-4; SDM vol. 2, SHA1RNDS4 …). Lane 3 of a vector is the first word of what it holds, but in the message
// words of SHA-256, where it is lane 0.

const lanes: usize = memory.data(32, 16);

// @ts-ignore: decorator
@inline function lane(v: v128, i: u8): u32 {
  switch (i) {
    case 0: return i32x4.extract_lane(v, 0);
    case 1: return i32x4.extract_lane(v, 1);
    case 2: return i32x4.extract_lane(v, 2);
    default: return i32x4.extract_lane(v, 3);
  }
}
// @ts-ignore: decorator
@inline function words(w0: u32, w1: u32, w2: u32, w3: u32): v128 {
  store<u32>(lanes, w0);
  store<u32>(lanes, w1, 4);
  store<u32>(lanes, w2, 8);
  store<u32>(lanes, w3, 12);
  return v128.load(lanes);
}

export function sha1NextE(a: v128, b: v128): v128 {
  return i32x4.replace_lane(b, 3, lane(b, 3) + rotl<u32>(lane(a, 3), 30));
}
export function sha1Message1(a: v128, b: v128): v128 {
  return v128.xor(a, i8x16.shuffle(b, a, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23));
}
export function sha1Message2(a: v128, b: v128): v128 {
  const w16 = rotl<u32>(lane(a, 3) ^ lane(b, 2), 1);
  const w17 = rotl<u32>(lane(a, 2) ^ lane(b, 1), 1);
  const w18 = rotl<u32>(lane(a, 1) ^ lane(b, 0), 1);
  return words(rotl<u32>(lane(a, 0) ^ w16, 1), w18, w17, w16);
}
/** Four rounds; the low two bits of `imm` choose the function and constant. E is already added to the first word of `b`. */
export function sha1Rounds4(x: v128, y: v128, imm: i32): v128 {
  const kind = imm & 3;
  const constant: u32 = kind == 0 ? 0x5a827999 : kind == 1 ? 0x6ed9eba1 : kind == 2 ? 0x8f1bbcdc : 0xca62c1d6;
  let a = lane(x, 3);
  let b = lane(x, 2);
  let c = lane(x, 1);
  let d = lane(x, 0);
  let e: u32 = 0;
  v128.store(lanes, y, 16);
  for (let i = 3; i >= 0; i--) {
    const mixed = kind == 0 ? (b & c) ^ (~b & d) : kind == 2 ? (b & c) ^ (b & d) ^ (c & d) : b ^ c ^ d;
    const next = mixed + rotl<u32>(a, 5) + load<u32>(lanes + (<usize>i << 2), 16) + e + constant;
    e = d;
    d = c;
    c = rotl<u32>(b, 30);
    b = a;
    a = next;
  }
  return words(d, c, b, a);
}

/** Two rounds of the state in `x` (C, D, G, H) and `y` (A, B, E, F), with words and constants added up in `wk`. */
export function sha256Rounds2(x: v128, y: v128, wk: v128): v128 {
  let a = lane(y, 3);
  let b = lane(y, 2);
  let c = lane(x, 3);
  let d = lane(x, 2);
  let e = lane(y, 1);
  let f = lane(y, 0);
  let g = lane(x, 1);
  let h = lane(x, 0);
  for (let i = 0; i < 2; i++) {
    const chosen = (e & f) ^ (~e & g);
    const first = chosen + (rotr<u32>(e, 6) ^ rotr<u32>(e, 11) ^ rotr<u32>(e, 25)) + (i == 0 ? lane(wk, 0) : lane(wk, 1)) + h;
    const second = ((a & b) ^ (a & c) ^ (b & c)) + (rotr<u32>(a, 2) ^ rotr<u32>(a, 13) ^ rotr<u32>(a, 22));
    h = g;
    g = f;
    f = e;
    e = d + first;
    d = c;
    c = b;
    b = a;
    a = first + second;
  }
  return words(f, e, b, a);
}
function small0(w: u32): u32 {
  return rotr<u32>(w, 7) ^ rotr<u32>(w, 18) ^ (w >> 3);
}
function small1(w: u32): u32 {
  return rotr<u32>(w, 17) ^ rotr<u32>(w, 19) ^ (w >> 10);
}
export function sha256Message1(a: v128, b: v128): v128 {
  return i32x4.add(a, words(small0(lane(a, 1)), small0(lane(a, 2)), small0(lane(a, 3)), small0(lane(b, 0))));
}
export function sha256Message2(a: v128, b: v128): v128 {
  const w16 = lane(a, 0) + small1(lane(b, 2));
  const w17 = lane(a, 1) + small1(lane(b, 3));
  return words(w16, w17, lane(a, 2) + small1(w16), lane(a, 3) + small1(w17));
}
