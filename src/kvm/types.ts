/** What goes into a VM and what comes out of running one of its vCPUs. */
import type { Cpu, Vendor } from '../cpu/cpu.ts';
import type { CostModel } from './cost-model.ts';
import type { KvmTraceEvent } from './trace.ts';

/** How a VM is set up: what a VMM configures through KVM ioctls. */
export interface KvmOptions {
  readonly cpu: Cpu;
  /** Name of an era of `eras.ts`; default the newest. */
  readonly era?: string;
  /** vcpu_id (= x2APIC id) of each vCPU in index order; default 0, 1, 2 … */
  readonly apicIds?: readonly number[];
  /** Whether user space has asked for local APICs in the kernel (KVM_CREATE_IRQCHIP, KVM_CAP_SPLIT_IRQCHIP). Default true. */
  readonly inKernelApic?: boolean;
  /** KVM_CREATE_IRQCHIP: PIC pair and I/O APIC in the kernel, too. Default false, as with KVM_CAP_SPLIT_IRQCHIP. */
  readonly irqchip?: boolean;
  /** KVM_CREATE_PIT2, for VMs with `irqchip`. Default true. */
  readonly pit?: boolean;
  /** KVM_CAP_X2APIC_API flags: bit 0 32-bit ids, bit 1 broadcast quirk off. Default 0. */
  readonly x2apicApi?: number;
  /**
   * Features (names of `../cpu/features.ts`) that the VMM's CPUID does not show, though the processor has them. KVM then refuses what
   * depends on them: the x2APIC bit of IA32_APIC_BASE, the TSC-deadline mode of LVTT.
   */
  readonly hiddenFeatures?: readonly string[];
  /** KVM_CAP_ENFORCE_PV_FEATURE_CPUID. Default false. */
  readonly enforcePvFeatures?: boolean;
  /** KVM PV feature bits the guest's CPUID leaf 0x40000001 EAX shows; default what the era's KVM reports. */
  readonly pvFeatures?: number;
  /** KVM_X86_QUIRK_* bits that user space disabled. Default 0. */
  readonly disabledQuirks?: number;
  /** KVM_CAP_EXIT_HYPERCALL: bit n set = hypercall n goes to user space (only 12, MAP_GPA_RANGE, exists). Default 0. */
  readonly exitHypercalls?: number;
  /** Unix time in seconds when virtual time is 0: what kvmclock's wall clock shows. Default 2020-01-01T00:00:00Z. */
  readonly wallClock?: number;
  /** `vector_hashing` module parameter. Default true. */
  readonly vectorHashing?: boolean;
  /**
   * APIC virtualization of an Intel host: off (default), on, or on with IPI virtualization (v6.0 and later). The
   * `enable_apicv` and `enable_ipiv` module parameters.
   */
  readonly apicv?: ApicvMode;
  /** AVIC of an AMD host, with x2AVIC (v6.0 and later): the `avic` module parameter. Default false. */
  readonly avic?: boolean;
  /** Time that exits take. Default none. */
  readonly costs?: CostModel;
  readonly observer?: KvmObserver;
}

export type ApicvMode = 'off' | 'on' | 'ipiv';

/** Receives what happens while vCPUs run. Absent in hot runs: nothing is recorded then. */
export interface KvmObserver {
  /** Every trace event in KVM's order. */
  event?(event: KvmTraceEvent): void;
  /** Called when an exit has been fully handled, before the next entry of that vCPU. */
  exit?(record: ExitRecord): void;
}

/** One VM exit as a lab notebook shows it. */
export interface ExitRecord {
  readonly vcpu: number;
  /** Name as in the vendor's exit table: 'vmcall', 'msr_write', 'hlt', 'external_interrupt' … (lower case, stable). */
  readonly name: string;
  /** Vendor's exit number. */
  readonly reason: number;
  /** RIP of the instruction that exited. */
  readonly rip: bigint;
  /** Linear address of that instruction: RIP plus, outside 64-bit mode, the base of CS. */
  readonly linear: bigint;
  /** Code size of the vCPU at the exit: 64-bit mode, or CS.D. It decides the width of hypercall arguments. */
  readonly bits: 16 | 32 | 64;
  /**
   * rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8-r15, rip, rflags (order of GENERAL_REGISTERS) at the exit and when it
   * had been handled.
   */
  readonly before: readonly bigint[];
  readonly after: readonly bigint[];
  /** What the WRMSR fastpath did with this exit, if it was asked. */
  readonly fastpath?: FastpathOutcome;
  /** Events emitted from the exit until it was handled, in order. */
  readonly events: readonly KvmTraceEvent[];
}

/** The fastpath's pure decision (spec section 6.5), and why. */
export interface FastpathVerdict {
  readonly taken: boolean;
  /**
   * Short stable words, e.g. 'taken', 'delivery mode is not Fixed', 'logical destination', 'shorthand', 'broadcast',
   * 'reserved bits', 'not x2APIC'.
   */
  readonly reason: string;
}

/**
 * How KVM went on after a handled fastpath, in the kernel's words. SKIP_EMUL_INS (v5.6, v5.7): handle_exit advances RIP.
 * REENTER_GUEST (v5.8 and later): straight back into the guest. EXIT_HANDLED (v5.8 and later): the ordinary end of an exit, also
 * where something is pending for the vCPU itself.
 */
export type FastpathCompletion = 'SKIP_EMUL_INS' | 'REENTER_GUEST' | 'EXIT_HANDLED';

/** The verdict, and what came of it; `completion` is there if the fastpath was taken. */
export interface FastpathOutcome extends FastpathVerdict {
  readonly completion?: FastpathCompletion;
}

/** Why `Kvm.run` (KVM_RUN of one vCPU) returned. */
export type VcpuRunResult =
  /** The step budget is used up; the vCPU can go on. */
  | { readonly kind: 'budget' }
  /** Not runnable until something wakes it: MP state 'halted' or 'wait-for-sipi'. */
  | { readonly kind: 'blocked' }
  /** Executed PAUSE or SCHED_YIELD: another vCPU should run. */
  | { readonly kind: 'yield' }
  /** KVM_EXIT_IO; finish with `completeIo`. */
  | {
      readonly kind: 'io';
      readonly direction: 'in' | 'out';
      readonly port: number;
      readonly size: number;
      readonly value: number;
    }
  /** KVM_EXIT_MMIO; finish with `completeMmio`. */
  | {
      readonly kind: 'mmio';
      readonly direction: 'read' | 'write';
      readonly gpa: bigint;
      readonly size: number;
      readonly value: bigint;
    }
  /** KVM_EXIT_HYPERCALL (MAP_GPA_RANGE); finish with `completeHypercall`. */
  | { readonly kind: 'hypercall'; readonly nr: bigint; readonly args: readonly bigint[]; readonly longmode: boolean }
  /** KVM_EXIT_SHUTDOWN: triple fault. */
  | { readonly kind: 'shutdown' }
  /** The host kernel of this era would have crashed or corrupted memory here. */
  | { readonly kind: 'host-bug'; readonly bug: string; readonly cve?: string; readonly detail: string }
  /** KVM_EXIT_INTERNAL_ERROR. */
  | { readonly kind: 'internal-error'; readonly detail: string };

/** KVM's per-vCPU statistics (spec section 6.8) plus exits by reason name and fastpath hits. */
export interface VcpuCounters {
  exits: number;
  irq_exits: number;
  irq_window_exits: number;
  nmi_window_exits: number;
  halt_exits: number;
  halt_wakeup: number;
  hypercalls: number;
  irq_injections: number;
  nmi_injections: number;
  req_event: number;
  request_irq_exits: number;
  signal_exits: number;
  directed_yield_attempted: number;
  directed_yield_successful: number;
  /**
   * Exits by name, e.g. {vmcall: 1, msr_write: 2}. Counts every exit, also those KVM's own `exits` misses before v6.4.
   */
  byReason: Record<string, number>;
  /** WRMSR fastpath hits. Not a KVM counter. */
  fastpath: number;
}

export type MpState = 'runnable' | 'uninitialized' | 'init-received' | 'halted';
export type { Vendor };
