/** Limits of rows made from decisions, with unit and reason. */

/** Newest preferences kept of one tenant: as many as its kept prompts. */
export const MAX_PREFERENCES = 1_000;
/** Characters of all rows of one answer: what a page and a worker hold without trouble. */
export const MAX_ROWS_CHARACTERS = 8 * 1024 * 1024;
/** Prompts that are read from D1 at once, each at most 130 kB. */
export const READ_AT_ONCE = 50;
/** Preferences that one run of the schedule deletes. */
export const PRUNED_PREFERENCES = 1_000;
/** Experiments of the name whose kept pairs are read, the newest ones. */
export const EXPERIMENTS_READ = 20;
/** Body of `POST /v1/preferences`, bytes. */
export const MAX_PREFERENCE_BODY_BYTES = 4 * 1024;
