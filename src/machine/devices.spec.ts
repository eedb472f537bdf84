import { expect, it } from 'vitest';
import { allOnes, Devices } from './devices.ts';

it('prints what goes to the debug console and to COM1', () => {
  const devices = new Devices();
  devices.write(0, 0xe9, 1, 0x48);
  devices.write(1, 0xe9, 4, 0x216c6c65);
  devices.write(0, 0x3f8, 1, 0x0a);
  expect(devices.console).toBe('Hell!\n');
  expect(devices.read(0x3fd, 1)).toBe(0x60);
  expect(devices.notes).toEqual([]);
});

it('does not print the divisor latch of COM1', () => {
  const devices = new Devices();
  devices.write(0, 0x3fb, 1, 0x80);
  devices.write(0, 0x3f8, 1, 0x01);
  devices.write(0, 0x3fb, 1, 0x03);
  devices.write(0, 0x3f8, 1, 0x41);
  expect(devices.console).toBe('A');
  expect(devices.read(0x3fb, 1)).toBe(0x03);
});

it('collects reports with their vCPU', () => {
  const devices = new Devices();
  devices.write(2, 0xe8, 4, 0xffffffea);
  devices.write(0, 0xe8, 1, 7);
  expect(devices.reports).toEqual([
    { vcpu: 2, value: 0xffffffea },
    { vcpu: 0, value: 7 },
  ]);
});

it('takes the exit status as written', () => {
  const devices = new Devices();
  expect(devices.exitStatus).toBe(-1);
  devices.write(0, 0xf4, 4, 0x12345678);
  expect(devices.exitStatus).toBe(0x12345678);
});

it('answers for absent devices with all-ones and one note per port and direction', () => {
  const devices = new Devices();
  expect([1, 2, 4].map((size) => devices.read(0x60, size))).toEqual([0xff, 0xffff, 0xffffffff]);
  devices.write(0, 0x60, 1, 1);
  devices.write(0, 0x60, 1, 2);
  expect(devices.notes).toEqual([
    'port 0x60: nobody there, reads give all-ones',
    'port 0x60: nobody there, writes are dropped',
  ]);
  expect(allOnes(8)).toBe(0xffffffff);
});
