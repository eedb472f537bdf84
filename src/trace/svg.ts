/** A bar chart as SVG: a file of a few kilobytes without scripts, fonts or colours that a dark page would hide. */

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** Index of the series: its colour and its name in the legend. */
  readonly series: number;
}

export interface BarGroup {
  readonly label: string;
  readonly bars: readonly Bar[];
}

export interface BarChart {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly string[];
  readonly groups: readonly BarGroup[];
}

const WIDTH = 860;
const LEFT = 205;
const RIGHT = 90;
const BAR = 14;
const GAP = 12;
const TOP = 64;
const COLOURS = ['#8a8f98', '#2f6fb5', '#c9772b', '#3f8f5f'];

const entities = (text: string): string =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');

/** Horizontal bars in groups; values with one decimal behind them. */
export function barChart({ title, unit, series, groups }: BarChart): string {
  const most = Math.max(1, ...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const scale = (WIDTH - LEFT - RIGHT) / most;
  const parts: string[] = [];
  let y = TOP;
  for (const group of groups) {
    const height = group.bars.length * BAR;
    parts.push(`<text x="${LEFT - 10}" y="${y + height / 2 + 4}" text-anchor="end">${entities(group.label)}</text>`);
    for (const bar of group.bars) {
      const width = Math.max(1, bar.value * scale).toFixed(1);
      const fill = COLOURS[bar.series % COLOURS.length];
      parts.push(
        `<rect x="${LEFT}" y="${y + 1}" width="${width}" height="${BAR - 2}" fill="${fill}"><title>${entities(bar.label)}</title></rect>`,
        `<text x="${(LEFT + Number(width) + 6).toFixed(1)}" y="${y + BAR - 3}" class="n">${bar.value.toFixed(1)}</text>`,
      );
      y += BAR;
    }
    y += GAP;
  }
  const legend = series.map((name, i) => {
    const x = LEFT + i * 200;
    return `<rect x="${x}" y="36" width="12" height="12" fill="${COLOURS[i % COLOURS.length]}"/><text x="${x + 18}" y="46">${entities(name)}</text>`;
  });
  const height = y + 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${entities(title)}</title>`,
    '<style>text{font:12px sans-serif;fill:#222}.n{font-size:11px}.t{font-size:15px;font-weight:bold}</style>',
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="${LEFT}" y="22" class="t">${entities(title)}, ${entities(unit)}</text>`,
    ...legend,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}
