/** Webhooks: allowed addresses, signatures, and delivery. */
import type { ApiError } from '../../protocol/api-error.ts';
import { derivedKey, type KeyLabel } from '../platform/derived-keys.ts';
import type { WebhookMessageRow, WebhookOutbox } from './ports.ts';
import { logLine } from '../log.ts';
import type { Fetch } from '../origins/connection.ts';
import { withTimeout } from '../platform/store-calls.ts';
import { WEBHOOK_FIRST_PAUSE_MS, WEBHOOK_TIMEOUT_MS, WEBHOOK_TRIES, WEBHOOKS_PER_RUN } from './limits.ts';

/**
 * Addresses to which the edge sends events by itself: the URL comes from a tenant, and must not reach into a
 * network.
 */

/** Names of the machine itself or its network, whoever resolves them. */
const LOCAL_NAME =
  /(^|\.)(localhost|local|internal|intranet|lan|home|corp|private|localdomain|home\.arpa|onion|svc|cluster|consul|node|service|pod|docker|k8s|kubernetes|test|invalid|alt)$/;
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);
/** Characters; real addresses are shorter. */
const MAX_URL_CHARACTERS = 1_000;

/**
 * Why nothing is sent to `text`; null = it may be. `https` to a public name, on any port, without a name or password in
 * it. Addresses in figures are refused, whichever: no certificate of a receiver that is meant to last is for one, and
 * there are too many ways to write a private one. A name is not looked up here: a worker cannot. What calls it refuses addresses that are not public; see docs/internals/security.md.
 * @param local this machine's own loopback is fine as well, by `http` or `https` (`graft dev`).
 */
export function webhookProblem(text: string, local: boolean): string | null {
  const url = text.length > MAX_URL_CHARACTERS ? null : parsed(text);
  if (url === null) return `must be a URL of at most ${MAX_URL_CHARACTERS} characters`;
  if (url.username !== '' || url.password !== '') return 'must have no user name or password in it';
  if (url.hash !== '') return 'must have no fragment (#…)';
  const loopback = LOOPBACK.has(url.hostname);
  if (local && loopback && (url.protocol === 'http:' || url.protocol === 'https:')) return null;
  if (url.protocol !== 'https:') return 'must begin with https://';
  // The URL parser has written every form of an IPv4 address (0x7f.1, 2130706433) as four numbers.
  const host = url.hostname.replace(/\.$/, '');
  if (host === '' || host.split('.').includes('')) return 'must point to a public host';
  if (host.startsWith('[') || /^\d+(\.\d+){3}$/.test(host)) return 'must use a host name, not an address';
  if (!host.includes('.') || LOCAL_NAME.test(host)) return 'must point to a public host';
  return null;
}

/** The same as an error of the field; null = it may be called, or there is none. */
export function webhookRefused(url: string | undefined, local: boolean, param: string): ApiError | null {
  const problem = url === undefined ? null : webhookProblem(url, local);
  return problem === null
    ? null
    : { code: 'invalid_request', message: `Invalid value for '${param}': ${problem}.`, param };
}

function parsed(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

/**
 * Signature of what the edge sends to an application's URL, as Standard Webhooks has it (standardwebhooks.com, 1.0.0):
 * `webhook-id`, `webhook-timestamp` (unix seconds) and `webhook-signature: v1,<base64>`, HMAC-SHA-256 over
 * `<id>.<timestamp>.<body>`. Any of its libraries checks it with the secret, `whsec_<base64>`.
 */

/** Prefix of a webhook's displayed secret. */
const WEBHOOK_SECRET_PREFIX = 'whsec_';

export interface WebhookSigner {
  /** The secret of this source and URL, for the receiver: it reveals no other. Another URL has another secret. */
  secret(target: WebhookTarget): Promise<string>;
  /** @returns the headers of one attempt. @param message.at unix ms, of this attempt. */
  headers(target: WebhookTarget, message: WebhookMessage): Promise<Record<string, string>>;
}

/** Where a message goes, and whose it is: the id of an experiment, or of a webhook. */
type WebhookTarget = Pick<WebhookMessageRow, 'source' | 'url'>;

interface WebhookMessage {
  /** The same at every attempt: receivers recognise repetitions by it. */
  id: string;
  at: number;
  body: string;
}

/**
 * @param secret the edge's, at least 32 random bytes; when it changes, so do all secrets of webhooks.
 * @param label its purpose: two uses of one URL have two secrets.
 */
export function createWebhookSigner(
  secret: Uint8Array<ArrayBuffer>,
  label: KeyLabel = 'graft-webhook-v1',
): WebhookSigner {
  const master = derivedKey(secret, label);
  // JSON keeps the two apart whatever they contain.
  const keyOf = async ({ source, url }: WebhookTarget): Promise<Uint8Array<ArrayBuffer>> =>
    new Uint8Array(await crypto.subtle.sign('HMAC', await master(), utf8(JSON.stringify([source, url]))));
  return {
    secret: async (target) => WEBHOOK_SECRET_PREFIX + base64(await keyOf(target)),
    async headers(target, { id, at, body }) {
      const algorithm = { name: 'HMAC', hash: 'SHA-256' };
      const key = await crypto.subtle.importKey('raw', await keyOf(target), algorithm, false, ['sign']);
      const timestamp = Math.floor(at / 1_000);
      const mac = await crypto.subtle.sign('HMAC', key, utf8(`${id}.${timestamp}.${body}`));
      return {
        'webhook-id': id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': `v1,${base64(new Uint8Array(mac))}`,
      };
    },
  };
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const base64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));

/** As Standard Webhooks recommends. @param at when it happened, unix ms. */
export const messageBody = (type: string, at: number, data: object): string =>
  JSON.stringify({ type, timestamp: new Date(at).toISOString(), data });

/** What sends a message. */
export interface DeliverDeps {
  webhookSigner: WebhookSigner;
  /** Calls addresses given by tenants. */
  callOut: Fetch;
  /** Whether this machine itself is allowed. */
  loopbackCallbacks: boolean;
  now: () => number;
}

export interface WebhookDeps extends DeliverDeps {
  outbox: WebhookOutbox;
}

/**
 * One run of the schedule: sends due messages independently. Anything but 2xx is retried after a pause that
 * doubles, {@link WEBHOOK_TRIES} times, and then given up. A receiver may get a message twice, with the same
 * `webhook-id`, if its answer or our record of it was lost.
 */
export async function sendWebhooks(deps: WebhookDeps): Promise<void> {
  const now = deps.now();
  const due = await deps.outbox.due({ now, limit: WEBHOOKS_PER_RUN });
  await Promise.all(due.map((message) => sendOne(deps, message)));
  await deps.outbox.forget(now);
}

async function sendOne(deps: WebhookDeps, message: WebhookMessageRow): Promise<void> {
  const { outbox, now } = deps;
  const { failure } = await deliver(deps, message);
  if (failure === null) return outbox.done(message.id);
  const tries = message.tries + 1;
  const fields = { source: message.source, reason: failure, tries };
  if (tries >= WEBHOOK_TRIES) {
    logLine('webhook_given_up', fields);
    return outbox.done(message.id);
  }
  logLine('webhook_failed', fields, 'warning');
  return outbox.later(message.id, now() + WEBHOOK_FIRST_PAUSE_MS * 2 ** message.tries);
}

/**
 * @returns the receiver's status, null if it did not answer; and why the message was not delivered, never the receiver's
 * own text; null = it was.
 */
export async function deliver(
  { webhookSigner, callOut, loopbackCallbacks, now }: DeliverDeps,
  { id, source, url, body }: Omit<WebhookMessageRow, 'tries'>,
): Promise<{ status: number | null; failure: string | null }> {
  // Checked when it was stored, possibly by an earlier edge with other settings.
  if (webhookProblem(url, loopbackCallbacks) !== null)
    return { status: null, failure: 'this address is not allowed' };
  const signed = await webhookSigner.headers({ source, url }, { id, at: now(), body });
  const ended = new AbortController();
  try {
    const headers = { 'content-type': 'application/json', 'user-agent': 'graft', ...signed };
    // Redirects are not followed, because only the original address was checked.
    const init = { method: 'POST', redirect: 'manual', headers, body, signal: ended.signal } as const;
    const response = await withTimeout(callOut(url, init), WEBHOOK_TIMEOUT_MS);
    await response.body?.cancel().catch(() => undefined);
    const { ok, status } = response;
    return { status, failure: ok ? null : `status ${status}` };
  } catch {
    return { status: null, failure: 'no answer' };
  } finally {
    ended.abort();
  }
}
