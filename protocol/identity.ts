/** Identity: names, digests, hashes for assignment and ranking, and equality. */
import { z } from 'zod';
import { MAX_NAME_LENGTH, MAX_NAME_SEGMENT, MAX_NAME_SEGMENTS } from './limits.ts';

/** First segments used by routes and the base model. */
export const RESERVED_FIRST_SEGMENTS: readonly string[] = ['base', 'admin', 'v1'];

/** @returns why `name` is not a legal adapter name, or null when it is. */
export function nameProblem(name: string): string | null {
  if (name.length === 0) return 'a name must not be empty';
  if (name.length > MAX_NAME_LENGTH)
    return `a name has at most ${MAX_NAME_LENGTH} characters; this one has ${name.length}`;
  const segments = name.split('/');
  if (segments.length > MAX_NAME_SEGMENTS)
    return `a name has at most ${MAX_NAME_SEGMENTS} segments; this one has ${segments.length}`;
  for (const segment of segments) {
    if (segment.length === 0) return 'a name has no empty segments (no leading, trailing or double slash)';
    if (segment.length > MAX_NAME_SEGMENT)
      return `a segment of a name has at most ${MAX_NAME_SEGMENT} characters`;
    if (segment === '.' || segment === '..') return '"." and ".." are not allowed as segments of a name';
    if (!/^[a-z0-9._-]+$/.test(segment)) return 'a name may contain only a-z, 0-9, ".", "_", "-" and "/"';
  }
  if (RESERVED_FIRST_SEGMENTS.includes(segments[0] as string))
    return `names must not start with "${segments[0]}"`;
  return null;
}

/** An adapter's name: a path such as `medicine/cardiology`. */
export const AdapterName = z.string().superRefine((name, context) => {
  const problem = nameProblem(name);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

/**
 * A scope is a name, `<path>/**` (the path itself and all below it: a child cannot be used without its parents) or
 * `**`.
 * @returns why `scope` is none of these, or null.
 */
export function scopeProblem(scope: string): string | null {
  if (scope === '**') return null;
  const path = scope.endsWith('/**') ? scope.slice(0, -3) : scope;
  const problem = nameProblem(path);
  return problem === null ? null : `a scope is a name, "<name>/**" or "**": ${problem}`;
}

/** What a key or a grant covers. */
export const Scope = z.string().superRefine((scope, context) => {
  const problem = scopeProblem(scope);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

/** Who owns names and keys. */
export const Tenant = z
  .string()
  .regex(/^[a-z0-9._-]{1,64}$/, 'must be a tenant: 1 to 64 of a-z, 0-9, ".", "_", "-"');

/** Whether it can receive a grant: a tenant, or `*` for everybody. */
export const isHolder = (text: string): boolean => text === '*' || Tenant.safeParse(text).success;

/** Id of a base model, as {@link baseIdOf} makes it. */
export const BaseId = z.string().regex(/^[a-z0-9._-]{1,128}$/, 'must be a base id: a-z, 0-9, ".", "_", "-"');

/** The id of a base model: the last part of its hub id, in lower case. */
export function baseIdOf(hubId: string): string {
  return (hubId.split('/').at(-1) ?? hubId).toLowerCase().replace(/[^a-z0-9._-]+/g, '-');
}

const isPinned = (text: string): boolean => {
  const at = text.lastIndexOf('@');
  return at > 0 && /^[1-9]\d{0,8}$/.test(text.slice(at + 1)) && nameProblem(text.slice(0, at)) === null;
};

/** `name@version`. */
export const PinnedAdapter = z.string().refine(isPinned, 'must be "<name>@<version>"');

/** A pinned adapter's name and version. @param adapter as {@link PinnedAdapter} has checked it. */
export function pinOf(adapter: string): { name: string; version: number } {
  const at = adapter.lastIndexOf('@');
  return { name: adapter.slice(0, at), version: Number(adapter.slice(at + 1)) };
}

/** Lower-case hex sha256 by Web Crypto, which Node, workerd and browsers share. */
export const Digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits');
export type Digest = z.infer<typeof Digest>;

/** One member of a chain: the delta of `digest`, multiplied by `scale` on top of its own alpha/rank scale. */
export const ChainEntry = z.strictObject({ digest: Digest, scale: z.number().finite() });
export type ChainEntry = z.infer<typeof ChainEntry>;

export function toHex(bytes: ArrayBuffer | Uint8Array): string {
  let hex = '';
  for (const byte of bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes))
    hex += byte.toString(16).padStart(2, '0');
  return hex;
}

/** @returns sha256 as 64 lower-case hex digits. */
export async function sha256Hex(data: Uint8Array<ArrayBuffer> | string): Promise<string> {
  return toHex(
    await crypto.subtle.digest('SHA-256', typeof data === 'string' ? new TextEncoder().encode(data) : data),
  );
}

/**
 * Identity of an ordered chain (root first): sha256 of its {@link chainText}. The empty chain (the base model) has the
 * id of the empty string.
 */
export const chainId = (chain: readonly ChainEntry[]): Promise<string> => sha256Hex(chainText(chain));

/** The lines `<digest> <scale>`, each ended by a newline, with the scale as JavaScript prints the number. */
export const chainText = (chain: readonly ChainEntry[]): string =>
  chain.map(({ digest, scale }) => `${digest} ${String(scale)}\n`).join('');

/** Hashes for assignment and ranking; none of them is secret or collision-resistant. */

const encoder = new TextEncoder();

/**
 * FNV-1a of 32 bits over UTF-8 bytes (http://www.isthe.com/chongo/tech/comp/fnv/). A lone surrogate counts as
 * U+FFFD.
 */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    // Encoding costs ten times the rest, and names are ASCII.
    if (unit >= 0x80) return ofBytes(encoder.encode(text));
    hash = Math.imul(hash ^ unit, 0x01000193);
  }
  return hash >>> 0;
}

function ofBytes(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** {@link fnv1a} with MurmurHash3's finalizer: every bit depends on all of the text, as shares and ranks need it. */
export function fnv1aMixed(text: string): number {
  let hash = fnv1a(text);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Whether a request is in the sampled log. Decided by its id alone (FNV-1a, mixed), so that every part that
 * sees the id decides alike, and a request is either in all logs or in none.
 * @param share 0 to 1.
 */
export function isSampled(requestId: string, share: number): boolean {
  if (share >= 1) return true;
  return fnv1aMixed(requestId) / 2 ** 32 < share;
}

/** JSON equality, regardless of the order of fields. */
export function sameJson(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

/** @returns undefined for values without a JSON form. */
const canonical = (value: unknown): string | undefined =>
  JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([x], [y]) => (x < y ? -1 : 1)))
      : inner,
  );

/** A call accepts about ten thousand arguments. */
const AT_ONCE = 8_192;

export function base64url(bytes: Uint8Array): string {
  let text = '';
  for (let from = 0; from < bytes.length; from += AT_ONCE)
    text += String.fromCharCode(...bytes.subarray(from, from + AT_ONCE));
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** The inverse of {@link base64url}; other spellings of the same bytes are taken too. @throws DOMException where it is none. */
export const decodeBase64url = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
    character.charCodeAt(0),
  );

/**
 * API keys: `gk_` (inference) or `ga_` (admin), 27 random base62 digits (160 bits), 6 base62 digits of checksum.
 * The checksum lets anyone refuse a mistyped or made-up key without looking anything up; it proves nothing else.
 * Only a key's sha256 is ever stored. The admin key of a local stack is also had for the link that `graft dev` prints.
 */
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
// Time to carry it from a terminal to a browser.
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
  const head = decodeBase64url(token).slice(0, TOKEN_HEAD_BYTES);
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
