import { beforeEach, expect, it } from 'vitest';
import { VirtualClock } from './clock.ts';
import { Irqchip } from './irqchip.ts';

let sent: number[];
let raised: number;
let irqchip: Irqchip;

beforeEach(() => {
  sent = [];
  raised = 0;
  irqchip = new Irqchip({
    clock: new VirtualClock(),
    sink: {
      send: (icrLow) => {
        sent.push(icrLow & 0xff);
        return 1;
      },
    },
    picRaised: () => {
      raised++;
    },
    pit: true,
  });
  irqchip.pics.initialize([0x08, 0x70], [0, 0]);
  // Pin n sends vector 0x40 + n.
  for (let pin = 0; pin < 24; pin++) {
    irqchip.ioapic.write(0, 4, 0x10 + 2 * pin);
    irqchip.ioapic.write(0x10, 4, 0x40 + pin);
  }
});

it('routes ISA lines to the PICs and to the pin of their number, line 0 to pin 2', () => {
  for (const [gsi, pin] of [
    [0, 2],
    [1, 1],
    [15, 15],
  ] as const) {
    sent = [];
    irqchip.setIrq(gsi, true);
    irqchip.setIrq(gsi, false);
    expect(sent).toEqual([0x40 + pin]);
  }
  expect(raised).toBe(1);
  expect(irqchip.pics.acknowledge()).toBe(0x08);
});

it('GSI 2 has no pin; those from 16 on reach the I/O APIC only', () => {
  irqchip.setIrq(2, true);
  expect(sent).toEqual([]);
  irqchip.pics.initialize([0x08, 0x70], [0xff, 0xff]);
  raised = 0;
  irqchip.setIrq(23, true);
  expect([sent, raised]).toEqual([[0x57], 0]);
});

it('answers the ports of PICs, ELCR and PIT, and the page of the I/O APIC', () => {
  const ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x43, 0x61];
  expect(ports.every((port) => irqchip.handlesPort(port))).toBe(true);
  expect([0x1f, 0x22, 0x44, 0x60, 0x4d2].some((port) => irqchip.handlesPort(port))).toBe(false);
  expect(Irqchip.handlesMemory(0xfec00010, 0)).toBe(true);
  expect(Irqchip.handlesMemory(0xfec00100, 0)).toBe(false);
  expect(Irqchip.handlesMemory(0xfec00010, 1)).toBe(false);
});

it('without a PIT its ports are free', () => {
  const without = new Irqchip({ clock: new VirtualClock(), sink: { send: () => 0 }, picRaised: () => {}, pit: false });
  expect([without.pit, without.handlesPort(0x40), without.handlesPort(0x20)]).toEqual([null, false, true]);
});
