/**
 * Writes of the x2APIC's ICR (MSR 0x830) by vCPU 0 of four with the APIC IDs 0 to 3, all enabled, nothing pending:
 * whether the WRMSR fastpath takes them, and what they do. Sources: arch/x86/kvm/{x86,lapic}.c from v5.6 to v7.1.
 */
import type { Vendor } from '../../src/index.ts';
import { type Columns, type Effects, each } from './columns.ts';

/** 'none': the era has no fastpath. '#GP': the write is refused and the guest gets #GP(0). */
export type IcrPath = 'none' | 'fast' | 'slow' | '#GP';

export interface IcrVector {
  readonly name: string;
  /** EDX:EAX. */
  readonly icr: bigint;
  readonly path: Columns<IcrPath>;
  /** Unless the path is '#GP', which does nothing. */
  readonly effects: Effects;
  /** What the ICR reads back afterwards; default `icr` without bit 12. */
  readonly readBack?: bigint;
}

const NO_FASTPATH = '<5.6-rc1';
const AS_MERGED = '>=5.6-rc1 <5.6';

/** Columns for S2 as merged, v5.6 final, v5.7 to v6.11, v6.12 to v6.17, v6.18 and newer. */
const paths = (merged: IcrPath, v5_6: IcrPath, v5_7: IcrPath, v6_12: IcrPath, v6_18: IcrPath): Columns<IcrPath> => [
  [NO_FASTPATH, 'none'],
  [AS_MERGED, merged],
  ['>=5.6 <5.7-rc1', v5_6],
  ['>=5.7-rc1 <6.12-rc1', v5_7],
  ['>=6.12-rc1 <6.18-rc1', v6_12],
  ['>=6.18-rc1', v6_18],
];
const F0 = { irr: [0xf0] };
const EVERYONE = [0, 1, 2, 3];

const reserved = (bit: number): IcrVector => ({
  name: `reserved bit ${bit}`,
  icr: 0x1_0000_00f0n | (1n << BigInt(bit)),
  path: paths('fast', 'fast', 'fast', '#GP', '#GP'),
  effects: each([1], F0),
});

export const ICR_VECTORS: readonly IcrVector[] = [
  {
    name: 'Fixed, physical, one target',
    icr: 0x1_0000_00f0n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: each([1], F0),
  },
  {
    name: 'busy bit set: reads back as 0',
    icr: 0x1_0000_10f0n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: each([1], F0),
  },
  ...[13, 16, 17, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31].map(reserved),
  {
    name: 'NMI to one target',
    icr: 0x1_0000_04f0n,
    path: paths('slow', 'slow', 'slow', 'slow', 'fast'),
    effects: each([1], { nmi: 1 }),
  },
  {
    name: 'logical, cluster 0, members 0 and 1',
    icr: 0x3_0000_08f0n,
    path: paths('slow', 'slow', 'slow', 'slow', 'fast'),
    effects: each([0, 1], F0),
  },
  {
    name: 'physical broadcast, the sender included',
    icr: 0xffff_ffff_0000_00f0n,
    path: paths('fast', 'fast', 'slow', 'slow', 'slow'),
    effects: each(EVERYONE, F0),
  },
  {
    name: 'shorthand self',
    icr: 0x0000_0000_0004_00f0n,
    path: paths('fast', 'slow', 'slow', 'slow', 'fast'),
    effects: each([0], F0),
  },
  {
    name: 'shorthand all',
    icr: 0x0000_0000_0008_00f0n,
    path: paths('fast', 'slow', 'slow', 'slow', 'slow'),
    effects: each(EVERYONE, F0),
  },
  {
    name: 'shorthand all but self',
    icr: 0x0000_0000_000c_00f0n,
    path: paths('fast', 'slow', 'slow', 'slow', 'slow'),
    effects: each([1, 2, 3], F0),
  },
  {
    name: 'absent target',
    icr: 0x9_0000_00f0n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: {},
  },
  {
    name: 'level-triggered assert',
    icr: 0x1_0000_c0f0n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: each([1], { irr: [0xf0], tmr: [0xf0] }),
  },
  {
    name: 'level-triggered de-assert',
    icr: 0x1_0000_80f0n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: {},
  },
  {
    name: 'vector 5',
    icr: 0x1_0000_0005n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: each([1], { irr: [5] }),
  },
  {
    name: '0xff is the APIC ID 255, no broadcast',
    icr: 0xff_0000_00f0n,
    path: paths('fast', 'fast', 'fast', 'fast', 'fast'),
    effects: {},
  },
  {
    name: 'lowest priority, logical: vector mod 3 chooses among 1, 2 and 3',
    icr: 0xe_0000_09f1n,
    path: paths('slow', 'slow', 'slow', 'slow', 'fast'),
    effects: each([2], { irr: [0xf1] }),
  },
];

const SLOW = ['kvm_exit', 'kvm_apic', 'kvm_apic', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_msr', 'kvm_entry'];
const SENT_FIRST = ['kvm_exit', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_apic', 'kvm_msr', 'kvm_entry'];
const V5_6 = ['kvm_apic', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_msr', 'kvm_exit', 'kvm_entry'];
const V5_7 = ['kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_apic', 'kvm_msr', 'kvm_exit', 'kvm_entry'];
const ACCEPTED_FIRST = ['kvm_exit', 'kvm_apic_accept_irq', 'kvm_apic_ipi', 'kvm_apic', 'kvm_msr', 'kvm_entry'];

/**
 * Order of the events of one unicast ICR write, from the exit to the next entry; the slow path where there is no fastpath, which
 * before v5.18 shows both halves of the register before it sends. Intel's kvm_exit precedes the fastpath since v5.8, AMD's
 * since v6.5 or v6.6: the columns leave v6.5 out.
 */
export const UNICAST_TRACE: Readonly<Record<Vendor, Columns<readonly string[]>>> = {
  intel: [
    [NO_FASTPATH, SLOW],
    ['>=5.6-rc1 <5.7-rc1', V5_6],
    ['>=5.7-rc1 <5.8-rc1', V5_7],
    ['>=5.8-rc1 <6.18-rc1', SENT_FIRST],
    ['>=6.18-rc1', ACCEPTED_FIRST],
  ],
  amd: [
    [NO_FASTPATH, SLOW],
    ['>=5.6-rc1 <5.7-rc1', V5_6],
    ['>=5.7-rc1 <6.5-rc1', V5_7],
    ['>=6.6-rc1 <6.18-rc1', SENT_FIRST],
    ['>=6.18-rc1', ACCEPTED_FIRST],
  ],
};
