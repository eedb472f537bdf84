/** The core's run loop: decoded code against stores, page edges, budgets, accesses that the host completes, several vCPUs. */
import { describe, expect, it } from 'vitest';
import { WasmCpu } from '../../src/cpu/wasm-cpu.ts';
import { KvmscopeError } from '../../src/errors.ts';
import { assemble } from '../../src/program/assembler.ts';
import { bare, CODE, HANDLERS, IST_STACK, PD, PT, SEL, USER_STACK } from './bare.ts';

describe('decoded code', () => {
  it('a store into the next instruction is seen by it', async () => {
    const b = await bare('long64');
    b.run(`
      mov byte ptr [rip + patch + 1], 7
    patch:
      mov eax, 1
      hlt`);
    expect(b.get('rax')).toBe(7n);
  });

  it('a loop that rewrites its own immediate adds each value once', async () => {
    const b = await bare('long64');
    b.run(`
      xor ebx, ebx
      mov ecx, 100
    again:
      mov [rip + patch + 1], ecx
    patch:
      mov eax, 0
      add ebx, eax
      dec ecx
      jnz again
      hlt`);
    expect(b.get('rbx')).toBe(5050n);
  });

  it('a string store over code that has run is seen at its next run', async () => {
    const b = await bare('long64');
    b.run(`
      call sub
      mov edx, eax
      lea rdi, [rip + sub + 1]
      mov al, 2
      mov ecx, 4
      rep stosb
      call sub
      hlt
    sub:
      mov eax, 0x01010101
      ret`);
    expect(b.get('rdx')).toBe(0x01010101n);
    expect(b.get('rax')).toBe(0x02020202n);
  });

  it('a push onto code is seen', async () => {
    const b = await bare('long64');
    b.run(`
      call sub
      lea rsp, [rip + sub + 8]
      mov eax, 0xc301b0   # mov al, 1; ret
      push rax
      mov rsp, 0x1f000
      call sub
      hlt
      .balign 8
    sub:
      mov al, 9
      ret
      .quad 0`);
    expect(b.get('rax') & 0xffn).toBe(1n);
  });

  it('code seen through two linear addresses is dropped at a store through either', async () => {
    const b = await bare('long64');
    b.write64(PT + 0x60 * 8, BigInt(CODE | 7)); // 0x60000 shows the page at CODE
    b.run(`
      call sub
      mov edx, eax
      mov byte ptr [0x60000 + sub - ${CODE} + 1], 0x44
      call sub
      hlt
    sub:
      mov eax, 0x33
      ret`);
    expect(b.get('rdx')).toBe(0x33n);
    expect(b.get('rax')).toBe(0x44n);
  });

  it('the same bytes run as 16-bit and as 64-bit code', async () => {
    const bytes = [0xb8, 0x34, 0x12, 0x00, 0x00, 0xf4]; // mov ax, 0x1234; add [bx+si], al / mov eax, 0x1234; hlt
    const cpu = await WasmCpu.create({ vcpus: 2, memory: 0x100000, vendor: 'intel' });
    cpu.memory.set(bytes, 0x1000);
    const real = cpu.vcpu(0);
    real.reset('reset', 0);
    real.put(49, 0n);
    real.put(57, 0n);
    real.put(17, 0x1000n);
    expect(cpu.run(0, 10).reason).toBe('hlt');
    expect(real.get(0)).toBe(0x1234n);
    expect(real.get(17)).toBe(0x1005n);
    const long = await bare('long64');
    long.cpu.memory.set(bytes, CODE);
    long.put({ rip: CODE });
    expect(long.go().at).toBe(`0x${(CODE + 5).toString(16)}`);
    expect(long.get('rax')).toBe(0x1234n);
  });

  it('an instruction across two pages runs, and faults on the second page if that is absent', async () => {
    const b = await bare('long64');
    const code = [0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xf4]; // mov rax, imm64; hlt
    b.cpu.memory.set(code, 0x50ffd);
    b.put({ rip: 0x50ffd });
    expect(b.go().reason).toBe('hlt');
    expect(b.get('rax')).toBe(0x0807060504030201n);

    b.write64(PT + 0x51 * 8, 0n);
    b.state.flushTlb();
    b.put({ rip: 0x50ffd });
    const stop = b.go();
    expect([stop.vector, stop.error, stop.at]).toEqual([14, 0x10, '0x50ffd']);
    expect(b.get('cr2')).toBe(0x51000n);
  });

  it('a page-crossing instruction sees a change of its second half', async () => {
    const b = await bare('long64');
    b.cpu.memory.set([0xb8, 1, 0, 0, 0, 0xc3], 0x50ffe);
    b.run(`
      mov ebx, 0x50ffe
      call rbx
      mov edx, eax
      mov byte ptr [0x51001], 0x80
      call rbx
      hlt`);
    expect(b.get('rdx')).toBe(1n);
    expect(b.get('rax')).toBe(0x00800001n);
  });

  it('fifteen bytes are an instruction, sixteen are #GP(0)', async () => {
    const b = await bare('long64');
    const prefixes = (n: number): string => `.fill ${n}, 1, 0x66\n nop\n after: hlt`;
    expect(b.run(prefixes(14)).at).toBe('after');
    expect(b.fault(`here:\n${prefixes(15)}`)).toEqual({ vector: 13, error: 0, at: 'here' });
  });

  it('more code than the cache holds still runs right', async () => {
    const b = await bare('long64');
    // 1,400 KiB of additions: more records than the arena has room for, run twice.
    const count = 350_000;
    const block = new Uint8Array(count * 4 + 1);
    for (let i = 0; i < count; i++) block.set([0x48, 0x83, 0xc0, 1], i * 4); // add rax, 1
    block[count * 4] = 0xf4;
    b.cpu.memory.set(block, 0x80000);
    b.write64(PD, BigInt(0x87)); // one 2 MiB page
    b.state.flushTlb();
    for (const total of [BigInt(count), BigInt(2 * count)]) {
      b.put({ rip: 0x80000 });
      expect(b.go(1_000_000).reason).toBe('hlt');
      expect(b.get('rax')).toBe(total);
    }
  });

  it('a change of the page tables moves code after INVLPG', async () => {
    const b = await bare('long64');
    b.cpu.memory.set([0xb0, 1, 0xc3], 0x60000); // mov al, 1; ret
    b.cpu.memory.set([0xb0, 2, 0xc3], 0x61000);
    b.run(`
      xor eax, eax
      mov ebx, 0x60000
      call rbx
      mov ah, al
      mov qword ptr [${PT + 0x60 * 8}], 0x61007
      invlpg [0x60000]
      call rbx
      hlt`);
    expect(b.get('rax')).toBe(0x0102n);
  });
});

describe('budget', () => {
  it('ends a run after exactly so many instructions', async () => {
    const b = await bare('long64');
    b.load('again: inc eax\n jmp again');
    expect(b.cpu.run(0, 1001).reason).toBe('budget');
    expect(b.get('rax')).toBe(501n);
    expect(b.state.steps).toBe(1001);
    expect(b.cpu.run(0, 1).reason).toBe('budget');
    expect(b.get('rax')).toBe(501n);
    expect(b.get('rip')).toBe(BigInt(CODE));
  });

  it('counts REP iterations and continues in the middle of one', async () => {
    const b = await bare('long64');
    b.load('mov edi, 0x10000\n mov ecx, 5000\n mov al, 0x5a\n rep stosb\n hlt');
    expect(b.cpu.run(0, 3 + 1000).reason).toBe('budget');
    expect(b.get('rcx')).toBe(4000n);
    expect(b.get('rdi')).toBe(0x10000n + 1000n);
    expect(b.cpu.run(0, 10_000).reason).toBe('hlt');
    expect(b.state.steps).toBe(3 + 5000 + 1);
    expect(b.cpu.memory.subarray(0x10000, 0x10000 + 5001).lastIndexOf(0x5a)).toBe(4999);
  });

  it('a long one ends with its last step, also if the delivery of an exception lies across a boundary inside it', async () => {
    const b = await bare('long64');
    // After NOP four steps again and again, the delivery included; UD2 is one of those that can be divided by 4.
    b.load('nop\nhandler: xor ebp, ebp\n mov esp, 0x1f000\n ud2');
    b.gate(6, SEL.CODE64, 0x8e, 0, Number(b.label('handler')));
    expect(b.cpu.run(0, 500_002).reason).toBe('budget');
    expect(b.state.steps).toBe(500_002);
  });

  it('ends a guest whose fault handler cannot be fetched', async () => {
    const b = await bare('long64');
    b.gate(14, 8, 0x8e, 1, 0x40000000); // the handler of #PF is not mapped; its stack is always the same
    b.load('mov eax, [0x40000000]');
    expect(b.cpu.run(0, 500).reason).toBe('budget');
    expect(b.state.steps).toBe(500);
  });
});

describe('accesses outside RAM', () => {
  const MMIO = 0xfee00000n;
  async function mapped() {
    const b = await bare('long64');
    b.write64(PD + 8, MMIO | 0x87n); // 0x200000 shows 0xfee00000
    return b;
  }

  it('a read is asked for once, then the instruction completes with the value', async () => {
    const b = await mapped();
    b.load('mov ebx, 0x200020\n movzx eax, word ptr [rbx]\n hlt');
    const exit = b.cpu.run(0, 100);
    expect(exit).toMatchObject({ reason: 'mmio', direction: 'read', gpaLo: 0xfee00020, gpaHi: 0, size: 2 });
    b.state.completeMmio(0x8765, 0);
    expect(b.cpu.run(0, 100).reason).toBe('hlt');
    expect(b.get('rax')).toBe(0x8765n);
  });

  it('a read-modify-write asks for the read, then for the write, and sets the flags once', async () => {
    const b = await mapped();
    b.load('stc\n mov ebx, 0x200020\n adc dword ptr [rbx], 5\n hlt');
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', direction: 'read', size: 4 });
    b.state.completeMmio(0xfffffffa, 0);
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', direction: 'write', size: 4, valueLo: 0 });
    b.state.completeMmio(0, 0);
    expect(b.cpu.run(0, 100).reason).toBe('hlt');
    expect(b.get('rflags') & 0x41n).toBe(0x41n);
  });

  it('each iteration of a REP asks', async () => {
    const b = await mapped();
    b.load('mov esi, 0x200000\n mov edi, 0x10000\n mov ecx, 3\n rep movsd\n hlt');
    for (let i = 0; i < 3; i++) {
      expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', direction: 'read', gpaLo: 0xfee00000 + i * 4 });
      expect(b.get('rcx')).toBe(BigInt(3 - i));
      b.state.completeMmio(0x1111 * (i + 1), 0);
    }
    expect(b.cpu.run(0, 100).reason).toBe('hlt');
    expect([b.read32(0x10000), b.read32(0x10004), b.read32(0x10008)]).toEqual([0x1111, 0x2222, 0x3333]);
  });

  it('POPA reads each value once and changes registers when it has them all', async () => {
    const b = await bare('prot32');
    b.load('popa\n hlt');
    b.put({ rsp: 0xfee00000, rax: 0x77 });
    for (let n = 0; n < 8; n++) {
      expect(b.cpu.run(0, 100)).toMatchObject({
        reason: 'mmio',
        direction: 'read',
        size: 4,
        gpaLo: 0xfee00000 + n * 4,
      });
      expect([b.get('rsp'), b.get('rax')]).toEqual([0xfee00000n, 0x77n]);
      b.state.completeMmio(0x100 + n, 0);
    }
    expect(b.cpu.run(0, 100).reason).toBe('hlt');
    const values = ['rdi', 'rsi', 'rbp', 'rsp', 'rbx', 'rdx', 'rcx', 'rax'].map((name) => b.get(name));
    expect(values).toEqual([0x100n, 0x101n, 0x102n, 0xfee00020n, 0x104n, 0x105n, 0x106n, 0x107n]);
  });

  it('IN with an I/O permission map there is complete once the host has answered: an event is next', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.segment('tr', SEL.TSS, 0x8b, 0x88, 0xfee00000);
    b.gate(32, SEL.UCODE32, 0xee);
    b.cpu.memory[HANDLERS + 32 * 16] = 0x90;
    b.load('in al, 5\n nop');
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', gpaLo: 0xfee00066, size: 2 });
    b.state.completeMmio(0x68, 0);
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'mmio', gpaLo: 0xfee00068, size: 2 });
    b.state.completeMmio(0, 0);
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'io', direction: 'in', port: 5, size: 1 });
    b.state.completeIo(0x12);
    b.state.inject(0x80000020, 0, 0);
    expect(b.cpu.run(0, 1).reason).toBe('budget');
    expect([b.get('rip'), b.get('rax')]).toEqual([BigInt(HANDLERS + 32 * 16 + 1), 0x12n]);
  });

  it('code there is an internal exit, not an exception', async () => {
    const b = await mapped();
    b.load('mov ebx, 0x200000\n jmp rbx');
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'internal', addressLo: 0xfee00000 });
  });
});

describe('ports', () => {
  it('IN writes only its width, OUT carries only its width', async () => {
    const b = await bare('long64');
    b.load('mov rax, -1\n in al, 0x60\n mov dx, 0x3f8\n out dx, ax\n in eax, dx\n hlt');
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'io', direction: 'in', port: 0x60, size: 1 });
    b.state.completeIo(0x12);
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'io', direction: 'out', port: 0x3f8, size: 2, value: 0xff12 });
    expect(b.get('rax')).toBe(0xffffffffffffff12n);
    b.state.completeIo(0);
    expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'io', direction: 'in', size: 4 });
    b.state.completeIo(0x89abcdef);
    expect(b.get('rax')).toBe(0x89abcdefn);
  });

  it('REP OUTSB and INSB move a byte for each exit', async () => {
    const b = await bare('long64');
    b.load(`
      lea rsi, [rip + text]
      mov edi, 0x10000
      mov dx, 0xe9
      mov ecx, 2
      rep outsb
      mov ecx, 2
      rep insb
      hlt
    text: .ascii "ok"`);
    for (const value of [0x6f, 0x6b]) {
      expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'io', direction: 'out', string: true, size: 1, value });
      b.state.completeIo(0);
    }
    for (const value of [0x41, 0x42]) {
      expect(b.cpu.run(0, 100)).toMatchObject({ reason: 'io', direction: 'in', string: true });
      b.state.completeIo(value);
    }
    expect(b.cpu.run(0, 100).reason).toBe('hlt');
    expect(b.read16(0x10000)).toBe(0x4241);
  });
});

describe('RFLAGS.RF', () => {
  it('is gone after an instruction and at the exit of one, and stays at the exit of an access', async () => {
    const b = await bare('long64');
    b.load('nop\n hlt');
    b.put({ rflags: 0x10002 });
    expect(b.cpu.run(0, 1).reason).toBe('budget');
    expect(b.get('rflags')).toBe(2n);

    b.load('hlt');
    b.put({ rflags: 0x10002 });
    expect(b.cpu.run(0, 1).reason).toBe('hlt');
    expect(b.get('rflags')).toBe(2n);

    b.write64(PD + 8, 0xfee00087n);
    b.state.flushTlb();
    b.load('mov eax, [0x200000]');
    b.put({ rflags: 0x10002 });
    expect(b.cpu.run(0, 1).reason).toBe('mmio');
    expect(b.get('rflags')).toBe(0x10002n);
  });
});

describe('several vCPUs over one RAM', () => {
  it('code that one vCPU writes is what the other runs next', async () => {
    const cpu = await WasmCpu.create({ vcpus: 2, memory: 0x100000, vendor: 'intel' });
    const { segments, symbols } = assemble('.code16\n a: mov ax, 1\n hlt\n b: mov byte ptr [0x1001], 2\n hlt', {
      fileName: 'two.S',
      origin: 0x1000,
      bits: 16,
    });
    for (const { address, bytes } of segments) cpu.memory.set(bytes, address);
    const start = (index: number, rip: bigint): void => {
      const state = cpu.vcpu(index);
      state.put(49, 0n);
      state.put(57, 0n);
      state.put(17, rip);
    };
    start(0, 0x1000n);
    expect(cpu.run(0, 10).reason).toBe('hlt');
    expect(cpu.vcpu(0).get(0)).toBe(1n);
    start(1, symbols.get('b')!);
    expect(cpu.run(1, 10).reason).toBe('hlt');
    start(0, 0x1000n);
    expect(cpu.run(0, 10).reason).toBe('hlt');
    expect(cpu.vcpu(0).get(0)).toBe(2n);
  });
});

describe('options', () => {
  it('numbers that make no sense are refused in one line', () => {
    const make = (options: Partial<{ vcpus: number; memory: number }>) => () =>
      WasmCpu.createSync({ vcpus: 1, memory: 0x10000, vendor: 'intel', ...options });
    for (const vcpus of [0, -1, 1.5, 4097]) expect(make({ vcpus })).toThrow(KvmscopeError);
    for (const memory of [0, 100, 2 ** 31 + 4096])
      expect(make({ memory })).toThrow(/multiple of 4096 bytes up to 2 GiB/);
  });
});

describe('the limit of CS', () => {
  it('instructions close to the limit of CS run one after the other', async () => {
    const b = await bare('prot32');
    b.segment('cs', SEL.CODE32, 0x409b, CODE + 0x20);
    b.run('mov eax, 1\n mov ebx, 2\n lea ecx, [eax + ebx]\n hlt');
    expect([b.get('rax'), b.get('rbx'), b.get('rcx')]).toEqual([1n, 2n, 3n]);
  });
});

describe('an exception that never gets anywhere', () => {
  it('a breakpoint on the stack of its own handler ends with the budget', async () => {
    const b = await bare('long64');
    b.gate(1, SEL.CODE64, 0x8e, 1);
    // Writes of 8 bytes where the frame has SS.
    b.put({ dr0: IST_STACK - 8, dr7: 0x90401 });
    b.load('int1\n hlt');
    expect(b.cpu.run(0, 1000).reason).toBe('budget');
    expect(b.state.steps).toBeGreaterThanOrEqual(1000);
  });

  it('a breakpoint on the stack of its own handler comes at the same steps however they are divided', async () => {
    const ends = async (steps: number, portion: number): Promise<readonly (number | bigint)[]> => {
      const b = await bare('long64');
      b.gate(1, SEL.CODE64, 0x8e, 1, CODE);
      b.gate(6, SEL.CODE64, 0x8e, 1, CODE);
      b.put({ dr0: IST_STACK - 8, dr7: 0x90401 });
      b.load('ud2');
      while (b.state.steps < steps) b.cpu.run(0, portion);
      return [b.state.steps, b.get('rip'), b.get('rsp'), b.get('dr6')];
    };
    for (let steps = 1; steps <= 9; steps++) expect(await ends(steps, 1)).toEqual(await ends(steps, steps));
  });

  it('an alignment check whose handler has no aligned stack ends with the budget, and goes on with the next', async () => {
    const b = await bare('prot32', { cpl: 3 });
    b.gate(17, SEL.UCODE32, 0xee);
    b.put({ cr0: 0x40031, rflags: 0x40002, rsp: USER_STACK - 1 });
    b.load('push eax\n hlt');
    for (let run = 0; run < 3; run++) {
      expect(b.cpu.run(0, 100).reason).toBe('budget');
      expect(b.get('rip')).toBe(BigInt(CODE));
    }
  });
});
