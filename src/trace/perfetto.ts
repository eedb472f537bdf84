/**
 * Perfetto's trace format (protos/perfetto/trace/*.proto), written field by field: ui.perfetto.dev and trace_processor read it.
 *
 * One thread track per vCPU. `guest` slices last from kvm_entry to kvm_exit, slices named after the exit's reason from kvm_exit to the next
 * kvm_entry of that vCPU; every other event is an instant of its name with KVM's text as annotation. An accepted interrupt is an instant
 * `accept` on the target's track too, and a flow arrow leads to it from the sender's event, and on to the kvm_inj_virq that injects its
 * vector. Counters per vCPU: exits, and interrupt messages that reached its APIC.
 */
import type { KvmTraceEvent } from '../kvm/trace.ts';
import { Bytes } from './bytes.ts';
import { exitReasonName, kernelVersion } from './exit-names.ts';
import { DELIVERY_MODES, type EventOf, formatEvent } from './ftrace.ts';
import { type TimedTrace, VM_PID, vcpuComm, vcpuTid } from './timed.ts';

// Field numbers, by message.
const TRACE = { packet: 1 } as const;
const PACKET = { timestamp: 8, sequence: 10, trackEvent: 11, sequenceFlags: 13, trackDescriptor: 60 } as const;
const DESCRIPTOR = { uuid: 1, name: 2, process: 3, thread: 4, parent: 5, counter: 8 } as const;
const PROCESS = { pid: 1, name: 6 } as const;
const THREAD = { pid: 1, tid: 2, name: 5 } as const;
const EVENT = {
  annotation: 4,
  type: 9,
  track: 11,
  category: 22,
  name: 23,
  counter: 30,
  flow: 47,
  lastFlow: 48,
} as const;
const ANNOTATION = { text: 6, name: 10 } as const;
/** TrackEvent.Type. */
const TYPE = { begin: 1, end: 2, instant: 3, counter: 4 } as const;
/** TracePacket.SequenceFlags: nothing before this packet is needed. */
const INCREMENTAL_STATE_CLEARED = 1;
const SEQUENCE = 1;

/** A protobuf message being written. */
class Message {
  readonly out: Bytes = new Bytes();

  varint(field: number, value: number | bigint): this {
    this.out.varint(field * 8).varint(value);
    return this;
  }

  fixed64(field: number, value: number): this {
    this.out.varint(field * 8 + 1).u64(value);
    return this;
  }

  bytes(field: number, bytes: Uint8Array): this {
    this.out
      .varint(field * 8 + 2)
      .varint(bytes.length)
      .bytes(bytes);
    return this;
  }

  text(field: number, text: string): this {
    return this.bytes(field, new TextEncoder().encode(text));
  }

  message(field: number, message: Message): this {
    return this.bytes(field, message.out.done());
  }
}

const PROCESS_TRACK = 1;
// Three tracks per vCPU.
const thread = (vcpu: number): number => 2 + vcpu * 3;
const exitCounter = (vcpu: number): number => 3 + vcpu * 3;
const acceptCounter = (vcpu: number): number => 4 + vcpu * 3;

interface EventOptions {
  readonly name?: string;
  readonly category?: string;
  readonly text?: string;
  readonly flows?: readonly number[];
  readonly lastFlows?: readonly number[];
}

/** Writes packets; knows protobuf and nothing of KVM. */
class PerfettoWriter {
  readonly out: Bytes = new Bytes();
  #first = true;

  packet(packet: Message): void {
    packet.varint(PACKET.sequence, SEQUENCE);
    if (this.#first) packet.varint(PACKET.sequenceFlags, INCREMENTAL_STATE_CLEARED);
    this.#first = false;
    const bytes = packet.out.done();
    this.out
      .varint(TRACE.packet * 8 + 2)
      .varint(bytes.length)
      .bytes(bytes);
  }

  descriptor(descriptor: Message): void {
    this.packet(new Message().message(PACKET.trackDescriptor, descriptor));
  }

  event(type: number, track: number, time: number, options: EventOptions = {}): void {
    const event = new Message().varint(EVENT.type, type).varint(EVENT.track, track);
    if (options.category !== undefined) event.text(EVENT.category, options.category);
    if (options.name !== undefined) event.text(EVENT.name, options.name);
    if (options.text !== undefined) {
      event.message(EVENT.annotation, new Message().text(ANNOTATION.name, 'text').text(ANNOTATION.text, options.text));
    }
    for (const flow of options.flows ?? []) event.fixed64(EVENT.flow, flow);
    for (const flow of options.lastFlows ?? []) event.fixed64(EVENT.lastFlow, flow);
    this.packet(new Message().varint(PACKET.timestamp, time).message(PACKET.trackEvent, event));
  }

  counter(track: number, time: number, value: number): void {
    const event = new Message().varint(EVENT.type, TYPE.counter).varint(EVENT.track, track);
    this.packet(
      new Message().varint(PACKET.timestamp, time).message(PACKET.trackEvent, event.varint(EVENT.counter, value)),
    );
  }
}

/** A vCPU's thread as far as it has been drawn. */
interface Timeline {
  /** A slice is open. */
  open: boolean;
  exits: number;
  accepted: number;
  /** Flows that end at this vCPU's injection of a vector, by vector. */
  readonly pending: Map<number, number[]>;
}

function describeTracks(writer: PerfettoWriter, run: TimedTrace): void {
  const process = new Message().varint(PROCESS.pid, VM_PID).text(PROCESS.name, `guest on KVM ${run.era}`);
  writer.descriptor(new Message().varint(DESCRIPTOR.uuid, PROCESS_TRACK).message(DESCRIPTOR.process, process));
  for (const vcpu of run.vcpus.keys()) {
    const task = new Message().varint(THREAD.pid, VM_PID).varint(THREAD.tid, vcpuTid(vcpu));
    writer.descriptor(
      new Message()
        .varint(DESCRIPTOR.uuid, thread(vcpu))
        .varint(DESCRIPTOR.parent, PROCESS_TRACK)
        .message(DESCRIPTOR.thread, task.text(THREAD.name, vcpuComm(vcpu))),
    );
    const counter = (uuid: number, name: string): void =>
      writer.descriptor(
        new Message()
          .varint(DESCRIPTOR.uuid, uuid)
          .varint(DESCRIPTOR.parent, PROCESS_TRACK)
          .text(DESCRIPTOR.name, name)
          .message(DESCRIPTOR.counter, new Message()),
      );
    counter(exitCounter(vcpu), `vCPU ${vcpu} exits`);
    counter(acceptCounter(vcpu), `vCPU ${vcpu} messages`);
  }
}

/** A whole trace file. */
export function perfettoTrace(run: TimedTrace): Uint8Array {
  const writer = new PerfettoWriter();
  describeTracks(writer, run);
  const kernel = kernelVersion(run.era);
  const indexOf = new Map(run.vcpus.map(({ apicId }, index) => [apicId, index]));
  const timelines = run.vcpus.map((): Timeline => ({ open: false, exits: 0, accepted: 0, pending: new Map() }));
  let lastFlow = 0;

  /** Ends the open slice of a vCPU and begins another. */
  const enter = (event: KvmTraceEvent, time: number, name: string, category: string): void => {
    const timeline = timelines[event.vcpu];
    const track = thread(event.vcpu);
    if (timeline.open) writer.event(TYPE.end, track, time);
    timeline.open = true;
    writer.event(TYPE.begin, track, time, { name, category, text: formatEvent(event, run) });
  };

  const accept = (event: EventOf<'kvm_apic_accept_irq'>, time: number): void => {
    const text = formatEvent(event, run);
    const target = indexOf.get(event.apicid);
    if (target === undefined) {
      writer.event(TYPE.instant, thread(event.vcpu), time, { name: event.event, category: 'kvm', text });
      return;
    }
    lastFlow += 1;
    const flow = [lastFlow];
    writer.event(TYPE.instant, thread(event.vcpu), time, { name: event.event, category: 'kvm', text, flows: flow });
    const timeline = timelines[target];
    // Only Fixed and LowestPriority messages carry a vector that is injected later.
    const injected = event.deliveryMode <= 1;
    const mode = DELIVERY_MODES[event.deliveryMode & 7];
    const name = injected ? `accept 0x${event.vector.toString(16)}` : `accept ${mode}`;
    const ends = injected ? { flows: flow } : { lastFlows: flow };
    writer.event(TYPE.instant, thread(target), time, { name, category: 'ipi', text, ...ends });
    if (injected) timeline.pending.set(event.vector, [...(timeline.pending.get(event.vector) ?? []), lastFlow]);
    timeline.accepted += 1;
    writer.counter(acceptCounter(target), time, timeline.accepted);
  };

  for (const [i, event] of run.trace.entries()) {
    const time = run.times[i];
    const timeline = timelines[event.vcpu];
    const track = thread(event.vcpu);
    switch (event.event) {
      case 'kvm_entry':
        enter(event, time, 'guest', 'guest');
        break;
      case 'kvm_exit':
        enter(event, time, exitReasonName(run.vendor, event.reason, kernel), 'host');
        timeline.exits += 1;
        writer.counter(exitCounter(event.vcpu), time, timeline.exits);
        break;
      case 'kvm_apic_accept_irq':
        accept(event, time);
        break;
      case 'kvm_inj_virq': {
        const lastFlows = timeline.pending.get(event.irq) ?? [];
        timeline.pending.delete(event.irq);
        const text = formatEvent(event, run);
        writer.event(TYPE.instant, track, time, { name: event.event, category: 'kvm', text, lastFlows });
        break;
      }
      default:
        writer.event(TYPE.instant, track, time, { name: event.event, category: 'kvm', text: formatEvent(event, run) });
    }
  }
  const end = (run.times.at(-1) ?? 0) + 1;
  for (const [vcpu, timeline] of timelines.entries()) {
    if (timeline.open) writer.event(TYPE.end, thread(vcpu), end);
  }
  return writer.out.done();
}
