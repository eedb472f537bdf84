/** A growing little-endian byte buffer: what the binary trace formats are written with. */

const encoder = new TextEncoder();
const FIRST_CAPACITY = 256;
/** UTF-8 bytes of one UTF-16 code unit, at most. */
const MAX_UTF8 = 3;

export class Bytes {
  #bytes = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  /** Bytes written so far. */
  length = 0;

  u8(value: number): this {
    const at = this.#claim(1);
    this.#bytes[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#claim(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.#claim(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** A bigint, or a number below 2^53, as 64 bits. */
  u64(value: number | bigint): this {
    const at = this.#claim(8);
    if (typeof value === 'bigint') {
      this.#view.setBigUint64(at, BigInt.asUintN(64, value), true);
    } else {
      this.#view.setUint32(at, value, true);
      this.#view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
    }
    return this;
  }

  /** `size` (1, 2, 4 or 8) bytes of an integer in two's complement. */
  int(value: number | bigint, size: number): this {
    if (size === 8) return this.u64(typeof value === 'number' && value < 0 ? BigInt(value) : value);
    const low = Number(BigInt.asUintN(32, BigInt(value)));
    return size === 4 ? this.u32(low) : size === 2 ? this.u16(low) : this.u8(low);
  }

  /** An unsigned integer (a number below 2^53, or a bigint) in groups of seven bits, lowest first (protobuf's varint). */
  varint(value: number | bigint): this {
    let rest = value;
    while (rest >= 0x80) {
      // Above 2^32 arithmetic instead of shifts keeps numbers exact.
      this.u8(Number(typeof rest === 'bigint' ? rest & 0x7fn : rest % 0x80) | 0x80);
      rest = typeof rest === 'bigint' ? rest >> 7n : Math.floor(rest / 0x80);
    }
    return this.u8(Number(rest));
  }

  /** UTF-8 without a terminator. */
  text(text: string): this {
    const at = this.#claim(text.length * MAX_UTF8);
    const { written } = encoder.encodeInto(text, this.#bytes.subarray(at));
    this.length = at + written;
    return this;
  }

  /** UTF-8 and a zero byte. */
  cstring(text: string): this {
    return this.text(text).u8(0);
  }

  bytes(bytes: Uint8Array): this {
    const at = this.#claim(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  zeros(count: number): this {
    this.#claim(count);
    return this;
  }

  /** Zeros up to the next multiple of `unit`. */
  align(unit: number): this {
    return this.zeros((unit - (this.length % unit)) % unit);
  }

  /** Overwrites 32 bits written before. */
  patchU32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  /** Overwrites 64 bits written before. */
  patchU64(at: number, value: number): void {
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  /** What was written: a view, valid until the next write. */
  done(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  /** Forgets everything written; the memory is used again. */
  clear(): void {
    this.#bytes.fill(0, 0, this.length);
    this.length = 0;
  }

  /** Makes room for `count` zero bytes at the end and returns where they begin. */
  #claim(count: number): number {
    const at = this.length;
    this.length += count;
    if (this.length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.length, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}
