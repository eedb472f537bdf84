/** `struct kvm_vcpu`: what KVM keeps for one virtual processor besides the CPU registers. Signatures; the body follows. */
import type { CpuState } from '../cpu/cpu.ts';
import type { Lapic } from './lapic.ts';
import type { MpState, VcpuCounters } from './types.ts';

export declare class KvmVcpu {
  readonly index: number;
  /** vcpu_id = x2APIC id. */
  readonly apicId: number;
  readonly state: CpuState;
  readonly lapic: Lapic;
  readonly counters: VcpuCounters;
  /** KVM_GET/SET_MP_STATE; reading does not consume pending INIT or SIPI. */
  mpState: MpState;
  /** NMIs a KVM_GET_VCPU_EVENTS would report: 0, 1 or 2. */
  readonly nmiPending: number;
  /** NMIs received and not yet evaluated. */
  readonly nmiQueued: number;
  readonly smiPending: boolean;
  readonly initPending: boolean;
  readonly sipiPending: boolean;
  /** Vector of the last SIPI, 0 … 255. */
  readonly sipiVector: number;
  readonly pvUnhalted: boolean;
}
