import {
  err,
  MAX_PART_BYTES,
  MAX_PARTS,
  ok,
  sha256Hex,
  type ApiError,
  type BlobPart,
  type Result,
} from '../../protocol/index.ts';
import { beingDeleted, adapterInvalid } from '../errors.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';

/**
 * Takes part `index` of the file `digest`. The bytes go where only they can lie, whatever others have sent of that file,
 * so that sending them again is harmless, and mends them. What is done does not depend on other tenants.
 * @param params.sha256 what the sender says it sent; null when it does not say.
 */
export async function receivePart(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'now'>,
  params: {
    digest: string;
    index: number;
    bytes: Uint8Array<ArrayBuffer>;
    sha256: string | null;
    tenant: string;
  },
): Promise<Result<BlobPart, ApiError>> {
  const { blobs, blobLedger, now } = deps;
  const { digest, index, bytes, tenant } = params;
  if (index >= MAX_PARTS)
    return err(
      adapterInvalid(
        'too_many_parts',
        `A file has at most ${MAX_PARTS} parts; part ${index} is one too many.`,
      ),
    );
  if (bytes.length === 0 || bytes.length > MAX_PART_BYTES)
    return err(
      adapterInvalid(
        'part_size',
        `Part ${index} has ${bytes.length} bytes; 1 to ${MAX_PART_BYTES} are allowed.`,
      ),
    );
  const part: BlobPart = { index, bytes: bytes.length, sha256: await sha256Hex(bytes) };
  if (params.sha256 !== null && params.sha256 !== part.sha256)
    return err(
      adapterInvalid(
        'part_mismatch',
        `Part ${index} arrived with sha256 ${part.sha256}, not ${params.sha256}.`,
      ),
    );
  if (
    !(await blobLedger.touch({ digest, at: now() })) ||
    !(await blobLedger.storing({ digest, part, at: now() }))
  )
    return err(beingDeleted(digest));
  await blobs.putPart(digest, part.sha256, bytes);
  await blobLedger.addPart({ digest, tenant, part, at: now() });
  return ok(part);
}
