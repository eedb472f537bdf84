import { expect, it } from 'vitest';
import { everyEvent } from './events.fixture.ts';
import { isTracepoint } from './ftrace.ts';
import { perfData } from './perf-data.ts';
import { tracepoints } from './tracepoints.ts';

const run = everyEvent('6.18', 'amd');
const file = perfData(run).slice();
const view = new DataView(file.buffer);
const u64 = (at: number): number => Number(view.getBigUint64(at, true));
const text = (at: number, length: number): string => Buffer.from(file).toString('latin1', at, at + length);
const points = [...tracepoints(run).values()];

it('has the header of perf.data: magic, sizes, sections one behind the other', () => {
  expect(text(0, 8)).toBe('PERFILE2');
  const [headerSize, attrSize, attrsAt, attrsSize, dataAt] = [8, 16, 24, 32, 40].map(u64);
  expect([headerSize, attrSize]).toEqual([104, 144]);
  expect(attrsSize).toBe(points.length * attrSize);
  expect([attrsAt, dataAt]).toEqual([104 + points.length * 8, attrsAt + attrsSize]);
  // HEADER_TRACING_DATA and HEADER_CPUID.
  expect(u64(72)).toBe((1 << 1) | (1 << 9));
});

it('has one tracepoint attribute per event, sampled at every hit, with its own sample id', () => {
  for (const [i, point] of points.entries()) {
    const at = u64(24) + i * 144;
    expect([view.getUint32(at, true), view.getUint32(at + 4, true), u64(at + 8), u64(at + 16)]).toEqual([
      2,
      128,
      point.id,
      1,
    ]);
    expect([u64(u64(at + 128)), u64(at + 136)]).toEqual([point.id, 8]);
  }
});

it('has a COMM record per vCPU and a sample per event, in order, each a multiple of 8 bytes', () => {
  const end = u64(40) + u64(48);
  const comms: unknown[] = [];
  const samples: unknown[] = [];
  for (let at = u64(40); at < end; ) {
    const [type, size] = [view.getUint32(at, true), view.getUint16(at + 6, true)];
    expect(size % 8).toBe(0);
    if (type === 3) comms.push([view.getUint32(at + 12, true), text(at + 16, 9)]);
    else samples.push([u64(at + 8), view.getUint32(at + 20, true), u64(at + 24), view.getUint32(at + 32, true)]);
    at += size;
  }
  expect(comms).toEqual([0, 1, 2].map((vcpu) => [1000 + vcpu, `CPU ${vcpu}/KVM`]));
  const byName = tracepoints(run);
  const expected = run.trace.flatMap((event, i) =>
    isTracepoint(event) ? [[byName.get(event.event)?.id, 1000 + event.vcpu, run.times[i], event.vcpu]] : [],
  );
  expect(samples).toEqual(expected);
});

it('ends with tracing data and the CPUID that tells perf the vendor', () => {
  const sections = u64(40) + u64(48);
  const [tracing, tracingSize, cpuid, cpuidSize] = [0, 8, 16, 24].map((offset) => u64(sections + offset));
  expect(text(tracing, 14)).toBe('\x17\x08\x44tracing0.6\0'.slice(0, 14));
  expect(cpuid).toBe(tracing + tracingSize);
  expect(text(cpuid + 4, 16)).toBe('AuthenticAMD,23,');
  expect(cpuid + cpuidSize).toBe(file.length);
  const intel = Buffer.from(perfData(everyEvent('6.18', 'intel')));
  expect(intel.includes('GenuineIntel,6,85,7\0')).toBe(true);
});
