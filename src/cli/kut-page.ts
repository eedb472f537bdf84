/** The claims page: results of kvm-unit-tests as Markdown. */
import type { KutResult } from '../index.ts';
import type { KutRun } from './kut.ts';

/** Failed sub-results that are named. */
const NAMED_FAILURES = 5;

function row({ name, status, pass, fail, skip, reason, failures, cycles }: KutResult): string {
  const measured = Object.entries(cycles).map(([operation, value]) => `${operation} ${value}`);
  const remarks = [
    ...(reason === '' ? [] : [reason]),
    ...failures.slice(0, NAMED_FAILURES).map((line) => `fails: ${line}`),
    ...(measured.length > 0 ? [`cycles: ${measured.join(', ')}`] : []),
  ];
  const amounts = status === 'SKIP' && pass + fail === 0 ? ['', '', ''] : [pass, fail || '', skip || ''];
  return `| ${name} | ${status} | ${amounts.join(' | ')} | ${remarks.join('; ').replaceAll('|', '\\|')} |`;
}

function section({ arch, results }: KutRun): string[] {
  const of = (status: KutResult['status']): number => results.filter((result) => result.status === status).length;
  const sum = (key: 'pass' | 'fail' | 'skip'): number => results.reduce((total, result) => total + result[key], 0);
  return [
    `## ${arch}`,
    '',
    `${results.length} configurations: ${of('PASS')} pass, ${of('FAIL')} fail, ${of('SKIP')} are skipped. ` +
      `Sub-results: ${sum('pass')} pass, ${sum('fail')} fail, ${sum('skip')} are skipped.`,
    '',
    '| configuration | result | pass | fail | skip | remarks |',
    '|---|---|---|---|---|---|',
    ...results.map(row),
    '',
  ];
}

/** `timeout`: seconds that each configuration was given, undefined for its own limit. */
export function resultsPage(runs: readonly KutRun[], commit: string, date: Date, timeout: number | undefined): string {
  const limit = timeout === undefined ? "each configuration's own time limit" : `a time limit of ${timeout} s each`;
  return [
    '# kvm-unit-tests under kvmscope',
    '',
    `Written by \`kvmscope kut DIR… --results FILE\` on ${date.toISOString().slice(0, 10)}: ` +
      `KVM ${runs[0].era}, unmodified images of suite commit ${commit}, ${limit}.`,
    '',
    ...runs.flatMap(section),
  ].join('\n');
}
