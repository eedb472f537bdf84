/** `kvmscope replay`: recordings of a real KVM against the model. */
import { type ReplayDifference, type ReplayedFile, type ReplayMismatch, type ReplayReport, replay } from '../index.ts';
import { document } from '../trace/json.ts';
import { count, hex, plural } from '../trace/text.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface ReplayFlags {
  readonly kvm?: string;
  readonly json?: boolean;
}

/** Columns of the progress bar. */
const BAR = 30;
const CLEAR_LINE = '\r\u001b[K';

/** A bar on stderr that is redrawn in place; nothing where nobody looks. */
class Progress {
  readonly #output: Output;
  #shown = '';

  constructor(output: Output) {
    this.#output = output;
  }

  update(done: number): void {
    if (!this.#output.errIsTerminal) return;
    const full = Math.round(done * BAR);
    const text = `${'█'.repeat(full)}${'░'.repeat(BAR - full)} ${Math.floor(done * 100)} %`;
    if (text !== this.#shown) this.#output.err(`\r${text}`);
    this.#shown = text;
  }

  /** Makes room for other output. */
  clear(): void {
    if (this.#shown !== '') this.#output.err(CLEAR_LINE);
    this.#shown = '';
  }
}

/** A recorded or computed value; vectors and texts as JSON, 64-bit numbers in hexadecimal. */
function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'bigint') return hex(value);
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function* mismatchLines({ file, line, text, differences }: ReplayMismatch, output: Output): Generator<string> {
  const { paint } = output;
  yield `    ${paint('bad', `${file}:${line}`)}`;
  yield `      ${text}`;
  const width = Math.max(...differences.map(({ field }) => field.length));
  for (const { field, expected, actual } of differences) {
    yield `      ${field.padEnd(width)}  expected ${paint('good', show(expected))}  actual ${paint('bad', show(actual))}`;
  }
}

function* fileLines(file: ReplayedFile, output: Output): Generator<string> {
  const { paint } = output;
  const { mismatches } = file;
  const mark = mismatches.length === 0 ? paint('good', '✓') : paint('bad', '✗');
  const amount = `${count(mismatches.length)} ${mismatches.length === 1 ? 'mismatch' : 'mismatches'}`;
  const wrong = mismatches.length === 0 ? '' : `, ${paint('bad', amount)}`;
  yield `${mark} ${file.path}  ${paint('dim', plural(file.cases, 'case'))}${wrong}`;
  for (const mismatch of mismatches) yield* mismatchLines(mismatch, output);
}

function summary(report: ReplayReport, output: Output): string {
  const eras = [...new Set(report.files.map((file) => file.era))].join(', ');
  const verdict = report.pass ? 'all agree' : `${count(report.mismatches)} differ`;
  const text = `${plural(report.files.length, 'recording')}: ${plural(report.cases, 'case')}, ${verdict}`;
  return `${output.paint(report.pass ? 'good' : 'bad', text)} (KVM ${eras})`;
}

const differenceToJson = ({ field, expected, actual }: ReplayDifference): unknown => ({
  field,
  expected: expected ?? null,
  actual: actual ?? null,
});

export async function replayCommand(paths: readonly string[], flags: ReplayFlags, output: Output): Promise<number> {
  const { kvm, json } = flags;
  const progress = new Progress(output);
  const report = await replay(paths, {
    ...(kvm === undefined ? {} : { kvm }),
    onProgress: (done) => progress.update(done),
    onFile: (file) => {
      if (json) return;
      progress.clear();
      writeLines(output, fileLines(file, output));
    },
  }).finally(() => progress.clear());
  if (json) {
    const { cases, mismatches, seconds } = report;
    const files = report.files.map((file) => ({
      ...file,
      mismatches: file.mismatches.map((mismatch) => ({
        line: mismatch.line,
        case: JSON.parse(mismatch.text),
        differences: mismatch.differences.map(differenceToJson),
      })),
    }));
    output.out(document('replay', report.pass, { cases, mismatches, seconds, files }));
  } else {
    writeLines(output, ['', summary(report, output)]);
  }
  return report.pass ? EXIT_OK : EXIT_FAILED;
}
