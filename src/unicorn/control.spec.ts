import { describe, expect, it } from 'vitest';
import { CODE, codeOf, DATA, load, uc } from './engine.fixture.ts';
import MUnicorn from './index.ts';

describe('the module', () => {
  it('has version, architectures and error texts', () => {
    expect(uc.version()).toBe(0x020104ff);
    expect([uc.arch_supported(uc.ARCH_X86), uc.arch_supported(uc.ARCH_ARM)]).toEqual([1, 0]);
    expect(uc.strerror(uc.ERR_OK)).toBe('OK (UC_ERR_OK)');
    expect(uc.strerror(uc.ERR_MAP)).toBe('Invalid memory mapping (UC_ERR_MAP)');
    expect(uc.strerror(99)).toBe('Unknown error code');
  });

  it('throws strings that name the function, the code and its text', () => {
    const { e } = load('nop');
    expect(() => e.mem_map(1, 1, 7)).toThrow();
    let thrown: unknown;
    try {
      e.mem_map(1, 1, 7);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBe('Unicorn.js: Function uc_mem_map failed with code 15:\nInvalid argument (UC_ERR_ARG)');
  });

  it('numbers what programs hold as Unicorn does', () => {
    expect([uc.X86_REG_RAX, uc.X86_REG_XMM0, uc.X86_REG_R15W, uc.X86_REG_FOP]).toEqual([35, 122, 241, 258]);
    expect([uc.X86_INS_SYSCALL, uc.X86_INS_CPUID, uc.X86_INS_ENDING]).toEqual([699, 113, 1338]);
    expect([uc.CPU_X86_HASWELL, uc.CPU_X86_EPYC_ROME]).toEqual([19, 37]);
    expect(uc.HOOK_MEM_INVALID).toBe(uc.HOOK_MEM_UNMAPPED | uc.HOOK_MEM_PROT);
    expect(uc.CTL_WRITE(uc.CTL_TLB_TYPE, 1)).toBe(0x4400000c);
    expect(uc.CTL_READ_WRITE(uc.CTL_TB_REQUEST_CACHE, 2)).toBe(0xc8000008);
  });

  it('opens any number of engines, each with its own memory', async () => {
    const other = await MUnicorn();
    const engines = Array.from({ length: 100 }, (_, i) => {
      const e = new other.Unicorn(other.ARCH_X86, other.MODE_64);
      e.mem_map(0x1000, 0x1000, 7);
      e.mem_write(0x1000, [0xb0, i]); // mov al, i
      return e;
    });
    for (const e of engines) e.emu_start(0x1000, 0x1002);
    expect(engines.map((e) => e.reg_read_i8(other.X86_REG_AL))).toEqual(engines.map((_, i) => i));
    for (const e of engines) e.close();
    expect(codeOf(() => engines[0].mem_regions())).toBe(uc.ERR_HANDLE);
  });
});

describe('emu_start', () => {
  it('ends at until, before that instruction', () => {
    const { run, get, at } = load('inc rax\n here: inc rax');
    run('here');
    expect([get('rax'), get('rip')]).toEqual([1n, at('here')]);
  });

  it('executes nothing if begin is until', () => {
    const { e, get } = load('inc rax');
    e.emu_start(CODE, CODE);
    expect(get('rax')).toBe(0n);
  });

  it('ends after count instructions, REP iterations counted', () => {
    const { e, get } = load('inc rax\n inc rax\n mov ecx, 9\n mov edi, 0x2000\n rep stosb\n nop');
    e.emu_start(CODE, 0, 0, 2);
    expect([get('rax'), get('rip')]).toEqual([2n, 0x1006n]);
    e.emu_start(0x1006, 0, 0, 5);
    expect(get('rcx')).toBe(6n);
  });

  it('counts an instruction once, however many hooks its accesses meet', () => {
    const { e, get } = load('push rax\n pop rbx\n inc rcx\n inc rcx\n inc rcx');
    e.hook_add(uc.HOOK_MEM_READ | uc.HOOK_MEM_WRITE, () => {});
    e.emu_start(CODE, 0, 0, 4);
    expect(get('rcx')).toBe(2n);
  });

  it('ends at HLT, RIP behind it', () => {
    const { run, get } = load('hlt\n nop');
    run();
    expect(get('rip')).toBe(0x1001n);
  });

  it('ends after timeout microseconds, and says so', () => {
    const { e, run } = load('again: jmp again');
    run('again');
    expect(e.query_i32(uc.QUERY_TIMEOUT)).toBe(0);
    e.emu_start(CODE, 0, 2000);
    expect(e.query_i32(uc.QUERY_TIMEOUT)).toBe(1);
    expect(e.ctl_get_timeout()).toBe(2000n);
    expect(e.reg_read_i64(uc.X86_REG_RIP)).toBe(0x1000n);
  });

  it('ends after timeout with every instruction hooked, too', () => {
    const { e } = load('again: jmp again');
    let calls = 0;
    e.hook_add(uc.HOOK_CODE, () => calls++);
    e.emu_start(CODE, 0, 2000);
    expect(e.query_i32(uc.QUERY_TIMEOUT)).toBe(1);
    expect(calls).toBeGreaterThan(0);
  });

  it('runs 16- and 32-bit code', () => {
    const small = load('mov ax, 0x1234\n mov bx, sp\n push ax\n nop', uc.MODE_16);
    small.run();
    expect([small.get('ax'), small.get('bx'), small.get('sp')]).toEqual([0x1234n, 0x4000n, 0x3ffen]);
    const wide = load('mov eax, 0x12345678\n push eax\n mov ebx, [esp]\n nop', uc.MODE_32);
    wide.run();
    expect([wide.get('ebx'), wide.get('esp')]).toEqual([0x12345678n, 0x3ffcn]);
  });
});

describe('contexts', () => {
  it('hold the CPU, not memory, unless told otherwise', () => {
    const { e, run, get, set } = load('inc rax\n inc byte ptr [0x2000]');
    const context = e.context_alloc();
    set('rax', 5n);
    e.reg_write(uc.X86_REG_XMM0, new Uint8Array(16).fill(1));
    e.context_save(context);
    run();
    e.reg_write(uc.X86_REG_XMM0, new Uint8Array(16));
    expect(get('rax')).toBe(6n);
    e.context_restore(context);
    expect([get('rax'), e.reg_read(uc.X86_REG_XMM0, 1)[0], e.mem_read(DATA, 1)[0]]).toEqual([5n, 1, 1]);
    e.context_free(context);
    expect(codeOf(() => e.context_restore(context))).toBe(uc.ERR_ARG);
  });

  it('hold memory and its map by CTL_CONTEXT_MEMORY, and may be restored again and again', () => {
    const { e, run } = load('inc byte ptr [0x2000]\n mov byte ptr [0x3000], 7');
    e.ctl_context_mode(uc.CTL_CONTEXT_CPU | uc.CTL_CONTEXT_MEMORY);
    const context = e.context_alloc();
    e.mem_write(DATA, [1]);
    e.context_save(context);
    for (let i = 0; i < 3; i++) {
      run();
      e.mem_write(DATA + 1, [9]);
      e.mem_unmap(0x3000, 0x1000);
      e.mem_map(0x8000, 0x1000, 7);
      expect([...e.mem_read(DATA, 2)]).toEqual([2, 9]);
      e.context_restore(context);
      expect([...e.mem_read(DATA, 2)]).toEqual([1, 0]);
      expect(e.mem_read(0x3000, 1)[0]).toBe(0);
      expect(e.mem_regions()).toHaveLength(1);
    }
  });

  it('several of them share pages, and code written after one is run', () => {
    const { e, run, get } = load('mov al, 1');
    e.ctl_context_mode(uc.CTL_CONTEXT_MEMORY);
    const [first, second] = [e.context_alloc(), e.context_alloc()];
    run();
    e.context_save(first);
    e.mem_write(CODE + 1, [2]);
    run();
    expect(get('al')).toBe(2n);
    e.context_save(second);
    e.mem_write(CODE + 1, [3]);
    run();
    expect(get('al')).toBe(3n);
    e.context_restore(first);
    run();
    expect(get('al')).toBe(1n);
    e.context_restore(second);
    run();
    expect(get('al')).toBe(2n);
  });

  it('a page that the guest writes after a save is read back at once', () => {
    const { e, run, get } = load('mov eax, [0x2000]\n mov dword ptr [0x2000], 5\n mov ebx, [0x2000]');
    e.ctl_context_mode(uc.CTL_CONTEXT_MEMORY);
    e.context_save(e.context_alloc());
    run();
    expect([get('rax'), get('rbx')]).toEqual([0n, 5n]);
  });
});

describe('controls', () => {
  it('exits replace until', () => {
    const { e, get, at } = load('inc rax\n a: inc rax\n b: inc rax');
    e.ctl_exits_enable();
    e.ctl_set_exits([at('b'), at('a'), at('b')]);
    expect(e.ctl_get_exits_cnt()).toBe(2);
    expect(e.ctl_get_exits(2)).toEqual([at('a'), at('b')]);
    e.emu_start(CODE, 0);
    expect(get('rip')).toBe(at('a'));
    e.ctl_set_exits([at('b')]);
    e.emu_start(at('a'), at('a'));
    expect(get('rip')).toBe(at('b'));
    e.ctl_exits_disable();
    expect(codeOf(() => e.ctl_get_exits_cnt())).toBe(uc.ERR_ARG);
    e.emu_start(CODE, 0x1009);
    expect(get('rip')).toBe(0x1009n);
  });

  it('request_cache tells the block at an address', () => {
    const { e } = load('mov ecx, 3\n again: dec ecx\n jnz again\n nop');
    expect(e.ctl_request_cache(0x1000)).toEqual({ pc: 0x1000n, icount: 3, size: 9 });
    expect(codeOf(() => e.ctl_request_cache(0x9000))).toBe(uc.ERR_RESOURCE);
    expect(codeOf(() => e.ctl_remove_cache(0x2000, 0x2000))).toBe(uc.ERR_ARG);
    e.ctl_flush_tb();
    e.ctl_flush_tlb();
  });

  it('the generic form reads into arrays and writes from arguments', () => {
    const { e } = load('nop');
    const out = new BigUint64Array(4);
    e.ctl(uc.CTL_READ(uc.CTL_UC_MODE, 1), [{ type: 'ptr', value: out }]);
    expect(out[0]).toBe(8n);
    e.ctl(uc.CTL_WRITE(uc.CTL_UC_USE_EXITS, 1), [{ type: 'i32', value: 1 }]);
    e.ctl(uc.CTL_WRITE(uc.CTL_UC_EXITS, 2), [
      { type: 'ptr', value: [0x2000n, 0x1000n, 0x3000n] },
      { type: 'i32', value: 2 },
    ]);
    e.ctl(uc.CTL_READ(uc.CTL_UC_EXITS, 2), [
      { type: 'ptr', value: out },
      { type: 'i32', value: 4 },
    ]);
    expect([...out]).toEqual([0x1000n, 0x2000n, 0n, 0n]);
    expect(codeOf(() => e.ctl(uc.CTL_NONE(uc.CTL_UC_MODE, 0)))).toBe(uc.ERR_ARG);
    expect(codeOf(() => e.ctl(uc.CTL_WRITE(uc.CTL_UC_MODE, 1), [{ type: 'i32', value: 4 }]))).toBe(uc.ERR_ARG);
  });

  it('queries answer in the type asked for', () => {
    const { e } = load('nop');
    expect([e.query_i32(uc.QUERY_ARCH), e.query_i16(uc.QUERY_PAGE_SIZE), e.query_i64(uc.QUERY_MODE)]).toEqual([
      4,
      4096,
      8n,
    ]);
    expect(codeOf(() => e.query_i32(99))).toBe(uc.ERR_ARG);
  });

  it('the model shows in CPUID, and is fixed once the engine is used', () => {
    const e = new uc.Unicorn(uc.ARCH_X86, uc.MODE_64);
    e.ctl_set_cpu_model(uc.CPU_X86_EPYC);
    e.mem_map(CODE, 0x1000, 7);
    e.mem_write(CODE, [0x0f, 0xa2]);
    e.emu_start(CODE, CODE + 2);
    expect(e.reg_read_i32(uc.X86_REG_EBX)).toBe(0x68747541); // "Auth"
    e.reg_write_i64(uc.X86_REG_RAX, 1n);
    e.emu_start(CODE, CODE + 2);
    expect(e.reg_read_i32(uc.X86_REG_EAX)).toBe(0x800f12);
    // CX8 and CMOV are there, an APIC is not.
    expect(e.reg_read_i32(uc.X86_REG_EDX) & 0x8300).toBe(0x8100);
    expect(codeOf(() => e.ctl_set_cpu_model(uc.CPU_X86_HASWELL))).toBe(uc.ERR_ARG);
    expect(codeOf(() => new uc.Unicorn(uc.ARCH_X86, uc.MODE_64).ctl_set_cpu_model(38))).toBe(uc.ERR_ARG);
  });

  it('TLB_VIRTUAL ignores the guest page tables and asks HOOK_TLB_FILL', () => {
    const { e, run, get } = load('mov rax, [0x9000]\n mov rbx, [0x9000]');
    e.mem_map(0x70000, 0x1000, uc.PROT_READ);
    e.mem_write(0x70000, [0x2a]);
    e.ctl_tlb_mode(uc.TLB_VIRTUAL);
    const seen: [number, number][] = [];
    e.hook_add(uc.HOOK_TLB_FILL, (_, address, type, entry) => {
      seen.push([Number(address), type]);
      entry.paddr = address === 0x9000n ? 0x70000n : address;
      entry.perms = uc.PROT_READ | uc.PROT_EXEC;
      return true;
    });
    run();
    expect([get('rax'), get('rbx')]).toEqual([0x2an, 0x2an]);
    expect(seen).toEqual([
      [0x1000, uc.MEM_FETCH],
      [0x9000, uc.MEM_READ],
    ]);
  });

  it('idt_delivery lets the guest handle exceptions', () => {
    const { e, run, get, at } = load('xor ecx, ecx\n div ecx\n nop\n handler: mov ebx, 5\n hlt');
    const gdt = 0x2000;
    const idt = 0x3000;
    e.mem_write(gdt + 8, [0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0]);
    const offset = Number(at('handler'));
    e.mem_write(idt, [offset & 255, offset >> 8, 8, 0, 0, 0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (const [register, base, limit] of [
      [uc.X86_REG_GDTR, gdt, 15],
      [uc.X86_REG_IDTR, idt, 15],
    ]) {
      const mmr = new Uint8Array(24);
      new DataView(mmr.buffer).setUint32(8, base, true);
      new DataView(mmr.buffer).setUint32(16, limit, true);
      e.reg_write(register, mmr);
    }
    e.reg_write_i16(uc.X86_REG_CS, 8);
    e.ctl_idt_delivery(true);
    run();
    expect(get('rbx')).toBe(5n);
  });
});
