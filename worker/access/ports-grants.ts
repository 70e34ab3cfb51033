/** Ports of grants: what one tenant lets another one use. */
import { z } from 'zod';
import type { Page, Index } from '../platform/ports.ts';

/** Tenant of grants that everybody has. No tenant can be called so. */
export const PUBLIC = '*';

/** What was granted to each tenant, and to {@link PUBLIC}. */
export interface GrantIndex extends Index<HeldGrants> {
  /** All of the tenant's grants; an empty list when the last one is taken away. @throws StoreUnavailable */
  put(tenant: string, held: HeldGrants): Promise<void>;
}

export interface GrantRow extends Grant {
  /** Who has it, or {@link PUBLIC}. */
  tenant: string;
  createdAt: number;
  createdBy: string;
}

/** System of record of grants. Throws StoreUnavailable. */
export interface GrantLedger {
  /** Which of the caps would be passed is decided in the statement that adds it. */
  add(row: GrantRow, caps: GrantCaps): Promise<'added' | 'known' | 'full'>;
  get(grant: Pick<GrantRow, 'tenant' | 'scope' | 'owner'>): Promise<GrantRow | null>;
  /** What counts against {@link GrantCaps}. */
  counts(params: Pick<GrantRow, 'tenant' | 'owner'>): Promise<GrantCaps>;
  /** @returns how many there were. @param params.owner only this owner's; undefined = everyone's. */
  remove(params: { scope: string; tenant: string; owner?: string }): Promise<number>;
  /** Given to the tenants, refused or not, by tenant and scope. */
  heldBy(tenants: readonly string[]): Promise<GrantRow[]>;
  /** What opens something for the tenant: given to it or to {@link PUBLIC}, and not refused by it. */
  usableBy(tenant: string): Promise<GrantRow[]>;
  /** A page in the order of tenant, scope and owner. @param params.owner null = everyone's. */
  list(params: { owner: string | null; cursor: string | null; limit: number }): Promise<Page<GrantRow>>;
  /** @returns `full` when the tenant refuses `max` others. */
  refuse(row: RefusalRow, max: number): Promise<'added' | 'known' | 'full'>;
  /** @returns false when it was not refused. */
  accept(refusal: Pick<RefusalRow, 'tenant' | 'owner'>): Promise<boolean>;
  /** By owner. */
  refusedBy(tenant: string): Promise<RefusalRow[]>;
}

/** A right that was given away: to use what `owner` has published under names that `scope` covers. */
export const Grant = z.strictObject({
  scope: z.string().min(1),
  /** null: whoever owns them; only the bootstrap key gives so much. */
  owner: z.string().min(1).nullable(),
});

export type Grant = z.infer<typeof Grant>;

/** What opens something for a tenant. */
export interface HeldGrants {
  /** Given to it, without what givers gave whom it refuses. */
  grants: readonly Grant[];
  /** Tenants whose grants open nothing for it, those to everybody neither. */
  refused: readonly string[];
}

/** What KV has to hold of the grants of a tenant, or of everybody. */
export function heldGrants(
  rows: readonly Grant[],
  refusals: readonly Pick<RefusalRow, 'owner'>[],
): HeldGrants {
  const refused = refusals.map(({ owner }) => owner);
  const grants = rows.map(({ scope, owner }) => ({ scope, owner }));
  return { grants: unrefused(grants, refused), refused };
}

/** @returns the grants less those of refused givers; what the bootstrap key gave of everybody's stays. */
export function unrefused(grants: readonly Grant[], refused: readonly string[]): readonly Grant[] {
  if (refused.length === 0) return grants;
  const without = new Set(refused);
  return grants.filter(({ owner }) => owner === null || !without.has(owner));
}

/** That a tenant wants no grants of another. */
export interface RefusalRow {
  tenant: string;
  /** Whose adapters are not opened by grants. */
  owner: string;
  createdAt: number;
  createdBy: string;
}

/** Most grants that are kept: of one receiver, of those that are not refused; from one giver to it; of one giver. */
export interface GrantCaps {
  holder: number;
  pair: number;
  giver: number;
}
