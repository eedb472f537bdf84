/**
 * Matchers for vitest. `import 'kvmscope/vitest'` once (in a test or a setup file) extends `expect`:
 *
 *     expect(run).toHaveRegisters({ rax: 3n });              // vCPU 0
 *     expect(run).toHaveRegisters(1, { rip: 0x77001n });     // vCPU 1
 *     expect(run).toHaveExits({ vmcall: 1 });                // all vCPUs together; names not given may have any count
 *     expect(run).toHaveIrr(1, [0xd1]);
 *     expect(run).toHaveAccepted(1, [0xd1]);                 // offered to the LAPIC, in order
 *     expect(run).toEndWith('exit 0');
 *     expect(run).toMeet('vcpu[1..3].irr = {0xd1}');         // any expectation of a program header
 */
import { expect } from 'vitest';
import { registerByName } from './cpu/registers.ts';
import { KvmscopeError } from './errors.ts';
import { acceptedVectors, countExits, describeEnd, endText, evaluate, showVectors } from './lab/expect.ts';
import type { RunResult, VcpuView } from './machine/types.ts';
import type { RegisterValues } from './machine/vm.ts';
import { parseExpectation } from './program/header.ts';

interface MatcherResult {
  readonly pass: boolean;
  readonly message: () => string;
}

interface KvmscopeMatchers<R = unknown> {
  /** Registers of vCPU 0 have these values (64-bit two's complement). */
  toHaveRegisters(values: RegisterValues): R;
  /** Registers of one vCPU have these values. */
  toHaveRegisters(vcpu: number, values: RegisterValues): R;
  /** Exits by name, over all vCPUs; `hypercall`, `wrmsr` and `rdmsr` stand for either vendor's names. */
  toHaveExits(counts: Readonly<Record<string, number>>): R;
  /** Exactly these vectors are requested at the vCPU's LAPIC, in any order. */
  toHaveIrr(vcpu: number, vectors: readonly number[]): R;
  /** Exactly these vectors were offered to the vCPU's LAPIC during the run, in this order. Needs a recorded run. */
  toHaveAccepted(vcpu: number, vectors: readonly number[]): R;
  /** The run ended this way: 'halted', 'exit 0', 'exit', 'shutdown', 'budget', 'host-bug', 'internal-error'. */
  toEndWith(end: string): R;
  /** An expectation in the words of a program header holds, e.g. `vcpu[1..3].irr = {0xd1}`. */
  toMeet(expectation: string): R;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: the signature vitest declares.
  interface Assertion<T = any> extends KvmscopeMatchers<T> {}
  interface AsymmetricMatchersContaining extends KvmscopeMatchers {}
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

function vcpuOf(run: RunResult, index: number): VcpuView {
  const vcpu = run.vcpus[index];
  if (vcpu === undefined) throw new KvmscopeError('usage', `no vCPU ${index}: the run has ${run.vcpus.length}`);
  return vcpu;
}

/** One line per difference; passes if there is none. */
const fromDifferences = (what: string, differences: readonly string[]): MatcherResult => ({
  pass: differences.length === 0,
  message: () =>
    differences.length === 0 ? `expected ${what} to be different` : `${what} differ:\n  ${differences.join('\n  ')}`,
});

expect.extend({
  toHaveRegisters(run: RunResult, vcpuOrValues: number | RegisterValues, maybeValues?: RegisterValues): MatcherResult {
    const index = typeof vcpuOrValues === 'number' ? vcpuOrValues : 0;
    const values = typeof vcpuOrValues === 'number' ? (maybeValues ?? {}) : vcpuOrValues;
    const { registers } = vcpuOf(run, index);
    const differences = Object.entries(values).flatMap(([name, value]) => {
      if (registerByName(name) === undefined) throw new KvmscopeError('usage', `unknown register "${name}"`);
      const expected = BigInt.asUintN(64, BigInt(value));
      return registers[name] === expected ? [] : [`${name}: expected ${hex(expected)}, actual ${hex(registers[name])}`];
    });
    return fromDifferences(`registers of vCPU ${index}`, differences);
  },

  toHaveExits(run: RunResult, counts: Readonly<Record<string, number>>): MatcherResult {
    const differences = Object.entries(counts).flatMap(([name, expected]) => {
      const actual = countExits(run.counters, name);
      return actual === expected ? [] : [`${name}: expected ${expected}, actual ${actual}`];
    });
    return fromDifferences('exit counts', differences);
  },

  toHaveIrr(run: RunResult, vcpu: number, vectors: readonly number[]): MatcherResult {
    const actual = showVectors(vcpuOf(run, vcpu).lapic.irr);
    const expected = showVectors(vectors);
    const same = actual === expected;
    return fromDifferences(`IRR of vCPU ${vcpu}`, same ? [] : [`expected ${expected}, actual ${actual}`]);
  },

  toHaveAccepted(run: RunResult, vcpu: number, vectors: readonly number[]): MatcherResult {
    const list = (numbers: readonly number[]) => `[${numbers.map((n) => hex(BigInt(n))).join(', ')}]`;
    const actual = list(acceptedVectors(run, vcpuOf(run, vcpu)));
    const expected = list(vectors);
    const same = actual === expected;
    return fromDifferences(`vectors accepted by vCPU ${vcpu}`, same ? [] : [`expected ${expected}, actual ${actual}`]);
  },

  toEndWith(run: RunResult, end: string): MatcherResult {
    const same = endText(run.end) === end || run.end.kind === end;
    return fromDifferences('ends of the run', same ? [] : [`expected ${end}, actual ${describeEnd(run.end)}`]);
  },

  toMeet(run: RunResult, text: string): MatcherResult {
    const [check] = evaluate([parseExpectation(text, { file: 'toMeet', line: 1 })], run);
    const differences = check.pass ? [] : [`expected ${check.expected}, actual ${check.actual}`];
    return fromDifferences(`values of "${text}"`, differences);
  },
});
