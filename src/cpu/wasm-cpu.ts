/**
 * The default engine: the WebAssembly core of `core/`, compiled to build/core.wasm by scripts/build-core.ts.
 * One instance holds all vCPUs and the guest RAM in one wasm memory; switching vCPU is switching a state block.
 */
import { readFileSync } from 'node:fs';
import { KvmscopeError, notBuilt } from '../errors.ts';
import * as L from './core/layout.ts';
import {
  type Cpu,
  type CpuOptions,
  type CpuSnapshot,
  type CpuState,
  defaultTier2,
  type ExitHandler,
  MAX_MEMORY,
  MAX_VCPUS,
  MAXLINADDR,
  MAXPHYADDR,
  type Tier2,
  type Vendor,
} from './cpu.ts';
import type { Exit, ExitReason, PlainExit } from './exit.ts';
import { Tier, type TierCore, type TierStatistics } from './jit/tier.ts';
import { REGISTERS, type RegisterInfo } from './registers.ts';
import { type SnapshotCore, Snapshots } from './snapshots.ts';

interface CoreExports extends SnapshotCore, TierCore {
  setup(vcpus: number, ram: number): number;
  resetCode(): void;
  ramBase(): number;
  run(vcpu: number, budget: number): number;
  askAtExits(on: boolean): void;
  memoryWritten(address: number, length: number): void;
  translate(vcpu: number, linear: bigint): number;
  translateAccess(vcpu: number, linear: bigint, access: number): number;
  writeLinear(vcpu: number, linear: bigint, from: number, length: number): number;
}

const PAGE = 65536;
const MAX_PAGES = 65536;
/**
 * Steps in one call of the core. wasm code is optimised between calls only, so that one long call would stay in the baseline compiler's code.
 */
const SLICE = 200_000;

let module: WebAssembly.Module | undefined;

/** Compiles the core once per process. Throws KvmscopeError('build') if it has not been built. */
export function coreModule(): WebAssembly.Module {
  if (module) return module;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = readFileSync(new URL('../../build/core.wasm', import.meta.url));
  } catch {
    throw notBuilt('build/core.wasm');
  }
  module = new WebAssembly.Module(bytes);
  return module;
}

/** What the core imports, besides memory and table, for hosts that want none of it. */
export const IDLE_IMPORTS = {
  hot: () => undefined,
  keepPage: () => undefined,
  exit: () => 0,
  abort: () => {
    throw new Error('the CPU core aborted');
  },
  page: () => -1,
  access: () => L.ACCESS_PASS,
  hook: () => L.HOOK_CONTINUE,
};
let sizer: Pick<CoreExports, 'setup'> | undefined;

/**
 * Pages of 64 KiB that a core needs. An instance of its own tells it beforehand: a memory that grows detaches its ArrayBuffer, and from
 * the first such one on V8 checks every access to any typed array of the process.
 */
function memoryPages(compiled: WebAssembly.Module, vcpus: number, memory: number): number {
  if (sizer === undefined) {
    const env = {
      ...IDLE_IMPORTS,
      memory: new WebAssembly.Memory({ initial: 2, maximum: MAX_PAGES }),
      table: new WebAssembly.Table({ initial: 16, element: 'anyfunc' }),
    };
    sizer = new WebAssembly.Instance(compiled, { env }).exports as unknown as CoreExports;
  }
  const bytes = sizer.setup(vcpus, memory) >>> 0;
  return bytes === 0 ? MAX_PAGES : Math.ceil(bytes / PAGE);
}

const PLAIN: Readonly<Record<number, PlainExit['reason'] | undefined>> = {
  [L.EXIT_CPUID]: 'cpuid',
  [L.EXIT_HLT]: 'hlt',
  [L.EXIT_PAUSE]: 'pause',
  [L.EXIT_INTERRUPT_WINDOW]: 'interrupt-window',
  [L.EXIT_NMI_WINDOW]: 'nmi-window',
  [L.EXIT_SHUTDOWN]: 'shutdown',
  [L.EXIT_RDTSC]: 'rdtsc',
  [L.EXIT_WBINVD]: 'wbinvd',
  [L.EXIT_INVD]: 'invd',
  [L.EXIT_INVLPG]: 'invlpg',
  [L.EXIT_MOV_CR3]: 'mov-cr3',
  [L.EXIT_XSETBV]: 'xsetbv',
  [L.EXIT_MWAIT]: 'mwait',
  [L.EXIT_MONITOR]: 'monitor',
  [L.EXIT_RDPMC]: 'rdpmc',
};

const INTERNAL: Readonly<Record<number, string>> = {
  [L.INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM]:
    'code, a page table, a descriptor table or an exception frame lies outside RAM',
  [L.INTERNAL_IO_QUEUE_FULL]: 'one instruction made too many MMIO accesses',
};

/** Groups of registers that an INIT leaves alone (SDM vol. 3, table 10-1). */
const KEPT_BY_INIT: ReadonlySet<RegisterInfo['group']> = new Set(['msr', 'xcr', 'x87', 'sse']);

const BUDGET: Exit = { reason: 'budget' };

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const {
  R_RFLAGS,
  R_EFER,
  EXIT_BUDGET,
  EXIT_CR8,
  EXIT_EXCEPTION,
  EXIT_HYPERCALL,
  EXIT_IO,
  EXIT_MMIO,
  EXIT_RDMSR,
  EXIT_WRMSR,
} = L;
// What every exit touches, as indices of the u32 view.
const RIP = L.R_RIP * 2;
const RIP_HIGH = RIP + 1;
const EFER = R_EFER * 2;
const ATTR_CS = (L.R_ATTR + L.SEG_CS) * 2;
const STEPS = L.S_STEPS * 2;
const INTERRUPTIBILITY = L.S_INTERRUPTIBILITY * 2;
const EXIT_LEN = L.S_EXIT_LEN * 2;
const EXIT_Q0 = L.S_EXIT_Q0 * 2;
const EXIT_Q1 = L.S_EXIT_Q1 * 2;
const EXIT_DATA = L.S_EXIT_DATA * 2;
const SHADOWS = L.SHADOW_STI | L.SHADOW_MOV_SS;

/** Every exit with qualifications, one for each vCPU: whatever the reason, a reader finds the same shape. */
class CoreExit {
  readonly #u32: Uint32Array;
  reason: ExitReason = 'hypercall';
  // wrmsr, rdmsr
  msr = 0;
  dataLo = 0;
  dataHi = 0;
  // io, mmio, cr8
  direction: 'in' | 'out' | 'read' | 'write' = 'in';
  size = 0;
  port = 0;
  string = false;
  value = 0;
  breakpoints = 0;
  gpaLo = 0;
  gpaHi = 0;
  gpr = 0;
  valueLo = 0;
  valueHi = 0;
  // exception, internal
  vector = 0;
  hasErrorCode = false;
  errorCode = 0;
  addressLo = 0;
  addressHi = 0;
  code = 0;
  what = '';

  constructor(u32: Uint32Array) {
    this.#u32 = u32;
  }
  get length(): number {
    return this.#u32[EXIT_LEN] as number;
  }
}

/** One vCPU's state block as the host sees it. Slot n of 8 bytes is at index n (u64) and 2n (u32). */
export class WasmCpuState implements CpuState {
  readonly index: number;
  readonly u32: Uint32Array;
  private readonly u64: BigUint64Array;
  private readonly core: CoreExports;
  private readonly bytes: Uint8Array;
  private readonly scratch: number;

  private readonly left: CoreExit;

  constructor(index: number, memory: WebAssembly.Memory, core: CoreExports) {
    const base = core.stateBase() + index * L.STATE_STRIDE;
    this.index = index;
    this.u32 = new Uint32Array(memory.buffer, base, L.S_SLOTS * 2);
    this.u64 = new BigUint64Array(memory.buffer, base, L.S_SLOTS);
    this.bytes = new Uint8Array(memory.buffer, base, L.STATE_STRIDE);
    this.core = core;
    this.left = new CoreExit(this.u32);
    // The last bytes of the block are free: staging for writeLinear.
    this.scratch = base + L.STATE_STRIDE - 64;
  }

  lo(id: number): number {
    return this.u32[id * 2] as number;
  }
  hi(id: number): number {
    return this.u32[id * 2 + 1] as number;
  }
  set(id: number, lo: number, hi: number): void {
    const { u32 } = this;
    u32[id * 2] = lo;
    u32[id * 2 + 1] = hi;
    if (id >= R_RFLAGS) this.changed(id);
  }
  get(id: number): bigint {
    if (id < L.R_FPR) return this.u64[id] as bigint;
    const slot = this.wideSlot(id);
    const high = this.u64[slot + 1] as bigint;
    return (this.u64[slot] as bigint) | ((id < L.R_ST ? high : high & 0xffffn) << 64n);
  }
  put(id: number, value: bigint): void {
    if (id < L.R_FPR) {
      this.u64[id] = value;
      if (id >= R_RFLAGS) this.changed(id);
      return;
    }
    const slot = this.wideSlot(id);
    this.u64[slot] = value;
    this.u64[slot + 1] = id < L.R_ST ? value >> 64n : (value >> 64n) & 0xffffn;
  }
  /** First slot of a register of 80 or 128 bits. */
  private wideSlot(id: number): number {
    return id < L.R_ST ? id : L.R_FPR + (((this.lo(L.R_FSW) >> 11) + id - L.R_ST) & 7) * 2;
  }
  /** Copies whole slots from `first` on, as many as `into` has room for. */
  copySlots(first: number, into: Uint8Array): void {
    into.set(this.bytes.subarray(first * 8, first * 8 + into.length));
  }
  /** Writes a slot that is no register: nothing has to be recomputed for it. */
  private setSlot(slot: number, lo: number, hi: number): void {
    this.u32[slot * 2] = lo;
    this.u32[slot * 2 + 1] = hi;
  }
  /** Follows a write of RFLAGS or a later register: the CPL is SS.DPL, as in a VMCS; translations depend on CR0, CR3, CR4 and EFER. */
  private changed(id: number): void {
    if (id === L.R_ATTR + L.SEG_SS) this.u32[L.S_CPL * 2] = ((this.u32[id * 2] as number) >> 5) & 3;
    const translation = id === L.R_CR0 || id === L.R_CR3 || id === L.R_CR4 || id === L.R_EFER;
    this.u32[L.S_DIRTY * 2] |= translation ? L.DIRTY_TRANSLATION : L.DIRTY_MODE;
  }

  get cpl(): number {
    return this.lo(L.S_CPL);
  }
  get is64bit(): boolean {
    const { u32 } = this;
    return ((u32[EFER] as number) & 0x400) !== 0 && ((u32[ATTR_CS] as number) & 0x2000) !== 0;
  }
  get steps(): number {
    const { u32 } = this;
    return (u32[STEPS] as number) + (u32[STEPS + 1] as number) * 0x100000000;
  }

  inject(info: number, errorCode: number, instructionLength: number): void {
    this.setSlot(L.S_INJECT_ERROR, errorCode, 0);
    this.setSlot(L.S_INJECT_LEN, instructionLength, 0);
    this.setSlot(L.S_INJECT, info, 0);
  }
  get injected(): number {
    return this.lo(L.S_INJECT);
  }
  get vectoring(): number {
    return this.lo(L.S_VECTORING);
  }
  get vectoringError(): number {
    return this.lo(L.S_VECTORING_ERROR);
  }
  get interruptibility(): number {
    return this.lo(L.S_INTERRUPTIBILITY);
  }
  set interruptibility(value: number) {
    this.u32[L.S_INTERRUPTIBILITY * 2] = value;
  }
  get window(): number {
    return this.lo(L.S_WINDOW);
  }
  set window(value: number) {
    this.u32[L.S_WINDOW * 2] = value;
  }
  get exceptionBitmap(): number {
    return this.lo(L.S_EXCEPTION_BITMAP);
  }
  set exceptionBitmap(value: number) {
    this.u32[L.S_EXCEPTION_BITMAP * 2] = value;
  }
  get intercepts(): number {
    return this.lo(L.S_INTERCEPT);
  }
  set intercepts(value: number) {
    this.u32[L.S_INTERCEPT * 2] = value;
  }

  skipInstruction(): void {
    const { u32 } = this;
    const next = (u32[RIP] as number) + (u32[EXIT_LEN] as number);
    u32[RIP] = next;
    if (next > 0xffffffff || u32[RIP_HIGH] !== 0) this.carryRip(next);
    if (((u32[INTERRUPTIBILITY] as number) & SHADOWS) !== 0) this.interruptibility &= ~SHADOWS;
  }
  /** RIP is as wide as the mode makes it; `next`: its new low half, with the carry. */
  private carryRip(next: number): void {
    if (!this.is64bit) this.u32[RIP_HIGH] = 0;
    else if (next > 0xffffffff) this.u32[RIP_HIGH]++;
  }
  completeIo(value: number): void {
    const how = this.lo(L.S_EXIT_Q1);
    if (how & 0x20) {
      this.complete(value, 0);
      return;
    }
    if (how & 0x10) {
      const size = how & 15;
      const at = L.R_RAX * 2;
      const rax = this.u32[at] as number;
      this.u32[at] =
        size === 1 ? (rax & ~0xff) | (value & 0xff) : size === 2 ? (rax & ~0xffff) | (value & 0xffff) : value;
      if (size === 4) this.u32[at + 1] = 0;
    }
    this.skipInstruction();
  }
  completeMmio(valueLo: number, valueHi: number): void {
    this.complete(valueLo, valueHi);
  }
  /** Queues a completed access; the instruction runs again and takes it. */
  private complete(lo: number, hi: number): void {
    const count = this.lo(L.S_IOQ_COUNT);
    this.setSlot(L.S_IOQ + count, lo, hi);
    this.setSlot(L.S_IOQ_COUNT, count + 1, 0);
  }
  flushTlb(): void {
    this.u32[L.S_DIRTY * 2] |= L.DIRTY_TRANSLATION;
  }

  reset(kind: 'reset' | 'init', signature: number): void {
    const cacheBits = kind === 'init' ? this.lo(L.R_CR0) & 0x60000000 : 0x60000000;
    for (const { id, group } of REGISTERS) {
      if (kind === 'reset' || !KEPT_BY_INIT.has(group)) this.put(id, 0n);
    }
    if (kind === 'reset') {
      this.set(L.R_FCW, L.FCW_RESET, 0);
      this.set(L.R_FTW, 0xff, 0);
      this.set(L.R_MXCSR, L.MXCSR_RESET, 0);
      this.set(L.R_XCR0, 1, 0);
      // A host that sets CR3 to bad ones leaves those that were there.
      for (let i = 0; i < 4; i++) this.setSlot(L.S_PDPTE + i, 0, 0);
    }
    this.set(L.R_RIP, 0xfff0, 0);
    this.set(L.R_RFLAGS, 2, 0);
    this.set(L.R_RDX, signature, 0);
    this.set(L.R_CR0, 0x10 | cacheBits, 0);
    this.set(L.R_DR6, 0xffff0ff0, 0);
    this.set(L.R_DR7, 0x400, 0);
    for (let segment = L.SEG_ES; segment <= L.SEG_TR; segment++) {
      this.set(L.R_LIMIT + segment, 0xffff, 0);
      this.set(L.R_ATTR + segment, 0x93, 0);
    }
    this.set(L.R_SEL + L.SEG_CS, 0xf000, 0);
    this.set(L.R_BASE + L.SEG_CS, 0xffff0000, 0);
    this.set(L.R_ATTR + L.SEG_CS, 0x9b, 0);
    this.set(L.R_ATTR + L.SEG_LDTR, 0x82, 0);
    this.set(L.R_ATTR + L.SEG_TR, 0x8b, 0);
    this.set(L.R_GDTR_LIMIT, 0xffff, 0);
    this.set(L.R_IDTR_LIMIT, 0xffff, 0);
    for (const slot of [L.S_INTERRUPTIBILITY, L.S_WINDOW, L.S_INJECT, L.S_IOQ_COUNT, L.S_PENDING_DEBUG])
      this.set(slot, 0, 0);
    this.flushTlb();
  }

  translate(linear: bigint): number {
    this.adopt();
    return this.core.translate(this.index, linear);
  }
  writeLinear(linear: bigint, bytes: Uint8Array): { vector: number; errorCode: number; address: bigint } | null {
    this.adopt();
    for (let at = 0; at < bytes.length; at += 64) {
      const part = bytes.subarray(at, at + 64);
      this.bytes.set(part, L.STATE_STRIDE - 64);
      const fault = this.core.writeLinear(this.index, linear + BigInt(at), this.scratch, part.length);
      if (fault) return { vector: fault & 0xff, errorCode: this.lo(L.S_EXIT_Q1), address: this.get(L.S_EXIT_DATA) };
    }
    return null;
  }
  /** A run of no steps takes over registers that the host wrote, and nothing else. */
  adopt(): void {
    if (this.lo(L.S_DIRTY) === 0) return;
    const inject = this.lo(L.S_INJECT);
    const window = this.window;
    const pending = this.lo(L.S_PENDING_DEBUG);
    this.u32[L.S_INJECT * 2] = 0;
    this.u32[L.S_PENDING_DEBUG * 2] = 0;
    this.window = 0;
    this.core.run(this.index, 0);
    this.window = window;
    this.u32[L.S_INJECT * 2] = inject;
    this.u32[L.S_PENDING_DEBUG * 2] = pending;
  }

  /** The exit that the core left with, `code` = EXIT_*. */
  exit(code: number): Exit {
    const { left } = this;
    if (code === EXIT_HYPERCALL) left.reason = 'hypercall';
    else if (code === EXIT_WRMSR) this.wrmsrExit();
    else return code === EXIT_BUDGET ? BUDGET : this.otherExit(code);
    return left as unknown as Exit;
  }
  private wrmsrExit(): void {
    const { u32, left } = this;
    left.reason = 'wrmsr';
    left.msr = u32[EXIT_Q0] as number;
    left.dataLo = u32[EXIT_DATA] as number;
    left.dataHi = u32[EXIT_DATA + 1] as number;
  }
  private otherExit(code: number): Exit {
    const { u32, left } = this;
    switch (code) {
      case EXIT_RDMSR:
        left.reason = 'rdmsr';
        left.msr = u32[EXIT_Q0] as number;
        break;
      case EXIT_IO: {
        const how = u32[EXIT_Q1] as number;
        left.reason = 'io';
        left.port = u32[EXIT_Q0] as number;
        left.size = how & 15;
        left.direction = how & 0x10 ? 'in' : 'out';
        left.string = (how & 0x20) !== 0;
        left.breakpoints = (how >> 8) & 15;
        left.value = how & 0x10 ? 0 : (u32[EXIT_DATA] as number);
        break;
      }
      case EXIT_MMIO: {
        const how = u32[EXIT_Q1] as number;
        left.reason = 'mmio';
        left.gpaLo = u32[EXIT_Q0] as number;
        left.gpaHi = u32[EXIT_Q0 + 1] as number;
        left.size = how & 15;
        left.direction = how & 0x10 ? 'write' : 'read';
        left.valueLo = u32[EXIT_DATA] as number;
        left.valueHi = u32[EXIT_DATA + 1] as number;
        break;
      }
      case EXIT_EXCEPTION: {
        const what = u32[EXIT_Q0] as number;
        left.reason = 'exception';
        left.vector = what & 0xff;
        left.hasErrorCode = (what & 0x800) !== 0;
        left.errorCode = u32[EXIT_Q1] as number;
        left.addressLo = u32[EXIT_DATA] as number;
        left.addressHi = u32[EXIT_DATA + 1] as number;
        break;
      }
      case EXIT_CR8:
        left.reason = 'cr8';
        left.direction = u32[EXIT_Q0] ? 'read' : 'write';
        left.gpr = u32[EXIT_Q1] as number;
        left.valueLo = u32[EXIT_DATA] as number;
        left.valueHi = u32[EXIT_DATA + 1] as number;
        break;
      default:
        this.rareExit(code);
    }
    return left as unknown as Exit;
  }
  private rareExit(code: number): void {
    const { u32, left } = this;
    const plain = PLAIN[code];
    if (plain !== undefined) {
      left.reason = plain;
      return;
    }
    left.reason = 'internal';
    left.code = u32[EXIT_Q0] as number;
    left.what = INTERNAL[left.code] ?? `unknown exit ${code}`;
    left.addressLo = u32[EXIT_Q1] as number;
    left.addressHi = u32[EXIT_Q1 + 1] as number;
  }
}

export class WasmCpu implements Cpu {
  readonly vcpuCount: number;
  readonly vendor: Vendor;
  readonly memory: Uint8Array;
  private readonly core: CoreExports;
  private readonly enter: CoreExports['run'];
  private readonly wasm: WebAssembly.Memory;
  private readonly states: WasmCpuState[];
  private readonly snapshots: Snapshots;
  readonly tier2: Tier2;
  #tier: Tier | undefined;
  #handler: ExitHandler | null = null;
  /** Steps until hot code is looked for; 0: it is, or never will be. */
  #patience: number;
  /** PAGE_* bits by frame. */
  private readonly attributes: Uint8Array;

  private constructor(
    compiled: WebAssembly.Module,
    options: CpuOptions,
    stored: ((frame: number) => void) | null = null,
  ) {
    const { vcpus, memory, vendor } = options;
    if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
      throw new KvmscopeError('usage', `a virtual machine has 1 to ${MAX_VCPUS} vCPUs, not ${vcpus}`);
    }
    if (!Number.isInteger(memory) || memory < 4096 || memory % 4096 !== 0 || memory > MAX_MEMORY) {
      throw new KvmscopeError('memory', `guest memory must be a multiple of 4096 bytes up to 2 GiB, not ${memory}`);
    }
    this.vcpuCount = vcpus;
    this.vendor = vendor;
    const pages = memoryPages(compiled, vcpus, memory);
    try {
      this.wasm = new WebAssembly.Memory({ initial: pages, maximum: MAX_PAGES });
    } catch {
      throw new KvmscopeError('memory', `the host has no room for ${memory} bytes of guest memory; ask for less`);
    }
    const table = new WebAssembly.Table({ initial: 16, element: 'anyfunc' });
    const tiered = options.tier2 ?? defaultTier2();
    this.tier2 = tiered;
    const instance = new WebAssembly.Instance(compiled, {
      env: {
        ...IDLE_IMPORTS,
        memory: this.wasm,
        table,
        hot: (frame: number, offset: number, count: number) => {
          this.#tier ??= new Tier(this.core, this.wasm, table, tiered === 'force');
          this.#tier.hot(frame >>> 0, offset, count);
        },
        exit: (index: number, code: number) =>
          this.#handler !== null && this.#handler((this.states[index] as WasmCpuState).exit(code)) === true ? 1 : 0,
        keepPage: (frame: number) => (stored === null ? this.snapshots.keep(frame >>> 0) : stored(frame >>> 0)),
      },
    });
    this.core = instance.exports as unknown as CoreExports;
    this.enter = this.core.run;
    this.core.setup(vcpus, memory);
    this.memory = new Uint8Array(this.wasm.buffer, this.core.ramBase() >>> 0, memory);
    this.core.resetCode();
    this.#patience = tiered === true ? Tier.patience : 0;
    if (tiered && this.#patience === 0) Tier.start(this.core, tiered === 'force');
    this.snapshots = new Snapshots(this.core, this.memory, vcpus);
    this.attributes = new Uint8Array(this.wasm.buffer, this.core.pageAttributes() >>> 0, memory / 4096);
    this.states = Array.from({ length: vcpus }, (_, i) => new WasmCpuState(i, this.wasm, this.core));
    this.initialise();
  }

  /** A new engine; the core is compiled at the first call. */
  static createSync(options: CpuOptions): WasmCpu {
    return new WasmCpu(coreModule(), options);
  }
  static async create(options: CpuOptions): Promise<WasmCpu> {
    return WasmCpu.createSync(options);
  }
  /**
   * The part of another engine that knows the system: events, system instructions, paging. It has no snapshots; instead `stored` hears
   * of the first store to each page that `watchPages` named, before it happens.
   */
  static createSystem(options: CpuOptions, stored: (frame: number) => void): WasmCpu {
    return new WasmCpu(coreModule(), options, stored);
  }

  private initialise(): void {
    for (const state of this.states) {
      state.set(L.S_VENDOR, this.vendor === 'amd' ? 1 : 0, 0);
      state.set(L.S_MAXPHYADDR, MAXPHYADDR, 0);
      state.set(L.S_MAXLINADDR, MAXLINADDR, 0);
      state.set(L.S_TLB_VERSION, 1, 0);
      state.set(L.S_RANDOM, state.index, 0);
      state.reset('reset', 0);
    }
  }

  /** What the second tier has done so far; undefined if nothing was hot. */
  get tier2Statistics(): TierStatistics | undefined {
    return this.#tier?.statistics;
  }

  vcpu(index: number): WasmCpuState {
    return this.states[index] as WasmCpuState;
  }

  run(index: number, budget: number): Exit {
    const state = this.states[index] as WasmCpuState;
    let left = budget;
    while (left > SLICE) {
      const before = state.steps;
      const code = this.enterFor(state, SLICE);
      if (code !== EXIT_BUDGET) return state.exit(code);
      // It may have gone beyond its end.
      left -= Math.max(SLICE, state.steps - before);
      if (left <= 0) return state.exit(code);
    }
    return state.exit(this.enterFor(state, left | 0));
  }
  private enterFor(state: WasmCpuState, budget: number): number {
    return this.#patience === 0 ? this.enter(state.index, budget) : this.runCold(state, budget);
  }

  private runCold(state: WasmCpuState, budget: number): number {
    const before = state.steps;
    const code = this.enter(state.index, budget);
    this.#patience = Math.max(0, this.#patience - (state.steps - before));
    if (this.#patience === 0) Tier.start(this.core, false);
    return code;
  }

  handleExits(handler: ExitHandler | null): void {
    this.#handler = handler;
    this.core.askAtExits(handler !== null);
  }

  memoryWritten(address: number, length: number): void {
    this.core.memoryWritten(address, length);
  }

  /** Guest-physical address of an access that the guest makes at its current privilege (`ACCESS_*`), -1 if it faults; sets A and D bits. */
  translateAccess(index: number, linear: bigint, access: number): number {
    return this.core.translateAccess(index, linear, access);
  }
  /** The next store of a guest instruction to each of these pages is told to `stored`. */
  watchPages(frames: Iterable<number>): void {
    for (const frame of frames) this.attributes[frame] |= L.PAGE_CLEAN;
    this.core.watch();
    this.core.unwatch();
  }

  snapshot(): CpuSnapshot {
    return this.snapshots.take();
  }
  restore(snapshot: CpuSnapshot): void {
    this.snapshots.restore(snapshot);
  }
  stateWords(index: number): Uint32Array {
    return this.vcpu(index).u32;
  }
  memoryHash(into: Int32Array): void {
    this.snapshots.memoryHash(into);
  }
}
