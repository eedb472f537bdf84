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
        '6.0 6.3 6.4 6.5 6.12 6.14 6.17 6.18 7.1'
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

describe('the changes of a switch', () => {
  const changes = (name: (typeof SWITCHES)[number]['name']) => SWITCHES.find((item) => item.name === name)?.changes;

  it('say in which version what came, and by which commit', () => {
    expect(changes('pvEnforcement')).toEqual([{ since: '5.10', value: true, commit: '66570e966dd9' }]);
    expect(changes('fastpathNoShorthand')).toEqual([
      { since: '5.6-rc8', value: true, commit: 'e1be9ac8e601' },
      { since: '6.18', value: false, commit: 'aeeb4c7fff52' },
    ]);
    expect(changes('pvIpiClamp')).toEqual([
      { since: '6.17', value: 'base', commit: 'c87bd4dd43a6' },
      { since: '7.1', value: 'index', commit: '00d572d4cd7d' },
    ]);
    expect(changes('fastpathCompletion')?.map((change) => change.commit)).toEqual(['404d5d7bff0d', '0dd45f2cd8cc']);
  });

  it('lead from the first value to that of every named version', () => {
    for (const { name, first, changes: history, values } of SWITCHES) {
      expect(values[0], name).toBe(first);
      expect(values.at(-1), name).toBe(history.at(-1)?.value);
      for (const { since, value } of history) expect(resolveEra(since)[name], `${name} ${since}`).toBe(value);
    }
  });

  /** Commits that brought what a guest or an observer of one can tell, by version. */
  it.each([
    ['4.19-rc3', ['bdf7ffc89922']],
    ['4.20', ['38ab012f109c']],
    ['5.3', ['715062970f37']],
    ['5.6', ['1e9e2622a149']],
    ['5.6-rc8', ['e1be9ac8e601']],
    ['5.8', ['a9ab13ff6e84', '404d5d7bff0d', 'ae95f566b3d2', 'd2286ba7d574']],
    ['5.10', ['66570e966dd9']],
    ['5.14', ['0dbb11230437']],
    ['5.18', ['a57a31684d7b']],
    ['6.0', ['d588bb9be1da']],
    ['6.3', ['5b84b0291702', '2970052481b9', 'ab52be1b310b', 'ba5838abb053', '052c3b99cbc8', 'd471bd853d38']],
    ['6.4', ['8b703a49c9df']],
    ['6.12', ['71bf395a276f', '73b42dc69be8', '0dd45f2cd8cc', '1876dd69dfe8']],
    ['6.14', ['05a518b49dd6']],
    ['6.17', ['c87bd4dd43a6']],
    ['6.18', ['777414340085', 'aeeb4c7fff52', '0a94b2042419', '6c3d4b917995']],
    ['7.1', ['00d572d4cd7d']],
  ])('KVM %s: %o', (version, commits) => {
    const known = SWITCHES.flatMap((item) => item.changes)
      .filter((change) => change.since === version)
      .map((change) => change.commit);
    expect(commits.filter((commit) => !known.includes(commit))).toEqual([]);
  });
});

describe('resolveEra', () => {
  it('gives any version between the named ones the rules in force then', () => {
    expect(resolveEra('6.6').name).toBe('6.6');
    expect(resolveEra('6.6').svmExitTracedFirst).toBe(true);
    expect(resolveEra('6.5').svmExitTracedFirst).toBe(false);
    expect(resolveEra('6.6').icrReservedGp).toBe(false);
    expect([resolveEra('5.14').maxVcpuId, resolveEra('5.15').maxVcpuId]).toEqual([1023, 4095]);
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
    ['apicvAcceptTraced', '5.16', false, '5.17', true],
    ['fixHypercallQuirk', '5.18', false, '5.19', true],
    ['ipiVirtualization', '5.19', false, '6.0', true],
    ['apicvReadsChecked', '6.2', false, '6.3', true],
    ['avicInvalidTargetSent', '6.2', false, '6.3', true],
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

describe('an era with single switches of another', () => {
  it('differs in these alone', () => {
    const blend = resolveEra('5.4+pvIpiHighHalfAlways@5.6');
    expect(blend).toEqual({ ...resolveEra('5.4'), pvIpiHighHalfAlways: true, name: '5.4+pvIpiHighHalfAlways@5.6' });
  });

  it('names the part that is none', () => {
    expect(() => resolveEra('5.4+pvIpi@5.6')).toThrow("'pvIpi@5.6' in '5.4+pvIpi@5.6' is no switch@version");
    expect(() => resolveEra('5.4+pvIpiMapCheck')).toThrow('is no switch@version');
  });
});
