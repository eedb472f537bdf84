/**
 * Engines for VMs. An engine reserves gigabytes of address space, so that used ones are kept for the next VM of the same shape
 * instead of being made anew; `Machine` wipes RAM and registers before it uses one.
 */
import { type Cpu, type CpuOptions, defaultTier2, type EngineKind, UNICORN_MAX_MEMORY } from '../cpu/cpu.ts';
import { notBuilt } from '../errors.ts';

/** Idle engines that are kept, over all shapes, and the RAM they may hold together. */
const IDLE_LIMIT = 8;
const IDLE_BYTES = 512 * 2 ** 20;

interface Idle {
  readonly key: string;
  readonly cpu: Cpu;
}

const idle: Idle[] = [];

const keyOf = (kind: EngineKind, { vcpus, memory, vendor, tier2 = defaultTier2() }: CpuOptions): string =>
  `${kind}/${vcpus}/${memory}/${vendor}/${tier2}`;

/** Why an engine cannot run a VM of this shape at all, in some words; undefined: it can. */
export function engineLacks(kind: EngineKind, options: CpuOptions): string | undefined {
  if (kind === 'unicorn' && options.memory > UNICORN_MAX_MEMORY) {
    return `${options.memory} bytes of RAM, and engine unicorn has room for ${UNICORN_MAX_MEMORY}`;
  }
  return undefined;
}

/** Loads what executes guest code with its second tier, whose opcode numbers are generated with the core. */
async function loadCore() {
  try {
    return await import('../cpu/wasm-cpu.ts');
  } catch (error) {
    const [, file] = /\b(src\/cpu\/core\/\w+\.generated\.ts)/.exec((error as Error).message) ?? [];
    throw file === undefined ? error : notBuilt(file);
  }
}

/** How to make an engine of each kind; its module is loaded at the first use. */
const MAKERS: Readonly<Record<EngineKind, (options: CpuOptions) => Promise<Cpu>>> = {
  core: async (options) => (await loadCore()).WasmCpu.create(options),
  unicorn: async (options) => (await import('../cpu/engines/unicorn.ts')).UnicornCpu.create(options),
};

/**
 * An engine of this kind and shape. RAM and registers of a used one may hold anything; a fresh one's RAM is zero.
 * Throws KvmscopeError('engine') for one that is not installed.
 */
export async function acquireEngine(
  options: CpuOptions,
  kind: EngineKind = 'core',
): Promise<{ readonly cpu: Cpu; readonly fresh: boolean }> {
  const key = keyOf(kind, options);
  const found = idle.findLastIndex((entry) => entry.key === key);
  if (found >= 0) return { cpu: idle.splice(found, 1)[0].cpu, fresh: false };
  return { cpu: await MAKERS[kind](options), fresh: true };
}

/** Keeps an engine for the next VM; drops the one idle for longest when there are too many. */
export function releaseEngine(cpu: Cpu, kind: EngineKind = 'core'): void {
  if (cpu.failed) return;
  const { vcpuCount: vcpus, vendor, tier2 } = cpu;
  const shape = { vcpus, memory: cpu.memory.length, vendor, ...(tier2 === undefined ? {} : { tier2 }) };
  idle.push({ key: keyOf(kind, shape), cpu });
  const bytes = () => idle.reduce((sum, entry) => sum + entry.cpu.memory.length, 0);
  while (idle.length > IDLE_LIMIT || (idle.length > 1 && bytes() > IDLE_BYTES)) idle.shift();
}
