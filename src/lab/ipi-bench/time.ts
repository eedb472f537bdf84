/**
 * The time of one round, from its exact counts and the costs of `src/kvm/cost-model.ts`.
 *
 * Guest and KVM are simulated on one host thread: what runs in parallel on 80 processors runs there one after the other, in slices of any
 * length, so the simulator's clock says nothing about this. What it does say exactly is which exits happen, in which order at the sender,
 * and who gets a message from which of them. From that the time follows along the critical path, each vCPU with a clock of its own:
 *
 * - The sender works alone and serially: it queues a call for each target (two cache lines that the target has written: the lock of the
 *   record and the head of the queue), then leaves the guest as often as it does, and in each exit delivers message after message.
 * - A receiver works in parallel to everything from the moment its message arrives: it is interrupted, takes the call from its queue (two
 *   lines that the sender has written), calls the function, unlocks the record. With a spinlock in the function, receivers follow one
 *   another in the order in which they ask for it.
 * - Then the sender looks at the records in order: it waits where one is still locked, and pays a line for each.
 *
 * Half of what an exit or a delivery costs lies before its effect, half behind it: nothing published says more. The fastpath takes its
 * saving from the first half. A line of a CPU in the sender's own socket is cheaper than one from another socket; vCPU n runs on
 * processor n of a host that has enough of them, in sockets of 40.
 */
import { CostModel, type Costs } from '../../kvm/cost-model.ts';
import { SVM_EXITS } from '../../kvm/svm.ts';
import { VMX_EXITS } from '../../kvm/vmx.ts';
import type { IpiRound, SenderStep } from './round.ts';
import type { IpiScenario } from './scenario.ts';

export interface RoundTime {
  /** Cycles of the whole round at the sender. */
  readonly wall: number;
  /** Cycles from the send to the receiver's handler; null where more than one receiver or none is called. */
  readonly latency: number | null;
}

type Shape = Pick<IpiScenario, 'mode' | 'vendor' | 'idle' | 'targets'>;

/** Cycles of an exit by its name, without what is done for it. */
function exitCycles(vendor: IpiScenario['vendor'], name: string, model: CostModel): number {
  const table = vendor === 'intel' ? VMX_EXITS : SVM_EXITS;
  const kind = table.findIndex((exit) => exit.name === name);
  return model.exit[kind];
}

/** Processors of a socket of the published tables' host: two of 20 cores with two threads each. */
const SOCKET = 40;
/** Lines of the target that a delivery touches: the vCPU's requests and mode, its LAPIC, the register page, the host's run queue. */
const DELIVERY_LINES = 4;

/** Cycles for a cache line that moves between CPU 0 and another one. */
const line = (cpu: number, costs: Costs): number => costs[cpu < SOCKET ? 'line.near' : 'line.far'];

/** Runs `step` from time `now` at the sender; `kicks` is how many a message needs, 0 … 1; `arrive` hears when each target's message is there. Returns when the step is over. */
function send(
  step: SenderStep,
  now: number,
  costs: Costs,
  exit: number,
  kicks: number,
  arrive: (target: number, at: number) => void,
): number {
  const handling = step.icr ? costs['icr.write'] : 0;
  const whole = step.exit === null ? costs['icr.hardware'] : exit + handling;
  let at = now + whole / 2 - (step.fastpath ? costs['icr.slow'] : 0);
  for (const target of step.targets) {
    // The processor's own delivery is part of the write.
    const each = step.exit === null ? 0 : costs.deliver + kicks * costs.kick + DELIVERY_LINES * line(target, costs);
    arrive(target, at + each / 2);
    at += each;
  }
  return at + whole / 2;
}

/** The modelled time of a round. `costs`: cycles by name, default those of the table. */
export function roundTime(scenario: Shape, round: Pick<IpiRound, 'steps' | 'counts'>, costs: Costs): RoundTime {
  const { mode, vendor, idle } = scenario;
  const { counts } = round;
  const model = new CostModel(costs);
  const bookkeeping = costs['guest.round'];
  const call = costs['guest.call'];
  if (mode === 'dry-run') return { wall: bookkeeping, latency: null };
  if (mode === 'self') return { wall: bookkeeping + call, latency: call / 2 };

  // What stands between a message and its handler.
  const interrupts = counts.accepted === 0 ? 0 : counts.kicks / counts.accepted;
  const reach = idle === 'halt' ? costs.wake : costs.notify + interrupts * costs['exit.interrupt'];
  const kicks = counts.sent === 0 ? 0 : 1 - counts.coalesced / counts.sent;
  const eoiExit = Object.keys(counts.receiverExits).find((name) => !PASSIVE.has(name));
  const eoi =
    counts.eoiExits === 0 || eoiExit === undefined
      ? 0
      : (counts.eoiExits / counts.accepted) * (exitCycles(vendor, eoiExit, model) + costs.eoi);

  const bare = mode === 'bare';
  const multicast = mode === 'broadcast' || mode === 'broadcast-lock';
  const targets = multicast ? scenario.targets : 1;
  const start = bare ? 0 : (bookkeeping + call) / 2;
  let now = start;
  if (!bare) for (let target = 1; target <= targets; target++) now += 2 * line(target, costs);
  const ready: (readonly [at: number, target: number])[] = [];
  let handler = 0;
  for (const step of round.steps) {
    const exit = step.exit === null ? 0 : exitCycles(vendor, step.exit, model);
    // The cluster driver collapses a mask into logical destinations; for one target there is nothing to collapse.
    if (multicast && step.logical) now += step.targets.length * costs['cluster.member'];
    now = send(step, now, costs, exit, kicks, (target, at) => {
      handler = at + reach;
      ready.push([handler + eoi + (bare ? 0 : 2 * line(target, costs)), target]);
    });
  }
  if (bare) return { wall: Math.max(now, ready[0][0]) + line(1, costs), latency: handler };

  const unlocked = acknowledge(ready, mode === 'broadcast-lock', costs);
  for (const [target, at] of unlocked) now = Math.max(now, at) + line(target, costs);
  const wall = now + (bookkeeping + call) / 2;
  const latency = mode === 'normal' ? ready[0][0] - bookkeeping / 2 : null;
  return { wall, latency };
}

/** Exits of receivers that are not for an EOI. */
const PASSIVE: ReadonlySet<string> = new Set(['external_interrupt', 'interrupt', 'hlt']);

/** When each target has unlocked its record, in the order in which the sender looks. */
function acknowledge(
  ready: readonly (readonly [at: number, target: number])[],
  lock: boolean,
  costs: Costs,
): [target: number, at: number][] {
  const done: [target: number, at: number][] = [];
  let free = Number.NEGATIVE_INFINITY;
  for (const [at, target] of [...ready].sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    let unlocked = at;
    if (lock) {
      unlocked = Math.max(at + costs['line.near'], free + costs['lock.handover']);
      free = unlocked;
    }
    done.push([target, unlocked]);
  }
  return done.sort((a, b) => a[0] - b[0]);
}
