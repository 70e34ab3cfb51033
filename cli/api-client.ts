import { z } from 'zod';
import { CliError, EXIT, type ExitCode } from './cli-error.ts';

const ErrorBody = z.object({
  error: z.object({
    message: z.string(),
    code: z.string().nullish(),
    reason: z.string().optional(),
    missing: z.array(z.string()).optional(),
  }),
});

const EXIT_OF_STATUS: Record<number, ExitCode> = {
  401: EXIT.auth,
  403: EXIT.auth,
  404: EXIT.notFound,
  409: EXIT.refused,
  422: EXIT.refused,
  429: EXIT.unavailable,
  503: EXIT.unavailable,
};

/** @returns the failure that an unsuccessful response stands for, with the server's own words. */
export async function responseError(response: Response, what: string): Promise<CliError> {
  const text = await response.text().catch(() => '');
  let message = `the server answered ${response.status}`;
  let code = `http_${response.status}`;
  let reason: string | null = null;
  try {
    const { error } = ErrorBody.parse(JSON.parse(text));
    message = error.reason === undefined ? error.message : `${error.message} (${error.reason})`;
    code = error.code ?? code;
    reason = error.reason ?? null;
  } catch {
    // A proxy's own page, or nothing: the status is all there is to say.
  }
  const retryAfter = response.headers.get('retry-after');
  const hint =
    response.status === 401
      ? ' Check GRAFT_KEY and GRAFT_ADMIN_KEY, use `graft login`, or run where `graft dev` runs.'
      : retryAfter !== null
        ? ` Try again in ${retryAfter} s.`
        : '';
  return new CliError({
    message: `${what}: ${message}${hint}`,
    exitCode: EXIT_OF_STATUS[response.status] ?? EXIT.error,
    code,
    reason,
  });
}

export interface ApiClient {
  readonly url: string;
  /** @returns the successful response. @throws CliError otherwise. */
  send(what: string, pathAndQuery: string, init?: RequestInit): Promise<Response>;
  /** As `send`, for every status that `accept` names as well. */
  sendAccepting(
    what: string,
    pathAndQuery: string,
    init: RequestInit,
    accept: readonly number[],
  ): Promise<Response>;
}

/** @param key sent as Bearer; none to an origin in `--dev`. @param fetchFn given by tests. */
export function createApiClient(params: {
  url: string;
  key: string | undefined;
  fetchFn?: typeof fetch;
}): ApiClient {
  const { url, key, fetchFn = fetch } = params;
  const sendAccepting: ApiClient['sendAccepting'] = async (what, pathAndQuery, init, accept) => {
    const headers = new Headers(init.headers);
    if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
    if (typeof init.body === 'string' && !headers.has('content-type'))
      headers.set('content-type', 'application/json');
    let response: Response;
    try {
      response = await fetchFn(url + pathAndQuery, { ...init, headers, redirect: 'manual' });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      const cause =
        error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : '';
      throw new CliError({
        message: `${what}: no answer from ${url} (${cause}). Is \`graft dev\` running, or GRAFT_URL right?`,
        exitCode: EXIT.unavailable,
        code: 'no_answer',
      });
    }
    if (!response.ok && !accept.includes(response.status)) throw await responseError(response, what);
    return response;
  };
  return {
    url,
    send: (what, pathAndQuery, init = {}) => sendAccepting(what, pathAndQuery, init, []),
    sendAccepting,
  };
}
