/** `npm run prepare` compiles src/ to build/, and the command line runs that only while it is what the sources say. */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isFresh, sources, stampOf } from '../../scripts/load.js';
import { ROOT } from './spawn.ts';

const MAIN = 'src/cli/main.ts';
const COMPILED = 'build/cli/main.js';

/** A checkout with a command line of two modules. */
let checkout: string;
const path = (name: string): string => join(checkout, name);
const write = (name: string, text: string): void => writeFileSync(path(name), text);
/** As if it had been written a second later. */
const touch = (name: string): void => utimesSync(path(name), 1, statSync(path(name)).mtimeMs / 1000 + 1);

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'kvmscope-compiled-'));
  for (const folder of ['src/cli', 'build']) mkdirSync(path(folder), { recursive: true });
  cpSync(join(ROOT, 'scripts'), path('scripts'), { recursive: true });
  write('package.json', '{ "type": "module" }');
  write('src/text.ts', "export const text: string = 'from the sources';\n");
  write('src/text.spec.ts', '');
  write(MAIN, "import { text } from '../text.ts';\n\nexport const main = (): void => console.log(text);\n");
});
afterEach(() => rmSync(checkout, { recursive: true }));

describe('what is compiled is up to date', () => {
  it('while the list of sources is the one it was made from', () => {
    expect(isFresh(checkout)).toBe(false);
    writeFileSync(stampOf(checkout), sources(checkout));
    expect(isFresh(checkout)).toBe(true);
    touch('src/text.spec.ts');
    expect(isFresh(checkout)).toBe(true);
  });

  it.each<[string, () => void]>([
    ['newer', () => touch('src/text.ts')],
    ['older', () => utimesSync(path('src/text.ts'), 1, 1)],
    ['of another size', () => write('src/text.ts', '')],
    ['deleted', () => rmSync(path('src/text.ts'))],
    ['renamed', () => renameSync(path('src/text.ts'), path('src/words.ts'))],
    ['added', () => write('src/more.ts', '')],
    ['what compiles', () => touch('scripts/compile.js')],
  ])('and no longer when a source is %s', (_, change) => {
    writeFileSync(stampOf(checkout), sources(checkout));
    change();
    expect(isFresh(checkout)).toBe(false);
  });
});

describe('the command line', () => {
  function node(script: string, env: Record<string, string> = {}) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
      cwd: checkout,
      encoding: 'utf8',
      env: { ...process.env, KVMSCOPE_DEBUG: '', ...env },
    });
    return { status, stdout, stderr };
  }
  const compile = () => node('scripts/compile.js');
  const run = (env?: Record<string, string>) => node('scripts/kvmscope.js', env);
  const done = (stdout = '') => ({ status: 0, stdout, stderr: '' });
  const MISSING = {
    status: 2,
    stdout: '',
    stderr: 'kvmscope: dependencies are missing; run npm ci in the checkout first\n',
  };
  const link = (): void => symlinkSync(join(ROOT, 'node_modules'), path('node_modules'));

  it('runs what is compiled, and never when a source has changed since', () => {
    link();
    expect(run()).toEqual(done('from the sources\n'));
    expect(compile()).toEqual(done());
    expect(run()).toEqual(done('from the sources\n'));
    // No compiler has written this: it shows which of the two runs.
    write(COMPILED, "export const main = () => console.log('compiled');\n");
    expect(run()).toEqual(done('compiled\n'));
    expect(compile()).toEqual(done());
    expect(run()).toEqual(done('compiled\n'));
    touch('src/text.ts');
    expect(run()).toEqual(done('from the sources\n'));
    expect(compile()).toEqual(done());
    rmSync(path('src/text.ts'));
    expect(run().stderr).toContain('ERR_MODULE_NOT_FOUND');
  });

  it('does not run what is compiled in part, nor what sources that are gone were compiled to', () => {
    link();
    expect(compile()).toEqual(done());
    write('src/text.ts', 'export const text = ;\n');
    expect(compile()).toMatchObject({ status: 1, stdout: expect.stringContaining('src/text.ts') });
    expect(isFresh(checkout)).toBe(false);
    renameSync(path('src/text.ts'), path('src/words.ts'));
    write('src/words.ts', "export const text = 'words';\n");
    expect(compile()).toEqual(done());
    expect([existsSync(path('build/text.js')), existsSync(path('build/words.js'))]).toEqual([false, true]);
    expect(run().stderr).toContain('ERR_MODULE_NOT_FOUND');
  });

  it('names the line of the source in stack traces of KVMSCOPE_DEBUG', () => {
    link();
    write(MAIN, "interface Nothing {}\n\nexport function main(): Nothing {\n  throw new Error('boom');\n}\n");
    expect(compile()).toEqual(done());
    expect(run({ KVMSCOPE_DEBUG: '1' }).stderr).toContain(`${path(MAIN)}:4:9`);
    expect(run().stderr).toContain(path(COMPILED));
  });

  it('says that dependencies are missing, compiled or not', () => {
    expect(run()).toEqual(MISSING);
    write(MAIN, "import 'commander';\n");
    mkdirSync(path('build/cli'));
    write(COMPILED, "import 'commander';\n");
    writeFileSync(stampOf(checkout), sources(checkout));
    expect(run()).toEqual(MISSING);
  });

  it('without a compiler the sources run as they are', () => {
    expect(compile()).toEqual(done());
    expect(isFresh(checkout)).toBe(false);
  });
});
