/**
 * COM1, a 16550A without its receiver and its interrupts: bytes go out at once, so that the transmitter is always empty; the other
 * registers keep what is written.
 */
import type { PortDevice } from './bus.ts';

const DATA = 0;
const INTERRUPT_IDENTIFICATION = 2;
const LINE_CONTROL = 3;
const LINE_STATUS = 5;
const MODEM_STATUS = 6;

const NO_INTERRUPT = 1;
const DIVISOR_LATCH = 0x80;
/** Holding and shift register are empty. */
const TRANSMITTER_EMPTY = 0x60;
/** Carrier, data set ready, clear to send. */
const CONNECTED = 0xb0;

export class Serial implements PortDevice {
  readonly name = 'COM1';
  readonly ports: readonly (readonly [number, number])[] = [[0x3f8, 0x3ff]];
  readonly #transmit: (byte: number) => void;
  readonly #registers = new Uint8Array(8);
  #divisor = 1;

  constructor(transmit: (byte: number) => void) {
    this.#transmit = transmit;
  }

  /** Becomes what another one is. */
  assign(from: Serial): void {
    this.#registers.set(from.#registers);
    this.#divisor = from.#divisor;
  }

  get #latched(): boolean {
    return (this.#registers[LINE_CONTROL] & DIVISOR_LATCH) !== 0;
  }

  read(port: number): number {
    const register = port & 7;
    if (register <= 1 && this.#latched) return (this.#divisor >> (8 * register)) & 0xff;
    switch (register) {
      case DATA:
        return 0;
      case INTERRUPT_IDENTIFICATION:
        return NO_INTERRUPT;
      case LINE_STATUS:
        return TRANSMITTER_EMPTY;
      case MODEM_STATUS:
        return CONNECTED;
      default:
        return this.#registers[register];
    }
  }

  write(port: number, _size: number, value: number): void {
    const register = port & 7;
    const byte = value & 0xff;
    if (register <= 1 && this.#latched) {
      const shift = 8 * register;
      this.#divisor = (this.#divisor & ~(0xff << shift)) | (byte << shift);
    } else if (register === DATA) this.#transmit(byte);
    else this.#registers[register] = byte;
  }
}
