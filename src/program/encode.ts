/**
 * From a mnemonic and operands to bytes: finds the forms of isa.ts that take the operands and lets iced-x86 encode the shortest.
 *
 * Choices are those of GNU as: symbolic values get their full width, constants the shortest that holds them; prefixes come in the
 * order segment, 67, 66, F3/F2, F0, REX; segment registers and selectors move without operand-size prefix.
 */
import type { Encoder, Instruction } from 'iced-x86';
import { type Expression, number, type Register, reduce } from './expression.ts';
import { type Form, formsOf, iced, mnemonics, registerNamed, resized } from './isa.ts';
import type { Bits } from './layout.ts';
import { SourceFault } from './lexer.ts';
import type { FarOperand, ImmediateOperand, MemoryOperand, Operand, RegisterOperand } from './operand.ts';
import { own } from './own.ts';
import { nearest } from './suggest.ts';

/** A prefix written before a mnemonic. */
export interface Prefixes {
  /** Raw prefix bytes: rep, lock, segments. */
  readonly bytes: readonly number[];
  /** `data16`, `data32`. */
  readonly data: 16 | 32 | undefined;
  /** `addr16`, `addr32`. */
  readonly address: 16 | 32 | undefined;
  /** `rex.W`. */
  readonly wide: boolean;
}

/** A value to be filled in at `offset` of the encoded bytes. */
export interface Patch {
  readonly offset: number;
  readonly size: number;
  readonly kind: 'data' | 'signed' | 'relative' | 'relative-wrapped';
  readonly expression: Expression;
  readonly at: number;
}

export type Encoded =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly patches: readonly Patch[] }
  /** A jump that can be short or near. */
  | {
      readonly kind: 'jump';
      readonly short: Uint8Array;
      readonly near: Uint8Array;
      readonly nearSize: 2 | 4;
      readonly target: Expression;
      readonly at: number;
    };

const SUFFIX_BITS: Readonly<Record<string, number>> = { b: 8, w: 16, d: 32, q: 64 };

/** A mnemonic as looked up: its forms and the operand size of a suffix (`pushw`, `retfq`). */
interface Entry {
  readonly name: string;
  readonly forms: readonly Form[];
  readonly suffix: number | undefined;
}

const SPECIAL: Readonly<Record<string, string>> = { ljmp: 'jmp', lcall: 'call', movabs: 'mov' };
/** String instructions without their size letter; operands give the size. */
const STRINGS = /^(?:movs|cmps|lods|stos|scas|ins|outs)$/;
const STRING_FORMS = /^(?:movs|cmps|lods|stos|scas|ins|outs)[bwdq]$/;

const entries = new Map<string, Entry | undefined>();

/** Whether `mnemonic` (lower case) names an instruction. */
export function isInstruction(mnemonic: string): boolean {
  return entryOf(mnemonic) !== undefined;
}

function entryOf(mnemonic: string): Entry | undefined {
  if (!entries.has(mnemonic)) entries.set(mnemonic, findEntry(mnemonic));
  return entries.get(mnemonic);
}

function findEntry(mnemonic: string): Entry | undefined {
  if (STRINGS.test(mnemonic)) {
    const forms = ['b', 'w', 'd', 'q'].flatMap((letter) => formsOf(mnemonic + letter) ?? []);
    return { name: mnemonic, forms: forms.filter(isStringForm), suffix: undefined };
  }
  const forms = formsOf(own(SPECIAL, mnemonic) ?? mnemonic);
  if (forms !== undefined) return { name: mnemonic, forms, suffix: undefined };
  const suffix = SUFFIX_BITS[mnemonic.slice(-1)];
  const base = mnemonic.slice(0, -1);
  const trimmed = suffix === undefined ? undefined : formsOf(own(SPECIAL, base) ?? base);
  return trimmed === undefined ? undefined : { name: base, forms: trimmed, suffix };
}

/** Operands at fixed addresses. */
const IMPLIED = /^(?:seg_rSI|es_rDI|seg_rDI|seg_rBX_al)$/;

const isStringForm = (form: Form): boolean => form.kinds.some((kind) => /^(?:seg_rSI|es_rDI)$/.test(kind));

/** Throws SourceFault: unknown instruction, operands it does not take, values that do not fit. */
export function encode(
  mnemonic: string,
  operands: readonly Operand[],
  prefixes: Prefixes,
  bits: Bits,
  at: number,
): Encoded {
  const entry = entryOf(mnemonic);
  if (entry === undefined) throw unknown(mnemonic, at);
  checkPrefixes(prefixes, bits, at);
  try {
    return new Request(entry, operands, prefixes, bits, at).encode();
  } catch (error) {
    throw error instanceof Refusal ? error.asFault(mnemonic, at) : error;
  }
}

/** The encoder does not take an instruction. */
class Refusal extends Error {
  asFault(mnemonic: string, at: number): SourceFault {
    return new SourceFault(`"${mnemonic}" cannot be encoded with these operands: ${this.message}`, at);
  }
}

function unknown(mnemonic: string, at: number): SourceFault {
  const near = nearest(mnemonic, mnemonics());
  return new SourceFault(
    `unknown instruction "${mnemonic}"${near === undefined ? '' : `; did you mean "${near}"?`}`,
    at,
  );
}

function checkPrefixes({ data, address, wide }: Prefixes, bits: Bits, at: number): void {
  const normal = bits === 16 ? 16 : 32;
  if (data === normal) throw new SourceFault(`data${data} is redundant in .code${bits}`, at);
  if (address !== undefined && address === bits)
    throw new SourceFault(`addr${address} is redundant in .code${bits}`, at);
  if (address === 16 && bits === 64) throw new SourceFault('addr16 does not exist in 64-bit code', at);
  if (wide && bits !== 64) throw new SourceFault('a REX prefix exists only in 64-bit code', at);
}

/** Instructions whose only operands are registers that GNU as lets one write; the first gives the address size. */
const WRITTEN_OUT: Readonly<Record<string, number>> = {
  clzero: 1,
  invlpga: 2,
  monitor: 3,
  monitorx: 3,
  mwait: 2,
  mwaitx: 3,
  skinit: 1,
  vmload: 1,
  vmrun: 1,
  vmsave: 1,
};

/** Memory operands without a size that take the size of the mode. */
const DEFAULT_SIZE = /^(?:push|pop|call|jmp|lcall|ljmp|[ls][gi]dt)$/;
const TABLE_REGISTERS = /^[ls][gi]dt$/;
const SELECTOR_SOURCES = /^(?:lldt|ltr|verr|verw|lmsw)$/;
/** x87 instructions of ST(0) and a register, of which GNU as lets one leave out ST(0), or both for ST(1). */
const STACKED = /^f(?:xch|u?com(?:p|i|ip)?|(?:add|mul|subr?|divr?)(p)?)$/;
const NEEDS_OPERAND = /^f(?:add|mul|subr?|divr?)$/;

/** One statement on its way to bytes. */
class Request {
  readonly entry: Entry;
  readonly bits: Bits;
  readonly prefixes: Prefixes;
  readonly at: number;
  operands: readonly Operand[];
  addressSize: number;
  segment: Register | undefined;

  constructor(entry: Entry, operands: readonly Operand[], prefixes: Prefixes, bits: Bits, at: number) {
    this.entry = entry;
    this.bits = bits;
    this.prefixes = prefixes;
    this.at = at;
    this.operands = operands;
    this.addressSize = prefixes.address ?? bits;
  }

  encode(): Encoded {
    const { name } = this.entry;
    if (name === 'sysret' || name === 'sysexit') this.#checkReturn();
    const [only] = this.operands;
    if (name === 'int' && only?.kind === 'immediate' && only.value === 3n) {
      return new Request(entryOf('int3')!, [], this.prefixes, this.bits, this.at).encode();
    }
    const far = name === 'ljmp' || name === 'lcall';
    if (!far && this.operands.length === 1 && isBranchTarget(only) && this.entry.forms.some(isNearBranch)) {
      return this.#branch(only);
    }
    if (STRINGS.test(name) || STRING_FORMS.test(name)) return this.#string();
    if (WRITTEN_OUT[name] !== undefined) return this.#writtenOut();
    this.operands = this.#normalized();
    return this.#general();
  }

  #checkReturn(): void {
    if (this.bits !== 64 || this.entry.suffix !== undefined || this.prefixes.wide) return;
    const { name } = this.entry;
    throw new SourceFault(
      `"${name}" is ambiguous in 64-bit code: write ${name}q to 64-bit or ${name}d to 32-bit code`,
      this.at,
    );
  }

  /** Selectors have 16 bits whatever the operand size is: takes the register width that needs no prefix, as GNU as does. */
  #normalized(): readonly Operand[] {
    const { name } = this.entry;
    const { operands, bits } = this;
    const plain = bits === 16 ? 16 : 32;
    const [first, second] = operands;
    const stacked = operands.length < 2 && STACKED.exec(name);
    if (stacked && (first === undefined ? !NEEDS_OPERAND.test(name) : isClass(first, 'st'))) {
      const other = first ?? this.#stack(1);
      return stacked[1] ? [other, this.#stack(0)] : [this.#stack(0), other];
    }
    const isWord = first?.kind === 'register' && first.register.class === 'r16';
    if (SELECTOR_SOURCES.test(name) && isGeneral(first) && !isWord) throw this.#noForm(this.#available());
    if (SELECTOR_SOURCES.test(name) && operands.length === 1 && isWord) return [resizedOperand(first, plain)];
    if ((name === 'str' || name === 'sldt') && isGeneral(first, 'r64')) return [resizedOperand(first, 32)];
    if (name === 'imul' && operands.length === 2 && second.kind === 'immediate') return [first, first, second];
    if (operands.length !== 2) return operands;
    if (name === 'mov' && isClass(first, 'segment') && isGeneral(second)) return [first, resizedOperand(second, plain)];
    if (name === 'mov' && isClass(second, 'segment') && isGeneral(first, 'r64'))
      return [resizedOperand(first, 32), second];
    if (name === 'arpl' && isGeneral(first, 'r16') && isGeneral(second, 'r16')) {
      return [resizedOperand(first, plain), resizedOperand(second, plain)];
    }
    if (name === 'arpl' && first.kind === 'memory' && isGeneral(second, 'r16'))
      return [first, resizedOperand(second, plain)];
    if ((name === 'lar' || name === 'lsl') && isGeneral(first) && isGeneral(second)) {
      return [first, resizedOperand(second, Number(first.register.class.slice(1)))];
    }
    return operands;
  }

  #stack(n: number): Operand {
    return { kind: 'register', register: registerNamed(`st${n}`)!, at: this.at };
  }

  #string(): Encoded {
    const forms = this.#available().filter(isStringForm);
    if (this.operands.length === 0) {
      if (STRINGS.test(this.entry.name)) {
        const { name } = this.entry;
        throw new SourceFault(`"${name}" needs a size: write ${name}b, ${name}w or ${name}d, or operands`, this.at);
      }
      if (forms.length > 0) return this.#encodeForm(forms[0], []);
    }
    const matching = forms.filter((form) => this.#takesStrings(form));
    if (matching.length === 0) return this.#general();
    const sizes = new Set(matching.map((form) => form.memorySize));
    if (sizes.size > 1) throw this.#ambiguous(this.operands.find((operand) => operand.kind === 'memory'));
    for (const operand of this.operands) {
      if (operand.kind !== 'memory') continue;
      const address = operand.base!;
      this.addressSize = Number(address.class.slice(1));
      if (!address.name.endsWith('di')) this.segment = operand.segment?.name === 'ds' ? undefined : operand.segment;
    }
    return this.#encodeForm(matching[0], []);
  }

  /** Whether written operands of a string instruction are those that `form` has anyway. */
  #takesStrings(form: Form): boolean {
    const { operands } = this;
    const kinds =
      operands.length === form.kinds.length ? form.kinds : form.kinds.filter((kind) => /r[SD]I$/.test(kind));
    if (operands.length === 0 || operands.length !== kinds.length) return false;
    let addressClass: string | undefined;
    return operands.every((operand, place) => {
      const kind = kinds[place];
      if (kind !== 'seg_rSI' && kind !== 'es_rDI') return operand.kind === 'register' && operand.register.name === kind;
      if (operand.kind !== 'memory' || operand.base === undefined || operand.index !== undefined) return false;
      if (operand.value !== 0n || (operand.size !== 0 && operand.size !== form.memorySize)) return false;
      if (!operand.base.name.endsWith(kind === 'seg_rSI' ? 'si' : 'di')) return false;
      if (kind === 'es_rDI' && operand.segment !== undefined && operand.segment.name !== 'es') {
        throw new SourceFault('the destination of a string instruction is always in es', operand.at);
      }
      addressClass ??= operand.base.class;
      return addressClass === operand.base.class;
    });
  }

  #writtenOut(): Encoded {
    const { operands } = this;
    if (operands.length > WRITTEN_OUT[this.entry.name] || !operands.every((operand) => isGeneral(operand))) {
      throw this.#noForm(this.#available());
    }
    const [first] = operands;
    const sizedBy = first?.kind === 'register' && !/^(?:mwaitx?|skinit)$/.test(this.entry.name) ? first : undefined;
    if (sizedBy !== undefined) this.addressSize = Number(sizedBy.register.class.slice(1));
    const form = this.#available().find(({ addressSize }) => addressSize === 0 || addressSize === this.addressSize);
    if (form === undefined) throw this.#noForm(this.#available());
    return this.#encodeForm(form, []);
  }

  /** Forms of this mode. */
  #available(): Form[] {
    const { forms, name, suffix } = this.entry;
    const available = forms.filter((form) => form.modes.includes(this.bits));
    if (available.length === 0) {
      const modes = [...new Set(forms.flatMap((form) => form.modes))].map((mode) => `.code${mode}`).join(' and ');
      throw new SourceFault(`"${name}" exists only in ${modes} (this is .code${this.bits})`, this.at);
    }
    if (suffix === undefined || name.startsWith('loop')) return available;
    const sized = available.filter((form) => formBits(form) === suffix);
    const sizeless = available.filter((form) => formBits(form) === 0);
    if (sized.length === 0 && sizeless.length === 0) {
      throw new SourceFault(`"${name}" has no ${suffix}-bit form in .code${this.bits}`, this.at);
    }
    return sized.length > 0 ? sized : sizeless;
  }

  #general(): Encoded {
    const { name } = this.entry;
    let forms = this.#available();
    if (name === 'movabs' && this.bits !== 64) throw new SourceFault('"movabs" exists only in .code64', this.at);
    if (name === 'movabs') forms = forms.filter((form) => /^Mov_(?:r64_imm64|.*moffs)/.test(form.name));
    const far = name === 'ljmp' || name === 'lcall' || distanceOf(this.operands[0]) === 'far';
    if (far && this.operands[0]?.kind === 'register') throw this.#noForm(forms);
    this.#checkAddressPrefix();
    if (this.operands.length > 0 && this.operands.every(({ kind }) => kind === 'immediate'))
      forms = this.#ofMode(forms);
    let candidates = this.#match(forms, this.operands, far);
    if ((name === 'test' || name === 'xchg') && this.operands.length === 2) {
      const [first, second] = this.operands;
      candidates = candidates.concat(this.#match(forms, [second, first], far));
    }
    if (candidates.length === 0) throw this.#noForm(forms);
    return this.#shortest(this.#sized(candidates));
  }

  #checkAddressPrefix(): void {
    const { address } = this.prefixes;
    if (address === undefined) return;
    for (const operand of this.operands) {
      if (operand.kind !== 'memory' || (operand.base ?? operand.index) === undefined) continue;
      if (addressWidth(operand, this.bits, address) === address) continue;
      throw new SourceFault(`addr${address} does not go with the registers of this address`, operand.at);
    }
  }

  /** Where only numbers are written the mode gives the size, and then the number must fit that. */
  #ofMode(forms: Form[]): Form[] {
    const preferred = this.entry.suffix ?? this.#preferredSize(forms);
    const chosen = forms.filter((form) => form.operandSize === preferred || form.operandSize === 0);
    return chosen.length > 0 ? chosen : forms;
  }

  #match(forms: readonly Form[], operands: readonly Operand[], far: boolean): Candidate[] {
    const candidates: Candidate[] = [];
    for (const form of forms) {
      const kinds = this.#kindsFor(form, operands.length);
      if (
        kinds === undefined ||
        (isBranch(this.entry.name) &&
          operands[0].kind !== 'far' &&
          !far === isFarMemory(form) &&
          isUnsized(operands[0]))
      ) {
        continue;
      }
      if (far && operands[0].kind === 'memory' && !isFarMemory(form)) continue;
      if (kinds.every((kind, place) => place >= operands.length || this.#takes(form, kind, operands[place]))) {
        if (!this.#isWrongNop(form, operands)) candidates.push({ form, operands });
      }
    }
    return candidates;
  }

  /** Operand kinds of a form if `count` operands can be written; a shift by 1 and AAM/AAD have an operand to leave out. */
  #kindsFor(form: Form, count: number): readonly string[] | undefined {
    const { kinds } = form;
    if (kinds.length === count) return kinds;
    if (count === kinds.length - 1) {
      const last = kinds[kinds.length - 1];
      if (last === 'imm8_const_1' || (last === 'imm8' && /^aa[md]$/.test(this.entry.name))) return kinds;
      if (last === 'cl' && /^sh[lr]d$/.test(this.entry.name)) return kinds;
    }
    return count === 0 && kinds.every((kind) => /^(?:seg_r|es_r|al$|dx$)/.test(kind)) ? kinds : undefined;
  }

  /** 90 is a no-op: in 64-bit code XCHG EAX, EAX must clear the upper half, so it has another form. */
  #isWrongNop(form: Form, operands: readonly Operand[]): boolean {
    if (this.bits !== 64 || form.name !== 'Xchg_r32_EAX') return false;
    return operands.every((operand) => operand.kind === 'register' && operand.register.name === 'eax');
  }

  #takes(form: Form, kind: string, operand: Operand): boolean {
    switch (operand.kind) {
      case 'register':
        return takesRegister(kind, operand.register);
      case 'memory':
        return this.#takesMemory(form, kind, operand);
      case 'immediate':
        return takesImmediate(kind, operand, form.name === 'Mov_r64_imm64' && this.entry.name !== 'movabs');
      case 'far':
        return kind === 'farbr2_2' || kind === 'farbr4_2';
    }
  }

  #takesMemory(form: Form, kind: string, operand: MemoryOperand): boolean {
    if (kind === 'mem_offs') {
      if (operand.base !== undefined || operand.index !== undefined) return false;
      if (operand.size !== 0 && operand.size !== form.memorySize) return false;
      if (this.bits !== 64 || this.entry.name === 'movabs') return true;
      return operand.value !== undefined && !fitsSigned(operand.value, 32);
    }
    if (kind !== 'mem' && !kind.endsWith('_or_mem')) return false;
    if (this.entry.name === 'movabs') return false;
    return operand.size === 0 || form.memorySize === 0 || operand.size === form.memorySize;
  }

  /** Picks the operand size where the operands leave it open: of the suffix, of a prefix, or of the mode. */
  #sized(candidates: readonly Candidate[]): readonly Candidate[] {
    const memory = this.operands.find((operand): operand is MemoryOperand => operand.kind === 'memory');
    const { name } = this.entry;
    if (memory !== undefined && memory.size === 0 && !DEFAULT_SIZE.test(name)) {
      // Which sizes a number fits must not decide what an instruction writes.
      const open = this.#available().filter(
        (form) => form.kinds.length === this.operands.length && this.#takesBut(form),
      );
      const sizes = new Set([...candidates.map(({ form }) => form), ...open].map((form) => form.memorySize));
      if (sizes.size > 1) throw this.#ambiguous(memory);
    }
    const sizes = new Set(candidates.map(({ form }) => form.operandSize));
    sizes.delete(0);
    if (sizes.size < 2) return candidates;
    const preferred = this.#preferredSize(
      candidates.map(({ form }) => form),
      memory,
    );
    const chosen = candidates.filter(({ form }) => form.operandSize === preferred);
    return chosen.length > 0 ? chosen : candidates;
  }

  #preferredSize(forms: readonly Form[], memory?: MemoryOperand): number {
    if (this.prefixes.data !== undefined) return this.prefixes.data;
    if (this.prefixes.wide) return 64;
    if (memory?.size === 6 && TABLE_REGISTERS.test(this.entry.name)) return 32;
    if (this.bits === 16) return 16;
    return forms.some((form) => form.operandSize === 64 && form.default64) ? 64 : 32;
  }

  #shortest(candidates: readonly Candidate[]): Encoded {
    let best: Encoded | undefined;
    let bestLength = Number.POSITIVE_INFINITY;
    let failure: unknown;
    for (const { form, operands } of candidates) {
      if (best !== undefined && candidates.length > 1 && form.rank > 0 && bestLength < 3) continue;
      let encoded: Encoded;
      try {
        encoded = this.#encodeForm(form, operands);
      } catch (error) {
        if (!(error instanceof SourceFault || error instanceof Refusal)) throw error;
        failure = error;
        continue;
      }
      const length = encoded.kind === 'bytes' ? encoded.bytes.length + form.rank * 0.5 : 0;
      if (length < bestLength) {
        best = encoded;
        bestLength = length;
      }
    }
    if (best === undefined) throw failure;
    return best;
  }

  // --- jumps -----------------------------------------------------------------------------------------------------------------

  #branch(operand: ImmediateOperand | MemoryOperand): Encoded {
    const target = operand.kind === 'memory' ? operand.displacement! : operand.expression;
    const forms = this.#available().filter(isNearBranch);
    const addressed = forms.filter(
      (form) => form.addressSize === 0 || /^J[er]?cxz/.test(form.name) || form.addressSize === this.#loopSize(),
    );
    const size = this.#branchSize(addressed);
    const sized = addressed.filter((form) => form.operandSize === size);
    const short = sized.find((form) => /_1$/.test(form.kinds[0]));
    const near = sized.find((form) => !/_1$/.test(form.kinds[0]));
    if (short === undefined && near === undefined) throw this.#noForm(forms);
    if (operand.distance === 'far') throw new SourceFault('a far target needs a selector: selector:offset', operand.at);
    if (operand.distance === 'short' && short === undefined) {
      throw new SourceFault(`"${this.entry.name}" has no short form`, operand.at);
    }
    const known = reduce(target);
    const isAbsolute = known !== undefined && known.place === undefined;
    if (short !== undefined && near !== undefined && operand.distance !== 'short' && !isAbsolute) {
      const nearSize = size === 16 ? 2 : 4;
      return {
        kind: 'jump',
        short: this.#opcode(short, 1),
        near: this.#opcode(near, nearSize),
        nearSize,
        target,
        at: operand.at,
      };
    }
    const form = near === undefined || operand.distance === 'short' ? short! : near;
    const displacementSize = form === short ? 1 : size === 16 ? 2 : 4;
    const opcode = this.#opcode(form, displacementSize);
    const bytes = new Uint8Array(opcode.length + displacementSize);
    bytes.set(opcode);
    const kind = displacementSize === 2 ? 'relative-wrapped' : 'relative';
    const patch: Patch = { offset: opcode.length, size: displacementSize, kind, expression: target, at: operand.at };
    return { kind: 'bytes', bytes, patches: [patch] };
  }

  /** Operand size of a near branch. */
  #branchSize(forms: readonly Form[]): number {
    const { suffix } = this.entry;
    if (suffix !== undefined && !/^loop/.test(this.entry.name)) return suffix;
    return this.#preferredSize(forms);
  }

  /** `loopw` and `loopd` name the counter. */
  #loopSize(): number {
    const { name, suffix } = this.entry;
    return /^loop/.test(name) && suffix !== undefined ? suffix : this.addressSize;
  }

  /** Bytes of a branch before its displacement. */
  #opcode(form: Form, displacementSize: number): Uint8Array {
    const { bits, prefixes } = this;
    const key = `${form.name} ${bits} ${prefixes.bytes.join()}${prefixes.wide} ${this.#jumpAddressPrefix(form)}`;
    const known = opcodes.get(key);
    if (known !== undefined) return known;
    const { Instruction, OpKind } = iced();
    const instruction = new Instruction();
    let bytes: Uint8Array;
    try {
      instruction.code = form.code;
      const kind =
        form.operandSize === 16
          ? OpKind.NearBranch16
          : form.operandSize === 32
            ? OpKind.NearBranch32
            : OpKind.NearBranch64;
      instruction.setOpKind(0, kind);
      if (form.operandSize === 16) instruction.nearBranch16 = 0;
      else if (form.operandSize === 32) instruction.nearBranch32 = 0;
      else instruction.nearBranch64 = 0n;
      bytes = this.#withPrefixes(run(bits, instruction), form);
    } finally {
      instruction.free();
    }
    const opcode = bytes.slice(0, bytes.length - displacementSize);
    opcodes.set(key, opcode);
    return opcode;
  }

  #jumpAddressPrefix(form: Form): boolean {
    return this.prefixes.address !== undefined && form.addressSize === 0;
  }

  // --- encoding --------------------------------------------------------------------------------------------------------------

  /** LOCK needs an instruction that reads and writes memory, REP a string instruction: GNU as insists too. */
  #checkRepeats(form: Form): void {
    const { bytes } = this.prefixes;
    const writesMemory = this.operands[0]?.kind === 'memory';
    const isExchange = this.entry.name === 'xchg' && this.operands.some(({ kind }) => kind === 'memory');
    const elides = form.elidable && (bytes.includes(0xf0) || isExchange || this.entry.name === 'mov');
    for (const prefix of bytes) {
      const isLock = prefix === 0xf0;
      if (!isLock && prefix !== 0xf2 && prefix !== 0xf3) continue;
      if (isLock ? (form.lockable && writesMemory) || isExchange : form.repeats.includes(prefix) || elides) continue;
      const name = isLock ? 'lock' : prefix === 0xf3 ? 'rep' : 'repne';
      throw new SourceFault(
        `"${this.entry.name}" takes no ${name}; as a statement of its own ("${name};") it goes anywhere`,
        this.at,
      );
    }
  }

  #encodeForm(form: Form, operands: readonly Operand[]): Encoded {
    const { Instruction } = iced();
    if (this.prefixes.bytes.length > 0) this.#checkRepeats(form);
    if (form.name === 'Xchg_r64_RAX' && operands.every((operand) => isNamed(operand, 'rax'))) {
      return { kind: 'bytes', bytes: this.#withPrefixes(Uint8Array.of(0x90), form), patches: [] };
    }
    const instruction = new Instruction();
    try {
      instruction.code = form.code;
      let symbolic = false;
      for (const [place, kind] of form.kinds.entries()) {
        if (this.#setOperand(instruction, place, kind, form, operands[place])) symbolic = true;
      }
      const raw = run(this.bits, instruction);
      const bytes = this.#withPrefixes(raw, form);
      if (!symbolic) return { kind: 'bytes', bytes, patches: [] };
      return { kind: 'bytes', bytes, patches: this.#patches(form, operands, bytes.length - raw.length) };
    } finally {
      instruction.free();
    }
  }

  /** Returns true if the operand holds a value that is not known yet. */
  #setOperand(
    instruction: Instruction,
    place: number,
    kind: string,
    form: Form,
    operand: Operand | undefined,
  ): boolean {
    const { OpKind } = iced();
    if (operand === undefined || IMPLIED.test(kind)) {
      this.#setImplied(instruction, place, kind);
      return false;
    }
    switch (operand.kind) {
      case 'register':
        instruction.setOpKind(place, OpKind.Register);
        instruction.setOpRegister(place, operand.register.id);
        return false;
      case 'memory':
        instruction.setOpKind(place, OpKind.Memory);
        return this.#setMemory(instruction, operand, kind === 'mem_offs');
      case 'immediate':
        setImmediate(instruction, place, kind, operand.value ?? 0n);
        return operand.value === undefined;
      case 'far':
        return setFar(instruction, place, form, operand);
    }
  }

  #setImplied(instruction: Instruction, place: number, kind: string): void {
    const { OpKind } = iced();
    const width = this.addressSize;
    const pick = <T>(at16: T, at32: T, at64: T): T => (width === 16 ? at16 : width === 32 ? at32 : at64);
    switch (kind) {
      case 'seg_rSI':
        instruction.setOpKind(place, pick(OpKind.MemorySegSI, OpKind.MemorySegESI, OpKind.MemorySegRSI));
        if (this.segment !== undefined) instruction.segmentPrefix = this.segment.id;
        return;
      case 'es_rDI':
        instruction.setOpKind(place, pick(OpKind.MemoryESDI, OpKind.MemoryESEDI, OpKind.MemoryESRDI));
        return;
      case 'seg_rDI':
        instruction.setOpKind(place, pick(OpKind.MemorySegDI, OpKind.MemorySegEDI, OpKind.MemorySegRDI));
        return;
      case 'seg_rBX_al':
        instruction.setOpKind(place, OpKind.Memory);
        instruction.memoryBase = registerNamed(pick('bx', 'ebx', 'rbx'))!.id;
        instruction.memoryIndex = registerNamed('al')!.id;
        return;
      case 'imm8':
        setImmediate(instruction, place, kind, 10n);
        return;
      case 'imm8_const_1':
        setImmediate(instruction, place, kind, 1n);
        return;
      default:
        instruction.setOpKind(place, OpKind.Register);
        instruction.setOpRegister(place, registerNamed(kind)!.id);
    }
  }

  #setMemory(instruction: Instruction, operand: MemoryOperand, isOffset: boolean): boolean {
    const { base, index, scale, segment } = operand;
    const width = addressWidth(operand, this.bits, this.prefixes.address);
    if (base !== undefined) instruction.memoryBase = base.id;
    if (index !== undefined) {
      instruction.memoryIndex = index.id;
      instruction.memoryIndexScale = scale;
    }
    if (segment !== undefined && segment.name !== defaultSegment(base)) instruction.segmentPrefix = segment.id;
    if (base?.class === 'ip') {
      // The displacement is filled in afterwards: from RIP to a symbol, or a number as it is.
      instruction.memoryDisplSize = base.name === 'rip' ? 8 : 4;
      instruction.memoryDisplacement = 0n;
      return true;
    }
    const { value } = operand;
    if (value === undefined) {
      instruction.memoryDisplSize = width / 8;
      instruction.memoryDisplacement = 0n;
      return true;
    }
    const displacement = this.#displacement(value, width, operand, isOffset);
    const registers = base !== undefined || index !== undefined;
    if (isOffset || !registers || (base === undefined && width !== 16)) instruction.memoryDisplSize = width / 8;
    else if (displacement === 0n && !needsDisplacement(operand)) instruction.memoryDisplSize = 0;
    else instruction.memoryDisplSize = fitsSigned(displacement, 8) ? 1 : width / 8;
    instruction.memoryDisplacement = displacement;
    return false;
  }

  /** A known displacement as it is added to addresses of `width` bits. */
  #displacement(value: bigint, width: number, { at }: MemoryOperand, isOffset: boolean): bigint {
    const text = `0x${BigInt.asUintN(64, value).toString(16)}`;
    if (width === 64) {
      if (isOffset || fitsSigned(value, 32)) return value;
      throw new SourceFault(`displacement ${text} does not fit 32 bits sign-extended; load it into a register`, at);
    }
    const limit = 1n << BigInt(width);
    if (value < -limit / 2n || value >= limit)
      throw new SourceFault(`displacement ${text} does not fit ${width}-bit addresses`, at);
    return isOffset ? BigInt.asUintN(width, value) : BigInt.asIntN(width, value);
  }

  /** Adds the prefixes that were written out and puts all into GNU as's order. */
  #withPrefixes(encoded: Uint8Array, form: Form): Uint8Array {
    const { bytes, data, address, wide } = this.prefixes;
    let count = 0;
    while (PREFIX_ORDER.has(encoded[count]) && count < encoded.length - 1) count++;
    if (count === 0 && bytes.length === 0 && data === undefined && address === undefined && !wide) return encoded;
    const found = [...encoded.subarray(0, count)];
    const extra: number[] = [...bytes];
    if (data !== undefined && !found.includes(0x66)) extra.push(0x66);
    if (address !== undefined && !found.includes(0x67)) extra.push(0x67);
    for (const prefix of bytes) {
      if (found.includes(prefix)) throw new SourceFault(`the prefix ${hexByte(prefix)} stands twice`, this.at);
    }
    const all = [...found, ...extra].sort((a, b) => PREFIX_ORDER.get(a)! - PREFIX_ORDER.get(b)!);
    const rest = [...encoded.subarray(count)];
    if (wide && (rest[0] & 0xf8) !== 0x48) {
      if ((rest[0] & 0xf0) === 0x40 && form.modes.includes(64)) rest[0] |= 8;
      else rest.unshift(0x48);
    }
    return Uint8Array.from([...all, ...rest]);
  }

  /** Where values that are not known yet go: displacement first, then the immediate, at the end of the instruction. */
  #patches(form: Form, operands: readonly Operand[], shift: number): Patch[] {
    const offsets = lastOffsets();
    const patches: Patch[] = [];
    for (const [place, operand] of operands.entries()) {
      if (operand.kind === 'memory' && (operand.value === undefined || operand.base?.class === 'ip')) {
        patches.push(this.#memoryPatch(form.kinds[place], operand, offsets, shift));
      } else if (operand.kind === 'immediate' && operand.value === undefined) {
        const signed = form.kinds[place] === 'imm32sex64';
        patches.push({
          offset: offsets.immediate + shift,
          size: offsets.immediateSize,
          kind: signed ? 'signed' : 'data',
          expression: operand.expression,
          at: operand.at,
        });
      } else if (operand.kind === 'far') {
        const { selector, offset, at } = operand;
        const size = form.operandSize / 8;
        const start = offsets.immediate + shift;
        patches.push({ offset: start, size, kind: 'data', expression: offset, at });
        patches.push({ offset: start + size, size: 2, kind: 'data', expression: selector, at });
      }
    }
    return patches;
  }

  #memoryPatch(kind: string, operand: MemoryOperand, offsets: Offsets, shift: number): Patch {
    const expression = operand.displacement ?? number(0n);
    const width = addressWidth(operand, this.bits, this.prefixes.address);
    const offset = offsets.displacement + shift;
    const { at } = operand;
    if (operand.base?.class === 'ip') {
      const isLiteral = operand.value !== undefined;
      return { offset, size: 4, kind: isLiteral ? 'signed' : 'relative', expression, at };
    }
    if (kind === 'mem_offs') return { offset, size: width / 8, kind: 'data', expression, at };
    return { offset, size: width === 16 ? 2 : 4, kind: width === 64 ? 'signed' : 'data', expression, at };
  }

  // --- messages --------------------------------------------------------------------------------------------------------------

  #ambiguous(operand: Operand | undefined): SourceFault {
    const sizes = 'byte ptr, word ptr, dword ptr or qword ptr';
    return new SourceFault(
      `the size of the memory operand of "${this.entry.name}" is open: write ${sizes}`,
      operand?.at ?? this.at,
    );
  }

  #noForm(forms: readonly Form[]): SourceFault {
    const { entry, operands, at } = this;
    const counts = [...new Set(forms.map((form) => form.kinds.length))].sort();
    if (!counts.includes(operands.length) && !isStringForm(entry.forms[0])) {
      const takes =
        counts.length === 1 && counts[0] === 0
          ? 'no operands'
          : `${counts.join(' or ')} operand${counts.join() === '1' ? '' : 's'}`;
      return new SourceFault(`"${entry.name}" takes ${takes}, not ${operands.length}`, at);
    }
    const unfitting = operands.find(
      (operand): operand is ImmediateOperand =>
        operand.kind === 'immediate' &&
        operand.value !== undefined &&
        forms.some((form) => form.kinds.length === operands.length && this.#takesBut(form)),
    );
    if (unfitting?.value !== undefined) {
      const text = unfitting.value < 0n ? `-0x${(-unfitting.value).toString(16)}` : `0x${unfitting.value.toString(16)}`;
      return new SourceFault(`${text} does not fit the operand of "${entry.name}"`, unfitting.at);
    }
    return new SourceFault(
      `no form of "${entry.name}" takes ${operands.map(describe).join(', ')}`,
      operands[0]?.at ?? at,
    );
  }

  /** Whether `form` takes the operands if any number may stand for a number. */
  #takesBut(form: Form): boolean {
    return this.operands.every((operand, place) => {
      const kind = form.kinds[place];
      return operand.kind === 'immediate' ? kind.startsWith('imm') : this.#takes(form, kind, operand);
    });
  }
}

interface Candidate {
  readonly form: Form;
  readonly operands: readonly Operand[];
}

const opcodes = new Map<string, Uint8Array>();

/** Order of legacy prefixes in GNU as's output. */
const PREFIX_ORDER: ReadonlyMap<number, number> = new Map([
  ...[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65].map((prefix) => [prefix, 0] as const),
  [0x67, 1],
  [0x66, 2],
  [0xf2, 3],
  [0xf3, 3],
  [0xf0, 4],
]);

const hexByte = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, '0');

const isNearBranch = (form: Form): boolean => /^(?:br\d|xbegin)/.test(form.kinds[0] ?? '');
const isFarMemory = (form: Form): boolean => /^(?:Jmp|Call)_m16/.test(form.name);
const isBranch = (name: string): boolean => /^l?(?:jmp|call)$/.test(name);
const isUnsized = (operand: Operand): boolean => operand.kind === 'memory' && operand.size === 0;

function isBranchTarget(operand: Operand): operand is ImmediateOperand | MemoryOperand {
  return operand.kind === 'immediate' || (operand.kind === 'memory' && operand.bare);
}

function distanceOf(operand: Operand | undefined): string | undefined {
  return operand?.kind === 'memory' || operand?.kind === 'immediate' ? operand.distance : undefined;
}

const isNamed = (operand: Operand, name: string): boolean =>
  operand.kind === 'register' && operand.register.name === name;

function isClass(operand: Operand | undefined, kind: string): operand is RegisterOperand {
  return operand?.kind === 'register' && operand.register.class === kind;
}

function isGeneral(operand: Operand | undefined, kind?: string): operand is RegisterOperand {
  if (operand?.kind !== 'register') return false;
  return kind === undefined ? /^r(?:16|32|64)$/.test(operand.register.class) : operand.register.class === kind;
}

const resizedOperand = (operand: RegisterOperand, bits: number): RegisterOperand => ({
  ...operand,
  register: resized(operand.register, bits),
});

/** Operand size of a form in bits, 8 for byte forms, 0 if it has none. */
function formBits(form: Form): number {
  if (form.operandSize !== 0) return form.operandSize;
  if (form.kinds.some((kind) => /^(?:r8_|al$)/.test(kind)) || form.memorySize === 1) return 8;
  return form.memorySize === 0 ? 0 : form.memorySize * 8;
}

function takesRegister(kind: string, register: Register): boolean {
  const { class: kindOf, name } = register;
  switch (kind) {
    case 'es':
    case 'cs':
    case 'ss':
    case 'ds':
    case 'fs':
    case 'gs':
    case 'al':
    case 'cl':
    case 'ax':
    case 'dx':
    case 'eax':
    case 'rax':
    case 'st0':
      return name === kind;
    case 'seg_reg':
      return kindOf === 'segment';
    case 'cr_reg':
      return kindOf === 'cr';
    case 'dr_reg':
      return kindOf === 'dr';
    case 'sti_opcode':
      return kindOf === 'st';
    default: {
      const width = kind.slice(0, kind.indexOf('_'));
      return width === kindOf && !/^mem/.test(kind) && !/_mem$/.test(kind.replace(/_or_mem$/, ''));
    }
  }
}

const fitsSigned = (value: bigint, bits: number): boolean => BigInt.asIntN(bits, value) === value;

/** Whether `value` can be written for an operand of `bits`: as a signed or as an unsigned number. */
const fits = (value: bigint, bits: number): boolean => fitsSigned(value, bits) || BigInt.asUintN(bits, value) === value;

function takesImmediate(kind: string, { value }: ImmediateOperand, keepShort: boolean): boolean {
  if (value === undefined) return /^imm(?:8|16|32|32sex64|64)$/.test(kind) && !(kind === 'imm64' && keepShort);
  switch (kind) {
    case 'imm8':
      return fits(value, 8);
    case 'imm8_const_1':
      return value === 1n;
    case 'imm8sex16':
      return fits(value, 16) && fitsSigned(BigInt.asIntN(16, value), 8);
    case 'imm8sex32':
      return fits(value, 32) && fitsSigned(BigInt.asIntN(32, value), 8);
    case 'imm8sex64':
      return fitsSigned(value, 8);
    case 'imm16':
      return fits(value, 16);
    case 'imm32':
      return fits(value, 32);
    case 'imm32sex64':
      return fitsSigned(value, 32);
    case 'imm64':
      return true;
    default:
      return false;
  }
}

function setImmediate(instruction: Instruction, place: number, kind: string, value: bigint): void {
  const { OpKind } = iced();
  switch (kind) {
    case 'imm8':
    case 'imm8_const_1': {
      const byte = Number(BigInt.asUintN(8, value));
      const isSecond = place > 0 && isImmediate(instruction.opKind(place - 1));
      instruction.setOpKind(place, isSecond ? OpKind.Immediate8_2nd : OpKind.Immediate8);
      if (isSecond) instruction.immediate8_2nd = byte;
      else instruction.immediate8 = byte;
      return;
    }
    case 'imm8sex16':
      instruction.setOpKind(place, OpKind.Immediate8to16);
      instruction.immediate8to16 = Number(BigInt.asIntN(8, value));
      return;
    case 'imm8sex32':
      instruction.setOpKind(place, OpKind.Immediate8to32);
      instruction.immediate8to32 = Number(BigInt.asIntN(8, value));
      return;
    case 'imm8sex64':
      instruction.setOpKind(place, OpKind.Immediate8to64);
      instruction.immediate8to64 = BigInt.asIntN(8, value);
      return;
    case 'imm16':
      instruction.setOpKind(place, OpKind.Immediate16);
      instruction.immediate16 = Number(BigInt.asUintN(16, value));
      return;
    case 'imm32':
      instruction.setOpKind(place, OpKind.Immediate32);
      instruction.immediate32 = Number(BigInt.asUintN(32, value));
      return;
    case 'imm32sex64':
      instruction.setOpKind(place, OpKind.Immediate32to64);
      instruction.immediate32to64 = BigInt.asIntN(32, value);
      return;
    default:
      instruction.setOpKind(place, OpKind.Immediate64);
      instruction.immediate64 = BigInt.asUintN(64, value);
  }
}

function isImmediate(kind: number): boolean {
  const { OpKind } = iced();
  return kind >= OpKind.Immediate8 && kind <= OpKind.Immediate32to64;
}

/** Offset and selector are filled in afterwards. */
function setFar(instruction: Instruction, place: number, form: Form, _operand: FarOperand): boolean {
  const { OpKind } = iced();
  instruction.setOpKind(place, form.operandSize === 16 ? OpKind.FarBranch16 : OpKind.FarBranch32);
  return true;
}

function addressWidth({ base, index }: MemoryOperand, bits: Bits, prefix: 16 | 32 | undefined): number {
  const register = base ?? index;
  if (register === undefined) return prefix ?? bits;
  if (register.class === 'ip') return register.name === 'rip' ? 64 : 32;
  return Number(register.class.slice(1));
}

/** Segment an address uses without a prefix. */
function defaultSegment(base: Register | undefined): string {
  return base !== undefined && /^[er]?[sb]p$/.test(base.name) ? 'ss' : 'ds';
}

/** [bp], [rbp] and [r13] have no form without displacement. */
function needsDisplacement({ base, index }: MemoryOperand): boolean {
  if (base === undefined) return false;
  return base.class === 'r16' ? base.name === 'bp' && index === undefined : (base.number & 7) === 5;
}

interface Offsets {
  readonly displacement: number;
  readonly immediate: number;
  readonly immediateSize: number;
}

const encoders = new Map<Bits, Encoder>();
let lastEncoder: Encoder | undefined;

/** Bytes of one instruction as iced-x86 encodes it at address 0. Throws a string or Error if it cannot. */
function run(bits: Bits, instruction: Instruction): Uint8Array {
  let encoder = encoders.get(bits);
  if (encoder === undefined) {
    encoder = new (iced().Encoder)(bits);
    encoders.set(bits, encoder);
  }
  lastEncoder = encoder;
  try {
    encoder.encode(instruction, 0n);
    return encoder.takeBuffer();
  } catch (error) {
    encoder.takeBuffer();
    throw new Refusal(error instanceof Error ? error.message : String(error));
  }
}

/** Where the encoder put displacement and immediate of the last instruction. */
function lastOffsets(): Offsets {
  const offsets = lastEncoder!.getConstantOffsets();
  try {
    return {
      displacement: offsets.displacementOffset,
      immediate: offsets.immediateOffset,
      immediateSize: offsets.immediateSize,
    };
  } finally {
    offsets.free();
  }
}

function describe(operand: Operand): string {
  switch (operand.kind) {
    case 'register':
      return operand.register.name;
    case 'memory':
      return operand.size === 0 ? 'memory' : `${operand.size * 8}-bit memory`;
    case 'immediate':
      return 'a number';
    case 'far':
      return 'selector:offset';
  }
}
