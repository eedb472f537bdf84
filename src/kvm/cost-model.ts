/**
 * What things cost, in cycles of the guest's TSC: the one table of these numbers. Two models of time read it. A machine that asks for it
 * lets these cycles pass while KVM handles an exit (virtual time is then the number of instructions plus these); and
 * `src/lab/ipi-bench` composes the time of an IPI from them.
 *
 * Each number says where it is from. `published`: measured on hardware by others. `estimated`: of the right order, from published figures
 * of something alike; nothing here depends on its last digits. `fitted`: chosen so that one row of the tables in the commit message of
 * 4180bf1b655a comes out; which row, the source says, and `src/lab/ipi-bench/fit.ts` does it again.
 *
 * Fitted and published numbers come from different machines and kernels (Xeon Skylake at 2.5 GHz): what they say together is an order of
 * magnitude, what two configurations differ by is what counts.
 */
import * as X from './exits.ts';

/** How a cost came to be known. */
export type CostBasis = 'published' | 'estimated' | 'fitted';

export interface CostParameter {
  readonly cycles: number;
  readonly basis: CostBasis;
  readonly source: string;
  /** What takes this time. */
  readonly what: string;
}

const published = (cycles: number, what: string, source: string): CostParameter => ({
  ...{ cycles, basis: 'published', source, what },
});
const estimated = (cycles: number, what: string, source: string): CostParameter => ({
  ...{ cycles, basis: 'estimated', source, what },
});
const fitted = (cycles: number, what: string, source: string): CostParameter => ({
  ...{ cycles, basis: 'fitted', source, what },
});

const VMCALL = 1181;

/** By name. Cycles of the TSC. */
export const COSTS = {
  // ---- exits: out of the guest, through KVM's loop, and back ----
  'exit.vmcall': published(VMCALL, 'an exit for a hypercall that does nothing', 'vmexit of kvm-unit-tests'),
  'exit.cpuid': published(1291, 'an exit for CPUID', 'vmexit of kvm-unit-tests'),
  'exit.wrmsr': estimated(VMCALL, 'an exit for WRMSR, without what is done for it', 'as exit.vmcall'),
  'exit.interrupt': estimated(VMCALL, "an exit because the host's own IPI came", 'as exit.vmcall'),
  'exit.other': estimated(VMCALL, 'any other exit', 'as exit.vmcall'),
  emulation: estimated(1400, 'decoding and emulating an instruction that accesses memory', 'on top of the exit'),
  'user-space': estimated(4500, 'the way to user space and back', 'on top of the exit'),
  cr8: estimated(70, 'MOV to or from CR8 on a virtual TPR, no exit', 'hardware does it'),

  // ---- IPIs ----
  'line.near': estimated(
    125,
    'a cache line that another CPU of the same socket has written',
    '50 ns (Intel Memory Latency Checker on such machines)',
  ),
  'line.far': estimated(325, 'a cache line that a CPU of another socket has written', '130 ns, likewise'),
  'icr.write': fitted(
    2718,
    'an ICR write on top of its exit: the driver, and KVM up to the first message',
    'Broadcast IPI, physical, vanilla',
  ),
  'icr.slow': published(
    695,
    'the part of icr.write that the WRMSR fastpath saves',
    'a single-target IPI to a halted vCPU: 4,238 cycles without the fastpath, 3,543 with it',
  ),
  'icr.hardware': estimated(
    300,
    'an ICR write that the processor completes itself (IPI virtualization, AVIC)',
    'as on bare metal',
  ),
  kick: estimated(
    300,
    "the host's own IPI that makes the target take notice",
    'the ICR write of a host is one on bare metal',
  ),
  eoi: estimated(150, 'what KVM does for an EOI on top of its exit', 'a few hundred instructions'),
  deliver: fitted(
    493,
    'one message into a local APIC, besides four lines of the target',
    'Broadcast IPI, cluster, PV IPI',
  ),
  'cluster.member': fitted(
    309,
    'one CPU of a mask that the cluster driver collapses into logical destinations',
    'Broadcast IPI, cluster, vanilla',
  ),
  notify: fitted(1505, "the host's IPI on its way, and the guest's interrupt entry", 'Normal IPI, cluster, vanilla'),
  wake: fitted(1642, 'from the kick of a halted vCPU to its interrupt handler', 'the 4,238 cycles of icr.slow'),
  'lock.handover': fitted(2143, 'a contended spinlock from one vCPU to the next', 'Broadcast lock, cluster, PV IPI'),

  // ---- the guest ----
  'guest.round': fitted(60, 'the bookkeeping of one round', 'Dry-run, cluster, vanilla'),
  'guest.call': fitted(316, 'calling a function through smp_call_function, without IPI', 'Self-IPI, cluster, vanilla'),
} as const satisfies Record<string, CostParameter>;

export type CostName = keyof typeof COSTS;

/** A number of cycles for every name. */
export type Costs = Readonly<Record<CostName, number>>;

/** The cycles of `COSTS`. */
export const DEFAULT_COSTS: Costs = Object.fromEntries(
  Object.entries(COSTS).map(([name, { cycles }]) => [name, cycles]),
) as Record<CostName, number>;

/** What an exit costs by its kind (`exits.ts`). */
function exitCost(kind: number, costs: Costs): number {
  switch (kind) {
    case X.EXIT_HYPERCALL:
      return costs['exit.vmcall'];
    case X.EXIT_CPUID:
      return costs['exit.cpuid'];
    case X.EXIT_WRMSR:
      return costs['exit.wrmsr'];
    case X.EXIT_EXTERNAL_INTERRUPT:
      return costs['exit.interrupt'];
    case X.EXIT_NESTED_PAGE_FAULT:
    case X.EXIT_APIC_ACCESS:
      return costs['exit.other'] + costs.emulation;
    default:
      return costs['exit.other'];
  }
}

export class CostModel {
  /** Cycles by kind of exit. */
  readonly exit: Float64Array;
  readonly userSpace: number;
  readonly cr8: number;

  constructor(costs: Costs = DEFAULT_COSTS) {
    this.exit = Float64Array.from({ length: X.EXIT_KINDS }, (_, kind) => exitCost(kind, costs));
    this.userSpace = costs['user-space'];
    this.cr8 = costs.cr8;
  }
}
