/**
 * Authenticates callers of the admin API and of the client API except completions; the sign-in link of a
 * local edge.
 */
import { BoundedMap } from '../platform/bounded-map.ts';
import { createMiddleware } from 'hono/factory';
import { z } from 'zod';
import { ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import {
  hashApiKey,
  SIGN_IN_LINK_MS,
  type SignInAnswer,
  signInTokenEnd,
  Digest,
} from '../../protocol/identity.ts';
import { fail, carryThrough, type AppEnv } from '../http/request.ts';
import type { Index } from '../platform/ports.ts';
import { authenticate, bearer, expired, refused } from './authenticate.ts';
import { enterGate, type AdminGates, type Gates, type Gate } from './rate-limits.ts';
import { GATE_ENTRIES } from './limits.ts';
import { BOOTSTRAP_CALLER, rightsOf, type AdminCaller, type KeyRecord } from './ports.ts';
import type { GrantLedger } from './d1-grants.ts';
import type { KeyLedger } from './d1-key-ledger.ts';

/** Compares two hex hashes in constant time. */
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

/** The admin key that a request presents. */
export interface PresentedKey {
  /** sha256, hex. */
  hash: string;
  /** It is the bootstrap key. */
  root: boolean;
}

/** @returns the request's well-formed admin key, which is not authenticated yet. No I/O. */
export async function presentedAdminKey(
  request: Request,
  adminKeyHash: string | null,
): Promise<Result<PresentedKey, ApiError>> {
  const key = bearer(request, 'ga');
  if (!key.ok) return key;
  const hash = await hashApiKey(key.value);
  return ok({ hash, root: adminKeyHash !== null && equalHashes(adminKeyHash, hash) });
}

/**
 * Authenticates an admin key against the bootstrap secret or D1, never KV.
 * @throws StoreUnavailable
 */
export async function authenticateAdmin(
  { hash, root }: PresentedKey,
  deps: Pick<AdminKeys, 'keyLedger' | 'now'>,
): Promise<Result<AdminCaller, ApiError>> {
  if (root) return ok(BOOTSTRAP_CALLER);
  const row = await deps.keyLedger.admin(hash);
  if (row === null) return refused('Unknown API key.');
  const late = expired(row.expires_at, deps.now());
  if (late !== null) return late;
  const { id, tenant, scopes, scope_owners } = row;
  return ok({ ...rightsOf(row), keyId: id, tenant, scopes, scope_owners, root: false });
}

const READS: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/**
 * Authenticates an admin key and applies its tenant's rate limits. The limits are checked before D1 is asked:
 * by the key's last known tenant, or by the key itself if it is new here. All new keys share
 * {@link Gates.strangers}. Work that a client abandons counts until it has ended.
 */
export const requireAdmin = (
  deps: AdminKeys & { grantLedger: Pick<GrantLedger, 'usableBy'>; gates: Gates },
) => {
  const { gates, grantLedger } = deps;
  /** Hash of a key -> its last known tenant. */
  const tenants = new BoundedMap<string, string>(GATE_ENTRIES);

  return createMiddleware<AppEnv>(async (context, next) => {
    const presented = await presentedAdminKey(context.req.raw, deps.adminKeyHash);
    if (!presented.ok) return fail(presented.error);
    const { hash, root } = presented.value;
    const kind: keyof AdminGates = READS.has(context.req.method) ? 'reads' : 'changes';
    const left: (() => void)[] = [];
    const enter = (who: string): Result<null, ApiError> => {
      const gate = (root ? gates.operator : gates.tenants)[kind];
      const entered = enterGate(gate, who, root ? 'This key' : undefined);
      if (!entered.ok) return entered;
      left.push(entered.value);
      return ok(null);
    };
    const serve = async (): Promise<Response | undefined> => {
      const known = tenants.get(hash);
      const first = enter(known === undefined ? `key ${hash}` : `tenant ${known}`);
      if (!first.ok) return fail(first.error);
      const met = root || known !== undefined ? null : enterGate(gates.strangers, '', 'New keys in total');
      if (met !== null && !met.ok) return fail(met.error);
      const caller = await authenticateAdmin(presented.value, deps).finally(() => met?.value());
      if (!caller.ok) {
        tenants.delete(hash);
        return fail(caller.error);
      }
      const { tenant, keyId } = caller.value;
      context.get('trace').note({ tenant, keyId });
      if (!root && tenant !== known) {
        tenants.set(hash, tenant);
        const entered = enter(`tenant ${tenant}`);
        if (!entered.ok) return fail(entered.error);
      }
      const grants = root ? [] : await grantLedger.usableBy(tenant);
      context.set('admin', { ...caller.value, grants });
      await next();
      return undefined;
    };
    // A client that disconnects neither stops the work nor frees its slot.
    return carryThrough(context, () =>
      serve().finally(() => {
        for (const leave of left) leave();
      }),
    );
  });
};

/** Authenticates a key for requests other than completions, and applies its tenant's rate limit. */
export const requireKey = (deps: { keys: Index<KeyRecord>; now: () => number }, gate: Gate) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const caller = await authenticate(context.req.raw, deps.keys, deps.now);
    if (!caller.ok) return fail(caller.error);
    const { tenant, keyId } = caller.value;
    context.get('trace').note({ tenant, keyId });
    const entered = enterGate(gate, tenant);
    if (!entered.ok) return fail(entered.error);
    context.set('caller', caller.value);
    try {
      return await next();
    } finally {
      entered.value();
    }
  });

/** `graft dev` gives this to its own edge, for the link that it prints. */
export const SignInLink = z.strictObject({ token_sha256: Digest, admin_key: z.string() });
export type SignInLink = z.infer<typeof SignInLink>;

/**
 * Exchanges a token for a key, once.
 * @returns null if the token is invalid or was used.
 */
export type SignIn = (token: string) => Promise<SignInAnswer | null>;

/**
 * A printed link's token is valid once in this isolate's life: a local stack has only one, and prints a new
 * link at each start. A token that `graft open` signs with the admin key is valid once, until it expires.
 */
export function createSignIn({ token_sha256, admin_key }: SignInLink, now: () => number = Date.now): SignIn {
  let used = false;
  /** Used tokens of `graft open`, and when they expire. */
  const spent = new Map<string, number>();
  return async (token) => {
    if ((await hashApiKey(token)) === token_sha256) {
      // Two requests at once: the first with a computed hash wins.
      if (used) return null;
      used = true;
      return { admin_key };
    }
    const endsAt = await signInTokenEnd(token, admin_key);
    const at = now();
    if (endsAt === null || endsAt <= at || endsAt > at + SIGN_IN_LINK_MS || spent.has(token)) return null;
    for (const [old, end] of spent) if (end <= at) spent.delete(old);
    spent.set(token, endsAt);
    return { admin_key };
  };
}
