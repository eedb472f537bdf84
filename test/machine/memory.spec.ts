/** What a process with many vCPUs needs. */
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** Every vCPU takes an IPI and answers it; prints how it ended and the peak of the process in MiB. */
const PROGRAM = `
import { createVm, openProgram } from './src/index.ts';
const { options, program } = openProgram('guest/bench/ipi/broadcast-pv-255.S');
const vm = await createVm({ ...options, record: false });
vm.load(program);
console.log(JSON.stringify([vm.options.vcpus, vm.memory.length, vm.advance().kind, process.resourceUsage().maxRSS / 1024]));
`;

test('255 vCPUs with 16 MiB of RAM: under 200 MiB for the whole process', { timeout: 60_000 }, () => {
  const args = ['--import', 'tsx', '--input-type=module', '-e', PROGRAM];
  const [vcpus, memory, end, peak] = JSON.parse(execFileSync(process.execPath, args).toString());
  expect([vcpus, memory, end]).toEqual([255, 16 << 20, 'halted']);
  expect(peak).toBeLessThan(200);
});
