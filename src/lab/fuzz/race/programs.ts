/**
 * Small random programs of several vCPUs that send to each other, sleep, and change their local APICs, for a search through their
 * interleavings. Every vCPU has a few operations; before the first of them nobody depends on anybody, so that a search begins there.
 */
import { Random } from '../../../machine/scheduler.ts';
import type { Topology } from '../types.ts';

/** One operation of a vCPU. `target` and `targets` are indices of vCPUs, bit n of `targets` is vCPU n. */
export type RaceOp =
  | { readonly op: 'icr'; readonly low: number; readonly target: number }
  | { readonly op: 'hypercall'; readonly low: number; readonly targets: number }
  | { readonly op: 'kick'; readonly target: number }
  | { readonly op: 'sti' | 'cli' | 'take' | 'sleep' | 'eoi' | 'off' }
  | { readonly op: 'svr'; readonly on: boolean }
  | { readonly op: 'tpr'; readonly value: number }
  | { readonly op: 'store' | 'load'; readonly cell: number };

/** Operations by vCPU, and how each ends: asleep with interrupts off or on. */
export interface RaceProgram {
  readonly vcpus: readonly { readonly ops: readonly RaceOp[]; readonly end: 'off' | 'on' }[];
}

/** vCPU 0 waits at the reset vector behind an INIT: there is nothing. Only others get one. */
const VECTORS = [0x40, 0x41] as const;
const ICR_NMI = 0x400;
const ICR_INIT = 0x4500;
const ICR_STARTUP = 0x4600;
const ICR_SELF = 0x40000;
const ICR_ALL_BUT_SELF = 0xc0000;
const MOST_OPS = 4;
const CELLS = 2;

class Dice {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  below(n: number): number {
    return this.#random.next() % n;
  }

  one<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }
}

/** The program of a seed. */
export function generateRace(seed: number, vcpus: number): RaceProgram {
  const dice = new Dice(seed);
  return {
    vcpus: Array.from({ length: vcpus }, (_, index) => {
      const ops: RaceOp[] = [];
      let off = false;
      for (let left = 1 + dice.below(MOST_OPS); left > 0; left--) {
        const op = operation(dice, index, vcpus, off);
        if (op.op === 'off') off = true;
        ops.push(op);
      }
      return { ops, end: dice.below(3) === 0 ? 'off' : 'on' };
    }),
  };
}

/** With its APIC off a vCPU has no registers of it to write. */
function operation(dice: Dice, self: number, vcpus: number, off: boolean): RaceOp {
  const other = (): number => (self + 1 + dice.below(vcpus - 1)) % vcpus;
  const message = (): number => dice.one([...VECTORS, VECTORS[0], ICR_NMI]);
  const kinds = [
    'icr',
    'icr',
    'icr',
    'hypercall',
    'hypercall',
    'kick',
    'take',
    'sleep',
    'sleep',
    'sti',
    'cli',
    'store',
    'load',
  ];
  const own = ['svr', 'tpr', 'eoi', 'init', 'shorthand', 'off'];
  const kind = dice.one([...kinds, ...own]);
  switch (kind) {
    case 'icr':
      return off ? { op: 'take' } : { op: 'icr', low: message(), target: vcpus === 1 ? 0 : other() };
    case 'shorthand':
      return off
        ? { op: 'take' }
        : { op: 'icr', low: dice.one([ICR_SELF | VECTORS[0], ICR_ALL_BUT_SELF | message()]), target: 0 };
    case 'init': {
      const target = other();
      if (off || target === 0) return { op: 'store', cell: dice.below(CELLS) };
      return { op: 'icr', low: dice.one([ICR_INIT, ICR_STARTUP]), target };
    }
    case 'hypercall':
      return { op: 'hypercall', low: message(), targets: 1 + dice.below(2 ** vcpus - 1) };
    case 'kick':
      return { op: 'kick', target: other() };
    case 'svr':
      return off ? { op: 'take' } : { op: 'svr', on: dice.below(2) === 0 };
    case 'tpr':
      return off ? { op: 'take' } : { op: 'tpr', value: dice.one([0, 0x40, 0x50]) };
    case 'eoi':
      return off ? { op: 'take' } : { op: 'eoi' };
    case 'store':
    case 'load':
      return { op: kind, cell: dice.below(CELLS) };
    default:
      return { op: kind as 'take' };
  }
}

/** Removes one operation; undefined: there is none with this number. */
export function withoutOp(program: RaceProgram, number: number): RaceProgram | undefined {
  let at = number;
  for (const [index, { ops }] of program.vcpus.entries()) {
    if (at < ops.length) {
      return { vcpus: program.vcpus.with(index, { ...program.vcpus[index], ops: ops.toSpliced(at, 1) }) };
    }
    at -= ops.length;
  }
  return undefined;
}

export interface RaceSource {
  readonly source: string;
  /** Steps before the first operations, vCPU by vCPU. */
  readonly prefix: readonly number[];
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Source text of a program on a machine. `comment` is its first lines. */
export function raceSource(program: RaceProgram, topology: Topology, comment = 'A generated race.'): RaceSource {
  const { vcpus, apic, vendor } = topology;
  const ids = topology.ids ?? Array.from({ length: vcpus }, (_, index) => index);
  const x2apic = apic === 'x2apic';
  const call = vendor === 'amd' ? 'vmmcall' : 'vmcall';
  const settings = [
    `vcpus: ${vcpus}`,
    'aps: run',
    'mode: long64',
    'memory: 2M',
    `apic: ${apic}`,
    `vendor: ${vendor}`,
    ...(topology.ids === undefined ? [] : [`ids: ${ids.join(',')}`]),
  ];
  const register = (msr: number, value: string): string[] =>
    x2apic
      ? [`mov ecx, ${hex(0x800 + (msr >> 4))}`, `mov eax, ${value}`, 'xor edx, edx', 'wrmsr']
      : [`mov dword ptr [rbp+${hex(msr)}], ${value}`];
  const text = (op: RaceOp): string[] => {
    switch (op.op) {
      case 'icr': {
        const low = (op.low & 0x700) === 0x600 ? startup(op.low) : [`mov eax, ${hex(op.low)}`];
        const dest = ids[op.target];
        return x2apic
          ? ['mov ecx, 0x830', ...low, `mov edx, ${dest}`, 'wrmsr']
          : [...low, `mov dword ptr [rbp+0x310], ${hex((dest << 24) >>> 0)}`, 'mov [rbp+0x300], eax'];
      }
      case 'hypercall': {
        const targets = ids.filter((_, index) => (op.targets >> index) & 1);
        const min = Math.min(...targets);
        const mask = targets.reduce((sum, id) => (id - min < 64 ? sum | (1n << BigInt(id - min)) : sum), 0n);
        return [
          `mov rbx, 0x${mask.toString(16)}`,
          'xor ecx, ecx',
          `mov edx, ${min}`,
          `mov esi, ${hex(op.low)}`,
          'mov eax, 10',
          call,
          'add r15, rax',
        ];
      }
      case 'kick':
        return ['xor ebx, ebx', `mov ecx, ${ids[op.target]}`, 'mov eax, 5', call];
      case 'take':
        return ['sti', 'nop', 'cli'];
      case 'sleep':
        return ['sti', 'hlt', 'cli'];
      case 'sti':
      case 'cli':
        return [op.op];
      case 'eoi':
        return register(0xb0, '0');
      case 'svr':
        return register(0xf0, op.on ? '0x1ff' : '0xff');
      case 'tpr':
        return register(0x80, hex(op.value));
      case 'off':
        return ['mov ecx, 0x1b', 'rdmsr', 'and eax, ~0xc00', 'wrmsr'];
      case 'store':
        return [`inc qword ptr [rip+cell${op.cell}]`];
      case 'load':
        return [`add r15, [rip+cell${op.cell}]`];
    }
  };
  const lines: string[] = [
    ...comment.split('\n').map((line) => `# ${line}`.trimEnd()),
    '#',
    `# ${settings.join('   ')}`,
    '.include "race.inc"',
    '',
    ...Array.from({ length: CELLS }, (_, cell) => [`    .balign 64, 0`, `cell${cell}:  .quad 0`]).flat(),
    '    .code64',
    '_start:',
  ];
  const code = (...instructions: readonly string[]): void => {
    for (const instruction of instructions) lines.push(`    ${instruction}`);
  };
  const identify = x2apic ? ['mov ecx, 0x802', 'rdmsr'] : ['mov eax, [rbp+0x20]', 'shr eax, 24'];
  code('lidt [rip+race_idt_register]', 'mov ebp, XAPIC', ...identify);
  for (let index = 1; index < vcpus; index++) code(`cmp eax, ${ids[index]}`, `je vcpu${index}`);
  // Where a processor in real mode takes an NMI, once a start-up IPI has put one there.
  const ivt = ['lea eax, [rip+sipi_page]', 'shl eax, 12', 'add eax, sipi_nmi-sipi_page', 'mov [8], eax'];
  code(...ivt);
  for (const [index, { ops, end }] of program.vcpus.entries()) {
    if (index > 0) lines.push(`vcpu${index}:`);
    for (const op of ops) code(...text(op));
    // Whoever ends with interrupts off takes first what waits, NMIs that came behind an STI among it. A PV kick and an NMI end the sleep
    // whatever IF says.
    code(...(end === 'off' ? ['sti', 'nop', 'cli'] : ['sti']));
    lines.push('1:');
    code('hlt', 'jmp 1b');
  }
  // Handlers use registers that no operation uses.
  const eoi = x2apic ? register(0xb0, '0') : ['mov dword ptr [rbp+0xb0], 0'];
  const saved = x2apic ? ['mov r8, rax', 'mov r9, rcx', 'mov r10, rdx'] : [];
  const restored = x2apic ? ['mov rdx, r10', 'mov rcx, r9', 'mov rax, r8'] : [];
  for (const [name, counter] of [
    ['first', 'r12'],
    ['second', 'r13'],
  ]) {
    lines.push(`${name}:`);
    code(`inc ${counter}`, ...saved, ...eoi, ...restored, 'iretq');
  }
  lines.push('nmi:');
  code('inc r14', 'iretq');
  code('race_table nmi, first, second', '.balign 4096, 0', '.code16');
  lines.push('sipi_page:');
  code('hlt', 'jmp sipi_page');
  lines.push('sipi_nmi:');
  code('iret', '.code64');
  const steps = Array.from({ length: vcpus }, (_, index) =>
    index === 0 ? 4 + 2 * (vcpus - 1) + ivt.length : 4 + 2 * index,
  );
  return {
    source: `${lines.join('\n')}\n`,
    prefix: steps.flatMap((count, index) => new Array<number>(count).fill(index)),
  };
}

/** A start-up IPI names a page: the low byte is its number. */
const startup = (low: number): string[] => ['lea eax, [rip+sipi_page]', 'shr eax, 12', `or eax, ${hex(low)}`];
