/**
 * The MSRs of KVM's paravirtual interfaces, as rows of the MSR table (Documentation/virt/kvm/x86/msr.rst). With
 * KVM_CAP_ENFORCE_PV_FEATURE_CPUID an MSR whose bit in CPUID 0x40000001 EAX is clear raises #GP on read and write; the
 * host may always access it.
 */
import { writeAsyncPf, writeAsyncPfAck, writeAsyncPfVector } from './async-pf.ts';
import {
  PV_ASYNC_PF,
  PV_ASYNC_PF_INT,
  PV_CLOCKSOURCE,
  PV_CLOCKSOURCE2,
  PV_EOI,
  PV_MIGRATION_CONTROL,
  PV_POLL_CONTROL,
  PV_STEAL_TIME,
} from './cpuid.ts';
import type { Era } from './eras.ts';
import type { MsrRow } from './msr.ts';
import { writePvEoi } from './pv-eoi.ts';
import { type PvContext, pvAllowed } from './pv-state.ts';
import { writeSystemTime, writeWallClock } from './pvclock.ts';
import { writeStealTime } from './steal-time.ts';
import type { KvmVcpu } from './vcpu.ts';

interface PvRow {
  readonly msr: number;
  readonly name: string;
  /** CPUID 0x40000001 EAX bit. */
  readonly feature: number;
  /** Whether this version has the MSR. Default: every version. */
  readonly exists?: (kvm: PvContext & { readonly era: Era }) => boolean;
  readonly read: (vcpu: KvmVcpu, kvm: PvContext) => bigint;
  /** False: #GP. */
  readonly write: (kvm: PvContext, vcpu: KvmVcpu, value: bigint, host: boolean) => boolean;
}

const row = ({ msr, name, feature, exists = () => true, read, write }: PvRow): MsrRow => ({
  msr,
  name,
  read: (vcpu, kvm, host) => (exists(kvm) && (host || pvAllowed(kvm, feature)) ? read(vcpu, kvm) : null),
  write: (vcpu, value, kvm, host) => exists(kvm) && (host || pvAllowed(kvm, feature)) && write(kvm, vcpu, value, host),
});

const wallClock = (msr: number, name: string, feature: number): MsrRow =>
  row({
    msr,
    name,
    feature,
    // One for the whole VM.
    read: (_vcpu, kvm) => kvm.pvVm.wallClock,
    write: (kvm, _vcpu, value) => {
      writeWallClock(kvm, value);
      return true;
    },
  });

const systemTime = (msr: number, name: string, feature: number, old: boolean): MsrRow =>
  row({
    msr,
    name,
    feature,
    read: ({ pv }) => pv.systemTime,
    write: (kvm, vcpu, value, host) => {
      writeSystemTime(kvm, vcpu, value, old, host);
      return true;
    },
  });

export const PV_MSRS: readonly MsrRow[] = [
  // The first kvmclock ABI: the same interfaces at numbers of other owners.
  wallClock(0x11, 'KVM_WALL_CLOCK', PV_CLOCKSOURCE),
  systemTime(0x12, 'KVM_SYSTEM_TIME', PV_CLOCKSOURCE, true),
  wallClock(0x4b564d00, 'KVM_WALL_CLOCK_NEW', PV_CLOCKSOURCE2),
  systemTime(0x4b564d01, 'KVM_SYSTEM_TIME_NEW', PV_CLOCKSOURCE2, false),
  row({
    msr: 0x4b564d02,
    name: 'KVM_ASYNC_PF_EN',
    feature: PV_ASYNC_PF,
    read: ({ pv }) => pv.asyncPf,
    write: writeAsyncPf,
  }),
  row({
    msr: 0x4b564d03,
    name: 'KVM_STEAL_TIME',
    feature: PV_STEAL_TIME,
    read: ({ pv }) => pv.stealTime,
    write: writeStealTime,
  }),
  row({
    msr: 0x4b564d04,
    name: 'KVM_PV_EOI_EN',
    feature: PV_EOI,
    read: ({ pv }) => pv.pvEoi,
    write: writePvEoi,
  }),
  row({
    msr: 0x4b564d05,
    name: 'KVM_POLL_CONTROL',
    feature: PV_POLL_CONTROL,
    exists: ({ era }) => era.pvPollControl,
    read: ({ pv }) => pv.pollControl,
    write: (_kvm, { pv }, value) => {
      if (value > 1n) return false;
      pv.pollControl = value;
      return true;
    },
  }),
  row({
    msr: 0x4b564d06,
    name: 'KVM_ASYNC_PF_INT',
    feature: PV_ASYNC_PF_INT,
    exists: ({ era }) => era.pvAsyncPfInt,
    read: ({ pv }) => BigInt(pv.asyncPfVector),
    write: (_kvm, vcpu, value) => writeAsyncPfVector(vcpu, value),
  }),
  row({
    msr: 0x4b564d07,
    name: 'KVM_ASYNC_PF_ACK',
    feature: PV_ASYNC_PF_INT,
    exists: ({ era }) => era.pvAsyncPfInt,
    read: () => 0n,
    write: (kvm, vcpu, value) => {
      writeAsyncPfAck(kvm, vcpu, value);
      return true;
    },
  }),
  // Not KVM's: a VMM that shows the feature bit answers this MSR itself, through an MSR filter.
  row({
    msr: 0x4b564d08,
    name: 'KVM_MIGRATION_CONTROL',
    feature: PV_MIGRATION_CONTROL,
    exists: ({ era, pvFeatures }) => era.mapGpaRange && ((pvFeatures >>> PV_MIGRATION_CONTROL) & 1) === 1,
    read: ({ pv }) => pv.migrationControl,
    write: (_kvm, { pv }, value) => {
      if (value > 1n) return false;
      pv.migrationControl = value;
      return true;
    },
  }),
];
