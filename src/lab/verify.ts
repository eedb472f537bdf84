/** Runs every program's expectations in every era and on every vendor its header names. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineKind, Vendor } from '../cpu/cpu.ts';
import { KvmscopeError } from '../errors.ts';
import { eraMatches, resolveEra } from '../kvm/eras.ts';
import { engineLacks } from '../machine/engines.ts';
import { resolveOptions, resolveSeed } from '../machine/options.ts';
import { isSource } from '../program/load.ts';
import { describeEnd } from './expect.ts';
import { type OpenedProgram, openProgram, type ProgramOutcome, runProgram } from './open.ts';

export interface VerifyOptions {
  /** Only this era. Programs whose range excludes it are reported as skipped. */
  readonly kvm?: string;
  /** Only this vendor. Programs for the other one only are reported as skipped. */
  readonly vendor?: Vendor;
  /** Default `core`. */
  readonly engine?: EngineKind;
  readonly seed?: number;
  /** Called after each program. */
  readonly onProgram?: (report: ProgramReport) => void;
}

/** One program in all the eras and on all the vendors it was run. */
export interface ProgramReport {
  readonly path: string;
  readonly title: string;
  readonly status: 'pass' | 'fail' | 'error' | 'skip';
  /** Why it was skipped. */
  readonly reason?: string;
  /** What could not be opened (status 'error'). */
  readonly error?: KvmscopeError;
  readonly runs: readonly VerifiedRun[];
}

export interface VerifiedRun extends Pick<ProgramOutcome, 'checks' | 'pass'> {
  readonly era: string;
  readonly vendor: Vendor;
  readonly seed: number;
  /** How the run ended, e.g. 'halted', 'exit 0'. */
  readonly end: string;
  readonly steps: number;
}

export interface VerifyReport {
  readonly programs: readonly ProgramReport[];
  /** Counts of programs by status, of runs and of checks. */
  readonly passed: number;
  readonly failed: number;
  readonly errors: number;
  readonly skipped: number;
  readonly runs: number;
  readonly checks: number;
  /** Nothing failed, and there was at least one run. */
  readonly pass: boolean;
}

/** Folder that holds what programs include, not programs. */
const INCLUDE_FOLDER = 'include';

const isProgram = (name: string): boolean => isSource(name) || name.endsWith('.elf');

/** Guest programs under files and folders: sources and `.elf` files, sorted by path; folders named `include` are left out. */
export function findPrograms(paths: readonly string[]): string[] {
  const found = new Set<string>();
  for (const path of paths) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) throw new KvmscopeError('not-found', `no such file or folder: ${path}`);
    if (stat.isDirectory()) collect(path, found);
    else found.add(path);
  }
  return [...found].sort();
}

function collect(folder: string, found: Set<string>): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (entry.name !== INCLUDE_FOLDER) collect(path, found);
    } else if (isProgram(entry.name)) {
      found.add(path);
    }
  }
}

/** Verifies all programs under `paths`. A program that cannot be opened is a result with status 'error', not a throw. */
export async function verifyPrograms(paths: readonly string[], options: VerifyOptions = {}): Promise<VerifyReport> {
  if (options.kvm !== undefined) resolveEra(options.kvm);
  if (options.seed !== undefined) resolveSeed(options.seed);
  const programs: ProgramReport[] = [];
  for (const path of findPrograms(paths)) {
    const report = await verifyProgram(path, options);
    programs.push(report);
    options.onProgram?.(report);
  }
  const count = (status: ProgramReport['status']) => programs.filter((program) => program.status === status).length;
  const runs = programs.flatMap((program) => program.runs);
  const failed = count('fail');
  const errors = count('error');
  return {
    programs,
    passed: count('pass'),
    failed,
    errors,
    skipped: count('skip'),
    runs: runs.length,
    checks: runs.reduce((sum, run) => sum + run.checks.length, 0),
    pass: failed === 0 && errors === 0 && runs.length > 0,
  };
}

async function verifyProgram(path: string, options: VerifyOptions): Promise<ProgramReport> {
  let opened: OpenedProgram;
  try {
    opened = openProgram(path, options.seed === undefined ? {} : { seed: options.seed });
  } catch (error) {
    if (!(error instanceof KvmscopeError)) throw error;
    return { path, title: '', status: 'error', error, runs: [] };
  }
  const { title, settings } = opened.header;
  const { engine = 'core' } = options;
  const lacking = engineLacks(engine, resolveOptions(opened.options));
  if (lacking !== undefined) return { path, title, status: 'skip', reason: lacking, runs: [] };
  const vendors = opened.vendors.filter((vendor) => options.vendor === undefined || vendor === options.vendor);
  const runs: VerifiedRun[] = [];
  /** What the core executed all of the program for. */
  const lacks = new Set<string>();
  let shared = false;
  for (const vendor of vendors) {
    for (const kvm of chosenEras(opened.eras, settings.kvm, options.kvm)) {
      const { vm, run, checks, pass } = await runProgram(opened, { kvm, vendor, engine });
      vm.dispose();
      if (run.share?.executed === 0) for (const { what } of run.share.core) lacks.add(what);
      else if (run.share !== undefined) shared = true;
      runs.push({ era: run.era, vendor, seed: run.seed, end: describeEnd(run.end), steps: run.steps, checks, pass });
    }
  }
  if (lacks.size > 0 && !shared && runs.every((run) => run.pass)) {
    return {
      path,
      title,
      status: 'skip',
      reason: `engine ${engine} lacks all it needs: ${[...lacks].join(', ')}`,
      runs: [],
    };
  }
  const status = runs.length === 0 ? 'skip' : runs.every((run) => run.pass) ? 'pass' : 'fail';
  return { path, title, status, ...(status === 'skip' ? { reason: 'not for this KVM version or vendor' } : {}), runs };
}

/** All eras of the range, or the one asked for if it lies in the range. */
function chosenEras(eras: readonly string[], range: string | undefined, only: string | undefined): readonly string[] {
  if (only === undefined) return eras;
  const era = resolveEra(only);
  return range === undefined || eraMatches(range, era) ? [era.name] : [];
}
