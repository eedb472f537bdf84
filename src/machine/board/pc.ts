/**
 * A PC as far as kvm-unit-tests and small kernels look: COM1, fw_cfg, RTC, ACPI power management, PCI configuration space, reset ports and
 * the suite's test devices. PICs, I/O APIC and PIT are KVM's (`src/kvm/irqchip.ts`). The firmware's work is done by `firmware()`.
 */
import type { Kvm } from '../../kvm/x86.ts';
import type { GuestReport } from '../types.ts';
import { PowerManagement } from './acpi.ts';
import { Bus } from './bus.ts';
import { FwCfg } from './fw-cfg.ts';
import { Pci } from './pci.ts';
import { Rtc } from './rtc.ts';
import { Serial } from './serial.ts';
import { SystemControl } from './system-control.ts';
import { DebugExit, TestDevice, TestMemory } from './test-device.ts';
import type { Board, BoardRequest } from './types.ts';

export interface PcOptions {
  readonly vcpus: number;
  readonly memory: number;
  readonly wallClock: number;
}

/** Vectors of PIC lines 0 and 8 and the masks that PC firmware leaves. */
const PIC_BASES = [0x08, 0x70] as const;
const PIC_MASKS = [0xb8, 0x8f] as const;
/** Lines 5, 9, 10 and 11 are PCI interrupts: level-triggered. */
const ELCR = [0x00, 0x0c] as const;

export class PcBoard implements Board {
  readonly reports: readonly GuestReport[] = [];
  exitStatus = -1;
  request: BoardRequest = 'none';
  readonly #kvm: Kvm;
  readonly #options: PcOptions;
  readonly #transmit: (byte: number) => void;
  readonly #bus: Bus;
  readonly #serial: Serial;
  readonly #fwCfg: FwCfg;
  readonly #rtc: Rtc;
  readonly #power: PowerManagement;
  readonly #pci: Pci = new Pci();
  readonly #control: SystemControl;
  readonly #testDevice: TestDevice;
  readonly #testMemory: TestMemory = new TestMemory();
  #woken = false;

  constructor(kvm: Kvm, options: PcOptions, transmit: (byte: number) => void) {
    const { clock, irqchip } = kvm;
    const setIrq = (line: number, level: boolean): void => irqchip?.setIrq(line, level);
    const request = (what: BoardRequest) => (): void => {
      this.request = what;
    };
    this.#kvm = kvm;
    this.#options = options;
    this.#transmit = transmit;
    this.#power = new PowerManagement({ clock, suspend: request('suspend'), powerOff: request('power-off') });
    this.#rtc = new Rtc({
      clock,
      setIrq,
      wallClock: options.wallClock,
      alarm: () => {
        this.#woken ||= this.#power.rtcAlarm();
      },
    });
    this.#serial = new Serial(transmit);
    this.#fwCfg = new FwCfg(options.vcpus, options.memory);
    this.#control = new SystemControl(request('reset'));
    this.#testDevice = new TestDevice(setIrq);
    this.#bus = new Bus(
      [
        this.#serial,
        this.#fwCfg,
        this.#rtc,
        this.#power,
        this.#pci,
        this.#pci.testPorts,
        this.#control,
        this.#testDevice,
        new DebugExit((status) => {
          this.exitStatus = status;
        }),
      ],
      [this.#pci.testMemory, this.#testMemory],
    );
  }

  copy(): PcBoard {
    const copy = new PcBoard(this.#kvm, this.#options, this.#transmit);
    copy.assign(this);
    return copy;
  }

  assign(from: PcBoard): void {
    this.exitStatus = from.exitStatus;
    this.request = from.request;
    this.#bus.assign(from.#bus);
    this.#serial.assign(from.#serial);
    this.#fwCfg.assign(from.#fwCfg);
    this.#rtc.assign(from.#rtc);
    this.#power.assign(from.#power);
    this.#pci.assign(from.#pci);
    this.#control.assign(from.#control);
    this.#testDevice.assign(from.#testDevice);
    this.#testMemory.assign(from.#testMemory);
    this.#woken = from.#woken;
  }

  get notes(): readonly string[] {
    return this.#bus.notes;
  }

  note(text: string): void {
    this.#bus.note(text);
  }

  /** What firmware leaves of the interrupt controllers and the timer. */
  firmware(): void {
    const { irqchip } = this.#kvm;
    if (irqchip === null) return;
    irqchip.pics.initialize(PIC_BASES, PIC_MASKS);
    irqchip.writePort(0x4d0, ELCR[0]);
    irqchip.writePort(0x4d1, ELCR[1]);
    irqchip.pit?.initialize(0);
  }

  /** Lets time pass until the alarm wakes the suspended machine. False: nothing will; no other timer can. */
  sleep(): boolean {
    this.#woken = false;
    const { deadline } = this.#rtc;
    if (deadline === Number.POSITIVE_INFINITY || !this.#power.wakesByAlarm) return false;
    this.#kvm.sleepUntil(deadline);
    if (!this.#woken) return false;
    this.#power.woken();
    return true;
  }

  read(port: number, size: number): number {
    return this.#bus.readPort(port, size);
  }

  write(_vcpu: number, port: number, size: number, value: number): void {
    this.#bus.writePort(port, size, value);
  }

  readMemory(gpa: bigint, size: number): bigint {
    return this.#bus.readMemory(gpa, size);
  }

  writeMemory(gpa: bigint, size: number, value: bigint): void {
    this.#bus.writeMemory(gpa, size, value);
  }
}
