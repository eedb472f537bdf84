import { describe, expect, it } from 'vitest';
import {
  ApicMap,
  bitCount,
  FAST,
  fastDelivery,
  matches,
  NOT_FAST_BROADCAST,
  NOT_FAST_MIXED,
  NOT_FAST_NO_MAP,
  NOT_FAST_SHORTHAND,
  nthBit,
} from './apic-map.ts';
import { type Era, NEWEST_ERA, resolveEra } from './eras.ts';
import { APIC_DFR, APIC_ID, APIC_LDR, APIC_SVR, Lapic } from './lapic.ts';

interface Spec {
  readonly id: number;
  readonly mode: 'x2apic' | 'xapic' | 'disabled';
  /** SVR bit 8; default true. */
  readonly enabled?: boolean;
  readonly ldr?: number;
  readonly dfr?: number;
  readonly xapicId?: number;
}

const make = (era: Era, specs: readonly Spec[]): Lapic[] =>
  specs.map(({ id, mode, enabled = true, ldr, dfr, xapicId }, index) => {
    const lapic = new Lapic(index, id, era);
    lapic.setBase(mode === 'x2apic' ? 0xfee00c00 : mode === 'xapic' ? 0xfee00800 : 0xfee00000, 0);
    if (enabled) lapic.write(APIC_SVR, 0x1ff);
    if (dfr !== undefined) lapic.write(APIC_DFR, dfr);
    if (ldr !== undefined) lapic.write(APIC_LDR, (ldr << 24) >>> 0);
    if (xapicId !== undefined) lapic.write(APIC_ID, (xapicId << 24) >>> 0);
    return lapic;
  });

const build = (era: string, specs: readonly Spec[], api = 0): ApicMap | null => {
  const rules = resolveEra(era);
  return ApicMap.build(make(rules, specs), rules, api);
};
/** vcpu_id by APIC id, without the empty slots. */
const phys = (map: ApicMap | null): Record<number, number> => {
  const ids: Record<number, number> = {};
  map?.phys.forEach((lapic, id) => {
    if (lapic !== null) ids[id] = lapic.vcpuId;
  });
  return ids;
};
const x2 = (...ids: number[]): Spec[] => ids.map((id) => ({ id, mode: 'x2apic' }));
const flat = (...ldrs: number[]): Spec[] => ldrs.map((ldr, id) => ({ id, mode: 'xapic', ldr }));

describe('the physical map', () => {
  it('reaches to 255 at least, and to the largest enabled vcpu_id', () => {
    expect(build('7.1', x2(0, 1))?.maxApicId).toBe(255);
    expect(build('7.1', x2(0, 1000))?.maxApicId).toBe(1000);
    expect(build('7.1', [...x2(0), { id: 1000, mode: 'disabled' }])?.maxApicId).toBe(255);
  });

  it('holds software-disabled but not globally disabled APICs', () => {
    const map = build('7.1', [
      { id: 0, mode: 'x2apic' },
      { id: 1, mode: 'x2apic', enabled: false },
      { id: 2, mode: 'disabled' },
    ]);
    expect(phys(map)).toEqual({ 0: 0, 1: 1 });
  });

  it('goes by the xAPIC id register in xAPIC mode', () => {
    const moved: Spec[] = [
      { id: 0, mode: 'xapic' },
      { id: 1, mode: 'xapic', xapicId: 9 },
    ];
    expect(phys(build('7.1', moved))).toEqual({ 0: 0, 9: 1 });
  });

  const aliased: Spec[] = [
    { id: 0, mode: 'xapic', xapicId: 5 },
    { id: 1, mode: 'xapic', xapicId: 5 },
  ];
  it('v6.3: two APICs with one id leave the VM without a map', () => {
    expect(build('6.3', aliased)).toBeNull();
  });
  it('v6.2: the first of two APICs with one id has it', () => {
    expect(phys(build('6.2', aliased))).toEqual({ 5: 0 });
  });
  it('v6.3 with 32-bit ids: the first of two APICs with one id has it', () => {
    expect(phys(build('6.3', aliased, 1))).toEqual({ 5: 0 });
  });

  const big: Spec[] = [
    { id: 0, mode: 'xapic' },
    { id: 256, mode: 'xapic' },
  ];
  it('reaches a vcpu_id above 255 in xAPIC mode by that id before v6.3 or with 32-bit ids', () => {
    expect(phys(build('6.2', big))).toEqual({ 0: 0, 256: 256 });
    expect(phys(build('7.1', big, 1))).toEqual({ 0: 0, 256: 256 });
    expect(build('7.1', big)).toBeNull();
  });
});

describe('the logical map', () => {
  it.each<[what: string, era: string, specs: Spec[], mode: ApicMap['logicalMode']]>([
    ['x2APIC', '7.1', x2(0, 1), 'x2apic'],
    ['flat', '7.1', flat(1, 2, 4), 'flat'],
    ['cluster', '7.1', [{ id: 0, mode: 'xapic', dfr: 0, ldr: 0x11 }], 'cluster'],
    ['mixed modes', '7.1', [...x2(0), { id: 1, mode: 'xapic', ldr: 1 }], 'none'],
    ['mixed modes', '6.2', [...x2(0), { id: 1, mode: 'xapic', ldr: 1 }], 'none'],
    ['a multi-bit id', '7.1', flat(1, 3), 'none'],
    ['a multi-bit id', '6.2', flat(1, 3), 'flat'],
    ['a shared id', '7.1', flat(1, 1), 'none'],
    ['a shared id', '6.2', flat(1, 1), 'flat'],
    ['LDR 0', '7.1', flat(0, 1), 'flat'],
    ['nobody software-enabled', '7.1', [{ id: 0, mode: 'x2apic', enabled: false }], 'sw-disabled'],
    ['nobody software-enabled', '6.2', [{ id: 0, mode: 'x2apic', enabled: false }], 'none'],
    ['nobody software-enabled', '4.19', [{ id: 0, mode: 'x2apic', enabled: false }], 'x2apic'],
  ])('%s in v%s', (_what, era, specs, mode) => {
    expect(build(era, specs)?.logicalMode).toBe(mode);
  });

  it('v6.2 lets the last writer of a shared flat id win, by its lowest bit', () => {
    const map = build('6.2', flat(1, 3, 4));
    expect([0, 1, 2].map((bit) => map?.logicalCandidate(0xff, bit)?.vcpuId)).toEqual([1, undefined, 2]);
  });

  it('finds the members of an x2APIC cluster', () => {
    const map = build('7.1', x2(0, 1, 15, 16, 17)) as ApicMap;
    expect(map.logicalMask(0x0001_0003)).toBe(3);
    expect(map.logicalCandidate(0x0001_0003, 0)?.vcpuId).toBe(16);
    expect(map.logicalCandidate(0x0000_8000, 15)?.vcpuId).toBe(15);
    expect(map.logicalMask(0x0010_ffff)).toBe(0);
  });

  it('drops x2APIC destination bits beyond the largest id', () => {
    const map = build('7.1', x2(0, 257)) as ApicMap;
    expect(map.maxApicId).toBe(257);
    expect(map.logicalMask(0x0010_ffff)).toBe(3);
  });

  it('finds the members of an xAPIC cluster', () => {
    const specs = [0x11, 0x12, 0x21].map((ldr, id): Spec => ({ id, mode: 'xapic', dfr: 0, ldr }));
    const map = build('7.1', specs) as ApicMap;
    expect(map.logicalMask(0x13)).toBe(3);
    expect([0, 1].map((bit) => map.logicalCandidate(0x13, bit)?.vcpuId)).toEqual([0, 1]);
    expect(map.logicalCandidate(0x21, 0)?.vcpuId).toBe(2);
  });
});

describe('fastDelivery', () => {
  const map = build('7.1', x2(0, 1)) as ApicMap;
  const mixed = build('7.1', [...x2(0), { id: 1, mode: 'xapic', ldr: 1 }]) as ApicMap;
  it.each<[what: string, map: ApicMap | null, api: number, x2apic: boolean, low: number, dest: number, answer: number]>(
    [
      ['physical', map, 0, true, 0xf0, 1, FAST],
      ['physical to nobody', map, 0, true, 0xf0, 999, FAST],
      ['logical', map, 0, true, 0x8f0, 3, FAST],
      ['self', map, 0, true, 0x400f0, 0, FAST],
      ['self without map', null, 0, true, 0x400f0, 0, FAST],
      ['all', map, 0, true, 0x800f0, 0, NOT_FAST_SHORTHAND],
      ['all but self', map, 0, true, 0xc00f0, 0, NOT_FAST_SHORTHAND],
      ['no map', null, 0, true, 0xf0, 1, NOT_FAST_NO_MAP],
      ['x2APIC broadcast', map, 0, true, 0xf0, 0xffffffff, NOT_FAST_BROADCAST],
      ['x2APIC logical broadcast', map, 0, true, 0x8f0, 0xffffffff, NOT_FAST_BROADCAST],
      ['id 255 from x2APIC', map, 0, true, 0xf0, 0xff, FAST],
      ['xAPIC broadcast', map, 0, false, 0xf0, 0xff, NOT_FAST_BROADCAST],
      ['0xFFFFFFFF from xAPIC', map, 0, false, 0xf0, 0xffffffff, FAST],
      ['0xFF, quirk off, all x2APIC', map, 2, false, 0xf0, 0xff, FAST],
      ['0xFF, quirk off, mixed', mixed, 2, true, 0xf0, 0xff, NOT_FAST_BROADCAST],
      ['0xFFFFFFFF, quirk off', map, 2, false, 0xf0, 0xffffffff, NOT_FAST_BROADCAST],
      ['logical, mixed', mixed, 0, true, 0x8f0, 3, NOT_FAST_MIXED],
      ['physical, mixed', mixed, 0, true, 0xf0, 1, FAST],
    ],
  )('%s', (_what, map, api, x2apic, low, dest, answer) => {
    expect(fastDelivery(map, api, x2apic, low, dest)).toBe(answer);
  });
});

describe('matches', () => {
  const [x2target, xtarget, moved, cluster, oddModel] = make(NEWEST_ERA, [
    { id: 5, mode: 'x2apic' },
    { id: 6, mode: 'xapic', ldr: 0x40 },
    { id: 300, mode: 'xapic', xapicId: 7 },
    { id: 8, mode: 'xapic', dfr: 0, ldr: 0x21 },
    { id: 9, mode: 'xapic', dfr: 0x50000000, ldr: 0x21 },
  ]) as [Lapic, Lapic, Lapic, Lapic, Lapic];
  const ipi = (target: Lapic, dest: number, logical = false, era = NEWEST_ERA, api = 0): boolean =>
    matches(target, dest, logical, true, era, api);

  it('compares the vcpu_id in x2APIC mode and the id register in xAPIC mode', () => {
    expect([ipi(x2target, 5), ipi(x2target, 6), ipi(xtarget, 6), ipi(xtarget, 5)]).toEqual([true, false, true, false]);
  });

  it('takes 0xFFFFFFFF as broadcast for x2APIC targets and 0xFF for xAPIC targets', () => {
    expect([ipi(x2target, 0xffffffff), ipi(x2target, 0xff), ipi(xtarget, 0xffffffff), ipi(xtarget, 0xff)]).toEqual([
      true,
      false,
      false,
      true,
    ]);
  });

  it('lets 0xFF of a message without source reach x2APIC targets, unless the quirk is off', () => {
    expect(matches(x2target, 0xff, false, false, NEWEST_ERA, 0)).toBe(true);
    expect(matches(x2target, 0xff, false, false, NEWEST_ERA, 2)).toBe(false);
  });

  it('reaches a vcpu_id above 255 by it, and before v6.0 by the 8-bit id as well', () => {
    expect([ipi(moved, 300), ipi(moved, 7)]).toEqual([true, true]);
    const old = resolveEra('5.19');
    expect([ipi(moved, 300, false, old), ipi(moved, 7, false, old)]).toEqual([true, true]);
    expect([ipi(xtarget, 6, false, old), ipi(xtarget, 0x106, false, old)]).toEqual([true, false]);
  });

  it('matches logical destinations by cluster and bit', () => {
    expect([ipi(x2target, 1 << 5, true), ipi(x2target, (1 << 16) | (1 << 5), true), ipi(x2target, 0, true)]).toEqual([
      true,
      false,
      false,
    ]);
    expect([ipi(xtarget, 0x60, true), ipi(xtarget, 0x20, true)]).toEqual([true, false]);
    expect([ipi(cluster, 0x23, true), ipi(cluster, 0x31, true), ipi(cluster, 0x22, true)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('matches nothing under a DFR that is neither flat nor cluster', () => {
    expect(oddModel.dfr).toBe(0x5fffffff);
    expect(ipi(oddModel, 0x21, true)).toBe(false);
  });
});

describe('bit helpers', () => {
  it('find the n-th set bit and count bits', () => {
    expect([0, 1, 2, 3].map((n) => nthBit(0b101001, n))).toEqual([0, 3, 5, -1]);
    expect([0, 1, 0x80000000, 0xffffffff].map(bitCount)).toEqual([0, 1, 1, 32]);
  });
});
