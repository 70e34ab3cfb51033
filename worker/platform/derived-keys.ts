/**
 * Keys that are made from the edge's secret, each by HKDF (RFC 5869, SHA-256, no salt) under a label of its own: whoever
 * learned one of them would know none of the others.
 */
import { base64url } from '../../protocol/identity.ts';

/** What a key is for. A label is never used for two things, nor for the same thing in two formats. */
export type KeyLabel =
  | 'graft-download-v1'
  | 'graft-answer-v1'
  | 'graft-unit-v1'
  | 'graft-webhook-v1'
  | 'graft-judge-v1'
  | 'graft-prompt-v1';

/** Of Web Crypto. */
export type DerivedKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** Web Crypto's algorithm of a key, and what it may do. */
const USES = {
  hmac: { algorithm: { name: 'HMAC', hash: 'SHA-256' }, may: ['sign', 'verify'] },
  'aes-gcm': { algorithm: { name: 'AES-GCM' }, may: ['encrypt', 'decrypt'] },
} as const;

/**
 * The key, made when it is first wanted. What is kept is the key, not the promise of it: in workerd a promise belongs to
 * the request that made it.
 * @param secret at least 32 random bytes.
 */
export function derivedKey(
  secret: Uint8Array<ArrayBuffer>,
  label: KeyLabel,
  use: keyof typeof USES = 'hmac',
): () => Promise<DerivedKey> {
  let key: DerivedKey | undefined;
  return async () => (key ??= await derive(secret, label, use));
}

async function derive(
  secret: Uint8Array<ArrayBuffer>,
  label: KeyLabel,
  use: keyof typeof USES,
): Promise<DerivedKey> {
  const material = await crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveBits']);
  const bits = await crypto.subtle.deriveBits(
    { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: new TextEncoder().encode(label) },
    material,
    256,
  );
  const { algorithm, may } = USES[use];
  return crypto.subtle.importKey('raw', bits, algorithm, false, [...may]);
}

/** @returns null when the text is not what {@link base64url} writes. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  // Bits that belong to no byte: two texts must not mean the same.
  return base64url(bytes) === text ? bytes : null;
}
