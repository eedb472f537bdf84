/** IPI tables as CSV and as a chart. */
import { type BarGroup, barChart } from '../../trace/svg.ts';
import type { IpiFigure, IpiRow, IpiTable } from './table.ts';

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

const SERIES = ['published', 'modelled, fixes a cost', 'modelled, predicted'];

/** The rows with IPIs to several CPUs as bars, published and modelled side by side. */
export function ipiTableSvg({ rows, vcpus }: Pick<IpiTable, 'rows' | 'vcpus'>): string {
  const groups: BarGroup[] = [];
  for (const { name, scenario, wall } of rows) {
    if (wall === null || (scenario.mode !== 'broadcast' && scenario.mode !== 'broadcast-lock')) continue;
    const bars = [{ label: `${name}: modelled`, value: wall.ns / 1000, series: wall.role === 'fitted' ? 1 : 2 }];
    if (wall.publishedNs !== null)
      bars.unshift({ label: `${name}: published`, value: wall.publishedNs / 1000, series: 0 });
    groups.push({ label: name, bars });
  }
  return barChart({ title: `One broadcast to ${vcpus - 1} of ${vcpus} vCPUs`, unit: 'µs', series: SERIES, groups });
}
