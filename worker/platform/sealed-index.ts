import { z } from 'zod';
import type { KvNamespace } from './kv-namespace.ts';
import type { Sealer } from './sealed-value.ts';
import type { Lookup } from './ports.ts';

/** A value that was taken away on purpose. */
export const Tombstone = z.strictObject({ gone: z.literal(true) });

interface SealedParams<T> {
  kv: KvNamespace;
  sealer: Sealer;
  schema: z.ZodType<T>;
  cacheTtl: number;
  retryAfterMs: number;
}

const readFailure = (error: unknown): string =>
  `KV read failed: ${error instanceof Error ? error.message : 'unknown error'}`;

/** Reads one sealed value; everything that is not a genuine value of this key is trouble. */
export async function readSealed<T>(params: SealedParams<T> & { key: string }): Promise<Lookup<T>> {
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
export async function readSealedMany<T>(
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
