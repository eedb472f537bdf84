import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { caseToJson, decodeCase, encodeCase } from './compare.ts';
import { Generator } from './generate.ts';
import { shrink, sizeOf, u64 } from './shrink.ts';
import { topologiesFor } from './topologies.ts';
import { Case, OP, STEP_OP } from './types.ts';

const U64 = (1n << 64n) - 1n;

describe('64-bit numbers for properties', () => {
  it('shrink to the bits that matter', () => {
    const fails = (value: bigint): boolean => (value & 0x3f0n) === 0x3f0n && value > 0x1000n;
    const { counterexample } = fc.check(
      fc.property(u64(), (value) => !fails(value)),
      { seed: 1, numRuns: 100_000, examples: [[U64]] },
    );
    expect(counterexample).toEqual([0x13f0n]);
  });

  it('stay in range, and the same seed gives the same ones', () => {
    const samples = fc.sample(u64(), { seed: 7, numRuns: 1000 });
    expect(samples.every((value) => value >= 0n && value <= U64)).toBe(true);
    expect(fc.sample(u64(), { seed: 7, numRuns: 1000 })).toEqual(samples);
    expect(samples.filter((value) => (value & (value - 1n)) === 0n).length).toBeGreaterThan(300);
  });
});

/** A case of one hypercall. */
function call(...args: bigint[]): Case {
  const test = new Case();
  test.length = 1;
  test.words[STEP_OP] = OP.call;
  for (const [which, value] of args.entries()) test.setArg(0, which, value);
  return test;
}

describe('shrinking a case', () => {
  it('leaves the steps and bits without which it does not fail', () => {
    const topology = topologiesFor('sequence', { vcpus: 4 })[0];
    const generator = new Generator('sequence', topology, 5);
    const test = new Case();
    const calls = (candidate: Case): boolean =>
      Array.from({ length: candidate.length }, (_, step) => candidate.words[step * 12]).includes(OP.call);
    do generator.next(test);
    while (test.length < 5 || !calls(test));
    const small = shrink(test, calls).test;
    expect(caseToJson(small)).toEqual([{ op: 'call', vcpu: 0, args: ['0x0', '0x0', '0x0', '0x0', '0x0'] }]);
    expect(sizeOf(small)).toBeLessThan(sizeOf(test));
  });

  it('replaces several bits by one where that fails, too', () => {
    const { test } = shrink(
      call(10n, 0n, 0x8700000000n, 0x9fn),
      (candidate) => candidate.arg(0, 3) + candidate.arg(0, 2) > 0xffn,
    );
    expect(caseToJson(test)[0].args).toEqual(['0x0', '0x0', '0x100000000', '0x0', '0x0']);
  });
});

describe('encoded cases', () => {
  it('are read back as they were', () => {
    for (const topology of topologiesFor('sequence')) {
      const generator = new Generator('sequence', topology, 3);
      const [test, again] = [new Case(), new Case()];
      for (let i = 0; i < 100; i++) {
        generator.next(test);
        expect(caseToJson(decodeCase(encodeCase(test), again) as Case)).toEqual(caseToJson(test));
      }
    }
  });

  it.each(['', '9', '99,0', '1,0,xyz', '0,0,100000000', '0,0,1,2,3,4,5,6,7,8,9,a,b'])('%j is none', (text) => {
    expect(decodeCase(text, new Case())).toBeUndefined();
  });
});

describe('cases', () => {
  it.each(['icr', 'hypercall', 'msr', 'sequence'] as const)('of kind %s follow from the seed', (kind) => {
    const [topology] = topologiesFor(kind);
    const list = (seed: number): string[] => {
      const generator = new Generator(kind, topology, seed);
      const test = new Case();
      return Array.from({ length: 50 }, () => {
        generator.next(test);
        generator.keep(test);
        return encodeCase(test);
      });
    };
    expect(list(1)).toEqual(list(1));
    expect(list(1)).not.toEqual(list(2));
  });
});
