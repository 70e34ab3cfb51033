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

/** Jobs of one tenant that have not ended; the others' turns come sooner. */
export const MAX_OPEN_JOBS = 4;
/** A job that has ended, and its events, are kept for this long. */
export const JOB_KEPT_MS = 30 * 24 * 3_600 * SECOND;
/** Jobs of one tenant that have ended; the oldest beyond are deleted. */
export const MAX_ENDED_JOBS = 1_000;
/** Newest events of a job; older ones are deleted. */
export const MAX_KEPT_EVENTS = 5_000;
/** A client that asks about its job has the origin asked when it was last asked longer ago than this. */
export const JOB_FRESH_MS = 5 * SECOND;
/** … and waits for the origin's answer for this long. */
export const JOB_WAIT_MS = 2 * SECOND;
/** Whoever attends to a job has it to itself for this long; the job of an edge that was ended waits no longer. */
export const JOB_LEASE_MS = 20 * SECOND;
/** … and asks for more in these intervals: sending rows, or fetching and trying a result, takes minutes. */
export const JOB_LEASE_RENEW_MS = 5 * SECOND;
/** Jobs that one run of the schedule attends to, the longest unattended first; each is some calls of its origin. */
export const JOBS_PER_RUN = 10;
/** Ended jobs whose usage is counted at once: two calls each. */
export const COUNTED_JOBS = 50;
/** Jobs that one run deletes at their origins, and rows of ended jobs that it deletes. */
export const JOB_DELETIONS_PER_RUN = 20;
/** An origin that does not answer is asked for a deletion again after this time. */
export const JOB_DELETION_RETRY_MS = 60 * SECOND;
/** A job that an origin has no room for waits this long until it is offered again. */
export const JOB_RETRY_MS = 30 * SECOND;
/** An origin that is silent for longer has lost its job, which begins again elsewhere. */
export const ORIGIN_LOST_MS = 30 * 60 * SECOND;
/** A result that cannot be published, because a store or every origin is away, is given up after this time. */
export const RESULT_LOST_MS = 12 * 3_600 * SECOND;
/** A checkpoint that cannot be published for so long is given up, so that the result need not wait for it. */
export const CHECKPOINT_LOST_MS = 600 * SECOND;
/** Parts of a result, unless it would have too many. */
export const RESULT_PART_BYTES = 8 * 1024 ** 2;
/** Body of a request for a job: metadata of sixteen pairs, and short fields. */
export const MAX_JOB_BODY_BYTES = 64 * 1024;
/** Rotations of a key that a job outlives. */
export const MAX_ROTATIONS = 16;
