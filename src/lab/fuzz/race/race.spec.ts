/** The programs of guest/race: every interleaving of them, and what a find is. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { KvmscopeError } from '../../../errors.ts';
import { encodeTrace } from '../../../trace/trace-file.ts';
import { openProgram, runProgram } from '../../open.ts';
import { exploreRaces, type RaceFind, type RaceOptions, type RaceReport } from './race.ts';

const FOLDER = 'guest/race';
const LOST = `${FOLDER}/lost-wakeup.S`;
const PROGRAMS = readdirSync(FOLDER).map((name) => `${FOLDER}/${name}`);

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-race-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the program of a find as `kvmscope run` does. */
async function rerun({ program }: RaceFind, kvm?: string) {
  const path = join(folder, 'find.S');
  writeFileSync(path, program as string);
  const outcome = await runProgram(openProgram(path, kvm === undefined ? {} : { kvm }));
  outcome.vm.dispose();
  return outcome;
}

const only = ({ finds }: RaceReport): RaceFind => {
  expect(finds).toHaveLength(1);
  return finds[0];
};

describe('programs of guest/race', () => {
  it.each(PROGRAMS.filter((path) => path !== LOST))('%s holds in every interleaving', async (path) => {
    const { vendors } = openProgram(path);
    for (const [kvm, vendor] of ['4.19', '5.6', '7.1'].flatMap((kvm) =>
      vendors.map((vendor) => [kvm, vendor] as const),
    )) {
      const { stats, finds } = await exploreRaces(path, { kvm, vendor });
      expect(finds.map(({ words }) => words)).toEqual([]);
      expect(stats).toMatchObject({ complete: true, cut: 0, random: 0 });
    }
  });

  // Reduction changes how much is executed, not where it leads.
  it.each(PROGRAMS)('%s comes to the same ends when every state is searched', async (path) => {
    const [full, states] = await Promise.all([
      exploreRaces(path, { reduction: 'full' }),
      exploreRaces(path, { reduction: 'states' }),
    ]);
    expect(states.stats).toMatchObject({ complete: true });
    expect(full.stats.ends).toBe(states.stats.ends);
    expect(full.finds.map(({ signature }) => signature)).toEqual(states.finds.map(({ signature }) => signature));
    expect(full.stats.executions).toBeLessThan(states.stats.executions / 3);
  });

  it.each(['intel', 'amd'] as const)('the lost wake-up is found with one preemption, on %s', async (vendor) => {
    const report = await exploreRaces(LOST, { vendor, bound: 1, runs: 100 });
    const find = only(report);
    expect(find).toMatchObject({ kind: 'expectation', schedule: '1*8', turns: 1, steps: 8, found: 'systematic' });
    expect(find.signature).toBe('halted; vcpu[1].rbx = 1');
    expect(find.details).toEqual(['vcpu[1].rbx = 1: expected 1, actual 0']);
    expect(find.words).toBe(
      `Under the schedule 1*8 (1 turn, 8 steps), ${LOST} fails on KVM 7.1: vcpu[1].rbx = 1: expected 1, actual 0.`,
    );
  });

  it('it is not found without preemptions, nor if nothing is tried', async () => {
    expect((await exploreRaces(LOST, { bound: 0, runs: 2 })).finds).toEqual([]);
  });

  it('random schedules find it as well', async () => {
    const report = await exploreRaces(LOST, { bound: 0, runs: 100, seed: 3 });
    expect(report.stats.random).toBeGreaterThan(50);
    expect(only(report)).toMatchObject({ schedule: '1*8', found: 'random' });
  });
});

describe('a find', () => {
  it('is a program that fails whenever it runs, in the same way byte for byte', async () => {
    const find = only(await exploreRaces(LOST));
    expect(find.program).toContain('\n# kvm: 7.1   vendor: intel   budget: 200000   schedule: 1*8\n.include');
    const [one, other] = [await rerun(find), await rerun(find)];
    expect(one.pass).toBe(false);
    expect(one.checks.filter(({ pass }) => !pass).map(({ actual }) => actual)).toEqual(['0']);
    expect(Buffer.from(encodeTrace(one.run, 'a.dat')).equals(encodeTrace(other.run, 'a.dat'))).toBe(true);
  });

  it('is the same for the same options', async () => {
    const options: RaceOptions = { bound: 0, runs: 60, seed: 5 };
    expect(await exploreRaces(LOST, options)).toEqual(await exploreRaces(LOST, options));
  });

  it('may be a bug of the host', async () => {
    const report = await exploreRaces(`${FOLDER}/apic-gone.S`, { kvm: '4.19-rc1' });
    const find = only(report);
    expect(find.signature).toBe('host bug pv-ipi-empty-slot');
    const { run } = await rerun(find);
    expect(run.end).toMatchObject({ kind: 'host-bug', bug: 'pv-ipi-empty-slot' });
  });

  it('may be a difference of two versions: its expectations hold on the first', async () => {
    const report = await exploreRaces(`${FOLDER}/apic-gone.S`, { kvm: '4.19-rc1', against: '4.19' });
    expect(report).toMatchObject({ kvm: '4.19-rc1', against: '4.19' });
    const find = only(report);
    expect(find).toMatchObject({
      kind: 'difference',
      signature: 'host bug pv-ipi-empty-slot',
      turns: 1,
    });
    expect((await rerun(find, '4.19-rc1')).pass).toBe(true);
    expect((await rerun(find, '4.19')).pass).toBe(false);
  });

  it('is none where two versions do the same in every interleaving', async () => {
    const { stats, finds } = await exploreRaces(`${FOLDER}/apic-gone.S`, { kvm: '4.19', against: '7.1' });
    expect(finds).toEqual([]);
    expect(stats.complete).toBe(true);
  });

  it('tells vCPUs that wait for each other for ever', async () => {
    const source = `
# Each waits for the other one's flag first.
# vcpus: 2   aps: run   memory: 2M
    mov ecx, 0x802
    rdmsr
    xor eax, 1
1:  pause
    cmp byte ptr [0x100000+rax], 0
    je 1b
    xor eax, 1
    mov byte ptr [0x100000+rax], 1
    hlt`;
    const find = only(await exploreRaces('wait.S', { source }));
    expect(find.signature).toBe('budget; end = halted');
    expect(find.details).toEqual(['the run must end well: budget of 200000 steps used up']);
    expect(find.schedule).toBe('');
  });
});

describe('options', () => {
  it.each([
    [{ bound: -1 }, 'bound must be a whole number from 0 to 1000, not -1'],
    [{ runs: 0 }, 'runs must be a whole number from 1 to 1000000000, not 0'],
    [{ maxSteps: 1.5 }, 'maxSteps must be a whole number from 1 to 1000000, not 1.5'],
    [{ seed: -3 }, 'seed must be a whole number from 0 to 4294967295, not -3'],
  ])('%o is refused', async (options, message) => {
    await expect(exploreRaces(LOST, options)).rejects.toThrow(new KvmscopeError('usage', message));
  });

  it('a schedule in the header is none of the search', async () => {
    expect(readFileSync(LOST, 'utf8')).toContain('schedule: 0*20');
    expect((await exploreRaces(LOST)).stats.ends).toBe(8);
  });

  it('more vCPUs than the header says', async () => {
    const report = await exploreRaces(LOST, { vcpus: 3, bound: 1, runs: 200 });
    expect(report.vcpus).toBe(3);
    expect(report.finds[0].program).toContain('vcpus: 3');
  });
});
