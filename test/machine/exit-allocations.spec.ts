/** The way guest → KVM → guest leaves nothing for the garbage collector: no object, no BigInt, no number too large for V8's small ones. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

test('hypercalls, ICR writes, EOIs and CPUID allocate nothing', { timeout: 60_000 }, () => {
  const script = fileURLToPath(new URL('../support/exit-allocations.ts', import.meta.url));
  // Nothing is collected until 64 MiB of new objects are there, and what V8 optimises does not depend on how busy the machine is.
  const flags = ['--min-semi-space-size=64', '--max-semi-space-size=64', '--no-concurrent-recompilation'];
  const bytes: Record<string, number> = JSON.parse(
    execFileSync(process.execPath, [...flags, '--import', 'tsx', script]).toString(),
  );
  expect(Object.keys(bytes)).toHaveLength(12);
  // The measurement itself takes some hundred bytes; the least object has 16 for each of tens of thousands of exits.
  expect(Object.entries(bytes).filter(([, perExit]) => !(perExit < 1))).toEqual([]);
});
