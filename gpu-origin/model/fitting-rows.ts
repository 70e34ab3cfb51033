/** How many rows run at once where nobody says, and how many tokens they may hold together: as there is memory. Pure. */

/**
 * Where rows take memory as they are written. 64 rows of SmolLM2-135M decode 1.5 times as many tokens a second as 16 on
 * two cores, 48 as many as 64; fewer than 4 leave cores idle.
 */
export const FITTING_ROWS = { least: 4, most: 64 } as const;
/** Where all of their memory is taken at the start, so that more of them leave each a shorter context. */
export const FIXED_ROWS = 16;
/**
 * A row is reckoned with so many tokens, or with its context where that is less: most are shorter, and the few that are
 * longer wait until those that run leave them the room.
 */
const TOKENS_A_ROW = 2_048;
/** Of what all else leaves; the rest is for what slots without a row keep, a quarter of this at most, and for the system. */
const ROWS_SHARE = 0.75;

export interface FittingRows {
  slots: number;
  /** Of all rows together, those that are set aside too. */
  tokens: number;
}

/**
 * @param given.available bytes that there are. @param given.taken bytes of them for all else: base, adapters, prompts that
 * are kept. @param given.tokenBytes keys and values of one token. @param given.context tokens that a row may have.
 * @param given.slots rows that were asked for. @param given.mostRows that keys and values can be allocated for, as many
 * set aside as run.
 */
export function fittingRows(given: {
  available: number;
  taken: number;
  tokenBytes: number;
  context: number;
  slots?: number | undefined;
  mostRows: number;
}): FittingRows {
  const { available, taken, tokenBytes, context, mostRows } = given;
  const aRow = Math.min(context, TOKENS_A_ROW);
  const room = Math.max(0, Math.floor(((available - taken) * ROWS_SHARE) / tokenBytes));
  const { least, most } = FITTING_ROWS;
  return {
    slots: given.slots ?? Math.max(least, Math.min(most, Math.floor(room / aRow), mostRows >> 1)),
    tokens: Math.max(room, least * aRow),
  };
}
