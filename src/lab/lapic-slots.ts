/**
 * Places in the register image of a local APIC as KVM_GET_LAPIC gives it: 32-bit registers at slot = offset / 16 (SDM vol. 3, table 11-1).
 * ISR, TMR and IRR are eight slots each, one behind the other.
 */
export const SLOTS = 64;
export const SLOT_ID = 0x2;
export const SLOT_LVR = 0x3;
export const SLOT_TPR = 0x8;
export const SLOT_PPR = 0xa;
export const SLOT_LDR = 0xd;
export const SLOT_DFR = 0xe;
export const SLOT_SVR = 0xf;
export const SLOT_ISR = 0x10;
export const SLOT_TMR = 0x18;
export const SLOT_IRR = 0x20;
export const SLOT_AFTER_IRR = 0x28;
export const SLOT_ICR = 0x30;
export const SLOT_ICR2 = 0x31;
export const SLOT_TMICT = 0x38;
export const SLOT_TMCCT = 0x39;
