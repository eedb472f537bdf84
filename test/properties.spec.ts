/** What holds for every ICR value, not only for those in tables and recordings; random inputs, in every era. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERAS, parseRecording, type RecordedVm, resolveEra } from '../src/index.ts';
import { ApicMap, matches } from '../src/kvm/apic-map.ts';
import { Icr } from '../src/kvm/icr.ts';
import type { Lapic } from '../src/kvm/lapic.ts';
import { RecordedMachine } from '../src/lab/recorded-vm.ts';

const MSR_ICR = 0x830;
const BUSY = 1n << 12n;
const RUNS = { seed: 3, numRuns: 120 };

const word = fc.integer({ min: 0, max: 0xffff_ffff }).map((n) => n >>> 0);
/** Destinations worth trying: ids in use, their neighbours, clusters, broadcasts. */
const destination = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 5, 15, 16, 255, 256, 257, 0xff00, 0x1_0001, 0x1_ffff, 0x10_0003, 0xffff_ffff),
  fc.integer({ min: 0, max: 300 }),
  word,
);
/** Low words as guests write them: fields at random, reserved bits seldom. */
const command = fc
  .record({
    vector: fc.constantFrom(0, 15, 16, 0x20, 0x31, 0xec, 0xff),
    mode: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 3, arbitrary: fc.integer({ min: 0, max: 7 }) }),
    /** Logical, busy, assert, level-triggered. */
    flags: fc.integer({ min: 0, max: 15 }),
    shorthand: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 3 }) },
    ),
    reserved: fc.oneof({ weight: 7, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: word }),
  })
  .map(({ vector, mode, flags, shorthand, reserved }) => {
    const low =
      vector | (mode << 8) | ((flags & 1) << 11) | ((flags & 2) << 11) | ((flags & 0xc) << 12) | (shorthand << 18);
    return (low | (reserved & 0xfff32000)) >>> 0;
  });
const icrValue = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(destination, command).map(([dest, low]) => (BigInt(dest) << 32n) | BigInt(low)) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
);

/** VMs by configuration, in the words of a recording. */
const vmOf = (meta: object): RecordedVm =>
  parseRecording(`${JSON.stringify({ meta })}\n{"icr":0,"ch":{}}`, 'properties').vm;
const CONFIGURATIONS: readonly [string, RecordedVm][] = [
  ['four x2APICs', vmOf({ config: 'x2', ids: [0, 1, 2, 3] })],
  ['sparse and large ids', vmOf({ config: 'x2', ids: [0, 5, 15, 16, 255, 256, 257], x2apic_api: 3 })],
  [
    'one disabled by software, one globally',
    vmOf({ config: 'x2', note: '1 software-disabled, 2 globally disabled', ids: [0, 1, 2, 3] }),
  ],
  ['x2APICs and xAPICs', vmOf({ config: 'mixed', note: '2 xAPIC; 3 xAPIC software-disabled', ids: [0, 1, 2, 3, 4] })],
];

describe.each(ERAS.map(({ name }) => name))('KVM %s', (name) => {
  const era = resolveEra(name);
  const machines: RecordedMachine[] = [];

  beforeAll(async () => {
    for (const [, vm] of CONFIGURATIONS) machines.push(await RecordedMachine.create(vm, era, 'long64'));
  });
  afterAll(() => {
    for (const machine of machines) machine.dispose();
  });

  it.each(CONFIGURATIONS.map(([text], index) => [text, index] as const))(
    'WRMSR of the ICR has the same effect by fast path and slow path, and reads back as written: %s',
    (_, which) => {
      const machine = machines[which];
      const { ids } = CONFIGURATIONS[which][1];
      const effects = (write: () => boolean): unknown => {
        const refused = write();
        const readBack = machine.readIcr(0);
        return { refused, readBack, changes: ids.map((id, index) => [id, machine.change(index, index === 0)]) };
      };
      const start = machine.kvm.vcpus[0].counters.fastpath;
      fc.assert(
        fc.property(icrValue, fc.constantFrom('init-received' as const, 'halted' as const), (value, base) => {
          machine.reset(base, 0);
          const guest = effects(() => machine.guestWrmsr(0, MSR_ICR, value) === 'vec 13');
          machine.reset(base, 0);
          // The path of every other MSR write.
          const slow = effects(() => !machine.kvm.setMsr(0, MSR_ICR, value, false));
          expect(guest).toEqual(slow);
          const refused = era.icrReservedGp && Icr.fromX2(value).reserved !== 0;
          expect(guest).toMatchObject({ refused, readBack: refused ? 0n : value & ~BUSY });
        }),
        RUNS,
      );
      const taken = machine.kvm.vcpus[0].counters.fastpath - start;
      expect(taken > 0).toBe(era.fastpath);
    },
  );

  it('the APIC map finds the APICs that match one by one', () => {
    const { lapics, api } = { lapics: machines[1].kvm.vcpus.map(({ lapic }) => lapic), api: 3 };
    const map = ApicMap.build(lapics, era, api) as ApicMap;
    const throughMap = (dest: number, logical: boolean): (Lapic | null)[] => {
      if (!logical) return [map.phys[dest] ?? null];
      const mask = map.logicalMask(dest);
      return Array.from({ length: map.candidates }, (_, bit) =>
        mask & (1 << bit) ? map.logicalCandidate(dest, bit) : null,
      );
    };
    fc.assert(
      fc.property(destination, fc.boolean(), (dest, logical) => {
        fc.pre(dest !== 0xffff_ffff);
        const found = new Set(throughMap(dest, logical).filter((lapic) => lapic !== null));
        const matching = new Set(lapics.filter((lapic) => matches(lapic, dest, logical, true, era, api)));
        expect([...found].map(({ id }) => id)).toEqual([...matching].map(({ id }) => id));
      }),
      { seed: 3, numRuns: 300 },
    );
  });
});

describe('the ICR', () => {
  it('decoded and encoded again is what it was', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
        expect(Icr.fromX2(value).toX2()).toBe(value);
      }),
      { seed: 3, numRuns: 2000 },
    );
  });

  it('likewise as the two registers of an xAPIC, whose second one keeps bits 31:24', () => {
    fc.assert(
      fc.property(word, word, (icr, icr2) => {
        expect(Icr.fromXapic(icr, icr2).toXapic()).toEqual({ icr, icr2: (icr2 & 0xff000000) >>> 0 });
      }),
      { seed: 3, numRuns: 2000 },
    );
  });
});
