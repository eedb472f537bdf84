import { describe, expect, it } from 'vitest';
import { parseNumbers } from './options.ts';

const OPTIONS = { cases: { least: 1, usual: 600 }, case: { least: 0 }, seed: { least: 0, usual: 1 } };
const parse = (line: string) =>
  parseNumbers(
    line.split(' ').filter((word) => word !== ''),
    OPTIONS,
  );

describe('options with whole numbers', () => {
  it('have their usual values unless they are given', () => {
    expect(parse('')).toEqual({ cases: 600, case: undefined, seed: 1 });
    expect(parse('--seed=7 --case 0')).toEqual({ cases: 600, case: 0, seed: 7 });
  });

  it('give way to --help', () => {
    expect(parse('--cases few --help')).toBe('help');
  });

  it.each([
    ['--cases 0', "--cases must be a whole number, 1 or more, not '0'"],
    ['--cases 1e3', "--cases must be a whole number, 1 or more, not '1e3'"],
    ['--seed 9007199254740993', "--seed must be a whole number, 0 or more, not '9007199254740993'"],
    ['--seed=', "--seed must be a whole number, 0 or more, not ''"],
    ['--case -1', "Option '--case' argument is ambiguous"],
    ['--case', "Option '--case <value>' argument missing"],
    ['--quick', "Unknown option '--quick'"],
    ['quick', "Unexpected argument 'quick'"],
  ])('%s is one clear line', (line, message) => {
    expect(() => parse(line)).toThrow(expect.objectContaining({ code: 'usage', message }));
  });
});
