/** Limits of names, versions and their pointers, with unit and reason. */

const SECOND = 1_000;

/** Between two writes of one pointer: KV takes one write a second per key, and silently loses others. */
export const POINTER_INTERVAL_MS = 1_000;
/** One write of a pointer, with its pauses: the interval and at most three of KV's. */
export const POINTER_WRITE_TIMEOUT_MS = 8 * SECOND;
/** A pointer's write waits for at most one before it. */
export const POINTER_TIMEOUT_MS = 2 * POINTER_WRITE_TIMEOUT_MS;
/** A pointer that could not be written is retried after this time, doubled with each failure … */
export const POINTER_RETRY_MS = 5 * SECOND;
/** … but never longer. */
export const MAX_POINTER_RETRY_MS = 600 * SECOND;

/** A write that failed may land until then; a record is written once more after it. */
export const LATE_WRITE_MS = 60 * SECOND;

/** Default number of changes in a response of `GET /admin/history`. */
export const HISTORY_PAGE = 100;
/** For a change that tolerates concurrent changes of the name, such as a publication without `expect`. */
export const MAX_TRIES = 4;
/** Children listed in the error when they prevent retiring a version. */
export const MAX_DEPENDENTS_TOLD = 10;
/** Names and versions that one removal takes. They are one transaction of D1, which ends after 30 s. */
// Two statements each.
export const MAX_REMOVED_AT_ONCE = 100;
/** Removed versions that one scheduled run forgets. Rows of D1; most runs find none. */
export const FORGOTTEN_PER_RUN = 100;

/** How long an isolate remembers that a name does not exist. */
// As long as KV may go on reporting the absence. Until then a name that inherits costs one D1 query per isolate.
export const NEGATIVE_CACHE_MS = 30 * SECOND;
/**
 * Versions of one file in a response of `GET /admin/versions`. A file may be published under any number of
 * names.
 */
export const MAX_VERSIONS_OF_FILE = 100;
/** Versions of a chain on one base that are searched for its proof. */
export const MAX_PROOFS_READ = 10;
/** Others' pointers that the request that retires a version writes itself; the schedule writes the rest … */
export const STALE_POINTERS_OF_RETIREMENT = 16;
/** … this many per run: each is a call of the pointer writer, and an invocation may make 1,000 … */
export const STALE_POINTERS_PER_RUN = 200;
/** … and this many concurrently: an isolate has six connections. */
export const STALE_POINTERS_AT_ONCE = 6;
