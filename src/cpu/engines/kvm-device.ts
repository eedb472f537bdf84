/**
 * A live /dev/kvm: the ioctls that run guest code on a virtual processor (Documentation/virt/kvm/api.rst), for Linux on x86-64. Structures are
 * DataViews in the kernel's layout; offsets are named below. Everything is synchronous: KVM_RUN blocks this thread until the guest exits.
 */
import { readFileSync } from 'node:fs';
import { KvmscopeError } from '../../errors.ts';
import { type Koffi, koffi } from './koffi.ts';

// ---- ioctl requests ----
const GET_API_VERSION = 0xae00;
const CREATE_VM = 0xae01;
const GET_VCPU_MMAP_SIZE = 0xae04;
const CREATE_VCPU = 0xae41;
const SET_USER_MEMORY_REGION = 0x4020ae46;
const SET_TSS_ADDR = 0xae47;
const RUN = 0xae80;
const GET_REGS = 0x8090ae81;
const SET_REGS = 0x4090ae82;
const GET_SREGS = 0x8138ae83;
const SET_SREGS = 0x4138ae84;
const GET_SUPPORTED_CPUID = 0xc008ae05;
const SET_CPUID2 = 0x4008ae90;
const SET_VCPU_EVENTS = 0x4040aea0;

const API_VERSION = 12;
/** Any address below 4 GiB that guests leave alone; Intel processors want three pages for real mode. */
const TSS_ADDRESS = 0xfffbd000;
const CPUID_ENTRIES = 256;

// ---- struct kvm_run ----
const RUN_EXIT_REASON = 8;
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

const EINTR = 4;
const O_RDWR = 2;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;

type Ioctl = (fd: number, request: number, argument: unknown) => number;
interface Calls {
  readonly koffi: Koffi;
  readonly open: (path: string, flags: number) => number;
  readonly close: (fd: number) => number;
  readonly number: Ioctl;
  readonly buffer: Ioctl;
  readonly mmap: (at: null, length: number, protection: number, flags: number, fd: number, offset: number) => unknown;
  readonly munmap: (at: unknown, length: number) => number;
}

let loaded: Calls | undefined;
function calls(): Calls {
  if (loaded) return loaded;
  const k = koffi();
  if (!k)
    throw new KvmscopeError('not-found', '/dev/kvm is reached through the npm package koffi, which is not installed');
  const c = k.load(null);
  loaded = {
    koffi: k,
    open: c.func('int open(const char *path, int flags)'),
    close: c.func('int close(int fd)'),
    number: c.func('int ioctl(int fd, unsigned long request, unsigned long argument)'),
    buffer: c.func('int ioctl(int fd, unsigned long request, void *argument)'),
    mmap: c.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)'),
    munmap: c.func('int munmap(void *at, size_t length)'),
  };
  return loaded;
}

/** An ioctl with a number or a buffer that the kernel reads or fills. Throws KvmscopeError with the errno if it fails. */
function ioctl(fd: number, request: number, argument: number | Uint8Array): number {
  const c = calls();
  const result = typeof argument === 'number' ? c.number(fd, request, argument) : c.buffer(fd, request, argument);
  if (result < 0) {
    throw new KvmscopeError(
      'not-found',
      `/dev/kvm: ioctl 0x${request.toString(16)} failed with errno ${c.koffi.errno()}`,
    );
  }
  return result;
}

function mapped(fd: number, length: number): { readonly pointer: unknown; readonly bytes: Uint8Array } {
  const c = calls();
  const pointer = c.mmap(null, length, PROT_READ_WRITE, fd < 0 ? MAP_PRIVATE_ANONYMOUS : MAP_SHARED, fd, 0);
  return { pointer, bytes: new Uint8Array(c.koffi.view(pointer, length)) };
}

/** Why there is no /dev/kvm to use here, or undefined if there is one. */
export function kvmUnavailable(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'needs Linux on x86-64';
  if (!koffi()) return 'needs the npm package koffi';
  const fd = calls().open('/dev/kvm', O_RDWR);
  if (fd < 0) return `cannot open /dev/kvm (errno ${calls().koffi.errno()})`;
  const version = ioctl(fd, GET_API_VERSION, 0);
  calls().close(fd);
  return version === API_VERSION ? undefined : `needs version ${API_VERSION} of the KVM API, not ${version}`;
}

/** Whether this KVM runs guests without VMX and SVM, and so interprets part of their code by an emulator of its own. */
export const isSoftwareKvm = (): boolean => !/^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'latin1'));

/** A virtual machine of one vCPU and RAM from guest-physical address 0. */
export class LiveVm {
  readonly memory: Uint8Array;
  /** struct kvm_regs and struct kvm_sregs, as last got or to be set. */
  readonly regs = new DataView(new ArrayBuffer(REGS_BYTES));
  readonly sregs = new DataView(new ArrayBuffer(SREGS_BYTES));
  readonly #fds: number[] = [];
  readonly #vcpu: number;
  readonly #run: DataView;
  readonly #mappings: { readonly pointer: unknown; readonly bytes: Uint8Array }[] = [];

  /** `bytes` of RAM, a multiple of 4096. Throws KvmscopeError if KVM refuses. */
  constructor(bytes: number) {
    const kvm = this.#own(calls().open('/dev/kvm', O_RDWR));
    if (kvm < 0) throw new KvmscopeError('not-found', '/dev/kvm cannot be opened');
    const vm = this.#own(ioctl(kvm, CREATE_VM, 0));
    ioctl(vm, SET_TSS_ADDR, TSS_ADDRESS);
    const ram = this.#map(-1, bytes);
    this.memory = ram.bytes;
    const region = Buffer.alloc(32);
    region.writeBigUInt64LE(BigInt(bytes), 16);
    region.writeBigUInt64LE(calls().koffi.address(ram.pointer), 24);
    ioctl(vm, SET_USER_MEMORY_REGION, region);
    this.#vcpu = this.#own(ioctl(vm, CREATE_VCPU, 0));
    const cpuid = Buffer.alloc(8 + CPUID_ENTRIES * 40);
    cpuid.writeUInt32LE(CPUID_ENTRIES, 0);
    ioctl(kvm, GET_SUPPORTED_CPUID, cpuid);
    ioctl(this.#vcpu, SET_CPUID2, cpuid);
    const shared = this.#map(this.#vcpu, ioctl(kvm, GET_VCPU_MMAP_SIZE, 0)).bytes;
    this.#run = new DataView(shared.buffer, shared.byteOffset, shared.byteLength);
    this.getRegisters();
  }
  #own(fd: number): number {
    if (fd >= 0) this.#fds.push(fd);
    return fd;
  }
  #map(fd: number, length: number): { readonly pointer: unknown; readonly bytes: Uint8Array } {
    const mapping = mapped(fd, length);
    this.#mappings.push(mapping);
    return mapping;
  }
  /** Ends the VM. Its memory must not be touched afterwards. */
  close(): void {
    for (const { pointer, bytes } of this.#mappings.splice(0)) calls().munmap(pointer, bytes.length);
    for (const fd of this.#fds.splice(0).reverse()) calls().close(fd);
  }

  /** Fills `regs` and `sregs`. */
  getRegisters(): void {
    ioctl(this.#vcpu, GET_REGS, bytesOf(this.regs));
    ioctl(this.#vcpu, GET_SREGS, bytesOf(this.sregs));
  }
  /** Hands `regs` and `sregs` over; pending exceptions and the interrupt shadow are dropped. */
  setRegisters(): void {
    ioctl(this.#vcpu, SET_SREGS, bytesOf(this.sregs));
    ioctl(this.#vcpu, SET_REGS, bytesOf(this.regs));
    const events = Buffer.alloc(64);
    events.writeUInt32LE(VCPUEVENT_VALID_SHADOW, 20);
    ioctl(this.#vcpu, SET_VCPU_EVENTS, events);
  }
  /**
   * KVM_RUN: the exit reason of struct kvm_run by name, 'intr' if a signal came first. It blocks for as long as the guest does not exit; only a
   * signal that this process handles gets it back.
   */
  run(): string {
    const c = calls();
    if (c.number(this.#vcpu, RUN, 0) < 0) {
      if (c.koffi.errno() === EINTR) return 'intr';
      throw new KvmscopeError('not-found', `/dev/kvm: KVM_RUN failed with errno ${c.koffi.errno()}`);
    }
    const reason = this.#run.getUint32(RUN_EXIT_REASON, true);
    return KVM_EXITS[reason] ?? `exit ${reason}`;
  }

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

/** Without an NMI, an SMI or a shadow in the rest of the structure. */
const VCPUEVENT_VALID_SHADOW = 4;
const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer);

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
