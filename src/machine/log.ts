/** A list that only grows, except that it can go back to what another one holds. */
export class Log<T> {
  readonly items: T[] = [];
  /** The one last taken over, or that last took this one over: the longer of both begins with the shorter. */
  #twin: Log<T> | null = null;

  /** Becomes what another one is. If nothing but growing has happened since the last time, it is only cut off. */
  assign(from: Log<T>): void {
    const kept = this.#twin === from ? Math.min(this.items.length, from.items.length) : 0;
    if (this.items.length !== kept) this.items.length = kept;
    for (let i = kept; i < from.items.length; i++) this.items.push(from.items[i]);
    this.#twin = from;
    from.#twin = this;
  }
}
