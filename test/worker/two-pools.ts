/** An edge, on the fakes, before origins of two bases. */
import { OriginRequest, VerifyRequest, type BaseInfo } from '../../protocol/origin-wire.ts';
import { fakeVerification } from '../fakes/fake-trials.ts';
import { TINY_BASE } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness, type AppHarnessOptions } from './app-harness.ts';

/** Of the same shapes, so that nothing but its id tells it from the other. */
export const LARGE_BASE: BaseInfo = { ...TINY_BASE, id: 'large-base', digest: 'c'.repeat(64), context: 256 };

export const TWO_POOLS = [
  { id: 't1', url: 'http://t1.test', base: TINY_BASE.id },
  { id: 'l1', url: 'http://l1.test', base: LARGE_BASE.id },
  { id: 'l2', url: 'http://l2.test', base: LARGE_BASE.id },
];

export interface TwoPools {
  graft: AppHarness;
  /** Every request to an origin, as `<origin> METHOD path`. */
  asked: string[];
  /** Ids of origins that do not answer. */
  gone: Set<string>;
  /** Which base an origin serves, whatever the configuration says. */
  serves: Map<string, BaseInfo>;
  /** What the origin was last asked to run: its chain and the name that was asked for. */
  ran: OriginRequest['graft'][];
}

export async function createTwoPools(options: AppHarnessOptions = {}): Promise<TwoPools> {
  const graft = await createAppHarness({ origins: TWO_POOLS, ...options });
  const asked: string[] = [];
  const gone = new Set<string>();
  const serves = new Map(TWO_POOLS.map(({ id }) => [id, id === 't1' ? TINY_BASE : LARGE_BASE]));
  const ran: OriginRequest['graft'][] = [];
  const otherwise = graft.origin.answer;
  graft.origin.answer = (method, path, init, url = '') => {
    const { hostname, searchParams } = new URL(url);
    const id = hostname.split('.')[0] as string;
    asked.push(`${id} ${method} ${path}`);
    if (gone.has(id)) throw new TypeError('connection refused');
    const base = serves.get(id) as BaseInfo;
    const wanted = searchParams.get('base');
    if (wanted !== null && wanted !== base.id) {
      const error = { code: 'origin_unavailable', message: `This origin serves the base ${base.id}` };
      return Response.json({ error }, { status: 503, headers: { 'retry-after-ms': '30000' } });
    }
    if (path === '/base') return Response.json(base);
    if (path.endsWith('/verify')) {
      const { chain = [], expected } = VerifyRequest.parse(JSON.parse(init.body as string));
      return Response.json(fakeVerification({ base, chain, expected }));
    }
    if (path.startsWith('/v1/')) ran.push(OriginRequest.parse(JSON.parse(init.body as string)).graft);
    return otherwise(method, path, init, url);
  };
  return { graft, asked, gone, serves, ran };
}
