import type { Context } from 'hono';
import {
  type ApiError,
  err,
  ok,
  type Result,
  SIGNATURE_HEADER,
  SIGNATURE_WINDOW_MS,
  START_HEADER,
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

/** Who sent a request, of which all but the body has been checked. */
export interface Sender {
  /** The hash that the body must have. */
  bodyHash: string;
  kid: string;
}

export interface Refused {
  error: ApiError;
  headers: Record<string, string>;
  /** What is wrong with the signature, for the log: strangers are not told all of it. */
  problem: SignatureProblem | null;
}

/** @returns null when nothing is signed. */
export async function authenticate(
  c: Context<OriginEnv>,
  mode: Mode,
  nonces: NonceStore,
  now: number,
): Promise<Result<Sender | null, Refused>> {
  if (mode.kind === 'dev')
    return checkLoopbackNames(c) ? ok(null) : err({ error: LOOPBACK_ONLY, headers: {}, problem: null });
  const checked = await verifySignature({
    ...mode,
    header: c.req.header(SIGNATURE_HEADER),
    method: c.req.method,
    pathAndQuery: rawTarget(c),
    now,
    rememberNonce: nonces.remember,
  });
  if (checked.ok) return ok({ bodyHash: checked.value.h, kid: checked.value.kid });
  const problem = checked.error;
  const starts = problem.kind === 'before_start' && mode.startId !== undefined;
  return err({
    error: refusal(problem),
    headers: starts ? { [START_HEADER]: mode.startId as string } : {},
    problem,
  });
}

const LOOPBACK_ONLY: ApiError = {
  code: 'insufficient_scope',
  message: 'With --dev, only this machine may call, by a loopback name.',
};

/** A page on the web can make a browser call loopback, under a name of its own; its Host or Origin gives it away. */
export function checkLoopbackNames(c: Context<OriginEnv>): boolean {
  const host = c.req.header('host') ?? new URL(c.req.url).host;
  const origin = c.req.header('origin');
  return (
    LOOPBACK_NAMES.has(nameOf(`http://${host}`)) &&
    (origin === undefined || LOOPBACK_NAMES.has(nameOf(origin)))
  );
}

function nameOf(url: string): string {
  try {
    return new URL(url).hostname;
  } catch {
    return '';
  }
}

/**
 * A caller without a good key learns nothing secret: the clock is in every answer's `date`, and a key id that there is
 * not is answered as a wrong secret is. `unknown_key` makes the edge try its next key.
 */
function refusal(problem: SignatureProblem): ApiError {
  if (problem.kind === 'store_full')
    return {
      code: 'origin_unavailable',
      message:
        'This origin has checked as many signatures as it can keep in mind; it will take more in a while.',
      retryAfterMs: 1_000,
    };
  return { code: 'invalid_signature', message: explain(problem), reason: toldAs(problem.kind) };
}

const toldAs = (kind: SignatureProblem['kind']): string => (kind === 'mismatch' ? 'unknown_key' : kind);

function explain(problem: Exclude<SignatureProblem, { kind: 'store_full' }>): string {
  switch (problem.kind) {
    case 'malformed':
      return `A valid ${SIGNATURE_HEADER} header is needed.`;
    case 'unknown_key':
    case 'mismatch':
      return (
        'The signature is not by a key of this origin for this request: another key id, another secret under it, ' +
        "another origin id, or a changed request. This origin's log (signature_refused) says which of them."
      );
    case 'clock_skew':
      return (
        `The edge's clock and this origin's differ by ${Math.round(Math.abs(problem.skewMs) / 1000)} s ` +
        `(the edge's is ${problem.skewMs < 0 ? 'behind' : 'ahead'}); at most ${SIGNATURE_WINDOW_MS / 1000} s are allowed. ` +
        'Set this origin’s clock by NTP; the edge’s is Cloudflare’s.'
      );
    case 'before_start':
      return 'The signature was made before this origin started, by the edge’s clock, or for an earlier start of it; a later one is good.';
    case 'replayed':
      return 'The signature was used before.';
  }
}
