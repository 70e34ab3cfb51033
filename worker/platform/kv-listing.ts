import type { KvNamespace } from './kv-namespace.ts';
import { StoreUnavailable, type KeyListing } from './ports.ts';

export function createKvListing(kv: KvNamespace): KeyListing {
  return {
    async list({ prefix, cursor, limit }) {
      try {
        const page = await kv.list({ prefix, cursor, limit });
        return {
          items: page.keys.map(({ name }) => name.slice(prefix.length)),
          cursor: page.list_complete ? null : (page.cursor ?? null),
        };
      } catch (error) {
        throw new StoreUnavailable('KV', error);
      }
    },
  };
}
