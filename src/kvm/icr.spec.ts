import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as I from './icr.ts';
import { DELIVERY_MODES, Icr, SHORTHANDS } from './icr.ts';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u64 = fc.tuple(u32, u32).map(([hi, lo]) => (BigInt(hi) << 32n) | BigInt(lo));

describe('Icr', () => {
  it('has fields that cover the low 32 bits exactly once', () => {
    const masks = [I.ICR_VECTOR, I.ICR_MODE, I.ICR_LOGICAL, I.ICR_BUSY, I.ICR_ASSERT, I.ICR_LEVEL, I.ICR_SHORTHAND];
    const all = [...masks, I.ICR_RESERVED];
    expect(all.reduce((sum, mask) => sum + (mask >>> 0), 0)).toBe(0xffffffff);
    expect(all.reduce((union, mask) => union | mask, 0) >>> 0).toBe(0xffffffff);
  });

  it('keeps every bit of an x2APIC value', () => {
    fc.assert(fc.property(u64, (value) => Icr.fromX2(value).toX2() === value));
  });

  it('keeps every bit of xAPIC registers but ICR2[23:0]', () => {
    fc.assert(
      fc.property(u32, u32, (icr, icr2) => {
        const back = Icr.fromXapic(icr, icr2).toXapic();
        return back.icr === icr && back.icr2 === (icr2 & 0xff000000) >>> 0;
      }),
    );
  });

  it('decodes by name', () => {
    expect(Icr.fromX2(0x00000003_000ccdf0n)).toEqual({
      vector: 0xf0,
      mode: 'init',
      destinationMode: 'logical',
      level: 'assert',
      trigger: 'level',
      shorthand: 'all-but-self',
      destination: 3,
      busy: false,
      reserved: 0,
    });
    expect(Icr.fromX2(0x0000000f_fff33000n)).toMatchObject({ busy: true, reserved: 0xfff32000, destination: 15 });
  });

  it('encodes what a plain Linux IPI is', () => {
    expect(new Icr({ vector: 0xfd, destination: 7 }).toX2()).toBe(0x7_0000_00fdn);
    expect(new Icr({ vector: 2, mode: 'nmi', destination: 7 }).toXapic()).toEqual({ icr: 0x402, icr2: 0x07000000 });
    expect(new Icr({ vector: 0xf0, shorthand: 'all' }).low).toBe(0x800f0);
  });

  it('numbers modes and shorthands as the SDM does', () => {
    expect(DELIVERY_MODES[I.MODE_NMI]).toBe('nmi');
    expect(DELIVERY_MODES[I.MODE_STARTUP]).toBe('startup');
    expect(DELIVERY_MODES[I.MODE_EXTINT]).toBe('extint');
    expect(SHORTHANDS[I.SHORTHAND_ALL_BUT_SELF]).toBe('all-but-self');
  });
});
