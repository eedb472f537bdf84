import { describe, expect, it } from 'vitest';
import { Bytes } from './bytes.ts';
import { EVERY_EVENT } from './events.fixture.ts';
import { isTracepoint } from './ftrace.ts';
import { eachRecord, type Tracepoint, tracepoints } from './tracepoints.ts';

const points = (era: string) => tracepoints({ era, vendor: 'intel' });
const point = (era: string, name: string): Tracepoint => points(era).get(name) as Tracepoint;

/** Own fields as `name@offset:size`, from the format text. */
const layout = (era: string, name: string): string[] =>
  [...point(era, name).format.matchAll(/field:\S.* (\w+);\toffset:(\d+);\tsize:(\d+);/g)]
    .slice(4)
    .map(([, field, offset, size]) => `${field}@${offset}:${size}`);

const printFormat = (era: string, name: string): string | undefined =>
  /^print fmt: (".*?"),/m.exec(point(era, name).format)?.[1];

describe('layout and print format of kvm_exit and kvm_entry follow the kernel', () => {
  const head = ['exit_reason@8:4', 'guest_rip@16:8', 'isa@24:4', 'info1@32:8', 'info2@40:8'];
  it.each([
    ['4.19', head, 48, '"reason %s rip 0x%lx info %llx %llx"'],
    ['5.6', [...head, 'vcpu_id@48:4'], 56, '"vcpu %u reason %s rip 0x%lx info %llx %llx"'],
    [
      '5.10',
      [...head, 'intr_info@48:4', 'error_code@52:4', 'vcpu_id@56:4'],
      64,
      '"vcpu %u reason %s%s%s rip 0x%lx info1 0x%016llx info2 0x%016llx intr_info 0x%08x error_code 0x%08x"',
    ],
    [
      '7.1',
      [...head, 'intr_info@48:4', 'error_code@52:4', 'vcpu_id@56:4', 'requests@64:8'],
      72,
      '"vcpu %u reason %s%s%s rip 0x%lx info1 0x%016llx info2 0x%016llx intr_info 0x%08x error_code 0x%08x requests 0x%016llx"',
    ],
  ])('kvm_exit of %s', (era, fields, size, print) => {
    expect(layout(era, 'kvm_exit')).toEqual(fields);
    expect(point(era, 'kvm_exit').size).toBe(size);
    expect(printFormat(era, 'kvm_exit')).toBe(print);
  });

  it.each([
    ['5.9', ['vcpu_id@8:4'], 12, '"vcpu %u"'],
    ['5.10', ['vcpu_id@8:4', 'rip@16:8'], 24, '"vcpu %u, rip 0x%lx"'],
    ['6.12', ['vcpu_id@8:4', 'rip@16:8', 'immediate_exit@24:1'], 32, '"vcpu %u, rip 0x%lx%s"'],
    [
      '6.14',
      ['vcpu_id@8:4', 'rip@16:8', 'immediate_exit@24:1', 'intr_info@28:4', 'error_code@32:4'],
      40,
      '"vcpu %u, rip 0x%lx intr_info 0x%08x error_code 0x%08x%s"',
    ],
  ])('kvm_entry of %s', (era, fields, size, print) => {
    expect(layout(era, 'kvm_entry')).toEqual(fields);
    expect(point(era, 'kvm_entry').size).toBe(size);
    expect(printFormat(era, 'kvm_entry')).toBe(print);
  });

  it('kvm_apic has 32 bits before v5.18 and 64 since', () => {
    expect(layout('5.17', 'kvm_apic')).toEqual(['rw@8:4', 'reg@12:4', 'val@16:4']);
    expect(layout('5.18', 'kvm_apic')).toEqual(['rw@8:4', 'reg@12:4', 'val@16:8']);
  });
});

it('writes a record: type, flags, thread, then each field at its place', () => {
  const out = new Bytes();
  const accept = point('6.18', 'kvm_apic_accept_irq');
  accept.write(
    { vcpu: 2, event: 'kvm_apic_accept_irq', apicid: 0x1f, deliveryMode: 4, triggerMode: 1, vector: 0xd1 },
    out,
  );
  const id = Buffer.from([accept.id & 0xff, accept.id >> 8]).toString('hex');
  const record = Buffer.from(out.done()).toString('hex');
  expect(record).toBe(`${id}0000ea0300001f00000000040080d1000000`);
  expect(accept.size).toBe(20);
});

it('kvm_entry and kvm_exit carry vcpu_id, not the index', () => {
  const out = new Bytes();
  const dialect = { era: '5.6', vendor: 'intel', vcpus: [{ apicId: 0 }, { apicId: 64 }] } as const;
  const entry = { vcpu: 1, event: 'kvm_entry', rip: 0n, intrInfo: 0, errorCode: 0 } as const;
  tracepoints(dialect).get('kvm_entry')?.write(entry, out);
  expect(new DataView(out.done().slice().buffer).getUint32(8, true)).toBe(64);
});

it.each(['4.19-rc1', '5.6', '5.10', '6.0', '6.12', '7.1'])('%s: every event has a record of the stated size', (era) => {
  const run = { trace: EVERY_EVENT, times: EVERY_EVENT.map((_, i) => i) };
  const seen = new Set<string>();
  eachRecord(run, points(era), (event, row, time) => {
    const out = new Bytes();
    row.write(event, out);
    expect([row.name, out.length, time]).toEqual([event.event, row.size, EVERY_EVENT.indexOf(event)]);
    seen.add(row.name);
  });
  expect([...seen].sort()).toEqual([...points(era).keys()].sort());
  expect(EVERY_EVENT.filter((event) => !isTracepoint(event)).map((event) => event.event)).toEqual(['kvm_inj_nmi']);
});
