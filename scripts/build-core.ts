/**
 * Builds the CPU core: derives the decoder's tables from src/cpu/opcodes.ts, then compiles src/cpu/core with AssemblyScript
 * to build/core.wasm. Runs at `npm ci` (prepare) and, as npm wants it, when npx first links the checkout: so an output newer than
 * all inputs is left alone. `--debug` adds names and a text listing and always builds.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OPCODES, type OpcodeRow } from '../src/cpu/opcodes.ts';

/** Decode attributes: bit numbers of an entry's flags word. */
const FLAGS = [
  'MODRM',
  'BYTE',
  'MEM_ONLY',
  'REG_ONLY',
  'LOCK',
  'D64',
  'F64',
  'I64',
  'O64',
  'END',
  'E_OPCODE',
  'E_ACC',
  'G_ACC',
  'E_BYTE',
  'SIZE_Z',
  'SIZE_Y',
  'X87',
  'MMX',
  'SSE',
  'UNALIGNED',
  // An operand is in VEX.vvvv.
  'VVVV',
  // Nodes: the entry's handler is the number of a table to look further in.
  'PREFIX',
  'GROUP',
  'WHOLE',
] as const;
type Flag = (typeof FLAGS)[number];
const flag = (name: Flag): number => 1 << FLAGS.indexOf(name);
/** Immediate kinds, in the order of their numbers. */
const IMMEDIATES = ['', 'Ib', 'Ibs', 'Iz', 'Iiv', 'Iw', 'Iwb', 'P', 'O', '1', 'Jbs', 'Jz'];

interface Entry {
  handler: number;
  sub: number;
  immediate: number;
  flags: number;
}
const NONE: Entry = { handler: 0, sub: 0, immediate: 0, flags: 0 };

const handlers = ['UD', ...new Set(OPCODES.map((row) => row.handler).filter((h) => h !== 'UD'))];

function entryOf(row: OpcodeRow): Entry {
  const { operands } = row;
  let flags = row.group === undefined && row.modrm === undefined ? 0 : flag('MODRM');
  for (const attribute of row.attributes) {
    if (/^(u|f|ulp):/.test(attribute)) continue; // what comparisons need, not the decoder
    const name = attribute.toUpperCase() as Flag;
    if (!FLAGS.includes(name)) throw new Error(`opcode ${row.opcode}: unknown attribute ${attribute}`);
    flags |= flag(name);
  }
  let immediate = 0;
  for (const operand of operands) {
    const kind = operand[0] as string;
    if (/^[EMRGSCDBNVWUQ]|^P./.test(operand)) flags |= flag('MODRM');
    if (kind === 'M') flags |= flag('MEM_ONLY');
    if (kind === 'R' && !operand.includes('/')) flags |= flag('REG_ONLY');
    if (kind === 'Z') flags |= flag('E_OPCODE');
    if (kind === 'B') flags |= flag('VVVV');
    if (kind === 'A') flags |= flag(operands[0] === operand ? 'E_ACC' : 'G_ACC');
    const number = IMMEDIATES.indexOf(kind === 'O' ? 'O' : operand);
    if (number > 0) immediate = number;
    else if ('IJ1'.includes(kind)) throw new Error(`opcode ${row.opcode}: unknown immediate ${operand}`);
  }
  const first = operands.find((o) => !'I1'.includes(o[0] as string)) ?? '';
  if (/^[EGMXZAO]b/.test(first)) flags |= flag('BYTE');
  if (/^[^J]z$/.test(first)) flags |= flag('SIZE_Z');
  if (operands.some((o) => /^[EMGBR]y/.test(o))) flags |= flag('SIZE_Y');
  if (operands.some((o) => o === 'Eb') && !(flags & flag('BYTE'))) flags |= flag('E_BYTE');
  return { handler: handlers.indexOf(row.handler), sub: row.sub, immediate, flags };
}

// ---- tables: 256 entries for each opcode map; a byte with several rows leads to nodes by prefix, by ModRM.reg or by the ModRM byte ----

/** Memory operands by ModRM.reg, then register operands by the ModRM byte, C0 to FF. */
const CELLS = 8 + 64;
const COLUMNS = ['NP', '66', 'F3', 'F2'];

const prefixes: Entry[][] = [];
const groups: Entry[][] = [];
const wholes: Entry[][] = [];
const node = (table: Entry[][], entries: Entry[], kind: Flag, flags: number): Entry => {
  table.push(entries);
  return { handler: table.length - 1, sub: 0, immediate: 0, flags: flag(kind) | flags };
};

/** The cells of a row's column that it fills. */
function cellsOf(row: OpcodeRow): number[] {
  if (row.modrm !== undefined) return [8 + row.modrm - 0xc0];
  return Array.from({ length: CELLS }, (_, cell) => cell).filter((cell) => {
    const inMemory = cell < 8;
    const reg = inMemory ? cell : ((cell - 8) >> 3) & 7;
    return (row.group ?? reg) === reg && row.only !== (inMemory ? 'r' : 'm');
  });
}

/** One prefix column of one opcode byte. Rows for single ModRM bytes go before the others; `rest` takes the places that are left. */
function column(rows: readonly OpcodeRow[], rest: readonly OpcodeRow[] = []): Entry {
  const cells: (Entry | undefined)[] = new Array(CELLS).fill(undefined);
  for (const exact of [true, false]) {
    for (const row of rows.filter((row) => (row.modrm !== undefined) === exact)) {
      const entry = entryOf(row);
      let filled = false;
      for (const cell of cellsOf(row)) {
        if (cells[cell] && (exact || cell < 8)) throw new Error(`opcode ${row.opcode}: defined twice`);
        filled ||= !cells[cell];
        cells[cell] ??= entry;
      }
      if (!filled) throw new Error(`opcode ${row.opcode}: every place is taken`);
    }
  }
  for (const row of rest) {
    const entry = entryOf(row);
    for (const cell of cellsOf(row)) cells[cell] ??= entry;
  }
  const all = cells.map((entry) => entry ?? NONE);
  if (all.every((entry) => entry === all[0])) return all[0] as Entry;
  // The ModRM byte belongs to the instruction even where a group has no member.
  const known = all.map((entry) => ({ ...entry, flags: entry.flags | flag('MODRM') }));
  const group = [...all.slice(0, 8), ...Array.from({ length: 8 }, (_, reg) => all[8 + reg * 8] as Entry)];
  const isGroup = all.every((entry, cell) => cell < 8 || entry === group[8 + ((cell - 8) >> 3)]);
  if (!isGroup) return node(wholes, known, 'WHOLE', flag('MODRM'));
  return node(
    groups,
    group.map((entry) => ({ ...entry, flags: entry.flags | flag('MODRM') })),
    'GROUP',
    flag('MODRM'),
  );
}

function opcodeEntry(rows: readonly OpcodeRow[]): Entry {
  const left = rows.filter((row) => row.prefix === '');
  const columns = COLUMNS.map((prefix) => rows.filter((row) => row.prefix === prefix));
  if (columns.every((own) => own.length === 0)) return left.length > 0 ? column(left) : NONE;
  const entries = columns.map((own) => column(own, left));
  const modrm = entries.reduce((flags, entry) => flags | (entry.flags & flag('MODRM')), 0);
  return node(
    prefixes,
    entries.map((entry) => ({ ...entry, flags: entry.flags | modrm })),
    'PREFIX',
    0,
  );
}

function map(vex: boolean, name: OpcodeRow['map']): Entry[] {
  return Array.from({ length: 256 }, (_, byte) =>
    opcodeEntry(
      OPCODES.filter(
        (row) => row.vex === vex && row.map === name && (row.inOpcode ? (byte & ~7) === row.byte : row.byte === byte),
      ),
    ),
  );
}
const maps = {
  MAP_PRIMARY: map(false, ''),
  MAP_0F: map(false, '0F'),
  MAP_0F38: map(false, '0F38'),
  MAP_0F3A: map(false, '0F3A'),
  MAP_VEX_0F38: map(true, '0F38'),
  MAP_VEX_0F3A: map(true, '0F3A'),
};

const bytes = (entries: readonly Entry[]): string =>
  entries
    .flatMap((e) => [
      e.handler & 255,
      e.handler >> 8,
      e.sub,
      e.immediate,
      ...[0, 8, 16, 24].map((s) => (e.flags >>> s) & 255),
    ])
    .join(',');
const constants = (names: readonly string[], prefix: string, type: string, value: (i: number) => number): string =>
  names.map((name, i) => `export const ${prefix}_${name}: ${type} = ${value(i)};`).join('\n');
const data = (name: string, entries: readonly Entry[]): string =>
  `export const ${name}: usize = memory.data<u8>([${bytes(entries.length > 0 ? entries : [NONE])}]);`;

const GENERATED = '// Generated by scripts/build-core.ts from src/cpu/opcodes.ts. Do not edit.';
/** Handler numbers alone: the second tier reads them as TypeScript. */
const numbers = `${GENERATED}
${handlers.map((name, i) => `export const H_${name} = ${i};`).join('\n')}
`;
const source = `${GENERATED}
export * from './handlers.generated';
${constants(FLAGS, 'F', 'u32', (i) => 1 << i)}
${constants(
  IMMEDIATES.map((k) => (k === '' ? 'NONE' : k === '1' ? 'ONE' : k.toUpperCase())),
  'IMM',
  'i32',
  (i) => i,
)}
// Entries of 8 bytes: u16 handler or number of a node, u8 sub, u8 immediate kind, u32 flags.
${Object.entries(maps)
  .map(([name, entries]) => data(name, entries))
  .join('\n')}
/** 4 entries a node: no prefix, 66, F3, F2. */
${data('PREFIXES', prefixes.flat())}
/** 16 entries a node: memory operand /0-/7, register operand /0-/7. */
${data('GROUPS', groups.flat())}
/** 72 entries a node: memory operand /0-/7, ModRM bytes C0-FF. */
${data('WHOLES', wholes.flat())}
`;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
mkdirSync(join(root, 'build'), { recursive: true });
const tables = join(root, 'src/cpu/core/tables.generated.ts');
for (const [path, text] of [
  [tables, source],
  [join(root, 'src/cpu/core/handlers.generated.ts'), numbers],
] as const) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
}

const debug = process.argv.includes('--debug');
const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const core = readdirSync(join(root, 'src/cpu/core')).map((name) => `src/cpu/core/${name}`);
const tableFiles = readdirSync(join(root, 'src/cpu/opcodes')).map((name) => `src/cpu/opcodes/${name}`);
const inputs = [
  ...core,
  ...tableFiles,
  'src/cpu/opcodes.ts',
  'scripts/build-core.ts',
  'package.json',
  'package-lock.json',
];
const newest = Math.max(...inputs.map((path) => modified(join(root, path))));
if (!debug && modified(join(root, 'build/core.wasm')) > newest) process.exit(0);

// Loaded late: the compiler alone takes longer than finding out that it has nothing to do.
const { default: asc } = await import('assemblyscript/asc');
const { error } = await asc.main(
  [
    'src/cpu/core/index.ts',
    '--baseDir',
    root,
    '--outFile',
    'build/core.wasm',
    '--runtime',
    'stub',
    '--importMemory',
    '--importTable',
    '--noAssert',
    '--enable',
    'simd',
    // Vectors as arguments: none of these functions is called by the host.
    '--disableWarning',
    '112',
    '-O3',
    ...(debug ? ['--textFile', 'build/core.wat', '--debug'] : []),
  ],
  { stdout: process.stdout, stderr: process.stderr },
);
if (error) {
  console.error(`build-core: ${error.message}`);
  process.exit(1);
}
