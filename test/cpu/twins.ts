/** The second tier against the interpreter: two engines, of which all there is to see has to be the same wherever a budget ends. */
import { expect } from 'vitest';
import type { Tier2 } from '../../src/cpu/cpu.ts';
import { REGISTERS } from '../../src/cpu/registers.ts';
import { type Bare, type BareOptions, bare, type Mode } from './bare.ts';

/** Everything there is to see. */
function state({ cpu, state }: Bare): { registers: Record<string, string>; ram: Buffer; steps: number } {
  const registers = Object.fromEntries(REGISTERS.map(({ id, name }) => [name, state.get(id).toString(16)]));
  return { registers, ram: Buffer.from(cpu.memory), steps: state.steps };
}
export function same(a: Bare, b: Bare, what: string): void {
  const [x, y] = [state(a), state(b)];
  expect({ what, ...y.registers, steps: y.steps }).toEqual({ what, ...x.registers, steps: x.steps });
  if (!x.ram.equals(y.ram)) {
    const at = x.ram.findIndex((byte, i) => byte !== y.ram[i]);
    expect(`${what}: byte ${at.toString(16)} is ${y.ram[at]}`).toBe(`${what}: byte ${at.toString(16)} is ${x.ram[at]}`);
  }
}

/** Runs a program on both to its HLT, in portions that `portion` names. A device answers accesses outside RAM. */
export async function compare(
  mode: Mode,
  source: string,
  portion: () => number,
  options: BareOptions = {},
  tier2: Tier2 = 'force',
  prepare: (b: Bare) => void = () => {},
): Promise<Bare> {
  const [a, b] = await Promise.all([bare(mode, { ...options, tier2: false }), bare(mode, { ...options, tier2 })]);
  for (const each of [a, b]) {
    each.load(source);
    prepare(each);
  }
  for (let n = 0; n < 20_000; n++) {
    const budget = portion();
    const [x, y] = [a.cpu.run(0, budget), b.cpu.run(0, budget)];
    expect(y).toEqual(x);
    if (x.reason === 'mmio') for (const each of [a, b]) each.state.completeMmio(0x01010101 * (n & 7), n);
    if (x.reason === 'budget' || x.reason === 'mmio') {
      if (n % 64 === 0) same(a, b, `portion ${n}`);
      continue;
    }
    same(a, b, x.reason);
    if (x.reason !== 'pause') break;
  }
  return b;
}
