/**
 * perf.data with one sample per tracepoint hit (tools/perf/Documentation/perf.data-file-format.txt): `perf script` prints the events,
 * `perf kvm stat report` counts and times the exits. vCPU n's thread runs on CPU n.
 */
import { Bytes } from './bytes.ts';
import { type TimedTrace, VM_PID, vcpuComm, vcpuTid } from './timed.ts';
import { eachRecord, type Tracepoint, tracepoints } from './tracepoints.ts';
import { writeTracingData } from './tracing-data.ts';

// struct perf_file_header and struct perf_event_attr (PERF_ATTR_SIZE_VER7).
const FILE_HEADER = 104;
const ATTR_SIZE = 128;
const TYPE_TRACEPOINT = 2;
// perf_event_sample_format.
const SAMPLE_TID = 1 << 1;
const SAMPLE_TIME = 1 << 2;
const SAMPLE_CPU = 1 << 7;
const SAMPLE_PERIOD = 1 << 8;
const SAMPLE_RAW = 1 << 10;
const SAMPLE_IDENTIFIER = 1 << 16;
const SAMPLE_TYPE = SAMPLE_TID | SAMPLE_TIME | SAMPLE_CPU | SAMPLE_PERIOD | SAMPLE_RAW | SAMPLE_IDENTIFIER;
// perf_event_type, and the misc bits of the host kernel.
const RECORD_COMM = 3;
const RECORD_SAMPLE = 9;
const MISC_KERNEL = 1;
// Feature sections that are written, ascending.
const FEATURE_TRACING_DATA = 1;
const FEATURE_CPUID = 9;

/** CPUID as `perf` writes it: vendor, family, model, stepping. `perf kvm` takes the names of exits from the vendor. */
const CPUID = { intel: 'GenuineIntel,6,85,7', amd: 'AuthenticAMD,23,49,0' } as const;

function writeAttributes(out: Bytes, points: readonly Tracepoint[], idsAt: number): void {
  for (const [index, point] of points.entries()) {
    const end = out.length + ATTR_SIZE;
    out.u32(TYPE_TRACEPOINT).u32(ATTR_SIZE).u64(point.id);
    // A sample at every hit.
    out.u64(1).u64(SAMPLE_TYPE).u64(0).u64(0);
    out.zeros(end - out.length);
    out.u64(idsAt + index * 8).u64(8);
  }
}

/** PERF_RECORD_COMM: the name of a vCPU's thread. */
function writeComm(out: Bytes, vcpu: number): void {
  const name = new Bytes().cstring(vcpuComm(vcpu)).align(8).done();
  out
    .u32(RECORD_COMM)
    .u16(0)
    .u16(16 + name.length);
  out.u32(VM_PID).u32(vcpuTid(vcpu)).bytes(name);
}

/** PERF_RECORD_SAMPLE with the fields of SAMPLE_TYPE in their order. */
function writeSample(out: Bytes, vcpu: number, time: number, id: number, raw: Uint8Array): void {
  // The size before the raw bytes and padding after them make a multiple of 8.
  const rawSize = Math.ceil((raw.length + 4) / 8) * 8 - 4;
  out
    .u32(RECORD_SAMPLE)
    .u16(MISC_KERNEL)
    .u16(8 + 40 + 4 + rawSize);
  out.u64(id).u32(VM_PID).u32(vcpuTid(vcpu)).u64(time).u32(vcpu).u32(0).u64(1);
  out
    .u32(rawSize)
    .bytes(raw)
    .zeros(rawSize - raw.length);
}

/** A whole perf.data. */
export function perfData(run: TimedTrace): Uint8Array {
  const byName = tracepoints(run);
  const points = [...byName.values()];
  const idsAt = FILE_HEADER;
  const attributesAt = idsAt + points.length * 8;
  const attributesSize = points.length * (ATTR_SIZE + 16);
  const dataAt = attributesAt + attributesSize;

  const data = new Bytes();
  for (const vcpu of run.vcpus.keys()) writeComm(data, vcpu);
  const record = new Bytes();
  eachRecord(run, byName, (event, point, time) => {
    record.clear();
    point.write(event, record);
    writeSample(data, event.vcpu, time, point.id, record.done());
  });

  const out = new Bytes();
  out
    .text('PERFILE2')
    .u64(FILE_HEADER)
    .u64(ATTR_SIZE + 16);
  out.u64(attributesAt).u64(attributesSize).u64(dataAt).u64(data.length).u64(0).u64(0);
  out.u64(2 ** FEATURE_TRACING_DATA + 2 ** FEATURE_CPUID).zeros(24);
  for (const point of points) out.u64(point.id);
  writeAttributes(out, points, idsAt);
  out.bytes(data.done());

  const sections = out.length;
  out.zeros(2 * 16);
  for (const [index, write] of [
    () => writeTracingData(out, '0.6', points, run.vcpus.length),
    () => {
      const text = new Bytes().cstring(CPUID[run.vendor]).align(64).done();
      out.u32(text.length).bytes(text);
    },
  ].entries()) {
    const start = out.length;
    write();
    out.patchU64(sections + index * 16, start);
    out.patchU64(sections + index * 16 + 8, out.length - start);
  }
  return out.done();
}
