import { GONE_MARK_TTL_S } from '../limits.ts';
import { logLine, reasonOf } from '../log.ts';
import { experimentEntryOf, nameEntryOf } from './write-pointer.ts';
import type { ExperimentIndex } from '../experiments/ports.ts';
import type { NameIndex, PointerWriter } from './ports-pointers.ts';
import type { Pointer, Registry } from './ports.ts';
import { createWriteLanes } from './write-lanes.ts';

/**
 * Writes pointers, and the experiments of their names, in the order of their changes ({@link createWriteLanes}), and
 * strikes them off the names that KV is still to be told of. All calls for a name must come to the same instance.
 */
export function createPointerSync(
  params: {
    registry: Pick<Registry, 'pointerToWrite' | 'pointersWritten'>;
    names: Pick<NameIndex, 'put' | 'remove'>;
    experiments: Pick<ExperimentIndex, 'put'>;
  } & Omit<Parameters<typeof createWriteLanes>[0], 'write'>,
): PointerWriter {
  const { registry, names, experiments } = params;
  /** Names of which the next write leaves a mark when there is nothing to point at, and how long, s. */
  const marks = new Map<string, number | undefined>();

  async function write(name: string): Promise<boolean> {
    const { pointer, change } = await registry.pointerToWrite(name);
    const written = await writeEntry(name, pointer);
    if (change !== null) strikeOff({ name, change });
    return written;
  }

  async function writeEntry(name: string, pointer: Pointer): Promise<boolean> {
    if (pointer.kind === 'none' && !marks.has(name)) return false;
    const ttl = marks.get(name);
    marks.delete(name);
    // Before the manifest that leads to it; and after an end first of all, for those who have the old manifest.
    if (pointer.kind === 'version' && pointer.experiment !== undefined)
      await experiments.put(experimentEntryOf(pointer.experiment));
    const entry = nameEntryOf(name, pointer);
    if (entry === null) await names.remove(name, ttl);
    else await names.put(entry);
    return true;
  }

  /** Nobody waits for it: a name that stays noted is written once more, which does no harm. */
  function strikeOff(written: { name: string; change: number }): void {
    registry.pointersWritten([written]).catch((error: unknown) => {
      const reason = reasonOf(error);
      logLine('pointer_not_struck_off', { name: written.name, reason }, 'warning');
    });
  }

  const sync = createWriteLanes({ ...params, write });
  return {
    sync(name, options = {}) {
      const { mark = false, erased = false } = options;
      if (mark || erased) marks.set(name, erased ? GONE_MARK_TTL_S : undefined);
      return sync(name);
    },
  };
}
