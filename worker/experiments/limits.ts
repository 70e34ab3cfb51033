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
/** Counts of an experiment that nobody wrote to for this long are deleted. Evaluations stay. */
export const TALLY_KEPT_MS = 180 * 86_400 * SECOND;
/** Segments counted apart, the first ones seen. The others are counted together. */
export const MAX_SEGMENTS_HELD = 40;
/** Segments shown, those with most units. */
// A longer table is not readable.
export const MAX_SHOWN_SEGMENTS = 20;
/** Characters of a segment’s value; the rest is cut off. */
export const MAX_SEGMENT_CHARACTERS = 64;
/** Body of `POST /v1/feedback`. */
export const MAX_FEEDBACK_BODY_BYTES = 16 * 1024;
/** Largest reported value, positive or negative. Squares are summed as doubles, which have 16 digits. */
export const MAX_FEEDBACK_VALUE = 1e9;
/** Shadow requests of one isolate at once. They are the first to be skipped. */
export const MAX_SHADOWS = 4;
/** Longest time of a shadow request. Cloudflare allows 30 s after the response. */
export const SHADOW_BUDGET_MS = 25 * SECOND;
/** Length up to which a shadow’s answer is compared: 4,500 events of a stream. */
export const MAX_COMPARED_BYTES = 1024 * 1024;

/**
 * Live experiments that the scheduler evaluates in one run. With more, each is evaluated every second run, every
 * third, and so on. Cloudflare allows 1,000 calls a run.
 */
// Each asks its eight tallies and at most five times D1 and the pointer writer; other jobs need calls too.
export const EXPERIMENTS_PER_RUN = 50;
/** Ended experiments that one run evaluates for the last time. */
export const LAST_LOOKS_PER_RUN = 10;
/** Interrupted updates of KV that one run completes; each is a call of the pointer writer and one of D1. */
export const UNTOLD_EXPERIMENTS_PER_RUN = 50;
/** Past evaluations kept of an experiment. */
export const LOOKS_KEPT = 300;

/** How long feedback on an answer is accepted. */
// Used ids are remembered as long.
export const EXPOSURE_LIFE_MS = 7 * 86_400 * SECOND;
/** Maximum clock difference of two isolates; a token from further ahead was not made here. */
export const EXPOSURE_SKEW_MS = 60 * SECOND;

/** Time for a judge’s URL to answer. It is asked after the user’s answer, when Cloudflare allows 30 s. */
export const CALL_TIMEOUT_MS = 10 * SECOND;
/** A judge’s answer, which is `{"choice": "a"}`. */
export const MAX_CALL_ANSWER_BYTES = 4 * 1024;
/** Judged pairs counted for one user, so that nobody decides the win rate alone. */
export const MAX_PAIRS_OF_USER = 5;
/** Prompt and answers of a judged pair, together. */
// Four times what a base of 8,192 tokens has room for.
export const MAX_PAIR_CHARACTERS = 128 * 1024;
/** Room for `tie` in any tokenizer. */
export const CHOICE_TOKENS = 8;
/** Each text of a kept pair. */
export const MAX_KEPT_CHARACTERS = 8 * 1024;
/** How long kept pairs stay. */
export const PAIR_KEPT_MS = 30 * DAY;
/** How often the object looks for expired data. */
export const PAIR_CLEAN_MS = DAY / 4;
/** Tallies without writes for this long are deleted; evaluations are stored elsewhere. */
export const PAIR_TALLY_KEPT_MS = 180 * DAY;
/** Decided pairs at which the interval is narrowest: a 60 % win rate is detected after about 220. */
export const PAIR_TUNING = 500;
/** Probability that pairs show a difference where there is none. */
export const PAIR_ALPHA = 0.05;
