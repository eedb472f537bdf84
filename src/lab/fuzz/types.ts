/** What a fuzzing campaign is, what its blocks yield, and what a case is. All but `Case` and `Outcome` is plain JSON. */
import type { Vendor } from '../../cpu/cpu.ts';
import type { StartMode } from '../../machine/types.ts';

export type CampaignKind = 'icr' | 'hypercall' | 'msr' | 'sequence' | 'race';

/** Where cases are executed: the VM before each of them. */
export interface Topology {
  readonly vendor: Vendor;
  readonly vcpus: number;
  /** vcpu_id of each vCPU; absent: 0, 1, 2 … */
  readonly ids?: readonly number[];
  /** Mode of the local APICs; `mixed`: vCPUs with an odd index are in x2APIC mode, the others in xAPIC mode; `none`: KVM has no local APICs. */
  readonly apic: 'x2apic' | 'xapic' | 'mixed' | 'none';
  /** Indices of vCPUs whose APIC is off: SVR bit 8 clear, or IA32_APIC_BASE bit 11 clear. */
  readonly softwareDisabled?: readonly number[];
  readonly hardwareDisabled?: readonly number[];
  /** Code size and privilege of the guest code that performs the steps. */
  readonly mode: Exclude<StartMode, 'reset'>;
  readonly cpl: 0 | 3;
  /** What vCPUs do that perform no step; `wait-for-sipi`: MP state uninitialized; `init-received`: as after an INIT, so that a SIPI starts them. */
  readonly aps: 'halted' | 'wait-for-sipi' | 'init-received';
  /** KVM_CAP_X2APIC_API flags. */
  readonly x2apicApi: number;
  readonly vectorHashing: boolean;
  readonly enforcePvFeatures: boolean;
  /** CPUID 0x40000001 EAX; absent: what the era's KVM reports. */
  readonly pvFeatures?: number;
  /** KVM_CAP_EXIT_HYPERCALL; user space answers 0. */
  readonly exitHypercalls?: number;
}

/** A campaign: block n of it covers the cases [n * blockSize, (n + 1) * blockSize), and its result depends on nothing else. */
export interface Campaign {
  readonly kind: CampaignKind;
  /** Name of an era. */
  readonly kvm: string;
  /** Name of an era, 'golden', or '/dev/kvm'; absent: invariants and host bugs only. */
  readonly against?: string;
  /** Folder of recordings for `golden`. */
  readonly golden?: string;
  /** Block n is executed on number n modulo their count. */
  readonly topologies: readonly Topology[];
  /** 0 … 2^32-1. */
  readonly seed: number;
  readonly blockSize: number;
  /** Handlers of KVM are called without executing guest instructions. */
  readonly direct: boolean;
  /** What only a race campaign needs. */
  readonly race?: Readonly<Record<string, unknown>>;
}

/** One difference, with the smallest case that shows it. */
export interface Find {
  /** What differs, in canonical words: equal for equal finds. */
  readonly signature: string;
  readonly block: number;
  /** Number of the case in the campaign in which it was first seen. */
  readonly case: number;
  /** The smallest case: JSON that can be executed again. */
  readonly input: unknown;
  /** What came out on each side, by the side's name. */
  readonly outcomes: unknown;
  /** Source text of a guest program that shows it; its expectations hold on one side and not on the other. */
  readonly program: string;
  /** One paragraph of plain words. */
  readonly words: string;
}

export interface BlockResult {
  readonly block: number;
  readonly cases: number;
  /** Decision points of the model that were reached: sorted numbers of `DECISIONS`. */
  readonly coverage: readonly number[];
  /** Cases that reached something new within the block, encoded. */
  readonly corpus: readonly string[];
  /** One per signature. */
  readonly finds: readonly Find[];
}

// ---- cases ----

/** What one step does; the letters are the 64-bit arguments of `Case`. */
export const OP = {
  /** WRMSR of b to MSR a. */
  wrmsr: 0,
  /** RDMSR of MSR a. */
  rdmsr: 1,
  /** VMCALL or VMMCALL with RAX = a, RBX = b, RCX = c, RDX = d, RSI = e. */
  call: 2,
  /** 32-bit store of b to offset a of the APIC page. */
  store: 3,
  /** 32-bit load from offset a of the APIC page. */
  load: 4,
  /** Stores of b[63:32] to ICR2 and b[31:0] to ICR in the APIC page. */
  icrStores: 5,
  /** MOV of b to CR8; 64-bit code only. */
  cr8: 6,
  /** STI, NOP, CLI: takes pending interrupts; the handlers only return. */
  take: 7,
  /** STI, HLT, CLI: sleeps until an interrupt. */
  hlt: 8,
} as const;
export type OpName = keyof typeof OP;
export const OP_NAMES: readonly OpName[] = Object.keys(OP) as OpName[];

/** 32-bit words of a step: operation, vCPU, and low and high halves of a, b, c, d, e. */
export const STEP_WORDS = 12;
export const STEP_OP = 0;
export const STEP_VCPU = 1;
/** Argument n (0 is a) has its low half at STEP_ARGS + 2n. */
export const STEP_ARGS = 2;
export const MAX_STEPS = 24;

/**
 * A case: steps that vCPUs perform one after the other. A step of a vCPU that cannot execute (asleep, waiting for SIPI, reset) ends the case.
 */
export class Case {
  readonly words: Uint32Array = new Uint32Array(MAX_STEPS * STEP_WORDS);
  length = 0;

  assign(from: Case): void {
    this.length = from.length;
    for (let i = 0; i < from.length * STEP_WORDS; i++) this.words[i] = from.words[i];
  }

  arg(step: number, which: number): bigint {
    const at = step * STEP_WORDS + STEP_ARGS + which * 2;
    return (BigInt(this.words[at + 1]) << 32n) | BigInt(this.words[at]);
  }

  setArg(step: number, which: number, value: bigint): void {
    const at = step * STEP_WORDS + STEP_ARGS + which * 2;
    this.words[at] = Number(value & 0xffffffffn);
    this.words[at + 1] = Number((value >> 32n) & 0xffffffffn);
  }
}

// ---- outcomes ----

/** 32-bit words of a step's result. */
export const RESULT_WORDS = 5;
/** 0: the next instruction was reached; FAULT | vector; ASLEEP; STUCK: something else. */
export const RESULT_STATUS = 0;
/** What was read: RAX after a call, EDX:EAX after RDMSR, EAX after a load. */
export const RESULT_LO = 1;
export const RESULT_HI = 2;
/** Bit n: general register n (RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 …) changed and should not have. */
export const RESULT_SPOILED = 3;
/** 0: the fastpath was not asked or cannot be seen; 1: taken; 2: not taken. */
export const RESULT_FASTPATH = 4;

export const STATUS_NEXT = 0;
export const STATUS_FAULT = 0x100;
export const STATUS_ASLEEP = 0x200;
export const STATUS_STUCK = 0x300;
/** The step was not performed: its vCPU could not execute. */
export const STATUS_NOT_RUN = 0x400;

/** State words of a vCPU: the 64 registers of the APIC page (slot = offset / 16), then these. */
export const WORD_NMI = 64;
export const WORD_SMI = 65;
/** INIT pending before the MP state was read. */
export const WORD_INIT = 66;
/** MP state as KVM numbers it, after pending INIT and SIPI were carried out: 0 runnable, 1 uninitialized, 2 init-received, 3 halted. */
export const WORD_MP = 67;
/** Selector of CS after that. */
export const WORD_CS = 68;
/** IA32_APIC_BASE, low half. */
export const WORD_BASE = 69;
/** Vector of a pending SIPI plus 1, before the MP state was read; and a pending PV kick. A real KVM shows neither. */
export const WORD_SIPI = 70;
export const WORD_KICK = 71;
export const VCPU_WORDS = 72;

/** State words that one message can change: IRR, TMR, ICR, ICR2 (0x300 and 0x310), and what is pending. */
export const LIGHT_WORDS: Uint8Array = Uint8Array.from([
  ...Array.from({ length: 8 }, (_, word) => 0x18 + word),
  ...Array.from({ length: 8 }, (_, word) => 0x20 + word),
  0x30,
  0x31,
  WORD_NMI,
  WORD_SMI,
  WORD_INIT,
  WORD_SIPI,
  WORD_KICK,
]);

/** What a case did. Reused from case to case. */
export class Outcome {
  /** Empty: every step ended somehow; else why the host or the VM is gone, e.g. 'host bug pv-ipi-no-map'. */
  end = '';
  steps = 0;
  /** Only `LIGHT_WORDS` of the vCPUs touched can differ from the start. */
  light = false;
  /** Start state that every word but `LIGHT_WORDS` of every vCPU holds, null: none; for the target alone. */
  base: Uint32Array | null = null;
  readonly results: Uint32Array = new Uint32Array(MAX_STEPS * RESULT_WORDS);
  /** 1: the state words of this vCPU were read; 0: it is as before the case. */
  readonly touched: Uint8Array;
  /** VCPU_WORDS per vCPU. */
  readonly state: Uint32Array;

  constructor(vcpus: number) {
    this.touched = new Uint8Array(vcpus);
    this.state = new Uint32Array(vcpus * VCPU_WORDS);
  }
}
