/** WebAssembly bytes by hand (WebAssembly core specification 2.0, chapter 5): just what the translator needs. */

export const I32 = 0x7f;
export const I64 = 0x7e;
export const VOID = 0x40;

/** Opcodes by their names in the text format, dots as underscores. */
export const W = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br: 0x0c,
  br_if: 0x0d,
  br_table: 0x0e,
  return: 0x0f,
  call: 0x10,
  drop: 0x1a,
  select: 0x1b,
  local_get: 0x20,
  local_set: 0x21,
  local_tee: 0x22,
  global_get: 0x23,
  global_set: 0x24,
  i32_load: 0x28,
  i64_load: 0x29,
  i32_load8_u: 0x2d,
  i32_load16_u: 0x2f,
  i32_store: 0x36,
  i64_store: 0x37,
  i32_store8: 0x3a,
  i32_store16: 0x3b,
  i32_const: 0x41,
  i64_const: 0x42,
  i32_eqz: 0x45,
  i32_eq: 0x46,
  i32_ne: 0x47,
  i32_lt_s: 0x48,
  i32_lt_u: 0x49,
  i32_gt_s: 0x4a,
  i32_gt_u: 0x4b,
  i32_le_s: 0x4c,
  i32_le_u: 0x4d,
  i32_ge_s: 0x4e,
  i32_ge_u: 0x4f,
  i64_eqz: 0x50,
  i64_eq: 0x51,
  i64_ne: 0x52,
  i64_lt_s: 0x53,
  i64_lt_u: 0x54,
  i64_gt_s: 0x55,
  i64_gt_u: 0x56,
  i64_le_s: 0x57,
  i64_le_u: 0x58,
  i64_ge_s: 0x59,
  i64_ge_u: 0x5a,
  i32_clz: 0x67,
  i32_ctz: 0x68,
  i32_popcnt: 0x69,
  i32_add: 0x6a,
  i32_sub: 0x6b,
  i32_mul: 0x6c,
  i32_and: 0x71,
  i32_or: 0x72,
  i32_xor: 0x73,
  i32_shl: 0x74,
  i32_shr_s: 0x75,
  i32_shr_u: 0x76,
  i32_rotl: 0x77,
  i32_rotr: 0x78,
  i64_clz: 0x79,
  i64_ctz: 0x7a,
  i64_popcnt: 0x7b,
  i64_add: 0x7c,
  i64_sub: 0x7d,
  i64_mul: 0x7e,
  i64_div_s: 0x7f,
  i64_div_u: 0x80,
  i64_rem_s: 0x81,
  i64_rem_u: 0x82,
  i64_and: 0x83,
  i64_or: 0x84,
  i64_xor: 0x85,
  i64_shl: 0x86,
  i64_shr_s: 0x87,
  i64_shr_u: 0x88,
  i64_rotl: 0x89,
  i64_rotr: 0x8a,
  i32_wrap_i64: 0xa7,
  i64_extend_i32_s: 0xac,
  i64_extend_i32_u: 0xad,
  i32_extend8_s: 0xc0,
  i32_extend16_s: 0xc1,
  i64_extend8_s: 0xc2,
  i64_extend16_s: 0xc3,
  i64_extend32_s: 0xc4,
} as const;

/** Opcodes behind the prefix 0xfd, of 128-bit vectors; names of those on elements as for W. */
export const V = {
  load: 0x00,
  store: 0x0b,
  const: 0x0c,
  shuffle: 0x0d,
  swizzle: 0x0e,
  i32x4_splat: 0x11,
  i8x16_replace_lane: 0x17,
  i16x8_replace_lane: 0x1a,
  i32x4_replace_lane: 0x1c,
  i64x2_replace_lane: 0x1e,
  i8x16_eq: 0x23,
  i8x16_gt_s: 0x27,
  i16x8_eq: 0x2d,
  i16x8_gt_s: 0x31,
  i32x4_eq: 0x37,
  i32x4_gt_s: 0x3b,
  and: 0x4e,
  andnot: 0x4f,
  or: 0x50,
  xor: 0x51,
  load32_zero: 0x5c,
  load64_zero: 0x5d,
  i8x16_abs: 0x60,
  i8x16_bitmask: 0x64,
  i8x16_narrow_i16x8_s: 0x65,
  i8x16_narrow_i16x8_u: 0x66,
  i8x16_add: 0x6e,
  i8x16_add_sat_s: 0x6f,
  i8x16_add_sat_u: 0x70,
  i8x16_sub: 0x71,
  i8x16_sub_sat_s: 0x72,
  i8x16_sub_sat_u: 0x73,
  i8x16_min_s: 0x76,
  i8x16_min_u: 0x77,
  i8x16_max_s: 0x78,
  i8x16_max_u: 0x79,
  i8x16_avgr_u: 0x7b,
  i16x8_abs: 0x80,
  i16x8_narrow_i32x4_s: 0x85,
  i16x8_narrow_i32x4_u: 0x86,
  i16x8_extend_low_i8x16_s: 0x87,
  i16x8_extend_low_i8x16_u: 0x89,
  i16x8_shl: 0x8b,
  i16x8_shr_s: 0x8c,
  i16x8_shr_u: 0x8d,
  i16x8_add: 0x8e,
  i16x8_add_sat_s: 0x8f,
  i16x8_add_sat_u: 0x90,
  i16x8_sub: 0x91,
  i16x8_sub_sat_s: 0x92,
  i16x8_sub_sat_u: 0x93,
  i16x8_mul: 0x95,
  i16x8_min_s: 0x96,
  i16x8_min_u: 0x97,
  i16x8_max_s: 0x98,
  i16x8_max_u: 0x99,
  i16x8_avgr_u: 0x9b,
  i32x4_abs: 0xa0,
  i32x4_bitmask: 0xa4,
  i32x4_extend_low_i16x8_s: 0xa7,
  i32x4_extend_low_i16x8_u: 0xa9,
  i32x4_shl: 0xab,
  i32x4_shr_s: 0xac,
  i32x4_shr_u: 0xad,
  i32x4_add: 0xae,
  i32x4_sub: 0xb1,
  i32x4_mul: 0xb5,
  i32x4_min_s: 0xb6,
  i32x4_min_u: 0xb7,
  i32x4_max_s: 0xb8,
  i32x4_max_u: 0xb9,
  i32x4_dot_i16x8_s: 0xba,
  i64x2_bitmask: 0xc4,
  i64x2_extend_low_i32x4_s: 0xc7,
  i64x2_extend_low_i32x4_u: 0xc9,
  i64x2_shl: 0xcb,
  i64x2_shr_u: 0xcd,
  i64x2_add: 0xce,
  i64x2_sub: 0xd1,
  i64x2_eq: 0xd6,
  i64x2_gt_s: 0xd9,
  i64x2_extmul_low_i32x4_u: 0xde,
} as const;

/** A growing run of bytes. */
export class Bytes {
  data = new Uint8Array(4096);
  length = 0;

  reset(): void {
    this.length = 0;
  }
  u8(value: number): void {
    if (this.length === this.data.length) this.#grow(1);
    this.data[this.length++] = value;
  }
  /** Unsigned LEB128. */
  u32(value: number): void {
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.u8(rest);
  }
  /** Signed LEB128 of an int32. */
  s32(value: number): void {
    let rest = value | 0;
    while (rest < -64 || rest > 63) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>= 7;
    }
    this.u8(rest & 0x7f);
  }
  /** Signed LEB128 of the 64-bit value whose halves these are. */
  s64(lo: number, hi: number): void {
    if (hi === lo >> 31) {
      this.s32(lo);
      return;
    }
    let low = lo | 0;
    let high = hi | 0;
    for (;;) {
      const byte = low & 0x7f;
      low = (low >>> 7) | (high << 25);
      high >>= 7;
      if ((high === 0 && low >= 0 && low < 0x40) || (high === -1 && low < 0 && low >= -0x40)) {
        this.u8(byte | 0x80);
        this.u8(low & 0x7f);
        return;
      }
      this.u8(byte | 0x80);
    }
  }
  name(text: string): void {
    this.u32(text.length);
    for (let i = 0; i < text.length; i++) this.u8(text.charCodeAt(i));
  }
  append(other: Bytes): void {
    if (this.length + other.length > this.data.length) this.#grow(other.length);
    this.data.set(other.data.subarray(0, other.length), this.length);
    this.length += other.length;
  }
  /** Appends a vector of bytes: length, then contents. */
  sized(other: Bytes): void {
    this.u32(other.length);
    this.append(other);
  }
  view(): Uint8Array<ArrayBuffer> {
    return this.data.subarray(0, this.length) as Uint8Array<ArrayBuffer>;
  }
  #grow(more: number): void {
    const larger = new Uint8Array(Math.max(this.data.length * 2, this.length + more));
    larger.set(this.data);
    this.data = larger;
  }
}

/** A function body under construction. */
export class Body extends Bytes {
  op(...codes: number[]): void {
    for (const code of codes) this.u8(code);
  }
  get(local: number): void {
    this.u8(W.local_get);
    this.u32(local);
  }
  set(local: number): void {
    this.u8(W.local_set);
    this.u32(local);
  }
  tee(local: number): void {
    this.u8(W.local_tee);
    this.u32(local);
  }
  i32(value: number): void {
    this.u8(W.i32_const);
    this.s32(value);
  }
  /** An i64 constant that fits an integer of ±2^53. */
  i64(value: number): void {
    this.i64Halves(value | 0, Math.floor(value / 2 ** 32) | 0);
  }
  i64Halves(lo: number, hi: number): void {
    this.u8(W.i64_const);
    this.s64(lo, hi);
  }
  global(index: number): void {
    this.u8(W.global_get);
    this.u32(index);
  }
  setGlobal(index: number): void {
    this.u8(W.global_set);
    this.u32(index);
  }
  call(index: number): void {
    this.u8(W.call);
    this.u32(index);
  }
  /** An instruction on vectors with its immediate bytes. */
  vector(op: number, ...immediate: number[]): void {
    this.u8(0xfd);
    this.u32(op);
    this.op(...immediate);
  }
  /** A constant whose bytes are all the same. */
  splat128(byte: number): void {
    this.vector(V.const, ...new Array<number>(16).fill(byte));
  }
  memory128(op: number, offset: number): void {
    this.u8(0xfd);
    this.memory(op, offset);
  }
  /** A load or store without a promise of alignment. */
  memory(op: number, offset: number): void {
    this.u8(op);
    this.u8(0);
    this.u32(offset);
  }
}
