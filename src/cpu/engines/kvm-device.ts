/**
 * A live /dev/kvm: virtual machines whose vCPUs the machine's own kernel runs (Documentation/virt/kvm/api.rst), for Linux on x86-64. Structures
 * are DataViews in the kernel's layout; offsets are named below. Everything is synchronous.
 */
import { readFileSync } from 'node:fs';
import { KvmscopeError } from '../../errors.ts';
import { MAXPHYADDR } from '../cpu.ts';
import { koffi } from './koffi.ts';
import { CAP, calls, EAGAIN, EINTR, ioctl, KVM, type Mapping, map, openKvm, RunLimit, unmap } from './kvm-calls.ts';

const API_VERSION = 12;
/** Any address below 4 GiB that guests leave alone; Intel processors want three pages for real mode. */
const TSS_ADDRESS = 0xfffbd000;
const CPUID_ENTRIES = 256;
const CPUID_ENTRY_BYTES = 40;

// ---- struct kvm_run ----
const RUN_EXIT_REASON = 8;
const RUN_IO_PORT = 34;
const RUN_IO_DATA = 40;
const RUN_MMIO_DATA = 40;
const RUN_MMIO_IS_WRITE = 52;
/** KVM_EXIT_*; those not here have no name of their own. */
const KVM_EXITS: Readonly<Record<number, string>> = {
  ...{ 2: 'io', 4: 'debug', 5: 'hlt', 6: 'mmio', 8: 'shutdown', 9: 'fail-entry', 17: 'internal-error' },
};

/** Registers of struct kvm_regs, 8 bytes each, in the kernel's order. */
const KVM_REGS = 'rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags'.split(
  ' ',
) as readonly string[];
const REGS_BYTES = 144;
/** Segments of struct kvm_sregs, 24 bytes each: base, limit at 8, selector at 12, attributes as bytes from 14. */
const KVM_SEGMENTS = 'cs ds es fs gs ss tr ldtr'.split(' ') as readonly string[];
const SREGS_BYTES = 312;
/** Attribute bytes by offset, with their first bit and their mask in the VMX format. */
const ATTRIBUTES = [
  [14, 0, 15], // type
  [15, 7, 1], // present
  [16, 5, 3], // DPL
  [17, 14, 1], // D/B
  [18, 4, 1], // S
  [19, 13, 1], // L
  [20, 15, 1], // G
  [21, 12, 1], // AVL
  [22, 16, 1], // unusable
] as const;
/** struct kvm_dtable: base, limit at 8. */
const SREGS_TABLES = { gdtr: 192, idtr: 208 } as const;
const SREGS_CONTROL = { cr0: 224, cr2: 232, cr3: 240, cr4: 248, cr8: 256, efer: 264, apic_base: 272 } as const;

/** Why there is no /dev/kvm to use here, or undefined if there is one. */
export function kvmUnavailable(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'needs Linux on x86-64';
  if (!koffi()) return 'needs the npm package koffi';
  const fd = openKvm();
  if (fd < 0) return `cannot open /dev/kvm (${OPEN_ERRORS[-fd] ?? `errno ${-fd}`})`;
  const version = calls().number(fd, KVM.GET_API_VERSION, 0);
  calls().close(fd);
  return version === API_VERSION ? undefined : `needs version ${API_VERSION} of the KVM API, not ${version}`;
}

const OPEN_ERRORS: Readonly<Record<number, string>> = {
  2: 'ENOENT: there is none',
  13: 'EACCES: no permission; it usually belongs to the group kvm',
  16: 'EBUSY',
  19: 'ENODEV: the kernel module is not there',
};

/** Whether this KVM runs guests without VMX and SVM, and so interprets part of their code by an emulator of its own. */
export const isSoftwareKvm = (): boolean => !/^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'latin1'));

/** What a VM is made with. */
export interface KvmVmOptions {
  /** vcpu_id (= x2APIC id) of each vCPU. */
  readonly ids: readonly number[];
  /** RAM from guest-physical address 0, in bytes, a multiple of 4096. Default none. */
  readonly memory?: number;
  /** Interrupt controllers in the kernel, a local APIC for each vCPU among them. Default true. */
  readonly irqchip?: boolean;
  /** KVM_CAP_X2APIC_API flags. Default: not enabled. */
  readonly x2apicApi?: number;
  /** KVM_CAP_ENFORCE_PV_FEATURE_CPUID. Default false. */
  readonly enforcePvFeatures?: boolean;
  /** Bits of CPUID 0x40000001 EAX that the guest does not see. Default 0. */
  readonly hiddenPvFeatures?: number;
  /** The longest that KVM_RUN may take, in milliseconds. Default 1000. */
  readonly limit?: number;
}

const CPUID_PV_FEATURES = 0x40000001;
const CPUID_ADDRESS_SIZES = 0x80000008;
const DEFAULT_LIMIT = 1000;

/** A virtual machine. Whoever makes it closes it; what KVM refuses throws KvmscopeError('engine') and leaves nothing open. */
export class KvmVm {
  readonly memory: Uint8Array;
  readonly vcpus: readonly KvmVcpu[];
  readonly #fds: number[] = [];
  readonly #mappings: Mapping[] = [];
  readonly #limit: RunLimit;

  constructor(options: KvmVmOptions) {
    const { ids, memory = 0, irqchip = true, limit = DEFAULT_LIMIT } = options;
    const unavailable = kvmUnavailable();
    if (unavailable) throw new KvmscopeError('engine', `no live KVM: ${unavailable}`);
    this.#limit = new RunLimit(limit);
    try {
      const kvm = this.#own(openKvm());
      const vm = this.#own(ioctl(kvm, KVM.CREATE_VM, 0));
      ioctl(vm, KVM.SET_TSS_ADDR, TSS_ADDRESS);
      if (irqchip) ioctl(vm, KVM.CREATE_IRQCHIP, 0);
      if (options.x2apicApi) ioctl(vm, KVM.ENABLE_CAP, capability(CAP.X2APIC_API, options.x2apicApi));
      this.memory = memory > 0 ? this.#map(-1, memory).bytes : new Uint8Array(0);
      if (memory > 0) {
        const region = Buffer.alloc(32);
        region.writeBigUInt64LE(BigInt(memory), 16);
        region.writeBigUInt64LE(calls().koffi.address((this.#mappings[0] as Mapping).pointer), 24);
        ioctl(vm, KVM.SET_USER_MEMORY_REGION, region);
      }
      const runBytes = ioctl(kvm, KVM.GET_VCPU_MMAP_SIZE, 0);
      const cpuid = guestCpuid(kvm, options.hiddenPvFeatures ?? 0);
      this.vcpus = ids.map((id) => {
        const fd = this.#own(ioctl(vm, KVM.CREATE_VCPU, id));
        if (options.enforcePvFeatures) ioctl(fd, KVM.ENABLE_CAP, capability(CAP.ENFORCE_PV_FEATURE_CPUID, 1));
        ioctl(fd, KVM.SET_CPUID2, cpuid);
        this.#limit.applyTo(fd);
        return new KvmVcpu(fd, id, this.#map(fd, runBytes).bytes, this.#limit);
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }
  #own(fd: number): number {
    if (fd < 0) throw new KvmscopeError('engine', `/dev/kvm cannot be opened (errno ${-fd})`);
    this.#fds.push(fd);
    return fd;
  }
  #map(fd: number, length: number): Mapping {
    const mapping = map(fd, length);
    this.#mappings.push(mapping);
    return mapping;
  }
  /** Ends the VM. Its memory must not be touched afterwards. May be called twice. */
  close(): void {
    for (const mapping of this.#mappings.splice(0)) unmap(mapping);
    for (const fd of this.#fds.splice(0).reverse()) calls().close(fd);
    this.#limit.dispose();
  }
}

/** struct kvm_enable_cap. */
function capability(number: number, argument: number): Uint8Array {
  const bytes = Buffer.alloc(104);
  bytes.writeUInt32LE(number, 0);
  bytes.writeBigUInt64LE(BigInt(argument), 8);
  return bytes;
}

/** struct kvm_cpuid2 with all that this KVM supports, and the address width of the other engines. */
function guestCpuid(kvm: number, hiddenPvFeatures: number): Uint8Array {
  const cpuid = Buffer.alloc(8 + CPUID_ENTRIES * CPUID_ENTRY_BYTES);
  cpuid.writeUInt32LE(CPUID_ENTRIES, 0);
  ioctl(kvm, KVM.GET_SUPPORTED_CPUID, cpuid);
  for (let at = 8; at < 8 + cpuid.readUInt32LE(0) * CPUID_ENTRY_BYTES; at += CPUID_ENTRY_BYTES) {
    const leaf = cpuid.readUInt32LE(at);
    const eax = cpuid.readUInt32LE(at + 12);
    if (leaf === CPUID_PV_FEATURES) cpuid.writeUInt32LE((eax & ~hiddenPvFeatures) >>> 0, at + 12);
    if (leaf === CPUID_ADDRESS_SIZES) cpuid.writeUInt32LE(((eax & ~0xff) | MAXPHYADDR) >>> 0, at + 12);
  }
  return cpuid;
}

/** The answer of KVM_CHECK_EXTENSION to each capability of `kvm-calls.ts`. */
export function kvmCapabilities(): Readonly<Record<keyof typeof CAP, number>> {
  const fd = openKvm();
  if (fd < 0) throw new KvmscopeError('engine', `/dev/kvm cannot be opened (errno ${-fd})`);
  try {
    const answers = Object.entries(CAP).map(([name, number]) => [name, ioctl(fd, KVM.CHECK_EXTENSION, number)]);
    return Object.fromEntries(answers) as Record<keyof typeof CAP, number>;
  } finally {
    calls().close(fd);
  }
}

/** KVM_MP_STATE_*. */
export const MP = { runnable: 0, uninitialized: 1, 'init-received': 2, halted: 3 } as const;

/** 32-bit registers of struct kvm_lapic_state, which has one in every 16 bytes. */
const LAPIC_BYTES = 1024;
/** KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP. */
const SINGLE_STEP = 3;

/** What is pending at a vCPU besides its local APIC. */
export interface PendingEvents {
  /** NMIs, 0 to 2. */
  readonly nmi: number;
  readonly smi: number;
  /** INIT. */
  readonly init: number;
}

/** The register structures of a vCPU, as last got or to be set. */
export class KvmRegisters {
  /** struct kvm_regs and struct kvm_sregs. */
  readonly regs = new DataView(new ArrayBuffer(REGS_BYTES));
  readonly sregs = new DataView(new ArrayBuffer(SREGS_BYTES));

  /** A register by the name that registers.ts gives it: those of struct kvm_regs, control registers, tables and segments. */
  get(name: string): bigint {
    const at = place(name);
    const view = at.special ? this.sregs : this.regs;
    if (at.attributes) {
      return ATTRIBUTES.reduce(
        (sum, [offset, bit]) => sum | (BigInt(view.getUint8(at.offset + offset)) << BigInt(bit)),
        0n,
      );
    }
    if (at.bits === 64) return view.getBigUint64(at.offset, true);
    return BigInt(at.bits === 32 ? view.getUint32(at.offset, true) : view.getUint16(at.offset, true));
  }
  put(name: string, value: bigint): void {
    const at = place(name);
    const view = at.special ? this.sregs : this.regs;
    if (at.attributes) {
      for (const [offset, bit, mask] of ATTRIBUTES)
        view.setUint8(at.offset + offset, Number(value >> BigInt(bit)) & mask);
    } else if (at.bits === 64) view.setBigUint64(at.offset, BigInt.asUintN(64, value), true);
    else if (at.bits === 32) view.setUint32(at.offset, Number(value & 0xffffffffn), true);
    else view.setUint16(at.offset, Number(value & 0xffffn), true);
  }
}

/** One vCPU. */
export class KvmVcpu extends KvmRegisters {
  readonly id: number;
  /** struct kvm_lapic_state: the register at offset n × 16 is element n × 4. */
  readonly lapic = new Uint32Array(LAPIC_BYTES / 4);
  readonly #fd: number;
  readonly #run: DataView;
  readonly #limit: RunLimit;
  readonly #lapicBytes = new Uint8Array(this.lapic.buffer);
  readonly #regsBytes = new Uint8Array(this.regs.buffer);
  readonly #sregsBytes = new Uint8Array(this.sregs.buffer);
  readonly #mp = Buffer.alloc(4);
  readonly #msr = Buffer.alloc(24);
  readonly #events = Buffer.alloc(64);
  readonly #debug = Buffer.alloc(72);

  constructor(fd: number, id: number, run: Uint8Array, limit: RunLimit) {
    super();
    this.#fd = fd;
    this.id = id;
    this.#run = new DataView(run.buffer, run.byteOffset, run.byteLength);
    this.#limit = limit;
    this.#msr.writeUInt32LE(1, 0);
    this.#debug.writeUInt32LE(SINGLE_STEP, 0);
  }

  getRegs(): void {
    ioctl(this.#fd, KVM.GET_REGS, this.#regsBytes);
  }
  setRegs(): void {
    ioctl(this.#fd, KVM.SET_REGS, this.#regsBytes);
  }
  getSregs(): void {
    ioctl(this.#fd, KVM.GET_SREGS, this.#sregsBytes);
  }
  setSregs(): void {
    ioctl(this.#fd, KVM.SET_SREGS, this.#sregsBytes);
  }
  /** Fills `lapic`. */
  getLapic(): void {
    ioctl(this.#fd, KVM.GET_LAPIC, this.#lapicBytes);
  }
  /** Hands an image of `LAPIC_BYTES` bytes over. */
  setLapic(image: Uint8Array = this.#lapicBytes): void {
    ioctl(this.#fd, KVM.SET_LAPIC, image);
  }
  /** The value that the host reads; undefined: refused, as the guest's RDMSR would be. */
  getMsr(msr: number): bigint | undefined {
    this.#msr.writeUInt32LE(msr, 8);
    return ioctl(this.#fd, KVM.GET_MSRS, this.#msr) === 1 ? this.#msr.readBigUInt64LE(16) : undefined;
  }
  /** Whether KVM accepts the value. */
  setMsr(msr: number, value: bigint): boolean {
    this.#msr.writeUInt32LE(msr, 8);
    this.#msr.writeBigUInt64LE(value, 16);
    return ioctl(this.#fd, KVM.SET_MSRS, this.#msr) === 1;
  }
  /** A number of `MP`. Reading carries out a pending INIT or SIPI. */
  getMpState(): number {
    ioctl(this.#fd, KVM.GET_MP_STATE, this.#mp);
    return this.#mp.readUInt32LE(0);
  }
  setMpState(state: number): void {
    this.#mp.writeUInt32LE(state, 0);
    ioctl(this.#fd, KVM.SET_MP_STATE, this.#mp);
  }
  pending(): PendingEvents {
    ioctl(this.#fd, KVM.GET_VCPU_EVENTS, this.#events);
    const bytes = this.#events;
    // An NMI that has been injected already counts as pending: no guest code has run since.
    return { nmi: bytes[12] + bytes[13], smi: bytes[25], init: bytes[27] };
  }
  /** Drops pending exceptions, NMIs and the interrupt shadow; with `smm`, SMI and INIT as well. */
  clearEvents(smm: boolean): void {
    const bytes = this.#events.fill(0);
    bytes.writeUInt32LE(VALID_NMI_PENDING | VALID_SHADOW | (smm ? VALID_SMM : 0), 20);
    ioctl(this.#fd, KVM.SET_VCPU_EVENTS, bytes);
  }
  /** The next KVM_RUN ends behind one instruction. To be called when the registers have been set. */
  singleStep(): void {
    ioctl(this.#fd, KVM.SET_GUEST_DEBUG, this.#debug);
  }
  /**
   * KVM_RUN: the exit reason of struct kvm_run by name; 'limit' if the guest did not exit within the VM's limit, 'intr' if a signal that is not
   * the limit's came first.
   */
  run(): string {
    const c = calls();
    this.#limit.start();
    const result = c.number(this.#fd, KVM.RUN, 0);
    const errno = result < 0 ? c.koffi.errno() : 0;
    const late = this.#limit.stop();
    if (errno === EINTR || errno === EAGAIN) return late ? 'limit' : 'intr';
    if (errno !== 0) throw new KvmscopeError('engine', `/dev/kvm: KVM_RUN failed with errno ${errno}`);
    const reason = this.#run.getUint32(RUN_EXIT_REASON, true);
    return KVM_EXITS[reason] ?? `exit ${reason}`;
  }
  /** Answers an 'mmio' exit that reads: with zero. */
  answerMmio(): void {
    if (this.#run.getUint8(RUN_MMIO_IS_WRITE) === 0) this.#run.setBigUint64(RUN_MMIO_DATA, 0n, true);
  }
  /** Port and byte of an 'io' exit that writes one byte. */
  output(): { readonly port: number; readonly value: number } {
    const at = Number(this.#run.getBigUint64(RUN_IO_DATA, true));
    return { port: this.#run.getUint16(RUN_IO_PORT, true), value: this.#run.getUint8(at) };
  }
}

/** A virtual machine of one vCPU without interrupt controllers. */
export class LiveVm {
  readonly memory: Uint8Array;
  readonly #vm: KvmVm;
  readonly #vcpu: KvmVcpu;

  /** `bytes` of RAM from guest-physical address 0, a multiple of 4096. Throws KvmscopeError if KVM refuses. */
  constructor(bytes: number) {
    this.#vm = new KvmVm({ ids: [0], memory: bytes, irqchip: false });
    this.memory = this.#vm.memory;
    this.#vcpu = this.#vm.vcpus[0] as KvmVcpu;
    this.getRegisters();
  }
  /** Ends the VM. Its memory must not be touched afterwards. */
  close(): void {
    this.#vm.close();
  }
  getRegisters(): void {
    this.#vcpu.getRegs();
    this.#vcpu.getSregs();
  }
  /** Hands the registers over; pending exceptions and the interrupt shadow are dropped. */
  setRegisters(): void {
    this.#vcpu.setSregs();
    this.#vcpu.setRegs();
    this.#vcpu.clearEvents(false);
  }
  /** KVM_RUN as {@link KvmVcpu.run}. */
  run(): string {
    return this.#vcpu.run();
  }
  get(name: string): bigint {
    return this.#vcpu.get(name);
  }
  put(name: string, value: bigint): void {
    this.#vcpu.put(name, value);
  }
}

/** KVM_VCPUEVENT_VALID_*. */
const VALID_NMI_PENDING = 1;
const VALID_SHADOW = 4;
const VALID_SMM = 8;

interface Place {
  readonly special: boolean;
  readonly offset: number;
  readonly bits: 16 | 32 | 64;
  readonly attributes?: boolean;
}
const PLACES = new Map<string, Place>();
function place(name: string): Place {
  const found = PLACES.get(name);
  if (!found) throw new RangeError(`KVM has no register ${name}`);
  return found;
}
for (const [n, name] of KVM_REGS.entries()) PLACES.set(name, { special: false, offset: n * 8, bits: 64 });
for (const [n, name] of KVM_SEGMENTS.entries()) {
  PLACES.set(name, { special: true, offset: n * 24 + 12, bits: 16 });
  PLACES.set(`${name}_base`, { special: true, offset: n * 24, bits: 64 });
  PLACES.set(`${name}_limit`, { special: true, offset: n * 24 + 8, bits: 32 });
  PLACES.set(`${name}_attr`, { special: true, offset: n * 24, bits: 32, attributes: true });
}
for (const [name, offset] of Object.entries(SREGS_TABLES)) {
  PLACES.set(`${name}_base`, { special: true, offset, bits: 64 });
  PLACES.set(`${name}_limit`, { special: true, offset: offset + 8, bits: 16 });
}
for (const [name, offset] of Object.entries(SREGS_CONTROL)) PLACES.set(name, { special: true, offset, bits: 64 });
/** The names that `get` and `put` know. */
export const kvmRegisterNames = (): string[] => [...PLACES.keys()];
