/** Every program of guest/ in every era and on every vendor its header names. */
import { describe, expect, test } from 'vitest';
import { describeChecks, findPrograms, openProgram, verifyPrograms } from '../src/index.ts';

const PROGRAMS = findPrograms(['guest']);

describe('guest programs', () => {
  test('there are at least 20 and all are found', () => {
    expect(PROGRAMS.length).toBeGreaterThanOrEqual(20);
    expect(PROGRAMS.filter((path) => path.includes('include'))).toEqual([]);
  });

  test.each(PROGRAMS)('%s says what it shows and what to expect', (path) => {
    const { header } = openProgram(path);
    expect(header.title).toMatch(/^[A-Z0-9].*\.$/);
    expect(header.settings.mode).toBeDefined();
    expect(header.settings.kvm).toBeDefined();
    expect(header.expectations.length).toBeGreaterThan(0);
  });

  test.each(PROGRAMS)('%s does what its header expects', async (path) => {
    const report = await verifyPrograms([path]);
    const failures = report.programs.flatMap((program) => [
      ...(program.error === undefined ? [] : [program.error.message]),
      ...program.runs
        .filter((run) => !run.pass)
        .map((run) => `KVM ${run.era}, ${run.vendor}, ended by ${run.end}:\n${describeChecks(run.checks)}`),
    ]);
    expect(failures.join('\n')).toBe('');
    expect(report.pass).toBe(true);
    expect(report.runs).toBeGreaterThan(0);
  });
});
