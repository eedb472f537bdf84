/**
 * fw_cfg: what a VMM tells firmware (and kvm-unit-tests), at ports 0x510 (selector, 16 bits) and 0x511 (data, byte by byte). Items that
 * do not exist read as zeros.
 */
import type { PortDevice } from './bus.ts';

const SELECTOR = 0x510;
const DATA = 0x511;

// Keys of the items.
const SIGNATURE = 0x00;
const ID = 0x01;
const RAM_SIZE = 0x03;
const NB_CPUS = 0x05;
const MAX_CPUS = 0x0f;
/** Without the directory of files: it is empty. */
const FILE_DIRECTORY = 0x19;

const littleEndian = (value: number, bytes: number): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);

export class FwCfg implements PortDevice {
  readonly name = 'fw_cfg';
  readonly ports: readonly (readonly [number, number])[] = [[SELECTOR, DATA]];
  readonly #items: ReadonlyMap<number, Uint8Array>;
  #key = 0;
  #at = 0;

  /** `memory`: bytes of RAM. */
  constructor(vcpus: number, memory: number) {
    this.#items = new Map([
      [SIGNATURE, new TextEncoder().encode('QEMU')],
      [ID, littleEndian(1, 4)],
      [RAM_SIZE, littleEndian(memory, 8)],
      [NB_CPUS, littleEndian(vcpus, 2)],
      [MAX_CPUS, littleEndian(vcpus, 2)],
      [FILE_DIRECTORY, littleEndian(0, 4)],
    ]);
  }

  /** Becomes what another one is. */
  assign(from: FwCfg): void {
    this.#key = from.#key;
    this.#at = from.#at;
  }

  read(port: number): number {
    if (port === SELECTOR) return 0;
    return this.#items.get(this.#key)?.[this.#at++] ?? 0;
  }

  write(port: number, size: number, value: number): void {
    if (port !== SELECTOR || size !== 2) return;
    this.#key = value;
    this.#at = 0;
  }
}
