import { GraftError } from './errors.ts';

/** @returns a download token of the edge; null = none. May reject as the application's own code does. */
export type FindToken = () => Promise<string | null>;

/** What the worker says where a token was needed after all. */
const WANTED = ['invalid_api_key', 'edge_unreachable'];

/**
 * A token that cannot be had is not needed where the edge cannot be reached either, and what is stored answers.
 * @throws why there is no token, where one was needed.
 */
export async function withToken<T>(find: FindToken, run: (token: string | null) => Promise<T>): Promise<T> {
  const found = await find().then(
    (token) => ({ token, failure: null }),
    (error: unknown) => ({ token: null, failure: { error } }),
  );
  try {
    return await run(found.token);
  } catch (error) {
    const wanted = error instanceof GraftError && WANTED.includes(error.code);
    throw wanted && found.failure !== null ? found.failure.error : error;
  }
}

export const noToken: FindToken = () => Promise.resolve(null);
