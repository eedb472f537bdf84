/** How a virtual machine is set up and what a run of it yields. */
import type { EngineKind, EngineShare, Tier2, Vendor } from '../cpu/cpu.ts';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { ApicvMode, ExitRecord, MpState, VcpuCounters } from '../kvm/types.ts';
import type { Schedule } from './schedule.ts';

/**
 * State in which vCPUs start (what firmware would have done).
 * `reset`: architectural reset state, RIP at 0xFFFF0, xAPIC, software-disabled APIC, APs wait for SIPI.
 * `real16`: CS:IP = 0:entry, flat 64 KiB segments. `prot32`: flat 32-bit segments, paging off. `long64`: 64-bit, identity-mapped
 * RAM and APIC page by 4-level paging. `compat32`: long mode with a 32-bit code segment.
 */
export type StartMode = 'reset' | 'real16' | 'prot32' | 'long64' | 'compat32';

/**
 * APIC state at start: enabled in this mode with SVR = 0x1FF, or as after reset, or globally disabled; `none`: the VMM has not
 * asked KVM for local APICs.
 */
export type ApicStart = 'x2apic' | 'xapic' | 'reset' | 'disabled' | 'none';

/** What the application processors do at start: HLT with IF=0, wait for SIPI, or run from the entry point like vCPU 0. */
export type ApStart = 'halted' | 'wait-for-sipi' | 'run';

/**
 * What stands around the vCPUs. `bare`: a console, a report port and an exit port, for guest programs. `pc`: what kvm-unit-tests and small
 * kernels look for, with PICs, I/O APIC and PIT in KVM, and time that passes during exits (`src/kvm/cost-model.ts`).
 */
export type BoardKind = 'bare' | 'pc';

export interface MachineOptions {
  /** Default `bare`. With `pc`, the defaults are `reset` for the mode and 128 MiB for the memory. */
  readonly board?: BoardKind;
  /** Features (names of `src/cpu/features.ts`) that CPUID does not show. Default none. */
  readonly hiddenFeatures?: readonly string[];
  /** Whether a `pc` has a PIT. Default true. */
  readonly pit?: boolean;
  /** Hears what the guest prints, as it comes. */
  readonly onConsole?: (text: string) => void;
  /** 1 … 4096. Default 1. */
  readonly vcpus?: number;
  /** Bytes of RAM; default 16 MiB, at most 2 GiB. */
  readonly memory?: number;
  readonly kvm?: string;
  readonly vendor?: Vendor;
  /** What executes guest code: `core` (default), or `unicorn` for a unicorn.js module that is installed. */
  readonly engine?: EngineKind;
  /**
   * Whether the core translates hot guest code to WebAssembly; 'force': all code, when control first comes to it. Nothing but speed
   * depends on it. Default: KVMSCOPE_JIT of the environment (0, 1, force), else true.
   */
  readonly tier2?: Tier2;
  readonly seed?: number;
  /** Which vCPUs make the first steps of a run, one after the other (`schedule.ts`); then the seed decides. Default none. */
  readonly schedule?: string | Schedule;
  readonly mode?: StartMode;
  /** CPL at start for prot32, long64, compat32. Default 0. */
  readonly cpl?: 0 | 3;
  readonly apic?: ApicStart;
  readonly aps?: ApStart;
  readonly apicIds?: readonly number[];
  readonly x2apicApi?: number;
  readonly enforcePvFeatures?: boolean;
  readonly pvFeatures?: number;
  readonly disabledQuirks?: number;
  readonly vectorHashing?: boolean;
  /** APIC virtualization of an Intel host: `off` (default), `on`, `ipiv` (with IPI virtualization; KVM 6.0 and later). */
  readonly apicv?: ApicvMode;
  /** AVIC of an AMD host. Default false. */
  readonly avic?: boolean;
  /** KVM_CAP_EXIT_HYPERCALL: 0 (default), or 0x1000 to get MAP_GPA_RANGE. */
  readonly exitHypercalls?: number;
  /**
   * What the VMM answers to hypercalls that reach it, one after the other, the last for all further ones; 'untouched'
   * leaves run->hypercall.ret alone. Default [0].
   */
  readonly hypercallReturns?: readonly (number | 'untouched')[];
  /** Unix time in seconds at virtual time 0. Default 1577836800, 2020-01-01T00:00:00Z. */
  readonly wallClock?: number;
  /** Steps over all vCPUs before the run ends with `budget`. Default 50,000,000. */
  readonly budget?: number;
  /** Record every trace event and exit. Default true. */
  readonly record?: boolean;
}

/** How a run ended. `ok` of a guest's own exit is its status. */
export type RunEnd =
  /** The guest wrote a status to the debug-exit port. */
  | { readonly kind: 'exit'; readonly status: number }
  /** Every vCPU is halted or waits for SIPI, nothing is pending, and no timer is armed that could change that. */
  | { readonly kind: 'halted' }
  | { readonly kind: 'budget'; readonly steps: number }
  | { readonly kind: 'shutdown'; readonly vcpu: number; readonly rip: bigint }
  /** The guest reset the machine, or switched it off, by a device of a `pc`. */
  | { readonly kind: 'reset' }
  | { readonly kind: 'power-off' }
  | {
      readonly kind: 'host-bug';
      readonly vcpu: number;
      readonly bug: string;
      readonly cve?: string;
      readonly detail: string;
    }
  | { readonly kind: 'internal-error'; readonly vcpu: number; readonly detail: string };

export interface LapicView {
  readonly id: number;
  readonly mode: 'disabled' | 'xapic' | 'x2apic';
  readonly enabled: boolean;
  readonly irr: readonly number[];
  readonly isr: readonly number[];
  readonly tmr: readonly number[];
  readonly tpr: number;
  readonly ppr: number;
  readonly icr: bigint;
  readonly svr: number;
  readonly ldr: number;
  readonly apicBase: bigint;
}

export interface VcpuView {
  readonly index: number;
  readonly apicId: number;
  readonly mpState: MpState;
  /** Every register of registers.ts by name. */
  readonly registers: Readonly<Record<string, bigint>>;
  readonly lapic: LapicView;
  readonly nmiPending: number;
  readonly smiPending: boolean;
  readonly initPending: boolean;
  /** SIPI vector if one is pending. */
  readonly sipiPending: number | null;
  readonly counters: Readonly<VcpuCounters>;
  readonly steps: number;
}

export interface RunResult {
  readonly end: RunEnd;
  readonly era: string;
  readonly vendor: Vendor;
  readonly seed: number;
  readonly vcpus: readonly VcpuView[];
  /** Registers of each vCPU by name when it started. */
  readonly start: readonly Readonly<Record<string, bigint>>[];
  /** Every exit, all vCPUs, in the order in which they happened. */
  readonly exits: readonly ExitRecord[];
  readonly trace: readonly KvmTraceEvent[];
  /**
   * Virtual time of each event of `trace` in nanoseconds, strictly increasing: the VM's clock, plus 1 for every event of this run
   * before it and for itself.
   */
  readonly times: readonly number[];
  /** Sum over vCPUs. */
  readonly counters: Readonly<VcpuCounters>;
  /** What the guest wrote to the serial port and the debug console. */
  readonly console: string;
  /** Values the guest wrote to the report port, in order: {vcpu, tag, value}. */
  readonly reports: readonly GuestReport[];
  readonly steps: number;
  /** Things worth knowing that are no failure, one line each: ports and addresses nobody answers, in order of first use. */
  readonly notes: readonly string[];
  /** Who executed the steps, of an engine that shares the work. */
  readonly share?: EngineShare;
  /** Guest RAM itself, not a copy: valid until the VM runs again or is disposed of. */
  readonly memory: Uint8Array;
}

/** One value a guest reported (guest/include/report.inc). */
export interface GuestReport {
  readonly vcpu: number;
  readonly value: number;
}
