// Hooks on instructions and basic blocks. The host marks offsets within pages where it may want to be asked; the decoder puts an
// OP_HOOK record before each instruction at such an offset, whatever the page, and the run loop asks the hook import when it gets there.
// Instructions elsewhere run as if there were no hooks, unless the host also wants blocks or the accesses of instructions: then every
// instruction has the record.

import { HOOK_ACCESS, HOOK_BLOCK, HOOK_CODE, HOOK_CONTINUE, R_BASE, SEG_CS, S_HOOK_ADDRESS } from './layout';
import { codeMode, reg, setReg } from './state';
import { flushCode } from './code-cache';
import { grantsReset } from './sparse';
import { REC_BYTES, REC_END, REC_FLAGS, REC_HANDLER, REC_LEN, REC_OP, OP_CROSS, OP_HOOK, OP_NEXT } from './record';
import { H_CALL_J, H_JCC, H_JMP_J, H_LOOP } from './tables.generated';

// @ts-ignore: decorator
@external('env', 'hook')
declare function hook(kinds: i32, size: i32, blockSize: i32): i32;

/** One bit per offset in a page. */
const map: usize = memory.data(512);
/** HOOK_* kinds that the host wants; 0: no OP_HOOK records are made. */
let kinds: i32 = 0;

/** Where the host writes the map of offsets; useHooks() afterwards. */
export function hookMap(): u32 {
  return <u32>map;
}
/** Sets which kinds the host wants at the offsets of the map, and forgets decoded code. Only between instructions or in the hook import. */
export function useHooks(wanted: i32): void {
  kinds = wanted;
  flushCode();
}

// @ts-ignore: decorator
@inline export function hookedOffset(offset: i32): bool {
  if (kinds == 0 || offset >= 4096) return false;
  return (kinds & (HOOK_BLOCK | HOOK_ACCESS)) != 0 || marked(offset);
}
// @ts-ignore: decorator
@inline function marked(offset: i32): bool {
  return ((load<u8>(map + (<usize>offset >> 3)) >> <u8>(offset & 7)) & 1) != 0;
}

/** Linear address that continues the current block; a block starts at any other. */
let blockNext: u64 = 0;
let inBlock: bool = false;
/** Linear address at which the host stops: a block ends before it. */
let blockEnd: u64 = 0;
/** The next instruction starts a block and meets its hook; blocks end before `end`. */
export function startBlock(end: u64): void {
  blockEnd = end;
  inBlock = false;
  resume = false;
}

/** RIP of an instruction whose hook is done, so that it runs the next time. */
let resumeRip: u64 = 0;
let resume: bool = false;
export function resumeAt(rip: u64): void {
  resumeRip = rip;
  resume = true;
}

function endsBlock(rec: usize): bool {
  const handler = <i32>load<u16>(rec, REC_HANDLER);
  return (load<u8>(rec, REC_FLAGS) & REC_END) != 0 || handler == H_JCC || handler == H_JMP_J || handler == H_CALL_J || handler == H_LOOP;
}

/** From the instruction of `rec` to the end of its block, as far as it has been decoded in one run: bytes | instructions << 16. */
export function blockSize(rec: usize, start: u64): i32 {
  let size = 0;
  for (; ; rec += REC_BYTES) {
    const op = <i32>load<u16>(rec, REC_OP);
    if (op == OP_HOOK) continue;
    if (op == OP_NEXT || op == OP_CROSS) break;
    size += <i32>load<u8>(rec, REC_LEN) + 0x10000;
    if (endsBlock(rec) || start + <u64>(size & 0xffff) == blockEnd) break;
  }
  return size;
}

/** The run loop is about to execute the instruction of `rec` at `rip`: asks the host. Returns HOOK_*. */
export function atHook(rip: u64, rec: usize): i32 {
  grantsReset();
  if (resume) {
    resume = false;
    if (resumeRip == rip) return HOOK_CONTINUE;
  }
  const linear = codeMode == 2 ? rip : (reg(R_BASE + SEG_CS) + rip) & 0xffffffff;
  const size = <i32>load<u8>(rec, REC_LEN);
  let wanted = kinds & ~HOOK_ACCESS;
  if (!marked(<i32>(linear & 0xfff))) wanted &= ~HOOK_CODE;
  let block = 0;
  if (wanted & HOOK_BLOCK) {
    if (inBlock && linear == blockNext) wanted &= ~HOOK_BLOCK;
    else block = blockSize(rec, linear);
    blockNext = linear + size;
    inBlock = !endsBlock(rec);
  }
  if (!wanted) return HOOK_CONTINUE;
  setReg(S_HOOK_ADDRESS, linear);
  const next = blockNext;
  const end = blockEnd;
  const inside = inBlock;
  const answer = hook(wanted, size, block);
  // The host may have run other code meanwhile.
  blockNext = next;
  blockEnd = end;
  inBlock = inside;
  return answer;
}
