/** What can execute cases and say what came of them: the model by guest instructions, the model without them, a real KVM. */
import type { Case, Outcome, Topology } from './types.ts';

export interface Target {
  /** For people, e.g. 'KVM 5.4'. */
  readonly name: string;
  readonly topology: Topology;
  /** VCPU_WORDS entries: 1 where the target can tell this state word, 0 where it cannot. */
  readonly observes: Uint8Array;
  /** Whether RESULT_FASTPATH means anything. */
  readonly showsFastpath: boolean;
  /** State words of every vCPU before each case, VCPU_WORDS per vCPU. */
  readonly start: Uint32Array;
  /**
   * Performs a case from the topology's start state and fills `outcome`: results of steps 0 … steps-1, and state words of every vCPU that
   * may have changed, read in this order: LAPIC registers, events, MP state (which carries out INIT and SIPI), CS.
   */
  run(test: Case, outcome: Outcome): void;
  /** Operations that this target cannot perform. */
  readonly lacks?: ReadonlySet<number>;
  /** Whether this target cannot perform a case, or what comes of it is not determined. Absent: it can perform all. */
  skips?(test: Case): boolean;
  dispose(): void;
}
