import { z } from 'zod';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { registryUnavailable, adapterUnavailable } from '../errors.ts';
import { LOAD_POLL_MS, SLOWEST_TRANSFER, TRANSFER_STALL_MS } from './limits.ts';
import { RETRY_AFTER_MS } from '../limits.ts';
import { logLine } from '../log.ts';
import { type OriginFetch, readOriginText } from './connection.ts';
import type { Origin } from './routing.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { BlobStore } from '../blobs/ports.ts';

const Announced = z.object({ missing_parts: z.array(z.int()) });

/** @returns the parts that the origin still needs; null if it does not say. */
async function missingParts(response: Response): Promise<Set<number> | null> {
  try {
    const parsed = Announced.safeParse(JSON.parse((await readOriginText(response)) ?? ''));
    return parsed.success ? new Set(parsed.data.missing_parts) : null;
  } catch {
    return null;
  }
}

/** Attempts per part. Resending is harmless, and the second attempt bypasses the caches. */
const PART_TRIES = 2;

/**
 * Streams adapters from the blob store to origins, one transfer per origin and digest at a time in this
 * isolate. Later requests watch the first one's progress instead of its promise, which never settles if its
 * request is cut off.
 */
export function createTransfers(params: {
  blobs: BlobStore;
  send: OriginFetch;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}) {
  const { blobs, send, now, sleep } = params;
  /** `<origin> <digest>` -> unix ms of the last progress. */
  const moving = new Map<string, number>();

  async function sendPart(
    origin: Origin,
    digest: string,
    part: { index: number; sha256: string; bytes: number },
    begun: Promise<ReadableStream<Uint8Array> | null> | null,
  ): Promise<Result<null, ApiError>> {
    let reason = '';
    for (let attempt = 0; attempt < PART_TRIES; attempt += 1) {
      // A cached copy may be older than a repair.
      const body = await (attempt === 0 && begun !== null
        ? begun
        : blobs.getPart(digest, part.sha256, { fresh: attempt > 0 }));
      if (body === null) {
        logLine('part_missing', { digest, part: part.index });
        return err(adapterUnavailable('A part of the adapter is not in the store yet.'));
      }
      const sent = await send(origin, {
        method: 'PUT',
        path: `/adapters/${digest}/parts/${part.index}`,
        body,
        bodyHash: part.sha256,
        contentType: 'application/octet-stream',
        signal: AbortSignal.timeout(TRANSFER_STALL_MS + Math.ceil(part.bytes / SLOWEST_TRANSFER)),
      });
      if (sent.ok) {
        await sent.value.body?.cancel();
        if (sent.value.ok) return ok(null);
        reason = `answered ${sent.value.status}`;
      } else reason = sent.error.reason;
    }
    logLine('part_refused', { origin: origin.id, digest, part: part.index, reason });
    return err(adapterUnavailable(`The adapter could not be sent to the origin (part ${part.index}).`));
  }

  async function transfer(
    origin: Origin,
    digest: string,
    progress: () => void,
  ): Promise<Result<number, ApiError>> {
    const record = await blobs.getRecord(digest);
    if (record === null) return err(adapterUnavailable('The adapter is not in the store yet.'));
    // The store reads the first part while the origin allocates space.
    const first = record.parts[0];
    const begun = first === undefined ? null : blobs.getPart(digest, first.sha256);
    const unused = () => begun?.then((body) => body?.cancel()).catch(() => undefined);
    begun?.catch(() => undefined);
    const announced = await send(origin, {
      method: 'PUT',
      path: `/adapters/${digest}`,
      body: JSON.stringify(record),
      signal: AbortSignal.timeout(TRANSFER_STALL_MS),
    });
    if (!announced.ok) {
      void unused();
      return err(adapterUnavailable('The origin cannot be reached to send it the adapter.'));
    }
    const wanted = await missingParts(announced.value);
    if (!announced.value.ok || wanted?.has(0) === false) void unused();
    if (!announced.value.ok) {
      logLine('adapter_refused', { origin: origin.id, digest, status: announced.value.status });
      return err(adapterUnavailable('The origin does not accept the adapter now.'));
    }
    let sentBytes = 0;
    for (const [index, { bytes, sha256 }] of record.parts.entries()) {
      if (wanted?.has(index) === false) continue;
      progress();
      const sent = await sendPart(origin, digest, { index, sha256, bytes }, index === 0 ? begun : null);
      if (!sent.ok) return sent;
      sentBytes += bytes;
    }
    return ok(sentBytes);
  }

  return {
    /**
     * @returns when the origin has it, with the bytes sent here; or when another transfer of it ended or
     * stalled: ask the origin again.
     */
    async pushAdapter(
      origin: Origin,
      digest: string,
      options: { until: number; keepAlive: (work: Promise<unknown>) => void },
    ): Promise<Result<number, ApiError>> {
      const key = `${origin.id} ${digest}`;
      const isMoving = () => now() - (moving.get(key) ?? -Infinity) < TRANSFER_STALL_MS;
      if (isMoving()) {
        while (isMoving() && now() < options.until) await sleep(LOAD_POLL_MS);
        return ok(0);
      }
      const progress = () => moving.set(key, now());
      progress();
      const work = transfer(origin, digest, progress)
        .catch((error: unknown): Result<never, ApiError> => {
          if (!(error instanceof StoreUnavailable)) throw error;
          const message = 'The adapter store does not answer. Retry in a few seconds.';
          return err(registryUnavailable(RETRY_AFTER_MS, message));
        })
        .finally(() => moving.delete(key));
      // The bytes help the next request even if this client has disconnected. Those who wait for them report
      // a failure.
      options.keepAlive(work.catch(() => undefined));
      return work;
    },
  };
}

export type Transfers = ReturnType<typeof createTransfers>;
