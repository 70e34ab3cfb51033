/** Limits of model lists and of suggestions for missing names, with unit and reason. */

/** Models in one answer of `GET /v1/models`. */
export const MAX_LISTED_MODELS = 1_000;
/** Reads per response of `GET /v1/models`; a list continues there if they found less than a page. */
export const MAX_LIST_READS = 3;
/**
 * Tenants with overlapping grants whose names appear in lists and suggestions. Names of others work too, but are not
 * listed.
 */
export const MAX_OVERLAPPING_GIVERS = 3;
/** Names that a missing one is compared with, per place where the intended one may be. */
export const SUGGESTION_CANDIDATES = 64;
/** Names suggested in place of a missing one. */
export const MAX_SUGGESTIONS = 3;
/** Missing names of one key that get suggestions, per second and isolate: nobody mistypes faster. */
export const SUGGESTIONS_PER_SECOND = 2;
/** Keys counted for that; each takes 60 bytes, and is forgotten after its second. */
export const MAX_SUGGESTED_KEYS = 10_000;
/**
 * Context of a base that no origin has described. Charged for an abandoned request whose usage is unknown.
 */
export const UNKNOWN_CONTEXT_TOKENS = 8_192;
/** Characters of a missing name in the list of requests: enough to see what was meant. */
export const MAX_UNKNOWN_NAME = 100;
