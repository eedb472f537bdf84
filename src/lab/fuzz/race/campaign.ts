/** What a race campaign is, without what runs it. */
import type { Vendor } from '../../../cpu/cpu.ts';
import { KvmscopeError } from '../../../errors.ts';
import { resolveEra } from '../../../kvm/eras.ts';
import type { Campaign, Topology } from '../types.ts';
import type { RaceLimits } from './race.ts';

/** What a race campaign may be told; everything else is the campaign's own. */
export interface RaceCampaignOptions extends Pick<RaceLimits, 'bound' | 'maxSteps' | 'reduction' | 'seed'> {
  readonly kvm?: string;
  readonly against?: string;
  readonly vendor?: Vendor;
  /** Default: topologies of 2 and of 3 vCPUs. */
  readonly vcpus?: number;
  /** Executions of each program at most. Default 400. */
  readonly executions?: number;
}

/** Least and most of each limit of a search. */
export const LIMITS = {
  bound: [0, 1000],
  runs: [1, 1e9],
  executions: [1, 1e9],
  seed: [0, 0xffffffff],
  maxSteps: [1, 1e6],
  finds: [1, 1000],
} as const;

/** Throws KvmscopeError('usage') for a number that is out of its limits; undefined is fine. */
export function checkLimit(name: keyof typeof LIMITS, value: number | undefined): void {
  const [least, most] = LIMITS[name];
  if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) return;
  throw new KvmscopeError('usage', `${name} must be a whole number from ${least} to ${most}, not ${String(value)}`);
}

const BLOCK_SIZE = 16;
export const MOST_VCPUS = 8;

/** The campaign of these options, as `runCampaign` and `openCampaign` take it. */
export function raceCampaign(options: RaceCampaignOptions = {}): Campaign {
  const { bound, maxSteps, reduction, executions, vendor = 'intel', vcpus, against, seed = 1 } = options;
  if (vcpus !== undefined && !(Number.isInteger(vcpus) && vcpus >= 2 && vcpus <= MOST_VCPUS)) {
    throw new KvmscopeError('usage', `generated races have 2 to ${MOST_VCPUS} vCPUs, not ${vcpus}`);
  }
  for (const [name, value] of Object.entries({ bound, maxSteps, executions, seed }))
    checkLimit(name as keyof typeof LIMITS, value);
  const limits = { bound, maxSteps, reduction, executions };
  const counts = vcpus === undefined ? [2, 3] : [vcpus];
  return {
    kind: 'race',
    kvm: resolveEra(options.kvm).name,
    ...(against === undefined ? {} : { against: resolveEra(against).name }),
    topologies: (['x2apic', 'xapic'] as const).flatMap((apic) => counts.map((count) => topology(vendor, count, apic))),
    seed,
    blockSize: BLOCK_SIZE,
    direct: false,
    race: Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)),
  };
}

const topology = (vendor: Vendor, vcpus: number, apic: 'x2apic' | 'xapic'): Topology => ({
  ...{ vendor, vcpus, apic, mode: 'long64', cpl: 0, aps: 'halted' },
  ...{ x2apicApi: 0, vectorHashing: true, enforcePvFeatures: false },
});
