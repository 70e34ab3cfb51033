import { Hono } from 'hono';
import {
  isOperatorEvent,
  WEBHOOK_EVENTS,
  type NewWebhook,
  type WebhookList,
  type WebhookSecret,
  type WebhookTest,
} from '../../protocol/admin-api/webhooks.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import type { AdminCaller } from '../access/ports.ts';
import { conflict } from '../errors.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import { ADMIN_PAGE } from '../limits.ts';
import type { WebhookLedger, WebhookRow } from './d1-webhooks.ts';
import { MAX_WEBHOOKS } from './limits.ts';
import { deliver, messageBody, webhookRefused, type DeliverDeps } from './send-webhooks.ts';

/** Where alerts of budgets and origins go. A tenant's admin key has its own; 404 for those of others. */
export function adminWebhookRoutes(deps: DeliverDeps & { webhooks: WebhookLedger }): Hono<AppEnv> {
  const { webhooks, webhookSigner, now } = deps;
  const routes = new Hono<AppEnv>();
  const secretOf = ({ id, url }: WebhookRow): Promise<string> => webhookSigner.secret({ source: id, url });

  adminRoute(routes, 'GET /admin/webhooks', async ({ context, caller, query: { cursor } }) => {
    const tenant = caller.root ? null : caller.tenant;
    const page = await webhooks.list({ tenant, cursor, limit: ADMIN_PAGE });
    return context.json({ webhooks: page.items, cursor: page.cursor } satisfies WebhookList);
  });

  adminRoute(routes, 'POST /admin/webhooks', async ({ context, caller, request }) => {
    const { url, tenant = caller.root ? null : caller.tenant } = request;
    const mayHear = WEBHOOK_EVENTS.filter((event) => tenant === null || !isOperatorEvent(event));
    const { events = mayHear } = request;
    if (!caller.root && tenant !== caller.tenant)
      return fail({
        code: 'insufficient_scope',
        message: `Only the bootstrap key may create webhooks of other tenants than '${caller.tenant}'.`,
      });
    const problem = webhookRefused(url, deps.loopbackCallbacks, 'url');
    if (problem !== null) return fail(problem);
    if (!events.every((event) => mayHear.includes(event)))
      return fail({
        code: 'insufficient_scope',
        message: `Only the operator's webhooks hear of origins. A tenant's can hear of ${mayHear.join(' and ')}.`,
      });
    const row: WebhookRow = {
      id: `hook_${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`,
      tenant,
      url,
      events: mayHear.filter((event) => events.includes(event)),
      created_at: now(),
      created_by: caller.keyId,
    };
    const added = await webhooks.add(row, MAX_WEBHOOKS);
    if (added === 'revoked') return fail(conflict('The key that you used was revoked in the meantime.'));
    if (added === 'full')
      return fail(
        conflict(
          `${tenant ?? 'The operator'} has ${MAX_WEBHOOKS} webhooks, the most allowed. Remove one first.`,
        ),
      );
    const made: NewWebhook = { ...row, waiting: 0, secret: await secretOf(row) };
    return context.json(made, 201);
  });

  const own = async (id: string, caller: AdminCaller): Promise<Result<WebhookRow, ApiError>> => {
    const row = await webhooks.get(id);
    return row !== null && (caller.root || row.tenant === caller.tenant)
      ? ok(row)
      : err({ code: 'not_found', message: 'This webhook does not exist or you do not have access to it.' });
  };

  adminRoute(routes, 'GET /admin/webhooks/:id/secret', async ({ context, caller, params: { id } }) => {
    const found = await own(id, caller);
    if (!found.ok) return fail(found.error);
    return context.json({ secret: await secretOf(found.value) } satisfies WebhookSecret);
  });

  adminRoute(routes, 'POST /admin/webhooks/:id/test', async ({ context, caller, params: { id } }) => {
    const found = await own(id, caller);
    if (!found.ok) return fail(found.error);
    const { tenant, url } = found.value;
    const at = now();
    const data = { webhook: id, tenant };
    const { status, failure } = await deliver(deps, {
      id: `msg:test:${id}:${at}`,
      source: id,
      url,
      body: messageBody('webhook.test', at, data),
    });
    return context.json({ delivered: failure === null, status, reason: failure } satisfies WebhookTest);
  });

  adminRoute(routes, 'DELETE /admin/webhooks/:id', async ({ context, caller, params: { id } }) => {
    const found = await own(id, caller);
    if (!found.ok) return fail(found.error);
    await webhooks.remove(id);
    return context.body(null, 204);
  });
  return routes;
}
