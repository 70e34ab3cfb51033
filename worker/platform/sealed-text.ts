/**
 * Texts as they are stored: `base64url(iv ‖ ciphertext ‖ tag)`, AES-256-GCM with a key derived for one purpose.
 * The additional data is the purpose's label and the text's place: without the edge's secret nobody can read a
 * text or move it to another place.
 */
import { base64url, toHex } from '../../protocol/identity.ts';
import { derivedKey, fromBase64url, type KeyLabel } from './derived-keys.ts';

const CIPHER = 'AES-GCM';
/** NIST SP 800-38D: 96 bits, random; 2^32 of them for one key. */
const IV_BYTES = 12;
/** Of a secret's id, hex. */
const ID_DIGITS = 16;

export interface TextSealer {
  seal(place: string, text: string): Promise<string>;
  /** @returns null when it was not sealed for this place, or with an unknown secret. */
  open(place: string, sealed: string): Promise<string | null>;
  /** Ids of the secrets, which reveal nothing of them: the one that seals first, then those that only open. */
  secretIds(): Promise<readonly [string, ...string[]]>;
}

/**
 * @param label of the texts' purpose.
 * @param secret at least 32 random bytes; seals and opens.
 * @param accepted further secrets that open, during a rotation.
 */
export function createTextSealer(
  label: KeyLabel,
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): TextSealer {
  const keyOf = (from: Uint8Array<ArrayBuffer>) => derivedKey(from, label, 'aes-gcm');
  const key = keyOf(secret);
  const openers = [key, ...accepted.map(keyOf)];
  const encoder = new TextEncoder();
  const cipher = (place: string, iv: Uint8Array<ArrayBuffer>) => ({
    ...{ name: CIPHER, iv },
    additionalData: encoder.encode(`${label}\n${place}`),
  });
  const idOf = async (from: Uint8Array<ArrayBuffer>): Promise<string> => {
    const mac = await crypto.subtle.sign(
      'HMAC',
      await derivedKey(from, 'graft-secret-id-v1')(),
      new Uint8Array(),
    );
    return toHex(mac).slice(0, ID_DIGITS);
  };
  return {
    async seal(place, text) {
      const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
      const sealed = await crypto.subtle.encrypt(cipher(place, iv), await key(), encoder.encode(text));
      const all = new Uint8Array(IV_BYTES + sealed.byteLength);
      all.set(iv);
      all.set(new Uint8Array(sealed), IV_BYTES);
      return base64url(all);
    },
    async open(place, sealed) {
      const all = fromBase64url(sealed);
      if (all === null || all.length < IV_BYTES) return null;
      const iv = all.slice(0, IV_BYTES);
      for (const opener of openers) {
        try {
          const text = await crypto.subtle.decrypt(cipher(place, iv), await opener(), all.slice(IV_BYTES));
          return new TextDecoder().decode(text);
        } catch {
          // Another secret's, or not genuine.
        }
      }
      return null;
    },
    secretIds: async () => [await idOf(secret), ...(await Promise.all(accepted.map(idOf)))],
  };
}
