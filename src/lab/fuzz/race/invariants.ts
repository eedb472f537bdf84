/** What holds in every run of every program in every KVM version, whatever the interleaving: checked on a recorded run. */
import { MODE_INIT, MODE_LOWEST, MODE_NMI } from '../../../kvm/icr.ts';
import { APIC_SVR } from '../../../kvm/lapic.ts';
import type { RunResult, VcpuView } from '../../../machine/types.ts';

const KVM_HC_SEND_IPI = 10n;
const IA32_APIC_BASE = 0x1b;
const RFLAGS_IF = 0x200n;
/** Position of RAX in exit records. */
const RAX = 0;

/** Invariants that the run breaks, a sentence each. */
export function brokenInvariants(run: RunResult): string[] {
  const broken: string[] = [];
  for (const vcpu of run.vcpus) {
    // A run that ended for all at once leaves everybody where they were.
    if (run.end.kind === 'halted') broken.push(...sleepsOn(vcpu));
    const offered = offers(run, vcpu);
    if (offered !== undefined) broken.push(...lostAndFound(run, vcpu, offered));
  }
  broken.push(...countedTooMany(run));
  return broken;
}

const highest = (vectors: readonly number[]): number => vectors.reduce((most, vector) => Math.max(most, vector), -1);

/** A vCPU sleeps although an interrupt is there that it would take. */
function sleepsOn({ index, mpState, registers, lapic }: VcpuView): string[] {
  if (mpState !== 'halted' || !lapic.enabled || (registers.rflags & RFLAGS_IF) === 0n) return [];
  const vector = highest(lapic.irr);
  if (vector >> 4 <= Math.max(lapic.tpr, highest(lapic.isr)) >> 4) return [];
  return [`vCPU ${index} sleeps with interrupts enabled while vector 0x${vector.toString(16)} waits for it`];
}

interface Offers {
  /** Edge-triggered interrupts by vector, and how many of any kind. */
  readonly edges: ReadonlySet<number>;
  readonly all: ReadonlyMap<number, number>;
  readonly nmis: number;
  /** The local APIC was on all the time, and no INIT came. */
  readonly steady: boolean;
}

/** What was sent to a vCPU; undefined if the record does not tell. */
function offers(run: RunResult, { index, apicId, lapic }: VcpuView): Offers | undefined {
  const edges = new Set<number>();
  const all = new Map<number, number>();
  let nmis = 0;
  let steady = lapic.enabled;
  for (const event of run.trace) {
    switch (event.event) {
      case 'kvm_apicv_accept_irq':
        return undefined;
      case 'kvm_apic_accept_irq':
        if (event.apicid !== apicId) break;
        if (event.deliveryMode <= MODE_LOWEST) {
          all.set(event.vector, (all.get(event.vector) ?? 0) + 1);
          if (event.triggerMode === 0) edges.add(event.vector);
        } else if (event.deliveryMode === MODE_NMI) {
          nmis++;
        } else if (event.deliveryMode === MODE_INIT) {
          steady = false;
        }
        break;
      case 'kvm_apic':
        if (event.vcpu === index && event.write && event.reg === APIC_SVR) steady = false;
        break;
      case 'kvm_msr':
        if (event.vcpu === index && event.write && event.msr === IA32_APIC_BASE) steady = false;
        break;
    }
  }
  return { edges, all, nmis, steady };
}

/** Nothing that was accepted is lost, and nothing is taken that nobody sent. */
function lostAndFound(run: RunResult, vcpu: VcpuView, { edges, all, nmis, steady }: Offers): string[] {
  if (run.notes.some((note) => note.startsWith('the record is full'))) return [];
  const { index, lapic, counters } = vcpu;
  const taken = new Map<number, number>();
  for (const event of run.trace) {
    if (event.event !== 'kvm_inj_virq' || event.vcpu !== index || event.soft) continue;
    taken.set(event.irq, (taken.get(event.irq) ?? 0) + 1);
  }
  const found: string[] = [];
  const name = (vector: number): string => `vector 0x${vector.toString(16)}`;
  for (const [vector, count] of taken) {
    const sent = all.get(vector) ?? 0;
    if (count > sent) found.push(`vCPU ${index} took ${name(vector)} ${count} times, and it was sent ${sent} times`);
  }
  if (counters.nmi_injections > nmis) {
    found.push(`vCPU ${index} took ${counters.nmi_injections} NMIs, and ${nmis} were sent`);
  }
  if (!steady || run.end.kind === 'host-bug' || run.end.kind === 'internal-error') return found;
  for (const vector of edges) {
    if (!taken.has(vector) && !lapic.irr.includes(vector)) found.push(`vCPU ${index} lost ${name(vector)}`);
  }
  if (nmis > 0 && counters.nmi_injections === 0 && vcpu.nmiPending === 0) found.push(`vCPU ${index} lost an NMI`);
  return found;
}

/** KVM_HC_SEND_IPI answers with the number of local APICs that accepted: no more than it was offered to. */
function countedTooMany(run: RunResult): string[] {
  const found: string[] = [];
  // The exit in which the host crashed has no answer.
  const exits = run.end.kind === 'host-bug' ? run.exits.slice(0, -1) : run.exits;
  for (const { vcpu, name, before, after, events } of exits) {
    if ((name !== 'vmcall' && name !== 'vmmcall') || before[RAX] !== KVM_HC_SEND_IPI) continue;
    const count = BigInt.asIntN(64, after[RAX]);
    const offered = events.filter(({ event }) => event.endsWith('_accept_irq')).length;
    if (count > BigInt(offered)) {
      found.push(`KVM_HC_SEND_IPI of vCPU ${vcpu} counted ${count} targets of ${offered}`);
    }
  }
  return found;
}
