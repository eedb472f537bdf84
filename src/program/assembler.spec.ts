import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { type AssembleOptions, AssemblyError, assemble, type Diagnostic, locate, type Program } from './assembler.ts';

const build = (source: string, options: Partial<AssembleOptions> = {}): Program =>
  assemble(source, { fileName: 'test.S', ...options });

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function errorOf(source: string, options: Partial<AssembleOptions> = {}): AssemblyError {
  try {
    build(source, options);
  } catch (error) {
    if (error instanceof AssemblyError) return error;
    throw error;
  }
  throw new Error('it assembled');
}

const messages = (source: string, options?: Partial<AssembleOptions>): string[] =>
  errorOf(source, options).diagnostics.map(({ line, column, message }) => `${line}:${column}: ${message}`);

describe('a program', () => {
  it('has bytes, entry, symbols, lines and code size', () => {
    const program = build('.equ size, 3\nnop\n_start: vmcall\n.code32\nhlt\n');
    expect(program).toMatchObject({ origin: 0x1000, entry: 0x1001, bits: 64 });
    expect(hex(program.bytes)).toBe('900f01c1f4');
    expect(program.segments).toEqual([{ address: 0x1000, bytes: program.bytes }]);
    expect([...program.symbols]).toEqual([
      ['size', 3n],
      ['_start', 0x1001n],
    ]);
    expect([...program.labels]).toEqual(['_start']);
    expect(program.lines).toEqual([
      { address: 0x1000, length: 1, file: 'test.S', line: 2, bits: 64, source: 'nop' },
      { address: 0x1001, length: 3, file: 'test.S', line: 3, bits: 64, source: '_start: vmcall' },
      { address: 0x1004, length: 1, file: 'test.S', line: 5, bits: 32, source: 'hlt' },
    ]);
  });

  it('starts at its first byte without _start, in the code size there', () => {
    expect(build('.code16\nhlt')).toMatchObject({ entry: 0x1000, bits: 16 });
    expect(build('hlt', { bits: 32, origin: 0x7c00 })).toMatchObject({ origin: 0x7c00, entry: 0x7c00, bits: 32 });
  });

  it('that is empty has no bytes', () => {
    expect(build('# nothing\n')).toMatchObject({ origin: 0x1000, entry: 0x1000, segments: [], lines: [] });
  });

  it('gives symbols as unsigned numbers and keeps numeric labels to itself', () => {
    expect([...build('1: jmp 1b\n.set minus, -1').symbols]).toEqual([['minus', 0xffff_ffff_ffff_ffffn]]);
  });

  it('knows symbols defined beforehand', () => {
    expect(hex(build('.byte count', { defines: { count: 7n } }).bytes)).toBe('07');
  });
});

describe('a word that every object of JavaScript has', () => {
  it.each(['constructor', '__proto__'])('%s is a label like any other, and no instruction', (word) => {
    const { symbols, bytes } = assemble(`${word}: jmp ${word}\n mov rax, [${word}]`, { fileName: 't.S' });
    expect(symbols.get(word)).toBe(0x1000n);
    expect([...bytes]).toEqual([0xeb, 0xfe, 0x48, 0x8b, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00]);
    expect(() => assemble(word, { fileName: 't.S' })).toThrow(`unknown instruction "${word}"`);
  });
});

describe('.org', () => {
  it('before the first byte is the origin', () => {
    expect(build('.org 0x7c00\nnop', { origin: 0x1000 })).toMatchObject({ origin: 0x7c00, entry: 0x7c00 });
    expect(build('.org 0x500\nnop')).toMatchObject({ origin: 0x500 });
  });

  it('later fills small gaps with zeros and leaves out large ones', () => {
    expect(hex(build('nop\n.org 0x1004\nhlt').bytes)).toBe('90000000f4');
    const { segments } = build('nop\n.org 0x80000\nhlt');
    expect(segments.map(({ address, bytes }) => [address, hex(bytes)])).toEqual([
      [0x1000, '90'],
      [0x80000, 'f4'],
    ]);
  });

  it('reaches the reset vector without allocating what lies before', () => {
    const { segments, symbols } = build('nop\n.org 0xfffffff0\nreset: hlt');
    expect(segments).toHaveLength(2);
    expect(symbols.get('reset')).toBe(0xffff_fff0n);
  });

  it('cannot go back', () => {
    expect(messages('.skip 64\n.org 0x1010')).toEqual([
      '2:6: .org 0x1010 goes backwards: the program has reached 0x1040',
    ]);
  });
});

describe('sections', () => {
  it('follow .text in order of appearance, aligned, .bss last', () => {
    const program = build('.bss\nb: .skip 4\n.data\nd: .balign 8\n.byte 1\n.text\nnop\n.section .rodata\nr: .byte 2\n');
    expect(hex(program.bytes)).toBe('90000000000000000102'.padEnd(28, '0'));
    expect([...program.symbols]).toEqual([
      ['b', 0x100an],
      ['d', 0x1008n],
      ['r', 0x1009n],
    ]);
  });

  it('are not reached by a short jump, since they can move', () => {
    expect(hex(build('jmp d\n.data\nd: nop').bytes)).toBe('e90000000090');
  });
});

describe('what compilers write', () => {
  it('.comm and .lcomm reserve aligned zeros in .bss, and the source goes on where it was', () => {
    const program = build('nop\n.comm a,3\n.lcomm b,16\n.local c\n.comm c,1,64\n.data\nd: .byte 7\n.previous\nhlt\n');
    expect(['a', 'b', 'c', 'd'].map((name) => program.symbols.get(name))).toEqual([0x1040n, 0x1050n, 0x1080n, 0x1002n]);
    expect([...program.bytes.subarray(0, 3)]).toEqual([0x90, 0xf4, 7]);
    expect(program.bytes.length).toBe(0x81);
    expect([...program.bytes.subarray(3)].every((byte) => byte === 0)).toBe(true);
  });

  it('call-frame information says nothing to a program image', () => {
    expect([...build('.cfi_startproc\n.cfi_def_cfa_offset 16\n.cfi_offset 3, -16\nnop\n.cfi_endproc\n').bytes]).toEqual(
      [0x90],
    );
  });

  it('offset flat:name is offset name', () => {
    expect([...build('mov esi, OFFSET FLAT:here\nhere: nop\n').bytes]).toEqual([0xbe, 5, 0x10, 0, 0, 0x90]);
  });
});

describe('locate', () => {
  const program = build('nop\n.org 0x1010\nmov eax, 5\nhlt');

  it('finds the statement whose bytes an address is in', () => {
    expect(locate(program, 0x1000)?.source).toBe('nop');
    expect(locate(program, 0x1013n)).toMatchObject({ file: 'test.S', line: 3, source: 'mov eax, 5' });
    expect(locate(program, 0x1015)?.source).toBe('hlt');
  });

  it('finds nothing between and beyond', () => {
    expect(locate(program, 0xfff)).toBeUndefined();
    expect(locate(program, 0x1001)).toBeUndefined();
    expect(locate(program, 0x1016)).toBeUndefined();
  });

  it('names the statement in a macro and the call it comes from', () => {
    const { lines } = build('.macro send where\n  nop\n  mov ecx, \\where\n.endm\n.byte 1; .byte 2\nsend 0x830\n');
    expect(lines.map(({ line, source, calledFrom }) => [line, source, calledFrom?.line])).toEqual([
      [5, '.byte 1', undefined],
      [5, '.byte 2', undefined],
      [2, 'nop', 6],
      [3, 'mov ecx, 0x830', 6],
    ]);
  });
});

describe('errors', () => {
  it('come all at once, in order, with file, line, column, the line and a caret', () => {
    const error = errorOf('  mov eax, [\n\tjmp  nowhere ; bogus\nhlt\n.byte 300\n');
    expect(error).toBeInstanceOf(KvmscopeError);
    expect(error.code).toBe('syntax');
    expect(error.message.split('\n')).toEqual([
      'test.S:1:13: error: expected a value at the end of the statement',
      '      mov eax, [',
      '                ^',
      'test.S:2:7: error: undefined symbol "nowhere"',
      '    \tjmp  nowhere ; bogus',
      '    \t     ^',
      'test.S:2:17: error: unknown instruction "bogus"',
      '    \tjmp  nowhere ; bogus',
      '    \t               ^',
      'test.S:4:7: error: 0x12c does not fit 8 bits',
      '    .byte 300',
      '          ^',
    ]);
    expect(error.diagnostics[1]).toEqual({
      file: 'test.S',
      line: 2,
      column: 7,
      message: 'undefined symbol "nowhere"',
      sourceLine: '\tjmp  nowhere ; bogus',
      calls: [],
    } satisfies Diagnostic);
  });

  it('in macros name the line of the macro and of each call', () => {
    const error = errorOf('.macro inner what\n  mov eax, \\what\n.endm\n.macro outer\n  inner [\n.endm\nnop\nouter\n');
    expect(error.message.split('\n')).toEqual([
      'test.S:2:13: error: expected a value at the end of the statement',
      '      mov eax, [',
      '                ^',
      '  in macro "inner", called from test.S:5',
      '  in macro "outer", called from test.S:8',
    ]);
  });

  it('stop after a hundred', () => {
    const { diagnostics } = errorOf('.rept 1000\nbogus\n.endr');
    expect(diagnostics).toHaveLength(2);
    const many = errorOf(Array.from({ length: 1000 }, (_, index) => `bogus${index}`).join('\n'));
    expect(many.diagnostics).toHaveLength(101);
    expect(many.diagnostics[100].message).toBe('more than 100 errors; the rest is not read');
  });

  it.each([
    ['.ascii 5', '1:8: expected a string in double quotes'],
    ['.byte "a"', '1:7: a string needs .ascii or .asciz'],
    ['.bite 5', '1:1: unknown directive ".bite"; did you mean ".byte"?'],
    ['.att_syntax', '1:1: .att_syntax is not supported'],
    ['.intel_syntax prefix', '1:14: registers are written without %: .intel_syntax noprefix'],
    ['.align 3', '1:8: alignment 3 is not a power of two'],
    ['.p2align 40', '1:10: .p2align takes exponents from 0 to 31'],
    ['.skip -1', '1:7: a negative size: -1'],
    ['.skip 1<<30', '1:7: more than 64 MiB at once'],
    ['.fill 1, 9', '1:7: .fill takes sizes from 0 to 8 bytes'],
    ['.skip a-b\na: nop\nb:', '1:7: a negative size: -1 bytes'],
    [
      '.skip 2-(b-a)\na: .skip 4-(c-b)\nb: .skip 1+(b-a)\nc:',
      '1:7: the layout does not settle: this size depends on itself',
    ],
    ['.error "stop here"', '1:1: stop here'],
    ['.if 1', '1:1: this condition has no .endif'],
    ['.else', '1:1: .else without .if'],
    ['.endif', '1:1: .endif without .if'],
    ['.if 1\n.else\n.else\n.endif', '3:1: .else behind .else'],
    ['.endm', '1:1: .endm without .macro'],
    ['.endr', '1:1: .endr without .rept, .irp or .irpc'],
    ['.exitm', '1:1: .exitm outside of a macro'],
    ['.popsection', '1:1: .popsection without .pushsection'],
    [
      '.if later\n.endif\nlater = 1',
      '1:5: the condition must be known here: it depends on what follows or can still move',
    ],
    ['5', '1:1: expected an instruction, a directive or a label'],
    [': nop', '1:1: expected an instruction, a directive or a label'],
    ['.set 5, 5', '1:6: .set needs a name and a value'],
    ['.equiv a, 1\n.equiv a, 2', '2:8: "a" is defined already (test.S:1)'],
    ['.include "none.inc"', '1:9: cannot find the include file "none.inc"'],
    ['.org -5', '1:6: address -5 is out of range'],
    ['.data\n.org 5', '2:6: .org with a number works in .text only; use .skip here'],
    ['.float x', '1:7: "x" is not a number'],
  ])('of %s: one clear message', (source, message) => {
    expect(messages(source)[0]).toBe(message);
  });

  it('leave warnings to the program', () => {
    expect(build('nop\n.warning "careful"').warnings.map(({ line, message }) => [line, message])).toEqual([
      [2, 'careful'],
    ]);
  });
});

describe('limits', () => {
  it('end macros that call themselves', () => {
    const { diagnostics } = errorOf('.macro again\nagain\n.endm\nagain');
    expect(diagnostics).toHaveLength(1);
    expect(diagnostics[0]).toMatchObject({ line: 2, message: 'macros call each other more than 100 deep' });
    expect(diagnostics[0].calls).toHaveLength(100);
  });

  it('end macros that double at each level', () => {
    expect(messages('.macro twice n\n.if \\n\ntwice \\n-1\ntwice \\n-1\n.endif\n.endm\ntwice 90').slice(-1)[0]).toMatch(
      /more than 500000 statements after expansion$/,
    );
  });

  it.each([
    ['.rept 1<<40\nnop\n.endr', '1:6: a count above 500000'],
    ['.rept 1<<40\n.endr', '1:6: a count above 500000'],
    ['.rept -1\nnop\n.endr', '1:6: a negative count: -1'],
    ['.rept 2000\n.rept 2000\n.endr\n.endr', '2:1: more than 500000 statements after expansion'],
    ['.rept 3000\n.skip 1<<20\n.endr', '2:1: the program is larger than 64 MiB'],
  ])('end %s', (source, message) => {
    expect(messages(source)[0]).toBe(message);
  });

  it('end files that include themselves', () => {
    expect(messages('.include "test.S"', { readInclude: () => '.include "test.S"' })).toEqual([
      '1:1: .include is nested more than 32 deep',
    ]);
  });
});

describe('.include', () => {
  it('asks for the path as written, then in the folders, and names the file in messages and lines', () => {
    const asked: string[] = [];
    const options: Partial<AssembleOptions> = {
      includeDirs: ['a', 'b/'],
      readInclude(path, fromFile) {
        asked.push(`${path} from ${fromFile}`);
        return path === 'b/x.inc'
          ? 'hlt\n.include "y.inc"'
          : path === 'y.inc'
            ? { file: 'deep/y.inc', text: 'cli' }
            : undefined;
      },
    };
    const program = build('nop\n.include "x.inc"\nsti', options);
    expect(asked).toEqual(['x.inc from test.S', 'a/x.inc from test.S', 'b/x.inc from test.S', 'y.inc from b/x.inc']);
    expect(program.lines.map(({ file, line }) => `${file}:${line}`)).toEqual([
      'test.S:1',
      'b/x.inc:1',
      'deep/y.inc:1',
      'test.S:3',
    ]);
  });
});

it('lays out thousands of jumps over each other', () => {
  const source = Array.from(
    { length: 5000 },
    (_, index) => `l${index}: jz l${(index * 7919) % 5000}; mov eax, [rbx+${index}]`,
  );
  expect(build(source.join('\n')).lines).toHaveLength(10_000);
});
