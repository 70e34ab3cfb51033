/** Notices what webhooks are told: budgets that are nearly or wholly used, origins that go away and come back. */
import type { WebhookEvent } from '../../protocol/admin-api/webhooks.ts';
import { logLine, reasonOf } from '../log.ts';
import type { BudgetAlerts, Quotas, ReachedShare } from '../metering/ports.ts';
import { BoundedMap } from '../platform/bounded-map.ts';
import type { WebhookLedger } from './d1-webhooks.ts';
import { ALERT_MEMORY_MS, ORIGIN_AWAY_MS } from './limits.ts';
import type { OriginAbsence } from './ports.ts';

const EVENT_OF_SHARE: Record<ReachedShare['percent'], WebhookEvent> = {
  80: 'budget.nearly_used',
  100: 'budget.used',
};

/**
 * Writes alerts of budgets, and tells their counters, which repeat each share until then: so none is lost with an isolate,
 * and the ids of messages keep it from being written twice.
 * @param params.quotas null = nothing is counted, and so nothing reached.
 */
export function createBudgetAlerts(params: {
  quotas: Pick<Quotas, 'told'> | null;
  webhooks: Pick<WebhookLedger, 'tell'>;
  now: () => number;
  maxEntries: number;
}): BudgetAlerts {
  const { quotas, webhooks, now } = params;
  /** Id of an alert -> until when it is not tried again, unix ms. */
  const tried = new BoundedMap<string, number>(params.maxEntries);
  return {
    async tell({ tenant, keyId }, reached) {
      const at = now();
      const alerts = reached.flatMap((share) => {
        const { of, counter, period, begun, limit, percent, used, renewedAt } = share;
        // An erasure finds a tenant's by the beginning of their ids.
        const subject = [tenant, counter, period, begun, limit, String(percent).padStart(3, '0')];
        const id = `msg:budget:${subject.join(':')}`;
        if (at < (tried.get(id) ?? 0)) return [];
        tried.set(id, at + ALERT_MEMORY_MS);
        const data = {
          tenant,
          key: of === 'key' ? keyId : null,
          period,
          limit,
          used,
          renewed_at: new Date(renewedAt).toISOString(),
        };
        return [{ share, alert: { id, tenant, event: EVENT_OF_SHARE[percent], data } }];
      });
      if (alerts.length === 0) return;
      try {
        await webhooks.tell(
          alerts.map(({ alert }) => alert),
          at,
        );
        await quotas?.told(
          tenant,
          alerts.map(({ share: { counter, period, begun, limit, percent } }) => ({
            counter,
            period,
            begun,
            limit,
            percent,
          })),
        );
      } catch (error) {
        logLine('alert_not_written', { tenant, key_id: keyId, reason: reasonOf(error) }, 'warning');
      }
    },
  };
}

/** What a run of the schedule changes, having asked every origin. Pure. */
export function absencesAfter(
  known: readonly OriginAbsence[],
  asked: readonly { id: string; answers: boolean }[],
  now: number,
) {
  const isKnown = new Set(known.map(({ origin }) => origin));
  const answers = new Map(asked.map((one) => [one.id, one.answers]));
  const away = known.filter(({ origin, since, told }) => {
    return answers.get(origin) === false && !told && now - since >= ORIGIN_AWAY_MS;
  });
  // What is no longer configured goes without a word.
  const over = known.filter(({ origin }) => answers.get(origin) !== false);
  return {
    begun: asked.filter((one) => !one.answers && !isKnown.has(one.id)).map(({ id }) => id),
    away,
    over,
    back: over.filter(({ origin, told }) => told && answers.has(origin)),
  };
}

/** @throws StoreUnavailable; the next run does it again. */
export async function tellOfOrigins(
  { webhooks, now }: { webhooks: Pick<WebhookLedger, 'absences' | 'changeAbsences'>; now: () => number },
  asked: readonly { id: string; answers: boolean }[],
): Promise<void> {
  const at = now();
  const { begun, away, over, back } = absencesAfter(await webhooks.absences(), asked, at);
  if (begun.length + away.length + over.length === 0) return;
  const alertOf =
    (event: 'origin.away' | 'origin.back') =>
    ({ origin, since }: OriginAbsence) => ({
      id: ['msg', event, origin, since].join(':'),
      tenant: null,
      event,
      data: { origin, since: new Date(since).toISOString() },
    });
  for (const { origin, since } of away)
    logLine('origin_away', { origin, since: new Date(since).toISOString() });
  for (const { origin } of back) logLine('origin_back', { origin }, 'info');
  const ids = (absences: readonly OriginAbsence[]) => absences.map(({ origin }) => origin);
  const alerts = [...away.map(alertOf('origin.away')), ...back.map(alertOf('origin.back'))];
  await webhooks.changeAbsences({ begun, told: ids(away), over: ids(over), alerts }, at);
}
