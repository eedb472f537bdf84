/** Hooks that only look change nothing: random code ends alike with and without them. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { uc } from './engine.fixture.ts';

const CODE = 0x10000;
const DATA = 0x20000;

/** Marsaglia's xorshift32. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

type Engine = InstanceType<typeof uc.Unicorn>;
const WATCHERS: Readonly<Record<string, (e: Engine) => void>> = {
  code: (e) => e.hook_add(uc.HOOK_CODE, () => {}),
  blocks: (e) => e.hook_add(uc.HOOK_BLOCK, () => {}),
  memory: (e) => e.hook_add(uc.HOOK_MEM_VALID, () => {}),
  'memory and code, one page': (e) => {
    e.hook_add(uc.HOOK_MEM_READ | uc.HOOK_MEM_WRITE | uc.HOOK_MEM_READ_AFTER, () => {}, {}, DATA, DATA + 0xfff);
    e.hook_add(uc.HOOK_CODE, () => {}, {}, CODE + 8, CODE + 40);
  },
  'nested runs': (e) => {
    let inside = false;
    const nested = (): void => {
      if (inside) return;
      inside = true;
      e.emu_start(0x30000, 0x30002);
      inside = false;
    };
    e.hook_add(uc.HOOK_CODE, nested, {}, CODE + 3, CODE + 30);
    e.hook_add(uc.HOOK_MEM_READ | uc.HOOK_MEM_WRITE, nested);
  },
};

/** Where random code from `seed` ends after at most 60 instructions. */
function outcome(seed: number, mode: number, watch?: (e: Engine) => void): unknown {
  const next = random(seed);
  const e = new uc.Unicorn(uc.ARCH_X86, mode);
  e.mem_map(CODE, 0x1000, uc.PROT_ALL);
  e.mem_map(DATA, 0x2000, uc.PROT_READ | uc.PROT_WRITE);
  e.mem_map(0x30000, 0x1000, uc.PROT_ALL);
  e.mem_write(0x30000, [0x90, 0x90]);
  e.mem_write(
    CODE,
    Array.from({ length: 256 }, () => next() & 255),
  );
  e.mem_write(
    DATA,
    Array.from({ length: 0x2000 }, () => next() & 255),
  );
  for (let i = 0; i < 8; i++) e.reg_write_i64(uc.X86_REG_R8 + i, DATA + (next() % 0x1ff0));
  for (const id of [
    uc.X86_REG_RAX,
    uc.X86_REG_RBX,
    uc.X86_REG_RDX,
    uc.X86_REG_RSP,
    uc.X86_REG_RBP,
    uc.X86_REG_RSI,
    uc.X86_REG_RDI,
  ])
    e.reg_write_i64(id, DATA + (next() % 0x1ff0));
  e.reg_write_i64(uc.X86_REG_RCX, next() % 20);
  watch?.(e);
  let error: unknown = '';
  try {
    e.emu_start(CODE, 0, 0, 60);
  } catch (thrown) {
    error = thrown;
  }
  const ids = [35, 36, 37, 38, 39, 40, 41, 43, 44, 106, 107, 108, 109, 110, 111, 112, 113, uc.X86_REG_RFLAGS];
  const bytes = (at: number, size: number): string => createHash('sha1').update(e.mem_read(at, size)).digest('hex');
  const state = [error, ids.map((id) => e.reg_read_u64(id)), bytes(CODE, 0x1000), bytes(DATA, 0x2000)];
  e.close();
  return state;
}

describe.each([
  ['MODE_64', uc.MODE_64],
  ['MODE_32', uc.MODE_32],
])('%s', (_, mode) => {
  const PROGRAMS = 100;
  const plain = Array.from({ length: PROGRAMS }, (_, i) => outcome(i * 7919 + 1, mode));

  it.each(Object.entries(WATCHERS))('%s', (_, watch) => {
    for (const [i, expected] of plain.entries()) expect([i, outcome(i * 7919 + 1, mode, watch)]).toEqual([i, expected]);
  });
});
