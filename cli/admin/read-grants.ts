import { GrantList, type GrantView } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { plainTable } from '../output.ts';

/** @param held what the key's tenant was given, rather than what it gave. */
export async function readGrants(client: ApiClient, held: boolean): Promise<GrantView[]> {
  const found: GrantView[] = [];
  for (let cursor: string | null = null; ;) {
    const query = new URLSearchParams({ held: String(held), ...(cursor === null ? {} : { cursor }) });
    const response = await client.send('list the grants', `/admin/grants?${query}`);
    const page: GrantList = GrantList.parse(await response.json());
    found.push(...page.grants);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}

export const holderName = (tenant: string): string => (tenant === '*' ? 'everybody' : tenant);

export const grantTable = (grants: readonly GrantView[]): string =>
  plainTable(
    ['SCOPE', 'OWNER', 'GRANTED TO', 'SINCE'],
    grants.map(({ scope, tenant, owner, created_at, refused }) => [
      scope,
      owner ?? 'anybody',
      `${holderName(tenant)}${refused === true ? ' (refused)' : ''}`,
      new Date(created_at).toISOString().slice(0, 10),
    ]),
  );
