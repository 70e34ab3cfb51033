/** Types of metering: quotas of keys, and usage. Each store has one contract suite (test/contracts). */
import type { Stages } from '../tracing/ports.ts';
import { z } from 'zod';
import type { KeyLimits } from '../../protocol/admin-api/keys.ts';
import type { TenantLimitsView, UsageGroup } from '../../protocol/admin-api/tenants.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import { BaseId } from '../../protocol/identity.ts';
import type { UsageNote } from '../../protocol/origin-wire.ts';
import type { Page } from '../platform/ports.ts';
import type { BUDGET_SHARES } from './limits.ts';

/** Per million tokens, in the list's currency. */
const price = z.number().min(0).max(1e6);
const Prices = z.strictObject({ prompt: price, completion: price });

/** Variable `PRICES`: prices of tokens. Only reports of usage contain them; nothing is charged. */
export const PriceList = Prices.extend({
  /** ISO 4217, such as `USD`. */
  currency: z.string().regex(/^[A-Z]{3}$/, 'must be three capital letters, such as USD'),
  /** Per base; other bases use the prices above. */
  bases: z.record(BaseId, Prices).default({}),
});
export type PriceList = z.infer<typeof PriceList>;

/**
 * @param defaultBase base that usage calls `base`; null = unknown.
 * @returns the list with a price for `base`.
 */
export function withDefaultBase(prices: PriceList, defaultBase: string | null): PriceList {
  const own = defaultBase === null ? undefined : prices.bases[defaultBase];
  return own === undefined ? prices : { ...prices, bases: { ...prices.bases, base: own } };
}

/** As in `x-ratelimit-*`. */
export interface QuotaMeter {
  limit: number;
  remaining: number;
  /** Until everything is available again without further requests, ms. */
  resetMs: number;
}

/** Limits of one key, or of all keys of its tenant together. */
export type LimitOf = 'key' | 'tenant';

/** `damaged`: the counter's state is unreadable, so it refuses everything until it is reset. */
export type QuotaReason = 'requests' | 'tokens' | 'concurrent' | 'day' | 'month' | 'damaged';

/** Which share of a budget of tokens was reached. */
export interface BudgetShare {
  period: 'day' | 'month';
  /** When its counter began to count this period, unix ms; a reset begins anew. */
  begun: number;
  limit: number;
  percent: (typeof BUDGET_SHARES)[number];
}

/** … and nobody was told yet. */
export interface ReachedShare extends BudgetShare {
  /** Tokens of the period. */
  used: number;
  /** Unix ms. */
  renewedAt: number;
}

export interface QuotaDecision {
  /** Null = admitted. */
  refused: { reason: QuotaReason; limit: number; retryAfterMs: number } | null;
  /** null = no such limit. */
  requests: QuotaMeter | null;
  tokens: QuotaMeter | null;
  reached: ReachedShare[];
}

/** What is left of a budget of tokens. */
export interface BudgetLeft {
  /** `damaged` as in {@link QuotaReason}; then nothing was counted. */
  reason: 'day' | 'month' | 'damaged';
  limit: number;
  left: number;
  renewedInMs: number;
}

export interface SpentBudget {
  least: BudgetLeft | null;
  reached: ReachedShare[];
}

/** A counter of a tenant, and the limits to apply. */
export interface AskedCounter {
  counter: string;
  limits: KeyLimits;
}

/**
 * Counts exactly, with one counter for each key with limits, and one for all keys of a tenant. Counters of one tenant are
 * asked together. Times are the caller's clock, unix ms; a counter's own time never goes back. Every method throws
 * StoreUnavailable.
 */
export interface Quotas {
  /**
   * If all limits of all counters allow it, counts a request in each, with a lease where its end matters; otherwise does
   * nothing.
   * @returns the counters' decisions in their order.
   */
  admit(
    tenant: string,
    ask: { asked: readonly AskedCounter[]; lease: string; at: number },
  ): Promise<QuotaDecision[]>;
  /**
   * Counts up to `count` requests in each counter, to be begun within `BLOCK_MS`; fewer if little is left. Nothing is told
   * of their ends.
   * @returns how many; 0 if a counter refuses.
   */
  take(
    tenant: string,
    ask: { asked: readonly AskedCounter[]; count: number; at: number },
  ): Promise<{ granted: number; decisions: QuotaDecision[] }>;
  /** Keeps the lease alive; one that a restart has forgotten is held again. */
  renew(tenant: string, ask: { counters: readonly string[]; lease: string; at: number }): Promise<void>;
  /**
   * Ends the lease and counts its tokens, also if a restart has forgotten the lease.
   * @param ask.again the first time may have been counted: then nothing is.
   * @returns of each counter in their order what was reached, until it is {@link told}.
   */
  settle(
    tenant: string,
    ask: { asked: readonly AskedCounter[]; lease: string; tokens: number; again: boolean; at: number },
  ): Promise<ReachedShare[][]>;
  /**
   * Counts tokens of a fine-tuning job, of which `from` are known to be counted, up to `total`. Repeating it counts
   * nothing.
   * @returns of each counter in their order the budget of which least is left, null without budgets; and what was reached.
   */
  spend(
    tenant: string,
    ask: { asked: readonly AskedCounter[]; job: string; from: number; total: number; at: number },
  ): Promise<SpentBudget[]>;
  /** These shares were told: counters no longer repeat them in this period. */
  told(tenant: string, shares: readonly (BudgetShare & { counter: string })[]): Promise<void>;
  /** Forgets all usage, even if it is unreadable. */
  reset(tenant: string, counter: string): Promise<void>;
  /** Forgets all counters of the tenant except these. */
  forget(tenant: string, { but }: { but: readonly string[] }): Promise<void>;
}

/** A caller, as far as limits need it. */
export interface LimitedCaller {
  keyId: string;
  tenant: string;
  limits?: KeyLimits | undefined;
  /** Key whose quota it shares; default: its own. */
  counter?: string | undefined;
  /** Limits of all of the tenant's keys together. */
  tenant_limits?: KeyLimits | undefined;
}

/** Tells those who want to know which budgets are nearly or wholly used. */
export interface BudgetAlerts {
  /** Never rejects. @param reached repeated until it was told. */
  tell(
    caller: Pick<LimitedCaller, 'tenant' | 'keyId'>,
    reached: readonly (ReachedShare & { of: LimitOf; counter: string })[],
  ): Promise<void>;
}

/** Limits of all of a tenant's keys together, in the system of record. */
export interface TenantLimitsRow extends Omit<TenantLimitsView, 'pending'> {
  /** Increases with each change. */
  revision: number;
  /** Keys up to this id have them in the hot path's index; null = all of them. */
  written_to: string | null;
}

/** System of record of tenants' limits; a key's row includes its tenant's. Throws StoreUnavailable. */
export interface TenantLimits {
  get(tenant: string): Promise<TenantLimitsRow | null>;
  /**
   * @param change.was revision as it was read; 0 = none existed.
   * @returns the row, with no keys written yet; null if it has changed since it was read.
   */
  set(
    change: Pick<TenantLimitsRow, 'tenant' | 'limits' | 'changed_at' | 'changed_by'> & { was: number },
  ): Promise<TenantLimitsRow | null>;
  /**
   * Notes that keys up to `written_to` are written. Does nothing if the limits have changed in the meantime.
   */
  wrote(row: Pick<TenantLimitsRow, 'tenant' | 'revision' | 'written_to'>): Promise<void>;
  /**
   * Tenants that have limits or unwritten keys, ordered by tenant.
   * @param params.cursor a tenant.
   */
  list(params: { cursor: string | null; limit: number }): Promise<Page<TenantLimitsRow>>;
  /** Those with unwritten keys. */
  unwritten(limit: number): Promise<TenantLimitsRow[]>;
}

/** One completion that has ended. */
export interface UsageEvent {
  keyId: string;
  tenant: string;
  /** As published; `base` = the base model. */
  name: string;
  /** 0 for the base model. */
  version: number;
  /** Whose price it has: the version's base, or the base model's own name here. */
  base: string;
  promptTokens: number;
  completionTokens: number;
  /** HTTP status; 499 if the client disconnected, 502 if the stream broke off. */
  status: number;
  /** Unix ms. */
  at: number;
  requestId: string;
}

export interface UsageSink {
  /**
   * Never throws or waits.
   * @param keepAlive lets the write continue after the response.
   */
  recordUsage(event: UsageEvent, keepAlive: (work: Promise<unknown>) => void): void;
}

export interface UsageCounts {
  requests: number;
  /** Requests that were refused or broke off. */
  errors: number;
  promptTokens: number;
  completionTokens: number;
}

/** Counts of one hour. */
export interface UsageRow extends UsageCounts {
  /** Hours since 1970, UTC. */
  hour: number;
  tenant: string;
  keyId: string;
  name: string;
  version: number;
  /** As in {@link UsageEvent}. */
  base: string;
}
const count = z.int().min(0);
export const UsageRow: z.ZodType<UsageRow> = z.object({
  ...{
    hour: count,
    tenant: z.string(),
    keyId: z.string(),
    name: z.string(),
    version: count,
    base: z.string(),
  },
  ...{ requests: count, errors: count, promptTokens: count, completionTokens: count },
});

export interface UsageSum extends UsageCounts {
  /** Key id, tenant, name, `name@version`, `2026-01-31` or `2026-01-31T07`. */
  group: string;
  /** As in {@link UsageEvent}. */
  base: string;
  /** The last hour with any counts, in hours since 1970. */
  lastHour: number;
}

/** Where the next page of a report begins. */
export interface UsagePlace {
  /** Which of the tables that the report is read from. */
  source: number;
  /** The last row that was read, by its primary key; or `[tenant, end of the time]`. null = at the table's beginning. */
  after: (string | number)[] | null;
}
export const UsagePlace: z.ZodType<UsagePlace> = z.object({
  source: z.int().min(0).max(2),
  after: z
    .tuple([z.string().max(64), count])
    .rest(z.union([z.string().max(512), count]))
    .nullable(),
});

/** System of record of usage. Throws StoreUnavailable. */
export interface UsageLedger {
  /**
   * Adds all rows or none.
   * @param batch.id a batch with a known id is not added again.
   */
  add(batch: { id: string; at: number; rows: readonly UsageRow[] }): Promise<void>;
  /**
   * Sums of one page of a report: `USAGE_PAGE_HOURS` rows at most. A group has a sum for each base, and can be in several
   * pages.
   * @param tenant null = all.
   * @param from first hour.
   * @param to exclusive.
   * @param place null = the first page.
   * @returns the place of the next page; null if there is none.
   */
  sum(params: {
    by: UsageGroup;
    tenant: string | null;
    from: number;
    to: number;
    place: UsagePlace | null;
  }): Promise<{ sums: UsageSum[]; next: UsagePlace | null }>;
  /** Of one published name, with its first hour; null = none. @param of.to exclusive. */
  ofName(of: {
    tenant: string;
    name: string;
    from: number;
    to: number;
  }): Promise<({ since: number } & Omit<UsageCounts, 'errors'>) | null>;
  /** Rows of a tenant. @param of.names only of these; null = of all. */
  rows(of: { tenant: string; names: readonly string[] | null }): Promise<number>;
  /**
   * Deletes some of these rows, and sums their days anew.
   * @param of.until last hour.
   * @returns how many; fewer than `limit` when those were all.
   */
  forget(of: {
    tenant: string;
    names: readonly string[] | null;
    until: number;
    limit: number;
  }): Promise<number>;
}

export interface TokenCounts {
  promptTokens: number;
  completionTokens: number;
}

/** Usage of a request whose client disconnected. */
export type LeftUsage =
  /** Reported by its origin. */
  | { exact: true; tokens: TokenCounts }
  /** Not reported by its origin: an upper bound. */
  | { exact: false; tokens: TokenCounts };

/**
 * How an origin's stream ended: `whole`; `told`: early, with the reason in its last event; `cut`: broken off
 * by the origin; `stalled`: it stopped sending; `gone`: the client disconnected.
 */
export type StreamEnd = 'whole' | 'told' | 'cut' | 'stalled' | 'gone';

/** Outcome of a stream. */
export interface StreamOutcome {
  how: StreamEnd;
  /** The origin's usage note; null if it did not arrive. */
  note: UsageNote | null;
  /** Data lines received: an upper bound of the answer's tokens if its end was not seen. */
  events: number;
  /** When the first token arrived, unix ms; null without one. */
  firstAt: number | null;
}

/** A completion once its origin has begun to respond, or never will. */
export interface MeteredAnswer {
  response: Response;
  /** The origin's note (`x-graft-usage`), unparsed. */
  note: string | null;
  /** For a stream: resolves when it has ended, with its outcome. */
  ended?: Promise<StreamOutcome> | null;
  /** The version that served it; null = nothing was resolved, so nothing is recorded. */
  served: { name: string; version: number; base: string } | null;
  /**
   * Cancels it at the origin when its client has disconnected; undefined if no origin was asked. Never
   * throws.
   */
  cancel?: () => Promise<LeftUsage>;
}

/** How a completion ended. */
export interface CompletionEnding extends Pick<UsageEvent, 'status' | 'promptTokens' | 'completionTokens'> {
  /** From the origin's note; null if it is missing or does not say. */
  finish: 'stop' | 'length' | null;
  /** When a stream's first token arrived, unix ms; null without one, or if it is not a stream. */
  firstAt: number | null;
  /** When it completed or the client disconnected, unix ms. */
  endedAt: number;
  /** The origin stopped sending in the middle of a stream. */
  stalled: boolean;
}

/** Checks a key's quota while a completion runs, and counts its usage. */
export interface CompletionMeter {
  /**
   * @param run does the work concurrently; its signal aborts if the client disconnects or the quota refuses.
   * @returns its response or the quota's refusal, never before the quota has answered.
   */
  measure(params: {
    caller: LimitedCaller;
    requestId: string;
    /** Aborts when the client disconnects. */
    gone: AbortSignal;
    keepAlive: (work: Promise<unknown>) => void;
    run: (signal: AbortSignal) => Promise<MeteredAnswer>;
    /**
     * Called once with the ending; before `measure` returns unless it is a stream; not if the quota refuses.
     */
    onEnd?: (ending: CompletionEnding) => void;
    /** Called if the quota refuses. */
    onRefused?: (error: ApiError) => void;
    /** Gets the question to the counters, of a caller with limits. */
    stages?: Stages;
  }): Promise<Response>;
}
