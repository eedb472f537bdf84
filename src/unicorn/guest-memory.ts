/**
 * Guest-physical memory: regions of 4-KiB pages anywhere in 64 bits, each page backed by a frame of the core's RAM or by MMIO
 * callbacks. Pages are numbered address / 4096, which a number holds exactly. Snapshots share frames; the first write copies one.
 */
import * as L from '../cpu/core/layout.ts';
import { type Core, MAX_FRAMES, PAGE_SIZE } from './core.ts';

/** MMIO callbacks by offset from the start of the mmio_map() call. */
export interface MmioDevice {
  /** First page of the mapping the offsets count from, even if parts of it are unmapped later. */
  readonly base: number;
  read(offset: bigint, size: number): bigint;
  write(offset: bigint, size: number, value: bigint): void;
}

export interface Region {
  /** First page. */
  begin: number;
  pages: number;
  perms: number;
  /** Frame of each page; empty for MMIO. */
  frames: Uint32Array;
  device: MmioDevice | undefined;
}

/** Regions and frames at one moment; see GuestMemory.snapshot(). */
export type MemorySnapshot = readonly Region[];

const NO_FRAMES = new Uint32Array(0);

export class GuestMemory {
  /** Sorted by address, none overlapping. */
  regions: Region[] = [];
  private readonly core: Core;
  private readonly free: number[] = [];
  private nextFrame = 0;
  /** Holders beyond the first of each frame; made by the first snapshot. */
  private extra: Uint16Array | undefined;
  private last: Region | undefined;

  constructor(core: Core) {
    this.core = core;
  }

  /** The region that holds `page`, or undefined. */
  find(page: number): Region | undefined {
    const last = this.last;
    if (last !== undefined && page >= last.begin && page < last.begin + last.pages) return last;
    let low = 0;
    let high = this.regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const region = this.regions[middle];
      if (page < region.begin) high = middle;
      else if (page >= region.begin + region.pages) low = middle + 1;
      else {
        this.last = region;
        return region;
      }
    }
    return undefined;
  }

  overlaps(begin: number, pages: number): boolean {
    return this.regions.some((region) => begin < region.begin + region.pages && region.begin < begin + pages);
  }

  /** True if every page is mapped. */
  covers(begin: number, pages: number): boolean {
    let at = begin;
    while (at < begin + pages) {
      const region = this.find(at);
      if (!region) return false;
      at = region.begin + region.pages;
    }
    return true;
  }

  /** Maps zeroed RAM; false if there is not enough. */
  map(begin: number, pages: number, perms: number): boolean {
    const frames = this.allocate(pages);
    if (!frames) return false;
    this.insert({ begin, pages, perms, frames, device: undefined });
    return true;
  }

  mapDevice(begin: number, pages: number, perms: number, device: MmioDevice): void {
    this.insert({ begin, pages, perms, frames: NO_FRAMES, device });
  }

  /** Splits regions so that none crosses `begin` or `begin + pages`, and returns those between. All pages must be mapped. */
  private cut(begin: number, pages: number): Region[] {
    this.last = undefined;
    for (const at of [begin, begin + pages]) {
      const region = this.find(at);
      if (!region || region.begin === at) continue;
      const head = at - region.begin;
      const tail: Region = {
        ...region,
        begin: at,
        pages: region.pages - head,
        frames: region.device ? NO_FRAMES : region.frames.subarray(head),
      };
      region.pages = head;
      if (!region.device) region.frames = region.frames.subarray(0, head);
      this.insert(tail);
    }
    return this.regions.filter((region) => region.begin >= begin && region.begin < begin + pages);
  }

  unmap(begin: number, pages: number): void {
    const gone = new Set(this.cut(begin, pages));
    this.regions = this.regions.filter((region) => !gone.has(region));
    this.last = undefined;
    for (const region of gone) this.release(region.frames);
  }

  protect(begin: number, pages: number, perms: number): void {
    for (const region of this.cut(begin, pages)) region.perms = perms;
  }

  private insert(region: Region): void {
    this.last = undefined;
    const at = this.regions.findIndex((other) => other.begin > region.begin);
    if (at < 0) this.regions.push(region);
    else this.regions.splice(at, 0, region);
  }

  private allocate(count: number): Uint32Array | undefined {
    const fresh = Math.max(0, count - this.free.length);
    if (this.nextFrame + fresh > MAX_FRAMES) return undefined;
    if (!this.core.growTo(this.core.ramBase + (this.nextFrame + fresh) * PAGE_SIZE)) return undefined;
    const frames = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const used = this.free.pop();
      if (used === undefined) frames[i] = this.nextFrame++;
      else {
        frames[i] = used;
        this.core.u8.fill(0, this.hostAddress(used), this.hostAddress(used) + PAGE_SIZE);
        this.core.exports.memoryWritten(used * PAGE_SIZE, PAGE_SIZE);
      }
    }
    return frames;
  }

  private release(frames: Uint32Array): void {
    for (const frame of frames) {
      if (this.extra?.[frame]) this.extra[frame]--;
      else this.free.push(frame);
    }
  }

  hostAddress(frame: number): number {
    return this.core.ramBase + frame * PAGE_SIZE;
  }

  /** The frame of a page about to be written: one that no snapshot holds. Undefined if there is no room for a copy. */
  private writableFrame(region: Region, page: number): number | undefined {
    const index = page - region.begin;
    const shared = region.frames[index];
    if (!this.extra?.[shared]) return shared;
    const own = this.allocate(1)?.[0];
    if (own === undefined) return undefined;
    const from = this.hostAddress(shared);
    this.core.u8.copyWithin(this.hostAddress(own), from, from + PAGE_SIZE);
    this.extra[shared]--;
    region.frames[index] = own;
    return own;
  }

  /**
   * The core's question: the frame of a page for a kind of access, whatever the permissions; PAGE_MMIO for a device; -1 if there is
   * nothing to access. A write to a frame that a snapshot holds copies it first.
   */
  locate(region: Region, page: number, kind: number): number {
    if (region.device) return kind === L.ACCESS_EXEC ? -1 : L.PAGE_MMIO;
    const frame = region.frames[page - region.begin];
    if (kind !== L.ACCESS_WRITE || !this.extra?.[frame]) return frame;
    const own = this.writableFrame(region, page);
    return own === undefined ? -1 : own | L.PAGE_MOVED;
  }

  /** Copies guest memory out; false if a page is not mapped. */
  read(page: number, offset: number, target: Uint8Array): boolean {
    return this.transfer(page, offset, target.length, (region, at, from, done, length) => {
      if (region.device) {
        deviceTransfer(length, (i, size) => {
          const value = region.device?.read(deviceOffset(region.device, at, from + i), size) ?? 0n;
          for (let b = 0; b < size; b++) target[done + i + b] = Number((value >> BigInt(8 * b)) & 0xffn);
        });
        return true;
      }
      const host = this.hostAddress(region.frames[at - region.begin]) + from;
      target.set(this.core.u8.subarray(host, host + length), done);
      return true;
    });
  }

  /** Copies host bytes into guest memory, whatever the permissions; false if a page is not mapped. */
  write(page: number, offset: number, source: ArrayLike<number>): boolean {
    const bytes = source instanceof Uint8Array ? source : Uint8Array.from(source);
    return this.transfer(page, offset, bytes.length, (region, at, from, done, length) => {
      if (region.device) {
        deviceTransfer(length, (i, size) => {
          let value = 0n;
          for (let b = size - 1; b >= 0; b--) value = (value << 8n) | BigInt(bytes[done + i + b]);
          region.device?.write(deviceOffset(region.device, at, from + i), size, value);
        });
        return true;
      }
      const before = region.frames[at - region.begin];
      const frame = this.writableFrame(region, at);
      if (frame === undefined) return false;
      if (frame !== before) this.core.u32[L.S_DIRTY * 2] = L.DIRTY_TRANSLATION;
      this.core.u8.set(bytes.subarray(done, done + length), this.hostAddress(frame) + from);
      this.core.exports.memoryWritten(frame * PAGE_SIZE + from, length);
      return true;
    });
  }

  /** Calls `each` for every page part of [offset, offset + length) from `page` on, after checking that all are mapped. */
  private transfer(
    page: number,
    offset: number,
    length: number,
    each: (region: Region, page: number, from: number, done: number, length: number) => boolean,
  ): boolean {
    if (!this.covers(page, Math.ceil((offset + length) / PAGE_SIZE))) return false;
    let done = 0;
    let at = page;
    let from = offset;
    while (done < length) {
      const part = Math.min(PAGE_SIZE - from, length - done);
      const region = this.find(at);
      if (!region || !each(region, at, from, done, part)) return false;
      done += part;
      at++;
      from = 0;
    }
    return true;
  }

  /** Keeps all memory as it is now, at the cost of 4 bytes per page; the next write to each page copies it. */
  snapshot(): MemorySnapshot {
    this.extra ??= new Uint16Array(MAX_FRAMES);
    const copy = this.regions.map((region) => ({ ...region, frames: region.frames.slice() }));
    this.hold(copy);
    this.core.u32[L.S_DIRTY * 2] = L.DIRTY_TRANSLATION;
    return copy;
  }

  restore(snapshot: MemorySnapshot): void {
    const before = this.regions;
    this.hold(snapshot);
    this.regions = snapshot.map((region) => ({ ...region, frames: region.frames.slice() }));
    this.last = undefined;
    this.drop(before);
    this.core.u32[L.S_DIRTY * 2] = L.DIRTY_TRANSLATION;
  }

  /** Gives a snapshot's frames back. */
  drop(snapshot: MemorySnapshot): void {
    for (const region of snapshot) this.release(region.frames);
  }

  private hold(regions: readonly Region[]): void {
    const extra = this.extra as Uint16Array;
    for (const { frames } of regions) for (const frame of frames) extra[frame]++;
  }
}

const deviceOffset = (device: MmioDevice, page: number, offset: number): bigint =>
  BigInt(page - device.base) * 4096n + BigInt(offset);

/** Splits a transfer with a device into accesses of 8, 4, 2 and 1 bytes. */
function deviceTransfer(length: number, each: (at: number, size: number) => void): void {
  for (let at = 0; at < length; ) {
    const left = length - at;
    const size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    each(at, size);
    at += size;
  }
}
