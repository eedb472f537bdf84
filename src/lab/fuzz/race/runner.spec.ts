import { afterAll, describe, expect, it } from 'vitest';
import { KvmscopeError } from '../../../errors.ts';
import { openProgram, runProgram } from '../../open.ts';
import { type CampaignRunner, openCampaign } from '../block.ts';
import type { BlockResult, Find } from '../types.ts';
import { type RaceCampaignOptions, raceCampaign } from './campaign.ts';
import { generateRace, type RaceProgram, raceSource, withoutOp } from './programs.ts';

const opened: CampaignRunner[] = [];
afterAll(() => {
  for (const runner of opened) runner.dispose();
});

async function open(options: RaceCampaignOptions): Promise<CampaignRunner> {
  const runner = await openCampaign({ ...raceCampaign({ executions: 120, ...options }), blockSize: 4 });
  opened.push(runner);
  return runner;
}

const OLD: RaceCampaignOptions = { kvm: '4.19-rc1', against: '4.19' };
const opsOf = (program: RaceProgram): number => program.vcpus.reduce((sum, { ops }) => sum + ops.length, 0);

describe('generated races', () => {
  it('are the same for the same seed, and end whatever happens', async () => {
    expect(generateRace(5, 3)).toEqual(generateRace(5, 3));
    expect(generateRace(5, 3)).not.toEqual(generateRace(6, 3));
    const { topologies } = raceCampaign();
    for (const [seed, topology] of Array.from({ length: 24 }, (_, seed) => [seed, topologies[seed % 4]] as const)) {
      const { source } = raceSource(generateRace(seed, topology.vcpus), topology);
      const outcome = await runProgram(openProgram('race.S', { source, budget: 20_000 }));
      expect(outcome.run.end.kind).toBe('halted');
      outcome.vm.dispose();
    }
  });

  it('begin their operations behind the prefix', async () => {
    for (const topology of raceCampaign().topologies) {
      const program: RaceProgram = {
        vcpus: Array.from({ length: topology.vcpus }, () => ({ ops: [{ op: 'store', cell: 0 }], end: 'off' })),
      };
      const { source, prefix } = raceSource(program, topology);
      const opened = openProgram('race.S', { source });
      const cell = Number(opened.program.symbols.get('cell0'));
      const value = async (more: readonly number[]): Promise<number> => {
        const schedule = [...prefix, ...more].map((vcpu) => ({ vcpu, steps: 1 }));
        const { vm, run } = await runProgram(opened, { schedule, budget: 100_000 });
        const view = new DataView(run.memory.buffer, run.memory.byteOffset);
        vm.load(opened.program);
        for (const vcpu of [...prefix, ...more]) vm.turn(vcpu);
        const seen = view.getUint32(cell, true);
        vm.dispose();
        return seen;
      };
      expect(await value([])).toBe(0);
      expect(await value([0])).toBe(1);
      expect(await value([topology.vcpus - 1, 0])).toBe(2);
    }
  });

  it('lose one operation at a time', () => {
    const program = generateRace(5, 3);
    const count = opsOf(program);
    for (let op = 0; op < count; op++) expect(opsOf(withoutOp(program, op) as RaceProgram)).toBe(count - 1);
    expect(withoutOp(program, count)).toBeUndefined();
  });
});

describe('a race campaign', () => {
  it('yields for a block what depends on the campaign and the number alone', async () => {
    const [one, other] = [await open(OLD), await open(OLD)];
    const blocks: (BlockResult | undefined)[] = [];
    for (const block of [0, 1, 2, 3]) blocks.push(await one.runBlock(block));
    for (const block of [3, 1]) expect(await other.runBlock(block)).toEqual(blocks[block]);
    expect(JSON.parse(JSON.stringify(blocks))).toEqual(blocks);
    for (const [number, block] of blocks.entries()) expect(block).toMatchObject({ block: number, cases: 4 });
  });

  it('finds what an interleaving does to the host, and makes it small', async () => {
    const runner = await open(OLD);
    let find: Find | undefined;
    for (let block = 0; find === undefined && block < 16; block++) {
      find = (await runner.runBlock(block))?.finds.find(({ signature }) => signature === 'host bug pv-ipi-empty-slot');
    }
    const { input, program, words } = find as Find;
    // Somebody disables its APIC, somebody sends to it: the same one at worst.
    expect(opsOf((input as { program: RaceProgram }).program)).toBe(2);
    expect(words).toContain('end: host-bug on KVM 4.19-rc1, halted on KVM 4.19');
    expect(program).toContain('# expect: bug = pv-ipi-empty-slot\n');
    for (const [kvm, pass] of [
      ['4.19-rc1', true],
      ['4.19', false],
    ] as const) {
      const outcome = await runProgram(openProgram('find.S', { source: program, kvm }));
      expect(outcome.pass).toBe(pass);
      outcome.vm.dispose();
    }
  });

  it('finds nothing between versions that treat these alike', async () => {
    const runner = await open({ kvm: '6.14', against: '6.17' });
    for (const block of [0, 1]) {
      expect((await runner.runBlock(block))?.finds).toEqual([]);
    }
  });

  it('yields nothing if it is told to stop', async () => {
    const runner = await open({});
    expect(await runner.runBlock(0, { signal: { aborted: true } })).toBeUndefined();
    const done: number[] = [];
    const result = await runner.runBlock(0, { onProgress: (cases) => done.push(cases) });
    expect(done).toEqual([1, 2, 3, 4]);
    expect(result?.coverage.length).toBeGreaterThan(5);
  });

  it.each([
    [{ vcpus: 1 }, 'generated races have 2 to 8 vCPUs, not 1'],
    [{ vcpus: 9 }, 'generated races have 2 to 8 vCPUs, not 9'],
    [{ kvm: '3.2' }, /^unknown KVM era '3\.2'/],
    [{ bound: -1 }, 'bound must be a whole number from 0 to 1000, not -1'],
  ])('%o is refused', async (options, message) => {
    const error = await open(options).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(KvmscopeError);
    expect((error as Error).message).toMatch(message);
  });
});
