/** APIC state at the start of a VM, set as a VMM does through KVM's ioctls. */
import type { Kvm } from '../kvm/x86.ts';
import type { ApicStart } from './types.ts';

const MSR_IA32_APIC_BASE = 0x1b;
const APIC_BASE_ENABLE = 1n << 11n;
const APIC_BASE_X2APIC = 1n << 10n;
/** Spurious-interrupt vector register: software-enabled, spurious vector 0xFF. */
const SVR_ENABLED = 0x1ff;

/** Brings the LAPIC of vCPU `index` from its reset state (xAPIC, software-disabled) to `start`. */
export function startApic(kvm: Kvm, index: number, start: ApicStart): void {
  const { lapic } = kvm.vcpus[index];
  const base = lapic.apicBase & ~(APIC_BASE_ENABLE | APIC_BASE_X2APIC);
  if (start === 'reset') return;
  if (start === 'disabled') kvm.setMsr(index, MSR_IA32_APIC_BASE, base);
  if (start === 'x2apic') kvm.setMsr(index, MSR_IA32_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
  if (start === 'x2apic' || start === 'xapic') kvm.setMsr(index, 0x80f, BigInt(SVR_ENABLED));
}
