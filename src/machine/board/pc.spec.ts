import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../kvm/clock.ts';
import { createVm } from '../machine.ts';
import { acpiTables, PowerManagement } from './acpi.ts';
import { Bus, type PortDevice } from './bus.ts';
import { FwCfg } from './fw-cfg.ts';
import { Pci } from './pci.ts';
import { Rtc } from './rtc.ts';
import { Serial } from './serial.ts';
import { SystemControl } from './system-control.ts';
import { TestDevice, TestMemory } from './test-device.ts';

describe('COM1', () => {
  it('transmits at once, keeps its registers, and holds the divisor behind DLAB', () => {
    let sent = '';
    const serial = new Serial((byte) => {
      sent += String.fromCharCode(byte);
    });
    expect(serial.read(0x3fd)).toBe(0x60);
    serial.write(0x3fb, 1, 0x80);
    serial.write(0x3f8, 1, 0x0c);
    serial.write(0x3f9, 1, 0x01);
    expect([serial.read(0x3f8), serial.read(0x3f9)]).toEqual([0x0c, 0x01]);
    serial.write(0x3fb, 1, 0x03);
    serial.write(0x3f8, 1, 0x41);
    expect([sent, serial.read(0x3fb), serial.read(0x3fa), serial.read(0x3f8)]).toEqual(['A', 3, 1, 0]);
  });
});

describe('fw_cfg', () => {
  const item = (device: FwCfg, key: number, bytes: number): number[] => {
    device.write(0x510, 2, key);
    return Array.from({ length: bytes }, () => device.read(0x511));
  };
  it('tells the signature, RAM size and number of CPUs, and zeros of what it does not have', () => {
    const device = new FwCfg(300, 0x8000000);
    expect(item(device, 0, 4)).toEqual([0x51, 0x45, 0x4d, 0x55]);
    expect(item(device, 3, 9)).toEqual([0, 0, 0, 8, 0, 0, 0, 0, 0]);
    expect(item(device, 5, 2)).toEqual([44, 1]);
    expect(item(device, 0x42, 2)).toEqual([0, 0]);
  });
});

describe('the RTC', () => {
  const make = () => {
    const clock = new VirtualClock();
    const events: string[] = [];
    const rtc = new Rtc({
      clock,
      wallClock: Date.UTC(2024, 1, 29, 23, 59, 58) / 1000,
      setIrq: (line, level) => events.push(`${line} ${level}`),
      alarm: () => events.push('alarm'),
    });
    const read = (register: number): number => {
      rtc.write(0x70, 1, register);
      return rtc.read(0x71);
    };
    const write = (register: number, value: number): void => {
      rtc.write(0x70, 1, register);
      rtc.write(0x71, 1, value);
    };
    return { clock, events, rtc, read, write };
  };
  it('shows time and date in BCD, and they go on with virtual time', () => {
    const { clock, read, write } = make();
    expect([0, 2, 4, 6, 7, 8, 9, 0x32].map(read)).toEqual([0x58, 0x59, 0x23, 5, 0x29, 0x02, 0x24, 0x20]);
    clock.advance(2e9);
    expect([0, 2, 4, 7, 8].map(read)).toEqual([0, 0, 0, 0x01, 0x03]);
    write(11, 0x06);
    clock.advance(45e9);
    expect(read(0)).toBe(45);
  });
  it('is updating at the end of each second', () => {
    const { clock, read } = make();
    expect(read(10)).toBe(0x26);
    clock.advance(1e9 - 1000);
    expect(read(10)).toBe(0xa6);
    clock.advance(1000);
    expect(read(10)).toBe(0x26);
  });
  it('an alarm of don’t-care bytes goes off at the next second and raises line 8 until register C is read', () => {
    const { clock, events, read, write } = make();
    for (const register of [1, 3, 5]) write(register, 0xc0);
    write(11, 0x22);
    expect(clock.next).toBe(1e9);
    clock.advance(1e9);
    clock.due()?.expire();
    expect(events).toEqual(['8 true', 'alarm']);
    expect([read(12), read(12)]).toEqual([0xa0, 0]);
  });
  it('an alarm goes off at its time of day, today or tomorrow', () => {
    const { clock, write } = make();
    for (const [register, value] of [
      [1, 0x05],
      [3, 0x59],
      [5, 0xff],
    ])
      write(register, value);
    write(11, 0x22);
    // 23:59:58 now: 00:59:05.
    expect(clock.next).toBe((2 + 3540 + 5) * 1e9);
    write(5, 0x23);
    expect(clock.next).toBe((86_400 - 53) * 1e9);
    write(3, 0xc0);
    // 23:00:05.
    expect(clock.next).toBe((2 + 23 * 3600 + 5) * 1e9);
  });
  it('an alarm byte that no time has arms nothing', () => {
    const { clock, write } = make();
    write(11, 0x22);
    write(1, 0x3f);
    expect(clock.next).toBe(Number.POSITIVE_INFINITY);
    write(1, 0xc0);
    write(5, 0x24);
    expect(clock.next).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('ACPI', () => {
  it('the tables of 4096 processors stay below 1 MiB, between the ranges of the memory map', () => {
    const { segments } = acpiTables(Array.from({ length: 4096 }, (_, index) => 0x10000 + index));
    for (const { address, bytes } of segments) {
      expect(address).toBeGreaterThanOrEqual(0xe0000);
      expect(address + bytes.length).toBeLessThanOrEqual(0xffff0);
    }
  });
  it('tables add up to zero and lead from the RSDP to FADT, FACS and MADT', () => {
    const { segments, wakingVector } = acpiTables([0, 1, 300]);
    const find = (signature: string) => {
      const found = segments.find(
        ({ bytes }) => new TextDecoder().decode(bytes.subarray(0, signature.length)) === signature,
      );
      if (found === undefined) throw new Error(`no ${signature}`);
      return { ...found, view: new DataView(found.bytes.buffer) };
    };
    for (const signature of ['RSD PTR ', 'RSDT', 'FACP', 'APIC', 'DSDT']) {
      expect(
        find(signature).bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0),
        signature,
      ).toBe(0);
    }
    const [rsdp, rsdt, fadt, madt, facs] = ['RSD PTR ', 'RSDT', 'FACP', 'APIC', 'FACS'].map(find);
    expect(rsdp.address % 16).toBe(0);
    expect(rsdp.view.getUint32(16, true)).toBe(rsdt.address);
    expect([rsdt.view.getUint32(36, true), rsdt.view.getUint32(40, true)]).toEqual([fadt.address, madt.address]);
    expect(fadt.view.getUint32(36, true)).toBe(facs.address);
    expect([fadt.view.getUint32(56, true), fadt.view.getUint32(64, true), fadt.view.getUint32(76, true)]).toEqual([
      0x600, 0x604, 0x608,
    ]);
    expect(wakingVector).toBe(facs.address + 12);
    // Two local APICs, one x2APIC, the I/O APIC, an override.
    expect([...madt.bytes.subarray(44, 52)]).toEqual([0, 8, 0, 0, 1, 0, 0, 0]);
    expect([...madt.bytes.subarray(60, 72)]).toEqual([9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0]);
    expect(madt.bytes.length).toBe(44 + 8 + 8 + 16 + 12 + 10);
  });
  it('the timer counts at 3,579,545 Hz in 24 bits', () => {
    const clock = new VirtualClock();
    const power = new PowerManagement({ clock, suspend: () => {}, powerOff: () => {} });
    clock.advance(1e9);
    expect(power.read(0x608, 4)).toBe(3_579_545);
    clock.advance(4e9);
    expect(power.read(0x608, 4)).toBe(5 * 3_579_545 - 2 ** 24);
  });
  it('sleep states 3 and 5 need SLP_EN', () => {
    const asked: string[] = [];
    const power = new PowerManagement({
      clock: new VirtualClock(),
      suspend: () => asked.push('suspend'),
      powerOff: () => asked.push('off'),
    });
    power.write(0x604, 2, 0x0400);
    power.write(0x604, 2, 0x2400);
    power.write(0x604, 2, 0x2000);
    expect(asked).toEqual(['suspend', 'off']);
    expect(power.read(0x604, 2)).toBe(1);
  });
});

describe('PCI', () => {
  const config = (pci: Pci, device: number, register: number): void => {
    pci.write(0xcf8, 4, (0x80000000 | (device << 11) | register) >>> 0);
  };
  it('has bridges and the test device on bus 0, and all-ones elsewhere', () => {
    const pci = new Pci();
    const id = (device: number): number => {
      config(pci, device, 0);
      return pci.read(0xcfc, 4);
    };
    expect([id(0), id(1), id(2), id(3)]).toEqual([0x12378086, 0x70008086, 0x00051b36, 0xffffffff]);
    pci.write(0xcf8, 4, 0);
    expect(pci.read(0xcfc, 2)).toBe(0xffff);
  });
  it('a BAR tells its size and can be moved', () => {
    const pci = new Pci();
    config(pci, 2, 0x10);
    const before = pci.read(0xcfc, 4);
    pci.write(0xcfc, 4, 0xffffffff);
    expect(pci.read(0xcfc, 4)).toBe(0xfffff000);
    pci.write(0xcfc, 4, 0xe0000000);
    expect([before, pci.testMemory.base]).toEqual([0xfebf1000, 0xe0000000]);
    config(pci, 2, 0x14);
    pci.write(0xcfc, 4, 0xffffffff);
    expect(pci.read(0xcfc, 4)).toBe(0xffffff01);
  });
  it('the test device names its tests, and counts the writes of the one without an eventfd', () => {
    const { testMemory } = new Pci();
    const name = (): string =>
      String.fromCharCode(...Array.from({ length: 15 }, (_, i) => Number(testMemory.read(16 + i, 1))));
    testMemory.write(0, 1, 0n);
    expect(name()).toBe('mmio-no-eventfd');
    expect([1, 4, 8].map((offset) => testMemory.read(offset, offset === 1 ? 1 : 4))).toEqual([1n, 0x800n, 0xfan]);
    testMemory.write(0x800, 1, 0xfan);
    testMemory.write(0x800, 1, 0xfan);
    expect(testMemory.read(12, 4)).toBe(2n);
    testMemory.write(0, 1, 1n);
    testMemory.write(0x800, 1, 0xfan);
    expect(testMemory.read(12, 4)).toBe(0n);
    testMemory.write(0, 1, 3n);
    expect(testMemory.read(1, 1)).toBe(0n);
  });
});

it('each reset port resets', () => {
  let resets = 0;
  const control = new SystemControl(() => {
    resets++;
  });
  control.write(0x64, 1, 0xfe);
  control.write(0xcf9, 1, 0x06);
  control.write(0x92, 1, 0x03);
  control.write(0x92, 1, 0x03);
  control.write(0x64, 1, 0xd1);
  control.write(0x60, 1, 0x02);
  expect(resets).toBe(4);
});

describe('pc-testdev', () => {
  it('keeps what is written to its scratch register, in every width', () => {
    const device = new TestDevice(() => {});
    device.write(0xe0, 4, 0x12345678);
    device.write(0xe1, 1, 0xff);
    expect([device.read(0xe0), device.read(0xe2)]).toEqual([0x1234ff78, 0x1234]);
  });
  it('drives interrupt lines', () => {
    const lines: string[] = [];
    const device = new TestDevice((line, level) => lines.push(`${line} ${level}`));
    device.write(0x200e, 4, 1);
    device.write(0x200e, 4, 0);
    expect(lines).toEqual(['14 true', '14 false']);
  });
  it('has memory', () => {
    const memory = new TestMemory();
    memory.write(0x10, 8, 0x1122334455667788n);
    expect([memory.read(0x10, 8), memory.read(0x12, 2)]).toEqual([0x1122334455667788n, 0x5566n]);
  });
});

it('accesses that nobody answers are noted once by address', async () => {
  const vm = await createVm({ board: 'pc' });
  vm.load('.code16\n mov dx, 0x66\n in al, dx\n in al, dx\n mov al, 0\n out 0xf4, al');
  const run = vm.run();
  expect(run.end).toEqual({ kind: 'exit', status: 0 });
  expect(run.notes).toEqual(['port 0x66: nobody there, reads give all-ones']);
  vm.dispose();
});

it('boots bytes only', async () => {
  const vm = await createVm({ board: 'pc' });
  expect(() => vm.boot('dummy.flat' as never)).toThrow('an image is the bytes of a file');
  vm.dispose();
});

describe('a machine suspended to RAM', () => {
  const suspend = `
    mov dx, 0x604
    mov ax, 0x2400
    out dx, ax
    hlt`;
  const alarm = (enable: number): string => `
    mov dx, 0x602
    mov ax, ${enable}
    out dx, ax
    mov al, 0x0b
    out 0x70, al
    mov al, 0x22
    out 0x71, al`;
  const run = async (source: string, budget = 1_000_000) => {
    const vm = await createVm({ board: 'pc' });
    vm.load(`.code16\n${source}`);
    const { end } = vm.run({ budget });
    const { now } = vm.kvm.clock;
    vm.dispose();
    return { end, now };
  };
  it('sleeps for good without an alarm, though the PIT counts', async () => {
    expect((await run(suspend)).end).toEqual({ kind: 'halted' });
  });
  it('sleeps for good if the alarm is not enabled to wake it', async () => {
    expect((await run(alarm(0) + suspend)).end).toEqual({ kind: 'halted' });
  });
  it('wakes at the alarm, however short the period of the PIT', async () => {
    const pit = 'mov al, 0x34\n out 0x43, al\n mov al, 1\n out 0x40, al\n mov al, 0\n out 0x40, al';
    // The alarm registers are zero, and midnight has just passed. The waking vector is 0: from there zeros (ADD) lead here again.
    const second = 'inc byte ptr [0x500]\n cmp byte ptr [0x500], 2\n mov al, 0\n jne 1f\n out 0xf4, al\n 1:\n';
    const { end, now } = await run(second + pit + alarm(0x400) + suspend);
    expect(end).toEqual({ kind: 'exit', status: 0 });
    expect(Math.floor(now / 1e9)).toBe(86_400);
  });
});

it('devices get and give as many bytes as the access has', () => {
  const written: number[] = [];
  const wide: PortDevice = {
    name: 'wide',
    ports: [[0x10, 0x10]],
    read: () => 0x89abcdef,
    write: (_port, _size, value) => written.push(value),
  };
  const bus = new Bus([wide]);
  expect([1, 2, 4].map((size) => bus.readPort(0x10, size))).toEqual([0xef, 0xcdef, 0x89abcdef]);
  for (const size of [1, 2, 4]) bus.writePort(0x10, size, 0x89abcdef);
  expect(written).toEqual([0xef, 0xcdef, 0x89abcdef]);
});
