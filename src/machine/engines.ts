/**
 * Engines for VMs. An engine reserves gigabytes of address space, so that used ones are kept for the next VM of the same shape
 * instead of being made anew; `Machine` wipes RAM and registers before it uses one.
 */
import type { Cpu, CpuOptions } from '../cpu/cpu.ts';

/** Idle engines that are kept, over all shapes, and the RAM they may hold together. */
const IDLE_LIMIT = 8;
const IDLE_BYTES = 512 * 2 ** 20;

interface Idle {
  readonly key: string;
  readonly cpu: Cpu;
}

const idle: Idle[] = [];

const keyOf = (options: CpuOptions): string => `${options.vcpus}/${options.memory}/${options.vendor}`;

/** An engine of this shape. RAM and registers of a used one may hold anything; a fresh one's RAM is zero. */
export async function acquireEngine(options: CpuOptions): Promise<{ readonly cpu: Cpu; readonly fresh: boolean }> {
  const key = keyOf(options);
  const found = idle.findLastIndex((entry) => entry.key === key);
  if (found >= 0) return { cpu: idle.splice(found, 1)[0].cpu, fresh: false };
  const { WasmCpu } = await import('../cpu/wasm-cpu.ts');
  return { cpu: await WasmCpu.create(options), fresh: true };
}

/** Keeps an engine for the next VM; drops the one idle for longest when there are too many. */
export function releaseEngine(cpu: Cpu): void {
  idle.push({ key: keyOf({ vcpus: cpu.vcpuCount, memory: cpu.memory.length, vendor: cpu.vendor }), cpu });
  const bytes = () => idle.reduce((sum, entry) => sum + entry.cpu.memory.length, 0);
  while (idle.length > IDLE_LIMIT || (idle.length > 1 && bytes() > IDLE_BYTES)) idle.shift();
}
