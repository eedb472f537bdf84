/**
 * The I/O APIC in the kernel (arch/x86/kvm/ioapic.c; Intel 82093AA data sheet): 24 pins, version 0x11, registers behind
 * an index and a data window at 0xFEC00000. It knows neither local APICs nor routes: what a pin sends is handed to
 * `IoApicSink`, which answers how many local APICs took it.
 *
 * Not modelled: the RTC's end-of-interrupt tracking, and the pause KVM makes after 10,000 interrupts of one pin in a row.
 */

export const IOAPIC_BASE = 0xfec00000;
export const IOAPIC_BYTES = 0x100;
export const IOAPIC_PINS = 24;

// The window.
const IOREGSEL = 0x00;
const IOWIN = 0x10;

// Registers behind it.
const IOAPICID = 0x00;
const IOAPICVER = 0x01;
const IOAPICARB = 0x02;
/** Redirection entries: low and high half of pin 0, of pin 1, … */
const IOREDTBL = 0x10;

const VERSION = 0x11 | ((IOAPIC_PINS - 1) << 16);

/** Redirection entry, low half. */
const REDIR_VECTOR = 0xff;
const REDIR_DELIVERY_STATUS = 1 << 12;
const REDIR_REMOTE_IRR = 1 << 14;
const REDIR_LEVEL = 1 << 15;
const REDIR_MASKED = 1 << 16;
/** Vector, delivery mode, destination mode, polarity, trigger mode, mask. */
const REDIR_WRITABLE = 0x1afff & ~(REDIR_DELIVERY_STATUS | REDIR_REMOTE_IRR);

/** Delivery mode, destination mode and trigger mode lie where the ICR has them (SDM vol. 3, 11.6.1). */
const ICR_FIELDS = 0x7ff | (1 << 11) | REDIR_LEVEL;
const ICR_ASSERT = 1 << 14;

export interface IoApicSink {
  /** Routes a message in ICR format (shorthand 0) to an 8-bit destination. Returns the number of local APICs that took it. */
  send(icrLow: number, dest: number): number;
}

export interface RedirectionEntry {
  readonly low: number;
  readonly dest: number;
}

export class IoApic {
  readonly #sink: IoApicSink;
  #select = 0;
  #id = 0;
  /** Low halves, and destinations (bits 31:24 of the high halves). */
  readonly #low = new Uint32Array(IOAPIC_PINS);
  readonly #dest = new Uint8Array(IOAPIC_PINS);
  /** Bit per pin: asserted, or an edge that has not been sent. */
  #irr = 0;

  constructor(sink: IoApicSink) {
    this.#sink = sink;
    this.reset();
  }

  reset(): void {
    this.#select = 0;
    this.#id = 0;
    this.#irr = 0;
    this.#low.fill(REDIR_MASKED);
    this.#dest.fill(0);
  }

  /** Becomes what another one is. */
  assign(from: IoApic): void {
    this.#select = from.#select;
    this.#id = from.#id;
    this.#low.set(from.#low);
    this.#dest.set(from.#dest);
    this.#irr = from.#irr;
  }

  /** The entry of one pin. */
  entry(pin: number): RedirectionEntry {
    return { low: this.#low[pin], dest: this.#dest[pin] };
  }

  /** Bit per pin that is asserted. */
  get irr(): number {
    return this.#irr;
  }

  /** A read of 1, 2, 4 or 8 bytes at an offset in the page: the register's low bits (ioapic_mmio_read). */
  read(offset: number, size: number): number {
    const at = offset & 0xff;
    const value = at === IOREGSEL ? this.#select : at === IOWIN ? this.#readIndirect() : 0;
    return size === 1 ? value & 0xff : size === 2 ? value & 0xffff : value >>> 0;
  }

  /** A write of 1, 2, 4 or 8 bytes; `value` is its low 32 bits (ioapic_mmio_write). */
  write(offset: number, size: number, value: number): void {
    const data = size === 1 ? value & 0xff : size === 2 ? value & 0xffff : value >>> 0;
    const at = offset & 0xff;
    if (at === IOREGSEL) this.#select = data & 0xff;
    else if (at === IOWIN) this.#writeIndirect(data);
  }

  #readIndirect(): number {
    switch (this.#select) {
      case IOAPICVER:
        return VERSION;
      case IOAPICID:
      case IOAPICARB:
        return (this.#id & 0xf) << 24;
      default: {
        const pin = (this.#select - IOREDTBL) >> 1;
        if (this.#select < IOREDTBL || pin >= IOAPIC_PINS) return 0;
        return this.#select & 1 ? (this.#dest[pin] << 24) >>> 0 : this.#low[pin];
      }
    }
  }

  /** ioapic_write_indirect. */
  #writeIndirect(value: number): void {
    if (this.#select === IOAPICID) {
      this.#id = (value >>> 24) & 0xf;
      return;
    }
    const pin = (this.#select - IOREDTBL) >> 1;
    if (this.#select < IOREDTBL || pin >= IOAPIC_PINS) return;
    if (this.#select & 1) {
      this.#dest[pin] = value >>> 24;
      return;
    }
    const kept = this.#low[pin] & (REDIR_DELIVERY_STATUS | REDIR_REMOTE_IRR);
    let low = (value & REDIR_WRITABLE) | kept;
    // Some guests clear remote IRR by making the pin edge-triggered for a moment.
    if ((low & REDIR_LEVEL) === 0) low &= ~REDIR_REMOTE_IRR;
    this.#low[pin] = low;
    if ((low & REDIR_LEVEL) !== 0 && this.#asserted(pin)) this.#service(pin);
  }

  #asserted(pin: number): boolean {
    return ((this.#irr >>> pin) & 1) !== 0;
  }

  /**
   * The line of one pin changes (ioapic_set_irq). Returns what KVM_IRQ_LINE_STATUS does: the number of local APICs that took the
   * interrupt, 0 if it coalesced with one that waits, -1 if the pin is masked.
   */
  setIrq(pin: number, level: boolean): number {
    const bit = 1 << pin;
    if (!level) {
      this.#irr &= ~bit;
      return 1;
    }
    const edge = (this.#low[pin] & REDIR_LEVEL) === 0;
    if (edge && this.#asserted(pin)) return 0;
    this.#irr |= bit;
    return this.#service(pin);
  }

  /** ioapic_service. */
  #service(pin: number): number {
    const low = this.#low[pin];
    const level = (low & REDIR_LEVEL) !== 0;
    if ((low & REDIR_MASKED) !== 0 || (level && (low & REDIR_REMOTE_IRR) !== 0)) return -1;
    const taken = this.#sink.send((low & ICR_FIELDS) | ICR_ASSERT, this.#dest[pin]);
    if (taken > 0 && level) this.#low[pin] |= REDIR_REMOTE_IRR;
    return taken;
  }

  /** Whether an EOI of `vector` concerns a pin (kvm_ioapic_handles_vector). */
  handles(vector: number): boolean {
    return this.#low.some((low) => (low & REDIR_VECTOR) === vector);
  }

  /** A local APIC ended `vector`, which it took as `level`-triggered or not (kvm_ioapic_update_eoi). */
  eoi(vector: number, level: boolean): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      if ((this.#low[pin] & REDIR_VECTOR) !== vector || !level) continue;
      if ((this.#low[pin] & REDIR_LEVEL) === 0) continue;
      this.#low[pin] &= ~REDIR_REMOTE_IRR;
      if (this.#asserted(pin)) this.#service(pin);
    }
  }
}
