/** Limits of kept prompts, with unit and reason. */

const SECOND = 1_000;

/** Newest prompts kept of one tenant, as many as its list of requests has; those that a preference names go last. */
export const MAX_KEPT_PROMPTS = 1_000;
/** Encrypted prompts of one tenant, together. D1 holds 10 GB for all tenants. */
export const MAX_KEPT_BYTES = 16 * 1024 * 1024;
/** Of both, what prompts that a preference names may take before newer ones: others must be kept, to be decided. */
export const DECIDED_SHARE = 0.5;
/**
 * Of a stream's line, characters: a token with its 20 likeliest alternatives is about 5 kB; longer ones repeat
 * the request.
 */
export const MAX_HEARD_LINE = 64 * 1024;
/** Of an answer that is not a stream, bytes: it is parsed when it is complete. */
export const MAX_HEARD_BYTES = 256 * 1024;
/** An isolate sends them this long after the first: what is lost if it dies. */
export const PROMPT_FLUSH_MS = 2 * SECOND;
/** Attempts per batch, with growing pauses. */
export const PROMPT_TRIES = 3;
/** Requests per write, each at most 130 kB. */
export const PROMPT_BATCH = 20;
/** Requests that wait in an isolate; beyond that the oldest are dropped, with a log line. */
export const MAX_UNSENT_PROMPTS = 100;
/** Rows that one run of the schedule deletes. */
export const PRUNED_PROMPTS = 1_000;
