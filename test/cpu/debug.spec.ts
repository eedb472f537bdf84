import { describe, expect, it } from 'vitest';
import { type Bare, bare, HANDLERS, IST_STACK, type Mode, PT, SEL, TSS_STACK } from './bare.ts';

const DB = 1;
const PF = 14;
const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** R/W field of DR7. */
const KIND = { execute: 0, write: 1, port: 2, access: 3 } as const;
const LENGTH: Readonly<Record<number, number>> = { 1: 0, 2: 1, 4: 3, 8: 2 };
interface Breakpoint {
  readonly at: bigint | number;
  readonly kind: keyof typeof KIND;
  readonly length?: number;
  readonly enabled?: boolean;
}
function arm(b: Bare, ...points: readonly Breakpoint[]): void {
  let dr7 = 0x400n;
  for (const [n, { at, kind, length = 1, enabled = true }] of points.entries()) {
    b.put({ [`dr${n}`]: at });
    if (enabled) dr7 |= 1n << BigInt(n * 2);
    dr7 |= BigInt(KIND[kind] | (LENGTH[length] << 2)) << BigInt(16 + n * 4);
  }
  b.put({ dr7, dr6: 0xffff0ff0 });
}
/** Runs to the first exit; the vector, where the handler would return to, and DR6 without its fixed bits. */
function stop(b: Bare): unknown[] {
  const { vector, at } = b.go();
  return [vector, at, hex(b.get('dr6') & ~0xffff0ff0n)];
}
/** Goes back from the #DB handler to what it interrupted, which then runs to the next stop. */
function goOn(b: Bare): unknown[] {
  b.cpu.memory.set([0x48, 0xcf], 0x5011); // IRETQ behind the HLT of the handler
  b.cpu.memoryWritten(0x5010, 16);
  b.state.skipInstruction();
  b.put({ dr6: 0xffff0ff0 });
  return stop(b);
}

describe('data breakpoints', () => {
  const CODE = `
      mov [0x30002], eax
    w:
      mov al, [0x30003]
    r:
      mov edi, 0x30000
      mov ecx, 8
    s:
      rep stosb
    q:
      inc dword ptr [0x30004]
    i:
      hlt`;

  it.each([
    [
      '4 bytes at +0, writes',
      { at: 0x30000, kind: 'write', length: 4 },
      [
        [DB, 'w', '0x1'],
        [DB, 's', '0x1'],
        [DB, 's', '0x1'],
      ],
    ],
    [
      '1 byte at +5, writes',
      { at: 0x30005, kind: 'write' },
      [
        [DB, 'w', '0x1'],
        [DB, 's', '0x1'],
        [DB, 'i', '0x1'],
      ],
    ],
    [
      '1 byte at +6, writes',
      { at: 0x30006, kind: 'write' },
      [
        [DB, 's', '0x1'],
        [DB, 'i', '0x1'],
        [undefined, 'i', '0x0'],
      ],
    ],
    [
      '1 byte at +3, reads and writes',
      { at: 0x30003, kind: 'access' },
      [
        [DB, 'w', '0x1'],
        [DB, 'r', '0x1'],
        [DB, 's', '0x1'],
      ],
    ],
    [
      '8 bytes at +5, aligned down',
      { at: 0x30005, kind: 'write', length: 8 },
      [
        [DB, 'w', '0x1'],
        [DB, 's', '0x1'],
        [DB, 's', '0x1'],
      ],
    ],
  ] as const)('as a processor has them: %s', async (_, point, expected) => {
    const b = await bare('long64');
    b.load(CODE);
    arm(b, point);
    expect([stop(b), goOn(b), goOn(b)]).toEqual(expected);
  });

  it('a repeated string instruction traps after the iteration that touches the byte', async () => {
    const b = await bare('long64');
    b.load('mov edi, 0x30000\nmov ecx, 8\ns: rep stosb\nhlt');
    arm(b, { at: 0x30003, kind: 'write' });
    expect([stop(b), b.get('rcx')]).toEqual([[DB, 's', '0x1'], 4n]);
    expect(goOn(b).slice(0, 1)).toEqual([undefined]);
    expect(b.get('rcx')).toBe(0n);
  });

  it('reports a disabled register that matches together with an enabled one, and none alone', async () => {
    const b = await bare('long64');
    b.load('mov [0x30000], rax\nnext: hlt');
    arm(b, { at: 0x30000, kind: 'write', length: 8 }, { at: 0x30004, kind: 'access', length: 4, enabled: false });
    expect(stop(b)).toEqual([DB, 'next', '0x3']);
    b.load('mov [0x30000], rax\nnext: hlt');
    arm(b, { at: 0x30000, kind: 'write', length: 8, enabled: false });
    expect(stop(b)).toEqual([undefined, 'next', '0x0']);
  });

  it('an access that faults hits nothing', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x30 * 8, 0n);
    b.load('bad: mov [0x30000], rax\nhlt');
    arm(b, { at: 0x30000, kind: 'write' });
    expect(stop(b)).toEqual([PF, 'bad', '0x0']);
  });

  it('sees accesses through translations made before', async () => {
    const b = await bare('long64');
    b.load(`mov [0x30000], al
      mov rax, 0x30000
      mov dr0, rax
      mov eax, 0x10403
      mov dr7, rax
      mov [0x30000], al
    next: hlt`);
    expect(stop(b)).toEqual([DB, 'next', '0x1']);
  });

  it('compares 32 bits of the linear address outside IA-32e mode, base included', async () => {
    const b = await bare('prot32');
    b.load('mov ax, SMALL\nmov es, ax\nmov es:[4], eax\nnext: hlt');
    arm(b, { at: 0xffffffff00030004n, kind: 'write', length: 4 });
    expect(stop(b)).toEqual([DB, 'next', '0x1']);
  });

  it('is taken in the handler if the delivery itself touched the byte', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.load('int 0x80');
    arm(b, { at: TSS_STACK - 8, kind: 'write', length: 8 });
    expect(stop(b)).toEqual([DB, '0x5800', '0x1']);
  });

  it('that MOV SS has held off is reported by INT1 behind it, once', async () => {
    const b = await bare('long64');
    b.write64(0x30000, BigInt(SEL.DATA));
    b.load('mov ss, [0x30000]\n.byte 0xf1\nback: hlt');
    arm(b, { at: 0x30000, kind: 'access' });
    expect(stop(b)).toEqual([DB, 'back', '0x1']);
    expect(goOn(b)).toEqual([undefined, 'back', '0x0']);
  });

  it('on the frame of its own #DB ends with the budget', async () => {
    const b = await bare('long64');
    b.load('mov [0x30000], al\nnext: nop\nhlt');
    arm(b, { at: 0x30000, kind: 'write' }, { at: IST_STACK - 8, kind: 'write', length: 8 });
    b.gate(DB, SEL.CODE64, 0x8e, 1);
    expect(b.cpu.run(0, 100)).toEqual({ reason: 'budget' });
    expect([b.state.steps, b.get('rip')]).toEqual([100, BigInt(HANDLERS + DB * 16)]);
  });

  it('waits out MOV SS and, with INT behind it, is taken at the handler', async () => {
    const b = await bare('long64');
    b.write64(0x30000, BigInt(SEL.DATA));
    b.load('mov ss, [0x30000]\nint 0x80\nhlt');
    arm(b, { at: 0x30000, kind: 'access' });
    expect(stop(b)).toEqual([DB, '0x5800', '0x1']);
    b.load('mov ss, [0x30000]\nnop\nnext: hlt');
    arm(b, { at: 0x30000, kind: 'access' });
    expect(stop(b)).toEqual([DB, 'next', '0x1']);
  });
});

describe('instruction breakpoints', () => {
  it('are faults before the instruction, with RF 0 in the pushed image', async () => {
    const b = await bare('long64');
    b.load('nop\nhere: inc eax\nhlt');
    arm(b, { at: b.label('here'), kind: 'execute' });
    const { vector, at, frame } = b.go();
    expect([vector, at, frame[2], b.get('rax')]).toEqual([DB, 'here', 2n, 0n]);
  });

  it('RF lets one instruction pass', async () => {
    const b = await bare('long64');
    b.load('here: inc eax\njmp here');
    arm(b, { at: b.label('here'), kind: 'execute' });
    b.put({ rflags: 0x10002 });
    expect([stop(b), b.get('rax'), b.get('rflags')]).toEqual([[DB, 'here', '0x1'], 1n, 2n]);
  });

  it('IRET that loads RF resumes at the breakpoint', async () => {
    const b = await bare('long64');
    b.load('mov ecx, 2\nhere: dec ecx\njnz here\nend: hlt');
    arm(b, { at: b.label('here'), kind: 'execute' });
    expect(stop(b)).toEqual([DB, 'here', '0x1']);
    const flags = Number(b.get('rsp')) + 16;
    b.write64(flags, b.read64(flags) | 0x10000n);
    expect([goOn(b), b.get('rcx')]).toEqual([[DB, 'here', '0x1'], 1n]);
  });

  it('count a repeated string instruction once', async () => {
    const b = await bare('long64');
    b.load('mov edi, 0x30000\nmov ecx, 40\nhere: rep stosb\nend: hlt');
    arm(b, { at: b.label('here'), kind: 'execute' });
    expect(stop(b)).toEqual([DB, 'here', '0x1']);
    const flags = Number(b.get('rsp')) + 16;
    b.write64(flags, b.read64(flags) | 0x10000n);
    expect([goOn(b), b.get('rcx')]).toEqual([[undefined, 'end', '0x0'], 0n]);
  });

  it.each([
    ['intel', [undefined, 'end', '0x0']],
    ['amd', [DB, 'here', '0x1']],
  ] as const)('behind MOV SS on %s: %j', async (vendor, expected) => {
    const b = await bare('long64', { vendor });
    b.load('mov eax, DATA\nmov ss, eax\nhere: nop\nend: hlt');
    arm(b, { at: b.label('here'), kind: 'execute' });
    expect(stop(b)).toEqual(expected);
  });

  it('come before the fault of the fetch', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x30 * 8, 0n);
    b.load('mov eax, 0x30000\njmp rax');
    arm(b, { at: 0x30000, kind: 'execute' });
    expect(stop(b)).toEqual([DB, '0x30000', '0x1']);
  });

  it('a trap of the instruction before comes first', async () => {
    const b = await bare('long64');
    b.load('mov [0x30000], al\nhere: nop\nhlt');
    arm(b, { at: b.label('here'), kind: 'execute' }, { at: 0x30000, kind: 'write' });
    expect(stop(b)).toEqual([DB, 'here', '0x2']);
    expect(goOn(b)).toEqual([DB, 'here', '0x1']);
  });

  it('an MMIO access in between does not hit again', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x30 * 8, 0x7fff_f000n | 7n);
    b.load('mov ebx, 0x30000\nhere: mov eax, [rbx]\nend: hlt');
    arm(b, { at: b.label('here'), kind: 'execute' });
    b.put({ rip: b.label('here'), rbx: 0x30000, rflags: 0x10002 });
    expect(b.go().reason).toBe('mmio');
    b.state.completeMmio(0x55, 0);
    expect([stop(b), b.get('rax')]).toEqual([[undefined, 'end', '0x0'], 0x55n]);
  });
});

describe('I/O breakpoints', () => {
  it.each([
    ['in al, 0x40', 0x40, 1, 8, 1],
    ['in eax, 0x40', 0x43, 1, 8, 1],
    ['in al, 0x40', 0x41, 1, 8, 0],
    ['out 0x42, ax', 0x40, 4, 8, 1],
    ['in al, 0x40', 0x40, 1, 0, 0],
  ])('%s with port 0x%x, length %i, CR4 = %i: B0-B3 = %i', async (code, at, length, cr4, expected) => {
    const b = await bare('prot32');
    b.load(code);
    arm(b, { at, kind: 'port', length });
    b.put({ cr4 });
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'io', breakpoints: expected });
  });
});

describe('single-step', () => {
  const TF = 0x102;
  it.each([
    ['nop\nnext: nop', 'next'],
    ['jmp next\nnop\nnext: nop', 'next'],
    ['mov ecx, 3\nnop', '0x8005'],
    ['mov ss, eax\nnop\nnext: nop', 'next'],
    ['iretq_here: push 0x2\npopfq\nnext: nop', '0x8002'],
  ])('traps behind %s', async (code, at) => {
    const b = await bare('long64');
    b.load(code);
    b.put({ rflags: TF, rax: SEL.DATA, dr6: 0xffff0ff0 });
    expect(stop(b)).toEqual([DB, at, '0x4000']);
  });

  it.each([
    ['intel', '0x10102'],
    ['amd', '0x102'],
  ] as const)('traps after each iteration of REP; on %s the image in between is %s', async (vendor, image) => {
    const b = await bare('long64', { vendor });
    b.load('s: rep stosb\nend: nop');
    b.put({ rflags: TF, rdi: 0x30000, rcx: 2, dr6: 0xffff0ff0 });
    const first = b.go();
    expect([first.at, hex(first.frame[2]), b.get('rcx')]).toEqual(['s', image, 1n]);
    expect([goOn(b), b.get('rcx')]).toEqual([[DB, 'end', '0x4000'], 0n]);
  });

  it('POPF that sets TF traps one instruction later, one that clears it traps', async () => {
    const b = await bare('long64');
    b.load('push 0x102\npopfq\nnop\nnext: push 2\npopfq\nend: nop\nhlt');
    b.put({ dr6: 0xffff0ff0 });
    expect(stop(b)).toEqual([DB, 'next', '0x4000']);
  });

  it('SYSCALL traps by TF after the mask; SYSRET to TF traps at once', async () => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ star: 0x0023_0008_0000_0000n, lstar: 0x9000, fmask: 0x100, rflags: TF, dr6: 0xffff0ff0 });
    b.cpu.memory[0x9000] = 0xf4;
    b.load('syscall\nnext: nop');
    expect(b.go()).toMatchObject({ reason: 'hlt', at: '0x9000' });
    b.put({ fmask: 0, rip: 0x8000, rflags: TF });
    const c = await bare('long64', { cpl: 3 });
    c.put({ star: 0x0023_0008_0000_0000n, lstar: 0x9000, fmask: 0, rflags: TF, dr6: 0xffff0ff0 });
    c.load('syscall');
    expect(stop(c)).toEqual([DB, '0x9000', '0x4000']);
    const d = await bare('long64');
    d.put({ star: 0x0023_0008_0000_0000n, rcx: 0x9000, r11: TF, dr6: 0xffff0ff0 });
    d.load('sysretq');
    expect(stop(d)).toEqual([DB, '0x9000', '0x4000']);
  });

  it('and a data breakpoint make one exception', async () => {
    const b = await bare('long64');
    b.load('mov [0x30000], al\nnext: nop');
    arm(b, { at: 0x30000, kind: 'write' });
    b.put({ rflags: TF });
    expect(stop(b)).toEqual([DB, 'next', '0x4001']);
  });
});

describe('debug registers', () => {
  it.each([
    ['real', 0, 4, 6],
    ['prot32', 8, 4, undefined],
  ] as const)('DR4 in %s mode with CR4 = %i', async (mode: Mode, cr4, dr, target) => {
    const b = await bare(mode);
    b.put({ cr4, [`dr${target ?? 6}`]: 0xffff4ff0, idtr_base: b.get('idtr_base') });
    const { vector } = b.run(`.byte 0x0f, 0x21, ${0xc0 | (dr << 3)}\nhlt`);
    expect([vector, hex(b.get('rax'))]).toEqual(target ? [undefined, '0xffff4ff0'] : [6, '0x0']);
  });

  it('the exception bitmap gets the DR6 bits instead of the register', async () => {
    const b = await bare('long64');
    b.load('here: nop');
    arm(b, { at: b.label('here'), kind: 'execute' });
    b.state.exceptionBitmap = 1 << DB;
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'exception', vector: DB, hasErrorCode: false, addressLo: 1 });
    expect([hex(b.get('dr6')), b.get('rip')]).toEqual(['0xffff0ff0', b.label('here')]);
  });
});
