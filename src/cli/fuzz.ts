/** `kvmscope fuzz icr|hypercall|msr|sequence`: which campaign is meant. */
import {
  type Campaign,
  type CampaignKind,
  KvmscopeError,
  liveCampaign,
  parseIds,
  resolveEra,
  topologiesFor,
} from '../index.ts';
import { optionWord } from '../trace/text.ts';
import { type CampaignFlags, runFuzz } from './fuzz-campaign.ts';
import type { Output } from './output.ts';

export interface FuzzFlags extends CampaignFlags {
  readonly kvm?: string;
  readonly against?: string;
  readonly golden?: string;
  readonly vendor?: 'intel' | 'amd';
  readonly seed?: number;
  readonly direct?: boolean;
  readonly vcpus?: number;
  readonly ids?: string;
  readonly apic?: 'x2apic' | 'xapic' | 'mixed' | 'none';
  readonly softwareDisabled?: string;
  readonly hardwareDisabled?: string;
  readonly mode?: 'real16' | 'prot32' | 'compat32' | 'long64';
  readonly cpl?: '0' | '3';
  readonly aps?: 'halted' | 'wait-for-sipi' | 'init-received';
  readonly apicApi?: number;
}

/** Cases of a block: a fraction of a second of work. */
const BLOCK = { direct: 32768, guest: 2048, recorded: 1024, live: 1024 } as const;
const DEFAULT_SEED = 1;
const GOLDEN = 'golden';
/** The other side is the KVM of this machine; with that the era of its kernel. */
const LIVE = '/dev/kvm';
const AUTO = 'auto';
/** Recordings of the checkout. */
const GOLDEN_FOLDER = 'test/golden';

/** What a recording decides. */
const OF_THE_VM = [
  ...(['direct', 'vendor', 'vcpus', 'ids', 'apic', 'softwareDisabled', 'hardwareDisabled'] as const),
  ...(['mode', 'cpl', 'aps', 'apicApi'] as const),
];

const listOf = (option: string, text: string | undefined): readonly number[] | undefined =>
  text === undefined
    ? undefined
    : parseIds(text, (message) => {
        throw new KvmscopeError('usage', `${option}: ${message}`);
      });

export function fuzzCampaign(kind: Exclude<CampaignKind, 'race'>, flags: FuzzFlags): Campaign {
  const { against, direct = false, seed = DEFAULT_SEED } = flags;
  const recorded = against === GOLDEN;
  const live = against === LIVE;
  const auto = flags.kvm === AUTO;
  if (auto && !live) throw new KvmscopeError('usage', `--kvm ${AUTO} needs --against ${LIVE}`);
  if (!live && against?.startsWith('/'))
    throw new KvmscopeError('usage', `--against ${against}: the KVM of this machine is ${LIVE}`);
  const size = recorded ? 'recorded' : live ? 'live' : direct ? 'direct' : 'guest';
  if (seed > 0xffffffff) throw new KvmscopeError('usage', `--seed must be below 2^32, not ${seed}`);
  const unused = recorded ? OF_THE_VM.find((name) => flags[name] !== undefined) : undefined;
  if (unused !== undefined)
    throw new KvmscopeError('usage', `--${optionWord(unused)}: with --against golden, recordings say which VM it is`);
  if (flags.golden !== undefined && !recorded) throw new KvmscopeError('usage', '--golden needs --against golden');
  const campaign = {
    kind,
    ...(against === undefined ? {} : { against: recorded || live ? against : resolveEra(against).name }),
    ...(recorded ? { golden: flags.golden ?? GOLDEN_FOLDER } : {}),
    topologies: topologiesFor(kind, {
      vendor: flags.vendor,
      vcpus: flags.vcpus,
      ids: listOf('--ids', flags.ids),
      apic: flags.apic,
      softwareDisabled: listOf('--software-disabled', flags.softwareDisabled),
      hardwareDisabled: listOf('--hardware-disabled', flags.hardwareDisabled),
      mode: flags.mode,
      cpl: flags.cpl === undefined ? undefined : flags.cpl === '3' ? 3 : 0,
      aps: flags.aps,
      x2apicApi: flags.apicApi,
    }),
    seed,
    blockSize: BLOCK[size],
    direct,
  };
  if (!live) return { ...campaign, kvm: resolveEra(flags.kvm ?? (recorded ? '6.18' : undefined)).name };
  return liveCampaign({ ...campaign, kvm: flags.kvm === undefined || auto ? undefined : resolveEra(flags.kvm).name });
}

export function fuzzCommand(kind: Exclude<CampaignKind, 'race'>, flags: FuzzFlags, output: Output): Promise<number> {
  return runFuzz(fuzzCampaign(kind, flags), flags, output);
}
