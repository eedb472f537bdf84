/** The listing of a program: address, bytes, source line; labels by themselves where no source line shows them. */
import type { Program } from './assembler.ts';

const BYTES_PER_ROW = 8;
const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');

/** Text of the listing, one row per statement and further rows for more than 8 bytes; rows of equal bytes are left out. An image without source lines is its bytes. */
export function listing(program: Program): string {
  const rows: string[] = [];
  const last = program.segments[program.segments.length - 1];
  const end = last === undefined ? program.origin : last.address + last.bytes.length;
  const width = Math.max(6, end.toString(16).length);
  const labels = labelsByAddress(program);
  const row = (address: number, bytes: Uint8Array, source: string): void => {
    const cells = `${address.toString(16).padStart(width, '0')}  ${hexOf(bytes).padEnd(BYTES_PER_ROW * 3 - 1)}`;
    rows.push(`${cells}  ${source}`.trimEnd());
  };
  const images = program.segments.map(({ address, bytes }) => ({ address, length: bytes.length, source: '' }));
  for (const { address, length, source } of program.lines.length > 0 ? program.lines : images) {
    for (const label of labels.get(address) ?? []) {
      if (!source.startsWith(`${label}:`)) rows.push(`${' '.repeat(width + BYTES_PER_ROW * 3 + 3)}${label}:`);
    }
    const bytes = bytesAt(program, address, length);
    row(address, bytes.subarray(0, BYTES_PER_ROW), source);
    for (let at = BYTES_PER_ROW; at < bytes.length; at += BYTES_PER_ROW) {
      const skipped = equalRows(bytes, at);
      if (skipped > 2) {
        rows.push(`${'*'.padStart(width)}  ${skipped} rows of ${hexOf(bytes.subarray(at, at + 1))}`);
        at += (skipped - 1) * BYTES_PER_ROW;
      } else row(address + at, bytes.subarray(at, at + BYTES_PER_ROW), '');
    }
  }
  return rows.map((text) => `${text}\n`).join('');
}

/** Number of full rows from `at` on that hold nothing but one value. */
function equalRows(bytes: Uint8Array, at: number): number {
  let end = at;
  while (end < bytes.length && bytes[end] === bytes[at]) end++;
  return Math.floor((end - at) / BYTES_PER_ROW);
}

function bytesAt(program: Program, address: number, length: number): Uint8Array {
  const segment = program.segments.find(
    (candidate) => address >= candidate.address && address + length <= candidate.address + candidate.bytes.length,
  );
  if (segment === undefined) return new Uint8Array(0);
  return segment.bytes.subarray(address - segment.address, address - segment.address + length);
}

function labelsByAddress({ symbols, labels }: Program): Map<number, string[]> {
  const byAddress = new Map<number, string[]>();
  for (const name of labels) {
    const address = Number(symbols.get(name));
    byAddress.set(address, [...(byAddress.get(address) ?? []), name]);
  }
  return byAddress;
}
