/**
 * Guest memory for cases: tables of every kind, most of them usable and each with junk in it.
 *
 *     0x0000 interrupt vectors of real mode   0x1000 TSS   0x2000 GDT   0x3000 IDT, 64 bits   0x4000 IDT, 32 bits   0x4800 LDT
 *     0x5000 PML4, PDPT, PD, PT   0x9000 PAE: PDPT   0xa000 PAE: PD   0xb000 32-bit PD   0xc000 its PT   0xd000 handlers   0xe000 code
 *     0x10000 data and stacks
 */
import { code } from './instructions.ts';
import type { Random } from './random.ts';

/** Not a multiple of 64 KiB: behind RAM some of the wasm memory is left to watch. */
export const RAM = 0x47000;
export const TSS = 0x1000;
export const GDT = 0x2000;
export const IDT64 = 0x3000;
export const IDT32 = 0x4000;
export const LDT = 0x4800;
export const PML4 = 0x5000;
export const PDPT = 0x6000;
export const PD = 0x7000;
export const PT = 0x8000;
export const PAE_PDPT = 0x9000;
export const PAE_PD = 0xa000;
export const PD32 = 0xb000;
export const PT32 = 0xc000;
export const HANDLERS = 0xd000;
export const CODE = 0xe000;
export const DATA = 0x10000;

const P = 1;
const W = 2;
const U = 4;
const A_D = 0x60;
const PS = 0x80;

/** Types of descriptors and gates that come often; anything else comes, too. */
const ACCESS = [
  0x9a, 0x9b, 0x92, 0x93, 0x9e, 0xfa, 0xf2, 0xf3, 0xb2, 0xba, 0x96, 0x90, 0x98, 0x82, 0x89, 0x8b, 0x81, 0x83, 0x8c,
  0x84, 0x85, 0xec, 0xe5,
];
const GATES = [0x8e, 0x8e, 0x8e, 0x8f, 0xee, 0xef, 0x85, 0x86, 0x87, 0xe6, 0x0e];

/** Selectors 0x08 …: code of 64, 32 and 16 bits, data; the same for users; a busy and an available TSS. */
const GOOD = [
  0x00af9b000000ffffn,
  0x00cf9b000000ffffn,
  0x008f9b000000ffffn,
  0x00cf93000000ffffn,
  0x00affb000000ffffn,
  0x00cffb000000ffffn,
  0x008ffb000000ffffn,
  0x00cff3000000ffffn,
  0x00008b0010002067n,
  0x0000890010002067n,
  0x0000820048000fffn,
];
const SELECTOR64 = 0x08;
const SELECTORS32 = [0x10, 0x10, 0x10, 0x18];
const SELECTOR_DATA = 0x20;

export class Image {
  readonly #view: DataView;
  readonly #random: Random;

  constructor(memory: Uint8Array, random: Random) {
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    this.#random = random;
  }

  #u16(at: number, value: number): void {
    this.#view.setUint16(at, value & 0xffff, true);
  }
  #u32(at: number, value: number): void {
    this.#view.setUint32(at, value >>> 0, true);
  }
  #u64(at: number, low: number, high: number): void {
    this.#u32(at, low);
    this.#u32(at + 4, high);
  }

  /** Fills RAM anew. */
  write(): void {
    const random = this.#random;
    for (let at = 0; at < RAM; at += 4) this.#u32(at, random.oneIn(3) ? random.u32() : 0);
    for (let vector = 0; vector < 256; vector++) this.#u32(vector * 4, HANDLERS + random.below(256) * 16);
    for (let selector = 0; selector < 0x1000; selector += 8) this.descriptor(GDT + selector);
    GOOD.forEach((value, n) => {
      this.#view.setBigUint64(GDT + 8 + n * 8, value, true);
    });
    for (let selector = 0; selector < 0x800; selector += 8) this.descriptor(LDT + selector);
    for (let vector = 0; vector < 256; vector++) this.gate(vector);
    this.#tss();
    this.#pages();
    for (let at = HANDLERS; at < HANDLERS + 0x1000; at += 16) this.#handler(at);
  }

  /** The descriptor at an address becomes another one: a flat segment as often as not. */
  descriptor(at: number): void {
    const random = this.#random;
    if (random.oneIn(12)) {
      this.#u64(at, random.u32(), random.u32());
      return;
    }
    const access = random.oneIn(6) ? random.below(256) : random.pick(ACCESS);
    const system = (access & 0x10) === 0;
    const flags = random.pick([0x0, 0x4, 0x8, 0xa, 0xc, 0xc, 0xa]);
    const limit = system ? 0x67 + random.below(0x100) : random.oneIn(2) ? 0xfffff : random.below(0x10000);
    const base = system ? random.pick([TSS, TSS, LDT, DATA]) : random.oneIn(2) ? 0 : random.below(RAM);
    this.#u32(at, (limit & 0xffff) | (base << 16));
    this.#u32(at + 4, ((base >>> 16) & 0xff) | (access << 8) | (limit & 0xf0000) | (flags << 20) | (base & 0xff000000));
    // A gate has a selector where a segment has its base.
    if (system && (access & 4) !== 0) {
      this.#u16(at + 2, random.below(64) * 8 + random.below(4));
      this.#u16(at, HANDLERS + random.below(256) * 16);
    }
  }

  /** The gates of one vector in both IDTs become others. */
  gate(vector: number): void {
    const random = this.#random;
    const offset = random.oneIn(16) ? random.u32() : HANDLERS + random.below(256) * 16;
    const type = random.oneIn(16) ? random.below(256) : random.pick(GATES);
    const ist = random.oneIn(4) ? random.below(8) : 0;
    const wild = random.oneIn(8);
    for (const at of [IDT64 + vector * 16, IDT32 + vector * 8]) {
      const selector = wild ? random.below(512) : at >= IDT32 ? random.pick(SELECTORS32) : SELECTOR64;
      this.#u32(at, (offset & 0xffff) | (selector << 16));
      this.#u32(at + 4, (offset & 0xffff0000) | (type << 8) | ist);
    }
    this.#u64(IDT64 + vector * 16 + 8, random.oneIn(32) ? random.u32() : 0, 0);
  }

  #tss(): void {
    const random = this.#random;
    for (let at = TSS; at < TSS + 0x68; at += 4)
      this.#u32(at, random.oneIn(8) ? random.u32() : DATA + random.below(0x30000));
    // Stacks: of a 64-bit TSS at 4, 12, 20 and 36 …; of a 32-bit TSS at 4, 12, 20 with selectors at 8, 16, 24.
    for (let level = 0; level < 3; level++)
      this.#u32(TSS + 8 + level * 8, level === 0 && random.oneIn(2) ? SELECTOR_DATA : 0);
    for (let ist = 0; ist < 7; ist++) this.#u64(TSS + 0x24 + ist * 8, DATA + random.below(0x30000), 0);
    this.#u16(TSS + 0x66, 0x68);
  }

  #pages(): void {
    const random = this.#random;
    for (let n = 0; n < 512; n++) {
      const flags = P | W | U | (random.oneIn(2) ? A_D : 0);
      this.#u64(PT + n * 8, (n << 12) | flags, 0);
      this.#u64(PD + n * 8, n === 0 ? PT | flags : (n << 21) | PS | flags, 0);
      this.#u64(PDPT + n * 8, n % 4 !== 1 ? PD | flags : PS | flags, 0);
      this.#u64(PML4 + n * 8, PDPT | flags, 0);
      this.#u64(PAE_PD + n * 8, n === 0 ? PT | flags : (n << 21) | PS | flags, 0);
    }
    for (let n = 0; n < 4; n++) this.#u64(PAE_PDPT + n * 8, PAE_PD | P, 0);
    for (let n = 0; n < 1024; n++) {
      const flags = P | W | U | (random.oneIn(2) ? A_D : 0);
      this.#u32(PT32 + n * 4, (n << 12) | flags);
      this.#u32(PD32 + n * 4, n % 16 !== 1 ? PT32 | flags : PS | flags);
    }
  }

  /** Code of a handler: it goes back, halts, or does anything. */
  #handler(at: number): void {
    const random = this.#random;
    const bytes = random.pick([
      [0xcf],
      [0x48, 0xcf],
      random.oneIn(4) ? [0xf4] : [0xcf],
      [0x83, 0xc4, 0x04, 0xcf],
      [0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf],
      code(false, random),
    ]);
    bytes.slice(0, 16).forEach((byte, i) => {
      this.#view.setUint8(at + i, byte);
    });
  }

  /** Changes one thing somewhere in the tables. `touch` is told the address and length first. */
  spoil(touch: (address: number, length: number) => void): void {
    const random = this.#random;
    switch (random.below(8)) {
      case 0: {
        const at = random.pick([GDT, LDT]) + random.below(64) * 8;
        touch(at, 8);
        this.descriptor(at);
        return;
      }
      case 1: {
        const vector = random.below(256);
        touch(IDT64 + vector * 16, 16);
        touch(IDT32 + vector * 8, 8);
        this.gate(vector);
        return;
      }
      case 2: {
        const at = TSS + random.below(0x40) * 4;
        touch(at, 4);
        this.#u32(at, random.oneIn(2) ? random.u32() : random.below(RAM));
        return;
      }
      default: {
        // One bit, or all, of an entry of a page table that is likely to be used.
        const table = random.pick([PML4, PDPT, PD, PT, PT, PAE_PDPT, PAE_PD, PD32, PT32, PT32]);
        const at = table + (random.oneIn(2) ? random.below(72) : random.below(512)) * 8;
        touch(at, 8);
        if (random.oneIn(3)) this.#u64(at, random.u32(), random.oneIn(2) ? 0 : random.u32());
        else if (random.oneIn(4)) this.#u32(at + 4, this.#view.getUint32(at + 4, true) ^ (1 << random.below(32)));
        else this.#u32(at, this.#view.getUint32(at, true) ^ (1 << random.below(12)));
      }
    }
  }
}
