/**
 * KVM_HC_SEND_IPI and its neighbours: a 64-bit caller at CPL 0, four vCPUs with the APIC IDs 0 to 3, all enabled, in x2APIC
 * mode, nothing pending. Sources: arch/x86/kvm/{x86,lapic}.c from v4.19 to v7.1; the commits are those of src/kvm/eras.ts.
 */
import { type Columns, type Effects, each } from './columns.ts';

export interface HypercallOutcome {
  /** Result as a signed number. */
  readonly rax: bigint;
  readonly effects: Effects;
}

export interface HypercallVector {
  readonly name: string;
  readonly rax: bigint;
  readonly rbx: bigint;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly rsi: bigint;
  /** 'host-bug': that kernel would crash or corrupt its own memory. */
  readonly outcome: Columns<HypercallOutcome | 'host-bug'>;
}

const SEND_IPI = 10n;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;
const ALL = '>=4.19-rc1';
const FIXED = '>=4.19';
const AS_MERGED = '<4.19';

type Arguments = readonly [rax: bigint, rbx: bigint, rcx: bigint, rdx: bigint, rsi: bigint];

const vector = (name: string, args: Arguments, outcome: HypercallVector['outcome']): HypercallVector => {
  const [rax, rbx, rcx, rdx, rsi] = args;
  return { name, rax, rbx, rcx, rdx, rsi, outcome };
};
/** The same outcome in every era. */
const always = (rax: bigint, effects: Effects = {}): HypercallVector['outcome'] => [[ALL, { rax, effects }]];
/** An outcome since v4.19 final; before, the missing bound or slot check hits the host. */
const unlessAsMerged = (rax: bigint, effects: Effects = {}): HypercallVector['outcome'] => [
  [AS_MERGED, 'host-bug'],
  [FIXED, { rax, effects }],
];

const EVERYONE = [0, 1, 2, 3];
const F0 = { irr: [0xf0] };

export const HYPERCALL_VECTORS: readonly HypercallVector[] = [
  vector('to all four, the sender included', [SEND_IPI, 0xfn, 0n, 0n, 0xf0n], always(4n, each(EVERYONE, F0))),
  vector('NMI to 1 and 2', [SEND_IPI, 6n, 0n, 0n, 0x400n], always(2n, each([1, 2], { nmi: 1 }))),
  vector(
    'all 128 bits: only existing vCPUs count',
    [SEND_IPI, ALL_ONES, ALL_ONES, 0n, 0xf0n],
    unlessAsMerged(4n, each(EVERYONE, F0)),
  ),
  vector('min = 3', [SEND_IPI, 1n, 0n, 3n, 0xf0n], always(1n, each([3], F0))),
  vector('an empty slot', [SEND_IPI, 1n, 0n, 4n, 0xf0n], unlessAsMerged(0n)),
  vector('beyond the largest APIC ID of the map', [SEND_IPI, 1n, 0n, 0x100n, 0xf0n], unlessAsMerged(0n)),
  vector('min is truncated to 32 bits', [SEND_IPI, 1n, 0n, 0x1_0000_0003n, 0xf0n], always(1n, each([3], F0))),
  vector(
    'min + 64 wraps around',
    [SEND_IPI, 0n, 1n, 0xffff_ffc3n, 0xf0n],
    [
      // As merged min is signed and unchecked: -61 + 64 is 3.
      [AS_MERGED, { rax: 1n, effects: each([3], F0) }],
      ['>=4.19 <5.6-rc1', { rax: 0n, effects: {} }],
      ['>=5.6-rc1', { rax: 1n, effects: each([3], F0) }],
    ],
  ),
  vector('both words beyond every APIC ID', [SEND_IPI, 0xffff_ffffn, 0n, 0xffff_ffffn, 0n], unlessAsMerged(0n)),
  vector('destination mode bit', [SEND_IPI, 0xfn, 0n, 0n, 0x8f0n], always(-22n)),
  vector('shorthand self', [SEND_IPI, 0xfn, 0n, 0n, 0x400f0n], always(-22n)),
  vector('shorthand all', [SEND_IPI, 0xfn, 0n, 0n, 0x800f0n], always(-22n)),
  vector('shorthand all but self', [SEND_IPI, 0xfn, 0n, 0n, 0xc00f0n], always(-22n)),
  vector('level-triggered de-assert', [SEND_IPI, 0xfn, 0n, 0n, 0x80f0n], always(0n)),
  vector(
    'level-triggered assert sets the TMR',
    [SEND_IPI, 0xfn, 0n, 0n, 0xc0f0n],
    always(4n, each(EVERYONE, { irr: [0xf0], tmr: [0xf0] })),
  ),
  vector('ExtINT', [SEND_IPI, 0xfn, 0n, 0n, 0x7f0n], always(0n)),
  vector('vector 5', [SEND_IPI, 0xfn, 0n, 0n, 5n], always(4n, each(EVERYONE, { irr: [5] }))),
  vector('lowest priority is no election', [SEND_IPI, 0xen, 0n, 0n, 0x1f0n], always(3n, each([1, 2, 3], F0))),
  vector(
    'ignored ICR bits: 12, 13, 16, 17, 20 to 63',
    [SEND_IPI, 0xen, 0n, 0n, 0xffff_ffff_fff3_30f0n],
    always(3n, each([1, 2, 3], F0)),
  ),
  vector('no destination at all', [SEND_IPI, 0n, 0n, 0n, 0xf0n], always(0n)),
  vector('number with garbage above bit 31', [0x1_0000_000an, 0xfn, 0n, 0n, 0xf0n], always(-1000n)),
  vector('number 13', [13n, 0xfn, 0n, 0n, 0xf0n], always(-1000n)),
  vector('VAPIC_POLL_IRQ', [1n, 0xfn, 0n, 0n, 0xf0n], always(0n)),
  vector('MMU_OP', [2n, 0xfn, 0n, 0n, 0xf0n], always(-1000n)),
  vector('FEATURES', [3n, 0xfn, 0n, 0n, 0xf0n], always(-1000n)),
  vector(
    'SCHED_YIELD to nobody',
    [11n, 0x1000n, 0n, 0n, 0n],
    [
      ['<5.3', { rax: -1000n, effects: {} }],
      ['>=5.3', { rax: 0n, effects: {} }],
    ],
  ),
  vector('MAP_GPA_RANGE without opt-in', [12n, 0x10_0000n, 1n, 0x10n, 0n], always(-1000n)),
];
