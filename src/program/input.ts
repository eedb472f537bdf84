/** The stack of what is being read: files, macro bodies, repetitions. */
import type { Call, Context } from './layout.ts';
import { SourceFault, type Statement } from './lexer.ts';

export const INCLUDE_DEPTH = 32;
export const MACRO_DEPTH = 100;
/** Statements that one assembly may read, expansions included; more is taken for a mistake. */
export const STATEMENT_LIMIT = 500_000;

interface Frame {
  readonly kind: 'file' | 'macro' | 'repeat';
  readonly file: string;
  statements: readonly Statement[];
  position: number;
  readonly call: Call | undefined;
  /** Conditions that were open when the frame was entered. */
  readonly conditions: number;
  /** The next round of a repetition; undefined if there is none. */
  readonly again: (() => readonly Statement[] | undefined) | undefined;
}

export class Input {
  readonly #frames: Frame[] = [];
  #read = 0;

  get depth(): number {
    return this.#frames.length;
  }

  /** Conditions that belong to frames outside of the current one. */
  get outerConditions(): number {
    return this.#top?.conditions ?? 0;
  }

  get #call(): Call | undefined {
    return this.#top?.call;
  }

  /** The file in which the statements that are being read stand. */
  get file(): string {
    return this.#frames.findLast((frame) => frame.kind === 'file')?.file ?? '';
  }

  get #top(): Frame | undefined {
    return this.#frames[this.#frames.length - 1];
  }

  pushFile(file: string, statements: readonly Statement[], conditions: number): void {
    const depth = this.#frames.filter((frame) => frame.kind === 'file').length;
    if (depth > INCLUDE_DEPTH) throw new SourceFault(`.include is nested more than ${INCLUDE_DEPTH} deep`, 0);
    this.#frames.push({ kind: 'file', file, statements, position: 0, call: this.#call, conditions, again: undefined });
  }

  pushMacro(macro: string, statement: Statement, statements: readonly Statement[], conditions: number): void {
    const outer = this.#call;
    const depth = (outer?.depth ?? 0) + 1;
    if (depth > MACRO_DEPTH) throw new SourceFault(`macros call each other more than ${MACRO_DEPTH} deep`, 0);
    const call = { macro, statement, outer, depth };
    this.#frames.push({ kind: 'macro', file: this.file, statements, position: 0, call, conditions, again: undefined });
  }

  pushRepeat(again: () => readonly Statement[] | undefined, conditions: number): void {
    if (this.#frames.length > MACRO_DEPTH + INCLUDE_DEPTH) throw new SourceFault('repetitions are nested too deep', 0);
    const statements = again();
    if (statements === undefined) return;
    this.#frames.push({
      kind: 'repeat',
      file: this.file,
      statements,
      position: 0,
      call: this.#call,
      conditions,
      again,
    });
  }

  /** Leaves the innermost macro; false if there is none. */
  leaveMacro(): boolean {
    const index = this.#frames.findLastIndex((frame) => frame.kind === 'macro');
    if (index < 0) return false;
    this.#frames.length = index + 1;
    this.#frames[index].position = this.#frames[index].statements.length;
    return true;
  }

  /** Drops everything that is still to be read. */
  stop(): void {
    this.#frames.length = 0;
  }

  /** The next statement, or undefined at the end of the current frame (`leave` it then) or of everything. */
  next(): Context | undefined {
    const frame = this.#top;
    if (frame === undefined || frame.position >= frame.statements.length) return undefined;
    this.#count();
    return { statement: frame.statements[frame.position++], call: frame.call, order: this.#read };
  }

  /** Leaves the current frame at its end, or starts the next round of a repetition. */
  leave(): void {
    const frame = this.#top!;
    const statements = frame.again?.();
    // A round without statements still counts, so that empty repetitions end.
    this.#count();
    if (statements === undefined) this.#frames.pop();
    else {
      frame.statements = statements;
      frame.position = 0;
    }
  }

  #count(): void {
    if (++this.#read <= STATEMENT_LIMIT) return;
    throw new SourceFault(`more than ${STATEMENT_LIMIT} statements after expansion`, 0);
  }
}
