/** guest/bugs/: what a program expects before a fix does not hold after it, and nothing but the fix lies between. */
import { describe, expect, test } from 'vitest';
import { evaluate, findPrograms, openProgram, type RunResult, runProgram, type Vendor } from '../src/index.ts';

const PROGRAMS = findPrograms(['guest/bugs']);

describe.each(PROGRAMS)('%s', (path) => {
  const opened = openProgram(path);
  const cases = opened.vendors.flatMap((vendor) => opened.eras.map((era) => ({ vendor, era })));

  async function runs(vendor: Vendor): Promise<RunResult[]> {
    const results: RunResult[] = [];
    for (const { era } of cases.filter((item) => item.vendor === vendor)) {
      const { vm, run } = await runProgram(opened, { kvm: era, vendor });
      // RAM goes back with the VM: keep what expectations may read.
      results.push({ ...run, memory: run.memory.slice(0, 0x10000) });
      vm.dispose();
    }
    return results;
  }

  test.each(opened.vendors)('on %s every change of its expectations is a change of behaviour', async (vendor) => {
    const results = await runs(vendor);
    const texts = (run: RunResult, era = run.era) =>
      evaluate(opened.header.expectations, { ...run, era }, opened.program).map((check) => check.expectation.text);
    let changes = 0;
    for (const [i, after] of results.entries()) {
      const before = results[i - 1];
      if (before === undefined || texts(before).join() === texts(after).join()) continue;
      changes++;
      for (const [run, rules] of [
        [after, before.era],
        [before, after.era],
      ] as const) {
        const checks = evaluate(opened.header.expectations, { ...run, era: rules }, opened.program);
        const broken = checks.filter((check) => !check.pass).length;
        expect(broken, `the rules of KVM ${rules} hold in KVM ${run.era}, too`).toBeGreaterThan(0);
      }
    }
    expect(changes, 'the behaviour never changes').toBeGreaterThan(0);
  });

  test('names the version, and the commit or the CVE where one is known', () => {
    expect(opened.header.description).toMatch(/v[4-7]\.\d+/);
  });
});

test('bugs that crash or corrupt the host end the run and name the bug', async () => {
  const ends = new Map<string, string>();
  for (const path of PROGRAMS) {
    const opened = openProgram(path);
    const { vm, run } = await runProgram(opened, { kvm: opened.eras[0] });
    vm.dispose();
    if (run.end.kind === 'host-bug') ends.set(path, [run.end.bug, run.end.cve ?? ''].join(' ').trim());
  }
  expect(Object.fromEntries(ends)).toEqual({
    'guest/bugs/pv-ipi-empty-slot.S': 'pv-ipi-empty-slot',
    'guest/bugs/pv-ipi-negative-min.S': 'pv-ipi-out-of-bounds',
    'guest/bugs/pv-ipi-no-map.S': 'pv-ipi-no-map CVE-2018-19406',
  });
});
