/** The port and memory buses of a board: who answers an access that KVM hands to the VMM, and a note on whom nobody answers. */

import { Log } from '../log.ts';

/** Something at I/O ports. Values are unsigned; sizes are 1, 2 or 4 bytes. */
export interface PortDevice {
  /** For notes. */
  readonly name: string;
  /** First and last port of each range. */
  readonly ports: readonly (readonly [number, number])[];
  read(port: number, size: number): number;
  write(port: number, size: number, value: number): void;
}

/** Something at guest-physical addresses outside RAM. Sizes are 1, 2, 4 or 8 bytes. */
export interface MemoryDevice {
  readonly name: string;
  /** Guest-physical address of its first byte, and its length in bytes. They may change. */
  readonly base: number;
  readonly bytes: number;
  read(offset: number, size: number): bigint;
  write(offset: number, size: number, value: bigint): void;
}

/** What a bus read of `size` bytes (1, 2, 4) gives when nobody answers. */
export const allOnes = (size: number): number => (size >= 4 ? 0xffffffff : (1 << (8 * size)) - 1);

const NOTE_LIMIT = 256;

export class Bus {
  readonly #notes = new Log<string>();
  /** Port * 2, + 1 if written, of the access that was noted last: a guest that repeats it costs no text. */
  #noted = -1;
  readonly #ports: ReadonlyMap<number, PortDevice>;
  readonly #memory: readonly MemoryDevice[];

  constructor(ports: readonly PortDevice[], memory: readonly MemoryDevice[] = []) {
    const byPort = new Map<number, PortDevice>();
    for (const device of ports) {
      for (const [first, last] of device.ports) {
        for (let port = first; port <= last; port++) if (!byPort.has(port)) byPort.set(port, device);
      }
    }
    this.#ports = byPort;
    this.#memory = memory;
  }

  get notes(): readonly string[] {
    return this.#notes.items;
  }

  /** Becomes what another bus is; its devices are the board's business. */
  assign(from: Bus): void {
    this.#notes.assign(from.#notes);
    this.#noted = from.#noted;
  }

  /** IN. */
  readPort(port: number, size: number): number {
    const device = this.#ports.get(port);
    if (device !== undefined) return (device.read(port, size) & allOnes(size)) >>> 0;
    this.#notePort(port, 0, 'reads give all-ones');
    return allOnes(size);
  }

  /** OUT. */
  writePort(port: number, size: number, value: number): void {
    const device = this.#ports.get(port);
    if (device !== undefined) device.write(port, size, (value & allOnes(size)) >>> 0);
    else this.#notePort(port, 1, 'writes are dropped');
  }

  #notePort(port: number, written: 0 | 1, what: string): void {
    if (this.#noted === port * 2 + written) return;
    this.#noted = port * 2 + written;
    this.note(`port 0x${port.toString(16)}: nobody there, ${what}`);
  }

  #memoryDevice(gpa: bigint): MemoryDevice | undefined {
    return this.#memory.find(({ base, bytes }) => gpa >= base && gpa < base + bytes);
  }

  readMemory(gpa: bigint, size: number): bigint {
    const device = this.#memoryDevice(gpa);
    if (device !== undefined) return BigInt.asUintN(8 * size, device.read(Number(gpa) - device.base, size));
    this.note(`${page(gpa)}: nobody there, reads give all-ones`);
    return (1n << BigInt(8 * size)) - 1n;
  }

  writeMemory(gpa: bigint, size: number, value: bigint): void {
    const device = this.#memoryDevice(gpa);
    if (device !== undefined) device.write(Number(gpa) - device.base, size, value);
    else this.note(`${page(gpa)}: nobody there, writes are dropped`);
  }

  /** Remembers something worth knowing, once. */
  note(text: string): void {
    const { items } = this.#notes;
    if (items.length < NOTE_LIMIT && !items.includes(text)) items.push(text);
  }
}

const page = (gpa: bigint): string => `guest-physical page 0x${(gpa & ~0xfffn).toString(16)}`;
