/** Numbers of judged pairs, with unit and reason. */

const SECOND = 1_000;
const DAY = 86_400 * SECOND;

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
