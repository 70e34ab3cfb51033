import type { AdapterManifest } from '../protocol/index.ts';
import * as limits from './limits.ts';
import { createKvKeyIndex } from './stores/kv-key-index.ts';
import { createKvNameIndex } from './stores/kv-name-index.ts';
import { withLastKnownGood } from './stores/last-known-good.ts';
import { forgettingKeys, forgettingNames, withShortMemory } from './stores/short-memory.ts';
import type { Index, KeyIndex, KeyRecord, NameIndex } from './stores/types.ts';

export interface HotIndexes {
  /** As the hot path reads them: a moment's memory in front, the last known good behind. */
  names: Index<AdapterManifest>;
  keys: Index<KeyRecord>;
  /** As the admin API writes them: what is written here is seen here at once. */
  nameIndex: NameIndex;
  keyIndex: KeyIndex;
}

export function createHotIndexes(params: {
  pointer: Parameters<typeof createKvNameIndex>[0];
  now: () => number;
}): HotIndexes {
  const { pointer, now } = params;
  const kvNames = createKvNameIndex(pointer);
  const kvKeys = createKvKeyIndex(pointer);
  const maxEntries = limits.LAST_KNOWN_GOOD_ENTRIES;
  const behind = {
    timeoutMs: limits.KV_TIMEOUT_MS,
    maxAgeMs: limits.LAST_KNOWN_GOOD_MS,
    maxEntries,
    retryAfterMs: pointer.retryAfterMs,
    now,
  };
  const before = { ttlMs: limits.SHORT_MEMORY_MS, maxEntries, now };
  const names = withShortMemory(withLastKnownGood(kvNames, behind), before);
  const keys = withShortMemory(withLastKnownGood(kvKeys, behind), before);
  return { names, keys, nameIndex: forgettingNames(kvNames, names), keyIndex: forgettingKeys(kvKeys, keys) };
}
