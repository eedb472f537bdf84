/** A bar chart as SVG: a file of a few kilobytes without scripts, fonts or colours that a dark page would hide. */
import { clip, count } from './text.ts';

export interface Bar {
  /** Says of one bar what it is, where a pointer rests on it. */
  readonly label: string;
  readonly value: number;
  /** Index of the series: its colour and its name in the legend. */
  readonly series: number;
}

export interface BarGroup {
  readonly label: string;
  readonly bars: readonly Bar[];
  /** The first group of a family: it stands a little apart from the one above. */
  readonly apart?: boolean;
}

export interface BarChart {
  readonly title: string;
  /** Of the values, written along the axis. */
  readonly unit: string;
  /** Names of the series; those without a bar are not in the legend. */
  readonly series: readonly string[];
  readonly groups: readonly BarGroup[];
  /** Decimals of the values behind the bars. */
  readonly decimals: number;
}

const WIDTH = 860;
const RIGHT = 90;
const BAR = 14;
const GAP = 10;
const TOP = 66;
const BOTTOM = 30;
/** Columns of a letter: those of a wide sans serif, so that no label is cut off. */
const LETTER = 7.1;
const TITLE_LETTER = 10.3;
const COLOURS = ['#8a8f98', '#2f6fb5', '#c9772b', '#3f8f5f'];

const entities = (text: string): string =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');

/** Distance of the grid's lines, 1, 2 or 5 times a power of ten: at most six up to `most`. */
function gridStep(most: number): number {
  const unit = 10 ** Math.floor(Math.log10(most / 6));
  return unit * ([1, 2, 5].find((factor) => most / (unit * factor) <= 6) ?? 10);
}

/** Horizontal bars in groups from zero on, with their values behind them. */
export function barChart({ title, unit, series, groups, decimals }: BarChart): string {
  const bars = groups.flatMap((group) => group.bars);
  const most = Math.max(...bars.map(({ value }) => value), 10 ** -decimals);
  const left = Math.ceil(Math.max(...groups.map(({ label }) => label.length), 0) * LETTER) + 20;
  const scale = (WIDTH - left - RIGHT) / most;
  const number = (value: number): string => {
    const [whole, fraction] = value.toFixed(decimals).split('.');
    return fraction === undefined ? count(Number(whole)) : `${count(Number(whole))}.${fraction}`;
  };
  const rows: string[] = [];
  let y = TOP;
  for (const [i, group] of groups.entries()) {
    if (i > 0) y += group.apart ? 2 * GAP : GAP;
    const middle = y + (group.bars.length * BAR) / 2 + 4;
    rows.push(`<text x="${left - 10}" y="${middle}" text-anchor="end">${entities(group.label)}</text>`);
    for (const bar of group.bars) {
      const width = Math.max(1, bar.value * scale).toFixed(1);
      const fill = COLOURS[bar.series % COLOURS.length];
      rows.push(
        `<rect x="${left}" y="${y + 1}" width="${width}" height="${BAR - 2}" fill="${fill}"><title>${entities(bar.label)}</title></rect>`,
        `<text x="${(left + Number(width) + 6).toFixed(1)}" y="${y + BAR - 3}" class="n">${number(bar.value)}</text>`,
      );
      y += BAR;
    }
  }
  const grid: string[] = [];
  const step = gridStep(most);
  for (let i = 0; i * step <= most * 1.0001; i += 1) {
    const x = (left + i * step * scale).toFixed(1);
    grid.push(
      `<path d="M${x} ${TOP - 6}V${y + 6}" stroke="${i === 0 ? '#8a8f98' : '#e3e5e9'}"/>`,
      `<text x="${x}" y="${y + 20}" text-anchor="middle" class="n">${count(Number((i * step).toPrecision(3)))}${i === 0 ? '' : ` ${unit}`}</text>`,
    );
  }
  const legend: string[] = [];
  let x = left;
  for (const [i, name] of series.entries()) {
    if (!bars.some((bar) => bar.series === i)) continue;
    legend.push(
      `<rect x="${x}" y="36" width="12" height="12" fill="${COLOURS[i % COLOURS.length]}"/><text x="${x + 18}" y="46">${entities(name)}</text>`,
    );
    x += Math.ceil(name.length * LETTER) + 34;
  }
  const height = y + BOTTOM;
  const heading = clip(title, Math.floor((WIDTH - left) / TITLE_LETTER));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${entities(title)}</title>`,
    '<style>text{font:12px sans-serif;fill:#222}.n{font-size:11px}.t{font-size:15px;font-weight:bold}</style>',
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="${left}" y="22" class="t">${entities(heading)}</text>`,
    ...legend,
    ...grid,
    ...rows,
    '</svg>',
    '',
  ].join('\n');
}
