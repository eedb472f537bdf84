/** `kvmscope fuzz race`: one program, every interleaving; or a campaign of generated programs. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  exploreRaces,
  KvmscopeError,
  makeFolder,
  type RaceFind,
  type RaceOptions,
  type RaceProgress,
  type RaceReport,
  type Reduction,
  raceCampaign,
  resolveEra,
} from '../index.ts';
import { document } from '../trace/json.ts';
import { flow, plural, words } from '../trace/text.ts';
import { type CampaignFlags, findName, NO_TIME, runFuzz } from './fuzz-campaign.ts';
import { withInterrupts } from './interrupts.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface RaceFlags extends CampaignFlags {
  readonly kvm?: string;
  readonly against?: string;
  readonly vendor?: 'intel' | 'amd';
  readonly vcpus?: number;
  readonly bound?: number;
  readonly executions?: number;
  readonly maxSteps?: number;
  readonly reduction?: Reduction;
  readonly seed?: number;
}

/** Options that only a campaign has. */
const CAMPAIGN_ONLY = ['jobs', 'shard', 'queue', 'lock'] as const;

export async function raceCommand(file: string | undefined, flags: RaceFlags, output: Output): Promise<number> {
  const kvm = flags.kvm === undefined ? undefined : resolveEra(flags.kvm).name;
  const against = flags.against === undefined ? undefined : resolveEra(flags.against).name;
  const { vendor, vcpus, bound, maxSteps, reduction, seed } = flags;
  const given = present({ kvm, against, vendor, vcpus, bound, maxSteps, reduction, seed });
  if (file === undefined) {
    return runFuzz(raceCampaign({ ...given, ...present({ executions: flags.executions }) }), flags, output);
  }
  for (const name of CAMPAIGN_ONLY) {
    if (flags[name] !== undefined) {
      throw new KvmscopeError('usage', `--${name} is for campaigns; one program is searched by one thread`);
    }
  }
  if (flags.time === 0) throw new KvmscopeError('usage', NO_TIME);
  if (flags.executions !== undefined && flags.runs !== undefined) {
    throw new KvmscopeError('usage', '--runs and --executions are the same for one program; give one of them');
  }
  return searchFile(file, { ...given, ...present({ runs: flags.executions ?? flags.runs }) }, flags, output);
}

/** What is not undefined. */
const present = <T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };

async function searchFile(file: string, options: RaceOptions, flags: RaceFlags, output: Output): Promise<number> {
  const { dir } = flags;
  // Before a search that may take long.
  if (dir !== undefined) inFolder(dir, () => makeFolder(dir));
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  const say = (text: string): void => output.err(output.errIsTerminal ? `\r\x1b[K${text}\n` : `${text}\n`);
  const onProgress = (progress: RaceProgress): void => {
    if (output.errIsTerminal) output.err(`\r\x1b[K${progressText(progress, seconds()).slice(0, output.width - 1)}`);
  };
  const report = await withInterrupts(
    () => say('stopping'),
    ({ signal }) => {
      const stop = (): boolean => signal.aborted || (flags.time !== undefined && seconds() >= flags.time);
      return exploreRaces(file, { ...options, stop, onProgress }).catch((error: Error) => {
        // What the library calls runs of one program has two names here.
        if (flags.executions !== undefined) error.message = error.message.replace(/^runs(?= must )/, '--executions');
        throw error;
      });
    },
  );
  if (output.errIsTerminal) output.err('\r\x1b[K');
  if (dir !== undefined) inFolder(dir, () => writeFinds(dir, report));
  const ok = report.finds.length === 0;
  const { stats, ...rest } = report;
  if (flags.json) {
    output.out(
      document('fuzz', ok, { ...rest, ...stats, ...(dir === undefined ? {} : { dir }), run: { seconds: seconds() } }),
    );
  } else {
    writeLines(output, reportLines(report, seconds(), dir, output));
  }
  return ok ? EXIT_OK : EXIT_FAILED;
}

const number = (value: number): string => Math.round(value).toLocaleString('en-US');

const progressText = ({ executions, states, steps, preemptions, finds }: RaceProgress, seconds: number): string =>
  `${seconds.toFixed(0)} s  ${number(executions)} executions  ${number(steps / Math.max(seconds, 0.001))} steps/s  ` +
  `${number(states)} states  up to ${Math.max(0, preemptions)} preemptions  ${plural(finds, 'find')}`;

const VENDORS = { intel: 'Intel', amd: 'AMD' } as const;

function* reportLines(
  report: RaceReport,
  seconds: number,
  dir: string | undefined,
  { width, paint }: Output,
): Generator<string> {
  const { path, title, kvm, against, vendor, vcpus, stats, finds } = report;
  const labelWidth = title ? Math.min(path.length + 2, width >> 1) : 0;
  yield* flow(path, words(title), { width, paint, indent: 0, labelWidth });
  const versions = against === undefined ? `KVM ${kvm}` : `KVM ${kvm} against ${against}`;
  yield paint('dim', `${versions} on ${VENDORS[vendor as 'intel' | 'amd']}, ${plural(vcpus, 'vCPU')}`);
  yield '';
  yield covered(report);
  yield `${plural(stats.executions, 'execution')} of up to ${plural(stats.longest, 'step')}, ${plural(stats.states, 'state')} with a choice, ${plural(stats.ends, 'different end')}`;
  yield paint('dim', `${seconds.toFixed(1)} s, ${number(stats.steps / seconds)} steps a second`);
  for (const [i, find] of finds.entries()) {
    yield '';
    yield* findLines(find, findName(i), dir, { width, paint });
  }
  if (finds.length === 0) yield paint('good', 'nothing fails');
}

/** What the search has covered, in a line. */
function covered({ stats }: RaceReport): string {
  const { complete, preemptions, random, cut } = stats;
  if (complete) return 'every interleaving';
  const systematic =
    preemptions < 0
      ? 'not even all schedules without preemption'
      : `all schedules with up to ${plural(preemptions, 'preemption')}`;
  const drawn = random === 0 ? '' : `, ${plural(random, 'random schedule')}`;
  return `${systematic}${drawn}${cut === 0 ? '' : `; ${plural(cut, 'execution')} did not end`}`;
}

function* findLines(
  find: RaceFind,
  name: string,
  dir: string | undefined,
  { width, paint }: Pick<Output, 'width' | 'paint'>,
): Generator<string> {
  yield `${paint('bad', '✗')} ${paint('title', name)}  --schedule ${find.schedule === '' ? '(none needed)' : find.schedule}`;
  for (const detail of find.details) yield* flow('', words(detail), { width, paint, indent: 2, labelWidth: 0 });
  if (dir !== undefined && find.program !== undefined) yield paint('dim', `  ${join(dir, `${name}.S`)}`);
}

/** What `write` does in the directory of --dir; one line if that cannot be. */
function inFolder(dir: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    if (error instanceof KvmscopeError) throw error;
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new KvmscopeError('usage', `--dir: '${dir}' cannot be written (${why})`);
  }
}

/** `find-001.S` and `find-001.json` for each find. */
function writeFinds(dir: string, { finds, ...report }: RaceReport): void {
  for (const [i, find] of finds.entries()) {
    const { program, ...rest } = find;
    if (program !== undefined) writeFileSync(join(dir, `${findName(i)}.S`), program);
    const { path, kvm, against, vendor, vcpus, seed } = report;
    const text = JSON.stringify({ ...rest, path, kvm, against, vendor, vcpus, seed }, null, 2);
    writeFileSync(join(dir, `${findName(i)}.json`), `${text}\n`);
  }
}
