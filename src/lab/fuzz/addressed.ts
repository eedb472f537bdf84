/** The widest reading of a destination: whom it can mean in any mode and any version. A bound for invariants, not a router. */
import * as SLOTS from '../lapic-slots.ts';
import { VCPU_WORDS } from './types.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const { SLOT_LDR } = SLOTS;
/** Broadcasts of 8 and 32 bits. */
export const isBroadcastLike = (dest: number): boolean => dest === 0xff || dest === 0xffffffff;

/** A cluster of 16 in x2APIC mode, a flat mask or a cluster of 4 in xAPIC mode. */
export function mayReachLogical(id: number, dest: number, start: Uint32Array, vcpu: number): boolean {
  const x2apic = id >>> 4 === dest >>> 16 && ((dest >>> (id & 15)) & 1) === 1;
  const logicalId = start[vcpu * VCPU_WORDS + SLOT_LDR] >>> 24;
  return x2apic || (logicalId & dest & 0xff) !== 0;
}
