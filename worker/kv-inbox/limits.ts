/** Numbers of files put into KV, with unit and reason. */

const SECOND = 1_000;

/** Files dropped into KV that are taken in at most in one pass of the schedule: each is a trial at an origin. */
export const DROPS_PER_PASS = 20;
/** … and looked at: each is read whole, and an invocation may ask KV 1,000 times. */
export const DROP_READS_PER_PASS = 200;
/** Pages of 1,000 names that are listed of them in one pass. */
export const DROP_PAGES_PER_PASS = 100;
/** How often the schedule comes: each time a pass begins at another name. */
export const DROP_TURN_MS = 60 * SECOND;
/** Seconds that a dropped file read from KV may be old; 30 is the least that KV accepts. */
export const DROP_CACHE_TTL_S = 30;
/** A dropped file that has not arrived by then is left for later: 25 MiB out of cold storage. */
export const DROP_TIMEOUT_MS = 30 * SECOND;
/**
 * A dropped file is removed when it is seen unchanged this long after it was decided on: by then no read comes from
 * the cache of the first one (30 s), and a file put there meanwhile is not lost.
 */
export const DROP_SETTLE_MS = 45 * SECOND;
/** So long after its removal another location may still show a dropped file: KV's delay and cache, twice. */
export const DROP_STALE_MS = 180 * SECOND;
/**
 * Where requests by a name found no file, or none that could be taken, they do not look again for this long, only the
 * schedule does: as long as KV remembers an absence.
 */
export const DROP_QUIET_MS = 30 * SECOND;
/** Names of that memory. */
export const MAX_QUIET_DROPS = 10_000;
/** Pause while another request of this isolate takes the same file. */
export const DROP_POLL_MS = 50;
/** An intake that has not ended after this long is taken to be dead. */
export const DROP_STALL_MS = 60 * SECOND;

/**
 * Files of one name that are known at once. More than one, because KV may show an earlier file elsewhere when a later one
 * has been taken already; so many within the minutes that this can last are improbable.
 */
export const DROPS_REMEMBERED = 8;
