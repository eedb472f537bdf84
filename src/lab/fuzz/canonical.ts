/** JSON in one form only, so that equal values are equal bytes, and the name of a campaign. */
import { createHash } from 'node:crypto';
import type { Campaign } from './types.ts';

/** Plain data with sorted keys and without undefined fields. Throws on what JSON cannot say (bigint, functions, NaN). */
export function canonical(value: unknown): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value === 'object') {
    const entries = Object.entries(value).filter(([, field]) => field !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries.map(([key, field]) => [key, canonical(field)]));
  }
  throw new TypeError(`no JSON for ${typeof value} ${String(value)}`);
}

export const canonicalText = (value: unknown): string => JSON.stringify(canonical(value));

/** The name of a campaign: 16 hexadecimal digits that depend on every field of it and on nothing else. */
export const campaignId = (campaign: Campaign): string =>
  createHash('sha256').update(canonicalText(campaign)).digest('hex').slice(0, 16);
