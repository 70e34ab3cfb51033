import type { ChangeList, ChangeView } from '../../protocol/admin-api/names.ts';
import { MAX_HISTORY_PAGE } from '../../protocol/admin-api/operation.ts';
import { FileVersions, VersionList } from '../../protocol/admin-api/versions.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { type ApiClient, callOperation, createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';

/** @returns a client with the admin key of this folder, the environment or the last login. @throws CliError without one. */
export async function adminClient(): Promise<ApiClient> {
  const connection = await readConnection({ env: process.env, folder: process.cwd() });
  return createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
}

/** @returns the name's versions, or null if it has none or belongs to somebody else. */
export async function lookUpVersions(client: ApiClient, name: string): Promise<VersionList | null> {
  try {
    const call = { query: { name }, as: VersionList };
    return await callOperation(client, `look up ${name}`, 'GET /admin/versions', call);
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.notFound) return null;
    throw error;
  }
}

/** @returns `name@version` of every version that uses this file. */
export async function lookUpFile(client: ApiClient, digest: string): Promise<string[]> {
  const call = { query: { digest }, as: FileVersions };
  const { versions } = await callOperation(client, `look up ${digest}`, 'GET /admin/versions', call);
  return versions.map(({ name, version }) => `${name}@${version}`);
}

/** @returns the bases that the origins serve, each once. @throws CliError when no origin answers. */
export async function lookUpBases(client: ApiClient): Promise<BaseInfo[]> {
  const { origins } = await callOperation(client, 'look up the base model', 'GET /admin/origins', {});
  const bases = new Map<string, BaseInfo>();
  for (const { base, configured_base: configured } of origins)
    if (base !== null && (configured ?? base.id) === base.id && !bases.has(base.id)) bases.set(base.id, base);
  if (bases.size > 0) return [...bases.values()];
  throw new CliError({
    message: `No origin answers (${origins.map(({ id }) => id).join(', ')}).`,
    exitCode: EXIT.unavailable,
    code: 'origin_unavailable',
  });
}

/**
 * @param name null = of all names. @param tenant whose names; null = all visible to the key. @returns at most
 * `limit` changes, newest first.
 */
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

/**
 * Changes of the name, newest first; empty if it belongs to another tenant, whose versions may be visible all
 * the same.
 */
export async function ownHistory(client: ApiClient, name: string): Promise<ChangeView[]> {
  try {
    return await readHistory(client, name, MAX_HISTORY_PAGE);
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.notFound) return [];
    throw error;
  }
}
