/**
 * A case as source text of a guest program: the same steps as straight-line code. With steps of several vCPUs, or APICs that are not all
 * alike, every vCPU runs from the start, prepares itself, and waits for its turns.
 */
import { GENERAL_REGISTERS } from '../../cpu/registers.ts';
import { hex, performers } from './compare.ts';
import { type Case, OP, OP_NAMES, STEP_ARGS, STEP_OP, STEP_VCPU, STEP_WORDS, type Topology } from './types.ts';

const APIC_PAGE = 0xfee00000;
const CODE: Readonly<Record<Topology['mode'], string>> = {
  real16: '.code16',
  prot32: '.code32',
  compat32: '.code32',
  long64: '.code64',
};
/** Names of constants.inc. */
const HYPERCALLS: Readonly<Record<number, string>> = {
  1: 'KVM_HC_VAPIC_POLL_IRQ',
  5: 'KVM_HC_KICK_CPU',
  9: 'KVM_HC_CLOCK_PAIRING',
  10: 'KVM_HC_SEND_IPI',
  11: 'KVM_HC_SCHED_YIELD',
  12: 'KVM_HC_MAP_GPA_RANGE',
};
const MSRS: Readonly<Record<number, string>> = {
  27: 'IA32_APIC_BASE',
  2096: 'X2APIC_ICR',
  2059: 'X2APIC_EOI',
  2056: 'X2APIC_TPR',
  2063: 'X2APIC_SVR',
};
const INDENT = '    ';
const COMMENT_COLUMN = 40;
const WIDTH = 110;

/** How the program ends. `exit`: at once, before anybody else runs, so that what is pending is still pending. */
export type Ending = 'halt' | 'exit';

export interface ProgramText {
  /** Everything but the header. */
  readonly code: string;
  /** Header settings, without `kvm`. */
  readonly settings: string;
  /** Instructions of the program. */
  readonly instructions: number;
}

/** `memory`: bytes of RAM that the header asks for; absent: as many as any program has. */
export function programOf(test: Case, topology: Topology, ending: Ending, memory?: number): ProgramText {
  const lines = new Lines(topology);
  const alone = !unlike(topology) && [...performers(test)].every((vcpu) => vcpu === 0);
  const takes = steps(test).some((op) => op === OP.take || op === OP.hlt);
  lines.raw('.include "constants.inc"', '', `${INDENT}${CODE[topology.mode]}`);
  lines.label('_start');
  if (takes) lines.code('lidt [idt_register]', 'every handler only returns');
  if (alone) {
    for (let step = 0; step < test.length; step++) emitStep(lines, test, step);
    end(lines, test, ending);
  } else {
    emitAll(lines, test, topology, ending);
  }
  if (takes) idt(lines, topology);
  return { code: lines.text(), settings: settings(topology, alone, memory), instructions: lines.instructions };
}

/** Whether some APIC differs from the others. */
const unlike = ({ apic, softwareDisabled = [], hardwareDisabled = [] }: Topology): boolean =>
  apic === 'mixed' || softwareDisabled.length > 0 || hardwareDisabled.length > 0;

const steps = (test: Case): number[] =>
  Array.from({ length: test.length }, (_, step) => test.words[step * STEP_WORDS + STEP_OP]);

function settings(topology: Topology, alone: boolean, memory: number | undefined): string {
  const { vendor, vcpus, ids, mode, cpl, apic, aps, x2apicApi, enforcePvFeatures, pvFeatures, exitHypercalls } =
    topology;
  const pairs: [string, string | number | undefined][] = [
    ['vendor', vendor],
    ids === undefined ? ['vcpus', vcpus] : ['ids', ids.join(',')],
    ['memory', memory === undefined ? undefined : `${memory / 1024}K`],
    ['mode', mode],
    ['cpl', cpl === 3 ? 3 : undefined],
    ['apic', apic === 'mixed' ? 'xapic' : apic === 'x2apic' ? undefined : apic],
    ['aps', alone ? (aps === 'halted' ? undefined : 'wait-for-sipi') : 'run'],
    ['x2apic-api', x2apicApi === 0 ? undefined : x2apicApi],
    ['enforce-pv', enforcePvFeatures ? 'yes' : undefined],
    ['pv-features', pvFeatures === undefined ? undefined : hex(pvFeatures)],
    ['exit-hypercalls', exitHypercalls ? hex(exitHypercalls) : undefined],
  ];
  return pairs
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}: ${value}`)
    .join('   ');
}

/** Source lines, with what the registers of the vCPU at hand hold. */
class Lines {
  instructions = 0;
  readonly wide: boolean;
  readonly vmcall: string;
  /** Register by number → value; absent: not known. At the start every register but RSP is 0. */
  #known = new Map<number, bigint>();
  #zero = true;
  readonly #lines: string[] = [];

  constructor({ mode, vendor }: Topology) {
    this.wide = mode === 'long64';
    this.vmcall = vendor === 'intel' ? 'vmcall' : 'vmmcall';
  }

  text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  raw(...lines: string[]): void {
    this.#lines.push(...lines);
  }

  label(name: string): void {
    this.raw(`${name}:`);
  }

  code(text: string, comment = ''): void {
    this.instructions++;
    const line = `${INDENT}${text}`;
    this.raw(comment === '' ? line : `${line.padEnd(COMMENT_COLUMN)}# ${comment}`);
  }

  forget(...registers: number[]): void {
    for (const register of registers) this.#known.set(register, -1n);
  }

  forgetAll(): void {
    this.#known = new Map();
    this.#zero = false;
  }

  /** RAX is 0, RCX 1, RDX 2, RBX 3, RSI 6, RDI 7. */
  load(register: number, whole: bigint, comment = '', given = ''): void {
    const value = this.wide ? whole : BigInt.asUintN(32, whole);
    const name = given === '' ? hex64(value) : given;
    const known = this.#known.get(register) ?? (this.#zero ? 0n : -1n);
    if (known === value) return;
    this.#known.set(register, value);
    const name64 = GENERAL_REGISTERS[register].name;
    const narrow = value <= 0xffffffffn;
    this.code(`mov ${narrow ? name64.replace('r', 'e') : name64}, ${name}`, comment);
  }

  get pointer(): string {
    return this.wide ? 'rdi' : 'edi';
  }
}

const hex64 = (value: bigint): string => (value < 10n ? String(value) : `0x${value.toString(16)}`);

function emitStep(lines: Lines, test: Case, step: number): void {
  const at = step * STEP_WORDS;
  const first = test.words[at + STEP_ARGS];
  const lo = BigInt(test.words[at + STEP_ARGS + 2]);
  const hi = BigInt(test.words[at + STEP_ARGS + 3]);
  switch (OP_NAMES[test.words[at + STEP_OP]]) {
    case 'wrmsr':
      lines.load(1, BigInt(first), '', MSRS[first] ?? hex(first));
      lines.load(0, lo);
      lines.load(2, hi);
      lines.code('wrmsr');
      break;
    case 'rdmsr':
      lines.load(1, BigInt(first), '', MSRS[first] ?? hex(first));
      lines.code('rdmsr');
      lines.forget(0, 2);
      break;
    case 'call': {
      const nr = test.arg(step, 0);
      const mean =
        nr === 10n ? ['', 'bitmap', 'second bitmap', 'lowest APIC id', 'interrupt command'] : ['', '', '', '', ''];
      for (const [which, register] of [0, 3, 1, 2, 6].entries()) {
        if (which === 0) lines.load(register, nr, '', HYPERCALLS[Number(nr)]);
        else lines.load(register, test.arg(step, which), mean[which]);
      }
      lines.code(lines.vmcall);
      lines.forget(0);
      break;
    }
    case 'store':
      lines.load(7, BigInt(APIC_PAGE + first));
      lines.code(`mov dword ptr [${lines.pointer}], ${hex64(lo)}`);
      break;
    case 'load':
      lines.load(7, BigInt(APIC_PAGE + first));
      lines.code(`mov eax, [${lines.pointer}]`);
      lines.forget(0);
      break;
    case 'icrStores':
      lines.load(7, BigInt(APIC_PAGE));
      lines.code(`mov dword ptr [${lines.pointer}+0x310], ${hex64(hi)}`);
      lines.code(`mov dword ptr [${lines.pointer}+0x300], ${hex64(lo)}`);
      break;
    case 'cr8':
      lines.load(0, test.arg(step, 1));
      lines.code('mov cr8, rax');
      break;
    case 'take':
      for (const text of ['sti', 'nop', 'cli']) lines.code(text);
      break;
    case 'hlt':
      for (const text of ['sti', 'hlt', 'cli']) lines.code(text);
      break;
  }
}

function end(lines: Lines, test: Case, ending: Ending): void {
  if (ending === 'halt') {
    lines.code('hlt');
    return;
  }
  const last = test.words[(test.length - 1) * STEP_WORDS + STEP_OP];
  if (last !== OP.call) lines.load(0, 0n);
  lines.code('out EXIT_PORT, al', 'ends the run before anybody else acts on what is pending');
}

/** Every vCPU runs: it prepares its APIC, says so, and performs its steps when it is their turn. */
function emitAll(lines: Lines, test: Case, topology: Topology, ending: Ending): void {
  const ids = topology.ids ?? Array.from({ length: topology.vcpus }, (_, index) => index);
  const performing = performers(test);
  const own = (vcpu: number): boolean => performing.has(vcpu) || prepares(topology, vcpu);
  lines.load(0, 0xbn);
  lines.load(1, 0n);
  lines.code('cpuid', 'EDX is the own APIC id');
  for (let vcpu = 0; vcpu < topology.vcpus; vcpu++) {
    if (!own(vcpu)) continue;
    lines.code(`cmp edx, ${hex(ids[vcpu])}`);
    lines.code(`je vcpu${vcpu}`);
  }
  if (!own(0)) {
    lines.code(`cmp edx, ${hex(ids[0])}`);
    lines.code('je vcpu0');
  }
  lines.code('lock inc dword ptr [ready]');
  lines.label('sleep');
  lines.code('hlt');
  lines.code('jmp sleep');
  for (let vcpu = topology.vcpus - 1; vcpu >= 0; vcpu--) {
    if (vcpu !== 0 && !own(vcpu)) continue;
    lines.label(`vcpu${vcpu}`);
    lines.forgetAll();
    prepare(lines, topology, vcpu);
    if (vcpu > 0) lines.code('lock inc dword ptr [ready]');
    else if (topology.vcpus > 1) waitFor(lines, 'ready', topology.vcpus - 1);
    // vCPU 0 says when the steps begin.
    if (vcpu === 0) lines.code('inc dword ptr [turn]');
    turns(lines, test, vcpu);
    if (vcpu > 0) lines.code('jmp sleep');
    else {
      waitFor(lines, 'turn', switches(test) + 2);
      end(lines, test, ending);
    }
  }
  lines.raw(`${INDENT}.balign 4, 0`, 'ready:  .long 0', 'turn:   .long 0');
}

function waitFor(lines: Lines, word: string, value: number): void {
  lines.label('1');
  lines.code('pause');
  lines.code(`cmp dword ptr [${word}], ${value}`);
  lines.code('jne 1b');
}

/** How often the turn goes from one vCPU to another. */
function switches(test: Case): number {
  let count = 0;
  for (let step = 1; step < test.length; step++) if (vcpuOf(test, step) !== vcpuOf(test, step - 1)) count++;
  return count;
}

const vcpuOf = (test: Case, step: number): number => test.words[step * STEP_WORDS + STEP_VCPU];

function turns(lines: Lines, test: Case, vcpu: number): void {
  let turn = 1;
  for (let step = 0; step < test.length; step++) {
    if (step > 0 && vcpuOf(test, step) !== vcpuOf(test, step - 1)) turn++;
    if (vcpuOf(test, step) !== vcpu) continue;
    if (step === 0 || vcpuOf(test, step - 1) !== vcpu) waitFor(lines, 'turn', turn);
    emitStep(lines, test, step);
    if (step === test.length - 1 || vcpuOf(test, step + 1) !== vcpu) lines.code('inc dword ptr [turn]');
  }
}

const isOff = (topology: Topology, vcpu: number): boolean => (topology.hardwareDisabled ?? []).includes(vcpu);
const isSoft = (topology: Topology, vcpu: number): boolean => (topology.softwareDisabled ?? []).includes(vcpu);
const toX2apic = ({ apic }: Topology, vcpu: number): boolean => apic === 'mixed' && vcpu % 2 === 1;
const prepares = (topology: Topology, vcpu: number): boolean =>
  isOff(topology, vcpu) || isSoft(topology, vcpu) || toX2apic(topology, vcpu);

function prepare(lines: Lines, topology: Topology, vcpu: number): void {
  const bsp = (topology.ids?.[vcpu] ?? vcpu) === 0 ? 0x100n : 0n;
  const base = (bits: bigint): void => {
    lines.load(1, 0x1bn, '', 'IA32_APIC_BASE');
    lines.load(0, BigInt(APIC_PAGE) | bits | bsp);
    lines.load(2, 0n);
    lines.code('wrmsr');
  };
  const x2apic = topology.apic === 'x2apic' || toX2apic(topology, vcpu);
  if (toX2apic(topology, vcpu)) base(0xc00n);
  if (isSoft(topology, vcpu)) {
    if (x2apic) {
      lines.load(1, 0x80fn, '', 'X2APIC_SVR');
      lines.load(0, 0xffn);
      lines.load(2, 0n);
      lines.code('wrmsr');
    } else {
      lines.load(7, BigInt(APIC_PAGE + 0xf0));
      lines.code(`mov dword ptr [${lines.pointer}], 0xff`);
    }
  }
  if (isOff(topology, vcpu)) base(0n);
}

/** Gates whose handler only returns, for interrupts and NMIs. */
function idt(lines: Lines, { mode }: Topology): void {
  lines.raw(`${INDENT}.balign 16, 0`);
  lines.label('handler');
  if (mode === 'long64' || mode === 'compat32') lines.raw(`${INDENT}.code64`, `${INDENT}iretq`);
  else lines.raw(mode === 'real16' ? `${INDENT}iret` : `${INDENT}iretd`);
  lines.raw(`${INDENT}.balign 16, 0`);
  lines.label('idt');
  const gate =
    mode === 'real16'
      ? '.word handler, 0'
      : mode === 'prot32'
        ? '.word handler, 0x18, 0x8e00, 0'
        : '.word handler, 0x08, 0x8e00, 0, 0, 0, 0, 0';
  lines.raw(`${INDENT}.rept 256`, `${INDENT}${gate}`, `${INDENT}.endr`);
  lines.label('idt_register');
  lines.raw(`${INDENT}.word ${256 * (mode === 'real16' ? 4 : mode === 'prot32' ? 8 : 16) - 1}`, `${INDENT}.quad idt`);
}

/** Text as comment lines; none of them looks like a header line. */
export function commentOf(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + word.length + 1 > WIDTH) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  lines.push(line);
  return lines.map((each) => (/^[A-Za-z][\w-]*(\[[^\]]*\])?\s*:/.test(each) ? `#   ${each}` : `# ${each}`)).join('\n');
}
