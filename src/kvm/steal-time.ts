/**
 * Steal time (MSR KVM_STEAL_TIME): 64 bytes in guest memory that say how long the vCPU waited for a host CPU and whether
 * it is off one now (record_steal_time, kvm_steal_time_set_preempted). A guest may leave a TLB flush there for a
 * preempted vCPU instead of sending it an IPI.
 *
 * All vCPUs take turns on one host CPU. A vCPU's run delay is the virtual time that passed while it was runnable and
 * another one ran.
 */
import { PV_TLB_FLUSH } from './cpuid.ts';
import { ramAddress, readGuest32, readGuest64, writeGuest8, writeGuest32, writeGuest64 } from './guest-memory.ts';
import { PV_ENABLED, type PvContext, pvAllowed, REQ_STEAL_UPDATE } from './pv-state.ts';
import type { KvmVcpu } from './vcpu.ts';

// struct kvm_steal_time, 64 bytes.
const STEAL_BYTES = 64;
const STEAL_STEAL = 0;
const STEAL_VERSION = 8;
const STEAL_PREEMPTED = 16;
/** Flags of the preempted byte. */
export const KVM_VCPU_PREEMPTED = 1 << 0;
export const KVM_VCPU_FLUSH_TLB = 1 << 1;
/** Bits 5:1 of the MSR. */
const RESERVED = 0x3en;

/** Write of KVM_STEAL_TIME; false: #GP. */
export function writeStealTime(kvm: PvContext, vcpu: KvmVcpu, value: bigint): boolean {
  if ((value & RESERVED) !== 0n) return false;
  const { pv } = vcpu;
  const enabled = (value & PV_ENABLED) !== 0n;
  const address = ramAddress(kvm.cpu, value & ~PV_ENABLED, STEAL_BYTES);
  if (kvm.era.stealAddressChecked && enabled && address < 0) return false;
  pv.stealTime = value;
  pv.stealAddress = enabled ? address : -1;
  if (enabled) pv.requests |= REQ_STEAL_UPDATE;
  return true;
}

/** Before an entry, when the thread came back to a host CPU. */
export function recordStealTime(kvm: PvContext, vcpu: KvmVcpu): void {
  const { pv } = vcpu;
  const at = pv.stealAddress;
  if (at < 0) return;
  const { cpu, era } = kvm;
  if (pvAllowed(kvm, PV_TLB_FLUSH)) {
    const flush = (cpu.memory[at + STEAL_PREEMPTED] & KVM_VCPU_FLUSH_TLB) !== 0;
    writeGuest8(cpu, at + STEAL_PREEMPTED, 0);
    if (era.pvTlbFlushTraced) {
      kvm.trace?.emit({ event: 'kvm_pv_tlb_flush', vcpu: vcpu.index, vcpuId: vcpu.apicId, needFlush: flush });
    }
    if (flush) vcpu.state.flushTlb();
  } else if (!era.preemptedKeptWithoutFlush) {
    writeGuest8(cpu, at + STEAL_PREEMPTED, 0);
  }
  pv.preempted = false;

  const found = readGuest32(cpu, at + STEAL_VERSION);
  const version = ((found & 1) === 0 ? found + 1 : found + 2) >>> 0;
  writeGuest32(cpu, at + STEAL_VERSION, version);
  const steal = readGuest64(cpu, at + STEAL_STEAL) + BigInt(pv.runDelay - pv.lastSteal);
  pv.lastSteal = pv.runDelay;
  writeGuest64(cpu, at + STEAL_STEAL, steal);
  writeGuest32(cpu, at + STEAL_VERSION, (version + 1) >>> 0);
}

/**
 * The thread left its host CPU. `atBoundary`: a host interrupt made it, between two instructions of the guest, while it
 * could have gone on; later kernels tell the guest only then.
 */
export function setPreempted(kvm: PvContext, vcpu: KvmVcpu, atBoundary: boolean): void {
  const { pv } = vcpu;
  if (pv.stealAddress < 0 || pv.preempted || (kvm.era.preemptedAtBoundaryOnly && !atBoundary)) return;
  writeGuest8(kvm.cpu, pv.stealAddress + STEAL_PREEMPTED, KVM_VCPU_PREEMPTED);
  pv.preempted = true;
}
