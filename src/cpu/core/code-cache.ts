// Decoded code, keyed by physical page and code size. A decoded page maps each byte offset to the record of the instruction that
// starts there and remembers which bytes were decoded, so that stores beside code do not throw it away.

import { BRK_LOOKUP, setBrk } from './state';
import { PAGE_CODE, STATE_STRIDE } from './layout';
import {
  arena, arenaEnd, codeMap, drops, pageAttr, pagePool, pagePoolEnd, ramSize, stateBase, tiers, vcpuCount,
} from './memory';
import { watchWrites } from './mmu';
import { PAGE_BITMAP, PAGE_BYTES, PAGE_CELL, PAGE_NEXT_FREE, PAGE_RECORDS, REC_BYTES } from './record';
import { touch } from './snapshot';

let arenaNext: usize = 0;
let poolNext: usize = 0;
let freeList: usize = 0;

export function resetCodeCache(): void {
  tierBias = tiers - (arena >> 3);
  if (arenaNext) memory.fill(tiers, 0, tierOf(arenaNext) - tiers);
  arenaNext = arena;
  poolNext = pagePool;
  freeList = 0;
}

/** Records are as many times as large as their tier words as 3 bits shift. */
let tierBias: usize = 0;

/** A record's tier word: {u16 times that control came to it, u16 table slot of compiled code that starts there}. */
// @ts-ignore: decorator
@inline export function tierOf(record: usize): usize {
  return tierBias + (record >> 3);
}

/** Raised when records are recycled: pointers to them from before are void. */
export let generation: i32 = 0;

/** Raised whenever decoded code is dropped, if only one page of it. */
export let losses: i32 = 0;

/** Drops every decoded instruction of every vCPU. Only between instructions. */
export function flushCode(): void {
  generation++;
  losses++;
  for (let page = pagePool; page < poolNext; page += PAGE_BYTES) {
    const cell = load<u32>(page, PAGE_CELL);
    if (cell) store<u32>(cell, 0);
  }
  resetCodeCache();
}

// @ts-ignore: decorator
@inline function cellOf(frame: u32, mode: i32): usize {
  return codeMap + (<usize>frame * 3 + mode) * 4;
}

/** The decoded page of a RAM page for one code size, made if there is none. May flush the cache. */
// @ts-ignore: decorator
@inline export function decodedPage(frame: u32, mode: i32): usize {
  const page = <usize>load<u32>(cellOf(frame, mode));
  return page ? page : newPage(frame, mode);
}

function newPage(frame: u32, mode: i32): usize {
  let page = freeList;
  if (page) freeList = load<u32>(page, PAGE_NEXT_FREE);
  else {
    if (poolNext + PAGE_BYTES > pagePoolEnd) flushCode();
    page = poolNext;
    poolNext += PAGE_BYTES;
  }
  const cell = cellOf(frame, mode);
  memory.fill(page, 0, PAGE_BYTES);
  store<u32>(page, <u32>cell, PAGE_CELL);
  store<u32>(cell, <u32>page);
  const attr = pageAttr + frame;
  if ((load<u8>(attr) & PAGE_CODE) == 0) {
    store<u8>(attr, load<u8>(attr) | PAGE_CODE);
    for (let i = 0; i < vcpuCount; i++) watchWrites(stateBase + <usize>i * STATE_STRIDE, frame);
  }
  return page;
}

// @ts-ignore: decorator
@inline export function recordAt(page: usize, offset: i32): usize {
  return <usize>load<u32>(page + (<usize>offset << 2), PAGE_RECORDS);
}

/** Enters a record for `length` bytes at `offset`; the first record of an offset stays. */
export function enterRecord(page: usize, offset: i32, length: i32, record: usize): void {
  const cell = page + PAGE_RECORDS + (<usize>offset << 2);
  if (!load<u32>(cell)) store<u32>(cell, <u32>record);
  for (let i = offset; i < offset + length && i < 4096; i++) {
    const at = page + PAGE_BITMAP + (<usize>i >> 3);
    store<u8>(at, load<u8>(at) | (<u8>1) << <u8>(i & 7));
  }
}

/** True if `count` more records fit without a flush. */
export function roomFor(count: i32): bool {
  return arenaNext + <usize>count * REC_BYTES <= arenaEnd;
}
/** Room for `count` consecutive records; flushes when the arena is full (the caller must look its page up again). */
export function reserveRecords(count: i32): bool {
  if (arenaNext + <usize>count * REC_BYTES <= arenaEnd) return true;
  flushCode();
  return false;
}
// @ts-ignore: decorator
@inline export function nextRecord(): usize {
  return arenaNext;
}
// @ts-ignore: decorator
@inline export function keepRecord(): void {
  arenaNext += REC_BYTES;
}

function touches(page: usize, offset: i32, size: i32): bool {
  for (; size > 0; offset += 32, size -= 32) {
    const bits = load<u64>(page + PAGE_BITMAP + (<usize>offset >> 3)) >> (offset & 7);
    if (bits & (((<u64>1) << min(size, 32)) - 1)) return true;
  }
  return false;
}

/** Whether a byte of guest RAM [address, address + size), within one page, belongs to decoded code. */
export function isCode(address: u64, size: i32): bool {
  for (let mode = 0; mode < 3; mode++) {
    const page = <usize>load<u32>(cellOf(<u32>(address >> 12), mode));
    if (page && touches(page, <i32>(address & 0xfff), size)) return true;
  }
  return false;
}

/** Guest RAM [address, address + size), within one page, has been written: drops decoded code that it changed. */
export function codeWritten(address: u64, size: i32): void {
  const frame = <u32>(address >> 12);
  const offset = <i32>(address & 0xfff);
  for (let mode = 0; mode < 3; mode++) {
    const cell = cellOf(frame, mode);
    const page = <usize>load<u32>(cell);
    if (page && touches(page, offset, size)) {
      store<u32>(cell, 0);
      store<u32>(page, 0, PAGE_CELL);
      store<u32>(page, <u32>freeList, PAGE_NEXT_FREE);
      freeList = page;
      losses++;
      const times = load<u8>(drops + frame);
      if (times < 255) store<u8>(drops + frame, times + 1);
      setBrk(BRK_LOOKUP);
    }
  }
  if (load<u32>(cellOf(frame, 0)) == 0 && load<u64>(cellOf(frame, 1)) == 0) {
    const attr = pageAttr + frame;
    store<u8>(attr, load<u8>(attr) & ~PAGE_CODE);
  }
}

/** The host writes guest RAM. */
export function memoryWritten(address: u32, length: u32): void {
  let at = <u64>address;
  const end = min<u64>(at + length, ramSize);
  while (at < end) {
    const next = min<u64>((at | 0xfff) + 1, end);
    touch(<usize>(at >> 12));
    if (load<u8>(pageAttr + <usize>(at >> 12)) & PAGE_CODE) codeWritten(at, <i32>(next - at));
    store<u8>(drops + <usize>(at >> 12), 0);
    at = next;
  }
}
