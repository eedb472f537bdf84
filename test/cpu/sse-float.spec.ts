/** SSE floating point: exceptions and their flags, modes of MXCSR, approximations. Values are proven against the processor in native/. */
import { describe, expect, it } from 'vitest';
import type { Vendor } from '../../src/cpu/cpu.ts';
import { type Bare, bare } from './bare.ts';

const OSFXSR = 0x200;
const OSXMMEXCPT = 0x400;
const UD = 6;
const XM = 19;
// Flags of MXCSR; the mask of each is 7 bits higher.
const I = 1;
const D = 2;
const Z = 4;
const O = 8;
const U = 16;
const P = 32;
const MASKED = 0x1f80;
const DAZ = 0x40;
const FTZ = 0x8000;

const floats = (...lanes: number[]): bigint => {
  const view = new DataView(new ArrayBuffer(16));
  lanes.forEach((value, i) => {
    view.setFloat32(i * 4, value, true);
  });
  return (view.getBigUint64(8, true) << 64n) | view.getBigUint64(0, true);
};
const doubles = (...lanes: number[]): bigint => {
  const view = new DataView(new ArrayBuffer(16));
  lanes.forEach((value, i) => {
    view.setFloat64(i * 8, value, true);
  });
  return (view.getBigUint64(8, true) << 64n) | view.getBigUint64(0, true);
};
const MAX = 3.4028234663852886e38;
const TINY = 1e-40; // a denormal

async function enabled(cr4 = OSFXSR | OSXMMEXCPT, vendor: Vendor = 'intel'): Promise<Bare> {
  const b = await bare('long64', { vendor });
  b.put({ cr4: 0x20 | cr4 });
  return b;
}
/** Runs one instruction on these values of XMM0 and XMM1 under this MXCSR. */
function run(b: Bare, code: string, mxcsr: number, xmm0: bigint, xmm1: bigint) {
  b.put({ mxcsr, xmm0, xmm1, rsp: 0x1f000 });
  const { vector, at } = b.run(`at: ${code}\n hlt`);
  return { vector, at: vector === undefined ? undefined : at, xmm0: b.get('xmm0'), mxcsr: Number(b.get('mxcsr')) };
}

describe('exceptions', () => {
  it('masked: the result and the flags', async () => {
    const b = await enabled();
    const infinity = Number.POSITIVE_INFINITY;
    expect(run(b, 'divps xmm0, xmm1', MASKED, floats(1, -1, 1, 0), floats(0, 0, 3, 1))).toMatchObject({
      vector: undefined,
      xmm0: floats(infinity, -infinity, 1 / 3, 0),
      mxcsr: MASKED | Z | P,
    });
  });

  it('unmasked: #XM at the instruction, flags set, nothing written', async () => {
    const b = await enabled();
    const before = floats(1, 2, 3, 4);
    expect(run(b, 'divps xmm0, xmm1', MASKED & ~(Z << 7), before, floats(1, 1, 1, 0))).toEqual({
      vector: XM,
      at: 'at',
      xmm0: before,
      mxcsr: (MASKED & ~(Z << 7)) | Z,
    });
  });

  it('unmasked with CR4.OSXMMEXCPT clear: #UD', async () => {
    const b = await enabled(OSFXSR);
    expect(run(b, 'sqrtss xmm0, xmm1', MASKED & ~(I << 7), 5n, floats(-1))).toMatchObject({ vector: UD, xmm0: 5n });
  });

  it('an unmasked one of the operands hides those of results, of all elements (SDM vol. 1, 11.5.3)', async () => {
    const b = await enabled();
    const mxcsr = MASKED & ~(D << 7);
    const result = run(b, 'mulps xmm0, xmm1', mxcsr, floats(MAX, TINY, 0, 0), floats(MAX, 1, 0, 0));
    expect(result).toMatchObject({ vector: XM, mxcsr: mxcsr | D });
    const masked = run(b, 'mulps xmm0, xmm1', MASKED, floats(MAX, TINY, 0, 0), floats(MAX, 1, 0, 0));
    expect(masked).toMatchObject({ vector: undefined, mxcsr: MASKED | O | P | D });
  });

  it('an unmasked one of the results does not hide the others', async () => {
    const b = await enabled();
    const mxcsr = MASKED & ~(O << 7);
    const result = run(b, 'mulps xmm0, xmm1', mxcsr, floats(MAX, 1e-30, 0, 0), floats(MAX, 1e-10, 0, 0));
    expect(result).toMatchObject({ vector: XM, mxcsr: mxcsr | O | P | U });
  });

  it('flags are sticky, and only the unmasked exceptions of this instruction are raised', async () => {
    const b = await enabled();
    const mxcsr = (MASKED & ~(Z << 7)) | Z | I;
    expect(run(b, 'addps xmm0, xmm1', mxcsr, floats(1, 1, 1, 1), floats(1, 1, 1, 1))).toMatchObject({
      vector: undefined,
      mxcsr,
    });
  });

  it('DPPS does not add after an unmasked exception of a product', async () => {
    const b = await enabled();
    const mxcsr = MASKED & ~(O << 7);
    const result = run(b, 'dpps xmm0, xmm1, 0xff', mxcsr, floats(MAX, MAX, 1, 1), floats(MAX, -MAX, 1, 1));
    expect(result).toMatchObject({ vector: XM, mxcsr: mxcsr | O | P });
    // Masked, the sum of the infinities is invalid.
    expect(run(b, 'dpps xmm0, xmm1, 0xff', MASKED, floats(MAX, MAX, 1, 1), floats(MAX, -MAX, 1, 1)).mxcsr).toBe(
      MASKED | O | P | I,
    );
  });

  it('COMISD leaves the flags alone when it raises one; UCOMISD takes a quiet NaN', async () => {
    const b = await enabled();
    b.put({ rflags: 0x8d7 });
    expect(run(b, 'comisd xmm0, xmm1', MASKED & ~(I << 7), doubles(Number.NaN), doubles(1)).vector).toBe(XM);
    const quiet = run(b, 'ucomisd xmm0, xmm1\n setp al\n setc bl\n setz cl', MASKED, doubles(Number.NaN), doubles(1));
    expect(quiet).toMatchObject({ vector: undefined, mxcsr: MASKED });
    expect([b.get('rax') & 1n, b.get('rbx') & 1n, b.get('rcx') & 1n]).toEqual([1n, 1n, 1n]);
  });
});

describe('MXCSR', () => {
  it('rounds in four ways', async () => {
    const b = await enabled();
    const thirds = [0, 1, 2, 3].map((rc) => run(b, 'divss xmm0, xmm1', MASKED | (rc << 13), floats(2), floats(3)).xmm0);
    expect(thirds).toEqual([0x3f2aaaabn, 0x3f2aaaaan, 0x3f2aaaabn, 0x3f2aaaaan]);
    const integers = [0, 1, 2, 3].map((rc) => {
      run(b, 'cvtsd2si rax, xmm1', MASKED | (rc << 13), 0n, doubles(-2.5));
      return BigInt.asIntN(64, b.get('rax'));
    });
    expect(integers).toEqual([-2n, -3n, -2n, -2n]);
  });

  it('DAZ takes denormals for zero without a flag, FTZ gives zero for a tiny result if underflow is masked', async () => {
    const b = await enabled();
    const denormal = floats(TINY);
    expect(run(b, 'addss xmm0, xmm1', MASKED, denormal, 0n)).toMatchObject({ xmm0: denormal, mxcsr: MASKED | D });
    expect(run(b, 'addss xmm0, xmm1', MASKED | DAZ, denormal, 0n)).toMatchObject({ xmm0: 0n, mxcsr: MASKED | DAZ });
    expect(run(b, 'mulss xmm0, xmm1', MASKED | FTZ, floats(-1e-20), floats(1e-20))).toMatchObject({
      xmm0: 0x80000000n,
      mxcsr: MASKED | FTZ | U | P,
    });
  });
});

describe('conversions', () => {
  it('what does not fit is the indefinite integer and invalid', async () => {
    const b = await enabled();
    const result = run(b, 'cvttps2dq xmm0, xmm1', MASKED, 0n, floats(1e10, -1e10, Number.NaN, -2147483648));
    expect(result).toMatchObject({ xmm0: 0x80000000_80000000_80000000_80000000n, mxcsr: MASKED | I });
    run(b, 'cvttss2si rax, xmm1', MASKED, 0n, floats(2 ** 63));
    expect(b.get('rax')).toBe(1n << 63n);
  });

  it('a scalar keeps the rest of its destination, a packed one clears what it does not fill', async () => {
    const b = await enabled();
    const all = (1n << 128n) - 1n;
    expect(run(b, 'cvtsd2ss xmm0, xmm1', MASKED, all, doubles(1)).xmm0).toBe((all ^ 0xffffffffn) | 0x3f800000n);
    expect(run(b, 'cvtpd2ps xmm0, xmm1', MASKED, all, doubles(1, 2)).xmm0).toBe(floats(1, 2, 0, 0));
  });

  // Of CVTPI2PS, SDM vol. 2 says otherwise; measured on an Intel Xeon (Cascade Lake) and on AMD EPYC.
  it.each([
    ['intel', 'cvtpi2pd', doubles(2, -1)],
    ['amd', 'cvtpi2pd', doubles(2, -1)],
    ['intel', 'cvtpi2ps', floats(2, -1, 0, 0)],
    ['amd', 'cvtpi2ps', floats(2, -1, 0, 0)],
  ] as const)(
    '%s: %s leaves the x87 state alone with a memory operand, and takes it with a register',
    async (vendor, code, result) => {
      const b = await enabled(OSFXSR | OSXMMEXCPT, vendor);
      b.put({ fsw: 0xb081, fcw: 0x37e, ftw: 0x0f, mxcsr: MASKED, xmm0: 0n });
      b.put({ cr0: 0x80010031 });
      b.write64(0x10000, 0xffffffff_00000002n);
      expect(b.run(`${code} xmm0, [0x10000]\n hlt`).vector).toBe(undefined);
      expect([b.get('xmm0'), b.get('fsw'), b.get('ftw')]).toEqual([result, 0xb081n, 0x0fn]);
      expect(b.run(`${code} xmm0, mm0\n hlt`).vector).toBe(16);
      b.put({ fsw: 0x3000 });
      expect(b.run(`${code} xmm0, mm0\n hlt`).vector).toBe(undefined);
      expect([b.get('fsw'), b.get('ftw')]).toEqual([0n, 0xffn]);
    },
  );
});

describe('DPPS and DPPD', () => {
  /** Lanes of 32 bits, 0 being a one, else a QNaN with that payload. */
  const quiet = (...lanes: number[]): bigint =>
    lanes.reduceRight((all, n) => (all << 32n) | (n === 0 ? 0x3f800000n : 0x7fc00000n | BigInt(n)), 0n);
  const ONES = quiet(0, 0, 0, 0);

  it.each([
    ['intel', quiet(1, 2, 3, 4), quiet(2, 1, 4, 3)],
    ['intel', quiet(1, 0, 3, 4), quiet(1, 1, 4, 3)],
    ['intel', quiet(0, 2, 3, 0), quiet(2, 2, 3, 3)],
    ['intel', quiet(0, 0, 3, 4), quiet(4, 3, 4, 3)],
    ['amd', quiet(1, 2, 3, 4), quiet(1, 1, 1, 1)],
    ['amd', quiet(0, 2, 3, 0), quiet(2, 2, 2, 2)],
    ['amd', quiet(0, 0, 3, 4), quiet(3, 3, 3, 3)],
  ] as const)('%s: which NaN of several an element of DPPS gets', async (vendor, from, to) => {
    const b = await enabled(undefined, vendor);
    expect(run(b, 'dpps xmm0, xmm1, 0xff', MASKED, from, ONES)).toMatchObject({ xmm0: to, mxcsr: MASKED });
    expect(run(b, 'dpps xmm0, xmm1, 0xff', MASKED, ONES, from).xmm0).toBe(to);
  });

  it.each([
    ['intel', 2n],
    ['amd', 1n],
  ] as const)('%s: of two NaNs the second element of DPPD gets the one of payload %i', async (vendor, payload) => {
    const b = await enabled(undefined, vendor);
    const nan = 0x7ff8000000000000n;
    const from = ((nan | 2n) << 64n) | nan | 1n;
    expect(run(b, 'dppd xmm0, xmm1, 0x33', MASKED, from, doubles(1, 1)).xmm0).toBe(((nan | payload) << 64n) | nan | 1n);
  });

  it.each(['intel', 'amd'] as const)('%s: the sum of chosen products goes to chosen elements', async (vendor) => {
    const b = await enabled(undefined, vendor);
    const [x, y] = [floats(1, 2, 3, 4), floats(10, 100, 1000, 10000)];
    expect(run(b, 'dpps xmm0, xmm1, 0xda', MASKED, x, y).xmm0).toBe(floats(0, 43010, 0, 43010));
    expect(run(b, 'dppd xmm0, xmm1, 0x31', MASKED, doubles(3, 5), doubles(7, 11)).xmm0).toBe(doubles(76, 0));
  });
});

describe('RCPSS and RSQRTSS', () => {
  it('are within 1.5 * 2^-12 of the exact value, and raise nothing', async () => {
    const b = await enabled();
    for (let i = 0; i < 200; i++) {
      const x = Math.fround(1.0137 ** (i * 20 - 2000) * (1 + (i % 7) / 7));
      for (const [code, exact] of [
        ['rcpss', 1 / x],
        ['rsqrtss', 1 / Math.sqrt(x)],
      ] as const) {
        const { xmm0, mxcsr } = run(b, `${code} xmm0, xmm1`, MASKED, 0n, floats(x));
        const view = new DataView(new ArrayBuffer(4));
        view.setUint32(0, Number(xmm0));
        expect(Math.abs(view.getFloat32(0) / exact - 1), `${code} of ${x}`).toBeLessThanOrEqual(1.5 * 2 ** -12);
        expect(mxcsr).toBe(MASKED);
      }
    }
  });

  it('zero, denormals, infinity, negative numbers and NaNs', async () => {
    const b = await enabled();
    const infinity = Number.POSITIVE_INFINITY;
    const source = floats(-0, TINY, -infinity, 0) | (0x7f800001n << 96n);
    expect(run(b, 'rcpps xmm0, xmm1', MASKED, 0n, source).xmm0).toBe(
      floats(-infinity, infinity, -0, 0) | (0x7fc00001n << 96n),
    );
    expect(run(b, 'rsqrtps xmm0, xmm1', MASKED, 0n, source).xmm0).toBe(
      floats(-infinity, infinity, 0, 0) | (0xffc00000n << 64n) | (0x7fc00001n << 96n),
    );
  });
});
