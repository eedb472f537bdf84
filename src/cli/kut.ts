/** `kvmscope kut`: every configuration of a built kvm-unit-tests tree, in parallel processes of `kvmscope boot`. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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

const TONES = { PASS: 'good', FAIL: 'bad', SKIP: 'dim' } as const;

export async function kutCommand(dir: string, flags: KutFlags, output: Output): Promise<number> {
  const arch = treeArch(dir);
  const all = readUnittests(dir);
  if (arch === undefined)
    throw new KvmscopeError(
      'not-found',
      `${join(dir, 'config.mak')} names no x86 architecture: configure and build the tree first`,
    );
  const era = resolveEra(flags.kvm).name;
  const unknown = flags.test?.find((name) => all.every((configuration) => configuration.name !== name));
  if (unknown !== undefined) throw new KvmscopeError('usage', `--test: no configuration '${unknown}' in unittests.cfg`);
  const wanted = all.filter(
    ({ name, groups }) =>
      (flags.test === undefined || flags.test.includes(name)) &&
      (flags.group === undefined || groups.includes(flags.group)),
  );
  if (wanted.length === 0) throw new KvmscopeError('usage', `--group: no configuration is in group '${flags.group}'`);

  const folder = mkdtempSync(join(tmpdir(), 'kvmscope-kut-'));
  const environment = join(folder, 'environment');
  writeFileSync(environment, ENVIRONMENT);
  const named = flags.all === true || flags.test !== undefined;
  try {
    const results = await inParallel(
      wanted,
      flags.jobs ?? availableParallelism(),
      async (configuration) => {
        const why = skipReason(configuration, arch, named);
        return why === undefined
          ? await runOne(dir, configuration, era, environment, flags)
          : skipped(configuration.name, why);
      },
      (result, index) => {
        if (flags.json) return;
        if (flags.tap) output.out(tapLine(result, index));
        else writeLines(output, [resultLine(result, output)]);
      },
    );
    const failed = results.filter(({ status }) => status === 'FAIL').length;
    report(results, { dir, arch, era }, flags, output);
    return failed === 0 ? EXIT_OK : EXIT_FAILED;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const skipped = (name: string, reason: string): KutResult => ({
  ...judgeOutput(name, KUT_EXIT.skip, '', reason, 0),
});

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
  await Promise.all(Array.from({ length: Math.max(1, jobs) }, worker));
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
    // Beyond its own time limit a machine is stopped from outside.
    const guard = setTimeout(() => child.kill('SIGKILL'), (timeout + 30) * 1000);
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

export interface KutRun {
  readonly dir: string;
  readonly arch: KutArch;
  readonly era: string;
}

function report(results: readonly KutResult[], run: KutRun, flags: KutFlags, output: Output): void {
  const of = (status: KutResult['status']): number => results.filter((result) => result.status === status).length;
  const [passed, failed, skips] = [of('PASS'), of('FAIL'), of('SKIP')];
  if (flags.results !== undefined) {
    writeFileSync(flags.results, resultsPage(results, run, suiteCommit(run.dir), new Date()));
  }
  if (flags.json) output.out(document('kut', failed === 0, { ...run, passed, failed, skipped: skips, results }));
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
