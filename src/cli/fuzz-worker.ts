/** `kvmscope fuzz worker`: computes blocks of a queue. */
import { KvmscopeError, workQueue } from '../index.ts';
import { document } from '../trace/json.ts';
import { withInterrupts } from './interrupts.ts';
import { EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface WorkerFlags {
  readonly jobs?: number;
  readonly lock?: number;
  readonly untilEmpty?: boolean;
  readonly json?: boolean;
}

export async function workerCommand(url: string, flags: WorkerFlags, output: Output): Promise<number> {
  const { jobs, lock, untilEmpty } = flags;
  if (jobs === 0) throw new KvmscopeError('usage', '--jobs must be 1 or more');
  const report = await withInterrupts(
    (again) => output.err(`stopping: blocks in progress are finished; ${again} puts them back into the queue\n`),
    (signals) =>
      workQueue({
        url,
        ...signals,
        ...(jobs === undefined ? {} : { jobs }),
        ...(lock === undefined ? {} : { lock }),
        ...(untilEmpty === undefined ? {} : { untilEmpty }),
      }),
  );
  const { blocks, cases, seconds } = report;
  if (flags.json) output.out(document('fuzz worker', true, { blocks, cases, seconds }));
  else writeLines(output, [`${blocks} blocks, ${cases.toLocaleString('en-US')} cases, ${seconds.toFixed(1)} s`]);
  return EXIT_OK;
}
