/** Command-line values: numbers, sizes and lists, each mistake one line that names the option. */
import { InvalidArgumentError } from 'commander';

const NUMBER = /^(0x[0-9a-f]+|\d+)$/i;

/** A whole number in decimal or 0x hexadecimal. Ranges are checked where the number is used. */
export function wholeNumber(text: string): number {
  if (!NUMBER.test(text)) throw new InvalidArgumentError('It must be a whole number (decimal or 0x…).');
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('It is too large.');
  return value;
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1 << 10, M: 1 << 20, G: 1 << 30 };

/** Bytes, with an optional unit: 65536, 64K, 16M, 1G. */
export function byteSize(text: string): number {
  const match = /^(\d+|0x[0-9a-f]+?)([KMG]?)(i?B)?$/i.exec(text);
  if (!match) throw new InvalidArgumentError('It must be a size such as 16M.');
  return wholeNumber(match[1]) * UNITS[match[2].toUpperCase()];
}

/** More ids than any VM has vCPUs are refused before the list is built. */
const MAX_IDS = 4096;

/** Ids as numbers and ranges: 0,5,64-70. */
export function idList(text: string): number[] {
  const ids: number[] = [];
  for (const part of text.split(',')) {
    const [low, high, ...rest] = part.trim().split('-');
    const first = wholeNumber(low);
    const last = high === undefined ? first : wholeNumber(high);
    if (rest.length > 0 || last < first)
      throw new InvalidArgumentError(`'${part}' is not an id or a range like 64-70.`);
    if (ids.length + last - first >= MAX_IDS) throw new InvalidArgumentError(`more than ${MAX_IDS} ids are listed.`);
    for (let id = first; id <= last; id += 1) ids.push(id);
  }
  return ids;
}

/** How many exits to print: a number or 'all'. */
export function exitLimit(text: string): number {
  return text === 'all' ? Number.POSITIVE_INFINITY : wholeNumber(text);
}

/** Gathers a repeated option in order; a value may also list several with commas. */
export const collect = (text: string, previous: readonly string[] | undefined): readonly string[] => [
  ...(previous ?? []),
  ...text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
];
