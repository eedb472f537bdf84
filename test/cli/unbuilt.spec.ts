/** A checkout after `npm ci --ignore-scripts`: nothing that `npm run prepare` makes is there. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ROOT } from './spawn.ts';

const checkout = mkdtempSync(join(tmpdir(), 'kvmscope-unbuilt-'));
afterAll(() => rmSync(checkout, { recursive: true }));

const copy = (path: string, filter: (path: string) => boolean = () => true): void =>
  cpSync(join(ROOT, path), join(checkout, path), { recursive: true, filter });

function run() {
  const { status, stdout, stderr } = spawnSync('node', ['scripts/kvmscope.js', 'run', 'guest/pv-ipi/send-to-three.S'], {
    cwd: checkout,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

const missing = (file: string) => ({
  status: 2,
  stdout: '',
  stderr: `kvmscope: ${file} is missing: run \`npm run prepare\` to build the CPU core\n`,
});

it('in a checkout that has not been built, one line says what is missing and how to make it', () => {
  const handlers = 'src/cpu/core/handlers.generated.ts';
  for (const path of ['scripts', 'guest', 'package.json']) copy(path);
  copy('src', (path) => !path.endsWith('.generated.ts'));
  symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'));
  expect(run()).toEqual(missing(handlers));
  copy(handlers);
  expect(run()).toEqual(missing('build/core.wasm'));
});
