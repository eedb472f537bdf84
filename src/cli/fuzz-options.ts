/** Options of campaigns and their queue; loads nothing else, so that --help answers at once. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { wholeNumber } from './options.ts';
import type { Output } from './output.ts';

/** Seconds without --runs and --time. */
export const DEFAULT_TIME = 60;

const UNITS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** `10`, `10s`, `5m`, `2h`, `1d` in seconds. */
export function duration(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError('It must be a time: 30, 30s, 5m, 2h, 1d.');
  return Number(number) * UNITS[unit];
}

export const jobsOption = (): Option =>
  new Option('--jobs <n>', 'worker threads; default one per core').argParser(wholeNumber);
export const lockOption = (): Option =>
  new Option(
    '--lock <time>',
    'a worker of the queue that is silent so long counts as dead; the same for all (default 30s)',
  ).argParser(duration);

/** Options of a command that runs a campaign. */
export function addCampaignOptions(command: Command): Command {
  return command
    .option('--runs <n>', 'cases of the whole campaign, rounded up to whole blocks', wholeNumber)
    .addOption(
      new Option(
        '--time <time>',
        `begin no block after this time, e.g. 30s, 5m, 2h; default ${DEFAULT_TIME}s without --runs`,
      ).argParser(duration),
    )
    .option('--dir <dir>', 'keep results in this directory, and go on with what is there')
    .addOption(jobsOption())
    .option('--shard <i/n>', 'only the i-th of n parts, i from 0')
    .option('--queue <url>', 'let workers of a Redis or Valkey server compute (kvmscope fuzz worker); needs --dir')
    .addOption(lockOption());
}

/** The parts of `kvmscope fuzz` that need no kind of campaign: merge and worker. */
export function addFuzzTools(fuzz: Command, run: (action: (output: Output) => Promise<number>) => void): void {
  const json = new Option('--json', 'print one JSON document (versioned, see README)');
  fuzz
    .command('merge')
    .description('join campaign directories, such as those of shards; order and repetition do not matter')
    .argument('<dir...>', 'directories of one campaign')
    .requiredOption('--out <dir>', 'the joined directory; may exist')
    .addOption(json)
    .action((dirs: string[], options) =>
      run(async (out) => (await import('./fuzz-merge.ts')).mergeCommand(dirs, options, out)),
    );
  fuzz
    .command('worker')
    .description('compute blocks of the campaigns that were given to a queue')
    .argument('<url>', 'Redis or Valkey server: redis://host:6379, rediss://…, unix:/path/of/socket')
    .addOption(jobsOption())
    .addOption(lockOption())
    .option('--until-empty', 'end when the queue is empty; otherwise wait for more')
    .addOption(json)
    .action((url: string, options) =>
      run(async (out) => (await import('./fuzz-worker.ts')).workerCommand(url, options, out)),
    );
}
