import { createSealedIndex, type SealedIndexParams } from '../platform/sealed-index.ts';
import { KeyRecord, type KeyIndex } from './ports.ts';

/** `key:<sha256 of the API key>` -> sealed record, or a sealed tombstone once it is revoked. */
export function createKvKeyIndex(params: SealedIndexParams): KeyIndex {
  const { get, put, remove } = createSealedIndex({ ...params, prefix: 'key:', schema: KeyRecord });
  return { get, put, revoke: remove };
}
