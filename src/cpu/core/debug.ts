// Breakpoints in DR0-DR3 (SDM vol. 3, 18.2): what an access, an instruction or a port matches. MOV to and from debug registers is in
// system.ts; when the exceptions come is in index.ts.
//
// While a breakpoint is enabled the run loop goes instruction by instruction, and while a data breakpoint is enabled no access takes
// the fast path; code without breakpoints pays nothing.

import { R_CR4, R_DR0, R_DR7, S_PENDING_DEBUG } from './layout';
import { CR4_DE, longMode, reg, setReg } from './state';

/** DR6.BD: a debug register was accessed with DR7.GD set. */
export const DR6_BD: u64 = 1 << 13;
/** DR6.BS: single step. */
export const DR6_BS: u64 = 1 << 14;
/** DR6.BT: switch to a task with the T flag. */
export const DR6_BT: u64 = 1 << 15;
export const DR7_GD: u64 = 1 << 13;

// Values of R/Wn in DR7, as bits of a set.
const ON_EXECUTION: i32 = 1 << 0;
const ON_WRITE: i32 = 1 << 1;
const ON_PORT: i32 = 1 << 2;
const ON_ACCESS: i32 = 1 << 3;

/** Bits B0-B3 of what the instruction, or the delivery, has touched so far; they count once it completes. */
let hits: u64 = 0;
export function dropHits(): void {
  hits = 0;
}
/** The instruction is complete: its breakpoints are due before the next one. */
export function keepHits(): void {
  if (hits) setReg(S_PENDING_DEBUG, reg(S_PENDING_DEBUG) | hits);
  hits = 0;
}

/** True if one of DR0-DR3 is enabled. */
// @ts-ignore: decorator
@inline export function armed(): bool {
  return (reg(R_DR7) & 0xff) != 0;
}

/**
 * B0-B3 for `size` bytes at `at`, of breakpoints of these kinds. If one that is enabled matches, the disabled ones that match are
 * reported with it, as processors do (SDM vol. 3, 18.2.3).
 */
function matches(at: u64, size: u64, kinds: i32, mask: u64): u64 {
  const dr7 = reg(R_DR7);
  let found: u64 = 0;
  let enabled: u64 = 0;
  for (let n = 0; n < 4; n++) {
    const control = <i32>(dr7 >> <u64>(16 + n * 4));
    if (((kinds >> (control & 3)) & 1) == 0) continue;
    const code = (control >> 2) & 3;
    // LENn: 1, 2, 8 or 4 bytes; the address is aligned to it.
    const length: u64 = kinds == ON_EXECUTION ? 1 : code == 2 ? 8 : <u64>(code + 1);
    const from = reg(R_DR0 + n) & mask & ~(length - 1);
    if (((at - from) & mask) >= length && ((from - at) & mask) >= size) continue;
    found |= (<u64>1) << n;
    enabled |= dr7 >> <u64>(n * 2) & 3;
  }
  return enabled ? found : 0;
}

/** A data access, by linear address. */
export function hitData(linear: u64, size: i32, write: bool): void {
  const mask: u64 = longMode ? 0xffffffffffffffff : 0xffffffff;
  hits |= matches(linear, <u64>size, write ? ON_WRITE | ON_ACCESS : ON_ACCESS, mask);
}
/** B0-B3 of breakpoints on these ports; needs CR4.DE. */
export function hitPort(port: u32, size: i32): u64 {
  return armed() && (reg(R_CR4) & CR4_DE) != 0 ? matches(<u64>port, <u64>size, ON_PORT, 0xffff) : 0;
}
/** B0-B3 of breakpoints on the instruction at this linear address. */
export function hitCode(linear: u64): u64 {
  return matches(linear, 1, ON_EXECUTION, longMode ? 0xffffffffffffffff : 0xffffffff);
}
