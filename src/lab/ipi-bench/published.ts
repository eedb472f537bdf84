/**
 * The published figures: the tables in the commit message of 4180bf1b655a ("KVM: X86: Implement "send IPI" hypercall"), and what is known
 * of the WRMSR fastpath, 1e9e2622a149. Xeon Skylake 2.5 GHz, 2 sockets, 40 cores, 80 threads; a VM with 80 vCPUs.
 */
import type { IpiMode } from './scenario.ts';

/** Nominal frequency of that host, so cycles of its TSC per nanosecond. */
export const GHZ = 2.5;
/** Rounds behind each figure of the tables. */
export const ROUNDS = 100_000;

export interface PublishedFigure {
  /** Sum over the rounds of the time from the send to the handler; null: the mode has none. */
  readonly latencyNs: number | null;
  /** Time of the whole loop. */
  readonly wallNs: number;
}

export interface PublishedTable {
  readonly apic: 'cluster' | 'physical';
  readonly send: 'vanilla' | 'pv';
  readonly figures: Readonly<Partial<Record<IpiMode, PublishedFigure>>>;
}

const figure = (latencyNs: number | null, wallNs: number): PublishedFigure => ({ latencyNs, wallNs });

export const PUBLISHED_TABLES: readonly PublishedTable[] = [
  {
    apic: 'cluster',
    send: 'vanilla',
    figures: {
      'dry-run': figure(null, 2_392_199),
      self: figure(6_907_514, 15_027_589),
      normal: figure(223_910_476, 251_301_666),
      broadcast: figure(null, 9_282_161_150),
      'broadcast-lock': figure(null, 8_812_934_104),
    },
  },
  {
    apic: 'cluster',
    send: 'pv',
    figures: {
      'dry-run': figure(null, 2_449_341),
      self: figure(6_720_360, 15_028_732),
      normal: figure(228_643_307, 255_708_477),
      broadcast: figure(null, 7_572_293_590),
      'broadcast-lock': figure(null, 8_316_124_651),
    },
  },
  {
    apic: 'physical',
    send: 'vanilla',
    figures: {
      'dry-run': figure(null, 3_135_933),
      self: figure(8_572_670, 17_901_757),
      normal: figure(226_444_334, 255_421_709),
      broadcast: figure(null, 19_845_070_887),
      'broadcast-lock': figure(null, 19_827_383_656),
    },
  },
  {
    apic: 'physical',
    send: 'pv',
    figures: {
      'dry-run': figure(null, 2_446_381),
      self: figure(6_788_217, 15_021_056),
      normal: figure(219_454_441, 249_583_458),
      broadcast: figure(null, 7_806_540_019),
      'broadcast-lock': figure(null, 9_143_618_799),
    },
  },
];

/** Cycles of a single-target IPI to a halted vCPU, from the sender's RDTSC to the receiver's. */
export const PUBLISHED_HALTED = { slow: 4238, fast: 3543 } as const;
/** The fastpath's own commit message: "more than 200+ cpu cycles". */
export const PUBLISHED_SAVING = 200;

/** Cycles of one round in a published table, or undefined. */
export function publishedCycles(
  apic: string,
  send: string,
  mode: IpiMode,
): { readonly latency: number | null; readonly wall: number } | undefined {
  const table = PUBLISHED_TABLES.find((t) => t.apic === apic && t.send === send);
  const found = table?.figures[mode];
  if (found === undefined) return undefined;
  const cycles = (ns: number): number => (ns / ROUNDS) * GHZ;
  return { latency: found.latencyNs === null ? null : cycles(found.latencyNs), wall: cycles(found.wallNs) };
}
