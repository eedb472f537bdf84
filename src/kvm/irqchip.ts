/**
 * The interrupt controllers and the timer that KVM_CREATE_IRQCHIP and KVM_CREATE_PIT2 put into the kernel (arch/x86/kvm/irq.c,
 * irq_comm.c): PIC pair, I/O APIC and PIT, the routes from GSIs to their pins, and the kernel's port and memory buses.
 *
 * The routes are those a PC's VMM sets: GSI 0 goes to pin 2 of the I/O APIC, GSI 2 to none, the others to the pin of their number;
 * GSIs 0 to 15 go to the PICs, too.
 */
import type { VirtualClock } from './clock.ts';
import { Pit } from './i8254.ts';
import { PicPair } from './i8259.ts';
import { IOAPIC_BASE, IOAPIC_BYTES, IOAPIC_PINS, IoApic, type IoApicSink } from './ioapic.ts';

export interface IrqchipSetup {
  readonly clock: VirtualClock;
  readonly sink: IoApicSink;
  /** The output of the PICs went up: vCPUs that take it must look. */
  readonly picRaised: () => void;
  /** KVM_CREATE_PIT2. */
  readonly pit: boolean;
}

/** The interrupt line of the PIT. */
const PIT_GSI = 0;

export class Irqchip {
  readonly pics: PicPair = new PicPair();
  readonly ioapic: IoApic;
  readonly pit: Pit | null;
  readonly #picRaised: () => void;
  readonly #setup: IrqchipSetup;

  constructor(setup: IrqchipSetup) {
    this.#setup = setup;
    this.ioapic = new IoApic(setup.sink);
    const pulse = (): void => {
      this.setIrq(PIT_GSI, true);
      this.setIrq(PIT_GSI, false);
    };
    this.pit = setup.pit ? new Pit(setup.clock, pulse) : null;
    this.#picRaised = setup.picRaised;
  }

  /** Another one in the same state. */
  copy(): Irqchip {
    const copy = new Irqchip(this.#setup);
    copy.assign(this);
    return copy;
  }

  /** Becomes what a copy is. */
  assign(from: Irqchip): void {
    this.pics.assign(from.pics);
    this.ioapic.assign(from.ioapic);
    if (from.pit !== null) this.pit?.assign(from.pit);
  }

  /** KVM_IRQ_LINE. */
  setIrq(gsi: number, level: boolean): void {
    if (gsi < 16) this.#pic(() => this.pics.setIrq(gsi, level));
    const pin = gsi === 0 ? 2 : gsi;
    if (gsi !== 2 && pin < IOAPIC_PINS) this.ioapic.setIrq(pin, level);
  }

  #pic<T>(change: () => T): T {
    const before = this.pics.output;
    const result = change();
    if (this.pics.output && !before) this.#picRaised();
    return result;
  }

  /** Whether the kernel answers an access to this port itself. */
  handlesPort(port: number): boolean {
    return PicPair.handles(port) || (this.pit !== null && Pit.handles(port));
  }

  /** The devices are 8 bits wide: of a wider access they take the low byte and leave the rest zero. */
  writePort(port: number, value: number): void {
    if (PicPair.handles(port)) this.#pic(() => this.pics.write(port, value & 0xff));
    else this.pit?.write(port, value & 0xff);
  }

  readPort(port: number): number {
    if (PicPair.handles(port)) return this.#pic(() => this.pics.read(port));
    return this.pit?.read(port) ?? 0xff;
  }

  /** Whether a guest-physical address is the I/O APIC's. */
  static handlesMemory(gpaLo: number, gpaHi: number): boolean {
    return gpaHi === 0 && gpaLo >= IOAPIC_BASE && gpaLo < IOAPIC_BASE + IOAPIC_BYTES;
  }
}
