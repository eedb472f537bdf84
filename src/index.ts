/**
 * The public API of kvmscope, and nothing else.
 *
 *     const vm = await createVm({ vcpus: 4, kvm: '6.18' });
 *     vm.load('mov eax, 3\n hlt');
 *     const run = vm.run();                       // run.vcpus[0].registers.rax === 3n
 *
 *     const program = openProgram('guest/pv-ipi/send-to-three.S');
 *     const outcome = await runProgram(program);  // outcome.run, outcome.checks, outcome.pass
 *     const report = await verifyPrograms(['guest']);
 */

// What CPUs and KVM are made of.
export type { Cpu, CpuOptions, CpuState, Vendor } from './cpu/cpu.ts';
export { type KvmReport, liveKvm } from './cpu/engines/kvm-probe.ts';
export type { Exit, ExitReason } from './cpu/exit.ts';
export { FEATURES, type Feature, featureNames } from './cpu/features.ts';
export { MISSING, OPCODES, type OpcodeRow } from './cpu/opcodes.ts';
export { GENERAL_REGISTERS, REGISTERS, type RegisterInfo, registerById, registerByName } from './cpu/registers.ts';
export { KvmscopeError, type KvmscopeErrorCode } from './errors.ts';
export {
  COSTS,
  type CostBasis,
  type CostName,
  type CostParameter,
  type Costs,
  DEFAULT_COSTS,
} from './kvm/cost-model.ts';
export { DECISIONS, type Decision } from './kvm/decisions.ts';
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
export { type CampaignRunner, openCampaign, type RunBlockOptions } from './lab/fuzz/block.ts';
// Fuzzing: campaigns in directories, on threads, in shards.
export {
  type CampaignProgress,
  type CampaignReport,
  parseShard,
  type RunCampaignOptions,
  runCampaign,
  type Shard,
} from './lab/fuzz/campaign.ts';
export { campaignId } from './lab/fuzz/canonical.ts';
export { type CampaignContents, readCampaignDirectory } from './lab/fuzz/directory.ts';
export { type LiveCampaign, liveCampaign } from './lab/fuzz/live-kvm.ts';
export { mergeCampaigns } from './lab/fuzz/merge.ts';
export {
  type QueueCampaignOptions,
  type QueueCampaignReport,
  type QueueOptions,
  type QueueWorkerOptions,
  type QueueWorkerReport,
  queueCampaign,
  workQueue,
} from './lab/fuzz/queue.ts';
// Interleavings of vCPUs.
export type { ExploreStats, Reduction } from './lab/fuzz/race/explore.ts';
export type { FailureKind } from './lab/fuzz/race/judge.ts';
export {
  exploreRaces,
  type RaceFind,
  type RaceLimits,
  type RaceOptions,
  type RaceProgress,
  type RaceReport,
} from './lab/fuzz/race/race.ts';
export { type RaceCampaignOptions, raceCampaign } from './lab/fuzz/race/runner.ts';
export { corpusOf, numberedFinds, type Tally } from './lab/fuzz/tally.ts';
export { type TopologyWishes, topologiesFor } from './lab/fuzz/topologies.ts';
export type { BlockResult, Campaign, CampaignKind, Find, Topology } from './lab/fuzz/types.ts';
// The IPI micro-benchmark and its published tables.
export { FITTED_ROWS, type FittedRow, fitCosts } from './lab/ipi-bench/fit.ts';
export {
  PUBLISHED_HALTED,
  PUBLISHED_SAVING,
  PUBLISHED_TABLES,
  type PublishedFigure,
  type PublishedTable,
} from './lab/ipi-bench/published.ts';
export { ipiTableCsv, ipiTableSvg } from './lab/ipi-bench/render.ts';
export { IpiBench, type IpiRound, type RoundCounts, type SenderStep } from './lab/ipi-bench/round.ts';
export {
  type IpiApic,
  type IpiMode,
  type IpiScenario,
  type IpiSend,
  resolveScenario,
  scenarioSource,
} from './lab/ipi-bench/scenario.ts';
export { ipiRounds, ipiSpeed } from './lab/ipi-bench/speed.ts';
export {
  type IpiBoost,
  type IpiFigure,
  type IpiFit,
  type IpiPlayed,
  type IpiPlayer,
  type IpiRow,
  type IpiRowRole,
  type IpiTable,
  type IpiTableOptions,
  ipiBoosts,
  ipiFit,
  ipiTable,
  playScenario,
} from './lab/ipi-bench/table.ts';
export { type RoundTime, roundTime } from './lab/ipi-bench/time.ts';
export { type IpiCrossover, type IpiWhatIf, ipiWhatIf, type PvRange, WHAT_IFS } from './lab/ipi-bench/what-if.ts';
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
// Traces as files of other tools.
export type { TraceDialect } from './trace/ftrace.ts';
export type { TimedTrace } from './trace/timed.ts';
export { encodeTrace, TRACE_FORMATS, type TraceFormat, traceFormat } from './trace/trace-file.ts';
