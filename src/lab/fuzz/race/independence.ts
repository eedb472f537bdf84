/**
 * Which steps no other vCPU can tell from having been made earlier or later: a search need not try them in another order.
 *
 * Whether memory is shared and who is sent messages is learned while programs run. What is learned only ever makes more steps dependent;
 * a search that learns something starts anew (`generation`), and one that does not has been right all along.
 */
import { R_CR3, R_EFER, R_IDTR_BASE, R_IDTR_LIMIT, R_RCX, R_RFLAGS, R_RIP, R_RSP } from '../../../cpu/core/layout.ts';
import type { KvmVcpu } from '../../../kvm/vcpu.ts';
import type { Kvm } from '../../../kvm/x86.ts';
import {
  decodeInstruction,
  type Instruction,
  OPAQUE,
  PLAIN,
  SPECIAL_CLOCK,
  SPECIAL_INTERRUPTS,
  SPECIAL_IRET,
  SPECIAL_OWN,
  SPECIAL_RDMSR,
  SPECIAL_VM,
  SPECIAL_WRMSR,
} from './instruction.ts';

const X2APIC_ID = 0x802;
const X2APIC_TPR = 0x808;
const X2APIC_EOI = 0x80b;
const X2APIC_TMCCT = 0x839;
const IA32_TSC = 0x10;
const TSC_DEADLINE = 0x6e0;
const RFLAGS_IF = 0x200;
const EFER_LMA = 0x400;

/** Memory is watched in pieces of 8 bytes. */
const GRANULE_BITS = 3;
const MAX_ADDRESS = 2 ** 40;
const RSP = 4;
/** What the delivery of an event and a push in its handler take of the stack, alignment included. */
const FRAME = 64;
const VECTOR_NMI = 2;
/** Access masks have one bit for each vCPU. */
const MAX_VCPUS = 31;

interface CachedInstruction {
  readonly low: number;
  readonly high: number;
  readonly instruction: Instruction;
}

export class Independence {
  /** Raised whenever something is learned. */
  generation = 0;
  /** The guest looks at a clock, or a timer runs: the number of steps that others made matters to everybody. */
  timed = false;

  /** Who has read and who has written each granule, one bit per vCPU. */
  readonly #readers = new Map<number, number>();
  readonly #writers = new Map<number, number>();
  /** vCPUs that others send messages to; those that also get others than maskable interrupts. */
  #sent = 0;
  #sentUnmaskable = 0;
  /** Something may have touched memory that nobody saw. */
  #opaque = false;
  /** Where the interrupt descriptor table of each vCPU was when last looked at. */
  readonly #idts = new Map<number, number>();
  readonly #cache = new Map<number, CachedInstruction>();
  /** Exits are part of what is looked at, and being kicked is one. */
  readonly #exitsCount: boolean;
  readonly #possible: boolean;

  constructor(vcpus: number, exitsCount: boolean) {
    this.#exitsCount = exitsCount;
    this.#possible = vcpus <= MAX_VCPUS;
  }

  /**
   * Looks at the next instruction of a runnable vCPU, learns what it touches, and tells whether the step is independent of all that the
   * others may do. Call it before every step, so that nothing is missed.
   */
  next(kvm: Kvm, index: number): boolean {
    if (!this.#possible) return false;
    const vcpu = kvm.vcpus[index];
    const { state } = vcpu;
    if (kvm.clock.armed.size > 0) this.#learnTime();
    const rip = state.lo(R_RIP);
    // Boot tables map memory to itself; a guest that has others is too much to follow.
    if (
      (state.lo(R_EFER) & EFER_LMA) === 0 ||
      !state.is64bit ||
      state.hi(R_RIP) !== 0 ||
      !this.#sameTables(kvm, vcpu)
    ) {
      this.#learnOpaque();
      return false;
    }
    this.#readsIdt(vcpu);
    const vector = takenVector(vcpu);
    if (vector >= 0) {
      this.#learnHandler(kvm, vcpu, vector);
      return false;
    }
    const instruction = this.#at(kvm.cpu.memory, rip);
    if (instruction === undefined || instruction.kind === OPAQUE || this.#watched(vcpu)) {
      this.#learnOpaque();
      return false;
    }
    let own = true;
    if (instruction.size > 0) {
      own = this.#access(index, address(vcpu, instruction, rip), instruction.size, instruction.writes);
    }
    if (instruction.stackSize > 0) {
      const top = state.lo(R_RSP) + state.hi(R_RSP) * 2 ** 32;
      const { stackOffset, stackSize, stackWrites } = instruction;
      own = this.#access(index, top + stackOffset, stackSize, stackWrites) && own;
    }
    if (!own || this.timed || (this.#opaque && instruction.size + instruction.stackSize > 0)) return false;
    return this.#unobserved(vcpu, instruction);
  }

  /** Another vCPU has sent something to this one. */
  sent(kvm: Kvm, { index, lapic }: KvmVcpu): void {
    const unmaskable =
      lapic.nmiQueued > 0 ||
      lapic.initPending ||
      lapic.sipiPending ||
      lapic.smiPending ||
      lapic.pvUnhalted ||
      kvm.apicvActive;
    const bit = 1 << index;
    if ((this.#sent & bit) === 0 || (unmaskable && (this.#sentUnmaskable & bit) === 0)) this.generation++;
    this.#sent |= bit;
    if (unmaskable) this.#sentUnmaskable |= bit;
  }

  /** Whether the step changes nothing that others see, and nothing that others do changes the step. */
  #unobserved(vcpu: KvmVcpu, instruction: Instruction): boolean {
    const { state } = vcpu;
    const bit = 1 << vcpu.index;
    const undisturbed = (this.#sent & bit) === 0;
    const masked = (this.#sentUnmaskable & bit) === 0 && (state.lo(R_RFLAGS) & RFLAGS_IF) === 0 && !this.#exitsCount;
    if (instruction.kind === PLAIN) return undisturbed || masked;
    switch (instruction.special) {
      case SPECIAL_OWN:
        return undisturbed || masked;
      case SPECIAL_INTERRUPTS:
      case SPECIAL_IRET:
        return undisturbed;
      case SPECIAL_RDMSR: {
        const msr = state.lo(R_RCX);
        if (msr === IA32_TSC || msr === TSC_DEADLINE || msr === X2APIC_TMCCT) this.#learnTime();
        return msr === X2APIC_ID && (undisturbed || masked);
      }
      case SPECIAL_WRMSR: {
        const msr = state.lo(R_RCX);
        return undisturbed && (msr === X2APIC_EOI || msr === X2APIC_TPR);
      }
      case SPECIAL_CLOCK:
        this.#learnTime();
        return false;
      case SPECIAL_VM:
        return false;
      default:
        return false;
    }
  }

  #at(memory: Uint8Array, rip: number): Instruction | undefined {
    if (rip + 16 > memory.length) return undefined;
    const low = memory[rip] | (memory[rip + 1] << 8) | (memory[rip + 2] << 16) | (memory[rip + 3] << 24);
    const high = memory[rip + 4] | (memory[rip + 5] << 8) | (memory[rip + 6] << 16) | (memory[rip + 7] << 24);
    const cached = this.#cache.get(rip);
    if (cached !== undefined && cached.low === low && cached.high === high) return cached.instruction;
    const instruction = decodeInstruction(memory, rip);
    this.#cache.set(rip, { low, high, instruction });
    return instruction;
  }

  #sameTables(kvm: Kvm, { state }: KvmVcpu): boolean {
    return state.lo(R_CR3) === kvm.vcpus[0].state.lo(R_CR3);
  }

  /** KVM itself writes this vCPU's memory. */
  #watched({ pv }: KvmVcpu): boolean {
    return pv.eoiAddress >= 0 || pv.stealAddress >= 0 || pv.apfAddress >= 0 || pv.timeAddress >= 0;
  }

  /** Whoever may be interrupted reads the table of handlers. */
  #readsIdt({ index, state }: KvmVcpu): void {
    const at = state.lo(R_IDTR_BASE);
    if (this.#idts.get(index) === at) return;
    this.#idts.set(index, at);
    this.#access(index, at, (state.lo(R_IDTR_LIMIT) & 0xffff) + 1, false);
  }

  /** The step takes an event first, and executes the first instruction of its handler. */
  #learnHandler(kvm: Kvm, { index, state }: KvmVcpu, vector: number): void {
    const { memory } = kvm.cpu;
    const gate = state.lo(R_IDTR_BASE) + vector * 16;
    if (gate + 16 > memory.length) {
      this.#learnOpaque();
      return;
    }
    const top = state.lo(R_RSP) + state.hi(R_RSP) * 2 ** 32;
    this.#access(index, top - FRAME, FRAME, true);
    const rip = memory[gate] | (memory[gate + 1] << 8) | (memory[gate + 6] << 16) | (memory[gate + 7] << 24);
    const instruction = this.#at(memory, rip);
    if (instruction === undefined || instruction.kind === OPAQUE) {
      this.#learnOpaque();
      return;
    }
    if (instruction.size === 0 || instruction.base === RSP || instruction.index === RSP) return;
    this.#access(index, address(kvm.vcpus[index], instruction, rip), instruction.size, instruction.writes);
  }

  /** Learns one access; false: the memory is shared, and somebody writes it. */
  #access(index: number, at: number, size: number, writes: boolean): boolean {
    if (!(at >= 0 && at < MAX_ADDRESS)) {
      this.#learnOpaque();
      return false;
    }
    const bit = 1 << index;
    let own = true;
    const last = Math.floor((at + size - 1) / (1 << GRANULE_BITS));
    for (let granule = Math.floor(at / (1 << GRANULE_BITS)); granule <= last; granule++) {
      const readers = this.#readers.get(granule) ?? 0;
      const writers = this.#writers.get(granule) ?? 0;
      const newReaders = writes ? readers : readers | bit;
      const newWriters = writes ? writers | bit : writers;
      if (newReaders !== readers) this.#readers.set(granule, newReaders);
      if (newWriters !== writers) this.#writers.set(granule, newWriters);
      const shared = isShared(newReaders, newWriters);
      if (shared && !isShared(readers, writers)) this.generation++;
      own &&= !shared;
    }
    return own;
  }

  #learnTime(): void {
    if (!this.timed) this.generation++;
    this.timed = true;
  }

  #learnOpaque(): void {
    if (!this.#opaque) this.generation++;
    this.#opaque = true;
  }
}

/** Vector of the event that the next step takes before its instruction, -1: none. INIT and SIPI count as NMI. */
function takenVector(vcpu: KvmVcpu): number {
  const { lapic, state } = vcpu;
  if (state.injected !== 0) return state.injected & 0xff;
  if (vcpu.exceptionVector >= 0) return vcpu.exceptionVector;
  if (lapic.initPending || lapic.sipiPending) return VECTOR_NMI;
  if (vcpu.nmiLatched + lapic.nmiQueued > 0 && vcpu.nmiAllowed) return VECTOR_NMI;
  return vcpu.interruptAllowed ? lapic.deliverable() : -1;
}

/** Somebody writes, and there is somebody else. */
const isShared = (readers: number, writers: number): boolean => {
  const all = readers | writers;
  return writers !== 0 && (all & (all - 1)) !== 0;
};

function address(vcpu: KvmVcpu, { base, index, scale, displacement, length }: Instruction, rip: number): number {
  const { state } = vcpu;
  const register = (id: number): number => state.lo(id) + state.hi(id) * 2 ** 32;
  const from = base === -2 ? rip + length : base >= 0 ? register(base) : 0;
  return from + (index >= 0 ? register(index) * scale : 0) + displacement;
}
