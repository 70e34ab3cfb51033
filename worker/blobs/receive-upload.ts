import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import { announcedLength, readBody } from '../http/request.ts';
import type { IntakeDeps } from '../registry/ports.ts';
import { PART_STALL_MS } from './limits.ts';
import { receivePart, type SentFile } from './stored-file.ts';
import type { Holding } from './upload-memory-limit.ts';

/**
 * Reads a part from a request's body, within the isolate's memory limit, and stores it.
 * @param params.maxBytes of the body. @param params.deadlineMs longest time for all of it.
 */
export function receiveUpload(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'uploadMemory' | 'now'>,
  params: {
    request: Request;
    digest: string;
    index: number;
    /** The sender's claim; null without one. */
    sha256: string | null;
    tenant: string;
    /** What it is added to; default: what the tenant has sent. */
    sender?: SentFile;
    maxBytes: number;
    deadlineMs: number;
  },
): Promise<Result<BlobPart, ApiError>> {
  const { request, maxBytes, deadlineMs, ...part } = params;
  const held = Math.min(announcedLength(request) ?? maxBytes, maxBytes);
  const holding: Holding = { tenant: part.tenant, kind: 'part', bytes: held, signal: request.signal };
  return deps.uploadMemory.hold(holding, async (alive) => {
    const pace = { stallMs: PART_STALL_MS, deadlineMs, now: deps.now, onChunk: alive };
    const bytes = await readBody(request, maxBytes, { pace });
    return bytes.ok ? receivePart(deps, { ...part, bytes: bytes.value }) : bytes;
  });
}
