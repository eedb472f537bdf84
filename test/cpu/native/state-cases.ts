/**
 * Images of x87 and SSE state: sequences that load images and store them again, in all formats. What a processor calls in use is its own
 * affair, so that only images with both components in use are stored by XSAVE and its relatives; others are read back by FXSAVE.
 */
import { CODE16, DATA, LONG, type Mode, type NativeCase, type Poke } from './layout.ts';
import type { Random } from './random.ts';

const RAX = 0;
const RDX = 2;
const RSI = 6;
const RDI = 7;
const XSTATE_BV = 512;
const XCOMP_BV = 520;
const COMPACTED = 1n << 63n;
/** State components that processors may have beyond x87 and SSE (AVX, MPX, AVX-512, PKRU): not asked for. */
const FOREIGN = 0x2fc;

/** One case: the image at RSI is loaded, sometimes twice, and stored at RDI. */
export function stateCase(r: Random, mode: Mode): NativeCase {
  const long = mode === LONG;
  const segment = mode === CODE16 ? 0 : DATA;
  // The header falls into zeros of the memory image, the registers do not.
  const source = 0x100 + 64 * r.below(6);
  const target = 0x1000 + 64 * r.below(32);
  const misaligned = (): number => (r.oneIn(25) ? r.pick([1, 8, 16, 32]) : 0);
  const registers = BigUint64Array.from({ length: 16 }, () => r.u64());
  registers[RAX] = BigInt(r.u32() & 0x7fffff00 & ~FOREIGN);
  registers[RDX] = BigInt(r.u32());
  registers[RSI] = BigInt(segment + source + misaligned());
  registers[RDI] = BigInt(segment + target + misaligned());

  const wide = (code: readonly number[]): number[] => (long && r.oneIn(2) ? [0x48, ...code] : [...code]);
  const operand = (group: number, register: number): number =>
    (group << 3) | (mode === CODE16 ? (register === RSI ? 4 : 5) : register);
  const mask = (): readonly number[] => [0xb0, r.below(4)];
  const dword = (register: number, displacement: number): number[] => [
    ...(mode === CODE16 ? [0x66] : []),
    ...[0xc7, 0x40 | operand(0, register), displacement, 0, 0, 0, 0],
  ];
  const fxrstor = [0x0f, 0xae, operand(1, RSI)];
  const xrstor = [0x0f, 0xae, operand(5, RSI)];
  const fxsave = [0x0f, 0xae, operand(0, RDI)];
  const saves = [fxsave, [0x0f, 0xae, operand(4, RDI)], [0x0f, 0xae, operand(6, RDI)], [0x0f, 0xc7, operand(4, RDI)]];

  const inUse = r.oneIn(2);
  const header: Poke[] = [];
  const poke = (offset: number, bytes: number, value: bigint): void => {
    header.push({ address: DATA + source + offset, bytes, value });
  };
  poke(24, 4, BigInt(r.oneIn(16) ? (r.u32() & ~0x20000) >>> 0 : r.below(0x10000)));
  poke(XSTATE_BV, 8, BigInt(inUse ? 3 : r.below(r.oneIn(8) ? 0x400 : 4) & ~FOREIGN));
  if (r.oneIn(2)) poke(XCOMP_BV, 8, COMPACTED | BigInt(r.oneIn(8) ? r.below(0x400) & ~FOREIGN : 3));
  else if (r.oneIn(12)) poke(XCOMP_BV + r.below(56), 1, 1n);

  // Without upper halves: widths of pointers differ, and so does whether there are selectors.
  const bytes = [...dword(RSI, 12), ...dword(RSI, 20), 0xb0, 3, ...wide(xrstor)];
  if (!inUse && r.oneIn(2)) bytes.push(...mask(), ...wide(r.pick([fxrstor, xrstor])));
  if (r.oneIn(3)) bytes.push(...mask());
  bytes.push(...wide(inUse ? r.pick(saves) : fxsave));
  // MXCSR_MASK, and in FXSAVE's place of the selectors what a 64-bit pointer leaves there.
  bytes.push(...dword(RDI, 28));
  const nothing = { undefinedFlags: 0, flagsAtFault: 0 };
  return { mode, step: false, at: r.below(64), rflags: 0x202, registers, bytes, pokes: header, ...nothing };
}
