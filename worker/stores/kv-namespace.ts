import { StoreUnavailable } from './types.ts';

/** The part of Workers KV that graft uses; `KVNamespace` fits it, and so does the fake of the tests. */
export interface KvNamespace {
  get(key: string, options: { type: 'text'; cacheTtl: number }): Promise<string | null>;
  get(key: string, options: { type: 'stream'; cacheTtl: number }): Promise<ReadableStream<Uint8Array> | null>;
  put(key: string, value: string | Uint8Array<ArrayBuffer>): Promise<void>;
}

/** KV's words for "the same key was written less than a second ago". */
const isRateLimited = (error: unknown): boolean =>
  error instanceof Error && /429|too many/i.test(error.message);

export interface WritePacing {
  pauseMs: number;
  tries: number;
  sleep: (ms: number) => Promise<void>;
}

/**
 * Writes, and again after a pause when the key was written within the last second.
 * @throws StoreUnavailable
 */
export async function putPaced(
  kv: KvNamespace,
  key: string,
  value: string | Uint8Array<ArrayBuffer>,
  pacing: WritePacing,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await kv.put(key, value);
      return;
    } catch (error) {
      if (attempt >= pacing.tries || !isRateLimited(error)) throw new StoreUnavailable('KV', error);
      await pacing.sleep(pacing.pauseMs);
    }
  }
}
