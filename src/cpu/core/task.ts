// Task switches (SDM vol. 3, chapter 8): far JMP and CALL to a TSS or through a task gate, task gates of the IDT, IRET with NT. There are
// none in IA-32e mode.
//
// Under VMX and SVM a task switch is an exit that KVM intercepts and carries out in its emulator (kvm_task_switch); the guest sees the
// same, so the switch is made here and nobody counts an exit. Where the SDM leaves a choice KVM's is taken: a 16-bit TSS zero-extends the
// general registers and leaves FS and GS alone.
//
// Everything that can fault before the new task is committed is checked, or its pages probed, before anything changes. Faults behind that
// point belong to the new task and come before its first instruction; segment registers not loaded by then are unusable.

import {
  EXIT_MMIO, INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, R_ATTR, R_BASE, R_CR0, R_CR3, R_CR4, R_DR7, R_GDTR_BASE, R_RAX, R_RIP, R_SEL, SEG_CS,
  SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_LDTR, SEG_SS, SEG_TR, SHADOW_MOV_SS, SHADOW_STI, S_CPL, S_EXIT_CODE, S_EXIT_Q0, S_INTERRUPTIBILITY, S_PENDING_DEBUG,
} from './layout';
import {
  ATTR_CE, ATTR_CODE, ATTR_P, ATTR_RW, ATTR_S, ATTR_TYPE, ATTR_UNUSABLE, BRK_EXIT, CR0_PG, CR0_TS, CR4_PAE, FLAG_FIXED, FLAG_NT, FLAG_VM,
  GP, NP, TS, brk, computeMode, cpl, failed, flushTlb, leaveInternal, reg, reg32, setReg, setRips,
} from './state';
import { flags, setFlags } from './flags';
import { ldSys, loadPdptes, probeSys, stSys } from './mmu';
import {
  TSS_BUSY, TYPE_LDT, TYPE_TSS16, attrOf, baseOf, checkStackSegment, descHigh, descLow, dplOf, isCode, isConforming, isNull, limitOf,
  markAccessed, raiseSelector, readDescriptorOr, setCs, setFromDescriptor, setNull, setSegment, setVm86Segment,
} from './segment';
import { push } from './stack';
import { DR6_BT } from './debug';

export const BY_JUMP: i32 = 0;
export const BY_CALL: i32 = 1;
export const BY_IRET: i32 = 2;
export const BY_EVENT: i32 = 3;

/** The current step has switched tasks: a single-step trap that was due is gone with the old task. */
export let switched: bool = false;
export function noSwitch(): void {
  switched = false;
}

/** Set in a system descriptor's type if it is a 32-bit TSS. */
const TYPE_WIDE: u32 = 8;
/** L0-L3 and LE of DR7 end with the task (SDM vol. 3, 18.2.4). */
const DR7_LOCAL: u64 = 0x155;
/** Bits of EFLAGS that a TSS can load. */
const FLAGS_LOADED: u64 = 0x3f7fd5;

// The saved state of a task as consecutive fields of 2 or 4 bytes: EIP, EFLAGS, EAX … EDI, ES, CS, SS, DS, FS and GS (32-bit only), LDTR.
const FIRST16: u64 = 0xe;
const FIRST32: u64 = 0x20;
const F_EIP: i32 = 0;
const F_EFLAGS: i32 = 1;
const F_GPR: i32 = 2;
const F_SEGMENT: i32 = 10;
const CR3_FIELD: u64 = 0x1c;
const T_FIELD: u64 = 0x64;
const LIMIT16: u32 = 0x2b;
const LIMIT32: u32 = 0x67;

/** Fields of the new task, 32 bits each. */
const incoming: usize = memory.data(17 * 4);

// @ts-ignore: decorator
@inline function field(n: i32): u32 {
  return load<u32>(incoming + ((<usize>n) << 2));
}
// @ts-ignore: decorator
@inline function segments(wide: bool): i32 {
  return wide ? 6 : 4;
}
// @ts-ignore: decorator
@inline function at(base: u64, wide: bool, n: i32): u64 {
  return (base + (wide ? FIRST32 : FIRST16) + ((<u64>n) << (wide ? 2 : 1))) & 0xffffffff;
}
/** Address of the type byte of a TSS descriptor, which always lies in the GDT. */
function typeByte(selector: u32): u64 {
  return (reg(R_GDTR_BASE) + <u64>(selector & 0xfff8) + 5) & 0xffffffff;
}

/** Reads the TSS descriptor that a switch names into descLow/descHigh; `vector`(selector) if it is none or not (`busy`) in use, #NP(selector). */
export function findTask(selector: u32, vector: i32, busy: bool): bool {
  if ((selector & 4) != 0 || isNull(selector)) return raiseSelector(vector, selector);
  if (!readDescriptorOr(selector, vector)) return false;
  const kind = attrOf(descHigh) & (ATTR_S | ATTR_TYPE) & ~TYPE_WIDE;
  if (kind != (busy ? TYPE_TSS16 | TSS_BUSY : TYPE_TSS16)) return raiseSelector(vector, selector);
  if ((attrOf(descHigh) & ATTR_P) == 0) return raiseSelector(NP, selector);
  return true;
}

/**
 * Switches to the task whose TSS descriptor findTask() has accepted. `back` is the EIP and `image` the EFLAGS that the old task resumes
 * with; an error code goes onto the new task's stack. Sets RIP and nextRip. Check failed().
 */
export function switchTask(selector: u32, by: i32, back: u64, image: u64, hasError: bool, error: u32): void {
  exchange(selector, by, back, image, hasError, error);
  // No device is asked in the middle of a switch.
  if ((brk & BRK_EXIT) != 0 && reg(S_EXIT_CODE) == EXIT_MMIO) leaveInternal(INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM, reg(S_EXIT_Q0));
}

function exchange(selector: u32, by: i32, back: u64, image: u64, hasError: bool, error: u32): void {
  const low = descLow;
  const high = descHigh;
  const attr = attrOf(high);
  const wide = (attr & TYPE_WIDE) != 0;
  const base = baseOf(low, high);
  if (limitOf(low, high) < (wide ? LIMIT32 : LIMIT16)) {
    raiseSelector(TS, selector);
    return;
  }
  const oldSelector = reg32(R_SEL + SEG_TR);
  const oldBase = reg(R_BASE + SEG_TR);
  const oldWide = (reg32(R_ATTR + SEG_TR) & TYPE_WIDE) != 0;
  const nested = by == BY_CALL || by == BY_EVENT;

  const count = F_SEGMENT + segments(wide) + 1;
  for (let n = 0; n < count; n++) {
    store<u32>(incoming + ((<usize>n) << 2), <u32>ldSys(at(base, wide, n), wide ? 4 : 2));
    if (failed()) return;
  }
  const cr3 = wide ? ldSys((base + CR3_FIELD) & 0xffffffff, 4) : 0;
  if (failed()) return;
  const trap = wide && (ldSys((base + T_FIELD) & 0xffffffff, 2) & 1) != 0;
  if (failed()) return;
  const saved = F_SEGMENT + segments(oldWide);
  if (!probeSys(at(oldBase, oldWide, 0), saved << (oldWide ? 2 : 1))) return;
  if (nested && !probeSys(base, 2)) return;
  if (!nested && !probeSys(typeByte(oldSelector), 1)) return;
  if (by != BY_IRET && !probeSys(typeByte(selector), 1)) return;

  if (!nested) stSys(typeByte(oldSelector), 1, ldSys(typeByte(oldSelector), 1) & ~(<u64>TSS_BUSY));
  if (by == BY_IRET) image &= ~FLAG_NT;
  for (let n = 0; n < saved; n++) {
    const value = n == F_EIP ? back : n == F_EFLAGS ? image : n < F_SEGMENT ? reg(R_RAX + n - F_GPR) : reg(R_SEL + n - F_SEGMENT);
    stSys(at(oldBase, oldWide, n), oldWide ? 4 : 2, oldWide ? value & 0xffffffff : value & 0xffff);
  }
  if (nested) stSys(base & 0xffffffff, 2, <u64>oldSelector);
  if (by != BY_IRET) stSys(typeByte(selector), 1, <u64>((high >> 8) & 0xff) | TSS_BUSY);
  if (failed()) return;

  // Committed.
  switched = true;
  setSegment(SEG_TR, selector, base, limitOf(low, high), attr | TSS_BUSY);
  setReg(R_CR0, reg(R_CR0) | CR0_TS);
  setReg(R_DR7, reg(R_DR7) & ~DR7_LOCAL);
  // Shadows end with the old task, even if the new one faults before its first instruction.
  setReg(S_INTERRUPTIBILITY, reg(S_INTERRUPTIBILITY) & ~(<u64>(SHADOW_STI | SHADOW_MOV_SS)));
  setFlags((<u64>field(F_EFLAGS) & FLAGS_LOADED) | FLAG_FIXED | (nested ? FLAG_NT : 0));
  const eip = <u64>field(F_EIP);
  setReg(R_RIP, eip);
  setRips(eip, eip);
  for (let n = 0; n < 8; n++) setReg(R_RAX + n, <u64>field(F_GPR + n));
  if (wide && (reg(R_CR0) & CR0_PG) != 0) {
    setReg(R_CR3, cr3);
    flushTlb();
  }
  const vm86 = (flags() & FLAG_VM) != 0;
  const level = vm86 ? 3 : <i32>(field(F_SEGMENT + SEG_CS) & 3);
  for (let seg = 0; seg < segments(wide); seg++) {
    const value = field(F_SEGMENT + seg) & 0xffff;
    if (vm86) setVm86Segment(seg, value);
    else setSegment(seg, value, 0, 0, ATTR_UNUSABLE | (seg == SEG_SS ? <u32>level << 5 : 0));
  }
  setNull(SEG_LDTR, field(F_SEGMENT + segments(wide)), 0);
  setReg(S_CPL, <u64>level);
  computeMode();
  if (wide && (reg(R_CR0) & CR0_PG) != 0 && (reg(R_CR4) & CR4_PAE) != 0 && !loadPdptes(cr3)) return;
  if (!loadTaskLdt(field(F_SEGMENT + segments(wide)) & 0xffff)) return;
  if (!vm86 && !loadTaskSegments(wide, level)) return;
  computeMode();
  if (trap) setReg(S_PENDING_DEBUG, reg(S_PENDING_DEBUG) | DR6_BT);
  if (hasError) push(<u64>error, wide ? 2 : 1);
}

function loadTaskLdt(selector: u32): bool {
  if (isNull(selector)) return true;
  if (selector & 4) return raiseSelector(TS, selector);
  if (!readDescriptorOr(selector, TS)) return false;
  const attr = attrOf(descHigh);
  if ((attr & (ATTR_S | ATTR_TYPE)) != TYPE_LDT || (attr & ATTR_P) == 0) return raiseSelector(TS, selector);
  setSegment(SEG_LDTR, selector, baseOf(descLow, descHigh), limitOf(descLow, descHigh), attr);
  return true;
}

function loadTaskSegments(wide: bool, level: i32): bool {
  const cs = field(F_SEGMENT + SEG_CS) & 0xffff;
  if (isNull(cs)) return raiseSelector(TS, cs);
  if (!readDescriptorOr(cs, TS)) return false;
  const dpl = dplOf(descHigh);
  if (!isCode(descHigh) || (isConforming(descHigh) ? dpl > level : dpl != level)) return raiseSelector(TS, cs);
  if ((attrOf(descHigh) & ATTR_P) == 0) return raiseSelector(NP, cs);
  if (!markAccessed(cs, descHigh)) return false;
  setCs(cs, descLow, descHigh, level);

  const ss = field(F_SEGMENT + SEG_SS) & 0xffff;
  if (isNull(ss)) return raiseSelector(TS, ss);
  if (!checkStackSegment(ss, level, TS) || !markAccessed(ss, descHigh)) return false;
  setFromDescriptor(SEG_SS, ss, descLow, descHigh);

  if (!loadTaskData(SEG_DS) || !loadTaskData(SEG_ES)) return false;
  return !wide || (loadTaskData(SEG_FS) && loadTaskData(SEG_GS));
}

function loadTaskData(seg: i32): bool {
  const selector = field(F_SEGMENT + seg) & 0xffff;
  if (isNull(selector)) return true;
  if (!readDescriptorOr(selector, TS)) return false;
  const attr = attrOf(descHigh);
  if ((attr & ATTR_S) == 0 || (attr & (ATTR_CODE | ATTR_RW)) == ATTR_CODE) return raiseSelector(TS, selector);
  if ((attr & (ATTR_CODE | ATTR_CE)) != (ATTR_CODE | ATTR_CE)) {
    const dpl = dplOf(descHigh);
    if (dpl < cpl || dpl < <i32>(selector & 3)) return raiseSelector(TS, selector);
  }
  if ((attr & ATTR_P) == 0) return raiseSelector(NP, selector);
  if (!markAccessed(selector, descHigh)) return false;
  setFromDescriptor(seg, selector, descLow, descHigh);
  return true;
}

/** Far JMP or CALL to the TSS or task gate in descLow/descHigh, which `selector` names. `back`: EIP to save. */
export function farTask(selector: u32, gate: bool, call: bool, back: u64): void {
  const dpl = dplOf(descHigh);
  if (dpl < cpl || dpl < <i32>(selector & 3)) {
    raiseSelector(GP, selector);
    return;
  }
  if ((attrOf(descHigh) & ATTR_P) == 0) {
    raiseSelector(NP, selector);
    return;
  }
  const task = gate ? descLow >> 16 : selector;
  if (findTask(task, GP, false)) switchTask(task, call ? BY_CALL : BY_JUMP, back, flags(), false, 0);
}

/** IRET with NT: back to the task that the current TSS links to. */
export function returnToTask(back: u64): void {
  const link = <u32>ldSys(reg(R_BASE + SEG_TR) & 0xffffffff, 2);
  if (!failed() && findTask(link, TS, true)) switchTask(link, BY_IRET, back, flags(), false, 0);
}
