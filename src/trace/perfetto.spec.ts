/** Decodes the files with a protobuf reader of its own and looks at them as Perfetto's importer does. */
import { describe, expect, it } from 'vitest';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import { everyEvent } from './events.fixture.ts';
import { formatEvent, isTracepoint } from './ftrace.ts';
import { perfettoTrace } from './perfetto.ts';
import type { TimedTrace } from './timed.ts';

type Fields = Map<number, (bigint | Uint8Array)[]>;

/** The fields of one protobuf message: varints and fixed64 as bigints, the rest as bytes. */
function decode(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('message ends within a number');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    let value: bigint | Uint8Array;
    if ((tag & 7) === 0) value = varint();
    else if ((tag & 7) === 1) {
      value = new DataView(bytes.buffer, bytes.byteOffset + at).getBigUint64(0, true);
      at += 8;
    } else if ((tag & 7) === 2) {
      const length = Number(varint());
      if (at + length > bytes.length) throw new Error('field reaches beyond its message');
      value = bytes.subarray(at, at + length);
      at += length;
    } else throw new Error(`wire type ${tag & 7}`);
    fields.set(tag >> 3, [...(fields.get(tag >> 3) ?? []), value]);
  }
  return fields;
}

const numbers = (fields: Fields, id: number): number[] => (fields.get(id) ?? []).map(Number);
const messages = (fields: Fields, id: number): Fields[] => (fields.get(id) ?? []).map((v) => decode(v as Uint8Array));
const text = (fields: Fields, id: number): string | undefined =>
  fields.get(id)?.map((v) => new TextDecoder().decode(v as Uint8Array))[0];

interface Slice {
  track: string;
  name: string;
  from: number;
  to: number;
  text: string | undefined;
}

/** What a viewer shows: named tracks, slices and instants (`from` = `to`), counters, flows as lists of `track: name` in time order. */
function view(run: TimedTrace) {
  const packets = messages(decode(perfettoTrace(run)), 1);
  const tracks = new Map<number, string>();
  const threads: [number, number][] = [];
  const slices: Slice[] = [];
  const open = new Map<string, Slice[]>();
  const counters = new Map<string, [number, number][]>();
  const flows = new Map<number, string[]>();
  const ended = new Set<number>();
  for (const packet of packets) {
    expect(numbers(packet, 10)).toEqual([1]);
    for (const descriptor of messages(packet, 60)) {
      const [thread] = messages(descriptor, 4);
      const [process] = messages(descriptor, 3);
      if (thread) threads.push([numbers(thread, 1)[0], numbers(thread, 2)[0]]);
      const name = text(descriptor, 2) ?? (thread && text(thread, 5)) ?? (process && text(process, 6)) ?? '';
      tracks.set(numbers(descriptor, 1)[0], name);
    }
    for (const event of messages(packet, 11)) {
      const [time] = numbers(packet, 8);
      const [type] = numbers(event, 9);
      const track = tracks.get(numbers(event, 11)[0]);
      if (track === undefined) throw new Error('event on a track that was not described');
      const name = text(event, 23) ?? '';
      const [annotation] = messages(event, 4);
      const slice: Slice = { track, name, from: time, to: time, text: annotation && text(annotation, 6) };
      const stack = open.get(track) ?? [];
      open.set(track, stack);
      if (type === 1) stack.push(slice);
      if (type === 1 || type === 3) slices.push(slice);
      if (type === 2) (stack.pop() as Slice).to = time;
      if (type === 4) counters.set(track, [...(counters.get(track) ?? []), [time, numbers(event, 30)[0]]]);
      for (const id of [...numbers(event, 47), ...numbers(event, 48)]) {
        expect(ended.has(id)).toBe(false);
        flows.set(id, [...(flows.get(id) ?? []), `${track}: ${name}`]);
      }
      for (const id of numbers(event, 48)) ended.add(id);
    }
  }
  const unfinished = [...open.values()].flat();
  return { packets, tracks, threads, slices, counters, flows, ended, unfinished };
}

const exit = (vcpu: number, reason: number): KvmTraceEvent => ({
  ...{ vcpu, event: 'kvm_exit', reason, rip: 0x1013n, info1: 0n, info2: 0n, intrInfo: 0, errorCode: 0 },
});
const entry = (vcpu: number): KvmTraceEvent => ({ vcpu, event: 'kvm_entry', rip: 0n, intrInfo: 0, errorCode: 0 });
const accept = (apicid: number, deliveryMode = 0, vector = 0xd1): KvmTraceEvent => ({
  ...{ vcpu: 0, event: 'kvm_apic_accept_irq', apicid, deliveryMode, triggerMode: 0, vector },
});

/** vCPU 0 sends vector 0xd1 twice to vCPU 1 (APIC id 8), which takes it once, and an NMI to vCPU 2 (id 9). */
const RUN: TimedTrace = {
  era: '6.18',
  vendor: 'intel',
  trace: [
    entry(0),
    exit(0, 18),
    accept(8),
    accept(8),
    accept(9, 4, 0),
    entry(0),
    { vcpu: 1, event: 'kvm_inj_virq', irq: 0xd1, soft: false, reinjected: false },
    entry(1),
    exit(1, 12),
    exit(0, 12),
  ],
  times: [10, 20, 21, 22, 23, 30, 40, 41, 50, 60],
  vcpus: [{ apicId: 0 }, { apicId: 8 }, { apicId: 9 }],
};

describe('a multicast', () => {
  const { tracks, threads, slices, counters, flows, ended, unfinished, packets } = view(RUN);

  it('has a process, a thread track per vCPU and two counters each', () => {
    expect([...tracks.values()]).toEqual([
      'guest on KVM 6.18',
      ...[0, 1, 2].flatMap((n) => [`CPU ${n}/KVM`, `vCPU ${n} exits`, `vCPU ${n} messages`]),
    ]);
    expect(threads).toEqual([
      [999, 1000],
      [999, 1001],
      [999, 1002],
    ]);
    // The first packet of the sequence says that it needs nothing before it.
    expect(packets.flatMap((packet, i) => numbers(packet, 13).map((flags) => [i, flags]))).toEqual([[0, 1]]);
  });

  it('shows guest and host time as slices that touch', () => {
    const long = slices.filter(({ from, to }) => to > from).map(({ track, name, from, to }) => [track, name, from, to]);
    expect(long).toEqual([
      ['CPU 0/KVM', 'guest', 10, 20],
      ['CPU 0/KVM', 'VMCALL', 20, 30],
      ['CPU 0/KVM', 'guest', 30, 60],
      ['CPU 1/KVM', 'guest', 41, 50],
      ['CPU 1/KVM', 'HLT', 50, 61],
      ['CPU 0/KVM', 'HLT', 60, 61],
    ]);
    expect(unfinished).toEqual([]);
  });

  it('leads an arrow from the send to the accept, and on to the injection if there is one of its own', () => {
    const sent = 'CPU 0/KVM: kvm_apic_accept_irq';
    expect([...flows.values()]).toEqual([
      [sent, 'CPU 1/KVM: accept 0xd1', 'CPU 1/KVM: kvm_inj_virq'],
      [sent, 'CPU 1/KVM: accept 0xd1'],
      [sent, 'CPU 2/KVM: accept NMI'],
    ]);
    expect(ended.size).toBe(3);
  });

  it('counts exits and messages', () => {
    expect(Object.fromEntries(counters)).toEqual({
      'vCPU 0 exits': [
        [20, 1],
        [60, 2],
      ],
      'vCPU 1 messages': [
        [21, 1],
        [22, 2],
      ],
      'vCPU 2 messages': [[23, 1]],
      'vCPU 1 exits': [[50, 1]],
    });
  });
});

it('a posted interrupt’s arrow ends where the hardware takes over', () => {
  const posted: KvmTraceEvent = {
    ...{ vcpu: 0, event: 'kvm_apicv_accept_irq', apicid: 8, deliveryMode: 0, triggerMode: 0, vector: 0xd1 },
  };
  const { flows, ended, counters } = view({ ...RUN, trace: [accept(8), posted, accept(8)], times: [1, 2, 3] });
  expect([...flows.values()]).toEqual([
    ['CPU 0/KVM: kvm_apic_accept_irq', 'CPU 1/KVM: accept 0xd1', 'CPU 1/KVM: posted'],
    ['CPU 0/KVM: kvm_apic_accept_irq', 'CPU 1/KVM: accept 0xd1'],
  ]);
  expect(ended).toEqual(new Set([1]));
  expect(counters.get('vCPU 1 messages')).toEqual([
    [1, 1],
    [3, 2],
  ]);
});

it('every event appears on its vCPU with KVM’s text', () => {
  const run = everyEvent('7.1', 'amd');
  const { slices, unfinished } = view(run);
  expect(unfinished).toEqual([]);
  const shown = new Set(slices.map(({ track, from, text }) => `${track} ${from} ${text ?? ''}`));
  const expected = run.trace.map((event, i) => `CPU ${event.vcpu}/KVM ${run.times[i]} ${formatEvent(event, run)}`);
  expect(expected.filter((line) => !shown.has(line))).toEqual([]);
  expect(run.trace.filter(isTracepoint).length).toBeLessThan(run.trace.length);
});
