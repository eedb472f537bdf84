/**
 * Register states that a VMM could set (SDM vol. 3, 28.3.1: the checks of a VM entry on guest state), and those checks themselves, for what
 * the CPU made of them.
 */
import * as L from '../../../src/cpu/core/layout.ts';
import { type CpuState, MAXPHYADDR } from '../../../src/cpu/cpu.ts';
import { CODE, DATA, GDT, IDT32, IDT64, LDT, PAE_PDPT, PD32, PML4, RAM, TSS } from './image.ts';
import type { Random } from './random.ts';

export const MODES = ['real16', 'v8086', 'prot16', 'prot32', 'compat16', 'compat32', 'long64'] as const;
export type Mode = (typeof MODES)[number];
export type Paging = 'off' | '32-bit' | 'PAE' | '4-level';

export interface Start {
  readonly mode: Mode;
  readonly paging: Paging;
  readonly cpl: number;
  /** Linear address of the first instruction, below 4 GiB. */
  readonly at: number;
}

const CR0 = {
  PE: 1,
  MP: 2,
  EM: 4,
  TS: 8,
  ET: 0x10,
  NE: 0x20,
  WP: 0x10000,
  AM: 0x40000,
  NW: 0x20000000,
  CD: 0x40000000,
  PG: 0x80000000,
};
/** VME, PVI, TSD, DE, PSE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP. */
const CR4_BITS = [0, 1, 2, 3, 4, 7, 8, 9, 9, 9, 10, 11, 16, 17, 18, 20, 21];
const CR4_PAE = 0x20;
const CR4_LA57 = 1 << 12;
const CR4_PCIDE = 1 << 17;
const EFER = { SCE: 1, LME: 0x100, LMA: 0x400, NXE: 0x800 };
const FLAG = { VM: 0x20000, IF: 0x200, TF: 0x100, RF: 0x10000 };
/** CF, PF, AF, ZF, SF, DF, OF, IOPL, NT, AC, ID. */
const FLAGS_FREE = 0x2470d5 | 0x800;
const UNUSABLE = 0x10000;

/** What a pointer may be: RAM, its ends, tables, code, pages with other translations, MMIO, nowhere. */
function pointer(random: Random): [number, number] {
  switch (random.below(12)) {
    case 0:
      return [random.u32(), random.u32()];
    case 1:
      return [random.u32(), 0];
    case 2:
      return [(DATA + random.below(RAM - DATA)) | (0xff0 + random.below(16)), 0];
    case 3:
      return [RAM - 16 + random.below(32), 0];
    case 4:
      return [random.below(DATA), 0];
    case 5:
      return [(0xfee00000 + random.below(0x1000)) >>> 0, 0];
    case 6:
      // The upper half, mapped to the same tables.
      return [(0xffe00000 + random.below(RAM)) >>> 0, 0xffffffff];
    case 7:
      return [random.below(16) === 0 ? 0xffffffff : random.below(64), random.oneIn(4) ? 0x8000 : 0];
    default:
      return [DATA + random.below(RAM - DATA), 0];
  }
}

export function randomStart(random: Random): Start {
  const mode = random.pick(MODES);
  const paging = pagingOf(mode, random);
  const cpl =
    mode === 'real16' ? 0 : mode === 'v8086' ? 3 : random.oneIn(8) ? 1 + random.below(2) : random.oneIn(3) ? 3 : 0;
  // Most code starts at the beginning of a page, some reaches into the next.
  const at = CODE + (random.oneIn(4) ? 0xfe0 + random.below(32) : random.below(0x40) * 16);
  return { mode, paging, cpl, at };
}

function pagingOf(mode: Mode, random: Random): Paging {
  if (mode === 'real16') return 'off';
  if (mode === 'compat16' || mode === 'compat32' || mode === 'long64') return '4-level';
  return random.pick(['off', '32-bit', 'PAE'] as const);
}

/** Sets every register of a vCPU that has just been reset. */
export function setState(state: CpuState, { mode, paging, cpl, at }: Start, random: Random): void {
  const long = paging === '4-level';
  const set = (id: number, lo: number, hi = 0): void => state.set(id, lo, hi);
  const bit = (mask: number, often = 2): number => (random.oneIn(often) ? mask : 0);

  for (let id = L.R_RAX; id <= L.R_R15; id++) set(id, ...value(random));
  set(L.R_RSP, ...pointer(random));
  for (const id of [L.R_RSI, L.R_RDI, L.R_RBP, L.R_RBX]) if (random.oneIn(2)) set(id, ...pointer(random));
  if (random.oneIn(2)) set(L.R_RCX, random.below(40));

  const cache = random.below(3);
  set(
    L.R_CR0,
    (mode === 'real16' ? 0 : CR0.PE) |
      (paging === 'off' ? 0 : CR0.PG) |
      CR0.ET |
      bit(CR0.MP) |
      bit(CR0.EM, 8) |
      bit(CR0.TS, 8) |
      bit(CR0.NE) |
      bit(CR0.WP) |
      bit(CR0.AM) |
      (cache > 0 ? CR0.CD : 0) |
      (cache > 1 ? CR0.NW : 0),
  );
  let cr4 = paging === 'PAE' || long ? CR4_PAE : 0;
  for (let n = random.below(8); n > 0; n--) cr4 |= 1 << random.pick(CR4_BITS);
  if (paging !== '32-bit' && !long && random.oneIn(2)) cr4 |= CR4_PAE;
  if (paging === 'off') cr4 &= ~CR4_PCIDE;
  if (!long) cr4 &= ~CR4_PCIDE;
  set(L.R_CR4, cr4);
  set(
    L.R_CR3,
    (long ? PML4 : paging === 'PAE' ? PAE_PDPT : PD32) | ((cr4 & CR4_PCIDE) !== 0 ? random.below(4096) : bit(0x18)),
  );
  set(L.R_CR2, random.u32(), random.u32());
  set(L.R_EFER, bit(EFER.SCE) | bit(EFER.NXE) | (long ? EFER.LME | EFER.LMA : bit(EFER.LME, 8)));
  if (paging !== 'off' && !long) set(L.R_EFER, state.lo(L.R_EFER) & ~EFER.LME);

  setSegments(state, mode, cpl, random);
  const base = mode === 'long64' ? 0 : state.lo(L.R_BASE + L.SEG_CS);
  set(L.R_RIP, (at - base) >>> 0);
  let flags = 2 | (random.u32() & FLAGS_FREE) | bit(FLAG.IF) | bit(FLAG.TF, 12) | bit(FLAG.RF, 12);
  if (mode === 'v8086') flags |= FLAG.VM;
  if (random.oneIn(2)) flags &= ~0x7000;
  set(L.R_RFLAGS, flags);

  for (let n = 0; n < 4; n++)
    set(L.R_DR0 + n, ...(random.oneIn(2) ? ([CODE + random.below(0x420), 0] as [number, number]) : pointer(random)));
  set(L.R_DR6, 0xffff0ff0);
  set(L.R_DR7, 0x400 | (random.oneIn(6) ? random.u32() & 0xffff23ff : 0));
  const canonical = (): [number, number] => [
    random.u32(),
    random.oneIn(2) ? random.below(0x8000) : 0xffff8000 + random.below(0x8000),
  ];
  const target = (): [number, number] => (random.oneIn(4) ? canonical() : [CODE + random.below(0x400), 0]);
  set(L.R_STAR, random.u32(), (random.below(64) * 8) | ((random.below(64) * 8) << 16));
  for (const id of [L.R_LSTAR, L.R_CSTAR, L.R_SYSENTER_EIP]) set(id, ...target());
  set(L.R_SYSENTER_ESP, ...canonical());
  set(L.R_SYSENTER_CS, random.oneIn(4) ? 0 : random.below(64) * 8);
  set(L.R_FMASK, random.u32());
  set(L.R_KERNEL_GS_BASE, ...canonical());
  set(L.R_TSC_AUX, random.u32());
  set(L.R_TSC_OFFSET, random.u32(), random.u32());
  setFpu(state, random);
}

function value(random: Random): [number, number] {
  if (random.oneIn(3)) return pointer(random);
  if (random.oneIn(2)) return [random.below(256), 0];
  const sign = random.oneIn(2) ? 0xffffffff : 0;
  return [random.u32(), random.oneIn(2) ? random.u32() : sign];
}

function setFpu(state: CpuState, random: Random): void {
  const plain = random.oneIn(3);
  state.set(L.R_FCW, plain ? 0x37f : (random.u32() & 0x1f7f) | 0x40, 0);
  state.set(L.R_FSW, plain ? 0 : random.u32() & 0xffff, 0);
  state.set(L.R_FTW, random.below(256), 0);
  state.set(L.R_FOP, random.below(2048), 0);
  for (const id of [L.R_FIP, L.R_FDP]) state.set(id, random.u32(), 0);
  for (let n = 0; n < 8; n++) {
    // Unnormal, denormal, infinite, not a number, and numbers.
    state.set(
      L.R_FPR + 2 * n,
      random.oneIn(3) ? 0 : random.u32(),
      random.pick([0, 0x80000000, 0xc0000000, random.u32()]),
    );
    state.set(L.R_FPR + 2 * n + 1, random.pick([0, 1, 0x3fff, 0x7fff, 0xffff, random.below(0x10000)]), 0);
  }
  for (let slot = L.R_XMM; slot < L.R_XMM + 32; slot++)
    state.set(slot, random.u32(), random.pick([0, 0x3ff00000, 0x7ff00000, 0x7ff80000, random.u32()]));
  state.set(L.R_MXCSR, random.oneIn(2) ? 0x1f80 : random.u32() & 0xffff, 0);
  state.set(L.R_XCR0, random.pick([1, 3]), 0);
}

function setSegments(state: CpuState, mode: Mode, cpl: number, random: Random): void {
  const put = (seg: number, selector: number, base: number, limit: number, attr: number, baseHi = 0): void => {
    state.set(L.R_SEL + seg, selector, 0);
    state.set(L.R_BASE + seg, base >>> 0, baseHi);
    state.set(L.R_LIMIT + seg, limit >>> 0, 0);
    state.set(L.R_ATTR + seg, attr, 0);
  };
  const limited = (): [number, number] => {
    const kind = random.below(4);
    // Byte and page granularity as in a descriptor.
    if (kind === 0) return [random.below(0x100000), 0];
    if (kind === 1) return [((random.u32() & 0xfffff000) | 0xfff) >>> 0, 0x8000];
    return [0xffffffff, 0x8000];
  };
  if (mode === 'real16' || mode === 'v8086') {
    for (let seg = L.SEG_ES; seg <= L.SEG_GS; seg++) {
      const selector =
        seg === L.SEG_CS ? random.below(CODE >> 4) : random.oneIn(4) ? random.below(0x10000) : random.below(RAM >> 4);
      const flat = mode === 'real16' && random.oneIn(8);
      put(
        seg,
        selector,
        selector << 4,
        flat ? 0xffffffff : 0xffff,
        (mode === 'v8086' ? 0xf3 : seg === L.SEG_CS ? 0x9b : 0x93) | (flat ? 0x8000 : 0),
      );
    }
  } else {
    const code64 = mode === 'long64';
    const dpl = cpl << 5;
    const big = mode === 'prot32' || mode === 'compat32' ? 0x4000 : 0;
    const csBase = code64 || random.oneIn(2) ? 0 : random.below(CODE >> 4) << 4;
    const [csLimit, csG] = random.oneIn(4)
      ? ([CODE + 0x1000 - csBase + random.below(0x40), 0] as const)
      : ([0xffffffff, 0x8000] as const);
    const conforming = random.oneIn(8);
    put(
      L.SEG_CS,
      (random.below(64) * 8) | cpl,
      csBase,
      code64 ? 0xffffffff : csLimit,
      (conforming ? 0x9f : 0x9b) | (conforming ? random.below(cpl + 1) << 5 : dpl) | (code64 ? 0xa000 : big | csG),
    );
    const [ssLimit, ssG] = limited();
    const nullSs = code64 && cpl < 3 && random.oneIn(4);
    if (nullSs) put(L.SEG_SS, cpl, 0, 0, UNUSABLE | dpl);
    else
      put(
        L.SEG_SS,
        (random.below(64) * 8) | cpl,
        code64 || random.oneIn(2) ? 0 : random.below(RAM),
        ssLimit,
        (random.oneIn(6) ? 0x97 : 0x93) | dpl | (random.oneIn(4) ? 0 : 0x4000) | ssG,
      );
    for (const seg of [L.SEG_ES, L.SEG_DS, L.SEG_FS, L.SEG_GS]) {
      const [limit, g] = limited();
      const thread = seg === L.SEG_FS || seg === L.SEG_GS;
      const base = random.oneIn(2) ? 0 : random.below(RAM);
      const high = thread && code64 && random.oneIn(4) ? 0xffff8000 : 0;
      if (random.oneIn(10)) put(seg, 0, base, 0, UNUSABLE, high);
      else
        put(
          seg,
          random.below(64) * 8 + random.below(4),
          base,
          limit,
          random.pick([0x93, 0x93, 0x91, 0x97, 0x95, 0x9b]) | ((cpl + random.below(4 - cpl)) << 5) | 0x4000 | g,
          high,
        );
    }
  }
  const [gdtLimit, idtLimit] = random.oneIn(6) ? [random.below(0x10000), random.below(0x10000)] : [0x1ff, 0xfff];
  state.set(L.R_GDTR_BASE, random.oneIn(32) ? random.u32() : GDT, 0);
  state.set(L.R_GDTR_LIMIT, gdtLimit, 0);
  const idt = mode === 'real16' ? 0 : mode === 'prot16' || mode === 'prot32' || mode === 'v8086' ? IDT32 : IDT64;
  state.set(L.R_IDTR_BASE, random.oneIn(32) ? random.u32() : idt, 0);
  state.set(L.R_IDTR_LIMIT, idtLimit, 0);
  const ldt = random.oneIn(2);
  put(L.SEG_LDTR, ldt ? 0x40 : 0, ldt ? LDT : 0, ldt ? 0x7ff : 0, ldt ? 0x82 : UNUSABLE);
  const long = mode === 'compat16' || mode === 'compat32' || mode === 'long64';
  const tss16 = !long && random.oneIn(4);
  put(
    L.SEG_TR,
    0x48,
    random.oneIn(16) ? random.below(RAM) : TSS,
    random.oneIn(6) ? random.below(0x80) : 0x2067,
    tss16 ? 0x83 : 0x8b,
  );
}

/** What the host asks of a run: intercepts, windows, an event, shadows. Flags and mode of the vCPU are set. */
export function setRequests(state: CpuState, random: Random): void {
  state.exceptionBitmap = random.oneIn(2) ? 0 : random.oneIn(2) ? 1 << 6 : random.u32() & random.u32();
  state.intercepts = random.below(16);
  state.window = random.oneIn(4) ? random.below(4) : 0;
  const flags = state.lo(L.R_RFLAGS);
  const shadow = random.oneIn(8)
    ? (flags & FLAG.IF) !== 0
      ? random.pick([L.SHADOW_STI, L.SHADOW_MOV_SS])
      : L.SHADOW_MOV_SS
    : 0;
  state.interruptibility = shadow | (random.oneIn(8) ? L.BLOCKED_BY_NMI : 0);
  if (!random.oneIn(6)) return;
  switch (random.below(5)) {
    case 0:
      if ((flags & FLAG.IF) !== 0 && shadow === 0) state.inject((0x80000000 | random.below(256)) >>> 0, 0, 0);
      return;
    case 1:
      if (shadow === 0) state.inject(0x80000202, 0, 0);
      return;
    case 2: {
      const vector = random.below(32);
      const protectedMode = (state.lo(L.R_CR0) & CR0.PE) !== 0 && (flags & FLAG.VM) === 0;
      const error = protectedMode && ((0x00227d00 >>> vector) & 1) !== 0;
      state.inject((0x80000300 | vector | (error ? 0x800 : 0)) >>> 0, error ? random.below(0x10000) : 0, 0);
      return;
    }
    case 3:
      state.inject((0x80000400 | random.below(256)) >>> 0, 0, 1 + random.below(15));
      return;
    default:
      state.inject((0x80000600 | random.pick([3, 4])) >>> 0, 0, 1 + random.below(15));
  }
}

/** Violations of the guest-state checks of a VM entry; empty if the state is one a processor can be in. */
export function violations(state: CpuState): string[] {
  const found: string[] = [];
  const check = (holds: boolean, what: string): void => {
    if (!holds) found.push(what);
  };
  const cr0 = state.lo(L.R_CR0);
  const cr4 = state.lo(L.R_CR4);
  const efer = state.lo(L.R_EFER);
  const flags = state.lo(L.R_RFLAGS);
  const long = (efer & EFER.LMA) !== 0;
  const pe = (cr0 & CR0.PE) !== 0;
  const pg = (cr0 & CR0.PG) !== 0;
  const v8086 = (flags & FLAG.VM) !== 0;
  const canonical = (id: number, bits: number): boolean => {
    const value = state.get(id);
    return BigInt.asUintN(64, BigInt.asIntN(bits, value)) === value;
  };
  // Bases are held against the widest linear address there is, RIP against that of the paging mode.
  const widest = 57;
  check(!pg || pe, 'CR0.PG without CR0.PE');
  check((cr0 & CR0.NW) === 0 || (cr0 & CR0.CD) !== 0, 'CR0.NW without CR0.CD');
  check(long === (pg && (efer & EFER.LME) !== 0), 'EFER.LMA is not LME and PG');
  check(!long || (cr4 & CR4_PAE) !== 0, 'IA-32e mode without CR4.PAE');
  check((cr4 & CR4_PCIDE) === 0 || long, 'CR4.PCIDE outside IA-32e mode');
  check(state.hi(L.R_CR0) === 0 && state.hi(L.R_CR4) === 0, 'upper half of CR0 or CR4');
  check(state.hi(L.R_CR3) >>> (MAXPHYADDR - 32) === 0, 'CR3 beyond MAXPHYADDR');
  check(
    (flags & 0xffc08028) === 0 && (flags & 2) !== 0 && state.hi(L.R_RFLAGS) === 0,
    `RFLAGS 0x${flags.toString(16)}`,
  );
  check(!v8086 || (pe && !long), 'RFLAGS.VM outside protected mode');
  check(state.hi(L.R_DR7) === 0 && state.hi(L.R_DR6) === 0, 'upper half of DR6 or DR7');

  const attr = (seg: number): number => state.lo(L.R_ATTR + seg);
  const selector = (seg: number): number => state.lo(L.R_SEL + seg);
  const code64 = long && (attr(L.SEG_CS) & 0x2000) !== 0;
  for (const seg of [L.SEG_ES, L.SEG_CS, L.SEG_SS, L.SEG_DS, L.SEG_FS, L.SEG_GS]) {
    const a = attr(seg);
    const limit = state.lo(L.R_LIMIT + seg);
    const name = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'][seg];
    check(selector(seg) >>> 16 === 0, `${name}: selector wider than 16 bits`);
    if (v8086) {
      check(
        state.lo(L.R_BASE + seg) === selector(seg) << 4 && state.hi(L.R_BASE + seg) === 0,
        `${name}: base in virtual-8086 mode`,
      );
      check(limit === 0xffff && a === 0xf3, `${name}: limit or access rights in virtual-8086 mode`);
      continue;
    }
    if (seg === L.SEG_FS || seg === L.SEG_GS)
      check(canonical(L.R_BASE + seg, widest), `${name}: base is not canonical`);
    else check((a & UNUSABLE) !== 0 || state.hi(L.R_BASE + seg) === 0, `${name}: upper half of the base`);
    if (!pe || (a & UNUSABLE) !== 0) continue;
    check((a & 0x90) === 0x90, `${name}: S or P is clear`);
    check((a & 0xf00) === 0, `${name}: reserved access rights`);
    check((a & 1) !== 0, `${name}: not accessed`);
    check((a & 0x8000) !== 0 || limit <= 0xfffff, `${name}: limit beyond 1 MiB with G clear`);
    check((a & 0x8000) === 0 || (limit & 0xfff) === 0xfff, `${name}: limit within a page with G set`);
  }
  if (pe && !v8086) {
    const cs = attr(L.SEG_CS);
    const ss = attr(L.SEG_SS);
    const cpl = state.cpl;
    // A task switch to a bad CS leaves none until the exception of the new task has a handler.
    const none = (cs & UNUSABLE) !== 0;
    check(none || (cs & 8) !== 0, 'CS is no code segment');
    check(!code64 || (cs & 0x4000) === 0, 'CS has L and D');
    check((ss & UNUSABLE) !== 0 || [3, 7].includes(ss & 0xf), 'SS is not writable data');
    check(((ss >> 5) & 3) === cpl, 'CPL is not the DPL of SS');
    check(none || ((cs & 4) !== 0 ? ((cs >> 5) & 3) <= cpl : ((cs >> 5) & 3) === cpl), 'DPL of CS');
  } else check(state.cpl === (v8086 ? 3 : 0), 'CPL in real or virtual-8086 mode');
  check(
    code64 ? canonical(L.R_RIP, (cr4 & CR4_LA57) !== 0 ? 57 : 48) : state.hi(L.R_RIP) === 0,
    `RIP 0x${state.get(L.R_RIP).toString(16)}`,
  );
  for (const id of [L.R_GDTR_BASE, L.R_IDTR_BASE, L.R_BASE + L.SEG_TR])
    check(canonical(id, widest), `base of a table or of TR is not canonical`);
  check(state.lo(L.R_GDTR_LIMIT) <= 0xffff && state.lo(L.R_IDTR_LIMIT) <= 0xffff, 'limit of GDTR or IDTR');
  check([3, 0xb].includes(attr(L.SEG_TR) & 0x1f) && (attr(L.SEG_TR) & 0x80) !== 0, 'TR is no busy TSS');
  check(!long || (attr(L.SEG_TR) & 0xf) === 0xb, 'TR is no 64-bit TSS');
  check((attr(L.SEG_LDTR) & UNUSABLE) !== 0 || (attr(L.SEG_LDTR) & 0x9f) === 0x82, 'LDTR is no LDT');
  const shadow = state.interruptibility;
  check((shadow & 3) !== 3, 'shadows of STI and MOV SS at once');
  check((shadow & L.SHADOW_STI) === 0 || (flags & FLAG.IF) !== 0, 'shadow of STI with IF clear');
  check((state.lo(L.R_MXCSR) & 0xffff0000) === 0, 'reserved bits of MXCSR');
  check(state.lo(L.R_FTW) <= 0xff && state.lo(L.R_FSW) <= 0xffff, 'FSW or FTW');
  return found;
}
