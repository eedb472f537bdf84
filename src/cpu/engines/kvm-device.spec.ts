import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../../errors.ts';
import { KvmVm, kvmUnavailable, MP } from './kvm-device.ts';

const reason = kvmUnavailable();
if (reason) console.warn(`NOT RUN: VMs of a live /dev/kvm: this ${reason}`);

const CODE = 0x1000;
/** A VM whose first vCPU stands at real-mode code. */
function withGuest(code: readonly number[], test: (vm: KvmVm) => void): void {
  const vm = new KvmVm({ ids: [0, 5], memory: 0x4000, limit: 20 });
  try {
    vm.memory.set(code, CODE);
    const [vcpu] = vm.vcpus;
    vcpu.getRegs();
    vcpu.getSregs();
    vcpu.put('cs', 0n);
    vcpu.put('cs_base', 0n);
    vcpu.put('rip', BigInt(CODE));
    vcpu.setSregs();
    vcpu.setRegs();
    test(vm);
  } finally {
    vm.close();
  }
}

const openFiles = (): number => readdirSync('/proc/self/fd').length;
const mappings = (): number => readFileSync('/proc/self/maps', 'latin1').match(/kvm-vcpu/g)?.length ?? 0;

describe.runIf(!reason)('a VM of a live KVM', () => {
  it('comes back from a guest that turns in circles, and runs other code afterwards', () => {
    withGuest([0xeb, 0xfe], (vm) => {
      const [vcpu] = vm.vcpus;
      expect(vcpu.run()).toBe('limit');
      expect(vcpu.run()).toBe('limit');
      // MOV AL, 7; OUT 0x10, AL.
      vm.memory.set([0xb0, 0x07, 0xe6, 0x10], CODE);
      expect(vcpu.run()).toBe('io');
      expect(vcpu.output()).toEqual({ port: 0x10, value: 7 });
    });
  });

  it('comes back from a guest that sleeps for ever', () => {
    withGuest([0xf4], (vm) => {
      expect(vm.vcpus[0].run()).toBe('limit');
      expect(vm.vcpus[0].getMpState()).toBe(MP.halted);
    });
  });

  it('steps over one instruction', () => {
    withGuest([0x90, 0x90, 0xf4], (vm) => {
      const [vcpu] = vm.vcpus;
      vcpu.singleStep();
      expect(vcpu.run()).toBe('debug');
      vcpu.getRegs();
      expect(vcpu.get('rip')).toBe(BigInt(CODE + 1));
    });
  });

  it('says which MSR writes are accepted', () => {
    withGuest([], ({ vcpus: [first, second] }) => {
      expect(second.setMsr(0x1b, 0xfee00c00n)).toBe(true);
      expect(second.getMsr(0x802)).toBe(5n);
      expect(second.setMsr(0x802, 5n)).toBe(false);
      expect(first.getMsr(0x802)).toBeUndefined();
    });
  });

  it('leaves nothing open, neither when it is closed twice nor when KVM refuses it', () => {
    new KvmVm({ ids: [0] }).close();
    const [files, mapped] = [openFiles(), mappings()];
    const vm = new KvmVm({ ids: [0, 1], memory: 0x1000 });
    expect(openFiles()).toBe(files + 4);
    expect(mappings()).toBe(mapped + 2);
    vm.close();
    vm.close();
    expect(openFiles()).toBe(files);
    expect(mappings()).toBe(mapped);
    for (const wrong of [{ ids: [0, 0] }, { ids: [0, 1_000_000] }, { ids: [0], x2apicApi: 0x100 }]) {
      expect(() => new KvmVm(wrong)).toThrow(KvmscopeError);
      expect(openFiles()).toBe(files);
      expect(mappings()).toBe(mapped);
    }
    expect(() => new KvmVm({ ids: [0, 0] })).toThrow('/dev/kvm: KVM_CREATE_VCPU failed with errno 17');
  });
});
