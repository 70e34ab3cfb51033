/**
 * Keys that are made from the edge's secret, each by HKDF (RFC 5869, SHA-256, no salt) under a label of its own: whoever
 * learned one of them would know none of the others.
 */

/** What a key is for. A label is never used for two things, nor for the same thing in two formats. */
export type KeyLabel =
  | 'graft-download-v1'
  | 'graft-exposure-v1'
  | 'graft-answer-v1'
  | 'graft-unit-v1'
  | 'graft-webhook-v1'
  | 'graft-judge-v1'
  | 'graft-prompt-v1';

export type HmacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/**
 * The key, made when it is first wanted. What is kept is the key, not the promise of it: in workerd a promise belongs to
 * the request that made it.
 * @param secret at least 32 random bytes.
 */
export function derivedKey(secret: Uint8Array<ArrayBuffer>, label: KeyLabel): () => Promise<HmacKey> {
  let key: HmacKey | undefined;
  return async () => (key ??= await deriveHmacKey(secret, label));
}

async function deriveHmacKey(secret: Uint8Array<ArrayBuffer>, label: KeyLabel): Promise<HmacKey> {
  const bits = await deriveBits(secret, label);
  return crypto.subtle.importKey('raw', bits, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
}

/** @returns 256 bits. @param secret at least 32 random bytes. */
export async function deriveBits(secret: Uint8Array<ArrayBuffer>, label: KeyLabel): Promise<ArrayBuffer> {
  const material = await crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveBits']);
  return crypto.subtle.deriveBits(
    { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: new TextEncoder().encode(label) },
    material,
    256,
  );
}

/** A call takes some ten thousand arguments. */
const AT_ONCE = 8_192;

export function base64url(bytes: Uint8Array): string {
  let text = '';
  for (let from = 0; from < bytes.length; from += AT_ONCE)
    text += String.fromCharCode(...bytes.subarray(from, from + AT_ONCE));
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** @returns null when the text is not what {@link base64url} writes. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  // Bits that belong to no byte: two texts must not mean the same.
  return base64url(bytes) === text ? bytes : null;
}
