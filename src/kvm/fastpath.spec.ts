import { describe, expect, it } from 'vitest';
import { FAST, fastDelivery, NOT_FAST_NO_MAP } from './apic-map.ts';
import { ERAS, resolveEra } from './eras.ts';
import { fastpathVerdict, icrVerdict } from './fastpath.ts';
import { bench, wrmsr } from './spec-helper.ts';

/** The verdict for one ICR write of vCPU 0 in a VM of four x2APIC vCPUs. */
const verdict = (era: string, value: bigint): string => {
  const { kvm } = bench({ era });
  const lo = Number(value & 0xffffffffn);
  const hi = Number(value >> 32n);
  const delivery = fastDelivery(kvm.apicMap(), 0, true, lo, hi);
  return icrVerdict(kvm.era, true, lo, hi, delivery).reason;
};

describe('verdict for an x2APIC ICR write', () => {
  const eras = ['5.6-rc1', '5.6', '5.7', '6.11', '6.12', '6.17', '6.18', '7.1'];
  it.each<[what: string, value: bigint, verdicts: string[]]>([
    ['unicast', 0x1_0000_00f0n, ['taken', 'taken', 'taken', 'taken', 'taken', 'taken', 'taken', 'taken']],
    ['unicast, busy', 0x1_0000_10f0n, ['taken', 'taken', 'taken', 'taken', 'taken', 'taken', 'taken', 'taken']],
    ['absent target', 0x9_0000_00f0n, ['taken', 'taken', 'taken', 'taken', 'taken', 'taken', 'taken', 'taken']],
    [
      'bit 13',
      0x1_0000_20f0n,
      ['taken', 'taken', 'taken', 'taken', 'reserved bits', 'reserved bits', 'reserved bits', 'reserved bits'],
    ],
    ['NMI', 0x1_0000_04f0n, [...Array<string>(6).fill('delivery mode is not Fixed'), 'taken', 'taken']],
    ['logical', 0x3_0000_08f0n, [...Array<string>(6).fill('logical destination'), 'taken', 'taken']],
    ['broadcast', 0xffffffff_000000f0n, ['taken', 'taken', ...Array<string>(6).fill('broadcast')]],
    ['self', 0x400f0n, ['taken', ...Array<string>(5).fill('shorthand'), 'taken', 'taken']],
    ['all', 0x800f0n, ['taken', ...Array<string>(7).fill('shorthand')]],
    ['all but self', 0xc00f0n, ['taken', ...Array<string>(7).fill('shorthand')]],
    ['level assert', 0x1_0000_c0f0n, Array<string>(8).fill('taken')],
    ['vector 5', 0x1_0000_0005n, Array<string>(8).fill('taken')],
  ])('%s', (_what, value, verdicts) => {
    expect(eras.map((era) => verdict(era, value))).toEqual(verdicts);
  });

  it('is refused outside x2APIC mode and before v5.6', () => {
    expect(icrVerdict(resolveEra('5.6'), false, 0xf0, 1, FAST).reason).toBe('not x2APIC');
    expect(icrVerdict(resolveEra('5.5'), true, 0xf0, 1, FAST).reason).toBe('this KVM has no fastpath');
  });

  it('from v6.18 on needs an APIC map', () => {
    expect(icrVerdict(resolveEra('6.17'), true, 0xf0, 1, NOT_FAST_NO_MAP).reason).toBe('taken');
    expect(icrVerdict(resolveEra('6.18'), true, 0xf0, 1, NOT_FAST_NO_MAP).reason).toBe('no APIC map');
  });
});

describe('verdict for other MSRs', () => {
  const request = { lo: 0, hi: 0, x2apic: true, delivery: FAST } as const;
  it('is taken for IA32_TSC_DEADLINE with the preemption timer, from v6.18 on everywhere', () => {
    const taken = (era: string, vendor: 'intel' | 'amd'): boolean =>
      fastpathVerdict(resolveEra(era), { ...request, msr: 0x6e0, vendor }).taken;
    expect([taken('5.7', 'intel'), taken('5.8', 'intel'), taken('5.8', 'amd'), taken('6.18', 'amd')]).toEqual([
      false,
      true,
      false,
      true,
    ]);
  });

  it('is a refusal', () => {
    const verdict = fastpathVerdict(resolveEra('7.1'), { ...request, msr: 0x1b, vendor: 'intel' });
    expect(verdict).toEqual({ taken: false, reason: 'MSR has no fastpath' });
  });

  it('is the ICR verdict for MSR 0x830', () => {
    const verdict = fastpathVerdict(resolveEra('7.1'), { ...request, msr: 0x830, lo: 0x2000, vendor: 'intel' });
    expect(verdict).toEqual({ taken: false, reason: 'reserved bits' });
  });
});

describe('fast and slow path', () => {
  /** Values around every field the fastpath looks at. */
  const values = [0n, 1n, 2n, 9n, 0xffn, 0xffffffffn].flatMap((dest) =>
    [0, 1, 4, 5, 6, 7].flatMap((mode) =>
      [0, 1, 2, 3].flatMap((shorthand) =>
        [0, 0x800, 0x1000, 0x4000, 0x8000, 0xc000].map(
          (bits) => (dest << 32n) | BigInt((shorthand << 18) | (mode << 8) | bits | 0x51),
        ),
      ),
    ),
  );
  it.each(ERAS.filter((era) => era.fastpath).map((era) => era.name))('v%s have the same effect', (era) => {
    const state = (value: bigint, guest: boolean): unknown => {
      const b = bench({ era, observed: false });
      // No evaluation before the write, none after it: the budget is one exit.
      b.kvm.vcpus[0].lapic.requestEvent = false;
      if (guest) {
        b.cpu.scripts[0].push(wrmsr(0x830, value));
        b.kvm.run(0, 2);
      } else {
        // The host's write never asks the fastpath.
        b.kvm.setMsr(0, 0x830, value);
      }
      return b.kvm.vcpus.map(({ lapic }) => ({
        registers: [...lapic.registers],
        nmi: lapic.nmiQueued,
        init: lapic.initPending,
        sipi: lapic.sipiPending ? lapic.sipiVector : -1,
      }));
    };
    for (const value of values) expect(state(value, true), value.toString(16)).toEqual(state(value, false));
  });
});
