/** Two outcomes of one case: whether they are equal, what differs, and the canonical words for it. */

import { SLOT_AFTER_IRR, SLOT_ICR, SLOT_ICR2, SLOT_IRR, SLOT_ISR, SLOT_TMR } from '../lapic-slots.ts';
import type { Target } from './target.ts';
import {
  type Case,
  LIGHT_WORDS,
  OP,
  OP_NAMES,
  type OpName,
  type Outcome,
  RESULT_FASTPATH,
  RESULT_HI,
  RESULT_LO,
  RESULT_SPOILED,
  RESULT_STATUS,
  RESULT_WORDS,
  STATUS_ASLEEP,
  STATUS_FAULT,
  STATUS_NEXT,
  STATUS_NOT_RUN,
  STEP_ARGS,
  STEP_OP,
  STEP_VCPU,
  STEP_WORDS,
  VCPU_WORDS,
  WORD_BASE,
  WORD_CS,
  WORD_INIT,
  WORD_KICK,
  WORD_MP,
  WORD_NMI,
  WORD_SIPI,
  WORD_SMI,
} from './types.ts';

/** One thing that differs. Numbers are 32-bit words; for a vector set both sides list vectors. */
export interface Difference {
  /** e.g. 'end', 'step 0 status', 'vcpu 1 irr'. */
  readonly field: string;
  /** The field's part of a signature: no numbers of steps and vCPUs. */
  readonly canonical: string;
  readonly sides: readonly [unknown, unknown];
}

/** What two targets can both tell. */
export class Comparison {
  readonly a: Target;
  readonly b: Target;
  /** State words that both observe. */
  readonly #words: Uint8Array;
  readonly #light: Uint8Array;
  /** Before each case both sides are alike in every word that is compared. */
  readonly #sameStart: boolean;
  readonly #fastpath: boolean;

  constructor(a: Target, b: Target) {
    this.a = a;
    this.b = b;
    this.#words = Uint8Array.from(
      Array.from({ length: VCPU_WORDS }, (_, word) => word).filter((word) => a.observes[word] && b.observes[word]),
    );
    this.#light = LIGHT_WORDS.filter((word) => this.#words.includes(word));
    this.#sameStart = a.start.every((value, i) => value === b.start[i] || !this.#words.includes(i % VCPU_WORDS));
    this.#fastpath = a.showsFastpath && b.showsFastpath;
  }

  equal(a: Outcome, b: Outcome): boolean {
    if (a.end !== b.end || a.steps !== b.steps) return false;
    const compared = this.#fastpath ? RESULT_WORDS : RESULT_FASTPATH;
    for (let step = 0; step < a.steps; step++) {
      const at = step * RESULT_WORDS;
      for (let word = 0; word < compared; word++) if (a.results[at + word] !== b.results[at + word]) return false;
    }
    if (a.end !== '') return true;
    const words = a.light && b.light && this.#sameStart ? this.#light : this.#words;
    for (let vcpu = 0; vcpu < a.touched.length; vcpu++) {
      const touchedA = a.touched[vcpu] === 1;
      const touchedB = b.touched[vcpu] === 1;
      if (!touchedA && !touchedB) continue;
      const at = vcpu * VCPU_WORDS;
      const stateA = touchedA ? a.state : this.a.start;
      const stateB = touchedB ? b.state : this.b.start;
      for (let i = 0; i < words.length; i++) if (stateA[at + words[i]] !== stateB[at + words[i]]) return false;
    }
    return true;
  }

  /** In a fixed order. */
  differences(test: Case, a: Outcome, b: Outcome): Difference[] {
    const found: Difference[] = [];
    const add = (field: string, canonical: string, sideA: unknown, sideB: unknown): void => {
      if (sideA !== sideB) found.push({ field, canonical, sides: [sideA, sideB] });
    };
    add('end', `end ${a.end || 'fine'} | ${b.end || 'fine'}`, a.end, b.end);
    for (let step = 0; step < Math.max(a.steps, b.steps); step++) {
      const at = step * RESULT_WORDS;
      const name = stepName(test, step);
      const word = (outcome: Outcome, which: number): number =>
        step < outcome.steps ? outcome.results[at + which] : 0;
      const status = [a, b].map((outcome) =>
        step < outcome.steps ? statusName(outcome.results[at + RESULT_STATUS]) : 'not reached',
      );
      add(`step ${step} ends`, `${name} ends ${status.join(' | ')}`, status[0], status[1]);
      const value = [a, b].map((outcome) => hex64(word(outcome, RESULT_LO), word(outcome, RESULT_HI)));
      if (status[0] === status[1]) add(`step ${step} value`, `${name} value`, value[0], value[1]);
      add(
        `step ${step} spoiled registers`,
        `${name} spoiled registers`,
        word(a, RESULT_SPOILED),
        word(b, RESULT_SPOILED),
      );
      if (this.#fastpath) {
        const fast = [a, b].map((outcome) => FASTPATH[word(outcome, RESULT_FASTPATH)]);
        add(`step ${step} fastpath`, `${name} fastpath ${fast.join(' | ')}`, fast[0], fast[1]);
      }
    }
    if (a.end !== '' || b.end !== '') return found;
    const performs = performers(test);
    for (let vcpu = 0; vcpu < a.touched.length; vcpu++) {
      if (a.touched[vcpu] === 0 && b.touched[vcpu] === 0) continue;
      const at = vcpu * VCPU_WORDS;
      const stateA = a.touched[vcpu] === 1 ? a.state : this.a.start;
      const stateB = b.touched[vcpu] === 1 ? b.state : this.b.start;
      for (const { name, first, last } of FIELDS) {
        if (!this.#differ(stateA, stateB, at, first, last)) continue;
        const show = (state: Uint32Array): string =>
          SETS.has(name) ? vectors(state.subarray(at + first, at + last)) : hex(state[at + first]);
        const who = performs.has(vcpu) ? 'self' : 'other';
        found.push({ field: `vcpu ${vcpu} ${name}`, canonical: `${who} ${name}`, sides: [show(stateA), show(stateB)] });
      }
    }
    return found;
  }

  #differ(a: Uint32Array, b: Uint32Array, at: number, first: number, last: number): boolean {
    for (let word = first; word < last; word++) {
      if (a[at + word] !== b[at + word] && this.a.observes[word] === 1 && this.b.observes[word] === 1) return true;
    }
    return false;
  }
}

const FASTPATH = ['unknown', 'taken', 'not taken'];

const SETS: ReadonlySet<string> = new Set(['isr', 'tmr', 'irr']);
const field = (name: string, first: number, last = first + 1) => ({ name, first, last });
const registerFields = (first: number, last: number) =>
  Array.from({ length: last - first }, (_, i) => field(`register ${hex((first + i) * 16)}`, first + i));
/** Names of state words: first and behind the last. */
const FIELDS = [
  ...registerFields(0, SLOT_ISR),
  field('isr', SLOT_ISR, SLOT_TMR),
  field('tmr', SLOT_TMR, SLOT_IRR),
  field('irr', SLOT_IRR, SLOT_AFTER_IRR),
  ...registerFields(SLOT_AFTER_IRR, SLOT_ICR),
  field('icr', SLOT_ICR),
  field('icr2', SLOT_ICR2),
  ...registerFields(SLOT_ICR2 + 1, WORD_NMI),
  field('nmi', WORD_NMI),
  field('smi', WORD_SMI),
  field('init', WORD_INIT),
  field('mp', WORD_MP),
  field('cs', WORD_CS),
  field('apic base', WORD_BASE),
  field('sipi', WORD_SIPI),
  field('kick', WORD_KICK),
] as const;

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

const hex64 = (lo: number, hi: number): string => `0x${((BigInt(hi) << 32n) | BigInt(lo)).toString(16)}`;

function vectors(set: Uint32Array): string {
  const found: string[] = [];
  for (let vector = 0; vector < 256; vector++) if ((set[vector >> 5] >>> (vector & 31)) & 1) found.push(hex(vector));
  return `{${found.join(', ')}}`;
}

/** Indices of the vCPUs that perform a step. */
export function performers(test: Case): Set<number> {
  const found = new Set<number>();
  for (let step = 0; step < test.length; step++) found.add(test.words[step * STEP_WORDS + STEP_VCPU]);
  return found;
}

const EXCEPTION_NAMES: Readonly<Record<number, string>> = {
  0: '#DE',
  1: '#DB',
  6: '#UD',
  8: '#DF',
  12: '#SS',
  13: '#GP',
  14: '#PF',
};

export function statusName(status: number): string {
  if (status === STATUS_NEXT) return 'next';
  if (status >= STATUS_NOT_RUN) return 'not run';
  if (status >= STATUS_ASLEEP) return status === STATUS_ASLEEP ? 'asleep' : 'stuck';
  const vector = status & ~STATUS_FAULT;
  return EXCEPTION_NAMES[vector] ?? `vector ${vector}`;
}

/** What a step is, without its values: 'wrmsr 0x830', 'hypercall 10'. */
export function stepName(test: Case, step: number): string {
  const at = step * STEP_WORDS;
  const op = test.words[at + STEP_OP];
  const first = test.words[at + STEP_ARGS];
  if (op === OP.call) return first < 16 ? `hypercall ${first}` : 'hypercall';
  if (op === OP.wrmsr || op === OP.rdmsr || op === OP.store || op === OP.load) return `${OP_NAMES[op]} ${hex(first)}`;
  return OP_NAMES[op];
}

/** Equal for equal finds. */
export function signatureOf(differences: readonly Difference[]): string {
  return [...new Set(differences.map(({ canonical }) => canonical))].join('; ');
}

// ---- cases and outcomes as JSON ----

export interface JsonStep {
  readonly op: OpName;
  readonly vcpu: number;
  readonly args: readonly string[];
}

/** Arguments of each operation by name, in the order of a, b, c, d, e; empty: not used. */
export const ARGUMENT_NAMES: Readonly<Record<OpName, readonly string[]>> = {
  wrmsr: ['msr', 'value'],
  rdmsr: ['msr'],
  call: ['rax', 'rbx', 'rcx', 'rdx', 'rsi'],
  store: ['offset', 'value'],
  load: ['offset'],
  icrStores: ['', 'value'],
  cr8: ['', 'value'],
  take: [],
  hlt: [],
};

export function caseToJson(test: Case): JsonStep[] {
  return Array.from({ length: test.length }, (_, step) => {
    const op = OP_NAMES[test.words[step * STEP_WORDS + STEP_OP]];
    const args = ARGUMENT_NAMES[op].map((_name, which) => `0x${test.arg(step, which).toString(16)}`);
    return { op, vcpu: test.words[step * STEP_WORDS + STEP_VCPU], args };
  });
}

/** One line of text per case, for corpora: hexadecimal words without trailing zeros. */
export function encodeCase(test: Case): string {
  const steps: string[] = [];
  for (let step = 0; step < test.length; step++) {
    const words = Array.from(test.words.subarray(step * STEP_WORDS, (step + 1) * STEP_WORDS), (word) =>
      word.toString(16),
    );
    while (words.length > 2 && words.at(-1) === '0') words.pop();
    steps.push(words.join(','));
  }
  return steps.join(';');
}

/** Reads what `encodeCase` wrote; undefined if it is nothing of the kind. */
export function decodeCase(text: string, test: Case): Case | undefined {
  const steps = text.split(';');
  if (steps.length * STEP_WORDS > test.words.length) return undefined;
  test.words.fill(0);
  test.length = steps.length;
  for (const [step, line] of steps.entries()) {
    const words = line.split(',').map((word) => (/^[0-9a-f]{1,8}$/.test(word) ? Number.parseInt(word, 16) : -1));
    if (words.length < 2 || words.length > STEP_WORDS || words.includes(-1) || words[0] >= OP_NAMES.length)
      return undefined;
    test.words.set(words, step * STEP_WORDS);
  }
  return test;
}
