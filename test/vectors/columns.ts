/** What the vector tables of this folder are made of. */
import { eraMatches, resolveEra } from '../../src/index.ts';

/** Something that depends on the era: one value, or columns of [era range, value]; ranges must not overlap. */
export type Columns<T> = readonly (readonly [range: string, value: T])[];

/** The value of the column whose range holds `era`, undefined if no column does. Throws if two do. */
export function column<T>(columns: Columns<T>, era: string): T | undefined {
  const matches = columns.filter(([range]) => eraMatches(range, resolveEra(era)));
  if (matches.length > 1) throw new Error(`columns ${matches.map(([range]) => range).join(' and ')} overlap at ${era}`);
  return matches[0]?.[1];
}

/** What one vCPU's local APIC and events show after a vector; absent means nothing there. */
export interface Received {
  readonly irr?: readonly number[];
  readonly tmr?: readonly number[];
  readonly nmi?: number;
}

/** By vCPU index; vCPUs that are not named received nothing. */
export type Effects = Readonly<Record<number, Received>>;

/** The same for several vCPUs. */
export const each = (indices: readonly number[], received: Received): Effects =>
  Object.fromEntries(indices.map((index) => [index, received]));
