/**
 * String instructions, many iterations at once, against the same with a budget of one step, where each iteration is done by itself: the same
 * registers, RAM (A and D bits of page tables, too), exits and steps.
 */
import { describe, expect, it } from 'vitest';
import type { Exit } from '../../src/cpu/exit.ts';
import { REGISTERS } from '../../src/cpu/registers.ts';
import { type Bare, bare, CODE, type Mode, PT } from './bare.ts';
import { Random } from './fuzz/random.ts';

const DATA = 0x100000;
const PAGES = 8;
/** Where accesses leave as MMIO. */
const DEVICE = 0xfee00000n;
/** The prefixes that a mode's default sizes need for 32 bits, and the other way round. */
const OPERAND = 0x66;
const ADDRESS = 0x67;

function registers({ state }: Bare): Record<string, string> {
  return Object.fromEntries(REGISTERS.map(({ id, name }) => [name, state.get(id).toString(16)]));
}
function same(one: Bare, many: Bare, what: string): void {
  expect({ what, ...registers(many), steps: many.state.steps }).toEqual({
    what,
    ...registers(one),
    steps: one.state.steps,
  });
  const [x, y] = [Buffer.from(one.cpu.memory), Buffer.from(many.cpu.memory)];
  if (!x.equals(y)) {
    const at = x.findIndex((byte, i) => byte !== y[i]);
    expect(`${what}: byte ${at.toString(16)} is ${y[at]}`).toBe(`${what}: byte ${at.toString(16)} is ${x[at]}`);
  }
}

/** Runs to something other than the end of a budget or an access to the device, which is answered. */
function finish(b: Bare, budget: () => number): { end: Exit; accesses: Exit[] } {
  const accesses: Exit[] = [];
  for (;;) {
    const exit = b.cpu.run(0, budget());
    if (exit.reason === 'budget') continue;
    if (exit.reason !== 'mmio') return { end: { ...exit }, accesses };
    accesses.push({ ...exit });
    b.state.completeMmio(0x01010101 * (accesses.length & 3), 0);
  }
}

interface Case {
  readonly source: string;
  readonly values: Readonly<Record<string, number>>;
  /** Entries of the page table for pages from DATA on. */
  readonly entries: readonly bigint[];
  readonly what: string;
}

const OPCODES = { movs: 0xa4, cmps: 0xa6, stos: 0xaa, lods: 0xac, scas: 0xae };

function makeCase(random: Random, mode: Mode): Case {
  const name = random.pick(Object.keys(OPCODES) as (keyof typeof OPCODES)[]);
  const size = random.below(mode === 'long64' ? 4 : 3);
  const segment = random.oneIn(8);
  const shortAddress = random.oneIn(5);
  const wide = size === 0 ? 0 : 1;
  const bytes: number[] = [];
  if (shortAddress) bytes.push(ADDRESS);
  if (mode === 'real' ? size === 2 : size === 1) bytes.push(OPERAND);
  if (segment) bytes.push(0x64);
  bytes.push(random.oneIn(3) ? 0xf2 : 0xf3);
  if (size === 3) bytes.push(0x48);
  bytes.push(OPCODES[name] | wide);
  // Offsets of 16 bits reach the low 64 KiB only; in real mode segments start at DATA.
  const low = mode === 'real' ? 0 : shortAddress && mode === 'prot32' ? 0xc000 : DATA;
  const place = (): number => low + 0x1000 + random.below(2) * 0x1000 + random.pick([0, 1, 8, 0x7f8, 0xfe0, 0xff9]);
  const rsi = place();
  const near = (): number => rsi + random.pick([-64, -9, -8, -1, 0, 1, 3, 8, 16, 40, 0x800]);
  const down = random.oneIn(3);
  const count = random.pick([0, 1, 2, 7, 16, 40, 300, 1500]);
  const entries = Array.from({ length: PAGES }, (_, page) => {
    const to = BigInt(DATA + (random.oneIn(6) ? random.below(PAGES) : page) * 4096);
    return random.oneIn(12) ? random.pick([0n, to | 1n, DEVICE | 3n]) : to | 3n;
  });
  const values = {
    ...{ rsi, rdi: random.oneIn(2) ? near() : place(), rcx: count, rax: random.pick([0, 0x5a5a5a5a, 0x01010101]) },
    rbx: random.u32(),
    fs_base: mode === 'real' ? DATA : random.pick([0, 0x1000, 0x808]),
  };
  // A decoded instruction makes its page one that stores look at.
  const page = (mode === 'real' ? 0 : low) + random.below(4) * 0x1000 + 0xffe;
  const touch = mode === 'real' || !random.oneIn(3) ? '' : `mov ebp, ${page}\n call rbp\n`;
  const source = `${mode === 'long64' ? touch : touch.replaceAll('rbp', 'ebp')}
    ${down ? 'std' : 'cld'}
    cmp al, 0x80
    .byte ${bytes.join(', ')}
    inc ebx
    hlt`;
  return {
    source,
    values,
    entries,
    what: `${mode} ${name} ${JSON.stringify({ size, down, shortAddress, segment, ...values })}`,
  };
}

function prepare(b: Bare, { source, values, entries }: Case, random: Random): void {
  const quarter = random.below(4);
  for (let at = 0; at < PAGES * 4096; at++) {
    // Long equal runs with a few differences.
    const byte = at % 1024 < 1000 || quarter === 0 ? 0x5a : (at >> 3) & 0xff;
    b.cpu.memory[DATA + at] = at % 4096 === 0xffe ? 0xc3 : byte;
  }
  for (let at = 0xb000; at < 0x10000; at++) b.cpu.memory[at] = at % 4096 === 0xffe ? 0xc3 : 0x5a;
  b.cpu.memoryWritten(DATA, PAGES * 4096);
  b.cpu.memoryWritten(0xb000, 0x5000);
  for (const [page, entry] of entries.entries()) b.write64(PT + ((DATA >> 12) + page) * 8, entry);
  b.load(source);
  b.put({ rflags: 2, rsp: b.mode === 'real' ? 0x7f00 : 0x1f000, cr2: 0, ...values });
  if (b.mode === 'real') for (const name of ['ds', 'es', 'fs']) b.segment(name, DATA >> 4, 0x93, 0xffff, DATA);
  else {
    const flat = name64(b.mode);
    for (const name of ['ds', 'es']) b.segment(name, 0x10, 0xc093);
    b.segment('fs', 0x10, 0xc093, 0xffffffff, values.fs_base);
    b.segment('cs', flat.selector, flat.attr);
  }
  b.state.flushTlb();
}
const name64 = (mode: Mode): { selector: number; attr: number } =>
  mode === 'long64' ? { selector: 0x08, attr: 0xa09b } : { selector: 0x18, attr: 0xc09b };

describe.each<Mode>(['real', 'prot32', 'long64'])('in mode %s, iterations at once and one by one', (mode) => {
  it.each([false, 'force'] as const)('second tier %s', async (tier2) => {
    const [one, many] = await Promise.all([bare(mode, { tier2: false }), bare(mode, { tier2 })]);
    for (let n = 0; n < 150; n++) {
      const random = new Random(n, mode.length);
      const made = makeCase(random, mode);
      const seed = random.u32();
      for (const b of [one, many]) prepare(b, made, new Random(seed));
      const begin = [one.state.steps, many.state.steps];
      expect(begin[1]).toBe(begin[0]);
      // Stores to pages of a snapshot are looked at.
      const snapshot = random.oneIn(3) ? many.cpu.snapshot?.() : undefined;
      const before =
        snapshot === undefined ? undefined : { ram: Buffer.from(many.cpu.memory), registers: registers(many) };
      const most = random.pick([3, 50, 5000, 100_000]);
      const x = finish(one, () => 1);
      const y = finish(many, () => 1 + random.below(most));
      expect({ what: made.what, ...y }).toEqual({ what: made.what, ...x });
      same(one, many, made.what);
      if (snapshot === undefined || before === undefined) continue;
      many.cpu.restore?.(snapshot);
      expect(before.ram.equals(Buffer.from(many.cpu.memory))).toBe(true);
      expect(registers(many)).toEqual(before.registers);
      finish(many, () => 1 + random.below(most));
      same(one, many, `${made.what} again`);
      snapshot.dispose();
    }
  });
});

describe('a repeated string instruction', () => {
  it('stops at the element that faults, behind what it has done', async () => {
    const b = await bare('long64');
    b.write64(PT + ((DATA >> 12) + 1) * 8, 0n);
    b.load(`mov edi, ${DATA + 0x800}\n mov ecx, 0x1000\n mov al, 7\n s: rep stosb\n hlt`);
    const stop = b.go(10_000);
    expect(stop).toMatchObject({ vector: 14, error: 2, at: 's' });
    expect([b.get('cr2'), b.get('rdi'), b.get('rcx')]).toEqual([BigInt(DATA + 0x1000), BigInt(DATA + 0x1000), 0x800n]);
    expect(b.cpu.memory.subarray(DATA + 0x800, DATA + 0x1000).every((byte) => byte === 7)).toBe(true);
  });

  it('counts each iteration as a step and stops where the budget ends', async () => {
    const b = await bare('long64');
    b.load(`mov edi, ${DATA}\n mov ecx, 1000\n rep stosq\n hlt`);
    b.cpu.run(0, 2 + 700);
    expect([b.get('rcx'), b.get('rdi'), b.state.steps]).toEqual([300n, BigInt(DATA + 5600), 702]);
  });

  it('overwrites code that is decoded, and what it wrote is what runs', async () => {
    const b = await bare('long64', { tier2: 'force' });
    b.load(`
      mov edx, 2
    again:
      call function
      add ebp, ebx
      mov esi, offset other
      mov edi, offset function
      mov ecx, 6
      rep movsb
      dec edx
      jnz again
      hlt
      .org ${CODE + 0x1000}
    function: mov ebx, 1
      ret
      .org ${CODE + 0x2000}
    other: mov ebx, 0x10
      ret`);
    b.go();
    expect(b.get('rbp')).toBe(0x11n);
  });

  it('sets A in the entries of pages that it reads, A and D in those of pages that it writes', async () => {
    const b = await bare('long64');
    b.run(`mov esi, ${DATA + 0x800}\n mov edi, ${DATA + 0x4800}\n mov ecx, 0x400\n rep movsd\n hlt`);
    const bits = Array.from({ length: 8 }, (_, page) => Number(b.read64(PT + ((DATA >> 12) + page) * 8) & 0x60n));
    expect(bits).toEqual([0x20, 0x20, 0, 0, 0x60, 0x60, 0, 0]);
  });

  it('onto itself repeats the elements in between, upwards and downwards', async () => {
    const b = await bare('long64');
    b.cpu.memory.set([1, 2, 3], DATA);
    b.run(`mov esi, ${DATA}\n mov edi, ${DATA + 3}\n mov ecx, 9\n rep movsb\n hlt`);
    expect([...b.cpu.memory.subarray(DATA, DATA + 13)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 0]);
    b.cpu.memory.set([0, 0, 0, 0, 0, 0, 0, 5, 6], DATA);
    b.run(`std\n mov esi, ${DATA + 8}\n mov edi, ${DATA + 6}\n mov ecx, 7\n rep movsb\n hlt`);
    expect([...b.cpu.memory.subarray(DATA, DATA + 9)]).toEqual([6, 5, 6, 5, 6, 5, 6, 5, 6]);
  });
});

describe.each([false, 'force'] as const)('by vendor, second tier %s', (tier2) => {
  /** CF, PF, ZF and OF before a comparison of 1 with zeros, which clears them. */
  const SET = 'mov al, 0x80\n add al, al\n mov al, 1\n';
  const FRAME_RF = 0x10000n;

  it.each([
    ['intel', 0x847n],
    ['amd', 2n],
  ] as const)('%s: a comparison that is not done has the flags %i', async (vendor, flags) => {
    const b = await bare('long64', { vendor, tier2 });
    b.write64(PT + ((DATA >> 12) + 1) * 8, 0n);
    // repne scasb; then repe cmpsb of zeros with zeros, which sets PF and ZF, up to the same page.
    b.load(`${SET} mov edi, ${DATA + 0xff0}\n mov ecx, 64\n s: .byte 0xf2, 0xae\n hlt`);
    b.cpu.run(0, 5 + 7);
    expect([b.get('rflags') & 0x8d5n, b.get('rcx')]).toEqual([flags & 0x8d5n, 57n]);
    const stop = b.go();
    expect([stop.vector, stop.at, stop.frame[2], b.get('rcx')]).toEqual([14, 's', flags | FRAME_RF, 48n]);
    b.put({ rflags: 2 });
    b.load(`mov esi, ${DATA}\n mov edi, ${DATA + 0xff0}\n mov ecx, 64\n or al, 1\n s: .byte 0xf3, 0xa6\n hlt`);
    expect(b.go().frame[2]).toBe(vendor === 'intel' ? FRAME_RF | 2n : FRAME_RF | 0x46n);
  });

  it.each([
    ['intel', 0x10947n],
    ['amd', 0x102n],
  ] as const)('%s: between two iterations a single-step trap sees the flags %i', async (vendor, flags) => {
    const b = await bare('long64', { vendor, tier2 });
    b.load('s: .byte 0xf2, 0xae\n end: nop');
    b.put({ rflags: 0x947, rax: 1, rdi: DATA, rcx: 2, dr6: 0xffff0ff0 });
    const first = b.go();
    expect([first.at, first.frame[2], b.get('rcx')]).toEqual(['s', flags, 1n]);
    b.put({ rip: CODE, rsp: 0x1f000, rflags: 0x947 });
    const last = b.go();
    expect([last.at, last.frame[2], b.get('rcx')]).toEqual(['end', 0x102n, 0n]);
  });

  it.each([
    ['rep movsb', [0xf3, 0xa4], true, true],
    ['repne movsd', [0xf2, 0xa5], true, true],
    ['rep stosb', [0xf3, 0xaa], false, true],
    ['rep lodsb', [0xf3, 0xac], false, false],
    ['repne scasb', [0xf2, 0xae], false, false],
    ['repe cmpsb', [0xf3, 0xa6], false, false],
  ] as const)('%s with 32-bit addresses that does nothing', async (_name, bytes, source, target) => {
    const [high, rsi, rdi] = [0x700000000n, BigInt(DATA), BigInt(DATA + 0x1000)];
    for (const vendor of ['intel', 'amd'] as const) {
      // A count of 0, and a fault at once.
      for (const count of [0n, 5n]) {
        const b = await bare('long64', { vendor, tier2 });
        for (const page of [0, 1]) b.write64(PT + ((DATA >> 12) + page) * 8, 0n);
        b.load(`.byte 0x67, ${bytes.join(', ')}\n hlt`);
        b.put({ rcx: high | count, rsi: high | rsi, rdi: high | rdi });
        expect(b.go().vector).toBe(count === 0n ? undefined : 14);
        const clears = vendor === 'intel';
        const expected = [
          clears ? count : high | count,
          clears && source ? rsi : high | rsi,
          clears && target ? rdi : high | rdi,
        ];
        expect([b.get('rcx'), b.get('rsi'), b.get('rdi')]).toEqual(expected);
      }
    }
  });
});
