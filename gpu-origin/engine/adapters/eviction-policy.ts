/** log2(count) + time / half-life: of two unused entries, the heavier stays the heavier forever. */
interface Counted<Name> {
  readonly name: Name;
  weight: number;
  state: 'ahead' | 'free' | 'held' | 'gone';
  /** Index in the heap of free entries, or -1. */
  at: number;
}

/** Uses after which one counts half, per kept entry: ten are enough to tell names apart (TinyLFU, 2017). */
const HALF_LIFE_PER_KEPT = 10;
/** … with a minimum, because with few places, entries near the border differ by little. */
const LEAST_HALF_LIFE = 1_000;
/** Share of entries loaded ahead of their requests that are protected until their first request. */
const AHEAD_SHARE = 1 / 16;
/**
 * Counts of evicted entries are kept for this many times the kept entries, so that a returning one continues
 * from there …
 */
const GONE_PER_KEPT = 4;
/** … and for at least this many, about 200 bytes each. */
const LEAST_GONE = 1_024;

/**
 * Decides which entry to evict: the one with the fewest uses, weighted by their age. That is LRFU's order (Lee
 * et al., IEEE Transactions on Computers 50(12), 2001), between least frequently and least recently used;
 * evicted entries are still counted, as in TinyLFU (Einziger, Friedman and Manes, ACM Transactions on Storage
 * 13(4), 2017), so that a newcomer stays only once it is requested more often than the entry it would displace.
 * Entries loaded ahead of requests, such as replicas, are evicted last for a while. Time is counted in uses: no
 * clock, no randomness. Each operation takes O(log n).
 */
export class EvictionPolicy<Name> {
  /** Uses so far. */
  #time = 0;
  #halfLife = LEAST_HALF_LIFE;
  readonly #kept = new Map<Name, Counted<Name>>();
  /** Oldest evictions first. */
  readonly #gone = new Map<Name, Counted<Name>>();
  /** Kept but never held, oldest first. */
  readonly #ahead = new Set<Counted<Name>>();
  /** A binary heap of the free ones, lightest first. */
  readonly #heap: Counted<Name>[] = [];

  /** Free and held ones. */
  get kept(): number {
    return this.#kept.size;
  }

  /** Evicted entries whose uses are still known. */
  get gone(): number {
    return this.#gone.size;
  }

  isKept(name: Name): boolean {
    return this.#kept.has(name);
  }

  /** One more use, whether it is kept or not. */
  use(name: Name): void {
    this.#time += 1;
    const now = this.#time / this.#halfLife;
    const counted = this.#find(name);
    counted.weight = now + Math.log2(1 + 2 ** (counted.weight - now));
    if (counted.state === 'free') this.#sink(counted);
    else if (counted.state === 'ahead') this.#join(counted);
    else if (counted.state === 'gone') {
      this.#gone.delete(name);
      this.#leave(counted);
    }
  }

  /** It is kept, and may be evicted. */
  free(name: Name): void {
    const counted = this.#keep(name);
    if (counted.state === 'held') this.#join(counted);
    if (counted.state !== 'gone') return;
    counted.state = 'ahead';
    this.#ahead.add(counted);
    const [oldest] = this.#ahead;
    if (oldest !== undefined && this.#ahead.size > Math.max(1, AHEAD_SHARE * this.#kept.size))
      this.#join(oldest);
  }

  /** It is kept, and may not be evicted. */
  hold(name: Name): void {
    const counted = this.#keep(name);
    this.#takeOut(counted);
    counted.state = 'held';
  }

  /** It is no longer kept. */
  drop(name: Name): void {
    const counted = this.#kept.get(name);
    if (counted === undefined) return;
    this.#kept.delete(name);
    this.#takeOut(counted);
    counted.state = 'gone';
    this.#leave(counted);
    this.#fitHalfLife();
  }

  /** The next one to evict; null = all are held. */
  first(): Name | null {
    const [oldest] = this.#ahead;
    return (this.#heap[0] ?? oldest)?.name ?? null;
  }

  #find(name: Name): Counted<Name> {
    const known = this.#kept.get(name) ?? this.#gone.get(name);
    return known ?? { name, weight: -Infinity, state: 'gone', at: -1 };
  }

  #keep(name: Name): Counted<Name> {
    const counted = this.#find(name);
    if (counted.state !== 'gone') return counted;
    this.#gone.delete(name);
    this.#kept.set(name, counted);
    this.#fitHalfLife();
    return counted;
  }

  #leave(counted: Counted<Name>): void {
    this.#gone.set(counted.name, counted);
    const most = Math.max(LEAST_GONE, GONE_PER_KEPT * this.#kept.size);
    for (const name of this.#gone.keys()) {
      if (this.#gone.size <= most) return;
      this.#gone.delete(name);
    }
  }

  /** Changes by powers of two, so that it changes seldom. */
  #fitHalfLife(): void {
    const wanted = Math.max(LEAST_HALF_LIFE, HALF_LIFE_PER_KEPT * this.#kept.size);
    if (wanted <= this.#halfLife && wanted > this.#halfLife / 4) return;
    const halfLife = wanted === LEAST_HALF_LIFE ? wanted : 2 * wanted;
    if (halfLife === this.#halfLife) return;
    // All change by the same amount, so their order stays.
    const by = this.#time / halfLife - this.#time / this.#halfLife;
    this.#halfLife = halfLife;
    for (const all of [this.#kept, this.#gone]) for (const counted of all.values()) counted.weight += by;
  }

  #join(counted: Counted<Name>): void {
    this.#ahead.delete(counted);
    counted.state = 'free';
    counted.at = this.#heap.push(counted) - 1;
    this.#rise(counted);
  }

  #takeOut(counted: Counted<Name>): void {
    this.#ahead.delete(counted);
    const { at } = counted;
    if (at < 0) return;
    const last = this.#heap.pop();
    counted.at = -1;
    if (last === undefined || last === counted) return;
    this.#heap[at] = last;
    last.at = at;
    this.#rise(last);
    this.#sink(last);
  }

  #rise(counted: Counted<Name>): void {
    const heap = this.#heap;
    while (counted.at > 0) {
      const parent = heap[(counted.at - 1) >> 1]!;
      if (parent.weight <= counted.weight) return;
      this.#swap(parent, counted);
    }
  }

  #sink(counted: Counted<Name>): void {
    const heap = this.#heap;
    for (;;) {
      const [left, right] = [heap[2 * counted.at + 1], heap[2 * counted.at + 2]];
      const lighter = right !== undefined && right.weight < left!.weight ? right : left;
      if (lighter === undefined || lighter.weight >= counted.weight) return;
      this.#swap(counted, lighter);
    }
  }

  #swap(one: Counted<Name>, other: Counted<Name>): void {
    [one.at, other.at] = [other.at, one.at];
    this.#heap[one.at] = one;
    this.#heap[other.at] = other;
  }
}
