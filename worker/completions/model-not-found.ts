import type { ApiError } from '../../protocol/index.ts';
import { modelNotFound } from '../errors.ts';
import { MAX_SUGGESTIONS, SUGGESTION_CANDIDATES } from './limits.ts';
import { nearestNames } from './nearest-names.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { Caller } from '../access/ports.ts';
import { usableIn, windowOf, type ListDeps } from './usable-names.ts';

export interface ExplainDeps extends ListDeps {
  /** May this key be given suggestions now? */
  maySuggest: (keyId: string) => boolean;
}

/**
 * The same answer for unknown and forbidden names: suggestions come only from what the caller may use, and cost two
 * reads of the system of record, however many names there are.
 */
export async function explainNotFound(deps: ExplainDeps, caller: Caller, model: string): Promise<ApiError> {
  const names = deps.maySuggest(caller.keyId) ? await candidates(deps, caller, model) : [];
  return modelNotFound(model, nearestNames(model, names, MAX_SUGGESTIONS));
}

/** What is mistyped at the end of a name lies this near, characters, … */
const MISTYPED_END = 3;

/** … or else in the room of the name, or among the first names that the caller may use at all. */
function prefixesOf(model: string): string[] {
  if (!/^[a-z0-9._/-]+$/.test(model)) return [''];
  const room = model.slice(0, model.lastIndexOf('/') + 1);
  const near = model.slice(0, Math.max(room.length, model.length - MISTYPED_END));
  return [...new Set([near, room, ''])];
}

async function candidates(deps: ExplainDeps, caller: Caller, model: string): Promise<string[]> {
  try {
    const rights = { ...caller, grants: await deps.grantLedger.usableBy(caller.tenant) };
    const windows = prefixesOf(model).map((prefix) => windowOf(prefix, SUGGESTION_CANDIDATES));
    return [...new Set((await usableIn(deps, rights, windows)).map(({ name }) => name))];
  } catch (error) {
    // Suggestions are a courtesy: without the database the answer is the same, less them.
    if (error instanceof StoreUnavailable) return [];
    throw error;
  }
}
