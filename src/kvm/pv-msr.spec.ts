import { describe, expect, it } from 'vitest';
import { PV_MSRS } from './pv-msr.ts';
import { bench, wrmsr } from './spec-helper.ts';

/** MSR, CPUID bit, a valid value. */
const INTERFACES: readonly (readonly [name: string, msr: number, bit: number, value: bigint])[] = [
  ['KVM_WALL_CLOCK', 0x11, 0, 0x3000n],
  ['KVM_SYSTEM_TIME', 0x12, 0, 0x3001n],
  ['KVM_WALL_CLOCK_NEW', 0x4b564d00, 3, 0x3000n],
  ['KVM_SYSTEM_TIME_NEW', 0x4b564d01, 3, 0x3001n],
  ['KVM_ASYNC_PF_EN', 0x4b564d02, 4, 0x3003n],
  ['KVM_STEAL_TIME', 0x4b564d03, 5, 0x3001n],
  ['KVM_PV_EOI_EN', 0x4b564d04, 6, 0x3001n],
  ['KVM_POLL_CONTROL', 0x4b564d05, 12, 1n],
  ['KVM_ASYNC_PF_INT', 0x4b564d06, 14, 0xecn],
  ['KVM_ASYNC_PF_ACK', 0x4b564d07, 14, 0n],
  ['KVM_MIGRATION_CONTROL', 0x4b564d08, 17, 1n],
];

it('the table has them all', () => {
  expect(PV_MSRS.map(({ name, msr }) => [name, msr])).toEqual(INTERFACES.map(([name, msr]) => [name, msr]));
});

describe.each(INTERFACES)('%s', (_name, msr, bit, value) => {
  it('keeps what is written', () => {
    const { kvm } = bench({ pvFeatures: 0xffffffff });
    expect(kvm.setMsr(0, msr, value, false)).toBe(true);
    expect(kvm.getMsr(0, msr, false)).toBe(value);
  });

  it('with enforcement raises #GP while its CPUID bit is clear, on read and write', () => {
    const hidden = bench({ enforcePvFeatures: true, pvFeatures: ~(1 << bit) >>> 0 }).kvm;
    expect([hidden.setMsr(0, msr, value, false), hidden.getMsr(0, msr, false)]).toEqual([false, undefined]);
    const shown = bench({ enforcePvFeatures: true, pvFeatures: 1 << bit }).kvm;
    expect([shown.setMsr(0, msr, value, false), shown.getMsr(0, msr, false)]).toEqual([true, value]);
  });

  it('enforcement came with v5.10', () => {
    const { kvm } = bench({ enforcePvFeatures: true, pvFeatures: 1 << 17, era: '5.9' });
    // Migration control is newer.
    expect(kvm.setMsr(0, msr, value, false)).toBe(bit !== 17);
  });
});

it.each<[msr: number, since: string, before: string]>([
  [0x4b564d05, '5.3', '5.2'],
  [0x4b564d06, '5.8', '5.7'],
  [0x4b564d07, '5.8', '5.7'],
  [0x4b564d08, '5.14', '5.13'],
])('MSR %x exists since v%s', (msr, since, before) => {
  const exists = (era: string): boolean =>
    bench({ era, pvFeatures: 0xffffffff }).kvm.getMsr(0, msr, false) !== undefined;
  expect([exists(before), exists(since)]).toEqual([false, true]);
});

it('MIGRATION_CONTROL is the VMM’s: without its feature bit there is no such MSR', () => {
  const { kvm } = bench();
  expect(kvm.setMsr(0, 0x4b564d08, 0n, false)).toBe(false);
  expect(kvm.getMsr(0, 0x4b564d08, false)).toBeUndefined();
});

it('the two numbers of kvmclock are one register each, the wall clock of the whole VM', () => {
  const { kvm } = bench({ vcpus: 2 });
  kvm.setMsr(0, 0x11, 0x3000n);
  kvm.setMsr(0, 0x12, 0x3001n);
  expect([kvm.getMsr(0, 0x4b564d00), kvm.getMsr(1, 0x11), kvm.getMsr(1, 0x4b564d00)]).toEqual([
    0x3000n,
    0x3000n,
    0x3000n,
  ]);
  expect([kvm.getMsr(0, 0x4b564d01), kvm.getMsr(1, 0x12)]).toEqual([0x3001n, 0n]);
});

it('INIT clears what belongs to KVM and the vCPU, except poll control', () => {
  const b = bench({ vcpus: 2, pvFeatures: 0xffffffff });
  const kvms = INTERFACES.filter(([name]) => name !== 'KVM_MIGRATION_CONTROL');
  for (const [, msr, , value] of kvms) b.kvm.setMsr(1, msr, value);
  b.play(0, wrmsr(0x830, 0x1_0000_4500n));
  b.play(1);
  const left = kvms.map(([name, msr]) => [name, b.kvm.getMsr(1, msr)]).filter(([, value]) => value !== 0n);
  expect(left).toEqual([
    ['KVM_WALL_CLOCK', 0x3000n],
    ['KVM_WALL_CLOCK_NEW', 0x3000n],
    ['KVM_POLL_CONTROL', 1n],
  ]);
});
