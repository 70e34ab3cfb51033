/** Ids that are ordered by time, so that a list can go on after one that was deleted meanwhile; and pages of lists. */

const DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz';
/** Of the time in ms: good until the year 5188. */
const TIME_DIGITS = 9;
/** 77 bits. */
const RANDOM_DIGITS = 15;
/** Bytes from here on would make the first digits likelier. */
const FAIR = 256 - (256 % DIGITS.length);

function randomDigits(): string {
  let text = '';
  while (text.length < RANDOM_DIGITS)
    for (const byte of crypto.getRandomValues(new Uint8Array(2 * RANDOM_DIGITS)))
      if (byte < FAIR) text += DIGITS.charAt(byte % DIGITS.length);
  return text.slice(0, RANDOM_DIGITS);
}

/** @param now unix ms. @returns such as `file-0mhy…`, with 24 digits. */
export const newId = (prefix: 'file' | 'ftjob', now: number): string =>
  `${prefix}-${now.toString(DIGITS.length).padStart(TIME_DIGITS, '0')}${randomDigits()}`;

/** @param found one more than the page has, if there are more. */
export function pageOf<Item extends { id: string }>(found: readonly Item[], most: number) {
  const data = found.slice(0, most);
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: found.length > most,
  };
}
