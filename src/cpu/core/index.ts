// The run loop: events due at an instruction boundary, lookup of decoded code, and dispatch. The host calls setup() once and
// run() for a vCPU; everything else is reached from here.

import {
  ACCESS_EXEC, ACCESS_WRITE,
  BLOCKED_BY_NMI, EVENT_HAS_ERROR, EVENT_TYPE_EXCEPTION, EVENT_TYPE_PRIV_SOFT_EXCEPTION, EVENT_TYPE_SOFT_EXCEPTION, EVENT_TYPE_SOFT_INT,
  EVENT_VALID, EXIT_ACCESS, EXIT_BUDGET, EXIT_INTERRUPT_WINDOW, EXIT_MMIO, EXIT_NMI_WINDOW, R_BASE, R_CR0, R_CR3, R_CR4, R_LIMIT, R_RFLAGS,
  R_RIP, R_RSP, SEG_CS, SEG_SS, SHADOW_MOV_SS, SHADOW_STI, STATE_STRIDE, S_DIRTY, S_EXIT_CODE, S_EXIT_LEN, S_INJECT, S_INJECT_ERROR,
  S_INJECT_LEN, S_INTERRUPTIBILITY, S_IOQ_COUNT, S_PENDING_DEBUG, S_STEPS, S_VECTORING, S_WINDOW, WINDOW_INTERRUPT, WINDOW_NMI,
  S_CC_OP, S_CC_DST, S_CC_SRC, EXIT_STOP, HOOK_CHANGED, HOOK_CONTINUE, HOOK_STOP, S_GRANTS, DIRTY_TRANSLATION,
} from './layout';
import {
  BRK_EXIT, BRK_FAULT, BRK_LOOKUP, CR0_PG, CR4_PAE, DB, FLAG_IF, FLAG_RF, FLAG_TF, GP, NONCANONICAL, SS, brk, clearBrk,
  codeMode, curRip, exVector, failed, flushTlb, isCanonical, leave, liveVersion, longMode, nextRip, raise, raiseError, reg, reg32,
  computeMode, selectVcpu, setBrk, setNextRip, setReg, setRips, st, tlb, isAmd,
} from './state';
import { CC_ADD, CC_DEC, CC_INC, CC_LOGIC, CC_SUB, carry, condition, flags, setProduct32, settle, unsettled } from './flags';
import { pageAttr, ramBase as ramBaseOf, snapshotBase, setup as setupMemory, stateBase as stateBaseOf } from './memory';
import {
  ioqDone, ioqReset, ld16, ld32, ld64, ld8, ldStack, loadPdptes, st32, st64, st8, stStack, storeBytes, translateCode, translateData, walkQuiet, walked,
} from './mmu';
import { MAX_LENGTH, decode, decodeRun, pseudo } from './decode';
import { decodedPage, generation, losses, memoryWritten as codeMemoryWritten, recordAt, resetCodeCache } from './code-cache';
import {
  MORE_SAME_PAGE, OP_ALU_RI32, OP_ALU_RI64, OP_ALU_RM32, OP_ALU_RM64, OP_ALU_RR32, OP_ALU_RR64, OP_CALL64, OP_CROSS, OP_DEC32, OP_DEC64,
  OP_ENTER, OP_GENERIC, OP_HOOK, OP_IMUL_RI32, OP_IMUL_RR32, OP_INC32, OP_INC64, OP_JCC, OP_JMP, OP_LD32, OP_LD64, OP_LD8, OP_LDZX16, OP_LDZX8, OP_LEA32, OP_LEA64, OP_MOVSXD, OP_MOVZX8,
  OP_MOV_RI, OP_MOV_RR32, OP_MOV_RR64, OP_NEXT, OP_NOP, OP_POP64, OP_PUSH64, OP_RET64, OP_SHL_RI32, OP_SHL_RI64, OP_SHR_RI32,
  OP_SHR_RI64, OP_ST32, REC_REP, REC_REPNE, OP_ST64, OP_ST8, OP_TEST_RI32, OP_TEST_RR32, OP_TEST_RR64, REC_BASE, REC_BYTES, REC_DISP, REC_E, REC_END,
  REC_FLAGS, REC_G, REC_IMM, REC_INDEX, REC_LEN, REC_LINK, REC_MORE, REC_OP, REC_SCALE, REC_SEG, PAGE_BYTES, TIER_RETRY, TIER_SHORT,
} from './record';
import { beginStep, execute, repeating, setStepsLeft, stepsLeft, trapTaken } from './exec';
import { switched } from './task';
import { DR6_BS, armed, dropHits, hitCode, keepHits } from './debug';
import { deliver, deliverException } from './event';
import { count, countExit, countRetry, enter, knownRecord, led, tiersOn, watched } from './tier';
import { atHook, blockSize, hookedOffset, resumeAt } from './hooks';

/** For hosts that look at the vCPU in the middle of a run: puts the arithmetic flags into RFLAGS. */
export function materializeFlags(): void {
  flags();
}
/** For the same: steps of the budget that are left; 0 between runs. */
export function unusedSteps(): i32 {
  return stepsLeft;
}
/** What a host that runs the vCPU in the middle of a run puts back, and one that abandons a run sets to 0. */
export function setUnusedSteps(steps: i32): void {
  setStepsLeft(steps);
}
/** The block that starts at `rip`: bytes | instructions << 16, or -1 if nothing can be fetched there. Only between runs. */
export function blockAt(rip: u64): i32 {
  selectVcpu(stateBaseOf);
  const record = lookup(rip);
  const bad = failed();
  clearBrk();
  return bad || record == 0 ? -1 : blockSize(record, rip);
}
export { hookMap, startBlock, useHooks } from './hooks';
export { setSparse } from './sparse';

// ---- what the host calls besides run() ----

/**
 * Lays memory out for `vcpus` virtual processors and `ram` bytes of guest RAM. Returns the size in bytes the memory must have; the
 * host grows it before anything else.
 */
export function setup(vcpus: i32, ram: u32): u32 {
  return setupMemory(vcpus, ram, 262144, 512, <u32>REC_BYTES, <u32>PAGE_BYTES);
}
/** Forgets all decoded code; the host has zeroed or replaced guest RAM and page attributes. */
export function resetCode(): void {
  resetCodeCache();
}
export function stateBase(): u32 {
  return <u32>stateBaseOf;
}
export function ramBase(): u32 {
  return <u32>ramBaseOf;
}
export function pageAttributes(): u32 {
  return <u32>pageAttr;
}
export function stagingPage(): u32 {
  return <u32>snapshotBase;
}
// What the second tier uses, besides the memory; see tier.ts and ../jit.
export { arenaBase, codeMapBase, dropsBase, frameOf, hotPage, recordOf, setHeat, tierBase } from './tier';
export { brk, canonicalShift, codeMode, curRip, flatRead, flatWrite, nextRip, stackMask, tlb, tlbVersion } from './state';
export { execute, productFlags, stepsLeft, stringOp } from './exec';
export { condition, setFlagBits, settle } from './flags';
export { fillTlb, pageCachesBase } from './mmu';
export { flushCode, generation } from './code-cache';
export { pageHash, replaceCode, rewind, unwatch, watch } from './snapshot';
/** The host is about to write guest RAM, or has just done so while there is no snapshot. */
export function memoryWritten(address: u32, length: u32): void {
  codeMemoryWritten(address, length);
}
/** Translates a linear address for the host without side effects; the guest-physical address or -1. */
export function translate(vcpu: i32, linear: u64): f64 {
  selectVcpu(stateBaseOf + <usize>vcpu * STATE_STRIDE);
  return walkQuiet(linear) ? <f64>walked() : -1;
}
/**
 * Translates as an access of the guest at its current privilege would, A and D bits included; `access` is one of ACCESS_*. The
 * guest-physical address, or -1 with nothing pending.
 */
export function translateAccess(vcpu: i32, linear: u64, access: i32): f64 {
  selectVcpu(stateBaseOf + <usize>vcpu * STATE_STRIDE);
  clearBrk();
  let found = false;
  if (access == ACCESS_EXEC) found = translateCode(linear);
  else if (!longMode) found = translateData(linear & 0xffffffff, access == ACCESS_WRITE, tlb);
  else if (isCanonical(linear)) found = translateData(linear, access == ACCESS_WRITE, tlb);
  clearBrk();
  return found ? <f64>walked() : -1;
}
/**
 * Writes `length` bytes found at host address `from` at a linear address with the guest's own privilege. 0, or the pending exception:
 * vector | 0x100, its error code and address in the exit fields Q1 and DATA.
 */
export function writeLinear(vcpu: i32, linear: u64, from: u32, length: i32): i32 {
  selectVcpu(stateBaseOf + <usize>vcpu * STATE_STRIDE);
  return storeBytes(linear, from, length);
}

// ---- lookup ----

/** No linear address that code can have. */
const NOWHERE: u64 = 0x8000000000000000;
/** Compiled code may run where there is some. */
let tiered: bool = false;
/** What costs more to enter than to interpret: steps. */
const SHORT_STAY: i32 = 16;
/** Where compiled code could not go on, so that this one time the instruction is not left to it. */
let retryRip: u64 = NOWHERE;

/** Buffer and record (between room for OP_HOOK and OP_NEXT) for instructions that are decoded each time: across pages and near a segment limit. */
const scratchBytes: usize = memory.data(16);
const scratchHook: usize = memory.data(96, 8);
const scratch: usize = scratchHook + REC_BYTES;

/**
 * Decodes the instruction at `rip` byte by byte: across the page, up to the CS limit. Returns its record, or 0 with a fault pending.
 */
function decodeUncached(rip: u64): usize {
  let have = 0;
  const base = codeMode == 2 ? 0 : reg(R_BASE + SEG_CS);
  while (have < MAX_LENGTH) {
    const at = rip + have;
    if (codeMode != 2 && at > <u64>reg32(R_LIMIT + SEG_CS)) {
      raiseError(GP, 0);
      return 0;
    }
    if (!translateCode(codeMode == 2 ? at : (base + at) & 0xffffffff)) return 0;
    store<u8>(scratchBytes + have, load<u8>(ramBaseOf + <usize>walked()));
    have++;
    const length = decode(scratch, scratchBytes, have);
    if (length > 0) {
      store<u8>(scratch, load<u8>(scratch, REC_FLAGS) | REC_END, REC_FLAGS);
      pseudo(scratch + REC_BYTES, OP_NEXT);
      return scratch;
    }
  }
  raiseError(GP, 0); // longer than 15 bytes
  return 0;
}

/** The instruction at `rip` cannot be fetched: the fault or the exit is of none that has a length. */
function notFetched(rip: u64): void {
  setRips(rip, rip);
  if (brk & BRK_EXIT) setReg(S_EXIT_LEN, 0);
}

/** The record of the instruction at `rip`, or 0 with a fault or exit pending. */
function lookup(rip: u64): usize {
  let linear = rip;
  if (codeMode != 2) {
    const limit = <u64>reg32(R_LIMIT + SEG_CS);
    linear = (reg(R_BASE + SEG_CS) + rip) & 0xffffffff;
    if (rip + (0xfff - (linear & 0xfff)) > limit) {
      const record = decodeUncached(rip);
      if (record == 0 || !hookedOffset(<i32>(linear & 0xfff))) return record;
      pseudo(scratchHook, OP_HOOK);
      return scratchHook;
    }
  }
  if (!translateCode(linear)) return 0;
  const address = walked();
  const frame = <u32>(address >> 12);
  const offset = <i32>(address & 0xfff);
  let record = recordAt(decodedPage(frame, codeMode), offset);
  if (!record) record = decodeRun(frame, codeMode, ramBaseOf + (<usize>frame << 12), offset);
  return record;
}

// ---- exits ----

/** Shows the host an exit of `vcpu` with everything as it is between runs. 1: it has dealt with it and the guest goes on. */
// @ts-ignore: decorator
@external('env', 'exit')
declare function hostHandles(vcpu: i32, code: i32): i32;
let asking: bool = false;
/** Whether the host is asked at exits of instructions. */
export function askAtExits(on: bool): void {
  asking = on;
}
/** The vCPU that runs. */
let current: i32 = 0;
/** The record to go on with after the exit, 0 if it is not known; and, then, the one that is to be linked with it. */
let resumeRecord: usize = 0;
let resumeFrom: usize = 0;

const LEAVES: i32 = 0;
const GOES_ON: i32 = 1;
/** The host has dealt with the exit, but run() has to look what comes next: BRK_LOOKUP is set. */
const LOOK: i32 = 2;

/** The host changed registers: DIRTY_MODE, those that the mode follows from; DIRTY_TRANSLATION, those that decide the translation, too. */
function adopt(dirty: u64): void {
  setReg(S_DIRTY, 0);
  computeMode();
  if ((dirty & DIRTY_TRANSLATION) == 0) return;
  flushTlb();
  if ((reg(R_CR0) & CR0_PG) != 0 && (reg(R_CR4) & CR4_PAE) != 0 && !longMode) loadPdptes(reg(R_CR3));
  clearBrk();
}
/** Starts a run, or goes on after an exit that the host has dealt with. */
// @ts-ignore: decorator
@inline function begin(budget: i32): void {
  ioqReset();
  setReg(S_EXIT_CODE, EXIT_BUDGET);
  setReg(S_VECTORING, 0);
  const dirty = reg(S_DIRTY);
  if (dirty) adopt(dirty);
  clearBrk();
  beginStep();
  // While running, S_STEPS holds the count at the end of the budget, so that RDTSC can subtract what is left.
  setReg(S_STEPS, reg(S_STEPS) + budget);
  setStepsLeft(budget);
  tiered = tiersOn();
  retryRip = NOWHERE;
}
/** Steps of the budget that were not used are none of the vCPU's. Once more changes nothing. */
// @ts-ignore: decorator
@inline function end(): void {
  // The delivery of an exception may be one step too many.
  setReg(S_STEPS, reg(S_STEPS) - <u64><i64>stepsLeft);
  setStepsLeft(0);
}

/**
 * The instruction of `rec` exits, RIP and stepsLeft are current: asks the host. If the guest goes on, the exit has used up a step of the
 * budget. Arithmetic flags stay lazy meanwhile: the host neither reads nor writes them.
 */
function atExit(rec: usize): i32 {
  const left = stepsLeft;
  // With the exit the budget may be at its end.
  if (left <= 1) return LEAVES;
  const vcpu = current;
  const block = st;
  const lost = losses;
  const version = liveVersion;
  const from = curRip;
  const next = nextRip;
  const code = <i32>reg(S_EXIT_CODE);
  end();
  const goesOn = hostHandles(vcpu, code) != 0;
  // The host may have looked at another vCPU, or run this one for no steps.
  if (st != block) selectVcpu(block);
  current = vcpu;
  if (!goesOn) {
    setReg(S_EXIT_CODE, code);
    setBrk(BRK_EXIT);
    return LEAVES;
  }
  begin(left - 1);
  const plain =
    (reg(S_INJECT) | reg(S_PENDING_DEBUG) | reg(S_WINDOW)) == 0 && (reg(R_RFLAGS) & (FLAG_TF | FLAG_RF)) == 0 &&
    (reg(S_INTERRUPTIBILITY) & (SHADOW_STI | SHADOW_MOV_SS)) == 0;
  if (!plain || losses != lost || liveVersion != version || reg(R_RIP) != next) {
    setBrk(BRK_LOOKUP);
    return LOOK;
  }
  // As a jump within a page: the record that control goes on with is noted in the one that it comes from, if that ends a run of records;
  // the others may have something else there.
  resumeRecord = 0;
  resumeFrom = 0;
  if ((from ^ next) < 4096 && load<u16>(rec, REC_OP) == OP_GENERIC && load<u8>(rec, REC_FLAGS) & REC_END) {
    resumeFrom = rec;
    resumeRecord = load<u32>(rec, REC_LINK);
  }
  return GOES_ON;
}

// ---- dispatch ----

// @ts-ignore: decorator
@inline function simpleAddress(s: usize, rec: usize): u64 {
  return (
    load<u64>(s + (<usize>load<u8>(rec, REC_BASE) << 3)) +
    (load<u64>(s + (<usize>load<u8>(rec, REC_INDEX) << 3)) << <u64>load<u8>(rec, REC_SCALE)) +
    <u64><i64>load<i32>(rec, REC_DISP)
  );
}
// @ts-ignore: decorator
@inline function cc(s: usize, op: i32, size: i32, dst: u64, src: u64): void {
  store<u64>(s + (S_CC_OP << 3), (op << 2) | size);
  store<u64>(s + (S_CC_DST << 3), dst);
  store<u64>(s + (S_CC_SRC << 3), src);
}
// @ts-ignore: decorator
@inline function gAt(s: usize, rec: usize): usize {
  return s + <usize>load<u8>(rec, REC_G);
}
// @ts-ignore: decorator
@inline function eAt(s: usize, rec: usize): usize {
  return s + <usize>load<u8>(rec, REC_E);
}
// @ts-ignore: decorator
@inline function imm(rec: usize): u64 {
  return <u64>load<i64>(rec, REC_IMM);
}
/** Zero of a lazy result, for the commonest conditions. */
// @ts-ignore: decorator
@inline function isZero(s: usize): bool {
  const op = load<u32>(s + (S_CC_OP << 3));
  return op >= 4 ? load<u64>(s + (S_CC_DST << 3)) << (64 - ((<u64>8) << (op & 3))) == 0 : condition(4);
}

/** The same for sign, and, after a comparison or subtraction, for less and for carry. */
// @ts-ignore: decorator
@inline function isSign(s: usize): bool {
  const op = load<u32>(s + (S_CC_OP << 3));
  return op >= 4 ? <i64>(load<u64>(s + (S_CC_DST << 3)) << (64 - ((<u64>8) << (op & 3)))) < 0 : condition(8);
}
// @ts-ignore: decorator
@inline function isLess(s: usize): bool {
  const op = load<u32>(s + (S_CC_OP << 3));
  if (op >> 2 != CC_SUB) return condition(12);
  const shift = 64 - ((<u64>8) << (op & 3));
  const src = load<u64>(s + (S_CC_SRC << 3)) << shift;
  return <i64>((load<u64>(s + (S_CC_DST << 3)) << shift) + src) < <i64>src;
}
// @ts-ignore: decorator
@inline function isCarry(s: usize): bool {
  const op = load<u32>(s + (S_CC_OP << 3));
  if (op >> 2 != CC_SUB) return condition(2);
  const shift = 64 - ((<u64>8) << (op & 3));
  const src = load<u64>(s + (S_CC_SRC << 3)) << shift;
  return (load<u64>(s + (S_CC_DST << 3)) << shift) + src < src;
}

/**
 * Runs compiled code for as long as RIP leads to some; the rest is the interpreter's. What breaks the flow does it as in interpret().
 * Returns the record that the interpreter starts with, which spares it the lookup, or 0 if it has to make one.
 */
function compiled(): usize {
  let entered = false;
  let known: usize = 0;
  while (stepsLeft > 0) {
    const rip = reg(R_RIP);
    let rec = known;
    known = 0;
    if (rec == 0) rec = knownRecord(rip);
    if (rec == 0) rec = lookup(rip);
    if (brk) {
      if (brk & (BRK_FAULT | BRK_EXIT)) {
        notFetched(rip);
        return 0;
      }
      clearBrk();
    }
    if (load<u16>(rec, REC_OP) != OP_ENTER || rip == retryRip) {
      if (!entered || rip == retryRip || !watched(stepsLeft)) return rec;
      // An arrival like any other: it may have been hot code alone that leads here. Records may be gone afterwards.
      entered = false;
      count();
      continue;
    }
    const before = stepsLeft;
    const how = enter(rec, st, rip);
    if (unsettled()) settle();
    if (how > <usize>TIER_RETRY) {
      // The instruction of this record broke the flow.
      if (brk & BRK_EXIT && before - stepsLeft <= SHORT_STAY) countExit(rec, rip);
      if (brk & (BRK_FAULT | BRK_EXIT)) {
        setReg(R_RIP, curRip);
        if (brk & BRK_EXIT && asking && atExit(how) != LEAVES) {
          if (brk) return 0;
          known = resumeRecord;
          entered = true;
          continue;
        }
        if (brk & BRK_FAULT && exVector == NONCANONICAL) raiseError(load<u8>(how, REC_SEG) == SEG_SS ? SS : GP, 0);
      } else setReg(R_RIP, nextRip);
      return 0;
    }
    if (how == <usize>TIER_SHORT) {
      tiered = false;
      return 0;
    }
    if (how == <usize>TIER_RETRY) {
      retryRip = reg(R_RIP);
      countRetry(rec, rip, before - stepsLeft);
      return 0;
    }
    led(rec, rip, stepsLeft);
    entered = true;
  }
  return 0;
}

/**
 * Executes up to stepsLeft instructions from RIP until something breaks the flow; RIP and stepsLeft are current on return. `first` is the
 * record at RIP, or 0 if it has to be looked up.
 */
function interpret(first: usize): void {
  const s = st;
  let n = stepsLeft;
  let rip = reg(R_RIP);
  const start = n;
  let linkFrom: usize = 0;
  let rec: usize = 0;
  let known = first;

  for (;;) {
    if (n == 0) break; // a fault of the fetch belongs to the next step
    if (watched(n) && n != start && tiered) break; // for run() to count
    const before = generation;
    rec = known != 0 ? known : lookup(rip);
    known = 0;
    if (brk) {
      // The lookup may only have set a fault or an exit.
      if (brk & (BRK_FAULT | BRK_EXIT)) {
        notFetched(rip);
        break;
      }
      clearBrk();
    }
    if (linkFrom) {
      if (generation == before) store<u32>(linkFrom, <u32>rec, REC_LINK);
      linkFrom = 0;
    }
    let taken = false;

    for (;;) {
      if (n == 0) {
        setReg(R_RIP, rip);
        setStepsLeft(0);
        return;
      }
      n--;
      let step = <u64>load<u8>(rec, REC_LEN);
      const op = <i32>load<u16>(rec, REC_OP);
      switch (op) {
        case OP_NEXT:
          n++;
          step = 0;
          break;

        case OP_MOV_RR32: store<u64>(eAt(s, rec), <u64>load<u32>(gAt(s, rec))); rip += step; rec += REC_BYTES; continue;
        case OP_MOV_RR64: store<u64>(eAt(s, rec), load<u64>(gAt(s, rec))); rip += step; rec += REC_BYTES; continue;
        case OP_MOV_RI: store<u64>(eAt(s, rec), imm(rec)); rip += step; rec += REC_BYTES; continue;
        case OP_MOVZX8: store<u64>(gAt(s, rec), <u64>load<u8>(eAt(s, rec))); rip += step; rec += REC_BYTES; continue;
        case OP_MOVSXD: store<u64>(gAt(s, rec), <u64><i64>load<i32>(eAt(s, rec))); rip += step; rec += REC_BYTES; continue;
        case OP_LEA64: store<u64>(gAt(s, rec), simpleAddress(s, rec)); rip += step; rec += REC_BYTES; continue;
        case OP_LEA32: store<u64>(gAt(s, rec), simpleAddress(s, rec) & 0xffffffff); rip += step; rec += REC_BYTES; continue;
        case OP_NOP: rip += step; rec += REC_BYTES; continue;

        case OP_LD8: {
          const value = ld8(simpleAddress(s, rec));
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          store<u8>(gAt(s, rec), <u8>value);
          break;
        }
        case OP_LD32: case OP_LD64: case OP_LDZX8: case OP_LDZX16: {
          const at = simpleAddress(s, rec);
          const value = op == OP_LD64 ? ld64(at) : op == OP_LD32 ? ld32(at) : op == OP_LDZX8 ? ld8(at) : ld16(at);
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          store<u64>(gAt(s, rec), value);
          break;
        }
        case OP_ST8: st8(simpleAddress(s, rec), <u64>load<u8>(gAt(s, rec))); break;
        case OP_ST32: st32(simpleAddress(s, rec), <u64>load<u32>(gAt(s, rec))); break;
        case OP_ST64: st64(simpleAddress(s, rec), load<u64>(gAt(s, rec))); break;

        case OP_TEST_RR32: cc(s, CC_LOGIC, 2, <u64>(load<u32>(eAt(s, rec)) & load<u32>(gAt(s, rec))), 0); rip += step; rec += REC_BYTES; continue;
        case OP_TEST_RR64: cc(s, CC_LOGIC, 3, load<u64>(eAt(s, rec)) & load<u64>(gAt(s, rec)), 0); rip += step; rec += REC_BYTES; continue;
        case OP_TEST_RI32: cc(s, CC_LOGIC, 2, <u64>load<u32>(eAt(s, rec)) & imm(rec), 0); rip += step; rec += REC_BYTES; continue;

        case OP_INC32: {
          const c = carry();
          const r = (<u64>load<u32>(eAt(s, rec)) + 1) & 0xffffffff;
          store<u64>(eAt(s, rec), r);
          cc(s, CC_INC, 2, r, c);
          rip += step; rec += REC_BYTES; continue;
        }
        case OP_INC64: {
          const c = carry();
          const r = load<u64>(eAt(s, rec)) + 1;
          store<u64>(eAt(s, rec), r);
          cc(s, CC_INC, 3, r, c);
          rip += step; rec += REC_BYTES; continue;
        }
        case OP_DEC32: {
          const c = carry();
          const r = (<u64>load<u32>(eAt(s, rec)) - 1) & 0xffffffff;
          store<u64>(eAt(s, rec), r);
          cc(s, CC_DEC, 2, r, c);
          rip += step; rec += REC_BYTES; continue;
        }
        case OP_DEC64: {
          const c = carry();
          const r = load<u64>(eAt(s, rec)) - 1;
          store<u64>(eAt(s, rec), r);
          cc(s, CC_DEC, 3, r, c);
          rip += step; rec += REC_BYTES; continue;
        }

        // ALU with registers and immediates. ADC and SBB (2, 3) are generic.
        case OP_ALU_RR32: { const b = <u64>load<u32>(gAt(s, rec)); const r = (<u64>load<u32>(eAt(s, rec)) + b) & 0xffffffff; store<u64>(eAt(s, rec), r); cc(s, CC_ADD, 2, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR32 + 1: { const r = <u64>(load<u32>(eAt(s, rec)) | load<u32>(gAt(s, rec))); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR32 + 4: { const r = <u64>(load<u32>(eAt(s, rec)) & load<u32>(gAt(s, rec))); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR32 + 5: { const b = <u64>load<u32>(gAt(s, rec)); const r = (<u64>load<u32>(eAt(s, rec)) - b) & 0xffffffff; store<u64>(eAt(s, rec), r); cc(s, CC_SUB, 2, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR32 + 6: { const r = <u64>(load<u32>(eAt(s, rec)) ^ load<u32>(gAt(s, rec))); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR32 + 7: { const b = <u64>load<u32>(gAt(s, rec)); cc(s, CC_SUB, 2, (<u64>load<u32>(eAt(s, rec)) - b) & 0xffffffff, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR64: { const b = load<u64>(gAt(s, rec)); const r = load<u64>(eAt(s, rec)) + b; store<u64>(eAt(s, rec), r); cc(s, CC_ADD, 3, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR64 + 1: { const r = load<u64>(eAt(s, rec)) | load<u64>(gAt(s, rec)); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR64 + 4: { const r = load<u64>(eAt(s, rec)) & load<u64>(gAt(s, rec)); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR64 + 5: { const b = load<u64>(gAt(s, rec)); const r = load<u64>(eAt(s, rec)) - b; store<u64>(eAt(s, rec), r); cc(s, CC_SUB, 3, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR64 + 6: { const r = load<u64>(eAt(s, rec)) ^ load<u64>(gAt(s, rec)); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RR64 + 7: { const b = load<u64>(gAt(s, rec)); cc(s, CC_SUB, 3, load<u64>(eAt(s, rec)) - b, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI32: { const b = imm(rec); const r = (<u64>load<u32>(eAt(s, rec)) + b) & 0xffffffff; store<u64>(eAt(s, rec), r); cc(s, CC_ADD, 2, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI32 + 1: { const r = (<u64>load<u32>(eAt(s, rec)) | imm(rec)) & 0xffffffff; store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI32 + 4: { const r = <u64>load<u32>(eAt(s, rec)) & imm(rec); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI32 + 5: { const b = imm(rec); const r = (<u64>load<u32>(eAt(s, rec)) - b) & 0xffffffff; store<u64>(eAt(s, rec), r); cc(s, CC_SUB, 2, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI32 + 6: { const r = (<u64>load<u32>(eAt(s, rec)) ^ imm(rec)) & 0xffffffff; store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI32 + 7: { const b = imm(rec); cc(s, CC_SUB, 2, <u64>load<u32>(eAt(s, rec)) - b, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI64: { const b = imm(rec); const r = load<u64>(eAt(s, rec)) + b; store<u64>(eAt(s, rec), r); cc(s, CC_ADD, 3, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI64 + 1: { const r = load<u64>(eAt(s, rec)) | imm(rec); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI64 + 4: { const r = load<u64>(eAt(s, rec)) & imm(rec); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI64 + 5: { const b = imm(rec); const r = load<u64>(eAt(s, rec)) - b; store<u64>(eAt(s, rec), r); cc(s, CC_SUB, 3, r, b); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI64 + 6: { const r = load<u64>(eAt(s, rec)) ^ imm(rec); store<u64>(eAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); rip += step; rec += REC_BYTES; continue; }
        case OP_ALU_RI64 + 7: { const b = imm(rec); cc(s, CC_SUB, 3, load<u64>(eAt(s, rec)) - b, b); rip += step; rec += REC_BYTES; continue; }

        // ALU with a register destination and a memory source.
        case OP_ALU_RM32: case OP_ALU_RM32 + 1: case OP_ALU_RM32 + 4: case OP_ALU_RM32 + 5: case OP_ALU_RM32 + 6: case OP_ALU_RM32 + 7: {
          const b = ld32(simpleAddress(s, rec));
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          const a = <u64>load<u32>(gAt(s, rec));
          switch (op - OP_ALU_RM32) {
            case 0: { const r = (a + b) & 0xffffffff; store<u64>(gAt(s, rec), r); cc(s, CC_ADD, 2, r, b); break; }
            case 1: { const r = a | b; store<u64>(gAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); break; }
            case 4: { const r = a & b; store<u64>(gAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); break; }
            case 5: { const r = (a - b) & 0xffffffff; store<u64>(gAt(s, rec), r); cc(s, CC_SUB, 2, r, b); break; }
            case 6: { const r = a ^ b; store<u64>(gAt(s, rec), r); cc(s, CC_LOGIC, 2, r, 0); break; }
            default: cc(s, CC_SUB, 2, a - b, b); break;
          }
          break;
        }
        case OP_ALU_RM64: case OP_ALU_RM64 + 1: case OP_ALU_RM64 + 4: case OP_ALU_RM64 + 5: case OP_ALU_RM64 + 6: case OP_ALU_RM64 + 7: {
          const b = ld64(simpleAddress(s, rec));
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          const a = load<u64>(gAt(s, rec));
          switch (op - OP_ALU_RM64) {
            case 0: { const r = a + b; store<u64>(gAt(s, rec), r); cc(s, CC_ADD, 3, r, b); break; }
            case 1: { const r = a | b; store<u64>(gAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); break; }
            case 4: { const r = a & b; store<u64>(gAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); break; }
            case 5: { const r = a - b; store<u64>(gAt(s, rec), r); cc(s, CC_SUB, 3, r, b); break; }
            case 6: { const r = a ^ b; store<u64>(gAt(s, rec), r); cc(s, CC_LOGIC, 3, r, 0); break; }
            default: cc(s, CC_SUB, 3, a - b, b); break;
          }
          break;
        }

        case OP_SHL_RI32: case OP_SHL_RI64: case OP_SHR_RI32: case OP_SHR_RI64: {
          const count = imm(rec);
          const wide = op == OP_SHL_RI64 || op == OP_SHR_RI64;
          const left = op == OP_SHL_RI32 || op == OP_SHL_RI64;
          const a = wide ? load<u64>(eAt(s, rec)) : <u64>load<u32>(eAt(s, rec));
          shiftFast(s, eAt(s, rec), a, count, wide, left);
          rip += step; rec += REC_BYTES; continue;
        }

        case OP_IMUL_RR32: { const p = <i64>load<i32>(eAt(s, rec)) * <i64>load<i32>(gAt(s, rec)); setProduct32(p); store<u64>(gAt(s, rec), <u64>p & 0xffffffff); rip += step; rec += REC_BYTES; continue; }
        case OP_IMUL_RI32: { const p = <i64>load<i32>(eAt(s, rec)) * <i64><i32>imm(rec); setProduct32(p); store<u64>(gAt(s, rec), <u64>p & 0xffffffff); rip += step; rec += REC_BYTES; continue; }

        case OP_JCC: if (condition(0)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 1: if (condition(1)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 2: if (isCarry(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 3: if (!isCarry(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 4: if (isZero(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 5: if (!isZero(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 6: if (condition(6)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 7: if (condition(7)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 8: if (isSign(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 9: if (!isSign(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 10: if (condition(10)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 11: if (condition(11)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 12: if (isLess(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 13: if (!isLess(s)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 14: if (condition(14)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JCC + 15: if (condition(15)) { taken = true; break; } rip += step; rec += REC_BYTES; continue;
        case OP_JMP: taken = true; break;

        case OP_CALL64: {
          const top = load<u64>(s + (R_RSP << 3)) - 8;
          const target = rip + step + imm(rec);
          if (!isCanonical(target)) {
            // As nearCall().
            if (!isAmd()) stStack(top, 3, rip + step);
            if ((brk & (BRK_FAULT | BRK_EXIT)) == 0) raiseError(GP, 0);
            break;
          }
          stStack(top, 3, rip + step);
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          store<u64>(s + (R_RSP << 3), top);
          if (brk) {
            // The push changed decoded code: take the slow way round.
            setNextRip(target);
            rip = target;
            step = 0;
            break;
          }
          taken = true;
          break;
        }
        case OP_RET64: {
          const sp = load<u64>(s + (R_RSP << 3));
          const target = ldStack(sp, 3);
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          if (!isCanonical(target)) {
            raiseError(GP, 0);
            break;
          }
          store<u64>(s + (R_RSP << 3), sp + 8);
          rip = target;
          step = 0;
          break;
        }
        case OP_PUSH64: {
          const top = load<u64>(s + (R_RSP << 3)) - 8;
          stStack(top, 3, load<u64>(eAt(s, rec)));
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          store<u64>(s + (R_RSP << 3), top);
          break;
        }
        case OP_POP64: {
          const sp = load<u64>(s + (R_RSP << 3));
          const value = ldStack(sp, 3);
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          store<u64>(s + (R_RSP << 3), sp + 8);
          store<u64>(eAt(s, rec), value);
          break;
        }

        case OP_HOOK: {
          setReg(R_RIP, rip);
          rec += REC_BYTES;
          if (load<u16>(rec, REC_OP) == OP_CROSS) {
            rec = decodeUncached(rip);
            if (rec == 0) {
              notFetched(rip);
              break;
            }
            if (brk == BRK_LOOKUP) clearBrk();
          }
          setStepsLeft(n + 1);
          const answer = atHook(rip, rec);
          if (answer != HOOK_CONTINUE || brk != 0) {
            hooked(answer, rip, n + 1);
            return;
          }
          if ((load<u8>(rec, REC_FLAGS) & (REC_REP | REC_REPNE)) == 0 && rec != scratch) {
            n++;
            continue;
          }
          // Repeated instructions meet their hook at each iteration; the scratch record has no successor.
          setRips(rip, rip + <u64>load<u8>(rec, REC_LEN));
          setStepsLeft(0);
          execute(rec);
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          rip = nextRip;
          step = 0;
          break;
        }

        case OP_ENTER: {
          if (tiered && rip != retryRip) {
            // For compiled().
            setReg(R_RIP, rip);
            setStepsLeft(n + 1);
            return;
          }
          retryRip = NOWHERE;
          setRips(rip, rip + step);
          setStepsLeft(n);
          execute(rec);
          n = stepsLeft;
          if (brk & (BRK_FAULT | BRK_EXIT)) break;
          rip = nextRip;
          step = 0;
          break;
        }

        default: {
          if (op == OP_CROSS) {
            rec = decodeUncached(rip);
            if (rec == 0) {
              notFetched(rip);
              break;
            }
            if (brk == BRK_LOOKUP) clearBrk();
            step = <u64>load<u8>(rec, REC_LEN);
          }
          setRips(rip, rip + step);
          setStepsLeft(n);
          execute(rec);
          n = stepsLeft;
          if (brk & (BRK_FAULT | BRK_EXIT)) {
            if ((brk & BRK_EXIT) == 0 || !asking) break;
            setReg(R_RIP, curRip);
            if (atExit(rec) != GOES_ON) return;
            n = stepsLeft;
            rip = nextRip;
            if (resumeRecord != 0) {
              rec = resumeRecord;
              continue;
            }
            linkFrom = resumeFrom;
            step = 0;
            break;
          }
          rip = nextRip;
          step = 0;
          break;
        }
      }

      // After a fast instruction: rip is still its address and step its length. After a transfer or a generic one step is 0.
      if (brk) {
        if (brk & (BRK_FAULT | BRK_EXIT)) {
          if (op != OP_GENERIC && op != OP_CROSS && op != OP_HOOK && op != OP_ENTER) setRips(rip, rip + step);
          // Not rip: a fault behind a task switch belongs to the new task.
          setReg(R_RIP, curRip);
          if (brk & BRK_FAULT && exVector == NONCANONICAL && rec != 0) {
            raiseError(load<u8>(rec, REC_SEG) == SEG_SS ? SS : GP, 0);
          }
          setStepsLeft(n);
          return;
        }
        if (!taken) {
          // The instruction is complete; decoded code, the mode or the translation changed.
          setReg(R_RIP, rip + step);
          setStepsLeft(n);
          return;
        }
      }
      if (taken) {
        taken = false;
        const link = <usize>load<u32>(rec, REC_LINK);
        const backward = <i64>imm(rec) < 0;
        let target = rip + step + imm(rec);
        if (codeMode != 2) target &= 0xffffffff;
        if (link) {
          rip = target;
          rec = link;
          // A loop closes.
          if (backward && watched(n)) break;
          continue;
        }
        if (codeMode == 2 ? !isCanonical(target) : target > <u64>reg32(R_LIMIT + SEG_CS)) {
          setRips(rip, rip + step);
          setReg(R_RIP, rip);
          raiseError(GP, 0);
          setStepsLeft(n);
          return;
        }
        if (load<u8>(rec, REC_MORE) & MORE_SAME_PAGE) linkFrom = rec;
        rip = target;
        break;
      }
      if (step == 0) {
        if (op == OP_GENERIC && (load<u8>(rec, REC_FLAGS) & REC_END) == 0) {
          rec += REC_BYTES;
          continue;
        }
        break;
      }
      rip += step;
      rec += REC_BYTES;
    }
  }
  setReg(R_RIP, rip);
  setStepsLeft(n);
}

/** The hook import stopped the guest at `rip`, or changed what the loop has cached (it may even have run the vCPU meanwhile). */
function hooked(answer: i32, rip: u64, left: i32): void {
  selectVcpu(st);
  setReg(S_EXIT_CODE, EXIT_BUDGET);
  setStepsLeft(left);
  setBrk(BRK_LOOKUP);
  if (answer == HOOK_STOP) {
    setRips(reg(R_RIP), reg(R_RIP));
    leave(EXIT_STOP, 0, 0, 0);
  } else if (answer <= HOOK_CHANGED) resumeAt(rip);
}

/** SHL and SHR of a register by a non-zero immediate. */
function shiftFast(s: usize, at: usize, a: u64, count: u64, wide: bool, left: bool): void {
  const top: u64 = wide ? 63 : 31;
  let r: u64;
  let carryOut: u64;
  let overflow: u64;
  if (left) {
    r = a << count;
    if (!wide) r &= 0xffffffff;
    carryOut = (a >> (top + 1 - count)) & 1;
    overflow = ((r >> top) ^ carryOut) & 1;
  } else {
    r = a >> count;
    carryOut = (a >> (count - 1)) & 1;
    overflow = count == 1 ? a >> top : 0;
  }
  store<u64>(at, r);
  const sized = wide ? r : r << 32;
  let value: u64 = carryOut | (overflow << 11);
  if (sized == 0) value |= 0x40;
  if (<i64>sized < 0) value |= 0x80;
  if ((popcnt<u64>(r & 0xff) & 1) == 0) value |= 4;
  store<u64>(s + (R_RFLAGS << 3), (load<u64>(s + (R_RFLAGS << 3)) & ~(<u64>0x8d5)) | value);
  store<u64>(s + (S_CC_OP << 3), 0);
}

// ---- events at an instruction boundary ----

/** Delivers what the host injected. */
function deliverInjection(): void {
  const info = <u32>reg(S_INJECT);
  setReg(S_INJECT, 0);
  const type = <i32>((info >> 8) & 7);
  const vector = <i32>(info & 0xff);
  const rip = reg(R_RIP);
  const soft = type == EVENT_TYPE_SOFT_INT || type == EVENT_TYPE_SOFT_EXCEPTION || type == EVENT_TYPE_PRIV_SOFT_EXCEPTION;
  const back = soft ? rip + reg(S_INJECT_LEN) : rip;
  setRips(rip, back);
  const rf = type == EVENT_TYPE_EXCEPTION ? reg(S_INJECT_LEN) & FLAG_RF : 0;
  deliver(vector, type, (info & EVENT_HAS_ERROR) != 0, <u32>reg(S_INJECT_ERROR), back, rf);
}

/** True if an exit window that the host asked for is open. */
function windowOpen(shadow: u64): bool {
  const window = reg(S_WINDOW);
  setRips(reg(R_RIP), reg(R_RIP));
  // On AMD the hypervisor single-steps over a shadow; the NMI window of Intel is open behind STI.
  const closed = isAmd() ? BLOCKED_BY_NMI | SHADOW_MOV_SS | SHADOW_STI : BLOCKED_BY_NMI | SHADOW_MOV_SS;
  if (window & WINDOW_NMI && (shadow & closed) == 0) {
    leave(EXIT_NMI_WINDOW, 0, 0, 0);
    return true;
  }
  if (window & WINDOW_INTERRUPT && (shadow & (SHADOW_STI | SHADOW_MOV_SS)) == 0 && (reg(R_RFLAGS) & FLAG_IF) != 0) {
    leave(EXIT_INTERRUPT_WINDOW, 0, 0, 0);
    return true;
  }
  return false;
}

/**
 * Runs vCPU `vcpu` for at most `budget` steps: delivers the injected event first. Returns the exit code, EXIT_*; the other exit
 * fields are in the state block.
 */
export function run(vcpu: i32, budget: i32): i32 {
  current = vcpu;
  selectVcpu(stateBaseOf + <usize>vcpu * STATE_STRIDE);
  begin(budget);
  // An access that the host completed belongs to an instruction that must finish before the next event.
  let unfinished = (reg(S_IOQ_COUNT) | reg(S_GRANTS)) != 0;
  if (unfinished) resumeAt(reg(R_RIP));

  for (;;) {
    if (brk & BRK_FAULT) {
      // A delivery is a step too, so that a handler that cannot be fetched ends with the budget. That of the last step's fault goes
      // beyond the budget and counts all the same: how steps are divided into runs must not show.
      setStepsLeft(stepsLeft - 1);
      unfinished = false;
      dropHits();
      deliverException();
      if ((brk & BRK_EXIT) == 0) {
        keepHits();
        // A breakpoint on the stack of its own handler comes again with every delivery: behind each the run may end.
        if (stepsLeft <= 0 && reg(S_PENDING_DEBUG) != 0) break;
      }
    }
    if (brk & BRK_EXIT) break;
    // Written by the host in a hook.
    const dirty = reg(S_DIRTY);
    if (dirty) adopt(dirty);
    if (!unfinished) {
      if (reg(S_INJECT) & EVENT_VALID) {
        if (stepsLeft <= 0) break;
        dropHits();
        deliverInjection();
        if (!failed()) keepHits();
        continue;
      }
      // MOV SS holds debug traps off until the next instruction is done (SDM vol. 3, 6.8.3).
      if (reg(S_PENDING_DEBUG) != 0 && (reg(S_INTERRUPTIBILITY) & SHADOW_MOV_SS) == 0) {
        setRips(reg(R_RIP), reg(R_RIP));
        raise(DB);
        continue;
      }
    }
    const shadow = reg(S_INTERRUPTIBILITY);
    if (!unfinished && reg(S_WINDOW) && windowOpen(shadow)) break;
    if (stepsLeft <= 0) break;
    clearBrk();

    const trap = (reg(R_RFLAGS) & FLAG_TF) != 0;
    const resume = (reg(R_RFLAGS) & FLAG_RF) != 0;
    const hold = shadow & (SHADOW_STI | SHADOW_MOV_SS);
    const watching = armed();
    const again = repeating;
    beginStep();
    if (!trap && (!resume || again) && hold == 0 && !unfinished && !watching) {
      if (resume) setReg(R_RFLAGS, reg(R_RFLAGS) & ~FLAG_RF);
      const first = tiered ? compiled() : 0;
      if (brk == 0) {
        interpret(first);
        if (brk == 0 && tiered) count();
      }
      if ((brk & BRK_EXIT) == 0) ioqDone();
      continue;
    }
    // One instruction: a shadow ends, a single-step trap follows, or a breakpoint may match.
    // On Intel MOV SS inhibits code breakpoints at the next instruction (SDM vol. 3, 6.8.3), on AMD it does not.
    if (watching && !resume && !unfinished && ((hold & SHADOW_MOV_SS) == 0 || isAmd())) {
      const rip = reg(R_RIP);
      const hits = hitCode(codeMode == 2 ? rip : (reg(R_BASE + SEG_CS) + rip) & 0xffffffff);
      if (hits) {
        setRips(rip, rip);
        setReg(S_PENDING_DEBUG, reg(S_PENDING_DEBUG) | hits);
        raise(DB);
        continue;
      }
    }
    dropHits();
    // RF counts for one instruction; what the instruction itself sets is for the next.
    if (resume) setReg(R_RFLAGS, reg(R_RFLAGS) & ~FLAG_RF);
    const others = stepsLeft - 1;
    setReg(S_STEPS, reg(S_STEPS) - others);
    setStepsLeft(1);
    const tiers = tiered;
    tiered = false;
    interpret(0);
    tiered = tiers;
    setReg(S_STEPS, reg(S_STEPS) + others);
    // A hook may have come before the instruction.
    const pending = stepsLeft > 0 && !failed();
    setStepsLeft(others + stepsLeft);
    if (resume && (pending || ((brk & BRK_EXIT) != 0 && (reg(S_EXIT_CODE) == EXIT_MMIO || reg(S_EXIT_CODE) == EXIT_ACCESS)))) {
      setReg(R_RFLAGS, reg(R_RFLAGS) | FLAG_RF);
    }
    if (pending) continue;
    if (failed()) {
      if ((brk & BRK_EXIT) == 0) ioqDone();
      continue;
    }
    ioqDone();
    unfinished = false;
    keepHits();
    // After MOV SS there is no single-step trap; a data breakpoint that it hit waits.
    const held = (reg(S_INTERRUPTIBILITY) & ~hold & SHADOW_MOV_SS) != 0;
    if (hold) setReg(S_INTERRUPTIBILITY, reg(S_INTERRUPTIBILITY) & ~hold);
    if (trap && !held && !trapTaken && !switched) setReg(S_PENDING_DEBUG, reg(S_PENDING_DEBUG) | DR6_BS);
  }

  flags();
  end();
  return <i32>reg(S_EXIT_CODE);
}
