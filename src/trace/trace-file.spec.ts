import { expect, it } from 'vitest';
import { everyEvent } from './events.fixture.ts';
import { ftraceLines } from './ftrace.ts';
import { encodeTrace, TRACE_FORMATS, traceFormat } from './trace-file.ts';

const run = everyEvent('5.6', 'intel');

it.each(TRACE_FORMATS)('$ending: a name with this ending gets this format', ({ ending, encode }) => {
  expect(traceFormat(`folder.dat/trace${ending}`).ending).toBe(ending);
  expect(encodeTrace(run, `x${ending}`)).toEqual(encode(run));
});

it('.txt holds the lines below the number of CPUs', () => {
  const text = new TextDecoder().decode(encodeTrace(run, 'x.txt'));
  expect(text).toBe(['cpus=3', ...ftraceLines(run), ''].join('\n'));
  expect(text).toContain('\n       CPU 2/KVM-1002  [002]     0.300000001: kvm_entry:            vcpu 70\n');
});

it('the same run gives the same bytes', () => {
  for (const { encode } of TRACE_FORMATS) expect(encode(run)).toEqual(encode(everyEvent('5.6', 'intel')));
});

it('an ending without a format is refused in one line that lists the endings', () => {
  expect(() => traceFormat('trace.json')).toThrow(
    "trace file 'trace.json': the ending decides the format; it must be one of .dat (trace-cmd, KernelShark), " +
      ".data (perf script, perf kvm stat report), .pftrace (Perfetto), .txt (text in trace-cmd's layout)",
  );
});
