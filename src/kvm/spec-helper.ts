/** For specs only: a `Cpu` that executes nothing. Each `run` gives the next exit of a script. */
import {
  R_BASE,
  R_CR0,
  R_CR2,
  R_DR6,
  R_RAX,
  R_RBX,
  R_RCX,
  R_RDX,
  R_RFLAGS,
  R_RIP,
  R_RSI,
  R_SEL,
  R_TSC_OFFSET,
  S_SLOTS,
  SEG_CS,
} from '../cpu/core/layout.ts';
import type { Cpu, CpuState, Vendor } from '../cpu/cpu.ts';
import type { Exit } from '../cpu/exit.ts';
import type { KvmTraceEvent } from './trace.ts';
import type { ExitRecord, KvmOptions } from './types.ts';
import { Kvm } from './x86.ts';

export class FakeState implements CpuState {
  readonly index: number;
  readonly words: Uint32Array = new Uint32Array(S_SLOTS * 2);
  cpl = 0;
  is64bit = true;
  steps = 0;
  injected = 0;
  vectoring = 0;
  vectoringError = 0;
  interruptibility = 0;
  window = 0;
  exceptionBitmap = 0;
  intercepts = 0;
  /** Length of the instruction of the last exit. */
  length = 0;
  /** Every event injected: info and error code. */
  readonly injections: { info: number; error: number }[] = [];
  /** Values given to completeIo and completeMmio. */
  readonly completed: number[] = [];
  /** The next run only ends the instruction of the last mmio exit. */
  finishing = false;
  readonly resets: string[] = [];
  /** What writeLinear answers. */
  writeFault: { vector: number; errorCode: number; address: bigint } | null = null;
  readonly memory: Uint8Array;

  constructor(index: number, memory: Uint8Array) {
    this.index = index;
    this.memory = memory;
  }

  lo(id: number): number {
    return this.words[id * 2] as number;
  }

  hi(id: number): number {
    return this.words[id * 2 + 1] as number;
  }

  set(id: number, lo: number, hi: number): void {
    this.words[id * 2] = lo;
    this.words[id * 2 + 1] = hi;
  }

  get(id: number): bigint {
    return (BigInt(this.hi(id)) << 32n) | BigInt(this.lo(id));
  }

  put(id: number, value: bigint): void {
    this.set(id, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
  }

  inject(info: number, errorCode: number): void {
    this.injected = info >>> 0;
    this.injections.push({ info: info >>> 0, error: errorCode });
  }

  skipInstruction(): void {
    this.put(R_RIP, this.get(R_RIP) + BigInt(this.length));
    this.interruptibility &= ~3;
  }

  completeIo(value: number): void {
    this.completed.push(value);
  }

  completeMmio(valueLo: number): void {
    this.completed.push(valueLo);
    this.finishing = true;
  }

  flushTlb(): void {}

  reset(kind: 'reset' | 'init', signature: number): void {
    this.resets.push(kind);
    this.words.fill(0);
    this.set(R_RFLAGS, 2, 0);
    this.set(R_CR0, 0x10, 0);
    this.set(R_RIP, 0xfff0, 0);
    this.set(R_RDX, signature, 0);
    this.set(R_SEL + SEG_CS, 0xf000, 0);
    this.set(R_BASE + SEG_CS, 0xffff0000, 0);
    this.injected = 0;
    this.interruptibility = 0;
  }

  /** Linear addresses are physical. */
  translate(linear: bigint): number {
    return linear < BigInt(this.memory.length) ? Number(linear) : -1;
  }

  writeLinear(linear: bigint, bytes: Uint8Array): { vector: number; errorCode: number; address: bigint } | null {
    if (this.writeFault === null) this.memory.set(bytes, Number(linear));
    return this.writeFault;
  }
}

/** An exit, or something to do inside the guest before the next one. */
export type Scripted = Exit | ((state: FakeState) => void);

export class FakeCpu implements Cpu {
  readonly vcpuCount: number;
  readonly vendor: Vendor;
  readonly memory: Uint8Array = new Uint8Array(0x10000);
  readonly states: readonly FakeState[];
  readonly scripts: Scripted[][];
  /** Addresses given to memoryWritten. */
  readonly written: number[] = [];
  /** vCPU indices in the order of entries. */
  readonly entries: number[] = [];

  constructor(vcpuCount: number, vendor: Vendor = 'intel') {
    this.vcpuCount = vcpuCount;
    this.vendor = vendor;
    this.states = Array.from({ length: vcpuCount }, (_, index) => new FakeState(index, this.memory));
    this.scripts = this.states.map(() => []);
  }

  vcpu(index: number): FakeState {
    return this.states[index] as FakeState;
  }

  /** Delivers an injection at once; one step per entry. */
  run(index: number, _budget: number): Exit {
    this.entries.push(index);
    const state = this.vcpu(index);
    state.injected = 0;
    state.steps++;
    if (state.finishing) {
      state.finishing = false;
      return { reason: 'budget' };
    }
    for (;;) {
      const next = this.scripts[index]?.shift();
      if (next === undefined) return { reason: 'budget' };
      if (typeof next === 'function') {
        next(state);
        continue;
      }
      if ('length' in next) state.length = next.length;
      return next;
    }
  }

  memoryWritten(address: number): void {
    this.written.push(address);
  }
}

export const HYPERCALL: Exit = { reason: 'hypercall', length: 3 };
export const HLT: Exit = { reason: 'hlt', length: 1 };
export const CPUID: Exit = { reason: 'cpuid', length: 2 };
export const INTERRUPT_WINDOW: Exit = { reason: 'interrupt-window', length: 0 };
export const NMI_WINDOW: Exit = { reason: 'nmi-window', length: 0 };
export const wrmsr = (msr: number, data: bigint): Exit => ({
  reason: 'wrmsr',
  length: 2,
  msr,
  dataLo: Number(data & 0xffffffffn),
  dataHi: Number(data >> 32n),
});
export const rdmsr = (msr: number): Exit => ({ reason: 'rdmsr', length: 2, msr });

/** A VM on a FakeCpu with everything observed. */
export interface Bench {
  readonly kvm: Kvm;
  readonly cpu: FakeCpu;
  readonly events: KvmTraceEvent[];
  readonly exits: ExitRecord[];
  /** Names of the events so far, and forgets them. */
  takeEvents(): string[];
  /** Runs vCPU `index` through `script` and then to the end of the budget. */
  play(index: number, ...script: Scripted[]): ReturnType<Kvm['run']>;
}

export interface BenchOptions extends Omit<KvmOptions, 'cpu' | 'observer'> {
  readonly vcpus?: number;
  readonly vendor?: Vendor;
  /** Default x2apic: every APIC enabled in this mode with SVR 0x1FF; reset leaves them as after RESET. */
  readonly apic?: 'x2apic' | 'xapic' | 'reset';
  /** Observe? Default true. */
  readonly observed?: boolean;
}

export const X2APIC_ENABLED = 0xfee00c00n;
export const XAPIC_ENABLED = 0xfee00800n;

/** All vCPUs RUNNABLE with RFLAGS.IF set unless the spec changes it. */
export function bench(options: BenchOptions = {}): Bench {
  const { vcpus = 4, vendor = 'intel', apic = 'x2apic', observed = true, ...rest } = options;
  const cpu = new FakeCpu(options.apicIds?.length ?? vcpus, vendor);
  const events: KvmTraceEvent[] = [];
  const exits: ExitRecord[] = [];
  const observer = {
    event: (event: KvmTraceEvent) => events.push(event),
    exit: (exit: ExitRecord) => exits.push(exit),
  };
  const kvm = new Kvm({ cpu, ...rest, ...(observed ? { observer } : {}) });
  for (const vcpu of kvm.vcpus) {
    vcpu.mpState = 'runnable';
    vcpu.state.set(R_RFLAGS, 0x202, 0);
    if (apic === 'reset') continue;
    const base = apic === 'x2apic' ? X2APIC_ENABLED : XAPIC_ENABLED;
    kvm.setMsr(vcpu.index, 0x1b, vcpu.bsp ? base | 0x100n : base);
    vcpu.lapic.write(0xf0, 0x1ff);
    vcpu.lapic.requestEvent = false;
  }
  if (apic === 'xapic') for (const vcpu of kvm.vcpus) vcpu.lapic.write(0xd0, ((1 << (vcpu.index & 7)) << 24) >>> 0);
  events.length = 0;
  return {
    kvm,
    cpu,
    events,
    exits,
    takeEvents: () => events.splice(0).map((event) => event.event),
    play: (index, ...script) => {
      cpu.scripts[index]?.push(...script);
      return kvm.run(index, 1000);
    },
  };
}

/** Sets the registers of a hypercall: RAX, RBX, RCX, RDX, RSI. */
export function setArguments(state: CpuState, values: readonly [bigint, bigint, bigint, bigint, bigint]): void {
  [R_RAX, R_RBX, R_RCX, R_RDX, R_RSI].forEach((id, i) => {
    state.put(id, values[i] as bigint);
  });
}

/** Plays one hypercall on vCPU 0 and returns RAX. */
export function callFrom0(b: Bench, ...values: [bigint, bigint, bigint, bigint, bigint]): bigint {
  setArguments(b.cpu.vcpu(0), values);
  b.play(0, HYPERCALL);
  return b.cpu.vcpu(0).get(R_RAX);
}

export { R_CR2, R_DR6, R_RAX, R_RBX, R_RCX, R_RDX, R_RFLAGS, R_RIP, R_RSI, R_SEL, R_TSC_OFFSET, SEG_CS };
