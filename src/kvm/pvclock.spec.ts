import { describe, expect, it } from 'vitest';
import { TSC_KHZ } from './clock.ts';
import { timeScale } from './pvclock.ts';
import { type Bench, bench, wrmsr } from './spec-helper.ts';

const OLD = 0x12;
const NEW = 0x4b564d01;
const AT = 0x2000;

/** The 32-byte record at `address`. */
function record(b: Bench, address = AT): Record<string, number | bigint> {
  const view = new DataView(b.cpu.memory.buffer, address, 32);
  return {
    version: view.getUint32(0, true),
    pad: view.getUint32(4, true),
    tscTimestamp: view.getBigUint64(8, true),
    systemTime: view.getBigUint64(16, true),
    mul: view.getUint32(24, true),
    shift: view.getInt8(28),
    flags: view.getUint8(29),
    pad2: view.getUint16(30, true),
  };
}

describe('timeScale', () => {
  it.each<[khz: number, mul: number, shift: number]>([
    [1_000_000, 0x80000000, 1],
    [2_500_000, 0xcccccccc, -1],
    [2_000_000, 0x80000000, 0],
    [500_000, 0x80000000, 2],
  ])('%i kHz', (khz, mul, shift) => {
    expect(timeScale(khz)).toEqual({ mul, shift });
  });
});

describe('KVM_SYSTEM_TIME', () => {
  it('gets its record before the next entry, after the write has been traced', () => {
    const b = bench({ vcpus: 1 });
    b.play(0, wrmsr(NEW, BigInt(AT | 1)));
    expect(b.takeEvents()).toEqual(['kvm_entry', 'kvm_exit', 'kvm_msr', 'kvm_pvclock_update', 'kvm_entry']);
    expect(record(b)).toEqual({
      version: 2,
      pad: 0,
      tscTimestamp: 0n,
      systemTime: 0n,
      ...timeScale(TSC_KHZ),
      flags: 1,
      pad2: 0,
    });
  });

  it('repairs an odd version and counts on from an even one', () => {
    const versions = [0, 1, 6, 7, 0xffffffff].map((found) => {
      const b = bench({ vcpus: 1 });
      new DataView(b.cpu.memory.buffer).setUint32(AT, found, true);
      b.play(0, wrmsr(NEW, BigInt(AT | 1)));
      return record(b).version;
    });
    expect(versions).toEqual([2, 4, 8, 10, 2]);
  });

  it('gives all vCPUs the same snapshot, also later', () => {
    const b = bench({ vcpus: 2 });
    b.play(0, wrmsr(NEW, BigInt(AT | 1)));
    b.play(0);
    b.play(1, wrmsr(NEW, BigInt(0x3000 | 1)));
    expect(record(b, 0x3000)).toEqual(record(b));
  });

  it('without the master clock holds the time of its update', () => {
    const b = bench({ vcpus: 1 });
    b.kvm.advanceTime(5000);
    b.kvm.setMsr(0, 0x10, 100_000n);
    b.play(0, wrmsr(OLD, BigInt(AT | 1)));
    expect(record(b)).toMatchObject({ tscTimestamp: 100_001n, systemTime: 5001n, flags: 0 });
    // Back to the new MSR: a new snapshot.
    b.kvm.advanceTime(1000);
    b.play(0, wrmsr(NEW, BigInt(AT | 1)));
    expect(record(b)).toMatchObject({ tscTimestamp: 101_003n, systemTime: 6003n, flags: 1 });
  });

  it('keeps the master clock when only another processor uses the old MSR', () => {
    const b = bench({ vcpus: 2 });
    b.play(1, wrmsr(OLD, BigInt(AT | 1)));
    expect(record(b).flags).toBe(1);
  });

  it.each<[what: string, value: bigint]>([
    ['disabled', BigInt(AT)],
    ['outside memory', 0x10_0000_0001n],
    ['partly outside memory', 0xfff1n],
  ])('%s: accepted, nothing is written', (_what, value) => {
    const b = bench({ vcpus: 1 });
    b.play(0, wrmsr(NEW, value));
    expect(b.cpu.written).toEqual([]);
    expect(b.kvm.getMsr(0, NEW)).toBe(value);
    expect(b.kvm.kvmclockCtrl(0)).toBe(false);
  });

  it('tells once that the guest was paused, and leaves the flag to the guest', () => {
    const b = bench({ vcpus: 1 });
    b.play(0, wrmsr(NEW, BigInt(AT | 1)));
    expect(b.kvm.kvmclockCtrl(0)).toBe(true);
    b.kvm.setMsr(0, NEW, BigInt(AT | 1));
    b.play(0, wrmsr(0x8b, 0n));
    expect(record(b).flags).toBe(3);
    b.kvm.setMsr(0, NEW, BigInt(AT | 1));
    b.play(0, wrmsr(0x8b, 0n));
    expect(record(b).flags).toBe(3);
    b.cpu.memory[AT + 29] = 0;
    b.kvm.setMsr(0, NEW, BigInt(AT | 1));
    b.play(0, wrmsr(0x8b, 0n));
    expect(record(b).flags).toBe(1);
  });
});

describe('KVM_WALL_CLOCK', () => {
  const wall = (b: Bench): number[] => {
    const view = new DataView(b.cpu.memory.buffer, AT, 12);
    return [0, 4, 8].map((offset) => view.getUint32(offset, true));
  };

  it('writes the date of time 0, once per write, whenever it is', () => {
    const b = bench({ vcpus: 1 });
    b.kvm.advanceTime(3_000_000_000);
    b.play(0, wrmsr(0x4b564d00, BigInt(AT)));
    expect(wall(b)).toEqual([2, 1_577_836_800, 0]);
    b.play(0, wrmsr(0x11, BigInt(AT)));
    expect(wall(b)).toEqual([4, 1_577_836_800, 0]);
  });

  it('repairs an odd version', () => {
    const b = bench({ vcpus: 1, wallClock: 7 });
    b.cpu.memory[AT] = 5;
    b.play(0, wrmsr(0x4b564d00, BigInt(AT)));
    expect(wall(b)).toEqual([8, 7, 0]);
  });

  it.each([0n, 0xfff8n, 1n << 40n])('ignores address %x', (address) => {
    const b = bench({ vcpus: 1 });
    b.play(0, wrmsr(0x4b564d00, address));
    expect(b.cpu.written).toEqual([]);
    expect(b.kvm.getMsr(0, 0x11)).toBe(address);
  });
});
