/** Images of processor state, XCR0, FS and GS bases, cache lines: what CR0, CR4, the CPL and the vendor decide. Values: test/cpu/native. */
import { describe, expect, it } from 'vitest';
import { type BareOptions, bare, type Mode, PT } from './bare.ts';

const UD = 6;
const NM = 7;
const PF = 14;
const OSFXSR = 0x200;
const PCE = 0x100;
const FSGSBASE = 0x10000;
const OSXSAVE = 0x40000;
const AREA = 0x30000;

/** Where a one-line snippet ends: in a handler with its error code, or at the exit after it. */
async function outcome(
  source: string,
  registers: Readonly<Record<string, bigint | number>>,
  { mode = 'long64', ...options }: BareOptions & { mode?: Mode } = {},
): Promise<string> {
  const b = await bare(mode, options);
  b.load(`${source}\nhlt`);
  b.put({ cr4: mode === 'long64' ? 0x20 : 0, ...registers });
  const { reason, vector, error } = b.go();
  return vector === undefined ? reason : `${vector}${error === undefined ? '' : ` ${error}`}`;
}
const osxsave = { cr4: 0x20 | OSXSAVE | OSFXSR, xcr0: 3, rax: 3, rdx: 0 };

describe('conditions', () => {
  it.each([
    ['FXSAVE with CR0.EM', 'fxsave [0x30000]', { cr0: 0x80010035 }, NM],
    ['FXRSTOR with CR0.TS', 'fxrstor [0x30000]', { cr0: 0x80010039 }, NM],
    ['FXSAVE without alignment', 'fxsave [0x30008]', {}, '13 0'],
    ['LDMXCSR with CR0.EM', 'ldmxcsr [0x30000]', { cr0: 0x80010035, cr4: 0x20 | OSFXSR }, UD],
    ['LDMXCSR without CR4.OSFXSR', 'ldmxcsr [0x30000]', {}, UD],
    ['LDMXCSR with CR0.TS', 'ldmxcsr [0x30000]', { cr0: 0x80010039, cr4: 0x20 | OSFXSR }, NM],
    ['LDMXCSR of a reserved bit', 'mov dword ptr [0x30000], 0x10000\nldmxcsr [0x30000]', osxsave, '13 0'],
    ['XSAVE without CR4.OSXSAVE', 'xsave [0x30000]', {}, UD],
    ['XSAVE with CR0.TS', 'xsave [0x30000]', { ...osxsave, cr0: 0x80010039 }, NM],
    ['XRSTOR without alignment', 'xrstor [0x30020]', osxsave, '13 0'],
    ['XRSTOR of a component that XCR0 does not enable', 'xrstor [0x30000]', { ...osxsave, xcr0: 1 }, '13 0', 2],
    ['XRSTORS of the standard format', 'xrstors [0x30000]', osxsave, '13 0'],
    ['XGETBV without CR4.OSXSAVE', 'xgetbv', { rcx: 0 }, UD],
    ['XGETBV of XCR2', 'xgetbv', { ...osxsave, rcx: 2 }, '13 0'],
    ['XSETBV without CR4.OSXSAVE', 'xsetbv', {}, UD],
    ['XSETBV', 'xsetbv', osxsave, 'xsetbv'],
    ['RDFSBASE without CR4.FSGSBASE', 'rdfsbase rax', {}, UD],
    ['WRGSBASE of an address that is not canonical', 'wrgsbase rax', { cr4: 0x20 | FSGSBASE, rax: 1n << 63n }, '13 0'],
    ['RDPMC', 'rdpmc', {}, 'rdpmc'],
    ['MONITOR', 'monitor', {}, 'monitor'],
    ['MWAIT', 'mwait', {}, 'mwait'],
    ['RSM outside SMM', 'rsm', {}, UD],
    ['SERIALIZE', 'serialize', {}, 'hlt'],
    ['CLZERO, which Intel does not have', 'clzero', { rax: AREA }, UD],
    ['WBNOINVD', 'wbnoinvd', {}, 'wbinvd'],
    ['CLWB of an absent page', 'clwb [0x400000]', {}, '14 0'],
    ['CLDEMOTE of an absent page', 'cldemote [0x400000]', {}, 'hlt'],
  ] as const)('%s', async (_, source, registers, expected, stateBv?: number) => {
    const prepare = stateBv === undefined ? '' : `mov dword ptr [0x30200], ${stateBv}\n`;
    expect(await outcome(prepare + source, registers)).toBe(String(expected));
  });

  it.each([
    ['XSAVES', 'xsaves [0x30000]', osxsave, '13 0'],
    ['XRSTORS', 'xrstors [0x30000]', osxsave, '13 0'],
    ['XSETBV', 'xsetbv', osxsave, '13 0'],
    ['RDPMC', 'rdpmc', {}, '13 0'],
    ['RDPMC with CR4.PCE', 'rdpmc', { cr4: 0x20 | PCE }, 'rdpmc'],
    ['MONITOR', 'monitor', {}, UD],
    ['WBNOINVD', 'wbnoinvd', {}, '13 0'],
  ] as const)('%s at CPL 3', async (_, source, registers, expected) => {
    expect(await outcome(source, registers, { cpl: 3 })).toBe(String(expected));
  });

  it('on AMD: XSETBV leaves before the CPL is checked, SERIALIZE is undefined, CLZERO stores a line', async () => {
    expect(await outcome('xsetbv', osxsave, { vendor: 'amd', cpl: 3 })).toBe('xsetbv');
    expect(await outcome('serialize', {}, { vendor: 'amd' })).toBe(String(UD));
    const b = await bare('long64', { vendor: 'amd' });
    b.cpu.memory.fill(0xee, AREA, AREA + 192);
    b.load('clzero\nhlt');
    b.put({ rax: AREA + 0x7f });
    b.go();
    const line = (n: number): Set<number> => new Set(b.cpu.memory.subarray(AREA + n * 64, AREA + n * 64 + 64));
    expect([0, 1, 2].map((n) => [...line(n)])).toEqual([[0xee], [0], [0xee]]);
    expect(await outcome('clzero', { rax: 0x400000 }, { vendor: 'amd' })).toBe(`${PF} 2`);
  });

  it('MXCSR.MM frees operands of alignment, but not those of aligned moves; Intel does not have it', async () => {
    const misaligned = { cr4: 0x20 | OSFXSR, mxcsr: 0x21f80 };
    for (const source of ['paddb xmm0, [0x30001]', 'addps xmm0, [0x30001]', 'pshufb xmm0, [0x30001]']) {
      expect(await outcome(source, misaligned, { vendor: 'amd' })).toBe('hlt');
      expect(await outcome(source, { ...misaligned, mxcsr: 0x1f80 }, { vendor: 'amd' })).toBe('13 0');
    }
    for (const source of ['movaps xmm0, [0x30001]', 'movdqa [0x30001], xmm0', 'movntdqa xmm0, [0x30001]']) {
      expect(await outcome(source, misaligned, { vendor: 'amd' })).toBe('13 0');
    }
    const load = 'mov dword ptr [0x30000], 0x21f80\nldmxcsr [0x30000]';
    expect(await outcome(load, misaligned, { vendor: 'amd' })).toBe('hlt');
    expect(await outcome(load, { ...misaligned, mxcsr: 0x1f80 })).toBe('13 0');
  });

  it('FS and GS base instructions exist in 64-bit mode only', async () => {
    expect(await outcome('.byte 0xf3, 0x0f, 0xae, 0xc0', { cr4: FSGSBASE }, { mode: 'prot32' })).toBe(String(UD));
    const b = await bare('long64');
    b.load('wrfsbase rax\nrdfsbase rcx\nwrgsbase eax\nrdgsbase rdx\nhlt');
    b.put({ cr4: 0x20 | FSGSBASE, rax: 0xffff812345678000n });
    b.go();
    expect([b.get('fs_base'), b.get('rcx'), b.get('gs_base'), b.get('rdx')]).toEqual([
      0xffff812345678000n,
      0xffff812345678000n,
      0x45678000n,
      0x45678000n,
    ]);
  });
});

describe('state', () => {
  it('RESET: MXCSR 1F80H, XCR0 1; INIT leaves both', async () => {
    const b = await bare('real');
    b.state.reset('reset', 0);
    expect([b.get('mxcsr'), b.get('xcr0')]).toEqual([0x1f80n, 1n]);
    b.put({ mxcsr: 0x1fa0, xcr0: 3 });
    b.state.reset('init', 0);
    expect([b.get('mxcsr'), b.get('xcr0')]).toEqual([0x1fa0n, 3n]);
  });

  it('XSAVES and XRSTORS keep and bring back both components', async () => {
    const b = await bare('long64');
    b.load('xsaves64 [0x30000]\nhlt\nxrstors64 [0x30000]\nhlt');
    b.put({ ...osxsave, fcw: 0x27f, fip: 0x1234n, xmm3: 0x0123456789abcdefn, mxcsr: 0x1fbf });
    b.go();
    b.put({ fcw: 0x37f, fip: 0, xmm3: 0, mxcsr: 0x1f80 });
    expect(b.resume().reason).toBe('hlt');
    expect([b.get('fcw'), b.get('fip'), b.get('xmm3'), b.get('mxcsr')]).toEqual([
      0x27fn,
      0x1234n,
      0x0123456789abcdefn,
      0x1fbfn,
    ]);
    // XSTATE_BV and XCOMP_BV.
    expect([b.read64(AREA + 512), b.read64(AREA + 520)]).toEqual([3n, (1n << 63n) | 3n]);
  });

  it('PKRU is a component of its own: eight bytes behind the header in both formats', async () => {
    for (const [save, restore] of [
      ['xsave', 'xrstor'],
      ['xsavec', 'xrstor'],
      ['xsaves', 'xrstors'],
    ]) {
      const b = await bare('long64');
      b.cpu.memory.fill(0, AREA, AREA + 584);
      b.load(
        `${save} [0x30000]\nhlt\n${restore} [0x30000]\nhlt\nmov dword ptr [0x30200], 0\n${restore} [0x30000]\nhlt`,
      );
      b.put({ ...osxsave, xcr0: 0x203, rax: 0x200, pkru: 0x55555554 });
      b.go();
      expect([b.read64(AREA + 512), b.read64(AREA + 576)]).toEqual([0x200n, 0x55555554n]);
      b.put({ pkru: 0 });
      b.resume();
      expect(b.get('pkru')).toBe(0x55555554n);
      b.resume();
      expect(b.get('pkru')).toBe(0n);
    }
  });

  it('XSAVE asked for nothing writes nothing but XSTATE_BV', async () => {
    const b = await bare('long64');
    b.cpu.memory.fill(0xcc, AREA, AREA + 640);
    b.load('xsave [0x30000]\nhlt');
    b.put({ ...osxsave, rax: 0xfffffffcn, rdx: 0xffffffffn });
    b.go();
    expect(new Set(b.cpu.memory.subarray(AREA, AREA + 640))).toEqual(new Set([0xcc]));
  });

  it('without CR4.OSFXSR FXSAVE leaves out MXCSR and the XMM registers', async () => {
    const b = await bare('long64');
    b.cpu.memory.fill(0xcc, AREA, AREA + 512);
    b.load('fxsave [0x30000]\nhlt');
    b.go();
    const written = [...b.cpu.memory.subarray(AREA, AREA + 512)].flatMap((byte, at) => (byte === 0xcc ? [] : [at]));
    expect([written[0], written.at(-1), written.includes(24)]).toEqual([0, 159, false]);
  });

  it('Intel always saves the x87 pointers, AMD while an exception is pending', async () => {
    for (const [vendor, fsw, expected] of [
      ['intel', 0, 0x1234n],
      ['amd', 0, 0n],
      ['amd', 0x8081, 0x1234n],
    ] as const) {
      const b = await bare('long64', { vendor });
      b.load('fxsave64 [0x30000]\nhlt');
      b.put({ fip: 0x1234, fsw });
      b.go();
      expect(b.read64(AREA + 8)).toBe(expected);
    }
  });

  it.each([
    ['fxsave [0x1ffe10]', 0x20000fn],
    ['fxrstor [0x1ffe10]', 0x20000fn],
    ['fxsave [0x201000]', 0x2011ffn],
    ['fxrstor [0x201000]', 0x2011ffn],
    ['fxsave [0x1fe00]', 0x1ffffn],
    ['fxrstor [0x1fe10]', 0x1fe10n],
  ])('%s: the last byte is looked at first, CR2 is %i', async (source, cr2) => {
    for (const vendor of ['intel', 'amd'] as const) {
      const b = await bare('long64', { vendor });
      // What is at 0x1fe00 ends in this page, what is at 0x1fe10 behind it.
      b.write64(PT + 0x1f * 8, 0n);
      b.load(source);
      b.put({ rsp: 0x1e000 });
      expect(b.go().vector).toBe(PF);
      expect(b.get('cr2')).toBe(cr2);
    }
  });

  it('a fault in the second page of an image changes neither registers nor memory', async () => {
    const c = await bare('long64');
    c.load('bad: xrstor64 [0x1ffe00]\nhlt');
    c.put({ ...osxsave, fcw: 0x27f });
    expect(c.go()).toMatchObject({ vector: PF, error: 0, at: 'bad' });
    expect(c.get('fcw')).toBe(0x27fn);
    const d = await bare('long64');
    d.load('bad: xsave64 [0x1ffe00]\nhlt');
    d.put(osxsave);
    expect(d.go()).toMatchObject({ vector: PF, error: 2, at: 'bad' });
    expect(d.read64(0x1ffe00)).toBe(0n);
  });
});
