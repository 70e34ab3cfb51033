/** Files in the store: received part by part, each under its own sha256; verified; their record rewritten. */
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import type { Mended } from '../../protocol/admin-api/upkeep.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { sameJson, sha256Hex } from '../../protocol/identity.ts';
import { MAX_PART_BYTES, MAX_PARTS } from '../../protocol/limits.ts';
import { StoreUnavailable, type Sha256 } from '../platform/ports.ts';
import type { BlobReading, BlobStore } from './ports.ts';
import type { SentPart } from './d1-blob-ledger.ts';
import { beingDeleted, adapterInvalid, registryUnavailable } from '../errors.ts';
import type { IntakeDeps } from '../registry/ports.ts';
import { DELETER_LATE_MS, PART_SETTLE_MS, READ_BACK_RETRY_MS, UPLOAD_KEPT_MS } from './limits.ts';

/** What one sender has sent of one file. */
export interface SentFile {
  /**
   * The part is stored.
   * @param times.since of `BlobLedger.touch`, before it was stored. @returns false when the file was deleted since.
   */
  add(part: BlobPart, times: { since: number; at: number }): Promise<boolean>;
  /** All of it, by index. */
  sent(): Promise<SentPart[]>;
  /** The part has to be sent again. */
  forget(index: number): Promise<void>;
}

type Ledger = Pick<IntakeDeps, 'blobLedger'>;

/** What a tenant has sent by the admin API. */
const sentBy = (
  { blobLedger }: Ledger,
  { digest, tenant }: { digest: string; tenant: string },
): SentFile => ({
  add: (part, times) => blobLedger.addPart({ digest, tenant, part, ...times }),
  sent: () => blobLedger.sent(digest, tenant),
  forget: (index) => blobLedger.forgetPart({ digest, tenant, index }),
});

/**
 * Stores part `index` of the file `digest`. The bytes go to their own key, whatever others have sent of that
 * file, so that sending them again is harmless, and repairs them. The result does not depend on other tenants.
 * @param params.sha256 the sender's claim; null without one.
 * @param params.sender what it is added to; default: what the tenant has sent.
 */
export async function receivePart(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'now'>,
  params: {
    digest: string;
    index: number;
    bytes: Uint8Array<ArrayBuffer>;
    sha256: string | null;
    tenant: string;
    sender?: SentFile;
  },
): Promise<Result<BlobPart, ApiError>> {
  const { blobs, blobLedger, now } = deps;
  const { digest, index, bytes, sender = sentBy(deps, params) } = params;
  if (index >= MAX_PARTS)
    return err(
      adapterInvalid('too_many_parts', `A file has at most ${MAX_PARTS} parts; part ${index} exceeds that.`),
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
  const since = await blobLedger.touch({ digest, at: now() });
  if (since === null || !(await blobLedger.storing({ digest, part, at: now() })))
    return err(beingDeleted(digest));
  await blobs.putPart(digest, part.sha256, bytes);
  return (await sender.add(part, { since, at: now() })) ? ok(part) : err(beingDeleted(digest));
}

/**
 * Completes the file: the sender has sent all the parts, each is stored as it was sent, and together they have
 * the digest. Nothing depends on others' uploads of the same file.
 * @param params.sender default: the tenant.
 * @returns whether the tenant held the file before.
 */
export async function finishBlob(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'createSha256' | 'now'>,
  params: { digest: string; record: BlobRecord; tenant: string; sender?: SentFile },
): Promise<Result<{ held: boolean }, ApiError>> {
  const { blobs, blobLedger, now } = deps;
  const { digest, record, tenant, sender = sentBy(deps, params) } = params;
  const total = record.parts.reduce((sum, part) => sum + part.bytes, 0);
  if (total !== record.bytes)
    return err(
      adapterInvalid('size_mismatch', `The parts have ${total} bytes in total, not ${record.bytes}.`),
    );
  const held = await blobLedger.holds(digest, tenant);
  const sent = new Map((await sender.sent()).filter(isThere(now())).map((part) => [part.index, part]));
  // Whoever holds the file has sent all of it. Its parts may be another's by now, which must not show.
  if (held && sent.size === 0 && (await blobLedger.rely({ digest, tenant, at: now() }))) return ok({ held });
  for (const [index, part] of record.parts.entries()) {
    const found = sent.get(index);
    if (found === undefined) return err(partMissing(index));
    if (found.sha256 !== part.sha256 || found.bytes !== part.bytes)
      return err(
        adapterInvalid(
          'part_mismatch',
          `Part ${index} was sent with ${found.bytes} bytes and sha256 ${found.sha256}, not ` +
            `${part.bytes} bytes and ${part.sha256}.`,
        ),
      );
  }
  const since = await blobLedger.touch({ digest, at: now() });
  if (since === null) return err(beingDeleted(digest));
  const sha256s = record.parts.map(({ sha256 }) => sha256);
  if (!(await blobLedger.keep({ digest, sha256s, at: now() }))) return err(beingDeleted(digest));
  const whole = await hashParts(deps, digest, record);
  if (!whole.ok) return err(await cannotBeRead(deps, { bad: whole.error, sent, sender }));
  if (whole.value !== digest)
    return err(
      adapterInvalid('digest_mismatch', `The parts make a file with sha256 ${whole.value}, not ${digest}.`),
    );
  const standing = await blobLedger.finish({ digest, record, since, at: now() });
  if (standing === null) return err(beingDeleted(digest));
  // Before anybody holds the file: an interrupted attempt is repeated.
  await blobs.putRecord(digest, standing);
  if (!(await blobLedger.hold({ digest, tenant, at: now() }))) {
    // It was erased in the meantime.
    await deleteLeftRecord(deps, digest);
    return err(beingDeleted(digest));
  }
  return ok({ held });
}

/** Deletes a record that was stored after its file was deleted, unless the file is being sent again. */
export async function deleteLeftRecord(
  { blobs, blobLedger, now }: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'now'>,
  digest: string,
): Promise<void> {
  const claim = now();
  if (!(await blobLedger.claimLeft({ digest, at: claim })) || now() - claim > DELETER_LATE_MS) return;
  await blobs.delete(digest);
  await blobLedger.leftIsGone({ digest, claim });
}

/** Parts of an incomplete upload are kept for a while, and must be sent again afterwards. */
export const isThere =
  (now: number) =>
  (part: SentPart): boolean =>
    part.stored && part.at > now - UPLOAD_KEPT_MS;

const partMissing = (index: number): ApiError =>
  adapterInvalid('part_missing', `Part ${index} was not sent within the last day.`);

/** A new part may not be visible yet; another is lost, and must be sent again. */
async function cannotBeRead(
  { now }: Pick<IntakeDeps, 'now'>,
  params: { bad: BadPart; sent: ReadonlyMap<number, SentPart>; sender: SentFile },
): Promise<ApiError> {
  const { bad, sent, sender } = params;
  const { index, was } = bad;
  if ((sent.get(index)?.at ?? 0) > now() - PART_SETTLE_MS)
    return registryUnavailable(READ_BACK_RETRY_MS, 'A part cannot be read back yet. Retry in a few seconds.');
  await sender.forget(index);
  return adapterInvalid('part_missing', `Part ${index} is ${was} in the store. Send it again.`);
}

/** @returns sha256 of all parts concatenated, or the first invalid part. */
async function hashParts(
  deps: Pick<IntakeDeps, 'blobs' | 'createSha256'>,
  digest: string,
  record: BlobRecord,
): Promise<Result<string, BadPart>> {
  const whole = deps.createSha256();
  for (const [index, part] of record.parts.entries()) {
    // Bypasses the caches: a part that was sent again for repair has been read before.
    const bad = await readPart(deps, { digest, index, part }, whole.update, { fresh: true });
    if (bad !== null) return err(bad);
  }
  return ok(await whole.digest());
}

/** A part that is missing, or has another hash. */
export interface BadPart {
  index: number;
  was: 'missing' | 'damaged';
}

/**
 * Reads a file from its beginning until stopped; hashes are not verified.
 * @param onChunk gets every chunk in order, until it returns that it is enough.
 * @returns whether it was; false when the file ends before, or a part is missing. @throws StoreUnavailable
 */
export async function readBeginning(
  deps: { blobs: BlobStore },
  params: { digest: string; record: BlobRecord },
  onChunk: (chunk: Uint8Array) => boolean,
): Promise<boolean> {
  const { digest, record } = params;
  for (const { sha256 } of record.parts) {
    const stream = await deps.blobs.getPart(digest, sha256);
    if (stream === null) return false;
    for await (const chunk of chunksOf(stream)) if (onChunk(chunk)) return true;
  }
  return false;
}

/** Cancels the read of an unneeded rest. */
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
 * Reads a stored part and verifies its hash, in constant memory.
 * @param onChunk gets every chunk in order, before the part is verified.
 * @returns null when it is valid. @throws StoreUnavailable
 */
export async function readPart(
  deps: { blobs: BlobStore; createSha256: () => Sha256 },
  params: { digest: string; index: number; part: BlobRecord['parts'][number] },
  onChunk: (chunk: Uint8Array) => void | Promise<void>,
  reading: BlobReading = {},
): Promise<BadPart | null> {
  const { digest, index, part } = params;
  const stream = await deps.blobs.getPart(digest, part.sha256, reading);
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
 * Ensures that the store has the file's record as D1 has it.
 * @param params.dryRun reports what would be written, but writes nothing.
 * @returns what was wrong, or null. @throws StoreUnavailable
 */
export async function writeRecordAnew(
  blobs: BlobStore,
  params: { digest: string; record: BlobRecord; dryRun?: boolean },
): Promise<Extract<Mended['was'], 'missing' | 'outdated' | 'unreadable'> | null> {
  const { digest, record, dryRun = false } = params;
  const was = await problemOf(blobs, digest, record);
  if (was !== null && !dryRun) await blobs.putRecord(digest, record);
  return was;
}

async function problemOf(blobs: BlobStore, digest: string, record: BlobRecord) {
  try {
    const found = await blobs.getRecord(digest, { fresh: true });
    if (found === null) return 'missing';
    return sameJson(found, record) ? null : 'outdated';
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    // No record, or no answer; in the latter case the write fails as well.
    return 'unreadable';
  }
}
