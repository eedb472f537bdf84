/** x87 besides arithmetic: what it needs and raises, images of its state, pointers, faults of operands, registers for the host. */
import { describe, expect, it } from 'vitest';
import { type Bare, bare, type Mode, PT, SEL } from './bare.ts';

const NM = 7;
const PF = 14;
const MF = 16;

const EM = 4;
const TS = 8;
const MP = 2;
const NE = 0x20;

/** FINIT, then divides one by zero with the exception unmasked: pending when the code that follows begins. */
const DIVIDED = `
  fninit
  mov dword ptr [0x10000], 0x37b
  fldcw word ptr [0x10000]
  fld1
  fldz
  fdivp st(1), st(0)
`;
const image = (b: Bare, at: number, bytes: number): string =>
  [...b.cpu.memory.subarray(at, at + bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const words = (b: Bare, at: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => b.read16(at + i * 2));
const dwords = (b: Bare, at: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => b.read32(at + i * 4));

describe('what x87 needs (SDM vol. 3, table 2-2)', () => {
  it.each([
    ['nothing set', 0, undefined, undefined],
    ['EM', EM, NM, undefined],
    ['TS', TS, NM, undefined],
    ['MP', MP, undefined, undefined],
    ['EM and MP', EM | MP, NM, undefined],
    ['TS and MP', TS | MP, NM, NM],
    ['all', EM | TS | MP, NM, NM],
  ])('CR0 with %s', async (_, bits, escaped, wait) => {
    for (const [code, vector] of [
      ['fld1', escaped],
      ['fninit', escaped],
      ['fnstsw ax', escaped],
      ['fwait', wait],
    ] as const) {
      const b = await bare('prot32');
      b.put({ cr0: 0x31 | bits });
      expect([code, b.run(`${code}\n hlt`).vector]).toEqual([code, vector]);
    }
  });

  it('LOCK is #UD', async () => {
    expect((await bare('prot32')).run('.byte 0xf0, 0xd9, 0xe8').vector).toBe(6);
  });
});

describe('a pending unmasked exception (SDM vol. 1, 8.7)', () => {
  const withPending = async (code: string, cr0 = NE): Promise<ReturnType<Bare['fault']>> => {
    const b = await bare('prot32');
    b.put({ cr0: 0x11 | cr0 });
    return b.fault(`${DIVIDED}\nnext: ${code}\nend: hlt`);
  };

  it.each([
    'fld1',
    'fwait',
    'fstp st(0)',
    'fldcw word ptr [0x10000]',
    'fld dword ptr [0x300000]',
    'frstor [0x10000]',
    'fnop',
  ])('%s reports it at its own address, before it does anything', async (code) => {
    expect(await withPending(code)).toEqual({ vector: MF, error: undefined, at: 'next' });
  });

  it.each(['fnstsw ax', 'fnstcw word ptr [0x10000]', 'fnclex', 'fninit', 'fnsave [0x10000]', 'fnstenv [0x10000]'])(
    '%s does not wait',
    async (code) => {
      expect(await withPending(code)).toEqual({ vector: undefined, error: undefined, at: 'end' });
    },
  );

  it('is gone after FNCLEX, and is there again once FLDCW unmasks a flag that is set', async () => {
    expect(await withPending('fnclex\n fld1')).toEqual({ vector: undefined, error: undefined, at: 'end' });
    const b = await bare('prot32');
    const masked = `
      fninit
      fld1
      fldz
      fdivp st(1), st(0)
      fwait
      mov dword ptr [0x10000], 0x37b
      fldcw word ptr [0x10000]
      next: fwait`;
    expect(b.fault(masked)).toEqual({ vector: MF, error: undefined, at: 'next' });
    expect(b.get('fsw')).toBe(0xb884n);
  });

  it('is not reported with CR0.NE clear: no FERR# line is wired', async () => {
    expect(await withPending('fld1\n fwait', 0)).toEqual({ vector: undefined, error: undefined, at: 'end' });
  });

  it('a task that uses x87 first gets #NM', async () => {
    expect((await withPending('fwait', NE)).vector).toBe(MF);
    const b = await bare('prot32');
    b.run(`${DIVIDED}\n hlt`);
    b.put({ cr0: 0x31 | TS });
    expect(b.run('fld1').vector).toBe(NM);
  });
});

describe('pointers and opcode of the last instruction (SDM vol. 1, 8.1.8 and 8.1.9)', () => {
  it('follow loads, arithmetic and stack instructions; data pointers only operands in memory', async () => {
    const b = await bare('long64');
    b.run('fninit\n mov ebx, 0x10000\n first: fld dword ptr [rbx + 8]\n second: fchs\n hlt');
    expect([b.get('fip'), b.get('fcs'), b.get('fop')]).toEqual([b.label('second'), BigInt(SEL.CODE64), 0x1e0n]);
    expect([b.get('fdp'), b.get('fds')]).toEqual([0x10008n, BigInt(SEL.DATA)]);
  });

  it('do not follow control instructions and FWAIT; FNINIT clears them', async () => {
    const b = await bare('long64');
    const code = (rest: string): string => `fninit\n mov ebx, 0x10000\n first: fld qword ptr [rbx]\n ${rest}\n hlt`;
    b.run(code('fnstcw word ptr [rbx]\n fldcw word ptr [rbx]\n fnstsw ax\n fnclex\n fwait\n fnstenv [rbx + 64]'));
    expect([b.get('fip'), b.get('fdp'), b.get('fop')]).toEqual([b.label('first'), 0x10000n, 0x503n]);
    b.run(code('fninit'));
    expect([b.get('fip'), b.get('fdp'), b.get('fop')]).toEqual([0n, 0n, 0n]);
  });

  it('stay when the access faults', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x11 * 8, 0n);
    expect(b.run('fninit\n first: fld1\n fadd dword ptr [0x11000]').vector).toBe(PF);
    expect([b.get('fip'), b.get('fdp')]).toEqual([b.label('first'), 0n]);
  });
});

describe('images of the state (SDM vol. 1, figures 8-9 to 8-12)', () => {
  /** 1 and 0 on the stack, then an addition from DS:0x1234; the image goes to DS:0x1330. */
  async function stored(mode: Mode, prefix: string): Promise<Bare> {
    const b = await bare(mode);
    const base = { real: 'bx', prot32: 'ebx', long64: 'rbx' }[mode];
    b.put({ rbx: 0x1230 });
    if (mode === 'real') b.segment('ds', 0x1f00, 0x93, 0xffff, 0x1f000);
    b.run(`
      fninit
      fld1
      fldz
      last: fadd dword ptr [${base} + 4]
      ${prefix}
      fnstenv [${base} + 0x100]
      hlt`);
    return b;
  }

  it('32-bit protected mode', async () => {
    const b = await stored('prot32', '');
    expect(dwords(b, 0x1330, 7)).toEqual(
      [
        0xffff037f,
        0xffff3000,
        0xffff1fff,
        Number(b.label('last')),
        (0x43 << 16) | SEL.CODE32,
        0x1234,
        0xffff0000 | SEL.DATA,
      ].map((value) => value >>> 0),
    );
    expect(b.get('fcw')).toBe(0x37fn);
  });

  it('16-bit protected mode', async () => {
    const b = await stored('prot32', '.byte 0x66');
    expect(words(b, 0x1330, 7)).toEqual([0x37f, 0x3000, 0x1fff, Number(b.label('last')), SEL.CODE32, 0x1234, SEL.DATA]);
  });

  it('64-bit mode is that of 32-bit protected mode', async () => {
    const b = await stored('long64', '');
    expect(dwords(b, 0x1330, 7).slice(3)).toEqual(
      [Number(b.label('last')), (0x43 << 16) | SEL.CODE64, 0x1234, 0xffff0000 | SEL.DATA].map((value) => value >>> 0),
    );
  });

  it('16-bit real mode: linear addresses', async () => {
    const b = await stored('real', '');
    expect(words(b, 0x20330, 7)).toEqual([0x37f, 0x3000, 0x1fff, Number(b.label('last')), 0x47, 0x0234, 0x2000]);
  });

  it('32-bit real mode: linear addresses', async () => {
    const b = await stored('real', '.byte 0x66');
    expect(dwords(b, 0x20330, 7)).toEqual(
      [0xffff037f, 0xffff3000, 0xffff1fff, 0xffff0000 | Number(b.label('last')), 0x47, 0xffff0234, 0x2000].map(
        (value) => value >>> 0,
      ),
    );
  });

  it.each(['prot32', 'real'] as const)(
    'FNSAVE is FNINIT afterwards, FRSTOR brings all of it back, in %s',
    async (mode) => {
      const b = await bare(mode);
      const fill = 'fninit\n fldpi\n fld1\n fldl2e\n fldz\n fchs\n fdecstp\n ffree st(3)\n';
      b.run(`${fill}\n fnsave [0x1000]\n hlt`);
      const first = image(b, 0x1000, mode === 'real' ? 94 : 108);
      expect([b.get('fcw'), b.get('fsw'), b.get('ftw'), b.get('fip')]).toEqual([0x37fn, 0n, 0n, 0n]);
      b.run('fld1\n fld1\n frstor [0x1000]\n fnsave [0x1100]\n hlt');
      expect(image(b, 0x1100, mode === 'real' ? 94 : 108)).toBe(first);
    },
  );

  it('tags are found from the contents: valid, zero, special, empty', async () => {
    const b = await bare('prot32');
    b.put({ fcw: 0x37f, fsw: 0, ftw: 0x7f });
    const values = [
      1n << 64n,
      0n,
      1n,
      0x7fff8000000000000000n,
      0x7fffc000000000000000n,
      0x00018000000000000000n,
      0x3fff0000000000000001n,
    ];
    values.forEach((value, i) => {
      b.put({ [`st${i}`]: value });
    });
    b.run('fnstenv [0x1000]\n hlt');
    // From R7: empty, special (unnormal), valid, special (NaN), special (infinity), special (denormal), zero, special (unnormal)
    expect(b.read16(0x1008)).toBe(0b11_10_00_10_10_10_01_10);
  });
});

describe('faults of operands', () => {
  const state = (b: Bare): bigint[] => ['fcw', 'fsw', 'ftw', 'st0', 'st1', 'st7'].map((name) => b.get(name));

  it.each([
    'fstp dword ptr [0x10ffe]',
    'fstp qword ptr [0x10ffc]',
    'fistp qword ptr [0x10ffc]',
    'fbstp tbyte ptr [0x10ffa]',
    'fld tbyte ptr [0x10ff8]',
    'fadd qword ptr [0x10ffc]',
    'fnsave [0x10fc0]',
    'frstor [0x10fc0]',
    'fldenv [0x10ff0]',
    'fnstenv [0x10ff0]',
  ])('%s across a page that is absent changes neither registers nor memory', async (code) => {
    const b = await bare('long64');
    b.run('fninit\n fldpi\n fldl2e\n hlt');
    b.write64(PT + 0x11 * 8, 0n);
    const before = [...state(b), image(b, 0x10f00, 256)];
    expect(b.fault(`at: ${code}`)).toEqual({ vector: PF, error: expect.any(Number), at: 'at' });
    expect([...state(b), image(b, 0x10f00, 256)]).toEqual(before);
  });
});

describe('stores that do not happen', () => {
  // Measured on an Intel Xeon (Cascade Lake) and on AMD EPYC.
  it.each([
    ['intel', 'fstp tbyte ptr [0x10ff8]', 0xc90fdaa22168c235n],
    ['intel', 'fbstp tbyte ptr [0x10ff8]', 3n],
    ['amd', 'fstp tbyte ptr [0x10ff8]', 0n],
    ['amd', 'fbstp tbyte ptr [0x10ff8]', 0n],
  ] as const)('%s, %s with its last two bytes on a page that is absent', async (vendor, code, stored) => {
    const b = await bare('long64', { vendor });
    b.write64(PT + 0x11 * 8, 0n);
    expect(b.fault(`fninit\n fldpi\n at: ${code}`)).toEqual({ vector: PF, error: 2, at: 'at' });
    expect([b.get('cr2'), b.read64(0x10ff8), b.get('fsw')]).toEqual([0x11000n, stored, 0x3800n]);
  });

  it.each([
    ['intel', 0xc90fdaa22168c235n],
    ['amd', 0n],
  ] as const)('%s, FSTP with its last two bytes beyond the limit', async (vendor, stored) => {
    const b = await bare('prot32', { vendor });
    b.segment('fs', SEL.SMALL, 0x4093, 0xff, 0x30000);
    expect(b.fault('fninit\n fldpi\n at: fstp tbyte ptr fs:[0xf8]')).toEqual({ vector: 13, error: 0, at: 'at' });
    expect([b.read64(0x300f8), b.get('fsw')]).toEqual([stored, 0x3800n]);
  });

  /** Unmasked: I, U, I; the operand is on a page that is absent. */
  it.each([
    ['fistp dword ptr [0x11000]', 0x37e, 0x7fff8000000000000000n, 0xb881n],
    ['fst dword ptr [0x11000]', 0x36f, 0x00018000000000000000n, 0xb890n],
    ['fbstp tbyte ptr [0x11000]', 0x37e, 0x7fff8000000000000000n, 0xb881n],
  ] as const)('%s kept back by an exception faults on AMD only', async (code, fcw, st0, fsw) => {
    const results = [];
    for (const vendor of ['intel', 'amd'] as const) {
      const b = await bare('long64', { vendor });
      b.write64(PT + 0x11 * 8, 0n);
      b.put({ fcw, fsw: 0x3800, ftw: 0x80, fdp: 0x1234 });
      b.put({ st0 });
      results.push([b.run(`${code}\n hlt`).vector, b.get('fsw'), b.get('fdp'), b.get('st0')]);
    }
    expect(results).toEqual([
      [undefined, fsw, 0x11000n, st0],
      [PF, 0x3800n, 0x1234n, st0],
    ]);
  });

  it('an empty register with I unmasked is such an exception', async () => {
    for (const [vendor, vector, fsw] of [
      ['intel', undefined, 0x80c1n],
      ['amd', PF, 0n],
    ] as const) {
      const b = await bare('long64', { vendor });
      b.write64(PT + 0x11 * 8, 0n);
      b.put({ fcw: 0x37e, fsw: 0, ftw: 0 });
      expect([vendor, b.run('fisttp word ptr [0x11000]\n hlt').vector]).toEqual([vendor, vector]);
      expect([vendor, b.get('fsw')]).toEqual([vendor, fsw]);
    }
  });

  it('P unmasked keeps nothing back', async () => {
    const b = await bare('long64', { vendor: 'intel' });
    b.put({ fcw: 0x35f });
    b.write64(PT + 0x11 * 8, 0n);
    expect(b.fault('fldpi\n at: fst dword ptr [0x11000]')).toEqual({ vector: PF, error: 2, at: 'at' });
  });
});

describe('FCOMI and its kin', () => {
  it.each(['intel', 'amd'] as const)('%s: leave C1, but clear it for an empty register', async (vendor) => {
    const b = await bare('long64', { vendor });
    for (const code of ['fcomi', 'fcomip', 'fucomi', 'fucomip']) {
      const pops = code.endsWith('p') ? 0x800n : 0n;
      b.put({ fcw: 0x37f, fsw: 0x3300, ftw: 0xff });
      b.run(`${code} st, st(1)\n hlt`);
      expect([code, b.get('fsw')]).toEqual([code, 0x3300n + pops]);
      b.put({ fcw: 0x37f, fsw: 0x3300, ftw: 0 });
      b.run(`${code} st, st(1)\n hlt`);
      expect([code, b.get('fsw')]).toEqual([code, 0x3141n + pops]);
    }
  });
});

describe('alignment, where it is checked (SDM vol. 3, table 6-7)', () => {
  it.each([
    ['fnstenv', '', 4],
    ['fldenv', '', 4],
    ['fnsave', '', 4],
    ['frstor', '', 4],
    ['fnsave', '.byte 0x66\n', 2],
    ['frstor', '.byte 0x66\n', 2],
    ['fstp tbyte ptr', '', 8],
    ['fld tbyte ptr', '', 8],
    ['fbstp tbyte ptr', '', 8],
    ['fstp qword ptr', '', 8],
    ['fldcw word ptr', '', 2],
  ])('%s, prefix "%s": %i', async (code, prefix, alignment) => {
    for (let at = 0; at < 10; at++) {
      const b = await bare('long64', { cpl: 3 });
      b.put({ cr0: 0x80050031, rflags: 0x40002 });
      const { vector } = b.run(`fninit\n fldpi\n ${prefix} ${code} [${0x10000 + at}]\n hlt`);
      // HLT at CPL 3 is #GP.
      expect([at, vector]).toEqual([at, at % alignment === 0 ? 13 : 17]);
    }
  });
});

describe('images outside RAM', () => {
  it('are accesses of 8 bytes that the host completes one by one', async () => {
    const b = await bare('prot32');
    b.load('fninit\n fldpi\n fnsave [0x300000]\n hlt');
    const written = new Map<number, bigint>();
    for (let exit = b.cpu.run(0, 100); exit.reason === 'mmio'; exit = b.cpu.run(0, 100)) {
      written.set(exit.gpaLo, (BigInt(exit.valueHi) << 32n) | BigInt(exit.valueLo));
      b.state.completeMmio(0, 0);
    }
    expect([...written.keys()]).toEqual(Array.from({ length: 14 }, (_, i) => 0x300000 + i * 8));
    // ST(0) begins at byte 28.
    expect([written.get(0x300018)! >> 32n, written.get(0x300020)!]).toEqual([0x2168c235n, 0x4000c90fdaa2n]);
    expect(b.get('ftw')).toBe(0n);
  });
});

describe('registers for the host', () => {
  it('ST(i) is relative to TOP', async () => {
    const b = await bare('long64');
    b.run('fninit\n fld1\n fldpi\n hlt');
    expect([b.get('st0'), b.get('st1')]).toEqual([0x4000c90fdaa22168c235n, 0x3fff8000000000000000n]);
    b.put({ st1: 0x4000c000000000000000n });
    b.run('faddp st(1), st(0)\n fstp tbyte ptr [0x10000]\n hlt');
    // pi + 3
    expect([b.read64(0x10000), b.read16(0x10008)]).toEqual([0xc487ed5110b4611an, 0x4001]);
  });

  it('are as after power-up at RESET; INIT leaves them (SDM vol. 3, table 10-1)', async () => {
    const b = await bare('long64');
    expect(['fcw', 'fsw', 'ftw', 'st0', 'st7'].map((name) => b.get(name))).toEqual([0x40n, 0n, 0xffn, 0n, 0n]);
    b.run('fninit\n fldpi\n hlt');
    const before = ['fcw', 'fsw', 'ftw', 'fip', 'st0'].map((name) => b.get(name));
    b.state.reset('init', 0);
    expect(['fcw', 'fsw', 'ftw', 'fip', 'st0'].map((name) => b.get(name))).toEqual(before);
  });
});

describe('transcendental functions (SDM vol. 1, 8.3.8)', () => {
  const result = async (code: string): Promise<[bigint, number]> => {
    const b = await bare('long64');
    b.run(`fninit\n ${code}\n hlt`);
    return [b.get('st0'), Number(b.get('fsw') & 0x4500n)];
  };

  it('reduce angles with pi of 66 bits', async () => {
    // sin(pi to 64 bits): the difference is 2^-64 exactly.
    expect(await result('fldpi\n fsin')).toEqual([0xbfbf8000000000000000n, 0]);
  });

  it('leave an angle of 2^63 and beyond alone and say so in C2', async () => {
    const large = 'mov dword ptr [0x10000], 0x5f000000\n fld dword ptr [0x10000]\n';
    for (const code of ['fsin', 'fcos', 'fsincos', 'fptan'])
      expect(await result(large + code)).toEqual([0x403e8000000000000000n, 0x400]);
  });

  it('know their exact cases', async () => {
    expect((await result('fld1\n fld1\n f2xm1'))[0]).toBe(0x3fff8000000000000000n);
    // 3 * log2(8)
    const three = 'mov dword ptr [0x10000], 3\n fild dword ptr [0x10000]\n';
    const eight = 'mov dword ptr [0x10000], 8\n fild dword ptr [0x10000]\n';
    expect((await result(`${three}${eight}fyl2x`))[0]).toBe(0x40029000000000000000n);
    // atan2(1, -1) = 3 pi / 4
    expect((await result('fld1\n fld1\n fchs\n fpatan'))[0]).toBe(0x400096cbe3f9990e91a8n);
  });
});
