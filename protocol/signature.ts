/**
 * Signature of a request from the worker to an origin, one header: `x-graft-signature: v1 kid=…,t=<unix
 * ms>,n=<16 bytes base64url>,h=<sha256 of the body, hex>,s=<hex>` where s = HMAC-SHA-256 over
 * `graft-v1\n<origin id>\n<kid>\n<METHOD>\n<raw path and query>\n<t>\n<n>\n<h>`. A signature for an origin's
 * current start only has `b=<22 characters>` in the header, and `\n<b>` at the end of the signed text. Web
 * Crypto only, so that both ends share this file.
 */
import { z } from 'zod';
import { base64url, toHex } from './identity.ts';
import { SIGNATURE_WINDOW_MS } from './limits.ts';
import { err, ok, type Result } from './api-error.ts';

export const SIGNATURE_HEADER = 'x-graft-signature';
/**
 * Protocol version of edges and origins: paths, bodies and headers. An origin refuses any other version. Raise
 * it when one side would no longer understand the other.
 */
export const PROTOCOL_VERSION = 1;
/** Sent with an origin's refusal `before_start`: the id of its current start, for the next signature. */
export const START_HEADER = 'x-graft-start';

export interface SigningKey {
  kid: string;
  /** At least 32 random bytes. */
  secret: Uint8Array<ArrayBuffer>;
}

export interface SignedParts {
  originId: string;
  method: string;
  /** As in the request line: not decoded, not normalised. */
  pathAndQuery: string;
  /** sha256 of the body, hex; of the empty string when there is none. */
  bodyHash: string;
  /** The origin's start that it is valid for; default: any. */
  startId?: string | undefined;
}

/** 16 bytes, base64url. */
const Random = z.string().regex(/^[A-Za-z0-9_-]{22}$/);

const Fields = z.strictObject({
  kid: z.string().regex(/^[A-Za-z0-9_-]{1,32}$/),
  t: z
    .string()
    // One spelling per number: the MAC covers the number, not its digits.
    .regex(/^[1-9]\d{0,14}$/)
    .transform(Number),
  n: Random,
  b: Random.optional(),
  h: z.string().regex(/^[0-9a-f]{64}$/),
  s: z.string().regex(/^[0-9a-f]{64}$/),
});
export type SignatureFields = z.infer<typeof Fields>;

/**
 * Parses `kid:base64,kid:base64`; the first key signs, all of them verify.
 * @throws Error naming the bad entry's position, never a secret.
 */
export function parseSigningKeys(text: string): SigningKey[] {
  const keys = text.split(',').map((entry, index) => {
    const [kid, secret] = entry.trim().split(':');
    if (!kid || !secret || !/^[A-Za-z0-9_-]{1,32}$/.test(kid))
      throw new Error(`origin key ${index + 1} must be written as kid:base64`);
    const bytes = fromBase64(secret);
    if (bytes === null) throw new Error(`origin key ${index + 1} (${kid}) is not valid base64`);
    if (bytes.length < 32)
      throw new Error(`origin key ${index + 1} (${kid}) has ${bytes.length} bytes; at least 32 are needed`);
    return { kid, secret: bytes };
  });
  // Kids are unique: with duplicates, chance would decide which one verifies.
  const twice = keys.findIndex(({ kid }, index) => keys.findIndex((key) => key.kid === kid) < index);
  if (twice !== -1)
    throw new Error(
      `origin key ${twice + 1} (${keys[twice]?.kid}) repeats the id of an earlier key; give it another id`,
    );
  return keys;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

type ImportedKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** Importing a key costs as much as a MAC, and there are only a few keys per process. */
const imported = new WeakMap<Uint8Array, Promise<ImportedKey>>();

function importKey(secret: Uint8Array<ArrayBuffer>): Promise<ImportedKey> {
  let key = imported.get(secret);
  if (key === undefined) {
    key = crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
      'verify',
    ]);
    imported.set(secret, key);
  }
  return key;
}

const canonical = (parts: SignedParts, kid: string, t: number, n: string): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(
    [
      `graft-v${PROTOCOL_VERSION}`,
      parts.originId,
      kid,
      parts.method.toUpperCase(),
      parts.pathAndQuery,
      t,
      n,
      parts.bodyHash,
      ...(parts.startId === undefined ? [] : [parts.startId]),
    ].join('\n'),
    // workerd's types leave the kind of buffer open.
  ) as Uint8Array<ArrayBuffer>;

/** @returns the id of a start of an origin: 16 random bytes. */
export const newStartId = (): string => base64url(crypto.getRandomValues(new Uint8Array(16)));

/** @returns the id, or null if malformed. */
export const readStartId = (header: string | null): string | null => Random.safeParse(header).data ?? null;

/** @param now unix ms. @param nonce 16 random bytes; given only by tests. */
export async function sign(
  key: SigningKey,
  parts: SignedParts,
  now: number,
  nonce: Uint8Array = crypto.getRandomValues(new Uint8Array(16)),
): Promise<string> {
  const n = base64url(nonce);
  const mac = await crypto.subtle.sign(
    'HMAC',
    await importKey(key.secret),
    canonical(parts, key.kid, now, n),
  );
  const b = parts.startId === undefined ? '' : `b=${parts.startId},`;
  return `v${PROTOCOL_VERSION} kid=${key.kid},t=${now},n=${n},${b}h=${parts.bodyHash},s=${toHex(mac)}`;
}

/** @returns the version of a signature, or null when it has none. */
function versionOf(header: string | null | undefined): number | null {
  const version = /^v([1-9]\d{0,5}) /.exec(header ?? '')?.[1];
  return version === undefined ? null : Number(version);
}

/** @returns the header's fields, or null if malformed. */
export function parseSignature(header: string | null | undefined): SignatureFields | null {
  if (header == null || versionOf(header) !== PROTOCOL_VERSION || header.length > 512) return null;
  const entries: [string, string][] = [];
  for (const pair of header.slice(header.indexOf(' ') + 1).split(',')) {
    const at = pair.indexOf('=');
    if (at < 1) return null;
    entries.push([pair.slice(0, at), pair.slice(at + 1)]);
  }
  if (new Set(entries.map(([name]) => name)).size !== entries.length) return null;
  const parsed = Fields.safeParse(Object.fromEntries(entries));
  return parsed.success ? parsed.data : null;
}

export type NonceMemory = 'new' | 'seen' | 'full';

export type SignatureProblem =
  | { kind: 'malformed' }
  /** The sender runs another version of graft. */
  | { kind: 'protocol_version'; version: number }
  | { kind: 'unknown_key'; kid: string }
  | { kind: 'clock_skew'; skewMs: number }
  /** Made before the receiver started, or for an earlier start. */
  | { kind: 'before_start' }
  | { kind: 'mismatch'; kid: string }
  | { kind: 'replayed' }
  /** No room for more nonces. */
  | { kind: 'store_full' };

/** Used for unknown key ids, so that they take as long as known ones; the result is discarded. */
const NOBODYS_SECRET = new Uint8Array(32);

/**
 * Checks everything but the body itself: the caller compares `fields.h` with the hash of the bytes it received.
 * The nonce is stored only after the MAC is verified, so that garbage cannot fill the store. Checks that depend
 * on the receiver's keys or start come last: a stranger only learns that the MAC is wrong.
 *
 * Nonces do not survive a restart. A timestamp from before the start is therefore valid only in a signature for
 * this start, whose id nobody knew before. So an edge whose clock is behind gets through, but requests sent
 * before the restart do not.
 * @param startedAt unix ms.
 * @param startId of the current start; none = timestamps from before it are never valid.
 * @param rememberNonce stores the nonce, or returns why it cannot.
 */
export async function verifySignature(params: {
  header: string | null | undefined;
  keys: readonly SigningKey[];
  originId: string;
  method: string;
  pathAndQuery: string;
  now: number;
  startedAt: number;
  startId?: string | undefined;
  rememberNonce: (nonce: string, expiresAt: number) => NonceMemory;
}): Promise<Result<SignatureFields, SignatureProblem>> {
  const { originId, method, pathAndQuery } = params;
  const version = versionOf(params.header);
  if (version !== null && version !== PROTOCOL_VERSION) return err({ kind: 'protocol_version', version });
  const fields = parseSignature(params.header);
  if (fields === null) return err({ kind: 'malformed' });
  const skewMs = fields.t - params.now;
  if (Math.abs(skewMs) > SIGNATURE_WINDOW_MS) return err({ kind: 'clock_skew', skewMs });
  const key = params.keys.find((candidate) => candidate.kid === fields.kid);
  const mac = Uint8Array.from(fields.s.match(/../g) as string[], (pair) => parseInt(pair, 16));
  const signed = canonical(
    { originId, method, pathAndQuery, bodyHash: fields.h, startId: fields.b },
    fields.kid,
    fields.t,
    fields.n,
  );
  // subtle.verify compares in constant time.
  const good = await crypto.subtle.verify(
    'HMAC',
    await importKey(key?.secret ?? NOBODYS_SECRET),
    mac,
    signed,
  );
  if (key === undefined) return err({ kind: 'unknown_key', kid: fields.kid });
  if (!good) return err({ kind: 'mismatch', kid: fields.kid });
  const forThisStart = fields.b !== undefined && fields.b === params.startId;
  if (fields.b === undefined ? fields.t < params.startedAt : !forThisStart)
    return err({ kind: 'before_start' });
  const memory = params.rememberNonce(`${fields.kid}:${fields.n}`, fields.t + 2 * SIGNATURE_WINDOW_MS);
  if (memory !== 'new') return err({ kind: memory === 'seen' ? 'replayed' : 'store_full' });
  return ok(fields);
}
