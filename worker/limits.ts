/** Every number of the edge, with its unit and reason. Limits that other parts share are in protocol/limits.ts. */

const SECOND = 1_000;
const MiB = 1024 * 1024;

/** Seconds that a name or key read from KV may be old; 30 is the least that KV accepts. */
export const POINTER_CACHE_TTL_S = 30;
/** Blobs never change, so the longer the better: thirty days. */
export const BLOB_CACHE_TTL_S = 30 * 86_400;
/** A part that its record promises and KV does not have is asked for once more, past the negative cache. */
export const BLOB_RETRY_CACHE_TTL_S = 30;
/** A KV read that takes longer is treated as failed; the slowest hundredth of cold reads takes about 0.35 s. */
export const KV_TIMEOUT_MS = 2 * SECOND;
/** The same for the beginning of a blob's part, which may lie in cold storage. */
export const BLOB_TIMEOUT_MS = 10 * SECOND;
/** A name or key stays usable this long after KV last confirmed it; the longest KV outage known took 3 h. */
export const LAST_KNOWN_GOOD_MS = 24 * 3_600 * SECOND;
/** Entries of that memory, each about 1 kB, in an isolate of 128 MB. */
export const LAST_KNOWN_GOOD_ENTRIES = 10_000;
/**
 * A name or key that was found is not read again for this long. KV's own cache (`cacheTtl`) is 30 s, so what others
 * write shows at most 3 % later; what this isolate writes shows at once.
 */
export const SHORT_MEMORY_MS = 1 * SECOND;
/** KV takes one write a second a key; a pointer is written again after this pause. */
export const KV_WRITE_PAUSE_MS = 1_100;
export const KV_WRITE_TRIES = 4;

/** OpenAI's clients wait ten minutes by default; nobody reads what comes later. */
export const REQUEST_BUDGET_MS = 600 * SECOND;
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
export const RETRY_AFTER_MS = 2 * SECOND;

/** A refused request's body up to this size, bytes, is read to its end, so that its connection can go on. */
export const MAX_DRAINED_BYTES = 64 * 1024;
/** Body of an admin request, bytes. */
export const MAX_ADMIN_BODY_BYTES = 64 * 1024;
/** Body of `POST /admin/evaluate`, bytes: 64 rows of 8 kB. */
export const MAX_EVALUATION_BODY_BYTES = 512 * 1024;
/**
 * Largest canonical file that publishing reads as a whole to check it: three parts. An isolate has 128 MB. Rank 64
 * on all linears of an 1B model in bfloat16.
 */
export const MAX_CHECKED_BYTES = 72 * MiB;

export const MAX_LISTED_MODELS = 1_000;
export const ADMIN_PAGE = 1_000;
/** The same file may be published under any number of names. */
export const MAX_VERSIONS_OF_FILE = 100;
/** Names compared with a missing one, and names told. */
export const SUGGESTION_CANDIDATES = 200;
export const MAX_SUGGESTIONS = 3;
/** D1 binds at most 100 values to a query, and a scope takes three. */
export const MAX_SCOPES = 24;
