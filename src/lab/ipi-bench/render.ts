/** IPI tables as CSV and as a chart. */
import { type BarGroup, barChart } from '../../trace/svg.ts';
import type { IpiFigure, IpiRow, IpiRowRole, IpiTable } from './table.ts';
import type { IpiWhatIf } from './what-if.ts';

const exits = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join('; ');

const COLUMNS: readonly (readonly [name: string, value: (row: IpiRow) => string | number | null | undefined])[] = [
  ['row', (row) => row.name],
  ['mode', (row) => row.scenario.mode],
  ['apic', (row) => row.scenario.apic],
  ['send', (row) => row.scenario.send],
  ['vcpus', (row) => row.scenario.vcpus],
  ['kvm', (row) => row.scenario.kvm],
  ['vendor', (row) => row.scenario.vendor],
  ['sender_exits', (row) => exits(row.counts.senderExits)],
  ['receiver_exits', (row) => exits(row.counts.receiverExits)],
  ['fastpath', (row) => row.counts.fastpath],
  ['ipis', (row) => row.counts.ipis],
  ['commands', (row) => row.counts.commands],
  ['sent', (row) => row.counts.sent],
  ['accepted', (row) => row.counts.accepted],
  ['kicks', (row) => row.counts.kicks],
  ['wakeups', (row) => row.counts.wakeups],
  ['coalesced', (row) => row.counts.coalesced],
  ['posted', (row) => row.counts.posted],
  ['eois', (row) => row.counts.eois],
  ['eoi_exits', (row) => row.counts.eoiExits],
  ...(['wall', 'latency'] as const).flatMap((which) => {
    const of = (name: string, value: (figure: IpiFigure) => string | number | null | undefined) =>
      [`${which}_${name}`, (row: IpiRow) => row[which] && value(row[which])] as const;
    return [
      of('cycles', ({ cycles }) => Math.round(cycles)),
      of('ns', ({ ns }) => ns.toFixed(1)),
      of('published_ns', ({ publishedNs }) => publishedNs?.toFixed(1)),
      of('residual_percent', ({ residual }) =>
        residual === null ? null : (residual * 100).toFixed(2).replace(/^-(0\.0+)$/, '$1'),
      ),
      of('role', ({ role }) => role),
      of('fits', ({ fits }) => fits),
    ];
  }),
];

/** RFC 4180: a field with a comma, a quote or a line feed is quoted. */
const field = (value: string | number | null | undefined): string => {
  const text = value === null || value === undefined ? '' : String(value);
  return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};

/** One line per row, with a heading. Empty: there is no such figure. */
export function ipiTableCsv({ rows }: Pick<IpiTable, 'rows'>): string {
  const lines = rows.map((row) => COLUMNS.map(([, value]) => field(value(row))).join(','));
  return `${[COLUMNS.map(([name]) => name).join(','), ...lines].join('\n')}\n`;
}

/** Series of a table's chart by the role of a row: what is published, then what is modelled. */
const SERIES = ['published', 'modelled, fixes a cost', 'modelled, predicted', 'modelled, unpublished'];
const SERIES_OF: Readonly<Record<IpiRowRole, number>> = { fitted: 1, predicted: 2, unpublished: 3 };

/** Values of more than this many nanoseconds are shown in microseconds. */
const MICROSECONDS = 10_000;

const isMulticast = ({ scenario }: IpiRow): boolean =>
  scenario.mode === 'broadcast' || scenario.mode === 'broadcast-lock';

/** What a row is about: a round's time, or a latency where that is all there is. */
const mainFigure = ({ wall, latency }: IpiRow): IpiFigure | null => wall ?? latency;

/** Rows as a chart; broadcasts only if there are any, since beside them nothing else is more than a line. */
function chart(
  { rows, vcpus }: Pick<IpiTable, 'rows' | 'vcpus'>,
  title: string,
  series: readonly string[],
  barsOf: (row: IpiRow) => readonly (readonly [series: number, ns: number, what: string])[],
): string {
  const broadcasts = rows.filter(isMulticast);
  const shown = broadcasts.length > 0 ? broadcasts : rows;
  const found = shown.map((row) => ({ name: row.name, bars: barsOf(row) })).filter(({ bars }) => bars.length > 0);
  const most = Math.max(...found.flatMap(({ bars }) => bars.map(([, ns]) => ns)));
  const [unit, ns, decimals] = most > MICROSECONDS ? (['µs', 1000, 1] as const) : (['ns', 1, 0] as const);
  const family = (name: string | undefined) => name?.split(' ')[0];
  const groups: BarGroup[] = found.map(({ name, bars }, i) => ({
    label: name,
    bars: bars.map(([index, value, what]) => ({ label: `${name}: ${what}`, value: value / ns, series: index })),
    apart: i > 0 && family(name) !== family(found[i - 1]?.name),
  }));
  const what = broadcasts.length > 0 ? `Time of one broadcast to ${vcpus - 1} of ${vcpus} vCPUs` : 'Time of one round';
  return barChart({ title: what + title, unit, series, groups, decimals });
}

/** The rows with IPIs to several CPUs (without such: all rows) as bars, published and modelled side by side. */
export function ipiTableSvg(table: Pick<IpiTable, 'rows' | 'vcpus'>): string {
  return chart(table, '', SERIES, (row) => {
    const figure = mainFigure(row);
    if (figure === null) return [];
    const modelled = [SERIES_OF[figure.role], figure.ns, 'modelled'] as const;
    return figure.publishedNs === null ? [modelled] : [[0, figure.publishedNs, 'published'], modelled];
  });
}

/** The same rows as they are and with the changes. */
export function ipiWhatIfSvg({ base, changed, changes }: Pick<IpiWhatIf, 'base' | 'changed' | 'changes'>): string {
  return chart(base, `, and if ${changes.join(', ')}`, ['as it is', 'then'], (row) =>
    [row, changed.rows.find(({ name }) => name === row.name)].flatMap((side, i) => {
      const figure = side && mainFigure(side);
      return figure == null ? [] : [[i, figure.ns, i === 0 ? 'as it is' : 'then'] as const];
    }),
  );
}
