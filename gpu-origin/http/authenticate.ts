import { createHash, timingSafeEqual } from 'node:crypto';
import type { Context } from 'hono';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { SIGNATURE_WINDOW_MS } from '../../protocol/limits.ts';
import {
  type NonceMemory,
  PROTOCOL_VERSION,
  SIGNATURE_HEADER,
  type SignatureProblem,
  START_HEADER,
  verifySignature,
} from '../../protocol/signature.ts';
import type { Mode, OriginContext, OriginEnv } from './origin-context.ts';

const LOOPBACK_NAMES = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Path and query as on the request line; in-process requests have only their parsed URL. */
function rawTarget(c: Context<OriginEnv>): string {
  const raw = (c.env as OriginEnv['Bindings'] | undefined)?.incoming?.url;
  if (raw !== undefined) return raw;
  const { pathname, search } = new URL(c.req.url);
  return pathname + search;
}

function isLoopback(c: Context<OriginEnv>): boolean {
  const address = (c.env as OriginEnv['Bindings'] | undefined)?.incoming?.socket?.remoteAddress;
  return address !== undefined && /^(127\.|::1$|::ffff:127\.)/.test(address);
}

/** Who sent a request, of which all but the body has been checked. */
interface Sender {
  /** The hash that the body must have. */
  bodyHash: string;
  kid: string;
}

interface Refused {
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
function checkLoopbackNames(c: Context<OriginEnv>): boolean {
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
      message: 'This origin has seen too many signatures to accept more. Retry in a few seconds.',
      retryAfterMs: 1_000,
    };
  return { code: 'invalid_signature', message: explain(problem), reason: toldAs(problem.kind) };
}

const toldAs = (kind: SignatureProblem['kind']): string => (kind === 'mismatch' ? 'unknown_key' : kind);

function explain(problem: Exclude<SignatureProblem, { kind: 'store_full' }>): string {
  switch (problem.kind) {
    case 'malformed':
      return `Header ${SIGNATURE_HEADER} is missing or invalid.`;
    case 'protocol_version':
      return (
        `The edge uses protocol version ${problem.version}, this origin version ${PROTOCOL_VERSION}. Run ` +
        'the same version of graft on both.'
      );
    case 'unknown_key':
    case 'mismatch':
      return (
        'The signature does not match: the key id, the secret, the origin id or the request differs. ' +
        "Read signature_refused in this origin's log to see which."
      );
    case 'clock_skew':
      return (
        'The clocks of the edge and this origin differ by ' +
        `${Math.round(Math.abs(problem.skewMs) / 1000)} s (the edge is ` +
        `${problem.skewMs < 0 ? 'behind' : 'ahead'}); at most ${SIGNATURE_WINDOW_MS / 1000} s are ` +
        'allowed. Synchronize this origin’s clock with NTP; the edge’s is Cloudflare’s.'
      );
    case 'before_start':
      return "The signature is older than this origin's last start. Retry with a new one.";
    case 'replayed':
      return 'The signature has been used already.';
  }
}

/** A worker that sends 1,000 requests a second leaves 180,000 nonces in the longest time that one may live (180 s). */
const MAX_NONCES = 262_144;

/** Nonces that were used already, until their signature would be too old anyway. Bounded: when full it remembers nothing new and says so. */
export class NonceStore {
  private readonly expiries = new Map<string, number>();

  constructor(
    private readonly now: () => number,
    private readonly capacity: number = MAX_NONCES,
  ) {}

  /** @returns 'full' when the nonce cannot be remembered: the request must then be refused, as a repeated one is. */
  readonly remember = (nonce: string, expiresAt: number): NonceMemory => {
    const now = this.now();
    // Insertion order is about the order of expiry (stamps differ by at most two windows).
    for (const [old, expiry] of this.expiries) {
      if (expiry > now) break;
      this.expiries.delete(old);
    }
    if (this.expiries.has(nonce)) return 'seen';
    if (this.expiries.size >= this.capacity) return 'full';
    this.expiries.set(nonce, expiresAt);
    return 'new';
  };
}

/**
 * What Prometheus, curl and Node's `fetch` send. A tunnel or proxy on this machine calls from loopback for anybody on the
 * internet, and adds headers of its own, under more names than anybody can list.
 */
const SCRAPER_HEADERS: ReadonlySet<string> = new Set([
  'host',
  'user-agent',
  'accept',
  'accept-encoding',
  'accept-language',
  'connection',
  'sec-fetch-mode',
  'x-prometheus-scrape-timeout-seconds',
  // Ours: it goes into the answer.
  'x-request-id',
]);

/**
 * May this request have the metrics without a signature? With the configured token, from anywhere; without one only at
 * an origin that listens on loopback, by somebody on this machine, by a loopback name, and not through a proxy.
 */
export function mayScrape(
  c: Context<OriginEnv>,
  { metricsToken, loopbackOnly }: Pick<OriginContext, 'metricsToken' | 'loopbackOnly'>,
): boolean {
  if (c.req.path !== '/metrics' || c.req.header(SIGNATURE_HEADER) !== undefined) return false;
  const given = /^Bearer (\S+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
  if (given !== undefined) return metricsToken !== undefined && isSame(given, metricsToken);
  return (
    loopbackOnly === true &&
    isLoopback(c) &&
    checkLoopbackNames(c) &&
    Object.keys(c.req.header()).every((name) => SCRAPER_HEADERS.has(name))
  );
}

/** In constant time, whatever their lengths are. */
const isSame = (a: string, b: string): boolean => timingSafeEqual(hash(a), hash(b));

const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
