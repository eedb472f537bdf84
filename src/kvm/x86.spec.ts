import { describe, expect, it } from 'vitest';
import { R_XCR0 } from '../cpu/core/layout.ts';
import type { Exit } from '../cpu/exit.ts';
import { KvmscopeError } from '../errors.ts';
import { ERAS } from './eras.ts';
import {
  type Bench,
  type BenchOptions,
  bench,
  CPUID,
  callFrom0,
  FakeCpu,
  HLT,
  HYPERCALL,
  INTERRUPT_WINDOW,
  NMI_WINDOW,
  R_CR2,
  R_DR6,
  R_RAX,
  R_RCX,
  R_RDX,
  R_RFLAGS,
  R_RIP,
  R_SEL,
  rdmsr,
  SEG_CS,
  setArguments,
  wrmsr,
} from './spec-helper.ts';
import { Kvm } from './x86.ts';

const EXTERNAL = 0x80000000;
const NMI = 0x80000202;
const IF = 0x202;
const NO_IF = 2;

const infos = (b: Bench, index: number): number[] => b.cpu.vcpu(index).injections.map((injection) => injection.info);
/** vCPU 0 sends the x2APIC ICR value `icr`. */
const send = (b: Bench, icr: bigint): void => {
  b.play(0, wrmsr(0x830, icr));
};
const SHUTDOWN: Exit = { reason: 'shutdown', length: 0 };
const PAUSE: Exit = { reason: 'pause', length: 2 };
const UD: Exit = { reason: 'exception', vector: 6, hasErrorCode: false, errorCode: 0, addressLo: 0, addressHi: 0 };
const mmio = (gpa: number, direction: 'read' | 'write', value = 0, size = 4): Exit => ({
  reason: 'mmio',
  gpaLo: gpa,
  gpaHi: 0,
  size,
  direction,
  valueLo: value,
  valueHi: 0,
});

describe('creating a VM', () => {
  it('refuses what KVM would', () => {
    const make = (options: Partial<ConstructorParameters<typeof Kvm>[0]>, vcpus = 2): void => {
      new Kvm({ cpu: new FakeCpu(vcpus), ...options });
    };
    expect(() => make({ era: '3.2' })).toThrow("unknown KVM era '3.2'");
    expect(() => make({ apicIds: [0] })).toThrow('1 APIC ids for 2 vCPUs');
    expect(() => make({ apicIds: [3, 3] })).toThrow('APIC id 3 is given twice');
    expect(() => make({ apicIds: [0, 4096] })).toThrow('APIC id 4096 is not in 0 … 4095, the range of KVM 7.1');
    expect(() => make({ apicIds: [0, 1024], era: '5.10' })).toThrow('APIC id 1024 is not in 0 … 1023');
    expect(() => make({ apicIds: [0, 1.5] })).toThrow(KvmscopeError);
    expect(() => make({ apicIds: [0, 4095] })).not.toThrow();
  });

  it('resets every vCPU and starts id 0', () => {
    const { kvm, cpu } = bench({ apicIds: [7, 0] });
    expect(cpu.states.map((state) => state.resets)).toEqual([['reset'], ['reset']]);
    expect(cpu.states.map((state) => state.exceptionBitmap)).toEqual([1 << 6, 1 << 6]);
    const fresh = new Kvm({ cpu: new FakeCpu(2), apicIds: [7, 0] });
    expect(fresh.vcpus.map((vcpu) => vcpu.mpState)).toEqual(['uninitialized', 'runnable']);
    expect(fresh.vcpus.map((vcpu) => vcpu.bsp)).toEqual([false, true]);
    expect(kvm.era.name).toBe('7.1');
  });

  it('knows no vCPU beyond the last', () => {
    expect(() => bench().kvm.run(4, 1)).toThrow('no vCPU 4; this VM has 4, numbered from 0');
  });
});

describe('KVM_RUN', () => {
  it('stops at the end of the budget and goes on without another entry', () => {
    const b = bench();
    expect(b.play(1)).toEqual({ kind: 'budget' });
    expect(b.takeEvents()).toEqual(['kvm_entry']);
    b.play(1);
    expect(b.takeEvents()).toEqual([]);
  });

  it('counts a step per exit, so that a storm of exits ends', () => {
    const b = bench();
    b.cpu.scripts[0].push(...Array<Exit>(100).fill(CPUID));
    expect(b.kvm.run(0, 10)).toEqual({ kind: 'budget' });
    expect(b.kvm.vcpus[0].counters.exits).toBe(5);
  });

  it('returns blocked for a vCPU that waits', () => {
    const b = bench();
    for (const state of ['halted', 'uninitialized', 'init-received'] as const) {
      b.kvm.vcpus[1].mpState = state;
      expect(b.kvm.isRunnable(1)).toBe(false);
      expect(b.play(1)).toEqual({ kind: 'blocked' });
    }
    expect(b.cpu.entries).toEqual([]);
  });

  it('reports a triple fault', () => {
    const b = bench();
    expect(b.play(0, SHUTDOWN)).toEqual({ kind: 'shutdown' });
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ triple_fault: 1 });
    expect(b.exits[0].events.map((event) => event.event)).toEqual(['kvm_exit', 'kvm_userspace_exit']);
  });

  it('reports what the CPU cannot do', () => {
    const b = bench();
    const exit: Exit = {
      reason: 'internal',
      code: 1,
      what: 'a page table lies outside RAM',
      addressLo: 0x1000,
      addressHi: 2,
    };
    expect(b.play(0, exit)).toEqual({
      kind: 'internal-error',
      detail: 'a page table lies outside RAM (address 0x200001000)',
    });
    expect(b.play(0, { reason: 'mov-cr3', length: 3 })).toMatchObject({ kind: 'internal-error' });
  });

  it('takes PAUSE as a hint to switch, not as an exit', () => {
    const b = bench();
    expect(b.play(0, PAUSE)).toEqual({ kind: 'yield' });
    expect(b.kvm.vcpus[0].counters.exits).toBe(0);
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff2n);
    b.takeEvents();
    b.play(0);
    expect(b.takeEvents()).toEqual([]);
  });

  it.each(['wbinvd', 'invd', 'invlpg'] as const)('skips %s', (reason) => {
    const b = bench();
    b.play(0, { reason, length: 2 });
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff2n);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ [reason]: 1 });
  });

  it('emulates RDTSC if it exits', () => {
    const b = bench();
    b.cpu.vcpu(0).put(39, 0x5_0000_0000n);
    b.play(0, { reason: 'rdtsc', length: 2 });
    expect(b.cpu.vcpu(0).get(R_RAX)).toBe(1n);
    expect(b.cpu.vcpu(0).get(2)).toBe(5n);
  });

  it('raises #GP for RDPMC: there is no PMU', () => {
    const b = bench();
    b.play(0, { reason: 'rdpmc', length: 2 });
    expect(infos(b, 0)).toEqual([0x80000b0d]);
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff0n);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ rdpmc: 1 });
  });

  it('sets XCR0 by XSETBV', () => {
    const b = bench();
    const cpu = b.cpu.vcpu(0);
    cpu.put(R_RAX, 3n);
    cpu.put(R_RDX, 0n);
    b.play(0, { reason: 'xsetbv', length: 3 });
    expect([infos(b, 0), cpu.get(R_XCR0), cpu.get(R_RIP)]).toEqual([[], 3n, 0xfff3n]);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ xsetbv: 1 });
  });

  it.each([
    ['without x87 state', 2n, 0n, 0n, 0],
    ['with AVX state', 7n, 0n, 0n, 0],
    ['with bit 32', 3n, 0n, 1n, 0],
    ['of XCR1', 1n, 1n, 0n, 0],
    ['at CPL 3', 3n, 0n, 0n, 3],
  ] as const)('raises #GP for XSETBV %s', (_, eax, ecx, edx, cpl) => {
    const b = bench();
    const cpu = b.cpu.vcpu(0);
    cpu.put(R_RAX, eax);
    cpu.put(R_RCX, ecx);
    cpu.put(R_RDX, edx);
    cpu.put(R_XCR0, 1n);
    cpu.cpl = cpl;
    b.play(0, { reason: 'xsetbv', length: 3 });
    expect([infos(b, 0), cpu.get(R_XCR0), cpu.get(R_RIP)]).toEqual([[0x80000b0d], 1n, 0xfff0n]);
  });

  it.each(['mwait', 'monitor'] as const)('takes %s as a NOP unless the quirk is off', (reason) => {
    const b = bench();
    b.play(0, { reason, length: 3 });
    expect([infos(b, 0), b.cpu.vcpu(0).get(R_RIP)]).toEqual([[], 0xfff3n]);
    const strict = bench({ disabledQuirks: 1 << 6 });
    strict.play(0, { reason, length: 3 });
    expect(infos(strict, 0)).toEqual([0x80000306]);
    const old = bench({ disabledQuirks: 1 << 6, era: '5.19' });
    old.play(0, { reason, length: 3 });
    expect(infos(old, 0)).toEqual([]);
  });
});

describe('delivery to a running vCPU', () => {
  it('kicks it out once, however many messages arrive, and injects the highest vector', () => {
    const b = bench();
    b.play(1);
    send(b, 0x1_0000_0041n);
    send(b, 0x1_0000_0082n);
    send(b, 0x1_0000_0400n);
    b.takeEvents();
    b.play(1);
    expect(b.takeEvents()).toEqual(['kvm_exit', 'kvm_inj_nmi', 'kvm_entry']);
    const { counters, lapic } = b.kvm.vcpus[1];
    expect(counters).toMatchObject({ exits: 1, irq_exits: 1, nmi_injections: 1, irq_injections: 0 });
    expect(counters.byReason).toEqual({ external_interrupt: 1 });
    expect(infos(b, 1)).toEqual([NMI]);
    expect(b.cpu.vcpu(1).window).toBe(1);
    b.play(1, INTERRUPT_WINDOW);
    expect(infos(b, 1)).toEqual([NMI, EXTERNAL + 0x82]);
    expect([lapic.isr(), lapic.irr()]).toEqual([[0x82], [0x41]]);
    expect(counters).toMatchObject({ irq_window_exits: 1, irq_injections: 1 });
    expect(b.cpu.vcpu(1).window).toBe(0);
  });

  it('needs no exit while the target is outside the guest', () => {
    const b = bench();
    send(b, 0x1_0000_0041n);
    b.play(1);
    expect(b.kvm.vcpus[1].counters).toMatchObject({ exits: 0, irq_exits: 0, irq_injections: 1 });
    expect(infos(b, 1)).toEqual([EXTERNAL + 0x41]);
  });

  it('waits for the window while IF is clear or in a shadow', () => {
    const b = bench();
    b.cpu.vcpu(1).set(R_RFLAGS, NO_IF, 0);
    send(b, 0x1_0000_0041n);
    b.play(1);
    expect([infos(b, 1), b.cpu.vcpu(1).window]).toEqual([[], 1]);
    b.play(1, (state) => state.set(R_RFLAGS, IF, 0), INTERRUPT_WINDOW);
    expect(infos(b, 1)).toEqual([EXTERNAL + 0x41]);

    const shadowed = bench();
    shadowed.cpu.vcpu(1).interruptibility = 1;
    send(shadowed, 0x1_0000_0041n);
    shadowed.play(1);
    expect([infos(shadowed, 1), shadowed.cpu.vcpu(1).window]).toEqual([[], 1]);
  });

  it('holds a vector back until EOI if its class is in service', () => {
    const b = bench();
    send(b, 0x1_0000_0041n);
    b.play(1);
    send(b, 0x1_0000_0042n);
    b.play(1);
    expect([infos(b, 1), b.cpu.vcpu(1).window]).toEqual([[EXTERNAL + 0x41], 0]);
    b.play(1, wrmsr(0x80b, 0n));
    expect(infos(b, 1)).toEqual([EXTERNAL + 0x41, EXTERNAL + 0x42]);
    const eoi = b.events.find((event) => event.event === 'kvm_eoi');
    expect(eoi).toEqual({ event: 'kvm_eoi', vcpu: 1, apicid: 1, vector: 0x41 });
  });

  it('names the vcpu_id, not the APIC id, in kvm_apic_accept_irq', () => {
    const b = bench({ apicIds: [0, 9] });
    send(b, 0x9_0000_c041n);
    expect(b.events.find((event) => event.event === 'kvm_apic_accept_irq')).toEqual({
      event: 'kvm_apic_accept_irq',
      vcpu: 0,
      apicid: 9,
      deliveryMode: 0,
      triggerMode: 1,
      vector: 0x41,
    });
  });

  it('does not lose an event if no entry follows', () => {
    const b = bench();
    send(b, 0x1_0000_0041n);
    expect(b.kvm.run(1, 0)).toEqual({ kind: 'budget' });
    expect(infos(b, 1)).toEqual([]);
    b.play(1);
    expect(infos(b, 1)).toEqual([EXTERNAL + 0x41]);
  });
});

describe('NMI', () => {
  it('saturates at two, one of which is latched behind the other', () => {
    const b = bench();
    for (let i = 0; i < 5; i++) send(b, 0x1_0000_0400n);
    expect(b.kvm.vcpus[1].nmiPending).toBe(2);
    expect(b.kvm.vcpus[1].nmiQueued).toBe(5);
    b.play(1, (state) => {
      state.interruptibility = 8;
    });
    expect([infos(b, 1), b.cpu.vcpu(1).window]).toEqual([[NMI], 2]);
    for (let i = 0; i < 3; i++) send(b, 0x1_0000_0400n);
    expect(b.kvm.vcpus[1].nmiPending).toBe(1);
    b.play(
      1,
      (state) => {
        state.interruptibility = 0;
      },
      NMI_WINDOW,
    );
    expect(infos(b, 1)).toEqual([NMI, NMI]);
    expect(b.kvm.vcpus[1].counters).toMatchObject({ nmi_injections: 2, nmi_window_exits: 1 });
  });

  it('reaches a software-disabled APIC and a vCPU with IF clear', () => {
    const b = bench();
    b.kvm.vcpus[1].lapic.write(0xf0, 0xff);
    b.cpu.vcpu(1).set(R_RFLAGS, NO_IF, 0);
    send(b, 0x1_0000_0400n);
    b.play(1);
    expect(infos(b, 1)).toEqual([NMI]);
  });
});

describe('HLT', () => {
  it('blocks, and an IPI wakes it without an exit', () => {
    const b = bench();
    expect(b.play(1, HLT)).toEqual({ kind: 'blocked' });
    expect(b.kvm.vcpus[1].mpState).toBe('halted');
    send(b, 0x1_0000_0041n);
    expect(b.kvm.isRunnable(1)).toBe(true);
    b.play(1);
    expect(b.kvm.vcpus[1].mpState).toBe('runnable');
    expect(infos(b, 1)).toEqual([EXTERNAL + 0x41]);
    expect(b.kvm.vcpus[1].counters).toMatchObject({ exits: 1, halt_exits: 1, halt_wakeup: 1, irq_exits: 0 });
  });

  it('with IF clear is not ended by a Fixed IPI, though each one wakes the thread', () => {
    const b = bench();
    b.play(1, (state) => state.set(R_RFLAGS, NO_IF, 0), HLT);
    send(b, 0x1_0000_0041n);
    send(b, 0x1_0000_0042n);
    expect(b.kvm.isRunnable(1)).toBe(false);
    expect(b.play(1)).toEqual({ kind: 'blocked' });
    expect(b.kvm.vcpus[1].counters.halt_wakeup).toBe(2);
  });

  it.each<[what: string, icr: bigint]>([
    ['an NMI', 0x1_0000_0400n],
    ['an SMI', 0x1_0000_0200n],
    ['the PV kick', 0x1_0000_0300n],
  ])('with IF clear is ended by %s', (_what, icr) => {
    const b = bench();
    b.play(1, (state) => state.set(R_RFLAGS, NO_IF, 0), HLT);
    send(b, icr);
    expect(b.play(1)).toEqual({ kind: 'budget' });
    expect(b.kvm.vcpus[1]).toMatchObject({ mpState: 'runnable', pvUnhalted: false, smiPending: false });
  });

  it('ends at once if something is pending already', () => {
    const b = bench();
    b.play(1);
    send(b, 0x1_0000_0300n);
    expect(b.play(1, HLT)).toEqual({ kind: 'budget' });
    expect(b.kvm.vcpus[1]).toMatchObject({ mpState: 'runnable', pvUnhalted: false });
  });

  it('is not ended by a vector below PPR', () => {
    const b = bench();
    b.kvm.setMsr(1, 0x808, 0x50n);
    b.play(1, HLT);
    send(b, 0x1_0000_0041n);
    expect(b.kvm.isRunnable(1)).toBe(false);
    send(b, 0x1_0000_0061n);
    expect(b.kvm.isRunnable(1)).toBe(true);
  });
});

describe('INIT and SIPI', () => {
  it('start an application processor at vector * 4 KiB', () => {
    const b = bench();
    b.kvm.vcpus[1].mpState = 'uninitialized';
    send(b, 0x1_0000_4500n);
    expect(b.play(1)).toEqual({ kind: 'blocked' });
    expect(b.kvm.vcpus[1].mpState).toBe('init-received');
    expect(b.cpu.vcpu(1).resets).toEqual(['reset', 'init']);
    expect(b.cpu.vcpu(1).lo(2)).toBe(0x000506e3);
    send(b, 0x1_0000_0610n);
    send(b, 0x1_0000_0620n);
    expect(b.kvm.vcpus[1]).toMatchObject({ sipiPending: true, sipiVector: 0x20 });
    expect(b.play(1)).toEqual({ kind: 'budget' });
    const cpu = b.cpu.vcpu(1);
    expect([cpu.lo(R_SEL + SEG_CS), cpu.lo(56 + SEG_CS), cpu.get(R_RIP)]).toEqual([0x2000, 0x20000, 0n]);
    send(b, 0x1_0000_0630n);
    b.play(1);
    expect(cpu.lo(R_SEL + SEG_CS)).toBe(0x2000);
  });

  it('an INIT sends an application processor back to waiting and the bootstrap processor to the reset vector', () => {
    const b = bench();
    b.play(1);
    send(b, 0x1_0000_0500n);
    expect(b.play(1)).toEqual({ kind: 'blocked' });
    expect(b.kvm.vcpus[1].counters).toMatchObject({ irq_exits: 1 });
    expect(b.kvm.vcpus[1].lapic).toMatchObject({ mode: 'x2apic', swEnabled: false });

    b.cpu.vcpu(0).put(R_RIP, 0x1234n);
    send(b, 0x0_0004_0500n);
    expect(b.kvm.vcpus[0].mpState).toBe('runnable');
    expect(b.cpu.vcpu(0).resets).toEqual(['reset', 'init']);
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff0n);
  });

  it('which one it is goes by the BSP bit of IA32_APIC_BASE, which guests may write', () => {
    const b = bench();
    const swap = (index: number): boolean => b.kvm.setMsr(index, 0x1b, (b.kvm.getMsr(index, 0x1b) ?? 0n) ^ 0x100n);
    expect([swap(0), swap(1)]).toEqual([true, true]);
    send(b, 0x1_0000_0500n);
    send(b, 0x0_0004_0500n);
    expect([b.kvm.getMpState(0), b.kvm.getMpState(1)]).toEqual(['init-received', 'runnable']);
  });

  it('an INIT drops what was pending, a PV MSR included', () => {
    const b = bench();
    b.kvm.setMsr(1, 0x4b564d04, 0x1001n);
    send(b, 0x1_0000_0041n);
    send(b, 0x1_0000_0400n);
    send(b, 0x1_0000_0500n);
    b.play(1);
    expect(b.kvm.vcpus[1]).toMatchObject({ nmiPending: 0, initPending: false });
    expect(b.kvm.vcpus[1].lapic.irr()).toEqual([]);
    expect(b.kvm.getMsr(1, 0x4b564d04)).toBe(0n);
  });

  it('a SIPI to a vCPU that does not wait is swallowed', () => {
    const b = bench();
    send(b, 0x1_0000_0610n);
    b.play(1);
    expect(b.kvm.vcpus[1]).toMatchObject({ mpState: 'runnable', sipiPending: false });
    expect(b.cpu.vcpu(1).lo(R_SEL + SEG_CS)).toBe(0xf000);
  });

  it('both pending are carried out in order', () => {
    const b = bench();
    b.kvm.vcpus[1].mpState = 'uninitialized';
    expect(callFrom0(b, 0xan, 2n, 0n, 0n, 0x500n)).toBe(1n);
    expect(callFrom0(b, 0xan, 2n, 0n, 0n, 0x610n)).toBe(1n);
    expect(b.kvm.getMpState(1)).toBe('runnable');
    expect(b.cpu.vcpu(1).lo(R_SEL + SEG_CS)).toBe(0x1000);
  });
});

describe('the ICR', () => {
  it('all but self, all, and broadcast reach whom they should', () => {
    const received = (icr: bigint, options: BenchOptions = {}): number[] => {
      const b = bench(options);
      b.kvm.setMsr(0, 0x830, icr);
      return b.kvm.vcpus.filter((vcpu) => vcpu.lapic.irr().length > 0).map((vcpu) => vcpu.apicId);
    };
    expect(received(0xc00f0n)).toEqual([1, 2, 3]);
    expect(received(0x800f0n)).toEqual([0, 1, 2, 3]);
    expect(received(0xffffffff_000000f0n)).toEqual([0, 1, 2, 3]);
    expect(received(0xff_000000f0n)).toEqual([]);
    expect(received(0xff_000000f0n, { apicIds: [0, 255] })).toEqual([255]);
    expect(received(0x5_000008f0n)).toEqual([0, 2]);
    expect(received(0x0_000008f0n)).toEqual([]);
  });

  it('lowest priority picks by vector among the requested bits, absent vCPUs included', () => {
    const winner = (vector: number, mask: bigint, vectorHashing = true): number[] => {
      const b = bench({ vectorHashing });
      b.kvm.setMsr(0, 0x830, (mask << 32n) | 0x900n | BigInt(vector));
      return b.kvm.vcpus.filter((vcpu) => vcpu.lapic.irr().length > 0).map((vcpu) => vcpu.apicId);
    };
    expect([0x40, 0x41, 0x42, 0x43].map((vector) => winner(vector, 0xfn))).toEqual([[0], [1], [2], [3]]);
    // Six bits asked for, two of them nobody's: 0x46 = 70, 70 mod 6 = 4.
    expect(winner(0x46, 0x3fn)).toEqual([]);
    expect(winner(0x46, 0x3fn, false)).toEqual([0]);
  });

  it('without vector hashing lowest priority takes turns', () => {
    const b = bench({ vectorHashing: false });
    for (let i = 0; i < 6; i++) b.kvm.setMsr(0, 0x830, (0xen << 32n) | 0x900n | BigInt(0x40 + i));
    expect(b.kvm.vcpus.map((vcpu) => vcpu.lapic.arbitration)).toEqual([0, 2, 2, 2]);
    expect(b.kvm.vcpus[1].lapic.irr()).toEqual([0x40, 0x43]);
  });
});

describe('trace order of one unicast IPI', () => {
  const order = (era: string, vendor: 'intel' | 'amd'): string => {
    const b = bench({ era, vendor });
    b.kvm.vcpus[0].lapic.requestEvent = false;
    b.play(0);
    b.takeEvents();
    send(b, 0x1_0000_10f0n);
    return b.takeEvents().join(' ').replaceAll('kvm_', '');
  };
  it.each<[era: string, intel: string, amd: string]>([
    ['5.5', 'exit apic apic apic_ipi apic_accept_irq msr entry', 'exit apic apic apic_ipi apic_accept_irq msr entry'],
    ['5.6', 'apic apic_ipi apic_accept_irq msr exit entry', 'apic apic_ipi apic_accept_irq msr exit entry'],
    ['5.7', 'apic_ipi apic_accept_irq apic msr exit entry', 'apic_ipi apic_accept_irq apic msr exit entry'],
    ['5.8', 'exit apic_ipi apic_accept_irq apic msr entry', 'apic_ipi apic_accept_irq apic msr exit entry'],
    ['6.5', 'exit apic_ipi apic_accept_irq apic msr entry', 'apic_ipi apic_accept_irq apic msr exit entry'],
    ['6.6', 'exit apic_ipi apic_accept_irq apic msr entry', 'exit apic_ipi apic_accept_irq apic msr entry'],
    ['6.17', 'exit apic_ipi apic_accept_irq apic msr entry', 'exit apic_ipi apic_accept_irq apic msr entry'],
    ['6.18', 'exit apic_accept_irq apic_ipi apic msr entry', 'exit apic_accept_irq apic_ipi apic msr entry'],
    ['7.1', 'exit apic_accept_irq apic_ipi apic msr entry', 'exit apic_accept_irq apic_ipi apic msr entry'],
  ])('v%s', (era, intel, amd) => {
    expect([order(era, 'intel'), order(era, 'amd')]).toEqual([intel, amd]);
  });

  it('shows the values each version shows', () => {
    const apicValues = (era: string, icr: bigint): [number, bigint][] => {
      const b = bench({ era });
      send(b, icr);
      return b.exits[0].events.flatMap((event) => (event.event === 'kvm_apic' ? [[event.reg, event.value]] : []));
    };
    expect(apicValues('5.6', 0x1_0000_10f0n)).toEqual([[0x300, 0x10f0n]]);
    expect(apicValues('5.7', 0x1_0000_10f0n)).toEqual([[0x300, 0xf0n]]);
    expect(apicValues('5.18', 0x1_0000_10f0n)).toEqual([[0x300, 0x1_0000_00f0n]]);
    // Slow path.
    expect(apicValues('5.6', 0x1_0000_14f0n)).toEqual([
      [0x310, 1n],
      [0x300, 0x14f0n],
    ]);
    expect(apicValues('5.18', 0x1_0000_14f0n)).toEqual([[0x300, 0x1_0000_04f0n]]);
  });

  it('slow path: the IPI precedes its acceptance also in v6.18', () => {
    const b = bench({ era: '6.18' });
    send(b, 0x0_000c_00f0n);
    expect(b.exits[0].events.map((event) => event.event)).toEqual([
      'kvm_exit',
      'kvm_apic_ipi',
      ...Array<string>(3).fill('kvm_apic_accept_irq'),
      'kvm_apic',
      'kvm_msr',
    ]);
    expect(b.exits[0].fastpath).toEqual({ taken: false, reason: 'shorthand' });
  });

  it('a refused write is traced as a fault, and before v5.18 also as a register write', () => {
    const events = (era: string, msr: number, value: bigint): string[] => {
      const b = bench({ era });
      b.play(0, wrmsr(msr, value));
      expect(infos(b, 0).at(0)).toBe(0x80000b0d);
      return b.exits[0].events.map((event) => event.event);
    };
    expect(events('7.1', 0x830, 0x2000n)).toEqual(['kvm_exit', 'kvm_msr']);
    expect(events('7.1', 0x828, 1n)).toEqual(['kvm_exit', 'kvm_apic', 'kvm_msr']);
    expect(events('7.1', 0x808, 1n << 32n)).toEqual(['kvm_exit', 'kvm_msr']);
  });

  it('SELF_IPI goes through ICR before v5.18', () => {
    const events = (era: string): unknown[] => {
      const b = bench({ era });
      b.play(0, wrmsr(0x83f, 0x40n));
      return b.exits[0].events.slice(1, -1).map((event) => ('reg' in event ? event.reg : event.event));
    };
    expect(events('5.17')).toEqual([0x3f0, 0x300, 'kvm_apic_ipi', 'kvm_apic_accept_irq']);
    expect(events('5.18')).toEqual([0x3f0, 'kvm_apic_ipi', 'kvm_apic_accept_irq']);
  });
});

describe('what an exit record holds', () => {
  it('the registers before and after, the events between, and the verdict', () => {
    const b = bench({ era: '6.18' });
    send(b, 0x1_0000_00f0n);
    const [exit] = b.exits;
    expect(exit).toMatchObject({ vcpu: 0, name: 'msr_write', reason: 32, rip: 0xfff0n });
    expect(exit.fastpath).toEqual({ taken: true, reason: 'taken', completion: 'REENTER_GUEST' });
    expect(exit.before).toHaveLength(18);
    expect([exit.before[16], exit.after[16]]).toEqual([0xfff0n, 0xfff2n]);
    expect(exit.events[0]).toMatchObject({ event: 'kvm_exit', rip: 0xfff0n, info1: 0n });
  });

  it('no verdict where KVM has no fastpath', () => {
    const b = bench({ era: '5.5' });
    send(b, 0x1_0000_00f0n);
    expect(b.exits[0].fastpath).toBeUndefined();
  });
});

describe('counters', () => {
  const loop = (era: string, msr: number, vendor: 'intel' | 'amd' = 'intel'): number => {
    const b = bench({ era, vendor });
    b.kvm.vcpus[0].lapic.requestEvent = false;
    b.play(0, ...Array<Exit>(10).fill(wrmsr(msr, 0x1_0000_00f0n)));
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ msr_write: 10 });
    return b.kvm.vcpus[0].counters.exits;
  };

  it('a fastpath that re-enters counts as exit from v6.4 on', () => {
    expect([loop('6.3', 0x6e0), loop('6.4', 0x6e0), loop('6.3', 0x6e0, 'amd'), loop('7.1', 0x6e0)]).toEqual([
      0, 10, 10, 10,
    ]);
    expect([loop('5.6', 0x830), loop('6.3', 0x830), loop('6.12', 0x830)]).toEqual([10, 10, 10]);
  });

  it('fastpath hits are counted apart', () => {
    const b = bench({ era: '6.17' });
    send(b, 0x1_0000_00f0n);
    send(b, 0x1_0000_04f0n);
    expect(b.kvm.vcpus[0].counters).toMatchObject({ fastpath: 1, exits: 2 });
  });

  it('an IPI to oneself in the fastpath is injected at the next entry', () => {
    const b = bench({ era: '6.18' });
    send(b, 0x0_0000_0041n);
    expect(infos(b, 0)).toEqual([EXTERNAL + 0x41]);
    expect(b.kvm.vcpus[0].counters).toMatchObject({ exits: 1, fastpath: 1, req_event: 1 });
  });

  it('copies carry byReason', () => {
    const b = bench();
    b.play(0, CPUID, CPUID);
    const copy = { ...b.kvm.vcpus[0].counters };
    expect(copy.byReason).toEqual({ cpuid: 2 });
    expect(copy.exits).toBe(2);
  });

  it('are the same with and without an observer', () => {
    for (const era of ERAS) {
      const counters = [true, false].map((observed) => {
        const b = bench({ era: era.name, observed });
        b.play(1);
        send(b, 0x1_0000_00f0n);
        b.play(1, HLT, rdmsr(0x802));
        b.play(0, CPUID, wrmsr(0x80b, 0n));
        return b.kvm.vcpus.map((vcpu) => ({ ...vcpu.counters }));
      });
      expect(counters[0]).toEqual(counters[1]);
    }
  });
});

describe('single-stepping', () => {
  it.each<[what: string, exit: Exit]>([
    ['CPUID', CPUID],
    ['a fastpath WRMSR', wrmsr(0x830, 0x1_0000_00f0n)],
    ['RDMSR', rdmsr(0x802)],
  ])('raises #DB after %s', (_what, exit) => {
    const b = bench();
    b.cpu.vcpu(0).set(R_RFLAGS, 0x102, 0);
    b.cpu.vcpu(0).set(R_DR6, 0xffff0ff3, 0);
    b.play(0, exit);
    expect(infos(b, 0)).toEqual([0x80000301]);
    expect(b.cpu.vcpu(0).lo(R_DR6)).toBe(0xffff4ff0);
  });
});

describe('the other vendor’s hypercall', () => {
  const code = (b: Bench, ...bytes: number[]): void => {
    b.cpu.memory.set(bytes, 0x1000);
    b.cpu.vcpu(0).put(R_RIP, 0x1000n);
    b.cpu.vcpu(0).set(19, 0x11, 0);
  };
  const at = (b: Bench): number[] => [...b.cpu.memory.subarray(0x1000, 0x1003)];
  const VMCALL = [0x0f, 0x01, 0xc1];
  const VMMCALL = [0x0f, 0x01, 0xd9];

  it.each<[vendor: 'intel' | 'amd', foreign: number[], native: number[], names: string[]]>([
    ['intel', VMMCALL, VMCALL, ['exception_nmi', 'vmcall']],
    ['amd', VMCALL, VMMCALL, ['ud_excp', 'vmmcall']],
  ])('is patched on %s and then executed', (vendor, foreign, native, names) => {
    const b = bench({ vendor });
    code(b, ...foreign);
    setArguments(b.cpu.vcpu(0), [0xan, 6n, 0n, 0n, 0xf0n]);
    b.play(0, UD, HYPERCALL);
    expect(at(b)).toEqual(native);
    expect(b.cpu.written).toEqual([0x1000, 0x1002]);
    expect(b.cpu.vcpu(0).get(R_RAX)).toBe(2n);
    expect(b.exits.map((exit) => exit.name)).toEqual(names);
    expect(b.exits[0].before).toEqual(b.exits[0].after);
    expect(infos(b, 0)).toEqual([]);
  });

  it('raises #UD instead if the quirk is off, from v5.19 on', () => {
    const run = (era: string): [number[], number[]] => {
      const b = bench({ era, disabledQuirks: 1 << 5 });
      code(b, ...VMMCALL);
      b.play(0, UD);
      return [at(b), infos(b, 0)];
    };
    expect(run('5.19')).toEqual([VMMCALL, [0x80000306]]);
    expect(run('5.18')).toEqual([VMCALL, []]);
  });

  it('VMCALL at CPL 3 on AMD is #GP, VMMCALL at CPL 3 on Intel is patched', () => {
    const amd = bench({ vendor: 'amd' });
    code(amd, ...VMCALL);
    amd.cpu.vcpu(0).cpl = 3;
    amd.play(0, UD);
    expect([at(amd), infos(amd, 0)]).toEqual([VMCALL, [0x80000b0d]]);
    const intel = bench();
    code(intel, ...VMMCALL);
    intel.cpu.vcpu(0).cpl = 3;
    intel.play(0, UD);
    expect([at(intel), infos(intel, 0)]).toEqual([VMCALL, []]);
  });

  it('VMMCALL in real mode on Intel is #UD', () => {
    const b = bench();
    code(b, ...VMMCALL);
    b.cpu.vcpu(0).set(19, 0x10, 0);
    b.play(0, UD);
    expect([at(b), infos(b, 0)]).toEqual([VMMCALL, [0x80000306]]);
  });

  it('in a page that cannot be written is #PF with CR2', () => {
    const b = bench();
    code(b, ...VMMCALL);
    b.cpu.vcpu(0).writeFault = { vector: 14, errorCode: 3, address: 0x1000n };
    b.play(0, UD);
    expect(b.cpu.vcpu(0).injections).toEqual([{ info: 0x80000b0e, error: 3 }]);
    expect(b.cpu.vcpu(0).get(R_CR2)).toBe(0x1000n);
  });

  it.each([
    ['UD2', [0x0f, 0x0b, 0x90]],
    ['LOCK VMMCALL', [0xf0, 0x0f, 0x01, 0xd9]],
  ])('%s stays a #UD of the guest', (_what, bytes) => {
    const b = bench();
    code(b, ...bytes);
    b.play(0, UD);
    expect(infos(b, 0)).toEqual([0x80000306]);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ exception_nmi: 1 });
  });
});

describe('port I/O', () => {
  it('goes to user space and ends with completeIo', () => {
    const b = bench();
    const out: Exit = { reason: 'io', length: 1, port: 0xe9, size: 1, direction: 'out', string: false, value: 0x41 };
    expect(b.play(0, out)).toEqual({ kind: 'io', direction: 'out', port: 0xe9, size: 1, value: 0x41 });
    expect(b.exits).toHaveLength(0);
    expect(() => b.kvm.completeMmio(0, 0n)).toThrow('vCPU 0 has no mmio exit to complete');
    b.kvm.completeIo(0, 0);
    expect(b.exits.map((exit) => exit.events.map((event) => event.event))).toEqual([
      ['kvm_exit', 'kvm_pio', 'kvm_userspace_exit'],
    ]);
    const input: Exit = { ...out, direction: 'in', size: 2, value: 0 };
    b.play(0, input);
    b.kvm.completeIo(0, 0x12345);
    expect(b.cpu.vcpu(0).completed).toEqual([0, 0x12345]);
    expect(b.exits[1].events.at(-1)).toEqual({
      event: 'kvm_pio',
      vcpu: 0,
      write: false,
      port: 0xe9,
      size: 2,
      value: 0x2345,
    });
  });

  it('encodes the exit as each vendor does', () => {
    const input: Exit = { reason: 'io', length: 1, port: 0x3fd, size: 1, direction: 'in', string: false, value: 0 };
    const info = (vendor: 'intel' | 'amd'): unknown => {
      const b = bench({ vendor });
      b.play(0, input);
      return b.events.find((event) => event.event === 'kvm_exit');
    };
    expect(info('intel')).toMatchObject({ reason: 30, info1: 0x3fd0008n });
    expect(info('amd')).toMatchObject({ reason: 0x7b, info1: 0x3fd0011n });
  });
});

describe('memory-mapped I/O', () => {
  it('goes to user space outside the APIC page', () => {
    const b = bench();
    expect(b.play(0, mmio(0xfec00000, 'read'))).toEqual({
      kind: 'mmio',
      direction: 'read',
      gpa: 0xfec00000n,
      size: 4,
      value: 0n,
    });
    b.kvm.completeMmio(0, 0x11223344n);
    b.play(0);
    expect(b.cpu.vcpu(0).completed).toEqual([0x11223344]);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ ept_violation: 1 });
  });

  it('in the APIC page is answered in the kernel, at a cost of one exit each', () => {
    const b = bench({ apic: 'xapic' });
    b.play(0, mmio(0xfee00310, 'write', 0x02000000), mmio(0xfee00300, 'write', 0xf0));
    expect(b.kvm.vcpus[2].lapic.irr()).toEqual([0xf0]);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ ept_violation: 2 });
    b.play(0, mmio(0xfee00020, 'read'));
    b.play(1, mmio(0xfee00020, 'read'));
    expect(b.cpu.vcpu(0).completed).toEqual([0, 0, 0]);
    expect(b.cpu.vcpu(1).completed).toEqual([0x01000000]);
  });

  it('reads 1, 2 or 4 bytes of a register and nothing that reaches beyond', () => {
    const b = bench({ apic: 'xapic' });
    b.kvm.vcpus[0].lapic.write(0xd0, 0x80000000);
    const read = (offset: number, size: number): number => {
      b.play(0, mmio(0xfee00000 + offset, 'read', 0, size));
      return b.cpu.vcpu(0).completed.at(-1) as number;
    };
    expect([read(0x30, 4), read(0x30, 2), read(0x32, 2), read(0x32, 1)]).toEqual([0x50014, 0x14, 5, 5]);
    expect([read(0xd0, 4), read(0xd2, 4), read(0xd4, 4), read(0x40, 4), read(0x3f0, 4)]).toEqual([
      0x80000000, 0, 0, 0, 0,
    ]);
  });

  it('ignores writes that are not 4 aligned bytes, and never faults', () => {
    const b = bench({ apic: 'xapic' });
    b.play(0, mmio(0xfee00080, 'write', 0x20, 1), mmio(0xfee00084, 'write', 0x30), mmio(0xfee00030, 'write', 1));
    expect(b.kvm.vcpus[0].lapic.tpr).toBe(0);
    expect(infos(b, 0)).toEqual([]);
  });

  it('finds a hole there in x2APIC mode, or user space if the quirk is off', () => {
    const b = bench();
    b.play(0, mmio(0xfee00030, 'read'), mmio(0xfee00300, 'write', 0xf0));
    expect(b.cpu.vcpu(0).completed).toEqual([0xffffffff, 0]);
    expect(bench({ disabledQuirks: 4 }).play(0, mmio(0xfee00030, 'read'))).toMatchObject({ kind: 'mmio' });
  });

  it('follows the base address', () => {
    const b = bench({ apic: 'xapic' });
    b.kvm.setMsr(0, 0x1b, 0xfed00900n);
    b.play(0, mmio(0xfed00080, 'write', 0x20));
    expect(b.kvm.vcpus[0].lapic.tpr).toBe(0x20);
    expect(b.play(0, mmio(0xfee00080, 'write', 0x20))).toMatchObject({ kind: 'mmio' });
  });

  it('lets the instruction end before an interrupt it raised is taken', () => {
    const b = bench({ apic: 'xapic' });
    const atCompletion: number[] = [];
    b.play(0, mmio(0xfee00310, 'write', 0), mmio(0xfee00300, 'write', 0xf0), (state) =>
      atCompletion.push(state.injections.length),
    );
    expect(infos(b, 0)).toEqual([EXTERNAL + 0xf0]);
    // Entries: two exits, two completions, and only then the one that delivers.
    expect(b.cpu.entries).toEqual([0, 0, 0, 0, 0]);
    expect(atCompletion).toEqual([1]);
  });
});

describe('CR8', () => {
  const cr8 = (direction: 'read' | 'write', value = 0): Exit => ({
    reason: 'cr8',
    length: 4,
    direction,
    gpr: 3,
    valueLo: value,
    valueHi: 0,
  });

  it('is TPR[7:4] and costs no exit', () => {
    const b = bench();
    b.play(0, cr8('write', 7));
    expect(b.kvm.vcpus[0].lapic.tpr).toBe(0x70);
    b.play(0, cr8('read'));
    expect(b.cpu.vcpu(0).get(3)).toBe(7n);
    expect(b.kvm.vcpus[0].counters.exits).toBe(0);
  });

  it.each<['intel' | 'amd', string]>([
    ['intel', 'tpr_below_threshold'],
    ['amd', 'write_cr8'],
  ])('on %s exits when it may unmask what is pending', (vendor, name) => {
    const b = bench({ vendor });
    b.play(1, cr8('write', 7));
    send(b, 0x1_0000_0051n);
    b.play(1);
    expect(infos(b, 1)).toEqual([]);
    b.play(1, cr8('write', 4));
    expect(b.kvm.vcpus[1].counters.byReason[name]).toBe(1);
    expect(infos(b, 1)).toEqual([EXTERNAL + 0x51]);
    expect(b.cpu.vcpu(1).get(R_RIP)).toBe(0xfff8n);
  });

  it('above 15 is #GP', () => {
    const b = bench();
    b.play(0, cr8('write', 16));
    expect(infos(b, 0)).toEqual([0x80000b0d]);
  });
});
