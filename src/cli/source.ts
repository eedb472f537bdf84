/** What a program's source tells the reports. */
import { locate, type Program } from '../base.ts';
import type { SourcePlace } from '../trace/notebook.ts';
import type { Output } from './output.ts';

/** A function from linear address to source place. */
export const locator =
  (program: Program) =>
  (address: bigint): SourcePlace | undefined =>
    locate(program, address);

/** What `.warning` directives of the program said, one line each. */
export function reportWarnings(program: Program, output: Output): void {
  for (const { file, line, message } of program.warnings) output.err(`${file}:${line}: warning: ${message}\n`);
}
