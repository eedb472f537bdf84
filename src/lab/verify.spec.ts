import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findPrograms } from './verify.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-verify-'));
const at = (...names: string[]) => join(folder, ...names);

beforeAll(() => {
  mkdirSync(at('b', 'include'), { recursive: true });
  for (const name of ['b/z.S', 'b/a.s', 'a.asm', 'b/include/x.S', 'b/x.inc', 'b/notes.md', 'c.elf', 'c.bin'])
    writeFileSync(at(name), '');
});
afterAll(() => rmSync(folder, { recursive: true }));

it('finds sources in folders, sorted, without what they include', () => {
  expect(findPrograms([folder])).toEqual([at('a.asm'), at('b/a.s'), at('b/z.S'), at('c.elf')]);
});

it('takes files as they are named, each once', () => {
  expect(findPrograms([at('b/x.inc'), at('b'), at('b/z.S')])).toEqual([at('b/a.s'), at('b/x.inc'), at('b/z.S')]);
});

it('refuses what does not exist', () => {
  expect(() => findPrograms([at('nowhere')])).toThrow(`no such file or folder: ${at('nowhere')}`);
});
