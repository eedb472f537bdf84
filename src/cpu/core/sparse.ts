// Sparse memory: guest-physical pages anywhere in 64 bits, each mapped by the host to a frame of RAM with permissions of its own.
// Only engines that ask for it (setSparse) have it; otherwise guest-physical addresses are RAM addresses and nothing here runs.
//
// The TLB holds what may be accessed freely, so only misses come here. A miss asks the page import where the page is; that is a
// lookup and runs no code of the user. An access to a page that a hook watches asks the access import, whose callbacks may do anything:
// if they run the vCPU or stop it, the instruction is undone. An access that is not allowed (no page, no permission) leaves with
// EXIT_ACCESS before the instruction has changed anything. The host decides, counts the access in S_GRANTS and runs the instruction
// again, which then passes as many accesses, in their order, as were granted.

import {
  ACCESS_CHANGED, ACCESS_EXEC, ACCESS_GRANTED, ACCESS_LEAVE, ACCESS_RETRY, ACCESS_KIND_SHIFT, ACCESS_READ, ACCESS_SECOND, ACCESS_WRITE, EXIT_ACCESS, PAGE_ASK, PAGE_CODE, PAGE_FRAME, PAGE_MMIO, PAGE_MOVED,
  EXIT_RETRY, S_EXIT_DATA, S_EXIT_Q0, S_GRANTS,
} from './layout';
import {
  BRK_LOOKUP, TLB_BASE, TLB_READ, TLB_WRITE, failed, flushTlb, leave, longMode, reg, setBrk, setReg, st, tlb, liveVersion,
} from './state';
import { pageAttr, ramBase } from './memory';
import { READ, WRITE, entryOf, fill, mmioRead, mmioWrite, truncate, walk, walked } from './mmu';
import { codeWritten } from './code-cache';

// @ts-ignore: decorator
@external('env', 'page')
declare function page(lo: u32, hi: u32, access: i32): i32;
/** Asks the hooks about the access whose address and value are in the exit fields Q0 and DATA. Returns ACCESS_*. */
// @ts-ignore: decorator
@external('env', 'access')
declare function access(kind: i32, size: i32): i32;

export let sparse: bool = false;
/** Linear addresses are looked up as they are, whatever the paging mode. */
export let virtualTlb: bool = false;
export function setSparse(on: bool, virtual: bool): void {
  sparse = on;
  virtualTlb = virtual;
}

/** Number of granted accesses that this run of the instruction has passed. */
let passed: u64 = 0;
export function grantsReset(): void {
  passed = 0;
}
/** The instruction, or one REP iteration, is complete. */
export function grantsDone(): void {
  if (!passed) return;
  setReg(S_GRANTS, 0);
  passed = 0;
}

function ask(address: u64, access: i32): i32 {
  const answer = page(<u32>(address >> 12), <u32>(address >> 44), access);
  if (answer < 0 || (answer & PAGE_MOVED) == 0) return answer;
  flushTlb();
  return answer & ~PAGE_MOVED;
}

/** Wasm address of a datum of the page tables, 0 if there is no RAM. */
export function systemPage(address: u64, write: bool): usize {
  const answer = ask(address, (write ? ACCESS_WRITE : ACCESS_READ) | ACCESS_GRANTED);
  if (answer < 0 || (answer & PAGE_MMIO) != 0) return 0;
  return ramBase + ((<usize>(answer & PAGE_FRAME)) << 12) + <usize>(address & 0xfff);
}

/** Set by locate(): where the part lies in the wasm memory, or 0 with the guest-physical address of MMIO in `device`. */
let place: usize = 0;
let device: u64 = 0;

/** Finds the page of `linear` for (a part of) an access of `size` bytes. False with a fault or an exit pending. */
function locate(linear: u64, size: i32, write: bool, value: u64, base: usize, second: bool): bool {
  const table = write ? TLB_WRITE : TLB_READ;
  const entry = entryOf(base, table, linear);
  // Bit 11 of a write tag only says that the page needs a look after the store.
  if ((load<u64>(entry) & ~(<u64>0x800)) == ((linear & ~(<u64>0xfff)) | liveVersion)) {
    place = <usize>load<u32>(entry, 8) + <usize>linear;
    return true;
  }
  if (!walk(linear, write ? WRITE : READ, base != st + TLB_BASE)) return false;
  const address = walked();
  const kind = write ? ACCESS_WRITE : ACCESS_READ;
  let answer = ask(address, kind);
  if (answer >= 0 && answer < PAGE_ASK) {
    fill(base, table, linear, (<u64>answer << 12) | (address & 0xfff));
    place = ramBase + (<usize>answer << 12) + <usize>(address & 0xfff);
    return true;
  }
  if (answer >= 0 && (answer & PAGE_ASK) != 0 && !second && passed >= reg(S_GRANTS)) {
    setReg(S_EXIT_Q0, address);
    setReg(S_EXIT_DATA, value);
    const mine = passed;
    const verdict = access(kind, size);
    passed = mine + 1;
    if (verdict == ACCESS_RETRY) {
      setReg(S_GRANTS, passed);
      leave(EXIT_RETRY, 0, 0, 0);
      return false;
    }
    if (verdict == ACCESS_LEAVE) {
      leave(EXIT_ACCESS, address, size | (kind << ACCESS_KIND_SHIFT), value);
      return false;
    }
    if (verdict == ACCESS_CHANGED) {
      setBrk(BRK_LOOKUP);
      answer = ask(address, kind | ACCESS_GRANTED);
      if (answer < 0) {
        leave(EXIT_ACCESS, address, size | (kind << ACCESS_KIND_SHIFT) | ACCESS_SECOND, value);
        return false;
      }
    }
  } else if (answer >= 0 && (answer & PAGE_ASK) != 0 && second) {
    answer &= ~PAGE_ASK;
  } else if (answer < 0 || (answer & PAGE_ASK) != 0) {
    if (passed >= reg(S_GRANTS)) {
      leave(EXIT_ACCESS, address, size | (kind << ACCESS_KIND_SHIFT) | (second ? ACCESS_SECOND : 0), value);
      return false;
    }
    passed++;
    setBrk(BRK_LOOKUP);
    if (answer < 0) answer = ask(address, kind | ACCESS_GRANTED);
    if (answer < 0) {
      // The host granted an access to a page that it has unmapped since: ask again.
      leave(EXIT_ACCESS, address, size | (kind << ACCESS_KIND_SHIFT) | (second ? ACCESS_SECOND : 0), value);
      return false;
    }
  }
  if (answer & PAGE_MMIO) {
    place = 0;
    device = address;
  } else place = ramBase + (<usize>(answer & PAGE_FRAME) << 12) + <usize>(address & 0xfff);
  return true;
}

function loadFrom(at: usize, gpa: u64, size: i32): u64 {
  if (at == 0) return truncate(mmioRead(gpa, size), size);
  switch (size) {
    case 1: return load<u8>(at);
    case 2: return load<u16>(at);
    case 4: return load<u32>(at);
    case 8: return load<u64>(at);
  }
  let value: u64 = 0;
  for (let i = 0; i < size; i++) value |= <u64>load<u8>(at + i) << (<u64>i * 8);
  return value;
}
function storeTo(at: usize, gpa: u64, size: i32, value: u64): void {
  if (at == 0) {
    mmioWrite(gpa, size, truncate(value, size));
    return;
  }
  switch (size) {
    case 1: store<u8>(at, <u8>value); break;
    case 2: store<u16>(at, <u16>value); break;
    case 4: store<u32>(at, <u32>value); break;
    case 8: store<u64>(at, value); break;
    default: for (let i = 0; i < size; i++) store<u8>(at + i, <u8>(value >> (<u64>i * 8)));
  }
  const address = <u64>(at - ramBase);
  if (load<u8>(pageAttr + <usize>(address >> 12)) & PAGE_CODE) codeWritten(address, size);
}

/** Linear address of the second page of an access whose first part has `first` bytes. */
function following(linear: u64, first: i32): u64 {
  return longMode ? linear + first : (linear + first) & 0xffffffff;
}

export function sparseLoad(linear: u64, size: i32, base: usize): u64 {
  const first = min<i32>(size, <i32>(0x1000 - (linear & 0xfff)));
  if (!locate(linear, size, false, 0, base, false)) return 0;
  const low = loadFrom(place, device, first);
  if (first == size || failed()) return low;
  if (!locate(following(linear, first), size, false, 0, base, true)) return 0;
  return low | (loadFrom(place, device, size - first) << (first * 8));
}

export function sparseStore(linear: u64, size: i32, value: u64, base: usize): void {
  const first = min<i32>(size, <i32>(0x1000 - (linear & 0xfff)));
  if (!locate(linear, size, true, value, base, false)) return;
  const at = place;
  const gpa = device;
  if (first == size) {
    storeTo(at, gpa, size, value);
    return;
  }
  // Both pages are found before anything is written.
  if (!locate(following(linear, first), size, true, value, base, true)) return;
  const at2 = place;
  const gpa2 = device;
  storeTo(at, gpa, first, value);
  if (!failed()) storeTo(at2, gpa2, size - first, value >> (first * 8));
}

/** Whether paging lets the current privilege write; the host's permissions are asked for by the store itself. */
export function sparseProbe(linear: u64, size: i32): bool {
  const user = tlb != st + TLB_BASE;
  if (!walk(linear, WRITE, user)) return false;
  return (linear & 0xfff) + size <= 0x1000 || walk(following(linear & ~0xfff, 0x1000), WRITE, user);
}

/** RAM frame of a code page, or -1 with the exit pending. */
export function sparseCode(address: u64): i32 {
  const answer = ask(address, ACCESS_EXEC);
  if (answer >= 0 && answer < PAGE_ASK) return answer;
  leave(EXIT_ACCESS, address, 1 | (ACCESS_EXEC << ACCESS_KIND_SHIFT), 0);
  return -1;
}
