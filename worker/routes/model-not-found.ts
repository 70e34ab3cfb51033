import type { ApiError } from '../../protocol/index.ts';
import { MAX_SUGGESTIONS, SUGGESTION_CANDIDATES } from '../limits.ts';
import { mayUseChain } from '../policy/authorize.ts';
import { nearestNames } from '../policy/nearest-names.ts';
import { modelNotFound } from '../policy/resolve-name.ts';
import { StoreUnavailable, type Caller, type Registry } from '../stores/types.ts';

/** The same answer for unknown and forbidden names: suggestions come only from what the caller may use. */
export async function explainNotFound(registry: Registry, caller: Caller, model: string): Promise<ApiError> {
  return modelNotFound(
    model,
    nearestNames(model, await candidates(registry, caller, model), MAX_SUGGESTIONS),
  );
}

async function candidates(registry: Registry, caller: Caller, model: string): Promise<string[]> {
  const { tenant, scopes } = caller;
  const room = /^[a-z0-9._-]+\//.exec(model)?.[0] ?? '';
  try {
    const pages = await Promise.all(
      [...new Set([room, ''])].map((prefix) =>
        registry.usable({ tenant, scopes, prefix, after: '', limit: SUGGESTION_CANDIDATES }),
      ),
    );
    return [
      ...new Set(
        pages
          .flat()
          .filter((row) => mayUseChain(caller, row))
          .map((row) => row.name),
      ),
    ];
  } catch (error) {
    // Suggestions are a courtesy: without the database the answer is the same, less them.
    if (error instanceof StoreUnavailable) return [];
    throw error;
  }
}
