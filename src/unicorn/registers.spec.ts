import { describe, expect, it } from 'vitest';
import { codeOf, load, uc } from './engine.fixture.ts';

const open = (mode: number = uc.MODE_64) => new uc.Unicorn(uc.ARCH_X86, mode);

describe('general registers', () => {
  it('parts of RBX are its bytes', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_RBX, 0x1122334455667788n);
    expect(e.reg_read_i32(uc.X86_REG_EBX)).toBe(0x55667788);
    expect(e.reg_read_i16(uc.X86_REG_BX)).toBe(0x7788);
    expect(e.reg_read_i8(uc.X86_REG_BL)).toBe(-0x78);
    expect(e.reg_read_i8(uc.X86_REG_BH)).toBe(0x77);
  });

  it('a write of a part leaves the rest', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_RCX, -1n);
    e.reg_write_i8(uc.X86_REG_CH, 0);
    expect(e.reg_read_u64(uc.X86_REG_RCX)).toBe(0xffffffffffff00ffn);
    e.reg_write_i16(uc.X86_REG_CX, 0x1234);
    expect(e.reg_read_u64(uc.X86_REG_RCX)).toBe(0xffffffffffff1234n);
    e.reg_write_i32(uc.X86_REG_ECX, 5);
    expect(e.reg_read_u64(uc.X86_REG_RCX)).toBe(0xffffffff00000005n);
  });

  it('R8 to R15 and their parts are registers of their own', () => {
    const e = open();
    for (let i = 0; i < 8; i++) e.reg_write_i64(uc.X86_REG_R8 + i, 0x0101010101010101n * BigInt(i + 1));
    for (let i = 0; i < 8; i++) {
      expect(e.reg_read_i8(uc.X86_REG_R8B + i)).toBe(i + 1);
      expect(e.reg_read_i16(uc.X86_REG_R8W + i)).toBe(0x101 * (i + 1));
      expect(e.reg_read_i32(uc.X86_REG_R8D + i)).toBe(0x1010101 * (i + 1));
    }
  });

  it('64-bit values read as i64 are signed, as u64 unsigned; 32-bit values are signed', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_RAX, 0xffffffffffffffffn);
    expect(e.reg_read_i64(uc.X86_REG_RAX)).toBe(-1n);
    expect(e.reg_read_u64(uc.X86_REG_RAX)).toBe(0xffffffffffffffffn);
    expect(e.reg_read_i32(uc.X86_REG_EAX)).toBe(-1);
  });

  it('the upper half of RFLAGS stays zero', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_RFLAGS, -1n);
    expect(e.reg_read_u64(uc.X86_REG_RFLAGS)).toBe(0xffffffffn);
  });

  it('numbers are accepted where 64 bits are written', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_RAX, 7);
    expect(e.reg_read_i64(uc.X86_REG_RAX)).toBe(7n);
  });

  it('reading more bytes than a register has fills up with zeros', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_RDX, -1n);
    expect([...e.reg_read(uc.X86_REG_DX, 4)]).toEqual([0xff, 0xff, 0, 0]);
    expect(e.reg_read_i64(uc.X86_REG_EDX)).toBe(0xffffffffn);
  });

  it('batches take and give several at once', () => {
    const e = open();
    e.reg_write_batch([uc.X86_REG_RAX, uc.X86_REG_R15], [1n, 2]);
    expect(e.reg_read_batch([uc.X86_REG_R15, uc.X86_REG_RAX])).toEqual([2n, 1n]);
  });

  it('an unknown register reads as 0 and ignores writes', () => {
    const e = open();
    e.reg_write_i64(uc.X86_REG_K0, 5n);
    expect(e.reg_read_i64(uc.X86_REG_K0)).toBe(0n);
  });
});

describe('state of a new engine', () => {
  it.each([
    ['16', uc.MODE_16, 0n, 0n, 0n],
    ['32', uc.MODE_32, 0x11n, 0x50200n, 0n],
    ['64', uc.MODE_64, 0x11n, 0x50200n, 0x500n],
  ])('MODE_%s', (_, mode, cr0, cr4, efer) => {
    const e = open(mode);
    expect(e.reg_read_i64(uc.X86_REG_CR0)).toBe(cr0);
    expect(e.reg_read_i64(uc.X86_REG_CR4)).toBe(cr4);
    expect(e.msr_read(0xc0000080)).toBe(efer);
    expect(e.reg_read_i32(uc.X86_REG_EFLAGS)).toBe(2);
    expect(e.reg_read_i64(uc.X86_REG_DR6)).toBe(0xffff0ff0n);
    expect(e.reg_read_i64(uc.X86_REG_DR7)).toBe(0x400n);
    expect(e.reg_read_i16(uc.X86_REG_FPCW)).toBe(0x37f);
    expect(e.reg_read_i16(uc.X86_REG_FPTAG) & 0xffff).toBe(0xffff);
    expect(e.reg_read_i32(uc.X86_REG_MXCSR)).toBe(0x1f80);
  });

  it('other architectures and modes cannot be opened', () => {
    expect(codeOf(() => new uc.Unicorn(uc.ARCH_ARM, uc.MODE_64))).toBe(uc.ERR_ARCH);
    expect(codeOf(() => new uc.Unicorn(uc.ARCH_X86, 0))).toBe(uc.ERR_MODE);
    expect(codeOf(() => new uc.Unicorn(uc.ARCH_X86, uc.MODE_64 | uc.MODE_32))).toBe(uc.ERR_MODE);
  });
});

describe('flags', () => {
  it('are those of the last instruction, in a hook too', () => {
    const { e, run } = load('xor eax, eax\n dec eax\n nop');
    const seen: number[] = [];
    e.hook_add(uc.HOOK_CODE, (engine) => seen.push(engine.reg_read_i32(uc.X86_REG_EFLAGS)));
    run();
    expect(seen).toEqual([0x2, 0x46, 0x86 | 0x10]);
  });

  it('written in a hook, decide the next branch', () => {
    const { e, get, run, at } = load('xor eax, eax\n here: jz taken\n mov ebx, 1\n taken: nop');
    e.hook_add(uc.HOOK_CODE, (engine) => engine.reg_write_i32(uc.X86_REG_EFLAGS, 0), {}, at('here'), at('here'));
    run();
    expect(get('rbx')).toBe(1n);
  });
});

describe('system registers', () => {
  it('GDTR and IDTR have 24 bytes: base at 8, 16-bit limit at 16', () => {
    const { e, run } = load('sgdt [0x2000]\n sidt [0x2010]');
    const mmr = new Uint8Array(24);
    const view = new DataView(mmr.buffer);
    view.setBigUint64(8, 0xffff800000001000n, true);
    view.setUint32(16, 0x1234ffff, true);
    e.reg_write(uc.X86_REG_GDTR, mmr);
    view.setUint32(16, 0x7f, true);
    e.reg_write(uc.X86_REG_IDTR, mmr);
    run();
    expect([...e.mem_read(0x2000, 10)]).toEqual([0xff, 0xff, 0, 0x10, 0, 0, 0, 0x80, 0xff, 0xff]);
    expect([...e.mem_read(0x2010, 2)]).toEqual([0x7f, 0]);
    expect(new DataView(e.reg_read(uc.X86_REG_GDTR, 24).buffer).getUint32(16, true)).toBe(0xffff);
  });

  it('LDTR and TR also have a selector at 0 and descriptor flags at 20', () => {
    const e = open();
    const mmr = new Uint8Array(24);
    const view = new DataView(mmr.buffer);
    view.setUint16(0, 0x28, true);
    view.setBigUint64(8, 0x123456789abcn, true);
    view.setUint32(16, 0x67, true);
    view.setUint32(20, 0x8b00, true);
    e.reg_write(uc.X86_REG_TR, mmr);
    expect(e.reg_read(uc.X86_REG_TR, 24)).toEqual(mmr);
    expect(e.reg_read(uc.X86_REG_LDTR, 24)).toEqual(new Uint8Array(24));
  });

  it('an MSR is written through X86_REG_MSR and seen by the guest', () => {
    const { e, get, run } = load('mov ecx, 0xc0000102\n rdmsr\n mov ecx, 0x12345678\n mov ebx, eax\n rdmsr');
    const msr = new Uint8Array(16);
    new DataView(msr.buffer).setUint32(0, 0xc0000102, true);
    new DataView(msr.buffer).setBigUint64(8, 0xffff88005566aa77n, true);
    e.reg_write(uc.X86_REG_MSR, msr);
    e.msr_write(0x12345678, 0x1_0000_0002n);
    run();
    expect([get('ebx'), get('eax'), get('edx')]).toEqual([0x5566aa77n, 2n, 1n]);
    expect(e.msr_read(0xc0000102)).toBe(0xffff88005566aa77n);
    expect(e.msr_read(0x999)).toBe(0n);
  });

  it('FS_BASE and GS_BASE move accesses through FS and GS', () => {
    const { e, get, run } = load('mov rax, fs:[8]\n mov rbx, gs:[8]');
    e.mem_write(0x2008, [1, 0, 0, 0, 0, 0, 0, 0]);
    e.mem_write(0x2108, [2, 0, 0, 0, 0, 0, 0, 0]);
    e.reg_write_i64(uc.X86_REG_FS_BASE, 0x2000n);
    e.reg_write_i64(uc.X86_REG_GS_BASE, 0x2100n);
    run();
    expect([get('rax'), get('rbx')]).toEqual([1n, 2n]);
  });

  it('FS in MODE_32 loads the descriptor of the GDT, and fails where the instruction would fault', () => {
    const { e, get, run } = load('mov eax, fs:[0]', uc.MODE_32);
    expect(codeOf(() => e.reg_write_i16(uc.X86_REG_FS, 8))).toBe(uc.ERR_EXCEPTION);
    const gdtr = new Uint8Array(24);
    new DataView(gdtr.buffer).setUint32(8, 0x2000, true);
    new DataView(gdtr.buffer).setUint32(16, 0xf, true);
    e.reg_write(uc.X86_REG_GDTR, gdtr);
    e.mem_write(0x2008, [0xff, 0x0f, 0x00, 0x21, 0x00, 0x93, 0x40, 0x00]);
    e.mem_write(0x2100, [0x78, 0x56, 0x34, 0x12]);
    e.reg_write_i16(uc.X86_REG_FS, 8);
    expect(e.reg_read_i16(uc.X86_REG_FS)).toBe(8);
    expect(e.reg_read_i32(uc.X86_REG_FS_BASE)).toBe(0x2100);
    run();
    expect(get('eax')).toBe(0x12345678n);
  });

  it('CS and DS in MODE_64 are selectors only', () => {
    const { e, get, run } = load('mov rax, [0x2000]\n mov ecx, cs');
    e.reg_write_i16(uc.X86_REG_CS, 0x33);
    e.reg_write_i16(uc.X86_REG_DS, 0x2b);
    run();
    expect(get('rcx')).toBe(0x33n);
  });

  it('a selector in MODE_16 is a base of sixteen times as much', () => {
    const { e, get, run } = load('mov ax, [0x10]', uc.MODE_16);
    e.reg_write_i16(uc.X86_REG_DS, 0x200);
    e.mem_write(0x2010, [0x34, 0x12]);
    run();
    expect(get('ax')).toBe(0x1234n);
  });
});

describe('x87, MMX and SSE registers', () => {
  it('FP is a physical register, ST counts from TOP, MM is the significand', () => {
    const e = open();
    const one = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f];
    e.reg_write_i16(uc.X86_REG_FPSW, 3 << 11);
    e.reg_write(uc.X86_REG_ST0, one);
    expect([...e.reg_read(uc.X86_REG_FP0 + 3, 10)]).toEqual(one);
    expect(e.reg_read_u64(uc.X86_REG_MM0 + 3)).toBe(0x8000000000000000n);
    expect([...e.reg_read(uc.X86_REG_ST7, 10)]).toEqual([...e.reg_read(uc.X86_REG_FP0 + 2, 10)]);
  });

  it('FPTAG has two bits per register: valid, zero, special, empty', () => {
    const e = open();
    e.reg_write_i16(uc.X86_REG_FPTAG, 0xffc0);
    e.reg_write(uc.X86_REG_FP0, [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
    e.reg_write(uc.X86_REG_FP2, [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f]);
    expect(e.reg_read_i16(uc.X86_REG_FPTAG) & 0xffff).toBe(0xffc0 | (2 << 4) | (1 << 2));
  });

  it('XMM registers have 16 bytes, and YMM reads as XMM with a zero upper half', () => {
    const e = open();
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
    e.reg_write(uc.X86_REG_XMM0 + 15, bytes);
    expect(e.reg_read(uc.X86_REG_XMM0 + 15, 16)).toEqual(bytes);
    expect([...e.reg_read(uc.X86_REG_YMM0 + 15, 32)]).toEqual([...bytes, ...new Array(16).fill(0)]);
    expect(e.reg_read_i64(uc.X86_REG_XMM0 + 15)).toBe(0x0807060504030201n);
  });

  it('float and double accessors take the bits of IEEE numbers', () => {
    const e = open();
    e.reg_write_double(uc.X86_REG_XMM0, 1.5);
    expect(e.reg_read_u64(uc.X86_REG_XMM0)).toBe(0x3ff8000000000000n);
    expect(e.reg_read_double(uc.X86_REG_XMM0)).toBe(1.5);
    e.reg_write_float(uc.X86_REG_EAX, -2);
    expect(e.reg_read_i32(uc.X86_REG_EAX) >>> 0).toBe(0xc0000000);
    expect(e.reg_read_float(uc.X86_REG_EAX)).toBe(-2);
  });
});
