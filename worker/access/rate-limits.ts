/**
 * Rate limits of callers: requests a second, requests at once, and the cost of refused ones. No I/O, no
 * clock.
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
  PAGE_PUBLICATIONS,
  PAGE_TOKEN_REQUESTS,
  FEEDBACK_REQUESTS,
  COMPOSED_REQUESTS,
  LARGE_BODIES,
  REFUSED_COMPLETIONS,
  TRAINING_REQUESTS,
} from './limits.ts';

/** For one kind of caller of the admin API. */
export interface AdminGates {
  reads: Gate;
  changes: Gate;
}

export interface Gates {
  /** By tenant, or by key until its tenant is known. */
  tenants: AdminGates;
  /** The bootstrap key. */
  operator: AdminGates;
  /** Shared by all admin keys that this isolate has not authenticated yet. */
  strangers: Gate;
  /** `/v1/models`, by tenant. */
  models: Gate;
  /** Chains for browsers, and all tokens of pages, by tenant. */
  downloads: Gate;
  /** Pages that publish, by tenant. */
  publications: Gate;
  /** The same, by token. */
  publishTokens: Gate;
  /** Files of rows and fine-tuning jobs, by tenant. */
  training: Gate;
  /** `/v1/feedback`, by tenant. */
  feedback: Gate;
  /** Large bodies of completions while they are read, by tenant. */
  largeBodies: Gate;
  /** Completions with composed adapters while these are looked up, by tenant. */
  composing: Gate;
  /** Refused completions, by tenant. */
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
    publications: gate(PAGE_PUBLICATIONS),
    publishTokens: gate(PAGE_TOKEN_REQUESTS),
    training: gate(TRAINING_REQUESTS),
    feedback: gate(FEEDBACK_REQUESTS),
    largeBodies: gate(LARGE_BODIES),
    composing: gate(COMPOSED_REQUESTS),
    refusals: createRefusalBudget({ ...REFUSED_COMPLETIONS, maxEntries: GATE_ENTRIES, now }),
  };
}

/**
 * @param whose the subject of the error message.
 * @returns a function that ends the request.
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
  /** Sustained requests a second. */
  perSecond: number;
  /** Requests at once after a pause. */
  burst: number;
  /** Concurrent requests. */
  atOnce: number;
}

/**
 * Tokens return at a steady rate, up to the burst.
 * @param tokens `passedMs` ago.
 */
const refilled = (
  tokens: number,
  passedMs: number,
  { perSecond, burst }: Pick<GateLimits, 'perSecond' | 'burst'>,
): number => Math.min(burst, tokens + (Math.max(0, passedMs) * perSecond) / 1_000);

/** @returns ms until a whole token is available. */
const untilToken = (tokens: number, perSecond: number): number =>
  Math.ceil(((1 - tokens) / perSecond) * 1_000);

interface GateRefusal {
  why: 'often' | 'at_once';
  limits: GateLimits;
  retryAfterMs: number;
}

export interface Gate {
  /** @returns a function that ends the request; repeating it does nothing. A refusal costs nothing. */
  enter(who: string): Result<() => void, GateRefusal>;
  /** Remembered callers. */
  readonly size: number;
}

interface Asker {
  /** Requests that may start at once, up to `burst`. */
  tokens: number;
  /** Time of `tokens`, unix ms. */
  at: number;
  /** Slot -> when it expires, unix ms. */
  places: Map<symbol, number>;
}

/**
 * A token bucket and a number of slots per caller.
 * @param params.placeMs after this time a slot expires: requests that the platform ended are never reported.
 * @param params.atOnceRetryMs when a caller without free slots may retry.
 * @param params.maxEntries remembered callers, not counting those with running requests; a forgotten one
 * starts afresh.
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
  /** Least recently active first. */
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

  /** Forgets the least recently active caller without running requests. */
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
  /** @returns when `who` may ask again, in ms; null = now. */
  waitMs(who: string): number | null;
  spend(who: string, cost: number): void;
  /** Remembered callers. */
  readonly size: number;
}

interface Account {
  /** At most `burst`; negative after an expensive refusal. */
  left: number;
  /** Time of `left`, unix ms. */
  at: number;
}

/** Reading and parsing this many bytes in vain costs one unit. */
const BYTES_A_UNIT = 64 * 1024;
/** A missing name is looked up in KV and in the system of record. */
const NAME_UNITS = 2;

/**
 * Cost of a refusal: 1, plus more for a large body and for each name that was looked up in vain.
 * @param refused.names requested.
 * @param refused.bytes of its body; 0 if unknown.
 */
export function refusalCost(refused: { status: number; names: number; bytes: number }): number {
  const { status, names, bytes } = refused;
  // Our own errors are not charged.
  if (status < 400 || status >= 500) return 0;
  return 1 + bytes / BYTES_A_UNIT + (status === 404 ? names * NAME_UNITS : 0);
}

/**
 * A token bucket per caller that is charged after each refusal.
 * @param params.maxEntries remembered callers; a forgotten one starts afresh.
 */
export function createRefusalBudget(params: {
  perSecond: number;
  burst: number;
  maxEntries: number;
  now: () => number;
}): RefusalBudget {
  const { perSecond, burst, maxEntries, now } = params;
  /** Only callers that have spent something, least recently active first. */
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
      // A pause of twice the burst's time makes up for anything.
      accounts.set(who, { left: Math.max(-burst, leftOf(account, time) - cost), at: time });
    },
  };
}
