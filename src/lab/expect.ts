/** Evaluates the expectations of a program header against a run. */
import { GENERAL_REGISTERS } from '../cpu/registers.ts';
import { KvmscopeError } from '../errors.ts';
import { type Era, eraMatches, resolveEra } from '../kvm/eras.ts';
import { SVM_EXITS } from '../kvm/svm.ts';
import { EVENT_NAMES } from '../kvm/trace.ts';
import type { ExitRecord, VcpuCounters } from '../kvm/types.ts';
import { VMX_EXITS } from '../kvm/vmx.ts';
import type { RunEnd, RunResult, VcpuView } from '../machine/types.ts';
import type { Program } from '../program/assembler.ts';
import {
  type Comparison,
  EXIT_ALIASES,
  type Expectation,
  type ExpectedValue,
  parseExpectation,
  type Subject,
  type SubjectKind,
  type Term,
  type VcpuSet,
} from '../program/header.ts';
import { didYouMean } from '../program/suggest.ts';

export interface CheckResult {
  readonly expectation: Expectation;
  readonly pass: boolean;
  /** What the run shows and what the header asks for, as text in the header's own notation. */
  readonly actual: string;
  readonly expected: string;
}

/** Expectations whose condition does not hold for the run's era and vendor are left out. */
export function evaluate(expectations: readonly Expectation[], run: RunResult, program?: Program): CheckResult[] {
  const era = resolveEra(run.era);
  return expectations
    .filter((expectation) => applies(expectation, run, era))
    .map((expectation) => check(expectation, run, program?.symbols ?? new Map()));
}

/** Readable diff of the failed checks: file:line, the expectation, expected and actual; '' when all passed. */
export function describeChecks(checks: readonly CheckResult[]): string {
  return checks
    .filter(({ pass }) => !pass)
    .map(({ expectation, expected, actual }) => {
      const where = expectation.line === 0 ? expectation.file : `${expectation.file}:${expectation.line}`;
      return `${where}: expect: ${expectation.text}\n    expected  ${expected}\n    actual    ${actual}`;
    })
    .join('\n');
}

/** How a run ended in the notation of `end = …`, e.g. 'exit 0'. */
export const endText = (end: RunEnd): string => (end.kind === 'exit' ? `exit ${end.status}` : end.kind);

/**
 * The check every run must pass that no expectation about its end covers: it halts or exits with status 0.
 * undefined if some applicable expectation speaks of the end.
 */
export function checkEnd(expectations: readonly Expectation[], run: RunResult, file: string): CheckResult | undefined {
  const era = resolveEra(run.era);
  const spoken = expectations.some(
    (e) => (e.subject.kind === 'end' || e.subject.kind === 'bug') && applies(e, run, era),
  );
  if (spoken) return undefined;
  const pass = run.end.kind === 'halted' || (run.end.kind === 'exit' && run.end.status === 0);
  const expectation = parseExpectation('end = halted', { file, line: 0 });
  return { expectation, pass, expected: 'halted or exit 0', actual: describeEnd(run.end) };
}

/** How a run ended, in a few words for people. */
export function describeEnd(end: RunEnd): string {
  const hex = (value: bigint): string => `0x${value.toString(16)}`;
  switch (end.kind) {
    case 'exit':
    case 'halted':
    case 'reset':
    case 'power-off':
      return endText(end);
    case 'budget':
      return `budget of ${end.steps} steps used up`;
    case 'shutdown':
      return `shutdown (triple fault) of vCPU ${end.vcpu} at rip ${hex(end.rip)}`;
    case 'host-bug':
      return `host-bug ${end.bug}${end.cve === undefined ? '' : ` (${end.cve})`} on vCPU ${end.vcpu}: ${end.detail}`;
    case 'internal-error':
      return `internal-error on vCPU ${end.vcpu}: ${end.detail}`;
  }
}

/**
 * Throws KvmscopeError('header') for an expectation that can never be evaluated: symbols the program does not have,
 * exits and era ranges KVM does not know.
 */
export function validateExpectations(expectations: readonly Expectation[], program: Program): void {
  const newest = resolveEra();
  for (const expectation of expectations) {
    const { condition, subject, value } = expectation;
    if (condition.kvm !== undefined) {
      try {
        eraMatches(condition.kvm, newest);
      } catch (error) {
        if (!(error instanceof KvmscopeError)) throw error;
        throw new KvmscopeError('header', `${expectation.file}:${expectation.line}: ${error.message}`);
      }
    }
    if (subject.kind === 'exits' && subject.name !== undefined && !EXIT_NAMES.has(subject.name)) {
      const hint = didYouMean(subject.name, EXIT_NAMES);
      throw new KvmscopeError(
        'header',
        `${expectation.file}:${expectation.line}: unknown exit "${subject.name}"${hint}`,
      );
    }
    if (subject.kind === 'events' && !EVENT_NAMES.some((name) => name === subject.name)) {
      const hint = didYouMean(subject.name ?? '', EVENT_NAMES);
      throw new KvmscopeError(
        'header',
        `${expectation.file}:${expectation.line}: unknown event "${subject.name}"${hint}`,
      );
    }
    const terms = subject.address === undefined ? [] : [subject.address];
    if (value?.kind === 'number') terms.push(value.term);
    if (value?.kind === 'set') terms.push(...value.ranges.flat());
    if (value?.kind === 'list') terms.push(...value.terms);
    for (const term of terms) evaluateTerm(term, program.symbols, expectation);
  }
}

/** Exit names of both vendors, and the names that stand for either's. */
const EXIT_NAMES: ReadonlySet<string> = new Set([
  ...Object.keys(EXIT_ALIASES),
  ...VMX_EXITS.map((exit) => exit.name),
  ...SVM_EXITS.map((exit) => exit.name),
]);

const applies = ({ condition }: Expectation, run: RunResult, era: Era): boolean =>
  (condition.vendor === undefined || condition.vendor === run.vendor) &&
  (condition.kvm === undefined || eraMatches(condition.kvm, era));

/** The vCPU indices of a set, ascending, limited to `count`; `missing` is the first one beyond it. */
function indices(set: VcpuSet, count: number): { readonly present: number[]; readonly missing: number | undefined } {
  if (set === 'all') return { present: Array.from({ length: count }, (_, i) => i), missing: undefined };
  const present: number[] = [];
  let missing: number | undefined;
  for (const [first, last] of set) {
    for (let i = first; i <= Math.min(last, count - 1); i++) present.push(i);
    if (last >= count) missing = Math.min(missing ?? Number.POSITIVE_INFINITY, Math.max(first, count));
  }
  return { present, missing };
}

type Symbols = ReadonlyMap<string, bigint>;

function evaluateTerm(term: Term, symbols: Symbols, { file, line }: Expectation): bigint {
  if (term.symbol === undefined) return term.addend;
  const value = symbols.get(term.symbol);
  if (value === undefined) {
    const hint = didYouMean(term.symbol, symbols.keys());
    throw new KvmscopeError('header', `${file}:${line}: the program has no symbol "${term.symbol}"${hint}`);
  }
  return value + term.addend;
}

// ---- what a run shows ----

/** Value of a subject: number, vectors, list, text. undefined: there is no such thing in this run (with the reason as text). */
type Actual =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'set'; readonly members: readonly number[] }
  | { readonly kind: 'list'; readonly values: readonly bigint[] }
  | { readonly kind: 'text'; readonly text: string; readonly also?: readonly string[] }
  | { readonly kind: 'missing'; readonly why: string };

type Reader = (run: RunResult, vcpu: VcpuView | undefined, subject: Subject, address: number) => Actual;

const num = (value: number | bigint | boolean): Actual => ({ kind: 'number', value: BigInt(value) });
const vectors = (members: readonly number[]): Actual => ({ kind: 'set', members });
const text = (value: string, also: readonly string[] = []): Actual => ({ kind: 'text', text: value, also });

const countersOf = (run: RunResult, vcpu: VcpuView | undefined): Readonly<VcpuCounters> =>
  vcpu?.counters ?? run.counters;

/** How each subject is read from a run; subjects of scope 'vcpu' always get a vCPU. */
const READERS: Readonly<Record<Exclude<SubjectKind, 'preserved'>, Reader>> = {
  register: (_, vcpu, { name }) => num(vcpu!.registers[name!]),
  irr: (_, vcpu) => vectors(vcpu!.lapic.irr),
  isr: (_, vcpu) => vectors(vcpu!.lapic.isr),
  tmr: (_, vcpu) => vectors(vcpu!.lapic.tmr),
  accepted: (run, vcpu) => ({ kind: 'list', values: acceptedVectors(run, vcpu!).map(BigInt) }),
  nmi: (_, vcpu) => num(vcpu!.nmiPending),
  smi: (_, vcpu) => num(vcpu!.smiPending),
  init: (_, vcpu) => num(vcpu!.initPending),
  sipi: (_, vcpu) => (vcpu!.sipiPending === null ? text('none') : num(vcpu!.sipiPending)),
  mp: (_, vcpu) => text(vcpu!.mpState),
  apic: (_, vcpu) => text(vcpu!.lapic.mode),
  icr: (_, vcpu) => num(vcpu!.lapic.icr),
  tpr: (_, vcpu) => num(vcpu!.lapic.tpr),
  ppr: (_, vcpu) => num(vcpu!.lapic.ppr),
  svr: (_, vcpu) => num(vcpu!.lapic.svr),
  ldr: (_, vcpu) => num(vcpu!.lapic.ldr),
  apicid: (_, vcpu) => num(vcpu!.lapic.id),
  apicbase: (_, vcpu) => num(vcpu!.lapic.apicBase),
  steps: (run, vcpu) => num(vcpu?.steps ?? run.steps),
  exits: (run, vcpu, { name }) => num(countExits(countersOf(run, vcpu), name)),
  counters: (run, vcpu, { name }) => num(countersOf(run, vcpu)[name as Exclude<keyof VcpuCounters, 'byReason'>]),
  fastpath: (run, vcpu) => num(countersOf(run, vcpu).fastpath),
  'fastpath.reason': (run, vcpu) => {
    const asked = exitsOf(run, vcpu).findLast((exit) => exit.fastpath !== undefined);
    return asked === undefined
      ? { kind: 'missing', why: 'the fastpath was never asked' }
      : text(asked.fastpath!.reason);
  },
  'fastpath.completion': (run, vcpu) => {
    const taken = exitsOf(run, vcpu).findLast((exit) => exit.fastpath?.completion !== undefined);
    return taken === undefined
      ? { kind: 'missing', why: 'the fastpath was never taken' }
      : text(taken.fastpath!.completion!);
  },
  events: (run, vcpu, { name }) =>
    num(run.trace.filter((e) => e.event === name && (vcpu === undefined || e.vcpu === vcpu.index)).length),
  reports: (run, vcpu) => ({
    kind: 'list',
    values: run.reports.filter((r) => vcpu === undefined || r.vcpu === vcpu.index).map((r) => BigInt(r.value)),
  }),
  console: (run) => text(run.console),
  end: (run) => text(endText(run.end), [run.end.kind]),
  bug: ({ end }) => {
    if (end.kind !== 'host-bug') return text('none');
    return text(end.bug, end.cve === undefined ? [] : [end.cve]);
  },
  memory: (run, _, { bytes }, address) => {
    if (address < 0 || address + bytes! > run.memory.length)
      return { kind: 'missing', why: 'the address is outside RAM' };
    let value = 0n;
    for (let i = bytes! - 1; i >= 0; i--) value = (value << 8n) | BigInt(run.memory[address + i]);
    return num(value);
  },
};

const exitsOf = (run: RunResult, vcpu: VcpuView | undefined): readonly ExitRecord[] =>
  vcpu === undefined ? run.exits : run.exits.filter((exit) => exit.vcpu === vcpu.index);

/** Vectors a vCPU's LAPIC was offered in this run, in order (kvm_apic_accept_irq events). */
export const acceptedVectors = (run: RunResult, vcpu: VcpuView): number[] =>
  run.trace.flatMap((event) =>
    event.event === 'kvm_apic_accept_irq' && event.apicid === vcpu.apicId ? [event.vector] : [],
  );

/** Exits of one name (or an alias of EXIT_ALIASES), or all of them. */
export function countExits(counters: Readonly<VcpuCounters>, name?: string): number {
  if (name === undefined) return Object.values(counters.byReason).reduce((sum, n) => sum + n, 0);
  return (EXIT_ALIASES[name] ?? [name]).reduce((sum, n) => sum + (counters.byReason[n] ?? 0), 0);
}

// ---- checking ----

function check(expectation: Expectation, run: RunResult, symbols: Symbols): CheckResult {
  const { subject } = expectation;
  const failures: string[] = [];
  let shown: string | undefined;
  const note = (vcpu: VcpuView | undefined, { pass, actual }: { pass: boolean; actual: string }): void => {
    shown ??= actual;
    if (!pass) failures.push(vcpu === undefined || single(subject) ? actual : `vcpu[${vcpu.index}]: ${actual}`);
  };
  const judge = (vcpu: VcpuView | undefined) =>
    subject.kind === 'preserved' ? preserved(subject, run, vcpu!) : compare(expectation, run, vcpu, symbols);

  if (subject.vcpus === undefined) {
    note(undefined, judge(undefined));
  } else {
    const { present, missing } = indices(subject.vcpus, run.vcpus.length);
    if (missing !== undefined) failures.push(`there is no vCPU ${missing}: the VM has ${run.vcpus.length}`);
    for (const index of present) note(run.vcpus[index], judge(run.vcpus[index]));
  }
  const pass = failures.length === 0;
  const more = failures.length > 4 ? `, and ${failures.length - 4} more` : '';
  return {
    expectation,
    pass,
    actual: pass ? (shown ?? '') : `${failures.slice(0, 4).join(', ')}${more}`,
    expected: expectedText(expectation, symbols),
  };
}

const single = ({ vcpus }: Subject): boolean =>
  Array.isArray(vcpus) && vcpus.length === 1 && vcpus[0][0] === vcpus[0][1];

interface Verdict {
  readonly pass: boolean;
  readonly actual: string;
}

function compare(expectation: Expectation, run: RunResult, vcpu: VcpuView | undefined, symbols: Symbols): Verdict {
  const { subject, comparison } = expectation;
  if (subject.kind === 'preserved') throw new Error('preserved has no value to compare');
  const address = subject.address === undefined ? 0 : Number(evaluateTerm(subject.address, symbols, expectation));
  const actual = READERS[subject.kind](run, vcpu, subject, address);
  const same = matches(actual, expectation, symbols);
  return {
    pass: typeof same === 'boolean' ? same === (comparison === '=') : order(same, comparison),
    actual: show(actual, subject),
  };
}

/** Equal or not; for two numbers the sign of their difference. A missing value is unlike everything, and fails `!=` too. */
function matches(actual: Actual, expectation: Expectation, symbols: Symbols): boolean | -1 | 0 | 1 {
  const { subject, comparison } = expectation;
  const value = expectation.value!;
  const term = (t: Term): bigint => BigInt.asUintN(subject.width, evaluateTerm(t, symbols, expectation));
  if (actual.kind === 'missing') return comparison !== '=';
  if (actual.kind === 'number' && value.kind === 'number') {
    const expected = term(value.term);
    return actual.value < expected ? -1 : actual.value > expected ? 1 : 0;
  }
  if (actual.kind === 'set' && value.kind === 'set') {
    const expected = new Set<number>();
    for (const [first, last] of value.ranges) {
      for (let vector = Number(term(first)); vector <= Number(term(last)); vector++) expected.add(vector);
    }
    return actual.members.length === expected.size && actual.members.every((vector) => expected.has(vector));
  }
  if (actual.kind === 'list' && value.kind === 'list') {
    return actual.values.length === value.terms.length && value.terms.every((t, i) => term(t) === actual.values[i]);
  }
  if (actual.kind === 'text' && value.kind === 'text') {
    if (subject.kind !== 'bug') return actual.text === value.text || (actual.also ?? []).includes(value.text);
    const wanted = value.text.toLowerCase();
    return [actual.text, ...(actual.also ?? [])].some((name) => name.toLowerCase() === wanted);
  }
  return false;
}

function order(sign: -1 | 0 | 1, comparison: Comparison): boolean {
  switch (comparison) {
    case '=':
      return sign === 0;
    case '!=':
      return sign !== 0;
    case '<':
      return sign < 0;
    case '<=':
      return sign <= 0;
    case '>':
      return sign > 0;
    case '>=':
      return sign >= 0;
  }
}

/** Names of the exits across which `preserved` compares registers: hypercalls and MSR writes. */
const PRESERVED_ACROSS: readonly string[] = ['vmcall', 'vmmcall', 'msr_write'];

/** Every hypercall and every MSR write of the vCPU leaves these registers as they were. At least one must have happened. */
function preserved(subject: Subject, run: RunResult, vcpu: VcpuView): Verdict {
  const exits = exitsOf(run, vcpu).filter((exit) => PRESERVED_ACROSS.includes(exit.name));
  if (exits.length === 0) return { pass: false, actual: 'no hypercall and no MSR write happened' };
  for (const exit of exits) {
    for (const name of subject.registers ?? []) {
      const slot = GENERAL_REGISTERS.findIndex((register) => register.name === name);
      if (exit.before[slot] !== exit.after[slot]) {
        const change = `${name} went from ${hex(exit.before[slot])} to ${hex(exit.after[slot])}`;
        return { pass: false, actual: `${change} across ${exit.name} at rip ${hex(exit.rip)}` };
      }
    }
  }
  return { pass: true, actual: `unchanged across ${exits.length} exit${exits.length === 1 ? '' : 's'}` };
}

// ---- text ----

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function showNumber(value: bigint, width: number): string {
  if (value < 10n) return value.toString();
  const signed = BigInt.asIntN(width, value);
  if (signed < 0n && signed >= -4096n) return `${hex(value)} (${signed})`;
  return value < 65536n ? `${hex(value)} (${value})` : hex(value);
}

/** Vectors in ascending order, runs of three and more as ranges: `{0x20..0x2f, 0xd1}`. */
export function showVectors(members: readonly number[]): string {
  const sorted = [...new Set(members)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (sorted[end + 1] === sorted[end] + 1) end++;
    if (end - i >= 2) parts.push(`${hex(sorted[i])}..${hex(sorted[end])}`);
    else for (let k = i; k <= end; k++) parts.push(hex(sorted[k]));
    i = end + 1;
  }
  return `{${parts.join(', ')}}`;
}

function show(actual: Actual, subject: Subject): string {
  switch (actual.kind) {
    case 'number':
      return showNumber(actual.value, subject.width);
    case 'set':
      return showVectors(actual.members);
    case 'list': {
      const shown = actual.values.slice(0, 32).map((value) => showNumber(value, subject.width));
      return `[${shown.join(', ')}${actual.values.length > 32 ? `, … ${actual.values.length - 32} more` : ''}]`;
    }
    case 'text':
      return quote(actual.text, subject);
    case 'missing':
      return actual.why;
  }
}

const quote = (value: string, { type }: Subject): string => (type === 'text' ? JSON.stringify(value) : value);

function expectedText(expectation: Expectation, symbols: Symbols): string {
  const { subject, comparison, value } = expectation;
  if (value === undefined) return `${(subject.registers ?? []).join(', ')} unchanged`;
  const sign = comparison === '=' ? '' : `${comparison} `;
  return `${sign}${showExpected(value, subject, (t) => BigInt.asUintN(subject.width, evaluateTerm(t, symbols, expectation)))}`;
}

function showExpected(value: ExpectedValue, subject: Subject, term: (t: Term) => bigint): string {
  switch (value.kind) {
    case 'number':
      return showNumber(term(value.term), subject.width);
    case 'set':
      return showVectors(
        value.ranges.flatMap(([first, last]) => {
          const from = Number(term(first));
          return Array.from({ length: Math.max(0, Number(term(last)) - from + 1) }, (_, i) => from + i);
        }),
      );
    case 'list':
      return `[${value.terms.map((t) => showNumber(term(t), subject.width)).join(', ')}]`;
    case 'text':
      return quote(value.text, subject);
  }
}
