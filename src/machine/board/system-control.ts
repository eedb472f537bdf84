/** Ports through which a PC is reset: the keyboard controller's pulse, fast A20 and reset (0x92), and the PCI reset register (0xCF9). */
import type { PortDevice } from './bus.ts';

const KEYBOARD_DATA = 0x60;
const KEYBOARD_COMMAND = 0x64;
/** Read, write and execute of the controller's output port; pulse of its reset line. */
const READ_OUTPUT_PORT = 0xd0;
const WRITE_OUTPUT_PORT = 0xd1;
const PULSE_RESET = 0xfe;
const OUTPUT_FULL = 1;
const SYSTEM_FLAG = 4;
const SYSTEM_CONTROL_A = 0x92;
const RESET_CONTROL = 0xcf9;
/** A20 on, no reset. */
const NOT_RESET = 1;
const A20 = 2;

export class SystemControl implements PortDevice {
  readonly name = 'system control';
  readonly ports: readonly (readonly [number, number])[] = [
    [KEYBOARD_DATA, KEYBOARD_DATA],
    [KEYBOARD_COMMAND, KEYBOARD_COMMAND],
    [SYSTEM_CONTROL_A, SYSTEM_CONTROL_A],
    [RESET_CONTROL, RESET_CONTROL],
  ];
  readonly #reset: () => void;
  #command = 0;
  #answer = -1;
  #controlA = A20;
  #resetControl = 0;

  constructor(reset: () => void) {
    this.#reset = reset;
  }

  /** Becomes what another one is. */
  assign(from: SystemControl): void {
    this.#command = from.#command;
    this.#answer = from.#answer;
    this.#controlA = from.#controlA;
    this.#resetControl = from.#resetControl;
  }

  read(port: number): number {
    switch (port) {
      case KEYBOARD_COMMAND:
        return SYSTEM_FLAG | (this.#answer >= 0 ? OUTPUT_FULL : 0);
      case KEYBOARD_DATA: {
        const answer = Math.max(0, this.#answer);
        this.#answer = -1;
        return answer;
      }
      case SYSTEM_CONTROL_A:
        return this.#controlA;
      default:
        return this.#resetControl;
    }
  }

  write(port: number, _size: number, value: number): void {
    const byte = value & 0xff;
    switch (port) {
      case KEYBOARD_COMMAND:
        this.#command = byte;
        if (byte === READ_OUTPUT_PORT) this.#answer = NOT_RESET | A20;
        // F0 to FF pulse the lines whose bit is 0; bit 0 is the reset.
        if (byte >= 0xf0 && (byte & 1) === (PULSE_RESET & 1)) this.#reset();
        return;
      case KEYBOARD_DATA:
        if (this.#command === WRITE_OUTPUT_PORT && (byte & NOT_RESET) === 0) this.#reset();
        this.#command = 0;
        return;
      case SYSTEM_CONTROL_A:
        if ((byte & 1) !== 0 && (this.#controlA & 1) === 0) this.#reset();
        this.#controlA = byte;
        return;
      default:
        this.#resetControl = byte & 2;
        if ((byte & 4) !== 0) this.#reset();
    }
  }
}
