import { Hono } from 'hono';
import type { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import { errorResponse } from '../../protocol/api-error.ts';
import type { Model, ModelList } from '../../protocol/completion-answers.ts';
import { modelNotFound } from '../errors.ts';
import { MAX_LISTED_MODELS } from './limits.ts';
import { requireKey } from '../access/require-admin.ts';
import { fail, methodNotAllowed, query, requestLife, type AppEnv } from '../http/request.ts';
import type { Gates } from '../access/rate-limits.ts';
import type { Index } from '../platform/ports.ts';
import type { KeyRecord } from '../access/ports.ts';
import { EXACTLY, lookUpModel, type ResolveDeps } from './resolve.ts';
import { usableNames } from './usable-names.ts';

export interface ModelDeps extends ResolveDeps {
  keys: Index<KeyRecord>;
  gates: Pick<Gates, 'models'>;
  /** Unix ms. */
  now: () => number;
}

const PREFIX = '/v1/models/';

const baseModel = (id: string): Model => ({
  id,
  object: 'model',
  created: 0,
  owned_by: 'graft',
  parent: null,
  root: id,
});

const adapterModel = (
  adapter: Pick<AdapterManifest, 'owner' | 'createdAt' | 'chain' | 'base'>,
  /** The name, which may be an alias. */
  id: string,
): Model => ({
  id,
  object: 'model',
  created: Math.floor(adapter.createdAt / 1000),
  owned_by: adapter.owner,
  parent: adapter.chain.at(-2)?.name ?? adapter.base.id,
  root: adapter.base.id,
});

/** `GET /v1/models?prefix=&after=` and `GET /v1/models/<name>`; slashes of a name may be encoded. */
export function modelRoutes(deps: ModelDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const known = requireKey(deps, deps.gates.models);

  routes.get('/v1/models', known, async (context) => {
    const caller = context.get('caller');
    const prefix = query(context, 'prefix') ?? '';
    const after = query(context, 'after') ?? '';
    const found = await deps.origins.bases.ids();
    const bases = found.ok ? found.value : [];
    // Bases come first. Their ids are not names, so names start from the beginning after the last base.
    const afterBase = bases.indexOf(after);
    const data: Model[] =
      after === '' || afterBase >= 0
        ? bases
            .slice(afterBase + 1)
            .filter((id) => id.startsWith(prefix))
            .map(baseModel)
        : [];
    const wanted = MAX_LISTED_MODELS - data.length;
    const rights = { ...caller, grants: await deps.grantLedger.usableBy(caller.tenant) };
    const { names, more } = await usableNames(deps, rights, {
      prefix,
      after: afterBase >= 0 ? '' : after,
      wanted,
    });
    data.push(...names.map(({ name, version }) => adapterModel(version, name)));
    return context.json({
      object: 'list',
      data,
      has_more: more !== null,
      ...(more === null ? {} : { after: more }),
    } satisfies ModelList);
  });
  routes.all('/v1/models', methodNotAllowed('GET'));

  routes.get(`${PREFIX}*`, known, async (context) => {
    const raw = context.req.path.slice(PREFIX.length);
    let model: string;
    try {
      model = decodeURIComponent(raw);
    } catch {
      return fail(modelNotFound(raw, []));
    }
    const resolved = await (
      await lookUpModel(deps, model)
    )(context.get('caller'), EXACTLY, requestLife(context));
    if (!resolved.ok) return fail(resolved.error);
    const { manifest, base } = resolved.value.resolution;
    if (manifest !== null) return context.json(adapterModel(manifest, model));
    if (base !== null) return context.json(baseModel(base));
    const bases = await deps.origins.bases.ids();
    return bases.ok ? context.json(baseModel(bases.value[0] ?? model)) : errorResponse(bases.error);
  });
  routes.all(`${PREFIX}*`, methodNotAllowed('GET'));
  return routes;
}
