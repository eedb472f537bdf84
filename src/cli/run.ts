/** `kvmscope run`: one program, each era that was asked for. */
import { writeFileSync } from 'node:fs';
import {
  type CheckResult,
  eraMatches,
  formatSchedule,
  KvmscopeError,
  type MachineOptions,
  type OpenedProgram,
  type OpenOptions,
  openProgram,
  type ProgramOutcome,
  parseIds,
  parseSize,
  type RunResult,
  resolveEra,
  runProgram,
} from '../base.ts';
import { ftraceLines } from '../trace/ftrace.ts';
import { document, runToJson } from '../trace/json.ts';
import { counterLines, endText, finalState, type NotebookOptions, notebookExits } from '../trace/notebook.ts';
import { sideBySide } from '../trace/side-by-side.ts';
import { flow, plural, words } from '../trace/text.ts';
import type { TraceFormat } from '../trace/trace-file.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';
import { locator, reportWarnings } from './source.ts';

/** Options of the command as commander gives them. */
export interface RunFlags {
  readonly vcpus?: number;
  readonly kvm?: readonly string[];
  readonly vendor?: 'intel' | 'amd';
  readonly engine?: MachineOptions['engine'];
  readonly seed?: number;
  readonly schedule?: string;
  readonly budget?: number;
  readonly memory?: string;
  readonly mode?: MachineOptions['mode'];
  readonly cpl?: '0' | '3';
  readonly apic?: MachineOptions['apic'];
  readonly aps?: MachineOptions['aps'];
  readonly ids?: string;
  readonly exitHypercalls?: number;
  readonly apicv?: MachineOptions['apicv'];
  readonly avic?: boolean;
  readonly trace?: boolean;
  readonly traceFile?: readonly string[];
  readonly exits: number;
  readonly json?: boolean;
}

const usage =
  (option: string) =>
  (message: string): never => {
    throw new KvmscopeError('usage', `${option}: ${message}`);
  };

const size = (text: string): number => parseSize(text) ?? usage('--memory')(`'${text}' is not a size such as 16M`);

/** Machine options of the flags that were given; what is absent comes from the program's header. */
function machineOptions(flags: RunFlags): OpenOptions {
  const { vcpus, vendor, engine, seed, schedule, budget, mode, apic, aps, exitHypercalls, apicv, avic } = flags;
  const apicIds = flags.ids === undefined ? undefined : parseIds(flags.ids, usage('--ids'));
  const given = {
    vcpus: vcpus ?? apicIds?.length,
    vendor,
    engine,
    seed,
    schedule,
    budget,
    memory: flags.memory === undefined ? undefined : size(flags.memory),
    mode,
    apic,
    aps,
    apicIds,
    exitHypercalls,
    apicv,
    avic,
    cpl: flags.cpl === undefined ? undefined : (Number(flags.cpl) as 0 | 3),
    kvm: flags.kvm?.[0],
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as OpenOptions;
}

export async function runCommand(file: string, flags: RunFlags, output: Output): Promise<number> {
  const eras = flags.kvm?.map((name) => resolveEra(name).name);
  const traceFiles = await traceFormats(flags.traceFile ?? []);
  const opened = openProgram(file, machineOptions(flags));
  reportWarnings(opened.program, output);
  // Two versions are shown side by side; one, or more than two, one after the other.
  const compared = eras?.length === 2 && !flags.json;
  const outcomes: ProgramOutcome[] = [];
  for (const era of eras ?? [undefined]) {
    const outcome = await runProgram(opened, era === undefined ? {} : { kvm: era });
    outcomes.push(outcome);
    for (const [path, format] of traceFiles) writeTraceFile(path, format, outcome.run, (eras?.length ?? 1) > 1);
    if (!flags.json && !compared) writeLines(output, runReport(opened, outcome, flags, output));
    if (!outcome.pass && !compared) output.err(`kvmscope: ${failure(opened, outcome)}\n`);
    outcome.vm.dispose();
  }
  if (compared) {
    writeLines(output, comparison(opened, outcomes as [ProgramOutcome, ProgramOutcome], flags, output));
    for (const outcome of outcomes) if (!outcome.pass) output.err(`kvmscope: ${failure(opened, outcome)}\n`);
  }
  const pass = outcomes.every((outcome) => outcome.pass);
  if (flags.json) {
    const locate = locator(opened.program);
    const runs = outcomes.map((outcome) => ({
      pass: outcome.pass,
      expectations: outcome.checks.map(checkToJson),
      ...(runToJson(outcome.run, locate) as Record<string, unknown>),
    }));
    output.out(document('run', pass, { program: opened.path, title: opened.header.title, runs }));
  }
  return pass ? EXIT_OK : EXIT_FAILED;
}

/** Paths with what their endings ask for. Loads the writers only if there are any. */
async function traceFormats(paths: readonly string[]): Promise<[path: string, format: TraceFormat][]> {
  if (paths.length === 0) return [];
  const { traceFormat } = await import('../trace/trace-file.ts');
  return paths.map((path) => [path, traceFormat(path)]);
}

/** Writes a run's trace. Of several versions each has a file of its own: `out.dat` becomes `out-5.6.dat`. */
function writeTraceFile(path: string, { ending, encode }: TraceFormat, run: RunResult, several: boolean): void {
  const name = several ? `${path.slice(0, -ending.length)}-${run.era}${ending}` : path;
  try {
    writeFileSync(name, encode(run));
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new KvmscopeError('usage', `--trace-file: '${name}' cannot be written (${why})`);
  }
}

/** Why an outcome is no success, in one line. */
function failure(opened: OpenedProgram, { run, checks }: ProgramOutcome): string {
  const where = `${opened.path} on KVM ${run.era}`;
  const failed = checks.filter((check) => !check.pass);
  // Line 0: nobody wrote this expectation, the run simply must end well.
  if (failed.some((check) => check.expectation.line === 0)) return `${where}: ${endText(run, locator(opened.program))}`;
  return `${where}: ${failed.length} of ${plural(checks.length, 'expectation')} ${failed.length === 1 ? 'does' : 'do'} not hold`;
}

/** An expectation in JSON output. */
export const checkToJson = (check: CheckResult): Record<string, unknown> => ({
  text: check.expectation.text,
  file: check.expectation.file,
  line: check.expectation.line,
  pass: check.pass,
  expected: check.expected,
  actual: check.actual,
});

const VENDOR_NAMES = { intel: 'Intel', amd: 'AMD' } as const;

/** Title and machine in two lines; `eras` are the versions it ran on. */
export function* runHeading(
  opened: OpenedProgram,
  outcome: ProgramOutcome,
  output: Output,
  eras: readonly string[] = [outcome.run.era],
): Generator<string> {
  const { run } = outcome;
  const { schedule } = outcome.vm.options;
  const machine = [
    `KVM ${eras.join(' and ')} on ${VENDOR_NAMES[run.vendor]}`,
    plural(run.vcpus.length, 'vCPU'),
    outcome.vm.options.mode,
    `seed ${run.seed}`,
    ...(schedule.length === 0 ? [] : [`schedule ${formatSchedule(schedule)}`]),
  ];
  const { title } = opened.header;
  const { width, paint } = output;
  const labelWidth = title ? opened.path.length + 2 : 0;
  yield* flow(opened.path, words(title), { width, paint, indent: 0, labelWidth: Math.min(labelWidth, width >> 1) });
  yield paint('dim', machine.join(', '));
  const range = opened.header.settings.kvm;
  const outside = range === undefined ? [] : eras.filter((era) => !eraMatches(range, resolveEra(era)));
  if (outside.length > 0) {
    const which = eras.length > 1 ? `, which ${outside.join(' and ')} ${outside.length > 1 ? 'are' : 'is'} not` : '';
    yield paint('bad', `note: the program's header asks for KVM ${range}${which}`);
  }
}

function* runReport(
  opened: OpenedProgram,
  outcome: ProgramOutcome,
  flags: RunFlags,
  output: Output,
): Generator<string> {
  const { run } = outcome;
  const options: NotebookOptions = { width: output.width, paint: output.paint, locate: locator(opened.program) };
  yield* runHeading(opened, outcome, output);
  yield '';
  if (flags.trace) {
    yield* ftraceLines(run);
    yield '';
  } else {
    yield* notebookExits(run, options, flags.exits);
  }
  yield* runSummary(outcome, options);
  yield '';
}

/** Both runs in two columns. */
function* comparison(
  opened: OpenedProgram,
  [left, right]: readonly [ProgramOutcome, ProgramOutcome],
  flags: RunFlags,
  output: Output,
): Generator<string> {
  const { width, paint } = output;
  const side = ({ run, checks }: ProgramOutcome) => ({
    run,
    checks: checks.map(({ expectation, pass }) => ({ text: expectation.text, pass })),
  });
  yield* runHeading(opened, left, output, [left.run.era, right.run.era]);
  yield '';
  const { exits, trace = false } = flags;
  yield* sideBySide(side(left), side(right), { width, paint, locate: locator(opened.program), exits, trace });
}

/** The end, the final state, the counters, what the guest said, and the expectations. */
export function* runSummary(outcome: ProgramOutcome, options: NotebookOptions): Generator<string> {
  const { run } = outcome;
  const { paint } = options;
  yield `${paint('label', 'end')}       ${endText(run, options.locate)}`;
  yield `${paint('label', 'steps')}     ${run.steps.toString()}`;
  yield* counterLines(run.counters, options);
  if (run.reports.length > 0) {
    const values = run.reports.map((report) => `${report.value}`).join(' ');
    yield `${paint('label', 'reports')}   ${values}`;
  }
  if (run.console !== '') yield `${paint('label', 'console')}   ${JSON.stringify(run.console)}`;
  for (const note of run.notes) yield `${paint('label', 'note')}      ${note}`;
  yield '';
  yield* finalState(run, options);
  yield '';
  yield* checkLines(outcome, options);
}

/** Each expectation with its mark; expected and actual below those that do not hold. */
export function* checkLines(outcome: ProgramOutcome, { paint }: NotebookOptions): Generator<string> {
  const { checks, pass } = outcome;
  const held = checks.filter((check) => check.pass).length;
  if (checks.length === 0) yield `no expectations${pass ? '' : paint('bad', ': the run did not end well')}`;
  else yield `${paint('title', 'expectations')}  ${held} of ${checks.length} hold`;
  for (const check of checks) {
    if (check.pass) {
      yield `  ${paint('good', '✓')} ${check.expectation.text}`;
      continue;
    }
    const { text, file, line } = check.expectation;
    yield `  ${paint('bad', '✗')} ${text}   ${paint('dim', line === 0 ? file : `${file}:${line}`)}`;
    yield `      expected ${paint('good', check.expected)}`;
    yield `      actual   ${paint('bad', check.actual)}`;
  }
}
