/**
 * Executes cases on Debian's Unicorn library. A process of its own, because some code makes the library abort. stdin: {image, cases} as
 * v8.serialize() writes it; stdout: for each case the length of its serialized outcome (u32, little-endian), then the outcome.
 */
import { readFileSync, writeSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { type Koffi, koffi } from '../../../src/cpu/engines/koffi.ts';
import { FX_BYTES, FX_FCW, FX_FSW, FX_FTW, FX_MXCSR, FX_ST, FX_XMM } from './fp-values.ts';
import {
  CODE,
  CODE_BYTES,
  DATA,
  DATA_BYTES,
  DONE,
  FS_BASE,
  GS_BASE,
  type Image,
  LONG,
  type NativeCase,
  type Outcome,
  PAGE,
  READONLY,
  STACK,
  WORDS,
} from './layout.ts';

const k = koffi() as Koffi;
const library = k.load('libunicorn.so.2');
const open = library.func('int uc_open(int arch, int mode, _Out_ void **engine)');
const map = library.func('int uc_mem_map(void *engine, uint64_t address, size_t size, uint32_t protection)');
const write = library.func('int uc_mem_write(void *engine, uint64_t address, void *bytes, size_t size)');
const read = library.func('int uc_mem_read(void *engine, uint64_t address, void *bytes, size_t size)');
const writeRegisters = library.func('int uc_reg_write_batch(void *engine, void *names, void *values, int count)');
const readRegisters = library.func('int uc_reg_read_batch(void *engine, void *names, void *values, int count)');
const start = library.func(
  'int uc_emu_start(void *engine, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)',
);
const control = library.func('int uc_ctl(void *engine, uint32_t control, uint64_t first, uint64_t second)');
const allocateContext = library.func('int uc_context_alloc(void *engine, _Out_ void **context)');
const saveContext = library.func('int uc_context_save(void *engine, void *context)');
const restoreContext = library.func('int uc_context_restore(void *engine, void *context)');
const stop = library.func('int uc_emu_stop(void *engine)');
const hook = library.func(
  'int uc_hook_add(void *engine, _Out_ size_t *hook, int type, void *callback, void *data, uint64_t begin, uint64_t end)',
);
const interrupt = k.proto('void OnInterrupt(void *engine, uint32_t number, void *data)');

// unicorn.h and x86.h of Unicorn 2.
const ARCH_X86 = 4;
const MODE = { 32: 4, 64: 8 } as const;
const PROTECTION = { read: 1, write: 2, execute: 4 } as const;
const HOOK_INTR = 1;
/** UC_CTL_WRITE(UC_CTL_TB_REMOVE_CACHE, 2) and UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1). */
const REMOVE_CACHE = 9 | (2 << 26) | (1 << 30);
const CPU_MODEL = 7 | (1 << 26) | (1 << 30);
/** The plain model lacks MOVBE, BMI and ADX. */
const BROADWELL = 20;
/** uc_err to the vector of the exception it stands for; others are exceptions of unknown vector. */
const VECTORS: Readonly<Record<number, number>> = { 6: 14, 7: 14, 8: 14, 12: 14, 13: 14, 14: 14, 10: 6 };
const UNKNOWN_VECTOR = 0x200;
const GPR64 = [35, 38, 40, 37, 44, 36, 43, 39, 106, 107, 108, 109, 110, 111, 112, 113];
const GPR32 = [19, 22, 24, 21, 30, 20, 29, 23];
const [EFLAGS, RIP, EIP, FPCW, FPSW, FPTAG, MXCSR, FS, GS, ST0, XMM0] = [
  25, 41, 26, 246, 31, 247, 249, 250, 251, 114, 122,
];

/** What surrounds the code of a case. */
const FILLER = new Uint8Array(PAGE).fill(0xcc);

/** Native memory: koffi passes its address, and a view of it reads and writes the same bytes. */
function nativeBytes(length: number): { pointer: unknown; address: bigint; bytes: Uint8Array; view: DataView } {
  const pointer = k.alloc('uint8_t', length);
  const buffer = k.view(pointer, length);
  return { pointer, address: k.address(pointer), bytes: new Uint8Array(buffer), view: new DataView(buffer) };
}

/** A fixed list of registers, 16 bytes of value each, read or written in one call. */
class RegisterList {
  readonly #names: ReturnType<typeof nativeBytes>;
  readonly #pointers: ReturnType<typeof nativeBytes>;
  readonly #count: number;
  readonly values: ReturnType<typeof nativeBytes>;
  constructor(names: readonly number[]) {
    this.#count = names.length;
    this.#names = nativeBytes(names.length * 4);
    this.#pointers = nativeBytes(names.length * 8);
    this.values = nativeBytes(names.length * 16);
    names.forEach((name, n) => {
      this.#names.view.setInt32(n * 4, name, true);
      this.#pointers.view.setBigUint64(n * 8, this.values.address + BigInt(n * 16), true);
    });
  }
  write(engine: unknown): void {
    writeRegisters(engine, this.#names.pointer, this.#pointers.pointer, this.#count);
  }
  read(engine: unknown): void {
    this.values.bytes.fill(0);
    readRegisters(engine, this.#names.pointer, this.#pointers.pointer, this.#count);
  }
}

const { image, cases } = deserialize(readFileSync(0)) as { image: Image; cases: readonly NativeCase[] };
const writable: readonly (readonly [number, Uint8Array])[] = [
  [DATA, image.data.subarray(0, PAGE)],
  [DATA + PAGE, image.data.subarray(PAGE)],
  [STACK, image.stack],
];

class Unicorn {
  readonly #engine: unknown;
  readonly #long: boolean;
  readonly #integer: RegisterList;
  readonly #state: RegisterList;
  readonly #page = nativeBytes(PAGE);
  readonly #fresh: unknown;
  #interrupt = -1;

  constructor(bits: 32 | 64) {
    const out: [unknown] = [undefined];
    if (open(ARCH_X86, MODE[bits], out) !== 0) throw new Error('uc_open failed');
    this.#engine = out[0];
    this.#long = bits === 64;
    control(this.#engine, CPU_MODEL, BROADWELL, 0);
    const { read, write, execute } = PROTECTION;
    for (const [address, bytes, protection] of [
      // Writable, because Unicorn takes long to write what is not.
      [CODE, CODE_BYTES, read | write | execute],
      [DATA, DATA_BYTES, read | write],
      [READONLY, PAGE, read],
      [STACK, PAGE, read | write],
    ] as const) {
      map(this.#engine, address, bytes, protection);
    }
    for (let page = 0; page < CODE_BYTES; page += PAGE) this.#put(CODE + page, FILLER);
    this.#put(READONLY, image.readonly);
    for (const [address, bytes] of writable) this.#put(address, bytes);
    const own = this.#long ? [...GPR64, EFLAGS, RIP, FS, GS] : [...GPR32, EFLAGS, EIP];
    this.#integer = new RegisterList(own as number[]);
    const vectors = this.#long ? 16 : 8;
    this.#state = new RegisterList([
      ...([FPCW, FPSW, FPTAG, MXCSR] as number[]),
      ...Array.from({ length: 8 }, (_, n) => (ST0 as number) + n),
      ...Array.from({ length: vectors }, (_, n) => (XMM0 as number) + n),
    ]);
    const callback = k.register((_engine: never, number: never) => {
      this.#interrupt = number;
      stop(this.#engine);
    }, k.pointer(interrupt));
    hook(this.#engine, [0n], HOOK_INTR, callback, null, 1n, 0n);
    const context: [unknown] = [undefined];
    allocateContext(this.#engine, context);
    this.#fresh = context[0];
    saveContext(this.#engine, this.#fresh);
  }

  #put(address: number, bytes: Uint8Array): void {
    write(this.#engine, address, Buffer.from(bytes), bytes.length);
  }

  run(c: NativeCase): Outcome {
    // An exception stays pending inside the engine, and with it the next one becomes a double fault.
    restoreContext(this.#engine, this.#fresh);
    control(this.#engine, REMOVE_CACHE, CODE, CODE + CODE_BYTES);
    this.#put(CODE + c.at, Uint8Array.from(c.bytes.slice(0, CODE_BYTES - c.at)));
    for (const { address, bytes, value } of c.pokes) {
      this.#put(
        address,
        Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(i * 8)) & 0xffn)),
      );
    }
    const begin = CODE + c.at;
    const { view } = this.#integer.values;
    const count = this.#long ? 16 : 8;
    for (let n = 0; n < count; n++) view.setBigUint64(n * 16, c.registers[n] as bigint, true);
    view.setUint32(count * 16, c.rflags, true);
    view.setBigUint64(count * 16 + 16, BigInt(begin), true);
    if (this.#long) {
      view.setBigUint64(count * 16 + 32, BigInt(FS_BASE), true);
      view.setBigUint64(count * 16 + 48, BigInt(GS_BASE), true);
    }
    this.#integer.write(this.#engine);
    if (c.fx) this.#putState(c.fx);
    this.#interrupt = -1;
    const error = start(this.#engine, begin, 0, 0, c.step ? 1 : 100_000);

    let trap = this.#interrupt >= 0 ? this.#interrupt : error === 0 ? DONE : (VECTORS[error] ?? UNKNOWN_VECTOR);
    this.#integer.read(this.#engine);
    let rip = view.getBigUint64(count * 16 + 16, true);
    if (!c.step && trap === 3 && rip > BigInt(begin + c.bytes.length)) {
      trap = DONE;
      rip--;
    }
    this.#healCode();
    return {
      ...{ trap, error: 0, cr2: 0n, rip, rflags: view.getUint32(count * 16, true) },
      registers: BigUint64Array.from({ length: 16 }, (_, n) => (n < count ? view.getBigUint64(n * 16, true) : 0n)),
      fx: c.fx && this.#getState(),
      ...this.#changes(c),
    };
  }

  #putState(fx: Uint8Array): void {
    const { bytes, view } = this.#state.values;
    const from = new DataView(fx.buffer, fx.byteOffset, FX_BYTES);
    view.setUint16(0, from.getUint16(FX_FCW, true), true);
    view.setUint16(16, from.getUint16(FX_FSW, true), true);
    // The full tag word; of a register in use Unicorn looks only whether it is empty.
    let tags = 0;
    for (let n = 0; n < 8; n++) if (((fx[FX_FTW] as number) & (1 << n)) === 0) tags |= 3 << (n * 2);
    view.setUint16(32, tags, true);
    view.setUint32(48, from.getUint32(FX_MXCSR, true), true);
    bytes.set(fx.subarray(FX_ST, FX_ST + 128), 64);
    bytes.set(fx.subarray(FX_XMM, FX_XMM + bytes.length - 192), 192);
    this.#state.write(this.#engine);
  }
  /** Unicorn let the case write where the processor would not: the code is to be as it was. */
  #healCode(): void {
    for (let page = CODE; page < CODE + CODE_BYTES; page += PAGE) {
      read(this.#engine, page, this.#page.pointer, PAGE);
      if (Buffer.compare(this.#page.bytes, FILLER) !== 0) this.#put(page, FILLER);
    }
  }
  #getState(): Uint8Array {
    this.#state.read(this.#engine);
    const { bytes, view } = this.#state.values;
    const fx = new Uint8Array(FX_BYTES);
    const to = new DataView(fx.buffer);
    to.setUint16(FX_FCW, view.getUint16(0, true), true);
    to.setUint16(FX_FSW, view.getUint16(16, true), true);
    const tags = view.getUint16(32, true);
    for (let n = 0; n < 8; n++) if (((tags >> (n * 2)) & 3) !== 3) (fx[FX_FTW] as number) |= 1 << n;
    to.setUint32(FX_MXCSR, view.getUint32(48, true), true);
    for (let n = 0; n < 8; n++) fx.set(bytes.subarray(64 + n * 16, 74 + n * 16), FX_ST + n * 16);
    fx.set(bytes.subarray(192), FX_XMM);
    return fx;
  }

  /** Notes what differs from the image, and undoes it. */
  #changes(c: NativeCase): Pick<Outcome, 'changed' | 'hash' | 'words'> {
    const words: { address: number; value: number }[] = [];
    let changed = 0;
    let hash = 2166136261;
    for (const [linear, was] of writable) {
      read(this.#engine, linear, this.#page.pointer, PAGE);
      const now = this.#page;
      if (c.blank && c.blank.address < linear + PAGE && c.blank.address + c.blank.bytes > linear) {
        for (let i = 0; i < c.blank.bytes; i++) {
          const at = c.blank.address + i - linear;
          if (at >= 0 && at < PAGE) now.bytes[at] = was[at] as number;
        }
      }
      if (Buffer.compare(now.bytes, was) === 0) continue;
      const before = new DataView(was.buffer, was.byteOffset, PAGE);
      for (let i = 0; i < PAGE; i += 4) {
        const value = now.view.getUint32(i, true);
        if (value === before.getUint32(i, true)) continue;
        if (changed < WORDS) words.push({ address: linear + i, value });
        changed++;
        hash = Math.imul(hash ^ (linear + i), 16777619);
        hash = Math.imul(hash ^ value, 16777619);
      }
      this.#put(linear, was);
    }
    return { changed, hash: hash >>> 0, words };
  }
}

/** Node's standard output may be a pipe that does not block. */
function writeAll(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

const engines: Partial<Record<number, Unicorn>> = {};
for (const c of cases) {
  engines[c.mode] ??= new Unicorn(c.mode === LONG ? 64 : 32);
  const outcome = (engines[c.mode] as Unicorn).run(c);
  const bytes = serialize(outcome);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  writeAll(Buffer.concat([length, bytes]));
}
