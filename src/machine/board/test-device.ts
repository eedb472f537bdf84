/**
 * The devices that kvm-unit-tests brings along: pc-testdev (a 32-bit scratch register at port 0xE0, a page flush at 0xE4, interrupt lines at
 * 0x2000 + line, 64 KiB of memory at 0xFF000000 that is not RAM) and isa-debug-exit at port 0xF4.
 */
import type { MemoryDevice, PortDevice } from './bus.ts';

const SCRATCH = 0xe0;
const FLUSH_PAGE = 0xe4;
const LINES = 0x2000;
const LINE_COUNT = 24;
const MEMORY_BASE = 0xff000000;
const MEMORY_BYTES = 0x10000;
const DEBUG_EXIT = 0xf4;

/** Scratch register and page flush. The latter makes KVM forget a page; ours has nothing to forget. */
export class TestDevice implements PortDevice {
  readonly name = 'pc-testdev';
  readonly ports: readonly (readonly [number, number])[] = [
    [SCRATCH, SCRATCH + 3],
    [FLUSH_PAGE, FLUSH_PAGE + 3],
    [LINES, LINES + LINE_COUNT - 1],
  ];
  readonly #setIrq: (line: number, level: boolean) => void;
  #scratch = 0;

  constructor(setIrq: (line: number, level: boolean) => void) {
    this.#setIrq = setIrq;
  }

  /** Becomes what another one is. */
  assign(from: TestDevice): void {
    this.#scratch = from.#scratch;
  }

  read(port: number): number {
    return port < FLUSH_PAGE ? this.#scratch >>> (8 * (port - SCRATCH)) : 0;
  }

  write(port: number, size: number, value: number): void {
    if (port >= LINES) this.#setIrq(port - LINES, value !== 0);
    else if (port < FLUSH_PAGE) {
      const shift = 8 * (port - SCRATCH);
      const mask = size === 4 ? 0xffffffff : ((1 << (8 * size)) - 1) << shift;
      this.#scratch = ((this.#scratch & ~mask) | ((value << shift) & mask)) >>> 0;
    }
  }
}

/** Memory that every access leaves the guest for. */
export class TestMemory implements MemoryDevice {
  readonly name = 'pc-testdev memory';
  readonly base: number = MEMORY_BASE;
  readonly bytes: number = MEMORY_BYTES;
  readonly #memory = new Uint8Array(MEMORY_BYTES);

  /** Becomes what another one is. */
  assign(from: TestMemory): void {
    this.#memory.set(from.#memory);
  }

  read(offset: number, size: number): bigint {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#memory[(offset + i) % MEMORY_BYTES]);
    return value;
  }

  write(offset: number, size: number, value: bigint): void {
    for (let i = 0; i < size; i++) this.#memory[(offset + i) % MEMORY_BYTES] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
}

export class DebugExit implements PortDevice {
  readonly name = 'isa-debug-exit';
  readonly ports: readonly (readonly [number, number])[] = [[DEBUG_EXIT, DEBUG_EXIT + 3]];
  readonly #exit: (status: number) => void;

  constructor(exit: (status: number) => void) {
    this.#exit = exit;
  }

  read(): number {
    return 0;
  }

  write(_port: number, _size: number, value: number): void {
    this.#exit(value);
  }
}
