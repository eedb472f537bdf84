/** Operands of instructions in Intel syntax as GNU as reads it. */
import {
  constant,
  type Expression,
  ExpressionParser,
  JUXTAPOSED,
  number,
  type Register,
  reduce,
} from './expression.ts';
import { existsIn, registerNamed } from './isa.ts';
import type { Bits } from './layout.ts';
import { SourceFault } from './lexer.ts';
import { own } from './own.ts';

export interface RegisterOperand {
  readonly kind: 'register';
  readonly register: Register;
  readonly at: number;
}

export interface ImmediateOperand {
  readonly kind: 'immediate';
  readonly expression: Expression;
  /** Signed 64-bit, if it is known already. */
  readonly value: bigint | undefined;
  readonly distance: Distance | undefined;
  readonly at: number;
}

export type Distance = 'short' | 'near' | 'far';

export interface MemoryOperand {
  readonly kind: 'memory';
  /** Bytes, 0 if not written. */
  readonly size: number;
  readonly segment: Register | undefined;
  readonly base: Register | undefined;
  readonly index: Register | undefined;
  readonly scale: number;
  readonly displacement: Expression | undefined;
  /** Of the displacement, if it is known already. */
  readonly value: bigint | undefined;
  readonly distance: Distance | undefined;
  /** A bare symbol: memory for most instructions, the target itself for jumps and calls. */
  readonly bare: boolean;
  readonly at: number;
}

/** `selector:offset`. */
export interface FarOperand {
  readonly kind: 'far';
  readonly selector: Expression;
  readonly offset: Expression;
  readonly at: number;
}

export type Operand = RegisterOperand | ImmediateOperand | MemoryOperand | FarOperand;

const SIZES: Readonly<Record<string, number>> = {
  byte: 1,
  word: 2,
  dword: 4,
  fword: 6,
  qword: 8,
  mmword: 8,
  tbyte: 10,
  oword: 16,
  xmmword: 16,
  ymmword: 32,
};

const DISTANCES: ReadonlySet<string> = new Set(['short', 'near', 'far']);

interface Term {
  readonly register: Register;
  readonly scale: number;
  /** Written with `*`: an index even with scale 1. */
  readonly scaled: boolean;
  readonly at: number;
}

/** What the parts of an operand add up to. */
interface Sum {
  readonly terms: Term[];
  /** Signed parts that are not registers. */
  readonly rest: { readonly expression: Expression; readonly negative: boolean }[];
  brackets: boolean;
  offset: boolean;
  segment: Register | undefined;
}

export class OperandParser extends ExpressionParser {
  bits: Bits = 64;
  #size = 0;
  #distance: Distance | undefined;

  /** Operands up to the end of the statement. */
  operands(): Operand[] {
    const operands: Operand[] = [];
    if (this.atEnd()) return operands;
    do operands.push(this.operand());
    while (this.accept(','));
    this.expectEnd();
    return operands;
  }

  operand(): Operand {
    const { at } = this.token;
    this.#size = 0;
    this.#distance = undefined;
    const expression = this.expression();
    if (this.accept(':')) return { kind: 'far', selector: expression, offset: this.expression(), at };
    return this.#lower(expression, at);
  }

  override operator(): { text: string; at: number } | undefined {
    if (this.is('[')) return { text: JUXTAPOSED, at: this.token.at };
    return super.operator();
  }

  override primary(): Expression {
    const { kind, at } = this.token;
    if (this.accept('[')) {
      const inner = this.expression();
      this.expect(']');
      return { kind: 'brackets', inner, at };
    }
    return kind === 'name' ? this.#name() : super.primary();
  }

  #name(): Expression {
    const { text, at } = this.token;
    const word = text.toLowerCase();
    if (word === 'offset') {
      this.position++;
      // `offset flat:name`, as compilers write it.
      if (this.token.text.toLowerCase() === 'flat') {
        this.position++;
        this.expect(':');
      }
      return { kind: 'offset', operand: this.unary(), at };
    }
    const size = own(SIZES, word);
    if (size !== undefined) {
      this.position++;
      this.#ptr(`"${text}" must be followed by "ptr"`);
      this.#size = size;
      return this.unary();
    }
    if (DISTANCES.has(word)) {
      this.position++;
      this.#distance = word as Distance;
      if (this.token.text.toLowerCase() === 'ptr') this.position++;
      return this.unary();
    }
    const register = this.#register(word);
    if (register === undefined) return super.primary();
    if (!existsIn(register, this.bits)) {
      throw new SourceFault(`register ${word} exists only in 64-bit code (this is .code${this.bits})`, at);
    }
    if (register.class === 'segment' && this.accept(':')) {
      return { kind: 'segment', register, operand: this.expression(), at };
    }
    return { kind: 'register', register, at };
  }

  #ptr(otherwise: string): void {
    if (this.token.kind !== 'name' || this.token.text.toLowerCase() !== 'ptr')
      throw new SourceFault(otherwise, this.token.at);
    this.position++;
  }

  /** Takes a register's tokens; `st` and `st(i)` name the x87 stack. */
  #register(word: string): Register | undefined {
    if (word !== 'st') {
      const register = registerNamed(word);
      if (register !== undefined) this.position++;
      return register;
    }
    this.position++;
    if (!this.accept('(')) return registerNamed('st0');
    const { text, at } = this.next();
    this.expect(')');
    const register = registerNamed(`st${text}`);
    if (register === undefined) throw new SourceFault('the x87 stack is st(0) to st(7)', at);
    return register;
  }

  #lower(expression: Expression, at: number): Operand {
    if (expression.kind === 'register') {
      if (this.#size > 0) throw new SourceFault('a register has no "ptr" size', at);
      return { kind: 'register', register: expression.register, at };
    }
    const sum: Sum = { terms: [], rest: [], brackets: false, offset: false, segment: undefined };
    collect(expression, false, sum);
    const displacement = sumOf(sum.rest);
    const memory = sum.brackets || sum.segment !== undefined || this.#size > 0;
    if (sum.terms.length > 0 && !memory) throw new SourceFault('a sum with registers needs brackets', at);
    const value = displacement === undefined ? undefined : constant(displacement);
    const distance = this.#distance;
    const bare = !memory && !sum.offset && isSymbolic(displacement);
    if (!memory && !bare) {
      return { kind: 'immediate', expression: displacement ?? number(0n), value, distance, at };
    }
    const { base, index, scale } = addressing(sum.terms, this.bits);
    return {
      kind: 'memory',
      size: this.#size,
      segment: sum.segment,
      base,
      index,
      scale,
      displacement,
      value: displacement === undefined ? 0n : value,
      distance,
      bare,
      at,
    };
  }
}

/** One symbol, perhaps with a number added: GNU as takes it for the memory there, anything else for an immediate. */
function isSymbolic(expression: Expression | undefined): boolean {
  if (expression === undefined) return false;
  const reduced = reduce(expression);
  if (reduced !== undefined) return reduced.place !== undefined;
  if (expression.kind === 'symbol') return true;
  if (expression.kind !== 'binary') return false;
  const { operator, left, right } = expression;
  if (operator === '-') return isSymbolic(left) && constant(right) !== undefined;
  if (operator !== '+') return false;
  return (isSymbolic(left) && constant(right) !== undefined) || (isSymbolic(right) && constant(left) !== undefined);
}

function collect(expression: Expression, negative: boolean, sum: Sum): void {
  switch (expression.kind) {
    case 'brackets':
      sum.brackets = true;
      collect(expression.inner, negative, sum);
      return;
    case 'offset':
      sum.offset = true;
      collect(expression.operand, negative, sum);
      return;
    case 'segment':
      sum.segment = expression.register;
      collect(expression.operand, negative, sum);
      return;
    case 'register':
      if (negative) throw new SourceFault('a register cannot be subtracted', expression.at);
      sum.terms.push({ register: expression.register, scale: 1, scaled: false, at: expression.at });
      return;
    case 'binary': {
      const { operator, left, right } = expression;
      if (operator === '+' || operator === JUXTAPOSED || operator === '-') {
        collect(left, negative, sum);
        collect(right, operator === '-' ? !negative : negative, sum);
        return;
      }
      if (operator === '*' && (left.kind === 'register' || right.kind === 'register')) {
        sum.terms.push(scaledTerm(left, right, negative, expression.at));
        return;
      }
      break;
    }
    default:
      break;
  }
  const inside = registerIn(expression);
  if (inside !== undefined)
    throw new SourceFault('a register can only be added, or multiplied by 1, 2, 4 or 8', inside);
  sum.rest.push({ expression, negative });
}

function scaledTerm(left: Expression, right: Expression, negative: boolean, at: number): Term {
  const register = left.kind === 'register' ? left : right;
  const factor = constant(left.kind === 'register' ? right : left);
  if (register.kind !== 'register' || negative || factor === undefined || ![1n, 2n, 4n, 8n].includes(factor)) {
    throw new SourceFault('a register can only be multiplied by 1, 2, 4 or 8', at);
  }
  return { register: register.register, scale: Number(factor), scaled: true, at: register.at };
}

/** Offset of a register that an expression mentions. */
function registerIn(expression: Expression): number | undefined {
  switch (expression.kind) {
    case 'register':
      return expression.at;
    case 'brackets':
      return registerIn(expression.inner) ?? expression.at;
    case 'offset':
    case 'segment':
    case 'unary':
      return registerIn(expression.operand);
    case 'binary':
      return registerIn(expression.left) ?? registerIn(expression.right);
    default:
      return undefined;
  }
}

function sumOf(rest: Sum['rest']): Expression | undefined {
  let total: Expression | undefined;
  for (const { expression, negative } of rest) {
    const at = 'at' in expression ? expression.at : 0;
    if (total === undefined) total = negative ? { kind: 'unary', operator: '-', operand: expression, at } : expression;
    else total = { kind: 'binary', operator: negative ? '-' : '+', left: total, right: expression, at };
  }
  return total;
}

const isStackPointer = ({ register }: Term): boolean =>
  register.number === 4 && (register.class === 'r32' || register.class === 'r64');

interface Addressing {
  readonly base: Register | undefined;
  readonly index: Register | undefined;
  readonly scale: number;
}

/** Which register is the base and which the index. */
function addressing(terms: readonly Term[], bits: Bits): Addressing {
  if (terms.length === 0) return { base: undefined, index: undefined, scale: 1 };
  if (terms.length > 2) throw new SourceFault('an address has at most two registers', terms[2].at);
  for (const { register, at } of terms) {
    if (!/^(?:r16|r32|r64|ip)$/.test(register.class)) {
      throw new SourceFault(`register ${register.name} cannot be part of an address`, at);
    }
    if (bits === 64 && register.class === 'r16') throw new SourceFault('64-bit code has no 16-bit addresses', at);
  }
  let [first, second] = terms as [Term, Term | undefined];
  if (second === undefined) {
    if (first.register.class === 'r16' && !/^(?:bx|bp|si|di)$/.test(first.register.name)) {
      throw new SourceFault('16-bit addresses use bx, bp, si and di', first.at);
    }
    if (!first.scaled) return { base: first.register, index: undefined, scale: 1 };
    checkIndex(first);
    return { base: undefined, index: first.register, scale: first.scale };
  }
  if (first.register.class !== second.register.class) {
    throw new SourceFault('the registers of an address must have one size', second.at);
  }
  if (first.register.class === 'ip') throw new SourceFault('rip takes no second register', second.at);
  if (first.register.class === 'r16') return addressing16(first, second);
  const swap = second.scaled ? false : first.scaled || isStackPointer(second);
  if (swap) [first, second] = [second, first];
  if (first.scaled) throw new SourceFault('only one register of an address can be scaled', first.at);
  checkIndex(second);
  return { base: first.register, index: second.register, scale: second.scale };
}

function checkIndex(term: Term): void {
  if (isStackPointer(term) || term.register.class === 'ip') {
    throw new SourceFault(`register ${term.register.name} cannot be an index`, term.at);
  }
  if (term.register.class === 'r16') throw new SourceFault('16-bit addresses have no scaled index', term.at);
}

function addressing16(first: Term, second: Term): Addressing {
  const bases = /^(?:bx|bp)$/;
  const [base, index] = bases.test(first.register.name) ? [first, second] : [second, first];
  if (!bases.test(base.register.name) || !/^(?:si|di)$/.test(index.register.name) || base.scaled || index.scaled) {
    throw new SourceFault('16-bit addresses add bx or bp and si or di', first.at);
  }
  return { base: base.register, index: index.register, scale: 1 };
}
