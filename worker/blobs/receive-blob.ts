/** How a file comes in: part by part, each under its own sha256, and closed when all of them are there. */
import {
  err,
  MAX_PART_BYTES,
  MAX_PARTS,
  ok,
  sha256Hex,
  type ApiError,
  type BlobPart,
  type Result,
  type BlobRecord,
} from '../../protocol/index.ts';
import { beingDeleted, adapterInvalid, registryUnavailable } from '../errors.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { PART_SETTLE_MS, READ_BACK_RETRY_MS, UPLOAD_KEPT_MS } from './limits.ts';
import type { SentPart } from './ports.ts';
import { readPart, type BadPart } from './stored-file.ts';

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

/**
 * Declares the file complete: this tenant has sent all the parts, each is in the store as it was sent, and together they
 * have the digest. Nothing of it depends on what others sent of the same file.
 * @returns whether the tenant held the file before.
 */
export async function finishBlob(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'createSha256' | 'now'>,
  params: { digest: string; record: BlobRecord; tenant: string },
): Promise<Result<{ held: boolean }, ApiError>> {
  const { blobs, blobLedger, now } = deps;
  const { digest, record, tenant } = params;
  const total = record.parts.reduce((sum, part) => sum + part.bytes, 0);
  if (total !== record.bytes)
    return err(
      adapterInvalid('size_mismatch', `The parts have ${total} bytes together, not ${record.bytes}.`),
    );
  const held = await blobLedger.holds(digest, tenant);
  const sent = new Map(
    (await blobLedger.sent(digest, tenant)).filter(isThere(now())).map((part) => [part.index, part]),
  );
  for (const [index, part] of record.parts.entries()) {
    const found = sent.get(index);
    if (found === undefined) return err(partMissing(index));
    if (found.sha256 !== part.sha256 || found.bytes !== part.bytes)
      return err(
        adapterInvalid(
          'part_mismatch',
          `Part ${index} was sent with ${found.bytes} bytes and sha256 ${found.sha256}, ` +
            `not ${part.bytes} bytes and ${part.sha256}.`,
        ),
      );
  }
  if (!(await blobLedger.touch({ digest, at: now() }))) return err(beingDeleted(digest));
  const sha256s = record.parts.map(({ sha256 }) => sha256);
  if (!(await blobLedger.keep({ digest, sha256s, at: now() }))) return err(beingDeleted(digest));
  const whole = await hashParts(deps, digest, record);
  if (!whole.ok) return err(await cannotBeRead(deps, { digest, tenant, bad: whole.error, sent }));
  if (whole.value !== digest)
    return err(
      adapterInvalid('digest_mismatch', `The parts make a file with sha256 ${whole.value}, not ${digest}.`),
    );
  const standing = await blobLedger.finish({ digest, record, at: now() });
  // Before anybody holds the file: what is cut off here is closed again.
  await blobs.putRecord(digest, standing);
  if (!(await blobLedger.hold({ digest, tenant, at: now() }))) {
    // It was erased meanwhile.
    await blobs.delete(digest, 0);
    return err(beingDeleted(digest));
  }
  return ok({ held });
}

/** Parts of an upload that is not finished are kept for a while, and then have to be sent again. */
export const isThere =
  (now: number) =>
  (part: SentPart): boolean =>
    part.stored && part.at > now - UPLOAD_KEPT_MS;

const partMissing = (index: number): ApiError =>
  adapterInvalid('part_missing', `Part ${index} has not been sent, or not for a day.`);

/** A part that was sent just now may not be seen yet; another is lost, and has to be sent again. */
async function cannotBeRead(
  { blobLedger, now }: Pick<IntakeDeps, 'blobLedger' | 'now'>,
  params: { digest: string; tenant: string; bad: BadPart; sent: ReadonlyMap<number, SentPart> },
): Promise<ApiError> {
  const { digest, tenant, bad, sent } = params;
  const { index, was } = bad;
  if ((sent.get(index)?.at ?? 0) > now() - PART_SETTLE_MS)
    return registryUnavailable(READ_BACK_RETRY_MS, 'A part cannot be read back yet. Please try again.');
  await blobLedger.forgetPart({ digest, tenant, index });
  return adapterInvalid('part_missing', `Part ${index} is ${was} in the store. Send it again.`);
}

/** @returns sha256 of all parts one after the other, or the first that is not what it should be. */
async function hashParts(
  deps: Pick<IntakeDeps, 'blobs' | 'createSha256'>,
  digest: string,
  record: BlobRecord,
): Promise<Result<string, BadPart>> {
  const whole = deps.createSha256();
  for (const [index, part] of record.parts.entries()) {
    // Past the caches: a part that was sent again to mend it has been read before.
    const bad = await readPart(deps, { digest, index, part }, whole.update, { fresh: true });
    if (bad !== null) return err(bad);
  }
  return ok(await whole.digest());
}
