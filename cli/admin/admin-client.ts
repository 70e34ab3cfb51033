import { createApiClient, type ApiClient } from '../api-client.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';

/** @returns a client with the admin key of this folder, the environment or the last login. @throws CliError without one. */
export async function adminClient(): Promise<ApiClient> {
  const connection = await readConnection({ env: process.env, folder: process.cwd() });
  return createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
}
