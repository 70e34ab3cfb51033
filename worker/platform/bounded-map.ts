/** A map that drops the oldest entry when it would exceed `maxEntries`. */
export class BoundedMap<K, V> extends Map<K, V> {
  readonly #maxEntries: number;

  constructor(maxEntries: number) {
    super();
    this.#maxEntries = maxEntries;
  }

  override set(key: K, value: V): this {
    this.delete(key);
    super.set(key, value);
    const oldest = this.keys().next();
    if (this.size > this.#maxEntries && !oldest.done) this.delete(oldest.value);
    return this;
  }
}

/** What some caches of one isolate may take together: when they take more, the oldest entry of the largest goes. */
export class CacheRoom {
  readonly #maxBytes: number;
  readonly #maps: { bytes: number; dropOldest(): void }[] = [];

  /** @param maxBytes as the maps weigh their entries. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Sum over all of its maps. */
  get bytes(): number {
    return this.#maps.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** @param weigh bytes of an entry; the same each time. */
  map<K, V>(maxEntries: number, weigh: (key: K, value: V) => number): WeighedMap<K, V> {
    const map = new WeighedMap(maxEntries, weigh, () => {
      while (this.bytes > this.#maxBytes)
        this.#maps.reduce((largest, one) => (one.bytes > largest.bytes ? one : largest)).dropOldest();
    });
    this.#maps.push(map);
    return map;
  }
}

class WeighedMap<K, V> extends BoundedMap<K, V> {
  bytes = 0;
  readonly #weigh: (key: K, value: V) => number;
  readonly #makeRoom: () => void;

  constructor(maxEntries: number, weigh: (key: K, value: V) => number, makeRoom: () => void) {
    super(maxEntries);
    this.#weigh = weigh;
    this.#makeRoom = makeRoom;
  }

  override set(key: K, value: V): this {
    super.set(key, value);
    this.bytes += this.#weigh(key, value);
    this.#makeRoom();
    return this;
  }

  override delete(key: K): boolean {
    const value = this.get(key);
    if (value !== undefined) this.bytes -= this.#weigh(key, value);
    return super.delete(key);
  }

  override clear(): void {
    super.clear();
    this.bytes = 0;
  }

  dropOldest(): void {
    const oldest = this.keys().next();
    if (!oldest.done) this.delete(oldest.value);
  }
}
