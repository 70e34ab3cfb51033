import { base64url } from '../../protocol/signature.ts';
import { derivedKey } from '../platform/derived-keys.ts';

/** Bytes of the hash that are kept: two of a billion units are the same with probability 1.5e-21. */
const BYTES = 16;

/** Makes of a unit what is stored and sent of it. */
export type UnitHasher = (unit: { experiment: string; seed: string; unit: string }) => Promise<string>;

/**
 * 22 characters of HMAC-SHA-256 over experiment, seed and unit: nobody without the secret can find out whose they are
 * by trying names, and the same person has another one in each experiment. Under another secret everybody is somebody
 * else: units that were seen before it was changed count again.
 * @param secret at least 32 random bytes.
 */
export function createUnitHasher(secret: Uint8Array<ArrayBuffer>): UnitHasher {
  const key = derivedKey(secret, 'graft-unit-v1');
  return async ({ experiment, seed, unit }) => {
    // JSON keeps the three apart whatever is in them.
    const message = new TextEncoder().encode(JSON.stringify([experiment, seed, unit]));
    const mac = await crypto.subtle.sign('HMAC', await key(), message);
    return base64url(new Uint8Array(mac, 0, BYTES));
  };
}
