import { afterAll, describe, expect, it } from 'vitest';
import { createVm } from './machine.ts';
import type { Vm } from './vm.ts';

const vms: Vm[] = [];
afterAll(() => {
  for (const vm of vms) vm.dispose();
});

async function started(source: string): Promise<Vm> {
  const vm = await createVm({ vcpus: 2, aps: 'run', memory: 0x20_0000, record: false });
  vms.push(vm);
  vm.load(source);
  return vm;
}

const steps = (vm: Vm, order: readonly number[]): number => {
  for (const vcpu of order) vm.turn(vcpu);
  return vm.fingerprint();
};

describe('fingerprint', () => {
  it('is the same wherever the same steps lead in another order', async () => {
    const vm = await started('inc eax\n push rax\n mov [0x100000+rsp], rax\n hlt');
    const start = vm.snapshot();
    const one = steps(vm, [0, 0, 0, 1, 1]);
    vm.restore(start);
    expect(steps(vm, [1, 0, 1, 0])).not.toBe(one);
    expect(steps(vm, [0])).toBe(one);
    expect(Number.isSafeInteger(one) && one >= 0).toBe(true);
  });

  it('sees memory, and not that it was written and is as before', async () => {
    const vm = await started('mov byte ptr [0x100000], 1\n 1: jmp 1b\n nop');
    const start = vm.snapshot();
    const before = vm.fingerprint();
    vm.write(0x10_0800, Uint8Array.of(7));
    expect(vm.fingerprint()).not.toBe(before);
    vm.write(0x10_0800, Uint8Array.of(0));
    expect(vm.fingerprint()).toBe(before);
    vm.restore(start);
    expect(vm.fingerprint()).toBe(before);
    vm.write(0x10_0801, Uint8Array.of(7));
    const one = vm.fingerprint();
    vm.restore(start);
    vm.write(0x10_0802, Uint8Array.of(7));
    expect(vm.fingerprint()).not.toBe(one);
  });

  it('does not see how often a loop went round, unless statistics or time are to count', async () => {
    const vm = await started('1: xor eax, eax\n cpuid\n jmp 1b');
    vm.snapshot();
    for (let i = 0; i < 3; i++) vm.turn(0);
    const all = () => [vm.fingerprint(), vm.fingerprint({ counters: true }), vm.fingerprint({ time: true })];
    const before = all();
    for (let i = 0; i < 3; i++) vm.turn(0);
    expect(all().map((value, i) => value === before[i])).toEqual([true, false, false]);
  });

  it('sees what waits in a local APIC', async () => {
    const vm = await started('mov ecx, 0x830\n mov eax, 0x40\n mov edx, 1\n wrmsr\n hlt');
    const start = vm.snapshot();
    const numbers = [0x40, 0x41].map((vector) => {
      vm.restore(start);
      steps(vm, [0, 0, 0]);
      vm.setRegisters(0, { rax: vector });
      vm.turn(0);
      vm.setRegisters(0, { rax: 0 });
      vm.kvm.vcpus[0].lapic.registers.fill(0, 0x30, 0x32);
      return vm.fingerprint();
    });
    expect(numbers[0]).not.toBe(numbers[1]);
  });

  it('sees reports and console output', async () => {
    const vm = await started('mov al, 5\n out 0xe9, al\n xor eax, eax\n hlt');
    const start = vm.snapshot();
    steps(vm, [0, 0]);
    const said = vm.fingerprint();
    vm.restore(start);
    vm.turn(0);
    vm.setRegisters(0, { rip: vm.vcpu(0).registers.rip + 2n });
    expect(vm.fingerprint()).not.toBe(said);
  });

  it('clocks count while a timer is armed', async () => {
    const vm = await started('1: nop\n jmp 1b');
    vm.snapshot();
    vm.turn(0);
    vm.turn(0);
    expect([vm.fingerprint(), steps(vm, [0, 0])].map((value, _, [first]) => value === first)).toEqual([true, true]);
    vm.kvm.setMsr(0, 0x832, 0x40n);
    vm.kvm.setMsr(0, 0x838, 0xfffffn);
    expect([vm.fingerprint(), steps(vm, [0, 0])].map((value, _, [first]) => value === first)).toEqual([true, false]);
  });
});
