/** A generator for cases: the same seed and case number give the same numbers, whatever ran before. */
export class Random {
  #state: number;

  constructor(seed: number, stream = 0) {
    this.#state = 0;
    this.restart(seed, stream);
  }

  restart(seed: number, stream: number): void {
    this.#state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(stream + 1, 0xc2b2ae35)) >>> 0;
    this.u32();
  }

  /** 32 bits, unsigned: a Weyl sequence and a finalizer of xor-shifts and multiplications. */
  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    return (x ^ (x >>> 16)) >>> 0;
  }

  /** 0 … n - 1. */
  below(n: number): number {
    return Math.floor((this.u32() / 2 ** 32) * n);
  }

  /** True once in n times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}
