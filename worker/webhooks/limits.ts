/** Limits of webhooks, with unit and reason. */

const SECOND = 1_000;
const DAY = 86_400 * SECOND;

/** Webhooks of one tenant, and of the operator, beside those of experiments. */
export const MAX_WEBHOOKS = 10;
/** Alerts of budgets that wait for one webhook. Further ones are dropped: a receiver that is away must not fill the outbox. */
export const MAX_WAITING_ALERTS = 100;
/** … and of one tenant for a webhook of the operator, who is to hear of the others as well. */
export const MAX_WAITING_OF_TENANT = 20;
/** Messages per run of the schedule; each is a call out and one of D1. */
export const WEBHOOKS_PER_RUN = 20;
/** Due messages among which a run chooses, so that each receiver has its turn. */
export const DUE_MESSAGES = 500;
/** Time for a webhook to answer. */
export const WEBHOOK_TIMEOUT_MS = 10 * SECOND;
/** Attempts to deliver a webhook, within 17 hours. The pause between them doubles. */
export const WEBHOOK_TRIES = 11;
export const WEBHOOK_FIRST_PAUSE_MS = 60 * SECOND;
/** An experiment’s messages are remembered for this long, so that none is sent twice: longer than most run. */
export const WEBHOOK_KEPT_MS = 180 * DAY;
/** … and alerts for this long: who notices them remembers that they were written. */
export const ALERT_KEPT_MS = 7 * DAY;
/** An isolate that has tried to write an alert does not try again for this long. */
export const ALERT_MEMORY_MS = 10 * SECOND;
/** An origin that does not answer for this long is away: two runs of the schedule in a row, less how late one may be. */
export const ORIGIN_AWAY_MS = 45 * SECOND;
