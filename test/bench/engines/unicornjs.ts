/**
 * A real unicorn.js (QEMU's TCG interpreter in WebAssembly), if there is one: the npm package @alexaltea/unicorn-js, or KVMSCOPE_UNICORN
 * names the path of a build. It stops by address. Round trips go to a handler that reads the instruction's operands and writes its
 * result by the methods of the API; what the API takes no hook of is hooked by the raw C function.
 */
import { loadUnicorn, type UnicornModule } from '../../../src/cpu/engines/unicorn-module.ts';
import { type Image, MEMORY } from '../workloads.ts';
import { cpuSeconds, type Engine, type Machine, NO_TRAP, wentAstray } from './engine.ts';

const VMCALL_BYTES = 3n;
const KVM_HC_SEND_IPI = 10n;
/** Result of a hypercall that KVM does not know. */
const KVM_ENOSYS = 1000n;

/** Makes a guest in a module of its own: a module holds few engines. */
export async function openUnicorn(uc: UnicornModule, image: Image): Promise<Machine> {
  const engine = new uc.Unicorn(uc.ARCH_X86, image.bits === 64 ? uc.MODE_64 : uc.MODE_32);
  engine.mem_map(0n, MEMORY, uc.PROT_ALL);
  engine.mem_write(BigInt(image.program.origin), image.program.bytes);
  const { name, trips = 0, restores } = image.workload;
  let handled = 0;
  if (name === 'out') {
    // Port, size and value are arguments.
    const handle = (): void => {
      handled++;
    };
    rawHook(uc, engine.handle_ptr, uc.HOOK_INSN, 'viiiii', handle, uc.X86_INS_OUT);
  } else if (name === 'icr') {
    const handle = (): void => {
      const [msr, low, high] = [uc.X86_REG_ECX, uc.X86_REG_EAX, uc.X86_REG_EDX].map((id) => engine.reg_read_i32(id));
      if (msr === 0x830 && low === 0xf0 && high === 1) handled++;
    };
    engine.hook_add(uc.HOOK_CODE, handle, {}, image.trap, image.trap);
  } else if (name === 'vmcall') {
    const handle = (): number => {
      const [number, low, high, first, icr] = ['RAX', 'RBX', 'RCX', 'RDX', 'RSI'].map((register) =>
        engine.reg_read_i64(uc[`X86_REG_${register}`]),
      );
      const knows = number === KVM_HC_SEND_IPI && low === 2n && high === 0n && first === 0n && icr === 0xf0n;
      engine.reg_write_i64(uc.X86_REG_RAX, knows ? 1n : -KVM_ENOSYS);
      engine.reg_write_i64(uc.X86_REG_RIP, engine.reg_read_i64(uc.X86_REG_RIP) + VMCALL_BYTES);
      handled++;
      return 1;
    };
    rawHook(uc, engine.handle_ptr, uc.HOOK_INSN_INVALID, 'iii', handle);
  }
  const ask = (laps: number): void => {
    const request = new Uint8Array(4);
    new DataView(request.buffer).setUint32(0, laps, true);
    engine.mem_write(BigInt(image.laps), request);
  };
  const read = (address: number): number => {
    const bytes = engine.mem_read(BigInt(address), 4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  };
  const finish = (from: number): void => engine.emu_start(BigInt(from), BigInt(image.done), 0, 0);
  const check = (): void => {
    if (read(image.laps) !== 0) throw wentAstray('unicorn.js', 'it stopped early');
  };
  const machine = { result: () => read(image.result), close: () => {} };
  if (!restores) {
    let from = image.entry;
    return {
      ...machine,
      run: async (laps) => {
        ask(laps);
        handled = 0;
        const start = cpuSeconds();
        finish(from);
        const seconds = cpuSeconds() - start;
        check();
        const wanted = name === 'out' || name === 'icr' || name === 'vmcall' ? laps * trips : 0;
        if (handled !== wanted) throw wentAstray('unicorn.js', `its hook handled ${handled} of ${wanted} instructions`);
        from = image.idle;
        return seconds;
      },
    };
  }
  ask(1);
  finish(image.entry);
  ask(1);
  engine.ctl_context_mode(uc.CTL_CONTEXT_CPU | uc.CTL_CONTEXT_MEMORY);
  const snapshot = engine.context_alloc();
  engine.context_save(snapshot);
  return {
    ...machine,
    run: async (laps) => {
      const start = cpuSeconds();
      for (let lap = 0; lap < laps; lap++) {
        engine.context_restore(snapshot);
        finish(image.idle);
      }
      const seconds = cpuSeconds() - start;
      check();
      return seconds;
    },
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
  const does = {
    vmcall: 'has no VMCALL, and a hook of invalid instructions does its work',
    icr: 'has no hook of WRMSR, and a code hook on its address does its work',
    cpuid: NO_TRAP,
  };
  const shape = { name: 'unicornjs', title: 'unicorn.js', bits: 64, lacks: {}, does } as const;
  try {
    await loadUnicorn();
  } catch (error) {
    const missing = (error as Error).message;
    return { ...shape, missing, open: () => Promise.reject(error) };
  }
  return { ...shape, open: async (image) => openUnicorn(await loadUnicorn(), image) };
}
