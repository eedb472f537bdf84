import { describe, expect, it, vi } from 'vitest';
import { type Bench, type BenchOptions, bench, HLT, R_RFLAGS, wrmsr } from './spec-helper.ts';

const MSR = 0x4b564d03;
const AT = 0x2000;
const ENABLE = wrmsr(MSR, BigInt(AT | 1));
const IO = { reason: 'io', length: 2, direction: 'out', port: 0x80, size: 1, value: 0, string: false } as const;

function record(b: Bench): { steal: bigint; version: number; preempted: number } {
  const view = new DataView(b.cpu.memory.buffer, AT, 64);
  return { steal: view.getBigUint64(0, true), version: view.getUint32(8, true), preempted: view.getUint8(16) };
}

/** vCPU 0 has steal time on and is in the guest. */
function watching(options: BenchOptions = {}): Bench {
  const b = bench({ vcpus: 2, ...options });
  b.play(0, ENABLE);
  return b;
}

describe('KVM_STEAL_TIME', () => {
  it.each<[what: string, value: bigint, before: boolean, since: boolean]>([
    ['an address', BigInt(AT | 1), true, true],
    ['bit 1', BigInt(AT | 3), false, false],
    ['bit 5', BigInt(AT | 0x21), false, false],
    ['bits 5:1 while disabled', BigInt(AT | 0x3e), false, false],
    ['an address outside memory', 0x10_0000_0001n, false, true],
    ['a record that ends outside memory', 0xffc1n, true, true],
    ['an address outside memory while disabled', 0x10_0000_0000n, true, true],
  ])('%s', (_what, value, before, since) => {
    const accepted = (era: string): boolean => bench({ era }).kvm.setMsr(0, MSR, value, false);
    expect(['5.5', '5.6', '7.1'].map(accepted)).toEqual([before, since, since]);
  });

  it('outside memory: nothing is written', () => {
    const b = bench({ vcpus: 2 });
    b.play(0, wrmsr(MSR, 0x10_0000_0001n));
    b.play(1);
    b.play(0);
    expect(b.cpu.written).toEqual([]);
  });

  it('is 64 bytes: the version is odd while the host writes', () => {
    const b = bench({ vcpus: 1 });
    b.cpu.memory[AT + 8] = 5;
    b.play(0, ENABLE);
    expect(record(b)).toEqual({ steal: 0n, version: 8, preempted: 0 });
    expect(b.takeEvents()).toEqual(['kvm_entry', 'kvm_exit', 'kvm_msr', 'kvm_pv_tlb_flush', 'kvm_entry']);
  });

  it('traces kvm_pv_tlb_flush from v5.4 on', () => {
    const traced = (era: string): number => {
      const b = bench({ vcpus: 1, era });
      b.play(0, ENABLE);
      return b.takeEvents().filter((name) => name === 'kvm_pv_tlb_flush').length;
    };
    expect(['5.0', '5.4'].map(traced)).toEqual([0, 1]);
  });
});

describe('run delay', () => {
  it('is the time others ran while the vCPU could have', () => {
    const b = watching();
    b.play(1, HLT);
    b.kvm.advanceTime(700);
    b.play(0);
    // One step of vCPU 1, and 700 ns.
    expect(record(b).steal).toBe(701n);
    b.play(0);
    expect(record(b).steal).toBe(701n);
  });

  it('does not count sleep, but the wait after the wake-up', () => {
    const b = watching();
    b.play(0, HLT);
    b.kvm.advanceTime(1000);
    b.play(1, wrmsr(0x830, 0x40n));
    b.kvm.advanceTime(50);
    b.play(0);
    // One step of vCPU 1 after its IPI, and 50 ns.
    expect(record(b).steal).toBe(51n);
  });

  it('counts from the start of the thread, also before steal time was on', () => {
    const b = bench({ vcpus: 2 });
    b.kvm.advanceTime(300);
    b.play(0, ENABLE);
    expect(record(b).steal).toBe(300n);
  });
});

describe('the preempted byte', () => {
  it('is set when a host interrupt takes the vCPU out of the guest, and taken back before it runs', () => {
    const b = watching();
    b.takeEvents();
    b.play(1);
    expect(record(b).preempted).toBe(1);
    expect(b.takeEvents()).toEqual(['kvm_exit', 'kvm_entry']);
    expect(b.kvm.vcpus[0].counters).toMatchObject({ irq_exits: 1, exits: 2 });
    b.play(0);
    expect(record(b)).toMatchObject({ preempted: 0, version: 4 });
    expect(b.takeEvents()).toEqual(['kvm_pv_tlb_flush', 'kvm_entry']);
  });

  it('costs no exit without steal time', () => {
    const b = bench({ vcpus: 2 });
    b.play(0);
    b.play(1);
    expect(b.kvm.vcpus[0].counters.exits).toBe(0);
  });

  it.each<[era: string, preempted: number]>([
    ['5.18', 1],
    ['5.19', 0],
  ])('v%s: for a vCPU in HLT it is %i', (era, preempted) => {
    const b = watching({ era });
    b.cpu.vcpu(0).set(R_RFLAGS, 2, 0);
    expect(b.play(0, HLT)).toEqual({ kind: 'blocked' });
    b.play(1);
    expect(record(b).preempted).toBe(preempted);
    expect(b.kvm.vcpus[0].counters.irq_exits).toBe(0);
  });

  it.each<[era: string, preempted: number]>([
    ['5.18', 1],
    ['5.19', 0],
  ])('v%s: for a vCPU in user space it is %i', (era, preempted) => {
    const b = watching({ era });
    expect(b.play(0, IO).kind).toBe('io');
    b.play(1);
    expect(record(b).preempted).toBe(preempted);
  });

  it('a return from user space loads the vCPU again', () => {
    const b = watching();
    b.play(0, IO);
    b.kvm.completeIo(0, 0);
    b.play(0);
    expect(record(b).version).toBe(4);
  });

  it.each<[era: string, enforced: boolean, preempted: number]>([
    ['5.8', true, 0],
    ['5.10', true, 1],
    ['5.10', false, 0],
    ['5.12', true, 1],
    ['5.13', true, 0],
    ['7.1', true, 0],
  ])('v%s without PV_TLB_FLUSH, enforced %s: %i after the next entry', (era, enforcePvFeatures, preempted) => {
    const b = watching({ era, enforcePvFeatures, pvFeatures: 1 << 5 });
    b.play(1);
    b.play(0);
    expect(record(b).preempted).toBe(preempted);
  });
});

describe('PV TLB flush', () => {
  it.each([true, false])('flag set: %s', (asked) => {
    const b = watching();
    const flush = vi.spyOn(b.cpu.vcpu(0), 'flushTlb');
    b.play(1);
    if (asked) b.cpu.memory[AT + 16] |= 2;
    b.play(0);
    expect(flush).toHaveBeenCalledTimes(asked ? 1 : 0);
    expect(record(b).preempted).toBe(0);
  });

  it('is not for a guest whose CPUID hides it while enforcement is on', () => {
    const b = watching({ enforcePvFeatures: true, pvFeatures: 1 << 5 });
    const flush = vi.spyOn(b.cpu.vcpu(0), 'flushTlb');
    b.play(1);
    b.cpu.memory[AT + 16] |= 2;
    b.play(0);
    expect(flush).not.toHaveBeenCalled();
    expect(record(b).preempted).toBe(0);
  });
});
