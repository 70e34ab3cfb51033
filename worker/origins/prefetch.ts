import type { ChainEntry, PrefetchRequest, WarmedOrigin } from '../../protocol/index.ts';
import { FOLLOW_TIMEOUT_MS, PIN_TIMEOUT_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { BroughtFile, Exchange } from './exchange.ts';
import { whyNotLoaded } from './pins.ts';
import type { Origin } from './choose-origin.ts';
import type { Pools } from './pools.ts';
import type { OriginWarmth, PinLife } from './ports.ts';

/** Has one origin load a chain, brought to it if need be. Never throws. */
export type PrefetchAt = (
  origin: Origin,
  call: PinLife & {
    chain: readonly ChainEntry[];
    /** Only where it has this adapter in memory. */
    instead?: string;
    timeoutMs: number;
  },
) => Promise<WarmedOrigin>;

/** Has origins load adapters before anybody asks for them. */
export function createPrefetch(params: {
  pools: Pools;
  /** In which order requests for this name would ask those of its base. */
  order: (name: string, base: string) => readonly Origin[];
  exchange: Exchange;
  now: () => number;
}): OriginWarmth & { at: PrefetchAt } {
  const { pools, order, exchange, now } = params;

  const load: PrefetchAt = async (origin, { chain, instead, timeoutMs, signal, keepAlive }) => {
    const since = now();
    const brought: BroughtFile[] = [];
    const digests = [...new Set(chain.map(({ digest }) => digest))];
    const body: PrefetchRequest = { digests, ...(instead === undefined ? {} : { if_resident: instead }) };
    const until = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const exchanged = await exchange(origin, {
      path: '/adapters/prefetch',
      chain,
      loadUntil: since + timeoutMs,
      onBrought: (file) => brought.push(file),
      body: () => body,
      signal: () => until,
      gone: until,
      keepAlive,
    });
    const reason = await whyNotLoaded(exchanged);
    if (reason !== null) logLine('not_prefetched', { origin: origin.id, digests: digests.join(','), reason });
    return { id: origin.id, ok: reason === null, reason, brought, ms: now() - since };
  };

  return {
    at: load,

    async warm({ name, base, chain, ...life }) {
      const asked: WarmedOrigin[] = [];
      for (const origin of order(name, base)) {
        asked.push(await load(origin, { ...life, chain, timeoutMs: PIN_TIMEOUT_MS }));
        if (asked.at(-1)?.ok === true || life.signal.aborted) break;
      }
      return asked;
    },

    async follow({ was, base, chain, ...life }) {
      const call = { ...life, chain, instead: was, timeoutMs: FOLLOW_TIMEOUT_MS };
      await Promise.all(pools.of(base).map((origin) => load(origin, call)));
    },
  };
}
