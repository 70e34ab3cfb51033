/** Numbers of lists of models and what missing names are answered with, with unit and reason. */

/** Models in one answer of `GET /v1/models`. */
export const MAX_LISTED_MODELS = 1_000;
/** Reads of one answer of `GET /v1/models`; a list goes on where they found less than a page. */
export const MAX_LIST_READS = 3;
/**
 * Tenants with overlapping grants whose names appear in lists and suggestions. Names of others work too, but are not
 * listed.
 */
export const MAX_OVERLAPPING_GIVERS = 3;
/** Names compared with a missing one: so many of each place where one may lie. And names told. */
export const SUGGESTION_CANDIDATES = 64;
/** Names suggested in place of a missing one. */
export const MAX_SUGGESTIONS = 3;
/** Missing names of one key that are answered with suggestions, each second and isolate: people mistype no faster. */
export const SUGGESTIONS_PER_SECOND = 2;
/** Keys of that count; each is 60 bytes, and is forgotten with its second. */
export const MAX_SUGGESTED_KEYS = 10_000;
/** Context of a base that no origin has told us of; counted for a left request that nobody knows anything of. */
export const UNKNOWN_CONTEXT_TOKENS = 8_192;
/** Characters of a name that does not exist, in the list of requests: enough to see what was meant. */
export const MAX_UNKNOWN_NAME = 100;
