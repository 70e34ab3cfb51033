/**
 * Tokens that let a page do one thing: `<version>.<payload>.<mac>`, both base64url; the payload is JSON, the MAC
 * HMAC-SHA-256 over `<version>.<payload>` with a key derived for this purpose. None is stored. Each contains the
 * sha256 of the key that it was made with, which opens nothing, so it ends with that key.
 */
import { z } from 'zod';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { base64url } from '../../protocol/identity.ts';
import { derivedKey, fromBase64url, type KeyLabel } from '../platform/derived-keys.ts';

export interface PageGrant {
  /** 16 characters; different for each token. */
  id: string;
  /** sha256 of the API key that it was made with, hex. */
  keyHash: string;
  /** Of the page, in the browser's sense. */
  origin: string;
  /** Unix ms. */
  expiresAt: number;
}

export type TokenProblem = 'malformed' | 'forged' | 'expired';

export interface PageTokens<Grant extends PageGrant> {
  issue(grant: Omit<Grant, 'id'>): Promise<string>;
  /** @param now unix ms. */
  open(token: string, now: number): Promise<Result<Grant, TokenProblem>>;
}

/** A kind of token: its purpose is in its version, and in the label of its key. */
interface TokenKind<Grant extends PageGrant> {
  version: string;
  label: KeyLabel;
  maxCharacters: number;
  /** @returns the payload, JSON. */
  write: (id: string, grant: Omit<Grant, 'id'>) => unknown;
  /** Reads it. */
  payload: z.ZodType<Grant>;
}

export const TokenId = z.string().length(16);
export const KeyHash = z.string().length(64);
const ID_BYTES = 12;

/**
 * @param secret at least 32 random bytes; creates and verifies tokens.
 * @param accepted further secrets that verify, during a rotation.
 */
export function createPageTokens<Grant extends PageGrant>(
  kind: TokenKind<Grant>,
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): PageTokens<Grant> {
  const key = derivedKey(secret, kind.label);
  const openers = [key, ...accepted.map((other) => derivedKey(other, kind.label))];
  const encoder = new TextEncoder();
  return {
    async issue(grant) {
      const id = base64url(crypto.getRandomValues(new Uint8Array(ID_BYTES)));
      const payload = JSON.stringify(kind.write(id, grant));
      const head = `${kind.version}.${base64url(encoder.encode(payload))}`;
      const mac = await crypto.subtle.sign('HMAC', await key(), encoder.encode(head));
      return `${head}.${base64url(new Uint8Array(mac))}`;
    },

    async open(token, now) {
      if (token.length > kind.maxCharacters) return err('malformed');
      const [version, payload, macText, ...rest] = token.split('.');
      if (version !== kind.version || payload === undefined || macText === undefined || rest.length > 0)
        return err('malformed');
      const [bytes, mac] = [fromBase64url(payload), fromBase64url(macText)];
      if (bytes === null || mac === null) return err('malformed');
      const signed = encoder.encode(`${kind.version}.${payload}`);
      let genuine = false;
      // subtle.verify compares in constant time.
      for (const opener of openers)
        genuine ||= await crypto.subtle.verify('HMAC', await opener(), mac, signed);
      if (!genuine) return err('forged');
      const parsed = kind.payload.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
      if (!parsed.success) return err('malformed');
      return now < parsed.data.expiresAt ? ok(parsed.data) : err('expired');
    },
  };
}
