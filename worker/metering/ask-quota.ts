import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { registryUnavailable } from '../errors.ts';
import { logLine } from '../log.ts';
import type {
  KeyLimits,
  LimitedCaller,
  QuotaDecision,
  Quotas,
  LimitOf,
  QuotaMeter,
  QuotaReason,
} from './ports.ts';
import { countersOf, type Counted } from './quota-state.ts';

export interface Refused {
  error: ApiError;
  headers: [string, string][];
}

/** A request that passed, or that nobody counts. */
export interface Ticket {
  headers: [string, string][];
  /** Says that it is under way still. */
  renew(): Promise<void>;
  /** Ends it. */
  settle(tokens: number): Promise<void>;
}

export type Asked = Result<Ticket, Refused>;

/** At once when nobody has to be asked. Never throws. */
export type AskQuota = (caller: LimitedCaller) => Asked | Promise<Asked>;

const FREE: Ticket = { headers: [], renew: async () => undefined, settle: async () => undefined };

/** Refusals that stay true for a moment whoever asks; places are freed at any time. */
const LASTING: ReadonlySet<string> = new Set(['requests', 'tokens', 'day', 'month', 'damaged']);

/** What one counter said. */
type Said = Result<QuotaDecision | null, Refused & { /** When asking again is worth it. */ afterMs: number }>;

/**
 * Asks a key's counter and its tenant's, at the same time, whether a request may pass; who has no limits is not asked
 * about. Where one of both says no, the other one's word is taken back. A counter that does not answer lets it pass, or
 * not, as its limits say; what passes so is not counted.
 * @param params.quotas null = this deployment has no counters: as if none answered.
 */
export function createAskQuota(params: {
  quotas: Quotas | null;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  retryAfterMs: number;
  /** How long a refusal is repeated without asking. */
  memoryMs: number;
  maxEntries: number;
}): AskQuota {
  const { quotas, now, sleep, newId, retryAfterMs, memoryMs, maxEntries } = params;
  /** Counter -> its last refusal, for a moment: a client that goes on asking costs neither counter nor origin. */
  const refusals = new Map<string, { decision: QuotaDecision; limits: string; at: number; until: number }>();

  function remember(counter: string, limits: KeyLimits, decision: QuotaDecision): void {
    const { refused } = decision;
    if (refused === null || !LASTING.has(refused.reason)) return;
    refusals.delete(counter);
    const at = now();
    const until = at + Math.min(memoryMs, refused.retryAfterMs);
    refusals.set(counter, { decision, limits: JSON.stringify(limits), at, until });
    const oldest = refusals.keys().next();
    if (refusals.size > maxEntries && !oldest.done) refusals.delete(oldest.value);
  }

  function remembered({ counter, limits }: Counted): QuotaDecision | null {
    const known = refusals.get(counter);
    if (known === undefined || now() >= known.until || known.limits !== JSON.stringify(limits)) return null;
    const passed = now() - known.at;
    const { refused, requests, tokens } = known.decision;
    const later = <T extends { resetMs: number } | null>(meter: T): T =>
      meter === null ? meter : { ...meter, resetMs: Math.max(0, meter.resetMs - passed) };
    return {
      refused: refused && { ...refused, retryAfterMs: refused.retryAfterMs - passed },
      requests: later(requests),
      tokens: later(tokens),
    };
  }

  const say = ({ of }: Counted, decision: QuotaDecision): Said => {
    const { refused } = decision;
    if (refused === null) return ok(decision);
    const headers = refusalHeaders(of, decision);
    return err({ error: quotaError(of, refused, now()), headers, afterMs: refused.retryAfterMs });
  };

  const trouble = (keyId: string, { counter, limits }: Counted, reason: string) => {
    logLine('quota_unavailable', {
      ...{ key_id: keyId, counter, open: limits.onOutage !== 'refuse', reason },
    });
  };

  async function ask(keyId: string, one: Counted, lease: string): Promise<Said> {
    const { counter, limits } = one;
    try {
      if (quotas === null) throw new Error('there is no binding QUOTAS');
      const decision = await quotas.admit(counter, { limits, lease, at: now() });
      remember(counter, limits, decision);
      return say(one, decision);
    } catch (error) {
      trouble(keyId, one, error instanceof Error ? error.message : 'unknown error');
      if (limits.onOutage !== 'refuse') return ok(null);
      const message = "This key's limits cannot be checked at the moment. Please try again.";
      const refused = registryUnavailable(retryAfterMs, message);
      return err({ error: refused, headers: [], afterMs: retryAfterMs });
    }
  }

  function ticketOf(keyId: string, counted: readonly Counted[], lease: string): Omit<Ticket, 'headers'> {
    const settle = async (one: Counted, tokens: number) => {
      // Once more: it is not counted twice, and a budget should not be passed by an object that moved.
      for (const pause of [memoryMs, null]) {
        try {
          return await quotas?.settle(one.counter, { lease, tokens, at: now() });
        } catch (error) {
          if (pause === null) trouble(keyId, one, String(error));
          else await sleep(pause);
        }
      }
    };
    const renew = (one: Counted) =>
      quotas
        ?.renew(one.counter, { lease, at: now() })
        .catch((error: unknown) => trouble(keyId, one, String(error)));
    return {
      renew: async () => void (await Promise.all(counted.map(renew))),
      settle: async (tokens) => void (await Promise.all(counted.map((one) => settle(one, tokens)))),
    };
  }

  async function askAll(keyId: string, counted: readonly Counted[]): Promise<Asked> {
    const lease = newId();
    const said = await Promise.all(counted.map((one) => ask(keyId, one, lease)));
    const refused = said.flatMap((one) => (one.ok ? [] : [one.error]));
    const [longest] = refused.sort((a, b) => b.afterMs - a.afterMs);
    if (longest === undefined)
      return ok({
        headers: quotaHeaders(said.flatMap((one) => (one.ok && one.value !== null ? [one.value] : []))),
        ...ticketOf(keyId, counted, lease),
      });
    const passed = counted.filter((_, i) => said[i]?.ok);
    await Promise.all(
      passed.map((one) =>
        quotas
          ?.undo(one.counter, { lease, at: now() })
          .catch((error: unknown) => trouble(keyId, one, String(error))),
      ),
    );
    return err({ error: longest.error, headers: longest.headers });
  }

  return (caller) => {
    const counted = countersOf(caller);
    if (counted.length === 0) return ok(FREE);
    for (const one of counted) {
      const last = remembered(one);
      const known = last === null ? null : say(one, last);
      if (known !== null && !known.ok) return err({ error: known.error.error, headers: known.error.headers });
    }
    return askAll(caller.keyId, counted);
  };
}

/** As OpenAI writes durations: `120ms`, `1s`, `1m0.5s`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 100) / 10;
  const minutes = Math.floor(seconds / 60);
  const rest = Number((seconds - minutes * 60).toFixed(1));
  return minutes === 0 ? `${rest}s` : `${minutes}m${rest}s`;
}

/** @returns the one that ends first; the key's, which comes first, where both have as much left. */
const tightest = (meters: readonly (QuotaMeter | null)[]): QuotaMeter | null =>
  meters.reduce(
    (least, one) => (one !== null && (least === null || one.remaining < least.remaining) ? one : least),
    null,
  );

/** `x-ratelimit-*`: of the key's limits and the tenant's the ones of which less is left. */
function quotaHeaders(decisions: readonly QuotaDecision[]): [string, string][] {
  const of = (what: 'requests' | 'tokens'): [string, string][] => {
    const meter = tightest(decisions.map((decision) => decision[what]));
    if (meter === null) return [];
    return [
      [`x-ratelimit-limit-${what}`, String(meter.limit)],
      [`x-ratelimit-remaining-${what}`, String(meter.remaining)],
      [`x-ratelimit-reset-${what}`, duration(meter.resetMs)],
    ];
  };
  return [...of('requests'), ...of('tokens')];
}

/** Those of the limits that said no, and whose they are. */
const refusalHeaders = (of: LimitOf, decision: QuotaDecision): [string, string][] => [
  ...quotaHeaders([decision]),
  ['x-graft-limited-by', of],
];

const WORDS: Record<Exclude<QuotaReason, 'day' | 'month' | 'damaged'>, (limit: number) => string> = {
  requests: (limit) => `${limit} requests per minute`,
  tokens: (limit) => `${limit} tokens per minute`,
  concurrent: (limit) => `${limit} requests at the same time`,
};

const WHOSE: Record<LimitOf, { budget: string; are: string }> = {
  key: { budget: "This key's budget", are: 'This key is' },
  tenant: {
    budget: "The tenant's budget, for all of its keys,",
    are: 'All keys of this tenant together are',
  },
};

/** @param of whose limits. @param at unix ms. */
function quotaError(of: LimitOf, refused: NonNullable<QuotaDecision['refused']>, at: number): ApiError {
  const { reason, limit, retryAfterMs } = refused;
  const { budget, are } = WHOSE[of];
  if (reason === 'damaged')
    return {
      code: 'quota_damaged',
      message: `What this ${of} has used cannot be read, so nothing more passes until the operator resets it: graft limits reset.`,
    };
  if (reason === 'day' || reason === 'month')
    return {
      code: 'insufficient_quota',
      message: `${budget} of ${limit} tokens per ${reason} is used up. It is renewed on ${new Date(at + retryAfterMs).toISOString()}; ask for a larger one if you cannot wait.`,
    };
  return {
    code: 'rate_limit_exceeded',
    message: `${are} limited to ${WORDS[reason](limit)}. Please try again in ${duration(retryAfterMs)}.`,
    retryAfterMs: Math.ceil(retryAfterMs),
  };
}
