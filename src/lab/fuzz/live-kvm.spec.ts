/** The live target over a KVM that the model plays: what it does with cases does not depend on a machine. `test/live-kvm.spec.ts` has a real one. */
import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../../errors.ts';
import { NEWEST_ERA } from '../../kvm/eras.ts';
import { Comparison } from './compare.ts';
import { Generator } from './generate.ts';
import { eraOfKernel, type LiveCampaign, type LiveVmDevice, liveCampaign, openLiveTarget } from './live-kvm.ts';
import { MODEL_REPORT, modelDevice } from './model-device.fixture.ts';
import { ModelTarget } from './model-target.ts';
import { topologiesFor } from './topologies.ts';
import { type CampaignKind, Case, OP, Outcome, STEP_WORDS, type Topology, WORD_BASE, WORD_SMI } from './types.ts';

const ERA = '6.18';
const X2APIC: Topology = {
  ...{ vendor: 'intel', vcpus: 3, apic: 'x2apic', mode: 'long64', cpl: 0, aps: 'halted', x2apicApi: 0 },
  ...{ vectorHashing: true, enforcePvFeatures: false },
};

const CASES = 60;

type Step = [op: number, vcpu: number, a: number, low?: number, high?: number];
/** Steps with 32-bit a and 64-bit b. */
function caseOf(...steps: Step[]): Case {
  const test = new Case();
  test.length = steps.length;
  for (const [n, [op, vcpu, a, low = 0, high = 0]] of steps.entries())
    test.words.set([op, vcpu, a, 0, low, high], n * STEP_WORDS);
  return test;
}

interface Pair {
  readonly model: ModelTarget;
  readonly live: Awaited<ReturnType<typeof openLiveTarget>>;
}

async function pair(
  topology: Topology,
  options: { direct?: boolean; kvm?: string; report?: typeof MODEL_REPORT } = {},
): Promise<Pair> {
  const { kvm = ERA, report = MODEL_REPORT, direct = false } = options;
  const model = await ModelTarget.open(topology, { era: ERA, direct: false });
  const live = await openLiveTarget(topology, model.start, { direct, report, device: modelDevice(topology, kvm) });
  return { model, live };
}

/** What differs in so many cases, the first three in words; and how many were performed. */
function differences(
  kind: CampaignKind,
  { model, live }: Pair,
  cases: number,
): { readonly performed: number; readonly found: readonly string[] } {
  const generator = new Generator(kind, model.topology, 7);
  const comparison = new Comparison(model, live);
  const [a, b, test] = [new Outcome(model.topology.vcpus), new Outcome(model.topology.vcpus), new Case()];
  const found: string[] = [];
  let performed = 0;
  for (let i = 0; i < cases; i++) {
    generator.next(test);
    if (i % 8 === 0) generator.keep(test);
    if (live.skips?.(test)) continue;
    performed++;
    model.run(test, a);
    live.run(test, b);
    if (comparison.equal(a, b)) continue;
    const steps = Array.from({ length: test.length }, (_, step) =>
      [...test.words.slice(step * STEP_WORDS, (step + 1) * STEP_WORDS)].map((word) => word.toString(16)).join(' '),
    );
    found.push(`${JSON.stringify(comparison.differences(test, a, b))}\n${steps.join('\n')}`);
  }
  model.dispose();
  live.dispose();
  return { performed, found: found.slice(0, 3) };
}

describe('a live target', () => {
  const KINDS = ['icr', 'hypercall', 'msr', 'sequence'] as const;
  it.each(KINDS)('performs cases as the model does: %s', async (kind) => {
    for (const topology of topologiesFor(kind)) {
      if (topology.apic === 'none' || topology.exitHypercalls) continue;
      const { performed, found } = differences(kind, await pair(topology), CASES);
      expect(found, JSON.stringify(topology)).toEqual([]);
      expect(performed).toBeGreaterThan(CASES / 6);
    }
  });

  it('performs them as accesses of the host, too', async () => {
    const { performed, found } = differences('icr', await pair(X2APIC, { direct: true }), CASES);
    expect(found).toEqual([]);
    expect(performed).toBe(CASES);
  });

  it('shows what another KVM does otherwise', async () => {
    const { found } = differences('icr', await pair(X2APIC, { kvm: '6.6' }), CASES);
    expect(found[0]).toContain('"canonical":"wrmsr 0x830 ends #GP | next"');
  });

  it('starts every case from the same state', async () => {
    const { model, live } = await pair(X2APIC);
    const [first, second, test] = [new Outcome(3), new Outcome(3), new Case()];
    const generator = new Generator('sequence', X2APIC, 11);
    const kick = caseOf([OP.wrmsr, 0, 0x830, 0x3f0, 1]);
    live.run(kick, first);
    for (let i = 0; i < CASES; i++) {
      generator.next(test);
      live.run(test, second);
    }
    live.run(kick, second);
    expect([second.steps, [...second.touched]]).toEqual([1, [1, 1, 0]]);
    expect(new Comparison(live, live).differences(kick, first, second)).toEqual([]);
    model.dispose();
    live.dispose();
  });

  it('does not compare what a KVM cannot do', async () => {
    const software = { software: true, smm: false, vectorHashing: false, noHypercalls: 'none' };
    const { model, live } = await pair(X2APIC, { report: { ...MODEL_REPORT, ...software } });
    const skips = (...steps: Step[]): boolean | undefined => live.skips?.(caseOf(...steps));
    expect([...(live.lacks ?? [])]).toEqual([OP.call, OP.take, OP.hlt]);
    expect(live.observes[WORD_SMI]).toBe(0);
    expect(skips([OP.call, 0, 10])).toBe(true);
    expect(skips([OP.wrmsr, 0, 0x830, 0x40, 1])).toBe(false);
    // Lowest priority; code after an SMI; after a second NMI; time; registers that cannot be read.
    expect(skips([OP.wrmsr, 0, 0x830, 0x140, 1])).toBe(true);
    expect(skips([OP.wrmsr, 0, 0x830, 0x240, 1])).toBe(false);
    expect(skips([OP.wrmsr, 0, 0x830, 0x240, 1], [OP.rdmsr, 0, 0x830])).toBe(true);
    expect(skips([OP.wrmsr, 0, 0x830, 0x440, 1], [OP.rdmsr, 0, 0x830])).toBe(false);
    expect(skips([OP.wrmsr, 0, 0x830, 0x440, 1], [OP.icrStores, 0, 0, 0x440, 1])).toBe(true);
    expect(skips([OP.rdmsr, 0, 0x839])).toBe(true);
    expect(skips([OP.rdmsr, 0, 0x10])).toBe(true);
    expect(skips([OP.load, 0, 0xb0])).toBe(true);
    expect(skips([OP.load, 0, 0x310])).toBe(false);
    model.dispose();
    live.dispose();
  });

  it('says why there is none', async () => {
    const report = { ...MODEL_REPORT, unavailable: 'cannot open /dev/kvm (ENOENT: there is none)' };
    await expect(openLiveTarget(X2APIC, new Uint32Array(0), { report })).rejects.toThrow(
      new KvmscopeError('engine', 'no live KVM to compare with: cannot open /dev/kvm (ENOENT: there is none)'),
    );
  });

  it('lets go of its VM if that does not take the start state', async () => {
    const model = await ModelTarget.open(X2APIC, { era: ERA, direct: false });
    const start = model.start.slice();
    // EXTD without EN.
    start[WORD_BASE] = 0xfee00400;
    let closed = 0;
    const device = async (options: Parameters<ReturnType<typeof modelDevice>>[0]): Promise<LiveVmDevice> => {
      const made = await modelDevice(X2APIC, ERA)(options);
      return { ...made, close: () => ++closed && made.close() };
    };
    await expect(openLiveTarget(X2APIC, start, { report: MODEL_REPORT, device })).rejects.toThrow(
      '/dev/kvm does not take the start state of vCPU 0: 0x1b <- 0xfee00400',
    );
    expect(closed).toBe(1);
    model.dispose();
  });
});

describe('a campaign against the machine', () => {
  const campaign: LiveCampaign = {
    kind: 'icr',
    against: '/dev/kvm',
    topologies: [X2APIC],
    seed: 1,
    blockSize: 8,
    direct: false,
  };

  it('has the era of its kernel, its vendor and its lowest-priority rule, unless told otherwise', () => {
    const report = { ...MODEL_REPORT, kernel: '6.1.0-23-amd64', vendor: 'amd', vectorHashing: false } as const;
    expect(liveCampaign(campaign, report)).toEqual({
      ...campaign,
      kvm: '6.1',
      topologies: [{ ...X2APIC, vendor: 'amd', vectorHashing: false }],
    });
    expect(liveCampaign({ ...campaign, kvm: '5.4' }, report).kvm).toBe('5.4');
  });

  it('comes with sleeping and with waiting vCPUs, without what only a model has', () => {
    const several: Topology[] = [X2APIC, { ...X2APIC, apic: 'none' }, { ...X2APIC, exitHypercalls: 0x1000 }];
    const { topologies } = liveCampaign({ ...campaign, topologies: several }, MODEL_REPORT);
    expect(topologies).toEqual([X2APIC]);
    expect(() => liveCampaign({ ...campaign, topologies: several.slice(1) }, MODEL_REPORT)).toThrow(
      new KvmscopeError('usage', 'only VMs with local APICs in KVM are compared with the KVM of this machine'),
    );
    const two = liveCampaign({ ...campaign, topologies: [X2APIC, { ...X2APIC, vcpus: 2 }] }, MODEL_REPORT);
    expect(two.topologies.map(({ vcpus, aps }) => [vcpus, aps])).toEqual([
      [3, 'halted'],
      [3, 'init-received'],
      [2, 'halted'],
      [2, 'init-received'],
    ]);
  });

  it('about hypercalls needs a KVM that makes them', () => {
    const report = { ...MODEL_REPORT, noHypercalls: 'hypercalls unavailable on this KVM: VMCALL never completes' };
    expect(() => liveCampaign({ ...campaign, kind: 'hypercall' }, report)).toThrow(
      new KvmscopeError('engine', 'hypercalls unavailable on this KVM: VMCALL never completes'),
    );
    expect(liveCampaign({ ...campaign, kind: 'sequence' }, report).topologies).toEqual([X2APIC]);
  });

  it('finds the era of a kernel', () => {
    expect(['4.19.0', '5.15.167-generic', '6.18.44-fc', '7.1.5', '9.0.0-rc1'].map(eraOfKernel)).toEqual([
      ...['4.19', '5.15', '6.18', '7.1', NEWEST_ERA.name],
    ]);
    expect(() => eraOfKernel('3.10.0')).toThrow(KvmscopeError);
    expect(() => eraOfKernel('home-made')).toThrow('a kernel named home-made belongs to no version of KVM');
  });
});
