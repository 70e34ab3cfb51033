import { hashApiKey } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';

/** Makes the stack's own API key good, for every adapter. Repeating it changes nothing. */
export async function registerApiKey(client: ApiClient, apiKey: string): Promise<void> {
  const response = await client.send('register the API key', '/admin/keys', {
    method: 'POST',
    body: JSON.stringify({ hash: await hashApiKey(apiKey), scopes: ['**'], label: 'graft dev' }),
  });
  await response.body?.cancel();
}
