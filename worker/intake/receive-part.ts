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
import { beingDeleted, invalid, type IntakeDeps } from './intake-deps.ts';

/**
 * Takes part `index` of the file `digest`. Sending it again is harmless. Once the file is complete its parts are
 * fixed: the same bytes are taken as proof that the sender has them, others are refused.
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
  const { digest, index, bytes, tenant } = params;
  if (index >= MAX_PARTS)
    return err(
      invalid('too_many_parts', `A file has at most ${MAX_PARTS} parts; part ${index} is one too many.`),
    );
  if (bytes.length === 0 || bytes.length > MAX_PART_BYTES)
    return err(
      invalid('part_size', `Part ${index} has ${bytes.length} bytes; 1 to ${MAX_PART_BYTES} are allowed.`),
    );
  const part: BlobPart = { index, bytes: bytes.length, sha256: await sha256Hex(bytes) };
  if (params.sha256 !== null && params.sha256 !== part.sha256)
    return err(
      invalid('part_mismatch', `Part ${index} arrived with sha256 ${part.sha256}, not ${params.sha256}.`),
    );
  if (!(await deps.blobLedger.touch({ digest, parts: index + 1, at: deps.now() })))
    return err(beingDeleted(digest));
  const complete = await deps.blobLedger.record(digest);
  if (complete !== null && complete.parts[index]?.sha256 !== part.sha256)
    return err(invalid('part_mismatch', `Part ${index} is not part ${index} of the file ${digest}.`));
  // Also when the file is complete: sending a part again mends it.
  await deps.blobs.putPart(digest, index, bytes, part.sha256);
  await deps.blobLedger.addPart({ digest, tenant, part, at: deps.now() });
  return ok(part);
}
