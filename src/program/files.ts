/** Reading the files that a user names: programs, images, recordings. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { KvmscopeError } from '../errors.ts';

/** The most that is read of one file: a device such as /dev/zero has no end. */
const MAX_MEBIBYTES = 256;
const MAX_BYTES = MAX_MEBIBYTES * 2 ** 20;
/** Room for what does not tell its size, a pipe or a device, at first. */
const ROOM = 2 ** 16;

/** The bytes of a file or of what a pipe delivers. Throws KvmscopeError('not-found') for too many of them; errors of the file system pass. */
export function readInput(path: string): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    // One byte more than the size, so that the end shows without more room.
    let bytes = new Uint8Array(size === 0 || size > MAX_BYTES ? ROOM : size + 1);
    let total = 0;
    while (size <= MAX_BYTES && total <= MAX_BYTES) {
      if (total === bytes.length) {
        const longer = new Uint8Array(2 * total);
        longer.set(bytes);
        bytes = longer;
      }
      const read = readSync(fd, bytes, { offset: total });
      if (read === 0) return bytes.slice(0, total);
      total += read;
    }
  } finally {
    closeSync(fd);
  }
  throw new KvmscopeError(
    'not-found',
    `${path} has more than ${MAX_MEBIBYTES} MiB, the most that is read of a file: name a smaller one`,
  );
}

/** The same as text. */
export const readInputText = (path: string): string => new TextDecoder().decode(readInput(path));
