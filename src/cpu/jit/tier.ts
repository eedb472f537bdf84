/**
 * The second tier of the CPU core: hot guest code as WebAssembly. The interpreter counts how often control comes to an instruction and
 * tells of hot ones (core/tier.ts); here they are collected, translated in batches, and entered into the function table that core and
 * compiled code share. A record that says OP_ENTER is what makes the interpreter call one.
 *
 * Nothing the guest can see depends on it: compiled code takes the same steps, and whatever it does not know it leaves to the
 * interpreter, instruction by instruction. Compiled code of a page is forgotten with the page's records, and all of it when the table
 * is full.
 */

import { H_ALU_EG } from '../core/handlers.generated.ts';
import { SEG_CS } from '../core/layout.ts';
import * as R from '../core/record.ts';
import { FUNCTIONS, GLOBALS, type Mode } from './frame.ts';
import { type CodePage, findRegion, type Insn, isBrief, pageOf, type Region, readInsn } from './region.ts';
import { Translator } from './translate.ts';
import { Body, Bytes, I32, I64 } from './wasm.ts';

/** What the tier uses of the core. */
export interface TierCore {
  readonly execute: () => void;
  readonly condition: () => number;
  readonly settle: () => void;
  readonly productFlags: () => void;
  readonly setFlagBits: () => void;
  readonly fillTlb: () => number;
  readonly stringOp: () => void;
  readonly brk: WebAssembly.Global;
  readonly stepsLeft: WebAssembly.Global;
  readonly curRip: WebAssembly.Global;
  readonly nextRip: WebAssembly.Global;
  readonly tlb: WebAssembly.Global;
  readonly tlbVersion: WebAssembly.Global;
  readonly flatRead: WebAssembly.Global;
  readonly flatWrite: WebAssembly.Global;
  readonly stackMask: WebAssembly.Global;
  readonly codeMode: WebAssembly.Global;
  readonly generation: WebAssembly.Global;
  setHeat(every: number, step: number): void;
  recordOf(frame: number, offset: number): number;
  hotPage(): bigint;
  frameOf(linear: bigint): number;
  codeMapBase(): number;
  arenaBase(): number;
  tierBase(): number;
  dropsBase(): number;
  pageCachesBase(): number;
  flushCode(): void;
}

/** Functions that the table holds; all are dropped when it is full. The number of a slot has 16 bits. */
const CAPACITY = 8192;
/** Slots below are the core's own. */
const FIRST_SLOT = 16;
/** Control has come to an instruction this often: it is hot. */
const HOT = 64;
/** One arrival in so many is looked at. */
const EVERY = 16;
/** Hot instructions are translated together once there are this many, or one has waited for this many more arrivals. */
const BATCH = 24;
const PATIENCE = 4;
/** Translating takes so many milliseconds and beyond them this part of the time, whatever the guest does to have code translated. */
const ALLOWANCE = 500;
const SHARE = 1 / 4;
/** Bytes of modules between two times that all are dropped. What the host makes of a module takes about ten times as much memory. */
const MAX_BYTES = 24 << 20;

/** ADD [rAX], AL is what zeros look like: decoded ahead, but no code. */
function isPadding(insn: Insn): boolean {
  return (
    insn.memory && insn.handler === H_ALU_EG && insn.sub === 0 && insn.size === 0 && insn.base === 0 && insn.g === 0
  );
}

const COLD_STEPS = 2_000_000;
/** Some engine of the process has translated code. */
let translated = false;
/** Modules that all engines of the process hold. */
let modules = 0;
const abandoned = new FinalizationRegistry((live: { readonly modules: number }) => {
  modules -= live.modules;
});

interface Pending {
  readonly frame: number;
  readonly offset: number;
  /** Linear address of its page. */
  readonly linear: bigint;
}

interface Compiled {
  /** The dispatch number that OP_ENTER has taken the place of. */
  readonly op: number;
  /** It was translated to answer misses of the TLB by a call (Mode.fills), and with code of other pages. */
  readonly fills: boolean;
  readonly wide: boolean;
}

export interface TierStatistics {
  readonly modules: number;
  readonly functions: number;
  readonly bytes: number;
  readonly flushes: number;
  readonly milliseconds: number;
}

/** Pages of a region, and how far one may be from the first. */
const MAX_PAGES = 8;
const FAR = 1 << 18;

/** Instructions before one that leaves the guest or the region that are too few to pay for going into compiled code and back. */
const SOON = 8;
const leavesSoon = ({ entry }: Region): boolean => entry.transfer === 'leave' && entry.insns.length <= SOON;

export class Tier {
  /** So many modules V8 is trusted with: each takes a memory mapping, of which a process has 65,530. */
  static maxModules = 12_000;
  readonly #core: TierCore;
  readonly #table: WebAssembly.Table;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #imports: WebAssembly.Imports;
  readonly #forced: boolean;
  readonly #pending: Pending[] = [];
  /** By slot. */
  readonly #compiled: Compiled[] = [];
  readonly #live = { modules: 0 };
  #generation: number;
  #used = 0;
  #modules = 0;
  #functions = 0;
  #bytes = 0;
  #flushes = 0;
  #milliseconds = 0;
  readonly #begin = performance.now();
  /** Of #bytes, those of modules that have been dropped. */
  #dropped = 0;

  /** `forced`: everything is translated when control first comes to it. */
  constructor(core: TierCore, memory: WebAssembly.Memory, table: WebAssembly.Table, forced: boolean) {
    this.#core = core;
    this.#table = table;
    this.#forced = forced;
    this.#u8 = new Uint8Array(memory.buffer);
    this.#i32 = new Int32Array(memory.buffer);
    this.#u32 = new Uint32Array(memory.buffer);
    this.#generation = core.generation.value;
    abandoned.register(this, this.#live);
    const env: Record<string, WebAssembly.ExportValue> = { memory };
    for (const name of FUNCTIONS) env[name] = core[name];
    for (const name of GLOBALS) env[name] = core[name];
    this.#imports = { env };
  }

  /** Has the core count arrivals. */
  static start(core: TierCore, forced: boolean): void {
    if (forced) core.setHeat(1, 1);
    else core.setHeat(EVERY, HOT);
  }
  /**
   * Steps that an engine executes before that. The first translation of a process takes as long as a million or two of them, as the
   * translator's own code is slow then; a program that ends before is better off without.
   */
  static get patience(): number {
    return translated ? 0 : COLD_STEPS;
  }

  get statistics(): TierStatistics {
    return {
      modules: this.#modules,
      functions: this.#functions,
      bytes: this.#bytes,
      flushes: this.#flushes,
      milliseconds: this.#milliseconds,
    };
  }

  /** Called by the core within a run: see core/tier.ts. */
  hot(frame: number, offset: number, count: number): void {
    if (this.#core.generation.value !== this.#generation) this.#forget();
    const begin = performance.now();
    const place = { frame, offset, linear: this.#core.hotPage() };
    const spent = this.#milliseconds > ALLOWANCE + (begin - this.#begin) * SHARE;
    if (!this.#forced && spent && count !== R.HOT_LEAVES) {
      if (count > 0) this.#later(place);
      return;
    }
    try {
      if (count === R.HOT_LEADS) this.#widen(place);
      else if (count < 0) this.#again(place, count === R.HOT_LEAVES);
      else if (this.#due(place, count)) this.#translate();
    } catch (error) {
      // A guest that the translator stumbles over is interpreted; tests want to know.
      if (this.#forced) throw error;
      this.#core.setHeat(0, 1);
    }
    this.#milliseconds += performance.now() - begin;
  }

  /** Has an instruction become hot anew: a count that has reached its end would not be told of again. */
  #later(place: Pending): void {
    const record = this.#recordOf(place);
    if (record === 0) return;
    const word = this.#tierWord(record);
    this.#u8[word] = 0;
    this.#u8[word + 1] = 0;
  }

  /** Notes a hot instruction; true if it is time to translate what has been noted. */
  #due(place: Pending, count: number): boolean {
    const { frame, offset } = place;
    if (this.#forced) {
      this.#pending.push(place);
      return true;
    }
    // Code that is rewritten again and again is not worth the trouble.
    const drops = this.#u8[(this.#core.dropsBase() >>> 0) + frame];
    const due = HOT << Math.min(drops, 9);
    if (count < due) return false;
    if (!this.#pending.some((p) => p.frame === frame && p.offset === offset)) this.#pending.push(place);
    return this.#pending.length >= BATCH || count >= Math.min(due * PATIENCE, 0x8000);
  }

  #forget(): void {
    this.#generation = this.#core.generation.value;
    this.#pending.length = 0;
    for (let i = 0; i < this.#used; i++) this.#table.set(FIRST_SLOT + i, null);
    this.#used = 0;
    modules -= this.#live.modules;
    this.#live.modules = 0;
    this.#dropped = this.#bytes;
    this.#flushes++;
  }

  #mode(fills: boolean): Mode {
    const core = this.#core;
    const code = core.codeMode.value as number;
    return {
      code,
      flatRead: core.flatRead.value,
      flatWrite: core.flatWrite.value,
      fullStack: code === 2 || core.stackMask.value === 0xffffffffn,
      fills,
      caches: core.pageCachesBase() >>> 0,
    };
  }

  /** The decoded page of a page frame for code of a size; none if there is none. */
  #page(frame: number, code: number): CodePage | undefined {
    const cell = (this.#core.codeMapBase() >>> 0) + (frame * 3 + code) * 4;
    const page = this.#u32[cell >> 2];
    return page === 0 ? undefined : { frame, page, cell };
  }

  /** The region from a place on, of code of the current size; `wide`: of several pages. */
  #region({ frame, offset, linear }: Pending, code: number, wide: boolean): Region | undefined {
    const first = this.#page(frame, code);
    if (first === undefined || this.#recordAt(first, offset) === 0) return undefined;
    const width = code === 2 ? 64 : 32;
    // Elsewhere a linear address is not the instruction pointer.
    const flat = code === 2 || (code === 1 && (this.#core.flatRead.value & (1 << SEG_CS)) !== 0);
    const pages = new Map([[0, first]]);
    const unknown = new Set<number>();
    const pageAt = (n: number): CodePage | undefined => {
      const known = pages.get(n);
      if (known !== undefined || !wide || !flat || pages.size >= MAX_PAGES || unknown.has(n)) return known;
      const there = Math.abs(n) > FAR ? -1 : this.#core.frameOf(BigInt.asUintN(width, linear + BigInt(n) * 4096n));
      const found = there < 0 ? undefined : this.#page(there, code);
      if (found === undefined) unknown.add(n);
      else pages.set(n, found);
      return found;
    };
    const recordAt = (at: number): number => {
      const page = pageAt(pageOf(at));
      const record = page === undefined ? 0 : this.#recordAt(page, at & 4095);
      // What has never run may never run.
      if (record !== 0 || page === undefined || !this.#forced) return record;
      return this.#core.recordOf(page.frame, at & 4095) >>> 0;
    };
    const insnAt = (at: number): Insn | undefined => {
      const record = recordAt(at);
      if (record === 0) return undefined;
      const insn = readInsn(this.#u8, this.#i32, record, at);
      if (insn.op === R.OP_CROSS || insn.op === R.OP_HOOK || insn.op === R.OP_NEXT) return undefined;
      return insn.length === 2 && isPadding(insn) ? undefined : insn;
    };
    const warm = (at: number): boolean => {
      const record = recordAt(at);
      if (record === 0 || this.#forced) return record !== 0;
      const word = this.#tierWord(record);
      return this.#isEntry(record) || (this.#u8[word] | this.#u8[word + 1]) !== 0;
    };
    return findRegion(offset, pages, insnAt, warm);
  }

  /** The record at an offset of a decoded page, 0 if there is none. */
  #recordAt({ page }: CodePage, offset: number): number {
    return this.#u32[(page + R.PAGE_RECORDS + offset * 4) >> 2];
  }

  #translate(): void {
    const todo: { record: number; fills: boolean; body: Bytes }[] = [];
    for (const place of this.#pending.splice(0)) {
      // Where everything is to be tried, both ways to answer a miss are.
      const fills = this.#forced && (place.offset & 1) !== 0;
      const mode = this.#mode(fills);
      const region = this.#region(place, mode.code, this.#forced);
      if (region === undefined || (!this.#forced && leavesSoon(region))) continue;
      const { record } = region.entry.insns[0];
      if (this.#isEntry(record)) continue;
      if (!this.#forced && isBrief(region)) {
        // A count that never reaches another multiple.
        this.#u8.fill(0xff, this.#tierWord(record), this.#tierWord(record) + 2);
        continue;
      }
      todo.push({ record, fills, body: new Translator(region, mode).translate() });
    }
    if (todo.length === 0) return;
    if (this.#used + todo.length >= CAPACITY || this.#bytes - this.#dropped > MAX_BYTES) {
      this.#core.flushCode();
      this.#forget();
      return;
    }
    const functions = this.#instantiate(todo.map(({ body }) => body));
    if (functions.length === 0) return;
    for (const [i, { record, fills }] of todo.entries()) {
      const slot = this.#slot();
      this.#table.set(slot, functions[i]);
      const word = this.#tierWord(record);
      this.#u8[word] = 0;
      this.#u8[word + 1] = 0;
      this.#u8[word + 2] = slot & 0xff;
      this.#u8[word + 3] = slot >> 8;
      this.#compiled[slot] = { op: this.#u8[record + R.REC_OP], fills, wide: this.#forced };
      this.#u8[record + R.REC_OP] = R.OP_ENTER;
      this.#u8[record + R.REC_OP + 1] = 0;
    }
  }

  /** Translates once more what misses the TLB too often, or leaves it to the interpreter for good. */
  #again(place: Pending, enough: boolean): void {
    const slot = this.#slotAt(place);
    if (slot === undefined) return;
    if (enough) {
      const record = this.#recordOf(place);
      const word = this.#tierWord(record);
      this.#u8[record + R.REC_OP] = this.#compiled[slot].op;
      this.#u8.fill(0xff, word, word + 2);
      return;
    }
    this.#replace(place, slot, { ...this.#compiled[slot], fills: true });
  }

  /** Translates once more what often leads out of its page, with the code that it leads to. */
  #widen(place: Pending): void {
    const slot = this.#slotAt(place);
    if (slot === undefined || this.#compiled[slot].wide) return;
    this.#replace(place, slot, { ...this.#compiled[slot], wide: true });
  }

  #replace(place: Pending, slot: number, how: Compiled): void {
    const mode = this.#mode(how.fills);
    const region = this.#region(place, mode.code, how.wide);
    this.#compiled[slot] = how;
    if (region === undefined) return;
    const [made] = this.#instantiate([new Translator(region, mode).translate()]);
    if (made !== undefined) this.#table.set(slot, made);
  }

  /** The slot of the compiled code that starts at a place. */
  #slotAt(place: Pending): number | undefined {
    const record = this.#recordOf(place);
    if (record === 0 || !this.#isEntry(record)) return undefined;
    const word = this.#tierWord(record);
    return this.#u8[word + 2] | (this.#u8[word + 3] << 8);
  }
  #recordOf({ frame, offset }: Pending): number {
    const page = this.#page(frame, this.#core.codeMode.value);
    return page === undefined ? 0 : this.#recordAt(page, offset);
  }

  #isEntry(record: number): boolean {
    return this.#u8[record + R.REC_OP] === R.OP_ENTER && this.#u8[record + R.REC_OP + 1] === 0;
  }
  #tierWord(record: number): number {
    return (this.#core.tierBase() >>> 0) + (record - (this.#core.arenaBase() >>> 0)) / 8;
  }
  /**
   * The functions of a new module; none if there is no room for one. An engine that has modules drops them then and begins anew, any other
   * translates nothing any more.
   */
  #instantiate(bodies: readonly Bytes[]): WebAssembly.ExportValue[] {
    if (modules >= Tier.maxModules && this.#live.modules > 0) {
      this.#core.flushCode();
      this.#forget();
      return [];
    }
    let instance: WebAssembly.Instance;
    try {
      if (modules >= Tier.maxModules) throw new RangeError('too many modules');
      instance = new WebAssembly.Instance(this.#module(bodies), this.#imports);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#core.setHeat(0, 1);
      return [];
    }
    translated = true;
    modules++;
    this.#live.modules++;
    this.#modules++;
    this.#functions += bodies.length;
    return bodies.map((_, i) => instance.exports[`f${i}`] as WebAssembly.ExportValue);
  }

  #slot(): number {
    const slot = FIRST_SLOT + this.#used++;
    if (slot >= this.#table.length) this.#table.grow(64);
    return slot;
  }

  #module(bodies: readonly Bytes[]): WebAssembly.Module {
    const out = new Bytes();
    for (const byte of [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]) out.u8(byte);
    const section = (id: number, fill: (s: Body) => void): void => {
      const s = new Body();
      fill(s);
      out.u8(id);
      out.sized(s);
    };
    // Types of the imports in their order, then of compiled functions.
    section(1, (s) => {
      s.u32(FUNCTIONS.length + 1);
      s.op(0x60, 1, I32, 0);
      s.op(0x60, 1, I32, 1, I32);
      s.op(0x60, 0, 0);
      s.op(0x60, 3, I64, I64, I32, 0);
      s.op(0x60, 2, I64, I64, 0);
      s.op(0x60, 3, I64, I32, I32, 1, I32);
      s.op(0x60, 1, I32, 0);
      s.op(0x60, 2, I32, I64, 1, I32);
    });
    section(2, (s) => {
      const module = (name: string): void => {
        s.name('env');
        s.name(name);
      };
      s.u32(1 + FUNCTIONS.length + GLOBALS.length);
      module('memory');
      s.op(2, 0);
      s.u32(1);
      for (const [i, name] of FUNCTIONS.entries()) {
        module(name);
        s.op(0);
        s.u32(i);
      }
      for (const name of GLOBALS) {
        module(name);
        const wide = name === 'curRip' || name === 'nextRip' || name === 'tlbVersion' || name === 'stackMask';
        s.op(3, wide ? I64 : I32, 1);
      }
    });
    section(3, (s) => {
      s.u32(bodies.length);
      for (let i = 0; i < bodies.length; i++) s.u32(FUNCTIONS.length);
    });
    section(7, (s) => {
      s.u32(bodies.length);
      for (let i = 0; i < bodies.length; i++) {
        s.name(`f${i}`);
        s.op(0);
        s.u32(FUNCTIONS.length + i);
      }
    });
    section(10, (s) => {
      s.u32(bodies.length);
      for (const body of bodies) s.sized(body);
    });
    this.#bytes += out.length;
    return new WebAssembly.Module(out.view());
  }
}
