/** From a file or its bytes to a Program: sources are assembled, ELF files are read, anything else is a flat binary. */
import { readFileSync, statSync } from 'node:fs';
import { dirname, extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KvmscopeError } from '../errors.ts';
import { type AssembleOptions, assemble, DEFAULT_ORIGIN, type IncludedFile, type Program } from './assembler.ts';
import { isElf, loadElf } from './elf.ts';
import { readInput } from './files.ts';

export interface LoadProgramOptions {
  /** Where a flat binary goes and a source without `.org` starts; default 0x1000. */
  readonly origin?: number;
  /** Code size of a source before its first `.code…`, and of a flat binary; default 64. */
  readonly bits?: 16 | 32 | 64;
  readonly defines?: AssembleOptions['defines'];
  readonly includeDirs?: readonly string[];
}

/** Shared include files of this project's guest programs. */
const SHARED_INCLUDES = fileURLToPath(new URL('../../guest/include', import.meta.url));

/** Whether a path names an assembler source: `.S`, `.s`, `.asm`. */
export const isSource = (path: string): boolean => /^\.(?:s|asm)$/i.test(extname(path));

/** Loads a program from a path, or from the bytes of an ELF file or flat binary. */
export function loadProgram(from: string | Uint8Array, options: LoadProgramOptions = {}): Program {
  if (typeof from !== 'string') return loadImage(from, 'program', options);
  const bytes = readBytes(from);
  if (!isSource(from)) return loadImage(bytes, from, options);
  const { includeDirs, origin, bits, defines } = options;
  return assemble(new TextDecoder().decode(bytes), {
    fileName: from,
    readInclude: includeReader(from, includeDirs),
    origin,
    bits,
    defines,
  });
}

/**
 * Finds includes of the source at `path`: beside the file that includes, beside the source, in `folders`, and among the shared
 * includes of guest/include.
 */
export function includeReader(
  path: string,
  folders: readonly string[] = [],
): (include: string, fromFile: string) => IncludedFile | undefined {
  return (include, fromFile) => {
    for (const folder of new Set([dirname(fromFile), dirname(path), ...folders, SHARED_INCLUDES])) {
      const candidate = join(folder, include);
      const text = textOf(candidate);
      if (text !== undefined) return { file: shortest(candidate), text };
    }
    return undefined;
  };
}

/** Text of a file, or undefined if there is none that can be read. */
function textOf(path: string): string | undefined {
  try {
    return statSync(path).isFile() ? readFileSync(path, 'utf8') : undefined;
  } catch {
    return undefined;
  }
}

/** A path from the current folder if that is below it: what a reader of messages wants to see. */
function shortest(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith('..') ? path : fromHere;
}

function readBytes(path: string): Uint8Array {
  try {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) throw new KvmscopeError('not-found', `no such file: ${path}`);
    if (stat.isDirectory()) throw new KvmscopeError('not-found', `${path} is a directory, not a program`);
    return readInput(path);
  } catch (error) {
    if (error instanceof KvmscopeError) throw error;
    throw new KvmscopeError('not-found', `cannot read ${path}: ${error instanceof Error ? error.message : error}`);
  }
}

function loadImage(
  bytes: Uint8Array,
  name: string,
  { origin = DEFAULT_ORIGIN, bits = 64 }: LoadProgramOptions,
): Program {
  if (isElf(bytes)) return loadElf(bytes, name);
  if (bytes.length === 0) throw new KvmscopeError('image', `${name}: the file is empty`);
  return {
    origin,
    bytes,
    segments: [{ address: origin, bytes }],
    entry: origin,
    symbols: new Map(),
    labels: new Set(),
    lines: [],
    bits,
    warnings: [],
  };
}
