/**
 * ACPI as firmware leaves it: the tables (RSDP, RSDT, FADT, FACS, DSDT, MADT; ACPI specification 2.0, chapter 5) and the fixed hardware
 * they name: power-management event and control registers and the timer (chapter 4).
 */
import type { VirtualClock } from '../../kvm/clock.ts';
import { IOAPIC_BASE } from '../../kvm/ioapic.ts';
import { BIOS_AREA } from '../../program/multiboot.ts';
import type { PortDevice } from './bus.ts';

const PM_BASE = 0x600;
const PM1_STATUS = PM_BASE;
const PM1_ENABLE = PM_BASE + 2;
const PM1_CONTROL = PM_BASE + 4;
const PM_TIMER = PM_BASE + 8;
/** Counts of the timer in a second; it has 24 bits. */
const PM_TIMER_HZ = 3_579_545;

const RTC_EVENT = 1 << 10;
const WAKE = 1 << 15;
const SCI_ENABLED = 1;
const SLEEP_ENABLE = 1 << 13;
const SLEEP_TYPE_SHIFT = 10;
/** SLP_TYP of S3 (suspend to RAM) and S5 (off). */
const SLEEP_S3 = 1;
const SLEEP_S5 = 0;

export interface PowerHost {
  readonly clock: VirtualClock;
  /** The guest suspends to RAM, or switches the machine off. */
  readonly suspend: () => void;
  readonly powerOff: () => void;
}

export class PowerManagement implements PortDevice {
  readonly name = 'ACPI power management';
  readonly ports: readonly (readonly [number, number])[] = [[PM_BASE, PM_TIMER + 3]];
  readonly #host: PowerHost;
  #status = 0;
  #enable = 0;
  #control = SCI_ENABLED;

  constructor(host: PowerHost) {
    this.#host = host;
  }

  /** Becomes what another one is. */
  assign(from: PowerManagement): void {
    this.#status = from.#status;
    this.#enable = from.#enable;
    this.#control = from.#control;
  }

  /** The RTC's alarm: whether it wakes the machine. */
  rtcAlarm(): boolean {
    this.#status |= RTC_EVENT;
    return this.wakesByAlarm;
  }

  get wakesByAlarm(): boolean {
    return (this.#enable & RTC_EVENT) !== 0;
  }

  woken(): void {
    this.#status |= WAKE;
  }

  read(port: number, size: number): number {
    if (port >= PM_TIMER) return Math.floor((this.#host.clock.now * PM_TIMER_HZ) / 1e9) % 2 ** 24;
    const low = this.#register(port & ~1) >> (8 * (port & 1));
    return size === 4 ? low | (this.#register(port + 2) << 16) : low;
  }

  #register(port: number): number {
    if (port === PM1_STATUS) return this.#status;
    if (port === PM1_ENABLE) return this.#enable;
    return port === PM1_CONTROL ? this.#control : 0;
  }

  write(port: number, size: number, value: number): void {
    if (size === 4) {
      this.write(port, 2, value & 0xffff);
      this.write(port + 2, 2, value >>> 16);
    } else if (port === PM1_STATUS) this.#status &= ~value;
    else if (port === PM1_ENABLE) this.#enable = value & 0xffff;
    else if (port === PM1_CONTROL) {
      this.#control = (value & ~SLEEP_ENABLE) | SCI_ENABLED;
      if ((value & SLEEP_ENABLE) === 0) return;
      const type = (value >> SLEEP_TYPE_SHIFT) & 7;
      if (type === SLEEP_S3) this.#host.suspend();
      else if (type === SLEEP_S5) this.#host.powerOff();
    }
  }
}

// ---- tables ----

/** Where the tables lie: room for the MADT of as many local APICs as there can be. */
const TABLES = BIOS_AREA;
const HEADER = 36;

class Table {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  constructor(signature: string, length: number, revision: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
    this.text(0, signature);
    this.u32(4, length);
    this.bytes[8] = revision;
    this.text(10, 'KVMSCP');
    this.text(16, 'KVMSCOPE');
    this.u32(24, 1);
    this.text(28, 'KVMS');
    this.u32(32, 1);
  }
  text(at: number, text: string): void {
    this.bytes.set(new TextEncoder().encode(text), at);
  }
  u16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }
  u32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }
  /** Makes the bytes from 0 to `length` add up to 0. */
  seal(at = 9, length = this.bytes.length): Uint8Array {
    this.bytes[at] = 0;
    this.bytes[at] = -this.bytes.subarray(0, length).reduce((sum, byte) => sum + byte, 0);
    return this.bytes;
  }
}

/** Firmware ACPI control structure: holds the waking vector. It has no checksum. */
function facs(): Uint8Array {
  const table = new Uint8Array(64);
  table.set(new TextEncoder().encode('FACS'));
  new DataView(table.buffer).setUint32(4, 64, true);
  return table;
}
const FACS_WAKING_VECTOR = 12;

function fadt(facsAt: number, dsdtAt: number): Uint8Array {
  const table = new Table('FACP', 116, 1);
  table.u32(36, facsAt);
  table.u32(40, dsdtAt);
  table.u16(46, 9); // SCI_INT
  table.u32(56, PM1_STATUS);
  table.u32(64, PM1_CONTROL);
  table.u32(76, PM_TIMER);
  table.bytes[88] = 4; // PM1_EVT_LEN
  table.bytes[89] = 2; // PM1_CNT_LEN
  table.bytes[91] = 4; // PM_TMR_LEN
  table.u16(96, 0xfff); // P_LVL2_LAT: no C2
  table.u16(98, 0xfff);
  table.bytes[108] = 0x32; // CENTURY
  table.u32(112, (1 << 0) | (1 << 2)); // WBINVD works, C1 is HLT; the timer has 24 bits
  return table.seal();
}

/** Multiple APIC description table: the local APICs, the I/O APIC, and ISA line 0 at its pin 2. */
function madt(apicIds: readonly number[]): Uint8Array {
  const x2apic = (id: number): boolean => id >= 0xff;
  const locals = apicIds.reduce((sum, id) => sum + (x2apic(id) ? 16 : 8), 0);
  const table = new Table('APIC', HEADER + 8 + locals + 12 + 10, 1);
  table.u32(36, 0xfee00000);
  table.u32(40, 1); // PCAT_COMPAT: there are 8259s
  let at = HEADER + 8;
  apicIds.forEach((id, index) => {
    if (x2apic(id)) {
      table.bytes.set([9, 16], at);
      table.u32(at + 4, id);
      table.u32(at + 8, 1);
      table.u32(at + 12, index);
      at += 16;
    } else {
      table.bytes.set([0, 8, index & 0xff, id, 1, 0, 0, 0], at);
      at += 8;
    }
  });
  table.bytes.set([1, 12, 0, 0], at);
  table.u32(at + 4, IOAPIC_BASE);
  table.bytes.set([2, 10, 0, 0, 2, 0, 0, 0, 0, 0], at + 12);
  return table.seal();
}

function rsdp(rsdtAt: number): Uint8Array {
  const bytes = new Uint8Array(20);
  bytes.set(new TextEncoder().encode('RSD PTR '));
  bytes.set(new TextEncoder().encode('KVMSCP'), 9);
  new DataView(bytes.buffer).setUint32(16, rsdtAt, true);
  bytes[8] = -bytes.reduce((sum, byte) => sum + byte, 0);
  return bytes;
}

export interface AcpiTables {
  readonly segments: readonly { readonly address: number; readonly bytes: Uint8Array }[];
  /** Guest-physical address of the FACS's 32-bit firmware waking vector. */
  readonly wakingVector: number;
}

/** The tables for these local APICs, and where they go. */
export function acpiTables(apicIds: readonly number[]): AcpiTables {
  const segments: { address: number; bytes: Uint8Array }[] = [];
  let next = TABLES;
  const place = (bytes: Uint8Array): number => {
    const address = (next + 63) & ~63;
    segments.push({ address, bytes });
    next = address + bytes.length;
    return address;
  };
  const facsAt = place(facs());
  // A namespace without objects: SLP_TYP of S3 is what the control register takes.
  const dsdtAt = place(new Table('DSDT', HEADER, 1).seal());
  const tables = [fadt(facsAt, dsdtAt), madt(apicIds)].map(place);
  const rsdt = new Table('RSDT', HEADER + 4 * tables.length, 1);
  tables.forEach((address, i) => {
    rsdt.u32(HEADER + 4 * i, address);
  });
  place(rsdp(place(rsdt.seal())));
  return { segments, wakingVector: facsAt + FACS_WAKING_VECTOR };
}
