/** Virtual interrupts: CR4.VME in virtual-8086 mode, CR4.PVI in protected mode (SDM vol. 3, 21.3 and 21.4). */
import { describe, expect, it } from 'vitest';
import { type Bare, bare, SEL, TSS } from './bare.ts';

const BP = 3;
const GP = 13;
const VME = 1;
const PVI = 2;
const IF = 0x200n;
const VIF = 0x80000n;
const VIP = 0x100000n;
const VM = 0x20002;
const IOPL3 = 0x3000;
const IVT_HANDLER = 0x600;

/** A program at 0x8000 in virtual-8086 mode, stack at 0x4f00:0x100, with the redirection bitmap all 0 (INT n goes to the IVT). */
async function v86(source: string, rflags: number, cr4 = VME): Promise<Bare> {
  const b = await bare('prot32', { cpl: 3 });
  for (const name of ['es', 'ds', 'fs', 'gs']) b.segment(name, 0, 0xf3, 0xffff, 0);
  b.segment('ss', 0x4f00, 0xf3, 0xffff, 0x4f000);
  b.segment('cs', 0, 0xf3, 0xffff, 0);
  b.put({ rsp: 0x100, cr4, rflags: VM | rflags });
  b.segment('tr', SEL.TSS, 0x8b, 0xc8, TSS);
  b.write16(TSS + 102, 0x88);
  for (let n = 0; n < 32; n++) b.cpu.memory[TSS + 0x68 + n] = 0;
  b.cpu.memory[TSS + 0x68 + 0x60 / 8] = 1;
  for (let n = 0x50; n < 0x58; n++) b.write32(n * 4, IVT_HANDLER);
  b.cpu.memory.set([0xcd, 0x60], IVT_HANDLER);
  b.gate(BP, SEL.CODE32, 0xee);
  b.load(`.code16\n${source}\nend: int3`);
  return b;
}
/** Runs to the protected-mode handler: vector, error, where, and the EFLAGS that it would restore. */
const stop = (b: Bare) => {
  const { vector, error, at, frame } = b.go();
  return { vector, error, at, flags: frame[2] & ~VIP & 0x3fffffn };
};
describe('virtual-8086 mode with CR4.VME below IOPL 3', () => {
  it.each([
    ['cli', 0x80000, 0n],
    ['sti', 0, VIF],
    ['cli', 0x80200, IF],
    ['pushf\npop ax\npush ax\npopf', 0x80000, VIF],
    ['push 0x200\npopf', 0, VIF],
    ['push 0\npopf', 0x80200, IF],
    ['push 0x200\npush 0\npush offset end\niret', 0, VIF],
    ['push 2\npush 0\npush offset end\niret', 0x80200, IF],
  ])('%s with EFLAGS %i', async (code, rflags, expected) => {
    const b = await v86(code, rflags);
    const { vector, flags } = stop(b);
    expect([vector, flags & (IF | VIF)]).toEqual([BP, expected]);
  });

  it('PUSHF shows VIF as IF and IOPL 3', async () => {
    const b = await v86('pushf\npop ax', 0x80000);
    b.go();
    expect(b.get('rax') & 0x3200n).toBe(0x3200n);
    const c = await v86('pushf\npop ax', 0x200);
    c.go();
    expect(c.get('rax') & 0x3200n).toBe(0x3000n);
  });

  it.each([
    ['STI while VIP is set', 'bad: sti', 0x100000, VME],
    ['POPF of IF while VIP is set', 'push 0x200\nbad: popf', 0x100000, VME],
    ['POPF of TF', 'push 0x100\nbad: popf', 0, VME],
    ['POPFD', 'push eax\nbad: popfd', 0, VME],
    ['PUSHFD', 'bad: pushfd', 0, VME],
    ['IRET of TF', 'push 0x100\npush 0\npush 0\nbad: iret', 0, VME],
    ['IRET of IF while VIP is set', 'push 0x200\npush 0\npush 0\nbad: iret', 0x100000, VME],
    ['IRETD', 'bad: iretd', 0, VME],
    ['CLI without VME', 'bad: cli', 0, PVI],
    ['POPF without VME', 'bad: popf', 0, 0],
    ['INT n without VME', 'bad: int 0x50', 0, 0],
    ['INT n that is not redirected', 'bad: int 0x60', 0, VME],
  ] as const)('#GP(0): %s', async (_, code, rflags, cr4) => {
    const b = await v86(code, rflags, cr4);
    expect(stop(b)).toMatchObject({ vector: GP, error: 0, at: 'bad' });
  });

  it('#GP(0) for INT n if the bitmap lies beyond the TSS', async () => {
    const b = await v86('bad: int 0x50', 0);
    b.segment('tr', SEL.TSS, 0x8b, 0x71, TSS);
    expect(stop(b)).toMatchObject({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('the interrupt redirection bitmap', () => {
  const frame = (b: Bare): number[] => [0xfa, 0xfc, 0xfe].map((at) => b.read16(0x4f000 + at));
  it('a 0 bit goes through the IVT: VIF into the image, VIF and TF cleared, IF as it was', async () => {
    const b = await v86('int 0x50\nback: nop', 0x80200);
    // The handler ends in INT 0x60, which is not redirected and so raises #GP.
    expect(stop(b)).toMatchObject({ vector: GP, at: '0x600', flags: BigInt(VM) | IF | 0x10000n });
    expect(frame(b)).toEqual([Number(b.label('back')), 0, 0x3202]);
  });
  it('at IOPL 3 IF itself is cleared', async () => {
    const b = await v86('int 0x50\nback: nop', IOPL3 | 0x80200);
    b.gate(0x60, SEL.CODE32, 0xee);
    expect(stop(b)).toMatchObject({ vector: 0x60, flags: BigInt(VM | IOPL3) | VIF });
    expect(frame(b)).toEqual([Number(b.label('back')), 0, 0x3202]);
  });
  it('INT3 and INTO are not redirected', async () => {
    const b = await v86('int3', 0);
    b.cpu.memory.fill(0, TSS + 0x68, TSS + 0x88);
    expect(b.go().vector).toBe(BP);
    const c = await v86('mov al, 0x7f\ninc al\ninto', 0);
    c.gate(4, SEL.CODE32, 0xee);
    expect(c.go().vector).toBe(4);
  });
});

describe('protected mode with CR4.PVI', () => {
  it.each([
    [3, 0, PVI, 'sti', VIF],
    [3, 0x80000, PVI, 'cli', 0n],
    [3, 0x3200, PVI, 'cli', 0n],
    [3, 0x3000, PVI, 'sti', IF],
    [0, 0, PVI, 'sti', IF],
  ] as const)('CPL %i, EFLAGS %i, CR4 %i: %s', async (cpl, rflags, cr4, code, expected) => {
    const b = await bare('prot32', { cpl });
    b.put({ cr4, rflags: 2 | rflags });
    b.run(`${code}\nint 0x80`);
    expect(b.read32(Number(b.get('rsp')) + 8) & Number(IF | VIF)).toBe(Number(expected));
  });
  it.each([
    ['sti', 0x100000, PVI],
    ['sti', 0, VME],
    ['cli', 0, VME],
  ])('#GP(0): %s with EFLAGS %i, CR4 %i', async (code, rflags, cr4) => {
    const b = await bare('prot32', { cpl: 3 });
    b.put({ cr4, rflags: 2 | rflags });
    expect(b.fault(`bad: ${code}`)).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
  it('works in 64-bit mode', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ cr4: 0x20 | PVI });
    expect(b.run('sti\nint 0x80').frame[2] & VIF).toBe(VIF);
  });
});
