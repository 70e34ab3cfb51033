import { z } from 'zod';
import { AdapterManifest, NameAlias, type NameEntry } from '../../protocol/index.ts';
import { createSealedIndex, type SealedIndexParams } from '../platform/sealed-index.ts';
import type { NameIndex } from './ports-pointers.ts';

const schema: z.ZodType<NameEntry> = z.union([AdapterManifest, NameAlias]);

/** `name:<name>` -> sealed manifest of the live version, or sealed alias, or a sealed tombstone of an alias. */
export function createKvNameIndex(params: SealedIndexParams): NameIndex {
  const index = createSealedIndex({ ...params, prefix: 'name:', schema, idOf: ({ name }) => name });
  return { ...index, put: (entry) => index.put(entry.name, entry) };
}
