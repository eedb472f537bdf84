import { expect, it } from 'vitest';
import { sumCounters } from './view.ts';

it('adds counters field by field and exits by name', () => {
  const one = { ...sumCounters([]), exits: 2, hypercalls: 1, byReason: { vmcall: 1, hlt: 1 } };
  const two = { ...sumCounters([]), exits: 3, fastpath: 1, byReason: { hlt: 2, msr_write: 1 } };
  expect(sumCounters([one, two])).toEqual({
    ...sumCounters([]),
    exits: 5,
    hypercalls: 1,
    fastpath: 1,
    byReason: { vmcall: 1, hlt: 3, msr_write: 1 },
  });
});
