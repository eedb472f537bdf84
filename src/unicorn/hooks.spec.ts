import { describe, expect, it } from 'vitest';
import { CODE, codeOf, DATA, load, uc } from './engine.fixture.ts';

const numbers = (list: readonly bigint[]): number[] => list.map(Number);

describe('HOOK_CODE', () => {
  it('sees each instruction of its range with its size before it runs', () => {
    const { e, run, at } = load('mov eax, 1\n a: inc rax\n inc rax\n b: dec rax\n nop');
    const seen: [number, number, number][] = [];
    e.hook_add(
      uc.HOOK_CODE,
      (engine, address, size) => seen.push([Number(address), size, engine.reg_read_i32(uc.X86_REG_EAX)]),
      {},
      at('a'),
      at('b'),
    );
    run();
    const a = Number(at('a'));
    expect(seen).toEqual([
      [a, 3, 1],
      [a + 3, 3, 2],
      [a + 6, 3, 3],
    ]);
  });

  it('without a range sees all, and passes the engine and its user data', () => {
    const { e, run } = load('nop\n nop');
    const seen: unknown[] = [];
    e.hook_add(uc.HOOK_CODE, (engine, address, _, data) => seen.push(engine === e, address, data), 'mine');
    run();
    expect(seen).toEqual([true, 0x1000n, 'mine', true, 0x1001n, 'mine']);
  });

  it('sees every iteration of REP and the check that ends it', () => {
    const { e, run, get } = load('mov ecx, 3\n mov edi, 0x2000\n rep stosb\n nop');
    const counts: number[] = [];
    e.hook_add(uc.HOOK_CODE, (engine) => counts.push(engine.reg_read_i32(uc.X86_REG_ECX)), {}, 0x100a, 0x100a);
    run();
    expect(counts.slice(0, 3)).toEqual([3, 2, 1]);
    expect(get('rcx')).toBe(0n);
  });

  it('added late takes effect at once on code that has run, deleted stops at once', () => {
    const { e, run } = load('mov ecx, 3\n again: dec ecx\n jnz again');
    run();
    let hits = 0;
    const hook = e.hook_add(uc.HOOK_CODE, () => hits++);
    run();
    expect(hits).toBe(7);
    e.hook_del(hook);
    e.hook_del(hook);
    run();
    expect(hits).toBe(7);
  });

  it('may delete itself and add another while it runs', () => {
    const { e, run } = load('nop\n nop\n nop\n nop');
    const seen: string[] = [];
    const first = e.hook_add(uc.HOOK_CODE, (engine, address) => {
      seen.push(`first ${address}`);
      if (address !== 0x1001n) return;
      engine.hook_del(first);
      engine.hook_add(uc.HOOK_CODE, (_, at) => seen.push(`second ${at}`));
    });
    run();
    expect(seen).toEqual(['first 4096', 'first 4097', 'second 4098', 'second 4099']);
  });

  it('may write RIP', () => {
    const { e, run, get, at } = load('mov eax, 1\n a: mov eax, 2\n b: mov ebx, 3');
    e.hook_add(uc.HOOK_CODE, (engine) => engine.reg_write_i64(uc.X86_REG_RIP, at('b')), {}, at('a'), at('a'));
    run();
    expect([get('rax'), get('rbx')]).toEqual([1n, 3n]);
  });

  it('may change memory that the instruction then reads, and the instruction itself', () => {
    const { e, run, get, at } = load('mov eax, [0x2000]\n a: mov ebx, 1');
    e.hook_add(uc.HOOK_CODE, (engine, address) => {
      if (address === 0x1000n) engine.mem_write(DATA, [0x2a]);
      else engine.mem_write(at('a') + 1n, [7]);
    });
    run();
    expect([get('rax'), get('rbx')]).toEqual([0x2an, 7n]);
  });

  it('emu_stop leaves the instruction undone', () => {
    const { e, run, get, at } = load('inc eax\n a: inc ebx\n inc ecx');
    const hook = e.hook_add(uc.HOOK_CODE, (engine) => engine.emu_stop(), {}, at('a'), at('a'));
    run();
    expect([get('rax'), get('rbx'), get('rip')]).toEqual([1n, 0n, at('a')]);
    e.hook_del(hook);
    e.emu_start(get('rip'), 0x1006);
    expect([get('rbx'), get('rcx')]).toEqual([1n, 1n]);
  });

  it('has linear addresses in MODE_16', () => {
    const { e } = load('nop', uc.MODE_16);
    e.mem_map(0x10000, 0x1000, 7);
    e.mem_write(0x10000, [0x40, 0x90]);
    e.reg_write_i16(uc.X86_REG_CS, 0x1000);
    const seen: bigint[] = [];
    e.hook_add(uc.HOOK_CODE, (_, address) => seen.push(address));
    e.emu_start(0x10000, 0x10002);
    expect(seen).toEqual([0x10000n, 0x10001n]);
    expect(e.reg_read_i16(uc.X86_REG_IP)).toBe(2);
  });
});

describe('HOOK_BLOCK', () => {
  it('sees where blocks start and how long they are', () => {
    const { e, run } = load('mov ecx, 3\n again: dec ecx\n jnz again\n nop\n call sub\n sub: pop rax\n nop');
    const seen: [number, number][] = [];
    e.hook_add(uc.HOOK_BLOCK, (_, address, size) => seen.push([Number(address), size]));
    run();
    expect(seen).toEqual([
      [0x1000, 9],
      [0x1005, 4],
      [0x1005, 4],
      [0x1009, 6],
      [0x100f, 2],
    ]);
  });

  it('comes before HOOK_CODE, and does not start anew after memory hooks', () => {
    const { e, run } = load('mov eax, [0x2000]\n nop');
    const seen: string[] = [];
    e.hook_add(uc.HOOK_CODE | uc.HOOK_BLOCK, (_: unknown, address: bigint) => seen.push(`code or block ${address}`));
    e.hook_add(uc.HOOK_MEM_READ, () => seen.push('read'));
    run();
    expect(seen).toEqual(['code or block 4096', 'code or block 4096', 'read', 'code or block 4103']);
  });

  it('edges report new blocks once, with the block before', () => {
    const { e, run } = load('mov ecx, 2\n again: dec ecx\n jnz again\n nop');
    const seen: [number, number, number, number][] = [];
    e.hook_add(uc.HOOK_EDGE_GENERATED, (_, now, before) =>
      seen.push([Number(before.pc), before.icount, Number(now.pc), now.size]),
    );
    run();
    run();
    expect(seen).toEqual([
      [0x1000, 3, 0x1005, 4],
      [0x1005, 2, 0x1009, 1],
    ]);
  });
});

describe('memory hooks', () => {
  it('see kind, address, size and value', () => {
    const { e, run } = load('mov rax, [0x2000]\n mov [0x2008], eax\n push rax\n inc word ptr [0x2010]\n nop');
    e.mem_write(DATA, [1, 2, 3, 4, 5, 6, 7, 0x88]);
    const seen: [number, number, number, bigint][] = [];
    e.hook_add(
      uc.HOOK_MEM_READ | uc.HOOK_MEM_WRITE | uc.HOOK_MEM_READ_AFTER,
      (_: unknown, type: number, address: bigint, size: number, value: bigint) =>
        seen.push([type, Number(address), size, value]),
    );
    run();
    expect(seen).toEqual([
      [uc.MEM_READ, 0x2000, 8, 0n],
      [uc.MEM_READ_AFTER, 0x2000, 8, -0x77f8f9fafbfcfdffn],
      [uc.MEM_WRITE, 0x2008, 4, 0x04030201n],
      [uc.MEM_WRITE, 0x3ff8, 8, -0x77f8f9fafbfcfdffn],
      [uc.MEM_READ, 0x2010, 2, 0n],
      [uc.MEM_READ_AFTER, 0x2010, 2, 0n],
      [uc.MEM_WRITE, 0x2010, 2, 1n],
    ]);
  });

  it('a value has the bits that are stored: 8 bytes as a signed number, fewer as an unsigned one', () => {
    const { e, run } = load(
      'mov rax, -1\n mov [0x2000], eax\n mov word ptr [0x2000], -3\n mov dword ptr [0x2000], -4\n mov qword ptr [0x2000], -5\n' +
        'inc byte ptr [0x2001]\n not word ptr [0x2001]\n mov [0x4000], eax',
    );
    const seen: [number, bigint][] = [];
    const see = (_: unknown, __: number, ___: bigint, size: number, value: bigint) => {
      seen.push([size, value]);
      return false;
    };
    e.hook_add(uc.HOOK_MEM_WRITE, see);
    e.hook_add(uc.HOOK_MEM_WRITE_UNMAPPED, see);
    expect(run).toThrow('code 7');
    expect(seen).toEqual([
      [4, 0xffffffffn],
      [2, 0xfffdn],
      [4, 0xfffffffcn],
      [8, -5n],
      [1, 0n],
      [2, 0xffn],
      [4, 0xffffffffn],
      [4, 0xffffffffn],
    ]);
  });

  it('only in their range', () => {
    const { e, run } = load('mov rax, [0x2000]\n mov rax, [0x2008]\n mov rax, [0x2010]');
    const seen: bigint[] = [];
    e.hook_add(uc.HOOK_MEM_READ, (_, __, address) => seen.push(address), {}, 0x2008, 0x200f);
    run();
    expect(numbers(seen)).toEqual([0x2008]);
  });

  it('an access that crosses pages is one event', () => {
    const { e, run, get } = load('mov rax, [0x2ffc]\n mov [0x2ffa], rax');
    e.mem_write(0x2ffc, [1, 2, 3, 4, 5, 6, 7, 8]);
    const seen: [number, number][] = [];
    e.hook_add(uc.HOOK_MEM_READ | uc.HOOK_MEM_WRITE, (_: unknown, type: number, address: bigint) =>
      seen.push([type, Number(address)]),
    );
    run();
    expect(seen).toEqual([
      [uc.MEM_READ, 0x2ffc],
      [uc.MEM_WRITE, 0x2ffa],
    ]);
    expect(get('rax')).toBe(0x0807060504030201n);
    expect([...e.mem_read(0x2ffa, 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('see each element of a string instruction, once', () => {
    const { e, run, get } = load('mov esi, 0x2000\n mov edi, 0x2100\n mov ecx, 3\n rep movsd');
    const seen: [number, number][] = [];
    e.hook_add(uc.HOOK_MEM_READ | uc.HOOK_MEM_WRITE, (_: unknown, type: number, address: bigint) =>
      seen.push([type, Number(address)]),
    );
    run();
    expect(seen).toEqual([
      [16, 0x2000],
      [17, 0x2100],
      [16, 0x2004],
      [17, 0x2104],
      [16, 0x2008],
      [17, 0x2108],
    ]);
    expect([get('rcx'), get('rsi'), get('rdi')]).toEqual([0n, 0x200cn, 0x210cn]);
  });

  it('a code hook on the same instruction comes first, and once', () => {
    const { e, run } = load('mov eax, [0x2000]');
    const seen: string[] = [];
    e.hook_add(uc.HOOK_CODE, () => seen.push('code'));
    e.hook_add(uc.HOOK_MEM_READ, () => seen.push('read'));
    run();
    expect(seen).toEqual(['code', 'read']);
  });

  it('may provide what the instruction reads', () => {
    const { e, run, get } = load('mov eax, [0x2000]');
    e.hook_add(uc.HOOK_MEM_READ, (engine, _, address) => engine.mem_write(address, [0x2a, 0, 0, 0]));
    run();
    expect(get('rax')).toBe(0x2an);
  });

  it('HOOK_MEM_FETCH sees each instruction', () => {
    const { e, run } = load('nop\n inc rax');
    const seen: [number, number, number][] = [];
    e.hook_add(uc.HOOK_MEM_FETCH, (_, type, address, size) => seen.push([type, Number(address), size]));
    run();
    expect(seen).toEqual([
      [uc.MEM_FETCH, 0x1000, 1],
      [uc.MEM_FETCH, 0x1001, 3],
    ]);
  });

  it('emu_stop leaves the instruction undone', () => {
    const { e, run, get } = load('mov eax, 1\n mov eax, [0x2000]\n nop');
    e.hook_add(uc.HOOK_MEM_READ, (engine) => engine.emu_stop());
    run();
    expect([get('rax'), get('rip')]).toEqual([1n, 0x1005n]);
  });

  it('pages without hooks stay fast: accesses elsewhere do not call', () => {
    const { e, run } = load('mov ecx, 1000\n again: mov [0x2000], ecx\n dec ecx\n jnz again');
    let calls = 0;
    e.hook_add(uc.HOOK_MEM_WRITE, () => calls++, {}, 0x3000, 0x3fff);
    run();
    expect(calls).toBe(0);
  });
});

describe('memory events', () => {
  it('an unmapped access is tried again after a callback that maps it', () => {
    const { e, run, get } = load('mov rax, [0x9008]\n mov [0xa008], rax\n jmp far_away\n .org 0x1100\n far_away: nop');
    const seen: [number, number, number, bigint][] = [];
    e.hook_add(uc.HOOK_MEM_UNMAPPED, (engine, type, address, size, value) => {
      seen.push([type, Number(address), size, value]);
      engine.mem_map(address & ~0xfffn, 0x1000, uc.PROT_ALL);
      engine.mem_write(address, [5]);
      return true;
    });
    run();
    expect(get('rax')).toBe(5n);
    expect([...e.mem_read(0xa008, 8)]).toEqual([5, 0, 0, 0, 0, 0, 0, 0]);
    expect(seen).toEqual([
      [uc.MEM_READ_UNMAPPED, 0x9008, 8, 0n],
      [uc.MEM_WRITE_UNMAPPED, 0xa008, 8, 5n],
    ]);
  });

  it('a fetch may be mapped too', () => {
    const { e, get } = load('mov eax, 0x9000\n jmp rax');
    e.hook_add(uc.HOOK_MEM_FETCH_UNMAPPED, (engine, type, address, size) => {
      expect([type, address, size]).toEqual([uc.MEM_FETCH_UNMAPPED, 0x9000n, 1]);
      engine.mem_map(0x9000, 0x1000, uc.PROT_ALL);
      engine.mem_write(0x9000, [0x90]);
      return true;
    });
    e.emu_start(CODE, 0x9001);
    expect(get('rip')).toBe(0x9001n);
  });

  it('a callback may map so much that the memory of the core moves', () => {
    const { e, run, get } = load('mov rax, [0x10000008]\n mov rbx, [0x20000000]\n nop');
    e.hook_add(uc.HOOK_MEM_READ_UNMAPPED, (engine, _, address) => {
      engine.mem_map(address & ~0xfffn, 2 ** 24, uc.PROT_ALL);
      engine.mem_write(address, [7]);
      return true;
    });
    e.hook_add(uc.HOOK_CODE, (engine, address) => engine.mem_map(address << 32n, 2 ** 24, uc.PROT_ALL));
    run();
    expect([get('rax'), get('rbx')]).toEqual([7n, 7n]);
  });

  it('true without mapping anything is ERR_MAP, false the error itself', () => {
    const { e, run } = load('mov rax, [0x9000]');
    const hook = e.hook_add(uc.HOOK_MEM_READ_UNMAPPED, () => true);
    expect(codeOf(() => run())).toBe(uc.ERR_MAP);
    e.hook_del(hook);
    e.hook_add(uc.HOOK_MEM_READ_UNMAPPED, () => false);
    expect(codeOf(() => run())).toBe(uc.ERR_READ_UNMAPPED);
  });

  it('of an access across pages names the page that is missing', () => {
    const { e, run } = load('mov rax, [0x3ffc]');
    const seen: number[] = [];
    e.hook_add(uc.HOOK_MEM_READ_UNMAPPED, (_, __, address) => {
      seen.push(Number(address));
      return false;
    });
    expect(codeOf(() => run())).toBe(uc.ERR_READ_UNMAPPED);
    expect(seen).toEqual([0x4000]);
  });

  it.each([
    ['READ', 'mov eax, [0x2000]', 2, uc.HOOK_MEM_READ_PROT, uc.MEM_READ_PROT],
    ['WRITE', 'mov [0x2000], eax', 1, uc.HOOK_MEM_WRITE_PROT, uc.MEM_WRITE_PROT],
    ['FETCH', 'call 0x2000', 3, uc.HOOK_MEM_FETCH_PROT, uc.MEM_FETCH_PROT],
  ])('a %s without permission passes after a callback that returns true', (_, source, perms, hookType, type) => {
    const { e, run } = load(source);
    e.mem_write(DATA, [0xc3]);
    e.mem_protect(DATA, 0x1000, perms);
    const seen: number[] = [];
    e.hook_add(hookType as number, (...args: unknown[]) => {
      seen.push(args[1] as number);
      return true;
    });
    run();
    expect(seen).toEqual([type]);
  });

  it('valid and invalid kinds may share a callback', () => {
    const { e, run } = load('mov [0x9000], eax\n mov [0x2000], eax');
    const seen: number[] = [];
    e.hook_add(uc.HOOK_MEM_WRITE | uc.HOOK_MEM_WRITE_UNMAPPED, (engine: typeof e, type: number, address: bigint) => {
      seen.push(type);
      if (type === uc.MEM_WRITE_UNMAPPED) engine.mem_map(address, 0x1000, 7);
      return true;
    });
    run();
    expect(seen).toEqual([uc.MEM_WRITE, uc.MEM_WRITE_UNMAPPED, uc.MEM_WRITE]);
  });
});

describe('HOOK_INTR', () => {
  it.each([
    ['int3', 3, 1],
    ['int 0x80', 0x80, 2],
    ['xor ecx, ecx\n div ecx', 0, 2],
    ['mov cr0, rax\n nop', 13, 0],
  ])('%s: vector %d, RIP %d bytes on', (source, vector, offset) => {
    const { e, run } = load(source);
    // CR0 without PE but with PG is a general-protection fault.
    e.reg_write_i64(uc.X86_REG_RAX, 0x80000000n);
    const seen: number[] = [];
    e.hook_add(uc.HOOK_INTR, (engine, intno) => {
      seen.push(intno, Number(engine.reg_read_i64(uc.X86_REG_RIP)));
      engine.emu_stop();
    });
    run();
    expect(seen).toEqual([vector, CODE + offset]);
  });

  it('goes on after INT n, and at a RIP that the callback writes', () => {
    const { e, run, get, at } = load('int 0x21\n mov ebx, 1\n xor ecx, ecx\n div ecx\n mov ebx, 2\n on: mov edx, 3');
    const seen: number[] = [];
    e.hook_add(uc.HOOK_INTR, (engine, intno) => {
      seen.push(intno);
      if (intno === 0) engine.reg_write_i64(uc.X86_REG_RIP, at('on'));
    });
    run();
    expect(seen).toEqual([0x21, 0]);
    expect([get('rbx'), get('rdx')]).toEqual([1n, 3n]);
  });

  it('every general-protection fault is vector 13, with its error code', () => {
    const { e, at, run } = load('mov eax, 0x80000000\n a: mov cr0, rax\n b: mov cr0, rax\n c: mov ds, ebx\n d: nop');
    e.reg_write_i64(uc.X86_REG_RBX, 0x1234);
    const seen: unknown[] = [];
    e.hook_add(uc.HOOK_INTR, (engine, intno) => {
      seen.push([intno, engine.exception_info()?.error_code]);
      const next = [at('b'), at('c'), at('d')][seen.length - 1] as bigint;
      engine.reg_write_i64(uc.X86_REG_RIP, next);
    });
    run();
    expect(seen).toEqual([
      [13, 0],
      [13, 0],
      [13, 0x1234],
    ]);
  });

  it('without a callback an exception is ERR_EXCEPTION with RIP at the instruction', () => {
    const { run, get } = load('nop\n xor ecx, ecx\n div ecx');
    expect(codeOf(() => run())).toBe(uc.ERR_EXCEPTION);
    expect(get('rip')).toBe(0x1003n);
  });
});

describe('HOOK_INSN_INVALID', () => {
  it('is called for an undefined instruction; true goes on at the RIP it wrote', () => {
    const { e, run, get } = load('ud2\n inc rax');
    let calls = 0;
    e.hook_add(uc.HOOK_INSN_INVALID, (engine) => {
      calls++;
      engine.reg_write_i64(uc.X86_REG_RIP, engine.reg_read_i64(uc.X86_REG_RIP) + 2n);
      return true;
    });
    run();
    expect([calls, get('rax')]).toEqual([1, 1n]);
  });

  it('otherwise the error is ERR_INSN_INVALID, whatever HOOK_INTR says', () => {
    const { e, run, get } = load('nop\n ud2');
    e.hook_add(uc.HOOK_INTR, () => expect.unreachable());
    expect(codeOf(() => run())).toBe(uc.ERR_INSN_INVALID);
    e.hook_add(uc.HOOK_INSN_INVALID, () => false);
    expect(codeOf(() => run())).toBe(uc.ERR_INSN_INVALID);
    expect(get('rip')).toBe(0x1001n);
  });
});

describe('HOOK_INSN', () => {
  it.each([
    ['CPUID', 'cpuid'],
    ['RDTSC', 'rdtsc'],
    ['RDTSCP', 'rdtscp'],
    ['RDMSR', 'rdmsr'],
    ['WRMSR', 'wrmsr'],
    ['HLT', 'hlt'],
    ['VMCALL', 'vmcall'],
    ['VMMCALL', 'vmmcall'],
    ['PAUSE', 'pause'],
    ['WBINVD', 'wbinvd'],
    ['INVD', 'invd'],
    ['INVLPG', 'invlpg [rax]'],
  ])('%s: a callback that returns true replaces the instruction', (name, source) => {
    const { e, run, get } = load(`mov eax, 5\n mov edx, 6\n mov ecx, 0x10\n here: ${source}\n mov ebx, 7`);
    const seen: bigint[] = [];
    const id = (uc as unknown as Record<string, number>)[`X86_INS_${name}`];
    e.hook_add(
      uc.HOOK_INSN,
      (engine) => {
        seen.push(engine.reg_read_i64(uc.X86_REG_RIP));
        return true;
      },
      {},
      1,
      0,
      id,
    );
    run();
    expect(seen).toEqual([0x100fn]);
    expect([get('rax'), get('rdx'), get('rcx'), get('rbx')]).toEqual([5n, 6n, 0x10n, 7n]);
  });

  it('a callback that returns nothing leaves the instruction its own effect', () => {
    const { e, run, get } = load('xor eax, eax\n cpuid\n mov ecx, 0xc0000103\n mov eax, 9\n xor edx, edx\n wrmsr');
    let calls = 0;
    e.hook_add(uc.HOOK_INSN, () => calls++, {}, 1, 0, uc.X86_INS_CPUID);
    e.hook_add(uc.HOOK_INSN, () => calls++, {}, 1, 0, uc.X86_INS_WRMSR);
    run();
    expect(calls).toBe(2);
    expect(get('rbx')).toBe(0x756e6547n); // "Genu"
    expect(e.msr_read(0xc0000103)).toBe(9n);
  });

  it('IN gets port and size and returns the value, OUT gets the value', () => {
    const { e, run, get } = load(
      'mov eax, 0x11223344\n out 0x80, al\n mov dx, 0x3f8\n out dx, ax\n in al, 0x60\n in eax, dx',
    );
    const seen: unknown[] = [];
    e.hook_add(
      uc.HOOK_INSN,
      (_: unknown, port: number, size: number, value: number, data: string) => seen.push([port, size, value, data]),
      'out',
      1,
      0,
      uc.X86_INS_OUT,
    );
    e.hook_add(
      uc.HOOK_INSN,
      (_: unknown, port: number, size: number) => (size === 1 ? port + 1 : 0xcafef00d),
      {},
      1,
      0,
      uc.X86_INS_IN,
    );
    e.hook_add(uc.HOOK_CODE, (engine) => seen.push(engine.reg_read_i32(uc.X86_REG_EAX)), {}, 0x100f, 0x100f);
    run();
    expect(seen).toEqual([[0x80, 1, 0x44, 'out'], [0x3f8, 2, 0x3344, 'out'], 0x11223361]);
    expect(get('rax')).toBe(0xcafef00dn);
  });

  it('IN and OUT also come from string instructions', () => {
    const { e, run } = load('mov edi, 0x2000\n mov ecx, 3\n mov edx, 0x10\n rep insb');
    let next = 1;
    e.hook_add(uc.HOOK_INSN, () => next++, {}, 1, 0, uc.X86_INS_IN);
    run();
    expect([...e.mem_read(DATA, 4)]).toEqual([1, 2, 3, 0]);
  });

  it('SYSCALL does nothing by itself; RIP moves on after its callback', () => {
    const { e, run, get, at } = load('syscall\n inc rbx\n target: inc rbx\n nop');
    run();
    expect(get('rbx')).toBe(2n);
    e.hook_add(
      uc.HOOK_INSN,
      (engine) => engine.reg_write_i64(uc.X86_REG_RIP, at('target') - 2n),
      {},
      1,
      0,
      uc.X86_INS_SYSCALL,
    );
    run();
    expect(get('rbx')).toBe(3n);
  });

  it('SYSENTER likewise', () => {
    const { e, run, get } = load('sysenter\n inc ebx', uc.MODE_32);
    let calls = 0;
    e.hook_add(uc.HOOK_INSN, () => calls++, {}, 1, 0, uc.X86_INS_SYSENTER);
    run();
    expect([calls, get('ebx')]).toEqual([1, 1n]);
  });

  it('only where its range says', () => {
    const { e, run } = load('cpuid\n cpuid');
    let calls = 0;
    e.hook_add(uc.HOOK_INSN, () => calls++, {}, 0x1002, 0x1002, uc.X86_INS_CPUID);
    run();
    expect(calls).toBe(1);
  });

  it('what cannot be hooked is ERR_HOOK', () => {
    const { e } = load('nop');
    expect(codeOf(() => e.hook_add(uc.HOOK_INSN, () => {}, {}, 1, 0, uc.X86_INS_ADD))).toBe(uc.ERR_HOOK);
    expect(codeOf(() => e.hook_add(uc.HOOK_TCG_OPCODE as number, () => {}))).toBe(uc.ERR_HOOK);
    expect(codeOf(() => e.hook_add(0 as number, () => {}))).toBe(uc.ERR_HOOK);
  });
});

describe('callbacks that run the engine or fail', () => {
  it('nested emu_start from a code hook: the outer instruction follows', () => {
    const { e, run, get, at } = load('inc rax\n here: inc rbx\n there: inc rcx\n nop');
    let inside = 0n;
    e.hook_add(
      uc.HOOK_CODE,
      (engine) => {
        if (inside) return;
        inside = 1n;
        engine.emu_start(at('there'), at('there') + 3n);
        inside = engine.reg_read_i64(uc.X86_REG_RIP);
      },
      {},
      at('here'),
      at('here'),
    );
    run();
    expect(inside).toBe(at('there') + 3n);
    expect([get('rax'), get('rbx'), get('rcx')]).toEqual([1n, 1n, 2n]);
  });

  it('nested emu_start from a memory hook: the access follows', () => {
    const { e, run, get, at } = load(
      'mov eax, [0x2000]\n mov ebx, 2\n jmp out\n sub: mov dword ptr [0x2000], 0x55\n done: nop\n out: nop',
    );
    let depth = 0;
    e.hook_add(uc.HOOK_MEM_READ, (engine) => {
      if (depth++ === 0) engine.emu_start(at('sub'), at('done'));
    });
    run();
    expect([get('rax'), get('rbx'), depth]).toEqual([0x55n, 2n, 1]);
  });

  it('nested emu_start from HOOK_INSN: the instruction is done once', () => {
    const { e, run, get, at } = load('xor eax, eax\n cpuid\n inc r8\n there: inc r9');
    let calls = 0;
    const nested = (): void => {
      calls++;
      e.emu_start(at('there'), at('there') + 3n);
    };
    e.hook_add(uc.HOOK_INSN, nested, {}, 1, 0, uc.X86_INS_CPUID);
    run('there');
    expect([calls, get('r8'), get('r9'), get('rip')]).toEqual([1, 1n, 1n, at('there')]);
    expect(get('rbx')).toBe(0x756e6547n);
  });

  it('emu_stop in a nested run stops that run only', () => {
    const { e, run, get, at } = load('inc rax\n here: inc rbx\n nop\n there: inc rcx\n inc rcx');
    e.hook_add(uc.HOOK_CODE, (engine) => engine.emu_start(at('there'), at('there') + 6n), {}, at('here'), at('here'));
    const stop = e.hook_add(uc.HOOK_CODE, (engine) => engine.emu_stop(), {}, at('there') + 3n, at('there') + 3n);
    run('there');
    e.hook_del(stop);
    expect([get('rax'), get('rbx'), get('rcx'), get('rip')]).toEqual([1n, 1n, 1n, at('there')]);
  });

  it('more than 64 levels are ERR_RESOURCE', () => {
    const { e, run } = load('nop\n nop');
    let deepest = 0;
    let code = 0;
    e.hook_add(
      uc.HOOK_CODE,
      () => {
        deepest++;
        code = codeOf(() => run()) || code;
      },
      {},
      CODE,
      CODE,
    );
    run();
    expect(code).toBe(uc.ERR_RESOURCE);
    expect(deepest).toBe(64);
  });

  it('an exception thrown in a hook comes out of emu_start and costs nothing, however often', () => {
    const { e, run, get } = load('inc rax\n mov ecx, [0x2000]\n inc rax');
    const code = e.hook_add(
      uc.HOOK_CODE,
      () => {
        throw new Error('from code');
      },
      {},
      0x1003,
      0x1003,
    );
    for (let i = 0; i < 100; i++) expect(() => run()).toThrow('from code');
    expect(get('rip')).toBe(0x1003n);
    e.hook_del(code);
    const memory = e.hook_add(uc.HOOK_MEM_READ, () => {
      throw new Error('from memory');
    });
    for (let i = 0; i < 100; i++) expect(() => run()).toThrow('from memory');
    e.hook_del(memory);
    e.reg_write_i64(uc.X86_REG_RAX, 0n);
    run();
    expect(get('rax')).toBe(2n);
  });

  it('an exception thrown in a nested run leaves the outer run intact', () => {
    const { e, run, get, at } = load('inc rax\n here: inc rbx\n there: inc rcx');
    let caught = 0;
    e.hook_add(
      uc.HOOK_CODE,
      () => {
        throw new Error('inner');
      },
      {},
      at('there'),
      at('there'),
    );
    const outer = e.hook_add(
      uc.HOOK_CODE,
      (engine) => {
        try {
          engine.emu_start(at('there'), 0x1009);
        } catch {
          caught++;
        }
      },
      {},
      at('here'),
      at('here'),
    );
    run('there');
    e.hook_del(outer);
    expect([caught, get('rax'), get('rbx'), get('rcx')]).toEqual([1, 1n, 1n, 0n]);
  });
});
