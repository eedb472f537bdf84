/**
 * What KVM keeps for the paravirtual interfaces of a guest: per vCPU (the MSRs that point into guest memory and what
 * came of them) and per VM. The interfaces themselves: pv-msr.ts, pvclock.ts, steal-time.ts, pv-eoi.ts, async-pf.ts.
 */
import type { Cpu } from '../cpu/cpu.ts';
import type { VirtualClock } from './clock.ts';
import type { Era } from './eras.ts';
import type { Observation } from './observation.ts';
import type { KvmVcpu } from './vcpu.ts';

// What is to be done before the next entry (vcpu->requests).
export const REQ_MASTERCLOCK_UPDATE = 1 << 0;
export const REQ_CLOCK_UPDATE = 1 << 1;
export const REQ_APF_READY = 1 << 2;
export const REQ_STEAL_UPDATE = 1 << 3;

/** Bit 0 of most PV MSRs. */
export const PV_ENABLED = 1n;

/** Of one vCPU. An address is an offset in RAM, -1 while the interface is off. */
export class PvState {
  /** REQ_* bits. */
  requests = 0;

  // ---- kvmclock ----
  /** KVM_SYSTEM_TIME(_NEW) as written. */
  systemTime = 0n;
  timeAddress = -1;
  /** KVM_KVMCLOCK_CTRL: the next record says that the guest was paused. */
  guestStopped = false;

  // ---- steal time ----
  stealTime = 0n;
  stealAddress = -1;
  /** The preempted byte was set and has not been taken back. */
  preempted = false;
  /** The thread is on a host CPU with everything loaded (kvm_arch_vcpu_load). */
  loaded = false;
  /** sched_info.run_delay: ns this thread was runnable and did not run. */
  runDelay = 0;
  /** runDelay that the guest has been told of. */
  lastSteal = 0;
  /** When the thread began to wait for a host CPU, -1 if it does not. */
  readySince = -1;

  // ---- PV EOI ----
  pvEoi = 0n;
  eoiAddress = -1;
  /** apic_attention: the byte was armed before the last entry. */
  eoiPending = false;

  // ---- async page faults ----
  asyncPf = 0n;
  asyncPfVector = 0;
  apfAddress = -1;
  /** A ready event waits for the guest's acknowledgement. */
  pageReadyPending = false;
  /** Pages that are there: tokens of events still to be delivered. */
  readonly pagesReady: number[] = [];
  /** Tokens whose "not present" the guest has been told. */
  readonly pagesMissing: Set<number> = new Set();

  // ---- others ----
  /** KVM_POLL_CONTROL: the host may poll when the guest executes HLT. In virtual time that changes nothing. */
  pollControl = 1n;
  migrationControl = 0n;

  /** RESET and INIT (kvm_vcpu_reset, kvm_lapic_reset). Run delay and poll control stay. */
  reset(): void {
    this.systemTime = 0n;
    this.timeAddress = -1;
    this.stealTime = 0n;
    this.stealAddress = -1;
    this.preempted = false;
    this.pvEoi = 0n;
    this.eoiAddress = -1;
    this.eoiPending = false;
    this.asyncPf = 0n;
    this.asyncPfVector = 0;
    this.apfAddress = -1;
    this.pageReadyPending = false;
    this.pagesReady.length = 0;
    this.pagesMissing.clear();
    this.requests = 0;
  }

  /** Becomes what another one is. */
  assign(from: PvState): void {
    this.requests = from.requests;
    this.systemTime = from.systemTime;
    this.timeAddress = from.timeAddress;
    this.guestStopped = from.guestStopped;
    this.stealTime = from.stealTime;
    this.stealAddress = from.stealAddress;
    this.preempted = from.preempted;
    this.loaded = from.loaded;
    this.runDelay = from.runDelay;
    this.lastSteal = from.lastSteal;
    this.readySince = from.readySince;
    this.pvEoi = from.pvEoi;
    this.eoiAddress = from.eoiAddress;
    this.eoiPending = from.eoiPending;
    this.asyncPf = from.asyncPf;
    this.asyncPfVector = from.asyncPfVector;
    this.apfAddress = from.apfAddress;
    this.pageReadyPending = from.pageReadyPending;
    this.pollControl = from.pollControl;
    this.migrationControl = from.migrationControl;
    if (this.pagesReady.length + from.pagesReady.length > 0) {
      this.pagesReady.splice(0, this.pagesReady.length, ...from.pagesReady);
    }
    if (this.pagesMissing.size + from.pagesMissing.size > 0) {
      this.pagesMissing.clear();
      for (const token of from.pagesMissing) this.pagesMissing.add(token);
    }
  }
}

/** Of the whole VM. */
export interface PvVm {
  /** KVM_WALL_CLOCK(_NEW) as last written by any vCPU. */
  wallClock: bigint;
  /** Unix time in ns when virtual time was 0. */
  readonly wallClockBase: bigint;
  /** The bootstrap processor uses the MSRs of the first kvmclock ABI: no master clock then. */
  oldKvmclock: boolean;
  /** Virtual time in ns of the master clock's snapshot. */
  masterNs: number;
}

/** What the PV interfaces may ask of the VM. */
export interface PvContext {
  readonly era: Era;
  readonly cpu: Cpu;
  readonly clock: VirtualClock;
  readonly vcpus: readonly KvmVcpu[];
  readonly pvVm: PvVm;
  /** PV features the guest may use: all bits set unless enforcement is on. */
  readonly allowedPvFeatures: number;
  /** CPUID 0x40000001 EAX. */
  readonly pvFeatures: number;
  /** Null: nobody listens. */
  readonly trace: Observation | null;
  /** Makes the next entry raise an exception in the guest; `error` -1: none is pushed. */
  queueException(vcpu: KvmVcpu, vector: number, error?: number): void;
  /** An interrupt of KVM itself: Fixed, edge, to this vCPU. */
  setIrq(vcpu: KvmVcpu, vector: number): void;
}

/** guest_pv_has. */
export const pvAllowed = (kvm: PvContext, feature: number): boolean => ((kvm.allowedPvFeatures >>> feature) & 1) === 1;
