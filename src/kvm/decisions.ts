/**
 * Points in the model where KVM decides something, for fuzzing: which of them a case reached is its coverage. A hit is one OR into a typed
 * array at a constant place; nobody looks unless a fuzzer does.
 */

/** By number; a point's number is its place in this list. At most 128. */
export const DECISIONS = [
  // Hypercalls.
  'hypercall-upper-half',
  'hypercall-unknown',
  'hypercall-to-user',
  'host-bug',
  'send-ipi-invalid',
  'send-ipi-no-map',
  'send-ipi-unchecked',
  'send-ipi-base-wraps',
  'send-ipi-beyond-map',
  'send-ipi-empty-slot',
  'send-ipi-target',
  'kick-cpu',
  'yield-nobody',
  'yield-taken',
  'clock-pairing-refused',
  'clock-pairing-written',
  'map-gpa-range-off',
  'map-gpa-range-invalid',
  // MSRs.
  'x2apic-msr-outside-x2apic',
  'x2apic-high-half',
  'x2apic-write-refused',
  'x2apic-read-refused',
  'icr-reserved',
  'fastpath-taken',
  'fastpath-refused',
  'apic-base-changes-map',
  // APIC registers.
  'svr-enables',
  'svr-disables',
  'self-ipi',
  'eoi-nothing',
  'eoi-vector',
  'xapic-icr',
  'lvt-write',
  // The APIC map.
  'map-refused',
  'map-above-255',
  'map-mode-sw-disabled',
  'map-mode-flat',
  'map-mode-cluster',
  'map-mode-x2apic',
  'map-mode-none',
  // Routing.
  'route-self',
  'route-physical',
  'route-physical-nobody',
  'route-logical',
  'route-lowest',
  'route-lowest-nobody',
  'slow-shorthand',
  'slow-broadcast',
  'slow-no-map',
  'slow-mixed',
  'slow-lowest',
  'slow-lowest-nobody',
  'lowest-broadcast',
  // What one APIC does with a message.
  'accept-edge',
  'accept-level',
  'accept-smi',
  'accept-kick',
  'accept-nmi',
  'accept-init',
  'accept-sipi',
  'accept-sipi-again',
  'accept-extint',
  // The vCPU.
  'init-bsp',
  'init-ap',
  'sipi-starts',
  'sipi-ignored',
  'inject-interrupt',
  'inject-nmi',
  'inject-waits',
  'halt-sleeps',
  'halt-passes',
] as const;

export type Decision = (typeof DECISIONS)[number];

// Hot code reads a constant of this module, which V8 folds; an export it would load and check each time. Beyond 64 bytes the elements are
// off the heap, at an address that never changes.
const words = new Int32Array(32);
/** Bit n of word n / 32: point n was reached since the fuzzer last cleared it. */
export const reachedDecisions: Int32Array = words.subarray(0, 4);

/** Number of a point. Call it once, outside of hot code. */
export const decision = (name: Decision): number => DECISIONS.indexOf(name);

export function reach(point: number): void {
  // Of a shift's width only the low five bits count.
  words[point >> 5] |= 1 << point;
}
