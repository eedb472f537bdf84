/**
 * KVM's trace events as values, with the fields of arch/x86/kvm/trace.h. Text is made by `src/trace/`, one formatter
 * per event. 64-bit fields are bigints in [0, 2^64). Every event carries the index of the vCPU whose thread emitted it.
 */
export type KvmTraceEvent = { readonly vcpu: number } & (
  | { readonly event: 'kvm_entry'; readonly rip: bigint; readonly intrInfo: number; readonly errorCode: number }
  | {
      readonly event: 'kvm_exit';
      /** Vendor's exit number (VMX basic reason, SVM exit code). */
      readonly reason: number;
      readonly rip: bigint;
      readonly info1: bigint;
      readonly info2: bigint;
      readonly intrInfo: number;
      readonly errorCode: number;
      /** vcpu->requests, KVM_REQ_* as bits; absent means 0. */
      readonly requests?: number;
    }
  | {
      readonly event: 'kvm_hypercall';
      readonly nr: bigint;
      readonly a0: bigint;
      readonly a1: bigint;
      readonly a2: bigint;
      readonly a3: bigint;
    }
  | {
      readonly event: 'kvm_msr';
      readonly write: boolean;
      readonly msr: number;
      readonly data: bigint;
      readonly fault: boolean;
    }
  | {
      readonly event: 'kvm_apic';
      readonly write: boolean /** Register offset, e.g. 0x300. */;
      readonly reg: number;
      readonly value: bigint;
    }
  | { readonly event: 'kvm_apic_ipi'; readonly icrLow: number; readonly destId: number }
  | {
      readonly event: 'kvm_apic_accept_irq';
      /** vcpu_id of the target. */
      readonly apicid: number;
      readonly deliveryMode: number;
      readonly triggerMode: 0 | 1;
      readonly vector: number;
    }
  | {
      /** The interrupt was posted: no exit at the target. */
      readonly event: 'kvm_apicv_accept_irq';
      /** vcpu_id of the target. */
      readonly apicid: number;
      readonly deliveryMode: number;
      readonly triggerMode: 0 | 1;
      readonly vector: number;
    }
  | { readonly event: 'kvm_eoi'; readonly apicid: number /** -1 if nothing was in service. */; readonly vector: number }
  | { readonly event: 'kvm_pv_eoi'; readonly apicid: number; readonly vector: number }
  | { readonly event: 'kvm_inj_virq'; readonly irq: number; readonly soft: boolean; readonly reinjected: boolean }
  | { readonly event: 'kvm_inj_nmi' }
  | {
      readonly event: 'kvm_inj_exception';
      readonly vector: number;
      readonly errorCode: number | null;
      readonly reinjected: boolean;
    }
  | {
      readonly event: 'kvm_cpuid';
      readonly func: number;
      readonly index: number;
      readonly eax: number;
      readonly ebx: number;
      readonly ecx: number;
      readonly edx: number;
      readonly found: boolean;
      /** The leaf is out of range and Intel's rule answered with the last basic leaf. */
      readonly usedMaxBasic?: boolean;
    }
  | {
      readonly event: 'kvm_pio';
      readonly write: boolean;
      readonly port: number;
      readonly size: number;
      readonly value: number;
    }
  | {
      readonly event: 'kvm_mmio';
      readonly write: boolean;
      readonly gpa: bigint;
      readonly size: number;
      readonly value: bigint;
    }
  | { readonly event: 'kvm_cr'; readonly write: boolean; readonly cr: number; readonly value: bigint }
  | { readonly event: 'kvm_userspace_exit'; readonly reason: string }
  | {
      readonly event: 'kvm_pvclock_update';
      readonly vcpuId: number;
      readonly version: number;
      readonly tscTimestamp: bigint;
      readonly systemTime: bigint;
      readonly mul: number;
      readonly shift: number;
      readonly flags: number;
    }
  | { readonly event: 'kvm_pv_tlb_flush'; readonly vcpuId: number; readonly needFlush: boolean }
  | { readonly event: 'kvm_async_pf_not_present'; readonly token: number; readonly gva: bigint }
  | { readonly event: 'kvm_async_pf_ready'; readonly token: number; readonly gva: bigint }
);

export type KvmTraceEventName = KvmTraceEvent['event'];

const NAMES: Readonly<Record<KvmTraceEventName, true>> = {
  kvm_entry: true,
  kvm_exit: true,
  kvm_hypercall: true,
  kvm_msr: true,
  kvm_apic: true,
  kvm_apic_ipi: true,
  kvm_apic_accept_irq: true,
  kvm_apicv_accept_irq: true,
  kvm_eoi: true,
  kvm_pv_eoi: true,
  kvm_inj_virq: true,
  kvm_inj_nmi: true,
  kvm_inj_exception: true,
  kvm_cpuid: true,
  kvm_pio: true,
  kvm_mmio: true,
  kvm_cr: true,
  kvm_userspace_exit: true,
  kvm_pvclock_update: true,
  kvm_pv_tlb_flush: true,
  kvm_async_pf_not_present: true,
  kvm_async_pf_ready: true,
};
/** Every event there is. */
export const EVENT_NAMES: readonly KvmTraceEventName[] = Object.keys(NAMES) as KvmTraceEventName[];
