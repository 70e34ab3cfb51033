import { Hono } from 'hono';
import type { ApiError, CollectGarbageAnswer, RepairAnswer } from '../../protocol/index.ts';
import { collectGarbage, CollectGarbageRequest, type GarbageDeps } from '../blobs/collect-garbage.ts';
import { repair, RepairRequest } from './repair.ts';
import type { RepairDeps } from './repair-deps.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import { GARBAGE_DELETIONS } from '../blobs/limits.ts';
import { readInput } from '../http/parse-input.ts';

const rootOnly: ApiError = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key may do this: it concerns every tenant.',
};

/**
 * For the bootstrap key alone, a page a request; the answer's `cursor` goes on, null at the end.
 * `POST /admin/repair` {@link RepairRequest} -> {@link RepairAnswer};
 * `POST /admin/gc` {@link CollectGarbageRequest} -> {@link CollectGarbageAnswer}.
 */
export function adminUpkeepRoutes(deps: RepairDeps & GarbageDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post('/admin/repair', async (context) => {
    const { root, keyId } = context.get('admin');
    if (!root) return fail(rootOnly);
    const request = await readInput(context.req.raw, RepairRequest);
    if (!request.ok) return fail(request.error);
    const repaired = await repair(deps, { request: request.value, actor: keyId });
    return context.json(repaired satisfies RepairAnswer);
  });
  routes.all('/admin/repair', methodNotAllowed('POST'));

  routes.post('/admin/gc', async (context) => {
    if (!context.get('admin').root) return fail(rootOnly);
    const request = await readInput(context.req.raw, CollectGarbageRequest);
    if (!request.ok) return fail(request.error);
    const { dry_run, cursor: from } = request.value;
    const { files, parts, cursor } = await collectGarbage(deps, {
      dryRun: dry_run ?? false,
      cursor: from ?? null,
      deletions: GARBAGE_DELETIONS,
    });
    return context.json({
      files: files.map(({ deletableAt, ...file }) => ({ ...file, deletable_at: deletableAt })),
      parts,
      cursor,
    } satisfies CollectGarbageAnswer);
  });
  routes.all('/admin/gc', methodNotAllowed('POST'));
  return routes;
}
