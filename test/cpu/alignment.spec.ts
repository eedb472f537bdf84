import { describe, expect, it } from 'vitest';
import { type Bare, bare, GDT, IDT, KERNEL_STACK, type Mode, PT, SEL, USER_STACK } from './bare.ts';

const GP = 13;
const PF = 14;
const AC = 17;
const CR0_AM = 0x40000n;
const RFLAGS_AC = 0x40002;

/** A vCPU at CPL 3 with alignment checks on. Rows marked "processor" were read off a real one in user mode. */
async function checked(mode: Mode, cpl: 0 | 3 = 3): Promise<Bare> {
  const b = await bare(mode, { cpl });
  b.put({ cr0: b.get('cr0') | CR0_AM, rflags: RFLAGS_AC });
  return b;
}

describe('alignment checks (#AC)', () => {
  it.each([
    ['mov eax, [rdi+1]', AC],
    ['mov eax, [rdi+2]', AC],
    ['mov eax, [rdi+4]', undefined],
    ['mov ax, [rdi+1]', AC],
    ['mov ax, [rdi+2]', undefined],
    ['mov al, [rdi+1]', undefined],
    ['mov rax, [rdi+4]', AC],
    ['mov rax, [rdi+8]', undefined],
    ['mov [rdi+2], eax', AC],
    ['lock add dword ptr [rdi+2], 1', AC],
    ['add dword ptr [rdi+4], 1', undefined],
    ['bt word ptr [rdi+1], 1', AC],
    ['bt dword ptr [rdi+2], 1', AC],
    ['cmpxchg8b [rdi+4]', AC],
    ['cmpxchg8b [rdi+8]', undefined],
    ['movups xmm0, [rdi+8]', AC],
    ['movups [rdi+8], xmm0', AC],
    ['movups xmm0, [rdi+16]', undefined],
    ['movaps xmm0, [rdi+8]', GP],
    ['movsd', undefined],
    ['inc rsi\nbad: movsd', AC],
    ['inc rdi\nbad: stosd', AC],
    ['mov rsp, rdi\ninc rsp\nbad: push rax', AC],
    ['mov rsp, rdi\ninc rsp\nbad: pop rax', AC],
    ['enter 16, 0\nleave', undefined],
  ] as const)('processor: %s', async (code, vector) => {
    const b = await checked('long64');
    b.put({ rdi: 0x30000, rsi: 0x31000, cr4: 0x220 });
    const { vector: got, error } = b.run(`${code.includes('bad:') ? code : `bad: ${code}`}\nint 0x80`);
    expect([got, error]).toEqual(vector ? [vector, 0] : [0x80, undefined]);
  });

  it('comes with the instruction restartable', async () => {
    const b = await checked('long64');
    b.put({ rdi: 0x30001 });
    expect(b.fault('xor eax, eax\nbad: xadd [rdi], eax')).toEqual({ vector: AC, error: 0, at: 'bad' });
    expect(b.get('rax')).toBe(0n);
  });

  it.each([
    ['CPL 0', 0, 0x40000n, RFLAGS_AC],
    ['RFLAGS.AC clear', 3, 0x40000n, 2],
    ['CR0.AM clear', 3, 0n, RFLAGS_AC],
  ] as const)('none with %s', async (_, cpl, am, rflags) => {
    const b = await bare('long64', { cpl });
    b.put({ cr0: b.get('cr0') | am, rflags, rdi: 0x30001 });
    expect(b.run('mov eax, [rdi]\nint 0x80').vector).toBe(0x80);
  });

  it('comes before paging, and after the canonical check', async () => {
    const b = await checked('long64');
    b.write64(PT + 0x30 * 8, 0n);
    expect(b.fault('bad: mov eax, [0x30001]')).toEqual({ vector: AC, error: 0, at: 'bad' });
    const c = await checked('long64');
    c.write64(PT + 0x30 * 8, 0n);
    expect(c.fault('bad: mov eax, [0x30004]')).toEqual({ vector: PF, error: 4, at: 'bad' });
    const d = await checked('long64');
    expect(d.fault('mov rax, 0x8000000000000001\nbad: mov eax, [rax]')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });

  it('begins and ends with POPF', async () => {
    const b = await checked('prot32');
    b.put({ rflags: 2 });
    expect(
      b.fault(`
        mov eax, [0x30001]
        pushf
        or dword ptr [esp], 0x40000
        popf
        mov eax, [0x30004]
      bad:
        mov eax, [0x30001]`),
    ).toEqual({ vector: AC, error: 0, at: 'bad' });
  });

  it('a 48-bit pseudo-descriptor wants an odd word address (SDM vol. 3, 3.5.1)', async () => {
    const b = await checked('prot32');
    expect(b.run('sgdt [0x30002]\nint 0x80').vector).toBe(0x80);
    const c = await checked('prot32');
    expect(c.fault('bad: sgdt [0x30000]')).toEqual({ vector: AC, error: 0, at: 'bad' });
  });

  it('implicit accesses and the handler at CPL 0 need no alignment', async () => {
    const b = await checked('prot32');
    b.put({ gdtr_base: GDT + 1, idtr_base: IDT + 1 });
    b.cpu.memory.copyWithin(GDT + 1, GDT, GDT + 0x100);
    b.cpu.memory.copyWithin(IDT + 1, IDT, IDT + 0x800);
    b.cpu.memoryWritten(GDT, 0x2000);
    expect(b.run('int 0x80').vector).toBe(0x80);
  });

  it('checks the stack of a handler at CPL 3; #AC there is a first fault', async () => {
    const b = await checked('prot32');
    b.write64(GDT + 0xd8, b.read64(GDT + (SEL.UCODE32 & ~7)));
    b.gate(0x21, SEL.UCODE32, 0xee);
    b.put({ rsp: USER_STACK + 1 });
    expect(b.fault('bad: int 0x21')).toEqual({ vector: AC, error: 0, at: 'bad' });
  });

  it('while #AC itself is delivered ends with the budget', async () => {
    const b = await checked('prot32');
    b.write64(GDT + 0xd8, b.read64(GDT + (SEL.UCODE32 & ~7)));
    b.gate(AC, SEL.UCODE32, 0xee);
    b.put({ rsp: USER_STACK + 1 });
    b.load('bad: push eax');
    expect(b.cpu.run(0, 100)).toEqual({ reason: 'budget' });
    expect([b.get('rip'), b.get('rsp')]).toEqual([b.label('bad'), BigInt(USER_STACK + 1)]);
  });

  it('holds in virtual-8086 mode', async () => {
    const b = await checked('prot32', 0);
    b.put({ rsp: KERNEL_STACK });
    const frame = ['0', '0', '0', '0', '0', '0x9000', '0x63002', '0', 'offset v86'];
    const { vector, error } = b.run(`
        ${frame.map((value) => `push ${value}`).join('\n')}
        iretd
      .code16
      v86: mov eax, [0x101]`);
    expect([vector, error]).toEqual([AC, 0]);
  });
});
