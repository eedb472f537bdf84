/**
 * What exits cost the guest: TSC cycles that pass while KVM handles an exit, by its kind. Off unless a machine asks for it; virtual time is
 * then the number of instructions plus these.
 *
 * Published: VMCALL and CPUID, the round trips that vmexit of kvm-unit-tests measures on hardware. The others are estimates of the same kind:
 * the cheapest round trip, plus what the handler does.
 */
import * as X from './exits.ts';

/** Round trip of an empty hypercall. */
const VMCALL = 1181;
const CPUID = 1291;
/** MOV to or from CR8, which hardware does on the virtual APIC's TPR without an exit. */
const CR8 = 70;
/** The way to user space and back, on top of the exit. */
const USER_SPACE = 4500;
/** Decoding and emulating an instruction that accesses memory. */
const EMULATION = 1400;

const BY_KIND: ReadonlyMap<number, number> = new Map([
  [X.EXIT_CPUID, CPUID],
  [X.EXIT_HYPERCALL, VMCALL],
  [X.EXIT_NESTED_PAGE_FAULT, VMCALL + EMULATION],
  [X.EXIT_APIC_ACCESS, VMCALL + EMULATION],
]);

export class CostModel {
  /** Cycles by kind of exit. */
  readonly exit: Float64Array = Float64Array.from({ length: X.EXIT_KINDS }, (_, kind) => BY_KIND.get(kind) ?? VMCALL);
  readonly userSpace: number = USER_SPACE;
  readonly cr8: number = CR8;
}
