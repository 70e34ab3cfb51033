/** Keys and their limits, between the admin API's words and ours. */
import {
  KeyLimitsView,
  type ChangeKeyRequest,
  type KeyView,
  type LimitsChange,
} from '../../protocol/index.ts';
import type { KeyLimits } from '../metering/ports.ts';
import type { KeyRow, ScopeOwners } from './ports.ts';

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
