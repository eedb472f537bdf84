/**
 * The board of guest programs. It needs no more than a way to print, to report values and to end the run; everything else reads all-ones,
 * swallows writes and is noted once by name.
 *
 *     port    size  what
 *     0x3f8   1     COM1: a byte for the console (serial.ts)
 *     0xe9    any   debug console: bytes for the console, lowest first; reads 0xe9
 *     0xe8    any   report port: appends a value to `RunResult.reports`
 *     0xf4    any   debug exit: ends the run, the value is the status
 */
import { Log } from '../log.ts';
import type { GuestReport } from '../types.ts';
import { Bus } from './bus.ts';
import { Serial } from './serial.ts';
import type { Board, BoardRequest } from './types.ts';

const PORT = { report: 0xe8, debugConsole: 0xe9, debugExit: 0xf4 } as const;

/** Number of reports that are kept. */
const REPORT_LIMIT = 1 << 20;

export class BareBoard implements Board {
  readonly #reports = new Log<GuestReport>();
  exitStatus = -1;
  readonly request: BoardRequest = 'none';
  readonly #print: (byte: number) => void;
  readonly #serial: Serial;
  readonly #bus: Bus;

  constructor(print: (byte: number) => void) {
    this.#print = print;
    this.#serial = new Serial(print);
    this.#bus = new Bus([this.#serial]);
  }

  copy(): BareBoard {
    const copy = new BareBoard(this.#print);
    copy.assign(this);
    return copy;
  }

  assign(from: BareBoard): void {
    this.#reports.assign(from.#reports);
    this.exitStatus = from.exitStatus;
    this.#serial.assign(from.#serial);
    this.#bus.assign(from.#bus);
  }

  get reports(): readonly GuestReport[] {
    return this.#reports.items;
  }

  get notes(): readonly string[] {
    return this.#bus.notes;
  }

  note(text: string): void {
    this.#bus.note(text);
  }

  write(vcpu: number, port: number, size: number, value: number): void {
    switch (port) {
      case PORT.report:
        if (this.reports.length < REPORT_LIMIT) this.#reports.items.push({ vcpu, value });
        else this.note(`reports after the first ${REPORT_LIMIT} are dropped`);
        return;
      case PORT.debugConsole:
        for (let i = 0; i < size; i++) this.#print((value >>> (8 * i)) & 0xff);
        return;
      case PORT.debugExit:
        this.exitStatus = value;
        return;
      default:
        this.#bus.writePort(port, size, value);
    }
  }

  read(port: number, size: number): number {
    return port === PORT.debugConsole ? PORT.debugConsole : this.#bus.readPort(port, size);
  }

  readMemory(gpa: bigint, size: number): bigint {
    return this.#bus.readMemory(gpa, size);
  }

  writeMemory(gpa: bigint, size: number, value: bigint): void {
    this.#bus.writeMemory(gpa, size, value);
  }
}
