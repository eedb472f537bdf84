/**
 * kvmclock: the time of the VM for its guest (Documentation/virt/kvm/x86/msr.rst, pvclock-abi.h; kvm_guest_time_update,
 * kvm_write_wall_clock, kvm_pv_clock_pairing).
 *
 * The host's TSC is the VM's virtual clock, its frequency and the guests' is TSC_KHZ. While the master clock is in use
 * every record holds the same snapshot of it, so that all vCPUs compute the same time; without it (the bootstrap
 * processor uses the old MSRs) a record holds the time of its update. Records are written before an entry that follows
 * an MSR write; KVM's delayed update of all vCPUs (100 ms later) would tell them nothing new and is left out.
 */
import { TSC_KHZ } from './clock.ts';
import { ramAddress, readGuest32, writeGuest, writeGuest32, writeGuest64 } from './guest-memory.ts';
import { PV_ENABLED, type PvContext, REQ_CLOCK_UPDATE, REQ_MASTERCLOCK_UPDATE } from './pv-state.ts';
import type { KvmVcpu } from './vcpu.ts';

/** 2020-01-01T00:00:00Z: the default Unix time in seconds at which a VM's virtual time starts. */
export const DEFAULT_WALL_CLOCK = 1_577_836_800;
export const NANOSECONDS = 1_000_000_000n;

// struct pvclock_vcpu_time_info, 32 bytes.
const TIME_BYTES = 32;
const TIME_VERSION = 0;
const TIME_TSC_TIMESTAMP = 8;
const TIME_SYSTEM_TIME = 16;
const TIME_MUL = 24;
const TIME_SHIFT = 28;
const TIME_FLAGS = 29;
export const PVCLOCK_TSC_STABLE = 1 << 0;
export const PVCLOCK_GUEST_STOPPED = 1 << 1;

/** Nanoseconds on the kvmclock of this VM. */
export const kvmClockNs = (kvm: PvContext): number => kvm.clock.now;

/**
 * Multiplier and shift by which a guest turns cycles of a TSC of `khz` into nanoseconds (kvm_get_time_scale):
 * ns = (shift >= 0 ? cycles << shift : cycles >> -shift) * mul >> 32.
 */
export function timeScale(khz: number): { readonly mul: number; readonly shift: number } {
  let scaled = NANOSECONDS;
  let base = BigInt(khz) * 1000n;
  let shift = 0;
  while (base > scaled * 2n || base >> 32n !== 0n) {
    base >>= 1n;
    shift--;
  }
  while (base <= scaled || scaled >> 32n !== 0n) {
    if (scaled >> 32n !== 0n || (base & 0x80000000n) !== 0n) scaled >>= 1n;
    else base <<= 1n;
    shift++;
  }
  return { mul: Number((scaled << 32n) / base), shift };
}

const SCALE = timeScale(TSC_KHZ);

/** Write of KVM_SYSTEM_TIME (`old`) or KVM_SYSTEM_TIME_NEW. An address outside memory leaves the clock off. */
export function writeSystemTime(kvm: PvContext, vcpu: KvmVcpu, value: bigint, old: boolean, host: boolean): void {
  const { pv } = vcpu;
  if (vcpu.bsp && !host) {
    if (kvm.pvVm.oldKvmclock !== old) pv.requests |= REQ_MASTERCLOCK_UPDATE;
    kvm.pvVm.oldKvmclock = old;
  }
  pv.systemTime = value;
  pv.requests |= REQ_CLOCK_UPDATE;
  pv.timeAddress = (value & PV_ENABLED) === 0n ? -1 : ramAddress(kvm.cpu, value & ~PV_ENABLED, TIME_BYTES);
}

/** A new snapshot of the master clock, and every vCPU's record is to be written. */
export function updateMasterClock(kvm: PvContext): void {
  kvm.pvVm.masterNs = kvmClockNs(kvm);
  for (const { pv } of kvm.vcpus) pv.requests |= REQ_CLOCK_UPDATE;
}

/** Writes the vCPU's record: the version is odd while it is in the making. */
export function updateSystemTime(kvm: PvContext, vcpu: KvmVcpu): void {
  const { pv } = vcpu;
  const at = pv.timeAddress;
  if (at < 0) return;
  const { cpu } = kvm;
  const now = kvmClockNs(kvm);
  const master = !kvm.pvVm.oldKvmclock;
  const time = master ? kvm.pvVm.masterNs : now;
  const tscTimestamp = BigInt.asUintN(64, vcpu.tsc - BigInt(now - time));
  const systemTime = BigInt(time);

  // Some other guest may have left an odd version.
  const found = readGuest32(cpu, at + TIME_VERSION);
  const version = ((found & 1) === 0 ? found + 1 : found + 2) >>> 0;
  let flags = cpu.memory[at + TIME_FLAGS] & PVCLOCK_GUEST_STOPPED;
  if (pv.guestStopped) flags |= PVCLOCK_GUEST_STOPPED;
  pv.guestStopped = false;
  if (master) flags |= PVCLOCK_TSC_STABLE;

  writeGuest32(cpu, at + TIME_VERSION, version);
  kvm.trace?.emit({
    event: 'kvm_pvclock_update',
    vcpu: vcpu.index,
    vcpuId: vcpu.apicId,
    version,
    tscTimestamp,
    systemTime,
    mul: SCALE.mul,
    shift: SCALE.shift,
    flags,
  });
  writeGuest32(cpu, at + 4, 0);
  writeGuest64(cpu, at + TIME_TSC_TIMESTAMP, tscTimestamp);
  writeGuest64(cpu, at + TIME_SYSTEM_TIME, systemTime);
  writeGuest32(cpu, at + TIME_MUL, SCALE.mul);
  writeGuest32(cpu, at + TIME_SHIFT, (SCALE.shift & 0xff) | (flags << 8));
  writeGuest32(cpu, at + TIME_VERSION, (version + 1) >>> 0);
}

/**
 * Write of KVM_WALL_CLOCK(_NEW): {u32 version, u32 seconds, u32 nanoseconds} at `address`, the wall-clock time when
 * kvmclock was 0. Written once; an address of 0 or outside memory is ignored.
 */
export function writeWallClock(kvm: PvContext, address: bigint): void {
  kvm.pvVm.wallClock = address;
  const at = address === 0n ? -1 : ramAddress(kvm.cpu, address, 12);
  if (at < 0) return;
  const { cpu } = kvm;
  const found = readGuest32(cpu, at);
  const version = ((found & 1) === 0 ? found + 1 : found + 2) >>> 0;
  const { wallClockBase } = kvm.pvVm;
  writeGuest32(cpu, at, version);
  writeGuest32(cpu, at + 4, Number(BigInt.asUintN(32, wallClockBase / NANOSECONDS)));
  writeGuest32(cpu, at + 8, Number(wallClockBase % NANOSECONDS));
  writeGuest32(cpu, at, (version + 1) >>> 0);
}

/** What KVM_HC_CLOCK_PAIRING writes: {s64 sec, s64 nsec, u64 guest TSC, u32 flags = 0, 36 zero bytes}. */
export function writeClockPairing(kvm: PvContext, vcpu: KvmVcpu, gpa: bigint): boolean {
  const bytes = new Uint8Array(64);
  const record = new DataView(bytes.buffer);
  const time = kvm.pvVm.wallClockBase + BigInt(kvmClockNs(kvm));
  record.setBigInt64(0, time / NANOSECONDS, true);
  record.setBigInt64(8, time % NANOSECONDS, true);
  record.setBigUint64(16, vcpu.tsc, true);
  return writeGuest(kvm.cpu, gpa, bytes);
}
