/**
 * The devices on the port bus. A board this small needs no more than a way to print, to report values and to end the run;
 * everything else reads all-ones, swallows writes and is noted once by name.
 *
 *     port    size  what
 *     0x3f8   1     COM1 transmit: a byte for the console; 0x3fd reads 0x60 (transmitter empty)
 *     0xe9    1     debug console: a byte for the console, reads 0xe9
 *     0xe8    any   report port: appends a value to `RunResult.reports`
 *     0xf4    any   debug exit: ends the run, the value is the status
 *
 * COM1 has no receiver and no interrupts: its other registers keep what was written.
 */
import type { GuestReport } from './types.ts';

export const PORT = {
  report: 0xe8,
  debugConsole: 0xe9,
  debugExit: 0xf4,
  com1: 0x3f8,
  com1LineStatus: 0x3fd,
  com1Last: 0x3ff,
} as const;

const LINE_STATUS_TRANSMITTER_EMPTY = 0x60;
const LINE_CONTROL = 3;
const LINE_CONTROL_DLAB = 0x80;

/** Bytes of console text and number of reports and notes that are kept. */
const CONSOLE_LIMIT = 1 << 20;
const REPORT_LIMIT = 1 << 20;
const NOTE_LIMIT = 256;

export class Devices {
  readonly reports: GuestReport[] = [];
  readonly notes: string[] = [];
  readonly #console: string[] = [];
  readonly #com1 = new Uint8Array(8);
  readonly #seen = new Set<string>();
  /** Status written to the debug-exit port, -1 before. */
  exitStatus = -1;

  get console(): string {
    return this.#console.join('');
  }

  /** OUT: `value` is unsigned, `size` 1, 2 or 4 bytes. */
  write(vcpu: number, port: number, size: number, value: number): void {
    switch (port) {
      case PORT.report:
        if (this.reports.length < REPORT_LIMIT) this.reports.push({ vcpu, value });
        else this.note(`reports after the first ${REPORT_LIMIT} are dropped`);
        return;
      case PORT.debugConsole:
        this.#print(value, size);
        return;
      case PORT.debugExit:
        this.exitStatus = value;
        return;
    }
    if (port >= PORT.com1 && port <= PORT.com1Last && size === 1) {
      const register = port - PORT.com1;
      const divisorLatch = (this.#com1[LINE_CONTROL] & LINE_CONTROL_DLAB) !== 0;
      if (register === 0 && !divisorLatch) this.#print(value, 1);
      else if (!(register <= 1 && divisorLatch)) this.#com1[register] = value;
      return;
    }
    this.note(`port 0x${port.toString(16)}: nobody there, writes are dropped`);
  }

  /** IN: the value read, unsigned. */
  read(port: number, size: number): number {
    if (port === PORT.debugConsole) return PORT.debugConsole;
    if (port === PORT.com1LineStatus) return LINE_STATUS_TRANSMITTER_EMPTY;
    // No byte received, no interrupt pending.
    if (port === PORT.com1) return 0;
    if (port === PORT.com1 + 2) return 1;
    if (port > PORT.com1 && port <= PORT.com1Last && size === 1) return this.#com1[port - PORT.com1];
    this.note(`port 0x${port.toString(16)}: nobody there, reads give all-ones`);
    return allOnes(size);
  }

  /** Remembers something worth knowing, once. */
  note(text: string): void {
    if (this.#seen.has(text) || this.notes.length >= NOTE_LIMIT) return;
    this.#seen.add(text);
    this.notes.push(text);
  }

  /** Characters are bytes of the value, lowest first (ISO 8859-1). */
  #print(value: number, size: number): void {
    if (this.#console.length >= CONSOLE_LIMIT) {
      this.note(`console output after the first ${CONSOLE_LIMIT} bytes is dropped`);
      return;
    }
    for (let i = 0; i < size; i++) this.#console.push(String.fromCharCode((value >>> (8 * i)) & 0xff));
  }
}

/** What a bus read of `size` bytes (1, 2, 4) gives when nobody answers. */
export const allOnes = (size: number): number => (size >= 4 ? 0xffffffff : (1 << (8 * size)) - 1);
