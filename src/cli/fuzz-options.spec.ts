import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addCampaignOptions, duration } from './fuzz-options.ts';

describe('a time', () => {
  it.each([
    ['0', 0],
    ['30', 30],
    ['1.5', 1.5],
    ['45s', 45],
    ['5m', 300],
    ['2h', 7200],
    ['1d', 86_400],
  ])('%s is %i seconds', (text, seconds) => {
    expect(duration(text)).toBe(seconds);
  });

  it.each(['', '-1', '5x', '1m30', '1e3', 's', ' 5'])('is not %j', (text) => {
    expect(() => duration(text)).toThrow('It must be a time: 30, 30s, 5m, 2h, 1d.');
  });
});

it('the options of a campaign are numbers where they are numbers', () => {
  const command = addCampaignOptions(new Command('x'));
  const args = ['--runs', '0x100', '--time', '2m', '--dir', 'd', '--jobs', '3', '--shard', '1/2', '--queue', 'q'];
  command.parse([...args, '--lock', '1s'], { from: 'user' });
  expect(command.opts()).toEqual({ runs: 256, time: 120, dir: 'd', jobs: 3, shard: '1/2', queue: 'q', lock: 1 });
});
