/** Requests of pages that present a token, and of servers that make one. */
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { hashApiKey } from '../../protocol/identity.ts';
import type { AppContext } from '../http/request.ts';
import type { PageGrant, PageTokens } from './page-tokens.ts';

interface PageDeps {
  /** Pages of other origins that may call this edge; `*` = all. */
  corsOrigins?: readonly string[];
  /** Unix ms. */
  now: () => number;
}

/**
 * The request's token, if it is valid and used by the page that it is for.
 * @param what such as `download`: it is got with `POST /v1/download-tokens`.
 */
export async function presentedGrant<Grant extends PageGrant>(
  context: AppContext,
  deps: PageDeps,
  { tokens, what }: { tokens: PageTokens<Grant>; what: string },
): Promise<Result<Grant, ApiError>> {
  const token = /^Bearer +(\S+)$/i.exec(context.req.header('authorization')?.trim() ?? '')?.[1];
  if (token === undefined)
    return err(refusedToken(`Missing ${what} token. Get one with POST /v1/${what}-tokens.`));
  const grant = await tokens.open(token, deps.now());
  if (!grant.ok)
    return err(
      refusedToken(`The ${what} token ${grant.error === 'expired' ? 'has expired' : 'is invalid'}.`),
    );
  const { origin } = grant.value;
  return pageOrigin(context) === origin && mayCall(deps, context, origin)
    ? ok(grant.value)
    : err(refusedToken(`The ${what} token is for another page origin.`));
}

export const refusedToken = (message: string): ApiError => ({ code: 'invalid_api_key', message });

/**
 * The page that asks: browsers send `Origin` with every cross-origin request, and pages of the edge's own
 * origin may leave it out.
 */
function pageOrigin(context: AppContext): string | null {
  const own = context.req.header('sec-fetch-site') === 'same-origin';
  return context.req.header('origin') ?? (own ? new URL(context.req.url).origin : null);
}

/** Whether pages of this origin may call this edge. */
export const mayCall = ({ corsOrigins = [] }: PageDeps, context: AppContext, origin: string): boolean =>
  corsOrigins.includes('*') || corsOrigins.includes(origin) || new URL(context.req.url).origin === origin;

export const otherOrigin = (origin: string): ApiError => ({
  code: 'invalid_request',
  message:
    `Invalid value for 'origin': this edge does not answer pages of ${origin}. Add it to the edge's ` +
    'CORS_ORIGINS.',
  param: 'origin',
});

/** sha256, hex, of the key of a request that was authenticated with it. */
export function presentedKeyHash(context: AppContext): Promise<string> {
  const key = (context.req.header('authorization') ?? '').replace(/^Bearer +/i, '').trim();
  return hashApiKey(key || (context.req.header('x-api-key') ?? ''));
}
