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

export * from './base.ts';
export { type KvmReport, liveKvm } from './cpu/engines/kvm-probe.ts';
export { MISSING, OPCODES, type OpcodeRow } from './cpu/opcodes.ts';
export {
  COSTS,
  type CostBasis,
  type CostName,
  type CostParameter,
  type Costs,
  DEFAULT_COSTS,
} from './kvm/cost-model.ts';
export { DECISIONS, type Decision } from './kvm/decisions.ts';
export type { CampaignRunner, RunBlockOptions } from './lab/fuzz/block.ts';
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
export { type CampaignContents, makeFolder, readCampaignDirectory } from './lab/fuzz/directory.ts';
export { type LiveCampaign, liveCampaign } from './lab/fuzz/live-kvm.ts';
export { mergeCampaigns } from './lab/fuzz/merge.ts';
export { exploreRaces, openCampaign, queueCampaign, workQueue } from './lab/fuzz/on-use.ts';
export type {
  QueueCampaignOptions,
  QueueCampaignReport,
  QueueOptions,
  QueueWorkerOptions,
  QueueWorkerReport,
} from './lab/fuzz/queue.ts';
// Interleavings of vCPUs.
export { type RaceCampaignOptions, raceCampaign } from './lab/fuzz/race/campaign.ts';
export type { ExploreStats, Reduction } from './lab/fuzz/race/explore.ts';
export type { FailureKind } from './lab/fuzz/race/judge.ts';
export type { RaceFind, RaceLimits, RaceOptions, RaceProgress, RaceReport } from './lab/fuzz/race/race.ts';
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
export { ipiTableCsv, ipiTableSvg, ipiWhatIfSvg } from './lab/ipi-bench/render.ts';
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
export { pngRenderer } from './lab/png.ts';
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
// Traces as files of other tools.
export { encodeTrace, TRACE_FORMATS, type TraceFormat, traceFormat } from './trace/trace-file.ts';
