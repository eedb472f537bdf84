/**
 * One assembly under way: reads statement by statement, keeps symbols, macros, conditions and sections, and collects every error.
 *
 * As in GNU as each statement is seen once, with what is defined before it; addresses and forward references are filled in after
 * the layout.
 */
import { CONDITIONS, DIRECTIVES, type Use } from './directives.ts';
import { encode, isInstruction, type Prefixes } from './encode.ts';
import {
  constant,
  type Expression,
  ExpressionParser,
  type ExpressionScope,
  type GuestSymbol,
  localName,
  number,
  reduce,
} from './expression.ts';
import { Input, STATEMENT_LIMIT } from './input.ts';
import { type Bits, type Context, type Report, Section } from './layout.ts';
import { readStatements, SourceFault, type Statement, tokenize } from './lexer.ts';
import { bindArguments, expand, listArguments, type Macro, parseMacroHeader } from './macro.ts';
import { OperandParser } from './operand.ts';
import { own } from './own.ts';
import { nearest } from './suggest.ts';

/** What an `.include` finds: the text, and the name it goes by in messages and further includes. */
export interface IncludedFile {
  readonly file: string;
  readonly text: string;
}

/** An error or warning at a place of the source. */
export interface Problem {
  readonly context: Context;
  readonly message: string;
  /** 0-based offset in the statement's text. */
  readonly at: number;
}

interface Condition {
  /** Statements are read. */
  active: boolean;
  /** One branch was read already. */
  taken: boolean;
  readonly outerActive: boolean;
  hasElse: boolean;
  readonly context: Context;
}

/** Errors after which the rest of the source is not worth reading. */
export const ERROR_LIMIT = 100;

const NO_PREFIXES: Prefixes = { bytes: [], data: undefined, address: undefined, wide: false };

const PREFIX_BYTES: Readonly<Record<string, number>> = {
  bnd: 0xf2,
  cs: 0x2e,
  ds: 0x3e,
  es: 0x26,
  fs: 0x64,
  gs: 0x65,
  lock: 0xf0,
  notrack: 0x3e,
  rep: 0xf3,
  repe: 0xf3,
  repne: 0xf2,
  repnz: 0xf2,
  repz: 0xf3,
  ss: 0x36,
  xacquire: 0xf2,
  xrelease: 0xf3,
};

const PREFIX_WORD = /^(?:data16|data32|addr16|addr32|rex\.w|rex64)$/;
const LABEL = /[ \t]*([A-Za-z_.$][A-Za-z0-9_.$@]*|\d+)[ \t]*:(?!:)/y;
const ASSIGNMENT = /[ \t]*([A-Za-z_.$][A-Za-z0-9_.$@]*)[ \t]*==?(?!=)/y;
const WORD = /[ \t]*([A-Za-z_.$][A-Za-z0-9_.$@]*)/y;
const FIRST_WORD = /^[ \t]*(?:(?:[A-Za-z_.$][\w.$@]*|\d+)[ \t]*:[ \t]*)*\.([a-z]+)/i;

const REPEATS = /^(?:rept|rep|irp|irpc)$/;

export class Assembly implements ExpressionScope {
  readonly symbols = new Map<string, GuestSymbol>();
  readonly macros = new Map<string, Macro>();
  readonly sections: Section[] = [];
  readonly errors: Problem[] = [];
  readonly warnings: Problem[] = [];
  readonly #input = new Input();
  readonly #conditions: Condition[] = [];
  readonly #localCounts = new Map<string, number>();
  readonly #openInclude: (path: string, fromFile: string) => IncludedFile | undefined;
  readonly #definitions = new Map<GuestSymbol, { context: Context; at: number }>();
  readonly #sectionStack: Section[] = [];
  #previous: Section | undefined;
  #macroCalls = 0;
  #labelled = false;
  bits: Bits;
  section: Section;
  /** The statement being read. */
  context: Context = NOWHERE;

  constructor(bits: Bits, origin: number, openInclude: (path: string, fromFile: string) => IncludedFile | undefined) {
    this.bits = bits;
    this.#openInclude = openInclude;
    this.section = new Section('.text', true, origin);
    this.sections.push(this.section);
  }

  define(name: string, value: bigint): void {
    this.symbolNamed(name).value = number(value);
  }

  read(source: string, file: string): void {
    this.#input.pushFile(file, readStatements(source, file), 0);
    try {
      while (this.#input.depth > 0) this.#readFrame();
    } catch (error) {
      if (!(error instanceof SourceFault)) throw error;
      this.report(error.message, error.at);
    }
  }

  #readFrame(): void {
    for (;;) {
      const context = this.#input.next();
      if (context === undefined) break;
      this.context = context;
      this.#statement(context.statement);
      if (this.errors.length >= ERROR_LIMIT) {
        this.report(`more than ${ERROR_LIMIT} errors; the rest is not read`, 0);
        this.#input.stop();
        return;
      }
    }
    if (this.#input.depth === 0) return;
    this.#closeConditions();
    this.#input.leave();
  }

  /** Conditions opened in a file or macro must be closed there. */
  #closeConditions(): void {
    const outer = this.#input.outerConditions;
    const open = this.#conditions[outer];
    if (open === undefined) return;
    this.#conditions.length = outer;
    this.errors.push({ context: open.context, message: 'this condition has no .endif', at: 0 });
  }

  report(message: string, at: number): void {
    this.errors.push({ context: this.context, message, at });
  }

  /** For faults found after reading. */
  readonly reportAt: Report = (context, message, at) => {
    this.errors.push({ context, message, at });
  };

  warn(message: string, at: number): void {
    this.warnings.push({ context: this.context, message, at });
  }

  stop(): void {
    this.#conditions.length = 0;
    this.#input.stop();
  }

  // --- statements ------------------------------------------------------------------------------------------------------------

  #statement(statement: Statement): void {
    const { text } = statement;
    const condition = this.#conditions[this.#conditions.length - 1];
    if (condition !== undefined && !condition.active) {
      const word = FIRST_WORD.exec(text)?.[1].toLowerCase();
      if (word === undefined || !/^(?:if|else|endif)/.test(word)) return;
    }
    try {
      this.#parts(text);
    } catch (error) {
      if (!(error instanceof SourceFault)) throw error;
      this.report(error.message, error.at);
      if (/^more than \d+ statements/.test(error.message)) this.#input.stop();
    }
  }

  #parts(text: string): void {
    let at = 0;
    for (;;) {
      LABEL.lastIndex = at;
      const label = LABEL.exec(text);
      if (label === null) break;
      if (!this.#isSkipping()) this.#label(label[1], at + label[0].indexOf(label[1]));
      at += label[0].length;
    }
    if (text.slice(at).trim() === '') return;
    ASSIGNMENT.lastIndex = at;
    const assignment = ASSIGNMENT.exec(text);
    if (assignment !== null) {
      this.#assignment(assignment[1], text, at + assignment[0].indexOf(assignment[1]), at + assignment[0].length);
      return;
    }
    WORD.lastIndex = at;
    const word = WORD.exec(text);
    if (word === null) {
      throw new SourceFault(
        'expected an instruction, a directive or a label',
        text.length - text.slice(at).trimStart().length,
      );
    }
    const rest = at + word[0].length;
    this.#command(word[1], text, rest - word[1].length, rest);
  }

  #isSkipping(): boolean {
    return this.#conditions.length > 0 && !this.#conditions[this.#conditions.length - 1].active;
  }

  #assignment(name: string, text: string, at: number, rest: number): void {
    const parser = this.parser(text, rest);
    const value = parser.expression();
    parser.expectEnd();
    if (name === '.') this.setOrigin(value, 0, at);
    else this.assign(name, value, at, false);
  }

  #command(word: string, text: string, at: number, rest: number): void {
    const name = word.toLowerCase();
    const macro = this.macros.get(name);
    if (macro !== undefined && !this.#isSkipping()) {
      this.#call(macro, text, rest);
      return;
    }
    if (name[0] !== '.') {
      this.#instruction(name, text, at, rest);
      return;
    }
    const use: Use = { name, text, at, rest };
    if (this.#steer(use)) return;
    const handler = DIRECTIVES.get(name);
    if (handler === undefined) {
      const near = nearest(name, DIRECTIVES.keys());
      throw new SourceFault(`unknown directive "${word}"${near === undefined ? '' : `; did you mean "${near}"?`}`, at);
    }
    const { section } = this;
    const { current } = section;
    const before = current.length;
    try {
      handler(this, use);
    } finally {
      // A section change within the directive adds no bytes.
      if (current.length > before) this.#mark(current, before);
    }
  }

  #mark(fragment: Section['current'], offset: number): void {
    fragment.lines.push({ offset, length: fragment.length - offset, context: this.context, bits: this.bits });
  }

  /** Directives that decide what is read next. */
  #steer(use: Use): boolean {
    const { name, text, rest } = use;
    if (name.startsWith('.if') || name.startsWith('.else') || name === '.endif') return this.#condition(use);
    switch (name) {
      case '.macro':
        this.#defineMacro(text, rest);
        return true;
      case '.rept':
      case '.rep':
        this.#repeat(use);
        return true;
      case '.irp':
      case '.irpc':
        this.#repeatFor(use);
        return true;
      case '.exitm':
        if (!this.#input.leaveMacro()) throw new SourceFault('.exitm outside of a macro', use.at);
        this.#conditions.length = this.#input.outerConditions;
        return true;
      case '.endm':
      case '.endr':
        throw new SourceFault(`${name} without ${name === '.endm' ? '.macro' : '.rept, .irp or .irpc'}`, use.at);
      default:
        return false;
    }
  }

  #instruction(first: string, text: string, start: number, behind: number): void {
    let name = first;
    let at = start;
    let rest = behind;
    let prefixes = NO_PREFIXES;
    while (own(PREFIX_BYTES, name) !== undefined || PREFIX_WORD.test(name)) {
      prefixes = withPrefix(prefixes, name, this.bits, at);
      WORD.lastIndex = rest;
      const word = WORD.exec(text);
      if (word === null) {
        this.parser(text, rest).expectEnd();
        this.#append(prefixBytes(prefixes, this.bits));
        return;
      }
      name = word[1].toLowerCase();
      rest += word[0].length;
      at = rest - word[1].length;
    }
    const parser = new OperandParser(this.#tokens(name, text, rest), this);
    parser.bits = this.bits;
    const encoded = encode(name, parser.operands(), prefixes, this.bits, at);
    const { context, bits } = this;
    if (encoded.kind === 'jump') {
      const { short, near, nearSize, target, at: targetAt } = encoded;
      this.section.add((base) => ({
        ...base,
        kind: 'jump',
        short,
        near,
        nearSize,
        target,
        long: false,
        context,
        at: targetAt,
        bits,
      }));
      return;
    }
    const { bytes, patches } = encoded;
    const offset = this.#append(bytes);
    const end = offset + bytes.length;
    for (const patch of patches) {
      const { expression, at: patchAt, size, kind } = patch;
      const fixup = { offset: offset + patch.offset, size, kind, expression, end, statement: context, at: patchAt };
      this.section.current.fixups.push(fixup);
    }
  }

  /** Tokens of operands; an unknown instruction is reported rather than what follows it. */
  #tokens(name: string, text: string, rest: number): ReturnType<typeof tokenize> {
    try {
      return tokenize(text, rest);
    } catch (error) {
      if (isInstruction(name)) throw error;
      return [{ kind: 'end', text: '', value: 0n, at: text.length, spaced: false }];
    }
  }

  #append(bytes: ArrayLike<number>): number {
    const offset = this.section.append(bytes);
    this.#mark(this.section.current, offset);
    return offset;
  }

  parser(text: string, at: number): ExpressionParser {
    return new ExpressionParser(tokenize(text, at), this);
  }

  // --- symbols ---------------------------------------------------------------------------------------------------------------

  symbolNamed(name: string): GuestSymbol {
    let symbol = this.symbols.get(name);
    if (symbol === undefined) {
      symbol = { name };
      this.symbols.set(name, symbol);
    }
    return symbol;
  }

  isDefined(name: string): boolean {
    const symbol = this.symbols.get(name);
    return symbol !== undefined && (symbol.place !== undefined || symbol.value !== undefined);
  }

  /** Whether a name stands for a place in the program: a label, or `.set` to one. */
  isLabel(name: string): boolean {
    const symbol = this.symbols.get(name);
    return symbol !== undefined && reduce({ kind: 'symbol', symbol, at: 0 })?.place !== undefined;
  }

  symbol(name: string, at: number): Expression {
    const symbol = this.symbolNamed(name);
    const { value } = symbol;
    if (value === undefined) return { kind: 'symbol', symbol, at };
    // A `.set` symbol can change later: what counts is its value here.
    if (value.kind === 'number') return value;
    return { kind: 'symbol', symbol: { name, value }, at };
  }

  localLabel(text: string, at: number): Expression {
    const label = text.slice(0, -1);
    const count = this.#localCounts.get(label) ?? 0;
    if (/b$/i.test(text)) {
      if (count === 0) throw new SourceFault(`no label "${label}:" precedes`, at);
      return { kind: 'symbol', symbol: this.symbolNamed(localName(label, count)), at };
    }
    return { kind: 'symbol', symbol: this.symbolNamed(localName(label, count + 1)), at };
  }

  here(): Expression {
    return { kind: 'place', place: this.section.here() };
  }

  #label(name: string, at: number): void {
    if (/^\d/.test(name)) {
      const count = (this.#localCounts.get(name) ?? 0) + 1;
      this.#localCounts.set(name, count);
      this.symbolNamed(localName(name, count)).place = this.section.here();
    } else {
      if (name === '.' || name === '$') throw new SourceFault(`"${name}" is the current address, not a label`, at);
      const symbol = this.symbolNamed(name);
      if (this.isDefined(name)) throw this.#redefined(symbol, at);
      symbol.place = this.section.here();
      this.#definitions.set(symbol, { context: this.context, at });
    }
    if (this.section === this.sections[0]) this.#labelled = true;
  }

  #redefined(symbol: GuestSymbol, at: number): SourceFault {
    const before = this.#definitions.get(symbol)?.context.statement;
    const where = before === undefined ? '' : ` (${before.file}:${before.line})`;
    return new SourceFault(`"${symbol.name}" is defined already${where}`, at);
  }

  assign(name: string, value: Expression, at: number, once: boolean): void {
    const symbol = this.symbolNamed(name);
    if (symbol.place !== undefined || (once && symbol.value !== undefined)) throw this.#redefined(symbol, at);
    const known = reduce(value);
    symbol.value = known !== undefined && known.place === undefined ? number(known.value) : simplified(value, known);
    this.#definitions.set(symbol, { context: this.context, at });
  }

  /** Where a symbol was defined, for faults of its value. */
  definitionOf(symbol: GuestSymbol): { context: Context; at: number } | undefined {
    return this.#definitions.get(symbol);
  }

  // --- sections --------------------------------------------------------------------------------------------------------------

  enterSection(name: string, flags: string): void {
    const found = this.sections.find((section) => section.name === name);
    this.#previous = this.section;
    if (found !== undefined) {
      this.section = found;
      return;
    }
    const isCode = /^\.(?:text|init|fini)\b/.test(name) || /,\s*"[^"]*x/.test(flags);
    const section = new Section(name, isCode, 0);
    // .bss goes last, so that its zeros need not be part of what precedes.
    const bss = this.sections.findIndex((other) => other.name === '.bss');
    if (bss < 0) this.sections.push(section);
    else this.sections.splice(bss, 0, section);
    this.section = section;
  }

  pushSection(name: string, flags: string): void {
    this.#sectionStack.push(this.section);
    this.enterSection(name, flags);
  }

  popSection(at: number): void {
    const section = this.#sectionStack.pop();
    if (section === undefined) throw new SourceFault('.popsection without .pushsection', at);
    this.#previous = this.section;
    this.section = section;
  }

  /** Does something in another section; where the source is stays as it was. */
  inSection(name: string, action: () => void): void {
    const { section } = this;
    const previous = this.#previous;
    this.enterSection(name, '');
    action();
    this.section = section;
    this.#previous = previous;
  }

  /** Defines a label at the end of the current section. */
  label(name: string, at: number): void {
    this.#label(name, at);
  }

  previousSection(at: number): void {
    if (this.#previous === undefined) throw new SourceFault('.previous without a section before', at);
    [this.section, this.#previous] = [this.#previous, this.section];
  }

  /** `.org`: in .text an absolute address, the program's origin if nothing precedes; in other sections an offset. */
  setOrigin(target: Expression, fill: number, at: number): void {
    const { section, context, bits } = this;
    const value = constant(target);
    if (value !== undefined && (value < 0n || value > 1n << 48n)) {
      throw new SourceFault(`address ${value} is out of range`, at);
    }
    if (section !== this.sections[0] && value !== undefined) {
      throw new SourceFault('.org with a number works in .text only; use .skip here', at);
    }
    if (value !== undefined && section.isEmpty && !this.#labelled) {
      section.base = Number(value);
      return;
    }
    section.add((base) => ({ ...base, kind: 'org', target, fill, context, at, bits }));
  }

  // --- conditions ------------------------------------------------------------------------------------------------------------

  #condition(use: Use): boolean {
    const { name, at } = use;
    const outer = this.#input.outerConditions;
    const current = this.#conditions.length > outer ? this.#conditions[this.#conditions.length - 1] : undefined;
    if (name === '.endif' || name === '.else' || name === '.elseif') {
      if (current === undefined) throw new SourceFault(`${name} without .if`, at);
      if (name === '.endif') {
        this.#conditions.pop();
        return true;
      }
      if (current.hasElse) throw new SourceFault(`${name} behind .else`, at);
      current.hasElse = name === '.else';
      const active = current.outerActive && !current.taken;
      current.active = false;
      if (active) current.active = name === '.else' || CONDITIONS.get('.if')!(this, use);
      current.taken ||= current.active;
      return true;
    }
    const test = CONDITIONS.get(name);
    if (test === undefined) return false;
    const outerActive = !this.#isSkipping();
    const condition: Condition = { active: false, taken: true, outerActive, hasElse: false, context: this.context };
    this.#conditions.push(condition);
    if (!outerActive) return true;
    condition.active = test(this, use);
    condition.taken = condition.active;
    return true;
  }

  // --- macros and repetition -------------------------------------------------------------------------------------------------

  /** Statements up to the one that ends a body, which is taken too. */
  #body(opens: RegExp, end: string, what: string): Statement[] {
    const start = this.context;
    const body: Statement[] = [];
    let depth = 0;
    for (;;) {
      const next = this.#input.next();
      if (next === undefined) {
        this.context = start;
        throw new SourceFault(`${what} has no .${end}`, 0);
      }
      const word = FIRST_WORD.exec(next.statement.text)?.[1].toLowerCase();
      if (word !== undefined) {
        if (opens.test(word)) depth++;
        else if (word === end && depth-- === 0) return body;
      }
      body.push(next.statement);
    }
  }

  #defineMacro(text: string, rest: number): void {
    const start = this.context;
    let header: ReturnType<typeof parseMacroHeader> | undefined;
    try {
      header = parseMacroHeader(text, rest);
    } finally {
      // A faulty header must not let the body be read as code.
      const body = this.#body(/^macro$/, 'endm', '.macro');
      this.context = start;
      if (header !== undefined) {
        if (this.macros.has(header.name)) {
          this.report(`macro "${header.name}" is defined already`, rest);
        } else this.macros.set(header.name, { ...header, body });
      }
    }
  }

  #call(macro: Macro, text: string, rest: number): void {
    const values = bindArguments(macro, text, rest);
    const statements = expand(macro.body, values, this.#macroCalls++);
    this.#input.pushMacro(macro.name, this.context.statement, statements, this.#conditions.length);
  }

  #repeat({ text, rest, name }: Use): void {
    const start = this.context;
    let count = 0n;
    try {
      const parser = this.parser(text, rest);
      const value = constant(parser.expression());
      parser.expectEnd();
      if (value === undefined) throw new SourceFault('the count must be known here', rest);
      if (value < 0n) throw new SourceFault(`a negative count: ${value}`, rest);
      if (value > BigInt(STATEMENT_LIMIT)) throw new SourceFault(`a count above ${STATEMENT_LIMIT}`, rest);
      count = value;
    } finally {
      const body = this.#body(REPEATS, 'endr', name);
      this.context = start;
      let left = Number(count);
      if (left > 0) this.#input.pushRepeat(() => (left-- > 0 ? body : undefined), this.#conditions.length);
    }
  }

  #repeatFor({ text, rest, name }: Use): void {
    const start = this.context;
    const words = listArguments(text, rest);
    const list = name === '.irpc' ? [...(words[1] ?? '')] : words.slice(1);
    const values = list.length === 0 ? [''] : list;
    const body = this.#body(REPEATS, 'endr', name);
    this.context = start;
    if (words.length === 0) throw new SourceFault(`${name} needs a name and values`, rest);
    let next = 0;
    const again = (): Statement[] | undefined => {
      if (next >= values.length) return undefined;
      return expand(body, new Map([[words[0], values[next++]]]), this.#macroCalls);
    };
    this.#input.pushRepeat(again, this.#conditions.length);
  }

  include(path: string, at: number): void {
    const found = this.#openInclude(path, this.#input.file);
    if (found === undefined) throw new SourceFault(`cannot find the include file "${path}"`, at);
    this.#input.pushFile(found.file, readStatements(found.text, found.file), this.#conditions.length);
  }
}

const NOWHERE: Context = {
  order: 0,
  statement: { text: '', file: '', line: 1, column: 1, sourceLine: '' },
  call: undefined,
};

/** A definition in its shortest form, so that chains of `.set x, x+1` do not grow. */
function simplified(value: Expression, known: ReturnType<typeof reduce>): Expression {
  if (known?.place === undefined) return value;
  const place: Expression = { kind: 'place', place: known.place };
  if (known.value === 0n) return place;
  return { kind: 'binary', operator: '+', left: place, right: number(known.value), at: 0 };
}

function withPrefix(prefixes: Prefixes, name: string, bits: Bits, at: number): Prefixes {
  const byte = own(PREFIX_BYTES, name);
  if (byte !== undefined) {
    if (prefixes.bytes.includes(byte)) throw new SourceFault(`prefix "${name}" stands twice`, at);
    return { ...prefixes, bytes: [...prefixes.bytes, byte] };
  }
  if (name === 'rex64' || name === 'rex.w') {
    if (bits !== 64) throw new SourceFault('a REX prefix exists only in 64-bit code', at);
    return { ...prefixes, wide: true };
  }
  const width = name.endsWith('16') ? 16 : 32;
  return name.startsWith('data') ? { ...prefixes, data: width } : { ...prefixes, address: width };
}

/** Bytes of prefixes that stand alone. */
function prefixBytes({ bytes, data, address, wide }: Prefixes, bits: Bits): number[] {
  const out = [...bytes];
  if (address !== undefined && address !== bits) out.unshift(0x67);
  if (data !== undefined) out.push(0x66);
  if (wide) out.push(0x48);
  return out;
}
