/** The CPU core under test, set up as Linux sets up a user process: CPL 3, same addresses, same selectors. Every exception is an exit. */

import * as L from '../../../src/cpu/core/layout.ts';
import type { Cpu, CpuState, Vendor } from '../../../src/cpu/cpu.ts';
import type { Exit } from '../../../src/cpu/exit.ts';
import { registerByName } from '../../../src/cpu/registers.ts';
import { WasmCpu } from '../../../src/cpu/wasm-cpu.ts';
import { FX_BYTES, FX_FCW, FX_FDP, FX_FIP, FX_FOP, FX_FSW, FX_FTW, FX_MXCSR, FX_ST, FX_XMM } from './fp-values.ts';
import {
  type Blank,
  CODE,
  CODE_BYTES,
  CODE16,
  DATA,
  DONE,
  type Fault,
  FS_BASE,
  GS_BASE,
  type Image,
  LONG,
  type Mode,
  type NativeCase,
  type Outcome,
  PAGE,
  READONLY,
  SEGMENTS16,
  STACK,
  WORDS,
} from './layout.ts';
import { features } from './processor.ts';

const id = (name: string): number => registerByName(name)!.id;
const RIP = id('rip');
const RFLAGS = id('rflags');
const TF = 0x100;

/** Frames of the linear pages; neighbours in linear space are not neighbours here. */
const FRAMES: readonly (readonly [linear: number, physical: number, flags: number])[] = [
  [CODE, 0x20000, 5],
  [CODE + PAGE, 0x22000, 5],
  [DATA, 0x24000, 7],
  [DATA + PAGE, 0x26000, 7],
  [READONLY, 0x28000, 5],
  [STACK, 0x2a000, 7],
];
/** The GDT and TSS are in the kernel's half, where Linux reports every page as present. */
const GDT = 0xffff800000000000n;
const GDT_FRAME = 0x2c000;
/** Its I/O permission map begins behind its limit: no port is allowed. */
const TSS = GDT + 0x800n;
/** Linux's user descriptors (arch/x86/kernel/cpu/common.c): 0x23 code32, 0x2b data, 0x33 code64. */
const DESCRIPTORS: readonly (readonly [number, bigint])[] = [
  [0x20, 0x00cffb000000ffffn],
  [0x28, 0x00cff3000000ffffn],
  [0x30, 0x00affb000000ffffn],
];

/** After FNINIT. */
const FRESH = new Uint8Array(FX_BYTES);
FRESH.set([0x7f, 3], FX_FCW);
FRESH.set([0x80, 0x1f], FX_MXCSR);

export class Model {
  readonly #cpu: Cpu;
  readonly #state: CpuState;
  readonly #mode: Mode;
  readonly #image: Image;
  readonly #words: { readonly linear: number; readonly now: Uint32Array; readonly was: Uint32Array }[];
  #dirtyAt = 0;
  #dirtyLength = 0;

  constructor(mode: Mode, vendor: Vendor, image: Image) {
    this.#cpu = WasmCpu.createSync({ vcpus: 1, memory: 0x40000, vendor });
    this.#state = this.#cpu.vcpu(0);
    // Bases are as wide as the linear addresses that the processor knows.
    if (!features().has('la57')) this.#state.put(L.S_MAXLINADDR, 48n);
    this.#mode = mode;
    this.#image = image;
    const { memory } = this.#cpu;
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    view.setBigUint64(0x1000, 0x2007n, true);
    view.setBigUint64(0x2000, 0x3007n, true);
    [0x80, 0x100, 0x180].forEach((entry, n) => {
      view.setBigUint64(0x3000 + entry * 8, BigInt(0x4007 + n * PAGE), true);
    });
    for (const [linear, physical, flags] of FRAMES) {
      const table = 0x4000 + ((linear >>> 28) - 1) * PAGE;
      view.setBigUint64(table + ((linear >>> 12) & 511) * 8, BigInt(physical | flags), true);
    }
    view.setBigUint64(0x1800, 0x7003n, true);
    view.setBigUint64(0x7000, 0x8003n, true);
    view.setBigUint64(0x8000, 0x9003n, true);
    view.setBigUint64(0x9000, BigInt(GDT_FRAME | 3), true);
    view.setUint16(GDT_FRAME + 0x866, 0x68, true);
    for (const [selector, value] of DESCRIPTORS) view.setBigUint64(GDT_FRAME + selector, value, true);
    this.#words = (
      [
        [DATA, image.data.subarray(0, PAGE)],
        [DATA + PAGE, image.data.subarray(PAGE)],
        [STACK, image.stack],
      ] as const
    ).map(([linear, was]) => ({
      linear,
      now: new Uint32Array(memory.buffer, memory.byteOffset + this.#physical(linear), PAGE / 4),
      was: new Uint32Array(was.buffer, was.byteOffset, PAGE / 4),
    }));
    this.#setup();
  }

  #physical(linear: number): number {
    const frame = FRAMES.find(([at]) => at === (linear & ~(PAGE - 1)));
    if (!frame) throw new RangeError(`0x${linear.toString(16)} is not mapped`);
    return frame[1] + (linear & (PAGE - 1));
  }
  #put(values: Readonly<Record<string, bigint | number>>): void {
    for (const [name, value] of Object.entries(values)) this.#state.put(id(name), BigInt(value));
  }
  #segment(name: string, selector: number, base: bigint | number, limit: number, attr: number): void {
    this.#put({ [name]: selector, [`${name}_base`]: base, [`${name}_limit`]: limit, [`${name}_attr`]: attr });
  }
  #setup(): void {
    const { memory } = this.#cpu;
    memory.fill(0xcc, 0x20000, 0x20000 + PAGE);
    memory.fill(0xcc, 0x22000, 0x22000 + PAGE);
    memory.set(this.#image.data.subarray(0, PAGE), this.#physical(DATA));
    memory.set(this.#image.data.subarray(PAGE), this.#physical(DATA + PAGE));
    memory.set(this.#image.readonly, this.#physical(READONLY));
    memory.set(this.#image.stack, this.#physical(STACK));
    this.#put({
      cr0: 0x80050033,
      cr3: 0x1000,
      // As Linux sets it on a processor with everything the core has; XCR0 as far as that goes.
      cr4: 0x506f0,
      xcr0: 3,
      efer: 0xd01,
      gdtr_base: GDT,
      gdtr_limit: 0x7f,
      idtr_limit: 0,
    });
    this.#segments();
    this.#state.exceptionBitmap = 0xffffffff;
  }
  #segments(): void {
    this.#segment('tr', 0x40, TSS, 0x67, 0x8b);
    this.#segment('ldtr', 0, 0, 0, 0x10000);
    if (this.#mode === CODE16) {
      ['es', 'cs', 'ss', 'ds'].forEach((name, n) => {
        const { selector, base, limit } = SEGMENTS16[n] as (typeof SEGMENTS16)[number];
        this.#segment(name, selector, base, limit, name === 'cs' ? 0xfb : 0xf3);
      });
    } else {
      for (const name of ['es', 'ss', 'ds']) this.#segment(name, 0x2b, 0, 0xffffffff, 0xc0f3);
      if (this.#mode === LONG) this.#segment('cs', 0x33, 0, 0xffffffff, 0xa0fb);
      else this.#segment('cs', 0x23, 0, 0xffffffff, 0xc0fb);
    }
    this.#segment('fs', 0, FS_BASE, 0, 0x10000);
    this.#segment('gs', 0, GS_BASE, 0, 0x10000);
  }

  /** Puts code at an offset of the code pages; bytes beyond their end are dropped. */
  place(at: number, bytes: readonly number[]): void {
    const { memory } = this.#cpu;
    for (let i = 0; i < this.#dirtyLength; i++) memory[this.#codeByte(this.#dirtyAt + i)] = 0xcc;
    this.#written(this.#dirtyAt, this.#dirtyLength);
    this.#dirtyAt = at;
    this.#dirtyLength = Math.min(bytes.length, CODE_BYTES - at);
    for (let i = 0; i < this.#dirtyLength; i++) memory[this.#codeByte(at + i)] = bytes[i] as number;
    this.#written(at, this.#dirtyLength);
  }
  #codeByte(offset: number): number {
    return offset < PAGE ? 0x20000 + offset : 0x22000 + offset - PAGE;
  }
  #written(at: number, length: number): void {
    const inFirst = Math.max(0, Math.min(length, PAGE - at));
    if (inFirst > 0) this.#cpu.memoryWritten(0x20000 + at, inFirst);
    if (length > inFirst) this.#cpu.memoryWritten(this.#codeByte(at + inFirst), length - inFirst);
  }

  /** Runs a case as the processor would; `trapFlag` single-steps with RFLAGS.TF instead of a budget of one. */
  run(c: NativeCase, trapFlag: boolean): Outcome {
    const state = this.#state;
    this.place(c.at, c.bytes);
    for (const poke of c.pokes) {
      for (let i = 0; i < poke.bytes; i++) {
        this.#cpu.memory[this.#physical(poke.address + i)] = Number((poke.value >> BigInt(i * 8)) & 0xffn);
      }
    }
    for (let n = 0; n < 16; n++) state.put(n, c.registers[n] as bigint);
    this.#putFx(c.fx ?? FRESH);
    state.set(L.R_BASE + L.SEG_FS, FS_BASE, 0);
    state.set(L.R_BASE + L.SEG_GS, GS_BASE, 0);
    const start = (this.#mode === CODE16 ? 0 : CODE) + c.at;
    state.set(RIP, start, 0);
    state.set(RFLAGS, c.step && trapFlag ? c.rflags | TF : c.rflags, 0);
    state.interruptibility = 0;

    const exit = this.#cpu.run(0, c.step ? (trapFlag ? 10 : 1) : 100_000);
    const { error, cr2, ...fault } = this.#trap(exit);
    let { trap } = fault;
    const rip = state.get(RIP);
    if (c.step && (exit.reason === 'budget' || trap === 1)) trap = DONE;
    if (!c.step && trap === 3 && rip >= BigInt(start + c.bytes.length)) trap = DONE;
    if (c.blank) this.#restore(c.blank);
    const fx = c.fx && this.#getFx();
    const outcome = {
      trap,
      error,
      cr2,
      rip,
      rflags: state.lo(RFLAGS),
      registers: this.#registers(),
      fx,
      ...this.#changes(),
    };
    return trap !== DONE && c.second ? { ...outcome, second: this.#second(c.at, c.second) } : outcome;
  }
  /** The fault of other code at the same place in the state that a faulting instruction left. */
  #second(at: number, bytes: readonly number[]): Fault | undefined {
    this.place(at, bytes);
    this.#state.interruptibility = 0;
    const exit = this.#cpu.run(0, 1);
    return exit.reason === 'exception' ? this.#trap(exit) : undefined;
  }

  #trap(exit: Exit): Fault {
    if (exit.reason !== 'exception') return { trap: 0x1000, error: 0, cr2: 0n };
    const cr2 = (BigInt(exit.addressHi) << 32n) | BigInt(exit.addressLo);
    const error = exit.hasErrorCode ? exit.errorCode : 0;
    // Linux says of a #PF above TASK_SIZE_MAX that the page is present, to hide its own (arch/x86/mm/fault.c).
    const hidden = exit.vector === 14 && cr2 >= 0x7ffffffff000n ? 1 : 0;
    return { trap: exit.vector, error: error | hidden, cr2 };
  }
  /** Physical register i is ST(i - TOP): FXSAVE numbers its slots from the top, the tag bits and the core's slots do not. */
  #putFx(image: Uint8Array): void {
    const state = this.#state;
    const view = new DataView(image.buffer, image.byteOffset, FX_BYTES);
    const fsw = view.getUint16(FX_FSW, true);
    state.set(L.R_FCW, view.getUint16(FX_FCW, true), 0);
    state.set(L.R_FSW, fsw, 0);
    state.set(L.R_FTW, view.getUint8(FX_FTW), 0);
    state.set(L.R_FOP, view.getUint16(FX_FOP, true), 0);
    state.put(L.R_FIP, view.getBigUint64(FX_FIP, true));
    state.put(L.R_FDP, view.getBigUint64(FX_FDP, true));
    state.set(L.R_FCS, 0, 0);
    state.set(L.R_FDS, 0, 0);
    state.set(L.R_MXCSR, view.getUint32(FX_MXCSR, true), 0);
    for (let n = 0; n < 8; n++) {
      const [to, from] = [L.R_FPR + ((n + (fsw >> 11)) & 7) * 2, FX_ST + n * 16];
      state.set(to, view.getUint32(from, true), view.getUint32(from + 4, true));
      state.set(to + 1, view.getUint16(from + 8, true), 0);
    }
    for (let n = 0; n < 32; n++) {
      const from = FX_XMM + n * 8;
      state.set(L.R_XMM + n, view.getUint32(from, true), view.getUint32(from + 4, true));
    }
  }
  #getFx(): Uint8Array {
    const state = this.#state;
    const image = new Uint8Array(FX_BYTES);
    const view = new DataView(image.buffer);
    const fsw = state.lo(L.R_FSW);
    view.setUint16(FX_FCW, state.lo(L.R_FCW), true);
    view.setUint16(FX_FSW, fsw, true);
    view.setUint8(FX_FTW, state.lo(L.R_FTW));
    view.setUint16(FX_FOP, state.lo(L.R_FOP), true);
    view.setBigUint64(FX_FIP, state.get(L.R_FIP), true);
    view.setBigUint64(FX_FDP, state.get(L.R_FDP), true);
    view.setUint32(FX_MXCSR, state.lo(L.R_MXCSR), true);
    for (let n = 0; n < 8; n++) {
      const [from, to] = [L.R_FPR + ((n + (fsw >> 11)) & 7) * 2, FX_ST + n * 16];
      view.setUint32(to, state.lo(from), true);
      view.setUint32(to + 4, state.hi(from), true);
      view.setUint16(to + 8, state.lo(from + 1), true);
    }
    for (let n = 0; n < 32; n++) {
      const to = FX_XMM + n * 8;
      view.setUint32(to, state.lo(L.R_XMM + n), true);
      view.setUint32(to + 4, state.hi(L.R_XMM + n), true);
    }
    return image;
  }
  /** Gives memory that is not compared its contents of the image back. */
  #restore({ address, bytes }: Blank): void {
    for (let i = 0; i < bytes; i++) {
      const from = address + i;
      const value = from < STACK ? this.#image.data[from - DATA] : this.#image.stack[from - STACK];
      this.#cpu.memory[this.#physical(from)] = value as number;
    }
  }
  #registers(): BigUint64Array {
    return BigUint64Array.from({ length: 16 }, (_, n) => this.#state.get(n));
  }
  /** Notes what differs from the image, and undoes it. */
  #changes(): Pick<Outcome, 'changed' | 'hash' | 'words'> {
    const words: { address: number; value: number }[] = [];
    let changed = 0;
    let hash = 2166136261;
    for (const { linear, now, was } of this.#words) {
      for (let i = 0; i < now.length; i++) {
        const value = now[i] as number;
        if (value === was[i]) continue;
        const address = linear + i * 4;
        if (changed < WORDS) words.push({ address, value });
        changed++;
        hash = Math.imul(hash ^ address, 16777619);
        hash = Math.imul(hash ^ value, 16777619);
        now[i] = was[i] as number;
      }
    }
    return { changed, hash: hash >>> 0, words };
  }

  /**
   * Runs an instruction of which only the first `length` bytes are mapped, everything else being at the end of the code pages. Whether
   * the decoder asked for more of them, and the vector of the exception that it or the instruction raised.
   */
  truncated(bytes: readonly number[], length: number): { readonly needsMore: boolean; readonly trap: number } {
    this.#segments();
    if (this.#mode === CODE16) this.#put({ cs_limit: 0xffff });
    this.place(CODE_BYTES - length, bytes.slice(0, length));
    for (let n = 0; n < 16; n++) this.#state.set(n, 0x1000, 0);
    this.#state.set(RIP, (this.#mode === CODE16 ? 0 : CODE) + CODE_BYTES - length, 0);
    this.#state.set(RFLAGS, 0x202, 0);
    this.#state.interruptibility = 0;
    const { trap, error, cr2 } = this.#trap(this.#cpu.run(0, 1));
    return { needsMore: trap === 14 && (error & 0x10) !== 0 && cr2 === BigInt(CODE + CODE_BYTES), trap };
  }
}
