import type { Context } from 'hono';
import {
  type ApiError,
  err,
  ok,
  type Result,
  SIGNATURE_HEADER,
  SIGNATURE_WINDOW_MS,
  type SignatureProblem,
  verifySignature,
} from '../../protocol/index.ts';
import type { NonceStore } from './nonce-store.ts';
import type { Mode, OriginEnv } from './origin-context.ts';

const LOOPBACK_NAMES = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Path and query as on the request line; in-process requests have only their parsed URL. */
export function rawTarget(c: Context<OriginEnv>): string {
  const raw = (c.env as OriginEnv['Bindings'] | undefined)?.incoming?.url;
  if (raw !== undefined) return raw;
  const { pathname, search } = new URL(c.req.url);
  return pathname + search;
}

export function isLoopback(c: Context<OriginEnv>): boolean {
  const address = (c.env as OriginEnv['Bindings'] | undefined)?.incoming?.socket?.remoteAddress;
  return address !== undefined && /^(127\.|::1$|::ffff:127\.)/.test(address);
}

/** What proxies add. A tunnel on this machine calls from loopback for anybody on the internet. */
const PROXY_HEADERS = ['forwarded', 'via', 'x-forwarded-for', 'x-real-ip', 'cf-connecting-ip', 'cf-ray'];

/** A scrape by somebody on this machine: by a loopback name, and not through a proxy. */
export const isLocalScrape = (c: Context<OriginEnv>): boolean =>
  c.req.path === '/metrics' &&
  isLoopback(c) &&
  c.req.header(SIGNATURE_HEADER) === undefined &&
  checkLoopbackNames(c).ok &&
  PROXY_HEADERS.every((name) => c.req.header(name) === undefined);

/** @returns the hash that the body must have, or null when nothing is signed. */
export async function authenticate(
  c: Context<OriginEnv>,
  mode: Mode,
  nonces: NonceStore,
  now: number,
): Promise<Result<string | null, ApiError>> {
  if (mode.kind === 'dev') return checkLoopbackNames(c);
  const checked = await verifySignature({
    header: c.req.header(SIGNATURE_HEADER),
    keys: mode.keys,
    originId: mode.originId,
    method: c.req.method,
    pathAndQuery: rawTarget(c),
    now,
    startedAt: mode.startedAt,
    rememberNonce: nonces.remember,
  });
  return checked.ok ? ok(checked.value.h) : err(refusal(checked.error));
}

/** A page on the web can make a browser call loopback, under a name of its own; its Host or Origin gives it away. */
function checkLoopbackNames(c: Context<OriginEnv>): Result<null, ApiError> {
  const host = c.req.header('host') ?? new URL(c.req.url).host;
  const origin = c.req.header('origin');
  const refused =
    !LOOPBACK_NAMES.has(nameOf(`http://${host}`)) ||
    (origin !== undefined && !LOOPBACK_NAMES.has(nameOf(origin)));
  return refused
    ? err({
        code: 'insufficient_scope',
        message: 'With --dev, only this machine may call, by a loopback name.',
      })
    : ok(null);
}

function nameOf(url: string): string {
  try {
    return new URL(url).hostname;
  } catch {
    return '';
  }
}

/** A caller without a good key learns nothing secret: the clock is in every answer's `date`. */
function refusal(problem: SignatureProblem): ApiError {
  if (problem.kind === 'store_full')
    return {
      code: 'origin_unavailable',
      message:
        'This origin has checked as many signatures as it can keep in mind; it will take more in a while.',
      retryAfterMs: 1_000,
    };
  return { code: 'invalid_signature', message: explain(problem), reason: problem.kind };
}

function explain(problem: Exclude<SignatureProblem, { kind: 'store_full' }>): string {
  switch (problem.kind) {
    case 'malformed':
      return `A valid ${SIGNATURE_HEADER} header is needed.`;
    case 'unknown_key':
      return `The signature names the key '${problem.kid}', which this origin does not have; add it to GRAFT_ORIGIN_KEYS here.`;
    case 'clock_skew':
      return (
        `The edge's clock and this origin's differ by ${Math.round(Math.abs(problem.skewMs) / 1000)} s ` +
        `(the edge's is ${problem.skewMs < 0 ? 'behind' : 'ahead'}); at most ${SIGNATURE_WINDOW_MS / 1000} s are allowed. ` +
        'Set this origin’s clock by NTP; the edge’s is Cloudflare’s.'
      );
    case 'before_start':
      return 'The signature was made before this origin started, by the edge’s clock; a later one is good.';
    case 'replayed':
      return 'The signature was used before.';
    case 'mismatch':
      return 'The signature does not fit the request: another secret under this key id, another origin id, or a changed request.';
  }
}
