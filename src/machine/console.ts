/** What the guest prints, byte by byte (ISO 8859-1): kept up to a limit, and handed on as it comes. */

import { Log } from './log.ts';

/** Bytes of text that are kept. */
const LIMIT = 1 << 20;

export class Console {
  readonly #bytes = new Log<string>();
  readonly #listener: ((text: string) => void) | undefined;
  /** More has come than is kept. */
  full = false;

  constructor(listener: ((text: string) => void) | undefined) {
    this.#listener = listener;
  }

  get text(): string {
    return this.#bytes.items.join('');
  }

  /** Becomes what another one is. */
  assign(from: Console): void {
    this.#bytes.assign(from.#bytes);
    this.full = from.full;
  }

  readonly print = (byte: number): void => {
    const character = String.fromCharCode(byte);
    this.#listener?.(character);
    if (this.#bytes.items.length < LIMIT) this.#bytes.items.push(character);
    else this.full = true;
  };
}

export const CONSOLE_FULL = `console output after the first ${LIMIT} bytes is dropped`;
