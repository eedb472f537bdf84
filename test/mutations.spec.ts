/** The list of `npm run mutate` fits the source: every text to replace is there, once. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MUTATIONS } from '../scripts/mutations.ts';

describe('mutations', () => {
  it('have names of their own', () => {
    expect(MUTATIONS.length).toBeGreaterThanOrEqual(22);
    expect(new Set(MUTATIONS.map(({ name }) => name)).size).toBe(MUTATIONS.length);
  });

  it.each(MUTATIONS.map((mutation) => [mutation.name, mutation] as const))('%s', (_, { file, find, replace }) => {
    const source = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
    expect(source.split(find)).toHaveLength(2);
    expect(replace).not.toBe(find);
  });
});
