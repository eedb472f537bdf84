/** The text of a program that shows a failing schedule when it is run: its source with another header. */
import type { Difference } from './differences.ts';

/** Expectations that are written for one difference at most. */
const EXPECTATION_LIMIT = 8;

export interface FindHeader {
  /** Settings that replace those of the source, by header key. */
  readonly settings: Readonly<Record<string, string>>;
  /** Keys of settings that are taken out. */
  readonly dropped: readonly string[];
  /** If there are any, they replace the expectations of the source: values of the left side. */
  readonly differences: readonly Difference[];
}

const isComment = (line: string): boolean => /^\s*(?:#|\/\/)/.test(line);
/** As the header's parser tells settings from prose. */
const SETTING_LINE = /^(\s*(?:#+|\/\/+) ?)([a-z][a-z0-9_-]*(?:\s*\[[^\]]*\])?\s*:.*)$/;

/** `source` with what makes the failure come out at the end of its header. */
export function findProgram(source: string, { settings, dropped, differences }: FindHeader): string {
  const lines = source.split('\n');
  const end = lines.findIndex((line) => line.trim() !== '' && !isComment(line));
  const header = lines.slice(0, end < 0 ? lines.length : end);
  const rest = lines.slice(header.length);
  while (header.length > 0 && header[header.length - 1].trim() === '') header.pop();
  const gone = new Set([...Object.keys(settings), ...dropped]);
  const kept = header.flatMap((line) => keepSettings(line, gone, differences.length > 0));
  const pieces = Object.entries(settings).map(([key, value]) => `${key}: ${value}`);
  if (pieces.length > 0) kept.push(`# ${pieces.join('   ')}`);
  for (const { subject, left } of differences.slice(0, EXPECTATION_LIMIT)) kept.push(`# expect: ${subject} = ${left}`);
  return [...kept, ...rest].join('\n');
}

function keepSettings(line: string, gone: ReadonlySet<string>, dropExpectations: boolean): string[] {
  const match = SETTING_LINE.exec(line);
  if (match === null) return [line];
  const [, start, body] = match;
  if (/^expect\b/.test(body)) return dropExpectations ? [] : [line];
  const pieces = body.split(/ {2,}|\t+/).filter((piece) => !gone.has(piece.slice(0, piece.indexOf(':')).trim()));
  return pieces.length === 0 ? [] : [`${start}${pieces.join('   ')}`];
}
