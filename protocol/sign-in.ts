/** Signing in to the dashboard of a local stack by the link that `graft dev` prints. */
import { z } from 'zod';

/** Characters of a token: base64url of 32 random bytes. */
const TOKEN_LENGTH = 43;

/** Body of `POST /dashboard/sign-in`. */
export const SignInRequest = z.strictObject({ token: z.string().length(TOKEN_LENGTH) });
export type SignInRequest = z.infer<typeof SignInRequest>;

/** What the page then signs its requests with. */
export const SignInAnswer = z.object({ admin_key: z.string() });
export type SignInAnswer = z.infer<typeof SignInAnswer>;
