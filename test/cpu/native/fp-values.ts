/**
 * Values for x87, MMX and SSE operands: where rounding, range, encoding and sign change, rather than uniform ones. Register state travels
 * as the 416 leading bytes of an FXSAVE image in its 64-bit format (SDM vol. 1, table 10-2).
 */
import type { Random } from './random.ts';

/** Bytes of an FXSAVE image that hold state; the rest is reserved or the kernel's. */
export const FX_BYTES = 416;
export const FX_FCW = 0;
export const FX_FSW = 2;
export const FX_FTW = 4;
export const FX_FOP = 6;
export const FX_FIP = 8;
export const FX_FDP = 16;
export const FX_MXCSR = 24;
/** ST0 … ST7, 16 bytes each, of which 10 count. */
export const FX_ST = 32;
export const FX_XMM = 160;

/** How the bits of an operand are meant. */
export type Kind = 'f32' | 'f64' | 'f80' | 'integers' | 'bcd';

interface Format {
  readonly exponent: number;
  readonly fraction: number;
  /** 80-bit values have their integer bit in memory. */
  readonly explicit: boolean;
}
const FORMATS = {
  f32: { exponent: 8, fraction: 23, explicit: false },
  f64: { exponent: 11, fraction: 52, explicit: false },
  f80: { exponent: 15, fraction: 63, explicit: true },
} as const satisfies Record<string, Format>;

const ones = (bits: number): bigint => (1n << BigInt(bits)) - 1n;

/** One floating-point value, as the bits of its format. */
export function floating(r: Random, kind: 'f32' | 'f64' | 'f80'): bigint {
  const { exponent: exponentBits, fraction: bits, explicit } = FORMATS[kind];
  const top = (1 << exponentBits) - 1;
  const bias = top >> 1;
  const all = ones(bits);
  let exponent = bias;
  let fraction = 0n;
  let integer = 1n;
  const random = (): bigint => r.u64() & all;
  /** All zeros or ones, or one bit away; the halfway points between neighbours of the narrower formats, and theirs. */
  const edge = (): bigint => {
    const ties = [bits - 24, bits - 23, bits - 53, bits - 52, bits - 1].filter((n) => n > 0);
    const tie = 1n << BigInt(r.pick(ties));
    return r.pick([0n, 1n, all, all - 1n, tie, tie - 1n, tie + 1n, all ^ tie, all ^ (tie - 1n), random()]) & all;
  };
  switch (r.below(18)) {
    case 0: // zero
      return BigInt(r.below(2)) << BigInt(exponentBits + bits + (explicit ? 1 : 0));
    case 1: // denormals
    case 2:
      exponent = 0;
      integer = 0n;
      fraction = r.pick([1n, 2n, all, random(), ones(r.below(bits)), 1n << BigInt(r.below(bits))]);
      break;
    case 3: // smallest and largest exponents
      exponent = r.pick([1, 2, top - 1, top - 2]);
      fraction = edge();
      break;
    case 4: // infinity
      exponent = top;
      break;
    case 5: // QNaN
      exponent = top;
      fraction = (1n << BigInt(bits - 1)) | r.pick([0n, 1n, random(), random()]);
      break;
    case 6: // SNaN
      exponent = top;
      fraction = r.pick([1n, ones(bits - 1), (random() & ones(bits - 1)) | 1n]);
      break;
    case 7: // encodings that only the 80-bit format has: pseudo-denormals, unnormals, pseudo-infinities and pseudo-NaNs
      integer = explicit ? BigInt(r.below(2)) : 1n;
      exponent = integer === 1n ? (explicit ? 0 : bias) : r.pick([1 + r.below(top - 1), bias, top]);
      fraction = edge();
      break;
    case 8: // powers of two and their neighbours
    case 9:
      exponent = bias + r.below(12) - 4;
      fraction = edge();
      break;
    case 10: // where integers of 8 to 64 bits end, and halves around there
    case 11: {
      const width = r.pick([7, 8, 15, 16, 31, 32, 63, 64]);
      const below = r.oneIn(2) ? 1 : 0;
      exponent = bias + width - below;
      // 2^width, a little more; 2^width - 1/2, - 1, a little less
      const unit = bits - (width - below);
      const step = unit > 0 ? r.pick([1n << BigInt(unit), 1n << BigInt(Math.max(unit - 1, 0)), 1n]) : 1n;
      fraction = below ? (all + 1n - step) & all : r.pick([0n, step & all]);
      break;
    }
    case 12: // small integers and halves, quarters
    case 13: {
      const n = 1 + r.below(1024);
      const length = 31 - Math.clz32(n);
      exponent = bias + length - r.below(4);
      fraction = (BigInt(n) << BigInt(bits - length)) & all;
      break;
    }
    case 14: // where the narrower formats overflow or lose bits
      exponent = bias + r.pick([127, 128, 1023, 1024, -126, -127, -149, -150, -1022, -1023, -1074, -1075, 16, 17]);
      exponent = Math.min(Math.max(exponent, 1), top - 1);
      fraction = edge();
      break;
    case 15:
      exponent = 1 + r.below(top - 1);
      fraction = random();
      break;
    default:
      exponent = bias + r.below(64) - 32;
      fraction = r.oneIn(3) ? edge() : random();
  }
  const sign = BigInt(r.below(2));
  if (!explicit) return (((sign << BigInt(exponentBits)) | BigInt(exponent)) << BigInt(bits)) | fraction;
  return (((sign << BigInt(exponentBits)) | BigInt(exponent)) << 64n) | (integer << 63n) | fraction;
}

const BYTES = [0x00, 0x01, 0x7f, 0x80, 0x81, 0xfe, 0xff];

/** 16 bytes for packed integers. */
function packed(r: Random): Uint8Array {
  const out = new Uint8Array(16);
  switch (r.below(8)) {
    case 0: // equal lanes
      out.fill(r.pick(BYTES));
      break;
    case 1: // a shuffle mask
      for (let i = 0; i < 16; i++) out[i] = r.below(16) | (r.oneIn(6) ? r.pick([0x10, 0x40, 0x80, 0xf0]) : 0);
      break;
    case 2: // text with a small alphabet that may end
      for (let i = 0; i < 16; i++) out[i] = r.oneIn(12) ? 0 : 0x61 + r.below(3);
      break;
    case 3: // a small count, or one around the width of a lane
      out[0] = r.pick([0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, r.below(64)]);
      if (r.oneIn(6)) out[r.below(16)] = 1;
      break;
    case 4:
    case 5: {
      // lanes of one width at their limits
      const width = r.pick([1, 2, 4, 8]);
      for (let at = 0; at < 16; at += width) {
        const kind = r.below(7);
        for (let i = 0; i < width; i++) {
          const last = i === width - 1;
          out[at + i] = [0, last ? 0x7f : 0xff, last ? 0x80 : 0, 0xff, i === 0 ? 1 : 0, r.below(256), r.pick(BYTES)][
            kind
          ] as number;
        }
      }
      break;
    }
    case 6:
      for (let i = 0; i < 16; i++) out[i] = r.pick(BYTES);
      break;
    default:
      for (let i = 0; i < 16; i++) out[i] = r.below(256);
  }
  return out;
}

const littleEndian = (value: bigint, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));

/** `bytes` bytes of operands of a kind. */
export function operandBytes(r: Random, kind: Kind, bytes: number): Uint8Array {
  if (kind === 'bcd') {
    const digit = (): number => (r.oneIn(30) ? r.below(16) : r.below(10));
    const zeros = r.below(10);
    const out = Array.from({ length: 10 }, (_, i) => (i >= 9 - zeros ? 0 : digit() | (digit() << 4)));
    out[9] = r.pick([0, 0x80, 0, 0x80, r.below(256)]);
    return Uint8Array.from(out);
  }
  if (kind === 'integers') {
    if (bytes > 8 || r.oneIn(2)) {
      return Uint8Array.from(Array.from({ length: Math.ceil(bytes / 16) }, () => [...packed(r)]).flat()).subarray(
        0,
        bytes,
      );
    }
    const top = 1n << BigInt(bytes * 8 - 1);
    const value = r.pick([0n, 1n, ones(64), top, top - 1n, top + 1n, BigInt(r.below(1000)), r.u64(), r.u64()]);
    return Uint8Array.from(littleEndian(value, bytes));
  }
  const width = kind === 'f32' ? 4 : kind === 'f64' ? 8 : 10;
  const out: number[] = [];
  while (out.length < bytes) out.push(...littleEndian(floating(r, kind), width));
  return Uint8Array.from(out.slice(0, bytes));
}

/** Register state for instructions whose operands are of these kinds. `deep`: x87 registers mostly in use. */
export function fxState(r: Random, kinds: readonly Kind[]): Uint8Array {
  const out = new Uint8Array(FX_BYTES);
  const view = new DataView(out.buffer);
  // Unmasked exceptions now and then. Precision control 1 is reserved, bit 6 is always 1.
  const masks = r.oneIn(4) ? r.below(64) : 63;
  const fcw = 0x40 | masks | (r.pick([0, 2, 3, 3, 3]) << 8) | (r.below(4) << 10);
  view.setUint16(FX_FCW, fcw, true);
  const sticky = r.oneIn(2) ? r.below(128) : 0;
  // A pending unmasked exception makes most instructions #MF: rare.
  const flags = r.oneIn(40) ? sticky : sticky & (masks | 0x40);
  const summary = flags & ~masks & 63 ? 0x8080 : 0;
  const conditions = (r.below(8) << 8) | (r.below(2) << 14);
  view.setUint16(FX_FSW, summary | conditions | (r.below(8) << 11) | flags, true);
  out[FX_FTW] = r.oneIn(2) ? 0xff : r.oneIn(3) ? r.pick([0, 0xfe, 0x7f, 0x55]) : r.below(256);
  const mxcsr = (r.oneIn(4) ? r.below(64) << 7 : 0x1f80) | (r.below(4) << 13);
  const modes = (r.oneIn(4) ? 0x40 : 0) | (r.oneIn(4) ? 0x8000 : 0);
  view.setUint32(FX_MXCSR, mxcsr | modes | (r.oneIn(2) ? r.below(64) : 0), true);
  for (let n = 0; n < 8; n++) {
    const at = FX_ST + n * 16;
    if (n > 0 && r.oneIn(6)) {
      // An earlier one, of the other sign or a neighbour.
      out.copyWithin(at, FX_ST + r.below(n) * 16, FX_ST + r.below(n) * 16 + 10);
      if (r.oneIn(2)) out[at + 9] = (out[at + 9] as number) ^ 0x80;
      if (r.oneIn(3)) out[at] = (out[at] as number) ^ r.pick([1, 2, 3]);
    } else if (kinds.includes('integers') && r.oneIn(2)) {
      out.set(operandBytes(r, 'integers', 8), at);
      if (r.oneIn(2)) out.fill(0xff, at + 8, at + 10);
      else out.set(littleEndian(BigInt(r.below(65536)), 2), at + 8);
    } else out.set(littleEndian(floating(r, 'f80'), 10), at);
  }
  for (let n = 0; n < 16; n++) {
    const at = FX_XMM + n * 16;
    if (n > 0 && r.oneIn(5)) {
      const from = FX_XMM + r.below(n) * 16;
      out.copyWithin(at, from, from + 16);
      if (r.oneIn(2)) out[at + r.below(16)] = r.pick(BYTES);
    } else {
      const kind = r.oneIn(12) ? 'integers' : r.pick(kinds);
      out.set(operandBytes(r, kind === 'f80' || kind === 'bcd' ? 'f64' : kind, 16), at);
    }
  }
  return out;
}
