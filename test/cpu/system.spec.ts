import { describe, expect, it } from 'vitest';
import * as L from '../../src/cpu/core/layout.ts';
import type { Vendor } from '../../src/cpu/cpu.ts';
import {
  bare,
  CODE,
  GDT,
  gate,
  HANDLERS,
  IDT,
  IST_STACK,
  KERNEL_STACK,
  LDT,
  type Mode,
  PAE_PDPT,
  PD,
  PD32,
  PDPT,
  PML4,
  PT,
  PT32,
  SEL,
  TSS,
  TSS_STACK,
  USER_STACK,
} from './bare.ts';

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

// Exception vectors.
const DB = 1;
const UD = 6;
const DF = 8;
const TS = 10;
const NP = 11;
const SS = 12;
const GP = 13;
const PF = 14;

const VENDORS: readonly Vendor[] = ['intel', 'amd'];

describe('mode switches by the guest', () => {
  it('goes from real to protected to long mode and back', async () => {
    const b = await bare('real');
    const see = () => ({
      bits: b.state.is64bit ? 64 : (b.get('cs_attr') & 0x4000n) !== 0n ? 32 : 16,
      cs: hex(b.get('cs')),
      cpl: b.state.cpl,
      cr0: hex(b.get('cr0')),
      efer: hex(b.get('efer')),
    });
    const seen: unknown[] = [];
    b.run(`
      .code16
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        hlt
        jmp CODE32:p32
      .code32
      p32:
        mov eax, DATA
        mov ds, eax
        mov ss, eax
        mov esp, 0x7000
        hlt
        mov eax, cr4
        or eax, 0x20
        mov cr4, eax
        mov eax, 0x40000
        mov cr3, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        hlt
        jmp CODE64:p64
      .code64
      p64:
        hlt
        push CODE32
        lea rax, [rip+back32]
        push rax
        retfq
      .code32
      back32:
        hlt
        mov eax, cr0
        and eax, 0x7fffffff
        mov cr0, eax
        hlt
        jmp CODE16:back16
      .code16
      back16:
        mov eax, cr0
        and al, 0xfe
        mov cr0, eax
        jmp 0:real
      real:
        hlt
      gdtr:
        .word 0xff
        .long 0x2000
    `);
    seen.push(see());
    for (let i = 0; i < 6; i++) {
      expect(b.resume().reason).toBe('hlt');
      seen.push(see());
    }
    expect(seen).toEqual([
      { bits: 16, cs: '0x0', cpl: 0, cr0: '0x11', efer: '0x0' },
      { bits: 32, cs: '0x18', cpl: 0, cr0: '0x11', efer: '0x0' },
      { bits: 32, cs: '0x18', cpl: 0, cr0: '0x80000011', efer: '0x500' },
      { bits: 64, cs: '0x8', cpl: 0, cr0: '0x80000011', efer: '0x500' },
      { bits: 32, cs: '0x18', cpl: 0, cr0: '0x80000011', efer: '0x500' },
      { bits: 32, cs: '0x18', cpl: 0, cr0: '0x11', efer: '0x100' },
      { bits: 16, cs: '0x0', cpl: 0, cr0: '0x10', efer: '0x100' },
    ]);
    expect(b.get('rip')).toBe(b.label('real'));
  });

  it('keeps a 4 GiB data segment after leaving protected mode', async () => {
    const b = await bare('real');
    b.cpu.memory[0x150000] = 0x5a;
    const stop = b.run(`
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov bx, DATA
        mov ds, bx
        and al, 0xfe
        mov cr0, eax
        mov ebx, 0x150000
        xor cx, cx
        mov ds, cx
        mov cl, [ebx]
        hlt
      gdtr:
        .word 0xff
        .long 0x2000
    `);
    expect(stop.reason).toBe('hlt');
    expect(b.get('rcx') & 0xffn).toBe(0x5an);
  });
});

describe('control registers', () => {
  const faults: readonly (readonly [string, Mode, string, Readonly<Record<string, number>>])[] = [
    ['CR0.PG without PE', 'prot32', 'mov eax, 0x80000010', {}],
    ['CR0.NW without CD', 'prot32', 'mov eax, 0x20000011', {}],
    ['CR0.PG with EFER.LME but not CR4.PAE', 'prot32', 'mov eax, 0x80000011', { efer: 0x100 }],
    [
      'CR0.PG with EFER.LME and a 16-bit TSS',
      'prot32',
      'mov eax, 0x80000011',
      { efer: 0x100, cr4: 0x20, tr_attr: 0x83 },
    ],
    ['CR0.PG with EFER.LME and CS.L', 'prot32', 'mov eax, 0x80000011', { efer: 0x100, cr4: 0x20, cs_attr: 0xe09b }],
    ['CR0.PG cleared in 64-bit mode', 'long64', 'mov eax, 0x31', {}],
    ['CR0 bits 63:32', 'long64', 'mov rax, 0x180000031', {}],
  ];
  it.each(faults)('#GP(0) for %s', async (_, mode, set, registers) => {
    const b = await bare(mode);
    b.put(registers);
    const before = b.get('cr0');
    expect(b.fault(`${set}\nbad: mov cr0, ${mode === 'long64' ? 'rax' : 'eax'}\nhlt`)).toEqual({
      vector: GP,
      error: 0,
      at: 'bad',
    });
    expect(b.get('cr0')).toBe(before);
  });

  it.each([
    ['VMXE', 'prot32', 'mov eax, 0x2000'],
    ['a bit of the upper half', 'long64', 'mov rax, 0x100000020'],
    ['no PAE in long mode', 'long64', 'mov eax, 0'],
  ] as const)('#GP(0) for CR4 with %s', async (_, mode, set) => {
    const b = await bare(mode);
    expect(b.fault(`${set}\nbad: mov cr4, ${mode === 'long64' ? 'rax' : 'eax'}\nhlt`)).toEqual({
      vector: GP,
      error: 0,
      at: 'bad',
    });
  });

  it('#GP(0) for bits of CR3 above the physical-address width', async () => {
    const b = await bare('long64');
    expect(b.fault('mov rax, 0x8000000000040000\nbad: mov cr3, rax\nhlt')).toEqual({ vector: GP, error: 0, at: 'bad' });
    expect(b.get('cr3')).toBe(BigInt(PML4));
  });

  it('#GP in real mode for CR0.PG without PE, without an error code', async () => {
    const b = await bare('real');
    const stop = b.run('mov eax, 0x80000010\nbad: mov cr0, eax\nhlt');
    expect(stop).toMatchObject({ vector: GP, error: undefined, at: 'bad' });
    expect(b.get('rsp')).toBe(0x7f00n - 6n);
  });

  it('ignores reserved bits of CR0 and keeps ET', async () => {
    const b = await bare('prot32');
    b.run('mov eax, 0x1fc0ff61\nmov cr0, eax\nhlt');
    expect(hex(b.get('cr0'))).toBe('0x31');
  });

  it.each([1, 5, 6, 7])('#UD for MOV to and from CR%i', async (cr) => {
    const b = await bare('prot32');
    expect(b.fault(`bad: .byte 0x0f, 0x22, ${0xc0 + cr * 8}\nhlt`)).toEqual({
      vector: UD,
      error: undefined,
      at: 'bad',
    });
    expect(b.fault(`bad: .byte 0x0f, 0x20, ${0xc0 + cr * 8}\nhlt`)).toEqual({
      vector: UD,
      error: undefined,
      at: 'bad',
    });
  });

  it('LMSW sets PE and cannot clear it; CLTS clears TS; SMSW reads CR0', async () => {
    const b = await bare('prot32');
    b.run('mov ax, 0x000e\nlmsw ax\nsmsw ecx\nclts\nhlt');
    expect(hex(b.get('rcx'))).toBe('0x3f');
    expect(hex(b.get('cr0'))).toBe('0x37');
  });

  it.each([
    'mov eax, cr0',
    'mov cr3, eax',
    'mov eax, dr7',
    'lgdt [0x9000]',
    'lidt [0x9000]',
    'lldt ax',
    'ltr ax',
    'lmsw ax',
    'clts',
    'invlpg [eax]',
    'hlt',
    'rdmsr',
    'wrmsr',
    'wbinvd',
    'invd',
    'cli',
    'sti',
    'in al, 0x10',
    'out dx, eax',
  ])('#GP(0) at CPL 3 for %s', async (instruction) => {
    const b = await bare('prot32', { cpl: 3 });
    expect(b.fault(`bad: ${instruction}`)).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('segment registers in protected mode', () => {
  const loads: readonly (readonly [number, string, number, number])[] = [
    [0, 'ds', SEL.ABSENT, NP],
    [0, 'ss', SEL.ABSENT, SS],
    [0, 'ss', SEL.READONLY, GP],
    [0, 'es', SEL.EXECONLY, GP],
    [0, 'ss', SEL.CODE32, GP],
    [0, 'ss', SEL.UDATA, GP],
    [0, 'ss', SEL.DATA1, GP],
    [0, 'ss', 0, GP],
    [0, 'ss', 3, GP],
    [0, 'fs', SEL.TSS, GP],
    [0, 'gs', 0x100, GP],
    [0, 'ds', 0x0c, GP],
    [3, 'ds', SEL.DATA, GP],
    [3, 'ds', SEL.DATA | 3, GP],
    [3, 'es', SEL.CODE32, GP],
    [3, 'ss', SEL.UDATA & ~3, GP],
  ];
  it.each(loads)('at CPL %i, %s := %i raises vector %i with the selector', async (cpl, name, selector, vector) => {
    const b = await bare('prot32', { cpl: cpl as 0 | 3 });
    const before = b.get(`${name}_attr`);
    const stop = b.fault(`mov eax, ${selector}\nbad: mov ${name}, eax\nhlt`);
    expect(stop).toEqual({ vector, error: selector & 0xfffc, at: 'bad' });
    if (name !== 'ss' || cpl === 0) expect(b.get(`${name}_attr`)).toBe(before);
  });

  it.each([
    [0, 'ds', SEL.READONLY, 0xc091, 0xffffffff],
    [0, 'ds', SEL.CODE32, 0xc09b, 0xffffffff],
    [0, 'ds', SEL.UDATA, 0xc0f3, 0xffffffff],
    [0, 'ds', SEL.SMALL, 0x4093, 0xff],
    [0, 'ss', SEL.STACK16, 0x93, 0xffff],
    [3, 'es', SEL.CONFORM, 0xc09f, 0xffffffff],
  ] as const)(
    'at CPL %i, %s := %i loads the descriptor and sets its accessed bit',
    async (cpl, name, selector, attr, limit) => {
      const b = await bare('prot32', { cpl });
      b.run(`mov eax, ${selector}\nmov ${name}, eax\nint 0x80`);
      expect([b.get(name), b.get(`${name}_attr`), b.get(`${name}_limit`)]).toEqual([
        BigInt(selector),
        BigInt(attr),
        BigInt(limit),
      ]);
      expect(b.cpu.memory[GDT + (selector & ~7) + 5] & 1).toBe(1);
    },
  );

  it('null selectors load without a fault and fault at use', async () => {
    const b = await bare('prot32');
    expect(b.fault('xor eax, eax\nmov fs, eax\nbad: mov eax, fs:[0]\nhlt')).toEqual({
      vector: GP,
      error: 0,
      at: 'bad',
    });
    expect(b.get('fs_attr') & 0x10000n).toBe(0x10000n);
  });

  it('LLDT gives access to the LDT, a null LDTR takes it away', async () => {
    const b = await bare('prot32');
    b.write64(LDT + 8, b.read64(GDT + SEL.DATA));
    expect(
      b.fault('mov eax, LDT\nlldt ax\nmov ecx, 0x0c\nmov es, ecx\nxor eax, eax\nlldt ax\nbad: mov es, ecx\nhlt'),
    ).toEqual({
      vector: GP,
      error: 0x0c,
      at: 'bad',
    });
    expect(b.get('es')).toBe(0x0cn);
  });

  it.each([
    ['lldt', SEL.DATA, GP],
    ['ltr', 0, GP],
    ['ltr', SEL.TSS, GP],
    ['ltr', SEL.LDT, GP],
    ['ltr', 0x44, GP],
  ])('%s of %i raises vector %i', async (name, selector, vector) => {
    const b = await bare('prot32');
    const error = selector & 0xfffc;
    expect(b.fault(`mov eax, ${selector}\nbad: ${name} ax\nhlt`)).toEqual({ vector, error, at: 'bad' });
  });

  it('LTR marks the descriptor busy', async () => {
    const b = await bare('prot32');
    b.run('mov eax, TSS2\nltr ax\nstr ecx\nhlt');
    expect(b.cpu.memory[GDT + SEL.TSS2 + 5]).toBe(0x8b);
    expect([b.get('rcx'), b.get('tr_base'), b.get('tr_attr')]).toEqual([BigInt(SEL.TSS2), BigInt(TSS), 0x8bn]);
  });

  it.each([
    ['a dword that ends at the limit', 'mov eax, SMALL\nmov ds, eax', 'mov eax, [0xfc]', undefined],
    ['a dword that crosses the limit', 'mov eax, SMALL\nmov ds, eax', 'mov eax, [0xfd]', GP],
    ['the first byte of an expand-down segment', 'mov eax, DOWN\nmov ds, eax', 'mov al, [0x1000]', undefined],
    ['a byte below an expand-down segment', 'mov eax, DOWN\nmov ds, eax', 'mov al, [0xfff]', GP],
    ['a store to a read-only segment', 'mov eax, READONLY\nmov ds, eax', 'mov [0x30000], al', GP],
    ['a store through CS', 'nop', 'mov cs:[0x30000], al', GP],
    ['a load through execute-only code', 'jmp EXECONLY:1f\n1: nop', 'mov al, cs:[0x30000]', GP],
  ])('%s', async (_, before, access, vector) => {
    const b = await bare('prot32');
    const stop = b.fault(`${before}\nbad: ${access}\ngood: hlt`);
    expect(stop).toEqual(vector ? { vector, error: 0, at: 'bad' } : { vector, error: undefined, at: 'good' });
  });

  it('a push that wraps a 16-bit stack is #SS(0)', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.segment('ss', SEL.UDATA, 0xf3, 0xffff);
    b.put({ rsp: 0x12340001 });
    const { vector, error, at, frame } = b.run('bad: push eax');
    expect({ vector, error, at, esp: frame[3] }).toEqual({ vector: SS, error: 0, at: 'bad', esp: 0x12340001n });
  });

  it('a 16-bit stack keeps the upper half of ESP', async () => {
    const b = await bare('prot32');
    b.run('mov eax, STACK16\nmov ss, eax\nmov esp, 0x12348000\npush eax\npush eax\npop ecx\nhlt');
    expect(hex(b.get('rsp'))).toBe('0x12347ffc');
  });

  it('real-mode accesses beyond 64 KiB are #GP, on the stack #SS, without error codes', async () => {
    const b = await bare('real');
    expect(b.fault('mov bx, 0xffff\nbad: mov ax, [bx]\nhlt')).toEqual({ vector: GP, error: undefined, at: 'bad' });
    const s = await bare('real');
    expect(s.fault('mov bp, 0xffff\nbad: mov ax, [bp]\nhlt')).toEqual({ vector: SS, error: undefined, at: 'bad' });
  });

  it.each([
    ['intel', 4, 5],
    ['intel', 6, GP],
    ['amd', 4, GP],
    ['amd', 6, GP],
  ] as const)(
    '%s: BOUND of %i with a lower bound of 5 and a bad place for the upper one: vector %i',
    async (vendor, index, vector) => {
      const b = await bare('prot32', { vendor });
      b.write32(0x300fc, 5);
      expect(b.fault(`mov eax, SMALL\nmov ds, eax\nmov ecx, ${index}\nbad: bound ecx, [0xfc]`)).toMatchObject({
        vector,
        at: 'bad',
      });
    },
  );
});

describe('segments in 64-bit mode', () => {
  it('ES, CS, SS, DS have no base and no limit; FS and GS add theirs', async () => {
    const b = await bare('long64');
    b.write64(0x30010, 0x1122334455667788n);
    b.put({ ds_base: 0x5000, ds_limit: 0, fs_base: 0x30000, fs_limit: 0 });
    b.run('mov rax, ds:[0x30010]\nmov rcx, fs:[0x10]\nhlt');
    expect([b.get('rax'), b.get('rcx')]).toEqual([0x1122334455667788n, 0x1122334455667788n]);
  });

  it.each([
    ['mov rbx, 0x800000000000\nbad: mov al, [rbx]', GP],
    ['mov rbp, 0x800000000000\nbad: mov al, [rbp]', SS],
    ['mov rbx, 0x7fffffffffff\nbad: mov ax, [rbx]', GP],
    ['mov rax, 0x800000000000\nbad: jmp rax', GP],
    ['mov rax, 0x800000000000\nbad: call rax', GP],
    ['bad: jmp CODE64_POINTER', UD],
  ])('%s: vector %i', async (source, vector) => {
    const b = await bare('long64');
    const text = source.replace('jmp CODE64_POINTER', '.byte 0xea, 0, 0, 0, 0, 8, 0');
    expect(b.fault(`${text}\nhlt`)).toEqual({ vector, error: vector === UD ? undefined : 0, at: 'bad' });
  });

  describe.each([false, 'force'] as const)('a near CALL to a bad target, second tier %s', (tier2) => {
    /** What is where the return address would be, of code at CPL 3 that halts in the handler of #GP. */
    async function left(vendor: Vendor, mode: Mode, source: string, base = 0n): Promise<bigint> {
      const b = await bare(mode, { vendor, cpl: 3, tier2 });
      if (mode === 'prot32') b.segment('cs', SEL.UCODE32, 0xc0fb, 0xffff);
      // The last pages below the canonical boundary, too.
      b.write64(PML4 + 255 * 8, BigInt(PDPT | 7));
      if (mode === 'long64') for (const table of [PDPT, PD]) b.write64(table + 511 * 8, b.read64(table));
      b.write64(USER_STACK - 8, 0x1111_1111_1111_1111n);
      b.load(source);
      b.put({ rip: base + BigInt(CODE) });
      const { vector, error, frame } = b.go();
      expect([vector, error, frame[0], frame[3]]).toEqual([GP, 0, base + b.label('bad'), BigInt(USER_STACK)]);
      return mode === 'long64' ? b.read64(USER_STACK - 8) : BigInt(b.read32(USER_STACK - 4));
    }
    it.each([
      ['intel', 0x800cn, 0x8007n, 0x7fff_ffe0_8005n],
      ['amd', 0x1111_1111_1111_1111n, 0x1111_1111n, 0x1111_1111_1111_1111n],
    ] as const)('%s', async (vendor, indirect, outside, direct) => {
      expect(await left(vendor, 'long64', 'mov rax, 0x800000000000\nbad: call rax')).toBe(indirect);
      expect(await left(vendor, 'prot32', 'mov eax, 0x10000\nbad: call eax')).toBe(outside);
      expect(await left(vendor, 'long64', `bad: call ${CODE + 0x200000}`, 0x7fff_ffe0_0000n)).toBe(direct);
    });
    it.each([
      ['intel', PF, 2],
      ['amd', GP, 0],
    ] as const)('%s, and to a bad stack: vector %i', async (vendor, vector, error) => {
      const b = await bare('long64', { vendor, tier2 });
      for (const n of [GP, PF]) b.gate(n, SEL.CODE64, 0x8e, 1);
      const fault = b.fault('mov esp, 0x400000\nmov rax, 0x800000000000\nbad: call rax');
      expect(fault).toEqual({ vector, error, at: 'bad' });
    });
  });

  it.each([
    ['intel', 1n, 2n],
    ['amd', 2n, 1n],
  ] as const)('F3 90 with REX.B is PAUSE on Intel and XCHG on AMD: %s', async (vendor, rax, r8) => {
    for (const tier2 of [false, 'force'] as const) {
      for (const rex of [0x41, 0x4b]) {
        const b = await bare('long64', { vendor, tier2 });
        b.load(`.byte 0xf3, ${rex}, 0x90\n hlt`);
        b.put({ rax: 1, r8: 2 });
        b.go();
        expect([b.get('rax'), b.get('r8')]).toEqual([rax, r8]);
      }
    }
  });

  it('a push to a non-canonical stack is #SS(0)', async () => {
    const b = await bare('long64');
    b.gate(SS, SEL.CODE64, 0x8e, 1);
    b.put({ rsp: 0x800000000008n });
    const { vector, error, at, frame } = b.run('bad: push rax');
    expect({ vector, error, at, rsp: frame[3] }).toEqual({ vector: SS, error: 0, at: 'bad', rsp: 0x800000000008n });
  });

  it('SS may be null below CPL 3, and only with RPL = CPL', async () => {
    const b = await bare('long64');
    expect(b.run('xor eax, eax\nmov ss, eax\npush rax\ngood: hlt').at).toBe('good');
    expect(b.fault('mov eax, 1\nbad: mov ss, eax\nhlt')).toEqual({ vector: GP, error: 0, at: 'bad' });
    const user = await bare('long64', { cpl: 3 });
    expect(user.fault('mov eax, 3\nbad: mov ss, eax')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });

  it('LTR and LLDT read 16-byte descriptors', async () => {
    const b = await bare('long64');
    b.write64(GDT + SEL.TSS2 + 8, 0xffff8000n);
    b.run('mov eax, TSS2\nltr ax\nhlt');
    expect(hex(b.get('tr_base'))).toBe('0xffff800000004000');
    const bad = await bare('long64');
    bad.write64(GDT + SEL.TSS2 + 8, 0x0100_0000n);
    expect(bad.fault('mov eax, TSS2\nbad: ltr ax\nhlt')).toEqual({ vector: GP, error: SEL.TSS2, at: 'bad' });
  });
});

describe('descriptor queries', () => {
  const zf = 0x40n;
  it.each([
    ['lar', SEL.DATA, 0xc09200n],
    ['lar', SEL.TSS, 0x8b00n],
    ['lsl', SEL.DATA, 0xffffffffn],
    ['lsl', SEL.SMALL, 0xffn],
    ['lsl', SEL.TSS, 0x88n],
  ])('%s of %i', async (name, selector, value) => {
    const b = await bare('prot32');
    b.run(`mov eax, ${selector}\nmov ecx, -1\n${name} ecx, eax\nhlt`);
    expect([hex(b.get('rcx')), b.get('rflags') & zf]).toEqual([hex(value), zf]);
  });

  it.each(['lar', 'lsl'])('%s leaves its target alone for null, absent and inner selectors', async (name) => {
    const b = await bare('prot32', { cpl: 3 });
    for (const selector of [0, 0x100, SEL.DATA]) {
      b.put({ rsp: USER_STACK });
      b.segment('ss', SEL.UDATA, 0xc0f3);
      b.segment('cs', SEL.UCODE32, 0xc0fb);
      b.run(`mov eax, ${selector}\nmov ecx, 7\ncmp eax, eax\n${name} ecx, eax\nint 0x80`);
      expect([b.get('rcx'), b.get('rflags') & zf]).toEqual([7n, 0n]);
    }
  });

  it.each([
    ['verr', SEL.READONLY, zf],
    ['verw', SEL.READONLY, 0n],
    ['verr', SEL.EXECONLY, 0n],
    ['verr', SEL.CODE32, zf],
    ['verw', SEL.CODE32, 0n],
    ['verr', SEL.TSS, 0n],
    ['verw', SEL.DATA, zf],
  ])('%s of %i', async (name, selector, expected) => {
    const b = await bare('prot32');
    b.run(`mov eax, ${selector}\n${name} ax\nhlt`);
    expect(b.get('rflags') & zf).toBe(expected);
  });

  it('are #UD in real mode', async () => {
    const b = await bare('real');
    expect(b.fault('bad: lar ax, bx\nhlt')).toEqual({ vector: UD, error: undefined, at: 'bad' });
  });
});

describe('descriptor-table registers', () => {
  it('LGDT with 16-bit operand size takes a 24-bit base; SGDT stores all of it', async () => {
    const b = await bare('real');
    b.run(
      'lgdt [table]\nsgdt [0x6000]\ndata32 lgdt [table]\nsgdt [0x6010]\nhlt\ntable: .word 0x1234\n.long 0x89abcdef',
    );
    expect([b.read16(0x6000), hex(b.read32(0x6002))]).toEqual([0x1234, '0xabcdef']);
    expect([b.read16(0x6010), hex(b.read32(0x6012))]).toEqual([0x1234, '0x89abcdef']);
  });

  it('64-bit mode uses ten bytes; a non-canonical base is #GP(0)', async () => {
    const b = await bare('long64');
    b.run('lidt [rip+table]\nsidt [0x6000]\nhlt\ntable: .word 0xfff\n.quad 0xffff800000003000');
    expect([b.read16(0x6000), hex(b.read64(0x6002))]).toEqual([0xfff, '0xffff800000003000']);
    const bad = await bare('long64');
    const source = 'bad: lidt [rip+table]\nhlt\ntable: .word 0xfff\n.quad 0x0100000000003000';
    expect(bad.fault(source)).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('delivery through the real-mode IVT', () => {
  it('pushes FLAGS, CS, IP and clears IF, TF, AC', async () => {
    const b = await bare('real');
    b.put({ rflags: 0x40202 });
    const stop = b.run('int 0x30\nnext: hlt');
    expect(stop).toMatchObject({ vector: 0x30, at: 'next' });
    expect(stop.frame.slice(0, 3)).toEqual([b.label('next'), 0n, 0x202n]);
    expect([hex(b.get('rsp')), hex(b.get('rflags'))]).toEqual(['0x7efa', '0x2']);
  });

  it('an exception beyond the limit of the IVT is a double fault, then a shutdown', async () => {
    const b = await bare('real');
    b.put({ idtr_limit: 8 * 4 + 3 });
    expect(b.run('bad: int 0x30\nhlt')).toMatchObject({ vector: DF, at: 'bad' });
    b.put({ idtr_limit: 8 * 4 + 2 });
    expect(b.run('bad: int 0x30\nhlt')).toMatchObject({ reason: 'shutdown', at: 'bad' });
  });
});

describe('delivery through 32-bit gates', () => {
  it('an interrupt gate clears IF, a trap gate does not', async () => {
    const b = await bare('prot32');
    b.gate(0x31, SEL.CODE32, 0x8f);
    b.put({ rflags: 0x202 });
    const stop = b.run('int 0x30\nnext: hlt');
    expect(stop).toMatchObject({ vector: 0x30, at: 'next' });
    expect(stop.frame.slice(0, 3)).toEqual([b.label('next'), 0x18n, 0x202n]);
    expect([hex(b.get('rsp')), hex(b.get('rflags'))]).toEqual([hex(KERNEL_STACK - 12), '0x2']);
    b.put({ rflags: 0x202 });
    expect(b.run('int 0x31\nnext: hlt')).toMatchObject({ vector: 0x31, at: 'next' });
    expect(hex(b.get('rflags'))).toBe('0x202');
  });

  it('a 16-bit gate pushes words', async () => {
    const b = await bare('prot32');
    b.gate(0x30, SEL.CODE16, 0x86);
    const stop = b.run('int 0x30\nnext: hlt');
    expect(stop).toMatchObject({ vector: 0x30, at: 'next' });
    expect(b.get('rsp')).toBe(BigInt(KERNEL_STACK - 6));
  });

  it('faults push RF, interrupts and traps do not', async () => {
    const b = await bare('prot32');
    expect(b.run('bad: ud2').frame[2]).toBe(0x10002n);
    expect(b.run('int3').frame[2]).toBe(0x2n);
  });

  it.each([
    ['a gate that is not present', 0x30, gate(SEL.CODE32, HANDLERS, 0x0e), NP, 0x182],
    ['a call gate', 0x30, gate(SEL.CODE32, HANDLERS, 0x8c), GP, 0x182],
    ['a null code selector', 0x30, gate(0, HANDLERS, 0x8e), GP, 0],
    ['a data segment', 0x30, gate(SEL.DATA, HANDLERS, 0x8e), GP, SEL.DATA],
    ['code that is not present', 0x30, gate(SEL.NOCODE, HANDLERS, 0x8e), NP, SEL.NOCODE],
    ['code of an outer level', 0x30, gate(SEL.UCODE32, HANDLERS, 0x8e), GP, SEL.UCODE32 & ~3],
    ['an offset beyond the limit', 0x30, gate(SEL.CODE16, 0x10000, 0x8e), GP, 0],
  ])('INT n through %s', async (_, vector, value, expected, error) => {
    const b = await bare('prot32');
    b.write64(IDT + vector * 8, value);
    expect(b.fault('bad: int 0x30\nhlt')).toEqual({ vector: expected, error, at: 'bad' });
    expect(b.get('rsp')).toBe(BigInt(KERNEL_STACK - 16));
  });

  it('a vector beyond the IDT limit', async () => {
    const b = await bare('prot32');
    b.put({ idtr_limit: 0x30 * 8 + 6 });
    expect(b.fault('bad: int 0x30\nhlt')).toEqual({ vector: GP, error: 0x182, at: 'bad' });
  });

  it.each([
    ['int 0x30', GP, 0x182],
    ['int3', GP, 0x1a],
    ['int 3', GP, 0x1a],
    ['mov al, 127\nadd al, 1\nbad: into', GP, 0x22],
  ])('at CPL 3, %s needs a gate of DPL 3', async (source, vector, error) => {
    const b = await bare('prot32', { cpl: 3 });
    const text = source.includes('bad:') ? source : `bad: ${source}`;
    expect(b.fault(text)).toEqual({ vector, error, at: 'bad' });
  });

  it('exceptions and INT1 ignore the DPL of the gate', async () => {
    const b = await bare('prot32', { cpl: 3 });
    expect(b.fault('bad: ud2')).toEqual({ vector: UD, error: undefined, at: 'bad' });
    const c = await bare('prot32', { cpl: 3 });
    expect(c.fault('.byte 0xf1\nnext: nop')).toEqual({ vector: DB, error: undefined, at: 'next' });
  });

  it('takes SS:ESP from the TSS when the privilege changes', async () => {
    const b = await bare('prot32', { cpl: 3 });
    const stop = b.run('int 0x80\nnext: nop');
    expect(stop.frame.slice(0, 5)).toEqual([
      b.label('next'),
      BigInt(SEL.UCODE32),
      2n,
      BigInt(USER_STACK),
      BigInt(SEL.UDATA),
    ]);
    expect([hex(b.get('rsp')), b.get('ss'), b.get('cs'), b.state.cpl]).toEqual([
      hex(TSS_STACK - 20),
      BigInt(SEL.DATA),
      BigInt(SEL.CODE32),
      0,
    ]);
    // Data segments stay as they are.
    expect(b.get('ds')).toBe(BigInt(SEL.UDATA));
  });

  it('a conforming handler runs at the CPL of the interrupted code', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.gate(0x30, SEL.CONFORM, 0xee);
    // HLT in the handler is then privileged.
    expect(b.fault('int 0x30')).toEqual({ vector: GP, error: 0, at: hex(HANDLERS + 0x300) });
    expect(b.read32(USER_STACK - 8)).toBe(SEL.UCODE32);
  });

  const stacks: readonly (readonly [string, number, number, number, number])[] = [
    ['null', 0, 0x88, TS, 0],
    ['RPL 0', SEL.DATA, 0x88, TS, SEL.DATA],
    ['beyond the GDT', 0x101, 0x88, TS, 0x100],
    ['DPL 3', SEL.UDATA & ~2, 0x88, TS, SEL.UDATA & ~3],
    ['a TSS limit of 0x10', SEL.DATA1, 0x10, TS, SEL.TSS],
  ];
  it.each(stacks)('a stack selector for level 1 that is bad: %s', async (_, selector, limit, vector, error) => {
    const b = await bare('prot32', { cpl: 3 });
    b.gate(0x30, SEL.CODE1, 0xee);
    b.write32(TSS + 16, selector);
    b.put({ tr_limit: limit });
    expect(b.fault('bad: int 0x30')).toEqual({ vector, error, at: 'bad' });
  });

  it('a stack segment for level 1 that is not present is #SS(selector)', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.gate(0x30, SEL.CODE1, 0xee);
    b.cpu.memory[GDT + (SEL.DATA1 & ~7) + 5] = 0x32;
    expect(b.fault('bad: int 0x30')).toEqual({ vector: SS, error: SEL.DATA1 & ~3, at: 'bad' });
  });
});

describe('delivery through 64-bit gates', () => {
  it('aligns the stack and always pushes SS:RSP', async () => {
    const b = await bare('long64');
    b.put({ rsp: KERNEL_STACK - 3, rflags: 0x202 });
    const stop = b.run('int 0x30\nnext: hlt');
    expect(stop).toMatchObject({ vector: 0x30, at: 'next' });
    expect(stop.frame.slice(0, 5)).toEqual([b.label('next'), 8n, 0x202n, BigInt(KERNEL_STACK - 3), 0x10n]);
    expect([hex(b.get('rsp')), hex(b.get('rflags'))]).toEqual([hex(KERNEL_STACK - 16 - 40), '0x2']);
  });

  it('pushes the error code as eight bytes', async () => {
    const b = await bare('long64');
    expect(b.fault('mov eax, ABSENT\nbad: mov ds, eax\nhlt')).toEqual({ vector: NP, error: SEL.ABSENT, at: 'bad' });
    expect(b.get('rsp')).toBe(BigInt(KERNEL_STACK - 48));
  });

  it('an IST entry switches stacks without a change of privilege and leaves SS', async () => {
    const b = await bare('long64');
    b.gate(0x30, SEL.CODE64, 0x8e, 1);
    const stop = b.run('int 0x30\nnext: hlt');
    expect(stop.frame.slice(0, 5)).toEqual([b.label('next'), 8n, 2n, BigInt(KERNEL_STACK), 0x10n]);
    expect([hex(b.get('rsp')), b.get('ss')]).toEqual([hex(IST_STACK - 40), 0x10n]);
  });

  it('from CPL 3 loads RSP0 and a null SS', async () => {
    const b = await bare('long64', { cpl: 3 });
    const stop = b.run('int 0x80\nnext: nop');
    expect(stop.frame.slice(0, 5)).toEqual([
      b.label('next'),
      BigInt(SEL.UCODE64),
      2n,
      BigInt(USER_STACK),
      BigInt(SEL.UDATA),
    ]);
    expect([hex(b.get('rsp')), b.get('ss'), b.state.cpl]).toEqual([hex(TSS_STACK - 40), 0n, 0]);
    expect(b.get('ss_attr') & 0x10000n).toBe(0x10000n);
  });

  it('from compatibility mode pushes eight bytes each as well', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.segment('cs', SEL.UCODE32, 0xc0fb);
    const stop = b.run('.code32\nint 0x80\nnext: nop');
    expect(stop.frame.slice(0, 5)).toEqual([
      b.label('next'),
      BigInt(SEL.UCODE32),
      2n,
      BigInt(USER_STACK),
      BigInt(SEL.UDATA),
    ]);
  });

  it.each([
    ['32-bit code', gate(SEL.CODE32, HANDLERS, 0x8e), 0n, GP, SEL.CODE32],
    ['code with L and D', gate(SEL.CODELD, HANDLERS, 0x8e), 0n, GP, SEL.CODELD],
    ['a 16-bit gate', gate(SEL.CODE64, HANDLERS, 0x86), 0n, GP, 0x182],
    ['a task gate', gate(SEL.TSS2, HANDLERS, 0x85), 0n, GP, 0x182],
    ['a gate that is not present', gate(SEL.CODE64, HANDLERS, 0x0e), 0n, NP, 0x182],
    ['a non-canonical offset', gate(SEL.CODE64, HANDLERS, 0x8e), 0x8000n, GP, 0],
  ])('INT n through %s', async (_, low, high, vector, error) => {
    const b = await bare('long64');
    b.write64(IDT + 0x300, low);
    b.write64(IDT + 0x308, high);
    expect(b.fault('bad: int 0x30\nhlt')).toEqual({ vector, error, at: 'bad' });
  });

  it('an IST beyond the TSS limit is #TS(TR)', async () => {
    const b = await bare('long64');
    b.gate(0x30, SEL.CODE64, 0x8e, 1);
    b.put({ tr_limit: 0x2a });
    expect(b.fault('bad: int 0x30\nhlt')).toEqual({ vector: TS, error: SEL.TSS, at: 'bad' });
  });

  it('a non-canonical stack pointer in the TSS is #SS(0)', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.gate(0x30, SEL.CODE1, 0xee);
    b.write64(TSS + 12, 0x800000000010n);
    expect(b.fault('bad: int 0x30')).toEqual({ vector: SS, error: 0, at: 'bad' });
  });
});

describe('faults during delivery', () => {
  it('a first fault of a hardware exception has EXT set', async () => {
    const b = await bare('prot32');
    b.write64(IDT + UD * 8, gate(SEL.CODE32, HANDLERS, 0x0e));
    expect(b.fault('bad: ud2')).toEqual({ vector: NP, error: 0x33, at: 'bad' });
    b.write64(IDT + UD * 8, gate(0, HANDLERS, 0x8e));
    expect(b.fault('bad: ud2')).toEqual({ vector: GP, error: 1, at: 'bad' });
  });

  it('an external interrupt through an absent gate is #NP with EXT', async () => {
    const b = await bare('prot32');
    b.write64(IDT + 0x40 * 8, gate(SEL.CODE32, HANDLERS, 0x0e));
    b.state.inject(0x80000040, 0, 0);
    expect(b.fault('bad: nop\nhlt')).toEqual({ vector: NP, error: 0x203, at: 'bad' });
  });

  it('a contributory fault during a contributory fault is #DF(0)', async () => {
    const b = await bare('prot32');
    b.write64(IDT + GP * 8, gate(SEL.CODE32, HANDLERS, 0x0e));
    expect(b.fault('xor eax, eax\nbad: mov ss, eax')).toEqual({ vector: DF, error: 0, at: 'bad' });
  });

  it('a page fault during a page fault is #DF(0)', async () => {
    const b = await bare('long64');
    b.gate(DF, SEL.CODE64, 0x8e, 1);
    b.put({ rsp: 0x400100 });
    expect(b.fault('bad: push rax')).toEqual({ vector: DF, error: 0, at: 'bad' });
    // The first fault's address is in CR2; the second did not reach it.
    expect(hex(b.get('cr2'))).toBe('0x4000f8');
  });

  it.each([
    ['#UD', 'bad: ud2'],
    ['#GP', 'mov eax, 0x100\nbad: mov ds, eax'],
  ])('a page fault during %s is delivered', async (_, source) => {
    const b = await bare('long64');
    b.gate(PF, SEL.CODE64, 0x8e, 1);
    b.put({ rsp: 0x400100 });
    expect(b.fault(source)).toEqual({ vector: PF, error: 2, at: 'bad' });
    expect(hex(b.get('cr2'))).toBe('0x4000f8');
  });

  it('a fault during a double fault shuts down, with the registers of before', async () => {
    const b = await bare('prot32');
    b.put({ idtr_limit: 0 });
    expect(b.run('mov eax, 5\nbad: ud2')).toMatchObject({ reason: 'shutdown', at: 'bad' });
    expect([b.get('rax'), b.get('rsp'), b.get('cs')]).toEqual([5n, BigInt(KERNEL_STACK), BigInt(SEL.CODE32)]);
  });

  it('a frame outside RAM is an internal exit with its guest-physical address', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x100 * 8, 0x40000007n);
    b.put({ rsp: 0x101000 });
    b.load('bad: int 0x30');
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'internal', code: 1, addressLo: 0x40000ff8, addressHi: 0 });
    expect([b.get('rip'), hex(b.get('rsp'))]).toEqual([b.label('bad'), '0x101000']);
  });

  it('exceptions in the bitmap are exits, also the double fault made of others', async () => {
    const b = await bare('prot32');
    b.state.exceptionBitmap = 1 << UD;
    b.load('bad: ud2');
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: UD, hasErrorCode: false, errorCode: 0 });
    expect(b.get('rip')).toBe(b.label('bad'));
    b.state.exceptionBitmap = 1 << DF;
    b.write64(IDT + GP * 8, gate(SEL.CODE32, HANDLERS, 0x0e));
    b.load('xor eax, eax\nbad: mov ss, eax');
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: DF, hasErrorCode: true, errorCode: 0 });
  });

  it('an intercepted page fault leaves CR2 alone and carries the address', async () => {
    const b = await bare('long64');
    b.state.exceptionBitmap = 1 << PF;
    b.load('bad: mov [0x400000], al');
    expect(b.cpu.run(0, 10)).toMatchObject({
      reason: 'exception',
      vector: PF,
      hasErrorCode: true,
      errorCode: 2,
      addressLo: 0x400000,
      addressHi: 0,
    });
    expect(b.get('cr2')).toBe(0n);
  });
});

describe('IRET', () => {
  it('goes to CPL 3 and nulls data segments of inner levels', async () => {
    const b = await bare('prot32');
    b.segment('es', SEL.UDATA, 0xc0f3);
    const stop = b.run(`
      push UDATA
      push 0x27000
      push 0x3246
      push UCODE32
      push offset user
      iretd
    user:
      int 0x80
    next:
    `);
    expect(stop.frame.slice(0, 5)).toEqual([
      b.label('next'),
      BigInt(SEL.UCODE32),
      0x3246n,
      0x27000n,
      BigInt(SEL.UDATA),
    ]);
    expect([b.get('es'), b.get('ds'), b.get('fs'), b.get('gs')]).toEqual([BigInt(SEL.UDATA), 0n, 0n, 0n]);
    expect(b.get('ds_attr') & 0x10000n).toBe(0x10000n);
  });

  it('at CPL 3 changes neither IF nor IOPL', async () => {
    const b = await bare('prot32', { cpl: 3 });
    const stop = b.run('push 0x3ed7\npush UCODE32\npush offset user\niretd\nuser: int 0x80');
    expect(hex(stop.frame[2])).toBe('0xcd7');
  });

  it.each([
    ['null CS', 'push 2\npush 0', 'user', GP, 0],
    ['data', 'push 2\npush DATA', 'user', GP, SEL.DATA],
    ['absent code', 'push 2\npush NOCODE', 'user', NP, SEL.NOCODE],
    ['code of an inner level than its RPL', 'push 2\npush CODE32+3', 'user', GP, SEL.CODE32],
    ['an offset beyond the limit', 'push 2\npush CODE16', '0x10000', GP, 0],
    ['null SS', 'push 0\npush 0x27000\npush 2\npush UCODE32', 'user', GP, 0],
    ['SS of another level', 'push DATA\npush 0x27000\npush 2\npush UCODE32', 'user', GP, SEL.DATA],
    ['CS beyond the GDT', 'push 2\npush 0x100', 'user', GP, 0x100],
  ])('in protected mode to %s', async (_, pushes, offset, vector, error) => {
    const b = await bare('prot32');
    expect(b.fault(`${pushes}\npush offset ${offset}\nbad: iretd\nuser: hlt`)).toEqual({ vector, error, at: 'bad' });
  });

  it('with NT set is #GP(0) in IA-32e mode', async () => {
    const b = await bare('long64');
    b.put({ rflags: 0x4002 });
    expect(b.fault('bad: iretq')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });

  it('in 64-bit mode pops SS:RSP at the same level; SS may be null at CPL 0', async () => {
    const b = await bare('long64');
    const stop = b.run(
      'push 0\npush 0x1e000\npush 0x2\npush CODE64\nlea rax, [rip+there]\npush rax\niretq\nthere: hlt',
    );
    expect(stop.at).toBe('there');
    expect([hex(b.get('rsp')), b.get('ss')]).toEqual(['0x1e000', 0n]);
  });

  it.each([
    ['null SS for CPL 3', 'push 3', 'UCODE64', '[rip+user]', GP, 0],
    ['null SS for compatibility mode', 'push 0', 'CODE32', '[rip+user]', GP, 0],
    ['a non-canonical RIP', 'push UDATA', 'UCODE64', '', GP, 0],
    ['L and D', 'push DATA', 'CODELD', '[rip+user]', GP, SEL.CODELD],
  ])('in 64-bit mode to %s', async (_, ss, cs, target, vector, error) => {
    const b = await bare('long64');
    const load = target === '' ? 'mov rax, 0x800000000000' : `lea rax, ${target}`;
    const source = `${ss}\npush 0x1e000\npush 0x2\npush ${cs}\n${load}\npush rax\nbad: iretq\nuser: hlt`;
    expect(b.fault(source)).toEqual({ vector, error, at: 'bad' });
  });

  it('goes from 64-bit mode to compatibility mode at CPL 3', async () => {
    const b = await bare('long64');
    const stop = b.run(`
      push UDATA
      push 0x27000
      push 0x202
      push UCODE32
      lea rax, [rip+user]
      push rax
      iretq
    .code32
    user:
      inc eax
      push 0x1234
      int 0x80
    next:
    `);
    expect(stop.frame.slice(0, 5)).toEqual([b.label('next'), BigInt(SEL.UCODE32), 0x202n, 0x26ffcn, BigInt(SEL.UDATA)]);
    expect(b.read32(0x26ffc)).toBe(0x1234);
  });

  it('in real mode restores FLAGS', async () => {
    const b = await bare('real');
    b.cpu.memory[HANDLERS + 0x300] = 0xcf;
    b.put({ rflags: 0x202 });
    expect(b.run('int 0x30\nnext: hlt').at).toBe('next');
    expect([hex(b.get('rsp')), hex(b.get('rflags'))]).toEqual(['0x7f00', '0x202']);
  });
});

describe('virtual-8086 mode', () => {
  const enter = (flags: number, body: string): string => `
      push 0
      push 0x30
      push 0x20
      push 0x10
      push 0x700
      push 0x100
      push ${flags}
      push 0x800
      push 0
      iretd
    .org 0x8080
    .code16
    vm:
    ${body}
  `;
  const start = async (flags: number, body: string) => {
    const b = await bare('prot32');
    const stop = b.run(
      `mov esp, 0x1f000\n${enter(flags, body)}`.replace('push 0\n      iretd', 'push offset vm - 0x8000\n      iretd'),
    );
    return { b, stop };
  };

  it('IRET enters it; INT n with IOPL 3 leaves it with the segments on the stack', async () => {
    const { b, stop } = await start(0x23202, 'mov ax, cs\nmov ds, ax\nmov bx, [0]\nint 0x80\nnext:');
    expect(stop.vector).toBe(0x80);
    expect(stop.frame.slice(0, 9)).toEqual([
      b.label('next') - 0x8000n,
      0x800n,
      0x23202n,
      0x100n,
      0x700n,
      0x10n,
      0x800n,
      0x30n,
      0n,
    ]);
    expect([b.get('ds'), b.get('es'), b.get('cs'), b.state.cpl]).toEqual([0n, 0n, BigInt(SEL.CODE32), 0]);
    expect(hex(b.get('rsp'))).toBe(hex(TSS_STACK - 36));
    expect(hex(b.get('rflags'))).toBe('0x3002');
  });

  it.each(['int 0x80', 'pushf', 'popf', 'cli', 'sti', 'iret'])('%s below IOPL 3 is #GP(0)', async (instruction) => {
    const { b, stop } = await start(0x20202, instruction);
    expect([stop.vector, stop.error, stop.frame[0]]).toEqual([GP, 0, b.label('vm') - 0x8000n]);
  });

  it.each(['hlt', 'mov eax, cr0', 'in al, 0x10'])('%s is #GP(0) even with IOPL 3', async (instruction) => {
    const { b, stop } = await start(0x23202, instruction);
    expect([stop.vector, stop.error, stop.frame[0]]).toEqual([GP, 0, b.label('vm') - 0x8000n]);
  });

  it('POPF and IRET with IOPL 3 change IF but not IOPL', async () => {
    const { stop } = await start(
      0x23202,
      'push 0\npopf\npush 0x2\npush cs\npush offset there - 0x8000\niret\nthere: int 0x80',
    );
    expect(hex(stop.frame[2])).toBe('0x23002');
  });
});

describe('far transfers', () => {
  it.each([
    ['null', 'jmp 0:there', GP, 0],
    ['data', 'jmp DATA:there', GP, SEL.DATA],
    ['absent code', 'jmp NOCODE:there', NP, SEL.NOCODE],
    ['code of another level', 'jmp UCODE32:there', GP, SEL.UCODE32 & ~3],
    ['an offset beyond the limit', 'jmp CODE16:0x10000', GP, 0],
    ['code beyond the GDT', 'call 0x100:there', GP, 0x100],
  ])('to %s', async (_, instruction, vector, error) => {
    const b = await bare('prot32');
    expect(b.fault(`bad: ${instruction}\nthere: hlt`)).toEqual({ vector, error, at: 'bad' });
  });

  it('CALL pushes CS:EIP; RET releases its parameters', async () => {
    const b = await bare('prot32');
    const stop = b.run('push 1\npush 2\ncall CODE32:there\nnext: hlt\nthere: mov ecx, [esp]\nmov edx, [esp+4]\nretf 8');
    expect(stop.at).toBe('next');
    expect([b.get('rcx'), b.get('rdx'), b.get('rsp')]).toEqual([b.label('next'), 0x18n, BigInt(KERNEL_STACK)]);
  });

  it('conforming code runs at the CPL of the caller', async () => {
    const b = await bare('prot32', { cpl: 3 });
    const stop = b.run('call CONFORM:there\nthere: int 0x80\nnext:');
    expect(stop.frame.slice(0, 2)).toEqual([b.label('next'), BigInt(SEL.CONFORM | 3)]);
  });

  it('RET to an outer level pops SS:ESP and releases from both stacks', async () => {
    const b = await bare('prot32');
    const stop = b.run(`
      push UDATA
      push 0x26000
      push 7
      push UCODE32
      push offset user
      retf 4
    user:
      int 0x80
    next:
    `);
    expect(stop.frame.slice(0, 5)).toEqual([b.label('next'), BigInt(SEL.UCODE32), 2n, 0x26004n, BigInt(SEL.UDATA)]);
    expect(b.get('ds')).toBe(0n);
  });

  const callGate = (selector: number, offset: number, attr: number, count: number): bigint =>
    gate(selector, offset, attr, count);

  it('a 32-bit call gate switches stacks and copies parameters', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.write64(GDT + SEL.GATE, callGate(SEL.CODE32, CODE + 0x100, 0xec, 2));
    const stop = b.run('push 0x11\npush 0x22\ncall UGATE:0\nnext: int 0x80\nafter:\n.org 0x8100\nhlt');
    expect(stop.reason).toBe('hlt');
    const top = Number(b.get('rsp'));
    expect([0, 4, 8, 12, 16, 20].map((at) => b.read32(top + at))).toEqual([
      Number(b.label('next')),
      SEL.UCODE32,
      0x22,
      0x11,
      USER_STACK - 8,
      SEL.UDATA,
    ]);
    expect([b.state.cpl, b.get('ss'), top]).toEqual([0, BigInt(SEL.DATA), TSS_STACK - 24]);
  });

  it('a 16-bit call gate pushes words', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.write64(GDT + SEL.GATE, callGate(SEL.CODE32, CODE + 0x100, 0xe4, 0));
    b.run('call UGATE:0\nnext: nop\n.org 0x8100\nhlt');
    const top = Number(b.get('rsp'));
    expect([0, 2, 4, 6].map((at) => b.read16(top + at))).toEqual([
      Number(b.label('next')),
      SEL.UCODE32,
      USER_STACK & 0xffff,
      SEL.UDATA,
    ]);
  });

  it('a 64-bit call gate pushes SS, RSP, CS, RIP and loads a null SS', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.write64(GDT + SEL.GATE, callGate(SEL.CODE64, CODE + 0x100, 0xec, 0));
    b.write64(GDT + SEL.GATE + 8, 0n);
    b.write32(0x9000, 0);
    b.write16(0x9004, SEL.GATE | 3);
    b.run('call fword ptr [0x9000]\nnext: nop\n.org 0x8100\nhlt');
    const top = Number(b.get('rsp'));
    expect([0, 8, 16, 24].map((at) => b.read64(top + at))).toEqual([
      b.label('next'),
      BigInt(SEL.UCODE64),
      BigInt(USER_STACK),
      BigInt(SEL.UDATA),
    ]);
    expect([b.state.cpl, b.get('ss'), top]).toEqual([0, 0n, TSS_STACK - 32]);
  });

  it.each([
    ['a gate of DPL 0', callGate(SEL.CODE32, CODE, 0x8c, 0), GP, SEL.GATE],
    ['a gate that is not present', callGate(SEL.CODE32, CODE, 0x6c, 0), NP, SEL.GATE],
    ['a null code selector', callGate(0, CODE, 0xec, 0), GP, 0],
    ['data', callGate(SEL.DATA, CODE, 0xec, 0), GP, SEL.DATA],
  ])('CALL from CPL 3 through %s', async (_, value, vector, error) => {
    const b = await bare('prot32', { cpl: 3 });
    b.write64(GDT + SEL.GATE, value);
    expect(b.fault('bad: call UGATE:0')).toEqual({ vector, error, at: 'bad' });
  });

  it('JMP through a call gate cannot change the privilege', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.write64(GDT + SEL.GATE, callGate(SEL.CODE32, CODE, 0xec, 0));
    expect(b.fault('bad: jmp UGATE:0')).toEqual({ vector: GP, error: SEL.CODE32, at: 'bad' });
  });
});

describe('fast system calls', () => {
  const star = (0x20n << 48n) | (0x08n << 32n) | 0x9000n;
  const msrs = { star, lstar: 0x8100, cstar: 0x8200, fmask: 0x200 };

  it.each(VENDORS)('SYSCALL and SYSRET in 64-bit mode (%s)', async (vendor) => {
    const b = await bare('long64', { cpl: 3, vendor });
    b.put({ ...msrs, rflags: 0x246 });
    const stop = b.run('syscall\nnext: int 0x80\nafter: nop\n.org 0x8100\nhlt\nsysretq');
    expect(stop.at).toBe('0x8100');
    expect([b.get('cs'), b.get('ss'), b.state.cpl, b.get('rcx'), hex(b.get('r11')), hex(b.get('rflags'))]).toEqual([
      8n,
      0x10n,
      0,
      b.label('next'),
      '0x246',
      '0x46',
    ]);
    expect([hex(b.get('cs_attr')), hex(b.get('ss_attr'))]).toEqual(['0xa09b', '0xc093']);
    expect(b.get('rsp')).toBe(BigInt(USER_STACK));
    const back = b.resume();
    expect(back.frame.slice(0, 5)).toEqual([b.label('after'), 0x33n, 0x246n, BigInt(USER_STACK), 0x2bn]);
  });

  it('SYSRET without REX.W returns to compatibility mode', async () => {
    const b = await bare('long64');
    b.put({ ...msrs, rcx: 0x8100, r11: 0x202 });
    const stop = b.run('sysretd\n.org 0x8100\n.code32\ninc eax\nint 0x80\nnext:');
    expect(stop.frame.slice(0, 2)).toEqual([b.label('next'), 0x23n]);
  });

  it('SYSRET to a non-canonical RCX: #GP at CPL 0 on Intel, at CPL 3 on AMD', async () => {
    const intel = await bare('long64', { vendor: 'intel' });
    intel.put({ ...msrs, rcx: 0x800000000000n, r11: 2 });
    expect(intel.fault('bad: sysretq')).toEqual({ vector: GP, error: 0, at: 'bad' });
    const amd = await bare('long64', { vendor: 'amd' });
    amd.put({ ...msrs, rcx: 0x800000000000n, r11: 2 });
    const stop = amd.run('bad: sysretq');
    expect([stop.vector, stop.error, hex(stop.frame[0]), stop.frame[1]]).toEqual([GP, 0, '0x800000000000', 0x33n]);
  });

  it('SYSCALL in compatibility mode: #UD on Intel, CSTAR on AMD', async () => {
    const intel = await bare('long64', { cpl: 3, vendor: 'intel' });
    intel.segment('cs', SEL.UCODE32, 0xc0fb);
    intel.put(msrs);
    expect(intel.fault('.code32\nbad: syscall')).toEqual({ vector: UD, error: undefined, at: 'bad' });
    const amd = await bare('long64', { cpl: 3, vendor: 'amd' });
    amd.segment('cs', SEL.UCODE32, 0xc0fb);
    amd.put(msrs);
    expect(amd.run('.code32\nsyscall\nnext: nop\n.org 0x8200\nhlt').at).toBe('0x8200');
    expect([amd.state.is64bit, amd.get('rcx')]).toEqual([true, amd.label('next')]);
  });

  it('are #UD without EFER.SCE; SYSRET is #GP(0) at CPL 3', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ efer: 0xd00 });
    expect(b.fault('bad: syscall')).toEqual({ vector: UD, error: undefined, at: 'bad' });
    const c = await bare('long64', { cpl: 3 });
    expect(c.fault('bad: sysretq')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });

  it('SYSENTER and SYSEXIT in protected mode', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.write64(GDT + 0x98, b.read64(GDT + SEL.CODE32));
    b.put({ sysenter_cs: 0x18, sysenter_esp: 0x1e000, sysenter_eip: 0x8100, rflags: 0x202 });
    b.run('sysenter\n.org 0x8100\nhlt\nmov ecx, 0x26000\nmov edx, offset user\nsysexit\nuser: int 0x80\nnext:');
    expect([b.get('cs'), b.get('ss'), b.state.cpl, hex(b.get('rsp')), hex(b.get('rflags'))]).toEqual([
      0x18n,
      0x20n,
      0,
      '0x1e000',
      '0x2',
    ]);
    expect(b.resume().frame.slice(0, 5)).toEqual([b.label('next'), 0x2bn, 0x2n, 0x26000n, 0x33n]);
  });

  it('SYSENTER without SYSENTER_CS is #GP(0), in long mode on AMD #UD', async () => {
    const b = await bare('prot32', { cpl: 3 });
    expect(b.fault('bad: sysenter')).toEqual({ vector: GP, error: 0, at: 'bad' });
    const amd = await bare('long64', { cpl: 3, vendor: 'amd' });
    amd.put({ sysenter_cs: 8 });
    expect(amd.fault('bad: sysenter')).toEqual({ vector: UD, error: undefined, at: 'bad' });
  });

  it.each([
    ['intel', 'long64', 0, { sysenter_cs: 0 }, 'sysexit', GP],
    ['intel', 'long64', 3, { sysenter_cs: 8 }, 'sysexit', GP],
    ['intel', 'long64', 0, { sysenter_cs: 8, rcx: 1n << 47n }, 'rex.w sysexit', GP],
    ['intel', 'long64', 0, { sysenter_cs: 8, rdx: 1n << 47n }, 'rex.w sysexit', GP],
    ['intel', 'real', 0, { sysenter_cs: 8 }, 'sysexit', GP],
    ['intel', 'real', 0, { sysenter_cs: 8 }, 'sysenter', GP],
    ['intel', 'prot32', 0, { sysenter_cs: 3 }, 'sysexit', GP],
    ['amd', 'long64', 0, { sysenter_cs: 8 }, 'sysexit', UD],
    ['amd', 'long64', 3, { sysenter_cs: 8 }, 'sysexit', GP],
    ['amd', 'long64', 3, { sysenter_cs: 8 }, 'sysenter', UD],
    ['amd', 'prot32', 3, {}, 'sysexit', GP],
    ['amd', 'real', 0, {}, 'sysret', UD],
    ['intel', 'prot32', 0, { efer: 1 }, 'syscall', UD],
    ['intel', 'prot32', 3, { efer: 1 }, 'sysret', UD],
    ['amd', 'prot32', 3, { efer: 1 }, 'sysret', GP],
  ] as const)('%s, %s, CPL %i, %o: %s raises vector %i', async (vendor, mode, cpl, registers, code, vector) => {
    const b = await bare(mode, { vendor, cpl });
    b.put(registers);
    const bytes = {
      sysenter: '0x0f, 0x34',
      sysexit: '0x0f, 0x35',
      'rex.w sysexit': '0x48, 0x0f, 0x35',
      syscall: '0x0f, 0x05',
      sysret: '0x0f, 0x07',
    };
    const stop = b.fault(`bad: .byte ${bytes[code]}\nhlt`);
    expect([stop.vector, stop.at]).toEqual([vector, 'bad']);
  });

  it('SYSCALL masks the RPL of STAR out of CS only', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ star: 0x0023_000b_0000_0000n, lstar: 0x9000, fmask: 0 });
    b.cpu.memory[0x9000] = 0xf4;
    b.run('syscall');
    expect([b.get('cs'), b.get('ss'), b.state.cpl]).toEqual([8n, 0x13n, 0]);
  });

  it.each([
    ['mov eax, cr1', '0x0f, 0x20, 0xc8', UD],
    ['mov cr5, eax', '0x0f, 0x22, 0xe8', UD],
    ['mov rax, dr8', '0x44, 0x0f, 0x21, 0xc0', UD],
    ['mov rax, dr4', '0x0f, 0x21, 0xe0', GP],
    ['mov rax, cr8', '0x44, 0x0f, 0x20, 0xc0', GP],
  ])('as a processor has it at CPL 3, with CR4.DE: %s', async (_, bytes, vector) => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ cr4: 0x28 });
    expect(b.fault(`bad: .byte ${bytes}`)).toMatchObject({ vector, at: 'bad' });
  });

  it('SWAPGS exchanges the bases at CPL 0 only', async () => {
    const b = await bare('long64');
    b.put({ gs_base: 0x1111, kernel_gs_base: 0x2222 });
    b.run('swapgs\nhlt');
    expect([b.get('gs_base'), b.get('kernel_gs_base')]).toEqual([0x2222n, 0x1111n]);
    const user = await bare('long64', { cpl: 3 });
    expect(user.fault('bad: swapgs')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('MSRs the CPU owns', () => {
  const write = (msr: number, value: bigint): string =>
    `mov ecx, ${msr}\nmov eax, ${value & 0xffffffffn}\nmov edx, ${value >> 32n}\nbad: wrmsr\nrdmsr\nhlt`;
  const nonCanonical = 1n << 56n;

  it.each([
    ['sysenter_cs', 0x174, 0x123456789n, 0x23456789n],
    ['sysenter_esp', 0x175, 0xffff800000000010n, 0xffff800000000010n],
    ['star', 0xc0000081, 0xffeeddccbbaa9988n, 0xffeeddccbbaa9988n],
    ['lstar', 0xc0000082, 0xffffffff81000000n, 0xffffffff81000000n],
    ['fmask', 0xc0000084, 0xffffffffn, 0xffffffffn],
    ['fs_base', 0xc0000100, 0x7fff12345678n, 0x7fff12345678n],
    ['gs_base', 0xc0000101, 0xffff888000000000n, 0xffff888000000000n],
    ['kernel_gs_base', 0xc0000102, 0x1000n, 0x1000n],
    ['tsc_aux', 0xc0000103, 0x5n, 0x5n],
  ])('%s', async (name, msr, value, kept) => {
    const b = await bare('long64');
    expect(b.run(write(msr, value)).reason).toBe('hlt');
    expect(hex(b.get(name))).toBe(hex(kept));
    expect(hex((b.get('rdx') << 32n) | b.get('rax'))).toBe(hex(kept));
  });

  it.each([0x175, 0x176, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102])(
    'a non-canonical address in MSR %i is #GP(0)',
    async (msr) => {
      const b = await bare('long64', { vendor: 'intel' });
      expect(b.fault(write(msr, nonCanonical))).toEqual({ vector: GP, error: 0, at: 'bad' });
    },
  );

  it('the upper half of TSC_AUX is #GP(0) on Intel and ignored on AMD', async () => {
    const intel = await bare('long64', { vendor: 'intel' });
    expect(intel.fault(write(0xc0000103, 0x100000005n))).toEqual({ vector: GP, error: 0, at: 'bad' });
    const amd = await bare('long64', { vendor: 'amd' });
    amd.run(write(0xc0000103, 0x100000005n));
    expect(amd.get('tsc_aux')).toBe(5n);
  });
});

describe('paging in long mode', () => {
  const PAGE = 0x100000;
  const pte = PT + (PAGE >> 12) * 8;
  const READ = `mov rbx, ${PAGE}\nbad: mov al, [rbx]`;
  const WRITE = `mov rbx, ${PAGE}\nbad: mov [rbx], al`;
  const FETCH = `mov rbx, ${PAGE}\njmp rbx`;
  const NX = 1n << 63n;
  const base = BigInt(PAGE);

  const cases: readonly (readonly [string, 0 | 3, bigint, string, number | undefined])[] = [
    ['absent, supervisor read', 0, 0n, READ, 0],
    ['absent, supervisor write', 0, 0n, WRITE, 2],
    ['absent, supervisor fetch', 0, 0n, FETCH, 0x10],
    ['absent, user read', 3, 0n, READ, 4],
    ['absent, user write', 3, 0n, WRITE, 6],
    ['absent, user fetch', 3, 0n, FETCH, 0x14],
    ['read-only, supervisor write', 0, base | 5n, WRITE, 3],
    ['read-only, supervisor read', 0, base | 5n, READ, undefined],
    ['read-only, user write', 3, base | 5n, WRITE, 7],
    ['supervisor page, user read', 3, base | 3n, READ, 5],
    ['supervisor page, user write', 3, base | 3n, WRITE, 7],
    ['supervisor page, user fetch', 3, base | 3n, FETCH, 0x15],
    ['supervisor page, supervisor write', 0, base | 3n, WRITE, undefined],
    ['NX, supervisor fetch', 0, base | 7n | NX, FETCH, 0x11],
    ['NX, user fetch', 3, base | 7n | NX, FETCH, 0x15],
    ['NX, user read', 3, base | 7n | NX, READ, undefined],
    ['reserved bit 51, supervisor read', 0, base | 7n | (1n << 51n), READ, 9],
    ['reserved bit 51, supervisor write', 0, base | 7n | (1n << 51n), WRITE, 0xb],
    ['reserved bit 51, user write', 3, base | 7n | (1n << 51n), WRITE, 0xf],
    ['reserved bit 51, user fetch', 3, base | 7n | (1n << 51n), FETCH, 0x1d],
    ['ignored bits 62:52', 0, base | 7n | (0x7ffn << 52n), READ, undefined],
  ];
  it.each(cases)('%s', async (_, cpl, entry, access, error) => {
    const b = await bare('long64', { cpl });
    b.write64(pte, entry);
    const stop = b.run(`${access}\nint 0x80`);
    if (error === undefined) expect(stop.vector).toBe(0x80);
    else {
      expect([stop.vector, hex(stop.error!), hex(b.get('cr2'))]).toEqual([PF, hex(error), hex(PAGE)]);
      expect(stop.at).toBe(access === FETCH ? hex(PAGE) : 'bad');
    }
  });

  it('without CR0.WP the supervisor writes to read-only pages', async () => {
    const b = await bare('long64');
    b.write64(pte, base | 5n);
    const source = `mov rcx, cr0\nand ecx, 0xfffeffff\nmov cr0, rcx\n${WRITE}\nor ecx, 0x10000\nmov cr0, rcx\nworse: mov [rbx], al`;
    expect(b.fault(source)).toEqual({ vector: PF, error: 3, at: 'worse' });
  });

  it('a change of CR0.WP leaves translations that it says nothing about', async () => {
    const b = await bare('long64');
    const toggled = 'mov rcx, cr0\n btc ecx, 16\n mov cr0, rcx\n';
    const gone = `mov al, [rbx]\n mov byte ptr [rbx], 1\n mov qword ptr [${pte}], 0\n${toggled}mov [rbx], al\n${toggled}mov al, [rbx]`;
    b.write64(pte, base | 7n);
    expect(b.fault(`mov ebx, ${PAGE}\n${gone}\n invlpg [rbx]\nbad: mov al, [rbx]`)).toEqual({
      vector: PF,
      error: 0,
      at: 'bad',
    });
  });

  it('without EFER.NXE bit 63 is reserved and the I/D bit is not reported', async () => {
    const b = await bare('long64');
    b.put({ efer: 0x501 });
    b.write64(pte, base | 7n | NX);
    expect(b.fault(READ)).toEqual({ vector: PF, error: 9, at: 'bad' });
    b.put({ rsp: KERNEL_STACK });
    b.write64(pte, 0n);
    expect(b.fault(FETCH)).toEqual({ vector: PF, error: 0, at: hex(PAGE) });
  });

  it.each([
    ['PML4E', PML4],
    ['PDPTE', PDPT],
    ['PDE', PD],
  ])('a %s takes rights away from everything below it', async (_, table) => {
    const b = await bare('long64', { cpl: 3 });
    // The same tables again through entry 1, which is read-only.
    const index = 1;
    b.write64(table + index * 8, b.read64(table) & ~2n);
    const shift = table === PML4 ? 39n : table === PDPT ? 30n : 21n;
    const address = (BigInt(index) << shift) | BigInt(PAGE);
    expect(b.fault(`mov rbx, ${address}\nmov al, [rbx]\nbad: mov [rbx], al`)).toEqual({
      vector: PF,
      error: 7,
      at: 'bad',
    });
    expect(b.get('cr2')).toBe(address);
  });

  it('PS in a PML4E is reserved', async () => {
    const b = await bare('long64');
    b.write64(PML4 + 8, b.read64(PML4) | 0x80n);
    expect(b.fault('mov rbx, 0x8000000000\nbad: mov al, [rbx]')).toEqual({ vector: PF, error: 9, at: 'bad' });
  });

  it('A is set at every level by a read, D in the last by a write', async () => {
    const b = await bare('long64');
    b.write64(PML4 + 8, 0x50007n);
    b.write64(0x50000, 0x51007n);
    b.write64(0x51000, 0x52007n);
    b.write64(0x52000 + 0x30 * 8, 0x30007n);
    b.write64(0x52000 + 0x31 * 8, 0x31007n);
    b.run('mov rbx, 0x8000030000\nmov al, [rbx]\nhlt');
    const seen = () => [PML4 + 8, 0x50000, 0x51000, 0x52000 + 0x180].map((at) => hex(b.read64(at) & 0xfffn));
    expect(seen()).toEqual(['0x27', '0x27', '0x27', '0x27']);
    b.run('mov rbx, 0x8000030000\nmov [rbx], al\nhlt');
    expect(seen()).toEqual(['0x27', '0x27', '0x27', '0x67']);
    expect(b.read64(0x52000 + 0x31 * 8)).toBe(0x31007n);
  });

  it('2 MiB pages: address bits 20:0, D in the PDE, bits 20:13 reserved', async () => {
    const b = await bare('long64');
    b.write64(PD + 8, 0x87n);
    b.write32(0x30004, 0x12345678);
    b.run('mov ebx, [0x230004]\nmov dword ptr [0x230008], 7\nhlt');
    expect([hex(b.get('rbx')), b.read32(0x30008), hex(b.read64(PD + 8))]).toEqual(['0x12345678', 7, '0xe7']);
    b.write64(PD + 16, 0x2087n);
    expect(b.fault('bad: mov al, [0x400000]')).toEqual({ vector: PF, error: 9, at: 'bad' });
  });

  it('an access that crosses into an absent page faults at that page and writes nothing', async () => {
    const b = await bare('long64');
    b.write64(pte, 0n);
    b.write32(PAGE - 4, 0x11111111);
    expect(b.fault('mov rax, -1\nbad: mov [0xffffc], rax')).toEqual({ vector: PF, error: 2, at: 'bad' });
    expect([hex(b.get('cr2')), hex(b.read32(PAGE - 4))]).toEqual([hex(PAGE), '0x11111111']);
  });

  it('INVLPG and MOV to CR3 make a changed entry visible', async () => {
    const b = await bare('long64');
    b.cpu.memory[0x30000] = 0x33;
    b.cpu.memory[0x31000] = 0x44;
    b.cpu.memory[0x32000] = 0x55;
    b.write64(pte, 0x30007n);
    b.run(`
      mov rbx, ${PAGE}
      mov cl, [rbx]
      mov qword ptr [${pte}], 0x31007
      invlpg [rbx]
      mov dl, [rbx]
      mov qword ptr [${pte}], 0x32007
      mov rax, cr3
      mov cr3, rax
      mov al, [rbx]
      hlt
    `);
    expect([b.get('rcx') & 255n, b.get('rdx') & 255n, b.get('rax') & 255n]).toEqual([0x33n, 0x44n, 0x55n]);
  });
});

describe('paging in protected mode', () => {
  const on = (cr3: number, cr4 = 0): string =>
    `mov eax, ${cr4}\nmov cr4, eax\nmov eax, ${cr3}\nmov cr3, eax\nmov eax, 0x80010031\nmov cr0, eax\n`;
  const user =
    'push UDATA\npush 0x27000\npush 2\npush UCODE32\npush offset user\niretd\nuser: mov edx, UDATA\nmov ds, edx\n';

  it.each([
    ['absent, read', 0, '', 'mov al, [0x100000]', 0],
    ['absent, user write', 0, user, 'mov [0x100000], al', 6],
    ['read-only, write', 0x100005, '', 'mov [0x100000], al', 3],
    ['supervisor, user read', 0x100003, user, 'mov al, [0x100000]', 5],
    ['absent, fetch (no I/D bit)', 0, 'mov ebx, 0x100000\n', 'jmp ebx', 0],
  ])('32-bit: %s', async (_, entry, before, access, error) => {
    const b = await bare('prot32');
    b.write32(PT32 + 0x100 * 4, entry);
    const stop = b.run(`${on(PD32)}${before}bad: ${access}`);
    expect([stop.vector, stop.error, hex(b.get('cr2'))]).toEqual([PF, error, '0x100000']);
  });

  it('32-bit: A and D bits; 4 MiB pages with CR4.PSE', async () => {
    const b = await bare('prot32');
    b.write32(PT32 + 0x100 * 4, 0x100007);
    b.write32(PD32 + 4, 0x87);
    b.write32(0x30000, 0x1234);
    b.run(`${on(PD32, 0x10)}mov [0x100000], al\nmov ebx, [0x430000]\nhlt`);
    expect([hex(b.read32(PT32 + 0x100 * 4)), hex(b.read32(PD32)), hex(b.read32(PD32 + 4)), hex(b.get('rbx'))]).toEqual([
      '0x100067',
      '0x47027',
      '0xa7',
      '0x1234',
    ]);
  });

  it('PAE: translates, reports the I/D bit with NXE, and reserves bits 62:52', async () => {
    const b = await bare('prot32');
    b.put({ efer: 0x800 });
    b.write64(PT + 0x100 * 8, 0x100007n | (1n << 63n));
    expect(b.run(`${on(PAE_PDPT, 0x20)}mov al, [0x100000]\nmov ebx, 0x100000\njmp ebx`)).toMatchObject({
      vector: PF,
      error: 0x11,
    });
    const c = await bare('prot32');
    c.write64(PT + 0x100 * 8, 0x100007n | (1n << 52n));
    expect(c.fault(`${on(PAE_PDPT, 0x20)}bad: mov al, [0x100000]`)).toEqual({ vector: PF, error: 9, at: 'bad' });
  });

  it('PAE: an absent PDPTE is a page fault, one with reserved bits #GP(0) at MOV to CR0', async () => {
    const b = await bare('prot32');
    expect(b.fault(`${on(PAE_PDPT, 0x20)}bad: mov al, [0x40000000]`)).toEqual({ vector: PF, error: 0, at: 'bad' });
    const c = await bare('prot32');
    c.write64(PAE_PDPT + 8, 3n);
    const stop = c.run(on(PAE_PDPT, 0x20));
    expect([stop.vector, stop.error, hex(c.get('cr0'))]).toEqual([GP, 0, '0x31']);
  });

  it('PAE: the PDPTEs are those of the last load of CR3', async () => {
    const b = await bare('prot32');
    b.cpu.memory[0x100000] = 0x77;
    const source = `${on(PAE_PDPT, 0x20)}
      mov dword ptr [${PAE_PDPT + 8}], ${0x45000 | 1}
      mov eax, cr3
      mov cr3, eax
      mov dword ptr [${PAE_PDPT + 8}], 0
      mov cl, [0x40100000]
      hlt`;
    expect(b.run(source).reason).toBe('hlt');
    expect(b.get('rcx') & 255n).toBe(0x77n);
  });

  it('PAE: bad PDPTEs that the host points CR3 to leave those before, after a reset none', async () => {
    const b = await bare('prot32');
    b.run(`${on(PAE_PDPT, 0x20)}hlt`);
    const [rip, cr0] = [b.get('rip'), b.get('cr0')];
    b.write64(PAE_PDPT + 8, 3n);
    b.put({ rip, cr3: PAE_PDPT });
    expect(b.go().reason).toBe('hlt');
    b.state.reset('reset', 0);
    b.segment('cs', SEL.CODE32, 0xc09b);
    b.put({ rip, cr3: PAE_PDPT, cr4: 0x20, cr0 });
    expect(b.go()).toMatchObject({ reason: 'shutdown' });
  });

  it('descriptor tables and inner stacks are read with supervisor rights from CPL 3', async () => {
    const b = await bare('prot32');
    for (const page of [0x2, 0x3, 0x4, 0x5, 0x2e]) b.write32(PT32 + page * 4, (page << 12) | 3);
    const stop = b.run(`${on(PD32)}${user}int 0x80\nnext:`);
    expect(stop).toMatchObject({ vector: 0x80, at: 'next' });
  });
});

describe('interrupt shadows and windows', () => {
  it('STI holds interrupts off for one instruction', async () => {
    const b = await bare('long64');
    b.state.window = L.WINDOW_INTERRUPT;
    expect(b.run('sti\nnop\nhere: nop\nhlt')).toMatchObject({ reason: 'interrupt-window', at: 'here' });
  });

  it('STI with IF already set has no shadow', async () => {
    const b = await bare('long64');
    b.load('sti\nhere: nop\nhlt');
    b.put({ rflags: 0x202 });
    b.cpu.run(0, 1);
    expect(b.state.interruptibility).toBe(0);
    expect(b.get('rip')).toBe(b.label('here'));
  });

  it('MOV SS and POP SS hold interrupts off for one instruction, LSS does not', async () => {
    const b = await bare('prot32');
    b.load('mov eax, DATA\nmov ss, eax\nnop\nhlt');
    b.cpu.run(0, 2);
    expect(b.state.interruptibility).toBe(L.SHADOW_MOV_SS);
    b.cpu.run(0, 1);
    expect(b.state.interruptibility).toBe(0);
    b.write32(0x9000, KERNEL_STACK);
    b.write16(0x9004, SEL.DATA);
    b.load('lss esp, [0x9000]\nnop\nhlt');
    b.cpu.run(0, 1);
    expect(b.state.interruptibility).toBe(0);
  });

  it('POPF opens the window at once', async () => {
    const b = await bare('long64');
    b.state.window = L.WINDOW_INTERRUPT;
    expect(b.run('push 0x202\npopfq\nhere: nop\nhlt')).toMatchObject({ reason: 'interrupt-window', at: 'here' });
  });

  it('an NMI blocks further NMIs until IRET', async () => {
    const b = await bare('long64');
    b.state.inject(0x80000202, 0, 0);
    const stop = b.run('here: nop\nthere: hlt');
    expect(stop).toMatchObject({ vector: 2, at: 'here' });
    expect(b.state.interruptibility).toBe(L.BLOCKED_BY_NMI);
    b.state.window = L.WINDOW_NMI;
    b.cpu.memory.set([0x48, 0xcf], HANDLERS + 2 * 16);
    b.cpu.memoryWritten(HANDLERS + 2 * 16, 2);
    expect(b.go()).toMatchObject({ reason: 'nmi-window', at: 'here' });
    expect(b.state.interruptibility).toBe(0);
  });

  it('delivery of an interrupt ends the shadow', async () => {
    const b = await bare('long64');
    b.state.interruptibility = L.SHADOW_STI;
    b.state.inject(0x80000030, 0, 0);
    expect(b.run('here: nop\nhlt')).toMatchObject({ vector: 0x30, at: 'here' });
    expect(b.state.interruptibility).toBe(0);
  });
});

describe('RFLAGS by privilege', () => {
  it('POPF at CPL 3 below IOPL leaves IF and IOPL', async () => {
    const b = await bare('prot32', { cpl: 3 });
    expect(hex(b.run('push 0x273ed7\npopfd\nint 0x80').frame[2])).toBe('0x240cd7');
  });
  it('POPF at CPL 3 with IOPL 3 changes IF', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.put({ rflags: 0x3002 });
    expect(hex(b.run('push 0x202\npopfd\nint 0x80').frame[2])).toBe('0x3202');
  });
  it('POPF at CPL 0 changes IF and IOPL, never VM or RF', async () => {
    const b = await bare('prot32');
    b.run('push 0x33202\npopfd\nhlt');
    expect(hex(b.get('rflags'))).toBe('0x3202');
  });
});

describe('port permission', () => {
  const allow = (b: Awaited<ReturnType<typeof bare>>, ...ports: number[]): void => {
    for (const port of ports) b.cpu.memory[TSS + 0x68 + (port >> 3)] &= ~(1 << (port & 7));
  };

  it.each([
    ['in al, 0x10', [0x10], true],
    ['in al, 0x10', [0x11], false],
    ['in ax, 0x17', [0x17, 0x18], true],
    ['in ax, 0x17', [0x17], false],
    ['in eax, 0x1e', [0x1e, 0x1f, 0x20, 0x21], true],
    ['in eax, 0x1e', [0x1e, 0x1f, 0x20], false],
    ['out 0xff, al', [0xff], true],
    ['mov dx, 0x108\nbad: out dx, al', [], false],
  ] as const)('%s with ports %j open', async (source, ports, allowed) => {
    const b = await bare('prot32', { cpl: 3 });
    allow(b, ...ports);
    const stop = b.run(source.includes('bad:') ? source : `bad: ${source}`);
    if (allowed) expect(stop).toMatchObject({ reason: 'io', at: 'bad' });
    else expect(stop).toMatchObject({ vector: GP, error: 0, at: 'bad' });
  });

  it('IOPL 3 needs no map', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ rflags: 0x3002 });
    expect(b.run('bad: in al, 0x10')).toMatchObject({ reason: 'io', at: 'bad' });
  });

  it('a map whose offset is beyond the TSS denies everything', async () => {
    const b = await bare('prot32', { cpl: 3 });
    allow(b, 0x10);
    b.write16(TSS + 0x66, 0x88);
    expect(b.run('bad: in al, 0x10')).toMatchObject({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('debug registers', () => {
  it('DR4 and DR5 are DR6 and DR7, with CR4.DE #UD', async () => {
    const b = await bare('prot32');
    b.run('mov eax, 0x703\nmov dr7, eax\n.byte 0x0f, 0x21, 0xe9\nhlt');
    expect(hex(b.get('rcx'))).toBe('0x703');
    b.put({ cr4: 8 });
    expect(b.fault('bad: .byte 0x0f, 0x21, 0xe9')).toEqual({ vector: UD, error: undefined, at: 'bad' });
  });

  it('reserved bits of DR6 and DR7 are fixed; their upper halves are #GP(0)', async () => {
    const b = await bare('long64');
    b.run('mov eax, 0xffffffff\nmov dr6, rax\nmov dr7, rcx\nhlt');
    expect([hex(b.get('dr6')), hex(b.get('dr7'))]).toEqual(['0xffffefff', '0x400']);
    expect(b.fault('mov rax, 0x100000400\nbad: mov dr7, rax')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });

  it('DR7.GD makes the access #DB with DR6.BD, and is cleared', async () => {
    const b = await bare('prot32');
    b.put({ dr7: 0x2400, dr6: 0xffff0ff0 });
    expect(b.fault('bad: mov eax, dr0')).toEqual({ vector: DB, error: undefined, at: 'bad' });
    expect([hex(b.get('dr6')), hex(b.get('dr7'))]).toEqual(['0xffff2ff0', '0x400']);
  });

  it('TF traps after the next instruction with DR6.BS', async () => {
    const b = await bare('long64');
    b.put({ dr6: 0xffff0ff0 });
    const stop = b.run('push 0x102\npopfq\nnop\nhere: nop\nhlt');
    expect(stop).toMatchObject({ vector: DB, at: 'here' });
    expect([hex(stop.frame[2]), hex(b.get('dr6')), hex(b.get('rflags'))]).toEqual(['0x102', '0xffff4ff0', '0x2']);
  });
});
