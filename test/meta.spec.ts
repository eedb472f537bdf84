/** Every expectation of every guest program can fail: with its expected value altered, it does, on the very run it passes on. */
import { describe, expect, it } from 'vitest';
import { evaluate, findPrograms, openProgram, runProgram } from '../src/index.ts';
import { alterExpectation } from './support/alter.ts';

const programs = findPrograms(['guest']);

describe('expectations of guest programs', () => {
  it('are there to be tested', () => {
    expect(programs.length).toBeGreaterThanOrEqual(20);
  });

  it.each(programs)('%s: each one fails when its expected value is altered', async (path) => {
    const opened = openProgram(path);
    const { expectations } = opened.header;
    expect(expectations.length).toBeGreaterThan(0);
    const unseen = new Set(expectations);
    for (const vendor of opened.vendors) {
      for (const kvm of [...opened.eras].reverse()) {
        if (unseen.size === 0) break;
        const { vm, run, checks } = await runProgram(opened, { kvm, vendor });
        for (const { expectation, pass } of checks.filter((check) => unseen.has(check.expectation))) {
          unseen.delete(expectation);
          expect(pass, `${path}:${expectation.line} in ${kvm} on ${vendor}`).toBe(true);
          const [altered] = evaluate([alterExpectation(expectation)], run, opened.program);
          expect(altered.pass, `${path}:${expectation.line} altered`).toBe(false);
        }
        vm.dispose();
      }
    }
    expect([...unseen].map((expectation) => expectation.text)).toEqual([]);
  });
});
