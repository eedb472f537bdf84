/**
 * The states in which virtual CPUs start: what firmware would have left behind. One table of addresses and selectors;
 * `guest/include` builds the same GDT for guests that boot themselves from reset.
 *
 * Low memory, as every mode but `reset` and `real16` uses it:
 *
 *     0x01000           default origin of programs
 *     0x70000 … 0x75fff page tables: PML4, PDPT, page directories for the gigabytes 0 to 3
 *     0x76000           GDT
 *     0x77000           parking loop of halted application processors: HLT, JMP
 *     top of RAM        one 8 KiB block per vCPU, vCPU 0 uppermost: TSS, user stack, kernel stack
 */

import * as R from '../cpu/core/layout.ts';
import type { Cpu, CpuState } from '../cpu/cpu.ts';
import { KvmscopeError } from '../errors.ts';
import type { StartMode } from './types.ts';

export const BOOT_LAYOUT = {
  /** Where programs go that say nothing else. */
  origin: 0x1000,
  /** First byte and end of what boot state occupies below 1 MiB. */
  start: 0x70000,
  end: 0x78000,
  pml4: 0x70000,
  pdpt: 0x71000,
  /** Four pages, one per gigabyte below 4 GiB. */
  pageDirectories: 0x72000,
  gdt: 0x76000,
  /** GDT limit; the last descriptor is the 16-byte TSS. */
  gdtLimit: 0x4f,
  /** HLT; JMP back. Halted application processors have executed the HLT. */
  park: 0x77000,
  /** Reset vector of mode `reset`; holds a far jump to the program's entry unless the program covers it. */
  resetVector: 0xffff0,
  /** Bytes per vCPU at the top of RAM. */
  vcpuBlock: 0x2000,
  /** Offset of the 64-bit (or 32-bit) TSS in a vCPU's block. */
  tss: 0,
  /** Offset of the end of the stack used at CPL 3. */
  userStack: 0x1000,
  /** Offset of the end of the stack used at CPL 0, also RSP0 of the TSS. */
  kernelStack: 0x2000,
  /** Page tables map at least this much from address 0. */
  mapped: 0x1000000,
  /** I/O APIC and local APIC pages, mapped uncached by two 2 MiB pages. */
  apicWindow: 0xfec00000,
  /** real16: SS:SP of vCPU 0 is 0:0xFFF0; vCPU n > 0 has SS = realStack + (n - 1) % 384 * 0x40 and SP = 0x400. */
  realStack: 0x1000,
} as const;

/** Selectors of the boot GDT. SYSCALL with STAR[47:32] = 0x08 and SYSRET with STAR[63:48] = 0x20 fit this order. */
export const SELECTOR = {
  code64: 0x08,
  data: 0x10,
  code32: 0x18,
  userCode32: 0x23,
  userData: 0x2b,
  userCode64: 0x33,
  code16: 0x38,
  tss: 0x40,
} as const;

// Access rights in VMX format (SDM vol. 3, 24.4.1) and the descriptors that hold them.
const ACCESSED_CODE = 0x9b;
const ACCESSED_DATA = 0x93;
const DPL3 = 0x60;
const LONG = 0x2000;
const BIG = 0x4000;
const GRANULAR = 0x8000;
const BUSY_TSS = 0x8b;
const UNUSABLE = 0x10000;

const FLAT = 0xffffffff;

/** Descriptor of the GDT by index: access rights and whether the limit is 4 GiB or 64 KiB. */
const GDT: readonly { readonly attr: number; readonly limit: number }[] = [
  { attr: 0, limit: 0 },
  { attr: ACCESSED_CODE | LONG | GRANULAR, limit: FLAT },
  { attr: ACCESSED_DATA | BIG | GRANULAR, limit: FLAT },
  { attr: ACCESSED_CODE | BIG | GRANULAR, limit: FLAT },
  { attr: ACCESSED_CODE | DPL3 | BIG | GRANULAR, limit: FLAT },
  { attr: ACCESSED_DATA | DPL3 | BIG | GRANULAR, limit: FLAT },
  { attr: ACCESSED_CODE | DPL3 | LONG | GRANULAR, limit: FLAT },
  { attr: ACCESSED_CODE, limit: 0xffff },
];

const TSS_LIMIT = 0x67;

const PAGE_PRESENT = 0x1;
const PAGE_WRITABLE = 0x2;
const PAGE_USER = 0x4;
const PAGE_CACHE_DISABLED = 0x10;
const PAGE_2M = 0x80;

const CR0_PE = 0x1;
const CR0_ET = 0x10;
const CR0_NE = 0x20;
const CR0_WP = 0x10000;
const CR0_PG = 0x80000000;
const CR4_PAE = 0x20;
const EFER_SCE = 0x1;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
const EFER_NXE = 0x800;
const RFLAGS_FIXED = 0x2;
/** CPL-3 programs reach the report and debug-exit ports. */
const RFLAGS_IOPL3 = 0x3000;
/** CR0 after reset without CD and NW: caches on. */
const CR0_REAL = CR0_ET;

export interface BootOptions {
  readonly mode: StartMode;
  readonly cpl: 0 | 3;
  /** Guest-physical address of the first instruction. */
  readonly entry: number;
}

/** True for the modes that need page tables, a GDT and stacks in guest RAM. */
export const needsBootTables = (mode: StartMode): boolean => mode !== 'reset' && mode !== 'real16';

/** First byte of a vCPU's block at the top of RAM. */
export const vcpuBlock = (memory: number, index: number): number => memory - (index + 1) * BOOT_LAYOUT.vcpuBlock;

/** Bytes of RAM that the boot state of `vcpus` vCPUs needs at least. */
export const bootMemory = (vcpus: number): number => 0x100000 + vcpus * BOOT_LAYOUT.vcpuBlock;

/** Throws KvmscopeError('memory') if the entry point cannot be reached in `mode`. */
export function checkEntry(mode: StartMode, entry: number): void {
  if (!needsBootTables(mode) && entry > 0xffff) {
    throw new KvmscopeError(
      'memory',
      `entry point 0x${entry.toString(16)} is above 0xffff, out of reach in mode ${mode}`,
    );
  }
}

/** Writes page tables, GDT, TSSs and the parking loop, or the reset vector's jump, into guest RAM. */
export function writeBootTables(cpu: Cpu, options: BootOptions, covered: (address: number) => boolean): void {
  const { memory } = cpu;
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  if (options.mode === 'reset') {
    // JMP FAR 0:entry, 16-bit: EA iw iw.
    if (!covered(BOOT_LAYOUT.resetVector)) {
      memory.set([0xea, options.entry & 0xff, options.entry >> 8, 0, 0], BOOT_LAYOUT.resetVector);
    }
    return;
  }
  // HLT; JMP $-1, the same bytes in every mode.
  if (!covered(BOOT_LAYOUT.park)) memory.set([0xf4, 0xeb, 0xfd], BOOT_LAYOUT.park);
  if (options.mode === 'real16') return;

  writePageTables(view, options.cpl === 3 ? PAGE_USER : 0);
  GDT.forEach(({ attr, limit }, index) => {
    writeDescriptor(view, BOOT_LAYOUT.gdt + index * 8, 0, limit, attr);
  });
  const long = options.mode !== 'prot32';
  for (let index = 0; index < cpu.vcpuCount; index++) {
    const block = vcpuBlock(memory.length, index);
    view.setUint32(block + BOOT_LAYOUT.tss + 4, block + BOOT_LAYOUT.kernelStack, true);
    if (!long) view.setUint16(block + BOOT_LAYOUT.tss + 8, SELECTOR.data, true);
    // I/O map base beyond the limit: no port is allowed to CPL 3 but by IOPL.
    view.setUint16(block + BOOT_LAYOUT.tss + 0x66, TSS_LIMIT + 1, true);
  }
  writeDescriptor(view, BOOT_LAYOUT.gdt + SELECTOR.tss, vcpuBlock(memory.length, 0), TSS_LIMIT, BUSY_TSS);
}

/** Identity map of RAM and of the APIC pages with 2 MiB pages. */
function writePageTables(view: DataView, user: number): void {
  const table = PAGE_PRESENT | PAGE_WRITABLE | user;
  view.setUint32(BOOT_LAYOUT.pml4, BOOT_LAYOUT.pdpt | table, true);
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) {
    view.setUint32(BOOT_LAYOUT.pdpt + gigabyte * 8, (BOOT_LAYOUT.pageDirectories + gigabyte * 0x1000) | table, true);
  }
  const map = (address: number, flags: number): void => {
    view.setUint32(
      BOOT_LAYOUT.pageDirectories + (address / 0x200000) * 8,
      (address | table | PAGE_2M | flags) >>> 0,
      true,
    );
  };
  const end = Math.max(view.byteLength, BOOT_LAYOUT.mapped);
  for (let address = 0; address < end; address += 0x200000) map(address, 0);
  map(BOOT_LAYOUT.apicWindow, PAGE_CACHE_DISABLED);
  map(BOOT_LAYOUT.apicWindow + 0x200000, PAGE_CACHE_DISABLED);
}

/** A segment descriptor (SDM vol. 3, 3.4.5) from base, byte limit and access rights in VMX format. */
function writeDescriptor(view: DataView, address: number, base: number, limit: number, attr: number): void {
  const units = attr & GRANULAR ? limit >>> 12 : limit;
  view.setUint32(address, ((units & 0xffff) | (base << 16)) >>> 0, true);
  const high =
    ((base >>> 16) & 0xff) | ((attr & 0xff) << 8) | (units & 0xf0000) | ((attr & 0xf000) << 8) | (base & 0xff000000);
  view.setUint32(address + 4, high >>> 0, true);
}

/** Sets the registers of one vCPU to the start state of `options.mode`. */
export function setBootRegisters(state: CpuState, options: BootOptions, memory: number): void {
  const { mode } = options;
  if (mode === 'reset') {
    setResetRegisters(state);
    return;
  }
  clearRegisters(state);
  state.set(R.R_DR6, 0xffff0ff0, 0);
  state.set(R.R_DR7, 0x400, 0);
  state.set(R.R_RIP, options.entry, 0);
  if (mode === 'real16') setRealRegisters(state);
  else setProtectedRegisters(state, options, memory);
}

/** Protected or long mode with flat segments, the boot GDT and a stack. */
function setProtectedRegisters(state: CpuState, options: BootOptions, memory: number): void {
  const { mode } = options;
  const block = vcpuBlock(memory, state.index);
  const user = options.cpl === 3;
  const long = mode !== 'prot32';
  const wide = mode === 'long64';
  const code = user ? (wide ? SELECTOR.userCode64 : SELECTOR.userCode32) : wide ? SELECTOR.code64 : SELECTOR.code32;
  const data = user ? SELECTOR.userData : SELECTOR.data;

  state.set(R.R_CR0, (CR0_PE | CR0_ET | CR0_NE | CR0_WP | (long ? CR0_PG : 0)) >>> 0, 0);
  state.set(R.R_CR3, long ? BOOT_LAYOUT.pml4 : 0, 0);
  state.set(R.R_CR4, long ? CR4_PAE : 0, 0);
  state.set(R.R_EFER, long ? EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE : 0, 0);
  state.set(R.R_RFLAGS, RFLAGS_FIXED | (user ? RFLAGS_IOPL3 : 0), 0);
  state.set(R.R_RSP, block + (user ? BOOT_LAYOUT.userStack : BOOT_LAYOUT.kernelStack), 0);
  setSegment(state, R.SEG_CS, code, 0, FLAT, GDT[code >> 3].attr);
  for (const segment of [R.SEG_ES, R.SEG_SS, R.SEG_DS, R.SEG_FS, R.SEG_GS]) {
    setSegment(state, segment, data, 0, FLAT, GDT[data >> 3].attr);
  }
  setSegment(state, R.SEG_LDTR, 0, 0, 0, UNUSABLE);
  setSegment(state, R.SEG_TR, SELECTOR.tss, block + BOOT_LAYOUT.tss, TSS_LIMIT, BUSY_TSS);
  state.set(R.R_GDTR_BASE, BOOT_LAYOUT.gdt, 0);
  state.set(R.R_GDTR_LIMIT, BOOT_LAYOUT.gdtLimit, 0);
}

/** The state in which a Multiboot loader enters an image (Multiboot specification 0.6.96, 3.2): 32-bit, flat, without paging. */
export function setMultibootRegisters(state: CpuState, entry: number, magic: number, info: number): void {
  clearRegisters(state);
  state.set(R.R_DR6, 0xffff0ff0, 0);
  state.set(R.R_DR7, 0x400, 0);
  state.set(R.R_CR0, CR0_PE | CR0_ET, 0);
  state.set(R.R_RFLAGS, RFLAGS_FIXED, 0);
  state.set(R.R_RIP, entry, 0);
  state.set(R.R_RAX, magic, 0);
  state.set(R.R_RBX, info, 0);
  setSegment(state, R.SEG_CS, SELECTOR.code32, 0, FLAT, GDT[SELECTOR.code32 >> 3].attr);
  for (const segment of [R.SEG_ES, R.SEG_SS, R.SEG_DS, R.SEG_FS, R.SEG_GS]) {
    setSegment(state, segment, SELECTOR.data, 0, FLAT, GDT[SELECTOR.data >> 3].attr);
  }
  setSegment(state, R.SEG_LDTR, 0, 0, 0xffff, 0x82);
  setSegment(state, R.SEG_TR, 0, 0, 0xffff, BUSY_TSS);
}

/** A vCPU after reset enters real-mode code at this physical address below 1 MiB. */
export function setRealEntry(state: CpuState, address: number): void {
  setSegment(state, R.SEG_CS, (address >>> 4) & 0xffff, (address & 0xffff0) >>> 0, 0xffff, ACCESSED_CODE);
  state.set(R.R_RIP, address & 0xf, 0);
}

/** Makes a vCPU in its start state an application processor that has just executed HLT in the parking loop. */
export function parkRegisters(state: CpuState, mode: StartMode): void {
  if (mode === 'real16') {
    setSegment(state, R.SEG_CS, BOOT_LAYOUT.park >> 4, BOOT_LAYOUT.park, 0xffff, ACCESSED_CODE);
    state.set(R.R_RIP, 1, 0);
  } else if (mode !== 'reset') {
    state.set(R.R_RIP, BOOT_LAYOUT.park + 1, 0);
  }
}

/** After RESET (SDM vol. 3, table 10-1), with CS.base 0xF0000 instead of 0xFFFF0000: RAM has no alias below 4 GiB. */
function setResetRegisters(state: CpuState): void {
  setSegment(state, R.SEG_CS, 0xf000, 0xf0000, 0xffff, ACCESSED_CODE);
  state.set(R.R_RIP, 0xfff0, 0);
}

function setRealRegisters(state: CpuState): void {
  state.set(R.R_CR0, CR0_REAL, 0);
  state.set(R.R_RFLAGS, RFLAGS_FIXED, 0);
  setSegment(state, R.SEG_CS, 0, 0, 0xffff, ACCESSED_CODE);
  for (const segment of [R.SEG_ES, R.SEG_SS, R.SEG_DS, R.SEG_FS, R.SEG_GS]) {
    setSegment(state, segment, 0, 0, 0xffff, ACCESSED_DATA);
  }
  setSegment(state, R.SEG_LDTR, 0, 0, 0xffff, 0x82);
  setSegment(state, R.SEG_TR, 0, 0, 0xffff, BUSY_TSS);
  // The IVT of real mode (SDM vol. 3, 21.1.4).
  state.set(R.R_IDTR_LIMIT, 0x3ff, 0);
  if (state.index === 0) {
    state.set(R.R_RSP, 0xfff0, 0);
  } else {
    const selector = BOOT_LAYOUT.realStack + ((state.index - 1) % 384) * 0x40;
    setSegment(state, R.SEG_SS, selector, selector * 16, 0xffff, ACCESSED_DATA);
    state.set(R.R_RSP, 0x400, 0);
  }
}

function setSegment(
  state: CpuState,
  segment: number,
  selector: number,
  base: number,
  limit: number,
  attr: number,
): void {
  state.set(R.R_SEL + segment, selector, 0);
  state.set(R.R_BASE + segment, base, 0);
  state.set(R.R_LIMIT + segment, limit, 0);
  state.set(R.R_ATTR + segment, attr, 0);
}

function clearRegisters(state: CpuState): void {
  for (let id = 0; id < R.S_FIRST; id++) if (id !== R.R_ZERO && id !== R.R_TSC_OFFSET) state.set(id, 0, 0);
}
