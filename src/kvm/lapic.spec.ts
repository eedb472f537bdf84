import { beforeEach, describe, expect, it } from 'vitest';
import { NEWEST_ERA, resolveEra } from './eras.ts';
import * as I from './icr.ts';
import * as A from './lapic.ts';
import { Lapic } from './lapic.ts';

const BSP_X2 = 0xfee00d00;
const X2 = 0xfee00c00;
const XAPIC = 0xfee00800;

/** An enabled APIC of vcpu_id 5 in x2APIC mode. */
const x2apic = (era = NEWEST_ERA): Lapic => {
  const lapic = new Lapic(0, 5, era);
  lapic.setBase(X2, 0);
  lapic.write(A.APIC_SVR, 0x1ff);
  lapic.requestEvent = false;
  return lapic;
};
const xapic = (era = NEWEST_ERA): Lapic => {
  const lapic = new Lapic(0, 5, era);
  lapic.write(A.APIC_SVR, 0x1ff);
  lapic.requestEvent = false;
  return lapic;
};
const fixed = (lapic: Lapic, vector: number): 0 | 1 => lapic.accept(I.icrMessage(I.MODE_FIXED, vector, 0, 0));

describe('reset state', () => {
  it('is that of the SDM, with the bootstrap processor’s LINT0 open for ExtINT', () => {
    const bsp = new Lapic(0, 0, NEWEST_ERA);
    const ap = new Lapic(1, 3, NEWEST_ERA);
    expect(bsp.apicBase).toBe(0xfee00900n);
    expect(ap.apicBase).toBe(0xfee00800n);
    expect(ap.id).toBe(3);
    expect(ap.read(A.APIC_ID)).toBe(0x03000000);
    expect(ap.mode).toBe('xapic');
    expect(ap.swEnabled).toBe(false);
    expect(ap.svr).toBe(0xff);
    expect(ap.dfr).toBe(0xffffffff);
    expect(ap.read(A.APIC_LVR)).toBe(0x50014);
    expect(bsp.read(A.APIC_LVT0)).toBe(0x700);
    expect(ap.read(A.APIC_LVT0)).toBe(0x10000);
    for (const lvt of [A.APIC_LVTT, A.APIC_LVT_THERMAL, A.APIC_LVT_PERF, A.APIC_LVT1, A.APIC_LVT_ERROR]) {
      expect(bsp.read(lvt)).toBe(0x10000);
    }
    for (const zero of [A.APIC_TPR, A.APIC_ICR, A.APIC_ICR2, A.APIC_LDR, A.APIC_TMICT, A.APIC_TDCR]) {
      expect(ap.read(zero)).toBe(0);
    }
    expect([ap.irr(), ap.isr(), ap.tmr()]).toEqual([[], [], []]);
  });

  it('masks LINT0 of the bootstrap processor if the quirk is off', () => {
    expect(new Lapic(0, 0, NEWEST_ERA, true, false).read(A.APIC_LVT0)).toBe(0x10000);
  });

  it('truncates a vcpu_id above 255 to an 8-bit xAPIC id', () => {
    expect(new Lapic(0, 256, NEWEST_ERA).xapicId).toBe(0);
    expect(new Lapic(0, 511, NEWEST_ERA).xapicId).toBe(255);
  });

  it('survives an INIT only as mode, id and x2APIC LDR', () => {
    const lapic = x2apic();
    fixed(lapic, 0x40);
    lapic.write(A.APIC_TPR, 0x20);
    lapic.reset(true);
    expect(lapic.mode).toBe('x2apic');
    expect(lapic.id).toBe(5);
    expect(lapic.ldr).toBe(1 << 5);
    expect(lapic.swEnabled).toBe(false);
    expect(lapic.tpr).toBe(0);
    expect(lapic.irr()).toEqual([]);

    const old = xapic();
    old.write(A.APIC_ID, 0x0900_0000);
    old.write(A.APIC_LDR, 0x0100_0000);
    old.reset(true);
    expect(old.xapicId).toBe(9);
    expect(old.ldr).toBe(0);
  });
});

describe('every register after RESET and INIT', () => {
  /** Registers that are not 0 (SDM vol. 3, 11.4.7, and KVM's LINT0 of the bootstrap processor); LDR of x2APIC id 5. */
  const expected = (bsp: boolean, mode: 'xapic' | 'x2apic', id: number): [offset: number, value: number][] => [
    [A.APIC_ID, id],
    [A.APIC_LVR, 0x50014],
    [A.APIC_LDR, mode === 'x2apic' ? 0x20 : 0],
    [A.APIC_DFR, 0xffffffff],
    [A.APIC_SVR, 0xff],
    [A.APIC_LVTT, 0x10000],
    [A.APIC_LVT_THERMAL, 0x10000],
    [A.APIC_LVT_PERF, 0x10000],
    [A.APIC_LVT0, bsp ? 0x700 : 0x10000],
    [A.APIC_LVT1, 0x10000],
    [A.APIC_LVT_ERROR, 0x10000],
  ];
  const slots = (values: [number, number][]): number[] => {
    const registers = Array.from({ length: 64 }, () => 0);
    for (const [offset, value] of values) registers[offset >> 4] = value;
    return registers;
  };

  it.each([true, false])('bootstrap processor: %s', (bsp) => {
    const lapic = new Lapic(0, 5, NEWEST_ERA, bsp);
    lapic.wideIcr = true;
    expect([...lapic.registers]).toEqual(slots(expected(bsp, 'xapic', 5 << 24)));
    expect(lapic.apicBase).toBe(bsp ? 0xfee00900n : 0xfee00800n);
    for (const mode of ['xapic', 'x2apic'] as const) {
      if (mode === 'x2apic') lapic.setBase(0xfee00c00, 0);
      const base = lapic.apicBase;
      lapic.registers.fill(0x5a5a5a5a, A.APIC_TPR >> 4, A.APIC_LDR >> 4);
      lapic.registers.fill(0x5a5a5a5a, A.APIC_DFR >> 4);
      lapic.arbitration = 3;
      lapic.timer.pending = true;
      lapic.reset(true);
      expect([...lapic.registers]).toEqual(slots(expected(bsp, mode, mode === 'xapic' ? 5 << 24 : 5)));
      expect([lapic.apicBase, lapic.arbitration, lapic.timer.pending]).toEqual([base, 0, false]);
    }
    lapic.reset(false);
    expect([...lapic.registers]).toEqual(slots(expected(bsp, 'xapic', 5 << 24)));
    expect(lapic.mode).toBe('xapic');
  });
});

describe('IA32_APIC_BASE', () => {
  it('derives id and LDR when x2APIC mode is entered', () => {
    const lapic = new Lapic(0, 0x123, NEWEST_ERA);
    expect(lapic.setBase(X2, 0)).toBe(true);
    expect(lapic.id).toBe(0x123);
    expect(lapic.ldr).toBe((0x12 << 16) | (1 << 3));
    expect(lapic.setBase(X2 | 0x100, 0)).toBe(false);
  });

  it('gives the xAPIC id back when a disabled APIC is enabled', () => {
    const lapic = xapic();
    lapic.write(A.APIC_ID, 0x0900_0000);
    lapic.setBase(0xfee00000, 0);
    expect(lapic.mode).toBe('disabled');
    lapic.setBase(XAPIC, 0);
    expect(lapic.xapicId).toBe(5);
    expect(lapic.svr).toBe(0x1ff);
  });

  it.each([
    ['6.2', 0],
    ['6.3', 5],
  ])('v%s: forced from x2APIC to xAPIC the id is %d', (era, id) => {
    const lapic = new Lapic(0, 5, resolveEra(era));
    lapic.setBase(BSP_X2, 0);
    lapic.setBase(XAPIC, 0);
    expect(lapic.xapicId).toBe(id);
  });
});

describe('accept', () => {
  it('takes a Fixed message into IRR and asks for evaluation', () => {
    const lapic = x2apic();
    expect(fixed(lapic, 0xf0)).toBe(1);
    expect(lapic.irr()).toEqual([0xf0]);
    expect(lapic.tmr()).toEqual([]);
    expect(lapic.requestEvent).toBe(true);
  });

  it('counts a vector that is pending already', () => {
    const lapic = x2apic();
    fixed(lapic, 0xf0);
    expect(fixed(lapic, 0xf0)).toBe(1);
    expect(lapic.irr()).toEqual([0xf0]);
  });

  it('takes vectors 0 to 15, which can never be delivered', () => {
    const lapic = x2apic();
    expect(fixed(lapic, 0)).toBe(1);
    expect(fixed(lapic, 15)).toBe(1);
    expect(lapic.irr()).toEqual([0, 15]);
    expect(lapic.deliverable()).toBe(-1);
    expect(lapic.read(A.APIC_ESR)).toBe(0);
  });

  it('lets the last message decide the trigger mode of a vector', () => {
    const lapic = x2apic();
    lapic.accept(I.icrMessage(I.MODE_FIXED, 0x41, 1, 1));
    expect(lapic.tmr()).toEqual([0x41]);
    lapic.accept(I.icrMessage(I.MODE_FIXED, 0x41, 0, 0));
    expect(lapic.tmr()).toEqual([]);
  });

  it('rejects a level-triggered de-assert of Fixed, lowest priority and INIT', () => {
    const lapic = x2apic();
    for (const mode of [I.MODE_FIXED, I.MODE_LOWEST, I.MODE_INIT])
      expect(lapic.accept(I.icrMessage(mode, 0x41, 0, 1))).toBe(0);
    expect(lapic.irr()).toEqual([]);
    expect(lapic.initPending).toBe(false);
    expect(lapic.requestEvent).toBe(false);
  });

  it('raises the arbitration counter of lowest priority even if it rejects', () => {
    const lapic = x2apic();
    lapic.accept(I.icrMessage(I.MODE_LOWEST, 0x41, 0, 1));
    lapic.accept(I.icrMessage(I.MODE_LOWEST, 0x41, 0, 0));
    expect(lapic.arbitration).toBe(2);
    expect(lapic.irr()).toEqual([0x41]);
  });

  it('keeps Fixed and lowest priority out of a software-disabled APIC, and nothing else', () => {
    const lapic = x2apic();
    lapic.write(A.APIC_SVR, 0xff);
    const results = [0, 1, 2, 3, 4, 5, 6, 7].map((mode) => lapic.accept(I.icrMessage(mode, 0x41, 0, 0)));
    expect(results).toEqual([0, 0, 1, 1, 1, 1, 1, 0]);
    expect(lapic).toMatchObject({ smiPending: true, pvUnhalted: true, nmiQueued: 1, initPending: true });
  });

  it('forgets a pending SIPI at INIT, and keeps the last SIPI vector', () => {
    const lapic = x2apic();
    lapic.accept(I.icrMessage(I.MODE_STARTUP, 0x10, 0, 0));
    lapic.accept(I.icrMessage(I.MODE_INIT, 0, 0, 0));
    expect(lapic).toMatchObject({ initPending: true, sipiPending: false });
    lapic.accept(I.icrMessage(I.MODE_STARTUP, 0x20, 0, 0));
    lapic.accept(I.icrMessage(I.MODE_STARTUP, 0x30, 0, 0));
    expect(lapic).toMatchObject({ initPending: true, sipiPending: true, sipiVector: 0x30 });
  });
});

describe('priority', () => {
  it.each<[tpr: number, isr: number[], ppr: number]>([
    [0, [], 0],
    [0x35, [], 0x35],
    [0x35, [0x41], 0x40],
    [0x45, [0x41], 0x45],
    [0x50, [0x41], 0x50],
    [0, [0x41, 0x8f], 0x80],
  ])('TPR 0x%i with %o in service', (tpr, isr, ppr) => {
    const lapic = x2apic();
    for (const vector of isr) {
      fixed(lapic, vector);
      lapic.acknowledge(vector);
    }
    lapic.write(A.APIC_TPR, tpr);
    expect(lapic.ppr).toBe(ppr);
    expect(lapic.read(A.APIC_PPR)).toBe(ppr);
  });

  it('compares the class of a vector with the whole PPR', () => {
    const lapic = x2apic();
    lapic.write(A.APIC_TPR, 0x35);
    fixed(lapic, 0x3f);
    expect(lapic.deliverable()).toBe(-1);
    fixed(lapic, 0x40);
    expect(lapic.deliverable()).toBe(0x40);
  });

  it('does not let a vector of the class in service through', () => {
    const lapic = x2apic();
    fixed(lapic, 0x41);
    lapic.acknowledge(0x41);
    fixed(lapic, 0x4f);
    expect(lapic.deliverable()).toBe(-1);
    expect(lapic.eoi()).toBe(0x41);
    expect(lapic.deliverable()).toBe(0x4f);
  });

  it('asks for evaluation when a lower TPR unmasks something, and only then', () => {
    const lapic = x2apic();
    lapic.write(A.APIC_TPR, 0x60);
    fixed(lapic, 0x50);
    lapic.requestEvent = false;
    lapic.write(A.APIC_TPR, 0x50);
    expect(lapic.requestEvent).toBe(false);
    lapic.write(A.APIC_TPR, 0x40);
    expect(lapic.requestEvent).toBe(true);
  });
});

describe('EOI', () => {
  it('ends the highest vector in service', () => {
    const lapic = x2apic();
    for (const vector of [0x31, 0x91]) {
      fixed(lapic, vector);
      lapic.acknowledge(vector);
    }
    expect(lapic.write(A.APIC_EOI, 0xdead)).toBe(A.WRITE_EOI);
    expect(lapic.eoiVector).toBe(0x91);
    expect(lapic.isr()).toEqual([0x31]);
    expect(lapic.requestEvent).toBe(true);
  });

  it('with nothing in service changes nothing', () => {
    const lapic = x2apic();
    expect(lapic.write(A.APIC_EOI, 0)).toBe(A.WRITE_EOI);
    expect(lapic.eoiVector).toBe(-1);
    expect(lapic.requestEvent).toBe(false);
  });
});

describe('register writes', () => {
  let lapic: Lapic;
  beforeEach(() => {
    lapic = xapic();
  });

  it.each<[offset: number, value: number, reads: number]>([
    [A.APIC_ID, 0x12345678, 0x12000000],
    [A.APIC_TPR, 0x1ff, 0xff],
    [A.APIC_LDR, 0x12345678, 0x12000000],
    [A.APIC_DFR, 0x0, 0x0fffffff],
    [A.APIC_SVR, 0xffffffff, 0x3ff],
    [A.APIC_ICR2, 0xffffffff, 0xff000000],
    [A.APIC_LVTT, 0xffffffff, 0x710ff],
    [A.APIC_LVT_THERMAL, 0xffffffff, 0x117ff],
    [A.APIC_LVT_PERF, 0xffffffff, 0x117ff],
    [A.APIC_LVT0, 0xffffffff, 0x1f7ff],
    [A.APIC_LVT1, 0xffffffff, 0x1f7ff],
    [A.APIC_LVT_ERROR, 0xffffffff, 0x110ff],
    [A.APIC_TMICT, 0x12345678, 0x12345678],
    [A.APIC_TDCR, 0xffffffff, 0xb],
    [A.APIC_ESR, 0xffffffff, 0],
  ])('0x%i := 0x%i', (offset, value, reads) => {
    expect(lapic.write(offset, value) & A.WRITE_FAULT).toBe(0);
    expect(lapic.read(offset)).toBe(reads);
  });

  it.each([
    A.APIC_LVR,
    A.APIC_APR,
    A.APIC_PPR,
    0xc0,
    A.APIC_ISR,
    A.APIC_TMR,
    A.APIC_IRR,
    A.APIC_TMCCT,
    A.APIC_SELF_IPI,
    0x40,
  ])('does not take 0x%i', (offset) => {
    expect(lapic.write(offset, 0xffffffff)).toBe(A.WRITE_FAULT);
  });

  it('keeps TDCR raw before v5.10', () => {
    const old = xapic(resolveEra('5.9'));
    old.write(A.APIC_TDCR, 0xff);
    expect(old.read(A.APIC_TDCR)).toBe(0xff);
  });

  it('masks the whole LVT when the APIC is software-disabled, and keeps it so', () => {
    lapic.write(A.APIC_LVTT, 0x31);
    expect(lapic.read(A.APIC_LVTT)).toBe(0x31);
    expect(lapic.write(A.APIC_SVR, 0xff)).toBe(A.WRITE_MAP);
    expect(lapic.read(A.APIC_LVTT)).toBe(0x10031);
    lapic.write(A.APIC_LVTT, 0x32);
    expect(lapic.read(A.APIC_LVTT)).toBe(0x10032);
  });

  it('v4.19 rebuilds the map only when the APIC is enabled', () => {
    const old = xapic(resolveEra('4.19'));
    expect(old.write(A.APIC_SVR, 0xff)).toBe(A.WRITE_DONE);
    expect(old.write(A.APIC_SVR, 0x1ff)).toBe(A.WRITE_MAP);
  });

  it('returns what an ICR write sends, without the busy bit', () => {
    lapic.write(A.APIC_ICR2, 0x03000000);
    expect(lapic.write(A.APIC_ICR, 0x10f0)).toBe(A.WRITE_SEND);
    expect(lapic.message).toEqual({ icrLow: 0xf0, dest: 3 });
    expect(lapic.read(A.APIC_ICR)).toBe(0xf0);
  });

  it('keeps reserved ICR bits in xAPIC mode', () => {
    lapic.write(A.APIC_ICR, 0xffffffff);
    expect(lapic.read(A.APIC_ICR)).toBe(0xffffefff);
  });
});

describe('x2APIC mode', () => {
  it.each([A.APIC_ID, A.APIC_LDR, A.APIC_DFR, A.APIC_ICR2])('does not take 0x%i', (offset) => {
    expect(x2apic().write(offset, 0)).toBe(A.WRITE_FAULT);
  });

  it('takes only 0 for ESR', () => {
    expect(x2apic().write(A.APIC_ESR, 0)).toBe(A.WRITE_DONE);
    expect(x2apic().write(A.APIC_ESR, 1)).toBe(A.WRITE_FAULT);
  });

  it('hides DFR, ICR2 and, from v5.4 on, APR', () => {
    expect([A.APIC_DFR, A.APIC_ICR2, A.APIC_APR].map((offset) => x2apic().readable(offset))).toEqual([
      false,
      false,
      false,
    ]);
    expect(x2apic(resolveEra('5.0')).readable(A.APIC_APR)).toBe(true);
    expect([A.APIC_DFR, A.APIC_ICR2, A.APIC_APR].map((offset) => xapic().readable(offset))).toEqual([true, true, true]);
  });

  it('sends a self IPI without touching ICR', () => {
    const lapic = x2apic();
    lapic.writeX2Icr(0x41, 7);
    expect(lapic.write(A.APIC_SELF_IPI, 0x40)).toBe(A.WRITE_SEND);
    expect(lapic.message).toEqual({ icrLow: 0x40040, dest: 0 });
    expect(lapic.icr).toBe(0x7_0000_0041n);
    expect(lapic.write(A.APIC_SELF_IPI, 0x140)).toBe(A.WRITE_FAULT);
  });

  it('v5.17 sends a self IPI through ICR and ignores reserved bits', () => {
    const lapic = x2apic(resolveEra('5.17'));
    lapic.writeX2Icr(0x41, 7);
    expect(lapic.write(A.APIC_SELF_IPI, 0x140)).toBe(A.WRITE_SEND);
    expect(lapic.message).toEqual({ icrLow: 0x40040, dest: 7 });
    expect(lapic.icr).toBe(0x7_0004_0040n);
  });

  it('stores ICR with bit 12 clear', () => {
    const lapic = x2apic();
    lapic.writeX2Icr(0x10f0, 1);
    expect(lapic.icr).toBe(0x1_0000_00f0n);
  });
});

describe('ICR[63:32] and a change of mode', () => {
  /** ICR in x2APIC mode, ICR2 of the xAPIC after that, and ICR when it is in x2APIC mode again. */
  function roundTrip(wideIcr: boolean): readonly [bigint, number, number, bigint] {
    const lapic = xapic();
    lapic.wideIcr = wideIcr;
    lapic.write(A.APIC_ICR2, 0x07000000);
    lapic.setBase(X2, 0);
    const before = lapic.icr;
    lapic.writeX2Icr(0x41, 0x12345678);
    lapic.setBase(0xfee00000, 0);
    const disabled = lapic.registers[A.APIC_ICR2 >> 4];
    lapic.setBase(XAPIC, 0);
    const enabled = lapic.read(A.APIC_ICR2);
    lapic.setBase(X2, 0);
    return [before, disabled, enabled, lapic.icr];
  }

  it('as one register: the xAPIC and the x2APIC do not see what the other has', () => {
    expect(roundTrip(true)).toEqual([0n, 0x07000000, 0x07000000, 0x12345678_00000041n]);
  });

  it('as two halves: they share ICR2', () => {
    const shared = 0x12345678;
    expect(roundTrip(false)).toEqual([0x07000000_00000000n, shared, shared, 0x12345678_00000041n]);
  });

  it('INIT in x2APIC mode leaves the second of two halves alone since v6.12', () => {
    const icr = (era: string, wideIcr: boolean): bigint => {
      const lapic = x2apic(resolveEra(era));
      lapic.wideIcr = wideIcr;
      lapic.writeX2Icr(0x41, 7);
      lapic.reset(true);
      return lapic.icr;
    };
    expect(icr('6.12', false)).toBe(0x7_0000_0000n);
    expect(icr('6.12', true)).toBe(0n);
    expect(icr('6.11', true)).toBe(0n);
    expect(icr('5.17', false)).toBe(0n);
  });

  it('KVM_SET_LAPIC in x2APIC mode sets ICR2 as well', () => {
    const lapic = x2apic();
    lapic.wideIcr = true;
    const page = lapic.registers.slice();
    page[A.APIC_ICR2 >> 4] = 9;
    lapic.load(page);
    lapic.writeX2Icr(0x41, 7);
    lapic.setBase(0xfee00000, 0);
    expect(lapic.registers[A.APIC_ICR2 >> 4]).toBe(9);
  });
});

describe('KVM_SET_LAPIC', () => {
  it('loads a register page but keeps id and LDR in x2APIC mode', () => {
    const lapic = x2apic();
    const page = new Uint32Array(64);
    page[A.APIC_SVR >> 4] = 0x1ff;
    page[A.APIC_IRR >> 4] = 1 << 20;
    page[A.APIC_ID >> 4] = 99;
    lapic.load(page);
    expect(lapic.irr()).toEqual([20]);
    expect(lapic.id).toBe(5);
    expect(lapic.ldr).toBe(1 << 5);
    expect(lapic.swEnabled).toBe(true);
    expect(lapic.deliverable()).toBe(20);
  });
});
