import { StoreUnavailable } from '../platform/ports.ts';
import { withTimeout } from '../platform/with-timeout.ts';

interface Lane {
  /** The write that is under way; it may have read the system of record before the latest change. */
  running: Promise<void> | null;
  /** The write after it, which reads anew; everybody who comes meanwhile waits for this one. */
  queued: Promise<void> | null;
}

/**
 * Copies records from the system of record to KV, one write at a time a record, each from what is read when the write
 * begins: the last write carries the last state. All calls for a record must come to the same instance.
 * @param params.write reads the record and writes it. @returns whether there was something to write.
 * @param params.intervalMs between two writes of a record.
 * @param params.timeoutMs after which a write counts as failed, so that one that hangs does not keep later ones waiting.
 * When it ends all the same, the record is written once more, since it may have landed on top of a later one.
 * @returns what writes a record: done once a state is in KV that was read after the call. @throws StoreUnavailable
 */
export function createWriteLanes(params: {
  write: (record: string) => Promise<boolean>;
  intervalMs: number;
  timeoutMs: number;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): (record: string) => Promise<void> {
  const { intervalMs, timeoutMs, now, sleep } = params;
  const lanes = new Map<string, Lane>();
  /** Unix ms of the last write of each record, as long as it matters. */
  const writtenAt = new Map<string, number>();

  async function write(record: string): Promise<void> {
    const wait = (writtenAt.get(record) ?? -Infinity) + intervalMs - now();
    if (wait > 0) await sleep(wait);
    let written = true;
    try {
      written = await params.write(record);
    } finally {
      for (const [other, at] of writtenAt) if (now() - at >= intervalMs) writtenAt.delete(other);
      if (written) writtenAt.set(record, now());
    }
  }

  async function writeInTime(record: string): Promise<void> {
    let ended = false;
    const writing = write(record).finally(() => (ended = true));
    try {
      await withTimeout(writing, timeoutMs);
    } catch (error) {
      if (!ended)
        void writing
          .catch(() => undefined)
          .then(() => sync(record))
          .catch(() => undefined);
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable('KV', error);
    }
  }

  /** @returns the write's own promise; the lane goes on to the queued one whatever became of it. */
  function start(record: string, lane: Lane): Promise<void> {
    const running = writeInTime(record).finally(() => {
      lane.running = null;
      if (lane.queued === null) lanes.delete(record);
    });
    lane.running = running;
    return running;
  }

  function sync(record: string): Promise<void> {
    const lane = lanes.get(record) ?? { running: null, queued: null };
    lanes.set(record, lane);
    if (lane.running === null && lane.queued === null) return start(record, lane);
    lane.queued ??= (lane.running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        lane.queued = null;
        return start(record, lane);
      });
    return lane.queued;
  }

  return sync;
}
