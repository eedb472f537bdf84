/**
 * `npm run fuzz:cpu`: random bytes on the CPU core. Prints what it found and how much it ran; the status is 1 if there is a finding. The cases
 * run in a process of their own, so that a hang is a finding, too. `npm run fuzz:cpu -- --help` names the options.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { numbersOf } from '../options.ts';
import type { Summary } from './campaign.ts';

const USAGE = `npm run fuzz:cpu -- [options]

  --cases N   cases from the seed's first on (default 1000000)
  --case N    case N of the seed alone, counted from 0
  --seed S    seed of the cases; an even one is of an Intel processor, an odd one of an AMD processor (default 1)
`;

/** Cases between two reports. */
const BATCH = 1000;
/** Milliseconds a batch may take. */
const PATIENCE = 60_000;

/** What worker.ts sends: the next case, or, at the end, what was found. */
export type Report = { readonly next: number } | { readonly summary: Summary };

const given = numbersOf('fuzz:cpu', USAGE, {
  cases: { least: 1, usual: 1_000_000 },
  case: { least: 0 },
  seed: { least: 0, usual: 1 },
});
const seed = given.seed as number;
const first = given.case ?? 0;
const cases = given.case === undefined ? (given.cases as number) : 1;

function print(summary: Summary, seconds: number): void {
  for (const { number, what, start } of summary.findings.slice(0, 50)) {
    console.log(`--seed ${seed} --case ${number}\n  ${start}\n  ${what}`);
  }
  const table = (title: string, counts: Readonly<Record<string, number>>): void => {
    console.log(title);
    for (const [name, count] of Object.entries(counts).sort(([, a], [, b]) => b - a)) {
      console.log(`${String(count).padStart(12)}  ${name}`);
    }
  };
  table('cases by mode', summary.modes);
  table('exits', summary.exits);
  const { steps, findings } = summary;
  console.log(
    `seed ${seed}: ${summary.cases} cases, ${steps} steps, ${findings.length} findings, ${seconds.toFixed(0)} s`,
  );
}

function watch(): void {
  const begun = performance.now();
  const worker = fileURLToPath(new URL('worker.ts', import.meta.url));
  const child = fork(worker, [seed, first, cases, BATCH].map(String));
  let next = first;
  let summary: Summary | undefined;
  let timer: NodeJS.Timeout | undefined;
  child.on('message', (report: Report) => {
    clearTimeout(timer);
    if ('summary' in report) {
      summary = report.summary;
      child.disconnect();
      return;
    }
    next = report.next;
    timer = setTimeout(() => {
      console.log(`one of the cases ${next} … ${next + BATCH - 1} of seed ${seed} does not end`);
      child.kill('SIGKILL');
    }, PATIENCE);
  });
  child.on('exit', () => {
    clearTimeout(timer);
    if (summary === undefined) console.log(`the process ended in one of the cases ${next} … ${next + BATCH - 1}`);
    else print(summary, (performance.now() - begun) / 1000);
    process.exitCode = summary?.findings.length === 0 ? 0 : 1;
  });
}

watch();
