/** Ports of what is counted: quotas of keys, and who used what. One contract suite a port (test/contracts). */
import { z } from 'zod';
import type { KeyLimits } from '../../protocol/admin-api/keys.ts';
import type { TenantLimitsView, UsageGroup } from '../../protocol/admin-api/tenants.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import { BaseId } from '../../protocol/identity.ts';
import type { UsageNote } from '../../protocol/origin-wire.ts';
import type { Page } from '../platform/ports.ts';

/** Of a million tokens, in the list's currency. */
const price = z.number().min(0).max(1e6);
const Prices = z.strictObject({ prompt: price, completion: price });

/** Variable `PRICES`: what tokens cost, for the reports of usage alone; nothing is charged by it. */
export const PriceList = Prices.extend({
  /** ISO 4217, such as `USD`. */
  currency: z.string().regex(/^[A-Z]{3}$/, 'must be three capital letters, such as USD'),
  /** Of these bases; of all others what stands above. */
  bases: z.record(BaseId, Prices).default({}),
});
export type PriceList = z.infer<typeof PriceList>;

/** @param defaultBase what `base` means in usage; null = unknown. @returns the list that has a price for that word. */
export function withDefaultBase(prices: PriceList, defaultBase: string | null): PriceList {
  const own = defaultBase === null ? undefined : prices.bases[defaultBase];
  return own === undefined ? prices : { ...prices, bases: { ...prices.bases, base: own } };
}

/** As `x-ratelimit-*` say it. */
export interface QuotaMeter {
  limit: number;
  remaining: number;
  /** Until everything is free again if nobody asks any more, ms. */
  resetMs: number;
}

/** Whose limits: those of one key, or those of all keys of its tenant together. */
export type LimitOf = 'key' | 'tenant';

/** `damaged`: the counter cannot read what was used, and lets nothing pass until it is reset. */
export type QuotaReason = 'requests' | 'tokens' | 'concurrent' | 'day' | 'month' | 'damaged';

export interface QuotaDecision {
  /** Why not; null = go on. */
  refused: { reason: QuotaReason; limit: number; retryAfterMs: number } | null;
  /** null = without such a limit. */
  requests: QuotaMeter | null;
  tokens: QuotaMeter | null;
}

/**
 * Counts exactly, one counter a key or tenant that has limits. Times are the asker's clock, unix ms; a counter's own time never goes back.
 * Every method throws StoreUnavailable.
 */
export interface Quotas {
  /** Counts one request and holds a lease for it when every limit allows it, and does nothing otherwise. */
  admit(counter: string, ask: { limits: KeyLimits; lease: string; at: number }): Promise<QuotaDecision>;
  /** Takes an admission back, as if nobody had asked. */
  undo(counter: string, ask: { lease: string; at: number }): Promise<void>;
  /** Still under way. */
  renew(counter: string, ask: { lease: string; at: number }): Promise<void>;
  /** Ends the lease and counts its tokens. A repeat counts nothing. */
  settle(counter: string, ask: { lease: string; tokens: number; at: number }): Promise<void>;
  /** Forgets all that was used, also what cannot be read. */
  reset(counter: string): Promise<void>;
}

/** Who asks, as far as limits matter. */
export interface LimitedCaller {
  keyId: string;
  tenant: string;
  limits?: KeyLimits | undefined;
  /** Whose quota it counts against; the key's own unless given. */
  counter?: string | undefined;
  /** Of all keys of the tenant together. */
  tenant_limits?: KeyLimits | undefined;
}

/** What all keys of a tenant may use together, as the system of record has it. */
export interface TenantLimitsRow extends Omit<TenantLimitsView, 'pending'> {
  /** Grows with each change. */
  revision: number;
  /** Keys up to this id have them in the index that the hot path reads; null = all have. */
  written_to: string | null;
}

/** System of record of tenants' limits; a key's row brings its tenant's with it. Throws StoreUnavailable. */
export interface TenantLimits {
  get(tenant: string): Promise<TenantLimitsRow | null>;
  /**
   * @param change.was revision of what was read; 0 = nothing was there.
   * @returns the row, of which no key has been written; null when it has changed since it was read.
   */
  set(
    change: Pick<TenantLimitsRow, 'tenant' | 'limits' | 'changed_at' | 'changed_by'> & { was: number },
  ): Promise<TenantLimitsRow | null>;
  /** Keys were written up to `written_to`; nothing happens when the limits were changed meanwhile. */
  wrote(row: Pick<TenantLimitsRow, 'tenant' | 'revision' | 'written_to'>): Promise<void>;
  /** Those that have limits, or of which not every key was written, by tenant. @param params.cursor a tenant. */
  list(params: { cursor: string | null; limit: number }): Promise<Page<TenantLimitsRow>>;
  /** Those of which not every key was written. */
  unwritten(limit: number): Promise<TenantLimitsRow[]>;
}

/** One completion, when it has ended. */
export interface UsageEvent {
  keyId: string;
  tenant: string;
  /** As published; `base` for the base model. */
  name: string;
  /** 0 for the base model. */
  version: number;
  promptTokens: number;
  completionTokens: number;
  /** HTTP status; 499 when the client left, 502 when the stream broke off. */
  status: number;
  /** Unix ms. */
  at: number;
  requestId: string;
}

export interface UsageSink {
  /** Never throws and never waits. @param keepAlive lets the writing go on after the response. */
  recordUsage(event: UsageEvent, keepAlive: (work: Promise<unknown>) => void): void;
}

export interface UsageCounts {
  requests: number;
  /** Requests that were refused or broke off. */
  errors: number;
  promptTokens: number;
  completionTokens: number;
}

/** Of one hour. */
export interface UsageRow extends UsageCounts {
  /** Hours since 1970, UTC. */
  hour: number;
  tenant: string;
  keyId: string;
  name: string;
  version: number;
}

export interface UsageSum extends UsageCounts {
  /** Key id, tenant, name, `name@version`, `2026-01-31` or `2026-01-31T07`. */
  group: string;
  /** The last one that counts anything, in hours since 1970. */
  lastHour: number;
}

/** System of record of usage. Throws StoreUnavailable. */
export interface UsageLedger {
  /** Adds all rows or none. @param batch.id a batch that was added already is not added again. */
  add(batch: { id: string; at: number; rows: readonly UsageRow[] }): Promise<void>;
  /**
   * By tokens, most first; days and hours in their order.
   * @param tenant null = all. @param name as published; all unless given. @param from first hour. @param to first hour that does not count any more.
   */
  sum(params: {
    by: UsageGroup;
    tenant: string | null;
    name?: string;
    from: number;
    to: number;
    limit: number;
  }): Promise<UsageSum[]>;
  /** @returns what the same groups cost, in the list's currency: by the base of each version, as far as it is known. */
  costs(
    params: Omit<Parameters<UsageLedger['sum']>[0], 'name'> & { prices: PriceList },
  ): Promise<ReadonlyMap<string, number>>;
}

export interface TokenCounts {
  promptTokens: number;
  completionTokens: number;
}

/** What a request used whose client left it. */
export type LeftUsage =
  /** As its origin says. */
  | { exact: true; tokens: TokenCounts }
  /** Its origin does not say: the most that it can have been. */
  | { exact: false; tokens: TokenCounts };

/**
 * How a stream of an origin came to its end: `whole`; `told`: early, and the origin said why in its last event; `cut`:
 * the origin broke off, or stopped before its end; `stalled`: it fell silent; `gone`: nobody reads it any more.
 */
export type StreamEnd = 'whole' | 'told' | 'cut' | 'stalled' | 'gone';

/** What a stream came to. */
export interface StreamOutcome {
  how: StreamEnd;
  /** The origin's note of usage; null when it did not come. */
  note: UsageNote | null;
  /** Lines of data that went by: an upper bound of the answer's tokens when its end was never seen. */
  events: number;
  /** When the first token went by, unix ms; null when none did. */
  firstAt: number | null;
}

/** What a completion's route has when the origin has begun to answer, or when it never will. */
export interface MeteredAnswer {
  response: Response;
  /** The origin's note (`x-graft-usage`), as it came. */
  note: string | null;
  /** Of a stream: how it ended, when it has. */
  ended?: Promise<StreamOutcome> | null;
  /** What served; null = nothing was resolved, and nothing is recorded. */
  served: { name: string; version: number } | null;
  /** Ends it where it runs, when its client has left; absent when no origin was asked to run it. Never throws. */
  cancel?: () => Promise<LeftUsage>;
}

/** How a completion ended. */
export interface CompletionEnding extends Pick<UsageEvent, 'status' | 'promptTokens' | 'completionTokens'> {
  /** As the origin's note says it; null when it does not, or was never seen. */
  finish: 'stop' | 'length' | null;
  /** When the first token of a stream went by, unix ms; null for what is no stream, or never began. */
  firstAt: number | null;
  /** When it came to its end or was left, unix ms. */
  endedAt: number;
  /** The origin fell silent in the middle of a stream. */
  stalled: boolean;
}

/** Asks a key's quota beside a completion, and counts what it used. */
export interface CompletionMeter {
  /**
   * @param run does the work meanwhile; its signal aborts when the client leaves or the quota says no.
   * @returns its response, or the quota's refusal in its place; not before the quota has answered.
   */
  measure(params: {
    caller: LimitedCaller;
    requestId: string;
    /** Aborts when the client has gone. */
    gone: AbortSignal;
    keepAlive: (work: Promise<unknown>) => void;
    run: (signal: AbortSignal) => Promise<MeteredAnswer>;
    /** Hears how it ended, once, before `measure` returns when it is not a stream; not when the quota refuses. */
    onEnd?: (ending: CompletionEnding) => void;
    /** Hears of the quota's refusal. */
    onRefused?: (error: ApiError) => void;
  }): Promise<Response>;
}
