/** Limits of gathering what isolates count, with unit and reason. */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/**
 * Gatherers among which tenants are spread. Each is a transaction a minute for D1. There may be more of them later, but
 * not fewer: an erasure would not ask the others.
 */
export const GATHERER_SHARDS = 16;
/**
 * Rows of a tenant, of usage and of traffic, in one flush of an isolate, beyond which its further ones are spread over all
 * gatherers by key.
 */
export const LARGE_TENANT_ROWS = 100;
/**
 * Rows of a tenant that a gatherer takes in a minute, of usage and of traffic, beyond which isolates spread it too, each of
 * which may see few: some 500 requests a second, a tenth of a gatherer's time.
 */
export const LARGE_TENANT_MINUTE_ROWS = 60_000;
/**
 * How long an isolate spreads it. Its gatherer no longer sees all of it then, so it takes the whole again after that, and
 * says within seconds if it is still large.
 */
export const LARGE_TENANT_MS = 10 * MINUTE;
/** Delay before an isolate sends what it has counted: what is lost if the isolate dies. */
export const COUNT_FLUSH_MS = 2 * SECOND;
/** Attempts per batch and flush, with growing pauses; the next flush tries again. */
export const COUNT_TRIES = 4;
/** Rows of usage, and of traffic, per batch; some 200 bytes each. */
export const MAX_BATCH_ROWS = 2_000;
/** A gatherer that does not take a batch in this time is called again. */
export const GATHERER_TIMEOUT_MS = 5 * SECOND;
/** … and that does not write what it has to D1, find what it is asked for, or forget it. */
export const GATHERER_WRITE_TIMEOUT_MS = 25 * SECOND;
/** A gatherer stores what arrives within this time as one row, and then acknowledges it: a row is what is paid for. */
export const GATHERER_COMMIT_MS = SECOND;
/** Size of such a row, bytes; SQLite in a Durable Object takes 2 MB. */
export const GATHERED_ROW_BYTES = 1_000_000;
/** Least delay before a gatherer writes a batch. */
export const GATHERER_QUIET_MS = 2 * SECOND;
/** Least time between two writes of a gatherer to D1, and between two sums of its batches: usage appears that late. */
export const GATHERER_WRITE_MS = MINUTE;
/**
 * That pause follows a write of this many rows of usage. After fewer rows it is shorter, after more it is longer, in
 * proportion, because each row is paid for. So a million names, some of them in use each minute, are written once an
 * hour. All gatherers together write at most about three times a second.
 */
export const FULL_WRITE_ROWS = 100;
/** Least time between two writes because somebody asks for usage of all tenants, of which there are many rows. */
export const GATHERER_SHOW_MS = 10 * MINUTE;
/** Kept prompts wait this long in a gatherer for others: a transaction of D1 is what they share. */
export const PROMPT_WRITE_MS = 10 * SECOND;
/** Most that chance adds to either, so that gatherers do not write at the same time. */
export const GATHERER_SPREAD_MS = 5 * SECOND;
/** Delay before a write that D1 has rejected is repeated. */
export const GATHERER_RETRY_MS = 10 * SECOND;
/** Stored rows, and their bytes, that one transaction of D1 takes: after an outage there are many. */
export const WRITTEN_ROWS = 500;
export const WRITTEN_BYTES = 4_000_000;
/**
 * … and bytes that a gatherer sums up at once. Each sum writes a row for each of its tenants, so a minute should be one: it
 * has 8 MB at 700 requests a second, for which the gatherer takes 30 MB of memory.
 */
export const SUMMED_BYTES = 16_000_000;
/** Rows of a gatherer that are looked through at once, some 15 kB each. */
export const LOOKED_ROWS = 200;
/** Lists of isolates that are merged into one. */
export const SENDER_LISTS = 60;
/** Isolates in one row, some 60 bytes each. */
export const SENDERS_IN_ROW = 10_000;
/** How long a gatherer knows an isolate that has sent nothing: none repeats a batch later. */
export const SENDER_KEPT_MS = 24 * 60 * MINUTE;
