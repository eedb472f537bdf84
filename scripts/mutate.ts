/**
 * `npm run mutate [-- WORDS]`: breaks one rule of the model at a time, in a temporary copy, and runs the recordings and the vectors
 * against it. WORDS: only the rules whose names contain them. Exit code 1 if a broken rule goes unnoticed, 2 if a rule's source text
 * is not found or the tests fail without any mutation.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MUTATIONS, type Mutation } from './mutations.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COPIED = ['src', 'test', 'build', 'scripts', 'package.json', 'tsconfig.json', 'vitest.config.ts'];

function fail(message: string): never {
  console.error(`mutate: ${message}`);
  process.exit(2);
}

/** The file with the rule broken. */
function mutated({ name, file, find, replace }: Mutation, folder: string): string {
  const source = readFileSync(join(folder, file), 'utf8');
  const [before, after, more] = source.split(find);
  if (before === undefined || after === undefined)
    fail(`"${name}": ${file} does not contain the text to replace:\n${find}`);
  if (more !== undefined) fail(`"${name}": ${file} contains the text to replace more than once:\n${find}`);
  return `${before}${replace}${after}`;
}

/** Recorded cases that come out otherwise in `folder`; a model that does not even run counts as one. */
function recordedCases(folder: string): number {
  const { stdout } = spawnSync(
    process.execPath,
    ['scripts/kvmscope.js', 'replay', 'test/golden', '--kvm', '6.18', '--json'],
    { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 30 },
  );
  try {
    return (JSON.parse(stdout) as { readonly mismatches: number }).mismatches;
  } catch {
    return 1;
  }
}

/** Vectors that fail in `folder`; a suite that does not load counts as one. */
function vectors(folder: string): number {
  const report = join(folder, 'report.json');
  rmSync(report, { force: true });
  const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
  spawnSync(process.execPath, [vitest, 'run', 'test/vectors', '--reporter=json', `--outputFile=${report}`], {
    cwd: folder,
    stdio: 'ignore',
  });
  const { numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
    readonly numFailedTests: number;
    readonly testResults: readonly { readonly status: string }[];
  };
  return Math.max(numFailedTests, testResults.filter((file) => file.status === 'failed').length);
}

/** Who notices, in words; empty: nobody. The vectors are asked only about what the recordings do not show. */
function noticedBy(folder: string): string {
  const cases = recordedCases(folder);
  if (cases > 0) return `${cases} recorded case${cases === 1 ? '' : 's'}`;
  const tests = vectors(folder);
  return tests > 0 ? `${tests} vector${tests === 1 ? '' : 's'}` : '';
}

const words = process.argv.slice(2).join(' ');
const chosen = MUTATIONS.filter(({ name }) => name.includes(words));
if (chosen.length === 0) fail(`no rule is called "${words}"`);
for (const mutation of chosen) mutated(mutation, ROOT);

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-mutate-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
for (const name of COPIED) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));

const already = noticedBy(folder);
if (already !== '') fail(`${already} fail without any mutation; mend them first`);

const width = Math.max(...chosen.map(({ name }) => name.length));
let survivors = 0;
for (const mutation of chosen) {
  const path = join(folder, mutation.file);
  const original = readFileSync(path, 'utf8');
  writeFileSync(path, mutated(mutation, folder));
  const noticed = noticedBy(folder);
  writeFileSync(path, original);
  if (noticed === '') survivors++;
  console.log(`${mutation.name.padEnd(width)}  ${noticed === '' ? 'SURVIVED' : `noticed by ${noticed}`}`);
}
console.log(`\n${chosen.length} rules broken, ${chosen.length - survivors} noticed, ${survivors} survived`);
process.exit(survivors === 0 ? 0 : 1);
