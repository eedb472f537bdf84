/** A report as tables: for the terminal, and as a section of the README. */
import { aims, number, usual } from './aims.ts';
import { type Sample, spread } from './measure.ts';
import type { Report, SideRow, StartResult } from './report.ts';

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

const NOTHING = '–';
const MIB = 1 << 20;

const plusMinus = (sample: Sample): string => `±${(spread(sample) * 100).toFixed(0)} %`;
const withSpread = (sample: Sample, value: number): string => `${number(value)} ${plusMinus(sample)}`;

/** A time in the unit that suits it. */
function duration(seconds: number): string {
  for (const [unit, size] of [
    ['s', 1],
    ['ms', 1e-3],
    ['µs', 1e-6],
  ] as const) {
    if (seconds >= size) return `${number(seconds / size)} ${unit}`;
  }
  return `${number(seconds * 1e9)} ns`;
}

const SHOW: Readonly<Record<StartResult['unit'], (value: number) => string>> = {
  seconds: duration,
  bytes: (value) => `${number(value / MIB)} MiB`,
  times: (value) => `${number(value)} ×`,
};

export function tables(report: Report): Table[] {
  const here = report.engines.filter(({ missing }) => missing === undefined);
  const ours = usual(report);
  const others = here.filter(({ name }) => name !== 'jit' && name !== 'interpreter');
  const compared = here.some(({ name }) => name === ours) ? others : [];
  const who = ours === 'jit' ? 'second tier' : 'interpreter';

  const side = (title: string, kind: SideRow['kind'], show: (value: number) => number): Table => ({
    title,
    columns: ['', ...here.map((engine) => engine.title), ...compared.map((engine) => `${who} to ${engine.title}`)],
    rows: report.side
      .filter((row) => row.kind === kind)
      .map(({ title, cells }) => [
        title,
        ...here.map(({ name }) => {
          const sample = cells[name]?.value;
          return sample ? withSpread(sample, show(sample.median)) : NOTHING;
        }),
        ...compared.map(({ name }) => {
          const ratio = cells[ours]?.to[name];
          return ratio ? `${number(ratio.median)} ×` : NOTHING;
        }),
      ]),
  });

  const all: Table[] = [
    side('Million guest instructions a second', 'compute', (value) => value / 1e6),
    side('Nanoseconds a round trip', 'trip', (value) => value * 1e9),
    {
      title: 'kvmscope by itself',
      columns: ['', 'each', 'a second', 'spread'],
      rows: report.alone.map(({ title, value }) => [
        title,
        duration(value.median),
        number(1 / value.median),
        plusMinus(value),
      ]),
    },
    {
      title: 'Fresh processes',
      columns: ['', 'CPU time, memory, or a ratio', 'spread'],
      rows: report.start.map(({ title, unit, value }) => [title, SHOW[unit](value.median), plusMinus(value)]),
    },
    {
      title: 'Aims',
      columns: ['', 'aim', 'measured', ''],
      rows: aims(report).flatMap(({ what, wanted, measured, met }) =>
        measured === undefined ? [] : [[what, wanted, measured, met ? 'met' : 'not met']],
      ),
    },
  ];
  return all.filter(({ rows }) => rows.length > 0);
}

/**
 * What is not in the tables, and why: engines that could not be asked, or not everything, and aims about them. And what is there, but is
 * not the same work.
 */
export function gaps(report: Report): string[] {
  const sentences: string[] = [];
  for (const { title, missing, lacks, does } of report.engines) {
    if (missing !== undefined) {
      sentences.push(`${title} is not in the tables (${missing}).`);
      continue;
    }
    for (const about of [lacks, does ?? {}]) {
      const reasons = new Map<string, string[]>();
      for (const row of report.side) {
        if (row.name in about) reasons.set(about[row.name], [...(reasons.get(about[row.name]) ?? []), row.title]);
      }
      for (const [reason, titles] of reasons) sentences.push(`${title} ${reason} (${titles.join('; ')}).`);
    }
  }
  const open = aims(report).filter(({ measured }) => measured === undefined);
  if (report.complete && open.length > 0) {
    const groups = new Set(open.map(({ what }) => what.split(',')[0]));
    sentences.push(`Aims not measured: ${[...groups].join('; ')}.`);
  }
  return sentences;
}

export function method({ machine, rounds }: Report): string {
  return (
    `${machine.processor}, ${machine.cores} cores, ${machine.platform}, Node.js ${machine.node}. ` +
    `Medians of ${rounds} rounds in which the engines take turns, CPU time; ± is the distance from the least to the greatest round, ` +
    `relative to the median. All execute the same source, v86 its 32-bit form, and end a lap with the same result.`
  );
}

/** Tables with aligned columns. */
export function text(report: Report): string {
  const plain = (cell: string): string => cell.replaceAll('`', '');
  const lines = [method(report), ''];
  for (const { title, columns, rows } of tables(report)) {
    const cells = [columns, ...rows].map((row) => row.map(plain));
    const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
    const line = (row: readonly string[]): string =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i] + 2))).join('');
    lines.push(title, ...cells.map((row) => line(row).trimEnd()), '');
  }
  return [...lines, ...gaps(report).map(plain)].join('\n');
}

/** What stands between the marks in the README. */
export function markdown(report: Report): string {
  const lines = [method(report), ''];
  for (const { title, columns, rows } of tables(report)) {
    const line = (row: readonly string[]): string => `| ${row.join(' | ')} |`;
    lines.push(
      line([title, ...columns.slice(1)]),
      line(columns.map((_, i) => (i === 0 ? '---' : '---:'))),
      ...rows.map(line),
      '',
    );
  }
  return [...lines, gaps(report).join(' ')].join('\n').trimEnd();
}

export const BEGIN = '<!-- npm run bench -- --readme writes what follows -->';
export const END = '<!-- to here -->';

/** A README with another section between the marks. Throws if it has no marks. */
export function splice(readme: string, section: string): string {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`README.md lacks the lines ${BEGIN} and ${END}`);
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${section}\n\n${readme.slice(end)}`;
}
