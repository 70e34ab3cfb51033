/** How a quota's decision reaches a client: OpenAI's headers and errors. */
import type { ApiError } from '../../protocol/index.ts';
import type { LimitOf, QuotaDecision, QuotaMeter, QuotaReason } from './ports.ts';

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
export function quotaHeaders(decisions: readonly QuotaDecision[]): [string, string][] {
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
export const refusalHeaders = (of: LimitOf, decision: QuotaDecision): [string, string][] => [
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
export function quotaError(
  of: LimitOf,
  refused: NonNullable<QuotaDecision['refused']>,
  at: number,
): ApiError {
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
