/** Where a command writes: results to stdout, diagnostics to stderr, colour only where someone looks. */
import { styleText } from 'node:util';
import type { Paint, Tone } from '../trace/text.ts';
import { noPaint } from '../trace/text.ts';

export interface Output {
  /** Columns to wrap at, 40 … 100; 100 where nobody looks. */
  readonly width: number;
  readonly paint: Paint;
  /** Someone looks at the diagnostics: progress may be drawn there. */
  readonly errIsTerminal?: boolean;
  /** Writes a result, without adding a line feed. */
  out(text: string): void;
  /** Writes a diagnostic, without adding a line feed. */
  err(text: string): void;
}

const STYLES: Readonly<Record<Exclude<Tone, 'plain'>, Parameters<typeof styleText>[0]>> = {
  title: 'bold',
  label: 'cyan',
  dim: 'gray',
  changed: 'yellow',
  good: 'green',
  bad: 'red',
};

const colour: Paint = (tone, text) =>
  tone === 'plain' || text === '' ? text : styleText(STYLES[tone], text, { validateStream: false });

/** A TTY that the NO_COLOR convention (any non-empty value) leaves coloured. */
const wantsColour = (stream: { readonly isTTY?: boolean }): boolean => stream.isTTY === true && !process.env.NO_COLOR;

/** From now on a reader that goes away (EPIPE) ends the process quietly. */
export function endWithReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
}

/** The process's own streams. */
export function processOutput(): Output {
  endWithReader();
  const columns = process.stdout.isTTY ? process.stdout.columns : 100;
  return {
    width: Math.min(100, Math.max(40, columns || 100)),
    paint: wantsColour(process.stdout) ? colour : noPaint,
    errIsTerminal: process.stderr.isTTY === true,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  };
}

/** Bytes gathered before a write, so that a million trace lines do not mean a million system calls. */
const CHUNK = 1 << 16;

/** Writes lines as a result, each with a line feed. */
export function writeLines(output: Output, lines: Iterable<string>): void {
  let chunk = '';
  for (const line of lines) {
    chunk += `${line}\n`;
    if (chunk.length >= CHUNK) {
      output.out(chunk);
      chunk = '';
    }
  }
  if (chunk !== '') output.out(chunk);
}
