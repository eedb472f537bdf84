/** The shapes of callbacks and results. `E` is the engine, `T` the user data given to hook_add(). */

/** A block of code: its address, number of instructions and size in bytes. */
export interface TranslationBlock {
  readonly pc: bigint;
  readonly icount: number;
  readonly size: number;
}

/** What a TLB_FILL callback fills in: the physical page and PROT_* bits of a virtual page. */
export interface TlbEntry {
  paddr: bigint;
  perms: number;
}

/** HOOK_CODE and HOOK_BLOCK: address, and size in bytes of the instruction or block. */
export type CodeCallback<E, T> = (engine: E, address: bigint, size: number, user_data: T) => void;
/** HOOK_INTR: vector of an exception or INT n. */
export type InterruptCallback<E, T> = (engine: E, intno: number, user_data: T) => void;
/** HOOK_MEM_READ, WRITE, FETCH, READ_AFTER; `type` is MEM_*, `value` as a signed 64-bit integer. */
export type MemoryCallback<E, T> = (
  engine: E,
  type: number,
  address: bigint,
  size: number,
  value: bigint,
  user_data: T,
) => void;
/** HOOK_MEM_*_UNMAPPED and *_PROT: true when the cause is removed and the access is to be tried again. */
export type MemoryEventCallback<E, T> = (
  engine: E,
  type: number,
  address: bigint,
  size: number,
  value: bigint,
  user_data: T,
) => unknown;
/** HOOK_INSN_INVALID: true to go on at RIP. */
export type InvalidCallback<E, T> = (engine: E, user_data: T) => unknown;
/** HOOK_INSN but IN and OUT: true: the callback has done what the instruction does. */
export type InstructionCallback<E, T> = (engine: E, user_data: T) => unknown;
/** HOOK_INSN with X86_INS_IN: the value read. */
export type InCallback<E, T> = (engine: E, port: number, size: number, user_data: T) => number;
/** HOOK_INSN with X86_INS_OUT. */
export type OutCallback<E, T> = (engine: E, port: number, size: number, value: number, user_data: T) => void;
/** HOOK_EDGE_GENERATED: a block runs for the first time, and the block before it. */
export type EdgeCallback<E, T> = (
  engine: E,
  current: TranslationBlock,
  previous: TranslationBlock,
  user_data: T,
) => void;
/** HOOK_TLB_FILL: true when `entry` is filled in. */
export type TlbCallback<E, T> = (engine: E, address: bigint, type: number, entry: TlbEntry, user_data: T) => unknown;

/** mmio_map(): offsets count from the start of the mapping. */
export type MmioReadCallback<E, T> = (engine: E, offset: bigint, size: number, user_data: T) => number | bigint;
export type MmioWriteCallback<E, T> = (engine: E, offset: bigint, size: number, value: bigint, user_data: T) => void;

/** What hook_add() returns and hook_del() takes. */
export interface Hook {
  readonly handle: number;
  readonly callback: unknown;
}
export interface MemRegion {
  readonly begin: bigint;
  /** Last address. */
  readonly end: bigint;
  readonly perms: number;
}
/** The last exception or INT n; address is that of a #PF. */
export interface ExceptionInfo {
  readonly vector: number;
  readonly error_code: number | null;
  readonly address: bigint;
}
/** Names of the scalar types of the typed accessors. */
export type ScalarType = 'i8' | 'i16' | 'i32' | 'i64' | 'float' | 'double';
export interface CtlArgument {
  readonly type: 'i32' | 'i64' | 'ptr';
  /** For 'ptr' an array that is read or filled. */
  readonly value?: number | bigint | { [index: number]: number | bigint; readonly length: number };
}
