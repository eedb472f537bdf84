import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { ERAS, eraMatches, NEWEST_ERA, resolveEra, SWITCHES } from './eras.ts';

describe('the era table', () => {
  it('is in version order and ends with the default', () => {
    const orders = ERAS.map((era) => era.order);
    expect(orders).toEqual([...orders].sort((a, b) => a - b));
    expect(new Set(orders).size).toBe(ERAS.length);
    expect(NEWEST_ERA.name).toBe('7.1');
    expect(resolveEra()).toBe(NEWEST_ERA);
  });

  it('names both seed patches and every release that changed something here', () => {
    expect(ERAS.map((era) => era.name)).toEqual(
      (
        '4.19-rc1 4.19 4.20 5.0 5.4 5.5 5.6-rc1 5.6 5.7 5.8 5.10 5.12 5.15 5.18 5.19 ' +
        '6.3 6.4 6.5 6.12 6.14 6.17 6.18 7.1'
      ).split(' '),
    );
  });

  it('describes every switch once, with a value per era', () => {
    for (const { name, description, values } of SWITCHES) {
      expect(description.length, name).toBeGreaterThan(10);
      expect(values).toEqual(ERAS.map((era) => era[name]));
      expect(new Set(values).size, `${name} never changes`).toBeGreaterThan(1);
    }
  });
});

describe('resolveEra', () => {
  it('gives any version between the named ones the rules in force then', () => {
    expect(resolveEra('6.6').name).toBe('6.6');
    expect(resolveEra('6.6').svmExitTracedFirst).toBe(true);
    expect(resolveEra('6.5').svmExitTracedFirst).toBe(false);
    expect(resolveEra('6.6').icrReservedGp).toBe(false);
    expect(resolveEra('5.11').maxVcpuId).toBe(1023);
    expect(resolveEra('7.0').pvIpiClamp).toBe('base');
  });

  it('accepts a leading v', () => {
    expect(resolveEra('v6.12')).toBe(resolveEra('6.12'));
  });

  it('gives a release candidate what its merge window brought', () => {
    expect(resolveEra('6.12-rc1').icrReservedGp).toBe(true);
    expect(resolveEra('4.19-rc2').pvIpiBoundCheck).toBe(false);
    expect(resolveEra('4.19-rc3').pvIpiBoundCheck).toBe(true);
    expect(resolveEra('5.6-rc7').fastpathNoShorthand).toBe(false);
    expect(resolveEra('5.6').fastpathNoShorthand).toBe(true);
  });

  it.each(['3.2', 'abc', '99.1', '', '4.18', '4.21', '5.20', '6.20', '7.2', '6', '6.18.3', '4.19-rc0'])(
    'refuses %o',
    (name) => {
      expect(() => resolveEra(name)).toThrow(KvmscopeError);
      expect(() => resolveEra(name)).toThrow(`unknown KVM era '${name}'; known: 4.19-rc1, 4.19, 4.20, `);
    },
  );
});

describe('eraMatches', () => {
  it.each<[range: string, era: string, matches: boolean]>([
    ['>=4.19', '4.19', true],
    ['>=4.19', '4.19-rc1', false],
    ['>=4.19-rc1', '4.19-rc1', true],
    ['<5.6', '5.6-rc1', true],
    ['<5.6', '5.6', false],
    ['>=5.6 <6.12', '5.6', true],
    ['>=5.6 <6.12', '6.5', true],
    ['>=5.6 <6.12', '6.12', false],
    ['>= 5.6 < 6.12', '6.5', true],
    ['5.7..6.11', '5.7', true],
    ['5.7..6.11', '6.11', true],
    ['5.7..6.11', '6.12', false],
    ['6.18', '6.18', true],
    ['=6.18', '7.1', false],
    ['4.19-rc1, >=6.12', '4.19-rc1', true],
    ['4.19-rc1, >=6.12', '5.6', false],
    ['<=5.0', '5.0', true],
    ['>5.0', '5.0', false],
    ['*', '5.0', true],
  ])('%s holds for %s: %s', (range, era, matches) => {
    expect(eraMatches(range, resolveEra(era))).toBe(matches);
  });

  it.each(['', '>=', '>=3.2', '5.7..', 'new', '>=5.6,'])('refuses %o', (range) => {
    expect(() => eraMatches(range, NEWEST_ERA)).toThrow(KvmscopeError);
  });
});

describe('switches of the behaviour specification', () => {
  /** [switch, first version with the new value, that value, version just before, its value] */
  it.each<[name: (typeof SWITCHES)[number]['name'], before: string, old: unknown, after: string, value: unknown]>([
    ['pvIpiMinSigned', '4.19-rc1', true, '4.19', false],
    ['pvIpiSlotCheck', '4.19-rc1', false, '4.19', true],
    ['pvIpiMapCheck', '4.19', false, '4.20', true],
    ['pvIpiHighHalfAlways', '5.5', false, '5.6-rc1', true],
    ['fastpath', '5.5', false, '5.6-rc1', true],
    ['fastpathNoShorthand', '5.6-rc1', false, '5.6', true],
    ['fastpathNoBroadcast', '5.6', false, '5.7', true],
    ['fastpathCompletion', '5.7', 'skip instruction', '5.8', 'exit handled'],
    ['pvEnforcement', '5.9', false, '5.10', true],
    ['icrTracedAfterSend', '5.17', false, '5.18', true],
    ['fixHypercallQuirk', '5.18', false, '5.19', true],
    ['mapStrictIds', '6.2', false, '6.3', true],
    ['selfIpiReservedGp', '6.2', false, '6.3', true],
    ['reentryCounted', '6.3', false, '6.4', true],
    ['icrReservedGp', '6.11', false, '6.12', true],
    ['fastpathCompletion', '6.11', 'exit handled', '6.12', 're-enter guest'],
    ['hypercallCountedFirst', '6.13', false, '6.14', true],
    ['fastpathFixedPhysicalOnly', '6.17', true, '6.18', false],
    ['pvIpiClamp', '7.0', 'base', '7.1', 'index'],
  ])('%s: %s %o, %s %o', (name, before, old, after, value) => {
    expect(resolveEra(before)[name]).toBe(old);
    expect(resolveEra(after)[name]).toBe(value);
  });
});
