/** Limits of erasing, with unit and reason. */

const SECOND = 1_000;

/**
 * Names per request: each is a call of the pointer writer and two deletions in KV, and a request has 1,000 of
 * them.
 */
export const ERASED_NAMES = 50;
/** Keys per request: each is a call of the pointer writer. */
export const ERASED_KEYS = 50;
/** Keys that were created during the erasure of their tenant, and whose limits go on from what they have counted. */
export const KEPT_COUNTERS = 100;
/** Experiments per request: each is nine Durable Objects and a write to KV. */
export const ERASED_EXPERIMENTS = 20;
/** Files per request, and values deleted for them. */
export const ERASED_FILES = 20;
export const ERASED_VALUES = 400;
/** Fine-tuning jobs per request. */
export const ERASED_JOBS = 100;
/** Files of rows per request: each is up to eight values. */
export const ERASED_ROW_FILES = 20;
/** In parallel: an isolate has six connections at once. */
export const ERASED_AT_ONCE = 6;
/** Steps of traffic that one statement looks up: 400 searches of an index. */
export const TRAFFIC_WINDOW_STEPS = 400;
/** Rows of usage and of history per request. */
export const ERASED_ROWS = 2_000;
/** Names whose traces each gatherer forgets in one walk through all that it has. */
export const ERASED_TRACES = 2_000;
/** Tenants whose grants one request rewrites. */
export const ERASED_HOLDERS = 50;
/** Blocking items named in a refusal. */
export const MAX_IN_THE_WAY = 10;
/** The schedule continues an erasure after this silence: its caller has gone … */
export const ABANDONED_MS = 120 * SECOND;
/** … and asks origins that did not answer again after this time. */
export const WAITING_MS = 60 * SECOND;
/** Pages per run of the schedule, which has other jobs as well. */
export const SCHEDULED_PAGES = 5;
