/** The text layout of `trace-cmd report -N -t`: the number of CPUs, then one line per event. For people and grep. */
import { ftraceLines } from './ftrace.ts';
import type { TimedTrace } from './timed.ts';

/** Lines joined before they are encoded, so that no single string has to hold a long trace. */
const BATCH = 4096;

export function reportText(run: TimedTrace): Uint8Array {
  const encoder = new TextEncoder();
  const parts = [encoder.encode(`cpus=${run.vcpus.length}\n`)];
  let batch: string[] = [];
  const flush = (): void => {
    parts.push(encoder.encode(batch.map((line) => `${line}\n`).join('')));
    batch = [];
  };
  for (const line of ftraceLines(run)) {
    if (batch.push(line) === BATCH) flush();
  }
  flush();
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
