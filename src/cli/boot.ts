/** `kvmscope boot`: a Multiboot image on a PC board, its serial output as it comes, and its status as the exit code. */
import { basename } from 'node:path';
import { createVm, describeEnd, FEATURES, type Feature, KvmscopeError, parseSize, type RunResult } from '../base.ts';
import { readInput } from '../program/files.ts';
import { ftraceLines } from '../trace/ftrace.ts';
import { document } from '../trace/json.ts';
import { EXIT_FAILED } from './main.ts';
import type { Output } from './output.ts';

export interface BootFlags {
  readonly smp?: number;
  readonly append?: string;
  readonly initrd?: string;
  readonly mem?: string;
  readonly cpu?: string;
  readonly kvm?: string;
  readonly vendor?: 'intel' | 'amd';
  readonly seed?: number;
  readonly timeout?: number;
  readonly pit: boolean;
  readonly trace?: boolean;
  readonly json?: boolean;
}

/** The exit code after --timeout, as timeout(1) has it. */
const EXIT_TIMEOUT = 124;
/** Steps between looks at the clock. */
const SLICE = 20_000_000;
const TRACE_SLICE = 200_000;

function readFile(path: string, what: string): Uint8Array {
  try {
    return readInput(path);
  } catch (error) {
    if (error instanceof KvmscopeError) throw error;
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new KvmscopeError('not-found', `${what} '${path}' cannot be read (${why})`);
  }
}

function memorySize(text: string): number {
  const size = parseSize(text);
  if (size === undefined) throw new KvmscopeError('usage', `--mem: '${text}' is no size; write e.g. 128M`);
  return size;
}

/** QEMU writes `-` for `_`, and tsc-deadline without `timer`. */
function isNamed(feature: Feature, name: string): boolean {
  const wanted = name.replaceAll('-', '_');
  return feature.name === wanted || feature.name === `${wanted}_timer`;
}

/** Words of QEMU's -cpu that change nothing here. */
const PASSED_OVER = /^(host-phys-bits|phys-bits|migratable|enforce|check|pmu|kvm)(=.*)?$/;

/**
 * The features that `--cpu` hides: `-name` and `name=off`. `+name` and `name=on` must be there; a model name in front and what concerns the
 * host is passed over. The vendor is an option of its own.
 */
export function hiddenFeatures(text: string): string[] {
  const [, ...words] = /^[+-]/.test(text) ? ['', ...text.split(',')] : text.split(',');
  const hidden: string[] = [];
  for (const word of words) {
    if (PASSED_OVER.test(word) || word.startsWith('vendor=')) continue;
    const [, sign, name = '', value] = /^([+-]?)([\w.-]+?)(?:=(on|off))?$/.exec(word) ?? [];
    const off = sign === '-' || value === 'off';
    if (name === '' || (sign === '' && value === undefined)) {
      throw new KvmscopeError('usage', `--cpu: '${word}' is not understood; write +feature or -feature`);
    }
    const known = FEATURES.find((feature) => isNamed(feature, name));
    // What the processor does not have is hidden anyway.
    if (off && known !== undefined) hidden.push(known.name);
    if (!off && known === undefined) {
      throw new KvmscopeError(
        'usage',
        `--cpu: the processor has no feature '${name}'; kvmscope cpu lists those it has`,
      );
    }
  }
  return hidden;
}

export async function bootCommand(image: string, flags: BootFlags, output: Output): Promise<number> {
  const bytes = readFile(image, 'image');
  const initrd = flags.initrd === undefined ? undefined : readFile(flags.initrd, '--initrd');
  const timeout = flags.timeout ?? 0;
  if (!Number.isFinite(timeout) || timeout < 0)
    throw new KvmscopeError('usage', '--timeout must be a number of seconds');
  const lines = new Lines(output);
  const vm = await createVm({
    board: 'pc',
    vcpus: flags.smp ?? 1,
    pit: flags.pit,
    record: flags.trace === true,
    ...(flags.cpu === undefined ? {} : { hiddenFeatures: hiddenFeatures(flags.cpu) }),
    ...(flags.mem === undefined ? {} : { memory: memorySize(flags.mem) }),
    ...(flags.kvm === undefined ? {} : { kvm: flags.kvm }),
    ...(flags.vendor === undefined ? {} : { vendor: flags.vendor }),
    ...(flags.seed === undefined ? {} : { seed: flags.seed }),
    ...(flags.json ? {} : { onConsole: lines.print }),
  });
  vm.boot(bytes, {
    name: basename(image),
    ...(flags.append === undefined ? {} : { append: flags.append }),
    ...(initrd === undefined ? {} : { initrd }),
  });

  const end = timeout === 0 ? Number.POSITIVE_INFINITY : performance.now() + timeout * 1000;
  let steps = 0;
  let notes = 0;
  let run: RunResult;
  do {
    run = vm.run({ budget: flags.trace ? TRACE_SLICE : SLICE });
    steps += run.steps;
    lines.flush();
    if (!flags.trace) continue;
    for (const line of ftraceLines(run)) output.err(`${line}\n`);
    for (; notes < run.notes.length; notes++) output.err(`kvmscope: ${run.notes[notes]}\n`);
  } while (run.end.kind === 'budget' && performance.now() < end);

  const { code, message } = verdict(run, timeout);
  if (flags.json) {
    const fields = { image, status: code, end: run.end.kind, steps, console: run.console, notes: run.notes };
    output.out(document('boot', code === 0, fields));
  }
  if (message !== '') output.err(`kvmscope: ${image}: ${message}\n`);
  return code;
}

/** Passes text on line by line: each write of a character would be a system call. */
class Lines {
  readonly #output: Output;
  #line = '';

  constructor(output: Output) {
    this.#output = output;
  }

  readonly print = (text: string): void => {
    this.#line += text;
    if (text.endsWith('\n')) this.flush();
  };

  flush(): void {
    this.#output.out(this.#line.replaceAll('\r', ''));
    this.#line = '';
  }
}

/** The exit code of a run, and a line about an end that is not the image's own. */
function verdict(run: RunResult, timeout: number): { readonly code: number; readonly message: string } {
  switch (run.end.kind) {
    case 'exit':
      return { code: run.end.status & 0xff, message: '' };
    case 'power-off':
      return { code: 0, message: '' };
    case 'budget':
      return { code: EXIT_TIMEOUT, message: `no end after ${timeout} s; give it more with --timeout` };
    default:
      return { code: EXIT_FAILED, message: describeEnd(run.end) };
  }
}
