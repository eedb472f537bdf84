import { describe, expect, it } from 'vitest';
import type { Vendor } from '../../src/cpu/cpu.ts';
import { featureNames } from '../../src/cpu/features.ts';
import { type Bare, bare, GDT, type Mode, PAE_PDPT, PD, PD32, PDPT, PML4, PT, SEL } from './bare.ts';

const UD = 6;
const GP = 13;
const PF = 14;
const hex = (value: bigint): string => `0x${value.toString(16)}`;

const CR4 = {
  vme: 1 << 0,
  de: 1 << 3,
  pse: 1 << 4,
  pae: 1 << 5,
  pge: 1 << 7,
  umip: 1 << 11,
  la57: 1 << 12,
  pcid: 1 << 17,
  smep: 1 << 20,
  smap: 1 << 21,
  pku: 1 << 22,
} as const;
const AC = 0x40000;
const SUPERVISOR = 3n;
const USER = 7n;

/** Long mode with page 0x30 mapped by `entry` bits, all other pages supervisor unless the code runs at CPL 3. */
async function paged(cr4: number, entry: bigint, cpl: 0 | 3 = 0): Promise<Bare> {
  const b = await bare('long64', { cpl });
  for (let page = 0; page < 512 && cpl === 0; page++) b.write64(PT + page * 8, BigInt(page << 12) | SUPERVISOR);
  b.write64(PT + 0x30 * 8, 0x30000n | entry);
  b.put({ cr4: 0x20 | cr4 });
  return b;
}

describe('SMEP and SMAP', () => {
  it.each([
    ['fetch from a user page', CR4.smep, USER, 'mov eax, 0x30000\njmp rax', 0, 0x11],
    ['fetch from a supervisor page', CR4.smep, SUPERVISOR, 'mov eax, 0x30000\njmp rax', 0, undefined],
    ['fetch from a user page without SMEP', CR4.smap, USER, 'mov eax, 0x30000\njmp rax', 0, undefined],
    ['read of a user page', CR4.smap, USER, 'mov al, [0x30000]', 0, 1],
    ['write of a user page', CR4.smap, USER, 'mov [0x30000], al', 0, 3],
    ['read of a user page with RFLAGS.AC', CR4.smap, USER, 'mov al, [0x30000]', AC, undefined],
    ['write of a user page with RFLAGS.AC', CR4.smap, USER, 'mov [0x30000], al', AC, undefined],
    ['read of a supervisor page', CR4.smap, SUPERVISOR, 'mov al, [0x30000]', 0, undefined],
    ['read of a user page without SMAP', CR4.smep, USER, 'mov al, [0x30000]', 0, undefined],
    ['not-present user page', CR4.smap, 6n, 'mov al, [0x30000]', 0, 0],
  ] as const)('%s', async (_, cr4, entry, code, flags, error) => {
    const b = await paged(cr4, entry);
    b.cpu.memory[0x30000] = 0xf4;
    b.put({ rflags: 2 | flags });
    const stop = b.run(`${code}\nhlt`);
    expect([stop.vector, stop.error]).toEqual(error === undefined ? [undefined, undefined] : [PF, error]);
    if (error !== undefined) expect(b.get('cr2')).toBe(0x30000n);
  });

  it('STAC opens user pages and CLAC closes them, translations included', async () => {
    const b = await paged(CR4.smap, USER);
    expect(
      b.fault(`
        stac
        mov al, [0x30000]
        mov [0x30000], al
        clac
      bad:
        mov al, [0x30000]`),
    ).toEqual({ vector: PF, error: 1, at: 'bad' });
  });

  it.each([
    ['popfq', 'push 2\npopfq'],
    ['iretq', 'mov rax, rsp\npush DATA\npush rax\npush 2\npush CODE64\nlea rax, [rip+9f]\npush rax\niretq\n9:'],
  ])('%s that clears AC closes them', async (_, close) => {
    const b = await paged(CR4.smap, USER);
    expect(b.fault(`stac\nmov al, [0x30000]\n${close}\nbad: mov al, [0x30000]`)).toEqual({
      vector: PF,
      error: 1,
      at: 'bad',
    });
  });

  it('implicit accesses find user pages closed whatever RFLAGS.AC', async () => {
    const b = await paged(CR4.smap, USER);
    b.write64(0x30010, b.read64(GDT + SEL.DATA));
    b.segment('ldtr', SEL.LDT, 0x82, 0xff, 0x30000);
    expect(b.fault('stac\nmov al, [0x30010]\nmov ecx, 0x14\nbad: mov es, ecx')).toEqual({
      vector: PF,
      error: 1,
      at: 'bad',
    });
    expect(b.get('cr2')).toBe(0x30010n);
  });

  it.each([
    ['clac', 0, undefined],
    ['stac', 0, undefined],
    ['clac', 3, UD],
    ['stac', 3, UD],
  ] as const)('%s at CPL %i', async (code, cpl, vector) => {
    const b = await bare('long64', { cpl });
    expect(b.run(`${code}\n${cpl === 0 ? 'hlt' : 'int 0x80'}`).vector).toBe(vector);
  });
});

describe('protection keys', () => {
  const KEY5 = 5n << 59n;
  it.each([
    ['access disabled, read', 0, 1 << 10, USER, 'mov al, [0x30000]', 0x21],
    ['access disabled, write', 0, 1 << 10, USER, 'mov [0x30000], al', 0x23],
    ['write disabled, read', 0, 2 << 10, USER, 'mov al, [0x30000]', undefined],
    ['write disabled, write with CR0.WP', 0, 2 << 10, USER, 'mov [0x30000], al', 0x23],
    ['another key', 0, ~(3 << 10) >>> 0, USER, 'mov [0x30000], al', undefined],
    ['supervisor page', 0, 0xffffffff, SUPERVISOR, 'mov [0x30000], al', undefined],
    ['fetch', 0, 0xffffffff, USER, 'mov eax, 0x30000\njmp rax', undefined],
    ['CPL 3, write disabled', 3, 2 << 10, USER, 'mov [0x30000], al', 0x27],
    ['CPL 3, read-only page and key', 3, 2 << 10, 5n, 'mov [0x30000], al', 0x27],
    ['CPL 3, read-only page, key allows', 3, 0, 5n, 'mov [0x30000], al', 7],
  ] as const)('%s', async (_, cpl, pkru, entry, code, error) => {
    const b = await paged(CR4.pku, entry | KEY5, cpl);
    b.cpu.memory.set([0xcd, 0x80], 0x30000);
    b.put({ pkru });
    if (cpl === 3) b.put({ pkru: pkru & ~3 });
    const stop = b.run(`${code}\nint 0x80`);
    expect([stop.vector, stop.error]).toEqual(error === undefined ? [0x80, undefined] : [PF, error]);
  });

  it('a supervisor write passes a write-disabled key without CR0.WP', async () => {
    const b = await paged(CR4.pku, USER | KEY5);
    b.put({ pkru: 2 << 10, cr0: 0x80000031 });
    expect(b.run('mov [0x30000], al\nint 0x80').vector).toBe(0x80);
    const again = 'mov [0x30000], al\n mov rcx, cr0\n or ecx, 0x10000\n mov cr0, rcx\nbad: mov [0x30000], al';
    expect(b.fault(again)).toEqual({ vector: PF, error: 0x23, at: 'bad' });
  });

  it('WRPKRU counts from the next access on; RDPKRU reads it back', async () => {
    const b = await paged(CR4.pku, USER | KEY5);
    expect(
      b.fault(`
        mov rbx, -1
        xor ecx, ecx
        xor edx, edx
        mov al, [0x30000]
        mov eax, 0x400
        wrpkru
        mov rax, rbx
        mov rdx, rbx
        rdpkru
      bad:
        mov cl, [0x30000]`),
    ).toEqual({ vector: PF, error: 0x21, at: 'bad' });
    expect([b.get('rax'), b.get('rdx')]).toEqual([0x400n, 0n]);
  });

  it.each([
    ['rdpkru', 0, 0, UD],
    ['rdpkru', CR4.pku, 1, GP],
    ['wrpkru', CR4.pku, 1, GP],
    ['mov edx, 1\nwrpkru', CR4.pku, 0, GP],
    ['rdpkru', CR4.pku, 0, 0x80],
  ])('%s with CR4 %i, ECX %i', async (code, cr4, rcx, vector) => {
    const b = await bare('long64', { cpl: 3 });
    b.put({ cr4: 0x20 | cr4, rcx });
    expect(b.run(`${code}\nint 0x80`).vector).toBe(vector);
  });
});

describe('UMIP', () => {
  it.each(['sgdt [0x30000]', 'sidt [0x30000]', 'sldt ax', 'str ax', 'smsw ax'])('%s', async (code) => {
    const user = await bare('prot32', { cpl: 3 });
    user.put({ cr4: CR4.umip });
    expect(user.fault(`bad: ${code}`)).toEqual({ vector: GP, error: 0, at: 'bad' });
    const without = await bare('prot32', { cpl: 3 });
    expect(without.run(`${code}\nint 0x80`).vector).toBe(0x80);
    const kernel = await bare('prot32');
    kernel.put({ cr4: CR4.umip });
    expect(kernel.run(`${code}\nhlt`).vector).toBeUndefined();
  });
});

describe('process-context identifiers', () => {
  it('bit 63 of CR3 is not stored; bits 11:0 are', async () => {
    const b = await bare('long64');
    b.put({ cr4: 0x20 });
    b.run(`mov rax, cr4\nbts rax, 17\nmov cr4, rax\nmov rax, 0x8000000000040123\nmov cr3, rax\nmov rcx, cr3\nhlt`);
    expect([hex(b.get('cr3')), hex(b.get('rcx'))]).toEqual(['0x40123', '0x40123']);
  });

  it.each([
    ['CR3 has a PCID', 'mov rax, 0x40001\nmov cr3, rax\nmov rax, 0x20020\nbad: mov cr4, rax', 'long64'],
    ['outside IA-32e mode', 'mov eax, 0x20020\nbad: mov cr4, eax', 'prot32'],
    [
      'paging off with PCIDE',
      `mov rax, 0x20020\nmov cr4, rax\njmp fword ptr [rip+9f]\n9: .long to32\n.short CODE32
       .code32\nto32: mov eax, cr0\nand eax, 0x7fffffff\nbad: mov cr0, eax`,
      'long64',
    ],
    ['bit 63 of CR3 without PCIDE', 'mov rax, 0x8000000000040000\nbad: mov cr3, rax', 'long64'],
  ] as const)('#GP(0): %s', async (_, code, mode) => {
    const b = await bare(mode);
    expect(b.fault(`${code}\nhlt`)).toEqual({ vector: GP, error: 0, at: 'bad' });
  });

  it.each([
    ['one address', 0, 0, 0n, 0x30000n, undefined],
    ['one address of PCID 1 without PCIDE', 0, 0, 1n, 0x30000n, GP],
    ['one address of PCID 1', 0, CR4.pcid, 1n, 0x30000n, undefined],
    ['an address beyond 57 bits', 0, 0, 0n, 1n << 57n, GP],
    ['an address beyond 48 bits without LA57', 0, 0, 0n, 1n << 48n, undefined],
    ['one PCID', 1, 0, 0n, 1n << 57n, undefined],
    ['reserved bits of the descriptor', 2, 0, 1n << 12n, 0n, GP],
    ['all', 2, 0, 0xfffn, 0n, undefined],
    ['all but global', 3, 0, 0n, 0n, undefined],
    ['no such type', 4, 0, 0n, 0n, GP],
  ] as const)('INVPCID of %s', async (_, type, cr4, pcid, linear, vector) => {
    const b = await bare('long64');
    b.put({ cr4: 0x20 | cr4, rax: type });
    b.write64(0x30000, pcid);
    b.write64(0x30008, linear);
    b.write64(PT + 0x31 * 8, 0x31007n);
    const stop = b.run(
      `mov cl, [0x31000]\nmov qword ptr [0x43188], 0\nbad: invpcid rax, [0x30000]\ngone: mov cl, [0x31000]`,
    );
    expect([stop.vector, stop.at]).toEqual(vector ? [vector, 'bad'] : [PF, 'gone']);
  });

  it('INVPCID needs CPL 0', async () => {
    const b = await bare('long64', { cpl: 3 });
    expect(b.fault('bad: invpcid rax, [0x30000]')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('5-level paging', () => {
  const PML5 = 0x48000;
  async function deep(): Promise<Bare> {
    const b = await bare('long64');
    b.write64(PML5, BigInt(PML4 | 7));
    b.write64(PML5 + 8, BigInt(PML4 | 7));
    b.put({ cr4: 0x20 | CR4.la57, cr3: PML5 });
    return b;
  }
  it('translates 57 bits, and sets the accessed bit of the PML5E', async () => {
    const b = await deep();
    b.write64(0x30000, 0x1122334455667788n);
    b.run('mov rbx, 0x1000000030000\nmov rax, [rbx]\nhlt');
    expect([hex(b.get('rax')), b.read64(PML5 + 8) & 0x20n]).toEqual(['0x1122334455667788', 0x20n]);
  });
  it.each([
    ['mov rbx, 0x100000000000000\nbad: mov al, [rbx]', GP, 0],
    ['mov rbx, 0x2000000030000\nbad: mov al, [rbx]', PF, 0],
    ['mov rbx, 0xff00000000000000\nbad: mov al, [rbx]', PF, 0],
    ['mov rbx, 0xfe00000000000000\nbad: mov al, [rbx]', GP, 0],
    ['mov rbx, 0x100000000000000\nbad: jmp rbx', GP, 0],
  ])('%s', async (code, vector, error) => {
    const b = await deep();
    expect(b.fault(`${code}\nhlt`)).toEqual({ vector, error, at: 'bad' });
  });
  it('PS in a PML5E is reserved', async () => {
    const b = await deep();
    b.write64(PML5 + 8, BigInt(PML4 | 0x87));
    expect(b.fault('mov rbx, 0x1000000030000\nbad: mov al, [rbx]\nhlt')).toEqual({ vector: PF, error: 9, at: 'bad' });
  });
  it('CR4.LA57 cannot change in IA-32e mode', async () => {
    const b = await bare('long64');
    expect(b.fault('mov eax, 0x1020\nbad: mov cr4, rax\nhlt')).toEqual({ vector: GP, error: 0, at: 'bad' });
    const c = await deep();
    expect(c.fault('mov eax, 0x20\nbad: mov cr4, rax\nhlt')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
  it.each([
    ['lstar', 0xc0000082],
    ['fs_base', 0xc0000100],
    ['sysenter_eip', 0x176],
  ])('%s takes any 57-bit address, whatever CR4.LA57', async (name, msr) => {
    const b = await bare('long64');
    b.put({ rcx: msr });
    b.run('xor eax, eax\nmov edx, 0x00800000\nwrmsr\nhlt');
    expect(b.get(name)).toBe(0x0080_0000_0000_0000n);
    expect(b.fault('mov edx, 0x01000000\nbad: wrmsr\nhlt')).toEqual({ vector: GP, error: 0, at: 'bad' });
  });
});

describe('page sizes', () => {
  it('1 GiB', async () => {
    const b = await bare('long64');
    b.write64(PDPT + 8, 0x83n);
    b.write64(0x30000, 0x55n);
    b.run('mov ebx, 0x40030000\nmov rax, [rbx]\nhlt');
    expect([b.get('rax'), b.read64(PDPT + 8)]).toEqual([0x55n, 0xa3n]);
    b.write64(PDPT + 8, 0x2083n);
    b.state.flushTlb();
    expect(b.fault('bad: mov rax, [rbx]\nhlt')).toEqual({ vector: PF, error: 9, at: 'bad' });
  });

  it('4 MiB with bits 39:32 of the address in bits 20:13 (PSE-36)', async () => {
    const b = await bare('prot32');
    b.write32(PD32 + 4, 0x83 | (0x12 << 13));
    b.put({ cr0: 0x80000031, cr3: PD32, cr4: CR4.pse });
    b.load('mov eax, [0x412345]\nhlt');
    expect(b.cpu.run(0, 10)).toMatchObject({ reason: 'mmio', gpaLo: 0x12345, gpaHi: 0x12 });
  });
  it('bit 21 of a 4-MiB PDE is reserved', async () => {
    const b = await bare('prot32');
    b.write32(PD32 + 4, 0x200083);
    b.put({ cr0: 0x80000031, cr3: PD32, cr4: CR4.pse });
    expect(b.fault('bad: mov eax, [0x400000]\nhlt')).toEqual({ vector: PF, error: 9, at: 'bad' });
  });

  it.each([
    ['long64', CR4.smep, 0x10],
    ['long64', 0, 0x10],
    ['prot32', CR4.smep, 0x10],
    ['prot32', 0, 0],
  ] as const)('%s: a fetch of a missing page with CR4 %i reports I/D %i', async (mode, cr4, error) => {
    const b = await bare(mode);
    for (let page = 0; page < 512; page++) b.write64(PT + page * 8, BigInt(page << 12) | SUPERVISOR);
    b.write64(PT + 0x30 * 8, 0n);
    if (mode === 'prot32') b.put({ cr3: PAE_PDPT, cr0: 0x80000031 });
    b.put({ cr4: 0x20 | cr4 });
    expect(b.run(`mov eax, 0x30000\njmp ${mode === 'long64' ? 'rax' : 'eax'}`).error).toBe(error);
  });
});

describe('CR4', () => {
  it.each([
    ['intel', 'prot32'],
    ['amd', 'prot32'],
  ] as const)('%s: a bit can be set if CPUID shows the feature', async (vendor: Vendor, mode: Mode) => {
    const shown = featureNames(vendor);
    for (const [name, bit] of Object.entries(CR4)) {
      const b = await bare(mode, { vendor });
      b.put({ rax: bit });
      const { vector } = b.run('mov cr4, eax\nhlt');
      // PCIDs need IA-32e mode.
      const allowed = shown.includes(name) && name !== 'pcid';
      expect([name, vector]).toEqual([name, allowed ? undefined : GP]);
    }
  });
});

describe.each([false, 'force'] as const)('INVLPG, second tier %s', (tier2) => {
  /** Each of eight pages begins with its number. */
  const DATA = 0x120000;
  async function numbered(mode: Mode = 'long64'): Promise<Bare> {
    const b = await bare(mode, { tier2 });
    for (let page = 0; page < 8; page++) b.write32(DATA + page * 4096, page);
    return b;
  }
  const pte = (page: number): number => PT + ((DATA >> 12) + page) * 8;

  it('drops the translation of its page, to read and to write, and no other', async () => {
    const b = await numbered();
    b.run(`
      mov ebx, ${DATA}
      mov eax, [rbx]
      mov [rbx + 4], eax
      mov eax, [rbx + 0x1000]
      add dword ptr [${pte(0)}], 0x2000
      add dword ptr [${pte(1)}], 0x2000
      invlpg [rbx + 0xfff]
      mov ecx, [rbx]
      mov edx, [rbx + 0x1000]
      mov dword ptr [rbx + 4], 9
      hlt`);
    expect([b.get('rcx'), b.get('rdx')]).toEqual([2n, 1n]);
    expect([b.read32(DATA + 4), b.read32(DATA + 0x2004)]).toEqual([0, 9]);
  });

  it('drops that of the page that runs', async () => {
    const b = await numbered();
    b.cpu.memory.fill(0x90, DATA + 0x3000, DATA + 0x5000);
    // invlpg [rbx]; inc ecx or inc edx; ret
    b.cpu.memory.set([0x0f, 0x01, 0x3b, 0xff, 0xc1, 0xc3], DATA + 0x3000);
    b.cpu.memory.set([0x0f, 0x01, 0x3b, 0xff, 0xc2, 0xc3], DATA + 0x4000);
    b.run(`
      mov ebp, 100
      mov ebx, ${DATA + 0x3000}
    again:
      call rbx
      xor dword ptr [${pte(3)}], ${(DATA + 0x3000) ^ (DATA + 0x4000)}
      dec ebp
      jnz again
      hlt`);
    // Behind its INVLPG the other page goes on.
    expect([b.get('rcx'), b.get('rdx')]).toEqual([50n, 50n]);
  });

  it('drops all that the TLB holds of a page of 2 MiB', async () => {
    const b = await numbered();
    b.write64(PD + 2 * 8, 0x83n);
    b.run(`
      mov ebx, ${0x400000 + DATA}
      mov eax, [rbx]
      mov ecx, [rbx + 0x1000]
      add dword ptr [${pte(1)}], 0x2000
      mov dword ptr [${PD} + 2*8], ${PT} + 7
      invlpg [0x400000]
      mov edx, [rbx + 0x1000]
      hlt`);
    expect([b.get('rcx'), b.get('rdx')]).toEqual([1n, 3n]);
  });

  it('drops all that the TLB holds of a page of 4 MiB', async () => {
    const b = await numbered('prot32');
    b.write32(PD32 + 2 * 4, 0x83);
    b.put({ cr3: PD32, cr4: CR4.pse, cr0: 0x80010031 });
    b.run(`
      mov ebx, ${0x800000 + DATA}
      mov eax, [ebx]
      mov ecx, [ebx + 0x1000]
      mov dword ptr [${PD32} + 2*4], 0
      invlpg [0xa00000]
      mov edx, [ebx + 0x1000]
      hlt`);
    expect([b.get('rcx'), b.get('cr2')]).toEqual([1n, BigInt(0x801000 + DATA)]);
  });

  it('of an address that is not canonical does nothing', async () => {
    const b = await numbered();
    expect(
      b.run(`mov rbx, ${DATA}\n mov eax, [rbx + 0x1000]\n add dword ptr [${pte(1)}], 0x2000
      bts rbx, 63\n invlpg [rbx + 0x1000]\n btr rbx, 63\n mov eax, [rbx + 0x1000]\n hlt`).reason,
    ).toBe('hlt');
    expect(b.get('rax')).toBe(1n);
  });
});
