import { Hono } from 'hono';
import { errorResponse, type AdapterManifest, type BaseInfo, type Model } from '../../protocol/index.ts';
import { MAX_LISTED_MODELS } from '../limits.ts';
import { authenticate } from '../middleware/authenticate.ts';
import { fail, methodNotAllowed, query, type AppEnv } from '../middleware/request-scope.ts';
import { mayUseChain } from '../policy/authorize.ts';
import { modelNotFound } from '../policy/resolve-name.ts';
import type { Caller, Index, KeyRecord, VersionRow } from '../stores/types.ts';
import { lookUpModel, type ResolveDeps } from './resolve-model.ts';

export interface ModelDeps extends ResolveDeps {
  keys: Index<KeyRecord>;
}

const PREFIX = '/v1/models/';

const baseModel = (base: BaseInfo): Model => ({
  id: base.id,
  object: 'model',
  created: 0,
  owned_by: 'graft',
  parent: null,
  root: base.id,
});

const adapterModel = (
  adapter: Pick<AdapterManifest, 'name' | 'owner' | 'createdAt' | 'chain' | 'base'>,
  id: string = adapter.name,
): Model => ({
  id,
  object: 'model',
  created: Math.floor(adapter.createdAt / 1000),
  owned_by: adapter.owner,
  parent: adapter.chain.at(-2)?.name ?? adapter.base.id,
  root: adapter.base.id,
});

/** `GET /v1/models?prefix=&after=` and `GET /v1/models/<name>`, the slashes of a name raw or encoded. */
export function modelRoutes(deps: ModelDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get('/v1/models', async (context) => {
    const caller = await authenticate(context.req.raw, deps.keys);
    if (!caller.ok) return fail(caller.error);
    const prefix = query(context, 'prefix') ?? '';
    const after = query(context, 'after') ?? '';
    const base = await deps.origins.base();
    const data: Model[] =
      base.ok && after === '' && base.value.id.startsWith(prefix) ? [baseModel(base.value)] : [];
    const wanted = MAX_LISTED_MODELS - data.length;
    // One more than wanted tells whether there is more.
    const rows = await usableNames(deps, caller.value, {
      prefix,
      after: base.ok && after === base.value.id ? '' : after,
      wanted: wanted + 1,
    });
    data.push(...rows.slice(0, wanted).map((row) => adapterModel(row)));
    return context.json({ object: 'list', data, has_more: rows.length > wanted });
  });
  routes.all('/v1/models', methodNotAllowed('GET'));

  routes.get(`${PREFIX}*`, async (context) => {
    const caller = await authenticate(context.req.raw, deps.keys);
    if (!caller.ok) return fail(caller.error);
    const raw = context.req.path.slice(PREFIX.length);
    let model: string;
    try {
      model = decodeURIComponent(raw);
    } catch {
      return fail(modelNotFound(raw, []));
    }
    const resolved = await (await lookUpModel(deps, model))(caller.value);
    if (!resolved.ok) return fail(resolved.error);
    if (resolved.value.manifest !== null) return context.json(adapterModel(resolved.value.manifest, model));
    const base = await deps.origins.base();
    return base.ok ? context.json(baseModel(base.value)) : errorResponse(base.error);
  });
  routes.all(`${PREFIX}*`, methodNotAllowed('GET'));
  return routes;
}

/** Reads pages until `wanted` names whose whole chain the caller may use are found, or there are no more. */
async function usableNames(
  deps: ModelDeps,
  caller: Caller,
  params: { prefix: string; after: string; wanted: number },
): Promise<VersionRow[]> {
  const { tenant, scopes } = caller;
  const found: VersionRow[] = [];
  let after = params.after;
  while (found.length < params.wanted) {
    const limit = params.wanted - found.length;
    const page = await deps.registry.usable({ tenant, scopes, prefix: params.prefix, after, limit });
    found.push(...page.filter((row) => mayUseChain(caller, row)));
    if (page.length < limit) break;
    after = page.at(-1)?.name ?? after;
  }
  return found;
}
