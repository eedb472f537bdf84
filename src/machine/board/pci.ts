/**
 * PCI configuration space by mechanism 1 (PCI local bus specification 3.0, 3.2.2.3.2) at ports 0xCF8 and 0xCFC, and what sits on bus 0: host
 * bridge, ISA bridge, power management, and the test device of kvm-unit-tests with a memory and a port BAR.
 */
import type { MemoryDevice, PortDevice } from './bus.ts';
import { allOnes } from './bus.ts';

const ADDRESS = 0xcf8;
const DATA = 0xcfc;
const ENABLED = 0x80000000;

const COMMAND = 0x04;
const BAR0 = 0x10;
const BARS = 6;
const BAR_IO = 1;

interface BarSetup {
  readonly bytes: number;
  readonly io: boolean;
  readonly address: number;
}

/** Configuration space of one function. */
class PciFunction {
  readonly config = new Uint8Array(256);
  readonly #view = new DataView(this.config.buffer);
  readonly #bars: readonly BarSetup[];

  constructor(vendor: number, device: number, classCode: number, bars: readonly BarSetup[] = []) {
    this.#view.setUint16(0, vendor, true);
    this.#view.setUint16(2, device, true);
    this.#view.setUint32(8, classCode << 8, true);
    this.#bars = bars;
    bars.forEach(({ address, io }, n) => {
      this.#view.setUint32(BAR0 + 4 * n, address | (io ? BAR_IO : 0), true);
    });
    if (bars.length > 0) this.config[COMMAND] = 3;
  }

  /** Becomes what another one is. */
  assign(from: PciFunction): void {
    this.config.set(from.config);
  }

  /** Address of a BAR now. */
  bar(n: number): number {
    return (this.#view.getUint32(BAR0 + 4 * n, true) & ~0xf) >>> 0;
  }

  write(at: number, value: number): void {
    const bar = (at - BAR0) >> 2;
    if (at >= BAR0 && bar < BARS) {
      const setup = this.#bars[bar];
      if (setup === undefined) return;
      this.config[at] = value;
      const address = this.#view.getUint32(BAR0 + 4 * bar, true) & ~(setup.bytes - 1);
      this.#view.setUint32(BAR0 + 4 * bar, (address | (setup.io ? BAR_IO : 0)) >>> 0, true);
    } else if (at === COMMAND || at === COMMAND + 1 || at === 0x3c) this.config[at] = value;
  }
}

/** Header of the test device (its documentation: docs/specs/pci-testdev of QEMU): what a BAR shows of the test chosen. */
const TEST = 0;
const HEADER_WIDTH = 1;
const HEADER_OFFSET = 4;
const HEADER_DATA = 8;
const HEADER_COUNT = 12;
const HEADER_NAME = 16;
const TEST_NAMES = ['no-eventfd', 'wildcard-eventfd', 'datamatch-eventfd'];
const TEST_DATA = 0xfa;
/** Where in the BAR a test writes. */
const TEST_OFFSET = 0x800;
const TEST_PORT_OFFSET = 0x80;

/** One BAR of the test device. `count` tells how often the chosen test has written; with an eventfd nobody counts. */
class TestBar {
  readonly #io: boolean;
  #test = 0;
  #count = 0;
  #countedAtStart = 0;

  constructor(io: boolean) {
    this.#io = io;
  }

  /** Becomes what another one is. */
  assign(from: TestBar): void {
    this.#test = from.#test;
    this.#count = from.#count;
    this.#countedAtStart = from.#countedAtStart;
  }

  #header(): Uint8Array {
    const bytes = new Uint8Array(HEADER_NAME + 32);
    const name = TEST_NAMES[this.#test];
    if (name === undefined) return bytes;
    const view = new DataView(bytes.buffer);
    bytes[TEST] = this.#test;
    bytes[HEADER_WIDTH] = 1;
    view.setUint32(HEADER_OFFSET, this.#io ? TEST_PORT_OFFSET : TEST_OFFSET, true);
    view.setUint32(HEADER_DATA, TEST_DATA, true);
    view.setUint32(HEADER_COUNT, this.#count - this.#countedAtStart, true);
    bytes.set(new TextEncoder().encode(`${this.#io ? 'portio' : 'mmio'}-${name}`), HEADER_NAME);
    return bytes;
  }

  read(offset: number, size: number): bigint {
    const header = this.#header();
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(header[offset + i] ?? 0);
    return value;
  }

  write(offset: number, value: number): void {
    if (offset === TEST) {
      this.#test = value & 0xff;
      this.#countedAtStart = this.#count;
    } else if (this.#test === 0 && offset === (this.#io ? TEST_PORT_OFFSET : TEST_OFFSET)) this.#count++;
  }
}

const TEST_DEVICE_SLOT = 2;
const MEMORY_BAR: BarSetup = { bytes: 0x1000, io: false, address: 0xfebf1000 };
const PORT_BAR: BarSetup = { bytes: 0x100, io: true, address: 0xc000 };

export class Pci implements PortDevice {
  readonly name = 'PCI configuration';
  readonly ports: readonly (readonly [number, number])[] = [
    [ADDRESS, ADDRESS],
    [DATA, DATA + 3],
  ];
  /** The test device's BARs. */
  readonly testPorts: PortDevice;
  readonly testMemory: MemoryDevice;
  readonly #functions: ReadonlyMap<number, PciFunction>;
  readonly #testBars: readonly [TestBar, TestBar];
  #address = 0;

  constructor() {
    const testDevice = new PciFunction(0x1b36, 0x0005, 0xff0000, [MEMORY_BAR, PORT_BAR]);
    this.#functions = new Map([
      [0 << 3, new PciFunction(0x8086, 0x1237, 0x060000)],
      [1 << 3, new PciFunction(0x8086, 0x7000, 0x060100)],
      [(1 << 3) | 3, new PciFunction(0x8086, 0x7113, 0x068000)],
      [TEST_DEVICE_SLOT << 3, testDevice],
    ]);
    const ports = new TestBar(true);
    const memory = new TestBar(false);
    this.#testBars = [ports, memory];
    this.testPorts = {
      name: 'pci-testdev',
      get ports() {
        return [[testDevice.bar(1), testDevice.bar(1) + PORT_BAR.bytes - 1] as const];
      },
      read: (port, size) => Number(ports.read(port - testDevice.bar(1), size)),
      write: (port, _size, value) => ports.write(port - testDevice.bar(1), value),
    };
    this.testMemory = {
      name: 'pci-testdev',
      bytes: MEMORY_BAR.bytes,
      get base() {
        return testDevice.bar(0);
      },
      read: (offset, size) => memory.read(offset, size),
      write: (offset, _size, value) => memory.write(offset, Number(value & 0xffn)),
    };
  }

  /** Becomes what another one is. */
  assign(from: Pci): void {
    for (const [at, pciFunction] of this.#functions) pciFunction.assign(from.#functions.get(at) as PciFunction);
    for (const [n, bar] of this.#testBars.entries()) bar.assign(from.#testBars[n]);
    this.#address = from.#address;
  }

  read(port: number, size: number): number {
    if (port === ADDRESS) return size === 4 ? this.#address : allOnes(size);
    const at = (this.#address & 0xfc) + (port - DATA);
    const config = this.#selected()?.config;
    if (config === undefined) return allOnes(size);
    let value = 0;
    for (let i = 0; i < size; i++) value |= (config[at + i] ?? 0) << (8 * i);
    return value >>> 0;
  }

  write(port: number, size: number, value: number): void {
    if (port === ADDRESS) {
      if (size === 4) this.#address = value;
      return;
    }
    const at = (this.#address & 0xfc) + (port - DATA);
    for (let i = 0; i < size; i++) this.#selected()?.write(at + i, (value >>> (8 * i)) & 0xff);
  }

  #selected(): PciFunction | undefined {
    if ((this.#address & ENABLED) === 0 || ((this.#address >>> 16) & 0xff) !== 0) return undefined;
    return this.#functions.get((this.#address >>> 8) & 0xff);
  }
}
