/** Limits of pages that publish, with unit and reason. */

const SECOND = 1_000;
const MiB = 1024 * 1024;

/** Two names of 256 characters and an origin, as JSON. */
export const MAX_PUBLISH_TOKEN_BODY_BYTES = 4_096;
/** A publish token of the longest names and origin has 1,400: payload and MAC in base64. */
export const MAX_PUBLISH_TOKEN_CHARACTERS = 2_048;
/** Body that publishes: a training card of 16 KiB and the hashes of 42 parts. */
export const MAX_PUBLICATION_BODY_BYTES = 32_768;
/** How often the largest file may be sent with one token, so that a page on a bad line can repeat parts. */
export const MAX_PAGE_SENDS = 3;
/** A part counts as this much at least: each is a write to KV and four to D1. */
export const LEAST_PART_BYTES = 1 * MiB;
/** Attempts to publish one file with one token. Each reads the file, and may have an origin try it. */
export const MAX_PAGE_TRIES = 10;
/** Longest time for a part of a page: 35 kB/s for the largest. */
export const PAGE_PART_DEADLINE_MS = 120 * SECOND;
/** Expired uploads that one run of the schedule forgets. */
export const FORGOTTEN_UPLOADS = 1_000;
