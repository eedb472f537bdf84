/** The command line of the benchmark. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KvmscopeError } from '../../src/errors.ts';
import { didYouMean } from '../../src/program/suggest.ts';
import { ENGINE_NAMES, type EngineName } from './engines/engine.ts';

export interface BenchOptions {
  readonly rounds: number;
  readonly engines: readonly EngineName[];
  /** Words of which a measurement's name or title must contain one; empty for all measurements. */
  readonly only: readonly string[];
  readonly json: boolean;
  readonly readme: boolean;
  /** A checkout of another commit, whose `npm start` is timed, too. */
  readonly against: string | undefined;
  readonly help: boolean;
}

export const USAGE = `npm run bench -- [options]

  --rounds N       counted rounds of each measurement (default 7)
  --engines LIST   ${ENGINE_NAMES.join(',')}
  --only WORDS     measurements whose name or title has one of these words, separated by commas
  --against DIR    times npm start of the checkout in DIR beside this one
  --json           one JSON document
  --readme         writes the tables into README.md (needs a run of everything)
`;

const MAX_ROUNDS = 1000;
const usage = (message: string): KvmscopeError => new KvmscopeError('usage', message);
const list = (text: string): string[] => text.split(/[,\s]+/).filter((word) => word !== '');

/** Throws KvmscopeError('usage') with one line for what makes no sense. */
export function parseOptions(args: readonly string[]): BenchOptions {
  let values: Partial<Record<'rounds' | 'engines' | 'only' | 'against', string>> &
    Partial<Record<'json' | 'readme' | 'help', boolean>>;
  try {
    const text = { type: 'string' } as const;
    const flag = { type: 'boolean' } as const;
    const options = { rounds: text, engines: text, only: text, against: text, json: flag, readme: flag, help: flag };
    values = parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw usage((error as Error).message.split(/[.\n]/)[0] as string);
  }
  const rounds = Number(values.rounds ?? 7);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > MAX_ROUNDS) {
    throw usage(`--rounds must be a whole number from 1 to ${MAX_ROUNDS}, not ${values.rounds}`);
  }
  const engines = values.engines === undefined ? ENGINE_NAMES : list(values.engines).map(engineName);
  if (engines.length === 0) throw usage(`--engines must list some of ${ENGINE_NAMES.join(', ')}`);
  const only = list(values.only ?? '').map((word) => word.toLowerCase());
  if (values.only !== undefined && only.length === 0) throw usage('--only must list words');
  const readme = values.readme ?? false;
  if (readme && (values.only !== undefined || values.engines !== undefined)) {
    throw usage('--readme needs a run of everything, without --only and --engines');
  }
  const { json = false, help = false, against } = values;
  if (against !== undefined && !existsSync(join(against, 'scripts/kvmscope.js'))) {
    throw usage(`--against: '${against}' is no checkout of kvmscope`);
  }
  return { rounds, engines: [...new Set(engines)], only, json, readme, against, help };
}

function engineName(word: string): EngineName {
  const found = ENGINE_NAMES.find((name) => name === word);
  if (found === undefined) throw usage(`there is no engine '${word}'${didYouMean(word, ENGINE_NAMES)}`);
  return found;
}

/** Whether a measurement is wanted. */
export const wanted = ({ only }: BenchOptions, name: string, title: string): boolean =>
  only.length === 0 || only.some((word) => `${name} ${title}`.toLowerCase().includes(word));

export interface Measurement {
  readonly name: string;
  readonly title: string;
}

/** Throws KvmscopeError('usage') for a word of --only that is in no measurement; `all` are those that the engines can do. */
export function checkWords(options: BenchOptions, all: readonly Measurement[]): void {
  const names = all.map(({ name }) => name);
  for (const word of options.only) {
    if (all.some(({ name, title }) => wanted({ ...options, only: [word] }, name, title))) continue;
    throw usage(`--only: no measurement has '${word}'${didYouMean(word, names) || `; there are: ${names.join(', ')}`}`);
  }
}
