/** Which instructions are emitted, what each does to the flags, and the code of those that do not transfer control. */
import * as H from '../core/handlers.generated.ts';
import * as L from '../core/layout.ts';
import * as R from '../core/record.ts';
import {
  A,
  ADC,
  ADD,
  CC_ADD,
  CC_BITS,
  CC_DEC,
  CC_INC,
  CC_LOGIC,
  CC_SUB,
  CMP,
  cc,
  D,
  DYNAMIC,
  F_SET_FLAG_BITS,
  FLAG_CF,
  FLAG_OF,
  FLAG_PF,
  FLAG_SF,
  type Flags,
  LINEAR,
  MEMORY,
  S,
  SBB,
  STATE,
  SUB,
  slot,
  T0,
  T1,
} from './frame.ts';
import { type Insn, isMove, targetOf } from './region.ts';
import { isVector, isVectorStore, Vectors } from './vectors.ts';
import { VOID, W } from './wasm.ts';

export class Instructions extends Vectors {
  /** Where an instruction leaves the flags. */
  protected after(insn: Insn, before: Flags): Flags {
    if (!this.native(insn)) return isMove(insn) ? before : MEMORY;
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

  /** Accesses of the instruction need no check of its segment. */
  #flat(insn: Insn, write: boolean): boolean {
    if (this.mode.code === 2) return true;
    return (((write ? this.mode.flatWrite : this.mode.flatRead) >> insn.segment) & 1) !== 0;
  }

  #flatStack(): boolean {
    return this.mode.code === 2 || (this.mode.fullStack && ((this.mode.flatWrite >> L.SEG_SS) & 1) !== 0);
  }

  /** True if the instruction is emitted; otherwise the core executes it. */
  protected native(insn: Insn): boolean {
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
        return this.mode.code === 2;
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
        return isVector(insn) && (!memory || this.#flat(insn, isVectorStore(insn)));
    }
  }

  /** The instruction sets all flags, whatever they were. */
  protected kills(insn: Insn): boolean {
    // INC and DEC keep CF.
    if (insn.handler === H.H_INC_E || insn.handler === H.H_DEC_E) return false;
    const after = this.after(insn, DYNAMIC);
    return after !== DYNAMIC && after !== MEMORY;
  }

  /** The instruction looks at the flags before it, or may leave the function. What keeps some flags looks at them for those behind it. */
  protected looks(insn: Insn): boolean {
    if (!this.native(insn)) return true;
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
        return insn.memory || isVector(insn);
    }
  }

  protected instruction(insn: Insn): void {
    const b = this.body;
    const { size, handler, memory } = insn;
    switch (handler) {
      case H.H_NOP:
        return;
      case H.H_XCHG_ZA:
        if (insn.e !== 0) this.exchange(insn.e, 0, size);
        else if (insn.flags & R.REC_REP) {
          // PAUSE: an exit if the host wants one.
          b.get(STATE);
          b.memory(W.i32_load, slot(L.S_INTERCEPT));
          b.i32(L.INTERCEPT_PAUSE);
          b.op(W.i32_and);
          this.retryIf();
        }
        return;
      case H.H_XCHG_EG:
        if (!memory) {
          this.exchange(insn.e, insn.g, size);
          return;
        }
        this.address(insn, 1 << size, 'both');
        this.load(insn, size);
        b.set(this.temp(size, 0));
        this.host(this.writeCache);
        this.value(insn.g, size);
        this.storeOp(size);
        b.get(this.temp(size, 0));
        this.assign(insn.g, size);
        return;
      case H.H_MOV_EG:
        if (memory) {
          this.address(insn, 1 << size, true);
          this.host(this.writeCache);
          this.value(insn.g, size);
          this.storeOp(size);
        } else {
          this.value(insn.g, size);
          this.assign(insn.e, size);
        }
        return;
      case H.H_MOV_GE:
        this.source(insn, size);
        this.assign(insn.g, size);
        return;
      case H.H_MOV_EI:
        if (memory) {
          this.address(insn, 1 << size, true);
          this.host(this.writeCache);
          this.immediate(insn, size);
          this.storeOp(size);
        } else {
          this.immediate(insn, size);
          this.assign(insn.e, size);
        }
        return;
      case H.H_MOV_AO:
        this.address(insn, 1 << size, false);
        this.load(insn, size);
        this.assign(0, size);
        return;
      case H.H_MOV_OA:
        this.address(insn, 1 << size, true);
        this.host(this.writeCache);
        this.value(0, size);
        this.storeOp(size);
        return;
      case H.H_LEA:
        this.effective(insn);
        if (size < 3) b.op(W.i32_wrap_i64);
        this.assign(insn.g, size);
        return;
      case H.H_MOVZX:
        this.source(insn, insn.sub);
        if (size === 3) b.op(W.i64_extend_i32_u);
        this.assign(insn.g, size);
        return;
      case H.H_MOVSX:
        this.source(insn, insn.sub);
        b.op(insn.sub === 0 ? W.i32_extend8_s : W.i32_extend16_s);
        if (size === 3) b.op(W.i64_extend_i32_s);
        this.assign(insn.g, size);
        return;
      case H.H_ARPL_MOVSXD:
        this.source(insn, size === 1 ? 1 : 2);
        if (size === 3) b.op(W.i64_extend_i32_s);
        this.assign(insn.g, size);
        return;
      case H.H_CBW:
        // From the next smaller size, within RAX.
        this.value(0, size - 1);
        if (size === 3) b.op(W.i64_extend_i32_s);
        else b.op(size === 2 ? W.i32_extend16_s : W.i32_extend8_s);
        this.assign(0, size);
        return;
      case H.H_CWD:
        this.value(0, size);
        if (size === 3) {
          b.i64(63);
          b.op(W.i64_shr_s);
        } else {
          if (size === 1) b.op(W.i32_extend16_s);
          b.i32(31);
          b.op(W.i32_shr_s);
        }
        this.assign(L.R_RDX * 8, size);
        return;
      case H.H_BSWAP:
        this.byteSwap(insn);
        return;
      case H.H_ALU_EG:
      case H.H_ALU_GE:
      case H.H_ALU_EI:
      case H.H_TEST_EG:
      case H.H_TEST_EI:
        this.alu(insn);
        return;
      case H.H_INC_E:
      case H.H_DEC_E:
        this.incDec(insn);
        return;
      case H.H_NOT_E:
        this.modify(insn, () => {
          if (size === 3) b.i64(-1);
          else b.i32(-1);
          this.sized(size, W.i64_xor, W.i32_xor);
        });
        return;
      case H.H_NEG_E:
        this.negate(insn);
        return;
      case H.H_SHIFT_EI:
        if (insn.sub < 4) this.rotate(insn);
        else this.shift(insn);
        return;
      case H.H_IMUL_GE:
      case H.H_IMUL_GEI:
        this.multiply(insn);
        return;
      case H.H_MUL_E:
        this.source(insn, 2);
        b.op(W.i64_extend_i32_u);
        this.value64(0, 2);
        b.op(W.i64_mul);
        b.set(T0);
        if (this.wanted) {
          // CF and OF: the upper half is not 0; SF and PF of the lower half.
          this.flagsToMemory();
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
        this.assign(0, 2);
        b.get(T0);
        b.i64(32);
        b.op(W.i64_shr_u, W.i32_wrap_i64);
        this.assign(L.R_RDX * 8, 2);
        return;
      case H.H_DIV_E:
      case H.H_IDIV_E:
        this.divide(insn);
        return;
      case H.H_BT_EG:
      case H.H_BT_EI:
        if (!this.wanted) return;
        this.flagsToMemory();
        b.i64(FLAG_CF);
        this.value64(insn.e, size);
        if (handler === H.H_BT_EI) b.i64(insn.immLo & ((8 << size) - 1));
        else {
          this.value64(insn.g, size);
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
        if (!this.wanted) return;
        this.flagsToMemory();
        b.i64(FLAG_CF);
        b.i64(handler === H.H_STC ? FLAG_CF : 0);
        b.call(F_SET_FLAG_BITS);
        return;
      case H.H_XADD: {
        this.address(insn, 1 << size, 'both');
        const [a, second] = [this.temp(size, 0), this.temp(size, 1)];
        this.load(insn, size);
        b.set(a);
        this.value(insn.g, size);
        b.set(second);
        this.host(this.writeCache);
        b.get(a);
        b.get(second);
        this.sized(size, W.i64_add, W.i32_add);
        this.storeOp(size);
        b.get(a);
        this.assign(insn.g, size);
        b.get(a);
        b.get(second);
        this.sized(size, W.i64_add, W.i32_add);
        b.set(a);
        this.clean(a, size);
        b.set(D);
        this.clean(second, size);
        b.set(S);
        return;
      }
      case H.H_CMPXCHG: {
        this.address(insn, 1 << size, 'both');
        const a = this.temp(size, 0);
        this.load(insn, size);
        b.set(a);
        this.value64(0, size);
        b.set(A);
        this.clean(a, size);
        b.set(S);
        // Memory is written in either case.
        this.host(this.writeCache);
        this.value(insn.g, size);
        b.get(a);
        b.get(A);
        b.get(S);
        b.op(W.i64_eq, W.select);
        this.storeOp(size);
        b.get(A);
        b.get(S);
        b.op(W.i64_ne, W.if, VOID);
        b.get(a);
        this.assign(0, size);
        b.op(W.end);
        return;
      }
      case H.H_SHIFT_ECL:
        this.shiftByCl(insn);
        return;
      case H.H_SETCC:
        if (memory) {
          this.address(insn, 1, true);
          this.condition(insn.sub);
          b.set(this.u1);
          this.host(this.writeCache);
          b.get(this.u1);
          this.storeOp(0);
        } else {
          this.condition(insn.sub);
          this.assign(insn.e, 0);
        }
        return;
      case H.H_CMOVCC:
        this.source(insn, size);
        b.set(this.temp(size, 0));
        this.condition(insn.sub);
        b.set(this.u1);
        b.get(this.temp(size, 0));
        this.value(insn.g, size);
        b.get(this.u1);
        b.op(W.select);
        this.assign(insn.g, size);
        return;
      case H.H_PUSH_I:
        this.push(size, () => b.i64Halves(insn.immLo, insn.immHi));
        return;
      case H.H_PUSH_E:
        if (memory) {
          this.source(insn, size);
          if (size < 3) b.op(W.i64_extend_i32_u);
          b.set(T1);
          this.push(size, () => b.get(T1));
        } else this.push(size, () => b.get(this.reg(insn.e >> 3)));
        return;
      case H.H_POP_E:
        this.stackPage(size, 'R', 0);
        this.moveStack(1 << size);
        this.loadAt(size, this.cache('R', L.R_RSP, L.R_ZERO, 0));
        this.assign(insn.e, size);
        return;
      case H.H_LEAVE: {
        // The frame pointer's page, as RBP is the stack pointer now.
        if (this.mode.code !== 2) {
          this.stackUsed = true;
          this.flatRead |= 1 << L.SEG_SS;
        }
        b.get(this.reg(L.R_RBP));
        if (this.mode.code !== 2) {
          b.i64(0xffffffff);
          b.op(W.i64_and);
        }
        b.set(LINEAR);
        const cache = this.cache('R', L.R_RBP, L.R_ZERO, 0);
        this.page(cache, 1 << size, false);
        this.loadAt(size, cache);
        this.assign(L.R_RBP * 8, size);
        b.get(LINEAR);
        b.i64(1 << size);
        b.op(W.i64_add);
        if (this.mode.code !== 2) {
          b.i64(0xffffffff);
          b.op(W.i64_and);
        }
        b.set(this.reg(L.R_RSP));
        this.written.add(L.R_RSP);
        return;
      }
      default:
        this.vector(insn);
    }
  }
}
