/** Numbers of prompts that are kept, with unit and reason. */

const SECOND = 1_000;

/** Newest prompts kept of one tenant, as many as its list of requests has. */
export const MAX_KEPT_PROMPTS = 1_000;
/** Encrypted prompts of one tenant, together. D1 holds 10 GB for all tenants. */
export const MAX_KEPT_BYTES = 16 * 1024 * 1024;
/** Of a line of a stream, characters: a token with its 20 likeliest others is about 5 kB; what is longer repeats the request. */
export const MAX_HEARD_LINE = 64 * 1024;
/** Of an answer that is no stream, bytes: it is read when it is whole. */
export const MAX_HEARD_BYTES = 256 * 1024;
/** An isolate writes what it has this long after the first of it; longer would not fit the 30 s after a response. */
export const PROMPT_FLUSH_MS = 5 * SECOND;
/** A batch is tried so often, with a growing pause. */
export const PROMPT_TRIES = 3;
/** Requests of one write, each at most 130 kB. */
export const PROMPT_BATCH = 20;
/** Requests that wait in an isolate; then the oldest are given up, and said so. */
export const MAX_UNSENT_PROMPTS = 100;
/** Rows that one run of the schedule takes away. */
export const PRUNED_PROMPTS = 1_000;
