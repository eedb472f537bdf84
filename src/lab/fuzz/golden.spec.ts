import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openCampaign } from './block.ts';
import { topologiesFor } from './topologies.ts';
import type { BlockResult, Campaign, CampaignKind } from './types.ts';

const golden = fileURLToPath(new URL('../../../test/golden', import.meta.url));
const campaign = (kind: CampaignKind, kvm: string, blockSize: number): Campaign => ({
  kind,
  kvm,
  against: 'golden',
  golden,
  topologies: topologiesFor(kind),
  seed: 1,
  blockSize,
  direct: false,
});

async function block(given: Campaign, number: number): Promise<BlockResult> {
  const runner = await openCampaign(given);
  return (await runner.runBlock(number)) as BlockResult;
}

describe('a campaign against recordings', () => {
  it.each([
    ['icr', 2000],
    ['hypercall', 1000],
    ['sequence', 100],
    ['msr', 43],
  ] as const)('of kind %s: the model of the recorded version agrees', async (kind, cases) => {
    expect(await block(campaign(kind, '6.18', cases), 0)).toEqual({
      block: 0,
      cases,
      coverage: [],
      corpus: [],
      finds: [],
    });
  });

  it('says in which recorded cases another version comes out otherwise, as a program with what was recorded', async () => {
    const { finds } = await block(campaign('hypercall', '5.4', 3194), 0);
    const wrap = finds.find(({ signature }) => signature === 'recorded hypercall: ch irr; rax; ret');
    expect(wrap?.words).toMatch(/KVM 5\.4 comes out otherwise than the real KVM of .*\.jsonl, line \d+: /);
    expect(wrap?.program).toMatch(/# expect: rax = 0x1|# expect: vcpu/);
  });

  it('needs recordings of its kind', async () => {
    await expect(openCampaign({ ...campaign('icr', '6.18', 1), golden: `${golden}/hc` })).rejects.toThrow(
      'has no recorded cases of kind icr',
    );
  });
});
