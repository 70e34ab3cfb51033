/** Limits of the KV inbox, with unit and reason. */

const SECOND = 1_000;

/** Files dropped into KV that one run of the scheduler publishes. Each is tried by an origin. */
export const DROPS_PER_PASS = 20;
/** … and files read: each is read whole, and an invocation may ask KV 1,000 times. */
export const DROP_READS_PER_PASS = 200;
/** Pages of 1,000 names listed per pass. */
export const DROP_PAGES_PER_PASS = 100;
/** Interval of the schedule: each pass starts at another name. */
export const DROP_TURN_MS = 60 * SECOND;
/** How old a dropped file read from KV may be. KV accepts no less. */
export const DROP_CACHE_TTL_S = 30;
/** A file that has not arrived by then is left for later: 25 MiB from cold storage. */
export const DROP_TIMEOUT_MS = 30 * SECOND;
/**
 * A published or rejected drop is deleted after this time if it has not changed, so that a newer file under the same
 * key is not lost.
 */
// By then no read comes from the 30 s cache of the first one.
export const DROP_SETTLE_MS = 45 * SECOND;
/** How long other locations may still show a deleted drop. */
// KV's delay and cache, twice.
export const DROP_STALE_MS = 180 * SECOND;
/**
 * After finding no acceptable file, requests for a name do not look again for this long, only the schedule
 * does: as long as KV caches an absence.
 */
export const DROP_QUIET_MS = 30 * SECOND;
/** Names in that cache. */
export const MAX_QUIET_DROPS = 10_000;
/** Pause while another request of this isolate processes the same file. */
export const DROP_POLL_MS = 50;
/** An intake that has not ended after this long counts as dead. */
export const DROP_STALL_MS = 60 * SECOND;

/**
 * Files of one name that are known at once. More than one, because KV may show an earlier file elsewhere when a later one
 * has been taken already; so many within the minutes that this can last are improbable.
 */
export const DROPS_REMEMBERED = 8;
