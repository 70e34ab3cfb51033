/** Limits of uploading, keeping and deleting files, with unit and reason. */

const SECOND = 1_000;
const MiB = 1024 * 1024;

/** Content-addressed data never changes, so the longest time: thirty days. */
export const BLOB_CACHE_TTL_S = 30 * 86_400;
/**
 * A file's record changes when it is repaired with other parts; it is read once per adapter that an origin
 * lacks.
 */
export const BLOB_RECORD_CACHE_TTL_S = 300;
/**
 * A part that a record promises, but KV lacks or has corrupted, is requested once more: KV then refreshes older
 * copies.
 */
export const BLOB_RETRY_CACHE_TTL_S = 30;
/** The same for the beginning of a blob's part, which may be in cold storage. */
export const BLOB_TIMEOUT_MS = 10 * SECOND;

/** Bytes of adapters that one repair request reads, plus one file: a second or two of its CPU. */
export const REPAIR_BLOB_BYTES = 64 * MiB;
/** Parts that one repair request looks up: each is a read, and a request has 1,000 of them. */
export const REPAIR_PARTS = 200;
/** Unused files per collection request … */
export const GARBAGE_PAGE = 20;
/** … and files scanned to find them, most of which are in use: rows of D1. */
export const GARBAGE_SCAN = 500;
/** Values that one collection request deletes: each is a write, and a request has 1,000 of them. */
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
/**
 * … and are deleted a little later, so that an upload being completed is not interrupted: reading 1 GB takes
 * seconds.
 */
export const SURPLUS_KEPT_MS = UPLOAD_KEPT_MS + 3_600 * SECOND;
/** KV shows a write within a minute. A part still missing after this time is lost. */
export const PART_SETTLE_MS = 120 * SECOND;
/**
 * Pause before a part that is not visible yet is looked up again: three times before the client gives up,
 * bypassing the negative cache.
 */
export const READ_BACK_RETRY_MS = 12 * SECOND;
/**
 * A file whose bytes were verified this recently is not read again: completing, testing and publishing it
 * follow each other. Twice KV's delay would hide recent losses from a tenant that publishes it again to repair
 * it.
 */
export const READ_BACK_FRESH_MS = 60 * SECOND;
/** Parts and checks in memory at once, in one isolate of 128 MB: three of the largest parts. */
// With all caches full the app takes 36 MB (bench/LOG.md, what an isolate remembers).
export const HELD_BYTES = 72 * MiB;
/** The same of one tenant: two parts, as many as `graft publish` sends at once. */
// The third part is another tenant's.
export const TENANT_HELD_BYTES = 48 * MiB;
/**
 * A check's share of it: a header of {@link MAX_CHECKED_HEADER_BYTES} as bytes, as text, parsed, and rewritten.
 */
export const CHECK_HELD_BYTES = 24 * MiB;
/** Requests that wait for memory, in total and per tenant; each takes a few kilobytes. */
export const MAX_WAITING = 64;
export const MAX_WAITING_OF_TENANT = 16;
/** How long an upload waits for that memory before it gets `edge_busy`. */
// As long as one part takes on a slow line.
export const MAX_ROOM_WAIT_MS = 30 * SECOND;
/** Pause before a waiting request checks again. */
export const ROOM_POLL_MS = 25;
/** Memory of a request that has been silent for this long is free: it was cut off. */
export const ROOM_STALE_MS = 60 * SECOND;
/** An upload from which nothing arrives for this long is given up: it takes up memory. */
export const PART_STALL_MS = 20 * SECOND;
/** Longest time for one part: 40 kB/s for the largest. */
export const PART_DEADLINE_MS = 600 * SECOND;
/** Header of a canonical file. 16,384 tensors and their modules need 3 MB. */
export const MAX_CHECKED_HEADER_BYTES = 4 * MiB;
