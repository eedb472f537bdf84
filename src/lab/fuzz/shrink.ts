/**
 * Makes a case smaller as long as it keeps failing. The engine is fast-check's; what it tries first to last: fewer steps, everything on
 * vCPU 0, arguments of zero, single bits cleared. Numbers shrink by clearing bits and not by value: what is left are the bits that matter.
 */
import fc from 'fast-check';
import { removeStep } from './generate.ts';
import { Case, STEP_ARGS, STEP_OP, STEP_VCPU, STEP_WORDS } from './types.ts';

const BITS_32 = 32;

/** Values that 64-bit registers and MSRs react to: powers of two, masks, sign edges. */
const INTERESTING: readonly bigint[] = [
  ...[0n, 0xffn, 0xffffn, 0x7fffffffn, 0xffffffffn, 0x7fffffffffffffffn, 0xffffffffffffffffn],
  ...Array.from({ length: 64 }, (_, bit) => 1n << BigInt(bit)),
];
const U64 = (1n << 64n) - 1n;

class U64Arbitrary extends fc.Arbitrary<bigint> {
  override generate(mrng: fc.Random): fc.Value<bigint> {
    const noise = (): bigint => BigInt(mrng.nextInt(0, 0xffff));
    const kind = mrng.nextInt(0, 3);
    const value =
      kind === 0
        ? (noise() << 48n) | (noise() << 32n) | (noise() << 16n) | noise()
        : kind === 1
          ? (INTERESTING[mrng.nextInt(0, INTERESTING.length - 1)] + BigInt(mrng.nextInt(-4, 4))) & U64
          : INTERESTING[mrng.nextInt(0, INTERESTING.length - 1)];
    return new fc.Value(value, undefined);
  }

  override canShrinkWithoutContext(value: unknown): value is bigint {
    return typeof value === 'bigint' && value >= 0n && value <= U64;
  }

  override shrink(value: bigint): fc.Stream<fc.Value<bigint>> {
    return fc.stream(clearings(value));
  }
}

function* clearings(value: bigint): Generator<fc.Value<bigint>> {
  if (value === 0n) return;
  yield new fc.Value(0n, undefined);
  for (let bit = 63n; bit >= 0n; bit--) {
    const cleared = value & ~(1n << bit);
    if (cleared !== value && cleared !== 0n) yield new fc.Value(cleared, undefined);
  }
}

/** 64-bit numbers for properties: boundary values often, shrunk by clearing bits. */
export const u64 = (): fc.Arbitrary<bigint> => new U64Arbitrary();

/** A value of one case; shrinks of it are new cases. */
class CaseArbitrary extends fc.Arbitrary<Case> {
  readonly #seed: Case;

  constructor(seed: Case) {
    super();
    this.#seed = seed;
  }

  override generate(): fc.Value<Case> {
    return new fc.Value(this.#seed, undefined);
  }

  override canShrinkWithoutContext(value: unknown): value is Case {
    return value instanceof Case;
  }

  override shrink(value: Case): fc.Stream<fc.Value<Case>> {
    return fc.stream(smaller(value)).map((test) => new fc.Value(test, undefined));
  }
}

function* smaller(test: Case): Generator<Case> {
  const copy = (): Case => {
    const other = new Case();
    other.assign(test);
    return other;
  };
  if (test.length > 1) {
    for (let step = test.length - 1; step >= 0; step--) {
      const other = copy();
      removeStep(other, step);
      yield other;
    }
  }
  const vcpus = new Set(Array.from({ length: test.length }, (_, step) => test.words[step * STEP_WORDS + STEP_VCPU]));
  for (const vcpu of vcpus) {
    if (vcpu === 0) continue;
    const other = copy();
    for (let step = 0; step < test.length; step++) {
      const at = step * STEP_WORDS + STEP_VCPU;
      if (other.words[at] === vcpu) other.words[at] = 0;
    }
    yield other;
  }
  const tried: number[] = [];
  for (let step = 0; step < test.length; step++) {
    for (let word = STEP_ARGS; word < STEP_WORDS; word++) {
      const at = step * STEP_WORDS + word;
      // The first argument of everything but a hypercall says what is done, and a number beyond its table is another step.
      if (test.words[at] !== 0 && (word >= STEP_ARGS + 2 || test.words[step * STEP_WORDS + STEP_OP] === CALL))
        tried.push(at);
    }
  }
  for (const at of tried) {
    const other = copy();
    other.words[at] = 0;
    yield other;
  }
  for (const at of tried) {
    for (const word of rounder(test.words[at])) {
      const other = copy();
      other.words[at] = word;
      yield other;
    }
  }
  for (const at of tried) {
    for (let bit = BITS_32 - 1; bit >= 0; bit--) {
      if (((test.words[at] >>> bit) & 1) === 0) continue;
      const other = copy();
      other.words[at] &= ~(1 << bit);
      if (other.words[at] !== 0) yield other;
    }
  }
}

const CALL = 2;

/** Numbers with a single bit that may do as well: 1, the bit below, and in place of several bits the next power of two. */
function rounder(word: number): number[] {
  const single = (word & (word - 1)) === 0;
  if (single) return word > 1 ? [1, word >>> 1] : [];
  const top = 31 - Math.clz32(word);
  return top < 31 ? [1, (1 << top) >>> 0, (2 << top) >>> 0] : [1, 0x80000000];
}

export interface Shrunk {
  readonly test: Case;
  /** Where fast-check found it: how many smaller cases passed before the one that failed, level by level. */
  readonly path: string;
}

/** The smallest case reached for which `fails` still holds. `fails(test)` must hold. */
export function shrink(test: Case, fails: (test: Case) => boolean): Shrunk {
  const details = fc.check(
    fc.property(new CaseArbitrary(test), (candidate) => !fails(candidate)),
    { numRuns: 1, seed: 0 },
  );
  return { test: details.counterexample?.[0] ?? test, path: details.counterexamplePath ?? '' };
}

/** How big a case is: steps first, then other vCPUs, then bits. Smaller is better. */
export function sizeOf(test: Case): number {
  let bits = 0;
  let others = 0;
  for (let step = 0; step < test.length; step++) {
    if (test.words[step * STEP_WORDS + STEP_VCPU] !== 0) others++;
    for (let word = STEP_ARGS; word < STEP_WORDS; word++) {
      for (let left = test.words[step * STEP_WORDS + word]; left !== 0; left = (left & (left - 1)) >>> 0) bits++;
    }
  }
  return test.length * 1_000_000 + others * 10_000 + bits;
}
