import { describe, expect, it } from 'vitest';
import { resolveEra } from './eras.ts';
import * as A from './lapic.ts';
import { divider, MIN_PERIOD_NS } from './lapic-timer.ts';
import { type Bench, type BenchOptions, bench, HLT, rdmsr, type Scripted, wrmsr } from './spec-helper.ts';

const MSR_LVTT = 0x832;
const MSR_TMICT = 0x838;
const MSR_TMCCT = 0x839;
const MSR_TDCR = 0x83e;
const MSR_DEADLINE = 0x6e0;
const BY_1 = 0xbn;
const PERIODIC = 1n << 17n;
const TSC_DEADLINE = 2n << 17n;
const RESERVED_MODE = 3n << 17n;
const MASKED = 1n << 16n;

/** One vCPU in x2APIC mode, divider 1, with this LVTT. */
function timed(lvtt: bigint, options: BenchOptions = {}): Bench {
  const b = bench({ vcpus: 1, ...options });
  b.kvm.setMsr(0, MSR_TDCR, BY_1, false);
  b.kvm.setMsr(0, MSR_LVTT, lvtt, false);
  b.takeEvents();
  return b;
}
const write = (b: Bench, msr: number, value: bigint): boolean => b.kvm.setMsr(0, msr, value, false);
const read = (b: Bench, msr: number): bigint | undefined => b.kvm.getMsr(0, msr, false);
const lapic = (b: Bench): A.Lapic => (b.kvm.vcpus[0] as Bench['kvm']['vcpus'][number]).lapic;
const counters = (b: Bench) => (b.kvm.vcpus[0] as Bench['kvm']['vcpus'][number]).counters;
const spend =
  (steps: number): Scripted =>
  (state) => {
    state.steps += steps - 1;
  };
/** Puts vCPU 0 to sleep. */
const sleep = (b: Bench): void => {
  expect(b.play(0, HLT)).toEqual({ kind: 'blocked' });
  b.takeEvents();
};

describe('the divider', () => {
  it.each([
    [0x0, 2],
    [0x1, 4],
    [0x2, 8],
    [0x3, 16],
    [0x8, 32],
    [0x9, 64],
    [0xa, 128],
    [0xb, 1],
    [0xfffffff4, 2],
    [0xffffffff, 1],
  ])('TDCR %i divides by %i', (tdcr, by) => {
    expect(divider(tdcr)).toBe(by);
  });
});

describe('one-shot', () => {
  it('counts down at the speed of the divider and stays at 0', () => {
    const b = timed(0x40n);
    write(b, MSR_TDCR, 3n);
    write(b, MSR_TMICT, 100n);
    b.kvm.advanceTime(1);
    expect(read(b, MSR_TMCCT)).toBe(99n);
    b.kvm.advanceTime(15);
    expect(read(b, MSR_TMCCT)).toBe(99n);
    b.kvm.advanceTime(1);
    expect(read(b, MSR_TMCCT)).toBe(98n);
    b.kvm.advanceTime(10_000);
    expect([read(b, MSR_TMCCT), read(b, MSR_TMICT)]).toEqual([0n, 100n]);
  });

  it('is delivered once, with edge trigger, to a sleeping vCPU and wakes it', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 500n);
    sleep(b);
    b.kvm.advanceTime(499 - b.kvm.clock.now);
    expect(b.kvm.isRunnable(0)).toBe(false);
    b.kvm.advanceTime(2);
    expect(b.kvm.isRunnable(0)).toBe(true);
    expect(b.events).toEqual([
      { event: 'kvm_apic_accept_irq', vcpu: 0, apicid: 0, deliveryMode: 0, triggerMode: 0, vector: 0x40 },
    ]);
    expect([lapic(b).irr(), counters(b).halt_wakeup]).toEqual([[0x40], 1]);
    b.play(0);
    expect([lapic(b).irr(), lapic(b).isr(), counters(b).irq_injections]).toEqual([[], [0x40], 1]);
    b.kvm.advanceTime(10_000);
    expect(lapic(b).irr()).toEqual([]);
  });

  it('stops with TMICT 0 and starts over with every write', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 500n);
    b.kvm.advanceTime(400);
    write(b, MSR_TMICT, 500n);
    expect(b.kvm.clock.next).toBe(900);
    write(b, MSR_TMICT, 0n);
    expect([b.kvm.clock.next, read(b, MSR_TMCCT)]).toEqual([Infinity, 0n]);
  });

  it('goes on where it was when TDCR changes, at the new speed', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 1000n);
    b.kvm.advanceTime(400);
    write(b, MSR_TDCR, 1n);
    expect([read(b, MSR_TMCCT), b.kvm.clock.next]).toEqual([600n, 400 + 600 * 4]);
    write(b, MSR_TDCR, 1n);
    expect(b.kvm.clock.next).toBe(2800);
  });

  it('expires again when TDCR changes after it has expired', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 100n);
    sleep(b);
    b.kvm.advanceTime(200);
    b.play(0, wrmsr(0x80b, 0n));
    expect([b.kvm.clock.next, lapic(b).isr()]).toEqual([Infinity, []]);
    write(b, MSR_TDCR, 1n);
    b.play(0);
    expect(lapic(b).isr()).toEqual([0x40]);
  });

  it('has no shortest period', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 3n);
    expect(b.kvm.clock.next).toBe(3);
  });
});

describe('periodic', () => {
  it('expires again and again, and coalesces what is not delivered', () => {
    const b = timed(0x40n | PERIODIC);
    write(b, MSR_TMICT, 300_000n);
    sleep(b);
    b.kvm.advanceTime(1_000_000 - b.kvm.clock.now);
    expect([lapic(b).irr(), b.kvm.clock.next]).toEqual([[0x40], 1_200_000]);
    expect(read(b, MSR_TMCCT)).toBe(200_000n);
  });

  it('has a shortest period of 200 us', () => {
    const b = timed(0x40n | PERIODIC);
    write(b, MSR_TMICT, 1n);
    expect(b.kvm.clock.next).toBe(MIN_PERIOD_NS);
    b.kvm.advanceTime(MIN_PERIOD_NS);
    expect(b.kvm.clock.next).toBe(2 * MIN_PERIOD_NS);
  });

  it('takes over the count of a one-shot timer, and the other way round', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 1000n);
    write(b, MSR_LVTT, 0x41n | PERIODIC);
    b.kvm.advanceTime(1000);
    expect(b.kvm.clock.next).toBe(1000 + MIN_PERIOD_NS);
    write(b, MSR_LVTT, 0x42n);
    b.kvm.advanceTime(MIN_PERIOD_NS);
    expect(b.kvm.clock.next).toBe(Infinity);
  });
});

describe('TSC deadline', () => {
  it('expires when the TSC reaches it, not before', () => {
    const b = timed(0x40n | TSC_DEADLINE);
    b.kvm.setMsr(0, 0x10, 1n << 60n, false);
    write(b, MSR_DEADLINE, (1n << 60n) + 700n);
    sleep(b);
    const { tsc } = b.kvm.vcpus[0] as Bench['kvm']['vcpus'][number];
    b.kvm.advanceTime(Number((1n << 60n) + 699n - tsc));
    expect([lapic(b).irr(), read(b, MSR_DEADLINE)]).toEqual([[], (1n << 60n) + 700n]);
    b.kvm.advanceTime(1);
    expect([lapic(b).irr(), read(b, MSR_DEADLINE)]).toEqual([[0x40], 0n]);
  });

  it('in the past expires at once', () => {
    const b = timed(0x40n | TSC_DEADLINE);
    b.kvm.advanceTime(100);
    b.play(0, wrmsr(MSR_DEADLINE, 100n));
    expect(lapic(b).isr()).toEqual([0x40]);
  });

  it('is disarmed by 0, by leaving the mode, and by INIT', () => {
    const b = timed(0x40n | TSC_DEADLINE);
    write(b, MSR_DEADLINE, 1000n);
    write(b, MSR_DEADLINE, 0n);
    expect([b.kvm.clock.next, read(b, MSR_DEADLINE)]).toEqual([Infinity, 0n]);
    write(b, MSR_DEADLINE, 1000n);
    write(b, MSR_LVTT, 0x40n);
    expect([b.kvm.clock.next, read(b, MSR_DEADLINE)]).toEqual([Infinity, 0n]);
    write(b, MSR_LVTT, 0x40n | TSC_DEADLINE);
    write(b, MSR_DEADLINE, 1000n);
    lapic(b).reset(true);
    expect([b.kvm.clock.next, lapic(b).timer.tscDeadlineMode]).toEqual([Infinity, false]);
  });

  it('mode ignores TMICT', () => {
    const b = timed(0x40n | TSC_DEADLINE);
    write(b, MSR_TMICT, 5n);
    expect([read(b, MSR_TMICT), read(b, MSR_TMCCT), b.kvm.clock.next]).toEqual([0n, 0n, Infinity]);
  });

  it.each(['4.19', '5.7', '5.8', '5.10', '6.18', '7.1'])('is ignored in one-shot and periodic mode (%s)', (era) => {
    for (const mode of [0n, PERIODIC]) {
      const b = timed(0x40n | mode, { era });
      expect(write(b, MSR_DEADLINE, 1000n)).toBe(true);
      expect([read(b, MSR_DEADLINE), b.kvm.clock.next]).toEqual([0n, Infinity]);
    }
  });

  it.each([
    ['4.19', 1000],
    ['5.8', 1000],
    ['5.10', Infinity],
    ['7.1', Infinity],
  ])('in the reserved mode 3 was taken before v5.10 (%s)', (era, next) => {
    const b = timed(0x40n | RESERVED_MODE, { era });
    write(b, MSR_DEADLINE, 1000n);
    expect(b.kvm.clock.next).toBe(next);
  });

  it.each([
    ['5.7', 1000],
    ['5.8', Infinity],
    ['7.1', Infinity],
  ])('while the APIC is globally disabled was taken before v5.8 (%s)', (era, next) => {
    const b = timed(0x40n | TSC_DEADLINE, { era });
    b.kvm.setMsr(0, 0x1b, 0xfee00000n, false);
    expect(write(b, MSR_DEADLINE, 1000n)).toBe(true);
    expect(b.kvm.clock.next).toBe(next);
  });

  it.each(['4.19', '7.1'])('mode 3 runs no count (%s)', (era) => {
    const b = timed(0x40n | RESERVED_MODE, { era });
    write(b, MSR_TMICT, 500n);
    expect([read(b, MSR_TMICT), read(b, MSR_TMCCT), b.kvm.clock.next]).toEqual([500n, 0n, Infinity]);
  });
});

describe('an interrupt that LVTT or the APIC holds back', () => {
  it('arrives when the mask is cleared', () => {
    const b = timed(0x40n | MASKED);
    write(b, MSR_TMICT, 500n);
    b.kvm.advanceTime(500);
    b.play(0);
    expect([lapic(b).irr(), lapic(b).timer.pending]).toEqual([[], true]);
    b.play(0, wrmsr(MSR_LVTT, 0x41n));
    expect([lapic(b).isr(), lapic(b).timer.pending]).toEqual([[0x41], false]);
  });

  it('is forgotten when the timer is started again or the APIC software-disabled', () => {
    const b = timed(0x40n | MASKED);
    for (const [msr, value] of [
      [MSR_TMICT, 0n],
      [0x80f, 0xffn],
    ] as const) {
      write(b, MSR_TMICT, 500n);
      b.kvm.advanceTime(500);
      expect(lapic(b).timer.pending).toBe(true);
      write(b, msr, value);
      expect(lapic(b).timer.pending).toBe(false);
    }
  });

  it('does not wake a sleeper', () => {
    const b = timed(0x40n | MASKED);
    write(b, MSR_TMICT, 500n);
    sleep(b);
    b.kvm.advanceTime(1000);
    expect(b.kvm.isRunnable(0)).toBe(false);
  });
});

describe('a timer that expires in the guest', () => {
  it('is a preemption-timer exit on Intel: exit, accept, inject, entry', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 500n);
    b.takeEvents();
    b.play(0, spend(500));
    b.play(0);
    expect(b.takeEvents()).toEqual(['kvm_entry', 'kvm_exit', 'kvm_apic_accept_irq', 'kvm_inj_virq', 'kvm_entry']);
    expect(b.exits.map(({ name, reason }) => [name, reason])).toEqual([['preemption_timer', 52]]);
    expect(b.exits[0]?.events.map(({ event }) => event)).toEqual(['kvm_exit', 'kvm_apic_accept_irq']);
    expect(counters(b)).toMatchObject({ exits: 1, irq_exits: 0, irq_injections: 1 });
  });

  it('is an interrupt of the host on AMD', () => {
    const b = timed(0x40n, { vendor: 'amd' });
    write(b, MSR_TMICT, 500n);
    b.play(0, spend(500));
    b.play(0);
    expect(b.exits.map(({ name, reason }) => [name, reason])).toEqual([['interrupt', 0x60]]);
    expect(counters(b)).toMatchObject({ exits: 1, irq_exits: 1, irq_injections: 1 });
  });

  it('costs no exit of its own if the vCPU has left the guest anyway', () => {
    const b = timed(0x40n);
    write(b, MSR_TMICT, 500n);
    b.play(0, spend(500), rdmsr(0x10));
    expect(b.exits.map(({ name }) => name)).toEqual(['msr_read']);
    expect(counters(b)).toMatchObject({ exits: 1, irq_injections: 1 });
  });

  it('shares the exit of a kick that has arrived as well', () => {
    const b = timed(0x40n, { vcpus: 2 });
    write(b, MSR_TMICT, 500n);
    b.play(0);
    b.play(1, spend(600), wrmsr(0x830, 0xf0n));
    b.exits.length = 0;
    b.play(0, spend(5));
    expect(b.exits.map(({ name }) => name)).toEqual(['external_interrupt']);
    b.play(0);
    expect([lapic(b).isr(), lapic(b).irr(), b.exits.length]).toEqual([[0xf0], [0x40], 1]);
  });

  it.each([
    ['5.7', 2],
    ['5.8', 1],
    ['6.3', 1],
    ['6.4', 2],
    ['7.1', 2],
  ])('with its last interrupt still held back re-enters from v5.8 on, counted from v6.4 on (%s)', (era, exits) => {
    const b = timed(0x40n | MASKED | PERIODIC, { era });
    write(b, MSR_TMICT, 300_000n);
    b.play(0, spend(300_000));
    b.play(0, spend(300_000));
    b.play(0);
    expect(b.exits.map(({ name }) => name)).toEqual(['preemption_timer', 'preemption_timer']);
    expect(counters(b).exits).toBe(exits);
  });

  it('of another vCPU wakes that one and leaves the running one alone', () => {
    const b = bench({ vcpus: 2 });
    b.kvm.setMsr(1, MSR_LVTT, 0x40n, false);
    b.kvm.setMsr(1, MSR_TMICT, 500n, false);
    expect(b.play(1, HLT)).toEqual({ kind: 'blocked' });
    b.exits.length = 0;
    b.play(0, spend(1000));
    b.play(0);
    expect(b.exits).toEqual([]);
    expect([b.kvm.isRunnable(1), lapic(b).irr()]).toEqual([true, []]);
  });
});

describe('sleeping until a timer', () => {
  it('takes time to the earliest deadline', () => {
    const b = bench({ vcpus: 2 });
    b.kvm.setMsr(0, MSR_LVTT, 0x40n, false);
    b.kvm.setMsr(0, MSR_TMICT, 500n, false);
    b.kvm.setMsr(1, MSR_LVTT, 0x41n, false);
    b.kvm.setMsr(1, MSR_TMICT, 400n, false);
    b.play(0, HLT);
    b.play(1, HLT);
    expect(b.kvm.sleepUntilTimer()).toBe(true);
    expect([b.kvm.clock.now, b.kvm.isRunnable(0), b.kvm.isRunnable(1)]).toEqual([800, false, true]);
    expect(b.kvm.sleepUntilTimer()).toBe(true);
    expect([b.kvm.clock.now, b.kvm.isRunnable(0)]).toEqual([1000, true]);
    expect(b.kvm.sleepUntilTimer()).toBe(false);
  });

  it('finds no end for a periodic timer that nobody hears', () => {
    const b = timed(0x40n | MASKED | PERIODIC);
    write(b, MSR_TMICT, 300_000n);
    sleep(b);
    expect([b.kvm.sleepUntilTimer(), b.kvm.sleepUntilTimer()]).toEqual([true, false]);
  });

  it('and advancing refuse what is no time', () => {
    expect(() => bench().kvm.advanceTime(-1)).toThrow('whole number of nanoseconds, not by -1');
    expect(() => bench().kvm.advanceTime(0.5)).toThrow('whole number of nanoseconds, not by 0.5');
  });
});

describe('the WRMSR fastpath', () => {
  it.each([
    ['5.7', 'intel', 'MSR has no fastpath', 1],
    ['5.8', 'intel', 'taken', 0],
    ['5.8', 'amd', 'MSR has no fastpath', 1],
    ['6.4', 'intel', 'taken', 1],
    ['6.17', 'amd', 'MSR has no fastpath', 1],
    ['6.18', 'amd', 'taken', 1],
  ] as const)('of %s on %s: %s, exits += %i', (era, vendor, reason, exits) => {
    const b = timed(0x40n | TSC_DEADLINE, { era, vendor });
    b.play(0, wrmsr(MSR_DEADLINE, 1_000_000n));
    expect(b.exits[0]?.fastpath?.reason).toBe(reason);
    expect([counters(b).exits, counters(b).byReason.msr_write]).toEqual([exits, 1]);
    expect(b.kvm.clock.next).toBe(1_000_000);
  });

  it('leaves the fast way for a deadline that has passed', () => {
    const b = timed(0x40n | TSC_DEADLINE, { era: '5.8' });
    b.kvm.advanceTime(100);
    b.play(0, wrmsr(MSR_DEADLINE, 50n));
    expect([counters(b).exits, lapic(b).isr()]).toEqual([1, [0x40]]);
  });
});

describe('KVM_SET_LAPIC', () => {
  it.each([
    ['one-shot from TMCCT', 0x40, 1000, 300, 300],
    ['one-shot that has counted to 0: at once', 0x40, 1000, 0, 0],
    ['periodic from TMCCT', 0x20040, 300_000, 5000, 5000],
    ['periodic at 0: a whole period', 0x20040, 300_000, 0, 300_000],
    ['a count beyond the period: the period', 0x40, 1000, 2000, 1000],
    ['stopped', 0x40, 0, 300, Infinity],
    ['TSC-deadline mode', 0x40040, 1000, 300, Infinity],
  ])('%s', (_name, lvtt, tmict, tmcct, next) => {
    const b = bench({ vcpus: 1 });
    const registers = lapic(b).registers.slice();
    registers[A.APIC_LVTT >> 4] = lvtt;
    registers[A.APIC_TMICT >> 4] = tmict;
    registers[A.APIC_TMCCT >> 4] = tmcct;
    registers[A.APIC_TDCR >> 4] = 0xb;
    b.kvm.setLapic(0, registers);
    expect(b.kvm.clock.next).toBe(next);
  });
});

it('the era table dates the rules of IA32_TSC_DEADLINE', () => {
  expect(['4.19', '5.7', '5.8', '5.10'].map((name) => resolveEra(name).deadlineNeedsApic)).toEqual([
    false,
    false,
    true,
    true,
  ]);
});
