/**
 * The instruction set as a table: GNU mnemonics to encodable forms, and register names, from the data of iced-x86.
 *
 * Loaded on first use: the library takes 20 ms, the index of mnemonics 10 ms, forms are described as they are asked for.
 */
import { createRequire } from 'node:module';
import type * as Iced from 'iced-x86';
import type { Register, RegisterClass } from './expression.ts';
import type { Bits } from './layout.ts';
import { own } from './own.ts';

/** One encoding of an instruction. */
export interface Form {
  /** Number and name of it in the encoder. */
  readonly code: number;
  readonly name: string;
  /** Operand kinds by the encoder's names (`r32_or_mem`, `imm8sex32`, …). */
  readonly kinds: readonly string[];
  /** Operand size in bits, 0 if the instruction has none. */
  readonly operandSize: number;
  /** Address size in bits, 0 if the memory operand decides or there is none. */
  readonly addressSize: number;
  /** Bytes of the memory operand, 0 if it has no size. */
  readonly memorySize: number;
  /** Modes in which it exists. */
  readonly modes: readonly Bits[];
  /** In 64-bit mode the operand size is 64 without REX.W. */
  readonly default64: boolean;
  /** LOCK may precede it if the destination is memory. */
  readonly lockable: boolean;
  /** Prefixes F3 (REP) and F2 (REPNE, BND) that may precede it. */
  readonly repeats: readonly number[];
  /** XACQUIRE or XRELEASE may precede it, as a rule together with LOCK. */
  readonly elidable: boolean;
  /** Among forms of one length the lower one is taken, as GNU as does: accumulator forms with an immediate come last. */
  readonly rank: number;
}

let library: typeof Iced | undefined;

/** The encoder library. */
export function iced(): typeof Iced {
  library ??= createRequire(import.meta.url)('iced-x86') as typeof Iced;
  return library;
}

/** Codes that never come from a mnemonic: other encodings of the same instruction, or none at all. */
const SKIPPED =
  /^(?:EVEX|MVEX|XOP|D3NOW|VEX_KNC|Declare|INVALID|Cmpxchg486|Bswap_r16|Reservednop|Prefetchreserved|Jmpe|Zero_bytes|Sal_)|_KNC/;

/** GNU names whose forms are those of other names in the encoder's table. */
const ALIASES: Readonly<Record<string, readonly string[]>> = {
  cbtw: ['cbw'],
  cltd: ['cdq'],
  cltq: ['cdqe'],
  cqto: ['cqo'],
  cwtd: ['cwd'],
  cwtl: ['cwde'],
  fwait: ['wait'],
  icebp: ['int1'],
  iret: ['iret', 'iretd', 'iretq'],
  loopnz: ['loopne'],
  loopz: ['loope'],
  lret: ['retf'],
  movsx: ['movsx', 'movsxd'],
  popa: ['popa', 'popad'],
  popf: ['popf', 'popfd', 'popfq'],
  pusha: ['pusha', 'pushad'],
  pushf: ['pushf', 'pushfd', 'pushfq'],
  sal: ['shl'],
  sysexitd: ['sysexit'],
  sysretd: ['sysret'],
  sysretl: ['sysret'],
  ud2a: ['ud2'],
  ud2b: ['ud1'],
  xlat: ['xlatb'],
};

/** Other names of condition codes. */
const CONDITIONS: Readonly<Record<string, string>> = {
  c: 'b',
  na: 'be',
  nae: 'b',
  nb: 'ae',
  nbe: 'a',
  nc: 'ae',
  ng: 'le',
  nge: 'l',
  nl: 'ge',
  nle: 'g',
  nz: 'ne',
  pe: 'p',
  po: 'np',
  z: 'e',
};

let codesByMnemonic: Map<string, string[]> | undefined;
const formsByMnemonic = new Map<string, readonly Form[]>();

function index(): Map<string, string[]> {
  if (codesByMnemonic !== undefined) return codesByMnemonic;
  const { Code, CodeExt, Mnemonic } = iced();
  const byMnemonic = new Map<string, string[]>();
  for (const name of Object.keys(Code)) {
    if ((name >= '0' && name <= '9z') || SKIPPED.test(name)) continue;
    const info = CodeExt.opCode(Code[name as keyof typeof Code]);
    const mnemonic = Mnemonic[info.mnemonic].toLowerCase();
    info.free();
    const codes = byMnemonic.get(mnemonic);
    if (codes === undefined) byMnemonic.set(mnemonic, [name]);
    else codes.push(name);
  }
  codesByMnemonic = byMnemonic;
  return byMnemonic;
}

/** Every mnemonic the table knows by itself, for suggestions. */
export function mnemonics(): string[] {
  return [...index().keys(), ...Object.keys(ALIASES)];
}

/** Forms of a mnemonic (lower case), in the encoder's order; undefined if there is no such instruction. */
export function formsOf(mnemonic: string): readonly Form[] | undefined {
  const known = formsByMnemonic.get(mnemonic);
  if (known !== undefined) return known;
  const names = (own(ALIASES, mnemonic) ?? [conditionName(mnemonic)]).flatMap((name) => index().get(name) ?? []);
  if (names.length === 0) return undefined;
  const forms = names.map(describeForm);
  formsByMnemonic.set(mnemonic, forms);
  return forms;
}

function conditionName(mnemonic: string): string {
  const parts = /^(j|set|cmov)(\w+)$/.exec(mnemonic);
  const condition = parts === null ? undefined : CONDITIONS[parts[2]];
  return condition === undefined ? mnemonic : parts![1] + condition;
}

/** Memory sizes that the names of the encoder's table do not spell out, in bytes. */
const MEMORY_SIZES: Readonly<Record<string, number>> = {
  WordOffset: 2,
  DwordOffset: 4,
  QwordOffset: 8,
  SegPtr16: 4,
  SegPtr32: 6,
  SegPtr64: 10,
  Fword6: 6,
  Fword10: 10,
  Float80: 10,
  Bcd: 10,
  Bound16_WordWord: 4,
  Bound32_DwordDword: 8,
};

/** Hints for a cache line: the size written does not matter. */
const HINTS = /^(?:Prefetch|Clflush|Clwb|Cldemote)/;

function memorySize(name: string): number {
  const known = MEMORY_SIZES[name];
  if (known !== undefined) return known;
  const bits = /^(?:Packed|UInt|Int|Float)(\d+)/.exec(name);
  return bits === null ? 0 : Number(bits[1]) / 8;
}

function describeForm(name: string): Form {
  const { Code, CodeExt, MemorySize, OpCodeOperandKind } = iced();
  const code = Code[name as keyof typeof Code];
  const info = CodeExt.opCode(code);
  const kinds = Array.from({ length: info.opCount }, (_, operand) => OpCodeOperandKind[info.opKind(operand)]);
  const modes = ([16, 32, 64] as const).filter((bits) => info.isAvailableInMode(bits));
  const accumulator = kinds.length > 1 && /^(al|ax|eax|rax)$/.test(kinds[0]) && kinds[1].startsWith('imm');
  const form: Form = {
    code,
    name,
    kinds,
    operandSize: info.operandSize,
    addressSize: info.addressSize,
    memorySize: HINTS.test(name) ? 0 : memorySize(MemorySize[info.memorySize]),
    modes,
    default64: info.defaultOpSize64,
    lockable: info.canUseLockPrefix,
    // REP RET is an idiom of compilers for old AMD processors.
    repeats: [
      ...(info.canUseRepPrefix || name.startsWith('Retn') ? [0xf3] : []),
      ...(info.canUseRepnePrefix || info.canUseBndPrefix ? [0xf2] : []),
    ],
    elidable: info.canUseXacquirePrefix || info.canUseXreleasePrefix,
    rank: accumulator ? 1 : 0,
  };
  info.free();
  return form;
}

const LEGACY = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];
let registersByName: Map<string, Register> | undefined;

function registers(): Map<string, Register> {
  if (registersByName !== undefined) return registersByName;
  const ids = iced().Register;
  const byName = new Map<string, Register>();
  const add = (name: string, kind: RegisterClass, encoded: number, id = name.toUpperCase()): void => {
    byName.set(name, { name, class: kind, number: encoded, id: ids[id as keyof typeof ids] });
  };
  for (const [encoded, name] of LEGACY.entries()) {
    add(name, 'r16', encoded);
    add(`e${name}`, 'r32', encoded);
    add(`r${name}`, 'r64', encoded);
  }
  for (const [encoded, name] of ['al', 'cl', 'dl', 'bl', 'ah', 'ch', 'dh', 'bh'].entries()) add(name, 'r8', encoded);
  for (const [place, name] of ['spl', 'bpl', 'sil', 'dil'].entries()) add(name, 'r8', place + 4);
  for (let encoded = 8; encoded < 16; encoded++) {
    add(`r${encoded}b`, 'r8', encoded, `R${encoded}L`);
    add(`r${encoded}w`, 'r16', encoded);
    add(`r${encoded}d`, 'r32', encoded);
    add(`r${encoded}`, 'r64', encoded);
  }
  for (const [encoded, name] of SEGMENTS.entries()) add(name, 'segment', encoded);
  for (let encoded = 0; encoded < 16; encoded++) {
    add(`cr${encoded}`, 'cr', encoded);
    add(`dr${encoded}`, 'dr', encoded);
    add(`xmm${encoded}`, 'xmm', encoded);
    add(`ymm${encoded}`, 'ymm', encoded);
    if (encoded > 7) continue;
    add(`st${encoded}`, 'st', encoded);
    add(`mm${encoded}`, 'mm', encoded);
  }
  add('eip', 'ip', 0);
  add('rip', 'ip', 0);
  registersByName = byName;
  return byName;
}

/** The register called `name` (any case), or undefined. `st(3)` is asked for as `st3`. */
export function registerNamed(name: string): Register | undefined {
  return registers().get(name.toLowerCase());
}

/** The general register with the same number as `register` and a width of 16, 32 or 64 bits. */
export function resized(register: Register, bits: number): Register {
  const { number: encoded } = register;
  if (encoded >= 8) return registerNamed(`r${encoded}${bits === 64 ? '' : bits === 32 ? 'd' : 'w'}`)!;
  return registerNamed((bits === 64 ? 'r' : bits === 32 ? 'e' : '') + LEGACY[encoded])!;
}

/** Whether a register exists in code of `bits`. */
export function existsIn(register: Register, bits: Bits): boolean {
  if (bits === 64) return true;
  if (register.class === 'r64' || register.class === 'ip') return false;
  if (register.class === 'cr') return true;
  return register.number < 8 && !/^(?:[sb]pl|[sd]il)$/.test(register.name);
}
