/** Trace files by the ending of their name: one row per format. */
import { KvmscopeError } from '../errors.ts';
import { perfData } from './perf-data.ts';
import { perfettoTrace } from './perfetto.ts';
import { reportText } from './report-text.ts';
import type { TimedTrace } from './timed.ts';
import { traceDat } from './trace-dat.ts';

export interface TraceFormat {
  /** Ending of the file's name, with the dot. */
  readonly ending: string;
  /** What the file is and what reads it. */
  readonly title: string;
  encode(run: TimedTrace): Uint8Array;
}

export const TRACE_FORMATS: readonly TraceFormat[] = [
  { ending: '.dat', title: 'trace-cmd, KernelShark', encode: traceDat },
  { ending: '.data', title: 'perf script, perf kvm stat report', encode: perfData },
  { ending: '.pftrace', title: 'Perfetto', encode: perfettoTrace },
  { ending: '.txt', title: "text in trace-cmd's layout", encode: reportText },
];

/** The format that a file name's ending asks for. Throws KvmscopeError('usage') if no format has that ending. */
export function traceFormat(path: string): TraceFormat {
  const format = TRACE_FORMATS.find(({ ending }) => path.endsWith(ending));
  if (format !== undefined) return format;
  const known = TRACE_FORMATS.map(({ ending, title }) => `${ending} (${title})`).join(', ');
  throw new KvmscopeError('usage', `trace file '${path}': the ending decides the format; it must be one of ${known}`);
}

/** A run as the bytes of a trace file named `path`. Throws as {@link traceFormat}. */
export const encodeTrace = (run: TimedTrace, path: string): Uint8Array => traceFormat(path).encode(run);
