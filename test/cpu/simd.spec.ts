/** MMX and SSE besides arithmetic: what their use needs and raises, memory operands, registers shared with x87. */
import { describe, expect, it } from 'vitest';
import type { Vendor } from '../../src/cpu/cpu.ts';
import { type Bare, bare, PT } from './bare.ts';

const OSFXSR = 0x200;

/** In 64-bit mode, XMM registers enabled, XMM0 to XMM3 with known contents, the last RAM page not present. */
async function enabled(cpl: 0 | 3 = 0, vendor: Vendor = 'intel'): Promise<Bare> {
  const b = await bare('long64', { cpl, vendor });
  b.put({ cr4: 0x20 | OSFXSR });
  for (let n = 0; n < 4; n++)
    setXmm(b, n, 0x1111_1111_1111_1111n * BigInt(n + 1), 0x0101_0101_0101_0101n * BigInt(n + 1));
  b.write64(PT + 511 * 8, 0n);
  return b;
}
function setXmm(b: Bare, n: number, high: bigint, low: bigint): void {
  b.put({ [`xmm${n}`]: (high << 64n) | low });
}
/** Upper and lower half. */
const xmm = (b: Bare, n: number): [bigint, bigint] => [b.get(`xmm${n}`) >> 64n, BigInt.asUintN(64, b.get(`xmm${n}`))];
/** With TOP 0. */
const mm = (b: Bare, n: number): bigint => BigInt.asUintN(64, b.get(`st${n}`));

const UD = 6;
const NM = 7;
const GP = 13;
const PF = 14;
const MF = 16;

describe('what MMX and SSE need (SDM vol. 3, tables 13-1 and 12-1)', () => {
  const vectors = async (cr0: number, cr4: number, code: string): Promise<number | undefined> => {
    const b = await enabled();
    b.put({ cr0: 0x80010031 | cr0, cr4: 0x20 | cr4 });
    return b.run(`${code}\n hlt`).vector;
  };

  it.each([
    ['nothing wrong', 0, OSFXSR, undefined, undefined],
    ['CR4.OSFXSR clear', 0, 0, UD, undefined],
    ['CR0.EM', 4, OSFXSR, UD, UD],
    ['CR0.TS', 8, OSFXSR, NM, NM],
    ['CR0.EM and CR0.TS', 12, OSFXSR, UD, UD],
    ['CR0.TS and CR4.OSFXSR clear', 8, 0, UD, NM],
  ])('%s', async (_, cr0, cr4, sse, mmx) => {
    expect(await vectors(cr0, cr4, 'paddd xmm0, xmm1')).toBe(sse);
    expect(await vectors(cr0, cr4, 'paddd mm0, mm1')).toBe(mmx);
  });

  it('LOCK is #UD before anything else', async () => {
    expect(await vectors(8, OSFXSR, '.byte 0xf0\n paddd xmm0, [0x10000]')).toBe(UD);
  });

  it('a pending x87 error is #MF for MMX, after #NM, and nothing to SSE', async () => {
    const run = async (code: string, cr0 = 0x80010031): Promise<number | undefined> => {
      const b = await enabled();
      b.put({ cr0 });
      b.put({ fsw: 0x8081n });
      return b.run(`${code}\n hlt`).vector;
    };
    expect(await run('paddd mm0, mm1')).toBe(MF);
    expect(await run('emms')).toBe(MF);
    expect(await run('movq2dq xmm0, mm1')).toBe(MF);
    expect(await run('paddd mm0, mm1', 0x80010039)).toBe(NM);
    expect(await run('paddd xmm0, xmm1')).toBe(undefined);
  });
});

describe('MMX state', () => {
  it('an instruction makes TOP 0 and every register valid, and fills the upper bits of what it writes', async () => {
    const b = await enabled();
    b.put({ fsw: 0x3d00n });
    b.put({ ftw: 0x12n });
    // ST(3) and ST(4) are the physical registers 2 and 3.
    b.put({ st3: (5n << 64n) | 4n, st4: (7n << 64n) | 6n });
    b.run('paddb mm3, mm2\n hlt');
    expect(b.get('fsw')).toBe(0x0500n);
    expect(b.get('ftw')).toBe(0xffn);
    expect(b.get('st3')).toBe((0xffffn << 64n) | 10n);
    expect(b.get('st2')).toBe((5n << 64n) | 4n);
  });

  it('EMMS empties all registers and changes none', async () => {
    const b = await enabled();
    b.put({ fsw: 0x2000n });
    b.put({ ftw: 0xffn });
    b.put({ st4: 7n });
    b.run('emms\n hlt');
    expect([b.get('fsw'), b.get('ftw'), mm(b, 0)]).toEqual([0n, 0n, 7n]);
  });

  it('a fault leaves it as it was', async () => {
    const b = await enabled();
    b.put({ fsw: 0x2000n });
    expect(b.fault('at: paddb mm0, [0x1ff000]\n hlt')).toEqual({ vector: PF, error: 0, at: 'at' });
    expect(b.get('fsw')).toBe(0x2000n);
  });
});

describe('a store of an MMX register that faults', () => {
  // Measured on an Intel Xeon (Cascade Lake) and on AMD EPYC.
  it.each([
    ['intel', 'movq [0x1ff000], mm1', 0x0500n],
    ['intel', 'movd [0x1ff000], mm1', 0x0500n],
    ['intel', 'movntq [0x1ff000], mm1', 0x0500n],
    ['intel', 'paddb mm1, [0x1ff000]', 0x3d00n],
    ['intel', 'movsd [0x1ff000], xmm1', 0x3d00n],
    ['amd', 'movq [0x1ff000], mm1', 0x3d00n],
    ['amd', 'movd [0x1ff000], mm1', 0x3d00n],
    ['amd', 'movntq [0x1ff000], mm1', 0x3d00n],
  ] as const)('%s, %s: FSW is 0x%x, the tags stay', async (vendor, code, fsw) => {
    const b = await enabled(0, vendor);
    b.put({ fsw: 0x3d00n, ftw: 0x12n });
    expect(b.fault(`at: ${code}\n hlt`)).toMatchObject({ vector: PF, at: 'at' });
    expect([b.get('fsw'), b.get('ftw')]).toEqual([fsw, 0x12n]);
  });
});

describe('16-byte operands', () => {
  it('an unaligned one is #GP(0), also in the stack segment and before a page fault; MOVUPS, MOVDQU and LDDQU take it', async () => {
    const b = await enabled();
    expect(b.fault('at: paddb xmm0, [0x10008]\n hlt')).toEqual({ vector: GP, error: 0, at: 'at' });
    expect(b.fault('at: movaps [rsp - 20], xmm0\n hlt')).toEqual({ vector: GP, error: 0, at: 'at' });
    expect(b.fault('at: movdqa xmm0, [0x1ff008]\n hlt')).toEqual({ vector: GP, error: 0, at: 'at' });
    b.write64(0x10008, 0x8877665544332211n);
    b.write64(0x10010, 0xffeeddccbbaa9988n);
    for (const name of ['movups', 'movdqu', 'lddqu']) {
      expect(b.run(`${name} xmm5, [0x10009]\n hlt`).vector).toBe(undefined);
      expect(xmm(b, 5)).toEqual([0x00ffeeddccbbaa99n, 0x8888776655443322n]);
    }
  });

  it('a store over two pages writes nothing if the second is not there', async () => {
    const b = await enabled();
    expect(b.fault('at: movups [0x1feff8], xmm1\n hlt')).toEqual({ vector: PF, error: 2, at: 'at' });
    expect(b.get('cr2')).toBe(0x1ff000n);
    expect(b.read64(0x1feff8)).toBe(0n);
    b.run('movups [0x1fdff8], xmm1\n movups xmm6, [0x1fdff8]\n hlt');
    expect([b.read64(0x1fdff8), b.read64(0x1fe000)]).toEqual([0x0202020202020202n, 0x2222222222222222n]);
    expect(xmm(b, 6)).toEqual(xmm(b, 1));
  });

  it('a store into code that has run is seen', async () => {
    const b = await enabled();
    // mov eax, 2; ret
    setXmm(b, 0, 0n, 0xc300000002b8n);
    b.run(
      'call sub\n mov edx, eax\n movups [rip + sub], xmm0\n call sub\n hlt\n sub: mov eax, 1\n ret\n .fill 16, 1, 0x90',
    );
    expect([b.get('rdx'), b.get('rax')]).toEqual([1n, 2n]);
  });

  it('device memory sees two accesses of 8 bytes, the lower first', async () => {
    const b = await enabled();
    b.write64(PT + 510 * 8, 0xfee00003n);
    b.load('movaps xmm1, [0x1fe010]\n movntdq [0x1fe020], xmm1\n hlt');
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', direction: 'read', gpaLo: 0xfee00010, size: 8 });
    b.state.completeMmio(1, 2);
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', direction: 'read', gpaLo: 0xfee00018, size: 8 });
    b.state.completeMmio(3, 4);
    expect(b.cpu.run(0, 100)).toMatchObject({ direction: 'write', gpaLo: 0xfee00020, size: 8, valueLo: 1, valueHi: 2 });
    b.state.completeMmio(0, 0);
    expect(b.cpu.run(0, 100)).toMatchObject({ direction: 'write', gpaLo: 0xfee00028, size: 8, valueLo: 3, valueHi: 4 });
    b.state.completeMmio(0, 0);
    expect(b.cpu.run(0, 100).reason).toBe('hlt');
    expect(xmm(b, 1)).toEqual([0x400000003n, 0x200000001n]);
  });

  it('MASKMOVDQU stores the chosen bytes, and needs all of its operand', async () => {
    const b = await enabled();
    setXmm(b, 1, 0x80n, 0x8000000000000080n);
    b.run('mov edi, 0x10003\n .byte 0x66, 0x0f, 0xf7, 0xd9\n hlt');
    expect([b.read64(0x10000), b.read64(0x10008)]).toEqual([0x04000000n, 0x44040000n]);
    expect(b.fault('mov edi, 0x1feff8\n at: .byte 0x66, 0x0f, 0xf7, 0xd9\n hlt')).toEqual({
      vector: PF,
      error: 2,
      at: 'at',
    });
    expect(b.read64(0x1feff8)).toBe(0n);
  });
  it.each([
    ['intel', 0x1ff00bn],
    ['amd', 0x1ff003n],
  ] as const)('%s: of a MASKMOVDQU to a bad page CR2 is %i, whatever the mask', async (vendor, cr2) => {
    for (const mask of [0n, 0x80n]) {
      const b = await enabled(0, vendor);
      setXmm(b, 1, 0n, mask);
      expect(b.run('mov edi, 0x1ff003\n .byte 0x66, 0x0f, 0xf7, 0xd9').vector).toBe(PF);
      expect(b.get('cr2')).toBe(cr2);
    }
  });
});

describe('registers', () => {
  it('outside 64-bit mode there are eight', async () => {
    const b = await bare('prot32');
    b.put({ cr4: OSFXSR });
    setXmm(b, 7, 5n, 6n);
    b.run('movdqa xmm0, xmm7\n hlt');
    expect(xmm(b, 0)).toEqual([5n, 6n]);
  });

  it('REX.R and REX.B mean nothing to MMX registers', async () => {
    const b = await enabled();
    b.put({ st2: 3n });
    b.run('.byte 0x4d, 0x0f, 0xfc, 0xca\n hlt'); // paddb mm1, mm2
    expect(mm(b, 1)).toBe(3n);
  });

  it('loads of a single or double clear the rest; moves between registers keep it', async () => {
    const b = await enabled();
    b.write64(0x10000, 0x1122334455667788n);
    b.run('movss xmm0, [0x10000]\n movsd xmm1, [0x10000]\n movss xmm2, xmm3\n hlt');
    expect(xmm(b, 0)).toEqual([0n, 0x55667788n]);
    expect(xmm(b, 1)).toEqual([0n, 0x1122334455667788n]);
    expect(xmm(b, 2)).toEqual([0x3333333333333333n, 0x0303030304040404n]);
  });
});

describe('published examples', () => {
  it('AES-128 of FIPS 197, appendix B', async () => {
    const b = await enabled();
    // Key and text with their first byte lowest.
    setXmm(b, 1, 0x3c4fcf098815f7abn, 0xa6d2ae2816157e2bn);
    setXmm(b, 0, 0x340737e0a2983131n, 0x8d305a88a8f64332n);
    const rounds = [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36].map(
      (constant, i) => `
      aeskeygenassist xmm2, xmm1, ${constant}
      call expand
      ${i === 9 ? 'aesenclast' : 'aesenc'} xmm0, xmm1`,
    );
    b.run(`
      pxor xmm0, xmm1
      ${rounds.join('\n')}
      hlt
    expand:
      pshufd xmm2, xmm2, 0xff
      movdqa xmm3, xmm1
      pslldq xmm3, 4
      pxor xmm1, xmm3
      pslldq xmm3, 4
      pxor xmm1, xmm3
      pslldq xmm3, 4
      pxor xmm1, xmm3
      pxor xmm1, xmm2
      ret`);
    expect(xmm(b, 0)).toEqual([0x320b6a19978511dcn, 0xfb09dc021d842539n]);
  });

  it('SHA-256 of a message of one block (FIPS 180-4)', async () => {
    const b = await enabled();
    const primes = Array.from({ length: 312 }, (_, n) => n).filter(
      (n) => n > 1 && !Array.from({ length: n }, (_, k) => k).some((k) => k > 1 && n % k === 0),
    );
    const fraction = (value: number): number => Math.floor((value % 1) * 2 ** 32);
    const start = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
    primes.slice(0, 64).forEach((prime, i) => {
      b.write32(0x10000 + i * 4, fraction(Math.cbrt(prime)));
    });
    const four = (...lanes: number[]): bigint => lanes.reduceRight((sum, lane) => (sum << 32n) | BigInt(lane), 0n);
    const [h0, h1, h2, h3, h4, h5, h6, h7] = start as [number, number, number, number, number, number, number, number];
    b.put({ xmm1: four(h5, h4, h1, h0), xmm2: four(h7, h6, h3, h2) });
    b.put({ xmm3: four(0x61626380, 0, 0, 0), xmm4: 0, xmm5: 0, xmm6: four(0, 0, 0, 24) });
    b.run(`
      mov esi, 0x10000
      mov ecx, 16
    four_rounds:
      movdqa xmm0, [rsi]
      paddd xmm0, xmm3
      sha256rnds2 xmm2, xmm1
      pshufd xmm0, xmm0, 0x0e
      sha256rnds2 xmm1, xmm2
      movdqa xmm7, xmm6
      palignr xmm7, xmm5, 4
      sha256msg1 xmm3, xmm4
      paddd xmm3, xmm7
      sha256msg2 xmm3, xmm6
      movdqa xmm7, xmm3
      movdqa xmm3, xmm4
      movdqa xmm4, xmm5
      movdqa xmm5, xmm6
      movdqa xmm6, xmm7
      add esi, 16
      dec ecx
      jnz four_rounds
      hlt`);
    const lane = (name: string, n: number): number => Number((b.get(name) >> BigInt(32 * n)) & 0xffffffffn);
    const ends = [
      ...[3, 2].map((n) => lane('xmm1', n)),
      ...[3, 2].map((n) => lane('xmm2', n)),
      ...[1, 0].map((n) => lane('xmm1', n)),
      ...[1, 0].map((n) => lane('xmm2', n)),
    ];
    const digest = ends.map((word, i) => ((word + (start[i] as number)) >>> 0).toString(16).padStart(8, '0'));
    expect(digest.join('')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });

  it('PCMPISTRI finds a character of a set, PCMPESTRM masks a range', async () => {
    const b = await enabled();
    const text = (s: string): bigint => [...s].reduceRight((value, c) => (value << 8n) | BigInt(c.charCodeAt(0)), 0n);
    setXmm(b, 0, 0n, text('\r\n'));
    setXmm(b, 1, text('here\n'), text('a line, '));
    b.run('pcmpistri xmm0, xmm1, 0\n setc bl\n setz bh\n hlt');
    expect([b.get('rcx'), b.get('rbx') & 0xffffn]).toEqual([12n, 0x0101n]);
    setXmm(b, 2, 0n, text('az'));
    b.run('mov eax, 2\n mov edx, 16\n pcmpestrm xmm2, xmm1, 0x44\n hlt');
    expect(xmm(b, 0)).toEqual([0x00000000ffffffffn, 0x0000ffffffff00ffn]);
  });
});
