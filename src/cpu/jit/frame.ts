/**
 * What every part of the translator works on: the function that is being built, its labels, the locals that stand for registers and flags, and
 * how it is left.
 */
import * as L from '../core/layout.ts';
import * as R from '../core/record.ts';
import type { Insn, Region } from './region.ts';
import { Body, V, VOID, W } from './wasm.ts';

/** Imports of a module of compiled functions, in their order. */
export const FUNCTIONS = [
  'execute',
  'condition',
  'settle',
  'productFlags',
  'setFlagBits',
  'fillTlb',
  'stringOp',
] as const;
export const GLOBALS = [
  'brk',
  'stepsLeft',
  'curRip',
  'nextRip',
  'tlb',
  'tlbVersion',
  'flatRead',
  'flatWrite',
  'stackMask',
] as const;
export const F_EXECUTE = 0;
export const F_CONDITION = 1;
export const F_SETTLE = 2;
export const F_PRODUCT_FLAGS = 3;
export const F_SET_FLAG_BITS = 4;
export const F_FILL_TLB = 5;
export const F_STRING_OP = 6;
export const G = Object.fromEntries(GLOBALS.map((name, i) => [name, i])) as Record<(typeof GLOBALS)[number], number>;

// core/flags.ts
export const CC_ADD = 1;
export const CC_SUB = 2;
export const CC_LOGIC = 3;
export const CC_INC = 4;
export const CC_DEC = 5;
export const CC_BITS = 6;
export const CC_VALUE = 7;
export const cc = (kind: number, size: number): number => (kind << 2) | size;

/**
 * Where the flags are: in the state block (MEMORY), in the locals K (operation), D (result) and S (source) as core/flags.ts has
 * them (DYNAMIC), or, with a known operation, in those of A (first operand), D and S that it needs. RECIPE: in the state block if K is
 * -1, else to be had from registers, as the current block's recipe says.
 */
export type Flags = number;
export const MEMORY = -1;
export const DYNAMIC = -2;
export const RECIPE = -3;

export const FLAGS_ARITH = 0x8d5;
export const FLAG_CF = 1;
export const FLAG_PF = 4;
export const FLAG_SF = 0x80;
export const FLAG_AF = 0x10;
export const FLAG_OF = 0x800;

// core/state.ts
export const CR0_EM = 4;
export const CR0_TS = 8;
export const CR4_OSFXSR = 0x200;

// ALU sub-operations.
export const ADD = 0;
export const OR = 1;
export const ADC = 2;
export const SBB = 3;
export const AND = 4;
export const SUB = 5;
export const XOR = 6;
export const CMP = 7;

export const slot = (n: number): number => n * 8;

/** What the current vCPU's mode makes of the code. */
export interface Mode {
  /** 0, 1, 2: 16-, 32-, 64-bit code. */
  readonly code: number;
  readonly flatRead: number;
  readonly flatWrite: number;
  /** The stack pointer has the full width of the mode. */
  readonly fullStack: boolean;
  /**
   * A miss of the TLB is answered by a call instead of leaving. Code that misses often wants it; for other code the call, though never
   * made, costs: registers move to the stack for it.
   */
  readonly fills: boolean;
  /** Address of the pages that compiled code remembers (layout.PAGE_CACHES). */
  readonly caches: number;
}

/**
 * The last page of an address expression. In memory and not in locals: many of those, alive all through a loop, take the registers of the
 * guest's.
 */
export interface Cache {
  /** Address of the u64 that holds the linear page, or all ones. */
  readonly page: number;
  /** Address of the u32 to add to a linear address. */
  readonly add: number;
}

export interface Label {
  readonly depth: number;
}
export interface Target {
  readonly label: Label;
  /** Value for the selector of the loop that the target is an entry of. */
  readonly select: number | undefined;
}

export const STATE = 0;
export const RIP = 1;
// i64 locals
export const BASE = 2;
export const A = 3;
export const D = 4;
export const S = 5;
export const T0 = 6;
export const T1 = 7;
export const T2 = 8;
export const LINEAR = 9;
export const VERSION = 10;
export const FIRST_I64 = 11;

export class Frame {
  protected readonly mode: Mode;
  protected readonly region: Region;
  protected body = new Body();
  protected depth = 0;
  /** Registers whose locals are used and those written: complete after the first pass. */
  protected readonly used = new Set<number>();
  protected readonly written = new Set<number>();
  /** Caches by what they are for. */
  protected readonly caches = new Map<string, Cache>();
  protected flatRead = 0;
  protected flatWrite = 0;
  protected stackUsed = false;
  /** Locals by register, set for the second pass. */
  protected registers: number[] = [];
  /**
   * Locals: steps left, the flags' operation (K), what is returned, the TLB and an entry of it, two scratch words, the loop selector, and
   * what forbids SSE.
   */
  protected n = 0;
  protected k = 0;
  protected code = 0;
  protected tlb = 0;
  protected entry32 = 0;
  protected u0 = 0;
  protected u1 = 0;
  protected select = 0;
  protected sseForbidden = 0;
  protected exit: Label = { depth: 0 };
  protected flags: Flags = MEMORY;
  protected insn!: Insn;
  /** Instructions of the block from the current one on. */
  protected rest = 0;
  /** The current instruction's flags are looked at by somebody. */
  protected wanted = true;
  /** There are SSE instructions. */
  protected sseUsed = false;
  /**
   * Where the translator is, it is known that SSE instructions can be used. What changes CR0 or CR4 ends a block, and then the function is
   * left.
   */
  protected sseReady = false;

  constructor(region: Region, mode: Mode) {
    this.region = region;
    this.mode = mode;
  }

  protected open(op: number): Label {
    this.body.op(op, VOID);
    return { depth: this.depth++ };
  }

  protected end(): void {
    this.body.op(W.end);
    this.depth--;
  }

  protected br(label: Label, op: number = W.br): void {
    this.body.op(op);
    this.body.u32(this.depth - 1 - label.depth);
  }

  protected reg(r: number): number {
    this.used.add(r);
    return this.registers[r];
  }

  protected loadRegisters(which: Iterable<number> = this.used): void {
    for (const r of which) {
      this.body.get(STATE);
      this.body.memory(W.i64_load, slot(r));
      this.body.set(this.registers[r]);
    }
  }

  protected storeRegisters(which: Iterable<number> = this.written): void {
    for (const r of which) {
      this.body.get(STATE);
      this.body.get(this.registers[r]);
      this.body.memory(W.i64_store, slot(r));
    }
  }

  protected loadTlb(): void {
    const b = this.body;
    b.global(G.tlb);
    b.set(this.tlb);
    b.global(G.tlbVersion);
    b.set(VERSION);
    this.forgetPages();
  }

  protected forgetPages(): void {
    const b = this.body;
    // Two at a time. Nothing that page() compares with is all ones.
    for (let i = 0; i < this.caches.size; i += 2) {
      b.i32(0);
      b.splat128(0xff);
      b.memory128(V.store, this.mode.caches + i * 8);
    }
  }

  #storeSlot(n: number, value: () => void): void {
    this.body.get(STATE);
    value();
    this.body.memory(W.i64_store, slot(n));
  }

  protected storeDynamic(): void {
    const b = this.body;
    this.#storeSlot(L.S_CC_OP, () => {
      b.get(this.k);
      b.op(W.i64_extend_i32_u);
    });
    this.#storeSlot(L.S_CC_DST, () => b.get(D));
    this.#storeSlot(L.S_CC_SRC, () => b.get(S));
  }

  /** Brings the flags from where they are into the locals K, D and S. K = -1: they are in the state block. */
  #toLocals(state: Flags): void {
    const b = this.body;
    if (state === DYNAMIC) return;
    if (state === RECIPE) {
      this.followRecipe();
      return;
    }
    b.i32(state);
    b.set(this.k);
    if (state >> 2 === CC_SUB) {
      b.get(A);
      b.get(S);
      b.op(W.i64_sub);
      b.set(D);
    }
  }

  /** Makes D and S what the current block's recipe says. */
  protected followRecipe(): void {
    throw new Error('no recipe');
  }

  #fromMemory(): void {
    const b = this.body;
    b.get(STATE);
    b.memory(W.i32_load, slot(L.S_CC_OP));
    b.set(this.k);
    b.get(STATE);
    b.memory(W.i64_load, slot(L.S_CC_DST));
    b.set(D);
    b.get(STATE);
    b.memory(W.i64_load, slot(L.S_CC_SRC));
    b.set(S);
    b.get(this.k);
    b.i32(4);
    b.op(W.i32_lt_u, W.if, VOID);
    b.i32(cc(CC_VALUE, 3));
    b.set(this.k);
    b.get(STATE);
    b.memory(W.i64_load, slot(L.R_RFLAGS));
    b.i64(FLAGS_ARITH);
    b.op(W.i64_and);
    b.set(S);
    b.op(W.end);
  }

  /** Emits what makes the flags be where `to` says. */
  protected convert(to: Flags): void {
    if (to === this.flags) return;
    if (to !== DYNAMIC) throw new Error('flags');
    if (this.flags === MEMORY) this.#fromMemory();
    else this.#toLocals(this.flags);
  }

  /** Stores the flags where compiled code that is left has them: not for the core to look at. */
  protected putFlagsAway(): void {
    if (this.flags === MEMORY) return;
    this.#toLocals(this.flags);
    this.storeDynamic();
  }

  /** Stores the flags into the state block, for the core to look at. */
  protected flagsToMemory(): void {
    if (this.flags === MEMORY) return;
    this.putFlagsAway();
    if (this.flags === DYNAMIC || this.flags >> 2 >= CC_BITS) this.body.call(F_SETTLE);
  }

  /** Leaves with RIP on the stack; `steps` of those taken for the block are given back. */
  protected leave(code: number, steps: number): void {
    const b = this.body;
    b.set(RIP);
    if (steps !== 0) {
      b.get(this.n);
      b.i32(steps);
      b.op(W.i32_add);
      b.set(this.n);
    }
    if (this.flags === MEMORY) {
      b.i32(-1);
      b.set(this.k);
    } else this.#toLocals(this.flags);
    b.i32(code);
    b.set(this.code);
    this.br(this.exit);
  }

  protected rip(offset: number): void {
    this.body.get(BASE);
    this.body.i64(offset);
    this.body.op(W.i64_add);
  }

  /** With a condition on the stack: the interpreter executes the current instruction. */
  protected retryIf(): void {
    this.body.op(W.if, VOID);
    this.depth++;
    this.rip(this.insn.at);
    this.leave(R.TIER_RETRY, this.rest);
    this.end();
  }

  /** Pushes a register at a byte offset of the state block as i64, zero-extended. */
  protected value64(offset: number, size: number): void {
    const b = this.body;
    b.get(this.reg(offset >> 3));
    if (size === 3) return;
    if (offset & 1) {
      b.i64(8);
      b.op(W.i64_shr_u);
    }
    b.i64(size === 2 ? 0xffffffff : size === 1 ? 0xffff : 0xff);
    b.op(W.i64_and);
  }

  /** Pushes a register in the type of its size: i64 for 64 bits, else i32, zero-extended. */
  protected value(offset: number, size: number): void {
    const b = this.body;
    b.get(this.reg(offset >> 3));
    if (size === 3) return;
    b.op(W.i32_wrap_i64);
    if (size === 2) return;
    if (offset & 1) {
      b.i32(8);
      b.op(W.i32_shr_u);
    }
    b.i32(size === 1 ? 0xffff : 0xff);
    b.op(W.i32_and);
  }

  /** Pops a value of that type into a register; bits above the size do not count. */
  protected assign(offset: number, size: number): void {
    const b = this.body;
    const r = this.reg(offset >> 3);
    this.written.add(offset >> 3);
    if (size === 3) b.set(r);
    else if (size === 2) {
      b.op(W.i64_extend_i32_u);
      b.set(r);
    } else {
      const mask = size === 1 ? 0xffff : 0xff;
      b.i32(mask);
      b.op(W.i32_and, W.i64_extend_i32_u);
      const shift = offset & 1 ? 8 : 0;
      if (shift) {
        b.i64(8);
        b.op(W.i64_shl);
      }
      b.get(r);
      b.i64(-1 - mask * 2 ** shift);
      b.op(W.i64_and, W.i64_or);
      b.set(r);
    }
  }

  protected immediate(insn: Insn, size: number): void {
    const b = this.body;
    if (size === 3) b.i64Halves(insn.immLo, insn.immHi);
    else b.i32(size === 2 ? insn.immLo : insn.immLo & (size === 1 ? 0xffff : 0xff));
  }

  /** A local that holds values of a size between two steps. */
  protected temp(size: number, which: 0 | 1): number {
    return size === 3 ? (which === 0 ? T0 : T1) : which === 0 ? this.u0 : this.u1;
  }

  /** Emits the i64 form of an operation, or the i32 form for sizes below 64 bits. */
  protected sized(size: number, op64: number, op32: number): void {
    this.body.op(size === 3 ? op64 : op32);
  }

  /** Pushes a local of this size as an i64, its bits above the size cleared. */
  protected clean(local: number, size: number): void {
    const b = this.body;
    b.get(local);
    if (size === 3) return;
    if (size < 2) {
      b.i32(size === 1 ? 0xffff : 0xff);
      b.op(W.i32_and);
    }
    b.op(W.i64_extend_i32_u);
  }
}
