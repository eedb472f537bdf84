/**
 * The guest programs on a unicorn.js module: everything that can be observed is as on the core. Needs the package
 * @alexaltea/unicorn-js or KVMSCOPE_UNICORN=…/unicorn_x86.js; without, the suite says so and is skipped.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { loadUnicorn } from '../../src/cpu/engines/unicorn-module.ts';
import { createVm, findPrograms, type MachineOptions, openProgram, type RunResult, type Vm } from '../../src/index.ts';

const missing = await loadUnicorn().then(
  () => undefined,
  (error: Error) => error.message,
);
if (missing !== undefined) console.warn(`test/engines/unicorn.spec.ts is skipped: ${missing}`);

/** Everything but how long it took and who did it. */
function observed({ end, steps, vcpus, exits, trace, times, counters, console, reports }: RunResult) {
  return { end, steps, vcpus, exits, trace, times, counters, console, reports };
}

async function runOn(engine: 'core' | 'unicorn', options: MachineOptions, load: (vm: Vm) => void) {
  const vm = await createVm({ ...options, engine });
  load(vm);
  const run = vm.run();
  return { vm, run, memory: run.memory.slice() };
}

let executed = 0;
let steps = 0;
/** Programs of which Unicorn executed nothing, with its own account. */
const untouched: string[] = [];

describe.skipIf(missing !== undefined)('engine unicorn', () => {
  it.each(findPrograms(['guest']))('%s ends as on the core, in every register, event and byte of RAM', async (path) => {
    const opened = openProgram(path);
    for (const vendor of opened.vendors) {
      const options = { ...opened.options, vendor };
      const core = await runOn('core', options, (vm) => vm.load(opened.program));
      const unicorn = await runOn('unicorn', options, (vm) => vm.load(opened.program));
      expect(observed(unicorn.run)).toEqual(observed(core.run));
      expect(Buffer.compare(unicorn.memory, core.memory)).toBe(0);
      const share = unicorn.run.notes.find((note) => note.startsWith('Unicorn executed')) ?? '';
      expect(share).toMatch(/^Unicorn executed \d+ of \d+ steps/);
      const [own, all] = share.match(/\d+/g) as [string, string];
      executed += Number(own);
      steps += Number(all);
      if (own === '0') untouched.push(`${path}: ${share}`);
      core.vm.dispose();
      unicorn.vm.dispose();
    }
  });

  afterAll(() => {
    console.log(`Unicorn executed ${executed} of ${steps} steps; nothing of\n${untouched.join('\n')}`);
  });
});
