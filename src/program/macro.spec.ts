import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';

const textOf = (source: string): string => Buffer.from(assemble(source, { fileName: 't.S' }).bytes).toString('latin1');
const bytesOf = (source: string): number[] => [...assemble(source, { fileName: 't.S' }).bytes];
const messageOf = (source: string): string => {
  try {
    assemble(source, { fileName: 't.S' });
  } catch (error) {
    return (error as Error).message.split('\n')[0];
  }
  return 'no error';
};

describe('.macro', () => {
  const pair = '.macro pair a, b=7\n.byte \\a, \\b\n.endm\n';

  it('binds arguments by place, by name, by default; commas or blanks part them', () => {
    expect(bytesOf(`${pair}pair 1, 2\npair 3\npair b=4, a=5\npair 6 8`)).toEqual([1, 2, 3, 7, 5, 4, 6, 8]);
  });

  it('keeps what brackets, quotes and operators hold together', () => {
    const show = '.macro show what\n.ascii "<\\what>"\n.endm\n';
    expect(textOf(`${show}show [rax + 8]\nshow "a b, c"\nshow 1 + 2\nshow (a b)\nshow`)).toBe(
      '<[rax+8]><a b, c><1+2><(a b)><>',
    );
  });

  it('ends a name with \\() and numbers its calls with \\@', () => {
    expect(textOf('.macro m x\n.ascii "\\x\\()_\\@ "\n.endm\nm a\nm b')).toBe('a_0 b_1 ');
  });

  it('takes the rest of the line as :vararg', () => {
    expect(bytesOf('.macro all v:vararg\n.byte \\v\n.endm\nall 1, 2, 3')).toEqual([1, 2, 3]);
  });

  it('can define macros, call itself and leave early', () => {
    expect(bytesOf('.macro make name, value\n.macro \\name\n.byte \\value\n.endm\n.endm\nmake five, 5\nfive')).toEqual([
      5,
    ]);
    expect(bytesOf('.macro count n\n.if \\n == 0\n.exitm\n.endif\n.byte \\n\ncount \\n-1\n.endm\ncount 3')).toEqual([
      3, 2, 1,
    ]);
  });

  it('goes before an instruction of its name, in any case, until .purgem', () => {
    expect(bytesOf('.macro NOP\n.byte 1\n.endm\nnop\n.purgem nop\nnop')).toEqual([1, 0x90]);
  });

  it.each([
    ['.macro\n.endm', 't.S:1:7: error: .macro needs a name'],
    ['.macro m a:opt\n.endm', 't.S:1:11: error: unknown qualifier ":opt"; there are :req and :vararg'],
    ['.macro m a, a\n.endm', 't.S:1:13: error: parameter "a" stands twice'],
    ['.macro m a:vararg, b\n.endm', 't.S:1:20: error: a :vararg parameter must be the last'],
    ['.macro m\nnop', 't.S:1:1: error: .macro has no .endm'],
    ['.macro m\n.endm\n.macro m\n.endm', 't.S:3:7: error: macro "m" is defined already'],
    ['.macro m a:req\n.endm\nm', 't.S:3:2: error: macro "m" needs a value for "a"'],
    [
      `${pair}pair 1, 2, 3`,
      't.S:4:12: error: macro "pair" takes 2 arguments; blanks part arguments too, quote one that has blanks',
    ],
    ['.macro m\n.if 1\n.endm\nm', 't.S:2:1: error: this condition has no .endif'],
  ])('%s: one clear message', (source, message) => {
    expect(messageOf(source)).toBe(message);
  });
});

describe('repetition', () => {
  it('by count, over values, over characters, nested', () => {
    expect(bytesOf('.set i, 0\n.rept 3\n.byte i\n.set i, i+1\n.endr')).toEqual([0, 1, 2]);
    expect(bytesOf('.rept 2\n.rept 2\n.byte 1\n.endr\n.byte 2\n.endr')).toEqual([1, 1, 2, 1, 1, 2]);
    expect(bytesOf('.irp n, 1, 2 3\n.byte \\n\n.endr')).toEqual([1, 2, 3]);
    expect(bytesOf('.irpc c, 45\n.byte \\c\n.endr')).toEqual([4, 5]);
    expect(bytesOf('.rept 0\n.byte 1\n.endr')).toEqual([]);
  });

  it('without an end is an error at its start', () => {
    expect(messageOf('nop\n.rept 3\nnop')).toBe('t.S:2:1: error: .rept has no .endr');
    expect(messageOf('.irp')).toBe('t.S:1:1: error: .irp has no .endr');
  });
});

describe('conditions', () => {
  it('read one branch and skip whatever stands in the others', () => {
    const choose = '.if n == 1\n.byte 1\n.elseif n == 2\n.byte 2\n.else\n[[[ "\n.if 1\n.endif\n.byte 3\n.endif';
    expect(bytesOf(`n = 1\n${choose}`)).toEqual([1]);
    expect(bytesOf(`n = 2\n${choose}`)).toEqual([2]);
  });

  it('test definitions, texts and signs', () => {
    const test = (condition: string): boolean => bytesOf(`a = 1\n${condition}\n.byte 1\n.endif`).length === 1;
    expect(test('.ifdef a')).toBe(true);
    expect(test('.ifndef a')).toBe(false);
    expect(test('.ifdef b')).toBe(false);
    expect(test('.ifc x, x')).toBe(true);
    expect(test('.ifeqs "x y", "x z"')).toBe(false);
    expect(test('.ifb')).toBe(true);
    expect(test('.ifnb x')).toBe(true);
    expect(test('.iflt -a')).toBe(true);
    expect(test('.ifgt a')).toBe(true);
    expect(test('.ifeq a')).toBe(false);
  });
});
