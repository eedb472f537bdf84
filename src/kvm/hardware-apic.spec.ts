import { describe, expect, it } from 'vitest';
import { WINDOW_INTERRUPT } from '../cpu/core/layout.ts';
import type { Exit } from '../cpu/exit.ts';
import { icrMessage } from './icr.ts';
import {
  type Bench,
  type BenchOptions,
  bench,
  INTERRUPT_WINDOW,
  R_RAX,
  R_RDX,
  R_RFLAGS,
  R_RIP,
  rdmsr,
  wrmsr,
} from './spec-helper.ts';
import { IN_GUEST } from './vcpu.ts';

const store = (offset: number, value: number): Exit => ({
  ...{ reason: 'mmio', length: 3, direction: 'write', gpaLo: 0xfee00000 | offset | 0, gpaHi: 0, size: 4 },
  ...{ valueLo: value, valueHi: 0 },
});
const load = (offset: number): Exit => ({
  ...{ reason: 'mmio', length: 3, direction: 'read', gpaLo: 0xfee00000 | offset | 0, gpaHi: 0, size: 4 },
  ...{ valueLo: 0, valueHi: 0 },
});

const assisted = (options: BenchOptions): Bench => {
  const b = bench({ era: '7.1', ...options });
  // The first entry is behind them.
  for (const { index } of b.kvm.vcpus) b.play(index);
  b.takeEvents();
  b.exits.length = 0;
  return b;
};
const apicv = (options: BenchOptions = {}) => assisted({ apicv: 'on', ...options });
const ipiv = (options: BenchOptions = {}) => assisted({ apicv: 'ipiv', ...options });
const avic = (options: BenchOptions = {}) => assisted({ vendor: 'amd', avic: true, ...options });

/** Reason, info1 and info2 of each kvm_exit. */
const exitInfos = (b: Bench) =>
  b.events.flatMap((event) => (event.event === 'kvm_exit' ? [[event.reason, event.info1, event.info2]] : []));

describe('a posted interrupt', () => {
  it('is accepted twice in the trace, asks for no event, and leaves its target in the guest', () => {
    const b = apicv();
    b.play(0, wrmsr(0x830, 0x1_0000_0040n));
    expect(b.takeEvents()).toEqual([
      ...['kvm_exit', 'kvm_apic_accept_irq', 'kvm_apicv_accept_irq', 'kvm_apic_ipi', 'kvm_apic', 'kvm_msr'],
      'kvm_entry',
    ]);
    const target = b.kvm.vcpus[1];
    expect(target.mode).toBe(IN_GUEST);
    expect(target.lapic.requestEvent).toBe(false);
    expect(target.lapic.irr()).toEqual([0x40]);

    b.play(1);
    expect(b.cpu.vcpu(1).injections).toEqual([{ info: 0x80000040, error: 0 }]);
    expect(target.lapic.isr()).toEqual([0x40]);
    expect(target.counters).toMatchObject({ exits: 0, irq_exits: 0, irq_injections: 0 });
    expect(b.takeEvents()).toEqual([]);
  });

  it('to the sender itself does not keep the fastpath from going straight back', () => {
    const b = apicv();
    b.play(0, wrmsr(0x830, 0x4_0040n));
    expect(b.exits.map((exit) => exit.fastpath?.completion)).toEqual(['REENTER_GUEST']);
    expect(b.cpu.vcpu(0).injections).toEqual([{ info: 0x80000040, error: 0 }]);
  });

  it('is not what an NMI is: that takes the target out of the guest', () => {
    const b = apicv();
    b.play(0, wrmsr(0x830, 0x1_0000_0400n));
    b.play(1);
    expect(b.kvm.vcpus[1].counters).toMatchObject({ irq_exits: 1, nmi_injections: 1 });
  });

  it('waits for IF=1 without an interrupt-window exit', () => {
    const b = apicv();
    const state = b.cpu.vcpu(0);
    state.set(R_RFLAGS, 2, 0);
    b.play(0, wrmsr(0x83f, 0x40n));
    expect(state.injections).toEqual([]);
    expect(state.window).toBe(WINDOW_INTERRUPT);
    b.play(0, (guest) => guest.set(R_RFLAGS, 0x202, 0), INTERRUPT_WINDOW);
    expect(state.injections).toEqual([{ info: 0x80000040, error: 0 }]);
    expect(state.window).toBe(0);
    expect(b.exits).toEqual([]);
    expect(b.kvm.vcpus[0].counters.irq_window_exits).toBe(0);
  });
});

describe('an APIC-write exit', () => {
  it('comes after the instruction, with the offset, and sends by the ordinary ICR write', () => {
    const b = ipiv();
    b.play(0, wrmsr(0x830, 0x2_0000_0840n));
    expect(exitInfos(b)).toEqual([[56, 0x300n, 0n]]);
    expect(b.takeEvents()).toEqual([
      ...['kvm_exit', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_apicv_accept_irq', 'kvm_apic', 'kvm_entry'],
    ]);
    expect(b.kvm.vcpus[1].lapic.irr()).toEqual([0x40]);
    expect(b.exits[0]?.before[16]).toBe(b.cpu.vcpu(0).get(R_RIP));
  });

  it.each([
    ['5.17', ['kvm_exit', 'kvm_apic', 'kvm_apic', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_apicv_accept_irq']],
    ['5.18', ['kvm_exit', 'kvm_apic', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_apicv_accept_irq']],
  ])('in the page, KVM %s: %o', (era, events) => {
    const b = apicv({ era, apic: 'xapic' });
    b.play(0, store(0x310, 1 << 24), store(0x300, 0x40));
    expect(b.takeEvents()).toEqual([...events, 'kvm_entry']);
    expect(b.kvm.vcpus[1].lapic.irr()).toEqual([0x40]);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ apic_write: 1 });
  });
});

describe('what the processor does alone', () => {
  it('answers reads of MSRs and of the page', () => {
    const b = apicv();
    b.play(1, rdmsr(0x802));
    expect([b.cpu.vcpu(1).get(R_RAX), b.cpu.vcpu(1).get(R_RDX)]).toEqual([1n, 0n]);
    const page = apicv({ apic: 'xapic' });
    page.play(1, load(0x20));
    expect(page.cpu.vcpu(1).completed).toEqual([0x01000000]);
    expect([...b.takeEvents(), ...page.takeEvents()]).toEqual([]);
  });

  it('raises #GP for reserved bits without an exit', () => {
    const b = apicv();
    b.play(0, wrmsr(0x80b, 1n));
    expect(b.cpu.vcpu(0).injections).toEqual([{ info: 0x80000b0d, error: 0 }]);
    expect(b.exits).toEqual([]);
  });

  it('does not include the current count of the timer: APIC access, with offset and direction', () => {
    const b = apicv({ apic: 'xapic' });
    b.play(0, load(0x390), store(0x390, 1));
    expect(exitInfos(b)).toEqual([
      [44, 0x390n, 0n],
      [44, 0x1390n, 0n],
    ]);
  });
});

describe('AVIC exits', () => {
  it('tell ICR, cause and target of an incomplete IPI', () => {
    const b = avic();
    b.kvm.vcpus[2].mpState = 'halted';
    b.play(0, wrmsr(0x830, 0x2_0000_0040n), wrmsr(0x830, 0x1_0000_0400n), wrmsr(0x830, 0x9_0000_0040n));
    expect(exitInfos(b)).toEqual([
      [0x401, 0x2_0000_0040n, 0x1_0000_0002n],
      [0x401, 0x1_0000_0400n, 0n],
      [0x401, 0x9_0000_0040n, 0x2_0000_0000n],
    ]);
    expect(b.kvm.vcpus[2].counters.halt_wakeup).toBe(1);
    expect(b.kvm.vcpus[2].lapic.irr()).toEqual([0x40]);
  });

  it('reach everybody by shorthand and broadcast, absent ids or not', () => {
    const b = avic({ apicIds: [0, 5, 7] });
    b.play(0, wrmsr(0x830, 0xc_0041n), wrmsr(0x830, 0xffff_ffff_0000_0042n));
    expect(b.kvm.vcpus.map(({ lapic }) => [...lapic.irr(), ...lapic.isr()])).toEqual([
      [0x42],
      [0x41, 0x42],
      [0x41, 0x42],
    ]);
    expect(b.exits).toEqual([]);
  });

  it.each([
    ['5.17', ['kvm_exit', 'kvm_apic', 'kvm_apic', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_entry']],
    ['5.18', ['kvm_exit', 'kvm_apic', 'kvm_apic_ipi', 'kvm_apic_accept_irq', 'kvm_entry']],
  ])('replay ICR2 and ICR of an invalid type, KVM %s: %o', (era, events) => {
    const b = avic({ era, apic: 'xapic' });
    b.play(0, store(0x310, 1 << 24), store(0x300, 0x400));
    expect(b.takeEvents()).toEqual(events);
    expect(b.kvm.vcpus[1].nmiQueued).toBe(1);
  });

  it('name register, direction and vector of a trapped EOI, which KVM performs', () => {
    const b = avic();
    const { lapic } = b.kvm.vcpus[0];
    lapic.accept(icrMessage(0, 0x40, 1, 1));
    lapic.acknowledge(0x40);
    lapic.requestEvent = false;
    b.play(0, wrmsr(0x80b, 0n));
    expect(exitInfos(b)).toEqual([[0x402, 0x1_0000_00b0n, 0x40n]]);
    expect(lapic.isr()).toEqual([]);
    expect(b.takeEvents()).toContain('kvm_eoi');
  });
});

describe('the upper half of ICR that an x2AVIC processor reads', () => {
  const high = (b: ReturnType<typeof avic>) => {
    b.play(0, rdmsr(0x830));
    return b.cpu.vcpu(0).get(R_RDX);
  };

  it.each(['6.0', '6.11', '6.12', '7.1'])('is what the processor wrote, KVM %s', (era) => {
    const b = avic({ era });
    b.play(0, wrmsr(0x830, 0x1_0000_0040n));
    expect(high(b)).toBe(1n);
  });

  it.each([
    ['6.11', 1n],
    ['6.12', 2n],
  ])('is not what KVM wrote, before v6.12: KVM %s: %s', (era, found) => {
    const b = avic({ era });
    b.play(0, wrmsr(0x830, 0x1_0000_0040n));
    b.kvm.vcpus[0].lapic.writeX2Icr(0x41, 2);
    expect(high(b)).toBe(found);
    // INIT clears what KVM has of one register, and the first of two halves.
    b.kvm.vcpus[0].lapic.reset(true);
    expect(high(b)).toBe(found);
    b.kvm.vcpus[0].lapic.reset(false);
    expect(b.kvm.vcpus[0].lapic.registers[0x31]).toBe(0);
  });
});

describe('switched off', () => {
  it('takes everybody out of the guest, and KVM injects what waits', () => {
    const b = apicv({ apic: 'xapic', era: '6.0' });
    expect(b.kvm.apicvActive).toBe(true);
    b.kvm.vcpus[1].state.interruptibility = 2;
    b.play(0, store(0x310, 1 << 24), store(0x300, 0x40), store(0x20, 9 << 24));
    expect(b.kvm.apicvActive).toBe(false);
    expect(b.kvm.apicvInhibits).toEqual(['APIC ID modified']);
    b.takeEvents();
    b.kvm.vcpus[1].state.interruptibility = 0;
    b.play(1);
    expect(b.kvm.vcpus[1].counters).toMatchObject({ irq_exits: 1, irq_injections: 1 });
    expect(b.takeEvents()).toEqual(['kvm_exit', 'kvm_inj_virq', 'kvm_entry']);
  });
});
