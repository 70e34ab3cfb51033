/** Numbers of asking origins, with unit and reason. */

const SECOND = 1_000;
const MiB = 1024 * 1024;
/** An origin that has not begun to answer for this long is asked for a sign of life; streams begin within 3 s. */
export const HEADERS_PATIENCE_MS = 5 * SECOND;
/** … and this long again for the sign. Its event loop stops for no longer than one step of the model. */
export const PULSE_MS = 5 * SECOND;
/** A request under which so many origins fell silent is what stops them: it is sent to no other one … */
export const MAX_SILENCED_ORIGINS = 2;
/** … for this long: long enough for somebody to look, short enough for a request that was only unlucky. */
export const SILENCE_MEMORY_MS = 5 * 60 * SECOND;
/** Such requests that an isolate remembers, about 200 bytes each; the oldest is forgotten. */
export const MAX_SILENCING_REQUESTS = 1_000;
/** An origin that failed is left alone for this long, and twice as long each further time: a restart takes seconds. */
export const EJECT_MS = 1 * SECOND;
/** … but never longer, so that one that is back is found. */
export const MAX_EJECT_MS = 30 * SECOND;
/** One that refuses our signature needs its operator: its keys, its id or its clock. */
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
/** How long one request waits for its adapters to reach an origin before it is told to come back. */
export const LOAD_BUDGET_MS = 60 * SECOND;
/** Pause while another request of this isolate sends the same adapter. */
export const LOAD_POLL_MS = 25;
/** A transfer that has not moved a part for this long is taken to be dead. */
export const TRANSFER_STALL_MS = 30 * SECOND;
/** Longest single wait that an origin can ask of us. */
export const MAX_LOAD_WAIT_MS = 2 * SECOND;
/** An origin's description is asked for again after this time, so that a restart with another base is noticed. */
export const BASE_INFO_TTL_MS = 60 * SECOND;
/** Questions to an origin that need no model: what it is, what it holds. */
export const ORIGIN_QUESTION_MS = 5 * SECOND;
/**
 * How long one origin may take to try an adapter: some prefills of a short prompt, behind whatever it is doing. An
 * origin behind Cloudflare has 100 s to answer.
 */
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
/** Before so much was passed on, a stream of which nothing is taken for this long has lost its client. */
export const UNREAD_MS = 5 * SECOND;
/**
 * A cancellation that an origin did not answer is sent once more after this pause. Both together fit the 30 s that work
 * after a response has.
 */
export const CANCEL_RETRY_MS = 1 * SECOND;
/** How long an origin may take to load a pinned chain, which it has to read from its disk; and to be brought it. */
export const PIN_TIMEOUT_MS = 60 * SECOND;
/**
 * Chains that origins are asked to pin in one round, of all pins and origins: an invocation may ask for 1,000 things, and
 * the schedule's other jobs want some of them. What an origin says that it has is not asked for again.
 */
export const MAX_PIN_QUESTIONS = 200;
/**
 * How long the origins that hold what was live may take to load what is live now, after the answer: what is left behind
 * by a request has 30 s.
 */
export const FOLLOW_TIMEOUT_MS = 25 * SECOND;
/** How long an origin may take to give one part of a file back: 24 MiB at a megabyte a second. */
export const ORIGIN_FILE_MS = 25 * SECOND;
/** Share of its rows that an origin may have taken before shadow requests are left out. */
export const SHADOW_MAX_FILL = 0.5;
/** Demand for a name is averaged over this time: long enough to tell, short enough for a crowd to be met in half a minute. */
export const DEMAND_WINDOW_MS = 10 * SECOND;
/**
 * Share of an origin's rows that one name may take before it gets another origin. More fills origins unevenly, less
 * fills memories with copies (bench/LOG.md, a fleet in virtual time).
 */
export const REPLICA_FILL = 0.25;
/** An origin is given up when the rest would have no more than this share of what they may have … */
export const REPLICA_SHRINK_FILL = 0.7;
/** … for this long. Bringing an adapter costs more than keeping one that nobody asks for. */
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

/** How long minutes of origins are kept, seconds: a day, with a margin for charts. */
export const ORIGIN_HISTORY_KEPT_S = 26 * 3_600;
/** Names of what origins hold, in one answer. */
export const MAX_RESIDENT_NAMES = 2_000;

/** An origin that has not dropped a hundred adapters in this time, which is some deletions on its disk, is asked again later. */
export const DROP_TIMEOUT_MS = 10 * SECOND;
