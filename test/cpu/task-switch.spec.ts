/**
 * Task switches (SDM vol. 3, chapter 8). Every test starts in the task of bare.ts (TSS selector TSS, 32-bit) and has one more 32-bit and
 * one more 16-bit task; a task ends in HLT.
 */
import { describe, expect, it } from 'vitest';
import {
  type Bare,
  bare,
  descriptor,
  GDT,
  HANDLERS,
  IDT,
  KERNEL_STACK,
  LDT,
  PAE_PDPT,
  PD32,
  PT32,
  SEL,
  TSS,
} from './bare.ts';

const DF = 8;
const TS = 10;
const NP = 11;
const SS = 12;
const GP = 13;
const PF = 14;
const TASK32 = 0xd0;
const TASK16 = 0xd8;
const TASK_GATE = 0xe0;
const TSS32 = 0x9000;
const TSS16 = 0xa000;
const STACK = 0x3f000;
const NT = 0x4000;

// Offsets in a 32-bit TSS.
const T32 = {
  link: 0,
  cr3: 0x1c,
  eip: 0x20,
  eflags: 0x24,
  eax: 0x28,
  esp: 0x38,
  es: 0x48,
  cs: 0x4c,
  ss: 0x50,
  ds: 0x54,
  fs: 0x58,
  gs: 0x5c,
  ldt: 0x60,
  trap: 0x64,
};
// Offsets in a 16-bit TSS.
const T16 = { ip: 0xe, flags: 0x10, ax: 0x12, sp: 0x1a, es: 0x22, cs: 0x24, ss: 0x26, ds: 0x28, ldt: 0x2a };

const typeOf = (b: Bare, selector: number): number => b.cpu.memory[GDT + selector + 5];

/** Both tasks at the label `task`, and the snippet that switches to one of them. */
async function tasks(source: string, { cpl = 0 }: { readonly cpl?: 0 | 3 } = {}): Promise<Bare> {
  const b = await bare('prot32', { cpl });
  b.write64(GDT + TASK32, descriptor(TSS32, 0x67, 0x89));
  b.write64(GDT + TASK16, descriptor(TSS16, 0x2b, 0x81));
  b.write64(GDT + TASK_GATE, (BigInt(TASK32) << 16n) | (0xe5n << 40n));
  b.load(`${source}\nhlt\ntask: hlt\n`);
  const task = Number(b.label('task'));
  const state: readonly (readonly [number, number])[] = [
    [T32.eip, task],
    [T32.eflags, 2],
    [T32.esp, STACK],
    [T32.es, SEL.DATA],
    [T32.cs, SEL.CODE32],
    [T32.ss, SEL.DATA],
    [T32.ds, SEL.DATA],
    [T32.fs, SEL.SMALL],
  ];
  for (const [at, value] of state) b.write32(TSS32 + at, value);
  for (let n = 0; n < 8; n++) if (n !== 4) b.write32(TSS32 + T32.eax + n * 4, 0x11110000 + n);
  for (let n = 0; n < 8; n++) b.write16(TSS16 + T16.ax + n * 2, 0x2220 + n);
  b.write16(TSS16 + T16.ip, task);
  b.write16(TSS16 + T16.flags, 2);
  b.write16(TSS16 + T16.sp, STACK & 0xffff);
  b.write16(TSS16 + T16.cs, SEL.CODE32);
  b.write16(TSS16 + T16.ss, SEL.DATA);
  b.write16(TSS16 + T16.ds, SEL.DATA);
  return b;
}
const jump = (selector: number): string => `there: jmp ${selector}:0\nback:`;
const call = (selector: number): string => `there: call ${selector}:0\nback:`;
const faultOf = (b: Bare): unknown => {
  const { vector, error, at } = b.go();
  return { vector, error, at };
};

describe('JMP to a task', () => {
  it('saves the old state, loads the new one, moves the busy bit and sets CR0.TS', async () => {
    const b = await tasks(jump(TASK32));
    b.put({ rax: 0xa0a0a0a0, rbp: 0xb0b0b0b0, rflags: 0x8d7, dr7: 0x7ff });
    expect(b.go()).toMatchObject({ reason: 'hlt', at: 'task' });
    const saved = (offset: number): number => b.read32(TSS + offset);
    expect([saved(T32.eip), saved(T32.eflags), saved(T32.eax), saved(0x3c), saved(T32.esp), saved(T32.cs)]).toEqual([
      Number(b.label('back')),
      0x8d7,
      0xa0a0a0a0,
      0xb0b0b0b0,
      KERNEL_STACK,
      SEL.CODE32,
    ]);
    expect([b.get('rax'), b.get('rcx'), b.get('rdi'), b.get('rsp'), b.get('rflags')]).toEqual([
      0x11110000n,
      0x11110001n,
      0x11110007n,
      BigInt(STACK),
      2n,
    ]);
    expect([b.get('tr'), b.get('tr_base'), b.get('tr_attr'), b.get('fs_base'), b.get('gs_attr')]).toEqual([
      BigInt(TASK32),
      BigInt(TSS32),
      0x8bn,
      0x30000n,
      0x10000n,
    ]);
    expect([typeOf(b, SEL.TSS), typeOf(b, TASK32), b.get('cr0') & 8n, b.get('dr7')]).toEqual([0x89, 0x8b, 8n, 0x6aan]);
    // Nothing of the old task but EIP to GS has been written, nothing of the new one.
    expect([b.read32(TSS + T32.cr3), b.read16(TSS32 + T32.link)]).toEqual([0, 0]);
  });

  it('to a 16-bit TSS: 16 bits of each register, FS and GS as they were', async () => {
    const b = await tasks(`mov eax, SMALL\nmov fs, ax\n${jump(TASK16)}`);
    expect(b.go()).toMatchObject({ reason: 'hlt', at: 'task' });
    expect([b.get('rax'), b.get('rdi'), b.get('rsp'), b.get('fs'), b.get('tr_attr'), b.get('es_attr')]).toEqual([
      0x2220n,
      0x2227n,
      0xf000n,
      BigInt(SEL.SMALL),
      0x83n,
      0x10000n,
    ]);
  });

  it('from a 16-bit task: saves 16 bits of each', async () => {
    const b = await tasks(`${jump(TASK16)}`);
    b.go();
    b.load(`mov esi, 0x12345678\n${jump(TASK32)}\ntask: hlt`);
    b.go();
    expect([b.read16(TSS16 + 0x1e), b.read16(TSS16 + T16.ip), typeOf(b, TASK16)]).toEqual([
      0x5678,
      Number(b.label('back')),
      0x81,
    ]);
  });

  it('through a task gate of the GDT, at CPL 3', async () => {
    const b = await tasks(jump(TASK_GATE | 3), { cpl: 3 });
    expect([b.go().at, b.state.cpl, b.get('tr')]).toEqual(['task', 0, BigInt(TASK32)]);
  });

  it.each([
    ['a busy TSS', () => {}, SEL.TSS, GP, SEL.TSS],
    ['a TSS of DPL 0 by RPL 3', () => {}, TASK32 | 3, GP, TASK32],
    ['an absent TSS', (b: Bare) => b.write64(GDT + TASK32, descriptor(TSS32, 0x67, 9)), TASK32, NP, TASK32],
    ['a TSS of 103 bytes', (b: Bare) => b.write64(GDT + TASK32, descriptor(TSS32, 0x66, 0x89)), TASK32, TS, TASK32],
    [
      'a 16-bit TSS of 43 bytes',
      (b: Bare) => b.write64(GDT + TASK16, descriptor(TSS16, 0x2a, 0x81)),
      TASK16,
      TS,
      TASK16,
    ],
    [
      'an absent gate',
      (b: Bare) => b.write64(GDT + TASK_GATE, (BigInt(TASK32) << 16n) | (0x65n << 40n)),
      TASK_GATE,
      NP,
      TASK_GATE,
    ],
    [
      'a gate to the LDT',
      (b: Bare) => b.write64(GDT + TASK_GATE, (0x0cn << 16n) | (0xe5n << 40n)),
      TASK_GATE,
      GP,
      0x0c,
    ],
    ['a gate to null', (b: Bare) => b.write64(GDT + TASK_GATE, 0xe5n << 40n), TASK_GATE, GP, 0],
    [
      'a gate to data',
      (b: Bare) => b.write64(GDT + TASK_GATE, (BigInt(SEL.DATA) << 16n) | (0xe5n << 40n)),
      TASK_GATE,
      GP,
      SEL.DATA,
    ],
    [
      'a gate to a busy TSS',
      (b: Bare) => b.write64(GDT + TASK_GATE, (BigInt(SEL.TSS) << 16n) | (0xe5n << 40n)),
      TASK_GATE,
      GP,
      SEL.TSS,
    ],
    [
      'a gate of DPL 0 by RPL 3',
      (b: Bare) => b.write64(GDT + TASK_GATE, (BigInt(TASK32) << 16n) | (0x85n << 40n)),
      TASK_GATE | 3,
      GP,
      TASK_GATE,
    ],
  ] as const)('%s faults before anything has changed', async (_, prepare, selector, vector, error) => {
    const b = await tasks(jump(selector));
    prepare(b);
    const busy = typeOf(b, TASK32);
    expect(faultOf(b)).toEqual({ vector, error, at: 'there' });
    expect([b.get('tr'), b.get('cr0') & 8n, typeOf(b, SEL.TSS), typeOf(b, TASK32), b.read32(TSS + T32.eip)]).toEqual([
      BigInt(SEL.TSS),
      0n,
      0x8b,
      busy,
      0,
    ]);
  });

  it.each([
    ['LDT in the LDT', T32.ldt, 0x0c, TS, 0x0c],
    ['LDT beyond the GDT', T32.ldt, 0x100, TS, 0x100],
    ['LDT that is data', T32.ldt, SEL.DATA, TS, SEL.DATA],
    ['null CS', T32.cs, 0, TS, 0],
    ['CS that is data', T32.cs, SEL.DATA, TS, SEL.DATA],
    ['CS of DPL 0 with RPL 3', T32.cs, SEL.CODE32 | 3, TS, SEL.CODE32],
    ['absent CS', T32.cs, SEL.NOCODE, NP, SEL.NOCODE],
    ['null SS', T32.ss, 0, TS, 0],
    ['read-only SS', T32.ss, SEL.READONLY, TS, SEL.READONLY],
    ['SS of DPL 3', T32.ss, SEL.UDATA, TS, SEL.UDATA & ~3],
    ['absent SS', T32.ss, SEL.ABSENT, SS, SEL.ABSENT],
    ['DS that cannot be read', T32.ds, SEL.EXECONLY, TS, SEL.EXECONLY],
    ['absent ES', T32.es, SEL.ABSENT, NP, SEL.ABSENT],
    ['GS that is a TSS', T32.gs, SEL.TSS2, TS, SEL.TSS2],
    ['FS of DPL 0 with RPL 3', T32.fs, SEL.DATA | 3, TS, SEL.DATA],
  ])('%s faults in the new task', async (_, field, value, vector, error) => {
    const b = await tasks(jump(TASK32));
    b.write32(TSS32 + field, value);
    // A fault before the stack is loaded needs a handler with a stack of its own.
    b.write64(GDT + TASK16, descriptor(TSS16, 0x2b, 0x81));
    b.write16(TSS16 + T16.ip, HANDLERS + vector * 16);
    b.write64(IDT + vector * 8, (BigInt(TASK16) << 16n) | (0x85n << 40n));
    b.go();
    const sp = Number(b.get('rsp'));
    expect([b.get('rip'), b.read16(sp), b.get('tr'), b.read16(TSS16)]).toEqual([
      BigInt(HANDLERS + vector * 16),
      error,
      BigInt(TASK16),
      TASK32,
    ]);
    // The new task is what the handler interrupted, at its first instruction.
    expect([b.read32(TSS32 + T32.eip), b.read32(TSS32 + T32.eax)]).toEqual([Number(b.label('task')), 0x11110000]);
  });

  it('EIP beyond the limit of CS is #GP(0) of the new task', async () => {
    const b = await tasks(jump(TASK16));
    b.write64(GDT + 0xe8, descriptor(0, 0xff, 0x4098));
    b.write16(TSS16 + T16.cs, 0xe8);
    expect(faultOf(b)).toEqual({ vector: GP, error: 0, at: 'task' });
  });

  it('the T flag traps before the first instruction, and a single-step trap of the old task is gone', async () => {
    const b = await tasks(jump(TASK32));
    b.write16(TSS32 + T32.trap, 1);
    b.put({ rflags: 0x102, dr6: 0xffff0ff0 });
    expect([b.go().at, b.get('dr6')]).toEqual(['task', 0xffff8ff0n]);
    const c = await tasks(jump(TASK32));
    c.put({ rflags: 0x102 });
    expect(c.go()).toMatchObject({ reason: 'hlt', vector: undefined, at: 'task' });
  });

  it('loads LDTR and segments of the LDT', async () => {
    const b = await tasks(jump(TASK32));
    b.write64(LDT + 8, descriptor(0x12000, 0xfff, 0x4092));
    b.write32(TSS32 + T32.ldt, SEL.LDT);
    b.write32(TSS32 + T32.gs, 0x0c);
    b.go();
    expect([b.get('ldtr'), b.get('ldtr_base'), b.get('gs_base')]).toEqual([BigInt(SEL.LDT), BigInt(LDT), 0x12000n]);
  });

  it('into virtual-8086 mode', async () => {
    const b = await tasks(jump(TASK32));
    b.write32(TSS32 + T32.eflags, 0x23002);
    b.write32(TSS32 + T32.cs, 0x1234);
    b.write32(TSS32 + T32.ss, 0x3000);
    b.write32(TSS32 + T32.eip, 0x10);
    b.write32(TSS32 + 4, STACK);
    b.write32(TSS32 + 8, SEL.DATA);
    b.cpu.memory.set([0xcd, 0x80], 0x12350);
    const { vector, frame } = b.go();
    expect([vector, frame.slice(0, 3), frame[4]]).toEqual([0x80, [0x12n, 0x1234n, 0x23002n], 0x3000n]);
  });

  it('is #GP(selector) in IA-32e mode', async () => {
    const b = await bare('long64');
    b.write32(0x30000, 0);
    b.write32(0x30004, SEL.TSS2);
    expect(b.fault('bad: jmp fword ptr [0x30000]')).toEqual({ vector: GP, error: SEL.TSS2, at: 'bad' });
  });
});

describe('CALL and IRET', () => {
  it('CALL links the tasks and sets NT; IRET goes back and clears NT in the task it leaves', async () => {
    const b = await tasks(`mov ebx, 77\n${call(TASK32)} inc ebx\nend: hlt`);
    b.load(`mov ebx, 77\n${call(TASK32)} inc ebx\nend: hlt\ntask: mov eax, 5\niret\nagain: hlt`);
    b.write32(TSS32 + T32.eip, Number(b.label('task')));
    expect(b.go().at).toBe('end');
    expect([b.get('rbx'), b.get('tr'), b.get('rflags') & BigInt(NT)]).toEqual([78n, BigInt(SEL.TSS), 0n]);
    expect([typeOf(b, SEL.TSS), typeOf(b, TASK32)]).toEqual([0x8b, 0x89]);
    expect([
      b.read16(TSS32),
      b.read32(TSS32 + T32.eflags),
      b.read32(TSS32 + T32.eax),
      b.read32(TSS32 + T32.eip),
    ]).toEqual([SEL.TSS, 2, 5, Number(b.label('again'))]);
  });

  it('a CALL leaves the old TSS busy', async () => {
    const b = await tasks(call(TASK16));
    b.go();
    expect([typeOf(b, SEL.TSS), typeOf(b, TASK16), b.get('rflags'), b.read16(TSS16)]).toEqual([
      0x8b,
      0x83,
      0x4002n,
      SEL.TSS,
    ]);
  });

  it.each([
    ['the LDT', 0x0c, TS, 0x0c],
    ['null', 0, TS, 0],
    ['an available TSS', TASK32, TS, TASK32],
    ['data', SEL.DATA, TS, SEL.DATA],
    ['beyond the GDT', 0x100, TS, 0x100],
  ])('IRET with NT and a link to %s', async (_, link, vector, error) => {
    const b = await tasks('push 0x4002\npopf\nbad: iret');
    b.write16(TSS, link);
    expect(faultOf(b)).toEqual({ vector, error, at: 'bad' });
  });

  it('IRET to an absent TSS is #NP', async () => {
    const b = await tasks('push 0x4002\npopf\nbad: iret');
    b.write64(GDT + TASK32, descriptor(TSS32, 0x67, 0x0b));
    b.write16(TSS, TASK32);
    expect(faultOf(b)).toEqual({ vector: NP, error: TASK32, at: 'bad' });
  });

  it('a task that faults before its first instruction has none of the shadows of the old one', async () => {
    const b = await tasks(`sti\n ${jump(TASK32)}`);
    b.write32(TSS32 + T32.cs, 0);
    b.put({ idtr_limit: 0 });
    expect(b.go()).toMatchObject({ reason: 'shutdown' });
    expect([b.get('tr'), b.get('rflags') & 0x200n, b.state.interruptibility]).toEqual([BigInt(TASK32), 0n, 0]);
  });
});

describe('task gates of the IDT', () => {
  const gateTo = (b: Bare, vector: number, task: number, type = 0x85): void =>
    b.write64(IDT + vector * 8, (BigInt(task) << 16n) | (BigInt(type) << 40n));

  it('an exception pushes its error code onto the new stack; RF is set in the old image', async () => {
    const b = await tasks('mov eax, 0x7000\nbad: mov ds, ax');
    gateTo(b, GP, TASK32);
    expect(b.go().at).toBe('task');
    expect([b.get('rsp'), b.read32(STACK - 4), b.get('rflags')]).toEqual([BigInt(STACK - 4), 0x7000, 0x4002n]);
    expect([b.read32(TSS + T32.eip), b.read32(TSS + T32.eflags) & 0x10000]).toEqual([Number(b.label('bad')), 0x10000]);
  });

  it('two bytes onto the stack of a 16-bit task', async () => {
    const b = await tasks('mov eax, 0x7000\nbad: mov ds, ax');
    gateTo(b, GP, TASK16);
    b.go();
    expect([b.get('rsp'), b.read16((STACK & 0xffff) - 2)]).toEqual([BigInt((STACK & 0xffff) - 2), 0x7000]);
  });

  it('INT n saves the next instruction and needs the DPL', async () => {
    const b = await tasks('int 0x40\nafter: nop', { cpl: 3 });
    gateTo(b, 0x40, TASK32, 0xe5);
    expect(b.go().at).toBe('task');
    expect(b.read32(TSS + T32.eip)).toBe(Number(b.label('after')));
    const c = await tasks('bad: int 0x40', { cpl: 3 });
    gateTo(c, 0x40, TASK32);
    expect(faultOf(c)).toEqual({ vector: GP, error: 0x40 * 8 + 2, at: 'bad' });
  });

  it('an external interrupt switches too, and IRET resumes what it interrupted', async () => {
    const b = await tasks('sti\nnop\nhere: inc eax\nend: hlt');
    b.load('here: inc eax\nend: hlt\ntask: iret');
    b.write32(TSS32 + T32.eip, Number(b.label('task')));
    gateTo(b, 0x30, TASK32);
    b.put({ rflags: 0x202, rax: 1 });
    b.state.inject(0x80000030, 0, 0);
    expect([b.go().at, b.get('rax'), b.get('rflags') & 0x202n]).toEqual(['end', 2n, 0x202n]);
  });

  it('faults of an external event have EXT in their error code', async () => {
    const b = await tasks('here: nop');
    gateTo(b, 0x30, SEL.TSS);
    b.state.inject(0x80000030, 0, 0);
    expect(faultOf(b)).toEqual({ vector: GP, error: SEL.TSS | 1, at: 'here' });
  });

  it('a double fault through a task gate gets a good stack', async () => {
    const b = await tasks('mov esp, 0\nmov eax, ABSENT\nbad: mov ss, ax');
    gateTo(b, DF, TASK32);
    b.gate(SS, SEL.NOCODE, 0x8e);
    expect(b.go().at).toBe('task');
    expect([b.read32(STACK - 4), b.read32(TSS + T32.eip)]).toEqual([0, Number(b.label('bad'))]);
  });
});

describe('with paging', () => {
  async function paged(source: string): Promise<Bare> {
    const b = await tasks(source);
    b.put({ cr3: PD32, cr0: 0x80010031 });
    b.write32(TSS32 + T32.cr3, 0x48000);
    b.cpu.memory.copyWithin(0x48000, PD32, PD32 + 0x1000);
    b.cpu.memory.copyWithin(0x49000, PT32, PT32 + 0x1000);
    b.write32(0x48000, 0x49007);
    return b;
  }
  it('loads CR3 from a 32-bit TSS', async () => {
    const b = await paged(jump(TASK32));
    b.write32(0x49000 + 0x70 * 4, 0x71007);
    b.write32(0x70000, 1);
    b.write32(0x71000, 2);
    b.load(`mov ebx, [0x70000]\n${jump(TASK32)}\ntask: mov ecx, [0x70000]\nhlt`);
    b.write32(TSS32 + T32.eip, Number(b.label('task')));
    b.go();
    expect([b.get('cr3'), b.get('rcx'), b.read32(TSS + T32.cr3)]).toEqual([0x48000n, 2n, 0]);
  });

  it.each([
    ['the new TSS is not present', 0x9, 0x9006, 0, 0x9000],
    ['the old TSS is not present', 0x4, 0x4006, 2, 0x4020],
    ['the old TSS is read-only', 0x4, 0x4005, 3, 0x4020],
    ['the GDT is read-only', 0x2, 0x2005, 3, 0x2045],
  ])('#PF before anything has changed: %s', async (_, page, entry, error, address) => {
    const b = await paged(jump(TASK32));
    b.write32(PT32 + page * 4, entry);
    // The handler must not need the page.
    b.write64(GDT + SEL.CODE32, descriptor(0, 0xfffff, 0xc09b));
    expect(faultOf(b)).toMatchObject({ vector: PF, error });
    expect([Number(b.get('cr2')) & ~0xff, b.get('tr'), typeOf(b, SEL.TSS), typeOf(b, TASK32)]).toEqual([
      address & ~0xff,
      BigInt(SEL.TSS),
      0x8b,
      0x89,
    ]);
  });

  it('in PAE paging the PDPTEs come with CR3; a bad one is #GP(0) of the new task', async () => {
    const b = await tasks(jump(TASK32));
    b.put({ cr3: PAE_PDPT, cr4: 0x20, cr0: 0x80000031 });
    b.write32(TSS32 + T32.cr3, PAE_PDPT);
    expect(b.go()).toMatchObject({ reason: 'hlt', at: 'task' });
    const c = await tasks(jump(TASK32));
    c.put({ cr3: PAE_PDPT, cr4: 0x20, cr0: 0x80000031 });
    c.write64(0x48000, 0x3n);
    c.write32(TSS32 + T32.cr3, 0x48000);
    c.write64(IDT + GP * 8, (BigInt(TASK16) << 16n) | (0x85n << 40n));
    c.go();
    expect([c.get('tr'), c.read16(TSS16)]).toEqual([BigInt(TASK16), TASK32]);
  });
});
