/** Source lines of a program's addresses, as the trace room wants them. */
import { locate, type Program } from '../index.ts';
import type { SourcePlace } from '../trace/notebook.ts';

/** A function from linear address to source place. */
export function locator(program: Program): (address: bigint) => SourcePlace | undefined {
  return (address) => {
    if (address > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
    return locate(program, Number(address));
  };
}
