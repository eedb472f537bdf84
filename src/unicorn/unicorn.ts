/**
 * The engine class of the unicorn.js API over our CPU core: same methods, arguments, results and errors (docs/api.md of unicorn.js
 * 2.1.4), for x86.
 *
 * Where it differs from unicorn.js:
 * - Addresses in results and callbacks are unsigned; reg_read_i64() and the value of a memory hook stay signed.
 * - HOOK_INSN takes every instruction of INSN_HOOKS below; a callback that returns true has replaced the instruction.
 *   SYSCALL and SYSENTER do nothing by themselves, and RIP always moves past them after their callbacks.
 * - Hook types may be combined with `|`, take effect at once, and HOOK_INSN_INVALID, HOOK_MEM_FETCH (one event per instruction),
 *   HOOK_EDGE_GENERATED and, with ctl_tlb_mode(TLB_VIRTUAL), HOOK_TLB_FILL work. HOOK_TCG_OPCODE is refused: there is no TCG.
 * - emu_stop() in a memory hook leaves the instruction undone, as in a code hook.
 * - timeout works; exceptions thrown by callbacks leave the engine usable; errno() is the code of the last error.
 * - Every exception reaches HOOK_INTR with its vector; exception_info() has the error code and address. ctl_idt_delivery(true)
 *   delivers exceptions and INT n through the guest's IDT instead.
 * - Writing a mapping of a page that a hook is being asked about, nested emu_start() included, is allowed everywhere.
 * - x87 and MXCSR start as after FNINIT and reset, because exceptions that they unmask are raised.
 * - The Emscripten runtime (ccall, addFunction, _malloc …) and the raw C functions do not exist.
 */
import * as L from '../cpu/core/layout.ts';
import { XCR0_SUPPORTED } from '../cpu/features.ts';
import { CONSTANTS as C, strerror } from './constants.ts';
import { Core, PAGE_SIZE } from './core.ts';
import { cpuid } from './cpuid.ts';
import { GuestMemory, type MemorySnapshot } from './guest-memory.ts';
import { CONTEXT_SLOTS, MSR_SLOTS, registerOf } from './registers.ts';
import type * as T from './types.ts';

type Address = number | bigint;
type Bytes = ArrayLike<number>;
type AnyCallback = (...args: unknown[]) => unknown;

interface HookEntry extends T.Hook {
  readonly call: AnyCallback;
  readonly types: number;
  readonly begin: bigint;
  readonly end: bigint;
  /** begin > end: every address. */
  readonly everywhere: boolean;
  readonly firstPage: number;
  readonly lastPage: number;
  readonly data: unknown;
  /** X86_INS_* of HOOK_INSN. */
  readonly instruction: number;
  deleted: boolean;
}

interface Context {
  slots: BigUint64Array | undefined;
  cr8: bigint;
  msrs: Map<number, bigint>;
  memory: MemorySnapshot | undefined;
}

/** Steps between looks at the clock and at emu_stop(). */
const SLICE = 200_000;
const TIMED_SLICE = 5_000;
/** As many nested emu_start() as Unicorn allows. */
const MAX_NESTING = 64;

/** Instructions that HOOK_INSN takes. */
const INSN_HOOKS: ReadonlySet<number> = new Set([
  C.X86_INS_SYSCALL,
  C.X86_INS_SYSENTER,
  C.X86_INS_CPUID,
  C.X86_INS_IN,
  C.X86_INS_OUT,
  C.X86_INS_RDTSC,
  C.X86_INS_RDTSCP,
  C.X86_INS_RDMSR,
  C.X86_INS_WRMSR,
  C.X86_INS_HLT,
  C.X86_INS_VMCALL,
  C.X86_INS_VMMCALL,
  C.X86_INS_PAUSE,
  C.X86_INS_INVLPG,
  C.X86_INS_INVD,
  C.X86_INS_WBINVD,
]);
/** Exits that only matter to hooks: the instruction has no effect of its own here. */
const PLAIN_EXITS: Readonly<Record<number, number>> = {
  [L.EXIT_PAUSE]: C.X86_INS_PAUSE,
  [L.EXIT_INVLPG]: C.X86_INS_INVLPG,
  [L.EXIT_INVD]: C.X86_INS_INVD,
  [L.EXIT_WBINVD]: C.X86_INS_WBINVD,
};

const ALL_HOOKS = 2 ** 18 - 1;

// What callbacks have changed.
const CHANGED = 1;
/** RIP was written. */
const JUMPED = 2;
/** A nested emu_start() has run: RIP has to be put back. */
const NESTED = 4;

const CR0_PE = 1n;
const CR0_PG = 1n << 31n;
const CR4_OSFXSR = 1n << 9n;
const CR4_FSGSBASE = 1n << 16n;
const CR4_OSXSAVE = 1n << 18n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const EFER_WRITABLE = 0x901n;
const ATTR_UNUSABLE = 0x10000n;

const MSR_TSC = 0x10;
const MSR_APIC_BASE = 0x1b;
const MSR_EFER = 0xc0000080;

const DB = 1;
const BP = 3;
const OF = 4;
const UD = 6;
const GP = 13;
const PF = 14;

const SIZES: Readonly<Record<string, number>> = { i8: 1, i16: 2, i32: 4, i64: 8, float: 4, double: 8 };

const u64 = (value: Address | undefined): bigint => BigInt.asUintN(64, BigInt(value || 0));

let engines = 0;

export class Unicorn {
  readonly arch: number;
  readonly mode: number;
  /** A number of this engine's own; there is no C structure behind it. */
  readonly handle_ptr: number;

  private readonly core: Core;
  private readonly memory: GuestMemory;
  private closed = false;
  private lastError = 0;
  private initialised = false;

  private hooks: readonly HookEntry[] = [];
  private codeHooks: readonly HookEntry[] = [];
  private blockHooks: readonly HookEntry[] = [];
  private readHooks: readonly HookEntry[] = [];
  private writeHooks: readonly HookEntry[] = [];
  private tlbHooks: readonly HookEntry[] = [];
  private nextHook = 1;
  /** What the core has been asked for: kinds and page offsets. */
  private hookKinds = 0;
  private offsets = new Uint8Array(512);
  /** Page offsets of stop addresses used so far; they stay asked for, so that alternating ones decode nothing anew. */
  private stopOffsets = new Set<number>();
  private edges = new Set<bigint>();
  private previousBlock: T.TranslationBlock | undefined;

  private depth = 0;
  private stopping = false;
  private changes = 0;
  private stopLo = 0;
  private stopHi = 0;
  private useExits = false;
  private exits: bigint[] = [];
  private exitSet = new Set<bigint>();
  private timedOut = false;
  private timeout = 0n;
  /** Pages that a HOOK_MEM_FETCH_PROT callback allowed to run. */
  private executable = new Set<number>();
  private virtualTlb = false;
  /** Entries that TLB_FILL callbacks gave, by page * 4 + access kind. */
  private tlb = new Map<number, { page: number; perms: number }>();

  private cpuModel: number = C.CPU_X86_HASWELL;
  private bufferSize = 0;
  private contextMode = 1;
  private idtDelivery = false;
  private cr8 = 0n;
  private msrs = new Map<number, bigint>([[MSR_APIC_BASE, 0xfee00900n]]);
  private exception: T.ExceptionInfo | undefined;

  /**
   * Opens an engine.
   * @param arch ARCH_X86; others throw ERR_ARCH.
   * @param mode MODE_16, MODE_32 or MODE_64; others throw ERR_MODE.
   */
  constructor(arch: number, mode: number) {
    this.arch = arch;
    this.mode = mode;
    this.handle_ptr = ++engines;
    if (arch !== C.ARCH_X86) this.fail('open', C.ERR_ARCH);
    if (mode !== C.MODE_16 && mode !== C.MODE_32 && mode !== C.MODE_64) this.fail('open', C.ERR_MODE);
    this.core = new Core({
      page: (lo, hi, access) => this.onPage(lo, hi, access),
      access: (kind, size) => this.onAccess(kind, size),
      hook: (kinds, size, block) => this.onHook(kinds, size, block),
    });
    this.memory = new GuestMemory(this.core);
    this.reset();
  }

  private fail(name: string, code: number): never {
    this.lastError = code;
    // A string, because that is what programs written for unicorn.js catch.
    throw `Unicorn.js: Function uc_${name} failed with code ${code}:\n${strerror(code)}`;
  }
  private check(name: string, code: number): void {
    if (code !== C.ERR_OK) this.fail(name, code);
  }
  private open(name: string): void {
    if (this.closed) this.fail(name, C.ERR_HANDLE);
    this.initialised = true;
  }

  /** Registers as Unicorn sets them up for the mode: flat segments, no paging; MODE_64 is EFER.LMA without CR0.PG. */
  private reset(): void {
    const { u64 } = this.core;
    const real = this.mode === C.MODE_16;
    const long = this.mode === C.MODE_64;
    u64[L.R_RFLAGS] = 2n;
    u64[L.R_CR0] = real ? 0n : 0x11n;
    u64[L.R_CR4] = real ? 0n : CR4_OSFXSR | CR4_OSXSAVE | CR4_FSGSBASE;
    u64[L.R_EFER] = long ? EFER_LME | EFER_LMA : 0n;
    u64[L.R_DR6] = 0xffff0ff0n;
    u64[L.R_DR7] = 0x400n;
    u64[L.R_FCW] = 0x37fn;
    u64[L.R_MXCSR] = 0x1f80n;
    u64[L.R_XCR0] = 1n;
    for (let segment = L.SEG_ES; segment <= L.SEG_GS; segment++) {
      const code = segment === L.SEG_CS;
      u64[L.R_LIMIT + segment] = real ? 0xffffn : 0xffffffffn;
      u64[L.R_ATTR + segment] = real ? (code ? 0x9bn : 0x93n) : code ? (long ? 0xa09bn : 0xc09bn) : 0xc093n;
    }
    u64[L.R_ATTR + L.SEG_LDTR] = ATTR_UNUSABLE;
    u64[L.R_ATTR + L.SEG_TR] = ATTR_UNUSABLE;
    this.intercept();
    this.changed();
  }

  /** The CPU must look at its mode, translations and decoded code again. */
  private changed(): void {
    this.core.u32[L.S_DIRTY * 2] = L.DIRTY_TRANSLATION;
    this.changes |= CHANGED;
  }

  private intercept(): void {
    const hooked = (...ids: number[]): boolean =>
      this.hooks.some((hook) => hook.types & C.HOOK_INSN && ids.includes(hook.instruction));
    const { u32 } = this.core;
    const delivers = this.idtDelivery;
    u32[L.S_EXCEPTION_BITMAP * 2] = delivers ? 0 : 0xffffffff;
    u32[L.S_INTERCEPT * 2] =
      (delivers ? 0 : L.INTERCEPT_SOFT_INT) |
      (delivers && !hooked(C.X86_INS_SYSCALL, C.X86_INS_SYSENTER) ? 0 : L.INTERCEPT_SYSCALL) |
      (hooked(C.X86_INS_RDMSR, C.X86_INS_WRMSR) ? L.INTERCEPT_MSR : 0) |
      (hooked(C.X86_INS_RDTSC, C.X86_INS_RDTSCP) ? L.INTERCEPT_RDTSC : 0) |
      (hooked(C.X86_INS_PAUSE) ? L.INTERCEPT_PAUSE : 0) |
      (hooked(C.X86_INS_INVLPG) ? L.INTERCEPT_INVLPG : 0);
  }

  // ---- registers ----

  /** The register's bytes, little-endian, in `size` bytes: cut or padded with zeros. */
  reg_read(regid: number, size: number): Uint8Array {
    this.open('reg_read');
    const bytes = new Uint8Array(size);
    this.readRegister(regid, bytes);
    return bytes;
  }

  /** Writes the low bytes of a register; bytes that are missing count as zero. X86_REG_MSR: 16 bytes, uc_x86_msr. */
  reg_write(regid: number, bytes: Bytes): void {
    this.open('reg_write');
    this.check('reg_write', this.writeRegister(regid, Uint8Array.from(bytes)));
  }

  private readRegister(id: number, into: Uint8Array): void {
    const register = registerOf(id);
    if (!register) return;
    const value = new DataView(new ArrayBuffer(32));
    let size = 8;
    const { u64, u32 } = this.core;
    switch (register.kind) {
      case 'slot': {
        if (register.effect === 'flags') this.core.syncFlags();
        const from = u64.byteOffset + register.slot * 8 + register.at;
        into.set(this.core.u8.subarray(from, from + Math.min(register.size, into.length)));
        return;
      }
      case 'segment':
        size = 2;
        value.setUint16(0, u32[(L.R_SEL + register.segment) * 2], true);
        break;
      case 'table':
        size = 24;
        value.setBigUint64(8, u64[register.base], true);
        value.setUint32(16, u32[register.limit * 2], true);
        if (register.segment !== undefined) {
          const attr = u32[(L.R_ATTR + register.segment) * 2];
          value.setUint16(0, u32[(L.R_SEL + register.segment) * 2], true);
          value.setUint32(20, attr & 0x10000 ? 0 : (attr & 0xf0ff) << 8, true);
        }
        break;
      case 'st': {
        const from = u64.byteOffset + this.stackSlot(register.index) * 8;
        into.set(this.core.u8.subarray(from, from + Math.min(10, into.length)));
        return;
      }
      case 'tag':
        size = 2;
        value.setUint16(0, this.fullTags(), true);
        break;
      case 'cr8':
        value.setBigUint64(0, this.cr8, true);
        break;
      case 'msr':
        return;
    }
    into.set(new Uint8Array(value.buffer, 0, Math.min(size, into.length)));
  }

  private writeRegister(id: number, bytes: Uint8Array): number {
    const register = registerOf(id);
    if (!register) return C.ERR_OK;
    const padded = new Uint8Array(32);
    padded.set(bytes.subarray(0, 32));
    const value = new DataView(padded.buffer);
    const { u64, u32 } = this.core;
    switch (register.kind) {
      case 'slot':
        if (register.effect === 'flags') this.core.syncFlags();
        this.core.u8.set(padded.subarray(0, register.size), u64.byteOffset + register.slot * 8 + register.at);
        if (register.effect !== 'none') this.registerWritten(register.effect);
        return C.ERR_OK;
      case 'segment':
        return this.writeSegment(register.segment, value.getUint16(0, true));
      case 'table':
        u64[register.base] = value.getBigUint64(8, true);
        u64[register.limit] = BigInt(value.getUint32(16, true));
        if (register.segment === undefined) u64[register.limit] &= 0xffffn;
        else {
          const attr = (value.getUint32(20, true) >>> 8) & 0xf0ff;
          u64[L.R_SEL + register.segment] = BigInt(value.getUint16(0, true));
          u32[(L.R_ATTR + register.segment) * 2] = attr & 0x80 ? attr : attr | 0x10000;
          this.changed();
        }
        return C.ERR_OK;
      case 'st':
        this.core.u8.set(padded.subarray(0, 10), u64.byteOffset + this.stackSlot(register.index) * 8);
        return C.ERR_OK;
      case 'tag': {
        const tags = value.getUint16(0, true);
        let used = 0;
        for (let i = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) !== 3) used |= 1 << i;
        u64[L.R_FTW] = BigInt(used);
        return C.ERR_OK;
      }
      case 'cr8':
        this.cr8 = value.getBigUint64(0, true) & 15n;
        return C.ERR_OK;
      case 'msr':
        this.msr_write(value.getUint32(0, true), value.getBigUint64(8, true));
        return C.ERR_OK;
    }
  }

  private registerWritten(effect: 'ip' | 'flags' | 'mode' | 'paging'): void {
    const { u64 } = this.core;
    if (effect === 'ip') this.changes |= JUMPED;
    if (effect === 'flags') u64[L.R_RFLAGS] = (u64[L.R_RFLAGS] & 0xffffffffn) | 2n;
    // Leaving or entering paging by a register write is also how long mode is left or entered.
    this.changed();
  }

  private stackSlot(index: number): number {
    const top = (this.core.u32[L.R_FSW * 2] >> 11) & 7;
    return L.R_FPR + 2 * ((top + index) & 7);
  }

  /** The 16-bit tag word: 0 valid, 1 zero, 2 special, 3 empty (SDM vol. 1, 8.1.7). */
  private fullTags(): number {
    const { u64, u32 } = this.core;
    let tags = 0;
    for (let i = 7; i >= 0; i--) {
      const significand = u64[L.R_FPR + 2 * i];
      const exponent = u32[(L.R_FPR + 2 * i + 1) * 2] & 0x7fff;
      const used = (u32[L.R_FTW * 2] >> i) & 1;
      const normal = exponent !== 0 && exponent !== 0x7fff && significand >> 63n !== 0n;
      tags = (tags << 2) | (!used ? 3 : exponent === 0 && significand === 0n ? 1 : normal ? 0 : 2);
    }
    return tags;
  }

  /**
   * A segment register by its selector. Real mode: base = selector * 16. MODE_32, and FS and GS in MODE_64, load the descriptor from
   * the GDT or LDT and fail with ERR_EXCEPTION where the instruction would fault; the others of MODE_64 change the selector only.
   */
  private writeSegment(segment: number, selector: number): number {
    const { u64 } = this.core;
    const real = (u64[L.R_CR0] & CR0_PE) === 0n;
    if (this.mode === C.MODE_64 && !real && segment !== L.SEG_FS && segment !== L.SEG_GS) {
      u64[L.R_SEL + segment] = BigInt(selector);
      return C.ERR_OK;
    }
    let base = BigInt(selector) << 4n;
    let limit = u64[L.R_LIMIT + segment];
    let attr = segment === L.SEG_CS ? 0x9bn : 0x93n;
    if (!real) {
      const cpl = this.core.u32[L.S_CPL * 2];
      if ((selector & 0xfffc) === 0) {
        if (segment === L.SEG_SS) return C.ERR_EXCEPTION;
        // As in Unicorn, a null selector still addresses flat memory.
        base = 0n;
        limit = 0xffffffffn;
        attr = segment === L.SEG_CS ? 0xc09bn : 0xc093n;
      } else {
        const table = selector & 4 ? L.R_BASE + L.SEG_LDTR : L.R_GDTR_BASE;
        const bound = selector & 4 ? L.R_LIMIT + L.SEG_LDTR : L.R_GDTR_LIMIT;
        const index = selector & 0xfff8;
        if (BigInt(index + 7) > u64[bound]) return C.ERR_EXCEPTION;
        const descriptor = this.readLinear(u64[table] + BigInt(index));
        if (descriptor === undefined) return C.ERR_EXCEPTION;
        const high = Number(descriptor >> 32n);
        const type = (high >> 8) & 0xff;
        const dpl = (type >> 5) & 3;
        const rpl = selector & 3;
        const code = (type & 8) !== 0;
        if (!(type & 0x10) || !(type & 0x80)) return C.ERR_EXCEPTION;
        if (segment === L.SEG_SS) {
          if (code || !(type & 2) || rpl !== cpl || dpl !== cpl) return C.ERR_EXCEPTION;
        } else {
          if (code && !(type & 2) && segment !== L.SEG_CS) return C.ERR_EXCEPTION;
          if ((!code || !(type & 4)) && (dpl < cpl || dpl < rpl)) return C.ERR_EXCEPTION;
        }
        base = ((descriptor >> 16n) & 0xffffffn) | ((descriptor >> 32n) & 0xff000000n);
        limit = (descriptor & 0xffffn) | ((descriptor >> 32n) & 0xf0000n);
        if (high & 0x800000) limit = (limit << 12n) | 0xfffn;
        attr = BigInt(((high >> 8) & 0xf0ff) | 1);
      }
    }
    u64[L.R_SEL + segment] = BigInt(selector);
    u64[L.R_BASE + segment] = base;
    u64[L.R_LIMIT + segment] = limit;
    u64[L.R_ATTR + segment] = attr;
    this.changed();
    return C.ERR_OK;
  }

  /** Eight bytes at a linear address, or undefined. */
  private readLinear(linear: bigint): bigint | undefined {
    let address = BigInt.asUintN(64, linear);
    if (this.core.u64[L.R_CR0] & CR0_PG && !this.virtualTlb) {
      // As a nested run: whatever the CPU was doing is looked up again.
      if (this.depth > 0 && !(this.changes & (NESTED | JUMPED))) this.outerRip = this.core.u64[L.R_RIP];
      this.changes |= NESTED;
      this.core.exports.run(0, 0);
      const physical = this.core.exports.translate(0, address);
      this.changed();
      if (physical < 0) return undefined;
      address = BigInt(physical);
    } else if (this.mode !== C.MODE_64) address &= 0xffffffffn;
    const bytes = new Uint8Array(8);
    if (!this.memory.read(Number(address >> 12n), Number(address & 0xfffn), bytes)) return undefined;
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  reg_write_type(regid: number, type: T.ScalarType, value: number | bigint): void {
    this.open('reg_write');
    const bytes = new Uint8Array(SIZES[type]);
    const view = new DataView(bytes.buffer);
    if (type === 'float') view.setFloat32(0, Number(value), true);
    else if (type === 'double') view.setFloat64(0, Number(value), true);
    else if (type === 'i64') view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    else {
      const bits = Number(BigInt.asUintN(32, BigInt(typeof value === 'number' ? Math.trunc(value) : value)));
      for (let i = 0; i < bytes.length; i++) bytes[i] = bits >>> (8 * i);
    }
    this.check('reg_write', this.writeRegister(regid, bytes));
  }

  /** Numbers for up to 32 bits and floats, a bigint for 'i64'; integers are signed. */
  reg_read_type(regid: number, type: 'i64'): bigint;
  reg_read_type(regid: number, type: Exclude<T.ScalarType, 'i64'>): number;
  reg_read_type(regid: number, type: T.ScalarType): number | bigint;
  reg_read_type(regid: number, type: T.ScalarType): number | bigint {
    const bytes = this.reg_read(regid, SIZES[type]);
    return scalar(new DataView(bytes.buffer), type);
  }

  reg_write_i8(regid: number, value: number): void {
    this.reg_write_type(regid, 'i8', value);
  }
  reg_write_i16(regid: number, value: number): void {
    this.reg_write_type(regid, 'i16', value);
  }
  reg_write_i32(regid: number, value: number): void {
    this.reg_write_type(regid, 'i32', value);
  }
  reg_write_i64(regid: number, value: number | bigint): void {
    const register = registerOf(regid);
    if (!this.closed && register?.kind === 'slot' && register.size === 8 && register.effect === 'none') {
      this.core.u64[register.slot] = BigInt(value);
      return;
    }
    this.reg_write_type(regid, 'i64', value);
  }
  reg_write_float(regid: number, value: number): void {
    this.reg_write_type(regid, 'float', value);
  }
  reg_write_double(regid: number, value: number): void {
    this.reg_write_type(regid, 'double', value);
  }
  reg_read_i8(regid: number): number {
    return this.reg_read_type(regid, 'i8');
  }
  reg_read_i16(regid: number): number {
    return this.reg_read_type(regid, 'i16');
  }
  /** Signed; use `>>> 0` for an unsigned value. */
  reg_read_i32(regid: number): number {
    const register = registerOf(regid);
    if (register?.kind === 'slot' && register.at === 0 && register.size >= 4 && !this.closed) {
      if (register.effect === 'flags') this.core.syncFlags();
      return this.core.u32[register.slot * 2] | 0;
    }
    return this.reg_read_type(regid, 'i32');
  }
  /** Signed, as in unicorn.js; reg_read_u64() is the unsigned value. */
  reg_read_i64(regid: number): bigint {
    const register = registerOf(regid);
    if (register?.kind === 'slot' && register.size === 8 && !this.closed) {
      if (register.effect === 'flags') this.core.syncFlags();
      return this.core.i64[register.slot];
    }
    return this.reg_read_type(regid, 'i64');
  }
  reg_read_u64(regid: number): bigint {
    return BigInt.asUintN(64, this.reg_read_i64(regid));
  }
  reg_read_float(regid: number): number {
    return this.reg_read_type(regid, 'float');
  }
  reg_read_double(regid: number): number {
    return this.reg_read_type(regid, 'double');
  }
  /** The low 64 bits of several registers, signed. */
  reg_read_batch(regids: readonly number[]): bigint[] {
    return regids.map((id) => this.reg_read_i64(id));
  }
  reg_write_batch(regids: readonly number[], values: readonly (number | bigint)[]): void {
    for (const [i, id] of regids.entries()) this.reg_write_i64(id, values[i]);
  }

  /** An MSR; 0 for one that was never written. */
  msr_read(msr: number): bigint {
    this.open('reg_read');
    if (msr === MSR_TSC) return BigInt.asUintN(64, this.core.u64[L.R_TSC_OFFSET] + BigInt(this.core.steps));
    const slot = MSR_SLOTS.get(msr >>> 0);
    return slot === undefined ? (this.msrs.get(msr >>> 0) ?? 0n) : this.core.u64[slot];
  }
  msr_write(msr: number, value: number | bigint): void {
    this.open('reg_write');
    const { u64: slots } = this.core;
    const bits = u64(value);
    const slot = MSR_SLOTS.get(msr >>> 0);
    if (msr === MSR_TSC) slots[L.R_TSC_OFFSET] = bits - BigInt(this.core.steps);
    else if (slot === undefined) this.msrs.set(msr >>> 0, bits);
    else if (msr >>> 0 === MSR_EFER) slots[slot] = (bits & EFER_WRITABLE) | (slots[slot] & EFER_LMA);
    else slots[slot] = bits;
    if (slot !== undefined) this.changed();
  }

  // ---- memory ----

  /** Maps zeroed memory. ERR_ARG: not page-aligned, empty, or wrong permissions; ERR_MAP: overlap; ERR_NOMEM: no room. */
  mem_map(address: Address, size: Address, perms: number): void {
    this.open('mem_map');
    const [begin, pages] = this.newRange('mem_map', address, size, perms);
    if (!this.memory.map(begin, pages, perms)) this.fail('mem_map', C.ERR_NOMEM);
    this.changed();
  }

  /** Maps a range whose accesses call back: `read(engine, offset, size, user_data)`, `write(engine, offset, size, value, user_data)`. */
  mmio_map<R = unknown, W = unknown>(
    address: Address,
    size: Address,
    read: T.MmioReadCallback<Unicorn, R> | null,
    user_data_read: R,
    write: T.MmioWriteCallback<Unicorn, W> | null,
    user_data_write: W,
  ): void {
    this.open('mmio_map');
    const perms = (read ? C.PROT_READ : 0) | (write ? C.PROT_WRITE : 0);
    const [begin, pages] = this.newRange('mmio_map', address, size, perms);
    this.memory.mapDevice(begin, pages, perms, {
      base: begin,
      read: (offset, length) => (read ? BigInt.asUintN(64, BigInt(read(this, offset, length, user_data_read))) : 0n),
      write: (offset, length, value) => write?.(this, offset, length, value, user_data_write),
    });
    this.changed();
  }

  mem_unmap(address: Address, size: Address): void {
    this.open('mem_unmap');
    const range = this.mappedRange('mem_unmap', address, size, C.PROT_ALL);
    if (!range) return;
    this.memory.unmap(...range);
    this.executable.clear();
    this.tlb.clear();
    this.changed();
  }

  mem_protect(address: Address, size: Address, perms: number): void {
    this.open('mem_protect');
    const range = this.mappedRange('mem_protect', address, size, perms);
    if (!range) return;
    this.memory.protect(...range, perms);
    this.executable.clear();
    this.changed();
  }

  private newRange(name: string, address: Address, size: Address, perms: number): [begin: number, pages: number] {
    const from = u64(address);
    const length = u64(size);
    const aligned = ((from | length) & 0xfffn) === 0n;
    if (length === 0n || !aligned || from + length > 1n << 64n || perms & ~C.PROT_ALL) this.fail(name, C.ERR_ARG);
    const begin = Number(from >> 12n);
    const pages = Number(length >> 12n);
    if (this.memory.overlaps(begin, pages)) this.fail(name, C.ERR_MAP);
    return [begin, pages];
  }
  private mappedRange(name: string, address: Address, size: Address, perms: number): [number, number] | undefined {
    const from = u64(address);
    const length = u64(size);
    if (length === 0n) return undefined;
    if (((from | length) & 0xfffn) !== 0n || perms & ~C.PROT_ALL) this.fail(name, C.ERR_ARG);
    const range: [number, number] = [Number(from >> 12n), Number(length >> 12n)];
    if (!this.memory.covers(...range)) this.fail(name, C.ERR_NOMEM);
    return range;
  }

  /** Writes guest-physical memory, whatever its permissions. ERR_WRITE_UNMAPPED if a page is not mapped; then nothing is written. */
  mem_write(address: Address, bytes: Bytes): void {
    this.open('mem_write');
    const [page, offset] = split(address);
    if (!this.memory.write(page, offset, bytes)) this.fail('mem_write', C.ERR_WRITE_UNMAPPED);
  }

  /** A copy of guest-physical memory. ERR_READ_UNMAPPED if a page is not mapped. */
  mem_read(address: Address, size: Address): Uint8Array {
    this.open('mem_read');
    const bytes = new Uint8Array(Number(size));
    const [page, offset] = split(address);
    if (!this.memory.read(page, offset, bytes)) this.fail('mem_read', C.ERR_READ_UNMAPPED);
    return bytes;
  }

  mem_regions(): T.MemRegion[] {
    this.open('mem_regions');
    return this.memory.regions.map(({ begin, pages, perms }) => ({
      begin: BigInt(begin) << 12n,
      end: (BigInt(begin + pages) << 12n) - 1n,
      perms,
    }));
  }

  // ---- hooks ----

  hook_add<D = unknown>(
    type: 4 | 8 | 12,
    callback: T.CodeCallback<Unicorn, D>,
    user_data?: D,
    begin?: Address,
    end?: Address,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 1,
    callback: T.InterruptCallback<Unicorn, D>,
    user_data?: D,
    begin?: Address,
    end?: Address,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 2,
    callback: T.InstructionCallback<Unicorn, D>,
    user_data: D | undefined,
    begin: Address | undefined,
    end: Address | undefined,
    extra: number,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 2,
    callback: T.InCallback<Unicorn, D>,
    user_data: D | undefined,
    begin: Address | undefined,
    end: Address | undefined,
    extra: number,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 2,
    callback: T.OutCallback<Unicorn, D>,
    user_data: D | undefined,
    begin: Address | undefined,
    end: Address | undefined,
    extra: number,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 1024 | 2048 | 4096 | 8192 | 7168,
    callback: T.MemoryCallback<Unicorn, D>,
    user_data?: D,
    begin?: Address,
    end?: Address,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 16 | 32 | 64 | 128 | 256 | 512 | 112 | 896 | 144 | 288 | 576 | 1008,
    callback: T.MemoryEventCallback<Unicorn, D>,
    user_data?: D,
    begin?: Address,
    end?: Address,
  ): T.Hook;
  hook_add<D = unknown>(type: 16384, callback: T.InvalidCallback<Unicorn, D>, user_data?: D): T.Hook;
  hook_add<D = unknown>(
    type: 32768,
    callback: T.EdgeCallback<Unicorn, D>,
    user_data?: D,
    begin?: Address,
    end?: Address,
  ): T.Hook;
  hook_add<D = unknown>(
    type: 131072,
    callback: T.TlbCallback<Unicorn, D>,
    user_data?: D,
    begin?: Address,
    end?: Address,
  ): T.Hook;
  /** Types combined with `|`: the callback is called as each event's own type would. */
  hook_add(
    type: number,
    // biome-ignore lint/suspicious/noExplicitAny: the arguments differ by event
    callback: (...args: any[]) => unknown,
    user_data?: unknown,
    begin?: Address,
    end?: Address,
    extra?: number,
  ): T.Hook;
  /**
   * Calls back on events whose address lies in [begin, end]; without a range, or with begin > end, on all. `extra` is the X86_INS_* of
   * HOOK_INSN. ERR_HOOK: no such type, or an instruction that cannot be hooked.
   */
  hook_add(
    type: number,
    callback: unknown,
    user_data: unknown = {},
    begin?: Address,
    end?: Address,
    extra = 0,
  ): T.Hook {
    this.open('hook_add');
    const bad =
      type <= 0 || (type & ~ALL_HOOKS) !== 0 || (type & C.HOOK_TCG_OPCODE) !== 0 || typeof callback !== 'function';
    if (bad || (type & C.HOOK_INSN && !INSN_HOOKS.has(extra))) this.fail('hook_add', C.ERR_HOOK);
    const everywhere = begin === undefined && end === undefined;
    const first = everywhere ? 1n : u64(begin);
    const last = everywhere ? 0n : u64(end);
    const hook: HookEntry = {
      handle: this.nextHook++,
      callback,
      call: callback as AnyCallback,
      types: type,
      begin: first,
      end: last,
      everywhere: first > last,
      firstPage: Number(first >> 12n),
      lastPage: Number(last >> 12n),
      data: user_data,
      instruction: extra,
      deleted: false,
    };
    this.hooks = [...this.hooks, hook];
    this.hooksChanged();
    return hook;
  }

  /** Removes a hook; nothing happens if it is gone already. */
  hook_del(hook: T.Hook): void {
    this.open('hook_del');
    const entry = this.hooks.find(({ handle }) => handle === hook.handle);
    if (!entry) return;
    entry.deleted = true;
    this.hooks = this.hooks.filter((other) => other !== entry);
    this.hooksChanged();
  }

  private ofType(mask: number): HookEntry[] {
    return this.hooks.filter(({ types }) => types & mask);
  }

  private hooksChanged(): void {
    this.codeHooks = this.ofType(C.HOOK_CODE | C.HOOK_MEM_FETCH);
    this.blockHooks = this.ofType(C.HOOK_BLOCK | C.HOOK_EDGE_GENERATED);
    this.readHooks = this.ofType(C.HOOK_MEM_READ | C.HOOK_MEM_READ_AFTER);
    this.writeHooks = this.ofType(C.HOOK_MEM_WRITE);
    this.tlbHooks = this.ofType(C.HOOK_TLB_FILL);
    this.intercept();
    this.askCore();
    this.changed();
  }

  /** Tells the core at which page offsets it has to ask. */
  private askCore(): void {
    const wanted = new Uint8Array(512);
    const mark = (offset: number): void => {
      wanted[offset >> 3] |= 1 << (offset & 7);
    };
    for (const offset of this.stopOffsets) mark(offset);
    for (const { begin, end, everywhere } of this.codeHooks) {
      if (everywhere || end - begin >= 4095n) wanted.fill(255);
      else for (let at = begin; at <= end; at++) mark(Number(at & 0xfffn));
    }
    const accesses = this.readHooks.length + this.writeHooks.length > 0;
    const kinds = L.HOOK_CODE | (this.blockHooks.length > 0 ? L.HOOK_BLOCK : 0) | (accesses ? L.HOOK_ACCESS : 0);
    if (kinds === this.hookKinds && wanted.every((byte, i) => byte === this.offsets[i])) return;
    this.hookKinds = kinds;
    this.offsets = wanted;
    this.core.useHooks(kinds, wanted);
    this.changed();
  }

  /** The addresses at which emulation ends from now on. */
  private setStops(until: bigint): void {
    this.stopLo = Number(until & 0xffffffffn);
    this.stopHi = Number(until >> 32n);
    const stops = this.useExits ? this.exits : [until];
    const missing = stops.map((stop) => Number(stop & 0xfffn)).filter((offset) => !this.stopOffsets.has(offset));
    if (missing.length === 0) return;
    if (this.stopOffsets.size > 64) this.stopOffsets.clear();
    for (const stop of stops) this.stopOffsets.add(Number(stop & 0xfffn));
    this.askCore();
  }

  /** The core's question about a guest-physical page; a lookup that runs no callbacks. */
  private onPage(lo: number, hi: number, access: number): number {
    let page = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
    const kind = access & 3;
    const granted = (access & L.ACCESS_GRANTED) !== 0;
    if (this.virtualTlb && this.tlbHooks.length > 0) {
      const entry = this.tlb.get(page * 4 + kind);
      if (!entry) return -1;
      page = entry.page;
    }
    const region = this.memory.find(page);
    if (!region) return -1;
    if (!granted && !(region.perms & (1 << kind)) && !(kind === L.ACCESS_EXEC && this.executable.has(page))) return -1;
    const answer = this.memory.locate(region, page, kind);
    if (granted || answer < 0 || kind === L.ACCESS_EXEC) return answer;
    return this.watched(kind === L.ACCESS_READ ? this.readHooks : this.writeHooks, page) ? answer | L.PAGE_ASK : answer;
  }

  private watched(hooks: readonly HookEntry[], page: number): boolean {
    for (let i = 0; i < hooks.length; i++) {
      const hook = hooks[i];
      if (hook.everywhere || (page >= hook.firstPage && page <= hook.lastPage)) return true;
    }
    return false;
  }

  /** The core is at an instruction that may be hooked. */
  private onHook(kinds: number, size: number, block: number): number {
    const { u32 } = this.core;
    if (!this.useExits) {
      if (u32[L.S_HOOK_ADDRESS * 2] === this.stopLo && u32[L.S_HOOK_ADDRESS * 2 + 1] === this.stopHi)
        return L.HOOK_STOP;
      if (this.codeHooks.length === 0 && this.blockHooks.length === 0) return L.HOOK_CONTINUE;
    }
    const address = this.core.u64[L.S_HOOK_ADDRESS];
    if (this.useExits && this.exitSet.has(address)) return L.HOOK_STOP;
    this.changes = 0;
    if (kinds & L.HOOK_BLOCK) this.callBlockHooks(address, block & 0xffff, block >>> 16);
    const hooks = this.codeHooks;
    for (let i = 0; i < hooks.length && !this.stopping; i++) {
      const hook = hooks[i];
      if (hook.deleted || !(hook.everywhere || (address >= hook.begin && address <= hook.end))) continue;
      if (hook.types & C.HOOK_CODE) hook.call(this, address, size, hook.data);
      if (hook.types & C.HOOK_MEM_FETCH) hook.call(this, C.MEM_FETCH, address, size, 0n, hook.data);
    }
    if (this.changes === 0 && !this.stopping) return L.HOOK_CONTINUE;
    this.settle();
    return this.stopping ? L.HOOK_STOP : this.changes & JUMPED ? L.HOOK_JUMP : L.HOOK_CHANGED;
  }

  /** An instruction is about to access a page that hooks watch. */
  private onAccess(kind: number, size: number): number {
    if (this.virtualTlb && this.tlbHooks.length > 0) return L.ACCESS_LEAVE;
    const { u32, u64 } = this.core;
    const address = u64[L.S_EXIT_Q0];
    const rip = u64[L.R_RIP];
    this.changes = 0;
    if (kind === L.ACCESS_WRITE) {
      this.memoryHooks(this.writeHooks, C.HOOK_MEM_WRITE, C.MEM_WRITE, address, size, this.storedValue(size));
    } else {
      const page = u32[L.S_EXIT_Q0 * 2 + 1] * 2 ** 20 + (u32[L.S_EXIT_Q0 * 2] >>> 12);
      this.memoryHooks(this.readHooks, C.HOOK_MEM_READ, C.MEM_READ, address, size, 0n);
      this.readAfter(page, address, size);
    }
    if (this.changes === 0 && !this.stopping) return L.ACCESS_PASS;
    if (!this.stopping && !(this.changes & (NESTED | JUMPED))) return L.ACCESS_CHANGED;
    this.retryRip = this.changes & JUMPED ? this.core.u64[L.R_RIP] : rip;
    this.retryJumps = (this.changes & JUMPED) !== 0;
    return L.ACCESS_RETRY;
  }
  /** Where the guest goes on after ACCESS_RETRY, because a nested run has moved RIP; and whether a callback wrote that. */
  private retryRip = 0n;
  private retryJumps = false;

  /** What an instruction is about to store, as callbacks get it: 8 bytes are signed, fewer are not. */
  private storedValue(size: number): bigint {
    const value = this.core.i64[L.S_EXIT_DATA];
    return size < 8 ? BigInt.asUintN(size * 8, value) : value;
  }

  private callBlockHooks(pc: bigint, size: number, icount: number): void {
    const block = { pc, icount, size };
    const previous = this.previousBlock;
    this.previousBlock = block;
    for (const hook of this.blockHooks) {
      if (this.stopping) return;
      if (hook.deleted || !covers(hook, pc)) continue;
      if (hook.types & C.HOOK_BLOCK) hook.call(this, pc, size, hook.data);
      if (hook.types & C.HOOK_EDGE_GENERATED && previous && !this.edges.has(pc))
        hook.call(this, block, previous, hook.data);
    }
    this.edges.add(pc);
  }

  /** Steps of nested runs inside the current outermost one. */
  private nestedSteps = 0;
  /** RIP of the instruction that a callback interrupted with a nested emu_start(). */
  private outerRip = 0n;
  /** After callbacks: a nested run has left RIP where it ended; the instruction goes on where it was. */
  private settle(): void {
    if ((this.changes & (NESTED | JUMPED)) === NESTED) this.core.u64[L.R_RIP] = this.outerRip;
    this.changes &= ~NESTED;
  }

  // ---- emulation ----

  /**
   * Runs from `begin` until the instruction at `until` is next, emu_stop(), HLT, `timeout` microseconds or `count` instructions (REP
   * iterations count; 0: no limit). Throws the code of what stopped it otherwise. In MODE_16 addresses are linear.
   */
  emu_start(begin: Address, until: Address, timeout: Address = 0, count = 0): void {
    this.open('emu_start');
    if (this.depth >= MAX_NESTING) this.fail('emu_start', C.ERR_RESOURCE);
    const outer = this.depth > 0 ? this.suspend() : undefined;
    this.depth++;
    this.stopping = false;
    this.timedOut = false;
    this.timeout = u64(timeout);
    const { u64: slots } = this.core;
    const start = u64(begin);
    if (this.mode === C.MODE_64) slots[L.R_RIP] = start;
    else if (this.mode === C.MODE_32) slots[L.R_RIP] = start & 0xffffffffn;
    else slots[L.R_RIP] = (start - slots[L.R_SEL + L.SEG_CS] * 16n) & 0xffffn;
    const steps = slots[L.S_STEPS];
    const counted = this.nestedSteps;
    let code = -1;
    try {
      this.setStops(u64(until));
      this.previousBlock = undefined;
      this.startBlock();
      code = this.loop(count, Number(this.timeout) / 1000);
    } finally {
      // A callback threw through the core: the steps it did not take are still counted.
      if (code < 0) {
        this.core.u64[L.S_STEPS] -= BigInt(this.core.exports.unusedSteps());
        this.core.exports.setUnusedSteps(0);
      }
      this.abandon();
      this.depth--;
      // The count of the run around this one does not see these steps, nor those of runs inside this one.
      this.nestedSteps = outer ? counted + Number(this.core.u64[L.S_STEPS] - steps) : 0;
      if (outer) this.resume(outer);
      else this.changes = 0;
    }
    this.check('emu_start', code);
  }

  /** What a nested emu_start() must not lose of the run around it. */
  private suspend(): {
    state: BigUint64Array;
    exit: BigUint64Array;
    stops: [number, number];
    stopping: boolean;
    changes: number;
    left: number;
  } {
    const { core } = this;
    core.syncFlags();
    const left = core.exports.unusedSteps();
    core.u64[L.S_STEPS] -= BigInt(left);
    const state = core.u64.slice(L.S_IOQ_COUNT, L.S_IOQ + L.IOQ_CAPACITY);
    const grants = core.u64[L.S_GRANTS];
    if (!(this.changes & (NESTED | JUMPED))) this.outerRip = core.u64[L.R_RIP];
    core.u64[L.S_IOQ_COUNT] = 0n;
    core.u64[L.S_GRANTS] = 0n;
    return {
      state: BigUint64Array.from([...state, grants, this.outerRip]),
      exit: core.u64.slice(L.S_EXIT_CODE, L.S_EXIT_DATA + 1),
      stops: [this.stopLo, this.stopHi],
      stopping: this.stopping,
      changes: this.changes,
      left,
    };
  }
  private resume(outer: ReturnType<Unicorn['suspend']>): void {
    const { core } = this;
    const count = outer.state.length - 2;
    core.u64.set(outer.state.subarray(0, count), L.S_IOQ_COUNT);
    core.u64[L.S_GRANTS] = outer.state[count];
    core.u64.set(outer.exit, L.S_EXIT_CODE);
    this.outerRip = outer.state[count + 1];
    core.u64[L.S_STEPS] += BigInt(outer.left);
    core.exports.setUnusedSteps(outer.left);
    [this.stopLo, this.stopHi] = outer.stops;
    this.stopping = outer.stopping;
    this.changes = outer.changes | NESTED;
    this.changed();
  }

  /** The next instruction starts a block and is hooked even if it was the last one asked about. */
  private startBlock(): void {
    this.core.exports.startBlock((BigInt(this.stopHi) << 32n) | BigInt(this.stopLo));
  }

  /** Forgets an instruction that is not to be finished, and steps that a thrown exception left over. */
  private abandon(): void {
    const { core } = this;
    core.u32[L.S_GRANTS * 2] = 0;
    core.u32[L.S_IOQ_COUNT * 2] = 0;
  }

  /** Asks a running emu_start() to return; in a code, memory or interrupt hook before the instruction. */
  emu_stop(): void {
    this.open('emu_stop');
    this.stopping = true;
  }

  private loop(count: number, timeoutMs: number): number {
    const deadline = timeoutMs > 0 ? performance.now() + timeoutMs : Number.POSITIVE_INFINITY;
    const slice = timeoutMs > 0 ? TIMED_SLICE : SLICE;
    let left = count > 0 ? count : Number.POSITIVE_INFINITY;
    const { core } = this;
    for (;;) {
      const before = core.u32[L.S_STEPS * 2];
      const nested = this.nestedSteps;
      const exit = core.exports.run(0, Math.min(left, slice));
      left -= ((core.u32[L.S_STEPS * 2] - before) >>> 0) - (this.nestedSteps - nested);
      if (exit !== L.EXIT_BUDGET) {
        if (exit === L.EXIT_STOP) return C.ERR_OK;
        this.changes = 0;
        const result = this.leave(exit);
        this.settle();
        if (result === RERUN) left++;
        else if (result === FINISHED) return C.ERR_OK;
        else if (result !== CONTINUE) return result;
        if (this.changes & JUMPED) this.abandon();
        if (this.stopping) return C.ERR_OK;
      }
      if (left <= 0) return C.ERR_OK;
      if (timeoutMs > 0 && performance.now() >= deadline) {
        this.timedOut = true;
        return C.ERR_OK;
      }
    }
  }

  /** Handles an exit of the core: CONTINUE, RERUN, FINISHED or an error code. */
  private leave(exit: number): number {
    const { u32, u64 } = this.core;
    switch (exit) {
      case L.EXIT_ACCESS:
        return this.access();
      case L.EXIT_RETRY:
        u64[L.R_RIP] = this.retryRip;
        if (this.retryJumps) this.changes |= JUMPED;
        return RERUN;
      case L.EXIT_MMIO: {
        const how = u32[L.S_EXIT_Q1 * 2];
        const address = u64[L.S_EXIT_Q0];
        const device = this.memory.find(Number(address >> 12n))?.device;
        const offset = device ? address - (BigInt(device.base) << 12n) : 0n;
        let value = 0n;
        if (how & 0x10) device?.write(offset, how & 15, u64[L.S_EXIT_DATA]);
        else value = device?.read(offset, how & 15) ?? 0n;
        this.complete(value);
        return RERUN;
      }
      case L.EXIT_EXCEPTION: {
        const what = u32[L.S_EXIT_Q0 * 2];
        const vector = what & 0xff;
        const data = u64[L.S_EXIT_DATA];
        const code = what & 0x800 ? u32[L.S_EXIT_Q1 * 2] : null;
        if (vector === PF) u64[L.R_CR2] = data;
        if (vector === DB) u64[L.R_DR6] = (u64[L.R_DR6] & ~15n) | data;
        // INT3, INTO and INT1 are done: RIP is that of the next instruction.
        if (vector === BP || vector === OF || (vector === DB && data === 0n)) this.advance();
        return this.interrupt(vector, code, vector === PF ? data : 0n);
      }
      case L.EXIT_SOFT_INT:
        this.advance();
        return this.interrupt(u32[L.S_EXIT_Q0 * 2], null, 0n);
      case L.EXIT_SYSCALL:
        this.callInstructionHooks(u32[L.S_EXIT_Q0 * 2] ? C.X86_INS_SYSENTER : C.X86_INS_SYSCALL);
        this.settle();
        this.advance();
        return CONTINUE;
      case L.EXIT_HLT:
        if (this.instruction(C.X86_INS_HLT)) return CONTINUE;
        this.advance();
        return FINISHED;
      case L.EXIT_CPUID:
        if (!this.instruction(C.X86_INS_CPUID)) this.finish(() => this.cpuid());
        return CONTINUE;
      case L.EXIT_RDTSC: {
        const aux = u32[L.S_EXIT_Q0 * 2] !== 0;
        if (!this.instruction(aux ? C.X86_INS_RDTSCP : C.X86_INS_RDTSC)) this.finish(() => this.rdtsc(aux));
        return CONTINUE;
      }
      case L.EXIT_RDMSR:
        if (!this.instruction(C.X86_INS_RDMSR)) this.finish(() => this.setPair(this.msr_read(this.low(L.R_RCX))));
        return CONTINUE;
      case L.EXIT_WRMSR:
        if (!this.instruction(C.X86_INS_WRMSR)) this.finish(() => this.wrmsr());
        return CONTINUE;
      case L.EXIT_XSETBV:
        return this.xsetbv();
      case L.EXIT_RDPMC:
        return this.interrupt(GP, 0, 0n);
      case L.EXIT_IO:
        return this.port();
      case L.EXIT_HYPERCALL:
        return this.undefinedInstruction();
      case L.EXIT_CR8: {
        const gpr = u32[L.S_EXIT_Q1 * 2];
        if (u32[L.S_EXIT_Q0 * 2]) u64[gpr] = this.cr8;
        else this.cr8 = u64[L.S_EXIT_DATA] & 15n;
        this.advance();
        return CONTINUE;
      }
      case L.EXIT_SHUTDOWN:
        return C.ERR_EXCEPTION;
      case L.EXIT_INTERNAL:
        return C.ERR_RESOURCE;
      default:
        if (!this.instruction(PLAIN_EXITS[exit] ?? 0)) this.advance();
        return CONTINUE;
    }
  }

  /** Moves RIP past the instruction of the last exit. */
  private advance(): void {
    const { u64, u32 } = this.core;
    const next = u64[L.R_RIP] + u64[L.S_EXIT_LEN];
    const long = u64[L.R_EFER] & EFER_LMA && u32[(L.R_ATTR + L.SEG_CS) * 2] & 0x2000;
    u64[L.R_RIP] = long ? next : next & 0xffffffffn;
  }
  /** What the instruction does by itself, unless a callback went elsewhere. */
  private finish(effect: () => void): void {
    this.settle();
    if (this.changes & JUMPED) return;
    effect();
    this.advance();
  }
  private setPair(value: bigint): void {
    this.core.u64[L.R_RAX] = value & 0xffffffffn;
    this.core.u64[L.R_RDX] = value >> 32n;
  }
  private low(slot: number): number {
    return this.core.u32[slot * 2];
  }
  private rdtsc(aux: boolean): void {
    this.setPair(this.msr_read(MSR_TSC));
    if (aux) this.core.u64[L.R_RCX] = this.core.u64[L.R_TSC_AUX] & 0xffffffffn;
  }
  private wrmsr(): void {
    this.msr_write(this.low(L.R_RCX), (BigInt(this.low(L.R_RDX)) << 32n) | BigInt(this.low(L.R_RAX)));
  }
  private xsetbv(): number {
    const value = (BigInt(this.low(L.R_RDX)) << 32n) | BigInt(this.low(L.R_RAX));
    const valid = (value & ~BigInt(XCR0_SUPPORTED)) === 0n && (value & 1n) === 1n;
    if (this.low(L.R_RCX) !== 0 || !valid) return this.interrupt(GP, 0, 0n);
    this.core.u64[L.R_XCR0] = value;
    this.advance();
    return CONTINUE;
  }
  private cpuid(): void {
    const { u32, u64 } = this.core;
    const osxsave = (u64[L.R_CR4] & CR4_OSXSAVE) !== 0n;
    const leaf = cpuid(
      this.cpuModel,
      u32[L.R_RAX * 2],
      u32[L.R_RCX * 2],
      this.mode === C.MODE_64,
      osxsave,
      u32[L.R_XCR0 * 2],
    );
    [L.R_RAX, L.R_RBX, L.R_RCX, L.R_RDX].forEach((slot, i) => {
      u64[slot] = BigInt(leaf[i] >>> 0);
    });
  }

  /** Calls the HOOK_INSN callbacks for an instruction at RIP; true if one has done the instruction's work. */
  private callInstructionHooks(id: number): boolean {
    const address = this.linearRip();
    let done = false;
    for (const hook of this.hooks) {
      if (hook.deleted || !(hook.types & C.HOOK_INSN) || hook.instruction !== id || !covers(hook, address)) continue;
      if (hook.call(this, hook.data) === true) done = true;
      if (this.stopping) break;
    }
    return done;
  }
  /** The same; if true, RIP has moved on. */
  private instruction(id: number): boolean {
    if (!this.callInstructionHooks(id)) return (this.changes & JUMPED) !== 0;
    this.finish(() => {});
    return true;
  }
  private linearRip(): bigint {
    const { u64 } = this.core;
    if (this.mode === C.MODE_64) return u64[L.R_RIP];
    return (u64[L.R_BASE + L.SEG_CS] + u64[L.R_RIP]) & 0xffffffffn;
  }

  private port(): number {
    const { u32 } = this.core;
    const how = u32[L.S_EXIT_Q1 * 2];
    const port = u32[L.S_EXIT_Q0 * 2];
    const size = how & 15;
    const input = (how & 0x10) !== 0;
    const string = (how & 0x20) !== 0;
    const written = u32[L.S_EXIT_DATA * 2];
    const address = this.linearRip();
    const id = input ? C.X86_INS_IN : C.X86_INS_OUT;
    let value = 0;
    for (const hook of this.hooks) {
      if (hook.deleted || !(hook.types & C.HOOK_INSN) || hook.instruction !== id || !covers(hook, address)) continue;
      if (input) value = Number(hook.call(this, port, size, hook.data) ?? 0);
      else hook.call(this, port, size, written, hook.data);
      if (this.stopping) break;
    }
    if (string) {
      this.complete(BigInt(value >>> 0));
      return RERUN;
    }
    this.finish(() => {
      if (!input) return;
      const rax = this.core.u64[L.R_RAX];
      const bits = BigInt(value >>> 0);
      this.core.u64[L.R_RAX] =
        size === 4 ? bits : size === 2 ? (rax & ~0xffffn) | (bits & 0xffffn) : (rax & ~0xffn) | (bits & 0xffn);
    });
    return CONTINUE;
  }

  /** Queues a completed access; the instruction runs again and takes it. */
  private complete(value: bigint): void {
    const { u32, u64 } = this.core;
    const count = u32[L.S_IOQ_COUNT * 2];
    u64[L.S_IOQ + count] = value;
    u32[L.S_IOQ_COUNT * 2] = count + 1;
  }

  /** An exception or INT n; RIP is where the guest would return to. */
  private interrupt(vector: number, errorCode: number | null, address: bigint): number {
    if (vector === UD) return this.undefinedInstruction();
    this.exception = { vector, error_code: errorCode, address };
    this.startBlock();
    let caught = false;
    for (const hook of this.hooks) {
      if (hook.deleted || !(hook.types & C.HOOK_INTR)) continue;
      hook.call(this, vector, hook.data);
      caught = true;
      if (this.stopping) break;
    }
    return caught ? CONTINUE : C.ERR_EXCEPTION;
  }

  private undefinedInstruction(): number {
    const id = this.hypercallAtRip();
    if (id && this.hooks.some((hook) => hook.types & C.HOOK_INSN && hook.instruction === id)) {
      this.core.u64[L.S_EXIT_LEN] = 3n;
      this.callInstructionHooks(id);
      this.finish(() => {});
      return CONTINUE;
    }
    this.exception = { vector: UD, error_code: null, address: 0n };
    this.startBlock();
    for (const hook of this.hooks) {
      if (hook.deleted || !(hook.types & C.HOOK_INSN_INVALID)) continue;
      if (hook.call(this, hook.data) === true) return CONTINUE;
      if (this.stopping) break;
    }
    return C.ERR_INSN_INVALID;
  }

  /** X86_INS_VMCALL or VMMCALL if RIP points at one: whichever is foreign to the CPU's vendor is #UD in the core. */
  private hypercallAtRip(): number {
    const word = this.readLinear(this.linearRip()) ?? 0n;
    const bytes = word & 0xffffffn;
    return bytes === 0xc1010fn ? C.X86_INS_VMCALL : bytes === 0xd9010fn ? C.X86_INS_VMMCALL : 0;
  }

  // ---- accesses that the core asks for ----

  /** Lets the access of the last EXIT_ACCESS pass, or returns the error it ends in. */
  private access(): number {
    const { u32, u64 } = this.core;
    const how = u32[L.S_EXIT_Q1 * 2];
    const kind = (how >> L.ACCESS_KIND_SHIFT) & 3;
    const size = how & 0xff;
    const asked = u64[L.S_EXIT_Q0];
    const write = kind === L.ACCESS_WRITE;
    const value = write ? this.storedValue(size) : 0n;
    let address = asked;
    let page = u32[L.S_EXIT_Q0 * 2 + 1] * 2 ** 20 + (u32[L.S_EXIT_Q0 * 2] >>> 12);
    if (this.virtualTlb && this.tlbHooks.length > 0) {
      const entry = this.tlb.get(page * 4 + kind);
      if (!entry) return this.fillTlb(page, kind);
      page = entry.page;
      address = (BigInt(page) << 12n) | (asked & 0xfffn);
    }
    const exec = kind === L.ACCESS_EXEC;
    const hooked = !exec && !(how & L.ACCESS_SECOND);
    if (write && hooked) this.memoryHooks(this.writeHooks, C.HOOK_MEM_WRITE, C.MEM_WRITE, address, size, value);
    let region = this.memory.find(page);
    if (!region) {
      if (!this.memoryEvent(16 << kind, C.MEM_READ_UNMAPPED + kind, address, size, value))
        return C.ERR_READ_UNMAPPED + kind;
      region = this.memory.find(page);
      if (!region) return C.ERR_MAP;
    }
    if (kind === L.ACCESS_READ && hooked)
      this.memoryHooks(this.readHooks, C.HOOK_MEM_READ, C.MEM_READ, address, size, 0n);
    if (!(region.perms & (1 << kind)) || (exec && region.device)) {
      const [type, error] = PROTECTION[kind];
      if (!this.memoryEvent(128 << kind, type, address, size, value)) return error;
      if (exec) this.executable.add(page);
    }
    if (kind === L.ACCESS_READ && hooked) this.readAfter(page, address, size);
    if (exec) return CONTINUE;
    // Views from before the callbacks are void if memory has grown.
    if (!this.stopping && !(this.changes & JUMPED)) this.core.u32[L.S_GRANTS * 2]++;
    return RERUN;
  }

  /** MEM_READ_AFTER with the value that the access is about to get; 0 from a device, which is read once only. */
  private readAfter(page: number, address: bigint, size: number): void {
    if (!this.readHooks.some(({ types }) => types & C.HOOK_MEM_READ_AFTER)) return;
    const bytes = new Uint8Array(8);
    const region = this.memory.find(page);
    if (region && !region.device)
      this.memory.read(page, Number(address & 0xfffn), bytes.subarray(0, Math.min(size, 8)));
    const value = new DataView(bytes.buffer).getBigInt64(0, true);
    this.memoryHooks(this.readHooks, C.HOOK_MEM_READ_AFTER, C.MEM_READ_AFTER, address, size, value);
  }

  private memoryHooks(
    hooks: readonly HookEntry[],
    bit: number,
    type: number,
    address: bigint,
    size: number,
    value: bigint,
  ): void {
    for (let i = 0; i < hooks.length; i++) {
      if (this.stopping) return;
      const hook = hooks[i];
      if (!hook.deleted && hook.types & bit && covers(hook, address))
        hook.call(this, type, address, size, value, hook.data);
    }
  }
  /** True if a callback removed the cause. */
  private memoryEvent(bit: number, type: number, address: bigint, size: number, value: bigint): boolean {
    for (const hook of this.hooks) {
      if (hook.deleted || !(hook.types & bit) || !covers(hook, address)) continue;
      if (hook.call(this, type, address, size, value, hook.data)) return true;
      if (this.stopping) return false;
    }
    return false;
  }

  private fillTlb(page: number, kind: number): number {
    const address = BigInt(page) << 12n;
    for (const hook of this.tlbHooks) {
      if (hook.deleted || !covers(hook, address)) continue;
      const entry: T.TlbEntry = { paddr: address, perms: 0 };
      if (hook.call(this, address, C.MEM_READ + kind, entry, hook.data) !== true) continue;
      if (!(entry.perms & (1 << kind))) break;
      this.tlb.set(page * 4 + kind, { page: Number(u64(entry.paddr) >> 12n), perms: entry.perms });
      return kind === L.ACCESS_EXEC ? CONTINUE : RERUN;
    }
    return C.ERR_EXCEPTION;
  }

  // ---- contexts ----

  /** An empty context for context_save() and context_restore(). */
  context_alloc(): object {
    this.open('context_alloc');
    const context: Context = { slots: undefined, cr8: 0n, msrs: new Map(), memory: undefined };
    return context;
  }

  /** Saves what ctl_context_mode() names: the CPU (default), memory, or both. */
  context_save(context: object): void {
    this.open('context_save');
    const saved = context as Context;
    if (this.contextMode & C.CTL_CONTEXT_MEMORY) {
      const before = saved.memory;
      saved.memory = this.memory.snapshot();
      if (before) this.memory.drop(before);
      this.changed();
    }
    if (this.contextMode & C.CTL_CONTEXT_CPU) {
      this.core.syncFlags();
      saved.slots = this.core.u64.slice();
      saved.cr8 = this.cr8;
      saved.msrs = new Map(this.msrs);
    }
  }

  /** ERR_ARG: the context was not saved with what ctl_context_mode() names now. */
  context_restore(context: object): void {
    this.open('context_restore');
    const saved = context as Context;
    if (this.contextMode & C.CTL_CONTEXT_MEMORY) {
      if (!saved.memory) this.fail('context_restore', C.ERR_ARG);
      this.memory.restore(saved.memory as MemorySnapshot);
      this.changed();
    }
    if (this.contextMode & C.CTL_CONTEXT_CPU) {
      const { slots } = saved;
      if (!slots) this.fail('context_restore', C.ERR_ARG);
      this.core.syncFlags();
      for (const [first, end] of CONTEXT_SLOTS)
        this.core.u64.set((slots as BigUint64Array).subarray(first, end), first);
      this.cr8 = saved.cr8;
      this.msrs = new Map(saved.msrs);
      this.changes |= JUMPED;
      this.changed();
    }
  }

  context_free(context: object): void {
    this.open('context_free');
    const saved = context as Context;
    if (saved.memory) this.memory.drop(saved.memory);
    saved.memory = undefined;
    saved.slots = undefined;
  }

  // ---- queries and controls ----

  query_type(query: number, type: 'i64'): bigint;
  query_type(query: number, type: Exclude<T.ScalarType, 'i64'>): number;
  query_type(query: number, type: T.ScalarType): number | bigint;
  query_type(query: number, type: T.ScalarType): number | bigint {
    this.open('query');
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, this.query(query), true);
    return scalar(view, type);
  }
  private query(query: number): number {
    switch (query) {
      case C.QUERY_MODE:
        return this.mode;
      case C.QUERY_PAGE_SIZE:
        return PAGE_SIZE;
      case C.QUERY_ARCH:
        return this.arch;
      case C.QUERY_TIMEOUT:
        return this.timedOut ? 1 : 0;
      default:
        return this.fail('query', C.ERR_ARG);
    }
  }
  query_i8(query: number): number {
    return this.query_type(query, 'i8');
  }
  query_i16(query: number): number {
    return this.query_type(query, 'i16');
  }
  query_i32(query: number): number {
    return this.query_type(query, 'i32');
  }
  query_i64(query: number): bigint {
    return this.query_type(query, 'i64');
  }
  query_float(query: number): number {
    return this.query_type(query, 'float');
  }
  query_double(query: number): number {
    return this.query_type(query, 'double');
  }

  /** ERR_* code of the last error of this engine. */
  errno(): number {
    return this.lastError;
  }

  /** Vector, error code and #PF address of the last exception or INT n, or undefined. */
  exception_info(): T.ExceptionInfo | undefined {
    return this.exception;
  }

  /** The generic control: a word of CTL_READ(), CTL_WRITE() … and its arguments; results go into the array of a 'ptr' argument. */
  ctl(control: number, args: readonly T.CtlArgument[] = []): void {
    const type = control & 0xffff;
    const direction = (control >>> 30) & 3;
    if (direction === C.CTL_IO_WRITE) {
      if (!this.ctlWrite(type, args)) this.fail('ctl', C.ERR_ARG);
      return;
    }
    const values = this.ctlRead(type, direction, args);
    const target = args.find((arg) => arg.type === 'ptr')?.value;
    if (!values || typeof target !== 'object') this.fail('ctl', C.ERR_ARG);
    const wide = target instanceof BigInt64Array || target instanceof BigUint64Array;
    for (const [i, value] of values.entries()) target[i] = wide ? BigInt(value) : value;
  }
  private ctlRead(type: number, direction: number, args: readonly T.CtlArgument[]): (number | bigint)[] | undefined {
    if (direction === C.CTL_IO_READ_WRITE && type === C.CTL_TB_REQUEST_CACHE) {
      const { pc, icount, size } = this.ctl_request_cache(args[0]?.value as bigint);
      return [pc, icount, size];
    }
    if (direction !== C.CTL_IO_READ) return undefined;
    switch (type) {
      case C.CTL_UC_MODE:
        return [this.ctl_get_mode()];
      case C.CTL_UC_ARCH:
        return [this.ctl_get_arch()];
      case C.CTL_UC_PAGE_SIZE:
        return [this.ctl_get_page_size()];
      case C.CTL_UC_TIMEOUT:
        return [this.ctl_get_timeout()];
      case C.CTL_UC_EXITS_CNT:
        return [this.ctl_get_exits_cnt()];
      case C.CTL_UC_EXITS:
        return this.ctl_get_exits(Number(args[1]?.value ?? 0));
      case C.CTL_CPU_MODEL:
        return [this.ctl_get_cpu_model()];
      case C.CTL_TCG_BUFFER_SIZE:
        return [this.ctl_get_tcg_buffer_size()];
      default:
        return undefined;
    }
  }
  /** False: there is no such control to write. */
  private ctlWrite(type: number, args: readonly T.CtlArgument[]): boolean {
    const first = args[0]?.value;
    const number = Number(typeof first === 'object' ? 0 : (first ?? 0));
    switch (type) {
      case C.CTL_UC_PAGE_SIZE:
        this.ctl_set_page_size(number);
        break;
      case C.CTL_UC_USE_EXITS:
        if (number) this.ctl_exits_enable();
        else this.ctl_exits_disable();
        break;
      case C.CTL_UC_EXITS:
        this.ctl_set_exits(Array.from(first as ArrayLike<bigint>).slice(0, Number(args[1]?.value)));
        break;
      case C.CTL_CPU_MODEL:
        this.ctl_set_cpu_model(number);
        break;
      case C.CTL_TB_REMOVE_CACHE:
        this.ctl_remove_cache(first as bigint, args[1]?.value as bigint);
        break;
      case C.CTL_TB_FLUSH:
        this.ctl_flush_tb();
        break;
      case C.CTL_TLB_FLUSH:
        this.ctl_flush_tlb();
        break;
      case C.CTL_TLB_TYPE:
        this.ctl_tlb_mode(number);
        break;
      case C.CTL_TCG_BUFFER_SIZE:
        this.ctl_set_tcg_buffer_size(number);
        break;
      case C.CTL_CONTEXT_MODE:
        this.ctl_context_mode(number);
        break;
      default:
        return false;
    }
    return true;
  }

  ctl_get_arch(): number {
    return this.arch;
  }
  ctl_get_mode(): number {
    return this.mode;
  }
  ctl_get_page_size(): number {
    this.open('ctl');
    return PAGE_SIZE;
  }
  /** Always ERR_ARG: x86 has one page size. */
  ctl_set_page_size(_size: number): void {
    this.fail('ctl', C.ERR_ARG);
  }
  /** `timeout` of the last emu_start() in microseconds. */
  ctl_get_timeout(): bigint {
    return this.timeout;
  }
  ctl_get_cpu_model(): number {
    this.open('ctl');
    return this.cpuModel;
  }
  /** CPU_X86_*: what CPUID says of vendor, family, model and stepping. Before anything else is done with the engine. */
  ctl_set_cpu_model(model: number): void {
    if (this.initialised || !Number.isInteger(model) || model < 0 || model >= C.CPU_X86_ENDING)
      this.fail('ctl', C.ERR_ARG);
    this.cpuModel = model;
  }
  /** Remembered, nothing else: there is no such buffer. */
  ctl_set_tcg_buffer_size(size: number): void {
    this.bufferSize = size;
  }
  ctl_get_tcg_buffer_size(): number {
    this.open('ctl');
    return this.bufferSize;
  }

  /** From now on emulation ends at the addresses of ctl_set_exits(), and `until` is ignored. */
  ctl_exits_enable(): void {
    this.useExits = true;
  }
  ctl_exits_disable(): void {
    this.useExits = false;
  }
  ctl_set_exits(exits: readonly Address[]): void {
    this.open('ctl');
    if (!this.useExits) this.fail('ctl', C.ERR_ARG);
    this.exits = [...new Set(exits.map((exit) => u64(exit)))].sort((a, b) => (a < b ? -1 : 1));
    this.exitSet = new Set(this.exits);
    this.setStops(0n);
  }
  ctl_get_exits_cnt(): number {
    this.open('ctl');
    if (!this.useExits) this.fail('ctl', C.ERR_ARG);
    return this.exits.length;
  }
  /** The exits in ascending order; `count` must be at least their number. */
  ctl_get_exits(count: number): bigint[] {
    this.open('ctl');
    if (!this.useExits || count < this.exits.length) this.fail('ctl', C.ERR_ARG);
    return [...this.exits];
  }

  /** The block that starts at `address` as the core decodes it. ERR_RESOURCE if there is no code. */
  ctl_request_cache(address: Address): T.TranslationBlock {
    this.open('ctl');
    const pc = u64(address);
    const rip = this.mode === C.MODE_64 ? pc : (pc - this.core.u64[L.R_BASE + L.SEG_CS]) & 0xffffffffn;
    const block = this.core.exports.blockAt(rip);
    this.changed();
    if (block < 0) this.fail('ctl', C.ERR_RESOURCE);
    return { pc, icount: block >>> 16, size: block & 0xffff };
  }
  /** Drops decoded code; nothing needs it, because writes and new hooks are noticed. ERR_ARG if end <= address. */
  ctl_remove_cache(address: Address, end: Address): void {
    this.open('ctl');
    if (u64(end) <= u64(address)) this.fail('ctl', C.ERR_ARG);
    this.ctl_flush_tb();
  }
  ctl_flush_tb(): void {
    this.open('ctl');
    this.core.useHooks(this.hookKinds, this.offsets);
    this.edges.clear();
    this.changed();
  }
  ctl_flush_tlb(): void {
    this.open('ctl');
    this.tlb.clear();
    this.changed();
  }
  /** TLB_CPU: the guest's paging is honoured; TLB_VIRTUAL: addresses are physical unless HOOK_TLB_FILL callbacks say otherwise. */
  ctl_tlb_mode(mode: number): void {
    this.open('ctl');
    if (mode !== C.TLB_CPU && mode !== C.TLB_VIRTUAL) this.fail('ctl', C.ERR_ARG);
    this.virtualTlb = mode === C.TLB_VIRTUAL;
    this.core.exports.setSparse(1, mode);
    this.ctl_flush_tlb();
  }
  /** CTL_CONTEXT_CPU | CTL_CONTEXT_MEMORY: what contexts hold. */
  ctl_context_mode(mode: number): void {
    this.open('ctl');
    this.contextMode = mode;
  }
  /** Not in unicorn.js: exceptions, INT n and (without hooks) SYSCALL and SYSENTER do what the processor does. */
  ctl_idt_delivery(enable: boolean): void {
    this.open('ctl');
    this.idtDelivery = enable;
    this.intercept();
  }

  /** The engine cannot be used afterwards; its memory goes with it. */
  close(): void {
    this.open('close');
    if (this.depth > 0) this.fail('close', C.ERR_RESOURCE);
    this.closed = true;
    this.hooks = [];
    this.memory.regions = [];
  }
}

// Results of leave() besides ERR_* codes.
const CONTINUE = -1;
/** The instruction runs again and must not count twice. */
const RERUN = -2;
const FINISHED = -3;

/** MEM_* type and error of a missing permission, by kind of access. */
const PROTECTION: readonly (readonly [type: number, error: number])[] = [
  [C.MEM_READ_PROT, C.ERR_READ_PROT],
  [C.MEM_WRITE_PROT, C.ERR_WRITE_PROT],
  [C.MEM_FETCH_PROT, C.ERR_FETCH_PROT],
];

const covers = (hook: HookEntry, address: bigint): boolean =>
  hook.everywhere || (address >= hook.begin && address <= hook.end);

/** Page number and offset of an address. */
function split(address: Address): [page: number, offset: number] {
  if (typeof address === 'number' && Number.isSafeInteger(address) && address >= 0) {
    return [Math.floor(address / PAGE_SIZE), address % PAGE_SIZE];
  }
  const bits = u64(address);
  return [Number(bits >> 12n), Number(bits & 0xfffn)];
}

function scalar(view: DataView, type: T.ScalarType): number | bigint {
  switch (type) {
    case 'i8':
      return view.getInt8(0);
    case 'i16':
      return view.getInt16(0, true);
    case 'i32':
      return view.getInt32(0, true);
    case 'i64':
      return view.getBigInt64(0, true);
    case 'float':
      return view.getFloat32(0, true);
    case 'double':
      return view.getFloat64(0, true);
  }
}
