/**
 * How often, and how many at once, a caller may ask for what costs the registry something, and how much refused work it
 * may cause. No I/O, no clock.
 */
import { BoundedMap } from '../platform/bounded-map.ts';
import { err, ok, type Result, type ApiError } from '../../protocol/api-error.ts';
import {
  GATE_PLACE_MS,
  GATE_AT_ONCE_RETRY_MS,
  GATE_ENTRIES,
  ADMIN_READS,
  ADMIN_CHANGES,
  OPERATOR_REQUESTS,
  UNKNOWN_ADMIN_KEYS,
  MODEL_READS,
  DOWNLOADS,
  FEEDBACK_REQUESTS,
  COMPOSED_REQUESTS,
  LARGE_BODIES,
  REFUSED_COMPLETIONS,
} from './limits.ts';

/** Of one kind of caller of the admin API. */
export interface AdminGates {
  reads: Gate;
  changes: Gate;
}

export interface Gates {
  /** By tenant, and by key until its tenant is known. */
  tenants: AdminGates;
  /** The bootstrap key. */
  operator: AdminGates;
  /** Admin keys that this isolate has not seen to be good, all together. */
  strangers: Gate;
  /** `/v1/models`, by tenant. */
  models: Gate;
  /** Chains for browsers, by tenant. */
  downloads: Gate;
  /** `/v1/feedback`, by tenant. */
  feedback: Gate;
  /** Large bodies of completions while they are read, by tenant. */
  largeBodies: Gate;
  /** Completions that add adapters, while these are looked up, by tenant. */
  composing: Gate;
  /** Completions that were refused, by tenant. */
  refusals: RefusalBudget;
}

/** @param now unix ms. */
export function createGates(now: () => number): Gates {
  const gate = (of: GateLimits) =>
    createGate({
      limits: of,
      placeMs: GATE_PLACE_MS,
      atOnceRetryMs: GATE_AT_ONCE_RETRY_MS,
      maxEntries: GATE_ENTRIES,
      now,
    });
  return {
    tenants: { reads: gate(ADMIN_READS), changes: gate(ADMIN_CHANGES) },
    operator: { reads: gate(OPERATOR_REQUESTS), changes: gate(OPERATOR_REQUESTS) },
    strangers: gate(UNKNOWN_ADMIN_KEYS),
    models: gate(MODEL_READS),
    downloads: gate(DOWNLOADS),
    feedback: gate(FEEDBACK_REQUESTS),
    largeBodies: gate(LARGE_BODIES),
    composing: gate(COMPOSED_REQUESTS),
    refusals: createRefusalBudget({ ...REFUSED_COMPLETIONS, maxEntries: GATE_ENTRIES, now }),
  };
}

/**
 * @param whose in the refusal, such as `This tenant`, which it is unless given.
 * @returns what says that the request has ended.
 */
export function enterGate(gate: Gate, who: string, whose = 'This tenant'): Result<() => void, ApiError> {
  const entered = gate.enter(who);
  return entered.ok ? entered : err(gateError(whose, entered.error));
}

function gateError(whose: string, { why, limits: of, retryAfterMs }: GateRefusal): ApiError {
  const message =
    why === 'at_once'
      ? `${whose} has ${of.atOnce} requests of this kind in progress, the most allowed at once. Wait for ` +
        'one to end.'
      : `${whose} may send ${of.perSecond} requests of this kind a second. Please try again in ` +
        `${Math.ceil(retryAfterMs)}ms.`;
  return { code: 'rate_limit_exceeded', message, retryAfterMs };
}

interface GateLimits {
  /** Requests a second that can go on for ever … */
  perSecond: number;
  /** … and at once after a pause. */
  burst: number;
  /** Requests under way at the same time. */
  atOnce: number;
}

/** Tokens come back at an even pace, up to the burst. @param tokens as they were `passedMs` ago. */
const refilled = (
  tokens: number,
  passedMs: number,
  { perSecond, burst }: Pick<GateLimits, 'perSecond' | 'burst'>,
): number => Math.min(burst, tokens + (Math.max(0, passedMs) * perSecond) / 1_000);

/** @returns ms until there is a whole token again. */
const untilToken = (tokens: number, perSecond: number): number =>
  Math.ceil(((1 - tokens) / perSecond) * 1_000);

interface GateRefusal {
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

interface RefusalBudget {
  /** @returns when `who` may ask again, ms; null = now. */
  waitMs(who: string): number | null;
  spend(who: string, cost: number): void;
  /** Those it remembers. */
  readonly size: number;
}

interface Account {
  /** Left, at most `burst`; below zero after something dear. */
  left: number;
  /** When that was so, unix ms. */
  at: number;
}

/** A body of so many bytes, read and parsed for nothing, costs one more. */
const BYTES_A_UNIT = 64 * 1024;
/** A name that is not there is looked for in KV and in the system of record. */
const NAME_UNITS = 2;

/**
 * What a refusal cost: 1 for any, more for a large body, and for each name that was looked up in vain.
 * @param refused.names that the request asked for.
 * @param refused.bytes of its body; 0 where they are not known.
 */
export function refusalCost(refused: { status: number; names: number; bytes: number }): number {
  const { status, names, bytes } = refused;
  // Faults of ours are nobody's budget.
  if (status < 400 || status >= 500) return 0;
  return 1 + bytes / BYTES_A_UNIT + (status === 404 ? names * NAME_UNITS : 0);
}

/**
 * A token bucket for each asker, from which refusals are taken when they have happened.
 * @param params.maxEntries askers remembered; who is forgotten begins anew.
 */
export function createRefusalBudget(params: {
  perSecond: number;
  burst: number;
  maxEntries: number;
  now: () => number;
}): RefusalBudget {
  const { perSecond, burst, maxEntries, now } = params;
  /** Only of those who have spent something; the one that did so last is the last. */
  const accounts = new BoundedMap<string, Account>(maxEntries);

  const leftOf = ({ left, at }: Account, time: number): number => refilled(left, time - at, params);

  return {
    get size() {
      return accounts.size;
    },
    waitMs(who) {
      const account = accounts.get(who);
      const left = account === undefined ? burst : leftOf(account, now());
      return left >= 1 ? null : untilToken(left, perSecond);
    },
    spend(who, cost) {
      if (cost <= 0) return;
      const time = now();
      const account = accounts.get(who) ?? { left: burst, at: time };
      // A pause of twice the burst's time makes good for anything.
      accounts.set(who, { left: Math.max(-burst, leftOf(account, time) - cost), at: time });
    },
  };
}
