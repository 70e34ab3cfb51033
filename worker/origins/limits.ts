/** Limits of calls to origins, with unit and reason. */

const SECOND = 1_000;
const MiB = 1024 * 1024;
/** An origin that has not started to respond after this time gets a probe. Streams start within 3 s. */
export const HEADERS_PATIENCE_MS = 5 * SECOND;
/** Time to answer the probe. */
export const PULSE_MS = 5 * SECOND;
/** Origins that may stop responding during one request before it gets `origin_stopped`. */
export const MAX_SILENCED_ORIGINS = 2;
/** How long that request is then kept from the other origins. */
// Long enough for somebody to look, short enough for a request that was only unlucky.
export const SILENCE_MEMORY_MS = 5 * 60 * SECOND;
/** Such requests remembered by an isolate, about 200 bytes each; the oldest is forgotten. */
export const MAX_SILENCING_REQUESTS = 1_000;
/** Pause for a failed origin, doubled with each further failure. A restart takes seconds. */
export const EJECT_MS = 1 * SECOND;
/** Longest such pause, so that a recovered origin is found. */
export const MAX_EJECT_MS = 30 * SECOND;
/** Pause for an origin that rejects the edge’s signature. Its operator must fix keys, id or clock. */
export const SIGNATURE_EJECT_MS = 30 * SECOND;
/**
 * An origin's report of others' load counts for this long, and less and less: rows run for seconds, and their
 * senders continue. With 2 s, a crowd's isolates took origins without a recent report for idle (bench/LOG.md,
 * a fleet in virtual time).
 */
export const LOAD_ANSWER_FRESH_MS = 20 * SECOND;
/** Rows of an origin that has not reported them; an origin's default. */
export const UNKNOWN_SLOTS = 16;
/**
 * Origins of one pool that may report a request as too large for them before it counts as too large for all:
 * each has read its prompt.
 */
export const MAX_TOO_SMALL = 3;
/**
 * A stream without progress for this long does not count as load: it was cut off here, with all its timers.
 */
export const ORIGIN_LEASE_MS = 60 * SECOND;
/**
 * The edge gives up on a request this much later than the origin's deadline, so that the origin's own error
 * arrives first, and an origin that keeps its deadline does not count as lost.
 */
export const DEADLINE_GRACE_MS = 5 * SECOND;
/** How long a request waits for its adapters to reach an origin. */
export const LOAD_BUDGET_MS = 60 * SECOND;
/** Pause while another request of this isolate sends the same adapter. */
export const LOAD_POLL_MS = 25;
/** A transfer that has not sent a part for this long counts as dead. */
export const TRANSFER_STALL_MS = 30 * SECOND;
/** Slowest way to an origin on which a part may still arrive, bytes a ms: 24 MiB in four minutes. */
export const SLOWEST_TRANSFER = 100;
/** Longest single wait that an origin can request. */
export const MAX_LOAD_WAIT_MS = 2 * SECOND;
/** How old an origin’s description may be. Then the edge asks whether it serves another base. */
export const BASE_INFO_TTL_MS = 60 * SECOND;
/** Time for an origin to answer what needs no model. */
export const ORIGIN_QUESTION_MS = 5 * SECOND;
/** Time for an origin to try an adapter. Cloudflare allows 100 s in front of an origin. */
// A trial is a few prefills of a short prompt, behind whatever the origin is doing.
export const ORIGIN_VERIFY_MS = 60 * SECOND;
/** Size of an origin's description or list, bytes: 1,000 modules or 10,000 adapters. */
export const MAX_ORIGIN_ANSWER_BYTES = 4 * MiB;
/**
 * Bytes of a whole answer that the edge reads before it sends a status: until then another origin can be asked. 8,000
 * tokens of text are 32 KiB; the rest of a longer answer is passed on as it comes.
 */
export const HELD_ANSWER_BYTES = 256 * 1024;
/** How often a stream is checked for progress (protocol's STREAM_STALL_MS). */
export const STREAM_STALL_CHECK_MS = 2_500;
/**
 * Bytes that a client's connection accepts even if nothing reaches it: Linux' smallest send buffer
 * (tcp_wmem's default).
 */
export const CONNECTION_BYTES = 16 * 1024;
/** A stream that the client does not read at all for this long has lost its client. */
export const UNREAD_MS = 5 * SECOND;
/**
 * A cancellation without an answer is resent once after this pause. Both attempts fit the 30 s of work after
 * a response.
 */
export const CANCEL_RETRY_MS = 1 * SECOND;
/** Time for an origin to load a pinned chain. */
// The origin reads the chain from its disk, or the edge copies it first.
export const PIN_TIMEOUT_MS = 60 * SECOND;
/**
 * Time of the schedule in which origins are asked to load pinned chains, one after the other; those that are left have
 * their turn a minute later. Releasing the others takes up to {@link ORIGIN_QUESTION_MS} more.
 */
export const PINS_LOADED_MS = 15 * SECOND;
/**
 * Chains that origins are asked to pin in one round, over all pins and origins: an invocation may make 1,000
 * calls, and the schedule's other jobs need some of them. Chains that an origin reports as pinned are not
 * requested again.
 */
export const MAX_PIN_QUESTIONS = 200;
/**
 * After a new version goes live, time for the origins that hold the old one to load it. Cloudflare allows 30 s after
 * the response.
 */
export const FOLLOW_TIMEOUT_MS = 25 * SECOND;
/** Time for an origin to return one part of a file: 24 MiB at a megabyte a second. */
export const ORIGIN_FILE_MS = 25 * SECOND;
/** Share of an origin’s rows above which shadow requests are skipped. */
export const SHADOW_MAX_FILL = 0.5;
/**
 * Share of an origin’s rows that one name may take before it gets another origin. More fills origins unevenly; less
 * fills memories with copies.
 */
// Measured in virtual time: bench/LOG.md, the fleet.
export const REPLICA_FILL = 0.25;
/** A name no longer needs an origin if the rest would use at most this share of their limit. */
export const REPLICA_SHRINK_FILL = 0.7;
/** An origin that a name no longer needs is released after this time. */
// Copying an adapter costs more than keeping one that nobody requests.
export const REPLICA_SHRINK_AFTER_MS = 60 * SECOND;
/**
 * Requests in the window below which an isolate cannot tell a hot name from chance: 6 are accurate to two
 * fifths.
 */
export const MIN_DEMAND_SEEN = 6;
/**
 * Upper bound of the ratio of all requests to an isolate's own; Cloudflare runs a few isolates in each place.
 */
export const MAX_SHARE_FACTOR = 100;
/** Crowded origins that may turn one request away; then the next one queues it. */
// A second one finds room where the first one's word for its peers was old (bench/LOG.md, many isolates).
export const MAX_TURNED_AWAY = 2;
/** Names whose demand an isolate tracks, about 500 bytes each; the least recently requested is forgotten. */
export const MAX_FOLLOWED_NAMES = 2_000;
/** An adapter seen in an origin's memory counts as there for this long: it may have been evicted since. */
export const RESIDENT_FRESH_MS = 120 * SECOND;
/** An origin that could not load a replica is not asked again for this long. */
export const REPLICA_RETRY_MS = 10 * SECOND;

/** How long an origin’s load is kept, minute by minute. */
// A day, with a margin for charts.
export const ORIGIN_HISTORY_KEPT_S = 26 * 3_600;
/** Names of resident adapters in one response of `GET /admin/origins`. */
export const MAX_RESIDENT_NAMES = 2_000;

/**
 * Time for an origin to drop a hundred adapters, which are deletions on its disk; then it is asked again
 * later.
 */
export const DROP_TIMEOUT_MS = 10 * SECOND;
/** Longest time of a call about a fine-tuning job, and of one with bytes. An origin's deletions have one together. */
export const JOB_CALL_MS = 10 * SECOND;
export const JOB_BYTES_MS = 60 * SECOND;
