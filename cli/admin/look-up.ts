import { FileVersions, OriginList, VersionList, type BaseInfo } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';

/** @returns the name's versions, or null when it has none (or belongs to somebody else). */
export async function lookUpVersions(client: ApiClient, name: string): Promise<VersionList | null> {
  const query = new URLSearchParams({ name });
  const response = await client.sendAccepting(`look up ${name}`, `/admin/versions?${query}`, {}, [404]);
  if (response.ok) return VersionList.parse(await response.json());
  await response.body?.cancel();
  return null;
}

/** @returns `name@version` of every version whose own file it is. */
export async function lookUpFile(client: ApiClient, digest: string): Promise<string[]> {
  const response = await client.send(`look up ${digest}`, `/admin/versions?digest=${digest}`);
  const { versions } = FileVersions.parse(await response.json());
  return versions.map(({ name, version }) => `${name}@${version}`);
}

/** @returns the base that the origins serve. @throws CliError when none of them answers. */
export async function lookUpBase(client: ApiClient): Promise<BaseInfo> {
  const response = await client.send('look up the base model', '/admin/origins');
  const { origins } = OriginList.parse(await response.json());
  const base = origins.find((origin) => origin.base !== null)?.base;
  if (base) return base;
  throw new CliError({
    message: `None of the origins answers (${origins.map(({ id }) => id).join(', ')}).`,
    exitCode: EXIT.unavailable,
    code: 'origin_unavailable',
  });
}
