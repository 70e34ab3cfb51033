import { z } from 'zod';
import type { KvNamespace } from './kv-namespace.ts';
import type { Sealer } from './sealed-value.ts';
import type { Lookup } from './types.ts';

/** A value that was taken away on purpose. */
export const Tombstone = z.strictObject({ gone: z.literal(true) });

/** Reads one sealed value; everything that is not a genuine value of this key is trouble. */
export async function readSealed<T>(params: {
  kv: KvNamespace;
  sealer: Sealer;
  key: string;
  schema: z.ZodType<T>;
  cacheTtl: number;
  retryAfterMs: number;
}): Promise<Lookup<T>> {
  const { kv, sealer, key, schema, cacheTtl, retryAfterMs } = params;
  const trouble = (reason: string): Lookup<T> => ({ state: 'trouble', reason, retryAfterMs });
  let text: string | null;
  try {
    text = await kv.get(key, { type: 'text', cacheTtl });
  } catch (error) {
    return trouble(`KV read failed: ${error instanceof Error ? error.message : 'unknown error'}`);
  }
  if (text === null) return { state: 'absent' };
  if (typeof text !== 'string') return trouble('KV answered with something that is no text');
  const opened = await sealer.open(key, text);
  if (opened === null) return trouble('a value in KV is not signed by this worker');
  if (Tombstone.safeParse(opened.value).success) return { state: 'gone' };
  const parsed = schema.safeParse(opened.value);
  if (!parsed.success) return trouble('a value in KV has an unknown form');
  return { state: 'found', value: parsed.data, stale: false };
}
