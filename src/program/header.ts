/**
 * The expectation header of a guest program: the comment lines before its first statement.
 *
 *     # Send one interrupt to three CPUs with one hypercall.
 *     # kvm: >=4.19    vcpus: 4    mode: long64
 *     # expect: rax = 3
 *     # expect: vcpu[1..3].irr = {0xd1}
 *     # expect[kvm>=6.12, vendor=amd]: exits.vmmcall = 1
 *
 * A header line has exactly one space (or none) after `#` or `//`, then `key: value`; two or more spaces separate several of them.
 * Every other comment line is text for the reader; the first one is the title. Text that begins with a lower-case `word:` is indented.
 */
import { REGISTERS, registerByName } from '../cpu/registers.ts';
import { KvmscopeError } from '../errors.ts';
import { didYouMean } from './suggest.ts';

export type VendorName = 'intel' | 'amd';
export type Comparison = '=' | '!=' | '<' | '<=' | '>' | '>=';

/** Settings a header may give; names as in MachineOptions, absent where the header is silent. */
export interface HeaderSettings {
  /** Era range, e.g. '>=4.19', '>=5.6 <6.12', '5.7..6.11'. */
  readonly kvm?: string;
  readonly vendors?: readonly VendorName[];
  readonly vcpus?: number;
  readonly mode?: 'reset' | 'real16' | 'prot32' | 'long64' | 'compat32';
  readonly apicIds?: readonly number[];
  readonly x2apicApi?: number;
  readonly apic?: 'x2apic' | 'xapic' | 'reset' | 'disabled' | 'none';
  readonly aps?: 'halted' | 'wait-for-sipi' | 'run';
  readonly cpl?: 0 | 3;
  /** Bytes. */
  readonly memory?: number;
  readonly seed?: number;
  /** Which vCPUs make the first steps, like `0*3,1,0,2*5`. */
  readonly schedule?: string;
  readonly budget?: number;
  readonly pvFeatures?: number;
  readonly enforcePvFeatures?: boolean;
  readonly disabledQuirks?: number;
  readonly apicv?: 'off' | 'on' | 'ipiv';
  readonly avic?: boolean;
  /** KVM_CAP_EXIT_HYPERCALL mask. */
  readonly exitHypercalls?: number;
  /** What user space answers, call by call. */
  readonly hypercallReturns?: readonly (number | 'untouched')[];
  readonly title?: string;
}

export interface ExpectationCondition {
  /** Era range in the words of `eraMatches`, e.g. '>=6.12'. */
  readonly kvm?: string;
  readonly vendor?: VendorName;
}

/** vCPU indices, first to last, or every vCPU. */
export type VcpuSet = 'all' | readonly (readonly [first: number, last: number])[];

/** A number of the header: `addend`, plus the value of a program's symbol if there is one. */
export interface Term {
  readonly symbol?: string;
  readonly addend: bigint;
  /** As written. */
  readonly text: string;
}

export type ExpectedValue =
  | { readonly kind: 'number'; readonly term: Term }
  /** Order and repetition do not matter; ranges are inclusive. */
  | { readonly kind: 'set'; readonly ranges: readonly (readonly [Term, Term])[] }
  | { readonly kind: 'list'; readonly terms: readonly Term[] }
  | { readonly kind: 'text'; readonly text: string };

/** What kind of value a subject has. */
export type SubjectType = 'number' | 'number-or-none' | 'set' | 'list' | 'text' | 'word' | 'end';

/** What an expectation speaks about. */
export interface Subject {
  /** Row of SUBJECTS. */
  readonly kind: SubjectKind;
  /** undefined: the whole VM (sums for counters). */
  readonly vcpus?: VcpuSet;
  /** Register, exit or counter name. */
  readonly name?: string;
  /** Names after `preserved`. */
  readonly registers?: readonly string[];
  /** `memory[address].uN`: address and bytes. */
  readonly address?: Term;
  readonly bytes?: 1 | 2 | 4 | 8;
  readonly type: SubjectType;
  /** Width of a number in bits; negative expected values are taken modulo 2^width. */
  readonly width: number;
}

/** One `expect:` line. */
export interface Expectation {
  /** As written after `expect:`. */
  readonly text: string;
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  readonly condition: ExpectationCondition;
  readonly subject: Subject;
  readonly comparison: Comparison;
  /** Absent for `preserved`. */
  readonly value?: ExpectedValue;
}

export interface ProgramHeader {
  readonly file: string;
  /** `title:` or the first free comment line; '' without either. */
  readonly title: string;
  /** Free comment lines, joined by newlines. */
  readonly description: string;
  readonly settings: HeaderSettings;
  readonly expectations: readonly Expectation[];
  /** Line (1-based) of each setting, for messages about values that only a machine can judge. */
  readonly settingLines: ReadonlyMap<string, number>;
}

// ---- subjects: one row each ----

interface SubjectRow {
  readonly type: SubjectType;
  /** 'vcpu': one vCPU, 0 unless named; 'both': the VM unless a vCPU is named; 'vm': never a vCPU. */
  readonly scope: 'vcpu' | 'both' | 'vm';
  readonly width?: number;
  /** `name.something` is required ('exits.vmcall') or allowed. */
  readonly member?: 'required' | 'optional';
  readonly help: string;
}

/** Everything an expectation can speak about besides registers, `preserved` and `memory[…]`. */
export const SUBJECTS = {
  irr: { type: 'set', scope: 'vcpu', width: 8, help: 'vectors requested' },
  isr: { type: 'set', scope: 'vcpu', width: 8, help: 'vectors in service' },
  tmr: { type: 'set', scope: 'vcpu', width: 8, help: 'vectors whose last message was level-triggered' },
  accepted: { type: 'list', scope: 'vcpu', width: 8, help: 'vectors accepted, in order (trace)' },
  nmi: { type: 'number', scope: 'vcpu', help: 'NMIs pending' },
  smi: { type: 'number', scope: 'vcpu', help: '1 if an SMI is pending' },
  init: { type: 'number', scope: 'vcpu', help: '1 if an INIT is pending' },
  sipi: { type: 'number-or-none', scope: 'vcpu', width: 8, help: 'vector of the pending SIPI, or none' },
  mp: { type: 'word', scope: 'vcpu', help: 'runnable, halted, init-received or uninitialized' },
  apic: { type: 'word', scope: 'vcpu', help: 'x2apic, xapic or disabled' },
  icr: { type: 'number', scope: 'vcpu', help: 'ICR as a guest reads it in x2APIC mode' },
  tpr: { type: 'number', scope: 'vcpu', help: 'task priority' },
  ppr: { type: 'number', scope: 'vcpu', help: 'processor priority' },
  svr: { type: 'number', scope: 'vcpu', help: 'spurious-interrupt vector register' },
  ldr: { type: 'number', scope: 'vcpu', help: 'logical destination' },
  apicid: { type: 'number', scope: 'vcpu', help: 'APIC ID' },
  apicbase: { type: 'number', scope: 'vcpu', help: 'IA32_APIC_BASE' },
  steps: { type: 'number', scope: 'both', help: 'instructions and REP iterations executed' },
  exits: { type: 'number', scope: 'both', member: 'optional', help: 'exits, or exits of one name' },
  counters: { type: 'number', scope: 'both', member: 'required', help: 'a KVM statistic' },
  fastpath: { type: 'number', scope: 'both', help: 'WRMSR fastpath hits' },
  'fastpath.reason': { type: 'text', scope: 'both', help: 'reason of the last fastpath verdict' },
  'fastpath.completion': { type: 'word', scope: 'both', help: 'how KVM went on after the last fastpath hit' },
  events: { type: 'number', scope: 'both', member: 'required', help: "KVM's trace events of one name" },
  reports: { type: 'list', scope: 'both', width: 32, help: 'values written to the report port, in order' },
  console: { type: 'text', scope: 'vm', help: 'text written to the console' },
  end: { type: 'end', scope: 'vm', help: 'halted, exit N, shutdown, budget, host-bug or internal-error' },
  bug: { type: 'word', scope: 'vm', help: 'name or CVE number of the host bug' },
} as const satisfies Record<string, SubjectRow>;

export type SubjectKind = keyof typeof SUBJECTS | 'register' | 'preserved' | 'memory';

/** KVM statistics that `counters.NAME` knows (fields of VcpuCounters). */
export const COUNTER_NAMES = [
  'exits',
  'irq_exits',
  'irq_window_exits',
  'nmi_window_exits',
  'halt_exits',
  'halt_wakeup',
  'hypercalls',
  'irq_injections',
  'nmi_injections',
  'req_event',
  'request_irq_exits',
  'signal_exits',
  'directed_yield_attempted',
  'directed_yield_successful',
  'fastpath',
] as const;

/** Exit names that stand for either vendor's: `exits.hypercall` is vmcall on Intel, vmmcall on AMD. */
export const EXIT_ALIASES: Readonly<Record<string, readonly string[]>> = {
  hypercall: ['vmcall', 'vmmcall'],
  wrmsr: ['msr_write'],
  rdmsr: ['msr_read'],
  exception: ['exception_nmi', 'ud_excp'],
  external_interrupt: ['external_interrupt', 'interrupt'],
  interrupt_window: ['interrupt_window', 'vintr'],
  nmi_window: ['nmi_window', 'iret'],
  io: ['io_instruction', 'io'],
  pause: ['pause_instruction', 'pause'],
  nested_page_fault: ['ept_violation', 'npf'],
};

const MP_STATES = ['runnable', 'uninitialized', 'init-received', 'halted'];
const APIC_MODES = ['x2apic', 'xapic', 'disabled'];
const COMPLETIONS = ['SKIP_EMUL_INS', 'REENTER_GUEST', 'EXIT_HANDLED'];
/** What a subject of type 'word' can be; a subject that is not here takes any word. */
const WORDS: Readonly<Partial<Record<SubjectKind, readonly string[]>>> = {
  mp: MP_STATES,
  apic: APIC_MODES,
  'fastpath.completion': COMPLETIONS,
};
const END_KINDS = ['exit', 'halted', 'budget', 'shutdown', 'reset', 'power-off', 'host-bug', 'internal-error'];

/** Registers whose value an exit record holds before and after, in its order. */
const PRESERVABLE = REGISTERS.filter((r) => r.group === 'gpr' || r.group === 'ip' || r.group === 'flags').map(
  (r) => r.name,
);

// ---- settings: one row each ----

type Fail = (message: string) => never;
type SettingParser = (value: string, fail: Fail) => HeaderSettings;

const oneOf =
  <T extends string>(words: readonly T[], make: (word: T) => HeaderSettings): SettingParser =>
  (value, fail) => {
    const word = words.find((w) => w === value);
    return word === undefined
      ? fail(`"${value}" is none of ${words.join(', ')}${didYouMean(value, words)}`)
      : make(word);
  };

const number =
  (min: number, max: number, make: (n: number) => HeaderSettings): SettingParser =>
  (value, fail) => {
    const n = parseSize(value);
    if (n === undefined) return fail(`"${value}" is not a number`);
    if (n < min || n > max) return fail(`${value} is outside ${min}…${max}`);
    return make(n);
  };

const flag =
  (make: (on: boolean) => HeaderSettings): SettingParser =>
  (value, fail) => {
    if (['yes', 'on', 'true', '1'].includes(value)) return make(true);
    if (['no', 'off', 'false', '0'].includes(value)) return make(false);
    return fail(`"${value}" is none of yes, no`);
  };

const SETTINGS: Readonly<Record<string, SettingParser>> = {
  kvm: (value) => ({ kvm: value }),
  vcpus: number(1, 4096, (vcpus) => ({ vcpus })),
  mode: oneOf(['reset', 'real16', 'prot32', 'long64', 'compat32'], (mode) => ({ mode })),
  vendor: oneOf(['intel', 'amd', 'both'], (word) => ({ vendors: word === 'both' ? ['intel', 'amd'] : [word] })),
  ids: (value, fail) => ({ apicIds: parseIds(value, fail) }),
  'x2apic-api': number(0, 3, (x2apicApi) => ({ x2apicApi })),
  apic: oneOf(['x2apic', 'xapic', 'reset', 'disabled', 'none'], (apic) => ({ apic })),
  aps: oneOf(['halted', 'wait-for-sipi', 'run'], (aps) => ({ aps })),
  cpl: oneOf(['0', '3'], (cpl) => ({ cpl: cpl === '3' ? 3 : 0 })),
  memory: number(0x100000, 0x80000000, (memory) => ({ memory })),
  seed: number(0, 0xffffffff, (seed) => ({ seed })),
  schedule: (value) => ({ schedule: value }),
  budget: number(1, Number.MAX_SAFE_INTEGER, (budget) => ({ budget })),
  'pv-features': number(0, 0xffffffff, (pvFeatures) => ({ pvFeatures })),
  'enforce-pv': flag((enforcePvFeatures) => ({ enforcePvFeatures })),
  'quirks-off': number(0, 0xffffffff, (disabledQuirks) => ({ disabledQuirks })),
  apicv: oneOf(['off', 'on', 'ipiv'], (apicv) => ({ apicv })),
  avic: flag((avic) => ({ avic })),
  'exit-hypercalls': number(0, 0x1000, (exitHypercalls) => ({ exitHypercalls })),
  'hypercall-returns': (value, fail) => ({ hypercallReturns: parseReturns(value, fail) }),
  title: (value) => ({ title: value }),
};

/** Keys a header may use, `expect` included. */
export const HEADER_KEYS: readonly string[] = [...Object.keys(SETTINGS), 'expect'];

/** Reads a non-negative size: decimal or 0x…, optionally with K, M or G (powers of 1024). undefined if it is none. */
export function parseSize(text: string): number | undefined {
  const match = /^(0x[0-9a-f]+|\d+)([kmg]?)$/i.exec(text);
  if (match === null) return undefined;
  const n =
    Number(match[1]) * { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[match[2].toLowerCase() as '' | 'k' | 'm' | 'g'];
  return Number.isSafeInteger(n) ? n : undefined;
}

/** Reads a list of ids such as `0,5,64-70`. */
export function parseIds(text: string, fail: Fail): number[] {
  const ids: number[] = [];
  for (const part of text.split(',')) {
    const match = /^\s*(0x[0-9a-f]+|\d+)\s*(?:-\s*(0x[0-9a-f]+|\d+)\s*)?$/i.exec(part);
    if (match === null) return fail(`"${part.trim()}" is not an id or a range of ids such as 64-70`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last < first) return fail(`range ${part.trim()} runs backwards`);
    if (ids.length + last - first >= 4096) return fail('more than 4096 ids');
    for (let id = first; id <= last; id++) ids.push(id);
  }
  return ids;
}

/** Reads what user space answers to hypercalls: `0`, `-22`, `0x77, untouched`. */
export function parseReturns(text: string, fail: Fail): (number | 'untouched')[] {
  return text.split(',').map((part) => {
    const word = part.trim();
    if (word === 'untouched') return word;
    const value = /^-?(0x[0-9a-f]+|\d+)$/i.test(word) ? Number(word.replace('-', '')) : Number.NaN;
    if (!Number.isSafeInteger(value)) return fail(`"${word}" is neither a number nor untouched`);
    return word.startsWith('-') ? -value : value;
  });
}

// ---- the header ----

/** Reads the header of a guest source. Throws KvmscopeError('header', 'file:line: …') at the first mistake. */
export function parseHeader(source: string, file: string): ProgramHeader {
  let settings: HeaderSettings = {};
  const settingLines = new Map<string, number>();
  const expectations: Expectation[] = [];
  const text: string[] = [];
  let line = 0;
  const fail: Fail = (message) => {
    throw new KvmscopeError('header', `${file}:${line}: ${message}`);
  };

  for (const raw of source.split('\n')) {
    line++;
    const trimmed = raw.trim();
    if (trimmed === '') continue;
    const comment = /^(?:#+|\/\/+)(.*)$/.exec(trimmed);
    if (comment === null) break;
    const body = comment[1];
    const header = /^ ?([A-Za-z][A-Za-z0-9_-]*)(\s*\[[^\]]*\])?\s*:(?:\s|$)/.exec(body);
    if (header === null || isProse(header[1])) {
      text.push(body.replace(/^ /, '').trimEnd());
      continue;
    }
    if (header[1] === 'expect') {
      const condition = header[2] === undefined ? {} : parseCondition(header[2].trim().slice(1, -1), fail);
      expectations.push(parseExpectation(body.slice(header[0].length).trim(), { file, line, condition }));
      continue;
    }
    for (const piece of body.trim().split(/ {2,}|\t+/)) {
      const match = /^([A-Za-z][A-Za-z0-9_-]*)\s*:\s*(.*)$/.exec(piece);
      if (match === null) return fail(`"${piece}" is not "key: value"; separate settings by two or more spaces`);
      const [, key, value] = match;
      const parser = Object.hasOwn(SETTINGS, key) ? SETTINGS[key] : undefined;
      if (parser === undefined) {
        if (key === 'expect') return fail('"expect:" needs a line of its own');
        return fail(
          `unknown header key "${key}"${didYouMean(key, HEADER_KEYS) || '; indent comment text that begins with a word and a colon'}`,
        );
      }
      if (settingLines.has(key)) return fail(`"${key}" is set twice (first in line ${settingLines.get(key)})`);
      if (value === '') return fail(`"${key}:" has no value`);
      settings = { ...settings, ...parser(value, (message) => fail(`${key}: ${message}`)) };
      settingLines.set(key, line);
    }
  }

  const title = settings.title ?? text.find((t) => t.trim() !== '' && !isFileName(t.trim(), file)) ?? '';
  return { file, title: title.trim(), description: text.join('\n').trim(), settings, expectations, settingLines };
}

/** Keys are in lower case: a capital begins a sentence, unless it begins a key. */
const isProse = (word: string): boolean => /^[A-Z]/.test(word) && !HEADER_KEYS.includes(word.toLowerCase());

/** A comment line that only repeats the program's own path is no title. */
const isFileName = (text: string, file: string): boolean =>
  !/\s/.test(text) && text.endsWith(file.replace(/^.*[\\/]/, ''));

/** Reads what stands in `expect[…]`: an era range and/or `vendor=…`, separated by commas or spaces. */
function parseCondition(text: string, fail: Fail): ExpectationCondition {
  let kvm: string | undefined;
  let vendor: VendorName | undefined;
  const pattern =
    /\s*,?\s*(?:kvm\s*((?:[<>]=?|!?=|==)?\s*[^\s,<>=]+)|([<>]=?\s*[^\s,<>=]+)|vendor\s*={1,2}\s*([a-z]+))/y;
  while (pattern.lastIndex < text.length) {
    const rest = text.slice(pattern.lastIndex);
    if (rest.trim() === '') break;
    const match = pattern.exec(text);
    if (match === null) return fail(`condition "${rest.trim()}" is neither kvm<range> nor vendor=intel|amd`);
    const range = (match[1] ?? match[2])?.replace(/\s+/g, '').replace(/^={1,2}/, '');
    if (range !== undefined) {
      if (match[2] !== undefined && kvm === undefined) return fail(`condition "${rest.trim()}" has no "kvm" before it`);
      kvm = kvm === undefined ? range : `${kvm} ${range}`;
    } else if (match[3] === 'intel' || match[3] === 'amd') {
      vendor = match[3];
    } else {
      return fail(`vendor "${match[3]}" is none of intel, amd`);
    }
  }
  if (kvm === undefined && vendor === undefined) return fail('empty condition in expect[…]');
  return { ...(kvm === undefined ? {} : { kvm }), ...(vendor === undefined ? {} : { vendor }) };
}

/** Where an expectation stands. */
export interface ExpectationSite {
  readonly file: string;
  readonly line: number;
  readonly condition?: ExpectationCondition;
}

/** Reads one expectation, the text after `expect:`. */
export function parseExpectation(text: string, site: ExpectationSite): Expectation {
  return new ExpectationParser(text, site).parse();
}

class ExpectationParser {
  readonly #text: string;
  readonly #site: ExpectationSite;
  #at = 0;

  constructor(text: string, site: ExpectationSite) {
    this.#text = text;
    this.#site = site;
  }

  parse(): Expectation {
    const subject = this.#subject();
    const common = {
      text: this.#text,
      file: this.#site.file,
      line: this.#site.line,
      condition: this.#site.condition ?? {},
      subject,
    };
    if (subject.kind === 'preserved') {
      this.#end();
      return { ...common, comparison: '=' };
    }
    const comparison = this.#comparison(subject.type);
    const value = this.#value(subject);
    this.#end();
    return { ...common, comparison, value };
  }

  #fail(message: string): never {
    throw new KvmscopeError('header', `${this.#site.file}:${this.#site.line}: ${message} in "expect: ${this.#text}"`);
  }

  /** Takes `pattern` (sticky) after white space, or returns undefined. */
  #take(pattern: RegExp): string | undefined {
    const space = /\s*/y;
    space.lastIndex = this.#at;
    space.exec(this.#text);
    pattern.lastIndex = space.lastIndex;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }

  #expect(pattern: RegExp, what: string): string {
    const found = this.#take(pattern);
    if (found !== undefined) return found;
    const rest = this.#text.slice(this.#at).trim();
    return this.#fail(`expected ${what}, found ${rest === '' ? 'the end of the line' : `"${rest}"`}`);
  }

  #end(): void {
    const rest = this.#text.slice(this.#at).trim();
    if (rest !== '') this.#fail(`unexpected "${rest}"`);
  }

  #subject(): Subject {
    let vcpus: VcpuSet | undefined;
    if (this.#take(/vcpu\b/y) !== undefined) {
      vcpus = this.#vcpuSet();
      this.#expect(/\./y, '"." after the vCPU set');
    }
    const word = this.#expect(/[A-Za-z_][\w-]*/y, 'a register or another subject');
    if (word === 'memory') {
      if (vcpus !== undefined) this.#fail('memory belongs to no vCPU');
      return this.#memory();
    }
    if (word === 'preserved') {
      return { kind: 'preserved', vcpus: vcpus ?? [[0, 0]], registers: this.#registers(), type: 'set', width: 64 };
    }
    if (Object.hasOwn(SUBJECTS, word)) return this.#row(word as keyof typeof SUBJECTS, vcpus);
    const register = registerByName(word);
    if (register === undefined) {
      const known = [...REGISTERS.map((r) => r.name), ...Object.keys(SUBJECTS), 'preserved', 'memory'];
      this.#fail(`unknown register "${word}"${didYouMean(word, known)}`);
    }
    return { kind: 'register', vcpus: vcpus ?? [[0, 0]], name: word, type: 'number', width: register.bits };
  }

  #row(word: keyof typeof SUBJECTS, vcpus: VcpuSet | undefined): Subject {
    let kind: keyof typeof SUBJECTS = word;
    let name: string | undefined;
    if (this.#take(/\./y) !== undefined) {
      name = this.#expect(/[A-Za-z_][\w-]*/y, `a name after "${word}."`);
      if (word === 'fastpath' && (name === 'reason' || name === 'completion')) {
        kind = `fastpath.${name}`;
        name = undefined;
      }
    }
    const row: SubjectRow = SUBJECTS[kind];
    if (name !== undefined && row.member === undefined) this.#fail(`"${word}" has no member "${name}"`);
    if (name === undefined && row.member === 'required') {
      this.#fail(`"${word}" needs a name, as in ${word}.${word === 'events' ? 'kvm_apic_ipi' : 'hypercalls'}`);
    }
    if (word === 'counters' && !COUNTER_NAMES.some((counter) => counter === name)) {
      this.#fail(`unknown counter "${name}"${didYouMean(name ?? '', COUNTER_NAMES)}`);
    }
    if (vcpus !== undefined && row.scope === 'vm') this.#fail(`"${word}" belongs to the VM, not to a vCPU`);
    const scope = vcpus ?? (row.scope === 'vcpu' ? ([[0, 0]] as const) : undefined);
    return {
      kind,
      ...(scope === undefined ? {} : { vcpus: scope }),
      ...(name === undefined ? {} : { name }),
      type: row.type,
      width: row.width ?? 64,
    };
  }

  #vcpuSet(): VcpuSet {
    this.#expect(/\[/y, '"[" after vcpu');
    if (this.#take(/\*/y) !== undefined) {
      this.#expect(/\]/y, '"]"');
      return 'all';
    }
    const ranges: [number, number][] = [];
    do {
      const first = Number(this.#expect(/0x[0-9a-f]+|\d+/iy, 'a vCPU index'));
      const last =
        this.#take(/\.\./y) === undefined ? first : Number(this.#expect(/0x[0-9a-f]+|\d+/iy, 'a vCPU index'));
      if (last < first) this.#fail(`vCPU range ${first}..${last} runs backwards`);
      ranges.push([first, last]);
    } while (this.#take(/,/y) !== undefined);
    this.#expect(/\]/y, '"]" after the vCPU set');
    return ranges;
  }

  #memory(): Subject {
    this.#expect(/\[/y, '"[" after memory');
    const address = this.#term();
    this.#expect(/\]/y, '"]"');
    const size = this.#expect(/\.\w+/y, 'a size such as .u32').slice(1);
    const bytes = ({ u8: 1, u16: 2, u32: 4, u64: 8 } as const)[size];
    if (bytes === undefined) this.#fail(`unknown size "${size}": u8, u16, u32 or u64`);
    return { kind: 'memory', address, bytes, type: 'number', width: bytes * 8 };
  }

  /** `rbx, rcx, r8-r15`. */
  #registers(): string[] {
    const names: string[] = [];
    do {
      const first = this.#register();
      const last = this.#take(/-/y) === undefined ? first : this.#register();
      if (last < first) this.#fail(`register range ${PRESERVABLE[first]}-${PRESERVABLE[last]} runs backwards`);
      names.push(...PRESERVABLE.slice(first, last + 1));
    } while (this.#take(/,/y) !== undefined);
    return names;
  }

  #register(): number {
    const name = this.#expect(/\w+/y, 'a register');
    const index = PRESERVABLE.indexOf(name);
    if (index >= 0) return index;
    if (registerByName(name) !== undefined)
      this.#fail(`"preserved" knows general registers, rip and rflags, not ${name}`);
    return this.#fail(`unknown register "${name}"${didYouMean(name, PRESERVABLE)}`);
  }

  #comparison(type: SubjectType): Comparison {
    const sign = this.#expect(/==|!=|<=|>=|=|<|>/y, 'one of = != < <= > >=');
    const comparison = (sign === '==' ? '=' : sign) as Comparison;
    if (comparison !== '=' && comparison !== '!=' && type !== 'number')
      this.#fail(`"${comparison}" compares numbers only`);
    return comparison;
  }

  #value(subject: Subject): ExpectedValue {
    switch (subject.type) {
      case 'number':
        return { kind: 'number', term: this.#term() };
      case 'number-or-none':
        return this.#take(/none\b/y) === undefined
          ? { kind: 'number', term: this.#term() }
          : { kind: 'text', text: 'none' };
      case 'set':
        return { kind: 'set', ranges: this.#set() };
      case 'list':
        return { kind: 'list', terms: this.#list() };
      case 'text':
        return { kind: 'text', text: this.#string() };
      case 'word':
        return { kind: 'text', text: this.#word(subject) };
      case 'end':
        return { kind: 'text', text: this.#endKind() };
    }
  }

  #set(): [Term, Term][] {
    const ranges: [Term, Term][] = [];
    this.#expect(/\{/y, 'a set such as {0xd1}');
    if (this.#take(/\}/y) !== undefined) return ranges;
    do {
      const first = this.#term();
      const last = this.#take(/\.\./y) === undefined ? first : this.#term();
      if (last.symbol === undefined && first.symbol === undefined && last.addend < first.addend) {
        this.#fail(`range ${first.text}..${last.text} runs backwards`);
      }
      ranges.push([first, last]);
    } while (this.#take(/,/y) !== undefined);
    this.#expect(/\}/y, '"," or "}"');
    return ranges;
  }

  #list(): Term[] {
    const terms: Term[] = [];
    const close = this.#expect(/[[{]/y, 'a list such as [1, 2]') === '[' ? /\]/y : /\}/y;
    if (this.#take(close) !== undefined) return terms;
    do terms.push(this.#term());
    while (this.#take(/,/y) !== undefined);
    this.#expect(close, '"," or the end of the list');
    return terms;
  }

  #string(): string {
    const literal = this.#expect(/"(?:[^"\\]|\\.)*"/y, 'text in double quotes');
    return literal.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|.)/g, (_, code: string) => {
      if (code[0] === 'x' && code.length === 3) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      const known: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '0': '\0', '"': '"', '\\': '\\' };
      return known[code] ?? this.#fail(`unknown escape "\\${code}"`);
    });
  }

  #word(subject: Subject): string {
    if (this.#text.slice(this.#at).trimStart().startsWith('"')) return this.#string();
    const word = this.#expect(/[A-Za-z][\w.-]*/y, 'a word');
    const words = WORDS[subject.kind];
    if (words !== undefined && !words.includes(word)) {
      this.#fail(`"${word}" is none of ${words.join(', ')}${didYouMean(word, words)}`);
    }
    return word;
  }

  /** `halted`, `exit 0`, …: canonical text as `endText` of the lab writes it. */
  #endKind(): string {
    const kind = this.#expect(/[A-Za-z][\w-]*/y, 'how the run ends');
    if (!END_KINDS.includes(kind))
      this.#fail(`"${kind}" is none of ${END_KINDS.join(', ')}${didYouMean(kind, END_KINDS)}`);
    if (kind !== 'exit') return kind;
    const status = this.#take(/0x[0-9a-f]+|\d+/iy);
    return status === undefined ? 'exit' : `exit ${Number(status)}`;
  }

  /** `-22`, `0xd1`, `symbol`, `symbol + 8`. */
  #term(): Term {
    const start = this.#at;
    const text = () => this.#text.slice(start, this.#at).trim();
    const minus = this.#take(/-/y) !== undefined;
    const digits = this.#take(/0x[0-9a-f_]+|0b[01_]+|\d[\d_]*/iy);
    if (digits !== undefined) {
      const follows = /[A-Za-z]\w*/y;
      follows.lastIndex = this.#at;
      if (follows.test(this.#text))
        this.#fail(`"${digits}${this.#text.slice(this.#at, follows.lastIndex)}" is not a number`);
      const n = BigInt(digits.replaceAll('_', ''));
      return { addend: minus ? -n : n, text: text() };
    }
    if (minus) this.#fail('expected a number after "-"');
    const symbol = this.#expect(/[A-Za-z_.$][\w.$]*?(?=\.\.|[^\w.$]|$)/y, 'a number or a symbol');
    const sign = this.#take(/[+-]/y);
    if (sign === undefined) return { symbol, addend: 0n, text: text() };
    const addend = BigInt(this.#expect(/0x[0-9a-f]+|\d+/iy, 'a number').replaceAll('_', ''));
    return { symbol, addend: sign === '-' ? -addend : addend, text: text() };
  }
}
