/** Blocks without VMs: small results that depend on the campaign and the block only. Works as the module of a worker thread, too. */
import { createHash } from 'node:crypto';
import { KvmscopeError } from '../../errors.ts';
import type { CampaignRunner, RunBlockOptions } from './block.ts';
import { campaignId } from './canonical.ts';
import type { BlockResult, Campaign, Find } from './types.ts';

/** URL for RunCampaignOptions.module. */
export const FAKE_RUNNER = import.meta.url;

/** What fake blocks do besides: in `race` of the campaign. */
export interface FakeOptions {
  /** Reports one case and waits until the block is aborted, but not where the environment has NO_HANG. */
  readonly hang?: number;
  /** Throws in this block. */
  readonly fail?: number;
  /** Ends the thread in this block. */
  readonly die?: number;
}

export function fakeCampaign(seed = 1, fake: FakeOptions = {}): Campaign {
  return {
    kind: 'icr',
    kvm: '6.18',
    topologies: [
      {
        vendor: 'intel',
        vcpus: 2,
        apic: 'x2apic',
        mode: 'long64',
        cpl: 0,
        aps: 'halted',
        x2apicApi: 0,
        vectorHashing: true,
        enforcePvFeatures: false,
      },
    ],
    seed,
    blockSize: 100,
    direct: true,
    race: { ...fake },
  };
}

/** The result of a fake block: some decision points, a corpus, and now and then a find that other blocks have, too. */
export function fakeBlock(campaign: Campaign, block: number): BlockResult {
  const bytes = createHash('sha256')
    .update(`${campaignId(campaign)} ${block}`)
    .digest();
  const coverage = [...new Set([...bytes.subarray(0, 5)].map((byte) => byte % 40))].sort((a, b) => a - b);
  const find = (kind: number, at: number): Find => ({
    signature: `difference ${kind}`,
    block,
    case: block * campaign.blockSize + at,
    input: { steps: [`0x${bytes.toString('hex', 0, 4)}`] },
    outcomes: { old: at, new: at + 1 },
    program: `# block ${block}\n${'    nop\n'.repeat((at % 4) + 1)}    hlt\n`,
    words: `Difference ${kind}: seen with ${at}.`,
  });
  return {
    block,
    cases: campaign.blockSize,
    coverage,
    corpus: coverage.map((point) => `${point}:${bytes.toString('hex', 6, 8)}`),
    finds: bytes[8] < 160 ? [find(bytes[9] % 7, bytes[10] % 100), find(7 + (bytes[11] % 3), bytes[12] % 100)] : [],
  };
}

export async function openCampaign(campaign: Campaign): Promise<CampaignRunner> {
  const fake = (campaign.race ?? {}) as FakeOptions;
  if (campaign.seed === 666) throw new KvmscopeError('usage', 'seed 666 makes no sense');
  return {
    campaign,
    async runBlock(block: number, { signal, onProgress }: RunBlockOptions = {}) {
      if (block === fake.fail) throw new Error(`block ${block} went wrong`);
      if (block === fake.die) process.exit(3);
      onProgress?.(1);
      while (block === fake.hang && !process.env.NO_HANG && !signal?.aborted);
      if (signal?.aborted) return undefined;
      return fakeBlock(campaign, block);
    },
    dispose() {},
  };
}
