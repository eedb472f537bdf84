// The current vCPU: its state block, pending breaks, and the mode that its registers imply.
// Slots are defined in layout.ts. One vCPU is current at a time; run() selects it.

import {
  R_RFLAGS, R_CR0, R_DR7, R_EFER, R_BASE, R_LIMIT, R_ATTR, SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_GS, S_CPL, S_TLB_VERSION,
  S_SLOTS, S_EXIT_CODE, S_EXIT_LEN, S_EXIT_Q0, S_EXIT_Q1, S_EXIT_DATA, S_VENDOR, S_MAXPHYADDR, S_MAXLINADDR, OPEN_SMAP, OPEN_WP, S_OPEN, S_TLB_LARGE, R_CR4, EXIT_BUDGET,
  EXIT_ACCESS, EXIT_EXCEPTION, EXIT_INTERNAL, EXIT_INTERRUPT_WINDOW, EXIT_MMIO, EXIT_NMI_WINDOW, EXIT_SHUTDOWN, EXIT_RETRY, EXIT_STOP, TLB_BYTES,
  TLB_FILLED, TLB_PART, TLB_VERSION_MASK,
} from './layout';
import { abandonLog } from './snapshot';

// ---- architectural bits (SDM vol. 3, 2.3 and 2.5) ----
export const FLAG_CF: u64 = 1 << 0;
export const FLAG_FIXED: u64 = 1 << 1;
export const FLAG_PF: u64 = 1 << 2;
export const FLAG_AF: u64 = 1 << 4;
export const FLAG_ZF: u64 = 1 << 6;
export const FLAG_SF: u64 = 1 << 7;
export const FLAG_TF: u64 = 1 << 8;
export const FLAG_IF: u64 = 1 << 9;
export const FLAG_DF: u64 = 1 << 10;
export const FLAG_OF: u64 = 1 << 11;
export const FLAG_IOPL: u64 = 3 << 12;
export const FLAG_NT: u64 = 1 << 14;
export const FLAG_RF: u64 = 1 << 16;
export const FLAG_VM: u64 = 1 << 17;
export const FLAG_AC: u64 = 1 << 18;
export const FLAG_VIF: u64 = 1 << 19;
export const FLAG_VIP: u64 = 1 << 20;
export const FLAG_ID: u64 = 1 << 21;
/** CF, PF, AF, ZF, SF, OF: what arithmetic sets. */
export const FLAGS_ARITH: u64 = 0x8d5;

export const CR0_PE: u64 = 1 << 0;
export const CR0_MP: u64 = 1 << 1;
export const CR0_EM: u64 = 1 << 2;
export const CR0_TS: u64 = 1 << 3;
export const CR0_ET: u64 = 1 << 4;
export const CR0_NE: u64 = 1 << 5;
export const CR0_WP: u64 = 1 << 16;
export const CR0_AM: u64 = 1 << 18;
export const CR0_NW: u64 = 1 << 29;
export const CR0_CD: u64 = 1 << 30;
export const CR0_PG: u64 = 0x80000000;

export const CR4_VME: u64 = 1 << 0;
export const CR4_PVI: u64 = 1 << 1;
export const CR4_TSD: u64 = 1 << 2;
export const CR4_DE: u64 = 1 << 3;
export const CR4_PSE: u64 = 1 << 4;
export const CR4_PAE: u64 = 1 << 5;
export const CR4_MCE: u64 = 1 << 6;
export const CR4_PGE: u64 = 1 << 7;
export const CR4_PCE: u64 = 1 << 8;
export const CR4_OSFXSR: u64 = 1 << 9;
export const CR4_OSXMMEXCPT: u64 = 1 << 10;
export const CR4_UMIP: u64 = 1 << 11;
export const CR4_LA57: u64 = 1 << 12;
export const CR4_FSGSBASE: u64 = 1 << 16;
export const CR4_PCIDE: u64 = 1 << 17;
export const CR4_OSXSAVE: u64 = 1 << 18;
export const CR4_SMEP: u64 = 1 << 20;
export const CR4_SMAP: u64 = 1 << 21;
export const CR4_PKE: u64 = 1 << 22;

export const EFER_SCE: u64 = 1 << 0;
export const EFER_LME: u64 = 1 << 8;
export const EFER_LMA: u64 = 1 << 10;
export const EFER_NXE: u64 = 1 << 11;

// Segment attribute bits, VMX format.
export const ATTR_TYPE: u32 = 0xf;
export const ATTR_CODE: u32 = 0x8;
/** Conforming (code) or expand-down (data). */
export const ATTR_CE: u32 = 0x4;
/** Readable (code) or writable (data). */
export const ATTR_RW: u32 = 0x2;
export const ATTR_ACCESSED: u32 = 0x1;
export const ATTR_S: u32 = 0x10;
export const ATTR_P: u32 = 0x80;
export const ATTR_L: u32 = 0x2000;
export const ATTR_DB: u32 = 0x4000;
export const ATTR_G: u32 = 0x8000;
export const ATTR_UNUSABLE: u32 = 0x10000;

// Exception vectors (SDM vol. 3, table 6-1).
export const DE: i32 = 0;
export const DB: i32 = 1;
export const NMI: i32 = 2;
export const BP: i32 = 3;
export const OF: i32 = 4;
export const BR: i32 = 5;
export const UD: i32 = 6;
export const NM: i32 = 7;
export const DF: i32 = 8;
export const TS: i32 = 10;
export const NP: i32 = 11;
export const SS: i32 = 12;
export const GP: i32 = 13;
export const PF: i32 = 14;
/** x87 floating-point error. */
export const MF: i32 = 16;
export const AC: i32 = 17;
/** SIMD floating-point exception. */
export const XM: i32 = 19;
/** Pseudo vector: a non-canonical address; becomes #SS(0) or #GP(0) by the segment of the access. */
export const NONCANONICAL: i32 = 0x80;

// ---- breaks: why the inner loop must look up ----
/** An exception is pending in exVector/exError. */
export const BRK_FAULT: i32 = 1;
/** The exit fields are filled. */
export const BRK_EXIT: i32 = 2;
/** Decoded code, the mode or the translation changed: look the next instruction up again. */
export const BRK_LOOKUP: i32 = 4;

/** State block of the current vCPU. */
export let st: usize = 0;
/** TLB tables for the current privilege: read, write, execute, TLB_TABLE bytes each. */
export let tlb: usize = 0;
/** TLB version of the current vCPU; see layout.S_TLB_VERSION. */
export let liveVersion: u64 = 0;
/** What the fast paths of data accesses compare with: the live version, or NO_VERSION while every access must be looked at. */
export let tlbVersion: u64 = 0;
/** A version that no TLB entry has. */
const NO_VERSION: u64 = TLB_VERSION_MASK;
/** Data accesses at the current privilege must be aligned: CR0.AM and RFLAGS.AC at CPL 3 (SDM vol. 3, 6.15, #AC). */
export let alignmentChecked: bool = false;
/** A data breakpoint is enabled. */
export let dataWatched: bool = false;
export let brk: i32 = 0;
export let exVector: i32 = 0;
export let exError: u32 = 0;
export let exHasError: bool = false;
/** Linear address of a #PF. */
export let exAddress: u64 = 0;

/** RIP of the current instruction and of the one that follows it; control transfers write nextRip. */
export let curRip: u64 = 0;
export let nextRip: u64 = 0;

/** Code size: 0 = 16-bit, 1 = 32-bit, 2 = 64-bit (EFER.LMA and CS.L). */
export let codeMode: i32 = 0;
/** Mask of the stack pointer: 0xffff, 0xffffffff or all ones. */
export let stackMask: u64 = 0xffff;
/** CR0.PE set and RFLAGS.VM clear. */
export let protectedMode: bool = false;
/** EFER.LMA. */
export let longMode: bool = false;
export let cpl: i32 = 0;
/** Left shift that a canonical address survives. 0: EFER.LMA without paging, which no processor allows and Unicorn's 64-bit mode is. */
export let canonicalShift: u64 = 16;
/** Bit s set: segment s has base 0, covers 4 GiB (or 64-bit mode ignores it) and allows reads / writes without a check. */
export let flatRead: u32 = 0;
export let flatWrite: u32 = 0;

export const TLB_ENTRIES: usize = <usize>TLB_BYTES / 6 / 16;
export const TLB_TABLE: usize = TLB_ENTRIES * 16;
export const TLB_READ: usize = 0;
export const TLB_WRITE: usize = TLB_TABLE;
export const TLB_EXEC: usize = TLB_TABLE * 2;
/** Offset of the supervisor tables in the state block; the user tables follow. */
export const TLB_BASE: usize = (<usize>S_SLOTS) * 8;
export const TLB_PRIVILEGE: usize = TLB_TABLE * 3;
/** Bits of TLB_FILLED that stand for write tables. */
const TABLE_PARTS: u64 = ((<u64>1) << (TLB_TABLE / TLB_PART)) - 1;
const WRITE_PARTS: u64 = (TABLE_PARTS << (TLB_WRITE / TLB_PART)) | (TABLE_PARTS << ((TLB_PRIVILEGE + TLB_WRITE) / TLB_PART));

/** The first part of a vCPU's write tables, from address `from` (0: their start) on, that entries were filled in; 0 if there is none. */
export function nextWritePart(block: usize, from: usize): usize {
  const tables = block + TLB_BASE;
  const behind: u64 = from == 0 ? 0 : (from - tables) / TLB_PART;
  const parts = load<u64>(block + TLB_FILLED) & WRITE_PARTS & ~(((<u64>1) << behind) - 1);
  return parts == 0 ? 0 : tables + <usize>ctz(parts) * TLB_PART;
}

// @ts-ignore: decorator
@inline export function reg(slot: i32): u64 {
  return load<u64>(st + ((<usize>slot) << 3));
}
// @ts-ignore: decorator
@inline export function setReg(slot: i32, value: u64): void {
  store<u64>(st + ((<usize>slot) << 3), value);
}
// @ts-ignore: decorator
@inline export function reg32(slot: i32): u32 {
  return load<u32>(st + ((<usize>slot) << 3));
}

export function selectVcpu(block: usize): void {
  st = block;
  liveVersion = reg(S_TLB_VERSION);
  brk = 0;
  computeMode();
}

export function setBrk(bits: i32): void {
  brk |= bits;
}
export function clearBrk(): void {
  brk = 0;
}
export function setRips(cur: u64, next: u64): void {
  curRip = cur;
  nextRip = next;
}
export function setNextRip(value: u64): void {
  nextRip = value;
}

/** True after an access or check failed: a fault or an exit is pending and the instruction must not change state. */
// @ts-ignore: decorator
@inline export function failed(): bool {
  return (brk & (BRK_FAULT | BRK_EXIT)) != 0;
}

/** Raises an exception without an error code. */
export function raise(vector: i32): void {
  exVector = vector;
  exHasError = false;
  exError = 0;
  brk |= BRK_FAULT;
}
/** Raises an exception with an error code. */
export function raiseError(vector: i32, error: u32): void {
  exVector = vector;
  exHasError = true;
  exError = error;
  brk |= BRK_FAULT;
}
export function raisePageFault(linear: u64, error: u32): void {
  exAddress = linear;
  raiseError(PF, error);
}

/** The exit is caused by what the instruction is, not by an access, an event or the host. */
function byInstruction(code: i32): bool {
  switch (code) {
    case EXIT_BUDGET: case EXIT_MMIO: case EXIT_EXCEPTION: case EXIT_INTERRUPT_WINDOW: case EXIT_NMI_WINDOW: case EXIT_SHUTDOWN:
    case EXIT_INTERNAL: case EXIT_ACCESS: case EXIT_STOP: case EXIT_RETRY:
      return false;
    default:
      return true;
  }
}

/** Leaves guest code: fills the exit fields. RIP stays at the current instruction. */
export function leave(code: i32, q0: u64, q1: u64, data: u64): void {
  setReg(S_EXIT_CODE, code);
  setReg(S_EXIT_LEN, nextRip - curRip);
  setReg(S_EXIT_Q0, q0);
  setReg(S_EXIT_Q1, q1);
  setReg(S_EXIT_DATA, data);
  // An instruction that exits leaves RF = 0, as if it had completed (SDM vol. 3, 28.3.3).
  if (byInstruction(code)) setReg(R_RFLAGS, reg(R_RFLAGS) & ~FLAG_RF);
  brk |= BRK_EXIT;
}
export function leaveInternal(what: i32, address: u64): void {
  leave(EXIT_INTERNAL, what, address, 0);
}

/** Empties the TLBs of the current vCPU. */
export function flushTlb(): void {
  setReg(S_OPEN, 0);
  setReg(S_TLB_LARGE, 0);
  liveVersion++;
  if (liveVersion >= NO_VERSION) {
    let parts = load<u64>(st + TLB_FILLED);
    for (; parts != 0; parts &= parts - 1) memory.fill(st + TLB_BASE + <usize>ctz(parts) * TLB_PART, 0, TLB_PART);
    store<u64>(st + TLB_FILLED, 0);
    abandonLog();
    liveVersion = 1;
  }
  setReg(S_TLB_VERSION, liveVersion);
  updateChecks();
  brk |= BRK_LOOKUP;
}

function isFlat(seg: i32, write: bool): bool {
  const attr = reg32(R_ATTR + seg);
  if (attr & ATTR_UNUSABLE) return false;
  if (reg(R_BASE + seg) != 0 || reg32(R_LIMIT + seg) != 0xffffffff) return false;
  if (!protectedMode) return true;
  if (attr & ATTR_CODE) return !write && (attr & ATTR_RW) != 0;
  if (attr & ATTR_CE) return false;
  return !write || (attr & ATTR_RW) != 0;
}

/**
 * Derives codeMode, stackMask, cpl and the flat-segment masks. Call after any change of CR0, EFER, RFLAGS.VM,
 * CPL or a segment register.
 */
export function computeMode(): void {
  const cr0 = reg(R_CR0);
  const csAttr = reg32(R_ATTR + SEG_CS);
  longMode = (reg(R_EFER) & EFER_LMA) != 0;
  protectedMode = (cr0 & CR0_PE) != 0 && (reg(R_RFLAGS) & FLAG_VM) == 0;
  cpl = <i32>reg(S_CPL);
  canonicalShift = longMode && (cr0 & CR0_PG) == 0 ? 0 : (reg(R_CR4) & CR4_LA57) != 0 ? 7 : 16;
  if (longMode && (csAttr & ATTR_L) != 0) {
    codeMode = 2;
    stackMask = 0xffffffffffffffff;
    // 64-bit mode: ES, CS, SS and DS have base 0 and no limit; FS and GS add their base.
    flatRead = (1 << SEG_ES) | (1 << SEG_CS) | (1 << SEG_SS) | (1 << SEG_DS);
    flatWrite = flatRead;
  } else {
    codeMode = (csAttr & ATTR_DB) != 0 ? 1 : 0;
    stackMask = (reg32(R_ATTR + SEG_SS) & ATTR_DB) != 0 ? 0xffffffff : 0xffff;
    flatRead = 0;
    flatWrite = 0;
    for (let seg = SEG_ES; seg <= SEG_GS; seg++) {
      if (isFlat(seg, false)) flatRead |= 1 << seg;
      if (isFlat(seg, true)) flatWrite |= 1 << seg;
    }
  }
  tlb = st + TLB_BASE + (cpl == 3 ? TLB_PRIVILEGE : 0);
  updateChecks();
  brk |= BRK_LOOKUP;
}

/** Derives which data accesses need a look; computeMode() does it too. Call after a change of RFLAGS.AC or DR7. */
export function updateChecks(): void {
  const open = reg(S_OPEN);
  if (open & OPEN_SMAP && (reg(R_RFLAGS) & FLAG_AC) == 0 || open & OPEN_WP && reg(R_CR0) & CR0_WP) flushTlb();
  alignmentChecked = cpl == 3 && (reg(R_RFLAGS) & FLAG_AC) != 0 && (reg(R_CR0) & CR0_AM) != 0;
  dataWatched = watchesData(reg(R_DR7));
  tlbVersion = alignmentChecked || dataWatched ? NO_VERSION : liveVersion;
}
/** True if DR7 enables a breakpoint on writes or on reads and writes. */
function watchesData(dr7: u64): bool {
  if ((dr7 & 0xff) == 0) return false;
  for (let n: u64 = 0; n < 4; n++) {
    if (((dr7 >> (n * 2)) & 3) != 0 && ((dr7 >> (n * 4 + 16)) & 1) != 0) return true;
  }
  return false;
}
/** For accesses of the host, until the next run. */
export function suspendChecks(): void {
  alignmentChecked = false;
  dataWatched = false;
  tlbVersion = liveVersion;
}

// @ts-ignore: decorator
@inline export function isCanonical(address: u64): bool {
  return <u64>((<i64>(address << canonicalShift)) >> canonicalShift) == address;
}
// @ts-ignore: decorator
@inline export function isAmd(): bool {
  return reg(S_VENDOR) != 0;
}
/**
 * For bases in MSRs and segment and table registers: canonical for the widest linear address that the processor knows, whatever CR4.LA57
 * (processors do so; KVM's is_noncanonical_msr_address).
 */
export function isCanonicalBase(address: u64): bool {
  const shift = 64 - reg(S_MAXLINADDR);
  return <u64>((<i64>(address << shift)) >> shift) == address;
}
/** Bits of a physical address that must be zero. */
export function reservedPhysicalBits(): u64 {
  return ~(((<u64>1) << reg(S_MAXPHYADDR)) - 1);
}
