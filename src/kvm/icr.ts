/**
 * The interrupt command register (SDM vol. 3, 11.6.1 and 11.12.9): the one place that knows where its fields are.
 *
 *      63        56            32 31  20 19 18 17 16 15 14 13 12 11 10  8 7      0
 *     ┌────────────┬──────────────┬──────┬─────┬─────┬──┬──┬──┬──┬──┬─────┬────────┐
 *     │ xAPIC dest │ x2APIC dest  │ res. │ sh. │ res.│TM│LV│ 0│BS│DM│ mode│ vector │
 *     └────────────┴──────────────┴──────┴─────┴─────┴──┴──┴──┴──┴──┴─────┴────────┘
 */

// Masks of the low 32 bits.
export const ICR_VECTOR = 0xff;
export const ICR_MODE = 0x700;
export const ICR_MODE_SHIFT = 8;
/** Destination mode: set = logical. */
export const ICR_LOGICAL = 1 << 11;
/** Delivery status, read-only, 0 under KVM. */
export const ICR_BUSY = 1 << 12;
export const ICR_ASSERT = 1 << 14;
export const ICR_LEVEL = 1 << 15;
export const ICR_SHORTHAND = 3 << 18;
export const ICR_SHORTHAND_SHIFT = 18;
/** Must be zero in an x2APIC ICR write since KVM v6.12 (71bf395a276f): 31:20, 17:16, 13. Bit 12 is not among them. */
export const ICR_RESERVED = 0xfff32000 | 0;

// Delivery modes (bits 10:8).
export const MODE_FIXED = 0;
export const MODE_LOWEST = 1;
export const MODE_SMI = 2;
/** Reserved by Intel; KVM's internal kick of a halted vCPU (KVM_HC_KICK_CPU). */
export const MODE_REMOTE_READ = 3;
export const MODE_NMI = 4;
export const MODE_INIT = 5;
export const MODE_STARTUP = 6;
export const MODE_EXTINT = 7;

/** What an ICR low word says of a message, whoever it is for; `level` and `trigger` are 0 or 1. */
export const icrMessage = (mode: number, vector: number, level: number, trigger: number): number =>
  (mode << ICR_MODE_SHIFT) | vector | (level === 0 ? 0 : ICR_ASSERT) | (trigger === 0 ? 0 : ICR_LEVEL);

// Shorthands (bits 19:18).
export const SHORTHAND_NONE = 0;
export const SHORTHAND_SELF = 1;
export const SHORTHAND_ALL = 2;
export const SHORTHAND_ALL_BUT_SELF = 3;

export const XAPIC_BROADCAST = 0xff;
export const X2APIC_BROADCAST = 0xffffffff;

/** In order of their encoding. */
export const DELIVERY_MODES = ['fixed', 'lowest', 'smi', 'remote-read', 'nmi', 'init', 'startup', 'extint'] as const;
export type DeliveryMode = (typeof DELIVERY_MODES)[number];
/** In order of their encoding. */
export const SHORTHANDS = ['none', 'self', 'all', 'all-but-self'] as const;
export type Shorthand = (typeof SHORTHANDS)[number];

/** An ICR value as named fields. */
export interface IcrFields {
  /** 0 … 255. */
  readonly vector: number;
  readonly mode: DeliveryMode;
  readonly destinationMode: 'physical' | 'logical';
  readonly level: 'assert' | 'deassert';
  readonly trigger: 'edge' | 'level';
  readonly shorthand: Shorthand;
  /** 8 bits in xAPIC, 32 bits in x2APIC. */
  readonly destination: number;
  /** Bit 12. */
  readonly busy: boolean;
  /** Bits 31:20, 17:16 and 13 as they stand in the register. */
  readonly reserved: number;
}

/**
 * A decoded ICR. `Icr.fromX2(v).toX2()` and `Icr.fromXapic(lo, hi).toXapic()` are identities (xAPIC: but for
 * ICR2[23:0]).
 */
export class Icr implements IcrFields {
  readonly vector: number;
  readonly mode: DeliveryMode;
  readonly destinationMode: 'physical' | 'logical';
  readonly level: 'assert' | 'deassert';
  readonly trigger: 'edge' | 'level';
  readonly shorthand: Shorthand;
  readonly destination: number;
  readonly busy: boolean;
  readonly reserved: number;

  /**
   * Fields left out: Fixed, physical, de-asserted edge, no shorthand, destination 0 (what Linux writes for a plain
   * IPI).
   */
  constructor(fields: Partial<IcrFields> & Pick<IcrFields, 'vector'>) {
    this.vector = fields.vector & ICR_VECTOR;
    this.mode = fields.mode ?? 'fixed';
    this.destinationMode = fields.destinationMode ?? 'physical';
    this.level = fields.level ?? 'deassert';
    this.trigger = fields.trigger ?? 'edge';
    this.shorthand = fields.shorthand ?? 'none';
    this.destination = (fields.destination ?? 0) >>> 0;
    this.busy = fields.busy ?? false;
    this.reserved = ((fields.reserved ?? 0) & ICR_RESERVED) >>> 0;
  }

  /** From the low word and a destination. */
  static fromLow(low: number, destination: number): Icr {
    return new Icr({
      vector: low & ICR_VECTOR,
      mode: DELIVERY_MODES[(low & ICR_MODE) >> ICR_MODE_SHIFT] as DeliveryMode,
      destinationMode: low & ICR_LOGICAL ? 'logical' : 'physical',
      level: low & ICR_ASSERT ? 'assert' : 'deassert',
      trigger: low & ICR_LEVEL ? 'level' : 'edge',
      shorthand: SHORTHANDS[(low & ICR_SHORTHAND) >> ICR_SHORTHAND_SHIFT] as Shorthand,
      destination,
      busy: (low & ICR_BUSY) !== 0,
      reserved: low & ICR_RESERVED,
    });
  }

  /** From the 64-bit MSR 0x830. */
  static fromX2(value: bigint): Icr {
    return Icr.fromLow(Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
  }

  /** From the registers at offsets 0x300 and 0x310. */
  static fromXapic(icr: number, icr2: number): Icr {
    return Icr.fromLow(icr, icr2 >>> 24);
  }

  /** The low word, unsigned. */
  get low(): number {
    return (
      (this.vector |
        (DELIVERY_MODES.indexOf(this.mode) << ICR_MODE_SHIFT) |
        (this.destinationMode === 'logical' ? ICR_LOGICAL : 0) |
        (this.busy ? ICR_BUSY : 0) |
        (this.level === 'assert' ? ICR_ASSERT : 0) |
        (this.trigger === 'level' ? ICR_LEVEL : 0) |
        (SHORTHANDS.indexOf(this.shorthand) << ICR_SHORTHAND_SHIFT) |
        this.reserved) >>>
      0
    );
  }

  /** The 64-bit value of MSR 0x830. */
  toX2(): bigint {
    return (BigInt(this.destination) << 32n) | BigInt(this.low);
  }

  /** The registers at offsets 0x300 and 0x310; only the low 8 bits of the destination fit. */
  toXapic(): { readonly icr: number; readonly icr2: number } {
    return { icr: this.low, icr2: (this.destination << 24) >>> 0 };
  }
}
