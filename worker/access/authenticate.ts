import {
  checkApiKey,
  err,
  hashApiKey,
  ok,
  type ApiError,
  type ApiKeyKind,
  type Result,
} from '../../protocol/index.ts';
import { registryUnavailable } from '../errors.ts';
import type { AdminCaller, Caller, KeyLedger, KeyRecord } from './ports.ts';
import type { Index } from '../platform/ports.ts';
import { logLine } from '../log.ts';

/** Owner of what the bootstrap key publishes without saying for whom. */
export const BOOTSTRAP_TENANT = 'default';
/** As the bootstrap key is called where a key's id stands. */
export const BOOTSTRAP_KEY_ID = 'bootstrap';

/** Where clients of Anthropic's API send their key. */
const ANTHROPIC_KEY_HEADER = 'x-api-key';

const refused = (message: string): Result<never, ApiError> => err({ code: 'invalid_api_key', message });

/** @returns the well-formed key of the header, without any I/O. */
function bearer(request: Request, kind: ApiKeyKind): Result<string, ApiError> {
  const own = request.headers.get(ANTHROPIC_KEY_HEADER);
  const header = request.headers.get('authorization') ?? (own === null ? null : `Bearer ${own}`);
  if (header === null) return refused("No API key was given. Send it as 'Authorization: Bearer <key>'.");
  const key = /^Bearer +(\S{1,64})$/i.exec(header.trim())?.[1];
  const found = key === undefined ? null : checkApiKey(key);
  if (key === undefined || found === null) return refused('The API key is malformed.');
  if (found !== kind)
    return refused(
      kind === 'ga' ? 'This route needs an admin key (ga_…).' : 'An admin key (ga_…) cannot be used here.',
    );
  return ok(key);
}

/** @returns why a key that is known is not good any more, or null. */
function expired(expiresAt: number | null | undefined, now: number): Result<never, ApiError> | null {
  if (expiresAt == null || now < expiresAt) return null;
  return refused(`The API key expired on ${new Date(expiresAt).toISOString()}. Ask for a new one.`);
}

/** Who sends an inference request. Never throws; one KV read. @param now unix ms. */
export async function authenticate(
  request: Request,
  keys: Index<KeyRecord>,
  now: () => number,
): Promise<Result<Caller, ApiError>> {
  const key = bearer(request, 'gk');
  if (!key.ok) return key;
  const lookup = await keys.get(await hashApiKey(key.value));
  switch (lookup.state) {
    case 'found': {
      const { id, expiresAt, ...rest } = lookup.value;
      return expired(expiresAt, now()) ?? ok({ keyId: id, ...rest, stale: lookup.stale });
    }
    case 'absent':
    case 'gone':
      return refused('The API key is not known.');
    case 'trouble':
      logLine('key_lookup_trouble', { reason: lookup.reason });
      return err(registryUnavailable(lookup.retryAfterMs));
  }
}

/** Both are hashes in hex. Takes the same time wherever they differ. */
function equalHashes(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i += 1) difference |= a.charCodeAt(i) ^ b.charCodeAt(i % b.length);
  return difference === 0;
}

export interface AdminKeys {
  adminKeyHash: string | null;
  keyLedger: KeyLedger;
  /** Unix ms. */
  now: () => number;
}

/** An admin key as a request brings it. */
export interface PresentedKey {
  /** sha256, hex. */
  hash: string;
  /** It is the bootstrap key. */
  root: boolean;
}

/** @returns the well-formed admin key of a request, without any I/O: nobody has said yet that it is good. */
export async function presentedAdminKey(
  request: Request,
  adminKeyHash: string | null,
): Promise<Result<PresentedKey, ApiError>> {
  const key = bearer(request, 'ga');
  if (!key.ok) return key;
  const hash = await hashApiKey(key.value);
  return ok({ hash, root: adminKeyHash !== null && equalHashes(adminKeyHash, hash) });
}

/** Whose key that is: the bootstrap secret or a key in D1, never one in KV. @throws StoreUnavailable */
export async function authenticateAdmin(
  { hash, root }: PresentedKey,
  deps: Pick<AdminKeys, 'keyLedger' | 'now'>,
): Promise<Result<AdminCaller, ApiError>> {
  if (root)
    return ok({
      keyId: BOOTSTRAP_KEY_ID,
      tenant: BOOTSTRAP_TENANT,
      scopes: ['**'],
      download: true,
      prompts: true,
      root: true,
    });
  const row = await deps.keyLedger.admin(hash);
  if (row === null) return refused('The API key is not known.');
  const late = expired(row.expiresAt, deps.now());
  if (late !== null) return late;
  const { id, tenant, scopes, owners, download, prompts } = row;
  return ok({ keyId: id, tenant, scopes, owners, download, prompts, root: false });
}
