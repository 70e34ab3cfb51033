import { createHash, timingSafeEqual } from 'node:crypto';
import type { Context } from 'hono';
import { SIGNATURE_HEADER } from '../../protocol/index.ts';
import { checkLoopbackNames, isLoopback } from './authenticate.ts';
import type { OriginContext, OriginEnv } from './origin-context.ts';

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
