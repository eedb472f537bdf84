/** What the live KVM of this machine can do, found out by asking it and by trying. Nothing here can hang: every run of a guest is limited. */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { KvmscopeError } from '../../errors.ts';
import type { Vendor } from '../cpu.ts';
import { isSoftwareKvm, type KvmVcpu, KvmVm, kvmCapabilities, kvmUnavailable, MP } from './kvm-device.ts';

export interface KvmReport {
  /** One line saying why this KVM cannot be used; undefined: it can. */
  readonly unavailable: string | undefined;
  /** As `uname -r` says. */
  readonly kernel: string;
  /** Whose KVM this is: that of the processor; of a software KVM, the one whose APIC it has. */
  readonly vendor: Vendor;
  /** Without VMX and SVM: an emulator interprets the guest's privileged code. */
  readonly software: boolean;
  /** SMIs are delivered (CONFIG_KVM_SMM). */
  readonly smm: boolean;
  /** Module parameter vector_hashing: lowest-priority delivery goes by the vector. */
  readonly vectorHashing: boolean;
  /** One line saying why guests cannot make hypercalls; undefined: they can. */
  readonly noHypercalls: string | undefined;
}

/** What a probe asks; replaced in tests. */
export interface KvmHost {
  unavailable(): string | undefined;
  capabilities(): Readonly<Record<string, number>>;
  createVm(ids: readonly number[], memory: number): ProbedVm;
  software(): boolean;
  vectorHashing(): boolean;
  vendor(): Vendor;
  kernel(): string;
}
export type ProbedVm = Pick<KvmVm, 'vcpus' | 'memory' | 'close'>;

/** Milliseconds for a single instruction. */
const LIMIT = 200;

function text(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

const HOST: KvmHost = {
  unavailable: kvmUnavailable,
  capabilities: kvmCapabilities,
  createVm: (ids, memory) => new KvmVm({ ids, memory, limit: LIMIT }),
  software: isSoftwareKvm,
  vectorHashing: () => !/^[n0]/i.test(text('/sys/module/kvm/parameters/vector_hashing')),
  vendor: () => (/^vendor_id\s*:\s*GenuineIntel/m.test(text('/proc/cpuinfo')) ? 'intel' : 'amd'),
  kernel: release,
};

/** Capabilities without which nothing can be compared, and what they are for. */
const NEEDED = {
  IRQCHIP: 'local APICs in the kernel',
  MP_STATE: 'MP states',
  VCPU_EVENTS: 'pending NMIs',
  SET_GUEST_DEBUG: 'single steps',
  X2APIC_API: '32-bit APIC ids',
} as const;

const MSR_APIC_BASE = 0x1b;
const MSR_ICR = 0x830;
const X2APIC_BASE = 0xfee00c00n;
const XAPIC_DISABLED = 0xfee00000n;
const BSP = 0x100n;
/** Register offsets 0xF0 and 0x200, in 32-bit elements. */
const SVR = 0x3c;
const IRR = 0x80;
const VECTOR = 236;

/** Two vCPUs in x2APIC mode, sent one IPI; why that did not work. */
function sendProbe({ vcpus }: ProbedVm): string | undefined {
  for (const vcpu of vcpus) {
    if (!vcpu.setMsr(MSR_APIC_BASE, X2APIC_BASE | (vcpu.id === 0 ? BSP : 0n)))
      return 'it has no x2APIC mode for guests';
    vcpu.getLapic();
    vcpu.lapic[SVR] = 0x1ff;
    vcpu.setLapic();
    vcpu.setMpState(MP['init-received']);
  }
  const [sender, target] = vcpus as [KvmVcpu, KvmVcpu];
  if (!sender.setMsr(MSR_ICR, (1n << 32n) | BigInt(VECTOR))) return 'it refuses an IPI';
  const arrived = [sender, target].map((vcpu) => {
    vcpu.getLapic();
    return [0, 1, 2, 3, 4, 5, 6, 7].map((word) => vcpu.lapic[IRR + word * 4]);
  });
  const bit = 1 << (VECTOR & 31);
  const expected = (word: number): number => (word === VECTOR >> 5 ? bit : 0);
  return arrived[0].every((word) => word === 0) && arrived[1].every((word, n) => word === expected(n))
    ? undefined
    : 'an IPI to vCPU 1 does not arrive there alone';
}

/** Register offset 0x310, in 32-bit elements. */
const ICR2 = 0xc4;

/**
 * Since v6.12 KVM keeps the x2APIC's ICR as the vendor's hardware does: AMD as ICR and ICR2, Intel as one register of 64 bits at 0x300. Which of
 * them shows in ICR2 once the APIC is in x2APIC mode no more.
 */
function icrVendor({ vcpus: [vcpu] }: ProbedVm): Vendor {
  const destination = 0x07000000;
  vcpu.setMsr(MSR_ICR, (BigInt(destination) << 32n) | BigInt(VECTOR));
  vcpu.setMsr(MSR_APIC_BASE, XAPIC_DISABLED | BSP);
  vcpu.getLapic();
  return vcpu.lapic[ICR2] === destination ? 'amd' : 'intel';
}

const CODE = 0x1000;
/** Hypercall 1 does nothing and returns 0. */
const VAPIC_POLL_IRQ = 1n;
/** JMP to itself: where all exceptions of the probe end. */
const CIRCLE = 0x2000;

const CALLS = { intel: ['VMCALL', 0xc1], amd: ['VMMCALL', 0xd9] } as const;

/** The processor's own hypercall by real-mode code; why that did not work. */
function callProbe(vm: ProbedVm, vendor: Vendor): string | undefined {
  const reasons = [vendor, vendor === 'amd' ? 'intel' : 'amd'].map((each) => oneCall(vm, each as Vendor));
  if (reasons[0] === undefined) return undefined;
  return `hypercalls unavailable on this KVM: ${reasons.filter((reason) => reason !== undefined).join(', ')}`;
}

function oneCall(vm: ProbedVm, vendor: Vendor): string | undefined {
  const [vcpu] = vm.vcpus as [KvmVcpu];
  const [name, opcode] = CALLS[vendor];
  vm.memory.set([0x0f, 0x01, opcode], CODE);
  vm.memory.set([0xeb, 0xfe], CIRCLE);
  for (let vector = 0; vector < 256; vector++) vm.memory.set([CIRCLE & 0xff, CIRCLE >> 8, 0, 0], vector * 4);
  vcpu.getRegs();
  vcpu.getSregs();
  for (const [register, value] of [
    ['cs', 0n],
    ['cs_base', 0n],
    ['rip', BigInt(CODE)],
    ['rax', VAPIC_POLL_IRQ],
  ] as const)
    vcpu.put(register, value);
  vcpu.put('rsp', 0x800n);
  vcpu.clearEvents(false);
  vcpu.setSregs();
  vcpu.setMpState(MP.runnable);
  vcpu.setRegs();
  vcpu.singleStep();
  const exit = vcpu.run();
  vcpu.getRegs();
  const rip = Number(vcpu.get('rip'));
  if (exit === 'debug' && rip === CODE + 3 && vcpu.get('rax') === 0n) return undefined;
  return `${name} ${rip === CODE ? 'never completes' : 'ends in an exception'}`;
}

/** Asks and tries. Never throws: what fails is a reason. */
export function probeKvm(host: KvmHost = HOST): KvmReport {
  const report = (unavailable: string | undefined, more: Partial<KvmReport> = {}): KvmReport => ({
    unavailable,
    kernel: host.kernel(),
    vendor: host.vendor(),
    software: false,
    smm: false,
    vectorHashing: true,
    noHypercalls: 'hypercalls unavailable: no KVM',
    ...more,
  });
  const reason = host.unavailable();
  if (reason !== undefined) return report(reason);
  let vm: ProbedVm | undefined;
  try {
    const has = host.capabilities();
    for (const [name, what] of Object.entries(NEEDED)) {
      if (!has[name]) return report(`lacks KVM_CAP_${name} (${what})`);
    }
    vm = host.createVm([0, 1], 0x4000);
    const broken = sendProbe(vm);
    if (broken !== undefined) return report(broken);
    const software = host.software();
    return report(undefined, {
      software,
      vendor: software ? icrVendor(vm) : host.vendor(),
      smm: Boolean(has.X86_SMM),
      vectorHashing: host.vectorHashing(),
      noHypercalls: callProbe(vm, host.vendor()),
    });
  } catch (error) {
    if (error instanceof KvmscopeError) return report(error.message);
    throw error;
  } finally {
    vm?.close();
  }
}

let found: KvmReport | undefined;
/** The answer of the first probe of this machine. */
export const liveKvm = (): KvmReport => (found ??= probeKvm());
