/** Numbers of experiments and judged pairs, with unit and reason. */

const SECOND = 1_000;
const DAY = 86_400 * SECOND;

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
/** Segments of one seed that a tally tells apart, those that came first; the others are counted together. */
export const MAX_SEGMENTS_HELD = 40;
/** Segments that a look shows, those with the most units: more are no table to read. */
export const MAX_SHOWN_SEGMENTS = 20;
/** Of a segment's text; the rest is cut off. */
export const MAX_SEGMENT_CHARACTERS = 64;
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

/**
 * Live experiments that one run of the schedule evaluates: each asks its eight tallies and at most five times D1 and the
 * pointer writer, and an invocation may make 1,000 such calls, of which the other jobs need theirs. With more of them
 * each is looked at every second run, every third …
 */
export const EXPERIMENTS_PER_RUN = 50;
/** Experiments that have ended and are looked at for the last time, in one run. */
export const LAST_LOOKS_PER_RUN = 10;
/** Changes that KV was not told of, in one run; each is a call of the pointer writer and one of D1. */
export const UNTOLD_EXPERIMENTS_PER_RUN = 50;
/** Looks that are kept of one seed: a curve needs no more points, and each is a kilobyte or some. */
export const LOOKS_KEPT = 300;

/** Feedback on an answer is taken for this long: seven days. What has been used is remembered as long. */
export const EXPOSURE_LIFE_MS = 7 * 86_400 * SECOND;
/** Clocks of two isolates differ by no more; a token from further ahead was not made by us. */
export const EXPOSURE_SKEW_MS = 60 * SECOND;

/** Messages of one run of the schedule; each is a call out and one of D1. */
export const WEBHOOKS_PER_RUN = 20;
/** Whoever receives answers within this time; the schedule has other jobs. */
export const WEBHOOK_TIMEOUT_MS = 10 * SECOND;
/** A message is tried so often: with pauses that double from the first, for 17 hours. */
export const WEBHOOK_TRIES = 11;
export const WEBHOOK_FIRST_PAUSE_MS = 60 * SECOND;
/** Messages are known for this long, so that none is told twice: longer than experiments mostly run. */
export const WEBHOOK_KEPT_MS = 180 * 86_400 * SECOND;

/** The application's answer may take this long: it is asked behind the user's answer, after which work has 30 s. */
export const CALL_TIMEOUT_MS = 10 * SECOND;
/** Of the application's answer, which is `{"choice": "a"}`; bytes. */
export const MAX_CALL_ANSWER_BYTES = 4 * 1024;
/** Pairs of one user that an experiment counts under one seed: nobody who asks all day is to decide the win rate. */
export const MAX_PAIRS_OF_USER = 5;
/** Of prompt and answers together, characters: four times what a base of 8,192 tokens has room for. */
export const MAX_PAIR_CHARACTERS = 128 * 1024;
/** Room for `tie` in any tokenizer. */
export const CHOICE_TOKENS = 8;
/** Of each text of a pair that is kept, characters: 200 pairs are some megabytes at most. */
export const MAX_KEPT_CHARACTERS = 8 * 1024;
/** A pair that is kept is deleted after this time. */
export const PAIR_KEPT_MS = 30 * DAY;
/** The object looks this often for what is too old. */
export const PAIR_CLEAN_MS = DAY / 4;
/** Tallies that nobody has written to for this long are deleted; evaluations are kept elsewhere. */
export const PAIR_TALLY_KEPT_MS = 180 * DAY;
/** Pairs, decided ones, at which the interval is narrowest: 60 % of wins are called after some 220. */
export const PAIR_TUNING = 500;
/** Pairs are called better or worse where there is no difference with at most this probability. */
export const PAIR_ALPHA = 0.05;
