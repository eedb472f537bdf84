import { describe, expect, it } from 'vitest';
import { GENERAL_REGISTERS } from '../cpu/registers.ts';
import { ERAS } from './eras.ts';
import { HYPERCALLS } from './hypercall.ts';
import {
  type Bench,
  type BenchOptions,
  bench,
  callFrom0,
  HYPERCALL,
  R_RAX,
  R_RBX,
  R_RFLAGS,
  R_RIP,
  setArguments,
} from './spec-helper.ts';

/** Two's complement in 64 bits. */
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const ALL = 0xffff_ffff_ffff_ffffn;
type Call = [rax: bigint, rbx: bigint, rcx: bigint, rdx: bigint, rsi: bigint];

/** A bench whose vCPU 0 has interrupts off, so that what it sends to itself stays in IRR. */
const quiet = (options: BenchOptions = {}): Bench => {
  const b = bench(options);
  b.cpu.vcpu(0).set(R_RFLAGS, 2, 0);
  return b;
};
const irr = (b: Bench): Record<number, number[]> =>
  Object.fromEntries(
    b.kvm.vcpus.filter(({ lapic }) => lapic.irr().length > 0).map(({ apicId, lapic }) => [apicId, lapic.irr()]),
  );

describe('KVM_HC_SEND_IPI, 64-bit caller, four x2APIC vCPUs', () => {
  const all = (vector: number): Record<number, number[]> => ({ 0: [vector], 1: [vector], 2: [vector], 3: [vector] });
  const rows: [call: Call, rax: bigint, irr: Record<number, number[]>, nmi: number[], tmr?: number[]][] = [
    [[0xan, 0xfn, 0n, 0n, 0xf0n], 4n, all(0xf0), [0, 0, 0, 0]],
    [[0xan, 6n, 0n, 0n, 0x400n], 2n, {}, [0, 1, 1, 0]],
    [[0xan, ALL, ALL, 0n, 0xf0n], 4n, all(0xf0), [0, 0, 0, 0]],
    [[0xan, 1n, 0n, 3n, 0xf0n], 1n, { 3: [0xf0] }, [0, 0, 0, 0]],
    [[0xan, 1n, 0n, 4n, 0xf0n], 0n, {}, [0, 0, 0, 0]],
    [[0xan, 1n, 0n, 0x100n, 0xf0n], 0n, {}, [0, 0, 0, 0]],
    [[0xan, 1n, 0n, 0x1_0000_0003n, 0xf0n], 1n, { 3: [0xf0] }, [0, 0, 0, 0]],
    [[0xan, 0n, 1n, 0xffff_ffc3n, 0xf0n], 1n, { 3: [0xf0] }, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0x8f0n], u64(-22n), {}, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0x400f0n], u64(-22n), {}, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0x800f0n], u64(-22n), {}, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0xc00f0n], u64(-22n), {}, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0x80f0n], 0n, {}, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0xc0f0n], 4n, all(0xf0), [0, 0, 0, 0], [0xf0]],
    [[0xan, 0xfn, 0n, 0n, 0x7f0n], 0n, {}, [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 5n], 4n, all(5), [0, 0, 0, 0]],
    [[0xan, 0xfn, 0n, 0n, 0xffff_ffff_fff3_30f0n], 4n, all(0xf0), [0, 0, 0, 0]],
    [[0xan, 7n, 0n, 0n, 0x1f0n], 3n, { 0: [0xf0], 1: [0xf0], 2: [0xf0] }, [0, 0, 0, 0]],
    [[0x1_0000_000an, 0xfn, 0n, 0n, 0xf0n], u64(-1000n), {}, [0, 0, 0, 0]],
    [[0xdn, 0xfn, 0n, 0n, 0xf0n], u64(-1000n), {}, [0, 0, 0, 0]],
    [[1n, 0xfn, 0n, 0n, 0xf0n], 0n, {}, [0, 0, 0, 0]],
    [[0xan, 0xffff_ffffn, 0n, 0xffff_ffffn, 0n], 0n, {}, [0, 0, 0, 0]],
  ];
  it.each(rows)('%o', (call, rax, sets, nmi, tmr = []) => {
    const b = quiet();
    expect(callFrom0(b, ...call)).toBe(rax);
    expect(irr(b)).toEqual(sets);
    expect(b.kvm.vcpus.map((vcpu) => vcpu.nmiPending)).toEqual(nmi);
    expect(b.kvm.vcpus[1].lapic.tmr()).toEqual(tmr);
    const { before, after } = b.exits[0];
    const changed = GENERAL_REGISTERS.filter((_, i) => before[i] !== after[i]).map((register) => register.name);
    expect(changed.filter((name) => name !== 'rax')).toEqual(['rip']);
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff3n);
    expect(b.kvm.vcpus[0].counters).toMatchObject({ hypercalls: 1, exits: 1, byReason: { vmcall: 1 } });
  });

  it('traces the call, then one accept per existing target in ascending order', () => {
    const b = quiet();
    callFrom0(b, 0xan, 0x1fn, 0n, 0n, 0xf0n);
    const inExit = b.exits[0].events;
    expect(inExit.map((event) => event.event)).toEqual([
      'kvm_exit',
      'kvm_hypercall',
      ...Array<string>(4).fill('kvm_apic_accept_irq'),
    ]);
    expect(inExit[1]).toEqual({ event: 'kvm_hypercall', vcpu: 0, nr: 0xan, a0: 0x1fn, a1: 0n, a2: 0n, a3: 0xf0n });
    expect(inExit.slice(2).map((event) => 'apicid' in event && event.apicid)).toEqual([0, 1, 2, 3]);
  });

  it('reaches ids 0 to 127 of the window', () => {
    const b = quiet({ apicIds: [0, 31, 32, 63, 64, 95, 96, 127, 128] });
    expect(callFrom0(b, 0xan, ALL, ALL, 0n, 0x40n)).toBe(8n);
    expect(Object.keys(irr(b)).map(Number)).toEqual([0, 31, 32, 63, 64, 95, 96, 127]);
    expect(callFrom0(b, 0xan, 0x8000_0001_8000_0001n, 0x8000_0001_8000_0001n, 0n, 0x41n)).toBe(8n);
    expect(callFrom0(b, 0xan, 1n << 63n, 1n, 65n, 0x42n)).toBe(1n);
    expect(irr(b)[128]).toEqual([0x42]);
  });

  it('counts software-disabled targets for NMI but not for Fixed, and globally disabled ones never', () => {
    const b = quiet();
    b.kvm.vcpus[1].lapic.write(0xf0, 0xff);
    b.kvm.setMsr(2, 0x1b, 0xfee00000n);
    expect(callFrom0(b, 0xan, 0xfn, 0n, 0n, 0xf0n)).toBe(2n);
    expect(callFrom0(b, 0xan, 0xen, 0n, 0n, 0x400n)).toBe(2n);
    expect(b.kvm.vcpus.map((vcpu) => vcpu.nmiPending)).toEqual([0, 1, 0, 1]);
  });

  it('goes by the id register in xAPIC mode', () => {
    const b = quiet({ apic: 'xapic' });
    const move = {
      reason: 'mmio',
      gpaLo: 0xfee00020,
      gpaHi: 0,
      size: 4,
      direction: 'write',
      valueLo: 9 << 24,
      valueHi: 0,
    } as const;
    b.play(1, move);
    expect(callFrom0(b, 0xan, 2n, 0n, 0n, 0xf0n)).toBe(0n);
    expect(callFrom0(b, 0xan, 1n << 9n, 0n, 0n, 0xf0n)).toBe(1n);
    expect(irr(b)).toEqual({ 1: [0xf0] });
  });
});

describe('KVM_HC_SEND_IPI by version', () => {
  it('wraps min + 64 at 2^32 from v5.6 on', () => {
    const results = ['4.19', '5.4', '5.5', '5.6-rc1', '7.1'].map((era) =>
      callFrom0(quiet({ era }), 0xan, 0n, 1n, 0xffff_ffc3n, 0xf0n),
    );
    expect(results).toEqual([0n, 0n, 0n, 1n, 1n]);
  });

  it('v5.4 still handles the high word if the low one starts in range', () => {
    const b = quiet({ era: '5.4', apicIds: [0, 100] });
    expect(callFrom0(b, 0xan, 0n, 1n << 36n, 0n, 0xf0n)).toBe(1n);
  });

  it('two vCPUs with one xAPIC id: -95 from v6.3 on, before that the first gets it', () => {
    const call = (era: string): bigint => {
      const b = quiet({ era, apic: 'xapic', apicIds: [0, 1, 256] });
      return callFrom0(b, 0xan, 3n, 0n, 0n, 0xf0n);
    };
    expect([call('6.2'), call('6.3'), call('7.1')]).toEqual([2n, u64(-95n), u64(-95n)]);
  });

  describe('v4.19-rc1', () => {
    const era = '4.19-rc1';
    it('works on ids that exist', () => {
      const b = quiet({ era });
      expect(callFrom0(b, 0xan, 0xfn, 0n, 0n, 0xf0n)).toBe(4n);
    });

    it('crashes the host on an empty slot, after what came before it was sent', () => {
      const b = quiet({ era });
      setArguments(b.cpu.vcpu(0), [0xan, 0x1fn, 0n, 0n, 0xf0n]);
      const result = b.play(0, HYPERCALL);
      expect(result).toEqual({
        kind: 'host-bug',
        bug: 'pv-ipi-empty-slot',
        detail: 'SEND_IPI to APIC id 4, which no vCPU has: NULL dereference',
      });
      expect(Object.keys(irr(b)).map(Number)).toEqual([0, 1, 2, 3]);
      expect(b.kvm.run(1, 10)).toBe(result);
    });

    it.each<[what: string, min: bigint, index: number]>([
      ['a negative index', 0xffff_ffffn, -1],
      ['an index beyond the map', 256n, 256],
      ['an int overflow', 0x7fff_ffffn, 0x7fffffff],
    ])('reads outside the array: %s', (_what, min, index) => {
      const b = quiet({ era });
      setArguments(b.cpu.vcpu(0), [0xan, 1n, 0n, min, 0n]);
      expect(b.play(0, HYPERCALL)).toEqual({
        kind: 'host-bug',
        bug: 'pv-ipi-out-of-bounds',
        detail: `SEND_IPI reads phys_map[${index}] of an APIC map for ids 0 to 255`,
      });
    });
  });

  it('answers 0 from v4.19 on to what crashed v4.19-rc1', () => {
    for (const era of ERAS.slice(1)) {
      expect(callFrom0(quiet({ era: era.name }), 0xan, 0xffff_ffffn, 0n, 0xffff_ffffn, 0n)).toBe(0n);
      expect(callFrom0(quiet({ era: era.name }), 0xan, 1n << 4n, 0n, 0n, 0xf0n)).toBe(0n);
    }
  });
});

describe('hypercall entry', () => {
  it('cuts everything of a 32-bit caller to 32 bits and zero-extends the result', () => {
    const b = quiet({ apicIds: [0, 1, 31, 32, 63, 64] });
    b.cpu.vcpu(0).is64bit = false;
    const garbage = 0xdead_beefn << 32n;
    expect(callFrom0(b, garbage | 0xan, garbage | 0xffff_ffffn, garbage | 0xffff_ffffn, garbage, garbage | 0xf0n)).toBe(
      5n,
    );
    expect(callFrom0(b, 0xan, 1n, 0n, 0n, 0x8f0n)).toBe(0xffff_ffean);
    expect(callFrom0(b, 99n, 0n, 0n, 0n, 0n)).toBe(0xffff_fc18n);
    expect(callFrom0(b, 0xan, 0n, 1n, 0xffff_ffe1n, 0xf0n)).toBe(1n);
    // The trace shows the registers as they are.
    expect(b.exits[0].events[1]).toMatchObject({ nr: garbage | 0xan, a0: garbage | 0xffff_ffffn });
  });

  it.each([1, 2, 3])('answers -1 at CPL %i, whatever the number, and still counts and traces', (cpl) => {
    const b = quiet();
    b.cpu.vcpu(0).cpl = cpl;
    expect(callFrom0(b, 0xan, 0xfn, 0n, 0n, 0xf0n)).toBe(ALL);
    expect(callFrom0(b, 99n, 0n, 0n, 0n, 0n)).toBe(ALL);
    expect(irr(b)).toEqual({});
    expect(b.kvm.vcpus[0].counters.hypercalls).toBe(2);
    expect(b.exits.map((exit) => exit.events.map((event) => event.event))).toEqual([
      ['kvm_exit', 'kvm_hypercall'],
      ['kvm_exit', 'kvm_hypercall'],
    ]);
    b.cpu.vcpu(0).is64bit = false;
    expect(callFrom0(b, 0xan, 0xfn, 0n, 0n, 0xf0n)).toBe(0xffff_ffffn);
  });

  it('clears an interrupt shadow', () => {
    const b = quiet();
    b.cpu.vcpu(0).interruptibility = 1;
    callFrom0(b, 1n, 0n, 0n, 0n, 0n);
    expect(b.cpu.vcpu(0).interruptibility).toBe(0);
  });

  it('raises #DB with DR6.BS after a call that was single-stepped', () => {
    const b = quiet();
    b.cpu.vcpu(0).set(R_RFLAGS, 0x102, 0);
    callFrom0(b, 1n, 0n, 0n, 0n, 0n);
    expect(b.cpu.vcpu(0).injections).toEqual([{ info: 0x80000301, error: 0 }]);
    expect(b.cpu.vcpu(0).lo(28) & 0x400f).toBe(0x4000);
  });

  it('is enforced by CPUID only if asked to, from v5.10 on', () => {
    const call = (era: string, enforcePvFeatures: boolean, pvFeatures: number): bigint =>
      callFrom0(quiet({ era, enforcePvFeatures, pvFeatures }), 0xan, 0xfn, 0n, 0n, 0xf0n);
    expect(call('7.1', true, 0)).toBe(u64(-1000n));
    expect(call('7.1', true, 1 << 11)).toBe(4n);
    expect(call('7.1', false, 0)).toBe(4n);
    expect(call('5.9', true, 0)).toBe(4n);
  });

  it('checks enforcement before the arguments, and never for ungated calls', () => {
    const b = quiet({ enforcePvFeatures: true, pvFeatures: 0 });
    expect(callFrom0(b, 0xan, 0xfn, 0n, 0n, 0x8f0n)).toBe(u64(-1000n));
    expect(callFrom0(b, 5n, 0n, 1n, 0n, 0n)).toBe(u64(-1000n));
    expect(callFrom0(b, 11n, 1n, 0n, 0n, 0n)).toBe(u64(-1000n));
    expect(callFrom0(b, 1n, 0n, 0n, 0n, 0n)).toBe(0n);
    expect(callFrom0(b, 9n, 0x2000n, 0n, 0n, 0n)).toBe(0n);
  });
});

describe('the table of numbers', () => {
  it('is sorted and has no number twice', () => {
    const numbers = HYPERCALLS.map((row) => row.nr);
    expect(numbers).toEqual([1, 5, 9, 10, 11, 12]);
  });

  it.each([0, 2, 3, 4, 6, 7, 8, 12, 13, 14, 15, 16, 99, 0xffffffff])('answers -1000 to %i', (nr) => {
    expect(callFrom0(quiet(), BigInt(nr), 0n, 0n, 0n, 0n)).toBe(u64(-1000n));
  });

  it('knows SCHED_YIELD from v5.3 on', () => {
    const call = (era: string): bigint => callFrom0(quiet({ era }), 11n, 1n, 0n, 0n, 0n);
    expect([call('5.2'), call('5.3')]).toEqual([u64(-1000n), 0n]);
  });
});

describe('KICK_CPU', () => {
  it('unhalts the target and yields to it', () => {
    const b = quiet();
    b.kvm.vcpus[1].mpState = 'halted';
    setArguments(b.cpu.vcpu(0), [5n, 0n, 1n, 0n, 0n]);
    expect(b.play(0, HYPERCALL)).toEqual({ kind: 'yield' });
    expect(b.cpu.vcpu(0).get(R_RAX)).toBe(0n);
    expect(b.kvm.vcpus[1]).toMatchObject({ pvUnhalted: true, mpState: 'halted' });
    expect(b.kvm.isRunnable(1)).toBe(true);
    b.play(1);
    expect(b.kvm.vcpus[1]).toMatchObject({ pvUnhalted: false, mpState: 'runnable' });
  });

  it('is a broadcast for id 0xFF unless the quirk is off', () => {
    const unhalted = (x2apicApi: number): boolean[] => {
      const b = quiet({ x2apicApi });
      for (const vcpu of b.kvm.vcpus.slice(1)) vcpu.mpState = 'halted';
      expect(callFrom0(b, 5n, 0n, 0xffn, 0n, 0n)).toBe(0n);
      return b.kvm.vcpus.map((vcpu) => vcpu.pvUnhalted);
    };
    expect(unhalted(0)).toEqual([true, true, true, true]);
    expect(unhalted(2)).toEqual([false, false, false, false]);
  });

  it('answers 0 for an id nobody has', () => {
    expect(callFrom0(quiet(), 5n, 0n, 77n, 0n, 0n)).toBe(0n);
  });
});

describe('SCHED_YIELD', () => {
  it.each<[what: string, id: bigint, kind: string, successful: number]>([
    ['a runnable vCPU', 1n, 'yield', 1],
    ['itself', 0n, 'budget', 0],
    ['nobody', 77n, 'budget', 0],
    ['a halted vCPU', 2n, 'budget', 0],
  ])('to %s', (_what, id, kind, successful) => {
    const b = quiet();
    b.kvm.vcpus[2].mpState = 'halted';
    setArguments(b.cpu.vcpu(0), [11n, id, 0n, 0n, 0n]);
    expect(b.play(0, HYPERCALL).kind).toBe(kind);
    expect(b.cpu.vcpu(0).get(R_RAX)).toBe(0n);
    expect(b.kvm.vcpus[0].counters).toMatchObject({
      directed_yield_attempted: 1,
      directed_yield_successful: successful,
    });
  });
});

describe('CLOCK_PAIRING', () => {
  it('writes seconds, nanoseconds, TSC and zeros', () => {
    const b = quiet();
    b.cpu.vcpu(0).put(39, 3_000_000_007n);
    b.cpu.memory.fill(0xff, 0x2000, 0x2040);
    expect(callFrom0(b, 9n, 0x2000n, 0n, 0n, 0n)).toBe(0n);
    const record = new DataView(b.cpu.memory.buffer, 0x2000, 64);
    const tsc = record.getBigUint64(16, true);
    expect(tsc).toBe(3_000_000_008n);
    // 2020-01-01T00:00:00Z and one step.
    expect(record.getBigInt64(0, true)).toBe(1_577_836_800n);
    expect(record.getBigInt64(8, true)).toBe(1n);
    expect([...b.cpu.memory.subarray(0x2018, 0x2040)]).toEqual(Array<number>(40).fill(0));
    expect(b.cpu.written).toEqual([0x2000]);
  });

  it('answers -95 to another clock and -14 to an address without memory', () => {
    expect(callFrom0(quiet(), 9n, 0x2000n, 1n, 0n, 0n)).toBe(u64(-95n));
    expect(callFrom0(quiet(), 9n, 0xffffn, 0n, 0n, 0n)).toBe(u64(-14n));
    expect(callFrom0(quiet(), 9n, 1n << 40n, 0n, 0n, 0n)).toBe(u64(-14n));
    expect(callFrom0(quiet(), 9n, 0x2000n, 1n << 32n, 0n, 0n)).toBe(u64(-95n));
  });

  it('writes what fits before an address without memory', () => {
    const b = quiet();
    b.cpu.memory.fill(0xff, 0xffe0);
    expect(callFrom0(b, 9n, 0xffe0n, 0n, 0n, 0n)).toBe(u64(-14n));
    expect(new DataView(b.cpu.memory.buffer, 0xffe0).getBigInt64(0, true)).toBe(1_577_836_800n);
  });

  it('cuts the arguments of a 32-bit caller', () => {
    const b = quiet();
    b.cpu.vcpu(0).is64bit = false;
    expect(callFrom0(b, 9n, 0x1_0000_2000n, 1n << 32n, 0n, 0n)).toBe(0n);
    expect(new DataView(b.cpu.memory.buffer, 0x2000).getBigInt64(0, true)).toBe(1_577_836_800n);
  });
});

describe('MAP_GPA_RANGE', () => {
  const exitHypercalls = 1 << 12;
  it('leaves for user space and returns what user space answers', () => {
    const b = quiet({ exitHypercalls });
    setArguments(b.cpu.vcpu(0), [12n, 0x5000n, 3n, 0x10n, 0n]);
    expect(b.play(0, HYPERCALL)).toEqual({ kind: 'hypercall', nr: 12n, args: [0x5000n, 3n, 0x10n], longmode: true });
    expect(() => b.kvm.run(0, 1)).toThrow('vCPU 0 waits for the result of its last exit');
    b.kvm.completeHypercall(0, u64(-22n));
    expect(b.cpu.vcpu(0).get(R_RAX)).toBe(u64(-22n));
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff3n);
    expect(b.exits).toHaveLength(1);
    expect(b.kvm.vcpus[0].counters.hypercalls).toBe(1);
  });

  it.each<[era: string, second: bigint]>([
    ['6.12', 0x77n],
    ['6.14', 0n],
  ])('v%s: user space that leaves the result alone answers with %i after 0x77', (era, second) => {
    const b = quiet({ exitHypercalls, era });
    const answers = [0x77n, undefined].map((ret) => {
      setArguments(b.cpu.vcpu(0), [12n, 0x5000n, 1n, 0x10n, 0n]);
      b.play(0, HYPERCALL);
      b.kvm.completeHypercall(0, ret);
      return b.cpu.vcpu(0).get(R_RAX);
    });
    expect(answers).toEqual([0x77n, second]);
  });

  it('counts on completion before v6.14', () => {
    const b = quiet({ exitHypercalls, era: '6.12' });
    setArguments(b.cpu.vcpu(0), [12n, 0x5000n, 3n, 0x10n, 0n]);
    b.play(0, HYPERCALL);
    expect(b.kvm.vcpus[0].counters.hypercalls).toBe(0);
    b.kvm.completeHypercall(0, 0n);
    expect(b.kvm.vcpus[0].counters.hypercalls).toBe(1);
  });

  it.each<[what: string, call: Call, rax: bigint]>([
    ['an unaligned address', [12n, 0x5001n, 1n, 0n, 0n], u64(-22n)],
    ['no pages', [12n, 0x5000n, 0n, 0n, 0n], u64(-22n)],
    ['a range that wraps', [12n, 0x5000n, ALL, 0n, 0n], u64(-22n)],
  ])('answers -22 to %s', (_what, call, rax) => {
    expect(callFrom0(quiet({ exitHypercalls }), ...call)).toBe(rax);
  });

  it('v6.9 to v6.13 return 0 to a 32-bit caller with garbage in RAX[63:32], without leaving', () => {
    const call = (era: string): string => {
      const b = quiet({ exitHypercalls, era });
      b.cpu.vcpu(0).is64bit = false;
      setArguments(b.cpu.vcpu(0), [0x1_0000_000cn, 0x5000n, 1n, 0n, 0n]);
      return b.play(0, HYPERCALL).kind;
    };
    expect(['6.8', '6.9', '6.12', '6.13', '6.14'].map(call)).toEqual([
      'hypercall',
      'budget',
      'budget',
      'budget',
      'hypercall',
    ]);
  });

  it('is -1000 without opt-in and before v5.14', () => {
    expect(callFrom0(quiet(), 12n, 0x5000n, 1n, 0n, 0n)).toBe(u64(-1000n));
    expect(callFrom0(quiet({ exitHypercalls, era: '5.12' }), 12n, 0x5000n, 1n, 0n, 0n)).toBe(u64(-1000n));
  });
});

describe('the statistic', () => {
  it('is raised before the call from v6.14 on: a call that crashes the host shows it', () => {
    const b = quiet({ era: '6.14', exitHypercalls: 1 << 12 });
    setArguments(b.cpu.vcpu(0), [12n, 0x5000n, 1n, 0n, 0n]);
    b.play(0, HYPERCALL);
    expect(b.kvm.vcpus[0].counters.hypercalls).toBe(1);
    expect(b.cpu.vcpu(0).get(R_RBX)).toBe(0x5000n);
  });
});
