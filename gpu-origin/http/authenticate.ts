import type { Context } from 'hono';
import {
  type ApiError,
  err,
  ok,
  type Result,
  SIGNATURE_HEADER,
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
  return checked.ok
    ? ok(checked.value.h)
    : err({ code: 'invalid_signature', message: explain(checked.error) });
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

function explain(problem: SignatureProblem): string {
  switch (problem.kind) {
    case 'malformed':
      return `A valid ${SIGNATURE_HEADER} header is needed.`;
    case 'unknown_key':
      return 'The signature names a key that this origin does not have.';
    case 'clock_skew':
      return `The signature's stamp differs from this origin's clock by ${Math.round(problem.skewMs / 1000)} s.`;
    case 'before_start':
      return 'The signature is older than this origin’s start.';
    case 'replayed':
      return 'The signature was used before.';
    case 'mismatch':
      return 'The signature does not fit the request.';
  }
}
