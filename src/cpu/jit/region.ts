/**
 * What a compiled function covers: the instructions that can be reached from a hot one, as basic blocks. Read from the core's decoded records.
 *
 * Places are offsets from the start of the page that the hot instruction lies in. In flat code they may lie in other pages, below or above.
 */
import * as H from '../core/handlers.generated.ts';
import * as R from '../core/record.ts';

/** A decoded instruction: the fields of its record (core/record.ts). */
export interface Insn {
  readonly record: number;
  /** Its place. */
  readonly at: number;
  readonly length: number;
  readonly op: number;
  readonly handler: number;
  readonly sub: number;
  /** log2 of the operand size in bytes. */
  readonly size: number;
  readonly g: number;
  readonly e: number;
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly segment: number;
  readonly flags: number;
  /** ModRM.reg with REX.R: the number of an XMM register. */
  readonly reg: number;
  /** Its memory operand of 16 bytes need not be aligned. */
  readonly unaligned: boolean;
  readonly displacement: number;
  readonly immLo: number;
  readonly immHi: number;
  /** Of an indirect transfer, the places that it led to last. */
  readonly seen: readonly number[];
  /** Address size: 0, 1, 2 for 16, 32, 64 bits. */
  readonly addressSize: number;
  readonly memory: boolean;
}

export interface Block {
  readonly id: number;
  readonly at: number;
  readonly insns: Insn[];
  /** Successors within the region, by block. */
  readonly next: Block[];
  /** The last instruction transfers control; otherwise the block goes on at `follow`. */
  transfer: Transfer | undefined;
  /** The place behind the block. */
  follow: number;
}

/** How a block ends, if not by going on. */
export type Transfer = 'branch' | 'loop' | 'jump' | 'call' | 'return' | 'indirect' | 'leave';

/** A page frame with decoded code. */
export interface CodePage {
  readonly frame: number;
  /** Address of the decoded page, and of the code map's pointer to it. */
  readonly page: number;
  readonly cell: number;
}

export interface Region {
  readonly entry: Block;
  readonly blocks: readonly Block[];
  readonly byOffset: ReadonlyMap<number, Block>;
  /** Places behind calls within the region, where its returns may go. */
  readonly returns: readonly number[];
  /** By number (pageOf), those that the hot instruction's page leads to. */
  readonly pages: ReadonlyMap<number, CodePage>;
}

/** The number of a place's page: 0 for the hot instruction's, -1 for the one below. */
export const pageOf = (at: number): number => at >> 12;
export const samePage = (a: number, b: number): boolean => pageOf(a) === pageOf(b);

const MAX_INSNS = 400;
/** A region with more instructions takes in no further place of another page: large functions take long to compile. */
const ROOM = 64;
const MAX_BLOCK = 48;

/** String instructions that look at no flag but DF, and those that do. */
const MOVES: ReadonlySet<number> = new Set([H.H_MOVS, H.H_STOS, H.H_LODS]);
const STRINGS: ReadonlySet<number> = new Set([...MOVES, H.H_CMPS, H.H_SCAS, H.H_INS, H.H_OUTS]);
export const isMove = ({ handler }: Insn): boolean => MOVES.has(handler);
export const isString = ({ handler }: Insn): boolean => STRINGS.has(handler);

export function transferOf(insn: Insn): Transfer | undefined {
  switch (insn.handler) {
    case H.H_JCC:
      return 'branch';
    case H.H_LOOP:
      return 'loop';
    case H.H_JMP_J:
      return 'jump';
    case H.H_CALL_J:
      return 'call';
    case H.H_RET:
    case H.H_RET_I:
      return 'return';
    case H.H_JMP_E:
    case H.H_CALL_E:
      return 'indirect';
    default:
      // INVLPG tells by itself if it changes what runs.
      return insn.flags & R.REC_END && insn.handler !== H.H_INVLPG ? 'leave' : undefined;
  }
}

/** Where a direct transfer goes. */
export function targetOf(insn: Insn): number {
  return insn.at + insn.length + insn.immLo;
}
/** Where a transfer goes, or has been seen to go. */
function targetsOf(insn: Insn): readonly number[] {
  const transfer = transferOf(insn);
  if (transfer === 'indirect') return insn.seen;
  return transfer === undefined || transfer === 'return' || transfer === 'leave' ? [] : [targetOf(insn)];
}
const isCall = ({ handler }: Insn): boolean => handler === H.H_CALL_J || handler === H.H_CALL_E;
/** Iterations count as steps: the budget has to be looked at afterwards. */
export function repeats(insn: Insn): boolean {
  return isString(insn) && (insn.flags & (R.REC_REP | R.REC_REPNE)) !== 0;
}

/** A few instructions without a loop up to one that the core executes, an exit most often: loading and storing registers would cost more. */
export function isBrief({ blocks }: Region): boolean {
  let insns = 0;
  for (const block of blocks) insns += block.insns.length;
  if (insns > 16 || !blocks.some(({ transfer }) => transfer === 'leave')) return false;
  // No way leads back to where it started.
  return blocks.every((start) => {
    const seen = new Set(start.next);
    for (const block of seen) for (const next of block.next) seen.add(next);
    return !seen.has(start);
  });
}

export function readInsn(u8: Uint8Array, i32: Int32Array, record: number, at: number): Insn {
  const word = record >> 2;
  const flags = u8[record + R.REC_FLAGS];
  const handler = u8[record + R.REC_HANDLER] | (u8[record + R.REC_HANDLER + 1] << 8);
  const seen: number[] = [];
  if (handler === H.H_JMP_E || handler === H.H_CALL_E) {
    for (const way of i32.subarray(word + R.REC_SEEN / 4, word + R.REC_SEEN / 4 + 3))
      if (way !== 0) seen.push(at + way);
  }
  return {
    record,
    at,
    length: u8[record + R.REC_LEN],
    op: u8[record + R.REC_OP] | (u8[record + R.REC_OP + 1] << 8),
    handler,
    sub: u8[record + R.REC_SUB],
    size: u8[record + R.REC_SIZE],
    g: u8[record + R.REC_G],
    e: u8[record + R.REC_E],
    base: u8[record + R.REC_BASE],
    index: u8[record + R.REC_INDEX],
    scale: u8[record + R.REC_SCALE],
    segment: u8[record + R.REC_SEG],
    flags,
    reg: u8[record + R.REC_REG],
    unaligned: (u8[record + R.REC_MORE] & R.MORE_UNALIGNED) !== 0,
    displacement: i32[word + R.REC_DISP / 4],
    immLo: i32[word + R.REC_IMM / 4],
    immHi: i32[word + R.REC_IMM / 4 + 1],
    seen,
    addressSize: (flags >> R.REC_ASIZE_SHIFT) & 3,
    memory: (flags & R.REC_MEM) !== 0,
  };
}

/**
 * The region that starts at a place. `insnAt` gives the instruction at a place, or nothing where the interpreter has to go on; `warm` tells
 * whether control often comes to a place of another page.
 */
export function findRegion(
  entry: number,
  pages: ReadonlyMap<number, CodePage>,
  insnAt: (at: number) => Insn | undefined,
  warm: (at: number) => boolean,
): Region | undefined {
  const insns = new Map<number, Insn>();
  const leaders = new Set<number>([entry]);
  const returns: number[] = [];
  const work = [entry];
  while (work.length > 0) {
    let at = work.shift()!;
    for (let run = 1; ; run++) {
      if (insns.has(at)) {
        leaders.add(at);
        break;
      }
      if (insns.size >= MAX_INSNS) break;
      const insn = insnAt(at);
      if (insn === undefined) break;
      insns.set(at, insn);
      const follow = at + insn.length;
      const transfer = transferOf(insn);
      const targets = targetsOf(insn).filter(
        (target) => pageOf(target) === 0 || (insns.size < ROOM && (samePage(at, target) || warm(target))),
      );
      for (const target of targets) leaders.add(target);
      work.push(...targets);
      const conditional = transfer === 'branch' || transfer === 'loop';
      if (conditional) leaders.add(follow);
      else if (isCall(insn) && targets.length > 0) {
        leaders.add(follow);
        returns.push(follow);
        work.push(follow);
      }
      if (transfer !== undefined && !conditional) break;
      // A block lies in one page.
      if (repeats(insn) || run % MAX_BLOCK === 0 || !samePage(insn.at, follow)) leaders.add(follow);
      at = follow;
    }
  }
  if (!insns.has(entry)) return undefined;
  const blocks: Block[] = [];
  const byOffset = new Map<number, Block>();
  const starts = [entry, ...[...leaders].filter((at) => at !== entry && insns.has(at)).sort((a, b) => a - b)];
  for (const start of starts) {
    const block: Block = { id: blocks.length, at: start, insns: [], next: [], transfer: undefined, follow: start };
    for (let at = start; ; ) {
      const insn = insns.get(at);
      if (insn === undefined || (at !== start && leaders.has(at))) break;
      block.insns.push(insn);
      at += insn.length;
      block.follow = at;
      block.transfer = transferOf(insn);
      if (block.transfer !== undefined) break;
    }
    blocks.push(block);
    byOffset.set(start, block);
  }
  // Calls whose target or return point was cut off lead out of the region.
  const kept = [...new Set(returns)].filter((at) => byOffset.has(at));
  for (const block of blocks) {
    const last = block.insns[block.insns.length - 1];
    const add = (at: number): void => {
      const to = byOffset.get(at);
      if (to !== undefined && !block.next.includes(to)) block.next.push(to);
    };
    if (block.transfer === undefined || block.transfer === 'branch' || block.transfer === 'loop') add(block.follow);
    for (const at of block.transfer === 'return' ? kept : targetsOf(last)) add(at);
  }
  return { entry: blocks[0], blocks, byOffset, returns: kept, pages };
}
