/** Signatures of webhooks as a receiver computes them, from the specification alone (standardwebhooks.com, 1.0.0). */
import { createHmac } from 'node:crypto';

/**
 * @param message.id `webhook-id`. @param message.at `webhook-timestamp`. @param secret `whsec_` and base64.
 * @returns what `webhook-signature` must be.
 */
export function signatureOf(
  message: { id: string | null; at: string | null; body: string },
  secret: string,
): string {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const signed = `${message.id}.${message.at}.${message.body}`;
  return `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
}

/** The same of a message's headers and body. */
export const expectedSignature = (headers: Headers, body: string, secret: string): string =>
  signatureOf({ id: headers.get('webhook-id'), at: headers.get('webhook-timestamp'), body }, secret);
