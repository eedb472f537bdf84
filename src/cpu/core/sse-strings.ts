// PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 1, 4.1; vol. 2, section 4.1).

import { R_RAX, R_RCX, R_RDX, R_XMM } from './layout';
import { FLAG_CF, FLAG_OF, FLAG_SF, FLAG_ZF, reg, setReg, st } from './state';
import { setArithFlags } from './flags';

/** The two strings. */
const strings: usize = memory.data(32, 16);

/** Element `i` of the string at `at`: words or bytes, signed or not. */
function element(at: usize, i: i32, words: bool, signed: bool): i32 {
  if (words) return signed ? <i32>load<i16>(at + (<usize>i << 1)) : <i32>load<u16>(at + (<usize>i << 1));
  return signed ? <i32>load<i8>(at + <usize>i) : <i32>load<u8>(at + <usize>i);
}
/** Elements before the first null. */
function implicitLength(at: usize, count: i32, words: bool): i32 {
  for (let i = 0; i < count; i++) if (element(at, i, words, false) == 0) return i;
  return count;
}
/** Length from EAX or EDX (RAX, RDX with REX.W): its absolute value, at most `count`. */
function explicitLength(slot: i32, count: i32, wide: bool): i32 {
  const value = wide ? <i64>reg(slot) : <i64><i32>reg(slot);
  const length: u64 = value < 0 ? <u64>0 - <u64>value : <u64>value;
  return length > <u64>count ? count : <i32>length;
}

/** The aggregation of imm8[3:2] of string `a` (length `na`) and `b` (length `nb`): bit j for element j of `b`. */
function aggregate(kind: i32, count: i32, na: i32, nb: i32, words: bool, signed: bool): u32 {
  const a = strings;
  const b = strings + 16;
  let result: u32 = 0;
  for (let j = 0; j < count; j++) {
    let hit = false;
    switch (kind) {
      case 0: // equal any
        for (let i = 0; i < na && j < nb; i++) hit = hit || element(a, i, words, signed) == element(b, j, words, signed);
        break;
      case 1: { // ranges
        const value = element(b, j, words, signed);
        for (let i = 0; i + 1 < na && j < nb; i += 2) {
          hit = hit || (value >= element(a, i, words, signed) && value <= element(a, i + 1, words, signed));
        }
        break;
      }
      case 2: // equal each
        hit = j < na && j < nb ? element(a, j, words, signed) == element(b, j, words, signed) : j >= na && j >= nb;
        break;
      default: // equal ordered
        hit = true;
        for (let i = 0; i < na && i + j < count; i++) {
          hit = hit && i + j < nb && element(a, i, words, signed) == element(b, i + j, words, signed);
        }
        break;
    }
    if (hit) result |= 1 << j;
  }
  return result;
}

/** `form`: bit 0 index in ECX (else mask in XMM0), bit 1 implicit lengths. */
export function compareStrings(first: v128, second: v128, imm: i32, form: i32, wide: bool): void {
  const words = (imm & 1) != 0;
  const count = words ? 8 : 16;
  v128.store(strings, first);
  v128.store(strings, second, 16);
  const implicit = (form & 2) != 0;
  const na = implicit ? implicitLength(strings, count, words) : explicitLength(R_RAX, count, wide);
  const nb = implicit ? implicitLength(strings + 16, count, words) : explicitLength(R_RDX, count, wide);

  let result = aggregate((imm >> 2) & 3, count, na, nb, words, (imm & 2) != 0);
  // Polarity: negate all bits, or only those of valid elements.
  if (imm & 16) result ^= imm & 32 ? (1 << nb) - 1 : (1 << count) - 1;
  if (form & 1) {
    const index = result == 0 ? count : imm & 64 ? 31 - clz(result) : ctz(result);
    setReg(R_RCX, <u64>index);
  } else {
    const at = st + (R_XMM << 3);
    if (imm & 64) {
      for (let i = 0; i < count; i++) {
        const value = (result >> i) & 1 ? -1 : 0;
        if (words) store<i16>(at + (<usize>i << 1), <i16>value);
        else store<i8>(at + <usize>i, <i8>value);
      }
    } else v128.store(at, i64x2.replace_lane(i64x2.splat(0), 0, <i64>result));
  }
  let flags: u64 = 0;
  if (result != 0) flags |= FLAG_CF;
  if (nb < count) flags |= FLAG_ZF;
  if (na < count) flags |= FLAG_SF;
  if (result & 1) flags |= FLAG_OF;
  setArithFlags(flags);
}
