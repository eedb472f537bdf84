/** From a guest program's file to a finished run of it: program, header, machine options, checks. */
import type { Vendor } from '../cpu/cpu.ts';
import type { MachineOptions, RunResult } from '../machine/types.ts';
import type { Program } from '../program/assembler.ts';
import type { ProgramHeader } from '../program/header.ts';
import type { CheckResult } from './expect.ts';

/** Explicit options; each wins over the header's setting of the same name. */
export interface OpenOptions extends MachineOptions {
  /** Source text instead of the file's content; `path` then only names it. */
  readonly source?: string;
}

export interface OpenedProgram {
  readonly path: string;
  readonly program: Program;
  readonly header: ProgramHeader;
  /** Ready for `createVm`: header settings with the explicit options over them, `kvm` and `vendor` chosen. */
  readonly options: MachineOptions;
  /** Every era the header's `kvm:` range names (all eras without one), oldest first. */
  readonly eras: readonly string[];
  /** Every vendor the header's `vendor:` names. Default ['intel']. */
  readonly vendors: readonly Vendor[];
}

/** One run of an opened program with its expectations evaluated. */
export interface ProgramOutcome {
  readonly run: RunResult;
  /** One per expectation whose condition holds for this era and vendor, in header order. */
  readonly checks: readonly CheckResult[];
  /** Every check passed; without any expectation: the run ended by `exit 0` or `halted`. */
  readonly pass: boolean;
}

/** Reads, assembles or loads `path`; reads its header; errors are KvmscopeError (not-found, syntax, header, image, usage). */
export function openProgram(path: string, options?: OpenOptions): OpenedProgram;
/** Runs an opened program once in a VM of its own. `options` win over `opened.options`. */
export function runProgram(opened: OpenedProgram, options?: MachineOptions): Promise<ProgramOutcome>;
