import { expect, it } from 'vitest';
import { acquireEngine, releaseEngine } from './engines.ts';

const SHAPE = { vcpus: 2, memory: 0x100000, vendor: 'intel' } as const;

it('gives a released engine to the next VM of the same shape only', async () => {
  const first = await acquireEngine(SHAPE);
  expect(first.fresh).toBe(true);
  releaseEngine(first.cpu);
  const other = await acquireEngine({ ...SHAPE, vendor: 'amd' });
  expect(other.cpu).not.toBe(first.cpu);
  const again = await acquireEngine(SHAPE);
  expect(again.cpu).toBe(first.cpu);
  expect(again.fresh).toBe(false);
  expect((await acquireEngine(SHAPE)).cpu).not.toBe(first.cpu);
});

it('keeps no more than eight idle engines', async () => {
  const engines = await Promise.all(Array.from({ length: 9 }, () => acquireEngine(SHAPE)));
  for (const { cpu } of engines) releaseEngine(cpu);
  const taken = [];
  for (let i = 0; i < 9; i++) taken.push(await acquireEngine(SHAPE));
  expect(taken.filter(({ fresh }) => fresh).length).toBe(1);
  expect(taken.map(({ cpu }) => cpu)).not.toContain(engines[0].cpu);
});
