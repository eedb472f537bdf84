/**
 * What the native runner (`runner.c`) and the model (`model.ts`) agree on: linear addresses, modes, and the binary records.
 *
 *     0x10000000 code, 2 pages, read-execute      0x20000000 data, 2 pages, read-write      0x20003000 data, read-only
 *     0x30000000 stack, 1 page, read-write        everything else below 4 GiB is not mapped
 */
import { FX_BYTES } from './fp-values.ts';

export const PAGE = 4096;
export const CODE = 0x10000000;
export const CODE_BYTES = 2 * PAGE;
export const DATA = 0x20000000;
export const DATA_BYTES = 2 * PAGE;
export const READONLY = 0x20003000;
export const STACK = 0x30000000;
export const FS_BASE = DATA + 0x123;
export const GS_BASE = DATA + 0x456;

export const LONG = 0;
export const COMPAT32 = 1;
export const CODE16 = 2;
/** 64-bit code; 32-bit code with flat segments; 16-bit code with small segments and a 16-bit stack. */
export type Mode = typeof LONG | typeof COMPAT32 | typeof CODE16;
export const BITS: readonly [64, 32, 16] = [64, 32, 16];

/** Segments of 16-bit code by number (ES, CS, SS, DS): selector, base, limit. */
export const SEGMENTS16 = [
  { selector: 0x17, base: DATA + 0x80, limit: 0x17ff },
  { selector: 0x07, base: CODE, limit: CODE_BYTES - 1 },
  { selector: 0x1f, base: STACK, limit: PAGE - 1 },
  { selector: 0x0f, base: DATA, limit: DATA_BYTES - 1 },
] as const;

/** Vector reported when the code ran to its end. */
export const DONE = 0x100;
/** Changed words that are reported by value. */
export const WORDS = 12;
const MAGIC = 0x4e41544e;
export const HEADER_BYTES = 16 + DATA_BYTES + 2 * PAGE;
export const CASE_BYTES = 280;
export const OUTCOME_BYTES = 272;

export interface Poke {
  readonly address: number;
  readonly bytes: number;
  readonly value: bigint;
}

/** A range of memory whose contents are not compared. */
export interface Blank {
  readonly address: number;
  readonly bytes: number;
}

export interface NativeCase {
  readonly mode: Mode;
  /** Stop after one instruction (or one iteration); otherwise at the INT3 that follows the code. */
  readonly step: boolean;
  /** Offset of the code in the code pages. */
  readonly at: number;
  readonly rflags: number;
  /** RAX … R15 in encoding order. */
  readonly registers: BigUint64Array;
  readonly bytes: readonly number[];
  readonly pokes: readonly Poke[];
  /** x87, MMX and SSE registers: the first FX_BYTES bytes of an FXSAVE image. Without them the registers are those after FNINIT and are not compared. */
  readonly fx?: Uint8Array | undefined;
  readonly blank?: Blank | undefined;
  /** RFLAGS bits that the code leaves undefined. */
  readonly undefinedFlags: number;
  /** Those that may be undefined if a later instruction of a sequence faults. */
  readonly flagsAtFault: number;
  /** Bits of a register that the instruction leaves undefined. */
  readonly undefinedBits?: { readonly register: number; readonly bits: bigint } | undefined;
  /** Units in the last place by which x87 results may differ, and C1 with them. */
  readonly ulps?: number | undefined;
  /** The instruction makes several accesses; if one faults, registers and memory may show the others. */
  readonly partial?: boolean;
  /** The instruction with only the other of its two memory operands: where both fault, either fault may be reported. */
  readonly second?: readonly number[] | undefined;
}

export interface Fault {
  /** Exception vector, DONE, or 0x1000 and more for an exit the processor knows nothing of. */
  readonly trap: number;
  readonly error: number;
  /** Linear address of a #PF. */
  readonly cr2: bigint;
}

export interface Outcome extends Fault {
  /** What the operand of `NativeCase.second` faults with. */
  readonly second?: Fault | undefined;
  readonly rip: bigint;
  readonly rflags: number;
  readonly registers: BigUint64Array;
  /** For a case with such state: FX_BYTES bytes of an FXSAVE image. */
  readonly fx?: Uint8Array | undefined;
  /** 32-bit words of data and stack that differ from the image: how many, FNV-1a over (address, value), the first WORDS. */
  readonly changed: number;
  readonly hash: number;
  readonly words: readonly { readonly address: number; readonly value: number }[];
}

/** Contents of data (two pages), the read-only page and the stack before each case. */
export interface Image {
  readonly data: Uint8Array;
  readonly readonly: Uint8Array;
  readonly stack: Uint8Array;
}

/** The cases that carry x87, MMX and SSE state, in the order in which their images are passed. */
const withState = (cases: readonly NativeCase[]): NativeCase[] => cases.filter((c) => c.fx);

export function encodeInput(image: Image, cases: readonly NativeCase[]): Buffer {
  const states = withState(cases);
  const fxAt = HEADER_BYTES + CASE_BYTES * cases.length;
  const out = Buffer.alloc(fxAt + FX_BYTES * states.length);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt32LE(cases.length, 4);
  out.writeUInt32LE(states.length, 8);
  out.set(image.data, 16);
  out.set(image.readonly, 16 + DATA_BYTES);
  out.set(image.stack, 16 + DATA_BYTES + PAGE);
  let fx = 0;
  cases.forEach((c, n) => {
    const at = HEADER_BYTES + n * CASE_BYTES;
    out[at] = c.mode;
    out[at + 1] = c.step ? 1 : 0;
    out[at + 2] = c.bytes.length;
    out[at + 3] = c.pokes.length;
    out.writeUInt32LE(c.at, at + 4);
    out.writeUInt32LE(c.rflags, at + 8);
    out.writeUInt32LE(c.fx ? ++fx : 0, at + 12);
    out.writeUInt32LE(c.blank?.address ?? 0, at + 16);
    out.writeUInt32LE(c.blank?.bytes ?? 0, at + 20);
    out.set(new Uint8Array(c.registers.buffer, c.registers.byteOffset, 128), at + 24);
    out.set(c.bytes, at + 152);
    c.pokes.forEach((poke, i) => {
      out.writeUInt32LE(poke.address, at + 216 + i * 16);
      out.writeUInt32LE(poke.bytes, at + 220 + i * 16);
      out.writeBigUInt64LE(poke.value, at + 224 + i * 16);
    });
  });
  states.forEach((c, n) => {
    out.set(c.fx as Uint8Array, fxAt + n * FX_BYTES);
  });
  return out;
}

/** Bytes that the runner writes for the cases. */
export const outputBytes = (cases: readonly NativeCase[]): number =>
  OUTCOME_BYTES * cases.length + FX_BYTES * withState(cases).length;

export function decodeOutcomes(from: Buffer, cases: readonly NativeCase[]): Outcome[] {
  let fx = OUTCOME_BYTES * cases.length;
  return cases.map((c, n) => {
    const outcome = decodeOutcome(from, n);
    if (!c.fx) return outcome;
    fx += FX_BYTES;
    return { ...outcome, fx: from.subarray(fx - FX_BYTES, fx) };
  });
}

function decodeOutcome(from: Buffer, n: number): Outcome {
  const at = n * OUTCOME_BYTES;
  const changed = from.readUInt32LE(at + 4);
  return {
    trap: from.readUInt32LE(at),
    changed,
    error: from.readUInt32LE(at + 8),
    cr2: from.readBigUInt64LE(at + 16),
    rip: from.readBigUInt64LE(at + 24),
    rflags: from.readUInt32LE(at + 32),
    registers: BigUint64Array.from({ length: 16 }, (_, i) => from.readBigUInt64LE(at + 40 + i * 8)),
    hash: from.readUInt32LE(at + 168),
    words: Array.from({ length: Math.min(changed, WORDS) }, (_, i) => ({
      address: from.readUInt32LE(at + 176 + i * 8),
      value: from.readUInt32LE(at + 180 + i * 8),
    })),
  };
}
