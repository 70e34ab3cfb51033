/** Limits of experiments and judged pairs, with unit and reason. */

const SECOND = 1_000;
const DAY = 86_400 * SECOND;

/** Counts are written this long after the first of a batch. */
export const EXPOSURE_FLUSH_MS = 1 * SECOND;
/** Events per write to a tally: each is at most seven values, about 300 bytes. */
export const MAX_EXPOSURE_EVENTS = 500;
/** Attempts of such a write, with growing pauses. */
export const EXPOSURE_TRIES = 4;
/** Events that wait for tallies that do not answer; beyond that the oldest are dropped, with a log line. */
export const MAX_UNSENT_EXPOSURES = 5_000;
/** A tally without an answer in this time counts as failed; a full batch takes about 20 ms there. */
export const TALLY_TIMEOUT_MS = 5 * SECOND;
/** Batches are remembered for this long; none is sent again later. */
export const TALLY_BATCH_MEMORY_MS = 86_400 * SECOND;
/** How often a tally looks for expired data. */
export const TALLY_CLEAN_MS = 6 * 3_600 * SECOND;
/** A tally without writes for this long is emptied; evaluations are stored elsewhere. */
export const TALLY_KEPT_MS = 180 * 86_400 * SECOND;
/** Segments of one seed that a tally distinguishes, the first ones; the others are counted together. */
export const MAX_SEGMENTS_HELD = 40;
/** Segments in a look, those with the most units: more make no readable table. */
export const MAX_SHOWN_SEGMENTS = 20;
/** Characters of a segment's text; the rest is cut off. */
export const MAX_SEGMENT_CHARACTERS = 64;
/** Body of `POST /v1/feedback`, bytes: a token of at most 4 kB and three short fields. */
export const MAX_FEEDBACK_BODY_BYTES = 16 * 1024;
/** Largest size of a reported value: squares are summed in doubles, which have 16 digits. */
export const MAX_FEEDBACK_VALUE = 1e9;
/** Parallel shadow requests of one isolate; they are the first to be dropped. */
export const MAX_SHADOWS = 4;
/** Time limit of a shadow request: work after a response has 30 s. */
export const SHADOW_BUDGET_MS = 25 * SECOND;
/**
 * Size up to which a shadow's answer and the user's are compared: 4,500 events of a stream. Both are kept until
 * they have ended, for at most {@link MAX_SHADOWS} requests.
 */
export const MAX_COMPARED_BYTES = 1024 * 1024;

/**
 * Live experiments that one run of the schedule evaluates: each asks its eight tallies and at most five times D1 and the
 * pointer writer, and an invocation may make 1,000 such calls, of which the other jobs need theirs. With more of them
 * each is looked at every second run, every third …
 */
export const EXPERIMENTS_PER_RUN = 50;
/** Ended experiments that one run evaluates for the last time. */
export const LAST_LOOKS_PER_RUN = 10;
/** Interrupted updates of KV that one run completes; each is a call of the pointer writer and one of D1. */
export const UNTOLD_EXPERIMENTS_PER_RUN = 50;
/** Looks kept of one seed: a curve needs no more points, and each is about a kilobyte. */
export const LOOKS_KEPT = 300;

/** Feedback on an answer is accepted for this long: seven days. Used feedback is remembered as long. */
export const EXPOSURE_LIFE_MS = 7 * 86_400 * SECOND;
/** Maximum clock difference of two isolates; a token from further ahead was not made here. */
export const EXPOSURE_SKEW_MS = 60 * SECOND;
/** Characters of a token: its longest fields take less than half. */
export const MAX_EXPOSURE_CHARACTERS = 4_096;

/** Messages per run of the schedule; each is a call out and one of D1. */
export const WEBHOOKS_PER_RUN = 20;
/** Time limit of a receiver; the schedule has other jobs. */
export const WEBHOOK_TIMEOUT_MS = 10 * SECOND;
/** Attempts of a message: with pauses that double from the first, for 17 hours. */
export const WEBHOOK_TRIES = 11;
export const WEBHOOK_FIRST_PAUSE_MS = 60 * SECOND;
/** Messages are remembered for this long, so that none is sent twice: longer than most experiments run. */
export const WEBHOOK_KEPT_MS = 180 * 86_400 * SECOND;

/** Time limit of the application's answer: it is called after the user's answer, when work has 30 s. */
export const CALL_TIMEOUT_MS = 10 * SECOND;
/** Of the application's answer, which is `{"choice": "a"}`; bytes. */
export const MAX_CALL_ANSWER_BYTES = 4 * 1024;
/**
 * Pairs of one user that an experiment counts under one seed: a single busy user must not decide the win rate.
 */
export const MAX_PAIRS_OF_USER = 5;
/** Of prompt and answers together, characters: four times what a base of 8,192 tokens has room for. */
export const MAX_PAIR_CHARACTERS = 128 * 1024;
/** Room for `tie` in any tokenizer. */
export const CHOICE_TOKENS = 8;
/** Of each text of a pair that is kept, characters: 200 pairs are some megabytes at most. */
export const MAX_KEPT_CHARACTERS = 8 * 1024;
/** A kept pair is deleted after this time. */
export const PAIR_KEPT_MS = 30 * DAY;
/** How often the object looks for expired data. */
export const PAIR_CLEAN_MS = DAY / 4;
/** Tallies without writes for this long are deleted; evaluations are stored elsewhere. */
export const PAIR_TALLY_KEPT_MS = 180 * DAY;
/** Decided pairs at which the interval is narrowest: a 60 % win rate is detected after about 220. */
export const PAIR_TUNING = 500;
/** Probability that pairs show a difference where there is none. */
export const PAIR_ALPHA = 0.05;
