/** Keys and their limits, between the admin API's words and ours; whose adapters the scopes of a key open. */
import {
  KeyLimitsView,
  type ChangeKeyRequest,
  type KeyView,
  type LimitsChange,
  err,
  ok,
  type ApiError,
  type Result,
} from '../../protocol/index.ts';
import type { KeyLimits } from '../metering/ports.ts';
import { scopeOwner } from '../registry/claims.ts';
import type { Registry } from '../registry/ports.ts';
import { scopesHeld, scopeWithin } from './authenticate.ts';
import type { KeyRow, ScopeOwners, AdminCaller } from './ports.ts';

const Limits = KeyLimitsView.strict();

/** @param owners of the scopes that are asked for. @returns the row as it is to be. */
export function changedKey(row: KeyRow, change: ChangeKeyRequest, owners: ScopeOwners): KeyRow {
  const { scopes = row.scopes, label = row.label, strict = row.strict, degrade, limits } = change;
  const { strict_fields: strictFields = row.strictFields, download = row.download } = change;
  const { keep_prompts: keepPrompts = row.keepPrompts, prompts = row.prompts } = change;
  return {
    ...row,
    scopes,
    owners: change.scopes === undefined ? row.owners : owners,
    label,
    strict,
    strictFields,
    degrade: degrade === undefined ? row.degrade : degrade,
    download,
    keepPrompts,
    prompts,
    limits: changedLimits(row.limits, limits),
  };
}

/** @param change null takes all of them away. */
export function changedLimits(
  old: KeyLimits | null,
  change: LimitsChange | null | undefined,
): KeyLimits | null {
  if (change === null) return null;
  const merged = { ...(old === null ? {} : limitsJson(old)), ...change };
  const given = Object.entries(merged).filter(([, value]) => value != null);
  return limitsOf(Limits.parse(Object.fromEntries(given)));
}

export function limitsOf(input: KeyLimitsView | undefined): KeyLimits | null {
  if (input === undefined) return null;
  const entries: [keyof KeyLimits, unknown][] = [
    ['requestsPerMinute', input.requests_per_minute],
    ['tokensPerMinute', input.tokens_per_minute],
    ['concurrent', input.concurrent],
    ['tokensPerDay', input.tokens_per_day],
    ['tokensPerMonth', input.tokens_per_month],
    ['onOutage', input.on_outage],
  ];
  const given = entries.filter(([, value]) => value !== undefined);
  // What happens when limits cannot be checked is no limit.
  if (given.every(([field]) => field === 'onOutage')) return null;
  return Object.fromEntries(given) as KeyLimits;
}

export const limitsJson = (limits: KeyLimits): KeyLimitsView => ({
  ...(limits.requestsPerMinute === undefined ? {} : { requests_per_minute: limits.requestsPerMinute }),
  ...(limits.tokensPerMinute === undefined ? {} : { tokens_per_minute: limits.tokensPerMinute }),
  ...(limits.concurrent === undefined ? {} : { concurrent: limits.concurrent }),
  ...(limits.tokensPerDay === undefined ? {} : { tokens_per_day: limits.tokensPerDay }),
  ...(limits.tokensPerMonth === undefined ? {} : { tokens_per_month: limits.tokensPerMonth }),
  ...(limits.onOutage === undefined ? {} : { on_outage: limits.onOutage }),
});

/** Never the key nor its hash. */
export const keyJson = (row: KeyRow): KeyView => ({
  id: row.id,
  kind: row.kind,
  tenant: row.tenant,
  scopes: row.scopes,
  scope_owners: row.scopes.map((_, i) => row.owners[i] ?? null),
  label: row.label,
  created_at: row.createdAt,
  created_by: row.createdBy,
  revoked_at: row.revokedAt,
  expires_at: row.expiresAt,
  limits: row.limits === null ? null : limitsJson(row.limits),
  strict: row.strict,
  strict_fields: row.strictFields,
  degrade: row.degrade,
  download: row.download,
  keep_prompts: row.keepPrompts,
  prompts: row.prompts,
  replaced_by: row.replacedBy,
  replaces: row.replaces,
});

const COUNTS = [
  'requestsPerMinute',
  'tokensPerMinute',
  'concurrent',
  'tokensPerDay',
  'tokensPerMonth',
] as const satisfies readonly (keyof KeyLimits)[];

/** @returns a limit of `before` that `after` raises or lifts; null when each is at most as wide as it was. */
export function loosenedLimit(before: KeyLimits | null, after: KeyLimits | null): keyof KeyLimits | null {
  for (const field of COUNTS) {
    const was = before?.[field];
    if (was !== undefined && (after?.[field] ?? Infinity) > was) return field;
  }
  return before?.onOutage === 'refuse' && after?.onOutage !== 'refuse' ? 'onOutage' : null;
}

/**
 * Whose adapters the scopes of a key open, in their order: whoever has the name or room now, so that nobody who comes to
 * own a name there later answers for it. A scope that the maker has for one owner is given on for that owner.
 * @param params.scopes such as the caller may give. @param params.tenant whose key it is: what nobody has is its own.
 * Error: `invalid_request` for a room in which several have names.
 */
export async function bindScopes(
  { registry }: { registry: Pick<Registry, 'around'> },
  params: { caller: AdminCaller; tenant: string; scopes: readonly string[] },
): Promise<Result<ScopeOwners, ApiError>> {
  const { caller, tenant, scopes } = params;
  const bound: (string | null)[] = [];
  for (const [i, scope] of scopes.entries()) {
    // The bootstrap key has one scope, `**`, of whoever owns what it covers.
    const held = scopesHeld(caller).filter((own) => scopeWithin(scope, own.scope));
    const limits = held.some(({ owner }) => owner === null) ? [] : held.map(({ owner }) => owner);
    if (scope === '**') {
      bound.push(limits[0] ?? null);
      continue;
    }
    const path = scope.endsWith('/**') ? scope.slice(0, -3) : scope;
    const found = scopeOwner(scope, await registry.around(path));
    const owner = found.kind === 'owner' ? found.owner : found.kind === 'nobody' ? tenant : null;
    if (limits.length > 0) bound.push(owner !== null && limits.includes(owner) ? owner : (limits[0] ?? null));
    else if (owner !== null) bound.push(owner);
    else return err(severalOwners(scope, path, i));
  }
  return ok(bound);
}

const severalOwners = (scope: string, path: string, index: number): ApiError => ({
  code: 'invalid_request',
  message:
    `Invalid value for 'scopes.${index}': several tenants have names in '${scope}', and a scope opens those of one. ` +
    `Name each room or name that the key is to open, such as '${path}/<room>/**', or have the operator reserve '${path}' for one of them.`,
  param: `scopes.${index}`,
});
