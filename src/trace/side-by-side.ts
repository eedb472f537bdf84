/**
 * The same program in two versions of KVM, side by side: exits, trace lines, results and counters in two columns, rows that differ
 * marked with ≠. What happened in one version only has nothing beside it. Where the terminal is too narrow for two columns, the
 * two versions of a row stand one below the other.
 *
 * Rows are compared by what they say. Trace lines are the exception: two kernels word the same event differently, so their events
 * are compared in the words of the newer kernel.
 */
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { ExitRecord, VcpuCounters } from '../kvm/types.ts';
import type { RunResult, VcpuView } from '../machine/types.ts';
import { exitReasonName, kernelVersion } from './exit-names.ts';
import { exitMeaning, hypercallResult, registerOf } from './explain.ts';
import { formatEvent } from './ftrace.ts';
import { endText, flagsText, type NotebookOptions, placeText, READING_ORDER, ZERO_FIELDS } from './notebook.ts';
import { count, hex, plural, vectorSet } from './text.ts';

/** Two columns need this many columns of the terminal. */
export const SIDE_BY_SIDE_WIDTH = 100;

/** One of the two runs, with what only its caller knows. */
export interface Side {
  readonly run: RunResult;
  /** Expectations that apply in this version: their text and whether they hold. */
  readonly checks: readonly { readonly text: string; readonly pass: boolean }[];
}

/** A row of the report; undefined where a version has nothing to show. */
export interface Row {
  readonly label: string;
  readonly left: string | undefined;
  readonly right: string | undefined;
  readonly differs: boolean;
}

export interface Section {
  readonly title: string;
  readonly rows: readonly Row[];
}

const row = (label: string, left: string | undefined, right: string | undefined, differs = left !== right): Row => ({
  label,
  left,
  right,
  differs,
});

/** Beyond this many pairs two lists are put side by side by position. */
const ALIGN_LIMIT = 4_000_000;

/**
 * Pairs up two lists of keys in order, equal keys beside each other (longest common subsequence): index in `a` and in `b`,
 * -1 where there is no partner.
 */
export function align(a: readonly string[], b: readonly string[]): [number, number][] {
  if (a.length * b.length > ALIGN_LIMIT) {
    return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => [
      i < a.length ? i : -1,
      i < b.length ? i : -1,
    ]);
  }
  const columns = b.length + 1;
  /** Length of the longest common subsequence of a[i…] and b[j…]. */
  const common = new Uint32Array((a.length + 1) * columns);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const skip = Math.max(common[(i + 1) * columns + j], common[i * columns + j + 1]);
      common[i * columns + j] = a[i] === b[j] ? common[(i + 1) * columns + j + 1] + 1 : skip;
    }
  }
  const pairs: [number, number][] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) pairs.push([i++, j++]);
    else if (j >= b.length || (i < a.length && common[(i + 1) * columns + j] >= common[i * columns + j + 1])) {
      pairs.push([i++, -1]);
    } else pairs.push([-1, j++]);
  }
  return pairs;
}

/** As `align`, and what stands between two equal keys is paired up once more, by kind: the same thing with another content. */
function alignByKind(
  a: readonly { readonly key: string; readonly kind: string }[],
  b: readonly { readonly key: string; readonly kind: string }[],
): [number, number][] {
  const keys = (list: readonly { readonly key: string }[]): string[] => list.map(({ key }) => key);
  const pairs: [number, number][] = [];
  let left: number[] = [];
  let right: number[] = [];
  const flush = (): void => {
    const kinds = [left.map((i) => a[i].kind), right.map((j) => b[j].kind)] as const;
    pairs.push(...align(...kinds).map(([i, j]): [number, number] => [left[i] ?? -1, right[j] ?? -1]));
    left = [];
    right = [];
  };
  for (const [i, j] of align(keys(a), keys(b))) {
    if (i >= 0 && j >= 0) {
      flush();
      pairs.push([i, j]);
    } else if (i >= 0) left.push(i);
    else right.push(j);
  }
  flush();
  return pairs;
}

// ---- what is shown ----

/** Trace lines of both sides, aligned by event. */
function eventRows(a: readonly KvmTraceEvent[], b: readonly KvmTraceEvent[], left: RunResult, right: RunResult): Row[] {
  const newer = kernelVersion(left.era) > kernelVersion(right.era) ? left : right;
  const same = (event: KvmTraceEvent) => ({
    key: `${event.vcpu} ${event.event} ${formatEvent(event, newer)}`,
    kind: `${event.vcpu} ${event.event}`,
  });
  const show = (event: KvmTraceEvent | undefined, run: RunResult): string | undefined =>
    event && `${event.event}: ${formatEvent(event, run).replace(ZERO_FIELDS, ' …')}`.trimEnd();
  return alignByKind(a.map(same), b.map(same)).map(([i, j]) => {
    const differs = i < 0 || j < 0 || same(a[i]).key !== same(b[j]).key;
    return row('', show(a[i], left), show(b[j], right), differs);
  });
}

function fastpathText(record: ExitRecord | undefined): string | undefined {
  if (record?.fastpath === undefined) return undefined;
  const { taken, reason, completion } = record.fastpath;
  return taken ? `taken${completion === undefined ? '' : `, ${completion}`}` : `not taken: ${reason}`;
}

/** The registers an exit changed, as they came back; 'never' if the host crashed instead. */
function backText(record: ExitRecord | undefined, run: RunResult): string | undefined {
  if (record === undefined) return undefined;
  if (run.end.kind === 'host-bug' && record === run.exits.at(-1)) return 'never';
  const call = record.events.some((event) => event.event === 'kvm_hypercall');
  const changed = READING_ORDER.flatMap((name) => {
    const value = registerOf(record.after, name);
    if (value === registerOf(record.before, name)) return [];
    const result = call && name === 'rax' ? ` (${hypercallResult(value, record.bits === 64)})` : '';
    return [`${name} ${name === 'rflags' ? flagsText(value) : hex(value)}${result}`];
  });
  return changed.length === 0 ? 'every register unchanged' : changed.join('  ');
}

/** Exits by vCPU, kind and place. */
function exitSections(left: RunResult, right: RunResult, limit: number, { locate }: NotebookOptions): Section[] {
  const a = left.exits.slice(0, limit);
  const b = right.exits.slice(0, limit);
  const key = ({ vcpu, name, rip }: ExitRecord) => ({ key: `${vcpu} ${name} ${rip}`, kind: `${vcpu} ${name}` });
  const sections = alignByKind(a.map(key), b.map(key)).map(([i, j]): Section => {
    const [one, two] = [a[i], b[j]] as [ExitRecord | undefined, ExitRecord | undefined];
    const record = (one ?? two) as ExitRecord;
    const run = one === undefined ? right : left;
    const place = placeText(locate?.(record.linear)) || `at ${hex(record.rip)}`;
    const reason = exitReasonName(run.vendor, record.reason, kernelVersion(run.era));
    const ordinals = [i, j].map((index) => (index < 0 ? '–' : `#${index + 1}`));
    const ordinal = ordinals[0] === ordinals[1] ? ordinals[0] : ordinals.join('/');
    const rows = eventRows(one?.events ?? [], two?.events ?? [], left, right);
    const fastpath = [fastpathText(one), fastpathText(two)];
    if (exitMeaning(record).label === 'sent' && fastpath.some((text) => text !== undefined)) {
      rows.push(row('fastpath', ...(fastpath as [string | undefined, string | undefined])));
    }
    rows.push(row('back', backText(one, left), backText(two, right)));
    return { title: `${ordinal}  vCPU ${record.vcpu}  ${reason}  ${place}`, rows };
  });
  const more = [left, right].map(({ exits }) => Math.max(0, exits.length - limit));
  if (more[0] + more[1] > 0) {
    const [one, two] = more.map((n) => plural(n, 'more exit')) as [string, string];
    sections.push({ title: '…', rows: [row('', one, two)] });
  }
  return sections;
}

function pendingText(vcpu: VcpuView): string {
  const { nmiPending, smiPending, initPending, sipiPending } = vcpu;
  const texts = [
    nmiPending > 0 ? `NMI × ${nmiPending}` : '',
    smiPending ? 'SMI' : '',
    initPending ? 'INIT' : '',
    sipiPending === null ? '' : `SIPI ${hex(sipiPending)}`,
  ];
  return texts.filter((text) => text !== '').join(', ') || 'nothing';
}

/** What a vCPU ended with, as label and text. */
function vcpuFacts(vcpu: VcpuView): [string, string][] {
  const { lapic } = vcpu;
  const facts: [string, string][] = [
    ['state', vcpu.mpState],
    ['APIC', lapic.mode === 'disabled' ? 'disabled' : `${lapic.mode}${lapic.enabled ? '' : ' (software-disabled)'}`],
    ['IRR', vectorSet(lapic.irr)],
    ['ISR', vectorSet(lapic.isr)],
    ['TMR', vectorSet(lapic.tmr)],
    ['ICR', hex(lapic.icr)],
    ['TPR', hex(lapic.tpr)],
    ['LDR', hex(lapic.ldr)],
    ['pending', pendingText(vcpu)],
  ];
  const registers = [...READING_ORDER, 'cr2'].map((name): [string, string] => {
    const value = vcpu.registers[name] ?? 0n;
    return [name, name === 'rflags' ? flagsText(value) : hex(value)];
  });
  return [...facts, ...registers];
}

/** Facts that say nothing unless they differ. */
const EMPTY: ReadonlySet<string> = new Set(['{}', '0x0', 'nothing']);
/** Facts of vCPU 0 that are always shown: what most programs end with. */
const RESULTS: ReadonlySet<string> = new Set(['rax', 'rip']);

/** Final state of each vCPU: what differs, and what is worth showing anyway. vCPUs that ended alike are left out. */
function vcpuSections(left: RunResult, right: RunResult): Section[] {
  return left.vcpus.flatMap((one, index) => {
    const other = vcpuFacts(right.vcpus[index]);
    const rows = vcpuFacts(one).map(([label, text], i) => row(label, text, other[i][1]));
    const changed = rows.some((r) => r.differs);
    const isFact = (label: string): boolean => /^[A-Z]|^state$/.test(label);
    const shown = rows.filter(
      (r) =>
        r.differs ||
        (isFact(r.label) && !EMPTY.has(r.left as string) && (changed || index === 0)) ||
        (index === 0 && RESULTS.has(r.label)),
    );
    return shown.length === 0 ? [] : [{ title: `vCPU ${index} at the end`, rows: shown }];
  });
}

/** Counters of which one version has some. */
function counterRows(left: Readonly<VcpuCounters>, right: Readonly<VcpuCounters>): Row[] {
  const names = new Set([...Object.keys(left.byReason), ...Object.keys(right.byReason)]);
  const kinds = [...names].sort().map((name) => {
    const [one, two] = [left.byReason[name] ?? 0, right.byReason[name] ?? 0];
    return row(`exits.${name}`, count(one), count(two));
  });
  const statistics = Object.entries(left).flatMap(([name, one]) => {
    if (name === 'byReason') return [];
    const two = (right as unknown as Record<string, number>)[name] ?? 0;
    return one === 0 && two === 0 ? [] : [row(name, count(one as number), count(two))];
  });
  return [...kinds, ...statistics];
}

function outcomeRows(left: Side, right: Side, { locate }: NotebookOptions): Row[] {
  const [a, b] = [left.run, right.run];
  const rows = [row('end', endText(a, locate), endText(b, locate)), row('steps', count(a.steps), count(b.steps))];
  const reports = [a, b].map((run) => run.reports.map((report) => `${report.value}`).join(' '));
  if (reports.some((text) => text !== '')) rows.push(row('reports', ...(reports as [string, string])));
  if (a.console !== '' || b.console !== '') {
    rows.push(row('console', JSON.stringify(a.console), JSON.stringify(b.console)));
  }
  return rows;
}

const checkText = (check: Side['checks'][number] | undefined): string | undefined =>
  check && `${check.pass ? '✓' : '✗'} ${check.text}`;

/** Expectations of both versions; one that applies in one version only has nothing beside it. */
function checkRows(left: Side, right: Side): Row[] {
  const keys = (side: Side) => side.checks.map(({ text }) => ({ key: text, kind: text.split(/[=<>!]/)[0] as string }));
  return alignByKind(keys(left), keys(right)).map(([i, j]) =>
    row('', checkText(left.checks[i]), checkText(right.checks[j])),
  );
}

export interface SideBySideOptions extends NotebookOptions {
  /** How many exits to show. */
  readonly exits: number;
  /** Show all trace lines instead of the exits. */
  readonly trace?: boolean;
}

/** Everything there is to compare, in the order in which it is shown. */
export function compareRuns(left: Side, right: Side, options: SideBySideOptions): readonly Section[] {
  const [a, b] = [left.run, right.run];
  const happened = options.trace
    ? [{ title: 'trace', rows: eventRows(a.trace, b.trace, a, b) }]
    : exitSections(a, b, options.exits, options);
  const sections = [
    ...happened,
    ...vcpuSections(a, b),
    { title: 'outcome', rows: outcomeRows(left, right, options) },
    { title: 'counters', rows: counterRows(a.counters, b.counters) },
    { title: 'expectations', rows: checkRows(left, right) },
  ];
  return sections.filter(({ rows }) => rows.length > 0);
}

// ---- how it is laid out ----

const MARK = '≠ ';
const NO_MARK = '  ';
const BAR = ' │ ';
const NOTHING = '·';

/** Cuts text into lines of at most `columns`, at blanks where there are some. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > columns) {
    const blank = rest.lastIndexOf(' ', columns);
    const at = blank > columns / 3 ? blank : columns;
    lines.push(rest.slice(0, at).trimEnd());
    rest = `  ${rest.slice(at).trimStart()}`;
  }
  lines.push(rest);
  return lines;
}

const labelled = ({ label }: Row, text: string | undefined): string =>
  text === undefined ? NOTHING : label === '' ? text : `${label} ${text}`;

/** Lines of a row in two columns. */
function twoColumns(item: Row, options: NotebookOptions, column: number): string[] {
  const { paint } = options;
  const cells = [item.left, item.right].map((text) => wrap(labelled(item, text), column));
  const height = Math.max(cells[0].length, cells[1].length);
  const tone = item.differs ? 'changed' : 'plain';
  return Array.from({ length: height }, (_, i) => {
    const mark = item.differs ? paint('changed', MARK) : NO_MARK;
    const [one, two] = cells.map((lines) => lines[i] ?? '');
    return `${mark}${paint(tone, one)}${' '.repeat(column - one.length)}${paint('dim', BAR)}${paint(tone, two)}`.trimEnd();
  });
}

/** Lines of a row one below the other; what both versions agree on stands there once. */
function stacked(item: Row, names: readonly [string, string], options: NotebookOptions): string[] {
  const { paint, width } = options;
  const nameWidth = Math.max(names[0].length, names[1].length) + 1;
  const cell = (name: string, text: string | undefined, mark: string): string[] =>
    wrap(labelled(item, text), width - mark.length - nameWidth).map((line, i) => {
      const head = i === 0 ? name.padEnd(nameWidth) : ' '.repeat(nameWidth);
      return `${mark === MARK ? paint('changed', mark) : mark}${paint('label', head)}${paint(mark === MARK ? 'changed' : 'plain', line)}`.trimEnd();
    });
  if (!item.differs) return cell('', item.left, NO_MARK);
  return [...cell(names[0], item.left, MARK), ...cell(names[1], item.right, MARK)];
}

/** The whole comparison as lines. */
export function* sideBySide(left: Side, right: Side, options: SideBySideOptions): Generator<string> {
  const { width, paint } = options;
  const names = [left.run.era, right.run.era] as const;
  const wide = width >= SIDE_BY_SIDE_WIDTH;
  const column = Math.floor((width - MARK.length - BAR.length) / 2);
  let differing = 0;
  let total = 0;
  if (wide) {
    const [one, two] = names.map((name) => `KVM ${name}`);
    yield `${NO_MARK}${paint('title', one)}${' '.repeat(column - one.length)}${paint('dim', BAR)}${paint('title', two)}`;
  }
  for (const { title, rows } of compareRuns(left, right, options)) {
    yield '';
    yield paint('title', wrap(title, width)[0]);
    for (const item of rows) {
      total++;
      if (item.differs) differing++;
      yield* wide ? twoColumns(item, options, column) : stacked(item, names, options);
    }
  }
  yield '';
  const verdict =
    differing === 0
      ? 'no row differs'
      : `${plural(differing, 'row')} of ${count(total)} ${differing === 1 ? 'differs' : 'differ'}`;
  yield differing === 0 ? verdict : paint('changed', `${MARK}${verdict}`);
}
