/** All engines by name; each is asked for when it is wanted. */
import type { Engine, EngineName } from './engine.ts';

export const ENGINES: Readonly<Record<EngineName, () => Promise<Engine>>> = {
  interpreter: async () => (await import('./kvmscope.ts')).interpreter,
  jit: async () => (await import('./kvmscope.ts')).jit,
  v86: async () => (await import('./v86.ts')).v86(),
  libunicorn: async () => (await import('./libunicorn.ts')).libunicorn(),
  qemu: async () => (await import('./qemu.ts')).qemu(),
  unicornjs: async () => (await import('./unicornjs.ts')).unicornjs(),
};
