/** Command-line values: a mistake is one line that names the option. */
import { InvalidArgumentError } from 'commander';

/** A whole number in decimal or 0x hexadecimal. Ranges are checked where the number is used. */
export function wholeNumber(text: string): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('It must be a whole number (decimal or 0x…).');
  return value;
}

/** Gathers a repeated option in order, each value as it stands: a file name may contain commas. */
export function append(text: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), text];
}

/** How many exits to print: a number or 'all'. */
export function exitLimit(text: string): number {
  return text === 'all' ? Number.POSITIVE_INFINITY : wholeNumber(text);
}

/** Gathers a repeated option in order; a value may also list several with commas, and must name one. */
export function collect(text: string, previous: readonly string[] | undefined): readonly string[] {
  const values = text.split(',').map((part) => part.trim());
  const named = values.filter((part) => part !== '');
  if (named.length === 0) throw new InvalidArgumentError('It must name something.');
  return [...(previous ?? []), ...named];
}
