/**
 * Keys derived from the edge's secret, each by HKDF (RFC 5869, SHA-256, no salt) under its own label: knowing
 * one of them reveals none of the others.
 */
import { base64url, decodeBase64url } from '../../protocol/identity.ts';

/** Purpose of a key. A label is never used for two purposes, nor for two formats of one. */
export type KeyLabel =
  | 'graft-download-v1'
  | 'graft-publish-v1'
  | 'graft-answer-v1'
  | 'graft-unit-v1'
  | 'graft-webhook-v1'
  | 'graft-judge-v1'
  | 'graft-prompt-v1'
  | 'graft-rows-v1'
  | 'graft-evaluation-v1'
  | 'graft-secret-id-v1';

/** Of Web Crypto. */
export type DerivedKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** Web Crypto's algorithm and usages of a key. */
const USES = {
  hmac: { algorithm: { name: 'HMAC', hash: 'SHA-256' }, may: ['sign', 'verify'] },
  'aes-gcm': { algorithm: { name: 'AES-GCM' }, may: ['encrypt', 'decrypt'] },
} as const;

/**
 * The key, derived on first use. The key is cached, not its promise: in workerd a promise belongs to the
 * request that created it.
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

/** @returns null unless {@link base64url} writes exactly this text. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const bytes = decodeBase64url(text);
  // Unused bits: two texts must not mean the same.
  return base64url(bytes) === text ? bytes : null;
}
