/** The rooms of src/ and which way imports may go: cpu ← kvm ← machine ← lab, trace ← cli; program stands beside them. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = join(dirname(fileURLToPath(import.meta.url)), '..', 'src');

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
  /** Loaded when it is wanted. */
  readonly dynamic: boolean;
}

/** Import and re-export statements, and dynamic imports, of one source text. */
function importsOf(text: string): { specifier: string; typeOnly: boolean; dynamic: boolean }[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const found: { specifier: string; typeOnly: boolean; dynamic: boolean }[] = [];
  const statement = /^(import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?['"]([^'"]+)['"]/gm;
  for (const [, , type, specifier] of code.matchAll(statement))
    found.push({ specifier, typeOnly: type !== undefined, dynamic: false });
  for (const [, specifier] of code.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g))
    found.push({ specifier, typeOnly: false, dynamic: true });
  return found;
}

const slashes = (path: string): string => path.split(sep).join('/');

/** Every import between files of src/, paths relative to src/; the AssemblyScript core has its own rules and is left out. */
function internalImports(): { inside: Import[]; outside: Import[]; packages: Import[] } {
  const inside: Import[] = [];
  const outside: Import[] = [];
  const packages: Import[] = [];
  for (const entry of readdirSync(SRC, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ts')) continue;
    const path = join(entry.parentPath, entry.name);
    const from = slashes(relative(SRC, path));
    if (from.startsWith('cpu/core/')) continue;
    for (const { specifier, ...how } of importsOf(readFileSync(path, 'utf8'))) {
      if (!specifier.startsWith('.')) {
        packages.push({ from, to: specifier, ...how });
        continue;
      }
      const to = slashes(relative(SRC, resolve(dirname(path), specifier)));
      (to.startsWith('../') ? outside : inside).push({ from, to, ...how });
    }
  }
  return { inside, outside, packages };
}

const room = (path: string): string => (path.includes('/') ? path.slice(0, path.indexOf('/')) : path);
const isSpec = (path: string): boolean => /\.(spec|fixture)\.ts$/.test(path);
const { inside, outside, packages } = internalImports();
const text = ({ from, to }: Import): string => `${from} -> ${to}`;

/** What each room may import besides itself and errors.ts: rooms, or single files where only those are meant. */
const MAY: Readonly<Record<string, readonly string[]>> = {
  'errors.ts': [],
  cpu: [],
  unicorn: ['cpu'],
  program: ['cpu/registers.ts'],
  kvm: ['cpu'],
  machine: ['cpu', 'kvm', 'program'],
  lab: ['cpu', 'kvm', 'machine', 'program', 'trace'],
  trace: ['cpu/registers.ts', 'kvm/icr.ts', 'kvm/trace.ts', 'kvm/types.ts', 'machine/types.ts'],
  'base.ts': ['cpu', 'kvm', 'machine', 'program', 'lab', 'trace'],
  'index.ts': ['base.ts', 'cpu', 'kvm', 'machine', 'program', 'lab', 'trace'],
  'vitest.ts': ['index.ts', 'cpu', 'kvm', 'machine', 'program', 'lab', 'trace'],
  cli: ['index.ts', 'base.ts', 'trace', 'program/files.ts'],
};

describe('imports follow the rooms', () => {
  it('sees the imports it is about', () => {
    expect(inside.map(text)).toContain('kvm/types.ts -> cpu/cpu.ts');
    expect(
      importsOf("import type { A } from './a.ts';\nexport {\n  b,\n} from './b.ts';\nawait import('./c.ts');"),
    ).toEqual([
      { specifier: './a.ts', typeOnly: true, dynamic: false },
      { specifier: './b.ts', typeOnly: false, dynamic: false },
      { specifier: './c.ts', typeOnly: false, dynamic: true },
    ]);
  });

  it('knows every room', () => {
    expect([...new Set(inside.map(({ from }) => room(from)))].filter((name) => !(name in MAY))).toEqual([]);
  });

  it.each(Object.keys(MAY))('%s imports nothing above it', (name) => {
    const allowed = (to: string): boolean =>
      to === 'errors.ts' || room(to) === name || MAY[name].some((entry) => to === entry || room(to) === entry);
    const wrong = inside.filter(({ from, to }) => room(from) === name && !isSpec(from) && !allowed(to));
    expect(wrong.map(text)).toEqual([]);
  });

  it('src imports nothing outside src but the test support of specs', () => {
    expect(outside.filter(({ from }) => !isSpec(from)).map(text)).toEqual([]);
  });

  /** Files that are loaded with these, before anything is called. */
  function loadedWith(...files: string[]): string[] {
    const loaded = new Set<string>(files);
    for (const path of loaded)
      for (const { from, to, typeOnly, dynamic } of inside) if (from === path && !typeOnly && !dynamic) loaded.add(to);
    return [...loaded];
  }

  it('what runs programs loads nothing else: no fuzzing, micro-benchmark, recordings, tables, trace files, and no PC', () => {
    const loaded = loadedWith('cli/main.ts', 'cli/demo.ts', 'cli/run.ts', 'cli/test.ts');
    expect(loaded).toContain('machine/machine.ts');
    const others =
      /^lab\/(fuzz|ipi-bench|re|kut)|trace-file|^index|^cpu\/(opcodes|jit|engines)|^machine\/board\/(pc|acpi)/;
    expect(loaded.filter((path) => others.test(path))).toEqual([]);
  });

  it('the library loads with the first call what runs fuzz cases and interleavings, the PC, and the second tier', () => {
    const loaded = loadedWith('index.ts');
    expect(loaded).toContain('lab/fuzz/on-use.ts');
    const late =
      /^lab\/fuzz\/(block|generate|shrink|find|queue|race\/(?!campaign))|^machine\/board\/(pc|acpi)|^cpu\/jit/;
    expect(loaded.filter((path) => late.test(path))).toEqual([]);
    const needed = packages.filter(({ from, typeOnly, dynamic }) => loaded.includes(from) && !typeOnly && !dynamic);
    expect(needed.filter(({ to }) => !to.startsWith('node:')).map(text)).toEqual([]);
  });

  it('nothing below the command line reaches into it', () => {
    const wrong = inside.filter(({ from, to }) => room(to) === 'cli' && room(from) !== 'cli' && !isSpec(from));
    expect(wrong.map(text)).toEqual([]);
  });

  it('the rooms below the command line use no terminal library, and cpu and kvm no files', () => {
    const wrong = packages.filter(({ from, to }) => {
      if (isSpec(from)) return false;
      if (to === 'commander') return room(from) !== 'cli';
      if (room(from) === 'kvm' || room(from) === 'trace') return true;
      return to === 'vitest' && from !== 'vitest.ts';
    });
    expect(wrong.map(text)).toEqual([]);
  });
});
