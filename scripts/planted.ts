/**
 * `npm run fuzz:planted [-- OPTIONS WORDS…]`: breaks one rule of the model at a time, in a copy, and lets the fuzzer look for it without
 * knowing where it is: campaigns of every kind take turns until one finds something or the limit is reached. WORDS: only rules whose names
 * contain one of them. `--oracle clean` (default) compares with the unbroken model, `golden` with the recordings, `rules` with nothing.
 * `--cases N` or `--seconds N` (default 30) is the limit for each rule. Exit code 1 if a rule is not found.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { type CampaignRunner, openCampaign } from '../src/lab/fuzz/block.ts';
import { ModelTarget } from '../src/lab/fuzz/model-target.ts';
import { topologiesFor } from '../src/lab/fuzz/topologies.ts';
import type { Campaign, CampaignKind } from '../src/lab/fuzz/types.ts';
import { MUTATIONS, type Mutation } from './mutations.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const ERA = '6.18';
const KINDS: readonly CampaignKind[] = ['icr', 'hypercall', 'sequence', 'msr'];
const BLOCK = 512;

function wrong(message: string): never {
  console.error(`planted: ${message}`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        oracle: { type: 'string', default: 'clean' },
        cases: { type: 'string' },
        seconds: { type: 'string' },
      },
    });
  } catch (error) {
    return wrong((error as Error).message);
  }
}

function limit(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  return /^[1-9]\d{0,8}$/.test(text)
    ? Number(text)
    : wrong(`--${name} must be a whole number from 1 on, not '${text}'`);
}

const { values, positionals } = readArguments();
const { oracle } = values;
if (!['clean', 'golden', 'rules'].includes(oracle)) wrong(`--oracle must be clean, golden or rules, not ${oracle}`);
const mostCases = limit('cases', values.cases, Number.POSITIVE_INFINITY);
const mostSeconds = limit('seconds', values.seconds, values.cases === undefined ? 30 : Number.POSITIVE_INFINITY);
const chosen = MUTATIONS.filter(
  ({ name }) => positionals.length === 0 || positionals.some((word) => name.includes(word)),
);
if (chosen.length === 0) wrong(`no rule's name contains ${positionals.join(' or ')}`);

type Broken = Pick<typeof import('../src/lab/fuzz/model-target.ts'), 'ModelTarget'> &
  Pick<typeof import('../src/lab/replay.ts'), 'replayRecording'>;

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-planted-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));

/** A copy of the sources with one rule broken: a module graph of its own. */
async function broken({ file, find, replace }: Mutation, number: number): Promise<Broken> {
  const copy = join(folder, String(number));
  cpSync(join(ROOT, 'src'), join(copy, 'src'), { recursive: true });
  for (const name of ['build', 'node_modules', 'package.json', 'tsconfig.json'])
    symlinkSync(join(ROOT, name), join(copy, name));
  const path = join(copy, file);
  writeFileSync(
    path,
    readFileSync(path, 'utf8').replace(find, () => replace),
  );
  const module = (name: string) => import(pathToFileURL(join(copy, name)).href);
  const [{ ModelTarget }, { replayRecording }] = [
    await module('src/lab/fuzz/model-target.ts'),
    await module('src/lab/replay.ts'),
  ];
  return { ModelTarget, replayRecording };
}

async function runnerOf(kind: CampaignKind, model: Broken): Promise<CampaignRunner> {
  const campaign: Campaign = {
    kind,
    kvm: ERA,
    ...(oracle === 'rules' ? {} : { against: oracle === 'clean' ? ERA : 'golden' }),
    ...(oracle === 'golden' ? { golden: join(ROOT, 'test/golden') } : {}),
    topologies: topologiesFor(kind),
    seed: 1,
    blockSize: BLOCK,
    direct: false,
  };
  return openCampaign(campaign, {
    replay: model.replayRecording,
    open: (side, topology, era, direct) =>
      (side === 'kvm' ? model.ModelTarget : ModelTarget).open(topology, { era, direct }),
  });
}

/** What was found, empty: nothing within the limit; and what it took. */
async function hunt(model: Broken): Promise<{ found: string; kind: string; cases: number; seconds: number }> {
  const start = performance.now();
  const seconds = (): number => (performance.now() - start) / 1000;
  let cases = 0;
  const runners = new Map<CampaignKind, CampaignRunner>();
  try {
    for (let turn = 0; cases < mostCases && seconds() < mostSeconds; turn++) {
      const kind = KINDS[turn % KINDS.length];
      const runner = runners.get(kind) ?? (await runnerOf(kind, model));
      runners.set(kind, runner);
      const result = await runner.runBlock(Math.floor(turn / KINDS.length));
      cases += result?.cases ?? 0;
      const find = result?.finds[0];
      if (find !== undefined) return { found: find.signature, kind, cases, seconds: seconds() };
    }
    return { found: '', kind: '', cases, seconds: seconds() };
  } finally {
    for (const runner of runners.values()) runner.dispose();
  }
}

const width = Math.max(...chosen.map(({ name }) => name.length));
let missed = 0;
for (const [number, mutation] of chosen.entries()) {
  const { found, kind, cases, seconds } = await hunt(await broken(mutation, number));
  if (found === '') missed++;
  const took = `${String(cases).padStart(7)} cases ${seconds.toFixed(1).padStart(5)} s`;
  console.log(`${mutation.name.padEnd(width)}  ${took}  ${found === '' ? 'NOT FOUND' : `${kind}: ${found}`}`);
}
console.log(`\n${chosen.length} rules broken, ${chosen.length - missed} found`);
process.exit(missed === 0 ? 0 : 1);
