import { Hono } from 'hono';
import { KeptText, type KeptPrompt } from '../../protocol/admin-api/prompts.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import type { Gatherers } from '../gathering/ports.ts';
import { logLine, reasonOf } from '../log.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import type { KeptPrompts } from './ports.ts';
import type { PromptSealer } from './keep-prompts.ts';

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not read prompts and answers. Ask the operator to give an admin key that right: ' +
    'graft keys change <id> --prompts.',
};

const notKept = (root: boolean): ApiError => ({
  code: 'not_found',
  message:
    'Nothing is stored for this request: its key does not keep prompts (keep_prompts), or the entry ' +
    "has expired or is not written yet. Use the request's own id, as `graft requests --id` lists it, " +
    'not an id that the application chose.' +
    (root ? ' The bootstrap key reads those of its own tenant only.' : ''),
});

const UNREADABLE: ApiError = {
  code: 'not_found',
  message:
    'Prompt and answer were encrypted with a secret that this edge no longer has (GRAFT_MAC_KEY); they ' +
    'are deleted when they expire.',
};

/** Reads one request's texts, for keys that may: only their own tenant's, the bootstrap key too. */
export function adminPromptRoutes(deps: {
  keptPrompts: Pick<KeptPrompts, 'read' | 'noteReading'>;
  gatherers: Pick<Gatherers, 'showPrompts'>;
  promptSealer: PromptSealer;
  now: () => number;
}): Hono<AppEnv> {
  const { keptPrompts, gatherers, promptSealer, now } = deps;
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/requests/:id/prompt', async ({ context, caller, params, query }) => {
    if (caller.prompts !== true) return fail(NO_RIGHT);
    const { tenant, keyId: actor } = caller;
    const read = (): ReturnType<KeptPrompts['read']> =>
      keptPrompts.read({ tenant, id: params.id, at: query.at ?? null, now: now() });
    let row = await read();
    if (row === null) {
      await gatherers
        .showPrompts(tenant)
        .catch((error: unknown) => logLine('prompts_not_written', { reason: reasonOf(error) }));
      row = await read();
    }
    if (row === null) return fail(notKept(caller.root));
    const text = await promptSealer.open(row, row.sealed);
    if (text === null) return fail(UNREADABLE);
    // Every read leaves a trace: if it cannot be recorded, nothing is returned.
    await keptPrompts.noteReading({ tenant, id: row.id, actor, at: now() });
    const { id, at, keyId, name, expiresAt } = row;
    return context.json({
      ...{ id, at, tenant, key_id: keyId, name, expires_at: expiresAt },
      ...KeptText.parse(JSON.parse(text)),
    } satisfies KeptPrompt);
  });
  return routes;
}
