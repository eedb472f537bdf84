/**
 * Debian's Unicorn library (native code from TCG) by koffi. It stops by address and calls empty C functions for ports and MSRs: libc's
 * labs(), which takes what a hook is given and does next to nothing.
 */
import { type Koffi, koffi } from '../../../src/cpu/engines/koffi.ts';
import { type Image, MEMORY } from '../workloads.ts';
import { cpuSeconds, type Engine, type Machine, NO_TRAP, wentAstray } from './engine.ts';

// unicorn.h and x86.h of Unicorn 2.
const ARCH_X86 = 4;
const MODE = { 32: 4, 64: 8 } as const;
const PROT_ALL = 7;
const HOOK_INSN = 1 << 1;
const HOOK_CODE = 1 << 2;
const INS_OUT = 500;

type Library = ReturnType<typeof declare>;

/** The calls, and guest RAM that one engine after the other uses. */
function declare(k: Koffi) {
  const library = k.load('libunicorn.so.2');
  return {
    open: library.func('int uc_open(int arch, int mode, _Out_ void **engine)'),
    close: library.func('int uc_close(void *engine)'),
    map: library.func(
      'int uc_mem_map_ptr(void *engine, uint64_t address, size_t size, uint32_t protection, void *host)',
    ),
    start: library.func(
      'int uc_emu_start(void *engine, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)',
    ),
    hook: library.func(
      'int uc_hook_add(void *engine, _Out_ size_t *hook, int type, void *callback, void *data, uint64_t begin, uint64_t end, int instruction)',
    ),
    text: library.func('const char *uc_strerror(int error)'),
    empty: k.load('libc.so.6').symbol('labs'),
    memory: k.alloc('uint8_t', MEMORY),
  };
}

function openLibrary(k: Koffi, uc: Library, image: Image): Machine {
  const check = (error: number, what: string): void => {
    if (error !== 0) throw wentAstray('libunicorn', `${what}: ${uc.text(error)}`);
  };
  const out: [unknown] = [undefined];
  check(uc.open(ARCH_X86, MODE[image.bits], out), 'uc_open');
  const engine = out[0];
  const bytes = new Uint8Array(k.view(uc.memory, MEMORY));
  bytes.fill(0);
  bytes.set(image.program.bytes, image.program.origin);
  const cells = new DataView(bytes.buffer);
  check(uc.map(engine, 0, MEMORY, PROT_ALL, uc.memory), 'uc_mem_map_ptr');
  if (image.workload.name === 'out') {
    check(uc.hook(engine, [0n], HOOK_INSN, uc.empty, null, 1, 0, INS_OUT), 'uc_hook_add');
  } else if (image.workload.name === 'icr') {
    const at = image.trap as number;
    check(uc.hook(engine, [0n], HOOK_CODE, uc.empty, null, at, at, 0), 'uc_hook_add');
  }
  let from = image.entry;
  return {
    run: async (laps) => {
      cells.setUint32(image.laps, laps, true);
      const start = cpuSeconds();
      const error = uc.start(engine, from, image.done, 0, 0) as number;
      const seconds = cpuSeconds() - start;
      check(error, 'uc_emu_start');
      if (cells.getUint32(image.laps, true) !== 0) throw wentAstray('libunicorn', 'it stopped early');
      from = image.idle;
      return seconds;
    },
    result: () => cells.getUint32(image.result, true),
    close: () => {
      uc.close(engine);
    },
  };
}

export function libunicorn(): Engine {
  const shape = { name: 'libunicorn', title: 'libunicorn', bits: 64 } as const;
  const tables = 'walks no page tables';
  const lacks = { tlb: tables, remap: tables, vmcall: 'has no VMCALL', short: 'restores no memory' };
  const does = { icr: 'calls an empty C function', out: 'calls an empty C function', cpuid: NO_TRAP };
  const k = koffi();
  const absent = (missing: string): Engine => ({
    ...{ ...shape, lacks, does, missing },
    open: () => Promise.reject(new Error(missing)),
  });
  if (!k) return absent('needs the npm package koffi');
  try {
    const uc = declare(k);
    return { ...shape, lacks, does, open: async (image) => openLibrary(k, uc, image) };
  } catch (error) {
    return absent(`needs libunicorn.so.2 (${(error as Error).message})`);
  }
}
