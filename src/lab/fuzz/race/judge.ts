/** What is wrong with one schedule of a program: it is run once more, recorded, on every side. */
import { createVm, EXIT_COST, MESSAGE_COST } from '../../../machine/machine.ts';
import { scheduleOf } from '../../../machine/schedule.ts';
import type { MachineOptions, RunResult } from '../../../machine/types.ts';
import type { ResolvedMachineOptions, Snapshot, Vm } from '../../../machine/vm.ts';
import { describeEnd } from '../../expect.ts';
import { judge, type OpenedProgram } from '../../open.ts';
import { type Difference, differences } from './differences.ts';
import { brokenInvariants } from './invariants.ts';

/**
 * `expectation`: one of the header, or the run does not end well; `invariant`: KVM itself is wrong; `difference`: two KVM versions come to
 * different places under the same schedule.
 */
export type FailureKind = 'expectation' | 'invariant' | 'difference';

export interface Failure {
  readonly kind: FailureKind;
  /** Equal for equal failures. */
  readonly signature: string;
  /** A line each. */
  readonly details: readonly string[];
  readonly differences: readonly Difference[];
}

/** How many times more than the first run another one may cost. */
const COST_FACTOR = 4;

interface Side {
  readonly vm: Vm;
  root: Snapshot;
}

export class Judge {
  readonly #sides: readonly Side[];
  #budget: number;
  #opened: OpenedProgram;
  /** Runs so far. */
  runs = 0;

  private constructor(opened: OpenedProgram, vms: readonly Vm[], budget: number) {
    this.#opened = opened;
    this.#sides = vms.map((vm) => ({ vm, root: vm.snapshot() }));
    this.#budget = budget;
  }

  /** Makes recording VMs, one for each of `sides`. */
  static async open(opened: OpenedProgram, sides: readonly MachineOptions[], budget: number): Promise<Judge> {
    const vms: Vm[] = [];
    for (const options of sides) {
      const vm = await createVm({ ...options, record: true });
      vm.load(opened.program);
      vms.push(vm);
    }
    return new Judge(opened, vms, budget);
  }

  /**
   * Runs the program once as `kvmscope run` would, and gives every later run several times what it cost, if it came to an end. Returns how
   * many steps it made.
   */
  measure(budget: number): number {
    const [{ vm, root }] = this.#sides;
    vm.restore(root);
    const { end, steps, counters } = vm.run({ seed: vm.options.seed, budget });
    if (end.kind === 'budget') return steps;
    const messages = vm.kvm.messages;
    const cost = steps + EXIT_COST * (counters.exits + counters.fastpath) + MESSAGE_COST * messages;
    this.#budget = Math.max(this.#budget, COST_FACTOR * cost);
    return steps;
  }

  get budget(): number {
    return this.#budget;
  }

  load(opened: OpenedProgram): void {
    this.#opened = opened;
    for (const side of this.#sides) {
      side.root.dispose();
      side.vm.load(opened.program);
      side.root = side.vm.snapshot();
    }
  }

  /** Of the first side. */
  get options(): ResolvedMachineOptions {
    return this.#sides[0].vm.options;
  }

  /** Runs the program by a schedule, given step by step; what comes behind its end the seed decides. One result for each side. */
  run(order: readonly number[]): RunResult[] {
    this.runs++;
    const schedule = scheduleOf(order);
    return this.#sides.map(({ vm, root }) => {
      vm.restore(root);
      return vm.run({ schedule, seed: vm.options.seed, budget: this.#budget });
    });
  }

  /** All that is wrong with a schedule. */
  failures(order: readonly number[]): Failure[] {
    const runs = this.run(order);
    const found = runs.flatMap((run) => this.#broken(run));
    const [left, right] = runs;
    if (right === undefined) {
      const failed = judge(this.#opened, left).checks.filter(({ pass }) => !pass);
      if (failed.length > 0) {
        found.unshift({
          kind: 'expectation',
          signature: hostBug(left) ?? [left.end.kind, ...failed.map(({ expectation }) => expectation.text)].join('; '),
          details: failed.map(({ expectation, expected, actual }) =>
            expectation.line === 0
              ? `the run must end well: ${describeEnd(left.end)}`
              : `${expectation.text}: expected ${expected}, actual ${actual}`,
          ),
          differences: [],
        });
      }
    } else {
      const differ = differences(left, right, this.#sides[0].vm.options);
      if (differ.length > 0) {
        found.unshift({
          kind: 'difference',
          signature:
            hostBug(left) ??
            hostBug(right) ??
            `KVM ${left.era} and ${right.era} differ: ${alike(differ.map(subject), ', ')}`,
          details: [
            ...differ.map((d) => `${d.subject}: ${d.left} on KVM ${left.era}, ${d.right} on KVM ${right.era}`),
            ...[left, right]
              .filter(({ end }) => end.kind === 'host-bug' || end.kind === 'internal-error')
              .map((run) => `KVM ${run.era}: ${describeEnd(run.end)}`),
          ],
          differences: differ,
        });
      }
    }
    return found;
  }

  #broken(run: RunResult): Failure[] {
    const broken = brokenInvariants(run);
    if (run.end.kind === 'internal-error') broken.push(describeEnd(run.end));
    if (broken.length === 0) return [];
    const details = broken.map((text) => `KVM ${run.era}: ${text}`);
    return [{ kind: 'invariant', signature: alike(details), details, differences: [] }];
  }

  dispose(): void {
    for (const { vm } of this.#sides) vm.dispose();
  }
}

/** Addresses in memory follow from the program: where it is is no part of what differs. */
const subject = ({ subject: name }: Difference): string => name.replace(/^memory\[.*/, 'memory');

/** The same for the same rule broken elsewhere: which vCPU, which vector and how often are no part of it. */
const alike = (texts: readonly string[], separator = '; '): string =>
  [
    ...new Set(
      texts.map((text) =>
        text
          .replace(/vCPU \d+/g, 'a vCPU')
          .replace(/vcpu\[\d+\]/g, 'vcpu')
          .replace(/vector 0x[0-9a-f]+/g, 'a vector')
          .replace(/\b\d+(?= (?:times|NMIs|targets|were|of)\b)|(?<=counted |targets of )\d+/g, 'n'),
      ),
    ),
  ].join(separator);

const hostBug = ({ end }: RunResult): string | undefined =>
  end.kind === 'host-bug' ? `host bug ${end.bug}` : undefined;
