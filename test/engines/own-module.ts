/**
 * Our own module of the unicorn.js API (src/unicorn) as engine unicorn expects one: with the raw C functions of an Emscripten runtime,
 * as far as the engine uses them, over a small memory for arguments.
 */
import type { UnicornModule } from '../../src/cpu/engines/unicorn-module.ts';
import MUnicorn from '../../src/unicorn/index.ts';

type Callback = (...values: unknown[]) => unknown;

export async function ownModule(): Promise<UnicornModule> {
  const uc = await MUnicorn();
  const cells = new DataView(new ArrayBuffer(4096));
  const callbacks: Callback[] = [() => undefined];
  const engines: InstanceType<typeof uc.Unicorn>[] = [];
  let free = 16;
  const malloc = (size: number): number => {
    free += (size + 15) & ~15;
    return free - ((size + 15) & ~15);
  };
  const result = malloc(16);

  class Unicorn extends uc.Unicorn {
    override readonly handle_ptr = malloc(4);
    constructor(architecture: number, mode: number) {
      super(architecture, mode);
      cells.setInt32(this.handle_ptr, engines.push(this) - 1, true);
    }
  }

  // Our module starts an instruction anew after a data access that had to be filled in, code hook included; unicorn.js goes on.
  let last = 0n;
  let filled = false;
  const fill =
    (callback: Callback) => (_: unknown, address: bigint, type: number, entry: { paddr: bigint; perms: number }) => {
      if (!callback(0, BigInt.asIntN(64, address), type, result)) return false;
      filled = type !== uc.MEM_FETCH;
      entry.paddr = cells.getBigUint64(result, true);
      entry.perms = cells.getInt32(result + 8, true);
      return true;
    };
  const eachOf = (ids: number, values: number, count: number, visit: (id: number, address: number) => void): number => {
    for (let i = 0; i < count; i++) visit(cells.getInt32(ids + i * 4, true), cells.getInt32(values + i * 4, true));
    return 0;
  };

  return {
    ...uc,
    Unicorn,
    getValue: (address: number) => cells.getInt32(address, true),
    setValue: (address: number, value: number) => cells.setInt32(address, value, true),
    addFunction: (callback: Callback) => callbacks.push(callback) - 1,
    writeArrayToMemory: (bytes: Uint8Array, address: number) => new Uint8Array(cells.buffer).set(bytes, address),
    _malloc: malloc,
    _uc_hook_add: (
      ...[engine, , type, index, , , , variadic]: Parameters<UnicornModule['_uc_hook_add']>
    ): ReturnType<UnicornModule['_uc_hook_add']> => {
      const callback = callbacks[index];
      const own = engines[engine];
      if (type === uc.HOOK_TLB_FILL) own.hook_add(uc.HOOK_TLB_FILL, fill(callback));
      else if (type === uc.HOOK_INSN_INVALID) own.hook_add(type, () => callback(0) === 1);
      else if (type === uc.HOOK_INSN) own.hook_add(type, callback, {}, 1, 0, cells.getInt32(variadic, true));
      else {
        own.hook_add(uc.HOOK_CODE, (_, address) => {
          const again = filled && address === last;
          filled = false;
          last = address;
          if (!again) callback(0, BigInt.asIntN(64, address));
        });
      }
      return 0;
    },
    _uc_reg_read_batch: (engine: number, ids: number, values: number, count: number) =>
      eachOf(ids, values, count, (id, address) => cells.setBigUint64(address, engines[engine].reg_read_u64(id), true)),
    _uc_reg_write_batch: (engine: number, ids: number, values: number, count: number) =>
      eachOf(ids, values, count, (id, address) => engines[engine].reg_write_i64(id, cells.getBigUint64(address, true))),
  } as unknown as UnicornModule;
}
