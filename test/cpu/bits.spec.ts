/** Integer extensions: values of the SDM's definitions, and what a processor in user mode cannot show. */
import { describe, expect, it } from 'vitest';
import { R_RAX, R_RCX } from '../../src/cpu/core/layout.ts';
import { WasmCpu } from '../../src/cpu/wasm-cpu.ts';
import { bare, CODE } from './bare.ts';

const UD = 6;
const CF = 1;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;

describe('one instruction', () => {
  const a = 0x1122334455667788n;
  it.each([
    ['popcnt rax, rbx', { rbx: 0xff00ff01n }, 17n, 0],
    ['popcnt ax, bx', { rax: a, rbx: 0xffff0000n }, 0x1122334455660000n, ZF],
    ['lzcnt eax, ebx', { rbx: 0n }, 32n, CF],
    ['lzcnt eax, ebx', { rbx: 0x80000000n }, 0n, ZF],
    ['lzcnt ax, bx', { rax: a, rbx: 0x10100n }, 0x1122334455660007n, 0],
    ['tzcnt rax, rbx', { rbx: 0n }, 64n, CF],
    ['tzcnt eax, ebx', { rbx: 0xf00000001n }, 0n, ZF],
    ['andn eax, ebx, ecx', { rbx: 0xf0f0f0f0n, rcx: 0x80ff00ffn }, 0xf000fn, 0],
    ['bextr eax, ebx, ecx', { rbx: 0x12345678n, rcx: 0x0c08n }, 0x456n, 0],
    ['bextr rax, rbx, rcx', { rbx: a, rcx: 0x4040n }, 0n, ZF],
    ['blsr eax, ebx', { rbx: 0n }, 0n, CF | ZF],
    ['blsmsk eax, ebx', { rbx: 0n }, 0xffffffffn, CF | SF],
    ['blsi rax, rbx', { rbx: 0x58n }, 8n, CF],
    ['bzhi eax, ebx, ecx', { rbx: 0xffffffffn, rcx: 0x108n }, 0xffn, 0],
    ['bzhi eax, ebx, ecx', { rbx: 0xffffffffn, rcx: 0x20n }, 0xffffffffn, CF | SF],
    ['pdep eax, ebx, ecx', { rbx: 0b10110n, rcx: 0xf0f0n }, 0x1060n, 0],
    ['pext eax, ebx, ecx', { rbx: 0x12345678n, rcx: 0xff00fff0n }, 0x12567n, 0],
    ['mulx rax, rax, rcx', { rdx: 1n << 63n, rcx: 6n }, 3n, 0],
    ['rorx eax, ebx, 36', { rbx: 0x12345678n }, 0x81234567n, 0],
    ['sarx eax, ebx, ecx', { rbx: 0x80000000n, rcx: 0x3fn }, 0xffffffffn, 0],
    ['shlx rax, rbx, rcx', { rbx: 1n, rcx: 0x7fn }, 1n << 63n, 0],
    ['shrx eax, ebx, ecx', { rbx: 0x80000000n, rcx: 31n }, 1n, 0],
    ['crc32 eax, ebx', { rax: 0xffffffff_ffffffffn, rbx: 0x34333231n }, ~0xf63af4een & 0xffffffffn, 0],
    ['crc32 rax, bl', { rax: 0n, rbx: 1n }, 0xf26b8303n, 0],
    ['movbe ax, [rip + data]', { rax: a }, 0x112233445566f1f2n, 0],
    ['movbe rax, [rip + data]', {}, 0xf1f2f3f4f5f6f7f8n, 0],
    ['stc\nadcx eax, ebx', { rax: 0xffffffffn, rbx: 0n }, 0n, CF],
    ['adox eax, ebx', { rax: 0xffffffffn, rbx: 1n }, 0n, OF],
  ] as const)('%s', async (source, registers, rax, flags) => {
    const b = await bare('long64');
    b.load(`${source}\nhlt\ndata: .byte 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8`);
    b.put(registers);
    expect(b.go().reason).toBe('hlt');
    expect([b.get('rax'), Number(b.get('rflags')) & (CF | ZF | SF | OF)]).toEqual([rax, flags]);
  });

  it('MOVBE of a register to memory', async () => {
    const b = await bare('long64');
    b.load('movbe [0x30000], ecx\nhlt');
    b.put({ rcx: 0x01020304 });
    b.go();
    expect(b.read32(0x30000)).toBe(0x04030201);
  });

  it('RDPID reads TSC_AUX', async () => {
    const b = await bare('long64');
    b.load('rdpid rcx\nhlt');
    b.put({ tsc_aux: 0x89abcdef, rcx: -1 });
    b.go();
    expect(b.get('rcx')).toBe(0x89abcdefn);
  });
});

describe('VEX prefix', () => {
  it('is #UD in real mode', async () => {
    const b = await bare('real');
    expect(b.fault('bad: .byte 0xc4, 0xe2, 0x60, 0xf2, 0xc1\nhlt')).toEqual({
      vector: UD,
      error: undefined,
      at: 'bad',
    });
  });

  it('is #UD in virtual-8086 mode, an instruction in 16-bit protected mode', async () => {
    const andn = '.byte 0xc4, 0xe2, 0x60, 0xf2, 0xc1\n';
    const b = await bare('prot32', { cpl: 3 });
    b.load(`bad: ${andn}`);
    for (const name of ['es', 'ds', 'ss', 'fs', 'gs']) b.segment(name, 0, 0xf3, 0xffff);
    b.segment('cs', CODE >> 4, 0xf3, 0xffff, CODE);
    b.put({ rflags: 0x20002, rip: 0, rsp: 0x7000 });
    expect(b.go()).toMatchObject({ vector: UD });
    const p = await bare('prot32');
    p.load(`${andn}hlt`);
    p.segment('cs', 0x20, 0x9b, 0xffff);
    p.put({ rbx: 0x0f, rcx: 0xff });
    expect([p.go().reason, p.get('rax')]).toEqual(['hlt', 0xf0n]);
  });

  it.each([
    ['behind 66', '0x66, 0xc4, 0xe2, 0x60, 0xf2, 0xc1'],
    ['behind F3', '0xf3, 0xc4, 0xe2, 0x60, 0xf2, 0xc1'],
    ['behind LOCK', '0xf0, 0xc4, 0xe2, 0x60, 0xf2, 0xc1'],
    ['behind REX', '0x48, 0xc4, 0xe2, 0x60, 0xf2, 0xc1'],
    ['with VEX.L', '0xc4, 0xe2, 0x64, 0xf2, 0xc1'],
    ['with a VEX.vvvv that RORX does not have', '0xc4, 0xe3, 0x73, 0xf0, 0xc3, 5'],
    ['with map 4', '0xc4, 0xe4, 0x60, 0xf2, 0xc1'],
  ])('%s is #UD', async (_, bytes) => {
    const b = await bare('long64');
    expect(b.fault(`bad: .byte ${bytes}\nhlt`)).toEqual({ vector: UD, error: undefined, at: 'bad' });
  });
});

describe('RDRAND and RDSEED', () => {
  const draw = async (vcpu = 0): Promise<bigint[]> => {
    const cpu = await WasmCpu.create({ vcpus: 2, memory: 0x10000, vendor: 'intel' });
    const state = cpu.vcpu(vcpu);
    // In real mode: rdrand eax, rdseed ecx.
    cpu.memory.set([0x66, 0x0f, 0xc7, 0xf0, 0x66, 0x0f, 0xc7, 0xf9, 0xf4], 0xfff0);
    cpu.memoryWritten(0xfff0, 9);
    state.put(57, 0n);
    cpu.run(vcpu, 3);
    return [state.get(R_RAX), state.get(R_RCX)];
  };

  it('give the same numbers in every run, and others to every vCPU', async () => {
    const first = await draw();
    expect(first).toEqual([0x7b1dcdafn, 0xa1b965f4n]);
    expect(await draw()).toEqual(first);
    expect(await draw(1)).not.toEqual(first);
  });

  it('set CF and clear the other flags; 16 bits leave the rest of the register', async () => {
    const b = await bare('long64');
    b.load('rdrand bx\nhlt');
    b.put({ rbx: -1, rflags: 0x8d6 });
    b.go();
    expect([b.get('rbx') >> 16n, Number(b.get('rflags')) & 0x8d5]).toEqual([0xffffffffffffn, CF]);
  });
});
