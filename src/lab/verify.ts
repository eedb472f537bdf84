/** Runs every program's expectations in every era and on every vendor its header names. */
import type { Vendor } from '../cpu/cpu.ts';
import type { KvmscopeError } from '../errors.ts';
import type { ProgramOutcome } from './open.ts';

export interface VerifyOptions {
  /** Only this era. Programs whose range excludes it are reported as skipped. */
  readonly kvm?: string;
  readonly vendor?: Vendor;
  readonly seed?: number;
  /** Called after each program. */
  readonly onProgram?: (report: ProgramReport) => void;
}

/** One program in all the eras and on all the vendors it was run. */
export interface ProgramReport {
  readonly path: string;
  readonly title: string;
  readonly status: 'pass' | 'fail' | 'error' | 'skip';
  /** What could not be opened (status 'error'). */
  readonly error?: KvmscopeError;
  readonly runs: readonly VerifiedRun[];
}

export interface VerifiedRun extends Omit<ProgramOutcome, 'run'> {
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
  readonly pass: boolean;
}

/** Guest programs under files and folders: .S .s .asm and ELF files, sorted by path, folders named `include` left out. */
export function findPrograms(paths: readonly string[]): string[];
export function verifyPrograms(paths: readonly string[], options?: VerifyOptions): Promise<VerifyReport>;
