/**
 * A run as a lab notebook: for each exit what was sent, what left the guest (every general register), what KVM did (its own
 * trace lines), who was reached, and what came back; then the state in which each vCPU ended, and the counters.
 *
 * Everything here is a function from values to lines of text; terminals, files and expectations belong to others.
 */
import { REGISTERS } from '../cpu/registers.ts';
import { Icr } from '../kvm/icr.ts';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { ExitRecord, MpState, VcpuCounters } from '../kvm/types.ts';
import type { LapicView, RunEnd, RunResult, VcpuView } from '../machine/types.ts';
import { exitReasonName, kernelVersion } from './exit-names.ts';
import { destinationWords, exitMeaning, hypercallResult, interruptWords, receivers, registerOf } from './explain.ts';
import { formatEvent, type TraceDialect } from './ftrace.ts';
import { clip, count, flow, hex, type Paint, type Piece, plural, ranges, vcpuNames, vectorSet, words } from './text.ts';

/** A place in a guest program's source. */
export interface SourcePlace {
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  readonly source: string;
  /** The outermost macro call it comes from, if it comes from one. */
  readonly calledFrom?: { readonly file: string; readonly line: number };
}

export interface NotebookOptions {
  /** Columns. */
  readonly width: number;
  readonly paint: Paint;
  /** Source line of the instruction at a linear address. */
  readonly locate?: (address: bigint) => SourcePlace | undefined;
}

/** Order in which people read registers; exit records have encoding order. */
export const READING_ORDER = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp'].concat([
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
  'rip',
  'rflags',
]);

/** RFLAGS bits by name (SDM vol. 1, figure 3-8), in bit order. */
const FLAGS = [
  [0, 'CF'],
  [2, 'PF'],
  [4, 'AF'],
  [6, 'ZF'],
  [7, 'SF'],
  [8, 'TF'],
  [9, 'IF'],
  [10, 'DF'],
  [11, 'OF'],
  [14, 'NT'],
  [16, 'RF'],
  [17, 'VM'],
  [18, 'AC'],
  [21, 'ID'],
] as const;

/** '0x246 [PF ZF IF]'. */
export function flagsText(rflags: bigint): string {
  const set = FLAGS.filter(([bit]) => (rflags >> BigInt(bit)) & 1n).map(([, name]) => name);
  return set.length === 0 ? hex(rflags) : `${hex(rflags)} [${set.join(' ')}]`;
}

const baseName = (path: string): string => path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);

/** 'send-to-three.S:21: vmcall', in a macro 'sender.S:9 (pvipi.inc:14): vmcall', or '' where the address belongs to no line. */
export function placeText(place: SourcePlace | undefined): string {
  if (place === undefined) return '';
  const { file, line, calledFrom } = place;
  const here = `${baseName(file)}:${line}`;
  const where = calledFrom ? `${baseName(calledFrom.file)}:${calledFrom.line} (${here})` : here;
  return `${where}: ${place.source.replace(/\s+/g, ' ').trim()}`;
}

const isHypercall = (name: string): boolean => name === 'vmcall' || name === 'vmmcall' || name === 'hypercall';

/** All general registers, or with `since` only those that differ from it. */
function registerPieces(values: readonly bigint[], since?: readonly bigint[]): Piece[] {
  const pieces: Piece[] = [];
  for (const name of READING_ORDER) {
    const value = registerOf(values, name);
    if (since && value === registerOf(since, name)) continue;
    pieces.push({
      text: `${name} ${name === 'rflags' ? flagsText(value) : hex(value)}`,
      tone: since ? 'changed' : 'plain',
    });
  }
  return pieces;
}

/** Fields at the end of a kvm_exit line that are all zero: the notebook shows an ellipsis, the trace shows them. */
export const ZERO_FIELDS = /( (?:info1|info2|intr_info|error_code|requests) 0x0+)+$/;

/** One exit, as lines. `ordinal` counts from 1 over all vCPUs. */
export function notebookExit(record: ExitRecord, ordinal: number, run: RunResult, options: NotebookOptions): string[] {
  const { width, paint, locate } = options;
  const dialect: TraceDialect = run;
  const reason = exitReasonName(run.vendor, record.reason, kernelVersion(run.era));
  const fit = { width, paint };

  const head = `#${ordinal}  vCPU ${record.vcpu}  ${reason}`;
  const where = clip(placeText(locate?.(record.linear)) || `at ${hex(record.rip)}`, width - head.length - 2);
  const lines = [`${paint('title', head)}  ${paint('dim', where)}`];
  const meaning = exitMeaning(record);
  lines.push(...flow(meaning.label, words(meaning.text), fit));
  lines.push(...flow('left', registerPieces(record.before), { ...fit, gap: '  ' }));
  let label = 'KVM did';
  for (const event of record.events) {
    const text = `${event.event}: ${formatEvent(event, dialect).replace(ZERO_FIELDS, ' …')}`;
    lines.push(...flow(label, words(text, 'dim'), { ...fit, hang: 2 }));
    label = '';
  }
  if (record.fastpath && (record.fastpath.taken || meaning.label === 'sent')) {
    const { taken, reason: why, completion } = record.fastpath;
    const text = taken
      ? `taken before the ordinary exit handler${completion ? `, then ${completion}` : ''}`
      : `not taken: ${why}`;
    lines.push(...flow('fastpath', words(text, taken ? 'good' : 'plain'), fit));
  }
  const vcpuOf = (apicid: number): number => run.vcpus.find((vcpu) => vcpu.apicId === apicid)?.index ?? apicid;
  const reached = receivers(record.events, vcpuOf);
  if (reached.length > 0) lines.push(...flow('reached', words(reached.join('; ')), fit));
  else if (meaning.label === 'sent') lines.push(...flow('reached', words('nobody'), fit));

  const back = registerPieces(record.after, record.before);
  const rest = back.length === 0 ? 'every register unchanged' : 'others unchanged';
  const result: Piece[] = isHypercall(record.name.toLowerCase())
    ? [{ text: `→ ${hypercallResult(registerOf(record.after, 'rax'), record.bits === 64)}`, tone: 'changed' }]
    : [];
  lines.push(...flow('back', [...result, ...back, { text: rest, tone: 'dim' }], { ...fit, gap: '  ' }));
  return lines;
}

/** Events that tell of a vCPU while no exit is being handled: what it takes along into the guest. */
const BETWEEN = new Set([
  'kvm_inj_virq',
  'kvm_inj_nmi',
  'kvm_inj_exception',
  'kvm_pv_eoi',
  'kvm_pv_tlb_flush',
  'kvm_pvclock_update',
  'kvm_async_pf_ready',
]);

/** By exit ordinal from 0, those events of the trace that follow it and belong to no exit. */
function eventsBetween(run: RunResult, limit: number): Map<number, KvmTraceEvent[]> {
  const owner = new Map<KvmTraceEvent, number>();
  for (let i = 0; i <= limit && i < run.exits.length; i += 1)
    for (const event of run.exits[i].events) owner.set(event, i);
  const between = new Map<number, KvmTraceEvent[]>();
  let last = -1;
  for (const event of run.trace) {
    const exit = owner.get(event);
    if (exit !== undefined) last = Math.max(last, exit);
    else if (last >= 0 && last < limit && BETWEEN.has(event.event))
      between.set(last, [...(between.get(last) ?? []), event]);
  }
  return between;
}

/** All exits up to `limit`, with what vCPUs took into the guest in between, then how many of which kind were left out. */
export function* notebookExits(run: RunResult, options: NotebookOptions, limit: number): Generator<string> {
  const between = eventsBetween(run, limit);
  for (let i = 0; i < run.exits.length && i < limit; i += 1) {
    yield* notebookExit(run.exits[i], i + 1, run, options);
    for (const event of between.get(i) ?? []) {
      const text = `${event.event}: ${formatEvent(event, run)}`;
      yield `    ${options.paint('changed', `→ vCPU ${event.vcpu} enters the guest with`)} ${options.paint('dim', text)}`;
    }
    yield '';
  }
  if (run.exits.length > limit) {
    const kinds: Record<string, number> = {};
    for (const record of run.exits.slice(limit)) kinds[record.name] = (kinds[record.name] ?? 0) + 1;
    const text = `… and ${plural(run.exits.length - limit, 'more exit')}: ${tally(kinds)}`;
    yield* flow('', words(text), { width: options.width, paint: options.paint, indent: 0, labelWidth: 0, hang: 2 });
    yield '';
  }
}

/** 'vmcall 3, hlt 1': most frequent first, equal ones by name. */
const tally = (kinds: Readonly<Record<string, number>>): string =>
  Object.entries(kinds)
    .filter(([, n]) => n > 0)
    .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
    .map(([name, n]) => `${name} ${count(n)}`)
    .join(', ');

const MP_STATES: Readonly<Record<MpState, string>> = {
  runnable: 'running',
  uninitialized: 'waits for INIT',
  'init-received': 'waits for SIPI',
  halted: 'halted',
};

/** CS access rights: L is bit 13, D/B bit 14 of a VMX segment attribute word (SDM vol. 3, table 24-2). */
function modeText(registers: Readonly<Record<string, bigint>>): string {
  if (!((registers.cr0 ?? 0n) & 1n)) return 'real mode';
  const attr = registers.cs_attr ?? 0n;
  const size = (attr >> 14n) & 1n ? '32-bit' : '16-bit';
  if (!(((registers.efer ?? 0n) >> 10n) & 1n)) return `${size} protected mode`;
  return (attr >> 13n) & 1n ? '64-bit mode' : `${size} compatibility mode`;
}

function lapicPieces(lapic: LapicView): Piece[] {
  if (lapic.mode === 'disabled') return [{ text: 'globally disabled' }];
  const texts = [`${lapic.mode === 'x2apic' ? 'x2APIC' : 'xAPIC'}${lapic.enabled ? '' : ' (software-disabled)'}`];
  texts.push(`IRR ${vectorSet(lapic.irr)}`, `ISR ${vectorSet(lapic.isr)}`, `TMR ${vectorSet(lapic.tmr)}`);
  texts.push(`TPR ${hex(lapic.tpr)}`, `PPR ${hex(lapic.ppr)}`, `SVR ${hex(lapic.svr)}`);
  const pieces: Piece[] = texts.map((text) => ({ text, tone: /\{0x/.test(text) ? 'changed' : 'plain' }));
  return pieces;
}

/** The last ICR value in words; '' where none was written. */
function icrText({ icr: value, mode }: LapicView): string {
  if (value === 0n || mode === 'disabled') return '';
  const x2apic = mode === 'x2apic';
  const icr = x2apic ? Icr.fromX2(value) : Icr.fromXapic(Number(value & 0xffffffffn), Number(value >> 32n));
  return `${hex(value)}: ${interruptWords(icr)}, ${destinationWords(icr, x2apic)}`;
}

function pendingPieces(vcpu: VcpuView): Piece[] {
  const texts: string[] = [];
  if (vcpu.nmiPending > 0) texts.push(`NMI × ${vcpu.nmiPending}`);
  if (vcpu.smiPending) texts.push('SMI');
  if (vcpu.initPending) texts.push('INIT');
  if (vcpu.sipiPending !== null) texts.push(`SIPI vector ${hex(vcpu.sipiPending)}`);
  return texts.map((text) => ({ text, tone: 'changed' as const }));
}

/** Registers that differ from vCPU to vCPU without telling them apart: shown as a range in a group. */
const OWN = new Set(['rsp', 'tsc_aux']);

/** Registers of x87 and SSE that say something: those that are not zero, and with them the control and status words. */
function floatingPoint(registers: Readonly<Record<string, bigint>>, group: 'x87' | 'sse'): string[] {
  const names = REGISTERS.filter((register) => register.group === group).map(({ name }) => name);
  const data = names.filter((name) => /^(st|xmm)\d/.test(name) && registers[name]);
  const words = group === 'x87' ? ['fcw', 'fsw', 'ftw'] : ['mxcsr'];
  return data.length === 0 ? [] : [...words, ...data].map((name) => `${name} ${hex(registers[name] ?? 0n)}`);
}

/** What makes two vCPUs look alike in the final report: everything shown but ids, stack pointers and counters. */
function likeness(vcpu: VcpuView): string {
  const general = READING_ORDER.filter((name) => !OWN.has(name)).map((name) => vcpu.registers[name]);
  const control = ['cr0', 'cr2', 'cr3', 'cr4', 'efer', 'cs', 'ss', 'cs_base'].map((name) => vcpu.registers[name]);
  const others = [...floatingPoint(vcpu.registers, 'x87'), ...floatingPoint(vcpu.registers, 'sse')];
  const { mode, enabled, irr, isr, tmr, tpr, ppr, svr, icr } = vcpu.lapic;
  const pending = [vcpu.nmiPending, vcpu.smiPending, vcpu.initPending, vcpu.sipiPending];
  return [
    vcpu.mpState,
    ...general,
    ...control,
    ...others,
    mode,
    enabled,
    irr,
    isr,
    tmr,
    tpr,
    ppr,
    svr,
    icr,
    ...pending,
  ].join('|');
}

function groupAlike(vcpus: readonly VcpuView[]): VcpuView[][] {
  const groups = new Map<string, VcpuView[]>();
  for (const vcpu of vcpus) {
    const key = likeness(vcpu);
    const group = groups.get(key);
    if (group) group.push(vcpu);
    else groups.set(key, [vcpu]);
  }
  return [...groups.values()];
}

function* groupLines(group: readonly VcpuView[], options: NotebookOptions): Generator<string> {
  const { width, paint, locate } = options;
  const fit = { width, paint };
  const [first] = group;
  const { registers } = first;
  const ids = group.map((vcpu) => vcpu.apicId);
  const sameIds = group.every((vcpu) => vcpu.apicId === vcpu.index);
  // A halted vCPU has RIP behind its HLT, which is one byte long.
  const rip = (registers.rip ?? 0n) - (first.mpState === 'halted' ? 1n : 0n);
  const place = placeText(locate?.((registers.cs_base ?? 0n) + rip));
  const name = vcpuNames(group.map((vcpu) => vcpu.index)) + (sameIds ? '' : ` (APIC id ${clip(ranges(ids), 40)})`);
  const state = `  ${MP_STATES[first.mpState]}, ${modeText(registers)}`;
  const room = width - name.length - state.length - 2;
  yield paint('title', name) + state + (place && room > 0 ? paint('dim', `  ${clip(place, room)}`) : '');
  const general = READING_ORDER.map((register): Piece => {
    const value = registers[register] ?? 0n;
    if (register === 'rflags') return { text: `rflags ${flagsText(value)}` };
    const values = group.map((vcpu) => vcpu.registers[register] ?? 0n).sort((x, y) => (x < y ? -1 : 1));
    const low = values[0];
    const high = values[values.length - 1];
    return { text: low === high ? `${register} ${hex(value)}` : `${register} ${hex(low)}…${hex(high)}` };
  });
  yield* flow('registers', general, { ...fit, gap: '  ' });
  const control = ['cr0', 'cr2', 'cr3', 'cr4', 'efer', 'cs', 'ss'].map((register) => ({
    text: `${register} ${hex(registers[register] ?? 0n)}`,
  }));
  yield* flow('control', control, { ...fit, gap: '  ' });
  for (const unit of ['x87', 'sse'] as const) {
    const pieces = floatingPoint(registers, unit).map((text) => ({ text }));
    if (pieces.length > 0) yield* flow(unit === 'sse' ? 'SSE' : unit, pieces, { ...fit, gap: '  ' });
  }
  yield* flow('APIC', lapicPieces(first.lapic), { ...fit, gap: '  ' });
  const icr = icrText(first.lapic);
  if (icr) yield* flow('ICR', words(icr), fit);
  const pending = pendingPieces(first);
  if (pending.length > 0) yield* flow('pending', pending, { ...fit, gap: '  ' });
}

/** The final registers and APIC state of every vCPU; those that look alike together. */
export function* finalState(run: RunResult, options: NotebookOptions): Generator<string> {
  for (const group of groupAlike(run.vcpus)) yield* groupLines(group, options);
}

/** Exits by kind, fastpath hits, and KVM's other counters that are not zero. */
export function counterLines(counters: Readonly<VcpuCounters>, options: NotebookOptions): string[] {
  const fit = { width: options.width, paint: options.paint, indent: 0, labelWidth: 10 };
  const total = Object.values(counters.byReason).reduce((a, b) => a + b, 0);
  const kinds = tally(counters.byReason);
  const lines = flow('exits', words(total === 0 ? 'none' : `${count(total)}: ${kinds}`), fit);
  const others: Record<string, number> = {};
  for (const [name, value] of Object.entries(counters)) if (name !== 'byReason') others[name] = value as number;
  const shown = tally(others);
  if (shown) lines.push(...flow('counters', words(shown), fit));
  return lines;
}

/** How the run ended, in one line; places are added where the program's source is known. */
export function endText(run: RunResult, locate?: NotebookOptions['locate']): string {
  const end: RunEnd = run.end;
  const at = (vcpu: number): string => {
    const registers = run.vcpus[vcpu]?.registers ?? {};
    const rip = registers.rip ?? 0n;
    const place = placeText(locate?.((registers.cs_base ?? 0n) + rip));
    return `vCPU ${vcpu} at rip ${hex(rip)}${place && ` (${place})`}`;
  };
  switch (end.kind) {
    case 'exit':
      return `the guest ended with status ${end.status}`;
    case 'halted':
      return 'every vCPU waits and nothing is pending';
    case 'reset':
      return 'the guest reset the machine';
    case 'power-off':
      return 'the guest switched the machine off';
    case 'budget': {
      const running = run.vcpus.filter((vcpu) => vcpu.mpState === 'runnable');
      const more = running.length > 1 ? ` and ${plural(running.length - 1, 'more vCPU')}` : '';
      const who = running.length === 0 ? '' : `; still running: ${at(running[0].index)}${more}`;
      return `the budget of ${count(end.steps)} steps is used up${who}`;
    }
    case 'shutdown': {
      const place = placeText(locate?.(end.rip));
      return `triple fault on vCPU ${end.vcpu} at rip ${hex(end.rip)}${place && ` (${place})`}`;
    }
    case 'host-bug':
      return `vCPU ${end.vcpu} hit a bug of the host kernel, ${end.bug}${end.cve ? ` (${end.cve})` : ''}: ${end.detail}`;
    case 'internal-error':
      return `${at(end.vcpu)} cannot go on: ${end.detail}`;
  }
}
