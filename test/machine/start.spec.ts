/** Start states: each mode executes its own kind of code, on every vCPU that is to run. */
import '../../src/vitest.ts';
import { describe, expect, it } from 'vitest';
import { createVm, KvmscopeError, type MachineOptions, type RunResult, SELECTOR } from '../../src/index.ts';

async function run(source: string, options: MachineOptions): Promise<RunResult> {
  const vm = await createVm(options);
  vm.load(source);
  const result = vm.run();
  vm.dispose();
  return result;
}

describe('start modes', () => {
  it('long64 has 64-bit registers, a stack and identity-mapped RAM', async () => {
    const result = await run('mov rax, 0x123456789abcdef0\n push rax\n pop rbx\n mov rcx, [0x1000]\n hlt', {});
    expect(result).toEndWith('halted');
    expect(result).toHaveRegisters({ rbx: 0x123456789abcdef0n, cs: SELECTOR.code64 });
  });

  it('prot32 runs 32-bit code without paging', async () => {
    const result = await run('.code32\n mov eax, -1\n inc eax\n pushad\n popad\n mov ebx, cr0\n hlt', {
      mode: 'prot32',
    });
    expect(result).toEndWith('halted');
    expect(result).toHaveRegisters({ rax: 0, rbx: 0x10031, cs: SELECTOR.code32 });
  });

  it('compat32 runs 32-bit code in long mode and can far-jump to 64-bit code', async () => {
    const result = await run(
      `.code32
       mov eax, -1
       ljmp ${SELECTOR.code64}:wide
       .code64
       wide: mov rbx, rax
       shl rbx, 8
       hlt`,
      { mode: 'compat32' },
    );
    expect(result).toEndWith('halted');
    expect(result).toHaveRegisters({ rbx: 0xffffffff00n });
  });

  it('real16 runs at 0:entry with a stack', async () => {
    const result = await run('.code16\n mov ax, 0xffff\n push ax\n pop bx\n inc ax\n mov cx, cs\n hlt', {
      mode: 'real16',
    });
    expect(result).toEndWith('halted');
    expect(result).toHaveRegisters({ rax: 0, rbx: 0xffff, rcx: 0, cs_base: 0 });
  });

  it('reset starts at the reset vector and jumps to the program', async () => {
    const result = await run('.code16\n mov bx, cs\n hlt', { mode: 'reset', vcpus: 2 });
    expect(result).toEndWith('halted');
    expect(result.start[0]).toMatchObject({ rip: 0xfff0n, cs: 0xf000n, cr0: 0x60000010n });
    expect(result).toHaveRegisters({ rbx: 0, rip: 0x1003n });
    expect(result.vcpus[1].mpState).toBe('uninitialized');
    expect(result.vcpus[0].lapic).toMatchObject({ mode: 'xapic', enabled: false, apicBase: 0xfee00900n });
  });

  it.each(['long64', 'compat32', 'prot32'] as const)(
    '%s starts at CPL 3 with access to the test ports',
    async (mode) => {
      const bits = mode === 'long64' ? 64 : 32;
      const result = await run(
        `.code${bits}\n mov eax, cs\n and eax, 3\n out 0xe8, eax\n xor eax, eax\n out 0xf4, eax`,
        {
          mode,
          cpl: 3,
        },
      );
      expect(result).toEndWith('exit 0');
      expect(result.reports).toEqual([{ vcpu: 0, value: 3 }]);
    },
  );

  it.each(['long64', 'compat32', 'prot32', 'real16'] as const)('%s runs 255 vCPUs with a stack each', async (mode) => {
    const bits = { long64: 64, compat32: 32, prot32: 32, real16: 16 }[mode];
    const [a, b] = bits === 64 ? ['rax', 'rbx'] : bits === 32 ? ['eax', 'ebx'] : ['ax', 'bx'];
    const result = await run(
      `.code${bits}
       mov ecx, 0x802
       rdmsr
       push ${a}
       mov ecx, 50
       wait: loop wait
       pop ${b}
       hlt`,
      { mode, vcpus: 255, aps: 'run', record: false },
    );
    expect(result).toEndWith('halted');
    expect(result.vcpus.map((vcpu) => Number(vcpu.registers.rbx))).toEqual(Array.from({ length: 255 }, (_, i) => i));
    expect(new Set(result.start.map((r) => `${r.ss}:${r.rsp}`)).size).toBe(255);
  });

  it('parks APs in HLT and wakes them only for what wakes HLT with IF=0', async () => {
    const result = await run(
      `mov eax, 10
       mov ebx, 2
       xor ecx, ecx
       xor edx, edx
       mov esi, 0x40
       vmcall
       hlt`,
      { vcpus: 2 },
    );
    expect(result).toHaveIrr(1, [0x40]);
    expect(result.vcpus[1]).toMatchObject({ mpState: 'halted', steps: 0 });
    expect(result).toHaveRegisters(1, { rip: 0x77001n });
  });

  it.each([
    ['x2apic', { mode: 'x2apic', enabled: true, svr: 0x1ff, apicBase: 0xfee00d00n }],
    ['xapic', { mode: 'xapic', enabled: true, svr: 0x1ff, apicBase: 0xfee00900n }],
    ['reset', { mode: 'xapic', enabled: false, svr: 0xff, apicBase: 0xfee00900n }],
    ['disabled', { mode: 'disabled', enabled: false, svr: 0xff, apicBase: 0xfee00100n }],
  ] as const)('apic: %s gives the local APIC that state', async (apic, view) => {
    expect((await run('hlt', { apic })).vcpus[0].lapic).toMatchObject(view);
  });

  it('gives APIC ids in index order or as asked', async () => {
    const ids = (result: RunResult) => result.vcpus.map((vcpu) => vcpu.lapic.id);
    expect(ids(await run('hlt', { vcpus: 3 }))).toEqual([0, 1, 2]);
    expect(ids(await run('hlt', { vcpus: 3, apicIds: [0, 130, 7] }))).toEqual([0, 130, 7]);
  });
});

describe('load', () => {
  const refuses = async (source: string | Uint8Array, message: string, options: MachineOptions = {}) => {
    const vm = await createVm({ memory: 0x200000, ...options });
    expect(() => vm.load(source)).toThrow(new KvmscopeError('memory', message));
    vm.dispose();
  };

  it('refuses programs that do not fit', async () => {
    await refuses(
      new Uint8Array(0x200000),
      'the program reaches to 0x201000, beyond 2097152 bytes of RAM; give the VM more memory',
      { mode: 'real16' },
    );
    await refuses(
      '.org 0x1ff000\n hlt',
      'the program reaches to 0x1ff001, into the stacks at the top of 2097152 bytes of RAM; give the VM more memory',
    );
    await refuses(
      '.org 0x70000\n hlt',
      'the program covers 0x70000…0x77fff, where page tables and GDT of mode long64 lie; move it with .org',
    );
    await refuses(
      '.code16\n.org 0x10000\n_start: hlt',
      'entry point 0x10000 is above 0xffff, out of reach in mode real16',
      { mode: 'real16' },
    );
  });

  it('leaves nothing of the program before', async () => {
    const vm = await createVm();
    vm.load('mov dword ptr [0x5000], 7\n mov rbx, 5\n mov eax, 1\n vmcall\n hlt');
    vm.run();
    expect(vm.memory[0x5000]).toBe(7);
    vm.load('rdtsc\n hlt');
    const result = vm.run();
    expect(vm.memory[0x5000]).toBe(0);
    expect(result).toHaveRegisters({ rbx: 0n });
    expect(result).toHaveExits({ vmcall: 0, hlt: 1 });
    expect(result.vcpus[0].steps).toBeLessThan(4);
    // The TSC starts anew, too.
    expect(result.vcpus[0].registers.rax).toBeLessThan(4n);
    vm.dispose();
  });
});

describe('Vm', () => {
  it('loads files and text that includes the shared files', async () => {
    const vm = await createVm({ vcpus: 4 });
    expect(vm.loadFile('guest/pv-ipi/send-to-three.S').entry).toBe(0x1000);
    expect(vm.run()).toHaveRegisters({ rax: 3n });
    vm.load('.include "pvipi.inc"\n _start: send_ipi 0b110, 0, 0, ICR_FIXED|0xd1\n hlt');
    expect(vm.run()).toHaveRegisters({ rax: 2n });
    expect(() => vm.loadFile('guest/nowhere.S')).toThrow(
      new KvmscopeError('not-found', 'no such file: guest/nowhere.S'),
    );
    vm.dispose();
  });

  it('steps one vCPU, reads and writes registers and memory', async () => {
    const vm = await createVm({ vcpus: 2, aps: 'run' });
    vm.load('inc rax\n inc rax\n hlt');
    expect(vm.step().registers).toMatchObject({ rax: 1n, rip: 0x1003n });
    expect(vm.vcpu(1).registers.rax).toBe(0n);
    vm.setRegisters(0, { rax: -3, r15: 7n });
    expect(vm.step(0).registers).toMatchObject({ rax: 0xffff_ffff_ffff_fffen, r15: 7n });
    // HLT over the second INC of vCPU 1.
    vm.write(0x1003, Uint8Array.of(0xf4));
    expect(vm.step(1, 10)).toMatchObject({ mpState: 'halted', registers: { rax: 1n, rip: 0x1004n } });
    vm.dispose();
  });

  it('refuses what does not exist', async () => {
    const vm = await createVm();
    expect(() => vm.setRegisters(0, { raxx: 1n })).toThrow('unknown register "raxx"; did you mean "rax"?');
    expect(() => vm.setRegisters(0, { rax: 1.5 })).toThrow('rax takes a whole number, not 1.5');
    expect(() => vm.step(0, Number.NaN)).toThrow('steps must be a whole number from 1');
    expect(() => vm.setRegisters(1, {})).toThrow('no vCPU 1: the VM has 1, counted from 0');
    expect(() => vm.write(0xffffff, Uint8Array.of(1, 2))).toThrow(
      '2 bytes at 0xffffff do not fit 16777216 bytes of RAM',
    );
    vm.dispose();
    expect(() => vm.run()).toThrow('this VM has been disposed of');
  });
});
