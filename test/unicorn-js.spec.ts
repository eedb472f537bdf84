/**
 * The public x86 tests of unicorn.js run unchanged on `kvmscope/unicorn`, and its constants are ours. They need a checkout of
 * github.com/AlexAltea/unicorn.js:  UNICORN_JS=path npx vitest run test/unicorn-js.spec.ts
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONSTANTS } from '../src/unicorn/constants.ts';
import { ROOT } from './cli/spawn.ts';

const CHECKOUT = process.env.UNICORN_JS;
const MODULE = join(ROOT, 'scripts/unicorn.cjs');

describe('a program of plain Node.js', () => {
  const source = `
    const e = new uc.Unicorn(uc.ARCH_X86, uc.MODE_64);
    e.mem_map(0x1000, 0x1000, uc.PROT_ALL);
    e.mem_write(0x1000, [0x48, 0xff, 0xc0]);
    e.emu_start(0x1000, 0x1003);
    console.log(e.reg_read_i64(uc.X86_REG_RAX));`;
  it.each([
    ['require', 'commonjs', `require('kvmscope/unicorn')().then((uc) => {${source}});`],
    ['import', 'module', `import MUnicorn from 'kvmscope/unicorn'; const uc = await MUnicorn();${source}`],
  ])('gets the factory by %s', (_, type, program) => {
    const args = [`--input-type=${type}`, '-e', program];
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toBe('1n\n');
  });
});

if (!CHECKOUT)
  console.warn('unicorn.js tests are skipped: UNICORN_JS names no checkout of github.com/AlexAltea/unicorn.js');

describe.skipIf(!CHECKOUT)('unicorn.js', () => {
  it.each(['arch_x86', 'context', 'ctl', 'helpers', 'hooks', 'loop'])('test_%s.js passes', (name) => {
    const script = join(CHECKOUT as string, 'tests', `test_${name}.js`);
    const { status, stdout } = spawnSync(process.execPath, [script, MODULE], { encoding: 'utf8' });
    expect(stdout).toContain('PASS');
    expect(stdout).not.toContain('FAIL');
    expect(status).toBe(0);
  });

  it.each(['constants_x86.js', 'unicorn-wrapper.js'])('has the constants of %s', (file) => {
    const source = readFileSync(join(CHECKOUT as string, 'src', file), 'utf8');
    const module: Record<string, unknown> = {};
    new Function('Module', source)(module);
    const other = /^MODE_(ARM|THUMB|MCLASS|V8|MICRO|MIPS|PPC|QPX|SPARC|V9|RISCV)/;
    const numbers = Object.entries(module).filter(([name, value]) => typeof value === 'number' && !other.test(name));
    expect(numbers.length).toBeGreaterThan(100);
    expect(numbers.filter(([name, value]) => (CONSTANTS as unknown as Record<string, number>)[name] !== value)).toEqual(
      [],
    );
  });
});
