/**
 * The core against the processor of this machine: the same instructions, registers and memory in user mode, the same outcome. Needs Linux on
 * x86-64 and gcc. KVMSCOPE_NATIVE_CASES sets the number of cases, KVMSCOPE_NATIVE_SEED the first seed. `npm run verify:cpu` is the full run.
 *
 * Not compared: the handlers of LEFT_OUT (cases.ts), flags and results that the manual leaves undefined, and what differs by vendor:
 * 66 on near branches in 64-bit mode, F2/F3 on LOOPcc, LOCK VERW, UD0's ModRM, which of two faults of a CALL or CMPS comes first, canonical checks
 * with an FS or GS base, branches that end at a code segment's limit, state images that go beyond 64 KiB of 16-bit or 4 GiB of 32-bit addresses,
 * what a MOVBE with 66 and REX.W stores before it faults, and FDP after an x87 instruction without a memory operand.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { type Cases, decimalCases, divisionCases, makeImage } from './cases.ts';
import { stateDifferences } from './compare.ts';
import { batches, compare, lackingForms } from './comparison.ts';
import { type Form, formsOf, LEFT_OUT } from './forms.ts';
import { fxState } from './fp-values.ts';
import { BITS, CODE16, COMPAT32, LONG, type Mode, type NativeCase } from './layout.ts';
import { compile, execute, unavailable } from './processor.ts';
import { Random } from './random.ts';
import { stateCase } from './state-cases.ts';

const TOTAL = Number(process.env.KVMSCOPE_NATIVE_CASES ?? 60_000);
const SEED = Number(process.env.KVMSCOPE_NATIVE_SEED ?? 1);
const SHOWN = 5;

const reason = unavailable();
if (reason) console.warn(`NOT RUN: the core is not compared with a processor, which ${reason}`);

const lacking = reason ? [] : lackingForms();
if (lacking.length > 0) {
  const names = lacking.map((form) => `${form.row.mnemonic} (${form.feature})`);
  console.warn(`NOT RUN: this processor lacks ${names.join(', ')}`);
}

/** Draws `total` cases of a mode and compares them. */
function disagreements(mode: Mode, total: number, draw: (cases: Cases) => NativeCase | undefined): string[] {
  const wanted = (form: Form): boolean => !lacking.includes(form);
  return [...batches(SEED, total, wanted, draw)].flatMap(({ seed, cases }) => compare(mode, seed, cases));
}

function none(reports: readonly string[]): void {
  expect(reports.length, `\n${reports.slice(0, SHOWN).join('\n\n')}\n`).toBe(0);
}

describe('rows of the opcode table', () => {
  it('are compared unless their handler is listed with a reason', () => {
    const handlers = new Set(
      [LONG, COMPAT32, CODE16].flatMap((mode) => formsOf(mode as Mode)).map((form) => form.handler),
    );
    for (const handler of Object.keys(LEFT_OUT)) expect(handlers.has(handler), handler).toBe(false);
    expect(handlers.size).toBeGreaterThan(100);
  });
});

describe.runIf(!reason)('the core and the processor', () => {
  beforeAll(compile);

  it('give x87, MMX and SSE registers back as they got them', () => {
    const random = new Random(SEED);
    const state = { undefinedFlags: 0, flagsAtFault: 0, pokes: [], registers: new BigUint64Array(16) };
    const cases: NativeCase[] = Array.from({ length: 500 }, () => {
      const fx = fxState(random, ['f32', 'f64', 'integers']);
      return { mode: LONG, step: true, at: 0, rflags: 0x202, bytes: [0x90], fx, ...state };
    });
    const outcomes = execute(makeImage(SEED), cases);
    const changed = outcomes.flatMap((o, n) => {
      const one = cases[n] as NativeCase;
      return stateDifferences(one, o.fx as Uint8Array, one.fx as Uint8Array);
    });
    expect(changed).toEqual([]);
    none(compare(LONG, SEED, cases));
  });
  it('agree on divisions at the edges', () => {
    none(compare(LONG, SEED, divisionCases()));
  });
  it('agree on the decimal adjustments of every AL', () => {
    none(compare(COMPAT32, SEED, decimalCases()));
  });

  for (const mode of [LONG, COMPAT32, CODE16] as const) {
    it(`agree on images of x87 and SSE state in ${BITS[mode]}-bit code`, { timeout: 600_000 }, () => {
      const random = new Random(SEED + mode);
      const cases = Array.from({ length: Math.ceil(TOTAL / 30) }, () => stateCase(random, mode));
      none(compare(mode, SEED, cases));
    });
    it(`agree on instructions drawn from the table in ${BITS[mode]}-bit code`, { timeout: 600_000 }, () => {
      none(disagreements(mode, Math.ceil(TOTAL / 4), (cases) => cases.next(mode)));
    });
    it(`agree on random bytes in ${BITS[mode]}-bit code`, { timeout: 600_000 }, () => {
      none(disagreements(mode, Math.ceil(TOTAL / 12), (cases) => cases.noise(mode)));
    });
  }
});
