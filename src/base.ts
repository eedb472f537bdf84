/**
 * The public API but for fuzzing, the IPI micro-benchmark, the machine's own KVM and trace files, which take as long to load as everything
 * here: what a command imports that needs none of them. `index.ts` is all of it.
 */

// What CPUs and KVM are made of.
export type { Cpu, CpuOptions, CpuState, Vendor } from './cpu/cpu.ts';
export type { Exit, ExitReason } from './cpu/exit.ts';
export { FEATURES, type Feature, featureNames } from './cpu/features.ts';
export { MISSING, OPCODES, type OpcodeRow } from './cpu/opcodes.ts';
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
// kvm-unit-tests.
export {
  judgeOutput,
  KUT_EXIT,
  type KutArch,
  type KutConfiguration,
  type KutMachine,
  type KutResult,
  machineOf,
  readUnittests,
  skipReason,
  treeArch,
} from './lab/kut.ts';
export {
  judge,
  type OpenedProgram,
  type OpenOptions,
  openProgram,
  type ProgramOutcome,
  runProgram,
} from './lab/open.ts';
export { parseRecording, type RecordedCase, type RecordedVm, type Recording, readRecording } from './lab/recording.ts';
// Recordings of a real KVM against the model.
export {
  findRecordings,
  type ReplayDifference,
  type ReplayedFile,
  type ReplayMismatch,
  type ReplayOptions,
  type ReplayReport,
  replay,
  replayRecording,
} from './lab/replay.ts';
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
