import type { ApiError } from '../../protocol/index.ts';
import { MAX_SUGGESTIONS, SUGGESTION_CANDIDATES } from '../limits.ts';
import { nearestNames } from '../policy/nearest-names.ts';
import { modelNotFound } from '../policy/resolve-name.ts';
import { StoreUnavailable, type Caller } from '../stores/types.ts';
import { grantsHeld, usableNames, type ListDeps } from './usable-names.ts';

/** The same answer for unknown and forbidden names: suggestions come only from what the caller may use. */
export async function explainNotFound(deps: ListDeps, caller: Caller, model: string): Promise<ApiError> {
  return modelNotFound(model, nearestNames(model, await candidates(deps, caller, model), MAX_SUGGESTIONS));
}

async function candidates(deps: ListDeps, caller: Caller, model: string): Promise<string[]> {
  const room = /^[a-z0-9._-]+\//.exec(model)?.[0] ?? '';
  try {
    const rights = { ...caller, grants: await grantsHeld(deps, caller.tenant) };
    const pages = await Promise.all(
      [...new Set([room, ''])].map((prefix) =>
        usableNames(deps, rights, { prefix, after: '', wanted: SUGGESTION_CANDIDATES, maxPages: 1 }),
      ),
    );
    return [...new Set(pages.flat().map((row) => row.name))];
  } catch (error) {
    // Suggestions are a courtesy: without the database the answer is the same, less them.
    if (error instanceof StoreUnavailable) return [];
    throw error;
  }
}
