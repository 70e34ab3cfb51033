/** Numbers of asking origins, with unit and reason. */

const SECOND = 1_000;
const MiB = 1024 * 1024;
/** An origin that has not begun to answer after this time is asked for a sign of life. Streams begin within 3 s. */
export const HEADERS_PATIENCE_MS = 5 * SECOND;
/** Time for that sign. */
export const PULSE_MS = 5 * SECOND;
/** Origins that may fall silent under one request before it gets `origin_stopped`. */
export const MAX_SILENCED_ORIGINS = 2;
/** How long that request is then kept from the other origins. */
// Long enough for somebody to look, short enough for a request that was only unlucky.
export const SILENCE_MEMORY_MS = 5 * 60 * SECOND;
/** Such requests that an isolate remembers, about 200 bytes each; the oldest is forgotten. */
export const MAX_SILENCING_REQUESTS = 1_000;
/** How long a failed origin is left alone, doubled with each further failure. A restart takes seconds. */
export const EJECT_MS = 1 * SECOND;
/** Longest such pause, so that a recovered origin is found. */
export const MAX_EJECT_MS = 30 * SECOND;
/** How long an origin is left alone that rejects the edge’s signature. Its operator must fix keys, id or clock. */
export const SIGNATURE_EJECT_MS = 30 * SECOND;
/**
 * What an origin said of others' load counts for this long, and less and less: rows run for seconds, and those who send
 * them go on. At 2 s a crowd's isolates took origins of which they had not heard for idle (bench/LOG.md, a fleet in
 * virtual time).
 */
export const LOAD_ANSWER_FRESH_MS = 20 * SECOND;
/** Rows of an origin that has not said how many it has; the origin's own default. */
export const UNKNOWN_SLOTS = 16;
/**
 * Origins of one pool that may say that a request is too large for them before it is taken to be too large for all: each
 * has read its prompt.
 */
export const MAX_TOO_SMALL = 3;
/** A stream that moves nothing for this long is not counted as load: it was cut off here, with all its timers. */
export const ORIGIN_LEASE_MS = 60 * SECOND;
/**
 * A request is given up here this much later than its origin is told to end it: the origin's own word about a deadline
 * then comes first, and an origin that keeps its deadline is not taken for one that is lost.
 */
export const DEADLINE_GRACE_MS = 5 * SECOND;
/** How long a request waits for its adapters to reach an origin. */
export const LOAD_BUDGET_MS = 60 * SECOND;
/** Pause while another request of this isolate sends the same adapter. */
export const LOAD_POLL_MS = 25;
/** A transfer that has not moved a part for this long is taken to be dead. */
export const TRANSFER_STALL_MS = 30 * SECOND;
/** Longest single wait that an origin can ask of us. */
export const MAX_LOAD_WAIT_MS = 2 * SECOND;
/** How old an origin’s description may be. Then the edge asks whether it serves another base. */
export const BASE_INFO_TTL_MS = 60 * SECOND;
/** Time for an origin to answer what needs no model. */
export const ORIGIN_QUESTION_MS = 5 * SECOND;
/** Time for an origin to try an adapter. Cloudflare allows 100 s in front of an origin. */
// A trial is a few prefills of a short prompt, behind whatever the origin is doing.
export const ORIGIN_VERIFY_MS = 60 * SECOND;
/** Description or list of an origin, bytes: 1,000 modules or 10,000 adapters. */
export const MAX_ORIGIN_ANSWER_BYTES = 4 * MiB;
/** So often a stream is looked at, whether anything moves in it (protocol's STREAM_STALL_MS). */
export const STREAM_STALL_CHECK_MS = 2_500;
/**
 * What a client's connection takes at once though nothing gets through to it, bytes: Linux' smallest send buffer
 * (tcp_wmem's default).
 */
export const CONNECTION_BYTES = 16 * 1024;
/** A stream that the client does not read at all for this long has lost its client. */
export const UNREAD_MS = 5 * SECOND;
/**
 * A cancellation that an origin did not answer is sent once more after this pause. Both together fit the 30 s that work
 * after a response has.
 */
export const CANCEL_RETRY_MS = 1 * SECOND;
/** Time for an origin to load a pinned chain. */
// The origin reads the chain from its disk, or the edge brings it first.
export const PIN_TIMEOUT_MS = 60 * SECOND;
/**
 * Chains that origins are asked to pin in one round, of all pins and origins: an invocation may ask for 1,000 things, and
 * the schedule's other jobs want some of them. What an origin says that it has is not asked for again.
 */
export const MAX_PIN_QUESTIONS = 200;
/**
 * After a new version goes live, time for the origins that hold the old one to load it. Cloudflare allows 30 s after
 * the response.
 */
export const FOLLOW_TIMEOUT_MS = 25 * SECOND;
/** How long an origin may take to give one part of a file back: 24 MiB at a megabyte a second. */
export const ORIGIN_FILE_MS = 25 * SECOND;
/** Share of an origin’s rows above which shadow requests are skipped. */
export const SHADOW_MAX_FILL = 0.5;
/** Demand for a name is averaged over this time: long enough to tell, short enough for a crowd to be met in half a minute. */
export const DEMAND_WINDOW_MS = 10 * SECOND;
/**
 * Share of an origin’s rows that one name may take before it gets another origin. More fills origins unevenly; less
 * fills memories with copies.
 */
// Measured in virtual time: bench/LOG.md, the fleet.
export const REPLICA_FILL = 0.25;
/** An origin is given up when the rest would have no more than this share of what they may have … */
export const REPLICA_SHRINK_FILL = 0.7;
/** An origin that a name needs no longer is given up after this time. */
// Bringing an adapter costs more than keeping one that nobody requests.
export const REPLICA_SHRINK_AFTER_MS = 60 * SECOND;
/** Requests of the window below which an isolate cannot tell a hot name from chance: 6 are known to two fifths. */
export const MIN_DEMAND_SEEN = 6;
/** An isolate takes its own requests for no less than one in so many of all; Cloudflare runs a few in each place. */
export const MAX_SHARE_FACTOR = 100;
/** How long a request is taken to hold a row before one has ended: 64 tokens at 30 ms. */
export const USUAL_HELD_MS = 2 * SECOND;
/** Names whose demand an isolate follows, about 500 bytes each; the least recently asked for is forgotten. */
export const MAX_FOLLOWED_NAMES = 2_000;
/** What an origin showed to have in memory counts for this long: it may have let go of it since. */
export const RESIDENT_FRESH_MS = 120 * SECOND;
/** An origin that could not load a replica is not asked to again for this long. */
export const REPLICA_RETRY_MS = 10 * SECOND;

/** How long an origin’s load is kept, minute by minute. */
// A day, with a margin for charts.
export const ORIGIN_HISTORY_KEPT_S = 26 * 3_600;
/** Names of resident adapters in one answer of `GET /admin/origins`. */
export const MAX_RESIDENT_NAMES = 2_000;

/** An origin that has not dropped a hundred adapters in this time, which is some deletions on its disk, is asked again later. */
export const DROP_TIMEOUT_MS = 10 * SECOND;
