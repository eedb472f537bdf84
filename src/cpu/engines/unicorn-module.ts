/**
 * Loads a unicorn.js module (`@alexaltea/unicorn-js`, an optional peer dependency, or a build of it named by KVMSCOPE_UNICORN) and says
 * which of its calls the engine uses. unicorn.js ships no types; `docs/api.md` of its repository describes the calls.
 */
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { KvmscopeError } from '../../errors.ts';

const PACKAGE = '@alexaltea/unicorn-js';
/** Environment variable with the path of a build's `unicorn_x86.js`. */
export const UNICORN_VARIABLE = 'KVMSCOPE_UNICORN';

/** One engine of a unicorn.js module. Errors are thrown as strings. */
export interface UnicornEngine {
  /** Address of the cell that holds the `uc_engine *`. */
  readonly handle_ptr: number;
  mem_map(address: bigint, size: number, permissions: number): void;
  mem_write(address: bigint, bytes: Uint8Array): void;
  mem_read(address: bigint, size: number): Uint8Array;
  reg_write(id: number, bytes: Uint8Array): void;
  reg_read_i32(id: number): number;
  reg_read_i64(id: number): bigint;
  reg_write_i64(id: number, value: bigint): void;
  /** For addresses from `begin` to `end`, if they are given; `userData` goes to the callback. */
  hook_add(
    type: number,
    callback: (...values: never[]) => unknown,
    userData?: unknown,
    begin?: number,
    end?: number,
  ): unknown;
  emu_start(begin: bigint, until: bigint, timeout: number, count: number): void;
  emu_stop(): void;
  context_alloc(): number;
  context_save(context: number): void;
  context_restore(context: number): void;
  /** What contexts hold: CTL_CONTEXT_CPU, CTL_CONTEXT_MEMORY. */
  ctl_context_mode(mode: number): void;
  ctl_set_cpu_model(model: number): void;
  ctl_tlb_mode(mode: number): void;
  ctl_flush_tlb(): void;
  ctl_flush_tb(): void;
  ctl_exits_enable(): void;
  ctl_set_exits(addresses: readonly bigint[]): void;
}

/** A unicorn.js module: an Emscripten runtime with the wrapper class, the raw C functions and constants. */
export interface UnicornModule {
  readonly Unicorn: new (architecture: number, mode: number) => UnicornEngine;
  readonly HEAPU8?: Uint8Array;
  readonly [
    constant: `${'ARCH' | 'MODE' | 'HOOK' | 'MEM' | 'PROT' | 'TLB' | 'CTL_CONTEXT' | 'X86_REG' | 'X86_INS' | 'CPU_X86'}_${string}`
  ]: number;
  getValue(address: number, type: string): number;
  setValue(address: number, value: number, type: string): void;
  /** Puts a callback into the function table; one letter per wasm type, result first. */
  addFunction(callback: (...values: never[]) => unknown, signature: string): number;
  writeArrayToMemory(bytes: Uint8Array, address: number): void;
  _malloc(size: number): number;
  _uc_hook_add(
    engine: number,
    hook: number,
    type: number,
    callback: number,
    userData: number,
    begin: bigint,
    end: bigint,
    variadic: number,
  ): number;
  _uc_reg_read_batch(engine: number, ids: number, values: number, count: number): number;
  _uc_reg_write_batch(engine: number, ids: number, values: number, count: number): number;
}

type Factory = (settings: object) => Promise<UnicornModule>;

/** The module's factory: from `path`, else from KVMSCOPE_UNICORN, else the installed package. Throws KvmscopeError('engine'). */
function findFactory(path: string | undefined): Factory {
  const require = createRequire(import.meta.url);
  const given = path ?? process.env[UNICORN_VARIABLE];
  let found: unknown;
  try {
    found = require(given ? resolve(given) : `${PACKAGE}/x86`);
  } catch (error) {
    const why = ((error as Error).message ?? String(error)).split('\n')[0];
    if (given) throw new KvmscopeError('engine', `no unicorn.js at '${given}': ${why}`);
    throw new KvmscopeError(
      'engine',
      `engine unicorn is not installed: npm install ${PACKAGE}, or set ${UNICORN_VARIABLE} to the path of a build's unicorn_x86.js`,
    );
  }
  if (typeof found === 'function') return found as Factory;
  throw new KvmscopeError('engine', `'${given ?? PACKAGE}' is not a unicorn.js module`);
}

/** A module of its own, with a memory of its own. Throws KvmscopeError('engine') if there is none or it lacks a call. */
export async function loadUnicorn(path?: string): Promise<UnicornModule> {
  const factory = findFactory(path);
  // Each instance installs process-wide handlers that would turn any error of this program into an abort of the module.
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => new Set<unknown>(process.listeners(event as 'uncaughtException')));
  const silent = (): void => {};
  const module = await factory({ print: silent, printErr: silent });
  events.forEach((event, i) => {
    for (const listener of process.listeners(event as 'uncaughtException')) {
      if (!before[i].has(listener)) process.removeListener(event, listener);
    }
  });
  for (const name of [
    'Unicorn',
    '_uc_hook_add',
    '_uc_reg_read_batch',
    '_uc_reg_write_batch',
    'HOOK_TLB_FILL',
  ] as const) {
    if (module[name as 'Unicorn'] === undefined) {
      throw new KvmscopeError('engine', `this unicorn.js is too old for engine unicorn: it has no ${name}; 2.1.4 has`);
    }
  }
  return module;
}
