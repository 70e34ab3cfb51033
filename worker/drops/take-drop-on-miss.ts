import type { AdapterManifest } from '../../protocol/index.ts';
import { DROP_POLL_MS, DROP_QUIET_MS, DROP_STALL_MS, MAX_QUIET_DROPS } from './limits.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { logDrop } from './take-all-drops.ts';
import { takeDrop, type DropDeps } from './take-drop.ts';
import { manifestOf } from '../registry/write-pointer.ts';
import { logLine } from '../log.ts';

/**
 * @returns the live version of a missing name, when a file lay under `drop:<name>` and was good; else null, whatever
 * the reason: to who may not know of it, a drop in trouble is a name that is not there.
 */
export type TakeDropOnMiss = (
  name: string,
  life: RequestLife,
  /** The name is there, but not for who asks: as much is read, of a name that nobody can have, and nothing is taken. */
  pretend?: { decoy: string },
) => Promise<AdapterManifest | null>;

/**
 * For requests by a name that does not exist, once the caller is known to have a key. One at a time a name in this
 * isolate: those who come second watch a note of the first one's rather than its promise, which never settles when that
 * request is cut off.
 */
export function createTakeDropOnMiss(
  deps: DropDeps & { sleep: (ms: number) => Promise<void> },
): TakeDropOnMiss {
  /** Name -> unix ms when somebody began. */
  const busy = new Map<string, number>();
  /** Name -> unix ms until which it is left to the schedule: KV goes on saying for a while what it said. */
  const quiet = new Map<string, number>();
  const isBusy = (name: string) => deps.now() - (busy.get(name) ?? -Infinity) < DROP_STALL_MS;

  const hush = (name: string) => {
    quiet.delete(name);
    quiet.set(name, deps.now() + DROP_QUIET_MS);
    const oldest = quiet.keys().next();
    if (quiet.size > MAX_QUIET_DROPS && !oldest.done) quiet.delete(oldest.value);
  };

  const live = async (name: string): Promise<AdapterManifest | null> => {
    const row = await deps.registry.live(name);
    return row && manifestOf(row);
  };

  async function take(name: string, keepAlive: RequestLife['keepAlive']): Promise<AdapterManifest | null> {
    // Others wait for the file too, so that it is not this client's to abort.
    const life = { signal: new AbortController().signal, keepAlive };
    const outcome = await takeDrop(deps, { name, life });
    logDrop(name, outcome);
    const served = outcome.kind === 'taken' || outcome.kind === 'known' ? await live(name) : null;
    if (served === null) hush(name);
    return served;
  }

  async function lookInVain(name: string, decoy: string): Promise<null> {
    await deps.drops.read(decoy);
    hush(name);
    return null;
  }

  return async (name, life, pretend) => {
    if (deps.now() < (quiet.get(name) ?? -Infinity)) return null;
    if (isBusy(name)) {
      while (isBusy(name)) await deps.sleep(DROP_POLL_MS);
      return live(pretend?.decoy ?? name);
    }
    busy.set(name, deps.now());
    const taking = pretend === undefined ? take(name, life.keepAlive) : lookInVain(name, pretend.decoy);
    const work = taking
      .catch((error: unknown) => {
        hush(name);
        const message = error instanceof Error ? error.message : 'unknown error';
        logLine('drop_trouble', { name, message });
        return null;
      })
      .finally(() => busy.delete(name));
    // The next request profits even if this one's client has gone.
    life.keepAlive(work);
    return work;
  };
}
