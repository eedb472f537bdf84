/** Runs cases on the processor and on the core, and reports what differs; Unicorn is asked about it where it is installed. */
import { Cases, makeImage } from './cases.ts';
import { differences, report } from './compare.ts';
import { FORMS, type Form, formOf } from './forms.ts';
import type { Mode, NativeCase } from './layout.ts';
import { Model } from './model.ts';
import { execute, features, vendor } from './processor.ts';
import { ask, unicornDifferences, unicornUnavailable, unsuitable } from './unicorn.ts';

/** Cases that share one memory image and one call of the runner. */
const BATCH = 10_000;

/** Forms that this processor does not have. */
export function lackingForms(): Form[] {
  const has = features();
  return FORMS.filter((form) => form.feature !== undefined && !has.has(form.feature));
}

/** Compares cases of one mode; the reports of those that differ. `image` is made from the seed. */
export function compare(mode: Mode, seed: number, cases: readonly NativeCase[]): string[] {
  const image = makeImage(seed);
  const model = new Model(mode, vendor(), image);
  const found = execute(image, cases).flatMap((native, n) => {
    const one = cases[n] as NativeCase;
    // Every eighth is single-stepped by RFLAGS.TF in the core too.
    const lines = differences(one, native, model.run(one, n % 8 === 0));
    return lines.length > 0 ? [{ n, one, native, lines }] : [];
  });
  const suitable = found.filter(({ one }) => !unsuitable(one)).map(({ one }) => one);
  const said = suitable.length > 0 && !unicornUnavailable() ? ask(image, suitable) : [];
  return found.map(({ n, one, native, lines }) => {
    const unicorn = said[suitable.indexOf(one)];
    const third = unicorn && unicornDifferences(one, unicorn, native).map((line) => line.replace('core', 'unicorn'));
    const voice = third === undefined ? [] : third.length === 0 ? ['unicorn: as the processor'] : third;
    return `case ${n} of seed ${seed}: ${report(one, [...lines, ...voice])}`;
  });
}

/** What a case is about: the class of its instructions, of which the first one decides in a sequence. */
export function classOf(c: NativeCase): string {
  const attributes = formOf(c.mode, c.bytes)?.row.attributes ?? [];
  return ['x87', 'mmx', 'sse'].find((name) => attributes.includes(name)) ?? 'integer';
}

/** Draws `total` cases of a mode in batches, each with its own seed and memory. */
export function* batches(
  first: number,
  total: number,
  wanted: (form: Form) => boolean,
  draw: (cases: Cases) => NativeCase | undefined,
): Generator<{ readonly seed: number; readonly cases: readonly NativeCase[] }> {
  for (let done = 0, seed = first; done < total; done += BATCH, seed++) {
    const source = new Cases(seed, wanted);
    const cases: NativeCase[] = [];
    while (cases.length < Math.min(BATCH, total - done)) {
      const drawn = draw(source);
      if (drawn) cases.push(drawn);
    }
    yield { seed, cases };
  }
}
