import type { WritePacing } from './store-calls.ts';
import { z } from 'zod';
import { putPaced, type KvNamespace } from './kv-namespace.ts';
import type { BulkIndex, Lookup } from './ports.ts';
import { toHex } from '../../protocol/index.ts';

/**
 * Values that decide who may do what are sealed: `<HMAC-SHA-256, hex>\n<JSON>`, the MAC over
 * `graft-kv-v1\n<KV key>\n<JSON>`. Whoever can write KV, but has not the secret, can neither make a value nor move one
 * to another key; an old genuine value of the same key can be put back.
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
 * @param accepted secrets that open as well: the one before, or the one to come, while they are rotated.
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

/** A value that was taken away on purpose. */
const Tombstone = z.strictObject({ gone: z.literal(true) });

interface SealedParams<T> {
  kv: KvNamespace;
  sealer: Sealer;
  schema: z.ZodType<T>;
  cacheTtl: number;
  retryAfterMs: number;
}

/** What every index in KV stands on. */
export interface SealedIndexParams {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}

/** Sealed values under ids. */
export interface SealedIndex<T> extends BulkIndex<T> {
  /** @param ttl seconds that it stays; for good unless given. @throws StoreUnavailable */
  put(id: string, value: unknown, ttl?: number): Promise<void>;
  /**
   * Leaves a signed mark, so that a missing value can never stand for what was taken away.
   * @param ttl seconds that the mark stays; for good unless given. @throws StoreUnavailable
   */
  remove(id: string, ttl?: number): Promise<void>;
}

/**
 * @param params.prefix what stands before the id in KV's keys, such as `name:`.
 * @param params.idOf where a value says whose it is. The seal is over the key, so another's can only be our own mistake;
 * it is trouble, lest it serve another's weights.
 */
export function createSealedIndex<T>(
  params: SealedIndexParams & { prefix: string; schema: z.ZodType<T>; idOf?: (value: T) => string },
): SealedIndex<T> {
  const { kv, sealer, pacing, prefix, retryAfterMs, idOf } = params;
  const keyOf = (id: string) => prefix + id;
  const own = (id: string, found: Lookup<T>): Lookup<T> =>
    found.state === 'found' && idOf !== undefined && idOf(found.value) !== id
      ? { state: 'trouble', reason: `an entry in KV under ${prefix} is that of another`, retryAfterMs }
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

/** Reads one sealed value; everything that is not a genuine value of this key is trouble. */
async function readSealed<T>(params: SealedParams<T> & { key: string }): Promise<Lookup<T>> {
  const { kv, key, cacheTtl, retryAfterMs } = params;
  let text: string | null;
  try {
    text = await kv.get(key, { type: 'text', cacheTtl });
  } catch (error) {
    return { state: 'trouble', reason: readFailure(error), retryAfterMs };
  }
  return openSealed(params, key, text);
}

/** The same for several keys in one read. @returns in the order of `keys`. */
async function readSealedMany<T>(
  params: SealedParams<T> & { keys: readonly string[] },
): Promise<Lookup<T>[]> {
  const { kv, keys, cacheTtl, retryAfterMs } = params;
  let texts: Map<string, string | null>;
  try {
    texts = await kv.get([...keys], { type: 'text', cacheTtl });
  } catch (error) {
    return keys.map(() => ({ state: 'trouble', reason: readFailure(error), retryAfterMs }));
  }
  return Promise.all(keys.map((key) => openSealed(params, key, texts.get(key))));
}

/** @param text as KV gave it; undefined when its answer lacks the key. */
async function openSealed<T>(
  params: SealedParams<T>,
  key: string,
  text: string | null | undefined,
): Promise<Lookup<T>> {
  const { sealer, schema, retryAfterMs } = params;
  const trouble = (reason: string): Lookup<T> => ({ state: 'trouble', reason, retryAfterMs });
  if (text === null) return { state: 'absent' };
  if (typeof text !== 'string') return trouble('KV answered with something that is no text');
  const opened = await sealer.open(key, text);
  if (opened === null) return trouble('a value in KV is not signed by this worker');
  if (Tombstone.safeParse(opened.value).success) return { state: 'gone' };
  const parsed = schema.safeParse(opened.value);
  if (!parsed.success) return trouble('a value in KV has an unknown form');
  return { state: 'found', value: parsed.data, stale: false };
}
