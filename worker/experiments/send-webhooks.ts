import { logLine } from '../log.ts';
import type { Fetch } from '../origins/signed-fetch.ts';
import { withTimeout } from '../platform/with-timeout.ts';
import {
  WEBHOOK_FIRST_PAUSE_MS,
  WEBHOOK_KEPT_MS,
  WEBHOOK_TIMEOUT_MS,
  WEBHOOK_TRIES,
  WEBHOOKS_PER_RUN,
} from './limits.ts';
import type { WebhookMessageRow, WebhookOutbox } from './ports-webhook.ts';
import { webhookProblem } from './webhook-address.ts';
import type { WebhookSigner } from './webhook-signature.ts';

export interface WebhookDeps {
  outbox: WebhookOutbox;
  webhookSigner: WebhookSigner;
  /** Reaches addresses that tenants wrote down. */
  callOut: Fetch;
  /** Whether this machine itself is an address. */
  loopbackCallbacks: boolean;
  now: () => number;
}

/**
 * One round of the schedule: sends what is due, each message for itself. What does not answer 2xx is tried again after a
 * pause that doubles, {@link WEBHOOK_TRIES} times, and then given up. A receiver may get a message twice, with the same
 * `webhook-id`: when its answer, or our note of it, was lost.
 */
export async function sendWebhooks(deps: WebhookDeps): Promise<void> {
  const now = deps.now();
  const due = await deps.outbox.due({ now, limit: WEBHOOKS_PER_RUN });
  await Promise.all(due.map((message) => sendOne(deps, message)));
  await deps.outbox.forget(now - WEBHOOK_KEPT_MS);
}

async function sendOne(deps: WebhookDeps, message: WebhookMessageRow): Promise<void> {
  const { outbox, now } = deps;
  const failure = await trySending(deps, message);
  if (failure === null) return outbox.done(message.id);
  const tries = message.tries + 1;
  const fields = { experiment: message.experiment, reason: failure, tries };
  if (tries >= WEBHOOK_TRIES) {
    logLine('webhook_given_up', fields);
    return outbox.done(message.id);
  }
  logLine('webhook_failed', fields, 'warning');
  return outbox.later(message.id, now() + WEBHOOK_FIRST_PAUSE_MS * 2 ** message.tries);
}

/** @returns why it was not taken, never what the receiver wrote; null = it was. */
async function trySending(
  { webhookSigner, callOut, loopbackCallbacks, now }: WebhookDeps,
  { id, experiment, url, body }: WebhookMessageRow,
): Promise<string | null> {
  // Checked when it was written down, by this or by an earlier edge with other settings.
  if (webhookProblem(url, loopbackCallbacks) !== null) return 'the address is not one that is called';
  const signed = await webhookSigner.headers({ experiment, url }, { id, at: now(), body });
  const ended = new AbortController();
  try {
    const headers = { 'content-type': 'application/json', 'user-agent': 'graft', ...signed };
    // A redirect is not followed: what was checked is the address that is called.
    const init = { method: 'POST', redirect: 'manual', headers, body, signal: ended.signal } as const;
    const response = await withTimeout(callOut(url, init), WEBHOOK_TIMEOUT_MS);
    await response.body?.cancel().catch(() => undefined);
    return response.ok ? null : `status ${response.status}`;
  } catch {
    return 'no answer';
  } finally {
    ended.abort();
  }
}
