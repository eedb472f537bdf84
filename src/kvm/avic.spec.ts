import { describe, expect, it } from 'vitest';
import * as A from './avic.ts';
import * as L from './lapic.ts';

const WORD = ['intercepted', 'virtualized', 'faults', 'traps', 'sends self', 'sends'] as const;
const word = (verdict: number) => WORD[verdict];

describe('WRMSR of an x2APIC register under x2AVIC', () => {
  it.each<[name: string, offset: number, lo: number, word: string]>([
    ['ICR', L.APIC_ICR, 0x40, 'sends'],
    ['ICR, busy bit', L.APIC_ICR, 0x1040, 'faults'],
    ['ICR, bit 13', L.APIC_ICR, 0x2040, 'faults'],
    ['SELF_IPI', L.APIC_SELF_IPI, 0x40, 'sends self'],
    ['SELF_IPI, bit 8', L.APIC_SELF_IPI, 0x140, 'faults'],
    ['TPR', L.APIC_TPR, 0x20, 'virtualized'],
    ['EOI', L.APIC_EOI, 0, 'virtualized'],
    ['EOI with a value', L.APIC_EOI, 1, 'faults'],
    ['SVR', L.APIC_SVR, 0x1ff, 'traps'],
    ['LVT1', L.APIC_LVT1, 0x400, 'traps'],
    ['TMICT', L.APIC_TMICT, 100, 'traps'],
    ['LDR, which is read-only', L.APIC_LDR, 1, 'intercepted'],
  ])('%s', (_, offset, lo, expected) => {
    expect(word(A.avicWrmsr(offset, lo, 0, false))).toBe(expected);
  });

  it('traps an EOI that ends a level-triggered interrupt, by MSR and in the page', () => {
    expect(word(A.avicWrmsr(L.APIC_EOI, 0, 0, true))).toBe('traps');
    expect(word(A.avicStore(L.APIC_EOI, true))).toBe('traps');
    expect(word(A.avicStore(L.APIC_EOI, false))).toBe('virtualized');
  });
});

describe('the rest of AVIC', () => {
  it('reads everything but the current count and what is no register', () => {
    expect(word(A.avicRdmsr(L.APIC_ICR, true))).toBe('virtualized');
    expect(word(A.avicRdmsr(L.APIC_TMCCT, true))).toBe('intercepted');
    expect(word(A.avicRdmsr(L.APIC_DFR, false))).toBe('intercepted');
    expect(word(A.avicLoad(L.APIC_APR, true))).toBe('intercepted');
  });

  it('stores what changes ids, and leaves it to KVM', () => {
    for (const offset of [L.APIC_ID, L.APIC_LDR, L.APIC_DFR]) expect(word(A.avicStore(offset, false))).toBe('traps');
    expect(word(A.avicStore(L.APIC_ICR2, false))).toBe('virtualized');
    expect(word(A.avicStore(L.APIC_ICR, false))).toBe('sends');
    expect(word(A.avicStore(L.APIC_LVR, false))).toBe('intercepted');
  });

  it.each<[name: string, icr: number, cause: number]>([
    ['Fixed, edge', 0x40, A.IPI_COMPLETE],
    ['logical', 0x840, A.IPI_COMPLETE],
    ['shorthand all but self', 0xc0040, A.IPI_COMPLETE],
    ['lowest priority', 0x140, A.IPI_INVALID_TYPE],
    ['INIT', 0x500, A.IPI_INVALID_TYPE],
    ['level-triggered', 0x8040, A.IPI_INVALID_TYPE],
    ['vector 15', 0x0f, A.IPI_INVALID_VECTOR],
  ])('an IPI, %s', (_, icr, cause) => {
    expect(A.avicIpi(icr)).toBe(cause);
  });
});
