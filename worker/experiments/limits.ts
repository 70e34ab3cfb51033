/** Numbers of what experiments hand to clients. */

const SECOND = 1_000;

/** Feedback on an answer is taken for this long: seven days. What has been used is remembered as long. */
export const EXPOSURE_LIFE_MS = 7 * 86_400 * SECOND;
/** Clocks of two isolates differ by no more; a token from further ahead was not made by us. */
export const EXPOSURE_SKEW_MS = 60 * SECOND;
/** Characters of a token: its longest fields take less than half. */
export const MAX_EXPOSURE_CHARACTERS = 4_096;
