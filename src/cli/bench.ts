/** `kvmscope bench ipi`: the published IPI tables again, with exact counts and modelled time. */
import { writeFileSync } from 'node:fs';
import {
  COSTS,
  type IpiFigure,
  type IpiRow,
  type IpiTable,
  type IpiTableOptions,
  type IpiWhatIf,
  ipiBoosts,
  ipiFit,
  ipiSpeed,
  ipiTable,
  ipiTableCsv,
  ipiTableSvg,
  ipiWhatIf,
  ipiWhatIfSvg,
  KvmscopeError,
  PUBLISHED_SAVING,
  type PvRange,
  pngRenderer,
} from '../index.ts';
import { document } from '../trace/json.ts';
import { count, flow, words } from '../trace/text.ts';
import { EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface BenchFlags {
  readonly vcpus?: number;
  readonly rounds?: number;
  readonly mode?: IpiTableOptions['modes'];
  readonly rows?: readonly string[];
  readonly kvm?: string;
  readonly vendor?: 'intel' | 'amd';
  readonly apicv?: 'off' | 'on' | 'ipiv';
  readonly avic?: boolean;
  readonly seed?: number;
  readonly whatIf?: readonly string[];
  readonly costs?: boolean;
  readonly speed?: boolean;
  readonly json?: boolean;
  readonly csv?: boolean;
  readonly chart?: string;
}

const NAME = 29;

/** '79 msr_write', several with a comma. */
const exits = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([name, n]) => `${n} ${name}`)
    .join(', ') || 'none';

const share = (fraction: number): string => `${(Math.abs(fraction) * 100).toFixed(1)} %`;
/** With its sign, but for zero. */
const percent = (fraction: number): string => {
  const text = share(fraction);
  return text === '0.0 %' ? text : `${fraction < 0 ? '-' : '+'}${text}`;
};
const nanoseconds = (ns: number): string => count(Math.round(ns));

function* countLines({ rows, rounds }: IpiTable, { paint }: Output): Generator<string> {
  yield paint('title', 'Counts of one round') + paint('dim', `  (${rounds} played, all alike)`);
  yield paint(
    'label',
    `${'row'.padEnd(NAME)}${'exits, sender'.padEnd(18)}${'exits, receivers'.padEnd(22)} sent  acc fast kick woke coal EOI`,
  );
  for (const { name, counts } of rows) {
    const { senderExits, receiverExits, sent, accepted, fastpath, kicks, wakeups, coalesced, eois } = counts;
    const numbers = [sent, accepted, fastpath, kicks, wakeups, coalesced, eois];
    const text = numbers.map((n, i) => String(n).padStart(i === 0 || i === numbers.length - 1 ? 4 : 5)).join('');
    yield `${name.padEnd(NAME)}${exits(senderExits).padEnd(18)}${exits(receiverExits).padEnd(22)}${text}`;
  }
}

function figureLine(name: string, figure: IpiFigure, { paint }: Output): string {
  const { cycles, ns, publishedNs, residual, role, fits } = figure;
  const numbers = [
    count(Math.round(cycles)).padStart(10),
    nanoseconds(ns).padStart(11),
    (publishedNs === null ? '-' : nanoseconds(publishedNs)).padStart(11),
    (residual === null ? '' : percent(residual)).padStart(10),
  ];
  const why = role === 'fitted' ? `fixes ${fits}` : role === 'predicted' ? 'predicted' : '';
  return `${name.padEnd(NAME + 4)}${numbers.join('')}   ${paint('dim', why)}`.trimEnd();
}

function* timeLines({ rows }: IpiTable, output: Output): Generator<string> {
  const { paint } = output;
  yield paint('title', 'Modelled time of one round') + paint('dim', '  (2.5 GHz)');
  yield paint(
    'label',
    `${'row'.padEnd(NAME + 4)}${'cycles'.padStart(10)}${'ns'.padStart(11)}${'published'.padStart(11)}${'off by'.padStart(10)}`,
  );
  for (const { name, wall, latency } of rows) {
    if (wall !== null) yield figureLine(name, wall, output);
    if (latency !== null)
      yield figureLine(wall === null ? name : `  ${name.split(' ').at(-1)}, to the handler`, latency, output);
  }
}

function* summaryLines(table: IpiTable, output: Output): Generator<string> {
  const { width, paint } = output;
  const label = { width, paint, indent: 0, labelWidth: 13 };
  for (const { apic, mode, modelled, published } of ipiBoosts(table)) {
    const seed = published === null ? '' : `; published ${share(published)}`;
    yield* flow('PV IPI', words(`${apic}, ${mode}: the driver takes ${share(modelled)} longer${seed}`), label);
  }
  const fast = fastpathSaving(table.rows);
  if (fast !== '') yield* flow('fastpath', words(fast), label);
  const { figures, fitted, predicted } = ipiFit(table);
  if (figures === 0) return;
  yield* flow(
    'figures',
    words(`${figures} are published: ${fitted} fix a cost, ${predicted} are predicted${offBy(table.rows)}`),
    label,
  );
  const sending = table.rows.filter(({ counts }) => counts.sent > 0);
  const more = ipiFit({ rows: sending });
  if (more.predicted < predicted && more.predicted > 0) {
    yield* flow('', words(`the ${more.predicted} of them that send an IPI are${offBy(sending).slice(1)}`), label);
  }
}

function offBy(rows: readonly IpiRow[]): string {
  const { meanResidual, worst } = ipiFit({ rows });
  if (worst === null) return '';
  return `, on average ${share(meanResidual)} off, at most ${percent(worst.residual)} (${worst.name})`;
}

/** Latencies of neighbouring rows without and with the fastpath. */
function fastpathSaving(rows: readonly IpiRow[]): string {
  const parts: string[] = [];
  for (const kind of ['running', 'halted']) {
    const [slow, fast] = rows.filter(({ name, latency }) => name.startsWith(kind) && latency !== null);
    if (slow === undefined || fast === undefined || slow.counts.fastpath > 0 || fast.counts.fastpath === 0) continue;
    const [before, after] = [slow, fast].map((row) => Math.round(row.latency!.cycles));
    parts.push(`${kind} target ${count(before)} → ${count(after)} cycles, ${count(before - after)} fewer`);
  }
  return parts.length === 0 ? '' : `${parts.join('; ')} (published: more than ${PUBLISHED_SAVING})`;
}

function* costLines(table: IpiTable, { paint }: Output): Generator<string> {
  yield paint('title', 'Costs') + paint('dim', '  (cycles)');
  for (const [name, { cycles, basis, source, what }] of Object.entries(COSTS)) {
    const used = table.costs[name as keyof typeof COSTS];
    const changed = used === cycles ? '' : ` (usually ${count(cycles)})`;
    yield `${name.padEnd(16)}${count(used).padStart(7)}  ${basis.padEnd(10)} ${what}${changed}`;
    yield paint('dim', `${' '.repeat(36)}${basis === 'fitted' ? `fixed by ${source}` : source}`);
  }
}

const rangeText = ({ from, to, most, saving }: PvRange): string => {
  const last = `at ${most}: ${share(saving)} ${saving < 0 ? 'longer' : 'saved'}`;
  if (from === null) return `never pays (${last})`;
  if (from === 1 && to === most) return `pays from 1 to ${most} targets (${last})`;
  return to === most
    ? `pays from ${from} targets on (${last})`
    : `stops paying beyond ${to} target${to === 1 ? '' : 's'} (${last})`;
};

/** Exits that are other ones: 'sender 5 msr_write → 1 msr_write'. */
function exitChanges(before: IpiRow, after: IpiRow | undefined): string {
  if (after === undefined) return 'this row is not there then';
  const sides = (['senderExits', 'receiverExits'] as const).map((side) => {
    const [a, b] = [before, after].map(({ counts }) => exits(counts[side]));
    return a === b ? '' : `${side === 'senderExits' ? 'sender' : 'receivers'} ${a} → ${b}`;
  });
  return sides.filter((text) => text !== '').join('; ');
}

function* whatIfLines(result: IpiWhatIf, output: Output): Generator<string> {
  const { paint, width } = output;
  yield paint('title', `What if ${result.changes.join(', ')}`);
  for (const note of result.notes) yield paint('dim', note);
  yield '';
  yield paint('label', `${'row'.padEnd(NAME)}${'ns'.padStart(10)}${'then'.padStart(10)}${'change'.padStart(10)}`);
  for (const before of result.base.rows) {
    const after = result.changed.rows.find(({ name }) => name === before.name);
    const [a, b] = [before, after].map((row) => row?.wall ?? row?.latency);
    if (a == null) continue;
    const numbers =
      b == null
        ? `${nanoseconds(a.ns).padStart(10)}${'-'.padStart(10)}`
        : `${nanoseconds(a.ns).padStart(10)}${nanoseconds(b.ns).padStart(10)}${percent(b.ns / a.ns - 1).padStart(10)}`;
    yield `${before.name.padEnd(NAME)}${numbers}`;
    const moved = exitChanges(before, after);
    if (moved !== '') yield* flow('', words(moved, 'dim'), { width, paint, indent: 4, labelWidth: 0 });
  }
  yield '';
  yield paint('title', 'Where PV IPI pays') + paint('dim', '  (it saves 3 % or more of a call to so many targets)');
  for (const { apic, against, base, changed } of result.crossovers) {
    yield `${apic.padEnd(10)}${'as it is'.padEnd(10)}against vanilla: ${rangeText(base)}`;
    yield `${''.padEnd(10)}${'then'.padEnd(10)}against ${against}: ${rangeText(changed)}`;
  }
}

const rowToJson = ({ name, scenario, counts, wall, latency }: IpiRow): Record<string, unknown> => ({
  ...{ name, scenario, counts, wall, latency },
});

const tableToJson = (table: IpiTable): Record<string, unknown> => ({
  vcpus: table.vcpus,
  rounds: table.rounds,
  costs: Object.entries(COSTS).map(([name, cost]) => ({
    name,
    ...cost,
    cycles: table.costs[name as keyof typeof COSTS],
  })),
  rows: table.rows.map(rowToJson),
  boosts: ipiBoosts(table),
  fit: ipiFit(table),
});

async function* speedLines(table: IpiTable, { paint }: Output): AsyncGenerator<string> {
  yield paint('title', 'Simulated rounds a second') + paint('dim', '  (CPU time of this process)');
  for (const { name, scenario } of table.rows) {
    const speed = await ipiSpeed(scenario);
    yield `${name.padEnd(NAME)}${count(Math.round(speed)).padStart(12)}`;
  }
}

/** What writes the chart to `path`, in the format that the ending of its name asks for. Known before anything is played. */
async function chartWriter(path: string | undefined): Promise<(svg: () => string) => void> {
  if (path === undefined) return () => {};
  if (!/\.(svg|png)$/.test(path)) {
    const message = `--chart: '${path}': the ending decides the format; it must be .svg or .png`;
    throw new KvmscopeError('usage', message);
  }
  const encode = path.endsWith('.png') ? await pngRenderer() : (svg: string) => svg;
  return (svg) => {
    const data = encode(svg());
    try {
      writeFileSync(path, data);
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
      throw new KvmscopeError('usage', `--chart: '${path}' cannot be written (${why})`);
    }
  };
}

export async function benchCommand(what: string, flags: BenchFlags, output: Output): Promise<number> {
  if (what !== 'ipi') throw new KvmscopeError('usage', `there is no benchmark "${what}"; there is: ipi`);
  const { vcpus, rounds, mode: modes, rows, kvm, vendor, apicv, avic, seed, whatIf, json, csv } = flags;
  const options: IpiTableOptions = Object.fromEntries(
    Object.entries({ vcpus, rounds, modes, rows, kvm, vendor, apicv, avic, seed }).filter(([, v]) => v !== undefined),
  );
  const writeChart = await chartWriter(flags.chart);
  if (whatIf !== undefined) {
    const result = await ipiWhatIf(whatIf, options);
    writeChart(() => ipiWhatIfSvg(result));
    if (csv) output.out(ipiTableCsv(result.changed));
    else if (json) {
      const { changes, notes, crossovers } = result;
      const [base, changed] = [result.base, result.changed].map(tableToJson);
      output.out(document('bench', true, { benchmark: what, changes, notes, base, changed, crossovers }));
    } else writeLines(output, whatIfLines(result, output));
    return EXIT_OK;
  }
  const table = await ipiTable(options);
  writeChart(() => ipiTableSvg(table));
  if (csv) output.out(ipiTableCsv(table));
  else if (json) output.out(document('bench', true, { benchmark: what, ...tableToJson(table) }));
  else {
    writeLines(output, [
      ...countLines(table, output),
      '',
      ...timeLines(table, output),
      '',
      ...summaryLines(table, output),
    ]);
    if (flags.costs) writeLines(output, ['', ...costLines(table, output)]);
    if (flags.speed) {
      output.out('\n');
      for await (const line of speedLines(table, output)) writeLines(output, [line]);
    }
  }
  return EXIT_OK;
}
