/**
 * The second tier changes nothing but speed: with all code translated when control first comes to it, everything that can be observed
 * of a guest is as the interpreter has it.
 */
import { describe, expect, it } from 'vitest';
import {
  createVm,
  findPrograms,
  type MachineOptions,
  openProgram,
  type Program,
  type RunResult,
} from '../src/index.ts';
import { numbers, randomBytes, randomOptions } from './support/random-programs.ts';

/** Everything but how long it took. */
function observed({ end, steps, vcpus, exits, trace, times, counters, console, reports }: RunResult) {
  return { end, steps, vcpus, exits, trace, times, counters, console, reports };
}

async function compare(program: Program | Uint8Array, options: MachineOptions): Promise<void> {
  const interpreted = await createVm({ ...options, tier2: false });
  interpreted.load(program as Program);
  const expected = interpreted.run();
  const compiled = await createVm({ ...options, tier2: 'force' });
  compiled.load(program as Program);
  const run = compiled.run();
  expect(observed(run)).toEqual(observed(expected));
  expect(Buffer.compare(run.memory, expected.memory)).toBe(0);
  interpreted.dispose();
  compiled.dispose();
}

describe('guest programs', () => {
  it.each(findPrograms(['guest']))('%s', async (path) => {
    const { program, options } = openProgram(path);
    await compare(program, options);
  });
});

describe('random programs', () => {
  const next = numbers(77);
  it.each(Array.from({ length: 60 }, (_, n) => [n]))('%i', async () => {
    const options = randomOptions(next);
    await compare(randomBytes(next), options);
  });
});
