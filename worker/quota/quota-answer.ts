/** How a quota's decision reaches a client: OpenAI's headers and errors. */
import type { ApiError } from '../../protocol/index.ts';
import type { QuotaDecision, QuotaMeter, QuotaReason } from '../stores/types-metering.ts';

/** As OpenAI writes durations: `120ms`, `1s`, `1m0.5s`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 100) / 10;
  const minutes = Math.floor(seconds / 60);
  const rest = Number((seconds - minutes * 60).toFixed(1));
  return minutes === 0 ? `${rest}s` : `${minutes}m${rest}s`;
}

/** `x-ratelimit-*`, of the limits that the key has. */
export function quotaHeaders(decision: QuotaDecision): [string, string][] {
  const of = (what: string, meter: QuotaMeter | null): [string, string][] =>
    meter === null
      ? []
      : [
          [`x-ratelimit-limit-${what}`, String(meter.limit)],
          [`x-ratelimit-remaining-${what}`, String(meter.remaining)],
          [`x-ratelimit-reset-${what}`, duration(meter.resetMs)],
        ];
  return [...of('requests', decision.requests), ...of('tokens', decision.tokens)];
}

const WORDS: Record<Exclude<QuotaReason, 'day' | 'month'>, (limit: number) => string> = {
  requests: (limit) => `${limit} requests per minute`,
  tokens: (limit) => `${limit} tokens per minute`,
  concurrent: (limit) => `${limit} requests at the same time`,
};

/** @param at unix ms. */
export function quotaError(refused: NonNullable<QuotaDecision['refused']>, at: number): ApiError {
  const { reason, limit, retryAfterMs } = refused;
  if (reason === 'day' || reason === 'month')
    return {
      code: 'insufficient_quota',
      message: `This key's budget of ${limit} tokens per ${reason} is used up. It is renewed on ${new Date(at + retryAfterMs).toISOString()}; ask for a larger one if you cannot wait.`,
    };
  return {
    code: 'rate_limit_exceeded',
    message: `This key is limited to ${WORDS[reason](limit)}. Please try again in ${duration(retryAfterMs)}.`,
    retryAfterMs: Math.ceil(retryAfterMs),
  };
}
