/** A binary heap of numbers, smallest first, in one flat array that grows and is used again. */
export class NumberHeap {
  #items = new Float64Array(1_024);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(item: number): void {
    if (this.#size === this.#items.length) {
      const grown = new Float64Array(2 * this.#size);
      grown.set(this.#items);
      this.#items = grown;
    }
    const items = this.#items;
    let at = this.#size;
    this.#size += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  /** The smallest, taken out. Not for an empty heap. */
  pop(): number {
    const items = this.#items;
    const smallest = items[0]!;
    this.#size -= 1;
    const last = items[this.#size]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && items[child + 1]! < items[child]!) child += 1;
      if (last <= items[child]!) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return smallest;
  }
}
