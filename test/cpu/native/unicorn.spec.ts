/**
 * The core against Debian's Unicorn library, for forms that Unicorn 2.0.1 does right (see UNICORN_DIFFERS). Needs libunicorn2 and the npm
 * package koffi.
 */
import { describe, expect, it } from 'vitest';
import { makeImage } from './cases.ts';
import { report } from './compare.ts';
import { batches } from './comparison.ts';
import { FORMS, type Form } from './forms.ts';
import { BITS, COMPAT32, LONG, type NativeCase } from './layout.ts';
import { Model } from './model.ts';
import {
  ask,
  differsInUnicorn,
  UNICORN_DIFFERS,
  unicornDifferences,
  unicornUnavailable,
  unsuitable,
} from './unicorn.ts';

const CASES = 3000;
const SEED = 0x756e;

const reason = unicornUnavailable();
if (reason) console.warn(`NOT RUN: the core is not compared with Unicorn, which ${reason}`);

describe('forms that Unicorn is known to do differently', () => {
  it('are named by handlers of the table', () => {
    const handlers = new Set(FORMS.map((form) => form.handler));
    for (const handler of Object.keys(UNICORN_DIFFERS)) expect(handlers.has(handler), handler).toBe(true);
  });
});

describe.runIf(!reason)('the core and Unicorn', () => {
  for (const mode of [LONG, COMPAT32] as const) {
    it(`agree on instructions drawn from the table in ${BITS[mode]}-bit code`, () => {
      const wanted = (form: Form): boolean => differsInUnicorn(form) === undefined;
      const drawn = batches(SEED, CASES, wanted, (cases) => {
        const one = cases.next(mode);
        return unsuitable(one) ? undefined : one;
      });
      const reports: string[] = [];
      for (const { seed, cases } of drawn) {
        const image = makeImage(seed);
        const model = new Model(mode, 'intel', image);
        ask(image, cases).forEach((unicorn, n) => {
          const one = cases[n] as NativeCase;
          const lines = unicornDifferences(one, unicorn, model.run(one, false));
          // compare.ts calls the first of two outcomes the processor's.
          const named = lines.map((line) => line.replace('core', 'Unicorn').replace('processor', 'core'));
          if (lines.length > 0) reports.push(`case ${n} of seed ${seed}: ${report(one, named)}`);
        });
      }
      expect(reports.length, `\n${reports.slice(0, 5).join('\n\n')}\n`).toBe(0);
    });
  }
});
