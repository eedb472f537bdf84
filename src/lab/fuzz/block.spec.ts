/** What campaigns must find, and nothing more; every campaign is seeded and has a fixed number of blocks. */
import { afterEach, describe, expect, it } from 'vitest';
import { decision } from '../../kvm/decisions.ts';
import { openProgram, runProgram } from '../open.ts';
import { type CampaignRunner, openCampaign } from './block.ts';
import { topologiesFor } from './topologies.ts';
import type { BlockResult, Campaign, CampaignKind, Find } from './types.ts';

let runner: CampaignRunner | undefined;
afterEach(() => {
  runner?.dispose();
  runner = undefined;
});

const campaign = (kind: CampaignKind, kvm: string, against?: string, more: Partial<Campaign> = {}): Campaign => ({
  kind,
  kvm,
  ...(against === undefined ? {} : { against }),
  topologies: topologiesFor(kind),
  seed: 1,
  blockSize: 1024,
  direct: false,
  ...more,
});

/** Finds of the first blocks by signature. */
async function finds(given: Campaign, blocks: number): Promise<Map<string, Find>> {
  runner = await openCampaign(given);
  const found = new Map<string, Find>();
  for (let block = 0; block < blocks; block++) {
    const result = (await runner.runBlock(block)) as BlockResult;
    for (const find of result.finds) if (!found.has(find.signature)) found.set(find.signature, find);
  }
  return found;
}

/** Instructions of a program: lines that are neither labels nor directives nor comments. */
const instructions = (program: string): number => program.split('\n').filter((line) => /^\s+[a-z]/.test(line)).length;

/** Whether all expectations of a find's program hold in an era. */
async function passes(find: Find, kvm: string): Promise<boolean> {
  const { vm, pass } = await runProgram(openProgram('find.S', { source: find.program }), { kvm });
  vm.dispose();
  return pass;
}

describe('the host bugs of the send-IPI hypercall as merged', () => {
  it('are found from nothing, and each is a program of at most 10 instructions', async () => {
    const found = await finds(campaign('hypercall', '4.19-rc1'), 2);
    expect([...found.keys()].sort()).toEqual([
      'host bug pv-ipi-empty-slot',
      'host bug pv-ipi-no-map',
      'host bug pv-ipi-out-of-bounds',
    ]);
    for (const find of found.values()) {
      expect(instructions(find.program), find.program).toBeLessThanOrEqual(10);
      expect(await passes(find, '4.19-rc1')).toBe(true);
      expect(await passes(find, '7.1')).toBe(false);
    }
    const noMap = found.get('host bug pv-ipi-no-map') as Find;
    expect(noMap.program).toContain('# expect: bug = CVE-2018-19406');
    expect(noMap.words).toContain('switch pvIpiMapCheck, since 4.20 (38ab012f109c)');
  });

  it('are told beside a later version where the other side has them, too', async () => {
    const given = { ...campaign('hypercall', '4.19-rc1', '4.19'), blockSize: 64 };
    const topologies = topologiesFor('hypercall', { apic: 'none', vcpus: 2 });
    const [find] = (await finds({ ...given, topologies }, 1)).values();
    expect(find.signature).toBe('host bug pv-ipi-no-map');
    expect(find.words).toContain('It is the switch pvIpiMapCheck, since 4.20 (38ab012f109c)');
    expect(find.words).not.toContain('pvIpiBoundCheck');
    expect(await passes(find, '4.19')).toBe(true);
    expect(await passes(find, '4.20')).toBe(false);
  });
});

describe('one version against another', () => {
  it.each([
    ['hypercall', '5.4', '5.6', 'switch pvIpiHighHalfAlways', 'edx, 0xffffffc0'],
    ['icr', '6.6', '6.12', 'switch icrReservedGp', 'mov eax, 0x'],
    ['icr', '5.6-rc1', '5.6', 'switch fastpathNoShorthand', 'expect: fastpath = 1'],
  ] as const)('%s, %s against %s: %s', async (kind, kvm, against, signature, text) => {
    const found = await finds(campaign(kind, kvm, against), 1);
    expect([...found.keys()]).toEqual([signature]);
    const find = found.get(signature) as Find;
    expect(find.program).toContain(text);
    expect(instructions(find.program)).toBeLessThanOrEqual(10);
    expect(await passes(find, kvm)).toBe(true);
    expect(await passes(find, against)).toBe(false);
  });

  it.each([
    ['msr', '5.8', '6.0'],
    ['sequence', '5.4', '5.6'],
  ] as const)('%s, %s against %s: a program for each switch', async (kind, kvm, against) => {
    const found = await finds(campaign(kind, kvm, against, { blockSize: 2048 }), 1);
    expect(found.size).toBeGreaterThan(1);
    for (const [signature, find] of found) {
      expect(signature).toMatch(/^switch /);
      expect(await passes(find, kvm), find.program).toBe(true);
      expect(await passes(find, against), find.program).toBe(false);
    }
  });

  it('an address beyond the RAM of the VM: the program asks for as little', async () => {
    const find = (await finds(campaign('msr', '5.5', '5.6-rc1', { blockSize: 2048 }), 1)).get(
      'switch stealAddressChecked',
    ) as Find;
    expect(find.program).toContain('# kvm: 5.5   vendor: intel   vcpus: 4   memory: 1056K   mode: long64\n');
    expect(await passes(find, '5.5')).toBe(true);
    expect(await passes(find, '5.6-rc1')).toBe(false);
  });

  it('a case that shows the same on a plainer VM is told with that: four instructions, no APIC disabled', async () => {
    const given = campaign('icr', '6.17', '6.18');
    const disabled = given.topologies.findIndex(({ softwareDisabled }) => softwareDisabled !== undefined);
    runner = await openCampaign(given);
    const { finds: found } = (await runner.runBlock(disabled)) as BlockResult;
    const find = found.find(({ signature }) => signature.includes('fastpathNoShorthand')) as Find;
    expect(find.input).toMatchObject({ topology: given.topologies[0] });
    expect(instructions(find.program), find.program).toBe(4);
    expect(await passes(find, '6.17')).toBe(true);
    expect(await passes(find, '6.18')).toBe(false);
  });

  it('without a difference finds nothing', async () => {
    expect(await finds(campaign('icr', '6.4', '6.5'), 2)).toEqual(new Map());
  });
});

describe('rules that hold in every version', () => {
  it.each(['icr', 'hypercall', 'msr', 'sequence'] as const)('%s: the model keeps them', async (kind) => {
    for (const kvm of ['4.20', '5.7', '7.1']) {
      const given = campaign(kind, kvm, undefined, { blockSize: 256 });
      expect(await finds(given, given.topologies.length), kvm).toEqual(new Map());
      runner?.dispose();
    }
  });

  it('hold without guest instructions, too', async () => {
    const given = campaign('icr', '7.1', undefined, { direct: true, blockSize: 1024 });
    expect(await finds(given, given.topologies.length)).toEqual(new Map());
  });
});

describe('a block', () => {
  it('is the same whatever was computed before it', async () => {
    const given = campaign('hypercall', '4.19-rc1', '5.6', { blockSize: 128 });
    runner = await openCampaign(given);
    const first = await runner.runBlock(3);
    await runner.runBlock(1);
    expect(await runner.runBlock(3)).toEqual(first);
    runner.dispose();
    runner = await openCampaign(given);
    expect(await runner.runBlock(3)).toEqual(first);
    expect(await runner.runBlock(4)).not.toEqual({ ...first, block: 4 });
  });

  it('that is aborted yields nothing', async () => {
    runner = await openCampaign(campaign('icr', '7.1'));
    expect(await runner.runBlock(0, { signal: { aborted: true } })).toBeUndefined();
  });

  it('counts what the VM looks like among the decision points', async () => {
    runner = await openCampaign(campaign('icr', '7.1', undefined, { blockSize: 64 }));
    const { coverage } = (await runner.runBlock(0)) as BlockResult;
    expect(coverage).toContain(decision('map-mode-x2apic'));
    expect(coverage).not.toContain(decision('map-mode-flat'));
  });

  it('says how far it is', async () => {
    const done: number[] = [];
    runner = await openCampaign(campaign('icr', '7.1', undefined, { blockSize: 1500 }));
    const result = await runner.runBlock(0, { onProgress: (cases) => done.push(cases) });
    expect(done).toEqual([1024, 1500]);
    expect(result?.cases).toBe(1500);
  });
});
