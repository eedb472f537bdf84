import { describe, expect, it } from 'vitest';
import * as A from './apicv.ts';
import * as L from './lapic.ts';

const WORD = ['intercepted', 'virtualized', 'faults', 'traps', 'sends self', 'sends'] as const;
const word = (verdict: number) => WORD[verdict];

describe('WRMSR of an x2APIC register under APICv', () => {
  it.each<[name: string, offset: number, lo: number, hi: number, word: string]>([
    ['TPR', L.APIC_TPR, 0x20, 0, 'virtualized'],
    ['TPR with bit 8', L.APIC_TPR, 0x120, 0, 'faults'],
    ['EOI', L.APIC_EOI, 0, 0, 'virtualized'],
    ['EOI with a value', L.APIC_EOI, 1, 0, 'faults'],
    ['SELF_IPI', L.APIC_SELF_IPI, 0x40, 0, 'sends self'],
    ['SELF_IPI with vector 15', L.APIC_SELF_IPI, 15, 0, 'traps'],
    ['SELF_IPI with bit 8', L.APIC_SELF_IPI, 0x140, 0, 'faults'],
    ['ICR', L.APIC_ICR, 0x40, 1, 'intercepted'],
    ['SVR', L.APIC_SVR, 0x1ff, 0, 'intercepted'],
    ['LVTT', L.APIC_LVTT, 0x40, 0, 'intercepted'],
  ])('%s', (_, offset, lo, hi, expected) => {
    expect(word(A.vmxWrmsr(offset, lo, hi, false))).toBe(expected);
  });

  it.each<[name: string, lo: number, word: string]>([
    ['Fixed, physical, edge', 0x40, 'sends'],
    ['level bit', 0x4040, 'sends'],
    ['busy bit: ignored', 0x1040, 'sends'],
    ['level-triggered', 0x8040, 'traps'],
    ['logical', 0x840, 'traps'],
    ['lowest priority', 0x140, 'traps'],
    ['NMI', 0x440, 'traps'],
    ['vector 15', 0x0f, 'traps'],
    ['shorthand self', 0x40040, 'sends self'],
    ['shorthand self, level-triggered', 0x48040, 'traps'],
    ['shorthand all', 0x80040, 'traps'],
    ['shorthand all but self', 0xc0040, 'traps'],
    ['bit 13', 0x2040, 'faults'],
    ['bit 16', 0x10040, 'faults'],
    ['bit 31', 0x80000040 | 0, 'faults'],
  ])('ICR with IPI virtualization: %s', (_, lo, expected) => {
    expect(word(A.vmxWrmsr(L.APIC_ICR, lo, 1, true))).toBe(expected);
  });
});

describe('RDMSR of an x2APIC register under APICv', () => {
  it('is intercepted for the current count of the timer only, and since v6.3 for what is no register', () => {
    expect(word(A.vmxRdmsr(L.APIC_PPR, true, true))).toBe('virtualized');
    expect(word(A.vmxRdmsr(L.APIC_TMCCT, true, true))).toBe('intercepted');
    expect(word(A.vmxRdmsr(L.APIC_TMCCT, true, false))).toBe('intercepted');
    expect(word(A.vmxRdmsr(L.APIC_DFR, false, true))).toBe('intercepted');
    expect(word(A.vmxRdmsr(L.APIC_DFR, false, false))).toBe('virtualized');
  });
});

describe('the APIC page under APICv', () => {
  it.each<[name: string, offset: number, value: number, plain: string, ipiv: string]>([
    ['ID', L.APIC_ID, 0, 'traps', 'traps'],
    ['LVR', L.APIC_LVR, 0, 'intercepted', 'intercepted'],
    ['TPR', L.APIC_TPR, 0x20, 'virtualized', 'virtualized'],
    ['EOI', L.APIC_EOI, 7, 'virtualized', 'virtualized'],
    ['LDR', L.APIC_LDR, 0, 'traps', 'traps'],
    ['ICR2', L.APIC_ICR2, 0, 'virtualized', 'virtualized'],
    ['ICR', L.APIC_ICR, 0x40, 'traps', 'sends'],
    ['ICR, busy bit', L.APIC_ICR, 0x1040, 'traps', 'traps'],
    ['ICR, reserved bit', L.APIC_ICR, 0x2040, 'traps', 'traps'],
    ['ICR, shorthand self', L.APIC_ICR, 0x40040, 'sends self', 'sends self'],
    ['TMICT', L.APIC_TMICT, 100, 'traps', 'traps'],
    ['SELF_IPI', L.APIC_SELF_IPI, 0x40, 'intercepted', 'intercepted'],
  ])('store to %s', (_, offset, value, plain, ipiv) => {
    expect(word(A.vmxStore(offset, value, false))).toBe(plain);
    expect(word(A.vmxStore(offset, value, true))).toBe(ipiv);
  });

  it('lets the guest load all but PPR, APR, the timer count and holes', () => {
    const exits = Array.from({ length: 64 }, (_, slot) => slot * 16).filter(
      (offset) => A.vmxLoad(offset) === A.INTERCEPTED && ![0, 0x10].includes(offset),
    );
    expect(exits).toEqual([
      ...[0x40, 0x50, 0x60, 0x70, L.APIC_APR, L.APIC_PPR, 0xc0, 0x290, 0x2a0, 0x2b0, 0x2c0, 0x2d0, 0x2e0],
      ...[L.APIC_LVT_CMCI, L.APIC_TMCCT, 0x3a0, 0x3b0, 0x3c0, 0x3d0, L.APIC_SELF_IPI],
    ]);
  });
});
