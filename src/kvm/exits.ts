/** The kinds of VM exit, independent of the vendor. `vmx.ts` and `svm.ts` give each its number and name. */

export const EXIT_EXCEPTION = 0;
export const EXIT_EXTERNAL_INTERRUPT = 1;
export const EXIT_TRIPLE_FAULT = 2;
export const EXIT_INTERRUPT_WINDOW = 3;
export const EXIT_NMI_WINDOW = 4;
export const EXIT_CPUID = 5;
export const EXIT_HLT = 6;
export const EXIT_INVD = 7;
export const EXIT_INVLPG = 8;
export const EXIT_RDTSC = 9;
export const EXIT_HYPERCALL = 10;
export const EXIT_CR_ACCESS = 11;
export const EXIT_IO = 12;
export const EXIT_RDMSR = 13;
export const EXIT_WRMSR = 14;
export const EXIT_MWAIT = 15;
export const EXIT_MONITOR = 16;
export const EXIT_PAUSE = 17;
export const EXIT_TPR_BELOW_THRESHOLD = 18;
export const EXIT_NESTED_PAGE_FAULT = 19;
export const EXIT_WBINVD = 20;
export const EXIT_XSETBV = 21;
export const EXIT_PREEMPTION_TIMER = 22;
/** An access to the APIC page that the hardware does not perform, before the instruction. */
export const EXIT_APIC_ACCESS = 23;
/** An EOI that the hardware has performed (Intel) or leaves to KVM (AMD), after the instruction. */
export const EXIT_EOI_INDUCED = 24;
/** A write to an APIC register that the hardware has only stored, after the instruction. */
export const EXIT_APIC_WRITE = 25;
/** An IPI that the hardware did not complete, after the instruction. */
export const EXIT_INCOMPLETE_IPI = 26;
export const EXIT_RDPMC = 27;
export const EXIT_KINDS = 28;

// What handling an exit leads to.
/** Go round the loop: evaluate events, enter again. */
export const NEXT = 0;
/** The same after an exit that leaves nothing to be done before the entry but, if one was requested, the evaluation of events. */
export const REENTER = 3;
/** This was no exit as far as KVM is concerned: go on in the guest. */
export const RESUME = 1;
/** Return `result`. */
export const RETURN = 2;

/** A row of a vendor's exit table. */
export interface VendorExit {
  /** VMX basic exit reason or SVM exit code. */
  readonly number: number;
  /** The kernel's trace name in lower case. */
  readonly name: string;
}
