/** Grants as the admin API shows them. */
import { z } from 'zod';
import type { ApiClient } from '../api-client.ts';
import { plainTable } from '../output.ts';

export const Grant = z.object({
  scope: z.string(),
  /** Who may use it; `*` = everybody. */
  tenant: z.string(),
  /** Whose adapters it opens; null = whoever owns them. */
  owner: z.string().nullable(),
  /** Unix ms. */
  created_at: z.number(),
  created_by: z.string(),
});
export type Grant = z.infer<typeof Grant>;

const GrantPage = z.object({ grants: z.array(Grant), cursor: z.string().nullable() });

/** @param held what the key's tenant was given, rather than what it gave. */
export async function readGrants(client: ApiClient, held: boolean): Promise<Grant[]> {
  const found: Grant[] = [];
  for (let cursor: string | null = null; ;) {
    const query = new URLSearchParams({ held: String(held), ...(cursor === null ? {} : { cursor }) });
    const response = await client.send('list the grants', `/admin/grants?${query}`);
    const page: z.infer<typeof GrantPage> = GrantPage.parse(await response.json());
    found.push(...page.grants);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}

export const holderName = (tenant: string): string => (tenant === '*' ? 'everybody' : tenant);

export const grantTable = (grants: readonly Grant[]): string =>
  plainTable(
    ['SCOPE', 'OWNER', 'GRANTED TO', 'SINCE'],
    grants.map(({ scope, tenant, owner, created_at }) => [
      scope,
      owner ?? 'anybody',
      holderName(tenant),
      new Date(created_at).toISOString().slice(0, 10),
    ]),
  );
