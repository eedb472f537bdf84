import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { isSource, loadProgram } from './load.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvmscope-load-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
}

function failure(from: string | Uint8Array): [string, string] {
  try {
    loadProgram(from);
  } catch (error) {
    if (error instanceof KvmscopeError) return [error.code, error.message];
    throw error;
  }
  throw new Error('it loaded');
}

describe('sources', () => {
  it('are known by their extension', () => {
    expect(['a.S', 'b.s', 'c.asm', 'd.ASM', 'e.bin', 'f', 'g.elf'].filter(isSource)).toEqual([
      'a.S',
      'b.s',
      'c.asm',
      'd.ASM',
    ]);
  });

  it('find includes beside the file that includes, beside the source, and in the folders named', () => {
    file('src/deep/inner.inc', '.byte 2\n.include "beside.inc"\n.include "top.inc"\n.include "far.inc"');
    file('src/deep/beside.inc', '.byte 3');
    file('src/top.inc', '.byte 4');
    file('elsewhere/far.inc', '.byte 5');
    const path = file('src/main.S', '.byte 1\n.include "deep/inner.inc"\n');
    const program = loadProgram(path, { includeDirs: [join(folder, 'elsewhere')] });
    expect([...program.bytes]).toEqual([1, 2, 3, 4, 5]);
  });

  it('find the shared include files of the guest programs', () => {
    const path = file('shared.S', '.include "constants.inc"\nnop\n');
    expect(loadProgram(path).symbols.size).toBeGreaterThan(10);
  });

  it('take origin, code size and definitions', () => {
    const path = file('options.S', 'push eax\n.byte n\n');
    const program = loadProgram(path, { origin: 0x8000, bits: 32, defines: { n: 9n } });
    expect([program.origin, ...program.bytes]).toEqual([0x8000, 0x50, 9]);
  });
});

describe('flat binaries', () => {
  it('go to 0x1000 or the origin asked for', () => {
    const bytes = Uint8Array.of(0x0f, 0x01, 0xc1);
    expect(loadProgram(bytes)).toMatchObject({ origin: 0x1000, entry: 0x1000, segments: [{ address: 0x1000, bytes }] });
    expect(loadProgram(file('flat.bin', bytes), { origin: 0x7c00 })).toMatchObject({ origin: 0x7c00, entry: 0x7c00 });
  });

  it('that are missing, folders or empty are the user’s mistake', () => {
    expect(failure(join(folder, 'none.bin'))).toEqual(['not-found', `no such file: ${join(folder, 'none.bin')}`]);
    expect(failure(folder)).toEqual(['not-found', `${folder} is a directory, not a program`]);
    expect(failure('a\0b')[0]).toBe('not-found');
    expect(failure(file('bad.S', '.include "a\0b"'))[1]).toContain('cannot find the include file');
    expect(failure(new Uint8Array(0))).toEqual(['image', 'program: the file is empty']);
  });
});

/** A small ELF executable: one segment of `code` at `address`, a symbol table with `_start` and `data`. */
function elf(bits: 32 | 64, code: Uint8Array, change: (view: DataView) => void = () => {}): Uint8Array {
  const wide = bits === 64;
  const [headerSize, programSize, sectionSize, symbolSize] = wide ? [64, 56, 64, 24] : [52, 32, 40, 16];
  const names = new TextEncoder().encode('\0_start\0data\0');
  const codeAt = headerSize + programSize;
  const symbolsAt = codeAt + code.length;
  const namesAt = symbolsAt + symbolSize * 3;
  const sectionsAt = namesAt + names.length;
  const view = new DataView(new ArrayBuffer(sectionsAt + sectionSize * 3));
  const bytes = new Uint8Array(view.buffer);
  const word = (at: number, value: number): void => {
    view.setUint32(at, value, true);
  };
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, wide ? 62 : 3, true);
  word(24, 0x10_0002);
  word(wide ? 32 : 28, headerSize);
  word(wide ? 40 : 32, sectionsAt);
  for (const [index, value] of [programSize, 1, sectionSize, 3].entries()) {
    view.setUint16((wide ? 54 : 42) + index * 2, value, true);
  }
  word(headerSize, 1);
  word(headerSize + (wide ? 8 : 4), codeAt);
  word(headerSize + (wide ? 16 : 8), 0x40_0000);
  word(headerSize + (wide ? 24 : 12), 0x10_0000);
  word(headerSize + (wide ? 32 : 16), code.length);
  word(headerSize + (wide ? 40 : 20), code.length + 4);
  bytes.set(code, codeAt);
  for (const [index, [name, value]] of [
    [1, 0x10_0002],
    [8, 0x20_0000],
  ].entries()) {
    const at = symbolsAt + symbolSize * (index + 1);
    word(at, name);
    word(at + (wide ? 8 : 4), value);
    bytes[at + (wide ? 4 : 12)] = 0x12;
    view.setUint16(at + (wide ? 6 : 14), 1, true);
  }
  bytes.set(names, namesAt);
  const section = (index: number, type: number, at: number, size: number, link: number): void => {
    const start = sectionsAt + sectionSize * index;
    word(start + 4, type);
    word(start + (wide ? 24 : 16), at);
    word(start + (wide ? 32 : 20), size);
    word(start + (wide ? 40 : 24), link);
  };
  section(1, 2, symbolsAt, symbolSize * 3, 2);
  section(2, 3, namesAt, names.length, 0);
  change(view);
  return bytes;
}

const CODE = Uint8Array.of(0x90, 0x90, 0x0f, 0x01, 0xc1, 0xf4);

describe.each([32, 64] as const)('ELF%i', (bits) => {
  const wide = bits === 64;

  it('loads at physical addresses, zeros behind the file part, with entry and symbols', () => {
    const program = loadProgram(elf(bits, CODE));
    const bytes = Uint8Array.of(...CODE, 0, 0, 0, 0);
    expect(program).toMatchObject({
      origin: 0x10_0000,
      entry: 0x10_0002,
      bits,
      bytes,
      segments: [{ address: 0x10_0000, bytes }],
    });
    expect([...program.symbols]).toEqual([
      ['_start', 0x10_0002n],
      ['data', 0x20_0000n],
    ]);
  });

  it.each<[string, (view: DataView) => void]>([
    ['ELF class 7 is neither 32-bit (1) nor 64-bit (2)', (view) => view.setUint8(4, 7)],
    ['a big-endian ELF file; x86 is little-endian', (view) => view.setUint8(5, 2)],
    ['ELF machine 183 is not x86 (3 or 62)', (view) => view.setUint16(18, 183, true)],
    ['a relocatable object: link it first; an executable is needed', (view) => view.setUint16(16, 1, true)],
    ['ELF type 4; an executable is needed', (view) => view.setUint16(16, 4, true)],
    ['no loadable segment', (view) => view.setUint32(wide ? 64 : 52, 4, true)],
    ['a dynamically linked program; link it with -static', (view) => view.setUint32(wide ? 64 : 52, 3, true)],
    [
      'a segment has more bytes in the file (60) than in memory (10)',
      (view) => view.setUint32(wide ? 96 : 68, 60, true),
    ],
    [
      'segments take more than 2147483648 bytes of memory',
      (view) => view.setUint32(wide ? 104 : 72, 0xffff_fff0, true),
    ],
    ['program headers of 8 bytes are too small', (view) => view.setUint16(wide ? 54 : 42, 8, true)],
    ['section headers of 8 bytes are too small', (view) => view.setUint16(wide ? 58 : 46, 8, true)],
  ])('%s: one clear line', (message, change) => {
    expect(failure(elf(bits, CODE, change))).toEqual(['image', `program: ${message}`]);
  });

  it('that is cut off anywhere is refused or loads, and nothing else', () => {
    const whole = elf(bits, CODE);
    for (let length = 4; length < whole.length; length++) {
      const [code, message] = failure(whole.subarray(0, length));
      expect(code).toBe('image');
      expect(message).not.toContain('\n');
    }
  });

  it('with any byte changed is refused in one line or loads', () => {
    const whole = elf(bits, CODE);
    for (let at = 4; at < whole.length; at++) {
      for (const value of [0, 0x7f, 0xff]) {
        const changed = whole.slice();
        changed[at] = value;
        try {
          loadProgram(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(KvmscopeError);
        }
      }
    }
  });
});

it('reads what GNU as and ld make of the same source as the assembler does', (context) => {
  try {
    execFileSync('ld', ['--version'], { stdio: 'ignore' });
  } catch {
    console.warn('\n*** SKIPPED: ELF file of GNU ld: GNU binutils is not installed ***\n');
    context.skip();
  }
  const source = file(
    'real.S',
    '.intel_syntax noprefix\n.globl _start\nnop\n_start: mov eax, offset value\nvmcall\nvalue: .quad 5\n',
  );
  const object = join(folder, 'real.o');
  const linked = join(folder, 'real.elf');
  execFileSync('as', ['--64', '-o', object, source]);
  execFileSync('ld', ['-Ttext=0x1000', '-o', linked, object]);
  const ours = loadProgram(source);
  const theirs = loadProgram(linked);
  const text = theirs.segments.find(({ address, bytes }) => address <= 0x1000 && 0x1000 < address + bytes.length)!;
  expect(theirs.entry).toBe(ours.entry);
  expect(theirs.symbols.get('value')).toBe(ours.symbols.get('value'));
  expect([...text.bytes.subarray(0x1000 - text.address, 0x1000 - text.address + ours.bytes.length)]).toEqual([
    ...ours.bytes,
  ]);
});
