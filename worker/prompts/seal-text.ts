/**
 * Text as it is kept: `base64url(iv ‖ ciphertext ‖ tag)`, AES-256-GCM with a key that is derived for this alone, the
 * additional data `graft-prompt-v1\n<tenant>\n<at>\n<id>`: nobody reads a row without the edge's secret, or moves it to
 * another request or tenant.
 */
import { base64url } from '../../protocol/signature.ts';
import { derivedKey, fromBase64url } from '../platform/derived-keys.ts';
import type { PromptPlace } from './ports.ts';

type Place = Pick<PromptPlace, 'tenant' | 'at' | 'id'>;

export interface TextSealer {
  seal(place: Place, text: string): Promise<string>;
  /** @returns null when it was not sealed for this place, or with a secret that is not known any more. */
  open(place: Place, sealed: string): Promise<string | null>;
}

const LABEL = 'graft-prompt-v1';
const CIPHER = 'AES-GCM';
/** NIST SP 800-38D: 96 bits, random; 2^32 of them for one key. */
const IV_BYTES = 12;

/**
 * @param secret at least 32 random bytes; seals and opens.
 * @param accepted secrets that open as well, while they are rotated.
 */
export function createTextSealer(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): TextSealer {
  const keyOf = (from: Uint8Array<ArrayBuffer>) => derivedKey(from, LABEL, 'aes-gcm');
  const key = keyOf(secret);
  const openers = [key, ...accepted.map(keyOf)];
  const encoder = new TextEncoder();
  const cipher = ({ tenant, at, id }: Place, iv: Uint8Array<ArrayBuffer>) => ({
    ...{ name: CIPHER, iv },
    additionalData: encoder.encode(`${LABEL}\n${tenant}\n${at}\n${id}`),
  });
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
  };
}
