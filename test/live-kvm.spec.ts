/**
 * The model against the KVM of this machine, at the era of its kernel: every effect of ICR writes, MSR accesses and sequences of them, performed by
 * guest code and by the host. 100,000 ICR cases and more: `kvmscope fuzz icr --against /dev/kvm --runs 100000`.
 */
import { describe, expect, it } from 'vitest';
import { liveKvm } from '../src/cpu/engines/kvm-probe.ts';
import { openCampaign } from '../src/lab/fuzz/block.ts';
import { type LiveCampaign, liveCampaign } from '../src/lab/fuzz/live-kvm.ts';
import { topologiesFor } from '../src/lab/fuzz/topologies.ts';
import type { CampaignKind, Topology } from '../src/lab/fuzz/types.ts';

const report = liveKvm();
const reason = report.unavailable;
if (reason) console.warn(`NOT RUN: the model is not compared with the KVM of this machine: ${reason}`);
else if (report.noHypercalls) console.warn(`NOT RUN: hypercalls of a live KVM: ${report.noHypercalls}`);

const PLAIN: Topology = {
  ...{ vendor: 'intel', vcpus: 4, apic: 'x2apic', mode: 'long64', cpl: 0, aps: 'halted', x2apicApi: 0 },
  ...{ vectorHashing: true, enforcePvFeatures: false },
};
const withIds = (ids: readonly number[]): Partial<Topology> => ({ ids, vcpus: ids.length });
const TOPOLOGIES: readonly Topology[] = [
  PLAIN,
  { ...PLAIN, ...withIds([0, 1, 15, 16, 17, 63, 64, 127, 128, 200]) },
  { ...PLAIN, ...withIds([0, 1, 254, 255, 256, 257, 511, 1000]), x2apicApi: 3 },
  { ...PLAIN, apic: 'xapic' },
  { ...PLAIN, apic: 'mixed', vcpus: 6 },
  { ...PLAIN, vcpus: 6, softwareDisabled: [2], hardwareDisabled: [3] },
];

/** Finds in so many blocks for each topology, in words; how many cases that were. */
async function hunt(options: Partial<LiveCampaign>, blockSize: number): Promise<{ cases: number; finds: string[] }> {
  const campaign = liveCampaign({
    ...{ kind: 'icr', against: '/dev/kvm', topologies: TOPOLOGIES, seed: 6, direct: false, blockSize },
    ...options,
  });
  const runner = await openCampaign(campaign);
  const finds: string[] = [];
  let cases = 0;
  try {
    for (let block = 0; block < campaign.topologies.length; block++) {
      const result = await runner.runBlock(block);
      cases += result?.cases ?? 0;
      for (const { signature, words, input } of result?.finds ?? [])
        finds.push(`${signature}: ${words} ${JSON.stringify(input)}`);
    }
  } finally {
    runner.dispose();
  }
  return { cases, finds };
}

describe.runIf(!reason)('the model and the KVM of this machine', { timeout: 300_000 }, () => {
  it('ICR writes of guests do the same, to halted vCPUs and to those that wait for a SIPI', async () => {
    expect(await hunt({}, 200)).toEqual({ cases: 12 * 200, finds: [] });
  });

  it('and as accesses of the host', async () => {
    expect(await hunt({ direct: true }, 100)).toEqual({ cases: 12 * 100, finds: [] });
  });

  it.each(['real16', 'prot32', 'compat32'] as const)('and from code of mode %s', async (mode) => {
    const topologies = [{ ...PLAIN, mode }];
    expect(await hunt({ topologies }, 100)).toEqual({ cases: 100, finds: [] });
  });

  it('and at CPL 3', async () => {
    const topologies = [{ ...PLAIN, cpl: 3 as const }];
    expect(await hunt({ topologies }, 100)).toEqual({ cases: 100, finds: [] });
  });

  it.each(['msr', 'sequence'] as const)('cases of kind %s end alike', async (kind: CampaignKind) => {
    expect(await hunt({ kind }, 100)).toEqual({ cases: 600, finds: [] });
  });

  it.runIf(!report.noHypercalls)('hypercalls do the same', async () => {
    const topologies = topologiesFor('hypercall');
    const { cases, finds } = await hunt({ kind: 'hypercall', topologies }, 100);
    expect(finds).toEqual([]);
    expect(cases).toBeGreaterThan(1000);
  });

  it('another era is told apart', async () => {
    const { finds } = await hunt({ kvm: '6.6', topologies: [PLAIN] }, 200);
    const newer = /^([7-9]|6\.(1[2-9]|[2-9]\d))/.test(report.kernel);
    expect(finds.some((find) => find.includes('wrmsr 0x830 ends next | #GP'))).toBe(newer);
  });
});
