/** Calls into C libraries: the part of the optional npm package koffi that is used here. */
import { createRequire } from 'node:module';

export interface Koffi {
  /** A shared library by file name; null is the C library that is loaded already. Throws if there is none. */
  load(path: string | null): {
    func(declaration: string): (...values: unknown[]) => never;
    /** Address of a function or variable. */
    symbol(name: string): unknown;
    unload(): void;
  };
  proto(declaration: string): unknown;
  pointer(type: unknown): unknown;
  register(callback: (...values: never[]) => void, type: unknown): unknown;
  /** The address that a pointer or a Buffer has in this process. */
  address(value: unknown): bigint;
  alloc(type: string, length: number): unknown;
  /** A pointer's memory as an ArrayBuffer: writes go through. */
  view(pointer: unknown, length: number): ArrayBuffer;
  /** errno of the last call. */
  errno(): number;
}

/** The package, or undefined if it is not installed. */
export function koffi(): Koffi | undefined {
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch {
    return undefined;
  }
}
