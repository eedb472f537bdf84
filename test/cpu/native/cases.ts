/**
 * Cases for comparisons with a processor, drawn from the rows of the opcode table: a new row is covered as soon as it exists.
 *
 * A case is one instruction (or a short sequence without branches but a last Jcc) with prefixes, operands and register values chosen so that
 * most memory operands hit mapped memory and some do not. A seed gives the same cases everywhere.
 */
import {
  FORMS,
  type Form,
  flagsOf,
  formOf,
  formsOf,
  identify,
  isPartial,
  isPrefix,
  MANDATORY,
  type Operand,
  PREFIXES,
  PRIVILEGED,
  SELECTORS,
  SEQUENTIAL,
  STRINGS,
  secondOperand,
  undefinedFlags,
  WEIGHTS,
} from './forms.ts';
import { FX_MXCSR, fxState, operandBytes } from './fp-values.ts';
import {
  type Blank,
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
import { Random } from './random.ts';

// ---- random values ----

const ARITHMETIC = 0x8d5;
const DF = 0x400;
const NT = 0x4000;
const ID = 0x200000;

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

/** Bytes of memory operands by their letters; the others depend on the operand size. */
const BYTES_OF: Readonly<Record<string, number>> = {
  ...{ b: 1, w: 2, d: 4, q: 8, t: 10, dq: 16, ss: 4, sd: 8, ps: 16, pd: 16 },
};
/** Images that instructions load and store: bytes with a 16-bit operand size, with a wider one. */
const IMAGES: readonly (readonly [RegExp, number, number])[] = [
  [/^fn?(ld|st)env/, 14, 28],
  [/^f(n?save|rstor)/, 94, 108],
  [/^fx(save|rstor)/, 512, 512],
];
/**
 * Parts of these images that differ by processor, as offset and length with a wide and with a 16-bit operand size: the pointers to the last
 * x87 instruction (AMD saves them only while an exception of it is pending) and what is reserved.
 */
const BLANKS: readonly (readonly [RegExp, readonly [number, number], readonly [number, number]])[] = [
  [/^fn?(stenv|save)/, [12, 16], [6, 8]],
  [/^fxsave/, [5, 19], [5, 19]],
];

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
  blank: Blank | undefined;
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
    if (inStack) {
      const at = STACK + r.below(PAGE + (r.oneIn(16) ? 16 : -bytes));
      return BigInt(r.oneIn(10) ? at : at & -this.form.alignment);
    }
    let where = r.below(100);
    // Some processors want ARPL's operand writable even if they do not write.
    if (this.form.handler === 'ARPL_MOVSXD' && this.mode !== LONG && where >= 70) where = 0;
    // Locked accesses stay inside a cache line: some systems punish the others.
    const whole = (this.form.lock && !(bytes === 16 && r.oneIn(4))) || where < 25;
    const { alignment } = this.form;
    const aligned = alignment > 1 && !r.oneIn(10) ? -alignment : whole && (bytes & (bytes - 1)) === 0 ? -bytes : -1;
    if (where < 70) return BigInt((DATA + 64 + r.below(DATA_BYTES - 128 - Math.max(bytes, 64))) & aligned);
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
  /** Whether an image goes beyond the last address: processors look for its last byte at the first ones, the core behind them. */
  wraps(at: bigint, bytes: number): boolean {
    return bytes > 16 && at + BigInt(bytes) > 1n << BigInt(this.addressSize);
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
    if (this.mode === COMPAT32) this.skip ||= this.wraps(BigInt(at), bytes);
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
    if (long) this.skip ||= this.wraps(at, bytes);
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
      case 'MASKMOV': {
        // With a mask of zeros processors may or may not look at the address: it is a good one.
        const at = DATA + 64 + r.below(DATA_BYTES - 128);
        this.setLow(7, this.addressSize, BigInt(at - this.base(this.segment ?? 3)));
        break;
      }
      case 'PCMPSTR':
        for (const n of [0, 2]) if (!r.oneIn(4)) this.set(n, BigInt.asUintN(64, BigInt(r.below(40) - 20)));
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
    const { handler, operands, row } = form;
    const long = mode === LONG;
    const prefixes: number[] = [];
    const allowed = (prefix: number): boolean => !row.vex && !form.taken.includes(prefix);

    // Near branches with 66 in 64-bit mode are each vendor's; where a prefix makes another instruction there is none.
    const sized = !(long && form.nearBranch) && (allowed(0x66) || row.prefix === '66');
    const always = row.prefix === '66' && !row.vex;
    const often = form.byte || form.hasState || PRIVILEGED.has(handler) ? 16 : 4;
    const operand16 = always || (sized && r.oneIn(often));
    const wide = (long || (row.vex && r.oneIn(8))) && r.oneIn(form.byte ? 12 : 3);
    if (operand16) prefixes.push(0x66);
    if (wide) this.rex |= 8;
    if (form.byte) this.size = 0;
    else if ((long && wide) || (long && form.nearBranch)) this.size = 3;
    else if (long && form.d64) this.size = operand16 ? 1 : 3;
    else this.size = (mode === CODE16) !== operand16 && !row.vex ? 1 : 2;
    if (operands.some((operand) => /^[EMRGB]y/.test(operand)) && this.size === 1) this.size = 2;

    const other = r.oneIn(mode === COMPAT32 ? 48 : 8);
    this.addressSize = long ? (other ? 32 : 64) : (mode === CODE16) !== other ? 16 : 32;
    if (other) prefixes.push(0x67);
    if (r.oneIn(8)) {
      const n = r.below(6);
      prefixes.push([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65][n] as number);
      if (!long || n >= 4) this.segment = n;
    }
    // F2 and F3 on LOOPcc change its condition on some processors, and are new instructions behind 0F.
    const repeats = STRINGS.has(handler);
    const plain = row.map === '' && handler !== 'LOOP' && allowed(0xf2) && allowed(0xf3) && row.prefix === '';
    if (repeats ? !r.oneIn(3) : plain && r.oneIn(64)) prefixes.push(r.oneIn(2) ? 0xf2 : 0xf3);
    const hasRm = form.rm !== undefined || row.group !== undefined || row.only !== undefined;
    let inMemory = form.memoryOnly || (!form.registerOnly && hasRm && r.oneIn(2));
    if (form.memoryOnly && row.only === undefined && (handler === 'LEA' || handler === 'MOV_EG') && r.oneIn(32))
      inMemory = false;
    // Of memory, 16-bit MOVSXD reads two bytes or four.
    if (handler === 'ARPL_MOVSXD' && long && operand16) inMemory = false;
    // AMD's family 19h executes LOCK VERW.
    const locked = form.lock && inMemory ? r.oneIn(4) : !PRIVILEGED.has(handler) && handler !== 'VERW' && r.oneIn(100);
    if (locked && !row.vex) prefixes.push(0xf0);
    if ((row.prefix === 'F2' || row.prefix === 'F3') && !row.vex) prefixes.push(row.prefix === 'F2' ? 0xf2 : 0xf3);
    for (let i = prefixes.length - 1; i > 0; i--) {
      const j = r.below(i + 1);
      [prefixes[i], prefixes[j]] = [prefixes[j] as number, prefixes[i] as number];
    }
    if (long && r.oneIn(6)) this.rex |= 0x40;

    this.prepare();

    const opcode = [...form.opcode];
    let modrm: number[] = [];
    if (row.modrm !== undefined) modrm = [row.modrm];
    else if (form.hasModrm) {
      let reg = row.group ?? this.named(form.reg, 4);
      if (handler === 'MOV_RC' || handler === 'MOV_CR') reg = r.pick([0, 2, 3, 4]);
      if (handler === 'MOV_RD' || handler === 'MOV_DR') reg = r.pick([0, 1, 2, 3, 6, 7]);
      const isRegister = form.reg?.file === 'gpr';
      if (isRegister && handler === 'BT_EG' && inMemory && !r.oneIn(32)) {
        this.setLow(reg, this.bits, BigInt(r.below(2048) - 512));
      }
      // SDM vol. 2, LAR: bits 19:16 of the result are undefined.
      if (handler === 'LAR') this.undefinedBits = { register: reg, bits: 0xf0000n };
      const value = this.wanted ?? (isRegister && r.oneIn(4) ? (this.registers[reg] as bigint) : this.value());
      if (inMemory) modrm = this.inMemory(reg, value, isRegister);
      else {
        const rm = this.named(form.rm, 1);
        if (form.rm?.file === 'gpr') {
          if (SELECTORS.has(handler)) this.skip ||= this.isFixed(rm);
          if (handler === 'CALL_E') this.skip ||= rm === RSP;
          this.give(rm, form.rm.size === 'b', value);
        }
        modrm = [0xc0 | ((reg & 7) << 3) | (rm & 7)];
      }
    } else if (row.inOpcode) {
      const n = this.register(operands[0] === 'Zb');
      if (n >= 8) this.rex |= 1;
      opcode[opcode.length - 1] = (opcode.at(-1) as number) | (n & 7);
      if (handler === 'BSWAP' && this.size === 1) this.skip = true; // SDM vol. 2, BSWAP: undefined
      if (handler === 'XCHG_ZA' && n === 0 && prefixes.includes(0xf2)) this.skip = true;
    }

    const before = row.vex ? this.vex() : this.rex ? [this.rex | 0x40] : [];
    const immediate = this.immediate();
    const bytes = [...prefixes, ...before, ...opcode, ...modrm, ...immediate];
    if (this.ripAt >= 0) this.ripAt += prefixes.length + before.length + opcode.length;
    this.shiftCount(immediate);
    return bytes;
  }

  /** A register for an operand of ModRM; `rexBit` is what its number 8 and above sets in REX. Of MMX and x87 registers REX has no say. */
  named(operand: Operand | undefined, rexBit: number): number {
    const r = this.random;
    if (operand?.file === 'gpr') {
      const n = this.register(operand.size === 'b');
      if (n >= 8) this.rex |= rexBit;
      return n;
    }
    const extended = this.mode === LONG && r.oneIn(2);
    if (operand?.file === 'xmm' ? extended : operand?.file === 'mmx' && extended && r.oneIn(4)) this.rex |= rexBit;
    return r.below(8) + (operand?.file === 'xmm' && extended ? 8 : 0);
  }
  /** The VEX prefix with what REX would say and a register in vvvv (SDM vol. 2, 2.3.5). */
  vex(): number[] {
    const r = this.random;
    const { row, operands } = this.form;
    const vvvv = operands.some((operand) => operand.startsWith('B')) ? this.register(false) : 0;
    const map = { '': 0, '0F': 1, '0F38': 2, '0F3A': 3 }[row.map];
    const pp = Math.max(0, MANDATORY.indexOf(row.prefix as 'NP'));
    const last = (((~vvvv & 15) << 3) | pp) & 0x7f;
    const rex = this.rex & 15;
    if (map === 1 && (rex & 11) === 0 && r.oneIn(2)) return [0xc5, ((~rex & 4) << 5) | last];
    return [0xc4, ((~rex & 7) << 5) | map, ((rex & 8) << 4) | last];
  }

  /** Bytes of the operand in memory. */
  operandSize(): number {
    const { handler, rm, row } = this.form;
    if (handler === 'CMPXCHG8B') return this.size === 3 ? 16 : 8;
    if (handler === 'MOV_ES') return 2;
    if (handler === 'BOUND') return 2 << this.size;
    const image = IMAGES.find(([name]) => name.test(row.mnemonic));
    if (image) return this.size === 1 ? image[1] : image[2];
    const bytes = BYTES_OF[rm?.size ?? ''];
    return bytes ?? 1 << this.size;
  }

  /** Chooses a memory operand and what it holds. */
  inMemory(reg: number, value: bigint, isRegister: boolean): number[] {
    const r = this.random;
    const { form } = this;
    const { handler, row } = form;
    const bytes = this.operandSize();
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
    } else if (form.hasState) {
      if (/fxrstor|xrstor|ldmxcsr/.test(row.mnemonic)) {
        const mxcsr = r.oneIn(8) ? r.u32() & ~0x20000 : r.u32() & 0xffbf;
        this.poke(linear + BigInt(bytes === 4 ? 0 : FX_MXCSR), 4, BigInt(mxcsr >>> 0));
      } else if (bytes <= 16)
        this.pokeBytes(linear, operandBytes(r, r.oneIn(8) ? 'integers' : r.pick(form.kinds), bytes));
      const address = Number(linear);
      const blank = BLANKS.find(([name]) => name.test(row.mnemonic));
      if (blank) {
        const [from, length] = this.size === 1 ? blank[2] : blank[1];
        const at = address + from;
        const inside = (start: number, size: number): boolean => at >= start && at + length <= start + size;
        if (inside(DATA, DATA_BYTES) || inside(STACK, PAGE)) this.blank = { address: at, bytes: length };
      }
    } else if (r.below(4)) this.poke(linear, bytes, value);
    return code;
  }
  pokeBytes(at: bigint, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i += 8) {
      const part = bytes.subarray(i, i + 8);
      this.poke(
        at + BigInt(i),
        part.length,
        part.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n),
      );
    }
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

/** Instructions with an image or a control word. */
const CONTROL = /^(f.*(env|save|rstor|cw|sw|clex|init)|x.*(save|rstor)|.*mxcsr)/;

export class Cases {
  readonly #random: Random;
  readonly #forms: readonly (readonly Form[])[];
  readonly #sequential: readonly (readonly Form[])[];
  readonly #withState: readonly (readonly Form[])[];
  readonly #wanted: (form: Form) => boolean;
  #turn = 0;

  /** Cases of the forms that are `wanted`; of others only by accident (random bytes). */
  constructor(seed: number, wanted: (form: Form) => boolean = () => true) {
    this.#random = new Random(seed);
    this.#wanted = wanted;
    const forms = (mode: Mode): Form[] =>
      formsOf(mode)
        .filter(wanted)
        .flatMap((form) => new Array<Form>(WEIGHTS[form.handler] ?? 1).fill(form));
    this.#forms = [forms(LONG), forms(COMPAT32), forms(CODE16)];
    this.#sequential = this.#forms.map((forms) => forms.filter((form) => SEQUENTIAL.has(form.handler)));
    // Images and control words would leave little of what came before them; errors would grow.
    this.#withState = this.#forms.map((forms) =>
      forms.filter((form) => form.hasState && form.ulps === undefined && !CONTROL.test(form.row.mnemonic)),
    );
  }

  /** The next case; one in four is a sequence. The rows take turns. */
  next(mode: Mode): NativeCase {
    for (;;) {
      const forms = this.#random.oneIn(3) ? this.#withState[mode] : this.#sequential[mode];
      const c = forms && forms.length > 0 && this.#random.oneIn(4) ? this.#sequence(mode, forms) : this.#single(mode);
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
    const { pokes, undefinedBits, blank } = draft;
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
      partial: isPartial(form, bytes),
      second: secondOperand(form, bytes),
      ulps: form.ulps,
      fx: form.hasState ? fxState(r, form.kinds) : undefined,
      blank,
    };
  }

  #sequence(mode: Mode, forms: readonly Form[]): NativeCase | undefined {
    const r = this.#random;
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
    const kinds = parts.flatMap(({ draft }) => (draft.form.hasState ? draft.form.kinds : []));
    const fx = kinds.length > 0 ? fxState(r, kinds) : undefined;
    return { mode, step: false, at, rflags, registers, bytes, pokes, undefinedFlags: tainted, flagsAtFault: ever, fx };
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
    if (!found || (found.form && !this.#wanted(found.form))) return undefined;
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
      partial: isPartial(found.form, code),
      second: found.form && secondOperand(found.form, code),
      ulps: found.form?.ulps,
      fx: found.form?.hasState ? fxState(r, found.form.kinds) : undefined,
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

/** Up to 20 bytes that look like an instruction: prefixes, an opcode, anything. */
export function randomInstruction(r: Random, mode: Mode): number[] {
  const bytes: number[] = [];
  while (r.oneIn(2) && bytes.length < 6) {
    bytes.push(r.pick(PREFIXES));
  }
  if (mode === LONG && r.oneIn(2)) bytes.push(0x40 | r.below(16));
  if (r.oneIn(3)) bytes.push(0x0f, ...(r.oneIn(4) ? [r.pick([0x38, 0x3a])] : []));
  else if (r.oneIn(12)) bytes.push(0xc4, (r.below(8) << 5) | r.pick([2, 3]), r.below(256) & 0xfb);
  while (bytes.length < 20) bytes.push(r.oneIn(8) ? 0 : r.below(256));
  return bytes;
}
