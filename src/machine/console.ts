/** What the guest prints, byte by byte (ISO 8859-1): kept up to a limit, and handed on as it comes. */

/** Bytes of text that are kept. */
const LIMIT = 1 << 20;

export class Console {
  readonly #bytes: string[] = [];
  readonly #listener: ((text: string) => void) | undefined;
  /** More has come than is kept. */
  full = false;

  constructor(listener: ((text: string) => void) | undefined) {
    this.#listener = listener;
  }

  get text(): string {
    return this.#bytes.join('');
  }

  readonly print = (byte: number): void => {
    const character = String.fromCharCode(byte);
    this.#listener?.(character);
    if (this.#bytes.length < LIMIT) this.#bytes.push(character);
    else this.full = true;
  };
}

export const CONSOLE_FULL = `console output after the first ${LIMIT} bytes is dropped`;
