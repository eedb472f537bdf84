/** Rounds of the IPI micro-benchmark in a virtual machine, and exact counts of what one of them is made of. */
import { KvmscopeError } from '../../errors.ts';
import type { ExitRecord } from '../../kvm/types.ts';
import { createVm } from '../../machine/machine.ts';
import type { RunEnd } from '../../machine/types.ts';
import type { Vm } from '../../machine/vm.ts';
import { describeEnd } from '../expect.ts';
import { type IpiScenario, resolveScenario, scenarioSource } from './scenario.ts';

/** What the sender did for its IPIs, one after the other. */
export interface SenderStep {
  /** Name of the exit; null: the processor has done it without one. */
  readonly exit: string | null;
  /** KVM saw an ICR write (a hypercall and the other accesses of an xAPIC send are none). */
  readonly icr: boolean;
  /** The WRMSR fastpath took it. */
  readonly fastpath: boolean;
  /** A logical destination. */
  readonly logical: boolean;
  /** CPUs whose local APICs got a message, in order. */
  readonly targets: readonly number[];
}

/** Exact counts of one round. Exits by the vendor's names; the write that marks the round is left out. */
export interface RoundCounts {
  readonly senderExits: Readonly<Record<string, number>>;
  /** All receivers together. */
  readonly receiverExits: Readonly<Record<string, number>>;
  readonly fastpath: number;
  /** Queues the guest found empty: CPUs it had to interrupt. */
  readonly ipis: number;
  /** ICR writes and hypercalls that KVM saw. */
  readonly commands: number;
  /** Messages given to local APICs. */
  readonly sent: number;
  /** Messages that became an interrupt, each with its function call and its EOI. */
  readonly accepted: number;
  /** Kicks that made a vCPU leave the guest. */
  readonly kicks: number;
  /** Kicks that woke a halted vCPU up. */
  readonly wakeups: number;
  /** Messages that needed no kick: another one was on its way, or the processor delivered them (`posted`). */
  readonly coalesced: number;
  readonly posted: number;
  readonly eois: number;
  /** EOIs that left the guest. */
  readonly eoiExits: number;
}

export interface IpiRound {
  readonly counts: RoundCounts;
  readonly steps: readonly SenderStep[];
}

/** Steps of one round at most: a guest that hangs ends. */
const ROUND_BUDGET = 20_000_000;
/** The board's exit port, which marks the rounds. */
const MARKS: ReadonlySet<string> = new Set(['io_instruction', 'io']);
/** Exits an EOI can be. An xAPIC's EOI is a store. */
const EOI_EXITS: readonly string[] = ['msr_write', 'ept_violation', 'npf', 'eoi_induced', 'avic_unaccelerated_access'];
const LOGICAL = 0x800;

type Counts = Record<string, number>;

const add = (into: Counts, from: Readonly<Counts>, sign: 1 | -1): Counts => {
  for (const [name, count] of Object.entries(from)) {
    if (!MARKS.has(name)) into[name] = (into[name] ?? 0) + sign * count;
  }
  return into;
};

const positive = (counts: Counts): Counts =>
  Object.fromEntries(
    Object.entries(counts)
      .filter(([, count]) => count !== 0)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );

const total = (counts: Readonly<Counts>, names: readonly string[]): number =>
  names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);

/** Counters at one moment. */
interface Moment {
  readonly sender: Counts;
  readonly receivers: Counts;
  readonly wakeups: number;
  readonly fastpath: number;
  readonly messages: number;
  readonly calls: number;
  readonly ipis: number;
}

/** A guest that is ready to play round after round. */
export class IpiBench {
  readonly scenario: IpiScenario;
  readonly vm: Vm;

  private constructor(scenario: IpiScenario, vm: Vm) {
    this.scenario = scenario;
    this.vm = vm;
  }

  /**
   * Makes the VM and runs it up to its first round. `record: true` is for `round`, without it only `play` works, at full speed. Throws
   * KvmscopeError('usage') for a scenario that makes no sense or that the KVM version cannot have.
   */
  static async open(given: Partial<IpiScenario> = {}, { record = false } = {}): Promise<IpiBench> {
    const scenario = resolveScenario(given);
    const { vcpus, idStride, kvm, vendor, apicv, avic, seed, apic } = scenario;
    const highest = (vcpus - 1) * idStride;
    const vm = await createVm({
      ...{ vcpus, kvm, vendor, apicv, avic, seed, record },
      mode: 'long64',
      aps: 'run',
      apic: apic === 'xapic' ? 'xapic' : 'x2apic',
      apicIds: Array.from({ length: vcpus }, (_, index) => index * idStride),
      // IDs of more than 8 bits want KVM_X2APIC_API_USE_32BIT_IDS.
      x2apicApi: highest > 254 ? 1 : 0,
      budget: ROUND_BUDGET,
    });
    vm.load(scenarioSource(scenario), { fileName: 'ipi-bench.S' });
    const bench = new IpiBench(scenario, vm);
    // What is recorded on the way to the first round belongs to none.
    bench.#check(record ? vm.run().end : vm.advance());
    return bench;
  }

  /** Plays rounds and counts nothing. */
  play(rounds: number): void {
    for (let i = 0; i < rounds; i++) this.#check(this.vm.advance());
  }

  /** Plays one round and says what it was made of. */
  round(): IpiRound {
    const before = this.#moment();
    const run = this.vm.run();
    this.#check(run.end);
    const after = this.#moment();
    const { vendor, apicv, avic } = this.scenario;
    const steps = this.#steps(run.exits, after.messages - before.messages);
    const receiverExits = positive(add(after.receivers, before.receivers, -1));
    const sent = after.messages - before.messages;
    const accepted = after.calls - before.calls;
    const handled = this.scenario.mode === 'self' ? 0 : accepted;
    const kicks = total(receiverExits, ['external_interrupt', 'interrupt']);
    const wakeups = after.wakeups - before.wakeups;
    const hardware = vendor === 'intel' ? apicv !== 'off' : avic;
    const silent = sent - kicks - wakeups;
    return {
      steps,
      counts: {
        senderExits: positive(add(after.sender, before.sender, -1)),
        receiverExits,
        fastpath: after.fastpath - before.fastpath,
        ipis: this.scenario.mode === 'bare' ? 1 : after.ipis - before.ipis,
        commands: steps.filter(({ icr, exit }) => icr || exit === 'vmcall' || exit === 'vmmcall').length,
        sent,
        accepted: handled,
        ...{ kicks, wakeups },
        coalesced: hardware ? 0 : silent,
        posted: hardware ? silent : 0,
        eois: handled,
        eoiExits: total(receiverExits, EOI_EXITS),
      },
    };
  }

  dispose(): void {
    this.vm.dispose();
  }

  #check(end: RunEnd): void {
    if (end.kind === 'exit' && end.status === 0) return;
    this.vm.dispose();
    throw new KvmscopeError('usage', `the benchmark's guest did not finish a round: ${describeEnd(end)}`);
  }

  #moment(): Moment {
    const { kvm, program, memory } = this.vm;
    const word = (name: string): number => {
      const address = Number(program?.symbols.get(name) ?? 0n);
      return new DataView(memory.buffer, memory.byteOffset + address).getUint32(0, true);
    };
    const [sender, ...receivers] = kvm.vcpus;
    const sum: Counts = {};
    for (const { counters } of receivers) add(sum, counters.byReason, 1);
    return {
      sender: add({}, sender.counters.byReason, 1),
      receivers: sum,
      wakeups: receivers.reduce((all, { counters }) => all + counters.halt_wakeup, 0),
      fastpath: sender.counters.fastpath,
      messages: kvm.messages,
      calls: word('calls'),
      ipis: word('ipis'),
    };
  }

  /** The sender's exits in order; what the processor has sent by itself comes behind them, a step for each target. */
  #steps(exits: readonly ExitRecord[], messages: number): SenderStep[] {
    const { idStride, targets: called, mode } = this.scenario;
    const reached = new Set<number>();
    const steps: SenderStep[] = [];
    for (const { vcpu, name, events, fastpath } of exits) {
      if (vcpu !== 0 || MARKS.has(name)) continue;
      const targets: number[] = [];
      let icr = false;
      let logical = false;
      for (const event of events) {
        if (event.event === 'kvm_apic_accept_irq') targets.push(event.apicid / idStride);
        if (event.event === 'kvm_apic_ipi') {
          icr = true;
          logical = (event.icrLow & LOGICAL) !== 0;
        }
      }
      for (const target of targets) reached.add(target);
      steps.push({ exit: name, icr, fastpath: fastpath?.taken ?? false, logical, targets });
    }
    const last = mode === 'broadcast' || mode === 'broadcast-lock' ? called : 1;
    for (let target = 1; messages > reached.size && target <= last; target++) {
      if (reached.has(target)) continue;
      reached.add(target);
      steps.push({ exit: null, icr: false, fastpath: false, logical: false, targets: [target] });
    }
    return steps;
  }
}
