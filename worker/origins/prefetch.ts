import type { ChainEntry, PrefetchRequest, WarmedOrigin } from '../../protocol/index.ts';
import { FOLLOW_TIMEOUT_MS, PIN_TIMEOUT_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { BroughtFile, Exchange } from './exchange.ts';
import { whyNotLoaded } from './pins.ts';
import type { Origin } from './choose-origin.ts';
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
  origins: readonly Origin[];
  /** In which order requests for this name would ask them. */
  order: (name: string) => readonly Origin[];
  exchange: Exchange;
  now: () => number;
}): OriginWarmth & { at: PrefetchAt } {
  const { origins, order, exchange, now } = params;

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

    async warm({ name, chain, ...life }) {
      const asked: WarmedOrigin[] = [];
      for (const origin of order(name)) {
        asked.push(await load(origin, { ...life, chain, timeoutMs: PIN_TIMEOUT_MS }));
        if (asked.at(-1)?.ok === true || life.signal.aborted) break;
      }
      return asked;
    },

    async follow({ was, chain, ...life }) {
      const call = { ...life, chain, instead: was, timeoutMs: FOLLOW_TIMEOUT_MS };
      await Promise.all(origins.map((origin) => load(origin, call)));
    },
  };
}
