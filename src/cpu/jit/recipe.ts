/**
 * Flags that a loop of one block need not carry from one iteration to the next: where its last instructions leave the operands in registers, the
 * registers tell what the flags were at the start of the block, for whoever leaves before they are set anew. As locals they would cost each
 * iteration a few steps and the host registers.
 */
import * as H from '../core/handlers.generated.ts';
import { ADD, CC_ADD, CC_DEC, CC_INC, CC_SUB, CMP, cc, type Flags, SUB } from './frame.ts';
import { type Block, type Insn, targetOf } from './region.ts';
import { isVector, writtenByVector } from './vectors.ts';

export interface Recipe {
  /** The operation, whose operands or result are still in registers. */
  readonly kind: Flags;
  readonly last: Insn;
  /** For INC and DEC: what set CF. */
  readonly carry: Insn | undefined;
}

/** Registers that an instruction writes which neither sets nor looks at flags; undefined for others. */
function neutral(insn: Insn): readonly number[] | undefined {
  switch (insn.handler) {
    case H.H_NOP:
      return [];
    case H.H_MOV_EG:
    case H.H_MOV_EI:
      return insn.memory ? [] : [insn.e >> 3];
    case H.H_MOV_GE:
    case H.H_MOVZX:
    case H.H_MOVSX:
    case H.H_ARPL_MOVSXD:
    case H.H_LEA:
      return [insn.g >> 3];
    default:
      return isVector(insn) ? writtenByVector(insn) : undefined;
  }
}

/** Byte offsets of the registers of an addition, subtraction or comparison; the second one undefined if it is an immediate. */
export function operandsOf(insn: Insn): { first: number; second: number | undefined } {
  if (insn.handler === H.H_ALU_GE) return { first: insn.g, second: insn.e };
  return { first: insn.e, second: insn.handler === H.H_ALU_EG ? insn.g : undefined };
}

const isStep = ({ handler, memory, size }: Insn): boolean =>
  (handler === H.H_INC_E || handler === H.H_DEC_E) && !memory && size >= 2;
const isSum = ({ handler, memory, size, sub }: Insn): boolean =>
  (handler === H.H_ALU_EG || handler === H.H_ALU_GE || handler === H.H_ALU_EI) &&
  !memory &&
  size >= 2 &&
  (sub === ADD || sub === SUB || sub === CMP);

/** The operands, or the result and the second operand, are still there although `written` has been written since. */
function remains(insn: Insn, written: ReadonlySet<number>): boolean {
  const { first, second } = operandsOf(insn);
  if (written.has(first >> 3)) return false;
  return second === undefined || (!written.has(second >> 3) && (insn.sub === CMP || second >> 3 !== first >> 3));
}

/** The recipe at the start of a block that goes back to itself. `native`: emitted; `kills`: sets all flags, and looks at none. */
export function recipeOf(
  block: Block,
  native: (insn: Insn) => boolean,
  kills: (insn: Insn) => boolean,
): Recipe | undefined {
  const { insns } = block;
  const end = insns.length - 1;
  if (block.transfer !== 'branch' || targetOf(insns[end]) !== block.at || !insns.every(native)) return undefined;
  const found = behind(insns.slice(0, end));
  if (found === undefined) return undefined;
  const needed = new Set<number>();
  for (const insn of [found.last, found.carry]) {
    if (insn === undefined) continue;
    const { first, second } = operandsOf(insn);
    needed.add(first >> 3);
    if (second !== undefined && !isStep(insn)) needed.add(second >> 3);
  }
  for (const insn of insns) {
    if (kills(insn)) return found;
    const written = neutral(insn);
    if (written === undefined || written.some((r) => needed.has(r))) return undefined;
  }
  return undefined;
}

/** Of instructions, those from which the flags behind them can be told. */
function behind(insns: readonly Insn[]): Recipe | undefined {
  const written = new Set<number>();
  let last: Insn | undefined;
  for (const insn of [...insns].reverse()) {
    if (isSum(insn)) {
      if (!remains(insn, written)) return undefined;
      if (last !== undefined) return { kind: kindOf(last), last, carry: insn };
      return { kind: cc(insn.sub === ADD ? CC_ADD : CC_SUB, insn.size), last: insn, carry: undefined };
    }
    if (isStep(insn)) {
      if (last === undefined) {
        if (written.has(insn.e >> 3)) return undefined;
        last = insn;
      }
      written.add(insn.e >> 3);
      continue;
    }
    const writes = neutral(insn);
    if (writes === undefined) return undefined;
    for (const r of writes) written.add(r);
  }
  return undefined;
}
const kindOf = ({ handler, size }: Insn): Flags => cc(handler === H.H_INC_E ? CC_INC : CC_DEC, size);
