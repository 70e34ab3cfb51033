/** Keys as the admin API takes and shows them. */
import { z } from 'zod';
import { DegradePolicy, Digest, KeyLimitsView, Tenant, type KeyView } from '../../protocol/index.ts';
import { MAX_KEY_GRACE_MS, MAX_KEY_LIFE_MS, MAX_SCOPES } from './limits.ts';
import { scopeProblem } from './authorize.ts';
import type { KeyLimits } from '../metering/ports.ts';
import type { KeyRow, ScopeOwners } from './ports.ts';

const Scope = z.string().superRefine((scope, context) => {
  const problem = scopeProblem(scope);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

const limit = z.int().positive().max(Number.MAX_SAFE_INTEGER);

const Limits = KeyLimitsView.strict();

const Label = z
  .string()
  .max(128)
  .regex(/^[\x20-\x7e]*$/, 'must be printable ASCII');

export const KeyRequest = z.strictObject({
  kind: z.enum(['api', 'admin']).default('api'),
  tenant: Tenant.optional(),
  scopes: z.array(Scope).max(MAX_SCOPES).default([]),
  label: Label.default(''),
  /** sha256 of a key that the caller made itself, and keeps. */
  hash: Digest.optional(),
  /** Lifetime, ms: no clock but the server's decides. */
  expires_in: z.int().positive().max(MAX_KEY_LIFE_MS).optional(),
  limits: Limits.optional(),
  strict: z.boolean().optional(),
  degrade: DegradePolicy.optional(),
});
export type KeyRequest = z.infer<typeof KeyRequest>;

export const RotateRequest = z.strictObject({
  id: z.string().max(64),
  /** How long the old key stays good, ms. */
  grace: z.int().min(0).max(MAX_KEY_GRACE_MS).default(86_400_000),
  /** Lifetime of the new one, ms; as long as the old one was given unless said. */
  expires_in: z.int().positive().max(MAX_KEY_LIFE_MS).optional(),
});

/** What is not given stays; null takes a limit away. */
export const LimitsChange = z.strictObject({
  requests_per_minute: limit.nullish(),
  tokens_per_minute: limit.nullish(),
  concurrent: limit.nullish(),
  tokens_per_day: limit.nullish(),
  tokens_per_month: limit.nullish(),
  on_outage: z.enum(['allow', 'refuse']).nullish(),
});

/** What is not given stays; null takes a limit, all of them, or the policy away. */
export const ChangeRequest = z.strictObject({
  id: z.string().max(64),
  scopes: z.array(Scope).max(MAX_SCOPES).optional(),
  label: Label.optional(),
  limits: LimitsChange.nullish(),
  strict: z.boolean().optional(),
  degrade: DegradePolicy.nullish(),
});
export type ChangeRequest = z.infer<typeof ChangeRequest>;

/** @param owners of the scopes that are asked for. @returns the row as it is to be. */
export function changedKey(row: KeyRow, change: ChangeRequest, owners: ScopeOwners): KeyRow {
  const { scopes = row.scopes, label = row.label, strict = row.strict, degrade, limits } = change;
  return {
    ...row,
    scopes,
    owners: change.scopes === undefined ? row.owners : owners,
    label,
    strict,
    degrade: degrade === undefined ? row.degrade : degrade,
    limits: changedLimits(row.limits, limits),
  };
}

/** @param change null takes all of them away. */
export function changedLimits(
  old: KeyLimits | null,
  change: z.infer<typeof LimitsChange> | null | undefined,
): KeyLimits | null {
  if (change === null) return null;
  const merged = { ...(old === null ? {} : limitsJson(old)), ...change };
  const given = Object.entries(merged).filter(([, value]) => value != null);
  return limitsOf(Limits.parse(Object.fromEntries(given)));
}

export function limitsOf(input: z.infer<typeof Limits> | undefined): KeyLimits | null {
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
  degrade: row.degrade,
  replaced_by: row.replacedBy,
  replaces: row.replaces,
});
