/** Limits of the admin API. */

const DAY_MS = 86_400_000;

/** Body of an admin request, bytes. */
export const MAX_ADMIN_BODY_BYTES = 64 * 1024;
/** Body of an experiment's document, bytes: lists of 200 testers and as many values of a header have room. */
export const MAX_EXPERIMENT_BODY_BYTES = 256 * 1024;
/** Body of `POST /admin/versions/plan`, bytes: some 8,000 modules of 120 bytes. */
export const MAX_PLAN_BODY_BYTES = 1024 * 1024;
/** Body of `POST /admin/evaluate`, bytes: 64 rows of 8 kB. */
export const MAX_EVALUATION_BODY_BYTES = 512 * 1024;

/** Scopes of one key: what it opens is decided by going through them. */
export const MAX_SCOPES = 24;
/** Longest lifetime that a key can be given, ms: ten years. Longer ones are better without an end. */
export const MAX_KEY_LIFE_MS = 3_653 * DAY_MS;
/** Longest time that a replaced key stays good, ms. */
export const MAX_KEY_GRACE_MS = 90 * DAY_MS;
/** … and how long it does unless said. */
export const DEFAULT_KEY_GRACE_MS = DAY_MS;

/** Changes of one answer of `GET /admin/history`, at most. */
export const MAX_HISTORY_PAGE = 1_000;
/** Experiments of one answer of `GET /admin/experiments`, unless it is asked for fewer, or more. */
export const EXPERIMENTS_SHOWN = 50;
export const MAX_EXPERIMENTS_SHOWN = 200;
