// The second tier, seen from the core: code that the host has translated to WebAssembly (src/cpu/jit). The run loop counts how often
// control comes to an instruction by a lookup or a backward branch, tells the host of hot ones, and calls the compiled function where
// a record says OP_ENTER. What compiled code uses of the core is in the list of exports in index.ts.

import { R_BASE, SEG_CS } from './layout';
import { codeMode, reg, tlb, TLB_EXEC, liveVersion } from './state';
import { entryOf } from './mmu';
import { codeMap, arena, drops, tiers } from './memory';
import { decodedPage, flushCode, generation, recordAt, roomFor, tierOf } from './code-cache';
import { decodeRun } from './decode';
import { OP_ENTER, REC_OP } from './record';
import { ramBase } from './memory';

/** The instruction at `offset` of a page frame has become hot: control has come to it `count` times. */
// @ts-ignore: decorator
@external('env', 'hot')
declare function hot(frame: u32, offset: i32, count: i32): void;

/** The host is told when a count reaches a multiple of this power of two, less 1; never while it is beyond every count. */
let heatMask: u32 = 0xffffffff;
export function setHeatMask(mask: u32): void {
  heatMask = mask;
}

/** Counts that control has come to `rec`, a record of the arena. True if the host was told: the record may not be valid any more. */
// @ts-ignore: decorator
@inline export function heat(rec: usize, rip: u64): bool {
  const at = tierOf(rec);
  const count = <u32>load<u16>(at) + 1;
  store<u16>(at, <u16>count);
  return (count & heatMask) == 0 && hotter(rec, rip, count);
}
function hotter(rec: usize, rip: u64, count: u32): bool {
  if (load<u16>(rec, REC_OP) == OP_ENTER) return false;
  const linear = codeMode == 2 ? rip : (reg(R_BASE + SEG_CS) + rip) & 0xffffffff;
  const entry = entryOf(tlb, TLB_EXEC, linear);
  if (load<u64>(entry) != ((linear & ~(<u64>0xfff)) | liveVersion)) return false;
  const frame = load<u32>(entry, 12);
  const offset = <i32>(linear & 0xfff);
  // An instruction that is decoded each time has no place in a page.
  if (recordAt(decodedPage(frame, codeMode), offset) != rec) return false;
  hot(frame, offset, count);
  return true;
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
