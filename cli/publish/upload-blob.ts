import { z } from 'zod';
import { headerBytes } from '../../adapters/index.ts';
import { blobRecordOf, splitParts, type BlobRecord } from '../../protocol/adapter-manifest.ts';
import type { BlobLimits } from '../../protocol/admin-api/blobs.ts';
import { type ApiClient, type Retrying, callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';

/** Enough to keep a link busy; more would only fill the edge's memory. */
const PARALLEL_PARTS = 2;

/** Answers that only confirm. */
const NOT_NEEDED = z.unknown();

/** How often a file is completed: after each attempt, the server may find one lost part. */
const MAX_UPLOADS = 4;

/** How much of a file the server has from us. */
export interface UploadPlan {
  readonly complete: boolean;
  /** Indices of the parts that it lacks. */
  readonly missing: readonly number[];
  readonly missingBytes: number;
  readonly record: BlobRecord;
  /** All of them, in order. */
  readonly parts: readonly Uint8Array<ArrayBuffer>[];
}

/**
 * Asks what is there already, and the server's limits; changes nothing.
 * @throws CliError `adapter_invalid` (refused) for a file that exceeds them.
 */
export async function planUpload(params: {
  client: ApiClient;
  digest: string;
  bytes: Uint8Array<ArrayBuffer>;
  partBytes?: number;
  retrying?: Retrying;
}): Promise<UploadPlan> {
  const { client, digest, bytes, retrying = {} } = params;
  const call = { params: { digest }, retrying };
  const state = await callOperation(client, 'look up the upload', 'GET /admin/blobs/:digest', call);
  const { complete, parts: held, limits } = state;
  const { partBytes = limits.part_bytes } = params;
  const parts = splitParts(bytes, partBytes);
  refuseLarge(bytes, parts.length, limits);
  const record = await blobRecordOf(parts);
  const sha256Of = new Map(held.map(({ index, sha256 }) => [index, sha256]));
  const missing = complete
    ? []
    : record.parts.flatMap(({ sha256 }, index) => (sha256Of.get(index) === sha256 ? [] : [index]));
  const missingBytes = missing.reduce((sum, index) => sum + (record.parts[index]?.bytes ?? 0), 0);
  return { complete, missing, missingBytes, record, parts };
}

function refuseLarge(file: Uint8Array<ArrayBuffer>, parts: number, limits: BlobLimits): void {
  const most = Math.min(limits.file_bytes, limits.parts * limits.part_bytes);
  if (file.length > most || parts > limits.parts)
    throw tooLarge(
      `The packed file has ${file.length} bytes; the server accepts at most ${most}. Use a smaller ` +
        'rank, fewer modules or --bf16. (file_too_large)',
    );
  const header = headerBytes(file);
  if (header > limits.header_bytes)
    throw tooLarge(
      `The packed file has a header of ${header} bytes; the server reads at most ` +
        `${limits.header_bytes}. Use fewer modules. (header_too_large)`,
    );
}

const tooLarge = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.refused, code: 'adapter_invalid' });

/**
 * Sends a canonical file in parts and completes it. Parts that the server has are not sent again, so the same
 * call continues an earlier one; parts lost since are sent again.
 * @param onProgress bytes that the server has.
 * @returns how many bytes were sent.
 * @throws CliError
 */
export async function uploadBlob(
  params: {
    client: ApiClient;
    digest: string;
    bytes: Uint8Array<ArrayBuffer>;
    onProgress?: (done: number) => void;
    partBytes?: number;
    retrying?: Retrying;
  },
  tries = MAX_UPLOADS,
): Promise<number> {
  const { client, digest, bytes, onProgress, retrying = {} } = params;
  const { complete, missing, missingBytes, record, parts } = await planUpload(params);
  let done = bytes.length - missingBytes;
  onProgress?.(done);
  if (complete) return 0;
  const waiting = [...missing];
  let sent = 0;
  const sender = async () => {
    for (let index = waiting.shift(); index !== undefined; index = waiting.shift()) {
      const part = parts[index] as Uint8Array<ArrayBuffer>;
      const sha256 = record.parts[index]?.sha256 as string;
      await callOperation(client, `send part ${index}`, 'PUT /admin/blobs/:digest/parts/:index', {
        params: { digest, index: String(index) },
        query: { sha256 },
        body: part,
        as: NOT_NEEDED,
        retrying,
      });
      sent += part.length;
      onProgress?.((done += part.length));
    }
  };
  await settled(Array.from({ length: PARALLEL_PARTS }, sender));
  const close = { params: { digest }, body: record, as: NOT_NEEDED, retrying };
  try {
    await callOperation(client, 'close the upload', 'POST /admin/blobs/:digest', close);
  } catch (error) {
    const lost = error instanceof CliError && error.reason === 'part_missing';
    if (!lost || tries <= 1) throw error;
    return sent + (await uploadBlob(params, tries - 1));
  }
  return sent;
}

/** Waits for all, so that a part in flight still arrives when another fails. @throws the first failure. */
async function settled(senders: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(senders);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
