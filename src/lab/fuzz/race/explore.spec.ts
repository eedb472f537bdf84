import { afterAll, describe, expect, it } from 'vitest';
import type { MachineOptions } from '../../../machine/types.ts';
import { openProgram } from '../../open.ts';
import { type ExploreOptions, Explorer, type ExploreStats, type LeafKind } from './explore.ts';
import { Judge } from './judge.ts';
import { World } from './world.ts';

const OPTIONS: ExploreOptions = {
  ...{ reduction: 'none', bound: Number.POSITIVE_INFINITY, runs: 1_000_000, randomRuns: 0, maxSteps: 500, seed: 1 },
};

const opened: { dispose(): void }[] = [];
afterAll(() => {
  for (const one of opened) one.dispose();
});

interface Explored {
  readonly stats: ExploreStats;
  /** The 64-bit word at 0x100000 where executions end, ascending, and how they come to their ends. */
  readonly words: readonly number[];
  readonly leaves: ReadonlyMap<LeafKind, readonly (readonly number[])[]>;
}

/** Explores a program on machines with `vcpus` vCPUs that all run from the start. */
async function explore(source: string, vcpus: number, options: Partial<ExploreOptions> = {}): Promise<Explored> {
  const machine: MachineOptions = { vcpus, aps: 'run', memory: 0x20_0000 };
  const program = openProgram('race.S', { ...machine, source });
  const world = await World.open(program.program, [program.options], { counters: false, time: false });
  const judge = await Judge.open(program, [program.options], 20_000);
  opened.push(world, judge);
  const words = new Set<number>();
  const leaves = new Map<LeafKind, (readonly number[])[]>();
  const stats = new Explorer(world, { ...OPTIONS, ...options }, (kind, order) => {
    leaves.set(kind, [...(leaves.get(kind) ?? []), order]);
    const [{ memory }] = judge.run(order);
    words.add(new DataView(memory.buffer, memory.byteOffset).getUint32(0x10_0000, true));
    return false;
  }).run();
  return { stats, words: [...words].sort((a, b) => a - b), leaves };
}

const choose = (n: number, k: number): number => (k === 0 ? 1 : (choose(n - 1, k - 1) * n) / k);

/** vCPU 0 makes 4 + `first` steps, vCPU 1 4 + `second` steps; nobody sees what the other does. */
const independent = (first: number, second: number): string => `
    mov ecx, 0x802
    rdmsr
    test eax, eax
    jnz 2f
    ${'inc ebx\n'.repeat(first - 1)}
    hlt
2:  ${'inc ebx\n'.repeat(second - 1)}
    hlt`;

/** Two add 1 to a word, in three instructions. */
const RACY = 'mov eax, [0x100000]\n inc eax\n mov [0x100000], eax\n hlt';
const LOCKED = 'lock inc dword ptr [0x100000]\n hlt';

describe('without reduction', () => {
  it.each([
    [1, 1],
    [1, 3],
    [3, 2],
  ])('two vCPUs with 4+%i and 4+%i steps have C(m+n, n) interleavings', async (first, second) => {
    const { stats } = await explore(independent(first, second), 2);
    expect(stats.schedules).toBe(choose(8 + first + second, 4 + first));
    expect(stats.executions).toBe(stats.schedules);
    expect(stats).toMatchObject({ complete: true, ends: 1, cut: 0, longest: 8 + first + second });
  });

  it('three vCPUs with three steps have 9! / 3!^3', async () => {
    const { stats } = await explore('inc eax\n inc eax\n hlt', 3);
    expect(stats).toMatchObject({ schedules: 1680, complete: true, ends: 1 });
  });

  it('a bound counts preemptions', async () => {
    const schedules = async (bound: number): Promise<number> =>
      (await explore('inc eax\n inc eax\n hlt', 2, { bound })).stats.schedules;
    // One vCPU first, or the other; then each cut in one of two places; and so on up to all 20.
    expect(await Promise.all([0, 1, 2, 3, 4, 5].map(schedules))).toEqual([2, 6, 14, 18, 20, 20]);
  });
});

describe('reductions', () => {
  it('`states` looks at each state once, `full` at one order of independent steps', async () => {
    const program = independent(2, 4);
    const states = await explore(program, 2, { reduction: 'states' });
    // A choice is where both have steps left.
    expect(states.stats).toMatchObject({ complete: true, states: 6 * 8, ends: 1 });
    const full = await explore(program, 2, { reduction: 'full' });
    expect(full.stats).toMatchObject({ complete: true, executions: 1, schedules: 1, ends: 1, states: 0 });
  });

  it.each([
    ['a race', RACY, 2, [1, 2]],
    ['a race of three', RACY, 3, [1, 2, 3]],
    ['a locked instruction', LOCKED, 3, [3]],
  ])('come to the same ends: %s', async (_, program, vcpus, words) => {
    const executions: number[] = [];
    const ends: number[] = [];
    for (const reduction of ['none', 'states', 'full'] as const) {
      if (reduction === 'none' && vcpus === 3 && program === RACY) continue;
      const found = await explore(program, vcpus, { reduction });
      expect(found.stats.complete).toBe(true);
      expect(found.words).toEqual(words);
      executions.push(found.stats.executions);
      ends.push(found.stats.ends);
    }
    expect(new Set(ends).size).toBe(1);
    expect(executions).toEqual(executions.toSorted((a, b) => b - a));
  });

  it('the racy increment needs one preemption', async () => {
    expect((await explore(RACY, 2, { reduction: 'full', bound: 0 })).words).toEqual([2]);
    const { words, stats } = await explore(RACY, 2, { reduction: 'full', bound: 1 });
    expect(words).toEqual([1, 2]);
    expect(stats.preemptions).toBe(1);
  });

  it('find the same again', async () => {
    const [one, other] = [await explore(RACY, 3, { reduction: 'full' }), await explore(RACY, 3, { reduction: 'full' })];
    expect(one.stats).toEqual(other.stats);
    expect(one.leaves).toEqual(other.leaves);
  });
});

describe('loops', () => {
  const WAIT = `
    mov ecx, 0x802
    rdmsr
    test eax, eax
    jnz 2f
    mov dword ptr [0x100000], 5
    hlt
2:  pause
    cmp dword ptr [0x100000], 5
    jne 2b
    hlt`;

  it('waiting for another one comes to its end', async () => {
    const { stats, leaves } = await explore(WAIT, 2, { reduction: 'full' });
    expect(stats).toMatchObject({ complete: true, cut: 0, ends: 1 });
    expect([...leaves.keys()]).toEqual(['ended']);
  });

  it('waiting for something that never comes is a livelock', async () => {
    const { stats, leaves } = await explore(WAIT.replace('], 5\n    hlt', '], 6\n    hlt'), 2, { reduction: 'full' });
    expect(stats).toMatchObject({ complete: true, ends: 0 });
    expect([...leaves.keys()]).toEqual(['livelock']);
  });

  it('waiting that fails in one order only is a livelock there', async () => {
    // The one that comes second overwrites what the first waits for.
    const program = `
    mov ecx, 0x802
    rdmsr
    inc eax
    mov [0x100000], eax
1:  pause
    cmp dword ptr [0x100000], 1
    jne 1b
    hlt`;
    const { stats, leaves } = await explore(program, 2, { reduction: 'full' });
    expect(stats.complete).toBe(true);
    expect([...leaves.keys()].sort()).toEqual(['ended', 'livelock']);
  });

  it('a vCPU that never comes out of its own steps does not keep others from theirs', async () => {
    const program = `
    mov ecx, 0x802
    rdmsr
    test eax, eax
    jz 1f
    mov dword ptr [0x100000], 7
    hlt
1:  jmp 1b`;
    const { stats, words } = await explore(program, 2, { reduction: 'full', maxSteps: 3_000 });
    expect(stats.cut + stats.ends).toBeGreaterThan(0);
    expect(words).toEqual([7]);
  });
});

describe('random schedules', () => {
  it('follow when the systematic ones do not come to their end, by seed', async () => {
    const random = (seed: number) => explore(RACY, 3, { reduction: 'none', runs: 60, randomRuns: 50, seed });
    const [one, again, other] = [await random(1), await random(1), await random(2)];
    expect(one.stats).toMatchObject({ executions: 60, random: 50, complete: false });
    expect(one).toEqual(again);
    expect(one.leaves).not.toEqual(other.leaves);
    expect(one.words).toEqual([1, 2, 3]);
  });

  it('stop when they are told to', async () => {
    let asked = 0;
    const stop = (): boolean => ++asked > 3;
    const { stats } = await explore(RACY, 3, { reduction: 'none', runs: 100_000, randomRuns: 50_000, stop });
    expect(stats.executions).toBeLessThan(1_000);
    expect(stats.complete).toBe(false);
  });
});
