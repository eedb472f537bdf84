import { describe, expect, it } from 'vitest';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { TimedTrace } from './timed.ts';
import { traceDat } from './trace-dat.ts';

const entry = (vcpu: number): KvmTraceEvent => ({ vcpu, event: 'kvm_entry', rip: 0n, intrInfo: 0, errorCode: 0 });
const run = (trace: KvmTraceEvent[], times: number[], vcpus = 2): TimedTrace => ({
  era: '5.6',
  vendor: 'intel',
  trace,
  times,
  vcpus: Array.from({ length: vcpus }, (_, apicId) => ({ apicId })),
});

/** Ring-buffer pages of each CPU. */
function buffers(file: Uint8Array): DataView[][] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const marker = Buffer.from(file).indexOf('flyrecord\0');
  const cpus = view.getUint32(marker - 12 - 4, true);
  return Array.from({ length: cpus }, (_, cpu) => {
    const at = marker + 10 + cpu * 16;
    const offset = Number(view.getBigUint64(at, true));
    const size = Number(view.getBigUint64(at + 8, true));
    expect([offset % 4096, size % 4096]).toEqual([0, 0]);
    return Array.from(
      { length: size / 4096 },
      (_, i) => new DataView(file.buffer, file.byteOffset + offset + i * 4096),
    );
  });
}

/** Time stamps of the events on a page. */
function pageTimes(page: DataView): number[] {
  let time = Number(page.getBigUint64(0, true));
  const end = 16 + Number(page.getBigUint64(8, true));
  const times: number[] = [];
  for (let at = 16; at < end; ) {
    const header = page.getUint32(at, true);
    const type = header & 31;
    time += header >>> 5;
    if (type === 30) {
      time += page.getUint32(at + 4, true) * 2 ** 27;
      at += 8;
    } else {
      times.push(time);
      at += 4 + type * 4;
    }
  }
  return times;
}

it('begins as trace-cmd.dat.v6 says: magic, version, byte order, size of long, page size', () => {
  const file = Buffer.from(traceDat(run([], [])));
  expect(file.subarray(0, 18).toString('latin1')).toBe('\x17\x08\x44tracing6\0\0\x08\0\x10\0\0');
  expect(file.includes('1000 CPU 0/KVM\n1001 CPU 1/KVM\n')).toBe(true);
  expect(file.includes('options  \0\0\0flyrecord\0')).toBe(true);
});

describe('ring buffers', () => {
  it('each vCPU has its own, one without events has no page', () => {
    const [first, second] = buffers(traceDat(run([entry(1), entry(1)], [5, 9])));
    expect(first).toEqual([]);
    expect(second.map(pageTimes)).toEqual([[5, 9]]);
  });

  it('a gap of 2^27 ns and more takes a time extension', () => {
    const times = [1, 1 + 2 ** 27 - 1, 2 ** 28 + 5, 2 ** 50];
    const [pages] = buffers(traceDat(run([entry(0), entry(0), entry(0), entry(0)], times)));
    expect(pages.flatMap(pageTimes)).toEqual(times);
    expect(pages).toHaveLength(1);
  });

  it('fills pages and starts each with a full time stamp', () => {
    const times = Array.from({ length: 1000 }, (_, i) => (i + 1) * 7);
    const [pages] = buffers(
      traceDat(
        run(
          times.map(() => entry(0)),
          times,
          1,
        ),
      ),
    );
    expect(pages.flatMap(pageTimes)).toEqual(times);
    // 12 bytes of record and 4 of header in 4080 bytes of page.
    expect(pages.map((page) => pageTimes(page).length)).toEqual([255, 255, 255, 235]);
  });
});
