/**
 * `kvmscope/unicorn`: the API of unicorn.js (x86) over our CPU core. `MUnicorn()` gives the module object, as the factory of
 * unicorn.js does:
 *
 *     const uc = await MUnicorn();
 *     const e = new uc.Unicorn(uc.ARCH_X86, uc.MODE_64);
 *
 * What differs is listed at the top of unicorn.ts. CommonJS programs `require` the same name.
 */
import { CONSTANTS as C, type Constants, strerror } from './constants.ts';
import { Unicorn } from './unicorn.ts';

export type * from './types.ts';
export { Unicorn } from './unicorn.ts';

/** The module object: constants, the engine class and a few functions. */
export interface UnicornModule extends Constants {
  readonly Unicorn: typeof Unicorn;
  /** major << 24 | minor << 16 | patch << 8 | extra. */
  version(): number;
  /** 1 if engines of an ARCH_* can be opened, else 0. */
  arch_supported(arch: number): number;
  /** The text of an ERR_* code. */
  strerror(code: number): string;
  /** Control words for Unicorn.ctl(): a CTL_* type, the number of arguments, and for CTL a CTL_IO_* direction. */
  CTL(type: number, nr: number, rw: number): number;
  CTL_NONE(type: number, nr: number): number;
  CTL_READ(type: number, nr: number): number;
  CTL_WRITE(type: number, nr: number): number;
  CTL_READ_WRITE(type: number, nr: number): number;
}

const word = (type: number, nr: number, rw: number): number => (type | (nr << 26) | (rw << 30)) >>> 0;

/** A module object; engines of one are independent of those of another. */
export default async function MUnicorn(): Promise<UnicornModule> {
  return {
    ...C,
    Unicorn,
    version: () => ((C.VERSION_MAJOR << 24) | (C.VERSION_MINOR << 16) | (C.VERSION_PATCH << 8) | C.VERSION_EXTRA) >>> 0,
    arch_supported: (arch) => (arch === C.ARCH_X86 ? 1 : 0),
    strerror,
    CTL: word,
    CTL_NONE: (type, nr) => word(type, nr, C.CTL_IO_NONE),
    CTL_READ: (type, nr) => word(type, nr, C.CTL_IO_READ),
    CTL_WRITE: (type, nr) => word(type, nr, C.CTL_IO_WRITE),
    CTL_READ_WRITE: (type, nr) => word(type, nr, C.CTL_IO_READ_WRITE),
  };
}
