/**
 * Signature of what the edge sends to an application's URL, as Standard Webhooks has it (standardwebhooks.com, 1.0.0):
 * `webhook-id`, `webhook-timestamp` (unix seconds) and `webhook-signature: v1,<base64>`, HMAC-SHA-256 over
 * `<id>.<timestamp>.<body>`. Any of its libraries checks it with the secret, `whsec_<base64>`.
 */
import { derivedKey, type KeyLabel } from './derived-keys.ts';

/** What the secret of a webhook is shown as. */
export const WEBHOOK_SECRET_PREFIX = 'whsec_';

export interface WebhookSigner {
  /**
   * Of this experiment and URL, to be given to whoever receives: nobody who knows it can make another one. Another URL
   * has another secret.
   */
  secret(target: WebhookTarget): Promise<string>;
  /** @returns the headers of one sending. @param message.at unix ms, of this try. */
  headers(target: WebhookTarget, message: WebhookMessage): Promise<Record<string, string>>;
}

export interface WebhookTarget {
  experiment: string;
  url: string;
}

export interface WebhookMessage {
  /** The same at every try: by it a receiver knows what it has had. */
  id: string;
  at: number;
  body: string;
}

/**
 * @param secret the edge's, at least 32 random bytes; when it is changed, so are all secrets of webhooks.
 * @param label what it is for: two uses of one URL have two secrets.
 */
export function createWebhookSigner(
  secret: Uint8Array<ArrayBuffer>,
  label: KeyLabel = 'graft-webhook-v1',
): WebhookSigner {
  const master = derivedKey(secret, label);
  // JSON keeps the two apart whatever is in them.
  const keyOf = async ({ experiment, url }: WebhookTarget): Promise<Uint8Array<ArrayBuffer>> =>
    new Uint8Array(await crypto.subtle.sign('HMAC', await master(), utf8(JSON.stringify([experiment, url]))));
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
