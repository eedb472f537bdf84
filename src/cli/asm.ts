/** `kvmscope asm`: the listing of a program. */
import { listing, loadProgram } from '../base.ts';
import { document } from '../trace/json.ts';
import { EXIT_OK } from './main.ts';
import type { Output } from './output.ts';
import { reportWarnings } from './source.ts';

export async function asmCommand(file: string, flags: { readonly json?: boolean }, output: Output): Promise<number> {
  const program = loadProgram(file);
  reportWarnings(program, output);
  if (flags.json) {
    const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    const fields = {
      program: file,
      entry: BigInt(program.entry),
      segments: program.segments.map(({ address, bytes }) => ({ address: BigInt(address), bytes: hexBytes(bytes) })),
      symbols: program.symbols,
      lines: program.lines.map((line) => ({ ...line, address: BigInt(line.address) })),
    };
    output.out(document('asm', true, fields));
  } else {
    const text = listing(program);
    output.out(text.endsWith('\n') ? text : `${text}\n`);
  }
  return EXIT_OK;
}
