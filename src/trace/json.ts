/**
 * The machine-readable form of results, version 1. Every document is one object `{"kvmscope": 1, "command": …, "ok": …, …}`.
 *
 * - Registers, addresses, MSR values and other 64-bit quantities are strings `"0x…"` in lower-case hexadecimal without padding,
 *   because JSON numbers lose precision above 2^53. Counts, ids, vectors, line numbers and 32-bit fields are numbers.
 * - A field that has no value is absent or null; a reader must ignore fields it does not know. Fields are only ever added within
 *   a version; anything else raises the number in `kvmscope`.
 *
 * A run (`run` has one or more in `runs`):
 *
 *     era, vendor, seed, steps
 *     end:      {kind: "exit", status} | {kind: "halted"} | {kind: "budget", steps} | {kind: "shutdown", vcpu, rip}
 *               | {kind: "host-bug", vcpu, bug, cve?, detail} | {kind: "internal-error", vcpu, detail}
 *     exits:    [{n, vcpu, name, reason, rip, linear, bits: 16 | 32 | 64, source?: {file, line, text},
 *                before: {rax: "0x…", …}, after: {…}, fastpath?: {taken, reason, completion?}, events: [event]}]
 *     trace:    [event] where event = {event, vcpu, …its fields, text: "KVM's own words"}, and time: nanoseconds of virtual time
 *     vcpus:    [{index, apicId, mpState, registers: {…}, start: {…}, lapic: {…}, nmiPending, smiPending, initPending,
 *                sipiPending, counters: {…, byReason: {…}}, steps}]
 *     counters: as in vcpus, summed
 *     console:  text the guest printed;  reports: [{vcpu, value}];  notes: [text]
 *
 * `bench` has benchmark ("ipi"), vcpus, rounds, and
 *
 *     costs:    [{name, cycles, basis: "published" | "estimated" | "fitted", source, what}]
 *     rows:     [{name, scenario: {mode, apic, send, vcpus, …}, counts: {senderExits: {name: count}, receiverExits: {…}, fastpath, ipis,
 *                commands, sent, accepted, kicks, wakeups, coalesced, posted, eois, eoiExits} of one round,
 *                wall, latency: null | {cycles, ns, publishedNs, residual, role: "fitted" | "predicted" | "unpublished", fits}}]
 *     boosts:   [{apic, mode, modelled, published}], fractions; fit: {figures, fitted, predicted, meanResidual, worst}
 *
 * and with --what-if instead of these changes, notes, base and changed (each of that form), and crossovers: [{apic, against,
 * base, changed: {from, to, most, saving}}].
 *
 * `replay` has cases, mismatches and seconds (spent on performing them; the only field here that is not reproducible), and
 *
 *     files:    [{path, config, era, vcpus, cases,
 *                mismatches: [{line, case: the recorded line, differences: [{field, expected, actual}]}]}]
 *               field is `gp`, `rb`, `exit`, `ret`, `rax`, `ch.ID.EFFECT`, `st.ID.EFFECT` …; null: nothing of the kind
 *
 * `fuzz race FILE` has path, title, kvm, against?, vendor, vcpus, seed, what was covered (complete, preemptions, executions, schedules,
 * random, states, ends, steps, longest, cut), dir?, run: {seconds}, and
 *
 *     finds:    [{kind: "expectation" | "invariant" | "difference", signature, details: [text], schedule, turns, steps, found, execution,
 *                words, program}]
 *
 * `fuzz` has campaign, cases, blocks (finished), coverage (names of decision points), dir, and
 *
 *     finds:    [{signature, block, case, input, outcomes, program: source text, words}]
 *     failed:   [{block, reason}], blocks that no worker of a queue could compute
 *     run:      {cases, seconds, end: "done" | "time" | "stopped"} of this run alone: not reproducible
 */
import { GENERAL_REGISTERS } from '../cpu/registers.ts';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { RunResult } from '../machine/types.ts';
import { formatEvent, type TraceDialect } from './ftrace.ts';
import type { SourcePlace } from './notebook.ts';

/** The number in every document's `kvmscope` field. */
export const JSON_VERSION = 1;

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Plain data with every bigint as "0x…"; undefined fields left out, Maps as objects. */
export function toJson(value: unknown): Json {
  if (value === null || value === undefined) return null;
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string') return value;
  if (Array.isArray(value)) return value.map(toJson);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return Object.fromEntries(entries.filter(([, v]) => v !== undefined).map(([k, v]) => [String(k), toJson(v)]));
}

const generalRegisters = (values: readonly bigint[]): Record<string, bigint> =>
  Object.fromEntries(GENERAL_REGISTERS.map((register, i) => [register.name, values[i]]));

const event = (e: KvmTraceEvent, dialect: TraceDialect, time?: number): Json =>
  toJson({ ...e, text: formatEvent(e, dialect), time });

/** One run in the shape above. */
export function runToJson(run: RunResult, locate?: (address: bigint) => SourcePlace | undefined): Json {
  const place = (rip: bigint): unknown => {
    const found = locate?.(rip);
    return found && { file: found.file, line: found.line, text: found.source.trim() };
  };
  return toJson({
    era: run.era,
    vendor: run.vendor,
    seed: run.seed,
    steps: run.steps,
    end: run.end,
    exits: run.exits.map((record, i) => ({
      n: i + 1,
      vcpu: record.vcpu,
      name: record.name,
      reason: record.reason,
      rip: record.rip,
      linear: record.linear,
      bits: record.bits,
      source: place(record.linear),
      before: generalRegisters(record.before),
      after: generalRegisters(record.after),
      fastpath: record.fastpath,
      events: record.events.map((e) => event(e, run)),
    })),
    trace: run.trace.map((e, i) => event(e, run, run.times[i])),
    vcpus: run.vcpus.map((vcpu) => ({ ...vcpu, start: run.start[vcpu.index] })),
    counters: run.counters,
    console: run.console,
    reports: run.reports,
    notes: run.notes,
  });
}

/** A whole document: version, command and verdict first, then the command's own fields. */
export function document(command: string, ok: boolean, fields: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify({ kvmscope: JSON_VERSION, command, ok, ...(toJson(fields) as Record<string, Json>) }, null, 2)}\n`;
}
