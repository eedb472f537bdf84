/** Ctrl-C of commands that take long. */

export interface Interrupts {
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Aborted by the second. */
  readonly abort: AbortSignal;
}

/** Does `work`; `told` is called at the first SIGINT or SIGTERM with words for "once more". A third one ends the process. */
export async function withInterrupts<T>(
  told: (again: string) => void,
  work: (interrupts: Interrupts) => Promise<T>,
): Promise<T> {
  const [signal, abort] = [new AbortController(), new AbortController()];
  const interrupted = (name: NodeJS.Signals): void => {
    if (!signal.signal.aborted) {
      signal.abort();
      told(name === 'SIGINT' ? 'Ctrl-C again' : `another ${name}`);
    } else if (!abort.signal.aborted) abort.abort();
    else process.exit(128 + (name === 'SIGINT' ? 2 : 15));
  };
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', interrupted);
  try {
    return await work({ signal: signal.signal, abort: abort.signal });
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
  }
}
