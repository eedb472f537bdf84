/**
 * What is measured on every engine: flat programs in guest/, each assembled from one source for 32-bit and 64-bit machines, and
 * a 64 KiB ROM around them for machines that start in real mode.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { assemble, type Program } from '../../src/program/assembler.ts';
import { includeReader } from '../../src/program/load.ts';

export type Bits = 32 | 64;

/** `compute`: rated by instructions. `trip`: rated by round trips to whatever handles the instruction, `trips` in a lap. */
export interface Workload {
  readonly name: string;
  readonly title: string;
  readonly kind: 'compute' | 'trip';
  readonly trips?: number;
  /** A lap begins with going back to a snapshot. */
  readonly restores?: boolean;
}

const TRIPS = 2000;

export const WORKLOADS: readonly Workload[] = [
  { name: 'alu', title: 'ALU loop', kind: 'compute' },
  { name: 'sieve', title: 'sieve', kind: 'compute' },
  { name: 'copy', title: 'memory copy loop', kind: 'compute' },
  { name: 'branches', title: 'branches', kind: 'compute' },
  { name: 'calls', title: 'calls (fib)', kind: 'compute' },
  { name: 'pages', title: 'calls between pages, pointers', kind: 'compute' },
  { name: 'strings', title: 'string instructions', kind: 'compute' },
  { name: 'tlb', title: 'TLB misses', kind: 'compute' },
  { name: 'remap', title: 'page-table changes, INVLPG, CR3', kind: 'compute' },
  { name: 'vmcall', title: '`vmcall`, PV IPI to one', kind: 'trip', trips: TRIPS },
  { name: 'icr', title: '`wrmsr 0x830`, IPI to one', kind: 'trip', trips: TRIPS },
  { name: 'cpuid', title: '`cpuid`', kind: 'trip', trips: TRIPS },
  { name: 'out', title: '`out 0x80, al`', kind: 'trip', trips: TRIPS },
  { name: 'short', title: 'snapshot restored, 100 instructions', kind: 'trip', trips: 1, restores: true },
];

/** RAM that every machine has. */
export const MEMORY = 16 << 20;
/** Port of lap.inc. */
export const DONE_PORT = 0xf4;
/** Port of out.S. */
export const IDLE_PORT = 0x80;

/** A program with the frame of lap.inc. */
export interface Flat {
  readonly bits: Bits;
  readonly program: Program;
  /** Addresses: how many laps the guest is to make, and the result of the last one; 32 bits each. */
  readonly laps: number;
  readonly result: number;
  /** Addresses: start; where a stopped guest goes on; the OUT behind the last lap. */
  readonly entry: number;
  readonly idle: number;
  readonly done: number;
  /** Address of the instruction that a round trip is about. */
  readonly trap: number | undefined;
}

export interface Image extends Flat {
  readonly workload: Workload;
}

const path = (name: string): string => fileURLToPath(new URL(`guest/${name}`, import.meta.url));

/** rAX is EAX or RAX and so on, the notation of AMD's manuals. */
export const widen = (text: string, bits: Bits): string =>
  text.replace(/\br(AX|BX|CX|DX|SI|DI|BP|SP)\b/g, (_, name: string) => (bits === 64 ? 'r' : 'e') + name.toLowerCase());

/** Assembles guest/NAME.S. */
export function assembleGuest(name: string, bits: Bits, defines: Readonly<Record<string, bigint>> = {}): Flat {
  const fileName = path(`${name}.S`);
  const find = includeReader(fileName);
  const program = assemble(widen(readFileSync(fileName, 'utf8'), bits), {
    fileName,
    bits,
    defines: { BITS: BigInt(bits), ...defines },
    readInclude: (include, from) => {
      const found = find(include, from);
      return found && { ...found, text: widen(found.text, bits) };
    },
  });
  const symbol = (label: string): number => Number(program.symbols.get(label));
  return {
    ...{ bits, program, laps: symbol('LAPS'), result: symbol('RESULT') },
    ...{ entry: symbol('_start'), idle: symbol('idle'), done: symbol('done') },
    trap: program.symbols.has('trap') ? symbol('trap') : undefined,
  };
}

export const assembleWorkload = (workload: Workload, bits: Bits): Image => ({
  ...assembleGuest(workload.name, bits),
  workload,
});

const ROM_BYTES = 0x10000;
const ROM_ADDRESS = 0xf0000;

/** The firmware that puts the program into RAM and enters it: 64 KiB below 1 MiB, the program first. */
export function romOf({ program }: Flat): Uint8Array {
  const fileName = path('bios.S');
  const boot = program.symbols.get('boot') as bigint;
  const firmware = assemble(readFileSync(fileName, 'utf8'), {
    fileName,
    defines: { PROGRAM: BigInt(program.origin), BOOT: boot },
  });
  const rom = new Uint8Array(ROM_BYTES);
  for (const { address, bytes } of firmware.segments) rom.set(bytes, address - ROM_ADDRESS);
  rom.set(program.bytes);
  return rom;
}
