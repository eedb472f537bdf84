/** Integer arithmetic and the flags it sets. */
import * as H from '../core/handlers.generated.ts';
import * as L from '../core/layout.ts';
import { Conditions } from './conditions.ts';
import {
  A,
  ADC,
  ADD,
  AND,
  CC_BITS,
  CMP,
  cc,
  D,
  DYNAMIC,
  F_PRODUCT_FLAGS,
  F_SET_FLAG_BITS,
  FLAG_AF,
  FLAG_CF,
  FLAG_OF,
  LINEAR,
  OR,
  S,
  SBB,
  SUB,
  T0,
  T1,
  T2,
  XOR,
} from './frame.ts';
import type { Insn } from './region.ts';
import { VOID, W } from './wasm.ts';

export class Arithmetic extends Conditions {
  protected exchange(e: number, g: number, size: number): void {
    const b = this.body;
    const t = this.temp(size, 0);
    this.value(e, size);
    b.set(t);
    this.value(g, size);
    this.assign(e, size);
    b.get(t);
    this.assign(g, size);
  }

  /** Replaces E by what `operation` makes of it on the stack. */
  protected modify(insn: Insn, operation: () => void): void {
    const { size } = insn;
    if (!insn.memory) {
      this.value(insn.e, size);
      operation();
      this.assign(insn.e, size);
      return;
    }
    this.address(insn, 1 << size, 'both');
    this.host(this.writeCache);
    this.load(insn, size);
    operation();
    this.storeOp(size);
  }

  protected byteSwap(insn: Insn): void {
    const b = this.body;
    const { size } = insn;
    const t = this.temp(size, 0);
    this.value(insn.e, size);
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
      // Bytes within half-words, then half-words within words, then words.
      for (const [bits, low] of [
        [8, 0x00ff00ff],
        [16, 0x0000ffff],
      ] as const) {
        b.tee(t);
        b.i64(bits);
        b.op(W.i64_shr_u);
        b.i64Halves(low, low);
        b.op(W.i64_and);
        b.get(t);
        b.i64Halves(low, low);
        b.op(W.i64_and);
        b.i64(bits);
        b.op(W.i64_shl, W.i64_or);
      }
      b.i64(32);
      b.op(W.i64_rotl);
    }
    this.assign(insn.e, size);
  }

  /** Second operand of an ALU instruction that has none in memory. */
  #operand2(insn: Insn): void {
    if (insn.handler === H.H_ALU_EI || insn.handler === H.H_TEST_EI) this.immediate(insn, insn.size);
    else this.value(insn.g, insn.size);
  }

  protected alu(insn: Insn): void {
    const b = this.body;
    const { size, handler, memory } = insn;
    const test = handler === H.H_TEST_EG || handler === H.H_TEST_EI;
    const op = test ? AND : insn.sub;
    const stores = !test && op !== CMP;
    const toRegister = handler === H.H_ALU_GE;
    const a = this.temp(size, 0);
    const second = this.temp(size, 1);
    if (memory) this.address(insn, 1 << size, toRegister || !stores ? false : 'both');
    // Operands into the two temporaries.
    if (toRegister) {
      this.source2(insn);
      b.set(second);
      this.value(insn.g, size);
      b.set(a);
    } else {
      this.source2(insn);
      b.set(a);
      this.#operand2(insn);
      b.set(second);
    }
    const carries = op === ADC || op === SBB;
    if (carries) {
      // The carry, in T2.
      this.carry();
      b.set(T2);
    }
    const compute = (): void => {
      b.get(a);
      b.get(second);
      switch (op) {
        case ADD:
        case ADC:
          this.sized(size, W.i64_add, W.i32_add);
          break;
        case OR:
          this.sized(size, W.i64_or, W.i32_or);
          break;
        case AND:
          this.sized(size, W.i64_and, W.i32_and);
          break;
        case XOR:
          this.sized(size, W.i64_xor, W.i32_xor);
          break;
        default:
          this.sized(size, W.i64_sub, W.i32_sub);
      }
      if (carries) {
        b.get(T2);
        if (size < 3) b.op(W.i32_wrap_i64);
        if (op === ADC) this.sized(size, W.i64_add, W.i32_add);
        else this.sized(size, W.i64_sub, W.i32_sub);
      }
    };
    const store = (): void => {
      if (toRegister) this.assign(insn.g, size);
      else if (!memory) this.assign(insn.e, size);
      else this.storeOp(size);
    };
    if (!this.wanted) {
      if (!stores) return;
      if (memory && !toRegister) this.host(this.writeCache);
      compute();
      store();
      return;
    }
    if (op === SUB || op === CMP) {
      // A and S hold the operands; the result is made of them if anybody wants it.
      if (stores) {
        if (memory && !toRegister) this.host(this.writeCache);
        compute();
        store();
      }
      this.clean(a, size);
      b.set(A);
      this.clean(second, size);
      b.set(S);
      return;
    }
    // D holds the result, and for ADD S the second operand.
    const result = this.temp(size, 0);
    if (carries) {
      compute();
      // Everything is needed for the flags, so as i64.
      if (size < 3) b.op(W.i64_extend_i32_u);
      b.set(D);
      if (stores) {
        if (memory && !toRegister) this.host(this.writeCache);
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
      if (memory && !toRegister) this.host(this.writeCache);
      b.get(result);
      store();
    }
    this.clean(result, size);
    b.set(D);
    if (op === ADD) {
      this.clean(second, size);
      b.set(S);
    }
  }

  /** S := CF, AF and OF of ADC or SBB of two locals with the carry in T2 and the result in D, which is masked. */
  #carryFlags(add: boolean, a: number, second: number, size: number): void {
    const b = this.body;
    const bits = 8 << size;
    if (size < 2) {
      b.get(D);
      b.i64(size === 1 ? 0xffff : 0xff);
      b.op(W.i64_and);
      b.set(D);
    }
    const x = (): void => this.clean(a, size);
    const y = (): void => this.clean(second, size);
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

  protected incDec(insn: Insn): void {
    const b = this.body;
    const { size, memory } = insn;
    const up = insn.handler === H.H_INC_E;
    if (memory) this.address(insn, 1 << size, 'both');
    const t = this.temp(size, 0);
    this.source2(insn);
    if (size === 3) b.i64(1);
    else b.i32(1);
    this.sized(size, up ? W.i64_add : W.i64_sub, up ? W.i32_add : W.i32_sub);
    b.set(t);
    if (this.wanted) {
      this.carry();
      b.set(S);
    }
    if (memory) this.host(this.writeCache);
    b.get(t);
    if (memory) this.storeOp(size);
    else this.assign(insn.e, size);
    if (this.wanted) {
      this.clean(t, size);
      b.set(D);
    }
  }

  protected negate(insn: Insn): void {
    const b = this.body;
    const { size, memory } = insn;
    if (memory) this.address(insn, 1 << size, 'both');
    const t = this.temp(size, 0);
    this.source2(insn);
    b.set(t);
    if (memory) this.host(this.writeCache);
    if (size === 3) b.i64(0);
    else b.i32(0);
    b.get(t);
    this.sized(size, W.i64_sub, W.i32_sub);
    if (memory) this.storeOp(size);
    else this.assign(insn.e, size);
    if (this.wanted) {
      b.i64(0);
      b.set(A);
      this.clean(t, size);
      b.set(S);
    }
  }

  /** IMUL with a destination register. */
  protected multiply(insn: Insn): void {
    const b = this.body;
    const { size } = insn;
    const [x, y] = [this.temp(size, 0), this.temp(size, 1)];
    const three = insn.handler === H.H_IMUL_GEI;
    if (insn.memory) this.address(insn, 1 << size, false);
    this.source2(insn);
    if (size === 1) b.op(W.i32_extend16_s);
    b.set(x);
    if (three) this.immediate(insn, size);
    else this.value(insn.g, size);
    if (size === 1) b.op(W.i32_extend16_s);
    b.set(y);
    if (this.wanted) {
      this.flagsToMemory();
      for (const local of [x, y]) {
        b.get(local);
        if (size < 3) b.op(W.i64_extend_i32_s);
      }
      b.i32(size);
      b.call(F_PRODUCT_FLAGS);
    }
    b.get(x);
    b.get(y);
    this.sized(size, W.i64_mul, W.i32_mul);
    this.assign(insn.g, size);
  }

  /** DIV and IDIV of 32 and 64 bits, but for what faults and for dividends of more than 64 bits. */
  protected divide(insn: Insn): void {
    const b = this.body;
    const { size } = insn;
    const signed = insn.handler === H.H_IDIV_E;
    // T0: the dividend; T1: the divisor.
    this.source(insn, size);
    if (size === 2) b.op(signed ? W.i64_extend_i32_s : W.i64_extend_i32_u);
    b.set(T1);
    const rdx = this.reg(L.R_RDX);
    if (size === 2) {
      b.get(rdx);
      b.i64(32);
      b.op(W.i64_shl);
      this.value64(0, 2);
      b.op(W.i64_or);
    } else b.get(this.reg(L.R_RAX));
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
    this.retryIf();
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
      this.retryIf();
    }
    b.get(T0);
    b.get(T1);
    b.op(signed ? W.i64_rem_s : W.i64_rem_u);
    if (size === 2) b.op(W.i32_wrap_i64);
    this.assign(L.R_RDX * 8, size);
    b.get(T2);
    if (size === 2) b.op(W.i32_wrap_i64);
    this.assign(0, size);
  }

  /** ROL and ROR of a 32- or 64-bit register by an immediate that is not 0. */
  protected rotate(insn: Insn): void {
    const b = this.body;
    const { size } = insn;
    const left = insn.sub === 0;
    const count = insn.immLo & (size === 3 ? 63 : 31);
    this.value(insn.e, size);
    if (size === 3) b.i64(count);
    else b.i32(count);
    this.sized(size, left ? W.i64_rotl : W.i64_rotr, left ? W.i32_rotl : W.i32_rotr);
    if (this.wanted) {
      const t = this.temp(size, 0);
      b.set(t);
      this.flagsToMemory();
      b.i64(FLAG_CF | FLAG_OF);
      const bit = (n: number): void => {
        this.clean(t, size);
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
    this.assign(insn.e, size);
  }

  /** SHL, SHR and SAR by an immediate that is not 0. */
  protected shift(insn: Insn): void {
    const b = this.body;
    const { size, memory, sub } = insn;
    const count = insn.immLo & (size === 3 ? 63 : 31);
    const bits = 8 << size;
    if (memory) this.address(insn, 1 << size, 'both');
    // T0: the operand, sign-extended for SAR; D: the result.
    this.source2(insn);
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
    if (memory) this.host(this.writeCache);
    b.get(T1);
    if (size < 3) b.op(W.i32_wrap_i64);
    if (memory) this.storeOp(size);
    else this.assign(insn.e, size);
    if (!this.wanted) return;
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
  protected shiftByCl(insn: Insn): void {
    const b = this.body;
    const { size, sub } = insn;
    const bits = 8 << size;
    this.convert(DYNAMIC);
    // T1: the count; T0: the operand, sign-extended for SAR.
    b.get(this.reg(L.R_RCX));
    b.i64(bits - 1);
    b.op(W.i64_and);
    b.set(T1);
    this.value64(insn.e, size);
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
    this.assign(insn.e, size);
    b.get(T1);
    b.op(W.i64_eqz, W.i32_eqz, W.if, VOID);
    b.i32(cc(CC_BITS, size));
    b.set(this.k);
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
}
