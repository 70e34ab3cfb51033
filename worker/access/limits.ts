/** Limits of keys and grants, and rate limits of callers, with unit and reason. */

const SECOND = 1_000;

/** Grants that one tenant, or everybody, holds. They are one value in KV of at most 170 kB. */
export const MAX_GRANTS = 500;
/**
 * Grants that one tenant holds from another, so that nobody can fill up somebody else’s list. A whole room needs one.
 */
export const MAX_GRANTS_FROM_ONE = 32;
/** Grants that one tenant gives, in all. */
export const MAX_GRANTS_GIVEN = 2_000;
/** Tenants whose grants one tenant refuses. They are stored in the same value. */
export const MAX_REFUSALS = 500;

/**
 * Admin reads of one tenant in one isolate. D1 answers about 1,000 queries a second for everybody, and an admin
 * request needs two to eight. A tenant gets a fifth of them, enough for the console and for scripts.
 */
export const ADMIN_READS = { perSecond: 50, burst: 200, atOnce: 16 };
/** Admin changes of one tenant in one isolate. */
export const ADMIN_CHANGES = { perSecond: 20, burst: 200, atOnce: 16 };
/** Reads, and changes, of the bootstrap key: 2,000 names can be published without a pause. */
export const OPERATOR_REQUESTS = { perSecond: 200, burst: 2_000, atOnce: 64 };
/** All admin keys that an isolate does not know yet, together. Made-up keys get no more of D1 than this. */
export const UNKNOWN_ADMIN_KEYS = { perSecond: 50, burst: 200, atOnce: 64 };
/** Reads of `/v1/models` by one tenant in one isolate. A page takes up to five queries to D1. */
export const MODEL_READS = { perSecond: 50, burst: 200, atOnce: 16 };
/** Tokens and downloads for browsers by one tenant in one isolate: three to five queries to D1, and the bytes. */
export const DOWNLOADS = { perSecond: 50, burst: 200, atOnce: 16 };
/**
 * Requests of pages that publish, by one tenant in one isolate. Six parts of pages hold half of
 * the memory that the tenant's uploads may have: its own publications go on beside them.
 */
export const PAGE_PUBLICATIONS = { perSecond: 20, burst: 100, atOnce: 6 };
/** The same with one publish token: a page that sends slowly leaves room for the tenant's others. */
export const PAGE_TOKEN_REQUESTS = { perSecond: 5, burst: 40, atOnce: 2 };
/** Requests about files of rows and fine-tuning jobs by one tenant in one isolate: one to four queries to D1. */
export const TRAINING_REQUESTS = { perSecond: 20, burst: 100, atOnce: 8 };
/** Feedback of one tenant in one isolate. It asks a Durable Object, which takes about 1,000 requests a second. */
export const FEEDBACK_REQUESTS = { perSecond: 200, burst: 1_000, atOnce: 64 };
/**
 * Rejected completions of one tenant in one isolate, counted by what they cost: each takes the isolate’s only thread
 * about 2 ms, a missing name or 64 kB of body as much again. A tenant beyond it waits. Successful requests cost
 * nothing.
 */
// In units of `refusalCost`.
export const REFUSED_COMPLETIONS = { perSecond: 100, burst: 400 };
/** A completion’s body from this size on is read only after its key is checked. */
export const LARGE_BODY_BYTES = 64 * 1024;
/** Such bodies of one tenant in one isolate: 4 MB of its 128, and as much again when parsed. */
// A prompt of 16,000 tokens is about as large.
export const LARGE_BODIES = { perSecond: 20, burst: 8, atOnce: 4 };
/**
 * Requests of one tenant that add adapters, while their names are looked up. Each asks KV and D1 up to seven times.
 */
// A lookup takes some milliseconds, so sixteen at a time are a thousand a second.
export const COMPOSED_REQUESTS = { perSecond: 200, burst: 200, atOnce: 16 };
/** Tenants or keys that a gate remembers, about 200 bytes each. */
export const GATE_ENTRIES = 10_000;
/**
 * A running request that has not reported its end stops counting after this time. The platform ends abandoned
 * work after 30 s without notice, and the check of an adapter takes up to 60.
 */
export const GATE_PLACE_MS = 60 * SECOND;
/** When a caller with too many concurrent requests should retry: admin requests take 10 ms to a second. */
export const GATE_AT_ONCE_RETRY_MS = 1 * SECOND;

/**
 * Shortest time that an admin key stays valid after a tenant’s own key replaced it, so that its owner can still revoke
 * both.
 */
export const MIN_SELF_GRACE_MS = 3_600 * SECOND;
/** Keys that one request revokes in KV; each is a call of a Durable Object, and a request may make 1,000. */
export const REVOKED_PAGE = 200;
/**
 * Keys and grants that one scheduled run writes because their request could not: each is a call of a Durable Object
 * too …
 */
export const STALE_RIGHTS_PER_RUN = 200;
/** … and this many are made concurrently: an isolate has six connections. */
export const STALE_RIGHTS_AT_ONCE = 6;
/**
 * Keys created by a revoked one that its revocation lists; the others can be revoked without being listed.
 */
export const MAX_MADE_LISTED = 100;
