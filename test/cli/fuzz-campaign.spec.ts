/**
 * Campaigns as a user runs them: processes of their own that are killed, stopped, spread by the recipes of the README and by a queue. All
 * end in the directory of one run that nobody disturbed, byte for byte.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { main } from '../../src/cli/main.ts';
import { readCampaignDirectory } from '../../src/index.ts';
import { RedisServer, redisProgram } from '../../src/lab/fuzz/redis.fixture.ts';
import { noPaint } from '../../src/trace/text.ts';
import { kvmscope, LAUNCHER, ROOT } from './spawn.ts';

// Many processes, each of which takes a second to start, on a machine that may be busy.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

const root = mkdtempSync(join(tmpdir(), 'kvmscope-fuzz-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(root, String(count++));

const BLOCKS = 60;
const BLOCK_SIZE = 2048;
const CAMPAIGN = ['fuzz', 'icr', '--kvm', '5.6-rc1', '--against', '5.6', '--vcpus', '2'];
CAMPAIGN.push('--runs', String(BLOCKS * BLOCK_SIZE));
/** Something was found. */
const FOUND = 1;

const children = new Set<ChildProcess>();
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [LAUNCHER, ...args], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  return child;
}

/** A command that fails at once. */
async function inProcess(...args: string[]): Promise<{ status: number; stderr: string }> {
  let stderr = '';
  const err = (text: string): void => {
    stderr += text;
  };
  const status = await main(args, { width: 100, paint: noPaint, out: () => {}, err });
  return { status, stderr };
}

const contents = (dir: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir)
      .sort()
      .map((name) => [name, readFileSync(join(dir, name), 'utf8')]),
  );

/** What is on stderr besides finds and progress. */
const complaints = (stderr: string): string => stderr.replace(/^(found: |icr .* cases ).*\n/gm, '');

const finished = (dir: string): Set<number> =>
  existsSync(join(dir, 'campaign.json')) ? new Set(readCampaignDirectory(dir).tally.blocks.keys()) : new Set();

/** What one process gives that nobody disturbs. */
let whole: Record<string, string>;
beforeAll(() => {
  const dir = fresh();
  const { status, stderr } = kvmscope(...CAMPAIGN, '--dir', dir, '--jobs', '2');
  expect(complaints(stderr)).toBe('');
  expect(status).toBe(FOUND);
  expect(finished(dir).size).toBe(BLOCKS);
  whole = contents(dir);
  expect(Object.keys(whole)).toEqual(
    expect.arrayContaining(['campaign.json', 'results.json', 'corpus.txt', 'find-001.S']),
  );
});

/**
 * Waits until a file has grown by so many bytes from its smallest size, or anything in a folder has changed, or the process has ended.
 */
async function grown(child: ChildProcess, path: string, bytes: number): Promise<void> {
  const size = (): number => {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat?.isDirectory() ? stat.mtimeMs : (stat?.size ?? 0);
  };
  for (let least = size(); child.exitCode === null && size() < least + bytes; least = Math.min(least, size())) {
    await delay(2);
  }
}

describe('a campaign', () => {
  it('that is killed twenty times at random moments loses nothing and counts nothing twice', async () => {
    const dir = fresh();
    // Any sequence will do; this one is written down so that a failure can be repeated.
    let seed = 12345;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * n);
    };
    let before = new Set<number>();
    let kills = 0;
    for (; kills < 20; kills++) {
      const child = start(...CAMPAIGN, '--dir', dir, '--jobs', String(1 + (kills % 2)));
      const exited = once(child, 'exit');
      // Mostly while blocks are being finished, now and then while what the last one left is put in order.
      if (kills % 4 === 3) await grown(child, dir, 1);
      else await grown(child, join(dir, 'journal.jsonl'), 1 + random(2000));
      await delay(random(10));
      child.kill('SIGKILL');
      const [code] = await exited;
      const now = finished(dir);
      expect([...before].filter((block) => !now.has(block))).toEqual([]);
      before = now;
      if (code !== null) break;
    }
    expect(kills).toBe(20);
    expect(before.size).toBeLessThan(BLOCKS);
    const last = kvmscope(...CAMPAIGN, '--dir', dir, '--json');
    expect(last.status).toBe(FOUND);
    const { cases, run } = JSON.parse(last.stdout);
    expect(cases).toBe(BLOCKS * BLOCK_SIZE);
    expect(run.cases).toBe((BLOCKS - before.size) * BLOCK_SIZE);
    expect(contents(dir)).toEqual(whole);
  });

  it('that is stopped by Ctrl-C finishes its blocks, says so, and goes on later', async () => {
    const dir = fresh();
    const child = start(...CAMPAIGN, '--dir', dir, '--jobs', '2', '--json');
    let [stdout, stderr] = ['', ''];
    child.stdout!.on('data', (part) => {
      stdout += part;
    });
    child.stderr!.on('data', (part) => {
      stderr += part;
    });
    await grown(child, join(dir, 'journal.jsonl'), 1);
    expect(await inProcess(...CAMPAIGN, '--dir', dir)).toEqual({
      status: 2,
      stderr: `kvmscope: ${dir} is in use by process ${child.pid}\n`,
    });
    child.kill('SIGINT');
    const [code] = await once(child, 'close');
    expect(stderr).toContain('stopping: blocks in progress are finished; Ctrl-C again drops them\n');
    const { blocks, run } = JSON.parse(stdout);
    expect(run.end).toBe('stopped');
    expect(blocks).toBeLessThan(BLOCKS);
    expect(finished(dir).size).toBe(blocks);
    expect(code).toBe(existsSync(join(dir, 'find-001.S')) ? FOUND : 0);
    expect(readdirSync(dir).filter((name) => /lock|journal|tmp/.test(name))).toEqual([]);
    expect(kvmscope(...CAMPAIGN, '--dir', dir).status).toBe(FOUND);
    expect(contents(dir)).toEqual(whole);
  });

  it('gives a find as a program that shows it', () => {
    const { status, stdout } = kvmscope('run', writeFind(), '--kvm', '5.6-rc1', '--kvm', '5.6', '--json');
    expect(status).toBe(1);
    const { runs } = JSON.parse(stdout);
    expect(runs.map(({ pass }: { pass: boolean }) => pass).sort()).toEqual([false, true]);
  });
});

/** The first find as a file. */
function writeFind(): string {
  const path = `${fresh()}.S`;
  writeFileSync(path, whole['find-001.S']);
  return path;
}

/** `kvmscope fuzz …` of a recipe, made to fit this campaign and this machine. */
function fitted(command: string, folder: string): string {
  const here = `${process.execPath} ${LAUNCHER}`;
  return command
    .replace(/npx kvmscope|node scripts\/kvmscope\.js|kvmscope(?= fuzz merge)/g, here)
    .replace(/fuzz hypercall .*?(?=--shard)/gs, `${CAMPAIGN.join(' ')} --jobs 1 `)
    .replaceAll('/campaigns/', `${folder}/`);
}

const sh = (command: string, cwd: string, env: Record<string, string> = {}) =>
  spawnSync('sh', ['-c', command], { cwd, encoding: 'utf8', env: { ...process.env, ...env } });

describe('recipes', () => {
  const PARALLEL = spawnSync('parallel', ['--version'], { stdio: 'ignore' }).status === 0;
  if (!PARALLEL) console.warn('SKIPPED: no GNU parallel: its recipe is not tested');

  it.skipIf(!PARALLEL)('GNU parallel computes the shards, and they are merged', () => {
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const recipe = [...readme.matchAll(/^```sh\n([\s\S]*?)^```$/gm)]
      .map(([, text]) => text)
      .find((text) => /parallel/.test(text))!;
    const folder = fresh();
    mkdirSync(folder);
    const command = fitted(recipe, folder).replaceAll('parallel ', 'parallel --will-cite ');
    expect(command).toContain('--shard {}/16');
    const { stderr } = sh(command.replaceAll('/16', '/2').replace('seq 0 15', 'seq 0 1'), folder);
    expect(complaints(stderr)).toBe('');
    expect(contents(join(folder, 'merged'))).toEqual(whole);
  });

  it('the pods of the Kubernetes Indexed Job compute the shards, and they are merged', () => {
    const text = readFileSync(join(ROOT, 'scripts/fuzz-job.yaml'), 'utf8');
    const job = parse(text);
    expect(job).toMatchObject({ apiVersion: 'batch/v1', kind: 'Job', spec: { completionMode: 'Indexed' } });
    const { completions } = job.spec;
    const [{ command, args }] = job.spec.template.spec.containers;
    expect(command).toEqual(['sh', '-c']);
    expect(args).toHaveLength(1);
    expect(args[0]).toContain(`--shard "$JOB_COMPLETION_INDEX/${completions}"`);
    const folder = fresh();
    mkdirSync(folder);
    for (let index = 0; index < completions; index++) {
      const pod = sh(fitted(args[0], folder), ROOT, { JOB_COMPLETION_INDEX: String(index) });
      expect(complaints(pod.stderr)).toBe('');
      expect(pod.status).toBe(0);
    }
    const [, merge] = /^# {5}(kvmscope fuzz merge .*)$/m.exec(text)!;
    expect(sh(fitted(merge, folder), ROOT).status).toBe(0);
    expect(contents(join(folder, 'hypercall'))).toEqual(whole);
  });
});

const REDIS = redisProgram();
if (!REDIS) console.warn('SKIPPED: no redis-server or valkey-server: campaigns on a queue are not tested');

describe.skipIf(REDIS === undefined)('a queue', () => {
  const server = new RedisServer();
  beforeAll(() => server.start(REDIS!));
  afterAll(() => server.remove());

  it('gives the same directory, though a worker and the collector are killed', async () => {
    const dir = fresh();
    const lock = ['--lock', '2s'];
    const collect = (): ChildProcess => start(...CAMPAIGN, '--queue', server.url, '--dir', dir, ...lock);
    const work = (): ChildProcess => start('fuzz', 'worker', server.url, '--jobs', '1', ...lock);
    const first = collect();
    const killed = work();
    await grown(first, join(dir, 'journal.jsonl'), 1);
    killed.kill('SIGKILL');
    first.kill('SIGKILL');
    await Promise.all([once(killed, 'exit'), once(first, 'exit')]);
    const worker = work();
    const second = collect();
    expect(await once(second, 'exit')).toEqual([FOUND, null]);
    worker.kill('SIGTERM');
    expect(await once(worker, 'exit')).toEqual([0, null]);
    expect(contents(dir)).toEqual(whole);
  });
});

describe('one clear line', () => {
  it.each<[string[], string | RegExp]>([
    [['fuzz', 'merge', 'nowhere', '--out', 'x'], 'nowhere is no campaign directory (no campaign.json)'],
    [['fuzz', 'merge', '--out', 'x'], "missing required argument 'dir'"],
    [['fuzz', 'merge', 'x'], "required option '--out <dir>' not specified"],
    [['fuzz', 'worker', 'x'], "'x' is no server: write redis://host:6379, rediss://… or unix:/path/of/socket"],
    [['fuzz', 'worker', 'unix:/nowhere'], 'no Redis or Valkey server at unix:/nowhere: connect ENOENT /nowhere'],
    [[...CAMPAIGN, '--shard', '4/4'], "--shard: '4/4' is not i/n with i from 0 to n-1, e.g. 0/8"],
    [[...CAMPAIGN, '--jobs', '0'], '--jobs must be 1 or more'],
    [[...CAMPAIGN, '--time', 'soon'], /option '--time <time>' argument 'soon' is invalid\. It must be a time/],
    [[...CAMPAIGN, '--queue', 'redis://localhost'], '--queue needs --dir'],
    [[...CAMPAIGN, '--lock', '5s'], '--lock needs --queue'],
  ])('for %j', async (args, line) => {
    const { status, stderr } = await inProcess(...args);
    expect(status).toBe(2);
    if (typeof line === 'string') expect(stderr).toBe(`kvmscope: ${line}\n`);
    else expect(stderr).toMatch(line);
  });

  it('for missing packages', () => {
    const hook = `export function resolve(specifier, context, next) {
      if (specifier !== 'bullmq') return next(specifier, context);
      throw Object.assign(new Error('no bullmq'), { code: 'ERR_MODULE_NOT_FOUND' });
    }`;
    const register = `import { register } from 'node:module'; register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hook)}`)});`;
    const args = ['--import', `data:text/javascript,${encodeURIComponent(register)}`, LAUNCHER];
    const { status, stderr } = spawnSync(process.execPath, [...args, 'fuzz', 'worker', 'redis://localhost:1'], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('kvmscope: a queue needs the npm packages bullmq and ioredis: npm install bullmq ioredis\n');
    expect(status).toBe(2);
  });

  it('for the directory of another campaign', () => {
    const dir = fresh();
    mkdirSync(dir);
    for (const [name, text] of Object.entries(whole)) writeFileSync(join(dir, name), text);
    const { status, stderr } = kvmscope(...CAMPAIGN, '--seed', '2', '--dir', dir);
    expect(stderr).toBe(`kvmscope: ${dir} belongs to another campaign: seed 1 instead of 2\n`);
    expect(status).toBe(2);
    expect(contents(dir)).toEqual(whole);
  });
});
