/**
 * One region of guest code as one WebAssembly function `(state block, RIP) -> TIER_* or record`.
 *
 * General registers live in locals: loaded at the entry, stored where the function is left and before instructions that the core
 * executes. The arithmetic flags stay lazy, in the terms of core/flags.ts. Steps are counted down at the edges between blocks; in front
 * of a loop's head the budget must cover the longest way to the next one, otherwise the interpreter does the rest.
 *
 * An access that the TLB does not answer leaves the function before the instruction has done anything (TIER_RETRY), so that the
 * interpreter does it in every detail. As nothing but the core changes translations, they stay while compiled code runs, and each
 * address expression remembers the last page it was in.
 *
 * A region lies in one page: within it every lookup of the interpreter would hit the execute TLB, so that leaving them out changes
 * nothing. Every other access to the TLBs is made in the interpreter's order.
 */
import * as H from '../core/handlers.generated.ts';
import * as L from '../core/layout.ts';
import * as R from '../core/record.ts';
import { type Block, type Insn, type Region, repeats, targetOf } from './region.ts';
import { entriesOf, type Structure, structure } from './structure.ts';
import { Body, Bytes, I32, I64, VOID, W } from './wasm.ts';

/** Imports of a module of compiled functions, in their order. */
export const FUNCTIONS = ['execute', 'condition', 'settle', 'productFlags', 'setFlagBits', 'fillTlb'] as const;
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
const F_EXECUTE = 0;
const F_CONDITION = 1;
const F_SETTLE = 2;
const F_PRODUCT_FLAGS = 3;
const F_SET_FLAG_BITS = 4;
const F_FILL_TLB = 5;
const G = Object.fromEntries(GLOBALS.map((name, i) => [name, i])) as Record<(typeof GLOBALS)[number], number>;

// core/flags.ts
const CC_ADD = 1;
const CC_SUB = 2;
const CC_LOGIC = 3;
const CC_INC = 4;
const CC_DEC = 5;
const CC_BITS = 6;
const CC_VALUE = 7;
const cc = (kind: number, size: number): number => (kind << 2) | size;

/**
 * Where the flags are: in the state block (MEMORY), in the locals K (operation), D (result) and S (source) as core/flags.ts has
 * them (DYNAMIC), or, with a known operation, in those of A (first operand), D and S that it needs.
 */
type Flags = number;
const MEMORY = -1;
const DYNAMIC = -2;

const FLAGS_ARITH = 0x8d5;
const FLAG_CF = 1;
const FLAG_PF = 4;
const FLAG_SF = 0x80;
const FLAG_AF = 0x10;
const FLAG_OF = 0x800;

// ALU sub-operations.
const ADD = 0;
const OR = 1;
const ADC = 2;
const SBB = 3;
const AND = 4;
const SUB = 5;
const XOR = 6;
const CMP = 7;

const TLB_TABLE = L.TLB_BYTES / 6;
/** Steps between two looks at the budget, more or less. */
const MAX_WAY = 64;
/** Caches of pages in one function. */
const MAX_CACHES = 10;

const slot = (n: number): number => n * 8;

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
}

interface Cache {
  readonly write: boolean;
  readonly page: number;
  readonly add: number;
}

interface Label {
  readonly depth: number;
}
interface Target {
  readonly label: Label;
  /** Value for the selector of the loop that the target is an entry of. */
  readonly select: number | undefined;
}

const STATE = 0;
const RIP = 1;
// i64 locals
const BASE = 2;
const A = 3;
const D = 4;
const S = 5;
const T0 = 6;
const T1 = 7;
const T2 = 8;
const LINEAR = 9;
const VERSION = 10;
const FIRST_I64 = 11;

export class Translator {
  readonly #mode: Mode;
  readonly #region: Region;
  #body = new Body();
  #depth = 0;
  /** Registers whose locals are used and those written: complete after the first pass. */
  readonly #used = new Set<number>();
  readonly #written = new Set<number>();
  readonly #cacheKeys = new Map<string, number>();
  #flatRead = 0;
  #flatWrite = 0;
  #stackUsed = false;
  #narrow = false;
  /** Locals by register, set for the second pass. */
  #registers: number[] = [];
  #caches: Cache[] = [];
  #n = 0;
  #k = 0;
  #code = 0;
  #tlb = 0;
  #entry32 = 0;
  #u0 = 0;
  #u1 = 0;
  #select = 0;
  #exit: Label = { depth: 0 };
  readonly #targets = new Map<number, Target>();
  readonly #flagsIn = new Map<number, Flags>();
  /** Blocks, by id, in front of which the budget is looked at; for each block the steps up to the next of those. */
  readonly #checked = new Set<number>();
  readonly #need = new Map<number, number>();
  /** Blocks at whose start the flags are looked at; elsewhere they may be anything. */
  readonly #live = new Set<number>();
  #flags: Flags = MEMORY;
  #insn!: Insn;
  /** Instructions of the block from the current one on. */
  #rest = 0;
  /** The current instruction's flags are looked at by somebody. */
  #wanted = true;

  constructor(region: Region, mode: Mode) {
    this.#region = region;
    this.#mode = mode;
  }

  /** The function's code: locals and instructions. */
  translate(): Bytes {
    this.#flow();
    const reachable = this.#reachable();
    const shape = structure(
      reachable,
      (id) => this.#region.blocks[id].next.map((block) => block.id),
      new Set([this.#region.entry.id]),
    );
    const blocks = reachable.map((id) => this.#region.blocks[id]);
    this.#checks(shape, blocks);
    this.#liveness(blocks);
    // The first pass finds out which registers and caches there are.
    this.#layout();
    this.#emit(shape);
    this.#layout();
    this.#emit(shape);
    const result = new Bytes();
    result.u32(2);
    result.u32(this.#n - BASE);
    result.u8(I64);
    result.u32(this.#caches.length + 8);
    result.u8(I32);
    result.append(this.#body);
    return result;
  }

  #reachable(): number[] {
    const seen = new Set<number>([this.#region.entry.id]);
    for (const id of seen) for (const next of this.#region.blocks[id].next) seen.add(next.id);
    return [...seen].sort((a, b) => a - b);
  }

  #layout(): void {
    let next = FIRST_I64;
    this.#registers = [];
    for (const r of [...this.#used].sort((a, b) => a - b)) this.#registers[r] = next++;
    if (this.#used.size === 0) for (let r = 0; r < 16; r++) this.#registers[r] = next++;
    const pages = [...this.#cacheKeys].map(([key]) => ({ write: key[0] === 'W', page: next++ }));
    this.#n = next++;
    this.#k = next++;
    this.#code = next++;
    this.#tlb = next++;
    this.#entry32 = next++;
    this.#u0 = next++;
    this.#u1 = next++;
    this.#select = next++;
    this.#caches = pages.map((cache) => ({ ...cache, add: next++ }));
  }

  // ---- data flow of the flags ----

  /** Finds where the flags are at each block's start. */
  #flow(): void {
    const { entry, blocks } = this.#region;
    this.#flagsIn.set(entry.id, MEMORY);
    const work: Block[] = [entry];
    for (let block = work.pop(); block !== undefined; block = work.pop()) {
      let state = this.#flagsIn.get(block.id)!;
      for (const insn of block.insns) state = this.#after(insn, state);
      for (const next of block.next) {
        const before = this.#flagsIn.get(next.id);
        const joined = before === undefined || before === state ? state : DYNAMIC;
        if (joined === before) continue;
        this.#flagsIn.set(next.id, joined);
        work.push(blocks[next.id]);
      }
    }
  }

  /** Where an instruction leaves the flags. */
  #after(insn: Insn, before: Flags): Flags {
    if (!this.#native(insn)) return MEMORY;
    switch (insn.handler) {
      case H.H_ALU_EG:
      case H.H_ALU_GE:
      case H.H_ALU_EI:
        switch (insn.sub) {
          case ADD:
            return cc(CC_ADD, insn.size);
          case SUB:
          case CMP:
            return cc(CC_SUB, insn.size);
          case ADC:
          case SBB:
            return cc(CC_BITS, insn.size);
          default:
            return cc(CC_LOGIC, insn.size);
        }
      case H.H_TEST_EG:
      case H.H_TEST_EI:
        return cc(CC_LOGIC, insn.size);
      case H.H_INC_E:
        return cc(CC_INC, insn.size);
      case H.H_DEC_E:
        return cc(CC_DEC, insn.size);
      case H.H_NEG_E:
        return cc(CC_SUB, insn.size);
      case H.H_SHIFT_EI:
        return insn.sub < 4 ? MEMORY : cc(CC_BITS, insn.size);
      case H.H_SHIFT_ECL:
        return DYNAMIC;
      // What keeps some of the flags as they were changes them in the state block.
      case H.H_MUL_E:
      case H.H_IMUL_GE:
      case H.H_IMUL_GEI:
      case H.H_BT_EG:
      case H.H_BT_EI:
      case H.H_CLC:
      case H.H_STC:
        return MEMORY;
      case H.H_XADD:
        return cc(CC_ADD, insn.size);
      case H.H_CMPXCHG:
        return cc(CC_SUB, insn.size);
      default:
        return before;
    }
  }

  // ---- which instructions are emitted ----

  /** Accesses of the instruction need no check of its segment. */
  #flat(insn: Insn, write: boolean): boolean {
    if (this.#mode.code === 2) return true;
    return (((write ? this.#mode.flatWrite : this.#mode.flatRead) >> insn.segment) & 1) !== 0;
  }
  #flatStack(): boolean {
    return this.#mode.code === 2 || (this.#mode.fullStack && ((this.#mode.flatWrite >> L.SEG_SS) & 1) !== 0);
  }

  /** True if the instruction is emitted; otherwise the core executes it. */
  #native(insn: Insn): boolean {
    const { handler, memory, sub } = insn;
    switch (handler) {
      case H.H_NOP:
        return true;
      case H.H_XCHG_ZA:
        return true;
      case H.H_JCC:
      case H.H_JMP_J:
      case H.H_LOOP:
        return true;
      case H.H_MOV_EI:
      case H.H_MOV_EG:
      case H.H_MOV_OA:
        return !memory || this.#flat(insn, true);
      case H.H_MOV_GE:
      case H.H_MOV_AO:
      case H.H_MOVZX:
      case H.H_MOVSX:
      case H.H_TEST_EG:
      case H.H_TEST_EI:
      case H.H_CMOVCC:
      case H.H_IMUL_GE:
      case H.H_IMUL_GEI:
        return !memory || this.#flat(insn, false);
      case H.H_BT_EG:
      case H.H_BT_EI:
        return sub === 0 && !memory;
      case H.H_CLC:
      case H.H_STC:
        return true;
      case H.H_XADD:
      case H.H_CMPXCHG:
        return memory && this.#flat(insn, true);
      case H.H_MUL_E:
      case H.H_DIV_E:
      case H.H_IDIV_E:
        return (handler === H.H_MUL_E ? insn.size === 2 : insn.size >= 2) && (!memory || this.#flat(insn, false));
      case H.H_ARPL_MOVSXD:
        return this.#mode.code === 2;
      case H.H_LEA:
      case H.H_CBW:
      case H.H_CWD:
        return true;
      case H.H_BSWAP:
        return insn.size >= 2;
      case H.H_ALU_GE:
        return !memory || this.#flat(insn, false);
      case H.H_ALU_EG:
      case H.H_ALU_EI:
        return !memory || this.#flat(insn, sub !== CMP);
      case H.H_INC_E:
      case H.H_DEC_E:
      case H.H_NEG_E:
      case H.H_NOT_E:
      case H.H_SETCC:
        return !memory || this.#flat(insn, true);
      case H.H_SHIFT_EI:
        if ((insn.immLo & (insn.size === 3 ? 63 : 31)) === 0) return false;
        return sub < 4 ? sub < 2 && !memory && insn.size >= 2 : !memory || this.#flat(insn, true);
      case H.H_SHIFT_ECL:
        return sub >= 4 && !memory && insn.size >= 2;
      case H.H_XCHG_EG:
        return !memory || this.#flat(insn, true);
      case H.H_PUSH_E:
        return this.#flatStack() && insn.size >= 2 && (!memory || this.#flat(insn, false));
      case H.H_PUSH_I:
        return this.#flatStack() && insn.size >= 2;
      case H.H_POP_E:
        return this.#flatStack() && insn.size >= 2 && !memory;
      case H.H_LEAVE:
        return this.#flatStack() && insn.size >= 2;
      case H.H_CALL_J:
      case H.H_RET:
      case H.H_RET_I:
      case H.H_JMP_E:
      case H.H_CALL_E: {
        if (insn.size < 2) return false;
        if (handler !== H.H_JMP_E && !this.#flatStack()) return false;
        return !memory || this.#flat(insn, false);
      }
      default:
        return false;
    }
  }

  // ---- shape ----

  #open(op: number): Label {
    this.#body.op(op, VOID);
    return { depth: this.#depth++ };
  }
  #end(): void {
    this.#body.op(W.end);
    this.#depth--;
  }
  #br(label: Label, op: number = W.br): void {
    this.#body.op(op);
    this.#body.u32(this.#depth - 1 - label.depth);
  }

  #emit(shape: readonly Structure[]): void {
    const b = this.#body;
    b.reset();
    this.#depth = 0;
    this.#targets.clear();
    this.#flags = MEMORY;
    const { entry } = this.#region;
    b.get(RIP);
    b.i64(entry.at);
    b.op(W.i64_sub);
    b.set(BASE);
    this.#guards();
    b.global(G.stepsLeft);
    b.set(this.#n);
    this.#loadTlb();
    this.#loadRegisters();
    this.#exit = this.#open(W.block);
    // The edge into the entry.
    const first = shape[0];
    this.#budget(entry);
    if (this.#live.has(entry.id)) this.#convert(this.#flagsIn.get(entry.id)!);
    if (first.kind === 'loop' && first.entries.length > 1) {
      b.i32(first.entries.indexOf(entry.id));
      b.set(this.#select);
    }
    this.#sequence(shape, undefined);
    b.op(W.unreachable);
    this.#end();
    // Leaves the function with RIP, K and the code set.
    this.#storeRegisters();
    b.get(this.#k);
    b.i32(0);
    b.op(W.i32_ge_s, W.if, VOID);
    this.#storeDynamic();
    b.op(W.end);
    b.get(STATE);
    b.get(RIP);
    b.memory(W.i64_store, slot(L.R_RIP));
    b.get(this.#n);
    b.setGlobal(G.stepsLeft);
    b.get(this.#code);
    b.op(W.end);
  }

  /** What the code was translated for must hold when it is entered. */
  #guards(): void {
    const b = this.#body;
    if (this.#mode.code === 2) return;
    const refuse = (): void => {
      b.op(W.if, VOID);
      b.get(STATE);
      b.get(RIP);
      b.memory(W.i64_store, slot(L.R_RIP));
      b.i32(R.TIER_RETRY);
      b.op(W.return, W.end);
    };
    const flat = (global: number, wanted: number): void => {
      if (wanted === 0) return;
      b.global(global);
      b.i32(wanted);
      b.op(W.i32_and);
      b.i32(wanted);
      b.op(W.i32_ne);
      refuse();
    };
    flat(G.flatRead, this.#flatRead);
    flat(G.flatWrite, this.#flatWrite);
    if (this.#stackUsed) {
      b.global(G.stackMask);
      b.i64(0xffffffff);
      b.op(W.i64_ne);
      refuse();
    }
    // No jump within the page may wrap around.
    b.get(BASE);
    b.i64(this.#narrow || this.#mode.code === 0 ? 0xf000 : 0xfffff000);
    b.op(W.i64_gt_u);
    refuse();
  }

  #sequence(list: readonly Structure[], heads: readonly number[] | undefined): void {
    const labels: Label[] = [];
    const from = heads === undefined ? 1 : 0;
    for (let j = list.length - 1; j >= from; j--) labels[j] = this.#open(W.block);
    for (let j = from; j < list.length; j++) {
      const entries = entriesOf(list[j]);
      for (const [i, id] of entries.entries()) {
        // The dispatcher alone jumps to a head; everybody else starts the loop over.
        if (heads?.includes(id)) continue;
        this.#targets.set(id, { label: labels[j], select: entries.length > 1 ? i : undefined });
      }
    }
    if (heads !== undefined) {
      const b = this.#body;
      b.get(this.#select);
      b.op(W.br_table);
      b.u32(heads.length - 1);
      for (const id of heads) {
        const j = list.findIndex((s) => entriesOf(s).includes(id));
        b.u32(this.#depth - 1 - labels[j].depth);
      }
    }
    for (let j = 0; j < list.length; j++) {
      if (j >= from) this.#end();
      const part = list[j];
      if (part.kind === 'block') {
        this.#block(this.#region.blocks[part.id]);
        continue;
      }
      const label = this.#open(W.loop);
      const several = part.entries.length > 1;
      for (const [i, id] of part.entries.entries()) {
        this.#targets.set(id, { label, select: several ? i : undefined });
      }
      this.#sequence(part.body, several ? part.entries : undefined);
      this.#end();
    }
  }

  // ---- state block and locals ----

  #reg(r: number): number {
    this.#used.add(r);
    return this.#registers[r];
  }
  #loadRegisters(): void {
    for (const r of this.#used) {
      this.#body.get(STATE);
      this.#body.memory(W.i64_load, slot(r));
      this.#body.set(this.#registers[r]);
    }
  }
  #storeRegisters(): void {
    for (const r of this.#written) {
      this.#body.get(STATE);
      this.#body.get(this.#registers[r]);
      this.#body.memory(W.i64_store, slot(r));
    }
  }
  #loadTlb(): void {
    const b = this.#body;
    b.global(G.tlb);
    b.set(this.#tlb);
    b.global(G.tlbVersion);
    b.set(VERSION);
    this.#forgetPages();
  }
  #forgetPages(): void {
    const b = this.#body;
    // Nothing that #page() compares with has this bit.
    for (const cache of this.#caches) {
      b.i64(0x800);
      b.set(cache.page);
    }
  }
  #storeSlot(n: number, value: () => void): void {
    this.#body.get(STATE);
    value();
    this.#body.memory(W.i64_store, slot(n));
  }
  #storeDynamic(): void {
    const b = this.#body;
    this.#storeSlot(L.S_CC_OP, () => {
      b.get(this.#k);
      b.op(W.i64_extend_i32_u);
    });
    this.#storeSlot(L.S_CC_DST, () => b.get(D));
    this.#storeSlot(L.S_CC_SRC, () => b.get(S));
  }

  /** Brings the flags from where they are into the locals K, D and S. K = -1: they are in the state block. */
  #toLocals(state: Flags): void {
    const b = this.#body;
    if (state === DYNAMIC) return;
    b.i32(state);
    b.set(this.#k);
    if (state >> 2 === CC_SUB) {
      b.get(A);
      b.get(S);
      b.op(W.i64_sub);
      b.set(D);
    }
  }
  #fromMemory(): void {
    const b = this.#body;
    b.get(STATE);
    b.memory(W.i32_load, slot(L.S_CC_OP));
    b.set(this.#k);
    b.get(STATE);
    b.memory(W.i64_load, slot(L.S_CC_DST));
    b.set(D);
    b.get(STATE);
    b.memory(W.i64_load, slot(L.S_CC_SRC));
    b.set(S);
    b.get(this.#k);
    b.i32(4);
    b.op(W.i32_lt_u, W.if, VOID);
    b.i32(cc(CC_VALUE, 3));
    b.set(this.#k);
    b.get(STATE);
    b.memory(W.i64_load, slot(L.R_RFLAGS));
    b.i64(FLAGS_ARITH);
    b.op(W.i64_and);
    b.set(S);
    b.op(W.end);
  }
  /** Emits what makes the flags be where `to` says. */
  #convert(to: Flags): void {
    if (to === this.#flags) return;
    if (to !== DYNAMIC) throw new Error('flags');
    if (this.#flags === MEMORY) this.#fromMemory();
    else this.#toLocals(this.#flags);
  }
  /** Stores the flags into the state block, for the core to look at. */
  #flagsToMemory(): void {
    if (this.#flags === MEMORY) return;
    this.#toLocals(this.#flags);
    this.#storeDynamic();
    if (this.#flags === DYNAMIC || this.#flags >> 2 >= CC_BITS) this.#body.call(F_SETTLE);
  }

  // ---- leaving ----

  /** Leaves with RIP on the stack; `steps` of those taken for the block are given back. */
  #leave(code: number, steps: number): void {
    const b = this.#body;
    b.set(RIP);
    if (steps !== 0) {
      b.get(this.#n);
      b.i32(steps);
      b.op(W.i32_add);
      b.set(this.#n);
    }
    if (this.#flags === MEMORY) {
      b.i32(-1);
      b.set(this.#k);
    } else this.#toLocals(this.#flags);
    b.i32(code);
    b.set(this.#code);
    this.#br(this.#exit);
  }
  #rip(offset: number): void {
    this.#body.get(BASE);
    this.#body.i64(offset);
    this.#body.op(W.i64_add);
  }
  /** With a condition on the stack: the interpreter executes the current instruction. */
  #retryIf(): void {
    this.#body.op(W.if, VOID);
    this.#depth++;
    this.#rip(this.#insn.at);
    this.#leave(R.TIER_RETRY, this.#rest);
    this.#end();
  }

  /** Takes the steps of a block from the budget, or leaves in front of it. */
  #budget(block: Block): void {
    const b = this.#body;
    if (this.#checked.has(block.id)) {
      b.get(this.#n);
      b.i32(this.#need.get(block.id)!);
      b.op(W.i32_lt_s, W.if, VOID);
      this.#depth++;
      this.#rip(block.at);
      this.#leave(R.TIER_SHORT, 0);
      this.#end();
    }
    b.get(this.#n);
    b.i32(block.insns.length);
    b.op(W.i32_sub);
    b.set(this.#n);
  }

  /** Goes on at an offset of the page. */
  #edge(at: number): void {
    const block = this.#region.byOffset.get(at);
    const target = block === undefined ? undefined : this.#targets.get(block.id);
    if (block === undefined || target === undefined) {
      this.#rip(at);
      this.#leave(R.TIER_TRANSFER, 0);
      return;
    }
    this.#budget(block);
    if (this.#live.has(block.id)) this.#convert(this.#flagsIn.get(block.id)!);
    if (target.select !== undefined) {
      this.#body.i32(target.select);
      this.#body.set(this.#select);
    }
    this.#br(target.label);
  }

  /** A direct transfer of the current instruction to an offset that may be outside the page. */
  #transfer(at: number): void {
    if (at >= 0 && at < 4096) this.#edge(at);
    else {
      this.#outside(() => this.#rip(at));
      this.#body.get(T2);
      this.#leave(R.TIER_TRANSFER, 0);
    }
  }
  /** Puts a target into T2; the interpreter takes it if it may not be a valid one. */
  #outside(value: () => void): void {
    const b = this.#body;
    value();
    if (this.#mode.code !== 2) {
      b.i64(this.#insn.size === 1 ? 0xffff : 0xffffffff);
      b.op(W.i64_and);
    }
    b.tee(T2);
    if (this.#mode.code === 2) {
      // Canonical like the page that runs: the bits from 47 up are the same.
      b.get(BASE);
      b.op(W.i64_xor);
      b.i64(47);
      b.op(W.i64_shr_u, W.i64_eqz, W.i32_eqz);
    } else {
      b.get(STATE);
      b.memory(W.i64_load, slot(L.R_LIMIT + L.SEG_CS));
      b.i64(0xffffffff);
      b.op(W.i64_and, W.i64_gt_u);
    }
    this.#retryIf();
  }

  // ---- blocks ----

  #block(block: Block): void {
    this.#flags = this.#flagsIn.get(block.id)!;
    const wanted = this.#wantedFlags(block);
    const count = block.insns.length;
    for (const [i, insn] of block.insns.entries()) {
      this.#insn = insn;
      this.#rest = count - i;
      this.#wanted = wanted[i];
      if (i === count - 1 && block.transfer !== undefined) {
        this.#last(block, insn);
        return;
      }
      if (this.#native(insn)) {
        const after = this.#after(insn, this.#flags);
        this.#instruction(insn);
        this.#flags = after;
      } else this.#generic(insn);
    }
    this.#edge(block.follow);
  }

  /** For each instruction of a block, whether the flags it sets may be looked at. */
  #wantedFlags(block: Block): boolean[] {
    const wanted: boolean[] = [];
    let live = this.#liveBehind(block);
    for (let i = block.insns.length - 1; i >= 0; i--) {
      const insn = block.insns[i];
      wanted[i] = live;
      if (this.#kills(insn)) live = false;
      if (this.#looks(insn)) live = true;
    }
    return wanted;
  }

  /** The instruction sets all flags, whatever they were. */
  #kills(insn: Insn): boolean {
    // INC and DEC keep CF.
    if (insn.handler === H.H_INC_E || insn.handler === H.H_DEC_E) return false;
    const after = this.#after(insn, DYNAMIC);
    return after !== DYNAMIC && after !== MEMORY;
  }

  /** The instruction looks at the flags before it, or may leave the function. What keeps some flags looks at them for those behind it. */
  #looks(insn: Insn): boolean {
    if (!this.#native(insn)) return true;
    switch (insn.handler) {
      case H.H_JCC:
      case H.H_SETCC:
      case H.H_CMOVCC:
      case H.H_LOOP:
      case H.H_SHIFT_ECL:
      case H.H_XCHG_ZA:
      case H.H_DIV_E:
      case H.H_IDIV_E:
      case H.H_PUSH_E:
      case H.H_PUSH_I:
      case H.H_POP_E:
      case H.H_LEAVE:
      case H.H_CALL_J:
      case H.H_CALL_E:
      case H.H_JMP_E:
      case H.H_RET:
      case H.H_RET_I:
        return true;
      case H.H_ALU_EG:
      case H.H_ALU_GE:
      case H.H_ALU_EI:
        return insn.memory || insn.sub === ADC || insn.sub === SBB;
      case H.H_JMP_J: {
        const target = targetOf(insn);
        return target < 0 || target > 4095;
      }
      case H.H_LEA:
      case H.H_NOP:
        return false;
      default:
        return insn.memory;
    }
  }

  /** Whether flags are looked at behind a block: where it goes on, or where the function is left. */
  #liveBehind(block: Block): boolean {
    const last = block.insns[block.insns.length - 1];
    const to: number[] = [];
    if (block.transfer === 'branch' || block.transfer === 'loop') to.push(block.follow, targetOf(last));
    else if (block.transfer === 'jump') to.push(targetOf(last));
    else if (block.transfer === undefined) to.push(block.follow);
    else return true;
    return to.some((at) => {
      const next = this.#region.byOffset.get(at);
      return next === undefined || this.#checked.has(next.id) || this.#live.has(next.id);
    });
  }

  /** Finds the blocks at whose start the flags are looked at. */
  #liveness(blocks: readonly Block[]): void {
    for (let changed = true; changed; ) {
      changed = false;
      for (const block of blocks) {
        if (this.#live.has(block.id)) continue;
        const first = block.insns.find((insn) => this.#looks(insn) || this.#kills(insn));
        if (first === undefined ? !this.#liveBehind(block) : !this.#looks(first)) continue;
        this.#live.add(block.id);
        changed = true;
      }
    }
  }

  /**
   * Chooses the blocks in front of which the budget is looked at: loop heads, what follows a repeated instruction, and more where the
   * way to the next such block would be long. It must cover the longest way there.
   */
  #checks(shape: readonly Structure[], blocks: readonly Block[]): void {
    const heads = (list: readonly Structure[]): void => {
      for (const part of list) {
        if (part.kind === 'block') continue;
        for (const id of part.entries) this.#checked.add(id);
        heads(part.body);
      }
    };
    this.#checked.add(this.#region.entry.id);
    heads(shape);
    for (const block of blocks) {
      if (repeats(block.insns[block.insns.length - 1])) for (const next of block.next) this.#checked.add(next.id);
    }
    const need = (block: Block): number => {
      const known = this.#need.get(block.id);
      if (known !== undefined) return known;
      let most = block.insns.length;
      for (const next of block.next) {
        if (this.#checked.has(next.id)) continue;
        const steps = block.insns.length + need(next);
        if (steps > MAX_WAY) this.#checked.add(next.id);
        else most = Math.max(most, steps);
      }
      this.#need.set(block.id, most);
      return most;
    };
    for (const block of blocks) need(block);
  }

  /** The core executes the instruction; afterwards flags are in the state block. */
  #generic(insn: Insn): void {
    const b = this.#body;
    const behind = this.#rest - 1;
    this.#flagsToMemory();
    this.#storeRegisters();
    this.#rip(insn.at);
    b.setGlobal(G.curRip);
    this.#rip(insn.at + insn.length);
    b.setGlobal(G.nextRip);
    b.get(this.#n);
    b.i32(behind);
    b.op(W.i32_add);
    b.setGlobal(G.stepsLeft);
    b.i32(insn.record);
    b.call(F_EXECUTE);
    b.global(G.brk);
    b.op(W.if, VOID);
    b.i32(insn.record);
    b.op(W.return, W.end);
    b.global(G.stepsLeft);
    b.i32(behind);
    b.op(W.i32_sub);
    b.set(this.#n);
    this.#loadRegisters();
    this.#loadTlb();
    this.#flags = MEMORY;
  }

  /** The instruction that transfers control. */
  #last(block: Block, insn: Insn): void {
    const b = this.#body;
    if (!this.#native(insn)) {
      this.#generic(insn);
      // Everything is in the state block already.
      b.get(STATE);
      b.global(G.nextRip);
      b.memory(W.i64_store, slot(L.R_RIP));
      b.i32(R.TIER_TRANSFER);
      b.op(W.return);
      return;
    }
    const { size } = insn;
    const follow = block.follow;
    if (this.#mode.code !== 2 && size === 1) this.#narrow = true;
    switch (insn.handler) {
      case H.H_JCC:
        this.#condition(insn.sub);
        b.op(W.if, VOID);
        this.#depth++;
        this.#transfer(targetOf(insn));
        this.#end();
        this.#edge(follow);
        break;
      case H.H_LOOP:
        this.#count(insn, follow);
        break;
      case H.H_JMP_J:
        this.#transfer(targetOf(insn));
        break;
      case H.H_CALL_J: {
        const target = targetOf(insn);
        const inside = target >= 0 && target < 4096;
        if (!inside) this.#outside(() => this.#rip(target));
        this.#push(size, () => this.#rip(follow));
        if (inside) this.#edge(target);
        else {
          b.get(T2);
          this.#leave(R.TIER_TRANSFER, 0);
        }
        break;
      }
      case H.H_RET:
      case H.H_RET_I:
        this.#return(insn);
        break;
      default: {
        // JMP and CALL through a register or memory.
        if (insn.memory) this.#address(insn, 1 << size, false);
        const value = (): void => {
          if (insn.memory) {
            this.#load(insn, size);
            if (size < 3) b.op(W.i64_extend_i32_u);
          } else this.#value64(insn.e, size);
        };
        this.#outside(value);
        if (insn.handler === H.H_CALL_E) this.#push(size, () => this.#rip(follow));
        b.get(T2);
        this.#leave(R.TIER_TRANSFER, 0);
      }
    }
  }

  #return(insn: Insn): void {
    const b = this.#body;
    const bytes = insn.handler === H.H_RET_I ? insn.immLo & 0xffff : 0;
    this.#stackPage(insn.size, 'R', 0);
    this.#outside(() => {
      this.#loadAt(insn.size, this.#cache('R', L.R_RSP, L.R_ZERO, 0));
      if (insn.size < 3) b.op(W.i64_extend_i32_u);
    });
    this.#moveStack((1 << insn.size) + bytes);
    const { returns } = this.#region;
    for (const at of returns.slice(0, 12)) {
      b.get(T2);
      this.#rip(at);
      b.op(W.i64_eq, W.if, VOID);
      this.#depth++;
      this.#edge(at);
      this.#end();
    }
    b.get(T2);
    this.#leave(R.TIER_TRANSFER, 0);
  }

  /** LOOP, LOOPE, LOOPNE and JCXZ. */
  #count(insn: Insn, follow: number): void {
    const b = this.#body;
    const target = targetOf(insn);
    const wide = insn.addressSize;
    const rcx = this.#reg(L.R_RCX);
    const masked = (): void => {
      if (wide === 2) return;
      b.i64(wide === 1 ? 0xffffffff : 0xffff);
      b.op(W.i64_and);
    };
    const taken = (): void => {
      b.op(W.if, VOID);
      this.#depth++;
      this.#transfer(target);
      this.#end();
      this.#edge(follow);
    };
    if (insn.sub === 3) {
      b.get(rcx);
      masked();
      b.op(W.i64_eqz);
      taken();
      return;
    }
    // Outside the page the target may be invalid, and then RCX stays as it is.
    if (target < 0 || target > 4095) {
      b.i32(1);
      this.#retryIf();
    }
    // The condition first: it needs the flags, not RCX.
    if (insn.sub !== 2) {
      this.#condition(insn.sub === 1 ? 4 : 5);
      b.set(this.#u1);
    }
    this.#written.add(L.R_RCX);
    b.get(rcx);
    b.i64(1);
    b.op(W.i64_sub);
    masked();
    b.set(T0);
    if (wide === 0) {
      b.get(rcx);
      b.i64(-65536);
      b.op(W.i64_and);
      b.get(T0);
      b.op(W.i64_or);
    } else b.get(T0);
    b.set(rcx);
    b.get(T0);
    b.op(W.i64_eqz, W.i32_eqz);
    if (insn.sub !== 2) {
      b.get(this.#u1);
      b.op(W.i32_and);
    }
    taken();
  }

  // ---- registers ----

  /** Pushes a register at a byte offset of the state block as i64, zero-extended. */
  #value64(offset: number, size: number): void {
    const b = this.#body;
    b.get(this.#reg(offset >> 3));
    if (size === 3) return;
    if (offset & 1) {
      b.i64(8);
      b.op(W.i64_shr_u);
    }
    b.i64(size === 2 ? 0xffffffff : size === 1 ? 0xffff : 0xff);
    b.op(W.i64_and);
  }
  /** Pushes a register in the type of its size: i64 for 64 bits, else i32, zero-extended. */
  #value(offset: number, size: number): void {
    const b = this.#body;
    b.get(this.#reg(offset >> 3));
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
  #assign(offset: number, size: number): void {
    const b = this.#body;
    const r = this.#reg(offset >> 3);
    this.#written.add(offset >> 3);
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
  #immediate(insn: Insn, size: number): void {
    const b = this.#body;
    if (size === 3) b.i64Halves(insn.immLo, insn.immHi);
    else b.i32(size === 2 ? insn.immLo : insn.immLo & (size === 1 ? 0xffff : 0xff));
  }

  // ---- memory ----

  /** Pushes the effective address (with the FS or GS base), not yet truncated outside 64-bit mode. */
  #effective(insn: Insn): void {
    const b = this.#body;
    const disp = insn.displacement;
    let any = false;
    if (insn.base === L.R_RIP) {
      this.#rip(insn.at + insn.length + disp);
      any = true;
    } else {
      if (insn.base !== L.R_ZERO) {
        b.get(this.#reg(insn.base));
        any = true;
      }
      if (insn.index !== L.R_ZERO) {
        b.get(this.#reg(insn.index));
        if (insn.scale !== 0) {
          b.i64(insn.scale);
          b.op(W.i64_shl);
        }
        if (any) b.op(W.i64_add);
        any = true;
      }
      if (disp !== 0 || !any) {
        b.i64(disp);
        if (any) b.op(W.i64_add);
      }
    }
    if (insn.addressSize < 2) {
      b.i64(insn.addressSize === 1 ? 0xffffffff : 0xffff);
      b.op(W.i64_and);
    }
  }
  /** Pushes the linear address of the memory operand. */
  #linear(insn: Insn): void {
    const b = this.#body;
    if (insn.handler === H.H_MOV_AO || insn.handler === H.H_MOV_OA) b.i64Halves(insn.immLo, insn.immHi);
    else this.#effective(insn);
    if (this.#mode.code === 2 && insn.segment >= L.SEG_FS) {
      b.get(STATE);
      b.memory(W.i64_load, slot(L.R_BASE + insn.segment));
      b.op(W.i64_add);
    }
  }

  #cache(kind: 'R' | 'W', base: number, index: number, disp: number): Cache | undefined {
    let key = `${kind}${base},${index},${base === L.R_ZERO || base === L.R_RIP || index !== L.R_ZERO ? disp >> 12 : 0}`;
    if (!this.#cacheKeys.has(key)) {
      if (this.#cacheKeys.size >= MAX_CACHES) key = `${kind}*`;
      if (!this.#cacheKeys.has(key)) this.#cacheKeys.set(key, this.#cacheKeys.size);
    }
    return this.#caches[this.#cacheKeys.get(key)!];
  }

  /** Makes `cache` describe the page of an access at LINEAR, or leaves for the interpreter. */
  #page(cache: Cache | undefined, bytes: number, write: boolean): void {
    const b = this.#body;
    // The first pass does not know the caches yet.
    const page = cache?.page ?? D;
    const add = cache?.add ?? this.#u0;
    const table = (write ? TLB_TABLE : 0) | 0;
    b.get(LINEAR);
    b.i64(-4096 + bytes - 1);
    b.op(W.i64_and);
    b.get(page);
    b.op(W.i64_ne, W.if, VOID);
    this.#depth++;
    b.get(LINEAR);
    b.i64(8);
    b.op(W.i64_shr_u, W.i32_wrap_i64);
    b.i32(0xff0);
    b.op(W.i32_and);
    b.get(this.#tlb);
    b.op(W.i32_add);
    b.tee(this.#entry32);
    b.memory(W.i64_load, table);
    b.get(LINEAR);
    if (bytes > 1) {
      b.i64(bytes - 1);
      b.op(W.i64_add);
    }
    b.i64(-4096);
    b.op(W.i64_and);
    b.get(VERSION);
    b.op(W.i64_or, W.i64_ne);
    if (this.#mode.fills) {
      b.op(W.if, VOID);
      this.#depth++;
      b.get(LINEAR);
      b.i32(bytes);
      b.i32(write ? 1 : 0);
      b.call(F_FILL_TLB);
      b.op(W.i32_eqz);
      this.#retryIf();
      // What came in may have taken the place of another page.
      this.#forgetPages();
      this.#end();
    } else this.#retryIf();
    b.get(LINEAR);
    b.i64(-4096);
    b.op(W.i64_and);
    b.set(page);
    b.get(this.#entry32);
    b.memory(W.i32_load, table + 8);
    b.set(add);
    this.#end();
  }

  #readCache: Cache | undefined;
  #writeCache: Cache | undefined;

  /** Finds the memory operand for reading or, for `write`, writing; 'both' checks as a read-modify-write. */
  #address(insn: Insn, bytes: number, write: boolean | 'both'): void {
    const b = this.#body;
    if (this.#mode.code !== 2) {
      if (write !== false) this.#flatWrite |= 1 << insn.segment;
      else this.#flatRead |= 1 << insn.segment;
    }
    this.#linear(insn);
    b.set(LINEAR);
    const offset = insn.handler === H.H_MOV_AO || insn.handler === H.H_MOV_OA;
    const base = offset ? L.R_ZERO : insn.base;
    const index = offset ? L.R_ZERO : insn.index;
    const disp = offset ? insn.immLo : base === L.R_RIP ? insn.at + insn.displacement : insn.displacement;
    if (write !== false) {
      this.#writeCache = this.#cache('W', base, index, disp);
      this.#page(this.#writeCache, bytes, true);
    }
    if (write !== true) {
      this.#readCache = this.#cache('R', base, index, disp);
      this.#page(this.#readCache, bytes, false);
    }
  }
  /** Pushes the host address of LINEAR. */
  #host(cache: Cache | undefined): void {
    const b = this.#body;
    b.get(LINEAR);
    b.op(W.i32_wrap_i64);
    b.get(cache?.add ?? this.#u0);
    b.op(W.i32_add);
  }
  #loadAt(size: number, cache: Cache | undefined): void {
    this.#host(cache);
    this.#body.memory([W.i32_load8_u, W.i32_load16_u, W.i32_load, W.i64_load][size], 0);
  }
  /** Pushes what #address() found. */
  #load(_insn: Insn, size: number): void {
    this.#loadAt(size, this.#readCache);
  }
  #storeOp(size: number): void {
    this.#body.memory([W.i32_store8, W.i32_store16, W.i32_store, W.i64_store][size], 0);
  }

  // ---- stack ----

  /** Leaves the linear address of an access `offset` bytes above the top of the stack in LINEAR, its page checked. */
  #stackPage(size: number, kind: 'R' | 'W', offset: number): void {
    const b = this.#body;
    if (this.#mode.code !== 2) {
      this.#stackUsed = true;
      this.#flatRead |= 1 << L.SEG_SS;
      this.#flatWrite |= 1 << L.SEG_SS;
    }
    b.get(this.#reg(L.R_RSP));
    if (offset !== 0) {
      b.i64(offset);
      b.op(W.i64_add);
    }
    if (this.#mode.code !== 2) {
      b.i64(0xffffffff);
      b.op(W.i64_and);
    }
    b.set(LINEAR);
    this.#page(this.#cache(kind, L.R_RSP, L.R_ZERO, 0), 1 << size, kind === 'W');
  }
  #moveStack(bytes: number): void {
    const b = this.#body;
    const rsp = this.#reg(L.R_RSP);
    this.#written.add(L.R_RSP);
    b.get(rsp);
    b.i64(bytes);
    b.op(W.i64_add);
    if (this.#mode.code !== 2) {
      b.i64(0xffffffff);
      b.op(W.i64_and);
    }
    b.set(rsp);
  }
  /** Pushes a value, given as i64. */
  #push(size: number, value: () => void): void {
    const b = this.#body;
    this.#stackPage(size, 'W', -(1 << size));
    this.#host(this.#cache('W', L.R_RSP, L.R_ZERO, 0));
    value();
    if (size < 3) b.op(W.i32_wrap_i64);
    this.#storeOp(size);
    b.get(LINEAR);
    b.set(this.#reg(L.R_RSP));
    this.#written.add(L.R_RSP);
  }

  // ---- instructions ----

  /** A local that holds values of a size between two steps. */
  #temp(size: number, which: 0 | 1): number {
    return size === 3 ? (which === 0 ? T0 : T1) : which === 0 ? this.#u0 : this.#u1;
  }
  /** Emits the i64 form of an operation, or the i32 form for sizes below 64 bits. */
  #sized(size: number, op64: number, op32: number): void {
    this.#body.op(size === 3 ? op64 : op32);
  }
  /** Pushes a local of this size as an i64, its bits above the size cleared. */
  #clean(local: number, size: number): void {
    const b = this.#body;
    b.get(local);
    if (size === 3) return;
    if (size < 2) {
      b.i32(size === 1 ? 0xffff : 0xff);
      b.op(W.i32_and);
    }
    b.op(W.i64_extend_i32_u);
  }

  #instruction(insn: Insn): void {
    const b = this.#body;
    const { size, handler, memory } = insn;
    switch (handler) {
      case H.H_NOP:
        return;
      case H.H_XCHG_ZA:
        if (insn.e !== 0) this.#exchange(insn.e, 0, size);
        else if (insn.flags & R.REC_REP) {
          // PAUSE: an exit if the host wants one.
          b.get(STATE);
          b.memory(W.i32_load, slot(L.S_INTERCEPT));
          b.i32(L.INTERCEPT_PAUSE);
          b.op(W.i32_and);
          this.#retryIf();
        }
        return;
      case H.H_XCHG_EG:
        if (!memory) {
          this.#exchange(insn.e, insn.g, size);
          return;
        }
        this.#address(insn, 1 << size, 'both');
        this.#load(insn, size);
        b.set(this.#temp(size, 0));
        this.#host(this.#writeCache);
        this.#value(insn.g, size);
        this.#storeOp(size);
        b.get(this.#temp(size, 0));
        this.#assign(insn.g, size);
        return;
      case H.H_MOV_EG:
        if (memory) {
          this.#address(insn, 1 << size, true);
          this.#host(this.#writeCache);
          this.#value(insn.g, size);
          this.#storeOp(size);
        } else {
          this.#value(insn.g, size);
          this.#assign(insn.e, size);
        }
        return;
      case H.H_MOV_GE:
        this.#source(insn, size);
        this.#assign(insn.g, size);
        return;
      case H.H_MOV_EI:
        if (memory) {
          this.#address(insn, 1 << size, true);
          this.#host(this.#writeCache);
          this.#immediate(insn, size);
          this.#storeOp(size);
        } else {
          this.#immediate(insn, size);
          this.#assign(insn.e, size);
        }
        return;
      case H.H_MOV_AO:
        this.#address(insn, 1 << size, false);
        this.#load(insn, size);
        this.#assign(0, size);
        return;
      case H.H_MOV_OA:
        this.#address(insn, 1 << size, true);
        this.#host(this.#writeCache);
        this.#value(0, size);
        this.#storeOp(size);
        return;
      case H.H_LEA:
        this.#effective(insn);
        if (size < 3) b.op(W.i32_wrap_i64);
        this.#assign(insn.g, size);
        return;
      case H.H_MOVZX:
        this.#source(insn, insn.sub);
        if (size === 3) b.op(W.i64_extend_i32_u);
        this.#assign(insn.g, size);
        return;
      case H.H_MOVSX:
        this.#source(insn, insn.sub);
        b.op(insn.sub === 0 ? W.i32_extend8_s : W.i32_extend16_s);
        if (size === 3) b.op(W.i64_extend_i32_s);
        this.#assign(insn.g, size);
        return;
      case H.H_ARPL_MOVSXD:
        this.#source(insn, size === 1 ? 1 : 2);
        if (size === 3) b.op(W.i64_extend_i32_s);
        this.#assign(insn.g, size);
        return;
      case H.H_CBW:
        // From the next smaller size, within RAX.
        this.#value(0, size - 1);
        if (size === 3) b.op(W.i64_extend_i32_s);
        else b.op(size === 2 ? W.i32_extend16_s : W.i32_extend8_s);
        this.#assign(0, size);
        return;
      case H.H_CWD:
        this.#value(0, size);
        if (size === 3) {
          b.i64(63);
          b.op(W.i64_shr_s);
        } else {
          if (size === 1) b.op(W.i32_extend16_s);
          b.i32(31);
          b.op(W.i32_shr_s);
        }
        this.#assign(L.R_RDX * 8, size);
        return;
      case H.H_BSWAP:
        this.#byteSwap(insn);
        return;
      case H.H_ALU_EG:
      case H.H_ALU_GE:
      case H.H_ALU_EI:
      case H.H_TEST_EG:
      case H.H_TEST_EI:
        this.#alu(insn);
        return;
      case H.H_INC_E:
      case H.H_DEC_E:
        this.#incDec(insn);
        return;
      case H.H_NOT_E:
        this.#modify(insn, () => {
          if (size === 3) b.i64(-1);
          else b.i32(-1);
          this.#sized(size, W.i64_xor, W.i32_xor);
        });
        return;
      case H.H_NEG_E:
        this.#negate(insn);
        return;
      case H.H_SHIFT_EI:
        if (insn.sub < 4) this.#rotate(insn);
        else this.#shift(insn);
        return;
      case H.H_IMUL_GE:
      case H.H_IMUL_GEI:
        this.#multiply(insn);
        return;
      case H.H_MUL_E:
        this.#source(insn, 2);
        b.op(W.i64_extend_i32_u);
        this.#value64(0, 2);
        b.op(W.i64_mul);
        b.set(T0);
        if (this.#wanted) {
          // CF and OF: the upper half is not 0; SF and PF of the lower half.
          this.#flagsToMemory();
          b.i64(FLAG_CF | FLAG_OF | FLAG_SF | FLAG_PF);
          b.i64(FLAG_CF | FLAG_OF);
          b.i64(0);
          b.get(T0);
          b.i64(32);
          b.op(W.i64_shr_u, W.i64_eqz, W.i32_eqz, W.select);
          b.get(T0);
          b.i64(24);
          b.op(W.i64_shr_u);
          b.i64(FLAG_SF);
          b.op(W.i64_and, W.i64_or);
          b.get(T0);
          b.i64(0xff);
          b.op(W.i64_and, W.i64_popcnt);
          b.i64(1);
          b.op(W.i64_and, W.i64_eqz, W.i64_extend_i32_u);
          b.i64(2);
          b.op(W.i64_shl, W.i64_or);
          b.call(F_SET_FLAG_BITS);
        }
        b.get(T0);
        b.op(W.i32_wrap_i64);
        this.#assign(0, 2);
        b.get(T0);
        b.i64(32);
        b.op(W.i64_shr_u, W.i32_wrap_i64);
        this.#assign(L.R_RDX * 8, 2);
        return;
      case H.H_DIV_E:
      case H.H_IDIV_E:
        this.#divide(insn);
        return;
      case H.H_BT_EG:
      case H.H_BT_EI:
        if (!this.#wanted) return;
        this.#flagsToMemory();
        b.i64(FLAG_CF);
        this.#value64(insn.e, size);
        if (handler === H.H_BT_EI) b.i64(insn.immLo & ((8 << size) - 1));
        else {
          this.#value64(insn.g, size);
          b.i64((8 << size) - 1);
          b.op(W.i64_and);
        }
        b.op(W.i64_shr_u);
        b.i64(FLAG_CF);
        b.op(W.i64_and);
        b.call(F_SET_FLAG_BITS);
        return;
      case H.H_CLC:
      case H.H_STC:
        if (!this.#wanted) return;
        this.#flagsToMemory();
        b.i64(FLAG_CF);
        b.i64(handler === H.H_STC ? FLAG_CF : 0);
        b.call(F_SET_FLAG_BITS);
        return;
      case H.H_XADD: {
        this.#address(insn, 1 << size, 'both');
        const [a, second] = [this.#temp(size, 0), this.#temp(size, 1)];
        this.#load(insn, size);
        b.set(a);
        this.#value(insn.g, size);
        b.set(second);
        this.#host(this.#writeCache);
        b.get(a);
        b.get(second);
        this.#sized(size, W.i64_add, W.i32_add);
        this.#storeOp(size);
        b.get(a);
        this.#assign(insn.g, size);
        b.get(a);
        b.get(second);
        this.#sized(size, W.i64_add, W.i32_add);
        b.set(a);
        this.#clean(a, size);
        b.set(D);
        this.#clean(second, size);
        b.set(S);
        return;
      }
      case H.H_CMPXCHG: {
        this.#address(insn, 1 << size, 'both');
        const a = this.#temp(size, 0);
        this.#load(insn, size);
        b.set(a);
        this.#value64(0, size);
        b.set(A);
        this.#clean(a, size);
        b.set(S);
        // Memory is written in either case.
        this.#host(this.#writeCache);
        this.#value(insn.g, size);
        b.get(a);
        b.get(A);
        b.get(S);
        b.op(W.i64_eq, W.select);
        this.#storeOp(size);
        b.get(A);
        b.get(S);
        b.op(W.i64_ne, W.if, VOID);
        b.get(a);
        this.#assign(0, size);
        b.op(W.end);
        return;
      }
      case H.H_SHIFT_ECL:
        this.#shiftByCl(insn);
        return;
      case H.H_SETCC:
        if (memory) {
          this.#address(insn, 1, true);
          this.#condition(insn.sub);
          b.set(this.#u1);
          this.#host(this.#writeCache);
          b.get(this.#u1);
          this.#storeOp(0);
        } else {
          this.#condition(insn.sub);
          this.#assign(insn.e, 0);
        }
        return;
      case H.H_CMOVCC:
        this.#source(insn, size);
        b.set(this.#temp(size, 0));
        this.#condition(insn.sub);
        b.set(this.#u1);
        b.get(this.#temp(size, 0));
        this.#value(insn.g, size);
        b.get(this.#u1);
        b.op(W.select);
        this.#assign(insn.g, size);
        return;
      case H.H_PUSH_I:
        this.#push(size, () => b.i64Halves(insn.immLo, insn.immHi));
        return;
      case H.H_PUSH_E:
        if (memory) {
          this.#source(insn, size);
          if (size < 3) b.op(W.i64_extend_i32_u);
          b.set(T1);
          this.#push(size, () => b.get(T1));
        } else this.#push(size, () => b.get(this.#reg(insn.e >> 3)));
        return;
      case H.H_POP_E:
        this.#stackPage(size, 'R', 0);
        this.#moveStack(1 << size);
        this.#loadAt(size, this.#cache('R', L.R_RSP, L.R_ZERO, 0));
        this.#assign(insn.e, size);
        return;
      case H.H_LEAVE: {
        // The frame pointer's page, as RBP is the stack pointer now.
        if (this.#mode.code !== 2) {
          this.#stackUsed = true;
          this.#flatRead |= 1 << L.SEG_SS;
        }
        b.get(this.#reg(L.R_RBP));
        if (this.#mode.code !== 2) {
          b.i64(0xffffffff);
          b.op(W.i64_and);
        }
        b.set(LINEAR);
        const cache = this.#cache('R', L.R_RBP, L.R_ZERO, 0);
        this.#page(cache, 1 << size, false);
        this.#loadAt(size, cache);
        this.#assign(L.R_RBP * 8, size);
        b.get(LINEAR);
        b.i64(1 << size);
        b.op(W.i64_add);
        if (this.#mode.code !== 2) {
          b.i64(0xffffffff);
          b.op(W.i64_and);
        }
        b.set(this.#reg(L.R_RSP));
        this.#written.add(L.R_RSP);
        return;
      }
      default:
        throw new Error(`handler ${handler} is not emitted`);
    }
  }

  /** Pushes the E operand. */
  #source(insn: Insn, size: number): void {
    if (insn.memory) {
      this.#address(insn, 1 << size, false);
      this.#load(insn, size);
    } else this.#value(insn.e, size);
  }
  #exchange(e: number, g: number, size: number): void {
    const b = this.#body;
    const t = this.#temp(size, 0);
    this.#value(e, size);
    b.set(t);
    this.#value(g, size);
    this.#assign(e, size);
    b.get(t);
    this.#assign(g, size);
  }
  /** Replaces E by what `operation` makes of it on the stack. */
  #modify(insn: Insn, operation: () => void): void {
    const { size } = insn;
    if (!insn.memory) {
      this.#value(insn.e, size);
      operation();
      this.#assign(insn.e, size);
      return;
    }
    this.#address(insn, 1 << size, 'both');
    this.#host(this.#writeCache);
    this.#load(insn, size);
    operation();
    this.#storeOp(size);
  }

  #byteSwap(insn: Insn): void {
    const b = this.#body;
    const { size } = insn;
    const t = this.#temp(size, 0);
    this.#value(insn.e, size);
    if (size === 2) {
      b.tee(t);
      b.i32(0x00ff00ff);
      b.op(W.i32_and);
      b.i32(8);
      b.op(W.i32_rotr);
      b.get(t);
      b.i32(0xff00ff00 | 0);
      b.op(W.i32_and);
      b.i32(8);
      b.op(W.i32_rotl, W.i32_or);
    } else {
      // Bytes within half-words, then half-words, then words.
      b.tee(t);
      b.i64(8);
      b.op(W.i64_shr_u);
      b.i64Halves(0x00ff00ff, 0x00ff00ff);
      b.op(W.i64_and);
      b.get(t);
      b.i64Halves(0x00ff00ff, 0x00ff00ff);
      b.op(W.i64_and);
      b.i64(8);
      b.op(W.i64_shl, W.i64_or);
      b.tee(t);
      b.i64(16);
      b.op(W.i64_shr_u);
      b.i64Halves(0x0000ffff, 0x0000ffff);
      b.op(W.i64_and);
      b.get(t);
      b.i64Halves(0x0000ffff, 0x0000ffff);
      b.op(W.i64_and);
      b.i64(16);
      b.op(W.i64_shl, W.i64_or);
      b.i64(32);
      b.op(W.i64_rotl);
    }
    this.#assign(insn.e, size);
  }

  /** Second operand of an ALU instruction that has none in memory. */
  #operand2(insn: Insn): void {
    if (insn.handler === H.H_ALU_EI || insn.handler === H.H_TEST_EI) this.#immediate(insn, insn.size);
    else this.#value(insn.g, insn.size);
  }

  #alu(insn: Insn): void {
    const b = this.#body;
    const { size, handler, memory } = insn;
    const test = handler === H.H_TEST_EG || handler === H.H_TEST_EI;
    const op = test ? AND : insn.sub;
    const stores = !test && op !== CMP;
    const toRegister = handler === H.H_ALU_GE;
    const a = this.#temp(size, 0);
    const second = this.#temp(size, 1);
    if (memory) this.#address(insn, 1 << size, toRegister || !stores ? false : 'both');
    // Operands into the two temporaries.
    if (toRegister) {
      this.#source2(insn);
      b.set(second);
      this.#value(insn.g, size);
      b.set(a);
    } else {
      this.#source2(insn);
      b.set(a);
      this.#operand2(insn);
      b.set(second);
    }
    const carries = op === ADC || op === SBB;
    if (carries) {
      // The carry, in T2.
      this.#carry();
      b.set(T2);
    }
    const compute = (): void => {
      b.get(a);
      b.get(second);
      switch (op) {
        case ADD:
        case ADC:
          this.#sized(size, W.i64_add, W.i32_add);
          break;
        case OR:
          this.#sized(size, W.i64_or, W.i32_or);
          break;
        case AND:
          this.#sized(size, W.i64_and, W.i32_and);
          break;
        case XOR:
          this.#sized(size, W.i64_xor, W.i32_xor);
          break;
        default:
          this.#sized(size, W.i64_sub, W.i32_sub);
      }
      if (carries) {
        b.get(T2);
        if (size < 3) b.op(W.i32_wrap_i64);
        if (op === ADC) this.#sized(size, W.i64_add, W.i32_add);
        else this.#sized(size, W.i64_sub, W.i32_sub);
      }
    };
    const store = (): void => {
      if (toRegister) this.#assign(insn.g, size);
      else if (!memory) this.#assign(insn.e, size);
      else this.#storeOp(size);
    };
    if (!this.#wanted) {
      if (!stores) return;
      if (memory && !toRegister) this.#host(this.#writeCache);
      compute();
      store();
      return;
    }
    if (op === SUB || op === CMP) {
      // A and S hold the operands; the result is made of them if anybody wants it.
      if (stores) {
        if (memory && !toRegister) this.#host(this.#writeCache);
        compute();
        store();
      }
      this.#clean(a, size);
      b.set(A);
      this.#clean(second, size);
      b.set(S);
      return;
    }
    // D holds the result, and for ADD S the second operand.
    const result = this.#temp(size, 0);
    if (carries) {
      compute();
      // Everything is needed for the flags, so as i64.
      if (size < 3) b.op(W.i64_extend_i32_u);
      b.set(D);
      if (stores) {
        if (memory && !toRegister) this.#host(this.#writeCache);
        b.get(D);
        if (size < 3) b.op(W.i32_wrap_i64);
        store();
      }
      this.#carryFlags(op === ADC, a, second, size);
      return;
    }
    compute();
    b.set(result);
    if (stores) {
      if (memory && !toRegister) this.#host(this.#writeCache);
      b.get(result);
      store();
    }
    this.#clean(result, size);
    b.set(D);
    if (op === ADD) {
      this.#clean(second, size);
      b.set(S);
    }
  }
  /** Pushes E after #address(). */
  #source2(insn: Insn): void {
    if (insn.memory) this.#load(insn, insn.size);
    else this.#value(insn.e, insn.size);
  }

  /** S := CF, AF and OF of ADC or SBB of two locals with the carry in T2 and the result in D, which is masked. */
  #carryFlags(add: boolean, a: number, second: number, size: number): void {
    const b = this.#body;
    const bits = 8 << size;
    if (size < 2) {
      b.get(D);
      b.i64(size === 1 ? 0xffff : 0xff);
      b.op(W.i64_and);
      b.set(D);
    }
    const x = (): void => this.#clean(a, size);
    const y = (): void => this.#clean(second, size);
    // CF
    if (add) {
      b.get(D);
      x();
      b.op(W.i64_lt_u);
      b.get(D);
      x();
      b.op(W.i64_eq);
    } else {
      x();
      y();
      b.op(W.i64_lt_u);
      x();
      y();
      b.op(W.i64_eq);
    }
    b.get(T2);
    b.op(W.i32_wrap_i64, W.i32_and, W.i32_or, W.i64_extend_i32_u);
    // OF
    x();
    b.get(D);
    b.op(W.i64_xor);
    if (add) {
      y();
      b.get(D);
    } else {
      x();
      y();
    }
    b.op(W.i64_xor, W.i64_and);
    b.i64(bits - 1);
    b.op(W.i64_shr_u);
    b.i64(1);
    b.op(W.i64_and);
    b.i64(11);
    b.op(W.i64_shl, W.i64_or);
    // AF
    x();
    y();
    b.op(W.i64_xor);
    b.get(D);
    b.op(W.i64_xor);
    b.i64(FLAG_AF);
    b.op(W.i64_and, W.i64_or);
    b.set(S);
  }

  #incDec(insn: Insn): void {
    const b = this.#body;
    const { size, memory } = insn;
    const up = insn.handler === H.H_INC_E;
    if (memory) this.#address(insn, 1 << size, 'both');
    const t = this.#temp(size, 0);
    this.#source2(insn);
    if (size === 3) b.i64(1);
    else b.i32(1);
    this.#sized(size, up ? W.i64_add : W.i64_sub, up ? W.i32_add : W.i32_sub);
    b.set(t);
    if (this.#wanted) {
      this.#carry();
      b.set(S);
    }
    if (memory) this.#host(this.#writeCache);
    b.get(t);
    if (memory) this.#storeOp(size);
    else this.#assign(insn.e, size);
    if (this.#wanted) {
      this.#clean(t, size);
      b.set(D);
    }
  }

  #negate(insn: Insn): void {
    const b = this.#body;
    const { size, memory } = insn;
    if (memory) this.#address(insn, 1 << size, 'both');
    const t = this.#temp(size, 0);
    this.#source2(insn);
    b.set(t);
    if (memory) this.#host(this.#writeCache);
    if (size === 3) b.i64(0);
    else b.i32(0);
    b.get(t);
    this.#sized(size, W.i64_sub, W.i32_sub);
    if (memory) this.#storeOp(size);
    else this.#assign(insn.e, size);
    if (this.#wanted) {
      b.i64(0);
      b.set(A);
      this.#clean(t, size);
      b.set(S);
    }
  }

  /** IMUL with a destination register. */
  #multiply(insn: Insn): void {
    const b = this.#body;
    const { size } = insn;
    const [x, y] = [this.#temp(size, 0), this.#temp(size, 1)];
    const three = insn.handler === H.H_IMUL_GEI;
    if (insn.memory) this.#address(insn, 1 << size, false);
    this.#source2(insn);
    if (size === 1) b.op(W.i32_extend16_s);
    b.set(x);
    if (three) this.#immediate(insn, size);
    else this.#value(insn.g, size);
    if (size === 1) b.op(W.i32_extend16_s);
    b.set(y);
    if (this.#wanted) {
      this.#flagsToMemory();
      for (const local of [x, y]) {
        b.get(local);
        if (size < 3) b.op(W.i64_extend_i32_s);
      }
      b.i32(size);
      b.call(F_PRODUCT_FLAGS);
    }
    b.get(x);
    b.get(y);
    this.#sized(size, W.i64_mul, W.i32_mul);
    this.#assign(insn.g, size);
  }

  /** DIV and IDIV of 32 and 64 bits, but for what faults and for dividends of more than 64 bits. */
  #divide(insn: Insn): void {
    const b = this.#body;
    const { size } = insn;
    const signed = insn.handler === H.H_IDIV_E;
    // T0: the dividend; T1: the divisor.
    this.#source(insn, size);
    if (size === 2) b.op(signed ? W.i64_extend_i32_s : W.i64_extend_i32_u);
    b.set(T1);
    const rdx = this.#reg(L.R_RDX);
    if (size === 2) {
      b.get(rdx);
      b.i64(32);
      b.op(W.i64_shl);
      this.#value64(0, 2);
      b.op(W.i64_or);
    } else b.get(this.#reg(L.R_RAX));
    b.set(T0);
    b.get(T1);
    b.op(W.i64_eqz);
    if (signed) {
      b.get(T1);
      b.i64(-1);
      b.op(W.i64_eq, W.i32_or);
    }
    if (size === 3) {
      b.get(rdx);
      if (signed) {
        b.get(T0);
        b.i64(63);
        b.op(W.i64_shr_s, W.i64_ne);
      } else b.op(W.i64_eqz, W.i32_eqz);
      b.op(W.i32_or);
    }
    this.#retryIf();
    b.get(T0);
    b.get(T1);
    b.op(signed ? W.i64_div_s : W.i64_div_u);
    b.set(T2);
    if (size === 2) {
      // The quotient must fit.
      b.get(T2);
      if (signed) {
        b.get(T2);
        b.op(W.i64_extend32_s, W.i64_ne);
      } else {
        b.i64(0xffffffff);
        b.op(W.i64_gt_u);
      }
      this.#retryIf();
    }
    b.get(T0);
    b.get(T1);
    b.op(signed ? W.i64_rem_s : W.i64_rem_u);
    if (size === 2) b.op(W.i32_wrap_i64);
    this.#assign(L.R_RDX * 8, size);
    b.get(T2);
    if (size === 2) b.op(W.i32_wrap_i64);
    this.#assign(0, size);
  }

  /** ROL and ROR of a 32- or 64-bit register by an immediate that is not 0. */
  #rotate(insn: Insn): void {
    const b = this.#body;
    const { size } = insn;
    const left = insn.sub === 0;
    const count = insn.immLo & (size === 3 ? 63 : 31);
    this.#value(insn.e, size);
    if (size === 3) b.i64(count);
    else b.i32(count);
    this.#sized(size, left ? W.i64_rotl : W.i64_rotr, left ? W.i32_rotl : W.i32_rotr);
    if (this.#wanted) {
      const t = this.#temp(size, 0);
      b.set(t);
      this.#flagsToMemory();
      b.i64(FLAG_CF | FLAG_OF);
      const bit = (n: number): void => {
        this.#clean(t, size);
        b.i64(n);
        b.op(W.i64_shr_u);
      };
      // ROL: CF is bit 0 and OF differs from it at the top; ROR: CF is the top bit and OF its difference from the next.
      const top = (8 << size) - 1;
      bit(left ? 0 : top);
      b.i64(1);
      b.op(W.i64_and);
      bit(top);
      bit(left ? 0 : top - 1);
      b.op(W.i64_xor);
      b.i64(1);
      b.op(W.i64_and);
      b.i64(11);
      b.op(W.i64_shl, W.i64_or);
      b.call(F_SET_FLAG_BITS);
      b.get(t);
    }
    this.#assign(insn.e, size);
  }

  /** SHL, SHR and SAR by an immediate that is not 0. */
  #shift(insn: Insn): void {
    const b = this.#body;
    const { size, memory, sub } = insn;
    const count = insn.immLo & (size === 3 ? 63 : 31);
    const bits = 8 << size;
    if (memory) this.#address(insn, 1 << size, 'both');
    // T0: the operand, sign-extended for SAR; D: the result.
    this.#source2(insn);
    if (size < 3) b.op(W.i64_extend_i32_u);
    if (sub === 7 && size < 3) b.op([W.i64_extend8_s, W.i64_extend16_s, W.i64_extend32_s][size]);
    b.set(T0);
    const result = (): void => {
      if (sub === 4 || sub === 6) {
        if (count >= bits) b.i64(0);
        else {
          b.get(T0);
          b.i64(count);
          b.op(W.i64_shl);
        }
      } else if (sub === 5) {
        if (count >= bits) b.i64(0);
        else {
          b.get(T0);
          b.i64(count);
          b.op(W.i64_shr_u);
        }
      } else {
        b.get(T0);
        b.i64(Math.min(count, 63));
        b.op(W.i64_shr_s);
      }
    };
    result();
    if (size < 3) {
      b.i64([0xff, 0xffff, 0xffffffff][size]);
      b.op(W.i64_and);
    }
    b.set(T1);
    if (memory) this.#host(this.#writeCache);
    b.get(T1);
    if (size < 3) b.op(W.i32_wrap_i64);
    if (memory) this.#storeOp(size);
    else this.#assign(insn.e, size);
    if (!this.#wanted) return;
    b.get(T1);
    b.set(D);
    const bit = (of: number, n: number): void => {
      b.get(of);
      if (n > 0) {
        b.i64(n);
        b.op(W.i64_shr_u);
      }
      b.i64(1);
      b.op(W.i64_and);
    };
    if (sub === 7) {
      bit(T0, Math.min(count - 1, 63));
    } else if (sub === 5) {
      if (count <= bits) bit(T0, count - 1);
      else b.i64(0);
      // OF: the sign of the operand after a shift by 1; otherwise of the result and the bit below it.
      if (count === 1) bit(T0, bits - 1);
      else {
        b.get(T1);
        b.get(T1);
        b.i64(1);
        b.op(W.i64_shl, W.i64_xor);
        b.i64(bits - 1);
        b.op(W.i64_shr_u);
        b.i64(1);
        b.op(W.i64_and);
      }
      b.i64(11);
      b.op(W.i64_shl, W.i64_or);
    } else {
      if (count <= bits) bit(T0, bits - count);
      else b.i64(0);
      b.tee(T2);
      b.get(T2);
      bit(T1, bits - 1);
      b.op(W.i64_xor);
      b.i64(11);
      b.op(W.i64_shl, W.i64_or);
    }
    b.set(S);
  }

  /** SHL, SHR and SAR of a 32- or 64-bit register by CL; a count of 0 leaves the flags alone. */
  #shiftByCl(insn: Insn): void {
    const b = this.#body;
    const { size, sub } = insn;
    const bits = 8 << size;
    this.#convert(DYNAMIC);
    // T1: the count; T0: the operand, sign-extended for SAR.
    b.get(this.#reg(L.R_RCX));
    b.i64(bits - 1);
    b.op(W.i64_and);
    b.set(T1);
    this.#value64(insn.e, size);
    if (sub === 7 && size === 2) b.op(W.i64_extend32_s);
    b.set(T0);
    b.get(T0);
    b.get(T1);
    b.op(sub === 7 ? W.i64_shr_s : sub === 5 ? W.i64_shr_u : W.i64_shl);
    if (size === 2) {
      b.i64(0xffffffff);
      b.op(W.i64_and);
    }
    b.tee(T2);
    if (size === 2) b.op(W.i32_wrap_i64);
    this.#assign(insn.e, size);
    b.get(T1);
    b.op(W.i64_eqz, W.i32_eqz, W.if, VOID);
    b.i32(cc(CC_BITS, size));
    b.set(this.#k);
    b.get(T2);
    b.set(D);
    // CF: the last bit shifted out.
    b.get(T0);
    if (sub === 7 || sub === 5) {
      b.get(T1);
      b.i64(1);
      b.op(W.i64_sub, W.i64_shr_u);
    } else {
      b.i64(bits);
      b.get(T1);
      b.op(W.i64_sub, W.i64_shr_u);
    }
    b.i64(1);
    b.op(W.i64_and);
    if (sub !== 7) {
      b.tee(LINEAR);
      if (sub === 5) {
        // As #shift() has it for a count of 1 and for others.
        b.get(T0);
        b.get(T2);
        b.get(T2);
        b.i64(1);
        b.op(W.i64_shl, W.i64_xor);
        b.get(T1);
        b.i64(1);
        b.op(W.i64_eq, W.select);
        b.i64(bits - 1);
        b.op(W.i64_shr_u);
        b.i64(1);
        b.op(W.i64_and);
      } else {
        b.get(T2);
        b.i64(bits - 1);
        b.op(W.i64_shr_u);
        b.get(LINEAR);
        b.op(W.i64_xor);
        b.i64(1);
        b.op(W.i64_and);
      }
      b.i64(11);
      b.op(W.i64_shl, W.i64_or);
    }
    b.set(S);
    b.op(W.end);
  }

  // ---- conditions ----

  /** Pushes CF as i64. */
  #carry(): void {
    const b = this.#body;
    const kind = this.#flags >> 2;
    if (this.#flags === MEMORY) {
      b.i32(2);
      b.call(F_CONDITION);
      b.op(W.i64_extend_i32_u);
      return;
    }
    if (this.#flags === DYNAMIC) {
      this.#dynamicCarry();
      return;
    }
    switch (kind) {
      case CC_ADD:
        b.get(D);
        b.get(S);
        b.op(W.i64_lt_u, W.i64_extend_i32_u);
        break;
      case CC_SUB:
        b.get(A);
        b.get(S);
        b.op(W.i64_lt_u, W.i64_extend_i32_u);
        break;
      case CC_LOGIC:
        b.i64(0);
        break;
      default:
        b.get(S);
        b.i64(FLAG_CF);
        b.op(W.i64_and);
    }
  }
  /** carry() of core/flags.ts, of the locals. */
  #dynamicCarry(): void {
    const b = this.#body;
    const shift = (): void => {
      b.i64(64);
      b.i64(8);
      b.get(this.#k);
      b.i32(3);
      b.op(W.i32_and, W.i64_extend_i32_u, W.i64_shl, W.i64_sub, W.i64_shl);
    };
    b.get(S);
    b.i64(FLAG_CF);
    b.op(W.i64_and);
    b.i64(0);
    b.get(D);
    shift();
    b.get(D);
    b.get(S);
    b.op(W.i64_add);
    shift();
    b.get(this.#k);
    b.i32(cc(CC_SUB, 0));
    b.op(W.i32_lt_u, W.select);
    b.get(S);
    shift();
    b.op(W.i64_lt_u, W.i64_extend_i32_u);
    b.get(this.#k);
    b.i32(cc(CC_LOGIC, 0));
    b.op(W.i32_ge_u, W.select);
    b.get(this.#k);
    b.i32(cc(CC_INC, 0));
    b.op(W.i32_ge_u, W.select);
  }

  /** Pushes condition code `code` as i32. */
  #condition(code: number): void {
    const b = this.#body;
    const negate = (code & 1) !== 0;
    const which = code >> 1;
    if (this.#flags === MEMORY || this.#flags === DYNAMIC) {
      this.#flagsToMemory();
      b.i32(code);
      b.call(F_CONDITION);
      return;
    }
    const kind = this.#flags >> 2;
    const size = this.#flags & 3;
    if (kind === CC_SUB && this.#compare(which, negate, size)) return;
    this.#known(kind, size, which);
    if (negate) b.op(W.i32_eqz);
  }

  /** Conditions after SUB and CMP as comparisons of the operands. */
  #compare(which: number, negate: boolean, size: number): boolean {
    const b = this.#body;
    const wide = size === 3;
    let op: number;
    let signed = false;
    switch (which) {
      case 1:
        op = wide ? (negate ? W.i64_ge_u : W.i64_lt_u) : negate ? W.i32_ge_u : W.i32_lt_u;
        break;
      case 2:
        op = wide ? (negate ? W.i64_ne : W.i64_eq) : negate ? W.i32_ne : W.i32_eq;
        break;
      case 3:
        op = wide ? (negate ? W.i64_gt_u : W.i64_le_u) : negate ? W.i32_gt_u : W.i32_le_u;
        break;
      case 6:
        op = wide ? (negate ? W.i64_ge_s : W.i64_lt_s) : negate ? W.i32_ge_s : W.i32_lt_s;
        signed = true;
        break;
      case 7:
        op = wide ? (negate ? W.i64_gt_s : W.i64_le_s) : negate ? W.i32_gt_s : W.i32_le_s;
        signed = true;
        break;
      default:
        return false;
    }
    for (const local of [A, S]) {
      b.get(local);
      if (wide) continue;
      b.op(W.i32_wrap_i64);
      if (signed && size < 2) b.op(size === 0 ? W.i32_extend8_s : W.i32_extend16_s);
    }
    b.op(op);
    return true;
  }

  /** Pushes the result, moved to the top of an i64. */
  #top(kind: number, size: number): void {
    const b = this.#body;
    if (kind === CC_SUB) {
      b.get(A);
      b.get(S);
      b.op(W.i64_sub);
    } else b.get(D);
    if (size < 3) {
      b.i64(64 - (8 << size));
      b.op(W.i64_shl);
    }
  }
  #bitOfS(bit: number): void {
    const b = this.#body;
    b.get(S);
    b.op(W.i32_wrap_i64);
    b.i32(bit);
    b.op(W.i32_and);
    b.i32(0);
    b.op(W.i32_ne);
  }
  #overflow(kind: number, size: number): void {
    const b = this.#body;
    switch (kind) {
      case CC_SUB:
        b.get(A);
        b.get(S);
        b.op(W.i64_xor);
        b.get(A);
        b.get(A);
        b.get(S);
        b.op(W.i64_sub, W.i64_xor, W.i64_and);
        break;
      case CC_ADD:
        // First operand: D - S.
        b.get(D);
        b.get(S);
        b.op(W.i64_sub);
        b.get(D);
        b.op(W.i64_xor);
        b.get(S);
        b.get(D);
        b.op(W.i64_xor, W.i64_and);
        break;
      case CC_LOGIC:
        b.i32(0);
        return;
      case CC_INC:
      case CC_DEC: {
        this.#top(kind, size);
        if (kind === CC_INC) b.i64Halves(0, 0x80000000 | 0);
        else if (size === 3) b.i64Halves(-1, 0x7fffffff);
        else if (size === 2) b.i64Halves(0, 0x7fffffff);
        else b.i64Halves(0, (size === 1 ? 0x7fff0000 : 0x7f000000) | 0);
        b.op(W.i64_eq);
        return;
      }
      default:
        this.#bitOfS(FLAG_OF);
        return;
    }
    if (size < 3) {
      b.i64(64 - (8 << size));
      b.op(W.i64_shl);
    }
    b.i64(0);
    b.op(W.i64_lt_s);
  }
  #known(kind: number, size: number, which: number): void {
    const b = this.#body;
    const zero = (): void => {
      this.#top(kind, size);
      b.op(W.i64_eqz);
    };
    const sign = (): void => {
      this.#top(kind, size);
      b.i64(0);
      b.op(W.i64_lt_s);
    };
    const carry = (): void => {
      this.#carry();
      b.op(W.i32_wrap_i64);
    };
    switch (which) {
      case 0:
        this.#overflow(kind, size);
        break;
      case 1:
        carry();
        break;
      case 2:
        zero();
        break;
      case 3:
        carry();
        zero();
        b.op(W.i32_or);
        break;
      case 4:
        sign();
        break;
      case 5:
        if (kind === CC_SUB) {
          b.get(A);
          b.get(S);
          b.op(W.i64_sub);
        } else b.get(D);
        b.op(W.i32_wrap_i64);
        b.i32(0xff);
        b.op(W.i32_and, W.i32_popcnt);
        b.i32(1);
        b.op(W.i32_and, W.i32_eqz);
        break;
      case 6:
        sign();
        this.#overflow(kind, size);
        b.op(W.i32_xor);
        break;
      default:
        sign();
        this.#overflow(kind, size);
        b.op(W.i32_xor);
        zero();
        b.op(W.i32_or);
    }
  }
}
