/**
 * Limits that several rooms of the edge share, with unit and reason; each room has its own in its `limits.ts`.
 * Those shared with other parts are in protocol/limits.ts.
 */

const SECOND = 1_000;

/** How old a name or key read from KV may be. KV accepts no less. */
export const POINTER_CACHE_TTL_S = 30;
/**
 * How long the cache of a location (the Cache API) repeats a name or key that KV had:
 * {@link DELAYS_OF_CHANGES_MS} together stay below a minute.
 */
export const LOCATION_CACHE_MS = 20 * SECOND;
/** A location's cache that takes longer has nothing, and KV is asked. */
export const LOCATION_CACHE_TIMEOUT_MS = 0.1 * SECOND;
/** A KV read that takes longer counts as failed. The slowest hundredth of cold reads takes about 0.35 s. */
export const KV_TIMEOUT_MS = 2 * SECOND;
/** How long a name or key stays usable while KV does not answer. The longest known outage of KV took 3 h. */
export const LAST_KNOWN_GOOD_MS = 24 * 3_600 * SECOND;
/** Lifetime of a tombstone, seconds: longer than any isolate remembers the value, plus an hour. */
export const GONE_MARK_TTL_S = LAST_KNOWN_GOOD_MS / SECOND + 3_600;
/** Entries of each of these caches: names, keys, grants, experiments. A usual name takes about 1 kB. */
export const LAST_KNOWN_GOOD_ENTRIES = 10_000;
/**
 * Bytes that all of them may take together, as they are weighed. An isolate of 128 MB then has 36 MB with the app
 * (bench/LOG.md, what an isolate remembers).
 */
export const CACHED_BYTES = 48 * 1024 * 1024;
/**
 * A name or key that was found is not read again for this long. KV's own cache (`cacheTtl`) is 30 s, so others'
 * writes appear at most 3 % later; this isolate's own appear at once.
 */
export const SHORT_MEMORY_MS = 1 * SECOND;
/** KV accepts one write per second and key; a pointer is rewritten after this pause. */
export const KV_WRITE_PAUSE_MS = 1_100;
export const KV_WRITE_TRIES = 4;
/** When a revoked key or grant, or a changed name, is seen everywhere: what the docs call "about a minute". */
export const SEEN_EVERYWHERE_MS = 60 * SECOND;
/**
 * What lies between a change in D1 and the last request that does not see it, one after the other, ms. A test adds it
 * up; what is added in front of KV is added here.
 */
export const DELAYS_OF_CHANGES_MS = {
  /** KV refuses all tries but the last. */
  writing: (KV_WRITE_TRIES - 1) * KV_WRITE_PAUSE_MS,
  kvCache: POINTER_CACHE_TTL_S * SECOND,
  /** A read that began before KV's copy expired. */
  reading: KV_TIMEOUT_MS,
  locationCache: LOCATION_CACHE_MS,
  askingLocationCache: LOCATION_CACHE_TIMEOUT_MS,
  memory: SHORT_MEMORY_MS,
};
/** Entries that one repair request compares; each may be a read and a write, and a request has 1,000 of them. */
export const REPAIR_PAGE = 48;
export const RETRY_AFTER_MS = 2 * SECOND;

/** A refused request's body up to this size, bytes, is read to its end, so that its connection can be reused. */
export const MAX_DRAINED_BYTES = 64 * 1024;
/**
 * Keys, and tenants' grants, that KV lacks and D1 is asked about, each per second and isolate. D1 answers about
 * 1,000 queries a second; made-up keys get at most this many.
 */
export const DATABASE_FALLBACKS_PER_SECOND = 50;
export const ADMIN_PAGE = 1_000;

/**
 * A job of the schedule that takes longer goes on behind the others, so that an origin that hangs or is busy, or a long
 * trial, holds up none of them. Most take milliseconds; the cron trigger comes each minute.
 */
export const SCHEDULED_JOB_MS = 20 * SECOND;

/** Longest time for one request. OpenAI’s clients give up after ten minutes. */
export const REQUEST_BUDGET_MS = 600 * SECOND;
