/** Makes a failing schedule small: as few turns as possible, and among those as few steps. */
import { checkSchedule, type Schedule, scheduleOf } from '../../../machine/schedule.ts';

/** vCPU by vCPU, step by step. */
export const stepsOf = (schedule: Schedule): number[] =>
  schedule.flatMap(({ vcpu, steps }) => new Array<number>(steps).fill(vcpu));

const size = (schedule: Schedule): number => schedule.reduce((sum, { steps }) => sum + steps, 0);

/** Fewer turns are smaller, then fewer steps. */
const smaller = (one: Schedule, other: Schedule): boolean =>
  one.length < other.length || (one.length === other.length && size(one) < size(other));

/** Schedules that might do in place of this one, the boldest first. */
function* candidates(schedule: Schedule): Generator<Schedule> {
  // Without its end: what comes then the seed decides.
  for (let keep = 0; keep < schedule.length; keep = keep * 2 + 1) yield schedule.slice(0, keep);
  yield schedule.slice(0, -1);
  // Without a turn: its vCPU makes these steps in its next turn.
  for (let i = schedule.length - 1; i >= 0; i--) yield schedule.toSpliced(i, 1);
  // Two turns in the other order: what stands beside them joins.
  for (let i = 0; i + 1 < schedule.length; i++) yield schedule.toSpliced(i, 2, schedule[i + 1], schedule[i]);
  // The steps of a turn go to the next turn of the same vCPU, or to the one before.
  for (let i = 0; i < schedule.length; i++) {
    const { vcpu, steps } = schedule[i];
    for (const near of [schedule.findIndex((t, at) => at > i && t.vcpu === vcpu), lastTurn(schedule, vcpu, i)]) {
      if (near < 0) continue;
      const longer = schedule.with(near, { vcpu, steps: schedule[near].steps + steps });
      yield longer.toSpliced(i, 1);
    }
  }
  // Fewer steps.
  for (let i = schedule.length - 1; i >= 0; i--) {
    const { vcpu, steps } = schedule[i];
    for (let less = Math.max(1, steps >> 1); less >= 1 && less < steps; less >>= 1) {
      yield schedule.with(i, { vcpu, steps: steps - less });
    }
  }
}

const lastTurn = (schedule: Schedule, vcpu: number, before: number): number =>
  schedule.slice(0, before).findLastIndex((turn) => turn.vcpu === vcpu);

/** `fails` runs a schedule and says whether it fails in the same way; it is asked at most `limit` times. */
export function shrinkSchedule(order: readonly number[], fails: (order: number[]) => boolean, limit = 400): Schedule {
  let best = scheduleOf(order);
  let asked = 0;
  const tried = new Set<string>();
  for (let again = true; again; ) {
    again = false;
    for (const candidate of candidates(best)) {
      const joined = checkSchedule(candidate);
      const key = JSON.stringify(joined);
      if (!smaller(joined, best) || tried.has(key)) continue;
      if (asked++ >= limit) return best;
      tried.add(key);
      if (!fails(stepsOf(joined))) continue;
      best = joined;
      again = true;
      break;
    }
  }
  return best;
}
