/** The claims page: results of kvm-unit-tests as Markdown, with known failures explained. */
import type { KutResult } from '../index.ts';
import type { KutRun } from './kut.ts';

/** Why configurations fail, where that is known. */
const KNOWN: Readonly<Record<string, string>> = {};

export function resultsPage(results: readonly KutResult[], run: KutRun, commit: string, date: Date): string {
  const of = (status: KutResult['status']): number => results.filter((result) => result.status === status).length;
  const sum = (key: 'pass' | 'fail' | 'skip'): number => results.reduce((total, result) => total + result[key], 0);
  const rows = results.map((result) => {
    const { name, status, pass, fail, skip, reason, failures, cycles } = result;
    const measured = Object.entries(cycles).map(([operation, value]) => `${operation} ${value}`);
    const remarks = [
      ...(status === 'FAIL' && KNOWN[name] ? [KNOWN[name]] : []),
      ...(reason === '' ? [] : [reason]),
      ...failures.slice(0, 5).map((line) => `fails: ${line}`),
      ...(measured.length > 0 ? [`cycles: ${measured.join(', ')}`] : []),
    ];
    const amounts = status === 'SKIP' && pass + fail === 0 ? ['', '', ''] : [pass, fail || '', skip || ''];
    return `| ${name} | ${status} | ${amounts.join(' | ')} | ${remarks.join('; ').replaceAll('|', '\\|')} |`;
  });
  return [
    '# kvm-unit-tests under kvmscope',
    '',
    `Written by \`kvmscope kut DIR --results FILE\` on ${date.toISOString().slice(0, 10)}: KVM ${run.era}, ${run.arch} images of suite commit ${commit}.`,
    '',
    `${results.length} configurations: ${of('PASS')} pass, ${of('FAIL')} fail, ${of('SKIP')} are skipped. Sub-results: ${sum('pass')} pass, ${sum('fail')} fail, ${sum('skip')} are skipped.`,
    '',
    '| configuration | result | pass | fail | skip | remarks |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
