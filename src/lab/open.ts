/** From a guest program's file to a finished run of it: program, header, machine options, checks. */
import type { Vendor } from '../cpu/cpu.ts';
import { KvmscopeError } from '../errors.ts';
import { ERAS, eraMatches, NEWEST_ERA, resolveEra } from '../kvm/eras.ts';
import { BOOT_LAYOUT } from '../machine/boot-state.ts';
import { createVm } from '../machine/machine.ts';
import { resolveOptions } from '../machine/options.ts';
import type { MachineOptions, RunResult } from '../machine/types.ts';
import type { Vm } from '../machine/vm.ts';
import { assemble, type Program } from '../program/assembler.ts';
import { readInputText } from '../program/files.ts';
import { type HeaderSettings, type ProgramHeader, parseHeader } from '../program/header.ts';
import { includeReader, isSource, loadProgram } from '../program/load.ts';
import { optionWord } from '../trace/text.ts';
import { type CheckResult, checkEnd, evaluate, validateExpectations } from './expect.ts';

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
  /** The VM after the run. `vm.dispose()` gives its engine to the next VM; `run.memory` ends with it. */
  readonly vm: Vm;
  readonly run: RunResult;
  /**
   * One per expectation whose condition holds for this era and vendor, in header order. If none of them speaks of the end and the
   * run neither halted nor exited with status 0, one more that says so (line 0).
   */
  readonly checks: readonly CheckResult[];
  /** Every check passed. */
  readonly pass: boolean;
}

/** Reads, assembles or loads `path`; reads its header; errors are KvmscopeError (not-found, syntax, header, image, usage). */
export function openProgram(path: string, options: OpenOptions = {}): OpenedProgram {
  const { source: given, ...explicit } = options;
  // Loading first: it knows all that can be wrong with a file.
  const program =
    given === undefined
      ? loadProgram(path)
      : assemble(given, { fileName: path, readInclude: includeReader(path), origin: BOOT_LAYOUT.origin });
  const source = given ?? (isSource(path) ? readInputText(path) : '');
  const header = parseHeader(source, path);
  const eras = erasOf(header);
  const vendors = header.settings.vendors ?? ['intel'];
  const merged = {
    kvm: eras[eras.length - 1],
    vendor: vendors[0],
    ...machineSettings(header.settings, explicit.vcpus),
    ...explicit,
  };
  checkOptions(merged, explicit, header);
  validateExpectations(header.expectations, program);
  return { path, program, header, options: merged, eras, vendors };
}

/** Runs an opened program once in a VM of its own. `options` win over `opened.options`. */
export async function runProgram(opened: OpenedProgram, options: MachineOptions = {}): Promise<ProgramOutcome> {
  const vm = await createVm({ ...opened.options, ...options });
  vm.load(opened.program);
  const run = vm.run();
  return { vm, run, ...judge(opened, run) };
}

/** Evaluates the header's expectations on a run of the program. */
export function judge(opened: OpenedProgram, run: RunResult): Pick<ProgramOutcome, 'checks' | 'pass'> {
  const { expectations } = opened.header;
  const checks = evaluate(expectations, run, opened.program);
  const end = checkEnd(expectations, run, opened.path);
  if (end !== undefined && !end.pass) checks.push(end);
  return { checks, pass: checks.every((check) => check.pass) };
}

/**
 * The settings that are machine options as they stand; `kvm` is a range and `vendors` a list, so they are not. A list of APIC ids
 * also says how many vCPUs there are, and is dropped when an explicit count differs.
 */
function machineSettings(settings: HeaderSettings, explicitVcpus: number | undefined): MachineOptions {
  const { kvm: _kvm, vendors: _vendors, title: _title, apicIds, ...rest } = settings;
  const vcpus = explicitVcpus ?? settings.vcpus ?? apicIds?.length;
  return {
    ...rest,
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(apicIds === undefined || (explicitVcpus !== undefined && explicitVcpus !== apicIds.length) ? {} : { apicIds }),
  };
}

/** Named eras in the header's range; a range that only fits between two named eras gives the version it names. */
function erasOf({ settings, settingLines, file }: ProgramHeader): string[] {
  const range = settings.kvm;
  if (range === undefined) return ERAS.map((era) => era.name);
  const fail = (message: string): never => {
    throw new KvmscopeError('header', `${file}:${settingLines.get('kvm')}: kvm: ${message}`);
  };
  try {
    const named = ERAS.filter((era) => eraMatches(range, era)).map((era) => era.name);
    if (named.length > 0) return named;
    if (/^[\w.-]+$/.test(range)) return [resolveEra(range).name];
  } catch (error) {
    if (error instanceof KvmscopeError) return fail(error.message);
    throw error;
  }
  return fail(`no era fits '${range}'; the newest is ${NEWEST_ERA.name}`);
}

/** Checks the machine options now; a mistake that is the header's own names the header, by its line and word if it is about one of them. */
function checkOptions(merged: MachineOptions, explicit: MachineOptions, header: ProgramHeader): void {
  try {
    resolveOptions(merged);
  } catch (error) {
    if (!(error instanceof KvmscopeError)) throw error;
    const { file, settingLines } = header;
    const [name = ''] = /^\w+(?= must )/.exec(error.message) ?? [];
    const key = optionWord(name);
    const line = name in explicit ? undefined : settingLines.get(key);
    if (line !== undefined)
      throw new KvmscopeError('header', `${file}:${line}: ${key}${error.message.slice(name.length)}`);
    if (Object.keys(explicit).length > 0) throw error;
    throw new KvmscopeError('header', `${file}: ${error.message}`);
  }
}
