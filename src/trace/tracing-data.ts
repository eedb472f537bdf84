/**
 * The part that trace.dat version 6 and perf.data's HEADER_TRACING_DATA share: ring-buffer layout, event formats, task names
 * (trace-cmd.dat.v6(5); tools/perf/util/trace-event-read.c).
 */
import type { Bytes } from './bytes.ts';
import { vcpuComm, vcpuTid } from './timed.ts';
import type { Tracepoint } from './tracepoints.ts';

/** Bytes of a ring-buffer page, and of its header: u64 time stamp, u64 length of the data. */
export const PAGE_SIZE = 4096;
export const PAGE_HEADER = 16;

const HEADER_PAGE = [
  '\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n',
  '\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n',
  '\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n',
  `\tfield: char data;\toffset:${PAGE_HEADER};\tsize:${PAGE_SIZE - PAGE_HEADER};\tsigned:1;\n`,
].join('');

const HEADER_EVENT = [
  '# compressed entry header\n',
  '\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n',
  '\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\tdata max type_len  == 28\n',
].join('');

/** Magic, `version` and everything up to the task names; little-endian, 8-byte longs. */
export function writeTracingData(out: Bytes, version: '6' | '0.6', points: Iterable<Tracepoint>, vcpus: number): void {
  out.u8(0x17).u8(0x08).u8(0x44).text('tracing').cstring(version);
  out.u8(0).u8(8).u32(PAGE_SIZE);
  out.cstring('header_page').u64(HEADER_PAGE.length).text(HEADER_PAGE);
  out.cstring('header_event').u64(HEADER_EVENT.length).text(HEADER_EVENT);
  // No events of ftrace itself; one system.
  out.u32(0).u32(1);
  const formats = [...points].map((point) => point.format);
  out.cstring('kvm').u32(formats.length);
  for (const format of formats) out.u64(format.length).text(format);
  // No kernel symbols, no trace_printk formats.
  out.u32(0).u32(0);
  let tasks = '';
  for (let vcpu = 0; vcpu < vcpus; vcpu++) tasks += `${vcpuTid(vcpu)} ${vcpuComm(vcpu)}\n`;
  out.u64(tasks.length).text(tasks);
}
