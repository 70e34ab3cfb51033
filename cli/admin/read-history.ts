import { MAX_HISTORY_PAGE, type ChangeList, type ChangeView } from '../../protocol/index.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import { usageError } from '../flags.ts';
import { plainTable, when } from '../output.ts';

/** Changes that are shown unless more are asked for. */
export const DEFAULT_LIMIT = '50';
const MAX_LIMIT = 100_000;

/** @throws CliError (usage) unless it is a number of changes. */
export function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > MAX_LIMIT)
    throw usageError(`--limit ${text} is not a number from 1 to ${MAX_LIMIT}.`);
  return limit;
}

/** @param name null = of all names. @param tenant whose names; null = all that the key sees. @returns at most `limit` changes, newest first. */
export async function readHistory(
  client: ApiClient,
  name: string | null,
  limit: number,
  tenant: string | null = null,
): Promise<ChangeView[]> {
  const found: ChangeView[] = [];
  for (let before: number | null = null; ;) {
    const query = {
      limit: String(Math.min(MAX_HISTORY_PAGE, limit - found.length)),
      ...(name === null ? {} : { name }),
      ...(tenant === null ? {} : { tenant }),
      ...(before === null ? {} : { before: String(before) }),
    };
    const what = `history${name === null ? '' : ` of ${name}`}`;
    const page: ChangeList = await callOperation(client, what, 'GET /admin/history', { query });
    found.push(...page.changes);
    if (page.before === null || found.length >= limit) return found;
    before = page.before;
  }
}

const version = (value: number | null): string => (value === null ? '-' : String(value));

/** @param names whether each line says which name was changed. */
export function historyTable(changes: readonly ChangeView[], names: boolean): string {
  if (changes.length === 0) return 'no changes';
  return plainTable(
    ['WHEN', ...(names ? ['NAME'] : []), 'ACTION', 'LIVE BEFORE', 'VERSION', 'BY', 'WHY'],
    changes.map(({ at, name, action, from, to, target, actor, why }) => [
      when(at),
      ...(names ? [name] : []),
      target === null ? action : `${action} ${target}`,
      version(from),
      version(to),
      actor,
      why ?? '',
    ]),
  );
}
