/** SSE instructions in the second tier against the interpreter: the same state, faults and exits, whatever becomes of CR0, CR4 and operands. */
import { describe, expect, it } from 'vitest';
import * as HANDLERS from '../../src/cpu/core/handlers.generated.ts';
import type { Tier2 } from '../../src/cpu/cpu.ts';
import type { Insn } from '../../src/cpu/jit/region.ts';
import { isVector } from '../../src/cpu/jit/vectors.ts';
import { SIMD } from '../../src/cpu/opcodes/simd.ts';
import { OPCODES, type OpcodeRow } from '../../src/cpu/opcodes.ts';
import { type Bare, type BareOptions, CODE, type Mode, PT, SEL } from './bare.ts';
import { Random } from './fuzz/random.ts';
import { compare } from './twins.ts';

const DATA = 0x100000;
/** Page of a device. */
const DEVICE = 0x180000;
const OSFXSR = 0x200;
const UD = 6;
const NM = 7;
const GP = 13;
/** Where handlers lie. */
const REPAIR = CODE + 0x3000;

const KEYS = new Set(SIMD.map((line) => line.split('|')[0].trim()));
const ROWS = OPCODES.filter(({ opcode, attributes }) => KEYS.has(opcode) && attributes.includes('sse')).filter(
  ({ attributes, mnemonic }) => !attributes.includes('mmx') && mnemonic !== 'maskmovdqu',
);
const emitted = ({ handler, sub }: OpcodeRow): boolean =>
  isVector({ handler: (HANDLERS as Record<string, number>)[`H_${handler}`], sub } as Insn);
const EMITTED = ROWS.filter(emitted);

describe('what is emitted', () => {
  it('are all rows of the table but these', () => {
    const others = ROWS.filter((row) => !emitted(row)).map(({ mnemonic }) => mnemonic);
    expect([...new Set(others)].sort()).toEqual(
      (
        'aesdec aesdeclast aesenc aesenclast aesimc aeskeygenassist blendpd blendps blendvpd blendvps insertps mpsadbw ' +
        'pblendvb pblendw pclmulqdq pcmpestri pcmpestrm pcmpistri pcmpistrm phaddd phaddsw phaddw ' +
        'phminposuw phsubd phsubsw phsubw pmaddubsw pmovsxbq pmovzxbq pmuldq pmulhrsw pmulhuw pmulhw ' +
        'psadbw psignb psignd psignw ptest sha1msg1 sha1msg2 sha1nexte sha1rnds4 sha256msg1 sha256msg2 sha256rnds2'
      )
        .split(' ')
        .sort(),
    );
  });
});

const XMM = [0, 1, 2, 3, 7];
const LONG_XMM = [...XMM, 8, 9, 15];
const EDGES = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65];
const PREFIXES = { '': '', NP: '', 66: '0x66, ', F3: '0xf3, ', F2: '0xf2, ' };

/** An instruction of a row. `memory` gives a memory operand for so many bytes. */
function instruction(
  row: OpcodeRow,
  random: Random,
  long: boolean,
  memory: (bytes: number) => string | undefined,
): string {
  const names = row.mnemonic.split(' ').filter((name) => long || !row.operands.includes('Ey') || !name.endsWith('q'));
  const name = random.pick(names);
  const wide = long && (name === 'movq' || /rq$/.test(name));
  const xmm = (): string => `xmm${random.pick(long ? LONG_XMM : XMM)}`;
  const general = (): string => {
    const number = random.pick(long ? ['ax', 'bx', 'dx', '9', '14'] : ['ax', 'bx', 'dx']);
    return /\d/.test(number) ? `r${number}${wide ? '' : 'd'}` : `${wide ? 'r' : 'e'}${number}`;
  };
  const BYTES: Readonly<Record<string, number>> = { dq: 16, q: 8, d: 4, w: 2, b: 1, y: wide ? 8 : 4 };
  const operands = row.operands.map((operand) => {
    const [, kind, size] = /^([A-Z])(\w+)/.exec(operand.split('/').pop()!)!;
    if (operand === 'Ib') return String(random.oneIn(2) ? random.below(256) : random.pick(EDGES));
    if ('MWE'.includes(kind) && (row.only === 'm' || (row.only === undefined && random.oneIn(2)))) {
      const at = memory(BYTES[size]);
      if (at !== undefined || row.only === 'm') return at ?? '[esi]';
    }
    return 'VUW'.includes(kind) ? xmm() : general();
  });
  if (row.operands[1]?.startsWith('V') && operands.every((operand) => operand.startsWith('xmm'))) {
    // The assembler takes the opcode of the load.
    const [rm, reg] = operands.map((operand) => Number(operand.slice(3)));
    const rex = long ? `${0x40 | (rm >> 3) | ((reg >> 3) << 2)}, ` : '';
    return `.byte ${PREFIXES[row.prefix]}${rex}0x0f, ${row.byte}, ${0xc0 | (rm & 7) | ((reg & 7) << 3)}`;
  }
  return `${name} ${operands.join(', ')}`;
}

/** What a loop with SSE instructions needs to go on whatever happens: the state is repaired, what is misaligned skipped. */
const repair = (long: boolean): string => {
  const p = (name: string): string => (long ? 'r' : 'e') + name;
  const back = long ? 'iretq' : 'iretd';
  return `
    .org ${REPAIR}
    ud:
      push ${p('ax')}
      mov ${p('ax')}, cr0
      and al, 0xfb
      mov cr0, ${p('ax')}
      mov ${p('ax')}, cr4
      or ${p('ax')}, ${OSFXSR}
      mov cr4, ${p('ax')}
      pop ${p('ax')}
      ${back}
      .balign 16
    nm:
      clts
      ${back}
      .balign 16
    gp:
      lea ${p('sp')}, [${p('sp')} + ${long ? 8 : 4}]
      mov ${long ? 'qword' : 'dword'} ptr [${p('sp')}], offset next
      ${back}`;
};

/** SSE instructions can be used. */
const enable = (b: Bare): void => b.put({ cr4: b.get('cr4') | BigInt(OSFXSR) });
/** All of it translated, in portions of a thousand steps. */
const forced = (source: string, prepare = enable, options: BareOptions = {}): Promise<Bare> =>
  compare('long64', source, () => 1000, options, 'force', prepare);

function prepare(b: Bare, seed: number, { vendor }: BareOptions): void {
  const random = new Random(seed, 8);
  enable(b);
  if (vendor === 'amd' && random.oneIn(2)) b.put({ mxcsr: 0x1f80 | (1 << 17) });
  const code = b.mode === 'long64' ? SEL.CODE64 : SEL.CODE32;
  for (const [vector, name] of [
    [UD, 'ud'],
    [NM, 'nm'],
    [GP, 'gp'],
  ] as const) {
    b.gate(vector, code, 0x8e, 0, Number(b.label(name)));
  }
  b.write64(PT + (DEVICE >> 12) * 8, 0xfee00007n);
  // Two pages in a row are apart in RAM.
  b.write64(PT + ((DATA >> 12) + 1) * 8, BigInt(DATA + 0x5007));
  // Bytes that are often the same, and at the ends of ranges.
  for (let i = 0; i < 0x8000; i++) {
    b.cpu.memory[DATA + i] = random.oneIn(2) ? random.pick([0, 1, 0x7f, 0x80, 0xff]) : random.below(256);
  }
  for (let n = 0; n < (b.mode === 'long64' ? 16 : 8); n++) {
    const part = (): bigint => BigInt(random.pick([0, 1, 0x80000000, 0xffffffff, random.u32()]));
    b.put({ [`xmm${n}`]: part() | (part() << 32n) | (part() << 64n) | (part() << 96n) });
  }
}

/** The source of a program around a loop. */
function loop(random: Random, mode: Mode, iterations: number): string {
  const long = mode === 'long64';
  const p = (name: string): string => (long ? 'r' : 'e') + name;
  const lines: string[] = [];
  let label = 0;
  const memory = (bytes: number): string => {
    const near = random.below(64) * 16;
    const at = random.oneIn(3) ? near + random.below(16) : near;
    switch (random.below(12)) {
      case 0:
        return `[${p('si')} + ${0x1000 - random.below(2 * bytes)}]`;
      case 1:
        return `[${p('di')}*4 + ${DATA + at}]`;
      case 2:
        return random.oneIn(4) ? `[${DEVICE + at}]` : `[esi + ${at}]`;
      case 3:
        return long ? '[rip + scratch]' : '[scratch]';
      case 4:
        return `[${p('si')} + ${p('di')} + ${at}]`;
      default:
        return `[${p('si')} + ${p('di')}*2 + ${near}]`;
    }
  };
  const sometimes = (code: string): void => {
    lines.push(`test ebp, ${random.pick([1, 3, 7, 15])}`, `jnz same${label}`, code, `same${label++}:`);
  };
  const change = (): string => {
    const [register, bit] = random.pick([
      ['cr0', 8],
      ['cr0', 4],
      ['cr0', 12],
      ['cr4', OSFXSR],
    ] as const);
    return `mov ${p('ax')}, ${register}\n xor ${p('ax')}, ${bit}\n mov ${register}, ${p('ax')}`;
  };
  for (let n = 2 + random.below(10); n > 0; n--) {
    switch (random.below(12)) {
      case 0:
        lines.push(random.pick(['add ebx, 1', 'cmp eax, edx', 'dec edx', 'shl ebx, 3', 'bsf eax, ebx']));
        break;
      case 1:
        lines.push(`j${random.pick(['c', 'z', 's', 'p'])} over${label}`);
        lines.push(instruction(random.pick(EMITTED), random, long, memory), `over${label++}:`);
        break;
      case 2:
        lines.push(instruction(random.pick(ROWS), random, long, memory));
        break;
      case 3:
        sometimes(random.oneIn(2) ? change() : 'clts');
        break;
      default:
        lines.push(instruction(random.pick(EMITTED), random, long, memory));
    }
  }
  // Behind a change the interpreter goes on up to the next branch backward.
  if (random.oneIn(2)) sometimes(change());
  const step = random.pick([16, 16, 8, 1]);
  return `
    mov ${p('si')}, ${DATA}
    xor edi, edi
    mov ebp, ${iterations}
  outer:
    ${lines.join('\n    ')}
  next:
    ${random.oneIn(2) ? `lea edi, [rdi + ${step}]` : `add edi, ${step}`}
    and edi, 0xfff
    ${random.pick(['dec ebp', 'sub ebp, 1', 'add ebp, -1'])}
    jnz outer
    hlt
    .balign 16
  scratch: .quad 0x123456789abcdef0, 0x0fedcba987654321
    ${repair(long)}`.replaceAll('[rdi', `[${p('di')}`);
}

describe('random loops', () => {
  const modes = ['long64', 'long64', 'prot32'] as const;
  it.each(Array.from({ length: 90 }, (_, n) => [n, modes[n % 3], n % 5 === 4 ? true : 'force'] as const))(
    '%i, %s, second tier %s',
    async (seed, mode, tier2) => {
      const random = new Random(seed, 7);
      const source = loop(random, mode, tier2 === true ? 1500 : 60);
      const largest = random.pick([5, 100, 100_000]);
      const options = { vendor: random.pick(['intel', 'amd'] as const) };
      await compare(
        mode,
        source,
        () => 1 + random.below(largest),
        options,
        tier2,
        (b) => prepare(b, seed, options),
      );
    },
  );
});

/** A loop without accesses that fault; RSI counts up by `step` to the end of the page at DATA. */
async function walk(body: string, step: number, options: BareOptions = {}, tier2: Tier2 = 'force'): Promise<Bare> {
  return compare(
    'long64',
    `
      mov esi, ${DATA + 0x1000 - 40 * step}
      mov edi, ${DATA + 0x10000}
      mov ebp, 80
    outer:
      ${body}
    next:
      add rsi, ${step}
      dec ebp
      jnz outer
      hlt
      ${repair(true)}`,
    () => 1000,
    options,
    tier2,
    (b) => prepare(b, 1, options),
  );
}

describe('every instruction that is emitted', () => {
  const forms = EMITTED.map((row): [string, OpcodeRow] => [`${row.opcode}, ${row.mnemonic}`, row]);
  it.each(forms)(
    '%s does what it does, of registers and at every alignment up to the end of a page',
    async (_, row) => {
      const random = new Random(row.byte, 9);
      // Each time of other contents, and each time it is noted what became of all registers.
      const body = Array.from(
        { length: 4 },
        () => `
        ${LONG_XMM.map((n) => `movups xmm${n}, [rsi - ${32 + random.below(200)}]`).join('\n')}
        mov r9d, [rsi - 40]
        mov rbx, [rsi - 50]
        ${instruction(row, random, true, () => '[rsi]')}
        ${LONG_XMM.map((n, i) => `movups [rdi + ${16 * i}], xmm${n}`).join('\n')}
        ${['rax', 'rbx', 'rdx', 'r9', 'r14'].map((name, i) => `mov [rdi + ${128 + 8 * i}], ${name}`).join('\n')}
        add rdi, 192`,
      ).join('\n');
      const b = await walk(`${body}`, 1);
      expect(b.get('rbp')).toBe(0n);
    },
  );
});

describe('shifts by counts up to and beyond the width', () => {
  const counts = [...EDGES, 255, 256, 0xffff_ffff, 2 ** 32, 2n ** 63n, 2n ** 64n - 1n];
  it.each(['psllw', 'pslld', 'psllq', 'psrlw', 'psrld', 'psrlq', 'psraw', 'psrad'])('%s', async (name) => {
    const b = await walk(
      `lea rbx, [rip + counts]
      mov edx, ${counts.length}
    count:
      movups xmm1, [rsi - 64]
      movaps xmm2, [rbx]
      ${name} xmm1, xmm2
      movups xmm3, [rsi - 64]
      ${name} xmm3, [rbx]
      movups [rdi], xmm1
      movups [rdi + 16], xmm3
      add rdi, 32
      add rbx, 16
      dec edx
      jnz count
      jmp behind
      .balign 16
    counts:
      ${counts.map((count) => `.quad ${count}, -1`).join('\n')}
    behind:`,
      1,
    );
    expect(b.get('rbp')).toBe(0n);
  });

  it.each(['psllw', 'pslld', 'psllq', 'psrlw', 'psrld', 'psrlq', 'psraw', 'psrad', 'pslldq', 'psrldq'])(
    '%s, immediate',
    async (name) => {
      const each = EDGES.map((n) => `movups xmm1, [rsi - 64]\n ${name} xmm1, ${n}\n movups [rdi], xmm1\n add rdi, 16`);
      const b = await walk(each.join('\n'), 1);
      expect(b.get('rbp')).toBe(0n);
    },
  );
});

describe('what is not plain', () => {
  it.each([
    ['mov rax, cr0\n or al, 8\n mov cr0, rax', NM],
    ['mov rax, cr0\n or al, 4\n mov cr0, rax', UD],
    ['mov rax, cr4\n xor eax, 0x200\n mov cr4, rax', UD],
    ['smsw ax\n or al, 8\n lmsw ax', NM],
  ])('%s: the next SSE instruction faults, in the same iteration and in the next one', async (change, vector) => {
    for (const [first, second, third] of [
      [change, '', ''],
      ['', change, ''],
      ['', '', change],
    ]) {
      const b = await forced(`
          mov esi, ${DATA}
          mov ebp, 20
        outer:
          movdqu xmm1, [rsi]
          inc rsi
          cmp ebp, 10
          jne other
          ${first}
          paddb xmm2, xmm1
          ${second}
        other:
          paddd xmm2, xmm1
          cmp ebp, 10
          jne go
          ${third}
        go:
          dec ebp
          jnz outer
          hlt`);
      expect(Number(b.get('rip')) - 0x5000).toBe(vector * 16);
      expect(b.get('rbp')).toBe(third === '' ? 10n : 9n);
    }
  });

  it.each(['bt ebx, 3', 'shl ebx, 3', 'imul ebx, ebp', 'mul ecx', 'ror ebx, 5', 'stc', 'inc ebx', 'sub ebx, ecx'])(
    'CR0.TS: #NM finds the flags of %s, though nothing else looks at them',
    async (flags) => {
      const b = await forced(`
          mov ebp, 20
          mov ebx, 0x87654321
          mov ecx, 0x12345678
        outer:
          test ebp, ebp
          js go
          ${flags}
          pxor xmm0, xmm1
          cmp ebx, 7
          jne go
          add ebx, 1
        go:
          cmp ebp, 10
          jne same
          mov rax, cr0
          or al, 8
          mov cr0, rax
        same:
          dec ebp
          jnz outer
          hlt`);
      expect([b.get('rbp'), Number(b.get('rip')) - 0x5000]).toEqual([9n, NM * 16]);
    },
  );

  it('alignment that is checked at CPL 3', async () => {
    for (const body of [
      'movups xmm1, [rsi]',
      'movups [rsi], xmm1',
      'movq xmm1, [rsi]',
      'movhps [rsi], xmm1',
      'movd eax, xmm3',
    ]) {
      await forced(
        `mov esi, ${DATA}\n mov ebp, 30\n outer: ${body}\n movups xmm3, [rsi + 16]\n cmp ebp, 5\n jne same\n inc rsi\n same: dec ebp\n jnz outer\n ud2`,
        (b) => {
          enable(b);
          b.put({ cr0: b.get('cr0') | 0x40000n, rflags: 0x40002 });
        },
        { cpl: 3 },
      );
    }
  });

  it('data breakpoints', async () => {
    await forced(
      `mov esi, ${DATA}\n mov ebp, 30\n outer: movups xmm1, [rsi]\n movaps [rsi + 256], xmm1\n add rsi, 16\n dec ebp\n jnz outer\n hlt`,
      (b) => {
        enable(b);
        b.put({ dr0: DATA + 256 + 16 * 9 + 4, dr7: 0x10401 | (0xd << 16) });
      },
    );
  });

  it.each([
    'movaps [rip + patch], xmm1',
    'movq [rip + patch], xmm1',
    'movd [rip + patch], xmm1',
    'movups [rip + patch - 8], xmm2',
  ])('a store into the instruction behind: %s', async (store) => {
    const b = await forced(`
          movaps xmm1, [rip + patch]
          movups xmm2, [rip + patch - 8]
          pcmpeqd xmm3, xmm3
          psrldq xmm3, 12
          psrld xmm3, 31
          pslld xmm3, 8
          movdqa xmm4, xmm3
          pslldq xmm4, 8
          mov ebp, 50
        outer:
          paddb xmm1, xmm3
          paddb xmm2, xmm4
          ${store}
          jmp patch
          .balign 16
        patch:
          mov al, 0
          movzx eax, al
          add ebx, eax
          dec ebp
          jnz outer
          hlt`);
    expect(b.get('rbx')).toBe((50n * 51n) / 2n);
  });

  it('stores beside code', async () => {
    await compare(
      'long64',
      `
        mov ebp, 6000
      outer:
        movups [rip + cell + 8], xmm0
        paddd xmm0, [rip + cell]
        movaps [rip + cell], xmm0
        dec ebp
        jnz outer
        hlt
        .balign 64
      cell: .quad 1, 2, 3, 4`,
      () => 5000,
      {},
      true,
      enable,
    );
  });

  it.each([
    'mov ecx, [esp]\n add ebp, -1\n movd [ebx], xmm0',
    'mov ecx, [esp]\n add ebp, -1\n movq mm1, mm2',
    'dec ebp\n movd [ebx], xmm0',
    'add esi, 1\n movq mm1, [ebx]\n dec ebp',
  ])('segments that are not flat, of operands behind what sets the flags: %s', async (body) => {
    await compare(
      'prot32',
      `mov ax, ${SEL.SMALL}\n mov ds, ax\n mov ebp, 50\n xor ebx, ebx\n outer: ${body}\n jnz outer\n hlt`,
      () => 1000,
      {},
      'force',
      enable,
    );
  });
});

/** Loops whose flags compiled code tells from registers: SSE instructions neither set nor use them. */
describe('a page fault at the start of an iteration finds the flags of the one before', () => {
  it.each([
    'movups xmm1, [rsi]\n add rsi, 4\n movups [rdi], xmm1\n dec rcx',
    'movups xmm1, [rsi]\n add rsi, 4\n dec ecx\n pmovmskb edx, xmm1',
    'movups xmm1, [rsi]\n add rsi, 4\n dec ecx\n pmovmskb ecx, xmm1',
    'movups xmm1, [rsi]\n add rsi, 4\n dec ecx\n movd ecx, xmm1',
    'movups xmm1, [rsi]\n add rsi, 4\n dec ecx\n pextrd ecx, xmm1, 1',
    'movups xmm1, [rsi]\n add rsi, 4\n dec ecx\n pextrw ecx, xmm1, 1',
    'movups xmm1, [rsi]\n add rsi, 4\n dec ecx\n movd eax, xmm1',
    'pmovmskb ecx, xmm1\n movups xmm1, [rsi]\n add rsi, 4\n sub ecx, 1',
    'movd ecx, xmm1\n movups xmm1, [rsi]\n lea rsi, [rsi + 4]\n cmp ecx, edx',
  ])('%s', async (body) => {
    for (const iterations of [1, 5, 9]) {
      const b = await compare(
        'long64',
        `
          mov ecx, 1000
          mov edi, ${DATA + 0x3000}
          mov esi, ${DATA + 0x1000 - 16 - iterations * 4}
          cmp al, 1
        again:
          ${body}
          jnz again
          hlt`,
        () => 5000,
        {},
        'force',
        (each) => {
          enable(each);
          each.put({ xmm1: 0x1234_5678_9abcn });
          each.cpu.memory.fill(0x81, DATA, DATA + 0x1000);
          each.write64(PT + ((DATA >> 12) + 1) * 8, 0n);
        },
      );
      expect(b.get('cr2')).toBe(BigInt(DATA + 0x1000));
    }
  });
});
