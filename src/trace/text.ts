/** Text helpers of the reports: hexadecimal, ranges, wrapping. Colour is a function of the caller; widths never count it. */

/** What a piece of text is, so that a terminal can colour it. */
export type Tone = 'plain' | 'title' | 'label' | 'dim' | 'changed' | 'good' | 'bad';
/** Puts colour around `text`; the identity where there is no terminal. */
export type Paint = (tone: Tone, text: string) => string;
export const noPaint: Paint = (_tone, text) => text;

/** A word or phrase that wrapping keeps together. */
export interface Piece {
  readonly text: string;
  readonly tone?: Tone;
}

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** 50000000 → '50,000,000'. */
export const count = (value: number): string => value.toString().replace(/\B(?=(\d{3})+$)/g, ',');

/** '1 exit', '2 exits'. */
export const plural = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;

/** Sorted numbers as ranges: [1, 2, 3, 7] → '1-3, 7'. Two neighbours stay apart. */
export function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; ) {
    let end = i;
    while (end + 1 < numbers.length && numbers[end + 1] === numbers[end] + 1) end += 1;
    if (end - i >= 2) parts.push(`${numbers[i]}-${numbers[end]}`);
    else for (let k = i; k <= end; k += 1) parts.push(`${numbers[k]}`);
    i = end + 1;
  }
  return parts.join(', ');
}

/** 'vCPU 0' or 'vCPUs 1-3'. */
export const vcpuNames = (indices: readonly number[]): string =>
  `vCPU${indices.length === 1 ? '' : 's'} ${ranges(indices)}`;

/** {0xd1, 0xd2}, runs of three and more as 0x10-0x12. */
export function vectorSet(vectors: readonly number[]): string {
  const text = ranges([...vectors].sort((a, b) => a - b)).replace(/\d+/g, (digits) => hex(Number(digits)));
  return `{${text}}`;
}

/** Words of a sentence as pieces of one tone. */
export const words = (text: string, tone: Tone = 'plain'): Piece[] =>
  text
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => ({ text: word, tone }));

export interface FlowOptions {
  readonly width: number;
  readonly paint: Paint;
  /** Columns before the label. */
  readonly indent?: number;
  /** Columns of the label including the blank after it. */
  readonly labelWidth?: number;
  /** Between pieces. */
  readonly gap?: string;
  /** Extra columns of every line but the first. */
  readonly hang?: number;
}

/** At most `columns` characters, the last one an ellipsis if something is missing. */
export const clip = (text: string, columns: number): string =>
  text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`;

/** A labelled paragraph: pieces side by side, wrapped at `width`, continuation lines under the first piece. */
export function flow(label: string, pieces: readonly Piece[], options: FlowOptions): string[] {
  const { width, paint, indent = 4, labelWidth = 10, gap = ' ', hang = 0 } = options;
  const left = indent + labelWidth;
  const lines: string[] = [];
  let line = ' '.repeat(indent) + paint('label', label) + ' '.repeat(Math.max(0, labelWidth - label.length));
  let column = Math.max(left, indent + label.length);
  let empty = true;
  for (const piece of pieces) {
    if (!empty && column + gap.length + piece.text.length > width) {
      lines.push(line.trimEnd());
      line = ' '.repeat(left + hang);
      column = left + hang;
      empty = true;
    }
    line += (empty ? '' : gap) + paint(piece.tone ?? 'plain', piece.text);
    column += (empty ? 0 : gap.length) + piece.text.length;
    empty = false;
  }
  lines.push(line.trimEnd());
  return lines;
}

/** An option's name as headers and command lines have it: `exit-hypercalls` for `exitHypercalls`. */
export const optionWord = (name: string): string => name.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`);
