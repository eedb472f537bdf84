/** The command lines of `npm run fuzz:cpu` and `npm run verify:cpu`: options with whole numbers, and --help. */
import { parseArgs } from 'node:util';
import { endWithReader } from '../../src/cli/output.ts';
import { KvmscopeError } from '../../src/errors.ts';

/** An option's least value and, if it has one, the value that it has when it is not given. */
export interface NumberOption {
  readonly least: number;
  readonly usual?: number;
}

const usage = (message: string): KvmscopeError => new KvmscopeError('usage', message);

/** The values, undefined for what has neither been given nor a usual value; 'help' if it is asked for. Throws KvmscopeError('usage') with one line. */
export function parseNumbers<Name extends string>(
  args: readonly string[],
  options: Readonly<Record<Name, NumberOption>>,
): Readonly<Record<Name, number | undefined>> | 'help' {
  const entries = Object.entries<NumberOption>(options);
  const strings = Object.fromEntries(entries.map(([name]) => [name, { type: 'string' } as const]));
  let given: Readonly<Record<string, string | boolean | undefined>>;
  try {
    given = parseArgs({ args: [...args], options: { ...strings, help: { type: 'boolean' } } }).values;
  } catch (error) {
    throw usage((error as Error).message.split(/[.\n]/)[0] as string);
  }
  if (given.help) return 'help';
  const value = (name: string, { least, usual }: NumberOption): number | undefined => {
    const text = given[name];
    if (text === undefined) return usual;
    const number = Number(text);
    if (/^\d+$/.test(String(text)) && Number.isSafeInteger(number) && number >= least) return number;
    throw usage(`--${name} must be a whole number, ${least} or more, not '${text}'`);
  };
  return Object.fromEntries(entries.map(([name, option]) => [name, value(name, option)])) as Record<Name, number>;
}

/** What parseNumbers() gives. With --help the usage text is printed and the process ends with status 0, with a mistake one line and status 2. */
export function numbersOf<Name extends string>(
  program: string,
  text: string,
  options: Readonly<Record<Name, NumberOption>>,
): Readonly<Record<Name, number | undefined>> {
  endWithReader();
  try {
    const values = parseNumbers(process.argv.slice(2), options);
    if (values !== 'help') return values;
    process.stdout.write(text);
    process.exit(0);
  } catch (error) {
    if (!(error instanceof KvmscopeError)) throw error;
    process.stderr.write(`${program}: ${error.message}\n`);
    process.exit(2);
  }
}
