/**
 * The register table of the local APIC (SDM vol. 3, tables 11-1 and 11-6, as KVM has it), whole: every 16-byte slot of the page
 * by MMIO in xAPIC mode, and every MSR of 0x800 … 0x8FF in x2APIC mode, read and written, in every era.
 */
import { describe, expect, it } from 'vitest';
import type { Exit } from '../cpu/exit.ts';
import { ERAS, type Era, resolveEra } from './eras.ts';
import { icrMessage } from './icr.ts';
import { type Bench, bench, R_RFLAGS } from './spec-helper.ts';

/** r: readable, w: writable, -: neither; in x2APIC mode what is not allowed is #GP, in xAPIC mode it has no effect. */
type Access = 'rw' | 'r' | 'w' | '-';

interface Row {
  readonly name: string;
  readonly xapic: Access;
  readonly x2apic: Access | ((era: Era) => Access);
  /** What a read gives after a write of `value`; default: what it gave before. */
  readonly keeps?: (value: number, era: Era) => number;
  /** Values that raise #GP in x2APIC mode although the register can be written. */
  readonly refuses?: (value: number, era: Era) => boolean;
}

const unsigned = (value: number): number => value >>> 0;
const lvt = (mask: number) => (value: number) => unsigned(value & mask);
const RESERVED_ICR = 0xfff32000;

const TABLE = new Map<number, Row>([
  [0x020, { name: 'ID', xapic: 'rw', x2apic: 'r', keeps: (value) => unsigned(value & 0xff000000) }],
  [0x030, { name: 'LVR', xapic: 'r', x2apic: 'r' }],
  [0x080, { name: 'TPR', xapic: 'rw', x2apic: 'rw', keeps: (value) => value & 0xff }],
  [0x090, { name: 'APR', xapic: 'r', x2apic: (era) => (era.order < resolveEra('5.4').order ? 'r' : '-') }],
  [0x0a0, { name: 'PPR', xapic: 'r', x2apic: 'r' }],
  [0x0b0, { name: 'EOI', xapic: 'w', x2apic: 'w' }],
  [0x0d0, { name: 'LDR', xapic: 'rw', x2apic: 'r', keeps: (value) => unsigned(value & 0xff000000) }],
  [0x0e0, { name: 'DFR', xapic: 'rw', x2apic: '-', keeps: (value) => unsigned(value | 0x0fffffff) }],
  [0x0f0, { name: 'SVR', xapic: 'rw', x2apic: 'rw', keeps: (value) => value & 0x3ff }],
  ...Array.from({ length: 24 }, (_, i): [number, Row] => [
    0x100 + i * 0x10,
    { name: `${['ISR', 'TMR', 'IRR'][i >> 3]}${i & 7}`, xapic: 'r', x2apic: 'r' },
  ]),
  [0x280, { name: 'ESR', xapic: 'rw', x2apic: 'rw', keeps: () => 0, refuses: (value) => value !== 0 }],
  [
    0x300,
    {
      name: 'ICR',
      xapic: 'rw',
      x2apic: 'rw',
      keeps: (value) => unsigned(value & ~0x1000),
      refuses: (value, era) => era.order >= resolveEra('6.12-rc1').order && (value & RESERVED_ICR) !== 0,
    },
  ],
  [0x310, { name: 'ICR2', xapic: 'rw', x2apic: '-', keeps: (value) => unsigned(value & 0xff000000) }],
  [0x320, { name: 'LVTT', xapic: 'rw', x2apic: 'rw', keeps: lvt(0x710ff) }],
  [0x330, { name: 'LVTTHMR', xapic: 'rw', x2apic: 'rw', keeps: lvt(0x117ff) }],
  [0x340, { name: 'LVTPC', xapic: 'rw', x2apic: 'rw', keeps: lvt(0x117ff) }],
  [0x350, { name: 'LVT0', xapic: 'rw', x2apic: 'rw', keeps: lvt(0x1f7ff) }],
  [0x360, { name: 'LVT1', xapic: 'rw', x2apic: 'rw', keeps: lvt(0x1f7ff) }],
  [0x370, { name: 'LVTERR', xapic: 'rw', x2apic: 'rw', keeps: lvt(0x110ff) }],
  [0x380, { name: 'TMICT', xapic: 'rw', x2apic: 'rw', keeps: (value) => value }],
  [0x390, { name: 'TMCCT', xapic: 'r', x2apic: 'r' }],
  [
    0x3e0,
    {
      name: 'TDCR',
      xapic: 'rw',
      x2apic: 'rw',
      keeps: (value, era) => (era.order >= resolveEra('5.10-rc1').order ? value & 0xb : value),
    },
  ],
  [
    0x3f0,
    {
      name: 'SELF_IPI',
      xapic: '-',
      x2apic: 'w',
      refuses: (value, era) => era.order >= resolveEra('6.3-rc1').order && value > 0xff,
    },
  ],
]);
const RESERVED: Row = { name: 'reserved', xapic: '-', x2apic: '-' };

const OFFSETS = Array.from({ length: 0x100 }, (_, i) => i * 0x10);
const VALUES = [0, 1, 0x80, 0xfe, 0x12345678, 0xffffffff];
const row = (offset: number): Row => TABLE.get(offset) ?? RESERVED;
const access = ({ x2apic }: Row, era: Era): Access => (typeof x2apic === 'function' ? x2apic(era) : x2apic);

const MSR = (offset: number): number => 0x800 + (offset >> 4);
const mmio = (offset: number, direction: 'read' | 'write', value = 0, size = 4): Exit => ({
  reason: 'mmio',
  gpaLo: 0xfee00000 + offset,
  gpaHi: 0,
  size,
  direction,
  valueLo: value,
  valueHi: 0,
});

/** A lone vCPU with interrupts off and something in IRR, ISR and TMR. */
function subject(era: Era, apic: 'xapic' | 'x2apic'): Bench {
  const b = bench({ vcpus: 1, era: era.name, apic, observed: false });
  const [vcpu] = b.kvm.vcpus as [Bench['kvm']['vcpus'][number]];
  vcpu.state.set(R_RFLAGS, 2, 0);
  const { lapic } = vcpu;
  for (const word of [1, 2, 3, 4, 5, 6, 7]) lapic.accept(icrMessage(0, word * 32 + word, 1, word & 1));
  lapic.acknowledge(0x42);
  lapic.requestEvent = false;
  return b;
}

/** A 4-byte MMIO read, or what else of the slot is asked for. */
function readPage(b: Bench, offset: number, size = 4): number {
  b.cpu.vcpu(0).completed.length = 0;
  b.play(0, mmio(offset, 'read', 0, size));
  return unsigned(b.cpu.vcpu(0).completed[0] as number);
}

describe.each(ERAS)('$name', (era) => {
  it('x2APIC: each MSR of 0x800 … 0x8FF is readable or raises #GP', () => {
    const { kvm } = subject(era, 'x2apic');
    for (const offset of OFFSETS) {
      const readable = access(row(offset), era).includes('r');
      expect(kvm.getMsr(0, MSR(offset), false) !== undefined, `${row(offset).name} ${offset.toString(16)}`).toBe(
        readable,
      );
    }
  });

  it('x2APIC: each write is taken and kept as the table says, or raises #GP and changes nothing', () => {
    for (const offset of OFFSETS) {
      const { name, keeps, refuses } = row(offset);
      const allowed = access(row(offset), era);
      for (const value of VALUES) {
        const b = subject(era, 'x2apic');
        const before = b.kvm.getMsr(0, MSR(offset), false);
        const taken = allowed.includes('w') && !(refuses?.(value, era) ?? false);
        const what = `${name} ${offset.toString(16)} := ${value.toString(16)}`;
        expect(b.kvm.setMsr(0, MSR(offset), BigInt(value), false), what).toBe(taken);
        const after = taken && keeps !== undefined ? BigInt(keeps(value, era)) : before;
        expect(b.kvm.getMsr(0, MSR(offset), false), what).toBe(after);
      }
    }
  });

  it('x2APIC: bits 63:32 raise #GP from v6.3 on, except in ICR, and are ignored before', () => {
    for (const offset of OFFSETS) {
      const writable = access(row(offset), era).includes('w');
      const ignored = offset === 0x300 || era.order < resolveEra('6.3-rc1').order;
      const { kvm } = subject(era, 'x2apic');
      expect(kvm.setMsr(0, MSR(offset), 1n << 32n, false), row(offset).name).toBe(writable && ignored);
    }
  });

  it('x2APIC: 0x900 … 0xBFF never exist', () => {
    const { kvm } = subject(era, 'x2apic');
    for (const msr of [0x900, 0x930, 0xb30, 0xbff, 0xc00]) {
      expect([kvm.getMsr(0, msr, false), kvm.setMsr(0, msr, 0n, false)]).toEqual([undefined, false]);
    }
  });

  it('x2APIC: in xAPIC mode and when disabled every MSR raises #GP', () => {
    for (const base of [0xfee00800n, 0xfee00000n]) {
      const { kvm } = subject(era, 'xapic');
      kvm.setMsr(0, 0x1b, base, false);
      for (const offset of OFFSETS) {
        expect([kvm.getMsr(0, MSR(offset), false), kvm.setMsr(0, MSR(offset), 0n, false)]).toEqual([undefined, false]);
      }
    }
  });

  it('xAPIC: each slot reads its register or 0', () => {
    const b = subject(era, 'xapic');
    const { lapic } = b.kvm.vcpus[0] as Bench['kvm']['vcpus'][number];
    for (const offset of OFFSETS) {
      const expected = row(offset).xapic.includes('r') ? unsigned(lapic.read(offset)) : 0;
      expect(readPage(b, offset), `${row(offset).name} ${offset.toString(16)}`).toBe(expected);
    }
  });

  it('xAPIC: each write is kept as the table says or has no effect', () => {
    for (const offset of OFFSETS) {
      const { name, xapic, keeps } = row(offset);
      for (const value of VALUES) {
        const b = subject(era, 'xapic');
        const before = readPage(b, offset);
        b.play(0, mmio(offset, 'write', value));
        const after = xapic.includes('w') && keeps !== undefined ? keeps(value, era) : before;
        expect(readPage(b, offset), `${name} ${offset.toString(16)} := ${value.toString(16)}`).toBe(after);
      }
    }
  });
});

describe('the xAPIC page', () => {
  const newest = resolveEra();

  it('reads 1, 2 and 4 bytes within the first four of a slot, and 0 beyond', () => {
    const b = subject(newest, 'xapic');
    const { lapic } = b.kvm.vcpus[0] as Bench['kvm']['vcpus'][number];
    const value = lapic.read(0x30);
    for (const size of [1, 2, 4]) {
      for (let byte = 0; byte < 16; byte++) {
        const mask = 2 ** (size * 8) - 1;
        const expected = byte + size <= 4 ? unsigned((value >>> (byte * 8)) & mask) : 0;
        expect(readPage(b, 0x30 + byte, size), `${size} bytes at +${byte}`).toBe(expected);
      }
    }
  });

  it('takes writes of 4 bytes at a multiple of 16 only', () => {
    for (const size of [1, 2, 4, 8]) {
      for (let byte = 0; byte < 16; byte++) {
        const b = subject(newest, 'xapic');
        b.play(0, mmio(0x80 + byte, 'write', 0x20, size));
        expect(readPage(b, 0x80), `${size} bytes at +${byte}`).toBe(size === 4 && byte === 0 ? 0x20 : 0);
      }
    }
  });

  it.each(['x2apic', 'disabled'])('is a hole while the APIC is %s: all-ones, writes lost', (mode) => {
    const b = subject(newest, mode === 'x2apic' ? 'x2apic' : 'xapic');
    if (mode === 'disabled') b.kvm.setMsr(0, 0x1b, 0xfee00000n, false);
    for (const offset of OFFSETS) {
      b.play(0, mmio(offset, 'write', 0x20));
      expect(readPage(b, offset)).toBe(0xffffffff);
    }
    expect(b.kvm.vcpus[0]?.lapic.tpr).toBe(0);
  });
});

describe('LVT entries', () => {
  const ENTRIES = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370];

  it.each(ENTRIES)('0x%i: the mask bit cannot be cleared while SVR bit 8 is 0', (offset) => {
    const b = subject(resolveEra(), 'x2apic');
    b.kvm.setMsr(0, MSR(offset), 0x45n, false);
    expect(b.kvm.getMsr(0, MSR(offset), false)).toBe(0x45n);
    b.kvm.setMsr(0, 0x80f, 0xffn, false);
    expect(b.kvm.getMsr(0, MSR(offset), false)).toBe(0x10045n);
    b.kvm.setMsr(0, MSR(offset), 0x46n, false);
    expect(b.kvm.getMsr(0, MSR(offset), false)).toBe(0x10046n);
    b.kvm.setMsr(0, 0x80f, 0x1ffn, false);
    expect(b.kvm.getMsr(0, MSR(offset), false)).toBe(0x10046n);
    b.kvm.setMsr(0, MSR(offset), 0x47n, false);
    expect(b.kvm.getMsr(0, MSR(offset), false)).toBe(0x47n);
  });
});
