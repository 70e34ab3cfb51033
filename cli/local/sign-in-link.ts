/** The link that signs the dashboard in, once, without a key being typed or written into an address. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { NewKey, type SignInAnswer } from '../../protocol/index.ts';
import { createApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';

const TOKEN_BYTES = 32;
/** A working day. */
const LENT_MS = 12 * 60 * 60 * 1000;

export interface SignInLink {
  /** Behind the `#`: a browser sends no server what stands there. @param url of the edge. */
  of(url: string): string;
  /** @returns null for another token, and from the second time on. */
  exchange(token: string): Promise<SignInAnswer | null>;
}

/** @param lend makes the API key that the page gets. */
export function createSignInLink(params: { adminKey: string; lend: () => Promise<string> }): SignInLink {
  const { adminKey, lend } = params;
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  let used = false;
  return {
    of: (url) => `${url}/dashboard#/sign-in/${token}`,
    async exchange(given) {
      if (used || !timingSafeEqual(hashOf(given), hashOf(token))) return null;
      used = true;
      return { admin_key: adminKey, api_key: await lend() };
    },
  };
}

const hashOf = (text: string): Buffer => createHash('sha256').update(text).digest();

/** An API key for every adapter, which ends by itself. @throws CliError */
export async function lendApiKey(url: string, adminKey: string): Promise<string> {
  const client = createApiClient({ url, key: adminKey });
  const body = { scopes: ['**'], label: 'dashboard', expires_in: LENT_MS };
  const call = { body, as: NewKey.required({ key: true }) };
  return (await callOperation(client, 'lend the dashboard a key', 'POST /admin/keys', call)).key;
}
