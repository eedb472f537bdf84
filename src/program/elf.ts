/** Reader of ELF64 and ELF32 executables for x86 (System V ABI, chapters 4 and 5): loadable segments, entry, symbols. */
import { KvmscopeError } from '../errors.ts';
import type { Program } from './assembler.ts';

const EM_386 = 3;
const EM_X86_64 = 62;
const ET_EXEC = 2;
const ET_DYN = 3;
const PT_LOAD = 1;
const PT_INTERP = 3;
const SHT_SYMTAB = 2;
/** st_shndx of symbols that are not defined here, and of constants. */
const SHN_UNDEF = 0;
const SHN_ABS = 0xfff1;
/** st_info types: no type, data, function; others (sections, files) are no names of the program. */
const NAMED_TYPES: ReadonlySet<number> = new Set([0, 1, 2]);
/** Memory that all segments together may take. */
const MEMORY_LIMIT = 2 ** 31;

export const isElf = (bytes: Uint8Array): boolean =>
  bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;

/** Fields at their offsets in ELF32 and ELF64 headers. */
class ElfFile {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly is64: boolean;

  constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.name = name;
    this.is64 = bytes[4] === 2;
  }

  fail(message: string): never {
    throw new KvmscopeError('image', `${this.name}: ${message}`);
  }

  check(offset: number, length: number, what: string): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.bytes.length) return;
    this.fail(`${what} reaches beyond the end of the file (${this.bytes.length} bytes)`);
  }

  u8(offset: number): number {
    this.check(offset, 1, 'a header');
    return this.view.getUint8(offset);
  }

  u16(offset: number): number {
    this.check(offset, 2, 'a header');
    return this.view.getUint16(offset, true);
  }

  u32(offset: number): number {
    this.check(offset, 4, 'a header');
    return this.view.getUint32(offset, true);
  }

  u64(offset: number): bigint {
    this.check(offset, 8, 'a header');
    return this.view.getBigUint64(offset, true);
  }

  /** A field of the class's word size. */
  word(offset: number): number {
    if (!this.is64) return this.u32(offset);
    const value = this.u64(offset);
    if (value >> 52n !== 0n) this.fail(`address or offset 0x${value.toString(16)} is beyond 52 bits`);
    return Number(value);
  }
}

/** Loads an ELF executable by physical addresses (p_paddr). Throws KvmscopeError('image') for what is not one. */
export function loadElf(bytes: Uint8Array, name: string): Program {
  const file = new ElfFile(bytes, name);
  checkHeader(file);
  const { is64 } = file;
  const segments = loadSegments(file);
  const [first] = segments;
  const { symbols, labels } = readSymbols(file);
  return {
    origin: first.address,
    bytes: first.bytes,
    segments,
    entry: file.word(24),
    symbols,
    labels,
    lines: [],
    bits: is64 ? 64 : 32,
    warnings: [],
  };
}

function checkHeader(file: ElfFile): void {
  if (file.bytes.length < (file.is64 ? 64 : 52)) file.fail('the ELF header is cut off');
  const fileClass = file.u8(4);
  if (fileClass !== 1 && fileClass !== 2) file.fail(`ELF class ${fileClass} is neither 32-bit (1) nor 64-bit (2)`);
  if (file.u8(5) !== 1) file.fail('a big-endian ELF file; x86 is little-endian');
  const machine = file.u16(18);
  if (machine !== EM_X86_64 && machine !== EM_386) {
    file.fail(`ELF machine ${machine} is not x86 (${EM_386} or ${EM_X86_64})`);
  }
  const type = file.u16(16);
  if (type !== ET_EXEC && type !== ET_DYN) {
    const what = type === 1 ? 'a relocatable object: link it first' : `ELF type ${type}`;
    file.fail(`${what}; an executable is needed`);
  }
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly physical: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

function programHeaders(file: ElfFile): ProgramHeader[] {
  const { is64 } = file;
  const start = file.word(is64 ? 32 : 28);
  const size = file.u16(is64 ? 54 : 42);
  const count = file.u16(is64 ? 56 : 44);
  if (count > 0 && size < (is64 ? 56 : 32)) file.fail(`program headers of ${size} bytes are too small`);
  file.check(start, size * count, 'the program header table');
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * size;
    return {
      type: file.u32(at),
      offset: file.word(at + (is64 ? 8 : 4)),
      physical: file.word(at + (is64 ? 24 : 12)),
      fileSize: file.word(at + (is64 ? 32 : 16)),
      memorySize: file.word(at + (is64 ? 40 : 20)),
    };
  });
}

function loadSegments(file: ElfFile): { address: number; bytes: Uint8Array }[] {
  const headers = programHeaders(file);
  if (headers.some(({ type }) => type === PT_INTERP)) file.fail('a dynamically linked program; link it with -static');
  const loaded = headers.filter(({ type, memorySize }) => type === PT_LOAD && memorySize > 0);
  if (loaded.length === 0) file.fail('no loadable segment');
  let total = 0;
  const segments = loaded.map(({ offset, physical, fileSize, memorySize }) => {
    file.check(offset, fileSize, 'a segment');
    if (fileSize > memorySize)
      file.fail(`a segment has more bytes in the file (${fileSize}) than in memory (${memorySize})`);
    total += memorySize;
    if (total > MEMORY_LIMIT) file.fail(`segments take more than ${MEMORY_LIMIT} bytes of memory`);
    const bytes = new Uint8Array(memorySize);
    bytes.set(file.bytes.subarray(offset, offset + fileSize));
    return { address: physical, bytes };
  });
  segments.sort((a, b) => a.address - b.address);
  for (const [index, segment] of segments.entries()) {
    const next = segments[index + 1];
    if (next !== undefined && segment.address + segment.bytes.length > next.address) {
      file.fail(`segments overlap at 0x${next.address.toString(16)}`);
    }
  }
  return segments;
}

interface Symbols {
  readonly symbols: Map<string, bigint>;
  readonly labels: Set<string>;
}

function readSymbols(file: ElfFile): Symbols {
  const found: Symbols = { symbols: new Map(), labels: new Set() };
  const { is64 } = file;
  const start = file.word(is64 ? 40 : 32);
  const size = file.u16(is64 ? 58 : 46);
  const count = start === 0 ? 0 : file.u16(is64 ? 60 : 48);
  if (count > 0 && size < (is64 ? 64 : 40)) file.fail(`section headers of ${size} bytes are too small`);
  file.check(start, size * count, 'the section header table');
  for (let index = 0; index < count; index++) {
    const section = start + index * size;
    if (file.u32(section + 4) !== SHT_SYMTAB) continue;
    const link = file.u32(section + (is64 ? 40 : 24));
    if (link >= count) file.fail('the symbol table names a string table that does not exist');
    const strings = start + link * size;
    readTable(file, sectionRange(file, section), sectionRange(file, strings), found);
  }
  return found;
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

function sectionRange(file: ElfFile, header: number): Range {
  const offset = file.word(header + (file.is64 ? 24 : 16));
  const length = file.word(header + (file.is64 ? 32 : 20));
  file.check(offset, length, 'a section');
  return { offset, length };
}

function readTable(file: ElfFile, table: Range, strings: Range, { symbols, labels }: Symbols): void {
  const { is64 } = file;
  const entry = is64 ? 24 : 16;
  for (let at = table.offset; at + entry <= table.offset + table.length; at += entry) {
    const info = file.u8(at + (is64 ? 4 : 12));
    const section = file.u16(at + (is64 ? 6 : 14));
    if (section === SHN_UNDEF || !NAMED_TYPES.has(info & 0xf)) continue;
    const name = stringAt(file, strings, file.u32(at));
    if (name === '') continue;
    symbols.set(name, is64 ? file.u64(at + 8) : BigInt(file.u32(at + 4)));
    if (section !== SHN_ABS) labels.add(name);
  }
}

function stringAt(file: ElfFile, { offset, length }: Range, index: number): string {
  if (index >= length) file.fail('a symbol name lies outside of the string table');
  const start = offset + index;
  const end = file.bytes.indexOf(0, start);
  if (end < 0 || end >= offset + length) file.fail('the string table does not end with a zero');
  return new TextDecoder().decode(file.bytes.subarray(start, end));
}
