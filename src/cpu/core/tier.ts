// The second tier, seen from the core: code that the host has translated to WebAssembly (src/cpu/jit). Arrivals by a lookup or a
// backward branch are counted (some of them, for all), the host is told of hot ones, and the run loop calls the compiled function where a
// record says OP_ENTER. What compiled code uses of the core is in the list of exports in index.ts.

import { R_BASE, R_RIP, SEG_CS } from './layout';
import { codeMode, reg, tlb, TLB_EXEC, liveVersion } from './state';
import { entryOf } from './mmu';
import { arena, codeMap, drops, ramBase, tiers } from './memory';
import { decodedPage, recordAt, roomFor, tierOf } from './code-cache';
import { decodeRun } from './decode';
import { stepsLeft } from './exec';
import { HOT_LEADS, HOT_LEAVES, HOT_RETRIES, OP_ENTER, REC_OP } from './record';

/** The instruction at `offset` of a page frame has become hot: control has come to it `count` times, or what HOT_* says. */
// @ts-ignore: decorator
@external('env', 'hot')
declare function hot(frame: u32, offset: i32, count: i32): void;

/** Times that compiled code may come back for the interpreter after a few steps before the host is told, and told again. */
const MANY_RETRIES: u32 = 1000;
const FEW_STEPS: i32 = 48;

/** Of 2^32 arrivals, by lookups and backward branches, so many are looked at; each of those counts for `weight`. */
let share: u32 = 0;
let weight: u32 = 1;
/** The host is told when a count reaches a multiple of this. */
let told: u32 = 1;

/** From now on one arrival in `every` (0: none), on average, counts for that many, and the host is told at each multiple of `step`. */
export function setHeat(every: u32, step: u32): void {
  share = every == 0 ? 0 : 0xffffffff / every;
  weight = every;
  told = step;
}

/**
 * Control has come somewhere with `n` steps left, which decides whether to count it. The run loop leaves off for that: a call in it, even
 * one that is hardly ever made, moves its variables to the stack.
 */
// @ts-ignore: decorator
@inline export function watched(n: i32): bool {
  return falls(n, share);
}
/** With `n` steps left it is one of so many in 2^32. */
// @ts-ignore: decorator
@inline function falls(n: i32, many: u32): bool {
  return <u32>n * 0x9e3779b1 < many;
}
let frame: u32 = 0;
let offset: i32 = 0;
/** Linear page of the place that the host is told of. */
let linearPage: u64 = 0;
export function hotPage(): u64 {
  return linearPage;
}
/** Page frame of a linear page by the execute TLB of the vCPU that runs, -1 if that does not have it. */
// @ts-ignore: decorator
@inline export function frameOf(linear: u64): i32 {
  const entry = entryOf(tlb, TLB_EXEC, linear);
  return load<u64>(entry) == ((linear & ~(<u64>0xfff)) | liveVersion) ? <i32>load<u32>(entry, 12) : -1;
}
/** The record at an offset of a page frame if both are decoded, else 0. */
// @ts-ignore: decorator
@inline function recordIn(frame: u32, offset: i32): usize {
  const page = <usize>load<u32>(codeMap + (<usize>frame * 3 + codeMode) * 4);
  return page == 0 ? 0 : recordAt(page, offset);
}
/** The record at `rip` if it is in a decoded page, whose frame and offset are then known; 0 if not. Without effect on the guest. */
function recordAtRip(rip: u64): usize {
  const linear = codeMode == 2 ? rip : (reg(R_BASE + SEG_CS) + rip) & 0xffffffff;
  const known = frameOf(linear);
  if (known < 0) return 0;
  frame = <u32>known;
  offset = <i32>(linear & 0xfff);
  linearPage = linear & ~(<u64>0xfff);
  return recordIn(frame, offset);
}
/** What lookup() finds in 64-bit code without doing anything; 0 if it has to be called. */
// @ts-ignore: decorator
@inline export function knownRecord(rip: u64): usize {
  if (codeMode != 2) return 0;
  const known = frameOf(rip);
  return known < 0 ? 0 : recordIn(<u32>known, <i32>(rip & 0xfff));
}
/** Counts an arrival at RIP; tells the host if that makes it hot. */
export function count(): void {
  if (stepsLeft <= 0) return;
  const rec = recordAtRip(reg(R_RIP));
  if (rec == 0 || load<u16>(rec, REC_OP) == OP_ENTER) return;
  const at = tierOf(rec);
  const before = <u32>load<u16>(at);
  const times = min<u32>(before + weight, 0xffff);
  store<u16>(at, <u16>times);
  if (before / told != times / told) hot(frame, offset, times);
}
/** Counts once more. The count if the host is to be told, and `frame` and `offset` are known; else 0. */
function countMore(rec: usize, rip: u64): u32 {
  const at = tierOf(rec);
  const times = <u32>load<u16>(at) + 1;
  store<u16>(at, <u16>times);
  return times % MANY_RETRIES == 0 && recordAtRip(rip) == rec ? times : 0;
}
/** The compiled code that starts at `rip` came back after so many steps because of something that it leaves to the interpreter. */
export function countRetry(rec: usize, rip: u64, steps: i32): void {
  const at = tierOf(rec);
  const before = <u32>load<u16>(at);
  if (steps > FEW_STEPS) {
    if (before % MANY_RETRIES != 0) store<u16>(at, <u16>(before - 1));
    return;
  }
  const times = countMore(rec, rip);
  if (times != 0) hot(frame, offset, times == MANY_RETRIES ? HOT_RETRIES : HOT_LEAVES);
}
/** The compiled code that starts at `rip` came soon to an instruction that exits. */
export function countExit(rec: usize, rip: u64): void {
  if (countMore(rec, rip) != 0) hot(frame, offset, HOT_LEAVES);
}
/** One in so many arrivals that are looked at. */
const RARELY: u32 = 9;
/** The compiled code that starts at `rip` has led to another place: the host is told now and then. */
// @ts-ignore: decorator
@inline export function led(rec: usize, rip: u64, n: i32): void {
  if (falls(n, share >> RARELY) && recordAtRip(rip) == rec) hot(frame, offset, HOT_LEADS);
}
/** Code is translated at all. */
// @ts-ignore: decorator
@inline export function tiersOn(): bool {
  return share != 0;
}

/** Calls the compiled code that starts at `rec`. Returns one of TIER_* or the record of the instruction that broke the flow. */
// @ts-ignore: decorator
@inline export function enter(rec: usize, block: usize, rip: u64): usize {
  return call_indirect<usize>(<u32>load<u16>(tierOf(rec), 2), block, rip);
}

/** The record at an offset of a decoded page of the current code size, decoded if need be; 0 if there is no room for it. */
export function recordOf(frame: u32, offset: i32): usize {
  const page = decodedPage(frame, codeMode);
  const known = recordAt(page, offset);
  if (known) return known;
  return roomFor(256) ? decodeRun(frame, codeMode, ramBase + (<usize>frame << 12), offset) : 0;
}
export function codeMapBase(): u32 {
  return <u32>codeMap;
}
export function arenaBase(): u32 {
  return <u32>arena;
}
export function tierBase(): u32 {
  return <u32>tiers;
}
export function dropsBase(): u32 {
  return <u32>drops;
}
