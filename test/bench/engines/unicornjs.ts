/**
 * A real unicorn.js (QEMU's TCG interpreter in WebAssembly), if there is one: the npm package @alexaltea/unicorn-js, or KVMSCOPE_UNICORN
 * names the path of a build. It stops by address; ports and VMCALL are trapped with the raw C functions, WRMSR by a hook on its address.
 */
import { loadUnicorn, type UnicornModule } from '../../../src/cpu/engines/unicorn-module.ts';
import { type Image, MEMORY } from '../workloads.ts';
import { cpuSeconds, type Engine, type Machine, wentAstray } from './engine.ts';

// x86.h and unicorn.h of Unicorn 2.
const INS_OUT = 500;
const HOOK_INSN_INVALID = 1 << 14;
const VMCALL_BYTES = 3;

/** Makes a guest in a module of its own: a module holds few engines. */
export async function openUnicorn(uc: UnicornModule, image: Image): Promise<Machine> {
  const engine = new uc.Unicorn(uc.ARCH_X86, image.bits === 64 ? uc.MODE_64 : uc.MODE_32);
  engine.mem_map(0n, MEMORY, uc.PROT_ALL);
  engine.mem_write(BigInt(image.program.origin), image.program.bytes);
  const { name } = image.workload;
  if (name === 'out') rawHook(uc, engine.handle_ptr, uc.HOOK_INSN, 'viiiii', () => {}, INS_OUT);
  else if (name === 'icr') engine.hook_add(uc.HOOK_CODE, () => {}, {}, image.trap, image.trap);
  else if (name === 'vmcall') {
    const next = new Uint8Array(8);
    new DataView(next.buffer).setBigUint64(0, BigInt(image.trap as number) + BigInt(VMCALL_BYTES), true);
    rawHook(uc, engine.handle_ptr, HOOK_INSN_INVALID, 'iii', () => {
      engine.reg_write(uc.X86_REG_RIP, next);
      return 1;
    });
  }
  const read = (address: number): number => {
    const bytes = engine.mem_read(BigInt(address), 4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  };
  let from = image.entry;
  return {
    run: async (laps) => {
      const request = new Uint8Array(4);
      new DataView(request.buffer).setUint32(0, laps, true);
      engine.mem_write(BigInt(image.laps), request);
      const start = cpuSeconds();
      engine.emu_start(BigInt(from), BigInt(image.done), 0, 0);
      const seconds = cpuSeconds() - start;
      if (read(image.laps) !== 0) throw wentAstray('unicorn.js', 'it stopped early');
      from = image.idle;
      return seconds;
    },
    result: () => read(image.result),
    close: () => {},
  };
}

function rawHook(
  uc: UnicornModule,
  handle: number,
  type: number,
  signature: string,
  callback: (...values: never[]) => unknown,
  instruction = 0,
): void {
  const cells = uc._malloc(16);
  uc.setValue(cells + 8, instruction, 'i32');
  const pointer = uc.getValue(handle, '*');
  const error = uc._uc_hook_add(pointer, cells, type, uc.addFunction(callback, signature), 0, 1n, 0n, cells + 8);
  if (error !== 0) throw wentAstray('unicorn.js', `uc_hook_add failed with ${error}`);
}

export async function unicornjs(): Promise<Engine> {
  const shape = { name: 'unicornjs', title: 'unicorn.js', bits: 64 } as const;
  const lacks = { short: 'restores no memory by its API' };
  try {
    await loadUnicorn();
  } catch (error) {
    const missing = (error as Error).message;
    return { ...shape, lacks, missing, open: () => Promise.reject(error) };
  }
  return { ...shape, lacks, open: async (image) => openUnicorn(await loadUnicorn(), image) };
}
