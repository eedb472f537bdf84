/**
 * kvm-unit-tests under `kvmscope boot`, when KVMSCOPE_KUT names the folders of built trees (separated by colons): the configurations that take
 * seconds, all sub-results. `test/kut-results.md` has all configurations.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVm, readUnittests, treeArch } from '../src/index.ts';
import { kvmscope } from './cli/spawn.ts';

describe('kvmscope kut', () => {
  let tree: string;
  beforeAll(() => {
    tree = mkdtempSync(join(tmpdir(), 'kvmscope-kut-'));
    mkdirSync(join(tree, 'x86'));
    writeFileSync(join(tree, 'config.mak'), 'ARCH=x86_64\n');
    writeFileSync(join(tree, 'x86', 'unittests.cfg'), '[one]\nfile = one.flat\n');
  });
  afterAll(() => rmSync(tree, { recursive: true, force: true }));

  it.each([
    [['--timeout', 'abc'], '--timeout must be a number of seconds'],
    [['--timeout', '-1'], '--timeout must be a number of seconds'],
    [['--jobs', '0'], '--jobs must be 1 or more'],
    [['--test', ''], "option '--test <name>' argument '' is invalid. It must name something."],
    [['--results', '/nowhere/page.md'], "--results: '/nowhere/page.md' cannot be written (ENOENT)"],
  ])('%j is refused before anything runs', (args, message) => {
    const { status, stdout, stderr } = kvmscope('kut', tree, ...args);
    expect([status, stdout, stderr]).toEqual([2, '', `kvmscope: ${message}\n`]);
  });
});

const trees = (process.env.KVMSCOPE_KUT ?? '').split(':').filter(Boolean);
if (trees.length === 0) {
  console.warn(
    'NOT RUN: kvm-unit-tests; set KVMSCOPE_KUT to the folder of a built tree (git: kvm-unit-tests/kvm-unit-tests)',
  );
}

const QUICK =
  'x2apic ioapic smptest smptest3 eventinj hypercall idt_test msr setjmp tsc syscall s3 debug umip emulator cmpxchg8b taskswitch2';

describe.runIf(trees.length > 0).each(trees.length > 0 ? trees : ['no tree'])('kvm-unit-tests of %s', (dir) => {
  const arch = treeArch(dir);
  const names = (arch === undefined ? [] : readUnittests(dir))
    .filter((configuration) => configuration.arch === '' || configuration.arch === arch)
    .map(({ name }) => name)
    .filter((name) => QUICK.split(' ').includes(name));

  it.each(names)('%s passes', { timeout: 200_000 }, (name) => {
    const { status, stdout } = kvmscope('kut', dir, '--test', name);
    expect([status, stdout.split('\n')[0].slice(0, 4)], stdout).toEqual([0, 'PASS']);
  });

  it('prints the same bytes in two runs', async () => {
    const image = new Uint8Array(readFileSync(join(dir, 'x86', 'smptest.flat')));
    const texts: string[] = [];
    for (let run = 0; run < 2; run++) {
      const vm = await createVm({ board: 'pc', vcpus: 8, record: false });
      vm.boot(image);
      texts.push(vm.run().console);
      vm.dispose();
    }
    expect(texts[0]).toContain('PASS: IPI to each CPU');
    expect(texts[1]).toBe(texts[0]);
  });
});
