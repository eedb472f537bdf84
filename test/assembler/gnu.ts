/** GNU as, ld and objcopy as a second opinion on the assembler's bytes. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Why GNU as cannot be asked here, or undefined if it can. */
export function gnuMissing(): string | undefined {
  for (const tool of ['as', 'ld', 'objcopy']) {
    const { error, stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' });
    if (error !== undefined) return `${tool} of GNU binutils is not installed`;
    if (!stdout.includes('GNU')) return `${tool} is not that of GNU binutils`;
  }
  return undefined;
}

/** Prints loudly that a comparison does not take place; returns whether it does. */
export function gnuAvailable(suite: string): boolean {
  const reason = gnuMissing();
  if (reason !== undefined) console.warn(`\n*** SKIPPED: ${suite}: ${reason} (apt-get install binutils) ***\n`);
  return reason === undefined;
}

/** All sections in one piece from `origin` on, in the order in which the assembler lays them out. */
const linkerScript = (origin: number): string => `SECTIONS {
  . = ${origin};
  .text : { *(.text) }
  .rodata : { *(.rodata) }
  .data : { *(.data) }
  .bss : { *(.bss) }
  /DISCARD/ : { *(.note*) *(.comment) *(.eh_frame) }
}`;

export interface GnuImage {
  /** Bytes from address `origin` on. */
  readonly bytes: Uint8Array;
  readonly symbols: ReadonlyMap<string, bigint>;
  /** Warnings and errors of as and ld. */
  readonly messages: string;
}

export interface GnuOptions {
  /** Address of the first byte. */
  readonly origin: number;
  readonly includeDirs?: readonly string[];
}

/** Assembles and links `source` so that its first byte has address `origin`. Throws with GNU's messages if it fails. */
export function gnuAssemble(source: string, { origin, includeDirs = [] }: GnuOptions): GnuImage {
  const folder = mkdtempSync(join(tmpdir(), 'kvmscope-as-'));
  try {
    const path = (name: string): string => join(folder, name);
    // `.org` of GNU as counts from the start of the section: a section at address 0 makes it absolute.
    const isAbsolute = /^\s*\.org\b/m.test(source);
    const start = isAbsolute ? `.org ${origin}\n` : '';
    writeFileSync(path('source.S'), source);
    writeFileSync(path('whole.s'), `.intel_syntax noprefix\n${start}.include "source.S"\n`);
    writeFileSync(path('script.ld'), linkerScript(isAbsolute ? 0 : origin));
    const includes = [folder, ...includeDirs].flatMap((dir) => ['-I', dir]);
    const assembled = run('as', ['--64', ...includes, '-o', path('object.o'), path('whole.s')]);
    const linked = run('ld', [
      '-e',
      '0',
      '-z',
      'max-page-size=1',
      '-T',
      path('script.ld'),
      '-o',
      path('linked'),
      path('object.o'),
    ]);
    run('objcopy', ['-O', 'binary', '--set-section-flags', '.bss=alloc,load,contents', path('linked'), path('image')]);
    const symbols = new Map<string, bigint>();
    for (const line of execFileSync('nm', [path('linked')], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).split('\n')) {
      const [value, , name] = line.split(' ');
      if (name !== undefined && value !== '') symbols.set(name, BigInt(`0x${value}`));
    }
    const image = readFileSync(path('image'));
    return { bytes: isAbsolute ? image.subarray(origin) : image, symbols, messages: assembled + linked };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(tool: string, args: readonly string[]): string {
  const { status, stderr } = spawnSync(tool, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${tool} failed:\n${stderr}`);
  return stderr;
}
