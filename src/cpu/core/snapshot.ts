// What snapshots need of the core. RAM: the host keeps a copy of a page before the first store to it (PAGE_CLEAN). TLBs: while there is
// a snapshot every change of an entry is logged, so that a restore puts them back exactly; otherwise a guest that lives with stale
// translations would not run alike twice.

import { PAGE_CLEAN, STATE_STRIDE, TLB_PART } from './layout';
import { nextWritePart } from './state';
import { pageAttr, ramBase, snapshotBase, stateBase, vcpuCount } from './memory';
import { codeWritten } from './code-cache';

/** Set in the tag of a write translation: stores must look at the page attributes first. */
export const TAG_WATCHED: u64 = 0x800;

// @ts-ignore: decorator
@external('env', 'keepPage')
declare function keepPage(frame: u32): void;

/** Call before the first store to a page that might be clean. */
// @ts-ignore: decorator
@inline export function touch(frame: usize): void {
  if (load<u8>(pageAttr + frame) & PAGE_CLEAN) dirty(frame);
}
function dirty(frame: usize): void {
  const attr = pageAttr + frame;
  store<u8>(attr, load<u8>(attr) & ~PAGE_CLEAN);
  keepPage(<u32>frame);
}

// Work area: {staging page of replaceCode(), log}. Log record: {u32 address of the entry, u32 unused, the 16 bytes it had}.
const LOG: usize = 4096;
const LOG_CAPACITY: i32 = 4096;
export const SNAPSHOT_BYTES: usize = LOG + <usize>LOG_CAPACITY * 24;
/** Records in the log, -1 while nothing is logged; beyond the capacity the log is incomplete. */
let logged: i32 = -1;

/** Call before a change of a TLB entry. */
// @ts-ignore: decorator
@inline export function logEntry(entry: usize): void {
  if (logged >= 0) append(entry);
}
function append(entry: usize): void {
  if (logged >= LOG_CAPACITY) {
    logged = LOG_CAPACITY + 1;
    return;
  }
  const at = snapshotBase + LOG + <usize>logged * 24;
  store<u32>(at, <u32>entry);
  memory.copy(at + 8, entry, 16);
  logged++;
}
/** The TLBs change in a way that is not logged entry by entry. */
export function abandonLog(): void {
  if (logged >= 0) logged = LOG_CAPACITY + 1;
}

/** A snapshot is taken: from here on stores are watched and changes of TLB entries logged. The host sets PAGE_CLEAN. */
export function watch(): void {
  logged = 0;
  for (let i = 0; i < vcpuCount; i++) {
    const block = stateBase + <usize>i * STATE_STRIDE;
    for (let part = nextWritePart(block, 0); part != 0; part = nextWritePart(block, part + TLB_PART)) {
      for (let entry = part; entry < part + TLB_PART; entry += 16) store<u64>(entry, load<u64>(entry) | TAG_WATCHED);
    }
  }
}
export function unwatch(): void {
  logged = -1;
}

/** Puts the TLBs back to how they were at watch() or the last rewind(). False: the log is incomplete, the host has to do it. */
export function rewind(): bool {
  const complete = logged <= LOG_CAPACITY;
  if (complete) {
    const first = snapshotBase + LOG;
    for (let at = first + <usize>logged * 24; at > first; ) {
      at -= 24;
      memory.copy(<usize>load<u32>(at), at + 8, 16);
    }
  }
  logged = 0;
  return complete;
}

/** Gives a page that holds decoded code the contents of the staging page; code whose bytes are the same stays decoded. */
export function replaceCode(frame: u32): void {
  const page = ramBase + (<usize>frame << 12);
  for (let offset: usize = 0; offset < 4096; offset += 8) {
    const value = load<u64>(snapshotBase + offset);
    if (load<u64>(page + offset) == value) continue;
    store<u64>(page + offset, value);
    codeWritten(((<u64>frame) << 12) + offset, 8);
  }
}

/** A number from 0 to 2^53 - 1 for the contents of a page. */
export function pageHash(frame: u32): f64 {
  const page = ramBase + (<usize>frame << 12);
  let a: u64 = <u64>frame + 1;
  let b: u64 = 0;
  for (let offset: usize = 0; offset < 4096; offset += 16) {
    const low = load<u64>(page + offset);
    const high = load<u64>(page + offset, 8);
    if (low) a = rotl(a ^ low ^ (<u64>offset * 0xc2b2ae3d27d4eb4f), 27) * 0x9e3779b185ebca87;
    if (high) b = rotl(b ^ high ^ (<u64>offset * 0xc2b2ae3d27d4eb4f), 31) * 0x9e3779b185ebca87;
  }
  a = (a ^ rotl(b, 23)) * 0x165667b19e3779f9;
  return <f64>((a ^ (a >> 29)) >> 11);
}
