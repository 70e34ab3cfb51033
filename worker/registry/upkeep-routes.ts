import { Hono } from 'hono';
import type { ApiError, CollectGarbageAnswer, RepairAnswer } from '../../protocol/index.ts';
import { collectGarbage, type GarbageDeps } from '../blobs/collect-garbage.ts';
import { repair } from './repair.ts';
import type { RepairDeps } from './repair-deps.ts';
import { adminRoute } from '../http/admin-route.ts';
import type { AppEnv } from '../http/request-scope.ts';
import { GARBAGE_DELETIONS } from '../blobs/limits.ts';

const rootOnly: ApiError = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key may do this: it concerns every tenant.',
};

/** For the bootstrap key alone, a page a request; the answer's `cursor` goes on, null at the end. */
export function adminUpkeepRoutes(deps: RepairDeps & GarbageDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(
    routes,
    'POST /admin/repair',
    async ({ context, caller, request }) => {
      const repaired = await repair(deps, { request, actor: caller.keyId });
      return context.json(repaired satisfies RepairAnswer);
    },
    { operatorOnly: rootOnly },
  );

  adminRoute(
    routes,
    'POST /admin/gc',
    async ({ context, request }) => {
      const { dry_run, cursor: from } = request;
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
    },
    { operatorOnly: rootOnly },
  );
  return routes;
}
