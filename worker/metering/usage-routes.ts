import { Hono } from 'hono';
import { z } from 'zod';
import { USAGE_GROUPS, type UsageReport } from '../../protocol/index.ts';
import { MAX_USAGE_SUMS } from './limits.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import type { UsageLedger, UsageSum } from './ports.ts';
import { parseInput } from '../http/parse-input.ts';

const HOUR_MS = 3_600_000;
/** Without `from`: the last thirty days. */
const DEFAULT_MS = 30 * 24 * HOUR_MS;

/** A day, which begins at midnight UTC, or a moment of ISO 8601 with its zone. */
const moment = z
  .union(
    [z.iso.date(), z.iso.datetime({ offset: true })],
    'must be a date, 2026-01-31, or a time, 2026-01-31T07:00:00Z',
  )
  .transform((text) => Date.parse(text));

export const UsageQuery = z.strictObject({
  by: z.enum(USAGE_GROUPS).default('key'),
  from: moment.optional(),
  to: moment.optional(),
  tenant: z.string().max(64).optional(),
});

const sumJson = ({
  group,
  requests,
  errors,
  promptTokens,
  completionTokens,
}: UsageSum): UsageReport['rows'][number] => ({
  group,
  requests,
  errors,
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

/**
 * `GET /admin/usage?by=key|tenant|name|version|day|hour&from=&to=&tenant=` -> {@link UsageReport}. Whole hours: `from` is
 * rounded down and `to`, which does not count itself, up. Only the bootstrap key sees other tenants than its own.
 */
export function adminUsageRoutes(deps: { usage: UsageLedger; now: () => number }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get('/admin/usage', async (context) => {
    const input = parseInput(UsageQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const { by, tenant } = input.value;
    const caller = context.get('admin');
    if (!caller.root && tenant !== undefined && tenant !== caller.tenant)
      return fail({ code: 'insufficient_scope', message: 'This key sees the usage of its own tenant only.' });
    const to = Math.ceil((input.value.to ?? deps.now() + 1) / HOUR_MS);
    const from = Math.floor((input.value.from ?? to * HOUR_MS - DEFAULT_MS) / HOUR_MS);
    if (from >= to)
      return fail({ code: 'invalid_request', message: "'from' must be before 'to'.", param: 'from' });
    const sums = await deps.usage.sum({
      by,
      tenant: caller.root ? (tenant ?? null) : caller.tenant,
      from,
      to,
      limit: MAX_USAGE_SUMS + 1,
    });
    return context.json({
      by,
      from: new Date(from * HOUR_MS).toISOString(),
      to: new Date(to * HOUR_MS).toISOString(),
      rows: sums.slice(0, MAX_USAGE_SUMS).map(sumJson),
      truncated: sums.length > MAX_USAGE_SUMS,
    } satisfies UsageReport);
  });
  routes.all('/admin/usage', methodNotAllowed('GET'));
  return routes;
}
