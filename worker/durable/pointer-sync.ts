import { experimentEntryOf, nameEntryOf } from '../intake/write-pointer.ts';
import type { ExperimentIndex } from '../stores/types-experiments.ts';
import { StoreUnavailable, type NameIndex, type PointerWriter, type Registry } from '../stores/types.ts';
import { withTimeout } from '../stores/with-timeout.ts';

interface Lane {
  /** The write that is under way; it may have read the registry before the latest change. */
  running: Promise<void> | null;
  /** The write after it, which reads anew; everybody who comes meanwhile waits for this one. */
  queued: Promise<void> | null;
}

/**
 * Writes pointers, and the experiments of their names, one at a time a name, each from what the registry says when the write begins: the last write carries
 * the last state. All calls for a name must come to the same instance.
 * @param params.intervalMs between two writes of a name.
 * @param params.timeoutMs after which a write counts as failed, so that one that hangs does not keep later ones waiting.
 * Should it arrive late all the same, whoever repeats the call puts things right.
 */
export function createPointerSync(params: {
  registry: Pick<Registry, 'pointer'>;
  names: Pick<NameIndex, 'put' | 'remove'>;
  experiments: Pick<ExperimentIndex, 'put'>;
  intervalMs: number;
  timeoutMs: number;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): PointerWriter {
  const { registry, names, experiments, intervalMs, timeoutMs, now, sleep } = params;
  const lanes = new Map<string, Lane>();
  /** Names of which the next write leaves a mark when there is nothing to point at. */
  const marks = new Set<string>();
  /** Unix ms of the last write of each name, as long as it matters. */
  const writtenAt = new Map<string, number>();

  async function write(name: string): Promise<void> {
    const wait = (writtenAt.get(name) ?? -Infinity) + intervalMs - now();
    if (wait > 0) await sleep(wait);
    const pointer = await registry.pointer(name);
    if (pointer.kind === 'none' && !marks.has(name)) return;
    marks.delete(name);
    try {
      // Before the manifest that leads to it; and after an end first of all, for those who have the old manifest.
      if (pointer.kind === 'version' && pointer.experiment !== undefined)
        await experiments.put(experimentEntryOf(pointer.experiment));
      const entry = nameEntryOf(name, pointer);
      if (entry === null) await names.remove(name);
      else await names.put(entry);
    } finally {
      for (const [other, at] of writtenAt) if (now() - at >= intervalMs) writtenAt.delete(other);
      writtenAt.set(name, now());
    }
  }

  async function writeInTime(name: string): Promise<void> {
    try {
      await withTimeout(write(name), timeoutMs);
    } catch (error) {
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable('KV', error);
    }
  }

  /** @returns the write's own promise; the lane goes on to the queued one whatever became of it. */
  function start(name: string, lane: Lane): Promise<void> {
    const running = writeInTime(name).finally(() => {
      lane.running = null;
      if (lane.queued === null) lanes.delete(name);
    });
    lane.running = running;
    return running;
  }

  return {
    sync(name, options = {}) {
      if (options.mark === true) marks.add(name);
      const lane = lanes.get(name) ?? { running: null, queued: null };
      lanes.set(name, lane);
      if (lane.running === null && lane.queued === null) return start(name, lane);
      lane.queued ??= (lane.running ?? Promise.resolve())
        .catch(() => undefined)
        .then(() => {
          lane.queued = null;
          return start(name, lane);
        });
      return lane.queued;
    },
  };
}
