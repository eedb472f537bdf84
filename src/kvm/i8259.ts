/**
 * The pair of 8259A interrupt controllers in the kernel (arch/x86/kvm/i8259.c; Intel 8259A data sheet), with the edge/level
 * registers of the PIIX (ELCR) at ports 0x4D0 and 0x4D1. Pin 2 of the first is the output of the second.
 */

/** ISA lines whose trigger mode the ELCR can change: not 0, 1, 2, 8 and 13. */
const ELCR_MASKS = [0xf8, 0xde] as const;

class Pic {
  irr = 0;
  imr = 0;
  isr = 0;
  lastIrr = 0;
  /** Highest priority pin. */
  priorityAdd = 0;
  irqBase = 0;
  /** OCW3: reads give ISR instead of IRR. */
  readIsr = false;
  poll = false;
  specialMask = false;
  /** ICW words still to come: 0, or the number of the next. */
  initState = 0;
  autoEoi = false;
  rotateOnAutoEoi = false;
  specialFullyNested = false;
  /** ICW4 will come. */
  icw4 = false;
  elcr = 0;
  readonly elcrMask: number;

  constructor(elcrMask: number) {
    this.elcrMask = elcrMask;
  }

  /** Becomes what another one is. */
  assign(from: Pic): void {
    this.irr = from.irr;
    this.imr = from.imr;
    this.isr = from.isr;
    this.lastIrr = from.lastIrr;
    this.priorityAdd = from.priorityAdd;
    this.irqBase = from.irqBase;
    this.readIsr = from.readIsr;
    this.poll = from.poll;
    this.specialMask = from.specialMask;
    this.initState = from.initState;
    this.autoEoi = from.autoEoi;
    this.rotateOnAutoEoi = from.rotateOnAutoEoi;
    this.specialFullyNested = from.specialFullyNested;
    this.icw4 = from.icw4;
    this.elcr = from.elcr;
  }

  /** kvm_pic_reset: ICW1 was written, or the machine was reset. */
  reset(): void {
    const edgeIrr = this.irr & ~this.elcr;
    this.lastIrr = 0;
    this.irr &= this.elcr;
    this.imr = 0;
    this.priorityAdd = 0;
    this.specialMask = false;
    this.readIsr = false;
    if (!this.icw4) {
      this.specialFullyNested = false;
      this.autoEoi = false;
    }
    this.initState = 1;
    this.isr &= ~edgeIrr;
  }

  /** pic_set_irq1. False: an edge coalesced with one that is requested already, or the line is masked. */
  setIrq(pin: number, level: boolean): boolean {
    const mask = 1 << pin;
    let taken = true;
    if (this.elcr & mask) {
      if (level) {
        taken = (this.irr & mask) === 0;
        this.irr |= mask;
        this.lastIrr |= mask;
      } else {
        this.irr &= ~mask;
        this.lastIrr &= ~mask;
      }
    } else if (level) {
      if ((this.lastIrr & mask) === 0) {
        taken = (this.irr & mask) === 0;
        this.irr |= mask;
      }
      this.lastIrr |= mask;
    } else {
      this.lastIrr &= ~mask;
    }
    return taken && (this.imr & mask) === 0;
  }

  /** Priority of the highest bit of `mask`: 0 the highest, 8 if there is none. */
  #priority(mask: number): number {
    if (mask === 0) return 8;
    let priority = 0;
    while ((mask & (1 << ((priority + this.priorityAdd) & 7))) === 0) priority++;
    return priority;
  }

  /** The pin to be served now, -1 if there is none (pic_get_irq). */
  pending(first: boolean): number {
    const priority = this.#priority(this.irr & ~this.imr);
    if (priority === 8) return -1;
    let inService = this.isr;
    if (this.specialMask) inService &= ~this.imr;
    // In special fully nested mode the second controller's pin does not block itself.
    if (this.specialFullyNested && first) inService &= ~(1 << 2);
    return priority < this.#priority(inService) ? (priority + this.priorityAdd) & 7 : -1;
  }

  acknowledge(pin: number): void {
    const bit = 1 << pin;
    this.isr |= bit;
    // A level-triggered pin stays requested.
    if ((this.elcr & bit) === 0) this.irr &= ~bit;
    if (this.autoEoi) {
      if (this.rotateOnAutoEoi) this.priorityAdd = (pin + 1) & 7;
      this.isr &= ~bit;
    }
  }

  /** OCW2. */
  endOfInterrupt(command: number, pin: number): void {
    switch (command) {
      case 0:
      case 4:
        this.rotateOnAutoEoi = command === 4;
        return;
      case 1:
      case 5: {
        const priority = this.#priority(this.isr);
        if (priority === 8) return;
        const ended = (priority + this.priorityAdd) & 7;
        if (command === 5) this.priorityAdd = (ended + 1) & 7;
        this.isr &= ~(1 << ended);
        return;
      }
      case 3:
        this.isr &= ~(1 << pin);
        return;
      case 6:
        this.priorityAdd = (pin + 1) & 7;
        return;
      case 7:
        this.isr &= ~(1 << pin);
        this.priorityAdd = (pin + 1) & 7;
        return;
    }
  }

  write(register: number, value: number): void {
    if (register === 0) this.#command(value);
    else this.#data(value);
  }

  #command(value: number): void {
    if (value & 0x10) {
      this.icw4 = (value & 1) !== 0;
      this.reset();
      return;
    }
    if (value & 0x08) {
      if (value & 0x04) this.poll = true;
      if (value & 0x02) this.readIsr = (value & 1) !== 0;
      if (value & 0x40) this.specialMask = ((value >> 5) & 1) !== 0;
      return;
    }
    this.endOfInterrupt(value >> 5, value & 7);
  }

  #data(value: number): void {
    switch (this.initState) {
      case 0:
        this.imr = value;
        return;
      case 1:
        this.irqBase = value & 0xf8;
        this.initState = 2;
        return;
      case 2:
        this.initState = this.icw4 ? 3 : 0;
        return;
      default:
        this.specialFullyNested = ((value >> 4) & 1) !== 0;
        this.autoEoi = ((value >> 1) & 1) !== 0;
        this.initState = 0;
    }
  }

  /** A read of the command (0) or data (1) port. A poll acknowledges what is pending. */
  read(register: number, first: boolean): number {
    if (this.poll) {
      this.poll = false;
      const pin = this.pending(first);
      if (pin < 0) return 0x07;
      this.isr &= ~(1 << pin);
      this.irr &= ~(1 << pin);
      return pin | 0x80;
    }
    if (register === 1) return this.imr;
    return this.readIsr ? this.isr : this.irr;
  }
}

/** Vector of an interrupt that went away before it was acknowledged: pin 7. */
const SPURIOUS = 7;

export class PicPair {
  readonly #pics: readonly [Pic, Pic] = [new Pic(ELCR_MASKS[0]), new Pic(ELCR_MASKS[1])];
  /** INT of the first controller. */
  output = false;

  /** Becomes what another pair is. */
  assign(from: PicPair): void {
    this.#pics[0].assign(from.#pics[0]);
    this.#pics[1].assign(from.#pics[1]);
    this.output = from.output;
  }

  /** What PC firmware programs: vectors 0x08 and 0x70, every line but the cascade masked as in `masks`. */
  initialize(bases: readonly [number, number], masks: readonly [number, number]): void {
    this.#pics.forEach((pic, i) => {
      pic.write(0, 0x11);
      for (const word of [bases[i], i === 0 ? 0x04 : 0x02, 0x01, masks[i]]) pic.write(1, word);
    });
    this.#update();
  }

  /** Line 0 … 15. Returns false if the request coalesced or the line is masked. */
  setIrq(line: number, level: boolean): boolean {
    const taken = this.#pics[line >> 3].setIrq(line & 7, level);
    this.#update();
    return taken;
  }

  #update(): void {
    const [first, second] = this.#pics;
    if (second.pending(false) >= 0) {
      // The cascade is an edge for every interrupt.
      first.setIrq(2, true);
      first.setIrq(2, false);
    }
    this.output = first.pending(true) >= 0;
  }

  /** INTA: the vector, and the interrupt is in service (kvm_pic_read_irq). */
  acknowledge(): number {
    const [first, second] = this.#pics;
    const pin = first.pending(true);
    let vector = first.irqBase + SPURIOUS;
    if (pin >= 0) {
      first.acknowledge(pin);
      vector = first.irqBase + pin;
      if (pin === 2) {
        const lower = second.pending(false);
        if (lower >= 0) second.acknowledge(lower);
        vector = second.irqBase + (lower >= 0 ? lower : SPURIOUS);
      }
    }
    this.#update();
    return vector;
  }

  /** Whether this controller answers a port. */
  static handles(port: number): boolean {
    return port === 0x20 || port === 0x21 || port === 0xa0 || port === 0xa1 || port === 0x4d0 || port === 0x4d1;
  }

  /** One byte. */
  write(port: number, value: number): void {
    const second = port >= 0xa0 && port !== 0x4d0;
    const pic = this.#pics[second ? 1 : 0];
    if (port >= 0x4d0) pic.elcr = value & pic.elcrMask;
    else pic.write(port & 1, value & 0xff);
    this.#update();
  }

  read(port: number): number {
    const second = port >= 0xa0 && port !== 0x4d0;
    const pic = this.#pics[second ? 1 : 0];
    if (port >= 0x4d0) return pic.elcr;
    const value = pic.read(port & 1, !second);
    this.#update();
    return value;
  }
}
