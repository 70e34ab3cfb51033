import { deletePaced, putPaced, type KvNamespace, type WritePacing } from '../platform/kv-namespace.ts';
import type { DropBox } from './ports.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import { withTimeout } from '../platform/with-timeout.ts';

const PREFIX = 'drop:';
const ERROR_PREFIX = 'drop-error:';
const MAX_KEY_BYTES = 512;

/** @returns the key under which a refusal is told; a name too long for one is cut. */
const errorKey = (name: string): string => {
  let shown = name;
  while (new TextEncoder().encode(ERROR_PREFIX + shown).length > MAX_KEY_BYTES) shown = shown.slice(0, -1);
  return ERROR_PREFIX + shown;
};

/** `drop:<name>` -> a packed file, put there by hand; `drop-error:<name>` -> why it was not taken, for people to read. */
export function createKvDropBox(params: {
  kv: KvNamespace;
  /** Seconds that a file read again may be old. */
  cacheTtl: number;
  /** Until a file has arrived. */
  timeoutMs: number;
  pacing: WritePacing;
}): DropBox {
  const { kv, cacheTtl, timeoutMs, pacing } = params;
  const guard = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailable('KV', error);
    }
  };
  const readWhole = async (name: string) => {
    const stream = await kv.get(PREFIX + name, { type: 'stream', cacheTtl });
    return stream === null ? null : new Uint8Array(await new Response(stream).arrayBuffer());
  };
  return {
    list: (cursor) =>
      guard(async () => {
        const page = await withTimeout(kv.list({ prefix: PREFIX, cursor }), timeoutMs);
        return {
          items: page.keys.map((key) => key.name.slice(PREFIX.length)),
          cursor: page.list_complete ? null : (page.cursor ?? null),
        };
      }),
    read: (name) => guard(() => withTimeout(readWhole(name), timeoutMs)),
    remove: (name) => deletePaced(kv, PREFIX + name, pacing),
    putError: (name, error) => putPaced(kv, errorKey(name), JSON.stringify(error), pacing),
    clearError: (name) => deletePaced(kv, errorKey(name), pacing),
  };
}
