import type { Context } from 'hono';
import { errorResponse, type Model } from '../../protocol/index.ts';
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
