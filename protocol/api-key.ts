/**
 * API keys: `gk_` (inference) or `ga_` (admin), 27 random base62 digits (160 bits), 6 base62 digits of
 * checksum. The checksum lets anyone refuse a mistyped or made-up key without a lookup; it proves nothing else.
 * Only a key's sha256 is ever stored. The link that `graft dev` prints also reveals the admin key of a local
 * stack.
 */
import { z } from 'zod';
import { sha256Hex } from './identity.ts';
import { base64url } from './signature.ts';

export type ApiKeyKind = 'gk' | 'ga';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const RANDOM_DIGITS = 27;
/** 62^6 > 2^32. */
const CHECKSUM_DIGITS = 6;
const FORM = new RegExp(`^(gk|ga)_([0-9A-Za-z]{${RANDOM_DIGITS}})([0-9A-Za-z]{${CHECKSUM_DIGITS}})$`);

/** CRC-32 (IEEE 802.3, reflected) of ASCII text. */
function crc32(text: string): number {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i += 1) {
    crc ^= text.charCodeAt(i);
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function checksum(text: string): string {
  let rest = crc32(text);
  let digits = '';
  for (let i = 0; i < CHECKSUM_DIGITS; i += 1) {
    digits = ALPHABET.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}

export function generateApiKey(kind: ApiKeyKind): string {
  let digits = '';
  while (digits.length < RANDOM_DIGITS) {
    for (const byte of crypto.getRandomValues(new Uint8Array(RANDOM_DIGITS))) {
      // 248 = 4 * 62: larger values would favour the first digits.
      if (byte < 248 && digits.length < RANDOM_DIGITS) digits += ALPHABET.charAt(byte % 62);
    }
  }
  const key = `${kind}_${digits}`;
  return key + checksum(key);
}

/** @returns the kind of a well-formed key, or null. Does no I/O. */
export function checkApiKey(text: string): ApiKeyKind | null {
  const match = FORM.exec(text);
  if (match === null) return null;
  const [, kind, digits, sum] = match;
  return checksum(`${kind}_${digits}`) === sum ? (kind as ApiKeyKind) : null;
}

/** The stored form of a key. */
export const hashApiKey = (key: string): Promise<string> => sha256Hex(key);

/** Characters of a token: base64url of 32 random bytes. */
const TOKEN_LENGTH = 43;

/** Body of `POST /dashboard/sign-in`. */
export const SignInRequest = z.strictObject({ token: z.string().length(TOKEN_LENGTH) });
export type SignInRequest = z.infer<typeof SignInRequest>;

/** What the page signs its requests with from then on. */
export const SignInAnswer = z.object({ admin_key: z.string() });
export type SignInAnswer = z.infer<typeof SignInAnswer>;

/** How long the link of `graft open` signs in. */
export const SIGN_IN_LINK_MS = 5 * 60_000;
/** Of a token made with a key: its end and 8 random bytes, followed by as many bytes of their HMAC-SHA-256. */
const TOKEN_HEAD_BYTES = 16;

/**
 * A token for a sign-in link that any holder of the admin key can create, and the edge can check, without a
 * request.
 * @param endsAt unix ms.
 */
export function makeSignInToken(adminKey: string, endsAt: number): Promise<string> {
  const head = crypto.getRandomValues(new Uint8Array(TOKEN_HEAD_BYTES));
  new DataView(head.buffer).setBigUint64(0, BigInt(endsAt));
  return tokenOf(adminKey, head);
}

/** @returns when it ends, unix ms; null if it was not made with this key. */
export async function signInTokenEnd(token: string, adminKey: string): Promise<number | null> {
  if (!/^[\w-]{43}$/.test(token)) return null;
  const bytes = Uint8Array.from(atob(token.replaceAll('-', '+').replaceAll('_', '/')), (c) =>
    c.charCodeAt(0),
  );
  const head = bytes.slice(0, TOKEN_HEAD_BYTES);
  // Other spellings of the same bytes are rejected too. Hashes are compared, so timing reveals nothing of the
  // token.
  const made = await tokenOf(adminKey, head);
  if ((await sha256Hex(made)) !== (await sha256Hex(token))) return null;
  return Number(new DataView(head.buffer).getBigUint64(0));
}

async function tokenOf(adminKey: string, head: Uint8Array<ArrayBuffer>): Promise<string> {
  const utf8 = new TextEncoder();
  const hmac = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', utf8.encode(adminKey), hmac, false, ['sign']);
  const said = utf8.encode(`graft sign-in ${base64url(head)}`);
  const mac = new Uint8Array(await crypto.subtle.sign('HMAC', key, said));
  return base64url(Uint8Array.of(...head, ...mac.subarray(0, TOKEN_HEAD_BYTES)));
}
