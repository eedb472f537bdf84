import { describe, expect, it } from 'vitest';
import { MSRS, msrRow } from './msr.ts';
import { bench, R_RAX, R_RDX, R_RIP, rdmsr, wrmsr } from './spec-helper.ts';

const GP = { info: 0x80000b0d, error: 0 };

describe('the table', () => {
  it('has no MSR twice', () => {
    expect(new Set(MSRS.map((row) => row.msr)).size).toBe(MSRS.length);
    expect(msrRow(0xc0000080)?.name).toBe('EFER');
    expect(msrRow(0x12345678)).toBeUndefined();
  });
});

describe('IA32_APIC_BASE', () => {
  const DISABLED = 0xfee00000n;
  const XAPIC = 0xfee00800n;
  const X2APIC = 0xfee00c00n;
  it.each<[from: bigint, to: bigint, ok: boolean]>([
    [DISABLED, DISABLED, true],
    [DISABLED, XAPIC, true],
    [DISABLED, X2APIC, false],
    [XAPIC, DISABLED, true],
    [XAPIC, XAPIC, true],
    [XAPIC, X2APIC, true],
    [X2APIC, DISABLED, true],
    [X2APIC, XAPIC, false],
    [X2APIC, X2APIC, true],
  ])('from %x to %x: %s', (from, to, ok) => {
    const { kvm } = bench({ apic: 'reset' });
    kvm.setMsr(1, 0x1b, from);
    expect(kvm.setMsr(1, 0x1b, to, false)).toBe(ok);
    expect(kvm.getMsr(1, 0x1b)).toBe(ok ? to : from);
    // The host may go anywhere.
    expect(kvm.setMsr(1, 0x1b, to)).toBe(true);
  });

  it.each([1n, 0x80n, 0x200n, 1n << 40n, 1n << 63n])('refuses reserved bit %x', (bit) => {
    const { kvm } = bench();
    expect(kvm.setMsr(1, 0x1b, 0xfee00c00n | bit, false)).toBe(false);
    expect(kvm.setMsr(1, 0x1b, 0xfee00c00n | bit)).toBe(false);
  });

  it('refuses EXTD without EN', () => {
    expect(bench().kvm.setMsr(1, 0x1b, 0xfee00400n, false)).toBe(false);
  });

  it('lets the guest write the BSP bit and move the page', () => {
    const { kvm } = bench({ apic: 'xapic' });
    expect(kvm.setMsr(1, 0x1b, 0xab_cdef_0900n, false)).toBe(true);
    expect(kvm.vcpus[1].lapic.apicBase).toBe(0xab_cdef_0900n);
  });

  it('changes the APIC map', () => {
    const { kvm } = bench();
    expect(kvm.apicMap()?.phys[1]).not.toBeNull();
    kvm.setMsr(1, 0x1b, DISABLED);
    expect(kvm.apicMap()?.phys[1]).toBeNull();
  });
});

describe('EFER', () => {
  const LMA = 0x400n;
  it('keeps LMA as it is', () => {
    const { kvm } = bench();
    expect(kvm.setMsr(0, 0xc0000080, 0x901n | LMA, false)).toBe(true);
    expect(kvm.getMsr(0, 0xc0000080)).toBe(0x901n);
    kvm.vcpus[0].state.put(23, 0x500n);
    expect(kvm.setMsr(0, 0xc0000080, 0x901n, false)).toBe(true);
    expect(kvm.getMsr(0, 0xc0000080)).toBe(0x901n | LMA);
  });

  it('refuses reserved bits, and LME changes with paging on', () => {
    const { kvm } = bench();
    expect(kvm.setMsr(0, 0xc0000080, 0x1000n, false)).toBe(false);
    expect(kvm.setMsr(0, 0xc0000080, 1n << 40n, false)).toBe(false);
    kvm.vcpus[0].state.put(19, 0x80000011n);
    expect(kvm.setMsr(0, 0xc0000080, 0x100n, false)).toBe(false);
    expect(kvm.setMsr(0, 0xc0000080, 0x800n, false)).toBe(true);
  });
});

describe('time', () => {
  it('IA32_TSC counts time from what was written', () => {
    const { kvm } = bench();
    kvm.setMsr(0, 0x10, 1000n, false);
    kvm.advanceTime(5);
    expect(kvm.getMsr(0, 0x10)).toBe(1005n);
    kvm.setMsr(0, 0x10, 0n, false);
    expect(kvm.getMsr(0, 0x10)).toBe(0n);
  });

  it('IA32_TSC of every vCPU advances with the steps of any', () => {
    const b = bench({ vcpus: 2 });
    b.kvm.setMsr(1, 0x10, 1000n, false);
    b.play(0, (state) => {
      state.steps += 41;
    });
    expect([b.kvm.getMsr(0, 0x10), b.kvm.getMsr(1, 0x10)]).toEqual([42n, 1042n]);
  });

  it('IA32_TSC_DEADLINE outside TSC-deadline mode ignores writes and reads 0', () => {
    const { kvm } = bench();
    expect(kvm.setMsr(0, 0x6e0, 12345n, false)).toBe(true);
    expect(kvm.getMsr(0, 0x6e0)).toBe(0n);
  });
});

describe('IA32_TSC_ADJUST', () => {
  it('a write of the guest moves the TSC by the difference to what it held', () => {
    const { kvm } = bench();
    const before = kvm.vcpus[0].tsc;
    kvm.setMsr(0, 0x3b, 1000n, false);
    kvm.setMsr(0, 0x3b, 400n, false);
    expect([kvm.vcpus[0].tsc - before, kvm.getMsr(0, 0x3b)]).toEqual([400n, 400n]);
  });
  it('follows a write of the TSC by the guest, but not one by the host', () => {
    const { kvm } = bench();
    const before = kvm.vcpus[0].tsc;
    kvm.setMsr(0, 0x10, before + 77n, false);
    expect(kvm.getMsr(0, 0x3b)).toBe(77n);
    kvm.setMsr(0, 0x10, before, true);
    expect(kvm.getMsr(0, 0x3b)).toBe(77n);
  });
  it('the host stores it without an effect', () => {
    const { kvm } = bench();
    const before = kvm.vcpus[0].tsc;
    kvm.setMsr(0, 0x3b, 5000n, true);
    expect([kvm.vcpus[0].tsc, kvm.getMsr(0, 0x3b)]).toEqual([before, 5000n]);
  });
});

describe('stored MSRs', () => {
  it.each<[name: string, msr: number, good: bigint, bad: bigint]>([
    ['PAT', 0x277, 0x0007_0406_0007_0406n, 2n],
    ['MTRRdefType', 0x2ff, 0xc06n, 0x100n],
    ['MTRRfix64K_00000', 0x250, 0x0606_0606_0606_0606n, 7n],
    ['KVM_STEAL_TIME', 0x4b564d03, 0x1001n, 0x1003n],
    ['KVM_ASYNC_PF_EN', 0x4b564d02, 0x104fn, 0x1010n],
    ['KVM_PV_EOI_EN', 0x4b564d04, 0x1005n, 0x1003n],
    ['KVM_POLL_CONTROL', 0x4b564d05, 0n, 2n],
    ['KVM_ASYNC_PF_INT', 0x4b564d06, 0xecn, 0x100n],
    ['FS_BASE', 0xc0000100, 0xffff_8000_0000_0000n, 0x8000_0000_0000_0000n],
    ['LSTAR', 0xc0000082, 0xff_ffff_ffff_ffffn, 0x0100_0000_0000_0000n],
    ['TSC_AUX', 0xc0000103, 0xffff_ffffn, 1n << 32n],
    ['MCG_STATUS', 0x17a, 0n, 1n],
  ])('%s keeps a valid value and refuses another', (_name, msr, good, bad) => {
    const { kvm } = bench();
    expect(kvm.setMsr(0, msr, good, false)).toBe(true);
    expect(kvm.getMsr(0, msr)).toBe(good);
    expect(kvm.setMsr(0, msr, bad, false)).toBe(false);
    expect(kvm.getMsr(0, msr)).toBe(good);
  });

  it.each<[name: string, msr: number, value: bigint]>([
    ['MTRRcap', 0xfe, 0x508n],
    ['MCG_CAP', 0x179, 0n],
    ['PLATFORM_ID', 0x17, 0n],
  ])('%s is read-only to the guest', (_name, msr, value) => {
    const { kvm } = bench();
    expect(kvm.getMsr(0, msr, false)).toBe(value);
    expect(kvm.setMsr(0, msr, 1n, false)).toBe(false);
    expect(kvm.setMsr(0, msr, 1n)).toBe(true);
    expect(kvm.getMsr(0, msr)).toBe(1n);
  });

  it('shows each vendor’s microcode revision and ignores the guest’s writes', () => {
    const { kvm } = bench();
    expect(kvm.setMsr(0, 0x8b, 7n, false)).toBe(true);
    expect(kvm.getMsr(0, 0x8b)).toBe(0x1_0000_0000n);
    expect(bench({ vendor: 'amd' }).kvm.getMsr(0, 0x8b)).toBe(0x01000065n);
  });

  it('refuses PV MSRs that CPUID hides while enforcement is on', () => {
    const { kvm } = bench({ enforcePvFeatures: true, pvFeatures: 1 << 5 });
    expect(kvm.setMsr(0, 0x4b564d03, 0x1001n, false)).toBe(true);
    expect(kvm.setMsr(0, 0x4b564d04, 0x1001n, false)).toBe(false);
    expect(kvm.getMsr(0, 0x4b564d04, false)).toBeUndefined();
    expect(kvm.getMsr(0, 0x4b564d04)).toBe(0n);
  });
});

describe('RDMSR and WRMSR exits', () => {
  it('split the value into EDX:EAX and clear the upper halves', () => {
    const b = bench();
    const cpu = b.cpu.vcpu(0);
    b.kvm.setMsr(0, 0x200, 0x1234_5678_9abc_def0n);
    cpu.put(R_RAX, 0xffff_ffff_ffff_ffffn);
    b.play(0, rdmsr(0x200));
    expect([cpu.get(R_RAX), cpu.get(R_RDX), cpu.get(R_RIP)]).toEqual([0x9abc_def0n, 0x1234_5678n, 0xfff2n]);
    const msr = { event: 'kvm_msr', vcpu: 0, write: false, msr: 0x200, data: 0x1234_5678_9abc_def0n, fault: false };
    expect(b.exits[0].events[1]).toEqual(msr);
  });

  it.each([
    ['read', rdmsr(0x12345)],
    ['write', wrmsr(0x12345, 7n)],
  ] as const)('an unknown MSR raises #GP(0) on %s and changes no register', (_what, exit) => {
    const b = bench();
    const cpu = b.cpu.vcpu(0);
    b.play(0, exit);
    expect(cpu.injections).toEqual([GP]);
    expect(b.exits[0].before).toEqual(b.exits[0].after);
    expect(b.exits[0].events.at(-1)).toMatchObject({ event: 'kvm_msr', msr: 0x12345, fault: true });
  });
});

describe('x2APIC MSRs', () => {
  it('raise #GP outside x2APIC mode', () => {
    const { kvm } = bench({ apic: 'xapic' });
    for (const msr of [0x802, 0x808, 0x830]) {
      expect(kvm.getMsr(0, msr)).toBeUndefined();
      expect(kvm.setMsr(0, msr, 0n)).toBe(false);
    }
  });

  it('refuse bits 63:32 from v6.3 on, except in ICR', () => {
    const write = (era: string, msr: number): boolean => bench({ era }).kvm.setMsr(0, msr, 1n << 32n, false);
    expect([write('6.2', 0x80b), write('6.3', 0x80b), write('6.3', 0x830)]).toEqual([true, false, true]);
  });

  it('refuse reserved SELF_IPI bits from v6.3 on', () => {
    const write = (era: string): number[] => {
      const { kvm } = bench({ era });
      kvm.setMsr(1, 0x83f, 0x140n, false);
      return kvm.vcpus[1].lapic.irr();
    };
    expect([write('6.2'), write('6.3')]).toEqual([[0x40], []]);
  });

  it('refuse reserved ICR bits from v6.12 on and keep the old ICR', () => {
    for (const bit of [13, 16, 17, ...Array.from({ length: 12 }, (_, i) => 20 + i)]) {
      const { kvm } = bench({ era: '6.12' });
      kvm.setMsr(0, 0x830, 0x1_0000_0040n, false);
      expect(kvm.setMsr(0, 0x830, 0x2_0000_0041n | (1n << BigInt(bit)), false), `bit ${bit}`).toBe(false);
      expect(kvm.getMsr(0, 0x830)).toBe(0x1_0000_0040n);
      expect(kvm.vcpus[2].lapic.irr()).toEqual([]);
      expect(bench({ era: '6.11' }).kvm.setMsr(0, 0x830, 1n << BigInt(bit), false)).toBe(true);
    }
  });

  it('read ICR back with busy clear, in every version', () => {
    for (const era of ['4.19', '5.18', '6.12', '7.1']) {
      const { kvm } = bench({ era });
      kvm.setMsr(0, 0x830, 0xdead_beef_0000_10f0n, false);
      expect(kvm.getMsr(0, 0x830)).toBe(0xdead_beef_0000_00f0n);
    }
  });

  it('APR reads 0 before v5.4', () => {
    expect(bench({ era: '5.0' }).kvm.getMsr(0, 0x809)).toBe(0n);
    expect(bench({ era: '5.4' }).kvm.getMsr(0, 0x809)).toBeUndefined();
  });
});
