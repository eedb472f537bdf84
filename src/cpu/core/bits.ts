// Integer extensions (SDM vol. 2): MOVBE, CRC32, POPCNT, LZCNT, TZCNT, BMI1, BMI2, ADX, RDRAND, RDSEED, RDPID; rows in opcodes/bits.ts.

import * as H from './tables.generated';
import { R_RDX, R_TSC_AUX, S_RANDOM } from './layout';
import { FLAGS_ARITH, FLAG_CF, FLAG_OF, FLAG_SF, FLAG_ZF, UD, codeMode, failed, protectedMode, raise, reg, setReg } from './state';
import { flags, resultFlags, setArithFlags } from './flags';
import { REC_E, REC_HANDLER, REC_SUB } from './record';
import { getAt, getG, getSlot, getV, immediate, mask, putAt, putG, putV, readE, signExtend, sizeOf, writeE } from './operand';

/** High 64 bits of an unsigned product. */
export function mulHigh(a: u64, b: u64): u64 {
  const al = a & 0xffffffff;
  const ah = a >> 32;
  const bl = b & 0xffffffff;
  const bh = b >> 32;
  const mid = ah * bl + ((al * bl) >> 32);
  const mid2 = al * bh + (mid & 0xffffffff);
  return ah * bh + (mid >> 32) + (mid2 >> 32);
}

export function bswap64(value: u64): u64 {
  value = ((value & 0x00ff00ff00ff00ff) << 8) | ((value >> 8) & 0x00ff00ff00ff00ff);
  value = ((value & 0x0000ffff0000ffff) << 16) | ((value >> 16) & 0x0000ffff0000ffff);
  return (value << 32) | (value >> 32);
}
/** The bytes of a value of this size in reverse order. */
function swap(value: u64, size: i32): u64 {
  return bswap64(value) >> (64 - (8 << size));
}

/** CRC-32C, reflected: polynomial 0x11edc6f41. */
function crc32c(crc: u64, value: u64, size: i32): u64 {
  let rest = crc ^ value;
  for (let bit = 0; bit < 8 << size; bit++) rest = (rest >> 1) ^ (rest & 1 ? 0x82f63b78 : 0);
  return rest & 0xffffffff;
}

/** Bits of `value`, from its lowest, to where `bits` has ones. */
function deposit(value: u64, bits: u64): u64 {
  let result: u64 = 0;
  for (; bits != 0; bits &= bits - 1) {
    if (value & 1) result |= bits & (<u64>0 - bits);
    value >>= 1;
  }
  return result;
}
/** The opposite: bits of `value` where `bits` has ones, moved together at the low end. */
function extract(value: u64, bits: u64): u64 {
  let result: u64 = 0;
  for (let at: u64 = 0; bits != 0; bits &= bits - 1) {
    if (value & bits & (<u64>0 - bits)) result |= <u64>1 << at;
    at++;
  }
  return result;
}

/** SplitMix64 over the vCPU's own state: repeatable, and saved with it. */
function random(): u64 {
  const state = reg(S_RANDOM) + 0x9e3779b97f4a7c15;
  setReg(S_RANDOM, state);
  let z = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/** ADCX and ADOX: an addition with carry through one flag, which leaves the others alone. */
function addThrough(rec: usize, flag: u64): void {
  const size = sizeOf(rec);
  const b = readE(rec, size);
  if (failed()) return;
  const a = getG(rec, size);
  const before = flags();
  const carryIn: u64 = before & flag ? 1 : 0;
  const sum = (a + b + carryIn) & mask(size);
  const carryOut = sum < a || (carryIn != 0 && sum == a);
  putG(rec, size, sum);
  setArithFlags((before & FLAGS_ARITH & ~flag) | (carryOut ? flag : 0));
}

/** LZCNT and TZCNT: CF for a zero source, ZF for a zero count. */
function countZeros(rec: usize, leading: bool): void {
  const size = sizeOf(rec);
  const a = readE(rec, size);
  if (failed()) return;
  const bits: u64 = 8 << size;
  const count = a == 0 ? bits : leading ? clz<u64>(a) - (64 - bits) : ctz<u64>(a);
  putG(rec, size, count);
  setArithFlags((a == 0 ? FLAG_CF : 0) | (count == 0 ? FLAG_ZF : 0));
}

function bls(rec: usize): void {
  const size = sizeOf(rec);
  const a = readE(rec, size);
  if (failed()) return;
  const op = <i32>load<u8>(rec, REC_SUB);
  const result = (op == 1 ? a & (a - 1) : op == 2 ? a ^ (a - 1) : a & (<u64>0 - a)) & mask(size);
  putV(rec, size, result);
  const value = resultFlags(result, size) & (FLAG_ZF | FLAG_SF);
  setArithFlags(value | ((op == 3) == (a != 0) ? FLAG_CF : 0));
}

/** SHLX, SHRX and SARX. */
function shiftBy(rec: usize): void {
  const size = sizeOf(rec);
  const a = readE(rec, size);
  if (failed()) return;
  const count = getV(rec, size) & (size == 3 ? 63 : 31);
  const op = <i32>load<u8>(rec, REC_SUB);
  putG(rec, size, op == 4 ? a << count : op == 5 ? a >> count : <u64>(signExtend(a, size) >> <i64>count));
}

/** Executes an instruction with a VEX prefix, which real and virtual-8086 mode do not have. */
function vex(rec: usize): void {
  if (!protectedMode) {
    raise(UD);
    return;
  }
  const size = sizeOf(rec);
  const handler = <i32>load<u16>(rec, REC_HANDLER);
  switch (handler) {
    case H.H_BLS: bls(rec); return;
    case H.H_SHIFT_V: shiftBy(rec); return;
  }
  const a = readE(rec, size);
  if (failed()) return;
  switch (handler) {
    case H.H_ANDN: {
      const result = ~getV(rec, size) & a;
      putG(rec, size, result);
      setArithFlags(resultFlags(result, size) & (FLAG_ZF | FLAG_SF));
      break;
    }
    case H.H_BEXTR: {
      const control = getV(rec, size);
      const start = control & 0xff;
      const length = (control >> 8) & 0xff;
      const from = start > 63 ? 0 : a >> start;
      const result = length > 63 ? from : from & ((<u64>1 << length) - 1);
      putG(rec, size, result);
      setArithFlags(result == 0 ? FLAG_ZF : 0);
      break;
    }
    case H.H_BZHI: {
      const index = getV(rec, size) & 0xff;
      const beyond = index >= <u64>(8 << size);
      const result = beyond ? a : a & ((<u64>1 << index) - 1);
      putG(rec, size, result);
      setArithFlags((resultFlags(result, size) & (FLAG_ZF | FLAG_SF)) | (beyond ? FLAG_CF : 0));
      break;
    }
    case H.H_PDEP: putG(rec, size, deposit(getV(rec, size), a)); break;
    case H.H_PEXT: putG(rec, size, extract(getV(rec, size), a)); break;
    case H.H_MULX: {
      const b = getSlot(R_RDX, size);
      const high = size == 3 ? mulHigh(a, b) : (a * b) >> 32;
      // If both name one register it gets the high half.
      putV(rec, size, a * b);
      putG(rec, size, high);
      break;
    }
    default: { // RORX
      const count = immediate(rec) & (size == 3 ? 63 : 31);
      putG(rec, size, size == 3 ? rotr<u64>(a, count) : <u64>rotr<u32>(<u32>a, <u32>count));
      break;
    }
  }
}

/** Executes the instructions of this file; exec.ts knows their handlers. */
export function integerExtension(rec: usize): void {
  const size = sizeOf(rec);
  switch (<i32>load<u16>(rec, REC_HANDLER)) {
    case H.H_MOVBE_GM: {
      const value = readE(rec, size);
      if (!failed()) putG(rec, size, swap(value, size));
      break;
    }
    case H.H_MOVBE_MG: writeE(rec, size, swap(getG(rec, size), size)); break;
    case H.H_CRC32: {
      const from = load<u8>(rec, REC_SUB) == 0 ? 0 : size;
      const value = readE(rec, from);
      // The destination has 32 bits, with REX.W 64, of which the upper half becomes 0.
      if (!failed()) putG(rec, 3, crc32c(getG(rec, 2), value, from));
      break;
    }
    case H.H_POPCNT: {
      const a = readE(rec, size);
      if (failed()) return;
      putG(rec, size, popcnt<u64>(a));
      setArithFlags(a == 0 ? FLAG_ZF : 0);
      break;
    }
    case H.H_TZCNT: countZeros(rec, false); break;
    case H.H_LZCNT: countZeros(rec, true); break;
    case H.H_ADX: addThrough(rec, load<u8>(rec, REC_SUB) == 0 ? FLAG_CF : FLAG_OF); break;
    case H.H_RDRAND:
      putAt(load<u8>(rec, REC_E), size, random());
      setArithFlags(FLAG_CF);
      break;
    case H.H_RDPID: putAt(load<u8>(rec, REC_E), codeMode == 2 ? 3 : 2, reg(R_TSC_AUX) & 0xffffffff); break;
    default: vex(rec); break;
  }
}
