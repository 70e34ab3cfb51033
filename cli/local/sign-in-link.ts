/** The link that signs the dashboard in, once, without a key being typed or written into an address. */
import { randomBytes } from 'node:crypto';
import { hashApiKey } from '../../protocol/index.ts';

const TOKEN_BYTES = 32;

export interface SignInLink {
  /** Behind the `#`: a browser sends no server what stands there. @param url of the edge. */
  of(url: string): string;
  /** The edge's variable SIGN_IN. */
  readonly binding: string;
}

export async function createSignInLink(adminKey: string): Promise<SignInLink> {
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  return {
    of: (url) => `${url}/dashboard#/sign-in/${token}`,
    binding: JSON.stringify({ token_sha256: await hashApiKey(token), admin_key: adminKey }),
  };
}
