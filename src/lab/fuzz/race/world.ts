/**
 * What a search for races moves through: one VM, or the same program in two of different KVM versions under the same schedule. A step is
 * one of `Vm.turn`; a vCPU that sleeps on one side misses the step there, as it does in a run by a schedule.
 */
import type { Kvm } from '../../../kvm/x86.ts';
import { createVm } from '../../../machine/machine.ts';
import type { MachineOptions, RunEnd } from '../../../machine/types.ts';
import type { Snapshot, Vm } from '../../../machine/vm.ts';
import type { Program } from '../../../program/assembler.ts';
import { Independence } from './independence.ts';

/** What of a state counts beyond what the guest and its hardware see. */
export interface Observed {
  readonly counters: boolean;
  readonly time: boolean;
}

/** Timers that may expire one after the other without waking anybody. */
const MAX_JUMPS = 1000;

interface Side {
  readonly vm: Vm;
  kvm: Kvm;
  root: Snapshot;
  end: RunEnd | undefined;
}

export class World {
  readonly vcpus: number;
  readonly sides: readonly Side[];
  #observed: Observed;
  /** Messages each local APIC had accepted before the step. */
  readonly #received: number[];
  /** Steps made so far, by every vCPU of every search. */
  steps = 0;
  independence: Independence;
  /** The last step asked to let others run. */
  yielded = false;

  private constructor(vms: readonly Vm[], observed: Observed) {
    this.vcpus = vms[0].options.vcpus;
    this.#observed = observed;
    this.#received = new Array<number>(this.vcpus).fill(0);
    this.sides = vms.map((vm) => ({ vm, kvm: vm.kvm, root: vm.snapshot(), end: undefined }));
    this.independence = new Independence(this.vcpus, observed.counters);
  }

  /** Makes a VM for each of `sides`, with `program` in it. */
  static async open(program: Program, sides: readonly MachineOptions[], observed: Observed): Promise<World> {
    const vms: Vm[] = [];
    for (const options of sides) {
      const vm = await createVm({ ...options, record: false });
      vm.load(program);
      vms.push(vm);
    }
    return new World(vms, observed);
  }

  /** Puts another program into the VMs; the start is behind the steps of `prefix`. */
  load(program: Program, observed: Observed, prefix: readonly number[] = []): void {
    this.#observed = observed;
    for (const side of this.sides) {
      side.root.dispose();
      side.vm.load(program);
      side.kvm = side.vm.kvm;
      for (const vcpu of prefix) side.vm.turn(vcpu);
      side.root = side.vm.snapshot();
    }
    this.independence = new Independence(this.vcpus, this.#observed.counters);
  }

  /** Back to the start. */
  restart(): void {
    for (const side of this.sides) {
      side.vm.restore(side.root);
      side.end = undefined;
    }
    this.yielded = false;
    this.#settle();
  }

  /** All runs have ended. */
  get ended(): boolean {
    return this.sides.every(({ end }) => end !== undefined);
  }

  runnable(index: number): boolean {
    for (const { end, kvm } of this.sides) if (end === undefined && kvm.isRunnable(index)) return true;
    return false;
  }

  /** One step of a runnable vCPU. */
  turn(index: number): void {
    this.steps++;
    this.yielded = false;
    for (const side of this.sides) {
      const { vm, kvm } = side;
      if (side.end !== undefined || !kvm.isRunnable(index)) continue;
      const before = kvm.messages;
      for (const { lapic } of kvm.vcpus) this.#received[lapic.index] = lapic.received;
      const end = vm.turn(index);
      if (kvm.messages !== before) this.#learnTargets(kvm, index);
      if (end === 'yield') this.yielded = true;
      else side.end = end;
    }
    this.#settle();
  }

  #learnTargets(kvm: Kvm, from: number): void {
    for (const vcpu of kvm.vcpus) {
      const { index, lapic } = vcpu;
      if (index !== from && lapic.received !== this.#received[index]) this.independence.sent(kvm, vcpu);
    }
  }

  /** Whether the next step of a runnable vCPU is independent of all that others may do. */
  independent(index: number): boolean {
    let independent = true;
    for (const { end, kvm } of this.sides) {
      if (end === undefined && kvm.isRunnable(index)) independent = this.independence.next(kvm, index) && independent;
    }
    return independent;
  }

  /** The same for equal states: a number of one side, a text of two. */
  get fingerprint(): number | string {
    const [first, second] = this.sides;
    const options = { counters: this.#observed.counters, time: this.#observed.time || this.independence.timed };
    if (second === undefined) return first.vm.fingerprint(options);
    return this.sides.map(({ vm, end }) => `${vm.fingerprint(options)}${end?.kind ?? ''}`).join(' ');
  }

  /** Where all sleep, time goes on to the next timer, or the run has ended. */
  #settle(): void {
    for (const side of this.sides) {
      for (let jumps = 0; side.end === undefined && !this.#anybody(side.kvm); jumps++) {
        if (jumps === MAX_JUMPS) side.end = { kind: 'budget', steps: this.steps };
        else if (!side.kvm.sleepUntilTimer()) side.end = { kind: 'halted' };
      }
    }
  }

  #anybody(kvm: Kvm): boolean {
    for (let index = 0; index < this.vcpus; index++) if (kvm.isRunnable(index)) return true;
    return false;
  }

  dispose(): void {
    for (const { vm } of this.sides) vm.dispose();
  }
}
