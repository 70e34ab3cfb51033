/** Limits of erasing, with unit and reason. */

const SECOND = 1_000;

/**
 * External calls after which a request ends, some 40 ms of CPU with those of D1, KV and Durable Objects; its last page may
 * make some more. So an erasure takes many short requests, and no long one from others.
 */
export const ERASE_CALLS = 20;
/** … and a run of the schedule, which has other jobs as well, and 1,000 calls in all. */
export const SCHEDULED_CALLS = 300;
/** Names per page: each is a call of the pointer writer and two deletions in KV. */
export const ERASED_NAMES = 5;
/** Names of others that are written to KV without what is erased, per page; there are rarely any. */
export const ERASED_POINTERS = 50;
/** Keys per page: each is a call of the pointer writer. */
export const ERASED_KEYS = 10;
/** Keys that were created during the erasure of their tenant, and whose limits go on from what they have counted. */
export const KEPT_COUNTERS = 100;
/** Experiments per page: each is nine Durable Objects and a write to KV. */
export const ERASED_EXPERIMENTS = 2;
/** Files per page, and values deleted for them. */
export const ERASED_FILES = 4;
export const ERASED_VALUES = 40;
/** Fine-tuning jobs per page. */
export const ERASED_JOBS = 100;
/** Files of rows per page: each is up to eight values. */
export const ERASED_ROW_FILES = 2;
/** In parallel: an isolate has six connections at once. */
export const ERASED_AT_ONCE = 6;
/** Steps of traffic that one statement looks up: 400 searches of an index. */
export const TRAFFIC_WINDOW_STEPS = 400;
/** Rows of usage and of history per page. */
export const ERASED_ROWS = 2_000;
/** Names whose traces each gatherer forgets in one walk through all that it has. */
export const ERASED_TRACES = 2_000;
/** Tenants whose grants one page rewrites. */
export const ERASED_HOLDERS = 10;
/** Blocking items named in a refusal. */
export const MAX_IN_THE_WAY = 10;
/** The schedule continues an erasure after this silence: its caller has gone … */
export const ABANDONED_MS = 120 * SECOND;
/** … and asks origins that did not answer again after this time. */
export const WAITING_MS = 60 * SECOND;
