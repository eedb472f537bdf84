import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadUnicorn } from './unicorn-module.ts';

function scriptFile(text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'kvmscope-')), 'module.cjs');
  writeFileSync(path, text);
  return path;
}

it('says in one line what is wrong with a path', async () => {
  await expect(loadUnicorn('/no/such/unicorn_x86.js')).rejects.toMatchObject({
    code: 'engine',
    message: "no unicorn.js at '/no/such/unicorn_x86.js': Cannot find module '/no/such/unicorn_x86.js'",
  });
  const notOne = scriptFile('module.exports = {};');
  await expect(loadUnicorn(notOne)).rejects.toMatchObject({
    code: 'engine',
    message: `'${notOne}' is not a unicorn.js module`,
  });
});

it('refuses a module without the calls that the engine needs', async () => {
  const old = scriptFile('module.exports = async () => ({ Unicorn: class {} });');
  await expect(loadUnicorn(old)).rejects.toMatchObject({
    code: 'engine',
    message: 'this unicorn.js is too old for engine unicorn: it has no _uc_hook_add; 2.1.4 has',
  });
});

it('lets a module install no handlers for errors of the whole process', async () => {
  const greedy = scriptFile(`module.exports = async () => {
    process.on('uncaughtException', () => {});
    process.on('unhandledRejection', () => {});
    const call = () => 0;
    return { Unicorn: class {}, _uc_hook_add: call, _uc_reg_read_batch: call, _uc_reg_write_batch: call, HOOK_TLB_FILL: 1 };
  };`);
  const count = () => process.listenerCount('uncaughtException') + process.listenerCount('unhandledRejection');
  const before = count();
  await loadUnicorn(greedy);
  expect(count()).toBe(before);
});
