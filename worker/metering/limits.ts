/** Limits for metering requests, tokens and usage, with unit and reason. */
import { REQUEST_BUDGET_MS } from '../limits.ts';

const SECOND = 1_000;

/** A counter writes what has changed this long after the first change: what a restart forgets, and a row a second at most. */
export const QUOTA_WRITE_MS = 1 * SECOND;
/**
 * Where all limits of a caller are on requests, and above this many a minute, an isolate takes several requests from the
 * counter at once. Up to it the counter admits each by itself, to the last one.
 */
export const BLOCKS_ABOVE_RPM = 600;
/** Requests that it takes at once, at most: a tenth of the calls. */
export const BLOCK_REQUESTS = 10;
/** They begin within this time. Those that an isolate has not used by then are lost, and count. */
export const BLOCK_MS = 1 * SECOND;
/** Of a tenant's counters, those that changed last are written in one row. They have some kB each, a row at most 2 MB. */
export const RECENT_COUNTERS = 100;
/** A running request that gives no sign of life for this long stops counting as concurrent. */
export const LEASE_MS = 60 * SECOND;
/** … and its lease is renewed this often: three renewals can be lost. */
export const LEASE_RENEW_MS = 15 * SECOND;
/** An expired lease is remembered for this long, so that tokens reported late are counted, once. */
export const LEASE_KEPT_MS = REQUEST_BUDGET_MS;
/**
 * A counter remembers how many tokens of a fine-tuning job it has counted for this long, so that they are counted once
 * though its answer is lost. The job knows it afterwards.
 */
export const JOB_TOKENS_KEPT_MS = 86_400 * SECOND;
/** … and of this many jobs, 60 bytes each. */
export const MAX_COUNTED_JOBS = 200;
/** Shares of a budget of tokens that webhooks are told of when they are reached, percent. */
export const BUDGET_SHARES = [80, 100] as const;
/** A counter that does not answer in this time is treated as out of order: `on_outage` decides. */
export const QUOTA_TIMEOUT_MS = 2 * SECOND;
/** A key that exceeded its quota gets the same answer for this long without asking its counter. */
export const REFUSAL_MEMORY_MS = 1 * SECOND;
/** A key with a damaged counter need not retry soon: the operator has to reset it. */
export const DAMAGED_QUOTA_RETRY_MS = 60 * SECOND;
/**
 * Pages of a tenant's keys that one scheduled run writes after a change: each key takes a write and a read of
 * 1,000.
 */
export const TENANT_LIMIT_PAGES = 8;
/** Attempts to change a tenant's limits while others change them too. */
export const LIMITS_TRIES = 4;
/** D1 knows what a gatherer has written for this long; none repeats a write later. */
export const USAGE_BATCH_MEMORY_MS = 86_400 * SECOND;
/** Rows of usage by the hour that one answer of `GET /admin/usage` sums: some 20 ms of CPU in D1. */
export const USAGE_PAGE_HOURS = 5_000;
/** … and sums of days, which it reads for reports by tenant or day. */
export const USAGE_PAGE_DAYS = 20_000;
/** … and tenants, of which most may have used nothing in that time. */
export const USAGE_PAGE_TENANTS = 3_000;
