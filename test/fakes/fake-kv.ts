import type { KvNamespace } from '../../worker/platform/store-calls.ts';

const MAX_VALUE_BYTES = 25 * 1024 * 1024;
const MAX_KEY_BYTES = 512;
const MIN_CACHE_TTL_S = 30;
const MIN_EXPIRATION_TTL_S = 60;
const MAX_KEYS = 100;
const WRITE_INTERVAL_MS = 1_000;
const MAX_LISTED_KEYS = 1_000;

export type KvTrouble = 'throw' | 'hang' | 'null' | 'garbage' | null;
/** What one key can meet: also the value before the last, or another key's. */
export type KvFault = KvTrouble | 'stale' | 'foreign';

/**
 * Workers KV with its limits and its worst manners: a value once read, also "none", is read from the location's cache
 * until `cacheTtl` of the one or the other read has passed, whatever was written meanwhile; a key takes one write a second.
 */
export class FakeKv implements KvNamespace {
  trouble: KvTrouble = null;
  /** What happens to reads of one key, when nothing happens to all. */
  faultOf: (key: string) => KvFault = () => null;
  /** Operations; several keys at once are one. */
  reads = 0;
  /** As they are billed. */
  keysRead = 0;
  readonly #now: () => number;
  readonly #values = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Before the last write. */
  readonly #older = new Map<string, Uint8Array<ArrayBuffer> | null>();
  readonly #writtenAt = new Map<string, number>();
  readonly #expiresAt = new Map<string, number>();
  readonly #cache = new Map<string, { value: Uint8Array<ArrayBuffer> | null; at: number; until: number }>();

  /** @param now unix ms; the test moves it. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get(key: string, options: { type: 'text'; cacheTtl: number }): Promise<string | null>;
  get(key: string, options: { type: 'stream'; cacheTtl: number }): Promise<ReadableStream<Uint8Array> | null>;
  get(keys: string[], options: { type: 'text'; cacheTtl: number }): Promise<Map<string, string | null>>;
  async get(
    key: string | string[],
    options: { type: 'text' | 'stream'; cacheTtl: number },
  ): Promise<string | ReadableStream<Uint8Array> | Map<string, string | null> | null> {
    this.reads += 1;
    if (typeof key === 'string') return this.#get(key, options);
    if (key.length === 0 || key.length > MAX_KEYS)
      throw new Error(`KV GET_BULK failed: 400 You can request a maximum of ${MAX_KEYS} keys`);
    const texts = key.map(
      async (one) => [one, (await this.#get(one, { ...options, type: 'text' })) as string | null] as const,
    );
    return new Map(await Promise.all(texts));
  }

  async #get(
    key: string,
    options: { type: 'text' | 'stream'; cacheTtl: number },
  ): Promise<string | ReadableStream<Uint8Array> | null> {
    this.keysRead += 1;
    checkKey('GET', key);
    if (options.cacheTtl < MIN_CACHE_TTL_S)
      throw new Error(`KV GET failed: 400 Invalid cache_ttl of ${options.cacheTtl}.`);
    const fault = this.trouble ?? this.faultOf(key);
    if (fault === 'throw') throw new Error('KV GET failed: 500 Internal Server Error');
    if (fault === 'hang') return new Promise(() => undefined);
    const value = this.#faulty(key, fault) ?? (fault === null ? this.#read(key, options.cacheTtl) : null);
    if (value === null) return null;
    return options.type === 'text' ? new TextDecoder().decode(value) : new Blob([value]).stream();
  }

  /** What a fault that answers answers; null = nothing. */
  #faulty(key: string, fault: KvFault): Uint8Array<ArrayBuffer> | null {
    if (fault === 'garbage') return new TextEncoder().encode('<html>');
    if (fault === 'stale') return this.#older.get(key) ?? null;
    if (fault !== 'foreign') return null;
    const others = [...this.#values.keys()].filter((other) => other !== key).sort();
    const kin = others.filter((other) => other.split(':', 1)[0] === key.split(':', 1)[0]);
    return this.#values.get(kin[0] ?? others[0] ?? '') ?? null;
  }

  #read(key: string, cacheTtl: number): Uint8Array<ArrayBuffer> | null {
    const cached = this.#cache.get(key);
    const now = this.#now();
    // KV checks for newer data when its copy is older than what is asked for now.
    if (cached !== undefined && now < Math.min(cached.until, cached.at + cacheTtl * 1_000))
      return cached.value;
    this.#expire();
    const value = this.#values.get(key) ?? null;
    this.#cache.set(key, { value, at: now, until: now + cacheTtl * 1_000 });
    return value;
  }

  async put(
    key: string,
    value: string | Uint8Array<ArrayBuffer>,
    { expirationTtl }: { expirationTtl?: number } = {},
  ): Promise<void> {
    checkKey('PUT', key);
    if (expirationTtl !== undefined && expirationTtl < MIN_EXPIRATION_TTL_S)
      throw new Error(`KV PUT failed: 400 Invalid expiration_ttl of ${expirationTtl}.`);
    const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value.slice();
    if (bytes.length > MAX_VALUE_BYTES)
      throw new Error(
        `KV PUT failed: 413 Value length of ${bytes.length} exceeds limit of ${MAX_VALUE_BYTES}.`,
      );
    if (this.#now() - (this.#writtenAt.get(key) ?? -Infinity) < WRITE_INTERVAL_MS)
      throw new Error('KV PUT failed: 429 Too Many Requests');
    this.#writtenAt.set(key, this.#now());
    this.#older.set(key, this.#values.get(key) ?? null);
    this.#values.set(key, bytes);
    if (expirationTtl === undefined) this.#expiresAt.delete(key);
    else this.#expiresAt.set(key, this.#now() + expirationTtl * 1_000);
  }

  async delete(key: string): Promise<void> {
    checkKey('DELETE', key);
    if (this.trouble === 'throw') throw new Error('KV DELETE failed: 500 Internal Server Error');
    if (this.#now() - (this.#writtenAt.get(key) ?? -Infinity) < WRITE_INTERVAL_MS)
      throw new Error('KV DELETE failed: 429 Too Many Requests');
    this.#writtenAt.set(key, this.#now());
    this.#values.delete(key);
  }

  readonly list: KvNamespace['list'] = async ({ prefix, cursor, limit = MAX_LISTED_KEYS }) => {
    if (this.trouble === 'throw') throw new Error('KV LIST failed: 500 Internal Server Error');
    if (this.trouble === 'hang') return new Promise(() => undefined);
    this.#expire();
    const names = [...this.#values.keys()]
      .filter(
        (key) =>
          key.startsWith(prefix) &&
          (cursor === null || Buffer.compare(Buffer.from(key), Buffer.from(cursor)) > 0),
      )
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const page = names.slice(0, limit);
    const keys = page.map((name) => ({ name }));
    return names.length === page.length
      ? { keys, list_complete: true }
      : { keys, list_complete: false, cursor: page.at(-1) as string };
  };

  #expire(): void {
    for (const [key, at] of this.#expiresAt) {
      if (this.#now() < at) continue;
      this.#expiresAt.delete(key);
      this.#values.delete(key);
    }
  }

  /** Another one with the same values and the same caches. @param now unix ms, of its own clock. */
  copy(now: () => number): FakeKv {
    const copy = new FakeKv(now);
    for (const [to, from] of [
      [copy.#values, this.#values],
      [copy.#older, this.#older],
      [copy.#writtenAt, this.#writtenAt],
      [copy.#expiresAt, this.#expiresAt],
      [copy.#cache, this.#cache],
    ] as [Map<string, unknown>, Map<string, unknown>][])
      for (const [key, value] of from) to.set(key, value);
    return copy;
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
