/** How a file goes to the edge: in parts, each under its own sha256. */
import type { BlobRecord } from './adapter-manifest.ts';
import { sha256Hex } from './identity.ts';
import { MAX_PART_BYTES } from './limits.ts';

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
