/**
 * Why a CPU left guest code. A discriminated union on `reason`.
 *
 * Engines reuse one mutable object per vCPU and reason, so that leaving the guest allocates nothing:
 * an Exit is valid until the next `run()` of the same vCPU; copy what must outlive that.
 * 64-bit qualifications come as two unsigned 32-bit numbers (`…Lo`, `…Hi`).
 */
export type Exit =
  | { readonly reason: 'budget' }
  | HypercallExit
  | WrmsrExit
  | RdmsrExit
  | PlainExit
  | IoExit
  | MmioExit
  | ExceptionExit
  | Cr8Exit
  | InternalExit;

/** VMCALL on Intel, VMMCALL on AMD, at any CPL. RIP still points at the instruction. */
export interface HypercallExit {
  readonly reason: 'hypercall';
  /** Instruction length in bytes. */
  length: number;
}

export interface WrmsrExit {
  readonly reason: 'wrmsr';
  length: number;
  /** ECX. */
  msr: number;
  /** EAX, unsigned. */
  dataLo: number;
  /** EDX, unsigned. */
  dataHi: number;
}

export interface RdmsrExit {
  readonly reason: 'rdmsr';
  length: number;
  msr: number;
}

/** Exits that carry nothing but the length of the instruction (0 for windows and shutdown). */
export interface PlainExit {
  readonly reason:
    | 'cpuid'
    | 'hlt'
    | 'pause'
    | 'interrupt-window'
    | 'nmi-window'
    | 'shutdown'
    | 'rdtsc'
    | 'wbinvd'
    | 'invd'
    | 'xsetbv'
    | 'mwait'
    | 'monitor'
    | 'invlpg'
    | 'mov-cr3'
    | 'rdpmc';
  length: number;
}

/** IN, OUT, INS, OUTS. Finish it with `completeIo`, which also advances RIP or lets the string instruction go on. */
export interface IoExit {
  readonly reason: 'io';
  length: number;
  port: number;
  /** Access size in bytes: 1, 2 or 4. */
  size: number;
  direction: 'in' | 'out';
  string: boolean;
  /** Value written, unsigned; 0 for 'in'. */
  value: number;
  /** I/O breakpoints hit: bits B0-B3 of DR6. The #DB that follows the instruction is left to the caller. */
  breakpoints?: number;
}

/** A data access to a guest-physical address outside RAM. Finish it with `completeMmio`. */
export interface MmioExit {
  readonly reason: 'mmio';
  gpaLo: number;
  gpaHi: number;
  /** 1, 2, 4 or 8 bytes. */
  size: number;
  direction: 'read' | 'write';
  valueLo: number;
  valueHi: number;
}

/** An exception whose bit is set in the exception bitmap, before any delivery. RIP at the faulting instruction. */
export interface ExceptionExit {
  readonly reason: 'exception';
  vector: number;
  hasErrorCode: boolean;
  errorCode: number;
  /** Linear address of a #PF. */
  addressLo: number;
  addressHi: number;
}

/** MOV to or from CR8. */
export interface Cr8Exit {
  readonly reason: 'cr8';
  length: number;
  direction: 'read' | 'write';
  /** Register id (`registers.ts`) of the GPR. */
  gpr: number;
  valueLo: number;
  valueHi: number;
}

/** The engine cannot continue, like KVM_EXIT_INTERNAL_ERROR: `what` says why, `code` carries its number. */
export interface InternalExit {
  readonly reason: 'internal';
  code: number;
  what: string;
  addressLo: number;
  addressHi: number;
}

export type ExitReason = Exit['reason'];
