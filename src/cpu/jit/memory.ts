/** Addresses, the TLB lookup in front of an access, loads, stores and the stack. */
import * as H from '../core/handlers.generated.ts';
import * as L from '../core/layout.ts';
import { type Cache, F_FILL_TLB, Frame, LINEAR, STATE, slot, VERSION } from './frame.ts';
import type { Insn } from './region.ts';
import { VOID, W } from './wasm.ts';

/** Bytes of one of a privilege's three TLBs: READ, WRITE, EXEC. */
export const TLB_TABLE = L.TLB_BYTES / 6;

/**
 * Alignment of an access to its size: most often there, so that an access without it may take longer; or as often not; or needed, so that
 * the interpreter has to do those without.
 */
export type Alignment = 'likely' | 'open' | 'needed';

export class MemoryAccess extends Frame {
  #readCache!: Cache;
  protected writeCache!: Cache;

  /** Pushes the effective address (with the FS or GS base), not yet truncated outside 64-bit mode. */
  protected effective(insn: Insn): void {
    const b = this.body;
    const disp = insn.displacement;
    let any = false;
    if (insn.base === L.R_RIP) {
      this.rip(insn.at + insn.length + disp);
      any = true;
    } else {
      if (insn.base !== L.R_ZERO) {
        b.get(this.reg(insn.base));
        any = true;
      }
      if (insn.index !== L.R_ZERO) {
        b.get(this.reg(insn.index));
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
    const b = this.body;
    if (insn.handler === H.H_MOV_AO || insn.handler === H.H_MOV_OA) b.i64Halves(insn.immLo, insn.immHi);
    else this.effective(insn);
    if (this.mode.code === 2 && insn.segment >= L.SEG_FS) {
      b.get(STATE);
      b.memory(W.i64_load, slot(L.R_BASE + insn.segment));
      b.op(W.i64_add);
    }
  }

  protected cache(kind: 'R' | 'W', base: number, index: number, disp: number): Cache {
    let key = `${kind}${base},${index},${base === L.R_ZERO || base === L.R_RIP || index !== L.R_ZERO ? disp >> 12 : 0}`;
    // The last two are for what is too much.
    if (!this.caches.has(key) && this.caches.size >= L.PAGE_CACHES - 2) key = `${kind}*`;
    let cache = this.caches.get(key);
    if (cache === undefined) {
      const n = this.caches.size;
      cache = { page: this.mode.caches + n * 8, add: this.mode.caches + L.PAGE_CACHES * 8 + n * 4 };
      this.caches.set(key, cache);
    }
    return cache;
  }

  /** Pushes the address of what the READ TLB has for LINEAR, and keeps it; the other TLBs follow at distances of TLB_TABLE. */
  protected entry(): void {
    const b = this.body;
    b.get(LINEAR);
    b.i64(8);
    b.op(W.i64_shr_u, W.i32_wrap_i64);
    b.i32(TLB_TABLE - 16);
    b.op(W.i32_and);
    b.get(this.tlb);
    b.op(W.i32_add);
    b.tee(this.entry32);
  }

  /** Makes `cache` describe the page of an access at LINEAR, or leaves for the interpreter. */
  protected page({ page, add }: Cache, bytes: number, write: boolean, alignment: Alignment = 'likely'): void {
    const b = this.body;
    const table = (write ? TLB_TABLE : 0) | 0;
    b.get(LINEAR);
    b.i64(-4096 + (alignment === 'open' ? 0 : bytes - 1));
    b.op(W.i64_and);
    b.i32(0);
    b.memory(W.i64_load, page);
    b.op(W.i64_ne);
    if (alignment === 'open') {
      b.get(LINEAR);
      b.op(W.i32_wrap_i64);
      b.i32(4095);
      b.op(W.i32_and);
      b.i32(4096 - bytes);
      b.op(W.i32_gt_u, W.i32_or);
    }
    b.op(W.if, VOID);
    this.depth++;
    if (alignment === 'needed') {
      b.get(LINEAR);
      b.op(W.i32_wrap_i64);
      b.i32(bytes - 1);
      b.op(W.i32_and);
      this.retryIf();
    }
    this.entry();
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
    const stores = this.mode.fills && write;
    if (stores) {
      b.i32(1);
      b.set(this.code);
    }
    if (this.mode.fills) {
      b.op(W.if, VOID);
      this.depth++;
      b.get(LINEAR);
      b.i32(bytes);
      b.i32(write ? 1 : 0);
      b.call(F_FILL_TLB);
      b.tee(this.code);
      b.op(W.i32_eqz);
      this.retryIf();
      this.end();
    } else this.retryIf();
    b.i32(0);
    b.get(LINEAR);
    b.i64(-4096);
    b.op(W.i64_and);
    if (stores) {
      // A page that is good for this one store is not remembered: with bit 11 it is like no address.
      b.get(this.code);
      b.i32(2);
      b.op(W.i32_and);
      b.i32(10);
      b.op(W.i32_shl, W.i64_extend_i32_u, W.i64_or);
    }
    b.memory(W.i64_store, page);
    b.i32(0);
    b.get(this.entry32);
    b.memory(W.i32_load, table + 8);
    b.memory(W.i32_store, add);
    this.end();
  }

  /** Finds the memory operand for reading or, for `write`, writing; 'both' checks as a read-modify-write. */
  protected address(insn: Insn, bytes: number, write: boolean | 'both', alignment?: Alignment): void {
    const b = this.body;
    if (this.mode.code !== 2) {
      if (write !== false) this.flatWrite |= 1 << insn.segment;
      else this.flatRead |= 1 << insn.segment;
    }
    this.#linear(insn);
    b.set(LINEAR);
    const offset = insn.handler === H.H_MOV_AO || insn.handler === H.H_MOV_OA;
    const base = offset ? L.R_ZERO : insn.base;
    const index = offset ? L.R_ZERO : insn.index;
    const disp = offset ? insn.immLo : base === L.R_RIP ? insn.at + insn.displacement : insn.displacement;
    if (write !== false) {
      this.writeCache = this.cache('W', base, index, disp);
      this.page(this.writeCache, bytes, true, alignment);
    }
    if (write !== true) {
      this.#readCache = this.cache('R', base, index, disp);
      this.page(this.#readCache, bytes, false, alignment);
    }
  }

  /** Pushes the host address of LINEAR. */
  protected host({ add }: Cache): void {
    const b = this.body;
    b.get(LINEAR);
    b.op(W.i32_wrap_i64);
    b.i32(0);
    b.memory(W.i32_load, add);
    b.op(W.i32_add);
  }

  protected loadAt(size: number, cache: Cache): void {
    this.host(cache);
    this.loadOp(size, 0);
  }

  /** Pushes what #address() found. */
  protected load(_insn: Insn, size: number): void {
    this.loadAt(size, this.#readCache);
  }

  /** The same for a vector, by a load from V. */
  protected loadVector(op: number): void {
    this.host(this.#readCache);
    this.body.memory128(op, 0);
  }

  protected loadOp(size: number, offset: number): void {
    this.body.memory([W.i32_load8_u, W.i32_load16_u, W.i32_load, W.i64_load][size], offset);
  }
  protected storeOp(size: number): void {
    this.body.memory([W.i32_store8, W.i32_store16, W.i32_store, W.i64_store][size], 0);
  }

  /** Leaves the linear address of an access `offset` bytes above the top of the stack in LINEAR, its page checked. */
  protected stackPage(size: number, kind: 'R' | 'W', offset: number): void {
    const b = this.body;
    if (this.mode.code !== 2) {
      this.stackUsed = true;
      this.flatRead |= 1 << L.SEG_SS;
      this.flatWrite |= 1 << L.SEG_SS;
    }
    b.get(this.reg(L.R_RSP));
    if (offset !== 0) {
      b.i64(offset);
      b.op(W.i64_add);
    }
    if (this.mode.code !== 2) {
      b.i64(0xffffffff);
      b.op(W.i64_and);
    }
    b.set(LINEAR);
    this.page(this.cache(kind, L.R_RSP, L.R_ZERO, 0), 1 << size, kind === 'W');
  }

  protected moveStack(bytes: number): void {
    const b = this.body;
    const rsp = this.reg(L.R_RSP);
    this.written.add(L.R_RSP);
    b.get(rsp);
    b.i64(bytes);
    b.op(W.i64_add);
    if (this.mode.code !== 2) {
      b.i64(0xffffffff);
      b.op(W.i64_and);
    }
    b.set(rsp);
  }

  /** Pushes a value, given as i64. */
  protected push(size: number, value: () => void): void {
    const b = this.body;
    this.stackPage(size, 'W', -(1 << size));
    this.host(this.cache('W', L.R_RSP, L.R_ZERO, 0));
    value();
    if (size < 3) b.op(W.i32_wrap_i64);
    this.storeOp(size);
    b.get(LINEAR);
    b.set(this.reg(L.R_RSP));
    this.written.add(L.R_RSP);
  }

  /** Pushes the E operand. */
  protected source(insn: Insn, size: number): void {
    if (insn.memory) {
      this.address(insn, 1 << size, false);
      this.load(insn, size);
    } else this.value(insn.e, size);
  }

  /** Pushes E after #address(). */
  protected source2(insn: Insn): void {
    if (insn.memory) this.load(insn, insn.size);
    else this.value(insn.e, insn.size);
  }
}
