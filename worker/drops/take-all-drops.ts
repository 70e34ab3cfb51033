import { registryUnavailable } from '../errors.ts';
import { DROP_READS_PER_PASS, DROPS_PER_PASS } from './limits.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { takeDrop, type DropDeps, type DropOutcome } from './take-drop.ts';
import { logLine } from '../log.ts';

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
 * is removed within two passes, so that all have their turn. @throws StoreUnavailable when they cannot be listed.
 */
export async function takeAllDrops(deps: DropDeps, life: RequestLife): Promise<DropPass> {
  const pass: DropPass = { taken: 0, refused: 0, postponed: 0 };
  const waiting: string[] = [];
  let looked = 0;
  let cursor: string | null = null;
  do {
    const page: { items: string[]; cursor: string | null } = await deps.drops.list(cursor);
    for (const name of page.items) {
      const decided = pass.taken + pass.refused + pass.postponed;
      if (decided >= DROPS_PER_PASS || looked >= DROP_READS_PER_PASS) return pass;
      // Below a name that waits nothing can be decided: its parent may be about to come.
      if (waiting.some((above) => name.startsWith(`${above}/`))) continue;
      looked += 1;
      const outcome = await tryDrop(deps, name, life);
      if (outcome.kind === 'postponed') waiting.push(name);
      if (outcome.kind !== 'none' && outcome.kind !== 'known') pass[outcome.kind] += 1;
    }
    cursor = page.cursor;
  } while (cursor !== null);
  return pass;
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
