import { describe, expect, it } from 'vitest';
import { readStatements, SourceFault, tokenize } from './lexer.ts';

const texts = (source: string): string[] => readStatements(source, 't.S').map(({ text }) => text.trim());

describe('readStatements', () => {
  it('parts lines at ; and drops comments of all three kinds', () => {
    expect(texts('nop; hlt # a ; b\nmov al, 1 // c\n/* d\ne */ cli /* f */ ; sti')).toEqual([
      'nop',
      'hlt',
      'mov al, 1',
      'cli',
      'sti',
    ]);
  });

  it('leaves comment and separator characters alone in strings and character constants', () => {
    expect(texts(`.ascii "#;//\\"/*"\nmov al, '#'; mov bl, ';'; mov cl, '"'; mov dl, '\\''`)).toEqual([
      '.ascii "#;//\\"/*"',
      "mov al, '#'",
      "mov bl, ';'",
      `mov cl, '"'`,
      "mov dl, '\\''",
    ]);
  });

  it('keeps line and column through comments and Windows line ends', () => {
    const [first, second] = readStatements('\r\n/* x */ nop; hlt\r\n', 't.S');
    expect([first.line, first.column, first.text]).toEqual([2, 1, '        nop']);
    expect([second.line, second.column, second.sourceLine]).toEqual([2, 13, '/* x */ nop; hlt']);
  });
});

describe('tokenize', () => {
  const values = (text: string): bigint[] =>
    tokenize(text)
      .slice(0, -1)
      .map(({ value }) => value);

  it('reads numbers of every base and characters', () => {
    expect(values("0x1F 0b101 0o17 017 42 'a' '\\n' '\\\\' 0xffffffffffffffff")).toEqual([
      0x1fn,
      5n,
      15n,
      15n,
      42n,
      97n,
      10n,
      92n,
      0xffff_ffff_ffff_ffffn,
    ]);
  });

  it('tells local label references from numbers', () => {
    expect(tokenize('1f 12b 0b 0b1 0xf 1').map(({ kind }) => kind)).toEqual([
      'local',
      'local',
      'local',
      'number',
      'number',
      'number',
      'end',
    ]);
  });

  it('reads the escapes of strings as bytes, other characters as UTF-8', () => {
    expect(tokenize('"a\\n\\t\\0\\101\\x7f\\\\é"')[0].bytes).toEqual([97, 10, 9, 0, 65, 127, 92, 0xc3, 0xa9]);
  });

  it.each([
    ['12ab', '"12ab" is not a number (write 0x1f, 0b101, 017 or decimal)'],
    ['089', '"089" has a digit that is not octal'],
    ['0x10000000000000000', '0x10000000000000000 does not fit 64 bits'],
    ['"abc', 'the string is not closed'],
    ['"\\q"', 'unknown escape "\\q" in the string'],
    ['`', 'unexpected character "`"'],
    ["'", 'a character must follow the quote'],
  ])('refuses %s', (text, message) => {
    expect(() => tokenize(text)).toThrow(new SourceFault(message, 0));
  });
});
