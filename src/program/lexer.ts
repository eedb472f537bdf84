/**
 * From source text to statements, and from a statement to tokens.
 *
 * GNU as conventions for x86: `#` and `//` start a comment, `/* … *\/` is one, `;` and the end of the line end a statement; a
 * character constant is `'c'`, its closing quote optional.
 */

/** One statement as it stands in a file, comments blanked out. Columns of tokens count from `column`. */
export interface Statement {
  readonly text: string;
  readonly file: string;
  /** 1-based line of the statement. */
  readonly line: number;
  /** 1-based column of `text[0]` in `sourceLine`. */
  readonly column: number;
  /** The whole line, as written (in a macro: as expanded). */
  readonly sourceLine: string;
}

export type TokenKind = 'name' | 'number' | 'string' | 'local' | 'punctuation' | 'end';

export interface Token {
  readonly kind: TokenKind;
  /** The characters; for punctuation the operator. */
  readonly text: string;
  /** Of a number or character constant. */
  readonly value: bigint;
  /** Of a string: its bytes. */
  readonly bytes?: number[];
  /** 0-based offset in the statement. */
  readonly at: number;
  /** True if white space stands before the token. */
  readonly spaced: boolean;
}

/** A fault of the source at an offset of the statement that is being read. */
export class SourceFault extends Error {
  readonly at: number;

  constructor(message: string, at: number) {
    super(message);
    this.at = at;
  }
}

/** Length of the character constant or string that starts at `text[at]`, a quote; to the end of the line if it is not closed. */
function quotedLength(text: string, at: number): number {
  if (text[at] === "'") {
    if (at + 1 >= text.length) return 1;
    const body = text[at + 1] === '\\' ? 2 : 1;
    return text[at + 1 + body] === "'" ? body + 2 : body + 1;
  }
  let end = at + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return Math.min(end + 1, text.length) - at;
}

/** Splits one comment-free line at `;` outside of strings and character constants; empty statements are dropped. */
export function splitStatements(
  line: string,
  file: string,
  number: number,
  sourceLine: string,
  column = 1,
): Statement[] {
  const statements: Statement[] = [];
  let start = 0;
  const push = (end: number): void => {
    const text = line.slice(start, end);
    if (text.trim() !== '') statements.push({ text, file, line: number, column: column + start, sourceLine });
  };
  if (!line.includes(';')) {
    push(line.length);
    return statements;
  }
  for (let at = 0; at < line.length; at++) {
    const char = line[at];
    if (char === '"' || char === "'") at += quotedLength(line, at) - 1;
    else if (char === ';') {
      push(at);
      start = at + 1;
    }
  }
  push(line.length);
  return statements;
}

/** The statements of a file, in order. Comments become blanks, so that columns stay. */
export function readStatements(source: string, file: string): Statement[] {
  const statements: Statement[] = [];
  const lines = source.replaceAll('\r\n', '\n').split('\n');
  let inComment = false;
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index];
    let text = line;
    if (inComment || line.includes('#') || line.includes('/')) {
      [text, inComment] = blankComments(line, inComment);
    }
    if (text.trim() === '') continue;
    for (const statement of splitStatements(text, file, index + 1, line)) statements.push(statement);
  }
  return statements;
}

function blankComments(line: string, inComment: boolean): [string, boolean] {
  let out = '';
  let at = 0;
  let open = inComment;
  while (at < line.length) {
    if (open) {
      const end = line.indexOf('*/', at);
      const next = end < 0 ? line.length : end + 2;
      out += ' '.repeat(next - at);
      at = next;
      open = end < 0;
      continue;
    }
    const char = line[at];
    if (char === '#' || (char === '/' && line[at + 1] === '/')) break;
    if (char === '/' && line[at + 1] === '*') {
      open = true;
      out += '  ';
      at += 2;
    } else if (char === '"' || char === "'") {
      const length = quotedLength(line, at);
      out += line.slice(at, at + length);
      at += length;
    } else {
      out += char;
      at++;
    }
  }
  return [out, open];
}

const NAME = /[A-Za-z_.$@][A-Za-z0-9_.$@]*/y;
const LOCAL = /\d+[bfBF](?![A-Za-z0-9_.$@])/y;
const NUMBER = /0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|\d+/y;
const PUNCTUATION = /<<|>>|<=|>=|==|!=|<>|&&|\|\||[-+*/%&|^~!()[\]{}<>=:,@?\\]/y;
const SPACE = /[ \t\f\v\r\u00a0]*/y;
const TAIL = /[A-Za-z0-9_]/;

function match(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

/** Tokens of `text` from offset `from` on, ending with an `end` token. Throws SourceFault. */
export function tokenize(text: string, from = 0): Token[] {
  const tokens: Token[] = [];
  let at = from;
  for (;;) {
    const blank = match(SPACE, text, at)!.length;
    at += blank;
    const spaced = blank > 0;
    if (at >= text.length) {
      tokens.push({ kind: 'end', text: '', value: 0n, at: text.length, spaced });
      return tokens;
    }
    const token = nextToken(text, at, spaced);
    tokens.push(token);
    at += token.text.length;
  }
}

function nextToken(text: string, at: number, spaced: boolean): Token {
  const char = text[at];
  if (char >= '0' && char <= '9') {
    const local = match(LOCAL, text, at);
    if (local !== undefined) return { kind: 'local', text: local, value: 0n, at, spaced };
    return numberToken(text, at, spaced);
  }
  const name = match(NAME, text, at);
  if (name !== undefined) return { kind: 'name', text: name, value: 0n, at, spaced };
  if (char === '"') {
    const raw = text.slice(at, at + quotedLength(text, at));
    if (raw.length < 2 || !raw.endsWith('"')) throw new SourceFault('the string is not closed', at);
    return { kind: 'string', text: raw, value: 0n, bytes: stringBytes(raw, at), at, spaced };
  }
  if (char === "'") {
    const raw = text.slice(at, at + quotedLength(text, at));
    if (raw.length < 2) throw new SourceFault('a character must follow the quote', at);
    const body = raw.length > 2 && raw.endsWith("'") ? raw.slice(1, -1) : raw.slice(1);
    const bytes = stringBytes(`"${body}"`, at);
    if (bytes.length !== 1) throw new SourceFault(`${raw} is not one character`, at);
    return { kind: 'number', text: raw, value: BigInt(bytes[0]), at, spaced };
  }
  const punctuation = match(PUNCTUATION, text, at);
  if (punctuation !== undefined) return { kind: 'punctuation', text: punctuation, value: 0n, at, spaced };
  throw new SourceFault(`unexpected character ${JSON.stringify(char)}`, at);
}

function numberToken(text: string, at: number, spaced: boolean): Token {
  const raw = match(NUMBER, text, at)!;
  if (TAIL.test(text[at + raw.length] ?? '')) {
    const whole = match(/\w+/y, text, at)!;
    throw new SourceFault(`"${whole}" is not a number (write 0x1f, 0b101, 017 or decimal)`, at);
  }
  const octal = raw.length > 1 && raw[0] === '0' && raw[1] >= '0' && raw[1] <= '9';
  if (octal && /[89]/.test(raw)) throw new SourceFault(`"${raw}" has a digit that is not octal`, at);
  const value = BigInt(octal ? `0o${raw.slice(1)}` : raw);
  if (value >> 64n !== 0n) throw new SourceFault(`${raw} does not fit 64 bits`, at);
  return { kind: 'number', text: raw, value, at, spaced };
}

const ESCAPES: Readonly<Record<string, number>> = {
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '\\': 92,
  '"': 34,
  "'": 39,
};

/** UTF-8 bytes of a quoted string with the escapes of GNU as: `\b \f \n \r \t \v \\ \" \'`, octal `\123`, hexadecimal `\x1f`. */
function stringBytes(raw: string, at: number): number[] {
  const bytes: number[] = [];
  const body = raw.slice(1, -1);
  for (let index = 0; index < body.length; ) {
    if (body[index] !== '\\') {
      const char = String.fromCodePoint(body.codePointAt(index)!);
      for (const byte of new TextEncoder().encode(char)) bytes.push(byte);
      index += char.length;
      continue;
    }
    const rest = body.slice(index + 1);
    const digits = /^(?:[0-7]{1,3}|[xX][0-9a-fA-F]+)/.exec(rest)?.[0];
    if (digits !== undefined) {
      const hex = digits[0] === 'x' || digits[0] === 'X';
      bytes.push(Number.parseInt(hex ? digits.slice(-2).replace(/[xX]/, '') : digits, hex ? 16 : 8) & 0xff);
      index += 1 + digits.length;
      continue;
    }
    const code = ESCAPES[rest[0]];
    if (code === undefined) throw new SourceFault(`unknown escape "\\${rest[0] ?? ''}" in the string`, at);
    bytes.push(code);
    index += 2;
  }
  return bytes;
}
