/** APIC state at the start of a VM, set as a VMM does through KVM_SET_MSRS and KVM_SET_LAPIC. */
import type { Kvm } from '../kvm/x86.ts';
import type { ApicStart } from './types.ts';

const MSR_IA32_APIC_BASE = 0x1b;
const APIC_BASE_X2APIC = 1n << 10n;
const APIC_BASE_ENABLE = 1n << 11n;
/** SVR's slot among the 64 registers of KVM_SET_LAPIC (register offset 0xF0 / 16). */
const SVR_SLOT = 0xf;
/** Software-enabled, spurious vector 0xFF. */
const SVR_ENABLED = 0x1ff;

/** Brings the LAPIC of vCPU `index` from its reset state (xAPIC, software-disabled) to `start`. */
export function startApic(kvm: Kvm, index: number, start: ApicStart): void {
  if (start === 'reset' || start === 'none') return;
  const { lapic } = kvm.vcpus[index];
  const base = lapic.apicBase & ~(APIC_BASE_ENABLE | APIC_BASE_X2APIC);
  kvm.setMsr(index, MSR_IA32_APIC_BASE, base);
  if (start === 'disabled') return;
  // Registers before the mode: enabling the APIC is what makes KVM look at them for its map.
  const registers = lapic.registers.slice();
  registers[SVR_SLOT] = SVR_ENABLED;
  lapic.load(registers);
  kvm.setMsr(index, MSR_IA32_APIC_BASE, base | APIC_BASE_ENABLE | (start === 'x2apic' ? APIC_BASE_X2APIC : 0n));
}
