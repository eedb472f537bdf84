import { describe, expect, it } from 'vitest';
import { collect, exitLimit, wholeNumber } from './options.ts';

describe('wholeNumber', () => {
  it.each([
    ['0', 0],
    ['80', 80],
    ['0x50', 80],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ])('reads %s', (text, value) => {
    expect(wholeNumber(text)).toBe(value);
  });

  it.each(['', 'abc', '-1', '1.5', '1e3', '0x', '0xg', ' 1', '9007199254740992'])('refuses %o', (text) => {
    expect(() => wholeNumber(text)).toThrow('It must be a whole number');
  });
});

it('reads the number of exits to show', () => {
  expect(exitLimit('all')).toBe(Number.POSITIVE_INFINITY);
  expect(exitLimit('3')).toBe(3);
  expect(() => exitLimit('none')).toThrow('It must be a whole number');
});

it('gathers repeated options and lists', () => {
  expect(collect('5.6, 6.18', undefined)).toEqual(['5.6', '6.18']);
  expect(collect('7.1', ['5.6'])).toEqual(['5.6', '7.1']);
});
