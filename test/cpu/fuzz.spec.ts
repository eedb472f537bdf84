/** A part of `npm run fuzz:cpu`: random bytes in every mode with a state at random. */
import { describe, expect, it } from 'vitest';
import { Campaign } from './fuzz/campaign.ts';
import { MODES } from './fuzz/state.ts';

describe('random bytes', () => {
  it.each([1, 2])('leave host and memory alone, end, and end alike in other portions (seed %i)', (seed) => {
    const campaign = new Campaign(seed);
    campaign.run(0, 20_000);
    const { findings, modes, exits, steps } = campaign.summary;
    expect(findings).toEqual([]);
    // The cases get somewhere: every mode with every kind of paging it has, several steps in each.
    expect(Object.keys(modes).length).toBe(4 + 3 * 3);
    expect(MODES.every((mode) => Object.keys(modes).some((key) => key.startsWith(mode)))).toBe(true);
    expect(steps).toBeGreaterThan(20_000 * 20);
    expect(Object.keys(exits)).toEqual(expect.arrayContaining(['mmio', 'io', 'exception', 'shutdown', 'hlt', 'cpuid']));
  });
});
