import { describe, expect, it } from 'vitest';
import { convert, measure, ratio, spread, summarize } from './measure.ts';

describe('samples', () => {
  it('are the least, the middle and the greatest of some numbers', () => {
    expect(summarize([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
    expect(summarize([5])).toEqual({ median: 5, min: 5, max: 5 });
  });

  it('change places of least and greatest where less is more', () => {
    expect(convert({ median: 2, min: 1, max: 4 }, (seconds) => 8 / seconds)).toEqual({ median: 4, min: 2, max: 8 });
  });

  it('have a spread relative to the median', () => {
    expect(spread({ median: 2, min: 1, max: 4 })).toBe(1.5);
  });

  it('are compared round by round', () => {
    // The second round took both twice as long.
    expect(ratio([1, 2, 1], [3, 6, 3])).toEqual({ median: 3, min: 3, max: 3 });
  });
});

describe('rounds', () => {
  it('go to the runners in turns, after a warm-up, with as much work as fills a round', async () => {
    const log: string[] = [];
    const runner = (name: string, seconds: number) => ({
      run: async (times: number) => {
        log.push(`${name}${times}`);
        return times * seconds;
      },
    });
    const effort = { rounds: 2, round: 8, warmUp: 4 };
    const rounds = await measure([runner('a', 1), runner('b', 4)], effort);
    expect(rounds).toEqual([
      [1, 1],
      [4, 4],
    ]);
    expect(log).toEqual(['a1', 'a2', 'a4', 'b1', 'a8', 'b2', 'b2', 'a8']);
  });

  it('count a clock that has not moved as its smallest step', async () => {
    const still = { run: async () => 0 };
    const [[seconds]] = await measure([still], { rounds: 1, round: 1, warmUp: 0 });
    expect(seconds).toBe(1e-6 / (1 << 24));
  });
});
