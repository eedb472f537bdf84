/**
 * KVM hypercalls (Documentation/virt/kvm/x86/hypercalls.rst; kvm_emulate_hypercall): one table of numbers, one function
 * each. Number in RAX, arguments in RBX, RCX, RDX, RSI, result in RAX. A number without a row, or a row this version
 * does not have yet, is -KVM_ENOSYS. Handlers work on 32-bit halves: the send-IPI call is on the hot path.
 */
import * as layout from '../cpu/core/layout.ts';
import type { CpuState } from '../cpu/cpu.ts';
import type { ApicMap } from './apic-map.ts';
import { PV_SCHED_YIELD, PV_SEND_IPI, PV_UNHALT } from './cpuid.ts';
import { decision, reach } from './decisions.ts';
import type { Era } from './eras.ts';
import * as icrLayout from './icr.ts';
import type { Lapic } from './lapic.ts';
import type { PvContext } from './pv-state.ts';
import { writeClockPairing } from './pvclock.ts';
import type { KvmVcpu } from './vcpu.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const { R_RBX, R_RCX, R_RDX, R_RSI } = layout;
const { ICR_LOGICAL, ICR_SHORTHAND, MODE_REMOTE_READ } = icrLayout;
/** What RSI must not ask for. */
const ICR_DESTINATION = ICR_LOGICAL | ICR_SHORTHAND;

export const KVM_EPERM = 1;
export const KVM_E2BIG = 7;
export const KVM_EFAULT = 14;
export const KVM_EINVAL = 22;
export const KVM_EOPNOTSUPP = 95;
export const KVM_ENOSYS = 1000;

/** A handler's answer that is not a result: the call leaves for user space. Outside the range of results. */
export const EXIT_TO_USER = 0x40000000;
/** A handler's answer that is not a result: the host kernel of this era would have crashed. */
export const HOST_BUG = 0x40000001;

/** What a hypercall may ask of the VM. */
export interface HypercallContext extends PvContext {
  /** KVM_CAP_EXIT_HYPERCALL: bit n set = hypercall n goes to user space. */
  readonly exitHypercalls: number;
  /** The current APIC map, null if this VM has none. */
  apicMap(): ApicMap | null;
  /** Delivers a message (an ICR low word) to one APIC, with trace event and kick. Returns 1 if it was accepted. */
  deliver(target: Lapic, message: number): number;
  /** Routes a message that no APIC sent. */
  deliverWithoutSource(mode: number, dest: number): void;
  /** Lets the vCPU with this APIC id run next. */
  yieldTo(from: KvmVcpu, apicId: number): void;
  /** Records that the host would have crashed. */
  reportHostBug(bug: string, cve: string | undefined, detail: string): void;
}

// Decision points, for fuzzing.
const AT_SEND_IPI_INVALID = decision('send-ipi-invalid');
const AT_SEND_IPI_NO_MAP = decision('send-ipi-no-map');
const AT_SEND_IPI_BASE_WRAPS = decision('send-ipi-base-wraps');
const AT_SEND_IPI_BEYOND_MAP = decision('send-ipi-beyond-map');
const AT_SEND_IPI_EMPTY_SLOT = decision('send-ipi-empty-slot');
const AT_SEND_IPI_TARGET = decision('send-ipi-target');
const AT_SEND_IPI_UNCHECKED = decision('send-ipi-unchecked');
const AT_KICK_CPU = decision('kick-cpu');
const AT_CLOCK_PAIRING_WRITTEN = decision('clock-pairing-written');
const AT_CLOCK_PAIRING_REFUSED = decision('clock-pairing-refused');
const AT_MAP_GPA_RANGE_OFF = decision('map-gpa-range-off');
const AT_MAP_GPA_RANGE_INVALID = decision('map-gpa-range-invalid');

/** Runs one call; `long` = 64-bit caller. Returns the signed result, EXIT_TO_USER or HOST_BUG. */
export type HypercallHandler = (kvm: HypercallContext, vcpu: KvmVcpu, long: boolean) => number;

export interface HypercallRow {
  readonly nr: number;
  readonly name: string;
  /** CPUID 0x40000001 EAX bit that must be set when enforcement is on; -1: none. */
  readonly feature: number;
  /** Whether this version knows the number. */
  readonly since: (era: Era) => boolean;
  readonly call: HypercallHandler;
}

const always = () => true;

/**
 * Sorted by number. 2 MMU_OP, 3 FEATURES, 4 PPC_MAP_MAGIC_PAGE and 6-8 MIPS_* have no row: x86 KVM answers -KVM_ENOSYS.
 */
export const HYPERCALLS: readonly HypercallRow[] = [
  { nr: 1, name: 'VAPIC_POLL_IRQ', feature: -1, since: always, call: () => 0 },
  { nr: 5, name: 'KICK_CPU', feature: PV_UNHALT, since: always, call: kickCpu },
  { nr: 9, name: 'CLOCK_PAIRING', feature: -1, since: always, call: clockPairing },
  { nr: 10, name: 'SEND_IPI', feature: PV_SEND_IPI, since: always, call: sendIpi },
  { nr: 11, name: 'SCHED_YIELD', feature: PV_SCHED_YIELD, since: (era) => era.schedYield, call: schedYield },
  { nr: 12, name: 'MAP_GPA_RANGE', feature: -1, since: (era) => era.mapGpaRange, call: mapGpaRange },
];

/** Calls that this version knows and that the PV features (CPUID 0x40000001 EAX) in `allowed` do not forbid, by number. */
export function hypercallTable(era: Era, allowed: number): readonly (HypercallRow | undefined)[] {
  const table = new Array<HypercallRow | undefined>(16).fill(undefined);
  for (const row of HYPERCALLS) {
    if (row.since(era) && (row.feature < 0 || ((allowed >>> row.feature) & 1) === 1)) table[row.nr] = row;
  }
  return table;
}

// ---- SEND_IPI ----

/**
 * KVM_HC_SEND_IPI (kvm_pv_send_ipi): RBX, RCX bitmaps, RDX lowest APIC id, RSI an ICR low word. Returns how many
 * accepted.
 */
function sendIpi(kvm: HypercallContext, vcpu: KvmVcpu, long: boolean): number {
  const { state } = vcpu;
  const icr = state.lo(R_RSI) | 0;
  if ((icr & ICR_DESTINATION) !== 0) {
    reach(AT_SEND_IPI_INVALID);
    return -KVM_EINVAL;
  }
  const map = kvm.apicMap();
  if (map === null) return sendIpiWithoutMap(kvm);
  if (kvm.era.pvIpiBoundCheck !== true) return sendIpiUnchecked(kvm, vcpu, map, long, icr);
  const min = state.lo(R_RDX);
  const count = sendBits(kvm, map, state.lo(R_RBX) | 0, min, icr);
  const others = (long ? state.hi(R_RBX) | state.hi(R_RCX) : 0) | state.lo(R_RCX);
  return others === 0 ? count : count + sendOthers(kvm, state, map, min, long, icr);
}

/** What few guests are large enough for: bits 63:32 of the first bitmap, and the second one. */
function sendOthers(
  kvm: HypercallContext,
  state: CpuState,
  map: ApicMap,
  min: number,
  long: boolean,
  icr: number,
): number {
  const count = long ? sendHigh(kvm, map, state.hi(R_RBX) | 0, min, icr) : 0;
  const lo = state.lo(R_RCX) | 0;
  const hi = long ? state.hi(R_RCX) | 0 : 0;
  if ((lo | hi) === 0 || (!kvm.era.pvIpiHighHalfAlways && min > map.maxApicId)) return count;
  const second = (min + (long ? 64 : 32)) >>> 0;
  if (second < min) reach(AT_SEND_IPI_BASE_WRAPS);
  return count + sendBits(kvm, map, lo, second, icr) + sendHigh(kvm, map, hi, second, icr);
}

/** Bits 63:32 of a bitmap, as a signed number. They never wrap: ids beyond the map are dropped. */
function sendHigh(kvm: HypercallContext, map: ApicMap, bits: number, base: number, icr: number): number {
  return bits === 0 || base > map.maxApicId ? 0 : sendBits(kvm, map, bits, base + 32, icr);
}

function sendIpiWithoutMap(kvm: HypercallContext): number {
  reach(AT_SEND_IPI_NO_MAP);
  if (kvm.era.pvIpiMapCheck) return -KVM_EOPNOTSUPP;
  kvm.reportHostBug(
    'pv-ipi-no-map',
    'CVE-2018-19406',
    'SEND_IPI without an APIC map: NULL dereference in kvm_pv_send_ipi',
  );
  return HOST_BUG;
}

/** Bit i stands for APIC id `base + i`. */
function sendBits(kvm: HypercallContext, map: ApicMap, bits: number, base: number, icr: number): number {
  const { phys, maxApicId } = map;
  let left = bits;
  let count = 0;
  while (left !== 0) {
    const id = base + 31 - Math.clz32(left & -left);
    if (id > maxApicId) {
      reach(AT_SEND_IPI_BEYOND_MAP);
      break;
    }
    left &= left - 1;
    const target = phys[id];
    if (target === null) {
      reach(AT_SEND_IPI_EMPTY_SLOT);
      continue;
    }
    reach(AT_SEND_IPI_TARGET);
    count += kvm.deliver(target, icr);
  }
  return count;
}

/**
 * SEND_IPI as first merged: `min` is signed, no bound and no test for an empty slot. Stops at the first id the host
 * would trip over.
 */
function sendIpiUnchecked(kvm: HypercallContext, vcpu: KvmVcpu, map: ApicMap, long: boolean, icr: number): number {
  reach(AT_SEND_IPI_UNCHECKED);
  const { state } = vcpu;
  const min = state.lo(R_RDX) | 0;
  const words = long
    ? [state.lo(R_RBX), state.hi(R_RBX), state.lo(R_RCX), state.hi(R_RCX)]
    : [state.lo(R_RBX), state.lo(R_RCX)];
  let count = 0;
  for (const [word, bits] of words.entries()) {
    for (let bit = 0; bit < 32; bit++) {
      if (((bits >>> bit) & 1) === 0) continue;
      // `min` is an int: the sum wraps at 2^31.
      const id = (min + word * 32 + bit) | 0;
      const target = id >= 0 && id <= map.maxApicId ? map.phys[id] : undefined;
      if (target === undefined) {
        const detail = `SEND_IPI reads phys_map[${id}] of an APIC map for ids 0 to ${map.maxApicId}`;
        kvm.reportHostBug('pv-ipi-out-of-bounds', undefined, detail);
        return HOST_BUG;
      }
      if (target === null) {
        kvm.reportHostBug(
          'pv-ipi-empty-slot',
          undefined,
          `SEND_IPI to APIC id ${id}, which no vCPU has: NULL dereference`,
        );
        return HOST_BUG;
      }
      count += sendBits(kvm, map, 1, id, icr);
    }
  }
  return count;
}

// ---- the other calls ----

/** KVM_HC_KICK_CPU: RCX = APIC id. A remote-read message without source, so that 0xFF is a broadcast. */
function kickCpu(kvm: HypercallContext, vcpu: KvmVcpu): number {
  reach(AT_KICK_CPU);
  const apicId = vcpu.state.lo(R_RCX) >>> 0;
  kvm.deliverWithoutSource(MODE_REMOTE_READ, apicId);
  if (kvm.era.kickYields) kvm.yieldTo(vcpu, apicId);
  return 0;
}

/** KVM_HC_SCHED_YIELD: RBX = APIC id. */
function schedYield(kvm: HypercallContext, vcpu: KvmVcpu): number {
  kvm.yieldTo(vcpu, vcpu.state.lo(R_RBX) >>> 0);
  return 0;
}

/**
 * KVM_HC_CLOCK_PAIRING: RBX = guest-physical address of a 64-byte record, RCX = 0 (wall clock): a time and the guest's
 * TSC of the same moment.
 */
function clockPairing(kvm: HypercallContext, vcpu: KvmVcpu, long: boolean): number {
  const { state } = vcpu;
  reach(state.lo(R_RCX) === 0 ? AT_CLOCK_PAIRING_WRITTEN : AT_CLOCK_PAIRING_REFUSED);
  if (state.lo(R_RCX) !== 0 || (long && state.hi(R_RCX) !== 0)) return -KVM_EOPNOTSUPP;
  const gpa = long ? state.get(R_RBX) : BigInt(state.lo(R_RBX) >>> 0);
  return writeClockPairing(kvm, vcpu, gpa) ? 0 : -KVM_EFAULT;
}

/** KVM_HC_MAP_GPA_RANGE: RBX = guest-physical address, RCX = number of 4-KiB pages, RDX = attributes. */
function mapGpaRange(kvm: HypercallContext, vcpu: KvmVcpu, long: boolean): number {
  reach(AT_MAP_GPA_RANGE_OFF);
  if (((kvm.exitHypercalls >>> 12) & 1) === 0) return -KVM_ENOSYS;
  const { state } = vcpu;
  const gpa = long ? state.get(R_RBX) : BigInt(state.lo(R_RBX) >>> 0);
  const pages = long ? state.get(R_RCX) : BigInt(state.lo(R_RCX) >>> 0);
  const frame = gpa >> 12n;
  const wraps = BigInt.asUintN(64, frame + pages) <= frame;
  reach(AT_MAP_GPA_RANGE_INVALID);
  if ((gpa & 0xfffn) !== 0n || pages === 0n || wraps) return -KVM_EINVAL;
  return EXIT_TO_USER;
}
