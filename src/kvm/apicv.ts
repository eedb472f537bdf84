/**
 * Intel's APIC virtualization as KVM sets it up (SDM vol. 3, chapter 30): virtualize-x2APIC mode or virtualize APIC
 * accesses, APIC-register virtualization, virtual-interrupt delivery, and IPI virtualization. Which accesses of the guest
 * the processor performs on the virtual-APIC page, and which still leave the guest. Pure: the effects are in
 * `hardware-apic.ts`.
 */
import {
  ICR_BUSY,
  ICR_LEVEL,
  ICR_LOGICAL,
  ICR_MODE,
  ICR_RESERVED,
  ICR_SHORTHAND,
  ICR_SHORTHAND_SHIFT,
  SHORTHAND_SELF,
} from './icr.ts';
import {
  APIC_DFR,
  APIC_EOI,
  APIC_ESR,
  APIC_ICR,
  APIC_ICR2,
  APIC_ID,
  APIC_ISR,
  APIC_LDR,
  APIC_LVR,
  APIC_LVT_ERROR,
  APIC_LVTT,
  APIC_SELF_IPI,
  APIC_SVR,
  APIC_TDCR,
  APIC_TMCCT,
  APIC_TMICT,
  APIC_TPR,
} from './lapic.ts';

// What becomes of an access to an APIC register.
/** Leaves the guest, as it would without help. */
export const INTERCEPTED = 0;
/** Done by the processor; no exit. */
export const VIRTUALIZED = 1;
/** #GP by the processor; no exit. */
export const FAULTS = 2;
/** Stored by the processor; the exit follows the instruction (APIC-write exit, AVIC trap). */
export const TRAPS = 3;
/** The vector of the value is requested of the sender itself; no exit. */
export const SENDS_SELF = 4;
/** The processor looks up the target and posts the interrupt. */
export const SENDS = 5;

/** Vectors below 16 are never sent by the processor. */
const LEGAL_VECTOR = 0xf0;

/** What an ICR must be clear of to be virtualized besides its shorthand: level trigger and every mode but Fixed. */
const NOT_FIXED_EDGE = ICR_LEVEL | ICR_MODE;

/** Self-IPI by ICR: Fixed, edge, shorthand self, vector 16 or above; reserved and status bits clear (30.4.3.2). */
const isSelfIpi = (icr: number): boolean =>
  (icr & ICR_SHORTHAND) === SHORTHAND_SELF << ICR_SHORTHAND_SHIFT &&
  (icr & (ICR_RESERVED | ICR_BUSY | NOT_FIXED_EDGE)) === 0 &&
  (icr & LEGAL_VECTOR) !== 0;

/** What IPI virtualization sends: Fixed, edge, physical, no shorthand, vector 16 or above (30.4.3.2, 30.6). */
const isVirtualIpi = (icr: number): boolean =>
  (icr & (ICR_SHORTHAND | ICR_LOGICAL | NOT_FIXED_EDGE)) === 0 && (icr & LEGAL_VECTOR) !== 0;

/**
 * WRMSR of the x2APIC register at `offset`. Without IPI virtualization ICR is intercepted, and may take the fastpath. The
 * processor checks reserved bits itself: EOI takes nothing but 0 then.
 */
export function vmxWrmsr(offset: number, lo: number, hi: number, ipiv: boolean): number {
  switch (offset) {
    case APIC_TPR:
      return hi !== 0 || lo >>> 0 > 0xff ? FAULTS : VIRTUALIZED;
    case APIC_EOI:
      return hi !== 0 || lo !== 0 ? FAULTS : VIRTUALIZED;
    case APIC_SELF_IPI:
      if (hi !== 0 || lo >>> 0 > 0xff) return FAULTS;
      return (lo & LEGAL_VECTOR) !== 0 ? SENDS_SELF : TRAPS;
    case APIC_ICR:
      if (!ipiv) return INTERCEPTED;
      if ((lo & ICR_RESERVED) !== 0) return FAULTS;
      if (isSelfIpi(lo)) return SENDS_SELF;
      return isVirtualIpi(lo) ? SENDS : TRAPS;
    default:
      return INTERCEPTED;
  }
}

/**
 * RDMSR of the x2APIC register at `offset`; the current count of the timer is always intercepted. `checked`: KVM lets the
 * guest read only what is a register (v6.3 and later); before, the processor answers for all of 0x800 to 0x8FF.
 */
export const vmxRdmsr = (offset: number, readable: boolean, checked: boolean): number =>
  offset === APIC_TMCCT || offset > 0xff0 || (checked && !readable) ? INTERCEPTED : VIRTUALIZED;

const isLvt = (offset: number): boolean => offset >= APIC_LVTT && offset <= APIC_LVT_ERROR;

/** Registers of the page that APIC-register virtualization covers, for writes (30.4.3.1). */
const isWritable = (offset: number): boolean =>
  [APIC_ID, APIC_TPR, APIC_EOI, APIC_LDR, APIC_DFR, APIC_SVR, APIC_ESR, APIC_ICR, APIC_ICR2].includes(offset) ||
  [APIC_TMICT, APIC_TDCR].includes(offset) ||
  isLvt(offset);

/** A 4-byte store to the register at `offset` of the APIC page. INTERCEPTED: APIC-access exit. */
export function vmxStore(offset: number, value: number, ipiv: boolean): number {
  if (!isWritable(offset)) return INTERCEPTED;
  switch (offset) {
    case APIC_TPR:
    case APIC_EOI:
    case APIC_ICR2:
      return VIRTUALIZED;
    case APIC_ICR:
      if (isSelfIpi(value)) return SENDS_SELF;
      return ipiv && (value & (ICR_RESERVED | ICR_BUSY)) === 0 && isVirtualIpi(value) ? SENDS : TRAPS;
    default:
      return TRAPS;
  }
}

/** A load from the register at `offset` of the APIC page (30.4.2): not PPR, APR and the timer's current count. */
export const vmxLoad = (offset: number): number =>
  isWritable(offset) || offset === APIC_LVR || (offset >= APIC_ISR && offset < APIC_ESR) ? VIRTUALIZED : INTERCEPTED;
