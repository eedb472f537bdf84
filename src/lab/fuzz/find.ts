/**
 * From a failing case to a find: the smallest case, the switch of `eras.ts` that explains it, a guest program whose expectations hold on one
 * side and not on the other, and a paragraph of plain words.
 */
import { type Era, SWITCHES, type SwitchName } from '../../kvm/eras.ts';
import type { LapicView, RunResult, VcpuView } from '../../machine/types.ts';
import { showVectors } from '../expect.ts';
import { openProgram, runProgram } from '../open.ts';
import { type Difference, stepName } from './compare.ts';
import { memoryOf } from './model-target.ts';
import { commentOf, type ProgramText, programOf } from './program.ts';
import { Case, MAX_STEPS, OP, STEP_ARGS, STEP_OP, STEP_WORDS, type Topology } from './types.ts';

/** Expectations of one program, and of each side's registers. */
const MOST_EXPECTATIONS = 8;

/** The two sides of a find as far as they are eras; the second absent: the first breaks a rule by itself. */
export interface Sides {
  readonly kvm: string;
  readonly against?: string;
}

export interface ProgramOfFind {
  /** Complete source text. */
  readonly source: string;
  readonly instructions: number;
  /** The expectations hold on the first side and not on the second. */
  readonly distinguishes: boolean;
}

/** Names of switches in which two eras differ. */
export function differingSwitches(a: Era, b: Era): SwitchName[] {
  return SWITCHES.map(({ name }) => name).filter((name) => a[name] !== b[name]);
}

/** The era `kvm` with one switch as in `against`. */
export const eraWith = (kvm: string, name: SwitchName, against: string): string => `${kvm}+${name}@${against}`;

/**
 * A program that shows the case; ways of ending and of showing a difference are tried. Where addresses beyond the RAM of the case's VM
 * make the difference, so does the program's header.
 */
export async function findProgram(
  test: Case,
  topology: Topology,
  sides: Sides,
  words: string,
  differences: readonly Difference[],
): Promise<ProgramOfFind> {
  let best: ProgramOfFind | undefined;
  const cases = [test, readingBack(test, topology, differences)].filter((one) => one !== undefined);
  for (const memory of [undefined, memoryOf(topology)]) {
    for (const shown of cases) {
      for (const ending of ['halt', 'exit'] as const) {
        const text = programOf(shown, topology, ending, memory);
        const program = await tryProgram(text, shown, sides, words);
        if (program.distinguishes) return program;
        best ??= program;
      }
    }
  }
  return best as ProgramOfFind;
}

/** The case with a read of an APIC register of vCPU 0 that differs and that expectations have no name for. */
function readingBack(test: Case, topology: Topology, differences: readonly Difference[]): Case | undefined {
  const [, register] =
    differences.map(({ field }) => /^vcpu 0 register (0x[0-9a-f]+)$/.exec(field)).find(Boolean) ?? [];
  if (register === undefined || test.length === MAX_STEPS) return undefined;
  const copy = new Case();
  copy.assign(test);
  const at = copy.length * STEP_WORDS;
  copy.words.fill(0, at, at + STEP_WORDS);
  copy.words[at + STEP_OP] = topology.apic === 'x2apic' ? OP.rdmsr : OP.load;
  copy.words[at + STEP_ARGS] = topology.apic === 'x2apic' ? 0x800 + (Number(register) >> 4) : Number(register);
  copy.length++;
  return copy;
}

async function tryProgram(text: ProgramText, test: Case, sides: Sides, words: string): Promise<ProgramOfFind> {
  const bare = sourceOf(text, sides, words, []);
  const [run, other] = [
    await runSource(bare, sides.kvm),
    sides.against === undefined ? undefined : await runSource(bare, sides.against),
  ];
  const mine = subjectsOf(run, test);
  const theirs = other === undefined ? undefined : new Map(subjectsOf(other, test));
  const distinguishing = mine.filter(([subject, value]) => theirs !== undefined && theirs.get(subject) !== value);
  const telling = mine.filter(([subject, value]) => PLAIN.test(subject) && !NOTHING.has(value));
  const chosen = theirs === undefined ? telling : distinguishing;
  const lines = chosen.slice(0, MOST_EXPECTATIONS).map(([subject, value]) => `${subject} = ${value}`);
  // How it ends belongs to every program.
  if (!lines.some((line) => line.startsWith('end = '))) lines.unshift(`end = ${endOf(run)}`);
  return {
    source: sourceOf(text, sides, words, lines),
    instructions: text.instructions,
    distinguishes: theirs === undefined || distinguishing.length > 0,
  };
}

/** Without a second side: what a reader looks at first, unless nothing is there. */
const PLAIN = /^(rax|bug|vcpu.*\.(irr|isr|tmr|nmi|smi|init|sipi|icr))$/;
const NOTHING: ReadonlySet<string> = new Set(['{}', '0', '0x0', 'none']);

function sourceOf(
  { code, settings }: ProgramText,
  { kvm }: Sides,
  words: string,
  expectations: readonly string[],
): string {
  // The first comment line is the program's title.
  const [, title, rest] = /^(.{1,100}?\.) (.*)$/s.exec(words) ?? [];
  const header = [
    ...(title === undefined ? [commentOf(words)] : [commentOf(title), '#', commentOf(rest)]),
    '#',
    `# kvm: ${baseName(kvm)}   ${settings}`,
    ...expectations.map((line) => `# expect: ${line}`),
  ];
  return `${header.join('\n')}\n${code}`;
}

const baseName = (era: string): string => era.replace(/\+.*/, '');

const FILE = 'find.S';

async function runSource(source: string, kvm: string): Promise<RunResult> {
  const outcome = await runProgram(openProgram(FILE, { source }), { kvm });
  outcome.vm.dispose();
  return outcome.run;
}

/** The end as the header writes it. */
function endOf({ end }: RunResult): string {
  return end.kind === 'exit' ? `exit ${end.status}` : end.kind;
}

/** Everything an expectation could say of a run, in the order in which it is most telling. */
function subjectsOf(run: RunResult, test: Case): [string, string][] {
  const { end } = run;
  const subjects: [string, string][] = [['end', endOf(run)]];
  if (end.kind === 'host-bug') return [...subjects, ['bug', end.cve ?? end.bug]];
  const last = test.words[(test.length - 1) * STEP_WORDS + STEP_OP];
  if (last === OP.call || last === OP.rdmsr || last === OP.load) {
    subjects.push(['rax', signed(run.vcpus[0].registers.rax)]);
    if (last === OP.rdmsr) subjects.push(['rdx', signed(run.vcpus[0].registers.rdx)]);
  }
  for (const vcpu of run.vcpus) subjects.push(...vcpuSubjects(vcpu));
  const verdict = run.exits.findLast((exit) => exit.fastpath !== undefined)?.fastpath;
  if (writesMsr(test)) subjects.push(['fastpath', String(run.counters.fastpath)]);
  if (verdict !== undefined) {
    subjects.push(['fastpath.reason', JSON.stringify(verdict.reason)]);
    if (verdict.completion !== undefined) subjects.push(['fastpath.completion', verdict.completion]);
  }
  return subjects;
}

const writesMsr = (test: Case): boolean =>
  Array.from({ length: test.length }, (_, step) => test.words[step * STEP_WORDS + STEP_OP]).includes(OP.wrmsr);

function vcpuSubjects({
  index,
  mpState,
  nmiPending,
  smiPending,
  initPending,
  sipiPending,
  lapic,
}: VcpuView): [string, string][] {
  const of = (name: string): string => `vcpu[${index}].${name}`;
  return [
    ...(['irr', 'isr', 'tmr'] as const).map((name): [string, string] => [of(name), setText(lapic[name])]),
    [of('nmi'), String(nmiPending)],
    [of('smi'), smiPending ? '1' : '0'],
    [of('init'), initPending ? '1' : '0'],
    [of('sipi'), sipiPending === null ? 'none' : `0x${sipiPending.toString(16)}`],
    [of('mp'), mpState],
    ...lapicSubjects(lapic).map(([name, value]): [string, string] => [of(name), value]),
  ];
}

const lapicSubjects = ({ mode, icr, tpr, svr, ldr, id, apicBase }: LapicView): [string, string][] => [
  ['apic', mode],
  ['icr', `0x${icr.toString(16)}`],
  ['tpr', `0x${tpr.toString(16)}`],
  ['svr', `0x${svr.toString(16)}`],
  ['ldr', `0x${ldr.toString(16)}`],
  ['apicid', String(id)],
  ['apicbase', `0x${apicBase.toString(16)}`],
];

const setText = (vectors: readonly number[]): string => showVectors(vectors);

/** Small negative numbers as such. */
function signed(value: bigint): string {
  const number = BigInt.asIntN(64, value);
  return number < 0n && number > -4096n ? String(number) : `0x${value.toString(16)}`;
}

// ---- words ----

export interface Story {
  readonly kind: 'difference' | 'host bug' | 'invariant';
  /** What differs, or which rule is broken, or which bug. */
  readonly what: string;
  readonly names: readonly [string, string | undefined];
  readonly switches: readonly SwitchName[];
  readonly test: Case;
  readonly topology: Topology;
  readonly differences: readonly Difference[];
}

/** One paragraph. */
export function storyOf({ kind, what, names, switches, test, topology, differences }: Story): string {
  const [a, b] = names;
  const parts: string[] = [];
  const does = Array.from({ length: test.length }, (_, step) => stepName(test, step)).join(', then ');
  if (kind === 'host bug') parts.push(`In ${a} the guest brings the host down: ${what}.`);
  else if (kind === 'invariant') parts.push(`${a} breaks a rule that holds in every version: ${what}.`);
  else parts.push(`${a} and ${b} differ after ${does}.`);
  if (kind === 'host bug') parts.push(`What it does: ${does}.`);
  for (const { field, sides } of differences.slice(0, 4)) {
    if (field === 'end' && kind === 'host bug') continue;
    parts.push(`${nameOf(field)} is ${show(sides[0])} in ${a} and ${show(sides[1])} in ${b}.`);
  }
  for (const name of switches) {
    const info = SWITCHES.find((each) => each.name === name);
    if (info === undefined) continue;
    const change = info.changes
      .map(
        ({ since, commit }, i) =>
          `${i === 0 ? 'since' : 'changed again in'} ${since}${commit === '' ? '' : ` (${commit})`}`,
      )
      .join(', ');
    parts.push(`It is the switch ${name}, ${change}: ${info.description}.`);
  }
  if (kind !== 'invariant' && b !== undefined && switches.length === 0)
    parts.push('No single switch between the two versions explains it.');
  const who = topology.ids === undefined ? `${topology.vcpus} vCPUs` : `vCPU ids ${topology.ids.join(', ')}`;
  parts.push(
    `Seen with ${who}, ${topology.apic === 'none' ? 'no local APICs in the kernel' : topology.apic}, ${topology.mode}, CPL ${topology.cpl}.`,
  );
  return parts.join(' ');
}

/** A field at the beginning of a sentence. */
const nameOf = (field: string): string =>
  field
    .replace(/^(step \d+) ends$/, 'the end of $1')
    .replace(/\b(irr|isr|tmr|icr2?|nmi|smi|init|sipi|mp|cs|apic base)$/, (name) => name.toUpperCase())
    .replace(/^[a-z]/, (letter) => letter.toUpperCase())
    .replace(/^Vcpu/, 'vCPU');

const show = (value: unknown): string => (value === '' ? 'fine' : String(value));
