import { describe, expect, it } from 'vitest';
import { type Bench, type BenchOptions, bench, CPUID, INTERRUPT_WINDOW, R_RFLAGS, wrmsr } from './spec-helper.ts';

const MSR = 0x4b564d04;
const AT = 0x2000;
const IF = 0x202;

/** vCPU 0 has PV EOI on, and vector 0x40 has just been injected. */
function armed(options: BenchOptions = {}): Bench {
  const b = bench({ vcpus: 2, ...options });
  b.kvm.setMsr(0, MSR, BigInt(AT | 1));
  b.kvm.vcpus[0].lapic.accept(0x40);
  b.play(0);
  b.takeEvents();
  return b;
}

/** In the guest: the handler ends its interrupt through the byte. */
const endOfInterrupt = (b: Bench) => (): void => {
  b.cpu.memory[AT] = 0;
};

describe('KVM_PV_EOI_EN', () => {
  it.each<[value: bigint, ok: boolean]>([
    [0n, true],
    [BigInt(AT), true],
    [BigInt(AT | 1), true],
    [BigInt(AT | 2), false],
    [BigInt(AT | 3), false],
    [0xfffdn, true],
    [0x10001n, false],
    [0x10000n, true],
    [1n << 63n, true],
  ])('%x', (value, ok) => {
    const { kvm } = bench();
    expect(kvm.setMsr(0, MSR, value, false)).toBe(ok);
    expect(kvm.getMsr(0, MSR, false)).toBe(ok ? value : 0n);
  });
});

describe('before an entry', () => {
  it('the byte is set when the interrupt just injected is the only one', () => {
    const b = armed();
    expect(b.cpu.memory[AT]).toBe(1);
    expect(b.cpu.written).toEqual([AT]);
  });

  it.each<[what: string, before: (b: Bench) => void]>([
    ['nothing was injected', () => {}],
    [
      'another interrupt waits',
      (b) => {
        b.kvm.vcpus[0].lapic.accept(0x40);
        b.kvm.vcpus[0].lapic.accept(0x31);
      },
    ],
    [
      'a vector below 16 waits for ever',
      (b) => {
        b.kvm.vcpus[0].lapic.accept(5);
        b.kvm.vcpus[0].lapic.accept(0x40);
      },
    ],
    [
      'the last change of ISR was an EOI',
      (b) => {
        const { lapic } = b.kvm.vcpus[0];
        lapic.acknowledge(0x40);
        lapic.acknowledge(0x50);
        lapic.eoi();
        lapic.requestEvent = true;
      },
    ],
    [
      'the APIC is software-disabled',
      (b) => {
        const { lapic } = b.kvm.vcpus[0];
        lapic.acknowledge(0x40);
        lapic.write(0xf0, 0xff);
      },
    ],
  ])('it is not when %s', (_what, before) => {
    const b = bench({ vcpus: 2 });
    b.kvm.setMsr(0, MSR, BigInt(AT | 1));
    before(b);
    b.kvm.vcpus[0].lapic.requestEvent = true;
    b.play(0);
    expect(b.cpu.memory[AT]).toBe(0);
    expect(b.cpu.written).toEqual([]);
  });

  it('nothing happens while it is off', () => {
    const b = bench({ vcpus: 1 });
    b.kvm.setMsr(0, MSR, BigInt(AT));
    b.kvm.vcpus[0].lapic.accept(0x40);
    b.play(0);
    expect(b.cpu.written).toEqual([]);
  });
});

describe('after an exit', () => {
  it('a byte that is still set is taken back, and the interrupt stays in service', () => {
    const b = armed();
    b.play(0, CPUID);
    expect(b.cpu.memory[AT]).toBe(0);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual([0x40]);
    expect(b.takeEvents()).toEqual(['kvm_exit', 'kvm_cpuid', 'kvm_entry']);
  });

  it('a byte that the guest cleared is an EOI', () => {
    const b = armed();
    b.play(0, endOfInterrupt(b), CPUID);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual([]);
    expect(b.kvm.vcpus[0].counters.req_event).toBe(2);
    expect(b.exits[0].events.map((event) => event.event)).toEqual(['kvm_exit', 'kvm_eoi', 'kvm_pv_eoi', 'kvm_cpuid']);
    expect(b.events).toContainEqual({ event: 'kvm_pv_eoi', vcpu: 0, apicid: 0, vector: 0x40 });
    // Once.
    b.takeEvents();
    b.play(0, CPUID);
    expect(b.takeEvents()).toEqual(['kvm_exit', 'kvm_cpuid', 'kvm_entry']);
  });

  it.each<[era: string, vendor: 'intel' | 'amd', first: string]>([
    ['5.7', 'intel', 'kvm_eoi'],
    ['5.8', 'intel', 'kvm_exit'],
    ['6.5', 'amd', 'kvm_eoi'],
    ['6.6', 'amd', 'kvm_exit'],
  ])('v%s on %s: %s comes first', (era, vendor, first) => {
    const b = armed({ era, vendor });
    b.play(0, endOfInterrupt(b), CPUID);
    expect(b.takeEvents()[0]).toBe(first);
  });

  it('a kick is an exit, too', () => {
    const b = armed();
    b.cpu.memory[AT] = 0;
    b.play(1, wrmsr(0x830, 0x50n));
    b.takeEvents();
    b.play(0);
    expect(b.takeEvents().slice(0, 3)).toEqual(['kvm_exit', 'kvm_eoi', 'kvm_pv_eoi']);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual([0x50]);
    expect(b.cpu.memory[AT]).toBe(1);
  });

  it.each<[era: string, seen: boolean]>([
    ['5.6', true],
    ['5.10', true],
    ['6.12', false],
    ['6.18', false],
  ])('v%s: after a fastpath ICR write: %s', (era, seen) => {
    const b = armed({ era });
    b.play(0, endOfInterrupt(b), wrmsr(0x830, 0x1_0000_0040n));
    expect(b.takeEvents().includes('kvm_pv_eoi')).toBe(seen);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual(seen ? [] : [0x40]);
    // At the latest at the next exit that is more than a fastpath.
    b.play(0, CPUID);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual([]);
  });

  it('a write of the EOI register by a guest that found the byte clear is one EOI', () => {
    const b = armed();
    b.play(0, CPUID, wrmsr(0x80b, 0n));
    expect(b.takeEvents().filter((name) => name.includes('eoi'))).toEqual(['kvm_eoi']);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual([]);
  });

  it('an interrupt window is no window for the byte', () => {
    const b = armed();
    b.cpu.vcpu(0).set(R_RFLAGS, 2, 0);
    b.kvm.vcpus[0].lapic.accept(0x50);
    b.play(0, CPUID);
    expect(b.cpu.memory[AT]).toBe(0);
    b.cpu.vcpu(0).set(R_RFLAGS, IF, 0);
    b.play(0, INTERRUPT_WINDOW);
    expect(b.kvm.vcpus[0].lapic.isr()).toEqual([0x40, 0x50]);
    expect(b.cpu.memory[AT]).toBe(1);
  });
});

describe('INIT', () => {
  it('turns it off', () => {
    const b = armed();
    b.play(1, wrmsr(0x830, 0x0000_0500n));
    b.play(0);
    expect(b.kvm.getMsr(0, MSR)).toBe(0n);
    b.kvm.vcpus[0].lapic.acknowledge(0x40);
    b.kvm.vcpus[0].lapic.requestEvent = true;
    b.cpu.written.length = 0;
    b.play(0, CPUID);
    expect(b.cpu.written).toEqual([]);
  });
});
