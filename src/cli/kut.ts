/** `kvmscope kut`: every configuration of a built kvm-unit-tests tree, in parallel processes of `kvmscope boot`. */
import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  judgeOutput,
  KUT_EXIT,
  type KutArch,
  type KutConfiguration,
  type KutResult,
  KvmscopeError,
  machineOf,
  readUnittests,
  resolveEra,
  skipReason,
  treeArch,
} from '../index.ts';
import { document } from '../trace/json.ts';
import { resultsPage } from './kut-page.ts';
import { EXIT_FAILED, EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

export interface KutFlags {
  readonly group?: string;
  readonly test?: readonly string[];
  readonly all?: boolean;
  readonly kvm?: string;
  readonly vendor?: 'intel' | 'amd';
  readonly jobs?: number;
  readonly timeout?: number;
  readonly tap?: boolean;
  readonly results?: string;
  readonly json?: boolean;
}

const PROGRAM = fileURLToPath(new URL('../../scripts/kvmscope.js', import.meta.url));
/** The environment that the suite's own runner hands to images. */
const ENVIRONMENT = 'BOOTLOADER=0\nTEST_DEVICE=1\n';

/** setTimeout takes no more milliseconds. */
const MAX_DELAY = 2 ** 31 - 1;

const TONES = { PASS: 'good', FAIL: 'bad', SKIP: 'dim' } as const;

/** A tree and the configurations that are wanted of it. */
interface Tree {
  readonly dir: string;
  readonly arch: KutArch;
  readonly wanted: readonly KutConfiguration[];
}

function openTree(dir: string, flags: KutFlags): Tree {
  const all = readUnittests(dir);
  const arch = treeArch(dir);
  if (arch === undefined) {
    const path = join(dir, 'config.mak');
    throw new KvmscopeError('not-found', `${path} names no x86 architecture: configure and build the tree first`);
  }
  const unknown = flags.test?.find((name) => all.every((configuration) => configuration.name !== name));
  if (unknown !== undefined) throw new KvmscopeError('usage', `--test: no configuration '${unknown}' in unittests.cfg`);
  const wanted = all.filter(
    ({ name, groups }) =>
      (flags.test === undefined || flags.test.includes(name)) &&
      (flags.group === undefined || groups.includes(flags.group)),
  );
  if (wanted.length === 0) throw new KvmscopeError('usage', `--group: no configuration is in group '${flags.group}'`);
  return { dir, arch, wanted };
}

/** Mistakes are told before anything runs. */
function checkFlags({ jobs, timeout, results }: KutFlags): void {
  const wrong = (message: string): never => {
    throw new KvmscopeError('usage', message);
  };
  if (jobs === 0) wrong('--jobs must be 1 or more');
  if (timeout !== undefined && (!Number.isFinite(timeout) || timeout < 0))
    wrong('--timeout must be a number of seconds');
  if (results === undefined) return;
  try {
    appendFileSync(results, '');
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    wrong(`--results: '${results}' cannot be written (${why})`);
  }
}

export async function kutCommand(dirs: readonly string[], flags: KutFlags, output: Output): Promise<number> {
  const trees = dirs.map((dir) => openTree(dir, flags));
  checkFlags(flags);
  const era = resolveEra(flags.kvm).name;
  const folder = mkdtempSync(join(tmpdir(), 'kvmscope-kut-'));
  const environment = join(folder, 'environment');
  writeFileSync(environment, ENVIRONMENT);
  const runs: KutRun[] = [];
  try {
    for (const tree of trees) {
      if (trees.length > 1 && !flags.json && !flags.tap) writeLines(output, ['', `${tree.dir} (${tree.arch})`]);
      runs.push(await runTree(tree, era, environment, flags, output));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  report(runs, flags, output);
  return runs.every(({ results }) => results.every(({ status }) => status !== 'FAIL')) ? EXIT_OK : EXIT_FAILED;
}

async function runTree(
  { dir, arch, wanted }: Tree,
  era: string,
  environment: string,
  flags: KutFlags,
  output: Output,
): Promise<KutRun> {
  const named = flags.all === true || flags.test !== undefined;
  const results = await inParallel(
    wanted,
    flags.jobs ?? availableParallelism(),
    async (configuration) => {
      const why = skipReason(configuration, arch, named);
      if (why !== undefined) return judgeOutput(configuration.name, KUT_EXIT.skip, '', why, 0);
      return await runOne(dir, configuration, era, environment, flags);
    },
    (result, index) => {
      if (flags.json) return;
      if (flags.tap) output.out(tapLine(result, index));
      else writeLines(output, [resultLine(result, output)]);
    },
  );
  return { dir, arch, era, results };
}

/** Runs `work` over the items, `jobs` at a time, and hands the results to `each` in the items' order. */
async function inParallel<T, R>(
  items: readonly T[],
  jobs: number,
  work: (item: T) => Promise<R>,
  each: (result: R, index: number) => void,
): Promise<R[]> {
  const results: R[] = [];
  const done: boolean[] = [];
  let next = 0;
  let told = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await work(items[index]);
      done[index] = true;
      for (; done[told]; told++) each(results[told], told);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, worker));
  return results;
}

function runOne(
  dir: string,
  configuration: KutConfiguration,
  era: string,
  environment: string,
  flags: KutFlags,
): Promise<KutResult> {
  const machine = machineOf(configuration.parameters);
  const timeout = flags.timeout ?? configuration.timeout;
  const vendor = machine.vendor ?? flags.vendor;
  const args = [
    PROGRAM,
    'boot',
    join(dir, 'x86', configuration.file),
    ...['--smp', String(configuration.smp), '--kvm', era, '--timeout', String(timeout), '--initrd', environment],
    ...(configuration.args === '' ? [] : ['--append', configuration.args]),
    ...(machine.cpu === '' ? [] : ['--cpu', machine.cpu]),
    ...(machine.memory === undefined ? [] : ['--mem', machine.memory]),
    ...(vendor === undefined ? [] : ['--vendor', vendor]),
    ...(machine.pit ? [] : ['--no-pit']),
  ];
  const start = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    let message = '';
    child.stdout.setEncoding('latin1').on('data', (part: string) => {
      text += part;
    });
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      message += part;
    });
    // Beyond its own time limit a machine is stopped from outside; 0 is no limit, and one of more than 24 days is none for setTimeout.
    const limit = (timeout + 30) * 1000;
    const guard = timeout === 0 || limit > MAX_DELAY ? undefined : setTimeout(() => child.kill('SIGKILL'), limit);
    child.on('close', (code) => {
      clearTimeout(guard);
      const [line = ''] = message.trim().split('\n').slice(-1);
      const why = line.replace(/^kvmscope: /, '').replace(`${join(dir, 'x86', configuration.file)}: `, '');
      resolve(judgeOutput(configuration.name, code ?? 137, text, why, (performance.now() - start) / 1000));
    });
  });
}

const counts = ({ pass, fail, skip }: KutResult): string => {
  const parts = [`${pass + fail + skip} tests`, fail > 0 ? `${fail} failed` : '', skip > 0 ? `${skip} skipped` : ''];
  return pass + fail + skip === 0 ? '' : `(${parts.filter((part) => part !== '').join(', ')})`;
};

function resultLine(result: KutResult, { paint }: Output): string {
  const { name, status, reason } = result;
  const amount = counts(result);
  const why = reason === '' || (status === 'FAIL' && result.fail > 0) ? '' : ` (${reason})`;
  return `${paint(TONES[status], status)} ${name}${amount && ` ${amount}`}${why}`;
}

function tapLine({ name, status, reason, failures }: KutResult, index: number): string {
  const directive = status === 'SKIP' ? ` # SKIP ${reason}` : '';
  const comments = [...failures, ...(status === 'FAIL' ? [reason] : [])].map((line) => `# ${line}\n`).join('');
  return `${status === 'FAIL' ? 'not ok' : 'ok'} ${index + 1} - ${name}${directive}\n${comments}`;
}

/** One tree's results. */
export interface KutRun {
  readonly dir: string;
  readonly arch: KutArch;
  readonly era: string;
  readonly results: readonly KutResult[];
}

function report(runs: readonly KutRun[], flags: KutFlags, output: Output): void {
  const results = runs.flatMap((run) => run.results);
  const of = (status: KutResult['status']): number => results.filter((result) => result.status === status).length;
  const [passed, failed, skips] = [of('PASS'), of('FAIL'), of('SKIP')];
  if (flags.results !== undefined) {
    writeFileSync(flags.results, resultsPage(runs, suiteCommit(runs[0].dir), new Date(), flags.timeout));
  }
  if (flags.json) output.out(document('kut', failed === 0, { passed, failed, skipped: skips, runs }));
  else if (flags.tap) output.out(`1..${results.length}\n`);
  else
    writeLines(output, ['', `${results.length} configurations: ${passed} passed, ${failed} failed, ${skips} skipped`]);
}

/** The commit of the suite, if its folder is a checkout. */
function suiteCommit(dir: string): string {
  try {
    return execFileSync('git', ['-C', dir, 'log', '-1', '--format=%h of %cs'], { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim();
  } catch {
    return 'unknown';
  }
}
