/**
 * `npm run fuzz:cpu [-- --cases N] [-- --seed S] [-- --case N]`: random bytes on the CPU core. Prints what it found and how much it ran; the
 * status is 1 if there is a finding. `--case` runs one case of a seed alone. The cases run in a process of their own, so that a hang is a
 * finding, too.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Campaign, type Summary } from './campaign.ts';

/** Cases between two reports. */
const BATCH = 1000;
/** Milliseconds a batch may take. */
const PATIENCE = 60_000;

type Report = { readonly next: number } | { readonly summary: Summary };

function option(name: string, usual: number): number {
  const at = process.argv.indexOf(`--${name}`);
  const value = at < 0 ? usual : Number(process.argv[at + 1]);
  if (Number.isInteger(value) && value >= 0) return value;
  console.error(`fuzz:cpu: --${name} wants a whole number`);
  process.exit(2);
}

const seed = option('seed', 1);
const first = option('case', 0);
const cases = process.argv.includes('--case') ? 1 : option('cases', 1_000_000);

function work(): void {
  const send = (report: Report): void => {
    process.send?.(report);
  };
  const campaign = new Campaign(seed);
  for (let at = first; at < first + cases; at += BATCH) {
    send({ next: at });
    campaign.run(at, Math.min(BATCH, first + cases - at));
  }
  send({ summary: campaign.summary });
}

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
  const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--work']);
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

if (process.argv.includes('--work')) work();
else watch();
