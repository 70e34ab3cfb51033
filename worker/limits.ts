/** Every number of the edge, with its unit and reason. Limits that other parts share are in protocol/limits.ts. */

const SECOND = 1_000;
const MiB = 1024 * 1024;

/** Seconds that a name or key read from KV may be old; 30 is the least that KV accepts. */
export const POINTER_CACHE_TTL_S = 30;
/** What lies under its own hash never changes, so the longer the better: thirty days. */
export const BLOB_CACHE_TTL_S = 30 * 86_400;
/** A file's record changes when it is mended in other parts; it is read once an adapter that an origin misses. */
export const BLOB_RECORD_CACHE_TTL_S = 300;
/** What a record promises and KV does not have, or has damaged, is asked for once more: KV looks again when its copy is older. */
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

/** Between two writes of one pointer: KV takes one a second a key, and loses the others without a word. */
export const POINTER_INTERVAL_MS = 1_000;
/** One write of a pointer, with its pauses: the interval and at most three of KV's. */
export const POINTER_WRITE_TIMEOUT_MS = 8 * SECOND;
/** A pointer's write waits for at most one before it. */
export const POINTER_TIMEOUT_MS = 2 * POINTER_WRITE_TIMEOUT_MS;
/** A pointer that could not be written is tried again after this time, and twice as long each further time … */
export const POINTER_RETRY_MS = 5 * SECOND;
/** … but never longer. */
export const MAX_POINTER_RETRY_MS = 600 * SECOND;

/** Changes of one answer of `GET /admin/history`, unless it is asked for fewer. */
export const HISTORY_PAGE = 100;
export const MAX_HISTORY_PAGE = 1_000;
/** Children named when a version cannot be retired because of them. */
export const MAX_DEPENDENTS_TOLD = 10;
/** Entries that one request of a repair compares; each may be a read and a write, and a request has 1,000 of them. */
export const REPAIR_PAGE = 48;

/** OpenAI's clients wait ten minutes by default; nobody reads what comes later. */
export const REQUEST_BUDGET_MS = 600 * SECOND;
/** An origin that has not begun to answer for this long is asked for a sign of life; streams begin within 3 s. */
export const HEADERS_PATIENCE_MS = 5 * SECOND;
/** … and this long again for the sign. Its event loop stops for no longer than one step of the model. */
export const PULSE_MS = 5 * SECOND;
/** An origin that failed is left alone for this long, and twice as long each further time: a restart takes seconds. */
export const EJECT_MS = 1 * SECOND;
/** … but never longer, so that one that is back is found. */
export const MAX_EJECT_MS = 30 * SECOND;
/** One that refuses our signature needs its operator: its keys, its id or its clock. */
export const SIGNATURE_EJECT_MS = 30 * SECOND;
/** What an origin said of its load counts for this long; rows run for seconds. */
export const LOAD_ANSWER_FRESH_MS = 2 * SECOND;
/** Rows of an origin that has not said how many it has; the origin's own default. */
export const UNKNOWN_SLOTS = 16;
/** A stream that moves nothing for this long is not counted as load: it was cut off here, with all its timers. */
export const ORIGIN_LEASE_MS = 60 * SECOND;
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
 * How long an isolate believes the system of record that a name does not exist; as long as KV may go on saying so.
 * Until then a name that inherits costs one question to D1 in this time and isolate.
 */
export const ABSENCE_MEMORY_MS = 30 * SECOND;
/**
 * Keys, and tenants' grants, that KV does not have and the system of record is asked about, each a second and isolate. D1
 * answers about 1,000 questions a second; made-up keys get no more than this of them.
 */
export const SECOND_OPINIONS_PER_SECOND = 50;
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
/** 8 MB of an isolate's 128, and as much again when they are parsed. Prompts of 16,000 tokens are about as large. */
export const LARGE_BODIES = { perSecond: 20, burst: 16, atOnce: 8 };
/** Tenants, or keys, that a gate remembers, each about 200 bytes. */
export const GATE_ENTRIES = 10_000;
/**
 * A request under way that has not said that it ended does not count any more: the platform ends what a client leaves
 * behind 30 s later without a word, and a check of an adapter takes up to 60.
 */
export const GATE_PLACE_MS = 60 * SECOND;
/** When one who has everything under way that it may have should ask again: admin requests take 10 ms to a second. */
export const GATE_AT_ONCE_RETRY_MS = 1 * SECOND;

export const MAX_LISTED_MODELS = 1_000;
export const ADMIN_PAGE = 1_000;
/** The same file may be published under any number of names. */
export const MAX_VERSIONS_OF_FILE = 100;
/** Reads of one answer of `GET /v1/models`; a list goes on where they found less than a page. */
export const MAX_LIST_READS = 3;
/**
 * Tenants whose granted rooms overlap, and whose names lists and suggestions show there; each takes a statement of each
 * read. What more of them have granted can be used by its name.
 */
export const MAX_OVERLAPPING_GIVERS = 3;
/** Names compared with a missing one: so many of each place where one may lie. And names told. */
export const SUGGESTION_CANDIDATES = 64;
export const MAX_SUGGESTIONS = 3;
/** Missing names of one key that are answered with suggestions, each second and isolate: people mistype no faster. */
export const SUGGESTIONS_PER_SECOND = 2;
/** Keys of that count; each is 60 bytes, and is forgotten with its second. */
export const MAX_SUGGESTED_KEYS = 10_000;
/** Scopes of one key: what it opens is decided by going through them. */
export const MAX_SCOPES = 24;

/** Longest lifetime that a key can be given, ms: ten years. Longer ones are better without an end. */
export const MAX_KEY_LIFE_MS = 3_653 * 86_400 * SECOND;
/** Longest time that a replaced key stays good, ms. */
export const MAX_KEY_GRACE_MS = 90 * 86_400 * SECOND;
/** Shortest time that an admin key stays good which a tenant's key replaces, ms: its owner can still revoke both. */
export const MIN_SELF_GRACE_MS = 3_600 * SECOND;
/** Keys that one request ends in KV; each is a call of a Durable Object, of which a request has 1,000. */
export const REVOKED_PAGE = 200;
/** Keys told that a revoked one has made: all of them can be revoked unseen. */
export const MAX_MADE_LISTED = 100;

/** A request's place among those of its key that are under way is held this long without a sign of life. */
export const LEASE_MS = 60 * SECOND;
/** … and that sign is given so often: three can be lost. */
export const LEASE_RENEW_MS = 15 * SECOND;
/** So often a stream is looked at, whether anything moves in it (protocol's STREAM_STALL_MS). */
export const STREAM_STALL_CHECK_MS = 2_500;
/** A lease that ended by itself is still known for this long, so that tokens that are told late are counted, once. */
export const LEASE_KEPT_MS = REQUEST_BUDGET_MS;
/**
 * Between the two questions to an origin what a request used whose client left it. With their waits they fit the 30 s
 * that work after a response has.
 */
export const USAGE_QUESTION_PAUSE_MS = 1 * SECOND;
/** Context of a base that no origin has told us of; counted for a left request that nobody knows anything of. */
export const UNKNOWN_CONTEXT_TOKENS = 8_192;
/** A counter that does not say in this time whether a request may pass is taken to be out of order. */
export const QUOTA_TIMEOUT_MS = 2 * SECOND;
/** A key that was told it used too much is told so again for this long without asking its counter. */
export const REFUSAL_MEMORY_MS = 1 * SECOND;
/** A key whose counter is damaged need not ask again soon: its operator has to reset it. */
export const DAMAGED_QUOTA_RETRY_MS = 60 * SECOND;
/** Pages of a tenant's keys that one run of the schedule writes after a change: each key is a write and a read of 1,000. */
export const TENANT_LIMIT_PAGES = 8;
/** Usage is written this long after it was first noted, with all that came meanwhile. */
export const USAGE_FLUSH_MS = 2 * SECOND;
/** Rows of one write of usage: each is about 150 bytes. */
export const MAX_USAGE_ROWS = 500;
/** A batch of usage is tried so often, with a growing pause. */
export const USAGE_TRIES = 4;
/** Rows that wait for a database that does not answer; then the oldest are given up, and said so. */
export const MAX_UNSENT_USAGE_ROWS = 5_000;
/** Batches are known for this long; none is sent again later. */
export const USAGE_BATCH_MEMORY_MS = 86_400 * SECOND;
/** Rows of one answer of `GET /admin/usage`. */
export const MAX_USAGE_SUMS = 10_000;
/** How long an origin may take to load a pinned chain, which it has to read from its disk; and to be brought it. */
export const PIN_TIMEOUT_MS = 60 * SECOND;

/** Files dropped into KV that are taken in at most in one pass of the schedule: each is a trial at an origin. */
export const DROPS_PER_PASS = 20;
/** … and looked at: each is read whole, and an invocation may ask KV 1,000 times. */
export const DROP_READS_PER_PASS = 200;
/** Seconds that a dropped file read from KV may be old; 30 is the least that KV accepts. */
export const DROP_CACHE_TTL_S = 30;
/** A dropped file that has not arrived by then is left for later: 25 MiB out of cold storage. */
export const DROP_TIMEOUT_MS = 30 * SECOND;
/**
 * A dropped file is removed when it is seen unchanged this long after it was decided on: by then no read comes from
 * the cache of the first one (30 s), and a file put there meanwhile is not lost.
 */
export const DROP_SETTLE_MS = 45 * SECOND;
/** So long after its removal another location may still show a dropped file: KV's delay and cache, twice. */
export const DROP_STALE_MS = 180 * SECOND;
/**
 * Where requests by a name found no file, or none that could be taken, they do not look again for this long, only the
 * schedule does: as long as KV remembers an absence.
 */
export const DROP_QUIET_MS = 30 * SECOND;
/** Names of that memory. */
export const MAX_QUIET_DROPS = 10_000;
/** Pause while another request of this isolate takes the same file. */
export const DROP_POLL_MS = 50;
/** An intake that has not ended after this long is taken to be dead. */
export const DROP_STALL_MS = 60 * SECOND;

/** What experiments count is written this long after it was first noted, with all that came meanwhile. */
export const EXPOSURE_FLUSH_MS = 1 * SECOND;
/** Events of one write to a tally: each is at most seven values, about 300 bytes. */
export const MAX_EXPOSURE_EVENTS = 500;
/** Such a write is tried so often, with a growing pause. */
export const EXPOSURE_TRIES = 4;
/** Events that wait for tallies that do not answer; then the oldest are given up, and said so. */
export const MAX_UNSENT_EXPOSURES = 5_000;
/** A tally that does not answer in this time is taken to be out of order; a full batch takes some 20 ms there. */
export const TALLY_TIMEOUT_MS = 5 * SECOND;
/** Batches are known for this long; none is sent again later. */
export const TALLY_BATCH_MEMORY_MS = 86_400 * SECOND;
/** A tally looks this often for what it may forget. */
export const TALLY_CLEAN_MS = 6 * 3_600 * SECOND;
/** A tally that nobody has written to for this long is emptied; evaluations are kept elsewhere. */
export const TALLY_KEPT_MS = 180 * 86_400 * SECOND;
/** Body of `POST /v1/feedback`, bytes: a token of at most 4 kB and three short fields. */
export const MAX_FEEDBACK_BODY_BYTES = 16 * 1024;
/** Largest size of a reported value: squares are summed in doubles, which have 16 digits. */
export const MAX_FEEDBACK_VALUE = 1e9;
/** Shadow requests of one isolate at the same time; they are the first to be left out. */
export const MAX_SHADOWS = 4;
/** A shadow request may take this long: work after a response has 30 s. */
export const SHADOW_BUDGET_MS = 25 * SECOND;
/**
 * A shadow's answer and the user's are compared up to this size each: 4,500 events of a stream. Both are kept until
 * they have ended, of at most {@link MAX_SHADOWS} requests.
 */
export const MAX_COMPARED_BYTES = 1024 * 1024;
/** Share of its rows that an origin may have taken before shadow requests are left out. */
export const SHADOW_MAX_FILL = 0.5;

/** Body of an experiment's document, bytes: lists of 200 testers and as many values of a header have room. */
export const MAX_EXPERIMENT_BODY_BYTES = 256 * 1024;
/**
 * Live experiments that one run of the schedule evaluates: each asks its eight tallies and at most five times D1 and the
 * pointer writer, and an invocation may make 1,000 such calls, of which the other jobs need theirs. With more of them
 * each is looked at every second run, every third …
 */
export const EXPERIMENTS_PER_RUN = 50;
/** Changes that KV was not told of, in one run; each is a call of the pointer writer and one of D1. */
export const UNTOLD_EXPERIMENTS_PER_RUN = 50;
/** Experiments of one answer of `GET /admin/experiments`, unless it is asked for fewer. */
export const EXPERIMENTS_SHOWN = 50;
export const MAX_EXPERIMENTS_SHOWN = 200;
/** Looks that are kept of one seed: a curve needs no more points, and each is a kilobyte or some. */
export const LOOKS_KEPT = 300;
