/** Intel VMX: basic exit reasons (SDM vol. 3, appendix C; names of KVM's VMX_EXIT_REASONS) and the native hypercall. */

import type { VendorExit } from './exits.ts';
import * as X from './exits.ts';

const rows: readonly (readonly [kind: number, reason: number, name: string])[] = [
  [X.EXIT_EXCEPTION, 0, 'exception_nmi'],
  [X.EXIT_EXTERNAL_INTERRUPT, 1, 'external_interrupt'],
  [X.EXIT_TRIPLE_FAULT, 2, 'triple_fault'],
  [X.EXIT_INTERRUPT_WINDOW, 7, 'interrupt_window'],
  [X.EXIT_NMI_WINDOW, 8, 'nmi_window'],
  [X.EXIT_CPUID, 10, 'cpuid'],
  [X.EXIT_HLT, 12, 'hlt'],
  [X.EXIT_INVD, 13, 'invd'],
  [X.EXIT_INVLPG, 14, 'invlpg'],
  [X.EXIT_RDTSC, 16, 'rdtsc'],
  [X.EXIT_HYPERCALL, 18, 'vmcall'],
  [X.EXIT_CR_ACCESS, 28, 'cr_access'],
  [X.EXIT_IO, 30, 'io_instruction'],
  [X.EXIT_RDMSR, 31, 'msr_read'],
  [X.EXIT_WRMSR, 32, 'msr_write'],
  [X.EXIT_MWAIT, 36, 'mwait_instruction'],
  [X.EXIT_MONITOR, 39, 'monitor_instruction'],
  [X.EXIT_PAUSE, 40, 'pause_instruction'],
  [X.EXIT_TPR_BELOW_THRESHOLD, 43, 'tpr_below_threshold'],
  [X.EXIT_NESTED_PAGE_FAULT, 48, 'ept_violation'],
  [X.EXIT_WBINVD, 54, 'wbinvd'],
  [X.EXIT_XSETBV, 55, 'xsetbv'],
  [X.EXIT_PREEMPTION_TIMER, 52, 'preemption_timer'],
  [X.EXIT_APIC_ACCESS, 44, 'apic_access'],
  [X.EXIT_EOI_INDUCED, 45, 'eoi_induced'],
  [X.EXIT_APIC_WRITE, 56, 'apic_write'],
  // IPI virtualization has no exit of its own.
  [X.EXIT_INCOMPLETE_IPI, 56, 'apic_write'],
  [X.EXIT_RDPMC, 15, 'rdpmc'],
];

/** By exit kind. */
export const VMX_EXITS: readonly VendorExit[] = rows.map(([kind, number, name], i) => {
  if (kind !== i) throw new RangeError(`VMX exit table out of order at ${name}`);
  return { number, name };
});

/** VMCALL. */
export const VMX_HYPERCALL: Uint8Array = Uint8Array.of(0x0f, 0x01, 0xc1);
