/**
 * AMD's AVIC and x2AVIC (APM vol. 2, 15.29): which accesses of the guest the processor performs on the backing page, which
 * trap after the instruction, and why it does not complete an IPI. Pure: the effects are in `hardware-apic.ts`.
 */
import { FAULTS, INTERCEPTED, SENDS, SENDS_SELF, TRAPS, VIRTUALIZED } from './apicv.ts';
import { ICR_BUSY, ICR_LEVEL, ICR_MODE, ICR_RESERVED, ICR_VECTOR } from './icr.ts';
import {
  APIC_APR,
  APIC_DFR,
  APIC_EOI,
  APIC_ESR,
  APIC_ICR,
  APIC_ICR2,
  APIC_ID,
  APIC_LDR,
  APIC_LVT_ERROR,
  APIC_LVTT,
  APIC_SELF_IPI,
  APIC_SVR,
  APIC_TDCR,
  APIC_TMCCT,
  APIC_TMICT,
  APIC_TPR,
} from './lapic.ts';

// Why an IPI is not complete: EXITINFO2[63:32] of exit 0x401.
/** Not Fixed, or level-triggered. */
export const IPI_INVALID_TYPE = 0;
/** IRR is set everywhere, but a target does not run. */
export const IPI_NOT_RUNNING = 1;
/** Nothing was sent: a target does not exist. */
export const IPI_INVALID_TARGET = 2;
/** Vector below 16. */
export const IPI_INVALID_VECTOR = 4;
/** The processor can send it. */
export const IPI_COMPLETE = -1;

/** Why the processor cannot send this IPI whatever its targets are, or IPI_COMPLETE. */
export function avicIpi(icr: number): number {
  if ((icr & (ICR_MODE | ICR_LEVEL)) !== 0) return IPI_INVALID_TYPE;
  return (icr & ICR_VECTOR) < 16 ? IPI_INVALID_VECTOR : IPI_COMPLETE;
}

/** Registers that trap after the write. */
const trapsOnWrite = (offset: number): boolean =>
  [APIC_SVR, APIC_ESR, APIC_TMICT, APIC_TDCR].includes(offset) || (offset >= APIC_LVTT && offset <= APIC_LVT_ERROR);

/** WRMSR of the x2APIC register at `offset`. `levelInService`: the interrupt that an EOI would end is level-triggered. */
export function avicWrmsr(offset: number, lo: number, hi: number, levelInService: boolean): number {
  switch (offset) {
    case APIC_ICR:
      // Unlike Intel's, the processor faults on the delivery status, too.
      return (lo & (ICR_RESERVED | ICR_BUSY)) !== 0 ? FAULTS : SENDS;
    case APIC_TPR:
      return hi !== 0 || lo >>> 0 > 0xff ? FAULTS : VIRTUALIZED;
    case APIC_EOI:
      if (hi !== 0 || lo !== 0) return FAULTS;
      return levelInService ? TRAPS : VIRTUALIZED;
    case APIC_SELF_IPI:
      return hi !== 0 || lo >>> 0 > 0xff ? FAULTS : SENDS_SELF;
    default:
      return hi === 0 && trapsOnWrite(offset) ? TRAPS : INTERCEPTED;
  }
}

/** RDMSR of the x2APIC register at `offset`. */
export const avicRdmsr = (offset: number, readable: boolean): number =>
  readable && offset !== APIC_TMCCT && offset !== APIC_APR ? VIRTUALIZED : INTERCEPTED;

/** A 4-byte store to the register at `offset` of the APIC page. INTERCEPTED: exit 0x402 before the instruction. */
export function avicStore(offset: number, levelInService: boolean): number {
  switch (offset) {
    case APIC_TPR:
    case APIC_ICR2:
      return VIRTUALIZED;
    case APIC_EOI:
      return levelInService ? TRAPS : VIRTUALIZED;
    case APIC_ICR:
      return SENDS;
    case APIC_ID:
    case APIC_LDR:
    case APIC_DFR:
      return TRAPS;
    default:
      return trapsOnWrite(offset) ? TRAPS : INTERCEPTED;
  }
}

/** A load from the register at `offset` of the APIC page. */
export const avicLoad = avicRdmsr;
