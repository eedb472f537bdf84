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
 * Within a page every lookup of the interpreter would hit the execute TLB, so that leaving them out changes nothing. Where control goes to
 * another page of the region, the execute TLB must have it, as the same page frame, and the code there must be what was translated;
 * otherwise the interpreter goes on. Every other access to the TLBs is made in the interpreter's order.
 *
 * The translator is built in layers, each of which knows those below it: here the blocks of a region, their budget and transfers of
 * control; instructions.ts which instructions are emitted; vectors.ts those of SSE; arithmetic.ts what sets flags; conditions.ts what looks at
 * them; memory.ts accesses; frame.ts the function with its locals.
 */
import * as H from '../core/handlers.generated.ts';
import * as L from '../core/layout.ts';
import * as R from '../core/record.ts';
import {
  ADC,
  BASE,
  CMP,
  D,
  DYNAMIC,
  F_EXECUTE,
  F_STRING_OP,
  FIRST_I64,
  type Flags,
  G,
  type Label,
  LINEAR,
  MEMORY,
  RECIPE,
  RIP,
  S,
  SBB,
  STATE,
  SUB,
  slot,
  T0,
  T2,
  type Target,
  VERSION,
} from './frame.ts';
import { Instructions } from './instructions.ts';
import { TLB_TABLE } from './memory.ts';
import { operandsOf, type Recipe, recipeOf } from './recipe.ts';
import { type Block, type Insn, isMove, isString, pageOf, repeats, samePage, targetOf } from './region.ts';
import { entriesOf, type Structure, structure } from './structure.ts';
import { isVector } from './vectors.ts';
import { Bytes, I32, I64, VOID, W } from './wasm.ts';

/** Steps between two looks at the budget, more or less. */
const MAX_WAY = 64;

/** What string instructions use; INS and OUTS also RDX. */
const STRING_REGISTERS: readonly number[] = [L.R_RAX, L.R_RCX, L.R_RDX, L.R_RSI, L.R_RDI];

export class Translator extends Instructions {
  #narrow = false;
  /** The first block has SSE instructions: it is not entered unless they can be used. */
  readonly #sseEntry = this.region.entry.insns.some((insn) => isVector(insn) && this.native(insn));
  readonly #targets = new Map<number, Target>();
  readonly #flagsIn = new Map<number, Flags>();
  /** Blocks, by id, in front of which the budget is looked at; for each block the steps up to the next of those. */
  readonly #checked = new Set<number>();
  readonly #need = new Map<number, number>();
  /** By block: how to tell the flags at its start. */
  readonly #recipes = new Map<number, Recipe>();
  #current: Block | undefined;
  /** Blocks at whose start the flags are looked at; elsewhere they may be anything. */
  readonly #live = new Set<number>();

  /** The function's code: locals and instructions. */
  translate(): Bytes {
    const reachable = this.#reachable();
    // Only where a linear address is the instruction pointer.
    if (this.mode.code !== 2 && this.region.pages.size > 1) this.flatRead |= 1 << L.SEG_CS;
    this.#findRecipes(reachable);
    this.#flow();
    const shape = structure(
      reachable,
      (id) => this.region.blocks[id].next.map((block) => block.id),
      new Set([this.region.entry.id]),
    );
    const blocks = reachable.map((id) => this.region.blocks[id]);
    this.#checks(shape, blocks);
    this.#liveness(blocks);
    // The first pass finds out which registers and caches there are.
    this.#layout();
    this.#emit(shape);
    this.#layout();
    this.#emit(shape);
    const result = new Bytes();
    result.u32(2);
    result.u32(this.n - BASE);
    result.u8(I64);
    result.u32(9);
    result.u8(I32);
    result.append(this.body);
    return result;
  }

  #reachable(): number[] {
    const seen = new Set<number>([this.region.entry.id]);
    for (const id of seen) for (const next of this.region.blocks[id].next) seen.add(next.id);
    return [...seen].sort((a, b) => a - b);
  }

  #layout(): void {
    let next = FIRST_I64;
    this.registers = [];
    for (const r of [...this.used].sort((a, b) => a - b)) this.registers[r] = next++;
    if (this.used.size === 0) for (let r = 0; r < 16; r++) this.registers[r] = next++;
    this.n = next++;
    this.k = next++;
    this.code = next++;
    this.tlb = next++;
    this.entry32 = next++;
    this.u0 = next++;
    this.u1 = next++;
    this.select = next++;
    this.sseForbidden = next++;
  }

  #findRecipes(reachable: readonly number[]): void {
    // ADC and SBB look at CF.
    const kills = (insn: Insn): boolean => this.kills(insn) && insn.sub !== ADC && insn.sub !== SBB;
    for (const id of reachable) {
      const recipe = recipeOf(this.region.blocks[id], (insn) => this.native(insn), kills);
      if (recipe !== undefined) this.#recipes.set(id, recipe);
    }
  }

  protected override followRecipe(): void {
    const b = this.body;
    const { last, carry } = this.#recipes.get(this.#current!.id)!;
    const { size } = last;
    const { first } = operandsOf(last);
    this.value64(first, size);
    if (carry === undefined) {
      if (last.sub === CMP) {
        this.#second(last);
        b.op(W.i64_sub);
      }
      b.set(D);
      this.#second(last);
      b.set(S);
      return;
    }
    b.set(D);
    // CF: the sum is below what was added, or the minuend below what was subtracted.
    this.value64(operandsOf(carry).first, carry.size);
    if (carry.sub === SUB) {
      this.#second(carry);
      b.op(W.i64_add);
      if (carry.size === 2) {
        b.i64(0xffffffff);
        b.op(W.i64_and);
      }
    }
    this.#second(carry);
    b.op(W.i64_lt_u, W.i64_extend_i32_u);
    b.set(S);
  }

  /** Pushes the second operand of an instruction of a recipe as i64, zero-extended. */
  #second(insn: Insn): void {
    const { second } = operandsOf(insn);
    if (second !== undefined) this.value64(second, insn.size);
    else if (insn.size === 3) this.body.i64Halves(insn.immLo, insn.immHi);
    else this.body.i64(insn.immLo >>> 0);
  }

  /** The flags become what the start of a block wants. */
  #enterFlags(block: Block): void {
    if (!this.#live.has(block.id)) return;
    const recipe = this.#recipes.get(block.id);
    if (recipe === undefined) {
      this.convert(this.#flagsIn.get(block.id)!);
      return;
    }
    const again = this.#current === block;
    if (again && this.flags !== recipe.kind) throw new Error('recipe');
    if (!again) this.putFlagsAway();
    this.body.i32(again ? recipe.kind : -1);
    this.body.set(this.k);
  }

  /** Finds where the flags are at each block's start. */
  #flow(): void {
    const { entry, blocks } = this.region;
    this.#flagsIn.set(entry.id, this.#recipes.has(entry.id) ? RECIPE : MEMORY);
    const work: Block[] = [entry];
    for (let block = work.pop(); block !== undefined; block = work.pop()) {
      let state = this.#flagsIn.get(block.id)!;
      for (const insn of block.insns) state = this.after(insn, state);
      for (const next of block.next) {
        const before = this.#flagsIn.get(next.id);
        const joined = this.#recipes.has(next.id) ? RECIPE : before === undefined || before === state ? state : DYNAMIC;
        if (joined === before) continue;
        this.#flagsIn.set(next.id, joined);
        work.push(blocks[next.id]);
      }
    }
  }

  #emit(shape: readonly Structure[]): void {
    const b = this.body;
    b.reset();
    this.depth = 0;
    this.#targets.clear();
    this.flags = MEMORY;
    const { entry } = this.region;
    b.get(RIP);
    b.i64(entry.at);
    b.op(W.i64_sub);
    b.set(BASE);
    this.#guards();
    b.global(G.stepsLeft);
    b.set(this.n);
    this.loadTlb();
    if (this.sseUsed && !this.#sseEntry) {
      this.noSse();
      b.set(this.sseForbidden);
    }
    this.loadRegisters();
    this.exit = this.open(W.block);
    // The edge into the entry.
    const first = shape[0];
    this.#current = undefined;
    this.#budget(entry);
    this.#enterFlags(entry);
    if (first.kind === 'loop' && first.entries.length > 1) {
      b.i32(first.entries.indexOf(entry.id));
      b.set(this.select);
    }
    this.#sequence(shape, undefined);
    b.op(W.unreachable);
    this.end();
    // Leaves the function with RIP, K and the code set.
    this.storeRegisters();
    b.get(this.k);
    b.i32(0);
    b.op(W.i32_ge_s, W.if, VOID);
    this.storeDynamic();
    b.op(W.end);
    b.get(STATE);
    b.get(RIP);
    b.memory(W.i64_store, slot(L.R_RIP));
    b.get(this.n);
    b.setGlobal(G.stepsLeft);
    b.get(this.code);
    b.op(W.end);
  }

  /** What the code was translated for must hold when it is entered. */
  #guards(): void {
    const b = this.body;
    const refuse = (): void => {
      b.op(W.if, VOID);
      b.get(STATE);
      b.get(RIP);
      b.memory(W.i64_store, slot(L.R_RIP));
      b.i32(R.TIER_RETRY);
      b.op(W.return, W.end);
    };
    if (this.#sseEntry) {
      this.noSse();
      refuse();
    }
    if (this.mode.code === 2) return;
    const flat = (global: number, wanted: number): void => {
      if (wanted === 0) return;
      b.global(global);
      b.i32(wanted);
      b.op(W.i32_and);
      b.i32(wanted);
      b.op(W.i32_ne);
      refuse();
    };
    flat(G.flatRead, this.flatRead);
    flat(G.flatWrite, this.flatWrite);
    if (this.stackUsed) {
      b.global(G.stackMask);
      b.i64(0xffffffff);
      b.op(W.i64_ne);
      refuse();
    }
    // No jump within the pages may wrap around.
    const pages = [...this.region.pages.keys()];
    const lowest = Math.min(...pages) * 4096;
    b.get(BASE);
    b.i64(lowest);
    b.op(W.i64_add);
    b.i64((this.#narrow || this.mode.code === 0 ? 0xf000 : 0xfffff000) - (Math.max(...pages) * 4096 - lowest));
    b.op(W.i64_gt_u);
    refuse();
  }

  #sequence(list: readonly Structure[], heads: readonly number[] | undefined): void {
    const labels: Label[] = [];
    const from = heads === undefined ? 1 : 0;
    for (let j = list.length - 1; j >= from; j--) labels[j] = this.open(W.block);
    for (let j = from; j < list.length; j++) {
      const entries = entriesOf(list[j]);
      for (const [i, id] of entries.entries()) {
        // The dispatcher alone jumps to a head; everybody else starts the loop over.
        if (heads?.includes(id)) continue;
        this.#targets.set(id, { label: labels[j], select: entries.length > 1 ? i : undefined });
      }
    }
    if (heads !== undefined) {
      const b = this.body;
      b.get(this.select);
      b.op(W.br_table);
      b.u32(heads.length - 1);
      for (const id of heads) {
        const j = list.findIndex((s) => entriesOf(s).includes(id));
        b.u32(this.depth - 1 - labels[j].depth);
      }
    }
    for (let j = 0; j < list.length; j++) {
      if (j >= from) this.end();
      const part = list[j];
      if (part.kind === 'block') {
        this.#block(this.region.blocks[part.id]);
        continue;
      }
      const label = this.open(W.loop);
      const several = part.entries.length > 1;
      for (const [i, id] of part.entries.entries()) {
        this.#targets.set(id, { label, select: several ? i : undefined });
      }
      this.#sequence(part.body, several ? part.entries : undefined);
      this.end();
    }
  }

  /** Takes the steps of a block from the budget, or leaves in front of it. */
  #budget(block: Block): void {
    const b = this.body;
    if (this.#checked.has(block.id)) {
      b.get(this.n);
      b.i32(this.#need.get(block.id)!);
      b.op(W.i32_lt_s, W.if, VOID);
      this.depth++;
      this.rip(block.at);
      this.leave(R.TIER_SHORT, 0);
      this.end();
    }
    b.get(this.n);
    b.i32(block.insns.length);
    b.op(W.i32_sub);
    b.set(this.n);
  }

  /** Goes on at a place. */
  #edge(at: number): void {
    const block = this.region.byOffset.get(at);
    const target = block === undefined ? undefined : this.#targets.get(block.id);
    if (block === undefined || target === undefined) {
      this.rip(at);
      this.leave(R.TIER_TRANSFER, 0);
      return;
    }
    if (this.#current !== undefined && !samePage(this.#current.at, at)) this.#enterPage(block);
    this.#budget(block);
    this.#enterFlags(block);
    if (target.select !== undefined) {
      this.body.i32(target.select);
      this.body.set(this.select);
    }
    this.br(target.label);
  }

  /** Leaves in front of a block of another page, unless the execute TLB has the page and its code is what was translated. */
  #enterPage({ at, insns }: Block): void {
    const b = this.body;
    const { frame, page, cell } = this.region.pages.get(pageOf(at))!;
    this.rip(at);
    b.set(LINEAR);
    this.entry();
    b.memory(W.i64_load, 2 * TLB_TABLE);
    b.get(LINEAR);
    b.i64(-4096);
    b.op(W.i64_and);
    b.get(VERSION);
    b.op(W.i64_or, W.i64_ne);
    b.get(this.entry32);
    b.memory(W.i32_load, 2 * TLB_TABLE + 12);
    b.i32(frame);
    b.op(W.i32_ne, W.i32_or);
    // A page that was written has lost its records, and addresses of records are not used again.
    for (const [from, is] of [
      [cell, page],
      [page + R.PAGE_RECORDS + (at & 4095) * 4, insns[0].record],
    ] as const) {
      b.i32(from);
      b.memory(W.i32_load, 0);
      b.i32(is);
      b.op(W.i32_ne, W.i32_or);
    }
    b.op(W.if, VOID);
    this.depth++;
    this.rip(at);
    this.leave(R.TIER_TRANSFER, 0);
    this.end();
  }

  /** A direct transfer of the current instruction to a place that may be outside its page. */
  #transfer(at: number): void {
    if (!samePage(this.insn.at, at)) this.#outside(() => this.rip(at));
    this.#follow(at);
  }

  /** Goes on at the place that the current instruction transfers control to; T2 is its address if it lies in another page. */
  #follow(at: number): void {
    const whole = this.mode.code === 2 || this.insn.size !== 1;
    if (samePage(this.insn.at, at) || (whole && this.region.byOffset.has(at))) this.#edge(at);
    else {
      this.body.get(T2);
      this.leave(R.TIER_TRANSFER, 0);
    }
  }

  /** Puts a target into T2; the interpreter takes it if it may not be a valid one. */
  #outside(value: () => void): void {
    const b = this.body;
    value();
    if (this.mode.code !== 2) {
      b.i64(this.insn.size === 1 ? 0xffff : 0xffffffff);
      b.op(W.i64_and);
    }
    b.tee(T2);
    if (this.mode.code === 2) {
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
    this.retryIf();
  }

  #block(block: Block): void {
    this.#current = block;
    this.flags = this.#flagsIn.get(block.id)!;
    this.sseReady = this.#sseEntry;
    const wanted = this.#wantedFlags(block);
    const count = block.insns.length;
    for (const [i, insn] of block.insns.entries()) {
      this.insn = insn;
      this.rest = count - i;
      this.wanted = wanted[i];
      if (i === count - 1 && block.transfer !== undefined) {
        this.#last(block, insn);
        return;
      }
      if (this.native(insn)) {
        const after = this.after(insn, this.flags);
        this.instruction(insn);
        this.flags = after;
      } else if (isString(insn)) this.#string(insn);
      else this.#generic(insn);
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
      if (this.kills(insn)) live = false;
      if (this.looks(insn)) live = true;
    }
    return wanted;
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
      const next = this.region.byOffset.get(at);
      return next === undefined || !samePage(block.at, at) || this.#checked.has(next.id) || this.#live.has(next.id);
    });
  }

  /** Finds the blocks at whose start the flags are looked at. */
  #liveness(blocks: readonly Block[]): void {
    for (let changed = true; changed; ) {
      changed = false;
      for (const block of blocks) {
        if (this.#live.has(block.id)) continue;
        const first = block.insns.find((insn) => this.looks(insn) || this.kills(insn));
        if (first === undefined ? !this.#liveBehind(block) : !this.looks(first)) continue;
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
    this.#checked.add(this.region.entry.id);
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
    this.flagsToMemory();
    this.storeRegisters();
    this.#execute(insn, F_EXECUTE, () => {});
    this.loadRegisters();
    this.loadTlb();
    this.flags = MEMORY;
  }

  /** The same for a string instruction: the core needs to know a few registers only, unless the function is left. */
  #string(insn: Insn): void {
    const moves = isMove(insn);
    const known = (set: ReadonlySet<number>): number[] => STRING_REGISTERS.filter((r) => set.has(r));
    if (!moves) this.flagsToMemory();
    this.storeRegisters(known(this.written));
    this.#execute(insn, F_STRING_OP, () => {
      if (moves) this.flagsToMemory();
      this.storeRegisters([...this.written].filter((r) => !STRING_REGISTERS.includes(r)));
    });
    this.loadRegisters(known(this.used));
    this.forgetPages();
    if (!moves) this.flags = MEMORY;
  }

  /** Calls the core for an instruction; `left` is for what leaves the function. */
  #execute(insn: Insn, by: number, left: () => void): void {
    const b = this.body;
    const behind = this.rest - 1;
    this.rip(insn.at);
    b.setGlobal(G.curRip);
    this.rip(insn.at + insn.length);
    b.setGlobal(G.nextRip);
    b.get(this.n);
    b.i32(behind);
    b.op(W.i32_add);
    b.setGlobal(G.stepsLeft);
    b.i32(insn.record);
    b.call(by);
    b.global(G.brk);
    b.op(W.if, VOID);
    left();
    b.i32(insn.record);
    b.op(W.return, W.end);
    b.global(G.stepsLeft);
    b.i32(behind);
    b.op(W.i32_sub);
    b.set(this.n);
  }

  /** The instruction that transfers control. */
  #last(block: Block, insn: Insn): void {
    const b = this.body;
    if (!this.native(insn)) {
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
    if (this.mode.code !== 2 && size === 1) this.#narrow = true;
    switch (insn.handler) {
      case H.H_JCC:
        this.condition(insn.sub);
        b.op(W.if, VOID);
        this.depth++;
        this.#transfer(targetOf(insn));
        this.end();
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
        if (!samePage(insn.at, target)) this.#outside(() => this.rip(target));
        this.push(size, () => this.rip(follow));
        this.#follow(target);
        break;
      }
      case H.H_RET:
      case H.H_RET_I:
        this.#return(insn);
        break;
      default: {
        // JMP and CALL through a register or memory.
        if (insn.memory) this.address(insn, 1 << size, false);
        const value = (): void => {
          if (insn.memory) {
            this.load(insn, size);
            if (size < 3) b.op(W.i64_extend_i32_u);
          } else this.value64(insn.e, size);
        };
        this.#outside(value);
        if (insn.handler === H.H_CALL_E) this.push(size, () => this.rip(follow));
        this.#oneOf(insn.seen);
      }
    }
  }

  /** Goes on at T2: a place that may be one of `places`. */
  #oneOf(places: readonly number[]): void {
    const b = this.body;
    for (const at of places) {
      if (!this.region.byOffset.has(at)) continue;
      b.get(T2);
      this.rip(at);
      b.op(W.i64_eq, W.if, VOID);
      this.depth++;
      this.#edge(at);
      this.end();
    }
    b.get(T2);
    this.leave(R.TIER_TRANSFER, 0);
  }

  #return(insn: Insn): void {
    const b = this.body;
    const bytes = insn.handler === H.H_RET_I ? insn.immLo & 0xffff : 0;
    this.stackPage(insn.size, 'R', 0);
    this.#outside(() => {
      this.loadAt(insn.size, this.cache('R', L.R_RSP, L.R_ZERO, 0));
      if (insn.size < 3) b.op(W.i64_extend_i32_u);
    });
    this.moveStack((1 << insn.size) + bytes);
    this.#oneOf(this.region.returns.slice(0, 12));
  }

  /** LOOP, LOOPE, LOOPNE and JCXZ. */
  #count(insn: Insn, follow: number): void {
    const b = this.body;
    const target = targetOf(insn);
    const wide = insn.addressSize;
    const rcx = this.reg(L.R_RCX);
    const masked = (): void => {
      if (wide === 2) return;
      b.i64(wide === 1 ? 0xffffffff : 0xffff);
      b.op(W.i64_and);
    };
    const taken = (): void => {
      b.op(W.if, VOID);
      this.depth++;
      this.#transfer(target);
      this.end();
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
    if (!samePage(insn.at, target)) {
      b.i32(1);
      this.retryIf();
    }
    // The condition first: it needs the flags, not RCX.
    if (insn.sub !== 2) {
      this.condition(insn.sub === 1 ? 4 : 5);
      b.set(this.u1);
    }
    this.written.add(L.R_RCX);
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
      b.get(this.u1);
      b.op(W.i32_and);
    }
    taken();
  }
}
