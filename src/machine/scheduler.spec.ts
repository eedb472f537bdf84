import { describe, expect, it } from 'vitest';
import { parseSchedule } from './schedule.ts';
import { MAX_SLICE, MIN_SLICE, Random, Scheduler } from './scheduler.ts';

const picks = (seed: number, vcpus: number, count: number, runnable: (i: number) => boolean = () => true): number[] => {
  const scheduler = new Scheduler(seed, vcpus);
  return Array.from({ length: count }, () => scheduler.pick(runnable));
};

describe('Random', () => {
  it('gives the same numbers for the same seed and others for another', () => {
    const numbers = (seed: number) => {
      const random = new Random(seed);
      return Array.from({ length: 4 }, () => random.next());
    };
    expect(numbers(1)).toEqual(numbers(1));
    expect(numbers(1)).not.toEqual(numbers(2));
    expect(numbers(0).every((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 32)).toBe(true);
  });
});

describe('Scheduler', () => {
  it('picks in the same order for the same seed', () => {
    expect(picks(7, 4, 100)).toEqual(picks(7, 4, 100));
    expect(picks(7, 4, 100)).not.toEqual(picks(8, 4, 100));
  });

  it('lets every runnable vCPU run, and no other', () => {
    const odd = (index: number) => index % 2 === 1;
    expect([...new Set(picks(3, 9, 200, odd))].sort()).toEqual([1, 3, 5, 7]);
  });

  it('gives every vCPU about the same number of turns', () => {
    const counts = [0, 0, 0, 0];
    for (const index of picks(1, 4, 4000)) counts[index]++;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it('says -1 when nobody is runnable', () => {
    expect(picks(1, 4, 1, () => false)).toEqual([-1]);
  });

  it('looks at sleepers again only when something has happened to them', () => {
    const asked: number[] = [];
    const awake = new Set([1, 40, 77]);
    const scheduler = new Scheduler(1, 80);
    const stirred = new Uint32Array(3);
    scheduler.lookAround();
    const pick = (): number => {
      asked.length = 0;
      return scheduler.pick((index) => asked.push(index) > 0 && awake.has(index), stirred);
    };
    const picked = (): number[] => [...new Set(Array.from({ length: 50 }, pick))].sort((a, b) => a - b);
    expect(picked()).toEqual([1, 40, 77]);
    expect(asked.length).toBe(1);
    awake.delete(40);
    expect(picked()).toEqual([1, 77]);
    awake.add(2);
    expect(picked()).toEqual([1, 77]);
    stirred[0] = 1 << 2;
    expect(picked()).toEqual([1, 2, 77]);
    expect([...stirred]).toEqual([0, 0, 0]);
    awake.add(63);
    scheduler.lookAround();
    expect(picked()).toEqual([1, 2, 63, 77]);
  });

  it.each([1, 31, 32, 33, 255])('picks of %i vCPUs whom a search of all of them would have found', (count) => {
    let turn = 0;
    const sleepy = (index: number): boolean => ((index * 7 + turn) % 5) % 3 !== 0;
    const everybody = new Uint32Array((count + 31) >> 5);
    const [one, other] = [new Scheduler(9, count), new Scheduler(9, count)];
    for (turn = 0; turn < 500; turn++) {
      everybody.fill(0xffffffff);
      expect(one.pick(sleepy, everybody)).toBe(other.pick(sleepy));
    }
  });

  it('keeps slices between the shortest and twice the longest power of two', () => {
    const scheduler = new Scheduler(5, 2);
    const slices = Array.from({ length: 2000 }, () => scheduler.slice());
    expect(Math.min(...slices)).toBeGreaterThanOrEqual(MIN_SLICE);
    expect(Math.max(...slices)).toBeLessThan(MAX_SLICE);
    expect(slices.filter((s) => s < 100).length).toBeGreaterThan(200);
    expect(slices.filter((s) => s > 4096).length).toBeGreaterThan(200);
  });
});

describe('Scheduler with an explicit schedule', () => {
  const made = (scheduler: Scheduler, count: number, runnable: (i: number) => boolean = () => true): number[] =>
    Array.from({ length: count }, () => scheduler.scheduled(runnable));

  it('gives each step to the vCPU it names, and none behind the end', () => {
    const scheduler = new Scheduler(1, 3, parseSchedule('2*2,0,1'));
    expect(made(scheduler, 5)).toEqual([2, 2, 0, 1, -1]);
    expect([scheduler.skipped, scheduler.remaining]).toEqual([0, 0]);
  });

  it('skips the steps of a vCPU that sleeps', () => {
    const scheduler = new Scheduler(1, 2, parseSchedule('0,1*3,0*2'));
    expect(made(scheduler, 4, (index) => index === 0)).toEqual([0, 0, 0, -1]);
    expect(scheduler.skipped).toBe(3);
  });

  it('waits while all of them sleep', () => {
    const scheduler = new Scheduler(1, 2, parseSchedule('0,1*3'));
    expect(made(scheduler, 2, () => false)).toEqual([-1, -1]);
    expect([scheduler.skipped, scheduler.remaining]).toEqual([0, 4]);
    expect(made(scheduler, 5)).toEqual([0, 1, 1, 1, -1]);
  });

  it('goes on as a copy of it does', () => {
    const scheduler = new Scheduler(1, 2, parseSchedule('0*2,1*2'));
    made(scheduler, 3);
    const copy = scheduler.copy();
    expect(made(scheduler, 2)).toEqual([1, -1]);
    expect(made(copy, 2)).toEqual([1, -1]);
  });

  it('leaves what comes then to the seed', () => {
    const scheduler = new Scheduler(7, 4, parseSchedule('3*2'));
    made(scheduler, 2);
    expect(Array.from({ length: 20 }, () => scheduler.pick(() => true))).toEqual(picks(7, 4, 20));
  });
});
