import type { NameList, NameView } from '../../protocol/admin-api/names.ts';
import { ok, type Result } from '../../protocol/result.ts';
import type { Problem } from '../model/problem.ts';
import type { Client } from './client.ts';

/** Names that are read at once, five requests: those of nearly every tenant, and some milliseconds to look through. */
const READ_AT_ONCE = 5_000;

export interface FoundNames {
  readonly entries: readonly NameView[];
  /** There are more. */
  readonly cut: boolean;
}

/** @param prefix what the names begin with. */
export async function readNames(client: Client, prefix = ''): Promise<Result<FoundNames, Problem>> {
  const entries: NameView[] = [];
  for (let cursor: string | null = null; ;) {
    const call: { query: { prefix: string; cursor: string | null } } = { query: { prefix, cursor } };
    const page: Result<NameList, Problem> = await client.call('GET /admin/names', call);
    if (!page.ok) return page;
    entries.push(...page.value.names);
    cursor = page.value.cursor;
    if (cursor === null || entries.length >= READ_AT_ONCE) return ok({ entries, cut: cursor !== null });
  }
}
