/**
 * The default engine: the WebAssembly core of `core/`, compiled to build/core.wasm by scripts/build-core.ts.
 * One instance holds all vCPUs and the guest RAM in one wasm memory; switching vCPU is switching a state block.
 */
import { readFileSync } from 'node:fs';
import { KvmscopeError } from '../errors.ts';
import * as L from './core/layout.ts';
import {
  type Cpu,
  type CpuOptions,
  type CpuSnapshot,
  type CpuState,
  MAX_MEMORY,
  MAX_VCPUS,
  MAXLINADDR,
  MAXPHYADDR,
  type Vendor,
} from './cpu.ts';
import type {
  Cr8Exit,
  ExceptionExit,
  Exit,
  HypercallExit,
  InternalExit,
  IoExit,
  MmioExit,
  PlainExit,
  RdmsrExit,
  WrmsrExit,
} from './exit.ts';
import { REGISTERS, type RegisterInfo } from './registers.ts';
import { type SnapshotCore, Snapshots } from './snapshots.ts';

interface CoreExports extends SnapshotCore {
  setup(vcpus: number, ram: number): number;
  resetCode(): void;
  ramBase(): number;
  run(vcpu: number, budget: number): number;
  memoryWritten(address: number, length: number): void;
  translate(vcpu: number, linear: bigint): number;
  translateAccess(vcpu: number, linear: bigint, access: number): number;
  writeLinear(vcpu: number, linear: bigint, from: number, length: number): number;
}

const PAGE = 65536;
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
    throw new KvmscopeError('build', 'build/core.wasm is missing: run `npm run prepare` to build the CPU core');
  }
  module = new WebAssembly.Module(bytes);
  return module;
}

const PLAIN: Readonly<Record<number, PlainExit['reason']>> = {
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

/** One vCPU's state block as the host sees it. Slot n of 8 bytes is at index n (u64) and 2n (u32). */
export class WasmCpuState implements CpuState {
  readonly index: number;
  private readonly u32: Uint32Array;
  private readonly u64: BigUint64Array;
  private readonly core: CoreExports;
  private readonly bytes: Uint8Array;
  private readonly scratch: number;

  // The exits of this vCPU, reused.
  readonly hypercall: HypercallExit = { reason: 'hypercall', length: 3 };
  readonly wrmsr: WrmsrExit = { reason: 'wrmsr', length: 2, msr: 0, dataLo: 0, dataHi: 0 };
  readonly rdmsr: RdmsrExit = { reason: 'rdmsr', length: 2, msr: 0 };
  readonly io: IoExit = {
    reason: 'io',
    length: 0,
    port: 0,
    size: 0,
    direction: 'in',
    string: false,
    value: 0,
    breakpoints: 0,
  };
  readonly mmio: MmioExit = { reason: 'mmio', gpaLo: 0, gpaHi: 0, size: 0, direction: 'read', valueLo: 0, valueHi: 0 };
  readonly exception: ExceptionExit = {
    reason: 'exception',
    vector: 0,
    hasErrorCode: false,
    errorCode: 0,
    addressLo: 0,
    addressHi: 0,
  };
  readonly cr8: Cr8Exit = { reason: 'cr8', length: 0, direction: 'read', gpr: 0, valueLo: 0, valueHi: 0 };
  readonly internal: InternalExit = { reason: 'internal', code: 0, what: '', addressLo: 0, addressHi: 0 };
  readonly plain = new Map<number, PlainExit>(
    Object.entries(PLAIN).map(([code, reason]) => [Number(code), { reason, length: 0 }]),
  );
  readonly hlt: PlainExit = this.plain.get(L.EXIT_HLT) as PlainExit;

  constructor(index: number, memory: WebAssembly.Memory, core: CoreExports) {
    const base = core.stateBase() + index * L.STATE_STRIDE;
    this.index = index;
    this.u32 = new Uint32Array(memory.buffer, base, L.S_SLOTS * 2);
    this.u64 = new BigUint64Array(memory.buffer, base, L.S_SLOTS);
    this.bytes = new Uint8Array(memory.buffer, base, L.STATE_STRIDE);
    this.core = core;
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
    this.u32[id * 2] = lo;
    this.u32[id * 2 + 1] = hi;
    if (id > L.R_RFLAGS) this.changed(id);
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
      if (id > L.R_RFLAGS) this.changed(id);
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
  /** Follows a write of a register beyond RFLAGS: the CPL is SS.DPL, as in a VMCS; translations depend on CR0, CR3, CR4 and EFER. */
  private changed(id: number): void {
    if (id === L.R_ATTR + L.SEG_SS) this.u32[L.S_CPL * 2] = ((this.u32[id * 2] as number) >> 5) & 3;
    if (id === L.R_CR0 || id === L.R_CR3 || id === L.R_CR4 || id === L.R_EFER) this.u32[L.S_DIRTY * 2] = 1;
  }

  get cpl(): number {
    return this.lo(L.S_CPL);
  }
  get is64bit(): boolean {
    return (this.lo(L.R_EFER) & 0x400) !== 0 && (this.lo(L.R_ATTR + L.SEG_CS) & 0x2000) !== 0;
  }
  get steps(): number {
    return this.lo(L.S_STEPS) + this.hi(L.S_STEPS) * 2 ** 32;
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
    const next = this.lo(L.R_RIP) + this.lo(L.S_EXIT_LEN);
    this.u32[L.R_RIP * 2] = next;
    if (!this.is64bit) this.u32[L.R_RIP * 2 + 1] = 0;
    else if (next >= 2 ** 32) this.u32[L.R_RIP * 2 + 1] = this.hi(L.R_RIP) + 1;
    this.u32[L.S_INTERRUPTIBILITY * 2] = this.interruptibility & ~(L.SHADOW_STI | L.SHADOW_MOV_SS);
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
    this.u32[L.S_DIRTY * 2] = 1;
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

  exit(code: number): Exit {
    const u32 = this.u32;
    switch (code) {
      case L.EXIT_HYPERCALL:
        return this.hypercall;
      case L.EXIT_WRMSR: {
        const exit = this.wrmsr;
        exit.msr = u32[L.S_EXIT_Q0 * 2] as number;
        exit.dataLo = u32[L.S_EXIT_DATA * 2] as number;
        exit.dataHi = u32[L.S_EXIT_DATA * 2 + 1] as number;
        exit.length = u32[L.S_EXIT_LEN * 2] as number;
        return exit;
      }
      case L.EXIT_BUDGET:
        return BUDGET;
      case L.EXIT_HLT:
        this.hlt.length = u32[L.S_EXIT_LEN * 2] as number;
        return this.hlt;
      case L.EXIT_RDMSR:
        this.rdmsr.msr = u32[L.S_EXIT_Q0 * 2] as number;
        this.rdmsr.length = u32[L.S_EXIT_LEN * 2] as number;
        return this.rdmsr;
      case L.EXIT_IO: {
        const exit = this.io;
        const how = u32[L.S_EXIT_Q1 * 2] as number;
        exit.port = u32[L.S_EXIT_Q0 * 2] as number;
        exit.size = how & 15;
        exit.direction = how & 0x10 ? 'in' : 'out';
        exit.string = (how & 0x20) !== 0;
        exit.breakpoints = (how >> 8) & 15;
        exit.value = exit.direction === 'out' ? (u32[L.S_EXIT_DATA * 2] as number) : 0;
        exit.length = u32[L.S_EXIT_LEN * 2] as number;
        return exit;
      }
      case L.EXIT_MMIO: {
        const exit = this.mmio;
        const how = u32[L.S_EXIT_Q1 * 2] as number;
        exit.gpaLo = u32[L.S_EXIT_Q0 * 2] as number;
        exit.gpaHi = u32[L.S_EXIT_Q0 * 2 + 1] as number;
        exit.size = how & 15;
        exit.direction = how & 0x10 ? 'write' : 'read';
        exit.valueLo = u32[L.S_EXIT_DATA * 2] as number;
        exit.valueHi = u32[L.S_EXIT_DATA * 2 + 1] as number;
        return exit;
      }
      case L.EXIT_EXCEPTION: {
        const exit = this.exception;
        const what = u32[L.S_EXIT_Q0 * 2] as number;
        exit.vector = what & 0xff;
        exit.hasErrorCode = (what & 0x800) !== 0;
        exit.errorCode = u32[L.S_EXIT_Q1 * 2] as number;
        exit.addressLo = u32[L.S_EXIT_DATA * 2] as number;
        exit.addressHi = u32[L.S_EXIT_DATA * 2 + 1] as number;
        return exit;
      }
      case L.EXIT_CR8: {
        const exit = this.cr8;
        exit.direction = u32[L.S_EXIT_Q0 * 2] ? 'read' : 'write';
        exit.gpr = u32[L.S_EXIT_Q1 * 2] as number;
        exit.valueLo = u32[L.S_EXIT_DATA * 2] as number;
        exit.valueHi = u32[L.S_EXIT_DATA * 2 + 1] as number;
        exit.length = u32[L.S_EXIT_LEN * 2] as number;
        return exit;
      }
      default: {
        const plain = this.plain.get(code);
        if (plain) {
          plain.length = u32[L.S_EXIT_LEN * 2] as number;
          return plain;
        }
        const exit = this.internal;
        exit.code = u32[L.S_EXIT_Q0 * 2] as number;
        exit.what = INTERNAL[exit.code] ?? `unknown exit ${code}`;
        exit.addressLo = u32[L.S_EXIT_Q1 * 2] as number;
        exit.addressHi = u32[L.S_EXIT_Q1 * 2 + 1] as number;
        return exit;
      }
    }
  }
}

export class WasmCpu implements Cpu {
  readonly vcpuCount: number;
  readonly vendor: Vendor;
  readonly memory: Uint8Array;
  private readonly core: CoreExports;
  private readonly wasm: WebAssembly.Memory;
  private readonly states: WasmCpuState[];
  private readonly snapshots: Snapshots;
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
    this.wasm = new WebAssembly.Memory({ initial: 2, maximum: 65536 });
    const instance = new WebAssembly.Instance(compiled, {
      env: {
        memory: this.wasm,
        keepPage: (frame: number) => (stored === null ? this.snapshots.keep(frame >>> 0) : stored(frame >>> 0)),
        abort: () => {
          throw new Error('the CPU core aborted');
        },
        // Asked only by engines with sparse memory or hooks.
        page: () => -1,
        access: () => L.ACCESS_PASS,
        hook: () => L.HOOK_CONTINUE,
      },
    });
    this.core = instance.exports as unknown as CoreExports;
    const bytes = this.core.setup(vcpus, memory) >>> 0;
    const pages = Math.ceil((bytes === 0 ? 2 ** 32 : bytes) / PAGE);
    try {
      this.wasm.grow(Math.max(0, pages - this.wasm.buffer.byteLength / PAGE));
    } catch {
      throw new KvmscopeError('memory', `the host has no room for ${memory} bytes of guest memory; ask for less`);
    }
    this.memory = new Uint8Array(this.wasm.buffer, this.core.ramBase() >>> 0, memory);
    this.core.resetCode();
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

  vcpu(index: number): WasmCpuState {
    return this.states[index] as WasmCpuState;
  }

  run(index: number, budget: number): Exit {
    const state = this.states[index] as WasmCpuState;
    for (let left = budget; ; left -= SLICE) {
      const code = this.core.run(index, Math.min(left, SLICE));
      if (code !== L.EXIT_BUDGET || left <= SLICE) return state.exit(code);
    }
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
}
