// Where things lie in the wasm memory, and guest-physical RAM.
//
// [static data][snapshot work area][state blocks][page attributes][drop counts][code map][decoded records][tier words][decoded pages][guest RAM]

import { leaveInternal } from './state';
import { INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, PAGE_CODE, STATE_STRIDE } from './layout';
import { codeWritten } from './code-cache';
import { SNAPSHOT_BYTES, touch } from './snapshot';
import { sparse, systemPage } from './sparse';

export let vcpuCount: i32 = 0;
/** Work area of snapshot.ts. */
export let snapshotBase: usize = 0;
export let stateBase: usize = 0;
/** One byte of PAGE_* bits per RAM page. */
export let pageAttr: usize = 0;
/** How often decoded code of a RAM page was dropped because it was written, up to 255: one byte per page. */
export let drops: usize = 0;
/** Three pointers (16-, 32-, 64-bit code) to decoded pages per RAM page. */
export let codeMap: usize = 0;
export let arena: usize = 0;
export let arenaEnd: usize = 0;
/** One word per record; see code-cache.ts. */
export let tiers: usize = 0;
export let pagePool: usize = 0;
export let pagePoolEnd: usize = 0;
export let ramBase: usize = 0;
export let ramSize: u64 = 0;

const align = (value: usize): usize => (value + 65535) & ~65535;

/** Lays the memory out; returns the bytes it needs. The caller grows the memory before the first use. */
export function setup(vcpus: i32, ram: u32, records: u32, pages: u32, recordSize: u32, pageSize: u32): u32 {
  vcpuCount = vcpus;
  ramSize = ram;
  const ramPages = <usize>(ram >> 12);
  snapshotBase = align(__heap_base);
  stateBase = align(snapshotBase + SNAPSHOT_BYTES);
  pageAttr = align(stateBase + (<usize>vcpus) * STATE_STRIDE);
  drops = align(pageAttr + ramPages);
  codeMap = align(drops + ramPages);
  arena = align(codeMap + ramPages * 12);
  arenaEnd = arena + <usize>records * recordSize;
  tiers = align(arenaEnd);
  pagePool = align(tiers + <usize>records * 4);
  pagePoolEnd = pagePool + <usize>pages * pageSize;
  ramBase = align(pagePoolEnd);
  return <u32>ramBase + ram;
}

// Accesses by guest-physical address, for page tables. Aligned by their nature, so they never cross a page.
// In sparse memory they read 0 where there is none.
export function physRead64(address: u64): u64 {
  if (sparse) {
    const at = systemPage(address, false);
    return at ? load<u64>(at) : 0;
  }
  if (address + 8 > ramSize || address + 8 < 8) {
    leaveInternal(INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, address);
    return 0;
  }
  return load<u64>(ramBase + <usize>address);
}
export function physRead32(address: u64): u32 {
  if (sparse) {
    const at = systemPage(address, false);
    return at ? load<u32>(at) : 0;
  }
  if (address + 4 > ramSize || address + 4 < 4) {
    leaveInternal(INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, address);
    return 0;
  }
  return load<u32>(ramBase + <usize>address);
}
/** Sets bits in the low byte of a page-table entry that was read before (A and D bits). */
export function physSetBits(address: u64, bits: u8): void {
  if (sparse) {
    const at = systemPage(address, true);
    if (at == 0) return;
    address = <u64>(at - ramBase);
  }
  touch(<usize>address >> 12);
  const host = ramBase + <usize>address;
  store<u8>(host, load<u8>(host) | bits);
  if (load<u8>(pageAttr + (<usize>address >> 12)) & PAGE_CODE) codeWritten(address, 1);
}
