/**
 * PV EOI (MSR KVM_PV_EOI_EN): a byte in guest memory that KVM sets to 1 before an entry when the EOI of the interrupt just
 * injected needs nothing from the host. A guest that finds it set clears it instead of writing the EOI register, and
 * saves an exit; KVM finds it cleared after the next exit and performs the EOI (apic_sync_pv_eoi_to_guest,
 * apic_sync_pv_eoi_from_guest).
 */
import { ramAddress, writeGuest8 } from './guest-memory.ts';
import { PV_ENABLED, type PvContext } from './pv-state.ts';
import type { KvmVcpu } from './vcpu.ts';

/** Bytes KVM maps; it uses bit 0 of the first. */
const EOI_BYTES = 4;
const EOI_PENDING = 1;

/** Write of KVM_PV_EOI_EN; false: #GP (address not 4-byte aligned, or not memory). */
export function writePvEoi(kvm: PvContext, vcpu: KvmVcpu, value: bigint): boolean {
  const gpa = value & ~PV_ENABLED;
  if ((gpa & 3n) !== 0n) return false;
  const enabled = (value & PV_ENABLED) !== 0n;
  const address = enabled ? ramAddress(kvm.cpu, gpa, EOI_BYTES) : -1;
  if (enabled && address < 0) return false;
  const { pv } = vcpu;
  pv.pvEoi = value;
  pv.eoiAddress = address;
  if (!enabled) pv.eoiPending = false;
  return true;
}

/**
 * After event evaluation, before the entry: arms the byte unless another interrupt waits or may be nested. Not under
 * APICv, where the hardware performs EOIs itself and `irrPending` is always set.
 */
export function armPvEoi(kvm: PvContext, vcpu: KvmVcpu): void {
  const { pv, lapic } = vcpu;
  if (lapic.irrPending || lapic.highestIsrCache < 0) return;
  writeGuest8(kvm.cpu, pv.eoiAddress, EOI_PENDING);
  pv.eoiPending = true;
}

/** After an exit with the byte armed: takes it back, or performs the EOI that the guest left to KVM. */
export function syncPvEoi(kvm: PvContext, vcpu: KvmVcpu): void {
  const { pv, lapic } = vcpu;
  pv.eoiPending = false;
  if ((kvm.cpu.memory[pv.eoiAddress] & EOI_PENDING) !== 0) {
    writeGuest8(kvm.cpu, pv.eoiAddress, 0);
    return;
  }
  const vector = lapic.eoi();
  const { trace } = kvm;
  if (trace === null) return;
  trace.eoi(vcpu, vector);
  trace.emit({ event: 'kvm_pv_eoi', vcpu: vcpu.index, apicid: vcpu.apicId, vector });
}
