/**
 * System calls behind a live /dev/kvm, through koffi: ioctls, mappings, and a limit on the time that KVM_RUN takes. Linux on x86-64 only: the
 * variadic ioctl and syscall of the C library are declared with fixed arguments, which is the same calling convention there.
 */
import { KvmscopeError } from '../../errors.ts';
import { type Koffi, koffi } from './koffi.ts';

// ---- ioctl requests (include/uapi/linux/kvm.h) ----
export const KVM = {
  GET_API_VERSION: 0xae00,
  CREATE_VM: 0xae01,
  CHECK_EXTENSION: 0xae03,
  GET_VCPU_MMAP_SIZE: 0xae04,
  GET_SUPPORTED_CPUID: 0xc008ae05,
  CREATE_VCPU: 0xae41,
  SET_USER_MEMORY_REGION: 0x4020ae46,
  SET_TSS_ADDR: 0xae47,
  CREATE_IRQCHIP: 0xae60,
  RUN: 0xae80,
  GET_REGS: 0x8090ae81,
  SET_REGS: 0x4090ae82,
  GET_SREGS: 0x8138ae83,
  SET_SREGS: 0x4138ae84,
  GET_MSRS: 0xc008ae88,
  SET_MSRS: 0x4008ae89,
  SET_SIGNAL_MASK: 0x4004ae8b,
  GET_LAPIC: 0x8400ae8e,
  SET_LAPIC: 0x4400ae8f,
  SET_CPUID2: 0x4008ae90,
  GET_MP_STATE: 0x8004ae98,
  SET_MP_STATE: 0x4004ae99,
  SET_GUEST_DEBUG: 0x4048ae9b,
  GET_VCPU_EVENTS: 0x8040ae9f,
  SET_VCPU_EVENTS: 0x4040aea0,
  ENABLE_CAP: 0x4068aea3,
} as const;

/** KVM_CAP_*: arguments of CHECK_EXTENSION and ENABLE_CAP. */
export const CAP = {
  IRQCHIP: 0,
  MP_STATE: 14,
  SET_GUEST_DEBUG: 23,
  VCPU_EVENTS: 41,
  X86_SMM: 117,
  X2APIC_API: 129,
  ENFORCE_PV_FEATURE_CPUID: 190,
} as const;

export const EINTR = 4;
export const EAGAIN = 11;
const O_RDWR_CLOEXEC = 0o2000002;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;

type Ioctl = (fd: number, request: number, argument: unknown) => number;
type Syscall = (number: number, a: unknown, b: unknown, c: unknown, d: unknown) => number;
interface Calls {
  readonly koffi: Koffi;
  readonly open: (path: string, flags: number) => number;
  readonly close: (fd: number) => number;
  readonly number: Ioctl;
  readonly buffer: Ioctl;
  readonly mmap: (at: null, length: number, protection: number, flags: number, fd: number, offset: number) => unknown;
  readonly munmap: (at: unknown, length: number) => number;
  /** Four pointers. */
  readonly pointers: Syscall;
  /** A number, then pointers. */
  readonly numbered: Syscall;
  /** Two numbers, then pointers. */
  readonly armed: Syscall;
}

let loaded: Calls | undefined;
export function calls(): Calls {
  if (loaded) return loaded;
  const k = koffi();
  if (!k)
    throw new KvmscopeError('engine', '/dev/kvm is reached through the npm package koffi, which is not installed');
  const c = k.load(null);
  loaded = {
    koffi: k,
    open: c.func('int open(const char *path, int flags)'),
    close: c.func('int close(int fd)'),
    number: c.func('int ioctl(int fd, unsigned long request, unsigned long argument)'),
    buffer: c.func('int ioctl(int fd, unsigned long request, void *argument)'),
    mmap: c.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)'),
    munmap: c.func('int munmap(void *at, size_t length)'),
    pointers: c.func('long syscall(long number, void *a, void *b, void *c, unsigned long d)'),
    numbered: c.func('long syscall(long number, unsigned long a, void *b, void *c, unsigned long d)'),
    armed: c.func('long syscall(long number, unsigned long a, unsigned long b, void *c, void *d)'),
  };
  return loaded;
}

/** Opens /dev/kvm; a negative errno if that fails. */
export function openKvm(): number {
  const c = calls();
  const fd = c.open('/dev/kvm', O_RDWR_CLOEXEC);
  return fd < 0 ? -c.koffi.errno() : fd;
}

const NAMES = new Map<number, string>(Object.entries(KVM).map(([name, request]) => [request, `KVM_${name}`]));

/** An ioctl with a number or a buffer that the kernel reads or fills. Throws KvmscopeError with the errno if it fails. */
export function ioctl(fd: number, request: number, argument: number | Uint8Array): number {
  const c = calls();
  const result = typeof argument === 'number' ? c.number(fd, request, argument) : c.buffer(fd, request, argument);
  if (result < 0) {
    throw new KvmscopeError('engine', `/dev/kvm: ${NAMES.get(request)} failed with errno ${c.koffi.errno()}`);
  }
  return result;
}

export interface Mapping {
  readonly pointer: unknown;
  readonly bytes: Uint8Array;
}

/** Maps `length` bytes of a file, of anonymous memory if `fd` is negative. */
export function map(fd: number, length: number): Mapping {
  const c = calls();
  const pointer = c.mmap(null, length, PROT_READ_WRITE, fd < 0 ? MAP_PRIVATE_ANONYMOUS : MAP_SHARED, fd, 0);
  // MAP_FAILED is -1.
  if (c.koffi.address(pointer) > 0xffff_ffff_ffff_f000n) {
    throw new KvmscopeError('engine', `/dev/kvm: cannot map ${length} bytes (errno ${c.koffi.errno()})`);
  }
  return { pointer, bytes: new Uint8Array(c.koffi.view(pointer, length)) };
}

export function unmap({ pointer, bytes }: Mapping): void {
  calls().munmap(pointer, bytes.length);
}

// ---- a limit on KVM_RUN ----

const SYS = { sigprocmask: 14, sigtimedwait: 128, gettid: 186, timerCreate: 222, timerSettime: 223, timerDelete: 226 };
/** A real-time signal that neither the C library nor Node uses. */
const SIGNAL = 44;
const SIGSET_BYTES = 8;
const SIG_BLOCK = 0;
const CLOCK_MONOTONIC = 1;
const SIGEV_THREAD_ID = 4;

function system(result: number, what: string): number {
  if (result < 0) throw new KvmscopeError('engine', `/dev/kvm: ${what} failed with errno ${calls().koffi.errno()}`);
  return result;
}

/**
 * Gets this thread out of KVM_RUN after a while. KVM_RUN only comes back when the guest exits or a signal is pending; so a timer sends this
 * thread a signal that is blocked everywhere but inside KVM_RUN (KVM_SET_SIGNAL_MASK). It needs no handler, it cannot be lost between arming
 * the timer and entering the guest, and no other thread and no child process sees it.
 */
export class RunLimit {
  readonly #timer: number;
  /** struct itimerspec: interval, then value, in seconds and nanoseconds. */
  readonly #armed = Buffer.alloc(32);
  readonly #disarmed = Buffer.alloc(32);
  readonly #set = Buffer.alloc(SIGSET_BYTES);
  /** No time: struct timespec. */
  readonly #now = Buffer.alloc(16);
  /** struct kvm_signal_mask. */
  readonly #mask = Buffer.alloc(4 + SIGSET_BYTES);
  #deleted = false;

  /** For runs of the calling thread that take at most `milliseconds`. */
  constructor(milliseconds: number) {
    const c = calls();
    this.#set.writeBigUInt64LE(1n << BigInt(SIGNAL - 1), 0);
    const before = Buffer.alloc(SIGSET_BYTES);
    system(c.numbered(SYS.sigprocmask, SIG_BLOCK, this.#set, before, SIGSET_BYTES), 'rt_sigprocmask');
    this.#mask.writeUInt32LE(SIGSET_BYTES, 0);
    this.#mask.writeBigUInt64LE(before.readBigUInt64LE(0) & ~this.#set.readBigUInt64LE(0), 4);
    // struct sigevent: value, signal, kind, thread.
    const event = Buffer.alloc(64);
    event.writeInt32LE(SIGNAL, 8);
    event.writeInt32LE(SIGEV_THREAD_ID, 12);
    event.writeInt32LE(system(c.numbered(SYS.gettid, 0, null, null, 0), 'gettid'), 16);
    const timer = Buffer.alloc(4);
    system(c.numbered(SYS.timerCreate, CLOCK_MONOTONIC, event, timer, 0), 'timer_create');
    this.#timer = timer.readInt32LE(0);
    const nanoseconds = BigInt(Math.round(milliseconds * 1e6));
    this.#armed.writeBigInt64LE(nanoseconds / 1_000_000_000n, 16);
    this.#armed.writeBigInt64LE(nanoseconds % 1_000_000_000n, 24);
  }

  /** Makes the signal end KVM_RUN of this vCPU. */
  applyTo(vcpu: number): void {
    ioctl(vcpu, KVM.SET_SIGNAL_MASK, this.#mask);
  }

  start(): void {
    system(calls().armed(SYS.timerSettime, this.#timer, 0, this.#armed, null), 'timer_settime');
  }

  /** Stops the clock; whether it had run out. */
  stop(): boolean {
    // Since v6.13 the kernel drops a pending signal of a timer that is set anew; before, it stays.
    const fired = this.#taken();
    calls().armed(SYS.timerSettime, this.#timer, 0, this.#disarmed, null);
    return this.#taken() || fired;
  }

  /** Takes the pending signal, if there is one. */
  #taken(): boolean {
    return calls().pointers(SYS.sigtimedwait, this.#set, null, this.#now, SIGSET_BYTES) === SIGNAL;
  }

  dispose(): void {
    if (this.#deleted) return;
    this.#deleted = true;
    calls().numbered(SYS.timerDelete, this.#timer, null, null, 0);
  }
}
