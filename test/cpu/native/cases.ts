/**
 * Cases for comparisons with a processor, drawn from the rows of the opcode table: a new row is covered as soon as it exists.
 *
 * A case is one instruction (or a short sequence without branches but a last Jcc) with prefixes, operands and register values chosen so that
 * most memory operands hit mapped memory and some do not. A seed gives the same cases everywhere.
 */
import { Decoder, Mnemonic } from 'iced-x86';
import { OPCODES, type OpcodeRow } from '../../../src/cpu/opcodes.ts';
import {
  BITS,
  CODE,
  CODE_BYTES,
  CODE16,
  COMPAT32,
  DATA,
  DATA_BYTES,
  FS_BASE,
  GS_BASE,
  type Image,
  LONG,
  type Mode,
  type NativeCase,
  PAGE,
  type Poke,
  READONLY,
  SEGMENTS16,
  STACK,
} from './layout.ts';

// ---- the table ----

const FLAG: Readonly<Record<string, number>> = { CF: 1, PF: 4, AF: 0x10, ZF: 0x40, SF: 0x80, OF: 0x800 };
const ARITHMETIC = 0x8d5;
const DF = 0x400;
const NT = 0x4000;
const ID = 0x200000;

/** A row of the table, taken apart. */
export interface Form {
  readonly row: OpcodeRow;
  /** 0F first if the opcode has two bytes. */
  readonly opcode: readonly number[];
  /** `+r`. */
  readonly inOpcode: boolean;
  /** `/n`. */
  readonly group: number | undefined;
  readonly only: 'm' | 'r' | undefined;
  /** The whole ModRM byte, for rows like 0F 01 C1. */
  readonly modrm: number | undefined;
  readonly operands: readonly string[];
  readonly handler: string;
  readonly byte: boolean;
  readonly lock: boolean;
  readonly nearBranch: boolean;
  readonly d64: boolean;
  readonly np: boolean;
  readonly undefinedFlags: readonly { readonly flag: number; readonly rule: '' | '>1' | '>=n' }[];
}

function formOfRow(row: OpcodeRow): Form {
  const first = row.operands.find((operand) => !'I1'.includes(operand[0] as string)) ?? '';
  const undefinedFlags = row.attributes
    .filter((a) => a.startsWith('u:'))
    .flatMap((a) => a.slice(2).split(','))
    .map((item) => {
      const [, name = '', rule = ''] = /^([A-Z]F)(>1|>=n)?$/.exec(item) ?? [];
      if (!(name in FLAG)) throw new Error(`opcode ${row.opcode}: unknown undefined flag ${item}`);
      return { flag: FLAG[name] as number, rule: rule as '' | '>1' | '>=n' };
    });
  const { inOpcode, group, only, modrm, operands, handler } = row;
  return {
    row,
    opcode: row.map === '' ? [row.byte] : [0x0f, row.byte],
    inOpcode,
    group,
    only,
    modrm,
    operands,
    handler,
    byte: first.endsWith('b') && !first.startsWith('J'),
    lock: row.attributes.includes('lock'),
    nearBranch: row.attributes.includes('f64') && operands.every((operand) => !/^[CDR]/.test(operand)),
    d64: row.attributes.includes('d64'),
    np: row.prefix === 'NP',
    undefinedFlags,
  };
}
export const FORMS: readonly Form[] = OPCODES.filter(
  (row) => !row.vex && row.map.length < 4 && /^(NP)?$/.test(row.prefix),
).map(formOfRow);

/** Handlers that are not run on the processor, and why. */
export const LEFT_OUT: Readonly<Record<string, string>> = {
  POP_SEG: 'changes the segments of the runner',
  MOV_SE: 'changes the segments of the runner',
  LOAD_FAR: 'changes the segments of the runner',
  CALL_FAR_P: 'far transfer',
  CALL_FAR_M: 'far transfer',
  JMP_FAR_P: 'far transfer',
  JMP_FAR_M: 'far transfer',
  RETF: 'far transfer',
  IRET: 'far transfer',
  INT: 'system calls',
  INT1: 'looks like the single-step trap',
  SYSCALL: 'system calls',
  SYSENTER: 'system calls',
  VMCALL: 'calls the hypervisor',
  VMMCALL: 'calls the hypervisor',
  CPUID: 'depends on the processor',
  RDTSC: 'depends on time',
  RDTSCP: 'depends on time',
  SLDT: 'the kernel emulates it under UMIP',
  STR: 'the kernel emulates it under UMIP',
  SGDT: 'the kernel emulates it under UMIP',
  SIDT: 'the kernel emulates it under UMIP',
  SMSW: 'the kernel emulates it under UMIP',
  SYSEXIT: 'depends on the vendor',
  X87: 'not in the core',
  RDRAND: 'random',
};
/** Handlers that make several accesses. */
const PARTIAL = new Set(['PUSHA', 'POPA', 'ENTER']);
/** CMPS reads both operands before it compares, in an order that differs by processor; SCAS has the second operand alone. */
const secondOperand = (form: Form, bytes: readonly number[]): number[] | undefined =>
  form.handler === 'CMPS' ? [...bytes.slice(0, -1), (bytes.at(-1) as number) + 8] : undefined;
/** Handlers that end in #GP(0) at CPL 3, whatever their operands. */
const PRIVILEGED = new Set(
  'HLT RDMSR WRMSR MOV_RC MOV_CR MOV_RD MOV_DR CLTS LGDT LIDT LLDT LTR LMSW INVLPG INVD WBINVD SWAPGS SYSRET IN_I IN_DX OUT_I OUT_DX INS OUTS CLI STI'.split(
    ' ',
  ),
);
/** Handlers that look a selector up; only those of the model's GDT are the kernel's too. */
const SELECTORS = new Set(['LAR', 'LSL', 'VERR', 'VERW']);
const STRINGS = new Set(['MOVS', 'CMPS', 'STOS', 'LODS', 'SCAS', 'INS', 'OUTS']);
/** Turns of rows whose behaviour has more to it than one turn in a round would show. */
const WEIGHTS: Readonly<Record<string, number>> = {
  ...{ MOVS: 8, CMPS: 6, STOS: 6, SCAS: 6, LODS: 3 },
  ...{ DIV_E: 4, IDIV_E: 6, MUL_E: 2, IMUL_E: 2, SHIFT_EI: 2, SHIFT_ECL: 2 },
  ...{ SHLD_I: 3, SHLD_CL: 3, SHRD_I: 3, SHRD_CL: 3 },
  ...{ CMPXCHG: 2, CMPXCHG8B: 6, ENTER: 4, LEAVE: 2, BOUND: 3, BT_EG: 2, PUSHA: 2, POPA: 2, PUSHF: 2, POPF: 3 },
};
/** Handlers whose instructions may follow one another in a sequence. */
const SEQUENTIAL = new Set(
  'ALU_EG ALU_GE ALU_EI TEST_EG TEST_EI MOV_EG MOV_GE MOV_EI LEA XCHG_EG XCHG_ZA INC_E DEC_E NOT_E NEG_E MUL_E IMUL_E IMUL_GE IMUL_GEI SHIFT_EI SHIFT_ECL SHLD_I SHRD_I PUSH_E PUSH_I SAHF LAHF CBW CWD MOVZX MOVSX SETCC CMOVCC BT_EI BSF BSR BSWAP XADD CMPXCHG CLC STC CMC NOP PUSHF DAA DAS AAA AAS AAD'.split(
    ' ',
  ),
);

/** The rows that comparisons use in a mode. */
export function formsOf(mode: Mode): Form[] {
  return FORMS.filter((form) => {
    if (form.handler in LEFT_OUT) return false;
    return !form.row.attributes.includes(mode === LONG ? 'i64' : 'o64');
  });
}

/** The flags that `form` leaves undefined with this shift count (undefined: not known) and log2 of its operand size. */
export function undefinedFlags(form: Form, count: number | undefined, size: number): number {
  if (count === 0) return 0;
  let flags = 0;
  for (const { flag, rule } of form.undefinedFlags) {
    if (rule === '' || count === undefined || (rule === '>1' ? count > 1 : count >= 8 << size)) flags |= flag;
  }
  return flags;
}

// ---- random values ----

/** sfc32: small, fast, and the same everywhere. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d = 1;
  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = 0x9e3779b9;
    this.#c = 0x243f6a88;
    for (let i = 0; i < 16; i++) this.u32();
  }
  u32(): number {
    const t = (this.#a + this.#b + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + t) | 0;
    return t >>> 0;
  }
  below(n: number): number {
    return Math.floor((this.u32() / 2 ** 32) * n);
  }
  /** True with probability 1 / n. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
}

const canonical = (address: bigint): boolean => BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
const M64 = 0xffffffffffffffffn;
const EDGES = [
  0n,
  1n,
  2n,
  3n,
  0x0fn,
  0x10n,
  0x7fn,
  0x80n,
  0x81n,
  0xfen,
  0xffn,
  0x100n,
  0x7fffn,
  0x8000n,
  0x8001n,
  0xffffn,
  0x10000n,
  0x7fffffffn,
  0x80000000n,
  0x80000001n,
  0xffffffffn,
  0x100000000n,
  0x7fffffffffffffffn,
  0x8000000000000000n,
  0x8000000000000001n,
  M64,
  M64 - 1n,
  0xaaaaaaaaaaaaaaaan,
  0x5555555555555555n,
  0x0099009900990099n,
];

/** Contents of memory: random bytes, and runs of equal ones for the string instructions. */
export function makeImage(seed: number): Image {
  const random = new Random(seed);
  const data = new Uint8Array(DATA_BYTES);
  for (let i = 0; i < DATA_BYTES; i++) data[i] = random.u32();
  data.fill(0, 0x300, 0x4c0);
  data.fill(0x41, 0x800, 0xa00);
  data.fill(0xff, 0x1100, 0x1180);
  for (let i = 0; i < 0x200; i++) data[0x1400 + i] = i & 7;
  const other = (): Uint8Array => Uint8Array.from({ length: PAGE }, () => random.u32());
  return { data, readonly: other(), stack: other() };
}

const RSP = 4;
const RBP = 5;

/** An instruction under construction, over the registers of its case. */
class Draft {
  readonly random: Random;
  readonly mode: Mode;
  readonly form: Form;
  readonly registers: BigUint64Array;
  readonly pokes: Poke[] = [];
  /** Registers whose value is settled. */
  fixed: number;
  /** In a sequence: what operands may name, and what addresses may be built from. */
  readonly pool: readonly number[];
  readonly bases: readonly number[];

  rex = 0;
  /** log2 of the operand size. */
  size = 0;
  addressSize: 16 | 32 | 64 = 64;
  segment: number | undefined;
  /** Value for the E operand, if its handler wants a certain one. */
  wanted: bigint | undefined;
  count: number | undefined;
  skip = false;
  undefinedBits: { register: number; bits: bigint } | undefined;
  ripRelative = 0;
  ripAt = -1;

  constructor(random: Random, mode: Mode, form: Form, registers: BigUint64Array, fixed: number, sequence: boolean) {
    this.random = random;
    this.mode = mode;
    this.form = form;
    this.registers = registers;
    this.fixed = fixed;
    const all = mode === LONG ? [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] : [0, 1, 2, 3, 4, 5, 6, 7];
    this.pool = sequence ? all.filter((n) => n < 4 || (n >= 8 && n < 12)) : all;
    this.bases = sequence ? all.filter((n) => n === 5 || n === 6 || n === 7 || n >= 12) : all;
  }

  value(): bigint {
    const r = this.random;
    switch (r.below(9)) {
      case 0:
        return r.pick(EDGES);
      case 1:
        return 1n << BigInt(r.below(64));
      case 2:
        return (1n << BigInt(r.below(64))) - 1n;
      case 3:
        return M64 ^ ((1n << BigInt(r.below(64))) - 1n);
      case 4:
        return BigInt(r.u32());
      case 5:
        return BigInt(r.below(256)) * 0x0101010101010101n;
      case 6:
        return BigInt(r.below(64));
      default:
        return r.u64();
    }
  }
  set(register: number, value: bigint): void {
    this.registers[register] = BigInt.asUintN(64, value);
    this.fixed |= 1 << register;
  }
  /** Writes the low bits of a register, leaving what is there above them. */
  setLow(register: number, bits: number, value: bigint): void {
    const mask = (1n << BigInt(bits)) - 1n;
    this.set(register, ((this.registers[register] as bigint) & ~mask) | (value & mask));
  }
  isFixed(register: number): boolean {
    return (this.fixed & (1 << register)) !== 0;
  }
  get bits(): number {
    return 8 << this.size;
  }

  // ---- addresses ----

  base(segment: number): number {
    if (this.mode === CODE16) return segment < 4 ? (SEGMENTS16[segment] as { base: number }).base : 0;
    if (this.mode === LONG && segment >= 4) return segment === 4 ? FS_BASE : GS_BASE;
    return 0;
  }
  /** A linear address for an operand of `bytes` bytes: mostly in the data pages (or the stack, for SS with its own base). */
  target(bytes: number, inStack: boolean): bigint {
    const r = this.random;
    if (inStack) return BigInt(STACK + r.below(PAGE + (r.oneIn(16) ? 16 : -bytes)));
    let where = r.below(100);
    // Some processors want ARPL's operand writable even if they do not write.
    if (this.form.handler === 'ARPL_MOVSXD' && this.mode !== LONG && where >= 70) where = 0;
    // Locked accesses stay inside a cache line: some systems punish the others.
    const aligned = (this.form.lock && !(bytes === 16 && r.oneIn(4))) || where < 25 ? -bytes : -1;
    if (where < 70) return BigInt((DATA + 64 + r.below(DATA_BYTES - 192)) & aligned);
    if (where < 80) return BigInt((DATA + PAGE - r.below(bytes + 2)) & aligned);
    if (where < 85) return BigInt((DATA + DATA_BYTES - r.below(bytes * 2)) & aligned);
    if (where < 88) return BigInt((DATA - r.below(bytes * 2)) & aligned);
    if (where < 92) return BigInt((READONLY + 64 + r.below(PAGE - 128)) & aligned);
    if (where < 94) return BigInt((CODE + r.below(64)) & aligned);
    if (where < 96) return BigInt(r.u32() & 0x7fffffff & aligned);
    if (this.mode !== LONG) return BigInt((DATA + r.below(DATA_BYTES - 16)) & aligned);
    if (where < 98) return r.u64() & BigInt(aligned) & 0xffff7fffffffffffn & ~0x7f0000000000n;
    return BigInt.asUintN(64, (r.u64() & BigInt(aligned) & 0x7ffffffffffn) - 0x80000000000n);
  }
  /** Notes a value for memory at a linear address, as far as it is writable there. */
  poke(at: bigint, bytes: number, value: bigint): void {
    const address = Number(at);
    const inData = address >= DATA && address + bytes <= DATA + DATA_BYTES;
    const inStack = address >= STACK && address + bytes <= STACK + PAGE;
    if ((inData || inStack) && this.pokes.length < 4)
      this.pokes.push({ address, bytes, value: BigInt.asUintN(64, value) });
  }

  /** ModRM (with this reg field), SIB and displacement of a memory operand of `bytes` bytes. Returns its linear address too. */
  memory(reg: number, bytes: number): { readonly code: number[]; readonly linear: bigint } {
    return this.addressSize === 16 ? this.memory16(reg, bytes) : this.memory32(reg, bytes);
  }
  memory16(reg: number, bytes: number): { readonly code: number[]; readonly linear: bigint } {
    const r = this.random;
    const rm = r.below(8);
    const mod = r.below(3);
    const parts = [[3, 6], [3, 7], [5, 6], [5, 7], [6], [7], mod === 0 ? [] : [5], [3]][rm] as number[];
    const segment = this.segment ?? (parts.includes(RBP) ? 2 : 3);
    const linear = this.target(bytes, this.mode === CODE16 && segment === 2);
    let offset = Number(linear) - this.base(segment);
    const displacement = parts.length === 0 || mod === 2 ? r.below(65536) : mod === 1 ? (r.below(256) << 24) >> 24 : 0;
    if (parts.length === 0) offset = r.oneIn(4) ? displacement : offset;
    let rest = offset - (parts.length === 0 ? offset : displacement);
    const [first, second] = parts;
    if (second !== undefined) {
      if (!this.isFixed(second)) this.setLow(second, 16, BigInt(r.oneIn(2) ? r.below(64) : r.below(65536)));
      rest -= Number((this.registers[second] as bigint) & 0xffffn);
    }
    if (first !== undefined && !this.isFixed(first)) this.setLow(first, 16, BigInt(rest & 0xffff));
    const d = parts.length === 0 ? offset : displacement;
    const code = [(mod << 6) | ((reg & 7) << 3) | rm];
    if (mod === 1) code.push(d & 0xff);
    else if (mod === 2 || parts.length === 0) code.push(d & 0xff, (d >> 8) & 0xff);
    const at = parts.reduce((sum, n) => sum + Number((this.registers[n] as bigint) & 0xffffn), d) & 0xffff;
    return { code, linear: BigInt(this.base(segment) + at) };
  }
  memory32(reg: number, bytes: number): { readonly code: number[]; readonly linear: bigint } {
    const r = this.random;
    const long = this.mode === LONG;
    const bits = BigInt(this.addressSize);
    const kind = r.below(long ? 12 : 10);
    // 0-3 base, 4-7 base and index, 8 index alone, 9 displacement alone, 10-11 RIP-relative
    const hasBase = kind < 8;
    const hasIndex = kind >= 4 && kind < 9;
    const base = r.pick(this.bases);
    let index = r.pick(this.bases);
    while (index === RSP) index = r.pick(this.bases);
    const scale = r.below(4);
    const segment = this.segment ?? (hasBase && (base === RSP || base === RBP) ? 2 : 3);
    const linear = this.target(bytes, this.mode === CODE16 && segment === 2);
    const offset = BigInt.asUintN(64, linear - BigInt(this.base(segment)));
    const rip = kind >= 10;

    let mod = hasBase ? r.below(3) : 0;
    if (hasBase && mod === 0 && (base & 7) === RBP) mod = 1;
    let displacement = 0n;
    if (mod === 1) displacement = BigInt.asIntN(8, BigInt(r.below(256)));
    else if (mod === 2) displacement = BigInt(r.oneIn(2) ? r.u32() | 0 : r.below(4096));
    if (hasIndex && !this.isFixed(index) && !(hasBase && index === base)) {
      this.setLow(index, this.addressSize, r.oneIn(4) ? this.value() : BigInt(r.below(128) - 16));
    }
    const scaled = hasIndex ? (this.registers[index] as bigint) << BigInt(scale) : 0n;
    if (hasBase && !this.isFixed(base)) {
      if (hasIndex && index === base) {
        const value = BigInt(r.below(4096));
        this.setLow(base, this.addressSize, value);
        mod = 2;
        displacement = BigInt.asIntN(32, offset - value - (value << BigInt(scale)));
      } else this.setLow(base, this.addressSize, offset - displacement - scaled);
    } else if (hasBase) {
      mod = 2;
      displacement = BigInt.asIntN(32, offset - (this.registers[base] as bigint) - scaled);
    } else if (!rip) displacement = BigInt.asIntN(32, offset - scaled);
    else displacement = BigInt.asIntN(32, offset);

    const at = BigInt.asUintN(
      Number(bits),
      rip
        ? offset
        : (hasBase ? (this.registers[base] as bigint) : 0n) +
            (hasIndex ? (this.registers[index] as bigint) << BigInt(scale) : 0n) +
            displacement,
    );
    const sib = hasIndex || !hasBase || (base & 7) === RSP;
    const needSib = rip || (!hasBase && !hasIndex && !long && r.oneIn(2)) ? false : sib;
    const code = [(mod << 6) | ((reg & 7) << 3) | (needSib ? 4 : hasBase ? base & 7 : 5)];
    if (needSib) code.push((scale << 6) | ((hasIndex ? index & 7 : 4) << 3) | (hasBase ? base & 7 : 5));
    if (hasBase && base >= 8) this.rex |= 1;
    if (hasIndex && index >= 8) this.rex |= 2;
    if (rip) {
      this.ripAt = code.length;
      this.ripRelative = Number(displacement);
    }
    const d = Number(displacement);
    if (mod === 1) code.push(d & 0xff);
    else if (mod === 2 || !hasBase) code.push(d & 0xff, (d >> 8) & 0xff, (d >> 16) & 0xff, (d >> 24) & 0xff);
    const address = BigInt.asUintN(64, at + BigInt(this.base(segment)));
    // Where only the offset or only the linear address is canonical, vendors differ.
    if (long && segment >= 4) this.skip ||= canonical(at) !== canonical(address);
    return { code, linear: address };
  }

  // ---- what certain instructions need ----

  /** A stack pointer value: mostly in the middle of the stack page. */
  stackPointer(): bigint {
    const r = this.random;
    const start = this.mode === CODE16 ? 0 : STACK;
    const where = r.below(20);
    if (this.mode === LONG && where === 0) return r.u64() & 0xffff7fffffffffffn;
    if (where <= 2) return BigInt(start + r.below(24));
    if (where <= 4) return BigInt(start + PAGE - r.below(24));
    return BigInt(start + 1024 + (r.below(2048) & (where < 12 ? ~7 : ~0)));
  }
  stringPointer(segment: number): bigint {
    const r = this.random;
    const limit = segment < 4 ? (SEGMENTS16[segment] as { limit: number }).limit : 0xffff;
    if (this.mode === CODE16) return BigInt(r.oneIn(8) ? limit - r.below(16) : r.below(limit));
    const starts = [
      0x300,
      0x340,
      0x800,
      0x880,
      0x1100,
      0x1400,
      0x1480,
      r.below(DATA_BYTES),
      r.below(DATA_BYTES),
      PAGE - r.below(40),
      DATA_BYTES - r.below(40),
    ];
    const at = DATA + r.pick(starts) + (r.oneIn(2) ? r.below(16) : 0);
    return BigInt(at - this.base(segment));
  }
  /** Settles implicit operands; called before the explicit ones are chosen. */
  prepare(): void {
    const r = this.random;
    const { handler } = this.form;
    const get = (n: number): bigint => this.registers[n] as bigint;
    if (STRINGS.has(handler)) {
      const segment = this.segment ?? 3;
      this.setLow(7, this.addressSize, this.stringPointer(0));
      this.setLow(6, this.addressSize, r.oneIn(3) ? get(7) + BigInt(r.below(24) - 8) : this.stringPointer(segment));
      const count = r.oneIn(16) ? r.below(1200) : r.oneIn(4) ? r.below(70) : r.below(9);
      this.setLow(1, this.addressSize, BigInt(count));
      if (handler === 'SCAS' && r.oneIn(2)) this.set(0, r.pick([0n, 0x4141414141414141n, M64, 0x0706050403020100n]));
      return;
    }
    switch (handler) {
      case 'XLAT': {
        const segment = this.segment ?? 3;
        const at = this.target(1, this.mode === CODE16 && segment === 2) - BigInt(this.base(segment));
        this.setLow(3, this.addressSize, at - (get(0) & 0xffn));
        break;
      }
      case 'LEAVE':
      case 'ENTER':
        this.set(RBP, this.stackPointer() | (this.mode === CODE16 ? BigInt(r.u32() & 0xffff0000) : 0n));
        break;
      case 'RET':
      case 'RET_I': {
        const sp = get(RSP);
        const at = this.mode === CODE16 ? BigInt(STACK) + (sp & 0xffffn) : sp;
        this.poke(at, 8, r.oneIn(3) ? this.value() : BigInt(CODE + r.below(CODE_BYTES)));
        break;
      }
      case 'POPF': {
        const sp = get(RSP);
        const at = this.mode === CODE16 ? BigInt(STACK) + (sp & 0xffffn) : sp;
        this.poke(at, 8, this.value() & ~0x100n);
        break;
      }
      case 'PUSH_SEG': {
        // Some processors write only the selector's two bytes (SDM vol. 2, PUSH).
        const sp = get(RSP);
        const bytes = this.mode === LONG ? 8 : 4;
        const top =
          this.mode === CODE16
            ? BigInt(STACK) + ((sp - BigInt(1 << this.size)) & 0xffffn)
            : sp - BigInt(1 << this.size);
        this.poke(top, Math.min(bytes, 1 << this.size), 0n);
        break;
      }
      case 'CALL_J':
      case 'CALL_E': {
        // Of a bad target and a bad stack, vendors prefer different ones: never both.
        const badStack = r.oneIn(3) && !(handler === 'CALL_J' && this.mode === CODE16);
        if (!badStack) this.set(RSP, BigInt((this.mode === CODE16 ? 0 : STACK) + 512 + r.below(1024)));
        this.wanted =
          badStack || r.oneIn(2) ? BigInt((this.mode === CODE16 ? 0 : CODE) + r.below(CODE_BYTES)) : this.value();
        break;
      }
      case 'JMP_E':
        this.wanted = r.oneIn(3) ? this.value() : BigInt((this.mode === CODE16 ? 0 : CODE) + r.below(CODE_BYTES));
        break;
      case 'LOOP':
        this.setLow(1, this.addressSize, BigInt(r.below(3)));
        break;
      case 'DIV_E':
      case 'IDIV_E': {
        if (r.oneIn(4)) break;
        const bits = this.bits;
        const divisor = BigInt.asUintN(bits, this.value());
        this.wanted = divisor;
        const signed = handler === 'IDIV_E';
        const d = signed ? BigInt.asIntN(bits, divisor) : divisor;
        if (d === 0n) break;
        // The largest, the least and other quotients; remainder 0 now and then.
        const top = 1n << BigInt(bits - 1);
        const quotient = r.oneIn(3) ? r.pick([top, top - 1n, top + 1n, -1n, 0n]) : this.value();
        const q = signed ? BigInt.asIntN(bits, quotient) : BigInt.asUintN(bits, quotient);
        const rest = r.oneIn(3) ? 0n : BigInt.asUintN(bits, r.u64()) % (d < 0n ? -d : d);
        const dividend = BigInt.asUintN(
          bits * 2,
          q * d + (signed && q * d < 0n ? -rest : rest) + (r.oneIn(16) ? d : 0n),
        );
        if (bits === 8) this.setLow(0, 16, dividend);
        else {
          this.setLow(0, bits, dividend);
          this.setLow(2, bits, dividend >> BigInt(bits));
        }
        break;
      }
      case 'CMPXCHG':
        this.fixed |= 1;
        if (r.oneIn(2)) this.wanted = get(0);
        break;
      case 'LAR':
      case 'LSL':
      case 'VERR':
      case 'VERW':
        this.wanted = BigInt(r.pick([0, 1, 3, 0x20, 0x23, 0x28, 0x2a, 0x2b, 0x30, 0x33]));
        break;
    }
  }

  // ---- encoding ----

  /** A register number for an operand; byte operands may be AH … BH or, with REX, SPL … DIL. */
  register(byte: boolean): number {
    const r = this.random;
    if (byte && this.pool.length < (this.mode === LONG ? 16 : 8)) {
      return this.rex === 0 && r.oneIn(4)
        ? 4 + r.below(4)
        : r.pick(this.pool.filter((n) => n < 8 || this.mode === LONG));
    }
    return r.pick(this.pool);
  }
  /** Gives the register a value, unless it is settled. AH … BH are bits 15:8 of the first four. */
  give(number: number, byte: boolean, value: bigint): void {
    const high = byte && this.rex === 0 && number >= 4 && number < 8;
    const at = high ? number - 4 : number;
    if (this.isFixed(at)) return;
    if (high) this.setLow(at, 16, ((value & 0xffn) << 8n) | ((this.registers[at] as bigint) & 0xffn));
    else this.registers[at] = BigInt.asUintN(64, value);
  }

  /** The instruction's bytes; `skip` is set if the manual leaves its result undefined. */
  encode(): number[] {
    const r = this.random;
    const { form, mode } = this;
    const { handler, operands } = form;
    const long = mode === LONG;
    const prefixes: number[] = [];

    // Near branches with 66 in 64-bit mode are each vendor's; with `np` rows a prefix makes another instruction.
    const sized = !(long && form.nearBranch) && !form.np;
    const operand16 = sized && r.oneIn(form.byte || PRIVILEGED.has(handler) ? 16 : 4);
    const wide = long && r.oneIn(form.byte ? 12 : 3);
    if (operand16) prefixes.push(0x66);
    if (wide) this.rex |= 8;
    if (form.byte) this.size = 0;
    else if (wide || (long && form.nearBranch)) this.size = 3;
    else if (long && form.d64) this.size = operand16 ? 1 : 3;
    else this.size = (mode === CODE16) !== operand16 ? 1 : 2;
    if (operands[0]?.endsWith('y') && this.size === 1) this.size = 2;

    const other = r.oneIn(mode === COMPAT32 ? 48 : 8);
    this.addressSize = long ? (other ? 32 : 64) : (mode === CODE16) !== other ? 16 : 32;
    if (other) prefixes.push(0x67);
    if (r.oneIn(8)) {
      const n = r.below(6);
      prefixes.push([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65][n] as number);
      if (!long || n >= 4) this.segment = n;
    }
    // F2 and F3 on LOOPcc change its condition on some processors.
    const repeats = STRINGS.has(handler);
    if (repeats ? !r.oneIn(3) : form.opcode.length === 1 && form.handler !== 'LOOP' && r.oneIn(64))
      prefixes.push(r.oneIn(2) ? 0xf2 : 0xf3);
    const memoryOnly = operands.some((o) => o.startsWith('M')) || form.only === 'm';
    const hasE = operands.some((o) => /^[EM]/.test(o)) || form.group !== undefined;
    let inMemory = memoryOnly || (form.only !== 'r' && hasE && r.oneIn(2));
    if (memoryOnly && (handler === 'LEA' || handler === 'CMPXCHG8B' || form.opcode[1] === 0xc3) && r.oneIn(32))
      inMemory = false;
    // Of memory, 16-bit MOVSXD reads two bytes or four.
    if (handler === 'ARPL_MOVSXD' && long && operand16) inMemory = false;
    // AMD's family 19h executes LOCK VERW.
    const locked = form.lock && inMemory ? r.oneIn(4) : !PRIVILEGED.has(handler) && handler !== 'VERW' && r.oneIn(100);
    if (locked) prefixes.push(0xf0);
    for (let i = prefixes.length - 1; i > 0; i--) {
      const j = r.below(i + 1);
      [prefixes[i], prefixes[j]] = [prefixes[j] as number, prefixes[i] as number];
    }
    if (long && r.oneIn(6)) this.rex |= 0x40;

    this.prepare();

    // ModRM.
    const opcode = [...form.opcode];
    let modrm: number[] = [];
    if (form.modrm !== undefined) modrm = [form.modrm];
    else if (operands.some((o) => /^[EMRGSCD]/.test(o)) || form.group !== undefined) {
      const byteG = operands.some((o) => o === 'Gb');
      const byteE = operands.some((o) => o === 'Eb');
      let reg = form.group ?? (operands.some((o) => o.startsWith('G')) ? this.register(byteG) : r.below(8));
      if (handler === 'MOV_RC' || handler === 'MOV_CR') reg = r.pick([0, 2, 3, 4]);
      if (handler === 'MOV_RD' || handler === 'MOV_DR') reg = r.pick([0, 1, 2, 3, 6, 7]);
      const isRegister = operands.some((o) => o.startsWith('G'));
      if (isRegister && reg >= 8) this.rex |= 4;
      if (isRegister && handler === 'BT_EG' && inMemory && !r.oneIn(32)) {
        this.setLow(reg, this.bits, BigInt(r.below(2048) - 512));
      }
      // SDM vol. 2, LAR: bits 19:16 of the result are undefined.
      if (handler === 'LAR') this.undefinedBits = { register: reg, bits: 0xf0000n };
      const value = this.wanted ?? (isRegister && r.oneIn(4) ? (this.registers[reg] as bigint) : this.value());
      if (inMemory) modrm = this.inMemory(reg, value, isRegister);
      else {
        const rm = this.register(byteE);
        if (rm >= 8) this.rex |= 1;
        if (SELECTORS.has(handler)) this.skip ||= this.isFixed(rm);
        if (handler === 'CALL_E') this.skip ||= rm === RSP;
        this.give(rm, byteE, value);
        modrm = [0xc0 | ((reg & 7) << 3) | (rm & 7)];
      }
    } else if (form.inOpcode) {
      const n = this.register(operands[0] === 'Zb');
      if (n >= 8) this.rex |= 1;
      opcode[opcode.length - 1] = (opcode.at(-1) as number) | (n & 7);
      if (handler === 'BSWAP' && this.size === 1) this.skip = true; // SDM vol. 2, BSWAP: undefined
      if (handler === 'XCHG_ZA' && n === 0 && prefixes.includes(0xf2)) this.skip = true;
    }

    if (this.rex) this.rex |= 0x40;
    const immediate = this.immediate();
    const bytes = [...prefixes, ...(this.rex ? [this.rex] : []), ...opcode, ...modrm, ...immediate];
    if (this.ripAt >= 0) this.ripAt += prefixes.length + (this.rex ? 1 : 0) + opcode.length;
    this.shiftCount(immediate);
    return bytes;
  }

  /** Chooses a memory operand and what it holds. */
  inMemory(reg: number, value: bigint, isRegister: boolean): number[] {
    const r = this.random;
    const { handler } = this.form;
    let bytes = this.form.operands.some((o) => o === 'Eb')
      ? 1
      : this.form.operands.some((o) => o === 'Ew')
        ? 2
        : 1 << this.size;
    if (handler === 'CMPXCHG8B') bytes = this.size === 3 ? 16 : 8;
    if (handler === 'BOUND') bytes *= 2;
    if (handler === 'MOV_ES') bytes = 2;
    if (isRegister && (handler === 'CMPXCHG' || handler === 'BOUND')) this.fixed |= 1 << reg;
    if (handler === 'CMPXCHG8B') this.fixed |= 0b1111;
    const { code, linear } = this.memory(reg, bytes);
    if (handler === 'CMPXCHG8B') {
      const half = bytes / 2;
      const equal = r.oneIn(2);
      this.poke(linear, half, equal ? (this.registers[0] as bigint) : value);
      this.poke(linear + BigInt(half), half, equal ? (this.registers[2] as bigint) : this.value());
    } else if (handler === 'BOUND') {
      const half = bytes / 2;
      const index = this.registers[reg] as bigint;
      this.poke(linear, half, index + BigInt(r.below(5) - 3));
      this.poke(linear + BigInt(half), half, index + BigInt(r.below(5) - 1));
    } else if (SELECTORS.has(handler) || handler === 'CALL_E') {
      this.poke(linear, bytes, value);
      this.skip ||= this.pokes.length === 0;
    } else if (r.below(4)) this.poke(linear, bytes, value);
    return code;
  }

  immediate(): number[] {
    const r = this.random;
    const bytesOf = (value: bigint, n: number): number[] =>
      Array.from({ length: n }, (_, i) => Number((BigInt.asUintN(64, value) >> BigInt(8 * i)) & 0xffn));
    const { form } = this;
    const out: number[] = [];
    for (const operand of form.operands) {
      if (operand === 'Ib' || operand === 'Ibs' || operand === 'Jbs')
        out.push(...bytesOf(r.oneIn(3) ? BigInt(r.below(33)) : this.value(), 1));
      else if (operand === 'Iz') out.push(...bytesOf(this.value(), this.size === 1 ? 2 : 4));
      else if (operand === 'Iiv') out.push(...bytesOf(this.value(), 1 << this.size));
      else if (operand === 'Iw') out.push(...bytesOf(r.oneIn(2) ? BigInt(r.below(64)) : this.value(), 2));
      else if (operand === 'Iwb')
        out.push(...bytesOf(BigInt(r.below(r.oneIn(4) ? 65536 : 256)), 2), r.oneIn(2) ? 0 : r.below(256));
      else if (operand === 'Jz')
        out.push(...bytesOf(r.oneIn(2) ? BigInt(r.below(4096)) : this.value(), this.size === 1 ? 2 : 4));
      else if (operand.startsWith('O')) {
        const segment = this.segment ?? 3;
        const linear = this.target(1 << this.size, this.mode === CODE16 && segment === 2);
        const width = this.addressSize / 8;
        out.push(...bytesOf(linear - BigInt(this.base(segment)), width));
        if (form.handler === 'MOV_AO') this.poke(linear, 1 << this.size, this.value());
      }
    }
    return out;
  }

  /** Finds the masked count of shifts and rotates, whose flags depend on it. */
  shiftCount(immediate: readonly number[]): void {
    const { handler, operands } = this.form;
    const mask = this.size === 3 ? 63 : 31;
    if (handler === 'SHIFT_EI') this.count = operands.includes('1') ? 1 : (immediate[0] as number) & mask;
    else if (handler === 'SHLD_I' || handler === 'SHRD_I') this.count = (immediate[0] as number) & mask;
    else if (/^SH(IFT_E|[LR]D_)CL$/.test(handler)) this.count = Number((this.registers[1] as bigint) & BigInt(mask));
    // SDM vol. 2, SHLD: a count above the operand size leaves everything undefined.
    if (/^SH[LR]D/.test(handler) && (this.count as number) > this.bits) this.skip = true;
  }
}

// ---- cases ----

export class Cases {
  readonly #random: Random;
  readonly #forms: readonly (readonly Form[])[];
  readonly #sequential: readonly (readonly Form[])[];
  #turn = 0;

  constructor(seed: number, handlers?: ReadonlySet<string>) {
    this.#random = new Random(seed);
    const wanted = (mode: Mode): Form[] =>
      formsOf(mode)
        .filter((form) => !handlers || handlers.has(form.handler))
        .flatMap((form) => new Array<Form>(WEIGHTS[form.handler] ?? 1).fill(form));
    this.#forms = [wanted(LONG), wanted(COMPAT32), wanted(CODE16)];
    this.#sequential = this.#forms.map((forms) => forms.filter((form) => SEQUENTIAL.has(form.handler)));
  }

  /** The next case; one in four is a sequence. The rows take turns. */
  next(mode: Mode): NativeCase {
    for (;;) {
      const forms = this.#sequential[mode] as readonly Form[];
      const c = forms.length > 0 && this.#random.oneIn(4) ? this.#sequence(mode) : this.#single(mode);
      if (c) return c;
    }
  }

  #start(mode: Mode): { registers: BigUint64Array; rflags: number; fixed: number } {
    const r = this.#random;
    const registers = new BigUint64Array(16);
    const draft = new Draft(r, mode, FORMS[0] as Form, registers, 0, false);
    for (let n = 0; n < 16; n++) {
      if (mode !== LONG && n >= 8) break;
      const value = n > 0 && r.oneIn(6) ? (registers[r.below(n)] as bigint) + BigInt(r.below(3) - 1) : draft.value();
      registers[n] = mode === LONG ? BigInt.asUintN(64, value) : value & 0xffffffffn;
    }
    registers[RSP] = draft.stackPointer() | (mode === CODE16 && r.oneIn(2) ? BigInt(r.u32() & 0x7fff0000) : 0n);
    const rflags =
      0x202 | (r.u32() & ARITHMETIC) | (r.oneIn(4) ? DF : 0) | (r.oneIn(8) ? NT : 0) | (r.oneIn(8) ? ID : 0);
    return { registers, rflags, fixed: 1 << RSP };
  }

  #single(mode: Mode): NativeCase | undefined {
    const r = this.#random;
    const forms = this.#forms[mode] as readonly Form[];
    const form = forms[this.#turn++ % forms.length] as Form;
    const { registers, rflags, fixed } = this.#start(mode);
    const draft = new Draft(r, mode, form, registers, fixed, false);
    const bytes = draft.encode();
    if (draft.skip || bytes.length > 15) return undefined;
    const transfers = form.nearBranch || form.handler === 'INTO' || form.handler === 'INT3';
    // PUSHF stores TF, so it is not single-stepped; a transfer is, because it may go anywhere.
    const step = form.handler === 'PUSHF' ? false : transfers || form.handler === 'POPF' ? true : !r.oneIn(3);
    // UD0 has no ModRM on some processors; on some, a taken Jcc or LOOP must not end at the segment's limit.
    const edge = form.handler !== 'UD' && !(/^(JCC|LOOP)$/.test(form.handler) && mode === CODE16);
    const at = this.#place(bytes.length, step, edge);
    this.#relocate(draft, bytes, mode, at, 0);
    const { pokes, undefinedBits } = draft;
    const flags = { undefinedFlags: undefinedFlags(form, draft.count, draft.size), flagsAtFault: 0 };
    return {
      mode,
      step,
      at,
      rflags,
      registers,
      bytes,
      pokes,
      ...flags,
      undefinedBits,
      partial: PARTIAL.has(form.handler),
      second: secondOperand(form, bytes),
    };
  }

  #sequence(mode: Mode): NativeCase | undefined {
    const r = this.#random;
    const forms = this.#sequential[mode] as readonly Form[];
    const { registers, rflags, fixed } = this.#start(mode);
    const bytes: number[] = [];
    const parts: { draft: Draft; bytes: number[]; start: number }[] = [];
    const pokes: Poke[] = [];
    let settled = fixed | 0b111100001111;
    let tainted = 0;
    let ever = 0;
    for (let n = 2 + r.below(3); n > 0; n--) {
      const draft = new Draft(r, mode, r.pick(forms), registers, settled, true);
      const part = draft.encode();
      if (draft.skip || part.length > 15) return undefined;
      const known = draft.form.handler.endsWith('CL') ? undefined : draft.count;
      const flags = flagsOf(mode, part);
      if (!flags || flags.read & tainted) return undefined;
      if (known === undefined || known !== 0) {
        if (!draft.form.handler.endsWith('CL')) tainted &= ~flags.written;
        tainted |= undefinedFlags(draft.form, known, draft.size);
        ever |= tainted;
      }
      parts.push({ draft, bytes: part, start: bytes.length });
      bytes.push(...part);
      settled |= draft.fixed;
      pokes.push(...draft.pokes);
    }
    if (r.oneIn(3)) {
      const cc = 0x70 | r.below(16);
      const jcc = [cc, 1];
      const flags = flagsOf(mode, jcc);
      if (flags && (flags.read & tainted) === 0) bytes.push(...jcc);
    }
    if (bytes.length > 60 || pokes.length > 4) return undefined;
    const at = this.#place(bytes.length, false, true);
    for (const part of parts) {
      this.#relocate(part.draft, part.bytes, mode, at, part.start);
      part.bytes.forEach((byte, i) => {
        bytes[part.start + i] = byte;
      });
    }
    return { mode, step: false, at, rflags, registers, bytes, pokes, undefinedFlags: tainted, flagsAtFault: ever };
  }

  /** Where in the code pages: anywhere, across the page, or at the very end (with or without all of the instruction). */
  #place(length: number, step: boolean, edge: boolean): number {
    const r = this.#random;
    const where = r.below(40);
    const tail = step ? 0 : 2;
    if (where < 4) return PAGE - r.below(length + 1);
    if (edge && where < 7) return CODE_BYTES - length - tail;
    if (edge && where === 7 && step) return CODE_BYTES - r.below(length);
    return r.below(CODE_BYTES - length - (edge ? tail : 2));
  }
  /** Makes a RIP-relative displacement, so far the target's offset, relative. */
  #relocate(draft: Draft, bytes: number[], mode: Mode, at: number, start: number): void {
    if (draft.ripAt < 0 || mode !== LONG) return;
    const d = draft.ripRelative - (CODE + at + start + bytes.length);
    for (let i = 0; i < 4; i++) bytes[draft.ripAt + i] = (d >> (8 * i)) & 0xff;
  }
  /** Random bytes behind random prefixes, or undefined if they must not or need not be run. */
  noise(mode: Mode): NativeCase | undefined {
    const r = this.#random;
    const bytes: number[] = randomInstruction(r, mode);
    const found = identify(mode, bytes);
    if (!found) return undefined;
    // Whether an unknown instruction is too long first depends on how much of it is read.
    if (found.length === 0 && bytes.slice(0, 2).every((byte) => isPrefix(mode, byte))) return undefined;
    const { registers, rflags } = this.#start(mode);
    for (let n = 0; n < 16; n++) {
      if (n !== RSP && r.oneIn(3) && (n < 8 || mode === LONG))
        registers[n] = BigInt(r.pick([DATA, STACK, READONLY]) + r.below(PAGE));
    }
    const code = found.length > 0 ? bytes.slice(0, found.length) : bytes.slice(0, 15);
    const at = r.below(CODE_BYTES - 32);
    const flags = found.form ? undefinedFlags(found.form, undefined, 0) : 0;
    const partial = found.form !== undefined && PARTIAL.has(found.form.handler);
    return {
      mode,
      step: true,
      at,
      rflags,
      registers,
      bytes: code,
      pokes: [],
      undefinedFlags: flags,
      flagsAtFault: 0,
      partial,
      second: found.form && secondOperand(found.form, code),
    };
  }
}

/** DAA, DAS, AAA and AAS for every AL with every AF and CF; AAM and AAD for every AL with some bases. 32-bit code. */
export function decimalCases(): NativeCase[] {
  const cases: NativeCase[] = [];
  const add = (bytes: readonly number[], ax: number, flags: number): void => {
    const registers = new BigUint64Array(16);
    registers[0] = BigInt(ax);
    registers[RSP] = BigInt(STACK + 1024);
    const form = formOf(COMPAT32, [...bytes, 0]) as Form;
    const left = { undefinedFlags: undefinedFlags(form, undefined, 0), flagsAtFault: 0 };
    cases.push({ mode: COMPAT32, step: true, at: 0, rflags: 0x202 | flags, registers, bytes, pokes: [], ...left });
  };
  for (let al = 0; al < 256; al++) {
    const ax = 0xa5f000 | (((al * 7) & 0xff) << 8) | al;
    for (const opcode of [0x27, 0x2f, 0x37, 0x3f]) for (const flags of [0, 1, 0x10, 0x11]) add([opcode], ax, flags);
    for (const base of [0, 1, 7, 10, 16, 255]) for (const opcode of [0xd4, 0xd5]) add([opcode, base], ax, 0);
  }
  return cases;
}

/** DIV and IDIV of every size by RBX with divisors, quotients and remainders at the edges of their ranges and one beyond. 64-bit code. */
export function divisionCases(): NativeCase[] {
  const cases: NativeCase[] = [];
  for (const [bits, bytes] of [
    [8, [0xf6]],
    [16, [0x66, 0xf7]],
    [32, [0xf7]],
    [64, [0x48, 0xf7]],
  ] as const) {
    const top = 1n << BigInt(bits - 1);
    const edges = [0n, 1n, 2n, 3n, 7n, top - 1n, top, top + 1n, top * 2n - 2n, top * 2n - 1n, top + 0x35n];
    for (const signed of [false, true]) {
      const read = (value: bigint): bigint => (signed ? BigInt.asIntN(bits, value) : value);
      for (const divisor of edges) {
        const d = read(divisor);
        const size = d < 0n ? -d : d;
        for (const quotient of [...edges, top * 2n]) {
          const q = quotient === top * 2n ? (signed ? top : quotient) : read(quotient);
          for (const rest of [0n, 1n, size - 1n]) {
            if (rest > 0n && rest >= size) continue;
            const product = q * d;
            const dividend = BigInt.asUintN(bits * 2, product < 0n ? product - rest : product + rest);
            const registers = new BigUint64Array(16).fill(0x1122334455667788n);
            registers[0] = bits === 8 ? dividend : BigInt.asUintN(bits, dividend);
            registers[2] = bits === 8 ? 0n : dividend >> BigInt(bits);
            registers[3] = divisor;
            registers[RSP] = BigInt(STACK + 1024);
            const code = [...bytes, signed ? 0xfb : 0xf3];
            const flags = { undefinedFlags: ARITHMETIC, flagsAtFault: 0 };
            cases.push({ mode: LONG, step: true, at: 0, rflags: 0x202, registers, bytes: code, pokes: [], ...flags });
          }
        }
      }
    }
  }
  return cases;
}

// ---- facts from iced-x86 ----

/** iced-x86's RflagsBits to RFLAGS. */
const ICED_FLAGS: readonly (readonly [number, number])[] = [
  [1, FLAG.OF as number],
  [2, FLAG.SF as number],
  [4, FLAG.ZF as number],
  [8, FLAG.AF as number],
  [16, FLAG.CF as number],
  [32, FLAG.PF as number],
];
const toRflags = (bits: number): number => ICED_FLAGS.reduce((sum, [from, to]) => (bits & from ? sum | to : sum), 0);

/** RFLAGS bits that an instruction reads and certainly writes, or undefined if it is not valid. */
function flagsOf(mode: Mode, bytes: readonly number[]): { read: number; written: number } | undefined {
  const decoder = new Decoder(BITS[mode], Uint8Array.from(bytes), 0);
  const instruction = decoder.decode();
  const result = instruction.isInvalid
    ? undefined
    : {
        read: toRflags(instruction.rflagsRead),
        written: toRflags(instruction.rflagsWritten | instruction.rflagsCleared | instruction.rflagsSet),
      };
  instruction.free();
  decoder.free();
  return result;
}

/** Up to 20 bytes that look like an instruction: prefixes, an opcode, anything. */
export function randomInstruction(r: Random, mode: Mode): number[] {
  const bytes: number[] = [];
  while (r.oneIn(2) && bytes.length < 6) {
    bytes.push(r.pick(PREFIXES));
  }
  if (mode === LONG && r.oneIn(2)) bytes.push(0x40 | r.below(16));
  if (r.oneIn(3)) bytes.push(0x0f);
  while (bytes.length < 20) bytes.push(r.oneIn(8) ? 0 : r.below(256));
  return bytes;
}

/** Mnemonics of iced-x86 by number. */
const NAMES: readonly string[] = Object.entries(Mnemonic)
  .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
  .reduce<string[]>((names, [name, value]) => {
    names[value] = name.toLowerCase();
    return names;
  }, []);
/** Where iced-x86's name of an instruction is not the row's. */
const ALIASES: Readonly<Record<string, string>> = { wait: 'fwait', sal: 'shl' };

const PREFIXES = [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const isPrefix = (mode: Mode, byte: number): boolean =>
  PREFIXES.includes(byte) || (mode === LONG && (byte & 0xf0) === 0x40);

/** The row that bytes select, by the table's own rules: prefixes, opcode, ModRM. */
export function formOf(mode: Mode, bytes: readonly number[]): Form | undefined {
  let i = 0;
  for (; i < 15; i++) {
    const byte = bytes[i] as number;
    if (!isPrefix(mode, byte)) break;
  }
  const two = bytes[i] === 0x0f;
  const opcode = bytes[two ? i + 1 : i] as number;
  const modrm = bytes[two ? i + 2 : i + 1] as number;
  const candidates = BY_OPCODE.get(two ? 0x100 | opcode : opcode) ?? [];
  const register = modrm >= 0xc0;
  return (
    candidates.find((form) => form.modrm === modrm) ??
    candidates.find((form) => {
      if (form.modrm !== undefined) return false;
      if (form.group === undefined) return true;
      return form.group === ((modrm >> 3) & 7) && (form.only === undefined || (form.only === 'r') === register);
    })
  );
}
const BY_OPCODE = new Map<number, Form[]>();
for (const form of FORMS) {
  const first = form.opcode.length === 2 ? 0x100 | (form.opcode[1] as number) : (form.opcode[0] as number);
  for (let n = 0; n < (form.inOpcode ? 8 : 1); n++)
    BY_OPCODE.set(first + n, [...(BY_OPCODE.get(first + n) ?? []), form]);
}

/**
 * What iced-x86 and the table say of bytes: the form and length of a valid instruction that both know by the same name. Length 0 if
 * iced-x86 finds no instruction. Undefined if they disagree about what it is (mandatory prefixes, extensions the core does not have).
 */
export function inBoth(mode: Mode, bytes: readonly number[]): { form: Form | undefined; length: number } | undefined {
  const decoder = new Decoder(BITS[mode], Uint8Array.from(bytes.slice(0, 15)), 0);
  const instruction = decoder.decode();
  const { isInvalid, length } = instruction;
  const iced = NAMES[instruction.mnemonic] as string;
  instruction.free();
  decoder.free();
  if (isInvalid) return { form: undefined, length: 0 };
  const form = formOf(mode, bytes);
  if (!form) return undefined;
  if (form.row.attributes.includes(mode === LONG ? 'i64' : 'o64')) return undefined;
  const name = ALIASES[iced] ?? iced;
  const same = (word: string): boolean => (form.np ? name === word : name.startsWith(word));
  if (!form.row.mnemonic.split(' ').some(same)) return undefined;
  return { form, length };
}

/** Like inBoth(), for bytes that may also be run on the processor. */
function identify(mode: Mode, bytes: readonly number[]): { form: Form | undefined; length: number } | undefined {
  const found = inBoth(mode, bytes);
  if (!found) return undefined;
  const form = found.form ?? formOf(mode, bytes);
  if (form && (form.handler in LEFT_OUT || PRIVILEGED.has(form.handler))) return undefined;
  if (form?.handler === 'VERW' && bytes.includes(0xf0)) return undefined;
  if (!form || found.length === 0) return found.length === 0 ? found : undefined;
  const has = (...values: number[]): boolean => bytes.slice(0, found.length).some((byte) => values.includes(byte));
  // What the table leaves to the vendor; see Draft.encode().
  if (mode === LONG && form.nearBranch && has(0x66)) return undefined;
  if (form.lock && (has(0xf0) || form.handler === 'XCHG_EG')) return undefined; // may cross a cache line
  if ((form.handler === 'LOOP' || form.np) && has(0x66, 0xf2, 0xf3)) return undefined;
  if (/^(SH[LR]D|BSWAP|LAR|LSL|VER|CALL|ARPL|UD|PUSH_SEG|PUSHF|POPF)/.test(form.handler)) return undefined;
  return found;
}
