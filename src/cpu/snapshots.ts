/**
 * Snapshots of the WebAssembly engine, copy-on-write by page. RAM is always that of `base`, the snapshot last taken or restored, plus
 * the pages written since; the core calls `keep` before the first store to a page, so that a snapshot holds copies of only those
 * pages that were overwritten. Snapshots form a tree: an edge lists the frames in which its two ends may differ, and the end farther
 * from `base` holds its contents of all of them. A restore undoes what was written since `base` and walks along the edges.
 */
import { KvmscopeError } from '../errors.ts';
import * as L from './core/layout.ts';
import type { CpuSnapshot } from './cpu.ts';

/** What the core exports for snapshots; see core/snapshot.ts. */
export interface SnapshotCore {
  stateBase(): number;
  pageAttributes(): number;
  stagingPage(): number;
  watch(): void;
  unwatch(): void;
  rewind(): number;
  replaceCode(frame: number): void;
  pageHash(frame: number): number;
}

const PAGE = 4096;

class Snapshot implements CpuSnapshot {
  /** Contents by frame. */
  readonly pages = new Map<number, Uint8Array>();
  /** Hashes of pages that were written while this was the base. */
  readonly hashes = new Map<number, number>();
  readonly edges = new Map<Snapshot, readonly number[]>();
  /** By vCPU: the slots of the state block, and the live TLB entries as index and four words. */
  readonly slots: readonly Uint32Array[];
  readonly translations: readonly Uint32Array[];
  disposed = false;
  readonly owner: Snapshots;

  constructor(owner: Snapshots, slots: readonly Uint32Array[], translations: readonly Uint32Array[]) {
    this.owner = owner;
    this.slots = slots;
    this.translations = translations;
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.owner.prune(this);
  }
}

export class Snapshots {
  readonly #core: SnapshotCore;
  readonly #memory: Uint8Array;
  readonly #attributes: Uint8Array;
  readonly #staging: Uint8Array;
  /** By vCPU: slots and TLBs of the state block. */
  readonly #slots: readonly Uint32Array[];
  readonly #tlbs: readonly Tlbs[];
  #base: Snapshot | null = null;
  /** Frames written since `#base` and what they held, the first `#written` entries. */
  readonly #frames: number[] = [];
  readonly #contents: Uint8Array[] = [];
  #written = 0;

  constructor(core: SnapshotCore, memory: Uint8Array, vcpus: number) {
    const buffer = memory.buffer as ArrayBuffer;
    const block = (index: number): number => (core.stateBase() >>> 0) + index * L.STATE_STRIDE;
    const each = <T>(make: (index: number) => T): T[] => Array.from({ length: vcpus }, (_, index) => make(index));
    this.#core = core;
    this.#memory = memory;
    this.#attributes = new Uint8Array(buffer, core.pageAttributes() >>> 0, memory.length / PAGE);
    this.#staging = new Uint8Array(buffer, core.stagingPage() >>> 0, PAGE);
    this.#slots = each((index) => new Uint32Array(buffer, block(index), L.S_SLOTS * 2));
    this.#tlbs = each((index) => new Tlbs(buffer, block(index)));
  }

  take(): Snapshot {
    const before = this.#base;
    const frames = this.#frames.slice(0, this.#written);
    if (before === null) for (let frame = 0; frame < this.#attributes.length; frame++) this.#clean(frame);
    else for (const frame of frames) this.#clean(frame);
    this.#written = 0;
    this.#core.watch();
    const slots = this.#slots.map((all) => all.slice());
    const translations = this.#tlbs.map((tlbs, index) => tlbs.live(slots[index][L.S_TLB_VERSION * 2]));
    const snapshot = new Snapshot(this, slots, translations);
    this.#base = snapshot;
    if (before !== null) {
      before.edges.set(snapshot, frames);
      snapshot.edges.set(before, frames);
      this.prune(before);
    }
    return snapshot;
  }

  restore(target: CpuSnapshot): void {
    if (!(target instanceof Snapshot) || target.owner !== this) {
      throw new KvmscopeError('usage', 'this snapshot was taken of another engine');
    }
    if (target.disposed) throw new KvmscopeError('usage', 'this snapshot has been disposed of');
    for (let i = 0; i < this.#written; i++) {
      this.#replace(this.#frames[i], this.#contents[i]);
      this.#clean(this.#frames[i]);
    }
    this.#written = 0;
    const exact = this.#core.rewind() !== 0 && target === this.#base;
    for (let index = 0; index < this.#slots.length; index++) this.#slots[index].set(target.slots[index]);
    if (!exact) this.#travel(target);
  }

  /** Adds up how far the hashes of pages are from what they were at `#base`, in two halves of 32 bits. */
  memoryHash(into: Int32Array): void {
    let low = 0;
    let high = 0;
    for (let i = 0; i < this.#written; i++) {
      const frame = this.#frames[i];
      const before = (this.#base as Snapshot).hashes.get(frame) as number;
      const now = this.#core.pageHash(frame);
      if (now === before) continue;
      low = (low + (now | 0) - (before | 0)) | 0;
      high = (high + Math.floor(now / 2 ** 32) - Math.floor(before / 2 ** 32)) | 0;
    }
    into[0] = low;
    into[1] = high;
  }

  /** The core is about to change a page for the first time since `#base`. */
  keep(frame: number): void {
    const base = this.#base as Snapshot;
    const page = this.#save(base, frame);
    if (!base.hashes.has(frame)) base.hashes.set(frame, this.#core.pageHash(frame));
    this.#frames[this.#written] = frame;
    this.#contents[this.#written++] = page;
  }

  /** Takes a snapshot that nobody wants out of the tree, if the tree holds together without it. */
  prune(node: Snapshot): void {
    if (!node.disposed) return;
    if (node === this.#base) {
      if (node.edges.size === 0) this.#stop();
      return;
    }
    const [first, second] = node.edges.keys();
    if (node.edges.size > 2 || first === undefined) return;
    for (const other of node.edges.keys()) other.edges.delete(node);
    if (second !== undefined) {
      const near = this.#path(first, node).length > 0 ? first : second;
      const far = near === first ? second : first;
      const toNear = node.edges.get(near) as readonly number[];
      for (const frame of toNear) {
        if (!far.pages.has(frame)) far.pages.set(frame, node.pages.get(frame) as Uint8Array);
      }
      const frames = [...new Set([...toNear, ...(node.edges.get(far) as readonly number[])])];
      near.edges.set(far, frames);
      far.edges.set(near, frames);
    }
    node.edges.clear();
    node.pages.clear();
    if (second === undefined) this.prune(first);
  }

  /** RAM, which is as `#base` has it, and the TLBs become those of `target`. */
  #travel(target: Snapshot): void {
    for (const next of this.#path(target, null).slice(1)) {
      const from = this.#base as Snapshot;
      for (const frame of from.edges.get(next) as readonly number[]) {
        this.#save(from, frame);
        this.#replace(frame, next.pages.get(frame) as Uint8Array);
      }
      this.#base = next;
      this.prune(from);
    }
    for (const [index, tlbs] of this.#tlbs.entries()) tlbs.replace(target.translations[index]);
  }

  /** From `#base` to `target`, both included, not by way of `without`; empty if there is no way. */
  #path(target: Snapshot, without: Snapshot | null): Snapshot[] {
    const cameFrom = new Map<Snapshot, Snapshot | null>([[target, null]]);
    for (const node of cameFrom.keys()) {
      if (node === this.#base) {
        const path: Snapshot[] = [];
        for (let at: Snapshot | null = node; at !== null; at = cameFrom.get(at) ?? null) path.push(at);
        return path;
      }
      for (const next of node.edges.keys()) if (next !== without && !cameFrom.has(next)) cameFrom.set(next, node);
    }
    return [];
  }

  #save(snapshot: Snapshot, frame: number): Uint8Array {
    const saved = snapshot.pages.get(frame);
    if (saved !== undefined) return saved;
    const page = this.#memory.slice(frame * PAGE, (frame + 1) * PAGE);
    snapshot.pages.set(frame, page);
    return page;
  }

  #replace(frame: number, page: Uint8Array): void {
    if ((this.#attributes[frame] & L.PAGE_CODE) === 0) {
      this.#memory.set(page, frame * PAGE);
      return;
    }
    this.#staging.set(page);
    this.#core.replaceCode(frame);
  }

  #clean(frame: number): void {
    this.#attributes[frame] |= L.PAGE_CLEAN;
  }

  /** The last snapshot is gone. */
  #stop(): void {
    this.#base = null;
    this.#written = 0;
    this.#core.unwatch();
    for (let frame = 0; frame < this.#attributes.length; frame++) this.#attributes[frame] &= ~L.PAGE_CLEAN;
  }
}

const PART = L.TLB_PART / 4;
const PARTS = L.TLB_BYTES / L.TLB_PART;

/** The TLBs of a vCPU, as words. */
class Tlbs {
  readonly #words: Uint32Array;
  /** Parts of the TLBs that hold entries: core/layout.ts, TLB_FILLED. */
  readonly #filled: Uint32Array;

  constructor(buffer: ArrayBuffer, block: number) {
    this.#words = new Uint32Array(buffer, block + L.S_SLOTS * 8, L.TLB_BYTES / 4);
    this.#filled = new Uint32Array(buffer, block + L.TLB_FILLED, 2);
  }

  /** Entries of the version in force: index of the first word, then the four words, for each. */
  live(version: number): Uint32Array {
    const tlb = this.#words;
    const found: number[] = [];
    for (let part = 0; part < PARTS; part++) {
      if (!this.#has(part)) continue;
      for (let at = part * PART; at < (part + 1) * PART; at += 4) {
        if ((tlb[at] & L.TLB_VERSION_MASK) === version) found.push(at, tlb[at], tlb[at + 1], tlb[at + 2], tlb[at + 3]);
      }
    }
    return Uint32Array.from(found);
  }

  replace(entries: Uint32Array): void {
    for (let part = 0; part < PARTS; part++) {
      if (this.#has(part)) this.#words.fill(0, part * PART, (part + 1) * PART);
    }
    this.#filled.fill(0);
    for (let at = 0; at < entries.length; at += 5) {
      const part = Math.floor(entries[at] / PART);
      this.#filled[part >> 5] |= 1 << (part & 31);
      this.#words.set(entries.subarray(at + 1, at + 5), entries[at]);
    }
  }

  #has(part: number): boolean {
    return ((this.#filled[part >> 5] >>> (part & 31)) & 1) !== 0;
  }
}
