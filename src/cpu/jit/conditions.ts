/** CF and the condition codes, from wherever the flags are. */
import {
  A,
  CC_ADD,
  CC_DEC,
  CC_INC,
  CC_LOGIC,
  CC_SUB,
  cc,
  D,
  DYNAMIC,
  F_CONDITION,
  FLAG_CF,
  FLAG_OF,
  MEMORY,
  S,
} from './frame.ts';
import { MemoryAccess } from './memory.ts';
import { W } from './wasm.ts';

export class Conditions extends MemoryAccess {
  /** Pushes CF as i64. */
  protected carry(): void {
    const b = this.body;
    const kind = this.flags >> 2;
    if (this.flags === MEMORY) {
      b.i32(2);
      b.call(F_CONDITION);
      b.op(W.i64_extend_i32_u);
      return;
    }
    if (this.flags === DYNAMIC) {
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
    const b = this.body;
    const shift = (): void => {
      b.i64(64);
      b.i64(8);
      b.get(this.k);
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
    b.get(this.k);
    b.i32(cc(CC_SUB, 0));
    b.op(W.i32_lt_u, W.select);
    b.get(S);
    shift();
    b.op(W.i64_lt_u, W.i64_extend_i32_u);
    b.get(this.k);
    b.i32(cc(CC_LOGIC, 0));
    b.op(W.i32_ge_u, W.select);
    b.get(this.k);
    b.i32(cc(CC_INC, 0));
    b.op(W.i32_ge_u, W.select);
  }

  /** Pushes condition code `code` as i32. */
  protected condition(code: number): void {
    const b = this.body;
    const negate = (code & 1) !== 0;
    const which = code >> 1;
    if (this.flags === MEMORY || this.flags === DYNAMIC) {
      this.flagsToMemory();
      b.i32(code);
      b.call(F_CONDITION);
      return;
    }
    const kind = this.flags >> 2;
    const size = this.flags & 3;
    if (kind === CC_SUB && this.#compare(which, negate, size)) return;
    this.#known(kind, size, which);
    if (negate) b.op(W.i32_eqz);
  }

  /** Conditions after SUB and CMP as comparisons of the operands. */
  #compare(which: number, negate: boolean, size: number): boolean {
    const b = this.body;
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
    const b = this.body;
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
    const b = this.body;
    b.get(S);
    b.op(W.i32_wrap_i64);
    b.i32(bit);
    b.op(W.i32_and);
    b.i32(0);
    b.op(W.i32_ne);
  }

  #overflow(kind: number, size: number): void {
    const b = this.body;
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
    const b = this.body;
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
      this.carry();
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
