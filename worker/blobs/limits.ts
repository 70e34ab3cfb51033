/** Numbers of taking files in, keeping them and giving them up, with unit and reason. */

const SECOND = 1_000;
const MiB = 1024 * 1024;

/** What lies under its own hash never changes, so the longer the better: thirty days. */
export const BLOB_CACHE_TTL_S = 30 * 86_400;
/** A file's record changes when it is mended in other parts; it is read once an adapter that an origin misses. */
export const BLOB_RECORD_CACHE_TTL_S = 300;
/** What a record promises and KV does not have, or has damaged, is asked for once more: KV looks again when its copy is older. */
export const BLOB_RETRY_CACHE_TTL_S = 30;
/** The same for the beginning of a blob's part, which may lie in cold storage. */
export const BLOB_TIMEOUT_MS = 10 * SECOND;

/** Bytes of adapters that one request of a repair reads, and one file more: a second or two of its CPU. */
export const REPAIR_BLOB_BYTES = 64 * MiB;
/** Parts that one request of a repair looks for: each is a read, and a request has 1,000 of them. */
export const REPAIR_PARTS = 200;
/** Unused files that one request of a collection deals with. */
export const GARBAGE_PAGE = 20;
/** … and files that it looks at to find them, most of which are in use: rows of D1. */
export const GARBAGE_SCAN = 500;
/** Values that one request of a collection deletes: each is a write, and a request has 1,000 of them. */
export const GARBAGE_DELETIONS = 400;
/** The same for one run of the schedule, each minute, which has other jobs as well. */
export const SCHEDULED_DELETIONS = 100;
/** A file that no version uses and nobody touched for this long is marked as garbage. */
export const GARBAGE_MARK_MS = 24 * 3_600 * SECOND;
/**
 * A marked file is deleted after this time, the longest time that KV caches. Somebody who uploads it again then never
 * meets a cached absence.
 */
export const GARBAGE_COLLECT_MS = BLOB_CACHE_TTL_S * SECOND;
/** How long the parts of an unfinished upload are kept. Then it starts again. */
export const UPLOAD_KEPT_MS = 24 * 3_600 * SECOND;
/** … and are deleted a little later, so that an upload that is just being closed is not cut: reading 1 GB takes seconds. */
export const SURPLUS_KEPT_MS = UPLOAD_KEPT_MS + 3_600 * SECOND;
/** KV shows a write within a minute. A part still missing after this time is lost. */
export const PART_SETTLE_MS = 120 * SECOND;
/** Before a part that was not seen yet is looked for again: thrice before the client gives up, past the cache of absences. */
export const READ_BACK_RETRY_MS = 12 * SECOND;
/**
 * A file whose bytes were read back so lately is not read again: closing, trying and publishing it follow each other.
 * Twice KV's delay would hide what was lost meanwhile from who publishes it again to mend it.
 */
export const READ_BACK_FRESH_MS = 60 * SECOND;
/** Parts and checks in memory at once, in one isolate of 128 MB: three of the largest parts. */
export const HELD_BYTES = 72 * MiB;
/** The same of one tenant: two parts, as many as `graft publish` sends at once. */
export const TENANT_HELD_BYTES = 48 * MiB;
/** A check's share of it: a header of {@link MAX_CHECKED_HEADER_BYTES} as bytes, as text, parsed, and written again. */
export const CHECK_HELD_BYTES = 24 * MiB;
/** Requests that wait for room, of all and of one tenant; each is a few kilobytes. */
export const MAX_WAITING = 64;
export const MAX_WAITING_OF_TENANT = 16;
/** How long an upload waits for that memory before it gets `edge_busy`. */
export const MAX_ROOM_WAIT_MS = 30 * SECOND;
/** Pause before a waiting request looks again. */
export const ROOM_POLL_MS = 25;
/** Room of a request that has given no sign of life for this long is free: it was cut off. */
export const ROOM_STALE_MS = 60 * SECOND;
/** An upload from which nothing arrives for this long is given up: it takes up memory. */
export const PART_STALL_MS = 20 * SECOND;
/** Longest time for one part: 40 kB/s for the largest. */
export const PART_DEADLINE_MS = 600 * SECOND;
/** Header of a canonical file. 16,384 tensors and their modules need 3 MB. */
export const MAX_CHECKED_HEADER_BYTES = 4 * MiB;
