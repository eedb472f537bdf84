import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';

/** The value of an expression as `.quad` stores it. */
function resultOf(text: string, before = ''): bigint {
  const { symbols } = assemble(`${before}\n.set result, ${text}\n`, { fileName: 't.S' });
  return BigInt.asIntN(64, symbols.get('result')!);
}

const messageOf = (source: string): string => {
  try {
    assemble(source, { fileName: 't.S' });
  } catch (error) {
    return (error as Error).message.split('\n')[0];
  }
  return 'no error';
};

describe('expressions', () => {
  it.each([
    ['1+2*3', 7n],
    ['(1+2)*3', 9n],
    ['10-4-3', 3n],
    ['7/2', 3n],
    ['-7/2', -3n],
    ['-7%3', -1n],
    ['1<<40', 1n << 40n],
    ['1<<64', 0n],
    ['-1>>60', 15n],
    ['0xf0|0x0f', 255n],
    ['0xff^0x0f', 0xf0n],
    ['~0', -1n],
    ['!0', 1n],
    ['!7', 0n],
    ['- -3', 3n],
    ['1==1', -1n],
    ['1!=1', 0n],
    ['1<>2', -1n],
    ['-1<1', -1n],
    ['2>=3', 0n],
    ['3&&0', 0n],
    ['3&&2', 1n],
    ['0||2', 1n],
    ['1<<3|1<<5', 40n],
    ['1==1 && 2==3', 0n],
    ['0x7fffffffffffffff+1', -(1n << 63n)],
    ['0xffffffffffffffff', -1n],
    ["'a'+1", 98n],
  ])('%s is %i', (text, value) => {
    expect(resultOf(text)).toBe(value);
  });

  it.each([
    ['1+2<<3', '+', '<<'],
    ['1|2+4', '|', '+'],
    ['4&5==5', '&', '=='],
    ['1|2^3', '|', '^'],
    ['1<<2*3', '<<', '*'],
  ])('%s is refused, since C and GNU as read it differently', (text, first, second) => {
    const message = messageOf(`.quad ${text}`);
    expect(message).toMatch(/error: C and GNU as bind "\S+" and "\S+" in different order; add parentheses$/);
    expect(message).toContain(`"${first}"`);
    expect(message).toContain(`"${second}"`);
  });

  it('knows the distance of labels with nothing of changing size between them', () => {
    expect(resultOf('b-a', 'a: nop\nmov eax, 5\nb:')).toBe(6n);
    expect(messageOf('a: jmp c\nb:\n.if b-a\n.endif\nc:')).toBe(
      't.S:3:5: error: the condition must be known here: it depends on what follows or can still move',
    );
  });

  it('takes the value a .set symbol has where it is used', () => {
    const { bytes } = assemble('.set x, 1\n.byte x\n.set x, x+1\n.byte x\n.set x, later\n.byte x\nlater=9', {
      fileName: 't.S',
    });
    expect([...bytes]).toEqual([1, 2, 9]);
  });

  it.each([
    ['.quad nowhere', 't.S:1:7: error: undefined symbol "nowhere"'],
    ['.quad 1/0', 't.S:1:8: error: division by zero'],
    ['.quad 1f', 't.S:1:7: error: no label "1:" follows'],
    ['.quad 1b', 't.S:1:7: error: no label "1:" precedes'],
    ['.quad (1', 't.S:1:9: error: expected ")" at the end of the statement'],
    ['.quad 1 2', 't.S:1:9: error: unexpected "2" after the statement'],
    ['.quad ,', 't.S:1:7: error: expected a value before ","'],
    ['a = b\nb = a\n.quad a', 't.S:1:1: error: the definition of "b" goes in a circle'],
    ['a: nop\na: nop', 't.S:2:1: error: "a" is defined already (t.S:1)'],
    ['.byte 256', 't.S:1:7: error: 0x100 does not fit 8 bits'],
    ['.word -32769', 't.S:1:7: error: -0x8001 does not fit 16 bits'],
    ['.byte label\nlabel:', 't.S:1:7: error: 0x1001 does not fit 8 bits'],
    [`.quad ${'('.repeat(200)}1`, 't.S:1:107: error: the expression is nested more than 100 deep'],
    [`.quad ${'-'.repeat(200)}1`, 't.S:1:106: error: the expression is nested more than 100 deep'],
  ])('%s: one clear message', (source, message) => {
    expect(messageOf(source)).toBe(message);
  });

  it('refuses sums of thousands of parts instead of running out of stack', () => {
    expect(messageOf(`.quad 1${'+1'.repeat(20000)}`)).toMatch(/the expression has more than 1000 operators$/);
  });
});
