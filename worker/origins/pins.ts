import {
  LoadAnswer,
  type KeepPinsRequest,
  type PinRequest,
  type PrefetchRequest,
  type WarmedOrigin,
} from '../../protocol/index.ts';
import { ORIGIN_QUESTION_MS, PIN_TIMEOUT_MS, FOLLOW_TIMEOUT_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { Exchange, Exchanged, BroughtFile } from './exchange.ts';
import { type OriginFetch, readOriginText } from './signed-fetch.ts';
import type { Pools, Origin } from './choose-origin.ts';
import type { PrefetchAt } from './health.ts';
import type { OriginPins, OriginWarmth } from './ports.ts';

/** Asks origins to keep adapters in memory. All of a base: any may have to serve a name when another is busy or lost. */
export function createOriginPins(params: {
  pools: Pools;
  exchange: Exchange;
  send: OriginFetch;
}): OriginPins {
  const { pools, exchange, send } = params;
  return {
    pin: ({ base, chain }, { signal, keepAlive }) =>
      Promise.all(
        pools.of(base).map(async (origin) => {
          const body: PinRequest = { digests: [...new Set(chain.map(({ digest }) => digest))] };
          const exchanged = await exchange(origin, {
            path: '/adapters/pins',
            chain,
            body: () => body,
            signal: () => AbortSignal.any([signal, AbortSignal.timeout(PIN_TIMEOUT_MS)]),
            gone: signal,
            keepAlive,
          });
          const reason = await whyNotLoaded(exchanged);
          if (reason !== null)
            logLine('not_pinned', { origin: origin.id, digests: body.digests.join(','), reason });
          return { id: origin.id, ok: reason === null, reason };
        }),
      ),

    async keepPinned(digests, { signal }) {
      const body: KeepPinsRequest = { digests: [...digests] };
      const done = await Promise.all(
        pools.all.map(async (origin) => {
          const sent = await send(origin, {
            method: 'PUT',
            path: '/adapters/pins',
            body: JSON.stringify(body),
            signal: AbortSignal.any([signal, AbortSignal.timeout(ORIGIN_QUESTION_MS)]),
          });
          if (sent.ok) await sent.value.body?.cancel();
          if (sent.ok && sent.value.ok) return true;
          const reason = sent.ok ? `answered ${sent.value.status}` : sent.error.reason;
          logLine('not_unpinned', { origin: origin.id, reason });
          return false;
        }),
      );
      return done.every((one) => one);
    },
  };
}

/** @returns null when all adapters are in memory. */
export async function whyNotLoaded(exchanged: Exchanged): Promise<string | null> {
  switch (exchanged.kind) {
    case 'failed':
    case 'unreachable':
      return exchanged.error.message;
    case 'refused':
      return exchanged.refusal?.message ?? `It answered ${exchanged.response.status}.`;
    case 'answered': {
      try {
        const text = await readOriginText(exchanged.response);
        if (text === null) return 'Its answer is too long.';
        const { results } = LoadAnswer.parse(JSON.parse(text));
        const failed = results.find(({ ok }) => !ok);
        return failed === undefined ? null : (failed.error?.message ?? 'It does not say why.');
      } catch {
        return 'Its answer could not be read.';
      }
    }
  }
}

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
