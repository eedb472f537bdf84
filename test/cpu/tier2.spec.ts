/** The second tier against the interpreter, one vCPU without KVM: the same state wherever a budget ends, whatever changes under it. */
import { describe, expect, it } from 'vitest';
import type { Tier2 } from '../../src/cpu/cpu.ts';
import { Tier, type TierStatistics } from '../../src/cpu/jit/tier.ts';
import type { WasmCpu } from '../../src/cpu/wasm-cpu.ts';
import { loopProgram } from '../support/loop-programs.ts';
import { bare, CODE, PD, PT, SEL } from './bare.ts';
import { Random } from './fuzz/random.ts';
import { compare, same } from './twins.ts';

const DATA = 0x100000;

const FIB = `
  mov edi, 8
  call fib
  hlt
fib:
  cmp edi, 2
  jb small
  push rdi
  dec edi
  call fib
  pop rdi
  push rax
  sub edi, 2
  call fib
  pop rdx
  add rax, rdx
  ret
small:
  mov eax, edi
  ret`;

describe('budgets', () => {
  it('end at every instruction of loops and calls with the same state', async () => {
    const source = `
      mov ecx, 3
      mov esi, ${DATA}
    again:
      mov eax, ecx
      add [rsi + rcx*8], rax
      adc rbx, [rsi + rcx*8]
      rol ebx, 3
      push rbx
      call sub
      pop rdx
      dec ecx
      jnz again
      mov ecx, 5
      rep stosb
      hlt
    sub:
      shr edx, cl
      setc al
      ret`;
    const [a, b] = await Promise.all([bare('long64', { tier2: false }), bare('long64', { tier2: 'force' })]);
    for (let steps = 1; steps < 60; steps++) {
      for (const each of [a, b]) {
        each.load(source);
        each.put({ rax: 0, rbx: 0, rcx: 0, rdx: 0, rdi: DATA + 0x1000, rsp: 0x1f000, rflags: 2 });
        each.cpu.run(0, steps);
      }
      same(a, b, `${steps} steps`);
    }
  });

  it.each([1, 2, 3, 7, 50, 1000])('of %i steps do not show in a recursion', async (steps) => {
    const b = await compare('long64', FIB, () => steps);
    expect(b.get('rax')).toBe(21n);
  });
});

describe('random loops', () => {
  const modes = ['long64', 'prot32'] as const;
  it.each(Array.from({ length: 60 }, (_, n) => [n, modes[n % 2], n % 3 === 2 ? true : 'force'] as const))(
    '%i, %s, second tier %s',
    async (seed, mode, tier2) => {
      const random = new Random(seed, 5);
      const source = loopProgram(random, mode === 'long64', DATA);
      const largest = random.pick([5, 100, 100_000]);
      await compare(mode, source, () => 1 + random.below(largest), { cpl: 0 }, tier2);
    },
  );
});

/** Spreads code over pages: here and there it goes on in the next one, at its start, in its middle, or so late that it runs over its end. */
function scattered(random: Random, source: string): string {
  const lines: string[] = [];
  let page = CODE;
  // LOOP does not reach that far.
  for (const line of source.replace('loop inner', 'dec ecx\n jnz inner').split('\n')) {
    if (random.oneIn(4) && page < 0x1a000 && !/^ *(\.|scratch)/.test(line)) {
      page += 0x1000;
      const offset = random.pick([0, 0x800, 0xfc0, 0xfe0, 0xff0]);
      // What runs over the end needs the page behind.
      if (offset > 0x800) page += 0x1000;
      const at = offset > 0x800 ? page - 0x1000 + offset : page + offset;
      lines.push(`jmp piece${page}`, `.org ${at}`, `piece${page}:`);
    }
    lines.push(line);
  }
  return lines.join('\n');
}

describe('code of several pages', () => {
  it.each([1, 2, 3, 7, 50, 1000])('recurses alike in portions of %i steps', async (steps) => {
    const source = FIB.replace('fib:', '.org 0x9ff0\nfib:').replace('small:', '.org 0xb000\nsmall:');
    const b = await compare('long64', source, () => steps);
    expect(b.get('rax')).toBe(21n);
  });

  const modes = ['long64', 'long64', 'prot32'] as const;
  it.each(Array.from({ length: 45 }, (_, n) => [n, modes[n % 3], n % 4 === 3 ? true : 'force'] as const))(
    'random loop %i, %s, second tier %s',
    async (seed, mode, tier2) => {
      const random = new Random(seed, 6);
      const source = scattered(random, loopProgram(random, mode === 'long64', DATA));
      await compare(mode, source, () => 1 + random.below(random.oneIn(3) ? 9 : 3000), {}, tier2);
    },
  );

  /** The callee's second instruction is the first of page 0xa000. */
  const CALLER = (change: string, callee = 0x9ffd): string => `
      mov ecx, 60
    again:
      mov eax, ecx
      and eax, 3
      ${change}
      call callee
      dec ecx
      jz out
      # So that what was translated first is entered again, whatever has changed.
      mov edi, offset again
      jmp rdi
    out:
      hlt
      .org ${callee}
    callee:
      add ebx, 5
    behind:
      add edx, 7
      ret`;

  it.each([0x9ffd, 0x9ffb])('finds a callee at %i as it is after a store into its pages', async (callee) => {
    for (const where of ['callee + 2', 'behind + 2']) {
      await compare('long64', CALLER(`mov byte ptr [rip + ${where}], al`, callee), () => 1000);
      const once = `cmp ecx, 20\n jne same\n mov byte ptr [rip + ${where}], 9\n same:`;
      await compare('long64', CALLER(once, callee), () => 1000);
    }
  });

  it.each([
    'invlpg [0xa000]',
    'invlpg [0xa000]\n mov esi, offset behind\n call rsi',
    'mov rsi, cr3\n mov cr3, rsi',
    'nop',
  ])('finds what is mapped in the place of a page: %s', async (flush) => {
    const map = `shl eax, 12\n add eax, 0x150003\n mov [${PT + 0xa * 8}], rax\n ${flush}`;
    await compare(
      'long64',
      CALLER(map),
      () => 1000,
      {},
      'force',
      (b) => {
        // add edx, page + 1; ret
        for (const page of [0, 1, 2, 3]) b.cpu.memory.set([0x83, 0xc2, page + 1, 0xc3], 0x150000 + page * 0x1000);
      },
    );
  });

  it('faults where a page is not mapped any more, with the flags of the instruction before', async () => {
    const source = `
      mov ecx, 60
      jmp again
    back:
      cmp ecx, 9
      jne same
      mov qword ptr [${PT + 0xa * 8}], 0
      invlpg [0xa000]
    same:
      dec ecx
      mov edi, offset again
      jmp rdi
      .org 0x9ff3
    again:
      lea edx, [rcx + 0x12345678]
      ror edx, cl
      sub eax, edx
      imul edx, eax
      add ebx, 5
      jmp back`;
    const b = await compare('long64', source, () => 1000);
    expect([b.get('cr2'), b.get('rcx')]).toEqual([0xa000n, 8n]);
  });

  it('may be a page and another one that the execute TLB has the same place for', async () => {
    // 0x808000 is code at 0x8000 once more: 2,048 pages above.
    const source = `
      mov ecx, 50
    again:
      call 0x${(CODE + 0x800000 + 0x100).toString(16)}
      dec ecx
      jnz again
      hlt
      .org ${CODE + 0x100}
      add ebx, ecx
      ret`;
    await compare(
      'long64',
      source,
      () => 1000,
      {},
      'force',
      (b) => b.write64(PD + 4 * 8, BigInt(PT) | 7n),
    );
  });
});

describe('indirect transfers', () => {
  /** Calls or jumps through a table of six: first to three of them in turn, later to the others, too. */
  const program = (long: boolean, how: 'call' | 'jmp'): string => {
    const [p, word, bytes] = long ? ['r', '.quad', 8] : ['e', '.long', 4];
    const place = (n: number): string => `.org ${CODE + 0x100 + n * 0x610}\nplace${n}:`;
    const end = how === 'call' ? 'ret' : 'jmp back';
    return `
      mov ecx, 4000
    again:
      mov eax, ecx
      xor edx, edx
      mov ebx, 3
      cmp ecx, 1500
      ja few
      mov ebx, 6
    few:
      div ebx
      ${how} [${p}dx*${bytes} + table]
    back:
      dec ecx
      jnz again
      hlt
      .balign 8
    table: ${word} place0, place1, place2, place3, place4, place5
      ${[0, 1, 2, 3, 4, 5].map((n) => `${place(n)}\n add edi, ${n + 1}\n rol edi, 3\n ${end}`).join('\n')}`;
  };
  it.each([
    ['long64', 'call', 'force'],
    ['long64', 'jmp', 'force'],
    ['prot32', 'call', 'force'],
    ['prot32', 'jmp', 'force'],
    ['long64', 'call', true],
  ] as const)('lead to places known and unknown: %s, %s, second tier %s', async (mode, how, tier2) => {
    const random = new Random(1, 7);
    const portion = (): number => 1 + random.below(random.oneIn(3) ? 9 : 3000);
    const b = await compare(mode, program(mode === 'long64', how), portion, {}, tier2);
    expect(b.get('rcx')).toBe(0n);
  });

  it('fault at a target that is not canonical, after many that are', async () => {
    const source = `
      mov ecx, 200
      mov rdi, offset place
      mov rsi, 0x800000000000
    again:
      cmp ecx, 7
      cmove rdi, rsi
      call rdi
      dec ecx
      jmp again
    place: ret`;
    const b = await compare('long64', source, () => 1000);
    expect(b.get('rcx')).toBe(7n);
  });
});

describe('what compiled code leaves to the interpreter all the time', () => {
  it('stores beside code, which are watched for ever', async () => {
    const b = await compare(
      'long64',
      `
      mov ecx, 6000
    again:
      inc dword ptr [rip + counter]
      add eax, [rip + counter]
      mov [rip + counter + 4], eax
      dec ecx
      jnz again
      hlt
      .balign 64
    counter: .quad 0`,
      () => 5000,
      {},
      true,
    );
    expect(b.get('rax')).toBe((6000n * 6001n) / 2n);
  });

  it.each([
    [true, ''],
    ['force', ''],
    ['force', 'nop'],
  ] as const)('stores beside code that one day change it, second tier %s %s', async (tier2, shift) => {
    const b = await compare(
      'long64',
      `
      mov ecx, 6000
      mov rdi, offset counter
      mov esi, offset patch + 2
      jmp again
      .balign 2
      ${shift}
    again:
      cmp ecx, 100
      cmove rdi, rsi
      mov [rdi], cl
      add [rip + counter + 8], ecx
    patch:
      add ebx, 1
      dec ecx
      jnz again
      hlt
      .balign 64
    counter: .quad 0, 0`,
      () => 5000,
      {},
      tier2,
    );
    expect(b.get('rbx')).toBe(BigInt(5900 + (100 * 101) / 2));
  });

  // 8 MiB apart, pages have the same place in a TLB of 2,048 entries.
  const ALIAS = `
      mov rax, [${PD}]
      mov [${PD} + 4*8], rax`;

  it('accesses to pages that take the place of each other in the TLB', async () => {
    await compare(
      'long64',
      `${ALIAS}
      mov edx, 12
    pass:
      mov ecx, 440
      mov esi, 0x48000
    again:
      add rax, [rsi]
      add rax, [rsi + 0x800008]
      mov [rsi + 0x800008], rcx
      mov [rsi], rax
      add esi, 4096
      dec ecx
      jnz again
      dec edx
      jnz pass
      hlt`,
      () => 5000,
      {},
      true,
    );
  });

  it.each<Tier2>(['force', true])(
    'a page that is mapped elsewhere, without INVLPG, after another has taken its place, second tier %s',
    async (tier2) => {
      const b = await compare(
        'long64',
        `${ALIAS}
      mov ecx, 6000
      mov esi, ${DATA}
      mov edi, ${DATA + 0x800000}
      mov dword ptr [rsi], 1
      mov dword ptr [${DATA + 0x1000}], 0x10000
    again:
      add ebx, [rsi]
      nop
      add ebp, [rdi]
      xor word ptr [${PT + (DATA >> 12) * 8}], 0x1000
      dec ecx
      jnz again
      hlt`,
        () => 5000,
        {},
        tier2,
      );
      // The mapping changes behind each pair of loads, neither of which finds what it was before.
      expect(b.get('rbx')).toBe(3000n * 0x10001n);
      expect(b.get('rbp')).toBe(3000n * 0x10001n);
    },
  );
});

/** Flags that compiled code tells from registers at the start of a loop's iteration. */
describe('a page fault at the start of an iteration finds the flags of the one before', () => {
  it.each([
    'add rsi, 4\n dec rcx',
    'add esi, 4\n dec ecx',
    'sub rsi, -4\n dec ecx',
    'sub esi, -4\n inc edx',
    'add rsi, 4\n cmp ebx, -2\n inc edx',
    'add rsi, 4\n cmp ebx, ebp\n mov edi, ecx\n dec ecx\n inc edx',
    'add rsi, 4\n cmp rsi, rbp',
    'add rsi, 4\n cmp esi, 0x80000000',
    'add rsi, 4\n sub ecx, 1',
    'lea rsi, [rsi + 4]\n add ecx, -1',
    'lea rsi, [rsi + 4]\n add rdx, rbx',
    'lea rsi, [rsi + 4]\n sub edx, r9d',
    // What these leave in registers does not tell.
    'add rsi, 4\n cmp r8d, 1',
    'add edx, r9d\n lea edx, [rdx + 0x71]\n lea rsi, [rsi + 4]',
    'add rsi, 4\n mov edx, 1\n dec ecx\n mov ecx, 7',
    'cmp esi, 5\n lea rsi, [rsi + 4]\n dec ecx',
    'lea rsi, [rsi + 4]\n add edx, edx\n inc edx',
    'lea rsi, [rsi + 4]\n dec ecx',
  ])('%s', async (tail) => {
    // What set the flags before the loop, and iterations before the fault: the first one is the interpreter's.
    for (const [before, iterations] of [
      ['cmp al, 1', 1],
      ['stc', 5],
      ['shl ebx, 3', 1],
      ['inc ebp', 6],
      ['add bl, 0x7f', 9],
    ] as const) {
      const b = await compare(
        'long64',
        `
          mov ecx, 1000
          mov edx, 0xfffffff0
          mov rbp, -3
          mov ebx, 0xffffffff
          mov r9d, 7
          mov esi, ${DATA + 0x1000 - iterations * 4}
          ${before}
        again:
          mov r8, rsi
          mov eax, [rsi]
          ${tail}
          jnz again
          hlt`,
        () => 5000,
        {},
        'force',
        (each) => each.write64(PT + ((DATA >> 12) + 1) * 8, 0n),
      );
      expect(b.get('cr2')).toBe(BigInt(DATA + 0x1000));
    }
  });

  it.each([
    'cmp al, 1',
    'stc',
    'shl ebx, 3',
    'inc ebp',
    'add bl, 0x7f',
    'shl ebx, cl',
    'xor ebx, ebx',
    'imul ebx, ebx, 99',
  ])('or, at the first, those from before the loop: %s', async (before) => {
    const b = await compare(
      'long64',
      `
        mov ebx, 0xffffffff
        mov edx, 5
      outer:
        mov esi, ${DATA}
        mov ecx, 2
        mov eax, ${DATA + 0x1000}
        cmp edx, 1
        cmove esi, eax
        ${before}
      again:
        mov eax, [rsi]
        add rsi, 4
        dec ecx
        jnz again
        dec edx
        jnz outer
        hlt`,
      () => 5000,
      {},
      'force',
      (each) => each.write64(PT + ((DATA >> 12) + 1) * 8, 0n),
    );
    expect([b.get('rdx'), b.get('rcx'), b.get('cr2')]).toEqual([1n, 2n, BigInt(DATA + 0x1000)]);
  });
});

it('an instruction that the core executes, behind the last one that sets flags in a loop, leaves them to the next iteration', async () => {
  await compare(
    'prot32',
    `
      mov ax, ${SEL.SMALL}
      mov ds, ax
      xor ebx, ebx
      mov ebp, 50
    again:
      mov ecx, [esp]
      add ebp, -1
      mov [ebx], eax
      jnz again
      hlt`,
    () => 1000,
  );
});

describe('what is translated', () => {
  it('includes what only compiled code leads to', async () => {
    const b = await bare('long64', { tier2: true });
    b.load(`
      mov eax, offset first
    again:
      call rax
      dec ecx
      jnz again
      hlt
      .org 0x9000
    first: inc edx
      ret
      .org 0xa000
    second: inc ebx
      ret`);
    const functions = (): number => (b.cpu as WasmCpu).tier2Statistics?.functions ?? 0;
    b.put({ rcx: -1n & 0xffffffffn });
    // The first engine of a process looks for hot code after two million steps only.
    b.cpu.run(0, 2_500_000);
    const before = functions();
    expect(before).toBeGreaterThan(0);
    b.cpu.run(0, 20_000);
    expect(functions()).toBe(before);
    b.put({ rax: b.label('second') });
    b.cpu.run(0, 20_000);
    expect(functions()).toBeGreaterThan(before);
  });
});

describe('modules', () => {
  it('that the process has too many of: an engine drops its own, then translates no more, and its guest goes on', async () => {
    const b = await bare('long64', { tier2: 'force' });
    b.load(FIB);
    b.cpu.run(0, 50);
    const statistics = (): TierStatistics => (b.cpu as WasmCpu).tier2Statistics!;
    const before = statistics();
    expect([before.modules > 0, before.flushes]).toEqual([true, 0]);
    const { maxModules } = Tier;
    Tier.maxModules = 0;
    try {
      expect(b.go(10_000).reason).toBe('hlt');
    } finally {
      Tier.maxModules = maxModules;
    }
    expect([b.get('rax'), statistics().modules, statistics().flushes]).toEqual([21n, before.modules, 1]);
  });
});

describe('exits', () => {
  it('for code outside RAM have no length, whatever came before', async () => {
    const source = `
      mov ecx, 100
    again:
      add eax, [${DATA}]
      bsf edx, ecx
      dec ecx
      jnz again
      mov eax, 0x300000
      jmp eax`;
    for (const tier2 of [false, true, 'force'] as const) {
      const b = await bare('prot32', { tier2 });
      b.load(source);
      const exit = b.cpu.run(0, 10_000);
      expect([exit.reason, (exit as { length: number }).length, b.get('rip')]).toEqual(['internal', 0, 0x300000n]);
    }
  });
});

describe('what changes under compiled code', () => {
  it('a loop that rewrites its own immediate', async () => {
    const b = await compare(
      'long64',
      `
      xor ebx, ebx
      mov ecx, 100
    again:
      mov [rip + patch + 1], ecx
    patch:
      mov eax, 0
      add ebx, eax
      dec ecx
      jnz again
      hlt`,
      () => 1000,
    );
    expect(b.get('rbx')).toBe(5050n);
  });

  it('an instruction that adds to the one behind it', async () => {
    await compare(
      'long64',
      `
      mov ecx, 20
    again:
      add byte ptr [rip + patch + 1], 3
    patch:
      mov al, 1
      add rbx, rax
      dec ecx
      jnz again
      hlt`,
      () => 1000,
    );
  });

  it('a push and a call that overwrite code', async () => {
    await compare(
      'long64',
      `
      mov ebp, 6
    again:
      lea rsp, [rip + patch + 8]
      mov rax, 0x9090909003c0ff48
      add rax, rbp
      push rax
      mov rsp, 0x1f000
    patch:
      .quad 0x9090909090909090
      dec ebp
      jnz again
      hlt`,
      () => 1000,
    );
  });

  it('a page that is mapped elsewhere in a loop, with and without INVLPG', async () => {
    const program = (flush: string): string => `
      mov esi, ${DATA}
      mov edi, ${PT + (DATA >> 12) * 8}
      mov ecx, 40
      xor ebx, ebx
    again:
      add rbx, [rsi]
      inc qword ptr [rsi]
      mov eax, ecx
      and eax, 3
      shl eax, 12
      add eax, ${DATA + 7}
      mov [rdi], rax
      ${flush}
      dec ecx
      jnz again
      hlt`;
    for (const flush of ['invlpg [rsi]', 'nop', 'mov rax, cr3\n mov cr3, rax']) {
      await compare('long64', program(flush), () => 1000);
    }
  });

  it('code whose page is mapped elsewhere', async () => {
    await compare(
      'long64',
      `
      mov ecx, 30
    again:
      mov eax, ecx
      and eax, 1
      shl eax, 12
      add eax, 0x150007
      mov [${PT + 0x160 * 8}], rax
      invlpg [0x160000]
      mov eax, 0x160000
      call rax
      dec ecx
      jnz again
      hlt`,
      () => 1000,
      {},
      'force',
      (b) => {
        b.cpu.memory.set([0x83, 0xc3, 0x01, 0xc3], 0x150000); // add ebx, 1; ret
        b.cpu.memory.set([0x83, 0xc2, 0x03, 0xc3], 0x151000); // add edx, 3; ret
      },
    );
  });

  it('a write of the host', async () => {
    const b = await bare('long64', { tier2: 'force' });
    b.load('again: mov eax, 1\n add ebx, eax\n jmp again');
    b.cpu.run(0, 300);
    expect(b.get('rbx')).toBe(100n);
    b.cpu.memoryWritten(CODE + 1, 1);
    b.cpu.memory[CODE + 1] = 5;
    b.cpu.run(0, 300);
    expect(b.get('rbx')).toBe(600n);
  });

  it('a snapshot', async () => {
    const b = await bare('long64', { tier2: 'force' });
    b.load('again: mov eax, 1\n add [rsi], eax\n add ebx, eax\n jmp again');
    b.put({ rsi: DATA });
    b.cpu.run(0, 400);
    const snapshot = b.cpu.snapshot!();
    b.cpu.run(0, 400);
    expect(b.read32(DATA)).toBe(200);
    b.cpu.restore!(snapshot);
    expect([b.get('rbx'), b.read32(DATA)]).toEqual([100n, 100]);
    b.cpu.run(0, 4);
    expect([b.get('rbx'), b.read32(DATA)]).toEqual([101n, 101]);
  });

  it('segments that are not flat any more', async () => {
    await compare(
      'prot32',
      `
      mov ecx, 10
      mov esi, 0x10
    again:
      mov eax, [esi + 0x30]
      add ebx, eax
      mov [esi], ecx
      mov eax, ecx
      and eax, 1
      mov ax, word ptr [selectors + eax*2]
      mov ds, ax
      dec ecx
      jnz again
      hlt
    selectors:
      .word ${SEL.SMALL}, ${SEL.DATA}`.replace('word ptr [selectors', 'word ptr cs:[selectors'),
      () => 1000,
      {},
      'force',
      (b) => b.cpu.memory.fill(7, 0x30000, 0x30100),
    );
  });
});
