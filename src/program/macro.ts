/** `.macro`, `.rept`, `.irp` and `.irpc`: parameters, arguments, substitution, as GNU as does them. */
import { SourceFault, type Statement, splitStatements } from './lexer.ts';

export interface MacroParameter {
  readonly name: string;
  readonly fallback: string | undefined;
  readonly required: boolean;
  readonly rest: boolean;
}

export interface Macro {
  readonly name: string;
  readonly parameters: readonly MacroParameter[];
  readonly body: readonly Statement[];
}

const IDENTIFIER = /[A-Za-z_.$][A-Za-z0-9_.$]*/y;

function identifier(text: string, at: number): string | undefined {
  IDENTIFIER.lastIndex = at;
  return IDENTIFIER.exec(text)?.[0];
}

function skipBlanks(text: string, at: number): number {
  let next = at;
  while (text[next] === ' ' || text[next] === '\t') next++;
  return next;
}

/** Blanks part two arguments only between characters of these kinds; next to other operators they mean nothing. */
const JOINS_BEFORE = /[A-Za-z0-9_.$*%([{@\\"')\]-]/;
const JOINS_AFTER = /[A-Za-z0-9_.$*%([{@\\"'-]/;
const CLOSERS: Readonly<Record<string, string>> = { '(': ')', '[': ']' };

interface Argument {
  readonly text: string;
  /** Offset behind it: of the separator or the end. */
  readonly end: number;
}

/** One argument from offset `at`; quotes around it are dropped. */
function readArgument(text: string, at: number): Argument {
  let next = skipBlanks(text, at);
  if (text[next] === '"') {
    const end = closingQuote(text, next);
    return { text: text.slice(next + 1, end), end: Math.min(end + 1, text.length) };
  }
  let out = '';
  const open: string[] = [];
  while (next < text.length) {
    const char = text[next];
    if (char === ',') break;
    if (char === ' ' || char === '\t') {
      const after = skipBlanks(text, next);
      const parts = JOINS_BEFORE.test(out.slice(-1)) && JOINS_AFTER.test(text[after] ?? '');
      const closed = /[)\]]$/.test(out);
      if (open.length === 0 && parts && !closed) break;
      if (parts) out += ' ';
      next = after;
      continue;
    }
    if (char === '"' || (char === "'" && next + 1 < text.length)) {
      const end = char === '"' ? closingQuote(text, next) + 1 : next + (text[next + 2] === "'" ? 3 : 2);
      out += text.slice(next, end);
      next = Math.min(end, text.length);
      continue;
    }
    if (CLOSERS[char] !== undefined) open.push(CLOSERS[char]);
    else if (char === open[open.length - 1]) open.pop();
    out += char;
    next++;
  }
  return { text: out.trimEnd(), end: next };
}

function closingQuote(text: string, at: number): number {
  let end = at + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end;
}

/** Separator behind an argument: a comma or blanks. */
function skipSeparator(text: string, at: number): number {
  const next = skipBlanks(text, at);
  return text[next] === ',' ? skipBlanks(text, next + 1) : next;
}

/** Name and parameters of `.macro name a, b=5, c:req, d:vararg`; `at` is behind the directive. */
export function parseMacroHeader(text: string, at: number): Omit<Macro, 'body'> {
  let next = skipBlanks(text, at);
  const name = identifier(text, next);
  if (name === undefined) throw new SourceFault('.macro needs a name', next);
  next = skipSeparator(text, next + name.length);
  const parameters: MacroParameter[] = [];
  while (next < text.length) {
    const parameter = identifier(text, next);
    if (parameter === undefined) throw new SourceFault('expected the name of a parameter', next);
    if (parameters.some((other) => other.name === parameter)) {
      throw new SourceFault(`parameter "${parameter}" stands twice`, next);
    }
    if (parameters[parameters.length - 1]?.rest) throw new SourceFault('a :vararg parameter must be the last', next);
    next += parameter.length;
    const qualifier = /^\s*:\s*(\w+)/.exec(text.slice(next));
    if (qualifier !== null) {
      if (!/^(?:req|vararg)$/i.test(qualifier[1])) {
        throw new SourceFault(`unknown qualifier ":${qualifier[1]}"; there are :req and :vararg`, next);
      }
      next += qualifier[0].length;
    }
    let fallback: string | undefined;
    const equals = skipBlanks(text, next);
    if (text[equals] === '=') {
      const value = readArgument(text, equals + 1);
      fallback = value.text;
      next = value.end;
    }
    const kind = qualifier?.[1].toLowerCase();
    parameters.push({ name: parameter, fallback, required: kind === 'req', rest: kind === 'vararg' });
    next = skipSeparator(text, next);
  }
  return { name: name.toLowerCase(), parameters };
}

/** Values of the parameters for a call with the arguments at `text[at…]`. */
export function bindArguments(macro: Macro, text: string, at: number): Map<string, string> {
  const values = new Map<string, string>();
  const { parameters } = macro;
  let next = skipBlanks(text, at);
  let position = 0;
  while (next < text.length) {
    const parameter = parameters[position] as MacroParameter | undefined;
    const keyword = /^([A-Za-z_.$][A-Za-z0-9_.$]*)\s*=(?!=)/.exec(text.slice(next));
    const named = keyword === null ? undefined : parameters.find(({ name }) => name === keyword[1]);
    if (named !== undefined) {
      const value = readArgument(text, next + keyword![0].length);
      values.set(named.name, value.text);
      next = skipSeparator(text, value.end);
      continue;
    }
    if (parameter === undefined) {
      const count =
        parameters.length === 0 ? 'no arguments' : `${parameters.length} argument${parameters.length > 1 ? 's' : ''}`;
      throw new SourceFault(
        `macro "${macro.name}" takes ${count}; blanks part arguments too, quote one that has blanks`,
        next,
      );
    }
    position++;
    if (parameter.rest) {
      values.set(parameter.name, text.slice(next).trimEnd());
      break;
    }
    const value = readArgument(text, next);
    if (value.text !== '') values.set(parameter.name, value.text);
    next = skipSeparator(text, value.end);
  }
  for (const { name, fallback, required } of parameters) {
    if (values.has(name)) continue;
    if (required) throw new SourceFault(`macro "${macro.name}" needs a value for "${name}"`, at);
    values.set(name, fallback ?? '');
  }
  return values;
}

/** All arguments of a list, for `.irp`. */
export function listArguments(text: string, at: number): string[] {
  const values: string[] = [];
  let next = skipBlanks(text, at);
  while (next < text.length) {
    const value = readArgument(text, next);
    values.push(value.text);
    next = skipSeparator(text, value.end);
  }
  return values;
}

/** `\name` replaced by its value, `\@` by the number of the call, `\()` by nothing. */
function substitute(text: string, values: ReadonlyMap<string, string>, call: number): string {
  if (!text.includes('\\')) return text;
  return text.replaceAll(/\\(?:([A-Za-z_.$][A-Za-z0-9_.$]*)|(@)|(\(\)))/g, (whole, name?: string, counter?: string) => {
    if (name !== undefined) return values.get(name) ?? shorterName(name, values) ?? whole;
    return counter === undefined ? '' : String(call);
  });
}

/** `\arg.suffix`: a dot ends the name of a parameter if only then there is one. */
function shorterName(name: string, values: ReadonlyMap<string, string>): string | undefined {
  const dot = name.indexOf('.');
  const value = dot > 0 ? values.get(name.slice(0, dot)) : undefined;
  return value === undefined ? undefined : value + name.slice(dot);
}

/** The body with values put in, as statements of their own. */
export function expand(body: readonly Statement[], values: ReadonlyMap<string, string>, call: number): Statement[] {
  const statements: Statement[] = [];
  for (const statement of body) {
    const text = substitute(statement.text, values, call);
    if (text === statement.text) {
      statements.push(statement);
      continue;
    }
    const sourceLine = ' '.repeat(statement.column - 1) + text;
    statements.push(...splitStatements(text, statement.file, statement.line, sourceLine, statement.column));
  }
  return statements;
}
