/**
 * Sealed values in KV, and the caches around them: recent values, the last known good, and D1 for what KV does
 * not have.
 */
import type { CacheRoom } from './bounded-map.ts';
import { type BulkIndex, type Index, type Lookup, StoreUnavailable } from './ports.ts';
import { withTimeout, type WritePacing, putPaced, type KvNamespace } from './store-calls.ts';
import type { LocationCache } from './location-cache.ts';
import { logLine } from '../log.ts';
import { z } from 'zod';
import { toHex } from '../../protocol/identity.ts';

export interface Forgetful {
  /** The next read of the key is not cached; call it after writing the key here. */
  forget(key: string): void;
  /** For all keys; after writes to keys that are unknown here. */
  forgetAll(): void;
}

export interface ShortMemory<T> extends Index<T>, Forgetful {}
interface BulkShortMemory<T> extends BulkIndex<T>, Forgetful {}

/** Characters of the JSON text of a value. */
const textLengths = new WeakMap<object, number>();
/**
 * Bytes in V8's heap of a cached value in one of the two maps that usually have it (bench/LOG.md, what an isolate
 * remembers).
 */
function weigh(key: string, value: unknown): number {
  if (typeof value !== 'object' || value === null) return 200;
  const length = textLengths.get(value) ?? JSON.stringify(value).length;
  textLengths.set(value, length);
  return 200 + key.length + length;
}

interface ShortMemoryOptions {
  ttlMs: number;
  maxEntries: number;
  room: CacheRoom;
  now: () => number;
  /**
   * Absences are cached too, separately and as many: otherwise a name that may not be used could be
   * distinguished from a missing one by the saved read.
   */
  absences?: boolean;
}

/**
 * Repeats a value that the index returned a moment ago, so that a hot key or name costs no read: KV reads take
 * most of the time that the edge adds to a request. Writes through this isolate are visible at once; others'
 * writes `ttlMs` later than in KV itself. Never caches errors or stale values, and absences only if requested.
 */
export function withShortMemory<T>(index: BulkIndex<T>, options: ShortMemoryOptions): BulkShortMemory<T>;
export function withShortMemory<T>(index: Index<T>, options: ShortMemoryOptions): ShortMemory<T>;
export function withShortMemory<T>(
  index: Index<T> | BulkIndex<T>,
  options: ShortMemoryOptions,
): ShortMemory<T> | BulkShortMemory<T> {
  const { ttlMs, maxEntries, room, now, absences = false } = options;
  interface Fresh {
    lookup: Lookup<T>;
    until: number;
  }
  const newMap = () =>
    room.map<string, Fresh>(maxEntries, (key, { lookup }) =>
      weigh(key, lookup.state === 'found' ? lookup.value : null),
    );
  const found = newMap();
  const missing = newMap();
  /** A read that started before a write may return the old value, and is not cached. */
  let writes = 0;

  const recall = (key: string): Lookup<T> | null => {
    const known = found.get(key) ?? missing.get(key);
    return known !== undefined && now() < known.until ? known.lookup : null;
  };

  /** @param before write count when the read started. */
  const remember = (key: string, lookup: Lookup<T>, before: number) => {
    found.delete(key);
    missing.delete(key);
    if (writes !== before || lookup.state === 'trouble') return;
    if (lookup.state === 'found' ? lookup.stale : !absences) return;
    const fresh = lookup.state === 'found' ? found : missing;
    fresh.set(key, { lookup, until: now() + ttlMs });
  };

  const memory: ShortMemory<T> = {
    forget(key) {
      writes += 1;
      found.delete(key);
      missing.delete(key);
    },
    forgetAll() {
      writes += 1;
      found.clear();
      missing.clear();
    },
    async get(key) {
      const known = recall(key);
      if (known !== null) return known;
      const before = writes;
      const lookup = await index.get(key);
      remember(key, lookup, before);
      return lookup;
    },
  };
  if (!('getMany' in index)) return memory;
  return {
    ...memory,
    async getMany(keys) {
      const known = keys.map(recall);
      const wanted = keys.filter((_, i) => known[i] === null);
      const before = writes;
      const read = wanted.length === 0 ? [] : await index.getMany(wanted);
      for (const [i, key] of wanted.entries()) remember(key, read[i] as Lookup<T>, before);
      return known.map((lookup) => lookup ?? (read.shift() as Lookup<T>));
    },
  };
}

interface LastKnownGoodOptions {
  timeoutMs: number;
  maxAgeMs: number;
  maxEntries: number;
  room: CacheRoom;
  retryAfterMs: number;
  now: () => number;
}

/**
 * Remembers an index's last answer and returns it, marked stale, when the index fails: it throws, hangs,
 * returns garbage, or has lost a key that it knew (absence after presence is a failure of KV, because keys are
 * removed by tombstones). Never used while the index answers, so changes are visible at the next read.
 */
export function withLastKnownGood<T>(index: BulkIndex<T>, options: LastKnownGoodOptions): BulkIndex<T>;
export function withLastKnownGood<T>(index: Index<T>, options: LastKnownGoodOptions): Index<T>;
export function withLastKnownGood<T>(
  index: Index<T> | BulkIndex<T>,
  options: LastKnownGoodOptions,
): BulkIndex<T> | Index<T> {
  const { timeoutMs, maxAgeMs, maxEntries, room, retryAfterMs, now } = options;
  const known = room.map<string, { value: T; at: number }>(maxEntries, (key, { value }) => weigh(key, value));

  const ask = async <A>(question: () => Promise<A>, otherwise: (trouble: Lookup<T>) => A): Promise<A> => {
    try {
      return await withTimeout(question(), timeoutMs);
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown error';
      return otherwise({ state: 'trouble', reason, retryAfterMs });
    }
  };

  const remember = (key: string, value: T) => {
    known.set(key, { value, at: now() });
  };

  const settle = (key: string, lookup: Lookup<T>): Lookup<T> => {
    if (lookup.state === 'found') remember(key, lookup.value);
    else if (lookup.state === 'gone') known.delete(key);
    else {
      const last = known.get(key);
      if (last !== undefined && now() - last.at <= maxAgeMs)
        return { state: 'found', value: last.value, stale: true };
    }
    return lookup;
  };

  const get = async (key: string) =>
    settle(
      key,
      await ask(
        () => index.get(key),
        (trouble) => trouble,
      ),
    );
  if (!('getMany' in index)) return { get };
  return {
    get,
    async getMany(keys) {
      const lookups = await ask(
        () => index.getMany(keys),
        (trouble) => keys.map(() => trouble),
      );
      return lookups.map((lookup, i) => settle(keys[i] as string, lookup));
    },
  };
}

const SECOND_MS = 1_000;

/**
 * Asks D1 when an index has nothing: KV caches absences, and may wrongly report one, which must not deny
 * anybody access. When D1 does not answer, or has been asked too often, the index's answer is used.
 * @param params.ask throws StoreUnavailable.
 * @param params.perSecond limit of queries: made-up keys must not keep D1 busy.
 */
export function withDatabaseFallback<T>(
  index: Index<T>,
  params: { ask: (key: string) => Promise<Lookup<T>>; perSecond: number; now: () => number },
): Index<T> {
  const { ask, perSecond, now } = params;
  let since = -Infinity;
  let asked = 0;

  const mayAsk = (): boolean => {
    if (now() - since >= SECOND_MS) {
      since = now();
      asked = 0;
    }
    asked += 1;
    return asked <= perSecond;
  };

  return {
    async get(key) {
      const lookup = await index.get(key);
      if (lookup.state !== 'absent' || !mayAsk()) return lookup;
      try {
        return await ask(key);
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        logLine('absence_unconfirmed', { reason: error.message });
        return lookup;
      }
    },
  };
}

/**
 * Values that decide permissions are sealed: `<HMAC-SHA-256, hex>\n<JSON>`, the MAC over `graft-kv-v1\n<KV
 * key>\n<JSON>`. Somebody who can write KV, but lacks the secret, can neither create a value nor move one to
 * another key; an old genuine value of the same key can be restored.
 */

export interface Sealer {
  seal(key: string, value: unknown): Promise<string>;
  /** @returns the value, or null when the text was not sealed for this key. */
  open(key: string, text: string): Promise<{ value: unknown } | null>;
}

const MAC_DIGITS = 64;

type MacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

const importOnce = (secret: Uint8Array<ArrayBuffer>): (() => Promise<MacKey>) => {
  let imported: MacKey | undefined;
  return async () =>
    (imported ??= await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
      'verify',
    ]));
};

/**
 * @param secret at least 32 random bytes; seals and opens.
 * @param accepted further secrets that open: the previous or the next one, during a rotation.
 */
export function createSealer(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): Sealer {
  const macKey = importOnce(secret);
  const openers = [macKey, ...accepted.map(importOnce)];
  const message = (key: string, json: string) => new TextEncoder().encode(`graft-kv-v1\n${key}\n${json}`);
  return {
    async seal(key, value) {
      const json = JSON.stringify(value);
      return `${toHex(await crypto.subtle.sign('HMAC', await macKey(), message(key, json)))}\n${json}`;
    },
    async open(key, text) {
      const mac = text.slice(0, MAC_DIGITS);
      if (!/^[0-9a-f]{64}$/.test(mac) || text[MAC_DIGITS] !== '\n') return null;
      const json = text.slice(MAC_DIGITS + 1);
      const bytes = Uint8Array.from(mac.match(/../g) ?? [], (pair) => parseInt(pair, 16));
      for (const opener of openers)
        if (await crypto.subtle.verify('HMAC', await opener(), bytes, message(key, json)))
          return { value: JSON.parse(json) as unknown };
      return null;
    },
  };
}

/** A value that was removed on purpose. */
const Tombstone = z.strictObject({ gone: z.literal(true) });

interface SealedParams<T> {
  kv: KvNamespace;
  sealer: Sealer;
  schema: z.ZodType<T>;
  cacheTtl: number;
  retryAfterMs: number;
  location?: LocationCache | undefined;
}

/** Dependencies of every index in KV. */
export interface SealedIndexParams {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
  /** Asked before KV, and given what KV had. Only genuine values are used, from there as from KV. */
  location?: LocationCache | undefined;
}

/** Sealed values under ids. */
interface SealedIndex<T> extends BulkIndex<T> {
  /** @param ttl lifetime in seconds; default: forever. @throws StoreUnavailable */
  put(id: string, value: unknown, ttl?: number): Promise<void>;
  /**
   * Leaves a signed tombstone, so that a missing value never stands for a removed one.
   * @param ttl lifetime of the tombstone in seconds; default: forever. @throws StoreUnavailable
   */
  remove(id: string, ttl?: number): Promise<void>;
}

/**
 * @param params.prefix before the id in KV's keys, such as `name:`.
 * @param params.idOf the id inside a value. The seal covers the key, so another id can only be our own mistake;
 * it is an error, because it could serve another adapter's weights.
 */
export function createSealedIndex<T>(
  params: SealedIndexParams & { prefix: string; schema: z.ZodType<T>; idField?: keyof T },
): SealedIndex<T> {
  const { kv, sealer, pacing, prefix, retryAfterMs, idField } = params;
  const keyOf = (id: string) => prefix + id;
  const own = (id: string, found: Lookup<T>): Lookup<T> =>
    found.state === 'found' && idField !== undefined && found.value[idField] !== id
      ? { state: 'trouble', reason: `an entry in KV under ${prefix} belongs to another key`, retryAfterMs }
      : found;
  const put = async (id: string, value: unknown, ttl?: number) => {
    const key = keyOf(id);
    await putPaced(kv, key, await sealer.seal(key, value), pacing, ttl);
  };
  return {
    get: async (id) => own(id, await readSealed({ ...params, key: keyOf(id) })),
    async getMany(ids) {
      if (ids.length === 0) return [];
      const found = await readSealedMany({ ...params, keys: ids.map(keyOf) });
      return found.map((lookup, i) => own(ids[i] as string, lookup));
    },
    put,
    remove: (id, ttl) => put(id, { gone: true }, ttl),
  };
}

const readFailure = (error: unknown): string =>
  `KV read failed: ${error instanceof Error ? error.message : 'unknown error'}`;

/** Reads one sealed value; anything but a genuine value of this key is an error. */
async function readSealed<T>(params: SealedParams<T> & { key: string }): Promise<Lookup<T>> {
  const { kv, key, cacheTtl, retryAfterMs } = params;
  const near = await readNear(params, key);
  if (near.found !== null) return near.found;
  let text: string | null;
  try {
    text = await kv.get(key, { type: 'text', cacheTtl });
  } catch (error) {
    return { state: 'trouble', reason: readFailure(error), retryAfterMs };
  }
  return near.kept(await openSealed(params, key, text), text);
}

/** The same for several keys in one read. @returns in the order of `keys`. */
async function readSealedMany<T>(
  params: SealedParams<T> & { keys: readonly string[] },
): Promise<Lookup<T>[]> {
  const { kv, keys, cacheTtl, retryAfterMs } = params;
  const near = await Promise.all(keys.map((key) => readNear(params, key)));
  const wanted = keys.filter((_, i) => near[i]?.found === null);
  let texts = new Map<string, string | null>();
  let failure: string | null = null;
  try {
    if (wanted.length > 0) texts = await kv.get(wanted, { type: 'text', cacheTtl });
  } catch (error) {
    failure = readFailure(error);
  }
  return Promise.all(
    near.map(async ({ found, kept }, i) => {
      const key = keys[i] as string;
      if (found !== null) return found;
      if (failure !== null) return { state: 'trouble', reason: failure, retryAfterMs };
      const text = texts.get(key);
      return kept(await openSealed(params, key, text), text);
    }),
  );
}

interface NearLookup<T> {
  /** null = KV is asked. */
  found: Lookup<T> | null;
  /** Gives the location what KV had. */
  kept(lookup: Lookup<T>, text: string | null | undefined): Lookup<T>;
}

/** What the location has, if it is a genuine value; whatever else it has, KV decides. */
async function readNear<T>(params: SealedParams<T>, key: string): Promise<NearLookup<T>> {
  if (params.location === undefined) return { found: null, kept: (lookup) => lookup };
  const { text, keep } = await params.location.get(key);
  const found = text === null ? null : await openSealed(params, key, text);
  return {
    found: found?.state === 'found' ? found : null,
    kept(lookup, read) {
      if (lookup.state === 'found' && typeof read === 'string') keep(read);
      return lookup;
    },
  };
}

/** @param text as returned by KV; undefined when its answer lacks the key. */
async function openSealed<T>(
  params: SealedParams<T>,
  key: string,
  text: string | null | undefined,
): Promise<Lookup<T>> {
  const { sealer, schema, retryAfterMs } = params;
  const trouble = (reason: string): Lookup<T> => ({ state: 'trouble', reason, retryAfterMs });
  if (text === null) return { state: 'absent' };
  if (typeof text !== 'string') return trouble('KV returned a value that is not text');
  const opened = await sealer.open(key, text);
  if (opened === null) return trouble('a value in KV is not signed by this worker');
  if (Tombstone.safeParse(opened.value).success) return { state: 'gone' };
  const parsed = schema.safeParse(opened.value);
  if (!parsed.success) return trouble('a value in KV has an unknown form');
  if (typeof parsed.data === 'object' && parsed.data !== null) textLengths.set(parsed.data, text.length);
  return { state: 'found', value: parsed.data, stale: false };
}
