import { z } from 'zod';
import { Digest, hashApiKey, type SignInAnswer } from '../../protocol/index.ts';

/** What `graft dev` gives its own edge, of the link that it prints. */
export const SignInLink = z.strictObject({ token_sha256: Digest, admin_key: z.string() });
export type SignInLink = z.infer<typeof SignInLink>;

/** Exchanges a token, once, for a key. @returns null when it is none, or was used. */
export type SignIn = (token: string) => Promise<SignInAnswer | null>;

/** Good once in the life of this isolate; the only one of a local stack, which has a new link at each start. */
export function createSignIn({ token_sha256, admin_key }: SignInLink): SignIn {
  let used = false;
  return async (token) => {
    // Two at once: the first whose hash is made.
    if ((await hashApiKey(token)) !== token_sha256 || used) return null;
    used = true;
    return { admin_key };
  };
}
