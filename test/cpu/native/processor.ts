/** The real processor: compiles `runner.c` once per process and runs batches of cases through it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Vendor } from '../../../src/cpu/cpu.ts';
import { decodeOutcomes, encodeInput, type Image, type NativeCase, type Outcome, outputBytes } from './layout.ts';

const SOURCE = fileURLToPath(new URL('runner.c', import.meta.url));
const FOLDER = fileURLToPath(new URL('../../../build/', import.meta.url));
const PROGRAM = `${FOLDER}native-runner`;

/** Why native runs are impossible here, or undefined if they are possible. */
export function unavailable(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return `needs Linux on x86-64, not ${process.platform} on ${process.arch}`;
  const gcc = spawnSync('gcc', ['--version']);
  if (gcc.error || gcc.status !== 0) return 'needs gcc';
  return undefined;
}

export function vendor(): Vendor {
  return /AuthenticAMD|HygonGenuine/.test(readFileSync('/proc/cpuinfo', 'latin1')) ? 'amd' : 'intel';
}

/** The processor's features by Linux's names. */
export function features(): ReadonlySet<string> {
  return new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))?.[1]?.trim().split(' '));
}

let width: 48 | 57 | undefined;
/** Bits of the linear addresses that the processor knows. */
export function linearWidth(): 48 | 57 {
  width ??= features().has('la57') ? 57 : 48;
  return width;
}

export function compile(): void {
  mkdirSync(FOLDER, { recursive: true });
  execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-fno-stack-protector', '-Wl,-z,now', '-o', PROGRAM, SOURCE]);
}

/** Executes the cases on the processor. Throws if the runner itself fails. */
export function execute(image: Image, cases: readonly NativeCase[]): Outcome[] {
  const result = spawnSync(PROGRAM, {
    input: encodeInput(image, cases),
    maxBuffer: outputBytes(cases) + 4096,
    timeout: 600_000,
  });
  if (result.status !== 0 || result.stdout.length !== outputBytes(cases)) {
    throw new Error(
      `the native runner ended with ${result.signal ?? result.status}: ${result.stderr} ${result.error ?? ''}`,
    );
  }
  return decodeOutcomes(result.stdout, cases);
}
