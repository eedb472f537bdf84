/**
 * Symbols and 64-bit expressions.
 *
 * Precedence is C's. GNU as binds some operators differently (`*` `/` `%` `<<` `>>` first, then `|` `^` `&`, then `+` `-` and
 * comparisons): an expression without parentheses that the two would read differently is an error, so that a source means the
 * same everywhere. Values follow GNU as: signed 64-bit, `>>` shifts in zeros, a true comparison is -1, a true `!`, `&&` or `||` is 1.
 */
import { SourceFault, type Token } from './lexer.ts';

/** A position in a section; its address is known once the layout is. */
export interface Place {
  readonly fragment: { address: number };
  readonly offset: number;
}

export interface GuestSymbol {
  readonly name: string;
  /** Set by a label. */
  place?: Place;
  /** Set by `.set`, `.equ`, `=`. */
  value?: Expression;
  weak?: boolean;
  /** True while its value is being evaluated: finds definitions that go in circles. */
  busy?: boolean;
}

/** Parts the digits of a numeric local label from the number of its instance in the name of its symbol. */
const LOCAL_MARK = '\u0001';

/** Name of the symbol for the `instance`th label `label:`. */
export const localName = (label: string, instance: number): string => `${label}${LOCAL_MARK}${instance}`;

export const isLocalName = (name: string): boolean => name.includes(LOCAL_MARK);

export type UnaryOperator = '-' | '~' | '!' | '+';

export type Expression =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'place'; readonly place: Place }
  | { readonly kind: 'symbol'; readonly symbol: GuestSymbol; readonly at: number }
  | { readonly kind: 'unary'; readonly operator: UnaryOperator; readonly operand: Expression; readonly at: number }
  | {
      readonly kind: 'binary';
      readonly operator: string;
      readonly left: Expression;
      readonly right: Expression;
      readonly at: number;
    }
  // Only in operands of instructions:
  | { readonly kind: 'register'; readonly register: Register; readonly at: number }
  | { readonly kind: 'brackets'; readonly inner: Expression; readonly at: number }
  | { readonly kind: 'offset'; readonly operand: Expression; readonly at: number }
  | { readonly kind: 'segment'; readonly register: Register; readonly operand: Expression; readonly at: number };

export type RegisterClass = 'r8' | 'r16' | 'r32' | 'r64' | 'segment' | 'cr' | 'dr' | 'st' | 'mm' | 'xmm' | 'ymm' | 'ip';

export interface Register {
  readonly name: string;
  readonly class: RegisterClass;
  /** Number in the encoder's register enumeration. */
  readonly id: number;
  /** Encoded number (0-15); of AH…BH 4-7. */
  readonly number: number;
}

export const number = (value: bigint): Expression => ({ kind: 'number', value: BigInt.asIntN(64, value) });

/** What the parser asks of the assembler. */
export interface ExpressionScope {
  /** A named symbol, with what is known of it now. */
  symbol(name: string, at: number): Expression;
  /** `1b` or `1f`. */
  localLabel(text: string, at: number): Expression;
  /** `.` or `$`. */
  here(): Expression;
}

type Ranks = Readonly<Record<string, number>>;

/** `juxtaposed` is the implied + of `table[rax]`. */
export const JUXTAPOSED = 'juxtaposed';

const C_RANKS: Ranks = {
  [JUXTAPOSED]: 0,
  '||': 1,
  '&&': 2,
  '|': 3,
  '^': 4,
  '&': 5,
  '==': 6,
  '!=': 6,
  '<>': 6,
  '<': 7,
  '<=': 7,
  '>': 7,
  '>=': 7,
  '<<': 8,
  '>>': 8,
  '+': 9,
  '-': 9,
  '*': 10,
  '/': 10,
  '%': 10,
};

const GNU_RANKS: Ranks = {
  [JUXTAPOSED]: 0,
  '||': 1,
  '&&': 2,
  '==': 3,
  '!=': 3,
  '<>': 3,
  '<': 3,
  '<=': 3,
  '>': 3,
  '>=': 3,
  '+': 4,
  '-': 4,
  '|': 5,
  '^': 5,
  '&': 5,
  '*': 6,
  '/': 6,
  '%': 6,
  '<<': 6,
  '>>': 6,
};

interface Operator {
  readonly text: string;
  readonly at: number;
}

/** Reads expressions from tokens; instruction operands extend it. */
export class ExpressionParser {
  readonly tokens: readonly Token[];
  readonly scope: ExpressionScope;
  position = 0;
  #depth = 0;

  constructor(tokens: readonly Token[], scope: ExpressionScope) {
    this.tokens = tokens;
    this.scope = scope;
  }

  get token(): Token {
    return this.tokens[this.position];
  }

  next(): Token {
    return this.tokens[this.position++];
  }

  is(text: string): boolean {
    const { kind, text: found } = this.token;
    return kind === 'punctuation' && found === text;
  }

  accept(text: string): boolean {
    if (!this.is(text)) return false;
    this.position++;
    return true;
  }

  expect(text: string): void {
    if (!this.accept(text)) throw new SourceFault(`expected "${text}" ${this.found()}`, this.token.at);
  }

  atEnd(): boolean {
    return this.token.kind === 'end';
  }

  expectEnd(): void {
    if (!this.atEnd()) throw new SourceFault(`unexpected ${describe(this.token)} after the statement`, this.token.at);
  }

  found(): string {
    return this.atEnd() ? 'at the end of the statement' : `before ${describe(this.token)}`;
  }

  expression(): Expression {
    if (++this.#depth > 100) throw new SourceFault('the expression is nested more than 100 deep', this.token.at);
    const operands = [this.unary()];
    const operators: Operator[] = [];
    for (;;) {
      const operator = this.operator();
      if (operator === undefined) break;
      operators.push(operator);
      if (operators.length > 1000) throw new SourceFault('the expression has more than 1000 operators', operator.at);
      operands.push(this.unary());
    }
    this.#depth--;
    if (operators.length === 0) return operands[0];
    const tree = build(operands, operators, C_RANKS);
    if (operators.length > 1) checkPrecedence(tree, build(operands, operators, GNU_RANKS));
    return tree;
  }

  /** The operator at the current token, taken; undefined if the expression ends here. */
  operator(): Operator | undefined {
    const { kind, text, at } = this.token;
    if (kind !== 'punctuation' || C_RANKS[text] === undefined) return undefined;
    this.position++;
    return { text, at };
  }

  unary(): Expression {
    const { kind, text, at } = this.token;
    if (kind === 'punctuation' && (text === '-' || text === '~' || text === '!' || text === '+')) {
      this.position++;
      if (++this.#depth > 100) throw new SourceFault('the expression is nested more than 100 deep', at);
      const operand = this.unary();
      this.#depth--;
      if (operand.kind === 'number') return number(applyUnary(text, operand.value));
      return { kind: 'unary', operator: text, operand, at };
    }
    return this.primary();
  }

  primary(): Expression {
    const token = this.next();
    switch (token.kind) {
      case 'number':
        return number(token.value);
      case 'local':
        return this.scope.localLabel(token.text, token.at);
      case 'name':
        if (token.text === '.' || token.text === '$') return this.scope.here();
        return this.scope.symbol(token.text, token.at);
      case 'punctuation':
        if (token.text === '(') {
          const inner = this.expression();
          this.expect(')');
          return inner;
        }
        break;
      default:
        break;
    }
    this.position--;
    throw new SourceFault(`expected a value ${this.found()}`, token.at);
  }
}

export function describe(token: Token): string {
  if (token.kind === 'end') return 'the end of the statement';
  return token.kind === 'string' ? token.text : `"${token.text}"`;
}

function build(operands: readonly Expression[], operators: readonly Operator[], ranks: Ranks): Expression {
  const values: Expression[] = [operands[0]];
  const stack: Operator[] = [];
  const reduceTop = (): void => {
    const right = values.pop()!;
    const left = values.pop()!;
    const { text, at } = stack.pop()!;
    values.push({ kind: 'binary', operator: text, left, right, at });
  };
  for (let index = 0; index < operators.length; index++) {
    while (stack.length > 0 && ranks[stack[stack.length - 1].text] >= ranks[operators[index].text]) reduceTop();
    stack.push(operators[index]);
    values.push(operands[index + 1]);
  }
  while (stack.length > 0) reduceTop();
  return values[0];
}

function checkPrecedence(ours: Expression, gnu: Expression): void {
  if (ours === gnu || ours.kind !== 'binary' || gnu.kind !== 'binary') return;
  if (ours.at !== gnu.at) {
    throw new SourceFault(
      `C and GNU as bind "${gnu.operator}" and "${ours.operator}" in different order; add parentheses`,
      Math.max(ours.at, gnu.at),
    );
  }
  checkPrecedence(ours.left, gnu.left);
  checkPrecedence(ours.right, gnu.right);
}

const truth = (value: boolean, yes: bigint): bigint => (value ? yes : 0n);

function applyUnary(operator: UnaryOperator, value: bigint): bigint {
  if (operator === '-') return BigInt.asIntN(64, -value);
  if (operator === '~') return ~value;
  if (operator === '!') return truth(value === 0n, 1n);
  return value;
}

function applyBinary(operator: string, left: bigint, right: bigint, at: number): bigint {
  switch (operator) {
    case JUXTAPOSED:
    case '+':
      return BigInt.asIntN(64, left + right);
    case '-':
      return BigInt.asIntN(64, left - right);
    case '*':
      return BigInt.asIntN(64, left * right);
    case '/':
    case '%':
      if (right === 0n) throw new SourceFault('division by zero', at);
      return BigInt.asIntN(64, operator === '/' ? left / right : left % right);
    case '<<':
      return right < 0n || right > 63n ? 0n : BigInt.asIntN(64, left << right);
    case '>>':
      return right < 0n || right > 63n ? 0n : BigInt.asIntN(64, BigInt.asUintN(64, left) >> right);
    case '&':
      return left & right;
    case '|':
      return left | right;
    case '^':
      return left ^ right;
    case '==':
      return truth(left === right, -1n);
    case '!=':
    case '<>':
      return truth(left !== right, -1n);
    case '<':
      return truth(left < right, -1n);
    case '<=':
      return truth(left <= right, -1n);
    case '>':
      return truth(left > right, -1n);
    case '>=':
      return truth(left >= right, -1n);
    case '&&':
      return truth(left !== 0n && right !== 0n, 1n);
    default:
      return truth(left !== 0n || right !== 0n, 1n);
  }
}

/** What is known of an expression while the source is being read: a number, or a place plus a number. */
export interface Reduced {
  readonly place?: Place;
  readonly value: bigint;
}

/**
 * The value of an expression as far as it is known before the layout; undefined if it is not. The distance of two places is
 * known if nothing between them can still change its size, which is GNU as's rule too.
 */
export function reduce(expression: Expression): Reduced | undefined {
  switch (expression.kind) {
    case 'number':
      return { value: expression.value };
    case 'place':
      return { place: expression.place, value: 0n };
    case 'symbol':
      return reduceSymbol(expression.symbol);
    case 'unary': {
      const operand = reduce(expression.operand);
      if (operand === undefined) return undefined;
      if (operand.place !== undefined) return expression.operator === '+' ? operand : undefined;
      return { value: applyUnary(expression.operator, operand.value) };
    }
    case 'binary': {
      const left = reduce(expression.left);
      const right = reduce(expression.right);
      if (left === undefined || right === undefined) return undefined;
      return reduceBinary(expression.operator, left, right, expression.at);
    }
    default:
      return undefined;
  }
}

function reduceSymbol(symbol: GuestSymbol): Reduced | undefined {
  if (symbol.place !== undefined) return { place: symbol.place, value: 0n };
  if (symbol.value === undefined || symbol.busy) return undefined;
  symbol.busy = true;
  try {
    return reduce(symbol.value);
  } finally {
    symbol.busy = false;
  }
}

function reduceBinary(operator: string, left: Reduced, right: Reduced, at: number): Reduced | undefined {
  if (left.place === undefined && right.place === undefined) {
    return { value: applyBinary(operator, left.value, right.value, at) };
  }
  if (left.place !== undefined && right.place !== undefined) {
    if (left.place.fragment !== right.place.fragment) return undefined;
    const distance = { a: BigInt(left.place.offset) + left.value, b: BigInt(right.place.offset) + right.value };
    if (operator !== '-' && !/^[=!<>]/.test(operator)) return undefined;
    if (operator === '<<' || operator === '>>') return undefined;
    return { value: applyBinary(operator, distance.a, distance.b, at) };
  }
  const adds = operator === '+' || operator === JUXTAPOSED;
  if (left.place !== undefined && (adds || operator === '-')) {
    return { place: left.place, value: adds ? left.value + right.value : left.value - right.value };
  }
  if (right.place !== undefined && adds) return { place: right.place, value: left.value + right.value };
  return undefined;
}

/** The number an expression is known to be now, or undefined. */
export function constant(expression: Expression): bigint | undefined {
  if (expression.kind === 'number') return expression.value;
  const reduced = reduce(expression);
  return reduced === undefined || reduced.place !== undefined ? undefined : BigInt.asIntN(64, reduced.value);
}

/** Value after the layout, signed 64-bit; places count as their addresses. Throws SourceFault for what is not defined. */
export function evaluate(expression: Expression): bigint {
  switch (expression.kind) {
    case 'number':
      return expression.value;
    case 'place':
      return BigInt(expression.place.fragment.address + expression.place.offset);
    case 'symbol':
      return evaluateSymbol(expression.symbol, expression.at);
    case 'unary':
      return applyUnary(expression.operator, evaluate(expression.operand));
    case 'binary':
      return applyBinary(expression.operator, evaluate(expression.left), evaluate(expression.right), expression.at);
    default:
      throw new SourceFault('a register cannot stand here', expression.at);
  }
}

function evaluateSymbol(symbol: GuestSymbol, at: number): bigint {
  if (symbol.place !== undefined) return BigInt(symbol.place.fragment.address + symbol.place.offset);
  if (symbol.value === undefined) {
    const { name } = symbol;
    const local = isLocalName(name) ? `no label "${name.slice(0, name.indexOf(LOCAL_MARK))}:" follows` : undefined;
    throw new SourceFault(local ?? `undefined symbol "${name}"`, at);
  }
  if (symbol.busy) throw new SourceFault(`the definition of "${symbol.name}" goes in a circle`, at);
  symbol.busy = true;
  try {
    return evaluate(symbol.value);
  } catch (error) {
    // The fault lies in the definition; the place to show is the use.
    throw error instanceof SourceFault ? new SourceFault(error.message, at) : error;
  } finally {
    symbol.busy = false;
  }
}
