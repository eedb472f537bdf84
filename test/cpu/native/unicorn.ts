/** Debian's Unicorn library as a third voice: what it says of cases that the processor and the core have run. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { deserialize, serialize } from 'node:v8';
import { koffi } from '../../../src/cpu/engines/koffi.ts';
import { differences } from './compare.ts';
import { type Form, PRIVILEGED } from './forms.ts';
import { FX_MXCSR } from './fp-values.ts';
import { CODE, CODE_BYTES, CODE16, COMPAT32, DONE, type Image, type NativeCase, type Outcome } from './layout.ts';

const RUNNER = fileURLToPath(new URL('unicorn-runner.ts', import.meta.url));
/** The vector of a case that the library did not survive. */
export const DIED = 0x300;

/** Why Unicorn cannot be asked here, or undefined if it can. */
export function unicornUnavailable(): string | undefined {
  const k = koffi();
  if (!k) return 'needs the npm package koffi';
  try {
    k.load('libunicorn.so.2').unload();
  } catch (error) {
    return `needs libunicorn.so.2 (${(error as Error).message})`;
  }
  return undefined;
}

/** Handlers that Unicorn 2.0.1 is known to do differently, and how. */
export const UNICORN_DIFFERS: Readonly<Record<string, string>> = {
  ...Object.fromEntries([...PRIVILEGED].map((handler) => [handler, 'runs at CPL 0'])),
  ...{ POPF: 'runs at CPL 0', SET_AC: 'runs at CPL 0' },
  RDPMC: 'is #UD',
  ...{ LAR: 'has no GDT', LSL: 'has no GDT', VERR: 'has no GDT', VERW: 'has no GDT' },
  ...{ MOV_ES: 'has no selectors', PUSH_SEG: 'has no selectors' },
  TEST_EI: 'F6 /1 and F7 /1 are #UD',
  NOP: 'register forms of 0F 18 are #UD',
  CLFLUSH: 'does not look at the address',
  ENTER: 'does not probe the new top of the stack',
  RET_I: 'takes the immediate for signed',
  ...{ LAHF: 'uses SPL for AH behind a REX prefix', SAHF: 'uses SPL for AH behind a REX prefix' },
  CMPXCHG: 'clears the upper half of a 32-bit destination that it does not write',
  ...{ BSF: 'clears the upper half of what it does not write', BSR: 'clears the upper half of what it does not write' },
  ...{ PDEP: 'has dirty upper halves in 32-bit forms', PEXT: 'has dirty upper halves in 32-bit forms' },
  ...{ BZHI: 'has dirty upper halves in 32-bit forms', BEXTR: 'has dirty upper halves in 32-bit forms' },
  ADX: 'takes F3 behind 66 for 66',
  POPCNT: 'is #UD with an operand size of 16 bits',
  BLS: 'has the wrong CF after BLSI',
  MULX: 'has dirty upper halves in 32-bit forms',
  ...Object.fromEntries(
    'MINF MAXF ADDF SUBF MULF DIVF SQRTF HADDF HSUBF ADDSUBF CVT_VW ROUNDF DPF COMISF'
      .split(' ')
      .map((handler) => [handler, 'knows nothing of MXCSR.DAZ and rounds some denormals differently']),
  ),
  CMPF: 'is #UD with predicates above 7',
  ...{ FXSAVE: 'stores other registers', FXRSTOR: 'loads other registers' },
  LDMXCSR: 'takes reserved bits',
  ...{ PHADDW: 'is wrong if both operands are one register', PHADDD: 'is wrong if both operands are one register' },
  ...{ PHADDSW: 'is wrong if both operands are one register', PHSUBW: 'is wrong if both operands are one register' },
  ...{ PHSUBD: 'is wrong if both operands are one register', PHSUBSW: 'is wrong if both operands are one register' },
  PCMPSTR: 'aborts',
  ...{ SHLD_I: 'is wrong for some counts', SHLD_CL: 'is wrong for some counts' },
  ...{ SHRD_I: 'is wrong for some counts', SHRD_CL: 'is wrong for some counts' },
};

/** The same by attribute of the row. */
export const UNICORN_DIFFERS_BY_STATE: Readonly<Record<string, string>> = {
  x87: 'has no stack faults and few of the status flags',
  mmx: 'leaves bits 79:64 of the x87 registers as they were',
};
/** Features of which it does the instructions; it knows others by name only, or not at all. */
const UNICORN_FEATURES: ReadonlySet<string> = new Set(
  '3dnowprefetch abm adx aes bmi1 bmi2 clflush cmov cx16 cx8 fxsr popcnt pni sse sse2 sse4_1 sse4_2 ssse3'.split(' '),
);
/** Why Unicorn is no judge of a form, or undefined if it is one. */
export const differsInUnicorn = (form: Form): string | undefined =>
  (form.feature === undefined || UNICORN_FEATURES.has(form.feature) ? undefined : `lacks ${form.feature}`) ??
  UNICORN_DIFFERS[form.handler] ??
  form.row.attributes.map((name) => UNICORN_DIFFERS_BY_STATE[name]).find((why) => why !== undefined);

/** Why a case cannot be put to Unicorn, or undefined if it can. */
export function unsuitable(c: NativeCase): string | undefined {
  const has = (...bytes: number[]): boolean => c.bytes.some((byte) => bytes.includes(byte));
  if (c.mode === CODE16) return 'has no 16-bit protected mode to set up';
  if (c.mode === COMPAT32 && has(0x2e, 0x64, 0x65)) return 'has only flat segments';
  if (c.at + c.bytes.length > CODE_BYTES - 16) return 'reads ahead of an instruction at the end of a page';
  if (has(0xf0)) return 'takes LOCK where it is not allowed';
  if (c.fx && has(0x66) && has(0xf2, 0xf3)) return 'prefers 66 to F2 and F3';
  if (c.step && has(0xf2, 0xf3)) return 'counts a repeated instruction as one';
  return undefined;
}

/** Faults of memory accesses: Unicorn has one error for all of them. */
const isAccessFault = (vector: number): boolean => vector >= 12 && vector <= 14;

/** What differs between Unicorn and another outcome, as far as Unicorn can tell: of an exception the vector alone. */
export function unicornDifferences(c: NativeCase, unicorn: Outcome, other: Outcome): string[] {
  if (other.trap !== DONE) {
    // It raises no SIMD floating-point exceptions.
    if (other.trap === 19) return [];
    if (unicorn.trap === other.trap || (isAccessFault(unicorn.trap) && isAccessFault(other.trap))) return [];
    // It does not check alignment, and its code pages are writable.
    if (other.trap === 13 && c.fx) return [];
    if (other.trap === 14 && other.error & 2 && other.cr2 >= CODE - 16 && other.cr2 < CODE + CODE_BYTES) return [];
    return [`trap: processor 0x${other.trap.toString(16)}, core 0x${unicorn.trap.toString(16)}`];
  }
  // It looks for the next instruction before it stops.
  const trap = isAccessFault(unicorn.trap) ? DONE : unicorn.trap;
  return differences(c, other, { ...unicorn, trap, fx: unicorn.fx && other.fx && withFlagsOf(unicorn.fx, other.fx) });
}

/** It keeps no exception flags in MXCSR: those of another image instead. */
function withFlagsOf(fx: Uint8Array, other: Uint8Array): Uint8Array {
  const out = fx.slice();
  out[FX_MXCSR] = ((fx[FX_MXCSR] as number) & ~0x3f) | ((other[FX_MXCSR] as number) & 0x3f);
  return out;
}

/** Executes the cases on Unicorn. A case that kills the library has the vector DIED. */
export function ask(image: Image, cases: readonly NativeCase[]): Outcome[] {
  const outcomes: Outcome[] = [];
  while (outcomes.length < cases.length) {
    const result = spawnSync(process.execPath, ['--import', 'tsx', RUNNER], {
      input: serialize({ image, cases: cases.slice(outcomes.length) }),
      maxBuffer: 2 ** 30,
      timeout: 600_000,
    });
    const { stdout, stderr, status } = result;
    let at = 0;
    while (at + 4 <= stdout.length) {
      const length = stdout.readUInt32LE(at);
      if (at + 4 + length > stdout.length) break;
      outcomes.push(deserialize(stdout.subarray(at + 4, at + 4 + length)) as Outcome);
      at += 4 + length;
    }
    if (status === 0) break;
    if (status !== null) throw new Error(`the Unicorn runner ended with ${status}: ${stderr}`);
    outcomes.push({
      ...{ trap: DIED, error: 0, cr2: 0n, rip: 0n, rflags: 0, registers: new BigUint64Array(16) },
      ...{ changed: 0, hash: 0, words: [] },
    });
  }
  return outcomes;
}
