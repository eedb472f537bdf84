/**
 * The `Cpu` interface: what every engine that executes guest code offers to KVM and to the machine.
 * An engine knows x86 and guest-physical RAM; it knows nothing of KVM, APICs or devices.
 */
import type { Exit } from './exit.ts';

export type Vendor = 'intel' | 'amd';

/** What executes guest code: the WebAssembly core, or that and a unicorn.js module (engines/unicorn.ts). */
export const ENGINES = ['core', 'unicorn'] as const;
export type EngineKind = (typeof ENGINES)[number];

/** Most virtual processors one engine holds. */
export const MAX_VCPUS = 4096;
/** Largest guest RAM in bytes: the built-in engine keeps it in one 4-GiB wasm memory with vCPU state and decoded code. */
export const MAX_MEMORY = 2 ** 31;
/** Largest guest RAM of engine `unicorn`: it exists twice, once in the heap of a module with at most 2 GiB. */
export const UNICORN_MAX_MEMORY = 2 ** 30;
/** Width of a guest-physical address in bits, as CPUID 0x80000008 tells the guest. */
export const MAXPHYADDR = 40;
/** Width of a linear address in bits that the processor knows (CPUID 0x80000008): 57, with 5-level paging. */
export const MAXLINADDR = 57;

export interface CpuOptions {
  /** Number of virtual processors, 1 … 4096. */
  readonly vcpus: number;
  /** Bytes of guest RAM from guest-physical address 0; a multiple of 4096. */
  readonly memory: number;
  /** Decides which of VMCALL and VMMCALL exits and which raises #UD. */
  readonly vendor: Vendor;
  /**
   * Whether hot guest code is translated to WebAssembly; 'force': all code, when control first comes to it. Nothing but speed depends on
   * it. Default: KVMSCOPE_JIT from the environment (0, 1, force), else true.
   */
  readonly tier2?: Tier2;
}

/** Whether hot code is translated to WebAssembly; 'force': all code, at once. */
export type Tier2 = boolean | 'force';

/** What KVMSCOPE_JIT in the environment says: 0 (false), force; otherwise true. */
export function defaultTier2(): Tier2 {
  const value = process.env.KVMSCOPE_JIT;
  return value === 'force' ? 'force' : value !== '0';
}

/** Who executed the steps of an engine that shares the work with the core. */
export interface EngineShare {
  /** Name of the foreign side, and its steps. */
  readonly engine: string;
  readonly executed: number;
  /** Steps of the core, by what the foreign side lacks for them. */
  readonly core: readonly { readonly what: string; readonly steps: number }[];
}

/** What `handleExits` takes: true if the exit is dealt with and the guest goes on at once. */
export type ExitHandler = (exit: Exit) => boolean;

/** Several virtual processors over one guest-physical memory. */
export interface Cpu {
  readonly vcpuCount: number;
  readonly vendor: Vendor;
  /** Guest RAM from guest-physical address 0. Writes through this view must be announced with `memoryWritten` before they are made. */
  readonly memory: Uint8Array;
  vcpu(index: number): CpuState;
  /**
   * Delivers a pending injection, then executes at most `budget` steps (one per instruction, one per REP iteration)
   * on vCPU `index` and returns why it stopped. The result is reused by the next call for the same vCPU.
   */
  run(index: number, budget: number): Exit;
  /**
   * From now on `handler` is shown exits before `run` returns them, with all registers as they will be then but for the arithmetic flags:
   * it neither needs nor changes them. If it answers true, the guest goes on; the exit has taken one from the budget, not from the vCPU's
   * steps. That spares the way out of the engine and back. Null: nobody is asked. An engine without this leaves at every exit.
   */
  handleExits?(handler: ExitHandler | null): void;
  /** The host writes guest RAM here: translated or decoded code is dropped, and snapshots keep what is still there. */
  memoryWritten(address: number, length: number): void;
  /** Whether it translates hot code; an engine that never does has no such property. */
  readonly tier2?: Tier2;
  /** The engine can run nothing any more. */
  readonly failed?: boolean;
  /** Of an engine that shares the work: what executed how many steps since the last call. */
  share?(): EngineShare;
  /** Takes a snapshot of RAM and all vCPUs between two runs. An engine without snapshots has neither this nor `restore`. */
  snapshot?(): CpuSnapshot;
  /**
   * Puts RAM and all vCPUs back to a snapshot of this engine. Costs as much as has changed since the snapshot last taken or
   * restored, or for another one as much as the two differ. Throws KvmscopeError('usage') for a snapshot of another engine or one
   * that was disposed of.
   */
  restore?(snapshot: CpuSnapshot): void;
  /**
   * Of an engine with snapshots: a number of 64 bits, in two halves, for how RAM differs from what it was when the snapshot last taken or
   * restored was taken; 0 if it does not.
   */
  memoryHash?(into: Int32Array): void;
  /** Of such an engine: the slots of a vCPU's state block (core/layout.ts), two words each, to read. */
  stateWords?(index: number): Uint32Array;
}

/** A state of RAM and all vCPUs, pending events and cached translations included, that its engine can go back to. */
export interface CpuSnapshot {
  /** Lets go of it. While an engine has snapshots, it keeps copies of pages before they are overwritten. */
  dispose(): void;
}

/**
 * The register file and event interface of one virtual processor. Ids are those of `registers.ts`.
 * `lo`, `hi` and `set` never allocate and know registers of up to 64 bits; `get` and `put` are the comfortable view of all.
 */
export interface CpuState {
  readonly index: number;
  /** Low 32 bits, unsigned. */
  lo(id: number): number;
  /** High 32 bits, unsigned. */
  hi(id: number): number;
  /** Writes a register from two unsigned (or int32) halves. */
  set(id: number, lo: number, hi: number): void;
  /** The value as a bigint in [0, 2^64), or in [0, 2^80) or [0, 2^128) for a wider register. */
  get(id: number): bigint;
  /** Writes the low bits of `value`, 64 or as many as the register has if it is wider. */
  put(id: number, value: bigint): void;

  /** Current privilege level, 0 … 3 (0 in real mode). */
  readonly cpl: number;
  /** EFER.LMA && CS.L. */
  readonly is64bit: boolean;
  /** Instructions and REP iterations executed so far. */
  readonly steps: number;

  /**
   * Queues an event for delivery through the IDT at the next `run()`; VMX VM-entry interruption-information format:
   * vector 7:0, type 10:8, deliver-error-code 11, valid 31 (`EVENT_*` of core/layout.ts).
   */
  inject(info: number, errorCode: number, instructionLength: number): void;
  /** The queued injection, 0 if none. */
  readonly injected: number;
  /**
   * IDT-vectoring information of the last exit (SDM vol. 3, 25.9.3; format as `inject`): the event whose delivery the exit interrupted,
   * for the caller to inject again; 0 if none.
   */
  readonly vectoring: number;
  /** Error code of that event. */
  readonly vectoringError: number;
  /** VMX interruptibility state: bit 0 STI shadow, bit 1 MOV-SS shadow, bit 3 NMIs blocked. */
  interruptibility: number;
  /** Ask for an exit as soon as an interrupt (bit 0) or an NMI (bit 1) could be taken. */
  window: number;
  /** Bit n makes exception vector n an exit. */
  exceptionBitmap: number;
  /** INTERCEPT_* bits of core/layout.ts. */
  intercepts: number;

  /**
   * Moves RIP past the instruction of the last exit (masked to 32 bits outside 64-bit mode) and clears the interrupt shadow.
   * A single-step trap due to RFLAGS.TF is left to the caller.
   */
  skipInstruction(): void;
  /** Finishes the last `io` exit: `value` is what an IN read, ignored for OUT. */
  completeIo(value: number): void;
  /** Finishes the last `mmio` exit: the value a read returns, ignored for a write. */
  completeMmio(valueLo: number, valueHi: number): void;
  /** Drops cached address translations. */
  flushTlb(): void;
  /**
   * Sets the architectural state to that after INIT/RESET (SDM vol. 3, table 10-1); RDX := `signature`; CD and NW, MSRs, x87 and SSE registers
   * survive an INIT.
   */
  reset(kind: 'reset' | 'init', signature: number): void;
  /**
   * Translates a linear address with the vCPU's paging state, without side effects. Returns the guest-physical address or -1.
   * Permissions are not checked.
   */
  translate(linear: bigint): number;
  /**
   * Writes guest memory at a linear address as the guest itself would at its current CPL.
   * Returns null, or the exception the guest would get: {vector, errorCode, address}.
   */
  writeLinear(linear: bigint, bytes: Uint8Array): { vector: number; errorCode: number; address: bigint } | null;
}
