/**
 * trace.dat version 6, the file of trace-cmd (trace-cmd.dat.v6(5)): `trace-cmd report` and KernelShark read it. vCPU n's thread runs on
 * CPU n, so each vCPU has its own ring buffer. Pages and events are laid out as in kernel/trace/ring_buffer.c.
 */
import { Bytes } from './bytes.ts';
import type { TimedTrace } from './timed.ts';
import { eachRecord, tracepoints } from './tracepoints.ts';
import { PAGE_HEADER, PAGE_SIZE, writeTracingData } from './tracing-data.ts';

/** Event header: type_len in bits 4:0, time delta in bits 31:5. */
const TYPE_TIME_EXTEND = 30;
const DELTA_LIMIT = 2 ** 27;
/** Longest record whose length fits type_len, in bytes. */
const MAX_RECORD = 28 * 4;

/** The ring buffer of one CPU. */
class CpuBuffer {
  readonly #pages = new Bytes();
  #pageStart = -1;
  #lastTime = 0;

  /** Appends a record of at most MAX_RECORD bytes; its length is a multiple of 4. */
  append(time: number, record: Uint8Array): void {
    let delta = time - this.#lastTime;
    const used = this.#pages.length - this.#pageStart;
    const needed = 4 + record.length + (delta >= DELTA_LIMIT ? 8 : 0);
    if (this.#pageStart < 0 || used + needed > PAGE_SIZE) {
      this.#closePage();
      this.#pageStart = this.#pages.length;
      this.#pages.u64(time).u64(0);
      delta = 0;
    }
    if (delta >= DELTA_LIMIT) {
      this.#pages.u32((delta % DELTA_LIMIT) * 32 + TYPE_TIME_EXTEND).u32(Math.floor(delta / DELTA_LIMIT));
      delta = 0;
    }
    this.#pages.u32(delta * 32 + record.length / 4).bytes(record);
    this.#lastTime = time;
  }

  /** The buffer's pages. */
  done(): Uint8Array {
    this.#closePage();
    this.#pageStart = -1;
    return this.#pages.done();
  }

  #closePage(): void {
    if (this.#pageStart < 0) return;
    this.#pages.patchU64(this.#pageStart + 8, this.#pages.length - this.#pageStart - PAGE_HEADER);
    this.#pages.align(PAGE_SIZE);
  }
}

/** A whole trace.dat. */
export function traceDat(run: TimedTrace): Uint8Array {
  const points = tracepoints(run);
  const cpus = run.vcpus.map(() => new CpuBuffer());
  const record = new Bytes();
  eachRecord(run, points, (event, point, time) => {
    if (point.size > MAX_RECORD) throw new RangeError(`${point.name}: a record of ${point.size} bytes`);
    record.clear();
    point.write(event, record);
    cpus[event.vcpu].append(time, record.done());
  });

  const out = new Bytes();
  writeTracingData(out, '6', points.values(), cpus.length);
  out.u32(cpus.length);
  // No options: an id of 0 ends their list.
  out.text('options  \0').u16(0);
  out.text('flyrecord\0');
  const table = out.length;
  out.zeros(cpus.length * 16).align(PAGE_SIZE);
  for (const [index, cpu] of cpus.entries()) {
    const pages = cpu.done();
    out.patchU64(table + index * 16, out.length);
    out.patchU64(table + index * 16 + 8, pages.length);
    out.bytes(pages);
  }
  return out.done();
}
