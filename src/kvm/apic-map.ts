/**
 * KVM's per-VM table from APIC id to local APIC (`struct kvm_apic_map`): how it is built per version, which
 * destinations it answers quickly, and the rule that matches one APIC against a destination when it cannot (lapic.c,
 * irq_comm.c).
 */
import { decision, reach } from './decisions.ts';
import type { Era } from './eras.ts';
import * as icrLayout from './icr.ts';
import type { Lapic } from './lapic.ts';
import * as lapics from './lapic.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const {
  ICR_LOGICAL,
  ICR_SHORTHAND,
  ICR_SHORTHAND_SHIFT,
  SHORTHAND_ALL,
  SHORTHAND_SELF,
  X2APIC_BROADCAST,
  XAPIC_BROADCAST,
} = icrLayout;
const { DFR_CLUSTER, DFR_FLAT } = lapics;

/** How logical destinations are looked up. */
export type LogicalMode = 'sw-disabled' | 'flat' | 'cluster' | 'x2apic' | 'none';

/** Whether a message can be delivered through the map, and if not, why. */
export const FAST = 0;
/** Shorthand all or all but self. */
export const NOT_FAST_SHORTHAND = 1;
export const NOT_FAST_BROADCAST = 2;
/** Two vCPUs share an APIC id (v6.3 and later). */
export const NOT_FAST_NO_MAP = 3;
/** Logical destination while APICs disagree about the logical mode. */
export const NOT_FAST_MIXED = 4;

/** KVM_CAP_X2APIC_API. */
export const X2APIC_API_32BIT_IDS = 1;
export const X2APIC_API_NO_BROADCAST_QUIRK = 2;

// Decision points, for fuzzing.
const AT_MAP_REFUSED = decision('map-refused');
const AT_MAP_ABOVE_255 = decision('map-above-255');

const AT_MODE: Readonly<Record<LogicalMode, number>> = {
  'sw-disabled': decision('map-mode-sw-disabled'),
  flat: decision('map-mode-flat'),
  cluster: decision('map-mode-cluster'),
  x2apic: decision('map-mode-x2apic'),
  none: decision('map-mode-none'),
};

export class ApicMap {
  readonly maxApicId: number;
  /** By APIC id, 0 … maxApicId. */
  readonly phys: (Lapic | null)[];
  readonly logicalMode: LogicalMode;
  /** Flat: 8 slots. Cluster: 16 groups of 4 slots. */
  readonly logical: readonly (Lapic | null)[];

  private constructor(phys: (Lapic | null)[], logicalMode: LogicalMode, logical: readonly (Lapic | null)[]) {
    this.maxApicId = phys.length - 1;
    this.phys = phys;
    this.logicalMode = logicalMode;
    this.logical = logical;
  }

  /** Builds the map from all APICs in vCPU order; null if this era refuses to (two vCPUs with one id). */
  static build(lapics: readonly Lapic[], era: Era, x2apicApi: number): ApicMap | null {
    let max = 255;
    for (const lapic of lapics) if (lapic.hwEnabled && lapic.vcpuId > max) max = lapic.vcpuId;
    const phys = new Array<Lapic | null>(max + 1).fill(null);
    const strict = era.mapStrictIds && (x2apicApi & X2APIC_API_32BIT_IDS) === 0;
    for (const lapic of lapics) {
      if (!lapic.hwEnabled) continue;
      if (strict) {
        if (phys[lapic.id] !== null) reach(AT_MAP_REFUSED);
        if (phys[lapic.id] !== null) return null;
        phys[lapic.id] = lapic;
        continue;
      }
      // A vcpu_id above 255 is reachable by it even in xAPIC mode, so that CPUs can be hotplugged.
      if (lapic.x2apic || lapic.vcpuId > 0xff) phys[lapic.vcpuId] = lapic;
      if (!lapic.x2apic && phys[lapic.xapicId] === null) phys[lapic.xapicId] = lapic;
    }
    const { mode, logical } = era.mapStrictLogical ? strictLogical(lapics) : laxLogical(lapics, era);
    if (max > 255) reach(AT_MAP_ABOVE_255);
    reach(AT_MODE[mode]);
    return new ApicMap(phys, mode, logical);
  }

  /** Number of candidates of a logical destination: 16 in x2APIC mode, 8 flat, 4 in a cluster. */
  get candidates(): number {
    return this.logicalMode === 'x2apic' ? 16 : this.logicalMode === 'flat' ? 8 : 4;
  }

  /** Bits of a logical destination that stand for candidates; bits beyond the largest id are dropped. */
  logicalMask(dest: number): number {
    switch (this.logicalMode) {
      case 'x2apic': {
        const first = (dest >>> 16) * 16;
        if (first > this.maxApicId) return 0;
        return dest & (0xffff >> (16 - Math.min(this.maxApicId - first + 1, 16)));
      }
      case 'flat':
        return dest & 0xff;
      case 'cluster':
        return dest & 0xf;
      default:
        return 0;
    }
  }

  /** Candidate `bit` of a logical destination. */
  logicalCandidate(dest: number, bit: number): Lapic | null {
    switch (this.logicalMode) {
      case 'x2apic':
        return this.phys[(dest >>> 16) * 16 + bit] ?? null;
      case 'flat':
        return this.logical[bit] ?? null;
      case 'cluster':
        return this.logical[((dest >>> 4) & 0xf) * 4 + bit] ?? null;
      default:
        return null;
    }
  }
}

/** Before v6.3: usable only if all APICs are in one mode; a later APIC takes over a slot. */
function laxLogical(lapics: readonly Lapic[], era: Era): { mode: LogicalMode; logical: (Lapic | null)[] } {
  const logical = new Array<Lapic | null>(64).fill(null);
  const modes = new Set<LogicalMode>();
  for (const lapic of lapics) {
    if (!lapic.hwEnabled || (era.mapSkipsSwDisabled && !lapic.swEnabled) || lapic.ldr === 0) continue;
    const mode = modeOf(lapic);
    modes.add(mode);
    if (mode === 'x2apic') continue;
    const slot = logicalSlot(mode, lapic.ldr >>> 24);
    if (slot >= 0) logical[slot] = lapic;
  }
  const [mode] = modes;
  return { mode: modes.size === 1 && mode !== undefined ? mode : 'none', logical };
}

/** v6.3 and later: any disagreement, multi-bit id or shared slot turns the logical map off. */
function strictLogical(lapics: readonly Lapic[]): { mode: LogicalMode; logical: (Lapic | null)[] } {
  const logical = new Array<Lapic | null>(64).fill(null);
  let common: LogicalMode = 'sw-disabled';
  for (const lapic of lapics) {
    if (!lapic.hwEnabled || !lapic.swEnabled || lapic.ldr === 0) continue;
    const mode = modeOf(lapic);
    if (common !== 'sw-disabled' && common !== mode) return { mode: 'none', logical };
    common = mode;
    if (mode === 'x2apic') continue;
    const id = lapic.ldr >>> 24;
    const bits = mode === 'flat' ? id : id & 0xf;
    if (bits === 0) continue;
    const slot = logicalSlot(mode, id);
    if ((bits & (bits - 1)) !== 0 || logical[slot] !== null) return { mode: 'none', logical };
    logical[slot] = lapic;
  }
  return { mode: common, logical };
}

const modeOf = (lapic: Lapic): LogicalMode => (lapic.x2apic ? 'x2apic' : lapic.dfr === DFR_FLAT ? 'flat' : 'cluster');

/** Slot of an 8-bit logical id: that of its lowest bit; -1 if there is none. */
function logicalSlot(mode: LogicalMode, id: number): number {
  const bits = mode === 'flat' ? id : id & 0xf;
  if (bits === 0) return -1;
  const bit = 31 - Math.clz32(bits & -bits);
  return mode === 'flat' ? bit : (id >>> 4) * 4 + bit;
}

/**
 * Whether `dest` is a broadcast for the fast delivery (kvm_apic_is_broadcast_dest). `fromX2apic`: an IPI of an APIC in
 * x2APIC mode.
 */
export function isBroadcast(map: ApicMap, x2apicApi: number, fromX2apic: boolean, dest: number): boolean {
  if ((x2apicApi & X2APIC_API_NO_BROADCAST_QUIRK) !== 0) {
    return dest >>> 0 === X2APIC_BROADCAST || (dest === XAPIC_BROADCAST && map.logicalMode !== 'x2apic');
  }
  return fromX2apic ? dest >>> 0 === X2APIC_BROADCAST : dest === XAPIC_BROADCAST;
}

/**
 * Whether the map can deliver this message (kvm_irq_delivery_to_apic_fast): FAST or NOT_FAST_*. Pure; nothing is sent.
 */
export function fastDelivery(
  map: ApicMap | null,
  x2apicApi: number,
  fromX2apic: boolean,
  icrLow: number,
  dest: number,
): number {
  const shorthand = (icrLow & ICR_SHORTHAND) >> ICR_SHORTHAND_SHIFT;
  if (shorthand === SHORTHAND_SELF) return FAST;
  if (shorthand >= SHORTHAND_ALL) return NOT_FAST_SHORTHAND;
  if (map === null) return NOT_FAST_NO_MAP;
  if (isBroadcast(map, x2apicApi, fromX2apic, dest)) return NOT_FAST_BROADCAST;
  if ((icrLow & ICR_LOGICAL) !== 0 && map.logicalMode === 'none') return NOT_FAST_MIXED;
  return FAST;
}

/**
 * Whether `target` is addressed by `dest` without shorthand (kvm_apic_match_dest). `isIpi`: the message comes from an
 * APIC; others (KICK_CPU) see 0xFF as broadcast in x2APIC mode too unless the quirk is off.
 */
export function matches(
  target: Lapic,
  dest: number,
  logical: boolean,
  isIpi: boolean,
  era: Era,
  x2apicApi: number,
): boolean {
  let mda = dest >>> 0;
  const quirk = (x2apicApi & X2APIC_API_NO_BROADCAST_QUIRK) === 0;
  if (!isIpi && quirk && mda === XAPIC_BROADCAST && target.x2apic) mda = X2APIC_BROADCAST;
  if (mda === (target.x2apic ? X2APIC_BROADCAST : XAPIC_BROADCAST)) return true;
  return logical ? matchesLogical(target, mda) : matchesPhysical(target, mda, era);
}

function matchesPhysical(target: Lapic, mda: number, era: Era): boolean {
  if (target.x2apic) return mda === target.vcpuId;
  if (era.xapicMatchById) return mda === (mda > 0xff ? target.vcpuId : target.xapicId);
  return mda === target.xapicId || (target.vcpuId > 0xff && mda === target.vcpuId);
}

function matchesLogical(target: Lapic, mda: number): boolean {
  if (target.x2apic) return target.ldr >>> 16 === mda >>> 16 && (target.ldr & mda & 0xffff) !== 0;
  const id = target.ldr >>> 24;
  switch (target.dfr) {
    case DFR_FLAT:
      return (id & mda) !== 0;
    case DFR_CLUSTER:
      return id >>> 4 === mda >>> 4 && (id & mda & 0xf) !== 0;
    default:
      return false;
  }
}

/** Position of the n-th set bit of `mask`, n counted from 0; -1 if there are fewer. */
export function nthBit(mask: number, n: number): number {
  let left = n;
  for (let bit = 0; bit < 32; bit++) {
    if ((mask >>> bit) & 1 && left-- === 0) return bit;
  }
  return -1;
}

/** Number of set bits in a 32-bit mask. */
export function bitCount(mask: number): number {
  let bits = mask >>> 0;
  let count = 0;
  for (; bits !== 0; count++) bits = (bits & (bits - 1)) >>> 0;
  return count;
}
