import { err, ok, type ApiError, type BlobRecord, type Result } from '../../protocol/index.ts';
import { StoreUnavailable } from '../stores/types.ts';
import { beingDeleted, invalid, unavailable, type IntakeDeps } from './intake-deps.ts';

class PartUnreadable extends Error {}

/**
 * Declares the file complete: all parts must have been sent by this tenant, and together they must have the digest.
 * @returns whether the tenant held the file before.
 */
export async function finishBlob(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'hashStreams' | 'now'>,
  params: { digest: string; record: BlobRecord; tenant: string },
): Promise<Result<{ held: boolean }, ApiError>> {
  const { digest, record, tenant } = params;
  if (!(await deps.blobLedger.touch({ digest, parts: record.parts.length, at: deps.now() })))
    return err(beingDeleted(digest));
  const held = await deps.blobLedger.holds(digest, tenant);
  const total = record.parts.reduce((sum, part) => sum + part.bytes, 0);
  if (total !== record.bytes)
    return err(invalid('size_mismatch', `The parts have ${total} bytes together, not ${record.bytes}.`));
  const sent = new Map((await deps.blobLedger.parts(digest, tenant)).map((part) => [part.index, part]));
  for (const [index, part] of record.parts.entries()) {
    const found = sent.get(index);
    if (found === undefined) return err(invalid('part_missing', `Part ${index} has not been sent.`));
    if (found.sha256 !== part.sha256 || found.bytes !== part.bytes)
      return err(
        invalid(
          'part_mismatch',
          `Part ${index} was sent with ${found.bytes} bytes and sha256 ${found.sha256}, ` +
            `not ${part.bytes} bytes and ${part.sha256}.`,
        ),
      );
  }
  const complete = await deps.blobLedger.record(digest);
  if (complete === null) {
    const whole = await hashParts(deps, digest, record.parts.length);
    if (whole === null) return err(unavailable('A part cannot be read back yet. Please try again.'));
    if (whole !== digest)
      return err(invalid('digest_mismatch', `The parts make a file with sha256 ${whole}, not ${digest}.`));
  } else if (JSON.stringify(complete) !== JSON.stringify(record)) {
    // What was sent before another tenant completed the file was never compared with it.
    return err(invalid('part_mismatch', `The file ${digest} is made of other parts.`));
  }
  // Written again when it is there: an earlier attempt may have ended between the two stores.
  await deps.blobs.putRecord(digest, record);
  await deps.blobLedger.complete({ digest, tenant, record, at: deps.now() });
  return ok({ held });
}

/** @returns sha256 of all parts one after the other, or null when one cannot be read. */
async function hashParts(
  deps: Pick<IntakeDeps, 'blobs' | 'hashStreams'>,
  digest: string,
  count: number,
): Promise<string | null> {
  async function* streams() {
    for (let index = 0; index < count; index += 1) {
      const stream = await deps.blobs.getPart(digest, index);
      if (stream === null) throw new PartUnreadable();
      yield stream;
    }
  }
  try {
    return await deps.hashStreams(streams());
  } catch (error) {
    if (error instanceof PartUnreadable) return null;
    throw error instanceof StoreUnavailable ? error : new StoreUnavailable('blobs', error);
  }
}
