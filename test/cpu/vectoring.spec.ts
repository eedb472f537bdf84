/** IDT-vectoring information: the event whose delivery an exit interrupts (SDM vol. 3, 25.9.3). */
import { describe, expect, it } from 'vitest';
import * as L from '../../src/cpu/core/layout.ts';
import { type Bare, bare, IDT, PT, SEL } from './bare.ts';

const DF = 8;
const NP = 11;
const GP = 13;
const PF = 14;
const VALID = 0x80000000;
const ERROR = 0x800;
const type = (value: number): number => value << 8;

const seen = (b: Bare): unknown => [b.state.vectoring >>> 0, b.state.vectoringError, b.get('rip')];

describe('IDT-vectoring information', () => {
  it('an exception of the bitmap while an external interrupt is delivered', async () => {
    const b = await bare('long64');
    b.load('nop');
    b.gate(0x30, SEL.NOCODE, 0x8e);
    b.state.exceptionBitmap = 1 << NP;
    b.state.inject(VALID | 0x30, 0, 0);
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: NP, errorCode: SEL.NOCODE | 1 });
    expect(seen(b)).toEqual([VALID + 0x30, 0, 0x8000n]);
  });

  it('a page fault while an exception with an error code is delivered', async () => {
    const b = await bare('long64');
    b.load('mov ecx, ABSENT\nbad: mov ds, ecx');
    b.write64(PT + (IDT >> 12) * 8, 0n);
    b.state.exceptionBitmap = 1 << PF;
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: PF });
    expect(seen(b)).toEqual([VALID + ERROR + type(L.EVENT_TYPE_EXCEPTION) + NP, SEL.ABSENT, b.label('bad')]);
  });

  it('a double fault reports the first exception', async () => {
    const b = await bare('long64');
    b.load('mov ecx, ABSENT\nbad: mov ds, ecx');
    b.gate(NP, 0, 0x8e);
    b.state.exceptionBitmap = 1 << DF;
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: DF, errorCode: 0 });
    expect(seen(b)).toEqual([VALID + ERROR + type(L.EVENT_TYPE_EXCEPTION) + NP, SEL.ABSENT, b.label('bad')]);
  });

  it('a software interrupt, with RIP and length of the instruction', async () => {
    const b = await bare('long64');
    b.load('nop\nhere: int 0x40\nnext:');
    b.gate(0x40, 0, 0x8e);
    b.state.exceptionBitmap = 1 << GP;
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: GP, errorCode: 0 });
    expect(seen(b)).toEqual([VALID + type(L.EVENT_TYPE_SOFT_INT) + 0x40, 0, b.label('here')]);
  });

  it('a frame outside RAM is an internal error with the event', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x30 * 8, 0x7fff_f007n);
    b.load('nop');
    b.put({ rsp: 0x30100 });
    b.state.inject(VALID | type(L.EVENT_TYPE_NMI) | 2, 0, 0);
    expect(b.cpu.run(0, 10).reason).toBe('internal');
    expect(seen(b)).toEqual([VALID + type(L.EVENT_TYPE_NMI) + 2, 0, 0x8000n]);
  });

  it('is 0 at exits outside a delivery, and at the exit after one', async () => {
    const b = await bare('long64');
    b.load('mov ecx, ABSENT\nbad: mov ds, ecx');
    b.state.exceptionBitmap = 1 << NP;
    b.cpu.run(0, 10);
    expect(b.state.vectoring).toBe(0);
    b.gate(0x30, SEL.NOCODE, 0x8e);
    b.state.inject(VALID | 0x30, 0, 0);
    b.cpu.run(0, 10);
    expect(b.state.vectoring >>> 0).toBe(VALID + 0x30);
    b.load('hlt');
    expect([b.cpu.run(0, 10).reason, b.state.vectoring]).toEqual(['hlt', 0]);
  });

  it('injecting the event again delivers it once the cause is gone', async () => {
    const b = await bare('long64');
    b.load('nop');
    b.write64(PT + (IDT >> 12) * 8, 0n);
    b.state.exceptionBitmap = 1 << PF;
    b.state.inject(VALID | 0x30, 0, 0);
    b.cpu.run(0, 10);
    b.write64(PT + (IDT >> 12) * 8, 0x3007n);
    b.state.inject(b.state.vectoring, b.state.vectoringError, 0);
    expect(b.go()).toMatchObject({ vector: 0x30, at: '0x8000' });
  });
});
