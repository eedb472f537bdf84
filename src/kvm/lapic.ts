/** The local APIC. Signatures; the body follows. */
export declare class Lapic {
  /** xAPIC: 8-bit id; x2APIC: vcpu_id. */
  readonly id: number;
  readonly mode: 'disabled' | 'xapic' | 'x2apic';
  /** SVR bit 8. */
  readonly swEnabled: boolean;
  /** Vectors set, ascending. */
  irr(): number[];
  isr(): number[];
  tmr(): number[];
  readonly tpr: number;
  readonly ppr: number;
  readonly icr: bigint;
  readonly svr: number;
  readonly ldr: number;
  readonly apicBase: bigint;
}
