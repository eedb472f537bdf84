/**
 * Where the fitted costs come from. Each is the one number that makes one published figure come out, all others given; nine figures
 * are used up that way (two of them by the fastpath's publication), everything else in the tables is a prediction.
 */
import { type CostName, type Costs, DEFAULT_COSTS } from '../../kvm/cost-model.ts';
import { PUBLISHED_HALTED, publishedCycles } from './published.ts';
import type { IpiRound } from './round.ts';
import type { IpiScenario } from './scenario.ts';
import { roundTime } from './time.ts';

/** KVM of the tables: PV IPI as merged. */
export const TABLE_ERA = '4.19-rc1';
/** The last one without a fastpath, and the fastpath as merged. */
export const SLOW_ERA = '5.5';
export const FAST_ERA = '5.6-rc1';

/** A cost, and the row whose whole time fixes it. */
export interface FittedRow {
  readonly cost: CostName;
  readonly row: Pick<IpiScenario, 'mode' | 'apic' | 'send' | 'idle'>;
  /** Cycles that must come out: the time of a round, or for `bare` the latency. */
  readonly cycles: number;
}

const table = (
  cost: CostName,
  mode: IpiScenario['mode'],
  apic: 'cluster' | 'physical',
  send: 'vanilla' | 'pv',
): FittedRow => ({ cost, row: { mode, apic, send, idle: 'poll' }, cycles: publishedCycles(apic, send, mode)!.wall });

/** In an order in which each depends little on the later ones. */
export const FITTED_ROWS: readonly FittedRow[] = [
  table('guest.round', 'dry-run', 'cluster', 'vanilla'),
  table('guest.call', 'self', 'cluster', 'vanilla'),
  table('deliver', 'broadcast', 'cluster', 'pv'),
  table('icr.write', 'broadcast', 'physical', 'vanilla'),
  table('cluster.member', 'broadcast', 'cluster', 'vanilla'),
  table('notify', 'normal', 'cluster', 'vanilla'),
  table('lock.handover', 'broadcast-lock', 'cluster', 'pv'),
  {
    cost: 'wake',
    row: { mode: 'bare', apic: 'physical', send: 'vanilla', idle: 'halt' },
    cycles: PUBLISHED_HALTED.slow,
  },
];

/** Passes over all costs; they converge long before. */
const PASSES = 20;
const LARGEST = 1 << 20;

/**
 * Fits all of them. `play` gives scenario and round of a row, in TABLE_ERA, or for `bare` in SLOW_ERA. Returns whole
 * cycles.
 */
export function fitCosts(
  play: (row: FittedRow['row']) => { readonly scenario: IpiScenario; readonly round: IpiRound },
): Costs {
  const costs: Record<CostName, number> = { ...DEFAULT_COSTS };
  for (const { cost } of FITTED_ROWS) costs[cost] = 0;
  costs['icr.slow'] = PUBLISHED_HALTED.slow - PUBLISHED_HALTED.fast;
  for (let pass = 0; pass < PASSES; pass++) {
    for (const { cost, row, cycles } of FITTED_ROWS) {
      const { scenario, round } = play(row);
      const missing = (value: number): boolean => {
        const time = roundTime(scenario, round, { ...costs, [cost]: value });
        return (row.mode === 'bare' ? time.latency! : time.wall) < cycles;
      };
      // Time never falls when a cost rises: bisect.
      let low = 0;
      let high = LARGEST;
      while (high - low > 1e-6) {
        const middle = (low + high) / 2;
        if (missing(middle)) low = middle;
        else high = middle;
      }
      costs[cost] = high;
    }
  }
  for (const { cost } of FITTED_ROWS) costs[cost] = Math.round(costs[cost]);
  return costs;
}
