/**
 * `npm run verify:cpu`: the full comparison of the core with the processor of this machine. Prints how many cases of which class were run,
 * and every difference; exit code 1 if there is one, 2 if nothing could be compared. `npm run verify:cpu -- --help` names the options.
 */
import { readFileSync } from 'node:fs';
import { numbersOf } from '../options.ts';
import { type Cases, decimalCases, divisionCases } from './cases.ts';
import { batches, classOf, compare, lackingForms } from './comparison.ts';
import { FORMS, formsOf, LEFT_OUT } from './forms.ts';
import { BITS, CODE16, COMPAT32, LONG, type Mode, type NativeCase } from './layout.ts';
import { compile, unavailable } from './processor.ts';
import { unicornUnavailable } from './unicorn.ts';

const USAGE = `npm run verify:cpu -- [options]

  --cases N   cases of all modes together, besides the tables of divisions and decimal adjustments (default 600000)
  --seed S    seed of the first batch of cases (default 1)
`;

const given = numbersOf('verify:cpu', USAGE, { cases: { least: 1, usual: 600_000 }, seed: { least: 0, usual: 1 } });
const total = given.cases as number;
const first = given.seed as number;
const reason = unavailable();
if (reason) {
  console.error(`verify:cpu: nothing was compared: this ${reason}`);
  process.exit(2);
}
const silent = unicornUnavailable();
if (silent) console.warn(`NOT RUN: Unicorn is not asked about differences, because that ${silent}`);
const lacking = lackingForms();
if (lacking.length > 0) {
  const names = lacking.map((form) => `${form.row.mnemonic} (${form.feature})`);
  console.warn(`NOT RUN: this processor lacks ${names.join(', ')}`);
}

compile();
const processor = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))?.[1] ?? 'unknown';
console.log(`processor: ${processor}; ${total} cases from seed ${first}`);
const began = process.hrtime.bigint();
const counts = new Map<string, number>();
let differing = 0;

function run(kind: string, mode: Mode, seed: number, cases: readonly NativeCase[]): void {
  for (const c of cases) {
    const name = `${BITS[mode]}-bit ${kind}${classOf(c)}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  for (const text of compare(mode, seed, cases)) {
    differing++;
    console.log(`\n${text}`);
  }
}

run('division: ', LONG, first, divisionCases());
run('decimal: ', COMPAT32, first, decimalCases());
for (const mode of [LONG, COMPAT32, CODE16] as const) {
  for (const [kind, share, draw] of [
    ['', 4, (cases: Cases) => cases.next(mode)],
    ['random bytes: ', 12, (cases: Cases) => cases.noise(mode)],
  ] as const) {
    for (const { seed, cases } of batches(first, Math.ceil(total / share), (form) => !lacking.includes(form), draw)) {
      run(kind, mode, seed, cases);
    }
  }
}

const seconds = Number(process.hrtime.bigint() - began) / 1e9;
const sum = [...counts.values()].reduce((a, b) => a + b, 0);
for (const [name, count] of [...counts].sort()) console.log(`${String(count).padStart(9)}  ${name}`);
const compared = new Set(([LONG, COMPAT32, CODE16] as const).flatMap((mode) => formsOf(mode)));
console.log(`${compared.size - lacking.length} of ${FORMS.length} rows of the table; left out:`);
for (const [handler, why] of Object.entries(LEFT_OUT)) console.log(`  ${handler}: ${why}`);
console.log(`${sum} cases in ${seconds.toFixed(1)} s, seed ${first}: ${differing} unexplained differences`);
process.exit(differing > 0 ? 1 : 0);
