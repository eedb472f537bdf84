/** Engines with a program for the specs of the API. */
import { assemble } from '../program/assembler.ts';
import MUnicorn, { type Unicorn } from './index.ts';

export const uc = await MUnicorn();

/** Where programs begin; one page of code follows, and one page of data at DATA. */
export const CODE = 0x1000;
export const DATA = 0x2000;
export const STACK = 0x4000;

export interface Loaded {
  readonly e: Unicorn;
  readonly end: number;
  /** Addresses of labels. */
  at(label: string): bigint;
  /** emu_start from the beginning to the end, or to a label. */
  run(until?: string, timeout?: number, count?: number): void;
  get(name: string): bigint;
  set(name: string, value: bigint | number): void;
}

/** An engine with `source` at CODE, data at DATA and a stack below STACK. */
export function load(source: string, mode: number = uc.MODE_64): Loaded {
  const bits = mode === uc.MODE_64 ? 64 : mode === uc.MODE_32 ? 32 : 16;
  const { bytes, symbols } = assemble(source, { fileName: 'test.S', origin: CODE, bits });
  const e = new uc.Unicorn(uc.ARCH_X86, mode);
  e.mem_map(CODE, 0x3000, uc.PROT_ALL);
  e.mem_write(CODE, bytes);
  e.reg_write_i64(uc.X86_REG_RSP, STACK);
  const id = (name: string): number => (uc as unknown as Record<string, number>)[`X86_REG_${name.toUpperCase()}`];
  const end = CODE + bytes.length;
  const at = (label: string): bigint => symbols.get(label) as bigint;
  return {
    e,
    end,
    at,
    run: (until, timeout = 0, count = 0) => e.emu_start(CODE, until === undefined ? end : at(until), timeout, count),
    get: (name) => e.reg_read_u64(id(name)),
    set: (name, value) => e.reg_write_i64(id(name), value),
  };
}

/** The code in the string that a call throws; 0 if it throws nothing. */
export function codeOf(call: () => unknown): number {
  try {
    call();
    return 0;
  } catch (error) {
    if (typeof error !== 'string') throw error;
    return Number(/^Unicorn\.js: Function uc_\w+ failed with code (\d+):\n/.exec(error)?.[1]);
  }
}
