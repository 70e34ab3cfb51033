/** How often, and how many at once, somebody may ask for what costs the registry something. No I/O, no clock. */
import { err, ok, type Result } from '../../protocol/index.ts';

export interface GateLimits {
  /** Requests a second that can go on for ever … */
  perSecond: number;
  /** … and at once after a pause. */
  burst: number;
  /** Requests under way at the same time. */
  atOnce: number;
}

/** Tokens come back at an even pace, up to the burst. @param tokens as they were `passedMs` ago. */
export const refilled = (
  tokens: number,
  passedMs: number,
  { perSecond, burst }: Pick<GateLimits, 'perSecond' | 'burst'>,
): number => Math.min(burst, tokens + (Math.max(0, passedMs) * perSecond) / 1_000);

/** @returns ms until there is a whole token again. */
export const untilToken = (tokens: number, perSecond: number): number =>
  Math.ceil(((1 - tokens) / perSecond) * 1_000);

export interface GateRefusal {
  why: 'often' | 'at_once';
  limits: GateLimits;
  retryAfterMs: number;
}

export interface Gate {
  /** @returns what says that the request has ended; more than once changes nothing. A refusal costs nothing. */
  enter(who: string): Result<() => void, GateRefusal>;
  /** Those it remembers. */
  readonly size: number;
}

interface Asker {
  /** Requests that may come at once, up to `burst`. */
  tokens: number;
  /** When that was so, unix ms. */
  at: number;
  /** Place -> unix ms at which it is free by itself. */
  places: Map<symbol, number>;
}

/**
 * A token bucket and a number of places for each asker.
 * @param params.placeMs a place is free after this time: a request that the platform ended says so to nobody.
 * @param params.atOnceRetryMs when one who has all places taken may ask again.
 * @param params.maxEntries askers remembered beyond those with requests under way; who is forgotten begins anew.
 */
export function createGate(params: {
  limits: GateLimits;
  placeMs: number;
  atOnceRetryMs: number;
  maxEntries: number;
  now: () => number;
}): Gate {
  const { limits, placeMs, atOnceRetryMs, maxEntries, now } = params;
  const { burst, atOnce } = limits;
  /** The one that asked last is the last. */
  const askers = new Map<string, Asker>();

  function askerOf(who: string, at: number): Asker {
    const known = askers.get(who);
    askers.delete(who);
    const asker = known ?? { tokens: burst, at, places: new Map<symbol, number>() };
    askers.set(who, asker);
    asker.tokens = refilled(asker.tokens, at - asker.at, limits);
    asker.at = Math.max(at, asker.at);
    for (const [place, until] of asker.places) if (until <= at) asker.places.delete(place);
    if (askers.size > maxEntries) forgetOne();
    return asker;
  }

  /** The one that has been quiet for longest, and has nothing under way. */
  function forgetOne(): void {
    for (const [who, { places }] of askers) {
      if (places.size > 0) continue;
      askers.delete(who);
      return;
    }
  }

  return {
    get size() {
      return askers.size;
    },
    enter(who) {
      const at = now();
      const asker = askerOf(who, at);
      if (asker.places.size >= atOnce) return err({ why: 'at_once', limits, retryAfterMs: atOnceRetryMs });
      if (asker.tokens < 1)
        return err({ why: 'often', limits, retryAfterMs: untilToken(asker.tokens, limits.perSecond) });
      asker.tokens -= 1;
      const place = Symbol();
      asker.places.set(place, at + placeMs);
      return ok(() => void asker.places.delete(place));
    },
  };
}
