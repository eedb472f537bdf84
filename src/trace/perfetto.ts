/**
 * Perfetto's trace format (protos/perfetto/trace/*.proto), written field by field: ui.perfetto.dev and trace_processor read it.
 *
 * One thread track per vCPU. `guest` slices last from kvm_entry to kvm_exit, slices named after the exit's reason from kvm_exit to the next
 * kvm_entry of that vCPU; every other event is an instant of its name with KVM's text as annotation. An accepted interrupt is an instant
 * `accept` on the target's track too, and a flow arrow leads to it from the sender's event, and on to the kvm_inj_virq that injects its
 * vector, or to `posted` where the hardware delivers it. Counters per vCPU: exits, and interrupt messages that reached its APIC.
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

/** Writes protobuf into one buffer. A nested message's length is a varint of LENGTH_BYTES, put in when the message is complete. */
class ProtoWriter {
  readonly out: Bytes = new Bytes();

  varint(field: number, value: number): this {
    this.out.varint(field * 8).varint(value);
    return this;
  }

  fixed64(field: number, value: number): this {
    this.out.varint(field * 8 + 1).u64(value);
    return this;
  }

  text(field: number, text: string): this {
    return this.message(field, () => this.out.text(text));
  }

  message(field: number, write: () => void): this {
    this.out.varint(field * 8 + 2);
    const at = this.out.length;
    this.out.zeros(LENGTH_BYTES);
    write();
    const length = this.out.length - at - LENGTH_BYTES;
    const groups = [length & 0x7f, (length >> 7) & 0x7f, (length >> 14) & 0x7f, (length >> 21) & 0x7f];
    this.out.patchU32(at, (groups[0] | (groups[1] << 8) | (groups[2] << 16) | (groups[3] << 24) | CONTINUED) >>> 0);
    return this;
  }
}
/** Enough for 256 MiB; more bytes than needed are allowed (protobuf's encoding guide, "Base 128 Varints"). */
const LENGTH_BYTES = 4;
/** The continuation bit in the first three of four bytes. */
const CONTINUED = 0x808080;

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

/** Writes packets; knows nothing of KVM. */
class PerfettoWriter {
  readonly #proto = new ProtoWriter();
  #first = true;

  done(): Uint8Array {
    return this.#proto.out.done();
  }

  /** A track: `write` adds fields to its TrackDescriptor. */
  track(uuid: number, write: (proto: ProtoWriter) => void): void {
    this.#packet(() =>
      this.#proto.message(PACKET.trackDescriptor, () => write(this.#proto.varint(DESCRIPTOR.uuid, uuid))),
    );
  }

  event(type: number, track: number, time: number, { name, category, text, ...options }: EventOptions = {}): void {
    this.#trackEvent(type, track, time, (proto) => {
      if (category !== undefined) proto.text(EVENT.category, category);
      if (name !== undefined) proto.text(EVENT.name, name);
      if (text !== undefined) {
        proto.message(EVENT.annotation, () => proto.text(ANNOTATION.name, 'text').text(ANNOTATION.text, text));
      }
      for (const flow of options.flows ?? []) proto.fixed64(EVENT.flow, flow);
      for (const flow of options.lastFlows ?? []) proto.fixed64(EVENT.lastFlow, flow);
    });
  }

  counter(track: number, time: number, value: number): void {
    this.#trackEvent(TYPE.counter, track, time, (proto) => proto.varint(EVENT.counter, value));
  }

  #trackEvent(type: number, track: number, time: number, write: (proto: ProtoWriter) => void): void {
    const proto = this.#proto;
    this.#packet(() => {
      proto.varint(PACKET.timestamp, time);
      proto.message(PACKET.trackEvent, () => write(proto.varint(EVENT.type, type).varint(EVENT.track, track)));
    });
  }

  #packet(write: () => void): void {
    this.#proto.message(TRACE.packet, () => {
      write();
      this.#proto.varint(PACKET.sequence, SEQUENCE);
      if (this.#first) this.#proto.varint(PACKET.sequenceFlags, INCREMENTAL_STATE_CLEARED);
      this.#first = false;
    });
  }
}

/** A vCPU's thread as far as it has been drawn. */
interface Timeline {
  /** A slice is open. */
  open: boolean;
  exits: number;
  accepted: number;
  /** The flow that ends at this vCPU's injection of a vector, by vector. */
  readonly pending: Map<number, number>;
}

function describeTracks(writer: PerfettoWriter, run: TimedTrace): void {
  writer.track(PROCESS_TRACK, (proto) =>
    proto.message(DESCRIPTOR.process, () =>
      proto.varint(PROCESS.pid, VM_PID).text(PROCESS.name, `guest on KVM ${run.era}`),
    ),
  );
  for (const vcpu of run.vcpus.keys()) {
    writer.track(thread(vcpu), (proto) =>
      proto
        .varint(DESCRIPTOR.parent, PROCESS_TRACK)
        .message(DESCRIPTOR.thread, () =>
          proto.varint(THREAD.pid, VM_PID).varint(THREAD.tid, vcpuTid(vcpu)).text(THREAD.name, vcpuComm(vcpu)),
        ),
    );
    const counter = (uuid: number, name: string): void =>
      writer.track(uuid, (proto) =>
        proto
          .varint(DESCRIPTOR.parent, PROCESS_TRACK)
          .text(DESCRIPTOR.name, name)
          .message(DESCRIPTOR.counter, () => {}),
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
    // Only Fixed and LowestPriority messages carry a vector that is injected later, and once if several come before that.
    const vectored = event.deliveryMode <= 1;
    const onward = vectored && !timeline.pending.has(event.vector);
    const mode = DELIVERY_MODES[event.deliveryMode & 7];
    const name = vectored ? `accept 0x${event.vector.toString(16)}` : `accept ${mode}`;
    const ends = onward ? { flows: flow } : { lastFlows: flow };
    writer.event(TYPE.instant, thread(target), time, { name, category: 'ipi', text, ...ends });
    if (onward) timeline.pending.set(event.vector, lastFlow);
    timeline.accepted += 1;
    writer.counter(acceptCounter(target), time, timeline.accepted);
  };

  /** Ends the flow of a message at whatever delivers its vector: an instant on the target's track. */
  const deliver = (event: KvmTraceEvent, target: number, vector: number, time: number, name: string): void => {
    const { pending } = timelines[target];
    const flow = pending.get(vector);
    pending.delete(vector);
    const lastFlows = flow === undefined ? [] : [flow];
    writer.event(TYPE.instant, thread(target), time, {
      name,
      category: 'kvm',
      text: formatEvent(event, run),
      lastFlows,
    });
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
      case 'kvm_apicv_accept_irq':
        // Follows the kvm_apic_accept_irq of the same message.
        writer.event(TYPE.instant, track, time, { name: event.event, category: 'kvm', text: formatEvent(event, run) });
        deliver(event, indexOf.get(event.apicid) ?? event.vcpu, event.vector, time, 'posted');
        break;
      case 'kvm_inj_virq':
        deliver(event, event.vcpu, event.irq, time, event.event);
        break;
      default:
        writer.event(TYPE.instant, track, time, { name: event.event, category: 'kvm', text: formatEvent(event, run) });
    }
  }
  const end = (run.times.at(-1) ?? 0) + 1;
  for (const [vcpu, timeline] of timelines.entries()) {
    if (timeline.open) writer.event(TYPE.end, thread(vcpu), end);
  }
  return writer.done();
}
