import { LOAD_HEADER, pathForBase } from '../../protocol/index.ts';
import { originUnavailable } from '../errors.ts';
import { SIGNATURE_EJECT_MS } from './limits.ts';
import type { Exchange, ExchangeCall, Exchanged } from './exchange.ts';
import type { OriginFetch } from './signed-fetch.ts';
import type { OriginHealth } from './health.ts';
import type { Origin } from './choose-origin.ts';

/** Finds out by small questions which origins live, so that no request has to hang to tell. */
export function createWatch(params: {
  health: OriginHealth;
  exchange: Exchange;
  send: OriginFetch;
  now: () => number;
  /** After this long without headers an origin must give a sign of life within `pulseMs`. */
  patienceMs: number;
  pulseMs: number;
}) {
  const { health, exchange, send, now, patienceMs, pulseMs } = params;

  const ask = (origin: Origin) =>
    send(origin, {
      method: 'GET',
      path: pathForBase('/base', origin.base ?? null),
      signal: AbortSignal.timeout(pulseMs),
    });

  /**
   * An origin that is overloaded answers others, or goes on with their streams, and needs no more questions.
   * @param since unix ms, from when on anything that came counts.
   */
  async function isAlive(origin: Origin, since: number): Promise<boolean> {
    if (health.heardSince(origin, since)) return true;
    const answer = await ask(origin);
    if (answer.ok) await answer.value.body?.cancel();
    return answer.ok || health.heardSince(origin, since);
  }

  return {
    /** Half-open: a question decides whether the origin gets requests again, not somebody's request. */
    async probe(origin: Origin): Promise<void> {
      const answer = await ask(origin);
      const response = answer.ok ? answer.value : null;
      await response?.body?.cancel();
      if (response?.ok === true) health.answered(origin, response.headers.get(LOAD_HEADER));
      else health.failed(origin, response?.status === 401 ? SIGNATURE_EJECT_MS : 0);
    },

    /** An origin that hangs is found out by a question, since a whole answer may take minutes. */
    async exchange(origin: Origin, call: ExchangeCall): Promise<Exchanged> {
      const dead = new AbortController();
      const signal = () => AbortSignal.any([call.signal(), dead.signal]);
      const asked = exchange(origin, { ...call, signal });
      for (let since = now(); ; since = now()) {
        const exchanged = await within(asked, patienceMs);
        if (exchanged !== null) return exchanged;
        if (await isAlive(origin, since)) continue;
        const reason = `no sign of life for ${(patienceMs + pulseMs) / 1000} s`;
        dead.abort(new Error(reason));
        return { kind: 'unreachable', error: originUnavailable(), reason };
      }
    },
  };
}

export type Watch = ReturnType<typeof createWatch>;

/** @returns null when it takes longer. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let give: (late: null) => void = () => undefined;
  const late = new Promise<null>((resolve) => (give = resolve));
  const timer = setTimeout(() => give(null), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
