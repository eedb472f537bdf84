import { expect, it } from 'vitest';
import { didYouMean, editDistance, nearest } from './suggest.ts';

it('counts insertions, deletions, replacements and swaps', () => {
  expect(editDistance('', 'abc')).toBe(3);
  expect(editDistance('vcpu', 'vcpus')).toBe(1);
  expect(editDistance('rax', 'rbx')).toBe(1);
  expect(editDistance('moed', 'mode')).toBe(1);
  expect(editDistance('kitten', 'sitting')).toBe(3);
});

it('suggests only what is near enough', () => {
  expect(nearest('rxx', ['rip', 'rax', 'rbx'])).toBe('rax');
  expect(nearest('xyz', ['rip', 'rax'])).toBeUndefined();
  expect(didYouMean('hypercals', ['hypercalls'])).toBe('; did you mean "hypercalls"?');
  expect(didYouMean('q', [])).toBe('');
});
