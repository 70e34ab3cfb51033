import type { KvNamespace } from '../../worker/stores/kv-namespace.ts';

const MAX_VALUE_BYTES = 25 * 1024 * 1024;
const MAX_KEY_BYTES = 512;
const MIN_CACHE_TTL_S = 30;
const WRITE_INTERVAL_MS = 1_000;

export type KvTrouble = 'throw' | 'hang' | 'null' | 'garbage' | null;

/**
 * Workers KV with its limits and its worst manners: a value once read, also "none", is read from the location's cache
 * until `cacheTtl` has passed, whatever was written meanwhile; a key takes one write a second.
 */
export class FakeKv implements KvNamespace {
  trouble: KvTrouble = null;
  reads = 0;
  readonly #now: () => number;
  readonly #values = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #writtenAt = new Map<string, number>();
  readonly #cache = new Map<string, { value: Uint8Array<ArrayBuffer> | null; until: number }>();

  /** @param now unix ms; the test moves it. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get(key: string, options: { type: 'text'; cacheTtl: number }): Promise<string | null>;
  get(key: string, options: { type: 'stream'; cacheTtl: number }): Promise<ReadableStream<Uint8Array> | null>;
  async get(
    key: string,
    options: { type: 'text' | 'stream'; cacheTtl: number },
  ): Promise<string | ReadableStream<Uint8Array> | null> {
    this.reads += 1;
    checkKey('GET', key);
    if (options.cacheTtl < MIN_CACHE_TTL_S)
      throw new Error(`KV GET failed: 400 Invalid cache_ttl of ${options.cacheTtl}.`);
    if (this.trouble === 'throw') throw new Error('KV GET failed: 500 Internal Server Error');
    if (this.trouble === 'hang') return new Promise(() => undefined);
    if (this.trouble === 'null') return null;
    const value =
      this.trouble === 'garbage' ? new TextEncoder().encode('<html>') : this.#read(key, options.cacheTtl);
    if (value === null) return null;
    return options.type === 'text' ? new TextDecoder().decode(value) : new Blob([value]).stream();
  }

  #read(key: string, cacheTtl: number): Uint8Array<ArrayBuffer> | null {
    const cached = this.#cache.get(key);
    if (cached !== undefined && this.#now() < cached.until) return cached.value;
    const value = this.#values.get(key) ?? null;
    this.#cache.set(key, { value, until: this.#now() + cacheTtl * 1_000 });
    return value;
  }

  async put(key: string, value: string | Uint8Array<ArrayBuffer>): Promise<void> {
    checkKey('PUT', key);
    const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value.slice();
    if (bytes.length > MAX_VALUE_BYTES)
      throw new Error(
        `KV PUT failed: 413 Value length of ${bytes.length} exceeds limit of ${MAX_VALUE_BYTES}.`,
      );
    if (this.#now() - (this.#writtenAt.get(key) ?? -Infinity) < WRITE_INTERVAL_MS)
      throw new Error('KV PUT failed: 429 Too Many Requests');
    this.#writtenAt.set(key, this.#now());
    this.#values.set(key, bytes);
  }

  /** What somebody with write access could do: no limits, no cache. */
  tamper(key: string, change: (value: string | null) => string | null): void {
    const current = this.#values.get(key);
    const next = change(current === undefined ? null : new TextDecoder().decode(current));
    this.#cache.delete(key);
    if (next === null) this.#values.delete(key);
    else this.#values.set(key, new TextEncoder().encode(next));
  }
}

function checkKey(method: string, key: string): void {
  const bytes = new TextEncoder().encode(key).length;
  if (bytes === 0 || bytes > MAX_KEY_BYTES)
    throw new Error(
      `KV ${method} failed: 414 UTF-8 encoded length of ${bytes} exceeds key length limit of ${MAX_KEY_BYTES}.`,
    );
}
