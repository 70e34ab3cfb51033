/** Limits of files of rows, with unit and reason. What edge and origin agree on is in protocol/training-jobs.ts. */
import { MAX_ROWS_FILE_BYTES, ROWS_PART_BYTES } from '../../protocol/training-jobs.ts';

const SECOND = 1_000;

/** Bytes of one tenant's files together: two days of the largest jobs, one after the other. */
export const MAX_TENANT_ROWS_BYTES = 1024 ** 3;
/** Files of one tenant, so that one page lists them all. */
export const MAX_TENANT_FILES = 1_000;
/** A form is this much longer than its file: its boundary, its heads, and three short fields. */
export const FORM_OVERHEAD_BYTES = 16 * 1024;
/** Longest body of an upload. */
export const MAX_FORM_BYTES = MAX_ROWS_FILE_BYTES + FORM_OVERHEAD_BYTES;
/** A form has four fields; more are not ours. */
export const MAX_FORM_PARTS = 8;
/** Of one part of a form: its disposition and type, with a long file name. */
export const MAX_FORM_HEAD_BYTES = 4 * 1024;
/** Of a field beside the file. */
export const MAX_FORM_FIELD_BYTES = 256;
/** Longer names of files are cut. */
export const MAX_FILENAME_CHARACTERS = 128;
/** Memory of an upload: a part, encrypted, and both together as they are stored. */
export const UPLOAD_HELD_BYTES = 3 * ROWS_PART_BYTES;
/** Longest time of an upload: 55 kB/s for the largest. */
export const UPLOAD_DEADLINE_MS = 600 * SECOND;
/** An upload without progress for this long was cut off; what it has stored is deleted. */
export const UPLOAD_DEAD_MS = 3_600 * SECOND;
/**
 * What a deletion has left, because its request ended or the store did not answer, is deleted after this time: until then
 * an upload under way may have stored one more part.
 */
export const DELETION_RETRY_MS = 60 * SECOND;
/** Files that one run of the schedule deletes: each is up to eight values of the store. */
export const FILES_PER_RUN = 20;
/** KV reads no fresher; longer would keep what was deleted. */
export const ROWS_CACHE_TTL_S = 30;
/** Until a part starts to arrive: it may be in cold storage. */
export const ROWS_TIMEOUT_MS = 10 * SECOND;
