/**
 * What holds in every version of KVM, so that one side is enough: the result of SEND_IPI is the number of vCPUs that show something, nobody
 * changes who is not named, no register changes but those an instruction writes. (That the fastpath has the effect of the slow path, and
 * that a case twice is the same outcome twice, takes another execution: `block.ts`.)
 */
import * as SLOTS from '../lapic-slots.ts';
import { isBroadcastLike, mayReachLogical } from './addressed.ts';
import { performers, stepName } from './compare.ts';
import type { Target } from './target.ts';
import {
  type Case,
  LIGHT_WORDS,
  OP,
  type Outcome,
  RESULT_HI,
  RESULT_LO,
  RESULT_SPOILED,
  RESULT_STATUS,
  RESULT_WORDS,
  STATUS_NEXT,
  STEP_ARGS,
  STEP_OP,
  STEP_VCPU,
  VCPU_WORDS,
  WORD_CS,
  WORD_INIT,
  WORD_KICK,
  WORD_MP,
  WORD_NMI,
  WORD_SIPI,
  WORD_SMI,
} from './types.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const { SLOT_IRR } = SLOTS;
const MSR_ICR = 0x830;
const NR_SEND_IPI = 10;
const MODE_SHIFT = 8;
const ICR_LOGICAL = 0x800;
const SHORTHAND_SHIFT = 18;
const HALTED = 3;

/** Empty, or which rule a case broke and how. */
export class Invariants {
  readonly #target: Target;
  readonly #ids: readonly number[];
  readonly #wide: boolean;

  constructor(target: Target) {
    this.#target = target;
    const { topology } = target;
    this.#ids = topology.ids ?? Array.from({ length: topology.vcpus }, (_, index) => index);
    this.#wide = topology.mode === 'long64';
  }

  /** Cheap enough for every case. */
  broken(test: Case, outcome: Outcome): string {
    for (let step = 0; step < outcome.steps; step++) {
      if (outcome.results[step * RESULT_WORDS + RESULT_SPOILED] !== 0)
        return `${stepName(test, step)} changes registers that it must not change`;
    }
    if (test.length !== 1 || outcome.end !== '') return '';
    const op = test.words[STEP_OP];
    if (op === OP.call && test.words[STEP_ARGS] === NR_SEND_IPI && test.words[STEP_ARGS + 1] === 0)
      return this.#sendIpi(test, outcome);
    if (op === OP.wrmsr && test.words[STEP_ARGS] === MSR_ICR)
      return this.#icr(test, outcome, test.words[STEP_ARGS + 3]);
    if (op === OP.icrStores) return this.#icr(test, outcome, test.words[STEP_ARGS + 3] >>> 24);
    return '';
  }

  #sendIpi(test: Case, outcome: Outcome): string {
    const { words } = test;
    const { results, touched } = outcome;
    if (results[RESULT_STATUS] !== STATUS_NEXT) return '';
    const count = results[RESULT_LO];
    // Negative: an error, and nothing is sent.
    const failed = count >= 0xfffff000;
    if (!failed && results[RESULT_HI] !== 0) return 'SEND_IPI returns a count beyond 32 bits';
    const width = this.#wide ? 64 : 32;
    const min = words[STEP_ARGS + 6];
    const low = words[STEP_ARGS + 8];
    const mode = (low >>> MODE_SHIFT) & 7;
    const sender = words[STEP_VCPU];
    let shown = 0;
    for (let vcpu = 0; vcpu < touched.length; vcpu++) {
      if (touched[vcpu] === 0) continue;
      const shows = this.#shows(outcome, vcpu, mode, low & 0xff);
      if (shows) shown++;
      if (!shows && !(vcpu !== sender && this.#changed(outcome, vcpu))) continue;
      if (failed) return 'SEND_IPI returns an error and yet sends';
      if (!this.#named(words, this.#ids[vcpu], min, width) && !this.#aliases(words, vcpu, min, width))
        return 'SEND_IPI reaches an APIC id that its bitmaps do not name';
    }
    if (failed || this.#target.topology.apic === 'none') return '';
    return shown === count ? '' : 'the result of SEND_IPI is not the number of targets that accepted';
  }

  /** Whether the bitmaps name an APIC id; ids count modulo 2^32. */
  #named(words: Uint32Array, id: number, min: number, width: number): boolean {
    for (const [first, base] of [
      [STEP_ARGS + 2, min],
      [STEP_ARGS + 4, min + width],
    ]) {
      const bit = (id - base) >>> 0;
      if (bit < width && ((words[first + (bit >>> 5)] >>> (bit & 31)) & 1) === 1) return true;
    }
    return false;
  }

  /** In xAPIC mode an APIC is known by the 8 bits of its id register. */
  #aliases(words: Uint32Array, vcpu: number, min: number, width: number): boolean {
    return this.#target.topology.apic !== 'x2apic' && this.#named(words, this.#ids[vcpu] & 0xff, min, width);
  }

  /** Whether one vCPU shows that it took a message of this mode. */
  #shows(outcome: Outcome, vcpu: number, mode: number, vector: number): boolean {
    const at = vcpu * VCPU_WORDS;
    const { state } = outcome;
    switch (mode) {
      case 0:
      case 1:
        return ((state[at + SLOT_IRR + (vector >> 5)] >>> (vector & 31)) & 1) === 1;
      case 2:
        return state[at + WORD_SMI] !== 0;
      case 3:
        return state[at + WORD_KICK] !== 0;
      case 4:
        return state[at + WORD_NMI] !== 0;
      case 5:
        return state[at + WORD_INIT] !== 0;
      case 6:
        return state[at + WORD_SIPI] !== 0;
      default:
        return false;
    }
  }

  /** `performs`: it executes a step, so that it does not sleep as at the start. */
  #changed(outcome: Outcome, vcpu: number, performs = false): boolean {
    const at = vcpu * VCPU_WORDS;
    const { start } = this.#target;
    if (outcome.light) {
      for (let i = 0; i < LIGHT_WORDS.length; i++) {
        const word = LIGHT_WORDS[i];
        if (outcome.state[at + word] !== start[at + word]) return true;
      }
      return false;
    }
    for (let word = 0; word < VCPU_WORDS; word++) {
      if (outcome.state[at + word] === start[at + word]) continue;
      // A PV kick shows as the end of a halt.
      if (word === WORD_MP && (performs || start[at + word] === HALTED)) continue;
      // The handler of a fault may have another code segment.
      if (word !== WORD_CS || !performs) return true;
    }
    return false;
  }

  /** An ICR write changes nobody who cannot be meant by any reading of its destination. */
  #icr(test: Case, outcome: Outcome, dest: number): string {
    const low = test.words[STEP_ARGS + 2];
    const sender = test.words[STEP_VCPU];
    const refused = outcome.results[RESULT_STATUS] !== STATUS_NEXT;
    const shorthand = (low >>> SHORTHAND_SHIFT) & 3;
    for (let vcpu = 0; vcpu < outcome.touched.length; vcpu++) {
      if (outcome.touched[vcpu] === 0 || vcpu === sender || !this.#changed(outcome, vcpu)) continue;
      if (refused) return 'an ICR write is refused and yet sends';
      if (shorthand >= 2) continue;
      if (shorthand === 1) return 'an ICR write to self reaches another vCPU';
      if (isBroadcastLike(dest)) continue;
      const id = this.#ids[vcpu];
      if (
        (low & ICR_LOGICAL) !== 0
          ? mayReachLogical(id, dest, this.#target.start, vcpu)
          : dest === id || dest === (id & 0xff)
      )
        continue;
      return 'an ICR write reaches a vCPU that its destination does not name';
    }
    if (!refused || performers(test).size !== 1) return '';
    return outcome.touched[sender] === 1 && this.#changed(outcome, sender, true)
      ? 'an ICR write is refused and yet changes the sender'
      : '';
  }
}
