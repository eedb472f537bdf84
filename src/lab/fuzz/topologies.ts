/** Which VMs a campaign is executed on: one that was asked for, or a set that covers what matters to its kind. */
import { KvmscopeError } from '../../errors.ts';
import type { CampaignKind, Topology } from './types.ts';

/** What is asked of a topology; undefined: nothing. */
export type TopologyWishes = { readonly [K in keyof Topology]?: Topology[K] | undefined };

const MOST_VCPUS = 255;

const PLAIN: Omit<Topology, 'vendor'> = {
  vcpus: 4,
  apic: 'x2apic',
  mode: 'long64',
  cpl: 0,
  aps: 'halted',
  x2apicApi: 0,
  vectorHashing: true,
  enforcePvFeatures: false,
};
/** Neighbours, both ends of a cluster, other clusters, the last id of a byte. */
const SPARSE = [0, 1, 5, 15, 16, 33, 64, 255];
/** Both sides of the byte, and beyond. */
const HIGH = [0, 1, 254, 255, 256, 257, 300, 1000];
const HIGH_API = 3;
/** All bits but PV_UNHALT, PV_SEND_IPI and PV_SCHED_YIELD. */
const WITHOUT_IPIS = 0x0100_0000 | (0x7b & ~(1 << 7));
const MAP_GPA_RANGE = 0x1000;

type Variant = Partial<Omit<Topology, 'vendor'>>;

const withIds = (ids: readonly number[]): Variant => ({ ids, vcpus: ids.length });

const EVERYWHERE: readonly Variant[] = [
  withIds(SPARSE),
  { ...withIds(HIGH), x2apicApi: HIGH_API },
  withIds(HIGH),
  { apic: 'xapic' },
  { vcpus: 6, softwareDisabled: [2], hardwareDisabled: [3] },
  { apic: 'mixed', vcpus: 6 },
  { apic: 'xapic', mode: 'prot32' },
  { aps: 'wait-for-sipi' },
];
const OF_KIND: Readonly<Record<CampaignKind, readonly Variant[]>> = {
  icr: [],
  hypercall: [
    { apic: 'none', vcpus: 2 },
    { mode: 'compat32' },
    { cpl: 3 },
    { enforcePvFeatures: true, pvFeatures: WITHOUT_IPIS },
    { exitHypercalls: MAP_GPA_RANGE },
  ],
  msr: [{ apic: 'none', vcpus: 2 }],
  sequence: [],
  race: [],
};

/** One topology if anything about it was asked for, else those that cover the kind. Throws KvmscopeError('usage'). */
export function topologiesFor(kind: CampaignKind, wishes: TopologyWishes = {}): Topology[] {
  const { vendor = 'intel', ...others } = wishes;
  const asked = Object.fromEntries(Object.entries(others).filter(([, value]) => value !== undefined)) as Variant;
  const variants = Object.keys(asked).length > 0 ? [asked] : [PLAIN, ...OF_KIND[kind], ...EVERYWHERE];
  return variants.map((variant) => {
    const vcpus = variant.vcpus ?? variant.ids?.length ?? PLAIN.vcpus;
    return checked({ vendor, ...PLAIN, ...variant, vcpus });
  });
}

function checked(topology: Topology): Topology {
  const { vcpus, ids, apic, mode, cpl, softwareDisabled = [], hardwareDisabled = [] } = topology;
  const wrong = (message: string): KvmscopeError => new KvmscopeError('usage', message);
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MOST_VCPUS)
    throw wrong(`fuzzing takes 1 to ${MOST_VCPUS} vCPUs, not ${vcpus}`);
  if (ids !== undefined && ids.length !== vcpus) throw wrong(`${ids.length} ids are given for ${vcpus} vCPUs`);
  for (const index of [...softwareDisabled, ...hardwareDisabled]) {
    if (!Number.isInteger(index) || index < 0 || index >= vcpus)
      throw wrong(`there is no vCPU ${index} whose APIC could be disabled`);
  }
  if (apic === 'none' && softwareDisabled.length + hardwareDisabled.length > 0)
    throw wrong('without local APICs in the kernel there are none that could be disabled');
  const unlike = apic === 'mixed' || softwareDisabled.length > 0 || hardwareDisabled.length > 0;
  if (cpl === 3 && mode === 'real16') throw wrong('real mode has no CPL 3');
  if (unlike && (cpl === 3 || mode === 'real16'))
    throw wrong('disabled and mixed APICs need code of CPL 0 outside real mode');
  return topology;
}
