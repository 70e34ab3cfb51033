import type { Context } from 'hono';
import {
  type ApiError,
  type ChainEntry,
  Digest,
  err,
  errorResponse,
  type Model,
  ok,
  type Result,
} from '../../protocol/index.ts';
import type { Mode, OriginEnv, Services } from './origin-context.ts';

/** The base and, standalone, the adapters that have a name here. */
function modelsOf(mode: Mode, services: Services): Model[] {
  const { id } = services.base;
  return [
    { id, object: 'model', created: 0, owned_by: 'graft', parent: null, root: id },
    ...(mode.kind === 'dev' ? mode.models(id) : []),
  ];
}

/** `GET /v1/models` */
export const listModels = (mode: Mode, services: Services): Response =>
  Response.json({ object: 'list', data: modelsOf(mode, services) });

/** `GET /v1/models/<id>`; an id with slashes works raw and percent-encoded. */
export function getModel(c: Context<OriginEnv>, mode: Mode, services: Services): Response {
  const id = c.req.param('id') ?? '';
  const model = modelsOf(mode, services).find((candidate) => candidate.id === id);
  return model === undefined
    ? errorResponse({ code: 'model_not_found', message: 'There is no such model here.' })
    : Response.json(model);
}

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
