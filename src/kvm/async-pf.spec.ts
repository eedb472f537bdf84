import { describe, expect, it } from 'vitest';
import { type Bench, type BenchOptions, bench, CPUID, HLT, R_CR2, R_RFLAGS, wrmsr } from './spec-helper.ts';

const EN = 0x4b564d02;
const INT = 0x4b564d06;
const ACK = 0x4b564d07;
const AT = 0x2000;
const VECTOR = 0xec;
const PF = 0x80000b0e;
const EXTERNAL = 0x80000000;

const word = (b: Bench, offset: number): number => new DataView(b.cpu.memory.buffer).getUint32(AT + offset, true);
const infos = (b: Bench): number[] => b.cpu.vcpu(0).injections.map((injection) => injection.info);

/** Interface on, the wake-up of all tasks taken. `flags`: besides bit 0 and, since v5.8, bit 3. */
function ready(options: BenchOptions = {}, flags = 2n): Bench {
  const b = bench({ vcpus: 1, ...options });
  const { pvAsyncPfInt } = b.kvm.era;
  if (pvAsyncPfInt) b.kvm.setMsr(0, INT, BigInt(VECTOR));
  expect(b.kvm.setMsr(0, EN, BigInt(AT | 1) | flags | (pvAsyncPfInt ? 8n : 0n), false)).toBe(true);
  b.play(0, CPUID);
  if (pvAsyncPfInt) {
    b.cpu.memory.fill(0, AT, AT + 8);
    b.kvm.setMsr(0, ACK, 1n);
    b.kvm.vcpus[0].lapic.eoi();
  }
  b.play(0, CPUID);
  b.cpu.memory.fill(0, AT, AT + 8);
  b.cpu.vcpu(0).injections.length = 0;
  b.takeEvents();
  return b;
}

describe('KVM_ASYNC_PF_EN', () => {
  it.each<[what: string, value: bigint, old: boolean, now: boolean]>([
    ['off', 0n, true, true],
    ['bits 2:0', 7n, true, true],
    ['bit 3', 9n, false, true],
    ['bit 4', 0x10n, false, false],
    ['bit 5', 0x21n, false, false],
    ['no memory', 0x10_0000_0001n, false, true],
    ['no memory, with bit 3', 0x10_0000_0009n, false, false],
  ])('%s', (_what, value, old, now) => {
    const accepted = (era: string): boolean => bench({ era }).kvm.setMsr(0, EN, value, false);
    expect(['4.19', '5.7', '5.8', '7.1'].map(accepted)).toEqual([old, old, now, now]);
  });

  it('refuses what enforced CPUID hides', () => {
    const { kvm } = bench({ enforcePvFeatures: true, pvFeatures: 1 << 4 });
    expect([1n, 5n, 9n].map((value) => kvm.setMsr(0, EN, value, false))).toEqual([true, false, false]);
    expect(kvm.setMsr(0, INT, 0xecn, false)).toBe(false);
  });

  it('since v5.8 needs bit 3 to be active', () => {
    const b = bench({ vcpus: 1 });
    b.play(0, wrmsr(EN, BigInt(AT | 1)));
    expect(b.takeEvents()).toEqual(['kvm_entry', 'kvm_exit', 'kvm_msr', 'kvm_entry']);
    expect(b.kvm.asyncPageNotPresent(0, 7)).toBe('halted');
  });

  it('wakes all tasks when it is turned on', () => {
    const b = bench({ vcpus: 1 });
    b.kvm.setMsr(0, INT, BigInt(VECTOR));
    b.play(0, wrmsr(EN, BigInt(AT | 9)));
    expect([word(b, 0), word(b, 4)]).toEqual([0, 0xffffffff]);
    expect(infos(b)).toEqual([EXTERNAL + VECTOR]);
    expect(b.takeEvents().slice(2)).toEqual([
      'kvm_msr',
      'kvm_async_pf_ready',
      'kvm_apic_accept_irq',
      'kvm_inj_virq',
      'kvm_entry',
    ]);
  });

  it('before v5.8 wakes them by #PF, as soon as the guest takes interrupts', () => {
    const b = bench({ vcpus: 1, era: '5.7' });
    b.cpu.vcpu(0).set(R_RFLAGS, 2, 0);
    b.play(0, wrmsr(EN, BigInt(AT | 1)), CPUID);
    expect(infos(b)).toEqual([]);
    b.cpu.vcpu(0).set(R_RFLAGS, 0x202, 0);
    b.play(0, CPUID);
    expect([word(b, 0), b.cpu.vcpu(0).get(R_CR2)]).toEqual([2, 0xffffffffn]);
    expect(infos(b)).toEqual([PF]);
  });
});

describe('a page that is not present', () => {
  it.each(['5.7', '5.8', '7.1'])('v%s: #PF with the token in CR2 and reason 1', (era) => {
    const b = ready({ era });
    expect(b.kvm.asyncPageNotPresent(0, 0x1234)).toBe('injected');
    b.play(0);
    expect(infos(b)).toEqual([PF]);
    expect(b.cpu.vcpu(0).injections[0].error).toBe(0);
    expect([word(b, 0), b.cpu.vcpu(0).get(R_CR2)]).toEqual([1, 0x1234n]);
    expect(b.events[1]).toEqual({ event: 'kvm_async_pf_not_present', vcpu: 0, token: 0x1234, gva: 0x1234n });
  });

  it('is an exit of a vCPU in the guest', () => {
    const b = ready();
    const { exits } = b.kvm.vcpus[0].counters;
    b.kvm.asyncPageNotPresent(0, 1);
    expect(b.kvm.vcpus[0].counters.exits).toBe(exits + 1);
    expect(b.exits[b.exits.length - 1].name).toBe('ept_violation');
  });

  it('cannot be told with interrupts disabled, or an exception on its way', () => {
    const b = ready();
    b.cpu.vcpu(0).set(R_RFLAGS, 2, 0);
    expect(b.kvm.asyncPageNotPresent(0, 1)).toBe('synchronous');
    b.cpu.vcpu(0).set(R_RFLAGS, 0x202, 0);
    expect(b.kvm.asyncPageNotPresent(0, 2)).toBe('injected');
    expect(b.kvm.asyncPageNotPresent(0, 3)).toBe('synchronous');
  });

  it('puts a vCPU to sleep whose kernel does not want to know, until the page is there', () => {
    const b = ready({}, 0n);
    expect(b.kvm.asyncPageNotPresent(0, 5)).toBe('halted');
    expect(b.kvm.vcpus[0].mpState).toBe('runnable');
    expect([b.kvm.isRunnable(0), b.play(0).kind]).toEqual([false, 'blocked']);
    b.kvm.asyncPageReady(0, 5);
    expect([b.kvm.isRunnable(0), b.play(0).kind]).toEqual([true, 'budget']);
    // It never knew of the page.
    expect([infos(b), word(b, 4)]).toEqual([[], 0]);
  });

  it('is told to user code without bit 1', () => {
    const b = ready({}, 0n);
    b.cpu.vcpu(0).cpl = 3;
    expect(b.kvm.asyncPageNotPresent(0, 5)).toBe('injected');
  });

  it('an interrupt ends that sleep, too', () => {
    const b = ready({}, 0n);
    b.kvm.asyncPageNotPresent(0, 5);
    b.play(0);
    b.kvm.vcpus[0].lapic.accept(0x40);
    expect(b.play(0).kind).toBe('budget');
    expect(infos(b)).toEqual([EXTERNAL + 0x40]);
  });
});

describe('a page that became ready', () => {
  it('since v5.8: token in the record, and an interrupt', () => {
    const b = ready();
    b.kvm.asyncPageNotPresent(0, 5);
    b.play(0);
    b.kvm.asyncPageReady(0, 5);
    b.play(0, CPUID);
    expect(word(b, 4)).toBe(5);
    expect(infos(b)).toEqual([PF, EXTERNAL + VECTOR]);
  });

  it('waits for the guest to take the one before', () => {
    const b = ready();
    for (const token of [5, 6]) {
      b.kvm.asyncPageNotPresent(0, token);
      b.play(0);
    }
    b.kvm.asyncPageReady(0, 5);
    b.kvm.asyncPageReady(0, 6);
    b.play(0, CPUID, wrmsr(ACK, 1n));
    expect(word(b, 4)).toBe(5);
    b.cpu.memory.fill(0, AT + 4, AT + 8);
    b.play(0, wrmsr(ACK, 2n));
    expect(word(b, 4)).toBe(0);
    b.play(0, wrmsr(ACK, 1n));
    expect(word(b, 4)).toBe(6);
    expect(b.kvm.getMsr(0, ACK, false)).toBe(0n);
  });

  it('before v5.8: #PF with the token and reason 2', () => {
    const b = ready({ era: '5.7' });
    b.kvm.asyncPageNotPresent(0, 5);
    b.play(0);
    b.kvm.asyncPageReady(0, 5);
    b.play(0, CPUID);
    expect(infos(b)).toEqual([PF, PF]);
    expect([word(b, 0), b.cpu.vcpu(0).get(R_CR2)]).toEqual([2, 5n]);
  });

  it('wakes a vCPU in HLT', () => {
    const b = ready();
    b.kvm.asyncPageNotPresent(0, 5);
    expect(b.play(0, CPUID, HLT).kind).toBe('blocked');
    b.kvm.asyncPageReady(0, 5);
    expect(b.kvm.isRunnable(0)).toBe(true);
    b.play(0);
    expect(infos(b)).toEqual([PF, EXTERNAL + VECTOR]);
  });

  it('is forgotten when the guest turns the interface off', () => {
    const b = ready();
    b.kvm.asyncPageNotPresent(0, 5);
    b.play(0);
    b.kvm.setMsr(0, EN, 0n);
    b.kvm.asyncPageReady(0, 5);
    b.play(0, CPUID);
    expect([word(b, 4), infos(b)]).toEqual([0, [PF]]);
  });
});
