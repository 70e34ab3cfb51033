/** When what was dropped is taken in: by the schedule, a pass of all, and for the first request by a missing name. */
import type { AdapterManifest } from '../../protocol/index.ts';
import { registryUnavailable } from '../errors.ts';
import { logLine } from '../log.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { ancestorsOf } from '../registry/claims.ts';
import { manifestOf } from '../registry/write-pointer.ts';
import {
  DROP_READS_PER_PASS,
  DROPS_PER_PASS,
  DROP_POLL_MS,
  DROP_QUIET_MS,
  DROP_STALL_MS,
  MAX_QUIET_DROPS,
} from './limits.ts';
import { takeDrop, type DropDeps, type DropOutcome } from './take-drop.ts';

export interface DropPass {
  taken: number;
  refused: number;
  postponed: number;
}

/** Names are anybody's who can write KV; a log line shows this much of one. */
const SHOWN_CHARACTERS = 128;

/** One line for operators; the reason is in `drop-error:<name>` too. */
export function logDrop(name: string, outcome: DropOutcome): void {
  if (outcome.kind === 'none' || outcome.kind === 'known') return;
  const event = `drop_${outcome.kind}`;
  const shown = name.slice(0, SHOWN_CHARACTERS);
  if (outcome.kind === 'taken') logLine(event, { name: shown, version: outcome.row.version }, 'info');
  else logLine(event, { name: shown, code: outcome.error.code, message: outcome.error.message });
}

/**
 * Looks at the dropped files, parents before their children, and takes in a limited number of them. What is decided on
 * is removed within two passes. What is postponed stays: where more lie there than a pass takes, each begins at another
 * one, so that all have their turn. @throws StoreUnavailable when they cannot be listed.
 */
export async function takeAllDrops(deps: DropDeps, life: RequestLife): Promise<DropPass> {
  const pass: DropPass = { taken: 0, refused: 0, postponed: 0 };
  const names = await namesOf(deps.drops);
  const turn = names.length <= DROPS_PER_PASS ? 0 : Math.floor(deps.now() / PASS_MS) * DROPS_PER_PASS;
  const first = names.length === 0 ? 0 : turn % names.length;
  /** Below one of these nothing can be decided: it may be the parent, and about to come. */
  const waiting = new Set(names);
  let looked = 0;
  for (const name of [...names.slice(first), ...names.slice(0, first)]) {
    const decided = pass.taken + pass.refused + pass.postponed;
    if (decided >= DROPS_PER_PASS || looked >= DROP_READS_PER_PASS) return pass;
    if (ancestorsOf(name).some((above) => waiting.has(above))) continue;
    looked += 1;
    const outcome = await tryDrop(deps, name, life);
    if (outcome.kind !== 'postponed') waiting.delete(name);
    if (outcome.kind !== 'none' && outcome.kind !== 'known') pass[outcome.kind] += 1;
  }
  return pass;
}

/** Between two runs of the schedule. */
const PASS_MS = 60_000;

async function namesOf(drops: DropDeps['drops']): Promise<string[]> {
  const names: string[] = [];
  for (let cursor: string | null = null; ;) {
    const page: { items: string[]; cursor: string | null } = await drops.list(cursor);
    names.push(...page.items);
    if (page.cursor === null) return names;
    ({ cursor } = page);
  }
}

/** One file in trouble does not keep the others waiting. */
async function tryDrop(deps: DropDeps, name: string, life: RequestLife): Promise<DropOutcome> {
  let outcome: DropOutcome;
  try {
    outcome = await takeDrop(deps, { name, life });
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    outcome = {
      kind: 'postponed',
      error: registryUnavailable(0, error.message),
    };
  }
  logDrop(name, outcome);
  return outcome;
}

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
