import { closeSync, ftruncateSync, mkdtempSync, openSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readInput, readInputText } from './files.ts';

const path = join(mkdtempSync(join(tmpdir(), 'kvmscope-files-')), 'input');
const tooLarge = (name: string): string =>
  `${name} has more than 256 MiB, the most that is read of a file: name a smaller one`;

it('reads all of a file, an empty one, and one that does not tell its size', () => {
  const bytes = Uint8Array.from({ length: 3 << 20 }, (_, i) => i % 251);
  writeFileSync(path, bytes);
  expect(Buffer.compare(readInput(path), bytes)).toBe(0);
  writeFileSync(path, '');
  expect(readInput(path)).toEqual(new Uint8Array());
  expect(readInputText('/proc/self/comm')).toMatch(/^\S.*\n$/);
});

it('refuses a file that is too large, and a device without end', () => {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, 2 ** 28 + 1);
  closeSync(fd);
  expect(() => readInput(path)).toThrow(tooLarge(path));
  expect(() => readInput('/dev/zero')).toThrow(tooLarge('/dev/zero'));
});

it('passes errors of the file system on', () => {
  expect(() => readInput(`${path}.none`)).toThrow('ENOENT');
  expect(() => readInput(tmpdir())).toThrow('EISDIR');
});
