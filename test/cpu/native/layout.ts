/**
 * What the native runner (`runner.c`) and the model (`model.ts`) agree on: linear addresses, modes, and the binary records.
 *
 *     0x10000000 code, 2 pages, read-execute      0x20000000 data, 2 pages, read-write      0x20003000 data, read-only
 *     0x30000000 stack, 1 page, read-write        everything else below 4 GiB is not mapped
 */
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
export const HEADER_BYTES = 8 + DATA_BYTES + 2 * PAGE;
export const CASE_BYTES = 272;
export const OUTCOME_BYTES = 272;

export interface Poke {
  readonly address: number;
  readonly bytes: number;
  readonly value: bigint;
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
  /** RFLAGS bits that the code leaves undefined. */
  readonly undefinedFlags: number;
  /** Those that may be undefined if a later instruction of a sequence faults. */
  readonly flagsAtFault: number;
  /** Bits of a register that the instruction leaves undefined. */
  readonly undefinedBits?: { readonly register: number; readonly bits: bigint } | undefined;
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

export function encodeInput(image: Image, cases: readonly NativeCase[]): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + CASE_BYTES * cases.length);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt32LE(cases.length, 4);
  out.set(image.data, 8);
  out.set(image.readonly, 8 + DATA_BYTES);
  out.set(image.stack, 8 + DATA_BYTES + PAGE);
  cases.forEach((c, n) => {
    const at = HEADER_BYTES + n * CASE_BYTES;
    out[at] = c.mode;
    out[at + 1] = c.step ? 1 : 0;
    out[at + 2] = c.bytes.length;
    out[at + 3] = c.pokes.length;
    out.writeUInt32LE(c.at, at + 4);
    out.writeUInt32LE(c.rflags, at + 8);
    out.set(new Uint8Array(c.registers.buffer, c.registers.byteOffset, 128), at + 16);
    out.set(c.bytes, at + 144);
    c.pokes.forEach((poke, i) => {
      out.writeUInt32LE(poke.address, at + 208 + i * 16);
      out.writeUInt32LE(poke.bytes, at + 212 + i * 16);
      out.writeBigUInt64LE(poke.value, at + 216 + i * 16);
    });
  });
  return out;
}

export function decodeOutcome(from: Buffer, n: number): Outcome {
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
