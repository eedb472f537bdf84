/** Compiled C: the program of compiled.c, built with different options, ends with the same results in the core as on the processor. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadElf } from '../../src/program/elf.ts';
import { bare } from './bare.ts';

const SOURCE = fileURLToPath(new URL('compiled.c', import.meta.url));
const FOLDER = fileURLToPath(new URL('../../build/compiled/', import.meta.url));
const FREESTANDING =
  '-ffreestanding -fno-math-errno -nostdlib -static -no-pie -fno-stack-protector -fcf-protection=none'.split(' ');
/** Within the first 2 MiB, for both programs. */
const LINK = '-Wl,-Ttext-segment=0x100000,-z,noseparate-code,-z,max-page-size=4096,--build-id=none'.split(' ');
const RESULTS = 512 * 8;

const BUILDS: readonly (readonly [string, readonly string[]])[] = [
  ['-O0', ['-O0']],
  ['-O2 -msse4.2', ['-O2', '-msse4.2']],
  ['-O3 -ftree-vectorize', ['-O3', '-ftree-vectorize']],
  ['-O3 -ftree-vectorize -msse4.2', ['-O3', '-ftree-vectorize', '-msse4.2']],
  ['-Ofast -mssse3', ['-Ofast', '-mssse3', '-mno-recip']],
  ['-Os -march=x86-64-v2 -mbmi -mbmi2', ['-Os', '-march=x86-64-v2', '-mbmi', '-mbmi2']],
  ['-m32 -O2 -msse2 -mfpmath=sse', ['-m32', '-O2', '-msse2', '-mfpmath=sse']],
  ['-m32 -O3 -msse4.2 -mfpmath=sse', ['-m32', '-O3', '-ftree-vectorize', '-msse4.2', '-mfpmath=sse']],
];

const compiles = (options: readonly string[]): boolean =>
  spawnSync('gcc', [...options, ...FREESTANDING, '-x', 'c', '-o', '/dev/null', '-'], {
    // A compiler may take -m32 and yet lack the C library's headers for it.
    input: '#include <stdint.h>\n#ifdef __SSE4_2__\n#include <nmmintrin.h>\n#endif\nvoid _start(void) {}',
  }).status === 0;

/** Why a build cannot be made here, or undefined. */
function unavailable(options: readonly string[]): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'needs Linux on x86-64';
  if (!compiles([])) return 'needs gcc';
  return compiles(options) ? undefined : `needs a gcc that takes ${options.join(' ')}`;
}

function build(name: string, options: readonly string[]): string {
  const file = `${FOLDER}${name}`;
  execFileSync('gcc', [...options, ...FREESTANDING, ...LINK, '-o', file, SOURCE], { stdio: 'pipe' });
  return file;
}

describe('compiled C', () => {
  beforeAll(() => {
    mkdirSync(FOLDER, { recursive: true });
  });

  it.each(BUILDS)('gcc %s', async (name, options) => {
    const why = unavailable(options);
    if (why !== undefined) {
      console.warn(`compiled C, gcc ${name}: skipped: ${why}`);
      return;
    }
    const file = name.replaceAll(' ', '');
    const native = spawnSync(build(`${file}.native`, [...options, '-DNATIVE']));
    expect(native.status).toBe(0);
    expect(native.stdout.length).toBe(RESULTS);

    const program = loadElf(readFileSync(build(`${file}.guest`, options)), file);
    const long = !options.includes('-m32');
    const b = await bare(long ? 'long64' : 'prot32');
    // As an operating system starts a process: OSFXSR, OSXMMEXCPT, an x87 after FNINIT.
    b.put({ cr4: (long ? 0x20 : 0) | 0x600, fcw: 0x37f, ftw: 0, rip: program.entry, rsp: 0x3f000 });
    for (const { address, bytes } of program.segments) b.cpu.memory.set(bytes, address);
    expect(b.go(20_000_000)).toMatchObject({ reason: 'hlt', vector: undefined });
    const at = Number(program.symbols.get('results'));
    const view = new BigUint64Array(b.cpu.memory.slice(at, at + RESULTS).buffer);
    const expected = new BigUint64Array(Uint8Array.from(native.stdout).buffer);
    expect([...view].map((value) => value.toString(16))).toEqual([...expected].map((value) => value.toString(16)));
    expect(view.some((value) => value !== 0n)).toBe(true);
  });
});
