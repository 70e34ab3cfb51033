import { Hono } from 'hono';
import { z } from 'zod';
import { AdapterName, type ChangeList, type ChangeView } from '../../protocol/index.ts';
import { ownName } from './own-name.ts';
import { HISTORY_PAGE, MAX_HISTORY_PAGE } from './limits.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import type { HistoryRow, Registry } from './ports.ts';
import { parseInput } from '../http/parse-input.ts';

const number = (most: number) =>
  z
    .string()
    .regex(/^[1-9]\d{0,14}$/, 'must be a positive whole number')
    .transform(Number)
    .pipe(z.int().max(most));

export const HistoryQuery = z.strictObject({
  name: AdapterName.optional(),
  before: number(Number.MAX_SAFE_INTEGER).optional(),
  limit: number(MAX_HISTORY_PAGE).optional(),
});

const changeJson = (row: HistoryRow): ChangeView => ({
  id: row.id,
  name: row.name,
  owner: row.owner,
  at: row.at,
  actor: row.actor,
  action: row.action,
  from: row.from,
  to: row.to,
  target: row.target,
  why: row.why,
});

/**
 * `GET /admin/history?name=&before=&limit=` -> {@link ChangeList}, newest first: of one name, or of all of the tenant's
 * (all at all for the bootstrap key).
 */
export function adminHistoryRoutes(deps: { registry: Registry }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get('/admin/history', async (context) => {
    const input = parseInput(HistoryQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const caller = context.get('admin');
    const { name, before = null, limit = HISTORY_PAGE } = input.value;
    if (name !== undefined) {
      const own = await ownName(deps, { name, caller });
      if (!own.ok) return fail(own.error);
    }
    const rows = await deps.registry.history({
      name: name ?? null,
      owner: caller.root ? null : caller.tenant,
      before,
      limit,
    });
    return context.json({
      changes: rows.map(changeJson),
      before: rows.length === limit ? (rows.at(-1)?.id ?? null) : null,
    } satisfies ChangeList);
  });
  routes.all('/admin/history', methodNotAllowed('GET'));
  return routes;
}
