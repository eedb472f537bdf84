/** The programs of the benchmark do what they say, in both widths and on every engine that is here. */
import { describe, expect, it } from 'vitest';
import { ownModule } from '../engines/own-module.ts';
import { ENGINE_NAMES } from './engines/engine.ts';
import { ENGINES } from './engines/index.ts';
import { lapSteps } from './engines/kvmscope.ts';
import { openUnicorn } from './engines/unicornjs.ts';
import { assembleWorkload, romOf, WORKLOADS, widen } from './workloads.ts';

/** EAX after a lap: primes, sums, Fibonacci's 20th number … */
const RESULTS: Readonly<Record<string, number>> = {
  alu: 0x8a22971a,
  sieve: 3512,
  copy: 0x65a16000,
  branches: 0x4284568b,
  calls: 6765,
  pages: 0xe2aa2a56,
  strings: 0x81670600,
  tlb: (4 * (2048 * 2049)) / 2,
  remap: (8 * (255 * 256)) / 2,
  vmcall: 2000,
  icr: 2000,
  cpuid: 2000,
  out: 2000,
  short: (32 * 33) / 2,
};

it('every workload has a result', () => {
  expect(WORKLOADS.map(({ name }) => name)).toEqual(Object.keys(RESULTS));
});

it('rAX is a register of the width, and nothing else is', () => {
  expect(widen('mov rAX, rSI # rAXe rax', 64)).toBe('mov rax, rsi # rAXe rax');
  expect(widen('mov rAX, rSI # rAXe rax', 32)).toBe('mov eax, esi # rAXe rax');
});

it('a ROM has the program in front and a far jump at the reset vector', () => {
  const image = assembleWorkload(WORKLOADS[0], 32);
  const rom = romOf(image);
  expect(rom.length).toBe(0x10000);
  expect(rom.subarray(0, image.program.bytes.length)).toEqual(image.program.bytes);
  expect([...rom.subarray(0xfff0, 0xfff5)]).toEqual([0xea, 0x00, 0xf0, 0x00, 0xf0]);
});

it('laps are long enough to measure and short enough to wait for', async () => {
  for (const workload of WORKLOADS) {
    const steps = await lapSteps(assembleWorkload(workload, 64));
    const [least, most] = workload.kind === 'compute' ? [20_000, 500_000] : [90, 12_000];
    expect(steps, workload.name).toBeGreaterThan(least);
    expect(steps, workload.name).toBeLessThan(most);
  }
});

for (const name of ENGINE_NAMES) {
  const engine = await ENGINES[name]();
  if (engine.missing !== undefined) console.warn(`NOT RUN: workloads on ${engine.title}: ${engine.missing}`);
  describe.skipIf(engine.missing !== undefined)(engine.title, () => {
    it.each(WORKLOADS.filter((workload) => !(workload.name in engine.lacks)))(
      '$name ends two laps with its result',
      async (workload) => {
        const machine = await engine.open(assembleWorkload(workload, engine.bits));
        try {
          expect(await machine.run(1)).toBeGreaterThanOrEqual(0);
          expect(machine.result()).toBe(RESULTS[workload.name]);
          await machine.run(2);
          expect(machine.result()).toBe(RESULTS[workload.name]);
        } finally {
          await machine.close();
        }
      },
    );
  });
}

describe('a module of the unicorn.js API', () => {
  it.each(['alu', 'copy', 'out', 'icr', 'vmcall', 'short'])('%s ends two laps with its result', async (name) => {
    const workload = WORKLOADS.find((one) => one.name === name)!;
    const machine = await openUnicorn(await ownModule(), assembleWorkload(workload, 64));
    await machine.run(2);
    expect(machine.result()).toBe(RESULTS[name]);
  });
});
