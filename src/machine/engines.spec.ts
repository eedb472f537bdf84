import { expect, it } from 'vitest';
import { acquireEngine, engineLacks, releaseEngine } from './engines.ts';

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

it('drops an engine that has failed', async () => {
  const { cpu } = await acquireEngine({ ...SHAPE, vcpus: 3 });
  releaseEngine(Object.assign(cpu, { failed: true }));
  expect((await acquireEngine({ ...SHAPE, vcpus: 3 })).fresh).toBe(true);
});

it('keeps engines of each kind apart', async () => {
  const { cpu } = await acquireEngine({ ...SHAPE, vcpus: 4 });
  releaseEngine(cpu, 'unicorn');
  const core = await acquireEngine({ ...SHAPE, vcpus: 4 }, 'core');
  expect(core.cpu).not.toBe(cpu);
  expect((await acquireEngine({ ...SHAPE, vcpus: 4 }, 'unicorn')).cpu).toBe(cpu);
});

it('knows which shapes an engine cannot have', () => {
  expect(engineLacks('core', { ...SHAPE, memory: 2 ** 31 })).toBeUndefined();
  expect(engineLacks('unicorn', { ...SHAPE, memory: 2 ** 30 })).toBeUndefined();
  expect(engineLacks('unicorn', { ...SHAPE, memory: 2 ** 31 })).toBe(
    '2147483648 bytes of RAM, and engine unicorn has room for 1073741824',
  );
});
