/**
 * The WRMSR fastpath's decision: may this write be handled right after the exit, before the ordinary exit handler?
 * Pure: nothing is sent and nothing is changed here. The effect is in x86.ts, in the order of events of each version.
 */

import type { Vendor } from '../cpu/cpu.ts';
import * as maps from './apic-map.ts';
import type { Era } from './eras.ts';
import * as icrLayout from './icr.ts';
import type { FastpathVerdict } from './types.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const { ICR_LOGICAL, ICR_MODE, ICR_RESERVED, ICR_SHORTHAND, X2APIC_BROADCAST } = icrLayout;
const { FAST, NOT_FAST_BROADCAST, NOT_FAST_MIXED, NOT_FAST_NO_MAP, NOT_FAST_SHORTHAND } = maps;

export const MSR_X2APIC_ICR = 0x830;
export const MSR_TSC_DEADLINE = 0x6e0;

const verdict = (taken: boolean, reason: string): FastpathVerdict => Object.freeze({ taken, reason });

/** Every verdict there is; compare by identity. */
export const VERDICT = {
  taken: verdict(true, 'taken'),
  noFastpath: verdict(false, 'this KVM has no fastpath'),
  otherMsr: verdict(false, 'MSR has no fastpath'),
  notX2apic: verdict(false, 'not x2APIC'),
  shorthand: verdict(false, 'shorthand'),
  logical: verdict(false, 'logical destination'),
  mode: verdict(false, 'delivery mode is not Fixed'),
  broadcast: verdict(false, 'broadcast'),
  reserved: verdict(false, 'reserved bits'),
  noMap: verdict(false, 'no APIC map'),
  mixed: verdict(false, 'mixed logical modes'),
} as const;

const BY_DELIVERY: readonly FastpathVerdict[] = [];
{
  const table = BY_DELIVERY as FastpathVerdict[];
  table[FAST] = VERDICT.taken;
  table[NOT_FAST_SHORTHAND] = VERDICT.shorthand;
  table[NOT_FAST_BROADCAST] = VERDICT.broadcast;
  table[NOT_FAST_NO_MAP] = VERDICT.noMap;
  table[NOT_FAST_MIXED] = VERDICT.mixed;
}

/**
 * Verdict for a write of `hi:lo` to the x2APIC ICR. `delivery` is the answer of `fastDelivery`; it counts from v6.18
 * on, when KVM began to take whatever the APIC map can deliver.
 */
export function icrVerdict(era: Era, x2apic: boolean, lo: number, hi: number, delivery: number): FastpathVerdict {
  if (era.fastpath !== true) return VERDICT.noFastpath;
  if (x2apic !== true) return VERDICT.notX2apic;
  if (era.fastpathFixedPhysicalOnly === true) return physicalVerdict(era, lo, hi);
  return (lo & ICR_RESERVED) !== 0 ? VERDICT.reserved : (BY_DELIVERY[delivery] as FastpathVerdict);
}

/** Before v6.18: Fixed messages to one APIC id. */
function physicalVerdict(era: Era, lo: number, hi: number): FastpathVerdict {
  if (era.fastpathNoShorthand && (lo & ICR_SHORTHAND) !== 0) return VERDICT.shorthand;
  if ((lo & ICR_LOGICAL) !== 0) return VERDICT.logical;
  if ((lo & ICR_MODE) !== 0) return VERDICT.mode;
  if (era.fastpathNoBroadcast && hi >>> 0 === X2APIC_BROADCAST) return VERDICT.broadcast;
  return era.icrReservedGp && (lo & ICR_RESERVED) !== 0 ? VERDICT.reserved : VERDICT.taken;
}

/** A WRMSR exit as the fastpath sees it. */
export interface FastpathRequest {
  /** ECX. */
  readonly msr: number;
  /** EAX and EDX. */
  readonly lo: number;
  readonly hi: number;
  readonly x2apic: boolean;
  readonly vendor: Vendor;
  /** FAST or NOT_FAST_* for this ICR value. */
  readonly delivery: number;
}

/** Verdict for any MSR write. */
export function fastpathVerdict(era: Era, request: FastpathRequest): FastpathVerdict {
  if (!era.fastpath) return VERDICT.noFastpath;
  if (request.msr === MSR_X2APIC_ICR) {
    return icrVerdict(era, request.x2apic, request.lo, request.hi, request.delivery);
  }
  return request.msr === MSR_TSC_DEADLINE && deadlineFastpath(era, request.vendor) ? VERDICT.taken : VERDICT.otherMsr;
}

/** Whether IA32_TSC_DEADLINE is written in the fastpath: with the VMX preemption timer, later everywhere. */
export const deadlineFastpath = (era: Era, vendor: Vendor): boolean =>
  era.deadlineFastpath === 'yes' || (era.deadlineFastpath === 'Intel' && vendor === 'intel');
