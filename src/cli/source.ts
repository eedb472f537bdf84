/** What a program's source tells the reports. */
import { locate, type Program } from '../index.ts';
import type { SourcePlace } from '../trace/notebook.ts';

/** A function from linear address to source place. */
export const locator =
  (program: Program) =>
  (address: bigint): SourcePlace | undefined =>
    locate(program, address);
