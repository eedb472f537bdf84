/** `apic: none`: a VM whose VMM has not asked KVM for local APICs. */
import { describe, expect, test } from 'vitest';
import { createVm, type MachineOptions, type RunResult } from '../../src/index.ts';

async function run(source: string, options: MachineOptions = {}): Promise<RunResult> {
  const vm = await createVm({ memory: 0x20_0000, apic: 'none', budget: 10_000, ...options });
  vm.load(source);
  const result = vm.run();
  vm.dispose();
  return result;
}

const events = (result: RunResult, name: string) => result.trace.filter(({ event }) => event === name);

describe.each(['intel', 'amd'] as const)('no local APIC in the kernel, %s', (vendor) => {
  test('CPUID shows no APIC, IA32_APIC_BASE is 0 and writing it enables nothing', async () => {
    const source = `
      mov eax, 1
      cpuid
      shr edx, 9
      and edx, 1
      mov r15, rdx
      mov ecx, 0x1b
      mov eax, 0xfee00800
      xor edx, edx
      wrmsr
      rdmsr
      hlt`;
    const { end, vcpus } = await run(source, { vendor });
    expect(end).toEqual({ kind: 'halted' });
    expect([vcpus[0].registers.r15, vcpus[0].registers.rax, vcpus[0].lapic.mode]).toEqual([0n, 0n, 'disabled']);
  });

  test.each([0x802, 0x830, 0x83f])('x2APIC MSR %i raises #GP, and the fastpath does not take it', async (msr) => {
    const result = await run(`mov ecx, ${msr}\nxor eax, eax\nxor edx, edx\nwrmsr\nhlt`, { vendor });
    expect(result.end.kind).toBe('shutdown');
    expect(result.counters.fastpath).toBe(0);
  });

  test('the APIC page is ordinary memory that nobody answers', async () => {
    const result = await run('mov ebp, 0xfee00020\nmov eax, [rbp]\nhlt', { vendor });
    expect(result.vcpus[0].registers.rax).toBe(0xffff_ffffn);
    expect(events(result, 'kvm_apic')).toEqual([]);
    expect(events(result, 'kvm_userspace_exit')[0]).toMatchObject({ reason: 'KVM_EXIT_MMIO' });
  });

  test('HLT leaves for user space', async () => {
    const result = await run('hlt', { vendor });
    expect(events(result, 'kvm_userspace_exit')).toEqual([
      { event: 'kvm_userspace_exit', vcpu: 0, reason: 'KVM_EXIT_HLT' },
    ]);
    expect(result.counters.halt_exits).toBe(1);
  });

  test.each([
    [10, -95n],
    [5, 0n],
    [11, 0n],
    [1, 0n],
  ])('hypercall %i returns %i', async (nr, wanted) => {
    const call = vendor === 'intel' ? 'vmcall' : 'vmmcall';
    const source = `mov eax, ${nr}\nmov ebx, 1\nmov ecx, 1\nxor edx, edx\nmov esi, 0x40\n${call}\nhlt`;
    const result = await run(source, { vendor, vcpus: 2 });
    expect(BigInt.asIntN(64, result.vcpus[0].registers.rax)).toBe(wanted);
    expect(events(result, 'kvm_apic_accept_irq')).toEqual([]);
  });
});
