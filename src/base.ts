/**
 * The part of the public API that makes VMs and runs programs: what a command imports that needs nothing else, since every module takes
 * its time to load. `index.ts` is all of it.
 */

// What CPUs and KVM are made of.
export type { Cpu, CpuOptions, CpuState, Vendor } from './cpu/cpu.ts';
export type { Exit, ExitReason } from './cpu/exit.ts';
export { FEATURES, type Feature, featureNames } from './cpu/features.ts';
export { GENERAL_REGISTERS, REGISTERS, type RegisterInfo, registerById, registerByName } from './cpu/registers.ts';
export { KvmscopeError, type KvmscopeErrorCode } from './errors.ts';
export { ERAS, type Era, eraMatches, NEWEST_ERA, resolveEra, SWITCHES, type SwitchInfo } from './kvm/eras.ts';
export type { ApicvInhibit } from './kvm/hardware-apic.ts';
export type { KvmTraceEvent, KvmTraceEventName } from './kvm/trace.ts';
export type {
  ApicvMode,
  ExitRecord,
  FastpathCompletion,
  FastpathOutcome,
  FastpathVerdict,
  KvmObserver,
  KvmOptions,
  MpState,
  VcpuCounters,
  VcpuRunResult,
} from './kvm/types.ts';
// Check expectations; run one program or many.
export { type CheckResult, describeChecks, describeEnd, endText, evaluate, showVectors } from './lab/expect.ts';
export {
  judge,
  type OpenedProgram,
  type OpenOptions,
  openProgram,
  type ProgramOutcome,
  runProgram,
} from './lab/open.ts';
export {
  findPrograms,
  type ProgramReport,
  type VerifiedRun,
  type VerifyOptions,
  type VerifyReport,
  verifyPrograms,
} from './lab/verify.ts';
// Virtual machines.
export { BOOT_LAYOUT, SELECTOR } from './machine/boot-state.ts';
export type { FingerprintOptions } from './machine/fingerprint.ts';
export { createVm, type VmOptions } from './machine/machine.ts';
export { formatSchedule, parseSchedule, type Schedule, type ScheduleTurn, scheduleOf } from './machine/schedule.ts';
export type {
  ApicStart,
  ApStart,
  BoardKind,
  GuestReport,
  LapicView,
  MachineOptions,
  RunEnd,
  RunResult,
  StartMode,
  VcpuView,
} from './machine/types.ts';
export type {
  BootOptions,
  LoadOptions,
  RegisterValues,
  ResolvedMachineOptions,
  RunOptions,
  Snapshot,
  Vm,
} from './machine/vm.ts';
// Programs: sources, images, listings, expectation headers.
export {
  type AssembleOptions,
  AssemblyError,
  assemble,
  type Diagnostic,
  type LineEntry,
  listing,
  locate,
  type Program,
  type SourceLocation,
} from './program/assembler.ts';
export {
  type Expectation,
  type ExpectationCondition,
  type ExpectedValue,
  HEADER_KEYS,
  type HeaderSettings,
  type ProgramHeader,
  parseExpectation,
  parseHeader,
  parseIds,
  parseSize,
  SUBJECTS,
  type Subject,
} from './program/header.ts';
export { loadProgram } from './program/load.ts';
export { didYouMean } from './program/suggest.ts';
export type { TraceDialect } from './trace/ftrace.ts';
export type { TimedTrace } from './trace/timed.ts';
