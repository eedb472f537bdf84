import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../../errors.ts';
import { KvmRegisters, type KvmVcpu, MP } from './kvm-device.ts';
import { type KvmHost, liveKvm, probeKvm } from './kvm-probe.ts';

const ALL = { IRQCHIP: 1, MP_STATE: 1, SET_GUEST_DEBUG: 1, VCPU_EVENTS: 1, X86_SMM: 1, X2APIC_API: 15 };
const CODE = 0x1000;
const IRR = 0x80;
const ICR2 = 0xc4;

/** How a made-up KVM behaves. */
interface Made {
  /** Who gets an IPI to id 1. */
  readonly delivers?: readonly number[];
  readonly x2apic?: boolean;
  readonly sends?: boolean;
  readonly splitIcr?: boolean;
  /** By the last byte of VMCALL and VMMCALL: how it ends. */
  readonly calls?: Readonly<Record<number, 'done' | 'repatched' | 'exception'>>;
  readonly smm?: boolean;
}

class MadeVcpu extends KvmRegisters {
  readonly id: number;
  readonly lapic = new Uint32Array(256);
  readonly #apic = new Uint32Array(256);
  readonly #made: Made;
  readonly #vm: { readonly memory: Uint8Array; readonly vcpus: readonly MadeVcpu[] };

  constructor(id: number, made: Made, vm: { readonly memory: Uint8Array; readonly vcpus: readonly MadeVcpu[] }) {
    super();
    this.id = id;
    this.#made = made;
    this.#vm = vm;
  }
  setMsr(msr: number, value: bigint): boolean {
    if (msr === 0x1b) return this.#made.x2apic ?? true;
    if (this.#made.sends === false) return false;
    if (this.#made.splitIcr) this.#apic[ICR2] = Number(value >> 32n);
    if (value >> 32n === 1n) {
      for (const id of this.#made.delivers ?? [1])
        (this.#vm.vcpus[id] as MadeVcpu).#apic[IRR + 7 * 4] |= 1 << (Number(value & 0xffn) & 31);
    }
    return true;
  }
  getLapic(): void {
    this.lapic.set(this.#apic);
  }
  setLapic(): void {
    this.#apic.set(this.lapic);
  }
  getRegs(): void {}
  setRegs(): void {}
  getSregs(): void {}
  setSregs(): void {}
  clearEvents(): void {}
  setMpState(state: number): void {
    expect(Object.values(MP)).toContain(state);
  }
  singleStep(): void {}
  run(): string {
    expect(Number(this.get('rip'))).toBe(CODE);
    expect([...this.#vm.memory.subarray(CODE, CODE + 2)]).toEqual([0x0f, 0x01]);
    switch (this.#made.calls?.[this.#vm.memory[CODE + 2]] ?? 'exception') {
      case 'done':
        this.put('rip', BigInt(CODE + 3));
        this.put('rax', 0n);
        return 'debug';
      case 'repatched':
        return 'debug';
      default:
        this.put('rip', 0x2000n);
        return 'debug';
    }
  }
}

function host(made: Made = {}, other: Partial<KvmHost> = {}): KvmHost & { readonly open: () => number } {
  let open = 0;
  return {
    unavailable: () => undefined,
    capabilities: () => ({ ...ALL, ...(made.smm === false ? { X86_SMM: 0 } : {}) }),
    createVm: (ids, memory) => {
      open++;
      const vm: { memory: Uint8Array; vcpus: MadeVcpu[] } = { memory: new Uint8Array(memory), vcpus: [] };
      vm.vcpus.push(...ids.map((id) => new MadeVcpu(id, made, vm)));
      return { memory: vm.memory, vcpus: vm.vcpus as unknown as readonly KvmVcpu[], close: () => void open-- };
    },
    software: () => false,
    vectorHashing: () => true,
    vendor: () => 'amd',
    kernel: () => '6.12.5',
    open: () => open,
    ...other,
  };
}
const CALLS = { 193: 'done', 217: 'done' } as const;

describe('what a KVM can do', () => {
  it('is everything', () => {
    const whole = host({ calls: CALLS });
    expect(probeKvm(whole)).toEqual({
      unavailable: undefined,
      kernel: '6.12.5',
      vendor: 'amd',
      software: false,
      smm: true,
      vectorHashing: true,
      noHypercalls: undefined,
    });
    expect(whole.open()).toBe(0);
  });

  it.each([
    [host({}, { unavailable: () => 'needs Linux on x86-64' }), 'needs Linux on x86-64'],
    [host({}, { capabilities: () => ({ ...ALL, X2APIC_API: 0 }) }), 'lacks KVM_CAP_X2APIC_API (32-bit APIC ids)'],
    [host({}, { capabilities: () => ({ ...ALL, IRQCHIP: 0 }) }), 'lacks KVM_CAP_IRQCHIP (local APICs in the kernel)'],
    [host({ x2apic: false }), 'it has no x2APIC mode for guests'],
    [host({ sends: false }), 'it refuses an IPI'],
    [host({ delivers: [] }), 'an IPI to vCPU 1 does not arrive there alone'],
    [host({ delivers: [0, 1] }), 'an IPI to vCPU 1 does not arrive there alone'],
    [
      host(
        {},
        { createVm: () => raise(new KvmscopeError('engine', '/dev/kvm: KVM_CREATE_IRQCHIP failed with errno 22')) },
      ),
      '/dev/kvm: KVM_CREATE_IRQCHIP failed with errno 22',
    ],
  ])('is not enough: %# %s', (kvm, reason) => {
    expect(probeKvm(kvm).unavailable).toBe(reason);
    expect(kvm.open()).toBe(0);
  });

  it.each([
    [{ 217: 'done', 193: 'repatched' }, undefined],
    [{ 217: 'repatched', 193: 'exception' }, 'VMMCALL never completes, VMCALL ends in an exception'],
    [{ 217: 'exception', 193: 'done' }, 'VMMCALL ends in an exception'],
  ] as const)('hypercalls: %o', (calls, reason) => {
    const expected = reason && `hypercalls unavailable on this KVM: ${reason}`;
    expect(probeKvm(host({ calls })).noHypercalls).toBe(expected);
  });

  it('without SMM and without vector hashing', () => {
    const less = host({ smm: false }, { vectorHashing: () => false });
    expect(probeKvm(less)).toMatchObject({ unavailable: undefined, smm: false, vectorHashing: false });
  });

  it('whose APIC a software KVM has shows in ICR2 outside x2APIC mode', () => {
    const software = { software: () => true };
    expect(probeKvm(host({ splitIcr: true }, software)).vendor).toBe('amd');
    expect(probeKvm(host({ splitIcr: false }, software)).vendor).toBe('intel');
    expect(probeKvm(host({ splitIcr: false })).vendor).toBe('amd');
  });

  it('a mistake of the probe itself is not hidden', () => {
    expect(() => probeKvm(host({}, { createVm: () => raise(new TypeError('oops')) }))).toThrow('oops');
  });

  it('of this machine is found out once, and never throws', () => {
    expect(liveKvm()).toBe(liveKvm());
    expect(liveKvm().kernel).toMatch(/^\d+\.\d+/);
  });
});

function raise(error: Error): never {
  throw error;
}
