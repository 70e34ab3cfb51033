/**
 * The token with which a page downloads adapters: `gd_v1.<payload>.<mac>`, both base64url; the payload is JSON,
 * the MAC HMAC-SHA-256 over `gd_v1.<payload>` with a key derived for this purpose. Nothing of it is stored. It
 * contains the sha256 of the key that it was made with, which opens nothing, so it ends with that key.
 */
import { z } from 'zod';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { base64url } from '../../protocol/identity.ts';
import { derivedKey, fromBase64url } from '../platform/derived-keys.ts';
import { MAX_TOKEN_CHARACTERS } from './limits.ts';

export interface DownloadGrant {
  /** 16 characters; different for each token. */
  id: string;
  /** sha256 of the API key that it was made with, hex. */
  keyHash: string;
  names: readonly string[];
  /** Of the page, in the browser's sense. */
  origin: string;
  /** Unix ms. */
  expiresAt: number;
}

export type TokenProblem = 'malformed' | 'forged' | 'expired';

export interface DownloadTokens {
  issue(grant: Omit<DownloadGrant, 'id'>): Promise<string>;
  /** @param now unix ms. */
  open(token: string, now: number): Promise<Result<DownloadGrant, TokenProblem>>;
}

const Payload = z
  .tuple([z.string().length(16), z.string().length(64), z.array(z.string()).min(1), z.string(), z.int()])
  .transform(([id, keyHash, names, origin, expiresAt]): DownloadGrant => ({
    ...{ id, keyHash, names, origin, expiresAt },
  }));

const VERSION = 'gd_v1';
const LABEL = 'graft-download-v1';
const ID_BYTES = 12;

/**
 * @param secret at least 32 random bytes; creates and verifies tokens.
 * @param accepted further secrets that verify, during a rotation.
 */
export function createDownloadTokens(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): DownloadTokens {
  const key = derivedKey(secret, LABEL);
  const openers = [key, ...accepted.map((other) => derivedKey(other, LABEL))];
  const encoder = new TextEncoder();
  return {
    async issue({ keyHash, names, origin, expiresAt }) {
      const id = base64url(crypto.getRandomValues(new Uint8Array(ID_BYTES)));
      const payload = JSON.stringify([id, keyHash, names, origin, expiresAt]);
      const head = `${VERSION}.${base64url(encoder.encode(payload))}`;
      const mac = await crypto.subtle.sign('HMAC', await key(), encoder.encode(head));
      return `${head}.${base64url(new Uint8Array(mac))}`;
    },

    async open(token, now) {
      if (token.length > MAX_TOKEN_CHARACTERS) return err('malformed');
      const [version, payload, macText, ...rest] = token.split('.');
      if (version !== VERSION || payload === undefined || macText === undefined || rest.length > 0)
        return err('malformed');
      const [bytes, mac] = [fromBase64url(payload), fromBase64url(macText)];
      if (bytes === null || mac === null) return err('malformed');
      const signed = encoder.encode(`${VERSION}.${payload}`);
      let genuine = false;
      // subtle.verify compares in constant time.
      for (const opener of openers)
        genuine ||= await crypto.subtle.verify('HMAC', await opener(), mac, signed);
      if (!genuine) return err('forged');
      const parsed = Payload.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
      if (!parsed.success) return err('malformed');
      return now < parsed.data.expiresAt ? ok(parsed.data) : err('expired');
    },
  };
}
