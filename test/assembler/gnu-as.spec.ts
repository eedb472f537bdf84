/** The assembler's bytes against those of GNU as: every guest program, lists of instructions, directives, jumps of all lengths. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { assemble, type LineEntry, type Program } from '../../src/program/assembler.ts';
import { type Bits, noOps } from '../../src/program/layout.ts';
import { loadProgram } from '../../src/program/load.ts';
import { type GnuImage, gnuAssemble, gnuAvailable } from './gnu.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const available = gnuAvailable('comparison of the assembler with GNU as');

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** All segments in one piece from the origin on. */
function flat({ origin, segments }: Program): Uint8Array {
  const end = Math.max(...segments.map(({ address, bytes }) => address + bytes.length));
  const bytes = new Uint8Array(end - origin);
  for (const segment of segments) bytes.set(segment.bytes, segment.address - origin);
  return bytes;
}

/**
 * `address: bytes  source` of every statement, by one side's bytes. GNU as fills alignments with no-ops of the mode in force at the
 * end of the source, the assembler with those of the mode in force there; both are shown as what they are.
 */
function rows(lines: readonly LineEntry[], bytes: Uint8Array, origin: number): string[] {
  return lines.map(({ address, length, source, file, line }) => {
    const found = bytes.subarray(address - origin, address - origin + length);
    const isPadding = ([16, 64] as const).some((bits) => hex(noOps(length, bits)) === hex(found));
    const text = /^\.(?:p2|b)?align/.test(source) && isPadding ? `${length} bytes of no-ops` : hex(found);
    return `${file}:${line} ${address.toString(16)}: ${text}  ${source}`;
  });
}

function expectSame(program: Program, gnu: GnuImage): void {
  const ours = flat(program);
  expect(rows(program.lines, ours, program.origin)).toEqual(rows(program.lines, gnu.bytes, program.origin));
  expect(ours.length).toBe(gnu.bytes.length);
}

function compare(source: string, bits: Bits = 64): void {
  const program = assemble(source, { fileName: 'test.S', bits });
  expectSame(program, gnuAssemble(source, { origin: program.origin }));
}

describe.skipIf(!available)('guest programs', () => {
  const programs = readdirSync(join(ROOT, 'guest'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.S'))
    .map((path) => join('guest', path))
    .sort();

  it.each(programs)('%s has the bytes and the labels that GNU as gives it', (path) => {
    const file = join(ROOT, path);
    const program = loadProgram(file);
    const includeDirs = [dirname(file), join(ROOT, 'guest/include')];
    const gnu = gnuAssemble(readFileSync(file, 'utf8'), { origin: program.origin, includeDirs });
    expectSame(program, gnu);
    for (const [name, value] of gnu.symbols) expect([name, program.symbols.get(name)]).toEqual([name, value]);
  });
});

const CONDITIONS = 'a ae b be c e g ge l le na nae nb nbe nc ne ng nge nl nle no np ns nz o p pe po s z'.split(' ');

/** Forms of every integer instruction with two operands of one width. */
function arithmetic(bits: Bits): string[] {
  const registers = bits === 64 ? ['cl', 'dx', 'ecx', 'rdx', 'r9'] : ['cl', 'dx', 'ecx'];
  const lines: string[] = [];
  for (const name of ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp', 'mov', 'test']) {
    for (const register of registers) {
      lines.push(`${name} ${register}, ${register}`, `${name} ${register}, 5`, `${name} ${register}, -1`);
      lines.push(`${name} [a], ${register}`, `${name} ${register}, [a]`);
    }
    lines.push(`${name} al, 5`, `${name} ax, 0x1234`, `${name} eax, 0x12345678`, `${name} byte ptr [a], 5`);
    lines.push(`${name} word ptr [a], 0x80`, `${name} dword ptr [a], 0x80`, `${name} eax, offset a`);
  }
  for (const name of ['inc', 'dec', 'neg', 'not', 'mul', 'imul', 'div', 'idiv']) {
    for (const register of registers) lines.push(`${name} ${register}`);
    lines.push(`${name} byte ptr [a]`, `${name} dword ptr [a]`);
  }
  for (const name of ['rol', 'ror', 'rcl', 'rcr', 'shl', 'sal', 'shr', 'sar']) {
    for (const register of registers) {
      lines.push(`${name} ${register}`, `${name} ${register}, 1`, `${name} ${register}, 4`, `${name} ${register}, cl`);
    }
  }
  for (const name of ['bt', 'bts', 'btr', 'btc']) lines.push(`${name} ecx, edx`, `${name} [a], dx`, `${name} ecx, 9`);
  for (const name of ['bsf', 'bsr', 'imul', 'popcnt']) lines.push(`${name} ecx, edx`, `${name} dx, [a]`);
  for (const name of ['xchg', 'xadd', 'cmpxchg']) {
    for (const register of registers) lines.push(`${name} [a], ${register}`, `${name} ${register}, ${register}`);
    lines.push(`lock ${name} [a], ecx`);
  }
  for (const name of ['movzx', 'movsx']) lines.push(`${name} ecx, dl`, `${name} ecx, dx`, `${name} cx, byte ptr [a]`);
  for (const condition of CONDITIONS) {
    lines.push(`j${condition} .`, `j${condition} far_away`, `set${condition} dl`, `set${condition} [a]`);
    lines.push(`cmov${condition} ecx, edx`, `cmov${condition} cx, [a]`);
  }
  return lines;
}

describe.skipIf(!available)('instructions', () => {
  const folder = join(ROOT, 'test/assembler/instructions');

  it.each([16, 32, 64] as const)('of .code%i, one per line of the list, have the bytes of GNU as', (bits) => {
    const listed = readFileSync(join(folder, `${bits}.txt`), 'utf8')
      .split('\n')
      .filter(Boolean);
    const lines = [...listed, ...arithmetic(bits)];
    expect(lines.length).toBeGreaterThan(500);
    compare(
      [`.code${bits}`, '.equ C, 0x10', 'nop', 'b: nop', 'a: nop', ...lines, '.skip 200', 'far_away: nop'].join('\n'),
    );
  });
});

describe.skipIf(!available)('directives', () => {
  const sources: Readonly<Record<string, string>> = {
    data: `
      .byte 1, 2, -1, 'a', '\\n', 0xff
      .word 1, 0xffff, -2
      .short 3; .2byte 4; .hword 5
      .long a, a+4, b-a, 0x80000000, -1
      .int 6; .4byte 7
      .quad a, a-a, 0x123456789abcdef0, ., .
      .8byte b
      a: .ascii "x", "y" "z"
      b: .asciz "zero\\0 \\x41\\101 \\"quoted\\" tab\\t"
      .string "one", "two"
      .float 1.5, -2.25
      .double 3.141592653589793
    `,
    space: `
      .skip 3
      .space 4, 0xaa
      .zero 5
      .fill 3
      .fill 3, 2, 0x1234
      .fill 2, 8, 0x123456789abcdef0
      .fill 2, 4, -1
    `,
    alignment: `
      nop
      .balign 8
      nop
      .align 16, 0x90
      nop
      .p2align 5
      nop
      .p2align 4, , 3
      nop
      .balign 64, 0xcc, 63
      nop
      .balign 1024
      nop
      nop
      .balignw 8, 0x1234
    `,
    expressions: `
      .equ one, 1
      two = 2
      .set three, one+two
      .quad three*3, 7/2, -7/2, -7%3, 1<<40, -1>>4, 0xf0|0x0f, 0xff^0x0f, 0xff&0x3c, ~0, !0, !5
      .quad 1==1, 1!=1, 2<3, 3<=2, 3>2, 2>=3, -1<0, 1&&2, 0||0, 0||4
      .quad (1+2)*3, 1+2*3, -(3), - -3, ((((5)))), 0b1010, 0x1F, 017, 'z'
      .set three, three+1
      .byte three
      start: nop
      .quad end-start, end-.
      .if end-start > 4
      end: nop
      .endif
      end: nop
      .quad later
      later = 0x77
    `.replace(/\.if[\s\S]*?\.endif/, ''),
    macros: `
      .macro load register, value=7
        mov \\register, \\value
      .endm
      load eax
      load ebx, 9
      load value=3, register=ecx
      load edx 4
      .macro all first:req, rest:vararg
        .byte \\first
        .ifnb \\rest
          all \\rest
        .endif
      .endm
      all 1, 2, 3, 4
      .macro named name
        \\name\\()_label: .long \\name\\()_label
        unique\\@: .long unique\\@
      .endm
      named x
      named y
      .macro text what
        .asciz "\\what"
      .endm
      text "with blanks, and comma"
      text word
      .macro brackets where
        mov eax, \\where
      .endm
      brackets [rax+rbx*2]
      brackets [rax + 8]
      .macro early n
        .if \\n
          .byte 1
          .exitm
        .endif
        .byte 0
      .endm
      early 1
      early 0
    `,
    repetition: `
      .set i, 0
      .rept 4
        .byte i
        .set i, i+1
      .endr
      .rept 2
        .rept 2
          .byte 0xee
        .endr
        .word 1
      .endr
      .rept 0
        .byte 1
      .endr
      .irp r, rax, rbx, rcx
        push \\r
      .endr
      .irp n, 1 2 3
        .byte \\n
      .endr
      .irpc c, 12a
        .byte 0x\\c
      .endr
    `,
    conditions: `
      .equ present, 1
      .ifdef present
        .byte 1
      .else
        .byte 2
      .endif
      .ifndef present
        .byte 3
      .elseif present == 1
        .byte 4
      .else
        .byte 5
      .endif
      .if present-1
        .if 1
          .byte 6
        .endif
        unknown instruction here
      .endif
      .ifc abc, abc
        .byte 7
      .endif
      .ifeqs "a", "b"
        .byte 8
      .endif
      .ifb
        .byte 9
      .endif
      .ifge present
        .byte 10
      .endif
    `,
    'numeric labels': `
      1: jmp 1f
      1: jmp 1b
      1: jmp 2f
      2: jmp 1b
      .quad 1b, 2b
      .L1: jmp .L1
    `,
    'statements and comments': `
      nop; nop  # rest ; ignored
      /* one
         nop
      */ nop /* two */ ; hlt
      mov al, '#'
      mov al, ';'
      .ascii "a;b#c//d/*e*/"
      rep; movsb
      lock; inc dword ptr [rax]
      label: other: nop
    `,
    '.org': `
      .org 0x1200
      first: .long first
      .org 0x1300, 0xcc
      .org first+0x180
      second: .quad second-first, second
      .skip 0x40-(.-second), 0x90
      nop
    `,
    'code sizes in one file': `
      .code16
      a: mov ax, offset a; jmp b; mov eax, [a]
      .code32
      b: mov eax, offset a; jmp c; mov eax, [a]
      .code64
      c: mov eax, offset a; jmp a; mov eax, [a]
    `,
    sections: `
      mov eax, offset value
      .data
      value: .long 5
      .align 16
      .quad here
      .section .rodata, "a"
      .byte 1
      .text
      here: nop
      .pushsection .data
      .byte 9
      .popsection
      nop
      .bss
      zeros: .skip 32
      .text
      mov dword ptr [zeros], 1
    `.replace(/\.section \.rodata[\s\S]*?\.byte 1/, ''),
    'symbols defined later': `
      mov eax, later
      mov eax, [later]
      mov eax, dword ptr later
      mov eax, offset later
      mov eax, end-start
      mov eax, later+4
      add eax, end-start
      push later
      cmp byte ptr [rbx+later], 5
      lea rax, [rip+later]
      jmp later
      start: nop
      later: nop
      end:
      .equ n, end-start
      mov eax, n
      mov eax, constant
      .equ constant, 0x44
      mov eax, constant
      .weak soft
      jmp soft
      soft: nop
      jmp 0x1000
      call 0x2000
    `,
  };

  it.each(Object.entries(sources))('%s: the bytes are those of GNU as', (_, source) => {
    compare(source);
  });
});

/** Small reproducible generator (mulberry32). */
function random(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

describe.skipIf(!available)('jumps', () => {
  it.each(Array.from({ length: 30 }, (_, index) => index + 1))(
    'short and near among alignments, program %i: the choice of GNU as',
    (seed) => {
      const below = random(seed);
      const count = 60 + below(120);
      const lines = [`.code${[16, 32, 64][below(3)]}`];
      for (let index = 0; index < count; index++) {
        lines.push(`l${index}:`);
        const target = Math.min(count - 1, Math.max(0, index + below(41) - 20));
        const kind = below(20);
        if (kind < 8) lines.push(`${['jmp', 'jz', 'jnc', 'jmp'][below(4)]} l${target}`);
        else if (kind < 9) lines.push(`call l${target}`);
        else if (kind < 11) lines.push(`.balign ${4 << below(5)}, 0xcc`);
        else lines.push(`.skip ${below(below(4) === 0 ? 60 : 12)}, 0x90`);
      }
      compare(lines.join('\n'));
    },
  );
});
