/** What happens when, in order; a binary heap. Of two at one time the earlier planned comes first. */
export class VirtualTime {
  /** Ms. */
  now = 0;
  readonly #heap: { at: number; order: number; run: () => void }[] = [];
  #planned = 0;

  after(ms: number, run: () => void): void {
    const heap = this.#heap;
    const event = { at: this.now + ms, order: (this.#planned += 1), run };
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (before(heap[parent] as typeof event, event)) break;
      heap[index] = heap[parent] as typeof event;
      index = parent;
    }
    heap[index] = event;
  }

  /** Runs what is planned, and what that plans, until nothing is left. */
  runAll(): void {
    for (let event = this.#take(); event !== undefined; event = this.#take()) {
      this.now = event.at;
      event.run();
    }
  }

  #take(): { at: number; order: number; run: () => void } | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && before(right, heap[child] as typeof right)) child += 1;
      if (before(last, heap[child] as typeof last)) break;
      heap[index] = heap[child] as typeof last;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

const before = (a: { at: number; order: number }, b: { at: number; order: number }): boolean =>
  a.at < b.at || (a.at === b.at && a.order < b.order);
