/** Limits of downloads by browsers. */

/** 16 names of 256 characters and an origin, as JSON. */
export const MAX_TOKEN_BODY_BYTES = 8_192;
/** A token of the longest names and origin has 6,058: payload and MAC in base64. */
export const MAX_TOKEN_CHARACTERS = 6_144;
