/**
 * One instance of the CPU core with sparse memory and hooks: its wasm memory, which grows as guest memory is mapped, and the
 * state block of the one virtual CPU.
 */
import * as L from '../cpu/core/layout.ts';
import { coreModule, IDLE_IMPORTS } from '../cpu/wasm-cpu.ts';

/** What the core asks during a run; both may be asked millions of times per second. */
export interface CoreImports {
  /** Where a guest-physical page (number: 32 low bits, 20 high bits) is, for an ACCESS_* kind: a frame and PAGE_* bits, or -1. */
  page(lo: number, hi: number, access: number): number;
  /** An access of an ACCESS_* kind to a page answered with PAGE_ASK; address and value are in S_EXIT_Q0 and S_EXIT_DATA. Returns ACCESS_*. */
  access(kind: number, size: number): number;
  /** The CPU is at a hooked instruction; HOOK_* kinds and the sizes of the instruction and its block in bytes. Returns HOOK_*. */
  hook(kinds: number, size: number, blockSize: number): number;
}

interface CoreExports {
  setup(vcpus: number, ram: number): number;
  resetCode(): void;
  stateBase(): number;
  ramBase(): number;
  run(vcpu: number, budget: number): number;
  memoryWritten(address: number, length: number): void;
  translate(vcpu: number, linear: bigint): number;
  setSparse(on: number, virtual: number): void;
  hookMap(): number;
  useHooks(kinds: number): void;
  startBlock(end: bigint): void;
  blockAt(rip: bigint): number;
  materializeFlags(): void;
  unusedSteps(): number;
  setUnusedSteps(steps: number): void;
}

export const PAGE_SIZE = 4096;
const WASM_PAGE = 65536;
/** Room for guest frames in the 4 GiB of wasm memory; the rest holds state and decoded code. */
const MAX_RAM = 2 ** 32 - 2 ** 26;
export const MAX_FRAMES = MAX_RAM / PAGE_SIZE;

export class Core {
  readonly memory: WebAssembly.Memory;
  readonly exports: CoreExports;
  /** The whole wasm memory; replaced when it grows. */
  u8!: Uint8Array;
  /** The state block: slot n at index n (64-bit views) and 2n (u32). */
  u32!: Uint32Array;
  u64!: BigUint64Array;
  i64!: BigInt64Array;
  readonly ramBase: number;
  private readonly stateBase: number;
  private readonly hookMap: number;

  constructor(imports: CoreImports) {
    this.memory = new WebAssembly.Memory({ initial: 2, maximum: 65536 });
    const instance = new WebAssembly.Instance(coreModule(), {
      env: {
        ...IDLE_IMPORTS,
        memory: this.memory,
        table: new WebAssembly.Table({ initial: 16, element: 'anyfunc' }),
        ...imports,
      },
    });
    this.exports = instance.exports as unknown as CoreExports;
    this.exports.setup(1, MAX_RAM);
    this.stateBase = this.exports.stateBase() >>> 0;
    this.ramBase = this.exports.ramBase() >>> 0;
    this.hookMap = this.exports.hookMap() >>> 0;
    this.growTo(this.ramBase);
    this.exports.resetCode();
    this.exports.setSparse(1, 0);
    this.u32[L.S_TLB_VERSION * 2] = 1;
    this.u32[L.S_MAXPHYADDR * 2] = 52;
    this.exports.run(0, 0);
  }

  /** Makes the wasm memory at least `bytes` long. False if the host has no room. */
  growTo(bytes: number): boolean {
    const missing = Math.ceil((bytes - this.memory.buffer.byteLength) / WASM_PAGE);
    if (missing > 0) {
      try {
        this.memory.grow(missing);
      } catch {
        return false;
      }
    }
    if (this.u8?.buffer !== this.memory.buffer) {
      const buffer = this.memory.buffer;
      this.u8 = new Uint8Array(buffer);
      this.u32 = new Uint32Array(buffer, this.stateBase, L.S_SLOTS * 2);
      this.u64 = new BigUint64Array(buffer, this.stateBase, L.S_SLOTS);
      this.i64 = new BigInt64Array(buffer, this.stateBase, L.S_SLOTS);
    }
    return true;
  }

  /** Asks for HOOK_* kinds, HOOK_CODE at the page offsets whose bits are set; forgets decoded code. */
  useHooks(kinds: number, offsets: Uint8Array): void {
    this.u8.set(offsets, this.hookMap);
    this.exports.useHooks(kinds);
  }

  /** RFLAGS in its slot are up to date. */
  syncFlags(): void {
    this.exports.materializeFlags();
  }

  /** Steps executed so far, modulo 2^32; during a run, before the current instruction. */
  get steps(): number {
    return (this.u32[L.S_STEPS * 2] - this.exports.unusedSteps()) >>> 0;
  }
}
