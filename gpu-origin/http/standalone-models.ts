import {
  type ApiError,
  type ChainEntry,
  Digest,
  err,
  type Model,
  ok,
  type Result,
} from '../../protocol/index.ts';
import type { Mode } from './origin-context.ts';

/**
 * What `model` means without an edge: the base's id or `base`, a name, or a digest.
 * @param chains names and their chains, root first; may grow.
 */
export function standaloneMode(
  chains: ReadonlyMap<string, readonly ChainEntry[]>,
): Extract<Mode, { kind: 'dev' }> {
  return {
    kind: 'dev',
    resolve(model, baseId): Result<readonly ChainEntry[], ApiError> {
      if (model === baseId || model === 'base') return ok([]);
      const named = chains.get(model);
      if (named !== undefined) return ok(named);
      if (Digest.safeParse(model).success) return ok([{ digest: model, scale: 1 }]);
      return err({
        code: 'model_not_found',
        message:
          'There is no such model here: neither the base, nor an adapter with that name, nor a digest.',
      });
    },
    models: (baseId): Model[] =>
      [...chains.keys()].map((id) => ({
        id,
        object: 'model',
        created: 0,
        owned_by: 'graft',
        parent: baseId,
        root: baseId,
      })),
  };
}
