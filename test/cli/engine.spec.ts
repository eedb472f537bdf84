/** `--engine`: what the command line says when the engine is not there. */
import { afterEach, expect, it } from 'vitest';
import { kvmscope } from './spawn.ts';

const before = process.env.KVMSCOPE_UNICORN;
afterEach(() => {
  if (before === undefined) delete process.env.KVMSCOPE_UNICORN;
  else process.env.KVMSCOPE_UNICORN = before;
});

it.each(['run', 'test'])('%s without the module answers in one line, with exit code 2', (command) => {
  process.env.KVMSCOPE_UNICORN = '/no/such/unicorn_x86.js';
  expect(kvmscope(command, 'guest/pv-ipi/send-to-three.S', '--engine', 'unicorn')).toEqual({
    status: 2,
    stdout: '',
    stderr: "kvmscope: no unicorn.js at '/no/such/unicorn_x86.js': Cannot find module '/no/such/unicorn_x86.js'\n",
  });
});

it('knows no other engines', () => {
  const { status, stderr } = kvmscope('run', 'guest/pv-ipi/send-to-three.S', '--engine', 'qemu');
  expect(status).toBe(2);
  expect(stderr).toMatch(/^kvmscope: .*--engine.*'qemu' is invalid.*core, unicorn.*\n$/);
});
