/**
 * An explicit schedule: which vCPU makes the next step, step by step, as text that people can read, keep and change: `0*3,1,0,2*5` is three
 * steps of vCPU 0, one of vCPU 1, one of vCPU 0 and five of vCPU 2.
 *
 * A step is what KVM_RUN with room for one instruction does: events are taken, one instruction (or one iteration of a REP prefix) is
 * executed, and an exit of it is handled to its end. Steps of a vCPU that sleeps are skipped.
 */
import { KvmscopeError } from '../errors.ts';

/** `steps` steps of one vCPU in a row. */
export interface ScheduleTurn {
  readonly vcpu: number;
  /** At least 1. */
  readonly steps: number;
}

export type Schedule = readonly ScheduleTurn[];

/** Reads `0*3,1,0,2*5`; blanks around the parts do not matter. Throws KvmscopeError('usage'). */
export function parseSchedule(text: string): Schedule {
  const turns: ScheduleTurn[] = [];
  for (const part of text.split(',')) {
    const match = /^\s*(\d+)\s*(?:\*\s*(\d+)\s*)?$/.exec(part);
    if (match === null) {
      throw new KvmscopeError(
        'usage',
        `schedule: "${part.trim()}" is neither a vCPU nor vCPU*steps; a schedule is like 0*3,1,0,2*5`,
      );
    }
    turns.push({ vcpu: Number(match[1]), steps: Number(match[2] ?? 1) });
  }
  return checkSchedule(turns);
}

/** The same schedule with its turns in order and neighbours of one vCPU joined; KvmscopeError('usage') for what is no schedule. */
export function checkSchedule(turns: Schedule, vcpus: number = Number.POSITIVE_INFINITY): Schedule {
  const joined: ScheduleTurn[] = [];
  for (const { vcpu, steps } of turns) {
    if (!Number.isSafeInteger(steps) || steps < 1) {
      throw new KvmscopeError('usage', `schedule: vCPU ${vcpu} makes a whole number of steps from 1 on, not ${steps}`);
    }
    if (!Number.isSafeInteger(vcpu) || vcpu < 0 || vcpu >= vcpus) {
      throw new KvmscopeError('usage', `schedule: no vCPU ${vcpu}: the VM has ${vcpus}, counted from 0`);
    }
    const last = joined.at(-1);
    if (last?.vcpu === vcpu) joined[joined.length - 1] = { vcpu, steps: last.steps + steps };
    else joined.push({ vcpu, steps });
  }
  return joined;
}

/** The text of a schedule, as short as it gets: `parseSchedule` reads it back. */
export const formatSchedule = (turns: Schedule): string =>
  checkSchedule(turns)
    .map(({ vcpu, steps }) => (steps === 1 ? `${vcpu}` : `${vcpu}*${steps}`))
    .join(',');

/** The schedule in which these vCPUs make one step each, in this order. */
export const scheduleOf = (order: Iterable<number>): Schedule =>
  checkSchedule(Array.from(order, (vcpu) => ({ vcpu, steps: 1 })));
