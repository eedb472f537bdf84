// System instructions: control and debug registers, descriptor-table registers, the MSRs the CPU owns, RFLAGS with IOPL, port permission
// (SDM vol. 2 and vol. 3, chapters 2 and 5).
//
// All raise through state.ts and change nothing when they fault. EFER, TSC and everything of the APIC belong to the host: RDMSR and
// WRMSR of an MSR that is not listed here are exits. EFER.LMA follows CR0.PG here.

import {
  EXIT_INVLPG, EXIT_MOV_CR3, INTERCEPT_INVLPG, INTERCEPT_MOV_CR3, R_ATTR, R_BASE, R_CR0, R_CR2, R_CR3, R_CR4, R_CSTAR, R_DR0,
  R_DR6, R_DR7, R_EFER, R_FMASK, R_GDTR_BASE, R_GDTR_LIMIT, R_IDTR_BASE, R_IDTR_LIMIT, R_KERNEL_GS_BASE, R_LIMIT, R_LSTAR, R_RFLAGS,
  R_SEL, R_STAR, R_SYSENTER_CS, R_SYSENTER_EIP, R_SYSENTER_ESP, R_TSC_AUX, SEG_CS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SHADOW_STI,
  S_INTERCEPT, S_HIDDEN, S_INTERRUPTIBILITY, S_MAXLINADDR, S_PENDING_DEBUG, R_PKRU, R_RAX, R_RCX, R_RDX,
} from './layout';
import {
  ATTR_L, ATTR_TYPE, ATTR_UNUSABLE, BRK_LOOKUP, CR0_AM, CR0_CD, CR0_EM, CR0_ET, CR0_MP, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR0_TS, CR0_WP,
  CR4_DE, CR4_FSGSBASE, CR4_LA57, CR4_MCE, CR4_PCIDE, CR4_PKE, CR4_PVI, CR4_SMAP, CR4_SMEP, CR4_UMIP, CR4_VME, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE, CR4_PAE, CR4_PCE, CR4_PGE, CR4_PSE, CR4_TSD, DB, EFER_LMA, EFER_LME, FLAG_AC, FLAG_ID, FLAG_IF, FLAG_IOPL, FLAG_RF, FLAG_TF, FLAG_VIF, FLAG_VIP,
  FLAG_VM, GP, UD, codeMode, computeMode, cpl, failed, flushTlb, isAmd, isCanonicalBase, leave, longMode, protectedMode, raise,
  raiseError, reg, reg32, reservedPhysicalBits, setBrk, setReg, updateChecks,
} from './state';
import { flags, setFlags } from './flags';
import { flushPage, ld16, ld32, ld64, ldSys, loadPdptes, st16, st32, st64 } from './mmu';
import { TYPE_TSS16, TYPE_TSS32, loadLdtr, loadTr } from './segment';
import { push } from './stack';
import { DR6_BD, DR7_GD } from './debug';

/** The bits of CR4 that can be set: what this CPU implements. All others are reserved. */
export const SUPPORTED_CR4: u64 =
  CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_LA57 | CR4_FSGSBASE |
  CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE;
/** The bits of CR0 that can be changed; ET is always 1. */
const CR0_WRITABLE: u64 =
  CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/** #GP(0) unless at CPL 0. */
export function requireCpl0(): bool {
  if (cpl == 0) return true;
  raiseError(GP, 0);
  return false;
}

/** True in virtual-8086 mode. */
// @ts-ignore: decorator
@inline function inVm86(): bool {
  return (reg(R_RFLAGS) & FLAG_VM) != 0;
}
// @ts-ignore: decorator
@inline function iopl(): i32 {
  return <i32>((reg(R_RFLAGS) & FLAG_IOPL) >> 12);
}

// ---- control registers ----

/** Sets CR0 after all checks of MOV to CR0; enters and leaves IA-32e mode (SDM vol. 3, 9.8.5). */
function writeCr0(value: u64): void {
  if (value >> 32) {
    raiseError(GP, 0);
    return;
  }
  value = (value & CR0_WRITABLE) | CR0_ET;
  const old = reg(R_CR0);
  const changed = old ^ value;
  const efer = reg(R_EFER);
  const cr4 = reg(R_CR4);
  let bad = (value & (CR0_PG | CR0_PE)) == CR0_PG || (value & (CR0_NW | CR0_CD)) == CR0_NW;
  if ((changed & CR0_PG) != 0 && (efer & EFER_LME) != 0) {
    if (value & CR0_PG) {
      const tss = reg32(R_ATTR + SEG_TR) & ATTR_TYPE;
      bad = bad || (cr4 & CR4_PAE) == 0 || (reg32(R_ATTR + SEG_CS) & ATTR_L) != 0 || tss == TYPE_TSS16 || tss == (TYPE_TSS16 | 2);
    } else bad = bad || codeMode == 2;
  }
  if ((value & CR0_PG) == 0 && (cr4 & CR4_PCIDE) != 0) bad = true;
  if (bad) {
    raiseError(GP, 0);
    return;
  }
  // In PAE paging a change of PG, CD or NW reloads the PDPTEs (SDM vol. 3, 4.4.1).
  const reload: bool = (changed & (CR0_PG | CR0_CD | CR0_NW)) != 0;
  if (reload && (value & CR0_PG) != 0 && (cr4 & CR4_PAE) != 0 && (efer & EFER_LME) == 0) {
    if (!loadPdptes(reg(R_CR3))) return;
  }
  setReg(R_CR0, value);
  if ((changed & CR0_PG) != 0 && (efer & EFER_LME) != 0) {
    setReg(R_EFER, value & CR0_PG ? efer | EFER_LMA : efer & ~EFER_LMA);
  }
  // A change of WP drops translations only where it matters: see S_OPEN.
  if (changed & (CR0_PG | CR0_PE)) flushTlb();
  computeMode();
}

function writeCr3(value: u64): void {
  if (longMode) {
    // With PCIDs, bit 63 allows translations to stay; they go all the same.
    if (reg(R_CR4) & CR4_PCIDE) value &= ~((<u64>1) << 63);
    if (value & reservedPhysicalBits()) {
      raiseError(GP, 0);
      return;
    }
  } else value &= 0xffffffff;
  if (reg(S_INTERCEPT) & INTERCEPT_MOV_CR3) {
    leave(EXIT_MOV_CR3, 0, 0, value);
    return;
  }
  if (!longMode && (reg(R_CR0) & CR0_PG) != 0 && (reg(R_CR4) & CR4_PAE) != 0) {
    if (!loadPdptes(value)) return;
  }
  setReg(R_CR3, value);
  flushTlb();
}

/** Bits of CR4 that change what translations mean. */
const CR4_PAGING: u64 = CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE;
/** Those that also reload the PDPTEs in PAE paging (SDM vol. 3, 4.4.1). */
const CR4_PDPTES: u64 = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;

function writeCr4(value: u64): void {
  const changed = reg(R_CR4) ^ value;
  let bad = (value & (~SUPPORTED_CR4 | <u64>reg32(S_HIDDEN))) != 0 || ((value & CR4_LA57) != 0 && reg(S_MAXLINADDR) < 57);
  if (longMode) bad = bad || (value & CR4_PAE) == 0 || (changed & CR4_LA57) != 0;
  if (value & changed & CR4_PCIDE) bad = bad || !longMode || (reg(R_CR3) & 0xfff) != 0;
  if (bad) {
    raiseError(GP, 0);
    return;
  }
  if ((changed & CR4_PDPTES) != 0 && !longMode && (reg(R_CR0) & CR0_PG) != 0 && (value & CR4_PAE) != 0) {
    if (!loadPdptes(reg(R_CR3))) return;
  }
  setReg(R_CR4, value);
  if (changed & CR4_PAGING) flushTlb();
}

/** True for CR0, CR2, CR3, CR4 and CR8; #UD for others. */
export function controlRegister(cr: i32): bool {
  if (cr == 0 || (cr >= 2 && cr <= 4) || cr == 8) return true;
  raise(UD);
  return false;
}

/** MOV to CR0, CR2, CR3 or CR4 at CPL 0. `value` is already truncated to 32 bits outside 64-bit mode. */
export function movToCr(cr: i32, value: u64): void {
  switch (cr) {
    case 0: writeCr0(value); break;
    case 2: setReg(R_CR2, value); break;
    case 3: writeCr3(value); break;
    default: writeCr4(value); break;
  }
}

/** MOV from CR0, CR2, CR3 or CR4. */
export function movFromCr(cr: i32): u64 {
  switch (cr) {
    case 0: return reg(R_CR0);
    case 2: return reg(R_CR2);
    case 3: return reg(R_CR3);
    default: return reg(R_CR4);
  }
}

/** LMSW: sets PE, MP, EM and TS from the low four bits; PE cannot be cleared. */
export function lmsw(value: u32): void {
  if (!requireCpl0()) return;
  const old = reg(R_CR0);
  writeCr0((old & ~14) | <u64>(value & 15));
}

/** The machine status word, as SMSW stores it: CR0. */
export function smsw(): u64 {
  return reg(R_CR0);
}

export function clts(): void {
  if (requireCpl0()) setReg(R_CR0, reg(R_CR0) & ~CR0_TS);
}

/** INVLPG of a linear address. Drops all translations, which the SDM allows. */
export function invlpg(address: u64): void {
  if (!requireCpl0()) return;
  if (reg(S_INTERCEPT) & INTERCEPT_INVLPG) leave(EXIT_INVLPG, address, 0, 0);
  else flushPage(address);
}

/** INVPCID with its descriptor at a linear address. Drops all translations, which the SDM allows. #GP(0) for what the type does not allow. */
export function invpcid(type: u64, at: u64): void {
  if (!requireCpl0()) return;
  if (type > 3) {
    raiseError(GP, 0);
    return;
  }
  const pcid = ld64(at);
  if (failed()) return;
  const linear = ld64(after(at, 8));
  if (failed()) return;
  let bad = (pcid >> 12) != 0;
  if (type < 2) bad = bad || (pcid != 0 && (reg(R_CR4) & CR4_PCIDE) == 0);
  if (type == 0) bad = bad || !isCanonicalBase(linear);
  if (bad) raiseError(GP, 0);
  else flushTlb();
}

/** CLAC and STAC. #UD above CPL 0. */
export function setAc(on: bool): void {
  if (cpl != 0) {
    raise(UD);
    return;
  }
  setReg(R_RFLAGS, on ? reg(R_RFLAGS) | FLAG_AC : reg(R_RFLAGS) & ~FLAG_AC);
  updateChecks();
}

/** RDPKRU and WRPKRU: #UD without CR4.PKE, #GP(0) unless ECX (and for WRPKRU EDX) is 0. */
export function pkru(write: bool): void {
  if ((reg(R_CR4) & CR4_PKE) == 0) {
    raise(UD);
    return;
  }
  if (reg32(R_RCX) != 0 || (write && reg32(R_RDX) != 0)) {
    raiseError(GP, 0);
    return;
  }
  if (write) {
    setReg(R_PKRU, reg(R_RAX) & 0xffffffff);
    flushTlb();
  } else {
    setReg(R_RAX, reg(R_PKRU));
    setReg(R_RDX, 0);
  }
}

/** UMIP: #GP(0) for SGDT, SIDT, SLDT, STR and SMSW above CPL 0 (SDM vol. 3, 2.5). */
export function tablesVisible(): bool {
  if (cpl == 0 || (reg(R_CR4) & CR4_UMIP) == 0) return true;
  raiseError(GP, 0);
  return false;
}

// ---- debug registers (SDM vol. 3, 17.2) ----

const DR6_FIXED: u64 = 0xffff0ff0;
const DR6_WRITABLE: u64 = 0xe00f;
const DR7_FIXED: u64 = 0x400;
const DR7_WRITABLE: u64 = 0xffff23ff;

/** Number of the register that MOV DRn names, 4 and 5 being 6 and 7 without CR4.DE; -1 with a fault pending. */
function debugRegister(dr: i32): i32 {
  if (dr > 7) {
    raise(UD);
    return -1;
  }
  if (!requireCpl0()) return -1;
  if ((dr == 4 || dr == 5) && (reg(R_CR4) & CR4_DE) != 0) {
    raise(UD);
    return -1;
  }
  if (reg(R_DR7) & DR7_GD) {
    setReg(S_PENDING_DEBUG, reg(S_PENDING_DEBUG) | DR6_BD);
    raise(DB);
    return -1;
  }
  return dr == 4 || dr == 5 ? dr + 2 : dr;
}

/** MOV to DRn; bits 63:32 of DR6 and DR7 must be 0. */
export function movToDr(dr: i32, value: u64): void {
  const n = debugRegister(dr);
  if (n < 0) return;
  if (n < 4) setReg(R_DR0 + n, value);
  else if (value >> 32) raiseError(GP, 0);
  else if (n == 6) setReg(R_DR6, (value & DR6_WRITABLE) | DR6_FIXED);
  else {
    setReg(R_DR7, (value & DR7_WRITABLE) | DR7_FIXED);
    updateChecks();
  }
  setBrk(BRK_LOOKUP);
}

/** MOV from DRn. Check failed(). */
export function movFromDr(dr: i32): u64 {
  const n = debugRegister(dr);
  if (n < 0) return 0;
  return n < 4 ? reg(R_DR0 + n) : n == 6 ? reg(R_DR6) : reg(R_DR7);
}

// ---- GDTR, IDTR, LDTR, TR ----

/** Address of byte `bytes` after `at`, wrapped outside 64-bit mode. */
function after(at: u64, bytes: u64): u64 {
  return codeMode == 2 ? at + bytes : (at + bytes) & 0xffffffff;
}

/** LGDT, LIDT from a linear address: 16-bit limit, then a base of 24 (16-bit operand size), 32 or 64 bits (64-bit mode). */
function loadTable(baseSlot: i32, limitSlot: i32, at: u64, sizeLog2: i32): void {
  if (!requireCpl0()) return;
  const wide = codeMode == 2;
  const limit = ld16(at);
  if (failed()) return;
  let base = wide ? ld64(after(at, 2)) : ld32(after(at, 2));
  if (failed()) return;
  if (wide && !isCanonicalBase(base)) {
    raiseError(GP, 0);
    return;
  }
  if (!wide && sizeLog2 == 1) base &= 0xffffff;
  setReg(baseSlot, base);
  setReg(limitSlot, limit);
}
/** SGDT, SIDT to a linear address: always the whole base, whatever the operand size. */
function storeTable(baseSlot: i32, limitSlot: i32, at: u64): void {
  const wide = codeMode == 2;
  st16(at, reg(limitSlot));
  if (failed()) return;
  if (wide) st64(after(at, 2), reg(baseSlot));
  else st32(after(at, 2), reg(baseSlot) & 0xffffffff);
}

export function lgdt(at: u64, sizeLog2: i32): void {
  loadTable(R_GDTR_BASE, R_GDTR_LIMIT, at, sizeLog2);
}
export function lidt(at: u64, sizeLog2: i32): void {
  loadTable(R_IDTR_BASE, R_IDTR_LIMIT, at, sizeLog2);
}
export function sgdt(at: u64): void {
  storeTable(R_GDTR_BASE, R_GDTR_LIMIT, at);
}
export function sidt(at: u64): void {
  storeTable(R_IDTR_BASE, R_IDTR_LIMIT, at);
}

/** #UD outside protected mode: LLDT, LTR, SLDT, STR, VERR, VERW, LAR, LSL. */
export function requireProtected(): bool {
  if (protectedMode) return true;
  raise(UD);
  return false;
}

export function lldt(selector: u32): void {
  if (requireProtected() && requireCpl0()) loadLdtr(selector);
}
export function ltr(selector: u32): void {
  if (requireProtected() && requireCpl0()) loadTr(selector);
}
/** Selector of the LDT. Check failed(). */
export function sldt(): u64 {
  return requireProtected() ? reg(R_SEL + SEG_LDTR) : 0;
}
/** Selector of the TSS. Check failed(). */
export function str(): u64 {
  return requireProtected() ? reg(R_SEL + SEG_TR) : 0;
}

// ---- MSRs that live in the CPU ----

const MSR_SYSENTER_CS: u32 = 0x174;
const MSR_SYSENTER_ESP: u32 = 0x175;
const MSR_SYSENTER_EIP: u32 = 0x176;
const MSR_STAR: u32 = 0xc0000081;
const MSR_LSTAR: u32 = 0xc0000082;
const MSR_CSTAR: u32 = 0xc0000083;
const MSR_FMASK: u32 = 0xc0000084;
const MSR_FS_BASE: u32 = 0xc0000100;
const MSR_GS_BASE: u32 = 0xc0000101;
const MSR_KERNEL_GS_BASE: u32 = 0xc0000102;
const MSR_TSC_AUX: u32 = 0xc0000103;

/** Slot of an MSR the CPU owns, or -1. */
function msrSlot(msr: u32): i32 {
  switch (msr) {
    case MSR_SYSENTER_CS: return R_SYSENTER_CS;
    case MSR_SYSENTER_ESP: return R_SYSENTER_ESP;
    case MSR_SYSENTER_EIP: return R_SYSENTER_EIP;
    case MSR_STAR: return R_STAR;
    case MSR_LSTAR: return R_LSTAR;
    case MSR_CSTAR: return R_CSTAR;
    case MSR_FMASK: return R_FMASK;
    case MSR_FS_BASE: return R_BASE + SEG_FS;
    case MSR_GS_BASE: return R_BASE + SEG_GS;
    case MSR_KERNEL_GS_BASE: return R_KERNEL_GS_BASE;
    case MSR_TSC_AUX: return R_TSC_AUX;
  }
  return -1;
}

let msrRead: u64 = 0;
/** The value of the last ownRdmsr() that returned true. */
export function msrValue(): u64 {
  return msrRead;
}

/** RDMSR at CPL 0 (checked by the caller) of an MSR the CPU owns; false if it is the host's. */
export function ownRdmsr(msr: u32): bool {
  const slot = msrSlot(msr);
  if (slot < 0) return false;
  msrRead = reg(slot);
  return true;
}

/**
 * WRMSR at CPL 0 (checked by the caller) of an MSR the CPU owns; false if it is the host's. Check failed().
 * Addresses must be canonical. AMD ignores bits 63:32 of SYSENTER_ESP, SYSENTER_EIP, FMASK and TSC_AUX; on Intel they are checked
 * (the first two as addresses, the others as reserved bits).
 */
export function ownWrmsr(msr: u32, value: u64): bool {
  const slot = msrSlot(msr);
  if (slot < 0) return false;
  switch (msr) {
    case MSR_SYSENTER_CS:
      value &= 0xffffffff;
      break;
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
      if (isAmd()) value &= 0xffffffff;
      else if (!isCanonicalBase(value)) raiseError(GP, 0);
      break;
    case MSR_FMASK:
    case MSR_TSC_AUX:
      if (isAmd()) value &= 0xffffffff;
      else if (value >> 32) raiseError(GP, 0);
      break;
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
      if (!isCanonicalBase(value)) raiseError(GP, 0);
      break;
  }
  if (failed()) return true;
  setReg(slot, value);
  if (msr == MSR_FS_BASE || msr == MSR_GS_BASE) computeMode();
  return true;
}

// ---- RFLAGS and IOPL; virtual interrupts (SDM vol. 3, 21.3 and 21.4) ----

/** The flag that CLI and STI act on: IF, VIF under CR4.VME or CR4.PVI, or 0 with #GP(0) pending. */
function interruptFlag(): u64 {
  const vm86 = inVm86();
  if (vm86 ? iopl() == 3 : !protectedMode || cpl <= iopl()) return FLAG_IF;
  if (cpl == 3 && (reg(R_CR4) & (vm86 ? CR4_VME : CR4_PVI)) != 0) return FLAG_VIF;
  raiseError(GP, 0);
  return 0;
}

export function cli(): void {
  const flag = interruptFlag();
  if (flag) setReg(R_RFLAGS, reg(R_RFLAGS) & ~flag);
}

/** STI: if IF was 0, interrupts wait one more instruction. VIF cannot be set while VIP is. */
export function sti(): void {
  const flag = interruptFlag();
  if (!flag) return;
  if (flag == FLAG_VIF) {
    if (reg(R_RFLAGS) & FLAG_VIP) raiseError(GP, 0);
    else setReg(R_RFLAGS, reg(R_RFLAGS) | FLAG_VIF);
    return;
  }
  if ((reg(R_RFLAGS) & FLAG_IF) == 0) {
    setReg(R_RFLAGS, reg(R_RFLAGS) | FLAG_IF);
    setReg(S_INTERRUPTIBILITY, reg(S_INTERRUPTIBILITY) | <u64>SHADOW_STI);
  }
  setBrk(BRK_LOOKUP);
}

/** In virtual-8086 mode below IOPL 3: flags as the program sees them, with IF in VIF and IOPL 3. */
export function virtualFlags(): u64 {
  const real = flags();
  return (real & ~FLAG_IF) | FLAG_IOPL | ((real & FLAG_VIF) != 0 ? FLAG_IF : 0);
}
/** Virtual-8086 mode below IOPL 3: may POPF or IRET load this image? Only 16 bits, with CR4.VME, no TF, and no IF while VIP is set. #GP(0). */
export function virtualFlagsAllowed(image: u64, sizeLog2: i32): bool {
  const pending = (image & FLAG_IF) != 0 && (reg(R_RFLAGS) & FLAG_VIP) != 0;
  if ((reg(R_CR4) & CR4_VME) != 0 && sizeLog2 == 1 && (image & FLAG_TF) == 0 && !pending) return true;
  raiseError(GP, 0);
  return false;
}
/** Loads an image that virtualFlagsAllowed() has accepted: IF goes to VIF, IF and IOPL stay. */
export function setVirtualFlags(image: u64): void {
  const mask: u64 = 0x4dd5;
  const rest = flags() & ~(mask | FLAG_RF | FLAG_VIF);
  setFlags(rest | (image & mask) | ((image & FLAG_IF) != 0 ? FLAG_VIF : 0));
}

/** PUSHF with operand size 1 << sizeLog2: VM and RF are pushed as 0. #GP(0) in virtual-8086 mode below IOPL 3 but for CR4.VME. Check failed(). */
export function pushFlags(sizeLog2: i32): void {
  if (!inVm86() || iopl() == 3) push(flags() & ~(FLAG_VM | FLAG_RF), sizeLog2);
  else if ((reg(R_CR4) & CR4_VME) != 0 && sizeLog2 == 1) push(virtualFlags(), sizeLog2);
  else raiseError(GP, 0);
}

/** POPF with operand size 1 << sizeLog2: which bits change depends on CPL and IOPL (SDM vol. 2, POPF). Check failed(). */
export function popFlags(value: u64, sizeLog2: i32): void {
  const vm86 = inVm86();
  if (vm86 && iopl() != 3) {
    if (virtualFlagsAllowed(value, sizeLog2)) setVirtualFlags(value);
    return;
  }
  let mask: u64 = 0x4dd5 | FLAG_AC | FLAG_ID;
  if (vm86 || !protectedMode || cpl <= iopl()) mask |= FLAG_IF;
  if (!vm86 && cpl == 0) mask |= FLAG_IOPL;
  if (sizeLog2 == 1) mask &= 0xffff;
  setFlags((flags() & ~(mask | FLAG_RF)) | (value & mask));
  updateChecks();
  setBrk(BRK_LOOKUP);
}

// ---- ports ----

/** True if IN, OUT, INS or OUTS of `size` bytes at `port` is allowed: IOPL, else the bitmap of the TSS (SDM vol. 1, 19.5). #GP(0) if not. */
export function ioAllowed(port: u32, size: i32): bool {
  if (!inVm86() && (!protectedMode || cpl <= iopl())) return true;
  const attr = reg32(R_ATTR + SEG_TR);
  const limit = reg(R_LIMIT + SEG_TR);
  if ((attr & ATTR_UNUSABLE) == 0 && (attr & ATTR_TYPE & ~2) == TYPE_TSS32 && limit >= 103) {
    const base = reg(R_BASE + SEG_TR);
    const at = ldSys(base + 102, 2) + <u64>(port >> 3);
    if (failed()) return false;
    // Two bytes are always read, so that an access may cross a byte of the map.
    if (at + 1 <= limit) {
      const bits = <u32>ldSys(base + at, 2) >> (port & 7);
      if (failed()) return false;
      if ((bits & ((1 << size) - 1)) == 0) return true;
    }
  }
  raiseError(GP, 0);
  return false;
}
