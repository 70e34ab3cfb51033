/**
 * An adapter's version as the hot path reads it, and its file, which is sent to the edge in parts, each with
 * its own sha256.
 */
import { z } from 'zod';
import { Digest, sha256Hex, AdapterName } from './identity.ts';
import {
  MAX_CHAIN,
  MAX_CLASSES,
  MAX_INVOCATION_TOKENS,
  MAX_PART_BYTES,
  MAX_PARTS,
  MAX_VOCABULARY,
} from './limits.ts';

/** Token ids of an activated adapter: it acts from their last occurrence in a prompt on. */
export const InvocationTokens = z
  .array(
    z
      .int()
      .min(0)
      .max(MAX_VOCABULARY - 1),
  )
  .min(1)
  .max(MAX_INVOCATION_TOKENS);

/** A chain member as the registry stores it: what to apply, and whose permission it needs. */
export const ManifestChainEntry = z.strictObject({
  digest: Digest,
  scale: z.number().finite(),
  name: AdapterName,
  owner: z.string().min(1),
  /** Largest rank of its modules; absent in older entries. */
  rank: z.int().positive().optional(),
  /** It acts from its invocation tokens on only; absent = on every token. */
  activated: z.literal(true).optional(),
  /** Classes of its classification head; absent = it generates text. */
  classes: z.int().positive().max(MAX_CLASSES).optional(),
});
export type ManifestChainEntry = z.infer<typeof ManifestChainEntry>;

/** The value of KV `name:<path>`: everything the hot path needs, in one read. */
export const AdapterManifest = z.strictObject({
  name: AdapterName,
  version: z.int().positive(),
  digest: Digest,
  /** Root first, this version last. */
  chain: z.array(ManifestChainEntry).min(1).max(MAX_CHAIN),
  chainId: Digest,
  owner: z.string().min(1),
  base: z.strictObject({ id: z.string(), digest: Digest }),
  /** Size of this version's own canonical file, bytes. */
  bytes: z.int().positive(),
  /** Largest rank of this version's own modules. */
  rank: z.int().positive(),
  createdAt: z.int(),
  experiment: z.string().optional(),
  /** Of the name: neither it nor a name above it answers for missing names below it. */
  strict: z.literal(true).optional(),
  /** It, or another owner's adapter that it depends on, was retired: it is not served. */
  withdrawn: z.literal(true).optional(),
});
export type AdapterManifest = z.infer<typeof AdapterManifest>;

/** The value of KV `name:<alias>`: the name that it stands for. It gives no right to the target. */
export const NameAlias = z.strictObject({ name: AdapterName, alias: AdapterName });
export type NameAlias = z.infer<typeof NameAlias>;

/** What a name can hold. */
export type NameEntry = AdapterManifest | NameAlias;

/**
 * Parts of a canonical file, in order; the value of `blob:<digest>`, and what an origin is told before the
 * bytes.
 */
export const BlobRecord = z
  .strictObject({
    bytes: z.int().positive(),
    parts: z
      .array(z.strictObject({ bytes: z.int().positive().max(MAX_PART_BYTES), sha256: Digest }))
      .min(1)
      .max(MAX_PARTS),
  })
  .meta({ id: 'BlobRecord' });
export type BlobRecord = z.infer<typeof BlobRecord>;

/** @returns views of `bytes`, at most `partBytes` each. */
export function splitParts(
  bytes: Uint8Array<ArrayBuffer>,
  partBytes = MAX_PART_BYTES,
): Uint8Array<ArrayBuffer>[] {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let offset = 0; offset < bytes.length; offset += partBytes)
    parts.push(bytes.subarray(offset, offset + partBytes));
  return parts;
}

/** @param parts of the whole file, in their order. */
export async function blobRecordOf(parts: readonly Uint8Array<ArrayBuffer>[]): Promise<BlobRecord> {
  const described = await Promise.all(
    parts.map(async (part) => ({ bytes: part.length, sha256: await sha256Hex(part) })),
  );
  return { bytes: parts.reduce((sum, { length }) => sum + length, 0), parts: described };
}
