import { describe, expect, it } from 'vitest';
import { CODE, codeOf, DATA, load, uc } from './engine.fixture.ts';

const open = () => new uc.Unicorn(uc.ARCH_X86, uc.MODE_64);
const HIGH = 0xffff800000000000n;

describe('mem_map', () => {
  it('takes pages anywhere in 64 bits', () => {
    const e = open();
    for (const at of [0n, 0x123456789000n, HIGH, 0xfffffffffffff000n]) e.mem_map(at, 0x1000, uc.PROT_ALL);
    e.mem_write(HIGH + 0xffcn, [1, 2, 3, 4]);
    expect([...e.mem_read(HIGH + 0xffan, 6)]).toEqual([0, 0, 1, 2, 3, 4]);
    expect(e.mem_regions()).toEqual([
      { begin: 0n, end: 0xfffn, perms: 7 },
      { begin: 0x123456789000n, end: 0x123456789fffn, perms: 7 },
      { begin: HIGH, end: HIGH + 0xfffn, perms: 7 },
      { begin: 0xfffffffffffff000n, end: 0xffffffffffffffffn, perms: 7 },
    ]);
  });

  it('refuses what is empty, unaligned, wraps around or has unknown permissions', () => {
    const e = open();
    const bad: [number | bigint, number | bigint, number][] = [
      [0x1000, 0, 7],
      [0x1001, 0x1000, 7],
      [0x1000, 0x1001, 7],
      [0x1000, 0x1000, 8],
      [0xfffffffffffff000n, 0x2000, 7],
    ];
    expect(bad.map((args) => codeOf(() => e.mem_map(...args)))).toEqual(bad.map(() => uc.ERR_ARG));
  });

  it('refuses an overlap', () => {
    const e = open();
    e.mem_map(0x1000, 0x2000, 7);
    expect(codeOf(() => e.mem_map(0x2000, 0x1000, 7))).toBe(uc.ERR_MAP);
    expect(codeOf(() => e.mem_map(0x3000, 0x1000, 7))).toBe(0);
  });

  it('maps 1 GiB, and says when there is no room', () => {
    const e = open();
    e.mem_map(0x40000000, 2 ** 30, uc.PROT_ALL);
    e.mem_write(0x7fffffff, [0x5a]);
    expect([...e.mem_read(0x7ffffffe, 2)]).toEqual([0, 0x5a]);
    expect(codeOf(() => e.mem_map(0x100000000, 2 ** 32, uc.PROT_ALL))).toBe(uc.ERR_NOMEM);
  });

  it('gives zeros, also where memory was unmapped before', () => {
    const e = open();
    e.mem_map(0x1000, 0x1000, 7);
    e.mem_write(0x1000, [1, 2, 3]);
    e.mem_unmap(0x1000, 0x1000);
    e.mem_map(0x5000, 0x1000, 7);
    expect([...e.mem_read(0x5000, 3)]).toEqual([0, 0, 0]);
  });
});

describe('mem_unmap and mem_protect', () => {
  it('split regions', () => {
    const e = open();
    e.mem_map(0x1000, 0x5000, 7);
    e.mem_unmap(0x2000, 0x1000);
    e.mem_protect(0x4000, 0x1000, uc.PROT_READ);
    expect(e.mem_regions().map(({ begin, end, perms }) => [Number(begin), Number(end), perms])).toEqual([
      [0x1000, 0x1fff, 7],
      [0x3000, 0x3fff, 7],
      [0x4000, 0x4fff, 1],
      [0x5000, 0x5fff, 7],
    ]);
  });

  it('keep the contents of what stays', () => {
    const e = open();
    e.mem_map(0x1000, 0x3000, 7);
    for (const page of [1, 2, 3]) e.mem_write(page * 0x1000, [page]);
    e.mem_unmap(0x2000, 0x1000);
    expect([e.mem_read(0x1000, 1)[0], e.mem_read(0x3000, 1)[0]]).toEqual([1, 3]);
    expect(codeOf(() => e.mem_read(0x1ffe, 4))).toBe(uc.ERR_READ_UNMAPPED);
    expect(codeOf(() => e.mem_write(0x1ffe, [1, 2, 3]))).toBe(uc.ERR_WRITE_UNMAPPED);
  });

  it('refuse ranges that are not mapped, and do nothing for empty ones', () => {
    const e = open();
    e.mem_map(0x1000, 0x1000, 7);
    expect(codeOf(() => e.mem_unmap(0x1000, 0x2000))).toBe(uc.ERR_NOMEM);
    expect(codeOf(() => e.mem_protect(0x1000, 0x2000, 1))).toBe(uc.ERR_NOMEM);
    expect(codeOf(() => e.mem_protect(0x1800, 0x1000, 1))).toBe(uc.ERR_ARG);
    e.mem_unmap(0x9000, 0);
    expect(e.mem_regions()).toHaveLength(1);
  });
});

describe('the guest', () => {
  it('runs and reads at addresses above 2^63, and wraps nowhere', () => {
    const e = open();
    e.mem_map(HIGH, 0x2000, 7);
    // mov rax, [rip + 0xff9]
    e.mem_write(HIGH, [0x48, 0x8b, 0x05, 0xf9, 0x0f, 0x00, 0x00]);
    e.mem_write(HIGH + 0x1000n, [1, 2, 3, 4, 5, 6, 7, 8]);
    e.emu_start(HIGH, HIGH + 7n);
    expect(e.reg_read_i64(uc.X86_REG_RAX)).toBe(0x0807060504030201n);
    expect(e.reg_read_u64(uc.X86_REG_RIP)).toBe(HIGH + 7n);
  });

  it('executes instructions that cross into a page mapped elsewhere', () => {
    const e = open();
    e.mem_map(0x7000, 0x1000, 7);
    e.mem_map(0x5000, 0x1000, 7);
    e.mem_map(0x6000, 0x1000, 7);
    e.mem_write(0x5ffd, [0xb8, 0x78, 0x56, 0x34, 0x12]);
    e.emu_start(0x5ffd, 0x6002);
    expect(e.reg_read_i32(uc.X86_REG_EAX)).toBe(0x12345678);
  });

  it.each([
    ['mov rax, [0x9000]', 'READ_UNMAPPED'],
    ['mov [0x9000], rax', 'WRITE_UNMAPPED'],
    ['add dword ptr [0x9000], 1', 'READ_UNMAPPED'],
    ['mov rax, [0x3ffc]', 'READ_UNMAPPED'],
    ['mov [0x3ffc], rax', 'WRITE_UNMAPPED'],
    ['jmp 0x9000', 'FETCH_UNMAPPED'],
    ['mov rax, 0x4141414141414141\n jmp rax', 'FETCH_UNMAPPED'],
    ['mov rbx, 0x4141414141414141\n mov [rbx], eax', 'WRITE_UNMAPPED'],
  ])('%s ends in ERR_%s', (source, name) => {
    const { e, run } = load(source);
    expect(codeOf(() => run())).toBe((uc as unknown as Record<string, number>)[`ERR_${name}`]);
    expect(e.errno()).toBe((uc as unknown as Record<string, number>)[`ERR_${name}`]);
  });

  it.each([
    ['mov rax, [0x2000]', uc.PROT_WRITE | uc.PROT_EXEC, uc.ERR_READ_PROT],
    ['mov [0x2000], rax', uc.PROT_READ | uc.PROT_EXEC, uc.ERR_WRITE_PROT],
    ['inc dword ptr [0x2000]', uc.PROT_READ, uc.ERR_WRITE_PROT],
    ['jmp 0x2000', uc.PROT_READ | uc.PROT_WRITE, uc.ERR_FETCH_PROT],
  ])('%s with permissions %d ends in error %d, RIP at the instruction', (source, perms, error) => {
    const { e, run } = load(`nop\n${source}`);
    e.mem_protect(DATA, 0x1000, perms);
    expect(codeOf(() => run())).toBe(error);
    expect(e.reg_read_i64(uc.X86_REG_RIP)).toBe(error === uc.ERR_FETCH_PROT ? BigInt(DATA) : BigInt(CODE + 1));
  });

  it('sees code that the host or the guest itself changes', () => {
    const { e, run, get, at } = load('mov byte ptr [rip + patch + 1], 7\n patch: mov al, 1\n nop');
    run();
    expect(get('al')).toBe(7n);
    e.mem_write(at('patch'), [0xb0, 9]);
    e.emu_start(at('patch'), at('patch') + 2n);
    expect(get('al')).toBe(9n);
  });

  it('has paging over sparse physical memory', () => {
    const { e, get, run } = load('mov rax, [0x5000]\n mov [0x5008], rax');
    // PML4, PDPT, PD, PT at 2^40; identity for the code page, 0x5000 to a page above 2^45.
    const table = 2n ** 40n;
    const data = 2n ** 45n;
    e.mem_map(table, 0x4000, uc.PROT_READ);
    e.mem_map(data, 0x1000, uc.PROT_ALL);
    const entry = (at: bigint, value: bigint): void => {
      e.mem_write(at, new Uint8Array(BigUint64Array.of(value).buffer));
    };
    entry(table, (table + 0x1000n) | 7n);
    entry(table + 0x1000n, (table + 0x2000n) | 7n);
    entry(table + 0x2000n, (table + 0x3000n) | 7n);
    entry(table + 0x3008n, 0x1000n | 7n);
    entry(table + 0x3028n, data | 7n);
    e.mem_write(data, [0x2a]);
    e.reg_write_i64(uc.X86_REG_CR3, table);
    e.reg_write_i64(uc.X86_REG_CR4, 0x50220n);
    e.reg_write_i64(uc.X86_REG_CR0, 0x80000011n);
    run();
    expect(get('rax')).toBe(0x2an);
    expect(e.mem_read(data + 8n, 1)[0]).toBe(0x2a);
    // Accessed and dirty.
    expect(e.mem_read(table + 0x3028n, 1)[0]).toBe(0x67);
    expect(codeOf(() => e.emu_start(0x3000, 0x3001))).toBe(uc.ERR_EXCEPTION);
    expect(e.exception_info()).toEqual({ vector: 14, error_code: 0, address: 0x3000n });
    expect(e.reg_read_i64(uc.X86_REG_CR2)).toBe(0x3000n);
  });
});

describe('mmio_map', () => {
  it('calls back with offsets, sizes and values', () => {
    const { e, get, run } = load('mov eax, [0x10008]\n mov [0x10ff0], rbx\n movzx ecx, byte ptr [0x10fff]');
    const log: unknown[] = [];
    e.mmio_map(
      0x10000,
      0x1000,
      (_, offset, size, data) => {
        log.push(['read', offset, size, data]);
        return 0x11223344;
      },
      'r',
      (_, offset, size, value, data) => log.push(['write', offset, size, value, data]),
      'w',
    );
    e.reg_write_i64(uc.X86_REG_RBX, 0x8000000000000001n);
    run();
    expect(get('rax')).toBe(0x11223344n);
    expect(get('rcx')).toBe(0x44n);
    expect(log).toEqual([
      ['read', 8n, 4, 'r'],
      ['write', 0xff0n, 8, 0x8000000000000001n, 'w'],
      ['read', 0xfffn, 1, 'r'],
    ]);
  });

  it('a missing callback is a missing permission', () => {
    const { e, run } = load('mov [0x10000], eax');
    e.mmio_map(0x10000, 0x1000, () => 0, undefined, null, undefined);
    expect(codeOf(() => run())).toBe(uc.ERR_WRITE_PROT);
  });

  it('works for string instructions, and for mem_read and mem_write', () => {
    const { e, run } = load('mov esi, 0x10000\n mov edi, 0x2000\n mov ecx, 4\n rep movsb');
    const written: unknown[] = [];
    e.mmio_map(
      0x10000,
      0x1000,
      (_, offset) => 0x40n + offset,
      0,
      (_, ...args) => written.push(args.slice(0, 3)),
      0,
    );
    run();
    expect([...e.mem_read(0x2000, 5)]).toEqual([0x40, 0x41, 0x42, 0x43, 0]);
    expect([...e.mem_read(0x10010, 4)]).toEqual([0x50, 0, 0, 0]);
    e.mem_write(0x10020, [1, 2, 3]);
    expect(written).toEqual([
      [0x20n, 2, 0x201n],
      [0x22n, 1, 3n],
    ]);
  });
});
