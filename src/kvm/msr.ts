/**
 * The MSRs KVM answers, as one table: a row says what a read gives and which writes are refused. An MSR without a row
 * raises #GP. The x2APIC range (0x800 …) is not here but in x86.ts: its registers are the LAPIC's and its writes send
 * messages. FS/GS bases, SYSCALL, SYSENTER and TSC_AUX are handled by the CPU without an exit; their rows serve
 * KVM_GET/SET_MSRS.
 *
 * Stored only, without the effect they have in KVM: MTRRs, PAT, MISC_ENABLE. The paravirtual MSRs are in pv-msr.ts.
 */
import * as R from '../cpu/core/layout.ts';
import type { Vendor } from '../cpu/cpu.ts';
import { MAXLINADDR, MAXPHYADDR } from '../cpu/cpu.ts';
import { MSR_TSC_DEADLINE } from './fastpath.ts';
import { APIC_BASE_EN, APIC_BASE_EXTD } from './lapic.ts';
import { PV_MSRS } from './pv-msr.ts';
import { type PvContext, REQ_CLOCK_UPDATE } from './pv-state.ts';
import type { KvmVcpu } from './vcpu.ts';

/** What a row may ask of the VM. */
export interface MsrContext extends PvContext {
  readonly vendor: Vendor;
  /** Stores a checked IA32_APIC_BASE. */
  setApicBase(vcpu: KvmVcpu, value: bigint): void;
}

export interface MsrRow {
  readonly msr: number;
  /** Linux name without MSR_. */
  readonly name: string;
  /** The value, or null for #GP. `host`: KVM_GET_MSRS. */
  readonly read: (vcpu: KvmVcpu, kvm: MsrContext, host: boolean) => bigint | null;
  /** False for #GP. `host`: KVM_SET_MSRS. */
  readonly write: (vcpu: KvmVcpu, value: bigint, kvm: MsrContext, host: boolean) => boolean;
}

const MSR_TSC_ADJUST = 0x3b;
const MASK64 = (1n << 64n) - 1n;
const MASK32 = (1n << 32n) - 1n;
const CR0_PG = 1 << 31;
const EFER_SCE = 1n << 0n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const EFER_NX = 1n << 11n;
const EFER_WRITABLE = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;

/** Canonical for the widest linear address that the processor knows. */
export const isCanonical = (address: bigint): boolean =>
  BigInt.asUintN(64, BigInt.asIntN(MAXLINADDR, address)) === address;

/** Refuses every write of the guest; the host may store a value. */
const readOnly = (msr: number, name: string, value: (vcpu: KvmVcpu, kvm: MsrContext) => bigint): MsrRow => ({
  msr,
  name,
  read: (vcpu, kvm) => vcpu.msrs.get(msr) ?? value(vcpu, kvm),
  write: (vcpu, next, _kvm, host) => {
    if (host) vcpu.storeMsr(msr, next);
    return host;
  },
});

/** Keeps what is written if `valid` says so. */
const stored = (msr: number, name: string, reset = 0n, valid: (value: bigint) => boolean = () => true): MsrRow => ({
  msr,
  name,
  read: (vcpu) => vcpu.msrs.get(msr) ?? reset,
  write: (vcpu, value) => {
    if (!valid(value)) return false;
    vcpu.storeMsr(msr, value);
    return true;
  },
});

/** Reads 0 and ignores writes. */
const ignored = (msr: number, name: string): MsrRow => ({ msr, name, read: () => 0n, write: () => true });

/** An MSR that the CPU keeps in a register of its own. */
const inCpu = (
  msr: number,
  name: string,
  register: number,
  valid: (value: bigint) => boolean = () => true,
): MsrRow => ({
  msr,
  name,
  read: (vcpu) => vcpu.state.get(register),
  write: (vcpu, value) => {
    if (!valid(value)) return false;
    vcpu.state.put(register, value);
    return true;
  },
});

/** MTRR and PAT memory types: 0, 1, 4, 5, 6, and for PAT also 7 (SDM vol. 3, table 12-10). */
const validTypes = (value: bigint, allowUncachedMinus: boolean): boolean => {
  for (let shift = 0n; shift < 64n; shift += 8n) {
    const type = Number((value >> shift) & 0xffn);
    if (type > 7 || type === 2 || type === 3 || (type === 7 && !allowUncachedMinus)) return false;
  }
  return true;
};

const apicBase: MsrRow = {
  msr: 0x1b,
  name: 'IA32_APICBASE',
  read: (vcpu) => vcpu.lapic.apicBase,
  write: (vcpu, value, kvm, host) => {
    const reserved = 0x2ffn | (MASK64 << BigInt(MAXPHYADDR));
    if ((value & reserved) !== 0n) return false;
    const enabled = (Number(value & 0xfffn) & APIC_BASE_EN) !== 0;
    const x2apic = (Number(value & 0xfffn) & APIC_BASE_EXTD) !== 0;
    if (x2apic && (!enabled || !vcpu.showsX2apic)) return false;
    if (!host) {
      // x2APIC is entered from xAPIC only and left for disabled only (SDM vol. 3, figure 11-27).
      const { lapic } = vcpu;
      if (x2apic && !lapic.hwEnabled) return false;
      if (!x2apic && enabled && lapic.x2apic) return false;
    }
    kvm.setApicBase(vcpu, value);
    return true;
  },
};

const tsc: MsrRow = {
  msr: 0x10,
  name: 'IA32_TSC',
  read: (vcpu) => vcpu.tsc,
  write: (vcpu, value, _kvm, host) => {
    const moved = value - vcpu.tsc;
    vcpu.tsc = value;
    if (!host) vcpu.storeMsr(MSR_TSC_ADJUST, BigInt.asUintN(64, (vcpu.msrs.get(MSR_TSC_ADJUST) ?? 0n) + moved));
    return true;
  },
};

/** What the guest has moved its TSC by; a write moves it on. */
const tscAdjust: MsrRow = {
  msr: MSR_TSC_ADJUST,
  name: 'IA32_TSC_ADJUST',
  read: (vcpu) => vcpu.msrs.get(MSR_TSC_ADJUST) ?? 0n,
  write: (vcpu, value, _kvm, host) => {
    if (!host) {
      vcpu.tsc += value - (vcpu.msrs.get(MSR_TSC_ADJUST) ?? 0n);
      vcpu.pv.requests |= REQ_CLOCK_UPDATE;
    }
    vcpu.storeMsr(MSR_TSC_ADJUST, value);
    return true;
  },
};

const efer: MsrRow = {
  msr: 0xc0000080,
  name: 'EFER',
  read: (vcpu) => vcpu.state.get(R.R_EFER),
  write: (vcpu, value, _kvm, host) => {
    const { state } = vcpu;
    const old = state.get(R.R_EFER);
    if ((value & ~EFER_WRITABLE & MASK64) !== 0n) return false;
    const paging = (state.lo(R.R_CR0) & CR0_PG) !== 0;
    if (!host && paging && ((value ^ old) & EFER_LME) !== 0n) return false;
    state.put(R.R_EFER, (value & ~EFER_LMA) | (old & EFER_LMA));
    return true;
  },
};

const tscDeadline: MsrRow = {
  msr: MSR_TSC_DEADLINE,
  name: 'IA32_TSC_DEADLINE',
  read: ({ lapic }) => lapic.timer.readDeadline(lapic.hwEnabled),
  write: (vcpu, value) => {
    const { lapic } = vcpu;
    lapic.timer.writeDeadline(value, vcpu.tsc, lapic.hwEnabled);
    return true;
  },
};

const microcode: MsrRow = {
  msr: 0x8b,
  name: 'IA32_UCODE_REV',
  read: (vcpu, kvm) => vcpu.msrs.get(0x8b) ?? (kvm.vendor === 'intel' ? 0x100000000n : 0x01000065n),
  write: (vcpu, value, _kvm, host) => {
    if (host) vcpu.storeMsr(0x8b, value);
    return true;
  },
};

const mtrrVariable = Array.from({ length: 16 }, (_, i) =>
  stored(0x200 + i, `MTRR${i & 1 ? 'physMask' : 'physBase'}${i >> 1}`),
);
const mtrrFixed = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f].map((msr) =>
  stored(msr, `MTRRfix_${msr.toString(16)}`, 0n, (value) => validTypes(value, false)),
);

export const MSRS: readonly MsrRow[] = [
  readOnly(0x0, 'IA32_P5_MC_ADDR', () => 0n),
  readOnly(0x1, 'IA32_P5_MC_TYPE', () => 0n),
  tsc,
  readOnly(0x17, 'IA32_PLATFORM_ID', () => 0n),
  apicBase,
  ignored(0x2a, 'IA32_EBL_CR_POWERON'),
  tscAdjust,
  ignored(0x79, 'IA32_UCODE_WRITE'),
  microcode,
  readOnly(0xfe, 'MTRRcap', () => 0x508n),
  // Without a virtual PMU its counters take everything and count nothing (kvm_set_msr_common).
  ...[0, 1].flatMap((n) => [ignored(0xc1 + n, `P6_PERFCTR${n}`), ignored(0x186 + n, `P6_EVNTSEL${n}`)]),
  inCpu(0x174, 'IA32_SYSENTER_CS', R.R_SYSENTER_CS),
  inCpu(0x175, 'IA32_SYSENTER_ESP', R.R_SYSENTER_ESP, isCanonical),
  inCpu(0x176, 'IA32_SYSENTER_EIP', R.R_SYSENTER_EIP, isCanonical),
  readOnly(0x179, 'IA32_MCG_CAP', () => 0n),
  stored(0x17a, 'IA32_MCG_STATUS', 0n, (value) => value === 0n),
  // BTS and PEBS unavailable.
  stored(0x1a0, 'IA32_MISC_ENABLE', 0x1800n),
  stored(0x1d9, 'IA32_DEBUGCTLMSR', 0n, (value) => value === 0n),
  ...mtrrVariable,
  ...mtrrFixed,
  stored(0x277, 'IA32_CR_PAT', 0x0007040600070406n, (value) => validTypes(value, true)),
  stored(0x2ff, 'MTRRdefType', 0n, (value) => (value & ~0xcffn) === 0n && validTypes(value & 0xffn, false)),
  tscDeadline,
  // No supervisor state component exists.
  stored(0xda0, 'IA32_XSS', 0n, (value) => value === 0n),
  ...PV_MSRS,
  efer,
  inCpu(0xc0000081, 'STAR', R.R_STAR),
  inCpu(0xc0000082, 'LSTAR', R.R_LSTAR, isCanonical),
  inCpu(0xc0000083, 'CSTAR', R.R_CSTAR, isCanonical),
  inCpu(0xc0000084, 'SYSCALL_MASK', R.R_FMASK),
  inCpu(0xc0000100, 'FS_BASE', R.R_BASE + R.SEG_FS, isCanonical),
  inCpu(0xc0000101, 'GS_BASE', R.R_BASE + R.SEG_GS, isCanonical),
  inCpu(0xc0000102, 'KERNEL_GS_BASE', R.R_KERNEL_GS_BASE, isCanonical),
  inCpu(0xc0000103, 'TSC_AUX', R.R_TSC_AUX, (value) => value <= MASK32),
  ...[0, 1, 2, 3].flatMap((n) => [
    ignored(0xc0010000 + n, `K7_EVNTSEL${n}`),
    ignored(0xc0010004 + n, `K7_PERFCTR${n}`),
  ]),
  ignored(0xc0010010, 'AMD64_SYSCFG'),
  ignored(0xc0010015, 'K7_HWCR'),
  ignored(0xc0010055, 'K8_INT_PENDING_MSG'),
];

const BY_NUMBER: ReadonlyMap<number, MsrRow> = new Map(MSRS.map((row) => [row.msr, row]));

/** The row of an MSR number, or undefined: #GP. */
export const msrRow = (msr: number): MsrRow | undefined => BY_NUMBER.get(msr);
