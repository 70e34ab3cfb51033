/**
 * What one key has used, as plain data, and the arithmetic of its limits: no I/O, no clock. A minute is any
 * 60 s. Usage is summed by the second, and a second counts until all of it is 60 s old. So no 60 s window
 * ever exceeds a limit, and usage becomes available again after 60 to 61 s. Days and months follow the
 * calendar, UTC.
 */
import { z } from 'zod';
import {
  BLOCK_MS,
  BLOCK_REQUESTS,
  BUDGET_SHARES,
  JOB_TOKENS_KEPT_MS,
  LEASE_KEPT_MS,
  LEASE_MS,
  MAX_COUNTED_JOBS,
} from './limits.ts';
import type { KeyLimits } from '../../protocol/admin-api/keys.ts';
import type {
  BudgetLeft,
  BudgetShare,
  QuotaDecision,
  QuotaMeter,
  QuotaReason,
  ReachedShare,
  SpentBudget,
} from './ports.ts';

const Total = z.object({
  period: z.int(),
  tokens: z.number(),
  /** Unix ms of when it was begun. */
  begun: z.number(),
  /** The largest share that was told, and of which limit: another one is told anew. */
  told: z.object({ limit: z.number(), percent: z.number() }),
});
type Total = z.infer<typeof Total>;

export const QuotaState = z.object({
  /** Latest time of any call, unix ms. */
  at: z.number(),
  /** [unix second, requests, tokens], oldest first; only seconds that still count. */
  seconds: z.array(z.tuple([z.int(), z.number(), z.number()])),
  /** Lease -> unix ms at which it expires, and at which it began. */
  leases: z.map(z.string(), z.tuple([z.number(), z.number()])),
  /** How long requests take, ms: a moving average in which a new one has weight 1/4. 0 = none has ended. */
  took: z.number(),
  /** Days since 1970 and their tokens. */
  day: Total,
  /** Months since 1970 and their tokens. */
  month: Total,
  /** Fine-tuning job -> its tokens that are counted, and unix ms of when they were. */
  jobs: z.map(z.string(), z.object({ tokens: z.number(), at: z.number() })),
});
export type QuotaState = z.infer<typeof QuotaState>;

const DAY_MS = 86_400_000;
const MINUTE_S = 60;
/**
 * Limits of `retry-after` for a key with too many concurrent requests. OpenAI's clients wait at most a
 * minute.
 */
const CONCURRENT_RETRY_MS = { least: 1_000, most: 30_000 };

const newTotal = (period: number, begun: number): Total => ({
  period,
  tokens: 0,
  begun,
  told: { limit: 0, percent: 0 },
});

export const emptyQuota = (): QuotaState => ({
  at: 0,
  seconds: [],
  leases: new Map(),
  took: 0,
  day: newTotal(-1, 0),
  month: newTotal(-1, 0),
  jobs: new Map(),
});

const monthOf = (at: number): number => {
  const date = new Date(at);
  return (date.getUTCFullYear() - 1970) * 12 + date.getUTCMonth();
};
const monthStart = (month: number): number => Date.UTC(1970 + Math.floor(month / 12), month % 12);
/** Unix ms at which the state's period ends. */
const endOf = {
  day: ({ day }: QuotaState) => (day.period + 1) * DAY_MS,
  month: ({ month }: QuotaState) => monthStart(month.period + 1),
};
/** Unix ms from which a second no longer counts. */
const secondEnd = (second: number): number => (second + 1 + MINUTE_S) * 1_000;

/**
 * Advances time and drops what no longer counts.
 * @returns the state's time, unix ms.
 */
function advance(state: QuotaState, at: number): number {
  const now = Math.max(state.at, at);
  state.at = now;
  state.seconds = state.seconds.filter(([second]) => secondEnd(second) > now);
  for (const [lease, [until]] of state.leases) if (until + LEASE_KEPT_MS <= now) state.leases.delete(lease);
  for (const [job, { at: counted }] of state.jobs)
    if (counted + JOB_TOKENS_KEPT_MS <= now) state.jobs.delete(job);
  const day = Math.floor(now / DAY_MS);
  if (state.day.period !== day) state.day = newTotal(day, now);
  const month = monthOf(now);
  if (state.month.period !== month) state.month = newTotal(month, now);
  return now;
}

/** @param at when it is used, unix ms. */
function use(state: QuotaState, requests: number, tokens: number, at = state.at): void {
  const second = Math.floor(at / 1_000);
  const place = state.seconds.findLastIndex(([one]) => one <= second);
  const last = state.seconds[place];
  if (last?.[0] !== second) state.seconds.splice(place + 1, 0, [second, requests, tokens]);
  else {
    last[1] += requests;
    last[2] += tokens;
  }
  state.day.tokens += tokens;
  state.month.tokens += tokens;
}

const REQUESTS = 1;
const TOKENS = 2;
type Column = typeof REQUESTS | typeof TOKENS;

const used = (state: QuotaState, column: Column): number =>
  state.seconds.reduce((sum, second) => sum + second[column], 0);

function meter(state: QuotaState, column: Column, limit: number | undefined): QuotaMeter | null {
  if (limit === undefined) return null;
  const newest = state.seconds.findLast((second) => second[column] > 0);
  return {
    limit,
    remaining: Math.max(0, limit - used(state, column)),
    resetMs: newest === undefined ? 0 : secondEnd(newest[0]) - state.at,
  };
}

/** @returns ms until the count is below `limit`. */
function untilBelow(state: QuotaState, column: Column, limit: number): number {
  let left = used(state, column);
  for (const second of state.seconds) {
    left -= second[column];
    if (left < limit) return secondEnd(second[0]) - state.at;
  }
  return 0;
}

/** @returns ms until the oldest running request has taken the average time. */
function untilOneEnds({ at, leases, took }: QuotaState): number {
  let oldest = at;
  for (const [, begun] of leases.values()) oldest = Math.min(oldest, begun);
  const { least, most } = CONCURRENT_RETRY_MS;
  // It has taken longer than average already: its end is a guess.
  const left = at - oldest < took ? took - (at - oldest) : took / 4;
  return Math.min(most, Math.max(least, left));
}

function refusal(state: QuotaState, limits: KeyLimits): QuotaDecision['refused'] {
  const refuse = (reason: QuotaReason, limit: number, retryAfterMs: number) => ({
    reason,
    limit,
    retryAfterMs,
  });
  const { tokens_per_month, tokens_per_day, tokens_per_minute, requests_per_minute, concurrent } = limits;
  if (tokens_per_month !== undefined && state.month.tokens >= tokens_per_month)
    return refuse('month', tokens_per_month, endOf.month(state) - state.at);
  if (tokens_per_day !== undefined && state.day.tokens >= tokens_per_day)
    return refuse('day', tokens_per_day, endOf.day(state) - state.at);
  if (requests_per_minute !== undefined && used(state, REQUESTS) >= requests_per_minute)
    return refuse('requests', requests_per_minute, untilBelow(state, REQUESTS, requests_per_minute));
  if (tokens_per_minute !== undefined && used(state, TOKENS) >= tokens_per_minute)
    return refuse('tokens', tokens_per_minute, untilBelow(state, TOKENS, tokens_per_minute));
  if (concurrent !== undefined) {
    const held = [...state.leases.values()].filter(([until]) => until > state.at).length;
    if (held >= concurrent) return refuse('concurrent', concurrent, untilOneEnds(state));
  }
  return null;
}

/** @returns whether the counter has to know when a request ends: what it has used, or that its place is free. */
export const needsEnd = (limits: KeyLimits): boolean =>
  limits.concurrent !== undefined ||
  limits.tokens_per_minute !== undefined ||
  limits.tokens_per_day !== undefined ||
  limits.tokens_per_month !== undefined;

/**
 * Counts a request in all counters and holds its lease where its end matters, or counts nothing if one refuses it. An
 * existing lease is not counted again.
 */
export function admit(
  asked: readonly { state: QuotaState; limits: KeyLimits }[],
  { lease, at }: { lease: string; at: number },
): QuotaDecision[] {
  for (const { state } of asked) advance(state, at);
  const isKnown = asked.some(({ state }) => state.leases.has(lease));
  const refusals = asked.map(({ state, limits }) => (isKnown ? null : refusal(state, limits)));
  if (refusals.every((refused) => refused === null))
    for (const { state, limits } of asked) {
      if (!isKnown) use(state, 1, 0);
      if (needsEnd(limits)) hold(state, lease);
    }
  return decisionsOf(asked, refusals);
}

/**
 * Counts several requests in all counters, as of the last moment at which they may begin: so no 60 s exceed a limit. Takes
 * at most a tenth of what is left, and the last ones one by one: what an isolate does not use, others may need.
 */
export function take(
  asked: readonly { state: QuotaState; limits: KeyLimits }[],
  { count, at }: { count: number; at: number },
): { granted: number; decisions: QuotaDecision[] } {
  for (const { state } of asked) advance(state, at);
  const refusals = asked.map(({ state, limits }) => refusal(state, limits));
  let granted = refusals.every((refused) => refused === null) ? count : 0;
  for (const { state, limits } of asked) {
    const left = (limits.requests_per_minute ?? Infinity) - used(state, REQUESTS);
    granted = Math.min(granted, Math.ceil(left / BLOCK_REQUESTS));
  }
  // A single one begins now.
  const beginsIn = granted > 1 ? BLOCK_MS : 0;
  if (granted > 0) for (const { state } of asked) use(state, granted, 0, state.at + beginsIn);
  return { granted, decisions: decisionsOf(asked, refusals) };
}

const decisionsOf = (
  asked: readonly { state: QuotaState; limits: KeyLimits }[],
  refusals: readonly QuotaDecision['refused'][],
): QuotaDecision[] =>
  asked.map(({ state, limits }, i) => ({
    refused: refusals[i] ?? null,
    requests: meter(state, REQUESTS, limits.requests_per_minute),
    tokens: meter(state, TOKENS, limits.tokens_per_minute),
    reached: reachedShares(state, limits),
  }));

function hold({ leases, at }: QuotaState, lease: string): void {
  leases.set(lease, [at + LEASE_MS, leases.get(lease)?.[1] ?? at]);
}

/** A lease that a restart has forgotten is held again. */
export function renew(state: QuotaState, ask: { lease: string; at: number }): void {
  advance(state, ask.at);
  hold(state, ask.lease);
}

/**
 * An expired lease is counted too, and one that a restart has forgotten; but only once.
 * @param ask.again it was asked before, perhaps in vain: then only a lease that is remembered is counted.
 */
export function settle(
  state: QuotaState,
  ask: { limits: KeyLimits; lease: string; tokens: number; again: boolean; at: number },
): ReachedShare[] {
  advance(state, ask.at);
  const [, begun] = state.leases.get(ask.lease) ?? [];
  if (!state.leases.delete(ask.lease) && ask.again) return reachedShares(state, ask.limits);
  if (begun !== undefined)
    state.took = state.took === 0 ? state.at - begun : 0.75 * state.took + 0.25 * (state.at - begun);
  use(state, 0, ask.tokens);
  return reachedShares(state, ask.limits);
}

/** @returns shares of budgets that were reached in this period, and are not told yet. */
function reachedShares(state: QuotaState, limits: KeyLimits): ReachedShare[] {
  const of = (period: 'day' | 'month', limit: number | undefined): ReachedShare[] => {
    if (limit === undefined) return [];
    const { tokens, begun, told } = state[period];
    const known = told.limit === limit ? told.percent : 0;
    return BUDGET_SHARES.filter((percent) => percent > known && tokens * 100 >= limit * percent).map(
      (percent) => ({ period, begun, limit, percent, used: tokens, renewedAt: endOf[period](state) }),
    );
  };
  return [...of('day', limits.tokens_per_day), ...of('month', limits.tokens_per_month)];
}

/** One of an earlier period, or from before a reset, changes nothing. */
export function tell(state: QuotaState, { period, begun, limit, percent }: BudgetShare): void {
  const total = state[period];
  if (total.begun !== begun) return;
  const known = total.told.limit === limit ? total.told.percent : 0;
  total.told = { limit, percent: Math.max(known, percent) };
}

/**
 * Counts tokens that a fine-tuning job has trained, for budgets of days and months alone: a job must not use up the
 * minutes of a key's completions.
 * @param ask.from of its tokens, those that the caller knows to be counted; what is remembered here goes first.
 * @param ask.total all of its tokens so far.
 * @returns the budget of which least is left, null without budgets; and what was reached.
 */
export function spend(
  state: QuotaState,
  ask: { limits: KeyLimits; job: string; from: number; total: number; at: number },
): SpentBudget {
  const { limits, job, total } = ask;
  const now = advance(state, ask.at);
  const tokens = total - Math.max(ask.from, state.jobs.get(job)?.tokens ?? 0);
  if (tokens > 0) {
    state.day.tokens += tokens;
    state.month.tokens += tokens;
    state.jobs.delete(job);
    state.jobs.set(job, { tokens: total, at: now });
    // The caller knows what was counted of older ones.
    for (const [oldest] of state.jobs) if (state.jobs.size > MAX_COUNTED_JOBS) state.jobs.delete(oldest);
  }
  const left = (reason: BudgetLeft['reason'], used: number, limit: number | undefined, ends: number) =>
    limit === undefined ? [] : [{ reason, limit, left: Math.max(0, limit - used), renewedInMs: ends - now }];
  const [least] = [
    ...left('month', state.month.tokens, limits.tokens_per_month, endOf.month(state)),
    ...left('day', state.day.tokens, limits.tokens_per_day, endOf.day(state)),
  ].sort((a, b) => a.left - b.left || b.renewedInMs - a.renewedInMs);
  return { least: least ?? null, reached: reachedShares(state, limits) };
}
