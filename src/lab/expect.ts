/** Evaluates the expectations of a program header against a run. */
import type { RunResult } from '../machine/types.ts';
import type { Program } from '../program/assembler.ts';
import type { Expectation } from '../program/header.ts';

export interface CheckResult {
  readonly expectation: Expectation;
  readonly pass: boolean;
  /** What the run shows and what the header asks for, as text in the header's own notation. */
  readonly actual: string;
  readonly expected: string;
}

/** Expectations whose condition does not hold for the run's era and vendor are left out. */
export function evaluate(expectations: readonly Expectation[], run: RunResult, program?: Program): CheckResult[];
/** Readable diff of the failed checks: file:line, the expectation, expected and actual; '' when all passed. */
export function describeChecks(checks: readonly CheckResult[]): string;
