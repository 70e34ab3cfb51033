/** Numbers of keys, grants and who asks how often, with unit and reason. */

const SECOND = 1_000;

/** Grants of one tenant, or of everybody: one value in KV of at most 170 kB. */
export const MAX_GRANTS = 500;
/** … of which so many come from one giver, so that nobody fills another's up; a room needs one. */
export const MAX_GRANTS_FROM_ONE = 32;
/** Grants that one giver gives, to all. */
export const MAX_GRANTS_GIVEN = 2_000;
/** Givers that a tenant refuses; they stand in the same value of KV. */
export const MAX_REFUSALS = 500;

/**
 * Requests of one tenant to one isolate, of each kind apart. D1 answers some 1,000 questions a second for everybody, and
 * an admin request asks it two to eight: a tenant gets a fifth of them in each isolate, and those of the command line, the
 * dashboard (about ten to open a view) and scripts that publish name by name fit.
 */
export const ADMIN_READS = { perSecond: 50, burst: 200, atOnce: 16 };
export const ADMIN_CHANGES = { perSecond: 20, burst: 200, atOnce: 16 };
/** The bootstrap key's, reads and changes apart: 2,000 names can be published without a pause. */
export const OPERATOR_REQUESTS = { perSecond: 200, burst: 2_000, atOnce: 64 };
/** Admin keys that an isolate has not seen to be good, together: made-up ones get no more than this of D1. */
export const UNKNOWN_ADMIN_KEYS = { perSecond: 50, burst: 200, atOnce: 64 };
/** A page of `/v1/models` is up to five questions to D1; clients ask when they start. */
export const MODEL_READS = { perSecond: 50, burst: 200, atOnce: 16 };
/** Chains and parts for browsers: three to five questions to D1, and the bytes. */
export const DOWNLOADS = { perSecond: 50, burst: 200, atOnce: 16 };
/** Feedback asks no D1 but a Durable Object, which takes about 1,000 requests a second. */
export const FEEDBACK_REQUESTS = { perSecond: 200, burst: 1_000, atOnce: 64 };
/**
 * Refused completions of one tenant in one isolate, in units of `refusalCost`: each takes the isolate's one thread some
 * 2 ms, a missing name and 64 kB of a body about as much again. Beyond it a tenant waits at the door; requests that are
 * answered cost nothing.
 */
export const REFUSED_COMPLETIONS = { perSecond: 100, burst: 400 };
/** A completion's body from this size on, bytes, is read only when its key is known, and of a tenant so many at once: */
export const LARGE_BODY_BYTES = 64 * 1024;
/** 4 MB of an isolate's 128, and as much again when they are parsed. Prompts of 16,000 tokens are about as large. */
export const LARGE_BODIES = { perSecond: 20, burst: 8, atOnce: 4 };
/**
 * Requests that add adapters, while their names are looked up: each asks KV and D1 up to seven times. What is found takes
 * some milliseconds, so that sixteen at a time are a thousand a second.
 */
export const COMPOSED_REQUESTS = { perSecond: 200, burst: 200, atOnce: 16 };
/** Tenants, or keys, that a gate remembers, each about 200 bytes. */
export const GATE_ENTRIES = 10_000;
/**
 * A request under way that has not said that it ended does not count any more: the platform ends what a client leaves
 * behind 30 s later without a word, and a check of an adapter takes up to 60.
 */
export const GATE_PLACE_MS = 60 * SECOND;
/** When one who has everything under way that it may have should ask again: admin requests take 10 ms to a second. */
export const GATE_AT_ONCE_RETRY_MS = 1 * SECOND;

/** Shortest time that an admin key stays good which a tenant's key replaces, ms: its owner can still revoke both. */
export const MIN_SELF_GRACE_MS = 3_600 * SECOND;
/** Keys that one request ends in KV; each is a call of a Durable Object, of which a request has 1,000. */
export const REVOKED_PAGE = 200;
/** Keys told that a revoked one has made: all of them can be revoked unseen. */
export const MAX_MADE_LISTED = 100;
