/** AMD SVM: exit codes (APM vol. 2, appendix C; names of KVM's SVM_EXIT_REASONS) and the native hypercall. */

import type { VendorExit } from './exits.ts';
import * as X from './exits.ts';

const rows: readonly (readonly [kind: number, code: number, name: string])[] = [
  // Exceptions have one code per vector, 0x40 + vector; KVM's model intercepts #UD only.
  [X.EXIT_EXCEPTION, 0x46, 'ud_excp'],
  [X.EXIT_EXTERNAL_INTERRUPT, 0x60, 'interrupt'],
  [X.EXIT_TRIPLE_FAULT, 0x7f, 'shutdown'],
  [X.EXIT_INTERRUPT_WINDOW, 0x64, 'vintr'],
  // SVM has no NMI window: KVM intercepts the IRET that ends the NMI handler.
  [X.EXIT_NMI_WINDOW, 0x74, 'iret'],
  [X.EXIT_CPUID, 0x72, 'cpuid'],
  [X.EXIT_HLT, 0x78, 'hlt'],
  [X.EXIT_INVD, 0x76, 'invd'],
  [X.EXIT_INVLPG, 0x79, 'invlpg'],
  [X.EXIT_RDTSC, 0x6e, 'rdtsc'],
  [X.EXIT_HYPERCALL, 0x81, 'vmmcall'],
  [X.EXIT_CR_ACCESS, 0x18, 'write_cr8'],
  [X.EXIT_IO, 0x7b, 'io'],
  // One code for both directions, told apart by EXITINFO1; split here because the counts matter.
  [X.EXIT_RDMSR, 0x7c, 'msr_read'],
  [X.EXIT_WRMSR, 0x7c, 'msr_write'],
  [X.EXIT_MWAIT, 0x8b, 'mwait'],
  [X.EXIT_MONITOR, 0x8a, 'monitor'],
  [X.EXIT_PAUSE, 0x77, 'pause'],
  // SVM has no TPR threshold: KVM intercepts CR8 writes while a pending interrupt is masked by TPR.
  [X.EXIT_TPR_BELOW_THRESHOLD, 0x18, 'write_cr8'],
  [X.EXIT_NESTED_PAGE_FAULT, 0x400, 'npf'],
  [X.EXIT_WBINVD, 0x89, 'wbinvd'],
  [X.EXIT_XSETBV, 0x8d, 'xsetbv'],
  // SVM has no preemption timer: the host's own timer interrupts the guest.
  [X.EXIT_PREEMPTION_TIMER, 0x60, 'interrupt'],
  // AVIC has one code for what comes before the instruction and what comes after it.
  [X.EXIT_APIC_ACCESS, 0x402, 'avic_unaccelerated_access'],
  [X.EXIT_EOI_INDUCED, 0x402, 'avic_unaccelerated_access'],
  [X.EXIT_APIC_WRITE, 0x402, 'avic_unaccelerated_access'],
  [X.EXIT_INCOMPLETE_IPI, 0x401, 'avic_incomplete_ipi'],
  [X.EXIT_RDPMC, 0x6f, 'rdpmc'],
];

/** By exit kind. */
export const SVM_EXITS: readonly VendorExit[] = rows.map(([kind, number, name], i) => {
  if (kind !== i) throw new RangeError(`SVM exit table out of order at ${name}`);
  return { number, name };
});

/** VMMCALL. */
export const SVM_HYPERCALL: Uint8Array = Uint8Array.of(0x0f, 0x01, 0xd9);
