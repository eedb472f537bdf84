// Linear addresses: paging (SDM vol. 3, chapter 4), the software TLB, and guest memory accesses.
//
// A TLB entry is {u64 tag, u32 what to add to the low 32 bits of a linear address to get the host's, u32 page frame}. The tag is the linear page with the vCPU's TLB version in
// its low 11 bits, so that one compare checks page, version and (by comparing the page of the last byte) that the access stays in the
// page. Bit 11 of a write tag marks a page that holds decoded code or belongs to a snapshot: such stores miss the fast compare.

import {
  BRK_FAULT, BRK_LOOKUP, CR0_PG, CR0_WP, CR4_LA57, CR4_PAE, CR4_PKE, CR4_PSE, CR4_SMAP, CR4_SMEP, FLAG_AC, EFER_NXE, GP, NONCANONICAL, SS, TLB_BASE, TLB_ENTRIES, TLB_EXEC,
  TLB_PRIVILEGE, TLB_READ, TLB_TABLE, TLB_WRITE, brk, clearBrk, cpl, exAddress, exError, exHasError, exVector, failed, flushTlb, isCanonical, leave,
  leaveInternal, longMode, raise, raiseError, raisePageFault, reg, reservedPhysicalBits, setBrk, setReg, st, tlb, tlbVersion,
  AC, alignmentChecked, dataWatched, liveVersion, nextWritePart, suspendChecks,
} from './state';
import {
  EXIT_MMIO, EXIT_IO, INTERNAL_IO_QUEUE_FULL, INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, IOQ_CAPACITY, PAGE_CACHES, PAGE_CODE, R_CR0, R_CR3, R_CR4, R_EFER, R_PKRU, R_RFLAGS, S_IOQ,
  OPEN_SMAP, OPEN_WP, S_EXIT_DATA, S_EXIT_Q1, S_IOQ_COUNT, S_PDPTE, S_OPEN, S_TLB_LARGE, TLB_FILLED, TLB_PART,
} from './layout';
import { pageAttr, physRead32, physRead64, physSetBits, ramBase, ramSize } from './memory';
import { codeWritten, isCode } from './code-cache';
import { TAG_WATCHED, logEntry, touch } from './snapshot';
import { grantsDone, grantsReset, sparse, sparseCode, sparseLoad, sparseProbe, sparseStore, virtualTlb } from './sparse';
import { hitData, hitPort } from './debug';

export const READ: i32 = 0;
export const WRITE: i32 = 1;
export const EXEC: i32 = 2;

const PTE_P: u64 = 1;
const PTE_W: u64 = 2;
const PTE_U: u64 = 4;
const PTE_A: u8 = 0x20;
const PTE_D: u8 = 0x40;
const PTE_PS: u64 = 0x80;
const PTE_NX: u64 = 1 << 63;
const ADDRESS_MASK: u64 = 0x000ffffffffff000;

// Page-fault error code bits.
const PF_P: u32 = 1;
const PF_W: u32 = 2;
const PF_U: u32 = 4;
const PF_RSVD: u32 = 8;
const PF_I: u32 = 16;
const PF_PK: u32 = 32;

const PAGE_MASK: u64 = ~0xfff;

/** Result of walk(): the guest-physical address. Only meaningful if it returned true. */
let physical: u64 = 0;
export function walked(): u64 {
  return physical;
}

/** What a translation that walk() found adds to S_TLB_LARGE. */
let large: u64 = 0;

/** A #PF whose error code has these bits besides W, U and I, which follow from the access. Returns false. */
function fault(linear: u64, access: i32, user: bool, error: u32): bool {
  if (access == WRITE) error |= PF_W;
  if (user) error |= PF_U;
  // The I/D bit is reported only when SMEP or NX can be enforced (SDM vol. 3, 4.7).
  const cr4 = reg(R_CR4);
  if (access == EXEC && ((cr4 & CR4_SMEP) != 0 || ((cr4 & CR4_PAE) != 0 && (reg(R_EFER) & EFER_NXE) != 0))) error |= PF_I;
  raisePageFault(linear, error);
  return false;
}

/** A check that is off now lets a translation into the TLB. */
function open(what: u64): void {
  setReg(S_OPEN, reg(S_OPEN) | what);
}

/** The access is to a descriptor table, a TSS or the stack of an inner level: SMAP counts whatever RFLAGS.AC. */
let implicit: bool = false;

/**
 * Checks the access rights of a present translation (SDM vol. 3, 4.6): `rights` has W and U if all its entries have them, and NX if one
 * has; `leaf` is the entry that maps the page. False with #PF pending.
 */
function permitted(linear: u64, access: i32, user: bool, rights: u64, leaf: u64): bool {
  if (quiet) return true;
  const cr4 = reg(R_CR4);
  const userPage = (rights & PTE_U) != 0;
  let good = userPage || !user;
  let keyed = false;
  if (access == EXEC) {
    good = good && (rights & PTE_NX) == 0 && (user || !userPage || (cr4 & CR4_SMEP) == 0);
  } else {
    const protect = user || (reg(R_CR0) & CR0_WP) != 0;
    if (access == WRITE && (rights & PTE_W) == 0) {
      if (protect) good = false;
      else open(OPEN_WP);
    }
    if (!user && userPage && (cr4 & CR4_SMAP) != 0) {
      if (implicit || (reg(R_RFLAGS) & FLAG_AC) == 0) good = false;
      else open(OPEN_SMAP);
    }
    if (userPage && longMode && (cr4 & CR4_PKE) != 0) {
      const key = <u32>(reg(R_PKRU) >> ((leaf >> 59 & 15) << 1));
      keyed = (key & 1) != 0;
      if ((key & 2) != 0 && access == WRITE) {
        if (protect) keyed = true;
        else open(OPEN_WP);
      }
    }
  }
  return (good && !keyed) || fault(linear, access, user, keyed ? PF_P | PF_PK : PF_P);
}

/**
 * Translates a linear address and checks permissions for an access of the given privilege; sets A and D bits.
 * Returns false with a pending #PF (or an internal exit). Linear addresses must be canonical.
 */
export function walk(linear: u64, access: i32, user: bool): bool {
  if ((reg(R_CR0) & CR0_PG) == 0 || virtualTlb) {
    physical = longMode ? linear : linear & 0xffffffff;
    large = 0;
    return true;
  }
  const cr4 = reg(R_CR4);
  if ((cr4 & CR4_PAE) == 0) return walk32(linear & 0xffffffff, access, user, cr4);
  const nxe = (reg(R_EFER) & EFER_NXE) != 0;
  const highReserved = reservedPhysicalBits() & ADDRESS_MASK | (nxe ? 0 : PTE_NX);
  let rights: u64 = PTE_W | PTE_U;
  let table: u64;
  let level: i32;
  let tables0: u64 = 0;
  let tables1: u64 = 0;
  let tables2: u64 = 0;
  let tables3: u64 = 0;
  if (longMode) {
    table = reg(R_CR3) & ADDRESS_MASK;
    level = (cr4 & CR4_LA57) != 0 ? 4 : 3;
  } else {
    linear &= 0xffffffff;
    const pdpte = reg(S_PDPTE + <i32>(linear >> 30));
    if ((pdpte & PTE_P) == 0) return fault(linear, access, user, 0);
    table = pdpte & ADDRESS_MASK;
    level = 1;
  }
  let entry: u64 = 0;
  let where: u64 = 0;
  for (;;) {
    where = table | (((linear >> (12 + 9 * level)) & 0x1ff) << 3);
    entry = physRead64(where);
    if (failed()) return false;
    if ((entry & PTE_P) == 0) return fault(linear, access, user, 0);
    // Bits 62:52 are ignored (62:59 of a leaf: protection key) in IA-32e paging and reserved (except with NX) in PAE paging.
    let reserved = entry & (highReserved | (longMode ? 0 : 0x7ff0000000000000));
    const leaf = level == 0 || (entry & PTE_PS) != 0;
    if (level >= 3) reserved |= entry & PTE_PS;
    else if (leaf && level > 0) reserved |= level == 2 ? entry & 0x3fffe000 : entry & 0x1fe000;
    if (reserved) return fault(linear, access, user, PF_P | PF_RSVD);
    rights = (rights & entry) | ((rights | entry) & PTE_NX);
    if (leaf) break;
    if (level == 4) tables3 = where;
    else if (level == 3) tables0 = where;
    else if (level == 2) tables1 = where;
    else tables2 = where;
    table = entry & ADDRESS_MASK;
    level--;
  }
  if (!permitted(linear, access, user, rights, entry)) return false;
  if (tables3) setAccessed(tables3);
  if (tables0) setAccessed(tables0);
  if (tables1) setAccessed(tables1);
  if (tables2) setAccessed(tables2);
  markLeaf(where, <u8>entry, access);
  const offsetMask = ((<u64>1) << (12 + 9 * level)) - 1;
  large = level == 0 ? 0 : level == 1 ? (<u64>1) << (linear >> 21 & 63) : 0xffffffffffffffff;
  physical = (entry & ADDRESS_MASK & ~offsetMask) | (linear & offsetMask);
  return true;
}

function setAccessed(where: u64): void {
  if (!quiet && (physRead32(where) & PTE_A) == 0) physSetBits(where, PTE_A);
}
function markLeaf(where: u64, entry: u8, access: i32): void {
  const bits = access == WRITE ? PTE_A | PTE_D : PTE_A;
  if (!quiet && (entry & bits) != bits) physSetBits(where, bits);
}

function walk32(linear: u64, access: i32, user: bool, cr4: u64): bool {
  const pdeAt = (reg(R_CR3) & 0xfffff000) | ((linear >> 22) << 2);
  const pde = physRead32(pdeAt);
  if (failed()) return false;
  if ((pde & 1) == 0) return fault(linear, access, user, 0);
  let entry = pde;
  let where = pdeAt;
  const isLarge = (pde & 0x80) != 0 && (cr4 & CR4_PSE) != 0;
  let permissions = pde;
  let upper: u64 = 0;
  if (!isLarge) {
    where = (pde & 0xfffff000) | (((linear >> 12) & 0x3ff) << 2);
    entry = physRead32(where);
    if (failed()) return false;
    if ((entry & 1) == 0) return fault(linear, access, user, 0);
    permissions &= entry;
  } else {
    // PSE-36: bits 20:13 of a 4 MiB PDE are bits 39:32 of the address.
    upper = <u64>(pde >> 13 & 0xff) << 32;
    if ((pde & 0x200000) != 0 || (upper & reservedPhysicalBits()) != 0) return fault(linear, access, user, PF_P | PF_RSVD);
  }
  if (!permitted(linear, access, user, permissions, entry)) return false;
  if (!isLarge) setAccessed(pdeAt);
  markLeaf(where, <u8>entry, access);
  // A page of 4 MiB is two of 2 MiB.
  large = isLarge ? (<u64>3) << (linear >> 21 & 62) : 0;
  physical = isLarge ? upper | <u64>(entry & 0xffc00000) | (linear & 0x3fffff) : (entry & 0xfffff000) | (linear & 0xfff);
  return true;
}

/** A translation for the host: leaves A and D bits alone. */
let quiet: bool = false;

/** Translates for the host, without side effects: no permissions, no A and D bits, no fault. */
export function walkQuiet(linear: u64): bool {
  if (longMode && !isCanonical(linear)) return false;
  quiet = true;
  const found = walk(longMode ? linear : linear & 0xffffffff, READ, false);
  quiet = false;
  clearBrk();
  return found;
}

/** Enters a translation into the TLB table at `table` (TLB_READ …) of the privilege whose tables start at `base`. */
export function fill(base: usize, table: usize, linear: u64, address: u64): usize {
  const entry = base + table + ((<usize>(linear >> 12) & (TLB_ENTRIES - 1)) << 4);
  let tag = (linear & PAGE_MASK) | liveVersion;
  const frame = <u32>(address >> 12);
  if (table == TLB_WRITE) {
    touch(frame);
    if (load<u8>(pageAttr + frame) & PAGE_CODE) tag |= TAG_WATCHED;
  }
  if (large) setReg(S_TLB_LARGE, reg(S_TLB_LARGE) | large);
  logEntry(entry);
  const part = (<u64>1) << <u64>((entry - st - TLB_BASE) / TLB_PART);
  store<u64>(st + TLB_FILLED, load<u64>(st + TLB_FILLED) | part);
  store<u64>(entry, tag);
  store<u32>(entry, <u32>(ramBase + (<usize>address & ~0xfff)) - <u32>(linear & PAGE_MASK), 8);
  store<u32>(entry, frame, 12);
  return entry;
}

// @ts-ignore: decorator
@inline export function entryOf(base: usize, table: usize, linear: u64): usize {
  return base + table + ((<usize>(linear >> 12) & (TLB_ENTRIES - 1)) << 4);
}
// @ts-ignore: decorator
@inline function hit(entry: usize, linear: u64, size: i32): bool {
  return load<u64>(entry) == (((linear + (size - 1)) & PAGE_MASK) | tlbVersion);
}
// @ts-ignore: decorator
@inline export function host(entry: usize, linear: u64): usize {
  return <usize>load<u32>(entry, 8) + <usize>linear;
}

/** INVLPG: drops the translations of a page at every privilege. */
export function flushPage(linear: u64): void {
  if (!longMode) linear &= 0xffffffff;
  if ((reg(S_TLB_LARGE) >> (linear >> 21 & 63)) & 1) {
    flushTlb();
    return;
  }
  const tag = (linear & PAGE_MASK) | liveVersion;
  for (let table: usize = 0; table < 2 * TLB_PRIVILEGE; table += TLB_TABLE) {
    const entry = entryOf(st + TLB_BASE, table, linear);
    if ((load<u64>(entry) & ~TAG_WATCHED) != tag) continue;
    logEntry(entry);
    store<u64>(entry, 0);
    // Nothing else remembers the translation of the page that runs.
    if (table % TLB_PRIVILEGE == TLB_EXEC) setBrk(BRK_LOOKUP);
  }
}

/** A store is about to go through a watched translation. */
function looked(entry: usize): void {
  const frame = <usize>load<u32>(entry, 12);
  touch(frame);
  if (load<u8>(pageAttr + frame) & PAGE_CODE) return;
  logEntry(entry);
  store<u64>(entry, load<u64>(entry) & ~TAG_WATCHED);
}

/** Watches all write translations of a page frame in a vCPU's TLB: the page has become code. */
export function watchWrites(block: usize, frame: u32): void {
  for (let part = nextWritePart(block, 0); part != 0; part = nextWritePart(block, part + TLB_PART)) {
    for (let entry = part; entry < part + TLB_PART; entry += 16) {
      if (load<u32>(entry, 12) == frame) store<u64>(entry, load<u64>(entry) | TAG_WATCHED);
    }
  }
}

/** Linear to physical for a data access, through the TLB. Sets `physical`; false with a fault pending. */
export function translateData(linear: u64, write: bool, base: usize): bool {
  const table = write ? TLB_WRITE : TLB_READ;
  const entry = entryOf(base, table, linear);
  const tag = load<u64>(entry);
  if ((tag & ~TAG_WATCHED) == ((linear & PAGE_MASK) | liveVersion) && !(implicit && (reg(S_OPEN) & OPEN_SMAP) != 0)) {
    if (tag & TAG_WATCHED) looked(entry);
    physical = ((<u64>load<u32>(entry, 12)) << 12) | (linear & 0xfff);
    return true;
  }
  if (!walk(linear, write ? WRITE : READ, base != st + TLB_BASE)) return false;
  if ((physical | 0xfff) < ramSize) fill(base, table, linear, physical);
  return true;
}

/** The pages that compiled code remembers. */
const pageCaches: usize = memory.data(PAGE_CACHES * 12, 16);
export function pageCachesBase(): u32 {
  return <u32>pageCaches;
}

/**
 * For compiled code that has missed: does what the access of `size` bytes would do to the TLB. 0: nothing has happened that the interpreter, which
 * has to do it, would not do again. Otherwise the caller does the access: 1, it now hits; 2, this one store beside code changes no instruction.
 */
export function fillTlb(linear: u64, size: i32, write: bool): i32 {
  if (tlbVersion != liveVersion || sparse || (linear & 0xfff) + size > 0x1000) return 0;
  if (longMode ? !isCanonical(linear) : linear > 0xffffffff) return 0;
  const entry = entryOf(tlb, write ? TLB_WRITE : TLB_READ, linear);
  const tag = (linear & PAGE_MASK) | liveVersion;
  const known = (load<u64>(entry) & ~TAG_WATCHED) == tag;
  const good = translateData(linear, write, tlb) && brk == 0;
  clearBrk();
  // What came in may have taken the place of another page.
  if (!known) memory.fill(pageCaches, 0xff, PAGE_CACHES * 8);
  if (!good) return 0;
  if (load<u64>(entry) == tag) return 1;
  return load<u64>(entry) == (tag | TAG_WATCHED) && !isCode(physical, size) ? 2 : 0;
}

/** Index of the next host-completed access of this instruction. */
let ioqNext: u64 = 0;
export function ioqReset(): void {
  ioqNext = 0;
  grantsReset();
}
/** Call when an instruction (or one REP iteration) that used completed accesses is done. */
export function ioqDone(): void {
  if (ioqNext) {
    setReg(S_IOQ_COUNT, 0);
    ioqNext = 0;
  }
  if (sparse) grantsDone();
}
/** True if the host has completed the next access; its value is then in ioqValue. */
let ioqValue: u64 = 0;
function ioqTake(): bool {
  if (ioqNext >= reg(S_IOQ_COUNT)) return false;
  ioqValue = reg(S_IOQ + <i32>ioqNext);
  ioqNext++;
  setBrk(BRK_LOOKUP);
  return true;
}
function ioqAsk(code: i32, q0: u64, q1: u64, data: u64): void {
  if (ioqNext >= <u64>IOQ_CAPACITY) leaveInternal(INTERNAL_IO_QUEUE_FULL, q0);
  else leave(code, q0, q1, data);
}
/** String I/O: asks the host for the access or takes what it completed. Returns the value read; check failed(). */
export function portAccess(port: u32, size: i32, input: bool, rep: bool, value: u64): u64 {
  if (ioqTake()) return ioqValue;
  ioqAsk(EXIT_IO, port, <u64>(size | (input ? 0x10 : 0) | 0x20 | (rep ? 0x40 : 0)) | (hitPort(port, size) << 8), value);
  return 0;
}

export function mmioRead(address: u64, size: i32): u64 {
  if (ioqTake()) return ioqValue;
  ioqAsk(EXIT_MMIO, address, size, 0);
  return 0;
}
export function mmioWrite(address: u64, size: i32, value: u64): void {
  if (!ioqTake()) ioqAsk(EXIT_MMIO, address, size | 0x10, value);
}

function addressCheck(linear: u64, size: i32, stack: bool): bool {
  if (!longMode) return true;
  if (isCanonical(linear) && isCanonical(linear + (size - 1))) return true;
  if (stack) raiseError(SS, 0);
  else raise(NONCANONICAL);
  return false;
}

/** #AC(0) for an access at the current privilege that has to be aligned and is not. */
function misaligned(linear: u64, size: i32): bool {
  if (!alignmentChecked || (linear & <u64>(size - 1)) == 0) return false;
  raiseError(AC, 0);
  return true;
}
/**
 * What the fast paths leave to the slow ones while tlbVersion is no version: alignment of accesses at CPL 3, which comes before paging,
 * and data breakpoints. False with #AC(0) pending. `base`: TLB tables of the access; implicit supervisor accesses need no alignment.
 */
function inspect(linear: u64, size: i32, write: bool, base: usize): bool {
  if (base != st + TLB_BASE && misaligned(linear, size)) return false;
  if (dataWatched) hitData(linear, size, write);
  return true;
}

export function truncate(value: u64, size: i32): u64 {
  return size == 8 ? value : value & (((<u64>1) << (size * 8)) - 1);
}

/** Loads `size` bytes: TLB misses, page crossings, MMIO. `base`: TLB tables of the privilege to use. */
function loadSlow(linear: u64, size: i32, base: usize, stack: bool): u64 {
  if (!longMode) linear &= 0xffffffff;
  if (!addressCheck(linear, size, stack) || !inspect(linear, size, false, base)) return 0;
  if (sparse) return sparseLoad(linear, size, base);
  if ((linear & 0xfff) + size > 0x1000) {
    const first = <i32>(0x1000 - (linear & 0xfff));
    const low = loadPart(linear, first, base);
    if (failed()) return 0;
    let second = linear + first;
    if (!longMode) second &= 0xffffffff;
    const high = loadPart(second, size - first, base);
    return low | (high << (first * 8));
  }
  if (!translateData(linear, false, base)) return 0;
  const address = physical;
  if ((address | 0xfff) >= ramSize) return truncate(mmioRead(address, size), size);
  const at = ramBase + <usize>address;
  switch (size) {
    case 1: return load<u8>(at);
    case 2: return load<u16>(at);
    case 4: return load<u32>(at);
    default: return load<u64>(at);
  }
}
function loadPart(linear: u64, size: i32, base: usize): u64 {
  if (!translateData(linear, false, base)) return 0;
  const address = physical;
  let value: u64 = 0;
  for (let i = 0; i < size; i++) {
    const at = address + i;
    const byte = (at | 0xfff) >= ramSize ? mmioRead(at, 1) & 0xff : <u64>load<u8>(ramBase + <usize>at);
    if (failed()) return 0;
    value |= byte << (i * 8);
  }
  return value;
}

function storeSlow(linear: u64, size: i32, value: u64, base: usize, stack: bool): void {
  if (!longMode) linear &= 0xffffffff;
  if (!addressCheck(linear, size, stack) || !inspect(linear, size, true, base)) return;
  if (sparse) {
    sparseStore(linear, size, value, base);
    return;
  }
  if ((linear & 0xfff) + size > 0x1000) {
    const first = <i32>(0x1000 - (linear & 0xfff));
    let second = linear + first;
    if (!longMode) second &= 0xffffffff;
    // Both pages are checked before anything is written.
    if (!translateData(linear, true, base)) return;
    const a = physical;
    if (!translateData(second, true, base)) return;
    const b = physical;
    storePart(a, first, value);
    if (failed()) return;
    storePart(b, size - first, value >> (first * 8));
    return;
  }
  if (!translateData(linear, true, base)) return;
  const address = physical;
  if ((address | 0xfff) >= ramSize) {
    mmioWrite(address, size, truncate(value, size));
    return;
  }
  const at = ramBase + <usize>address;
  switch (size) {
    case 1: store<u8>(at, <u8>value); break;
    case 2: store<u16>(at, <u16>value); break;
    case 4: store<u32>(at, <u32>value); break;
    default: store<u64>(at, value); break;
  }
  if (load<u8>(pageAttr + (<usize>address >> 12)) & PAGE_CODE) codeWritten(address, size);
}
function storePart(address: u64, size: i32, value: u64): void {
  for (let i = 0; i < size; i++) {
    const at = address + i;
    if ((at | 0xfff) >= ramSize) {
      mmioWrite(at, 1, (value >> (i * 8)) & 0xff);
      if (failed()) return;
    } else store<u8>(ramBase + <usize>at, <u8>(value >> (i * 8)));
  }
  if ((address | 0xfff) < ramSize && (load<u8>(pageAttr + (<usize>address >> 12)) & PAGE_CODE)) codeWritten(address, size);
}

// ---- data accesses at the current privilege, by linear address; check failed() afterwards ----
// @ts-ignore: decorator
@inline export function ld8(linear: u64): u64 {
  const e = entryOf(tlb, TLB_READ, linear);
  return hit(e, linear, 1) ? <u64>load<u8>(host(e, linear)) : loadSlow(linear, 1, tlb, false);
}
// @ts-ignore: decorator
@inline export function ld16(linear: u64): u64 {
  const e = entryOf(tlb, TLB_READ, linear);
  return hit(e, linear, 2) ? <u64>load<u16>(host(e, linear)) : loadSlow(linear, 2, tlb, false);
}
// @ts-ignore: decorator
@inline export function ld32(linear: u64): u64 {
  const e = entryOf(tlb, TLB_READ, linear);
  return hit(e, linear, 4) ? <u64>load<u32>(host(e, linear)) : loadSlow(linear, 4, tlb, false);
}
// @ts-ignore: decorator
@inline export function ld64(linear: u64): u64 {
  const e = entryOf(tlb, TLB_READ, linear);
  return hit(e, linear, 8) ? load<u64>(host(e, linear)) : loadSlow(linear, 8, tlb, false);
}
// @ts-ignore: decorator
@inline export function st8(linear: u64, value: u64): void {
  const e = entryOf(tlb, TLB_WRITE, linear);
  if (hit(e, linear, 1)) store<u8>(host(e, linear), <u8>value);
  else storeSlow(linear, 1, value, tlb, false);
}
// @ts-ignore: decorator
@inline export function st16(linear: u64, value: u64): void {
  const e = entryOf(tlb, TLB_WRITE, linear);
  if (hit(e, linear, 2)) store<u16>(host(e, linear), <u16>value);
  else storeSlow(linear, 2, value, tlb, false);
}
// @ts-ignore: decorator
@inline export function st32(linear: u64, value: u64): void {
  const e = entryOf(tlb, TLB_WRITE, linear);
  if (hit(e, linear, 4)) store<u32>(host(e, linear), <u32>value);
  else storeSlow(linear, 4, value, tlb, false);
}
// @ts-ignore: decorator
@inline export function st64(linear: u64, value: u64): void {
  const e = entryOf(tlb, TLB_WRITE, linear);
  if (hit(e, linear, 8)) store<u64>(host(e, linear), value);
  else storeSlow(linear, 8, value, tlb, false);
}

// @ts-ignore: decorator
@inline export function ld128(linear: u64): v128 {
  const e = entryOf(tlb, TLB_READ, linear);
  return hit(e, linear, 16) ? v128.load(host(e, linear)) : load128Slow(linear);
}
// @ts-ignore: decorator
@inline export function st128(linear: u64, value: v128): void {
  const e = entryOf(tlb, TLB_WRITE, linear);
  if (hit(e, linear, 16)) v128.store(host(e, linear), value);
  else store128Slow(linear, value);
}
/** Two accesses of 8 bytes, the lower one first; MMIO sees both. */
function load128Slow(linear: u64): v128 {
  if (!addressCheck(linear, 16, false) || misaligned(linear, 16)) return i64x2.splat(0);
  const low = ld64(linear);
  if (failed()) return i64x2.splat(0);
  return i64x2.replace_lane(i64x2.splat(<i64>low), 1, <i64>ld64(linear + 8));
}
function store128Slow(linear: u64, value: v128): void {
  if (!probeWrite(linear, 16)) return;
  st64(linear, <u64>i64x2.extract_lane(value, 0));
  if (!failed()) st64(linear + 8, <u64>i64x2.extract_lane(value, 1));
}

/** Loads 1 << sizeLog2 bytes, zero-extended. */
export function ldSized(linear: u64, sizeLog2: i32): u64 {
  switch (sizeLog2) {
    case 0: return ld8(linear);
    case 1: return ld16(linear);
    case 2: return ld32(linear);
    default: return ld64(linear);
  }
}
export function stSized(linear: u64, sizeLog2: i32, value: u64): void {
  switch (sizeLog2) {
    case 0: st8(linear, value); break;
    case 1: st16(linear, value); break;
    case 2: st32(linear, value); break;
    default: st64(linear, value); break;
  }
}
/** Checks that a later store of this size cannot fault, e.g. before a read-modify-write changes registers. */
export function probeWrite(linear: u64, size: i32): bool {
  if (!longMode) linear &= 0xffffffff;
  if (!addressCheck(linear, size, false)) return false;
  if (size <= 16 && (size & (size - 1)) == 0 && misaligned(linear, size)) return false;
  if (sparse) return sparseProbe(linear, size);
  if (!translateData(linear, true, tlb)) return false;
  if ((linear & 0xfff) + size > 0x1000) return translateData((linear + (size - 1)) & PAGE_MASK, true, tlb);
  return true;
}
/** The same for a load of 1, 2, 4 or 8 bytes. */
export function probeRead(linear: u64, size: i32): bool {
  if (!longMode) linear &= 0xffffffff;
  if (!addressCheck(linear, size, false) || misaligned(linear, size)) return false;
  if (sparse) return true;
  if (!translateData(linear, false, tlb)) return false;
  if ((linear & 0xfff) + size > 0x1000) return translateData((linear + (size - 1)) & PAGE_MASK, false, tlb);
  return true;
}

// ---- stack accesses at the current privilege: a non-canonical address is #SS(0) ----
export function ldStack(linear: u64, sizeLog2: i32): u64 {
  const size = 1 << sizeLog2;
  const e = entryOf(tlb, TLB_READ, linear);
  if (!hit(e, linear, size)) return loadSlow(linear, size, tlb, true);
  switch (sizeLog2) {
    case 1: return load<u16>(host(e, linear));
    case 2: return load<u32>(host(e, linear));
    default: return load<u64>(host(e, linear));
  }
}
export function stStack(linear: u64, sizeLog2: i32, value: u64): void {
  const size = 1 << sizeLog2;
  const e = entryOf(tlb, TLB_WRITE, linear);
  if (!hit(e, linear, size)) {
    storeSlow(linear, size, value, tlb, true);
    return;
  }
  switch (sizeLog2) {
    case 1: store<u16>(host(e, linear), <u16>value); break;
    case 2: store<u32>(host(e, linear), <u32>value); break;
    default: store<u64>(host(e, linear), value); break;
  }
}

// ---- implicit supervisor accesses (descriptor tables, TSS, stacks of an inner level) whatever the CPL ----
export function ldSys(linear: u64, size: i32): u64 {
  implicit = true;
  const value = loadSlow(linear, size, st + TLB_BASE, false);
  implicit = false;
  return value;
}
export function stSys(linear: u64, size: i32, value: u64): void {
  implicit = true;
  storeSlow(linear, size, value, st + TLB_BASE, false);
  implicit = false;
}
/** Checks that implicit stores to `size` bytes, at most a page, cannot fault. */
export function probeSys(linear: u64, size: i32): bool {
  if (!longMode) linear &= 0xffffffff;
  implicit = true;
  let good = addressCheck(linear, size, false) && translateData(linear, true, st + TLB_BASE);
  if (good && (linear & 0xfff) + size > 0x1000) {
    const last = linear + (size - 1);
    good = translateData((longMode ? last : last & 0xffffffff) & PAGE_MASK, true, st + TLB_BASE);
  }
  implicit = false;
  return good;
}
/** A store as stSys, to a stack of a given privilege level: user tables for CPL 3; non-canonical is #SS(0). */
export function stStackAt(linear: u64, size: i32, value: u64, level: i32): void {
  implicit = level != 3;
  storeSlow(linear, size, value, st + TLB_BASE + (level == 3 ? TLB_PRIVILEGE : 0), true);
  implicit = false;
}

/**
 * Guest-physical address of an instruction byte, through the execute TLB. False with a fault pending.
 * Code outside RAM ends in an internal exit.
 */
export function translateCode(linear: u64): bool {
  if (longMode) {
    if (!isCanonical(linear)) {
      raiseError(GP, 0);
      return false;
    }
  } else linear &= 0xffffffff;
  const entry = entryOf(tlb, TLB_EXEC, linear);
  if (load<u64>(entry) == ((linear & PAGE_MASK) | liveVersion)) {
    physical = ((<u64>load<u32>(entry, 12)) << 12) | (linear & 0xfff);
    return true;
  }
  if (!walk(linear, EXEC, cpl == 3)) return false;
  if (sparse) {
    const frame = sparseCode(physical);
    if (frame < 0) return false;
    physical = (<u64>frame << 12) | (linear & 0xfff);
  }
  if ((physical | 0xfff) >= ramSize) {
    leaveInternal(INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, physical);
    return false;
  }
  fill(tlb, TLB_EXEC, linear, physical);
  return true;
}

/** Loads the PDPTEs for PAE paging from CR3. False with #GP(0) pending if one has reserved bits set. */
export function loadPdptes(cr3: u64): bool {
  const table = cr3 & 0xffffffe0;
  const reserved = reservedPhysicalBits() | 0x1e6;
  for (let i = 0; i < 4; i++) {
    const entry = physRead64(table + (<u64>i << 3));
    if (failed()) return false;
    if ((entry & PTE_P) != 0 && (entry & reserved) != 0) {
      raiseError(GP, 0);
      return false;
    }
  }
  for (let i = 0; i < 4; i++) setReg(S_PDPTE + i, physRead64(table + (<u64>i << 3)));
  return true;
}

/**
 * Writes bytes of the host at a linear address with the guest's current privilege. 0, or vector | 0x100 of the exception the guest would
 * get, with its error code in S_EXIT_Q1 and the address in S_EXIT_DATA. Bytes outside RAM are dropped.
 */
export function storeBytes(linear: u64, from: usize, length: i32): i32 {
  suspendChecks();
  if (probeWrite(linear, length)) {
    for (let i = 0; i < length; i++) st8(linear + i, load<u8>(from + i));
  }
  const fault = (brk & BRK_FAULT) != 0;
  clearBrk();
  if (!fault) return 0;
  setReg(S_EXIT_Q1, exHasError ? exError : 0);
  setReg(S_EXIT_DATA, exAddress);
  return (exVector == NONCANONICAL ? GP : exVector) | 0x100;
}
