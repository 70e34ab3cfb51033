/** Limits of kept evaluations, with unit and reason. Those of one request are in protocol/admin-api/evaluations.ts. */

/** Rows of one tenant's kept evaluations together, as JSON. D1 holds 10 GB for all tenants. */
export const MAX_TENANT_EVALUATION_BYTES = 64 * 1024 * 1024;
/** Encrypted rows in one statement, bytes: D1 takes values of up to 2 MB. */
export const INSERTED_BYTES = 1_000_000;
/** Rows of D1 that one run of the schedule encrypts with the new secret during a rotation; each is read and written. */
export const RESEALED_PER_RUN = 20;
/** A score of a file that did not become a version of the name is forgotten after this time. */
export const UNPUBLISHED_SCORE_MS = 24 * 3_600_000;
/** Differently answered rows that an answer names. */
export const MISSED_SHOWN = 20;
