/** A file as it lies in the store: its parts read back, its record written anew. */
import { type BlobRecord, sameJson, type Mended } from '../../protocol/index.ts';
import { StoreUnavailable, type Sha256 } from '../platform/ports.ts';
import type { BlobReading, BlobStore } from './ports.ts';

/** A part that is not there, or does not have its hash. */
export interface BadPart {
  index: number;
  was: 'missing' | 'damaged';
}

/**
 * Reads a file from its beginning, as far as somebody wants; nothing is compared with its hash.
 * @param onChunk sees every chunk in order, until it says that it is enough.
 * @returns whether it was; false when the file ends before, or a part is not there. @throws StoreUnavailable
 */
export async function readBeginning(
  deps: { blobs: Pick<BlobStore, 'getPart'> },
  params: { digest: string; record: BlobRecord },
  onChunk: (chunk: Uint8Array) => boolean,
): Promise<boolean> {
  const { digest, record } = params;
  for (const [index, { sha256 }] of record.parts.entries()) {
    const stream = await deps.blobs.getPart(digest, { index, sha256 });
    if (stream === null) return false;
    for await (const chunk of chunksOf(stream)) if (onChunk(chunk)) return true;
  }
  return false;
}

/** Ends the read of what nobody wants any more. */
async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks = stream[Symbol.asyncIterator]();
  const next = async () => {
    try {
      return await chunks.next();
    } catch (error) {
      throw new StoreUnavailable('blobs', error);
    }
  };
  try {
    for (let read = await next(); !read.done; read = await next()) yield read.value;
  } finally {
    await chunks.return?.().catch(() => undefined);
  }
}

/**
 * Reads a part as it lies in the store and compares it with its hash, in constant memory.
 * @param onChunk sees every chunk in order, before anybody knows whether the part is good.
 * @returns null when it is good. @throws StoreUnavailable
 */
export async function readPart(
  deps: { blobs: Pick<BlobStore, 'getPart'>; createSha256: () => Sha256 },
  params: { digest: string; index: number; part: BlobRecord['parts'][number] },
  onChunk: (chunk: Uint8Array) => void | Promise<void>,
  reading: BlobReading = {},
): Promise<BadPart | null> {
  const { digest, index, part } = params;
  const stream = await deps.blobs.getPart(digest, { index, sha256: part.sha256 }, reading);
  if (stream === null) return { index, was: 'missing' };
  const hash = deps.createSha256();
  let size = 0;
  for await (const chunk of chunksOf(stream)) {
    size += chunk.length;
    if (size > part.bytes) return { index, was: 'damaged' };
    await hash.update(chunk);
    await onChunk(chunk);
  }
  const good = size === part.bytes && (await hash.digest()) === part.sha256;
  return good ? null : { index, was: 'damaged' };
}

/**
 * Sees to it that the store has the file's record as the system of record has it.
 * @param params.dryRun says what would be written, and writes nothing.
 * @returns what was wrong, or null. @throws StoreUnavailable
 */
export async function writeRecordAnew(
  blobs: Pick<BlobStore, 'getRecord' | 'putRecord'>,
  params: { digest: string; record: BlobRecord; dryRun?: boolean },
): Promise<Extract<Mended['was'], 'missing' | 'outdated' | 'unreadable'> | null> {
  const { digest, record, dryRun = false } = params;
  const was = await problemOf(blobs, digest, record);
  if (was !== null && !dryRun) await blobs.putRecord(digest, record);
  return was;
}

async function problemOf(blobs: Pick<BlobStore, 'getRecord'>, digest: string, record: BlobRecord) {
  try {
    const found = await blobs.getRecord(digest, { fresh: true });
    if (found === null) return 'missing';
    return sameJson(found, record) ? null : 'outdated';
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    // No record, or no answer; then the write fails as well.
    return 'unreadable';
  }
}
