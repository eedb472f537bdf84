// Lazy arithmetic flags. An ALU operation stores its kind, result and second source; the flags are computed when somebody reads them.
// CC_OP holds kind * 4 + log2(size in bytes); CC_EAGER means that RFLAGS itself is up to date.

import { R_RFLAGS, S_CC_DST, S_CC_OP, S_CC_SRC } from './layout';
import { FLAGS_ARITH, FLAG_AF, FLAG_CF, FLAG_FIXED, FLAG_OF, FLAG_PF, FLAG_SF, FLAG_ZF, reg, setReg } from './state';

export const CC_EAGER: i32 = 0;
/** dst = result, src = second operand. */
export const CC_ADD: i32 = 1;
export const CC_SUB: i32 = 2;
/** CF = OF = 0, AF = 0 (undefined in the SDM). */
export const CC_LOGIC: i32 = 3;
/** src = CF before the operation. */
export const CC_INC: i32 = 4;
export const CC_DEC: i32 = 5;
// Two kinds that only compiled code knows; what it calls and where it returns to never meets them, see settle().
/** SF, ZF and PF of dst; src = CF, AF and OF as RFLAGS has them. */
const CC_BITS: i32 = 6;
/** src = all arithmetic flags as RFLAGS has them. */
const CC_VALUE: i32 = 7;

// @ts-ignore: decorator
@inline export function setCc(op: i32, sizeLog2: i32, dst: u64, src: u64): void {
  setReg(S_CC_OP, (op << 2) | sizeLog2);
  setReg(S_CC_DST, dst);
  setReg(S_CC_SRC, src);
}

/** Result of a lazy operation, truncated to its size, and moved to the top of a 64-bit word. */
// @ts-ignore: decorator
@inline function toTop(value: u64, sizeLog2: i32): u64 {
  return value << (64 - (8 << sizeLog2));
}

function parity(value: u64): bool {
  return (popcnt<u64>(value & 0xff) & 1) == 0;
}

/** CF as 0 or 1. */
export function carry(): u64 {
  const op = <i32>reg(S_CC_OP);
  const size = op & 3;
  switch (op >> 2) {
    case CC_ADD:
      return u64(toTop(reg(S_CC_DST), size) < toTop(reg(S_CC_SRC), size));
    case CC_SUB: {
      const src = toTop(reg(S_CC_SRC), size);
      return u64(toTop(reg(S_CC_DST), size) + src < src);
    }
    case CC_LOGIC:
      return 0;
    case CC_INC:
    case CC_DEC:
      return reg(S_CC_SRC);
    default:
      return reg(R_RFLAGS) & FLAG_CF;
  }
}

/** The arithmetic flags of the pending lazy operation. */
function lazyArith(op: i32): u64 {
  const size = op & 3;
  const dst = toTop(reg(S_CC_DST), size);
  let flags: u64 = 0;
  if (dst == 0) flags |= FLAG_ZF;
  if (<i64>dst < 0) flags |= FLAG_SF;
  if (parity(reg(S_CC_DST))) flags |= FLAG_PF;
  switch (op >> 2) {
    case CC_ADD: {
      const src = toTop(reg(S_CC_SRC), size);
      const first = dst - src;
      if (dst < src) flags |= FLAG_CF;
      if (<i64>((first ^ dst) & (src ^ dst)) < 0) flags |= FLAG_OF;
      const low = reg(S_CC_DST);
      const lowSrc = reg(S_CC_SRC);
      if ((low ^ lowSrc ^ (low - lowSrc)) & 0x10) flags |= FLAG_AF;
      break;
    }
    case CC_SUB: {
      const src = toTop(reg(S_CC_SRC), size);
      const first = dst + src;
      if (first < src) flags |= FLAG_CF;
      if (<i64>((first ^ src) & (first ^ dst)) < 0) flags |= FLAG_OF;
      const low = reg(S_CC_DST);
      const lowSrc = reg(S_CC_SRC);
      if ((low ^ lowSrc ^ (low + lowSrc)) & 0x10) flags |= FLAG_AF;
      break;
    }
    case CC_INC:
      flags |= reg(S_CC_SRC);
      if (dst == (<u64>1) << 63) flags |= FLAG_OF;
      if ((reg(S_CC_DST) & 0xf) == 0) flags |= FLAG_AF;
      break;
    case CC_DEC:
      flags |= reg(S_CC_SRC);
      if (dst == toTop((((<u64>1) << (8 << size) - 1) - 1), size)) flags |= FLAG_OF;
      if ((reg(S_CC_DST) & 0xf) == 0xf) flags |= FLAG_AF;
      break;
  }
  return flags;
}

/** The flags are of a kind that only compiled code knows. */
// @ts-ignore: decorator
@inline export function unsettled(): bool {
  return <i32>reg(S_CC_OP) >= CC_BITS << 2;
}
/** Folds such flags into RFLAGS. */
export function settle(): void {
  if (!unsettled()) return;
  const op = <i32>reg(S_CC_OP);
  const own = op >> 2 == CC_VALUE ? 0 : resultFlags(reg(S_CC_DST), op & 3);
  setArithFlags(own | reg(S_CC_SRC));
}

/** Replaces some of the arithmetic flags: those of `mask`. */
export function setFlagBits(mask: u64, bits: u64): void {
  setArithFlags((flags() & FLAGS_ARITH & ~mask) | bits);
}

/** RFLAGS with pending arithmetic flags folded in; nothing stays lazy afterwards. */
export function flags(): u64 {
  const op = <i32>reg(S_CC_OP);
  if (op < 4) return reg(R_RFLAGS);
  const value = (reg(R_RFLAGS) & ~FLAGS_ARITH) | lazyArith(op);
  setReg(R_RFLAGS, value);
  setReg(S_CC_OP, CC_EAGER);
  return value;
}

/** Replaces RFLAGS; bit 1 is always set. */
export function setFlags(value: u64): void {
  setReg(S_CC_OP, CC_EAGER);
  setReg(R_RFLAGS, value | FLAG_FIXED);
}

/** Replaces the arithmetic flags. */
export function setArithFlags(value: u64): void {
  setReg(R_RFLAGS, (reg(R_RFLAGS) & ~FLAGS_ARITH) | value);
  setReg(S_CC_OP, CC_EAGER);
}

/**
 * Flags of a 32-bit IMUL with a destination register, from the whole product: SF and PF of the low half, CF and OF if that is not all of
 * it; ZF and AF stay.
 */
export function setProduct32(product: i64): void {
  const op = <i32>reg(S_CC_OP);
  const old = reg(R_RFLAGS);
  let keep = old & (FLAG_ZF | FLAG_AF);
  if (op >= 4) {
    const last = reg(S_CC_DST);
    keep = toTop(last, op & 3) == 0 ? FLAG_ZF : 0;
    switch (op >> 2) {
      case CC_ADD: keep |= (last ^ reg(S_CC_SRC) ^ (last - reg(S_CC_SRC))) & 0x10; break;
      case CC_SUB: keep |= (last ^ reg(S_CC_SRC) ^ (last + reg(S_CC_SRC))) & 0x10; break;
      case CC_INC: keep |= (last & 0xf) == 0 ? FLAG_AF : 0; break;
      case CC_DEC: keep |= (last & 0xf) == 0xf ? FLAG_AF : 0; break;
    }
  }
  if (<i32>product < 0) keep |= FLAG_SF;
  if (parity(<u64>product)) keep |= FLAG_PF;
  if (<i64><i32>product != product) keep |= FLAG_CF | FLAG_OF;
  setReg(R_RFLAGS, (old & ~FLAGS_ARITH) | keep);
  setReg(S_CC_OP, CC_EAGER);
}

/** SF, ZF and PF of a result of the given size. */
export function resultFlags(value: u64, sizeLog2: i32): u64 {
  const top = toTop(value, sizeLog2);
  return (top == 0 ? FLAG_ZF : 0) | (<i64>top < 0 ? FLAG_SF : 0) | (parity(value) ? FLAG_PF : 0);
}

/** Condition code cc of Jcc, SETcc, CMOVcc (SDM vol. 1, appendix B). */
export function condition(cc: i32): bool {
  const op = <i32>reg(S_CC_OP);
  let result: bool;
  if (op >= 4) {
    const size = op & 3;
    const kind = op >> 2;
    const shift: u64 = 64 - (8 << size);
    const dst = reg(S_CC_DST) << shift;
    // The conditions that follow nearly every compare, without building the flags.
    switch (cc >> 1) {
      case 2:
        return (dst == 0) != ((cc & 1) != 0);
      case 4:
        return (<i64>dst < 0) != ((cc & 1) != 0);
      case 1:
        return (carry() != 0) != ((cc & 1) != 0);
      case 3:
        if (kind == CC_SUB) {
          const src = reg(S_CC_SRC) << shift;
          return (dst + src <= src) != ((cc & 1) != 0);
        }
        break;
      case 6:
        if (kind == CC_SUB) {
          const src = reg(S_CC_SRC) << shift;
          return (<i64>(dst + src) < <i64>src) != ((cc & 1) != 0);
        }
        break;
      case 7:
        if (kind == CC_SUB) {
          const src = reg(S_CC_SRC) << shift;
          return (<i64>(dst + src) <= <i64>src) != ((cc & 1) != 0);
        }
        break;
    }
  }
  const f = flags();
  switch (cc >> 1) {
    case 0: result = (f & FLAG_OF) != 0; break;
    case 1: result = (f & FLAG_CF) != 0; break;
    case 2: result = (f & FLAG_ZF) != 0; break;
    case 3: result = (f & (FLAG_CF | FLAG_ZF)) != 0; break;
    case 4: result = (f & FLAG_SF) != 0; break;
    case 5: result = (f & FLAG_PF) != 0; break;
    case 6: result = ((f & FLAG_SF) != 0) != ((f & FLAG_OF) != 0); break;
    default: result = (f & FLAG_ZF) != 0 || ((f & FLAG_SF) != 0) != ((f & FLAG_OF) != 0); break;
  }
  return result != ((cc & 1) != 0);
}
