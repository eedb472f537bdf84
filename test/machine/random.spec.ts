/** Guest bytes decide nothing about the host: random programs end by themselves or at their budget, and twice the same way. */
import { describe, expect, it } from 'vitest';
import { createVm, type MachineOptions, type RunResult } from '../../src/index.ts';
import { numbers, randomBytes, randomOptions } from '../support/random-programs.ts';

/** How a run ended, its steps, and everything about it as text. */
async function run(
  bytes: Uint8Array,
  options: MachineOptions,
): Promise<Pick<RunResult, 'end' | 'steps'> & { text: string }> {
  const vm = await createVm(options);
  vm.load(bytes);
  const result = vm.run();
  const memory = Buffer.from(vm.memory.slice(0, 0x10000)).toString('base64');
  const text = JSON.stringify({ ...result, memory }, (_, value) => (typeof value === 'bigint' ? `${value}n` : value));
  vm.dispose();
  return { end: result.end, steps: result.steps, text };
}

describe('random programs', () => {
  it.each([1, 2, 3, 4])('end, and end the same way again (batch %i)', async (batch) => {
    const next = numbers(batch);
    for (let i = 0; i < 50; i++) {
      const bytes = randomBytes(next);
      const options = randomOptions(next);
      const first = await run(bytes, options);
      expect(['halted', 'exit', 'budget', 'shutdown', 'host-bug', 'internal-error']).toContain(first.end.kind);
      expect(first.steps).toBeLessThanOrEqual(10_000);
      expect((await run(bytes, options)).text).toBe(first.text);
    }
  });
});
