/** `kvmscope test`: the expectations of guest programs in every era and on every vendor they name. */
import { describeChecks, KvmscopeError, type ProgramReport, type VerifyReport, verifyPrograms } from '../base.ts';
import { document } from '../trace/json.ts';
import { plural } from '../trace/text.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';
import { checkToJson } from './run.ts';

export interface TestFlags {
  readonly kvm?: string;
  readonly vendor?: 'intel' | 'amd';
  readonly engine?: 'core' | 'unicorn';
  readonly seed?: number;
  readonly json?: boolean;
}

const MARKS = { pass: '✓', fail: '✗', error: '✗', skip: '-' } as const;
const TONES = { pass: 'good', fail: 'bad', error: 'bad', skip: 'dim' } as const;

/** One program: a line when all is well; below it, each different failure with the eras that show it. */
function* programLines(report: ProgramReport, output: Output): Generator<string> {
  const { paint } = output;
  const { status, runs } = report;
  const checks = runs.reduce((sum, run) => sum + run.checks.length, 0);
  const amount =
    status === 'pass' || status === 'fail' ? `${plural(runs.length, 'run')}, ${plural(checks, 'check')}` : '';
  const facts = report.reason ?? amount;
  yield `${paint(TONES[status], MARKS[status])} ${report.path}  ${paint('dim', facts)}`.trimEnd();
  if (report.error) {
    for (const line of report.error.message.split('\n')) yield `    ${line}`;
  }
  const failures = new Map<string, string[]>();
  for (const run of runs) {
    if (run.pass) continue;
    const text = describeChecks(run.checks) || `the run did not end well: ${run.end}`;
    const list = failures.get(text) ?? [];
    list.push(`${run.era} ${run.vendor}`);
    failures.set(text, list);
  }
  for (const [text, where] of failures) {
    yield `    ${paint('bad', 'on')} ${where.join(', ')}`;
    for (const line of text.trimEnd().split('\n')) yield `      ${line}`;
  }
}

function summary(report: VerifyReport, output: Output): string {
  const counts = [
    `${report.passed} passed`,
    report.failed ? `${report.failed} failed` : '',
    report.errors ? `${report.errors} could not be opened` : '',
    report.skipped ? `${report.skipped} skipped` : '',
  ].filter((text) => text !== '');
  const text = `${plural(report.programs.length, 'program')}: ${counts.join(', ')}`;
  const amount = `${plural(report.runs, 'run')}, ${plural(report.checks, 'check')}`;
  return `${output.paint(report.pass ? 'good' : 'bad', text)} (${amount})`;
}

export async function testCommand(paths: readonly string[], flags: TestFlags, output: Output): Promise<number> {
  const { kvm, vendor, engine, seed, json } = flags;
  const report = await verifyPrograms(paths, {
    ...(kvm === undefined ? {} : { kvm }),
    ...(vendor === undefined ? {} : { vendor }),
    ...(engine === undefined ? {} : { engine }),
    ...(seed === undefined ? {} : { seed }),
    ...(json ? {} : { onProgram: (program: ProgramReport) => writeLines(output, programLines(program, output)) }),
  });
  if (report.programs.length === 0) throw new KvmscopeError('not-found', `no guest programs under ${paths.join(', ')}`);
  if (json) {
    const programs = report.programs.map((program) => ({
      path: program.path,
      title: program.title,
      status: program.status,
      ...(program.reason === undefined ? {} : { reason: program.reason }),
      error: program.error && { code: program.error.code, message: program.error.message },
      runs: program.runs.map((run) => ({ ...run, checks: run.checks.map(checkToJson) })),
    }));
    const { passed, failed, errors, skipped, runs, checks } = report;
    output.out(document('test', report.pass, { passed, failed, errors, skipped, runs, checks, programs }));
  } else {
    writeLines(output, ['', summary(report, output)]);
  }
  return report.pass ? EXIT_OK : EXIT_FAILED;
}
