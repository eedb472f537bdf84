/** At least one event of every kind, with the values that change the wording, on three vCPUs with APIC ids 0, 5 and 70. */
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { Vendor } from '../kvm/types.ts';
import type { TimedTrace } from './timed.ts';

const exit = (vcpu: number, reason: number, rip: bigint, fields: object = {}): KvmTraceEvent => ({
  ...{ vcpu, event: 'kvm_exit', reason, rip, info1: 0x1n, info2: 0xffff_ffff_ffff_fffen, intrInfo: 0, errorCode: 0 },
  ...fields,
});
const cpuid = { vcpu: 0, event: 'kvm_cpuid', ebx: 0, ecx: 0xffff_ffff, edx: 1 } as const;

export const EVERY_EVENT: readonly KvmTraceEvent[] = [
  { vcpu: 2, event: 'kvm_entry', rip: 0xffff_ffff_8100_0000n, intrInfo: 0x8000_00d1, errorCode: 0 },
  exit(2, 32, 0x1010n, { intrInfo: 0x8000_0b0d, errorCode: 7, requests: 0x4000 }),
  exit(1, 0x7c, 0xffff_ffff_8100_0000n),
  exit(1, 7, 0x1010n),
  exit(1, 200, 0x1010n),
  { vcpu: 0, event: 'kvm_hypercall', nr: 10n, a0: 14n, a1: 0n, a2: 1n, a3: 0xffff_ffff_ffff_ffd1n },
  { vcpu: 0, event: 'kvm_msr', write: true, msr: 0x830, data: 0x1_0000_00fdn, fault: false },
  { vcpu: 0, event: 'kvm_msr', write: false, msr: 0x831, data: 0n, fault: true },
  { vcpu: 0, event: 'kvm_apic', write: true, reg: 0x300, value: 0x1_0000_00fdn },
  { vcpu: 0, event: 'kvm_apic', write: false, reg: 0x210, value: 1n },
  { vcpu: 0, event: 'kvm_apic_ipi', icrLow: 0xd1, destId: 0x1f },
  { vcpu: 0, event: 'kvm_apic_ipi', icrLow: 0xc_cd30, destId: 0xffff_ffff },
  { vcpu: 0, event: 'kvm_apic_accept_irq', apicid: 70, deliveryMode: 1, triggerMode: 1, vector: 209 },
  { vcpu: 0, event: 'kvm_apic_accept_irq', apicid: 5, deliveryMode: 4, triggerMode: 0, vector: 0 },
  { vcpu: 0, event: 'kvm_apicv_accept_irq', apicid: 70, deliveryMode: 0, triggerMode: 0, vector: 241 },
  { vcpu: 0, event: 'kvm_eoi', apicid: 16, vector: -1 },
  { vcpu: 0, event: 'kvm_pv_eoi', apicid: 1, vector: 236 },
  { vcpu: 0, event: 'kvm_inj_virq', irq: 0xd1, soft: false, reinjected: true },
  { vcpu: 0, event: 'kvm_inj_virq', irq: 0x80, soft: true, reinjected: false },
  { vcpu: 0, event: 'kvm_inj_nmi' },
  { vcpu: 0, event: 'kvm_inj_exception', vector: 13, errorCode: 0, reinjected: false },
  { vcpu: 0, event: 'kvm_inj_exception', vector: 14, errorCode: 7, reinjected: true },
  { vcpu: 0, event: 'kvm_inj_exception', vector: 6, errorCode: null, reinjected: false },
  { ...cpuid, func: 0x4000_0001, index: 0, eax: 0x801, found: true },
  { ...cpuid, func: 0x401, index: 3, eax: 0, found: false, usedMaxBasic: true },
  { vcpu: 0, event: 'kvm_pio', write: true, port: 0xf4, size: 1, value: 3 },
  { vcpu: 0, event: 'kvm_mmio', write: false, gpa: 0xfee0_0300n, size: 4, value: 0n },
  { vcpu: 0, event: 'kvm_mmio', write: true, gpa: 0xfee0_0300n, size: 4, value: 5n },
  { vcpu: 0, event: 'kvm_cr', write: true, cr: 8, value: 2n },
  { vcpu: 0, event: 'kvm_userspace_exit', reason: 'KVM_EXIT_IO' },
  // A negative shift is read as unsigned by libtraceevent.
  {
    ...{ vcpu: 0, event: 'kvm_pvclock_update', vcpuId: 70, version: 4, tscTimestamp: 5_000_000_000n },
    ...{ systemTime: 6_000_000_000n, mul: 0x8000_0000, shift: 1, flags: 1 },
  },
  { vcpu: 0, event: 'kvm_pv_tlb_flush', vcpuId: 5, needFlush: true },
  { vcpu: 0, event: 'kvm_pv_tlb_flush', vcpuId: 70, needFlush: false },
  { vcpu: 0, event: 'kvm_async_pf_not_present', token: 0x1_0010, gva: 0xffff_8000_0000_1000n },
  { vcpu: 0, event: 'kvm_async_pf_ready', token: 0xffff_ffff, gva: 0n },
];

/** The events above 0.3 s apart, more than a ring-buffer event's time delta can hold. */
export const everyEvent = (era: string, vendor: Vendor): TimedTrace => ({
  era,
  vendor,
  trace: EVERY_EVENT,
  times: EVERY_EVENT.map((_, i) => (i + 1) * 300_000_001),
  vcpus: [{ apicId: 0 }, { apicId: 5 }, { apicId: 70 }],
});
